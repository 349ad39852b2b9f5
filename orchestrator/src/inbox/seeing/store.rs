use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::model::{Attempt, EventFilter, EventState, InboxEvent, SourceActivity, Told};
use crate::{
    db::{SystemConnection, TenantTx},
    ids::{InboxEventId, SourceId, TenantId, UserId},
};

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inbox) struct Key {
    pub tenant: TenantId,
    pub id: InboxEventId,
    pub received_at: DateTime<Utc>,
}

/// The events of the filter, newest first: one more than the limit, so that the caller knows whether there are more.
pub(super) async fn pick(tx: &mut TenantTx, filter: &EventFilter) -> Result<Vec<Key>, sqlx::Error> {
    match filter.state {
        None => pick_all(tx, filter).await,
        Some(EventState::Done) => pick_done(tx, filter).await,
        Some(EventState::Pending) => pick_pending(tx, filter, false).await,
        Some(EventState::Replaying) => pick_pending(tx, filter, true).await,
        Some(EventState::Retrying) => pick_failed(tx, filter, "ready").await,
        Some(state @ (EventState::Parked | EventState::Dead | EventState::Discarded)) => {
            pick_failed(tx, filter, state.as_str()).await
        }
    }
}

fn tenants(filter: &EventFilter) -> Vec<Uuid> {
    filter.tenants.iter().map(|tenant| tenant.0).collect()
}

fn before(filter: &EventFilter) -> Uuid {
    filter.before.map_or(Uuid::max(), |id| id.0)
}

fn limit(filter: &EventFilter) -> i64 {
    i64::from(filter.limit) + 1
}

/// Both ends of the time, so that the partitions of other days are left out.
fn times(filter: &EventFilter) -> (DateTime<Utc>, DateTime<Utc>) {
    // 9999 ends then.
    let end = DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    (filter.from.unwrap_or(DateTime::UNIX_EPOCH), filter.to.unwrap_or(end))
}

async fn pick_all(tx: &mut TenantTx, filter: &EventFilter) -> Result<Vec<Key>, sqlx::Error> {
    let (from, to) = times(filter);
    sqlx::query_as!(
        Key,
        r#"SELECT event.tenant_id AS "tenant: _", event.id AS "id: _", event.received_at
           FROM unnest($1::uuid[]) AS tenant (id)
           CROSS JOIN LATERAL (
               SELECT tenant_id, id, received_at FROM inbox_events
               WHERE inbox_events.tenant_id = tenant.id AND inbox_events.id < $2
                 AND ($3::uuid IS NULL OR source_id = $3) AND ($4::text IS NULL OR service = $4)
                 AND ($5::text IS NULL OR type = $5) AND ($6::text IS NULL OR subject = $6)
                 AND received_at >= $7 AND received_at < $8
               ORDER BY inbox_events.id DESC LIMIT $9
           ) AS event
           ORDER BY event.id DESC LIMIT $9"#,
        &tenants(filter),
        before(filter),
        filter.source.map(|source| source.0),
        filter.service,
        filter.event_type,
        filter.subject,
        from,
        to,
        limit(filter),
    )
    .fetch_all(tx.connection())
    .await
}

/// Done is what has neither a failure nor a mark.
async fn pick_done(tx: &mut TenantTx, filter: &EventFilter) -> Result<Vec<Key>, sqlx::Error> {
    let (from, to) = times(filter);
    sqlx::query_as!(
        Key,
        r#"SELECT event.tenant_id AS "tenant: _", event.id AS "id: _", event.received_at
           FROM inbox_events AS event
           WHERE event.tenant_id = ANY ($1) AND event.id < $2
             AND ($3::uuid IS NULL OR event.source_id = $3) AND ($4::text IS NULL OR event.service = $4)
             AND ($5::text IS NULL OR event.type = $5) AND ($6::text IS NULL OR event.subject = $6)
             AND event.received_at >= $7 AND event.received_at < $8
             AND NOT EXISTS (SELECT 1 FROM inbox_failures AS failure
                             WHERE failure.tenant_id = event.tenant_id AND failure.event_id = event.id)
             AND NOT EXISTS (SELECT 1 FROM inbox_pending AS pending
                             WHERE pending.tenant_id = event.tenant_id AND pending.event_id = event.id)
           ORDER BY event.id DESC LIMIT $9"#,
        &tenants(filter),
        before(filter),
        filter.source.map(|source| source.0),
        filter.service,
        filter.event_type,
        filter.subject,
        from,
        to,
        limit(filter),
    )
    .fetch_all(tx.connection())
    .await
}

async fn pick_pending(
    tx: &mut TenantTx,
    filter: &EventFilter,
    replay: bool,
) -> Result<Vec<Key>, sqlx::Error> {
    let (from, to) = times(filter);
    sqlx::query_as!(
        Key,
        r#"SELECT DISTINCT event.tenant_id AS "tenant: _", event.id AS "id: _", event.received_at
           FROM inbox_pending AS pending
           JOIN inbox_events AS event
             ON event.tenant_id = pending.tenant_id AND event.id = pending.event_id AND event.received_at = pending.received_at
           WHERE pending.tenant_id = ANY ($1) AND pending.event_id < $2 AND pending.replay = $10
             AND ($3::uuid IS NULL OR event.source_id = $3) AND ($4::text IS NULL OR event.service = $4)
             AND ($5::text IS NULL OR event.type = $5) AND ($6::text IS NULL OR event.subject = $6)
             AND event.received_at >= $7 AND event.received_at < $8
           ORDER BY event.id DESC LIMIT $9"#,
        &tenants(filter),
        before(filter),
        filter.source.map(|source| source.0),
        filter.service,
        filter.event_type,
        filter.subject,
        from,
        to,
        limit(filter),
        replay,
    )
    .fetch_all(tx.connection())
    .await
}

async fn pick_failed(tx: &mut TenantTx, filter: &EventFilter, state: &str) -> Result<Vec<Key>, sqlx::Error> {
    let (from, to) = times(filter);
    sqlx::query_as!(
        Key,
        r#"SELECT event.tenant_id AS "tenant: _", event.id AS "id: _", event.received_at
           FROM inbox_failures AS failure
           JOIN inbox_events AS event
             ON event.tenant_id = failure.tenant_id AND event.id = failure.event_id AND event.received_at = failure.received_at
           WHERE failure.tenant_id = ANY ($1) AND failure.event_id < $2 AND failure.state = $10
             AND ($3::uuid IS NULL OR event.source_id = $3) AND ($4::text IS NULL OR event.service = $4)
             AND ($5::text IS NULL OR event.type = $5) AND ($6::text IS NULL OR event.subject = $6)
             AND event.received_at >= $7 AND event.received_at < $8
           ORDER BY failure.event_id DESC LIMIT $9"#,
        &tenants(filter),
        before(filter),
        filter.source.map(|source| source.0),
        filter.service,
        filter.event_type,
        filter.subject,
        from,
        to,
        limit(filter),
        state,
    )
    .fetch_all(tx.connection())
    .await
}

/// The event with this id in one of `tenants`.
pub(super) async fn find(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    id: InboxEventId,
) -> Result<Option<Key>, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    sqlx::query_as!(
        Key,
        r#"SELECT tenant_id AS "tenant: _", id AS "id: _", received_at FROM inbox_events WHERE tenant_id = ANY ($1) AND id = $2"#,
        &tenants,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await
}

/// Whose an event is, for who operates the server.
pub(super) async fn tenant_of(
    connection: &mut SystemConnection,
    id: InboxEventId,
) -> Result<Option<TenantId>, sqlx::Error> {
    // One look-up a tenant: the events' index begins with it.
    sqlx::query_scalar!(
        r#"SELECT id AS "id: TenantId" FROM tenants
           WHERE EXISTS (SELECT 1 FROM inbox_events WHERE inbox_events.tenant_id = tenants.id AND inbox_events.id = $1)"#,
        id.0,
    )
    .fetch_optional(connection.connection())
    .await
}

struct Row {
    id: InboxEventId,
    tenant_id: TenantId,
    source_id: SourceId,
    source_name: Option<String>,
    service: String,
    event_type: String,
    subject: String,
    delivery_id: Option<String>,
    occurred_at: Option<DateTime<Utc>>,
    received_at: DateTime<Utc>,
    failure: Option<String>,
    attempts: Option<i32>,
    run_at: Option<DateTime<Utc>>,
    cause: Option<String>,
    last_error: Option<String>,
    discard_reason: Option<String>,
    discarded_by: Option<UserId>,
    duplicates: Option<i32>,
    last_duplicate_at: Option<DateTime<Utc>>,
    processed_at: Option<DateTime<Utc>>,
    runs: Option<i32>,
    replay: Option<bool>,
}

impl From<Row> for InboxEvent {
    fn from(row: Row) -> Self {
        let state = EventState::of(row.failure.as_deref(), row.replay);
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            source_id: row.source_id,
            source_name: row.source_name,
            service: row.service,
            event_type: row.event_type,
            subject: row.subject,
            delivery_id: row.delivery_id,
            occurred_at: row.occurred_at,
            received_at: row.received_at,
            state,
            attempts: row.attempts.unwrap_or(0),
            next_attempt_at: row.run_at.filter(|_| state == EventState::Retrying),
            cause: row.cause,
            last_error: row.last_error,
            discard_reason: row.discard_reason,
            discarded_by: row.discarded_by,
            duplicates: row.duplicates.unwrap_or(0),
            last_duplicate_at: row.last_duplicate_at,
            processed_at: row.processed_at,
            runs: row.runs.unwrap_or(0),
        }
    }
}

/// These events with where they stand, newest first.
pub(super) async fn load(tx: &mut TenantTx, keys: &[Key]) -> Result<Vec<InboxEvent>, sqlx::Error> {
    let tenants: Vec<Uuid> = keys.iter().map(|key| key.tenant.0).collect();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.id.0).collect();
    let times: Vec<DateTime<Utc>> = keys.iter().map(|key| key.received_at).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT event.id AS "id: _", event.tenant_id AS "tenant_id: _", event.source_id AS "source_id: _", source.name AS "source_name?",
                  event.service, event.type AS event_type, event.subject, event.delivery_id, event.occurred_at, event.received_at,
                  failure.state AS "failure?", failure.attempts AS "attempts?", failure.run_at AS "run_at?", failure.cause, failure.last_error,
                  failure.discard_reason, failure.discarded_by AS "discarded_by: _",
                  key.duplicates AS "duplicates?", key.last_duplicate_at, told.processed_at AS "processed_at?", told.runs AS "runs?",
                  pending.replay AS "replay?"
           FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS chosen (tenant_id, id, received_at)
           JOIN inbox_events AS event
             ON event.tenant_id = chosen.tenant_id AND event.id = chosen.id AND event.received_at = chosen.received_at
           LEFT JOIN webhook_sources AS source ON source.tenant_id = event.tenant_id AND source.id = event.source_id
           LEFT JOIN inbox_failures AS failure ON failure.tenant_id = event.tenant_id AND failure.event_id = event.id
           LEFT JOIN inbox_keys AS key
             ON key.tenant_id = event.tenant_id AND key.source_id = event.source_id AND key.key_hash = event.key_hash AND key.event_id = event.id
           LEFT JOIN timeline AS told ON told.tenant_id = event.tenant_id AND told.event_id = event.id AND told.part = 0
           LEFT JOIN (
               SELECT tenant_id, event_id, bool_or(replay) AS replay FROM inbox_pending
               WHERE tenant_id = ANY ($1) AND event_id = ANY ($2) GROUP BY tenant_id, event_id
           ) AS pending ON pending.tenant_id = event.tenant_id AND pending.event_id = event.id
           ORDER BY event.id DESC"#,
        &tenants,
        &ids,
        &times,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(InboxEvent::from).collect())
}

/// What was received, sealed.
pub(super) async fn sealed_request(tx: &mut TenantTx, key: Key) -> Result<Vec<u8>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT sealed_request FROM inbox_events WHERE tenant_id = $1 AND id = $2 AND received_at = $3",
        key.tenant.0,
        key.id.0,
        key.received_at,
    )
    .fetch_one(tx.connection())
    .await
}

pub(super) async fn attempts(tx: &mut TenantTx, key: Key) -> Result<Vec<Attempt>, sqlx::Error> {
    sqlx::query_as!(
        Attempt,
        "SELECT attempt, begun_at, ended_at, outcome, replay, error FROM inbox_attempts
         WHERE tenant_id = $1 AND event_id = $2 ORDER BY attempt DESC LIMIT 100",
        key.tenant.0,
        key.id.0,
    )
    .fetch_all(tx.connection())
    .await
}

pub(super) async fn timeline(tx: &mut TenantTx, key: Key) -> Result<Vec<Told>, sqlx::Error> {
    sqlx::query_as!(
        Told,
        "SELECT part, type AS event_type, subject, occurred_at, processed_at, effects FROM timeline
         WHERE tenant_id = $1 AND event_id = $2 ORDER BY part LIMIT 100",
        key.tenant.0,
        key.id.0,
    )
    .fetch_all(tx.connection())
    .await
}

/// How many of a tenant's events are dead; counted up to 1,000.
pub(super) async fn dead_count(tx: &mut TenantTx, tenant: TenantId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (SELECT 1 FROM inbox_failures WHERE tenant_id = $1 AND state = 'dead' LIMIT 1000) AS dead"#,
        tenant.0,
    )
    .fetch_one(tx.connection())
    .await
}

pub(super) async fn died_since(
    system: &mut SystemConnection,
    since: DateTime<Utc>,
    window_seconds: i64,
) -> Result<Vec<(TenantId, i64)>, sqlx::Error> {
    let found = sqlx::query!(
        r#"SELECT DISTINCT tenant_id AS "tenant: TenantId", floor(extract(epoch FROM updated_at) / $2::bigint)::bigint AS "window!"
           FROM inbox_failures WHERE state = 'dead' AND updated_at >= $1"#,
        since,
        window_seconds,
    )
    .fetch_all(system.connection())
    .await?;
    Ok(found.into_iter().map(|row| (row.tenant, row.window)).collect())
}

pub(super) async fn died_between(
    tx: &mut TenantTx,
    tenant: TenantId,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM inbox_failures
           WHERE tenant_id = $1 AND state = 'dead' AND updated_at >= $2 AND updated_at < $3"#,
        tenant.0,
        from,
        until,
    )
    .fetch_one(tx.connection())
    .await
}

/// How busy a tenant's sources are; those of which nothing is known are left out.
pub(super) async fn activity(
    tx: &mut TenantTx,
    tenant: TenantId,
    hour: DateTime<Utc>,
    day: DateTime<Utc>,
) -> Result<Vec<SourceActivity>, sqlx::Error> {
    // No index has the source first, which each arrival would have to pay for: the latest are looked through.
    sqlx::query_as!(
        SourceActivity,
        r#"WITH recent AS (
               SELECT source_id, count(*) FILTER (WHERE received_at >= $2) AS last_hour, count(*) FILTER (WHERE received_at >= $3) AS last_day,
                      max(received_at) AS last
               FROM (SELECT source_id, received_at FROM inbox_events WHERE tenant_id = $1 ORDER BY id DESC LIMIT 50000) AS latest
               GROUP BY source_id
           ), dead AS (
               SELECT event.source_id, count(*) AS dead
               FROM (SELECT tenant_id, event_id, received_at FROM inbox_failures WHERE tenant_id = $1 AND state = 'dead'
                     ORDER BY event_id DESC LIMIT 10000) AS failure
               JOIN inbox_events AS event
                 ON event.tenant_id = failure.tenant_id AND event.id = failure.event_id AND event.received_at = failure.received_at
               GROUP BY event.source_id
           )
           SELECT coalesce(recent.source_id, dead.source_id) AS "source!: _", coalesce(recent.last_hour, 0) AS "last_hour!",
                  coalesce(recent.last_day, 0) AS "last_day!", recent.last AS "last?", coalesce(dead.dead, 0) AS "dead!"
           FROM recent FULL JOIN dead ON dead.source_id = recent.source_id"#,
        tenant.0,
        hour,
        day,
    )
    .fetch_all(tx.connection())
    .await
}
