use std::collections::HashMap;

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
