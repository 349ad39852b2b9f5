use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::{
    approvals::Priority,
    ids::{ConversationId, SourceId, TenantId},
};

/// The most characters of an escalation's reason.
pub const MAX_REASON: usize = 5_000;

/// A conversation as last told.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// Its id here.
    pub id: ConversationId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The source of webhooks that told of it.
    pub source_id: SourceId,
    /// The tool: `chatwoot`.
    pub service: String,
    /// The account there.
    pub account: String,
    /// The number that people see there.
    pub display_id: i64,
    /// The inbox that it came in by.
    pub inbox_id: Option<i64>,
    /// The inbox's name.
    pub inbox_name: Option<String>,
    /// The customer's name.
    pub contact_name: Option<String>,
    /// `open`, `resolved`, `pending`, `snoozed`, or what the tool calls it.
    pub status: String,
    /// The labels.
    pub labels: Vec<String>,
    /// What was said last, by a customer or an agent.
    pub last_message: Option<String>,
    /// Who said it.
    pub last_message_by: Option<String>,
    /// When.
    pub last_message_at: Option<DateTime<Utc>>,
    /// When it last changed in the tool.
    pub remote_updated_at: DateTime<Utc>,
    /// Where one reads it in the tool.
    pub link: Option<String>,
    /// When it was first told of.
    pub created_at: DateTime<Utc>,
    /// When it last changed here.
    pub updated_at: DateTime<Utc>,
}

/// What a webhook tells of a conversation.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The source of the webhook.
    pub source: SourceId,
    /// The tool.
    pub service: &'static str,
    /// The account that the source speaks for.
    pub account: String,
    /// The number that people see.
    pub display_id: i64,
    /// The inbox.
    pub inbox_id: Option<i64>,
    /// Its name.
    pub inbox_name: Option<String>,
    /// The customer's name.
    pub contact_name: Option<String>,
    /// The status.
    pub status: Option<String>,
    /// The labels, where it says.
    pub labels: Option<Vec<String>>,
    /// A public message, where it is about one.
    pub message: Option<ObservedMessage>,
    /// The tool's time of the change.
    pub updated_at: DateTime<Utc>,
}

impl Observation {
    /// Takes a later observation of the same conversation in, where both together are the same as one after the other; gives it
    /// back where they aren't.
    pub(super) fn followed_by(&mut self, later: Self) -> Result<(), Box<Self>> {
        let is_newer = later.updated_at >= self.updated_at;
        // What the later one leaves open, it takes from the mirror, which may know better than the earlier one.
        let leaves_open = (later.status.is_none() && self.status.is_some())
            || (later.labels.is_none() && self.labels.is_some());
        if is_newer && leaves_open {
            return Err(Box::new(later));
        }
        self.inbox_id = later.inbox_id.or(self.inbox_id);
        self.inbox_name = later.inbox_name.or(self.inbox_name.take());
        self.contact_name = later.contact_name.or(self.contact_name.take());
        if is_newer {
            (self.status, self.labels, self.updated_at) = (later.status, later.labels, later.updated_at);
        }
        if let Some(message) = later.message
            && self.message.as_ref().is_none_or(|known| message.at >= known.at)
        {
            self.message = Some(message);
        }
        Ok(())
    }
}

/// A message that a webhook tells of.
#[derive(Debug, Clone)]
pub struct ObservedMessage {
    /// What was said.
    pub content: String,
    /// Who said it.
    pub by: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// What somebody escalates with, checked.
#[derive(Debug, Clone)]
pub struct Escalation {
    /// Why.
    pub reason: String,
    /// In a line; made of the conversation where left out.
    pub title: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether a consultation is asked for.
    pub consultation_requested: bool,
    /// The message that it came by, where it did.
    pub message: Option<String>,
}
