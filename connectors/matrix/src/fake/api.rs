//! The client-server API, as the application service uses it.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use connector_core::ConnectorError;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

use super::{
    Failure, FakeMatrix,
    homeserver::{CreateRoom, MatrixError, StoredEvent, error},
};

type Shared = State<Arc<FakeMatrix>>;
type Answer = Result<Json<Value>, MatrixError>;

impl IntoResponse for MatrixError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(json!({ "errcode": self.errcode, "error": self.error }))).into_response()
    }
}

pub(super) fn router(double: &Arc<FakeMatrix>) -> Router {
    let v3 = Router::new()
        .route("/account/whoami", get(whoami))
        .route("/createRoom", post(create_room))
        .route("/directory/room/{alias}", get(resolve_alias).put(set_alias).delete(remove_alias))
        .route("/join/{room_or_alias}", post(join_by_alias))
        .route("/joined_rooms", get(joined_rooms))
        .route("/login", get(login_flows))
        .route("/register", post(register))
        .route("/profile/{user}/displayname", get(display_name).put(set_display_name))
        .route("/rooms/{room}/invite", post(invite))
        .route("/rooms/{room}/join", post(join))
        .route("/rooms/{room}/kick", post(kick))
        .route("/rooms/{room}/leave", post(leave))
        .route("/rooms/{room}/joined_members", get(joined_members))
        .route("/rooms/{room}/messages", get(messages))
        .route("/rooms/{room}/event/{event}", get(event))
        .route("/rooms/{room}/send/{event_type}/{transaction}", put(send))
        .route("/rooms/{room}/state/{event_type}", get(state).put(set_state))
        .route("/rooms/{room}/state/{event_type}/", get(state).put(set_state))
        .route("/rooms/{room}/state/{event_type}/{state_key}", get(keyed_state).put(set_keyed_state));
    Router::new()
        .route("/_matrix/client/versions", get(versions))
        .route("/.well-known/matrix/client", get(well_known))
        .route("/_matrix/client/v1/appservice/{id}/ping", post(ping))
        .route("/_synapse/admin/v2/users/{user}", get(user))
        .nest("/_matrix/client/v3", v3)
        .fallback(async || error(404, "M_UNRECOGNIZED", "Unrecognized request"))
        .method_not_allowed_fallback(async || error(405, "M_UNRECOGNIZED", "Unrecognized request"))
        .layer(middleware::from_fn_with_state(Arc::clone(double), misbehave))
        .with_state(Arc::clone(double))
}

/// Fails where a test asked for it.
async fn misbehave(State(double): Shared, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/_matrix/client/") {
        return next.run(request).await;
    }
    match double.take_failure() {
        None => next.run(request).await,
        Some(Failure::RateLimited { retry_after_ms }) => {
            let mut response = (
                StatusCode::TOO_MANY_REQUESTS,
                Json(json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests",
                             "retry_after_ms": retry_after_ms })),
            )
                .into_response();
            let seconds = HeaderValue::from(retry_after_ms.div_ceil(1_000));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            response
        }
        Some(Failure::BadGateway) => StatusCode::BAD_GATEWAY.into_response(),
        Some(Failure::AnswerLost) => {
            next.run(request).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ActAs {
    user_id: Option<String>,
}

impl FakeMatrix {
    /// Who calls: the application service's bot. Other users of its namespace would have to be registered first.
    fn caller(&self, headers: &HeaderMap, act_as: &ActAs) -> Result<String, MatrixError> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .ok_or_else(|| error(401, "M_MISSING_TOKEN", "Missing access token"))?;
        if !bool::from(self.options.as_token.expose_secret().as_bytes().ct_eq(token)) {
            return Err(error(401, "M_UNKNOWN_TOKEN", "Invalid access token passed."));
        }
        let bot = self.user_id(&self.options.sender_localpart);
        match &act_as.user_id {
            Some(user) if *user != bot => {
                Err(error(403, "M_FORBIDDEN", "Application service has not registered this user"))
            }
            _ => Ok(bot),
        }
    }
}

/// Reads a body; none at all counts as an empty object, as with Synapse.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, MatrixError> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    let value: Value =
        serde_json::from_slice(body).map_err(|_| error(400, "M_NOT_JSON", "Content not JSON."))?;
    serde_json::from_value(value)
        .map_err(|_| error(400, "M_BAD_JSON", "The request body is not what it should be"))
}

async fn versions() -> Json<Value> {
    let versions: Vec<String> = (1..=15).map(|minor| format!("v1.{minor}")).collect();
    Json(json!({ "versions": versions, "unstable_features": {} }))
}

async fn well_known(State(double): Shared) -> Json<Value> {
    Json(json!({ "m.homeserver": { "base_url": double.options.public_url.as_str().trim_end_matches('/') } }))
}

async fn whoami(State(double): Shared, Query(act_as): Query<ActAs>, headers: HeaderMap) -> Answer {
    let user = double.caller(&headers, &act_as)?;
    Ok(Json(json!({ "user_id": user, "is_guest": false })))
}

async fn display_name(State(double): Shared, Path(user): Path<String>) -> Answer {
    let name = double.state.read(|homeserver| homeserver.users.get(&user).cloned());
    match name {
        Some(Some(name)) => Ok(Json(json!({ "displayname": name }))),
        Some(None) => Ok(Json(json!({}))),
        None => Err(error(404, "M_NOT_FOUND", "No row found")),
    }
}

async fn set_display_name(
    State(double): Shared,
    Path(user): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        displayname: String,
    }
    let caller = double.caller(&headers, &act_as)?;
    if caller != user {
        return Err(error(400, "M_FORBIDDEN", "Cannot set another user's displayname"));
    }
    let body: Body = read(&body)?;
    double.change(|homeserver, _| {
        homeserver.users.insert(user, Some(body.displayname));
        Ok(())
    })?;
    Ok(Json(json!({})))
}

async fn create_room(
    State(double): Shared,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    let request: CreateRoom = read(&body)?;
    let room = double.change(|homeserver, origin| homeserver.create_room(origin, &caller, request))?;
    Ok(Json(json!({ "room_id": room })))
}

async fn resolve_alias(State(double): Shared, Path(alias): Path<String>) -> Answer {
    if alias.parse::<crate::RoomAlias>().is_err() {
        return Err(error(400, "M_INVALID_PARAM", "Room alias invalid"));
    }
    let room = double
        .state
        .read(|homeserver| homeserver.aliases.get(&alias).cloned())
        .ok_or_else(|| error(404, "M_NOT_FOUND", format!("Room alias {alias} not found.")))?;
    Ok(Json(json!({ "room_id": room, "servers": [double.options.server_name] })))
}

async fn set_alias(
    State(double): Shared,
    Path(alias): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    #[derive(Deserialize)]
    struct Body {
        room_id: String,
    }
    double.caller(&headers, &act_as)?;
    let body: Body = read(&body)?;
    double.change(|homeserver, origin| homeserver.set_alias(origin, alias, body.room_id))?;
    Ok(Json(json!({})))
}

async fn remove_alias(
    State(double): Shared,
    Path(alias): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
) -> Answer {
    double.caller(&headers, &act_as)?;
    // To an application service, an alias of its own that isn't there is as good as removed.
    double.change(|homeserver, _| {
        homeserver.aliases.remove(&alias);
        Ok(())
    })?;
    Ok(Json(json!({})))
}

async fn joined_rooms(State(double): Shared, Query(act_as): Query<ActAs>, headers: HeaderMap) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    let rooms: Vec<String> = double.state.read(|homeserver| {
        let joined = homeserver.rooms.iter().filter(|(_, room)| room.membership(&caller) == Some("join"));
        joined.map(|(id, _)| id.clone()).collect()
    });
    Ok(Json(json!({ "joined_rooms": rooms })))
}

#[derive(Deserialize)]
struct Target {
    user_id: String,
    reason: Option<String>,
}

impl Target {
    fn read(body: &Bytes) -> Result<Self, MatrixError> {
        let target: Self = read(body)?;
        if target.user_id.parse::<crate::UserId>().is_err() {
            return Err(error(400, "M_INVALID_PARAM", "Invalid user_id"));
        }
        Ok(target)
    }
}

async fn invite(
    State(double): Shared,
    Path(room): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    let target = Target::read(&body)?;
    double.change(|homeserver, origin| {
        homeserver.invite(origin, &caller, &room, &target.user_id, target.reason.as_deref())
    })?;
    Ok(Json(json!({})))
}

async fn kick(
    State(double): Shared,
    Path(room): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    let target = Target::read(&body)?;
    double.change(|homeserver, origin| {
        homeserver.kick(origin, &caller, &room, &target.user_id, target.reason.as_deref())
    })?;
    Ok(Json(json!({})))
}

async fn join(
    State(double): Shared,
    Path(room): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    double.change(|homeserver, origin| homeserver.join(origin, &caller, &room))?;
    Ok(Json(json!({ "room_id": room })))
}

async fn join_by_alias(
    State(double): Shared,
    Path(room_or_alias): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
) -> Answer {
    let room = if room_or_alias.starts_with('#') {
        double
            .state
            .read(|homeserver| homeserver.aliases.get(&room_or_alias).cloned())
            .ok_or_else(|| error(404, "M_NOT_FOUND", format!("Room alias {room_or_alias} not found.")))?
    } else {
        room_or_alias
    };
    join(State(double), Path(room), Query(act_as), headers).await
}

async fn leave(
    State(double): Shared,
    Path(room): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    double.change(|homeserver, origin| homeserver.leave(origin, &caller, &room))?;
    Ok(Json(json!({})))
}

async fn joined_members(
    State(double): Shared,
    Path(room): Path<String>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    double.state.read(|homeserver| {
        let members: Map<String, Value> = homeserver
            .joined_room(&room, &caller)?
            .members("join")
            .filter_map(|event| {
                let name = event.content.get("displayname").cloned().unwrap_or(Value::Null);
                Some((event.state_key.clone()?, json!({ "display_name": name, "avatar_url": null })))
            })
            .collect();
        Ok(Json(json!({ "joined": members })))
    })
}

#[derive(Deserialize)]
struct Paging {
    dir: Option<String>,
    limit: Option<usize>,
    from: Option<String>,
    user_id: Option<String>,
}

/// Tokens are `t<n>`: between the n-th event of the room and the next.
async fn messages(
    State(double): Shared,
    Path(room): Path<String>,
    Query(paging): Query<Paging>,
    headers: HeaderMap,
) -> Answer {
    let caller = double.caller(&headers, &ActAs { user_id: paging.user_id })?;
    let backwards = match paging.dir.as_deref() {
        Some("b") => true,
        Some("f") => false,
        _ => return Err(error(400, "M_MISSING_PARAM", "Missing required string query parameter 'dir'")),
    };
    let limit = paging.limit.unwrap_or(10).clamp(1, 1_000);
    double.state.read(|homeserver| {
        let events = &homeserver.joined_room(&room, &caller)?.events;
        let from = match &paging.from {
            None if backwards => events.len(),
            None => 0,
            Some(token) => token
                .strip_prefix('t')
                .and_then(|position| position.parse::<usize>().ok())
                .filter(|position| *position <= events.len())
                .ok_or_else(|| error(400, "M_INVALID_PARAM", "'from' parameter is invalid"))?,
        };
        let (chunk, end): (Vec<Value>, usize) = if backwards {
            let end = from.saturating_sub(limit);
            (events[end..from].iter().rev().map(|stored| shown(stored, &caller)).collect(), end)
        } else {
            let end = (from + limit).min(events.len());
            (events[from..end].iter().map(|stored| shown(stored, &caller)).collect(), end)
        };
        let mut answer = json!({ "chunk": chunk, "start": format!("t{from}") });
        let more = if backwards { end > 0 } else { end < events.len() };
        if more {
            answer["end"] = format!("t{end}").into();
        }
        Ok(Json(answer))
    })
}

/// The event as `user` sees it: only the sender learns the transaction id.
fn shown(stored: &StoredEvent, user: &str) -> Value {
    let mut event = json!(stored.event);
    if let Some(id) = &stored.transaction_id
        && stored.event.sender.as_str() == user
    {
        event["unsigned"] = json!({ "transaction_id": id });
    }
    event
}

async fn event(
    State(double): Shared,
    Path((room, event)): Path<(String, String)>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    double.state.read(|homeserver| {
        let events = &homeserver.joined_room(&room, &caller)?.events;
        let found = events.iter().find(|stored| stored.event.event_id.as_str() == event);
        found
            .map(|stored| Json(shown(stored, &caller)))
            .ok_or_else(|| error(404, "M_NOT_FOUND", "Could not find event"))
    })
}

async fn send(
    State(double): Shared,
    Path((room, event_type, transaction)): Path<(String, String, String)>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    let content: Map<String, Value> = read(&body)?;
    let event = double.change(|homeserver, origin| {
        homeserver.send(origin, &caller, &room, &event_type, Some(&transaction), Value::Object(content))
    })?;
    Ok(Json(json!({ "event_id": event })))
}

async fn state(
    double: Shared,
    Path((room, event_type)): Path<(String, String)>,
    act_as: Query<ActAs>,
    headers: HeaderMap,
) -> Answer {
    keyed_state(double, Path((room, event_type, String::new())), act_as, headers).await
}

async fn keyed_state(
    State(double): Shared,
    Path((room, event_type, state_key)): Path<(String, String, String)>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    double.state.read(|homeserver| {
        homeserver
            .joined_room(&room, &caller)?
            .state(&event_type, &state_key)
            .map(|event| Json(event.content.clone()))
            .ok_or_else(|| error(404, "M_NOT_FOUND", "Event not found."))
    })
}

async fn set_state(
    double: Shared,
    Path((room, event_type)): Path<(String, String)>,
    act_as: Query<ActAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    set_keyed_state(double, Path((room, event_type, String::new())), act_as, headers, body).await
}

async fn set_keyed_state(
    State(double): Shared,
    Path((room, event_type, state_key)): Path<(String, String, String)>,
    Query(act_as): Query<ActAs>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = double.caller(&headers, &act_as)?;
    let content: Map<String, Value> = read(&body)?;
    let event = double.change(|homeserver, origin| {
        homeserver.set_state(origin, &caller, &room, &event_type, &state_key, Value::Object(content))
    })?;
    Ok(Json(json!({ "event_id": event })))
}

/// People come from Keycloak; nobody has a password here.
async fn login_flows() -> Json<Value> {
    let flows = ["m.login.sso", "m.login.token", "m.login.application_service"];
    Json(json!({ "flows": flows.map(|flow| json!({ "type": flow })) }))
}

/// The bot is there from the start; no other user of its namespace is made here.
async fn register(State(double): Shared, headers: HeaderMap, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Wanted {
        username: String,
    }
    double.caller(&headers, &ActAs::default())?;
    let Wanted { username } = read(&body)?;
    if username == double.options.sender_localpart {
        return Err(error(400, "M_USER_IN_USE", "User ID already taken."));
    }
    Err(error(400, "M_EXCLUSIVE", "This user ID is not in the application service's namespace"))
}

/// What an administrator is told of a user.
async fn user(State(double): Shared, Path(user): Path<String>, headers: HeaderMap) -> Answer {
    double.caller(&headers, &ActAs::default())?;
    let known = super::lock(&double.external_ids)
        .clone()
        .ok_or_else(|| error(403, "M_FORBIDDEN", "You are not a server admin"))?;
    if !double.state.read(|homeserver| homeserver.users.contains_key(&user)) {
        return Err(error(404, "M_NOT_FOUND", "User not found"));
    }
    let external_ids = known.get(&user).cloned().unwrap_or_default();
    Ok(Json(json!({ "name": user, "external_ids": external_ids })))
}

async fn ping(
    State(double): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, MatrixError> {
    double.caller(&headers, &ActAs::default())?;
    if id != double.options.appservice_id {
        return Err(error(403, "M_FORBIDDEN", "Mismatching application service ID in path"));
    }
    let ping: crate::appservice::Ping = read(&body)?;
    let client = super::lock(&double.appservice)
        .clone()
        .ok_or_else(|| error(400, "M_URL_NOT_SET", "The application service does not have a URL set"))?;
    let started = Instant::now();
    let answer: Result<Value, ConnectorError> = client
        .post(&["_matrix", "app", "v1", "ping"], &ping, Some(double.options.hs_token.expose_secret()))
        .await;
    match answer {
        Err(ConnectorError { status: Some(status), .. }) if !(200..300).contains(&status) => {
            let body =
                json!({ "errcode": "M_BAD_STATUS", "error": format!("HTTP {status}"), "status": status });
            Ok((StatusCode::BAD_GATEWAY, Json(body)).into_response())
        }
        Err(ConnectorError { status: None, .. }) => {
            Err(error(502, "M_CONNECTION_FAILED", "Failed to connect to the application service"))
        }
        _ => {
            // It answers: what waited is pushed at once.
            double.retry_now.notify_one();
            let duration = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            Ok(Json(json!({ "duration_ms": duration })).into_response())
        }
    }
}
