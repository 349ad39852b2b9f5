//! Levels of authentication: 1 is who the person says to be, 2 is a one-time code (RFC 6238).

use aws_lc_rs::hmac;
use serde_json::Value;

use super::{
    Session,
    oidc::Parameters,
    realm::{Realm, UserRecord},
};

/// The level that asks for a one-time code.
pub(super) const ONE_TIME_CODE: u8 = 2;
/// For how long a code is shown, in seconds, and how many codes before and after the current one are taken, too.
const PERIOD: i64 = 30;
const WINDOW: i64 = 1;

/// What is asked of the person beyond being somebody.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// The level, 0 where none is named.
    pub(super) level: u8,
    /// How long ago the person may have proved who they are, in seconds.
    pub(super) max_age: Option<i64>,
}

/// A level was asked for that the realm can't bring anybody to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownLevel;

impl Asked {
    /// Reads `claims` (OpenID Connect Core 1.0, section 5.5), or else `acr_values`, and `max_age`.
    pub(super) fn read(parameters: &Parameters, realm: &Realm) -> Result<Self, UnknownLevel> {
        let claims: Option<Value> = parameters.get("claims").and_then(|text| serde_json::from_str(text).ok());
        let acr = claims.as_ref().and_then(|claims| claims.pointer("/id_token/acr"));
        let mut names: Vec<&str> = Vec::new();
        if let Some(acr) = acr {
            names.extend(acr.get("value").and_then(Value::as_str));
            names.extend(
                acr.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str),
            );
        }
        if names.is_empty() {
            names.extend(parameters.get("acr_values").unwrap_or_default().split_whitespace());
        }
        let wanted = names.iter().filter_map(|name| realm.level_of(name)).min();
        let level = wanted.unwrap_or(0);
        if level > ONE_TIME_CODE {
            return Err(UnknownLevel);
        }
        let max_age = parameters.get("max_age").and_then(|age| age.parse().ok());
        Ok(Self { level, max_age })
    }
}

impl Session {
    /// The highest level that was reached and has not lapsed.
    pub(super) fn level(&self, now: i64, realm: &Realm) -> u8 {
        let reached = self.levels.iter().filter(|(level, at)| now <= **at + realm.level_max_age(**level));
        reached.map(|(level, _)| *level).max().unwrap_or(0)
    }

    /// Whether the person has to prove again who they are.
    pub(super) fn is_too_old(&self, max_age: Option<i64>, now: i64) -> bool {
        max_age.is_some_and(|age| self.authenticated + age < now)
    }
}

impl UserRecord {
    /// Takes a code, once.
    pub(super) fn takes_code(&mut self, secret: &str, code: &str, now: i64) -> bool {
        let current = now / PERIOD;
        let step = (current - WINDOW..=current + WINDOW)
            .find(|step| *step > self.last_otp_step && self::code(secret, *step) == code.trim());
        if let Some(step) = step {
            self.last_otp_step = step;
        }
        step.is_some()
    }

    /// The code to show: the current one, or the next where that one is used up.
    pub(super) fn next_code(&self, secret: &str, now: i64) -> String {
        let current = now / PERIOD;
        code(secret, (self.last_otp_step + 1).clamp(current, current + WINDOW))
    }
}

/// The code of one step: HMAC-SHA-1, six digits (RFC 4226, section 5.3).
fn code(secret: &str, step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let offset = usize::from(bytes.last().copied().unwrap_or_default() & 0x0f);
    let number = bytes[offset..].iter().take(4).fold(0u32, |number, byte| (number << 8) | u32::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, the last six digits.
        for (time, expected) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(code("12345678901234567890", time / PERIOD), expected);
        }
    }
}
