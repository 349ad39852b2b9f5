use chrono::{DateTime, TimeDelta, Utc};

use super::model::{Accepted, Claimed};
use crate::{
    db::{SystemTx, TenantTx},
    ids::{InboxEventId, SourceId, TenantId},
};

pub(super) struct StoredSource {
    pub id: SourceId,
    pub tenant: TenantId,
    pub service: String,
    pub account: String,
    pub sealed_secrets: Vec<u8>,
}

pub(super) async fn find_source(
    tx: &mut SystemTx,
    id: SourceId,
) -> Result<Option<StoredSource>, sqlx::Error> {
    sqlx::query_as!(
        StoredSource,
        r#"SELECT id AS "id: _", tenant_id AS "tenant: _", service, account, sealed_secrets FROM webhook_sources WHERE id = $1 AND active"#,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await
}

/// The only source of a service, if there is exactly one.
pub(super) async fn only_source(tx: &mut SystemTx, service: &str) -> Result<Option<SourceId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id: SourceId" FROM webhook_sources WHERE service = $1 AND active LIMIT 2"#,
        service
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(match ids.as_slice() {
        [only] => Some(*only),
        _ => None,
    })
}

pub(super) async fn upsert_source(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: SourceId,
    service: &str,
    name: &str,
    account: &str,
    sealed_secrets: &[u8],
) -> Result<SourceId, sqlx::Error> {
    let now = tx.now();
    sqlx::query_scalar!(
        r#"INSERT INTO webhook_sources (tenant_id, id, service, name, account, sealed_secrets, created_at, updated_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
           ON CONFLICT ON CONSTRAINT webhook_sources_account DO UPDATE SET name = $4, sealed_secrets = $6, active = true, updated_at = $7
           RETURNING id AS "id: SourceId""#,
        tenant.0,
        id.0,
        service,
        name,
        account,
        sealed_secrets,
        now,
    )
    .fetch_one(tx.connection())
    .await
}

/// Stores an event with its key and its pending mark, in one statement; false where its key is known. The event's id.
pub(super) async fn accept(
    tx: &mut SystemTx,
    tenant: TenantId,
    source: SourceId,
    service: &str,
    id: InboxEventId,
    accepted: &Accepted,
    now: DateTime<Utc>,
) -> Result<(InboxEventId, bool), sqlx::Error> {
    let stored = sqlx::query_scalar!(
        r#"WITH key AS (
               INSERT INTO inbox_keys (tenant_id, source_id, key_hash, event_id, received_at) VALUES ($1, $2, $3, $4, $5)
               ON CONFLICT (tenant_id, source_id, key_hash) DO NOTHING
               RETURNING event_id
           ), event AS (
               INSERT INTO inbox_events (tenant_id, id, source_id, service, type, subject, delivery_id, sealed_body, received_at)
               SELECT $1, key.event_id, $2, $6, $7, $8, $9, $10, $5 FROM key
               RETURNING id
           )
           INSERT INTO inbox_pending (tenant_id, event_id, source_id, subject, run_at)
           SELECT $1, event.id, $2, $8, $5 FROM event
           RETURNING event_id AS "event_id: InboxEventId""#,
        tenant.0,
        source.0,
        accepted.identified.key_hash.as_slice(),
        id.0,
        now,
        service,
        accepted.identified.event_type,
        accepted.identified.subject,
        accepted.identified.delivery_id,
        accepted.sealed_body,
    )
    .fetch_optional(tx.connection())
    .await?;
    if let Some(id) = stored {
        return Ok((id, true));
    }
    let known = sqlx::query_scalar!(
        r#"SELECT event_id AS "event_id: InboxEventId" FROM inbox_keys WHERE tenant_id = $1 AND source_id = $2 AND key_hash = $3"#,
        tenant.0,
        source.0,
        accepted.identified.key_hash.as_slice(),
    )
    .fetch_one(tx.connection())
    .await?;
    Ok((known, false))
}

/// Claims at most `limit` events that are the first pending ones of their subjects.
pub(super) async fn claim(
    tx: &mut SystemTx,
    now: DateTime<Utc>,
    lease: TimeDelta,
    limit: i64,
) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        r#"WITH head AS (
               SELECT tenant_id, event_id FROM inbox_pending AS pending
               WHERE state = 'ready' AND run_at <= $1 AND (lease_until IS NULL OR lease_until < $1)
                 AND NOT EXISTS (
                     SELECT 1 FROM inbox_pending AS earlier
                     WHERE earlier.source_id = pending.source_id AND earlier.subject = pending.subject
                       AND earlier.position < pending.position AND earlier.state = 'ready'
                 )
               ORDER BY position LIMIT $3 FOR UPDATE SKIP LOCKED
           ), claimed AS (
               UPDATE inbox_pending SET fence = inbox_pending.fence + 1, attempts = inbox_pending.attempts + 1, lease_until = $2
               FROM head WHERE inbox_pending.tenant_id = head.tenant_id AND inbox_pending.event_id = head.event_id
               RETURNING inbox_pending.tenant_id, inbox_pending.event_id, inbox_pending.position, attempts, fence
           )
           SELECT claimed.tenant_id AS "tenant: _", claimed.event_id AS "id: _", inbox_events.source_id AS "source: _", inbox_events.service,
                  inbox_events.subject, inbox_events.sealed_body, webhook_sources.account, claimed.attempts, claimed.fence
           FROM claimed
           JOIN inbox_events ON inbox_events.tenant_id = claimed.tenant_id AND inbox_events.id = claimed.event_id
           JOIN webhook_sources ON webhook_sources.tenant_id = claimed.tenant_id AND webhook_sources.id = inbox_events.source_id
           ORDER BY claimed.position"#,
        now,
        now + lease,
        limit,
    )
    .fetch_all(tx.connection())
    .await
}

/// Removes the pending mark in the transaction of the event's effect. Whether it was still this claim's.
pub(super) async fn complete(tx: &mut TenantTx, claimed: &Claimed) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "DELETE FROM inbox_pending WHERE tenant_id = $1 AND event_id = $2 AND fence = $3",
        claimed.tenant.0,
        claimed.id.0,
        claimed.fence,
    )
    .execute(tx.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts a failed event back until `retry_at`, or among the dead where it is none.
pub(super) async fn fail(
    tx: &mut SystemTx,
    claimed: &Claimed,
    retry_at: Option<DateTime<Utc>>,
    error: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE inbox_pending SET state = CASE WHEN $4::timestamptz IS NULL THEN 'dead' ELSE 'ready' END, run_at = coalesce($4, run_at),
                lease_until = NULL, last_error = $5
         WHERE tenant_id = $1 AND event_id = $2 AND fence = $3",
        claimed.tenant.0,
        claimed.id.0,
        claimed.fence,
        retry_at,
        error,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// A new id that a source's URL can't be guessed by: random, not made from the time.
pub(super) fn unguessable(random: [u8; 16]) -> SourceId {
    SourceId(uuid::Builder::from_random_bytes(random).into_uuid())
}

/// Text as PostgreSQL can hold it (without NUL), cut to `most` characters.
pub(super) fn storable(text: &str, most: usize) -> String {
    text.chars().take(most).map(|letter| if letter == '\0' { '\u{fffd}' } else { letter }).collect()
}

/// A transaction id or a delivery is the same for the same source only.
pub(super) fn key_hash(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_where_its_parts_end() {
        assert_ne!(key_hash(&[b"ab", b"c"]), key_hash(&[b"a", b"bc"]));
        assert_eq!(key_hash(&[b"ab", b"c"]), key_hash(&[b"ab", b"c"]));
        assert_eq!(unguessable([7; 16]).0.get_version_num(), 4);
    }
}
