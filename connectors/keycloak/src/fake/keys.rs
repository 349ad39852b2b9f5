//! The realm's keys, and compact JWS (RFC 7515) made and checked with them.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::{
    digest,
    encoding::{AsDer as _, Pkcs8V1Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{self, KeyPair as _, RsaKeyPair, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::FakeError;

/// How a test wants a token's signature to be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// As it should be: RS256 with the realm's active key.
    Valid,
    /// `alg: none` and no signature.
    None,
    /// HS256 with the realm's public key as the secret, for verifiers that take the algorithm from the token.
    HmacWithPublicKey,
    /// RS256 with a key that isn't the realm's, under the `kid` of the one that is.
    ForeignKey,
    /// RS256 with a key that isn't the realm's, under a `kid` that the realm doesn't have.
    UnknownKey,
}

/// A key as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredKey {
    /// PKCS#8, base64url.
    pkcs8: String,
}

impl StoredKey {
    /// A new RSA key of 2048 bits.
    pub(super) fn generate() -> Result<Self, FakeError> {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| FakeError::Key)?;
        let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| FakeError::Key)?;
        Ok(Self { pkcs8: encode(pkcs8.as_ref()) })
    }
}

/// A key for encryption. It is only ever shown, so the doubles of one process share it: making one takes a while.
pub(super) fn encryption_key() -> Result<StoredKey, FakeError> {
    static SHARED: Mutex<Option<StoredKey>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(key) = shared.as_ref() {
        return Ok(key.clone());
    }
    let key = StoredKey::generate()?;
    *shared = Some(key.clone());
    Ok(key)
}

/// A key, ready for use.
pub(super) struct Key {
    pub(super) kid: String,
    pair: RsaKeyPair,
    modulus: String,
    exponent: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Key").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Key {
    pub(super) fn open(stored: &StoredKey) -> Result<Self, FakeError> {
        let pkcs8 = decode(&stored.pkcs8).ok_or(FakeError::Key)?;
        let pair = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| FakeError::Key)?;
        let public = pair.public_key().as_ref();
        let (modulus, exponent) = rsa_public_key(public).ok_or(FakeError::Key)?;
        let (modulus, exponent) = (encode(modulus), encode(exponent));
        let kid = encode(digest::digest(&digest::SHA256, public).as_ref());
        Ok(Self { kid, pair, modulus, exponent })
    }

    /// The public key as a JWK (RFC 7517).
    pub(super) fn jwk(&self, usage: &str, algorithm: &str) -> Value {
        json!({"kid": self.kid, "kty": "RSA", "alg": algorithm, "use": usage, "n": self.modulus, "e": self.exponent})
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, FakeError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| FakeError::Key)?;
        Ok(signature)
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, self.pair.public_key().as_ref())
            .verify(message, signature)
            .is_ok()
    }
}

/// The keys of the realm.
#[derive(Debug)]
pub(super) struct KeyRing {
    /// The first one signs; the others still verify.
    pub(super) signing: Vec<Key>,
    pub(super) encryption: Key,
    /// Signs refresh tokens, which nobody but the realm reads.
    pub(super) refresh_secret: Vec<u8>,
}

impl KeyRing {
    pub(super) fn jwks(&self) -> Value {
        let mut keys: Vec<Value> = self.signing.iter().map(|key| key.jwk("sig", "RS256")).collect();
        keys.push(self.encryption.jwk("enc", "RSA-OAEP"));
        json!({ "keys": keys })
    }

    /// A token over `claims` with the header `typ`.
    pub(super) fn sign(&self, typ: &str, claims: &Value, how: Signature) -> Result<String, FakeError> {
        let active = self.signing.first().ok_or(FakeError::Key)?;
        let foreign = match how {
            Signature::ForeignKey | Signature::UnknownKey => Some(Key::open(&StoredKey::generate()?)?),
            _ => None,
        };
        let (algorithm, kid) = match (how, &foreign) {
            (Signature::None, _) => ("none", &active.kid),
            (Signature::HmacWithPublicKey, _) => ("HS256", &active.kid),
            (Signature::UnknownKey, Some(foreign)) => ("RS256", &foreign.kid),
            _ => ("RS256", &active.kid),
        };
        let message = message(&json!({"alg": algorithm, "typ": typ, "kid": kid}), claims);
        let signature = match how {
            Signature::None => Vec::new(),
            Signature::HmacWithPublicKey => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, active.pair.public_key().as_ref());
                hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
            }
            _ => foreign.as_ref().unwrap_or(active).sign(message.as_bytes())?,
        };
        Ok(format!("{message}.{}", encode(&signature)))
    }

    /// A token of exactly this header and these claims, signed by RS256 with the active key.
    pub(super) fn sign_as_it_is(&self, header: &str, claims: &str) -> Result<String, FakeError> {
        let active = self.signing.first().ok_or(FakeError::Key)?;
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = active.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", encode(&signature)))
    }

    /// The claims of a token that the realm has signed; its times aren't looked at.
    pub(super) fn verify(&self, token: &str) -> Option<Value> {
        let (message, signature, header, claims) = split(token)?;
        if header.get("alg")? != "RS256" {
            return None;
        }
        let key = self.signing.iter().find(|key| header.get("kid").is_some_and(|kid| *kid == key.kid))?;
        key.verifies(message.as_bytes(), &signature).then_some(claims)
    }

    pub(super) fn sign_refresh(&self, claims: &Value) -> String {
        let message = message(&json!({"alg": "HS512", "typ": "JWT", "kid": "refresh"}), claims);
        let key = hmac::Key::new(hmac::HMAC_SHA512, &self.refresh_secret);
        format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes()).as_ref()))
    }

    pub(super) fn verify_refresh(&self, token: &str) -> Option<Value> {
        let (message, signature, header, claims) = split(token)?;
        if header.get("alg")? != "HS512" {
            return None;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA512, &self.refresh_secret);
        hmac::verify(&key, message.as_bytes(), &signature).ok()?;
        Some(claims)
    }
}

/// The first half of the SHA-256 of a token, for `at_hash` (OpenID Connect Core 1.0, section 3.1.3.6).
pub(super) fn half_hash(token: &str) -> String {
    let hash = digest::digest(&digest::SHA256, token.as_bytes());
    encode(&hash.as_ref()[..hash.as_ref().len() / 2])
}

/// The S256 challenge of a verifier (RFC 7636, section 4.2).
pub(super) fn s256(verifier: &str) -> String {
    encode(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref())
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()))
}

fn split(token: &str) -> Option<(&str, Vec<u8>, Value, Value)> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let read = |part| serde_json::from_slice(&decode(part)?).ok();
    Some((message, decode(signature)?, read(header)?, read(claims)?))
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017, appendix A.1.1) in DER, without leading zeros.
fn rsa_public_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    let (content, _) = der_value(der, SEQUENCE)?;
    let (modulus, rest) = der_value(content, INTEGER)?;
    let (exponent, _) = der_value(rest, INTEGER)?;
    let unsigned = |integer: &'_ [u8]| integer.iter().take_while(|byte| **byte == 0).count();
    Some((&modulus[unsigned(modulus)..], &exponent[unsigned(exponent)..]))
}

/// The content of the DER value with this tag at the start of `der`, and what follows it.
fn der_value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        (bytes.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte)), rest)
    };
    (found == tag).then(|| rest.split_at_checked(length)).flatten()
}
