//! CloudEvents 1.0 over HTTP: the binding's three modes (`bindings/http-protocol-binding.md`), and what a receiver of webhooks
//! owes (`http-webhook.md`): a bearer secret in the header or the query, and the handshake by which it consents to be posted to.

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, header};
use percent_encoding::percent_decode;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    event::read_time,
    header::single,
    scheme::{Delivery, DeliveryId, Fault, Key, Outcome, Refused, RequestParts},
    token,
};

/// Who asks for consent.
pub const REQUEST_ORIGIN: &str = "webhook-request-origin";
/// How many requests a minute it asks for.
pub const REQUEST_RATE: &str = "webhook-request-rate";
/// Whom consent is given to.
pub const ALLOWED_ORIGIN: &str = "webhook-allowed-origin";
/// How many requests a minute consent is given to.
pub const ALLOWED_RATE: &str = "webhook-allowed-rate";

/// A batch with more events is refused: it could as well be several.
pub const MOST_IN_A_BATCH: usize = 1_000;
const MOST_ORIGINS: usize = 50;

const STRUCTURED: &str = "application/cloudevents";
const BATCHED: &str = "application/cloudevents-batch";

/// The settings of a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloudEvents {
    /// Who may be given consent in the handshake: DNS names; empty for anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
}

/// Consent to be posted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consent {
    /// The value of `WebHook-Allowed-Origin`.
    pub origin: HeaderValue,
    /// The value of `WebHook-Allowed-Rate`, requests a minute, where a rate was asked for.
    pub rate: Option<u32>,
}

/// The attributes that count here.
#[derive(Debug, PartialEq, Eq)]
struct Attributes<'a> {
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    event_type: Cow<'a, str>,
    subject: Option<Cow<'a, str>>,
    time: Option<DateTime<Utc>>,
}

const INVALID: Refused = Refused::Unreadable("the event is not one of CloudEvents 1.0");

impl CloudEvents {
    pub(crate) fn check(&self, faults: &mut Vec<Fault>) {
        if self.origins.len() > MOST_ORIGINS {
            faults.push(Fault::new("/origins", format!("must have at most {MOST_ORIGINS}")));
        }
        for (index, origin) in self.origins.iter().enumerate() {
            let is_name = origin.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
            if !is_name || origin.is_empty() || origin.len() > 253 {
                faults.push(Fault::new(format!("/origins/{index}"), "must be a DNS name"));
            }
        }
    }

    pub(crate) fn consent(&self, headers: &HeaderMap, per_minute: u32) -> Option<Consent> {
        let origin = single(headers, REQUEST_ORIGIN).filter(|origin| !origin.is_empty())?;
        let is_admitted = self.origins.is_empty()
            || self.origins.iter().any(|admitted| admitted.eq_ignore_ascii_case(origin));
        if !is_admitted {
            return None;
        }
        // What was asked for, and no more than there is.
        let rate = if headers.contains_key(REQUEST_RATE) {
            let asked: u32 = single(headers, REQUEST_RATE)?.trim().parse().ok()?;
            Some(asked.clamp(1, per_minute.max(1)))
        } else {
            None
        };
        Some(Consent { origin: HeaderValue::from_str(origin).ok()?, rate })
    }
}

/// What a request holds that shows the secret.
pub(crate) fn verify(
    secrets: &[SecretString],
    request: &RequestParts<'_>,
    body: &Bytes,
) -> Result<Outcome, Refused> {
    prove(secrets, request)?;
    let content_type = single(request.headers, header::CONTENT_TYPE.as_str());
    let essence =
        content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (kind, format) = essence.split_once('+').unwrap_or((&essence, ""));
    let deliveries = match (kind, format) {
        (STRUCTURED, "json") => vec![structured(body, None)?],
        (BATCHED, "json") => batch(body)?,
        _ if essence.starts_with(STRUCTURED) => return Err(Refused::MediaType),
        _ => vec![binary(request.headers, body)?],
    };
    Ok(Outcome::Deliveries(deliveries))
}

/// The secret, in the header or in the query (RFC 6750, sections 2.1 and 2.3): whoever shows it twice is refused.
fn prove(secrets: &[SecretString], request: &RequestParts<'_>) -> Result<(), Refused> {
    let mut in_query = form_urlencoded::parse(request.query.unwrap_or_default().as_bytes())
        .filter(|(name, _)| name == "access_token")
        .map(|(_, value)| value);
    match (in_query.next(), in_query.next()) {
        (None, _) => token::bearer(secrets, request.headers),
        (Some(shown), None) if !request.headers.contains_key(header::AUTHORIZATION) => {
            token::check(secrets, shown.as_bytes())
        }
        _ => Err(Refused::Unproven("the secret is shown twice")),
    }
}

fn delivery(attributes: Attributes<'_>, body: Option<Bytes>) -> Delivery {
    Delivery {
        event_type: attributes.event_type.into_owned(),
        subject: attributes.subject.map(Cow::into_owned),
        id: Some(DeliveryId { value: attributes.id.clone().into_owned(), is_proven: true }),
        // An id is unique in its source.
        key: Key::Id(vec![attributes.source.clone().into_owned(), attributes.id.into_owned()]),
        time: attributes.time,
        source: Some(attributes.source.into_owned()),
        body,
    }
}

fn time(text: &str) -> Result<DateTime<Utc>, Refused> {
    // Only RFC 3339 is a time of CloudEvents.
    let is_number = text.parse::<i64>().is_ok();
    read_time(text).filter(|_| !is_number).ok_or(INVALID)
}

/// The attributes are headers, and the body is the data.
fn binary(headers: &HeaderMap, body: &Bytes) -> Result<Delivery, Refused> {
    let attribute = |name: &str| -> Result<Option<String>, Refused> {
        let mut values = headers.get_all(format!("ce-{name}")).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(INVALID);
        }
        decode(value.as_bytes()).filter(|text| !text.is_empty()).map(Some).ok_or(INVALID)
    };
    if attribute("specversion")?.as_deref() != Some("1.0")
        // The content type says it.
        || attribute("datacontenttype")?.is_some()
        // A delivery holds something (http-webhook.md, section 2.1).
        || body.is_empty()
    {
        return Err(INVALID);
    }
    let attributes = Attributes {
        id: attribute("id")?.ok_or(INVALID)?.into(),
        source: attribute("source")?.ok_or(INVALID)?.into(),
        event_type: attribute("type")?.ok_or(INVALID)?.into(),
        subject: attribute("subject")?.map(Cow::from),
        time: attribute("time")?.as_deref().map(time).transpose()?,
    };
    Ok(delivery(attributes, None))
}

/// The value of an attribute in a header (section 3.1.3.2): quotes undone where it is quoted, then percent-decoded once. None
/// where that gives no UTF-8; longer forms than the shortest are none.
fn decode(value: &[u8]) -> Option<String> {
    let unquoted: Cow<'_, [u8]> = match value {
        [b'"', inner @ .., b'"'] => {
            let mut unquoted = Vec::with_capacity(inner.len());
            let mut bytes = inner.iter();
            while let Some(byte) = bytes.next() {
                match byte {
                    b'\\' => unquoted.push(*bytes.next()?),
                    b'"' => return None,
                    byte => unquoted.push(*byte),
                }
            }
            unquoted.into()
        }
        plain => plain.into(),
    };
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let is_whole = unquoted
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| is_hex(unquoted.get(at + 1)) && is_hex(unquoted.get(at + 2)));
    if !is_whole {
        return None;
    }
    percent_decode(&unquoted).decode_utf8().ok().map(Cow::into_owned)
}

/// An event in the JSON format: the members that count. Extensions may be anything.
#[derive(Deserialize)]
struct JsonEvent<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<Cow<'a, str>>,
}

fn structured(bytes: &[u8], part: Option<Bytes>) -> Result<Delivery, Refused> {
    let event: JsonEvent<'_> = serde_json::from_slice(bytes).map_err(|_| INVALID)?;
    let is_empty = [&event.id, &event.source, &event.event_type].iter().any(|text| text.is_empty());
    if event.specversion != "1.0"
        || is_empty
        || event.subject.as_ref().is_some_and(|subject| subject.is_empty())
        || (event.data.is_some() && event.data_base64.is_some())
    {
        return Err(INVALID);
    }
    let attributes = Attributes {
        id: event.id,
        source: event.source,
        event_type: event.event_type,
        subject: event.subject,
        time: event.time.as_deref().map(time).transpose()?,
    };
    Ok(delivery(attributes, part))
}

/// Each event with its own part of the body.
fn batch(body: &Bytes) -> Result<Vec<Delivery>, Refused> {
    let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| INVALID)?;
    if events.len() > MOST_IN_A_BATCH {
        return Err(Refused::Unreadable("there are too many events in a batch"));
    }
    events
        .into_iter()
        .map(|event| structured(event.get().as_bytes(), Some(body.slice_ref(event.get().as_bytes()))))
        .collect()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    const SECRET: &str = "a-secret";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn send(pairs: &[(&'static str, &str)], body: &str) -> Result<Vec<Delivery>, Refused> {
        let mut headers = headers(pairs);
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer a-secret"));
        let request = RequestParts { method: &Method::POST, headers: &headers, query: None };
        let body = Bytes::copy_from_slice(body.as_bytes());
        match verify(&[SECRET.to_owned().into()], &request, &body)? {
            Outcome::Deliveries(deliveries) => Ok(deliveries),
            Outcome::Answer(_) => panic!("an event is no question"),
        }
    }

    const BINARY: [(&str, &str); 5] = [
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.someevent"),
        ("ce-id", "1234-1234-1234"),
        ("ce-source", "/mycontext/subcontext"),
        ("content-type", "application/json; charset=utf-8"),
    ];

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        BINARY.into_iter().filter(|(known, _)| *known != name).chain([(name, value)]).collect()
    }

    const EVENT: &str = r#"{"specversion":"1.0","type":"com.example.someevent","source":"/mycontext","id":"A234","time":"2018-04-05T17:31:00Z","subject":"thing/1","comexampleextension1":"value","data":{"a":1}}"#;

    #[test]
    fn a_binary_event_has_its_attributes_in_headers() {
        let delivered = send(&with("ce-time", "2018-04-05T03:56:24Z"), "{}").unwrap();
        let [event] = delivered.as_slice() else { panic!() };
        assert_eq!((event.event_type.as_str(), event.subject.as_deref()), ("com.example.someevent", None));
        assert_eq!(event.source.as_deref(), Some("/mycontext/subcontext"));
        assert_eq!(event.key, Key::Id(vec!["/mycontext/subcontext".into(), "1234-1234-1234".into()]));
        assert_eq!(event.time.unwrap().timestamp(), 1_522_900_584);
        for name in ["ce-specversion", "ce-type", "ce-id", "ce-source"] {
            let missing: Vec<_> = BINARY.into_iter().filter(|(known, _)| *known != name).collect();
            assert_eq!(send(&missing, "{}"), Err(INVALID), "{name}");
            assert_eq!(send(&with(name, ""), "{}"), Err(INVALID), "{name}");
        }
        assert_eq!(send(&with("ce-specversion", "0.3"), "{}"), Err(INVALID));
        assert_eq!(send(&with("ce-datacontenttype", "application/json"), "{}"), Err(INVALID));
        assert_eq!(send(&with("ce-time", "yesterday"), "{}"), Err(INVALID));
        assert_eq!(send(&BINARY, ""), Err(INVALID));
        assert_eq!(send(&[BINARY.as_slice(), &[("ce-id", "another")]].concat(), "{}"), Err(INVALID));
    }

    #[test]
    fn attributes_in_headers_are_decoded_once_and_only_from_the_shortest_form() {
        // The binding's own examples, section 3.1.3.2, and what it says of quotes.
        for (sent, read) in [
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("%22quoted%22%25", "\"quoted\"%"),
            ("%2541", "%41"),
            (r#""a \"quoted\" word""#, "a \"quoted\" word"),
            ("€", "€"),
        ] {
            let mut pairs = with("content-type", "application/json");
            pairs.push(("ce-subject", sent));
            assert_eq!(send(&pairs, "{}").unwrap()[0].subject.as_deref(), Some(read), "{sent}");
        }
        for sent in ["%C0%A0", "%E0%80%AF", "%ED%A0%80", "%FF", "%", "%4", "%4G", r#""a"b""#, r#""a\""#] {
            assert_eq!(send(&with("ce-subject", sent), "{}"), Err(INVALID), "{sent}");
        }
    }

    #[test]
    fn a_structured_event_is_json_of_its_own() {
        let kind = [("content-type", "application/cloudevents+json; charset=UTF-8")];
        let event = send(&kind, EVENT).unwrap().remove(0);
        assert_eq!(
            (event.subject.as_deref(), event.source.as_deref()),
            (Some("thing/1"), Some("/mycontext"))
        );
        assert_eq!(event.id, Some(DeliveryId { value: "A234".into(), is_proven: true }));
        assert_eq!(event.time.unwrap().timestamp(), 1_522_949_460);
        for body in [
            "",
            "[]",
            "{}",
            &EVENT.replace("1.0", "0.3"),
            &EVENT.replace("\"A234\"", "\"\""),
            &EVENT.replace("\"A234\"", "7"),
            &EVENT.replace("\"id\"", "\"type\""),
            &EVENT.replace("thing/1", ""),
            &EVENT.replace("\"data\"", "\"data_base64\":\"AA==\",\"data\""),
            &EVENT.replace("2018-04-05T17:31:00Z", "5 April"),
        ] {
            assert_eq!(send(&kind, body), Err(INVALID), "{body}");
        }
        for other in
            ["application/cloudevents+avro", "application/cloudevents", "application/cloudevents-batch+xml"]
        {
            assert_eq!(send(&[("content-type", other)], EVENT), Err(Refused::MediaType), "{other}");
        }
    }

    #[test]
    fn a_batch_is_as_many_events_as_it_says_each_with_its_bytes() {
        let kind = [("content-type", "application/cloudevents-batch+json")];
        let second = EVENT.replace("A234", "B \u{1f600}");
        let events = send(&kind, &format!("[ {EVENT} ,\n{second}]")).unwrap();
        assert_eq!(
            events.iter().map(|event| event.body.clone().unwrap()).collect::<Vec<_>>(),
            [EVENT, &second]
        );
        assert_ne!(events[0].key, events[1].key);
        assert!(send(&kind, "[]").unwrap().is_empty());
        assert_eq!(send(&kind, &format!("[{EVENT},{{}}]")), Err(INVALID));
        let many = vec![EVENT; MOST_IN_A_BATCH + 1].join(",");
        assert!(matches!(send(&kind, &format!("[{many}]")), Err(Refused::Unreadable(_))));
    }

    #[test]
    fn the_secret_is_shown_in_the_header_or_in_the_query_and_once() {
        let secrets = [SECRET.to_owned().into()];
        let mut headers = headers(&BINARY);
        let body = Bytes::from_static(b"{}");
        let sent = |headers: &HeaderMap, query: Option<&str>| {
            let request = RequestParts { method: &Method::POST, headers, query };
            verify(&secrets, &request, &body).map(drop)
        };
        assert!(sent(&headers, Some("a=b&access_token=a-secret")).is_ok());
        for query in [
            None,
            Some("access_token=another"),
            Some("access_token="),
            Some("access_token=a-secret&access_token=a-secret"),
        ] {
            assert!(matches!(sent(&headers, query), Err(Refused::Unproven(_))), "{query:?}");
        }
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer a-secret"));
        assert!(sent(&headers, None).is_ok());
        assert!(sent(&headers, Some("access_token=a-secret")).is_err());
    }

    #[test]
    fn consent_is_given_to_who_asks_for_what_there_is() {
        let anybody = CloudEvents::default();
        let asked = headers(&[(REQUEST_ORIGIN, "eventemitter.example.com"), (REQUEST_RATE, "120")]);
        let consent = anybody.consent(&asked, 100).unwrap();
        assert_eq!((consent.origin.to_str().unwrap(), consent.rate), ("eventemitter.example.com", Some(100)));
        assert_eq!(anybody.consent(&asked, 200).unwrap().rate, Some(120));
        let without = headers(&[(REQUEST_ORIGIN, "eventemitter.example.com")]);
        assert_eq!(anybody.consent(&without, 100).unwrap().rate, None);
        assert_eq!(anybody.consent(&HeaderMap::new(), 100), None);
        assert_eq!(anybody.consent(&headers(&[(REQUEST_ORIGIN, "a"), (REQUEST_RATE, "many")]), 100), None);
        let one = CloudEvents { origins: vec!["EventEmitter.example.com".into()] };
        assert!(one.consent(&asked, 100).is_some());
        assert_eq!(one.consent(&headers(&[(REQUEST_ORIGIN, "other.example.com")]), 100), None);
        let mut faults = Vec::new();
        CloudEvents { origins: vec!["a.b".into(), "https://a.b".into(), String::new()] }.check(&mut faults);
        assert_eq!(
            faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>(),
            ["/origins/1", "/origins/2"]
        );
    }
}
