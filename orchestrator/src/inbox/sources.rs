//! The sources of webhooks: each speaks for one tenant and one account, and has secrets of its own, sealed at rest.

use std::time::Duration;

use moka::future::Cache;
use secrecy::SecretString;

use super::{
    model::{SEALED_FOR, Source, SourceSecrets},
    store,
};
use crate::{
    app::AppState,
    audit::{self, Change},
    crypto::CryptoError,
    ids::{SourceId, TenantId},
};

/// For how long a source is remembered.
const REMEMBERED: Duration = Duration::from_secs(5);
const MOST_REMEMBERED: u64 = 10_000;

/// Why a source can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The secrets can't be sealed or opened.
    #[error("the source's secrets can't be used")]
    Crypto(#[from] CryptoError),
    /// The secrets are not what was sealed.
    #[error("the source's secrets can't be read")]
    Secrets(#[from] serde_json::Error),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

/// Makes a source, or gives the one for this tenant, service and account new secrets. Its id is its URL's unguessable part.
///
/// # Errors
/// [`SourceError`].
pub async fn register_source(
    state: &AppState,
    tenant: TenantId,
    service: &'static str,
    name: &str,
    account: &str,
    secrets: SourceSecrets,
) -> Result<SourceId, SourceError> {
    let sealed = state.master_key.seal(&*state.ids, SEALED_FOR, &serde_json::to_vec(&secrets)?)?;
    let mut random = [0; 16];
    state.ids.fill(&mut random);
    let mut tx = state.database.worker_tx(tenant).await?;
    let id =
        store::upsert_source(&mut tx, tenant, store::unguessable(random), service, name, account, &sealed)
            .await?;
    let change = Change {
        action: "webhook_source.registered",
        resource: "webhook_source",
        resource_id: id.to_string(),
        old_values: None,
        new_values: Some(
            serde_json::json!({ "service": service, "name": name, "account": account, "secrets": secrets.0.len() }),
        ),
        metadata: None,
    };
    audit::record(&mut tx, change).await?;
    tx.commit().await?;
    state.sources.found.invalidate(&id).await;
    state.sources.only.invalidate(service).await;
    Ok(id)
}

/// The active source with this id, its secrets opened. Known and unknown ids are remembered for a moment, so that whoever
/// posts nonsense keeps no connection busy.
pub(super) async fn find(state: &AppState, id: SourceId) -> Result<Option<Source>, SourceError> {
    if let Some(remembered) = state.sources.found.get(&id).await {
        return Ok(remembered);
    }
    let mut tx = state.database.system_tx().await?;
    let found = store::find_source(&mut tx, id).await?;
    drop(tx);
    let source = match found {
        None => None,
        Some(found) => {
            let secrets: SourceSecrets =
                serde_json::from_slice(&state.master_key.open(SEALED_FOR, &found.sealed_secrets)?)?;
            let secrets = secrets.0.into_iter().map(SecretString::from).collect();
            Some(Source {
                id: found.id,
                tenant: found.tenant,
                service: found.service,
                account: found.account,
                secrets,
            })
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
pub(super) fn is_strange(state: &AppState, id: SourceId) -> bool {
    !state.sources.found.contains_key(&id) && !state.sources.seen.contains_key(&id)
}

/// What is remembered of sources.
#[derive(Debug)]
pub struct SourceCache {
    found: Cache<SourceId, Option<Source>>,
    /// The ids that have been a source's.
    seen: Cache<SourceId, ()>,
    only: Cache<&'static str, Option<SourceId>>,
}

impl Default for SourceCache {
    fn default() -> Self {
        Self {
            found: Cache::builder().max_capacity(MOST_REMEMBERED).time_to_live(REMEMBERED).build(),
            seen: Cache::new(MOST_REMEMBERED),
            only: Cache::builder().max_capacity(10).time_to_live(REMEMBERED).build(),
        }
    }
}

/// The only source of a service, if there is exactly one.
pub(super) async fn only(state: &AppState, service: &'static str) -> Result<Option<Source>, SourceError> {
    let only = if let Some(remembered) = state.sources.only.get(service).await {
        remembered
    } else {
        let mut tx = state.database.system_tx().await?;
        let only = store::only_source(&mut tx, service).await?;
        drop(tx);
        state.sources.only.insert(service, only).await;
        only
    };
    match only {
        Some(id) => find(state, id).await,
        None => Ok(None),
    }
}
