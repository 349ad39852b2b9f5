//! The schemes' published vectors, read where they are kept.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in tests a panic is the report")]

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, TimeDelta, Utc};
use connector_webhooks::standard;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use serde_json::Value;

/// The vectors of this file; none where they are not kept, which is said with how many cases that leaves out.
fn vectors(file: &str, test: &str, cases: usize) -> Option<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors").join(file);
    let Ok(bytes) = std::fs::read(path) else {
        println!("not run: {test} ({cases} cases)");
        return None;
    };
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

fn at(seconds: &str) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds.parse().unwrap(), 0).unwrap()
}

/// The headers of a case that stand in it under their own names.
fn headers(case: &Value, names: &[&'static str]) -> HeaderMap {
    names
        .iter()
        .map(|name| (HeaderName::from_static(name), HeaderValue::from_str(text(case, name)).unwrap()))
        .collect()
}

const STANDARD: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

#[test]
fn standard_webhooks_vectors_verify() {
    let Some(vectors) = vectors("standard_webhooks.json", "standard_webhooks_vectors_verify", 7) else {
        return;
    };
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 7);
    for case in cases {
        let name = text(case, "name");
        let key = case.get("secret").or(case.get("public_key")).and_then(Value::as_str).unwrap();
        let (headers, body) = (headers(case, &STANDARD), text(case, "body").as_bytes());
        let now = at(text(case, "webhook-timestamp"));
        let keys = [secret(key)];
        let verified = standard::verify(&keys, &headers, body, now);
        assert_eq!(verified.is_ok(), case["valid"].as_bool().unwrap(), "{name}");
        let Ok(verified) = verified else { continue };
        assert_eq!(verified.id, text(case, "webhook-id"), "{name}");
        // What must be refused of each that is right.
        for header in STANDARD {
            let mut missing = headers.clone();
            missing.remove(header);
            assert!(standard::verify(&keys, &missing, body, now).is_err(), "{name} without {header}");
        }
        for seconds in [-301, 301] {
            let then = now + TimeDelta::seconds(seconds);
            assert!(standard::verify(&keys, &headers, body, then).is_err(), "{name} after {seconds} s");
        }
        for key in ["", "whsec_"] {
            assert!(standard::verify(&[secret(key)], &headers, body, now).is_err(), "{name} with {key:?}");
        }
        let again = serde_json::from_slice::<Value>(body).unwrap().to_string();
        assert!(standard::verify(&keys, &headers, again.as_bytes(), now).is_err(), "{name} written anew");
    }
}

#[test]
fn what_standard_webhooks_vectors_sign_is_signed_the_same() {
    let test = "what_standard_webhooks_vectors_sign_is_signed_the_same";
    let Some(vectors) = vectors("standard_webhooks.json", test, 2) else { return };
    let cases = vectors["cases"].as_array().unwrap();
    for name in ["official sign", "ed25519 v1a"] {
        let case = cases.iter().find(|case| case["name"] == name).unwrap();
        let key = case.get("secret").and_then(Value::as_str).map_or_else(
            || format!("whsk_{}", BASE64.encode(hex::decode(text(case, "seed_hex")).unwrap())),
            str::to_owned,
        );
        let key = standard::SigningKey::parse(&secret(&key)).unwrap();
        if let Some(public) = case.get("public_key") {
            assert_eq!(key.public_key().as_deref(), public.as_str());
        }
        let at = at(text(case, "webhook-timestamp"));
        let made =
            standard::sign(&[key], text(case, "webhook-id"), at, text(case, "body").as_bytes()).unwrap();
        assert_eq!(made.into_iter().collect::<HeaderMap>(), headers(case, &STANDARD), "{name}");
    }
}
