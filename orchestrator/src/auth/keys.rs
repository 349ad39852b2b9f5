//! Keycloak's signing keys: cached by us, whatever its Cache-Control says (30 days would outlive a rotation), fetched
//! again for an unknown key id, at most once in ten seconds, and kept when Keycloak is down.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use connector_core::{ConnectorError, ErrorKind};
use connector_keycloak::{ProviderMetadata, discover, jwks};
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, RwLock};

use super::bearer::AccessClaims;
use crate::clock::SharedClock;

/// Keys are fetched again after this time even where none is missing.
const FRESH: TimeDelta = TimeDelta::minutes(15);
/// The least time between two fetches.
const APART: TimeDelta = TimeDelta::seconds(10);
/// The bytes of tokens whose signatures are remembered.
const REMEMBERED_BYTES: u64 = 8 * 1024 * 1024;

/// How long somebody who signs in waits for a new key: until the keys may be fetched again, and are.
const AWAITED: Duration = Duration::from_secs(12);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

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
    /// What the tokens say that these keys have signed: a signature is checked once and its token comes with each request.
    /// By the token's SHA-256, so that no token is kept; with the keys, so that it doesn't outlive them.
    signed: Cache<[u8; 32], Signed>,
}

#[derive(Debug, Clone)]
struct Signed {
    claims: Arc<AccessClaims>,
    token_bytes: u32,
}

impl Provider {
    /// The signing key with this id.
    pub fn key(&self, id: &str) -> Option<&Jwk> {
        self.keys.find(id)
    }

    /// What `token` says, if it is remembered that one of the keys has signed it. Whether it says enough, and is still good,
    /// isn't remembered.
    pub(super) async fn signed(&self, token: &str) -> Option<Arc<AccessClaims>> {
        self.signed.get(&digest(token)).await.map(|signed| signed.claims)
    }

    /// Remembers that one of the keys has signed `token`.
    pub(super) async fn remember_signed(&self, token: &str, claims: Arc<AccessClaims>) {
        let token_bytes = u32::try_from(token.len()).unwrap_or(u32::MAX);
        self.signed.insert(digest(token), Signed { claims, token_bytes }).await;
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
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

    /// The same for a token that Keycloak has just given us: where its key is unknown though the keys were fetched a moment
    /// ago, they have been rotated since, and the token is worth waiting until they may be fetched again.
    ///
    /// # Errors
    /// Where nothing is known and Keycloak doesn't answer.
    pub async fn provider_awaiting(self: &Arc<Self>, key_id: &str) -> Result<Arc<Provider>, ConnectorError> {
        let until = tokio::time::Instant::now() + AWAITED;
        loop {
            let provider = self.provider_with(key_id).await?;
            if provider.key(key_id).is_some() || tokio::time::Instant::now() >= until {
                return Ok(provider);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
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
            signed: Cache::builder()
                .weigher(|_, signed: &Signed| signed.token_bytes)
                .max_capacity(REMEMBERED_BYTES)
                .build(),
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

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex as StdMutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use axum::{Json, Router, http::StatusCode, response::IntoResponse as _, routing::get};
    use serde_json::json;

    use super::*;
    use crate::clock::MockClock;

    /// A provider that counts how often its keys are fetched.
    #[derive(Default)]
    struct Counting {
        fetched: AtomicUsize,
        is_down: AtomicBool,
        key_ids: StdMutex<Vec<String>>,
    }

    impl Counting {
        fn fetched(&self) -> usize {
            self.fetched.load(Ordering::SeqCst)
        }

        fn rotate(&self, key_id: &str) {
            self.key_ids.lock().unwrap().push(key_id.to_owned());
        }
    }

    async fn provider() -> (Arc<Keys>, Arc<Counting>, Arc<MockClock>) {
        let counting = Arc::new(Counting::default());
        counting.rotate("first");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let metadata = json!({
            "issuer": issuer, "authorization_endpoint": issuer, "token_endpoint": issuer, "userinfo_endpoint": issuer,
            "end_session_endpoint": issuer, "jwks_uri": format!("{issuer}/certs"),
        });
        let known = Arc::clone(&counting);
        let certs = get(async move || {
            if known.is_down.load(Ordering::SeqCst) {
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            known.fetched.fetch_add(1, Ordering::SeqCst);
            // Others ask meanwhile.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let keys: Vec<_> = known.key_ids.lock().unwrap().iter().map(|id| {
                json!({ "kid": id, "kty": "RSA", "alg": "RS256", "use": "sig", "n": "AQAB", "e": "AQAB" })
            }).collect();
            Json(json!({ "keys": keys })).into_response()
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || Json(metadata)))
            .route("/certs", certs);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let clock = Arc::new(MockClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        (Arc::new(Keys::new(issuer.parse().unwrap(), clock.clone())), counting, clock)
    }

    async fn all(keys: &Arc<Keys>, key_id: &str, count: usize) -> Vec<bool> {
        let asked = (0..count).map(|_| keys.provider_with(key_id));
        let known = futures::future::join_all(asked).await;
        known.into_iter().map(|provider| provider.unwrap().key(key_id).is_some()).collect()
    }

    #[tokio::test]
    async fn many_who_need_the_keys_fetch_them_once() {
        let (keys, counting, clock) = provider().await;
        assert_eq!(all(&keys, "first", 20).await, [true; 20]);
        assert_eq!(counting.fetched(), 1);
        counting.rotate("second");
        clock.advance(APART);
        assert_eq!(all(&keys, "second", 20).await, [true; 20]);
        assert_eq!(counting.fetched(), 2);
        assert_eq!(all(&keys, "first", 1).await, [true], "what was signed before is still good");
    }

    #[tokio::test]
    async fn unknown_keys_lead_to_one_fetch_in_ten_seconds() {
        let (keys, counting, clock) = provider().await;
        all(&keys, "first", 1).await;
        for made_up in 0..50 {
            assert_eq!(all(&keys, &format!("../{made_up}"), 1).await, [false]);
        }
        assert_eq!(counting.fetched(), 1);
        clock.advance(APART - TimeDelta::milliseconds(1));
        all(&keys, "x", 5).await;
        assert_eq!(counting.fetched(), 1);
        clock.advance(TimeDelta::milliseconds(1));
        for made_up in 0..50 {
            all(&keys, &format!("y{made_up}"), 1).await;
        }
        assert_eq!(counting.fetched(), 2);
    }

    #[tokio::test]
    async fn who_signs_in_waits_for_a_key_that_was_rotated_a_moment_ago() {
        let (keys, counting, clock) = provider().await;
        all(&keys, "first", 1).await;
        counting.rotate("second");
        let burst: Vec<_> = (0..30)
            .map(|_| {
                let keys = Arc::clone(&keys);
                tokio::spawn(async move {
                    keys.provider_awaiting("second").await.unwrap().key("second").is_some()
                })
            })
            .collect();
        tokio::time::sleep(LOOK_AGAIN * 2).await;
        assert_eq!(counting.fetched(), 1, "not before its time");
        clock.advance(APART);
        for signed_in in burst {
            assert!(signed_in.await.unwrap());
        }
        assert_eq!(counting.fetched(), 2);
    }

    #[tokio::test]
    async fn the_last_good_keys_stay_while_keycloak_is_down() {
        let (keys, counting, clock) = provider().await;
        counting.is_down.store(true, Ordering::SeqCst);
        keys.provider().await.unwrap_err();
        counting.is_down.store(false, Ordering::SeqCst);
        keys.provider().await.expect_err("it is not asked again at once");
        clock.advance(APART);
        assert_eq!(all(&keys, "first", 1).await, [true]);

        counting.is_down.store(true, Ordering::SeqCst);
        for _ in 0..5 {
            clock.advance(FRESH);
            assert_eq!(all(&keys, "first", 3).await, [true; 3]);
            assert_eq!(all(&keys, "unknown", 1).await, [false]);
        }
        assert_eq!(counting.fetched(), 1);
        counting.is_down.store(false, Ordering::SeqCst);
        counting.rotate("second");
        clock.advance(APART);
        assert_eq!(all(&keys, "second", 1).await, [true]);
    }

    #[tokio::test]
    async fn old_keys_are_renewed_beside_the_request() {
        let (keys, counting, clock) = provider().await;
        all(&keys, "first", 1).await;
        clock.advance(FRESH - TimeDelta::seconds(1));
        all(&keys, "first", 1).await;
        clock.advance(TimeDelta::seconds(1));
        assert_eq!(all(&keys, "first", 10).await, [true; 10]);
        let renewed = async {
            while counting.fetched() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, renewed).await.unwrap();
        tokio::time::sleep(LOOK_AGAIN).await;
        assert_eq!(counting.fetched(), 2);
    }
}
