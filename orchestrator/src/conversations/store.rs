use std::collections::HashMap;

use uuid::Uuid;

use super::model::{Conversation, Observation};
use crate::{
    db::TenantTx,
    http::page::TimedPosition,
    ids::{ConversationId, SourceId, TenantId},
};

/// Writes what was told, but for what is older than what is known. The conversation's id.
pub(super) async fn upsert(
    tx: &mut TenantTx,
    tenant: TenantId,
    observed: &Observation,
) -> Result<ConversationId, sqlx::Error> {
    let (id, now) = (tx.new_id(), tx.now());
    let message = observed.message.as_ref();
    sqlx::query_scalar!(
        r#"INSERT INTO conversations AS known (tenant_id, id, source_id, service, account, display_id, inbox_id, inbox_name, contact_name, status, labels,
                                      last_message, last_message_by, last_message_at, remote_updated_at, created_at, updated_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10, 'open'), coalesce($11, '{}'::text[]), $12, $13, $14, $15, $16, $16)
           ON CONFLICT ON CONSTRAINT conversations_display_id DO UPDATE SET
               inbox_id = coalesce($7, known.inbox_id),
               inbox_name = coalesce($8, known.inbox_name),
               contact_name = coalesce($9, known.contact_name),
               status = CASE WHEN $15 >= known.remote_updated_at THEN coalesce($10, known.status) ELSE known.status END,
               labels = CASE WHEN $15 >= known.remote_updated_at THEN coalesce($11, known.labels) ELSE known.labels END,
               last_message = CASE WHEN $14 >= coalesce(known.last_message_at, '-infinity') THEN $12 ELSE known.last_message END,
               last_message_by = CASE WHEN $14 >= coalesce(known.last_message_at, '-infinity') THEN $13 ELSE known.last_message_by END,
               last_message_at = greatest($14, known.last_message_at),
               remote_updated_at = greatest($15, known.remote_updated_at),
               updated_at = $16
           RETURNING id AS "id: ConversationId""#,
        tenant.0,
        id,
        observed.source.0,
        observed.service,
        observed.account,
        observed.display_id,
        observed.inbox_id,
        observed.inbox_name,
        observed.contact_name,
        observed.status,
        observed.labels.as_deref(),
        message.map(|message| message.content.as_str()),
        message.and_then(|message| message.by.as_deref()),
        message.map(|message| message.at),
        observed.updated_at,
        now,
    )
    .fetch_one(tx.connection())
    .await
}

/// The conversation with this id in one of `tenants`; its link is not known here.
pub(super) async fn find(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    id: ConversationId,
) -> Result<Option<Conversation>, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    sqlx::query_as!(
        Conversation,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", source_id AS "source_id: _", service, account, display_id, inbox_id, inbox_name,
                  contact_name, status, labels, last_message, last_message_by, last_message_at, remote_updated_at, NULL::text AS link, created_at, updated_at
           FROM conversations WHERE tenant_id = ANY ($1) AND id = $2"#,
        &tenants,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await
}

/// The conversation with this number of a source.
pub(super) async fn find_by_display_id(
    tx: &mut TenantTx,
    tenant: TenantId,
    source: SourceId,
    display_id: i64,
) -> Result<Option<ConversationId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: ConversationId" FROM conversations WHERE tenant_id = $1 AND source_id = $2 AND display_id = $3"#,
        tenant.0,
        source.0,
        display_id,
    )
    .fetch_optional(tx.connection())
    .await
}

/// One more than the limit, those that were told of last first.
pub(super) async fn list(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    before: Option<TimedPosition>,
    limit: u32,
) -> Result<Vec<Conversation>, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    sqlx::query_as!(
        Conversation,
        r#"SELECT conversation.id AS "id: _", conversation.tenant_id AS "tenant_id: _", source_id AS "source_id: _", service, account, display_id,
                  inbox_id, inbox_name, contact_name, status, labels, last_message, last_message_by, last_message_at, remote_updated_at,
                  NULL::text AS link, created_at, updated_at
           FROM unnest($1::uuid[]) AS tenant (id)
           CROSS JOIN LATERAL (
               SELECT id, tenant_id, source_id, service, account, display_id, inbox_id, inbox_name, contact_name, status, labels, last_message,
                      last_message_by, last_message_at, remote_updated_at, created_at, updated_at
               FROM conversations
               WHERE tenant_id = tenant.id
                 AND (remote_updated_at, conversations.id) < (coalesce($2::timestamptz, 'infinity'), $3)
               ORDER BY remote_updated_at DESC, conversations.id DESC LIMIT $4
           ) AS conversation
           ORDER BY remote_updated_at DESC, conversation.id DESC LIMIT $4"#,
        &tenants,
        before.map(|position| position.time),
        before.map_or(Uuid::max(), |position| position.id),
        i64::from(limit) + 1,
    )
    .fetch_all(tx.connection())
    .await
}

/// One more than the limit of one tenant's, those that were told of last first.
pub(super) async fn list_of(
    tx: &mut TenantTx,
    tenant: TenantId,
    status: Option<&str>,
    before: Option<TimedPosition>,
    limit: u32,
) -> Result<Vec<Conversation>, sqlx::Error> {
    sqlx::query_as!(
        Conversation,
        r#"SELECT id AS "id: _", tenant_id AS "tenant_id: _", source_id AS "source_id: _", service, account, display_id, inbox_id, inbox_name,
                  contact_name, status, labels, last_message, last_message_by, last_message_at, remote_updated_at, NULL::text AS link, created_at, updated_at
           FROM conversations
           WHERE tenant_id = $1 AND ($2::text IS NULL OR status = $2)
             AND (remote_updated_at, id) < (coalesce($3::timestamptz, 'infinity'), $4)
           ORDER BY remote_updated_at DESC, id DESC LIMIT $5"#,
        tenant.0,
        status,
        before.map(|position| position.time),
        before.map_or(Uuid::max(), |position| position.id),
        i64::from(limit) + 1,
    )
    .fetch_all(tx.connection())
    .await
}

/// How many conversations of the tenant are open.
///
/// # Errors
/// Where the database can't be asked.
pub async fn open_count(tx: &mut TenantTx, tenant: TenantId) -> Result<u64, sqlx::Error> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM conversations WHERE tenant_id = $1 AND status = 'open'"#,
        tenant.0
    )
    .fetch_one(tx.connection())
    .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The customers' names of these conversations, where they are known.
///
/// # Errors
/// Where the database can't be asked.
pub async fn contacts(
    tx: &mut TenantTx,
    tenant: TenantId,
    ids: &[ConversationId],
) -> Result<HashMap<ConversationId, String>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id: ConversationId", contact_name AS "name!" FROM conversations
           WHERE tenant_id = $1 AND id = ANY ($2) AND contact_name IS NOT NULL"#,
        tenant.0,
        &ids,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.name)).collect())
}
