use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::model::{CurrentSettings, TenantSettings};
use crate::{
    auth::{TenantKind, TenantRef},
    db::TenantTx,
    ids::{TenantId, UserId},
};

/// The tenant with this id, as the mirror has it.
///
/// # Errors
/// Where the database can't be asked.
pub async fn find(tx: &mut TenantTx, tenant: TenantId) -> Result<Option<TenantRef>, sqlx::Error> {
    let row = sqlx::query!("SELECT kind, path, name FROM tenants WHERE id = $1", tenant.0)
        .fetch_optional(tx.connection())
        .await?;
    Ok(row.and_then(|row| {
        Some(TenantRef {
            id: tenant,
            kind: TenantKind::from_name(&row.kind)?,
            path: row.path,
            name: row.name,
        })
    }))
}

/// The names of these people, as the tenant last knew them.
///
/// # Errors
/// Where the database can't be asked.
pub async fn names(
    tx: &mut TenantTx,
    tenant: TenantId,
    users: &[UserId],
) -> Result<HashMap<UserId, String>, sqlx::Error> {
    let users: Vec<uuid::Uuid> = users.iter().map(|user| user.0).collect();
    let rows = sqlx::query!(
        r#"SELECT user_id AS "id: UserId", name FROM people WHERE tenant_id = $1 AND user_id = ANY ($2)"#,
        tenant.0,
        &users
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}

/// Who belongs or belonged to the tenant, by name; at most a thousand.
///
/// # Errors
/// Where the database can't be asked.
pub async fn people(tx: &mut TenantTx, tenant: TenantId) -> Result<Vec<(UserId, String)>, sqlx::Error> {
    let rows = sqlx::query!(r#"SELECT user_id AS "id: UserId", name FROM people WHERE tenant_id = $1 ORDER BY name, user_id LIMIT 1000"#, tenant.0)
        .fetch_all(tx.connection())
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}

fn current(
    tenant: TenantId,
    version: i64,
    settings: Value,
    updated_at: DateTime<Utc>,
) -> Result<CurrentSettings, sqlx::Error> {
    let settings = serde_json::from_value(settings).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    let updated_at = (version > 0).then_some(updated_at);
    Ok(CurrentSettings { tenant_id: tenant, version, updated_at, settings })
}

/// The settings of a tenant; the defaults where it has none.
pub(super) async fn settings(tx: &mut TenantTx, tenant: TenantId) -> Result<CurrentSettings, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT version, settings, updated_at FROM tenant_settings WHERE tenant_id = $1",
        tenant.0
    )
    .fetch_optional(tx.connection())
    .await?;
    match row {
        Some(row) => current(tenant, row.version, row.settings, row.updated_at),
        None => Ok(CurrentSettings {
            tenant_id: tenant,
            version: 0,
            updated_at: None,
            settings: TenantSettings::default(),
        }),
    }
}

/// The same, held against other changes until the transaction ends.
pub(super) async fn lock_settings(
    tx: &mut TenantTx,
    tenant: TenantId,
) -> Result<CurrentSettings, sqlx::Error> {
    let now = tx.now();
    // There is nothing to lock before the first change: whoever comes second waits here for the first.
    sqlx::query!(
        "INSERT INTO tenant_settings (tenant_id, version, settings, updated_at) VALUES ($1, 0, '{}', $2) ON CONFLICT (tenant_id) DO NOTHING",
        tenant.0,
        now,
    )
    .execute(tx.connection())
    .await?;
    let row = sqlx::query!(
        "SELECT version, settings, updated_at FROM tenant_settings WHERE tenant_id = $1 FOR UPDATE",
        tenant.0
    )
    .fetch_one(tx.connection())
    .await?;
    current(tenant, row.version, row.settings, row.updated_at)
}

/// Writes what [`lock_settings`] holds. Sections that this version doesn't know stay.
pub(super) async fn update_settings(tx: &mut TenantTx, after: &CurrentSettings) -> Result<(), sqlx::Error> {
    let settings =
        serde_json::to_value(&after.settings).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    let now = tx.now();
    let updated = sqlx::query!(
        "UPDATE tenant_settings SET settings = settings || $2, version = $3, updated_at = $4 WHERE tenant_id = $1",
        after.tenant_id.0,
        settings,
        after.version,
        now,
    )
    .execute(tx.connection())
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}
