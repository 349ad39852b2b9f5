//! What a Jitsi server checks before somebody is in a room, with Prosody's own words for each refusal.
//!
//! Written after `luajwtjitsi.lib.lua` (the token), `token/util.lib.lua` (the claims), `mod_token_verification.lua`
//! (the room) and `mod_token_affiliation.lua` (who moderates), and shares no code with the minter: each checks the other.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;

/// How the server is set up.
pub(super) struct Rules<'a> {
    /// `app_id`, and the only entry of `asap_accepted_issuers`.
    pub app_id: &'a str,
    /// What tokens are verified with.
    pub key: Key<'a>,
    /// The only entry of `asap_accepted_audiences`.
    pub audience: &'a str,
    /// The XMPP domain where `enable_domain_verification` is on.
    pub domain: Option<&'a str>,
}

/// What tokens are verified with, and by which algorithm.
pub(super) enum Key<'a> {
    /// `app_secret`: HS256.
    Secret(&'a [u8]),
    /// The PEM that the key server has for the token's `kid`: RS256.
    Public(&'a str),
}

/// Whom the server lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admitted {
    pub id: Option<String>,
    pub name: String,
    pub email: Option<String>,
    pub moderator: bool,
}

/// The words in which Prosody refuses.
pub(super) type Refusal = &'static str;

/// The id under which the key server has the key of `token`.
pub(super) fn key_id(token: Option<&str>) -> Result<String, Refusal> {
    let token = token.ok_or("token required")?;
    let (header, _) = token.split_once('.').ok_or("Invalid token")?;
    let header = object(header).ok_or("bad token format")?;
    let key_id = header.get("kid").and_then(Value::as_str).ok_or("'kid' claim is missing")?;
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or("'alg' claim is missing")?;
    if !algorithm.starts_with("RS") {
        return Err("'kid' claim only support with RS family");
    }
    Ok(key_id.to_owned())
}

/// Checks `token` for entering `room` at `now`.
pub(super) fn admit(
    rules: &Rules<'_>,
    token: Option<&str>,
    room: &str,
    now: DateTime<Utc>,
) -> Result<Admitted, Refusal> {
    let token = token.ok_or("token required")?;
    let claims = verify_token(rules, token, now.timestamp())?;
    verify_room(rules, &claims, room)?;
    Ok(admitted(&claims))
}

fn verify_token(rules: &Rules<'_>, token: &str, now: i64) -> Result<Map<String, Value>, Refusal> {
    // The Lua pattern `([^\\.]+)` splits at dots and backslashes and skips empty pieces.
    let segments: Vec<&str> = token.split(['.', '\\']).filter(|segment| !segment.is_empty()).collect();
    let [header_segment, body_segment, signature_segment] = segments[..] else { return Err("Invalid token") };
    let header = object(header_segment).ok_or("Invalid header")?;
    let body = object(body_segment).ok_or("Invalid body")?;
    let signature = URL_SAFE_NO_PAD.decode(signature_segment).map_err(|_| "Invalid signature")?;

    if header.get("typ").and_then(Value::as_str) != Some("JWT") {
        return Err("Invalid typ");
    }
    let algorithm = match rules.key {
        Key::Secret(_) => "HS256",
        Key::Public(_) => "RS256",
    };
    if header.get("alg").and_then(Value::as_str) != Some(algorithm) {
        return Err("Invalid or incorrect alg");
    }
    let signed = format!("{header_segment}.{body_segment}");
    if !is_signed(&rules.key, signed.as_bytes(), &signature) {
        return Err("Invalid signature");
    }

    let expires = time(&body, "exp", "exp must be number")?;
    let not_before = time(&body, "nbf", "nbf must be number")?;
    #[expect(clippy::cast_precision_loss, reason = "Lua compares doubles, and a time is far below 2^53")]
    let now = now as f64;
    if expires.is_some_and(|expires| now >= expires) {
        return Err("Not acceptable by exp");
    }
    if not_before.is_some_and(|not_before| now < not_before) {
        return Err("Not acceptable by nbf");
    }
    let issuer = body.get("iss").ok_or("'iss' claim is missing")?;
    if issuer.as_str() != Some(rules.app_id) {
        return Err("invalid 'iss' claim");
    }
    // String equality: a list of audiences equals no string.
    let audience = body.get("aud").ok_or("'aud' claim is missing")?;
    if audience.as_str() != Some(rules.audience) {
        return Err("invalid 'aud' claim");
    }
    if !body.contains_key("room") {
        return Err("'room' claim is missing");
    }
    if !body.contains_key("sub") {
        return Err("sub claim is missing");
    }
    Ok(body)
}

fn is_signed(key: &Key<'_>, signed: &[u8], signature: &[u8]) -> bool {
    match key {
        Key::Secret(secret) => Hmac::<Sha256>::new_from_slice(secret)
            .is_ok_and(|mac| mac.chain_update(signed).verify_slice(signature).is_ok()),
        Key::Public(public) => pem::parse(public).is_ok_and(|public| {
            public.tag() == "PUBLIC KEY"
                && UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.contents())
                    .verify(signed, signature)
                    .is_ok()
        }),
    }
}

fn verify_room(rules: &Rules<'_>, claims: &Map<String, Value>, room: &str) -> Result<(), Refusal> {
    const MISMATCH: Refusal = "Room and token mismatched";
    let claimed = claims.get("room").and_then(Value::as_str).ok_or(MISMATCH)?;
    if claimed != "*" && claimed.to_lowercase() != room {
        return Err(MISMATCH);
    }
    if let Some(domain) = rules.domain {
        let subject = claims.get("sub").and_then(Value::as_str).ok_or(MISMATCH)?;
        if subject != "*" && subject.to_lowercase() != domain {
            return Err(MISMATCH);
        }
    }
    Ok(())
}

fn admitted(claims: &Map<String, Value>) -> Admitted {
    let user = claims.get("context").and_then(|context| context.get("user"));
    let text = |key: &str| {
        user.and_then(|user| user.get(key))
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let moderator = match user.and_then(|user| user.get("moderator")) {
        Some(Value::Bool(moderator)) => *moderator,
        Some(Value::String(moderator)) => moderator == "true",
        _ => false,
    };
    let affiliation = text("affiliation");
    Admitted {
        id: text("id"),
        name: text("name").unwrap_or_else(|| "Fellow Jitster".to_owned()),
        email: text("email"),
        moderator: moderator || matches!(affiliation.as_deref(), Some("owner" | "moderator" | "teacher")),
    }
}

fn object(segment: &str) -> Option<Map<String, Value>> {
    match serde_json::from_slice(&URL_SAFE_NO_PAD.decode(segment).ok()?).ok()? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// A claim that is a time. In Lua `nil` and `false` count as absent, and a JSON null is neither.
fn time(claims: &Map<String, Value>, name: &str, refusal: Refusal) -> Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or(refusal),
    }
}
