use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use connector_core::TraceContext;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::{
    chatwoot::{self, ProcessError},
    model::{BODY_SEALED_FOR, Claimed},
    store,
};
use crate::{app::AppState, http::problem::ErrorChain};

/// How long a claim holds; processing takes milliseconds.
const LEASE: TimeDelta = TimeDelta::seconds(30);
const ATTEMPT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_secs(1);
/// The waits before further attempts; after the last, the event is dead until somebody replays it.
const WAITS_SECONDS: [i64; 5] = [1, 5, 30, 120, 600];

/// What PostgreSQL refuses to hold, it refuses the next time too (SQLSTATE class 22, data exception).
fn is_poison(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("22"))
}

/// Processes what the inbox has accepted.
#[derive(Debug, Clone)]
pub struct Processor {
    state: AppState,
}

impl Processor {
    /// A processor for this application.
    pub fn new(state: AppState) -> Self {
        Self { state }
    }

    /// Processes until the process is asked to stop, `slots` events of different subjects at a time.
    pub async fn run(self, slots: usize) {
        if slots == 0 {
            return;
        }
        let stop = self.state.lifecycle.soft.clone();
        let in_use = Arc::new(Semaphore::new(slots));
        while !stop.is_cancelled() {
            let free = in_use.available_permits();
            let claimed = if free == 0 { Vec::new() } else { self.claim(free).await };
            let found = !claimed.is_empty();
            for event in claimed {
                let Ok(permit) = Arc::clone(&in_use).acquire_owned().await else { return };
                let processor = self.clone();
                self.state.lifecycle.spawn(async move {
                    processor.run_one(event).await;
                    drop(permit);
                    // The next event of the subject may be processed now.
                    processor.state.inbox_grown.notify_one();
                });
            }
            if found && in_use.available_permits() > 0 {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.state.inbox_grown.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    /// Processes everything that is due, and says how much there was: for tests.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn run_due(&self) -> Result<usize, sqlx::Error> {
        let mut ran = 0;
        loop {
            let mut tx = self.state.database.system_tx().await?;
            let claimed = store::claim(&mut tx, self.state.clock.now(), LEASE, 10).await?;
            tx.commit().await?;
            if claimed.is_empty() {
                return Ok(ran);
            }
            for event in claimed {
                ran += 1;
                self.run_one(event).await;
            }
        }
    }

    async fn claim(&self, free: usize) -> Vec<Claimed> {
        let claim = async {
            let mut tx = self.state.database.system_tx().await?;
            let claimed =
                store::claim(&mut tx, self.state.clock.now(), LEASE, i64::try_from(free).unwrap_or(1))
                    .await?;
            tx.commit().await?;
            Ok::<_, sqlx::Error>(claimed)
        };
        claim.await.unwrap_or_else(|error| {
            tracing::warn!(error = %ErrorChain(&error), "inbox events could not be claimed");
            Vec::new()
        })
    }

    async fn run_one(&self, event: Claimed) {
        // What comes of it goes on with the same trace.
        let trace = TraceContext::begin(&*self.state.ids);
        let span = tracing::error_span!(
            "inbox",
            event = %event.id,
            service = event.service,
            attempt = event.attempts,
            trace_id = trace.trace_id(),
            span_id = trace.span_id()
        );
        trace.scope(Arc::clone(&self.state.ids), self.attempt(event).instrument(span)).await;
    }

    async fn attempt(&self, event: Claimed) {
        let result = tokio::time::timeout(ATTEMPT, self.process(&event)).await;
        let (retry, message) = match result {
            Ok(Ok(())) => {
                metrics::counter!("chancery_inbox_processed_total", "outcome" => "done").increment(1);
                return;
            }
            Ok(Err(ProcessError::Database(error))) => (!is_poison(&error), ErrorChain(&error).to_string()),
            // Poison: however often it is tried, it stays what it is.
            Ok(Err(error)) => (false, ErrorChain(&error).to_string()),
            Err(_) => (true, format!("took longer than {} s", ATTEMPT.as_secs())),
        };
        metrics::counter!("chancery_inbox_processed_total", "outcome" => "failed").increment(1);
        let wait = usize::try_from(event.attempts - 1)
            .ok()
            .and_then(|index| WAITS_SECONDS.get(index))
            .filter(|_| retry);
        let retry_at = wait.map(|wait| self.state.clock.now() + TimeDelta::seconds(*wait));
        tracing::warn!(
            subject = event.subject,
            dead = retry_at.is_none(),
            error = message,
            "an inbox event could not be processed"
        );
        let record = async {
            let mut tx = self.state.database.system_tx().await?;
            store::fail(&mut tx, &event, retry_at, &message).await?;
            tx.commit().await
        };
        if let Err(error) = record.await {
            tracing::warn!(error = %ErrorChain(&error), "an inbox event's failure could not be recorded; its lease will run out");
        }
    }

    async fn process(&self, event: &Claimed) -> Result<(), ProcessError> {
        let mut tx = self.state.database.worker_tx(event.tenant).await?;
        // Matrix's transactions are kept as they came; nothing follows from them yet.
        if event.service == chatwoot::SERVICE {
            let body = self.state.master_key.open(BODY_SEALED_FOR, &event.sealed_body)?;
            chatwoot::process(&mut tx, &self.state.ui, event, &body).await?;
        }
        if store::complete(&mut tx, event).await? {
            tx.commit().await?;
        } else {
            tracing::info!(event = %event.id, "another worker has taken an inbox event over");
        }
        Ok(())
    }
}
