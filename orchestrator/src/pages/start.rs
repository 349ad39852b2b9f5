use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use shell_ui::pages::{DemoPage, DemoPerson};

use super::{
    PageResult,
    chrome::{base, home},
    modules, page,
};
use crate::{
    app::AppState,
    auth::Visitor,
    http::{Problem, extract::ApiPath},
};

/// What the demo's start page shows.
#[derive(Debug, Clone)]
pub struct StartPage {
    /// The people, in the order of the story.
    pub people: Vec<StartPerson>,
    /// Opens the shell as the agent.
    pub agent_href: String,
    /// Opens the shell as the CEO.
    pub ceo_href: String,
    /// The page with the customer's widget and the agent's conversation.
    pub chatwoot_href: String,
    /// The page with the team's rooms.
    pub matrix_href: String,
    /// The page with the video rooms.
    pub jitsi_href: String,
}

/// A person of the demo. What they are and what one can try as them are the texts `demo-role-…` and `demo-try-…`, by the
/// name to sign in with.
#[derive(Debug, Clone)]
pub struct StartPerson {
    /// The name to sign in with.
    pub username: String,
    /// The display name.
    pub name: String,
    /// Opens the shell on their own host.
    pub href: String,
}

/// The demo's start page, or the shell.
pub(super) async fn root(State(state): State<AppState>) -> PageResult {
    let Some(start) = &state.start_page else { return Ok(Redirect::to("/app").into_response()) };
    let person = |person: &StartPerson| DemoPerson {
        role: state.ui.t(format!("demo-role-{}", person.username)),
        description: state.ui.t(format!("demo-try-{}", person.username)),
        user_name: person.username.clone(),
        name: person.name.clone(),
        href: person.href.clone(),
    };
    let shown = DemoPage {
        ui: state.ui.clone(),
        people: start.people.iter().map(person).collect(),
        agent_href: start.agent_href.clone(),
        ceo_href: start.ceo_href.clone(),
        chatwoot_href: start.chatwoot_href.clone(),
        matrix_href: start.matrix_href.clone(),
        jitsi_href: start.jitsi_href.clone(),
        keycloak_href: state.config.keycloak.base().ok().map(String::from),
    };
    page(StatusCode::OK, &shown)
}

/// Leads to the tenant that the visitor looked at last.
pub(super) async fn app(visitor: Visitor) -> Result<Response, Problem> {
    lead(&visitor, "")
}

/// Leads to a module of that tenant.
pub(super) async fn module(visitor: Visitor, ApiPath(id): ApiPath<String>) -> Result<Response, Problem> {
    let path = modules::page_path(&id).filter(|path| !path.is_empty()).ok_or_else(Problem::not_found)?;
    lead(&visitor, &format!("/{path}"))
}

fn lead(visitor: &Visitor, path: &str) -> Result<Response, Problem> {
    let tenant = home(visitor, visitor.session.last_tenant).ok_or_else(Problem::forbidden)?;
    Ok(Redirect::to(&format!("{}{path}", base(tenant.id))).into_response())
}
