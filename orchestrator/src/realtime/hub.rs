use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use super::{model::Event, store};
use crate::{db::Database, http::problem::ErrorChain, ids::TenantId};

/// How many events a slow stream may lag behind before it has to read the log itself.
const BUFFERED: usize = 256;
/// Events are read so many at a time.
const BATCH: i64 = 200;
/// What another replica committed is found after this time even where its NOTIFY was lost.
const POLL: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(500);

struct Feed {
    sender: broadcast::Sender<Arc<Event>>,
    grown: Notify,
}

/// Reads each tenant's log once for all its streams in this process. A tenant without streams costs nothing.
#[derive(Clone)]
pub struct Hub {
    database: Database,
    feeds: Arc<Mutex<HashMap<TenantId, Arc<Feed>>>>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub that follows `database` until `stop`.
    pub fn start(database: Database, stop: CancellationToken) -> Self {
        let hub = Self { database, feeds: Arc::default(), stop };
        tokio::spawn(hub.clone().follow());
        hub
    }

    async fn follow(self) {
        let mut grown = self.database.wakeups().events();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                tenant = grown.recv() => match tenant {
                    Ok(tenant) => {
                        if let Some(feed) = self.feed(tenant) {
                            feed.grown.notify_one();
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        for feed in self.feeds.lock().unwrap_or_else(PoisonError::into_inner).values() {
                            feed.grown.notify_one();
                        }
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            }
        }
    }

    fn feed(&self, tenant: TenantId) -> Option<Arc<Feed>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant).cloned()
    }

    /// The tenant's events from now on, and the number of the last one before.
    pub(super) async fn subscribe(
        &self,
        tenant: TenantId,
    ) -> Result<(broadcast::Receiver<Arc<Event>>, i64), sqlx::Error> {
        let receiver = {
            let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(feed) = feeds.get(&tenant) {
                feed.sender.subscribe()
            } else {
                let (sender, receiver) = broadcast::channel(BUFFERED);
                let feed = Arc::new(Feed { sender, grown: Notify::new() });
                feeds.insert(tenant, Arc::clone(&feed));
                tokio::spawn(self.clone().read(tenant, feed));
                receiver
            }
        };
        // Read after subscribing: what is committed meanwhile arrives by the receiver, and is dropped there if it is older.
        let mut tx = self.database.worker_tx(tenant).await?;
        let last = store::last_sequence(&mut tx, tenant).await?;
        Ok((receiver, last))
    }

    /// The tenant's events after `after`, for catching up.
    pub(super) async fn replay(&self, tenant: TenantId, after: i64) -> Result<Vec<Event>, sqlx::Error> {
        let mut tx = self.database.worker_tx(tenant).await?;
        store::after(&mut tx, tenant, after, BATCH).await
    }

    async fn read(self, tenant: TenantId, feed: Arc<Feed>) {
        let mut position: Option<i64> = None;
        loop {
            match self.read_once(tenant, &feed, &mut position).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error = %ErrorChain(&error), "a tenant's events could not be read");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = feed.grown.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
            if feed.sender.receiver_count() == 0 {
                feeds.remove(&tenant);
                return;
            }
        }
    }

    /// Reads and sends one batch; whether there may be more.
    async fn read_once(
        &self,
        tenant: TenantId,
        feed: &Feed,
        position: &mut Option<i64>,
    ) -> Result<bool, sqlx::Error> {
        let mut tx = self.database.worker_tx(tenant).await?;
        let Some(after) = *position else {
            // A stream that subscribed before this has read its own start and drops what is older; from one before the
            // newest on, so that nothing that was committed since the subscription is missed.
            let last = store::last_sequence(&mut tx, tenant).await?;
            *position = Some((last - i64::try_from(BUFFERED / 4).unwrap_or(0)).max(0));
            return Ok(true);
        };
        let events = store::after(&mut tx, tenant, after, BATCH).await?;
        let more = i64::try_from(events.len()).unwrap_or(0) == BATCH;
        for event in events {
            *position = Some(event.sequence);
            // Nobody listens any more: the loop above notices.
            let _ = feed.sender.send(Arc::new(event));
        }
        Ok(more)
    }
}
