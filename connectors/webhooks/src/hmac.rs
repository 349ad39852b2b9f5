//! One HMAC with settings, of which most tools' schemes are one: which header, what it holds, what is signed, and with what.
//!
//! ```
//! use bytes::Bytes;
//! use connector_webhooks::{RequestParts, Scheme};
//! use http::{HeaderMap, Method};
//!
//! let scheme: Scheme = serde_json::from_str(
//!     r#"{"type": "hmac", "header": "X-Hub-Signature-256", "prefix": "sha256=", "event": {"format": "any"}}"#,
//! )?;
//! let mut headers = HeaderMap::new();
//! let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
//! headers.insert("x-hub-signature-256", signature.parse()?);
//! let request = RequestParts { method: &Method::POST, headers: &headers, query: None };
//! let secret = "It's a Secret to Everybody".to_owned().into();
//! let now = chrono::DateTime::UNIX_EPOCH;
//! assert!(scheme.verify(&[secret], &request, &Bytes::from_static(b"Hello, World!"), now).is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{fmt, str::FromStr};

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac as mac};
use base64::Engine as _;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{
    event::{EventFields, Format, Place, Reader},
    header::{single, unix_seconds},
    scheme::{Answer, DeliveryId, Fault, Outcome, Refused, described, header_name},
    standard::BASE64,
    token,
};

/// More signatures than a rotation has are not looked at.
const MOST_SIGNATURES: usize = 16;
/// Who may be late: what says its own time in the body, and is repeated for a day.
const MOST_TOLERANCE_SECONDS: u32 = 7 * 24 * 60 * 60;
const MOST_TEXT: usize = 100;

/// The settings of an HMAC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hmac {
    /// The header with the signature.
    #[serde(with = "header_name")]
    pub header: HeaderName,
    /// Where the header is a list (`t=…,v1=…,v1=…`): the name of the items that are signatures. One that fits will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// What stands before the signature (`sha256=`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The hash.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the signature is written.
    #[serde(default)]
    pub encoding: Encoding,
    /// What the secret's text is.
    #[serde(default)]
    pub key: KeyEncoding,
    /// What is signed.
    #[serde(default)]
    pub signed: Template,
    /// Where the time stands, in Unix seconds (in the body: as [`EventFields::time`]). A time that isn't in the body has to be
    /// part of what is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Origin>,
    /// Where the id stands that is part of what is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Origin>,
    /// How far the time may be from ours, either way.
    #[serde(default = "five_minutes")]
    pub tolerance_seconds: u32,
    /// How the sender asks whether we are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<Challenge>,
    /// What a request says of itself.
    #[serde(default)]
    pub event: EventFields,
}

fn five_minutes() -> u32 {
    300
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-1: weak as a hash, and still good in an HMAC. Only for tools that know no other.
    Sha1,
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    fn of_aws_lc(self) -> mac::Algorithm {
        match self {
            Self::Sha1 => mac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => mac::HMAC_SHA256,
            Self::Sha512 => mac::HMAC_SHA512,
        }
    }
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal digits, of either case.
    #[default]
    Hex,
    /// Base64 (RFC 4648, section 4), with or without padding.
    Base64,
}

impl Encoding {
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => BASE64.decode(text).ok(),
        }
    }
}

/// What the text of a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    /// The key itself, character by character.
    #[default]
    Raw,
    /// The key in base64.
    Base64,
    /// The key in hexadecimal digits.
    Hex,
    /// `whsec_` and the key in base64.
    Whsec,
}

impl KeyEncoding {
    /// The key's bytes; none where the secret is in another form, or empty.
    pub(crate) fn decode(self, secret: &SecretString) -> Option<Vec<u8>> {
        let text = secret.expose_secret();
        let key = match self {
            Self::Raw => text.as_bytes().to_vec(),
            Self::Base64 => BASE64.decode(text).ok()?,
            Self::Hex => hex::decode(text).ok()?,
            Self::Whsec => BASE64.decode(text.strip_prefix("whsec_")?).ok()?,
        };
        (!key.is_empty()).then_some(key)
    }
}

/// How a sender asks whether we are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Challenge {
    /// A GET with `hub.mode=subscribe`, `hub.challenge` and `hub.verify_token` (Meta, after WebSub). It isn't signed: it shows a
    /// token that we have given the sender, which is no secret of the scheme.
    Hub,
    /// A signed POST of `{"type": "url_verification", "challenge": "…"}` (Slack).
    UrlVerification,
}

/// Where a time or an id stands: `header:NAME`, `item:NAME` (of the header's list) or, a time, `body:/POINTER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An item of the list in the signature's header.
    Item(String),
    /// Another place.
    Place(Place),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(name) => write!(formatter, "item:{name}"),
            Self::Place(place) => place.fmt(formatter),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix("item:") {
            Some(name) if !name.is_empty() => Ok(Self::Item(name.to_owned())),
            _ => text
                .parse()
                .map(Self::Place)
                .map_err(|error| serde::de::Error::custom(format!("{text:?} {error}, nor item:NAME"))),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Text(String),
    Timestamp,
    Id,
    Body,
}

/// What is signed: text with `{timestamp}`, `{id}` and, once, `{body}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Segment>);

impl Default for Template {
    fn default() -> Self {
        Self(vec![Segment::Body])
    }
}

/// A text that is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// Braces hold another name, or don't pair.
    #[error("may have {{timestamp}}, {{id}} and {{body}} and no other braces")]
    Braces,
    /// The body isn't signed, or twice.
    #[error("must have {{body}} once")]
    Body,
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let mut segments = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(open);
            if !before.is_empty() {
                segments.push(Segment::Text(before.to_owned()));
            }
            let placeholders =
                [("{timestamp}", Segment::Timestamp), ("{id}", Segment::Id), ("{body}", Segment::Body)];
            let (name, segment) = placeholders
                .into_iter()
                .find(|(name, _)| from.starts_with(name))
                .ok_or(InvalidTemplate::Braces)?;
            segments.push(segment);
            rest = &from[name.len()..];
        }
        if !rest.is_empty() {
            segments.push(Segment::Text(rest.to_owned()));
        }
        if segments.iter().filter(|segment| **segment == Segment::Body).count() != 1 {
            return Err(InvalidTemplate::Body);
        }
        Ok(Self(segments))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| {
            formatter.write_str(match segment {
                Segment::Text(text) => text,
                Segment::Timestamp => "{timestamp}",
                Segment::Id => "{id}",
                Segment::Body => "{body}",
            })
        })
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Template {
    fn has(&self, segment: &Segment) -> bool {
        self.0.contains(segment)
    }
}

/// The items of a list `name=value,name=value`. A value may hold further `=`: base64 ends with them.
fn items(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(',').filter_map(|item| item.trim().split_once('='))
}

/// The item of this name, where it is there exactly once.
fn item<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    let mut found = items(header).filter(|(item, _)| *item == name).map(|(_, value)| value);
    found.next().filter(|_| found.next().is_none())
}

/// The time or the id that is signed; none where there is none, or where it stands in the body, which is looked at when it is
/// known to be the sender's.
fn signed_part<'a>(
    origin: Option<&Origin>,
    headers: &'a HeaderMap,
    header: &'a str,
) -> Result<Option<&'a str>, Refused> {
    let text = match origin {
        Some(Origin::Item(name)) => item(header, name),
        Some(Origin::Place(Place::Header(name))) => single(headers, name.as_str()),
        None | Some(Origin::Place(_)) => return Ok(None),
    };
    text.filter(|text| !text.is_empty()).map(Some).ok_or(Refused::Unproven("what is signed is missing"))
}

impl Hmac {
    pub(crate) fn check(&self, faults: &mut Vec<Fault>) {
        for (name, origin, segment) in
            [("timestamp", &self.timestamp, Segment::Timestamp), ("id", &self.id, Segment::Id)]
        {
            let is_signed = self.signed.has(&segment);
            match origin {
                None if is_signed => {
                    faults.push(Fault::new(format!("/{name}"), "is signed and stands nowhere"));
                }
                Some(Origin::Item(_)) if self.item.is_none() => {
                    faults.push(Fault::new(format!("/{name}"), "is an item, and the header is no list"));
                }
                Some(Origin::Place(place)) if place.is_in_body() => {
                    // The body is read when it is known to be the sender's, and it is signed anyway.
                    if is_signed || segment == Segment::Id {
                        faults.push(Fault::new(format!("/{name}"), "can't be taken from the body"));
                    } else if self.event.format != Format::Json {
                        faults.push(Fault::new(
                            format!("/{name}"),
                            "stands in a body that is not read as JSON",
                        ));
                    }
                }
                Some(_) if !is_signed => {
                    faults.push(Fault::new(
                        "/signed",
                        format!("must have {{{name}}}: whoever repeats a request could change it"),
                    ));
                }
                _ => {}
            }
        }
        if !(1..=MOST_TOLERANCE_SECONDS).contains(&self.tolerance_seconds) {
            faults
                .push(Fault::new("/toleranceSeconds", format!("must be from 1 to {MOST_TOLERANCE_SECONDS}")));
        }
        let texts = [("/prefix", &self.prefix), ("/item", self.item.as_ref().unwrap_or(&self.prefix))];
        for (pointer, text) in texts {
            if text.len() > MOST_TEXT {
                faults.push(Fault::new(pointer, format!("must have at most {MOST_TEXT} bytes")));
            }
        }
        if self.item.as_ref().is_some_and(String::is_empty) {
            faults.push(Fault::new("/item", "must not be empty"));
        }
        if self.challenge == Some(Challenge::UrlVerification) && self.event.format == Format::Any {
            faults.push(Fault::new("/challenge", "stands in a body that is not read as JSON"));
        }
        self.event.check("/event", faults);
    }

    /// The signatures in the header; one that can't be read fits nothing.
    fn signatures(&self, header: &str) -> Result<Vec<Vec<u8>>, Refused> {
        let decode = |text: &str| text.strip_prefix(&self.prefix).and_then(|text| self.encoding.decode(text));
        let Some(name) = &self.item else {
            return Ok(decode(header).into_iter().collect());
        };
        let written: Vec<&str> =
            items(header).filter(|(item, _)| item == name).map(|(_, value)| value).collect();
        if written.len() > MOST_SIGNATURES {
            return Err(Refused::Unproven("there are too many signatures"));
        }
        Ok(written.into_iter().filter_map(decode).collect())
    }

    pub(crate) fn verify(
        &self,
        secrets: &[SecretString],
        headers: &HeaderMap,
        body: &Bytes,
        now: DateTime<Utc>,
    ) -> Result<Outcome, Refused> {
        let algorithm = self.algorithm.of_aws_lc();
        let keys: Vec<mac::Key> = secrets
            .iter()
            .filter_map(|secret| self.key.decode(secret))
            .map(|key| mac::Key::new(algorithm, &key))
            .collect();
        if keys.is_empty() {
            return Err(Refused::Unproven("no usable secret is known"));
        }
        let header = single(headers, self.header.as_str())
            .ok_or(Refused::Unproven("the signature is missing or there twice"))?;
        let signatures = self.signatures(header)?;
        let timestamp = signed_part(self.timestamp.as_ref(), headers, header)?;
        let id = signed_part(self.id.as_ref(), headers, header)?;

        // All are compared, so that the time taken doesn't tell which one fits.
        let mut fits = false;
        for key in &keys {
            let mut context = mac::Context::with_key(key);
            for segment in &self.signed.0 {
                context.update(match segment {
                    Segment::Text(text) => text.as_bytes(),
                    Segment::Timestamp => timestamp.unwrap_or_default().as_bytes(),
                    Segment::Id => id.unwrap_or_default().as_bytes(),
                    Segment::Body => body,
                });
            }
            let tag = context.sign();
            for signature in &signatures {
                fits |= verify_slices_are_equal(tag.as_ref(), signature).is_ok();
            }
        }
        if !fits {
            return Err(Refused::Unproven("the signature does not match"));
        }

        let tolerance = TimeDelta::seconds(self.tolerance_seconds.into());
        let check_time = |at: Option<DateTime<Utc>>| match at {
            None => Err(Refused::Unproven("the signed time is missing or malformed")),
            Some(at) if (now - at).abs() > tolerance => {
                Err(Refused::Unproven("the signed time is too far from ours"))
            }
            Some(_) => Ok(()),
        };
        if let Some(timestamp) = timestamp {
            check_time(unix_seconds(timestamp))?;
        }
        let reader = Reader::new(self.event.format, headers, body)?;
        if let Some(Origin::Place(place)) = self.timestamp.as_ref().filter(|_| timestamp.is_none()) {
            check_time(reader.time(std::slice::from_ref(place)))?;
        }
        if self.challenge == Some(Challenge::UrlVerification)
            && let Some(answer) = reader.json().and_then(url_verification)
        {
            return Ok(Outcome::Answer(answer));
        }
        let delivery_id = match reader.first(&self.event.id) {
            Some((place, value)) => {
                let is_proven =
                    place.is_in_body() || matches!(&self.id, Some(Origin::Place(signed)) if signed == place);
                Some(DeliveryId { value, is_proven })
            }
            None => id.map(|id| DeliveryId { value: id.to_owned(), is_proven: true }),
        };
        Ok(Outcome::Deliveries(vec![described(&reader, &self.event, delivery_id)?]))
    }

    /// The answer to a subscription that shows one of the tokens.
    pub(crate) fn hub_challenge(&self, tokens: &[SecretString], query: Option<&str>) -> Option<Answer> {
        if self.challenge != Some(Challenge::Hub) {
            return None;
        }
        let (mut mode, mut token, mut challenge) = (None, None, None);
        for (name, value) in form_urlencoded::parse(query?.as_bytes()) {
            let slot = match name.as_ref() {
                "hub.mode" => &mut mode,
                "hub.verify_token" => &mut token,
                "hub.challenge" => &mut challenge,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        let is_known = token::is_one_of(tokens, token?.as_bytes());
        (is_known && mode? == "subscribe")
            .then_some(challenge?)
            .map(|challenge| Answer { content_type: "text/plain", body: challenge.into_owned() })
    }
}

fn url_verification(body: &Value) -> Option<Answer> {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    (text("type") == Some("url_verification"))
        .then(|| text("challenge"))?
        .map(|challenge| Answer { content_type: "text/plain", body: challenge.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(text: &str) -> Hmac {
        serde_json::from_str(text).unwrap()
    }

    fn faults(text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        scheme(text).check(&mut faults);
        faults.into_iter().map(|fault| fault.pointer).collect()
    }

    #[test]
    fn a_template_is_written_as_it_is_read_and_signs_the_body_once() {
        for text in ["{body}", "{timestamp}.{body}", "v0:{timestamp}:{body}", "{id}{timestamp}{body}!"] {
            assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
        }
        for text in ["", "{timestamp}", "{body}{body}"] {
            assert_eq!(text.parse::<Template>(), Err(InvalidTemplate::Body), "{text}");
        }
        for text in ["{bod}", "{body", "body}", "{{body}}", "{body} {url}"] {
            assert_eq!(text.parse::<Template>(), Err(InvalidTemplate::Braces), "{text}");
        }
    }

    #[test]
    fn settings_that_can_t_work_are_pointed_at() {
        assert!(faults(r#"{"header":"x"}"#).is_empty());
        assert_eq!(faults(r#"{"header":"x","signed":"{timestamp}{body}"}"#), ["/timestamp"]);
        assert_eq!(faults(r#"{"header":"x","timestamp":"header:y"}"#), ["/signed"]);
        assert_eq!(
            faults(r#"{"header":"x","timestamp":"item:t","signed":"{timestamp}{body}"}"#),
            ["/timestamp"]
        );
        assert_eq!(
            faults(r#"{"header":"x","timestamp":"body:/t","signed":"{timestamp}{body}"}"#),
            ["/timestamp"]
        );
        assert_eq!(faults(r#"{"header":"x","id":"body:/t"}"#), ["/id"]);
        assert!(faults(r#"{"header":"x","timestamp":"body:/t"}"#).is_empty());
        assert_eq!(
            faults(
                r#"{"header":"x","toleranceSeconds":0,"event":{"format":"any","type":["body:/t"]},"challenge":"url-verification"}"#
            ),
            ["/toleranceSeconds", "/challenge", "/event/type/0"]
        );
        for text in [
            "{}",
            r#"{"header":"a b"}"#,
            r#"{"header":"x","algorithm":"md5"}"#,
            r#"{"header":"x","timestamp":"query:t"}"#,
            r#"{"header":"x","other":1}"#,
        ] {
            assert!(serde_json::from_str::<Hmac>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_list_is_split_at_the_first_sign_and_an_item_counts_where_it_is_there_once() {
        let header = "t=7, v1=ab==,v0=x,v1=";
        assert_eq!(items(header).collect::<Vec<_>>(), [("t", "7"), ("v1", "ab=="), ("v0", "x"), ("v1", "")]);
        assert_eq!(item(header, "t"), Some("7"));
        assert_eq!(item("t=1,t=2", "t"), None);
        assert_eq!(item(header, "v2"), None);
    }
}
