//! What Chatwoot's API answers, as the webhook that would have told it.

use chrono::{DateTime, SecondsFormat, Utc};
use connector_chatwoot::{Conversation, Message, SenderKind};
use serde_json::{Value, json};

/// The key under which a webhook would have told of a message.
pub(super) fn key_of_message(message: i64) -> [u8; 32] {
    let key = format!("message_created:{message}");
    super::super::store::key_hash(&[b"content", key.as_bytes()])
}

/// The id of the user who has written a message.
pub(super) fn user_of(message: &Message) -> Option<i64> {
    message.sender.as_ref().filter(|sender| sender.kind == SenderKind::User)?.id
}

/// Unix seconds with microseconds, as webhooks have them.
fn seconds(at: DateTime<Utc>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "below 2^53 until the year 2255")]
    let micros = at.timestamp_micros() as f64;
    micros / 1e6
}

fn inner(account: i64, conversation: &Conversation) -> Value {
    let contact = conversation.contact.as_ref();
    let mut value = json!({
        "id": conversation.id,
        "inbox_id": conversation.inbox_id,
        "channel": conversation.channel,
        "status": conversation.status.as_ref().map(ToString::to_string),
        "labels": conversation.labels,
        "custom_attributes": conversation.custom_attributes,
        "updated_at": conversation.updated_at.map(seconds),
        "account": { "id": account },
        "meta": { "sender": contact.map(|contact| json!({ "id": contact.id, "name": contact.name, "email": contact.email })) },
    });
    if let Value::Object(members) = &mut value {
        members.retain(|_, member| !member.is_null());
    }
    value
}

/// `message_created`; `mail` is the writer's, where a user has written it.
pub(super) fn message(
    account: i64,
    conversation: &Conversation,
    message: &Message,
    mail: Option<&str>,
) -> Value {
    let sender = message.sender.as_ref().map(|sender| {
        let mail = if sender.kind == SenderKind::User { mail } else { sender.email.as_deref() };
        json!({ "id": sender.id, "name": sender.name, "email": mail, "type": sender.kind.to_string() })
    });
    json!({
        "event": "message_created",
        "id": message.id,
        "content": message.content,
        "content_type": message.content_type,
        "content_attributes": message.content_attributes,
        "message_type": message.message_type.to_string(),
        "private": message.private,
        "source_id": message.source_id,
        "created_at": message.created_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
        "sender": sender,
        "attachments": vec![json!({}); message.attachment_count],
        "account": { "id": account },
        "inbox": conversation.inbox_id.map(|id| json!({ "id": id })),
        "conversation": inner(account, conversation),
    })
}

/// `conversation_updated`.
pub(super) fn conversation(account: i64, conversation: &Conversation) -> Value {
    let mut value = inner(account, conversation);
    value["event"] = json!("conversation_updated");
    value
}

#[cfg(test)]
mod tests {
    use connector_chatwoot::webhook;

    use super::*;

    #[test]
    fn what_is_composed_has_the_key_of_the_webhook_and_is_read_as_it() {
        let told = json!({
            "event": "message_created", "id": 12, "content": "/escalate refund", "private": true, "message_type": "outgoing",
            "created_at": "2026-01-02T03:04:05.678Z", "source_id": null, "content_type": "text",
            "sender": { "id": 5, "name": "Ada", "email": "ada@acme.test", "type": "user" },
            "account": { "id": 1 }, "inbox": { "id": 3 },
            "conversation": { "id": 7, "inbox_id": 3, "status": "open", "labels": ["vip"], "updated_at": 1_767_323_045.678_901_f64,
                "meta": { "sender": { "id": 8, "name": "Carl", "email": "carl@customer.example" } } },
        });
        let told = webhook::parse(told.to_string().as_bytes()).unwrap();
        let (inner, note) = (told.conversation.clone().unwrap(), told.message.clone().unwrap());
        let composed = message(1, &inner, &note, Some("ada@acme.test"));
        let composed = webhook::parse(composed.to_string().as_bytes()).unwrap();
        assert_eq!(composed, told);
        let key = webhook::content_key(&told).unwrap();
        assert_eq!(super::super::super::store::key_hash(&[b"content", key.as_bytes()]), key_of_message(12));

        let updated = conversation(1, &inner);
        let updated = webhook::parse(updated.to_string().as_bytes()).unwrap();
        assert_eq!(
            webhook::content_key(&updated).as_deref(),
            Some("conversation_updated:7:1767323045678901")
        );
        assert_eq!(updated.account_id, Some(1));
    }
}
