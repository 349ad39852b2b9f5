use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use connector_core::TraceContext;
use tokio::sync::broadcast::error::RecvError;
use tracing::Instrument as _;

use super::{
    apply::{ApplyError, From, LEASE, Planned, apply},
    failures::{self, Failed},
    lanes::Lanes,
    plan::{Plan, Poison, Route, plan},
    store,
};
use crate::{
    app::AppState,
    http::problem::ErrorChain,
    ids::{InboxEventId, TenantId},
    inbox::{
        errors,
        model::{Claim, Event, LANES, Mark, lane_bit, lanes_in},
    },
    sources,
};

/// How long a transaction with effects may take: shorter than the lease.
const PATIENCE: Duration = Duration::from_secs(20);
/// What nobody was woken for is found after this time.
const POLL: Duration = Duration::from_secs(1);
const AFTER_TROUBLE: Duration = Duration::from_millis(200);
/// About so many events are processed at a time.
const BATCH: i64 = 1024;
/// And so many bytes of them are read at a time.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// So many failed events are tried again before it is the others' turn.
const RETRIES: i64 = 64;
/// For how long a worker makes way while much comes in: as long as its batch has taken, within these bounds.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Among how many workers the lanes are shared when all have something: fewer and larger batches cost less, for as long as they keep
/// the processors busy.
const BATCHES_AT_A_TIME: usize = 2;

/// Processes what the inbox has accepted.
#[derive(Debug, Clone)]
pub struct Processor {
    state: AppState,
}

/// Lanes that a worker has taken from [`Lanes`]; given back however it ends.
struct Taken {
    lanes: Arc<Lanes>,
    set: u16,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.lanes.give_back(self.set);
    }
}

impl Processor {
    /// A processor for this application.
    pub fn new(state: AppState) -> Self {
        Self { state }
    }

    /// Processes until the process is asked to stop, with so many workers.
    pub async fn run(self, workers: usize) {
        if workers == 0 {
            return;
        }
        let most = LANES.div_ceil(u32::try_from(workers.min(BATCHES_AT_A_TIME)).unwrap_or(1));
        for _ in 0..workers {
            self.state.lifecycle.spawn(self.clone().work(most));
        }
        self.watch().await;
    }

    /// Marks the lanes in which other replicas have stored something, in which something is due, and whatever else was missed.
    async fn watch(self) {
        let stop = self.state.lifecycle.soft.clone();
        let mut others = self.state.database.wakeups().lanes();
        let mut poll = tokio::time::interval(POLL);
        loop {
            let lanes = tokio::select! {
                () = stop.cancelled() => return,
                lanes = others.recv() => match lanes {
                    Ok(lanes) => lanes,
                    Err(RecvError::Lagged(_)) => u16::MAX,
                    Err(RecvError::Closed) => return,
                },
                _ = poll.tick() => self.look(u16::MAX).await.unwrap_or_else(|error| {
                    tracing::warn!(error = %ErrorChain(&error), "the inbox could not be looked at");
                    0
                }),
            };
            self.state.inbox_lanes.mark(lanes);
        }
    }

    async fn look(&self, lanes: u16) -> Result<u16, sqlx::Error> {
        let lanes: Vec<i16> = lanes_in(lanes).collect();
        let mut connection = self.state.database.system().await?;
        let found = store::with_work(&mut connection, &lanes, self.state.clock.now()).await?;
        Ok(found.into_iter().fold(0, |set, lane| set | lane_bit(lane)))
    }

    async fn work(self, most: u32) {
        let stop = self.state.lifecycle.soft.clone();
        let lanes = Arc::clone(&self.state.inbox_lanes);
        while !stop.is_cancelled() {
            let set = lanes.take(most);
            if set == 0 {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = lanes.ready() => {}
                }
                continue;
            }
            let taken = Taken { lanes: Arc::clone(&lanes), set };
            let begun = Instant::now();
            let processed = self.process(set).await;
            self.make_way(begun.elapsed()).await;
            if let Err(error) = processed {
                tracing::warn!(error = %ErrorChain(&error), "the inbox could not be processed; it goes on in a moment");
                tokio::time::sleep(AFTER_TROUBLE).await;
                lanes.mark(set);
            }
            drop(taken);
        }
    }

    /// Processes everything that is due, and says how much there was: for tests.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn run_due(&self) -> Result<usize, sqlx::Error> {
        let mut ran = 0;
        loop {
            match self.process(u16::MAX).await {
                Ok(0) => return Ok(ran),
                Ok(more) => ran += more,
                Err(ApplyError::Lost) => {}
                Err(ApplyError::Database(error)) => return Err(error),
            }
        }
    }

    /// Claims those of these lanes that are free and processes what is in them; how many events it was.
    async fn process(&self, lanes: u16) -> Result<usize, ApplyError> {
        let now = self.state.clock.now();
        let claim = {
            let mut connection = self.state.database.system().await?;
            store::claim(&mut connection, lanes, now, now + LEASE).await?
        };
        if claim.lanes.is_empty() {
            return Ok(0);
        }
        let done = self.drain(&claim).await;
        // After a failure, too: others needn't wait until the lease runs out. Where it was lost, this changes nothing.
        let mut connection = self.state.database.system().await?;
        let more = store::release(&mut connection, &claim, self.state.clock.now()).await?;
        self.state.inbox_lanes.mark(more.into_iter().fold(0, |set, lane| set | lane_bit(lane)));
        done
    }

    async fn drain(&self, claim: &Claim) -> Result<usize, ApplyError> {
        let mut done = if claim.has_due { self.retry(claim).await? } else { 0 };
        loop {
            let begun = Instant::now();
            let marks = {
                let mut connection = self.state.database.system().await?;
                store::next_marks(&mut connection, claim, BATCH).await?
            };
            let is_full = is_full(&marks);
            for (tenant, marks) in by_tenant(marks) {
                // Whether a mark waits was read before the first portion: what fails in one holds up its subject in the next.
                let mut held: HashSet<i64> = HashSet::new();
                for mut marks in portions(marks) {
                    for mark in &mut marks {
                        mark.waits |= held.contains(&mark.subject_key);
                    }
                    done += marks.len();
                    held.extend(self.traced(Box::pin(self.portion(claim, tenant, marks))).await?);
                }
            }
            if !is_full || self.state.lifecycle.soft.is_cancelled() {
                return Ok(done);
            }
            self.make_way(begun.elapsed()).await;
        }
    }

    /// While much comes in, that goes first: it can't wait, and what is stored can. Batches become larger, and so cheaper.
    async fn make_way(&self, took: Duration) {
        if self.state.intake.is_busy() {
            tokio::time::sleep(took.clamp(PAUSE, LONGEST_PAUSE)).await;
        }
    }

    /// What comes of a batch goes on with the same trace.
    async fn traced<T>(&self, work: impl Future<Output = T>) -> T {
        let trace = TraceContext::begin(&*self.state.ids);
        let span = tracing::error_span!("inbox", trace_id = trace.trace_id(), span_id = trace.span_id());
        trace.scope(Arc::clone(&self.state.ids), work.instrument(span)).await
    }

    /// Processes marks of one tenant, in the order of arrival; the subjects that wait for a retry of what has failed among them.
    async fn portion(
        &self,
        claim: &Claim,
        tenant: TenantId,
        marks: Vec<Mark>,
    ) -> Result<HashSet<i64>, ApplyError> {
        let (begun, begun_at) = (Instant::now(), self.state.clock.now());
        let mut held = HashSet::new();
        let (waiting, marks): (Vec<Mark>, Vec<Mark>) = marks.into_iter().partition(|mark| mark.waits);
        let (planned, failed) = self.plan_all(tenant, marks, &HashMap::new()).await?;
        let (planned_now, waiting): (Vec<&Planned>, Vec<&Mark>) =
            (planned.iter().collect(), waiting.iter().collect());
        let applied = self.try_apply(claim, tenant, &planned_now, &waiting, From::Pending, begun_at).await?;
        if let Err(error) = applied {
            tracing::warn!(error = %error.message(), "a batch of the inbox failed; its events are tried one by one");
            held = self.one_by_one(claim, tenant, &planned, &waiting).await?;
        }
        for failed in failed {
            failures::record(&self.state, claim, &failed, From::Pending, begun_at).await?;
        }
        metrics::histogram!("chancery_inbox_process_seconds").record(begun.elapsed().as_secs_f64());
        Ok(held)
    }

    /// Finds the one that is to blame: it alone fails, and its subject's later events wait for it. Says which subjects wait.
    async fn one_by_one(
        &self,
        claim: &Claim,
        tenant: TenantId,
        planned: &[Planned],
        waiting: &[&Mark],
    ) -> Result<HashSet<i64>, ApplyError> {
        if !waiting.is_empty() {
            apply(&self.state, claim, tenant, &[], waiting, From::Pending, self.state.clock.now()).await?;
        }
        let mut held: HashSet<i64> = HashSet::new();
        for one in planned {
            let begun_at = self.state.clock.now();
            if held.contains(&one.mark.subject_key) {
                apply(&self.state, claim, tenant, &[], &[&one.mark], From::Pending, begun_at).await?;
                continue;
            }
            if let Err(failure) = self.try_apply(claim, tenant, &[one], &[], From::Pending, begun_at).await? {
                let failed = failure.of(one.mark.clone(), 0);
                let next = failures::record(&self.state, claim, &failed, From::Pending, begun_at).await?;
                if next.run_at().is_some() {
                    held.insert(one.mark.subject_key);
                }
            }
        }
        Ok(held)
    }

    /// Tries again what has failed and is due.
    async fn retry(&self, claim: &Claim) -> Result<usize, ApplyError> {
        let due = {
            let mut connection = self.state.database.system().await?;
            store::due(&mut connection, claim, self.state.clock.now(), RETRIES).await?
        };
        let done = due.len();
        for store::Retry { mark, attempts, discard_reason } in due {
            let begun_at = self.state.clock.now();
            if let Some(reason) = discard_reason {
                failures::discard(&self.state, claim, &mark, begun_at, &reason).await?;
                continue;
            }
            let tenant = mark.tenant;
            let attempt = async {
                let earlier = HashMap::from([(mark.event, attempts)]);
                let (planned, failed) = self.plan_all(tenant, vec![mark], &earlier).await?;
                for one in &planned {
                    if let Err(failure) =
                        self.try_apply(claim, tenant, &[one], &[], From::Retries, begun_at).await?
                    {
                        let failed = failure.of(one.mark.clone(), attempts);
                        failures::record(&self.state, claim, &failed, From::Retries, begun_at).await?;
                    }
                }
                for failed in failed {
                    failures::record(&self.state, claim, &failed, From::Retries, begun_at).await?;
                }
                Ok::<_, ApplyError>(())
            };
            self.traced(Box::pin(attempt)).await?;
        }
        Ok(done)
    }

    /// Reads events and works out what they mean; `earlier` says how often each was tried.
    async fn plan_all(
        &self,
        tenant: TenantId,
        marks: Vec<Mark>,
        earlier: &HashMap<InboxEventId, i32>,
    ) -> Result<(Vec<Planned>, Vec<Failed>), ApplyError> {
        let mut events: HashMap<InboxEventId, Arc<Event>> = HashMap::new();
        if !marks.is_empty() {
            let mut connection = self.state.database.system().await?;
            let found = store::events(&mut connection, tenant, &marks).await?;
            events.extend(found.into_iter().map(|event| (event.id, Arc::new(event))));
        }
        let now = self.state.clock.now();
        let (mut planned, mut failed) = (Vec::with_capacity(marks.len()), Vec::new());
        for mark in marks {
            let attempts = earlier.get(&mark.event).copied().unwrap_or(0);
            // Not removed: two marks of one event are possible, where it is replayed.
            let Some(event) = events.get(&mark.event).cloned() else {
                failed.push(Failed::gone(mark, attempts));
                continue;
            };
            match plan(&event, &self.state, now) {
                Ok(mut plan) => match self.route(&event, &mut plan).await? {
                    Ok(()) => planned.push(Planned { mark, event, plan }),
                    Err(error) => failed.push(Failed::poisoned(mark, attempts, &error)),
                },
                Err(error) => failed.push(Failed::poisoned(mark, attempts, &error)),
            }
        }
        Ok((planned, failed))
    }

    /// Finds out whose an event is that the suite has. As the database has it now: a mapping may be newer than what is remembered.
    async fn route(&self, event: &Event, plan: &mut Plan) -> Result<Result<(), Poison>, sqlx::Error> {
        let Some(Route::Inbox(inbox)) = plan.route else { return Ok(Ok(())) };
        if let Some(tenant) = sources::mapped(&self.state.database, event.source, inbox).await? {
            plan.route = Some(Route::To(tenant));
            return Ok(Ok(()));
        }
        let account = event.account.clone().unwrap_or_default();
        Ok(Err(match inbox {
            Some(inbox) => Poison::Unmapped { account, inbox },
            None => Poison::NoInbox { account },
        }))
    }

    /// Applies, and tells what is the events' own fault from what ends this worker's turn.
    async fn try_apply(
        &self,
        claim: &Claim,
        tenant: TenantId,
        planned: &[&Planned],
        waiting: &[&Mark],
        from: From,
        begun_at: DateTime<Utc>,
    ) -> Result<Result<(), Failure>, ApplyError> {
        if planned.is_empty() && waiting.is_empty() {
            return Ok(Ok(()));
        }
        let applying = Box::pin(apply(&self.state, claim, tenant, planned, waiting, from, begun_at));
        match tokio::time::timeout(PATIENCE, applying).await {
            Ok(Ok(())) => {
                self.count(planned);
                Ok(Ok(()))
            }
            Ok(Err(ApplyError::Database(error))) if !errors::is_connection(&error) => {
                Ok(Err(Failure::Refused(error)))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(Err(Failure::Late)),
        }
    }

    fn count(&self, planned: &[&Planned]) {
        let now = self.state.clock.now();
        metrics::counter!("chancery_inbox_processed_total", "outcome" => "done")
            .increment(u64::try_from(planned.len()).unwrap_or(0));
        let histogram = metrics::histogram!("chancery_inbox_effect_seconds");
        for one in planned {
            let waited = (now - one.event.received_at).to_std().unwrap_or_default();
            histogram.record(waited.as_secs_f64());
        }
    }
}

/// Why events have no effect yet, by their own fault as far as one can tell.
enum Failure {
    Refused(sqlx::Error),
    Late,
}

impl Failure {
    fn of(&self, mark: Mark, earlier: i32) -> Failed {
        match self {
            Self::Refused(error) => Failed::refused(mark, earlier, error),
            Self::Late => Failed::late(mark, earlier, PATIENCE),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Refused(error) => ErrorChain(error).to_string(),
            Self::Late => format!("took longer than {} s", PATIENCE.as_secs()),
        }
    }
}

/// Whether there may be more than was read: somebody's share was filled.
fn is_full(marks: &[Mark]) -> bool {
    let mut shares: HashMap<(i16, TenantId), i64> = HashMap::new();
    for mark in marks {
        *shares.entry((mark.lane, mark.tenant)).or_default() += 1;
    }
    let share = (BATCH / i64::try_from(shares.len().max(1)).unwrap_or(BATCH)).max(1);
    shares.values().any(|count| *count >= share)
}

/// Each tenant's marks in the order of arrival; who has the fewest comes first, so that nobody waits for a noisy one.
fn by_tenant(marks: Vec<Mark>) -> Vec<(TenantId, Vec<Mark>)> {
    let mut tenants: BTreeMap<TenantId, Vec<Mark>> = BTreeMap::new();
    for mark in marks {
        tenants.entry(mark.tenant).or_default().push(mark);
    }
    let mut tenants: Vec<_> = tenants.into_iter().collect();
    for (_, marks) in &mut tenants {
        marks.sort_unstable_by_key(|mark| mark.seq);
    }
    tenants.sort_by_key(|(_, marks)| marks.len());
    tenants
}

/// Cuts marks into portions whose events fit into memory together.
fn portions(marks: Vec<Mark>) -> Vec<Vec<Mark>> {
    let mut portions: Vec<Vec<Mark>> = Vec::new();
    let mut bytes = usize::MAX;
    for mark in marks {
        let size = usize::try_from(mark.bytes).unwrap_or(0);
        match portions.last_mut() {
            Some(portion) if bytes.saturating_add(size) <= BATCH_BYTES => {
                bytes += size;
                portion.push(mark);
            }
            _ => {
                bytes = size;
                portions.push(vec![mark]);
            }
        }
    }
    portions
}
