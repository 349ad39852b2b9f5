use axum::{Json, extract::State, response::Response};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{Conversation, Escalation, MAX_REASON},
    service::{self, problem},
};
use crate::{
    app::AppState,
    approvals::{Approval, Priority},
    auth::{Caller, Permission, Resource, can},
    http::{
        Problem, ProblemResult,
        etag::created,
        extract::{ApiJson, ApiPath, ApiQuery},
        idempotency::{Claim, Idempotency},
        page::{Page, TimedPosition, read_limit},
        problem::FieldError,
    },
    ids::ConversationId,
};

/// The conversations' operations.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(escalate))
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

/// The conversations, those that changed last first.
#[utoipa::path(
    get, path = "/conversations", operation_id = "listConversations", tag = "conversations", params(ListQuery), security(("bearer" = [])),
    responses((status = 200, body = Page<Conversation>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> ProblemResult<Json<Page<Conversation>>> {
    let tenants = caller.tenants_to_read(query.tenant_id.as_deref(), Permission::ConversationRead)?;
    let (before, limit) = (TimedPosition::read(query.cursor.as_deref())?, read_limit(query.limit)?);
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::page(&mut tx, &state.tools, &tenants, before, limit).await?))
}

/// One conversation.
#[utoipa::path(
    get, path = "/conversations/{id}", operation_id = "getConversation", tag = "conversations", params(("id" = ConversationId, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = Conversation), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ConversationId>,
) -> ProblemResult<Json<Conversation>> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::find(&mut tx, &state.tools, id).await.map_err(problem)?))
}

/// Why a conversation is escalated.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EscalateConversation {
    /// Why.
    #[schema(min_length = 1, max_length = 5000)]
    reason: String,
    /// In a line; made of the conversation where left out.
    #[schema(min_length = 1, max_length = 200)]
    title: Option<String>,
    /// How urgent it is.
    #[serde(default)]
    priority: Priority,
    /// Whether a consultation is asked for.
    #[serde(default)]
    consultation_requested: bool,
}

/// Escalates a conversation: requests an approval about it.
#[utoipa::path(
    post, path = "/conversations/{id}/escalate", operation_id = "escalateConversation", tag = "conversations", request_body = EscalateConversation,
    params(
        ("id" = ConversationId, Path),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gets the same answer, for 24 hours")
    ),
    security(("bearer" = [])),
    responses(
        (status = 201, body = Approval, headers(("Location" = String), ("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn escalate(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ConversationId>,
    idempotency: Idempotency,
    ApiJson { value, raw }: ApiJson<EscalateConversation>,
) -> ProblemResult<Response> {
    let escalation = check(value)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    // Whoever may not see the conversation any more gets no stored answer about it either.
    let conversation = service::find(&mut tx, &state.tools, id).await.map_err(problem)?;
    caller.require(can(&caller, Permission::ApprovalRequest, &Resource::of(conversation.tenant_id)))?;
    let claimed = match idempotency.claim(&mut tx, &raw).await? {
        Claim::Replay(response) => return Ok(response),
        Claim::Proceed(claimed) => claimed,
    };
    let approval = service::escalate(&mut tx, &state, id, escalation).await.map_err(problem)?;
    let location = format!("/api/v1/approvals/{}", approval.id);
    let response = created(&location, approval.version, approval);
    let response = claimed.store(&mut tx, response).await?;
    tx.commit().await?;
    Ok(response)
}

fn check(value: EscalateConversation) -> Result<Escalation, Problem> {
    let mut errors = Vec::new();
    let reason = value.reason.trim().to_owned();
    if !(1..=MAX_REASON).contains(&reason.chars().count()) {
        errors.push(FieldError::new("/reason", format!("must have 1 to {MAX_REASON} characters")));
    }
    let title = value.title.map(|title| title.trim().to_owned());
    if title.as_ref().is_some_and(|title| !(1..=200).contains(&title.chars().count())) {
        errors.push(FieldError::new("/title", "must have 1 to 200 characters"));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let consultation_requested = value.consultation_requested;
    Ok(Escalation { reason, title, priority: value.priority, consultation_requested, message: None })
}
