//! The JWT by which the Keycloak extension `ext-event-webhook` (p2-inc/keycloak-events, authentication `bearer`) signs a webhook
//! with the realm's own key: it names the SHA-256 of the body, so that it is worth nothing with another.

use aws_lc_rs::digest;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{JwkSet, PublicKeyUse},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    event::{EventFields, Format, Place, Reader},
    scheme::{Delivery, DeliveryId, Fault, InvalidSecret, Refused, described},
    token,
};

/// No HMAC: its key would be public. No `none`.
const ALGORITHMS: [Algorithm; 4] = [Algorithm::RS256, Algorithm::ES256, Algorithm::PS256, Algorithm::EdDSA];
const MAX_TOKEN_BYTES: usize = 8 * 1024;
const MAX_KEY_ID: usize = 200;
const WINDOW_SECONDS: i64 = 300;
const MOST_TEXT: usize = 500;

/// The settings: whose tokens, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeycloakJwt {
    /// The realm's issuer, exactly.
    pub issuer: String,
    /// The audience that the webhook was given in Keycloak.
    pub audience: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    iat: i64,
    request_body_sha256: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What an event of the extension says of itself, whatever proves it.
pub(crate) fn event_fields() -> EventFields {
    let places =
        |pointers: &[&str]| pointers.iter().map(|&pointer| Place::Body(pointer.to_owned())).collect();
    EventFields {
        format: Format::Json,
        event_type: places(&["/type"]),
        subject: places(&["/resourcePath", "/authDetails/userId"]),
        id: places(&["/uid", "/id"]),
        time: places(&["/time"]),
    }
}

/// The id of the key that a request names: where it is not among the known ones, the realm's keys may have been rotated.
pub fn key_id(headers: &HeaderMap) -> Option<String> {
    let token = std::str::from_utf8(token::credentials(headers, "Bearer").ok()?).ok()?;
    read_header(token).ok().map(|(_, id)| id)
}

fn read_header(token: &str) -> Result<(Algorithm, String), Refused> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(Refused::Unproven("the token is too long"));
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Unproven("there is no JWT"))?;
    // An extension that is critical may not be ignored (RFC 7515, section 4.1.11), and we understand none.
    if !ALGORITHMS.contains(&header.alg) || header.crit.is_some() {
        return Err(Refused::Unproven("the token's header"));
    }
    let is_key_id = |id: &String| (1..=MAX_KEY_ID).contains(&id.len());
    header.kid.filter(is_key_id).map(|id| (header.alg, id)).ok_or(Refused::Unproven("the token names no key"))
}

fn read_keys(secret: &SecretString) -> Option<JwkSet> {
    serde_json::from_str(secret.expose_secret()).ok()
}

/// Whether something is the realm's public keys.
pub(crate) fn check_keys(secret: &SecretString) -> Result<(), InvalidSecret> {
    read_keys(secret)
        .filter(|keys| !keys.keys.is_empty())
        .map(drop)
        .ok_or(InvalidSecret::Form("the realm's public keys, as a JSON Web Key Set"))
}

impl KeycloakJwt {
    pub(crate) fn check(&self, faults: &mut Vec<Fault>) {
        for (pointer, text) in [("/issuer", &self.issuer), ("/audience", &self.audience)] {
            if text.is_empty() || text.len() > MOST_TEXT {
                faults.push(Fault::new(pointer, format!("must have 1 to {MOST_TEXT} bytes")));
            }
        }
    }

    /// Verifies with any of the key sets, which are the `secrets`.
    pub(crate) fn verify(
        &self,
        secrets: &[SecretString],
        headers: &HeaderMap,
        body: &Bytes,
        now: DateTime<Utc>,
    ) -> Result<Delivery, Refused> {
        let token = std::str::from_utf8(token::credentials(headers, "Bearer")?)
            .map_err(|_| Refused::Unproven("there is no JWT"))?;
        let (algorithm, id) = read_header(token)?;
        let claims = secrets
            .iter()
            .filter_map(read_keys)
            .find_map(|keys| open(&keys, &id, algorithm, token))
            .ok_or(Refused::Unproven("no known key has signed the token"))?;
        self.check_claims(&claims, body, now.timestamp()).map_err(Refused::Unproven)?;
        let fields = event_fields();
        let reader = Reader::new(Format::Json, headers, body)?;
        let id = reader.first(&fields.id).map(|(_, value)| DeliveryId { value, is_proven: true });
        described(&reader, &fields, id)
    }

    fn check_claims(&self, claims: &Claims, body: &[u8], now: i64) -> Result<(), &'static str> {
        let is_for_us = match &claims.aud {
            Audience::One(one) => *one == self.audience,
            Audience::Many(many) => many.contains(&self.audience),
        };
        let body_hash = hex::encode(digest::digest(&digest::SHA256, body));
        if claims.iss != self.issuer {
            Err("the token is of another issuer")
        } else if !is_for_us {
            Err("the token is for somebody else")
        } else if claims.exp <= now - WINDOW_SECONDS || (now - claims.iat).abs() > WINDOW_SECONDS {
            Err("the token is not of now")
        } else if !claims.request_body_sha256.eq_ignore_ascii_case(&body_hash) {
            Err("the token is for another body")
        } else {
            Ok(())
        }
    }
}

/// The claims, if the key with this id has signed them.
fn open(keys: &JwkSet, id: &str, algorithm: Algorithm, token: &str) -> Option<Claims> {
    let key = keys.find(id)?;
    let is_for_signatures =
        key.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature);
    let is_for_this = key.common.key_algorithm.is_none_or(|of_key| of_key == algorithm.into());
    if !is_for_signatures || !is_for_this {
        return None;
    }
    let decoding = DecodingKey::from_jwk(key).ok()?;
    let mut validation = Validation::new(algorithm);
    // Checked against the time that comes in.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<Claims>(token, &decoding, &validation).ok().map(|data| data.claims)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{self, EcdsaKeyPair, KeyPair as _},
    };
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use http::{HeaderValue, header};
    use jsonwebtoken::EncodingKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::Key;

    const NOW: i64 = 1_767_323_045;
    const BODY: &[u8] = br#"{"uid":"u-1","id":"e-1","time":1767323045000,"type":"admin.USER-UPDATE","resourcePath":"users/7"}"#;

    struct Realm {
        key: EncodingKey,
        keys: SecretString,
    }

    fn realm() -> Realm {
        let document =
            EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        let point = pair.public_key().as_ref()[1..].to_vec();
        let keys = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1",
            "x": URL_SAFE_NO_PAD.encode(&point[..32]), "y": URL_SAFE_NO_PAD.encode(&point[32..]),
        }]});
        Realm { key: EncodingKey::from_ec_der(document.as_ref()), keys: keys.to_string().into() }
    }

    fn claims() -> Value {
        json!({
            "iss": "https://id.example/realms/r", "aud": "chancery-webhooks", "iat": NOW, "exp": NOW + 300, "jti": "j",
            "request_body_sha256": hex::encode(digest::digest(&digest::SHA256, BODY)),
        })
    }

    fn sent(realm: &Realm, claims: &Value, key_id: &str) -> HeaderMap {
        let mut header = jsonwebtoken::Header::new(Algorithm::ES256);
        header.kid = Some(key_id.to_owned());
        let token = jsonwebtoken::encode(&header, claims, &realm.key).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        headers
    }

    fn verify(
        realm: &Realm,
        headers: &HeaderMap,
        body: &'static [u8],
        now: i64,
    ) -> Result<Delivery, Refused> {
        let scheme = KeycloakJwt {
            issuer: "https://id.example/realms/r".into(),
            audience: "chancery-webhooks".into(),
        };
        let now = DateTime::from_timestamp(now, 0).unwrap();
        scheme.verify(std::slice::from_ref(&realm.keys), headers, &Bytes::from_static(body), now)
    }

    #[test]
    fn the_realm_s_token_proves_this_body_and_no_other() {
        let realm = realm();
        let headers = sent(&realm, &claims(), "k1");
        let event = verify(&realm, &headers, BODY, NOW).unwrap();
        assert_eq!(
            (event.event_type.as_str(), event.subject.as_deref()),
            ("admin.USER-UPDATE", Some("users/7"))
        );
        assert_eq!(event.key, Key::Id(vec!["u-1".into()]));
        assert_eq!(event.time.unwrap().timestamp(), NOW);
        assert_eq!(key_id(&headers).as_deref(), Some("k1"));
        for (body, now) in [(&b"{}"[..], NOW), (BODY, NOW + 301), (BODY, NOW - 301)] {
            assert!(matches!(verify(&realm, &headers, body, now), Err(Refused::Unproven(_))));
        }
    }

    #[test]
    fn a_token_of_another_realm_audience_key_or_body_proves_nothing() {
        let realm = realm();
        for (claim, value) in [
            ("iss", json!("https://id.example/realms/other")),
            ("aud", json!(["chancery-api"])),
            ("iat", json!(NOW - 301)),
            ("exp", json!(NOW - 301)),
            ("request_body_sha256", json!("00")),
            ("request_body_sha256", Value::Null),
        ] {
            let mut claims = claims();
            claims[claim] = value;
            let refused = verify(&realm, &sent(&realm, &claims, "k1"), BODY, NOW);
            assert!(matches!(refused, Err(Refused::Unproven(_))), "{claim}");
        }
        let other = self::realm();
        assert!(verify(&realm, &sent(&other, &claims(), "k1"), BODY, NOW).is_err());
        assert!(verify(&realm, &sent(&realm, &claims(), "k2"), BODY, NOW).is_err());
        // Signed with what is public.
        let mut hs256 = jsonwebtoken::Header::new(Algorithm::HS256);
        hs256.kid = Some("k1".into());
        let secret = EncodingKey::from_secret(realm.keys.expose_secret().as_bytes());
        let token = jsonwebtoken::encode(&hs256, &claims(), &secret).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        assert!(verify(&realm, &headers, BODY, NOW).is_err());
        assert!(check_keys(&realm.keys).is_ok());
        assert!(check_keys(&"{\"keys\":[]}".to_owned().into()).is_err());
    }
}
