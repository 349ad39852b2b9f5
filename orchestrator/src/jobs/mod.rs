//! The queue that is also the outbox: a job is enqueued in the transaction of what it follows from, so that neither can
//! be without the other, and it carries a key, so that the tool that it calls can tell a repeat.
//!
//! States: ready → running (under a lease, with a fence) → done, or back to ready with a later time, or dead. A worker
//! that dies loses its lease, and another takes the job; the first one's late answer meets a higher fence and changes
//! nothing.
//!
//! - [`enqueue`]: in a slice's transaction.
//! - [`Handler`]: what runs a kind of job; a slice's jobs.rs has them.
//! - [`Job::complete`]: in the transaction of the job's effect.
//! - [`Worker`]: claims, runs, retries, rescues and tidies up.

mod model;
mod store;
mod worker;

pub use model::{Effect, Handler, Job, JobError};
pub use worker::{Registry, Worker};

use chrono::{DateTime, TimeDelta, Utc};
use connector_core::TraceContext;
use serde::Serialize;

use crate::{
    db::{Database, SystemConnection, TenantStatement, TenantTx},
    ids::{JobId, TenantId},
};

/// Enqueues a job of `kind` about `key`, to run from `run_at` on (now where it is none). Enqueueing the same again does
/// nothing, nor does enqueueing what goes to a tool that isn't connected. The job goes on with the trace of what enqueues it.
///
/// # Errors
/// Where the database says no.
pub async fn enqueue(
    tx: &mut TenantTx,
    kind: &'static str,
    key: &str,
    payload: &impl Serialize,
    run_at: Option<DateTime<Utc>>,
) -> Result<(), sqlx::Error> {
    if !tx.needs_job(kind) {
        return Ok(());
    }
    let payload = serde_json::to_value(payload).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let id = JobId(tx.new_id());
    let run_at = run_at.unwrap_or(tx.now());
    store::insert(tx, id, kind, key, &payload, run_at, TraceContext::current().as_ref()).await?;
    tx.enqueued();
    Ok(())
}

/// A job for a statement that writes it with all else that it does.
#[derive(Debug)]
pub struct NewJob {
    /// Its id.
    pub id: JobId,
    /// What runs it.
    pub kind: &'static str,
    /// What it is about.
    pub key: String,
    /// What it is told.
    pub payload: serde_json::Value,
    /// When it is due.
    pub run_at: DateTime<Utc>,
}

impl NewJob {
    /// As [`enqueue`] would write it; none where the job goes to a tool that isn't connected.
    ///
    /// # Errors
    /// Where the payload isn't JSON.
    pub fn of(
        statement: &TenantStatement,
        kind: &'static str,
        key: String,
        payload: &impl Serialize,
        run_at: Option<DateTime<Utc>>,
    ) -> Result<Option<Self>, sqlx::Error> {
        if !statement.needs_job(kind) {
            return Ok(None);
        }
        let payload = serde_json::to_value(payload).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        let run_at = run_at.unwrap_or(statement.now());
        Ok(Some(Self { id: JobId(statement.new_id()), kind, key, payload, run_at }))
    }
}

/// Takes back a job that hasn't begun. One that runs finds out by itself that there is nothing left to do.
///
/// # Errors
/// Where the database says no.
pub async fn cancel(tx: &mut TenantTx, kind: &'static str, key: &str) -> Result<(), sqlx::Error> {
    store::cancel(tx, kind, key).await
}

/// Whether a job was begun and isn't done: it may have had its effect elsewhere, and nobody knows yet.
///
/// # Errors
/// Where the database can't be asked.
pub async fn is_begun(tx: &mut TenantTx, kind: &'static str, key: &str) -> Result<bool, sqlx::Error> {
    store::is_begun(tx, kind, key).await
}

/// In which windows jobs failed for good since `since`, but for those of a kind: whose, and the window's number, counted in
/// lengths of `window` since 1970.
///
/// # Errors
/// Where the database can't be asked.
pub async fn died_since(
    system: &mut SystemConnection,
    since: DateTime<Utc>,
    window: TimeDelta,
    except: &str,
) -> Result<Vec<(TenantId, i64)>, sqlx::Error> {
    store::died_since(system, since, window.num_seconds(), except).await
}

/// How many of the tenant's jobs failed for good from `from` on and before `until`, but for those of a kind.
///
/// # Errors
/// Where the database can't be asked.
pub async fn died_between(
    tx: &mut TenantTx,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    except: &str,
) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(store::died_between(tx, from, until, except).await?).unwrap_or(0))
}

/// Lets all jobs of a kind that wait for another attempt be tried now.
///
/// # Errors
/// Where the database says no.
pub async fn hurry(database: &Database, kind: &'static str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let mut tx = database.system_tx().await?;
    store::hurry(&mut tx, kind, now).await?;
    tx.commit().await?;
    database.wakeups().slot_freed();
    Ok(())
}
