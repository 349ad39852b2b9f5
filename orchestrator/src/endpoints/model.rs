use chrono::{DateTime, TimeDelta, Utc};
use connector_core::egress::{EgressError, UrlFault};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    auth::Role,
    ids::{DeliveryId, EndpointId, TenantId},
    realtime::EventType,
};

/// The most endpoints of a tenant.
pub(super) const MAX_ENDPOINTS: i64 = 50;
/// The longest description, in characters.
pub const MAX_DESCRIPTION: usize = 200;
/// The most entries of an event filter.
pub(super) const MAX_EVENT_TYPES: usize = 50;
/// The type of the event that somebody sends to try an endpoint.
pub const TEST_EVENT: &str = "endpoint.test";
/// What secrets are sealed for.
pub(super) const SEALED_FOR: &str = "webhook endpoint secret";
/// For how long deliveries are kept.
pub(super) const KEPT: TimeDelta = TimeDelta::days(30);
/// For how long the old secret signs along after a rotation, unless told.
pub(super) const GRACE_HOURS: u32 = 24;
/// The longest time for which it does.
pub(super) const MAX_GRACE_HOURS: u32 = 7 * 24;

/// The waits after a failed attempt; after as many attempts and one more, a delivery has failed.
const WAITS_SECONDS: [i64; 5] = [1, 5, 30, 120, 600];
/// However long an endpoint asks to be left alone, it is tried again after this time.
pub(super) const LONGEST_WAIT: TimeDelta = TimeDelta::hours(1);

/// The wait after this many failures in a row, with up to a quarter of jitter (`random` of 65,535) so that what failed together
/// doesn't return together; none after the last.
pub(super) fn wait(failures: i32, random: u16) -> Option<TimeDelta> {
    let index = usize::try_from(failures.checked_sub(1)?).ok()?;
    let base = WAITS_SECONDS.get(index)? * 1000;
    Some(TimeDelta::milliseconds(base + base * i64::from(random) / (4 * i64::from(u16::MAX))))
}

/// Whether an endpoint is delivered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum EndpointState {
    /// It is.
    Active,
    /// It isn't.
    Disabled,
}

/// Why an endpoint isn't delivered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum DisabledBecause {
    /// Somebody switched it off.
    ByHand,
    /// Nothing has succeeded there for long.
    Failing,
    /// It answered 410.
    Gone,
}

impl DisabledBecause {
    /// As stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByHand => "by_hand",
            Self::Failing => "failing",
            Self::Gone => "gone",
        }
    }
}

/// Where a tenant's events go.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// Where it is.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// What it wants: types (`approval.decided`), all types of a kind (`approval.*`), or everything but `webhook.received` (`*`).
    pub event_types: Vec<String>,
    /// Whether it is delivered to.
    pub state: EndpointState,
    /// Why not.
    pub disabled_because: Option<DisabledBecause>,
    /// Since when not.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Since when nothing has succeeded; none while it does.
    pub failing_since: Option<DateTime<Utc>>,
    /// When a delivery succeeded last.
    pub succeeded_at: Option<DateTime<Utc>>,
    /// When the secret that signs alone from then on takes over; none unless secrets are being rotated.
    pub rotating_until: Option<DateTime<Utc>>,
    /// How often it was changed; the entity tag.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was changed last.
    pub updated_at: DateTime<Utc>,
}

/// What is new.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// Where it is.
    pub url: String,
    /// What it is for.
    pub description: String,
    /// What it wants.
    pub event_types: Vec<String>,
}

/// What is to change; what is left out stays.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangeEndpoint {
    /// Where it is.
    #[schema(max_length = 2048)]
    pub url: Option<String>,
    /// What it is for.
    #[schema(max_length = 200)]
    pub description: Option<String>,
    /// What it wants.
    #[schema(min_items = 1, max_items = 50)]
    pub event_types: Option<Vec<String>>,
    /// Whether it is delivered to.
    pub enabled: Option<bool>,
    /// With `enabled: true`, whether it gets what happened while it wasn't; true unless told, the latest 10,000 events at most.
    pub deliver_missed: Option<bool>,
}

/// What is wrong with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointFault {
    /// The URL.
    Url(UrlFault),
    /// The description is too long or has control characters.
    Description,
    /// There must be from 1 to [`MAX_EVENT_TYPES`] types.
    EventTypeCount,
    /// There is no such type, by its place in the list.
    EventType(usize),
}

/// All types that an endpoint may want: what an owner may see.
fn wanted_types() -> impl Iterator<Item = &'static str> {
    EventType::ALL.iter().map(|event| event.as_str())
}

/// The kinds of events, each with its types.
pub fn event_groups() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    for event_type in wanted_types() {
        let kind = event_type.split('.').next().unwrap_or_default();
        match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, types)) => types.push(event_type),
            None => groups.push((kind, vec![event_type])),
        }
    }
    groups
}

/// Whether there is something that this entry of a filter lets through.
fn means_something(entry: &str) -> bool {
    entry == "*"
        || match entry.strip_suffix(".*") {
            Some(kind) => event_groups().iter().any(|(known, _)| *known == kind),
            None => wanted_types().any(|known| known == entry),
        }
}

/// Whether a filter lets an event of this type through. What was received has to be asked for: where an endpoint leads back to a source,
/// as it does through many a tool, each delivery would lead to the next.
pub(super) fn wants(filter: &[String], event_type: &str) -> bool {
    filter.iter().any(|entry| {
        (entry == "*" && event_type != EventType::WebhookReceived.as_str())
            || entry == event_type
            || entry.strip_suffix('*').is_some_and(|kind| kind.ends_with('.') && event_type.starts_with(kind))
    })
}

/// Checks a filter, and takes what is there twice out of it.
pub(super) fn check_types(types: &[String], faults: &mut Vec<EndpointFault>) -> Vec<String> {
    if types.is_empty() || types.len() > MAX_EVENT_TYPES {
        faults.push(EndpointFault::EventTypeCount);
        return Vec::new();
    }
    let mut checked: Vec<String> = Vec::new();
    for (index, entry) in types.iter().enumerate() {
        if !means_something(entry) {
            faults.push(EndpointFault::EventType(index));
        } else if !checked.contains(entry) {
            checked.push(entry.clone());
        }
    }
    checked
}

/// Checks a description.
pub(super) fn check_description(text: &str, faults: &mut Vec<EndpointFault>) -> String {
    let text = text.trim();
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(char::is_control) {
        faults.push(EndpointFault::Description);
    }
    text.to_owned()
}

/// What the trail says of a URL: where it leads, and not its path, in which some tools put what lets one in.
pub(super) fn shown_url(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| String::new(), |url| crate::config::origin(&url))
}

/// Whether an owner of the tenant may see what only who has this permission may see.
pub(super) fn owner_may_see(permission: Option<crate::auth::Permission>) -> bool {
    permission.is_some_and(|permission| Role::Owner.grants(permission))
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is still to be sent, for the first time or again.
    Pending,
    /// The endpoint has it.
    Delivered,
    /// It was tried often enough, or is not to be sent any more.
    Failed,
}

impl DeliveryState {
    /// As stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Outcome {
    /// Any 2xx.
    Delivered,
    /// Another status.
    Status,
    /// A redirect, which is not followed.
    Redirect,
    /// No complete answer in 15 s.
    Timeout,
    /// The name has no address.
    Name,
    /// The URL may not be called: it leads inside, say.
    Refused,
    /// No connection, or none to the end.
    Connection,
    /// No valid certificate.
    Tls,
    /// What came is no answer by HTTP, or its head is too large.
    Answer,
    /// The process stopped in the middle of it: it may have arrived.
    Interrupted,
    /// It is not to be sent any more: the endpoint was switched on again without what it had missed.
    Skipped,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 11] = [
        Self::Delivered,
        Self::Status,
        Self::Redirect,
        Self::Timeout,
        Self::Name,
        Self::Refused,
        Self::Connection,
        Self::Tls,
        Self::Answer,
        Self::Interrupted,
        Self::Skipped,
    ];

    /// As stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Status => "status",
            Self::Redirect => "redirect",
            Self::Timeout => "timeout",
            Self::Name => "name",
            Self::Refused => "refused",
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::Answer => "answer",
            Self::Interrupted => "interrupted",
            Self::Skipped => "skipped",
        }
    }

    pub(super) fn of_status(status: axum::http::StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Delivered,
            300..=399 => Self::Redirect,
            _ => Self::Status,
        }
    }

    pub(super) fn of_error(error: &EgressError) -> Self {
        match error {
            EgressError::Url(_) | EgressError::Inside | EgressError::Request(_) => Self::Refused,
            EgressError::Name(_) => Self::Name,
            EgressError::Tls(_) | EgressError::ServerName(_) | EgressError::Setup(_) => Self::Tls,
            EgressError::Timeout => Self::Timeout,
            EgressError::TooLarge => Self::Answer,
            EgressError::Http(error) if error.is_parse() => Self::Answer,
            EgressError::Connect(_) | EgressError::Http(_) => Self::Connection,
        }
    }
}

/// One event for one endpoint.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// The header `webhook-id`, the same for each attempt and each endpoint.
    pub message_id: String,
    /// What happened.
    pub event_type: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was sent, an attempt under way included.
    pub attempts: i32,
    /// When it is sent next, while it is pending.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// What came of the last attempt.
    pub last_outcome: Option<Outcome>,
    /// The HTTP status of its answer.
    pub last_status: Option<i16>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was delivered or given up.
    pub finished_at: Option<DateTime<Utc>>,
}

/// One time that a delivery was sent. What the endpoint answered beside its status is kept nowhere.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Which one, from 1.
    pub number: i32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// What came of it; none while it goes on.
    pub outcome: Option<Outcome>,
    /// The HTTP status.
    pub status: Option<i16>,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<i32>,
}

/// Which deliveries a list has.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// Only those that stand so.
    pub state: Option<DeliveryState>,
    /// Only events of this type.
    pub event_type: Option<String>,
    /// Only those before this one.
    pub before: Option<DeliveryId>,
    /// At most so many.
    pub limit: u32,
}

/// The id of an event as endpoints know it: the same wherever it goes, and no other event's.
pub(super) fn message_id(tenant: TenantId, sequence: i64) -> String {
    format!("evt_{}", Uuid::new_v5(&tenant.0, &sequence.to_be_bytes()).simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_filter_lets_through_what_it_names() {
        assert!(wants(&filter(&["*"]), "approval.created"));
        assert!(wants(&filter(&["approval.*"]), "approval.created"));
        assert!(!wants(&filter(&["*"]), "webhook.received"));
        assert!(wants(&filter(&["*", "webhook.received"]), "webhook.received"));
        assert!(wants(&filter(&["webhook.*"]), "webhook.received"));
        assert!(wants(&filter(&["settings.updated", "approval.created"]), "approval.created"));
        for entries in [&["approval.decided"][..], &["consultation.*"], &["approval"], &["app*"], &[]] {
            assert!(!wants(&filter(entries), "approval.created"), "{entries:?}");
        }
    }

    #[test]
    fn only_what_can_happen_is_wanted() {
        let mut faults = Vec::new();
        let checked = check_types(
            &filter(&["approval.*", "approval.created", "approval.*", "*", "endpoint.disabled"]),
            &mut faults,
        );
        assert_eq!(checked, ["approval.*", "approval.created", "*", "endpoint.disabled"]);
        assert!(faults.is_empty());
        check_types(&filter(&["approval.created", "approval.unknown", "a.*", "", "*.created"]), &mut faults);
        assert_eq!(faults, [1, 2, 3, 4].map(EndpointFault::EventType));
        faults.clear();
        check_types(&[], &mut faults);
        check_types(&vec!["*".to_owned(); MAX_EVENT_TYPES + 1], &mut faults);
        assert_eq!(faults, [EndpointFault::EventTypeCount, EndpointFault::EventTypeCount]);
    }

    #[test]
    fn five_waits_with_jitter_and_then_no_more() {
        let waits =
            |random| (1..=6).map(move |failures| wait(failures, random).map(|wait| wait.num_milliseconds()));
        assert_eq!(
            waits(0).collect::<Vec<_>>(),
            [Some(1_000), Some(5_000), Some(30_000), Some(120_000), Some(600_000), None]
        );
        assert_eq!(waits(u16::MAX).next().unwrap(), Some(1_250));
        assert_eq!(wait(0, 0), None);
    }

    #[test]
    fn an_events_id_is_the_same_again_and_no_others() {
        let [one, other] = [1, 2].map(|id| TenantId(Uuid::from_u128(id)));
        assert_eq!(message_id(one, 7), message_id(one, 7));
        assert_ne!(message_id(one, 7), message_id(one, 8));
        assert_ne!(message_id(one, 7), message_id(other, 7));
        assert!(!message_id(one, 7).contains('.'), "Standard Webhooks forbids it");
    }

    #[test]
    fn names_are_those_that_are_stored() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
        for state in [DeliveryState::Pending, DeliveryState::Delivered, DeliveryState::Failed] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn the_trail_has_no_path() {
        assert_eq!(
            shown_url("https://n8n.example.org:8443/webhook/secret?token=1"),
            "https://n8n.example.org:8443"
        );
    }
}
