//! What a verified request says of itself: where its type, its subject, its id and its time stand.

use std::{collections::HashMap, fmt, str::FromStr};

use chrono::{DateTime, Datelike as _, Utc};
use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{header::single, scheme::Fault};

/// Where something stands in a request. Written `header:X-Event`, `body:/a/pointer` (RFC 6901, into a body of JSON) or
/// `form:name` (a field of a form).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A header.
    Header(HeaderName),
    /// A place in a body of JSON.
    Body(String),
    /// A field of a form.
    Form(String),
}

impl Place {
    /// Whether what stands there is part of the body, and so of what is signed.
    pub fn is_in_body(&self) -> bool {
        matches!(self, Self::Body(_) | Self::Form(_))
    }
}

/// A text that names no place in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not header:NAME, body:/POINTER or form:FIELD")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        match text.split_once(':') {
            Some(("header", name)) => name.parse().map(Self::Header).map_err(|_| NoPlace),
            Some(("body", pointer)) if pointer.starts_with('/') => Ok(Self::Body(pointer.to_owned())),
            Some(("form", field)) if !field.is_empty() => Ok(Self::Form(field.to_owned())),
            _ => Err(NoPlace),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(formatter, "header:{name}"),
            Self::Body(pointer) => write!(formatter, "body:{pointer}"),
            Self::Form(field) => write!(formatter, "form:{field}"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|error| serde::de::Error::custom(format!("{text:?} {error}")))
    }
}

/// What the body must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// A form (`application/x-www-form-urlencoded`) where the content type says so, else JSON.
    JsonOrForm,
    /// Anything: nothing is read in it.
    Any,
}

/// What a request says of itself. Each is a list of places, the first of which that has something counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EventFields {
    /// What the body must be.
    pub format: Format,
    /// What happened. Where none is named, an event's type is `event`; where some are, one of them must be there.
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    pub event_type: Vec<Place>,
    /// What it is about: events of one subject are kept in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject: Vec<Place>,
    /// The delivery's id: the same for each attempt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub id: Vec<Place>,
    /// When it happened: RFC 3339, or seconds or milliseconds since 1970.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub time: Vec<Place>,
}

const MOST_PLACES: usize = 10;
/// The type of an event whose scheme names no place for it.
const UNTYPED: &str = "event";

impl EventFields {
    /// The type and the time as Standard Webhooks recommends to write them, unless told otherwise.
    pub fn standard() -> Self {
        let place = |pointer: &str| vec![Place::Body(pointer.to_owned())];
        Self { event_type: place("/type"), time: place("/timestamp"), ..Self::default() }
    }

    pub(crate) fn check(&self, at: &str, faults: &mut Vec<Fault>) {
        for (name, places) in
            [("type", &self.event_type), ("subject", &self.subject), ("id", &self.id), ("time", &self.time)]
        {
            if places.len() > MOST_PLACES {
                faults.push(Fault::new(
                    format!("{at}/{name}"),
                    format!("must name at most {MOST_PLACES} places"),
                ));
            }
            let readable = |place: &Place| match place {
                Place::Header(_) => true,
                Place::Body(_) => self.format != Format::Any,
                Place::Form(_) => self.format == Format::JsonOrForm,
            };
            if let Some(index) = places.iter().position(|place| !readable(place)) {
                faults.push(Fault::new(
                    format!("{at}/{name}/{index}"),
                    "stands in a body that is not read as that",
                ));
            }
        }
    }
}

/// A body that isn't what the scheme says, or has no type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It isn't JSON.
    #[error("the body is not JSON")]
    NotJson,
    /// Nothing says what happened.
    #[error("the event has no type")]
    NoType,
}

enum Content {
    Json(Value),
    Form(HashMap<String, String>),
    Opaque,
}

/// A request whose body has been read as its scheme says.
pub(crate) struct Reader<'a> {
    headers: &'a HeaderMap,
    content: Content,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(format: Format, headers: &'a HeaderMap, body: &[u8]) -> Result<Self, Unreadable> {
        let is_form = || {
            single(headers, header::CONTENT_TYPE.as_str()).is_some_and(|value| {
                let essence = value.split(';').next().unwrap_or_default().trim();
                essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
            })
        };
        let content = match format {
            Format::Any => Content::Opaque,
            Format::JsonOrForm if is_form() => {
                let mut fields = HashMap::new();
                for (name, value) in form_urlencoded::parse(body) {
                    // The first counts: what is there twice can't be made to mean something else by adding to it.
                    fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
                }
                Content::Form(fields)
            }
            Format::Json | Format::JsonOrForm => {
                Content::Json(serde_json::from_slice(body).map_err(|_| Unreadable::NotJson)?)
            }
        };
        Ok(Self { headers, content })
    }

    /// What stands at the first of the places that has something.
    pub(crate) fn first<'p>(&self, places: &'p [Place]) -> Option<(&'p Place, String)> {
        places.iter().find_map(|place| Some((place, self.text(place)?)))
    }

    fn text(&self, place: &Place) -> Option<String> {
        let text = match (place, &self.content) {
            (Place::Header(name), _) => single(self.headers, name.as_str())?.to_owned(),
            (Place::Body(pointer), Content::Json(value)) => match value.pointer(pointer)? {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return None,
            },
            (Place::Form(field), Content::Form(fields)) => fields.get(field)?.clone(),
            _ => return None,
        };
        (!text.is_empty()).then_some(text)
    }

    /// The JSON, where the body is that.
    pub(crate) fn json(&self) -> Option<&Value> {
        match &self.content {
            Content::Json(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn event_type(&self, fields: &EventFields) -> Result<String, Unreadable> {
        match self.first(&fields.event_type) {
            Some((_, name)) => Ok(name),
            None if fields.event_type.is_empty() => Ok(UNTYPED.to_owned()),
            None => Err(Unreadable::NoType),
        }
    }

    pub(crate) fn time(&self, places: &[Place]) -> Option<DateTime<Utc>> {
        self.first(places).and_then(|(_, text)| read_time(&text))
    }
}

/// A time as tools write it: RFC 3339, or a number of seconds or milliseconds since 1970. None that no calendar of ours has
/// (RFC 3339, section 1: the years 0 to 9999).
pub(crate) fn read_time(text: &str) -> Option<DateTime<Utc>> {
    /// Seconds until the year 5138, milliseconds from 1973 on.
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    let time = match text.parse::<i64>() {
        Ok(seconds) if (-MILLISECONDS_FROM..MILLISECONDS_FROM).contains(&seconds) => {
            DateTime::from_timestamp(seconds, 0)
        }
        Ok(milliseconds) => DateTime::from_timestamp_millis(milliseconds),
        Err(_) => DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()),
    };
    time.filter(|time| (1..=9999).contains(&time.year()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_they_are_read() {
        for text in ["header:x-github-event", "body:/entry/0/id", "form:command"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "x", "header:", "header:a b", "body:x", "body:", "form:", "query:a"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }

    #[test]
    fn the_first_place_that_has_something_counts() {
        let mut headers = HeaderMap::new();
        headers.insert("x-event", "push".parse().unwrap());
        let reader = Reader::new(Format::Json, &headers, br#"{"a":{"b":7},"c":"","d":null}"#).unwrap();
        let place = |text: &str| text.parse::<Place>().unwrap();
        let places = [place("body:/c"), place("body:/d"), place("body:/a"), place("body:/a/b")];
        assert_eq!(reader.first(&places).unwrap().1, "7");
        assert_eq!(reader.first(&[place("form:a"), place("header:X-Event")]).unwrap().1, "push");
        assert_eq!(reader.first(&places[..3]), None);
    }

    #[test]
    fn a_form_is_read_where_the_content_type_says_so() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8".parse().unwrap(),
        );
        let reader = Reader::new(Format::JsonOrForm, &headers, b"command=%2Fcollect&command=other").unwrap();
        assert_eq!(reader.first(&["form:command".parse().unwrap()]).unwrap().1, "/collect");
        assert!(Reader::new(Format::Json, &headers, b"command=a").is_err());
        assert!(Reader::new(Format::JsonOrForm, &HeaderMap::new(), b"command=a").is_err());
        assert!(Reader::new(Format::Any, &headers, b"\xff").is_ok());
    }

    #[test]
    fn times_are_read_in_seconds_milliseconds_and_words() {
        for text in ["1700000000", "1700000000000", "2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00"] {
            assert_eq!(read_time(text).unwrap().timestamp(), 1_700_000_000, "{text}");
        }
        assert_eq!(read_time("yesterday"), None);
        for text in ["9223372036854775807", "-9223372036854775808", "-62167219201000", "253402300800000"] {
            assert_eq!(read_time(text), None, "{text}");
        }
    }
}
