use axum::{extract::State, http::StatusCode};
use shell_ui::pages::ProfilePage;

use super::{
    PageResult,
    chrome::{Place, home},
    page,
    tenants::membership,
};
use crate::{app::AppState, auth::Visitor, http::Problem};

/// The visitor's own page: who they are, and where they belong.
pub(super) async fn show(State(state): State<AppState>, visitor: Visitor) -> PageResult {
    let tenant = home(&visitor, visitor.session.last_tenant).cloned().ok_or_else(Problem::forbidden)?;
    let place = Place { visitor, tenant };
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, "", None).await?;
    let memberships = place.visitor.grants.iter().map(|grant| membership(&place.visitor, grant)).collect();
    let shown = ProfilePage {
        chrome,
        user_name: place.visitor.username.clone(),
        // The mirror keeps no mail addresses.
        mail: None,
        // Keycloak's account console.
        account_href: Some(format!("{}/account", state.issuer)),
        sessions_href: "/app/me/sessions".to_owned(),
        memberships,
    };
    page(StatusCode::OK, &shown)
}
