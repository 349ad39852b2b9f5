//! The mirror of Keycloak: who there is, which tenants there are, who has which role in them.
//!
//! It is filled from Keycloak's admin API when somebody signs in or calls for the first time, and compared with it
//! periodically; authorisation reads nothing else. Nobody edits it. Keycloak being down changes nothing in it.
//!
//! - `tree`: Keycloak's groups as tenants and roles;
//! - `refresh`: from a reading to the mirror, an older one never over a newer one;
//! - `claims`: groups that a token tells of, looked up at once;
//! - `changes`: what is written, each with its entry in the trail;
//! - `remembered`: principals for a moment, and none that has changed meanwhile;
//! - `hints`: Keycloak's admin events, which say who is to be read at once;
//! - `reconcile`: the periodical comparison, by one replica at a time;
//! - `whole`: tenants read completely or not at all, for what follows from them in the tools.

mod changes;
mod claims;
mod hints;
mod reconcile;
mod refresh;
mod remembered;
mod store;
mod tree;
mod whole;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use connector_core::ConnectorError;
use connector_keycloak::KeycloakAdmin;
use moka::future::Cache;
use tokio::sync::Notify;

pub use reconcile::Reconciler;
pub use tree::{Place, TreeError};
pub use whole::Whole;

use self::{remembered::Remembered, store::Seen};
use crate::{
    auth::{Principal, PrincipalError, PrincipalSource},
    clock::SharedClock,
    db::Database,
    http::problem::ErrorChain,
    ids::{TenantId, UserId},
};

/// A user that is active is compared with Keycloak after this time.
const FRESH: TimeDelta = TimeDelta::seconds(40);
const REFRESH_APART: Duration = Duration::from_secs(10);
/// What a token says of groups is held against the mirror once in this time.
const CLAIMS_APART: Duration = Duration::from_secs(30);

/// Why the mirror can't be renewed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Keycloak doesn't answer, or not completely: nothing was changed.
    #[error("Keycloak can't be read")]
    Keycloak(#[from] ConnectorError),
    /// The mirror can't be written.
    #[error("the mirror can't be written")]
    Database(#[from] sqlx::Error),
    /// Others wrote each time while it was read.
    #[error("it changes faster than it can be read")]
    Contended,
}

impl DirectoryError {
    /// Whether Keycloak doesn't answer at all.
    fn is_keycloak_down(&self) -> bool {
        matches!(self, Self::Keycloak(error) if error.is_retryable())
    }
}

/// The directory.
#[derive(Clone)]
pub struct Directory {
    database: Database,
    keycloak: Arc<KeycloakAdmin>,
    clock: SharedClock,
    remembered: Remembered,
    /// Who is being compared with Keycloak, or was just now.
    refreshing: Cache<UserId, ()>,
    /// What tokens have said of groups just now: the user, and the claim's hash.
    claims: Cache<(UserId, u64), ()>,
    /// Woken when who has which role has changed.
    changed: Arc<Notify>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Directory").finish_non_exhaustive()
    }
}

impl Directory {
    /// The directory of a realm.
    pub fn new(database: Database, keycloak: Arc<KeycloakAdmin>, clock: SharedClock) -> Self {
        let refreshing = Cache::builder().max_capacity(50_000).time_to_live(REFRESH_APART).build();
        let claims = Cache::builder().max_capacity(50_000).time_to_live(CLAIMS_APART).build();
        Self {
            database,
            keycloak,
            clock,
            remembered: Remembered::new(),
            refreshing,
            claims,
            changed: Arc::default(),
        }
    }

    /// Reads a user, its groups and its platform roles from Keycloak, and renews the mirror of it and of the tenants that
    /// are new to us.
    ///
    /// # Errors
    /// [`DirectoryError`]; then the mirror is as it was, or partly renewed, and the next run goes on.
    pub async fn refresh_user(&self, user: UserId) -> Result<Option<Arc<Principal>>, DirectoryError> {
        let settled = self.settle_user(user).await;
        self.remembered.forget(user).await;
        let Some(new_tenants) = settled? else { return Ok(None) };
        // Whoever could decide is known before anybody asks whether somebody could.
        Box::pin(self.refresh_tenants(new_tenants)).await?;
        self.load(user).await.map_err(DirectoryError::Database)
    }

    /// Reads a tenant's group, its sub-groups and their members from Keycloak, completely, and renews the mirror of it.
    ///
    /// # Errors
    /// [`DirectoryError`]; then the mirror is as it was, or lacks those who have to be read alone.
    pub async fn refresh_tenant(&self, tenant: TenantId) -> Result<(), DirectoryError> {
        self.refresh_tenants(vec![tenant]).await
    }

    async fn refresh_tenants(&self, tenants: Vec<TenantId>) -> Result<(), DirectoryError> {
        let mut result = Ok(());
        for user in self.settle_tenants(tenants).await? {
            if let Err(error) = self.refresh_user(user).await {
                result = Err(error);
            }
        }
        result
    }

    /// The enabled person with this user name, as the mirror knows it, if there is exactly one.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn person_named(&self, username: &str) -> Result<Option<UserId>, sqlx::Error> {
        let found = store::persons_named(&mut self.database.system_tx().await?, username).await?;
        Ok(if let [only] = found[..] { Some(only) } else { None })
    }

    /// The only enabled user with this verified mail address, if there is exactly one.
    ///
    /// # Errors
    /// Where Keycloak doesn't answer.
    pub async fn user_by_verified_mail(&self, mail: &str) -> Result<Option<UserId>, ConnectorError> {
        let users = self.keycloak.users_by_email(mail).await?;
        let mut matching = users.into_iter().filter(|user| {
            user.enabled
                && user.email_verified
                && user.email.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(mail))
        });
        Ok(match (matching.next(), matching.next()) {
            (Some(user), None) => Some(UserId(user.id)),
            _ => None,
        })
    }

    /// A person's mail address, where Keycloak has verified it and the person is enabled.
    ///
    /// # Errors
    /// Where Keycloak doesn't answer.
    pub async fn verified_mail(&self, user: UserId) -> Result<Option<String>, ConnectorError> {
        let user = self.keycloak.user(user.0).await?;
        Ok(user.filter(|user| user.enabled && user.email_verified).and_then(|user| user.email))
    }

    /// Waits until this process has seen that somebody has other roles; once for all changes since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// All tenants that stand for groups.
    ///
    /// # Errors
    /// Where the mirror can't be read.
    pub async fn group_tenants(&self) -> Result<Vec<TenantId>, sqlx::Error> {
        let mut tx = self.database.system_tx().await?;
        store::group_tenants(&mut tx).await
    }

    /// Compares a user that is active with Keycloak, beside the request, and not more often than that makes sense: one
    /// without a group is found disabled only this way.
    async fn refresh_later(&self, user: UserId) {
        if self.refreshing.get(&user).await.is_some() {
            return;
        }
        self.refreshing.insert(user, ()).await;
        let directory = self.clone();
        tokio::spawn(async move {
            if let Err(error) = directory.refresh_user(user).await {
                tracing::warn!(error = %ErrorChain(&error), "a user could not be compared with Keycloak and stays as it is");
            }
        });
    }

    async fn load(&self, user: UserId) -> Result<Option<Arc<Principal>>, sqlx::Error> {
        let since = self.remembered.since();
        let mut tx = self.database.system_tx().await?;
        let principal = store::load(&mut tx, user).await?.map(Arc::new);
        if let Some(principal) = &principal {
            self.remembered.insert(since, user, Arc::clone(principal)).await;
        }
        Ok(principal)
    }
}

#[async_trait]
impl PrincipalSource for Directory {
    async fn principal(&self, user: UserId) -> Result<Arc<Principal>, PrincipalError> {
        if let Some(principal) = self.remembered.get(user).await {
            return Ok(principal);
        }
        let unavailable = |error: sqlx::Error| PrincipalError::Unavailable(Box::new(error));
        let mut tx = self.database.system_tx().await.map_err(unavailable)?;
        let seen = store::seen(&mut tx, user).await.map_err(unavailable)?;
        drop(tx);
        match seen {
            Some(seen) if !seen.enabled => {
                // It may have been enabled again: without a group, nothing else finds that.
                if seen.seen_at.is_none_or(|at| self.clock.now() - at > FRESH) {
                    self.refresh_later(user).await;
                }
                return Err(PrincipalError::Unknown);
            }
            Some(Seen { seen_at: Some(at), .. }) => {
                if self.clock.now() - at > FRESH {
                    self.refresh_later(user).await;
                }
            }
            // Known from a group alone, or not at all.
            seen => match self.refreshed(user).await {
                Err(PrincipalError::Unavailable(_)) if seen.is_some() => {}
                refreshed => return refreshed,
            },
        }
        self.load(user).await.map_err(unavailable)?.ok_or(PrincipalError::Unknown)
    }

    async fn refreshed(&self, user: UserId) -> Result<Arc<Principal>, PrincipalError> {
        match self.refresh_user(user).await {
            Ok(Some(principal)) => Ok(principal),
            Ok(None) => Err(PrincipalError::Unknown),
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "a user could not be read from Keycloak");
                Err(PrincipalError::Unavailable(Box::new(error)))
            }
        }
    }
}
