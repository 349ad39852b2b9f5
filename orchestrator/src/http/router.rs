//! Every mount point.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tower_http::csrf::CsrfLayer;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    middleware::{ContentSecurityPolicy, Everything, MAX_BODY_BYTES, known_host},
    openapi,
    problem::Problem,
};
use crate::{
    app::AppState,
    auth::{Caller, PrincipalError, PrincipalSource as _},
    config::origin,
    http::{ProblemResult, extract::ApiQuery},
    inbox, pages,
    realtime::{self, Access, StreamRequest},
};

/// The largest difference between the database's clock and ours with which a replica is ready.
const MAX_SKEW_SECONDS: i64 = 2;

/// The whole application.
pub fn router(state: AppState) -> Router {
    let (api, document) = openapi::api().split_for_parts();
    let document = serde_json::to_string(&document).unwrap_or_default();
    let described = get(move || {
        let document = document.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], document) }
    });
    let api = api
        .route("/openapi.json", described)
        .fallback(unknown)
        .method_not_allowed_fallback(method_not_allowed);
    let shell = pages::router()
        .merge(crate::auth::routes::router(&state))
        .layer(CsrfLayer::new().with_rejection_response(CrossSite))
        .layer(middleware::from_fn(says_where_from))
        .layer(middleware::from_fn_with_state(state.clone(), known_host))
        .layer(middleware::from_fn_with_state(state.clone(), pages::problems_as_pages));
    let everything = Everything::new(state.clone(), content_security_policy(&state));
    let receiving = inbox::receiving().fallback(method_not_allowed);
    Router::new()
        .nest("/api/v1", api.clone())
        .nest("/api", api)
        .route("/health", get(health))
        .route("/ready", get(ready))
        .merge(crate::auth::routes::back_channel())
        .merge(crate::consultations::for_jitsi())
        .merge(shell)
        .fallback_service(
            get(unknown_page)
                .fallback(unknown_page)
                .layer(middleware::from_fn_with_state(state.clone(), pages::problems_as_pages))
                .with_state(state.clone()),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        // Not nested: what leads to a nested route is copied for every request.
        .route(&format!("/api/v1{}", inbox::RECEIVING), receiving.clone())
        .route(&format!("/api{}", inbox::RECEIVING), receiving)
        .layer(everything)
        .with_state(state)
}

#[derive(Clone)]
struct CrossSite;

impl tower_http::csrf::ResponseForProtectionError<axum::body::Body> for CrossSite {
    fn response_for_protection_error(&mut self, _: tower_http::csrf::ProtectionError) -> Response {
        cross_site()
    }
}

fn cross_site() -> Response {
    Problem::new(StatusCode::FORBIDDEN, "cross_site", "This form was sent from another site").into_response()
}

/// Refuses what changes something and says neither by `Origin` nor by `Sec-Fetch-Site` where it comes from. [`CsrfLayer`]
/// lets that pass, for programs; the shell has only browsers, and each says it.
async fn says_where_from(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let says = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    if says || request.method().is_safe() { next.run(request).await } else { cross_site() }
}

/// Forms lead by a redirect to exactly these: signing out to Keycloak, joining to Jitsi, opening to Chatwoot.
fn content_security_policy(state: &AppState) -> ContentSecurityPolicy {
    let mut targets = Vec::new();
    targets.extend(state.config.keycloak.base().ok().map(|url| origin(&url)));
    targets.extend(state.tools.chatwoot.as_ref().map(|chatwoot| origin(&chatwoot.url)));
    targets.extend(state.tools.jitsi.as_ref().map(|jitsi| origin(&jitsi.url)));
    let assets = url::Url::parse(&state.config.http.assets_url).ok().map(|url| origin(&url));
    ContentSecurityPolicy::new(assets.as_deref(), &targets)
}

/// The operations that belong to no slice.
pub fn operations() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(events))
}

async fn unknown() -> Problem {
    Problem::not_found()
}

async fn unknown_page() -> Problem {
    Problem::not_found()
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This can't be done here")
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
}

/// Whether the process lives.
async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the process can serve: the database answers, its clock agrees with ours, and nobody asked us to stop.
async fn ready(State(state): State<AppState>) -> Response {
    let not_ready = |code, title| Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, title).into_response();
    if state.lifecycle.soft.is_cancelled() {
        return not_ready("stopping", "This replica is stopping");
    }
    match state.database.clock_skew().await {
        Ok(skew) if skew.num_seconds() <= MAX_SKEW_SECONDS => {
            Json(Health { status: "ready" }).into_response()
        }
        Ok(skew) => {
            tracing::error!(
                seconds = skew.num_seconds(),
                "this machine's clock and the database's are apart"
            );
            not_ready("clock_skew", "The clocks are apart")
        }
        Err(error) => Problem::unavailable(&error).into_response(),
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// The tenant, by UUID or path, `/suite` for the suite.
    tenant_id: String,
    /// Where to resume, for clients that can't send `Last-Event-ID` the first time.
    last_event_id: Option<String>,
}

/// The tenant's events as they happen (server-sent events): what the caller may see of them. Resumes after `Last-Event-ID`.
#[utoipa::path(
    get, path = "/events", operation_id = "streamEvents", tag = "events",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received")),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "A stream of events", content_type = "text/event-stream", body = String),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn events(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<EventsQuery>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&query.tenant_id)?;
    if !caller.may_listen(tenant) {
        return Err(Problem::forbidden());
    }
    let permit = state.streams.admit(caller.id, None)?;
    let (user, app) = (caller.id, state.clone());
    let request = StreamRequest {
        tenant,
        principal: caller.principal(),
        valid_for: caller.valid_for(state.clock.now()),
        recheck: Box::new(move || {
            let app = app.clone();
            Box::pin(async move {
                match app.directory.principal(user).await {
                    Ok(principal) => Access::Still(principal),
                    Err(PrincipalError::Unavailable(_)) => Access::Unknown,
                    Err(PrincipalError::Unknown) => Access::Ended,
                }
            })
        }),
        nudges: Box::pin(futures::stream::pending()),
        last_event_id: realtime::last_event_id(&headers, query.last_event_id.as_deref()),
        stop: state.lifecycle.soft.clone(),
    };
    let mut response = permit.hold(realtime::stream(&state.hub, request).await?);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Authorization"));
    Ok(response)
}
