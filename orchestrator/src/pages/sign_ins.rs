use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use shell_ui::{MemberSignIn, pages::SignInsPage};

use super::{PageResult, chrome::Place, form::PageForm, form::with_query, page};
use crate::{
    app::AppState,
    auth::Permission,
    http::{
        Problem,
        extract::ApiQuery,
        page::{DEFAULT_LIMIT, read_cursor},
    },
    ids::UserId,
    sign_ins::{self, SignInError, Which},
};

/// Below the settings, which lead here.
const MODULE: &str = "settings";
const PATH: &str = "sign-ins";

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    cursor: Option<String>,
    flash: Option<String>,
}

/// Which of the tenant's members are signed in.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> PageResult {
    place.require(Permission::SessionRead)?;
    let after = read_cursor(query.cursor.as_deref())?.map(UserId);
    let principal = place.visitor.principal();
    let found = sign_ins::page(&state, principal, place.tenant.id, after, DEFAULT_LIMIT).await;
    let mut found = found.map_err(sign_ins::problem)?;
    found.items.sort_by(|one, other| (&one.user_name, one.user_id).cmp(&(&other.user_name, other.user_id)));
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, query.flash.as_deref()).await?;
    let (now, this) = (tx.now(), place.visitor.key.handle());
    let sign_ins = found
        .items
        .into_iter()
        .map(|sign_in| MemberSignIn {
            is_this: place.is(sign_in.user_id) && sign_in.id == this,
            member: sign_in.user_id.to_string(),
            name: sign_in.user_name,
            handle: sign_in.id,
            started: state.ui.time(sign_in.started_at, now),
            used: state.ui.time(sign_in.used_at, now),
        })
        .collect();
    let path = place.href(PATH);
    let shown = SignInsPage {
        chrome,
        may_end: place.may(Permission::SessionEnd),
        sign_ins,
        first_href: after.map(|_| path.clone()),
        next_href: found.next_cursor.map(|cursor| with_query(&path, &[("cursor", Some(&cursor))])),
    };
    page(StatusCode::OK, &shown)
}

/// Ends a sign-in of a member.
pub(super) async fn end(State(state): State<AppState>, place: Place, sent: PageForm) -> PageResult {
    place.require(Permission::SessionEnd)?;
    let member: UserId = sent.text("member").parse().map_err(|_| Problem::not_found())?;
    let handle = sent.text("session");
    let principal = place.visitor.principal();
    match sign_ins::end(&state, principal, place.tenant.id, member, Which::One(&handle)).await {
        Ok(_) => Ok(place.see_other(PATH, "session-ended")),
        // It has ended meanwhile, or the member has left.
        Err(SignInError::NotFound) => Ok(place.see_other(PATH, "session-over")),
        Err(error) => Err(sign_ins::problem(error)),
    }
}
