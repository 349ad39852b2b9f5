use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use axum::http::{HeaderValue, header};

use super::*;
use crate::{clock::MockClock, config::Config, ids::RandomIds};

pub(super) fn headers(cookie: &Cookie<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::COOKIE,
        HeaderValue::from_str(&format!("a=b; {}={}", cookie.name(), cookie.value())).unwrap(),
    );
    headers
}

pub(super) fn new(user: u128, keycloak_session: &str) -> NewSession {
    NewSession {
        user: UserId(uuid::Uuid::from_u128(user)),
        keycloak_session: Some(keycloak_session.to_owned()),
        id_token: "an ID token".to_owned(),
        refresh_token: None,
        proven_until: DateTime::UNIX_EPOCH,
        authentication: crate::auth::step_up::Authentication::default(),
        draft: None,
        browser: String::new(),
        opened_from: None,
    }
}

fn in_memory() -> (Sessions, Arc<MockClock>) {
    sessions_in(&Config::defaults().unwrap().redis)
}

pub(super) fn sessions_in(redis: &RedisConfig) -> (Sessions, Arc<MockClock>) {
    let clock = Arc::new(MockClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
    let config = SessionConfig { idle_minutes: 30, absolute_hours: 1 };
    let key = Arc::new(MasterKey::ephemeral(&RandomIds).unwrap());
    let stop = CancellationToken::new();
    let sessions = Sessions::new(&config, redis, key, clock.clone(), Arc::new(RandomIds), stop).unwrap();
    (sessions, clock)
}

async fn begin(sessions: &Sessions, user: u128, keycloak_session: &str) -> Cookie<'static> {
    sessions.begin(new(user, keycloak_session)).await.unwrap().expect("it begins")
}

async fn is_alive(sessions: &Sessions, cookie: &Cookie<'_>) -> bool {
    sessions.find(&headers(cookie), false).await.unwrap().is_some()
}

#[tokio::test]
async fn a_session_ends_when_idle_and_for_good_after_its_time() {
    let (sessions, clock) = in_memory();
    let cookie = begin(&sessions, 1, "k").await;
    assert!(cookie.secure().unwrap() && cookie.http_only().unwrap() && cookie.domain().is_none());
    for _ in 0..2 {
        clock.advance(TimeDelta::minutes(29));
        assert!(sessions.find(&headers(&cookie), true).await.unwrap().is_some());
    }
    clock.advance(TimeDelta::minutes(3));
    assert!(sessions.find(&headers(&cookie), true).await.unwrap().is_none(), "one hour is over");

    let cookie = begin(&sessions, 1, "k2").await;
    clock.advance(TimeDelta::minutes(29));
    assert!(sessions.find(&headers(&cookie), false).await.unwrap().is_some());
    clock.advance(TimeDelta::minutes(2));
    assert!(sessions.find(&headers(&cookie), true).await.unwrap().is_none(), "idle for too long");
}

#[tokio::test]
async fn exactly_those_sessions_end_that_are_meant() {
    let (sessions, _) = in_memory();
    let mine = begin(&sessions, 1, "k").await;
    let my_other = begin(&sessions, 1, "other").await;
    let yours = begin(&sessions, 2, "k").await;
    let key = Sessions::key_of(&headers(&my_other)).unwrap();

    // Keycloak's session of somebody else.
    assert_eq!(sessions.end_keycloak_session("other", Some(new(2, "").user)).await.unwrap(), 0);
    assert_eq!(sessions.end_keycloak_session("k", Some(new(1, "").user)).await.unwrap(), 1);
    assert!(!is_alive(&sessions, &mine).await);
    assert!(is_alive(&sessions, &my_other).await && is_alive(&sessions, &yours).await);

    let third = begin(&sessions, 1, "third").await;
    assert_eq!(sessions.of_user(new(1, "").user).await.unwrap().len(), 2);
    assert_eq!(sessions.end_all_of(new(1, "").user, Some(key)).await.unwrap(), 1);
    assert!(is_alive(&sessions, &my_other).await && !is_alive(&sessions, &third).await);
    assert_eq!(sessions.end_all_of(new(1, "").user, None).await.unwrap(), 1);
    assert!(!is_alive(&sessions, &my_other).await && is_alive(&sessions, &yours).await);
}

#[tokio::test]
async fn a_session_that_keycloak_ended_during_the_sign_in_does_not_begin() {
    let (sessions, _) = in_memory();
    sessions.end_keycloak_session("k", None).await.unwrap();
    assert!(sessions.begin(new(1, "k")).await.unwrap().is_none());
    assert_eq!(sessions.of_user(new(1, "").user).await.unwrap().len(), 0);
    begin(&sessions, 1, "another").await;
}

#[tokio::test]
async fn what_is_kept_is_sealed_for_its_session_alone() {
    let (sessions, _) = in_memory();
    let (one, two) = (begin(&sessions, 1, "k").await, begin(&sessions, 2, "k2").await);
    let (one, two) = (Sessions::key_of(&headers(&one)).unwrap(), Sessions::key_of(&headers(&two)).unwrap());
    let kept = sessions.storage.read(one, None).await.unwrap().unwrap();
    for secret in [&b"an ID token"[..], b"id_token", b"00000000-0000-0000-0000-000000000001"] {
        assert!(!kept.sealed.windows(secret.len()).any(|window| window == secret));
    }
    // Somebody who can write to the storage puts one person's content into another's session.
    assert!(sessions.storage.replace(two, 1, &kept.sealed).await.unwrap());
    assert!(sessions.touch(two, true).await.unwrap().is_none());
    assert!(sessions.touch(one, true).await.unwrap().is_some());
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let (sessions, _) = in_memory();
    let key = Sessions::key_of(&headers(&begin(&sessions, 1, "k").await)).unwrap();
    let tenant = TenantId(uuid::Uuid::from_u128(7));
    let changed = sessions
        .update(key, |session| {
            // Another request comes in between, once.
            if session.last_tenant.is_none() {
                futures::executor::block_on(sessions.remember_tenant(key, tenant));
            }
            session.refresh_token = Some("new".to_owned());
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!((changed.refresh_token.as_deref(), changed.last_tenant), (Some("new"), Some(tenant)));
}

/// A storage whose next replacements fail.
#[derive(Debug)]
struct Failing {
    storage: Arc<dyn SessionStorage>,
    failures: AtomicU32,
}

#[async_trait]
impl SessionStorage for Failing {
    async fn insert(
        &self,
        key: SessionKey,
        record: &Record,
        labels: &[Label],
        idle: Duration,
        absolute: Duration,
    ) -> Result<(), StorageError> {
        self.storage.insert(key, record, labels, idle, absolute).await
    }

    async fn read(
        &self,
        key: SessionKey,
        used: Option<(DateTime<Utc>, Duration)>,
    ) -> Result<Option<Record>, StorageError> {
        self.storage.read(key, used).await
    }

    async fn replace(&self, key: SessionKey, revision: u64, sealed: &[u8]) -> Result<bool, StorageError> {
        let left = self.failures.load(Ordering::SeqCst);
        if left > 0 {
            self.failures.store(left - 1, Ordering::SeqCst);
            return Err(StorageError("it is down".into()));
        }
        self.storage.replace(key, revision, sealed).await
    }

    async fn remove(&self, key: SessionKey, labels: &[Label]) -> Result<bool, StorageError> {
        self.storage.remove(key, labels).await
    }

    async fn labelled(&self, label: &Label) -> Result<Vec<SessionKey>, StorageError> {
        self.storage.labelled(label).await
    }

    async fn claim(&self, name: &str, owner: &str, lifetime: Duration) -> Result<bool, StorageError> {
        self.storage.claim(name, owner, lifetime).await
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError> {
        self.storage.release(name, owner).await
    }

    async fn is_claimed(&self, name: &str) -> Result<bool, StorageError> {
        self.storage.is_claimed(name).await
    }
}

#[tokio::test]
async fn what_must_not_be_lost_is_kept_though_the_storage_is_down_for_a_moment() {
    let (mut sessions, _) = in_memory();
    let storage = Arc::clone(&sessions.storage);
    sessions.storage = Arc::new(Failing { storage, failures: AtomicU32::new(2) });
    let key = Sessions::key_of(&headers(&begin(&sessions, 1, "k").await)).unwrap();
    let change = |session: &mut Session| session.refresh_token = Some("new".to_owned());
    sessions.update_persistently(key, change).await.unwrap().unwrap();
    let kept = sessions.touch(key, false).await.unwrap().unwrap();
    assert_eq!(kept.refresh_token.as_deref(), Some("new"));
}
