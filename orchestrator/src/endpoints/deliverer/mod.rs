mod store;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use connector_webhooks::standard::SigningKey;
use tokio::sync::{Semaphore, broadcast::error::RecvError};
use url::Url;

use self::store::{Became, Due, Lane};
use super::{
    message::{self, Message, Sent},
    model::{
        DeliveryState, DisabledBecause, EndpointState, KEPT, LONGEST_WAIT, Outcome, message_id,
        owner_may_see, wait, wants,
    },
    service::{self, EndpointError},
    store::NewDelivery,
};
use crate::{
    app::AppState,
    db::TenantTx,
    http::problem::ErrorChain,
    ids::{DeliveryId, TenantId},
    realtime,
};

/// How long a claim holds unless it is renewed, which each round does: longer than a round, which takes as long as its slowest
/// answer.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// A lane is served for so long at a time; then others have their turn.
const TURN: Duration = Duration::from_secs(10);
/// So many deliveries are on their way to an endpoint at a time; one that fails gets them one by one.
const AT_A_TIME: i64 = 4;
/// A lane at which nothing is to be done is looked at again after this time: what a lost NOTIFY would have told.
const REST: TimeDelta = TimeDelta::seconds(60);
/// One that is switched off, to remove what is old.
const LONG_REST: TimeDelta = TimeDelta::hours(1);
/// The events that become deliveries in one transaction.
const BATCH: i64 = 100;
/// While so many deliveries are pending, the others stay events in the log.
const MOST_PENDING: i64 = 500;
/// What is old is removed so often, and so much of it at a time.
const TRIM_EVERY: TimeDelta = TimeDelta::hours(1);
const TRIMMED_AT_A_TIME: i64 = 500;
/// Commits within this time wake together.
const COALESCE: Duration = Duration::from_millis(20);
const POLL: Duration = Duration::from_secs(1);
/// So often it is tried to record what came of an attempt: what isn't recorded is sent again.
const RECORDED_AGAIN: u32 = 3;
/// Of the lanes that are served at a time, a tenant gets one in so many, and one at least.
const SHARE_OF_TENANT: usize = 4;

/// Delivers events to endpoints: what the log has becomes deliveries, and what is due is sent.
#[derive(Debug, Clone)]
pub struct Deliverer {
    state: AppState,
    /// How many lanes of which tenant are being served here.
    busy: Arc<Mutex<HashMap<TenantId, usize>>>,
}

/// A delivery on its way.
struct Sending {
    id: DeliveryId,
    number: i32,
    /// How often it has failed should it fail now.
    failures: i32,
    message: Message,
}

/// What to do at a lane.
enum Round {
    Send {
        url: Option<Url>,
        keys: Vec<SigningKey>,
        sendings: Vec<Sending>,
    },
    /// Nothing until then.
    Rest(DateTime<Utc>),
    /// It isn't ours any more.
    Lost,
}

impl Deliverer {
    /// A deliverer for this application.
    pub fn new(state: AppState) -> Self {
        Self { state, busy: Arc::default() }
    }

    /// Delivers until the process is asked to stop, to at most `slots` endpoints at a time; what is on its way then may arrive.
    pub async fn run(self, slots: usize) {
        if slots == 0 {
            return;
        }
        self.state.lifecycle.spawn(self.clone().follow());
        let stop = self.state.lifecycle.soft.clone();
        let in_use = Arc::new(Semaphore::new(slots));
        let most_of_tenant = (slots / SHARE_OF_TENANT).max(1);
        while !stop.is_cancelled() {
            let full = self.tenants_with(most_of_tenant);
            let mut pause = POLL;
            if let Ok(permit) = Arc::clone(&in_use).try_acquire_owned() {
                if let Some(lane) = self.claim(&full).await {
                    let deliverer = self.clone();
                    let turn = Busy::new(&self.busy, lane.tenant);
                    self.state.lifecycle.spawn(async move {
                        deliverer.serve(lane).await;
                        drop((turn, permit));
                        deliverer.state.lanes_due.notify_one();
                    });
                    continue;
                }
                // What is due of a tenant that has enough waits for a turn to end.
                if full.is_empty() {
                    pause = self.until_next_due().await;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.state.lanes_due.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Delivers everything that is due, and says how much there was: for tests.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn run_due(&self) -> Result<usize, sqlx::Error> {
        let mut tx = self.state.database.system_tx().await?;
        store::wake_all(&mut tx, self.state.clock.now()).await?;
        tx.commit().await?;
        let mut done = 0;
        while let Some(lane) = self.try_claim(&[]).await? {
            done += self.serve(lane).await;
        }
        Ok(done)
    }

    /// Wakes the lanes of tenants in which something happened.
    async fn follow(self) {
        let stop = self.state.lifecycle.soft.clone();
        let mut grown = self.state.database.wakeups().events();
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                first = grown.recv() => first,
            };
            tokio::time::sleep(COALESCE).await;
            let mut tenants = BTreeSet::new();
            let mut all = false;
            match first {
                Ok(tenant) => drop(tenants.insert(tenant)),
                Err(RecvError::Lagged(_)) => all = true,
                Err(RecvError::Closed) => return,
            }
            while let Ok(tenant) = grown.try_recv() {
                tenants.insert(tenant);
            }
            let tenants: Vec<TenantId> = tenants.into_iter().collect();
            let wake = async {
                let mut tx = self.state.database.system_tx().await?;
                let now = self.state.clock.now();
                let woken = if all {
                    store::wake_all(&mut tx, now).await?;
                    1
                } else {
                    store::wake(&mut tx, &tenants, now).await?
                };
                tx.commit().await?;
                Ok::<_, sqlx::Error>(woken)
            };
            match wake.await {
                Ok(0) => {}
                Ok(_) => self.state.lanes_due.notify_one(),
                // They are looked at after a while anyway.
                Err(error) => tracing::warn!(error = %ErrorChain(&error), "endpoints could not be woken"),
            }
        }
    }

    fn tenants_with(&self, lanes: usize) -> Vec<TenantId> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.iter().filter(|(_, count)| **count >= lanes).map(|(tenant, _)| *tenant).collect()
    }

    async fn try_claim(&self, but_for: &[TenantId]) -> Result<Option<Lane>, sqlx::Error> {
        let now = self.state.clock.now();
        let mut tx = self.state.database.system_tx().await?;
        let lane = store::claim(&mut tx, now, now + LEASE, but_for).await?;
        tx.commit().await?;
        Ok(lane)
    }

    async fn claim(&self, but_for: &[TenantId]) -> Option<Lane> {
        self.try_claim(but_for).await.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "no endpoint could be claimed");
            None
        })
    }

    async fn until_next_due(&self) -> Duration {
        let now = self.state.clock.now();
        let due = async {
            let mut tx = self.state.database.system_tx().await?;
            store::next_due(&mut tx, now).await
        };
        let wait = due.await.ok().flatten().map(|due| due - now);
        wait.map_or(POLL, |wait| wait.to_std().unwrap_or_default().clamp(Duration::from_millis(5), POLL))
    }

    /// Serves a lane for a turn; how much was done.
    async fn serve(&self, lane: Lane) -> usize {
        let begun = Instant::now();
        let mut done = 0;
        let stop = &self.state.lifecycle.soft;
        let result = loop {
            let round = match self.begin(&lane, &mut done).await {
                Ok(round) => round,
                Err(error) => break Err(error),
            };
            match round {
                Round::Lost => return done,
                Round::Rest(until) => break self.release(&lane, until).await,
                Round::Send { url, keys, sendings } => {
                    done += sendings.len();
                    let sent =
                        sendings.into_iter().map(|sending| self.send(&lane, url.as_ref(), &keys, sending));
                    futures::future::join_all(sent).await;
                }
            }
            if begun.elapsed() > TURN || stop.is_cancelled() {
                break self.release(&lane, self.state.clock.now()).await;
            }
        };
        if let Err(error) = result {
            // The lease runs out, and the lane is anybody's again.
            tracing::warn!(endpoint = %lane.endpoint, error = %ErrorChain(&error), "an endpoint could not be served");
        }
        done
    }

    async fn release(&self, lane: &Lane, due_at: DateTime<Utc>) -> Result<(), sqlx::Error> {
        let mut tx = self.state.database.worker_tx(lane.tenant).await?;
        store::release(&mut tx, lane, due_at).await?;
        tx.commit().await
    }

    /// Makes deliveries of what has happened, and notes which are being sent, in one transaction.
    async fn begin(&self, lane: &Lane, done: &mut usize) -> Result<Round, sqlx::Error> {
        let mut tx = self.state.database.worker_tx(lane.tenant).await?;
        let now = tx.now();
        let Some(held) = store::hold(&mut tx, lane, now + LEASE).await? else { return Ok(Round::Lost) };
        if held.trimmed_at.is_none_or(|trimmed| trimmed <= now - TRIM_EVERY) {
            store::trim(&mut tx, lane, now - KEPT, TRIMMED_AT_A_TIME).await?;
        }
        if held.state == EndpointState::Disabled {
            tx.commit().await?;
            return Ok(Round::Rest(now + LONG_REST));
        }
        let is_behind = self.fan_out(&mut tx, lane, held.position, &held.event_types, done).await?;
        if let Some(until) = held.not_before.filter(|until| *until > now) {
            tx.commit().await?;
            return Ok(Round::Rest(until));
        }
        let at_a_time = if held.failing_since.is_some() { 1 } else { AT_A_TIME };
        let mut sendings = Vec::new();
        let mut again = Vec::new();
        for due in store::due(&mut tx, lane, at_a_time).await? {
            let failures = due.failures + 1;
            let Due { id, message_id, body, attempts, .. } = due;
            if wait(due.failures, 0).is_none() && due.failures > 0 {
                // Nobody got to say how the last attempt went.
                let became = Became {
                    state: DeliveryState::Failed,
                    outcome: Outcome::Interrupted,
                    status: None,
                    next_attempt_at: None,
                };
                store::record(&mut tx, lane.tenant, id, attempts, &became, None).await?;
                *done += 1;
                continue;
            }
            again.push((id, now + self.wait(failures).unwrap_or(LEASE)));
            let message = Message { id: message_id, body };
            sendings.push(Sending { id, number: attempts + 1, failures, message });
        }
        if sendings.is_empty() {
            let next = store::next_attempt(&mut tx, lane).await?;
            let rest = if is_behind { now } else { next.map_or(now + REST, |next| next.min(now + REST)) };
            tx.commit().await?;
            return Ok(Round::Rest(rest));
        }
        store::begin(&mut tx, lane.tenant, &again).await?;
        let sealed = super::store::secrets(&mut tx, lane.tenant, lane.endpoint).await?;
        tx.commit().await?;
        let keys = service::open(&self.state.master_key, &sealed);
        Ok(Round::Send { url: Url::parse(&held.url).ok(), keys, sendings })
    }

    /// Makes deliveries of the events that follow `position`; whether there may be more of them.
    async fn fan_out(
        &self,
        tx: &mut TenantTx,
        lane: &Lane,
        position: i64,
        event_types: &[String],
        done: &mut usize,
    ) -> Result<bool, sqlx::Error> {
        if store::count_pending(tx, lane, MOST_PENDING).await? >= MOST_PENDING {
            return Ok(false);
        }
        let events = realtime::log(tx, lane.tenant, position, BATCH).await?;
        let Some(last) = events.last().map(|event| event.sequence) else { return Ok(false) };
        let is_behind = i64::try_from(events.len()).is_ok_and(|count| count == BATCH);
        let deliveries: Vec<NewDelivery> = events
            .into_iter()
            .filter(|event| owner_may_see(event.permission) && wants(event_types, &event.event_type))
            .map(|event| NewDelivery {
                id: DeliveryId(tx.new_id()),
                sequence: Some(event.sequence),
                message_id: message_id(lane.tenant, event.sequence),
                body: message::body(&event.event_type, event.created_at, &event.data),
                event_type: event.event_type,
            })
            .collect();
        if !deliveries.is_empty() {
            let inserted =
                super::store::insert_deliveries(tx, lane.tenant, lane.endpoint, deliveries).await?;
            *done += usize::try_from(inserted).unwrap_or(usize::MAX);
        }
        store::advance(tx, lane, last).await?;
        Ok(is_behind)
    }

    fn wait(&self, failures: i32) -> Option<TimeDelta> {
        let mut random = [0; 2];
        self.state.ids.fill(&mut random);
        wait(failures, u16::from_be_bytes(random))
    }

    /// Sends one delivery and records what came of it.
    async fn send(&self, lane: &Lane, url: Option<&Url>, keys: &[SigningKey], sending: Sending) {
        let now = self.state.clock.now();
        let sent = match url {
            Some(url) if !keys.is_empty() => {
                message::send(&self.state.egress, url, keys, &sending.message, now).await
            }
            _ => {
                tracing::error!(endpoint = %lane.endpoint, "an endpoint has no secret that can be opened");
                Sent { outcome: Outcome::Refused, status: None, retry_after: None, took: Duration::ZERO }
            }
        };
        metrics::counter!("chancery_webhook_attempts_total", "outcome" => sent.outcome.as_str()).increment(1);
        metrics::histogram!("chancery_webhook_attempt_seconds").record(sent.took.as_secs_f64());
        for again in (0..RECORDED_AGAIN).rev() {
            let Err(error) = self.record(lane, &sending, &sent).await else { return };
            // At last it is sent again, under the same id.
            tracing::warn!(endpoint = %lane.endpoint, again, error = %ErrorChain(&error), "a delivery's outcome could not be recorded");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn record(&self, lane: &Lane, sending: &Sending, sent: &Sent) -> Result<(), EndpointError> {
        let mut tx = self.state.database.worker_tx(lane.tenant).await?;
        let now = tx.now();
        let is_delivered = sent.outcome == Outcome::Delivered;
        let is_gone = sent.status.is_some_and(|status| status == axum::http::StatusCode::GONE);
        let left_alone = sent
            .retry_after
            .map(|asked| now + TimeDelta::from_std(asked).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT));
        let next = self.wait(sending.failures).filter(|_| !is_delivered && !is_gone).map(|wait| now + wait);
        let became = Became {
            state: match next {
                Some(_) => DeliveryState::Pending,
                None if is_delivered => DeliveryState::Delivered,
                None => DeliveryState::Failed,
            },
            outcome: sent.outcome,
            status: sent.status.and_then(|status| i16::try_from(status.as_u16()).ok()),
            next_attempt_at: next.map(|next| left_alone.map_or(next, |until| next.max(until))),
        };
        let took = i32::try_from(sent.took.as_millis()).ok();
        let mut because = is_gone.then_some(DisabledBecause::Gone);
        // The lane first, as everywhere: whoever locks in one order waits for nobody who waits for it.
        if is_delivered {
            store::succeeded(&mut tx, lane).await?;
        } else {
            let since = store::failed(&mut tx, lane, left_alone).await?;
            let patience = self.state.config.webhooks.disable_after();
            if since.is_some_and(|since| since <= now - patience) {
                because = because.or(Some(DisabledBecause::Failing));
            }
        }
        store::record(&mut tx, lane.tenant, sending.id, sending.number, &became, took).await?;
        tx.commit().await?;
        match because {
            Some(because) => self.disable(lane, because).await,
            None => Ok(()),
        }
    }

    /// Switches the endpoint off, in a transaction of its own: what is before the lane in the order of locks.
    async fn disable(&self, lane: &Lane, because: DisabledBecause) -> Result<(), EndpointError> {
        let mut tx = self.state.database.worker_tx(lane.tenant).await?;
        if service::disable(&mut tx, lane.tenant, lane.endpoint, because).await? {
            tx.commit().await?;
            tracing::warn!(endpoint = %lane.endpoint, because = because.as_str(), "an endpoint was switched off");
        }
        Ok(())
    }
}

/// Counts a lane as served until it is dropped.
struct Busy {
    busy: Arc<Mutex<HashMap<TenantId, usize>>>,
    tenant: TenantId,
}

impl Busy {
    fn new(busy: &Arc<Mutex<HashMap<TenantId, usize>>>, tenant: TenantId) -> Self {
        *busy.lock().unwrap_or_else(PoisonError::into_inner).entry(tenant).or_default() += 1;
        Self { busy: Arc::clone(busy), tenant }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = busy.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.tenant);
            }
        }
    }
}
