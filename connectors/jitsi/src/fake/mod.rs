//! A double of a Jitsi server: a page for each room that lets in whoever has a token that Prosody would accept, and
//! shows who is there. No sound, no picture.

mod events;
mod key_server;
mod prosody;
mod reservations;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use connector_core::{
    SharedClock,
    fake::{FakeStateError, StateFile},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

pub use self::{events::Events, reservations::Reservations};
use self::{
    key_server::KeyServer,
    prosody::{Key, Rules},
    reservations::Reserved,
};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("reload.js");
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How the double is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where people reach it.
    pub public_url: Url,
    /// The file that keeps who is in which room.
    pub state_path: PathBuf,
    /// Where the time comes from.
    pub clock: SharedClock,
    /// The issuer that is accepted (`app_id`).
    pub app_id: String,
    /// How tokens are verified.
    pub verification: Verification,
    /// The audience that is accepted.
    pub audience: String,
    /// The XMPP domain that `sub` has to name, where `enable_domain_verification` is on (docker images: off).
    pub domain: Option<String>,
    /// Where it asks whether a room may be (`mod_reservations`).
    pub reservations: Option<Reservations>,
}

/// How a server verifies tokens.
#[derive(Debug, Clone)]
pub enum Verification {
    /// HS256 with this secret (`app_secret`).
    Secret(SecretString),
    /// RS256 with what is found here under the token's `kid` (`asap_key_server`).
    KeyServer(Url),
}

/// The double of a Jitsi server.
#[derive(Debug)]
pub struct FakeJitsi {
    options: Options,
    http: reqwest::Client,
    verifier: Verifier,
    events: Mutex<Option<Events>>,
    state: StateFile<Kept>,
}

#[derive(Debug)]
enum Verifier {
    Secret(SecretString),
    KeyServer(KeyServer),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Counts people who joined; makes the address of each in its room.
    joined: u64,
    rooms: BTreeMap<String, Vec<Occupant>>,
    /// Until when rooms may be, where they had to be asked for.
    #[serde(default)]
    reservations: BTreeMap<String, Reserved>,
    /// Who was in a room that still is, and left then.
    #[serde(default)]
    past: BTreeMap<String, Vec<(Occupant, DateTime<Utc>)>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Occupant {
    /// The nickname in the room's address, which no other has.
    nick: String,
    /// `context.user.id` of the token.
    id: Option<String>,
    name: String,
    email: Option<String>,
    moderator: bool,
    joined_at: DateTime<Utc>,
}

impl FakeJitsi {
    /// Opens the double with the state that it left, or with no rooms.
    ///
    /// # Errors
    /// Where the state can't be read or written.
    pub fn open(options: Options) -> Result<Arc<Self>, FakeStateError> {
        let state = StateFile::open(&options.state_path, Kept::default)?;
        let verifier = match &options.verification {
            Verification::Secret(secret) => Verifier::Secret(secret.clone()),
            Verification::KeyServer(url) => Verifier::KeyServer(KeyServer::new(url)),
        };
        let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        Ok(Arc::new(Self { options, http, verifier, events: Mutex::default(), state }))
    }

    /// Tells `events` from now on who comes and goes (`event_sync_component`); nobody where it is none.
    pub fn set_events(&self, events: Option<Events>) {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = events;
    }

    /// Where people reach it.
    pub fn public_url(&self) -> &Url {
        &self.options.public_url
    }

    /// The HTTP service.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/", get(index))
            .route("/room-size", get(room_size))
            .route("/room", get(room_occupants))
            .route("/sessions", get(sessions))
            // Of what pages elsewhere embed a room with, only that it is there.
            .route("/external_api.js", get(|| async { ([(header::CONTENT_TYPE, "text/javascript")], "") }))
            .route("/_double/style.css", get(style))
            .route("/_double/reload.js", get(script))
            .route("/favicon.ico", get(StatusCode::NO_CONTENT))
            .route("/_double/people/{room}", get(people))
            .route("/_double/left", get(left))
            .route("/{room}", get(room))
            .route("/{room}/leave", post(leave))
            .layer(middleware::from_fn(guard))
            .with_state(Arc::clone(self))
    }

    /// Lets `token` into `room`, or says in Prosody's words why not. Somebody who is there already stays there once.
    async fn join(
        &self,
        room: &str,
        token: Option<&str>,
        enter: bool,
    ) -> Result<Result<Occupant, String>, FakeStateError> {
        let public;
        let key = match &self.verifier {
            Verifier::Secret(secret) => Key::Secret(secret.expose_secret().as_bytes()),
            Verifier::KeyServer(keys) => {
                let key_id = match prosody::key_id(token) {
                    Ok(key_id) => key_id,
                    Err(refusal) => return Ok(Err(refusal.to_owned())),
                };
                let Some(found) = keys.public_key(&key_id).await else {
                    return Ok(Err("could not obtain public key".to_owned()));
                };
                public = found;
                Key::Public(&public)
            }
        };
        let now = self.options.clock.now();
        let rules = Rules {
            app_id: &self.options.app_id,
            key,
            audience: &self.options.audience,
            domain: self.options.domain.as_deref(),
        };
        let admitted = match prosody::admit(&rules, token, room, now) {
            Ok(admitted) => admitted,
            Err(refusal) => return Ok(Err(refusal.to_owned())),
        };
        let occupant = Occupant {
            nick: String::new(),
            id: admitted.id,
            name: admitted.name,
            email: admitted.email,
            moderator: admitted.moderator,
            joined_at: now,
        };
        if !enter {
            return Ok(Ok(occupant));
        }
        let is_new = self.occupants(room).is_none();
        if is_new && let Some(reservations) = &self.options.reservations {
            let owner = format!("{}@{}", occupant.id.as_deref().unwrap_or_default(), self.domain());
            match reservations.reserve(&self.http, room, &owner, now).await {
                Ok(reserved) => self.state.update(|rooms| {
                    rooms.reservations.insert(room.to_owned(), reserved);
                })?,
                Err(message) => return Ok(Err(message)),
            }
        }
        let (occupant, number) = self.state.update(|rooms| {
            let nick = format!("{:08x}", rooms.joined + 1);
            let occupants = rooms.rooms.entry(room.to_owned()).or_default();
            let known = occupants.iter_mut().find(|known| known.id.is_some() && known.id == occupant.id);
            if let Some(known) = known {
                known.name = occupant.name;
                known.email = occupant.email;
                known.moderator = occupant.moderator;
                return (known.clone(), None);
            }
            let occupant = Occupant { nick, ..occupant };
            occupants.push(occupant.clone());
            rooms.joined += 1;
            (occupant, Some(occupants.len()))
        })?;
        if is_new {
            self.tell("room/created", "muc-room-created", room, json!({ "created_at": now.timestamp() }))
                .await;
        }
        if let Some(number) = number {
            let joined = events::occupant(&self.room_jid(room), &occupant, None);
            let told = json!({ "active_occupants_count": number, "occupant": joined });
            self.tell("occupant/joined", "muc-occupant-joined", room, told).await;
        }
        Ok(Ok(occupant))
    }

    /// Takes out of `room` whom `leaves` names. A room is gone when the last one leaves.
    async fn remove(&self, room: &str, leaves: impl Fn(&Occupant) -> bool) -> Result<(), FakeStateError> {
        let now = self.options.clock.now();
        let (left, number, gone) = self.state.update(|rooms| {
            let Some(occupants) = rooms.rooms.get_mut(room) else { return (Vec::new(), 0, None) };
            let left: Vec<Occupant> = occupants.extract_if(.., |occupant| leaves(occupant)).collect();
            let number = occupants.len();
            let past = rooms.past.entry(room.to_owned()).or_default();
            past.extend(left.iter().cloned().map(|occupant| (occupant, now)));
            let gone = (number == 0).then(|| {
                rooms.rooms.remove(room);
                (rooms.past.remove(room).unwrap_or_default(), rooms.reservations.remove(room))
            });
            (left, number, gone)
        })?;
        let room_jid = self.room_jid(room);
        for occupant in &left {
            let left = events::occupant(&room_jid, occupant, Some(now));
            let told = json!({ "active_occupants_count": number, "occupant": left });
            self.tell("occupant/left", "muc-occupant-left", room, told).await;
        }
        let Some((past, reserved)) = gone else { return Ok(()) };
        let all: Vec<_> = past
            .iter()
            .map(|(occupant, left_at)| events::occupant(&room_jid, occupant, Some(*left_at)))
            .collect();
        let told = json!({ "destroyed_at": now.timestamp(), "all_occupants": all });
        self.tell("room/destroyed", "muc-room-destroyed", room, told).await;
        if let (Some(reservations), Some(reserved)) = (&self.options.reservations, reserved) {
            reservations.release(&self.http, &reserved).await;
        }
        Ok(())
    }

    /// Destroys the room where the time that it was reserved for is over ("Scheduled conference duration exceeded.").
    async fn close_overdue(&self, room: &str) -> Result<(), FakeStateError> {
        let now = self.options.clock.now();
        let is_overdue = self
            .state
            .read(|rooms| rooms.reservations.get(room).is_some_and(|reserved| reserved.ends_at <= now));
        if is_overdue { self.remove(room, |_| true).await } else { Ok(()) }
    }

    async fn tell(&self, path: &str, name: &str, room: &str, told: serde_json::Value) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(events) = events {
            events.tell(&self.http, path, name, room, self.domain(), told).await;
        }
    }

    fn domain(&self) -> &str {
        self.options.domain.as_deref().unwrap_or("meet.jitsi")
    }

    fn room_jid(&self, room: &str) -> String {
        format!("{room}@muc.{}", self.domain())
    }

    fn occupants(&self, room: &str) -> Option<Vec<Occupant>> {
        self.state.read(|rooms| rooms.rooms.get(room).cloned())
    }
}

#[derive(Template)]
#[template(path = "index.html")]
struct IndexPage {
    rooms: Vec<RoomLine>,
}

struct RoomLine {
    name: String,
    people: Vec<PersonLine>,
}

struct PersonLine {
    name: String,
    initial: String,
    email: Option<String>,
    moderator: bool,
    iso: String,
    clock_time: String,
}

#[derive(Template)]
#[template(path = "room.html")]
struct RoomPage {
    room: String,
    me: String,
    nick: String,
    people: Vec<PersonLine>,
}

#[derive(Template)]
#[template(path = "refused.html")]
struct RefusedPage {
    room: String,
    reason: String,
}

#[derive(Template)]
#[template(path = "people.html")]
struct PeoplePart {
    people: Vec<PersonLine>,
}

#[derive(Template)]
#[template(path = "left.html")]
struct LeftPage;

impl From<Occupant> for PersonLine {
    fn from(occupant: Occupant) -> Self {
        Self {
            initial: occupant.name.chars().next().map(|c| c.to_uppercase().collect()).unwrap_or_default(),
            iso: occupant.joined_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            clock_time: occupant.joined_at.format("%H:%M UTC").to_string(),
            name: occupant.name,
            email: occupant.email,
            moderator: occupant.moderator,
        }
    }
}

fn page(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn broken(error: &FakeStateError) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
}

/// Headers for every answer; and a form of another site is not accepted.
async fn guard(request: Request, next: Next) -> Response {
    let foreign = request
        .headers()
        .get("sec-fetch-site")
        .is_some_and(|site| site.as_bytes() != b"same-origin" && site.as_bytes() != b"none");
    if foreign && request.method() == Method::POST {
        return StatusCode::FORBIDDEN.into_response();
    }
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

async fn index(State(jitsi): State<Arc<FakeJitsi>>) -> Response {
    let rooms = jitsi.state.read(|rooms| {
        rooms
            .rooms
            .iter()
            .map(|(name, people)| RoomLine {
                name: name.clone(),
                people: people.iter().cloned().map(PersonLine::from).collect(),
            })
            .collect()
    });
    page(StatusCode::OK, &IndexPage { rooms })
}

#[derive(Deserialize)]
struct JoinQuery {
    jwt: Option<String>,
}

async fn room(
    State(jitsi): State<Arc<FakeJitsi>>,
    Path(name): Path<String>,
    Query(query): Query<JoinQuery>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    // The client folds the name before it asks for the room.
    let name = name.to_lowercase();
    if let Err(error) = jitsi.close_overdue(&name).await {
        return broken(&error);
    }
    // A HEAD only asks whether the token would do.
    let joined = match jitsi.join(&name, query.jwt.as_deref(), method == Method::GET).await {
        Ok(joined) => joined,
        Err(error) => return broken(&error),
    };
    let program = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with("application/json")));
    match joined {
        Err(reason) if program => (StatusCode::FORBIDDEN, Json(json!({ "error": reason }))).into_response(),
        Err(reason) => page(StatusCode::FORBIDDEN, &RefusedPage { room: name, reason }),
        Ok(me) => {
            let people = jitsi.occupants(&name).unwrap_or_default();
            if program {
                let participants: Vec<_> = people
                    .iter()
                    .map(|person| json!({ "id": person.id, "name": person.name, "moderator": person.moderator }))
                    .collect();
                return Json(json!({ "joined": true, "participants": participants })).into_response();
            }
            let people = people.into_iter().map(PersonLine::from).collect();
            page(StatusCode::OK, &RoomPage { room: name, me: me.name, nick: me.nick, people })
        }
    }
}

#[derive(Deserialize)]
struct LeaveForm {
    nick: String,
}

async fn leave(
    State(jitsi): State<Arc<FakeJitsi>>,
    Path(name): Path<String>,
    Form(form): Form<LeaveForm>,
) -> Response {
    let name = name.to_lowercase();
    let left = jitsi.remove(&name, |occupant| occupant.nick == form.nick).await;
    match left {
        Ok(()) => Redirect::to("/_double/left").into_response(),
        Err(error) => broken(&error),
    }
}

async fn left() -> Response {
    page(StatusCode::OK, &LeftPage)
}

/// The list of people alone, for the page to look again: asking for the whole page would be joining again.
async fn people(State(jitsi): State<Arc<FakeJitsi>>, Path(name): Path<String>) -> Response {
    if let Err(error) = jitsi.close_overdue(&name).await {
        return broken(&error);
    }
    let people = jitsi.occupants(&name).unwrap_or_default();
    page(StatusCode::OK, &PeoplePart { people: people.into_iter().map(PersonLine::from).collect() })
}

/// The query of `mod_muc_size`; `domain`, `subdomain` and `token` are taken and make no difference here.
#[derive(Deserialize)]
struct SizeQuery {
    room: Option<String>,
}

async fn room_size(State(jitsi): State<Arc<FakeJitsi>>, Query(query): Query<SizeQuery>) -> Response {
    let Some(room) = query.room else { return StatusCode::BAD_REQUEST.into_response() };
    jitsi.occupants(&room.to_lowercase()).map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |people| Json(json!({ "participants": people.len() })).into_response(),
    )
}

async fn room_occupants(State(jitsi): State<Arc<FakeJitsi>>, Query(query): Query<SizeQuery>) -> Response {
    let Some(room) = query.room.map(|room| room.to_lowercase()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(people) = jitsi.occupants(&room) else { return StatusCode::NOT_FOUND.into_response() };
    let room_jid = jitsi.room_jid(&room);
    let people: Vec<_> = people
        .iter()
        .map(|person| {
            json!({
                "jid": format!("{room_jid}/{}", person.nick),
                "email": person.email.as_deref().unwrap_or_default(),
                "display_name": person.name,
            })
        })
        .collect();
    Json(people).into_response()
}

async fn sessions(State(jitsi): State<Arc<FakeJitsi>>) -> String {
    jitsi.state.read(|rooms| rooms.rooms.values().map(Vec::len).sum::<usize>()).to_string()
}
