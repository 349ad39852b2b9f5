use std::collections::HashMap;

use uuid::Uuid;

use super::model::Mapped;
use crate::{
    db::{SystemTx, TenantTx},
    ids::{SourceId, TenantId},
};

/// The mappings of a source, whoever's it is.
pub(in crate::sources) async fn of_source(
    tx: &mut SystemTx,
    source: SourceId,
) -> Result<Vec<Mapped>, sqlx::Error> {
    sqlx::query_as!(
        Mapped,
        r#"SELECT inbox_id AS inbox, mapped_tenant_id AS "tenant: _", created_at FROM webhook_source_mappings
           WHERE source_id = $1 ORDER BY inbox_id"#,
        source.0,
    )
    .fetch_all(tx.connection())
    .await
}

/// The mappings of a source of this tenant.
pub(super) async fn list(
    tx: &mut TenantTx,
    tenant: TenantId,
    source: SourceId,
) -> Result<Vec<Mapped>, sqlx::Error> {
    sqlx::query_as!(
        Mapped,
        r#"SELECT inbox_id AS inbox, mapped_tenant_id AS "tenant: _", created_at FROM webhook_source_mappings
           WHERE tenant_id = $1 AND source_id = $2 ORDER BY inbox_id"#,
        tenant.0,
        source.0,
    )
    .fetch_all(tx.connection())
    .await
}

/// Says whose an inbox is from now on.
pub(super) async fn put(
    tx: &mut TenantTx,
    tenant: TenantId,
    source: SourceId,
    mapped: Mapped,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO webhook_source_mappings (tenant_id, source_id, inbox_id, mapped_tenant_id, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, source_id, inbox_id) DO UPDATE SET mapped_tenant_id = EXCLUDED.mapped_tenant_id, created_at = EXCLUDED.created_at",
        tenant.0,
        source.0,
        mapped.inbox,
        mapped.tenant.0,
        mapped.created_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Takes a mapping away.
pub(super) async fn delete(
    tx: &mut TenantTx,
    tenant: TenantId,
    source: SourceId,
    inbox: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM webhook_source_mappings WHERE tenant_id = $1 AND source_id = $2 AND inbox_id = $3",
        tenant.0,
        source.0,
        inbox,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The paths of these tenants, where they are known.
pub(super) async fn paths(
    tx: &mut SystemTx,
    tenants: &[TenantId],
) -> Result<HashMap<TenantId, String>, sqlx::Error> {
    let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let rows = sqlx::query!(r#"SELECT id AS "id: TenantId", path FROM tenants WHERE id = ANY ($1)"#, &ids)
        .fetch_all(tx.connection())
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.path)).collect())
}
