//! Telling who waits that something was committed: at once in this process, and by one coalesced NOTIFY in the others.
//! The NOTIFY is sent outside the write transactions: inside, it would take a lock that serialises all commits.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use uuid::Uuid;

use crate::ids::TenantId;

const CHANNEL: &str = "chancery_wakeups";
/// Commits within this time share one NOTIFY.
const COALESCE: Duration = Duration::from_millis(5);
/// A NOTIFY's payload holds at most 8,000 bytes: this many tenants fit.
const TENANTS_A_NOTIFY: usize = 200;
/// What begins the payload about the inbox's lanes; then come the origin and the lanes.
const LANES: &str = "lanes:";
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Inner {
    jobs: Notify,
    events: broadcast::Sender<TenantId>,
    /// The inbox's lanes in which other replicas have stored something, as bits.
    lanes: broadcast::Sender<u16>,
    /// Tells this process's own NOTIFYs apart.
    origin: Uuid,
    outgoing: Mutex<Outgoing>,
    has_outgoing: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Outgoing {
    jobs: bool,
    lanes: u16,
    tenants: BTreeSet<TenantId>,
}

impl Drop for Inner {
    /// Lets the task see that nobody is left.
    fn drop(&mut self) {
        self.has_outgoing.notify_one();
    }
}

/// Who is told when jobs or events have been committed.
#[derive(Debug, Clone)]
pub struct Wakeups(Arc<Inner>);

impl Wakeups {
    /// Starts telling; the task ends with the pool, or with the last of them. `origin` is this process's, and no other's.
    pub fn start(pool: PgPool, origin: Uuid) -> Self {
        let (events, _) = broadcast::channel(4096);
        let (lanes, _) = broadcast::channel(64);
        let wakeups = Self(Arc::new(Inner {
            jobs: Notify::new(),
            events,
            lanes,
            origin,
            outgoing: Mutex::default(),
            has_outgoing: Arc::new(Notify::new()),
        }));
        tokio::spawn(notify_others(pool, Arc::downgrade(&wakeups.0)));
        wakeups
    }

    /// Completes when a job may have become ready.
    pub async fn job_ready(&self) {
        self.0.jobs.notified().await;
    }

    /// The tenants whose event logs have grown.
    pub fn events(&self) -> broadcast::Receiver<TenantId> {
        self.0.events.subscribe()
    }

    /// The lanes of the inbox in which other replicas have stored something, as bits.
    pub fn lanes(&self) -> broadcast::Receiver<u16> {
        self.0.lanes.subscribe()
    }

    /// Tells the other replicas that something was stored in these lanes of the inbox, as bits.
    pub(crate) fn lanes_committed(&self, lanes: u16) {
        self.send(|outgoing| outgoing.lanes |= lanes);
    }

    pub(super) fn jobs_committed(&self) {
        self.0.jobs.notify_one();
        self.send(|outgoing| outgoing.jobs = true);
    }

    /// Says that a worker can take another job.
    pub(crate) fn slot_freed(&self) {
        self.0.jobs.notify_one();
    }

    pub(super) fn events_committed(&self, tenant: TenantId) {
        // Nobody listens: nobody needs to know.
        let _ = self.0.events.send(tenant);
        self.send(|outgoing| {
            outgoing.tenants.insert(tenant);
        });
    }

    fn send(&self, add: impl FnOnce(&mut Outgoing)) {
        add(&mut self.0.outgoing.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.has_outgoing.notify_one();
    }
}

async fn notify_others(pool: PgPool, inner: std::sync::Weak<Inner>) {
    loop {
        let Some(has_outgoing) = inner.upgrade().map(|strong| Arc::clone(&strong.has_outgoing)) else {
            return;
        };
        tokio::select! {
            () = has_outgoing.notified() => {}
            () = pool.close_event() => return,
        }
        tokio::time::sleep(COALESCE).await;
        let Some(strong) = inner.upgrade() else { return };
        let outgoing = std::mem::take(&mut *strong.outgoing.lock().unwrap_or_else(PoisonError::into_inner));
        let origin = strong.origin;
        drop(strong);
        let tenants: Vec<_> = outgoing.tenants.into_iter().collect();
        let mut payloads: Vec<String> = tenants
            .chunks(TENANTS_A_NOTIFY)
            .map(|chunk| {
                chunk.iter().map(|tenant| tenant.0.simple().to_string()).collect::<Vec<_>>().join(",")
            })
            .collect();
        if outgoing.jobs {
            payloads.push("jobs".to_owned());
        }
        if outgoing.lanes != 0 {
            payloads.push(format!("{LANES}{}:{}", origin.simple(), outgoing.lanes));
        }
        if payloads.is_empty() {
            continue;
        }
        // One statement for all, which doesn't wait for the disk: what is told is durable already, and who is not told finds it
        // a little later by polling.
        if let Err(error) = sqlx::query!(
            "SELECT pg_notify($1, payload), set_config('synchronous_commit', 'off', true) FROM unnest($2::text[]) AS payload",
            CHANNEL,
            &payloads,
        )
        .fetch_all(&pool)
        .await
        {
            tracing::debug!(%error, "other replicas could not be woken");
        }
    }
}

/// Listens to what other replicas commit and wakes this process's waiters, until `stop`.
pub async fn listen(pool_url: sqlx::postgres::PgConnectOptions, wakeups: Wakeups, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            result = listen_once(&pool_url, &wakeups) => {
                if let Err(error) = result {
                    tracing::warn!(%error, "listening for other replicas was interrupted; polling goes on");
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RECONNECT) => {}
        }
    }
}

async fn listen_once(
    options: &sqlx::postgres::PgConnectOptions,
    wakeups: &Wakeups,
) -> Result<(), sqlx::Error> {
    // A pool of its own: the listener holds its connection for good.
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        let notification = listener.recv().await?;
        match notification.payload() {
            "jobs" => wakeups.0.jobs.notify_one(),
            lanes if lanes.starts_with(LANES) => {
                if let Some(lanes) = others_lanes(lanes, wakeups.0.origin) {
                    let _ = wakeups.0.lanes.send(lanes);
                }
            }
            tenants => {
                for tenant in tenants.split(',').filter_map(|tenant| tenant.parse::<TenantId>().ok()) {
                    let _ = wakeups.0.events.send(tenant);
                }
            }
        }
    }
}

/// The lanes that a payload names; none where it is this process's own, or can't be read.
fn others_lanes(payload: &str, own: Uuid) -> Option<u16> {
    let (origin, lanes) = payload.strip_prefix(LANES)?.split_once(':')?;
    (origin.parse::<Uuid>().ok()? != own).then_some(())?;
    lanes.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_not_woken_by_its_own_lanes() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let payload = |origin: Uuid| format!("{LANES}{}:{}", origin.simple(), 0b101);
        assert_eq!(others_lanes(&payload(other), own), Some(0b101));
        assert_eq!(others_lanes(&payload(own), own), None);
        assert_eq!(others_lanes("lanes:x:1", own), None);
    }
}
