//! `/auth`: signing in and out.

use std::time::Duration;

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use axum_extra::extract::cookie::{Cookie, CookieJar};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    bearer::TokenError,
    late_ends,
    login_state::{LoginState, StepUp},
    logout_token::{self, LogoutToken},
    oidc::{SignInError, SignedIn},
    principal::{PrincipalError, PrincipalSource as _},
    session::{self, Draft, NewSession, Sessions, StorageError},
    step_up::Requirement,
    visitor::Visitor,
};
use crate::{
    app::AppState,
    http::{
        Problem,
        extract::ApiQuery,
        middleware::{Charge, ClientAddress, charge_address, requested_host},
        problem::ErrorChain,
    },
    ids::UserId,
    pages,
};

/// How long a logout token waits for the storage of sign-ins: Keycloak waits for the answer, and somebody for Keycloak.
const STORAGE_PATIENCE: Duration = Duration::from_millis(60);

/// Where people sign in and out.
pub fn router(state: &AppState) -> Router<AppState> {
    // These ask Keycloak, for whoever comes.
    let charged = Router::new()
        .route("/auth/login", get(login))
        .route("/auth/callback", get(callback))
        .route_layer(middleware::from_fn_with_state(state.clone(), charge_address));
    charged
        .route("/auth/sign-in", get(sign_in))
        .route("/auth/signed-in", get(signed_in))
        .route("/auth/signed-out", get(signed_out))
        .route("/auth/logout", post(logout))
}

/// Where Keycloak says that a session of its has ended. Nobody's browser calls this: no cookie, no look at where the
/// request comes from, and any host name that leads here.
pub fn back_channel() -> Router<AppState> {
    Router::new().route("/auth/backchannel-logout", post(back_channel_logout))
}

/// Where a sign-in ends that a page of ours inside another tool's has opened a window for.
pub const POPUP_RETURN: &str = "/app/embedded/chatwoot";

/// Lets a window keep who has opened it, on the way to [`POPUP_RETURN`] alone.
fn keep_opener(return_to: &str, response: &mut Response) {
    if return_to == POPUP_RETURN {
        let policy = HeaderName::from_static("cross-origin-opener-policy");
        response.headers_mut().insert(policy, HeaderValue::from_static("unsafe-none"));
    }
}

#[derive(Debug, Default, Deserialize)]
struct LoginQuery {
    return_to: Option<String>,
    login_hint: Option<String>,
}

/// A path of ours to return to; anything that could lead elsewhere is replaced by the start.
pub(crate) fn local_path(path: Option<&str>) -> String {
    let path = path.unwrap_or("/app");
    // `//host`, `/\host` and control characters are what browsers make other hosts of; what an address can't have in it as
    // it is (RFC 3986, section 2) isn't one of ours.
    let is_local = path.len() <= 1000
        && path.strip_prefix("/app").is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local { path.to_owned() } else { "/app".to_owned() }
}

/// The origin under which this request came.
fn own_origin(state: &AppState, uri: &Uri, headers: &HeaderMap) -> Option<url::Url> {
    state.config.http.origin_for(requested_host(uri, headers)?)
}

fn own_url(state: &AppState, uri: &Uri, headers: &HeaderMap, path: &str) -> Result<String, Problem> {
    let origin = own_origin(state, uri, headers).ok_or_else(Problem::not_found)?;
    origin.join(path).map(String::from).map_err(|error| Problem::internal(&error))
}

async fn sign_in(State(state): State<AppState>, ApiQuery(query): ApiQuery<LoginQuery>) -> Response {
    pages::sign_in(&state, &local_path(query.return_to.as_deref()), query.login_hint.as_deref())
}

async fn login(
    State(state): State<AppState>,
    uri: Uri,
    headers: HeaderMap,
    jar: CookieJar,
    ApiQuery(query): ApiQuery<LoginQuery>,
) -> Result<Response, Response> {
    let redirect_uri = own_url(&state, &uri, &headers, "/auth/callback")
        .map_err(axum::response::IntoResponse::into_response)?;
    let return_to = local_path(query.return_to.as_deref());
    let jar = LoginState::crowded_out(&headers).into_iter().fold(jar, CookieJar::add);
    let mut left = depart(&state, jar, redirect_uri, return_to.clone(), query.login_hint, None).await?;
    keep_opener(&return_to, &mut left);
    Ok(left)
}

async fn depart(
    state: &AppState,
    jar: CookieJar,
    redirect_uri: String,
    return_to: String,
    login_hint: Option<String>,
    step_up: Option<StepUp>,
) -> Result<Response, Response> {
    let departure = state
        .openid
        .depart(redirect_uri, return_to, login_hint, step_up)
        .await
        .map_err(|error| failed(state, &error))?;
    let cookie = departure
        .state
        .to_cookie(&state.master_key, &state.ids)
        .ok_or_else(|| Problem::not_found().into_response())?;
    Ok((jar.add(cookie), Redirect::to(departure.url.as_str())).into_response())
}

/// Sends somebody who is signed in to Keycloak, to prove what is `required`, and back to the page of their `draft`.
///
/// # Errors
/// A page that says why it isn't possible.
pub(crate) async fn step_up(
    state: &AppState,
    visitor: &Visitor,
    uri: &Uri,
    headers: &HeaderMap,
    required: Requirement,
    draft: &Draft,
) -> Result<Response, Response> {
    let redirect_uri = own_url(state, uri, headers, "/auth/callback").map_err(Problem::into_response)?;
    let return_to = local_path(Some(&format!("{}?flash=confirmed", draft.path)));
    let kept = state.sessions.update(visitor.key, |session| session.draft = Some(draft.clone())).await;
    kept.map_err(|error| Problem::from(error).into_response())?;
    let step_up = StepUp { required, user: visitor.id };
    let hint = Some(visitor.username.clone());
    depart(state, CookieJar::new(), redirect_uri, return_to, hint, Some(step_up)).await
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
    address: ClientAddress,
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
    let cookie = match begin(&state, &headers, address, signed_in, login.step_up.is_some()).await {
        Ok(Some(cookie)) => cookie,
        Ok(None) => {
            return Err((jar, pages::sign_in_failed(&state, pages::SignInFailure::Refused)).into_response());
        }
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "somebody could not be signed in");
            return Err((jar, pages::sign_in_failed(&state, pages::SignInFailure::NoStorage)).into_response());
        }
    };
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("return_to", &login.return_to).finish();
    let mut back = (jar.add(cookie), Redirect::to(&format!("/auth/signed-in?{query}"))).into_response();
    keep_opener(&login.return_to, &mut back);
    Ok(back)
}

/// A new sign-in is a new session under a new id; the one that the browser had ends.
async fn begin(
    state: &AppState,
    headers: &HeaderMap,
    ClientAddress(opened_from): ClientAddress,
    signed_in: SignedIn,
    is_step_up: bool,
) -> Result<Option<Cookie<'static>>, StorageError> {
    let mut draft = None;
    if let Some(key) = Sessions::key_of(headers) {
        if let Some(old) = state.sessions.touch(key, false).await?
            && old.user == signed_in.user
        {
            state.sessions.moves_on(key).await?;
            draft = old.draft.filter(|_| is_step_up);
        }
        state.sessions.end(key).await?;
    }
    let new = NewSession {
        user: signed_in.user,
        keycloak_session: signed_in.keycloak_session,
        id_token: signed_in.id_token,
        refresh_token: signed_in.refresh_token,
        proven_until: signed_in.proven_until,
        authentication: signed_in.authentication,
        draft,
        browser: session::browser(headers),
        opened_from,
    };
    state.sessions.begin(new).await
}

/// Looks whether the browser kept the cookie, before it sends people around in circles.
async fn signed_in(
    State(state): State<AppState>,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<LoginQuery>,
) -> Response {
    match state.sessions.find(&headers, true).await {
        Ok(Some(_)) => {
            let return_to = local_path(query.return_to.as_deref());
            let mut back = Redirect::to(&return_to).into_response();
            keep_opener(&return_to, &mut back);
            back
        }
        Err(error) => Problem::from(error).into_response(),
        Ok(None) => pages::sign_in_failed(&state, pages::SignInFailure::CookieDropped),
    }
}

async fn signed_out(State(state): State<AppState>) -> Response {
    pages::signed_out(&state)
}

/// Ends the session here first, then at Keycloak. Where it can't be ended here, the browser keeps its cookie.
async fn logout(
    State(state): State<AppState>,
    uri: Uri,
    headers: HeaderMap,
    jar: CookieJar,
) -> Result<Response, Problem> {
    let jar = jar.add(session::removal(session::COOKIE));
    let session = match Sessions::key_of(&headers) {
        Some(key) => state.sessions.end(key).await?,
        None => None,
    };
    let Some(session) = session else {
        return Ok((jar, Redirect::to("/auth/signed-out")).into_response());
    };
    let back = own_url(&state, &uri, &headers, "/auth/signed-out")?;
    match state.openid.end_session_url(&session.id_token, &back).await {
        Ok(url) => Ok((jar, Redirect::to(url.as_str())).into_response()),
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "a session ended here but not at Keycloak");
            Ok((jar, Redirect::to("/auth/signed-out")).into_response())
        }
    }
}

/// OpenID Connect Back-Channel Logout 1.0, sections 2.5 to 2.8.
async fn back_channel_logout(
    State(state): State<AppState>,
    charge: Charge,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let outcome = |status: StatusCode, outcome: &'static str| {
        metrics::counter!("chancery_backchannel_logouts_total", "outcome" => outcome).increment(1);
        let no_store = [(header::CACHE_CONTROL, "no-store")];
        if status.is_success() {
            (status, no_store).into_response()
        } else {
            (status, no_store, Json(serde_json::json!({ "error": outcome }))).into_response()
        }
    };
    match end_by_logout_token(&state, &headers, &body).await {
        Ok(Ended::Now(ended)) => {
            tracing::info!(ended, "Keycloak ended a session");
            outcome(StatusCode::OK, "ended")
        }
        // It won't be said again, and it won't be forgotten.
        Ok(Ended::Later) => outcome(StatusCode::OK, "kept"),
        Err(LogoutError::Refused(reason)) => {
            tracing::info!(reason, "a logout token was refused");
            // Keycloak may send as many as it likes; others guess.
            if let Err(problem) = charge.to_address(&state) {
                return problem.into_response();
            }
            outcome(StatusCode::BAD_REQUEST, "invalid_request")
        }
        Err(LogoutError::Unavailable(error)) => {
            tracing::error!(error = %ErrorChain(&*error), "Keycloak ended a session, and ours could not be ended");
            outcome(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
        }
    }
}

/// What has become of a logout token.
enum Ended {
    /// So many sessions have ended.
    Now(usize),
    /// The storage doesn't answer, or not in time: they end when it is back.
    Later,
}

enum LogoutError {
    Refused(&'static str),
    Unavailable(Box<dyn std::error::Error + Send + Sync>),
}

impl From<StorageError> for LogoutError {
    fn from(error: StorageError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

/// Ends the sessions that a logout token means; none is fine, too.
async fn end_by_logout_token(
    state: &AppState,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Ended, LogoutError> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(LogoutError::Refused("no form"));
    }
    let mut tokens = form_urlencoded::parse(body).filter(|(name, _)| name == "logout_token");
    let (Some((_, token)), None) = (tokens.next(), tokens.next()) else {
        return Err(LogoutError::Refused("not one token"));
    };
    let (now, client) = (state.clock.now(), &state.config.keycloak.client_id);
    let token = logout_token::verify(&state.keys, &state.issuer, client, now, &token).await;
    let token = token.map_err(|error| match error {
        TokenError::Refused(reason) => LogoutError::Refused(reason),
        TokenError::Unavailable(source) => LogoutError::Unavailable(Box::new(source)),
    })?;
    let seen = format!("logout:{}", hex::encode(Sha256::digest(&token.id)));
    let user = token.subject.as_deref().and_then(|subject| subject.parse().ok());
    let storage = match tokio::time::timeout(STORAGE_PATIENCE, end_meant(state, &token, user, &seen)).await {
        Ok(Ok(ended)) => return ended.map(Ended::Now).ok_or(LogoutError::Refused("seen before")),
        Ok(Err(error)) => error,
        Err(elapsed) => StorageError::from_source(elapsed),
    };
    // Keycloak always says whose it is.
    let Some(user) = user else { return Err(storage.into()) };
    tracing::warn!(error = %ErrorChain(&storage), "Keycloak ended a session; ours ends when its storage is back");
    late_ends::remember(state, user, &token, seen)
        .await
        .map_err(|error| LogoutError::Unavailable(Box::new(error)))?;
    Ok(Ended::Later)
}

/// Ends them now, and says how many there were; none where this token was seen before.
async fn end_meant(
    state: &AppState,
    token: &LogoutToken,
    user: Option<UserId>,
    seen: &str,
) -> Result<Option<usize>, StorageError> {
    let rest = (token.good_until - state.clock.now()).to_std().unwrap_or_default();
    if !state.sessions.claim(seen, &state.sessions.new_owner(), rest).await? {
        return Ok(None);
    }
    let ended = match (&token.session, user) {
        // Our users' ids are UUIDs: this is about somebody else.
        (Some(_), _) if token.subject.is_some() && user.is_none() => 0,
        (Some(session), user) => state.sessions.end_keycloak_session(session, user).await?,
        (None, Some(user)) => state.sessions.end_all_of(user, None).await?,
        (None, None) => 0,
    };
    Ok(Some(ended))
}

fn failed(state: &AppState, error: &SignInError) -> Response {
    tracing::warn!(error = %ErrorChain(error), "somebody could not be signed in");
    let failure = match error {
        SignInError::Unavailable(_) => pages::SignInFailure::Unavailable,
        SignInError::OtherPerson | SignInError::TooWeak => pages::SignInFailure::NotConfirmed,
        SignInError::Refused(_) => pages::SignInFailure::Refused,
    };
    pages::sign_in_failed(state, failure)
}

#[cfg(test)]
mod tests {
    use super::local_path;

    #[test]
    fn one_returns_only_to_a_path_of_ours() {
        for path in ["/app", "/app?x", "/app/t/1/approvals?status=pending"] {
            assert_eq!(local_path(Some(path)), path);
        }
        for path in [
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/auth/logout",
            "/app\\..",
            "/app\r\nx:y",
            "/app\t",
            "/app/ü",
            "/app/\u{202e}",
            "/application",
            "/app.evil.example",
            "",
        ] {
            assert_eq!(local_path(Some(path)), "/app", "{path}");
        }
    }
}
