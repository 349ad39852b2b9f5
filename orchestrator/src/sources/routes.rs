use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    forget,
    model::{
        ChangeSource, NewSecret, NewSource, Purpose, RequestLimit, SecretInfo, SourceFilter, SourceScheme,
        SourceState, WebhookSource,
    },
    service::{self, SourceError},
};
use crate::{
    app::AppState,
    auth::{Caller, Permission, Resource, can},
    http::{
        Problem, ProblemResult,
        etag::{IfMatch, created, tagged},
        extract::{ApiJson, ApiPath, ApiQuery},
        page::{Page, TimedPosition, read_limit},
        problem::FieldError,
    },
    ids::SourceId,
};

/// The operations on sources of webhooks.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, delete))
        .routes(routes!(create_secret))
        .routes(routes!(delete_secret))
        .merge(super::mapping::router())
}

/// What a refused command is over HTTP.
pub fn problem(error: SourceError) -> Problem {
    match error {
        SourceError::NotFound => Problem::not_found(),
        SourceError::Forbidden => Problem::forbidden(),
        SourceError::Stale => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "It has changed since you read it")
        }
        SourceError::AccountTaken => Problem::new(
            StatusCode::CONFLICT,
            "sources.account_taken",
            "This account of the service has a source already",
        ),
        SourceError::Invalid(faults) => Problem::invalid(
            faults.into_iter().map(|fault| FieldError::new(fault.pointer, fault.detail)).collect(),
        ),
        error @ (SourceError::Crypto(_) | SourceError::Secrets(_)) => Problem::internal(&error),
        SourceError::Database(error) => error.into(),
    }
}

/// What a new source is to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateSource {
    /// The tenant that it speaks for, by UUID or path; `/suite` for the suite.
    tenant_id: String,
    /// The tool; it stands in the URL.
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,39}$")]
    service: String,
    /// A name for people; the service's where it is left out.
    #[serde(default)]
    #[schema(max_length = 200)]
    name: String,
    /// The account in the tool that it speaks for; Chatwoot's and Matrix's must say it.
    #[schema(min_length = 1, max_length = 200)]
    account: Option<String>,
    /// How its requests prove where they come from: `{"type": "chatwoot"}`, `{"type": "preset", "name": "github"}`,
    /// `{"type": "standard-webhooks"}`, … (docs/API.md).
    #[schema(value_type = Object)]
    scheme: SourceScheme,
    /// How much is taken from it, besides what holds for every source.
    limit: Option<RequestLimit>,
    /// Its secret; where it is left out, one is made, unless only the tool can make one.
    #[schema(value_type = Option<String>, max_length = 16384)]
    secret: Option<SecretString>,
}

/// A new source, and what is shown of it this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedSource {
    #[serde(flatten)]
    source: WebhookSource,
    /// The secret, where it was made here. It is not shown again.
    secret: Option<String>,
    /// The token to give to a tool that asks first whether we are there. It is not shown again.
    challenge_token: Option<String>,
}

fn shown(secret: Option<SecretString>) -> Option<String> {
    secret.map(|secret| secret.expose_secret().to_owned())
}

/// What holds a secret is kept by nobody on its way.
fn unkept(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Adds a source of webhooks.
#[utoipa::path(
    post, path = "/sources", operation_id = "createWebhookSource", tag = "sources", request_body = CreateSource, security(("bearer" = [])),
    responses(
        (status = 201, body = CreatedSource, headers(("Location" = String), ("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson { value, .. }: ApiJson<CreateSource>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&value.tenant_id)?;
    caller.require(can(&caller, Permission::WebhookSourceManage, &Resource::of(tenant)))?;
    let mut tx = state.database.tenant_tx_in(caller.principal(), tenant).await?;
    let new = NewSource {
        service: value.service,
        name: value.name,
        account: value.account,
        scheme: value.scheme,
        limit: value.limit,
        secret: value.secret,
    };
    let added = service::add(&mut tx, &state.master_key, tenant, new).await.map_err(problem)?;
    tx.commit().await?;
    forget(&state, added.source.id, &added.source.service).await;
    let location = format!("/api/v1/sources/{}", added.source.id);
    let version = added.source.version;
    let body = CreatedSource {
        source: added.source,
        secret: shown(added.secret),
        challenge_token: shown(added.challenge_token),
    };
    Ok(unkept(created(&location, version, body)))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The tenant, by UUID or path, `/suite` for the suite; all of one's own where left out.
    tenant_id: Option<String>,
    /// Only of this service.
    service: Option<String>,
    /// Only in this state.
    state: Option<SourceState>,
    /// Where the last page ended.
    cursor: Option<String>,
    /// At most so many, 1 to 100, 50 unless told.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The sources of webhooks, newest first.
#[utoipa::path(
    get, path = "/sources", operation_id = "listWebhookSources", tag = "sources", params(ListQuery), security(("bearer" = [])),
    responses((status = 200, body = Page<WebhookSource>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> ProblemResult<Json<Page<WebhookSource>>> {
    let filter = SourceFilter {
        tenants: caller.tenants_to_read(query.tenant_id.as_deref(), Permission::WebhookSourceRead)?,
        service: query.service,
        state: query.state,
        before: TimedPosition::read(query.cursor.as_deref())?,
        limit: read_limit(query.limit)?,
    };
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::page(&mut tx, &filter).await?))
}

/// One source of webhooks.
#[utoipa::path(
    get, path = "/sources/{id}", operation_id = "getWebhookSource", tag = "sources", params(("id" = SourceId, Path)), security(("bearer" = [])),
    responses(
        (status = 200, body = WebhookSource, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SourceId>,
) -> ProblemResult<Response> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let source = service::get(&mut tx, id).await.map_err(problem)?;
    Ok(tagged(source.version, source))
}

/// Changes what is named; the rest stays.
#[utoipa::path(
    patch, path = "/sources/{id}", operation_id = "updateWebhookSource", tag = "sources", request_body = ChangeSource, security(("bearer" = [])),
    params(("id" = SourceId, Path), ("If-Match" = Option<String>, Header, description = "The ETag that was read; 412 where it has changed")),
    responses(
        (status = 200, body = WebhookSource, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn update(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SourceId>,
    headers: HeaderMap,
    ApiJson { value, .. }: ApiJson<ChangeSource>,
) -> ProblemResult<Response> {
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let changed = service::change(&mut tx, &state.master_key, id, value, &if_match).await;
    let source = changed.map_err(problem)?;
    tx.commit().await?;
    forget(&state, id, &source.service).await;
    Ok(tagged(source.version, source))
}

/// Removes a source for good, with its secrets. What it has sent stays.
#[utoipa::path(
    delete, path = "/sources/{id}", operation_id = "deleteWebhookSource", tag = "sources", security(("bearer" = [])),
    params(("id" = SourceId, Path), ("If-Match" = Option<String>, Header, description = "The ETag that was read; 412 where it has changed")),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SourceId>,
    headers: HeaderMap,
) -> ProblemResult<StatusCode> {
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let source = service::remove(&mut tx, id, &if_match).await.map_err(problem)?;
    tx.commit().await?;
    forget(&state, id, &source.service).await;
    Ok(StatusCode::NO_CONTENT)
}

/// A secret that is to be added, and what becomes of the others.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateSecret {
    /// What it is for.
    #[serde(default)]
    purpose: Purpose,
    /// The secret; where it is left out, one is made.
    #[schema(value_type = Option<String>, max_length = 16384)]
    value: Option<SecretString>,
    /// For how long the others of its purpose still count, in seconds; a day where it is left out.
    #[schema(minimum = 0, maximum = 2_592_000)]
    grace_seconds: Option<u32>,
}

/// A secret that was added, and what is shown of it this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedSecret {
    #[serde(flatten)]
    secret: SecretInfo,
    /// The secret, where it was made here. It is not shown again.
    value: Option<String>,
}

/// Gives a source a new secret, which counts at once; the others count for a while longer.
#[utoipa::path(
    post, path = "/sources/{id}/secrets", operation_id = "createWebhookSourceSecret", tag = "sources", request_body = CreateSecret,
    security(("bearer" = [])),
    params(("id" = SourceId, Path), ("If-Match" = Option<String>, Header, description = "The source's ETag that was read; 412 where it has changed")),
    responses(
        (status = 201, body = CreatedSecret, headers(("Location" = String), ("ETag" = String, description = "The source's"))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn create_secret(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SourceId>,
    headers: HeaderMap,
    ApiJson { value, .. }: ApiJson<CreateSecret>,
) -> ProblemResult<Response> {
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let new = NewSecret { purpose: value.purpose, value: value.value, grace_seconds: value.grace_seconds };
    let rotated = service::rotate(&mut tx, &state.master_key, id, new, &if_match).await.map_err(problem)?;
    tx.commit().await?;
    forget(&state, id, &rotated.source.service).await;
    let location = format!("/api/v1/sources/{id}/secrets/{}", rotated.secret.id);
    let body = CreatedSecret { secret: rotated.secret, value: shown(rotated.value) };
    Ok(unkept(created(&location, rotated.source.version, body)))
}

/// Takes a secret away at once.
#[utoipa::path(
    delete, path = "/sources/{id}/secrets/{secret}", operation_id = "deleteWebhookSourceSecret", tag = "sources", security(("bearer" = [])),
    params(
        ("id" = SourceId, Path), ("secret" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The source's ETag that was read; 412 where it has changed")
    ),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn delete_secret(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, secret)): ApiPath<(SourceId, Uuid)>,
    headers: HeaderMap,
) -> ProblemResult<Response> {
    let if_match = IfMatch::from_headers(&headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let source = service::revoke(&mut tx, id, secret, &if_match).await.map_err(problem)?;
    tx.commit().await?;
    forget(&state, id, &source.service).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}
