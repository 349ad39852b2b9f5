//! The shell: server-rendered pages under `/app`, each a handler that asks the slices and fills a view model of `shell-ui`.
//!
//! One file a page. What they share: [`chrome`] (who looks, at which tenant, in which frame), [`modules`] (the registry
//! behind the sidebar), `form` (what a form sent), `rows` (from the slices' types to the view models').
//!
//! A form that is sent leads on by a redirect with a flash code in the query. One that is refused comes back as a page with
//! the status that says so, its values kept. What isn't about a form is a [`Problem`](crate::http::Problem), which
//! [`problems_as_pages`] shows to browsers as a page.

mod approvals;
mod assets;
mod audit;
mod chrome;
mod consultations;
mod conversations;
mod embed;
mod embedded;
mod endpoints;
mod events;
mod form;
mod health;
mod inbox;
mod managed_modules;
mod modules;
mod navigation;
mod overview;
mod problems;
mod profile;
mod rows;
mod sessions;
mod settings;
mod setup;
mod sign_in;
mod sign_ins;
mod sources;
mod start;
mod tenants;

use axum::{
    Router,
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
    routing::{get, post},
};
use shell_ui::{Template, WORKER_PATH};

use crate::{
    app::AppState,
    http::{Problem, ProblemResult},
};

pub use embedded::admit_frames;
pub use navigation::operations as navigation_operations;
pub use problems::problems_as_pages;
pub use setup::setup_router;
pub use sign_in::{SignInFailure, sign_in, sign_in_failed, signed_out};
pub use start::{StartPage, StartPerson};

/// All pages, and what they are made with.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/", get(start::root))
        .route("/assets/{file}", get(assets::asset))
        .route(WORKER_PATH, get(assets::worker))
        .route("/embed/chatwoot", get(embed::show))
        .route("/embed/chatwoot/panel", get(embed::panel))
        .route("/embed/chatwoot/escalate", post(embed::escalate))
        .route("/embed/chatwoot/session", post(embed::begin))
        .route("/embed/navigation", get(navigation::signed_in))
        .route(crate::auth::routes::POPUP_RETURN, get(embed::signed_in))
        .route("/app", get(start::app))
        .route("/app/me", get(profile::show))
        .route("/app/me/sessions", get(sessions::list))
        .route("/app/me/sessions/end", post(sessions::end))
        .route("/app/me/sessions/end-others", post(sessions::end_others))
        .route("/app/tenants", get(tenants::list))
        .route("/app/{module}", get(start::module))
        .route("/app/t/{tenant}", get(overview::show))
        .route("/app/t/{tenant}/events", get(events::stream))
        .route("/app/t/{tenant}/conversations", get(conversations::list))
        .route("/app/t/{tenant}/conversations/{id}", get(conversations::show))
        .route("/app/t/{tenant}/conversations/{id}/escalate", post(conversations::escalate))
        .route("/app/t/{tenant}/conversations/{id}/open", post(conversations::open))
        .route("/app/t/{tenant}/approvals", get(approvals::list).post(approvals::create))
        .route("/app/t/{tenant}/approvals/new", get(approvals::new))
        .route("/app/t/{tenant}/approvals/{id}", get(approvals::show))
        .route("/app/t/{tenant}/approvals/{id}/decision", post(approvals::decide))
        .route("/app/t/{tenant}/approvals/{id}/cancel", post(approvals::cancel))
        .route("/app/t/{tenant}/consultations", get(consultations::list))
        .route("/app/t/{tenant}/consultations/{id}", get(consultations::show))
        .route("/app/t/{tenant}/consultations/{id}/start", post(consultations::start))
        .route("/app/t/{tenant}/consultations/{id}/end", post(consultations::end))
        .route("/app/t/{tenant}/consultations/{id}/cancel", post(consultations::cancel))
        .route("/app/t/{tenant}/consultations/{id}/join", post(consultations::join))
        .route("/app/t/{tenant}/audit", get(audit::list))
        .route("/app/t/{tenant}/endpoints", get(endpoints::list).post(endpoints::create))
        .route("/app/t/{tenant}/endpoints/new", get(endpoints::new))
        .route("/app/t/{tenant}/endpoints/{id}", get(endpoints::show))
        .route("/app/t/{tenant}/endpoints/{id}/edit", get(endpoints::edit).post(endpoints::save))
        .route("/app/t/{tenant}/endpoints/{id}/test", post(endpoints::test))
        .route("/app/t/{tenant}/endpoints/{id}/enable", post(endpoints::enable))
        .route("/app/t/{tenant}/endpoints/{id}/disable", post(endpoints::disable))
        .route("/app/t/{tenant}/endpoints/{id}/rotate", post(endpoints::rotate))
        .route("/app/t/{tenant}/endpoints/{id}/delete", post(endpoints::delete))
        .route("/app/t/{tenant}/endpoints/{id}/redeliver", post(endpoints::redeliver_failed))
        .route("/app/t/{tenant}/endpoints/{id}/deliveries/{delivery}", get(endpoints::delivery))
        .route("/app/t/{tenant}/endpoints/{id}/deliveries/{delivery}/redeliver", post(endpoints::redeliver))
        .route("/app/t/{tenant}/inbox", get(inbox::list))
        .route("/app/t/{tenant}/inbox/events/{id}", get(inbox::show))
        .route("/app/t/{tenant}/inbox/events/{id}/replay", post(inbox::replay))
        .route("/app/t/{tenant}/inbox/events/{id}/discard", post(inbox::discard))
        // Where the script leads from the news of one.
        .route("/app/t/{tenant}/webhooks/{id}", get(inbox::from_news))
        .route("/app/t/{tenant}/inbox/replay", get(inbox::ask).post(inbox::replay_all))
        .route("/app/t/{tenant}/inbox/sources", get(sources::list).post(sources::create))
        .route("/app/t/{tenant}/inbox/sources/new", get(sources::new))
        .route("/app/t/{tenant}/inbox/sources/{id}", get(sources::show).post(sources::save))
        .route("/app/t/{tenant}/inbox/sources/{id}/pause", post(sources::pause))
        .route("/app/t/{tenant}/inbox/sources/{id}/resume", post(sources::resume))
        .route("/app/t/{tenant}/inbox/sources/{id}/remove", post(sources::remove))
        .route("/app/t/{tenant}/inbox/sources/{id}/rotate", post(sources::rotate))
        .route("/app/t/{tenant}/inbox/sources/{id}/revoke", post(sources::revoke))
        .route("/app/t/{tenant}/health", get(health::show))
        .route("/app/t/{tenant}/modules", get(managed_modules::list).post(managed_modules::create))
        .route("/app/t/{tenant}/modules/new", get(managed_modules::new))
        .route("/app/t/{tenant}/modules/{id}", get(managed_modules::edit).post(managed_modules::save))
        .route("/app/t/{tenant}/modules/{id}/delete", post(managed_modules::delete))
        .route("/app/t/{tenant}/settings", get(settings::show).post(settings::save))
        .route("/app/t/{tenant}/sign-ins", get(sign_ins::list))
        .route("/app/t/{tenant}/sign-ins/end", post(sign_ins::end))
        .route("/app/t/{tenant}/tools/{id}", get(embedded::show))
        .method_not_allowed_fallback(method_not_allowed)
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This can't be done here")
}

/// What a page's handler returns.
type PageResult = ProblemResult<Response>;

/// A page as an answer.
fn page(status: StatusCode, template: &impl Template) -> PageResult {
    let html = template.render().map_err(|error| Problem::internal(&error))?;
    Ok((status, Html(html)).into_response())
}
