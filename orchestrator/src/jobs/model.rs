use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use connector_core::{IdGenerator, TraceContext};
use serde::de::DeserializeOwned;

use super::store;
use crate::{
    app::AppState,
    db::TenantTx,
    ids::{JobId, TenantId},
};

/// A claimed job.
#[derive(Debug, Clone)]
pub struct Job {
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// Its id.
    pub id: JobId,
    /// What it does.
    pub kind: String,
    /// What it is about; goes to the tool, so that it can tell a repeat.
    pub key: String,
    /// What it needs to know.
    pub payload: serde_json::Value,
    /// How often it was begun, this time included.
    pub attempts: i32,
    /// The number of this claim.
    pub(super) fence: i64,
    /// Where in which trace it was enqueued.
    pub(super) traceparent: Option<String>,
    /// What the trace's tools said along.
    pub(super) tracestate: Option<String>,
}

impl Job {
    /// What the job needs to know.
    ///
    /// # Errors
    /// [`JobError::Permanent`] where it was written by a version that meant something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        serde_json::from_value(self.payload.clone())
            .map_err(|error| JobError::Permanent(format!("the payload can't be read: {error}")))
    }

    /// The context of this attempt, in the trace in which the job was enqueued.
    pub(super) fn trace(&self, ids: &dyn IdGenerator) -> TraceContext {
        let enqueued = self.traceparent.as_deref();
        let enqueued = enqueued.and_then(|parent| TraceContext::parse(parent, self.tracestate.as_deref()));
        enqueued.map_or_else(|| TraceContext::begin(ids), |enqueued| enqueued.child(ids))
    }

    /// Whether it was begun before: then it may have had its effect elsewhere, and its worker may have died before it could
    /// say so. The number goes up in a transaction of its own before each attempt.
    pub fn is_repeat(&self) -> bool {
        self.attempts > 1
    }

    /// Marks the job as done in the transaction of its effect: both, or neither.
    ///
    /// # Errors
    /// [`JobError::LeaseLost`] where another worker has taken the job over; then the transaction must not be committed.
    pub async fn complete(&self, tx: &mut TenantTx) -> Result<(), JobError> {
        if store::complete(tx, self).await? { Ok(()) } else { Err(JobError::LeaseLost) }
    }
}

/// What a job has done about its own completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It marked itself as done in its own transaction.
    Committed,
    /// It had nothing to write: mark it as done.
    Nothing,
}

/// Why a job didn't end.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// It may work later.
    #[error("{message}")]
    Retry {
        /// Not before this time has passed, where the tool said so.
        after: Option<Duration>,
        /// What happened.
        message: String,
    },
    /// It will not work, however often it is tried.
    #[error("{0}")]
    Permanent(String),
    /// Another worker has taken it over.
    #[error("the lease was lost to another worker")]
    LeaseLost,
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

impl From<connector_core::ConnectorError> for JobError {
    fn from(error: connector_core::ConnectorError) -> Self {
        use connector_core::ErrorKind;
        let message = crate::http::problem::ErrorChain(&error).to_string();
        match error.kind {
            // What is set up wrongly, an administrator can mend; meanwhile the job waits.
            ErrorKind::Transient
            | ErrorKind::Ambiguous
            | ErrorKind::Unauthorised
            | ErrorKind::Misconfigured => Self::Retry { after: error.retry_after, message },
            ErrorKind::Permanent => Self::Permanent(message),
        }
    }
}

/// Runs a kind of job.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Does it. Must be safe to repeat: a crash after the effect and before the commit leads to another attempt.
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError>;

    /// The longest wait before another attempt, unless what is called asks for more; none for that of all jobs.
    fn longest_wait(&self) -> Option<TimeDelta> {
        None
    }
}
