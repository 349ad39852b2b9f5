use chrono::{DateTime, TimeDelta, Utc};
use connector_webhooks::{InvalidSecret, Scheme, presets};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use uuid::Uuid;

use super::mapping::Mapped;
use crate::{
    http::page::TimedPosition,
    ids::{SourceId, TenantId},
};

/// The longest name.
pub(super) const MAX_NAME: usize = 200;
/// The longest account.
pub(super) const MAX_ACCOUNT: usize = 200;
/// The longest secret; a set of public keys is the longest there is.
pub(super) const MAX_SECRET_BYTES: usize = 16 * 1024;
/// More secrets than a rotation has.
pub(super) const MOST_SECRETS: usize = 10;
/// For how long a secret counts after it was replaced, unless told otherwise, in seconds: a day.
pub(super) const GRACE_SECONDS: u32 = 24 * 60 * 60;
/// The longest such time, in seconds: thirty days.
pub const MAX_GRACE_SECONDS: u32 = 30 * 24 * 60 * 60;

/// How a source's requests prove where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceScheme {
    /// Chatwoot's signature; only for the service `chatwoot`.
    Chatwoot,
    /// The homeserver's token of a Matrix application service; only for the service `matrix`.
    Matrix,
    /// One of those that many tools share.
    Shared(Box<Scheme>),
}

impl Serialize for SourceScheme {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named {
            r#type: &'static str,
        }
        match self {
            Self::Chatwoot => Named { r#type: "chatwoot" }.serialize(serializer),
            Self::Matrix => Named { r#type: "matrix" }.serialize(serializer),
            Self::Shared(scheme) => scheme.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for SourceScheme {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let is_alone = value.as_object().is_some_and(|members| members.len() == 1);
        match value.get("type").and_then(Value::as_str) {
            Some("chatwoot") if is_alone => Ok(Self::Chatwoot),
            Some("matrix") if is_alone => Ok(Self::Matrix),
            _ => Scheme::deserialize(value)
                .map(|scheme| Self::Shared(Box::new(scheme)))
                .map_err(D::Error::custom),
        }
    }
}

impl SourceScheme {
    /// The scheme that somebody names in a word: `chatwoot`, `matrix`, a preset, or the type of one that needs no settings.
    pub fn named(name: &str) -> Option<Self> {
        if presets::find(name).is_some() {
            return Some(Self::Shared(Box::new(Scheme::Preset { name: name.to_owned() })));
        }
        serde_json::from_value(serde_json::json!({ "type": name })).ok()
    }

    /// The service that alone may have it, and that may have no other.
    pub(super) fn service(&self) -> Option<&'static str> {
        match self {
            Self::Chatwoot => Some("chatwoot"),
            Self::Matrix => Some("matrix"),
            Self::Shared(_) => None,
        }
    }

    pub(super) fn check(&self) -> Vec<Fault> {
        match self {
            Self::Chatwoot | Self::Matrix => Vec::new(),
            Self::Shared(scheme) => scheme
                .check()
                .into_iter()
                .map(|fault| Fault::new(format!("/scheme{}", fault.pointer), fault.detail))
                .collect(),
        }
    }

    /// A secret from 32 bytes that nobody can guess; none where the tool makes its own.
    pub(super) fn new_secret(&self, random: [u8; 32]) -> Option<SecretString> {
        match self {
            Self::Chatwoot => None,
            Self::Matrix => Some(SecretString::from(hex::encode(random))),
            Self::Shared(scheme) => {
                let from_sender = match &**scheme {
                    Scheme::Preset { name } => {
                        presets::find(name).is_none_or(|preset| preset.secret == presets::SecretFrom::Sender)
                    }
                    _ => false,
                };
                if from_sender { None } else { scheme.new_secret(random) }
            }
        }
    }

    /// Whether a secret can be made here; else the tool makes it.
    pub fn makes_secrets(&self) -> bool {
        self.new_secret([0; 32]).is_some()
    }

    pub(super) fn check_secret(&self, secret: &SecretString) -> Result<(), InvalidSecret> {
        match self {
            Self::Shared(scheme) => scheme.check_secret(secret),
            Self::Chatwoot | Self::Matrix if secret.expose_secret().is_empty() => Err(InvalidSecret::Empty),
            Self::Chatwoot | Self::Matrix => Ok(()),
        }
    }

    /// Whether the sender asks first, with a token that we have given it.
    pub fn has_challenge_token(&self) -> bool {
        matches!(self, Self::Shared(scheme) if scheme.has_challenge_token())
    }
}

/// What becomes of a source's webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// They are verified and taken.
    Active,
    /// They are refused, as those of an unknown source are.
    Paused,
}

impl SourceState {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Paused].into_iter().find(|state| state.as_str() == name)
    }
}

/// How much is taken from a source, besides what holds for every source of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestLimit {
    /// At most so many webhooks, all at once if need be,
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub requests: u32,
    /// in so many seconds.
    #[schema(minimum = 1, maximum = 86400)]
    pub seconds: u32,
}

/// What a secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Webhooks are verified with it.
    #[default]
    Signature,
    /// It is the token that the sender shows when it asks whether we are there.
    Challenge,
}

impl Purpose {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Challenge => "challenge",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Signature, Self::Challenge].into_iter().find(|purpose| purpose.as_str() == name)
    }
}

/// What may be known of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretInfo {
    /// Its id.
    pub id: Uuid,
    /// What it is for.
    pub purpose: Purpose,
    /// When it was given.
    pub created_at: DateTime<Utc>,
    /// It counts from then on,
    pub valid_from: DateTime<Utc>,
    /// until then; none for without an end.
    pub valid_until: Option<DateTime<Utc>>,
}

/// A source as those who manage it see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookSource {
    /// Its id: whoever knows it knows the URL, and needs a secret all the same.
    pub id: SourceId,
    /// The tenant that it speaks for; for the suite, the UUID of zeros.
    pub tenant_id: TenantId,
    /// The tool: `chatwoot`.
    pub service: String,
    /// A name for people.
    pub name: String,
    /// The account in the tool that it speaks for, where there is one.
    pub account: Option<String>,
    /// How its requests prove where they come from.
    #[schema(value_type = Object)]
    pub scheme: SourceScheme,
    /// What becomes of its webhooks.
    pub state: SourceState,
    /// How much is taken from it; none for what holds for every source.
    pub limit: Option<RequestLimit>,
    /// The path that the tool posts to, on this server's public address.
    pub path: String,
    /// Its secrets, the newest first.
    pub secrets: Vec<SecretInfo>,
    /// How often it was changed; the entity tag.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}

/// The path that a source's tool posts to.
pub(super) fn path(service: &str, id: SourceId) -> String {
    format!("/api/v1/webhooks/{service}/{id}")
}

/// What a new source is to be.
#[derive(Debug)]
pub struct NewSource {
    /// The tool.
    pub service: String,
    /// A name for people; the service's where it is empty.
    pub name: String,
    /// The account in the tool.
    pub account: Option<String>,
    /// How its requests prove where they come from.
    pub scheme: SourceScheme,
    /// How much is taken from it.
    pub limit: Option<RequestLimit>,
    /// Its secret. Where there is none, one is made, unless only the tool can make one.
    pub secret: Option<SecretString>,
}

/// A new source, and what is shown of it this once.
#[derive(Debug)]
pub struct Added {
    /// The source.
    pub source: WebhookSource,
    /// The secret, where it was made here.
    pub secret: Option<SecretString>,
    /// The token for the sender's question, where the scheme has one.
    pub challenge_token: Option<SecretString>,
}

/// What is to change of a source; what is left out stays.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeSource {
    /// A name for people.
    #[schema(min_length = 1, max_length = 200)]
    pub name: Option<String>,
    /// What becomes of its webhooks.
    pub state: Option<SourceState>,
    /// How its requests prove where they come from; its secrets must be in the form that it needs.
    #[schema(value_type = Option<Object>)]
    pub scheme: Option<SourceScheme>,
    /// How much is taken from it; null for what holds for every source.
    #[serde(default, deserialize_with = "some")]
    #[schema(value_type = Option<RequestLimit>)]
    pub limit: Option<Option<RequestLimit>>,
}

/// Tells null from what is left out.
#[expect(clippy::option_option, reason = "null is a value of its own here")]
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<RequestLimit>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A secret that is to be added, and what becomes of the others of its purpose.
#[derive(Debug, Default)]
pub struct NewSecret {
    /// What it is for.
    pub purpose: Purpose,
    /// The secret; where there is none, one is made.
    pub value: Option<SecretString>,
    /// For how long the others still count, in seconds; a day unless told.
    pub grace_seconds: Option<u32>,
}

/// A secret that was added, and what is shown of it this once.
#[derive(Debug)]
pub struct Rotated {
    /// The source as it is now.
    pub source: WebhookSource,
    /// What may be known of the secret.
    pub secret: SecretInfo,
    /// The secret, where it was made here.
    pub value: Option<SecretString>,
}

/// Which sources a list shows.
#[derive(Debug, Clone)]
pub struct SourceFilter {
    /// Of these tenants.
    pub tenants: Vec<TenantId>,
    /// Of this service.
    pub service: Option<String>,
    /// In this state.
    pub state: Option<SourceState>,
    /// Older than this.
    pub before: Option<TimedPosition>,
    /// At most so many.
    pub limit: u32,
}

/// What is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON Pointer.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl Fault {
    pub(super) fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// A secret, opened.
#[derive(Debug, Clone)]
pub struct Secret {
    /// What it is for.
    pub purpose: Purpose,
    /// The secret.
    pub value: SecretString,
    /// It counts from then on,
    pub valid_from: DateTime<Utc>,
    /// until then.
    pub valid_until: Option<DateTime<Utc>>,
}

/// How much a secret may be ahead: another replica's clock.
const SKEW: TimeDelta = TimeDelta::seconds(2);

/// An active source as what receives webhooks needs it.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its id, which stands in its URL.
    pub id: SourceId,
    /// The tenant that it speaks for.
    pub tenant: TenantId,
    /// The tool.
    pub service: String,
    /// The account in the tool; empty where there is none.
    pub account: String,
    /// How its requests prove where they come from.
    pub scheme: SourceScheme,
    /// Its secrets, opened: those of today and of the days around it.
    pub secrets: Vec<Secret>,
    /// How much is taken from it.
    pub limit: Option<RequestLimit>,
    /// Whose its inboxes are, where it is the suite's.
    pub(super) mapped: Vec<Mapped>,
}

impl Source {
    /// Whose what comes from an inbox is: the source's tenant's, or that of the inbox, where the source is the suite's. The suite
    /// keeps what is nobody's.
    pub fn tenant_of(&self, inbox: Option<i64>) -> TenantId {
        if self.tenant != TenantId::SUITE {
            return self.tenant;
        }
        Mapped::route(&self.mapped, inbox).map_or(TenantId::SUITE, |mapped| mapped.tenant)
    }

    /// Since when what comes from an inbox has been whose it is now; none where that was always so.
    pub fn held_since(&self, inbox: Option<i64>) -> Option<DateTime<Utc>> {
        Mapped::route(&self.mapped, inbox).map(|mapped| mapped.created_at)
    }

    /// What its service is called in metrics: its own name where it is a tool that we know, and `other` where it isn't. What owners
    /// can make up would be a series of its own for each.
    pub fn label(&self) -> &'static str {
        const KNOWN: [&str; 4] = ["chatwoot", "jitsi", "keycloak", "matrix"];
        let mut known = KNOWN.into_iter().chain(presets::all().map(|(name, _)| name));
        known.find(|known| *known == self.service).unwrap_or("other")
    }

    /// The secrets of this purpose that count now.
    pub fn secrets(&self, purpose: Purpose, now: DateTime<Utc>) -> Vec<SecretString> {
        self.secrets
            .iter()
            .filter(|secret| secret.purpose == purpose)
            .filter(|secret| {
                secret.valid_from <= now + SKEW && secret.valid_until.is_none_or(|until| now < until)
            })
            .map(|secret| secret.value.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemes_are_written_as_they_are_read_and_named_in_a_word() {
        for value in [
            json!({"type": "chatwoot"}),
            json!({"type": "matrix"}),
            json!({"type": "preset", "name": "github"}),
        ] {
            let scheme: SourceScheme = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(&scheme).unwrap(), value);
        }
        for value in
            [json!({"type": "chatwoot", "header": "x"}), json!({"type": "other"}), json!({}), json!([])]
        {
            assert!(serde_json::from_value::<SourceScheme>(value.clone()).is_err(), "{value}");
        }
        assert_eq!(SourceScheme::named("chatwoot"), Some(SourceScheme::Chatwoot));
        for name in ["github", "stripe", "standard-webhooks", "bearer", "cloudevents", "jitsi-event-sync"] {
            assert!(matches!(SourceScheme::named(name), Some(SourceScheme::Shared(_))), "{name}");
        }
        // These need settings.
        for name in ["hmac", "basic", "token", "keycloak-jwt", "nonsense"] {
            assert_eq!(SourceScheme::named(name), None, "{name}");
        }
    }

    #[test]
    fn a_secret_is_made_where_the_tool_doesn_t_make_its_own() {
        let makes = |name: &str| SourceScheme::named(name).unwrap().new_secret([1; 32]).is_some();
        for name in ["matrix", "github", "gitlab", "standard-webhooks", "bearer", "cloudevents"] {
            assert!(makes(name), "{name}");
        }
        for name in ["chatwoot", "stripe", "slack", "meta", "shopify"] {
            assert!(!makes(name), "{name}");
        }
        assert!(SourceScheme::named("meta").unwrap().has_challenge_token());
        assert!(!SourceScheme::named("github").unwrap().has_challenge_token());
    }

    #[test]
    fn a_secret_counts_in_its_time() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let secret = |purpose, value: &str, from: i64, until: Option<i64>| Secret {
            purpose,
            value: value.to_owned().into(),
            valid_from: now + TimeDelta::seconds(from),
            valid_until: until.map(|until| now + TimeDelta::seconds(until)),
        };
        let source = Source {
            id: SourceId(Uuid::nil()),
            tenant: TenantId::SUITE,
            service: "github".into(),
            account: String::new(),
            scheme: SourceScheme::named("github").unwrap(),
            secrets: vec![
                secret(Purpose::Signature, "now", -1, None),
                secret(Purpose::Signature, "ending", -9, Some(1)),
                secret(Purpose::Signature, "ended", -9, Some(0)),
                secret(Purpose::Signature, "to come", 60, None),
                secret(Purpose::Challenge, "token", -1, None),
            ],
            limit: None,
            mapped: Vec::new(),
        };
        let values = |purpose| -> Vec<String> {
            source.secrets(purpose, now).iter().map(|secret| secret.expose_secret().to_owned()).collect()
        };
        assert_eq!(values(Purpose::Signature), ["now", "ending"]);
        assert_eq!(values(Purpose::Challenge), ["token"]);
    }

    #[test]
    fn metrics_know_the_tools_and_no_name_that_an_owner_has_made_up() {
        let label = |service: &str| {
            let source = Source {
                id: SourceId(Uuid::nil()),
                tenant: TenantId::SUITE,
                service: service.into(),
                account: String::new(),
                scheme: SourceScheme::named("bearer").unwrap(),
                secrets: Vec::new(),
                limit: None,
                mapped: Vec::new(),
            };
            source.label()
        };
        for service in ["chatwoot", "matrix", "jitsi", "keycloak", "github", "stripe"] {
            assert_eq!(label(service), service);
        }
        assert_eq!((label("our-shop-17"), label("other")), ("other", "other"));
    }

    #[test]
    fn null_is_told_from_what_is_left_out() {
        let read = |text: &str| serde_json::from_str::<ChangeSource>(text).unwrap().limit;
        assert_eq!(read("{}"), None);
        assert_eq!(read(r#"{"limit":null}"#), Some(None));
        assert_eq!(
            read(r#"{"limit":{"requests":1,"seconds":2}}"#),
            Some(Some(RequestLimit { requests: 1, seconds: 2 }))
        );
    }
}
