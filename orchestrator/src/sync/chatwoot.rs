//! Chatwoot as a tool: accounts with their agents and administrators, and who works in which inbox.
//!
//! An account is one tenant's, or several tenants share it and each has inboxes of it. In an account of its own, a tenant's owners are
//! administrators; in a shared one nobody is, since administrators see what is others'. Working in a tenant (agents, managers,
//! approvers, owners) makes an agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use async_trait::async_trait;
use connector_chatwoot::{AccountRole, Agent, ChatwootClient, NewUser, SERVICE, User};
use connector_core::{ConnectorError, ErrorKind, SharedIds};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::{
    model::{Account, AccountId, Action, Evidence, Kind, Level, Observed, Scope, ScopePath, Wanted},
    tool::{Realm, TakeError, Taken, Tool},
};
use crate::{
    auth::Role,
    ids::{TenantId, UserId},
};

/// The custom attribute of a user of Chatwoot that says whom we made it for: Keycloak's id.
pub const MADE_FOR: &str = "keycloak_sub";

/// Who works on conversations.
const WORKING: [Role; 4] = [Role::Agent, Role::Manager, Role::Approver, Role::Owner];

/// Whose an account of Chatwoot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This tenant's alone.
    Tenant(TenantId),
    /// Several tenants': whose which inbox is.
    Shared(BTreeMap<i64, TenantId>),
}

/// Chatwoot, with what we are told to manage in it.
pub struct ChatwootTool {
    installation: ChatwootClient,
    ids: SharedIds,
    accounts: BTreeMap<i64, Whose>,
}

impl fmt::Debug for ChatwootTool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChatwootTool").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

/// A scope as Chatwoot knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Account(i64),
    Inbox(i64, i64),
}

impl Place {
    fn path(self) -> ScopePath {
        ScopePath(match self {
            Self::Account(account) => format!("accounts/{account}"),
            Self::Inbox(account, inbox) => format!("accounts/{account}/inboxes/{inbox}"),
        })
    }

    fn of(path: &ScopePath) -> Option<Self> {
        let segments: Vec<&str> = path.0.split('/').collect();
        match segments.as_slice() {
            ["accounts", account] => Some(Self::Account(account.parse().ok()?)),
            ["accounts", account, "inboxes", inbox] => {
                Some(Self::Inbox(account.parse().ok()?, inbox.parse().ok()?))
            }
            _ => None,
        }
    }
}

fn level(role: &AccountRole) -> Level {
    match role {
        AccountRole::Administrator => Level::ADMINISTRATOR,
        // A role of the account's own is an agent's with more or less to it.
        AccountRole::Agent | AccountRole::Other(_) => Level::MEMBER,
    }
}

fn id(account: &AccountId) -> Result<i64, TakeError> {
    account.0.parse().map_err(|_| TakeError::NoSuchThing)
}

fn made_for(attributes: &Map<String, Value>) -> Option<UserId> {
    attributes.get(MADE_FOR)?.as_str()?.parse().ok()
}

fn name(name: &str, mail: &str) -> String {
    // Without a name, Chatwoot shows the address.
    if name.trim().is_empty() { mail.to_owned() } else { name.trim().to_owned() }
}

impl ChatwootTool {
    /// Chatwoot by this client, which has a platform app's token. `accounts`: what we are told to manage.
    pub fn new(installation: ChatwootClient, ids: SharedIds, accounts: BTreeMap<i64, Whose>) -> Self {
        Self { installation, ids, accounts }
    }

    /// A password that nobody knows: people come in by a link.
    fn password(&self) -> SecretString {
        let mut bytes = [0; 24];
        self.ids.fill(&mut bytes);
        // One of each sort that Chatwoot asks for.
        format!("{}aA1!", hex::encode(bytes)).into()
    }

    async fn level_in(&self, user: i64, place: Place) -> Result<Option<Level>, ConnectorError> {
        match place {
            // A platform app sees the people of its accounts, and not each of them by itself.
            Place::Account(account) => {
                let roles = self.installation.for_account(account).account_roles().await?;
                Ok(roles.iter().find(|(other, _)| *other == user).map(|(_, role)| level(role)))
            }
            Place::Inbox(account, inbox) => {
                let members = self.installation.for_account(account).inbox_members(inbox).await?;
                Ok(members.iter().any(|member| member.id == user).then_some(Level::MEMBER))
            }
        }
    }

    async fn set(&self, user: i64, place: Place, to: Option<Level>) -> Result<(), ConnectorError> {
        match (place, to) {
            (Place::Account(account), Some(to)) => {
                let role =
                    if to >= Level::ADMINISTRATOR { AccountRole::Administrator } else { AccountRole::Agent };
                self.installation.for_account(account).set_account_role(user, &role).await
            }
            (Place::Account(account), None) => {
                let client = self.installation.for_account(account);
                // First what it has to do: once it is out, nobody would look at that again.
                client.unassign_open(user).await?;
                client.remove_from_account(user).await
            }
            (Place::Inbox(account, inbox), to) => {
                let client = self.installation.for_account(account);
                let members = client.inbox_members(inbox).await?;
                let mut users: BTreeSet<i64> = members.iter().map(|member| member.id).collect();
                if to.is_some() {
                    users.insert(user)
                } else {
                    users.remove(&user)
                };
                client.set_inbox_members(inbox, &users.into_iter().collect::<Vec<_>>()).await
            }
        }
    }

    async fn create(&self, person: UserId, shown: &str, mail: &str) -> Result<Taken, TakeError> {
        let note = Map::from_iter([(MADE_FOR.to_owned(), json!(person))]);
        let new = NewUser {
            name: name(shown, mail),
            email: mail.to_owned(),
            password: self.password(),
            custom_attributes: note,
        };
        let user = self.installation.ensure_user(&new).await?;
        let evidence = match made_for(&user.custom_attributes) {
            Some(other) if other != person => return Err(TakeError::Taken),
            Some(_) => Evidence::Created,
            None if user.confirmed != Some(true) => return Err(TakeError::Taken),
            None => Evidence::VerifiedMail,
        };
        Ok(Taken::Account { account: AccountId(user.id.to_string()), evidence })
    }

    async fn update(&self, user: i64, shown: &str, mail: Option<&str>) -> Result<Taken, TakeError> {
        let is_so =
            |user: &User| user.name == shown && mail.is_none_or(|mail| user.email.eq_ignore_ascii_case(mail));
        if is_so(&self.installation.user(user).await?) {
            return Ok(Taken::AlreadySo);
        }
        self.installation.update_user(user, shown, mail).await?;
        if is_so(&self.installation.user(user).await?) {
            return Ok(Taken::Done);
        }
        Err(TakeError::NotDone { seen: None })
    }

    async fn change(
        &self,
        user: i64,
        place: Place,
        from: Option<Level>,
        to: Option<Level>,
    ) -> Result<Taken, TakeError> {
        let seen = self.level_in(user, place).await?;
        if seen == to {
            return Ok(Taken::AlreadySo);
        }
        if seen != from {
            return Err(TakeError::Changed { seen });
        }
        self.set(user, place, to).await?;
        let seen = self.level_in(user, place).await?;
        if seen == to { Ok(Taken::Done) } else { Err(TakeError::NotDone { seen }) }
    }

    /// Everybody of an account, by the account's own list, which has to have all whom the platform has there.
    async fn agents(&self, account: i64) -> Result<Option<Vec<Agent>>, ConnectorError> {
        let client = self.installation.for_account(account);
        let agents = match client.agents().await {
            Err(error) if error.is_not_found() => return Ok(None),
            agents => agents?,
        };
        let listed: BTreeSet<i64> = agents.iter().map(|agent| agent.id).collect();
        let there: BTreeSet<i64> = client.account_roles().await?.into_iter().map(|(user, _)| user).collect();
        if listed == there {
            return Ok(Some(agents));
        }
        let message = "the account's agents are not those whom the platform has there";
        Err(ConnectorError::new(ErrorKind::Transient, SERVICE, message))
    }
}

/// An account as the engine sees it.
fn seen(name: &str, mail: Option<&str>, confirmed: bool, attributes: &Map<String, Value>) -> Account {
    Account {
        name: name.to_owned(),
        mail: mail.map(str::to_lowercase),
        confirmed,
        made_for: made_for(attributes),
    }
}

#[async_trait]
impl Tool for ChatwootTool {
    fn name(&self) -> &'static str {
        SERVICE
    }

    fn level_name(&self, level: Level) -> &'static str {
        if level >= Level::ADMINISTRATOR { "administrator" } else { "agent" }
    }

    fn wants(&self, realm: Realm) -> Wanted {
        let mut wanted = Wanted::default();
        let none = BTreeMap::new();
        for (account, whose) in &self.accounts {
            let around = Place::Account(*account).path();
            let (tenant, tenants) = match whose {
                Whose::Tenant(tenant) => (*tenant, BTreeMap::from([(None, *tenant)])),
                Whose::Shared(inboxes) => {
                    (TenantId::SUITE, inboxes.iter().map(|(inbox, tenant)| (Some(*inbox), *tenant)).collect())
                }
            };
            let scope = Scope { kind: Kind::Account, tenant, kept: Some(Level::ADMINISTRATOR) };
            wanted.scopes.insert(around.clone(), scope);
            for (inbox, tenant) in tenants {
                let inside = inbox.map(|inbox| Place::Inbox(*account, inbox).path());
                if let Some(inside) = &inside {
                    wanted.scopes.insert(inside.clone(), Scope { kind: Kind::Inbox, tenant, kept: None });
                }
                for (person, roles) in realm.roles.get(&tenant).unwrap_or(&none) {
                    if !WORKING.iter().any(|role| roles.contains(role)) {
                        continue;
                    }
                    let runs_it = inbox.is_none() && roles.contains(&Role::Owner);
                    let level = if runs_it { Level::ADMINISTRATOR } else { Level::MEMBER };
                    wanted.grants.insert((*person, around.clone()), level);
                    if let Some(inside) = &inside {
                        wanted.grants.insert((*person, inside.clone()), Level::MEMBER);
                    }
                }
            }
        }
        wanted.people = realm.people;
        for person in wanted.people.values_mut() {
            // As it will be shown: else it would be renewed for ever.
            person.name = name(&person.name, person.mail.as_deref().unwrap_or_default());
        }
        wanted
    }

    async fn observe(
        &self,
        scopes: &BTreeMap<ScopePath, Scope>,
        linked: &BTreeSet<AccountId>,
    ) -> Result<Observed, ConnectorError> {
        let mut observed = Observed::default();
        // Accounts come before their inboxes: their paths are the beginnings of these.
        for path in scopes.keys() {
            match Place::of(path) {
                Some(Place::Account(account)) => {
                    let Some(agents) = self.agents(account).await? else { continue };
                    observed.scopes.insert(path.clone());
                    for agent in agents {
                        let id = AccountId(agent.id.to_string());
                        let role = AccountRole::from(agent.role.as_deref().unwrap_or_default());
                        observed.grants.insert((id.clone(), path.clone()), level(&role));
                        let account = seen(
                            agent.name.as_deref().unwrap_or_default(),
                            agent.email.as_deref(),
                            agent.confirmed,
                            &agent.custom_attributes,
                        );
                        observed.accounts.insert(id, account);
                    }
                }
                Some(Place::Inbox(account, inbox)) => {
                    if !observed.scopes.contains(&Place::Account(account).path()) {
                        continue;
                    }
                    let members = match self.installation.for_account(account).inbox_members(inbox).await {
                        Err(error) if error.is_not_found() => continue,
                        members => members?,
                    };
                    observed.scopes.insert(path.clone());
                    for member in members {
                        let id = AccountId(member.id.to_string());
                        observed.grants.insert((id, path.clone()), Level::MEMBER);
                    }
                }
                None => {}
            }
        }
        for account in linked {
            let Ok(user) = account.0.parse() else { continue };
            if observed.accounts.contains_key(account) {
                continue;
            }
            match self.installation.user(user).await {
                Err(error) if error.is_not_found() => {}
                user => {
                    let user = user?;
                    let confirmed = user.confirmed.unwrap_or(false);
                    let account_seen =
                        seen(&user.name, Some(&user.email), confirmed, &user.custom_attributes);
                    observed.accounts.insert(account.clone(), account_seen);
                }
            }
        }
        Ok(observed)
    }

    async fn take(&self, action: &Action, account: Option<&AccountId>) -> Result<Taken, TakeError> {
        match action {
            Action::Create { person, name, mail } => self.create(*person, name, mail).await,
            Action::Update { account, name, mail, .. } => {
                self.update(id(account)?, name, mail.as_deref()).await
            }
            Action::Set { scope, from, to, .. } => {
                let user = id(account.ok_or(TakeError::NoSuchThing)?)?;
                let place = Place::of(scope).ok_or(TakeError::NoSuchThing)?;
                self.change(user, place, *from, *to).await
            }
            Action::Link { .. } | Action::Adopt { .. } | Action::Forget { .. } => Ok(Taken::AlreadySo),
        }
    }
}
