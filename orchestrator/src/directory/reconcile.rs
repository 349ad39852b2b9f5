use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Directory, hints::Hints};
use crate::{
    db::{Duty, FOLLOW},
    http::problem::ErrorChain,
};

/// How often Keycloak's admin events are looked at in between.
const LOOK: Duration = Duration::from_secs(5);

/// How many looks there are at least between two comparisons that events ask for.
const TURNS: u32 = 3;

/// Compares the mirror with Keycloak periodically, and in between whom its admin events tell of, so that whoever was disabled
/// or removed from a group loses access though Keycloak ends no session then. Takes no input, may run anywhere and as often as
/// one likes; of several replicas, one does it at a time, since Keycloak needn't be asked by all.
#[derive(Debug)]
pub struct Reconciler {
    directory: Directory,
    period: Duration,
    look: Duration,
}

impl Reconciler {
    /// A reconciler of this directory.
    pub fn new(directory: Directory, period: Duration) -> Self {
        Self { directory, period, look: LOOK }
    }

    /// Looks at Keycloak's admin events so often, instead of every 5 s.
    #[must_use]
    pub fn looking_every(self, look: Duration) -> Self {
        Self { look, ..self }
    }

    /// Runs until `stop`, whenever this replica leads.
    pub async fn run(self, stop: CancellationToken) {
        let mut candidate = self.directory.database.candidate(Duty::Reconcile);
        let mut hints = None;
        loop {
            let begun = Instant::now();
            if !candidate.leads_for_sure().await {
                // The comparison that begins with leading finds what nobody has followed meanwhile.
                hints = None;
                if wait(&stop, begun + FOLLOW.min(self.period)).await {
                    break;
                }
                continue;
            }
            // From before the comparison: what happens during it may be too late for it.
            let hints = hints.get_or_insert_with(|| Hints::from(self.directory.clock.now()));
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.run_once() => {}
            }
            if self.follow(hints, begun + self.period, &stop).await {
                break;
            }
        }
        candidate.resign().await;
    }

    /// Follows hints until it is time for the next comparison, or one of them asks for it, which is heard once they have had some
    /// turns: groups may change all the time. Whether to stop.
    async fn follow(&self, hints: &mut Hints, next: Instant, stop: &CancellationToken) -> bool {
        let (earliest, mut is_asked) = (Instant::now() + self.look * TURNS, false);
        loop {
            let look = Instant::now() + self.look;
            if look >= next {
                return wait(stop, next).await;
            }
            if wait(stop, look).await {
                return true;
            }
            tokio::select! {
                () = stop.cancelled() => return true,
                // However many are to be read, the comparison comes in time.
                everything = tokio::time::timeout_at(next, hints.look(&self.directory)) => {
                    is_asked |= everything.unwrap_or(true);
                }
            }
            if is_asked && Instant::now() >= earliest {
                return false;
            }
        }
    }

    /// Compares every known tenant once. One that can't be read completely stays as it is.
    pub async fn run_once(&self) {
        let tenants = match self.directory.group_tenants().await {
            Ok(tenants) => tenants,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the mirror of Keycloak could not be read");
                return;
            }
        };
        for tenant in tenants {
            if let Err(error) = self.directory.refresh_tenant(tenant).await {
                tracing::warn!(%tenant, error = %ErrorChain(&error), "a tenant could not be compared with Keycloak and stays as it is");
                if error.is_keycloak_down() {
                    // The others would fare no better.
                    return;
                }
            }
        }
    }
}

/// Waits until `then`. Whether to stop.
async fn wait(stop: &CancellationToken, then: Instant) -> bool {
    tokio::select! {
        () = stop.cancelled() => true,
        () = tokio::time::sleep_until(then) => false,
    }
}
