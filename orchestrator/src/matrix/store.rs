use connector_matrix::RoomId;

use crate::{
    db::{SystemConnection, TenantTx},
    ids::{TenantId, UserId},
};

/// The tenant's room for a purpose, as it was last.
pub(super) async fn room(
    tx: &mut TenantTx,
    tenant: TenantId,
    purpose: &str,
) -> Result<Option<RoomId>, sqlx::Error> {
    let room = sqlx::query_scalar!(
        "SELECT room_id FROM matrix_rooms WHERE tenant_id = $1 AND purpose = $2",
        tenant.0,
        purpose
    )
    .fetch_optional(tx.connection())
    .await?;
    // One that is no room's id any more is found again without it.
    Ok(room.and_then(|room| room.parse().ok()))
}

pub(super) async fn remember(
    tx: &mut TenantTx,
    tenant: TenantId,
    purpose: &str,
    room: &RoomId,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "INSERT INTO matrix_rooms AS known (tenant_id, purpose, room_id, updated_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, purpose) DO UPDATE SET room_id = excluded.room_id, updated_at = excluded.updated_at
         WHERE known.room_id <> excluded.room_id",
        tenant.0,
        purpose,
        room.as_str(),
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Whose room for approvals this is.
pub(super) async fn tenant_of(
    system: &mut SystemConnection,
    room: &RoomId,
) -> Result<Option<TenantId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT tenant_id AS "tenant_id: TenantId" FROM matrix_rooms WHERE room_id = $1 AND purpose = 'approvals'"#,
        room.as_str()
    )
    .fetch_optional(system.connection())
    .await
}

/// The person of the tenant with this user name.
pub(super) async fn person(
    tx: &mut TenantTx,
    tenant: TenantId,
    username: &str,
) -> Result<Option<UserId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT user_id AS "user_id: UserId" FROM people WHERE tenant_id = $1 AND username = $2 AND kind = 'person'"#,
        tenant.0,
        username
    )
    .fetch_optional(tx.connection())
    .await
}
