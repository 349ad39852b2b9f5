//! `/auth`: signing in and out.

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use axum_extra::extract::cookie::CookieJar;
use serde::Deserialize;

use super::{
    login_state::LoginState,
    oidc::SignInError,
    principal::{PrincipalError, PrincipalSource as _},
    session::{self},
};
use crate::{
    app::AppState,
    http::{Problem, extract::ApiQuery, problem::ErrorChain},
    pages,
};

/// Where people sign in and out.
pub fn router() -> Router<AppState> {
    Router::new()
        .route("/auth/sign-in", get(sign_in))
        .route("/auth/login", get(login))
        .route("/auth/callback", get(callback))
        .route("/auth/signed-in", get(signed_in))
        .route("/auth/signed-out", get(signed_out))
        .route("/auth/logout", post(logout))
}

#[derive(Debug, Default, Deserialize)]
struct LoginQuery {
    return_to: Option<String>,
    login_hint: Option<String>,
}

/// A path of ours to return to; anything that could lead elsewhere is replaced by the start.
pub(crate) fn local_path(path: Option<&str>) -> String {
    let path = path.unwrap_or("/app");
    // `//host`, `/\host` and control characters are what browsers make other hosts of.
    let second = path.as_bytes().get(1).copied();
    let is_local = path.len() <= 1000
        && path.starts_with("/app")
        && second != Some(b'/')
        && !path.contains('\\')
        && !path.chars().any(char::is_control);
    if is_local { path.to_owned() } else { "/app".to_owned() }
}

/// The origin under which this request came.
fn own_origin(state: &AppState, headers: &HeaderMap) -> Option<url::Url> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    state.config.http.origin_for(host)
}

fn own_url(state: &AppState, headers: &HeaderMap, path: &str) -> Result<String, Problem> {
    let origin = own_origin(state, headers).ok_or_else(Problem::not_found)?;
    origin.join(path).map(String::from).map_err(|error| Problem::internal(&error))
}

async fn sign_in(State(state): State<AppState>, ApiQuery(query): ApiQuery<LoginQuery>) -> Response {
    pages::sign_in(&state, &local_path(query.return_to.as_deref()), query.login_hint.as_deref())
}

async fn login(
    State(state): State<AppState>,
    headers: HeaderMap,
    jar: CookieJar,
    ApiQuery(query): ApiQuery<LoginQuery>,
) -> Result<Response, Response> {
    let redirect_uri =
        own_url(&state, &headers, "/auth/callback").map_err(axum::response::IntoResponse::into_response)?;
    let return_to = local_path(query.return_to.as_deref());
    let departure = state
        .openid
        .depart(redirect_uri, return_to, query.login_hint)
        .await
        .map_err(|error| failed(&state, &error))?;
    let cookie = departure
        .state
        .to_cookie(&state.master_key, &state.ids)
        .ok_or_else(|| Problem::not_found().into_response())?;
    Ok((jar.add(cookie), Redirect::to(departure.url.as_str())).into_response())
}

#[derive(Debug, Deserialize)]
struct CallbackQuery {
    code: Option<String>,
    state: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

async fn callback(
    State(state): State<AppState>,
    headers: HeaderMap,
    jar: CookieJar,
    ApiQuery(query): ApiQuery<CallbackQuery>,
) -> Result<Response, Response> {
    let login_state = query.state.unwrap_or_default();
    let Some(login) = LoginState::from_cookies(&jar, &state.master_key, &login_state, state.clock.now())
    else {
        // The browser dropped the cookie, the page was left open for too long, or somebody was sent here by a stranger.
        return Err(pages::sign_in_failed(&state, pages::SignInFailure::NoState));
    };
    let jar = jar.add(LoginState::removal(&login_state));
    let Some(code) = query.code else {
        tracing::info!(
            error = query.error.as_deref().unwrap_or("none"),
            "Keycloak sent somebody back without a code"
        );
        return Err((jar, pages::sign_in_failed(&state, pages::SignInFailure::Refused)).into_response());
    };
    let signed_in = state
        .openid
        .arrive(&login, code, query.iss.as_deref())
        .await
        .map_err(|error| failed(&state, &error))?;
    match state.directory.refreshed(signed_in.user).await {
        Ok(_) => {}
        Err(PrincipalError::Unknown) => {
            return Err(pages::sign_in_failed(&state, pages::SignInFailure::Refused));
        }
        Err(error @ PrincipalError::Unavailable(_)) => {
            tracing::warn!(error = %ErrorChain(&error), "somebody could not be signed in");
            return Err(pages::sign_in_failed(&state, pages::SignInFailure::Unavailable));
        }
    }
    // A new sign-in is a new session; the old one ends.
    if let Some((old, _)) = state.sessions.find(&headers, false) {
        state.sessions.end(old);
    }
    let cookie = state.sessions.begin(signed_in.user, signed_in.keycloak_session, signed_in.id_token);
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("return_to", &login.return_to).finish();
    Ok((jar.add(cookie), Redirect::to(&format!("/auth/signed-in?{query}"))).into_response())
}

/// Looks whether the browser kept the cookie, before it sends people around in circles.
async fn signed_in(
    State(state): State<AppState>,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<LoginQuery>,
) -> Response {
    match state.sessions.find(&headers, true) {
        Some(_) => Redirect::to(&local_path(query.return_to.as_deref())).into_response(),
        None => pages::sign_in_failed(&state, pages::SignInFailure::CookieDropped),
    }
}

async fn signed_out(State(state): State<AppState>) -> Response {
    pages::signed_out(&state)
}

/// Ends the session here first, then at Keycloak.
async fn logout(
    State(state): State<AppState>,
    headers: HeaderMap,
    jar: CookieJar,
) -> Result<Response, Problem> {
    let jar = jar.add(session::removal(session::COOKIE));
    let Some(session) = state.sessions.find(&headers, true).and_then(|(key, _)| state.sessions.end(key))
    else {
        return Ok((jar, Redirect::to("/auth/signed-out")).into_response());
    };
    let back = own_url(&state, &headers, "/auth/signed-out")?;
    match state.openid.end_session_url(&session.id_token, &back).await {
        Ok(url) => Ok((jar, Redirect::to(url.as_str())).into_response()),
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "a session ended here but not at Keycloak");
            Ok((jar, Redirect::to("/auth/signed-out")).into_response())
        }
    }
}

fn failed(state: &AppState, error: &SignInError) -> Response {
    tracing::warn!(error = %ErrorChain(error), "somebody could not be signed in");
    let failure = match error {
        SignInError::Unavailable(_) => pages::SignInFailure::Unavailable,
        SignInError::Refused(_) => pages::SignInFailure::Refused,
    };
    pages::sign_in_failed(state, failure)
}

#[cfg(test)]
mod tests {
    use super::local_path;

    #[test]
    fn one_returns_only_to_a_path_of_ours() {
        for path in ["/app", "/app/t/1/approvals?status=pending"] {
            assert_eq!(local_path(Some(path)), path);
        }
        for path in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/auth/logout",
            "/app\\..",
            "/app\r\nx:y",
            "",
        ] {
            assert_eq!(local_path(Some(path)), "/app", "{path}");
        }
    }
}
