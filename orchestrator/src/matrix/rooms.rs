use connector_core::ConnectorError;
use connector_matrix::{EventId, RoomId, RoomSpec, RoomWarning, escape_html};

use super::store;
use crate::{
    app::AppState,
    ids::TenantId,
    jobs::{Job, JobError},
    tenants,
    tools::Matrix,
};

const SPACE: &str = "space";

/// What a room of a tenant's is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The team's: what waits and what was decided.
    Approvals,
    /// For who runs things: what failed for good.
    Operations,
}

impl Purpose {
    /// As stored, and in the room's alias.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approvals => "approvals",
            Self::Operations => "operations",
        }
    }
}

/// The tenant's room for a purpose, in the tenant's space. Each is found again and mended, or made where it isn't there; none
/// where there is no such tenant.
///
/// # Errors
/// Where the homeserver or the database doesn't answer or refuses.
pub async fn room_for(
    state: &AppState,
    matrix: &Matrix,
    tenant: TenantId,
    purpose: Purpose,
) -> Result<Option<RoomId>, JobError> {
    let remembered = (tenant, purpose.as_str());
    if let Some(room) = matrix.rooms.get(&remembered).await {
        return Ok(Some(room));
    }
    let mut tx = state.database.worker_tx(tenant).await?;
    let name = match tenants::find(&mut tx, tenant).await? {
        Some(known) => known.name,
        None if tenant == TenantId::SUITE => state.ui.t("suite"),
        None => return Ok(None),
    };
    let (old_space, old_room) =
        (store::room(&mut tx, tenant, SPACE).await?, store::room(&mut tx, tenant, purpose.as_str()).await?);
    drop(tx);
    // The tenant's id, not its name: a renamed tenant keeps its rooms.
    let alias = |purpose: &str| matrix.client.alias_localpart(&format!("{purpose}_{}", tenant.0.simple()));
    let space =
        RoomSpec { alias_localpart: alias(SPACE), name: name.clone(), is_space: true, ..RoomSpec::default() };
    let (title, topic, order) = match purpose {
        Purpose::Approvals => ("room-approvals", "room-approvals-topic", "a"),
        Purpose::Operations => ("room-operations", "room-operations-topic", "b"),
    };
    let wanted = RoomSpec {
        alias_localpart: alias(purpose.as_str()),
        name: state.ui.t_with(title, "tenant", &name),
        topic: Some(state.ui.t(topic)),
        ..RoomSpec::default()
    };
    let space = stand(matrix, &space, old_space.as_ref()).await?;
    let room = stand(matrix, &wanted, old_room.as_ref()).await?;
    matrix.client.add_to_space(&space, &room, order).await?;

    let mut tx = state.database.worker_tx(tenant).await?;
    store::remember(&mut tx, tenant, SPACE, &space).await?;
    store::remember(&mut tx, tenant, purpose.as_str(), &room).await?;
    tx.commit().await?;
    matrix.rooms.insert(remembered, room.clone()).await;
    Ok(Some(room))
}

/// The room of `spec`, as it should be.
async fn stand(
    matrix: &Matrix,
    spec: &RoomSpec,
    remembered: Option<&RoomId>,
) -> Result<RoomId, ConnectorError> {
    let Some(restored) = matrix.client.restore_room(spec, remembered).await? else {
        return matrix.client.ensure_room(spec).await;
    };
    let room = restored.room;
    if !restored.repairs.is_empty() {
        tracing::info!(%room, alias = spec.alias_localpart, repairs = ?restored.repairs, "a room was mended");
    }
    if !restored.warnings.is_empty() {
        tracing::warn!(%room, alias = spec.alias_localpart, warnings = ?restored.warnings, "a room is not as it should be");
    }
    matrix.note_encrypted(&room, restored.warnings.contains(&RoomWarning::Encrypted));
    Ok(room)
}

/// A notice: what happened, what it is about, and where that is.
#[derive(Debug)]
pub struct Notice<'a> {
    /// What happened, in a few words.
    pub what: &'a str,
    /// The title of what it is about, as people wrote it.
    pub title: &'a str,
    /// Where it is.
    pub link: &'a str,
}

/// A notice that is in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The room.
    pub room: RoomId,
    /// The notice as it was posted first: by this it is changed.
    pub notice: EventId,
}

/// Posts a job's notice into the tenant's room for a purpose; or changes `earlier`, where it is given and still in that
/// room. Done again, it is the same. None where there is no such tenant.
///
/// # Errors
/// As [`room_for`].
pub async fn post(
    state: &AppState,
    matrix: &Matrix,
    job: &Job,
    purpose: Purpose,
    notice: &Notice<'_>,
    earlier: Option<Posted>,
) -> Result<Option<Posted>, JobError> {
    let Some(room) = room_for(state, matrix, job.tenant, purpose).await? else { return Ok(None) };
    let Notice { what, title, link } = notice;
    let body = format!("{what}: {title} {link}");
    let (bold, href, text) = (escape_html(what), escape_html(link), escape_html(title));
    let formatted = format!("<strong>{bold}</strong>: <a href=\"{href}\">{text}</a>");
    // The homeserver knows a transaction id again: one event, however often it is sent.
    let transaction = format!("chancery-{}", job.id);
    if let Some(earlier) = earlier.filter(|earlier| earlier.room == room) {
        matrix.client.edit_notice(&room, &transaction, &earlier.notice, &body, Some(&formatted)).await?;
        return Ok(Some(earlier));
    }
    let notice = matrix.client.send_notice(&room, &transaction, &body, Some(&formatted)).await?;
    Ok(Some(Posted { room, notice }))
}
