use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::model::{
    Attempt, Delivery, DeliveryFilter, DeliveryState, DisabledBecause, Endpoint, EndpointState, Outcome,
};
use crate::{
    db::TenantTx,
    ids::{DeliveryId, EndpointId, TenantId},
};

// Endpoints, as people see and change them.

pub(super) async fn insert(tx: &mut TenantTx, endpoint: &Endpoint) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO webhook_endpoints (tenant_id, id, url, description, event_types, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)",
        endpoint.tenant_id.0,
        endpoint.id.0,
        endpoint.url,
        endpoint.description,
        &endpoint.event_types,
        endpoint.created_at,
    )
    .execute(tx.connection())
    .await?;
    // From the newest event on: what commits after this has a higher number.
    sqlx::query!(
        "INSERT INTO webhook_endpoint_lanes (tenant_id, endpoint_id, position, due_at)
         VALUES ($1, $2, coalesce((SELECT last_sequence FROM event_streams WHERE tenant_id = $1), 0), $3)",
        endpoint.tenant_id.0,
        endpoint.id.0,
        endpoint.created_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// How many endpoints the tenant has; another that is made at the same time waits until this transaction ends.
pub(super) async fn count_locked(tx: &mut TenantTx, tenant: TenantId) -> Result<i64, sqlx::Error> {
    let lock = i64::from_be_bytes(tenant.0.as_bytes().first_chunk().copied().unwrap_or_default());
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", lock).fetch_one(tx.connection()).await?;
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM webhook_endpoints WHERE tenant_id = $1"#,
        tenant.0
    )
    .fetch_one(tx.connection())
    .await
}

/// The endpoint with this id in one of `tenants`.
pub(super) async fn find(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    id: EndpointId,
) -> Result<Option<Endpoint>, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let now = tx.now();
    sqlx::query_as!(
        Endpoint,
        r#"SELECT endpoint.id AS "id: _", endpoint.tenant_id AS "tenant_id: _", url, description, event_types, state AS "state: EndpointState",
                  disabled_because AS "disabled_because: DisabledBecause", disabled_at, lane.failing_since AS "failing_since?",
                  lane.succeeded_at AS "succeeded_at?",
                  (SELECT max(expires_at) FROM webhook_endpoint_secrets AS secret
                   WHERE secret.tenant_id = endpoint.tenant_id AND secret.endpoint_id = endpoint.id AND expires_at > $3) AS rotating_until,
                  version, created_at, updated_at
           FROM webhook_endpoints AS endpoint
           LEFT JOIN webhook_endpoint_lanes AS lane ON lane.tenant_id = endpoint.tenant_id AND lane.endpoint_id = endpoint.id
           WHERE endpoint.tenant_id = ANY ($1) AND endpoint.id = $2"#,
        &tenants,
        id.0,
        now,
    )
    .fetch_optional(tx.connection())
    .await
}

/// One more than the limit, newest first.
pub(super) async fn list(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    before: Option<EndpointId>,
    limit: u32,
) -> Result<Vec<Endpoint>, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let now = tx.now();
    sqlx::query_as!(
        Endpoint,
        r#"SELECT endpoint.id AS "id: _", endpoint.tenant_id AS "tenant_id: _", url, description, event_types, state AS "state: EndpointState",
                  disabled_because AS "disabled_because: DisabledBecause", disabled_at, lane.failing_since AS "failing_since?",
                  lane.succeeded_at AS "succeeded_at?",
                  (SELECT max(expires_at) FROM webhook_endpoint_secrets AS secret
                   WHERE secret.tenant_id = endpoint.tenant_id AND secret.endpoint_id = endpoint.id AND expires_at > $4) AS rotating_until,
                  version, created_at, updated_at
           FROM webhook_endpoints AS endpoint
           LEFT JOIN webhook_endpoint_lanes AS lane ON lane.tenant_id = endpoint.tenant_id AND lane.endpoint_id = endpoint.id
           WHERE endpoint.tenant_id = ANY ($1) AND endpoint.id < $2 ORDER BY endpoint.id DESC LIMIT $3"#,
        &tenants,
        before.map_or(Uuid::max(), |id| id.0),
        i64::from(limit) + 1,
        now,
    )
    .fetch_all(tx.connection())
    .await
}

/// The URLs of these endpoints.
pub(super) async fn urls(
    tx: &mut TenantTx,
    tenant: TenantId,
    ids: &[EndpointId],
) -> Result<HashMap<EndpointId, String>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id: EndpointId", url FROM webhook_endpoints WHERE tenant_id = $1 AND id = ANY ($2)"#,
        tenant.0,
        &ids
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.url)).collect())
}

/// Locks the endpoint until this transaction ends; whether it is there.
pub(super) async fn lock(tx: &mut TenantTx, tenant: TenantId, id: EndpointId) -> Result<bool, sqlx::Error> {
    let locked = sqlx::query!(
        "SELECT version FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
        tenant.0,
        id.0
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(locked.is_some())
}

/// Writes what a change has changed. Whether the row was still at the version that it started from.
pub(super) async fn update(tx: &mut TenantTx, after: &Endpoint) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query!(
        "UPDATE webhook_endpoints SET url = $4, description = $5, event_types = $6, state = $7, disabled_because = $8, disabled_at = $9,
                version = $10, updated_at = $11
         WHERE tenant_id = $1 AND id = $2 AND version = $3",
        after.tenant_id.0,
        after.id.0,
        after.version - 1,
        after.url,
        after.description,
        &after.event_types,
        match after.state {
            EndpointState::Active => "active",
            EndpointState::Disabled => "disabled",
        },
        after.disabled_because.map(DisabledBecause::as_str),
        after.disabled_at,
        after.version,
        after.updated_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Removes an endpoint with its secrets and its lane; whether it was there. Its deliveries stay for now.
pub(super) async fn delete(tx: &mut TenantTx, tenant: TenantId, id: EndpointId) -> Result<bool, sqlx::Error> {
    let deleted =
        sqlx::query!("DELETE FROM webhook_endpoints WHERE tenant_id = $1 AND id = $2", tenant.0, id.0)
            .execute(tx.connection())
            .await?;
    Ok(deleted.rows_affected() == 1)
}

/// Removes some deliveries of an endpoint that was removed; how many.
pub(super) async fn purge(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: EndpointId,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query!(
        "DELETE FROM webhook_deliveries WHERE tenant_id = $1 AND id IN (
             SELECT id FROM webhook_deliveries WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY id LIMIT $3
         )",
        tenant.0,
        id.0,
        limit,
    )
    .execute(tx.connection())
    .await?;
    Ok(deleted.rows_affected())
}

/// Adds a secret, lets those before it expire at `expire`, and forgets those that have.
pub(super) async fn add_secret(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
    sealed: &[u8],
    expire: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let (id, now) = (tx.new_id(), tx.now());
    sqlx::query!(
        "UPDATE webhook_endpoint_secrets SET expires_at = $3 WHERE tenant_id = $1 AND endpoint_id = $2 AND expires_at IS NULL",
        tenant.0,
        endpoint.0,
        expire,
    )
    .execute(tx.connection())
    .await?;
    sqlx::query!(
        "DELETE FROM webhook_endpoint_secrets WHERE tenant_id = $1 AND endpoint_id = $2 AND expires_at <= $3",
        tenant.0,
        endpoint.0,
        now,
    )
    .execute(tx.connection())
    .await?;
    sqlx::query!(
        "INSERT INTO webhook_endpoint_secrets (tenant_id, endpoint_id, id, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        tenant.0,
        endpoint.0,
        id,
        sealed,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// How many secrets sign.
pub(super) async fn count_secrets(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
) -> Result<i64, sqlx::Error> {
    let now = tx.now();
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM webhook_endpoint_secrets WHERE tenant_id = $1 AND endpoint_id = $2 AND (expires_at IS NULL OR expires_at > $3)"#,
        tenant.0,
        endpoint.0,
        now,
    )
    .fetch_one(tx.connection())
    .await
}

/// The sealed secrets that sign, the newest first.
pub(super) async fn secrets(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    let now = tx.now();
    sqlx::query_scalar!(
        "SELECT sealed FROM webhook_endpoint_secrets WHERE tenant_id = $1 AND endpoint_id = $2 AND (expires_at IS NULL OR expires_at > $3) ORDER BY id DESC",
        tenant.0,
        endpoint.0,
        now,
    )
    .fetch_all(tx.connection())
    .await
}

// What people do to lanes and deliveries.

/// Has a lane looked at now.
pub(super) async fn make_due(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "UPDATE webhook_endpoint_lanes SET due_at = $3 WHERE tenant_id = $1 AND endpoint_id = $2 AND due_at > $3",
        tenant.0,
        endpoint.0,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets how it went so far: the endpoint is another one, or gets another chance.
pub(super) async fn forgive(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "UPDATE webhook_endpoint_lanes SET failing_since = NULL, not_before = NULL, due_at = least(due_at, $3) WHERE tenant_id = $1 AND endpoint_id = $2",
        tenant.0,
        endpoint.0,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Says in the lane whether the endpoint is delivered to.
pub(super) async fn set_active(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
    active: bool,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE webhook_endpoint_lanes SET active = $3 WHERE tenant_id = $1 AND endpoint_id = $2",
        tenant.0,
        endpoint.0,
        active,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Moves a lane on to the newest events of the log, of which `keep` are left before it.
pub(super) async fn catch_up(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
    keep: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE webhook_endpoint_lanes
         SET position = greatest(position, coalesce((SELECT last_sequence FROM event_streams WHERE tenant_id = $1), 0) - $3)
         WHERE tenant_id = $1 AND endpoint_id = $2",
        tenant.0,
        endpoint.0,
        keep,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Gives up what is still to be sent.
pub(super) async fn skip_pending(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "UPDATE webhook_deliveries SET state = 'failed', next_attempt_at = NULL, finished_at = $3, last_outcome = $4, last_status = NULL
         WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'pending'",
        tenant.0,
        endpoint.0,
        now,
        Outcome::Skipped.as_str(),
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// A delivery that is new.
#[derive(Debug)]
pub(super) struct NewDelivery {
    pub id: DeliveryId,
    /// The event's number in the log; none for a test.
    pub sequence: Option<i64>,
    pub message_id: String,
    pub event_type: String,
    pub body: String,
}

/// Writes deliveries, to be sent at once. An event of which the endpoint has one gets no other.
pub(super) async fn insert_deliveries(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
    deliveries: Vec<NewDelivery>,
) -> Result<u64, sqlx::Error> {
    let now = tx.now();
    let (mut ids, mut sequences, mut messages, mut types, mut bodies) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for delivery in deliveries {
        ids.push(delivery.id.0);
        sequences.push(delivery.sequence);
        messages.push(delivery.message_id);
        types.push(delivery.event_type);
        bodies.push(delivery.body);
    }
    let inserted = sqlx::query!(
        "INSERT INTO webhook_deliveries (tenant_id, id, endpoint_id, sequence, message_id, event_type, body, next_attempt_at, created_at)
         SELECT $1, new.id, $2, new.sequence, new.message_id, new.event_type, new.body, $3, $3
         FROM unnest($4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[]) AS new (id, sequence, message_id, event_type, body)
         ON CONFLICT ON CONSTRAINT webhook_deliveries_event DO NOTHING",
        tenant.0,
        endpoint.0,
        now,
        &ids,
        sequences.as_slice() as &[Option<i64>],
        &messages,
        &types,
        &bodies,
    )
    .execute(tx.connection())
    .await?;
    Ok(inserted.rows_affected())
}

/// One more than the limit, newest first.
pub(super) async fn deliveries(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
    filter: &DeliveryFilter,
) -> Result<Vec<Delivery>, sqlx::Error> {
    sqlx::query_as!(
        Delivery,
        r#"SELECT id AS "id: _", endpoint_id AS "endpoint_id: _", message_id, event_type, state AS "state: DeliveryState", attempts, next_attempt_at,
                  last_outcome AS "last_outcome: Outcome", last_status, created_at, finished_at
           FROM webhook_deliveries
           WHERE tenant_id = $1 AND endpoint_id = $2 AND id < $3 AND ($4::text IS NULL OR state = $4) AND ($5::text IS NULL OR event_type = $5)
           ORDER BY id DESC LIMIT $6"#,
        tenant.0,
        endpoint.0,
        filter.before.map_or(Uuid::max(), |id| id.0),
        filter.state.map(DeliveryState::as_str),
        filter.event_type,
        i64::from(filter.limit) + 1,
    )
    .fetch_all(tx.connection())
    .await
}

pub(super) async fn delivery(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
    id: DeliveryId,
) -> Result<Option<(Delivery, String)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT id AS "id: DeliveryId", endpoint_id AS "endpoint_id: EndpointId", message_id, event_type, state AS "state: DeliveryState", attempts,
                  next_attempt_at, last_outcome AS "last_outcome: Outcome", last_status, created_at, finished_at, body
           FROM webhook_deliveries WHERE tenant_id = $1 AND endpoint_id = $2 AND id = $3"#,
        tenant.0,
        endpoint.0,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.map(|row| {
        let delivery = Delivery {
            id: row.id,
            endpoint_id: row.endpoint_id,
            message_id: row.message_id,
            event_type: row.event_type,
            state: row.state,
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at,
            last_outcome: row.last_outcome,
            last_status: row.last_status,
            created_at: row.created_at,
            finished_at: row.finished_at,
        };
        (delivery, row.body)
    }))
}

/// The attempts of a delivery, the first one first; the latest hundred.
pub(super) async fn attempts(
    tx: &mut TenantTx,
    tenant: TenantId,
    delivery: DeliveryId,
) -> Result<Vec<Attempt>, sqlx::Error> {
    let mut attempts = sqlx::query_as!(
        Attempt,
        r#"SELECT number, started_at, outcome AS "outcome: Outcome", status, duration_ms
           FROM webhook_delivery_attempts WHERE tenant_id = $1 AND delivery_id = $2 ORDER BY number DESC LIMIT 100"#,
        tenant.0,
        delivery.0,
    )
    .fetch_all(tx.connection())
    .await?;
    attempts.reverse();
    Ok(attempts)
}

/// Has a delivery sent again; whether it wasn't pending.
pub(super) async fn redeliver(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: DeliveryId,
) -> Result<bool, sqlx::Error> {
    let now = tx.now();
    let updated = sqlx::query!(
        "UPDATE webhook_deliveries SET state = 'pending', failures = 0, next_attempt_at = $3, finished_at = NULL WHERE tenant_id = $1 AND id = $2 AND state <> 'pending'",
        tenant.0,
        id.0,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Has all sent again that were made since then and failed, the oldest first, at most `limit`; how many.
pub(super) async fn redeliver_failed(
    tx: &mut TenantTx,
    tenant: TenantId,
    endpoint: EndpointId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let now = tx.now();
    let updated = sqlx::query!(
        "UPDATE webhook_deliveries AS delivery SET state = 'pending', failures = 0, next_attempt_at = $4, finished_at = NULL
         FROM (SELECT id FROM webhook_deliveries
               WHERE tenant_id = $1 AND endpoint_id = $2 AND state = 'failed' AND created_at >= $3
               ORDER BY created_at LIMIT $5 FOR UPDATE) AS failed
         WHERE delivery.tenant_id = $1 AND delivery.id = failed.id",
        tenant.0,
        endpoint.0,
        since,
        now,
        limit,
    )
    .execute(tx.connection())
    .await?;
    Ok(updated.rows_affected())
}
