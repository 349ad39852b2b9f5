use std::{ops::Deref, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{Method, request::Parts},
    response::{IntoResponse as _, Redirect, Response},
};

use super::{
    principal::{Principal, PrincipalError, PrincipalSource as _},
    session::{Session, SessionKey},
};
use crate::{app::AppState, auth::Caller, http::Problem};

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
            let back = if parts.method == Method::GET { parts.uri.path_and_query().map_or("/app", |path| path.as_str()) } else { "/app" };
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("return_to", back).finish();
            Redirect::to(&format!("/auth/sign-in?{query}")).into_response()
        };
        let Some((key, session)) = state.sessions.find(&parts.headers) else { return Err(to_sign_in()) };
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
    pub async fn recheck(state: &AppState, key: SessionKey) -> Option<Arc<Principal>> {
        let session = state.sessions.touch(key, false)?;
        match state.directory.principal(session.user).await {
            Ok(principal) => Some(principal),
            // Nothing is known to have ended.
            Err(PrincipalError::Unavailable(_)) => None,
            Err(PrincipalError::Unknown) => {
                state.sessions.end(key);
                None
            }
        }
    }
}
