use std::ops::Deref;

use axum::{
    extract::FromRequestParts,
    http::{Method, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};

use super::{
    principal::{PrincipalError, PrincipalSource as _},
    session::{Session, SessionKey},
};
use crate::{app::AppState, auth::Caller, http::Problem, realtime::Access};

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
        let Some((key, session)) = state.sessions.find(&parts.headers, !by_script) else {
            return Err(to_sign_in());
        };
        match state.directory.principal(session.user).await {
            Ok(principal) => Ok(Self { caller: Caller::new(principal), key, session }),
            Err(PrincipalError::Unknown) => {
                state.sessions.end(key);
                Err(to_sign_in())
            }
            Err(error @ PrincipalError::Unavailable(_)) => Err(Problem::unavailable(&error).into_response()),
        }
    }
}

impl Visitor {
    /// The principal as it is now, if the session still is: for streams.
    pub async fn recheck(state: &AppState, key: SessionKey) -> Access {
        let Some(session) = state.sessions.touch(key, false) else { return Access::Ended };
        match state.directory.principal(session.user).await {
            Ok(principal) => Access::Still(principal),
            Err(PrincipalError::Unavailable(_)) => Access::Unknown,
            Err(PrincipalError::Unknown) => {
                state.sessions.end(key);
                Access::Ended
            }
        }
    }
}
