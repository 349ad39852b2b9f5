//! What Chatwoot really sent, over the years, and the signature vectors, both read where they are kept.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in tests a panic is the report")]

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta};
use connector_chatwoot::webhook::{
    EventName, SIGNATURE_HEADER, TIMESTAMP_HEADER, VerifyError, content_key, parse, redact, subject, verify,
};
use http::HeaderMap;
use secrecy::SecretString;
use serde_json::Value;

fn shared(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(path)
}

/// The webhook fixtures: name and bytes.
fn fixtures(test: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(shared("fixtures/chatwoot")) else {
        println!("not run: {test} (13 cases)");
        return Vec::new();
    };
    let mut fixtures: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .filter(|(name, _)| {
            !["rest.", "dashboard_app.", "signature_"].iter().any(|other| name.starts_with(other))
        })
        .collect();
    fixtures.sort();
    assert!(fixtures.len() >= 13, "only {} fixtures", fixtures.len());
    fixtures
}

fn check_vector(secret: &str, timestamp: &str, body: &str, signature: &str) {
    let mut headers = HeaderMap::new();
    headers.insert(TIMESTAMP_HEADER, timestamp.parse().unwrap());
    headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
    let now = DateTime::from_timestamp(timestamp.parse().unwrap(), 0).unwrap();
    let secrets = [SecretString::from(secret.to_owned())];
    assert_eq!(verify(&secrets, &headers, body.as_bytes(), now).unwrap().timestamp, now);
    let altered = format!("{body} ");
    assert_eq!(verify(&secrets, &headers, altered.as_bytes(), now), Err(VerifyError::Signature));
    assert_eq!(
        verify(&secrets, &headers, body.as_bytes(), now + TimeDelta::hours(1)),
        Err(VerifyError::Window)
    );
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn the_signature_vectors_verify() {
    let Ok(derived) = std::fs::read(shared("vectors/chatwoot.json")) else {
        return println!("not run: the_signature_vectors_verify (2 cases)");
    };
    let derived: Value = serde_json::from_slice(&derived).unwrap();
    for case in derived["cases"].as_array().unwrap() {
        let (timestamp, signature) = (text(case, "X-Chatwoot-Timestamp"), text(case, "X-Chatwoot-Signature"));
        check_vector(text(case, "secret"), timestamp, text(case, "body"), signature);
    }
    let computed = std::fs::read(shared("fixtures/chatwoot/signature_vectors.json")).unwrap();
    let computed: Value = serde_json::from_slice(&computed).unwrap();
    for case in computed.as_array().unwrap() {
        let (timestamp, signature) = (text(case, "timestamp"), text(case, "x_chatwoot_signature"));
        check_vector(text(case, "secret"), timestamp, text(case, "raw_body"), signature);
    }
}

#[test]
fn every_recorded_event_is_read() {
    for (name, raw) in fixtures("every_recorded_event_is_read") {
        let event = parse(&raw).unwrap_or_else(|error| panic!("{name}: {error}"));
        let value: Value = serde_json::from_slice(&raw).unwrap();
        assert_eq!(event.name.as_str(), value["event"], "{name}");
        match &event.name {
            EventName::MessageCreated | EventName::MessageUpdated => {
                let message = event.message.as_ref().unwrap();
                assert_eq!(message.id, value["id"], "{name}");
                assert_eq!(message.content.as_deref(), value["content"].as_str(), "{name}");
                assert_eq!(message.message_type.as_str(), value["message_type"], "{name}");
                assert_eq!(message.private, value["private"], "{name}");
                assert_eq!(event.conversation.as_ref().unwrap().id, value["conversation"]["id"], "{name}");
                assert_eq!(
                    subject(&event),
                    format!("conversation/{}", value["conversation"]["id"]),
                    "{name}"
                );
                assert!(content_key(&event).is_some(), "{name}");
                assert_eq!(event.account_id, value["account"]["id"].as_i64(), "{name}");
            }
            EventName::ContactUpdated => {
                assert_eq!(subject(&event), "contact/2", "{name}");
                assert!(event.occurred_at.is_some() && content_key(&event).is_some(), "{name}");
            }
            EventName::ConversationTypingOn => {
                assert_eq!(event.conversation.as_ref().unwrap().id, value["conversation"]["id"], "{name}");
                assert_eq!(
                    event.actor.as_ref().unwrap().email.as_deref(),
                    value["user"]["email"].as_str(),
                    "{name}"
                );
            }
            EventName::WebwidgetTriggered => assert_eq!(event.contact.as_ref().unwrap().id, 14, "{name}"),
            _ => {
                let conversation = event.conversation.as_ref().unwrap();
                assert_eq!(conversation.id, value["id"], "{name}");
                assert_eq!(
                    conversation.status.as_ref().map(connector_chatwoot::ConversationStatus::as_str),
                    value["status"].as_str(),
                    "{name}"
                );
                assert_eq!(conversation.inbox_id, value["inbox_id"].as_i64(), "{name}");
                assert_eq!(
                    conversation.contact.as_ref().unwrap().id,
                    value["meta"]["sender"]["id"],
                    "{name}"
                );
                let has_time = value.get("updated_at").is_some();
                assert_eq!(conversation.updated_at.is_some(), has_time, "{name}");
                assert_eq!(content_key(&event).is_some(), has_time, "{name}");
            }
        }
    }
}

#[test]
fn the_added_label_is_among_the_changes() {
    for (name, raw) in fixtures("the_added_label_is_among_the_changes") {
        if name.starts_with("conversation_updated.label_added") {
            let event = parse(&raw).unwrap();
            let labels = event.changed_attributes.iter().find(|change| change.name == "label_list").unwrap();
            assert_eq!(labels.current[0], "escalate-ceo");
            return;
        }
    }
}

#[test]
fn no_credential_survives_redaction_or_is_shown() {
    for (name, raw) in fixtures("no_credential_survives_redaction_or_is_shown") {
        let mut value: Value = serde_json::from_slice(&raw).unwrap();
        redact(&mut value);
        assert!(!value.to_string().contains("pubsub_token"), "{name}");
        assert!(!format!("{:?}", parse(&raw).unwrap()).contains("pubsub"), "{name}");
        // What is redacted reads the same.
        assert_eq!(parse(value.to_string().as_bytes()).unwrap(), parse(&raw).unwrap(), "{name}");
    }
}
