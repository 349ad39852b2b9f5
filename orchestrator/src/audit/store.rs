use serde_json::Value;

use super::model::{AuditEntry, AuditFilter};
use crate::{db::TenantTx, ids::AuditId};

#[expect(clippy::too_many_arguments, reason = "a row's columns, named at the only two places that call it")]
pub(super) async fn insert(
    tx: &mut TenantTx,
    id: AuditId,
    action: &str,
    resource: &str,
    resource_id: &str,
    old_values: Option<&Value>,
    new_values: Option<&Value>,
    metadata: &Value,
) -> Result<(), sqlx::Error> {
    let (tenant, user, now) = (tx.tenant(), tx.actor().user(), tx.now());
    sqlx::query!(
        "INSERT INTO audit_logs (tenant_id, id, action, resource, resource_id, user_id, old_values, new_values, metadata, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        tenant.map(|tenant| tenant.0),
        id.0,
        action,
        resource,
        resource_id,
        user.map(|user| user.0),
        old_values,
        new_values,
        metadata,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// One more than the limit, so that the caller knows whether there are more.
pub(super) async fn list(tx: &mut TenantTx, filter: &AuditFilter) -> Result<Vec<AuditEntry>, sqlx::Error> {
    let tenants: Vec<uuid::Uuid> = filter.tenants.iter().map(|tenant| tenant.0).collect();
    let (resource, resource_id) = filter.resource.clone().unzip();
    sqlx::query_as!(
        AuditEntry,
        r#"SELECT entry.id AS "id: _", entry.action, entry.resource, entry.resource_id, entry.user_id AS "user_id: _",
                  people.name AS "user_name?", entry.tenant_id AS "tenant_id: _", entry.old_values, entry.new_values, entry.metadata, entry.created_at
           FROM unnest($1::uuid[]) AS tenant (id)
           CROSS JOIN LATERAL (
               SELECT id, tenant_id, action, resource, resource_id, user_id, old_values, new_values, metadata, created_at
               FROM audit_logs
               WHERE tenant_id = tenant.id
                 AND audit_logs.id < $2
                 AND ($3::text IS NULL OR action = $3)
                 AND ($4::uuid IS NULL OR user_id = $4)
                 AND ($5::text IS NULL OR (resource = $5 AND resource_id = $6))
                 AND ($7::timestamptz IS NULL OR created_at >= $7)
                 AND ($8::timestamptz IS NULL OR created_at < $8)
               ORDER BY audit_logs.id DESC
               LIMIT $9
           ) AS entry
           LEFT JOIN people ON people.tenant_id = entry.tenant_id AND people.user_id = entry.user_id
           ORDER BY entry.id DESC
           LIMIT $9"#,
        &tenants,
        filter.before.map_or(uuid::Uuid::max(), |id| id.0),
        filter.action,
        filter.user.map(|user| user.0),
        resource,
        resource_id,
        filter.from,
        filter.to,
        i64::from(filter.limit) + 1,
    )
    .fetch_all(tx.connection())
    .await
}

/// The actions that the tenant's trail has, in alphabetical order.
///
/// # Errors
/// Where the database can't be asked.
pub async fn actions(tx: &mut TenantTx, tenant: crate::ids::TenantId) -> Result<Vec<String>, sqlx::Error> {
    // From each action to the next by the index: a trail is long, and its actions are few.
    sqlx::query_scalar!(
        r#"WITH RECURSIVE known (action) AS (
               (SELECT action FROM audit_logs WHERE tenant_id = $1 ORDER BY action LIMIT 1)
               UNION ALL
               SELECT (SELECT entry.action FROM audit_logs AS entry WHERE entry.tenant_id = $1 AND entry.action > known.action ORDER BY entry.action LIMIT 1)
               FROM known WHERE known.action IS NOT NULL
           )
           SELECT action AS "action!" FROM known WHERE action IS NOT NULL LIMIT 200"#,
        tenant.0,
    )
    .fetch_all(tx.connection())
    .await
}
