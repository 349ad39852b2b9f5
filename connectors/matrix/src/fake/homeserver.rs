//! The double's rooms: what is in them, who may do what, and what is still to be pushed. No HTTP in here.

use std::collections::{BTreeMap, VecDeque};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use connector_core::IdGenerator;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::appservice::ClientEvent;

/// What a room keeps of its messages. State events stay for ever.
const KEPT_EVENTS: usize = 1_000;
/// Synapse 1.163's default.
const DEFAULT_ROOM_VERSION: &str = "12";
/// Events that wait for an application service that never comes.
const KEPT_QUEUE: usize = 10_000;
/// Synapse puts at most this many events into one transaction.
const EVENTS_IN_A_TRANSACTION: usize = 100;

/// An error of the client-server API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MatrixError {
    pub status: u16,
    pub errcode: &'static str,
    pub error: String,
}

pub(super) fn error(status: u16, errcode: &'static str, error: impl Into<String>) -> MatrixError {
    MatrixError { status, errcode, error: error.into() }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Homeserver {
    /// User id to display name.
    pub users: BTreeMap<String, Option<String>>,
    pub rooms: BTreeMap<String, Room>,
    /// Alias to room id.
    pub aliases: BTreeMap<String, String>,
    /// The last transaction's number.
    pub last_transaction: u64,
    /// The transaction that is being pushed, until it is taken.
    pub in_flight: Option<Push>,
    /// What comes after it.
    pub queue: VecDeque<ClientEvent>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Room {
    /// Grows with each event of the whole server; orders rooms by what happened last.
    pub last_change: i64,
    pub version: String,
    pub events: Vec<StoredEvent>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StoredEvent {
    #[serde(flatten)]
    pub event: ClientEvent,
    /// The sender's transaction id, by which a repeated request is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Push {
    pub id: u64,
    pub events: Vec<ClientEvent>,
}

/// Where new events get their time and id from, and which server this is.
pub(super) struct EventOrigin<'a> {
    pub now: DateTime<Utc>,
    pub ids: &'a dyn IdGenerator,
    pub server_name: &'a str,
    pub sender_localpart: &'a str,
}

impl EventOrigin<'_> {
    fn random(&self, bytes: usize) -> String {
        let mut buffer = vec![0; bytes];
        self.ids.fill(&mut buffer);
        URL_SAFE_NO_PAD.encode(buffer)
    }

    fn room_id(&self, version: &str) -> String {
        if version == "12" {
            format!("!{}", self.random(32))
        } else {
            // Letters only, as Synapse's.
            let letters: String =
                self.random(48).chars().filter(char::is_ascii_alphabetic).take(18).collect();
            format!("!{letters}:{}", self.server_name)
        }
    }

    /// The application service may only make aliases that begin with its bot's name and `_`.
    fn alias_is_ours(&self, localpart: &str) -> bool {
        localpart
            .strip_prefix(self.sender_localpart)
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with('_'))
    }
}

impl Room {
    /// The current state event of this type and key.
    pub fn state(&self, event_type: &str, state_key: &str) -> Option<&ClientEvent> {
        self.events
            .iter()
            .rev()
            .map(|stored| &stored.event)
            .find(|event| event.event_type == event_type && event.state_key.as_deref() == Some(state_key))
    }

    /// `join`, `invite`, `leave`, `ban`, or nothing where the user never had to do with the room.
    pub fn membership(&self, user: &str) -> Option<&str> {
        self.state("m.room.member", user)?.content.get("membership")?.as_str()
    }

    /// Who has this membership, in the order of their ids.
    pub fn members<'a>(&'a self, membership: &'a str) -> impl Iterator<Item = &'a ClientEvent> {
        let users: BTreeMap<&str, &ClientEvent> = self
            .events
            .iter()
            .map(|stored| &stored.event)
            .filter(|event| event.event_type == "m.room.member")
            .filter_map(|event| Some((event.state_key.as_deref()?, event)))
            .collect();
        users
            .into_values()
            .filter(move |event| event.content.get("membership").and_then(Value::as_str) == Some(membership))
    }

    fn power_of(&self, user: &str) -> i64 {
        let Some(levels) = self.state("m.room.power_levels", "") else { return 0 };
        // The creators of a room of version 12 stand above every level and are not listed.
        let is_creator = |create: &ClientEvent| {
            let others = create.content.get("additional_creators").and_then(Value::as_array);
            create.sender.as_str() == user
                || others.is_some_and(|others| others.iter().any(|other| other == user))
        };
        if self.version == "12" && self.state("m.room.create", "").is_some_and(is_creator) {
            return i64::MAX;
        }
        let listed = levels.content.get("users").and_then(|users| users.get(user)).and_then(Value::as_i64);
        listed.or_else(|| levels.content.get("users_default").and_then(Value::as_i64)).unwrap_or(0)
    }

    fn needed_power(&self, action: &str, default: i64) -> i64 {
        self.state("m.room.power_levels", "")
            .and_then(|levels| levels.content.get(action))
            .and_then(Value::as_i64)
            .unwrap_or(default)
    }

    pub fn text_of(&self, event_type: &str, field: &str) -> Option<&str> {
        self.state(event_type, "")?.content.get(field)?.as_str().filter(|text| !text.is_empty())
    }
}

/// `createRoom`, as far as it is known here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CreateRoom {
    pub preset: Option<String>,
    pub visibility: Option<String>,
    pub name: Option<String>,
    pub topic: Option<String>,
    pub room_alias_name: Option<String>,
    pub invite: Vec<String>,
    pub room_version: Option<String>,
    pub creation_content: Map<String, Value>,
    pub initial_state: Vec<InitialState>,
}

#[derive(Debug, Deserialize)]
pub(super) struct InitialState {
    #[serde(rename = "type")]
    pub event_type: String,
    #[serde(default)]
    pub state_key: String,
    pub content: Value,
}

/// What a new event says; its id and time are given to it.
struct NewEvent<'a> {
    sender: &'a str,
    event_type: &'a str,
    state_key: Option<&'a str>,
    content: Value,
    transaction_id: Option<&'a str>,
}

impl<'a> NewEvent<'a> {
    fn state(sender: &'a str, event_type: &'a str, state_key: &'a str, content: Value) -> Self {
        Self { sender, event_type, state_key: Some(state_key), content, transaction_id: None }
    }

    fn member(sender: &'a str, user: &'a str, content: Value) -> Self {
        Self::state(sender, "m.room.member", user, content)
    }
}

impl Homeserver {
    pub fn room(&self, room: &str) -> Result<&Room, MatrixError> {
        self.rooms.get(room).ok_or_else(|| error(404, "M_NOT_FOUND", "Unknown room"))
    }

    /// The room, if `user` is in it. A room that isn't there gets the same answer, as with Synapse.
    pub fn joined_room(&self, room: &str, user: &str) -> Result<&Room, MatrixError> {
        self.rooms
            .get(room)
            .filter(|room| room.membership(user) == Some("join"))
            .ok_or_else(|| error(403, "M_FORBIDDEN", format!("User {user} not in room {room}")))
    }

    fn append(
        &mut self,
        origin: &EventOrigin<'_>,
        room: &str,
        new: NewEvent<'_>,
    ) -> Result<String, MatrixError> {
        let NewEvent { sender, event_type, state_key, content, transaction_id } = new;
        let bad = |what: &str| error(400, "M_INVALID_PARAM", format!("{what} is not valid"));
        let event_id = format!("${}", origin.random(32));
        let event = ClientEvent {
            event_type: event_type.to_owned(),
            event_id: event_id.parse().map_err(|_| bad("the event id"))?,
            room_id: room.parse().map_err(|_| bad("the room id"))?,
            sender: sender.parse().map_err(|_| bad("the user id"))?,
            origin_server_ts: origin.now.timestamp_millis(),
            content,
            state_key: state_key.map(str::to_owned),
            unsigned: Map::new(),
        };
        let change = self.rooms.values().map(|room| room.last_change).max().unwrap_or(0) + 1;
        let room = self.rooms.get_mut(room).ok_or_else(|| error(404, "M_NOT_FOUND", "Unknown room"))?;
        room.last_change = change;
        room.events
            .push(StoredEvent { event: event.clone(), transaction_id: transaction_id.map(str::to_owned) });
        if room.events.len() > KEPT_EVENTS
            && let Some(oldest) = room.events.iter().position(|stored| stored.event.state_key.is_none())
        {
            room.events.remove(oldest);
        }
        self.queue.push_back(event);
        if self.queue.len() > KEPT_QUEUE {
            self.queue.pop_front();
        }
        Ok(event_id)
    }

    fn member_content(&self, user: &str, membership: &str, reason: Option<&str>) -> Value {
        let mut content = json!({ "membership": membership });
        if let Some(name) = self.users.get(user).and_then(Option::as_deref) {
            content["displayname"] = name.into();
        }
        if let Some(reason) = reason {
            content["reason"] = reason.into();
        }
        content
    }

    pub fn set_alias(
        &mut self,
        origin: &EventOrigin<'_>,
        alias: String,
        room: String,
    ) -> Result<(), MatrixError> {
        let localpart = alias.strip_prefix('#').and_then(|alias| alias.split_once(':'));
        if !localpart.is_some_and(|(localpart, _)| origin.alias_is_ours(localpart)) {
            let text = "This application service has not reserved this kind of alias.";
            return Err(error(400, "M_EXCLUSIVE", text));
        }
        if self.aliases.contains_key(&alias) {
            return Err(error(409, "M_UNKNOWN", format!("Room alias {alias} already exists")));
        }
        self.room(&room)?;
        self.aliases.insert(alias, room);
        Ok(())
    }

    pub fn create_room(
        &mut self,
        origin: &EventOrigin<'_>,
        creator: &str,
        request: CreateRoom,
    ) -> Result<String, MatrixError> {
        let version = request.room_version.unwrap_or_else(|| DEFAULT_ROOM_VERSION.to_owned());
        if !matches!(version.as_str(), "10" | "11" | "12") {
            return Err(error(
                400,
                "M_UNSUPPORTED_ROOM_VERSION",
                "Your homeserver does not support this room version",
            ));
        }
        let preset = request.preset.unwrap_or_else(|| {
            if request.visibility.as_deref() == Some("public") { "public_chat" } else { "private_chat" }
                .to_owned()
        });
        let (join_rule, history, guests) = match preset.as_str() {
            "private_chat" | "trusted_private_chat" => ("invite", "shared", Some("can_join")),
            "public_chat" => ("public", "shared", None),
            other => return Err(error(400, "M_BAD_JSON", format!("'{other}' is not a valid preset"))),
        };
        let alias = match &request.room_alias_name {
            None => None,
            Some(localpart) => {
                let alias = format!("#{localpart}:{}", origin.server_name);
                if alias.parse::<crate::RoomAlias>().is_err() {
                    return Err(error(400, "M_INVALID_PARAM", "Invalid characters in room alias"));
                }
                if !origin.alias_is_ours(localpart) {
                    return Err(error(
                        400,
                        "M_EXCLUSIVE",
                        "This application service has not reserved this kind of alias.",
                    ));
                }
                if self.aliases.contains_key(&alias) {
                    return Err(error(400, "M_ROOM_IN_USE", "Room alias already taken"));
                }
                Some(alias)
            }
        };
        for user in &request.invite {
            if user.parse::<crate::UserId>().is_err() {
                return Err(error(400, "M_INVALID_PARAM", format!("Invalid user_id: {user}")));
            }
        }

        let id = origin.room_id(&version);
        let mut create = request.creation_content;
        create.insert("room_version".to_owned(), version.clone().into());
        let mut users = Map::new();
        if version != "12" {
            users.insert(creator.to_owned(), 100.into());
        }
        if preset == "trusted_private_chat" {
            if version == "12" {
                // Creators stand above every level and are not listed.
                create.insert("additional_creators".to_owned(), json!(request.invite));
            } else {
                users.extend(request.invite.iter().map(|user| (user.clone(), 100.into())));
            }
        }
        let mut power_levels = json!({
            "ban": 50, "kick": 50, "redact": 50, "invite": if preset == "public_chat" { 50 } else { 0 },
            "state_default": 50, "events_default": 0, "users_default": 0, "users": users,
            "events": {"m.room.name": 50, "m.room.power_levels": 100, "m.room.history_visibility": 100,
                       "m.room.canonical_alias": 50, "m.room.avatar": 50, "m.room.tombstone": if version == "12" { 150 } else { 100 },
                       "m.room.server_acl": 100, "m.room.encryption": 100},
            "historical": 100,
        });
        if preset == "public_chat" {
            power_levels["events"]["m.call.invite"] = 50.into();
        }
        self.rooms.insert(id.clone(), Room { last_change: 0, version, events: Vec::new() });
        // The order that the specification asks for.
        let mut state = vec![("m.room.create".to_owned(), String::new(), Value::Object(create))];
        state.push((
            "m.room.member".to_owned(),
            creator.to_owned(),
            self.member_content(creator, "join", None),
        ));
        state.push(("m.room.power_levels".to_owned(), String::new(), power_levels));
        if let Some(alias) = &alias {
            self.aliases.insert(alias.clone(), id.clone());
            state.push(("m.room.canonical_alias".to_owned(), String::new(), json!({ "alias": alias })));
        }
        state.push(("m.room.join_rules".to_owned(), String::new(), json!({ "join_rule": join_rule })));
        state.push((
            "m.room.history_visibility".to_owned(),
            String::new(),
            json!({ "history_visibility": history }),
        ));
        if let Some(guests) = guests {
            state.push(("m.room.guest_access".to_owned(), String::new(), json!({ "guest_access": guests })));
        }
        state.extend(
            request.initial_state.into_iter().map(|state| (state.event_type, state.state_key, state.content)),
        );
        if let Some(name) = request.name {
            state.push(("m.room.name".to_owned(), String::new(), json!({ "name": name })));
        }
        if let Some(topic) = request.topic {
            state.push(("m.room.topic".to_owned(), String::new(), json!({ "topic": topic })));
        }
        for user in &request.invite {
            state.push(("m.room.member".to_owned(), user.clone(), self.member_content(user, "invite", None)));
        }
        for (event_type, state_key, content) in state {
            self.append(origin, &id, NewEvent::state(creator, &event_type, &state_key, content))?;
        }
        Ok(id)
    }

    pub fn send(
        &mut self,
        origin: &EventOrigin<'_>,
        sender: &str,
        room: &str,
        event_type: &str,
        transaction_id: Option<&str>,
        content: Value,
    ) -> Result<String, MatrixError> {
        let known = self.joined_room(room, sender)?;
        if let Some(transaction_id) = transaction_id {
            let earlier = known.events.iter().find(|stored| {
                stored.transaction_id.as_deref() == Some(transaction_id)
                    && stored.event.sender.as_str() == sender
                    && stored.event.event_type == event_type
            });
            if let Some(earlier) = earlier {
                return Ok(earlier.event.event_id.to_string());
            }
        }
        self.append(origin, room, NewEvent { sender, event_type, state_key: None, content, transaction_id })
    }

    pub fn set_state(
        &mut self,
        origin: &EventOrigin<'_>,
        sender: &str,
        room: &str,
        event_type: &str,
        state_key: &str,
        content: Value,
    ) -> Result<String, MatrixError> {
        let known = self.joined_room(room, sender)?;
        let listed = known
            .state("m.room.power_levels", "")
            .and_then(|levels| levels.content.get("events"))
            .and_then(|events| events.get(event_type))
            .and_then(Value::as_i64);
        let needed = listed.unwrap_or_else(|| known.needed_power("state_default", 50));
        if known.power_of(sender) < needed {
            return Err(error(
                403,
                "M_FORBIDDEN",
                format!(
                    "You don't have permission to post that to the room. user_level < send_level ({needed})"
                ),
            ));
        }
        if let Some(current) = known.state(event_type, state_key)
            && current.content == content
            && current.sender.as_str() == sender
        {
            return Ok(current.event_id.to_string());
        }
        self.append(origin, room, NewEvent::state(sender, event_type, state_key, content))
    }

    pub fn invite(
        &mut self,
        origin: &EventOrigin<'_>,
        sender: &str,
        room: &str,
        user: &str,
        reason: Option<&str>,
    ) -> Result<(), MatrixError> {
        let known = self.joined_room(room, sender)?;
        match known.membership(user) {
            Some("join") => return Err(error(403, "M_FORBIDDEN", format!("{user} is already in the room."))),
            Some("ban") => return Err(error(403, "M_FORBIDDEN", format!("{user} is banned from the room"))),
            _ => {}
        }
        if known.power_of(sender) < known.needed_power("invite", 0) {
            return Err(error(403, "M_FORBIDDEN", "You don't have permission to invite users"));
        }
        let content = self.member_content(user, "invite", reason);
        // The very same invitation makes no new event; one with another reason does.
        let repeated = self
            .rooms
            .get(room)
            .and_then(|known| known.state("m.room.member", user))
            .is_some_and(|known| known.content == content && known.sender.as_str() == sender);
        if repeated {
            return Ok(());
        }
        self.append(origin, room, NewEvent::member(sender, user, content))?;
        Ok(())
    }

    pub fn join(&mut self, origin: &EventOrigin<'_>, user: &str, room: &str) -> Result<(), MatrixError> {
        // A room that isn't known here might be one of another homeserver: there is just nobody to ask.
        let known = self.room(room).map_err(|_| {
            error(
                404,
                "M_UNKNOWN",
                "Can't join remote room because no servers that are in the room have been provided.",
            )
        })?;
        let public = known.text_of("m.room.join_rules", "join_rule") == Some("public");
        match known.membership(user) {
            Some("join") => return Ok(()),
            Some("ban") => return Err(error(403, "M_FORBIDDEN", "You are banned from this room")),
            Some("invite") => {}
            _ if public => {}
            _ => return Err(error(403, "M_FORBIDDEN", "You are not invited to this room.")),
        }
        let content = self.member_content(user, "join", None);
        self.append(origin, room, NewEvent::member(user, user, content))?;
        Ok(())
    }

    pub fn kick(
        &mut self,
        origin: &EventOrigin<'_>,
        sender: &str,
        room: &str,
        user: &str,
        reason: Option<&str>,
    ) -> Result<(), MatrixError> {
        let known = self.joined_room(room, sender)?;
        if !matches!(known.membership(user), Some("join" | "invite")) {
            return Err(error(403, "M_FORBIDDEN", "The target user is not in the room"));
        }
        // To remove oneself is to leave.
        if sender == user {
            return self.leave(origin, user, room);
        }
        if known.power_of(sender) < known.needed_power("kick", 50)
            || known.power_of(user) >= known.power_of(sender)
        {
            return Err(error(403, "M_FORBIDDEN", format!("You cannot kick user {user}.")));
        }
        let mut content = json!({ "membership": "leave" });
        if let Some(reason) = reason {
            content["reason"] = reason.into();
        }
        self.append(origin, room, NewEvent::member(sender, user, content))?;
        Ok(())
    }

    pub fn leave(&mut self, origin: &EventOrigin<'_>, user: &str, room: &str) -> Result<(), MatrixError> {
        if !matches!(self.room(room)?.membership(user), Some("join" | "invite")) {
            return Err(error(403, "M_FORBIDDEN", format!("User {user} not in room {room}")));
        }
        self.append(origin, room, NewEvent::member(user, user, json!({ "membership": "leave" })))?;
        Ok(())
    }

    /// The transaction to push now: the one in flight, else a new one of what waits.
    pub fn next_push(&mut self) -> Option<Push> {
        if self.in_flight.is_none() && !self.queue.is_empty() {
            self.last_transaction += 1;
            let count = self.queue.len().min(EVENTS_IN_A_TRANSACTION);
            let events = self.queue.drain(..count).collect();
            self.in_flight = Some(Push { id: self.last_transaction, events });
        }
        self.in_flight.clone()
    }
}
