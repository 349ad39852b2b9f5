//! The schemes that show their secret, and how schemes are written.
#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use chrono::DateTime;
use connector_webhooks::{Delivery, Key, Outcome, Refused, RequestParts, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};

fn scheme(text: &str) -> Scheme {
    serde_json::from_str(text).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn send(scheme: &Scheme, secrets: &[&str], pairs: &[(&str, &str)], body: &str) -> Result<Delivery, Refused> {
    let secrets: Vec<SecretString> = secrets.iter().map(|&secret| secret.to_owned().into()).collect();
    let headers = headers(pairs);
    let request = RequestParts { method: &Method::POST, headers: &headers, query: None };
    let body = Bytes::copy_from_slice(body.as_bytes());
    match scheme.verify(&secrets, &request, &body, DateTime::UNIX_EPOCH)? {
        Outcome::Deliveries(mut events) if events.len() == 1 => Ok(events.remove(0)),
        other => panic!("{other:?}"),
    }
}

fn is_unproven(outcome: &Result<Delivery, Refused>) -> bool {
    matches!(outcome, Err(Refused::Unproven(_)))
}

#[test]
fn a_bearer_secret_is_one_of_the_source_s_and_shown_once() {
    let bearer = scheme(r#"{"type":"bearer","event":{"id":["header:x-id"]}}"#);
    let event =
        send(&bearer, &["old", "new"], &[("authorization", "bearer new"), ("x-id", "7")], "{}").unwrap();
    assert_eq!((event.event_type.as_str(), event.key), ("event", Key::Id(vec!["7".into()])));
    assert!(send(&bearer, &["old", "new"], &[("authorization", "Bearer old")], "{}").is_ok());
    for shown in [
        &[("authorization", "Bearer other")][..],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer")],
        &[("authorization", "Basic new")],
        &[("authorization", "new")],
        &[("authorization", "Bearer new"), ("authorization", "Bearer new")],
        &[],
    ] {
        assert!(is_unproven(&send(&bearer, &["old", "new"], shown, "{}")), "{shown:?}");
    }
    assert!(is_unproven(&send(&bearer, &[""], &[("authorization", "Bearer ")], "{}")));
    assert!(is_unproven(&send(&bearer, &[], &[("authorization", "Bearer new")], "{}")));
}

#[test]
fn a_basic_password_goes_with_its_name() {
    let basic = scheme(r#"{"type":"basic","username":"keycloak"}"#);
    let shown = |credentials: &str| {
        let value = format!("Basic {}", STANDARD.encode(credentials));
        send(&basic, &["pass:word"], &[("authorization", &value)], "{}")
    };
    assert!(shown("keycloak:pass:word").is_ok());
    for credentials in ["keycloak:password", "other:pass:word", "keycloak", ":pass:word", "keycloak:", ""] {
        assert!(is_unproven(&shown(credentials)), "{credentials}");
    }
    assert!(is_unproven(&send(&basic, &["p"], &[("authorization", "Basic !")], "{}")));
}

#[test]
fn jitsi_s_events_are_the_same_when_room_occupant_and_time_are() {
    let jitsi = scheme(r#"{"type":"jitsi-event-sync"}"#);
    let read = |body: &str| send(&jitsi, &["s"], &[("authorization", "Bearer s")], body).unwrap();
    let joined = r#"{"event_name":"muc-occupant-joined","room_name":"r","room_jid":"r@muc","active_occupants_count":1,
        "occupant":{"occupant_jid":"o@x","joined_at":1700000000,"name":"Ada"}}"#;
    let event = read(joined);
    assert_eq!((event.event_type.as_str(), event.subject.as_deref()), ("muc-occupant-joined", Some("r@muc")));
    assert_eq!(event.time.unwrap().timestamp(), 1_700_000_000);
    // What changes between attempts doesn't make it another event; who and when do.
    assert_eq!(read(&joined.replace("count\":1", "count\":2")).key, event.key);
    for other in [
        joined.replace("o@x", "p@x"),
        joined.replace("1700000000", "1700000001"),
        joined.replace("r@muc", "q@muc"),
    ] {
        assert_ne!(read(&other).key, event.key, "{other}");
    }
    let refused = send(&jitsi, &["s"], &[("authorization", "Bearer s")], r#"{"event_name":"x"}"#);
    assert!(matches!(refused, Err(Refused::Unreadable(_))));
}

#[test]
fn what_is_proven_and_not_what_the_scheme_says_is_another_refusal() {
    let bearer = scheme(r#"{"type":"bearer","event":{"type":["body:/type"]}}"#);
    let shown = [("authorization", "Bearer s")];
    for body in ["", "{", "{}", r#"{"type":{}}"#] {
        let refused = send(&bearer, &["s"], &shown, body).unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{body}");
        // Without the secret it is the secret that is wrong.
        assert_eq!(send(&bearer, &["t"], &shown, body).unwrap_err().status(), StatusCode::UNAUTHORIZED);
    }
}

#[test]
fn schemes_are_written_as_they_are_read_and_nothing_is_ignored() {
    for text in [
        r#"{"type":"preset","name":"github"}"#,
        r#"{"type":"standard-webhooks","event":{"format":"json","type":["body:/type"],"time":["body:/timestamp"]}}"#,
        r#"{"type":"token","header":"x-token","event":{"format":"any"}}"#,
        r#"{"type":"basic","username":"u","event":{"format":"json"}}"#,
        r#"{"type":"cloudevents","origins":["a.example"]}"#,
        r#"{"type":"keycloak-jwt","issuer":"i","audience":"a"}"#,
        r#"{"type":"jitsi-event-sync"}"#,
    ] {
        assert_eq!(serde_json::to_string(&scheme(text)).unwrap(), text);
        let more = text.replacen('{', r#"{"other":1,"#, 1);
        assert!(serde_json::from_str::<Scheme>(&more).is_err(), "{more}");
    }
    for text in [r#"{"type":"telepathy"}"#, "{}", r#"{"type":"basic"}"#, r#"{"type":"token","header":"a b"}"#]
    {
        assert!(serde_json::from_str::<Scheme>(text).is_err(), "{text}");
    }
    let pointers =
        |text: &str| -> Vec<String> { scheme(text).check().into_iter().map(|fault| fault.pointer).collect() };
    assert_eq!(pointers(r#"{"type":"preset","name":"unknown"}"#), ["/name"]);
    assert_eq!(pointers(r#"{"type":"basic","username":"a:b"}"#), ["/username"]);
    assert_eq!(pointers(r#"{"type":"keycloak-jwt","issuer":"","audience":""}"#), ["/issuer", "/audience"]);
    assert_eq!(pointers(r#"{"type":"bearer","event":{"type":["form:a"]}}"#), ["/event/type/0"]);
}

#[test]
fn a_secret_that_is_made_is_one_that_its_scheme_takes() {
    for text in [
        r#"{"type":"standard-webhooks"}"#,
        r#"{"type":"hmac","header":"x","key":"raw"}"#,
        r#"{"type":"hmac","header":"x","key":"base64"}"#,
        r#"{"type":"hmac","header":"x","key":"hex"}"#,
        r#"{"type":"hmac","header":"x","key":"whsec"}"#,
        r#"{"type":"bearer"}"#,
        r#"{"type":"token","header":"x"}"#,
        r#"{"type":"basic","username":"u"}"#,
        r#"{"type":"cloudevents"}"#,
        r#"{"type":"jitsi-event-sync"}"#,
    ] {
        let scheme = scheme(text);
        let (one, other) = (scheme.new_secret([1; 32]).unwrap(), scheme.new_secret([2; 32]).unwrap());
        assert!(scheme.check_secret(&one).is_ok(), "{text}");
        assert_ne!(one.expose_secret(), other.expose_secret());
        assert!(one.expose_secret().len() >= 43, "{text}");
        assert!(scheme.check_secret(&String::new().into()).is_err(), "{text}");
    }
    let jwt = scheme(r#"{"type":"keycloak-jwt","issuer":"i","audience":"a"}"#);
    assert!(jwt.new_secret([1; 32]).is_none());
    assert!(jwt.check_secret(&"{}".to_owned().into()).is_err());
    for (text, secret) in [
        (r#"{"type":"standard-webhooks"}"#, "whsec_c2hvcnQ="),
        (r#"{"type":"hmac","header":"x","key":"hex"}"#, "xyz"),
        (r#"{"type":"bearer"}"#, "two words"),
    ] {
        assert!(scheme(text).check_secret(&secret.to_owned().into()).is_err(), "{text}");
    }
}

#[test]
fn what_is_a_secret_itself_is_not_kept_and_signatures_are() {
    let token = scheme(r#"{"type":"token","header":"x-token"}"#);
    let sent = headers(&[
        ("authorization", "Bearer s"),
        ("cookie", "a=b"),
        ("x-token", "s"),
        ("x-hub-signature-256", "sha256=00"),
        ("ce-id", "1"),
    ]);
    let kept = token.keepable(&sent);
    let mut names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["ce-id", "x-hub-signature-256"]);
}

#[test]
fn keys_differ_by_where_their_parts_end_and_what_they_are() {
    let id = |parts: &[&str]| Key::Id(parts.iter().map(|&part| part.to_owned()).collect());
    let keys =
        [id(&["ab", "c"]), id(&["a", "bc"]), id(&["abc"]), Key::Content(vec!["abc".into()]), Key::Body];
    for (index, one) in keys.iter().enumerate() {
        for other in &keys[index + 1..] {
            assert_ne!(one.hash(b"abc"), other.hash(b"abc"), "{one:?} {other:?}");
        }
    }
    assert_eq!(Key::Body.hash(b"x"), Key::Body.hash(b"x"));
    assert_ne!(Key::Body.hash(b"x"), Key::Body.hash(b"y"));
    assert_eq!(id(&["a"]).hash(b"x"), id(&["a"]).hash(b"y"));
}
