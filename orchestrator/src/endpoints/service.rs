//! The commands. The caller commits, and then wakes the deliverer where something is to be sent.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use connector_core::egress::EgressPolicy;
use connector_webhooks::standard;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::{
    jobs, message,
    model::{
        Attempt, ChangeEndpoint, Delivery, DeliveryFilter, DeliveryState, DisabledBecause, Endpoint,
        EndpointFault, EndpointState, KEPT, MAX_ENDPOINTS, NewEndpoint, SEALED_FOR, TEST_EVENT,
        check_description, check_types, shown_url,
    },
    store::{self, NewDelivery},
};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::{Decision, Permission, Resource, can},
    crypto::{CryptoError, MasterKey},
    db::{Actor, TenantTx},
    http::{etag::IfMatch, page::Page},
    ids::{DeliveryId, EndpointId, TenantId},
    realtime::{self, EventType},
};

/// The most events that an endpoint gets of those that it missed.
const MOST_MISSED: i64 = 10_000;
/// The most deliveries that are sent again at once.
const MOST_REDELIVERED: i64 = 10_000;
/// The most secrets that sign at a time.
const MAX_SECRETS: i64 = 4;

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Unknown, or a stranger's.
    #[error("there is no such endpoint or delivery")]
    NotFound,
    /// None of the roles allows it.
    #[error("no role allows this")]
    Forbidden,
    /// It has changed since it was read.
    #[error("it has changed meanwhile")]
    Stale,
    /// It would make no sense.
    #[error("it would make no sense")]
    Invalid(Vec<EndpointFault>),
    /// The tenant has as many as it may.
    #[error("the tenant has as many endpoints as it may")]
    TooMany,
    /// It is switched off.
    #[error("the endpoint is switched off")]
    Disabled,
    /// It is still to be sent.
    #[error("the delivery is still to be sent")]
    Pending,
    /// Its secrets have been rotated so often that too many would sign.
    #[error("too many secrets would sign")]
    TooManySecrets,
    /// The secret can't be sealed.
    #[error("the secret can't be sealed")]
    Crypto(#[from] CryptoError),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

/// What commands go by besides the database.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    policy: &'a EgressPolicy,
    master_key: &'a MasterKey,
}

impl<'a> Context<'a> {
    /// The application's.
    pub fn of(state: &'a AppState) -> Self {
        Self { policy: state.egress.policy(), master_key: &state.master_key }
    }
}

/// An endpoint with a new secret, which is shown this once.
#[derive(Debug)]
pub struct WithSecret {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What its deliveries are signed with from now on.
    pub secret: SecretString,
}

fn readable(tx: &TenantTx) -> Vec<TenantId> {
    match tx.actor() {
        Actor::Principal(principal) => principal.tenants_with(Permission::WebhookEndpointRead),
        Actor::System => Vec::new(),
    }
}

fn require(tx: &TenantTx, permission: Permission, tenant: TenantId) -> Result<(), EndpointError> {
    let Actor::Principal(principal) = tx.actor() else { return Err(EndpointError::Forbidden) };
    match can(principal, permission, &Resource::of(tenant)) {
        Decision::Allowed => Ok(()),
        Decision::Stranger => Err(EndpointError::NotFound),
        Decision::MissingPermission
        | Decision::OwnRequest
        | Decision::NotOwnRequest
        | Decision::NotInvolved => Err(EndpointError::Forbidden),
    }
}

/// The endpoint with this id, if the transaction's principal may see it.
///
/// # Errors
/// [`EndpointError::NotFound`], [`EndpointError::Database`].
pub async fn find(tx: &mut TenantTx, id: EndpointId) -> Result<Endpoint, EndpointError> {
    let tenants = readable(tx);
    store::find(tx, &tenants, id).await?.ok_or(EndpointError::NotFound)
}

/// One page of the endpoints that the transaction's principal may see, newest first; of one tenant where it is given.
///
/// # Errors
/// [`EndpointError`].
pub async fn page(
    tx: &mut TenantTx,
    tenant: Option<TenantId>,
    before: Option<EndpointId>,
    limit: u32,
) -> Result<Page<Endpoint>, EndpointError> {
    let tenants = match tenant {
        Some(tenant) => {
            require(tx, Permission::WebhookEndpointRead, tenant)?;
            vec![tenant]
        }
        None => readable(tx),
    };
    let endpoints = store::list(tx, &tenants, before, limit).await?;
    Ok(Page::of(endpoints, limit, |endpoint| endpoint.id.0))
}

/// Where these endpoints are, without their paths.
///
/// # Errors
/// Where the database can't be asked.
pub async fn urls(
    tx: &mut TenantTx,
    tenant: TenantId,
    ids: &[EndpointId],
) -> Result<HashMap<EndpointId, String>, sqlx::Error> {
    let urls = store::urls(tx, tenant, ids).await?;
    Ok(urls.into_iter().map(|(id, url)| (id, shown_url(&url))).collect())
}

fn read_url(policy: &EgressPolicy, text: &str, faults: &mut Vec<EndpointFault>) -> String {
    match policy.read(text.trim()) {
        Ok(url) => url.into(),
        Err(fault) => {
            faults.push(EndpointFault::Url(fault));
            String::new()
        }
    }
}

/// Makes an endpoint, with the first of its secrets. It gets what happens from now on.
///
/// # Errors
/// [`EndpointError`].
pub async fn create(
    tx: &mut TenantTx,
    context: Context<'_>,
    tenant: TenantId,
    new: &NewEndpoint,
) -> Result<WithSecret, EndpointError> {
    require(tx, Permission::WebhookEndpointManage, tenant)?;
    tx.enter(tenant).await?;
    let mut faults = Vec::new();
    let now = tx.now();
    let endpoint = Endpoint {
        id: EndpointId(tx.new_id()),
        tenant_id: tenant,
        url: read_url(context.policy, &new.url, &mut faults),
        description: check_description(&new.description, &mut faults),
        event_types: check_types(&new.event_types, &mut faults),
        state: EndpointState::Active,
        disabled_because: None,
        disabled_at: None,
        failing_since: None,
        succeeded_at: None,
        rotating_until: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    if !faults.is_empty() {
        return Err(EndpointError::Invalid(faults));
    }
    if store::count_locked(tx, tenant).await? >= MAX_ENDPOINTS {
        return Err(EndpointError::TooMany);
    }
    store::insert(tx, &endpoint).await?;
    let secret = add_secret(tx, context, &endpoint, now).await?;
    let new_values = json!({
        "url": shown_url(&endpoint.url), "description": endpoint.description, "eventTypes": endpoint.event_types,
    });
    record(tx, "webhook_endpoint.created", &endpoint, None, Some(new_values)).await?;
    realtime::append(tx, EventType::EndpointCreated, Permission::WebhookEndpointRead, endpoint.id.0).await?;
    Ok(WithSecret { endpoint, secret })
}

async fn add_secret(
    tx: &mut TenantTx,
    context: Context<'_>,
    endpoint: &Endpoint,
    expire: DateTime<Utc>,
) -> Result<SecretString, EndpointError> {
    let mut random = [0; 32];
    tx.ids().fill(&mut random);
    let secret = standard::shared_secret(random);
    let sealed = context.master_key.seal(&**tx.ids(), SEALED_FOR, secret.expose_secret().as_bytes())?;
    store::add_secret(tx, endpoint.tenant_id, endpoint.id, &sealed, expire).await?;
    Ok(secret)
}

async fn record(
    tx: &mut TenantTx,
    action: &'static str,
    endpoint: &Endpoint,
    old_values: Option<Value>,
    new_values: Option<Value>,
) -> Result<(), sqlx::Error> {
    let change = Change {
        action,
        resource: "webhook_endpoint",
        resource_id: endpoint.id.to_string(),
        old_values,
        new_values,
        metadata: None,
    };
    audit::record(tx, change).await.map(drop)
}

/// The endpoint as it is now, held until the transaction ends, for who may change it and has seen that version.
async fn load_for_change(
    tx: &mut TenantTx,
    id: EndpointId,
    if_match: &IfMatch,
) -> Result<Endpoint, EndpointError> {
    let found = find(tx, id).await?;
    require(tx, Permission::WebhookEndpointManage, found.tenant_id)?;
    tx.enter(found.tenant_id).await?;
    if !store::lock(tx, found.tenant_id, id).await? {
        return Err(EndpointError::NotFound);
    }
    let locked = store::find(tx, &[found.tenant_id], id).await?.ok_or(EndpointError::NotFound)?;
    if if_match.admits(locked.version) { Ok(locked) } else { Err(EndpointError::Stale) }
}

async fn update(tx: &mut TenantTx, after: &Endpoint) -> Result<(), EndpointError> {
    if store::update(tx, after).await? { Ok(()) } else { Err(EndpointError::Stale) }
}

/// What the two differ in, as the trail says it: of each, its own values.
fn difference(before: &Endpoint, after: &Endpoint) -> (Map<String, Value>, Map<String, Value>) {
    let values = |endpoint: &Endpoint| {
        [
            ("url", json!(endpoint.url)),
            ("description", json!(endpoint.description)),
            ("eventTypes", json!(endpoint.event_types)),
            ("state", json!(endpoint.state)),
        ]
    };
    let mut differing = (Map::new(), Map::new());
    for ((name, old), (_, new)) in values(before).into_iter().zip(values(after)) {
        if old != new {
            let shown = |value: Value| match (name, value.as_str()) {
                ("url", Some(url)) => json!(shown_url(url)),
                _ => value,
            };
            differing.0.insert(name.to_owned(), shown(old));
            differing.1.insert(name.to_owned(), shown(new));
        }
    }
    differing
}

/// Changes an endpoint. What changes nothing leaves no trace.
///
/// # Errors
/// [`EndpointError`].
pub async fn change(
    tx: &mut TenantTx,
    context: Context<'_>,
    id: EndpointId,
    change: &ChangeEndpoint,
    if_match: &IfMatch,
) -> Result<Endpoint, EndpointError> {
    let before = load_for_change(tx, id, if_match).await?;
    let mut faults = Vec::new();
    let mut after = before.clone();
    if let Some(url) = &change.url {
        after.url = read_url(context.policy, url, &mut faults);
    }
    if let Some(description) = &change.description {
        after.description = check_description(description, &mut faults);
    }
    if let Some(event_types) = &change.event_types {
        after.event_types = check_types(event_types, &mut faults);
    }
    if !faults.is_empty() {
        return Err(EndpointError::Invalid(faults));
    }
    match change.enabled {
        Some(true) => {
            (after.state, after.disabled_because, after.disabled_at) = (EndpointState::Active, None, None);
        }
        Some(false) if before.state == EndpointState::Active => {
            (after.state, after.disabled_because, after.disabled_at) =
                (EndpointState::Disabled, Some(DisabledBecause::ByHand), Some(tx.now()));
        }
        Some(false) | None => {}
    }
    let (old, new) = difference(&before, &after);
    if new.is_empty() {
        return Ok(before);
    }
    (after.version, after.updated_at) = (before.version + 1, tx.now());
    update(tx, &after).await?;
    let (tenant, is_active) = (after.tenant_id, after.state == EndpointState::Active);
    if after.state != before.state {
        store::set_active(tx, tenant, id, is_active).await?;
        if is_active {
            let deliver_missed = change.deliver_missed.unwrap_or(true);
            store::catch_up(tx, tenant, id, if deliver_missed { MOST_MISSED } else { 0 }).await?;
            if !deliver_missed {
                store::skip_pending(tx, tenant, id).await?;
            }
        }
    }
    if is_active && (after.url != before.url || after.state != before.state) {
        store::forgive(tx, tenant, id).await?;
        after.failing_since = None;
    }
    let action = match (before.state, after.state) {
        (EndpointState::Active, EndpointState::Disabled) => "webhook_endpoint.disabled",
        (EndpointState::Disabled, EndpointState::Active) => "webhook_endpoint.enabled",
        _ => "webhook_endpoint.updated",
    };
    record(tx, action, &after, Some(old.into()), Some(new.into())).await?;
    realtime::append(tx, EventType::EndpointUpdated, Permission::WebhookEndpointRead, id.0).await?;
    Ok(after)
}

/// Switches an endpoint off that gives no other choice, and tells its owners; whether it was on.
///
/// # Errors
/// Where the database says no.
pub(super) async fn disable(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: EndpointId,
    because: DisabledBecause,
) -> Result<bool, EndpointError> {
    if !store::lock(tx, tenant, id).await? {
        return Ok(false);
    }
    let found = store::find(tx, &[tenant], id).await?;
    let Some(before) = found.filter(|endpoint| endpoint.state == EndpointState::Active) else {
        return Ok(false);
    };
    let now = tx.now();
    let after = Endpoint {
        state: EndpointState::Disabled,
        disabled_because: Some(because),
        disabled_at: Some(now),
        version: before.version + 1,
        updated_at: now,
        ..before.clone()
    };
    update(tx, &after).await?;
    store::set_active(tx, tenant, id, false).await?;
    let new = json!({ "state": after.state, "because": because, "failingSince": after.failing_since });
    record(tx, "webhook_endpoint.disabled", &after, Some(json!({ "state": before.state })), Some(new))
        .await?;
    realtime::append(tx, EventType::EndpointDisabled, Permission::WebhookEndpointRead, id.0).await?;
    Ok(true)
}

/// Removes an endpoint, its secrets, and what was sent to it.
///
/// # Errors
/// [`EndpointError`].
pub async fn remove(tx: &mut TenantTx, id: EndpointId, if_match: &IfMatch) -> Result<(), EndpointError> {
    let before = load_for_change(tx, id, if_match).await?;
    store::delete(tx, before.tenant_id, id).await?;
    jobs::enqueue_purge(tx, id).await?;
    let old =
        json!({ "url": shown_url(&before.url), "eventTypes": before.event_types, "state": before.state });
    record(tx, "webhook_endpoint.deleted", &before, Some(old), None).await?;
    realtime::append(tx, EventType::EndpointDeleted, Permission::WebhookEndpointRead, id.0).await?;
    Ok(())
}

/// Gives an endpoint a new secret. Those before it sign along for `grace`, so that the endpoint can be told of the new one meanwhile.
///
/// # Errors
/// [`EndpointError`].
pub async fn rotate(
    tx: &mut TenantTx,
    context: Context<'_>,
    id: EndpointId,
    grace: TimeDelta,
    if_match: &IfMatch,
) -> Result<WithSecret, EndpointError> {
    let before = load_for_change(tx, id, if_match).await?;
    let now = tx.now();
    let signing = store::count_secrets(tx, before.tenant_id, id).await?;
    if signing >= MAX_SECRETS {
        return Err(EndpointError::TooManySecrets);
    }
    let expire = now + grace;
    let secret = add_secret(tx, context, &before, expire).await?;
    let endpoint = Endpoint {
        version: before.version + 1,
        updated_at: now,
        rotating_until: before.rotating_until.max((expire > now).then_some(expire)),
        ..before
    };
    update(tx, &endpoint).await?;
    let new = json!({ "oldSecretUntil": expire });
    record(tx, "webhook_endpoint.secret_rotated", &endpoint, None, Some(new)).await?;
    realtime::append(tx, EventType::EndpointUpdated, Permission::WebhookEndpointRead, id.0).await?;
    Ok(WithSecret { endpoint, secret })
}

/// The endpoint, for who may have something sent to it.
async fn load_for_sending(tx: &mut TenantTx, id: EndpointId) -> Result<Endpoint, EndpointError> {
    let endpoint = load_for_change(tx, id, &IfMatch::Any).await?;
    if endpoint.state == EndpointState::Active { Ok(endpoint) } else { Err(EndpointError::Disabled) }
}

/// Has an event sent that says nothing, to try the endpoint.
///
/// # Errors
/// [`EndpointError`].
pub async fn send_test(tx: &mut TenantTx, id: EndpointId) -> Result<Delivery, EndpointError> {
    let endpoint = load_for_sending(tx, id).await?;
    let (tenant, now, delivery) = (endpoint.tenant_id, tx.now(), DeliveryId(tx.new_id()));
    let data = json!({ "id": id, "tenantId": tenant });
    let new = NewDelivery {
        id: delivery,
        sequence: None,
        message_id: format!("evt_{}", delivery.0.simple()),
        event_type: TEST_EVENT.to_owned(),
        body: message::body(TEST_EVENT, now, &data),
    };
    store::insert_deliveries(tx, tenant, id, vec![new]).await?;
    store::make_due(tx, tenant, id).await?;
    record(tx, "webhook_endpoint.tested", &endpoint, None, Some(json!({ "delivery": delivery }))).await?;
    let (delivery, _) = store::delivery(tx, tenant, id, delivery).await?.ok_or(EndpointError::NotFound)?;
    Ok(delivery)
}

/// One page of an endpoint's deliveries, newest first.
///
/// # Errors
/// [`EndpointError`].
pub async fn deliveries(
    tx: &mut TenantTx,
    id: EndpointId,
    filter: &DeliveryFilter,
) -> Result<Page<Delivery>, EndpointError> {
    let endpoint = find(tx, id).await?;
    let deliveries = store::deliveries(tx, endpoint.tenant_id, id, filter).await?;
    Ok(Page::of(deliveries, filter.limit, |delivery| delivery.id.0))
}

/// One delivery, with its body and its attempts.
///
/// # Errors
/// [`EndpointError`].
pub async fn delivery(
    tx: &mut TenantTx,
    id: EndpointId,
    delivery: DeliveryId,
) -> Result<(Delivery, String, Vec<Attempt>), EndpointError> {
    let endpoint = find(tx, id).await?;
    let tenant = endpoint.tenant_id;
    let (delivery, body) = store::delivery(tx, tenant, id, delivery).await?.ok_or(EndpointError::NotFound)?;
    let attempts = store::attempts(tx, tenant, delivery.id).await?;
    Ok((delivery, body, attempts))
}

/// Has a delivery sent again that was delivered or has failed, under the same `webhook-id`.
///
/// # Errors
/// [`EndpointError`].
pub async fn redeliver(
    tx: &mut TenantTx,
    id: EndpointId,
    delivery: DeliveryId,
) -> Result<Delivery, EndpointError> {
    let endpoint = load_for_sending(tx, id).await?;
    let tenant = endpoint.tenant_id;
    let (found, _) = store::delivery(tx, tenant, id, delivery).await?.ok_or(EndpointError::NotFound)?;
    // The lane before the delivery, as the deliverer locks them.
    store::make_due(tx, tenant, id).await?;
    if found.state == DeliveryState::Pending || !store::redeliver(tx, tenant, delivery).await? {
        return Err(EndpointError::Pending);
    }
    let new = json!({ "delivery": delivery, "event": found.event_type });
    record(tx, "webhook_endpoint.redelivered", &endpoint, None, Some(new)).await?;
    let (delivery, _) = store::delivery(tx, tenant, id, delivery).await?.ok_or(EndpointError::NotFound)?;
    Ok(delivery)
}

/// Has all sent again that have failed of those made since then; how many there are, at most 10,000 at once.
///
/// # Errors
/// [`EndpointError`].
pub async fn redeliver_failed(
    tx: &mut TenantTx,
    id: EndpointId,
    since: DateTime<Utc>,
) -> Result<u64, EndpointError> {
    let endpoint = load_for_sending(tx, id).await?;
    let tenant = endpoint.tenant_id;
    let since = since.max(tx.now() - KEPT);
    store::make_due(tx, tenant, id).await?;
    let redelivered = store::redeliver_failed(tx, tenant, id, since, MOST_REDELIVERED).await?;
    if redelivered > 0 {
        let new = json!({ "deliveries": redelivered, "since": since });
        record(tx, "webhook_endpoint.redelivered", &endpoint, None, Some(new)).await?;
    }
    Ok(redelivered)
}

/// What opens an endpoint's sealed secrets, the newest first. One that can't be opened is left out, and logged.
pub(super) fn open(master_key: &MasterKey, sealed: &[Vec<u8>]) -> Vec<standard::SigningKey> {
    sealed
        .iter()
        .filter_map(|sealed| {
            let opened = master_key.open(SEALED_FOR, sealed).ok()?;
            let secret = SecretString::from(String::from_utf8(opened).ok()?);
            standard::SigningKey::parse(&secret).ok()
        })
        .collect()
}
