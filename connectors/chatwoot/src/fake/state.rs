//! What the double knows, and every change of it with the events that the change sends.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ACCOUNT_ID, API_INBOX_ID, BOT_ID, WIDGET_INBOX_ID, payload};

/// Messages that a conversation takes in a minute (`CONVERSATION_MESSAGE_PER_MINUTE_LIMIT`).
const MESSAGES_PER_MINUTE: usize = 200;
const CONTENT_LIMIT: usize = 150_000;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub admin_token: String,
    pub bot_token: String,
    pub agent_tokens: BTreeMap<i64, String>,
    pub inbox_identifier: String,
    pub next_id: NextIds,
    pub contacts: BTreeMap<i64, Contact>,
    pub conversations: BTreeMap<i64, Conversation>,
    pub webhooks: BTreeMap<i64, Webhook>,
    /// What tabs of conversations show, in the order of their ids.
    #[serde(default)]
    pub dashboard_apps: Vec<DashboardApp>,
    #[serde(default)]
    pub platform_token: String,
    /// Who is signed in by a link that nobody has followed, and until when.
    #[serde(default)]
    pub login_tokens: BTreeMap<String, (i64, DateTime<Utc>)>,
    /// Grows with each change, so that a page can tell whether it is still true.
    #[serde(default)]
    pub version: u64,
    /// Who there is in the installation, by id.
    #[serde(default)]
    pub users: BTreeMap<i64, User>,
    /// Those of them who work in the account.
    #[serde(skip)]
    pub agents: Vec<super::AgentAccount>,
    /// Who works in an inbox, where that isn't everybody.
    #[serde(skip)]
    pub inbox_members: BTreeMap<i64, Vec<i64>>,
    /// Events of changes that are not yet handed to the worker.
    #[serde(skip)]
    pub outbox: Vec<Value>,
}

/// Somebody of the installation, other than the administrator whose token is ours.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct User {
    pub name: String,
    pub email: String,
    pub custom_attributes: Map<String, Value>,
    /// What it does in the account; none where it doesn't work there.
    pub role: Option<String>,
    /// Whether a platform app has made or changed it: then it stays so when the double is opened anew.
    pub by_platform: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct DashboardApp {
    pub id: i64,
    pub title: String,
    pub content: Value,
}

impl DashboardApp {
    /// The addresses of its frames.
    pub fn urls(&self) -> Vec<String> {
        let frames = self.content.as_array().into_iter().flatten();
        frames.filter_map(|frame| frame["url"].as_str().map(str::to_owned)).collect()
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct NextIds {
    pub contact: i64,
    pub conversation: i64,
    pub message: i64,
    pub webhook: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Contact {
    pub id: i64,
    pub inbox_id: i64,
    pub name: String,
    pub email: Option<String>,
    pub phone_number: Option<String>,
    pub identifier: Option<String>,
    pub custom_attributes: Map<String, Value>,
    pub source_id: String,
    pub pubsub_token: String,
    pub created_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Conversation {
    pub id: i64,
    pub uuid: String,
    pub inbox_id: i64,
    pub contact_id: i64,
    pub status: String,
    pub labels: Vec<String>,
    pub custom_attributes: Map<String, Value>,
    pub additional_attributes: Map<String, Value>,
    pub assignee: Option<Person>,
    pub priority: Option<String>,
    pub snoozed_until: Option<DateTime<Utc>>,
    pub waiting_since: Option<DateTime<Utc>>,
    pub first_reply_created_at: Option<DateTime<Utc>>,
    pub agent_last_seen_at: Option<DateTime<Utc>>,
    pub contact_last_seen_at: Option<DateTime<Utc>>,
    pub last_activity_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub messages: Vec<Message>,
}

/// Who acts or sends. Users, bots and contacts number their ids apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub(super) enum Person {
    User(i64),
    Bot,
    Contact(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Direction {
    Incoming,
    Outgoing,
    Activity,
}

impl Direction {
    pub fn number(self) -> i64 {
        match self {
            Self::Incoming => 0,
            Self::Outgoing => 1,
            Self::Activity => 2,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Outgoing => "outgoing",
            Self::Activity => "activity",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Message {
    pub id: i64,
    pub direction: Direction,
    pub content: Option<String>,
    pub content_type: String,
    pub content_attributes: Map<String, Value>,
    pub private: bool,
    pub source_id: Option<String>,
    pub sender: Option<Person>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Webhook {
    pub id: i64,
    pub url: String,
    pub name: Option<String>,
    pub subscriptions: Vec<String>,
    pub secret: String,
}

/// What a contact is made from.
#[derive(Debug, Default)]
pub(super) struct NewContact {
    pub name: String,
    pub email: Option<String>,
    pub phone_number: Option<String>,
    pub identifier: Option<String>,
    pub custom_attributes: Map<String, Value>,
    pub source_id: String,
    pub pubsub_token: String,
}

/// What a message is made from.
#[derive(Debug)]
pub(super) struct NewMessage {
    pub direction: Direction,
    pub content: Option<String>,
    pub content_type: String,
    pub content_attributes: Map<String, Value>,
    pub private: bool,
    pub source_id: Option<String>,
    pub sender: Option<Person>,
}

impl NewMessage {
    pub fn text(direction: Direction, sender: Option<Person>, content: impl Into<String>) -> Self {
        Self {
            direction,
            content: Some(content.into()),
            content_type: "text".to_owned(),
            content_attributes: Map::new(),
            private: false,
            source_id: None,
            sender,
        }
    }
}

impl State {
    pub fn webhook_events(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.outbox)
    }

    pub fn person_name(&self, person: Person) -> String {
        match person {
            Person::User(id) => self
                .agents
                .iter()
                .find(|agent| agent.id == id)
                .map_or_else(|| "Administrator".to_owned(), |agent| agent.name.clone()),
            Person::Bot => super::BOT_NAME.to_owned(),
            Person::Contact(id) => {
                self.contacts.get(&id).map_or_else(String::new, |contact| contact.name.clone())
            }
        }
    }

    /// Renews who works in the account.
    pub fn renew_agents(&mut self) {
        let working = self.users.iter().filter(|(_, user)| user.role.is_some());
        self.agents = working
            .map(|(id, user)| super::AgentAccount {
                id: *id,
                name: user.name.clone(),
                email: user.email.clone(),
            })
            .collect();
    }

    /// What somebody does in the account.
    pub fn role_of(&self, agent: i64) -> &str {
        self.users.get(&agent).and_then(|user| user.role.as_deref()).unwrap_or("agent")
    }

    /// An agent as the account API shows it.
    pub fn agent_rest(&self, agent: &super::AgentAccount) -> Value {
        let mut shown = payload::agent_rest(agent.id, &agent.name, &agent.email, self.role_of(agent.id));
        if let Some(user) = self.users.get(&agent.id) {
            shown["custom_attributes"] = Value::Object(user.custom_attributes.clone());
        }
        shown
    }

    pub fn agent_by_token(&self, token: &str) -> Option<i64> {
        self.agent_tokens
            .iter()
            .find(|(id, candidate)| *candidate == token && self.agents.iter().any(|agent| agent.id == **id))
            .map(|(id, _)| *id)
    }

    pub fn create_contact(&mut self, inbox_id: i64, new: NewContact, now: DateTime<Utc>) -> i64 {
        let id = take(&mut self.next_id.contact);
        let contact = Contact {
            id,
            inbox_id,
            name: new.name,
            email: new.email,
            phone_number: new.phone_number,
            identifier: new.identifier,
            custom_attributes: new.custom_attributes,
            source_id: new.source_id,
            pubsub_token: new.pubsub_token,
            created_at: now.trunc_subsecs(6),
        };
        let mut event = payload::contact_webhook(&contact);
        event["event"] = json!("contact_created");
        self.contacts.insert(id, contact);
        self.outbox.push(event);
        id
    }

    /// Begins a conversation, with the customer's first message if it came with one.
    pub fn create_conversation(
        &mut self,
        contact_id: i64,
        uuid: String,
        custom_attributes: Map<String, Value>,
        first_message: Option<NewMessage>,
        now: DateTime<Utc>,
    ) -> Option<i64> {
        let inbox_id = self.contacts.get(&contact_id)?.inbox_id;
        let now = now.trunc_subsecs(6);
        let id = take(&mut self.next_id.conversation);
        let additional_attributes = if inbox_id == WIDGET_INBOX_ID {
            Map::from_iter([("browser_language".to_owned(), json!("en"))])
        } else {
            Map::new()
        };
        self.conversations.insert(
            id,
            Conversation {
                id,
                uuid,
                inbox_id,
                contact_id,
                status: "open".to_owned(),
                labels: Vec::new(),
                custom_attributes,
                additional_attributes,
                assignee: None,
                priority: None,
                snoozed_until: None,
                waiting_since: Some(now),
                first_reply_created_at: None,
                agent_last_seen_at: None,
                contact_last_seen_at: None,
                last_activity_at: now,
                created_at: now,
                updated_at: now,
                messages: Vec::new(),
            },
        );
        let message = first_message.map(|message| self.store_message(id, message, now));
        self.emit_conversation(id, "conversation_created", None);
        if let Some(Some(message)) = message {
            self.emit_message(id, message, "message_created");
        }
        Some(id)
    }

    /// Adds a message with all that follows from it: the conversation's times, a reopening, the first reply.
    pub fn create_message(
        &mut self,
        conversation_id: i64,
        new: NewMessage,
        now: DateTime<Utc>,
    ) -> Result<i64, String> {
        let conversation = self.conversations.get(&conversation_id).ok_or("Couldn't find Conversation")?;
        if new.content.as_ref().is_some_and(|content| content.chars().count() > CONTENT_LIMIT) {
            return Err(format!(
                "Validation failed: Content is too long (maximum is {CONTENT_LIMIT} characters)"
            ));
        }
        if new.direction == Direction::Incoming
            && !matches!(new.sender, Some(Person::Contact(_)))
            && conversation.inbox_id != API_INBOX_ID
        {
            return Err("Incoming messages are only allowed in Api inboxes".to_owned());
        }
        let minute_ago = now - TimeDelta::minutes(1);
        if conversation.messages.iter().rev().take_while(|message| message.created_at > minute_ago).count()
            >= MESSAGES_PER_MINUTE
        {
            return Err("Validation failed: Too many messages".to_owned());
        }
        let (direction, private, sender) = (new.direction, new.private, new.sender);
        let previous_update = conversation.updated_at;
        let was_resolved = conversation.status == "resolved" || conversation.status == "snoozed";
        let id = self
            .store_message(conversation_id, new, now)
            .ok_or_else(|| "Couldn't find Conversation".to_owned())?;
        self.emit_message(conversation_id, id, "message_created");

        let Some(conversation) = self.conversations.get_mut(&conversation_id) else { return Ok(id) };
        let updated = change("updated_at", json!(iso(previous_update)), json!(iso(conversation.updated_at)));
        match direction {
            Direction::Incoming => {
                conversation.contact_last_seen_at = Some(conversation.last_activity_at);
                if conversation.waiting_since.is_none() {
                    conversation.waiting_since = Some(conversation.last_activity_at);
                    let waiting = json!(iso(conversation.last_activity_at));
                    let changes = vec![updated, change("waiting_since", Value::Null, waiting)];
                    self.emit_conversation(conversation_id, "conversation_updated", Some(changes));
                }
                if was_resolved {
                    self.set_status(conversation_id, "open", None, None, now);
                }
            }
            // A private note touches neither the waiting time nor the first reply.
            Direction::Outgoing if !private => {
                if matches!(sender, Some(Person::User(_))) {
                    conversation.agent_last_seen_at = Some(conversation.last_activity_at);
                }
                let mut changes = vec![updated];
                let at = conversation.last_activity_at;
                if conversation.first_reply_created_at.is_none() && matches!(sender, Some(Person::User(_))) {
                    conversation.first_reply_created_at = Some(at);
                    changes.push(change("first_reply_created_at", Value::Null, json!(iso(at))));
                }
                if let Some(waiting) = conversation.waiting_since.take() {
                    changes.push(change("waiting_since", json!(iso(waiting)), Value::Null));
                }
                if changes.len() > 1 {
                    self.emit_conversation(conversation_id, "conversation_updated", Some(changes));
                }
            }
            Direction::Outgoing | Direction::Activity => {}
        }
        Ok(id)
    }

    /// Deletes a message as Chatwoot does: the record stays and its text is replaced.
    pub fn delete_message(&mut self, conversation_id: i64, message_id: i64, now: DateTime<Utc>) -> bool {
        let Some(message) = self.message_mut(conversation_id, message_id) else { return false };
        message.content = Some("This message was deleted".to_owned());
        "text".clone_into(&mut message.content_type);
        message.content_attributes = Map::from_iter([("deleted".to_owned(), json!(true))]);
        message.updated_at = now.trunc_subsecs(6);
        self.emit_message(conversation_id, message_id, "message_updated");
        true
    }

    pub fn set_status(
        &mut self,
        conversation_id: i64,
        status: &str,
        snoozed_until: Option<DateTime<Utc>>,
        actor: Option<Person>,
        now: DateTime<Utc>,
    ) {
        let actor_name = actor.map(|actor| self.person_name(actor));
        let Some(conversation) = self.conversations.get_mut(&conversation_id) else { return };
        if conversation.status == status && conversation.snoozed_until == snoozed_until {
            return;
        }
        let changed = change("status", json!(conversation.status), json!(status));
        status.clone_into(&mut conversation.status);
        conversation.snoozed_until = snoozed_until;
        let updated = touch(conversation, now);
        let activity = match (status, actor_name) {
            ("resolved", Some(name)) => format!("Conversation was marked resolved by {name}"),
            ("open", Some(name)) => format!("Conversation was reopened by {name}"),
            ("pending", Some(name)) => format!("Conversation was marked as pending by {name}"),
            (_, Some(name)) => format!("Conversation was snoozed by {name}"),
            (_, None) => "Conversation was reopened by a new incoming message".to_owned(),
        };
        self.store_activity(conversation_id, activity, now);
        self.emit_conversation(conversation_id, "conversation_updated", Some(vec![updated, changed]));
        // 4.15.1 has forgotten what changed by the time it builds this one.
        self.emit_conversation(conversation_id, "conversation_status_changed", None);
    }

    pub fn set_labels(
        &mut self,
        conversation_id: i64,
        labels: Vec<String>,
        actor: Option<Person>,
        now: DateTime<Utc>,
    ) {
        let actor_name =
            actor.map_or_else(|| "Automation System".to_owned(), |actor| self.person_name(actor));
        let Some(conversation) = self.conversations.get_mut(&conversation_id) else { return };
        let mut unique: Vec<String> = Vec::new();
        for label in labels {
            if !label.is_empty() && !unique.contains(&label) {
                unique.push(label);
            }
        }
        let previous = std::mem::replace(&mut conversation.labels, unique.clone());
        if previous == unique {
            return;
        }
        let changes = vec![
            touch(conversation, now),
            change("cached_label_list", json!(previous.join(", ")), json!(unique.join(", "))),
            change("label_list", json!(previous), json!(unique)),
        ];
        let difference = |verb: &str, from: &[String], to: &[String]| {
            let labels: Vec<&str> =
                to.iter().filter(|label| !from.contains(label)).map(String::as_str).collect();
            (!labels.is_empty()).then(|| format!("{actor_name} {verb} {}", labels.join(", ")))
        };
        let activities = [difference("added", &previous, &unique), difference("removed", &unique, &previous)];
        for activity in activities.into_iter().flatten() {
            self.store_activity(conversation_id, activity, now);
        }
        // Chatwoot sends a change of labels twice (its issue 7402 is open).
        self.emit_conversation(conversation_id, "conversation_updated", Some(changes.clone()));
        self.emit_conversation(conversation_id, "conversation_updated", Some(changes));
    }

    pub fn set_custom_attributes(
        &mut self,
        conversation_id: i64,
        attributes: Map<String, Value>,
        now: DateTime<Utc>,
    ) {
        let Some(conversation) = self.conversations.get_mut(&conversation_id) else { return };
        let previous = std::mem::replace(&mut conversation.custom_attributes, attributes.clone());
        if previous == attributes {
            return;
        }
        let (before, after) = (Value::Object(previous), Value::Object(attributes));
        let changes = vec![touch(conversation, now), change("custom_attributes", before, after)];
        self.emit_conversation(conversation_id, "conversation_updated", Some(changes));
    }

    pub fn set_priority(&mut self, conversation_id: i64, priority: Option<&str>, now: DateTime<Utc>) {
        let Some(conversation) = self.conversations.get_mut(&conversation_id) else { return };
        let previous = std::mem::replace(&mut conversation.priority, priority.map(str::to_owned));
        if previous.as_deref() == priority {
            return;
        }
        let changes = vec![touch(conversation, now), change("priority", json!(previous), json!(priority))];
        self.emit_conversation(conversation_id, "conversation_updated", Some(changes));
    }

    pub fn assign(
        &mut self,
        conversation_id: i64,
        assignee: Option<Person>,
        actor: Option<Person>,
        now: DateTime<Utc>,
    ) {
        let names =
            (assignee.map(|assignee| self.person_name(assignee)), actor.map(|actor| self.person_name(actor)));
        let Some(conversation) = self.conversations.get_mut(&conversation_id) else { return };
        let previous = std::mem::replace(&mut conversation.assignee, assignee);
        if previous == assignee {
            return;
        }
        let user = |person| match person {
            Some(Person::User(id)) => json!(id),
            _ => Value::Null,
        };
        let bot = |person| if person == Some(Person::Bot) { json!(BOT_ID) } else { Value::Null };
        let changes = vec![
            touch(conversation, now),
            change("assignee_id", user(previous), user(assignee)),
            change("assignee_agent_bot_id", bot(previous), bot(assignee)),
        ];
        // Only columns that changed are told.
        let changes: Vec<Value> = changes.into_iter().filter(is_change).collect();
        let by = names.1.unwrap_or_else(|| "Automation System".to_owned());
        let activity = names.0.map_or_else(
            || format!("Conversation unassigned by {by}"),
            |name| format!("Assigned to {name} by {by}"),
        );
        self.store_activity(conversation_id, activity, now);
        self.emit_conversation(conversation_id, "conversation_updated", Some(changes));
    }

    fn message_mut(&mut self, conversation_id: i64, message_id: i64) -> Option<&mut Message> {
        self.conversations
            .get_mut(&conversation_id)?
            .messages
            .iter_mut()
            .find(|message| message.id == message_id)
    }

    fn store_activity(&mut self, conversation_id: i64, content: String, now: DateTime<Utc>) {
        self.store_message(conversation_id, NewMessage::text(Direction::Activity, None, content), now);
    }

    fn store_message(&mut self, conversation_id: i64, new: NewMessage, now: DateTime<Utc>) -> Option<i64> {
        let conversation = self.conversations.get_mut(&conversation_id)?;
        let id = take(&mut self.next_id.message);
        let now = now.trunc_subsecs(6);
        // Chatwoot drops newlines at the end.
        let content = new.content.map(|content| content.trim_end_matches('\n').to_owned());
        conversation.messages.push(Message {
            id,
            direction: new.direction,
            content,
            content_type: new.content_type,
            content_attributes: new.content_attributes,
            private: new.private,
            source_id: new.source_id,
            sender: new.sender,
            created_at: now,
            updated_at: now,
        });
        if new.direction != Direction::Activity {
            conversation.last_activity_at = now;
            touch(conversation, now);
        }
        Some(id)
    }

    fn emit_message(&mut self, conversation_id: i64, message_id: i64, event: &str) {
        if let Some(mut body) = payload::message_webhook(self, conversation_id, message_id) {
            body["event"] = json!(event);
            self.outbox.push(body);
        }
    }

    fn emit_conversation(&mut self, conversation_id: i64, event: &str, changes: Option<Vec<Value>>) {
        let Some(conversation) = self.conversations.get(&conversation_id) else { return };
        let mut body = payload::conversation_webhook(self, conversation);
        body["event"] = json!(event);
        if event != "conversation_created" {
            body["changed_attributes"] = changes.map_or(Value::Null, Value::Array);
        }
        self.outbox.push(body);
    }
}

/// Marks a conversation as changed, at least a microsecond after the last time: receivers order by this.
fn touch(conversation: &mut Conversation, now: DateTime<Utc>) -> Value {
    let previous = conversation.updated_at;
    conversation.updated_at = now.trunc_subsecs(6).max(previous + TimeDelta::microseconds(1));
    change("updated_at", json!(iso(previous)), json!(iso(conversation.updated_at)))
}

fn change(name: &str, previous: Value, current: Value) -> Value {
    let values = [("previous_value".to_owned(), previous), ("current_value".to_owned(), current)];
    let object = Map::from_iter([(name.to_owned(), Value::Object(Map::from_iter(values)))]);
    Value::Object(object)
}

fn is_change(change: &Value) -> bool {
    change
        .as_object()
        .into_iter()
        .flat_map(Map::values)
        .any(|values| values.get("previous_value") != values.get("current_value"))
}

fn take(next: &mut i64) -> i64 {
    let id = *next;
    *next += 1;
    id
}

/// A time as Rails writes it in JSON.
pub(super) fn iso(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// The account that every record belongs to.
pub(super) fn account() -> Value {
    json!({"id": ACCOUNT_ID, "name": super::ACCOUNT_NAME})
}
