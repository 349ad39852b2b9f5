use std::borrow::Borrow;

use super::Time;

plain_enum! {
    /// Where a received webhook stands.
    InboxState {
        /// Stored, and not tried yet.
        Pending => "pending",
        /// Failed; it is tried again.
        Retrying => "retrying",
        /// It waits for an earlier one of its subject, which is tried again.
        Parked => "parked",
        /// Given up until somebody replays or discards it.
        Dead => "dead",
        /// It is about to be processed again, since somebody asked for it.
        Replaying => "replaying",
        /// It has had its effect.
        Done => "done",
        /// Given up for good, with a reason.
        Discarded => "discarded",
    }
}

impl InboxState {
    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Pending | Self::Parked => "hourglass",
            Self::Retrying | Self::Replaying => "audit",
            Self::Dead => "warning",
            Self::Done => "check",
            Self::Discarded => "cross",
        }
    }

    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Pending | Self::Parked | Self::Retrying => "waiting",
            Self::Replaying => "active",
            Self::Dead => "bad",
            Self::Done => "good",
            Self::Discarded => "quiet",
        }
    }
}

plain_enum! {
    /// What came of an attempt to process a webhook.
    InboxOutcome {
        /// It had its effect.
        Done => "done",
        /// It is tried again.
        Failed => "failed",
        /// It was given up.
        Dead => "dead",
        /// Somebody discarded it.
        Discarded => "discarded",
    }
}

impl InboxOutcome {
    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Done => "check",
            Self::Failed => "clock",
            Self::Dead => "warning",
            Self::Discarded => "cross",
        }
    }

    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Done => "good",
            Self::Dead => "bad",
            Self::Failed | Self::Discarded => "quiet",
        }
    }
}

plain_enum! {
    /// Whether a secret counts.
    SecretState {
        /// It counts, without an end.
        Current => "current",
        /// It counts for a while longer.
        Ending => "ending",
        /// It doesn't count any more.
        Ended => "ended",
    }
}

impl SecretState {
    pub(crate) fn tone(self) -> &'static str {
        match self {
            Self::Current => "good",
            Self::Ending => "waiting",
            Self::Ended => "quiet",
        }
    }

    pub(crate) fn icon(self) -> &'static str {
        match self {
            Self::Current => "check",
            Self::Ending => "clock",
            Self::Ended => "cross",
        }
    }
}

/// Which received webhooks a list shows; every field may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxFilter {
    /// Only those that stand so.
    pub state: Option<InboxState>,
    /// A source's id, one of those that the page offers.
    pub source: String,
    /// The tool's name for what happened, such as `message_created`.
    pub kind: String,
    /// What it is about, such as `conversation/26`.
    pub subject: String,
    /// From this day on (`2026-03-01`).
    pub from: String,
    /// To the end of this day.
    pub to: String,
}

impl InboxFilter {
    /// Whether it leaves anything out.
    pub fn is_active(&self) -> bool {
        self.state.is_some()
            || [&self.source, &self.kind, &self.subject, &self.from, &self.to]
                .iter()
                .any(|field| !field.is_empty())
    }

    /// Whether what it shows can be replayed together: it names a state that something stays in.
    pub(crate) fn can_replay(&self) -> bool {
        matches!(self.state, Some(InboxState::Dead | InboxState::Discarded | InboxState::Done))
    }

    pub(crate) fn state_name(&self) -> &'static str {
        self.state.map_or("", InboxState::as_str)
    }
}

/// A received webhook in a list.
#[derive(Debug, Clone)]
pub struct InboxRow {
    /// Its UUID.
    pub id: String,
    /// The tool's name for what happened.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// The source's name.
    pub source: String,
    /// Where it stands.
    pub state: InboxState,
    /// When it came.
    pub received: Time,
    /// How often it came again.
    pub duplicates: u64,
    /// How often it was tried, where it has failed.
    pub attempts: u64,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it is tried again.
    pub next: Option<Time>,
}

/// An attempt to process a webhook.
#[derive(Debug, Clone)]
pub struct InboxAttempt {
    /// What came of it.
    pub outcome: InboxOutcome,
    /// When it ended.
    pub at: Time,
    /// Whether somebody had asked for it.
    pub replay: bool,
    /// What went wrong, or why it was discarded.
    pub error: Option<String>,
}

/// What a webhook led to, in words.
#[derive(Debug, Clone)]
pub struct InboxEffect {
    /// What.
    pub text: String,
    /// Our page about it.
    pub href: Option<String>,
}

/// A source of webhooks in a list.
#[derive(Debug, Clone)]
pub struct SourceRow {
    /// Its UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The tool.
    pub service: String,
    /// How its requests prove where they come from, in a word.
    pub scheme: String,
    /// Whether its webhooks are taken.
    pub active: bool,
    /// How many came in the last hour.
    pub last_hour: u64,
    /// How many came in the last day.
    pub last_day: u64,
    /// When the last one came, if it is known.
    pub last: Option<Time>,
    /// How many were given up.
    pub dead: u64,
}

/// What may be seen of a secret.
#[derive(Debug, Clone)]
pub struct SecretRow {
    /// Its UUID.
    pub id: String,
    /// Whether it is the token of the sender's question instead of a signature's secret.
    pub challenge: bool,
    /// Whether it counts.
    pub state: SecretState,
    /// When it was given.
    pub created: Time,
    /// Until when it counts, if that has an end.
    pub until: Option<Time>,
}

/// Whose an inbox of a source is.
#[derive(Debug, Clone)]
pub struct MappingRow {
    /// Its number; none for all others.
    pub inbox: Option<String>,
    /// The tenant's path.
    pub tenant: String,
}

/// What is shown once, right after it was made.
#[derive(Debug, Clone)]
pub struct OnceShown {
    /// What it is: a secret, or the token of the sender's question.
    pub challenge: bool,
    /// The value.
    pub value: String,
}
