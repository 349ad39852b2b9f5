use uuid::Uuid;

use crate::{
    db::TenantTx,
    ids::{InboxEventId, TenantId},
    inbox::seeing::Key,
};

/// Marks those of these events of one tenant that are done, dead or discarded to be processed again, in the order in which they
/// came. The lanes in which they are, one for each.
pub(super) async fn replay(
    tx: &mut TenantTx,
    tenant: TenantId,
    keys: &[Key],
) -> Result<Vec<i16>, sqlx::Error> {
    let now = tx.now();
    let ids: Vec<Uuid> = keys.iter().map(|key| key.id.0).collect();
    let times: Vec<_> = keys.iter().map(|key| key.received_at).collect();
    sqlx::query_scalar!(
        r#"WITH chosen AS (
               SELECT id, received_at FROM unnest($2::uuid[], $3::timestamptz[]) AS chosen (id, received_at)
           ), freed AS (
               UPDATE inbox_failures SET state = 'replaying', attempts = 0, cause = NULL, last_error = NULL, discard_reason = NULL,
                      discarded_by = NULL, updated_at = $4
               FROM chosen
               WHERE inbox_failures.tenant_id = $1 AND inbox_failures.event_id = chosen.id AND state IN ('dead', 'discarded')
               RETURNING event_id
           ), again AS (
               SELECT event.subject_key, event.received_at, event.id, octet_length(event.sealed_request) AS bytes
               FROM chosen
               JOIN inbox_events AS event ON event.tenant_id = $1 AND event.id = chosen.id AND event.received_at = chosen.received_at
               WHERE event.id IN (SELECT event_id FROM freed)
                  OR (NOT EXISTS (SELECT 1 FROM inbox_failures AS failure WHERE failure.tenant_id = $1 AND failure.event_id = event.id)
                      AND event.id NOT IN (SELECT event_id FROM inbox_pending WHERE tenant_id = $1 AND event_id = ANY ($2)))
               ORDER BY event.id
           )
           INSERT INTO inbox_pending (subject_key, received_at, tenant_id, event_id, bytes, lane, replay)
           SELECT subject_key, received_at, $1, id, bytes, (subject_key & 15)::smallint, true FROM again
           RETURNING lane"#,
        tenant.0,
        &ids,
        &times,
        now,
    )
    .fetch_all(tx.connection())
    .await
}

/// What became of an event that was to be discarded.
pub(super) struct Given {
    pub state: String,
    pub lane: i16,
}

/// Discards a failed event, or has the lane's worker do it, where it may be trying it right now. None where it hasn't failed.
pub(super) async fn discard(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: InboxEventId,
    reason: &str,
) -> Result<Option<Given>, sqlx::Error> {
    let (now, by) = (tx.now(), tx.actor().user());
    sqlx::query_as!(
        Given,
        "UPDATE inbox_failures
         SET state = CASE state WHEN 'ready' THEN state ELSE 'discarded' END,
             run_at = CASE state WHEN 'ready' THEN least(run_at, $5) ELSE run_at END,
             discard_reason = $3, discarded_by = $4, updated_at = $5
         WHERE tenant_id = $1 AND event_id = $2 AND state IN ('ready', 'parked', 'dead')
         RETURNING state, lane",
        tenant.0,
        id.0,
        reason,
        by.map(|user| user.0),
        now,
    )
    .fetch_optional(tx.connection())
    .await
}

/// Holds the inbox's commands of a tenant apart, so that nobody has the same replayed twice.
pub(super) async fn one_at_a_time(tx: &mut TenantTx, tenant: TenantId) -> Result<(), sqlx::Error> {
    let (first, _) = tenant.0.as_u64_pair();
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('inbox commands', $1))",
        i64::from_ne_bytes(first.to_ne_bytes())
    )
    .fetch_one(tx.connection())
    .await?;
    Ok(())
}
