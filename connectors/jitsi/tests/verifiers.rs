//! Tokens signed with RSA, by every rule of Prosody's modules, as two libraries that know nothing of ours read them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "in tests a panic is the report")]

use std::{process::Command, time::Duration};

use aws_lc_rs::{
    encoding::AsDer as _,
    rsa::{KeyPair, KeySize},
};
use chrono::{DateTime, TimeDelta, Utc};
use connector_core::RandomIds;
use connector_jitsi::{
    Dialect, JitsiError, JitsiSettings, Participant, PublishedKeys, Signing, TokenMinter, key_file_name,
    new_room_name,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Does what `token/util.lib.lua` and `mod_token_verification.lua` do, with PyJWT (OpenSSL) and with python-jose (Python alone).
const VERIFY: &str = r#"
import base64, hashlib, json, os, sys, time
import jwt
from jose import jwt as jose_jwt
from jose.backends.rsa_backend import RSAKey

directory, token, issuer, audience, subject, room = sys.argv[1:]
segments = token.split(".")
assert len(segments) == 3, "Invalid token"
header = jwt.get_unverified_header(token)
assert header["typ"] == "JWT", "Invalid typ"
assert header["alg"] == "RS256", "Invalid or incorrect alg"
file = hashlib.sha256(header["kid"].encode()).hexdigest() + ".pem"
with open(os.path.join(directory, file)) as opened:
    key = opened.read()
# PyJWT: signature, and the times against the machine's clock without leeway.
claims = jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=issuer,
                    options={"require": ["exp", "nbf", "iss", "aud", "sub"]})
# python-jose on the backend that needs no other library than `rsa`.
signed = (segments[0] + "." + segments[1]).encode()
signature = base64.urlsafe_b64decode(segments[2] + "=" * (-len(segments[2]) % 4))
assert RSAKey(key, "RS256").verify(signed, signature), "InvalidSignature"
verified = jose_jwt.get_unverified_claims(token)
assert verified == claims, "the two read different claims"
now = time.time()
for name in ("exp", "nbf"):
    assert type(claims[name]) is int, name + " must be number"
assert claims["nbf"] <= now < claims["exp"]
assert claims["iss"] == issuer and claims["aud"] == audience and claims["sub"] == subject
assert claims["room"] == room, "Room and token mismatched"
for value in claims["context"]["user"].values():
    assert isinstance(value, (str, int, float, bool)), "a null in context.user"
print(json.dumps({"moderator": claims["moderator"], "user": claims["context"]["user"],
                  "features": claims["context"]["features"]}))
"#;

fn python(arguments: &[&str]) -> Result<String, String> {
    let python = std::env::var("CHANCERY_TEST_PYTHON").expect("cargo xtask test says where it is");
    let output = Command::new(python).arg("-c").arg(VERIFY).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A new key in PKCS #8.
fn new_key() -> SecretString {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    pem::encode(&pem::Pem::new("PRIVATE KEY", key.as_der().unwrap().as_ref())).into()
}

fn settings(key_id: &str, private_key_pem: &SecretString) -> JitsiSettings {
    JitsiSettings {
        url: "https://meet.example.org/".parse().unwrap(),
        app_id: "chancery".to_owned(),
        signing: Signing::Rs256 { key_id: key_id.to_owned(), private_key_pem: private_key_pem.clone() },
        audience: "jitsi".to_owned(),
        subject: "meet.jitsi".to_owned(),
        token_lifetime: Duration::from_mins(10),
        dialect: Dialect::Prosody,
    }
}

fn host() -> Participant {
    Participant {
        id: "3f0c7b52-0000-4000-8000-000000000001".to_owned(),
        name: "Cära \"CEO\"".to_owned(),
        email: None,
        avatar: None,
        moderator: true,
    }
}

fn mint(settings: &JitsiSettings, room: &str, now: DateTime<Utc>) -> SecretString {
    TokenMinter::new(settings).unwrap().mint(room, &host(), now, now + TimeDelta::hours(2)).unwrap().token
}

#[test]
#[ignore = "needs the libraries: cargo xtask test"]
fn two_independent_libraries_take_what_is_minted_by_the_key_that_is_published() {
    let now = connector_core::Clock::now(&connector_core::SystemClock);
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (new_key(), new_key());
    let mut published = PublishedKeys::default();
    for (key_id, key) in [("cp-2026-10", &old), ("cp-2026-11", &new)] {
        published.publish(key_id, key).unwrap();
        let name = key_file_name(key_id);
        std::fs::write(directory.path().join(&name), published.file(&name).unwrap()).unwrap();
    }
    let room = new_room_name(&RandomIds);
    let keys = directory.path().to_str().unwrap();
    let verify = |token: &SecretString, issuer, subject, room| {
        python(&[keys, token.expose_secret(), issuer, "jitsi", subject, room])
    };
    // While the key is changed, both are good.
    for (key_id, key) in [("cp-2026-10", &old), ("cp-2026-11", &new)] {
        let token = mint(&settings(key_id, key), &room, now);
        let read: Value =
            serde_json::from_str(&verify(&token, "chancery", "meet.jitsi", &room).unwrap()).unwrap();
        assert_eq!((&read["moderator"], &read["user"]["moderator"]), (&true.into(), &true.into()));
        assert_eq!(
            (&read["user"]["name"], &read["user"]["affiliation"]),
            (&host().name.into(), &"owner".into())
        );
        assert!(verify(&token, "chancery", "meet.jitsi", "c-another").unwrap_err().contains("mismatched"));
        assert!(verify(&token, "another", "meet.jitsi", &room).unwrap_err().contains("InvalidIssuer"));
    }
    // By another key than the one of its id.
    let token = mint(&settings("cp-2026-11", &old), &room, now);
    assert!(verify(&token, "chancery", "meet.jitsi", &room).unwrap_err().contains("InvalidSignature"));
    // Not yet, and no longer.
    let token = mint(&settings("cp-2026-11", &new), &room, now + TimeDelta::minutes(2));
    assert!(verify(&token, "chancery", "meet.jitsi", &room).unwrap_err().contains("ImmatureSignature"));
    let token = mint(&settings("cp-2026-11", &new), &room, now - TimeDelta::minutes(11));
    assert!(verify(&token, "chancery", "meet.jitsi", &room).unwrap_err().contains("ExpiredSignature"));

    let app = "vpaas-magic-cookie-0123456789abcdef0123456789abcdef";
    let jaas = JitsiSettings::jaas(app, "4f4910", new.clone(), Duration::from_mins(10)).unwrap();
    let name = key_file_name(&format!("{app}/4f4910"));
    let mut console = PublishedKeys::default();
    console.publish(&format!("{app}/4f4910"), &new).unwrap();
    std::fs::write(directory.path().join(&name), console.file(&name).unwrap()).unwrap();
    let token = mint(&jaas, &room, now);
    let read: Value = serde_json::from_str(&verify(&token, "chat", app, &room).unwrap()).unwrap();
    assert_eq!(
        (&read["user"]["moderator"], &read["features"]["recording"]),
        (&"true".into(), &"false".into())
    );
}

#[test]
fn a_keys_file_is_named_by_the_hash_of_its_id_and_holds_the_public_half_alone() {
    // printf '%s' cp-2026-11 | sha256sum
    let name = key_file_name("cp-2026-11");
    assert_eq!(name, format!("{}.pem", hex::encode(Sha256::digest(b"cp-2026-11"))));
    assert_eq!(name.len(), 68);
    let key = new_key();
    let mut published = PublishedKeys::default();
    published.publish("cp-2026-11", &key).unwrap();
    let file = published.file(&name).unwrap();
    assert!(
        file.starts_with("-----BEGIN PUBLIC KEY-----\n") && file.ends_with("-----END PUBLIC KEY-----\n"),
        "{file}"
    );
    assert!(!file.contains("PRIVATE"));
    assert!(jsonwebtoken::DecodingKey::from_rsa_pem(file.as_bytes()).is_ok());
    assert_eq!(published.file("cp-2026-11"), None);
    assert_eq!(published.file("../cp-2026-11.pem"), None);
}

#[test]
fn a_key_id_is_never_given_to_another_key() {
    let (first, second) = (new_key(), new_key());
    let mut published = PublishedKeys::default();
    published.publish("cp-2026-11", &first).unwrap();
    published.publish("cp-2026-11", &first).unwrap();
    assert_eq!(published.publish("cp-2026-11", &second), Err(JitsiError::KeyId));
    assert_eq!(published.publish("", &second), Err(JitsiError::KeyId));
    assert_eq!(published.publish("cp-2026-12", &"no key".into()), Err(JitsiError::PrivateKey));
    assert_eq!(TokenMinter::new(&settings("", &first)).unwrap_err(), JitsiError::KeyId);
}

#[test]
fn a_link_of_jaas_leads_to_its_app_and_its_key_is_the_apps() {
    let (app, key) = ("vpaas-magic-cookie-0123abcd", new_key());
    for key_id in ["4f4910", "vpaas-magic-cookie-0123abcd/4f4910"] {
        let settings = JitsiSettings::jaas(app, key_id, key.clone(), Duration::from_mins(10)).unwrap();
        let Signing::Rs256 { key_id, .. } = &settings.signing else { panic!("JaaS takes RS256 only") };
        assert_eq!(key_id, "vpaas-magic-cookie-0123abcd/4f4910");
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let link =
            TokenMinter::new(&settings).unwrap().mint("c-7f3k", &host(), now, now + TimeDelta::hours(1));
        let url = link.unwrap().url;
        assert!(url.as_str().starts_with("https://8x8.vc/vpaas-magic-cookie-0123abcd/c-7f3k?jwt="), "{url}");
    }
    let refused = |app: &str, key_id: &str| {
        JitsiSettings::jaas(app, key_id, key.clone(), Duration::from_mins(10)).unwrap_err()
    };
    assert_eq!(refused("chancery", "4f4910"), JitsiError::AppId);
    assert_eq!(refused("vpaas-magic-cookie-", "4f4910"), JitsiError::AppId);
    assert_eq!(refused("vpaas-magic-cookie-a/b", "4f4910"), JitsiError::AppId);
    assert_eq!(refused(app, "vpaas-magic-cookie-other/4f4910"), JitsiError::KeyId);
    assert_eq!(refused(app, ""), JitsiError::KeyId);
}
