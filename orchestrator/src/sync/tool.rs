use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use async_trait::async_trait;
use connector_core::ConnectorError;

use super::model::{AccountId, Action, Evidence, Level, Observed, Person, Scope, ScopePath, Wanted};
use crate::{
    auth::Role,
    directory::Whole,
    ids::{TenantId, UserId},
};

/// Keycloak's people and their roles in the tenants, read completely.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Realm {
    /// Everybody who belongs to one of the tenants, the disabled as well.
    pub people: BTreeMap<UserId, Person>,
    /// Who has which roles in which tenant.
    pub roles: BTreeMap<TenantId, BTreeMap<UserId, BTreeSet<Role>>>,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The tool has done it, and says so when it is asked.
    Done,
    /// It was so already: nothing was written.
    AlreadySo,
    /// The person has this account now.
    Account {
        /// The account.
        account: AccountId,
        /// Whether it was made for the person, or was there before under its address.
        evidence: Evidence,
    },
}

/// Why a step wasn't taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The tool doesn't answer or refuses.
    #[error("the tool can't be asked")]
    Tool(#[from] ConnectorError),
    /// It isn't any more as it was when the plan was made.
    #[error("it has changed since the plan was made")]
    Changed {
        /// What is there.
        seen: Option<Level>,
    },
    /// The tool has said that it did it, and has not.
    #[error("the tool says that it was done, and it was not")]
    NotDone {
        /// What is there.
        seen: Option<Level>,
    },
    /// The address is an account's that was made for somebody else.
    #[error("the account with this address is somebody else's")]
    Taken,
    /// The plan is of another tool.
    #[error("the tool has no such thing")]
    NoSuchThing,
}

/// A tool as the engine needs it. What scopes and levels mean is known in here only.
#[async_trait]
pub trait Tool: Send + Sync + fmt::Debug {
    /// As plans name it.
    fn name(&self) -> &'static str;

    /// What the tool calls a level.
    fn level_name(&self, level: Level) -> &'static str;

    /// What Keycloak's roles come to in it.
    fn wants(&self, realm: Realm) -> Wanted;

    /// Everything in these scopes, and these accounts, completely.
    ///
    /// # Errors
    /// Where anything of it can't be read; then nothing is known.
    async fn observe(
        &self,
        scopes: &BTreeMap<ScopePath, Scope>,
        linked: &BTreeSet<AccountId>,
    ) -> Result<Observed, ConnectorError>;

    /// Takes a step that isn't only written down, for a person with this account: looks how it is, does it unless it is so, and looks
    /// again. It can be repeated.
    ///
    /// # Errors
    /// [`TakeError`].
    async fn take(&self, action: &Action, account: Option<&AccountId>) -> Result<Taken, TakeError>;
}

impl From<Whole> for Realm {
    fn from(whole: Whole) -> Self {
        let people = whole.people.into_iter().map(|(id, user)| {
            let person = Person {
                name: user.display_name(),
                mail: user.email.as_deref().filter(|_| user.email_verified).map(str::to_lowercase),
                enabled: user.enabled,
                service: user.is_service_account(),
            };
            (id, person)
        });
        Self { people: people.collect(), roles: whole.roles }
    }
}
