use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use chrono::DateTime;
use tokio_util::sync::CancellationToken;

use super::{NotStored, Shared, Stored, Waiting, store};
use crate::{
    clock::SharedClock,
    db::{Database, SystemLink},
    http::problem::ErrorChain,
    ids::InboxEventId,
    inbox::{
        errors,
        model::{Incoming, lane, lane_bit},
        processing::Lanes,
    },
};

/// What one commit holds at most.
const MOST: usize = 512;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How long storing a batch may take before its requests are told that it isn't known.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so long without a request, accepting isn't busy any more.
const QUIET: Duration = Duration::from_millis(20);
/// Other replicas are told of new events so often; this process takes most of its own itself.
const TELL_OTHERS_EVERY: Duration = Duration::from_millis(50);
/// After a repeat, so many batches are stored by the statement that stands repeats: where one comes, others follow.
const WARY: u32 = 64;
/// Days whose partitions are made where the day's own is missing.
const DAYS_AHEAD: i32 = 2;

/// The one task that stores.
pub(super) struct Batcher {
    database: Database,
    clock: SharedClock,
    lanes: Arc<Lanes>,
    shared: Arc<Shared>,
    link: Option<SystemLink>,
    /// For how many batches repeats are expected.
    wary: u32,
    /// Whether nobody in this process processes what it accepts.
    tells_always: bool,
    told: Option<Instant>,
}

/// What became of the events of a batch, in their order.
type Outcome = Result<Vec<Stored>, sqlx::Error>;

impl Batcher {
    pub fn new(
        database: Database,
        clock: SharedClock,
        lanes: Arc<Lanes>,
        shared: Arc<Shared>,
        tells_always: bool,
    ) -> Self {
        Self { database, clock, lanes, shared, link: None, wary: 0, tells_always, told: None }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let batch = self.shared.queue().take(MOST, MOST_BYTES);
            if batch.is_empty() {
                tokio::select! {
                    () = self.shared.arrived.notified() => {}
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(QUIET), if self.shared.pressure.load(Ordering::Relaxed) > 0 => {
                        self.shared.pressure.store(0, Ordering::Relaxed);
                    }
                }
                continue;
            }
            let pressure = self.shared.pressure.load(Ordering::Relaxed);
            self.shared.pressure.store((pressure * 3 + batch.len()) / 4, Ordering::Relaxed);
            self.store(batch).await;
        }
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    async fn store(&mut self, batch: Vec<Waiting>) {
        let outcome = self.try_again(&batch).await;
        match outcome {
            Ok(stored) => self.answer(batch, &stored),
            // One bad event must not keep its neighbours out.
            Err(error) if errors::is_of_the_row(&error) && batch.len() > 1 => {
                tracing::warn!(error = %ErrorChain(&error), "a batch could not be stored; its events are tried one by one");
                for waiting in batch {
                    let single = std::slice::from_ref(&waiting);
                    match self.try_again(single).await {
                        Ok(stored) => self.answer(vec![waiting], &stored),
                        Err(error) => refuse(vec![waiting], &error),
                    }
                }
            }
            Err(error) => refuse(batch, &error),
        }
    }

    /// Stores a batch; once more where it isn't known whether it was stored, or where something passing was in the way. The keys
    /// make sure that twice is the same as once.
    async fn try_again(&mut self, batch: &[Waiting]) -> Outcome {
        let (mut was_passing, mut was_without_partition) = (false, false);
        loop {
            let error = match self.try_once(batch).await {
                Err(error) => error,
                stored => return stored,
            };
            if errors::is_missing_partition(&error) && !was_without_partition {
                was_without_partition = true;
                self.make_partitions(batch).await?;
            } else if errors::is_passing(&error) && !was_passing {
                was_passing = true;
                tracing::warn!(error = %ErrorChain(&error), "a batch is stored once more");
            } else {
                return Err(error);
            }
        }
    }

    async fn try_once(&mut self, batch: &[Waiting]) -> Outcome {
        // Taken out: where this future is dropped or fails in the middle, the connection is not used again.
        let link = match self.link.take() {
            Some(link) => Ok(Ok(link)),
            None => tokio::time::timeout(PATIENCE, store::connect(&self.database)).await,
        };
        let Ok(link) = link else { return Err(sqlx::Error::PoolTimedOut) };
        let mut link = link?;
        let events: Vec<&Incoming> = batch.iter().map(|waiting| &waiting.event).collect();
        let is_wary = self.wary > 0;
        let insert = async {
            if !is_wary && store::insert_new(&mut link, &events).await? {
                return Ok(None);
            }
            let new = store::insert(&mut link, &events).await?;
            if new == events.len() { Ok(None) } else { store::known(&mut link, &events).await.map(Some) }
        };
        let result = tokio::time::timeout(PATIENCE, insert).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        if !result.as_ref().is_err_and(errors::is_connection) {
            self.link = Some(link);
        }
        let known = result?;
        self.wary = if known.is_some() { WARY } else { self.wary.saturating_sub(1) };
        self.shared.batches.fetch_add(1, Ordering::SeqCst);
        Ok(match known {
            None => events.iter().map(|event| Stored { id: event.id, duplicate: false }).collect(),
            // An own id under the key: stored by this batch, perhaps when it was tried for the first time.
            Some(known) => events
                .iter()
                .zip(known)
                .map(|(event, id)| Stored {
                    id: id.unwrap_or(event.id),
                    duplicate: id.is_some_and(|id| id != event.id),
                })
                .collect(),
        })
    }

    async fn make_partitions(&mut self, batch: &[Waiting]) -> Result<(), sqlx::Error> {
        let first = batch.iter().map(|waiting| waiting.event.received_at).min();
        let last = batch.iter().map(|waiting| waiting.event.received_at).max();
        let now = self.clock.now();
        let mut link = match self.link.take() {
            Some(link) => link,
            None => store::connect(&self.database).await?,
        };
        for day in [first, last].into_iter().map(|time: Option<DateTime<_>>| time.unwrap_or(now).date_naive())
        {
            store::make_partitions(&mut link, day, DAYS_AHEAD).await?;
        }
        self.link = Some(link);
        Ok(())
    }

    fn answer(&mut self, batch: Vec<Waiting>, stored: &[Stored]) {
        let mut lanes = 0;
        let mut repeated: HashMap<InboxEventId, (Incoming, i32)> = HashMap::new();
        for (waiting, stored) in batch.into_iter().zip(stored) {
            // Nobody waits any more where the sender has gone away; it will repeat itself.
            let _ = waiting.answer.send(Ok(*stored));
            metrics::histogram!("chancery_inbox_accept_seconds")
                .record(waiting.since.elapsed().as_secs_f64());
            if stored.duplicate {
                repeated.entry(stored.id).or_insert_with(|| (waiting.event, 0)).1 += 1;
            } else {
                lanes |= lane_bit(lane(waiting.event.subject_key));
            }
        }
        if lanes != 0 {
            self.lanes.mark(lanes);
            if self.tells_always || self.told.is_none_or(|told| told.elapsed() >= TELL_OTHERS_EVERY) {
                self.told = Some(Instant::now());
                self.database.wakeups().lanes_committed(lanes);
            }
        }
        if !repeated.is_empty() {
            // Beside the way of those who wait.
            let (database, now) = (self.database.clone(), self.clock.now());
            tokio::spawn(async move {
                let repeated: Vec<_> = repeated.into_values().collect();
                if let Err(error) = store::count_duplicates(&database, &repeated, now).await {
                    tracing::warn!(error = %ErrorChain(&error), "duplicates could not be counted");
                }
            });
        }
    }
}

fn refuse(batch: Vec<Waiting>, error: &sqlx::Error) {
    tracing::warn!(error = %ErrorChain(error), events = batch.len(), "received events could not be stored");
    let reason = if errors::is_of_the_row(error) { NotStored::Refused } else { NotStored::Unavailable };
    for waiting in batch {
        let _ = waiting.answer.send(Err(reason));
    }
}
