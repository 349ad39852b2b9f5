use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{
        Approval, ApprovalFilter, ApprovalStatus, MAX_DESCRIPTION, MAX_METADATA_BYTES, MAX_TITLE,
        NewApproval, Priority, Source, Verdict,
    },
    service::{self, ApprovalError, AtOnce},
};
use crate::{
    app::AppState,
    auth::{Caller, Permission, Resource, can},
    http::{
        Problem, ProblemResult,
        etag::{IfMatch, created, tagged},
        extract::{ApiJson, ApiPath, ApiQuery, check_time},
        idempotency::{Answer, Claim, Idempotency},
        page::{Page, read_cursor, read_limit},
        problem::FieldError,
    },
    ids::{ApprovalId, TenantId},
};

/// The approvals' operations.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, update))
}

/// What a refused command is over HTTP.
pub fn problem(error: ApprovalError) -> Problem {
    match error {
        ApprovalError::NotFound => Problem::not_found(),
        ApprovalError::Forbidden => Problem::forbidden(),
        ApprovalError::OwnRequest => Problem::new(
            StatusCode::FORBIDDEN,
            "approvals.own_request",
            "Nobody decides what they requested themselves",
        ),
        ApprovalError::AlreadyDecided => Problem::new(
            StatusCode::CONFLICT,
            "approvals.already_decided",
            "This approval is not pending any more",
        ),
        ApprovalError::AlreadyPending(id) => Problem::new(
            StatusCode::CONFLICT,
            "approvals.already_pending",
            "This conversation already waits for a decision",
        )
        .with_approval(id.0),
        ApprovalError::NoApprover => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "approvals.no_approver",
            "Nobody but you could decide here; this tenant needs an approver or an owner besides",
        ),
        ApprovalError::Stale => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "It has changed since you read it")
        }
        ApprovalError::StepUp(required) => required.problem(),
        ApprovalError::CommentTooLong => {
            Problem::invalid(vec![FieldError::new("/comment", "must have at most 2000 characters")])
        }
        ApprovalError::Database(error) => error.into(),
    }
}

/// What is asked for.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateApproval {
    /// The tenant, by UUID or path.
    tenant_id: String,
    /// What is asked, in a line.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// What is asked, at length.
    #[serde(default)]
    #[schema(max_length = 10000)]
    description: String,
    /// How urgent it is.
    #[serde(default)]
    priority: Priority,
    /// For programs; at most 16 KiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: serde_json::Map<String, serde_json::Value>,
    /// Where it comes from.
    source: Option<Source>,
    /// Whether a consultation is asked for.
    #[serde(default)]
    consultation_requested: bool,
    /// When it expires if nobody decides; in the future.
    expires_at: Option<DateTime<Utc>>,
}

fn check(value: CreateApproval, now: DateTime<Utc>) -> Result<NewApproval, Problem> {
    let mut errors = Vec::new();
    let title = value.title.trim().to_owned();
    if !(1..=MAX_TITLE).contains(&title.chars().count()) {
        errors.push(FieldError::new("/title", format!("must have 1 to {MAX_TITLE} characters")));
    }
    if value.description.chars().count() > MAX_DESCRIPTION {
        errors
            .push(FieldError::new("/description", format!("must have at most {MAX_DESCRIPTION} characters")));
    }
    let metadata = serde_json::Value::Object(value.metadata);
    if metadata.to_string().len() > MAX_METADATA_BYTES {
        errors.push(FieldError::new("/metadata", "must be at most 16 KiB"));
    }
    if value.expires_at.is_some_and(|at| at <= now) {
        errors.push(FieldError::new("/expiresAt", "must be in the future"));
    }
    check_time("/expiresAt", value.expires_at, &mut errors);
    if let Some(source) = &value.source {
        check_source(source, &mut errors);
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    Ok(NewApproval {
        title,
        description: value.description,
        priority: value.priority,
        metadata,
        source: value.source,
        conversation_id: None,
        consultation_requested: value.consultation_requested,
        expires_at: value.expires_at,
    })
}

fn check_source(source: &Source, errors: &mut Vec<FieldError>) {
    if !(1..=50).contains(&source.service.chars().count()) {
        errors.push(FieldError::new("/source/service", "must have 1 to 50 characters"));
    }
    for (pointer, text) in [
        ("/source/account", &source.account),
        ("/source/conversation", &source.conversation),
        ("/source/message", &source.message),
    ] {
        if text.as_ref().is_some_and(|text| !(1..=200).contains(&text.chars().count())) {
            errors.push(FieldError::new(pointer, "must have 1 to 200 characters"));
        }
    }
    // It becomes a link on a page: nothing but the web.
    let is_link = |link: &String| {
        link.len() <= 2000 && url::Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    };
    if source.link.as_ref().is_some_and(|link| !is_link(link)) {
        errors.push(FieldError::new(
            "/source/link",
            "must be an http or https address of at most 2000 characters",
        ));
    }
}

/// Requests an approval.
#[utoipa::path(
    post, path = "/approvals", operation_id = "createApproval", tag = "approvals", request_body = CreateApproval, security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gets the same answer, for 24 hours")),
    responses(
        (status = 201, body = Approval, headers(("Location" = String), ("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    idempotency: Idempotency,
    ApiJson { value, raw }: ApiJson<CreateApproval>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&value.tenant_id)?;
    caller.require(can(&caller, Permission::ApprovalRequest, &Resource::of(tenant)))?;
    let new = check(value, state.clock.now());
    if let Ok(new) = &new
        && let Some(response) = create_at_once(&state, &caller, tenant, new, &idempotency, &raw).await?
    {
        return Ok(response);
    }
    let mut tx = state.database.tenant_tx_in(caller.principal(), tenant).await?;
    let claimed = match idempotency.claim(&mut tx, &raw).await? {
        Claim::Replay(response) => return Ok(response),
        Claim::Proceed(claimed) => claimed,
    };
    // Only now: what was answered once is answered again, though its time may be over.
    let approval = service::request(&mut tx, tenant, new?).await.map_err(problem)?;
    let response = claimed.store(&mut tx, answer(&approval)).await?;
    tx.commit().await?;
    Ok(response)
}

fn answer(approval: &Approval) -> Response {
    created(&format!("/api/v1/approvals/{}", approval.id), approval.version, approval)
}

/// The answer, if the approval could be made by one statement or was made before.
async fn create_at_once(
    state: &AppState,
    caller: &Caller,
    tenant: TenantId,
    new: &NewApproval,
    idempotency: &Idempotency,
    raw: &[u8],
) -> ProblemResult<Option<Response>> {
    let statement = state.database.tenant_statement(caller.principal()).await?;
    let (id, now) = (ApprovalId(statement.new_id()), statement.now());
    let approval = Approval::requested(new.clone(), id, tenant, caller.id, now);
    let terms = idempotency.terms(caller.id, raw, now);
    let answer = Answer::of(answer(&approval)).await?;
    match service::request_at_once(statement, approval, terms, answer).await.map_err(problem)? {
        (AtOnce::Done, _, answer) => Ok(Some(answer.into_response())),
        (AtOnce::Known(found), Some(terms), _) => found.answer(&terms.fingerprint),
        (AtOnce::Known(_) | AtOnce::NotDone, ..) => Ok(None),
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// The tenant, by UUID or path; all of one's tenants where left out.
    tenant_id: Option<String>,
    /// Only this status.
    status: Option<ApprovalStatus>,
    /// Only this priority.
    priority: Option<Priority>,
    /// Where the last page ended.
    cursor: Option<String>,
    /// At most so many, 1 to 100, 50 unless told.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// The approvals, newest first.
#[utoipa::path(
    get, path = "/approvals", operation_id = "listApprovals", tag = "approvals", params(ListQuery), security(("bearer" = [])),
    responses((status = 200, body = Page<Approval>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> ProblemResult<Json<Page<Approval>>> {
    let filter = ApprovalFilter {
        tenants: caller.tenants_to_read(query.tenant_id.as_deref(), Permission::ApprovalRead)?,
        status: query.status,
        priority: query.priority,
        before: read_cursor(query.cursor.as_deref())?.map(ApprovalId),
        limit: read_limit(query.limit)?,
    };
    if let [tenant] = filter.tenants[..] {
        let statement = state.database.tenant_statement(caller.principal()).await?;
        return Ok(Json(service::page_at_once(statement, tenant, &filter).await?));
    }
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::page(&mut tx, &filter).await?))
}

/// One approval.
#[utoipa::path(
    get, path = "/approvals/{id}", operation_id = "getApproval", tag = "approvals", params(("id" = ApprovalId, Path)), security(("bearer" = [])),
    responses(
        (status = 200, body = Approval, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ApprovalId>,
) -> ProblemResult<Response> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let approval = service::find(&mut tx, id).await.map_err(problem)?;
    Ok(tagged(approval.version, approval))
}

/// What is to become of an approval.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateApproval {
    /// The outcome: approved or rejected by an approver, cancelled by who requested it.
    status: NewStatus,
    /// What is said with it.
    #[schema(max_length = 2000)]
    comment: Option<String>,
    /// With `approved`: whether a consultation is made; as requested where left out.
    consultation: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum NewStatus {
    Approved,
    Rejected,
    Cancelled,
}

/// Decides or cancels an approval. Of several decisions at the same time, one wins.
#[utoipa::path(
    patch, path = "/approvals/{id}", operation_id = "updateApproval", tag = "approvals", request_body = UpdateApproval, security(("bearer" = [])),
    params(("id" = ApprovalId, Path), ("If-Match" = Option<String>, Header, description = "The ETag that was read; 412 where it has changed")),
    responses(
        (status = 200, body = Approval, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn update(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ApprovalId>,
    headers: HeaderMap,
    ApiJson { value, .. }: ApiJson<UpdateApproval>,
) -> ProblemResult<Response> {
    let if_match = IfMatch::from_headers(&headers)?;
    if value.consultation.is_some() && value.status != NewStatus::Approved {
        return Err(Problem::invalid(vec![FieldError::new(
            "/consultation",
            "goes only with the status approved",
        )]));
    }
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let proof = caller.proof(&state.config.step_up);
    let (comment, consultation) = (value.comment, value.consultation);
    let decided = match value.status {
        NewStatus::Approved => {
            service::decide(&mut tx, id, Verdict::Approve, comment, consultation, &if_match, proof).await
        }
        NewStatus::Rejected => {
            service::decide(&mut tx, id, Verdict::Reject, comment, None, &if_match, proof).await
        }
        NewStatus::Cancelled => service::cancel(&mut tx, id, comment, &if_match).await,
    };
    let approval = decided.map_err(problem)?;
    tx.commit().await?;
    Ok(tagged(approval.version, approval))
}
