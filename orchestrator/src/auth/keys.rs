//! Keycloak's signing keys: cached by us, whatever its Cache-Control says (30 days would outlive a rotation), fetched
//! again for an unknown key id, at most once in ten seconds, and kept when Keycloak is down.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use connector_core::{ConnectorError, ErrorKind};
use connector_keycloak::{ProviderMetadata, discover, jwks};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use tokio::sync::{Mutex, RwLock};

use crate::clock::SharedClock;

/// Keys are fetched again after this time even where none is missing.
const FRESH: TimeDelta = TimeDelta::minutes(15);
/// The least time between two fetches.
const APART: TimeDelta = TimeDelta::seconds(10);

/// What is known of the provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The endpoints.
    pub metadata: ProviderMetadata,
    /// The keys as sent, for libraries with types of their own.
    pub raw_keys: serde_json::Value,
    /// The signing keys.
    pub keys: JwkSet,
    fetched_at: DateTime<Utc>,
}

impl Provider {
    /// The signing key with this id.
    pub fn key(&self, id: &str) -> Option<&Jwk> {
        self.keys.find(id)
    }
}

/// The provider's endpoints and keys, fetched when first needed.
#[derive(Debug)]
pub struct Keys {
    issuer: url::Url,
    clock: SharedClock,
    current: RwLock<Option<Arc<Provider>>>,
    /// When a fetch was last tried; who holds the lock is fetching.
    fetching: Mutex<Option<DateTime<Utc>>>,
}

impl Keys {
    /// Keys of this issuer.
    pub fn new(issuer: url::Url, clock: SharedClock) -> Self {
        Self { issuer, clock, current: RwLock::new(None), fetching: Mutex::new(None) }
    }

    /// What is known, fetched where nothing is. What is old is renewed beside the request, which doesn't wait for it.
    ///
    /// # Errors
    /// Where nothing is known and Keycloak doesn't answer.
    pub async fn provider(self: &Arc<Self>) -> Result<Arc<Provider>, ConnectorError> {
        let current = self.current.read().await.clone();
        match current {
            Some(provider) => {
                if self.clock.now() - provider.fetched_at >= FRESH {
                    let keys = Arc::clone(self);
                    tokio::spawn(async move { keys.fetch_unless_busy().await });
                }
                Ok(provider)
            }
            None => self.fetch(None).await,
        }
    }

    /// What is known after a look for `key_id`: where it is unknown, the keys may have been rotated.
    ///
    /// # Errors
    /// Where nothing is known and Keycloak doesn't answer.
    pub async fn provider_with(self: &Arc<Self>, key_id: &str) -> Result<Arc<Provider>, ConnectorError> {
        let provider = self.provider().await?;
        if provider.key(key_id).is_some() {
            return Ok(provider);
        }
        Ok(self.fetch(Some(&provider)).await.unwrap_or(provider))
    }

    async fn fetch_unless_busy(&self) {
        let Ok(mut last_try) = self.fetching.try_lock() else { return };
        if last_try.is_some_and(|at| self.clock.now() - at < APART) {
            return;
        }
        let result = self.fetch_now().await;
        *last_try = Some(self.clock.now());
        if let Err(error) = result {
            tracing::warn!(%error, "Keycloak's keys could not be renewed; the known ones stay");
        }
    }

    /// Fetches, but for whoever else is fetching or has just done so.
    async fn fetch(&self, known: Option<&Arc<Provider>>) -> Result<Arc<Provider>, ConnectorError> {
        let mut last_try = self.fetching.lock().await;
        let too_soon = last_try.is_some_and(|at| self.clock.now() - at < APART);
        match self.current.read().await.clone() {
            Some(current) if too_soon || known.is_none_or(|known| known.fetched_at != current.fetched_at) => {
                return Ok(current);
            }
            None if too_soon => {
                return Err(ConnectorError::new(
                    ErrorKind::Transient,
                    "keycloak",
                    "did not answer a moment ago",
                ));
            }
            _ => {}
        }
        let result = self.fetch_now().await;
        // The time when it ended: whoever waited meanwhile doesn't try again at once.
        *last_try = Some(self.clock.now());
        result
    }

    async fn fetch_now(&self) -> Result<Arc<Provider>, ConnectorError> {
        let metadata = discover(&self.issuer).await?;
        let raw_keys = jwks(&metadata.jwks_uri).await?;
        let provider = Arc::new(Provider {
            keys: signing_keys(&raw_keys),
            metadata,
            raw_keys,
            fetched_at: self.clock.now(),
        });
        *self.current.write().await = Some(Arc::clone(&provider));
        Ok(provider)
    }
}

/// The keys for signatures; a key that we can't read doesn't spoil the others.
fn signing_keys(raw: &serde_json::Value) -> JwkSet {
    let keys = raw.get("keys").and_then(|keys| keys.as_array()).map(Vec::as_slice).unwrap_or_default();
    let keys = keys
        .iter()
        .filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok())
        .filter(|key| key.common.public_key_use == Some(PublicKeyUse::Signature))
        .collect();
    JwkSet { keys }
}

/// The time that a request may wait for Keycloak.
pub const DEADLINE: Duration = Duration::from_secs(5);
