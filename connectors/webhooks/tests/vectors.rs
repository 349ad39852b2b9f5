//! The schemes' published vectors, read where they are kept.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in tests a panic is the report")]

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use connector_webhooks::{Outcome, Refused, RequestParts, Scheme, cloudevents, standard};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
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

/// What a scheme, written as the API takes it, says of a POST.
fn post(
    scheme: &str,
    key: &str,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Outcome, Refused> {
    let scheme: Scheme = serde_json::from_str(scheme).unwrap();
    assert_eq!(scheme.check(), []);
    let request = RequestParts { method: &Method::POST, headers, query: None };
    scheme.verify(&[secret(key)], &request, &Bytes::copy_from_slice(body), now)
}

fn preset(name: &str) -> String {
    format!(r#"{{"type":"preset","name":"{name}"}}"#)
}

fn one_header(name: &str, value: &str) -> HeaderMap {
    let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
}

fn is_unproven(outcome: &Result<Outcome, Refused>) -> bool {
    matches!(outcome, Err(Refused::Unproven(_)))
}

#[test]
fn hmac_sha256_vectors_verify() {
    let Some(vectors) = vectors("hmac_sha256_rfc4231.json", "hmac_sha256_vectors_verify", 6) else { return };
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 6);
    for case in cases {
        let scheme = r#"{"type":"hmac","header":"x-mac","key":"hex","event":{"format":"any"}}"#;
        let data = hex::decode(text(case, "data_hex")).unwrap();
        let verify = |mac: &str| {
            post(scheme, text(case, "key_hex"), &one_header("x-mac", mac), &data, DateTime::UNIX_EPOCH)
        };
        let mac = text(case, "mac_hex");
        assert!(verify(mac).is_ok(), "{mac}");
        assert!(verify(&mac.to_uppercase()).is_ok(), "{mac}");
        for other in [&mac[2..], &format!("{mac}00"), &"00".repeat(32), ""] {
            assert!(is_unproven(&verify(other)), "{mac} as {other}");
        }
    }
}

#[test]
fn hub_signature_vectors_verify() {
    let Some(vectors) = vectors("hub_signature.json", "hub_signature_vectors_verify", 6) else { return };
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 5);
    for case in cases {
        // Not all bodies are events: what is looked at is the signature.
        let header = text(case, "header");
        let scheme =
            format!(r#"{{"type":"hmac","header":"{header}","prefix":"sha256=","event":{{"format":"any"}}}}"#);
        let headers = one_header(header, text(case, "value"));
        let outcome = post(
            &scheme,
            text(case, "secret"),
            &headers,
            text(case, "body").as_bytes(),
            DateTime::UNIX_EPOCH,
        );
        assert_eq!(!is_unproven(&outcome), case["valid"].as_bool().unwrap(), "{case}");
    }
    let handshake = &vectors["meta_verify"];
    let query = text(handshake, "request").split_once('?').unwrap().1;
    let scheme: Scheme = serde_json::from_str(&preset("meta")).unwrap();
    let ask = |method: &Method, tokens: &[SecretString], query: &str| {
        let headers = HeaderMap::new();
        scheme.challenge(tokens, &RequestParts { method, headers: &headers, query: Some(query) })
    };
    let tokens = [secret("meatyhamhock")];
    let answer = ask(&Method::GET, &tokens, query).unwrap();
    assert!(text(handshake, "response").contains(&answer.body) && !answer.body.is_empty());
    assert_eq!(answer.content_type, "text/plain");
    for (method, tokens, query) in [
        (Method::GET, &tokens[..], query.replace("meatyhamhock", "another")),
        (Method::GET, &tokens[..], query.replace("subscribe", "unsubscribe")),
        (Method::GET, &tokens[..], format!("{query}&hub.challenge=7")),
        (Method::GET, &[], query.to_owned()),
        (Method::POST, &tokens[..], query.to_owned()),
    ] {
        assert_eq!(ask(&method, tokens, &query), None, "{method} {query}");
    }
}

#[test]
fn slack_vectors_verify() {
    let Some(vectors) = vectors("slack_v0.json", "slack_vectors_verify", 3) else { return };
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 2);
    for case in cases {
        let time = text(case, "X-Slack-Request-Timestamp");
        let mut headers = one_header("x-slack-signature", text(case, "X-Slack-Signature"));
        headers.insert("x-slack-request-timestamp", time.parse().unwrap());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let (key, body) = (text(case, "secret"), text(case, "body").as_bytes());
        let outcome = post(&preset("slack"), key, &headers, body, at(time));
        assert_eq!(outcome.is_ok(), case["valid"].as_bool().unwrap(), "{case}");
        if let Ok(Outcome::Deliveries(events)) = outcome {
            assert_eq!((events[0].event_type.as_str(), events.len()), ("/webhook-collect", 1));
            for seconds in [-301, 301] {
                let then = at(time) + TimeDelta::seconds(seconds);
                assert!(is_unproven(&post(&preset("slack"), key, &headers, body, then)), "{seconds} s");
            }
        }
    }
    // The question is signed like anything else; its signature is computed here.
    let body = text(&vectors["url_verification"], "body");
    let question: Value = serde_json::from_str(body).unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    let tag = aws_lc_rs::hmac::sign(&key, format!("v0:1531420618:{body}").as_bytes());
    let mut headers = one_header("x-slack-signature", &format!("v0={}", hex::encode(tag)));
    headers.insert("x-slack-request-timestamp", HeaderValue::from_static("1531420618"));
    let outcome = post(&preset("slack"), "secret", &headers, body.as_bytes(), at("1531420618"));
    let Ok(Outcome::Answer(answer)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(answer.body, text(&question, "challenge"));
    let unsigned = post(&preset("slack"), "another", &headers, body.as_bytes(), at("1531420618"));
    assert!(is_unproven(&unsigned));
}

#[test]
fn stripe_vectors_verify() {
    let Some(vectors) = vectors("stripe_v1.json", "stripe_vectors_verify", 5) else { return };
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() >= 5);
    for case in cases {
        let headers = one_header("stripe-signature", text(case, "Stripe-Signature"));
        let (key, body) = (text(case, "secret"), text(case, "body").as_bytes());
        let now = case["now"].as_i64().unwrap();
        let verify = |now: i64| {
            // The SDK's event has no type.
            let scheme = r#"{"type":"hmac","header":"Stripe-Signature","item":"v1","signed":"{timestamp}.{body}","timestamp":"item:t"}"#;
            post(scheme, key, &headers, body, DateTime::from_timestamp(now, 0).unwrap())
        };
        let is_valid = case["valid"].as_bool().unwrap();
        assert_eq!(verify(now).is_ok(), is_valid, "{case}");
        // The preset says the same of the signature.
        let by_preset =
            post(&preset("stripe"), key, &headers, body, DateTime::from_timestamp(now, 0).unwrap());
        assert_eq!(!is_unproven(&by_preset), is_valid, "{case}");
        if is_valid {
            // Stripe's own library takes a time in the future; nobody here does.
            assert!(is_unproven(&verify(now - 301)) && is_unproven(&verify(now + 301)), "{case}");
        }
    }
}

#[test]
fn chatwoot_vectors_verify_by_the_configurable_hmac() {
    let test = "chatwoot_vectors_verify_by_the_configurable_hmac";
    let Some(vectors) = vectors("chatwoot.json", test, 1) else { return };
    let cases = vectors["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let scheme = r#"{"type":"hmac","header":"X-Chatwoot-Signature","prefix":"sha256=","signed":"{timestamp}.{body}",
            "timestamp":"header:X-Chatwoot-Timestamp","event":{"type":["body:/event"],"id":["header:X-Chatwoot-Delivery"]}}"#;
        let time = text(case, "X-Chatwoot-Timestamp");
        let mut headers = one_header("x-chatwoot-signature", text(case, "X-Chatwoot-Signature"));
        headers.insert("x-chatwoot-timestamp", time.parse().unwrap());
        let outcome = post(scheme, text(case, "secret"), &headers, text(case, "body").as_bytes(), at(time));
        assert_eq!(outcome.is_ok(), case["valid"].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn cloudevents_vectors_are_followed() {
    let Some(vectors) = vectors("cloudevents_http.json", "cloudevents_vectors_are_followed", 4) else {
        return;
    };
    // The handshake: what is asked for stands in words.
    let asked = text(&vectors["abuse_handshake"], "request");
    let after = |name: &str| asked.split_once(name).unwrap().1.split_whitespace().next().unwrap();
    let mut headers = one_header(cloudevents::REQUEST_ORIGIN, after("WebHook-Request-Origin: "));
    headers.insert(cloudevents::REQUEST_RATE, after("WebHook-Request-Rate: ").parse().unwrap());
    let scheme: Scheme = serde_json::from_str(r#"{"type":"cloudevents"}"#).unwrap();
    let consent =
        |method: &Method| scheme.consent(&RequestParts { method, headers: &headers, query: None }, 100);
    let granted = consent(&Method::OPTIONS).unwrap();
    let grant = text(&vectors["abuse_handshake"], "grant");
    assert!(grant.contains(&format!("WebHook-Allowed-Origin: {}", granted.origin.to_str().unwrap())));
    assert!(grant.contains(&format!("WebHook-Allowed-Rate: {}", granted.rate.unwrap())));
    assert_eq!(consent(&Method::POST), None);
    // The modes, by the content types that it names.
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let modes = &vectors["modes"];
    let of = |mode: &str| text(modes, mode).strip_prefix("Content-Type: ").unwrap().to_owned();
    for (content_type, body, count) in
        [(of("structured"), event.to_owned(), 1), (of("batched"), format!("[{event},{event}]"), 2)]
    {
        let mut headers = one_header("content-type", &content_type);
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
        let outcome =
            post(r#"{"type":"cloudevents"}"#, "secret", &headers, body.as_bytes(), DateTime::UNIX_EPOCH);
        let Ok(Outcome::Deliveries(events)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(events.len(), count);
        assert!(events.iter().all(|event| event.key == events[0].key), "source and id make it the same");
    }
    let mut headers = one_header("authorization", "Bearer secret");
    for part in text(modes, "binary").split([',', ' ']).filter(|part| part.starts_with("ce-")) {
        let (name, value) = part.split_once(':').unwrap_or((part, "v"));
        headers
            .insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers.insert("ce-specversion", HeaderValue::from_static("1.0"));
    let outcome = post(r#"{"type":"cloudevents"}"#, "secret", &headers, b"{}", DateTime::UNIX_EPOCH);
    assert!(outcome.is_ok(), "{outcome:?} {headers:?}");
}
