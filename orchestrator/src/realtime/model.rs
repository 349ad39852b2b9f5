use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{auth::Permission, ids::TenantId};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// An approval was requested.
    ApprovalCreated,
    /// An approval was approved or rejected.
    ApprovalDecided,
    /// An approval was cancelled by who requested it.
    ApprovalCancelled,
    /// An approval's time was over.
    ApprovalExpired,
    /// A conversation is new, or something in it changed.
    ConversationUpdated,
    /// A consultation was made.
    ConsultationCreated,
    /// A consultation began.
    ConsultationStarted,
    /// A consultation ended.
    ConsultationEnded,
    /// A consultation will not take place.
    ConsultationCancelled,
    /// Who is in its room changed.
    ConsultationUpdated,
    /// The tenant's settings were changed.
    SettingsUpdated,
    /// A webhook has taken effect; told with the attributes of its event.
    WebhookReceived,
    /// A webhook could not be processed and is given up until somebody replays it.
    WebhookDead,
    /// A source of webhooks was added.
    SourceCreated,
    /// One was changed, or its secrets were.
    SourceUpdated,
    /// One was removed.
    SourceDeleted,
    /// An endpoint for outgoing webhooks was made.
    EndpointCreated,
    /// One was changed, by hand.
    EndpointUpdated,
    /// One was switched off because nothing arrived there any more.
    EndpointDisabled,
    /// One was removed.
    EndpointDeleted,
    /// A module was added to the sidebar.
    ModuleCreated,
    /// One was changed.
    ModuleUpdated,
    /// One was removed.
    ModuleDeleted,
}

impl EventType {
    /// All types, those of a kind together.
    pub const ALL: [Self; 23] = [
        Self::ApprovalCreated,
        Self::ApprovalDecided,
        Self::ApprovalCancelled,
        Self::ApprovalExpired,
        Self::ConversationUpdated,
        Self::ConsultationCreated,
        Self::ConsultationStarted,
        Self::ConsultationEnded,
        Self::ConsultationCancelled,
        Self::ConsultationUpdated,
        Self::SettingsUpdated,
        Self::WebhookReceived,
        Self::WebhookDead,
        Self::SourceCreated,
        Self::SourceUpdated,
        Self::SourceDeleted,
        Self::EndpointCreated,
        Self::EndpointUpdated,
        Self::EndpointDisabled,
        Self::EndpointDeleted,
        Self::ModuleCreated,
        Self::ModuleUpdated,
        Self::ModuleDeleted,
    ];

    /// As stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApprovalCreated => "approval.created",
            Self::ApprovalDecided => "approval.decided",
            Self::ApprovalCancelled => "approval.cancelled",
            Self::ApprovalExpired => "approval.expired",
            Self::ConversationUpdated => "conversation.updated",
            Self::ConsultationCreated => "consultation.created",
            Self::ConsultationStarted => "consultation.started",
            Self::ConsultationEnded => "consultation.ended",
            Self::ConsultationCancelled => "consultation.cancelled",
            Self::ConsultationUpdated => "consultation.updated",
            Self::SettingsUpdated => "settings.updated",
            Self::WebhookReceived => "webhook.received",
            Self::WebhookDead => "webhook.dead",
            Self::SourceCreated => "source.created",
            Self::SourceUpdated => "source.updated",
            Self::SourceDeleted => "source.deleted",
            Self::EndpointCreated => "endpoint.created",
            Self::EndpointUpdated => "endpoint.updated",
            Self::EndpointDisabled => "endpoint.disabled",
            Self::EndpointDeleted => "endpoint.deleted",
            Self::ModuleCreated => "module.created",
            Self::ModuleUpdated => "module.updated",
            Self::ModuleDeleted => "module.deleted",
        }
    }
}

/// An event of a tenant's log, ready to be sent.
#[derive(Debug, Clone)]
pub struct Event {
    /// The tenant.
    pub tenant: TenantId,
    /// Its number in the tenant's log; they follow commit order without gaps.
    pub sequence: i64,
    /// Who may see it; none for a permission that this version doesn't know: nobody.
    pub permission: Option<Permission>,
    /// The message as it goes over the wire, the same for all.
    pub frame: bytes::Bytes,
}

/// What is to be appended to a tenant's log.
#[derive(Debug)]
pub struct Appended {
    /// What happened.
    pub event: EventType,
    /// Who may see it.
    pub permission: Permission,
    /// What it is about.
    pub resource: Uuid,
    /// What is told beside its type, its id and its tenant.
    pub told: serde_json::Map<String, serde_json::Value>,
}

/// An event as the log has it.
#[derive(Debug, Clone)]
pub struct LoggedEvent {
    /// Its number in the tenant's log; they follow commit order without gaps.
    pub sequence: i64,
    /// What happened, as [`EventType::as_str`] says it.
    pub event_type: String,
    /// Who may see it; none for a permission that this version doesn't know: nobody.
    pub permission: Option<Permission>,
    /// What is told of it.
    pub data: serde_json::Value,
    /// When it happened.
    pub created_at: DateTime<Utc>,
}
