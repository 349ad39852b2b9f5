//! Chatwoot's events: verified by signature, mirrored into conversations, and `/escalate` notes turned into jobs.

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use connector_chatwoot::{
    Message, MessageType, SenderKind,
    webhook::{self, Event, EventName, ParseError, VerifyError},
};
use shell_ui::Ui;

use super::{
    model::{Claimed, Identified, Source},
    store,
};
use crate::{
    conversations::{self, ESCALATE_NOTE, EscalateNote, Observation},
    db::TenantTx,
    jobs,
};

pub(super) const SERVICE: &str = "chatwoot";
/// What a private note begins with to escalate its conversation.
const COMMAND: &str = "/escalate";
/// How much of a message the mirror keeps.
const MAX_LAST_MESSAGE: usize = 2_000;
/// The marker of our own notes.
const OWN_NOTES: &str = "chancery:";

/// Why a delivery isn't accepted.
pub(super) enum Refused {
    Signature(VerifyError),
    Unreadable(ParseError),
}

/// Verifies a delivery and says what is to be stored of it.
pub(super) fn accept(
    source: &Source,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Identified, Refused> {
    let verified = webhook::verify(&source.secrets, headers, body, now).map_err(Refused::Signature)?;
    let event = webhook::parse(body).map_err(Refused::Unreadable)?;
    // The delivery's id isn't signed, so that a replayer could change it: what the event is about makes it the same.
    let key_hash = match webhook::content_key(&event) {
        Some(key) => store::key_hash(&[b"content", key.as_bytes()]),
        None => store::key_hash(&[b"body", body]),
    };
    Ok(Identified {
        event_type: store::storable(&event.name.to_string(), 100),
        subject: webhook::subject(&event),
        delivery_id: verified.delivery_id.map(|id| store::storable(&id, 200)),
        key_hash,
    })
}

/// Why an event can't be processed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    #[error("the event can't be read")]
    Unreadable(#[from] ParseError),
    #[error("the event is of another account than its source")]
    OtherAccount,
    #[error("the stored event can't be opened")]
    Sealed(#[from] crate::crypto::CryptoError),
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

/// The effects of an event, in the worker's transaction for the source's tenant.
pub(super) async fn process(
    tx: &mut TenantTx,
    ui: &Ui,
    claimed: &Claimed,
    body: &[u8],
) -> Result<(), ProcessError> {
    let event = webhook::parse(body)?;
    // The account is bound to the source, never taken from the body.
    if event.account_id.is_some_and(|account| account.to_string() != claimed.account) {
        return Err(ProcessError::OtherAccount);
    }
    if let Some(note) = escalate_note(&event, claimed) {
        let key = format!("{}:{}", claimed.source, note.message_id);
        jobs::enqueue(tx, ESCALATE_NOTE, &key, &note, None).await?;
    }
    if let Some(observation) = observation(ui, &event, claimed, tx.now()) {
        conversations::observe(tx, claimed.tenant, &observation).await?;
    }
    Ok(())
}

/// A private note by a user of Chatwoot that asks to escalate. Never what a customer wrote, nor a bot, nor we.
fn escalate_note(event: &Event, claimed: &Claimed) -> Option<EscalateNote> {
    if event.name != EventName::MessageCreated {
        return None;
    }
    let (message, conversation) = (event.message.as_ref()?, event.conversation.as_ref()?);
    let sender = message.sender.as_ref()?;
    let by_agent =
        message.private && sender.kind == SenderKind::User && message.message_type == MessageType::Outgoing;
    if !by_agent || is_ours(message) {
        return None;
    }
    let rest = message.content.as_deref()?.trim_start().strip_prefix(COMMAND)?;
    // `/escalated` is another word.
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return None;
    }
    Some(EscalateNote {
        source: claimed.source,
        account: claimed.account.clone(),
        display_id: conversation.id,
        message_id: message.id,
        writer_mail: sender.email.clone(),
        reason: store::storable(rest.trim(), usize::MAX),
    })
}

/// A name as the mirror keeps it.
fn name(text: &str) -> String {
    store::storable(text, 255)
}

fn is_ours(message: &Message) -> bool {
    message.source_id.as_deref().is_some_and(|id| id.starts_with(OWN_NOTES))
}

/// What an event tells of a conversation; none where it tells nothing that the mirror keeps.
fn observation(ui: &Ui, event: &Event, claimed: &Claimed, now: DateTime<Utc>) -> Option<Observation> {
    let relevant = matches!(
        event.name,
        EventName::MessageCreated
            | EventName::MessageUpdated
            | EventName::ConversationCreated
            | EventName::ConversationUpdated
            | EventName::ConversationStatusChanged
    );
    let conversation = event.conversation.as_ref().filter(|_| relevant)?;
    let message =
        event.message.as_ref().filter(|message| !message.private && event.name == EventName::MessageCreated);
    let observed = message.and_then(|message| {
        let content = message.content.as_deref().map(str::trim).filter(|content| !content.is_empty());
        let content = match (content, message.attachment_count) {
            (Some(content), _) => store::storable(content, MAX_LAST_MESSAGE),
            (None, 0) => return None,
            (None, _) => ui.t("message-attachment"),
        };
        Some(conversations::ObservedMessage {
            content,
            by: message.sender.as_ref().and_then(|sender| sender.name.as_deref()).map(name),
            at: message.created_at.or(event.occurred_at).unwrap_or(now),
        })
    });
    Some(Observation {
        source: claimed.source,
        service: SERVICE,
        account: claimed.account.clone(),
        display_id: conversation.id,
        inbox_id: conversation.inbox_id,
        inbox_name: conversation
            .inbox_name
            .as_deref()
            .or_else(|| event.inbox.as_ref().and_then(|inbox| inbox.name.as_deref()))
            .map(name),
        contact_name: conversation.contact.as_ref().and_then(|contact| contact.name.as_deref()).map(name),
        status: conversation.status.as_ref().map(|status| name(&status.to_string())),
        labels: conversation.labels.as_ref().map(|labels| labels.iter().map(|label| name(label)).collect()),
        message: observed,
        updated_at: conversation.updated_at.or(event.occurred_at).unwrap_or(now),
    })
}
