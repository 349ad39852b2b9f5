//! What Jitsi's own server asks us: the public keys that our tokens are verified with, and whether a room may be
//! (`mod_reservations`, in its words).

use axum::{
    Form, Json, RequestPartsExt as _, Router,
    extract::{FromRequestParts, RawPathParams, State, rejection::FormRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use chrono::SecondsFormat;
use connector_jitsi::KEY_CONTENT_TYPE;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::{
    rooms::{self, Reserved},
    routes,
    service::ConsultationError,
};
use crate::{
    app::AppState,
    auth::bearer_token,
    http::{Problem, ProblemResult, extract::ApiPath, middleware::Charge},
};

/// Where Jitsi's server asks. No browser does: any host name that leads here will do.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/asap/{file}", get(key))
        .route("/jitsi/reservations/conference", post(reserve))
        .route("/jitsi/reservations/conference/{room}", get(reserved).delete(release))
        // docker-jitsi-meet has no setting for a header: there the secret is a part of the address.
        .route("/jitsi/reservations/{secret}/conference", post(reserve))
        .route("/jitsi/reservations/{secret}/conference/{room}", get(reserved).delete(release))
}

/// The public key whose id has this hash (`asap_key_server`). It never changes: another key has another id.
async fn key(State(state): State<AppState>, ApiPath(file): ApiPath<String>) -> ProblemResult<Response> {
    let jitsi = state.tools.jitsi.as_ref().ok_or_else(Problem::not_found)?;
    let key = jitsi.keys.file(&file).ok_or_else(Problem::not_found)?.to_owned();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(KEY_CONTENT_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
    ];
    Ok((headers, key).into_response())
}

/// An answer that Prosody shows to whoever wanted the room.
fn message(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "message": text }))).into_response()
}

/// That Jitsi's server asks: it has shown `jitsi.reservation_secret`. Names the room, where the path does.
struct Prosody {
    room: String,
}

impl FromRequestParts<AppState> for Prosody {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let secret = state.config.jitsi.reservation_secret.expose_secret();
        if state.tools.jitsi.is_none() || secret.is_empty() {
            return Err(message(StatusCode::NOT_FOUND, "Rooms are not reserved here"));
        }
        let path =
            parts.extract::<RawPathParams>().await.map_err(axum::response::IntoResponse::into_response)?;
        let in_path = |name| path.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        let shown = in_path("secret").or_else(|| bearer(&parts.headers)).unwrap_or_default();
        if !bool::from(shown.as_bytes().ct_eq(secret.as_bytes())) {
            let charge = Charge::of(parts, state);
            let over = charge.to_address(state).err();
            return Err(over.map_or_else(
                || message(StatusCode::UNAUTHORIZED, "The secret for reservations is not the right one"),
                axum::response::IntoResponse::into_response,
            ));
        }
        Ok(Self { room: in_path("room").unwrap_or_default().to_owned() })
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    bearer_token(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}

/// What Prosody asks for a room with.
#[derive(Debug, Deserialize)]
struct Wanted {
    name: String,
    mail_owner: Option<String>,
}

/// A reservation in Prosody's words. Its id is the room and when it was opened: what is told of one opening is not of the next.
fn conference(reserved: &Reserved, name: &str, owner: Option<&str>) -> Value {
    let consultation = &reserved.consultation;
    let opened_at = consultation.room_opened_at.unwrap_or(consultation.updated_at);
    json!({
        "id": format!("{}.{}", consultation.jitsi_room, opened_at.timestamp_millis()),
        "name": name,
        "mail_owner": owner.map_or_else(|| consultation.host_id.to_string(), str::to_owned),
        "start_time": opened_at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "duration": (reserved.closes_at - opened_at).num_seconds(),
    })
}

fn refusal(error: ConsultationError) -> Response {
    let problem = routes::problem(error);
    // Prosody asks again after a 5xx, and shows what it is told after anything else.
    let status =
        if problem.status() == StatusCode::CONFLICT { StatusCode::FORBIDDEN } else { problem.status() };
    message(status, problem.title())
}

/// The room and the opening of a reservation's id; no name of a room has a dot.
fn read_id(id: &str) -> (&str, Option<i64>) {
    id.split_once('.').map_or((id, None), |(room, opened_at)| (room, opened_at.parse().ok()))
}

/// A room is wanted that isn't there yet. Said again (the answer was lost, or that it is gone never came), it may be as well: after
/// a conflict, Prosody would look for a room of its id, which hasn't the name of one under a tenant of Jitsi's.
async fn reserve(
    _: Prosody,
    State(state): State<AppState>,
    wanted: Result<Form<Wanted>, FormRejection>,
) -> Response {
    let Ok(Form(wanted)) = wanted else {
        return message(StatusCode::BAD_REQUEST, "This is no request for a room");
    };
    match rooms::reserve(&state, &wanted.name).await {
        Ok(reserved) => {
            Json(conference(&reserved, &wanted.name, wanted.mail_owner.as_deref())).into_response()
        }
        Err(error) => refusal(error),
    }
}

/// What is reserved.
async fn reserved(prosody: Prosody, State(state): State<AppState>) -> Response {
    let (room, _) = read_id(&prosody.room);
    match rooms::reserved(&state, room).await {
        Ok(reserved) => Json(conference(&reserved, room, None)).into_response(),
        Err(error) => refusal(error),
    }
}

/// The room is gone.
async fn release(prosody: Prosody, State(state): State<AppState>) -> Response {
    let (room, reserved_at) = read_id(&prosody.room);
    match rooms::release(&state, room, reserved_at).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refusal(error),
    }
}
