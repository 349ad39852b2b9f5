use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Directory;
use crate::http::problem::ErrorChain;

/// Compares the mirror with Keycloak periodically, so that whoever was disabled or removed from a group loses access
/// though Keycloak says nothing. Takes no input, may run anywhere and as often as one likes.
#[derive(Debug)]
pub struct Reconciler {
    directory: Directory,
    period: Duration,
}

impl Reconciler {
    /// A reconciler of this directory.
    pub fn new(directory: Directory, period: Duration) -> Self {
        Self { directory, period }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.period);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => self.run_once().await,
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
