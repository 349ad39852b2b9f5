use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use connector_keycloak::User;
use uuid::Uuid;

use super::tree::TenantTree;
use crate::{
    auth::{Grant, Principal, PrincipalKind, Role, TenantKind, TenantRef},
    db::SystemTx,
    ids::{TenantId, UserId},
};

/// That a user belongs to a group of a tenant, and the role that this gives.
pub(super) struct Membership {
    pub tenant: TenantRef,
    pub group: Uuid,
    pub role: Role,
}

fn kind_of(user: &User) -> PrincipalKind {
    if user.is_service_account() { PrincipalKind::Service } else { PrincipalKind::Person }
}

pub(super) async fn upsert_principal(tx: &mut SystemTx, user: &User, platform_admin: bool, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO principals (id, username, name, kind, enabled, platform_admin, seen_at) VALUES ($1, $2, $3, $4, true, $5, $6)
         ON CONFLICT (id) DO UPDATE SET username = $2, name = $3, kind = $4, enabled = true, platform_admin = $5, seen_at = $6",
        user.id,
        user.username,
        user.display_name(),
        kind_of(user).as_str(),
        platform_admin,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Takes away a user's access: Keycloak has disabled or deleted it.
pub(super) async fn disable(tx: &mut SystemTx, user: UserId, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!("UPDATE principals SET enabled = false, seen_at = $2 WHERE id = $1", user.0, now).execute(tx.connection()).await?;
    sqlx::query!("DELETE FROM memberships WHERE user_id = $1", user.0).execute(tx.connection()).await?;
    Ok(())
}

/// Whether a user is enabled; none where it has never been seen.
pub(super) async fn is_enabled(tx: &mut SystemTx, user: UserId) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar!("SELECT enabled FROM principals WHERE id = $1", user.0).fetch_optional(tx.connection()).await
}

/// Whether the tenant is new.
pub(super) async fn upsert_tenant(tx: &mut SystemTx, tenant: &TenantRef, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"INSERT INTO tenants (id, kind, path, name, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)
           ON CONFLICT (id) DO UPDATE SET kind = $2, path = $3, name = $4,
               updated_at = CASE WHEN tenants.path = $3 AND tenants.name = $4 THEN tenants.updated_at ELSE $5 END
           RETURNING (xmax = 0) AS "new!""#,
        tenant.id.0,
        tenant.kind.as_str(),
        tenant.path,
        tenant.name,
        now,
    )
    .fetch_one(tx.connection())
    .await
}

async fn upsert_person(tx: &mut SystemTx, tenant: TenantId, user: &User, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO people (tenant_id, user_id, username, name, kind, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, user_id) DO UPDATE SET username = $3, name = $4, kind = $5, updated_at = $6
         WHERE (people.username, people.name, people.kind) IS DISTINCT FROM ($3, $4, $5)",
        tenant.0,
        user.id,
        user.username,
        user.display_name(),
        kind_of(user).as_str(),
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

async fn upsert_membership(tx: &mut SystemTx, tenant: TenantId, user: Uuid, group: Uuid, role: Role, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO memberships (tenant_id, user_id, group_id, role, seen_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, user_id, group_id) DO UPDATE SET role = $4, seen_at = $5",
        tenant.0,
        user,
        group,
        role.as_str(),
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Makes a user's memberships exactly these, and its personal tenant.
pub(super) async fn replace_memberships(tx: &mut SystemTx, user: &User, memberships: &[Membership], now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    let personal = TenantRef {
        id: TenantId(user.id),
        kind: TenantKind::Individual,
        path: format!("/users/{}", user.id),
        name: "Personal".to_owned(),
    };
    upsert_tenant(tx, &personal, now).await?;
    upsert_person(tx, personal.id, user, now).await?;
    upsert_membership(tx, personal.id, user.id, user.id, Role::Owner, now).await?;
    let mut groups = vec![user.id];
    for membership in memberships {
        upsert_person(tx, membership.tenant.id, user, now).await?;
        upsert_membership(tx, membership.tenant.id, user.id, membership.group, membership.role, now).await?;
        groups.push(membership.group);
    }
    sqlx::query!("DELETE FROM memberships WHERE user_id = $1 AND NOT group_id = ANY ($2)", user.id, &groups).execute(tx.connection()).await?;
    Ok(())
}

/// Makes a tenant's memberships exactly what was read, and says whose changed.
pub(super) async fn replace_members(tx: &mut SystemTx, read: &TenantTree, now: DateTime<Utc>) -> Result<Vec<UserId>, sqlx::Error> {
    let tenant = read.tenant.id;
    let before = memberships(tx, tenant).await?;
    let mut after = BTreeSet::new();
    for (user, group, role) in &read.members {
        if !user.enabled {
            // The whole access ends, not only this tenant's.
            disable(tx, UserId(user.id), now).await?;
            continue;
        }
        after.insert((user.id, *group, role.as_str().to_owned()));
    }
    let users: BTreeMap<Uuid, &User> = read.members.iter().filter(|(user, ..)| user.enabled).map(|(user, ..)| (user.id, user)).collect();
    for user in users.values() {
        // What the platform lets them do is not known from here, and stays as it is.
        sqlx::query!(
            "INSERT INTO principals (id, username, name, kind, enabled, platform_admin, seen_at) VALUES ($1, $2, $3, $4, true, false, $5)
             ON CONFLICT (id) DO UPDATE SET username = $2, name = $3, kind = $4, enabled = true, seen_at = $5",
            user.id,
            user.username,
            user.display_name(),
            kind_of(user).as_str(),
            now,
        )
        .execute(tx.connection())
        .await?;
        upsert_person(tx, tenant, user, now).await?;
        let personal = TenantRef {
            id: TenantId(user.id),
            kind: TenantKind::Individual,
            path: format!("/users/{}", user.id),
            name: "Personal".to_owned(),
        };
        if kind_of(user) == PrincipalKind::Person && upsert_tenant(tx, &personal, now).await? {
            upsert_person(tx, personal.id, user, now).await?;
            upsert_membership(tx, personal.id, user.id, user.id, Role::Owner, now).await?;
        }
    }
    for (user, group, role) in after.difference(&before) {
        if let Some(role) = Role::from_name(role) {
            upsert_membership(tx, tenant, *user, *group, role, now).await?;
        }
    }
    for (user, group, _) in &before {
        if !after.iter().any(|(other, in_group, _)| other == user && in_group == group) {
            sqlx::query!("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2 AND group_id = $3", tenant.0, user, group)
                .execute(tx.connection())
                .await?;
        }
    }
    let changed: BTreeSet<UserId> = before.symmetric_difference(&after).map(|(user, ..)| UserId(*user)).collect();
    Ok(changed.into_iter().collect())
}

async fn memberships(tx: &mut SystemTx, tenant: TenantId) -> Result<BTreeSet<(Uuid, Uuid, String)>, sqlx::Error> {
    let rows = sqlx::query!("SELECT user_id, group_id, role FROM memberships WHERE tenant_id = $1", tenant.0).fetch_all(tx.connection()).await?;
    Ok(rows.into_iter().map(|row| (row.user_id, row.group_id, row.role)).collect())
}

/// Takes everybody out of a tenant whose group is gone, and says who was in it. What the tenant has stays.
pub(super) async fn empty_tenant(tx: &mut SystemTx, tenant: TenantId) -> Result<Vec<UserId>, sqlx::Error> {
    sqlx::query_scalar!(r#"DELETE FROM memberships WHERE tenant_id = $1 RETURNING user_id AS "user_id: UserId""#, tenant.0)
        .fetch_all(tx.connection())
        .await
}

pub(super) async fn group_tenants(tx: &mut SystemTx) -> Result<Vec<TenantId>, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT id AS "id: TenantId" FROM tenants WHERE kind <> 'individual' ORDER BY id"#).fetch_all(tx.connection()).await
}

/// The principal as the mirror has it.
pub(super) async fn load(tx: &mut SystemTx, user: UserId) -> Result<Option<Principal>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT principals.username, principals.name, principals.kind, principals.platform_admin,
                  tenants.id AS "tenant_id?: TenantId", tenants.kind AS "tenant_kind?", tenants.path AS "tenant_path?", tenants.name AS "tenant_name?",
                  memberships.role AS "role?"
           FROM principals
           LEFT JOIN memberships ON memberships.user_id = principals.id
           LEFT JOIN tenants ON tenants.id = memberships.tenant_id
           WHERE principals.id = $1 AND principals.enabled
           ORDER BY tenants.kind = 'individual' DESC, tenants.name, tenants.id"#,
        user.0,
    )
    .fetch_all(tx.connection())
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut principal = Principal {
        id: user,
        username: first.username.clone(),
        name: first.name.clone(),
        kind: PrincipalKind::from_name(&first.kind).unwrap_or(PrincipalKind::Person),
        platform_admin: first.platform_admin,
        grants: Vec::new(),
    };
    for row in rows {
        let (Some(id), Some(kind), Some(path), Some(name)) = (row.tenant_id, row.tenant_kind, row.tenant_path, row.tenant_name) else { continue };
        let Some(kind) = TenantKind::from_name(&kind) else { continue };
        if principal.grants.last().is_none_or(|grant| grant.tenant.id != id) {
            // Belonging to the tenant at all makes a member.
            principal.grants.push(Grant { tenant: TenantRef { id, kind, path, name }, roles: BTreeSet::from([Role::Member]) });
        }
        if let (Some(grant), Some(role)) = (principal.grants.last_mut(), row.role.as_deref().and_then(Role::from_name)) {
            grant.roles.insert(role);
        }
    }
    Ok(Some(principal))
}
