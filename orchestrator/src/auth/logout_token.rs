//! Logout tokens (OpenID Connect Back-Channel Logout 1.0, section 2.4): how Keycloak says that a session of its has ended.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::{
    bearer::{SKEW_SECONDS, TokenError, open, read_header},
    keys::Keys,
};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// A token that was issued longer ago is refused, whatever it says of its end.
const FRESH: TimeDelta = TimeDelta::minutes(5);

/// What has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LogoutToken {
    /// Keycloak's session; none where it is all of the user's.
    pub session: Option<String>,
    /// The user's id in Keycloak.
    pub subject: Option<String>,
    /// The token's own id.
    pub id: String,
    /// From then on the token is refused anyway.
    pub good_until: DateTime<Utc>,
}

/// Checks a logout token (section 2.6) of `issuer` for `client_id`. Whether it was seen before is for the caller to know.
///
/// # Errors
/// [`TokenError`].
pub(super) async fn verify(
    keys: &Arc<Keys>,
    issuer: &str,
    client_id: &str,
    now: DateTime<Utc>,
    token: &str,
) -> Result<LogoutToken, TokenError> {
    let (algorithm, key_id) = read_header(token, is_logout_type).map_err(TokenError::Refused)?;
    let provider = keys.provider_with(&key_id).await.map_err(TokenError::Unavailable)?;
    let key = provider.key(&key_id).ok_or(TokenError::Refused("unknown key"))?;
    let claims: Map<String, Value> = open(key, algorithm, token).map_err(TokenError::Refused)?;
    check(&claims, issuer, client_id, now).map_err(TokenError::Refused)
}

/// Keycloak before 26 says JWT.
fn is_logout_type(typ: Option<&str>) -> bool {
    typ.is_some_and(|typ| typ.eq_ignore_ascii_case("logout+jwt") || typ.eq_ignore_ascii_case("JWT"))
}

fn check(
    claims: &Map<String, Value>,
    issuer: &str,
    client_id: &str,
    now: DateTime<Utc>,
) -> Result<LogoutToken, &'static str> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let time = |name: &str| DateTime::from_timestamp(claims.get(name)?.as_i64()?, 0);
    let skew = TimeDelta::seconds(SKEW_SECONDS);
    if text("iss") != Some(issuer) {
        return Err("issuer");
    }
    let is_ours = match claims.get("aud") {
        Some(Value::String(one)) => one == client_id,
        Some(Value::Array(many)) => many.iter().any(|one| one == client_id),
        _ => false,
    };
    if !is_ours {
        return Err("audience");
    }
    if text("typ") != Some("Logout") {
        return Err("type");
    }
    // An ID token has one; a logout token must not, so that none can be taken for the other.
    if claims.contains_key("nonce") {
        return Err("nonce");
    }
    if !claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object) {
        return Err("events");
    }
    let issued_at = time("iat").ok_or("no time of issue")?;
    let expires = time("exp").ok_or("no end")?;
    if issued_at > now + skew {
        return Err("not yet valid");
    }
    if expires <= now - skew || issued_at <= now - FRESH - skew {
        return Err("expired");
    }
    let id = text("jti").ok_or("no id")?;
    let (session, subject) = (text("sid"), text("sub"));
    if session.is_none() && subject.is_none() {
        return Err("nobody's");
    }
    Ok(LogoutToken {
        session: session.map(str::to_owned),
        subject: subject.map(str::to_owned),
        id: id.to_owned(),
        good_until: expires.min(issued_at + FRESH) + skew,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://id.example.org/realms/chancery";

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    /// What Keycloak sends, changed; null removes.
    fn checked(changes: &Value) -> Result<LogoutToken, &'static str> {
        let mut claims = json!({
            "jti": "1", "iss": ISSUER, "aud": "chancery-shell", "sub": "u", "iat": now().timestamp(), "exp": now().timestamp() + 120,
            "typ": "Logout", "sid": "s", "events": { EVENT: {}, "revoke_offline_access": true },
        });
        let claims = claims.as_object_mut().unwrap();
        for (name, value) in changes.as_object().unwrap() {
            if *value == json!("removed") {
                claims.remove(name);
            } else {
                claims.insert(name.clone(), value.clone());
            }
        }
        check(claims, ISSUER, "chancery-shell", now())
    }

    #[test]
    fn what_keycloak_sends_is_taken() {
        let taken = checked(&json!({})).unwrap();
        assert_eq!(
            (taken.session.as_deref(), taken.subject.as_deref(), taken.id.as_str()),
            (Some("s"), Some("u"), "1")
        );
        assert_eq!(taken.good_until, now() + TimeDelta::seconds(180));
        let of_all = checked(&json!({ "sid": "removed", "aud": ["other", "chancery-shell"] })).unwrap();
        assert_eq!(of_all.session, None);
        checked(&json!({ "sub": "removed" })).unwrap();
        // However long it says to be good, it need not be remembered for longer than it is fresh.
        let long = checked(&json!({ "exp": now().timestamp() + 86_400 })).unwrap();
        assert_eq!(long.good_until, now() + TimeDelta::minutes(6));
    }

    #[test]
    fn whatever_is_wrong_with_a_logout_token_is_refused() {
        let second = now().timestamp();
        for (changes, why) in [
            (json!({ "iss": "https://id.example.org/realms/other" }), "issuer"),
            (json!({ "iss": "removed" }), "issuer"),
            (json!({ "aud": "chancery-api" }), "audience"),
            (json!({ "aud": ["chancery-api"] }), "audience"),
            (json!({ "aud": "removed" }), "audience"),
            (json!({ "typ": "ID" }), "type"),
            (json!({ "typ": "removed" }), "type"),
            (json!({ "nonce": "n" }), "nonce"),
            (json!({ "nonce": null }), "nonce"),
            (json!({ "events": "removed" }), "events"),
            (json!({ "events": {} }), "events"),
            (json!({ "events": { EVENT: true } }), "events"),
            (json!({ "events": [EVENT] }), "events"),
            (json!({ "iat": "removed" }), "no time of issue"),
            (json!({ "iat": second + 61 }), "not yet valid"),
            (json!({ "iat": second - 361, "exp": second + 60 }), "expired"),
            (json!({ "exp": second - 60 }), "expired"),
            (json!({ "exp": "removed" }), "no end"),
            (json!({ "jti": "removed" }), "no id"),
            (json!({ "jti": 7 }), "no id"),
            (json!({ "sid": "removed", "sub": "removed" }), "nobody's"),
            (json!({ "sid": "", "sub": "" }), "nobody's"),
        ] {
            assert_eq!(checked(&changes), Err(why), "{changes}");
        }
    }
}
