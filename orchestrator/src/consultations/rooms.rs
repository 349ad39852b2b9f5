//! A room at Jitsi's server exists within its consultation, or not at all. That server knows rooms and no tenants.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::{model::Consultation, service::ConsultationError, store};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::Permission,
    db::TenantTx,
    realtime::{self, EventType},
};

/// A room that may be.
#[derive(Debug)]
pub(super) struct Reserved {
    /// The consultation.
    pub consultation: Consultation,
    /// Until when.
    pub closes_at: DateTime<Utc>,
    /// Whether it was reserved before, and not released since.
    pub is_known: bool,
}

/// The name of a room as we know it: without the tenant of Jitsi's before it.
fn bare(room: &str) -> String {
    room.rsplit_once(']').map_or(room, |(_, room)| room).to_lowercase()
}

/// The consultation of a room, locked until the transaction ends.
async fn lock(state: &AppState, room: &str) -> Result<Option<(TenantTx, Consultation)>, sqlx::Error> {
    let found = store::of_room(&mut state.database.system().await?, &bare(room)).await?;
    let Some((tenant, id)) = found else { return Ok(None) };
    let mut tx = state.database.worker_tx(tenant).await?;
    if !store::lock(&mut tx, tenant, id).await? {
        return Ok(None);
    }
    Ok(store::find(&mut tx, &[tenant], id).await?.map(|consultation| (tx, consultation)))
}

/// Writes that the room was opened or closed.
async fn apply(tx: &mut TenantTx, after: &Consultation, action: &'static str) -> Result<(), sqlx::Error> {
    // The row is locked: nobody else has written it since.
    store::update(tx, after).await?;
    let new = json!({ "roomOpenedAt": after.room_opened_at, "roomClosedAt": after.room_closed_at, "version": after.version });
    let change = Change {
        action,
        resource: "consultation",
        resource_id: after.id.to_string(),
        old_values: None,
        new_values: Some(new),
        metadata: None,
    };
    audit::record(tx, change).await?;
    realtime::append(tx, EventType::ConsultationUpdated, Permission::ConsultationRead, after.id.0).await
}

/// Says whether a room may be opened now, and notes that it is.
///
/// # Errors
/// [`ConsultationError`].
pub(super) async fn reserve(state: &AppState, room: &str) -> Result<Reserved, ConsultationError> {
    let (mut tx, before) = lock(state, room).await?.ok_or(ConsultationError::NotFound)?;
    let now = tx.now();
    let closes_at = before.room_closes_at(now)?;
    let Some(after) = before.room_opened(now, now) else {
        return Ok(Reserved { consultation: before, closes_at, is_known: true });
    };
    apply(&mut tx, &after, "consultation.room_opened").await?;
    tx.commit().await?;
    Ok(Reserved { consultation: after, closes_at, is_known: false })
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
    Ok(Reserved { consultation, closes_at, is_known: true })
}

/// Notes that a room is gone. Said again, it changes nothing.
///
/// # Errors
/// [`ConsultationError`].
pub(super) async fn release(state: &AppState, room: &str) -> Result<(), ConsultationError> {
    let (mut tx, before) = lock(state, room).await?.ok_or(ConsultationError::NotFound)?;
    let now = tx.now();
    if let Some(after) = before.room_closed(now, now) {
        apply(&mut tx, &after, "consultation.room_closed").await?;
        tx.commit().await?;
    }
    Ok(())
}
