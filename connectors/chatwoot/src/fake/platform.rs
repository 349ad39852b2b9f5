//! The platform API, as far as Chancery uses it, and the links that sign people in.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, State as Extract},
    http::{HeaderMap, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::json;

use super::{ACCOUNT_ID, FakeChatwoot, rest::ApiError};

/// For how long a link signs in.
const LIFETIME: TimeDelta = TimeDelta::minutes(5);

pub(super) fn router() -> Router<Arc<FakeChatwoot>> {
    Router::new()
        .route("/platform/api/v1/users/{user}/login", get(login_link))
        .route("/app/login", get(sign_in))
}

/// Whether a platform app calls.
pub(super) fn authorise(fake: &FakeChatwoot, headers: &HeaderMap) -> Result<(), ApiError> {
    let token = headers.get("api-access-token").or_else(|| headers.get("api_access_token"));
    let token = token.and_then(|token| token.to_str().ok()).unwrap_or_default();
    if token.is_empty() || fake.read(|state| state.platform_token != token) {
        return Err(ApiError::Unauthorized("Invalid access_token"));
    }
    Ok(())
}

async fn login_link(
    Extract(fake): Extract<Arc<FakeChatwoot>>,
    Path(user): Path<i64>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    authorise(&fake, &headers)?;
    let agent = fake.read(|state| state.agents.iter().find(|agent| agent.id == user).cloned());
    let agent = agent.ok_or(ApiError::Unauthorized("Non permissible resource"))?;
    let once = fake.token();
    fake.change(|state, now| state.login_tokens.insert(once.clone(), (user, now + LIFETIME)))?;
    let mut url = fake.public_url().join("app/login").map_err(|_| ApiError::Internal)?;
    url.query_pairs_mut().append_pair("email", &agent.email).append_pair("sso_auth_token", &once);
    Ok(Json(json!({ "url": url })).into_response())
}

#[derive(Debug, Deserialize)]
struct SignIn {
    email: String,
    sso_auth_token: String,
    sso_account_id: Option<i64>,
    sso_conversation_id: Option<i64>,
}

/// Signs in whom the link is for, once: here that is the choice of the agent on the page.
async fn sign_in(
    Extract(fake): Extract<Arc<FakeChatwoot>>,
    Query(link): Query<SignIn>,
) -> Result<Response, ApiError> {
    let agent = fake.change(|state, now| {
        let (user, until) = state.login_tokens.remove(&link.sso_auth_token)?;
        let agent = state.agents.iter().find(|agent| agent.id == user)?;
        (now < until && agent.email == link.email).then_some(user)
    })?;
    let agent = agent.ok_or(ApiError::SignIn)?;
    let mut to = format!("/?agent={agent}");
    if let (Some(ACCOUNT_ID), Some(conversation)) = (link.sso_account_id, link.sso_conversation_id) {
        to = format!("/?conversation={conversation}&agent={agent}");
    }
    Ok(([(header::CACHE_CONTROL, "no-store")], Redirect::to(&to)).into_response())
}
