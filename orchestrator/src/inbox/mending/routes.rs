use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::service::{self, InboxError, MAX_REASON, ReplayAll};
use crate::{
    app::AppState,
    auth::{Caller, Permission, Resource, can},
    http::{
        Problem, ProblemResult,
        extract::{ApiJson, ApiPath, check_time},
        problem::FieldError,
    },
    ids::{InboxEventId, SourceId},
    inbox::seeing::{self, EventFilter, EventState, InboxEvent},
};

/// The operations that mend.
pub(in crate::inbox) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(replay)).routes(routes!(discard)).routes(routes!(replay_all))
}

/// What a refused command is over HTTP.
pub fn problem(error: InboxError) -> Problem {
    match error {
        InboxError::NotFound => Problem::not_found(),
        InboxError::Forbidden => Problem::forbidden(),
        InboxError::InProgress => Problem::new(
            StatusCode::CONFLICT,
            "inbox.in_progress",
            "It waits, or is tried again by itself, and can't be replayed",
        ),
        InboxError::NotFailed => {
            Problem::new(StatusCode::CONFLICT, "inbox.not_failed", "It hasn't failed, and can't be discarded")
        }
        InboxError::OtherCount(_) => Problem::new(
            StatusCode::CONFLICT,
            "inbox.other_count",
            "The filter means another number than was expected; nothing was replayed",
        ),
        InboxError::TooMany => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "inbox.too_many",
            "The filter means more than is replayed at once",
        ),
        InboxError::NoState => {
            Problem::invalid(vec![FieldError::new("/state", "must be done, dead or discarded")])
        }
        InboxError::NoReason => Problem::invalid(vec![FieldError::new(
            "/reason",
            format!("must have 1 to {MAX_REASON} characters"),
        )]),
        error @ InboxError::Crypto(_) => Problem::internal(&error),
        InboxError::Database(error) => error.into(),
    }
}

/// Processes a received webhook again that is done, dead or discarded.
#[utoipa::path(
    post, path = "/inbox/events/{id}/replay", operation_id = "replayInboxEvent", tag = "inbox", params(("id" = InboxEventId, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = InboxEvent), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<InboxEventId>,
) -> ProblemResult<Json<InboxEvent>> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let lanes = service::replay(&mut tx, id).await.map_err(problem)?;
    let event = seeing::find(&mut tx, id).await.map_err(problem)?;
    tx.commit().await?;
    service::wake(&state, lanes);
    Ok(Json(event))
}

/// Why a received webhook is given up.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DiscardInboxEvent {
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Gives up a received webhook that is dead, tried again by itself, or behind one that is. What waits behind it goes on.
#[utoipa::path(
    post, path = "/inbox/events/{id}/discard", operation_id = "discardInboxEvent", tag = "inbox", request_body = DiscardInboxEvent,
    params(("id" = InboxEventId, Path)), security(("bearer" = [])),
    responses((status = 200, body = InboxEvent), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn discard(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<InboxEventId>,
    ApiJson { value, .. }: ApiJson<DiscardInboxEvent>,
) -> ProblemResult<Json<InboxEvent>> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let discarded = service::discard(&mut tx, id, &value.reason).await.map_err(problem)?;
    tx.commit().await?;
    service::wake(&state, discarded.lanes);
    Ok(Json(discarded.event))
}

/// Which received webhooks are to be processed again.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReplayInbox {
    /// The tenant, by UUID or path; `/suite` for the suite.
    tenant_id: String,
    /// Those in this state: `done`, `dead` or `discarded`.
    state: EventState,
    /// Only from this source.
    source_id: Option<SourceId>,
    /// Only of this service.
    service: Option<String>,
    /// Only of this type.
    r#type: Option<String>,
    /// Only about this.
    subject: Option<String>,
    /// Received from this time on.
    from: Option<DateTime<Utc>>,
    /// Received before this time; before now where it is left out.
    to: Option<DateTime<Utc>>,
    /// Whether they are only counted.
    #[serde(default)]
    dry_run: bool,
    /// How many are expected: with another number, nothing is done (409).
    expected: Option<u64>,
}

/// How many received webhooks are processed again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReplayedInbox {
    /// How many it is, or would be.
    count: u64,
    /// Whether they were only counted.
    dry_run: bool,
    /// What was received from this time on isn't meant. Send it as `to`, and the same are meant.
    to: DateTime<Utc>,
}

/// Processes all received webhooks of a filter again, at most 100,000; with `dryRun`, says how many that would be.
#[utoipa::path(
    post, path = "/inbox/replay", operation_id = "replayInbox", tag = "inbox", request_body = ReplayInbox, security(("bearer" = [])),
    responses((status = 200, body = ReplayedInbox), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn replay_all(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson { value, .. }: ApiJson<ReplayInbox>,
) -> ProblemResult<Json<ReplayedInbox>> {
    let tenant = caller.named_tenant(&value.tenant_id)?;
    caller.require(can(&caller, Permission::WebhookEventReplay, &Resource::of(tenant)))?;
    let mut errors = Vec::new();
    check_time("/from", value.from, &mut errors);
    check_time("/to", value.to, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let filter = EventFilter {
        tenants: vec![tenant],
        state: Some(value.state),
        source: value.source_id,
        service: value.service,
        event_type: value.r#type,
        subject: value.subject,
        from: value.from,
        to: value.to,
        before: None,
        limit: 0,
    };
    let mut tx = state.database.tenant_tx_in(caller.principal(), tenant).await?;
    let asked = ReplayAll { tenant, filter, dry_run: value.dry_run, expected: value.expected };
    let replayed = service::replay_all(&mut tx, asked).await.map_err(problem)?;
    tx.commit().await?;
    service::wake(&state, replayed.lanes);
    Ok(Json(ReplayedInbox { count: replayed.count, dry_run: value.dry_run, to: replayed.to }))
}
