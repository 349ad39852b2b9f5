use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use shell_ui::{SessionRow, pages::SessionsPage};

use super::{
    PageResult,
    chrome::{FlashQuery, Place, home},
    form::PageForm,
    page,
};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::{TenantKind, Visitor},
    http::{Problem, ProblemResult, extract::ApiQuery},
};

const PATH: &str = "/app/me/sessions";

/// Where the visitor is signed in.
pub(super) async fn list(
    State(state): State<AppState>,
    visitor: Visitor,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    let tenant = home(&visitor, visitor.session.last_tenant).cloned().ok_or_else(Problem::forbidden)?;
    let found = state.sessions.of_user(visitor.id).await?;
    let place = Place { visitor, tenant };
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, "", query.flash.as_deref()).await?;
    let now = tx.now();
    let sessions = found
        .into_iter()
        .map(|(key, session)| SessionRow {
            handle: key.handle(),
            browser: session.browser,
            opened_from: session.opened_from.map(|address| address.to_string()),
            used_from: session.used_from.map(|address| address.to_string()),
            started: state.ui.time(session.created_at, now),
            used: state.ui.time(session.used_at, now),
            is_this: key == place.visitor.key,
        })
        .collect();
    page(StatusCode::OK, &SessionsPage { chrome, sessions })
}

/// Ends one of the visitor's sessions.
pub(super) async fn end(State(state): State<AppState>, visitor: Visitor, sent: PageForm) -> PageResult {
    let handle = sent.text("session");
    // Only among one's own: what somebody else's is called leads nowhere.
    let found = state.sessions.of_user(visitor.id).await?;
    let Some((key, _)) = found.into_iter().find(|(key, _)| key.handle() == handle) else {
        return Ok(back("session-over"));
    };
    record(&state, &visitor, &handle).await?;
    state.sessions.end(key).await?;
    if key == visitor.key {
        return Ok(Redirect::to("/auth/signed-out").into_response());
    }
    Ok(back("session-ended"))
}

/// Ends all of the visitor's sessions but this one.
pub(super) async fn end_others(State(state): State<AppState>, visitor: Visitor, _: PageForm) -> PageResult {
    record(&state, &visitor, "others").await?;
    state.sessions.end_all_of(visitor.id, Some(visitor.key)).await?;
    Ok(back("sessions-ended"))
}

/// Records in the visitor's personal tenant what is done next. The storage of sessions and the trail can't be changed in
/// one transaction: an end that fails is in the trail and is tried again, rather than one that nobody knows of.
async fn record(state: &AppState, visitor: &Visitor, which: &str) -> ProblemResult<()> {
    let personal = visitor.grants.iter().find(|grant| grant.tenant.kind == TenantKind::Individual);
    let personal = personal.ok_or_else(Problem::forbidden)?.tenant.id;
    let mut tx = state.database.tenant_tx_in(visitor.principal(), personal).await?;
    let change = Change {
        action: "session.revoked",
        resource: "session",
        resource_id: which.to_owned(),
        old_values: None,
        new_values: None,
        metadata: None,
    };
    audit::record(&mut tx, change).await?;
    Ok(tx.commit().await?)
}

fn back(flash: &str) -> Response {
    Redirect::to(&format!("{PATH}?flash={flash}")).into_response()
}
