//! Chatwoot's records as Chancery reads them, from webhooks and from the REST API alike.
//!
//! The two planes write the same thing differently (a message's type is a string here and a number there, its time an
//! ISO string or Unix seconds), versions add and drop keys, and forks add their own. So records are read key by key
//! out of the JSON; a key that is absent or has an unexpected type is `None`, and an unknown word is kept as `Other`.

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::{Map, Number, Value};

use crate::json::Json;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A word that this version doesn't know.
            Other(String),
        }

        impl $name {
            /// The word as Chatwoot writes it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where a conversation stands.
    ConversationStatus {
        /// Someone has to answer.
        Open = "open",
        /// Done, until the customer writes again.
        Resolved = "resolved",
        /// A bot has it.
        Pending = "pending",
        /// Put off.
        Snoozed = "snoozed",
    }
}

words! {
    /// How urgent a conversation is.
    Priority {
        /// Low.
        Low = "low",
        /// Medium.
        Medium = "medium",
        /// High.
        High = "high",
        /// Urgent.
        Urgent = "urgent",
    }
}

words! {
    /// Which way a message went.
    MessageType {
        /// From the customer.
        Incoming = "incoming",
        /// From an agent or a bot; private notes too.
        Outgoing = "outgoing",
        /// Written by Chatwoot about the conversation; never in a webhook.
        Activity = "activity",
        /// Sent by Chatwoot itself: a greeting, a form.
        Template = "template",
    }
}

words! {
    /// What kind of sender a message has.
    SenderKind {
        /// A person who works in Chatwoot. Only ever read from an explicit `type`, since rights hang on it.
        User = "user",
        /// The customer.
        Contact = "contact",
        /// A bot with a token of its own, such as Chancery's.
        AgentBot = "agent_bot",
        /// Chatwoot's own assistant.
        CaptainAssistant = "captain_assistant",
    }
}

/// A conversation with a customer.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The display id: unique within the account, not in the installation.
    pub id: i64,
    /// The account, where the payload says so.
    pub account_id: Option<i64>,
    /// The inbox that it came in by.
    pub inbox_id: Option<i64>,
    /// The inbox's name; only message events carry it.
    pub inbox_name: Option<String>,
    /// The channel's class, such as `Channel::WebWidget`.
    pub channel: Option<String>,
    /// Where it stands.
    pub status: Option<ConversationStatus>,
    /// Its labels; `None` where the payload has no list (before 2022), which is not the same as no labels.
    pub labels: Option<Vec<String>>,
    /// The customer.
    pub contact: Option<Contact>,
    /// Who works on it.
    pub assignee: Option<Assignee>,
    /// Which team works on it.
    pub team: Option<Team>,
    /// Its priority, where one is set.
    pub priority: Option<Priority>,
    /// Attributes set on it; `None` where the payload has none to tell.
    pub custom_attributes: Option<Map<String, Value>>,
    /// How many of the customer's messages no agent has seen; Chatwoot counts to 10.
    pub unread_count: Option<i64>,
    /// When it began.
    pub created_at: Option<DateTime<Utc>>,
    /// When it last changed, to the microsecond: the best key to order its events by. Chatwoot has it since 2025.
    pub updated_at: Option<DateTime<Utc>>,
    /// When the last message came.
    pub last_activity_at: Option<DateTime<Utc>>,
    /// Since when the customer has waited for an answer.
    pub waiting_since: Option<DateTime<Utc>>,
}

/// A customer. Personal data: keep out of logs.
#[derive(Debug, Clone, PartialEq)]
pub struct Contact {
    /// Unique in the installation.
    pub id: i64,
    /// The name given or made up (`little-haze-776`).
    pub name: Option<String>,
    /// The mail address, not verified by anyone.
    pub email: Option<String>,
    /// The telephone number in E.164.
    pub phone_number: Option<String>,
    /// An id from outside Chatwoot.
    pub identifier: Option<String>,
}

/// Who a conversation is assigned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignee {
    /// Unique among assignees of this kind.
    pub id: i64,
    /// The name.
    pub name: Option<String>,
    /// A user or a bot.
    pub kind: SenderKind,
}

/// A team of agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Unique in the installation.
    pub id: i64,
    /// The name, which Chatwoot keeps in lower case.
    pub name: Option<String>,
}

/// Who sent a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// Unique among senders of this kind.
    pub id: Option<i64>,
    /// What kind of sender.
    pub kind: SenderKind,
    /// The name.
    pub name: Option<String>,
    /// The mail address. For a user it is the one that Chatwoot has confirmed; webhooks carry it, REST answers don't.
    pub email: Option<String>,
}

/// A message or a private note.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Unique in the installation, and growing.
    pub id: i64,
    /// The display id of its conversation.
    pub conversation_id: Option<i64>,
    /// The text, in Chatwoot's Markdown; `None` where there are only attachments.
    pub content: Option<String>,
    /// The kind of content: `text`, `input_email`, …
    pub content_type: Option<String>,
    /// What else came with it.
    pub content_attributes: Map<String, Value>,
    /// Which way it went.
    pub message_type: MessageType,
    /// Whether only agents see it. Absent counts as public.
    pub private: bool,
    /// Who sent it; Chatwoot's own messages have no sender.
    pub sender: Option<Sender>,
    /// An id given by whoever created it. Not unique.
    pub source_id: Option<String>,
    /// When it was created.
    pub created_at: Option<DateTime<Utc>>,
    /// How many attachments it has.
    pub attachment_count: usize,
}

impl Message {
    /// Whether it was deleted: Chatwoot keeps the record and replaces the text.
    pub fn is_deleted(&self) -> bool {
        self.content_attributes.get("deleted").and_then(Value::as_bool).unwrap_or(false)
    }
}

/// Someone who works in the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Unique in the installation.
    pub id: i64,
    /// The name.
    pub name: Option<String>,
    /// The mail address.
    pub email: Option<String>,
    /// `agent` or `administrator`.
    pub role: Option<String>,
    /// Whether the address is confirmed.
    pub confirmed: bool,
    /// What is noted with the user.
    pub custom_attributes: Map<String, Value>,
}

/// An account's webhook.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// Unique in the installation.
    pub id: i64,
    /// Where it sends to.
    pub url: String,
    /// Its name.
    pub name: Option<String>,
    /// The names of the events that it sends.
    pub subscriptions: Vec<String>,
    /// The key of its signatures; `None` before 4.11.2, whose webhooks aren't signed.
    pub secret: Option<SecretString>,
}

pub(crate) fn text<J: Json>(value: &J, key: &str) -> Option<String> {
    value.member(key).and_then(J::text).map(str::to_owned)
}

pub(crate) fn integer<J: Json>(value: &J, key: &str) -> Option<i64> {
    value.member(key).and_then(J::number).and_then(Number::as_i64)
}

pub(crate) fn object<J: Json>(value: &J, key: &str) -> Option<Map<String, Value>> {
    match value.member(key).filter(|value| value.is_object())?.to_value() {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn boolean<J: Json>(value: &J, key: &str) -> Option<bool> {
    value.member(key).and_then(J::boolean)
}

fn texts<J: Json>(value: &J, key: &str) -> Option<Vec<String>> {
    let items = value.member(key).and_then(J::items)?;
    Some(items.iter().filter_map(J::text).map(str::to_owned).collect())
}

/// A time as any of Chatwoot's planes writes it: Unix seconds, whole or with a fraction (0 stands for none), or ISO 8601.
pub(crate) fn time<J: Json>(value: &J, key: &str) -> Option<DateTime<Utc>> {
    let value = value.member(key)?;
    if let Some(text) = value.text() {
        return DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc)).or_else(|| {
            text.parse::<i64>()
                .ok()
                .filter(|seconds| *seconds > 0)
                .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
        });
    }
    let number = value.number()?;
    if let Some(seconds) = number.as_i64() {
        return (seconds > 0).then(|| DateTime::from_timestamp(seconds, 0)).flatten();
    }
    let seconds = number.as_f64().filter(|seconds| *seconds > 0.0 && *seconds < 1e11)?;
    #[expect(clippy::cast_possible_truncation, reason = "below 1e17, checked above")]
    DateTime::from_timestamp_micros((seconds * 1e6).round() as i64)
}

impl Conversation {
    /// Reads a conversation; `None` where it has no id.
    pub(crate) fn read<J: Json>(value: &J) -> Option<Self> {
        let meta = value.member("meta");
        let of_meta = |key| meta.and_then(|meta| text(meta, key));
        let first_message = value.member("messages").and_then(J::items).and_then(<[J]>::first);
        Some(Self {
            id: integer(value, "id")?,
            // Before 4.14.2 the nested message was the only place that named the account.
            account_id: value
                .member("account")
                .and_then(|account| integer(account, "id"))
                .or_else(|| integer(value, "account_id"))
                .or_else(|| first_message.and_then(|message| integer(message, "account_id"))),
            inbox_id: integer(value, "inbox_id"),
            inbox_name: None,
            channel: text(value, "channel").or_else(|| of_meta("channel")),
            status: value.member("status").and_then(J::text).map(Into::into),
            labels: texts(value, "labels"),
            contact: meta.and_then(|meta| meta.member("sender")).and_then(Contact::read),
            assignee: meta.and_then(|meta| meta.member("assignee")).and_then(|assignee| {
                Some(Assignee {
                    id: integer(assignee, "id")?,
                    name: text(assignee, "name"),
                    kind: match (text(assignee, "type"), of_meta("assignee_type").as_deref()) {
                        (Some(kind), _) => kind.as_str().into(),
                        (None, Some("AgentBot")) => SenderKind::AgentBot,
                        (None, _) => SenderKind::User,
                    },
                })
            }),
            team: meta
                .and_then(|meta| meta.member("team"))
                .and_then(|team| Some(Team { id: integer(team, "id")?, name: text(team, "name") })),
            priority: value.member("priority").and_then(J::text).map(Into::into),
            custom_attributes: object(value, "custom_attributes"),
            unread_count: integer(value, "unread_count"),
            created_at: time(value, "created_at"),
            updated_at: time(value, "updated_at"),
            last_activity_at: time(value, "last_activity_at").or_else(|| time(value, "timestamp")),
            waiting_since: time(value, "waiting_since"),
        })
    }
}

impl Contact {
    /// Reads a contact; `None` where it has no id.
    pub(crate) fn read<J: Json>(value: &J) -> Option<Self> {
        Some(Self {
            id: integer(value, "id")?,
            name: text(value, "name"),
            email: text(value, "email"),
            phone_number: text(value, "phone_number"),
            identifier: text(value, "identifier"),
        })
    }
}

impl Sender {
    pub(crate) fn read<J: Json>(value: &J, message_type: Option<&MessageType>) -> Option<Self> {
        if !value.is_object() {
            return None;
        }
        // A customer's record has no `type` in today's webhooks. Anything else without one stays unknown.
        let kind = match text(value, "type") {
            Some(kind) => kind.as_str().into(),
            None if message_type == Some(&MessageType::Incoming) => SenderKind::Contact,
            None => SenderKind::Other(String::new()),
        };
        Some(Self { id: integer(value, "id"), kind, name: text(value, "name"), email: text(value, "email") })
    }
}

impl Message {
    /// Reads a message; `None` where it has no id.
    pub(crate) fn read<J: Json>(value: &J) -> Option<Self> {
        let told = value.member("message_type");
        let message_type = match (told.and_then(J::text), told.and_then(J::number)) {
            (Some(word), _) => word.into(),
            (None, Some(number)) => match number.as_i64() {
                Some(0) => MessageType::Incoming,
                Some(1) => MessageType::Outgoing,
                Some(2) => MessageType::Activity,
                Some(3) => MessageType::Template,
                _ => MessageType::Other(number.to_string()),
            },
            (None, None) => MessageType::Other(String::new()),
        };
        Some(Self {
            id: integer(value, "id")?,
            conversation_id: integer(value, "conversation_id"),
            content: text(value, "content"),
            content_type: text(value, "content_type"),
            content_attributes: object(value, "content_attributes").unwrap_or_default(),
            private: boolean(value, "private").unwrap_or(false),
            sender: value.member("sender").and_then(|sender| Sender::read(sender, Some(&message_type))),
            message_type,
            source_id: text(value, "source_id"),
            created_at: time(value, "created_at"),
            attachment_count: value.member("attachments").and_then(J::items).map_or(0, <[J]>::len),
        })
    }
}

impl Agent {
    pub(crate) fn read<J: Json>(value: &J) -> Option<Self> {
        Some(Self {
            id: integer(value, "id")?,
            name: text(value, "name"),
            email: text(value, "email"),
            role: text(value, "role"),
            confirmed: boolean(value, "confirmed").unwrap_or(false),
            custom_attributes: object(value, "custom_attributes").unwrap_or_default(),
        })
    }
}

impl Webhook {
    pub(crate) fn read<J: Json>(value: &J) -> Option<Self> {
        Some(Self {
            id: integer(value, "id")?,
            url: text(value, "url")?,
            name: text(value, "name"),
            subscriptions: texts(value, "subscriptions").unwrap_or_default(),
            secret: text(value, "secret").filter(|secret| !secret.is_empty()).map(SecretString::from),
        })
    }
}
