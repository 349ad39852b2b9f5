use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{
    apply::Told,
    failures::{Failed, Next},
};
use crate::{
    db::{SystemConnection, TenantTx},
    ids::{InboxEventId, TenantId},
    inbox::model::{Claim, Event, Mark, lanes_in},
};

/// Claims those of the lanes that nobody holds, until `until`.
///
/// Its commit waits for no disk. Where it is lost with the database's last moments, the fences are too: they go up with the time, so that
/// the next claim has others.
pub(super) async fn claim(
    connection: &mut SystemConnection,
    lanes: u16,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Claim, sqlx::Error> {
    let lanes: Vec<i16> = lanes_in(lanes).collect();
    let rows = sqlx::query!(
        r#"WITH quick AS MATERIALIZED (
             SELECT set_config('synchronous_commit', 'off', true)
         ), free AS (
             SELECT lane FROM inbox_lanes WHERE lane = ANY ($1) AND (lease_until IS NULL OR lease_until < $2)
             ORDER BY lane FOR UPDATE SKIP LOCKED
         )
         UPDATE inbox_lanes SET lease_until = $3,
                fence = greatest(inbox_lanes.fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
         FROM free CROSS JOIN quick WHERE inbox_lanes.lane = free.lane
         RETURNING inbox_lanes.lane, inbox_lanes.fence,
                   EXISTS (SELECT 1 FROM inbox_failures WHERE inbox_failures.lane = free.lane AND state = 'ready' AND run_at <= $2) AS "has_due!""#,
        &lanes,
        now,
        until,
    )
    .fetch_all(connection.connection())
    .await?;
    let has_due = rows.iter().any(|row| row.has_due);
    Ok(Claim { lanes: rows.into_iter().map(|row| (row.lane, row.fence)).collect(), has_due })
}

/// Gives claimed lanes back, and says in which of them there is something. Waits for no disk either: where it is lost, the lease runs
/// out.
pub(super) async fn release(
    connection: &mut SystemConnection,
    claim: &Claim,
    now: DateTime<Utc>,
) -> Result<Vec<i16>, sqlx::Error> {
    let (lanes, fences) = columns(claim);
    sqlx::query!(
        "WITH quick AS MATERIALIZED (
             SELECT set_config('synchronous_commit', 'off', true)
         )
         UPDATE inbox_lanes SET lease_until = NULL FROM unnest($1::smallint[], $2::bigint[]) AS claimed (lane, fence) CROSS JOIN quick
         WHERE inbox_lanes.lane = claimed.lane AND inbox_lanes.fence = claimed.fence",
        &lanes,
        &fences,
    )
    .execute(connection.connection())
    .await?;
    // Afterwards: who stored something meanwhile and found the lane taken relies on it.
    with_work(connection, &lanes, now).await
}

/// In which of the lanes there is something to do now.
pub(super) async fn with_work(
    connection: &mut SystemConnection,
    lanes: &[i16],
    now: DateTime<Utc>,
) -> Result<Vec<i16>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT lane AS "lane!" FROM unnest($1::smallint[]) AS asked (lane)
           WHERE EXISTS (SELECT 1 FROM inbox_pending WHERE inbox_pending.lane = asked.lane)
              OR EXISTS (SELECT 1 FROM inbox_failures WHERE inbox_failures.lane = asked.lane AND state = 'ready' AND run_at <= $2)"#,
        lanes,
        now,
    )
    .fetch_all(connection.connection())
    .await
}

/// The next pending marks of the lanes: about `most`, in equal shares of the tenants, each tenant's in the order of arrival.
pub(super) async fn next_marks(
    connection: &mut SystemConnection,
    claim: &Claim,
    most: i64,
) -> Result<Vec<Mark>, sqlx::Error> {
    let (lanes, _) = columns(claim);
    // From one tenant's first mark in a lane to the next tenant's: as many look-ups as there are tenants with something, however
    // much it is.
    sqlx::query_as!(
        Mark,
        r#"WITH RECURSIVE line AS (
               SELECT first.lane, first.tenant_id FROM unnest($1::smallint[]) AS asked (lane)
               CROSS JOIN LATERAL (
                   SELECT lane, tenant_id FROM inbox_pending WHERE inbox_pending.lane = asked.lane ORDER BY lane, tenant_id LIMIT 1
               ) AS first
               UNION ALL
               SELECT next.lane, next.tenant_id FROM line
               CROSS JOIN LATERAL (
                   SELECT lane, tenant_id FROM inbox_pending
                   WHERE inbox_pending.lane = line.lane AND inbox_pending.tenant_id > line.tenant_id ORDER BY lane, tenant_id LIMIT 1
               ) AS next
           )
           SELECT mark.ctid::text AS "place!", mark.lane, mark.seq, mark.tenant_id AS "tenant: _", mark.event_id AS "event: _", mark.received_at, mark.subject_key,
                  mark.bytes, mark.replay,
                  EXISTS (SELECT 1 FROM inbox_failures AS earlier
                          WHERE earlier.tenant_id = mark.tenant_id AND earlier.subject_key = mark.subject_key
                            AND earlier.state IN ('ready', 'parked')) AS "waits!"
           FROM line
           CROSS JOIN LATERAL (
               SELECT ctid, lane, seq, tenant_id, event_id, received_at, subject_key, bytes, replay FROM inbox_pending
               WHERE inbox_pending.lane = line.lane AND inbox_pending.tenant_id = line.tenant_id
               ORDER BY seq LIMIT (SELECT greatest(1, $2::bigint / count(*)) FROM line)
           ) AS mark"#,
        &lanes,
        most,
    )
    .fetch_all(connection.connection())
    .await
}

/// The failed events of the lanes that are to be tried again now, with how often each was tried and why it is to be discarded, if
/// it is.
pub(super) async fn due(
    connection: &mut SystemConnection,
    claim: &Claim,
    now: DateTime<Utc>,
    most: i64,
) -> Result<Vec<Retry>, sqlx::Error> {
    let (lanes, _) = columns(claim);
    let rows = sqlx::query!(
        r#"SELECT lane, seq, tenant_id AS "tenant: TenantId", event_id AS "event: InboxEventId", received_at, subject_key, bytes, attempts, discard_reason
           FROM inbox_failures WHERE lane = ANY ($1) AND state = 'ready' AND run_at <= $2 ORDER BY run_at, seq LIMIT $3"#,
        &lanes,
        now,
        most,
    )
    .fetch_all(connection.connection())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Retry {
            mark: Mark {
                place: String::new(),
                lane: row.lane,
                seq: row.seq,
                tenant: row.tenant,
                event: row.event,
                received_at: row.received_at,
                subject_key: row.subject_key,
                bytes: row.bytes,
                replay: false,
                waits: false,
            },
            attempts: row.attempts,
            discard_reason: row.discard_reason,
        })
        .collect())
}

/// A failed event that is to be tried again.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    pub mark: Mark,
    pub attempts: i32,
    pub discard_reason: Option<String>,
}

/// The events of these marks, all of one tenant.
pub(super) async fn events(
    connection: &mut SystemConnection,
    tenant: TenantId,
    marks: &[Mark],
) -> Result<Vec<Event>, sqlx::Error> {
    let ids: Vec<Uuid> = marks.iter().map(|mark| mark.event.0).collect();
    // The times leave out the partitions of other days.
    let from = marks.iter().map(|mark| mark.received_at).min();
    let to = marks.iter().map(|mark| mark.received_at).max();
    sqlx::query_as!(
        Event,
        r#"SELECT event.id AS "id: _", event.source_id AS "source: _", event.service, event.type AS kind,
                  event.subject, event.occurred_at, event.source_uri, event.received_at, source.account AS "account?", event.tenant_id AS "tenant: _", event.sealed_request
           FROM inbox_events AS event
           LEFT JOIN webhook_sources AS source ON source.id = event.source_id
           WHERE event.tenant_id = $1 AND event.id = ANY ($2) AND event.received_at BETWEEN $3 AND $4"#,
        tenant.0,
        &ids,
        from,
        to,
    )
    .fetch_all(connection.connection())
    .await
}

/// What was found of a claim and of its marks, in the transaction of an effect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The lanes whose fence is still the claim's; they are locked until the transaction's end, and the lease is renewed.
    pub lanes: i64,
    /// The numbers of the pending marks that were removed.
    pub removed: Vec<i64>,
}

/// Asserts the fences and removes these marks of one tenant.
pub(super) async fn hold_and_remove(
    tx: &mut TenantTx,
    claim: &Claim,
    until: DateTime<Utc>,
    tenant: TenantId,
    marks: &[&Mark],
) -> Result<Held, sqlx::Error> {
    let (lanes, fences) = columns(claim);
    // By their places: a join would be carried out as the planner guesses how many there are. Another row that has taken the place of
    // one that is gone is noticed by its number.
    let places: Vec<&str> = marks.iter().map(|mark| mark.place.as_str()).collect();
    sqlx::query_as!(
        Held,
        r#"WITH held AS (
               UPDATE inbox_lanes SET lease_until = $3 FROM unnest($1::smallint[], $2::bigint[]) AS claimed (lane, fence)
               WHERE inbox_lanes.lane = claimed.lane AND inbox_lanes.fence = claimed.fence RETURNING 1
           ), removed AS (
               DELETE FROM inbox_pending WHERE ctid = ANY ($5::text[]::tid[]) AND tenant_id = $4 RETURNING seq
           )
           SELECT (SELECT count(*) FROM held) AS "lanes!", (SELECT coalesce(array_agg(seq ORDER BY seq), '{}') FROM removed) AS "removed!""#,
        &lanes,
        &fences,
        until,
        tenant.0,
        &places as _,
    )
    .fetch_one(tx.connection())
    .await
}

/// Removes an event from the failures that are to be tried again; whether it was there.
pub(super) async fn remove_retry(tx: &mut TenantTx, mark: &Mark) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "DELETE FROM inbox_failures WHERE tenant_id = $1 AND event_id = $2 AND state = 'ready'",
        mark.tenant.0,
        mark.event.0,
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Parks events behind an earlier one of their subject.
pub(super) async fn park(tx: &mut TenantTx, marks: &[&Mark]) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let tenants: Vec<_> = marks.iter().map(|mark| mark.tenant.0).collect();
    let events: Vec<_> = marks.iter().map(|mark| mark.event.0).collect();
    let times: Vec<_> = marks.iter().map(|mark| mark.received_at).collect();
    let keys: Vec<_> = marks.iter().map(|mark| mark.subject_key).collect();
    let numbers: Vec<_> = marks.iter().map(|mark| mark.seq).collect();
    let bytes: Vec<_> = marks.iter().map(|mark| mark.bytes).collect();
    let lanes: Vec<_> = marks.iter().map(|mark| mark.lane).collect();
    sqlx::query!(
        "INSERT INTO inbox_failures (tenant_id, event_id, received_at, subject_key, seq, bytes, lane, state, attempts, run_at, updated_at)
         SELECT tenant_id, event_id, received_at, subject_key, seq, bytes, lane, 'parked', 0, $8, $8
         FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::integer[], $7::smallint[])
              AS mark (tenant_id, event_id, received_at, subject_key, seq, bytes, lane)
         ON CONFLICT (tenant_id, event_id) DO UPDATE SET state = 'parked', seq = EXCLUDED.seq, attempts = 0, updated_at = EXCLUDED.updated_at",
        &tenants,
        &events,
        &times,
        &keys,
        &numbers,
        &bytes,
        &lanes,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Puts what is parked behind a subject's failed event back among the pending, at its old place. How much it was.
pub(super) async fn unpark(tx: &mut TenantTx, mark: &Mark) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "WITH freed AS (
             DELETE FROM inbox_failures WHERE tenant_id = $1 AND subject_key = $2 AND state = 'parked'
             RETURNING seq, subject_key, received_at, tenant_id, event_id, bytes, lane
         )
         INSERT INTO inbox_pending (seq, subject_key, received_at, tenant_id, event_id, bytes, lane)
         SELECT seq, subject_key, received_at, tenant_id, event_id, bytes, lane FROM freed",
        mark.tenant.0,
        mark.subject_key,
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Writes what is to become of a failed event.
pub(super) async fn fail(tx: &mut TenantTx, failed: &Failed, next: &Next) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let mark = &failed.mark;
    sqlx::query!(
        "INSERT INTO inbox_failures (tenant_id, event_id, received_at, subject_key, seq, bytes, lane, state, attempts, run_at, cause, last_error, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
         ON CONFLICT (tenant_id, event_id) DO UPDATE SET
             state = EXCLUDED.state, seq = EXCLUDED.seq, attempts = EXCLUDED.attempts, run_at = EXCLUDED.run_at, cause = EXCLUDED.cause,
             last_error = EXCLUDED.last_error, updated_at = EXCLUDED.updated_at",
        mark.tenant.0,
        mark.event.0,
        mark.received_at,
        mark.subject_key,
        mark.seq,
        mark.bytes,
        mark.lane,
        next.state(),
        failed.attempts,
        next.run_at().unwrap_or(now),
        failed.cause.as_str(),
        failed.message,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Writes what is to become of an event that has failed once more. Whether it was still to be tried again.
pub(super) async fn fail_again(tx: &mut TenantTx, failed: &Failed, next: &Next) -> Result<bool, sqlx::Error> {
    let now = tx.now();
    let mark = &failed.mark;
    let done = sqlx::query!(
        "UPDATE inbox_failures SET state = $3, attempts = $4, run_at = $5, cause = $6, last_error = $7, updated_at = $8
         WHERE tenant_id = $1 AND event_id = $2 AND state = 'ready'",
        mark.tenant.0,
        mark.event.0,
        next.state(),
        failed.attempts,
        next.run_at().unwrap_or(now),
        failed.cause.as_str(),
        failed.message,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives an event of the transaction's tenant to another one, to be processed there, unless that one has it already.
pub(super) async fn hand_on(tx: &mut TenantTx, from: &Mark, to: TenantId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH own AS (
             SELECT id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request
             FROM inbox_events WHERE tenant_id = $1 AND id = $2 AND received_at = $3
         ), key AS (
             INSERT INTO inbox_keys (tenant_id, source_id, key_hash, event_id, received_at)
             SELECT $4, source_id, key_hash, id, received_at FROM own
             ON CONFLICT (tenant_id, source_id, key_hash) DO NOTHING
             RETURNING event_id
         ), event AS (
             INSERT INTO inbox_events (tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request)
             SELECT $4, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request
             FROM own WHERE id IN (SELECT event_id FROM key)
         )
         INSERT INTO inbox_pending (subject_key, received_at, tenant_id, event_id, bytes, lane)
         SELECT subject_key, received_at, $4, id, octet_length(sealed_request), (subject_key & 15)::smallint
         FROM own WHERE id IN (SELECT event_id FROM key)",
        from.tenant.0,
        from.event.0,
        from.received_at,
        to.0,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Discards an event that was to be tried again. Whether it was.
pub(super) async fn discard(tx: &mut TenantTx, mark: &Mark) -> Result<bool, sqlx::Error> {
    let now = tx.now();
    let done = sqlx::query!(
        "UPDATE inbox_failures SET state = 'discarded', updated_at = $3 WHERE tenant_id = $1 AND event_id = $2 AND state = 'ready'",
        mark.tenant.0,
        mark.event.0,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes down an attempt, for people.
pub(super) async fn record_attempt(
    tx: &mut TenantTx,
    mark: &Mark,
    begun_at: DateTime<Utc>,
    outcome: &str,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "INSERT INTO inbox_attempts (tenant_id, event_id, attempt, begun_at, ended_at, outcome, replay, error)
         SELECT $1, $2, coalesce(max(attempt), 0) + 1, $3, $4, $5, $6, $7 FROM inbox_attempts WHERE tenant_id = $1 AND event_id = $2",
        mark.tenant.0,
        mark.event.0,
        begun_at,
        now,
        outcome,
        mark.replay,
        error,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets that an event has failed: a replay of it has succeeded.
pub(super) async fn forget_failure(tx: &mut TenantTx, mark: &Mark) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM inbox_failures WHERE tenant_id = $1 AND event_id = $2",
        mark.tenant.0,
        mark.event.0
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Writes rows of one tenant's timeline. One that is there already has taken effect once more.
pub(super) async fn tell(tx: &mut TenantTx, tenant: TenantId, told: &[Told<'_>]) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let events: Vec<Uuid> = told.iter().map(|one| one.event.id.0).collect();
    let parts: Vec<i32> = told.iter().map(|one| one.number).collect();
    let sources: Vec<Uuid> = told.iter().map(|one| one.event.source.0).collect();
    let occurred: Vec<_> = told.iter().map(|one| one.part.occurred_at).collect();
    let services: Vec<&str> = told.iter().map(|one| one.event.service.as_str()).collect();
    let types: Vec<&str> = told.iter().map(|one| one.part.event_type.as_str()).collect();
    let subjects: Vec<&str> = told.iter().map(|one| one.part.subject.as_str()).collect();
    let uris: Vec<Option<&str>> = told.iter().map(|one| one.event.source_uri.as_deref()).collect();
    let effects: Vec<&Value> = told.iter().map(|one| &one.effects).collect();
    sqlx::query!(
        "INSERT INTO timeline AS known (tenant_id, event_id, part, source_id, occurred_at, processed_at, service, type, subject, source_uri, effects)
         SELECT $1, event_id, part, source_id, occurred_at, $11, service, type, subject, source_uri, effects
         FROM unnest($2::uuid[], $3::integer[], $4::uuid[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[], $10::jsonb[])
              AS told (event_id, part, source_id, occurred_at, service, type, subject, source_uri, effects)
         ON CONFLICT (tenant_id, event_id, part) DO UPDATE SET runs = known.runs + 1, processed_at = EXCLUDED.processed_at, effects = EXCLUDED.effects",
        tenant.0,
        &events,
        &parts,
        &sources,
        &occurred,
        &services as _,
        &types as _,
        &subjects as _,
        &uris as _,
        &effects as _,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

fn columns(claim: &Claim) -> (Vec<i16>, Vec<i64>) {
    claim.lanes.iter().copied().unzip()
}
