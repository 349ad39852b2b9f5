use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::store;
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::Permission,
    crypto::CryptoError,
    db::TenantTx,
    ids::{InboxEventId, TenantId},
    inbox::{
        model::lane_bit,
        seeing::{self, EventFilter, EventState, InboxEvent, require},
    },
};

/// The longest reason, in characters.
pub const MAX_REASON: usize = 500;
/// The most that is replayed at once.
pub const MOST_REPLAYED: u32 = 100_000;

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// Unknown, or a stranger's.
    #[error("there is no such webhook")]
    NotFound,
    /// None of the roles allows it.
    #[error("no role allows this")]
    Forbidden,
    /// It is waiting, or tried again by itself.
    #[error("it is being processed")]
    InProgress,
    /// It hasn't failed.
    #[error("it has not failed")]
    NotFailed,
    /// The filter means another number than was expected.
    #[error("it is {0} by now")]
    OtherCount(u64),
    /// The filter means more than is replayed at once.
    #[error("it is more than {MOST_REPLAYED}")]
    TooMany,
    /// The filter names no state in which something stays.
    #[error("the state must be done, dead or discarded")]
    NoState,
    /// The reason is none.
    #[error("the reason must have 1 to {MAX_REASON} characters")]
    NoReason,
    /// What was received can't be opened.
    #[error("what was received can't be opened")]
    Crypto(#[from] CryptoError),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

async fn record(
    tx: &mut TenantTx,
    action: &'static str,
    id: InboxEventId,
    old_values: Value,
    new_values: Value,
) -> Result<(), sqlx::Error> {
    let change = Change {
        action,
        resource: "inbox_event",
        resource_id: id.to_string(),
        old_values: Some(old_values),
        new_values: Some(new_values),
        metadata: None,
    };
    audit::record(tx, change).await.map(drop)
}

/// The lanes as bits, for [`wake`].
fn bits(lanes: &[i16]) -> u16 {
    lanes.iter().fold(0, |set, lane| set | lane_bit(*lane))
}

/// Wakes the workers, here and elsewhere, for what was committed in these lanes.
pub fn wake(state: &AppState, lanes: u16) {
    if lanes != 0 {
        state.inbox_lanes.mark(lanes);
        state.database.wakeups().lanes_committed(lanes);
    }
}

/// Has an event processed again that is done, dead or discarded. The lanes to [`wake`].
///
/// # Errors
/// [`InboxError`].
pub async fn replay(tx: &mut TenantTx, id: InboxEventId) -> Result<u16, InboxError> {
    let event = seeing::find(tx, id).await?;
    require(tx, Permission::WebhookEventReplay, event.tenant_id)?;
    tx.enter(event.tenant_id).await?;
    store::one_at_a_time(tx, event.tenant_id).await?;
    let key = seeing::Key { tenant: event.tenant_id, id, received_at: event.received_at };
    let lanes = store::replay(tx, event.tenant_id, &[key]).await?;
    if lanes.is_empty() {
        return Err(InboxError::InProgress);
    }
    let (old, new) = (json!({ "status": event.state }), json!({ "status": EventState::Replaying }));
    record(tx, "inbox_event.replayed", id, old, new).await?;
    Ok(bits(&lanes))
}

/// Which events are to be processed again together.
#[derive(Debug)]
pub struct ReplayAll {
    /// The tenant.
    pub tenant: TenantId,
    /// Which; its tenants, its cursor and its limit don't count. It must name a state in which something stays.
    pub filter: EventFilter,
    /// Whether they are only counted.
    pub dry_run: bool,
    /// How many are expected; with another number, nothing is done.
    pub expected: Option<u64>,
}

/// What was replayed, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// How many.
    pub count: u64,
    /// What was received from this time on isn't meant: whoever asks again with it means the same.
    pub to: DateTime<Utc>,
    /// The lanes to [`wake`].
    pub lanes: u16,
}

/// Has all events of a filter processed again, or says how many that would be: both look the same way.
///
/// # Errors
/// [`InboxError`].
pub async fn replay_all(tx: &mut TenantTx, asked: ReplayAll) -> Result<Replayed, InboxError> {
    let ReplayAll { tenant, filter, dry_run, expected } = asked;
    require(tx, Permission::WebhookEventReplay, tenant)?;
    if !matches!(filter.state, Some(EventState::Done | EventState::Dead | EventState::Discarded)) {
        return Err(InboxError::NoState);
    }
    tx.enter(tenant).await?;
    if !dry_run {
        store::one_at_a_time(tx, tenant).await?;
    }
    let now = tx.now();
    let to = filter.to.map_or(now, |to| to.min(now));
    let filter =
        EventFilter { tenants: vec![tenant], to: Some(to), before: None, limit: MOST_REPLAYED, ..filter };
    let keys = seeing::keys(tx, &filter).await?;
    let count = u64::try_from(keys.len()).unwrap_or(u64::MAX);
    if count > u64::from(MOST_REPLAYED) {
        return Err(InboxError::TooMany);
    }
    if dry_run || keys.is_empty() {
        return Ok(Replayed { count, to, lanes: 0 });
    }
    if let Some(expected) = expected.filter(|expected| *expected != count) {
        tracing::debug!(expected, count, "a replay was refused");
        return Err(InboxError::OtherCount(count));
    }
    let lanes = store::replay(tx, tenant, &keys).await?;
    let count = u64::try_from(lanes.len()).unwrap_or(u64::MAX);
    let said = json!({
        "status": filter.state, "source": filter.source, "service": filter.service, "type": filter.event_type,
        "subject": filter.subject, "from": filter.from, "to": to,
    });
    let change = Change {
        action: "inbox.replayed",
        resource: "inbox",
        resource_id: tenant.to_string(),
        old_values: None,
        new_values: Some(json!({ "count": count, "filter": said })),
        metadata: None,
    };
    audit::record(tx, change).await?;
    Ok(Replayed { count, to, lanes: bits(&lanes) })
}

/// What came of discarding.
#[derive(Debug)]
pub struct Discarded {
    /// The event as it is now. One that may be tried right now is still `retrying`, with its reason.
    pub event: InboxEvent,
    /// The lanes to [`wake`].
    pub lanes: u16,
}

/// Gives up an event that is dead, tried again by itself, or behind one that is. What waits behind it goes on.
///
/// # Errors
/// [`InboxError`].
pub async fn discard(tx: &mut TenantTx, id: InboxEventId, reason: &str) -> Result<Discarded, InboxError> {
    let before = seeing::find(tx, id).await?;
    require(tx, Permission::WebhookEventDiscard, before.tenant_id)?;
    let reason = reason.trim();
    if !(1..=MAX_REASON).contains(&reason.chars().count()) {
        return Err(InboxError::NoReason);
    }
    tx.enter(before.tenant_id).await?;
    let given = store::discard(tx, before.tenant_id, id, reason).await?.ok_or(InboxError::NotFailed)?;
    let lanes = if given.state == "discarded" { 0 } else { lane_bit(given.lane) };
    let event = seeing::find(tx, id).await?;
    let (old, new) =
        (json!({ "status": before.state }), json!({ "status": EventState::Discarded, "reason": reason }));
    record(tx, "inbox_event.discarded", id, old, new).await?;
    Ok(Discarded { event, lanes })
}
