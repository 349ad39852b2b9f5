use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{
        Attendance, Consultation, DEFAULT_DURATION, DURATIONS, MAX_PARTICIPANTS, MAX_TITLE, NewConsultation,
    },
    service::{self, ConsultationError},
};
use crate::{
    app::AppState,
    auth::{Caller, Permission, Resource, can},
    db::TenantTx,
    http::{
        Problem, ProblemResult,
        etag::{IfMatch, created, tagged},
        extract::{ApiJson, ApiPath, ApiQuery, check_time},
        idempotency::{Claim, Idempotency},
        page::{Page, read_cursor, read_limit},
        problem::FieldError,
    },
    ids::{ApprovalId, ConsultationId, UserId},
};

/// The consultations' operations.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show))
        .routes(routes!(start))
        .routes(routes!(end))
        .routes(routes!(cancel))
        .routes(routes!(join))
        .routes(routes!(attendance))
}

/// What a refused command is over HTTP.
pub fn problem(error: ConsultationError) -> Problem {
    match error {
        ConsultationError::NotFound => Problem::not_found(),
        ConsultationError::Forbidden => Problem::forbidden(),
        ConsultationError::NotHost => {
            Problem::new(StatusCode::FORBIDDEN, "consultations.not_host", "Only the host does this")
        }
        ConsultationError::MayNotCancel => Problem::new(
            StatusCode::FORBIDDEN,
            "consultations.may_not_cancel",
            "Only the host or an owner cancels this, and not who asked for the approval",
        ),
        ConsultationError::Over => {
            Problem::new(StatusCode::CONFLICT, "consultations.over", "This consultation is over")
        }
        ConsultationError::Cancelled => {
            Problem::new(StatusCode::CONFLICT, "consultations.cancelled", "This consultation was cancelled")
        }
        ConsultationError::Started => {
            Problem::new(StatusCode::CONFLICT, "consultations.started", "This consultation has begun")
        }
        ConsultationError::NotStarted => {
            Problem::new(StatusCode::CONFLICT, "consultations.not_started", "This consultation has not begun")
        }
        ConsultationError::TooEarly => Problem::new(
            StatusCode::CONFLICT,
            "consultations.too_early",
            "The room opens half an hour before the time that is set",
        ),
        ConsultationError::Stale => {
            Problem::new(StatusCode::PRECONDITION_FAILED, "stale", "It has changed since you read it")
        }
        ConsultationError::UnknownParticipant => {
            Problem::invalid(vec![FieldError::new("/participantIds", "must be people of this tenant")])
        }
        ConsultationError::UnknownApproval => {
            Problem::invalid(vec![FieldError::new("/approvalId", "must be an approval of this tenant")])
        }
        ConsultationError::NoJitsi => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "consultations.no_jitsi",
            "There is no video server connected",
        ),
        ConsultationError::Token(error) => Problem::internal(&error),
        ConsultationError::Database(error) => error.into(),
    }
}

/// What a consultation is asked for with.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateConsultation {
    /// The tenant, by UUID or path.
    tenant_id: String,
    /// What it is about.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// Who takes part besides the host, who is the caller.
    #[serde(default)]
    #[schema(max_items = 50)]
    participant_ids: Vec<UserId>,
    /// When it is to begin.
    scheduled_at: Option<DateTime<Utc>>,
    /// The approval that it is about.
    approval_id: Option<ApprovalId>,
    /// How long it is to be, in minutes; an hour where left out. Its room is closed two hours later.
    #[schema(minimum = 5, maximum = 1440)]
    duration_minutes: Option<i32>,
}

/// Makes a consultation that the caller hosts.
#[utoipa::path(
    post, path = "/consultations", operation_id = "createConsultation", tag = "consultations", request_body = CreateConsultation,
    security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gets the same answer, for 24 hours")),
    responses(
        (status = 201, body = Consultation, headers(("Location" = String), ("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    idempotency: Idempotency,
    ApiJson { value, raw }: ApiJson<CreateConsultation>,
) -> ProblemResult<Response> {
    let tenant = caller.named_tenant(&value.tenant_id)?;
    caller.require(can(&caller, Permission::ConsultationHost, &Resource::of(tenant)))?;
    let mut tx = state.database.tenant_tx_in(caller.principal(), tenant).await?;
    let claimed = match idempotency.claim(&mut tx, &raw).await? {
        Claim::Replay(response) => return Ok(response),
        Claim::Proceed(claimed) => claimed,
    };
    let mut errors = Vec::new();
    let title = value.title.trim().to_owned();
    if !(1..=MAX_TITLE).contains(&title.chars().count()) {
        errors.push(FieldError::new("/title", format!("must have 1 to {MAX_TITLE} characters")));
    }
    if value.participant_ids.len() > MAX_PARTICIPANTS {
        errors
            .push(FieldError::new("/participantIds", format!("must have at most {MAX_PARTICIPANTS} people")));
    }
    let duration_minutes = value.duration_minutes.unwrap_or(DEFAULT_DURATION);
    if !DURATIONS.contains(&duration_minutes) {
        errors.push(FieldError::new("/durationMinutes", "must be from 5 to 1440"));
    }
    check_time("/scheduledAt", value.scheduled_at, &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let new = NewConsultation {
        title,
        participant_ids: value.participant_ids,
        approval_id: value.approval_id,
        scheduled_at: value.scheduled_at,
        duration_minutes,
    };
    let consultation = service::create(&mut tx, tenant, new).await.map_err(problem)?;
    let location = format!("/api/v1/consultations/{}", consultation.id);
    let response = created(&location, consultation.version, consultation);
    let response = claimed.store(&mut tx, response).await?;
    tx.commit().await?;
    Ok(response)
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

/// The consultations, newest first: all where one's role reads them, else those that one takes part in.
#[utoipa::path(
    get, path = "/consultations", operation_id = "listConsultations", tag = "consultations", params(ListQuery), security(("bearer" = [])),
    responses((status = 200, body = Page<Consultation>), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> ProblemResult<Json<Page<Consultation>>> {
    let tenant = query.tenant_id.as_deref().map(|named| caller.named_tenant(named)).transpose()?;
    let (before, limit) =
        (read_cursor(query.cursor.as_deref())?.map(ConsultationId), read_limit(query.limit)?);
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    Ok(Json(service::page(&mut tx, tenant, before, limit).await?))
}

/// One consultation.
#[utoipa::path(
    get, path = "/consultations/{id}", operation_id = "getConsultation", tag = "consultations", params(("id" = ConsultationId, Path)),
    security(("bearer" = [])),
    responses(
        (status = 200, body = Consultation, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ConsultationId>,
) -> ProblemResult<Response> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let consultation = service::find(&mut tx, id).await.map_err(problem)?;
    Ok(tagged(consultation.version, consultation))
}

/// What starting and ending have in common: a command on the version that was read, and what became of it.
async fn change(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    command: impl AsyncFnOnce(&mut TenantTx, &IfMatch) -> Result<Consultation, ConsultationError>,
) -> ProblemResult<Response> {
    let if_match = IfMatch::from_headers(headers)?;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let consultation = command(&mut tx, &if_match).await.map_err(problem)?;
    tx.commit().await?;
    Ok(tagged(consultation.version, consultation))
}

/// Starts a consultation, as its host. Starting twice is the same start.
#[utoipa::path(
    post, path = "/consultations/{id}/start", operation_id = "startConsultation", tag = "consultations",
    params(("id" = ConsultationId, Path), ("If-Match" = Option<String>, Header)), security(("bearer" = [])),
    responses(
        (status = 200, body = Consultation, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn start(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ConsultationId>,
    headers: HeaderMap,
) -> ProblemResult<Response> {
    change(&state, &caller, &headers, async |tx, if_match| service::start(tx, id, if_match).await).await
}

/// Ends a consultation for good, as its host.
#[utoipa::path(
    post, path = "/consultations/{id}/end", operation_id = "endConsultation", tag = "consultations",
    params(("id" = ConsultationId, Path), ("If-Match" = Option<String>, Header)), security(("bearer" = [])),
    responses(
        (status = 200, body = Consultation, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn end(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ConsultationId>,
    headers: HeaderMap,
) -> ProblemResult<Response> {
    change(&state, &caller, &headers, async |tx, if_match| service::end(tx, id, if_match).await).await
}

/// Cancels a consultation that has not begun, as its host or as an owner of the tenant. Cancelling twice is the same.
#[utoipa::path(
    post, path = "/consultations/{id}/cancel", operation_id = "cancelConsultation", tag = "consultations",
    params(("id" = ConsultationId, Path), ("If-Match" = Option<String>, Header)), security(("bearer" = [])),
    responses(
        (status = 200, body = Consultation, headers(("ETag" = String))),
        (status = "4XX", body = Problem, content_type = "application/problem+json")
    )
)]
async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ConsultationId>,
    headers: HeaderMap,
) -> ProblemResult<Response> {
    change(&state, &caller, &headers, async |tx, if_match| service::cancel(tx, id, if_match).await).await
}

/// Who was in a consultation's room.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AttendanceList {
    /// In the order in which they came; somebody who came twice is there twice.
    items: Vec<Attendance>,
}

/// Who was in a consultation's room and when, as Jitsi's server told it.
#[utoipa::path(
    get, path = "/consultations/{id}/attendance", operation_id = "listAttendance", tag = "consultations",
    params(("id" = ConsultationId, Path)), security(("bearer" = [])),
    responses((status = 200, body = AttendanceList), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn attendance(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ConsultationId>,
) -> ProblemResult<Json<AttendanceList>> {
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let items = service::attendance(&mut tx, id).await.map_err(problem)?;
    Ok(Json(AttendanceList { items }))
}

/// The way into the room, for the caller alone and until it is closed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
struct JoinLink {
    /// Open this; it holds the token.
    url: String,
    /// The token alone.
    token: String,
    /// After this time the token no longer opens the room.
    expires_at: DateTime<Utc>,
}

/// Makes a token for the room and the caller, who hosts or takes part.
#[utoipa::path(
    post, path = "/consultations/{id}/join", operation_id = "joinConsultation", tag = "consultations", params(("id" = ConsultationId, Path)),
    security(("bearer" = [])),
    responses((status = 200, body = JoinLink), (status = "4XX", body = Problem, content_type = "application/problem+json"))
)]
async fn join(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ConsultationId>,
) -> ProblemResult<Response> {
    use secrecy::ExposeSecret as _;
    let mut tx = state.database.tenant_tx(caller.principal()).await?;
    let now = tx.now();
    let joined = service::join(&mut tx, state.tools.jitsi.as_deref(), id, now).await.map_err(problem)?;
    tx.commit().await?;
    let link = JoinLink {
        url: joined.link.url.to_string(),
        token: joined.link.token.expose_secret().to_owned(),
        expires_at: joined.link.expires_at,
    };
    let mut response = Json(link).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
