//! What failed for good, told to who can mend it: how much, and where to look; never what it was about.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::rooms::{Notice, Purpose, post};
use crate::{
    app::AppState,
    http::problem::ErrorChain,
    ids::TenantId,
    inbox,
    jobs::{self, Effect, Handler, Job, JobError, Registry},
};

/// The job's kind.
const DEAD_LETTERS: &str = "matrix.dead_letters";
/// What dies within such a time is told together, at its end.
const WINDOW: TimeDelta = TimeDelta::minutes(15);
/// How often is looked.
const EVERY: Duration = Duration::from_mins(1);
/// What died so long ago was told, or Matrix wasn't connected then.
const LOOK_BACK: TimeDelta = TimeDelta::hours(1);

/// The handlers of these jobs.
pub(super) fn handlers(registry: Registry) -> Registry {
    registry.with(DEAD_LETTERS, Tell)
}

/// What died from the one time on and before the other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Died {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// Looks for what failed for good until the process is asked to stop. Several replicas may do so at the same time.
pub async fn watch_dead_letters(state: AppState) {
    if state.tools.matrix.is_none() {
        return;
    }
    loop {
        if let Err(error) = look_for_dead_letters(&state).await {
            tracing::warn!(error = %ErrorChain(&error), "what failed for good could not be looked for");
        }
        tokio::select! {
            () = state.lifecycle.soft.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Has each tenant told, once, of what died there in the last windows.
///
/// # Errors
/// Where the database says no.
pub async fn look_for_dead_letters(state: &AppState) -> Result<(), sqlx::Error> {
    let since = state.clock.now() - LOOK_BACK;
    let mut system = state.database.system().await?;
    let mut died: BTreeSet<(TenantId, i64)> =
        inbox::died_since(&mut system, since, WINDOW).await?.into_iter().collect();
    // That nobody could be told is nothing to tell.
    died.extend(jobs::died_since(&mut system, since, WINDOW, DEAD_LETTERS).await?);
    drop(system);
    for (tenant, window) in died {
        let start = |window: i64| DateTime::from_timestamp(window * WINDOW.num_seconds(), 0);
        let (Some(from), Some(until)) = (start(window), start(window + 1)) else { continue };
        let mut tx = state.database.worker_tx(tenant).await?;
        let key = until.timestamp().to_string();
        jobs::enqueue(&mut tx, DEAD_LETTERS, &key, &Died { from, until }, Some(until)).await?;
        tx.commit().await?;
    }
    Ok(())
}

struct Tell;

#[async_trait]
impl Handler for Tell {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let Some(homeserver) = &state.tools.matrix else { return Ok(Effect::Nothing) };
        let Died { from, until } = job.read()?;
        let mut tx = state.database.worker_tx(job.tenant).await?;
        let webhooks = inbox::died_between(&mut tx, job.tenant, from, until).await?;
        let tasks = jobs::died_between(&mut tx, from, until, DEAD_LETTERS).await?;
        drop(tx);
        // What was replayed or discarded meanwhile needs nobody.
        let counted = [("dead-webhooks", webhooks), ("dead-tasks", tasks)];
        let title: Vec<String> = counted
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| state.ui.t_count(name, count))
            .collect();
        if title.is_empty() {
            return Ok(Effect::Nothing);
        }
        let page = if webhooks > 0 { "/inbox?state=dead" } else { "" };
        let path = format!("/app/t/{}{page}", job.tenant);
        let link = state.config.http.public_url.join(&path).map_or(path, String::from);
        let notice = Notice { what: &state.ui.t("notice-dead"), title: &title.join(", "), link: &link };
        post(state, homeserver, job, Purpose::Operations, &notice, None).await?;
        Ok(Effect::Nothing)
    }
}
