//! The commands: authorise → load for update → pure decision → store → audit → enqueue effects → event. The caller commits.

use connector_core::TraceContext;
use serde_json::json;

use super::{
    jobs,
    model::{
        Approval, ApprovalFilter, ApprovalStatus, MAX_COMMENT, NewApproval, Outcome, TransitionError, Verdict,
    },
    step_up::required_level,
    store::{self, Following, Inserted},
};
use crate::{
    audit::{self, Change},
    auth::{
        Decision, Permission, Resource, can,
        step_up::{Proof, Requirement},
    },
    consultations,
    db::{Actor, TenantStatement, TenantTx},
    http::{
        etag::IfMatch,
        idempotency::{Answer, Found, Terms},
        page::Page,
    },
    ids::{ApprovalId, AuditId, ConversationId, TenantId, UserId},
    realtime::{self, EventType},
    tenants,
};

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// Unknown, or a stranger's.
    #[error("there is no such approval")]
    NotFound,
    /// None of the roles allows it.
    #[error("no role allows this")]
    Forbidden,
    /// Who requested it may not decide it.
    #[error("who requested it may not decide it")]
    OwnRequest,
    /// It isn't pending any more.
    #[error("it was decided already")]
    AlreadyDecided,
    /// The conversation has a pending approval.
    #[error("the conversation has a pending approval")]
    AlreadyPending(ApprovalId),
    /// Nobody but the requester could decide.
    #[error("nobody else could decide")]
    NoApprover,
    /// It has changed since it was read.
    #[error("it has changed meanwhile")]
    Stale,
    /// The decision asks for a stronger or more recent sign-in.
    #[error("the decision asks for a stronger or more recent proof of who decides")]
    StepUp(Requirement),
    /// The comment is too long.
    #[error("the comment is too long")]
    CommentTooLong,
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

fn decision_error(decision: Decision) -> Result<(), ApprovalError> {
    match decision {
        Decision::Allowed => Ok(()),
        Decision::Stranger => Err(ApprovalError::NotFound),
        Decision::OwnRequest => Err(ApprovalError::OwnRequest),
        Decision::MissingPermission | Decision::NotOwnRequest | Decision::NotInvolved => {
            Err(ApprovalError::Forbidden)
        }
    }
}

/// Requests an approval in `tenant`, for the transaction's principal.
///
/// # Errors
/// [`ApprovalError`].
pub async fn request(
    tx: &mut TenantTx,
    tenant: TenantId,
    new: NewApproval,
) -> Result<Approval, ApprovalError> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(ApprovalError::Forbidden) };
    decision_error(can(&principal, Permission::ApprovalRequest, &Resource::of(tenant)))?;
    tx.enter(tenant).await?;
    let mut inserted = store::insert(tx, tenant, principal.id, new.clone()).await?;
    if matches!(inserted, Inserted::DecidedMeanwhile) {
        inserted = store::insert(tx, tenant, principal.id, new).await?;
    }
    let approval = match inserted {
        Inserted::Approval(approval) => *approval,
        Inserted::DecidedMeanwhile => return Err(sqlx::Error::RowNotFound.into()),
        Inserted::NoDecider => return Err(ApprovalError::NoApprover),
        Inserted::AlreadyPending(id) => return Err(ApprovalError::AlreadyPending(id)),
    };
    let change = Change {
        action: "approval.requested",
        resource: "approval",
        resource_id: approval.id.to_string(),
        old_values: None,
        new_values: Some(recorded(&approval)),
        metadata: None,
    };
    audit::record(tx, change).await?;
    jobs::enqueue_following(tx, &approval).await?;
    realtime::append(tx, EventType::ApprovalCreated, Permission::ApprovalRead, approval.id.0).await?;
    Ok(approval)
}

/// What the trail says of a request.
fn recorded(approval: &Approval) -> serde_json::Value {
    json!({
        "status": approval.status, "title": approval.title, "priority": approval.priority, "source": approval.source,
        "consultationRequested": approval.consultation_requested, "expiresAt": approval.expires_at,
    })
}

/// What became of a request that was made by one statement.
#[derive(Debug)]
pub(super) enum AtOnce {
    /// Everything is written, and durable.
    Done,
    /// Nothing is written, because of what is known of a request with this key.
    Known(Found),
    /// Nothing is written: [`request`] finds out why, or that there is no reason any more.
    NotDone,
}

/// What [`request`] does, with the claim of the request before and its stored answer after it, as one statement and so in
/// one round trip: for `approval` as it is to be, which the statement's principal may request. Terms and answer come back.
pub(super) async fn request_at_once(
    mut statement: TenantStatement,
    approval: Approval,
    terms: Option<Terms>,
    answer: Answer,
) -> Result<(AtOnce, Option<Terms>, Answer), ApprovalError> {
    decision_error(can(
        statement.principal(),
        Permission::ApprovalRequest,
        &Resource::of(approval.tenant_id),
    ))?;
    let (jobs, trace) = (jobs::new_jobs(&statement, &approval)?, TraceContext::current());
    // To the end even where nobody waits for it any more: what it commits is to be told.
    let done = tokio::spawn(async move {
        let following = Following {
            entry_id: AuditId(statement.new_id()),
            entry_values: &recorded(&approval),
            event: &realtime::told(EventType::ApprovalCreated, approval.id.0, Some(approval.tenant_id)),
            jobs: &jobs,
            trace: trace.as_ref(),
        };
        let (found, made) =
            store::insert_at_once(&mut statement, &approval, &following, terms.as_ref(), &answer).await?;
        let outcome = if made {
            statement.committed(!jobs.is_empty(), Some(approval.tenant_id));
            AtOnce::Done
        } else if found.fingerprint.is_some() || !found.locked {
            AtOnce::Known(found)
        } else {
            AtOnce::NotDone
        };
        Ok((outcome, terms, answer))
    });
    done.await.unwrap_or(Err(sqlx::Error::WorkerCrashed)).map_err(ApprovalError::Database)
}

/// Decides an approval, for the transaction's principal. `consultation`: whether one is to be made; as requested where it
/// isn't said; `proof`: how surely they are who they are.
///
/// # Errors
/// [`ApprovalError`]. What is no longer pending is [`ApprovalError::AlreadyDecided`], whatever version was expected.
pub async fn decide(
    tx: &mut TenantTx,
    id: ApprovalId,
    verdict: Verdict,
    comment: Option<String>,
    consultation: Option<bool>,
    if_match: &IfMatch,
    proof: Proof<'_>,
) -> Result<Approval, ApprovalError> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(ApprovalError::Forbidden) };
    let before = load_for_update(tx, &principal.tenants_with(Permission::ApprovalRead), id).await?;
    let resource = Resource { requested_by: Some(before.requested_by), ..Resource::of(before.tenant_id) };
    decision_error(can(&principal, Permission::ApprovalDecide, &resource))?;
    // Nobody is sent to prove who they are for what can't be decided any more, or where the realm has no level to ask for.
    if before.status == ApprovalStatus::Pending && !proof.rules.level.is_empty() {
        let settings = tenants::settings(tx, before.tenant_id).await?;
        if let Some(required) = required_level(proof.rules, &settings, &before)
            && !required.is_met(&proof.rules.levels, proof.proven, tx.now())
        {
            return Err(ApprovalError::StepUp(required));
        }
    }
    let outcome = Outcome::Decided { by: principal.id, verdict, comment: checked(comment)? };
    let after = change(tx, &before, &outcome, if_match, Some(&proof.recorded())).await?;
    if verdict == Verdict::Approve && consultation.unwrap_or(before.consultation_requested) {
        consultations::arrange_for_approval(tx, &after, principal.id).await?;
    }
    jobs::enqueue_following(tx, &after).await?;
    realtime::append(tx, EventType::ApprovalDecided, Permission::ApprovalRead, after.id.0).await?;
    Ok(after)
}

/// Takes back a pending approval, for the principal that requested it.
///
/// # Errors
/// [`ApprovalError`].
pub async fn cancel(
    tx: &mut TenantTx,
    id: ApprovalId,
    comment: Option<String>,
    if_match: &IfMatch,
) -> Result<Approval, ApprovalError> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(ApprovalError::Forbidden) };
    let before = load_for_update(tx, &principal.tenants_with(Permission::ApprovalRead), id).await?;
    let resource = Resource { requested_by: Some(before.requested_by), ..Resource::of(before.tenant_id) };
    decision_error(can(&principal, Permission::ApprovalCancel, &resource))?;
    let after =
        change(tx, &before, &Outcome::Cancelled { comment: checked(comment)? }, if_match, None).await?;
    jobs::enqueue_following(tx, &after).await?;
    realtime::append(tx, EventType::ApprovalCancelled, Permission::ApprovalRead, after.id.0).await?;
    Ok(after)
}

/// Expires an approval whose time is over; whether there was something to do.
pub(super) async fn expire(
    tx: &mut TenantTx,
    tenant: TenantId,
    id: ApprovalId,
) -> Result<bool, ApprovalError> {
    let before = match load_for_update(tx, &[tenant], id).await {
        Ok(before) => before,
        Err(ApprovalError::NotFound) => return Ok(false),
        Err(error) => return Err(error),
    };
    if before.after(&Outcome::Expired, tx.now()).is_err() {
        return Ok(false);
    }
    let after = change(tx, &before, &Outcome::Expired, &IfMatch::Any, None).await?;
    jobs::enqueue_following(tx, &after).await?;
    realtime::append(tx, EventType::ApprovalExpired, Permission::ApprovalRead, after.id.0).await?;
    Ok(true)
}

fn checked(comment: Option<String>) -> Result<Option<String>, ApprovalError> {
    let comment = comment.map(|comment| comment.trim().to_owned()).filter(|comment| !comment.is_empty());
    match comment {
        Some(comment) if comment.chars().count() > MAX_COMMENT => Err(ApprovalError::CommentTooLong),
        comment => Ok(comment),
    }
}

async fn load_for_update(
    tx: &mut TenantTx,
    readable: &[TenantId],
    id: ApprovalId,
) -> Result<Approval, ApprovalError> {
    let found = store::find(tx, readable, id).await?.ok_or(ApprovalError::NotFound)?;
    tx.enter(found.tenant_id).await?;
    if !store::lock(tx, found.tenant_id, id).await? {
        return Err(ApprovalError::NotFound);
    }
    // Read again under the lock: what was read before may be old by now.
    store::find(tx, &[found.tenant_id], id).await?.ok_or(ApprovalError::NotFound)
}

async fn change(
    tx: &mut TenantTx,
    before: &Approval,
    outcome: &Outcome,
    if_match: &IfMatch,
    metadata: Option<&serde_json::Value>,
) -> Result<Approval, ApprovalError> {
    let after = before.after(outcome, tx.now()).map_err(|error| match error {
        TransitionError::AlreadyDecided | TransitionError::NotYet => ApprovalError::AlreadyDecided,
        TransitionError::OwnRequest => ApprovalError::OwnRequest,
    })?;
    if !if_match.admits(before.version) {
        return Err(ApprovalError::Stale);
    }
    if !store::update(tx, &after).await? {
        return Err(ApprovalError::AlreadyDecided);
    }
    let action = match after.status {
        ApprovalStatus::Approved => "approval.approved",
        ApprovalStatus::Rejected => "approval.rejected",
        ApprovalStatus::Cancelled => "approval.cancelled",
        ApprovalStatus::Expired | ApprovalStatus::Pending => "approval.expired",
    };
    let change = Change {
        action,
        resource: "approval",
        resource_id: after.id.to_string(),
        old_values: Some(json!({ "status": before.status, "version": before.version })),
        new_values: Some(json!({
            "status": after.status, "version": after.version, "approvedBy": after.approved_by, "comment": after.comment,
        })),
        metadata,
    };
    audit::record(tx, change).await?;
    jobs::cancel_expiry(tx, &after).await?;
    Ok(after)
}

/// The approval with this id, if the transaction's principal may read it.
///
/// # Errors
/// [`ApprovalError::NotFound`], [`ApprovalError::Database`].
pub async fn find(tx: &mut TenantTx, id: ApprovalId) -> Result<Approval, ApprovalError> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(ApprovalError::NotFound) };
    let readable = principal.tenants_with(Permission::ApprovalRead);
    store::find(tx, &readable, id).await?.ok_or(ApprovalError::NotFound)
}

/// One page of the approvals, newest first, without the names of their people.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page(tx: &mut TenantTx, filter: &ApprovalFilter) -> Result<Page<Approval>, sqlx::Error> {
    let approvals = store::list(tx, filter).await?;
    Ok(Page::of(approvals, filter.limit, |approval| approval.id.0))
}

/// The same of one tenant, by one statement.
pub(super) async fn page_at_once(
    mut statement: TenantStatement,
    tenant: TenantId,
    filter: &ApprovalFilter,
) -> Result<Page<Approval>, sqlx::Error> {
    let approvals = store::list_at_once(&mut statement, tenant, filter).await?;
    Ok(Page::of(approvals, filter.limit, |approval| approval.id.0))
}

/// The same with the names, for showing it.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page_with_names(
    tx: &mut TenantTx,
    filter: &ApprovalFilter,
) -> Result<Page<Approval>, sqlx::Error> {
    let mut page = page(tx, filter).await?;
    store::add_names(tx, &mut page.items).await?;
    Ok(page)
}

/// The latest approvals of a conversation, newest first.
///
/// # Errors
/// Where the database can't be asked.
pub async fn history_of_conversation(
    tx: &mut TenantTx,
    tenant: TenantId,
    conversation: ConversationId,
) -> Result<Vec<Approval>, sqlx::Error> {
    store::of_conversation(tx, tenant, conversation).await
}

/// The pending approval of a conversation, if there is one.
///
/// # Errors
/// Where the database can't be asked.
pub async fn pending_of_conversation(
    tx: &mut TenantTx,
    tenant: TenantId,
    conversation: ConversationId,
) -> Result<Option<ApprovalId>, sqlx::Error> {
    let history = store::of_conversation(tx, tenant, conversation).await?;
    Ok(history
        .into_iter()
        .find(|approval| approval.status == ApprovalStatus::Pending)
        .map(|approval| approval.id))
}

/// Whether somebody other than `requester` could decide in the tenant.
///
/// # Errors
/// Where the database can't be asked.
pub async fn has_another_decider(
    tx: &mut TenantTx,
    tenant: TenantId,
    requester: UserId,
) -> Result<bool, sqlx::Error> {
    store::has_another_decider(tx, tenant, requester).await
}
