//! From a reading of Keycloak to the mirror.
//!
//! Keycloak is read outside of transactions, so that two readings can overtake each other. Each is numbered before it begins;
//! what it finds is written only over what is older ([`Locked::Newer`]), and who comes too late reads again. Locks are taken
//! in one order: tenants by their ids, then principals by theirs.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Mutex, PoisonError},
};

use connector_core::ConnectorError;
use connector_keycloak::User;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::{
    Directory, DirectoryError,
    changes::{self, Found},
    store::{self, Locked, Membership, Named, Reading},
    tree::{self, Place, TenantTree},
};
use crate::{
    auth::TenantRef,
    db::TenantTx,
    ids::{TenantId, UserId},
};

/// How many requests a reading of one user has under way at Keycloak at a time: one after the other, somebody of 200 tenants
/// would wait for minutes; all at once, everybody else would.
pub(super) const AT_ONCE: usize = 8;

/// The realm's role of who runs the suite. A client's role would do, but whoever may read those may read the clients' secrets.
const PLATFORM_ADMIN: &str = "chancery-platform-admin";

/// What became of a reading.
pub(super) enum Written<T> {
    /// The mirror is what was read.
    Done(T),
    /// Something newer was there: nothing was written.
    Outdated,
}

/// A user as read completely from Keycloak.
pub(super) struct UserTree {
    user: User,
    platform_admin: bool,
    tenants: BTreeMap<TenantId, TenantRef>,
    memberships: BTreeMap<TenantId, BTreeSet<Membership>>,
}

/// What was written of a tenant.
pub(super) struct TenantWritten {
    /// Who was changed.
    pub changed: BTreeSet<UserId>,
    /// Who has to be read alone: it was read by somebody else meanwhile, or is disabled, which takes more than this tenant.
    pub unsettled: BTreeSet<UserId>,
}

impl Directory {
    pub(super) async fn begin_reading(&self) -> Result<Reading, sqlx::Error> {
        let mut tx = self.database.system_tx().await?;
        let number = store::begin_reading(&mut tx).await?;
        Ok(Reading { number, at: self.clock.now() })
    }

    /// Reads a user, its groups and its platform roles. None where it doesn't exist or is disabled.
    pub(super) async fn read_user(&self, user: UserId) -> Result<Option<UserTree>, ConnectorError> {
        let Some(found) = self.keycloak.user(user.0).await?.filter(|found| found.enabled) else {
            return Ok(None);
        };
        let roles = self.keycloak.user_realm_roles(user.0).await?;
        let mut read = UserTree {
            user: found,
            platform_admin: roles.iter().any(|role| role == PLATFORM_ADMIN),
            tenants: BTreeMap::new(),
            memberships: BTreeMap::new(),
        };
        let groups = self.keycloak.user_groups(user.0).await?;
        let placed = groups.into_iter().filter(tree::is_plain).filter_map(|group| {
            let place = Place::of(&group.path).ok()?;
            Some((group, place))
        });
        let mut found = stream::iter(placed)
            .map(async |(group, place)| {
                let tenant = tree::tenant_group(&self.keycloak, &group, &place).await?;
                Ok::<_, ConnectorError>(tenant.map(|tenant| (tenant, group.id, place.role)))
            })
            .buffered(AT_ONCE);
        while let Some(found) = found.try_next().await? {
            let Some((tenant, group, role)) = found else { continue };
            let membership = Membership { tenant: tenant.id, user: user.0, group, role };
            read.memberships.entry(tenant.id).or_default().insert(membership);
            read.tenants.insert(tenant.id, tenant);
        }
        Ok(Some(read))
    }

    /// Writes what was read of a user, in one transaction. The tenants that are new to us.
    pub(super) async fn write_user(
        &self,
        reading: Reading,
        user: UserId,
        read: Option<&UserTree>,
    ) -> Result<Written<Vec<TenantId>>, sqlx::Error> {
        let (none, no_tenants, no_memberships) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        let named = read.map_or(&no_tenants, |read| &read.tenants);
        let after = read.map_or(&no_memberships, |read| &read.memberships);
        let mut tx = self.database.worker_tx(TenantId(user.0)).await?;

        let before = store::of_user(tx.connection(), user).await?;
        let all: BTreeSet<TenantId> = before.keys().chain(after.keys()).copied().collect();
        let known = store::tenants(tx.connection(), &all.iter().copied().collect::<Vec<_>>()).await?;
        let (mut locked, mut new_tenants) = (BTreeSet::new(), Vec::new());
        for id in all {
            let (named, known) = (named.get(&id), known.get(&id));
            if before.get(&id) == after.get(&id) && (named.is_none() || named == known) {
                continue;
            }
            match (store::lock_tenant(tx.connection(), id, reading).await?, named) {
                (Locked::Newer(_), _) => return Ok(Written::Outdated),
                (Locked::New, Some(named)) => {
                    if !changes::add_tenant(&mut tx, named).await? {
                        return Ok(Written::Outdated);
                    }
                    new_tenants.push(id);
                }
                (Locked::Known(known), Some(named)) if known != *named => {
                    changes::rename_tenant(&mut tx, &known, named).await?;
                }
                (Locked::Known(_) | Locked::New, _) => {}
            }
            locked.insert(id);
        }

        let locked_principal = store::lock_principal(tx.connection(), user, reading).await?;
        // Who was faster until now is seen from here on.
        let before = store::of_user(tx.connection(), user).await?;
        match (locked_principal, read) {
            (Locked::Newer(_), _) => return Ok(Written::Outdated),
            (Locked::New, None) => {}
            (Locked::New, Some(read)) => {
                if changes::add_principal(&mut tx, read.found(reading)).await?.is_none() {
                    return Ok(Written::Outdated);
                }
            }
            (Locked::Known(known), Some(read)) => {
                changes::update_principal(&mut tx, &known, read.found(reading)).await?;
            }
            (Locked::Known(known), None) => {
                changes::disable_principal(&mut tx, user, &known, before.keys().copied(), reading.at).await?;
            }
        }
        for id in before.keys().chain(after.keys()).copied().collect::<BTreeSet<_>>() {
            let (before, after) = (before.get(&id).unwrap_or(&none), after.get(&id).unwrap_or(&none));
            if before == after {
                continue;
            }
            if !locked.contains(&id) {
                return Ok(Written::Outdated);
            }
            if let Some(read) = read {
                let known = store::people(tx.connection(), id, &[user.0]).await?;
                changes::person(&mut tx, id, known.get(&user.0), &read.user).await?;
            }
            changes::memberships(&mut tx, id, before, after).await?;
        }
        tx.commit().await?;
        if before != *after {
            self.changed.notify_one();
        }
        Ok(Written::Done(new_tenants))
    }

    /// Writes what was read of a tenant, in one transaction.
    pub(super) async fn write_tenant(
        &self,
        reading: Reading,
        tenant: TenantId,
        read: Option<&TenantTree>,
        run: &Run,
    ) -> Result<Written<TenantWritten>, sqlx::Error> {
        let mut written = TenantWritten { changed: BTreeSet::new(), unsettled: BTreeSet::new() };
        let mut tx = self.database.worker_tx(tenant).await?;
        match (store::lock_tenant(tx.connection(), tenant, reading).await?, read) {
            (Locked::Newer(_), _) => return Ok(Written::Outdated),
            (Locked::New, None) => return Ok(Written::Done(written)),
            (Locked::New, Some(read)) => {
                if !changes::add_tenant(&mut tx, &read.tenant).await? {
                    return Ok(Written::Outdated);
                }
            }
            (Locked::Known(known), Some(read)) if known != read.tenant => {
                changes::rename_tenant(&mut tx, &known, &read.tenant).await?;
            }
            (Locked::Known(_), _) => store::mark_tenant(tx.connection(), tenant).await?,
        }

        let mut before: BTreeMap<Uuid, BTreeSet<Membership>> = BTreeMap::new();
        for membership in store::of_tenant(tx.connection(), tenant).await? {
            before.entry(membership.user).or_default().insert(membership);
        }
        let mut members: BTreeMap<Uuid, (&User, BTreeSet<Membership>)> = BTreeMap::new();
        let mut disabled = BTreeSet::new();
        for (user, group, role) in read.into_iter().flat_map(|read| &read.members) {
            if user.enabled {
                let membership = Membership { tenant, user: user.id, group: *group, role: *role };
                members.entry(user.id).or_insert((user, BTreeSet::new())).1.insert(membership);
            } else {
                disabled.insert(user.id);
            }
        }
        let ids: BTreeSet<Uuid> = before.keys().chain(members.keys()).chain(&disabled).copied().collect();
        let all: Vec<Uuid> = ids.iter().copied().collect();
        let principals = store::principals(tx.connection(), &all).await?;
        let people = store::people(tx.connection(), tenant, &all).await?;

        let none = BTreeSet::new();
        for id in ids {
            let before = before.get(&id).unwrap_or(&none);
            if disabled.contains(&id) {
                if !before.is_empty() || principals.get(&id).is_some_and(|known| known.enabled) {
                    written.unsettled.insert(UserId(id));
                }
                continue;
            }
            let member = members.get(&id);
            let after = member.map_or(&none, |(_, memberships)| memberships);
            let is_known = member.is_none_or(|(user, _)| {
                let named = Named::of(user);
                people.get(&id) == Some(&named)
                    && principals.get(&id).is_some_and(|known| known.enabled && known.named == named)
            });
            if before == after && is_known {
                continue;
            }
            let found = member.map(|(user, _)| Found { user, platform_admin: None, seen_at: None });
            if !write_member(&mut tx, UserId(id), reading, found, run).await? {
                written.unsettled.insert(UserId(id));
                continue;
            }
            if let Some((user, _)) = member {
                changes::person(&mut tx, tenant, people.get(&id), user).await?;
            }
            changes::memberships(&mut tx, tenant, before, after).await?;
            written.changed.insert(UserId(id));
        }
        tx.commit().await?;
        if !written.changed.is_empty() {
            self.changed.notify_one();
        }
        Ok(Written::Done(written))
    }
}

/// Tenants that are read together. Their readings overtake each other, and none of them is older news than the others: what
/// one has written of a principal doesn't keep another from writing that it belongs to its tenant, too.
#[derive(Debug, Default)]
pub(super) struct Run(Mutex<HashSet<i64>>);

impl Run {
    fn has_written(&self, number: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&number)
    }

    fn wrote(&self, number: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
    }
}

/// Locks a principal and writes what a tenant's reading says of it; nothing found where it has left. Whether its memberships of
/// that tenant may be written.
async fn write_member(
    tx: &mut TenantTx,
    user: UserId,
    reading: Reading,
    found: Option<Found<'_>>,
    run: &Run,
) -> Result<bool, sqlx::Error> {
    let mut locked = store::lock_principal(tx.connection(), user, reading).await?;
    if let (Locked::New, Some(found)) = (&locked, found) {
        if let Some(number) = changes::add_principal(tx, found).await? {
            run.wrote(number);
            return Ok(true);
        }
        // Somebody was faster, and is seen now.
        locked = store::lock_principal(tx.connection(), user, reading).await?;
    }
    let number = match (locked, found) {
        (Locked::Newer(number), _) => return Ok(run.has_written(number)),
        (Locked::New, found) => return Ok(found.is_none()),
        (Locked::Known(known), Some(found)) => changes::update_principal(tx, &known, found).await?,
        (Locked::Known(known), None) => {
            store::update_principal(tx.connection(), user.0, &known, None).await?
        }
    };
    run.wrote(number);
    Ok(true)
}

impl UserTree {
    fn found(&self, reading: Reading) -> Found<'_> {
        Found { user: &self.user, platform_admin: Some(self.platform_admin), seen_at: Some(reading.at) }
    }
}

/// Reads again until nobody was faster.
pub(super) const ATTEMPTS: usize = 10;

impl Directory {
    /// Reads a user and writes it. The tenants that are new to us; none where there is no such enabled user.
    pub(super) async fn settle_user(&self, user: UserId) -> Result<Option<Vec<TenantId>>, DirectoryError> {
        for _ in 0..ATTEMPTS {
            let reading = self.begin_reading().await?;
            let read = self.read_user(user).await?;
            if let Written::Done(new_tenants) = self.write_user(reading, user, read.as_ref()).await? {
                return Ok(read.map(|_| new_tenants));
            }
        }
        Err(DirectoryError::Contended)
    }

    /// Reads a tenant and writes it.
    pub(super) async fn settle_tenant(
        &self,
        tenant: TenantId,
        run: &Run,
    ) -> Result<TenantWritten, DirectoryError> {
        for _ in 0..ATTEMPTS {
            let reading = self.begin_reading().await?;
            let read = tree::read_tenant(&self.keycloak, tenant).await?;
            if let Written::Done(written) = self.write_tenant(reading, tenant, read.as_ref(), run).await? {
                return Ok(written);
            }
        }
        Err(DirectoryError::Contended)
    }

    /// Reads tenants and writes them, some at a time. Who has to be read alone.
    pub(super) async fn settle_tenants(
        &self,
        tenants: Vec<TenantId>,
    ) -> Result<BTreeSet<UserId>, DirectoryError> {
        let run = Run::default();
        let mut settled =
            stream::iter(tenants).map(|tenant| self.settle_tenant(tenant, &run)).buffer_unordered(AT_ONCE);
        let mut unsettled = BTreeSet::new();
        while let Some(written) = settled.try_next().await? {
            for user in written.changed {
                self.remembered.forget(user).await;
            }
            unsettled.extend(written.unsettled);
        }
        Ok(unsettled)
    }
}
