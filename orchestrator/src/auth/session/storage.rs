use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use crate::{http::Problem, ids::UserId};

/// A session's key here: the id's SHA-256, so that what is stored opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key of the session with this id.
    pub(super) fn of(id: &[u8]) -> Self {
        Self(Sha256::digest(id).into())
    }

    /// The key that was written as text.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().ok().map(Self)
    }

    /// The key as text.
    pub(super) fn hex(self) -> String {
        hex::encode(self.0)
    }

    /// What tells a session from the others of its user on pages and in the trail.
    pub fn handle(self) -> String {
        hex::encode(&self.0[..8])
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SessionKey({})", self.handle())
    }
}

/// The storage doesn't answer. Nobody is signed out by that.
#[derive(Debug, thiserror::Error)]
#[error("the storage of sign-ins can't be reached")]
pub struct StorageError(#[source] pub(super) Box<dyn std::error::Error + Send + Sync>);

impl StorageError {
    /// What a cause does to the storage.
    pub(crate) fn from_source(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        Self::unavailable(&error).named("sign_in_storage", "The storage of sign-ins can't be reached")
    }
}

/// What is kept of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The content, sealed.
    pub sealed: Vec<u8>,
    /// Grows with each replacement of the content.
    pub revision: u64,
    /// When the session was last used, to the millisecond.
    pub used_at: DateTime<Utc>,
}

/// What sessions are found by besides their key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Label {
    /// The user.
    User(UserId),
    /// Keycloak's session, by its SHA-256.
    KeycloakSession([u8; 32]),
}

impl Label {
    /// The label of a session of Keycloak's.
    pub fn keycloak_session(id: &str) -> Self {
        Self::KeycloakSession(Sha256::digest(id).into())
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::User(user) => format!("user:{user}"),
            Self::KeycloakSession(hash) => format!("keycloak:{}", hex::encode(hash)),
        }
    }
}

/// Where sessions are kept: in the process, or in Redis. Both are held to the same tests.
///
/// A storage forgets by itself what nobody used for the time that it was told, measured by its own clock; whoever reads a
/// record looks at its times by the application's clock besides.
#[async_trait]
pub trait SessionStorage: Send + Sync + std::fmt::Debug {
    /// Keeps a new session until nobody has used it for `idle`, and its labels for `absolute`.
    async fn insert(
        &self,
        key: SessionKey,
        record: &Record,
        labels: &[Label],
        idle: Duration,
        absolute: Duration,
    ) -> Result<(), StorageError>;

    /// The session with this key. Where `used` says so, it was used at that time and is kept for so long again.
    async fn read(
        &self,
        key: SessionKey,
        used: Option<(DateTime<Utc>, Duration)>,
    ) -> Result<Option<Record>, StorageError>;

    /// Replaces the content of a session that still has this revision. False where it is gone or was replaced.
    async fn replace(&self, key: SessionKey, revision: u64, sealed: &[u8]) -> Result<bool, StorageError>;

    /// Removes a session and wakes whoever watches it, on every replica. False where it was gone, or where the first answer
    /// was lost.
    async fn remove(&self, key: SessionKey, labels: &[Label]) -> Result<bool, StorageError>;

    /// The sessions with this label. Those that are gone are forgotten here too, as at each insertion.
    async fn labelled(&self, label: &Label) -> Result<Vec<SessionKey>, StorageError>;

    /// Claims a name for an owner and so long. False where somebody else has it: who has it already is told so again, since
    /// the first answer may have been lost.
    async fn claim(&self, name: &str, owner: &str, lifetime: Duration) -> Result<bool, StorageError>;

    /// Gives a name back that this owner has claimed.
    async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError>;

    /// Whether somebody has claimed this name.
    async fn is_claimed(&self, name: &str) -> Result<bool, StorageError>;
}
