//! Tokens signed with RSA, by every rule of Prosody's modules, as libraries of two languages that know nothing of ours read them.
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

/// The same with npm's jsonwebtoken.
const VERIFY_BY_NODE: &str = r#"
const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const jwt = require("jsonwebtoken");

const [directory, token, issuer, audience, subject, room] = process.argv.slice(1);
const must = (holds, what) => { if (!holds) throw new Error(what); };
must(token.split(".").length === 3, "Invalid token");
const { header } = jwt.decode(token, { complete: true });
must(header.typ === "JWT", "Invalid typ");
const file = createHash("sha256").update(header.kid).digest("hex") + ".pem";
const key = readFileSync(join(directory, file), "utf8");
// Signature, and the times against the machine's clock without leeway. Other algorithms are refused by name.
const claims = jwt.verify(token, key, { algorithms: ["RS256"], audience, issuer, subject, clockTolerance: 0 });
for (const name of ["exp", "nbf"]) must(Number.isInteger(claims[name]), name + " must be number");
must(typeof claims.aud === "string", "an audience that is a list matches nothing");
must(claims.room === room, "Room and token mismatched");
for (const value of Object.values(claims.context.user)) {
  must(["string", "number", "boolean"].includes(typeof value), "a null in context.user");
}
const { moderator, context: { user, features } } = claims;
console.log(JSON.stringify({ moderator, user, features }));
"#;

fn output(command: &mut Command) -> Result<Value, String> {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(text(&output.stderr))
    }
}

/// What the libraries of Python and that of Node say.
fn verified(arguments: &[&str]) -> (Result<Value, String>, Result<Value, String>) {
    let of = |name: &str| std::env::var(name).expect("cargo xtask test says where it is");
    let python = output(Command::new(of("CHANCERY_TEST_PYTHON")).arg("-c").arg(VERIFY).args(arguments));
    let node = output(
        Command::new("node")
            .env("NODE_PATH", of("CHANCERY_TEST_NODE_MODULES"))
            .args(["-e", VERIFY_BY_NODE, "--"])
            .args(arguments),
    );
    (python, node)
}

/// What both read of a token that both take.
fn taken(arguments: &[&str]) -> Value {
    let (python, node) = verified(arguments);
    let (python, node) = (python.unwrap(), node.unwrap());
    assert_eq!(python, node, "the two read different claims");
    python
}

/// Asserts that both refuse a token, each in its words.
fn refused(arguments: &[&str], by_python: &str, by_node: &str) {
    let (python, node) = verified(arguments);
    let (python, node) = (python.unwrap_err(), node.unwrap_err());
    assert!(python.contains(by_python), "{python}");
    assert!(node.contains(by_node), "{node}");
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
fn independent_libraries_take_what_is_minted_by_the_key_that_is_published() {
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
    let prosody = "meet.jitsi";
    // While the key is changed, both are good.
    for (key_id, key) in [("cp-2026-10", &old), ("cp-2026-11", &new)] {
        let token = mint(&settings(key_id, key), &room, now);
        let token = token.expose_secret();
        let read = taken(&[keys, token, "chancery", "jitsi", prosody, &room]);
        assert_eq!((&read["moderator"], &read["user"]["moderator"]), (&true.into(), &true.into()));
        assert_eq!(
            (&read["user"]["name"], &read["user"]["affiliation"]),
            (&host().name.into(), &"owner".into())
        );
        let mismatched = "Room and token mismatched";
        refused(&[keys, token, "chancery", "jitsi", prosody, "c-another"], mismatched, mismatched);
        refused(&[keys, token, "another", "jitsi", prosody, &room], "InvalidIssuer", "jwt issuer invalid");
        refused(
            &[keys, token, "chancery", "other", prosody, &room],
            "InvalidAudience",
            "jwt audience invalid",
        );
    }
    // By another key than the one of its id.
    let token = mint(&settings("cp-2026-11", &old), &room, now);
    let of = |token: &SecretString, by_python, by_node| {
        refused(&[keys, token.expose_secret(), "chancery", "jitsi", prosody, &room], by_python, by_node);
    };
    of(&token, "InvalidSignature", "invalid signature");
    // Not yet, and no longer.
    let token = mint(&settings("cp-2026-11", &new), &room, now + TimeDelta::minutes(2));
    of(&token, "ImmatureSignature", "jwt not active");
    let token = mint(&settings("cp-2026-11", &new), &room, now - TimeDelta::minutes(11));
    of(&token, "ExpiredSignature", "jwt expired");

    let app = "vpaas-magic-cookie-0123456789abcdef0123456789abcdef";
    let jaas = JitsiSettings::jaas(app, "4f4910", new.clone(), Duration::from_mins(10)).unwrap();
    let name = key_file_name(&format!("{app}/4f4910"));
    let mut console = PublishedKeys::default();
    console.publish(&format!("{app}/4f4910"), &new).unwrap();
    std::fs::write(directory.path().join(&name), console.file(&name).unwrap()).unwrap();
    let token = mint(&jaas, &room, now);
    let read = taken(&[keys, token.expose_secret(), "chat", "jitsi", app, &room]);
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
