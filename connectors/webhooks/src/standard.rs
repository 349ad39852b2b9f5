//! Standard Webhooks 1.0.0 (<https://www.standardwebhooks.com>): the headers `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`, whose signatures are over `{id}.{timestamp}.{raw body}`.
//!
//! A shared secret (`whsec_`) signs by HMAC-SHA256, which is `v1`. Of a key pair, the private key (`whsk_`) signs by
//! Ed25519, which is `v1a`, and the public key (`whpk_`) verifies. Several signatures may stand in the header, so that
//! keys can be rotated; one that fits will do, and versions that are not known are passed over.

use aws_lc_rs::{
    hmac,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use crate::header::{single, unix_seconds};

/// The message's id: the same for each attempt to deliver it. Signed.
pub const ID_HEADER: HeaderName = HeaderName::from_static("webhook-id");
/// Unix seconds of the attempt. Signed.
pub const TIMESTAMP_HEADER: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signatures, separated by spaces.
pub const SIGNATURE_HEADER: HeaderName = HeaderName::from_static("webhook-signature");

/// How far the signed time may be from ours, either way.
pub const WINDOW: TimeDelta = TimeDelta::minutes(5);

const SECRET: &str = "whsec_";
const PRIVATE: &str = "whsk_";
const PUBLIC: &str = "whpk_";
/// The bytes of a shared secret: 192 to 512 bits.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
const ED25519_BYTES: usize = 32;
/// More signatures than a rotation has are not looked at.
const MOST_SIGNATURES: usize = 16;

/// Some senders leave the padding out.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key that can't be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// There is nothing of it.
    #[error("the key is empty")]
    Empty,
    /// What follows the prefix isn't base64.
    #[error("the key is not base64")]
    NotBase64,
    /// A shared secret of fewer than 24 or more than 64 bytes, or a key of a pair that hasn't 32.
    #[error("the key has the wrong length")]
    Length,
    /// A private key where a public one does, or the other way round.
    #[error("the key is of the other kind")]
    Kind,
}

/// A message that can't be signed: its id is empty, has a `.`, or isn't visible ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id can't be signed")]
pub struct InvalidId;

/// A delivery that is not from who has the key, or not from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// We hold no key to compare with.
    #[error("no usable key is known for this webhook")]
    NoKey,
    /// A header that a signed delivery has is absent, there twice, or not of its form.
    #[error("the header {0} is missing or malformed")]
    Header(&'static str),
    /// No key gives one of these signatures.
    #[error("the signature does not match")]
    Signature,
    /// The signature is right and the time is more than [`WINDOW`] from ours: a repetition, or a clock that is off.
    #[error("the signed time is more than five minutes from ours")]
    Window,
}

/// A delivery that is from who has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The message's id.
    pub id: String,
    /// When this attempt was made.
    pub timestamp: DateTime<Utc>,
}

/// What signs: a shared secret, or the private key of a pair.
pub struct SigningKey(Signing);

enum Signing {
    Hmac(Box<hmac::Key>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// What verifies: a shared secret, or the public key of a pair.
pub struct VerifyingKey(Verifying);

enum Verifying {
    Hmac(Box<hmac::Key>),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SigningKey")
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("VerifyingKey")
    }
}

fn decode(text: &str) -> Result<Vec<u8>, InvalidKey> {
    if text.is_empty() {
        return Err(InvalidKey::Empty);
    }
    BASE64.decode(text).map_err(|_| InvalidKey::NotBase64)
}

fn shared(text: &str) -> Result<Box<hmac::Key>, InvalidKey> {
    let key = decode(text)?;
    if !SECRET_BYTES.contains(&key.len()) {
        return Err(InvalidKey::Length);
    }
    Ok(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &key)))
}

/// A shared secret as it is written, made from 32 bytes that nobody can guess.
pub fn shared_secret(random: [u8; 32]) -> SecretString {
    SecretString::from(format!("{SECRET}{}", BASE64.encode(random)))
}

impl SigningKey {
    /// Reads a key: `whsec_` and base64 of 24 to 64 bytes (the prefix may be absent), or `whsk_` and base64 of the 32 bytes of an
    /// Ed25519 seed, alone or followed by the public key.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn parse(key: &SecretString) -> Result<Self, InvalidKey> {
        let key = key.expose_secret();
        if key.starts_with(PUBLIC) {
            return Err(InvalidKey::Kind);
        }
        let Some(private) = key.strip_prefix(PRIVATE) else {
            return shared(key.strip_prefix(SECRET).unwrap_or(key)).map(|key| Self(Signing::Hmac(key)));
        };
        let private = decode(private)?;
        let pair = match private.split_at_checked(ED25519_BYTES) {
            Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
            Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            None => return Err(InvalidKey::Length),
        };
        pair.map(|pair| Self(Signing::Ed25519(Box::new(pair)))).map_err(|_| InvalidKey::Length)
    }

    /// The public key of a pair, as it is written (`whpk_…`); none of a shared secret.
    pub fn public_key(&self) -> Option<String> {
        match &self.0 {
            Signing::Hmac(_) => None,
            Signing::Ed25519(pair) => Some(format!("{PUBLIC}{}", BASE64.encode(pair.public_key()))),
        }
    }

    /// One signature as it stands in the header: `v1,…` or `v1a,…`.
    fn signature(&self, signed: &[&[u8]]) -> String {
        match &self.0 {
            Signing::Hmac(key) => format!("v1,{}", BASE64.encode(tag(key, signed))),
            Signing::Ed25519(pair) => format!("v1a,{}", BASE64.encode(pair.sign(&signed.concat()))),
        }
    }
}

impl VerifyingKey {
    /// Reads a key: `whsec_` and base64 of 24 to 64 bytes (the prefix may be absent), or `whpk_` and base64 of an Ed25519 public
    /// key.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn parse(key: &SecretString) -> Result<Self, InvalidKey> {
        let key = key.expose_secret();
        if key.starts_with(PRIVATE) {
            return Err(InvalidKey::Kind);
        }
        let Some(public) = key.strip_prefix(PUBLIC) else {
            return shared(key.strip_prefix(SECRET).unwrap_or(key)).map(|key| Self(Verifying::Hmac(key)));
        };
        let public = decode(public)?;
        if public.len() != ED25519_BYTES {
            return Err(InvalidKey::Length);
        }
        Ok(Self(Verifying::Ed25519(UnparsedPublicKey::new(&ED25519, public))))
    }

    /// Whether one of the signatures is by this key.
    fn fits(&self, signatures: &[(&str, Vec<u8>)], signed: &[&[u8]]) -> bool {
        match &self.0 {
            Verifying::Hmac(key) => {
                let tag = tag(key, signed);
                let mut fits = false;
                for (_, signature) in signatures.iter().filter(|(version, _)| *version == "v1") {
                    fits |=
                        aws_lc_rs::constant_time::verify_slices_are_equal(tag.as_ref(), signature).is_ok();
                }
                fits
            }
            Verifying::Ed25519(key) => {
                let message = signed.concat();
                signatures
                    .iter()
                    .any(|(version, signature)| *version == "v1a" && key.verify(&message, signature).is_ok())
            }
        }
    }
}

fn tag(key: &hmac::Key, signed: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in signed {
        context.update(part);
    }
    context.sign()
}

/// The three headers of a delivery of the message `id`, made `at` this time, signed with each of the keys.
///
/// # Errors
/// Where the id can't be signed.
pub fn sign(
    keys: &[SigningKey],
    id: &str,
    at: DateTime<Utc>,
    raw_body: &[u8],
) -> Result<[(HeaderName, HeaderValue); 3], InvalidId> {
    if !can_be_signed(id) {
        return Err(InvalidId);
    }
    let timestamp = at.timestamp().to_string();
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", raw_body];
    let signatures: Vec<String> = keys.iter().map(|key| key.signature(&signed)).collect();
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| InvalidId);
    Ok([
        (ID_HEADER, value(id)?),
        (TIMESTAMP_HEADER, value(&timestamp)?),
        (SIGNATURE_HEADER, value(&signatures.join(" "))?),
    ])
}

/// A `.` in the id could be taken for the one that ends it.
fn can_be_signed(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.')
}

/// Verifies a delivery with any of the keys, on the raw bytes and in constant time. Keys that can't be read are passed over.
///
/// # Errors
/// See [`VerifyError`].
pub fn verify(
    keys: &[SecretString],
    headers: &HeaderMap,
    raw_body: &[u8],
    now: DateTime<Utc>,
) -> Result<Verified, VerifyError> {
    let keys: Vec<VerifyingKey> = keys.iter().filter_map(|key| VerifyingKey::parse(key).ok()).collect();
    if keys.is_empty() {
        return Err(VerifyError::NoKey);
    }
    let id = single(headers, ID_HEADER.as_str())
        .filter(|id| can_be_signed(id))
        .ok_or(VerifyError::Header("webhook-id"))?;
    let timestamp =
        single(headers, TIMESTAMP_HEADER.as_str()).ok_or(VerifyError::Header("webhook-timestamp"))?;
    let signed_at = unix_seconds(timestamp).ok_or(VerifyError::Header("webhook-timestamp"))?;
    let signatures = single(headers, SIGNATURE_HEADER.as_str())
        .and_then(signatures)
        .ok_or(VerifyError::Header("webhook-signature"))?;

    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", raw_body];
    // All keys are tried, so that the time taken doesn't tell which one matched.
    let mut matched = false;
    for key in &keys {
        matched |= key.fits(&signatures, &signed);
    }
    if !matched {
        return Err(VerifyError::Signature);
    }
    if (now - signed_at).abs() > WINDOW {
        return Err(VerifyError::Window);
    }
    Ok(Verified { id: id.to_owned(), timestamp: signed_at })
}

/// The versions and bytes of the signatures; one that can't be read fits no key. None where there are too many.
fn signatures(header: &str) -> Option<Vec<(&str, Vec<u8>)>> {
    let entries: Vec<&str> = header.split(' ').filter(|entry| !entry.is_empty()).collect();
    if entries.is_empty() || entries.len() > MOST_SIGNATURES {
        return None;
    }
    Some(
        entries
            .into_iter()
            .filter_map(|entry| entry.split_once(','))
            .filter_map(|(version, signature)| Some((version, BASE64.decode(signature).ok()?)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn key() -> SecretString {
        shared_secret([7; 32])
    }

    fn delivery(keys: &[SigningKey]) -> HeaderMap {
        sign(keys, ID, at(1_700_000_000), BODY).unwrap().into_iter().collect()
    }

    fn signed() -> HeaderMap {
        delivery(&[SigningKey::parse(&key()).unwrap()])
    }

    #[test]
    fn five_minutes_either_way_are_allowed_and_not_a_second_more() {
        for offset in [-300, 0, 300] {
            let verified = verify(&[key()], &signed(), BODY, at(1_700_000_000 + offset)).unwrap();
            assert_eq!(verified, Verified { id: ID.to_owned(), timestamp: at(1_700_000_000) });
        }
        for offset in [-301, 301] {
            assert_eq!(
                verify(&[key()], &signed(), BODY, at(1_700_000_000 + offset)),
                Err(VerifyError::Window)
            );
        }
    }

    #[test]
    fn a_wrong_key_id_time_or_body_is_refused() {
        let now = at(1_700_000_000);
        assert_eq!(verify(&[shared_secret([8; 32])], &signed(), BODY, now), Err(VerifyError::Signature));
        assert_eq!(verify(&[key()], &signed(), br#"{"test":2432232314}"#, now), Err(VerifyError::Signature));
        for (name, value) in [(ID_HEADER, "msg_other"), (TIMESTAMP_HEADER, "1700000001")] {
            let mut headers = signed();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(verify(&[key()], &headers, BODY, now), Err(VerifyError::Signature));
        }
    }

    #[test]
    fn while_keys_are_rotated_either_side_may_have_both() {
        let (old, new) = (shared_secret([1; 32]), shared_secret([2; 32]));
        let both = delivery(&[SigningKey::parse(&old).unwrap(), SigningKey::parse(&new).unwrap()]);
        let only_old = delivery(&[SigningKey::parse(&old).unwrap()]);
        let now = at(1_700_000_000);
        for keys in [std::slice::from_ref(&old), std::slice::from_ref(&new), &[old.clone(), new.clone()]] {
            assert!(verify(keys, &both, BODY, now).is_ok());
        }
        assert!(verify(&[new.clone(), old], &only_old, BODY, now).is_ok());
        assert_eq!(verify(&[new], &only_old, BODY, now), Err(VerifyError::Signature));
    }

    #[test]
    fn a_pair_signs_with_one_key_and_verifies_with_the_other() {
        let seed = BASE64.encode([9; 32]);
        let private = SigningKey::parse(&secret(&format!("whsk_{seed}"))).unwrap();
        let public = private.public_key().unwrap();
        let headers = delivery(&[private]);
        let now = at(1_700_000_000);
        assert!(verify(&[secret(&public)], &headers, BODY, now).is_ok());
        assert_eq!(verify(&[secret(&public)], &headers, b"other", now), Err(VerifyError::Signature));
        // The longer form has the public key behind the seed, and it must be the seed's.
        let with = |public: &[u8]| {
            SigningKey::parse(&secret(&format!("whsk_{}", BASE64.encode([&[9; 32], public].concat()))))
        };
        let bytes = BASE64.decode(&public[PUBLIC.len()..]).unwrap();
        assert_eq!(with(&bytes).unwrap().public_key().unwrap(), public);
        assert!(with(&[3; 32]).is_err());
        // A MAC is no signature of a pair, and the other way round.
        assert_eq!(verify(&[secret(&public)], &signed(), BODY, now), Err(VerifyError::Signature));
        assert_eq!(verify(&[key()], &headers, BODY, now), Err(VerifyError::Signature));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for (text, error) in [
            ("", InvalidKey::Empty),
            ("whsec_", InvalidKey::Empty),
            ("whpk_", InvalidKey::Empty),
            ("whsec_!", InvalidKey::NotBase64),
            ("whsec_c2hvcnQ=", InvalidKey::Length),
            ("whpk_c2hvcnQ=", InvalidKey::Length),
            ("whsk_c2hvcnQ=", InvalidKey::Kind),
        ] {
            assert_eq!(VerifyingKey::parse(&secret(text)).unwrap_err(), error, "{text}");
            assert_eq!(verify(&[secret(text)], &signed(), BODY, at(0)), Err(VerifyError::NoKey), "{text}");
        }
        assert_eq!(SigningKey::parse(&secret("whpk_c2hvcnQ=")).unwrap_err(), InvalidKey::Kind);
        assert_eq!(SigningKey::parse(&secret("whsk_c2hvcnQ=")).unwrap_err(), InvalidKey::Length);
        assert_eq!(verify(&[], &signed(), BODY, at(0)), Err(VerifyError::NoKey));
        assert!(!format!("{:?}", SigningKey::parse(&key()).unwrap()).contains("BwcH"));
    }

    #[test]
    fn missing_doubled_and_malformed_headers_are_refused() {
        let now = at(1_700_000_000);
        let malformed = |headers: &HeaderMap| {
            assert!(
                matches!(verify(&[key()], headers, BODY, now), Err(VerifyError::Header(_))),
                "{headers:?}"
            );
        };
        for name in [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER] {
            let mut missing = signed();
            missing.remove(&name);
            malformed(&missing);
            let mut doubled = signed();
            let value = doubled[&name].clone();
            doubled.append(&name, value);
            malformed(&doubled);
        }
        for (name, value) in [
            (ID_HEADER, ""),
            (ID_HEADER, "a.b"),
            (ID_HEADER, "a b"),
            (TIMESTAMP_HEADER, ""),
            (TIMESTAMP_HEADER, "-1700000000"),
            (TIMESTAMP_HEADER, "1.7e9"),
            (TIMESTAMP_HEADER, "99999999999999999999"),
            (SIGNATURE_HEADER, ""),
            (SIGNATURE_HEADER, " "),
        ] {
            let mut headers = signed();
            headers.insert(name, HeaderValue::from_static(value));
            malformed(&headers);
        }
        let mut many = signed();
        let signature = many[&SIGNATURE_HEADER].to_str().unwrap().to_owned();
        many.insert(SIGNATURE_HEADER, vec![signature; 17].join(" ").parse().unwrap());
        malformed(&many);
    }

    #[test]
    fn an_id_that_could_be_misread_is_not_signed() {
        let keys = [SigningKey::parse(&key()).unwrap()];
        for id in ["", "a.b", "a b", "a\nb", "ä"] {
            assert_eq!(sign(&keys, id, at(0), BODY).unwrap_err(), InvalidId, "{id}");
        }
    }
}
