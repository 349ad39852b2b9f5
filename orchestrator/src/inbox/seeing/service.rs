use chrono::{DateTime, TimeDelta, Utc};

use super::{
    masking,
    model::{EventFilter, Header, InboxEvent, InboxEventDetail, ShownRequest, SourceActivity},
    store::{self, Key},
};
use crate::{
    auth::{Decision, Permission, Resource, can},
    crypto::MasterKey,
    db::{Actor, Database, SystemConnection, TenantTx},
    http::page::Page,
    ids::{InboxEventId, TenantId},
    inbox::{InboxError, model::RawRequest},
};

/// Who operates the server may at its command line what an owner may here.
pub(in crate::inbox) fn require(
    tx: &TenantTx,
    permission: Permission,
    tenant: TenantId,
) -> Result<(), InboxError> {
    let Actor::Principal(principal) = tx.actor() else { return Ok(()) };
    match can(principal, permission, &Resource::of(tenant)) {
        Decision::Allowed => Ok(()),
        Decision::Stranger => Err(InboxError::NotFound),
        Decision::MissingPermission
        | Decision::OwnRequest
        | Decision::NotOwnRequest
        | Decision::NotInvolved => Err(InboxError::Forbidden),
    }
}

fn readable(tx: &TenantTx) -> Vec<TenantId> {
    match tx.actor() {
        Actor::Principal(principal) => principal.tenants_with(Permission::WebhookEventRead),
        Actor::System => tx.tenant().into_iter().collect(),
    }
}

/// The events of the filter, newest first. The caller has proven that the tenants may be read.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page(tx: &mut TenantTx, filter: &EventFilter) -> Result<Page<InboxEvent>, sqlx::Error> {
    let picked = Page::of(store::pick(tx, filter).await?, filter.limit, |key| key.id.0);
    let items = if picked.items.is_empty() { Vec::new() } else { store::load(tx, &picked.items).await? };
    Ok(Page { items, next_cursor: picked.next_cursor })
}

/// Where the events of the filter are, one more than its limit.
pub(in crate::inbox) async fn keys(tx: &mut TenantTx, filter: &EventFilter) -> Result<Vec<Key>, sqlx::Error> {
    store::pick(tx, filter).await
}

async fn located(tx: &mut TenantTx, id: InboxEventId) -> Result<(Key, InboxEvent), InboxError> {
    let tenants = readable(tx);
    let key = store::find(tx, &tenants, id).await?.ok_or(InboxError::NotFound)?;
    let event = store::load(tx, &[key]).await?.pop().ok_or(InboxError::NotFound)?;
    Ok((key, event))
}

/// The event with this id, for who may see it.
///
/// # Errors
/// [`InboxError`].
pub async fn find(tx: &mut TenantTx, id: InboxEventId) -> Result<InboxEvent, InboxError> {
    located(tx, id).await.map(|(_, event)| event)
}

/// The event with this id with its request, its attempts and its effects, for who may see it.
///
/// # Errors
/// [`InboxError`].
pub async fn detail(
    tx: &mut TenantTx,
    key: &MasterKey,
    id: InboxEventId,
) -> Result<InboxEventDetail, InboxError> {
    let (place, event) = located(tx, id).await?;
    let request = RawRequest::open(key, &store::sealed_request(tx, place).await?)?;
    Ok(InboxEventDetail {
        event,
        request: shown(request),
        attempts: store::attempts(tx, place).await?,
        timeline: store::timeline(tx, place).await?,
    })
}

fn shown(request: RawRequest) -> ShownRequest {
    let content_type = request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map(|(_, value)| value.as_str());
    let body = masking::body(&request.body, content_type);
    let mut masked = body.count;
    let bytes = u64::try_from(request.body.len()).unwrap_or(u64::MAX);
    let headers = request
        .headers
        .into_iter()
        .map(|(name, value)| {
            let value = masking::header(&name, &value, &mut masked);
            Header { name, value }
        })
        .collect();
    ShownRequest { headers, body: body.text, bytes, masked }
}

/// How many of a tenant's events are dead; counted up to 1,000.
///
/// # Errors
/// Where the database can't be asked.
pub async fn dead_count(tx: &mut TenantTx, tenant: TenantId) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(store::dead_count(tx, tenant).await?).unwrap_or(0))
}

/// In which windows received webhooks died since `since` and are dead: whose, and the window's number, counted in lengths of
/// `window` since 1970.
///
/// # Errors
/// Where the database can't be asked.
pub async fn died_since(
    system: &mut SystemConnection,
    since: DateTime<Utc>,
    window: TimeDelta,
) -> Result<Vec<(TenantId, i64)>, sqlx::Error> {
    store::died_since(system, since, window.num_seconds()).await
}

/// How many of a tenant's events died from `from` on and before `until`, and are dead.
///
/// # Errors
/// Where the database can't be asked.
pub async fn died_between(
    tx: &mut TenantTx,
    tenant: TenantId,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<u64, sqlx::Error> {
    Ok(u64::try_from(store::died_between(tx, tenant, from, until).await?).unwrap_or(0))
}

/// How busy a tenant's sources are; those of which nothing is known are left out.
///
/// # Errors
/// Where the database can't be asked.
pub async fn activity(tx: &mut TenantTx, tenant: TenantId) -> Result<Vec<SourceActivity>, sqlx::Error> {
    let now = tx.now();
    store::activity(tx, tenant, now - TimeDelta::hours(1), now - TimeDelta::days(1)).await
}

/// Whose an event is, for who operates the server.
///
/// # Errors
/// Where the database can't be asked.
pub async fn tenant_of(database: &Database, id: InboxEventId) -> Result<Option<TenantId>, sqlx::Error> {
    let mut connection = database.system().await?;
    store::tenant_of(&mut connection, id).await
}
