//! The escalation by a private note that begins with `/escalate`: who wrote it is found by verified mail, and then it is
//! the same command as in the shell.

use async_trait::async_trait;
use connector_chatwoot::NewNote;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    model::Escalation,
    service::{self, EscalateError},
    store,
};
use crate::{
    app::AppState,
    approvals::{ApprovalError, Priority},
    audit::{self, Change},
    auth::{PrincipalError, PrincipalSource as _},
    ids::{SourceId, TenantId},
    jobs::{Effect, Handler, Job, JobError, Registry},
};

/// The job's kind.
pub const ESCALATE_NOTE: &str = "conversations.escalate_note";

/// What the note said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EscalateNote {
    /// The source that told of it.
    pub source: SourceId,
    /// The account.
    pub account: String,
    /// The conversation's number.
    pub display_id: i64,
    /// The note.
    pub message_id: i64,
    /// The writer's mail, as Chatwoot has it.
    pub writer_mail: Option<String>,
    /// What stood behind `/escalate`.
    pub reason: String,
}

/// The handlers of this slice's jobs.
pub fn handlers(registry: Registry) -> Registry {
    registry.with(ESCALATE_NOTE, Escalate)
}

/// Why the note leads to nothing, in words for the one who wrote it.
enum Refusal {
    Unmapped,
    NotAllowed,
    NoReason,
    NoApprover,
    AlreadyPending,
    Unknown,
}

impl Refusal {
    #[cfg(test)]
    const ALL: [Self; 6] = [
        Self::Unmapped,
        Self::NotAllowed,
        Self::NoReason,
        Self::NoApprover,
        Self::AlreadyPending,
        Self::Unknown,
    ];

    /// The name of the text that says so.
    fn text(&self) -> String {
        format!("escalation-refused-{}", self.code().replace('_', "-"))
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::NotAllowed => "not_allowed",
            Self::NoReason => "no_reason",
            Self::NoApprover => "no_approver",
            Self::AlreadyPending => "already_pending",
            Self::Unknown => "unknown_conversation",
        }
    }
}

struct Escalate;

#[async_trait]
impl Handler for Escalate {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let note: EscalateNote = job.read()?;
        match escalate(state, job, &note).await? {
            Ok(()) => {}
            Err(refusal) => refuse(state, job, &note, &refusal).await?,
        }
        Ok(Effect::Committed)
    }
}

async fn escalate(state: &AppState, job: &Job, note: &EscalateNote) -> Result<Result<(), Refusal>, JobError> {
    let Some(mail) = &note.writer_mail else { return Ok(Err(Refusal::Unmapped)) };
    let Some(user) = state.directory.user_by_verified_mail(mail).await? else {
        return Ok(Err(Refusal::Unmapped));
    };
    let principal = match state.directory.principal(user).await {
        Ok(principal) => principal,
        Err(PrincipalError::Unknown) => return Ok(Err(Refusal::Unmapped)),
        Err(error @ PrincipalError::Unavailable(_)) => {
            return Err(JobError::Retry { after: None, message: error.to_string() });
        }
    };
    if note.reason.trim().is_empty() {
        return Ok(Err(Refusal::NoReason));
    }
    let mut tx = state.database.tenant_tx(principal).await?;
    tx.enter(job.tenant).await?;
    let Some(conversation) =
        store::find_by_display_id(&mut tx, job.tenant, note.source, note.display_id).await?
    else {
        return Ok(Err(Refusal::Unknown));
    };
    let escalation = Escalation {
        reason: note.reason.trim().chars().take(super::model::MAX_REASON).collect(),
        title: None,
        priority: Priority::Medium,
        consultation_requested: false,
        message: Some(note.message_id.to_string()),
    };
    match service::escalate(&mut tx, state, conversation, escalation).await {
        Ok(_) => {
            job.complete(&mut tx).await?;
            tx.commit().await?;
            Ok(Ok(()))
        }
        // A stranger to the tenant, or without the right to read the conversation: not allowed either.
        Err(
            EscalateError::NotFound
            | EscalateError::Approval(ApprovalError::Forbidden | ApprovalError::NotFound),
        ) => Ok(Err(Refusal::NotAllowed)),
        Err(EscalateError::Approval(ApprovalError::NoApprover)) => Ok(Err(Refusal::NoApprover)),
        Err(EscalateError::Approval(ApprovalError::AlreadyPending(_))) => Ok(Err(Refusal::AlreadyPending)),
        Err(EscalateError::Database(error) | EscalateError::Approval(ApprovalError::Database(error))) => {
            Err(JobError::Database(error))
        }
        Err(error) => Err(JobError::Permanent(error.to_string())),
    }
}

/// Says in the conversation why nothing was escalated.
async fn refuse(state: &AppState, job: &Job, note: &EscalateNote, refusal: &Refusal) -> Result<(), JobError> {
    let message = match (&state.tools.chatwoot, note.account.parse::<i64>()) {
        (Some(chatwoot), Ok(account)) => {
            let answer = NewNote {
                content: state.ui.t(refusal.text()),
                source_id: format!("chancery:escalate-note:{}:{}", note.source, note.message_id),
                content_attributes: serde_json::Map::new(),
            };
            Some(chatwoot.write_note(job, account, note.display_id, &answer).await?.id)
        }
        _ => None,
    };
    let mut tx = state.database.worker_tx(job.tenant).await?;
    record(&mut tx, job.tenant, note, refusal, message).await?;
    job.complete(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}

async fn record(
    tx: &mut crate::db::TenantTx,
    tenant: TenantId,
    note: &EscalateNote,
    refusal: &Refusal,
    message: Option<i64>,
) -> Result<(), JobError> {
    let conversation = store::find_by_display_id(tx, tenant, note.source, note.display_id).await?;
    let change = Change {
        action: "conversation.escalation_refused",
        resource: "conversation",
        resource_id: conversation.map_or_else(|| note.display_id.to_string(), |id| id.to_string()),
        old_values: None,
        new_values: Some(json!({ "reason": refusal.code(), "message": note.message_id, "answer": message })),
        metadata: None,
    };
    audit::record(tx, change).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_text() {
        for refusal in Refusal::ALL {
            assert!(shell_ui::Texts::default().find(&refusal.text()).is_some(), "{}", refusal.text());
        }
    }
}
