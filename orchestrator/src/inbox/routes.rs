use axum::{
    Json,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use connector_matrix::appservice;
use serde::Serialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    accepting::NotStored,
    chatwoot,
    model::{Identified, Incoming, RawRequest, Source, subject_key},
    sources::{self, SourceError},
    store,
};
use crate::{
    app::AppState,
    http::{Problem, ProblemResult, extract::ApiPath, middleware::Charge, problem::ErrorChain},
    ids::{InboxEventId, SourceId},
};

/// Where external tools post.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(receive))
        .routes(routes!(receive_from_only_source))
        .routes(routes!(matrix_transaction))
        .routes(routes!(matrix_ping))
}

/// That an event is stored.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Received {
    /// The event's id here.
    id: InboxEventId,
    /// Whether it had been received before.
    duplicate: bool,
}

/// The same for an unknown source and a wrong signature.
fn refused() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "webhooks.refused", "The source or its signature is not known")
}

fn source_problem(error: &SourceError) -> Problem {
    match error {
        SourceError::Database(_) => Problem::unavailable(error),
        SourceError::Crypto(_) | SourceError::Secrets(_) => Problem::internal(error),
    }
}

/// A source that a request names, and whether the request was charged to its address for the look.
struct Named {
    source: Option<Source>,
    charged: bool,
}

impl Named {
    fn nothing() -> Self {
        Self { source: None, charged: false }
    }

    /// The source with this id. A strange id is charged before the database is asked; one that has been a source's never is,
    /// so that no flood keeps a tool's webhooks out.
    async fn find(state: &AppState, charge: &Charge, id: &str) -> ProblemResult<Self> {
        let Ok(id) = id.parse::<SourceId>() else { return Ok(Self::nothing()) };
        let charged = sources::is_strange(state, id);
        if charged {
            charge.to_address(state)?;
        }
        let source = sources::find(state, id).await.map_err(|error| source_problem(&error))?;
        Ok(Self { source, charged })
    }

    fn of_service(self, service: &str) -> Self {
        Self { source: self.source.filter(|source| source.service == service), ..self }
    }
}

async fn read_body(state: &AppState, request: Request) -> ProblemResult<Bytes> {
    crate::http::extract::body(request, state).await
}

/// Receives a signed webhook: verified, stored, then answered.
#[utoipa::path(
    post, path = "/webhooks/{service}/{source}", operation_id = "receiveWebhook", tag = "webhooks",
    params(("service" = String, Path, description = "The tool: `chatwoot`"), ("source" = SourceId, Path)),
    request_body(content = Vec<u8>, content_type = "application/json", description = "As the tool sends it"),
    responses((status = 200, body = Received), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn receive(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath((service, source)): ApiPath<(String, String)>,
    request: Request,
) -> ProblemResult<Json<Received>> {
    let named = Named::find(&state, &charge, &source).await?.of_service(&service);
    accept_signed(&state, &charge, named, request).await.map(Json)
}

/// The same without the source, where exactly one source of that service exists.
#[utoipa::path(
    post, path = "/webhooks/{service}", operation_id = "receiveWebhookFromOnlySource", tag = "webhooks",
    params(("service" = String, Path, description = "The tool: `chatwoot`")),
    request_body(content = Vec<u8>, content_type = "application/json", description = "As the tool sends it"),
    responses((status = 200, body = Received), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn receive_from_only_source(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath(service): ApiPath<String>,
    request: Request,
) -> ProblemResult<Json<Received>> {
    let named = if service == chatwoot::SERVICE {
        let source =
            sources::only(&state, chatwoot::SERVICE).await.map_err(|error| source_problem(&error))?;
        Named { source, charged: false }
    } else {
        Named::nothing()
    };
    accept_signed(&state, &charge, named, request).await.map(Json)
}

async fn accept_signed(
    state: &AppState,
    charge: &Charge,
    named: Named,
    request: Request,
) -> ProblemResult<Received> {
    let charged = named.charged;
    let unproven = || if charged { refused() } else { charge.for_failure(state, refused()) };
    let headers = request.headers().clone();
    // Read in any case: an unknown source says the same as a known one with a wrong signature, whatever was sent.
    let body = read_body(state, request).await?;
    let Some(source) = named.of_service(chatwoot::SERVICE).source else {
        return Err(unproven());
    };
    let identified = chatwoot::accept(&source, &headers, &body, state.clock.now()).map_err(|error| match error {
        chatwoot::Refused::Signature(reason) => {
            metrics::counter!("chancery_inbox_rejected_total", "service" => chatwoot::SERVICE, "reason" => "signature").increment(1);
            tracing::info!(source = %source.id, %reason, "a webhook was refused");
            unproven()
        }
        chatwoot::Refused::Unreadable(error) => {
            metrics::counter!("chancery_inbox_rejected_total", "service" => chatwoot::SERVICE, "reason" => "unreadable").increment(1);
            tracing::info!(source = %source.id, error = %ErrorChain(&error), "a webhook could not be read");
            Problem::new(StatusCode::BAD_REQUEST, "webhooks.unreadable", "The body is not one of this service's events")
        }
    })?;
    store_event(state, charge, &source, identified, &headers, &body).await
}

/// Stores an event; answered when it is durable. Where a request holds several, it is called for each without waiting for the one
/// before: the order of the calls is the order of the events.
async fn store_event(
    state: &AppState,
    charge: &Charge,
    source: &Source,
    identified: Identified,
    headers: &HeaderMap,
    body: &Bytes,
) -> ProblemResult<Received> {
    // Only what is proven to come from the source takes from its quota: nobody else can use it up.
    charge.to(state.limits.source.take(&source.id))?;
    let received_at = state.clock.now();
    let sealed_request = RawRequest::seal(&state.master_key, &*state.ids, headers, body)
        .map_err(|error| Problem::internal(&error))?;
    let event = Incoming {
        tenant: source.tenant,
        source: source.id,
        service: source.service.clone(),
        id: InboxEventId(state.ids.uuid_v7(received_at)),
        received_at,
        subject_key: subject_key(source.id, &identified.subject),
        identified,
        sealed_request,
    };
    let stored = state.intake.accept(event).await.map_err(|error| not_stored(source, error))?;
    let outcome = if stored.duplicate { "duplicate" } else { "accepted" };
    metrics::counter!("chancery_inbox_received_total", "service" => source.service.clone(), "outcome" => outcome).increment(1);
    Ok(Received { id: stored.id, duplicate: stored.duplicate })
}

/// What a sender is told whose event isn't stored, or not surely: to send it again. A repeat finds its key.
fn not_stored(source: &Source, error: NotStored) -> Problem {
    let reason = match error {
        NotStored::Full(full) => full.as_str(),
        NotStored::Unavailable => "unavailable",
        NotStored::Refused => "refused",
    };
    metrics::counter!("chancery_inbox_rejected_total", "service" => source.service.clone(), "reason" => reason).increment(1);
    match error {
        NotStored::Full(_) => Problem::unavailable(&error)
            .named("webhooks.busy", "Too much is waiting to be stored, please try again"),
        NotStored::Unavailable => Problem::unavailable(&error),
        NotStored::Refused => Problem::internal(&error),
    }
}

/// Proves that the homeserver of a source sent the request.
async fn matrix_source(
    state: &AppState,
    charge: &Charge,
    source: &str,
    headers: &HeaderMap,
) -> Result<Source, Response> {
    let named = Named::find(state, charge, source).await.map_err(in_matrix_words)?.of_service("matrix");
    let charged = named.charged;
    let forbidden = || {
        let over = if charged { None } else { charge.to_address(state).err() };
        over.map_or_else(
            || {
                let (status, body) = appservice::ErrorBody::forbidden();
                (status, Json(body)).into_response()
            },
            in_matrix_words,
        )
    };
    let source = named.source.ok_or_else(forbidden)?;
    appservice::verify(headers, &source.secrets).map_err(|_| forbidden())?;
    Ok(source)
}

/// A homeserver knows Matrix's own error for a 429; it repeats what it sent. Other problems are only for the log.
fn in_matrix_words(problem: Problem) -> Response {
    let Some(seconds) = problem.retry_after().filter(|_| problem.status() == StatusCode::TOO_MANY_REQUESTS)
    else {
        return problem.into_response();
    };
    let (status, body) = appservice::ErrorBody::limit_exceeded();
    (status, [(header::RETRY_AFTER, seconds.to_string())], Json(body)).into_response()
}

/// Receives a transaction of the homeserver (Matrix application service API, `PUT /_matrix/app/v1/transactions/{txnId}`).
#[utoipa::path(
    put, path = "/webhooks/matrix/{source}/_matrix/app/v1/transactions/{txnId}", operation_id = "receiveMatrixTransaction", tag = "webhooks",
    params(("source" = SourceId, Path), ("txnId" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/json", description = "As the homeserver sends it"),
    responses((status = 200, description = "`{}`"), (status = "4XX", description = "Matrix's own error body: `{errcode, error}`"))
)]
async fn matrix_transaction(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath((source, transaction)): ApiPath<(String, String)>,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let source = match matrix_source(&state, &charge, &source, &headers).await {
        Ok(source) => source,
        Err(response) => return response,
    };
    let body = match read_body(&state, request).await {
        Ok(body) => body,
        Err(problem) => return problem.into_response(),
    };
    if appservice::Transaction::parse(&body).is_err() {
        let (status, body) = appservice::ErrorBody::bad_json();
        return (status, Json(body)).into_response();
    }
    let identified = Identified {
        event_type: "transaction".to_owned(),
        subject: "transactions".to_owned(),
        delivery_id: Some(store::storable(&transaction, 200)),
        key_hash: store::key_hash(&[b"transaction", transaction.as_bytes()]),
        occurred_at: None,
        source_uri: None,
    };
    match store_event(&state, &charge, &source, identified, &headers, &body).await {
        Ok(_) => Json(serde_json::json!({})).into_response(),
        Err(problem) => in_matrix_words(problem),
    }
}

/// Answers the homeserver's ping (Matrix application service API, `POST /_matrix/app/v1/ping`).
#[utoipa::path(
    post, path = "/webhooks/matrix/{source}/_matrix/app/v1/ping", operation_id = "receiveMatrixPing", tag = "webhooks",
    params(("source" = SourceId, Path)),
    responses((status = 200, description = "`{}`"), (status = "4XX", description = "Matrix's own error body: `{errcode, error}`"))
)]
async fn matrix_ping(
    State(state): State<AppState>,
    charge: Charge,
    ApiPath(source): ApiPath<String>,
    headers: HeaderMap,
) -> Response {
    match matrix_source(&state, &charge, &source, &headers).await {
        Ok(_) => Json(serde_json::json!({})).into_response(),
        Err(response) => response,
    }
}
