//! The commands. The caller commits.

use chrono::{DateTime, Utc};
use connector_jitsi::{MeetingLink, Participant, new_room_name};
use serde_json::json;

use super::{
    jobs,
    model::{
        Attendance, Consultation, ConsultationFilter, ConsultationStatus, DEFAULT_DURATION, NewConsultation,
        TransitionError,
    },
    store,
};
use crate::{
    approvals::{self, Approval},
    audit::{self, Change},
    auth::{Decision, Permission, Principal, Resource, can},
    db::{Actor, TenantTx},
    http::{etag::IfMatch, page::Page},
    ids::{ApprovalId, ConsultationId, TenantId, UserId},
    realtime::{self, EventType},
    tools::Jitsi,
};

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConsultationError {
    /// Unknown, or a stranger's.
    #[error("there is no such consultation")]
    NotFound,
    /// None of the roles allows it.
    #[error("no role allows this")]
    Forbidden,
    /// Only the host does this.
    #[error("only the host does this")]
    NotHost,
    /// Only the host or an owner cancels it.
    #[error("only the host or an owner cancels it")]
    MayNotCancel,
    /// It is over.
    #[error("it is over")]
    Over,
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// It has begun.
    #[error("it has begun")]
    Started,
    /// It hasn't begun.
    #[error("it has not begun")]
    NotStarted,
    /// Its room isn't open yet.
    #[error("its room isn't open yet")]
    TooEarly,
    /// It has changed since it was read.
    #[error("it has changed meanwhile")]
    Stale,
    /// Somebody who is to take part doesn't belong to the tenant.
    #[error("a participant does not belong to the tenant")]
    UnknownParticipant,
    /// There is no such approval.
    #[error("there is no such approval")]
    UnknownApproval,
    /// Jitsi isn't connected.
    #[error("Jitsi is not connected")]
    NoJitsi,
    /// No token could be made.
    #[error("no token can be made")]
    Token(#[source] connector_jitsi::JitsiError),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

impl From<TransitionError> for ConsultationError {
    fn from(error: TransitionError) -> Self {
        match error {
            TransitionError::Over => Self::Over,
            TransitionError::NotStarted => Self::NotStarted,
            TransitionError::Started => Self::Started,
            TransitionError::Cancelled => Self::Cancelled,
            TransitionError::TooEarly => Self::TooEarly,
        }
    }
}

fn decision_error(decision: Decision) -> Result<(), ConsultationError> {
    match decision {
        Decision::Allowed => Ok(()),
        Decision::Stranger => Err(ConsultationError::NotFound),
        Decision::MissingPermission
        | Decision::OwnRequest
        | Decision::NotOwnRequest
        | Decision::NotInvolved => Err(ConsultationError::Forbidden),
    }
}

/// What somebody joins with.
#[derive(Debug)]
pub struct Joined {
    /// The consultation.
    pub consultation: Consultation,
    /// The way in, for this person.
    pub link: MeetingLink,
}

/// Makes a consultation about an approved approval: the decider hosts, the requester takes part.
///
/// # Errors
/// Where the database says no.
pub async fn arrange_for_approval(
    tx: &mut TenantTx,
    approval: &Approval,
    host: UserId,
) -> Result<Consultation, sqlx::Error> {
    let new = NewConsultation {
        title: approval.title.clone(),
        participant_ids: vec![approval.requested_by],
        approval_id: Some(approval.id),
        scheduled_at: None,
        duration_minutes: DEFAULT_DURATION,
    };
    insert(tx, approval.tenant_id, host, new).await
}

/// Makes a consultation that the transaction's principal hosts.
///
/// # Errors
/// [`ConsultationError`].
pub async fn create(
    tx: &mut TenantTx,
    tenant: TenantId,
    mut new: NewConsultation,
) -> Result<Consultation, ConsultationError> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(ConsultationError::Forbidden) };
    decision_error(can(&principal, Permission::ConsultationHost, &Resource::of(tenant)))?;
    tx.enter(tenant).await?;
    new.participant_ids.retain(|user| *user != principal.id);
    new.participant_ids.sort_unstable();
    new.participant_ids.dedup();
    if !store::are_members(tx, tenant, &new.participant_ids).await? {
        return Err(ConsultationError::UnknownParticipant);
    }
    if let Some(approval) = new.approval_id {
        let found = approvals::find(tx, approval).await.map_err(|error| match error {
            approvals::ApprovalError::Database(error) => ConsultationError::Database(error),
            _ => ConsultationError::UnknownApproval,
        })?;
        if found.tenant_id != tenant {
            return Err(ConsultationError::UnknownApproval);
        }
    }
    Ok(insert(tx, tenant, principal.id, new).await?)
}

async fn insert(
    tx: &mut TenantTx,
    tenant: TenantId,
    host: UserId,
    new: NewConsultation,
) -> Result<Consultation, sqlx::Error> {
    let now = tx.now();
    let consultation = Consultation {
        id: ConsultationId(tx.new_id()),
        tenant_id: tenant,
        title: new.title,
        jitsi_room: new_room_name(&**tx.ids()),
        status: ConsultationStatus::Scheduled,
        host_id: host,
        participant_ids: new.participant_ids,
        approval_id: new.approval_id,
        scheduled_at: new.scheduled_at,
        duration_minutes: new.duration_minutes,
        room_opened_at: None,
        room_closed_at: None,
        started_at: None,
        ended_at: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    store::insert(tx, &consultation).await?;
    let new_values = json!({
        "status": consultation.status, "title": consultation.title, "hostId": consultation.host_id,
        "participantIds": consultation.participant_ids, "approvalId": consultation.approval_id, "scheduledAt": consultation.scheduled_at,
        "durationMinutes": consultation.duration_minutes,
    });
    record(tx, "consultation.created", &consultation, None, Some(new_values)).await?;
    jobs::when_expired(tx, &consultation).await?;
    realtime::append(tx, EventType::ConsultationCreated, Permission::ConsultationRead, consultation.id.0)
        .await?;
    Ok(consultation)
}

async fn record(
    tx: &mut TenantTx,
    action: &'static str,
    consultation: &Consultation,
    old_values: Option<serde_json::Value>,
    new_values: Option<serde_json::Value>,
) -> Result<(), sqlx::Error> {
    let change = Change {
        action,
        resource: "consultation",
        resource_id: consultation.id.to_string(),
        old_values,
        new_values,
        metadata: None,
    };
    audit::record(tx, change).await.map(drop)
}

/// Where the principal may see all consultations, and where only its own.
fn readable(principal: &Principal) -> (Vec<TenantId>, Vec<TenantId>) {
    let all = principal.tenants_with(Permission::ConsultationRead);
    let own = principal
        .tenants_with(Permission::ConsultationJoin)
        .into_iter()
        .filter(|tenant| !all.contains(tenant))
        .collect();
    (all, own)
}

/// The consultation with this id, if the transaction's principal may see it.
///
/// # Errors
/// [`ConsultationError::NotFound`], [`ConsultationError::Database`].
pub async fn find(tx: &mut TenantTx, id: ConsultationId) -> Result<Consultation, ConsultationError> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(ConsultationError::NotFound) };
    let (all, own) = readable(&principal);
    let tenants: Vec<TenantId> = all.iter().chain(&own).copied().collect();
    let found = store::find(tx, &tenants, id).await?.ok_or(ConsultationError::NotFound)?;
    if all.contains(&found.tenant_id) || found.involved().contains(&principal.id) {
        Ok(found)
    } else {
        Err(ConsultationError::NotFound)
    }
}

/// One page of the consultations that the transaction's principal may see, newest first; of one tenant where it is given.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page(
    tx: &mut TenantTx,
    tenant: Option<TenantId>,
    before: Option<ConsultationId>,
    limit: u32,
) -> Result<Page<Consultation>, sqlx::Error> {
    let Actor::Principal(principal) = tx.actor().clone() else {
        return Ok(Page::of(Vec::new(), limit, |_: &Consultation| uuid::Uuid::nil()));
    };
    let (mut tenants, mut own_in) = readable(&principal);
    if let Some(tenant) = tenant {
        tenants.retain(|one| *one == tenant);
        own_in.retain(|one| *one == tenant);
    }
    let filter = ConsultationFilter { tenants, own_in, before, limit };
    let consultations = store::list(tx, &filter, principal.id).await?;
    Ok(Page::of(consultations, limit, |consultation| consultation.id.0))
}

/// The tenant's consultations that go on or are to come, as far as the transaction's principal may see them; those under way
/// first.
///
/// # Errors
/// Where the database can't be asked.
pub async fn upcoming(
    tx: &mut TenantTx,
    tenant: TenantId,
    limit: u32,
) -> Result<Vec<Consultation>, sqlx::Error> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Ok(Vec::new()) };
    let (all, own) = readable(&principal);
    if !all.contains(&tenant) && !own.contains(&tenant) {
        return Ok(Vec::new());
    }
    let only_of = (!all.contains(&tenant)).then_some(principal.id);
    store::upcoming(tx, tenant, only_of, limit).await
}

/// The newest consultation about an approval.
///
/// # Errors
/// Where the database can't be asked.
pub async fn of_approval(
    tx: &mut TenantTx,
    tenant: TenantId,
    approval: ApprovalId,
) -> Result<Option<Consultation>, sqlx::Error> {
    store::of_approval(tx, tenant, approval).await
}

async fn load_as_host(tx: &mut TenantTx, id: ConsultationId) -> Result<Consultation, ConsultationError> {
    let found = find(tx, id).await?;
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(ConsultationError::Forbidden) };
    if found.host_id != principal.id {
        return Err(ConsultationError::NotHost);
    }
    load_for_update(tx, &found).await
}

async fn load_for_update(tx: &mut TenantTx, found: &Consultation) -> Result<Consultation, ConsultationError> {
    let id = found.id;
    tx.enter(found.tenant_id).await?;
    if !store::lock(tx, found.tenant_id, id).await? {
        return Err(ConsultationError::NotFound);
    }
    store::find(tx, &[found.tenant_id], id).await?.ok_or(ConsultationError::NotFound)
}

/// Starts a consultation, as its host. Starting twice is the same start.
///
/// # Errors
/// [`ConsultationError`].
pub async fn start(
    tx: &mut TenantTx,
    id: ConsultationId,
    if_match: &IfMatch,
) -> Result<Consultation, ConsultationError> {
    let before = load_as_host(tx, id).await?;
    let now = tx.now();
    let after = before.started(now);
    apply(tx, before, after, if_match, "consultation.started", EventType::ConsultationStarted).await
}

/// Ends a consultation for good, as its host.
///
/// # Errors
/// [`ConsultationError`].
pub async fn end(
    tx: &mut TenantTx,
    id: ConsultationId,
    if_match: &IfMatch,
) -> Result<Consultation, ConsultationError> {
    let before = load_as_host(tx, id).await?;
    let now = tx.now();
    let after = before.ended(now);
    apply(tx, before, after, if_match, "consultation.ended", EventType::ConsultationEnded).await
}

/// Whether the transaction's principal may cancel a consultation, as long as it hasn't begun: its host, or an owner of the
/// tenant. Who asked for the approval may not get rid of the talk about it that way, unless they host it.
///
/// # Errors
/// Where the database can't be asked.
pub async fn may_cancel(tx: &mut TenantTx, consultation: &Consultation) -> Result<bool, sqlx::Error> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Ok(false) };
    if consultation.host_id == principal.id {
        return Ok(true);
    }
    let is_owner =
        can(&principal, Permission::ConsultationCancel, &Resource::of(consultation.tenant_id)).is_allowed();
    if !is_owner {
        return Ok(false);
    }
    let Some(approval) = consultation.approval_id else { return Ok(true) };
    match approvals::find(tx, approval).await {
        Ok(approval) => Ok(approval.requested_by != principal.id),
        Err(approvals::ApprovalError::Database(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Cancels a consultation that hasn't begun. Cancelling twice is the same.
///
/// # Errors
/// [`ConsultationError`].
pub async fn cancel(
    tx: &mut TenantTx,
    id: ConsultationId,
    if_match: &IfMatch,
) -> Result<Consultation, ConsultationError> {
    let found = find(tx, id).await?;
    if !may_cancel(tx, &found).await? {
        return Err(ConsultationError::MayNotCancel);
    }
    let before = load_for_update(tx, &found).await?;
    let now = tx.now();
    let after = before.cancelled(now);
    apply(tx, before, after, if_match, "consultation.cancelled", EventType::ConsultationCancelled).await
}

async fn apply(
    tx: &mut TenantTx,
    before: Consultation,
    after: Result<Option<Consultation>, TransitionError>,
    if_match: &IfMatch,
    action: &'static str,
    event: EventType,
) -> Result<Consultation, ConsultationError> {
    let Some(after) = after? else { return Ok(before) };
    if !if_match.admits(before.version) || !write_transition(tx, &before, &after, action).await? {
        return Err(ConsultationError::Stale);
    }
    realtime::append(tx, event, Permission::ConsultationRead, after.id.0).await?;
    Ok(after)
}

/// Writes a transition with its entry and what follows from it by time. Whether the row was still at the version before.
pub(super) async fn write_transition(
    tx: &mut TenantTx,
    before: &Consultation,
    after: &Consultation,
    action: &'static str,
) -> Result<bool, sqlx::Error> {
    if !store::update(tx, after).await? {
        return Ok(false);
    }
    let old = json!({ "status": before.status, "version": before.version });
    let new = json!({ "status": after.status, "version": after.version, "startedAt": after.started_at, "endedAt": after.ended_at });
    record(tx, action, after, Some(old), Some(new)).await?;
    jobs::when_expired(tx, after).await?;
    if after.status == ConsultationStatus::Active {
        jobs::when_empty(tx, after).await?;
        jobs::tell_started(tx, after).await?;
    }
    Ok(true)
}

/// Who was in the room of a consultation that the transaction's principal may see.
///
/// # Errors
/// [`ConsultationError::NotFound`], [`ConsultationError::Database`].
pub async fn attendance(tx: &mut TenantTx, id: ConsultationId) -> Result<Vec<Attendance>, ConsultationError> {
    let found = find(tx, id).await?;
    Ok(store::attendance(tx, found.tenant_id, id).await?)
}

/// Lets the transaction's principal in, with a token for this room and this person, until the room is closed: who loses the
/// connection comes back with the same token. That somebody asked for
/// it is in the trail; the token is nowhere.
///
/// # Errors
/// [`ConsultationError`].
pub async fn join(
    tx: &mut TenantTx,
    jitsi: Option<&Jitsi>,
    id: ConsultationId,
    now: DateTime<Utc>,
) -> Result<Joined, ConsultationError> {
    let consultation = find(tx, id).await?;
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(ConsultationError::Forbidden) };
    let involved = consultation.involved();
    let resource = Resource { involved: &involved, ..Resource::of(consultation.tenant_id) };
    decision_error(can(&principal, Permission::ConsultationJoin, &resource))?;
    let closes_at = consultation.room_closes_at(now)?;
    let jitsi = jitsi.ok_or(ConsultationError::NoJitsi)?;
    let participant = Participant {
        id: principal.id.to_string(),
        name: principal.name.clone(),
        email: None,
        avatar: None,
        moderator: principal.id == consultation.host_id,
    };
    let link = jitsi
        .minter
        .mint(&consultation.jitsi_room, &participant, now, closes_at)
        .map_err(ConsultationError::Token)?;
    tx.enter(consultation.tenant_id).await?;
    let new = json!({ "moderator": participant.moderator, "expiresAt": link.expires_at });
    record(tx, "consultation.join_granted", &consultation, None, Some(new)).await?;
    Ok(Joined { consultation, link })
}
