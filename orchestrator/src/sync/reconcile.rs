//! Carries roles into the tools by itself: by turns of the leading replica, and at once where the mirror of Keycloak changes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Outcome, Prepared, SyncError, Tool, carry_out, connect_chatwoot, layout::policy, prepare};
use crate::{
    app::AppState,
    config::SyncMode,
    db::{Duty, FOLLOW},
    http::problem::ErrorChain,
    tools::Chatwoot,
};

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// Everything is as it is to be.
    Unchanged,
    /// There is something to do, and it was only planned.
    Planned,
    /// The plan is held. What didn't wait for that was done.
    Held(Outcome),
    /// The plan was carried out.
    CarriedOut(Outcome),
    /// Somebody else carries out a plan right now.
    Busy,
}

impl Ran {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Planned => "planned",
            Self::Held(_) => "held",
            Self::CarriedOut(_) => "carried_out",
            Self::Busy => "busy",
        }
    }
}

/// Carries Keycloak's roles into Chatwoot.
#[derive(Debug, Clone)]
pub struct Syncing {
    state: AppState,
}

impl Syncing {
    /// For this application.
    pub fn new(state: AppState) -> Self {
        Self { state }
    }

    /// Runs whenever this replica leads, until the process is asked to stop. Does nothing where the mode is off.
    pub async fn run(self) {
        let config = &self.state.config.sync;
        if config.chatwoot.mode == SyncMode::Off {
            return;
        }
        let Some(chatwoot) = self.state.tools.chatwoot.clone().filter(|tool| tool.can_sign_in()) else {
            tracing::warn!(
                "sync.chatwoot.mode is on, and chatwoot.url or chatwoot.platform_token is not set"
            );
            return;
        };
        let (period, stop) =
            (Duration::from_secs(config.period_seconds.max(1)), self.state.lifecycle.soft.clone());
        let mut candidate = self.state.database.candidate(Duty::Sync);
        loop {
            let begun = Instant::now();
            let leads = candidate.leads_for_sure().await;
            let next = if leads {
                tokio::select! {
                    () = stop.cancelled() => break,
                    ran = self.run_once(&chatwoot) => tell(&ran),
                }
                begun + period
            } else {
                begun + FOLLOW.min(period)
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next) => {}
                () = self.state.directory.changed(), if leads => {}
            }
        }
        candidate.resign().await;
    }

    /// Plans once, and does what is to be done, as far as it isn't held and the mode is to do it.
    ///
    /// # Errors
    /// [`SyncError`]; then nothing was done, or the next run finds what was.
    pub async fn run_once(&self, chatwoot: &Arc<Chatwoot>) -> Result<Ran, SyncError> {
        let (state, config) = (&self.state, &self.state.config.sync.chatwoot);
        let mut candidate = state.database.candidate(Duty::CarryOut);
        if !candidate.leads_for_sure().await {
            return Ok(Ran::Busy);
        }
        let (tool, realm) =
            connect_chatwoot(&state.database, &state.directory, chatwoot, Arc::clone(&state.ids)).await?;
        let policy = policy(config);
        let prepared = prepare(&state.database, &tool, realm, &policy).await?;
        measure(&tool, &prepared);
        let urgent: BTreeSet<usize> = prepared.plan.urgent(&policy.limits).into_iter().collect();
        let ran = match (prepared.plan.steps.is_empty(), prepared.plan.held.is_empty()) {
            (true, _) => Ran::Unchanged,
            _ if config.mode != SyncMode::Apply => Ran::Planned,
            (_, true) => Ran::CarriedOut(carry_out(&state.database, &tool, prepared, None).await?),
            _ if urgent.is_empty() => Ran::Held(Outcome::default()),
            _ => Ran::Held(carry_out(&state.database, &tool, prepared, Some(&urgent)).await?),
        };
        candidate.resign().await;
        Ok(ran)
    }
}

fn measure(tool: &dyn Tool, prepared: &Prepared) {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let plan = &prepared.plan;
    metrics::gauge!("chancery_sync_steps", "tool" => tool.name()).set(number(plan.steps.len()));
    metrics::gauge!("chancery_sync_drift", "tool" => tool.name()).set(number(plan.drift.len()));
    metrics::gauge!("chancery_sync_held", "tool" => tool.name()).set(number(plan.held.len()));
}

fn tell(ran: &Result<Ran, SyncError>) {
    let outcome = match ran {
        Ok(ran) => {
            if let Ran::Held(_) = ran {
                tracing::warn!("the plan for Chatwoot is held: `chancery sync plan` shows it");
            }
            ran.as_str()
        }
        Err(error) => {
            tracing::warn!(error = %ErrorChain(error), "Keycloak's roles could not be carried into Chatwoot; the next run tries again");
            "failed"
        }
    };
    metrics::counter!("chancery_sync_runs_total", "tool" => "chatwoot", "outcome" => outcome).increment(1);
}
