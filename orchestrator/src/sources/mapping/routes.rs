use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{model::Mapping, service};
use crate::{
    app::AppState,
    auth::Caller,
    http::{
        Problem, ProblemResult,
        extract::{ApiJson, ApiPath},
    },
    ids::SourceId,
    sources::{cache::forget, routes::problem},
};

/// The operations on mappings.
pub(in crate::sources) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(put, delete))
}

/// Whose the inboxes of a source are.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Mappings {
    items: Vec<Mapping>,
}

/// Whose the inboxes of a suite's source are.
#[utoipa::path(
    get, path = "/sources/{id}/mappings", operation_id = "listWebhookSourceMappings", tag = "sources", params(("id" = SourceId, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = Mappings), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<SourceId>,
) -> ProblemResult<Json<Mappings>> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let items = service::mappings(&mut tx, &state.database, id).await.map_err(problem)?;
    Ok(Json(Mappings { items }))
}

/// Whose an inbox is to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutMapping {
    /// The tenant, by UUID or path.
    tenant_id: String,
}

/// Says whose an inbox is, from now on; what was parked for it is handed on by a replay.
#[utoipa::path(
    put, path = "/sources/{id}/mappings/{inbox}", operation_id = "putWebhookSourceMapping", tag = "sources", request_body = PutMapping,
    params(("id" = SourceId, Path), ("inbox" = String, Path, description = "The inbox' number, or `others` for all without a mapping of their own")),
    security(("bearer" = [])),
    responses((status = 200, body = Mapping), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn put(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, inbox)): ApiPath<(SourceId, String)>,
    ApiJson { value, .. }: ApiJson<PutMapping>,
) -> ProblemResult<Json<Mapping>> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let mapping =
        service::map(&mut tx, &state.database, id, &inbox, &value.tenant_id).await.map_err(problem)?;
    tx.commit().await?;
    forget(&state, id, "chatwoot").await;
    Ok(Json(mapping))
}

/// Takes a mapping away. What came by it stays with its tenant.
#[utoipa::path(
    delete, path = "/sources/{id}/mappings/{inbox}", operation_id = "deleteWebhookSourceMapping", tag = "sources",
    params(("id" = SourceId, Path), ("inbox" = String, Path, description = "The inbox' number, or `others`")), security(("bearer" = [])),
    responses((status = 204), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn delete(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, inbox)): ApiPath<(SourceId, String)>,
) -> ProblemResult<StatusCode> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    service::unmap(&mut tx, id, &inbox).await.map_err(problem)?;
    tx.commit().await?;
    forget(&state, id, "chatwoot").await;
    Ok(StatusCode::NO_CONTENT)
}
