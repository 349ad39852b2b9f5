//! Access tokens on the API (RFC 6750, RFC 9068): algorithms by allow-list, the exact issuer, our audience, the type, the
//! times. What a token says of groups or roles is not read: the mirror of Keycloak decides.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, errors::ErrorKind, jwk::Jwk};
use serde::Deserialize;

use super::{keys::Keys, step_up::Authentication};
use crate::ids::UserId;

/// The signatures that are accepted. No HMAC: its key would be public. No `none`.
pub const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::RS256, Algorithm::ES256, Algorithm::PS256, Algorithm::EdDSA];
/// How far Keycloak's clock and ours may be apart, in seconds.
pub const SKEW_SECONDS: i64 = 60;
/// A token larger than this is refused unread. As much as a header may hold: a person's two hundred groups are 16 KiB.
const MAX_TOKEN_BYTES: usize = 32 * 1024;
/// Keycloak's key ids have 43 characters.
const MAX_KEY_ID: usize = 200;

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
    /// The paths of the groups that the user is said to be in: a reason to look, never a grant, and absent where there are
    /// none.
    #[serde(default, deserialize_with = "group_paths")]
    pub groups: Vec<String>,
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

/// What isn't a list of texts is no list of groups, and no reason to refuse a token either: other mappers use the name, too.
fn group_paths<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let claim = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(claim).unwrap_or_default())
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

    /// Why these claims, of a token that Keycloak has signed, aren't good here and now.
    fn refusal(&self, issuer: &str, audience: &str, now: DateTime<Utc>) -> Option<&'static str> {
        let now = now.timestamp();
        let (early, late) = (now - SKEW_SECONDS, now + SKEW_SECONDS);
        if self.iss != issuer {
            Some("issuer")
        } else if !self.aud.as_ref().is_some_and(|aud| aud.names(audience)) {
            Some("audience")
        } else if self.typ.as_deref() != Some("Bearer") {
            // An ID token, a refresh token or a logout token, signed by the same key.
            Some("type")
        } else if self.azp.as_deref().is_none_or(str::is_empty) {
            Some("authorised party")
        } else if self.exp <= early {
            Some("expired")
        } else if self.nbf.is_some_and(|nbf| nbf > late) || self.iat.is_some_and(|iat| iat > late) {
            Some("not yet valid")
        } else {
            None
        }
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
) -> Result<Arc<AccessClaims>, TokenError> {
    let (algorithm, key_id) = read_header(token, is_access_type).map_err(TokenError::Refused)?;
    // The id only selects among the keys that we fetched; nothing in the token leads to a fetch from elsewhere.
    let provider = keys.provider_with(&key_id).await.map_err(TokenError::Unavailable)?;
    let key = provider.key(&key_id).ok_or(TokenError::Refused("unknown key"))?;
    let claims = if let Some(claims) = provider.signed(token).await {
        claims
    } else {
        let claims: Arc<AccessClaims> =
            open(key, algorithm, token).map(Arc::new).map_err(TokenError::Refused)?;
        provider.remember_signed(token, Arc::clone(&claims)).await;
        claims
    };
    match claims.refusal(issuer, audience, now) {
        Some(reason) => Err(TokenError::Refused(reason)),
        None => Ok(claims),
    }
}

/// Keycloak says JWT, or what RFC 9068 asks for where the client is told so.
fn is_access_type(typ: Option<&str>) -> bool {
    typ.is_none_or(|typ| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt"))
}

/// The algorithm and the key's id, of a token whose header has a type that `is_ours`. Addresses of keys and keys themselves (`jku`, `x5u`, `jwk`, `x5c`) are not looked at.
pub(super) fn read_header(
    token: &str,
    is_ours: fn(Option<&str>) -> bool,
) -> Result<(Algorithm, String), &'static str> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err("too long");
    }
    let Header { alg, typ, kid, crit, .. } = jsonwebtoken::decode_header(token).map_err(|_| "no JWT")?;
    if !ALGORITHMS.contains(&alg) {
        return Err("algorithm");
    }
    // We understand no extension, so there is none that we may ignore where it is critical (RFC 7515, section 4.1.11).
    if crit.is_some() {
        return Err("critical extension");
    }
    if !is_ours(typ.as_deref()) {
        return Err("header type");
    }
    let is_key_id = |kid: &String| {
        (1..=MAX_KEY_ID).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic())
    };
    kid.filter(is_key_id).map(|kid| (alg, kid)).ok_or("key id")
}

/// The claims, if `key` has signed them.
pub(super) fn open<T: serde::de::DeserializeOwned>(
    key: &Jwk,
    algorithm: Algorithm,
    token: &str,
) -> Result<T, &'static str> {
    // A key says what it is for: an RSA key for RS256 doesn't verify anything else.
    if key.common.key_algorithm.is_some_and(|of_key| of_key != algorithm.into()) {
        return Err("algorithm");
    }
    let decoding = DecodingKey::from_jwk(key).map_err(|_| "unreadable key")?;
    let mut validation = Validation::new(algorithm);
    // Checked against the injected clock.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<T>(token, &decoding, &validation).map(|data| data.claims).map_err(|error| {
        match error.kind() {
            ErrorKind::Json(_) | ErrorKind::Utf8(_) => "claims",
            _ => "signature",
        }
    })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        rsa::KeySize,
        signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair},
    };
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use chrono::TimeZone as _;
    use serde_json::{Value, json};

    use super::*;

    const ISSUER: &str = "https://id.example.org/realms/chancery";
    const NOW: i64 = 1_800_000_000;

    type Sign = dyn Fn(&[u8]) -> Vec<u8>;

    /// A key of each kind, and how it signs.
    struct Signer {
        jwk: Value,
        algorithm: &'static str,
        sign: Box<Sign>,
    }

    fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn rsa(algorithm: &'static str) -> Signer {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = DecodingKey::from_rsa_der(pair.public_key().as_ref());
        let jwk = serde_json::to_value(Jwk::from_decoding_key(&public, None).unwrap()).unwrap();
        let padding: &'static dyn signature::RsaEncoding =
            if algorithm == "PS256" { &signature::RSA_PSS_SHA256 } else { &signature::RSA_PKCS1_SHA256 };
        let sign = move |message: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
            signature
        };
        Signer { jwk, algorithm, sign: Box::new(sign) }
    }

    fn ecdsa() -> Signer {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        // 0x04, then both coordinates (SEC 1, section 2.3.3).
        let point = pair.public_key().as_ref();
        let jwk =
            json!({ "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) });
        let sign = move |message: &[u8]| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        Signer { jwk, algorithm: "ES256", sign: Box::new(sign) }
    }

    fn eddsa() -> Signer {
        let pair = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) });
        Signer {
            jwk,
            algorithm: "EdDSA",
            sign: Box::new(move |message| pair.sign(message).as_ref().to_vec()),
        }
    }

    impl Signer {
        /// The key as Keycloak shows it.
        fn jwk(&self) -> Jwk {
            let mut jwk = self.jwk.clone();
            jwk["kid"] = "key".into();
            jwk["use"] = "sig".into();
            jwk["alg"] = self.algorithm.into();
            serde_json::from_value(jwk).unwrap()
        }

        fn token(&self, algorithm: &str) -> String {
            let header = json!({ "alg": algorithm, "typ": "JWT", "kid": "key" });
            let message = format!(
                "{}.{}",
                encode(header.to_string().as_bytes()),
                encode(claims().to_string().as_bytes())
            );
            format!("{message}.{}", encode(&(self.sign)(message.as_bytes())))
        }
    }

    fn claims() -> Value {
        json!({
            "iss": ISSUER, "aud": "chancery-api", "sub": "0b000000-0000-4000-8000-000000000001", "typ": "Bearer",
            "azp": "chancery-shell", "iat": NOW, "exp": NOW + 300,
        })
    }

    fn check(jwk: &Jwk, token: &str) -> Result<AccessClaims, &'static str> {
        let (algorithm, _) = read_header(token, is_access_type)?;
        open(jwk, algorithm, token)
    }

    #[test]
    fn each_algorithm_of_the_list_is_verified() {
        for signer in [rsa("RS256"), rsa("PS256"), ecdsa(), eddsa()] {
            let token = signer.token(signer.algorithm);
            let accepted = check(&signer.jwk(), &token).unwrap();
            assert_eq!(accepted.refusal(ISSUER, "chancery-api", Utc.timestamp_opt(NOW, 0).unwrap()), None);
            // Another character at the end of the message, another message.
            let forged = token.replacen('.', "A.", 1);
            assert!(check(&signer.jwk(), &forged).is_err(), "{}", signer.algorithm);
        }
    }

    #[test]
    fn a_key_verifies_nothing_but_its_own_algorithm() {
        let signers = [rsa("RS256"), rsa("PS256"), ecdsa(), eddsa()];
        for signer in &signers {
            for other in &signers {
                if signer.algorithm != other.algorithm {
                    // Signed as the key can, named as another.
                    let refused = check(&signer.jwk(), &signer.token(other.algorithm));
                    assert_eq!(refused.unwrap_err(), "algorithm", "{} {}", signer.algorithm, other.algorithm);
                    // Named as it is, and looked up under a key of another kind.
                    let refused = check(&signer.jwk(), &other.token(other.algorithm));
                    assert!(refused.is_err(), "{} {}", signer.algorithm, other.algorithm);
                }
            }
        }
        // A key that doesn't say what it is for is held to its kind.
        let mut unnamed = ecdsa().jwk();
        unnamed.common.key_algorithm = None;
        assert_eq!(check(&unnamed, &signers[0].token("RS256")).unwrap_err(), "signature");
    }

    #[test]
    fn the_public_key_is_no_secret_to_sign_with() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let public = pair.public_key().as_ref();
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, public);
        let signer = Signer {
            jwk: json!({ "kty": "oct", "k": encode(public) }),
            algorithm: "HS256",
            sign: Box::new(move |message| aws_lc_rs::hmac::sign(&secret, message).as_ref().to_vec()),
        };
        for algorithm in ["HS256", "HS384", "HS512", "RS384", "RS512", "ES384", "PS384", "PS512"] {
            assert_eq!(
                check(&signer.jwk(), &signer.token(algorithm)).unwrap_err(),
                "algorithm",
                "{algorithm}"
            );
        }
        // Not even where a key set has a secret in it.
        assert!(check(&signer.jwk(), &signer.token("RS256")).is_err());
        for algorithm in ["none", "None", "NONE", "", "hs256", "rs256"] {
            assert_eq!(
                check(&signer.jwk(), &signer.token(algorithm)).unwrap_err(),
                "no JWT",
                "{algorithm:?}"
            );
        }
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> Option<&'static str> {
        let mut claims = claims();
        change(&mut claims);
        let claims: AccessClaims = serde_json::from_value(claims).unwrap();
        claims.refusal(ISSUER, "chancery-api", Utc.timestamp_opt(NOW, 0).unwrap())
    }

    #[test]
    fn each_claim_is_held_to_what_it_must_say() {
        let set = |name: &'static str, value: Value| refusal(move |claims| claims[name] = value);
        assert_eq!(refusal(|_| ()), None);
        for other in
            [format!("{ISSUER}/"), ISSUER.to_uppercase(), ISSUER.replace("https", "http"), String::new()]
        {
            assert_eq!(set("iss", json!(other)), Some("issuer"));
        }
        for other in [json!("account"), json!([]), json!(["account"]), json!("chancery-api "), json!(null)] {
            assert_eq!(set("aud", other), Some("audience"));
        }
        assert_eq!(set("aud", json!(["account", "chancery-api"])), None);
        for other in [json!("ID"), json!("Refresh"), json!("Logout"), json!("bearer"), json!(null)] {
            assert_eq!(set("typ", other), Some("type"));
        }
        for other in [json!(""), json!(null)] {
            assert_eq!(set("azp", other), Some("authorised party"));
        }
    }

    #[test]
    fn a_minute_of_skew_is_allowed_and_not_more() {
        let set = |name: &'static str, value: i64| refusal(move |claims| claims[name] = value.into());
        assert_eq!(set("exp", NOW - SKEW_SECONDS + 1), None);
        assert_eq!(set("exp", NOW - SKEW_SECONDS), Some("expired"));
        assert_eq!(set("exp", i64::MIN), Some("expired"));
        assert_eq!(set("exp", i64::MAX), None);
        for name in ["nbf", "iat"] {
            assert_eq!(set(name, NOW + SKEW_SECONDS), None);
            assert_eq!(set(name, NOW + SKEW_SECONDS + 1), Some("not yet valid"));
        }
    }

    #[test]
    fn what_is_claimed_of_groups_is_read_and_refuses_nothing() {
        let read = |groups: Value| {
            let mut claims = claims();
            claims["groups"] = groups;
            serde_json::from_value::<AccessClaims>(claims).unwrap().groups
        };
        assert_eq!(read(json!(["/teams/x", "/teams/y"])), ["/teams/x", "/teams/y"]);
        for other in [json!(null), json!("/teams/x"), json!([1]), json!({ "x": [] })] {
            assert!(read(other).is_empty());
        }
        assert!(serde_json::from_value::<AccessClaims>(claims()).unwrap().groups.is_empty());
    }
}
