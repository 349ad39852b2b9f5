use std::collections::{HashMap, HashSet};

use connector_core::TraceContext;
use uuid::Uuid;

use super::model::{Approval, ApprovalFilter, ApprovalStatus, NewApproval, PendingCounts, Priority, Source};
use crate::{
    db::{TenantStatement, TenantTx},
    http::idempotency::{Answer, Found, Terms},
    ids::{ApprovalId, AuditId, ConversationId, TenantId, UserId},
    jobs::NewJob,
    matrix::Posted,
};

/// A row with the names of its people.
struct Row {
    id: Uuid,
    tenant_id: Uuid,
    title: String,
    description: String,
    status: ApprovalStatus,
    requested_by: Uuid,
    requested_by_name: Option<String>,
    approved_by: Option<Uuid>,
    approved_by_name: Option<String>,
    priority: Priority,
    comment: Option<String>,
    metadata: serde_json::Value,
    source_service: Option<String>,
    source_account: Option<String>,
    source_conversation: Option<String>,
    source_message: Option<String>,
    source_link: Option<String>,
    conversation_id: Option<Uuid>,
    consultation_requested: bool,
    expires_at: Option<chrono::DateTime<chrono::Utc>>,
    version: i64,
    created_at: chrono::DateTime<chrono::Utc>,
    updated_at: chrono::DateTime<chrono::Utc>,
    decided_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl From<Row> for Approval {
    fn from(row: Row) -> Self {
        let source = row.source_service.map(|service| Source {
            service,
            account: row.source_account,
            conversation: row.source_conversation,
            message: row.source_message,
            link: row.source_link,
        });
        Self {
            id: ApprovalId(row.id),
            tenant_id: TenantId(row.tenant_id),
            title: row.title,
            description: row.description,
            status: row.status,
            requested_by: UserId(row.requested_by),
            requested_by_name: row.requested_by_name,
            approved_by: row.approved_by.map(UserId),
            approved_by_name: row.approved_by_name,
            priority: row.priority,
            comment: row.comment,
            metadata: row.metadata,
            source,
            conversation_id: row.conversation_id.map(ConversationId),
            consultation_requested: row.consultation_requested,
            expires_at: row.expires_at,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
            decided_at: row.decided_at,
        }
    }
}

/// What became of an insertion.
pub(super) enum Inserted {
    /// Nobody but who requests could decide.
    NoDecider,
    /// What was in the way is not any more.
    DecidedMeanwhile,
    Approval(Box<Approval>),
    /// The conversation has this pending approval already.
    AlreadyPending(ApprovalId),
}

/// Inserts an approval where somebody else could decide it, and the conversation has no other that waits: in one statement,
/// since both hold as a rule.
pub(super) async fn insert(
    tx: &mut TenantTx,
    tenant: TenantId,
    requested_by: UserId,
    new: NewApproval,
) -> Result<Inserted, sqlx::Error> {
    let (id, now) = (ApprovalId(tx.new_id()), tx.now());
    let source = new.source.as_ref();
    let inserted = sqlx::query!(
        "INSERT INTO approvals (tenant_id, id, title, description, priority, requested_by, metadata, source_service, source_account,
                                source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at,
                                created_at, updated_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16
         WHERE EXISTS (
             SELECT 1 FROM memberships
             WHERE memberships.tenant_id = $1 AND memberships.role IN ('approver', 'owner') AND memberships.user_id <> $6
               AND (SELECT people.kind FROM people WHERE people.tenant_id = $1 AND people.user_id = memberships.user_id) = 'person'
         )
         ON CONFLICT (tenant_id, source_service, source_account, source_conversation)
             WHERE status = 'pending' AND source_conversation IS NOT NULL DO NOTHING",
        tenant.0,
        id.0,
        new.title,
        new.description,
        new.priority.as_str(),
        requested_by.0,
        new.metadata,
        source.map(|source| source.service.as_str()),
        source.and_then(|source| source.account.as_deref()),
        source.and_then(|source| source.conversation.as_deref()),
        source.and_then(|source| source.message.as_deref()),
        source.and_then(|source| source.link.as_deref()),
        new.conversation_id.map(|id| id.0),
        new.consultation_requested,
        new.expires_at,
        now,
    )
    .execute(tx.connection())
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Inserted::Approval(Box::new(Approval::requested(new, id, tenant, requested_by, now))));
    }
    if !has_another_decider(tx, tenant, requested_by).await? {
        return Ok(Inserted::NoDecider);
    }
    let pending = sqlx::query_scalar!(
        r#"SELECT id AS "id: ApprovalId" FROM approvals
           WHERE tenant_id = $1 AND source_service = $2 AND source_account IS NOT DISTINCT FROM $3 AND source_conversation = $4 AND status = 'pending'"#,
        tenant.0,
        source.map(|source| source.service.as_str()),
        source.and_then(|source| source.account.as_deref()),
        source.and_then(|source| source.conversation.as_deref()),
    )
    .fetch_optional(tx.connection())
    .await?;
    // It may have been decided between the two statements; then another try succeeds.
    Ok(pending.map_or(Inserted::DecidedMeanwhile, Inserted::AlreadyPending))
}

/// What follows from a request, besides the approval itself.
pub(super) struct Following<'a> {
    pub entry_id: AuditId,
    pub entry_values: &'a serde_json::Value,
    pub event: &'a serde_json::Value,
    pub jobs: &'a [NewJob],
    pub trace: Option<&'a TraceContext>,
}

/// Claims a request, inserts its approval with all that follows, and stores its answer, by one statement: what was found of
/// the request, and whether the approval was made. It isn't where something is known of the request, or where [`insert`]
/// would have had a reason.
pub(super) async fn insert_at_once(
    statement: &mut TenantStatement,
    approval: &Approval,
    following: &Following<'_>,
    terms: Option<&Terms>,
    answer: &Answer,
) -> Result<(Found, bool), sqlx::Error> {
    let source = approval.source.as_ref();
    let jobs = following.jobs;
    let job_ids: Vec<Uuid> = jobs.iter().map(|job| job.id.0).collect();
    let job_kinds: Vec<&str> = jobs.iter().map(|job| job.kind).collect();
    let job_keys: Vec<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
    let job_payloads: Vec<&serde_json::Value> = jobs.iter().map(|job| &job.payload).collect();
    let job_times: Vec<_> = jobs.iter().map(|job| job.run_at).collect();
    let done = sqlx::query!(
        r#"SELECT made AS "made!", locked AS "locked!", fingerprint, status, headers, body
           FROM request_approval($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
                                 $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35)"#,
        approval.requested_by.0,
        approval.tenant_id.0,
        approval.created_at,
        approval.id.0,
        approval.title,
        approval.description,
        approval.priority.as_str(),
        approval.metadata,
        source.map(|source| source.service.as_str()),
        source.and_then(|source| source.account.as_deref()),
        source.and_then(|source| source.conversation.as_deref()),
        source.and_then(|source| source.message.as_deref()),
        source.and_then(|source| source.link.as_deref()),
        approval.conversation_id.map(|id| id.0),
        approval.consultation_requested,
        approval.expires_at,
        following.entry_id.0,
        following.entry_values,
        following.event,
        &job_ids,
        &job_kinds as _,
        &job_keys as _,
        &job_payloads as _,
        &job_times,
        following.trace.map(TraceContext::traceparent),
        following.trace.and_then(TraceContext::tracestate),
        terms.map(|terms| terms.lock),
        terms.map(|terms| terms.method.as_str()),
        terms.map(|terms| terms.route.as_str()),
        terms.map(|terms| terms.key.as_str()),
        terms.map(|terms| terms.since),
        terms.map(|terms| terms.fingerprint.as_slice()),
        answer.status,
        answer.headers,
        answer.body,
    )
    .fetch_one(statement.connection())
    .await?;
    let found = Found {
        locked: done.locked,
        fingerprint: done.fingerprint,
        status: done.status,
        headers: done.headers,
        body: done.body,
    };
    Ok((found, done.made))
}

/// The approval with this id in one of `tenants`, locked where it is to be changed.
pub(super) async fn find(
    tx: &mut TenantTx,
    tenants: &[TenantId],
    id: ApprovalId,
) -> Result<Option<Approval>, sqlx::Error> {
    let tenants: Vec<Uuid> = tenants.iter().map(|tenant| tenant.0).collect();
    let row = sqlx::query_as!(
        Row,
        r#"SELECT approvals.id, approvals.tenant_id, title, description, status AS "status: ApprovalStatus", requested_by, requester.name AS "requested_by_name?",
                  approved_by, approver.name AS "approved_by_name?", priority AS "priority: Priority", comment, metadata, source_service, source_account,
                  source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at, version, created_at,
                  approvals.updated_at, decided_at
           FROM approvals
           LEFT JOIN people AS requester ON requester.tenant_id = approvals.tenant_id AND requester.user_id = requested_by
           LEFT JOIN people AS approver ON approver.tenant_id = approvals.tenant_id AND approver.user_id = approved_by
           WHERE approvals.tenant_id = ANY ($1) AND approvals.id = $2"#,
        &tenants,
        id.0,
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(row.map(Approval::from))
}

/// Locks the approval, so that its next reading is the last word until this transaction ends.
pub(super) async fn lock(tx: &mut TenantTx, tenant: TenantId, id: ApprovalId) -> Result<bool, sqlx::Error> {
    let locked = sqlx::query!(
        "SELECT version FROM approvals WHERE tenant_id = $1 AND id = $2 FOR UPDATE",
        tenant.0,
        id.0
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(locked.is_some())
}

/// Writes what a transition has changed. Whether the row was still at the version that the transition started from.
pub(super) async fn update(tx: &mut TenantTx, approval: &Approval) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query!(
        "UPDATE approvals SET status = $4, approved_by = $5, comment = $6, version = $7, updated_at = $8, decided_at = $9
         WHERE tenant_id = $1 AND id = $2 AND version = $3 AND status = 'pending'",
        approval.tenant_id.0,
        approval.id.0,
        approval.version - 1,
        approval.status.as_str(),
        approval.approved_by.map(|user| user.0),
        approval.comment,
        approval.version,
        approval.updated_at,
        approval.decided_at,
    )
    .execute(tx.connection())
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// One more than the limit, newest first, without the names of their people.
pub(super) async fn list(tx: &mut TenantTx, filter: &ApprovalFilter) -> Result<Vec<Approval>, sqlx::Error> {
    let mut approvals = Vec::new();
    // Tenant by tenant: a statement for one tenant is planned once, and its page is one range of an index, however deep.
    for tenant in &filter.tenants {
        approvals.extend(list_of(tx, *tenant, filter).await?);
    }
    if filter.tenants.len() > 1 {
        approvals.sort_unstable_by_key(|approval| std::cmp::Reverse(approval.id));
        approvals.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX).saturating_add(1));
    }
    Ok(approvals)
}

/// [`list`] of one tenant, by one statement.
pub(super) async fn list_at_once(
    statement: &mut TenantStatement,
    tenant: TenantId,
    filter: &ApprovalFilter,
) -> Result<Vec<Approval>, sqlx::Error> {
    let actor = statement.principal().id;
    let readable: Vec<Uuid> = statement.principal().tenant_ids().into_iter().map(|tenant| tenant.0).collect();
    // In the function's order.
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id!", tenant_id AS "tenant_id!", title AS "title!", description AS "description!", status AS "status!: ApprovalStatus",
                  requested_by AS "requested_by!", NULL::text AS requested_by_name, approved_by, NULL::text AS approved_by_name,
                  priority AS "priority!: Priority", comment, metadata AS "metadata!", source_service, source_account, source_conversation,
                  source_message, source_link, conversation_id, consultation_requested AS "consultation_requested!", expires_at,
                  version AS "version!", created_at AS "created_at!", updated_at AS "updated_at!", decided_at
           FROM approvals_page($1, $2, $3, $4, $5, $6, $7)"#,
        actor.0,
        &readable,
        tenant.0,
        filter.before.map_or(Uuid::max(), |id| id.0),
        filter.status.map(ApprovalStatus::as_str),
        filter.priority.map(Priority::as_str),
        i64::from(filter.limit) + 1,
    )
    .fetch_all(statement.connection())
    .await?;
    Ok(rows.into_iter().map(Approval::from).collect())
}

async fn list_of(
    tx: &mut TenantTx,
    tenant: TenantId,
    filter: &ApprovalFilter,
) -> Result<Vec<Approval>, sqlx::Error> {
    let before = filter.before.map_or(Uuid::max(), |id| id.0);
    let limit = i64::from(filter.limit) + 1;
    let priority = filter.priority.map(Priority::as_str);
    // Two statements, so that each has its index.
    let rows = match filter.status {
        None => {
            sqlx::query_as!(
                Row,
                r#"SELECT id, tenant_id, title, description, status AS "status: ApprovalStatus", requested_by, NULL::text AS requested_by_name,
                          approved_by, NULL::text AS approved_by_name, priority AS "priority: Priority", comment, metadata, source_service,
                          source_account, source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at,
                          version, created_at, updated_at, decided_at
                   FROM approvals
                   WHERE tenant_id = $1 AND id < $2 AND ($3::text IS NULL OR priority = $3)
                   ORDER BY id DESC LIMIT $4"#,
                tenant.0,
                before,
                priority,
                limit,
            )
            .fetch_all(tx.connection())
            .await?
        }
        Some(status) => {
            sqlx::query_as!(
                Row,
                r#"SELECT id, tenant_id, title, description, status AS "status: ApprovalStatus", requested_by, NULL::text AS requested_by_name,
                          approved_by, NULL::text AS approved_by_name, priority AS "priority: Priority", comment, metadata, source_service,
                          source_account, source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at,
                          version, created_at, updated_at, decided_at
                   FROM approvals
                   WHERE tenant_id = $1 AND id < $2 AND ($3::text IS NULL OR priority = $3) AND status = $5
                   ORDER BY id DESC LIMIT $4"#,
                tenant.0,
                before,
                priority,
                limit,
                status.as_str(),
            )
            .fetch_all(tx.connection())
            .await?
        }
    };
    Ok(rows.into_iter().map(Approval::from).collect())
}

/// Adds the names of the people in `approvals`, which a list doesn't read.
pub(super) async fn add_names(tx: &mut TenantTx, approvals: &mut [Approval]) -> Result<(), sqlx::Error> {
    let mut tenants: Vec<Uuid> = approvals.iter().map(|approval| approval.tenant_id.0).collect();
    let mut users: Vec<Uuid> = approvals
        .iter()
        .flat_map(|approval| std::iter::once(approval.requested_by).chain(approval.approved_by))
        .map(|user| user.0)
        .collect();
    for ids in [&mut tenants, &mut users] {
        ids.sort_unstable();
        ids.dedup();
    }
    let rows = sqlx::query!(
        "SELECT tenant_id, user_id, name FROM people WHERE tenant_id = ANY ($1) AND user_id = ANY ($2)",
        &tenants,
        &users,
    )
    .fetch_all(tx.connection())
    .await?;
    let names: HashMap<(TenantId, UserId), String> =
        rows.into_iter().map(|row| ((TenantId(row.tenant_id), UserId(row.user_id)), row.name)).collect();
    for approval in approvals {
        let name = |user: UserId| names.get(&(approval.tenant_id, user)).cloned();
        (approval.requested_by_name, approval.approved_by_name) =
            (name(approval.requested_by), approval.approved_by.and_then(name));
    }
    Ok(())
}

/// The approvals of a conversation, newest first, at most ten.
pub(super) async fn of_conversation(
    tx: &mut TenantTx,
    tenant: TenantId,
    conversation: ConversationId,
) -> Result<Vec<Approval>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT approvals.id, approvals.tenant_id, title, description, status AS "status: ApprovalStatus", requested_by, requester.name AS "requested_by_name?",
                  approved_by, approver.name AS "approved_by_name?", priority AS "priority: Priority", comment, metadata, source_service, source_account,
                  source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at, version, created_at,
                  approvals.updated_at, decided_at
           FROM approvals
           LEFT JOIN people AS requester ON requester.tenant_id = approvals.tenant_id AND requester.user_id = requested_by
           LEFT JOIN people AS approver ON approver.tenant_id = approvals.tenant_id AND approver.user_id = approved_by
           WHERE approvals.tenant_id = $1 AND conversation_id = $2
           ORDER BY approvals.id DESC LIMIT 10"#,
        tenant.0,
        conversation.0,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(Approval::from).collect())
}

/// Whether a person other than `requester` may decide in the tenant.
pub(super) async fn has_another_decider(
    tx: &mut TenantTx,
    tenant: TenantId,
    requester: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM memberships
               JOIN people ON people.tenant_id = memberships.tenant_id AND people.user_id = memberships.user_id
               WHERE memberships.tenant_id = $1 AND memberships.role IN ('approver', 'owner') AND memberships.user_id <> $2 AND people.kind = 'person'
           ) AS "exists!""#,
        tenant.0,
        requester.0,
    )
    .fetch_one(tx.connection())
    .await
}

/// How many approvals of the tenant are pending, from `user`'s point of view.
///
/// # Errors
/// Where the database can't be asked.
pub async fn pending_counts(
    tx: &mut TenantTx,
    tenant: TenantId,
    user: UserId,
) -> Result<PendingCounts, sqlx::Error> {
    let counts = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE requested_by <> $2) AS "of_others!", count(*) FILTER (WHERE requested_by = $2) AS "own!"
           FROM approvals WHERE tenant_id = $1 AND status = 'pending'"#,
        tenant.0,
        user.0,
    )
    .fetch_one(tx.connection())
    .await?;
    Ok(PendingCounts {
        of_others: u64::try_from(counts.of_others).unwrap_or(0),
        own: u64::try_from(counts.own).unwrap_or(0),
    })
}

/// The pending approvals that somebody other than `user` requested, the most urgent and then the oldest first.
///
/// # Errors
/// Where the database can't be asked.
pub async fn waiting_for(
    tx: &mut TenantTx,
    tenant: TenantId,
    user: UserId,
    limit: u32,
) -> Result<Vec<Approval>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT approvals.id, approvals.tenant_id, title, description, status AS "status: ApprovalStatus", requested_by, requester.name AS "requested_by_name?",
                  approved_by, approver.name AS "approved_by_name?", priority AS "priority: Priority", comment, metadata, source_service, source_account,
                  source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at, version, created_at,
                  approvals.updated_at, decided_at
           FROM approvals
           LEFT JOIN people AS requester ON requester.tenant_id = approvals.tenant_id AND requester.user_id = requested_by
           LEFT JOIN people AS approver ON approver.tenant_id = approvals.tenant_id AND approver.user_id = approved_by
           WHERE approvals.tenant_id = $1 AND status = 'pending' AND requested_by <> $2
           ORDER BY CASE priority WHEN 'high' THEN 0 WHEN 'medium' THEN 1 ELSE 2 END, approvals.id LIMIT $3"#,
        tenant.0,
        user.0,
        i64::from(limit),
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(Approval::from).collect())
}

/// The approvals that somebody decided last, the latest first.
///
/// # Errors
/// Where the database can't be asked.
pub async fn decided_lately(
    tx: &mut TenantTx,
    tenant: TenantId,
    limit: u32,
) -> Result<Vec<Approval>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT approvals.id, approvals.tenant_id, title, description, status AS "status: ApprovalStatus", requested_by, requester.name AS "requested_by_name?",
                  approved_by, approver.name AS "approved_by_name?", priority AS "priority: Priority", comment, metadata, source_service, source_account,
                  source_conversation, source_message, source_link, conversation_id, consultation_requested, expires_at, version, created_at,
                  approvals.updated_at, decided_at
           FROM approvals
           LEFT JOIN people AS requester ON requester.tenant_id = approvals.tenant_id AND requester.user_id = requested_by
           LEFT JOIN people AS approver ON approver.tenant_id = approvals.tenant_id AND approver.user_id = approved_by
           WHERE approvals.tenant_id = $1 AND status IN ('approved', 'rejected')
           ORDER BY decided_at DESC, approvals.id DESC LIMIT $2"#,
        tenant.0,
        i64::from(limit),
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(Approval::from).collect())
}

/// Those of `conversations` that have a pending approval.
///
/// # Errors
/// Where the database can't be asked.
pub async fn pending_among(
    tx: &mut TenantTx,
    tenant: TenantId,
    conversations: &[ConversationId],
) -> Result<HashSet<ConversationId>, sqlx::Error> {
    let ids: Vec<Uuid> = conversations.iter().map(|id| id.0).collect();
    let found = sqlx::query_scalar!(
        r#"SELECT conversation_id AS "id!: ConversationId" FROM approvals WHERE tenant_id = $1 AND status = 'pending' AND conversation_id = ANY ($2)"#,
        tenant.0,
        &ids,
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(found.into_iter().collect())
}

/// The titles of these approvals.
///
/// # Errors
/// Where the database can't be asked.
pub async fn titles(
    tx: &mut TenantTx,
    tenant: TenantId,
    approvals: &[ApprovalId],
) -> Result<HashMap<ApprovalId, String>, sqlx::Error> {
    let ids: Vec<Uuid> = approvals.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"SELECT id AS "id: ApprovalId", title FROM approvals WHERE tenant_id = $1 AND id = ANY ($2)"#,
        tenant.0,
        &ids
    )
    .fetch_all(tx.connection())
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.title)).collect())
}

/// Where an approval was told of first.
pub(super) async fn notice(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: ApprovalId,
) -> Result<Option<Posted>, sqlx::Error> {
    let found = sqlx::query!(
        "SELECT room_id, event_id FROM approval_notices WHERE tenant_id = $1 AND approval_id = $2
         ORDER BY updated_at DESC LIMIT 1",
        tenant.0,
        id.0
    )
    .fetch_optional(tx.connection())
    .await?;
    Ok(found.and_then(|found| {
        Some(Posted { room: found.room_id.parse().ok()?, notice: found.event_id.parse().ok()? })
    }))
}

pub(super) async fn remember_notice(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: ApprovalId,
    posted: &Posted,
) -> Result<(), sqlx::Error> {
    let now = tx.now();
    sqlx::query!(
        "INSERT INTO approval_notices (tenant_id, approval_id, room_id, event_id, updated_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, approval_id, room_id)
         DO UPDATE SET event_id = excluded.event_id, updated_at = excluded.updated_at",
        tenant.0,
        id.0,
        posted.room.as_str(),
        posted.notice.as_str(),
        now,
    )
    .execute(tx.connection())
    .await?;
    Ok(())
}
