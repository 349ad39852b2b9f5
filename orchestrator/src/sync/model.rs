use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{brake::Limits, correlate::Identity};
use crate::ids::{TenantId, UserId};

/// An account of the tool, by the tool's own id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub String);

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where in the tool somebody has something: `accounts/3`, and inside of that `accounts/3/teams/7`. Who has nothing in the outer
/// has nothing in the inner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopePath(pub String);

impl ScopePath {
    /// How many scopes are around it.
    pub fn depth(&self) -> usize {
        self.0.split('/').count().div_ceil(2).saturating_sub(1)
    }

    /// The scope right around it.
    pub fn outer(&self) -> Option<Self> {
        let (rest, _id) = self.0.rsplit_once('/')?;
        let (outer, _kind) = rest.rsplit_once('/')?;
        Some(Self(outer.to_owned()))
    }
}

impl fmt::Display for ScopePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a scope is: what the brake counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A whole of its own in the tool, with its administrators: an account of Chatwoot.
    Account,
    /// People who are addressed together.
    Team,
    /// Where messages come in.
    Inbox,
}

impl Kind {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Team => "team",
            Self::Inbox => "inbox",
        }
    }
}

/// How much somebody may do in a scope. Whoever has a higher one may do all that a lower one lets do; the tool says what they are
/// called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Level(pub u16);

impl Level {
    /// Belonging to it.
    pub const MEMBER: Self = Self(10);
    /// Running it.
    pub const ADMINISTRATOR: Self = Self(100);
}

/// A scope that we are told to manage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub tenant: TenantId,
    /// Somebody has at least so much in it, always; none where it may be empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Level>,
}

/// A person as Keycloak knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name to show.
    pub name: String,
    /// The mail address in lower case, where Keycloak has verified it.
    pub mail: Option<String>,
    /// Whether it may sign in.
    pub enabled: bool,
    /// Whether it is a service account: those get nothing, and nothing is taken from them.
    pub service: bool,
}

/// What is to be, by Keycloak. It is read completely, or there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Everybody of the tenants, the disabled as well.
    pub people: BTreeMap<UserId, Person>,
    /// What we manage.
    pub scopes: BTreeMap<ScopePath, Scope>,
    /// Who is to have what in it.
    pub grants: BTreeMap<(UserId, ScopePath), Level>,
}

/// An account as the tool knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name to show.
    pub name: String,
    /// The mail address in lower case.
    pub mail: Option<String>,
    /// Whether the tool knows that this is its holder's address.
    pub confirmed: bool,
    /// Whom we made it for, as we have noted in the tool itself.
    pub made_for: Option<UserId>,
}

/// What is there, by the tool. It is read completely, or there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Those of the managed scopes, and those that are linked.
    pub accounts: BTreeMap<AccountId, Account>,
    /// Which of the managed scopes there are.
    pub scopes: BTreeSet<ScopePath>,
    /// Who has what in them.
    pub grants: BTreeMap<(AccountId, ScopePath), Level>,
}

/// How it was found out that an account is a person's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// We made the account.
    Created,
    /// Both have the same address, which both sides have verified.
    VerifiedMail,
    /// An administrator has said so.
    Administrator,
}

impl Evidence {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::VerifiedMail => "verified_mail",
            Self::Administrator => "administrator",
        }
    }

    /// The evidence stored as this.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Created, Self::VerifiedMail, Self::Administrator].into_iter().find(|one| one.as_str() == name)
    }
}

/// A person's account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The account.
    pub account: AccountId,
    /// How that is known.
    pub evidence: Evidence,
}

/// What we know of a tool from before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Whether a plan was applied before.
    pub contacted: bool,
    /// Who has which account.
    pub links: BTreeMap<UserId, Link>,
    /// The grants that we made, as we made them.
    pub grants: BTreeMap<(AccountId, ScopePath), Level>,
    /// The drift that somebody has accepted.
    pub accepted: BTreeSet<(AccountId, ScopePath)>,
}

/// What becomes of a grant that somebody has made or changed in the tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriftPolicy {
    /// It is shown.
    #[default]
    Report,
    /// It is made what Keycloak says.
    Enforce,
}

/// How a tool is treated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of drift.
    pub drift: DriftPolicy,
    /// Accounts from which nothing is ever taken.
    pub protected: BTreeSet<AccountId>,
    /// How much may be taken away without being asked.
    pub limits: Limits,
}

/// Why a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The person was disabled.
    Disabled,
    /// Its roles are others.
    Roles,
    /// Somebody has changed it in the tool.
    Drift,
    /// It is called something else.
    Profile,
    /// It is so already: it is written down.
    Record,
    /// Its account was there before, and isn't any more.
    Lost,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Action {
    /// Writes down that an account is a person's.
    Link {
        /// The person.
        person: UserId,
        /// Its account.
        account: AccountId,
        /// How that is known.
        evidence: Evidence,
    },
    /// Writes down that a grant, which is as it is to be, is ours from now on.
    Adopt {
        /// The person.
        person: UserId,
        /// Its account.
        account: AccountId,
        /// Where.
        scope: ScopePath,
        /// What it has.
        level: Level,
    },
    /// Writes down that a grant of ours is gone.
    Forget {
        /// Whose it was.
        account: AccountId,
        /// Where.
        scope: ScopePath,
    },
    /// Makes an account for a person.
    Create {
        /// The person.
        person: UserId,
        /// The name to show.
        name: String,
        /// The verified address.
        mail: String,
    },
    /// Renews what an account says of its person.
    Update {
        /// The person.
        person: UserId,
        /// Its account.
        account: AccountId,
        /// The name to show.
        name: String,
        /// The address, where it changes.
        #[serde(skip_serializing_if = "Option::is_none")]
        mail: Option<String>,
    },
    /// Gives, changes or takes what somebody has in a scope.
    Set {
        /// The person.
        person: UserId,
        /// Its account; none where an earlier step makes it.
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<AccountId>,
        /// Where.
        scope: ScopePath,
        /// What it has now.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<Level>,
        /// What it has then; none for nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        to: Option<Level>,
    },
}

impl Action {
    /// Whether it changes nothing but what we know.
    pub fn is_record(&self) -> bool {
        matches!(self, Self::Link { .. } | Self::Adopt { .. } | Self::Forget { .. })
    }

    /// Whether somebody may do less afterwards.
    pub fn takes(&self) -> bool {
        matches!(self, Self::Set { from, to, .. } if to < from)
    }
}

/// A step: it may be taken again, and is one change at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
    /// Why.
    pub cause: Cause,
    /// The steps before it, by their places in the plan, without which it isn't taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<usize>,
}

/// What becomes of a grant that isn't what Keycloak says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A step of the plan mends it.
    Repaired,
    /// It is only shown: that is the tool's policy.
    Reported,
    /// It stays: its account is nobody's whom we know.
    Unlinked,
    /// It stays: its account is protected.
    Protected,
    /// It stays: nobody else could run the scope.
    LastAdministrator,
    /// It can't be made: the tool has no such scope, or nothing around it.
    Unreachable,
}

/// A grant that isn't what Keycloak says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// Whose it is; none where it isn't known, or has no account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person: Option<UserId>,
    /// The account; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Where.
    pub scope: ScopePath,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<Level>,
    /// What is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Level>,
    /// Whether we made it.
    pub owned: bool,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What follows from the states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub steps: Vec<Step>,
    pub drift: Vec<Drift>,
    pub identities: Vec<Identity>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_knows_what_is_around_it() {
        let team = ScopePath("accounts/3/teams/7".to_owned());
        assert_eq!((team.depth(), team.outer()), (1, Some(ScopePath("accounts/3".to_owned()))));
        let account = ScopePath("accounts/3".to_owned());
        assert_eq!((account.depth(), account.outer()), (0, None));
    }
}
