use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    http::{
        Problem,
        extract::check_time,
        page::{read_cursor, read_limit},
    },
    ids::{InboxEventId, SourceId, TenantId, UserId},
};

/// Where a received webhook stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventState {
    /// Stored, and not tried yet.
    Pending,
    /// Failed; it is tried again.
    Retrying,
    /// It waits for an earlier one of its subject, which is tried again.
    Parked,
    /// Given up until somebody replays or discards it.
    Dead,
    /// It is about to be processed again, since somebody asked for it.
    Replaying,
    /// It has had its effect.
    Done,
    /// Given up for good, with a reason.
    Discarded,
}

impl EventState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Retrying,
        Self::Parked,
        Self::Dead,
        Self::Replaying,
        Self::Done,
        Self::Discarded,
    ];

    /// As it is called outside.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Parked => "parked",
            Self::Dead => "dead",
            Self::Replaying => "replaying",
            Self::Done => "done",
            Self::Discarded => "discarded",
        }
    }

    /// What is told by the row of its failure, if it has one, and by its pending mark.
    pub(super) fn of(failure: Option<&str>, pending: Option<bool>) -> Self {
        match (failure, pending) {
            (Some("ready"), _) => Self::Retrying,
            (Some("parked"), _) => Self::Parked,
            (Some("discarded"), _) => Self::Discarded,
            (Some("replaying"), _) | (None, Some(true)) => Self::Replaying,
            (Some(_), _) => Self::Dead,
            (None, Some(false)) => Self::Pending,
            (None, None) => Self::Done,
        }
    }
}

/// A received webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InboxEvent {
    /// Its id; later ones have larger ones.
    pub id: InboxEventId,
    /// The tenant that its source speaks for; for the suite, the UUID of zeros.
    pub tenant_id: TenantId,
    /// The source that it came from.
    pub source_id: SourceId,
    /// The source's name.
    pub source_name: Option<String>,
    /// The tool.
    pub service: String,
    /// The tool's own name for what happened: `message_created`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What it is about: `conversation/26`. Webhooks about the same are processed in the order in which they came.
    pub subject: String,
    /// The sender's number of the delivery, where it has one.
    pub delivery_id: Option<String>,
    /// When it happened, where the sender says so.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// Where it stands.
    pub state: EventState,
    /// How often it was tried since it came, or since it was replayed, where it has failed.
    pub attempts: i32,
    /// When it is tried again.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// What kind of cause the failure has: `poison`, `database`, `timeout` or `gone`.
    pub cause: Option<String>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Why it was discarded, or is to be as soon as the attempt under way has ended.
    pub discard_reason: Option<String>,
    /// Who discarded it.
    pub discarded_by: Option<UserId>,
    /// How often it came again.
    pub duplicates: i32,
    /// When it came again last.
    pub last_duplicate_at: Option<DateTime<Utc>>,
    /// When it had its effect last.
    pub processed_at: Option<DateTime<Utc>>,
    /// How often it has had its effect: once, and once more with each replay.
    pub runs: i32,
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, where it is no secret.
    pub value: String,
}

/// A request as it came, but for its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownRequest {
    /// Its headers; those that hold secrets were not kept.
    pub headers: Vec<Header>,
    /// Its body, with secrets replaced by `•••`; none where it isn't text.
    pub body: Option<String>,
    /// The body's length in bytes, as it came.
    pub bytes: u64,
    /// How many values were replaced.
    pub masked: u64,
}

/// An attempt to process a webhook. One that succeeds at once leaves none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Its number.
    pub attempt: i32,
    /// When it began.
    pub begun_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// What came of it: `done`, `failed`, `dead` or `discarded`.
    pub outcome: String,
    /// Whether somebody had asked for it.
    pub replay: bool,
    /// What went wrong, or why it was discarded.
    pub error: Option<String>,
}

/// A row of the timeline: what a webhook told, and what followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// 0 is the webhook itself; the events that it consists of follow, where it is several.
    pub part: i32,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What it is about.
    pub subject: String,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it had its effect last.
    pub processed_at: DateTime<Utc>,
    /// What followed: `{"conversation": id, "jobs": ["kind key"]}`.
    #[schema(value_type = Object)]
    pub effects: serde_json::Value,
}

/// A received webhook with everything that is known of it.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InboxEventDetail {
    /// The webhook.
    #[serde(flatten)]
    pub event: InboxEvent,
    /// What came.
    pub request: ShownRequest,
    /// Attempts that have failed, came after a failure, or were asked for, the latest first; at most 100.
    pub attempts: Vec<Attempt>,
    /// Its rows of the timeline; at most 100.
    pub timeline: Vec<Told>,
}

/// Which received webhooks are meant.
#[derive(Debug, Clone)]
pub struct EventFilter {
    /// Of these tenants.
    pub tenants: Vec<TenantId>,
    /// In this state.
    pub state: Option<EventState>,
    /// From this source.
    pub source: Option<SourceId>,
    /// Of this service.
    pub service: Option<String>,
    /// Of this type.
    pub event_type: Option<String>,
    /// About this.
    pub subject: Option<String>,
    /// Received from this time on.
    pub from: Option<DateTime<Utc>>,
    /// Received before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only those before this one.
    pub before: Option<InboxEventId>,
    /// At most so many.
    pub limit: u32,
}

/// What to read of the inbox.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::inbox) struct EventQuery {
    /// The tenant, by UUID or path, `/suite` for the suite; all of one's own where left out.
    pub tenant_id: Option<String>,
    /// Only in this state.
    pub state: Option<EventState>,
    /// Only from this source.
    pub source_id: Option<SourceId>,
    /// Only of this service.
    #[param(max_length = 40)]
    pub service: Option<String>,
    /// Only of this type: `message_created`.
    #[param(max_length = 200)]
    pub r#type: Option<String>,
    /// Only about this: `conversation/26`.
    #[param(max_length = 200)]
    pub subject: Option<String>,
    /// Received from this time on.
    pub from: Option<DateTime<Utc>>,
    /// Received before this time.
    pub to: Option<DateTime<Utc>>,
    /// Where the last page ended.
    pub cursor: Option<String>,
    /// At most so many, 1 to 100, 50 unless told.
    #[param(minimum = 1, maximum = 100)]
    pub limit: Option<u32>,
}

impl EventQuery {
    /// The same after it was checked.
    pub fn filter(self, tenants: Vec<TenantId>) -> Result<EventFilter, Problem> {
        let mut errors = Vec::new();
        check_time("?from", self.from, &mut errors);
        check_time("?to", self.to, &mut errors);
        if !errors.is_empty() {
            return Err(Problem::invalid(errors));
        }
        Ok(EventFilter {
            tenants,
            state: self.state,
            source: self.source_id,
            service: self.service,
            event_type: self.r#type,
            subject: self.subject,
            from: self.from,
            to: self.to,
            before: read_cursor(self.cursor.as_deref())?.map(InboxEventId),
            limit: read_limit(self.limit)?,
        })
    }
}

/// How busy a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceActivity {
    /// The source.
    pub source: SourceId,
    /// How many of the tenant's 50,000 latest webhooks came from it in the last hour.
    pub last_hour: i64,
    /// The same of the last day.
    pub last_day: i64,
    /// When the last of them came.
    pub last: Option<DateTime<Utc>>,
    /// How many are dead; counted up to 10,000 for the tenant.
    pub dead: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_by_the_failure_and_by_the_pending_mark() {
        let states = [
            (None, None, EventState::Done),
            (None, Some(false), EventState::Pending),
            (None, Some(true), EventState::Replaying),
            (Some("ready"), None, EventState::Retrying),
            (Some("parked"), None, EventState::Parked),
            (Some("dead"), None, EventState::Dead),
            (Some("discarded"), None, EventState::Discarded),
            (Some("replaying"), Some(true), EventState::Replaying),
        ];
        for (failure, pending, state) in states {
            assert_eq!(EventState::of(failure, pending), state, "{failure:?} {pending:?}");
        }
        for state in EventState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
