use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect},
};
use serde::Deserialize;
use shell_ui::{
    LinkTo,
    pages::{Attended, ConsultationPage, ConsultationsPage},
};

use super::{
    PageResult,
    chrome::{FlashQuery, Place},
    form::with_query,
    page, rows,
};
use crate::{
    app::AppState,
    approvals,
    auth::{Decision, Permission, Resource, can},
    consultations::{self, Consultation, ConsultationError, ConsultationStatus},
    db::TenantTx,
    http::{
        Problem, ProblemResult,
        etag::IfMatch,
        extract::{ApiPath, ApiQuery},
        page::{DEFAULT_LIMIT, read_cursor},
    },
    ids::{ConsultationId, TenantId, UserId},
    tenants,
};

const MODULE: &str = "consultations";
/// The most consultations ahead that are shown.
const UPCOMING: u32 = 100;

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    cursor: Option<String>,
}

fn is_over(status: ConsultationStatus) -> bool {
    matches!(status, ConsultationStatus::Ended | ConsultationStatus::Cancelled)
}

/// The consultations that the visitor may see: those ahead, and a page of those that are over.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> PageResult {
    place.require(Permission::TenantRead)?;
    let before = read_cursor(query.cursor.as_deref())?.map(ConsultationId);
    let (tenant, ui) = (place.tenant.id, &state.ui);
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, None).await?;
    let upcoming = consultations::upcoming(&mut tx, tenant, UPCOMING).await?;
    let found = consultations::page(&mut tx, Some(tenant), before, DEFAULT_LIMIT).await?;
    let past: Vec<Consultation> =
        found.items.into_iter().filter(|consultation| is_over(consultation.status)).collect();
    let shown = ConsultationsPage {
        chrome,
        upcoming: rows::consultations(&place, &mut tx, ui, &upcoming).await?,
        past: rows::consultations(&place, &mut tx, ui, &past).await?,
        older_href: found
            .next_cursor
            .map(|cursor| with_query(&place.href(MODULE), &[("cursor", Some(&cursor))])),
    };
    page(StatusCode::OK, &shown)
}

/// One consultation.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ConsultationId)>,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    render(&state, &place, id, StatusCode::OK, query.flash.as_deref()).await
}

async fn find(place: &Place, tx: &mut TenantTx, id: ConsultationId) -> ProblemResult<Consultation> {
    let found = consultations::find(tx, id).await.map_err(consultations::problem)?;
    // The path names the tenant: a consultation of another one isn't here, even where the visitor is in both.
    if found.tenant_id == place.tenant.id { Ok(found) } else { Err(Problem::not_found()) }
}

async fn render(
    state: &AppState,
    place: &Place,
    id: ConsultationId,
    status: StatusCode,
    flash: Option<&str>,
) -> PageResult {
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, flash).await?;
    let consultation = find(place, &mut tx, id).await?;
    let involved = consultation.involved();
    let names = tenants::names(&mut tx, place.tenant.id, &involved).await?;
    let name = |user: &UserId| rows::name_or_somebody(ui, names.get(user).map(String::as_str));
    let approval = match consultation.approval_id.filter(|_| place.may(Permission::ApprovalRead)) {
        Some(id) => {
            let title = approvals::titles(&mut tx, place.tenant.id, &[id]).await?.remove(&id);
            title.map(|title| LinkTo { title, href: place.href(&format!("approvals/{id}")) })
        }
        None => None,
    };
    let attendance = consultations::attendance(&mut tx, id).await.map_err(consultations::problem)?;
    let resource = Resource { involved: &involved, ..Resource::of(consultation.tenant_id) };
    let (may_join, join_blocked) = match can(&place.visitor, Permission::ConsultationJoin, &resource) {
        _ if is_over(consultation.status) => (false, None),
        Decision::Allowed if state.tools.jitsi.is_none() => (false, Some(ui.t("blocked-no-video"))),
        Decision::Allowed if consultation.room_closes_at(tx.now()).is_err() => {
            (false, Some(ui.t("blocked-not-its-time")))
        }
        Decision::Allowed => (true, None),
        _ => (false, Some(ui.t("blocked-not-invited"))),
    };
    let may_cancel = consultation.status == ConsultationStatus::Scheduled
        && consultations::may_cancel(&mut tx, &consultation).await?;
    let (now, is_host) = (tx.now(), place.is(consultation.host_id));
    let shown = ConsultationPage {
        chrome,
        id: consultation.id.to_string(),
        status: rows::consultation_status(consultation.status),
        host: name(&consultation.host_id),
        participants: consultation.participant_ids.iter().map(name).collect(),
        scheduled: consultation.scheduled_at.map(|at| ui.time(at, now)),
        started: consultation.started_at.map(|at| ui.time(at, now)),
        ended: consultation.ended_at.map(|at| ui.time(at, now)),
        attendance: attendance
            .into_iter()
            .map(|one| Attended {
                name: if one.name.is_empty() { ui.t("somebody") } else { one.name },
                joined: one.joined_at.map(|at| ui.time(at, now)),
                left: one.left_at.map(|at| ui.time(at, now)),
            })
            .collect(),
        approval,
        may_start: is_host && consultation.status == ConsultationStatus::Scheduled,
        may_end: is_host && consultation.status == ConsultationStatus::Active,
        may_cancel,
        may_join,
        join_blocked,
        title: consultation.title,
    };
    page(status, &shown)
}

/// What starting and ending have in common: a command, and where its outcome leads.
async fn change(
    state: &AppState,
    place: &Place,
    id: ConsultationId,
    flash: &str,
    command: impl AsyncFnOnce(&mut TenantTx) -> Result<Consultation, ConsultationError>,
) -> PageResult {
    let mut tx = place.begin(state).await?;
    find(place, &mut tx, id).await?;
    match command(&mut tx).await {
        Ok(_) => {
            tx.commit().await?;
            Ok(place.see_other(&format!("{MODULE}/{id}"), flash))
        }
        Err(error) => {
            drop(tx);
            refused(state, place, id, error).await
        }
    }
}

/// Starts a consultation, as its host.
pub(super) async fn start(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ConsultationId)>,
) -> PageResult {
    let command = async |tx: &mut TenantTx| consultations::start(tx, id, &IfMatch::Any).await;
    change(&state, &place, id, "consultation-started", command).await
}

/// Ends a consultation for good, as its host.
pub(super) async fn end(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ConsultationId)>,
) -> PageResult {
    let command = async |tx: &mut TenantTx| consultations::end(tx, id, &IfMatch::Any).await;
    change(&state, &place, id, "consultation-ended", command).await
}

/// Cancels a consultation that hasn't begun.
pub(super) async fn cancel(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ConsultationId)>,
) -> PageResult {
    let command = async |tx: &mut TenantTx| consultations::cancel(tx, id, &IfMatch::Any).await;
    change(&state, &place, id, "consultation-cancelled", command).await
}

/// Leads into the room. The address holds a token: it is kept nowhere and told to nobody.
pub(super) async fn join(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ConsultationId)>,
) -> PageResult {
    let mut tx = place.begin(&state).await?;
    find(&place, &mut tx, id).await?;
    let now = tx.now();
    match consultations::join(&mut tx, state.tools.jitsi.as_deref(), id, now).await {
        Ok(joined) => {
            tx.commit().await?;
            let mut response = Redirect::to(joined.link.url.as_str()).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
            Ok(response)
        }
        Err(error) => {
            drop(tx);
            refused(&state, &place, id, error).await
        }
    }
}

/// Shows the consultation as it is now, with why what was wanted can't be.
async fn refused(
    state: &AppState,
    place: &Place,
    id: ConsultationId,
    error: ConsultationError,
) -> PageResult {
    let flash = match error {
        ConsultationError::Over => "already-ended",
        ConsultationError::Cancelled => "already-cancelled",
        ConsultationError::Started => "already-started",
        ConsultationError::Stale | ConsultationError::TooEarly | ConsultationError::NotStarted => "stale",
        ConsultationError::NotHost | ConsultationError::MayNotCancel | ConsultationError::Forbidden => {
            "not-allowed"
        }
        error => return Err(consultations::problem(error)),
    };
    render(state, place, id, consultations::problem(error).status(), Some(flash)).await
}
