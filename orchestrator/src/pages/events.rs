use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{PageResult, chrome::Place};
use crate::{
    app::AppState,
    auth::Visitor,
    http::{Problem, extract::ApiQuery},
    realtime::{self, StreamRequest},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventsQuery {
    last_event_id: Option<String>,
}

/// The tenant's events as they happen, by the session's cookie.
pub(super) async fn stream(
    State(state): State<AppState>,
    place: Result<Place, Response>,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<EventsQuery>,
) -> PageResult {
    let place = match place {
        Ok(place) => place,
        Err(refusal) if refusal.status() == StatusCode::SEE_OTHER => return Ok(ended()),
        Err(refusal) => return Ok(refusal),
    };
    if !place.visitor.may_listen(place.tenant.id) {
        return Err(Problem::forbidden());
    }
    let (key, again) = (place.visitor.key, state.clone());
    let watch = state.sessions.watch(key);
    // It may have ended between the look at it and the watch.
    if state.sessions.touch(key, false).await?.is_none() {
        return Ok(ended());
    }
    let permit = state.streams.admit(place.visitor.id, Some(key))?;
    let request = StreamRequest {
        valid_for: None,
        tenant: place.tenant.id,
        principal: place.visitor.principal(),
        recheck: Box::new(move || {
            let state = again.clone();
            Box::pin(async move { Visitor::recheck(&state, key).await })
        }),
        nudges: watch.into_stream(),
        last_event_id: realtime::last_event_id(&headers, query.last_event_id.as_deref()),
        stop: state.lifecycle.soft.clone(),
    };
    let mut response = permit.hold(realtime::stream(&state.hub, request).await?);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Cookie"));
    Ok(response)
}

/// `EventSource` takes a redirect to the sign-in page for a broken connection and tries for ever: it is told instead that
/// there is nothing more to hear.
fn ended() -> Response {
    let content_type = (header::CONTENT_TYPE, "text/event-stream");
    ([content_type], "event: end\ndata: {\"reason\":\"access_ended\"}\n\n").into_response()
}
