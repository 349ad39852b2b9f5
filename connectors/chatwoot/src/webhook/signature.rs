use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// `sha256=` and the lower-case hex of the MAC.
pub const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("x-chatwoot-signature");
/// Unix seconds of the attempt; part of what is signed.
pub const TIMESTAMP_HEADER: HeaderName = HeaderName::from_static("x-chatwoot-timestamp");
/// A UUID for each event and destination; not signed.
pub const DELIVERY_HEADER: HeaderName = HeaderName::from_static("x-chatwoot-delivery");

/// How far the signed time may be from ours, either way. Chatwoot recommends five minutes.
pub const WINDOW: TimeDelta = TimeDelta::minutes(5);

/// A delivery that is from Chatwoot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// When Chatwoot sent it.
    pub timestamp: DateTime<Utc>,
    /// The delivery's id, if one was sent. Whoever repeats a delivery can change it.
    pub delivery_id: Option<String>,
}

/// A delivery that is not from Chatwoot, or not from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// We hold no secret to compare with.
    #[error("no secret is known for this webhook")]
    NoSecret,
    /// A header that a signed delivery has is absent, there twice, or not of its form.
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    /// No secret gives this signature.
    #[error("the signature does not match")]
    Signature,
    /// The signature is right and the time is more than [`WINDOW`] from ours: a repetition, or a clock that is off.
    #[error("the signed time is more than five minutes from ours")]
    Window,
}

/// Verifies a delivery: `X-Chatwoot-Signature` is `sha256=` + hex of HMAC-SHA256 over timestamp, `.` and the raw body,
/// keyed with the secret's characters as they are shown (Chatwoot `lib/webhooks/trigger.rb`, since 4.11.2).
///
/// Any of the `secrets` will do, so that one can be replaced without losing deliveries. Compares in constant time.
///
/// # Errors
/// See [`VerifyError`].
pub fn verify(
    secrets: &[SecretString],
    headers: &HeaderMap,
    raw_body: &[u8],
    now: DateTime<Utc>,
) -> Result<Verified, VerifyError> {
    if secrets.iter().all(|secret| secret.expose_secret().is_empty()) {
        return Err(VerifyError::NoSecret);
    }
    let malformed_timestamp = VerifyError::Header("X-Chatwoot-Timestamp");
    let malformed_signature = VerifyError::Header("X-Chatwoot-Signature");

    let timestamp = single(headers, &TIMESTAMP_HEADER).ok_or(malformed_timestamp)?;
    let seconds = timestamp
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| timestamp.parse::<i64>().ok())
        .flatten()
        .ok_or(malformed_timestamp)?;
    let signed_at = DateTime::from_timestamp(seconds, 0).ok_or(malformed_timestamp)?;

    let signature = single(headers, &SIGNATURE_HEADER).ok_or(malformed_signature)?;
    let signature = signature
        .strip_prefix("sha256=")
        .and_then(|hex| hex::decode(hex).ok())
        .filter(|bytes| bytes.len() == 32)
        .ok_or(malformed_signature)?;

    // All secrets are tried, so that the time taken doesn't tell which one matched.
    let mut matched = false;
    for secret in secrets.iter().filter(|secret| !secret.expose_secret().is_empty()) {
        if let Some(mac) = mac(secret, timestamp, raw_body) {
            matched |= mac.verify_slice(&signature).is_ok();
        }
    }
    if !matched {
        return Err(VerifyError::Signature);
    }
    if (now - signed_at).abs() > WINDOW {
        return Err(VerifyError::Window);
    }
    Ok(Verified { timestamp: signed_at, delivery_id: single(headers, &DELIVERY_HEADER).map(str::to_owned) })
}

/// The value that `X-Chatwoot-Signature` has for this body at this time.
pub fn sign(secret: &SecretString, timestamp: DateTime<Utc>, raw_body: &[u8]) -> String {
    let timestamp = timestamp.timestamp().to_string();
    // HMAC takes a key of any length (RFC 2104, section 3), so there is always a MAC.
    mac(secret, &timestamp, raw_body)
        .map(|mac| format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
        .unwrap_or_default()
}

fn mac(secret: &SecretString, timestamp: &str, raw_body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).ok()?;
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(raw_body);
    Some(mac)
}

/// The header's value, where it is there exactly once and is text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Computed with `printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac s3cret`.
    const BODY: &[u8] = br#"{"a":1}"#;

    fn headers(timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TIMESTAMP_HEADER, timestamp.parse().unwrap());
        headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
        headers
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn secret(value: &str) -> SecretString {
        SecretString::from(value.to_owned())
    }

    fn signed() -> HeaderMap {
        headers("1700000000", &sign(&secret("s3cret"), at(1_700_000_000), BODY))
    }

    #[test]
    fn a_signature_is_what_openssl_computes() {
        assert_eq!(
            sign(&secret("s3cret"), at(1_700_000_000), BODY),
            "sha256=1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940"
        );
    }

    #[test]
    fn either_of_two_secrets_will_do() {
        let verified =
            verify(&[secret("new"), secret("s3cret")], &signed(), BODY, at(1_700_000_001)).unwrap();
        assert_eq!(verified, Verified { timestamp: at(1_700_000_000), delivery_id: None });
    }

    #[test]
    fn a_wrong_secret_body_or_time_is_refused() {
        let now = at(1_700_000_000);
        let error = Err(VerifyError::Signature);
        assert_eq!(verify(&[secret("other")], &signed(), BODY, now), error);
        assert_eq!(verify(&[secret("s3cret")], &signed(), b"{\"a\":2}", now), error);
        let mut moved = signed();
        moved.insert(TIMESTAMP_HEADER, "1700000001".parse().unwrap());
        assert_eq!(verify(&[secret("s3cret")], &moved, BODY, now), error);
    }

    #[test]
    fn five_minutes_either_way_are_allowed_and_not_a_second_more() {
        let secrets = [secret("s3cret")];
        for offset in [-300, 300] {
            assert!(verify(&secrets, &signed(), BODY, at(1_700_000_000 + offset)).is_ok());
        }
        for offset in [-301, 301] {
            assert_eq!(
                verify(&secrets, &signed(), BODY, at(1_700_000_000 + offset)),
                Err(VerifyError::Window)
            );
        }
    }

    #[test]
    fn without_a_usable_secret_nothing_is_accepted() {
        let now = at(1_700_000_000);
        let unkeyed = headers("1700000000", &sign(&secret(""), now, BODY));
        assert_eq!(verify(&[], &unkeyed, BODY, now), Err(VerifyError::NoSecret));
        assert_eq!(verify(&[secret("")], &unkeyed, BODY, now), Err(VerifyError::NoSecret));
        assert_eq!(verify(&[secret(""), secret("s3cret")], &unkeyed, BODY, now), Err(VerifyError::Signature));
    }

    #[test]
    fn missing_doubled_and_malformed_headers_are_refused() {
        let now = at(1_700_000_000);
        let secrets = [secret("s3cret")];
        for name in [TIMESTAMP_HEADER, SIGNATURE_HEADER] {
            let mut missing = signed();
            missing.remove(&name);
            assert!(matches!(verify(&secrets, &missing, BODY, now), Err(VerifyError::Header(_))));
            let mut doubled = signed();
            let value = doubled[&name].clone();
            doubled.append(&name, value);
            assert!(matches!(verify(&secrets, &doubled, BODY, now), Err(VerifyError::Header(_))));
        }
        for timestamp in ["", "-1700000000", "+1700000000", "1.7e9", "99999999999999999999"] {
            let mut headers = signed();
            headers.insert(TIMESTAMP_HEADER, timestamp.parse().unwrap());
            assert!(
                matches!(verify(&secrets, &headers, BODY, now), Err(VerifyError::Header(_))),
                "{timestamp}"
            );
        }
        for signature in ["", "sha256=", "sha256=00", "sha1=00", "zz"] {
            let mut headers = signed();
            headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
            assert!(
                matches!(verify(&secrets, &headers, BODY, now), Err(VerifyError::Header(_))),
                "{signature}"
            );
        }
    }
}
