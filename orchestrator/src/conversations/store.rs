use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::model::{Conversation, Observation};
use crate::{
    db::TenantTx,
    http::page::TimedPosition,
    ids::{ConversationId, SourceId, TenantId},
};

/// Writes what was told of conversations, each at most once, but for what is older than what is known. Their ids, by source and
/// number.
pub(super) async fn mirror(
    tx: &mut TenantTx,
    tenant: TenantId,
    observed: &[Observation],
) -> Result<HashMap<(SourceId, i64), ConversationId>, sqlx::Error> {
    if observed.is_empty() {
        return Ok(HashMap::new());
    }
    let (now, told) = (tx.now(), Columns::of(observed));
    let ids: Vec<Uuid> = observed.iter().map(|_| tx.new_id()).collect();
    let services: Vec<&str> = observed.iter().map(|one| one.service).collect();
    let accounts: Vec<&str> = observed.iter().map(|one| one.account.as_str()).collect();
    // Not a join: how it would be carried out depends on what the planner takes for the number of rows, which it can't know. What
    // isn't told is taken from the mirror.
    let rows = sqlx::query!(
        r#"INSERT INTO conversations AS known (tenant_id, id, source_id, service, account, display_id, inbox_id, inbox_name, contact_name, status, labels,
                                      last_message, last_message_by, last_message_at, remote_updated_at, created_at, updated_at)
           SELECT $1, id, source_id, service, account, display_id, inbox_id, inbox_name, contact_name,
                  coalesce(status, (SELECT mirrored.status FROM conversations AS mirrored
                                    WHERE mirrored.tenant_id = $1 AND mirrored.source_id = told.source_id AND mirrored.display_id = told.display_id LIMIT 1), 'open'),
                  coalesce(string_to_array(labels, $16),
                           (SELECT mirrored.labels FROM conversations AS mirrored
                            WHERE mirrored.tenant_id = $1 AND mirrored.source_id = told.source_id AND mirrored.display_id = told.display_id LIMIT 1), '{}'),
                  message, message_by, message_at, at, $17, $17
           FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::timestamptz[],
                       $13::uuid[], $14::text[], $15::text[])
                AS told (source_id, display_id, inbox_id, inbox_name, contact_name, status, labels, message, message_by, message_at, at, id, service, account)
           ON CONFLICT ON CONSTRAINT conversations_display_id DO UPDATE SET
               inbox_id = coalesce(EXCLUDED.inbox_id, known.inbox_id),
               inbox_name = coalesce(EXCLUDED.inbox_name, known.inbox_name),
               contact_name = coalesce(EXCLUDED.contact_name, known.contact_name),
               status = CASE WHEN EXCLUDED.remote_updated_at >= known.remote_updated_at THEN EXCLUDED.status ELSE known.status END,
               labels = CASE WHEN EXCLUDED.remote_updated_at >= known.remote_updated_at THEN EXCLUDED.labels ELSE known.labels END,
               last_message = CASE WHEN EXCLUDED.last_message_at >= coalesce(known.last_message_at, '-infinity') THEN EXCLUDED.last_message ELSE known.last_message END,
               last_message_by = CASE WHEN EXCLUDED.last_message_at >= coalesce(known.last_message_at, '-infinity') THEN EXCLUDED.last_message_by ELSE known.last_message_by END,
               last_message_at = greatest(EXCLUDED.last_message_at, known.last_message_at),
               remote_updated_at = greatest(EXCLUDED.remote_updated_at, known.remote_updated_at),
               updated_at = EXCLUDED.updated_at
           RETURNING id AS "id: ConversationId", source_id AS "source: SourceId", display_id"#,
        tenant.0,
        &told.sources,
        &told.display_ids,
        &told.inbox_ids as _,
        &told.inbox_names as _,
        &told.contact_names as _,
        &told.statuses as _,
        &told.labels as _,
        &told.messages as _,
        &told.message_authors as _,
        &told.message_times as _,
        &told.times,
        &ids,
        &services as _,
        &accounts as _,
        SEPARATOR,
        now,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(|row| ((row.source, row.display_id), row.id)).collect())
}

/// What stands between labels on their way into a statement: no array of arrays with different lengths can be sent.
const SEPARATOR: &str = "\u{1f}";

/// The columns of observations, as arrays.
struct Columns<'a> {
    sources: Vec<Uuid>,
    display_ids: Vec<i64>,
    inbox_ids: Vec<Option<i64>>,
    inbox_names: Vec<Option<&'a str>>,
    contact_names: Vec<Option<&'a str>>,
    statuses: Vec<Option<&'a str>>,
    labels: Vec<Option<String>>,
    messages: Vec<Option<&'a str>>,
    message_authors: Vec<Option<&'a str>>,
    message_times: Vec<Option<DateTime<Utc>>>,
    times: Vec<DateTime<Utc>>,
}

impl<'a> Columns<'a> {
    fn of(observed: &'a [Observation]) -> Self {
        fn all<'a, T>(observed: &'a [Observation], column: impl Fn(&'a Observation) -> T) -> Vec<T> {
            observed.iter().map(column).collect()
        }
        let message = |one: &'a Observation| one.message.as_ref();
        Self {
            sources: all(observed, |one| one.source.0),
            display_ids: all(observed, |one| one.display_id),
            inbox_ids: all(observed, |one| one.inbox_id),
            inbox_names: all(observed, |one| one.inbox_name.as_deref()),
            contact_names: all(observed, |one| one.contact_name.as_deref()),
            statuses: all(observed, |one| one.status.as_deref()),
            labels: all(observed, |one| {
                let labels = one.labels.as_ref()?;
                Some(
                    labels
                        .iter()
                        .map(|label| label.replace(SEPARATOR, " "))
                        .collect::<Vec<_>>()
                        .join(SEPARATOR),
                )
            }),
            messages: all(observed, |one| message(one).map(|message| message.content.as_str())),
            message_authors: all(observed, |one| message(one).and_then(|message| message.by.as_deref())),
            message_times: all(observed, |one| message(one).map(|message| message.at)),
            times: all(observed, |one| one.updated_at),
        }
    }
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

/// Where a conversation stands in the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The status.
    pub status: String,
    /// The labels.
    pub labels: Vec<String>,
    /// When it last changed in the tool, as far as is known.
    pub updated_at: DateTime<Utc>,
}

/// Where the conversation with this number of a source stands; none where it isn't known.
///
/// # Errors
/// Where the database can't be asked.
pub async fn standing(
    tx: &mut TenantTx,
    tenant: TenantId,
    source: SourceId,
    display_id: i64,
) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as!(
        Standing,
        "SELECT status, labels, remote_updated_at AS updated_at FROM conversations
         WHERE tenant_id = $1 AND source_id = $2 AND display_id = $3",
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
