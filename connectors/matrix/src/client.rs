use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::{
    Capability, Connector, ConnectorError, ErrorKind, Health, HttpClient, ServerInfo, SharedClock,
    SystemClock,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use crate::{
    EventId, RoomAlias, RoomId, UserId, appservice::ClientEvent, ids::is_server_name, rooms::ROOM_MARK,
};

/// The service's name in errors and logs.
pub const SERVICE: &str = "matrix";

const CLIENT: [&str; 3] = ["_matrix", "client", "v3"];

/// Which homeserver there is and what it and we prove to each other.
#[derive(Debug, Clone)]
pub struct MatrixSettings {
    /// Where the homeserver's client-server API is (without `/_matrix`).
    pub url: Url,
    /// The homeserver's name: what stands after the colon in its users' ids. Often another than the URL's host.
    pub server_name: String,
    /// What we prove to the homeserver.
    pub as_token: SecretString,
    /// What the homeserver proves to us.
    pub hs_token: SecretString,
    /// The bot's name, without `@` and server: `_chancery`.
    pub sender_localpart: String,
}

/// Calls the homeserver as the application service's bot.
#[derive(Debug, Clone)]
pub struct MatrixClient {
    http: HttpClient,
    as_token: SecretString,
    sender_localpart: String,
    sender: UserId,
}

/// The versions of the specification that a homeserver supports.
#[derive(Debug, Clone, Deserialize)]
pub struct SupportedVersions {
    /// `v1.11` and the like, oldest first as a rule.
    pub versions: Vec<String>,
}

/// Whose token this is.
#[derive(Debug, Clone, Deserialize)]
pub struct WhoAmI {
    /// The user.
    pub user_id: UserId,
}

/// What a new room allows from the start (`preset` of `createRoom`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomPreset {
    /// Who is invited may join; they can't change the room.
    #[default]
    PrivateChat,
    /// Who is invited may join, with the creator's power.
    TrustedPrivateChat,
    /// Anyone may join.
    PublicChat,
}

/// A room that should be there.
#[derive(Debug, Clone, Default)]
pub struct RoomSpec {
    /// The alias' part between `#` and the colon: what makes the room the same one the next time. It lies in our
    /// namespace: see [`MatrixClient::alias_localpart`].
    pub alias_localpart: String,
    /// The name that people see.
    pub name: String,
    /// What the room is for.
    pub topic: Option<String>,
    /// What it allows.
    pub preset: RoomPreset,
    /// A space: a room of rooms.
    pub is_space: bool,
    /// Whether users of other homeservers may ever join. Can't be changed later.
    pub federate: bool,
    /// Who is invited.
    pub invite: Vec<UserId>,
    /// The room's version (`11`, `12`); the homeserver's default unless told. Can't be changed later.
    pub version: Option<String>,
}

/// A user's relation to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// Asked in.
    Invite,
    /// In.
    Join,
    /// Asked to be let in.
    Knock,
    /// Out: left, kicked or never there.
    Leave,
    /// Out and not to come back.
    Ban,
}

/// Somebody who is in a room.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JoinedMember {
    /// The name that people see, where one is set.
    pub display_name: Option<String>,
    /// A picture, `mxc://…`.
    pub avatar_url: Option<String>,
}

#[derive(Deserialize)]
struct RoomAnswer {
    room_id: RoomId,
}

#[derive(Deserialize)]
struct EventAnswer {
    event_id: EventId,
}

impl MatrixClient {
    /// A client for the homeserver in `settings`.
    ///
    /// # Errors
    /// `Misconfigured` where the settings name no user or the URL can't have a path.
    pub fn new(settings: &MatrixSettings) -> Result<Self, ConnectorError> {
        Self::with_clock(settings, Arc::new(SystemClock))
    }

    /// The same with a clock that says for how long a failing homeserver is left alone.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_clock(settings: &MatrixSettings, clock: SharedClock) -> Result<Self, ConnectorError> {
        let misconfigured =
            |message: &str| ConnectorError::new(ErrorKind::Misconfigured, SERVICE, message.to_owned());
        if !is_server_name(&settings.server_name) {
            return Err(misconfigured("the server name is none"));
        }
        if settings.as_token.expose_secret().is_empty() || settings.hs_token.expose_secret().is_empty() {
            return Err(misconfigured("the application service's tokens are not set"));
        }
        let sender = UserId::try_from(format!("@{}:{}", settings.sender_localpart, settings.server_name))
            .map_err(|error| misconfigured("the sender's localpart makes no user id").with_source(error))?;
        Ok(Self {
            http: HttpClient::builder(SERVICE, settings.url.clone()).clock(clock).build()?,
            as_token: settings.as_token.clone(),
            sender_localpart: settings.sender_localpart.clone(),
            sender,
        })
    }

    /// The bot.
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// `name` as an alias' local part in our namespace: `{sender_localpart}_{name}`. The homeserver refuses others
    /// with `M_EXCLUSIVE`.
    pub fn alias_localpart(&self, name: &str) -> String {
        format!("{}_{name}", self.sender_localpart)
    }

    /// What the homeserver supports; needs no token, so it tells whether the URL is right.
    ///
    /// # Errors
    /// See [`ErrorKind`], here and below.
    pub async fn versions(&self) -> Result<SupportedVersions, ConnectorError> {
        self.http.get(&["_matrix", "client", "versions"], &[], None).await
    }

    /// Who we are to the homeserver; tells whether the token is right.
    pub async fn whoami(&self) -> Result<WhoAmI, ConnectorError> {
        self.get(&["account", "whoami"], &[]).await
    }

    /// Makes the bot a user of the homeserver as others are, so that it can be made an administrator. One that is there is a
    /// success. It never signs in: that works without, and with the Matrix Authentication Service there is no other way.
    pub async fn register(&self) -> Result<(), ConnectorError> {
        let body = json!({
            "type": "m.login.application_service", "username": self.sender_localpart, "inhibit_login": true,
        });
        match self.post::<Value>(&["register"], &body).await {
            Err(error) if error.code.as_deref() != Some("M_USER_IN_USE") => Err(error),
            _ => Ok(()),
        }
    }

    /// Sets the bot's name as people see it.
    pub async fn set_display_name(&self, name: &str) -> Result<(), ConnectorError> {
        let body = json!({ "displayname": name });
        let _: Value = self.put(&["profile", self.sender.as_str(), "displayname"], &body).await?;
        Ok(())
    }

    /// The room behind `alias`, where there is one.
    pub async fn resolve_alias(&self, alias: &RoomAlias) -> Result<Option<RoomId>, ConnectorError> {
        let answer: Result<RoomAnswer, _> = self.get(&["directory", "room", alias.as_str()], &[]).await;
        Ok(found(answer)?.map(|answer| answer.room_id))
    }

    /// Gives `room` an alias, which is free.
    ///
    /// # Errors
    /// 409 where it isn't.
    pub async fn set_alias(&self, alias: &RoomAlias, room: &RoomId) -> Result<(), ConnectorError> {
        let _: Value = self.put(&["directory", "room", alias.as_str()], &json!({ "room_id": room })).await?;
        Ok(())
    }

    /// Removes an alias. One that isn't there is a success.
    pub async fn remove_alias(&self, alias: &RoomAlias) -> Result<(), ConnectorError> {
        let segments = [&CLIENT[..], &["directory", "room", alias.as_str()]].concat();
        let answer: Result<Value, _> = self.http.delete(&segments, Some(self.as_token.expose_secret())).await;
        found(answer).map(drop)
    }

    /// The rooms that the bot is in.
    pub async fn joined_rooms(&self) -> Result<Vec<RoomId>, ConnectorError> {
        #[derive(Deserialize)]
        struct Answer {
            joined_rooms: Vec<RoomId>,
        }
        let answer: Answer = self.get(&["joined_rooms"], &[]).await?;
        Ok(answer.joined_rooms)
    }

    /// The room of `spec`: made, where its alias is free; adopted, where it was made before (by an earlier call, or by
    /// one that goes on at the same time). In an adopted room, who was never
    /// there gets invited (who left or was removed is not asked again); name and topic stay.
    pub async fn ensure_room(&self, spec: &RoomSpec) -> Result<RoomId, ConnectorError> {
        let alias = self.alias_of(spec)?;
        if let Some(room) = self.resolve_alias(&alias).await? {
            return self.adopt(room, spec).await;
        }
        match self.create_room(spec).await {
            Ok(room) => Ok(room),
            // Taken in the meantime, or made by a call whose answer was lost: the alias tells.
            Err(error)
                if error.code.as_deref() == Some("M_ROOM_IN_USE") || error.kind == ErrorKind::Ambiguous =>
            {
                match self.resolve_alias(&alias).await? {
                    Some(room) => self.adopt(room, spec).await,
                    None => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn create_room(&self, spec: &RoomSpec) -> Result<RoomId, ConnectorError> {
        let mut creation_content = serde_json::Map::new();
        if spec.is_space {
            creation_content.insert("type".to_owned(), "m.space".into());
        }
        if !spec.federate {
            creation_content.insert("m.federate".to_owned(), false.into());
        }
        let mut body = json!({
            "preset": spec.preset,
            "visibility": "private",
            "name": spec.name,
            "room_alias_name": spec.alias_localpart,
            "invite": spec.invite,
            "creation_content": creation_content,
            "initial_state": [{
                "type": ROOM_MARK, "state_key": "", "content": { "alias_localpart": spec.alias_localpart },
            }],
        });
        if let Some(version) = &spec.version {
            body["room_version"] = version.as_str().into();
        }
        if let Some(topic) = &spec.topic {
            body["topic"] = topic.as_str().into();
        }
        let answer: RoomAnswer = self.post(&["createRoom"], &body).await?;
        Ok(answer.room_id)
    }

    async fn adopt(&self, room: RoomId, spec: &RoomSpec) -> Result<RoomId, ConnectorError> {
        // Joining where one is joined changes nothing.
        self.join(&room).await?;
        for user in &spec.invite {
            if self.state(&room, "m.room.member", user.as_str()).await?.is_none() {
                self.invite(&room, user, None).await?;
            }
        }
        Ok(room)
    }

    /// Posts `m.notice` (a message that other bots don't answer). `transaction_id` is derived from the caller's job: the
    /// same id again is the same event, and nobody sees it twice.
    pub async fn send_notice(
        &self,
        room: &RoomId,
        transaction_id: &str,
        body: &str,
        formatted_body: Option<&str>,
    ) -> Result<EventId, ConnectorError> {
        self.send(room, transaction_id, &notice(body, formatted_body)).await
    }

    /// Replaces the text of a notice that the bot sent. Clients that can't replace show it as a new one, after `* `.
    pub async fn edit_notice(
        &self,
        room: &RoomId,
        transaction_id: &str,
        replaces: &EventId,
        body: &str,
        formatted_body: Option<&str>,
    ) -> Result<EventId, ConnectorError> {
        let fallback = formatted_body.map(|html| format!("* {html}"));
        let mut content = notice(&format!("* {body}"), fallback.as_deref());
        content["m.new_content"] = notice(body, formatted_body);
        content["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": replaces });
        self.send(room, transaction_id, &content).await
    }

    async fn send(
        &self,
        room: &RoomId,
        transaction_id: &str,
        content: &Value,
    ) -> Result<EventId, ConnectorError> {
        // Empty or of dots alone it would vanish from the path.
        if transaction_id.trim_matches('.').is_empty() {
            return Err(ConnectorError::new(ErrorKind::Permanent, SERVICE, "the transaction id is empty"));
        }
        let answer: EventAnswer =
            self.put(&["rooms", room.as_str(), "send", "m.room.message", transaction_id], content).await?;
        Ok(answer.event_id)
    }

    /// Invites `user`. Who is in the room or invited already stays so, and that is a success.
    pub async fn invite(
        &self,
        room: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), ConnectorError> {
        let answer: Result<Value, _> =
            self.post(&["rooms", room.as_str(), "invite"], &target(user, reason)).await;
        self.unless_forbidden(answer, room, user, &[Membership::Invite, Membership::Join]).await
    }

    /// Removes `user`, who may come back where the room lets them. Who isn't in the room is a success. The bot doesn't
    /// remove itself: it would be out of its own room, and nobody could let it in again.
    pub async fn kick(
        &self,
        room: &RoomId,
        user: &UserId,
        reason: Option<&str>,
    ) -> Result<(), ConnectorError> {
        if *user == self.sender {
            let message = "the bot doesn't remove itself from a room";
            return Err(ConnectorError::new(ErrorKind::Permanent, SERVICE, message));
        }
        let answer: Result<Value, _> =
            self.post(&["rooms", room.as_str(), "kick"], &target(user, reason)).await;
        self.unless_forbidden(answer, room, user, &[Membership::Leave, Membership::Ban]).await
    }

    /// A 403 means "no power" and "is so already" alike: the membership tells which.
    async fn unless_forbidden(
        &self,
        answer: Result<Value, ConnectorError>,
        room: &RoomId,
        user: &UserId,
        done: &[Membership],
    ) -> Result<(), ConnectorError> {
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.status == Some(403) => match self.membership(room, user).await {
                Ok(membership) if done.contains(&membership) => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The bot joins `room`: it was invited, or it is in the room already.
    pub async fn join(&self, room: &RoomId) -> Result<(), ConnectorError> {
        let _: RoomAnswer = self.post(&["rooms", room.as_str(), "join"], &json!({})).await?;
        Ok(())
    }

    /// How `user` stands to `room`, which the bot has to be in.
    pub async fn membership(&self, room: &RoomId, user: &UserId) -> Result<Membership, ConnectorError> {
        #[derive(Deserialize)]
        struct Member {
            membership: Membership,
        }
        let segments = ["rooms", room.as_str(), "state", "m.room.member", user.as_str()];
        let answer: Result<Member, _> = self.get(&segments, &[]).await;
        Ok(found(answer)?.map_or(Membership::Leave, |member| member.membership))
    }

    /// Who is in `room`, which the bot has to be in.
    pub async fn joined_members(
        &self,
        room: &RoomId,
    ) -> Result<BTreeMap<UserId, JoinedMember>, ConnectorError> {
        #[derive(Deserialize)]
        struct Answer {
            joined: BTreeMap<UserId, JoinedMember>,
        }
        let answer: Answer = self.get(&["rooms", room.as_str(), "joined_members"], &[]).await?;
        Ok(answer.joined)
    }

    /// The content of a state event; `None` where it isn't set.
    pub async fn state(
        &self,
        room: &RoomId,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<Value>, ConnectorError> {
        let answer = self.get(&state_segments(room, event_type, state_key), &[]).await;
        found(answer)
    }

    /// Sets a state event, whole: what isn't in `content` is gone.
    pub async fn set_state(
        &self,
        room: &RoomId,
        event_type: &str,
        state_key: &str,
        content: &impl Serialize,
    ) -> Result<EventId, ConnectorError> {
        let answer: EventAnswer = self.put(&state_segments(room, event_type, state_key), content).await?;
        Ok(answer.event_id)
    }

    /// The last `limit` events of `room` (at most 1,000; a homeserver may give fewer), the newest first.
    pub async fn messages(&self, room: &RoomId, limit: u16) -> Result<Vec<ClientEvent>, ConnectorError> {
        #[derive(Deserialize)]
        struct Answer {
            chunk: Vec<ClientEvent>,
        }
        let limit = limit.min(1_000).to_string();
        let answer: Answer =
            self.get(&["rooms", room.as_str(), "messages"], &[("dir", "b"), ("limit", &limit)]).await?;
        Ok(answer.chunk)
    }

    /// Has the homeserver call us, and repeat at once what it couldn't deliver while we were away. Answers how long our
    /// own answer took.
    pub async fn ping(
        &self,
        appservice_id: &str,
        transaction_id: Option<&str>,
    ) -> Result<Duration, ConnectorError> {
        #[derive(Deserialize)]
        struct Answer {
            duration_ms: u64,
        }
        let body = transaction_id.map_or_else(|| json!({}), |id| json!({ "transaction_id": id }));
        let segments = ["_matrix", "client", "v1", "appservice", appservice_id, "ping"];
        let answer: Answer = self.http.post(&segments, &body, Some(self.as_token.expose_secret())).await?;
        Ok(Duration::from_millis(answer.duration_ms))
    }

    /// A resource anywhere on the homeserver.
    pub(crate) async fn get_at<T: serde::de::DeserializeOwned>(
        &self,
        segments: &[&str],
    ) -> Result<T, ConnectorError> {
        self.http.get(segments, &[], Some(self.as_token.expose_secret())).await
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, ConnectorError> {
        let segments = [&CLIENT[..], segments].concat();
        self.http.get(&segments, query, Some(self.as_token.expose_secret())).await
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &Value,
    ) -> Result<T, ConnectorError> {
        let segments = [&CLIENT[..], segments].concat();
        self.http.post(&segments, body, Some(self.as_token.expose_secret())).await
    }

    async fn put<T: serde::de::DeserializeOwned>(
        &self,
        segments: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ConnectorError> {
        let segments = [&CLIENT[..], segments].concat();
        self.http.put(&segments, &[], body, Some(self.as_token.expose_secret())).await
    }
}

#[async_trait]
impl Connector for MatrixClient {
    fn service(&self) -> &'static str {
        SERVICE
    }

    fn capabilities(&self) -> Vec<Capability> {
        vec![
            Capability { name: "rooms", description: "makes rooms and spaces, and finds them again" },
            Capability { name: "notices", description: "posts notices, and changes them in place" },
            Capability { name: "members", description: "invites and removes people" },
            Capability { name: "transactions", description: "tells what happens in the bot's rooms" },
        ]
    }

    fn health(&self) -> Health {
        self.http.health()
    }

    async fn check(&self) -> Result<ServerInfo, ConnectorError> {
        let version = self.versions().await?.versions.pop();
        let WhoAmI { user_id } = self.whoami().await?;
        if user_id != self.sender {
            let message = format!("the token is {user_id}'s, and the bot is {}", self.sender);
            return Err(ConnectorError::new(ErrorKind::Misconfigured, SERVICE, message));
        }
        let (identity, clock_ahead) = (Some(user_id.to_string()), self.http.clock_ahead());
        Ok(ServerInfo { version, identity, clock_ahead, ..ServerInfo::default() })
    }
}

fn found<T>(answer: Result<T, ConnectorError>) -> Result<Option<T>, ConnectorError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        // A server that doesn't know the path says 404 too; only this code says that the thing isn't there.
        Err(error) if error.is_not_found() && error.code.as_deref() == Some("M_NOT_FOUND") => Ok(None),
        Err(error) => Err(error),
    }
}

fn state_segments<'a>(room: &'a RoomId, event_type: &'a str, state_key: &'a str) -> Vec<&'a str> {
    let mut segments = vec!["rooms", room.as_str(), "state", event_type];
    if !state_key.is_empty() {
        segments.push(state_key);
    }
    segments
}

fn target(user: &UserId, reason: Option<&str>) -> Value {
    let mut body = json!({ "user_id": user });
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    body
}

fn notice(body: &str, formatted_body: Option<&str>) -> Value {
    let mut content = json!({ "msgtype": "m.notice", "body": body });
    if let Some(html) = formatted_body {
        content["format"] = "org.matrix.custom.html".into();
        content["formatted_body"] = html.into();
    }
    content
}
