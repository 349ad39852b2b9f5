//! What Chatwoot's events mean: the conversation mirror, and `/escalate` notes turned into jobs.

use chrono::{DateTime, Utc};
use connector_chatwoot::{
    MessageType, SenderKind,
    webhook::{self, Event, EventName, OwnWrites},
};
use shell_ui::Ui;

use super::plan::{Plan, Poison, Route};
use crate::{
    conversations::{self, EscalateNote, Observation},
    ids::{SourceId, TenantId},
    inbox::{model, store},
};

pub(super) use crate::inbox::chatwoot::SERVICE;

/// What a private note begins with to escalate its conversation.
const COMMAND: &str = "/escalate";
/// How much of a message the mirror keeps.
const MAX_LAST_MESSAGE: usize = 2_000;

/// Where an event came from.
struct Received<'a> {
    source: SourceId,
    account: &'a str,
}

/// What an event of Chatwoot's means.
pub(super) fn read(
    stored: &model::Event,
    body: &[u8],
    ui: &Ui,
    own: Option<&OwnWrites>,
    now: DateTime<Utc>,
    plan: &mut Plan,
) -> Result<(), Poison> {
    let event = webhook::parse(body)?;
    // The account is bound to the source, never taken from the body.
    let account = stored.account.as_deref().ok_or(Poison::OtherAccount)?;
    if event.account_id.is_some_and(|said| said.to_string() != account) {
        return Err(Poison::OtherAccount);
    }
    let from = Received { source: stored.source, account };
    if let (None, Some(occurred_at), Some(part)) =
        (stored.occurred_at, event.occurred_at, plan.parts.first_mut())
    {
        part.occurred_at = occurred_at;
    }
    // What is stored as the suite's came from an inbox that was mapped to nobody then.
    if stored.tenant == TenantId::SUITE {
        if event.conversation.is_some() || event.inbox_id().is_some() {
            plan.route = Some(Route::Inbox(event.inbox_id()));
        }
        return Ok(());
    }
    // What we wrote ourselves tells us nothing.
    if own.is_some_and(|own| own.include(&event)) {
        return Ok(());
    }
    plan.note = escalate_note(&event, &from);
    plan.observation = observation(ui, &event, &from, now);
    Ok(())
}

/// A private note by a user of Chatwoot that asks to escalate. Never what a customer wrote, nor a bot, nor we.
fn escalate_note(event: &Event, from: &Received) -> Option<EscalateNote> {
    if event.name != EventName::MessageCreated {
        return None;
    }
    let (message, conversation) = (event.message.as_ref()?, event.conversation.as_ref()?);
    let sender = message.sender.as_ref()?;
    let by_agent =
        message.private && sender.kind == SenderKind::User && message.message_type == MessageType::Outgoing;
    if !by_agent {
        return None;
    }
    let rest = message.content.as_deref()?.trim_start().strip_prefix(COMMAND)?;
    // `/escalated` is another word.
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return None;
    }
    Some(EscalateNote {
        source: from.source,
        account: from.account.to_owned(),
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

/// What an event tells of a conversation; none where it tells nothing that the mirror keeps.
fn observation(ui: &Ui, event: &Event, from: &Received, now: DateTime<Utc>) -> Option<Observation> {
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
        source: from.source,
        service: SERVICE,
        account: from.account.to_owned(),
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
