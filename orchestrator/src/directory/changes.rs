//! Writing what was read of Keycloak: each change with its entries in the trails of the tenants that it is about. What is as
//! it was is not written here, so that a comparison that finds nothing leaves nothing.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use connector_keycloak::User;
use serde_json::{Value, json};
use uuid::Uuid;

use super::store::{self, Known, Membership, Named};
use crate::{
    audit::record_values,
    auth::{Role, TenantKind, TenantRef},
    db::TenantTx,
    ids::{TenantId, UserId},
};

/// What a trail calls somebody or something that a tenant knows.
const PRINCIPAL: &str = "principal";

/// The tenant that everybody has for themselves.
fn personal_tenant(user: Uuid) -> TenantRef {
    TenantRef {
        id: TenantId(user),
        kind: TenantKind::Individual,
        path: format!("/users/{user}"),
        name: "Personal".to_owned(),
    }
}

fn of_tenant(tenant: &TenantRef) -> Value {
    json!({ "name": tenant.name, "path": tenant.path, "type": tenant.kind })
}

/// Writes a new tenant. Whether nobody else was faster.
pub(super) async fn add_tenant(tx: &mut TenantTx, tenant: &TenantRef) -> Result<bool, sqlx::Error> {
    let now = tx.now();
    if !store::insert_tenant(tx.connection(), tenant, now).await? {
        return Ok(false);
    }
    tx.enter(tenant.id).await?;
    record_values(tx, "tenant.created", "tenant", tenant.id.to_string(), None, Some(of_tenant(tenant)))
        .await?;
    Ok(true)
}

/// Writes what a tenant is called now.
pub(super) async fn rename_tenant(
    tx: &mut TenantTx,
    before: &TenantRef,
    after: &TenantRef,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    store::update_tenant(tx.connection(), after, now).await?;
    tx.enter(after.id).await?;
    let (old, new) = (Some(of_tenant(before)), Some(of_tenant(after)));
    record_values(tx, "tenant.renamed", "tenant", after.id.to_string(), old, new).await
}

fn of_named(named: &Named) -> Value {
    json!({ "name": named.name, "username": named.username, "type": named.kind })
}

/// What a reading says of a principal.
#[derive(Clone, Copy)]
pub(super) struct Found<'a> {
    pub user: &'a User,
    /// Whether it runs the suite; none where it was only seen as a member of a group, which doesn't say so.
    pub platform_admin: Option<bool>,
    /// When it was read by itself.
    pub seen_at: Option<DateTime<Utc>>,
}

/// Writes a principal that is new, its personal tenant included. The number of this write; none where somebody else was faster.
pub(super) async fn add_principal(tx: &mut TenantTx, found: Found<'_>) -> Result<Option<i64>, sqlx::Error> {
    let (user, now) = (found.user.id, tx.now());
    let platform_admin = found.platform_admin.unwrap_or_default();
    let known = Known { named: Named::of(found.user), enabled: true, platform_admin };
    let Some(number) = store::insert_principal(tx.connection(), user, &known, found.seen_at).await? else {
        return Ok(None);
    };
    let personal = personal_tenant(user);
    add_tenant(tx, &personal).await?;
    tx.enter(personal.id).await?;
    store::upsert_person(tx.connection(), personal.id, user, &known.named, now).await?;
    let mut values = of_named(&known.named);
    values["platformAdmin"] = json!(platform_admin);
    record_values(tx, "principal.added", PRINCIPAL, user.to_string(), None, Some(values)).await?;
    let own = Membership { tenant: personal.id, user, group: user, role: Role::Owner };
    memberships(tx, personal.id, &BTreeSet::new(), &BTreeSet::from([own])).await?;
    Ok(Some(number))
}

/// Writes what an enabled principal is now, and gives the number of this write; under its lock, `before` being what it was.
pub(super) async fn update_principal(
    tx: &mut TenantTx,
    before: &Known,
    found: Found<'_>,
) -> Result<i64, sqlx::Error> {
    let (user, now) = (found.user.id, tx.now());
    let platform_admin = found.platform_admin.unwrap_or(before.platform_admin);
    let after = Known { named: Named::of(found.user), enabled: true, platform_admin };
    let number = store::update_principal(tx.connection(), user, &after, found.seen_at).await?;
    if *before == after {
        return Ok(number);
    }
    let personal = TenantId(user);
    tx.enter(personal).await?;
    if before.named != after.named {
        store::upsert_person(tx.connection(), personal, user, &after.named, now).await?;
        let (old, new) = (Some(of_named(&before.named)), Some(of_named(&after.named)));
        record_values(tx, "principal.renamed", PRINCIPAL, user.to_string(), old, new).await?;
    }
    if !before.enabled {
        switched(tx, "principal.enabled", user, "enabled", true).await?;
    }
    if before.platform_admin != platform_admin {
        let action = if platform_admin {
            "principal.platform_admin_granted"
        } else {
            "principal.platform_admin_revoked"
        };
        switched(tx, action, user, "platformAdmin", platform_admin).await?;
    }
    Ok(number)
}

/// Writes that a principal is disabled or gone, in the trails of its personal tenant and of those that it loses; under its
/// lock, `before` being what it was. Its memberships are taken away by [`memberships`].
pub(super) async fn disable_principal(
    tx: &mut TenantTx,
    user: UserId,
    before: &Known,
    loses: impl Iterator<Item = TenantId>,
    seen_at: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let after = Known { enabled: false, ..before.clone() };
    store::update_principal(tx.connection(), user.0, &after, Some(seen_at)).await?;
    if before.enabled {
        for tenant in std::iter::once(TenantId(user.0)).chain(loses) {
            tx.enter(tenant).await?;
            switched(tx, "principal.disabled", user.0, "enabled", false).await?;
        }
    }
    Ok(())
}

async fn switched(
    tx: &mut TenantTx,
    action: &'static str,
    user: Uuid,
    field: &str,
    on: bool,
) -> Result<(), sqlx::Error> {
    record_values(
        tx,
        action,
        PRINCIPAL,
        user.to_string(),
        Some(json!({ field: !on })),
        Some(json!({ field: on })),
    )
    .await
}

/// Writes what a tenant knows of somebody, under the principal's lock.
pub(super) async fn person(
    tx: &mut TenantTx,
    tenant: TenantId,
    before: Option<&Named>,
    user: &User,
) -> Result<(), sqlx::Error> {
    let (after, now) = (Named::of(user), tx.now());
    if before == Some(&after) {
        return Ok(());
    }
    store::upsert_person(tx.connection(), tenant, user.id, &after, now).await?;
    tx.enter(tenant).await?;
    let action = if before.is_some() { "principal.renamed" } else { "principal.added" };
    record_values(tx, action, PRINCIPAL, user.id.to_string(), before.map(of_named), Some(of_named(&after)))
        .await
}

/// Makes the memberships of a tenant what they are in Keycloak.
pub(super) async fn memberships(
    tx: &mut TenantTx,
    tenant: TenantId,
    before: &BTreeSet<Membership>,
    after: &BTreeSet<Membership>,
) -> Result<(), sqlx::Error> {
    if before == after {
        return Ok(());
    }
    let now = tx.now();
    tx.enter(tenant).await?;
    // First what is taken away, so that nobody has more than they should meanwhile.
    for gone in before.difference(after) {
        let replaced = after.iter().any(|kept| (kept.user, kept.group) == (gone.user, gone.group));
        if replaced || store::remove(tx.connection(), *gone).await? {
            let old = Some(of_membership(gone));
            record_values(tx, "membership.removed", "membership", gone.user.to_string(), old, None).await?;
        }
    }
    for new in after.difference(before) {
        if store::add(tx.connection(), *new, now).await? {
            let values = Some(of_membership(new));
            record_values(tx, "membership.added", "membership", new.user.to_string(), None, values).await?;
        }
    }
    Ok(())
}

fn of_membership(membership: &Membership) -> Value {
    json!({ "userId": membership.user, "groupId": membership.group, "role": membership.role })
}
