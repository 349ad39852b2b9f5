//! Access tokens on the API (RFC 6750, RFC 9068): algorithms by allow-list, the exact issuer, our audience, the type, the
//! times. What a token says of groups or roles is not read: the mirror of Keycloak decides.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;

use super::{
    keys::{Keys, Provider},
    step_up::Authentication,
};
use crate::ids::UserId;

/// The signatures that are accepted. No HMAC: its key would be public. No `none`.
pub const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::ES256, Algorithm::PS256, Algorithm::EdDSA];
/// How far Keycloak's clock and ours may be apart, in seconds.
pub const SKEW_SECONDS: i64 = 60;
/// A token larger than this is refused unread.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// Why a token isn't accepted. The client learns only that it isn't.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a token, not signed by Keycloak, or not for this.
    #[error("the token is not acceptable: {0}")]
    Refused(&'static str),
    /// The keys can't be had.
    #[error("the signing keys can't be fetched")]
    Unavailable(#[source] connector_core::ConnectorError),
}

/// What is read of an access token.
#[derive(Debug, Clone, Deserialize)]
pub struct AccessClaims {
    /// The user.
    pub sub: UserId,
    iss: String,
    aud: Option<Audience>,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    typ: Option<String>,
    azp: Option<String>,
    acr: Option<String>,
    auth_time: Option<i64>,
}

impl AccessClaims {
    /// When the token ends, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.exp
    }

    /// How and when the user proved who they are.
    pub fn authentication(&self) -> Authentication {
        let at = self.auth_time.and_then(|at| DateTime::from_timestamp(at, 0));
        Authentication { level: self.acr.clone(), at }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

/// Checks an access token and says whose it is.
///
/// # Errors
/// [`TokenError`].
pub async fn verify(
    keys: &Arc<Keys>,
    issuer: &str,
    audience: &str,
    now: DateTime<Utc>,
    token: &str,
) -> Result<AccessClaims, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Refused("too long"));
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Refused("no JWT"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(TokenError::Refused("algorithm"));
    }
    if !header
        .typ
        .as_deref()
        .is_none_or(|typ| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt"))
    {
        return Err(TokenError::Refused("header type"));
    }
    // The id only selects among the keys that we fetched; nothing in the token leads to a fetch from elsewhere.
    let key_id = header.kid.as_deref().ok_or(TokenError::Refused("no key id"))?;
    let provider = keys.provider_with(key_id).await.map_err(TokenError::Unavailable)?;
    let claims: AccessClaims = verify_signature(&provider, header.alg, key_id, token)?;
    let (now, skew) = (now.timestamp(), SKEW_SECONDS);
    let refused = if claims.iss != issuer {
        "issuer"
    } else if !claims.aud.as_ref().is_some_and(|aud| aud.names(audience)) {
        "audience"
    } else if claims.typ.as_deref() != Some("Bearer") {
        // An ID token, a refresh token or a logout token, signed by the same key.
        "type"
    } else if claims.azp.as_deref().is_none_or(str::is_empty) {
        "authorised party"
    } else if claims.exp <= now - skew {
        "expired"
    } else if claims.nbf.is_some_and(|nbf| nbf > now + skew) || claims.iat.is_some_and(|iat| iat > now + skew)
    {
        "not yet valid"
    } else {
        return Ok(claims);
    };
    Err(TokenError::Refused(refused))
}

/// What a token says, once its signature is found to be Keycloak's.
pub(super) fn verify_signature<T: serde::de::DeserializeOwned>(
    provider: &Provider,
    algorithm: Algorithm,
    key_id: &str,
    token: &str,
) -> Result<T, TokenError> {
    let key = provider.key(key_id).ok_or(TokenError::Refused("unknown key"))?;
    // A key says what it is for: an RSA key for RS256 doesn't verify anything else.
    let fits = key.common.key_algorithm.is_none_or(|of_key| of_key.to_string() == format!("{algorithm:?}"));
    if !fits {
        return Err(TokenError::Refused("algorithm"));
    }
    let decoding = DecodingKey::from_jwk(key).map_err(|_| TokenError::Refused("unreadable key"))?;
    let mut validation = Validation::new(algorithm);
    // Checked above against the injected clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<T>(token, &decoding, &validation)
        .map(|data| data.claims)
        .map_err(|_| TokenError::Refused("signature"))
}
