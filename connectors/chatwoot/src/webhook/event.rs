use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    json::{Json, Tree},
    model::{Contact, Conversation, Message, Sender, integer, text, time, words},
};

words! {
    /// What happened.
    EventName {
        /// A message or a private note was written.
        MessageCreated = "message_created",
        /// A message was changed or deleted.
        MessageUpdated = "message_updated",
        /// A conversation began.
        ConversationCreated = "conversation_created",
        /// A conversation's labels, assignee, team, status, priority or attributes changed.
        ConversationUpdated = "conversation_updated",
        /// A conversation's status changed.
        ConversationStatusChanged = "conversation_status_changed",
        /// A contact was made.
        ContactCreated = "contact_created",
        /// A contact changed.
        ContactUpdated = "contact_updated",
        /// An inbox was made.
        InboxCreated = "inbox_created",
        /// An inbox changed.
        InboxUpdated = "inbox_updated",
        /// A visitor opened the widget.
        WebwidgetTriggered = "webwidget_triggered",
        /// Someone types.
        ConversationTypingOn = "conversation_typing_on",
        /// Someone has stopped typing.
        ConversationTypingOff = "conversation_typing_off",
        /// An agent ran a macro with a webhook in it. Never signed by Chatwoot.
        MacroExecuted = "macro.executed",
    }
}

/// What a webhook told.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub name: EventName,
    /// The account, where the payload names it. Bind the account to the webhook's address all the same.
    pub account_id: Option<i64>,
    /// When it happened, as far as the payload tells.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The conversation it is about.
    pub conversation: Option<Conversation>,
    /// The message it is about: the one the event names, never the conversation's nested last message, which can be a
    /// later one.
    pub message: Option<Message>,
    /// The contact it is about: of the conversation, or the event's own.
    pub contact: Option<Contact>,
    /// The inbox, where the payload names it.
    pub inbox: Option<Inbox>,
    /// Who did it, where the payload tells: a message's sender, or who types. Conversation events name nobody.
    pub actor: Option<Sender>,
    /// What changed; empty where the payload doesn't tell.
    pub changed_attributes: Vec<ChangedAttribute>,
}

/// An inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// Unique in the installation.
    pub id: i64,
    /// The name.
    pub name: Option<String>,
}

/// A change of one column.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangedAttribute {
    /// The column (`label_list`).
    pub name: String,
    /// What it was.
    pub previous: Value,
    /// What it is.
    pub current: Value,
}

/// A body that is not an event.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It isn't JSON.
    #[error("the body is not JSON")]
    Json(#[from] JsonError),
    /// It is JSON, and something that every such event has is not there.
    #[error("the event has no usable {0:?}")]
    Missing(&'static str),
}

/// Where a body stops being JSON. Leaves out what stood there.
#[derive(Debug, thiserror::Error)]
#[error("{kind} at line {line}, column {column}")]
pub struct JsonError {
    kind: &'static str,
    line: usize,
    column: usize,
}

/// Reads an event. Unknown keys are ignored, unknown words kept, absent keys are `None`; only what an event can't be
/// without must be there.
///
/// # Errors
/// Where the body isn't a JSON object with an `event`, or a message or conversation has no id.
pub fn parse(raw: &[u8]) -> Result<Event, ParseError> {
    let value: Tree<'_> = serde_json::from_slice(raw).map_err(|error| JsonError {
        kind: if error.is_eof() { "unexpected end" } else { "not JSON" },
        line: error.line(),
        column: error.column(),
    })?;
    let name: EventName =
        value.member("event").and_then(Json::text).ok_or(ParseError::Missing("event"))?.into();
    Event::read(name, &value)
}

impl Event {
    /// The inbox that it came from: its own, or its conversation's. What tells of a contact or of the account names none.
    pub fn inbox_id(&self) -> Option<i64> {
        let own = self.inbox.as_ref().map(|inbox| inbox.id);
        own.or_else(|| self.conversation.as_ref()?.inbox_id)
    }

    fn read<J: Json>(name: EventName, value: &J) -> Result<Self, ParseError> {
        let mut event = Self {
            account_id: value.member("account").and_then(|account| integer(account, "id")),
            occurred_at: None,
            conversation: None,
            message: None,
            contact: None,
            inbox: value
                .member("inbox")
                .and_then(|inbox| Some(Inbox { id: integer(inbox, "id")?, name: text(inbox, "name") })),
            actor: None,
            changed_attributes: changed_attributes(value),
            name,
        };
        match &event.name {
            EventName::MessageCreated | EventName::MessageUpdated => {
                let mut message = Message::read(value).ok_or(ParseError::Missing("id"))?;
                event.conversation = value.member("conversation").and_then(Conversation::read);
                message.conversation_id = event
                    .conversation
                    .as_ref()
                    .map(|conversation| conversation.id)
                    .or(message.conversation_id);
                event.actor.clone_from(&message.sender);
                event.occurred_at = if event.name == EventName::MessageCreated {
                    message.created_at
                } else {
                    event.conversation.as_ref().and_then(|conversation| conversation.updated_at)
                };
                event.message = Some(message);
            }
            EventName::ConversationCreated => {
                let conversation = Conversation::read(value).ok_or(ParseError::Missing("id"))?;
                event.occurred_at = conversation.created_at.or(conversation.last_activity_at);
                event.conversation = Some(conversation);
            }
            EventName::ConversationUpdated
            | EventName::ConversationStatusChanged
            | EventName::MacroExecuted => {
                event.read_conversation(value)?;
            }
            // What an automation rule or an agent bot's webhook sends is a conversation too.
            EventName::Other(other)
                if other.starts_with("automation_event.")
                    || other == "conversation_resolved"
                    || other == "conversation_opened" =>
            {
                event.read_conversation(value)?;
            }
            EventName::ContactCreated | EventName::ContactUpdated => {
                event.contact = Some(Contact::read(value).ok_or(ParseError::Missing("id"))?);
                event.occurred_at = event
                    .changed_attributes
                    .iter()
                    .find(|change| change.name == "updated_at")
                    .and_then(|change| change.current.as_str())
                    .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
                    .map(|time| time.with_timezone(&Utc));
            }
            EventName::WebwidgetTriggered => {
                event.contact = value.member("contact").and_then(Contact::read);
                event.conversation = value.member("current_conversation").and_then(Conversation::read);
            }
            EventName::ConversationTypingOn | EventName::ConversationTypingOff => {
                event.conversation = value.member("conversation").and_then(Conversation::read);
                event.actor = value.member("user").and_then(|user| Sender::read(user, None));
            }
            EventName::InboxCreated | EventName::InboxUpdated => {
                event.occurred_at = time(value, "updated_at");
            }
            EventName::Other(_) => {
                event.conversation = value.member("conversation").and_then(Conversation::read);
            }
        }
        if let Some(conversation) = &mut event.conversation {
            event.account_id = event.account_id.or(conversation.account_id);
            conversation.account_id = event.account_id;
            event.contact = event.contact.or_else(|| conversation.contact.clone());
            if let Some(inbox) = &event.inbox {
                conversation.inbox_id = conversation.inbox_id.or(Some(inbox.id));
                conversation.inbox_name.clone_from(&inbox.name);
            }
        }
        Ok(event)
    }

    fn read_conversation<J: Json>(&mut self, value: &J) -> Result<(), ParseError> {
        let conversation = Conversation::read(value).ok_or(ParseError::Missing("id"))?;
        self.occurred_at = conversation.updated_at.or(conversation.last_activity_at);
        self.conversation = Some(conversation);
        Ok(())
    }
}

/// `[{"status": {"previous_value": …, "current_value": …}}, …]`, or null, or absent.
fn changed_attributes<J: Json>(value: &J) -> Vec<ChangedAttribute> {
    value
        .member("changed_attributes")
        .and_then(J::items)
        .into_iter()
        .flatten()
        .map(J::to_value)
        .filter_map(|change| if let Value::Object(change) = change { Some(change) } else { None })
        .flatten()
        .map(|(name, change)| ChangedAttribute {
            name,
            previous: change.get("previous_value").cloned().unwrap_or_default(),
            current: change.get("current_value").cloned().unwrap_or_default(),
        })
        .collect()
}

/// A key that is the same for each delivery of the same event to the same webhook, made only from what is signed.
///
/// `None` where the payload has nothing to make it from (a widget opened, someone types): hash the body then.
pub fn content_key(event: &Event) -> Option<String> {
    let name = &event.name;
    if let Some(message) = &event.message {
        return Some(if *name == EventName::MessageUpdated {
            // A message can be updated often, and says neither when nor what: its content has to tell them apart.
            let mut hash = Sha256::new();
            hash.update(message.content.as_deref().unwrap_or_default());
            hash.update([0]);
            hash.update(Value::Object(message.content_attributes.clone()).to_string());
            let hash = hex::encode(&hash.finalize()[..16]);
            let updated_at = event.occurred_at.map_or(0, |time| time.timestamp_micros());
            format!("{name}:{}:{updated_at}:{hash}", message.id)
        } else {
            format!("{name}:{}", message.id)
        });
    }
    match name {
        EventName::ConversationTypingOn
        | EventName::ConversationTypingOff
        | EventName::WebwidgetTriggered => None,
        EventName::ConversationCreated => {
            event.conversation.as_ref().map(|conversation| format!("{name}:{}", conversation.id))
        }
        EventName::ContactCreated => event.contact.as_ref().map(|contact| format!("{name}:{}", contact.id)),
        EventName::ContactUpdated => {
            let (contact, updated_at) = (event.contact.as_ref()?, event.occurred_at?);
            Some(format!("{name}:{}:{}", contact.id, updated_at.timestamp_micros()))
        }
        _ => {
            // Without `updated_at` (before 2025) two changes within a second would look alike.
            let conversation = event.conversation.as_ref()?;
            let updated_at = conversation.updated_at?;
            Some(format!("{name}:{}:{}", conversation.id, updated_at.timestamp_micros()))
        }
    }
}

/// What the event is about: `conversation/26`, `contact/2`, `inbox/1`, or the account.
pub fn subject(event: &Event) -> String {
    if let Some(conversation) = &event.conversation {
        return format!("conversation/{}", conversation.id);
    }
    if let Some(contact) = &event.contact {
        return format!("contact/{}", contact.id);
    }
    if let Some(inbox) = &event.inbox {
        return format!("inbox/{}", inbox.id);
    }
    event.account_id.map_or_else(|| "account".to_owned(), |id| format!("account/{id}"))
}

/// Removes credentials from a payload, however deep: `pubsub_token` opens the contact's live connection, and an
/// inbox's `channel` is the full channel record with the provider's keys.
pub fn redact(value: &mut Value) {
    const CREDENTIALS: [&str; 6] =
        ["pubsub_token", "access_token", "api_access_token", "hmac_token", "secret", "provider_config"];
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !CREDENTIALS.contains(&key.as_str()));
            if object.get("channel").is_some_and(Value::is_object) {
                object.remove("channel");
            }
            object.values_mut().for_each(redact);
        }
        Value::Array(array) => array.iter_mut().for_each(redact),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{ConversationStatus, MessageType, SenderKind};

    fn read(value: &Value) -> Event {
        parse(value.to_string().as_bytes()).unwrap()
    }

    fn note() -> Value {
        json!({
            "event": "message_created", "id": 12, "content": "/escalate refund", "private": true,
            "message_type": "outgoing", "created_at": "2026-01-02T03:04:05.678Z", "source_id": null,
            "sender": {"id": 5, "name": "Ada", "email": "ada@acme.test", "type": "user"},
            "account": {"id": 1, "name": "Acme"}, "inbox": {"id": 3, "name": "Website"},
            "conversation": {"id": 7, "status": "open", "labels": ["vip"], "updated_at": 1_767_323_045.678_901,
                "messages": [{"id": 99, "content": "later"}],
                "meta": {"sender": {"id": 8, "name": "Carl", "email": null}}},
        })
    }

    #[test]
    fn a_note_is_read_with_its_sender_and_conversation() {
        let event = read(&note());
        assert_eq!(event.name, EventName::MessageCreated);
        assert_eq!(event.account_id, Some(1));
        let message = event.message.clone().unwrap();
        assert_eq!((message.id, message.conversation_id, message.private), (12, Some(7), true));
        assert_eq!(message.message_type, MessageType::Outgoing);
        let sender = message.sender.unwrap();
        assert_eq!((sender.kind, sender.email.as_deref()), (SenderKind::User, Some("ada@acme.test")));
        let conversation = event.conversation.clone().unwrap();
        assert_eq!(conversation.inbox_name.as_deref(), Some("Website"));
        assert_eq!(conversation.status, Some(ConversationStatus::Open));
        assert_eq!(conversation.labels, Some(vec!["vip".to_owned()]));
        assert_eq!(conversation.updated_at.unwrap().timestamp_micros(), 1_767_323_045_678_901);
        assert_eq!(event.occurred_at.unwrap().timestamp_millis(), 1_767_323_045_678);
        assert_eq!(content_key(&event).as_deref(), Some("message_created:12"));
        assert_eq!(subject(&event), "conversation/7");
    }

    #[test]
    fn a_sender_without_a_type_is_never_taken_for_a_user() {
        let mut value = note();
        value["sender"].as_object_mut().unwrap().remove("type");
        assert_eq!(read(&value).actor.unwrap().kind, SenderKind::Other(String::new()));
        value["message_type"] = json!("incoming");
        assert_eq!(read(&value).actor.unwrap().kind, SenderKind::Contact);
    }

    #[test]
    fn unknown_words_and_wrong_types_are_kept_or_dropped_but_never_refused() {
        let mut value = note();
        value["event"] = json!("message_created");
        value["message_type"] = json!("carrier_pigeon");
        value["conversation"]["status"] = json!("dreaming");
        value["conversation"]["labels"] = json!("vip");
        value["kanban_task"] = json!({"id": 1});
        value["created_at"] = json!([]);
        let event = read(&value);
        assert_eq!(event.message.unwrap().message_type.as_str(), "carrier_pigeon");
        let conversation = event.conversation.unwrap();
        assert_eq!(conversation.status, Some(ConversationStatus::Other("dreaming".to_owned())));
        assert_eq!(conversation.labels, None);
        assert_eq!(event.occurred_at, None);
        assert_eq!(read(&json!({"event": "brand_new"})).name, EventName::Other("brand_new".to_owned()));
    }

    #[test]
    fn what_is_no_event_is_refused_without_being_quoted() {
        for raw in [
            "",
            "[]",
            "{}",
            "{\"event\":1}",
            "{\"event\":\"message_created\"}",
            "{\"event\":\"conversation_updated\",\"id\":\"7\"}",
        ] {
            assert!(parse(raw.as_bytes()).is_err(), "{raw}");
        }
        let error = parse(b"{\"event\": hunter2}").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn two_updates_have_two_keys_and_a_repetition_has_one() {
        let mut value = note();
        value["event"] = json!("message_updated");
        let first = content_key(&read(&value));
        assert_eq!(first, content_key(&read(&value)));
        value["content_attributes"] = json!({"deleted": true});
        assert_ne!(first, content_key(&read(&value)));

        let mut update = json!({"event": "conversation_updated", "id": 7, "updated_at": 1_767_323_045.5});
        let first = content_key(&read(&update));
        update["updated_at"] = json!(1_767_323_045.500_001);
        assert_ne!(first, content_key(&read(&update)));
        update.as_object_mut().unwrap().remove("updated_at");
        assert_eq!(content_key(&read(&update)), None);
    }

    #[test]
    fn changed_attributes_are_read_from_an_array_and_from_null() {
        let mut value = json!({"event": "conversation_status_changed", "id": 7, "changed_attributes": null});
        assert_eq!(read(&value).changed_attributes, []);
        value["changed_attributes"] =
            json!([{"status": {"previous_value": "open", "current_value": "resolved"}}]);
        let changes = read(&value).changed_attributes;
        assert_eq!((changes[0].name.as_str(), &changes[0].current), ("status", &json!("resolved")));
    }

    #[test]
    fn zero_seconds_is_no_time() {
        let event =
            read(&json!({"event": "conversation_created", "id": 7, "waiting_since": 0, "created_at": 0}));
        assert_eq!((event.conversation.unwrap().waiting_since, event.occurred_at), (None, None));
    }

    #[test]
    fn credentials_are_removed_however_deep() {
        let mut value = json!({"contact_inbox": {"id": 1, "pubsub_token": "t"}, "list": [{"meta": {"pubsub_token": "t"}}],
            "channel": {"provider_config": {"api_key": "k"}}, "conversation": {"channel": "Channel::Api"}});
        redact(&mut value);
        assert_eq!(
            value,
            json!({"contact_inbox": {"id": 1}, "list": [{"meta": {}}], "conversation": {"channel": "Channel::Api"}})
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(raw in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = parse(&raw);
        }

        #[test]
        fn any_number_as_a_time_is_read_or_left_out(seconds in proptest::prelude::any::<f64>(), whole in proptest::prelude::any::<i64>()) {
            let _ = read(&json!({"event": "conversation_updated", "id": 1, "updated_at": seconds, "created_at": whole}));
        }
    }
}
