use std::ops::Deref;

use axum::{
    extract::FromRequestParts,
    http::{Method, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};

use super::{
    principal::{PrincipalError, PrincipalSource as _},
    refresh,
    session::{Session, SessionKey},
};
use crate::{
    app::AppState,
    auth::Caller,
    http::{
        Problem,
        middleware::{Charge, ClientAddress},
        problem::ErrorChain,
    },
    ids::UserId,
    realtime::Access,
};

/// Who looks at the shell, proven by a session.
#[derive(Debug, Clone)]
pub struct Visitor {
    caller: Caller,
    /// The key of the session.
    pub key: SessionKey,
    /// The session.
    pub session: Session,
}

impl Deref for Visitor {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl FromRequestParts<AppState> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let to_sign_in = || {
            // After a form was sent, there is nothing to return to but the start.
            let back = if parts.method == Method::GET {
                parts.uri.path_and_query().map_or("/app", |path| path.as_str())
            } else {
                "/app"
            };
            let query =
                form_urlencoded::Serializer::new(String::new()).append_pair("return_to", back).finish();
            Redirect::to(&format!("/auth/sign-in?{query}")).into_response()
        };
        // A page that a script fetches because something happened is nobody's doing.
        let by_script = parts.headers.get("sec-fetch-dest").is_some_and(|dest| dest == "empty")
            && parts.method == Method::GET;
        let found = state.sessions.find(&parts.headers, !by_script).await;
        let found = found.map_err(|error| Problem::from(error).into_response())?;
        let Some((key, session)) = found else { return Err(to_sign_in()) };
        if !parts.method.is_safe() {
            let usage = state.limits.session.take(&key);
            Charge::of(parts, state).to(usage).map_err(axum::response::IntoResponse::into_response)?;
        }
        let proven = if by_script { Ok(Some(session)) } else { refresh::proven(state, key, session).await };
        let proven = proven.map_err(|error| Problem::from(error).into_response())?;
        let Some(session) = proven else { return Err(to_sign_in()) };
        if !by_script {
            let ClientAddress(address) = ClientAddress::of(parts, state);
            state.sessions.remember_address(key, &session, address).await;
        }
        match state.directory.principal(session.user).await {
            Ok(principal) => {
                Ok(Self { caller: Caller::new(principal, session.authentication.clone()), key, session })
            }
            Err(PrincipalError::Unknown) => {
                end_all(state, session.user).await;
                Err(to_sign_in())
            }
            Err(error @ PrincipalError::Unavailable(_)) => Err(Problem::unavailable(&error).into_response()),
        }
    }
}

impl Visitor {
    /// The principal as it is now, if the session still is: for streams.
    pub async fn recheck(state: &AppState, key: SessionKey) -> Access {
        let session = match state.sessions.touch(key, false).await {
            Ok(Some(session)) => session,
            // After another sign-in in the same browser: it comes back with the new cookie.
            Ok(None) if state.sessions.has_moved_on(key).await.unwrap_or(false) => return Access::Moved,
            Ok(None) => return Access::Ended,
            Err(_) => return Access::Unknown,
        };
        match state.directory.principal(session.user).await {
            Ok(principal) => Access::Still(principal),
            Err(PrincipalError::Unavailable(_)) => Access::Unknown,
            Err(PrincipalError::Unknown) => {
                end_all(state, session.user).await;
                Access::Ended
            }
        }
    }
}

/// Ends the sessions of somebody whom Keycloak has disabled or deleted: none of them is good for anything any more.
async fn end_all(state: &AppState, user: UserId) {
    match state.sessions.end_all_of(user, None).await {
        Ok(ended) => {
            tracing::info!(ended, "the sessions of somebody who is disabled or deleted have ended");
        }
        // They lead nowhere as long as the user is unknown, and the next use tries again.
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "the sessions of somebody who is disabled could not be ended");
        }
    }
}
