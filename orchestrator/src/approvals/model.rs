//! The types, and the transitions as pure functions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{ApprovalId, ConversationId, TenantId, UserId};

/// The most characters of a title.
pub const MAX_TITLE: usize = 200;
/// The most characters of a description.
pub const MAX_DESCRIPTION: usize = 10_000;
/// The most characters of a comment.
pub const MAX_COMMENT: usize = 2_000;
/// The most bytes of the metadata, written as JSON.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// How far an approval is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum ApprovalStatus {
    /// Waits for a decision.
    Pending,
    /// Somebody said yes.
    Approved,
    /// Somebody said no.
    Rejected,
    /// Who requested it took it back.
    Cancelled,
    /// Its time was over.
    Expired,
}

impl ApprovalStatus {
    /// As stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// How urgent it is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, sqlx::Type, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum Priority {
    /// Can wait.
    Low,
    /// As usual.
    #[default]
    Medium,
    /// Now.
    High,
}

impl Priority {
    /// As stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Where an approval came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The tool: `chatwoot`.
    #[schema(min_length = 1, max_length = 50)]
    pub service: String,
    /// The account there.
    #[schema(max_length = 200)]
    pub account: Option<String>,
    /// The conversation there, by the number that people see.
    #[schema(max_length = 200)]
    pub conversation: Option<String>,
    /// The message there.
    #[schema(max_length = 200)]
    pub message: Option<String>,
    /// A link to it, http or https.
    #[schema(max_length = 2000)]
    pub link: Option<String>,
}

/// An approval.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// What is asked, in a line.
    pub title: String,
    /// What is asked, at length.
    pub description: String,
    /// How far it is.
    pub status: ApprovalStatus,
    /// Who asks.
    pub requested_by: UserId,
    /// Their name, as last known.
    #[serde(skip)]
    pub requested_by_name: Option<String>,
    /// Who decided.
    pub approved_by: Option<UserId>,
    /// Their name, as last known.
    #[serde(skip)]
    pub approved_by_name: Option<String>,
    /// How urgent it is.
    pub priority: Priority,
    /// What was said with the decision.
    pub comment: Option<String>,
    /// What the requester adds for programs.
    #[schema(value_type = Object)]
    pub metadata: serde_json::Value,
    /// Where it came from.
    pub source: Option<Source>,
    /// The conversation in our mirror, where it came from one.
    pub conversation_id: Option<ConversationId>,
    /// Whether the requester asks for a consultation.
    pub consultation_requested: bool,
    /// When it expires if nobody decides.
    pub expires_at: Option<DateTime<Utc>>,
    /// Goes up with each change; the `ETag`.
    pub version: i64,
    /// When it was requested.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// When it left `pending`.
    pub decided_at: Option<DateTime<Utc>>,
}

/// What is asked for, checked.
#[derive(Debug, Clone)]
pub struct NewApproval {
    /// In a line.
    pub title: String,
    /// At length.
    pub description: String,
    /// How urgent it is.
    pub priority: Priority,
    /// For programs.
    pub metadata: serde_json::Value,
    /// Where it comes from.
    pub source: Option<Source>,
    /// The conversation in our mirror.
    pub conversation_id: Option<ConversationId>,
    /// Whether a consultation is asked for.
    pub consultation_requested: bool,
    /// When it expires.
    pub expires_at: Option<DateTime<Utc>>,
}

/// What an approver says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Approve,
    /// No.
    Reject,
}

/// What happens to a pending approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody decides.
    Decided {
        /// Who.
        by: UserId,
        /// What.
        verdict: Verdict,
        /// What they say with it.
        comment: Option<String>,
    },
    /// Who requested it takes it back.
    Cancelled {
        /// What they say with it.
        comment: Option<String>,
    },
    /// Its time is over.
    Expired,
}

/// Why something can't happen to an approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// It isn't pending any more.
    #[error("it was decided already")]
    AlreadyDecided,
    /// Who requested it may not decide it.
    #[error("who requested it may not decide it")]
    OwnRequest,
    /// It doesn't expire, or not yet.
    #[error("its time is not over")]
    NotYet,
}

impl Approval {
    /// What is asked for, as it begins: pending.
    pub fn requested(
        new: NewApproval,
        id: ApprovalId,
        tenant_id: TenantId,
        requested_by: UserId,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            id,
            tenant_id,
            title: new.title,
            description: new.description,
            status: ApprovalStatus::Pending,
            requested_by,
            requested_by_name: None,
            approved_by: None,
            approved_by_name: None,
            priority: new.priority,
            comment: None,
            metadata: new.metadata,
            source: new.source,
            conversation_id: new.conversation_id,
            consultation_requested: new.consultation_requested,
            expires_at: new.expires_at,
            version: 1,
            created_at: now,
            updated_at: now,
            decided_at: None,
        }
    }

    /// The approval after `outcome`, at `now`. Pure; the state machine is here and nowhere else.
    ///
    /// # Errors
    /// [`TransitionError`].
    pub fn after(&self, outcome: &Outcome, now: DateTime<Utc>) -> Result<Self, TransitionError> {
        if self.status != ApprovalStatus::Pending {
            return Err(TransitionError::AlreadyDecided);
        }
        let mut after = self.clone();
        match outcome {
            // Its time is over, though the job that says so hasn't run yet.
            Outcome::Decided { .. } if self.expires_at.is_some_and(|at| at <= now) => {
                return Err(TransitionError::AlreadyDecided);
            }
            Outcome::Decided { by, .. } if *by == self.requested_by => {
                return Err(TransitionError::OwnRequest);
            }
            Outcome::Decided { by, verdict, comment } => {
                after.status = match verdict {
                    Verdict::Approve => ApprovalStatus::Approved,
                    Verdict::Reject => ApprovalStatus::Rejected,
                };
                after.approved_by = Some(*by);
                after.approved_by_name = None;
                after.comment.clone_from(comment);
            }
            Outcome::Cancelled { comment } => {
                after.status = ApprovalStatus::Cancelled;
                after.comment.clone_from(comment);
            }
            Outcome::Expired => {
                if self.expires_at.is_none_or(|at| at > now) {
                    return Err(TransitionError::NotYet);
                }
                after.status = ApprovalStatus::Expired;
            }
        }
        after.version += 1;
        after.updated_at = now;
        after.decided_at = Some(now);
        Ok(after)
    }
}

/// Which approvals to read.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// The tenants.
    pub tenants: Vec<TenantId>,
    /// Only this status.
    pub status: Option<ApprovalStatus>,
    /// Only this priority.
    pub priority: Option<Priority>,
    /// Only those before this one.
    pub before: Option<ApprovalId>,
    /// At most so many.
    pub limit: u32,
}

/// How many approvals of a tenant are pending, from one person's point of view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PendingCounts {
    /// Those that somebody else requested.
    pub of_others: u64,
    /// Those that the person requested.
    pub own: u64,
}
