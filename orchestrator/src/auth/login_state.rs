//! What has to be remembered between leaving for Keycloak and coming back: sealed in a short-lived cookie, so that any
//! replica can take the answer, and the answer counts only in the browser that asked.

use axum::http::{HeaderMap, header};
use axum_extra::extract::cookie::{Cookie, CookieJar};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{session, step_up::Requirement};
use crate::{
    crypto::MasterKey,
    ids::{SharedIds, UserId},
};

const PURPOSE: &str = "login state";
/// How long somebody may sit on Keycloak's page.
pub(super) const LIFETIME: TimeDelta = TimeDelta::minutes(10);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LoginState {
    pub state: String,
    pub nonce: String,
    pub pkce_verifier: String,
    pub redirect_uri: String,
    pub return_to: String,
    /// What has to be proven, where somebody who is signed in proves more.
    pub step_up: Option<StepUp>,
    pub begun_at: DateTime<Utc>,
}

/// Somebody proves again who they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StepUp {
    pub required: Requirement,
    /// Nobody else may come back.
    pub user: UserId,
}

const PREFIX: &str = "__Host-chancery-login-";
/// The sign-ins that a browser has under way at most: more only fill its requests, which have a limit.
const MOST_UNDER_WAY: usize = 5;

/// One cookie for each sign-in under way, so that two tabs don't disturb each other.
fn name(state: &str) -> String {
    let short: String = state.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("{PREFIX}{short}")
}

impl LoginState {
    pub fn to_cookie(&self, key: &MasterKey, ids: &SharedIds) -> Option<Cookie<'static>> {
        let sealed = key.seal(&**ids, PURPOSE, &serde_json::to_vec(self).ok()?).ok()?;
        let mut cookie = session::cookie(&name(&self.state), URL_SAFE_NO_PAD.encode(sealed));
        // The browser forgets a sign-in that nobody came back from.
        cookie.set_max_age(time::Duration::seconds(LIFETIME.num_seconds()));
        Some(cookie)
    }

    /// The state that this browser left with, if it left at all and not too long ago.
    pub fn from_cookies(jar: &CookieJar, key: &MasterKey, state: &str, now: DateTime<Utc>) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(jar.get(&name(state))?.value()).ok()?;
        let found: Self = serde_json::from_slice(&key.open(PURPOSE, &sealed).ok()?).ok()?;
        let in_time = now - found.begun_at < LIFETIME && found.begun_at - now < TimeDelta::minutes(1);
        (found.state == state && in_time).then_some(found)
    }

    /// The removals of the sign-ins that have to go before one more begins: those begun first, which a browser names first
    /// (RFC 6265, section 5.4).
    pub fn crowded_out(headers: &HeaderMap) -> Vec<Cookie<'static>> {
        let sent = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let names: Vec<&str> = sent
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| Some(cookie.split_once('=')?.0.trim()))
            .filter(|cookie| cookie.strip_prefix(PREFIX).is_some_and(|state| name(state) == *cookie))
            .collect();
        let crowd = (names.len() + 1).saturating_sub(MOST_UNDER_WAY);
        names.into_iter().take(crowd).map(session::removal).collect()
    }

    pub fn removal(state: &str) -> Cookie<'static> {
        session::removal(&name(state))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_browser_has_a_few_sign_ins_under_way_and_the_oldest_go() {
        let sent = |cookies: &str| {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(cookies).unwrap())]);
            let gone = LoginState::crowded_out(&headers);
            assert!(gone.iter().all(|cookie| cookie.max_age() == Some(time::Duration::ZERO)));
            gone.iter().map(|cookie| cookie.name().trim_start_matches(PREFIX).to_owned()).collect::<Vec<_>>()
        };
        let login = |state: &str| format!("{PREFIX}{state}=x");
        let four = ["a", "b", "c", "d"].map(login).join("; ");
        assert!(sent("__Host-chancery=1").is_empty());
        assert!(sent(&four).is_empty());
        assert_eq!(sent(&format!("other=1; {four}; {}", login("e"))), ["a"]);
        assert_eq!(sent(&format!("{four}; {}; {}", login("e"), login("f"))), ["a", "b"]);
        // What isn't of ours isn't touched.
        let foreign = format!("{PREFIX}a.b=x; {PREFIX}0123456789abcdef=x; {four}");
        assert!(sent(&foreign).is_empty());
    }
}
