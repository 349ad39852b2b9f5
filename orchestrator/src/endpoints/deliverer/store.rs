use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::super::model::{DeliveryState, EndpointState, Outcome};
use crate::{
    db::{SystemTx, TenantTx},
    ids::{DeliveryId, EndpointId, TenantId},
};

/// A lane under a lease.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub tenant: TenantId,
    pub endpoint: EndpointId,
    pub fence: i64,
}

/// Has the lanes of these tenants looked at now; how many.
pub(super) async fn wake(
    tx: &mut SystemTx,
    tenants: &[TenantId],
    now: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let woken = sqlx::query!(
        "UPDATE webhook_endpoint_lanes SET due_at = $2 WHERE tenant_id = ANY ($1) AND active AND due_at > $2",
        &tenants,
        now
    )
    .execute(tx.connection())
    .await?;
    Ok(woken.rows_affected())
}

/// Has all lanes looked at now.
pub(super) async fn wake_all(tx: &mut SystemTx, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!("UPDATE webhook_endpoint_lanes SET due_at = $1 WHERE active AND due_at > $1", now)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Claims the lane that has been due for longest and is nobody's, but for those of the tenants that have enough.
pub(super) async fn claim(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    but_for: &[TenantId],
) -> Result<Option<Lane>, sqlx::Error> {
    let but_for: Vec<Uuid> = but_for.iter().map(|tenant| tenant.0).collect();
    // Who wakes it while it is held sets an earlier time, and finds it kept when it is given back.
    sqlx::query_as!(
        Lane,
        r#"UPDATE webhook_endpoint_lanes AS lane SET lease_until = $2, due_at = $2, fence = lane.fence + 1
           FROM (SELECT tenant_id, endpoint_id FROM webhook_endpoint_lanes
                 WHERE due_at <= $1 AND (lease_until IS NULL OR lease_until <= $1) AND tenant_id <> ALL ($3)
                 ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS due
           WHERE lane.tenant_id = due.tenant_id AND lane.endpoint_id = due.endpoint_id
           RETURNING lane.tenant_id AS "tenant: _", lane.endpoint_id AS "endpoint: _", lane.fence"#,
        now,
        lease_until,
        &but_for,
    )
    .fetch_optional(tx.connection())
    .await
}

/// When the next lane is due that is nobody's.
pub(super) async fn next_due(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT due_at FROM webhook_endpoint_lanes WHERE lease_until IS NULL OR lease_until <= $1 ORDER BY due_at LIMIT 1",
        now
    )
    .fetch_optional(tx.connection())
    .await
}

/// What a lane's holder finds.
#[derive(Debug)]
pub(super) struct Held {
    pub position: i64,
    pub not_before: Option<DateTime<Utc>>,
    pub failing_since: Option<DateTime<Utc>>,
    pub trimmed_at: Option<DateTime<Utc>>,
    pub url: String,
    pub event_types: Vec<String>,
    pub state: EndpointState,
}

/// Holds a lane for longer; none where it is another's by now, or the endpoint was removed.
pub(super) async fn hold(
    tx: &mut TenantTx,
    lane: &Lane,
    lease_until: DateTime<Utc>,
) -> Result<Option<Held>, sqlx::Error> {
    sqlx::query_as!(
        Held,
        r#"UPDATE webhook_endpoint_lanes AS lane
           SET lease_until = $4, due_at = CASE WHEN lane.due_at < lane.lease_until THEN lane.due_at ELSE $4 END
           FROM webhook_endpoints AS endpoint
           WHERE lane.tenant_id = $1 AND lane.endpoint_id = $2 AND lane.fence = $3 AND lane.lease_until IS NOT NULL
             AND endpoint.tenant_id = lane.tenant_id AND endpoint.id = lane.endpoint_id
           RETURNING lane.position, lane.not_before, lane.failing_since, lane.trimmed_at, endpoint.url, endpoint.event_types,
                     endpoint.state AS "state: EndpointState""#,
        lane.tenant.0,
        lane.endpoint.0,
        lane.fence,
        lease_until,
    )
    .fetch_optional(tx.connection())
    .await
}

/// Gives a lane back, to be looked at again at `due_at` or when somebody has woken it.
pub(super) async fn release(
    tx: &mut TenantTx,
    lane: &Lane,
    due_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE webhook_endpoint_lanes SET lease_until = NULL, due_at = CASE WHEN due_at < lease_until THEN least(due_at, $4) ELSE $4 END
         WHERE tenant_id = $1 AND endpoint_id = $2 AND fence = $3 AND lease_until IS NOT NULL",
        lane.tenant.0,
        lane.endpoint.0,
        lane.fence,
        due_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Says up to which event the lane has its deliveries.
pub(super) async fn advance(tx: &mut TenantTx, lane: &Lane, position: i64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE webhook_endpoint_lanes SET position = $4 WHERE tenant_id = $1 AND endpoint_id = $2 AND fence = $3",
        lane.tenant.0,
        lane.endpoint.0,
        lane.fence,
        position,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Removes deliveries of before `before`, at most `limit`, and notes when nothing was left; how many there were.
pub(super) async fn trim(
    tx: &mut TenantTx,
    lane: &Lane,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query!(
        "DELETE FROM webhook_deliveries WHERE tenant_id = $1 AND id IN (
             SELECT id FROM (SELECT id, created_at FROM webhook_deliveries WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id LIMIT $4) AS oldest
             WHERE created_at < $3
         )",
        lane.tenant.0,
        lane.endpoint.0,
        before,
        limit,
    )
    .execute(tx.connection())
    .await?
    .rows_affected();
    if i64::try_from(deleted).unwrap_or(limit) < limit {
        let now = tx.now();
        sqlx::query!(
            "UPDATE webhook_endpoint_lanes SET trimmed_at = $3 WHERE tenant_id = $1 AND endpoint_id = $2",
            lane.tenant.0,
            lane.endpoint.0,
            now
        )
        .execute(tx.connection())
        .await?;
    }
    Ok(deleted)
}

/// How many deliveries are pending, counted to `most`.
pub(super) async fn count_pending(tx: &mut TenantTx, lane: &Lane, most: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
               SELECT 1 AS one FROM webhook_deliveries WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'pending' LIMIT $3
           ) AS pending"#,
        lane.tenant.0,
        lane.endpoint.0,
        most,
    )
    .fetch_one(tx.connection())
    .await
}

/// A delivery whose time has come.
#[derive(Debug)]
pub(super) struct Due {
    pub id: DeliveryId,
    pub message_id: String,
    pub body: String,
    pub attempts: i32,
    pub failures: i32,
}

/// What is due, the longest first.
pub(super) async fn due(tx: &mut TenantTx, lane: &Lane, limit: i64) -> Result<Vec<Due>, sqlx::Error> {
    let now = tx.now();
    sqlx::query_as!(
        Due,
        r#"SELECT id AS "id: _", message_id, body, attempts, failures FROM webhook_deliveries
           WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'pending' AND next_attempt_at <= $3
           ORDER BY next_attempt_at, id LIMIT $4 FOR UPDATE"#,
        lane.tenant.0,
        lane.endpoint.0,
        now,
        limit,
    )
    .fetch_all(tx.connection())
    .await
}

/// When the next delivery is due.
pub(super) async fn next_attempt(
    tx: &mut TenantTx,
    lane: &Lane,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT min(next_attempt_at) FROM webhook_deliveries WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'pending'",
        lane.tenant.0,
        lane.endpoint.0,
    )
    .fetch_one(tx.connection())
    .await
}

/// Notes that deliveries are being sent, each with the time at which it is due again should we not get to say how it went.
pub(super) async fn begin(
    tx: &mut TenantTx,
    tenant: TenantId,
    deliveries: &[(DeliveryId, DateTime<Utc>)],
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let (ids, again): (Vec<Uuid>, Vec<DateTime<Utc>>) =
        deliveries.iter().map(|(id, again)| (id.0, *again)).unzip();
    sqlx::query!(
        "WITH begun AS (
             UPDATE webhook_deliveries AS delivery SET attempts = attempts + 1, failures = failures + 1, next_attempt_at = due.again
             FROM unnest($2::uuid[], $3::timestamptz[]) AS due (id, again)
             WHERE delivery.tenant_id = $1 AND delivery.id = due.id
             RETURNING delivery.id, delivery.attempts
         )
         INSERT INTO webhook_delivery_attempts (tenant_id, delivery_id, number, started_at) SELECT $1, id, attempts, $4 FROM begun",
        tenant.0,
        &ids,
        &again,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// What became of a delivery.
#[derive(Debug)]
pub(super) struct Became {
    pub state: DeliveryState,
    pub outcome: Outcome,
    pub status: Option<i16>,
    /// When it is sent again, if it is.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// Writes what came of an attempt. What has been sent once more since, or removed, stays as it is.
pub(super) async fn record(
    tx: &mut TenantTx,
    tenant: TenantId,
    delivery: DeliveryId,
    number: i32,
    became: &Became,
    took_ms: Option<i32>,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "UPDATE webhook_delivery_attempts SET outcome = $4, status = $5, duration_ms = $6 WHERE tenant_id = $1 AND delivery_id = $2 AND number = $3",
        tenant.0,
        delivery.0,
        number,
        became.outcome.as_str(),
        became.status,
        took_ms,
    )
    .execute(tx.connection())
    .await?;
    sqlx::query!(
        "UPDATE webhook_deliveries SET state = $4, last_outcome = $5, last_status = $6, next_attempt_at = $7,
                finished_at = CASE WHEN $4 = 'pending' THEN NULL ELSE $8::timestamptz END
         WHERE tenant_id = $1 AND id = $2 AND attempts = $3 AND state = 'pending'",
        tenant.0,
        delivery.0,
        number,
        became.state.as_str(),
        became.outcome.as_str(),
        became.status,
        became.next_attempt_at,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Notes in the lane that something succeeded.
pub(super) async fn succeeded(tx: &mut TenantTx, lane: &Lane) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "UPDATE webhook_endpoint_lanes SET failing_since = NULL, not_before = NULL, succeeded_at = $4 WHERE tenant_id = $1 AND endpoint_id = $2 AND fence = $3",
        lane.tenant.0,
        lane.endpoint.0,
        lane.fence,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Notes in the lane that something failed, and until when the endpoint asks to be left alone; since when nothing has succeeded.
pub(super) async fn failed(
    tx: &mut TenantTx,
    lane: &Lane,
    not_before: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let now = tx.now();
    let since = sqlx::query_scalar!(
        "UPDATE webhook_endpoint_lanes SET failing_since = coalesce(failing_since, $4), not_before = greatest(not_before, $5)
         WHERE tenant_id = $1 AND endpoint_id = $2 AND fence = $3 RETURNING failing_since",
        lane.tenant.0,
        lane.endpoint.0,
        lane.fence,
        now,
        not_before,
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(since.flatten())
}
