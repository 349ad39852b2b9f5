use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::model::{AccountId, Evidence, Level, Link, ScopePath};
use crate::{
    db::{SystemTx, TenantTx},
    ids::UserId,
};

fn unreadable(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a {what} can't be read").into())
}

fn one_row(affected: u64) -> Result<(), sqlx::Error> {
    if affected == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

fn number(place: usize) -> Result<i32, sqlx::Error> {
    i32::try_from(place).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

/// Whose accounts of a tool are.
pub(super) async fn links(
    tx: &mut TenantTx,
    tenant: Uuid,
    tool: &str,
) -> Result<BTreeMap<UserId, Link>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT person_id AS "person: UserId", account_id, evidence FROM sync_links WHERE tenant_id = $1 AND tool = $2"#,
        tenant,
        tool,
    )
    .fetch_all(tx.connection())
    .await?;
    rows.into_iter()
        .map(|row| {
            let evidence = Evidence::from_name(&row.evidence).ok_or_else(|| unreadable("link"))?;
            Ok((row.person, Link { account: AccountId(row.account_id), evidence }))
        })
        .collect()
}

/// What we have made in a tool, for whichever tenant.
pub(super) async fn grants(
    tx: &mut SystemTx,
    tool: &str,
) -> Result<BTreeMap<(AccountId, ScopePath), Level>, sqlx::Error> {
    let rows = sqlx::query!("SELECT account_id, scope, level FROM sync_grants WHERE tool = $1", tool)
        .fetch_all(tx.connection())
        .await?;
    rows.into_iter()
        .map(|row| {
            let level = u16::try_from(row.level).map_err(|_| unreadable("grant"))?;
            Ok(((AccountId(row.account_id), ScopePath(row.scope)), Level(level)))
        })
        .collect()
}

/// Whether a plan was begun in a tool before.
pub(super) async fn was_contacted(tx: &mut TenantTx, tenant: Uuid, tool: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM sync_plans WHERE tenant_id = $1 AND tool = $2) AS "was!""#,
        tenant,
        tool,
    )
    .fetch_one(tx.connection())
    .await
}

/// Writes a plan that begins now.
pub(super) async fn begin_plan(
    tx: &mut TenantTx,
    tenant: Uuid,
    id: Uuid,
    tool: &str,
    digest: &str,
    content: &Value,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "INSERT INTO sync_plans (tenant_id, id, tool, digest, content, begun_at) VALUES ($1, $2, $3, $4, $5, $6)",
        tenant,
        id,
        tool,
        digest,
        content,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Writes how a plan ended, now.
pub(super) async fn end_plan(
    tx: &mut TenantTx,
    tenant: Uuid,
    id: Uuid,
    outcome: &Value,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    let ended = sqlx::query!(
        "UPDATE sync_plans SET ended_at = greatest($3, begun_at), outcome = $4 WHERE tenant_id = $1 AND id = $2 AND ended_at IS NULL",
        tenant,
        id,
        now,
        outcome,
    )
    .execute(tx.connection())
    .await?;
    one_row(ended.rows_affected())
}

/// Writes that a step begins now.
pub(super) async fn begin_step(
    tx: &mut TenantTx,
    tenant: Uuid,
    plan: Uuid,
    place: usize,
    step: &Value,
) -> Result<(), sqlx::Error> {
    let (now, place) = (tx.now(), number(place)?);
    sqlx::query!(
        "INSERT INTO sync_steps (tenant_id, plan_id, place, step, begun_at) VALUES ($1, $2, $3, $4, $5)",
        tenant,
        plan,
        place,
        step,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Writes how a step ended, now; one that was skipped has not begun before.
pub(super) async fn end_step(
    tx: &mut TenantTx,
    tenant: Uuid,
    plan: Uuid,
    (place, step): (usize, &Value),
    ended: &str,
    error: Option<&str>,
) -> Result<(), sqlx::Error> {
    let (now, place) = (tx.now(), number(place)?);
    let written = sqlx::query!(
        "INSERT INTO sync_steps (tenant_id, plan_id, place, step, begun_at, ended_at, ended, error) VALUES ($1, $2, $3, $4, $5, $5, $6, $7)
         ON CONFLICT (tenant_id, plan_id, place)
         DO UPDATE SET ended_at = greatest($5, sync_steps.begun_at), ended = $6, error = $7 WHERE sync_steps.ended IS NULL",
        tenant,
        plan,
        place,
        step,
        now,
        ended,
        error,
    )
    .execute(tx.connection())
    .await?;
    one_row(written.rows_affected())
}

/// Writes down whose an account is.
pub(super) async fn put_link(
    tx: &mut TenantTx,
    tenant: Uuid,
    tool: &str,
    person: UserId,
    link: &Link,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "INSERT INTO sync_links (tenant_id, tool, person_id, account_id, evidence, linked_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant_id, tool, person_id) DO UPDATE SET account_id = $4, evidence = $5, linked_at = $6",
        tenant,
        tool,
        person.0,
        link.account.0,
        link.evidence.as_str(),
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// A grant as it is written down.
pub(super) struct Grant<'a> {
    pub account: &'a AccountId,
    pub scope: &'a ScopePath,
    pub person: UserId,
    pub level: Level,
    pub plan: Uuid,
}

/// Writes down a grant of ours.
pub(super) async fn put_grant(
    tx: &mut TenantTx,
    tenant: Uuid,
    tool: &str,
    grant: &Grant<'_>,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "WITH former AS (
             -- A place's tenant can have become another.
             DELETE FROM sync_grants WHERE tool = $2 AND account_id = $3 AND scope = $4 AND tenant_id <> $1
         )
         INSERT INTO sync_grants (tenant_id, tool, account_id, scope, person_id, level, plan_id, granted_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
         ON CONFLICT (tenant_id, tool, account_id, scope) DO UPDATE SET person_id = $5, level = $6, plan_id = $7, granted_at = $8",
        tenant,
        tool,
        grant.account.0,
        grant.scope.0,
        grant.person.0,
        i32::from(grant.level.0),
        grant.plan,
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}

/// Forgets a grant of ours, whosoever tenant's the place was when it was given.
pub(super) async fn delete_grant(
    tx: &mut TenantTx,
    tool: &str,
    account: &AccountId,
    scope: &ScopePath,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM sync_grants WHERE tool = $1 AND account_id = $2 AND scope = $3",
        tool,
        account.0,
        scope.0,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}
