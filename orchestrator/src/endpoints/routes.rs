use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{
        Attempt, ChangeEndpoint, Delivery, DeliveryFilter, DeliveryState, Endpoint, EndpointFault,
        GRACE_HOURS, MAX_DESCRIPTION, MAX_EVENT_TYPES, MAX_GRACE_HOURS, NewEndpoint,
    },
    service::{self, Context, EndpointError, WithSecret},
};
use crate::{
    app::AppState,
    auth::{Caller, Permission, Resource, can},
    http::{
        Problem, ProblemResult,
        etag::{IfMatch, created, tagged},
        extract::{ApiJson, ApiPath, ApiQuery, check_time},
        page::{Page, read_cursor, read_limit},
        problem::FieldError,
    },
    ids::{DeliveryId, EndpointId},
};

/// The endpoints' operations.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, delete))
        .routes(routes!(rotate_secret))
        .routes(routes!(send_test))
        .routes(routes!(redeliver_failed))
        .routes(routes!(list_deliveries))
        .routes(routes!(show_delivery))
        .routes(routes!(redeliver))
}

/// What a refused command is over HTTP.
pub fn problem(error: EndpointError) -> Problem {
    match error {
        EndpointError::NotFound => Problem::not_found(),
        EndpointError::Forbidden => Problem::forbidden(),
        EndpointError::Stale => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "It has changed since you read it")
        }
        EndpointError::Invalid(faults) => Problem::invalid(faults.into_iter().map(field_error).collect()),
        EndpointError::TooMany => {
            Problem::new(StatusCode::CONFLICT, "endpoints.too_many", "This tenant has as many as it may")
        }
        EndpointError::Disabled => {
            Problem::new(StatusCode::CONFLICT, "endpoints.disabled", "This endpoint is switched off")
        }
        EndpointError::Pending => {
            Problem::new(StatusCode::CONFLICT, "endpoints.delivery_pending", "This is still to be sent")
        }
        EndpointError::TooManySecrets => Problem::new(
            StatusCode::CONFLICT,
            "endpoints.too_many_secrets",
            "Too many secrets would be valid: wait until the older ones have expired",
        ),
        EndpointError::Crypto(error) => Problem::internal(&error),
        EndpointError::Database(error) => error.into(),
    }
}

fn field_error(fault: EndpointFault) -> FieldError {
    match fault {
        EndpointFault::Url(fault) => FieldError::new("/url", fault.to_string()),
        EndpointFault::Description => FieldError::new(
            "/description",
            format!("must have at most {MAX_DESCRIPTION} characters, and none that control"),
        ),
        EndpointFault::EventTypeCount => {
            FieldError::new("/eventTypes", format!("must have from 1 to {MAX_EVENT_TYPES}"))
        }
        EndpointFault::EventType(index) => FieldError::new(
            format!("/eventTypes/{index}"),
            "must be a type of event, all of a kind (approval.*) or all (*)",
        ),
    }
}

/// What an endpoint is made of.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateEndpoint {
    /// The tenant, by UUID or path.
    tenant_id: String,
    /// Where it is: https, port 443 or 80, and nowhere inside.
    #[schema(max_length = 2048)]
    url: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 200)]
    description: String,
    /// What it wants: types (`approval.decided`), all types of a kind (`approval.*`), or everything but `webhook.received` (`*`).
    #[schema(min_items = 1, max_items = 50)]
    event_types: Vec<String>,
}

/// An endpoint with a new secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndpointWithSecret {
    /// The endpoint.
    #[serde(flatten)]
    endpoint: Endpoint,
    /// What verifies the signatures (Standard Webhooks), shown this once.
    secret: String,
}

fn with_secret(made: WithSecret) -> EndpointWithSecret {
    EndpointWithSecret { secret: made.secret.expose_secret().to_owned(), endpoint: made.endpoint }
}

fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Makes an endpoint. It gets what happens from now on; the secret is shown this once.
#[utoipa::path(
    post, path = "/endpoints", operation_id = "createEndpoint", tag = "endpoints", request_body = CreateEndpoint, security(("bearer" = [])),
    responses(
        (status = 201, body = EndpointWithSecret, headers(("Location" = String), ("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson { value, .. }: ApiJson<CreateEndpoint>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&value.tenant_id)?;
    caller.require(can(&caller, Permission::WebhookEndpointManage, &Resource::of(tenant)))?;
    let mut tx = state.database.tenant_tx_in(caller.principal(), tenant).await?;
    let new = NewEndpoint { url: value.url, description: value.description, event_types: value.event_types };
    let made = service::create(&mut tx, Context::of(&state), tenant, &new).await.map_err(problem)?;
    tx.commit().await?;
    let location = format!("/api/v1/endpoints/{}", made.endpoint.id);
    Ok(not_stored(created(&location, made.endpoint.version, with_secret(made))))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The tenant, by UUID or path; all of one's tenants where left out.
    tenant_id: Option<String>,
    /// Where the last page ended.
    cursor: Option<String>,
    /// At most so many, 1 to 100, 50 unless told.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The endpoints, newest first.
#[utoipa::path(
    get, path = "/endpoints", operation_id = "listEndpoints", tag = "endpoints", params(ListQuery), security(("bearer" = [])),
    responses((status = 200, body = Page<Endpoint>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> ProblemResult<Json<Page<Endpoint>>> {
    let tenant = query.tenant_id.as_deref().map(|named| caller.named_tenant(named)).transpose()?;
    let (before, limit) = (read_cursor(query.cursor.as_deref())?.map(EndpointId), read_limit(query.limit)?);
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::page(&mut tx, tenant, before, limit).await.map_err(problem)?))
}

/// One endpoint.
#[utoipa::path(
    get, path = "/endpoints/{id}", operation_id = "getEndpoint", tag = "endpoints", params(("id" = EndpointId, Path)), security(("bearer" = [])),
    responses(
        (status = 200, body = Endpoint, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<EndpointId>,
) -> ProblemResult<Response> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let endpoint = service::find(&mut tx, id).await.map_err(problem)?;
    Ok(tagged(endpoint.version, endpoint))
}

/// Changes what is named; the rest stays. Also switches it on and off.
#[utoipa::path(
    patch, path = "/endpoints/{id}", operation_id = "updateEndpoint", tag = "endpoints", request_body = ChangeEndpoint,
    params(
        ("id" = EndpointId, Path),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; 412 where it has changed")
    ),
    security(("bearer" = [])),
    responses(
        (status = 200, body = Endpoint, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn update(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<EndpointId>,
    headers: HeaderMap,
    ApiJson { value, .. }: ApiJson<ChangeEndpoint>,
) -> ProblemResult<Response> {
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let changed = service::change(&mut tx, Context::of(&state), id, &value, &if_match).await;
    let endpoint = changed.map_err(problem)?;
    tx.commit().await?;
    state.lanes_due.notify_one();
    Ok(tagged(endpoint.version, endpoint))
}

/// Removes an endpoint, its secrets, and what was sent to it.
#[utoipa::path(
    delete, path = "/endpoints/{id}", operation_id = "deleteEndpoint", tag = "endpoints",
    params(
        ("id" = EndpointId, Path),
        ("If-Match" = Option<String>, Header, description = "The ETag that was read; 412 where it has changed")
    ),
    security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<EndpointId>,
    headers: HeaderMap,
) -> ProblemResult<StatusCode> {
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    service::remove(&mut tx, id, &if_match).await.map_err(problem)?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How a secret is rotated.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateSecret {
    /// For so many hours the old secret signs along; 24 unless told.
    #[schema(minimum = 0, maximum = 168)]
    grace_hours: Option<u32>,
}

/// Gives the endpoint a new secret, shown this once. The old one signs along for a while, so that deliveries have both signatures.
#[utoipa::path(
    post, path = "/endpoints/{id}/rotate-secret", operation_id = "rotateEndpointSecret", tag = "endpoints", request_body = RotateSecret,
    params(("id" = EndpointId, Path), ("If-Match" = Option<String>, Header)), security(("bearer" = [])),
    responses(
        (status = 200, body = EndpointWithSecret, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn rotate_secret(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<EndpointId>,
    headers: HeaderMap,
    ApiJson { value, .. }: ApiJson<RotateSecret>,
) -> ProblemResult<Response> {
    let if_match = IfMatch::from_headers(&headers)?;
    let hours = value.grace_hours.unwrap_or(GRACE_HOURS);
    if hours > MAX_GRACE_HOURS {
        let detail = format!("must be from 0 to {MAX_GRACE_HOURS}");
        return Err(Problem::invalid(vec![FieldError::new("/graceHours", detail)]));
    }
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let grace = TimeDelta::hours(hours.into());
    let made = service::rotate(&mut tx, Context::of(&state), id, grace, &if_match).await.map_err(problem)?;
    tx.commit().await?;
    Ok(not_stored(tagged(made.endpoint.version, with_secret(made))))
}

/// Has an event of the type `endpoint.test` sent, which says nothing else.
#[utoipa::path(
    post, path = "/endpoints/{id}/test", operation_id = "testEndpoint", tag = "endpoints", params(("id" = EndpointId, Path)),
    security(("bearer" = [])),
    responses((status = 202, body = Delivery), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn send_test(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<EndpointId>,
) -> ProblemResult<Response> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let delivery = service::send_test(&mut tx, id).await.map_err(problem)?;
    tx.commit().await?;
    state.lanes_due.notify_one();
    Ok((StatusCode::ACCEPTED, Json(delivery)).into_response())
}

/// What is to be sent again.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RedeliverFailed {
    /// What was made since then and has failed.
    since: DateTime<Utc>,
}

/// What is sent again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct Redelivered {
    /// How many deliveries; 10,000 at most: then call again.
    redelivered: u64,
}

/// Has all deliveries sent again that have failed since a time.
#[utoipa::path(
    post, path = "/endpoints/{id}/redeliver", operation_id = "redeliverFailed", tag = "endpoints", request_body = RedeliverFailed,
    params(("id" = EndpointId, Path)), security(("bearer" = [])),
    responses((status = 202, body = Redelivered), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn redeliver_failed(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<EndpointId>,
    ApiJson { value, .. }: ApiJson<RedeliverFailed>,
) -> ProblemResult<Response> {
    let mut errors = Vec::new();
    check_time("/since", Some(value.since), &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let redelivered = service::redeliver_failed(&mut tx, id, value.since).await.map_err(problem)?;
    tx.commit().await?;
    state.lanes_due.notify_one();
    Ok((StatusCode::ACCEPTED, Json(Redelivered { redelivered })).into_response())
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeliveriesQuery {
    /// Only those that stand so.
    state: Option<DeliveryState>,
    /// Only events of this type.
    #[param(max_length = 100)]
    event_type: Option<String>,
    /// Where the last page ended.
    cursor: Option<String>,
    /// At most so many, 1 to 100, 50 unless told.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// What was and is sent to an endpoint in the last 30 days, newest first.
#[utoipa::path(
    get, path = "/endpoints/{id}/deliveries", operation_id = "listDeliveries", tag = "endpoints",
    params(("id" = EndpointId, Path), DeliveriesQuery), security(("bearer" = [])),
    responses((status = 200, body = Page<Delivery>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list_deliveries(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<EndpointId>,
    ApiQuery(query): ApiQuery<DeliveriesQuery>,
) -> ProblemResult<Json<Page<Delivery>>> {
    let filter = DeliveryFilter {
        state: query.state,
        event_type: query.event_type,
        before: read_cursor(query.cursor.as_deref())?.map(DeliveryId),
        limit: read_limit(query.limit)?,
    };
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::deliveries(&mut tx, id, &filter).await.map_err(problem)?))
}

/// A delivery with what is sent and each time that it was.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeliveryDetails {
    /// The delivery.
    #[serde(flatten)]
    delivery: Delivery,
    /// The body, the same bytes each time.
    body: String,
    /// The latest hundred attempts, the first one first.
    attempt_log: Vec<Attempt>,
}

/// One delivery, with its body and its attempts.
#[utoipa::path(
    get, path = "/endpoints/{id}/deliveries/{deliveryId}", operation_id = "getDelivery", tag = "endpoints",
    params(("id" = EndpointId, Path), ("deliveryId" = DeliveryId, Path)), security(("bearer" = [])),
    responses((status = 200, body = DeliveryDetails), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn show_delivery(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, delivery)): ApiPath<(EndpointId, DeliveryId)>,
) -> ProblemResult<Json<DeliveryDetails>> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let (delivery, body, attempt_log) = service::delivery(&mut tx, id, delivery).await.map_err(problem)?;
    Ok(Json(DeliveryDetails { delivery, body, attempt_log }))
}

/// Has a delivery sent again that was delivered or has failed, under the same `webhook-id`.
#[utoipa::path(
    post, path = "/endpoints/{id}/deliveries/{deliveryId}/redeliver", operation_id = "redeliver", tag = "endpoints",
    params(("id" = EndpointId, Path), ("deliveryId" = DeliveryId, Path)), security(("bearer" = [])),
    responses((status = 202, body = Delivery), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn redeliver(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, delivery)): ApiPath<(EndpointId, DeliveryId)>,
) -> ProblemResult<Response> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let delivery = service::redeliver(&mut tx, id, delivery).await.map_err(problem)?;
    tx.commit().await?;
    state.lanes_due.notify_one();
    Ok((StatusCode::ACCEPTED, Json(delivery)).into_response())
}
