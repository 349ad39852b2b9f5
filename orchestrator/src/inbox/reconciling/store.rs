use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    db::{Database, TenantTx},
    ids::{SourceId, TenantId},
};

/// How far a source was looked at.
pub(super) async fn reached(
    tx: &mut TenantTx,
    tenant: TenantId,
    source: SourceId,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT reached_at FROM inbox_cursors WHERE tenant_id = $1 AND source_id = $2",
        tenant.0,
        source.0
    )
    .fetch_optional(tx.connection())
    .await
}

/// Writes down how far a source was looked at; never less far than before.
pub(super) async fn reach(
    tx: &mut TenantTx,
    tenant: TenantId,
    source: SourceId,
    until: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO inbox_cursors AS known (tenant_id, source_id, reached_at) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id, source_id) DO UPDATE SET reached_at = greatest(known.reached_at, EXCLUDED.reached_at)",
        tenant.0,
        source.0,
        until,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Those of these keys under which nothing of these tenants' has come from the source.
pub(super) async fn unknown(
    database: &Database,
    tenants: &[TenantId],
    source: SourceId,
    hashes: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    if hashes.is_empty() {
        return Ok(Vec::new());
    }
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let mut connection = database.system().await?;
    sqlx::query_scalar!(
        r#"SELECT hash AS "hash!" FROM unnest($3::bytea[]) AS told (hash)
           WHERE NOT EXISTS (SELECT 1 FROM inbox_keys AS key WHERE key.tenant_id = ANY ($1) AND key.source_id = $2 AND key.key_hash = told.hash)"#,
        &tenants,
        source.0,
        hashes,
    )
    .fetch_all(connection.connection())
    .await
}
