use uuid::Uuid;

use super::model::{Module, Opens};
use crate::{
    auth::Role,
    db::TenantTx,
    ids::{ModuleId, TenantId},
};

/// A row: roles by their names.
struct Row {
    id: ModuleId,
    tenant_id: TenantId,
    name: String,
    icon: String,
    url: String,
    opens: Opens,
    roles: Vec<String>,
    tenants: Vec<Uuid>,
    version: i64,
    created_at: chrono::DateTime<chrono::Utc>,
    updated_at: chrono::DateTime<chrono::Utc>,
}

impl From<Row> for Module {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            name: row.name,
            icon: row.icon,
            url: row.url,
            opens: row.opens,
            roles: row.roles.iter().filter_map(|name| Role::from_name(name)).collect(),
            tenants: row.tenants.into_iter().map(TenantId).collect(),
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

fn names(roles: &[Role]) -> Vec<String> {
    roles.iter().map(|role| role.as_str().to_owned()).collect()
}

fn uuids(tenants: &[TenantId]) -> Vec<Uuid> {
    tenants.iter().map(|tenant| tenant.0).collect()
}

/// Those of these tenants, by name.
pub(super) async fn list(tx: &mut TenantTx, tenants: &[TenantId]) -> Result<Vec<Module>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", name, icon, url, opens AS "opens: Opens", roles, tenants, version, created_at, updated_at
           FROM modules WHERE tenant_id = ANY ($1) ORDER BY lower(name), id"#,
        &uuids(tenants),
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(Module::from).collect())
}

/// Those of a tenant, and those that the suite gives it, by name.
pub(super) async fn shown(tx: &mut TenantTx, tenant: TenantId) -> Result<Vec<Module>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", name, icon, url, opens AS "opens: Opens", roles, tenants, version, created_at, updated_at
           FROM modules
           WHERE tenant_id = $1 OR (tenant_id = $2 AND (cardinality(tenants) = 0 OR $1 = ANY (tenants)))
           ORDER BY lower(name), id"#,
        tenant.0,
        TenantId::SUITE.0,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(Module::from).collect())
}

/// The module with this id in one of these tenants.
pub(super) async fn find(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    id: ModuleId,
) -> Result<Option<Module>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", name, icon, url, opens AS "opens: Opens", roles, tenants, version, created_at, updated_at
           FROM modules WHERE tenant_id = ANY ($1) AND id = $2"#,
        &uuids(tenants),
        id.0,
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.map(Module::from))
}

/// How many the tenant has; another that is added at the same time waits until this transaction ends.
pub(super) async fn count_locked(tx: &mut TenantTx, tenant: TenantId) -> Result<i64, sqlx::Error> {
    // Another number than that of the tenant's endpoints.
    let lock =
        i64::from_be_bytes(tenant.0.as_bytes().first_chunk().copied().unwrap_or_default()).wrapping_add(1);
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", lock).fetch_one(tx.connection()).await?;
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM modules WHERE tenant_id = $1"#, tenant.0)
        .fetch_one(tx.connection())
        .await
}

pub(super) async fn insert(tx: &mut TenantTx, module: &Module) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO modules (tenant_id, id, name, icon, url, opens, roles, tenants, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
        module.tenant_id.0,
        module.id.0,
        module.name,
        module.icon,
        module.url,
        module.opens.as_str(),
        &names(&module.roles),
        &uuids(&module.tenants),
        module.created_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Locks the module until this transaction ends; whether it is there.
pub(super) async fn lock(tx: &mut TenantTx, tenant: TenantId, id: ModuleId) -> Result<bool, sqlx::Error> {
    let locked = sqlx::query!(
        "SELECT version FROM modules WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
        tenant.0,
        id.0
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(locked.is_some())
}

/// Writes what a change has changed. Whether the row was still at the version that it started from.
pub(super) async fn update(tx: &mut TenantTx, after: &Module) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query!(
        "UPDATE modules SET name = $4, icon = $5, url = $6, opens = $7, roles = $8, tenants = $9, version = $10, updated_at = $11
         WHERE tenant_id = $1 AND id = $2 AND version = $3",
        after.tenant_id.0,
        after.id.0,
        after.version - 1,
        after.name,
        after.icon,
        after.url,
        after.opens.as_str(),
        &names(&after.roles),
        &uuids(&after.tenants),
        after.version,
        after.updated_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// Removes it. Whether it was there.
pub(super) async fn delete(tx: &mut TenantTx, tenant: TenantId, id: ModuleId) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!("DELETE FROM modules WHERE tenant_id = $1 AND id = $2", tenant.0, id.0)
        .execute(tx.connection())
        .await?;
    Ok(deleted.rows_affected() == 1)
}
