//! What Keycloak has ended while the storage of sign-ins didn't answer. Keycloak says it once and waits for the answer: it is kept
//! in the queue, as a job of the person's own tenant, and done as soon as the storage is back.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    logout_token::LogoutToken,
    session::{Sessions, StorageError},
};
use crate::{
    app::AppState,
    http::problem::ErrorChain,
    ids::{TenantId, UserId},
    jobs::{self, Effect, Handler, Job, JobError, Registry},
};

const END: &str = "sessions.end";
/// After so long, what was under way at a storage that doesn't answer has given up.
const GIVEN_UP: std::time::Duration = std::time::Duration::from_secs(5);

/// What is to end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LateEnd {
    user: UserId,
    /// Keycloak's session; none where it is all of the user's.
    keycloak_session: Option<String>,
    /// The name under which it is remembered that the token was seen.
    seen: String,
    /// From then on the token is refused anyway.
    good_until: DateTime<Utc>,
    /// When Keycloak said it: what began later goes on.
    at: DateTime<Utc>,
}

/// The handlers of the kernel's own jobs.
pub fn handlers(registry: Registry) -> Registry {
    registry.with(END, End)
}

/// Keeps what a token says until it can be done. Once for each token, however often it comes.
///
/// # Errors
/// Where the database says no.
pub(super) async fn remember(
    state: &AppState,
    user: UserId,
    token: &LogoutToken,
    seen: String,
) -> Result<(), sqlx::Error> {
    let mut tx = state.database.worker_tx(TenantId(user.0)).await?;
    let end = LateEnd {
        user,
        keycloak_session: token.session.clone(),
        seen: seen.clone(),
        good_until: token.good_until,
        at: tx.now(),
    };
    jobs::enqueue(&mut tx, END, &seen, &end, None).await?;
    tx.commit().await
}

struct End;

#[async_trait]
impl Handler for End {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let end: LateEnd = job.read()?;
        let ended = end_now(&state.sessions, &end, state.clock.now())
            .await
            .map_err(|error| JobError::Retry { after: None, message: ErrorChain(&error).to_string() })?;
        tracing::info!(ended, "what Keycloak had ended has ended here, too");
        Ok(Effect::Nothing)
    }

    fn longest_wait(&self) -> Option<chrono::TimeDelta> {
        // Ten minutes are long for somebody who is signed out; by then the access token has run out, too.
        Some(chrono::TimeDelta::minutes(2))
    }
}

async fn end_now(sessions: &Sessions, end: &LateEnd, now: DateTime<Utc>) -> Result<usize, StorageError> {
    let rest = (end.good_until - now).to_std().unwrap_or_default();
    if !rest.is_zero() {
        // Whoever has claimed it: the token isn't taken again.
        sessions.claim(&end.seen, "", rest).await?;
    }
    match &end.keycloak_session {
        Some(session) => sessions.end_keycloak_session(session, Some(end.user)).await,
        None => sessions.end_all_begun_by(end.user, end.at).await,
    }
}

/// Whenever the storage is back, lets what is kept be done at once, until the process is asked to stop.
pub async fn hurry(state: AppState) {
    let stop = state.lifecycle.soft.clone();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = state.sessions.back() => {}
        }
        // And once more for what was just being tried in vain.
        for pause in [std::time::Duration::ZERO, GIVEN_UP] {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(error) = jobs::hurry(&state.database, END, state.clock.now()).await {
                // They are tried again by themselves.
                tracing::warn!(error = %ErrorChain(&error), "what Keycloak had ended could not be hurried");
            }
        }
    }
}
