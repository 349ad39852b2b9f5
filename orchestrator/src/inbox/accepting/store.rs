use chrono::{DateTime, NaiveDate, Utc};
use sqlx::Executor as _;
use uuid::Uuid;

use crate::{
    db::{Database, SystemLink},
    ids::InboxEventId,
    inbox::model::{Incoming, lane},
};

/// A connection of its own for who stores.
pub(super) async fn connect(database: &Database) -> Result<SystemLink, sqlx::Error> {
    let mut link = database.system_link().await?;
    // How many there are in an array isn't known when a statement is planned. The planner expects a few and would compare each
    // with each.
    link.connection().execute("SET enable_nestloop = off").await?;
    Ok(link)
}

/// Stores events with their keys and their pending marks, but for those whose key is known: how many were new. One statement, and
/// one commit.
pub(super) async fn insert(link: &mut SystemLink, events: &[&Incoming]) -> Result<usize, sqlx::Error> {
    // All replicas take keys in the same order: none waits for another in a circle.
    let mut sorted = events.to_vec();
    sorted.sort_unstable_by_key(|event| (event.tenant, event.source, event.identified.key_hash));
    let keys_of = |event: fn(&Incoming) -> Uuid| sorted.iter().map(|one| event(one)).collect::<Vec<_>>();
    let key_tenants = keys_of(|event| event.tenant.0);
    let key_sources = keys_of(|event| event.source.0);
    let key_events = keys_of(|event| event.id.0);
    let key_hashes: Vec<&[u8]> = sorted.iter().map(|event| event.identified.key_hash.as_slice()).collect();
    let key_times: Vec<_> = sorted.iter().map(|event| event.received_at).collect();

    let of = |column: fn(&Incoming) -> Uuid| events.iter().map(|event| column(event)).collect::<Vec<_>>();
    let (tenants, ids, sources) =
        (of(|event| event.tenant.0), of(|event| event.id.0), of(|event| event.source.0));
    let times: Vec<_> = events.iter().map(|event| event.received_at).collect();
    let subject_keys: Vec<i64> = events.iter().map(|event| event.subject_key).collect();
    let occurred: Vec<_> = events.iter().map(|event| event.identified.occurred_at).collect();
    let services: Vec<&str> = events.iter().map(|event| event.service.as_str()).collect();
    let types: Vec<&str> = events.iter().map(|event| event.identified.event_type.as_str()).collect();
    let subjects: Vec<&str> = events.iter().map(|event| event.identified.subject.as_str()).collect();
    let deliveries: Vec<_> = events.iter().map(|event| event.identified.delivery_id.as_deref()).collect();
    let uris: Vec<_> = events.iter().map(|event| event.identified.source_uri.as_deref()).collect();
    let hashes: Vec<&[u8]> = events.iter().map(|event| event.identified.key_hash.as_slice()).collect();
    let requests: Vec<&[u8]> = events.iter().map(|event| event.sealed_request.as_slice()).collect();
    let lanes: Vec<i16> = events.iter().map(|event| lane(event.subject_key)).collect();
    let bytes: Vec<i32> =
        events.iter().map(|event| i32::try_from(event.sealed_request.len()).unwrap_or(i32::MAX)).collect();
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
        &key_tenants,
        &key_sources,
        &key_hashes as _,
        &key_events,
        &key_times,
        &tenants,
        &ids,
        &times,
        &sources,
        &subject_keys,
        &occurred as _,
        &services as _,
        &types as _,
        &subjects as _,
        &deliveries as _,
        &uris as _,
        &hashes as _,
        &requests as _,
        &bytes,
        &lanes,
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
