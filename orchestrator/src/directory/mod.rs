//! The mirror of Keycloak: who there is, which tenants there are, who has which role in them.
//!
//! It is filled from Keycloak's admin API when somebody signs in or calls for the first time, and compared with it
//! periodically; authorisation reads nothing else. Nobody edits it. Keycloak being down changes nothing in it.

mod reconcile;
mod store;
mod tree;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_core::ConnectorError;
use connector_keycloak::KeycloakAdmin;
use moka::future::Cache;

pub use reconcile::Reconciler;
pub use tree::{Place, TreeError};

use crate::{
    auth::{Principal, PrincipalError, PrincipalSource},
    clock::SharedClock,
    db::Database,
    http::problem::ErrorChain,
    ids::{TenantId, UserId},
};

/// For how long a principal is remembered before the mirror is read again.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Why the mirror can't be renewed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Keycloak doesn't answer, or not completely: nothing was changed.
    #[error("Keycloak can't be read")]
    Keycloak(#[from] ConnectorError),
    /// The mirror can't be written.
    #[error("the mirror can't be written")]
    Database(#[from] sqlx::Error),
}

/// The directory.
#[derive(Clone)]
pub struct Directory {
    database: Database,
    keycloak: Arc<KeycloakAdmin>,
    /// The client whose roles are the platform's.
    api_client: String,
    clock: SharedClock,
    remembered: Cache<UserId, Arc<Principal>>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Directory").finish_non_exhaustive()
    }
}

impl Directory {
    /// The directory of a realm.
    pub fn new(database: Database, keycloak: Arc<KeycloakAdmin>, api_client: String, clock: SharedClock) -> Self {
        let remembered = Cache::builder().max_capacity(50_000).time_to_live(REMEMBERED).build();
        Self { database, keycloak, api_client, clock, remembered }
    }

    /// Reads a user, its groups and its platform roles from Keycloak, and renews the mirror of it and of the tenants that
    /// are new to us.
    ///
    /// # Errors
    /// [`DirectoryError`]; then the mirror is as it was.
    pub async fn refresh_user(&self, user: UserId) -> Result<Option<Arc<Principal>>, DirectoryError> {
        let now = self.clock.now();
        let found = self.keycloak.user(user.0).await?.filter(|found| found.enabled);
        let Some(found) = found else {
            let mut tx = self.database.system_tx().await?;
            store::disable(&mut tx, user, now).await?;
            tx.commit().await?;
            self.remembered.invalidate(&user).await;
            return Ok(None);
        };
        let roles = self.keycloak.user_client_roles(user.0, &self.api_client).await?;
        let groups = self.keycloak.user_groups(user.0).await?;
        let mut memberships = Vec::new();
        for group in &groups {
            let Ok(place) = Place::of(&group.path) else { continue };
            let tenant = tree::tenant_group(&self.keycloak, group, &place).await?;
            memberships.push(store::Membership { tenant, group: group.id, role: place.role });
        }
        let mut new_tenants = Vec::new();
        let mut tx = self.database.system_tx().await?;
        store::upsert_principal(&mut tx, &found, roles.iter().any(|role| role == "platform-admin"), now).await?;
        for membership in &memberships {
            if store::upsert_tenant(&mut tx, &membership.tenant, now).await? {
                new_tenants.push(membership.tenant.id);
            }
        }
        store::replace_memberships(&mut tx, &found, &memberships, now).await?;
        tx.commit().await?;
        // Whoever could decide is known before anybody asks whether somebody could.
        new_tenants.dedup();
        for tenant in new_tenants {
            self.refresh_tenant(tenant).await?;
        }
        self.remembered.invalidate(&user).await;
        self.load(user).await.map_err(DirectoryError::Database)
    }

    /// Reads a tenant's group, its sub-groups and their members from Keycloak, completely, and renews the mirror of it.
    ///
    /// # Errors
    /// [`DirectoryError`]; then the mirror is as it was.
    pub async fn refresh_tenant(&self, tenant: TenantId) -> Result<(), DirectoryError> {
        let now = self.clock.now();
        let Some(read) = tree::read_tenant(&self.keycloak, tenant).await? else {
            let mut tx = self.database.system_tx().await?;
            let gone = store::empty_tenant(&mut tx, tenant).await?;
            tx.commit().await?;
            self.forget(&gone).await;
            return Ok(());
        };
        let mut tx = self.database.system_tx().await?;
        store::upsert_tenant(&mut tx, &read.tenant, now).await?;
        let changed = store::replace_members(&mut tx, &read, now).await?;
        tx.commit().await?;
        self.forget(&changed).await;
        Ok(())
    }

    /// The only enabled user with this verified mail address, if there is exactly one.
    ///
    /// # Errors
    /// Where Keycloak doesn't answer.
    pub async fn user_by_verified_mail(&self, mail: &str) -> Result<Option<UserId>, ConnectorError> {
        let users = self.keycloak.users_by_email(mail).await?;
        let mut matching =
            users.into_iter().filter(|user| user.enabled && user.email_verified && user.email.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(mail)));
        Ok(match (matching.next(), matching.next()) {
            (Some(user), None) => Some(UserId(user.id)),
            _ => None,
        })
    }

    /// All tenants that stand for groups.
    ///
    /// # Errors
    /// Where the mirror can't be read.
    pub async fn group_tenants(&self) -> Result<Vec<TenantId>, sqlx::Error> {
        let mut tx = self.database.system_tx().await?;
        store::group_tenants(&mut tx).await
    }

    async fn forget(&self, users: &[UserId]) {
        for user in users {
            self.remembered.invalidate(user).await;
        }
    }

    async fn load(&self, user: UserId) -> Result<Option<Arc<Principal>>, sqlx::Error> {
        let mut tx = self.database.system_tx().await?;
        let principal = store::load(&mut tx, user).await?.map(Arc::new);
        if let Some(principal) = &principal {
            self.remembered.insert(user, Arc::clone(principal)).await;
        }
        Ok(principal)
    }
}

#[async_trait]
impl PrincipalSource for Directory {
    async fn principal(&self, user: UserId) -> Result<Arc<Principal>, PrincipalError> {
        if let Some(principal) = self.remembered.get(&user).await {
            return Ok(principal);
        }
        let unavailable = |error: sqlx::Error| PrincipalError::Unavailable(Box::new(error));
        let mut tx = self.database.system_tx().await.map_err(unavailable)?;
        let seen = store::is_enabled(&mut tx, user).await.map_err(unavailable)?;
        drop(tx);
        match seen {
            Some(true) => self.load(user).await.map_err(unavailable)?.ok_or(PrincipalError::Unknown),
            Some(false) => Err(PrincipalError::Unknown),
            None => self.refreshed(user).await,
        }
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
