//! What the inbox needs now and then: the next days' partitions are made ahead, old ones dropped, keys that nobody repeats any more
//! trimmed a little at a time, and depth and age measured.

mod store;

use std::time::{Duration, Instant};

use chrono::TimeDelta;

use crate::{app::AppState, http::problem::ErrorChain};

const TICK: Duration = Duration::from_secs(5);
/// How often partitions are looked at.
const PARTITIONS_EVERY: Duration = Duration::from_mins(10);
/// Partitions are made for today and so many days after it.
const DAYS_AHEAD: i32 = 3;
/// Blocks of the keys' table that one tick looks through for old ones: 2 MiB.
const BLOCKS_A_TICK: i64 = 256;

/// Keeps the inbox's tables in order.
#[derive(Debug)]
pub struct Upkeep {
    state: AppState,
    /// Where trimming goes on.
    next_block: i64,
}

impl Upkeep {
    /// The upkeep of this application's inbox.
    pub fn new(state: AppState) -> Self {
        Self { state, next_block: 0 }
    }

    /// Works until the process is asked to stop. Several replicas may do so at the same time.
    pub async fn run(mut self) {
        let stop = self.state.lifecycle.soft.clone();
        let mut partitions: Option<Instant> = None;
        loop {
            if partitions.is_none_or(|last| last.elapsed() >= PARTITIONS_EVERY) {
                partitions = Some(Instant::now());
                if let Err(error) = self.turn_partitions().await {
                    tracing::warn!(error = %ErrorChain(&error), "the inbox's partitions could not be made or dropped");
                    partitions = None;
                }
            }
            let tick = async {
                self.trim_keys().await?;
                self.measure().await
            };
            if let Err(error) = tick.await {
                tracing::warn!(error = %ErrorChain(&error), "the inbox could not be kept in order");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Makes the next days' partitions, and drops those that are older than the setting says and hold nothing that is still to be
    /// processed. How many were dropped.
    ///
    /// # Errors
    /// Where the database says no.
    pub async fn turn_partitions(&self) -> Result<i32, sqlx::Error> {
        let now = self.state.clock.now();
        let mut connection = self.state.database.system().await?;
        store::make_partitions(&mut connection, now.date_naive(), DAYS_AHEAD + 1).await?;
        let keep = TimeDelta::days(i64::from(self.state.config.inbox.keep_days));
        let oldest = store::oldest_unprocessed(&mut connection).await?;
        let before = oldest.map_or(now - keep, |oldest| oldest.min(now - keep));
        let dropped = store::drop_partitions(&mut connection, before.date_naive()).await?;
        if dropped > 0 {
            store::forget_before(&mut connection, before).await?;
            tracing::info!(dropped, "days of received webhooks were dropped");
        }
        Ok(dropped)
    }

    /// Looks through the next blocks of the keys for old ones and removes them. How many there were.
    ///
    /// # Errors
    /// Where the database says no.
    pub async fn trim_keys(&mut self) -> Result<u64, sqlx::Error> {
        let before =
            self.state.clock.now() - TimeDelta::days(i64::from(self.state.config.inbox.keep_keys_days));
        let mut connection = self.state.database.system().await?;
        let blocks = store::key_blocks(&mut connection).await?;
        if self.next_block >= blocks {
            self.next_block = 0;
        }
        let from = self.next_block;
        self.next_block += BLOCKS_A_TICK;
        store::trim_keys(&mut connection, from, self.next_block, before).await
    }

    async fn measure(&self) -> Result<(), sqlx::Error> {
        let mut connection = self.state.database.system().await?;
        let found = store::measure(&mut connection).await?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        let gauge = |value: i64| value as f64;
        metrics::gauge!("chancery_inbox_depth").set(gauge(found.pending));
        metrics::gauge!("chancery_inbox_failures", "state" => "ready").set(gauge(found.ready));
        metrics::gauge!("chancery_inbox_failures", "state" => "parked").set(gauge(found.parked));
        metrics::gauge!("chancery_inbox_failures", "state" => "dead").set(gauge(found.dead));
        let age =
            found.oldest.map_or(0, |oldest| (self.state.clock.now() - oldest).num_milliseconds().max(0));
        metrics::gauge!("chancery_inbox_oldest_seconds").set(gauge(age) / 1000.0);
        Ok(())
    }
}
