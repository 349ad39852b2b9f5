use crate::{
    auth::{TenantKind, TenantRef},
    db::TenantTx,
    ids::TenantId,
};

/// The tenant with this id, as the mirror has it.
///
/// # Errors
/// Where the database can't be asked.
pub async fn find(tx: &mut TenantTx, tenant: TenantId) -> Result<Option<TenantRef>, sqlx::Error> {
    let row = sqlx::query!("SELECT kind, path, name FROM tenants WHERE id = $1", tenant.0).fetch_optional(tx.connection()).await?;
    Ok(row.and_then(|row| {
        Some(TenantRef { id: tenant, kind: TenantKind::from_name(&row.kind)?, path: row.path, name: row.name })
    }))
}
