use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use shell_ui::pages::{CookieBlockedPage, SignInPage, SignedOutPage};

use super::{form::with_query, page};
use crate::app::AppState;

const SIGN_IN: &str = "/auth/sign-in";

/// Why a sign-in failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInFailure {
    /// The browser came back without the state that it left with: it took too long, or a stranger sent it.
    NoState,
    /// Keycloak refused, or what it sent can't be trusted.
    Refused,
    /// Keycloak doesn't answer.
    Unavailable,
    /// Whoever was to prove again who they are did not.
    NotConfirmed,
    /// The storage of sign-ins doesn't answer.
    NoStorage,
    /// The browser didn't keep our cookie.
    CookieDropped,
}

/// The page to sign in, for going to `return_to` afterwards.
pub fn sign_in(state: &AppState, return_to: &str, login_hint: Option<&str>) -> Response {
    let login_href = with_query("/auth/login", &[("return_to", Some(return_to)), ("login_hint", login_hint)]);
    let shown = SignInPage { ui: state.ui.clone(), login_href, problem: None };
    page(StatusCode::OK, &shown).into_response()
}

/// The page after signing out.
pub fn signed_out(state: &AppState) -> Response {
    let shown = SignedOutPage { ui: state.ui.clone(), sign_in_href: SIGN_IN.to_owned() };
    page(StatusCode::OK, &shown).into_response()
}

/// The page after a sign-in that failed, with the way to try again.
pub fn sign_in_failed(state: &AppState, failure: SignInFailure) -> Response {
    let (status, text) = match failure {
        SignInFailure::NoState => (StatusCode::BAD_REQUEST, "sign-in-took-too-long"),
        SignInFailure::Refused => (StatusCode::FORBIDDEN, "sign-in-failed"),
        SignInFailure::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "sign-in-unavailable"),
        SignInFailure::NotConfirmed => (StatusCode::FORBIDDEN, "sign-in-not-confirmed"),
        SignInFailure::NoStorage => (StatusCode::SERVICE_UNAVAILABLE, "sign-in-storage"),
        SignInFailure::CookieDropped => {
            let shown = CookieBlockedPage { ui: state.ui.clone(), retry_href: SIGN_IN.to_owned() };
            return page(StatusCode::BAD_REQUEST, &shown).into_response();
        }
    };
    let shown = SignInPage {
        ui: state.ui.clone(),
        login_href: "/auth/login".to_owned(),
        problem: Some(state.ui.t(text)),
    };
    page(status, &shown).into_response()
}
