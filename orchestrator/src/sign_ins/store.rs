use uuid::Uuid;

use crate::{
    db::TenantTx,
    ids::{TenantId, UserId},
};

/// Some of the people who belong to a tenant now, in the order of their ids, with their names.
pub(super) async fn members(
    tx: &mut TenantTx,
    tenant: TenantId,
    after: UserId,
    limit: i64,
) -> Result<Vec<(UserId, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT user_id AS "id: UserId", name FROM people
           WHERE tenant_id = $1 AND user_id > $2 AND kind = 'person'
             AND EXISTS (SELECT FROM memberships WHERE memberships.tenant_id = $1 AND memberships.user_id = people.user_id)
           ORDER BY user_id LIMIT $3"#,
        tenant.0,
        after.0,
        limit,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}

/// Whether somebody belongs to a tenant now.
pub(super) async fn is_member(
    tx: &mut TenantTx,
    tenant: TenantId,
    user: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM memberships WHERE tenant_id = $1 AND user_id = $2) AS "is_member!""#,
        tenant.0,
        user.0,
    )
    .fetch_one(tx.connection())
    .await
}

/// Before the first member.
pub(super) const FIRST: UserId = UserId(Uuid::nil());
