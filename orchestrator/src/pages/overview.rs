use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
};
use shell_ui::pages::OverviewPage;

use super::{
    PageResult,
    chrome::{FlashQuery, Place},
    page, rows,
};
use crate::{
    app::AppState,
    approvals::{self, PendingCounts},
    auth::Permission,
    consultations, conversations,
    http::extract::ApiQuery,
    ids::TenantId,
};

/// The most approvals that are shown of those that wait.
const WAITING: u32 = 5;
/// The most decisions that are shown.
const RECENT: u32 = 5;
/// The most consultations that are counted.
const UPCOMING: u32 = 100;
/// The most consultations that are shown.
const NEXT: usize = 5;

/// What waits, what happened, what comes: as far as the visitor's roles see it.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    if place.tenant.id == TenantId::SUITE {
        return Ok(Redirect::to(&place.href("inbox")).into_response());
    }
    place.require(Permission::TenantRead)?;
    let tenant = place.tenant.id;
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, "overview", query.flash.as_deref()).await?;
    let (mut counts, mut waiting, mut recent, mut open_conversations) =
        (PendingCounts::default(), Vec::new(), Vec::new(), 0);
    if place.may(Permission::ApprovalRead) {
        counts = approvals::pending_counts(&mut tx, tenant, place.visitor.id).await?;
        recent = approvals::decided_lately(&mut tx, tenant, RECENT).await?;
    }
    if place.may(Permission::ApprovalDecide) {
        waiting = approvals::waiting_for(&mut tx, tenant, place.visitor.id, WAITING).await?;
    } else {
        counts.of_others = 0;
    }
    if place.may(Permission::ConversationRead) {
        open_conversations = conversations::open_count(&mut tx, tenant).await?;
    }
    let upcoming = consultations::upcoming(&mut tx, tenant, UPCOMING).await?;
    let next = upcoming.get(..NEXT).unwrap_or(&upcoming);
    let overview = OverviewPage {
        waiting: rows::approvals(&place, &mut tx, &state.ui, waiting).await?,
        waiting_count: counts.of_others,
        requested_count: counts.own,
        open_conversations,
        upcoming_count: u64::try_from(upcoming.len()).unwrap_or(u64::MAX),
        recent: rows::approvals(&place, &mut tx, &state.ui, recent).await?,
        consultations: rows::consultations(&place, &mut tx, &state.ui, next).await?,
        chrome,
    };
    page(StatusCode::OK, &overview)
}
