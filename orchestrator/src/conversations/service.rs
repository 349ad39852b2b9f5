use axum::http::StatusCode;
use connector_chatwoot::ChatwootClient;
use shell_ui::Ui;

use super::{
    model::{Conversation, Escalation, Observation},
    store,
};
use crate::{
    app::AppState,
    approvals::{self, Approval, ApprovalError, NewApproval, Source},
    auth::Permission,
    db::{Actor, TenantTx},
    http::{
        Problem,
        page::{Page, TimedPosition},
    },
    ids::{ConversationId, TenantId},
    realtime::{self, EventType},
    tools::Tools,
};

/// Why a conversation can't be escalated.
#[derive(Debug, thiserror::Error)]
pub enum EscalateError {
    /// Unknown, or a stranger's.
    #[error("there is no such conversation")]
    NotFound,
    /// The approval was refused.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

/// What a refused escalation is over HTTP.
pub fn problem(error: EscalateError) -> Problem {
    match error {
        EscalateError::NotFound => Problem::not_found(),
        EscalateError::Approval(ApprovalError::Forbidden) => {
            Problem::new(StatusCode::FORBIDDEN, "forbidden", "Your role does not allow you to escalate")
        }
        EscalateError::Approval(error) => approvals::problem(error),
        EscalateError::Database(error) => error.into(),
    }
}

/// Mirrors what a webhook told, in the worker's transaction for the source's tenant.
///
/// # Errors
/// Where the database says no.
pub async fn observe(
    tx: &mut TenantTx,
    tenant: TenantId,
    observed: &Observation,
) -> Result<ConversationId, sqlx::Error> {
    let id = store::upsert(tx, tenant, observed).await?;
    realtime::append(tx, EventType::ConversationUpdated, Permission::ConversationRead, id.0).await?;
    Ok(id)
}

fn with_link(mut conversation: Conversation, tools: &Tools) -> Conversation {
    if let (Some(chatwoot), Ok(account), "chatwoot") =
        (&tools.chatwoot, conversation.account.parse(), conversation.service.as_str())
    {
        conversation.link = ChatwootClient::conversation_url(&chatwoot.url, account, conversation.display_id)
            .ok()
            .map(String::from);
    }
    conversation
}

/// The conversation with this id, if the transaction's principal may read it.
///
/// # Errors
/// [`EscalateError::NotFound`], [`EscalateError::Database`].
pub async fn find(
    tx: &mut TenantTx,
    tools: &Tools,
    id: ConversationId,
) -> Result<Conversation, EscalateError> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(EscalateError::NotFound) };
    let readable = principal.tenants_with(Permission::ConversationRead);
    let found = store::find(tx, &readable, id).await?.ok_or(EscalateError::NotFound)?;
    Ok(with_link(found, tools))
}

fn position(conversation: &Conversation) -> String {
    TimedPosition { time: conversation.remote_updated_at, id: conversation.id.0 }.cursor()
}

/// One page of the conversations of `tenants`, those that were told of last first.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page(
    tx: &mut TenantTx,
    tools: &Tools,
    tenants: &[TenantId],
    before: Option<TimedPosition>,
    limit: u32,
) -> Result<Page<Conversation>, sqlx::Error> {
    let conversations = store::list(tx, tenants, before, limit).await?;
    let conversations =
        conversations.into_iter().map(|conversation| with_link(conversation, tools)).collect();
    Ok(Page::with_cursor(conversations, limit, position))
}

/// One page of one tenant's conversations, those that were told of last first; only those that stand so, where a status is
/// given.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page_of(
    tx: &mut TenantTx,
    tools: &Tools,
    tenant: TenantId,
    status: Option<&str>,
    before: Option<TimedPosition>,
    limit: u32,
) -> Result<Page<Conversation>, sqlx::Error> {
    let conversations = store::list_of(tx, tenant, status, before, limit).await?;
    let conversations =
        conversations.into_iter().map(|conversation| with_link(conversation, tools)).collect();
    Ok(Page::with_cursor(conversations, limit, position))
}

/// Escalates a conversation to whoever decides, for the transaction's principal.
///
/// # Errors
/// [`EscalateError`].
pub async fn escalate(
    tx: &mut TenantTx,
    state: &AppState,
    id: ConversationId,
    escalation: Escalation,
) -> Result<Approval, EscalateError> {
    let conversation = find(tx, &state.tools, id).await?;
    let title = escalation.title.unwrap_or_else(|| default_title(&state.ui, &conversation));
    let new = NewApproval {
        title,
        description: escalation.reason,
        priority: escalation.priority,
        metadata: serde_json::Value::Object(serde_json::Map::new()),
        source: Some(Source {
            service: conversation.service.clone(),
            account: Some(conversation.account.clone()),
            conversation: Some(conversation.display_id.to_string()),
            message: escalation.message,
            link: conversation.link.clone(),
        }),
        conversation_id: Some(conversation.id),
        consultation_requested: escalation.consultation_requested,
        expires_at: None,
    };
    Ok(approvals::request(tx, conversation.tenant_id, new).await?)
}

fn default_title(ui: &Ui, conversation: &Conversation) -> String {
    let contact = conversation.contact_name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let number = conversation.display_id.to_string();
    let title = match contact {
        Some(contact) => ui.t_with_all("escalation-title", &[("number", &number), ("contact", contact)]),
        None => ui.t_with("escalation-title-unknown", "number", &number),
    };
    title.chars().take(200).collect()
}
