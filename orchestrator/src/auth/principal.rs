//! Who is asking: a person or a machine, with its tenants and its roles in them, as the mirror of Keycloak has them.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::policy::{Permission, Role};
use crate::ids::{TenantId, UserId};

/// Where other tenants have the path of their group.
const SUITE_PATH: &str = "/suite";

/// A person or a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// Somebody.
    Person,
    /// A Keycloak service account.
    Service,
}

impl PrincipalKind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Service => "service",
        }
    }

    /// The kind stored as this.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Person, Self::Service].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What a tenant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenantKind {
    /// A person's own.
    Individual,
    /// A group under `/teams`.
    Team,
    /// A group under `/organizations`.
    Organization,
}

impl TenantKind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Individual => "individual",
            Self::Team => "team",
            Self::Organization => "organization",
        }
    }

    /// The kind stored as this.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Individual, Self::Team, Self::Organization].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A tenant as its people know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRef {
    /// Keycloak's UUID of the group, or of the user.
    pub id: TenantId,
    /// What it is.
    pub kind: TenantKind,
    /// `/organizations/acme-corp`; `/users/<id>` for the personal tenant.
    pub path: String,
    /// `Acme Corp`.
    pub name: String,
}

/// A tenant and the roles in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The tenant.
    pub tenant: TenantRef,
    /// The roles.
    pub roles: BTreeSet<Role>,
}

/// Somebody or something that has proven who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Keycloak's UUID of the user.
    pub id: UserId,
    /// The user name in Keycloak.
    pub username: String,
    /// The name to show.
    pub name: String,
    /// A person or a machine.
    pub kind: PrincipalKind,
    /// Runs the suite (sync, dead letters, health).
    pub platform_admin: bool,
    /// The tenants, the personal one first, then by name.
    pub grants: Vec<Grant>,
}

impl Principal {
    /// The grant in `tenant`, if it is in it.
    pub fn grant(&self, tenant: TenantId) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.tenant.id == tenant)
    }

    /// The tenant that a request names by UUID or by path, if the principal is in it.
    pub fn tenant(&self, named: &str) -> Option<&TenantRef> {
        let id = named.parse::<TenantId>().ok();
        self.grants
            .iter()
            .map(|grant| &grant.tenant)
            .find(|tenant| Some(tenant.id) == id || tenant.path == named)
    }

    /// The ids of all its tenants, the suite's among them for who runs it.
    pub fn tenant_ids(&self) -> Vec<TenantId> {
        let suite = self.platform_admin.then_some(TenantId::SUITE);
        self.grants.iter().map(|grant| grant.tenant.id).chain(suite).collect()
    }

    /// The tenants in which a role allows `permission`, and the suite's where running it does.
    pub fn tenants_with(&self, permission: Permission) -> Vec<TenantId> {
        let suite = (self.platform_admin && permission.is_of_platform()).then_some(TenantId::SUITE);
        self.grants
            .iter()
            .filter(|grant| grant.roles.iter().any(|role| role.grants(permission)))
            .map(|grant| grant.tenant.id)
            .chain(suite)
            .collect()
    }

    /// Whether it may hear of a tenant's events at all: it is in the tenant, or it is the suite and runs it. Which of them it hears,
    /// each event's permission says.
    pub fn may_listen(&self, tenant: TenantId) -> bool {
        match tenant {
            TenantId::SUITE => self.platform_admin,
            tenant => self
                .grant(tenant)
                .is_some_and(|grant| grant.roles.iter().any(|role| role.grants(Permission::TenantRead))),
        }
    }

    /// Whether a request that names this means the suite, and the principal runs it.
    pub fn names_suite(&self, named: &str) -> bool {
        self.platform_admin && (named == SUITE_PATH || named.parse() == Ok(TenantId::SUITE))
    }
}

/// Why a principal can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalError {
    /// Keycloak doesn't know the user, or has disabled it.
    #[error("the user is unknown or disabled")]
    Unknown,
    /// Neither the mirror nor Keycloak could be asked.
    #[error("the directory can't be read")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where principals come from: the directory.
#[async_trait]
pub trait PrincipalSource: Send + Sync {
    /// The principal with this id, from the mirror where it is fresh enough, else from Keycloak.
    async fn principal(&self, user: UserId) -> Result<Arc<Principal>, PrincipalError>;

    /// The principal with this id, read anew from Keycloak: at sign-in.
    async fn refreshed(&self, user: UserId) -> Result<Arc<Principal>, PrincipalError>;
}
