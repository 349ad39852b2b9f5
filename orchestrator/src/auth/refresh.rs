//! Noticing that Keycloak's session has ended though nobody said so (it says nothing when a user is disabled, deleted, or
//! idle for too long): by using the refresh token when the access token has run out and the session is in use.
//!
//! A refresh token is good once, so that only one request of all replicas uses it: whoever holds the lock. The others go on.

use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::oneshot;

use super::{
    oidc::{RefreshError, Renewed},
    session::{Session, SessionKey, StorageError},
};
use crate::{app::AppState, http::problem::ErrorChain};

/// How long a request waits for Keycloak; what takes longer goes on beside it.
const PATIENCE: Duration = Duration::from_secs(1);
/// The lock ends by itself, should its holder die: after more than it may take to ask Keycloak, to wait for a new key and to
/// keep what came of it.
const LOCK: Duration = Duration::from_mins(1);
/// Keycloak is asked again after this time where it didn't answer.
const AGAIN: TimeDelta = TimeDelta::seconds(30);

/// The session, after a look at Keycloak's where that is due; none where it is over.
pub(super) async fn proven(
    state: &AppState,
    key: SessionKey,
    session: Session,
) -> Result<Option<Session>, StorageError> {
    if state.clock.now() < session.proven_until || session.refresh_token.is_none() {
        return Ok(Some(session));
    }
    let (told, looked) = oneshot::channel();
    let looking = look(state.clone(), key);
    // Stopping waits for it: a refresh token that isn't kept ends the session.
    state.lifecycle.spawn(async move {
        // The request may have gone on.
        let _ = told.send(looking.await);
    });
    match tokio::time::timeout(PATIENCE, looked).await {
        Ok(Ok(Ok(Looked::Over))) => Ok(None),
        Ok(Ok(Err(error))) => Err(error),
        // Keycloak takes its time; or somebody else is looking.
        Ok(Ok(Ok(Looked::Alive)) | Err(_)) | Err(_) => Ok(Some(session)),
    }
}

enum Looked {
    Alive,
    Over,
}

async fn look(state: AppState, key: SessionKey) -> Result<Looked, StorageError> {
    let name = format!("refresh:{}", key.handle());
    let owner = state.sessions.new_owner();
    if !state.sessions.claim(&name, &owner, LOCK).await? {
        return Ok(Looked::Alive);
    }
    let looked = look_alone(&state, key).await;
    if let Err(error) = state.sessions.release(&name, &owner).await {
        // It ends by itself.
        tracing::debug!(%error, "a lock could not be given back");
    }
    looked
}

async fn look_alone(state: &AppState, key: SessionKey) -> Result<Looked, StorageError> {
    // Whoever held the lock before may have done it, or ended the session.
    let Some(session) = state.sessions.touch(key, false).await? else { return Ok(Looked::Over) };
    let due = state.clock.now() >= session.proven_until;
    let Some(token) = session.refresh_token.as_deref().filter(|_| due) else { return Ok(Looked::Alive) };
    match state.openid.refresh(&session, token).await {
        Ok(Renewed { id_token, refresh_token, proven_until }) => {
            let change = |session: &mut Session| {
                session.proven_until = proven_until;
                session.refresh_token = refresh_token.clone().or(session.refresh_token.take());
                if let Some(id_token) = &id_token {
                    session.id_token.clone_from(id_token);
                }
            };
            let kept = state.sessions.update_persistently(key, change).await?;
            Ok(kept.map_or(Looked::Over, |_| Looked::Alive))
        }
        Err(RefreshError::Over) => {
            tracing::info!(session = key.handle(), "a session ended with Keycloak's");
            state.sessions.end(key).await?;
            Ok(Looked::Over)
        }
        Err(error @ RefreshError::Unavailable(_)) => {
            tracing::warn!(error = %ErrorChain(&error), "Keycloak's session could not be looked at; ours goes on");
            let again = state.clock.now() + AGAIN;
            state.sessions.update(key, |session| session.proven_until = again).await?;
            Ok(Looked::Alive)
        }
    }
}
