use chrono::{DateTime, TimeDelta, Utc};
use connector_core::TraceContext;
use serde_json::Value;

use super::model::Job;
use crate::{
    db::{SystemConnection, SystemTx, TenantTx},
    ids::{JobId, TenantId},
};

pub(super) async fn insert(
    tx: &mut TenantTx,
    id: JobId,
    kind: &str,
    key: &str,
    payload: &Value,
    run_at: DateTime<Utc>,
    trace: Option<&TraceContext>,
) -> Result<(), sqlx::Error> {
    let (tenant, now) = (tx.tenant().map(|tenant| tenant.0), tx.now());
    sqlx::query!(
        "INSERT INTO jobs (tenant_id, id, kind, key, payload, run_at, created_at, traceparent, tracestate)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT ON CONSTRAINT jobs_key DO NOTHING",
        tenant,
        id.0,
        kind,
        key,
        payload,
        run_at,
        now,
        trace.map(TraceContext::traceparent),
        trace.and_then(TraceContext::tracestate),
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

pub(super) async fn cancel(tx: &mut TenantTx, kind: &str, key: &str) -> Result<(), sqlx::Error> {
    let (tenant, now) = (tx.tenant().map(|tenant| tenant.0), tx.now());
    sqlx::query!(
        "UPDATE jobs SET state = 'cancelled', finished_at = $4 WHERE tenant_id = $1 AND kind = $2 AND key = $3 AND state = 'ready'",
        tenant,
        kind,
        key,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

pub(super) async fn is_begun(tx: &mut TenantTx, kind: &str, key: &str) -> Result<bool, sqlx::Error> {
    let tenant = tx.tenant().map(|tenant| tenant.0);
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM jobs WHERE tenant_id = $1 AND kind = $2 AND key = $3 AND state IN ('ready', 'running') AND attempts > 0
           ) AS "begun!""#,
        tenant,
        kind,
        key,
    )
    .fetch_one(tx.connection())
    .await
}

pub(super) async fn died_since(
    system: &mut SystemConnection,
    since: DateTime<Utc>,
    window_seconds: i64,
    except: &str,
) -> Result<Vec<(TenantId, i64)>, sqlx::Error> {
    let found = sqlx::query!(
        r#"SELECT DISTINCT tenant_id AS "tenant: TenantId", floor(extract(epoch FROM finished_at) / $2::bigint)::bigint AS "window!"
           FROM jobs WHERE state = 'dead' AND finished_at >= $1 AND kind <> $3"#,
        since,
        window_seconds,
        except,
    )
    .fetch_all(system.connection())
    .await?;
    Ok(found.into_iter().map(|row| (row.tenant, row.window)).collect())
}

pub(super) async fn died_between(
    tx: &mut TenantTx,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    except: &str,
) -> Result<i64, sqlx::Error> {
    let tenant = tx.tenant().map(|tenant| tenant.0);
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM jobs
           WHERE tenant_id = $1 AND state = 'dead' AND finished_at >= $2 AND finished_at < $3 AND kind <> $4"#,
        tenant,
        from,
        until,
        except,
    )
    .fetch_one(tx.connection())
    .await
}

/// Whether the job was still this claim's.
pub(super) async fn complete(tx: &mut TenantTx, job: &Job) -> Result<bool, sqlx::Error> {
    let now = tx.now();
    let done = sqlx::query!(
        "UPDATE jobs SET state = 'done', lease_until = NULL, finished_at = $4, last_error = NULL
         WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND state = 'running'",
        job.tenant.0,
        job.id.0,
        job.fence,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Claims at most `limit` jobs that are due.
pub(super) async fn claim(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    lease: TimeDelta,
    limit: i64,
) -> Result<Vec<Job>, sqlx::Error> {
    sqlx::query_as!(
        Job,
        r#"UPDATE jobs SET state = 'running', fence = jobs.fence + 1, attempts = jobs.attempts + 1, lease_until = $2
           FROM (SELECT tenant_id, id FROM jobs WHERE state = 'ready' AND run_at <= $1 ORDER BY run_at LIMIT $3 FOR UPDATE SKIP LOCKED) AS due
           WHERE jobs.tenant_id = due.tenant_id AND jobs.id = due.id
           RETURNING jobs.tenant_id AS "tenant: _", jobs.id AS "id: _", jobs.kind, jobs.key, jobs.payload, jobs.attempts, jobs.fence, jobs.traceparent, jobs.tracestate"#,
        now,
        now + lease,
        limit,
    )
    .fetch_all(tx.connection())
    .await
}

/// When the next job is due.
pub(super) async fn next_due(tx: &mut SystemTx) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!("SELECT min(run_at) FROM jobs WHERE state = 'ready'").fetch_one(tx.connection()).await
}

/// Puts a failed job back, or among the dead where `retry_at` is none. Whether it was still this claim's.
pub(super) async fn fail(
    tx: &mut SystemTx,
    job: &Job,
    now: DateTime<Utc>,
    retry_at: Option<DateTime<Utc>>,
    error: &str,
) -> Result<bool, sqlx::Error> {
    let failed = sqlx::query!(
        "UPDATE jobs SET state = CASE WHEN $4::timestamptz IS NULL THEN 'dead' ELSE 'ready' END, run_at = coalesce($4, run_at),
                finished_at = CASE WHEN $4::timestamptz IS NULL THEN $5::timestamptz END, lease_until = NULL, last_error = $6
         WHERE tenant_id = $1 AND id = $2 AND fence = $3 AND state = 'running'",
        job.tenant.0,
        job.id.0,
        job.fence,
        retry_at,
        now,
        error,
    )
    .execute(tx.connection())
    .await?;
    Ok(failed.rows_affected() == 1)
}

/// Makes the waiting jobs of a kind due.
pub(super) async fn hurry(tx: &mut SystemTx, kind: &str, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE jobs SET run_at = $2 WHERE state = 'ready' AND run_at > $2 AND kind = $1",
        kind,
        now
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Gives back the jobs of workers that died, but for those that were begun too often; how many there were.
pub(super) async fn rescue(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    most_attempts: i32,
) -> Result<u64, sqlx::Error> {
    let rescued = sqlx::query!(
        "UPDATE jobs SET state = CASE WHEN attempts < $2 THEN 'ready' ELSE 'dead' END, run_at = $1, lease_until = NULL,
                finished_at = CASE WHEN attempts < $2 THEN NULL ELSE $1 END, last_error = 'the worker stopped in the middle of it'
         WHERE state = 'running' AND lease_until < $1",
        now,
        most_attempts,
    )
    .execute(tx.connection())
    .await?;
    Ok(rescued.rows_affected())
}

/// Removes what is finished for longer than it is of interest, a little at a time.
pub(super) async fn trim(
    tx: &mut SystemTx,
    finished_before: DateTime<Utc>,
    keys_before: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM jobs USING (SELECT tenant_id, id FROM jobs WHERE state IN ('done', 'cancelled') AND finished_at < $1
                                 ORDER BY finished_at LIMIT 1000) AS old
         WHERE jobs.tenant_id = old.tenant_id AND jobs.id = old.id",
        finished_before,
    )
    .execute(tx.connection())
    .await?;
    sqlx::query!("DELETE FROM idempotency_keys WHERE created_at < $1", keys_before)
        .execute(tx.connection())
        .await?;
    Ok(())
}
