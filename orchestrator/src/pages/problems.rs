use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};
use shell_ui::{
    RenderError, Template as _,
    pages::{Problem, ProblemInShell, ProblemPage},
};

use super::{
    chrome::{frame, home},
    modules::Counts,
};
use crate::{
    app::AppState,
    auth::{Principal, PrincipalSource as _, session::Sessions},
    http::{middleware::RequestId, problem::ProblemShown},
    ids::TenantId,
};

/// Shows problems to browsers as pages, with the status that they have: inside the frame for who is signed in, where the
/// problem isn't ours.
pub async fn problems_as_pages(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let is_page = wants_page(&request);
    let path = request.uri().path().to_owned();
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0.clone());
    let session = Sessions::key_of(request.headers()).filter(|_| is_page && path.starts_with("/app"));
    let response = next.run(request).await;
    let Some(shown) = response.extensions().get::<ProblemShown>().filter(|_| is_page).cloned() else {
        return response;
    };

    let problem = in_words(&state, &shown, request_id);
    // Whoever asks too much gets nothing that has to be looked up.
    let frameless = [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS];
    let frame_fits = shown.status.is_client_error() && !frameless.contains(&shown.status);
    let session = match session.filter(|_| frame_fits) {
        Some(key) => state.sessions.touch(key, false).await.ok().flatten(),
        None => None,
    };
    let principal = match session {
        Some(session) => {
            let principal = state.directory.principal(session.user).await.ok();
            principal.map(|principal| (principal, session.last_tenant))
        }
        None => None,
    };
    let html = match principal {
        Some((principal, last_tenant)) => in_shell(&state, &principal, last_tenant, &path, problem),
        None => ProblemPage { ui: state.ui.clone(), problem }.render(),
    };
    let Ok(html) = html else { return response };
    let (mut parts, _) = response.into_parts();
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(html))
}

/// Whether whoever asks is a browser that would show a page.
fn wants_page(request: &Request) -> bool {
    let path = request.uri().path();
    let is_for_machines = ["/api", "/health", "/ready"]
        .iter()
        .any(|prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    let accepted = request.headers().get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    !is_for_machines
        && accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/html"))
}

/// The usual words for the status; those for the problem's code where there are some.
fn in_words(state: &AppState, shown: &ProblemShown, request_id: Option<String>) -> Problem {
    let mut problem = Problem::for_status(&state.ui, shown.status.as_u16(), request_id);
    if let Some(title) = state.ui.problem(shown.code) {
        problem.title = title;
        let detail = state.ui.problem(&format!("{}.detail", shown.code));
        problem.detail = detail.unwrap_or_else(|| state.ui.t("problem-400-detail"));
    }
    if shown.status == StatusCode::MISDIRECTED_REQUEST
        && let Ok(home) = state.config.http.public_url.join("app")
    {
        // A path alone would lead back to the name that isn't ours.
        for way in &mut problem.ways_on {
            way.href = home.to_string();
        }
    }
    problem
}

/// In the tenant that the path names, or where the person was last: for a stranger's tenant nothing else is true either.
fn in_shell(
    state: &AppState,
    principal: &Principal,
    last_tenant: Option<TenantId>,
    path: &str,
    problem: Problem,
) -> Result<String, RenderError> {
    let named =
        path.strip_prefix("/app/t/").and_then(|rest| rest.split('/').next()).and_then(|id| id.parse().ok());
    let tenant = named
        .and_then(|id| principal.grant(id))
        .map(|grant| &grant.tenant)
        .or_else(|| home(principal, last_tenant));
    match tenant {
        Some(tenant) => {
            ProblemInShell { chrome: frame(state, principal, tenant, "", Counts::default(), &[]), problem }
                .render()
        }
        None => ProblemPage { ui: state.ui.clone(), problem }.render(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(path: &str, accept: &str) -> bool {
        let request =
            Request::builder().uri(path).header(header::ACCEPT, accept).body(Body::empty()).unwrap();
        wants_page(&request)
    }

    #[test]
    fn only_browsers_get_pages() {
        assert!(asks("/app/t/x", "text/html,application/xhtml+xml,*/*;q=0.8"));
        assert!(asks("/apiary", "text/html"));
        assert!(!asks("/app/t/x", "application/json"));
        assert!(!asks("/app/t/x", "*/*"));
        assert!(!asks("/api/v1/approvals", "text/html"));
        assert!(!asks("/api", "text/html"));
        assert!(!asks("/health", "text/html"));
    }
}
