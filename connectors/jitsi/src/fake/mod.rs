//! A double of a Jitsi server: a page for each room that lets in whoever has a token that Prosody would accept, and
//! shows who is there. No sound, no picture.

mod key_server;
mod prosody;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

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

use self::{
    key_server::KeyServer,
    prosody::{Key, Rules},
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
    verifier: Verifier,
    state: StateFile<Rooms>,
}

#[derive(Debug)]
enum Verifier {
    Secret(SecretString),
    KeyServer(KeyServer),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Rooms {
    /// Counts people who joined; makes the address of each in its room.
    joined: u64,
    rooms: BTreeMap<String, Vec<Occupant>>,
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
        let state = StateFile::open(&options.state_path, Rooms::default)?;
        let verifier = match &options.verification {
            Verification::Secret(secret) => Verifier::Secret(secret.clone()),
            Verification::KeyServer(url) => Verifier::KeyServer(KeyServer::new(url)),
        };
        Ok(Arc::new(Self { options, verifier, state }))
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
        self.state.update(|rooms| {
            rooms.joined += 1;
            let number = rooms.joined;
            let occupants = rooms.rooms.entry(room.to_owned()).or_default();
            let known = occupants.iter_mut().find(|known| known.id.is_some() && known.id == occupant.id);
            if let Some(known) = known {
                known.name = occupant.name;
                known.email = occupant.email;
                known.moderator = occupant.moderator;
                return Ok(known.clone());
            }
            let occupant = Occupant { nick: format!("{number:08x}"), ..occupant };
            occupants.push(occupant.clone());
            Ok(occupant)
        })
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
    let left = jitsi.state.update(|rooms| {
        if let Some(occupants) = rooms.rooms.get_mut(&name) {
            occupants.retain(|occupant| occupant.nick != form.nick);
            if occupants.is_empty() {
                // A room is gone when the last one leaves.
                rooms.rooms.remove(&name);
            }
        }
    });
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
    let domain = jitsi.options.domain.as_deref().unwrap_or("meet.jitsi");
    let people: Vec<_> = people
        .iter()
        .map(|person| {
            json!({
                "jid": format!("{room}@muc.{domain}/{}", person.nick),
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
