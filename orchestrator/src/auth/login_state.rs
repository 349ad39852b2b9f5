//! What has to be remembered between leaving for Keycloak and coming back: sealed in a short-lived cookie, so that any
//! replica can take the answer, and the answer counts only in the browser that asked.

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

/// One cookie for each sign-in under way, so that two tabs don't disturb each other.
fn name(state: &str) -> String {
    let short: String = state.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("__Host-chancery-login-{short}")
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

    pub fn removal(state: &str) -> Cookie<'static> {
        session::removal(&name(state))
    }
}
