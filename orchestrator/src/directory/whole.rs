//! Tenants as Keycloak has them, completely or not at all: what is missing in a reading is taken from people elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use connector_core::ConnectorError;
use connector_keycloak::User;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    Directory, DirectoryError,
    tree::{self, TenantTree},
};
use crate::{
    auth::Role,
    ids::{TenantId, UserId},
};

/// How many tenants are read at a time.
const AT_ONCE: usize = 4;

/// The people of some tenants and their roles there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whole {
    /// Everybody, the disabled as well.
    pub people: BTreeMap<UserId, User>,
    /// Who has which roles in which tenant; those who only belong are members. A tenant whose group is gone isn't there.
    pub roles: BTreeMap<TenantId, BTreeMap<UserId, BTreeSet<Role>>>,
}

impl Whole {
    fn add(&mut self, read: TenantTree) {
        let roles = self.roles.entry(read.tenant.id).or_default();
        for (user, _group, role) in read.members {
            let id = UserId(user.id);
            roles.entry(id).or_default().extend([Role::Member, role]);
            self.people.insert(id, user);
        }
    }
}

impl Directory {
    /// Reads these tenants from Keycloak twice. Pages aren't a snapshot, and a page that comes short says nothing: only where both
    /// readings are the same is it what Keycloak has.
    ///
    /// # Errors
    /// [`DirectoryError::Keycloak`] where any request fails; [`DirectoryError::Contended`] where the readings differ.
    pub async fn read_whole(&self, tenants: &BTreeSet<TenantId>) -> Result<Whole, DirectoryError> {
        let first = self.read_once(tenants).await?;
        if first == self.read_once(tenants).await? { Ok(first) } else { Err(DirectoryError::Contended) }
    }

    async fn read_once(&self, tenants: &BTreeSet<TenantId>) -> Result<Whole, ConnectorError> {
        let reads = stream::iter(tenants.iter().copied())
            .map(async |tenant| tree::read_tenant(&self.keycloak, tenant).await)
            .buffered(AT_ONCE);
        reads
            .try_fold(Whole::default(), async |mut whole, read| {
                if let Some(read) = read {
                    whole.add(read);
                }
                Ok(whole)
            })
            .await
    }
}
