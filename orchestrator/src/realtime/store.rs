use bytes::Bytes;
use uuid::Uuid;

use super::model::{Appended, Event, EventType, LoggedEvent};
use crate::{auth::Permission, db::TenantTx, ids::TenantId};

pub(super) async fn append(
    tx: &mut TenantTx,
    event: EventType,
    permission: Permission,
    resource: Uuid,
) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().map(|tenant| tenant.0);
    let now = tx.now();
    let data = super::told(event, resource, tx.tenant());
    sqlx::query!(
        "WITH stream AS (
             INSERT INTO event_streams (tenant_id, last_sequence) VALUES ($1, 1)
             ON CONFLICT (tenant_id) DO UPDATE SET last_sequence = event_streams.last_sequence + 1
             RETURNING last_sequence
         )
         INSERT INTO events (tenant_id, sequence, type, permission, resource_id, data, created_at)
         SELECT $1, stream.last_sequence, $2, $3, $4, $5, $6 FROM stream",
        tenant,
        event.as_str(),
        permission.as_str(),
        resource,
        data,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

pub(super) async fn append_all(tx: &mut TenantTx, appended: Vec<Appended>) -> Result<(), sqlx::Error> {
    let tenant = tx.tenant().map(|tenant| tenant.0);
    let now = tx.now();
    let count = i64::try_from(appended.len()).unwrap_or(i64::MAX);
    let (mut types, mut permissions, mut resources, mut data) = (vec![], vec![], vec![], vec![]);
    for Appended { event, permission, resource, mut told } in appended {
        told.insert("type".to_owned(), event.as_str().into());
        told.insert("id".to_owned(), resource.to_string().into());
        told.insert("tenantId".to_owned(), tenant.map(|tenant| tenant.to_string()).into());
        types.push(event.as_str());
        permissions.push(permission.as_str());
        resources.push(resource);
        data.push(serde_json::Value::Object(told));
    }
    sqlx::query!(
        "WITH stream AS (
             INSERT INTO event_streams (tenant_id, last_sequence) VALUES ($1, $2)
             ON CONFLICT (tenant_id) DO UPDATE SET last_sequence = event_streams.last_sequence + $2
             RETURNING last_sequence
         )
         INSERT INTO events (tenant_id, sequence, type, permission, resource_id, data, created_at)
         SELECT $1, stream.last_sequence - $2 + appended.number, appended.type, appended.permission, appended.resource_id, appended.data, $7
         FROM stream CROSS JOIN unnest($3::text[], $4::text[], $5::uuid[], $6::jsonb[])
              WITH ORDINALITY AS appended (type, permission, resource_id, data, number)",
        tenant,
        count,
        &types as _,
        &permissions as _,
        &resources,
        &data,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The tenant's events after `after`, oldest first, at most `limit`.
pub(super) async fn after(
    tx: &mut TenantTx,
    tenant: TenantId,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT sequence, type AS event_type, permission, data FROM events WHERE tenant_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        tenant.0,
        after,
        limit,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Event {
            tenant,
            sequence: row.sequence,
            permission: Permission::from_name(&row.permission),
            frame: Bytes::from(format!(
                "event: {}\nid: {}\ndata: {}\n\n",
                row.event_type, row.sequence, row.data
            )),
        })
        .collect())
}

/// The same, not made for streams.
pub(super) async fn log(
    tx: &mut TenantTx,
    tenant: TenantId,
    after: i64,
    limit: i64,
) -> Result<Vec<LoggedEvent>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT sequence, type AS event_type, permission, data, created_at FROM events WHERE tenant_id = $1 AND sequence > $2 ORDER BY sequence LIMIT $3",
        tenant.0,
        after,
        limit,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| LoggedEvent {
            sequence: row.sequence,
            event_type: row.event_type,
            permission: Permission::from_name(&row.permission),
            data: row.data,
            created_at: row.created_at,
        })
        .collect())
}

/// The number of the tenant's newest event; 0 where there is none.
pub(super) async fn last_sequence(tx: &mut TenantTx, tenant: TenantId) -> Result<i64, sqlx::Error> {
    let last = sqlx::query_scalar!("SELECT last_sequence FROM event_streams WHERE tenant_id = $1", tenant.0)
        .fetch_optional(tx.connection())
        .await?;
    Ok(last.unwrap_or(0))
}
