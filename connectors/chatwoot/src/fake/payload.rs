//! Chatwoot's JSON: what 4.15.1 puts into webhooks and REST answers, key by key.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    ACCOUNT_ID, API_INBOX_ID, API_INBOX_NAME, BOT_ID, BOT_NAME, WIDGET_INBOX_NAME,
    state::{Contact, Conversation, DashboardApp, Direction, Message, Person, State, Webhook, account, iso},
};

pub(super) fn inbox_name(inbox_id: i64) -> &'static str {
    if inbox_id == API_INBOX_ID { API_INBOX_NAME } else { WIDGET_INBOX_NAME }
}

fn channel(inbox_id: i64) -> &'static str {
    if inbox_id == API_INBOX_ID { "Channel::Api" } else { "Channel::WebWidget" }
}

/// Unix seconds, 0 for none.
fn seconds(time: Option<DateTime<Utc>>) -> Value {
    json!(time.map_or(0, |time| time.timestamp()))
}

#[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 fit into 53 bits until 2255")]
fn float_seconds(time: DateTime<Utc>) -> Value {
    json!(time.timestamp_micros() as f64 / 1e6)
}

pub(super) fn contact_webhook(contact: &Contact) -> Value {
    json!({
        "account": account(),
        "additional_attributes": {},
        "avatar": "",
        "custom_attributes": contact.custom_attributes,
        "email": contact.email,
        "id": contact.id,
        "identifier": contact.identifier,
        "name": contact.name,
        "phone_number": contact.phone_number,
        "thumbnail": "",
        "blocked": false,
    })
}

fn contact_push(contact: &Contact) -> Value {
    json!({
        "additional_attributes": {},
        "custom_attributes": contact.custom_attributes,
        "email": contact.email,
        "id": contact.id,
        "identifier": contact.identifier,
        "name": contact.name,
        "phone_number": contact.phone_number,
        "thumbnail": "",
        "blocked": false,
        "type": "contact",
    })
}

fn user_push(state: &State, id: i64) -> Value {
    let name = state.person_name(Person::User(id));
    json!({
        "id": id,
        "name": name,
        "available_name": name,
        "avatar_url": "",
        "type": "user",
        "availability_status": "online",
        "thumbnail": "",
    })
}

fn bot_push() -> Value {
    json!({"id": BOT_ID, "name": BOT_NAME, "avatar_url": "", "type": "agent_bot"})
}

fn person_push(state: &State, person: Person) -> Value {
    match person {
        Person::User(id) => user_push(state, id),
        Person::Bot => bot_push(),
        Person::Contact(id) => state.contacts.get(&id).map_or(Value::Null, contact_push),
    }
}

fn person_webhook(state: &State, person: Person) -> Value {
    match person {
        Person::User(id) => {
            let email = state.agents.iter().find(|agent| agent.id == id).map(|agent| agent.email.clone());
            json!({
                "id": id,
                "name": state.person_name(person),
                "email": email.unwrap_or_else(|| super::ADMINISTRATOR_EMAIL.to_owned()),
                "type": "user",
            })
        }
        Person::Bot => json!({"id": BOT_ID, "name": BOT_NAME, "type": "agent_bot"}),
        Person::Contact(id) => state.contacts.get(&id).map_or(Value::Null, contact_webhook),
    }
}

/// A message with all its columns, as it is nested in conversations.
fn message_push(state: &State, conversation: &Conversation, message: &Message) -> Value {
    let (sender_type, sender_id) = match message.sender {
        Some(Person::User(id)) => (Some("User"), Some(id)),
        Some(Person::Bot) => (Some("AgentBot"), Some(BOT_ID)),
        Some(Person::Contact(id)) => (Some("Contact"), Some(id)),
        None => (None, None),
    };
    let source_id = state.contacts.get(&conversation.contact_id).map(|contact| contact.source_id.clone());
    let assignee_id = match conversation.assignee {
        Some(Person::User(id)) => Some(id),
        _ => None,
    };
    let mut value = json!({
        "id": message.id,
        "content": message.content,
        "account_id": ACCOUNT_ID,
        "inbox_id": conversation.inbox_id,
        "conversation_id": conversation.id,
        "message_type": message.direction.number(),
        "created_at": message.created_at.timestamp(),
        "updated_at": iso(message.updated_at),
        "private": message.private,
        "status": "sent",
        "source_id": message.source_id,
        "content_type": message.content_type,
        "content_attributes": message.content_attributes,
        "sender_type": sender_type,
        "sender_id": sender_id,
        "external_source_ids": {},
        "additional_attributes": {},
        "processed_message_content": message.content,
        "sentiment": {},
        "conversation": {
            "assignee_id": assignee_id,
            "unread_count": unread(conversation),
            "last_activity_at": conversation.last_activity_at.timestamp(),
            "contact_inbox": {"source_id": source_id},
        },
    });
    if let Some(sender) = message.sender {
        value["sender"] = person_push(state, sender);
    }
    value
}

/// What the customer wrote since an agent last looked; Chatwoot counts to 10.
fn unread(conversation: &Conversation) -> usize {
    conversation
        .messages
        .iter()
        .rev()
        .take_while(|message| conversation.agent_last_seen_at.is_none_or(|seen| message.created_at > seen))
        .filter(|message| message.direction == Direction::Incoming)
        .take(10)
        .count()
}

fn meta(state: &State, conversation: &Conversation) -> Value {
    json!({
        "sender": state.contacts.get(&conversation.contact_id).map(contact_push),
        "assignee": conversation.assignee.map(|assignee| person_push(state, assignee)),
        "assignee_type": conversation.assignee.map(|assignee| match assignee {
            Person::Bot => "AgentBot",
            _ => "User",
        }),
        "team": null,
        "hmac_verified": false,
    })
}

/// The last public message that isn't an activity: what Chatwoot nests, never a private note.
fn last_public(conversation: &Conversation) -> Option<&Message> {
    conversation
        .messages
        .iter()
        .rev()
        .find(|message| !message.private && message.direction != Direction::Activity)
}

pub(super) fn conversation_webhook(state: &State, conversation: &Conversation) -> Value {
    let messages: Vec<Value> = last_public(conversation)
        .map(|message| message_push(state, conversation, message))
        .into_iter()
        .collect();
    json!({
        "additional_attributes": conversation.additional_attributes,
        "can_reply": true,
        "channel": channel(conversation.inbox_id),
        "contact_inbox": state.contacts.get(&conversation.contact_id).map(|contact| json!({
            "id": contact.id,
            "contact_id": contact.id,
            "inbox_id": contact.inbox_id,
            "source_id": contact.source_id,
            "created_at": iso(contact.created_at),
            "updated_at": iso(contact.created_at),
            "hmac_verified": false,
            "pubsub_token": contact.pubsub_token,
        })),
        "id": conversation.id,
        "inbox_id": conversation.inbox_id,
        "messages": messages,
        "labels": conversation.labels,
        "meta": meta(state, conversation),
        "status": conversation.status,
        "custom_attributes": conversation.custom_attributes,
        "snoozed_until": conversation.snoozed_until.map(iso),
        "unread_count": unread(conversation),
        "first_reply_created_at": conversation.first_reply_created_at.map(iso),
        "priority": conversation.priority,
        "waiting_since": seconds(conversation.waiting_since),
        "agent_last_seen_at": seconds(conversation.agent_last_seen_at),
        "contact_last_seen_at": seconds(conversation.contact_last_seen_at),
        "last_activity_at": conversation.last_activity_at.timestamp(),
        "timestamp": conversation.last_activity_at.timestamp(),
        "created_at": conversation.created_at.timestamp(),
        "updated_at": float_seconds(conversation.updated_at),
        "account": account(),
    })
}

pub(super) fn message_webhook(state: &State, conversation_id: i64, message_id: i64) -> Option<Value> {
    let conversation = state.conversations.get(&conversation_id)?;
    let message = conversation.messages.iter().find(|message| message.id == message_id)?;
    Some(json!({
        "account": account(),
        "additional_attributes": {},
        "content_attributes": message.content_attributes,
        "content_type": message.content_type,
        "content": message.content,
        "conversation": conversation_webhook(state, conversation),
        "created_at": iso(message.created_at),
        "id": message.id,
        "inbox": {"id": conversation.inbox_id, "name": inbox_name(conversation.inbox_id)},
        "message_type": message.direction.word(),
        "private": message.private,
        "sender": message.sender.map(|sender| person_webhook(state, sender)),
        "source_id": message.source_id,
    }))
}

/// A message as the account API answers it.
pub(super) fn message_rest(state: &State, conversation: &Conversation, message: &Message) -> Value {
    let mut value = json!({
        "id": message.id,
        "content": message.content,
        "inbox_id": conversation.inbox_id,
        "conversation_id": conversation.id,
        "message_type": message.direction.number(),
        "content_type": message.content_type,
        "status": "sent",
        "content_attributes": message.content_attributes,
        "created_at": message.created_at.timestamp(),
        "private": message.private,
        "source_id": message.source_id,
    });
    if let Some(sender) = message.sender {
        value["sender"] = person_push(state, sender);
    }
    value
}

/// The `meta` that comes with a list of messages.
pub(super) fn messages_meta(state: &State, conversation: &Conversation) -> Value {
    json!({
        "labels": conversation.labels,
        "additional_attributes": conversation.additional_attributes,
        "contact": state.contacts.get(&conversation.contact_id).map(contact_push),
        "assignee": conversation.assignee.map(|assignee| person_push(state, assignee)),
        "agent_last_seen_at": conversation.agent_last_seen_at.map(iso),
        "assignee_last_seen_at": null,
    })
}

/// A conversation as the account API answers it.
pub(super) fn conversation_rest(state: &State, conversation: &Conversation) -> Value {
    let last = last_public(conversation).map(|message| message_push(state, conversation, message));
    let contact = state.contacts.get(&conversation.contact_id).map(|contact| {
        json!({
            "additional_attributes": {},
            "availability_status": "online",
            "email": contact.email,
            "id": contact.id,
            "name": contact.name,
            "phone_number": contact.phone_number,
            "blocked": false,
            "identifier": contact.identifier,
            "thumbnail": "",
            "custom_attributes": contact.custom_attributes,
            "last_activity_at": conversation.last_activity_at.timestamp(),
            "created_at": contact.created_at.timestamp(),
        })
    });
    let mut meta = meta(state, conversation);
    meta["sender"] = json!(contact);
    meta["channel"] = json!(channel(conversation.inbox_id));
    json!({
        "meta": meta,
        "id": conversation.id,
        "messages": last.iter().collect::<Vec<_>>(),
        "account_id": ACCOUNT_ID,
        "uuid": conversation.uuid,
        "additional_attributes": conversation.additional_attributes,
        "agent_last_seen_at": seconds(conversation.agent_last_seen_at),
        "assignee_last_seen_at": 0,
        "can_reply": true,
        "contact_last_seen_at": seconds(conversation.contact_last_seen_at),
        "custom_attributes": conversation.custom_attributes,
        "inbox_id": conversation.inbox_id,
        "labels": conversation.labels,
        "muted": false,
        "snoozed_until": conversation.snoozed_until.map(|time| time.timestamp()),
        "status": conversation.status,
        "created_at": conversation.created_at.timestamp(),
        "updated_at": float_seconds(conversation.updated_at),
        "timestamp": conversation.last_activity_at.timestamp(),
        "first_reply_created_at": conversation.first_reply_created_at.map(|time| time.timestamp()),
        "unread_count": unread(conversation),
        "last_non_activity_message": last,
        "last_activity_at": conversation.last_activity_at.timestamp(),
        "priority": conversation.priority,
        "waiting_since": seconds(conversation.waiting_since),
        "sla_policy_id": null,
    })
}

pub(super) fn dashboard_app_rest(app: &DashboardApp) -> Value {
    json!({ "id": app.id, "title": app.title, "content": app.content, "created_at": "2026-01-01T00:00:00.000Z" })
}

pub(super) fn webhook_rest(webhook: &Webhook) -> Value {
    json!({
        "id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "account_id": ACCOUNT_ID,
        "subscriptions": webhook.subscriptions,
        "secret": webhook.secret,
    })
}

pub(super) fn agent_rest(id: i64, name: &str, email: &str, role: &str) -> Value {
    json!({
        "id": id,
        "account_id": ACCOUNT_ID,
        "availability_status": "online",
        "auto_offline": true,
        "confirmed": true,
        "email": email,
        "available_name": name,
        "custom_attributes": {},
        "name": name,
        "role": role,
        "thumbnail": "",
        "custom_role_id": null,
    })
}

/// A message as the customer's own API answers it: no notes ever come here.
pub(super) fn message_public(state: &State, conversation: &Conversation, message: &Message) -> Value {
    let mut value = json!({
        "id": message.id,
        "content": message.content,
        "message_type": message.direction.number(),
        "content_type": message.content_type,
        "content_attributes": message.content_attributes,
        "created_at": message.created_at.timestamp(),
        "conversation_id": conversation.id,
    });
    if let Some(sender) = message.sender {
        value["sender"] = person_push(state, sender);
    }
    value
}

pub(super) fn public_messages(state: &State, conversation: &Conversation) -> Vec<Value> {
    conversation
        .messages
        .iter()
        .filter(|message| !message.private && message.direction != Direction::Activity)
        .map(|message| message_public(state, conversation, message))
        .collect()
}

pub(super) fn conversation_public(state: &State, conversation: &Conversation) -> Value {
    json!({
        "id": conversation.id,
        "uuid": conversation.uuid,
        "inbox_id": conversation.inbox_id,
        "contact_last_seen_at": seconds(conversation.contact_last_seen_at),
        "status": conversation.status,
        "agent_last_seen_at": seconds(conversation.agent_last_seen_at),
        "messages": public_messages(state, conversation),
        "contact": state.contacts.get(&conversation.contact_id).map(|contact| json!({
            "id": contact.id,
            "name": contact.name,
            "email": contact.email,
            "phone_number": contact.phone_number,
            "identifier": contact.identifier,
            "blocked": false,
            "additional_attributes": {},
            "custom_attributes": contact.custom_attributes,
            "contact_type": "visitor",
            "created_at": iso(contact.created_at),
            "updated_at": iso(contact.created_at),
            "account_id": ACCOUNT_ID,
        })),
    })
}

pub(super) fn contact_public(contact: &Contact) -> Value {
    json!({
        "source_id": contact.source_id,
        "pubsub_token": contact.pubsub_token,
        "id": contact.id,
        "name": contact.name,
        "email": contact.email,
        "phone_number": contact.phone_number,
    })
}

/// JSON as Rails writes it: `<`, `>`, `&` and the two line separators are escaped, so that it can stand in HTML.
pub(super) fn to_rails_json(value: &Value) -> Vec<u8> {
    let plain = value.to_string();
    let mut escaped = String::with_capacity(plain.len() + 16);
    for character in plain.chars() {
        // Outside of strings JSON has none of these.
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_as_rails_does_and_reads_back_the_same() {
        let value = json!({"content": "<b>a & b</b>\u{2028}\"quoted\" \\n"});
        let bytes = to_rails_json(&value);
        assert!(!bytes.iter().any(|byte| b"<>&".contains(byte)));
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value);
    }
}
