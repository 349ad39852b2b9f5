//! Accepting: requests that arrive together share one commit, and each is answered only after it.
//!
//! A request puts its event into a bounded queue ([`queue`]) and waits. One task ([`batcher`]) takes whatever is there, in turns
//! between tenants, stores it by one statement on a connection of its own, and answers. A lone request waits for nobody; while a
//! commit is under way, the next batch gathers by itself. A full queue says so at once, so that the database never drowns.

mod batcher;
mod queue;
mod store;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use self::{batcher::Batcher, queue::FairQueue};
use super::{model::Incoming, processing::Lanes};
use crate::{clock::SharedClock, config::InboxConfig, db::Database, ids::InboxEventId};

pub(super) use self::queue::Full;

/// With so many events in a batch, accepting is busy.
const BUSY: usize = 8;

/// That an event is durable, by this delivery or by an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// The event's id: the earlier delivery's, where it is a duplicate.
    pub id: InboxEventId,
    pub duplicate: bool,
}

/// Why an event isn't stored, or not surely: who sent it has to send it again, and it will be told apart by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStored {
    #[error("the queue is full")]
    Full(Full),
    #[error("the database can't be asked")]
    Unavailable,
    #[error("the database refuses the event")]
    Refused,
}

/// A request that waits for its event to be durable.
struct Waiting {
    event: Incoming,
    since: Instant,
    answer: oneshot::Sender<Result<Stored, NotStored>>,
}

struct Shared {
    queue: Mutex<FairQueue<Waiting>>,
    arrived: Notify,
    /// How many events the last batches had, about.
    pressure: AtomicUsize,
    batches: AtomicU64,
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, FairQueue<Waiting>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where requests hand their events in.
#[derive(Clone)]
pub struct Intake(Arc<Shared>);

impl std::fmt::Debug for Intake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Intake").finish_non_exhaustive()
    }
}

impl Intake {
    /// Starts the task that stores, until `stop` (what is in the queue then is stored first). It connects when the first event
    /// comes.
    pub fn start(
        database: Database,
        clock: SharedClock,
        lanes: Arc<Lanes>,
        config: &InboxConfig,
        stop: CancellationToken,
    ) -> Self {
        let shared = Arc::new(Shared {
            queue: Mutex::new(FairQueue::new(config.queue, config.queue_mib * 1024 * 1024)),
            arrived: Notify::new(),
            pressure: AtomicUsize::new(0),
            batches: AtomicU64::new(0),
        });
        let batcher = Batcher::new(database, clock, lanes, Arc::clone(&shared), config.workers == 0);
        tokio::spawn(batcher.run(stop));
        Self(shared)
    }

    /// Stores an event; done when it is durable. Events that are handed in one after the other, without waiting, keep that order.
    pub(super) async fn accept(&self, event: Incoming) -> Result<Stored, NotStored> {
        let (answer, answered) = oneshot::channel();
        let (tenant, bytes) = (event.tenant, event.sealed_request.len());
        let waiting = Waiting { event, since: Instant::now(), answer };
        self.0.queue().push(tenant, bytes, waiting).map_err(NotStored::Full)?;
        self.0.arrived.notify_one();
        // The task is gone only when the process ends.
        answered.await.unwrap_or(Err(NotStored::Unavailable))
    }

    /// Whether so much comes in that many requests share each commit.
    pub(super) fn is_busy(&self) -> bool {
        self.0.pressure.load(Ordering::Relaxed) >= BUSY
    }

    /// How many commits have stored something: for tests.
    pub fn batches(&self) -> u64 {
        self.0.batches.load(Ordering::SeqCst)
    }
}
