//! The shell.
use axum::{Router, extract::{Request, State}, middleware::Next, response::{IntoResponse as _, Response}};

use crate::app::AppState;

/// Why a sign-in failed.
#[derive(Debug, Clone, Copy)]
pub enum SignInFailure { NoState, Refused, Unavailable, CookieDropped }
pub fn router() -> Router<AppState> { Router::new() }
pub fn sign_in(_: &AppState, _: &str, _: Option<&str>) -> Response { "sign in".into_response() }
pub fn signed_out(_: &AppState) -> Response { "signed out".into_response() }
pub fn sign_in_failed(_: &AppState, _: SignInFailure) -> Response { "failed".into_response() }
pub async fn problems_as_pages(State(_): State<AppState>, request: Request, next: Next) -> Response { next.run(request).await }
/// What the demo's start page shows.
#[derive(Debug)]
pub struct StartPage { pub people: Vec<StartPerson>, pub agent_href: String, pub ceo_href: String, pub chatwoot_href: String, pub matrix_href: String, pub jitsi_href: String }
/// A person of the demo.
#[derive(Debug)]
pub struct StartPerson { pub username: String, pub name: String, pub href: String }
