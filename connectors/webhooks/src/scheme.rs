use aws_lc_rs::digest;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    cloudevents::{self, CloudEvents},
    event::{EventFields, Reader, Unreadable},
    hmac::{self, Hmac, KeyEncoding},
    jitsi, keycloak,
    keycloak::KeycloakJwt,
    presets, standard, token,
};

/// How a source's requests prove where they come from, and where they say what happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Scheme {
    /// One of [`presets`], by its name.
    Preset {
        /// Its name.
        name: String,
    },
    /// Standard Webhooks 1.0.0, `v1` and `v1a`.
    StandardWebhooks {
        /// What a request says of itself; the id is `webhook-id`.
        #[serde(default = "EventFields::standard")]
        event: EventFields,
    },
    /// The configurable HMAC.
    Hmac(Box<Hmac>),
    /// The secret itself as `Authorization: Bearer …` (RFC 6750).
    Bearer {
        /// What a request says of itself.
        #[serde(default)]
        event: EventFields,
    },
    /// The secret itself in a header of its own.
    Token {
        /// The header.
        #[serde(with = "header_name")]
        header: HeaderName,
        /// What a request says of itself.
        #[serde(default)]
        event: EventFields,
    },
    /// HTTP Basic (RFC 7617); the password is the secret.
    Basic {
        /// The user's name.
        username: String,
        /// What a request says of itself.
        #[serde(default)]
        event: EventFields,
    },
    /// CloudEvents 1.0 with a bearer secret.
    #[serde(rename = "cloudevents")]
    CloudEvents(CloudEvents),
    /// The JWT of the Keycloak extension `ext-event-webhook` (p2-inc), which names the body's hash.
    KeycloakJwt(KeycloakJwt),
    /// Jitsi's `event_sync_component`, with the bearer secret of its `api_headers`.
    JitsiEventSync {},
}

pub(crate) mod header_name {
    use http::HeaderName;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| D::Error::custom(format!("{name:?} is not a header's name")))
    }
}

/// What is wrong with a scheme's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON Pointer into the scheme.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl Fault {
    pub(crate) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// A secret that can't be one of its scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// There is nothing of it.
    #[error("must not be empty")]
    Empty,
    /// It isn't in the form in which this scheme has its secrets.
    #[error("is not in the form that this scheme needs: {0}")]
    Form(&'static str),
}

/// A request without its body.
#[derive(Debug, Clone, Copy)]
pub struct RequestParts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The query, as sent.
    pub query: Option<&'a str>,
}

/// What a verified request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// So many events.
    Deliveries(Vec<Delivery>),
    /// No event: the sender asks whether we are there, and is answered with this.
    Answer(Answer),
}

/// What a sender that asks whether we are there is answered with, and a 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `text/plain`.
    pub content_type: &'static str,
    /// What was asked for.
    pub body: String,
}

/// One event, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What happened.
    pub event_type: String,
    /// What it is about, where it says so: events of one subject are kept in order.
    pub subject: Option<String>,
    /// The delivery's id.
    pub id: Option<DeliveryId>,
    /// What makes it the same event when it comes again.
    pub key: Key,
    /// When it happened, where it says so.
    pub time: Option<DateTime<Utc>>,
    /// Where it happened: the `source` of a CloudEvent.
    pub source: Option<String>,
    /// Its own part of the body, where several came in one request.
    pub body: Option<Bytes>,
}

/// A delivery's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryId {
    /// The id.
    pub value: String,
    /// Whether nobody without the secret can have changed it.
    pub is_proven: bool,
}

/// What makes it the same event when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The sender's id for it, which is proven; with what it is unique in.
    Id(Vec<String>),
    /// What it says.
    Content(Vec<String>),
    /// Its bytes.
    Body,
}

/// Why a request is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It doesn't prove where it comes from: 401.
    #[error("unproven: {0}")]
    Unproven(&'static str),
    /// It is proven, and not what the scheme says: 400.
    #[error("unreadable: {0}")]
    Unreadable(&'static str),
    /// It is proven, and of a content type that the scheme doesn't know: 415.
    #[error("unknown content type")]
    MediaType,
}

impl Refused {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unproven(_) => StatusCode::UNAUTHORIZED,
            Self::Unreadable(_) => StatusCode::BAD_REQUEST,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }
}

impl From<Unreadable> for Refused {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(match error {
            Unreadable::NotJson => "the body is not JSON",
            Unreadable::NoType => "the event has no type",
        })
    }
}

impl From<standard::VerifyError> for Refused {
    fn from(error: standard::VerifyError) -> Self {
        Self::Unproven(match error {
            standard::VerifyError::NoKey => "no usable key is known",
            standard::VerifyError::Header(name) => name,
            standard::VerifyError::Signature => "the signature does not match",
            standard::VerifyError::Window => "the signed time is too far from ours",
        })
    }
}

const MOST_USERNAME: usize = 200;

impl Scheme {
    /// What is wrong with its settings; nothing where it can be used.
    pub fn check(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        match self {
            Self::Preset { name } => {
                if presets::find(name).is_none() {
                    faults.push(Fault::new("/name", "is not the name of a preset"));
                }
            }
            Self::StandardWebhooks { event } | Self::Bearer { event } | Self::Token { event, .. } => {
                event.check("/event", &mut faults);
            }
            Self::Basic { username, event } => {
                // RFC 7617, section 2: the first colon ends the name.
                if username.len() > MOST_USERNAME || username.contains(|c: char| c == ':' || c.is_control()) {
                    faults.push(Fault::new("/username", "must have at most 200 bytes and no colon"));
                }
                event.check("/event", &mut faults);
            }
            Self::Hmac(scheme) => scheme.check(&mut faults),
            Self::CloudEvents(scheme) => scheme.check(&mut faults),
            Self::KeycloakJwt(scheme) => scheme.check(&mut faults),
            Self::JitsiEventSync {} => {}
        }
        faults
    }

    /// The scheme that a preset stands for; any other is itself.
    pub fn resolved(&self) -> &Self {
        match self {
            Self::Preset { name } => presets::find(name).map_or(self, |preset| &preset.scheme),
            other => other,
        }
    }

    /// Verifies a request with any of the `secrets`, and says what it holds.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn verify(
        &self,
        secrets: &[SecretString],
        request: &RequestParts<'_>,
        body: &Bytes,
        now: DateTime<Utc>,
    ) -> Result<Outcome, Refused> {
        let headers = request.headers;
        let one = |delivery| Outcome::Deliveries(vec![delivery]);
        match self.resolved() {
            // A preset that this version doesn't know.
            Self::Preset { .. } => Err(Refused::Unproven("the preset is not known")),
            Self::StandardWebhooks { event } => {
                let verified = standard::verify(secrets, headers, body, now)?;
                let reader = Reader::new(event.format, headers, body)?;
                let id = DeliveryId { value: verified.id, is_proven: true };
                described(&reader, event, Some(id)).map(one)
            }
            Self::Hmac(scheme) => scheme.verify(secrets, headers, body, now),
            Self::Bearer { event } => {
                token::bearer(secrets, headers)?;
                authenticated(event, headers, body).map(one)
            }
            Self::Token { header, event } => {
                token::verify(secrets, headers, header)?;
                authenticated(event, headers, body).map(one)
            }
            Self::Basic { username, event } => {
                token::basic(secrets, username, headers)?;
                authenticated(event, headers, body).map(one)
            }
            Self::CloudEvents(_) => cloudevents::verify(secrets, request, body),
            Self::KeycloakJwt(scheme) => scheme.verify(secrets, headers, body, now).map(one),
            Self::JitsiEventSync {} => {
                token::bearer(secrets, headers)?;
                jitsi::read(headers, body).map(one)
            }
        }
    }

    /// What a GET by which the sender asks whether we are there is answered with; none where this scheme has no such
    /// thing or the request shows none of the `tokens`.
    pub fn challenge(&self, tokens: &[SecretString], request: &RequestParts<'_>) -> Option<Answer> {
        match self.resolved() {
            Self::Hmac(scheme) if *request.method == Method::GET => {
                scheme.hub_challenge(tokens, request.query)
            }
            _ => None,
        }
    }

    /// Whether [`Self::challenge`] needs tokens.
    pub fn has_challenge_token(&self) -> bool {
        matches!(self.resolved(), Self::Hmac(scheme) if scheme.challenge == Some(hmac::Challenge::Hub))
    }

    /// The consent of the abuse-protection handshake; none where this scheme has none, or where it isn't given.
    pub fn consent(&self, request: &RequestParts<'_>, per_minute: u32) -> Option<cloudevents::Consent> {
        match self.resolved() {
            Self::CloudEvents(scheme) if *request.method == Method::OPTIONS => {
                scheme.consent(request.headers, per_minute)
            }
            _ => None,
        }
    }

    /// A secret of this scheme from 32 bytes that nobody can guess; none where only the sender can make one.
    pub fn new_secret(&self, random: [u8; 32]) -> Option<SecretString> {
        let text = match self.resolved() {
            Self::Preset { .. } | Self::KeycloakJwt(_) => return None,
            Self::StandardWebhooks { .. } => return Some(standard::shared_secret(random)),
            Self::Hmac(scheme) => match scheme.key {
                KeyEncoding::Raw => URL_SAFE_NO_PAD.encode(random),
                KeyEncoding::Base64 => STANDARD.encode(random),
                KeyEncoding::Hex => hex::encode(random),
                KeyEncoding::Whsec => return Some(standard::shared_secret(random)),
            },
            Self::Bearer { .. }
            | Self::Token { .. }
            | Self::Basic { .. }
            | Self::CloudEvents(_)
            | Self::JitsiEventSync {} => URL_SAFE_NO_PAD.encode(random),
        };
        Some(SecretString::from(text))
    }

    /// Whether something can be a secret of this scheme.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn check_secret(&self, secret: &SecretString) -> Result<(), InvalidSecret> {
        if secret.expose_secret().is_empty() {
            return Err(InvalidSecret::Empty);
        }
        match self.resolved() {
            Self::StandardWebhooks { .. } => standard::VerifyingKey::parse(secret).map(drop).map_err(|_| {
                InvalidSecret::Form("whsec_ and base64 of 24 to 64 bytes, or whpk_ and base64 of 32")
            }),
            Self::Hmac(scheme) => {
                scheme.key.decode(secret).map(drop).ok_or(InvalidSecret::Form(match scheme.key {
                    KeyEncoding::Raw => "text",
                    KeyEncoding::Base64 => "base64",
                    KeyEncoding::Hex => "hex",
                    KeyEncoding::Whsec => "whsec_ and base64",
                }))
            }
            Self::KeycloakJwt(_) => keycloak::check_keys(secret),
            // A header holds nothing else, RFC 9110, section 5.5; a password may be any text.
            Self::Bearer { .. } | Self::Token { .. } | Self::CloudEvents(_) | Self::JitsiEventSync {} => {
                secret
                    .expose_secret()
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic())
                    .then_some(())
                    .ok_or(InvalidSecret::Form("visible ASCII"))
            }
            Self::Preset { .. } | Self::Basic { .. } => Ok(()),
        }
    }

    /// The headers as they may be kept: without those that are a secret themselves. Signatures stay.
    pub fn keepable(&self, headers: &HeaderMap) -> HeaderMap {
        let mut kept = headers.clone();
        for name in [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE] {
            kept.remove(name);
        }
        if let Self::Token { header, .. } = self.resolved() {
            kept.remove(header);
        }
        kept
    }
}

/// What a request says of itself whose sender has shown the secret: all of it is proven.
fn authenticated(fields: &EventFields, headers: &HeaderMap, body: &[u8]) -> Result<Delivery, Refused> {
    let reader = Reader::new(fields.format, headers, body)?;
    let id = reader.first(&fields.id).map(|(_, value)| DeliveryId { value, is_proven: true });
    described(&reader, fields, id)
}

/// What a request says of itself, by its scheme's fields.
pub(crate) fn described(
    reader: &Reader<'_>,
    fields: &EventFields,
    id: Option<DeliveryId>,
) -> Result<Delivery, Refused> {
    let key = match &id {
        Some(DeliveryId { value, is_proven: true }) => Key::Id(vec![value.clone()]),
        _ => Key::Body,
    };
    Ok(Delivery {
        event_type: reader.event_type(fields)?,
        subject: reader.first(&fields.subject).map(|(_, subject)| subject),
        id,
        key,
        time: reader.time(&fields.time),
        source: None,
        body: None,
    })
}

impl Key {
    /// The SHA-256 of what makes it the same event, of which `body` are the bytes.
    pub fn hash(&self, body: &[u8]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        let (kind, parts): (&str, Vec<&[u8]>) = match self {
            Self::Id(parts) => ("id", parts.iter().map(String::as_bytes).collect()),
            Self::Content(parts) => ("content", parts.iter().map(String::as_bytes).collect()),
            Self::Body => ("body", vec![body]),
        };
        // Each part with its length: where one ends is part of what is hashed.
        for part in std::iter::once(kind.as_bytes()).chain(parts) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }
}
