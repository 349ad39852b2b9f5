//! A room at Jitsi's server exists within its consultation, or not at all. That server knows rooms and no tenants.

use chrono::{DateTime, Utc};
use connector_jitsi::{Happened, Occupant, RoomEvent};
use serde_json::{Value, json};

use super::{
    jobs,
    model::{Attendance, Consultation},
    service::{self, ConsultationError},
    store,
};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::Permission,
    db::TenantTx,
    ids::UserId,
    realtime::{self, EventType},
};

/// A room that may be.
#[derive(Debug)]
pub(super) struct Reserved {
    /// The consultation.
    pub consultation: Consultation,
    /// Until when.
    pub closes_at: DateTime<Utc>,
}

/// The name of a room as we know it: without the tenant of Jitsi's before it.
fn bare(room: &str) -> String {
    room.rsplit_once(']').map_or(room, |(_, room)| room).to_lowercase()
}

/// The consultation of a room, locked until the transaction ends.
pub(super) async fn lock(
    state: &AppState,
    room: &str,
) -> Result<Option<(TenantTx, Consultation)>, sqlx::Error> {
    let found = store::of_room(&mut state.database.system().await?, &bare(room)).await?;
    let Some((tenant, id)) = found else { return Ok(None) };
    let mut tx = state.database.worker_tx(tenant).await?;
    if !store::lock(&mut tx, tenant, id).await? {
        return Ok(None);
    }
    Ok(store::find(&mut tx, &[tenant], id).await?.map(|consultation| (tx, consultation)))
}

/// Writes that the room was opened or closed.
async fn write(tx: &mut TenantTx, after: &Consultation, action: &'static str) -> Result<(), sqlx::Error> {
    // The row is locked: nobody else has written it since.
    store::update(tx, after).await?;
    let new = json!({ "roomOpenedAt": after.room_opened_at, "roomClosedAt": after.room_closed_at, "version": after.version });
    record(tx, after, action, new).await?;
    jobs::when_empty(tx, after).await
}

async fn record(
    tx: &mut TenantTx,
    consultation: &Consultation,
    action: &'static str,
    new: Value,
) -> Result<(), sqlx::Error> {
    let change = Change {
        action,
        resource: "consultation",
        resource_id: consultation.id.to_string(),
        old_values: None,
        new_values: Some(new),
        metadata: None,
    };
    audit::record(tx, change).await.map(drop)
}

/// The same where it is all that happened.
async fn apply(tx: &mut TenantTx, after: &Consultation, action: &'static str) -> Result<(), sqlx::Error> {
    write(tx, after, action).await?;
    realtime::append(tx, EventType::ConsultationUpdated, Permission::ConsultationRead, after.id.0).await
}

/// Says whether a room may be opened now, and notes that it is. Nobody asks where there is one: what was there is gone.
///
/// # Errors
/// [`ConsultationError`].
pub(super) async fn reserve(state: &AppState, room: &str) -> Result<Reserved, ConsultationError> {
    let (mut tx, before) = lock(state, room).await?.ok_or(ConsultationError::NotFound)?;
    let now = tx.now();
    let closes_at = before.room_closes_at(now)?;
    let after = before.room_reserved(now);
    apply(&mut tx, &after, "consultation.room_opened").await?;
    tx.commit().await?;
    Ok(Reserved { consultation: after, closes_at })
}

/// A room that was reserved before.
///
/// # Errors
/// [`ConsultationError`].
pub(super) async fn reserved(state: &AppState, room: &str) -> Result<Reserved, ConsultationError> {
    let (tx, consultation) = lock(state, room).await?.ok_or(ConsultationError::NotFound)?;
    if !consultation.is_room_open() {
        return Err(ConsultationError::NotFound);
    }
    let closes_at = consultation.room_closes_at(tx.now())?;
    Ok(Reserved { consultation, closes_at })
}

/// Notes that a room is gone that was reserved at `reserved_at`, in whole milliseconds. Said again, or once it is opened again, it
/// changes nothing.
///
/// # Errors
/// [`ConsultationError`].
pub(super) async fn release(
    state: &AppState,
    room: &str,
    reserved_at: Option<i64>,
) -> Result<(), ConsultationError> {
    let (mut tx, before) = lock(state, room).await?.ok_or(ConsultationError::NotFound)?;
    let now = tx.now();
    if let Some(after) = before.room_released(reserved_at, now) {
        apply(&mut tx, &after, "consultation.room_closed").await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Takes in what Jitsi's server tells of a room. It may come late, twice and in any order.
///
/// # Errors
/// Where the database says no.
pub(super) async fn observe(
    tx: &mut TenantTx,
    before: Consultation,
    event: &RoomEvent,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let mut latest = before.clone();
    let mut changed = Vec::new();
    let known = store::attendance(tx, before.tenant_id, before.id).await?;
    match &event.happened {
        Happened::Opened => {
            if let Some(after) = latest.room_opened(event.at, now) {
                write(tx, &after, "consultation.room_opened").await?;
                latest = after;
            }
        }
        Happened::Joined(occupant) | Happened::Left(occupant) => changed.extend(merged(&known, occupant)),
        Happened::Closed(occupants) => {
            changed.extend(occupants.iter().filter_map(|occupant| merged(&known, occupant)));
            // Who isn't told to have left, has: there is no room any more.
            let told = |one: &Attendance| occupants.iter().any(|occupant| occupant.occupant == one.occupant);
            let still_there = |one: &&Attendance| {
                one.left_at.is_none() && one.joined_at.is_some_and(|joined| joined < event.at) && !told(one)
            };
            let gone = known.iter().filter(still_there);
            changed.extend(gone.map(|one| Attendance { left_at: Some(event.at), ..one.clone() }));
            if let Some(after) = latest.room_closed(event.at, now) {
                write(tx, &after, "consultation.room_closed").await?;
                latest = after;
            }
        }
    }
    for attendance in &changed {
        store::attend(tx, before.tenant_id, before.id, attendance).await?;
        let action = if attendance.left_at.is_some() { "consultation.left" } else { "consultation.joined" };
        let new = json!({
            "userId": attendance.user_id, "name": attendance.name, "joinedAt": attendance.joined_at, "leftAt": attendance.left_at,
        });
        record(tx, &before, action, new).await?;
    }
    // Jitsi opens rooms before anybody is in them: it is people who start it.
    let came_at = changed.iter().filter_map(|one| one.joined_at).min();
    if let Some(at) = came_at
        && let Ok(Some(started)) = latest.started(at.min(now))
    {
        service::write_transition(tx, &latest, &started, "consultation.started").await?;
        realtime::append(tx, EventType::ConsultationStarted, Permission::ConsultationRead, before.id.0)
            .await?;
    } else if latest.version != before.version || !changed.is_empty() {
        realtime::append(tx, EventType::ConsultationUpdated, Permission::ConsultationRead, before.id.0)
            .await?;
    }
    Ok(())
}

/// What is known of an occupant with what is told of them now; none where that is nothing new.
fn merged(known: &[Attendance], told: &Occupant) -> Option<Attendance> {
    let told = Attendance {
        occupant: told.occupant.clone(),
        user_id: told.id.as_deref().and_then(|id| id.parse().ok()).map(UserId),
        name: told.name.clone(),
        joined_at: told.joined_at,
        left_at: told.left_at,
    };
    let Some(before) = known.iter().find(|one| one.occupant == told.occupant) else {
        return (told.joined_at.is_some() || told.left_at.is_some()).then_some(told);
    };
    let after = Attendance {
        user_id: before.user_id.or(told.user_id),
        name: if before.name.is_empty() { told.name } else { before.name.clone() },
        joined_at: before.joined_at.into_iter().chain(told.joined_at).min(),
        left_at: before.left_at.into_iter().chain(told.left_at).max(),
        occupant: told.occupant,
    };
    (after != *before).then_some(after)
}
