use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use connector_keycloak::User;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    auth::{Grant, Principal, PrincipalKind, Role, TenantKind, TenantRef},
    db::SystemTx,
    ids::{TenantId, UserId},
};

/// That a user belongs to a group of a tenant, and the role that this gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Membership {
    pub tenant: TenantId,
    pub user: Uuid,
    pub group: Uuid,
    pub role: Role,
}

fn kind_of(user: &User) -> PrincipalKind {
    if user.is_service_account() { PrincipalKind::Service } else { PrincipalKind::Person }
}

/// The tenant that everybody has for themselves.
fn personal_tenant(user: &User) -> TenantRef {
    TenantRef {
        id: TenantId(user.id),
        kind: TenantKind::Individual,
        path: format!("/users/{}", user.id),
        name: "Personal".to_owned(),
    }
}

/// Writes a user that was read by itself, and its personal tenant.
pub(super) async fn upsert_principal(
    tx: &mut SystemTx,
    user: &User,
    platform_admin: bool,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
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
    upsert_personal_tenant(tx.connection(), user, now).await
}

/// Writes a user that is known as a member of a group. What the platform lets it do is not known from there.
pub(super) async fn upsert_member(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: &User,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO principals (id, username, name, kind, enabled, platform_admin) VALUES ($1, $2, $3, $4, true, false)
         ON CONFLICT (id) DO UPDATE SET username = $2, name = $3, kind = $4, enabled = true
         WHERE (principals.username, principals.name, principals.kind, principals.enabled) IS DISTINCT FROM ($2, $3, $4, true)",
        user.id,
        user.username,
        user.display_name(),
        kind_of(user).as_str(),
    )
    .execute(&mut *connection)
    .await?;
    upsert_person(connection, tenant, user, now).await?;
    upsert_personal_tenant(connection, user, now).await
}

async fn upsert_personal_tenant(
    connection: &mut PgConnection,
    user: &User,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let personal = personal_tenant(user);
    upsert_tenant(connection, &personal, now).await?;
    upsert_person(connection, personal.id, user, now).await?;
    let own = Membership { tenant: personal.id, user: user.id, group: user.id, role: Role::Owner };
    add(connection, own, now).await.map(drop)
}

/// Takes away a user's access: Keycloak has disabled or deleted it. Its memberships, which are removed by
/// [`remove`], each in its tenant.
pub(super) async fn disable(tx: &mut SystemTx, user: UserId, now: DateTime<Utc>) -> Result<(), sqlx::Error> {
    sqlx::query!("UPDATE principals SET enabled = false, seen_at = $2 WHERE id = $1", user.0, now)
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// What is known of a user by itself: whether it is enabled, and when it was last read.
pub(super) struct Seen {
    pub enabled: bool,
    pub seen_at: Option<DateTime<Utc>>,
}

pub(super) async fn seen(tx: &mut SystemTx, user: UserId) -> Result<Option<Seen>, sqlx::Error> {
    sqlx::query_as!(Seen, "SELECT enabled, seen_at FROM principals WHERE id = $1", user.0)
        .fetch_optional(tx.connection())
        .await
}

/// Whether the tenant is new.
pub(super) async fn upsert_tenant(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let known = sqlx::query!("SELECT kind, path, name FROM tenants WHERE id = $1", tenant.id.0)
        .fetch_optional(&mut *connection)
        .await?;
    if known.as_ref().is_some_and(|known| {
        known.kind == tenant.kind.as_str() && known.path == tenant.path && known.name == tenant.name
    }) {
        return Ok(false);
    }
    sqlx::query!(
        "INSERT INTO tenants (id, kind, path, name, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $5)
         ON CONFLICT (id) DO UPDATE SET kind = $2, path = $3, name = $4, updated_at = $5",
        tenant.id.0,
        tenant.kind.as_str(),
        tenant.path,
        tenant.name,
        now,
    )
    .execute(connection)
    .await?;
    Ok(known.is_none())
}

pub(super) async fn upsert_person(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: &User,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
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
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether it wasn't so before.
pub(super) async fn add(
    connection: &mut PgConnection,
    membership: Membership,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let added = sqlx::query!(
        "INSERT INTO memberships (tenant_id, user_id, group_id, role, seen_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, user_id, group_id) DO UPDATE SET role = $4, seen_at = $5 WHERE memberships.role <> $4",
        membership.tenant.0,
        membership.user,
        membership.group,
        membership.role.as_str(),
        now,
    )
    .execute(connection)
    .await?;
    Ok(added.rows_affected() == 1)
}

/// Whether it was so before.
pub(super) async fn remove(
    connection: &mut PgConnection,
    membership: Membership,
) -> Result<bool, sqlx::Error> {
    let removed = sqlx::query!(
        "DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2 AND group_id = $3",
        membership.tenant.0,
        membership.user,
        membership.group,
    )
    .execute(connection)
    .await?;
    Ok(removed.rows_affected() == 1)
}

fn membership(tenant: Uuid, user: Uuid, group: Uuid, role: &str) -> Option<Membership> {
    Some(Membership { tenant: TenantId(tenant), user, group, role: Role::from_name(role)? })
}

/// The memberships of a tenant.
pub(super) async fn of_tenant(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<BTreeSet<Membership>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT user_id, group_id, role FROM memberships WHERE tenant_id = $1 FOR UPDATE",
        tenant.0
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.iter().filter_map(|row| membership(tenant.0, row.user_id, row.group_id, &row.role)).collect())
}

/// A user's memberships by tenant, but for its own.
pub(super) async fn of_user(
    connection: &mut PgConnection,
    user: UserId,
) -> Result<BTreeMap<TenantId, BTreeSet<Membership>>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT tenant_id, group_id, role FROM memberships WHERE user_id = $1 AND tenant_id <> $1",
        user.0
    )
    .fetch_all(connection)
    .await?;
    let mut by_tenant: BTreeMap<TenantId, BTreeSet<Membership>> = BTreeMap::new();
    for membership in rows.iter().filter_map(|row| membership(row.tenant_id, user.0, row.group_id, &row.role))
    {
        by_tenant.entry(membership.tenant).or_default().insert(membership);
    }
    Ok(by_tenant)
}

pub(super) async fn group_tenants(tx: &mut SystemTx) -> Result<Vec<TenantId>, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT id AS "id: TenantId" FROM tenants WHERE kind <> 'individual' ORDER BY id"#)
        .fetch_all(tx.connection())
        .await
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
        let (Some(id), Some(kind), Some(path), Some(name)) =
            (row.tenant_id, row.tenant_kind, row.tenant_path, row.tenant_name)
        else {
            continue;
        };
        let Some(kind) = TenantKind::from_name(&kind) else { continue };
        if principal.grants.last().is_none_or(|grant| grant.tenant.id != id) {
            // Belonging to the tenant at all makes a member.
            principal.grants.push(Grant {
                tenant: TenantRef { id, kind, path, name },
                roles: BTreeSet::from([Role::Member]),
            });
        }
        if let (Some(grant), Some(role)) =
            (principal.grants.last_mut(), row.role.as_deref().and_then(Role::from_name))
        {
            grant.roles.insert(role);
        }
    }
    Ok(Some(principal))
}
