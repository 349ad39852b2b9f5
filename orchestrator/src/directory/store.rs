use std::collections::{BTreeMap, BTreeSet, HashMap};

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

/// How somebody is called, as the mirror keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub username: String,
    pub name: String,
    pub kind: String,
}

impl Named {
    pub fn of(user: &User) -> Self {
        let kind = if user.is_service_account() { PrincipalKind::Service } else { PrincipalKind::Person };
        Self { username: user.username.clone(), name: user.display_name(), kind: kind.as_str().to_owned() }
    }
}

/// A reading of Keycloak.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Drawn before it began: what has a larger number was written since.
    pub number: i64,
    /// When it began.
    pub at: DateTime<Utc>,
}

/// A row of the mirror, locked until the transaction ends.
pub(super) enum Locked<T> {
    /// There is none.
    New,
    /// It is as it was when the reading began.
    Known(T),
    /// It was written since the reading began; the number of that.
    Newer(i64),
}

impl<T> Locked<T> {
    /// What a locked row is for a reading: its `write_number`, and what it says.
    fn of(row: Option<(i64, T)>, reading: Reading) -> Self {
        match row {
            None => Self::New,
            Some((number, _)) if number > reading.number => Self::Newer(number),
            Some((_, known)) => Self::Known(known),
        }
    }
}

/// Draws the number of a reading that begins now.
pub(super) async fn begin_reading(tx: &mut SystemTx) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT nextval('directory_readings') AS "number!""#)
        .fetch_one(tx.connection())
        .await
}

fn tenant_ref(id: Uuid, kind: &str, path: String, name: String) -> Option<TenantRef> {
    Some(TenantRef { id: TenantId(id), kind: TenantKind::from_name(kind)?, path, name })
}

/// The tenants with these ids, as the mirror has them.
pub(super) async fn tenants(
    connection: &mut PgConnection,
    ids: &[TenantId],
) -> Result<BTreeMap<TenantId, TenantRef>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!("SELECT id, kind, path, name FROM tenants WHERE id = ANY ($1)", &ids)
        .fetch_all(connection)
        .await?;
    let known = rows.into_iter().filter_map(|row| tenant_ref(row.id, &row.kind, row.path, row.name));
    Ok(known.map(|tenant| (tenant.id, tenant)).collect())
}

/// Locks a tenant: whoever changes who belongs to it does so under this lock. Several are locked in the order of their
/// ids, and before any principal.
pub(super) async fn lock_tenant(
    connection: &mut PgConnection,
    id: TenantId,
    reading: Reading,
) -> Result<Locked<TenantRef>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT kind, path, name, write_number FROM tenants WHERE id = $1 FOR NO KEY UPDATE",
        id.0
    )
    .fetch_optional(connection)
    .await?;
    let row = match row {
        None => None,
        Some(row) => {
            let known = tenant_ref(id.0, &row.kind, row.path, row.name)
                .ok_or_else(|| sqlx::Error::Decode("a tenant of an unknown kind".into()))?;
            Some((row.write_number, known))
        }
    };
    Ok(Locked::of(row, reading))
}

/// Whether nobody else was faster.
pub(super) async fn insert_tenant(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query!(
        "INSERT INTO tenants (id, kind, path, name, created_at, updated_at, write_number)
         VALUES ($1, $2, $3, $4, $5, $5, nextval('directory_readings')) ON CONFLICT (id) DO NOTHING",
        tenant.id.0,
        tenant.kind.as_str(),
        tenant.path,
        tenant.name,
        now,
    )
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Writes what a tenant is called now.
pub(super) async fn update_tenant(
    connection: &mut PgConnection,
    tenant: &TenantRef,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let updated = sqlx::query!(
        "UPDATE tenants SET kind = $2, path = $3, name = $4, updated_at = $5, write_number = nextval('directory_readings') WHERE id = $1",
        tenant.id.0,
        tenant.kind.as_str(),
        tenant.path,
        tenant.name,
        now,
    )
    .execute(connection)
    .await?;
    one_row(updated.rows_affected())
}

/// Says that a tenant is what was read of it, all who belong to it included.
pub(super) async fn mark_tenant(connection: &mut PgConnection, id: TenantId) -> Result<(), sqlx::Error> {
    let marked =
        sqlx::query!("UPDATE tenants SET write_number = nextval('directory_readings') WHERE id = $1", id.0)
            .execute(connection)
            .await?;
    one_row(marked.rows_affected())
}

fn one_row(affected: u64) -> Result<(), sqlx::Error> {
    if affected == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// A principal as the mirror has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub named: Named,
    pub enabled: bool,
    pub platform_admin: bool,
}

/// Those of the users that are principals.
pub(super) async fn known(tx: &mut SystemTx, users: &[Uuid]) -> Result<BTreeSet<Uuid>, sqlx::Error> {
    let known = principals(tx.connection(), users).await?;
    Ok(known.into_keys().collect())
}

/// The principals with these ids.
pub(super) async fn principals(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Known>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT id, username, name, kind, enabled, platform_admin FROM principals WHERE id = ANY ($1)",
        ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let named = Named { username: row.username, name: row.name, kind: row.kind };
            (row.id, Known { named, enabled: row.enabled, platform_admin: row.platform_admin })
        })
        .collect())
}

/// Locks a principal: whoever changes anything of it, also where it belongs, does so under this lock. Several are locked
/// in the order of their ids.
pub(super) async fn lock_principal(
    connection: &mut PgConnection,
    user: UserId,
    reading: Reading,
) -> Result<Locked<Known>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT username, name, kind, enabled, platform_admin, write_number FROM principals WHERE id = $1 FOR UPDATE",
        user.0
    )
    .fetch_optional(connection)
    .await?;
    let row = row.map(|row| {
        let named = Named { username: row.username, name: row.name, kind: row.kind };
        let known = Known { named, enabled: row.enabled, platform_admin: row.platform_admin };
        (row.write_number, known)
    });
    Ok(Locked::of(row, reading))
}

/// The number of this write; none where somebody else was faster. `seen_at`: when it was read by itself; none where it is only known as a member.
pub(super) async fn insert_principal(
    connection: &mut PgConnection,
    user: Uuid,
    known: &Known,
    seen_at: Option<DateTime<Utc>>,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        "INSERT INTO principals (id, username, name, kind, enabled, platform_admin, seen_at, write_number)
         VALUES ($1, $2, $3, $4, $5, $6, $7, nextval('directory_readings')) ON CONFLICT (id) DO NOTHING
         RETURNING write_number",
        user,
        known.named.username,
        known.named.name,
        known.named.kind,
        known.enabled,
        known.platform_admin,
        seen_at,
    )
    .fetch_optional(connection)
    .await
}

/// Writes what a principal is now, and gives the number of this write. `seen_at`: when it was read by itself.
pub(super) async fn update_principal(
    connection: &mut PgConnection,
    user: Uuid,
    known: &Known,
    seen_at: Option<DateTime<Utc>>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        "UPDATE principals SET username = $2, name = $3, kind = $4, enabled = $5, platform_admin = $6, seen_at = coalesce($7, seen_at),
                write_number = nextval('directory_readings')
         WHERE id = $1 RETURNING write_number",
        user,
        known.named.username,
        known.named.name,
        known.named.kind,
        known.enabled,
        known.platform_admin,
        seen_at,
    )
    .fetch_one(connection)
    .await
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

/// What the tenant knows of these people.
pub(super) async fn people(
    connection: &mut PgConnection,
    tenant: TenantId,
    users: &[Uuid],
) -> Result<HashMap<Uuid, Named>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT user_id, username, name, kind FROM people WHERE tenant_id = $1 AND user_id = ANY ($2)",
        tenant.0,
        users
    )
    .fetch_all(connection)
    .await?;
    let named = rows
        .into_iter()
        .map(|row| (row.user_id, Named { username: row.username, name: row.name, kind: row.kind }));
    Ok(named.collect())
}

/// Writes what the tenant knows of somebody.
pub(super) async fn upsert_person(
    connection: &mut PgConnection,
    tenant: TenantId,
    user: Uuid,
    named: &Named,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO people (tenant_id, user_id, username, name, kind, updated_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, user_id) DO UPDATE SET username = $3, name = $4, kind = $5, updated_at = $6",
        tenant.0,
        user,
        named.username,
        named.name,
        named.kind,
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

/// The memberships of a tenant. Under the tenant's lock they stay what they are.
pub(super) async fn of_tenant(
    connection: &mut PgConnection,
    tenant: TenantId,
) -> Result<BTreeSet<Membership>, sqlx::Error> {
    let rows = sqlx::query!("SELECT user_id, group_id, role FROM memberships WHERE tenant_id = $1", tenant.0)
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
    sqlx::query_scalar!(
        r#"SELECT id AS "id: TenantId" FROM tenants WHERE kind IN ('team', 'organization') ORDER BY id"#
    )
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

/// The enabled people with this user name; at most two.
pub(super) async fn persons_named(tx: &mut SystemTx, username: &str) -> Result<Vec<UserId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: UserId" FROM principals WHERE username = $1 AND kind = 'person' AND enabled LIMIT 2"#,
        username
    )
    .fetch_all(tx.connection())
    .await
}
