//! What a browser has after a sign-in: an opaque 256-bit id in a `__Host-` cookie; everything else stays here, sealed.
//!
//! - [`Sessions`]: beginning, finding and ending them.
//! - [`SessionStorage`]: where they are kept. No process remembers any beside it, so that what ends anywhere has ended
//!   everywhere (docs/adr/0005).
//! - [`Watch`]: how an event stream hears at once that its session has ended.

mod content;
#[cfg(test)]
#[cfg(feature = "testing")]
mod contract;
mod cookie;
mod memory;
mod redis;
mod storage;
#[cfg(test)]
mod tests;
mod watch;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::http::HeaderMap;
use axum_extra::extract::cookie::Cookie;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::{
    content::{Draft, NewSession, Session, browser},
    cookie::{COOKIE, cookie, removal},
    storage::{Label, Record, SessionKey, SessionStorage, StorageError},
    watch::Watch,
};
use self::{memory::MemoryStorage, redis::RedisStorage, watch::Watches};
use crate::{
    clock::SharedClock,
    config::{RedisConfig, SessionConfig},
    crypto::MasterKey,
    ids::{SharedIds, TenantId, UserId},
};

/// How long it is remembered that a session of Keycloak's has ended, for a sign-in that is still under way: longer than
/// a code is good for.
const OVER_FOR: Duration = Duration::from_mins(5);
/// How long it is remembered that somebody goes on with another session.
const MOVED_FOR: Duration = Duration::from_mins(1);
/// Who changes a session tries again so often when somebody else was faster.
const MOST_ATTEMPTS: u32 = 5;
/// Which version the Redis server is; writes nothing there.
///
/// # Errors
/// Where it doesn't answer, or refuses us.
pub async fn redis_version(config: &RedisConfig) -> Result<String, StorageError> {
    redis::server_version(config).await
}

/// Pauses before trying again to keep what must not be lost.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_secs(2)];

/// Who is signed in.
#[derive(Debug, Clone)]
pub struct Sessions {
    storage: Arc<dyn SessionStorage>,
    is_shared: bool,
    watches: Watches,
    back: Arc<Notify>,
    master_key: Arc<MasterKey>,
    idle: TimeDelta,
    absolute: TimeDelta,
    clock: SharedClock,
    ids: SharedIds,
}

impl Sessions {
    /// Sessions in Redis where it is configured, else in this process. Redis needn't be up.
    ///
    /// # Errors
    /// Where Redis' address makes no sense.
    pub fn new(
        config: &SessionConfig,
        redis: &RedisConfig,
        master_key: Arc<MasterKey>,
        clock: SharedClock,
        ids: SharedIds,
        stop: CancellationToken,
    ) -> Result<Self, StorageError> {
        let (watches, back) = (Watches::default(), Arc::new(Notify::new()));
        let is_shared = !redis.url.expose_secret().is_empty();
        let storage: Arc<dyn SessionStorage> = if is_shared {
            let storage = RedisStorage::new(redis, watches.clone())?;
            tokio::spawn(storage.listen(stop, Arc::clone(&back)));
            Arc::new(storage)
        } else {
            Arc::new(MemoryStorage::new(watches.clone()))
        };
        let idle = TimeDelta::minutes(config.idle_minutes);
        let absolute = TimeDelta::hours(config.absolute_hours);
        Ok(Self { storage, is_shared, watches, back, master_key, idle, absolute, clock, ids })
    }

    /// Whether other replicas know the same sessions.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Begins a session and gives its cookie; none where Keycloak has ended its session in the meantime.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn begin(&self, new: NewSession) -> Result<Option<Cookie<'static>>, StorageError> {
        let mut id = [0; cookie::ID_LENGTH];
        self.ids.fill(&mut id);
        let key = SessionKey::of(&id);
        let now = self.clock.now();
        let NewSession {
            user,
            keycloak_session,
            id_token,
            refresh_token,
            proven_until,
            authentication,
            draft,
            browser,
            opened_from,
        } = new;
        let session = Session {
            user,
            keycloak_session,
            id_token,
            refresh_token,
            proven_until,
            authentication,
            last_tenant: None,
            draft,
            browser,
            opened_from,
            used_from: opened_from,
            created_at: now,
            used_at: now,
        };
        let record = Record { sealed: self.seal(key, &session)?, revision: 1, used_at: now };
        let labels = labels(&session);
        self.storage.insert(key, &record, &labels, self.idle_for(), positive(self.absolute)).await?;
        // Whoever ends Keycloak's session first leaves word and then looks for ours: one of the two finds the other.
        if let Some(over) = session.keycloak_session.as_deref().map(over)
            && self.storage.is_claimed(&over).await?
        {
            self.storage.remove(key, &labels).await?;
            return Ok(None);
        }
        Ok(Some(cookie::of_session(&id)))
    }

    /// The key that a request's cookie leads to; whether there is such a session is another question.
    pub fn key_of(headers: &HeaderMap) -> Option<SessionKey> {
        cookie::key_of(headers)
    }

    /// The session that a request's cookie leads to; `used` keeps it from going idle.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn find(
        &self,
        headers: &HeaderMap,
        used: bool,
    ) -> Result<Option<(SessionKey, Session)>, StorageError> {
        let Some(key) = Self::key_of(headers) else { return Ok(None) };
        Ok(self.touch(key, used).await?.map(|session| (key, session)))
    }

    /// The session as it is now, if it is alive; `used` keeps it from going idle.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn touch(&self, key: SessionKey, used: bool) -> Result<Option<Session>, StorageError> {
        let now = self.clock.now();
        let used_now = used.then_some((now, self.idle_for()));
        let Some(record) = self.storage.read(key, used_now).await? else { return Ok(None) };
        let Some(session) = self.open(key, &record) else { return Ok(None) };
        if !self.is_alive(&session, now) {
            self.storage.remove(key, &labels(&session)).await?;
            return Ok(None);
        }
        Ok(Some(Session { used_at: if used { now } else { session.used_at }, ..session }))
    }

    /// Changes a session, whoever else changes it at the same time. Gives it as it is then; none where it has ended.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn update(
        &self,
        key: SessionKey,
        change: impl Fn(&mut Session) + Send + Sync,
    ) -> Result<Option<Session>, StorageError> {
        for _ in 0..MOST_ATTEMPTS {
            let Some(record) = self.storage.read(key, None).await? else { return Ok(None) };
            let Some(mut session) = self.open(key, &record) else { return Ok(None) };
            change(&mut session);
            if self.storage.replace(key, record.revision, &self.seal(key, &session)?).await? {
                return Ok(Some(session));
            }
        }
        Err(StorageError("others changed the session again and again".into()))
    }

    /// The same for what must not be lost, such as a new refresh token: again after a pause where the storage doesn't answer.
    ///
    /// # Errors
    /// Where the storage doesn't answer for some seconds.
    pub async fn update_persistently(
        &self,
        key: SessionKey,
        change: impl Fn(&mut Session) + Send + Sync,
    ) -> Result<Option<Session>, StorageError> {
        for pause in PAUSES {
            match self.update(key, &change).await {
                Err(error) => tracing::warn!(%error, "a session could not be changed; it is tried again"),
                changed => return changed,
            }
            tokio::time::sleep(pause).await;
        }
        self.update(key, &change).await
    }

    /// Remembers which tenant was last looked at.
    pub async fn remember_tenant(&self, key: SessionKey, tenant: TenantId) {
        if let Err(error) = self.update(key, |session| session.last_tenant = Some(tenant)).await {
            // Nothing depends on it.
            tracing::debug!(%error, "the last tenant could not be remembered");
        }
    }

    /// Remembers from where it was last used, where that has changed.
    pub async fn remember_address(&self, key: SessionKey, session: &Session, address: Option<IpAddr>) {
        if address.is_none() || session.used_from == address {
            return;
        }
        if let Err(error) = self.update(key, |session| session.used_from = address).await {
            // Nothing depends on it.
            tracing::debug!(%error, "the last address could not be remembered");
        }
    }

    /// Ends a session and gives it back.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn end(&self, key: SessionKey) -> Result<Option<Session>, StorageError> {
        let record = self.storage.read(key, None).await?;
        let session = record.as_ref().and_then(|record| self.open(key, record));
        let labels = session.as_ref().map(labels).unwrap_or_default();
        // Whether it was there then says nothing: the answer to the first attempt may be lost.
        self.storage.remove(key, &labels).await?;
        Ok(session)
    }

    /// Says that whoever had this session goes on with another one: its streams are to come back, not to end.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn moves_on(&self, key: SessionKey) -> Result<(), StorageError> {
        self.storage.claim(&moved(key), "", MOVED_FOR).await.map(drop)
    }

    /// Whether whoever had this session goes on with another one.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn has_moved_on(&self, key: SessionKey) -> Result<bool, StorageError> {
        self.storage.is_claimed(&moved(key)).await
    }

    /// Ends all sessions of a user but the one with the key `except`; says how many there were.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn end_all_of(&self, user: UserId, except: Option<SessionKey>) -> Result<usize, StorageError> {
        self.end_labelled(&Label::User(user), |key, session| session.user == user && Some(key) != except)
            .await
    }

    /// Ends all sessions of a user that had begun by then; says how many there were.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn end_all_begun_by(&self, user: UserId, then: DateTime<Utc>) -> Result<usize, StorageError> {
        self.end_labelled(&Label::User(user), |_, session| session.user == user && session.created_at <= then)
            .await
    }

    /// Ends what came of a session of Keycloak's, and what is still to come of it; says how many there were. Where the
    /// user is known, only what is theirs.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn end_keycloak_session(&self, id: &str, user: Option<UserId>) -> Result<usize, StorageError> {
        self.storage.claim(&over(id), "", OVER_FOR).await?;
        self.end_labelled(&Label::keycloak_session(id), |_, session| {
            session.keycloak_session.as_deref() == Some(id) && user.is_none_or(|user| session.user == user)
        })
        .await
    }

    /// The sessions of a user that are alive, the one used last first.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn of_user(&self, user: UserId) -> Result<Vec<(SessionKey, Session)>, StorageError> {
        let mut sessions = Vec::new();
        for key in self.storage.labelled(&Label::User(user)).await? {
            if let Some(session) = self.touch(key, false).await?.filter(|session| session.user == user) {
                sessions.push((key, session));
            }
        }
        sessions.sort_by_key(|(_, session)| (std::cmp::Reverse(session.used_at), session.created_at));
        Ok(sessions)
    }

    /// Wakes when the session may have ended.
    pub fn watch(&self, key: SessionKey) -> Watch {
        self.watches.watch(key)
    }

    /// Completes when the storage has come back since the last time, or has been reached for the first; never for sessions in this
    /// process.
    pub async fn back(&self) {
        self.back.notified().await;
    }

    /// An owner of names that nobody else is.
    pub fn new_owner(&self) -> String {
        let mut owner = [0; 16];
        self.ids.fill(&mut owner);
        hex::encode(owner)
    }

    /// Claims a name among all replicas, for an owner and so long. False where somebody else has it.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn claim(&self, name: &str, owner: &str, lifetime: Duration) -> Result<bool, StorageError> {
        self.storage.claim(name, owner, lifetime).await
    }

    /// Gives a name back that this owner has claimed.
    ///
    /// # Errors
    /// Where the storage doesn't answer.
    pub async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError> {
        self.storage.release(name, owner).await
    }

    async fn end_labelled(
        &self,
        label: &Label,
        is_meant: impl Fn(SessionKey, &Session) -> bool + Send + Sync,
    ) -> Result<usize, StorageError> {
        let mut ended = 0;
        for key in self.storage.labelled(label).await? {
            let Some(record) = self.storage.read(key, None).await? else { continue };
            let Some(session) = self.open(key, &record) else { continue };
            if is_meant(key, &session) {
                self.storage.remove(key, &labels(&session)).await?;
                ended += 1;
            }
        }
        Ok(ended)
    }

    fn seal(&self, key: SessionKey, session: &Session) -> Result<Vec<u8>, StorageError> {
        let plain = serde_json::to_vec(session).map_err(|error| StorageError(Box::new(error)))?;
        self.master_key.seal(&*self.ids, &purpose(key), &plain).map_err(|error| StorageError(Box::new(error)))
    }

    /// What was sealed for this session; what can't be opened is no session.
    fn open(&self, key: SessionKey, record: &Record) -> Option<Session> {
        let plain = self.master_key.open(&purpose(key), &record.sealed);
        let session: Option<Session> = plain.ok().and_then(|plain| serde_json::from_slice(&plain).ok());
        if session.is_none() {
            tracing::warn!(
                session = key.handle(),
                "a session can't be opened: its key is missing, or it was changed"
            );
        }
        session.map(|session| Session { used_at: record.used_at, ..session })
    }

    fn is_alive(&self, session: &Session, now: DateTime<Utc>) -> bool {
        now - session.used_at < self.idle && now - session.created_at < self.absolute
    }

    fn idle_for(&self) -> Duration {
        positive(self.idle.min(self.absolute))
    }
}

/// What the content of this session, and nothing else, is sealed for.
fn purpose(key: SessionKey) -> String {
    format!("session {}", key.hex())
}

fn labels(session: &Session) -> Vec<Label> {
    let of_keycloak = session.keycloak_session.as_deref().map(Label::keycloak_session);
    std::iter::once(Label::User(session.user)).chain(of_keycloak).collect()
}

/// The name that says that a session of Keycloak's is over.
fn over(keycloak_session: &str) -> String {
    format!("over:{}", Label::keycloak_session(keycloak_session).name())
}

/// The name that says that whoever had a session goes on with another one.
fn moved(key: SessionKey) -> String {
    format!("moved:{}", key.hex())
}

fn positive(delta: TimeDelta) -> Duration {
    delta.to_std().unwrap_or_default()
}
