//! Sources as what receives webhooks needs them, remembered for a moment, so that a flood keeps no connection busy.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::future::Cache;

use super::{
    mapping,
    model::{RequestLimit, Secret, Source},
    service::{SourceError, open},
    store,
};
use crate::{
    app::AppState,
    config::QuotaConfig,
    ids::{SourceId, TenantId},
    limits::{Quota, Usage},
};

/// For how long a source is remembered.
const REMEMBERED: Duration = Duration::from_secs(5);
const MOST_REMEMBERED: u64 = 10_000;
const MOST_SERVICES: u64 = 1_000;

/// A source's own limit, and what is left of it.
type OwnQuota = (RequestLimit, Arc<Quota<SourceId>>);

/// What is remembered of sources.
#[derive(Debug)]
pub struct SourceCache {
    found: Cache<SourceId, Option<Arc<Source>>>,
    /// The ids that have been a source's.
    seen: Cache<SourceId, ()>,
    only: Cache<String, Option<SourceId>>,
    /// The services that have had an only source.
    seen_services: Cache<String, ()>,
    /// What is left of the limits that sources have of their own.
    quotas: Mutex<HashMap<SourceId, OwnQuota>>,
}

impl Default for SourceCache {
    fn default() -> Self {
        Self {
            found: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(REMEMBERED).build(),
            seen: Cache::new(MOST_REMEMBERED),
            only: Cache::builder().max_capacity(MOST_SERVICES).time_to_live(REMEMBERED).build(),
            seen_services: Cache::new(MOST_SERVICES),
            quotas: Mutex::default(),
        }
    }
}

/// The active source with this id, its secrets opened. Known and unknown ids are remembered for a moment.
///
/// # Errors
/// [`SourceError`].
pub async fn find(state: &AppState, id: SourceId) -> Result<Option<Arc<Source>>, SourceError> {
    if let Some(remembered) = state.sources.found.get(&id).await {
        return Ok(remembered);
    }
    let mut tx = state.database.system_tx().await?;
    let found = store::find_active(&mut tx, id, state.clock.now()).await?;
    let mapped = match &found {
        Some(found) if found.tenant == TenantId::SUITE => mapping::of_source(&mut tx, id).await?,
        _ => Vec::new(),
    };
    drop(tx);
    let source = match found {
        None => None,
        Some(found) => {
            let mut secrets = Vec::with_capacity(found.secrets.len());
            for secret in &found.secrets {
                secrets.extend(open(&state.master_key, &secret.sealed)?.into_iter().map(|value| Secret {
                    purpose: secret.purpose,
                    value,
                    valid_from: secret.valid_from,
                    valid_until: secret.valid_until,
                }));
            }
            Some(Arc::new(Source {
                id: found.id,
                tenant: found.tenant,
                service: found.service,
                account: found.account,
                scheme: found.scheme,
                secrets,
                limit: found.limit,
                mapped,
            }))
        }
    };
    if source.is_some() {
        state.sources.seen.insert(id, ()).await;
    }
    state.sources.found.insert(id, source.clone()).await;
    Ok(source)
}

/// Whether to look for this source may cost a look into the database for nothing: it isn't remembered, and no source with
/// this id was ever seen.
pub fn is_strange(state: &AppState, id: SourceId) -> bool {
    !state.sources.found.contains_key(&id) && !state.sources.seen.contains_key(&id)
}

/// The only source of a service, if there is exactly one.
///
/// # Errors
/// [`SourceError`].
pub async fn only(state: &AppState, service: &str) -> Result<Option<Arc<Source>>, SourceError> {
    let only = if let Some(remembered) = state.sources.only.get(service).await {
        remembered
    } else {
        let mut tx = state.database.system_tx().await?;
        let only = store::only(&mut tx, service).await?;
        drop(tx);
        if only.is_some() {
            state.sources.seen_services.insert(service.to_owned(), ()).await;
        }
        state.sources.only.insert(service.to_owned(), only).await;
        only
    };
    match only {
        Some(id) => find(state, id).await,
        None => Ok(None),
    }
}

/// The same as [`is_strange`], of a service without a source.
pub fn is_strange_service(state: &AppState, service: &str) -> bool {
    !state.sources.only.contains_key(service) && !state.sources.seen_services.contains_key(service)
}

/// Forgets what is remembered of a source that has changed. Other replicas remember it for five seconds at most.
pub async fn forget(state: &AppState, id: SourceId, service: &str) {
    state.sources.found.invalidate(&id).await;
    state.sources.only.invalidate(service).await;
}

/// Takes one webhook from the quota of a source: from its own, where it has one, and from what holds for every source.
pub fn quota(state: &AppState, source: &Source) -> Option<Usage> {
    let own = source.limit.and_then(|limit| own_quota(state, source.id, limit).take(&source.id));
    let is_refused = |usage: &Option<Usage>| usage.as_ref().is_some_and(|usage| usage.retry_after.is_some());
    if is_refused(&own) {
        return own;
    }
    let common = state.limits.source.take(&source.id);
    if is_refused(&common) { common } else { own.or(common) }
}

/// What is left of a source's own limit; whole again where the limit is another than before.
fn own_quota(state: &AppState, id: SourceId, limit: RequestLimit) -> Arc<Quota<SourceId>> {
    const MOST: usize = 10_000;
    let mut quotas = state.sources.quotas.lock().unwrap_or_else(PoisonError::into_inner);
    match quotas.get(&id) {
        Some((known, quota)) if *known == limit => Arc::clone(quota),
        _ => {
            // Rather all begin anew than memory that grows without end.
            if quotas.len() >= MOST {
                quotas.clear();
            }
            let config = QuotaConfig { requests: limit.requests, seconds: limit.seconds };
            let quota = Arc::new(state.limits.of_one("source", config));
            quotas.insert(id, (limit, Arc::clone(&quota)));
            quota
        }
    }
}

/// How many webhooks a minute are taken from a source, all else apart.
pub fn per_minute(state: &AppState, source: &Source) -> u32 {
    let common = state.config.limits.source;
    let own = source.limit.map(|limit| (limit.requests, limit.seconds));
    [own, Some((common.requests, common.seconds))]
        .into_iter()
        .flatten()
        // 0 requests are no limit.
        .filter(|(requests, _)| *requests > 0)
        .map(|(requests, seconds)| u64::from(requests) * 60 / u64::from(seconds.max(1)))
        .min()
        .map_or(u32::MAX, |rate| u32::try_from(rate).unwrap_or(u32::MAX))
}
