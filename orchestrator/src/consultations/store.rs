use std::collections::HashMap;

use uuid::Uuid;

use super::model::{Attendance, Consultation, ConsultationFilter, ConsultationStatus};
use crate::{
    db::{SystemConnection, TenantTx},
    ids::{ApprovalId, ConsultationId, TenantId, UserId},
};

pub(super) async fn insert(tx: &mut TenantTx, consultation: &Consultation) -> Result<(), sqlx::Error> {
    let participants: Vec<Uuid> = consultation.participant_ids.iter().map(|user| user.0).collect();
    sqlx::query!(
        "WITH consultation AS (
             INSERT INTO consultations (tenant_id, id, title, jitsi_room, host_id, participant_ids, approval_id, scheduled_at, created_at, updated_at, duration_minutes)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)
         )
         INSERT INTO consultation_rooms (tenant_id, jitsi_room, consultation_id) VALUES ($1, $4, $2)",
        consultation.tenant_id.0,
        consultation.id.0,
        consultation.title,
        consultation.jitsi_room,
        consultation.host_id.0,
        &participants,
        consultation.approval_id.map(|id| id.0),
        consultation.scheduled_at,
        consultation.created_at,
        consultation.duration_minutes,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The consultation with this id in one of `tenants`.
pub(super) async fn find(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    id: ConsultationId,
) -> Result<Option<Consultation>, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    sqlx::query_as!(
        Consultation,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", title, jitsi_room, status AS "status: ConsultationStatus", host_id AS "host_id: _",
                  participant_ids AS "participant_ids: _", approval_id AS "approval_id: _", scheduled_at, duration_minutes, room_opened_at, room_closed_at,
                  started_at, ended_at, version, created_at, updated_at
           FROM consultations WHERE tenant_id = ANY ($1) AND id = $2"#,
        &tenants,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await
}

/// Locks the consultation until this transaction ends.
pub(super) async fn lock(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: ConsultationId,
) -> Result<bool, sqlx::Error> {
    let locked = sqlx::query!(
        "SELECT version FROM consultations WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
        tenant.0,
        id.0
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(locked.is_some())
}

/// Writes what a transition has changed. Whether the row was still at the version that it started from.
pub(super) async fn update(tx: &mut TenantTx, after: &Consultation) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query!(
        "UPDATE consultations SET status = $4, started_at = $5, ended_at = $6, version = $7, updated_at = $8, room_opened_at = $9, room_closed_at = $10
         WHERE tenant_id = $1 AND id = $2 AND version = $3",
        after.tenant_id.0,
        after.id.0,
        after.version - 1,
        after.status.as_str(),
        after.started_at,
        after.ended_at,
        after.version,
        after.updated_at,
        after.room_opened_at,
        after.room_closed_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// One more than the limit, newest first.
pub(super) async fn list(
    tx: &mut TenantTx,
    filter: &ConsultationFilter,
    reader: UserId,
) -> Result<Vec<Consultation>, sqlx::Error> {
    let all: Vec<Uuid> = filter.tenants.iter().map(|tenant| tenant.0).collect();
    let own: Vec<Uuid> = filter.own_in.iter().map(|tenant| tenant.0).collect();
    sqlx::query_as!(
        Consultation,
        r#"SELECT consultation.id AS "id: _", consultation.tenant_id AS "tenant_id: _", title, jitsi_room, status AS "status: ConsultationStatus",
                  host_id AS "host_id: _", participant_ids AS "participant_ids: _", approval_id AS "approval_id: _", scheduled_at, duration_minutes,
                  room_opened_at, room_closed_at, started_at, ended_at, version, created_at, updated_at
           FROM unnest($1::uuid[] || $2::uuid[]) AS tenant (id)
           CROSS JOIN LATERAL (
               SELECT id, tenant_id, title, jitsi_room, status, host_id, participant_ids, approval_id, scheduled_at, duration_minutes,
                      room_opened_at, room_closed_at, started_at, ended_at, version, created_at, updated_at
               FROM consultations
               WHERE tenant_id = tenant.id AND consultations.id < $3
                 AND (tenant.id = ANY ($1) OR host_id = $4 OR $4 = ANY (participant_ids))
               ORDER BY consultations.id DESC LIMIT $5
           ) AS consultation
           ORDER BY consultation.id DESC LIMIT $5"#,
        &all,
        &own,
        filter.before.map_or(Uuid::max(), |id| id.0),
        reader.0,
        i64::from(filter.limit) + 1,
    )
    .fetch_all(tx.connection())
    .await
}

/// The newest consultation about an approval.
pub(super) async fn of_approval(
    tx: &mut TenantTx,
    tenant: TenantId,
    approval: ApprovalId,
) -> Result<Option<Consultation>, sqlx::Error> {
    sqlx::query_as!(
        Consultation,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", title, jitsi_room, status AS "status: ConsultationStatus", host_id AS "host_id: _",
                  participant_ids AS "participant_ids: _", approval_id AS "approval_id: _", scheduled_at, duration_minutes, room_opened_at, room_closed_at,
                  started_at, ended_at, version, created_at, updated_at
           FROM consultations WHERE tenant_id = $1 AND approval_id = $2 ORDER BY id DESC LIMIT 1"#,
        tenant.0,
        approval.0,
    )
    .fetch_optional(tx.connection())
    .await
}

/// Whether all of these belong to the tenant.
pub(super) async fn are_members(
    tx: &mut TenantTx,
    tenant: TenantId,
    users: &[UserId],
) -> Result<bool, sqlx::Error> {
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    let found = sqlx::query_scalar!(
        r#"SELECT count(DISTINCT user_id) AS "count!" FROM memberships WHERE tenant_id = $1 AND user_id = ANY ($2)"#,
        tenant.0,
        &users,
    )
    .fetch_one(tx.connection())
    .await?;
    Ok(usize::try_from(found).is_ok_and(|found| found == users.len()))
}

/// Those that go on or are to come, those under way first; only those in which `only_of` takes part, where it is given.
pub(super) async fn upcoming(
    tx: &mut TenantTx,
    tenant: TenantId,
    only_of: Option<UserId>,
    limit: u32,
) -> Result<Vec<Consultation>, sqlx::Error> {
    sqlx::query_as!(
        Consultation,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", title, jitsi_room, status AS "status: ConsultationStatus", host_id AS "host_id: _",
                  participant_ids AS "participant_ids: _", approval_id AS "approval_id: _", scheduled_at, duration_minutes, room_opened_at, room_closed_at,
                  started_at, ended_at, version, created_at, updated_at
           FROM consultations
           WHERE tenant_id = $1 AND status IN ('active', 'scheduled') AND ($2::uuid IS NULL OR host_id = $2 OR $2 = ANY (participant_ids))
           ORDER BY status, scheduled_at NULLS LAST, id DESC LIMIT $3"#,
        tenant.0,
        only_of.map(|user| user.0),
        i64::from(limit),
    )
    .fetch_all(tx.connection())
    .await
}

/// Whose room this is.
pub(super) async fn of_room(
    system: &mut SystemConnection,
    room: &str,
) -> Result<Option<(TenantId, ConsultationId)>, sqlx::Error> {
    let found = sqlx::query!(
        r#"SELECT tenant_id AS "tenant_id: TenantId", consultation_id AS "consultation_id: ConsultationId"
           FROM consultation_rooms WHERE jitsi_room = $1"#,
        room
    )
    .fetch_optional(system.connection())
    .await?;
    Ok(found.map(|found| (found.tenant_id, found.consultation_id)))
}

/// Who was in the room, in the order in which they came.
pub(super) async fn attendance(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: ConsultationId,
) -> Result<Vec<Attendance>, sqlx::Error> {
    sqlx::query_as!(
        Attendance,
        r#"SELECT occupant, user_id AS "user_id: _", name, joined_at, left_at FROM consultation_attendance
           WHERE tenant_id = $1 AND consultation_id = $2 ORDER BY coalesce(joined_at, left_at), occupant"#,
        tenant.0,
        id.0,
    )
    .fetch_all(tx.connection())
    .await
}

/// Writes that somebody was in the room, over what was known of it.
pub(super) async fn attend(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: ConsultationId,
    attendance: &Attendance,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO consultation_attendance (tenant_id, consultation_id, occupant, user_id, name, joined_at, left_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (tenant_id, consultation_id, occupant)
         DO UPDATE SET user_id = excluded.user_id, name = excluded.name, joined_at = excluded.joined_at, left_at = excluded.left_at",
        tenant.0,
        id.0,
        attendance.occupant,
        attendance.user_id.map(|user| user.0),
        attendance.name,
        attendance.joined_at,
        attendance.left_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// The titles of these consultations.
///
/// # Errors
/// Where the database can't be asked.
pub async fn titles(
    tx: &mut TenantTx,
    tenant: TenantId,
    ids: &[ConsultationId],
) -> Result<HashMap<ConsultationId, String>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows =
        sqlx::query!(r#"SELECT id AS "id: ConsultationId", title FROM consultations WHERE tenant_id = $1 AND id = ANY ($2)"#, tenant.0, &ids)
            .fetch_all(tx.connection())
            .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.title)).collect())
}
