use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::TimeDelta;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::{
    model::{Effect, Handler, Job, JobError},
    store,
};
use crate::{app::AppState, http::problem::ErrorChain};

/// How long an attempt may take.
const ATTEMPT: Duration = Duration::from_secs(25);
/// How long a claim holds: longer than an attempt, so that no two workers run the same job.
const LEASE: TimeDelta = TimeDelta::seconds(40);
/// The queue is looked at so often even where nobody is woken.
const POLL: Duration = Duration::from_secs(1);
const RESCUE_EVERY: Duration = Duration::from_secs(10);
/// A tool may be down for days; only then does a job die that could have worked.
const GIVE_UP_AFTER_ATTEMPTS: i32 = 450;
/// A job that takes its worker down with it, again and again, is not given back once more.
const GIVE_UP_AFTER_RESCUES: i32 = 20;
/// The waits before further attempts; the last one repeats.
const WAITS_SECONDS: [i64; 5] = [1, 5, 30, 120, 600];
/// However long a tool asks to be left alone, it is tried again after this time.
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(1);
const DONE_KEPT: TimeDelta = TimeDelta::days(30);

/// Who runs which kind of job.
#[derive(Clone, Default)]
pub struct Registry(HashMap<&'static str, Arc<dyn Handler>>);

impl std::fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Registry {
    /// Adds the handler of a kind.
    #[must_use]
    pub fn with(mut self, kind: &'static str, handler: impl Handler + 'static) -> Self {
        self.0.insert(kind, Arc::new(handler));
        self
    }
}

/// Runs jobs until the process is asked to stop.
#[derive(Debug, Clone)]
pub struct Worker {
    state: AppState,
    registry: Registry,
}

impl Worker {
    /// A worker with these handlers.
    pub fn new(state: AppState, registry: Registry) -> Self {
        Self { state, registry }
    }

    /// Claims and runs jobs, `slots` at a time, until the process is asked to stop; what runs then may end.
    pub async fn run(self, slots: usize) {
        if slots == 0 {
            return;
        }
        let stop = self.state.lifecycle.soft.clone();
        let slots_in_use = Arc::new(Semaphore::new(slots));
        let mut rescue = tokio::time::interval(RESCUE_EVERY);
        while !stop.is_cancelled() {
            let free = slots_in_use.available_permits();
            let claimed = if free == 0 { Vec::new() } else { self.claim(free).await };
            let filled = !claimed.is_empty() && claimed.len() == free;
            for job in claimed {
                let Ok(permit) = Arc::clone(&slots_in_use).acquire_owned().await else { return };
                let worker = self.clone();
                self.state.lifecycle.spawn(async move {
                    worker.run_one(job).await;
                    drop(permit);
                    worker.state.database.wakeups().slot_freed();
                });
            }
            if filled && slots_in_use.available_permits() > 0 {
                continue;
            }
            // Without a free slot there is nothing to wake up for but one that becomes free.
            let pause =
                if slots_in_use.available_permits() == 0 { POLL } else { self.until_next_due().await };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.state.database.wakeups().job_ready() => {}
                () = tokio::time::sleep(pause) => {}
                _ = rescue.tick() => self.tidy_up().await,
            }
        }
    }

    /// Runs everything that is due, one after the other, and says how many there were: for tests.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn run_due(&self) -> Result<usize, sqlx::Error> {
        let mut ran = 0;
        loop {
            let mut tx = self.state.database.system_tx().await?;
            let jobs = store::claim(&mut tx, self.state.clock.now(), LEASE, 1).await?;
            tx.commit().await?;
            if jobs.is_empty() {
                return Ok(ran);
            }
            for job in jobs {
                ran += 1;
                self.run_one(job).await;
            }
        }
    }

    async fn claim(&self, free: usize) -> Vec<Job> {
        let claim = async {
            let mut tx = self.state.database.system_tx().await?;
            let jobs = store::claim(&mut tx, self.state.clock.now(), LEASE, i64::try_from(free).unwrap_or(1))
                .await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(jobs)
        };
        claim.await.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "jobs could not be claimed");
            Vec::new()
        })
    }

    async fn until_next_due(&self) -> Duration {
        let due = async {
            let mut tx = self.state.database.system_tx().await?;
            store::next_due(&mut tx).await
        };
        let wait = due.await.ok().flatten().map(|due| due - self.state.clock.now());
        wait.and_then(|wait| wait.to_std().ok())
            .map_or(POLL, |wait| wait.clamp(Duration::from_millis(5), POLL))
    }

    async fn run_one(&self, job: Job) {
        let trace = job.trace(&*self.state.ids);
        let span = tracing::error_span!(
            "job",
            kind = job.kind,
            job = %job.id,
            attempt = job.attempts,
            trace_id = trace.trace_id(),
            span_id = trace.span_id()
        );
        trace.scope(Arc::clone(&self.state.ids), self.attempt(job).instrument(span)).await;
    }

    async fn attempt(&self, job: Job) {
        let begun = std::time::Instant::now();
        let result = match self.registry.0.get(job.kind.as_str()) {
            Some(handler) => match tokio::time::timeout(ATTEMPT, handler.run(&self.state, &job)).await {
                Ok(result) => result,
                Err(_) => Err(JobError::Retry {
                    after: None,
                    message: format!("took longer than {} s", ATTEMPT.as_secs()),
                }),
            },
            // A newer version's job: that one runs it.
            None => Err(JobError::Retry {
                after: Some(Duration::from_mins(1)),
                message: "no handler for this kind".to_owned(),
            }),
        };
        let result = match result {
            Ok(Effect::Committed) => Ok(()),
            Ok(Effect::Nothing) => self.complete(&job).await,
            Err(error) => Err(error),
        };
        let outcome = if result.is_ok() { "done" } else { "failed" };
        metrics::histogram!("chancery_job_seconds", "kind" => job.kind.clone(), "outcome" => outcome)
            .record(begun.elapsed().as_secs_f64());
        if let Err(error) = result {
            self.failed(&job, error).await;
        }
    }

    async fn complete(&self, job: &Job) -> Result<(), JobError> {
        let mut tx = self.state.database.worker_tx(job.tenant).await?;
        job.complete(&mut tx).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn failed(&self, job: &Job, error: JobError) {
        let now = self.state.clock.now();
        let (retry_at, message) = match &error {
            JobError::LeaseLost => return,
            JobError::Permanent(message) => (None, message.clone()),
            JobError::Retry { after, message } => (Some(now + self.wait(job, *after)), message.clone()),
            JobError::Database(source) => (Some(now + self.wait(job, None)), ErrorChain(source).to_string()),
        };
        let retry_at = retry_at.filter(|_| job.attempts < GIVE_UP_AFTER_ATTEMPTS);
        if retry_at.is_some() {
            tracing::warn!(error = message, "a job failed and will be tried again");
        } else {
            tracing::error!(error = message, "a job failed for good");
        }
        let record = async {
            let mut tx = self.state.database.system_tx().await?;
            store::fail(&mut tx, job, now, retry_at, &message).await?;
            tx.commit().await
        };
        if let Err(error) = record.await {
            // The lease runs out, and the rescuer gives the job back.
            tracing::warn!(error = %ErrorChain(&error), "a job's failure could not be recorded");
        }
    }

    /// The wait before the next attempt, with up to a quarter of jitter so that jobs that failed together don't return
    /// together.
    fn wait(&self, job: &Job, asked: Option<Duration>) -> TimeDelta {
        let index = usize::try_from(job.attempts.saturating_sub(1)).unwrap_or(0).min(WAITS_SECONDS.len() - 1);
        let longest = self.registry.0.get(job.kind.as_str()).and_then(|handler| handler.longest_wait());
        let base = WAITS_SECONDS[index] * 1000;
        let base = longest.map_or(base, |longest| base.min(longest.num_milliseconds()));
        let mut random = [0; 2];
        self.state.ids.fill(&mut random);
        let jitter = base * i64::from(u16::from_be_bytes(random)) / (4 * i64::from(u16::MAX));
        let asked =
            asked.and_then(|asked| TimeDelta::from_std(asked).ok()).unwrap_or_default().min(LONGEST_WAIT);
        TimeDelta::milliseconds(base + jitter).max(asked)
    }

    async fn tidy_up(&self) {
        let now = self.state.clock.now();
        let tidy = async {
            let mut tx = self.state.database.system_tx().await?;
            let rescued = store::rescue(&mut tx, now, GIVE_UP_AFTER_RESCUES).await?;
            store::trim(&mut tx, now - DONE_KEPT, now - crate::http::idempotency::KEPT).await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(rescued)
        };
        match tidy.await {
            Ok(0) => {}
            Ok(rescued) => tracing::warn!(rescued, "jobs of a worker that stopped were given back"),
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "the queue could not be tidied up"),
        }
    }
}
