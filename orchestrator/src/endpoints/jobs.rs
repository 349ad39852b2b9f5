use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::store;
use crate::{
    app::AppState,
    db::TenantTx,
    ids::EndpointId,
    jobs::{Effect, Handler, Job, JobError, Registry, enqueue},
};

const PURGE: &str = "endpoints.purge";
/// The deliveries that are removed in one transaction.
const BATCH: i64 = 500;
/// For how long an attempt goes on.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    endpoint_id: EndpointId,
}

/// The handlers of this slice's jobs.
pub fn handlers(registry: Registry) -> Registry {
    registry.with(PURGE, Purge)
}

/// Has the deliveries of an endpoint removed that was removed itself.
pub(super) async fn enqueue_purge(tx: &mut TenantTx, endpoint: EndpointId) -> Result<(), sqlx::Error> {
    enqueue(tx, PURGE, &endpoint.to_string(), &About { endpoint_id: endpoint }, None).await
}

struct Purge;

#[async_trait]
impl Handler for Purge {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let About { endpoint_id } = job.read()?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let mut tx = state.database.worker_tx(job.tenant).await?;
            let removed = store::purge(&mut tx, job.tenant, endpoint_id, BATCH).await?;
            if i64::try_from(removed).unwrap_or(BATCH) < BATCH {
                job.complete(&mut tx).await?;
                tx.commit().await?;
                return Ok(Effect::Committed);
            }
            tx.commit().await?;
        }
        Err(JobError::Retry { after: None, message: "there is more to remove".to_owned() })
    }
}
