use axum::{Json, extract::State};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{EventQuery, InboxEvent, InboxEventDetail},
    service,
};
use crate::{
    app::AppState,
    auth::{Caller, Permission},
    http::{
        Problem, ProblemResult,
        extract::{ApiPath, ApiQuery},
        page::Page,
    },
    ids::InboxEventId,
    inbox::problem,
};

/// The operations that read what was received.
pub(in crate::inbox) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// Received webhooks, newest first.
#[utoipa::path(
    get, path = "/inbox/events", operation_id = "listInboxEvents", tag = "inbox", params(EventQuery), security(("bearer" = [])),
    responses((status = 200, body = Page<InboxEvent>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<EventQuery>,
) -> ProblemResult<Json<Page<InboxEvent>>> {
    let tenants = caller.tenants_to_read(query.tenant_id.as_deref(), Permission::WebhookEventRead)?;
    let filter = query.filter(tenants)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::page(&mut tx, &filter).await?))
}

/// One received webhook with its request, whose secrets are masked, its attempts and its effects.
#[utoipa::path(
    get, path = "/inbox/events/{id}", operation_id = "getInboxEvent", tag = "inbox", params(("id" = InboxEventId, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = InboxEventDetail), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<InboxEventId>,
) -> ProblemResult<Json<InboxEventDetail>> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::detail(&mut tx, &state.master_key, id).await.map_err(problem)?))
}
