//! What pages show: plain values, already in the reader's language where they are words of ours.

use std::borrow::Borrow;

/// A point in time, for `<time>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// RFC 3339, in UTC: the machine's reading.
    pub iso: String,
    /// As people say it.
    pub human: String,
    /// The exact time in words, shown on hover.
    pub full: String,
    /// Whether `human` is relative to now; such texts are kept current by the script.
    pub relative: bool,
}

/// A link to something with a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTo {
    /// What it is called.
    pub title: String,
    /// Where it leads.
    pub href: String,
}

/// A name and a value, shown side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// One of the values of a `<select>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What is sent.
    pub value: String,
    /// What is shown.
    pub label: String,
}

/// What is wrong with the fields of a form that came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors(Vec<(String, String)>);

impl FieldErrors {
    /// Adds what is wrong with a field, by the field's `name`. The text is already localised.
    #[must_use]
    pub fn with(mut self, field: &str, text: impl Into<String>) -> Self {
        self.0.push((field.to_owned(), text.into()));
        self
    }

    /// What is wrong with a field.
    pub fn of(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == field).map(|(_, text)| text.as_str())
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Field and text of everything that is wrong, in order.
    pub fn all(&self) -> &[(String, String)] {
        &self.0
    }
}

macro_rules! plain_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident => $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant),+ }

        impl $name {
            /// Every value, in the order in which a filter offers them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in forms, addresses and texts.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            #[allow(dead_code, reason = "not every kind is filtered by")]
            pub(crate) fn chosen(self, filter: impl Borrow<Option<Self>>) -> bool {
                *filter.borrow() == Some(self)
            }

            /// The value with that name.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

mod health;
mod inbox;
mod modules;

pub use health::{HealthFinding, HealthPart, HealthVerdict};
pub use inbox::{
    InboxAttempt, InboxEffect, InboxFilter, InboxOutcome, InboxRow, InboxState, MappingRow, OnceShown,
    SecretRow, SecretState, SourceRow,
};
pub use modules::{IconChoice, ModuleRow, RoleChoice};

plain_enum! {
    /// Where an approval stands.
    ApprovalStatus {
        /// Waiting for a decision.
        Pending => "pending",
        /// Decided: yes.
        Approved => "approved",
        /// Decided: no.
        Rejected => "rejected",
        /// Withdrawn by the requester.
        Cancelled => "cancelled",
        /// Not decided in time.
        Expired => "expired",
    }
}

impl ApprovalStatus {
    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Pending => "hourglass",
            Self::Approved => "check",
            Self::Rejected => "cross",
            Self::Cancelled => "arrow-left",
            Self::Expired => "clock",
        }
    }

    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Pending => "waiting",
            Self::Approved => "good",
            Self::Rejected => "bad",
            Self::Cancelled | Self::Expired => "quiet",
        }
    }
}

plain_enum! {
    /// How urgent an approval is.
    Priority {
        /// It blocks somebody now.
        High => "high",
        /// The usual.
        Medium => "medium",
        /// When there is time.
        Low => "low",
    }
}

plain_enum! {
    /// Where a conversation stands in Chatwoot.
    ConversationStatus {
        /// Being worked on.
        Open => "open",
        /// Waiting for the customer, or with a bot.
        Pending => "pending",
        /// Put off until later.
        Snoozed => "snoozed",
        /// Done.
        Resolved => "resolved",
    }
}

impl ConversationStatus {
    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Open => "active",
            Self::Pending => "waiting",
            Self::Snoozed | Self::Resolved => "quiet",
        }
    }

    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Open => "conversations",
            Self::Pending => "hourglass",
            Self::Snoozed => "clock",
            Self::Resolved => "check",
        }
    }
}

plain_enum! {
    /// Where a consultation stands.
    ConsultationStatus {
        /// Going on now.
        Active => "active",
        /// To come.
        Scheduled => "scheduled",
        /// Over.
        Ended => "ended",
        /// It won't take place.
        Cancelled => "cancelled",
    }
}

impl ConsultationStatus {
    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Active => "good",
            Self::Scheduled => "active",
            Self::Ended | Self::Cancelled => "quiet",
        }
    }

    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Active => "video",
            Self::Scheduled => "calendar",
            Self::Ended => "check",
            Self::Cancelled => "cross",
        }
    }
}

plain_enum! {
    /// Whether an endpoint is delivered to.
    EndpointState {
        /// It is, and it works.
        Active => "active",
        /// It is, and nothing arrives.
        Failing => "failing",
        /// It isn't.
        Disabled => "disabled",
    }
}

impl EndpointState {
    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Active => "good",
            Self::Failing => "waiting",
            Self::Disabled => "quiet",
        }
    }

    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Active => "check",
            Self::Failing => "warning",
            Self::Disabled => "cross",
        }
    }
}

plain_enum! {
    /// Where a delivery stands.
    DeliveryState {
        /// Still to be sent, for the first time or again.
        Pending => "pending",
        /// The endpoint has it.
        Delivered => "delivered",
        /// Given up.
        Failed => "failed",
    }
}

impl DeliveryState {
    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Pending => "waiting",
            Self::Delivered => "good",
            Self::Failed => "bad",
        }
    }

    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Pending => "hourglass",
            Self::Delivered => "check",
            Self::Failed => "cross",
        }
    }
}

/// An approval in a list.
#[derive(Debug, Clone)]
pub struct ApprovalRow {
    /// Its UUID.
    pub id: String,
    /// What it asks for.
    pub title: String,
    /// Where it stands.
    pub status: ApprovalStatus,
    /// How urgent it is.
    pub priority: Priority,
    /// The name of who asks.
    pub requested_by: String,
    /// When it was asked for.
    pub created: Time,
    /// When it expires, if it is pending and does.
    pub expires: Option<Time>,
    /// The contact of the conversation that it comes from.
    pub contact: Option<String>,
    /// Whether a consultation is asked for.
    pub consultation_requested: bool,
}

/// A conversation in a list.
#[derive(Debug, Clone)]
pub struct ConversationRow {
    /// Our UUID of it.
    pub id: String,
    /// The number that Chatwoot shows.
    pub display_id: u64,
    /// The customer's name.
    pub contact: String,
    /// The inbox's name.
    pub inbox: String,
    /// Where it stands.
    pub status: ConversationStatus,
    /// Its labels.
    pub labels: Vec<String>,
    /// The beginning of the last message; empty if none is known.
    pub last_message: String,
    /// When that came.
    pub last_message_at: Option<Time>,
    /// Whether an approval of it is pending.
    pub approval_pending: bool,
}

/// A consultation in a list.
#[derive(Debug, Clone)]
pub struct ConsultationRow {
    /// Its UUID.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// Where it stands.
    pub status: ConsultationStatus,
    /// The host's name.
    pub host: String,
    /// How many are invited, with the host.
    pub participants: u64,
    /// When it begins, began or was made: whichever is known first in that order.
    pub at: Time,
}

/// The conversation that an approval comes from.
#[derive(Debug, Clone)]
pub struct ConversationContext {
    /// The customer's name.
    pub contact: String,
    /// The inbox's name.
    pub inbox: String,
    /// The number that Chatwoot shows.
    pub display_id: u64,
    /// Where it stands now.
    pub status: ConversationStatus,
    /// The last message; empty if none is known.
    pub last_message: String,
    /// When that came.
    pub last_message_at: Option<Time>,
    /// Our page about it.
    pub href: String,
    /// Whether it can be opened in its tool.
    pub opens: bool,
}

/// A kind of step in an approval's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryKind {
    /// Somebody asked.
    Requested,
    /// Somebody said yes.
    Approved,
    /// Somebody said no.
    Rejected,
    /// The requester withdrew it.
    Cancelled,
    /// Nobody decided in time.
    Expired,
    /// The private note is in Chatwoot.
    NotePosted,
    /// The team's Matrix room knows.
    TeamNotified,
    /// A consultation was set up.
    ConsultationCreated,
    /// Somebody started it.
    ConsultationStarted,
    /// Somebody ended it.
    ConsultationEnded,
    /// It was cancelled.
    ConsultationCancelled,
}

impl HistoryKind {
    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Requested => "megaphone",
            Self::Approved => "check",
            Self::Rejected => "cross",
            Self::Cancelled => "arrow-left",
            Self::Expired => "clock",
            Self::NotePosted => "conversations",
            Self::TeamNotified => "team-chat",
            Self::ConsultationCreated
            | Self::ConsultationStarted
            | Self::ConsultationEnded
            | Self::ConsultationCancelled => "video",
        }
    }

    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Approved => "good",
            Self::Rejected => "bad",
            Self::Requested => "active",
            _ => "quiet",
        }
    }
}

/// A step in an approval's history.
#[derive(Debug, Clone)]
pub struct HistoryEntry {
    /// What happened.
    pub kind: HistoryKind,
    /// Who did it, where that is a person.
    pub person: Option<String>,
    /// When.
    pub at: Time,
    /// What they wrote, if anything.
    pub note: Option<String>,
}

/// Which approvals a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApprovalFilter {
    /// Only those that stand so.
    pub status: Option<ApprovalStatus>,
    /// Only those so urgent.
    pub priority: Option<Priority>,
}

impl ApprovalFilter {
    /// Whether it leaves anything out.
    pub fn is_active(self) -> bool {
        self.status.is_some() || self.priority.is_some()
    }
}

/// Which entries the audit trail shows; every field may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// An action such as `approval.created`.
    pub action: String,
    /// A person's id, one of [`crate::pages::AuditPage::people`].
    pub person: String,
    /// From this day on (`2026-03-01`).
    pub from: String,
    /// To the end of this day.
    pub to: String,
}

impl AuditFilter {
    /// Whether it leaves anything out.
    pub fn is_active(&self) -> bool {
        [&self.action, &self.person, &self.from, &self.to].iter().any(|field| !field.is_empty())
    }
}

/// A change of one field.
#[derive(Debug, Clone)]
pub struct AuditChange {
    /// The field's name in the API, such as `requestedBy`.
    pub field: String,
    /// Its value before, if it had one.
    pub old: Option<String>,
    /// Its value after, if it has one.
    pub new: Option<String>,
}

/// An entry of the audit trail.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Its UUID.
    pub id: String,
    /// The action's code, such as `approval.created`.
    pub action: String,
    /// Who did it; a job's name where it was no person.
    pub person: String,
    /// What it was done to, in words: an approval's title, say, or the kind and id.
    pub resource: String,
    /// Our page about that.
    pub resource_href: Option<String>,
    /// When.
    pub at: Time,
    /// The day, as a heading (see [`crate::Ui::day`]); entries of a day stand together.
    pub day: String,
    /// What changed.
    pub changes: Vec<AuditChange>,
    /// What else is known: request id, address, source.
    pub metadata: Vec<Fact>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_go_both_ways() {
        for status in ApprovalStatus::ALL {
            assert_eq!(ApprovalStatus::parse(status.as_str()), Some(*status));
        }
        for priority in Priority::ALL {
            assert_eq!(Priority::parse(priority.as_str()), Some(*priority));
        }
        assert_eq!(Priority::parse("urgent"), None);
    }

    #[test]
    fn errors_are_found_by_the_fields_name() {
        let errors = FieldErrors::default().with("reason", "Say why.");
        assert_eq!(errors.of("reason"), Some("Say why."));
        assert_eq!(errors.of("title"), None);
        assert!(!errors.is_empty());
    }
}

/// A sign-in of the person's.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// What it is called in forms.
    pub handle: String,
    /// The browser, such as `Firefox on Linux`; empty where it didn't say.
    pub browser: String,
    /// When it began.
    pub started: Time,
    /// When it was last used.
    pub used: Time,
    /// The address from which it began, where it is known.
    pub opened_from: Option<String>,
    /// The address from which it was last used.
    pub used_from: Option<String>,
    /// Whether it is the one that looks.
    pub is_this: bool,
}

/// A sign-in of a tenant's member, as an owner sees it.
#[derive(Debug, Clone)]
pub struct MemberSignIn {
    /// The member's id.
    pub member: String,
    /// The member's name.
    pub name: String,
    /// What the sign-in is called in forms.
    pub handle: String,
    /// When it began.
    pub started: Time,
    /// When it was last used.
    pub used: Time,
    /// Whether it is the one that looks.
    pub is_this: bool,
}

/// An endpoint for outgoing webhooks in a list.
#[derive(Debug, Clone)]
pub struct EndpointRow {
    /// Its UUID.
    pub id: String,
    /// Where it is.
    pub url: String,
    /// What it is for; may be empty.
    pub description: String,
    /// Whether it is delivered to.
    pub state: EndpointState,
    /// What it wants: `approval.*`.
    pub event_types: Vec<String>,
    /// When something arrived last.
    pub succeeded: Option<Time>,
}

/// A kind of events to choose from, with its types.
#[derive(Debug, Clone)]
pub struct EventGroup {
    /// All of the kind.
    pub all: EventChoice,
    /// Its types.
    pub types: Vec<EventChoice>,
}

/// An event, or several, to choose.
#[derive(Debug, Clone)]
pub struct EventChoice {
    /// `approval.created`, `approval.*`
    pub value: String,
    /// As people say it.
    pub label: String,
    /// Whether it is chosen.
    pub chosen: bool,
}

/// A delivery in a list.
#[derive(Debug, Clone)]
pub struct DeliveryRow {
    /// Its UUID.
    pub id: String,
    /// `approval.created`
    pub event_type: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was sent.
    pub attempts: u64,
    /// What came of the last attempt, in words; none before the first.
    pub outcome: Option<String>,
    /// When it was made.
    pub created: Time,
    /// When it is sent next, if it is.
    pub next: Option<Time>,
}

/// One time that a delivery was sent.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    /// Which one, from 1.
    pub number: u64,
    /// When.
    pub at: Time,
    /// What came of it, in words.
    pub outcome: String,
    /// How long it took; empty where nobody knows.
    pub took: String,
}
