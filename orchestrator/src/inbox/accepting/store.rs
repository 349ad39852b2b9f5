use chrono::{DateTime, NaiveDate, Utc};
use sqlx::Executor as _;
use uuid::Uuid;

use crate::{
    db::{Database, SystemLink},
    ids::InboxEventId,
    inbox::{
        errors,
        model::{Incoming, lane},
    },
};

/// A connection of its own for who stores.
pub(super) async fn connect(database: &Database) -> Result<SystemLink, sqlx::Error> {
    let mut link = database.system_link().await?;
    // How many there are in an array isn't known when a statement is planned. The planner expects a few and would compare each
    // with each.
    link.connection().execute("SET enable_nestloop = off").await?;
    Ok(link)
}

/// Events as columns, in their order.
struct Columns<'a> {
    tenants: Vec<Uuid>,
    ids: Vec<Uuid>,
    times: Vec<DateTime<Utc>>,
    sources: Vec<Uuid>,
    subject_keys: Vec<i64>,
    occurred: Vec<Option<DateTime<Utc>>>,
    services: Vec<&'a str>,
    types: Vec<&'a str>,
    subjects: Vec<&'a str>,
    deliveries: Vec<Option<&'a str>>,
    uris: Vec<Option<&'a str>>,
    hashes: Vec<&'a [u8]>,
    requests: Vec<&'a [u8]>,
    bytes: Vec<i32>,
    lanes: Vec<i16>,
}

impl<'a> Columns<'a> {
    fn of(events: &[&'a Incoming]) -> Self {
        fn all<'a, T>(events: &[&'a Incoming], column: impl Fn(&'a Incoming) -> T) -> Vec<T> {
            events.iter().map(|event| column(event)).collect()
        }
        Self {
            tenants: all(events, |event| event.tenant.0),
            ids: all(events, |event| event.id.0),
            times: all(events, |event| event.received_at),
            sources: all(events, |event| event.source.0),
            subject_keys: all(events, |event| event.subject_key),
            occurred: all(events, |event| event.identified.occurred_at),
            services: all(events, |event| event.service.as_str()),
            types: all(events, |event| event.identified.event_type.as_str()),
            subjects: all(events, |event| event.identified.subject.as_str()),
            deliveries: all(events, |event| event.identified.delivery_id.as_deref()),
            uris: all(events, |event| event.identified.source_uri.as_deref()),
            hashes: all(events, |event| event.identified.key_hash.as_slice()),
            requests: all(events, |event| event.sealed_request.as_slice()),
            bytes: all(events, |event| i32::try_from(event.sealed_request.len()).unwrap_or(i32::MAX)),
            lanes: all(events, |event| lane(event.subject_key)),
        }
    }
}

/// Stores events with their keys and their pending marks, where no key is known: whether it did. One statement, and one commit, or
/// nothing. It has less to do than [`insert`], as long as nothing comes twice.
pub(super) async fn insert_new(link: &mut SystemLink, events: &[&Incoming]) -> Result<bool, sqlx::Error> {
    let told = Columns::of(events);
    // All replicas take keys in the same order: none waits for another in a circle.
    let done = sqlx::query!(
        "WITH told AS MATERIALIZED (
             SELECT tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request, bytes, lane, number
             FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::uuid[], $5::bigint[], $6::timestamptz[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bytea[], $13::bytea[],
                         $14::integer[], $15::smallint[])
                  WITH ORDINALITY AS told (tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request, bytes, lane, number)
         ), key AS (
             INSERT INTO inbox_keys (tenant_id, source_id, key_hash, event_id, received_at)
             SELECT tenant_id, source_id, key_hash, id, received_at FROM told ORDER BY tenant_id, source_id, key_hash
         ), event AS (
             INSERT INTO inbox_events (tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request)
             SELECT tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request FROM told
         )
         INSERT INTO inbox_pending (subject_key, received_at, tenant_id, event_id, bytes, lane)
         SELECT subject_key, received_at, tenant_id, id, bytes, lane FROM told ORDER BY number",
        &told.tenants,
        &told.ids,
        &told.times,
        &told.sources,
        &told.subject_keys,
        &told.occurred as _,
        &told.services as _,
        &told.types as _,
        &told.subjects as _,
        &told.deliveries as _,
        &told.uris as _,
        &told.hashes as _,
        &told.requests as _,
        &told.bytes,
        &told.lanes,
    )
    .execute(link.connection())
    .await;
    match done {
        Ok(_) => Ok(true),
        // By its key, or, where it is sent again after a lost answer, by its id.
        Err(error) if errors::is_known(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Stores events with their keys and their pending marks, but for those whose key is known: how many were new. One statement, and
/// one commit.
pub(super) async fn insert(link: &mut SystemLink, events: &[&Incoming]) -> Result<usize, sqlx::Error> {
    // All replicas take keys in the same order: none waits for another in a circle.
    let mut sorted = events.to_vec();
    sorted.sort_unstable_by_key(|event| (event.tenant, event.source, event.identified.key_hash));
    let (key, told) = (Columns::of(&sorted), Columns::of(events));
    let done = sqlx::query!(
        "WITH key AS (
             INSERT INTO inbox_keys (tenant_id, source_id, key_hash, event_id, received_at)
             SELECT tenant_id, source_id, key_hash, event_id, received_at
             FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::timestamptz[]) AS told (tenant_id, source_id, key_hash, event_id, received_at)
             ON CONFLICT (tenant_id, source_id, key_hash) DO NOTHING
             RETURNING event_id
         ), event AS (
             INSERT INTO inbox_events (tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request)
             SELECT tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request
             FROM unnest($6::uuid[], $7::uuid[], $8::timestamptz[], $9::uuid[], $10::bigint[], $11::timestamptz[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::bytea[], $18::bytea[])
                  AS told (tenant_id, id, received_at, source_id, subject_key, occurred_at, service, type, subject, delivery_id, source_uri, key_hash, sealed_request)
             WHERE id IN (SELECT event_id FROM key)
         )
         INSERT INTO inbox_pending (subject_key, received_at, tenant_id, event_id, bytes, lane)
         SELECT subject_key, received_at, tenant_id, id, bytes, lane
         FROM unnest($6::uuid[], $7::uuid[], $8::timestamptz[], $10::bigint[], $19::integer[], $20::smallint[])
              WITH ORDINALITY AS told (tenant_id, id, received_at, subject_key, bytes, lane, number)
         WHERE id IN (SELECT event_id FROM key)
         ORDER BY number",
        &key.tenants,
        &key.sources,
        &key.hashes as _,
        &key.ids,
        &key.times,
        &told.tenants,
        &told.ids,
        &told.times,
        &told.sources,
        &told.subject_keys,
        &told.occurred as _,
        &told.services as _,
        &told.types as _,
        &told.subjects as _,
        &told.deliveries as _,
        &told.uris as _,
        &told.hashes as _,
        &told.requests as _,
        &told.bytes,
        &told.lanes,
    )
    .execute(link.connection())
    .await?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// The ids under which the keys of these events are known, in their order.
pub(super) async fn known(
    link: &mut SystemLink,
    events: &[&Incoming],
) -> Result<Vec<Option<InboxEventId>>, sqlx::Error> {
    let tenants: Vec<_> = events.iter().map(|event| event.tenant.0).collect();
    let sources: Vec<_> = events.iter().map(|event| event.source.0).collect();
    let hashes: Vec<&[u8]> = events.iter().map(|event| event.identified.key_hash.as_slice()).collect();
    // LIMIT keeps the look-up by the index: a join would read the whole table on this connection.
    sqlx::query_scalar!(
        r#"SELECT (SELECT event_id FROM inbox_keys
                   WHERE inbox_keys.tenant_id = told.tenant_id AND inbox_keys.source_id = told.source_id AND inbox_keys.key_hash = told.key_hash
                   LIMIT 1) AS "event_id: InboxEventId"
           FROM unnest($1::uuid[], $2::uuid[], $3::bytea[]) WITH ORDINALITY AS told (tenant_id, source_id, key_hash, number)
           ORDER BY number"#,
        &tenants,
        &sources,
        &hashes as _,
    )
    .fetch_all(link.connection())
    .await
}

/// Counts how often events came again.
pub(super) async fn count_duplicates(
    database: &Database,
    repeated: &[(Incoming, i32)],
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let tenants: Vec<_> = repeated.iter().map(|(event, _)| event.tenant.0).collect();
    let sources: Vec<_> = repeated.iter().map(|(event, _)| event.source.0).collect();
    let hashes: Vec<&[u8]> = repeated.iter().map(|(event, _)| event.identified.key_hash.as_slice()).collect();
    let counts: Vec<_> = repeated.iter().map(|(_, count)| *count).collect();
    let mut connection = database.system().await?;
    sqlx::query!(
        "UPDATE inbox_keys SET duplicates = inbox_keys.duplicates + told.count, last_duplicate_at = $5
         FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::integer[]) AS told (tenant_id, source_id, key_hash, count)
         WHERE inbox_keys.tenant_id = told.tenant_id AND inbox_keys.source_id = told.source_id AND inbox_keys.key_hash = told.key_hash",
        &tenants,
        &sources,
        &hashes as _,
        &counts,
        now,
    )
    .execute(connection.connection())
    .await?;
    Ok(())
}

/// Makes the partitions of so many days from this one on, where they are missing.
pub(super) async fn make_partitions(
    link: &mut SystemLink,
    first: NaiveDate,
    days: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!("SELECT make_inbox_partitions($1, $2)", first, days)
        .fetch_one(link.connection())
        .await?;
    Ok(())
}
