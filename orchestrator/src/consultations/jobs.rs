//! What happens by itself: what Jitsi's server tells of a room, and the end by time.

use async_trait::async_trait;
use connector_jitsi::RoomEvent;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    model::{Consultation, ConsultationStatus},
    rooms, service, store,
};
use crate::{
    app::AppState,
    audit::{self, Change},
    auth::Permission,
    db::TenantTx,
    ids::{ConsultationId, TenantId},
    jobs::{Effect, Handler, Job, JobError, Registry, enqueue},
    matrix,
    realtime::{self, EventType},
    tools::Tools,
};

/// The job's kind that takes in what a Jitsi server tells of a room.
pub const ROOM_EVENT: &str = "consultations.room_event";
const EXPIRE: &str = "consultations.expire";
const EMPTY: &str = "consultations.empty";
const NOTICE: &str = "consultations.notice";

/// The handlers of this slice's jobs.
pub fn handlers(registry: Registry) -> Registry {
    registry.with(ROOM_EVENT, Observe).with(EXPIRE, End).with(EMPTY, End).with(NOTICE, Notice)
}

/// The kinds of this slice's jobs that do nothing with these tools.
pub fn unneeded_jobs(tools: &Tools) -> Vec<&'static str> {
    if tools.matrix.is_none() { vec![NOTICE] } else { Vec::new() }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    consultation_id: ConsultationId,
}

/// Ends a consultation, or cancels one that never begins, when its room is closed for good.
pub(super) async fn when_expired(tx: &mut TenantTx, consultation: &Consultation) -> Result<(), sqlx::Error> {
    let Some(at) = consultation.expires_at() else { return Ok(()) };
    let key = format!("{}:{}", consultation.id, consultation.status.as_str());
    enqueue(tx, EXPIRE, &key, &About { consultation_id: consultation.id }, Some(at)).await
}

/// Ends a consultation whose room is still empty then.
pub(super) async fn when_empty(tx: &mut TenantTx, consultation: &Consultation) -> Result<(), sqlx::Error> {
    let Some(at) = consultation.empty_until() else { return Ok(()) };
    let key = format!("{}:{}", consultation.id, consultation.version);
    enqueue(tx, EMPTY, &key, &About { consultation_id: consultation.id }, Some(at)).await
}

/// Tells the team that a consultation begins.
pub(super) async fn tell_started(tx: &mut TenantTx, consultation: &Consultation) -> Result<(), sqlx::Error> {
    let about = About { consultation_id: consultation.id };
    enqueue(tx, NOTICE, &consultation.id.to_string(), &about, None).await
}

struct Observe;

#[async_trait]
impl Handler for Observe {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let event: RoomEvent = job.read()?;
        let Some((mut tx, consultation)) = rooms::lock(state, &event.room).await? else {
            return Ok(Effect::Nothing);
        };
        // The suite's source tells of everybody's rooms, a tenant's own of its own.
        if job.tenant != TenantId::SUITE && job.tenant != consultation.tenant_id {
            return Ok(Effect::Nothing);
        }
        job.complete(&mut tx).await?;
        rooms::observe(&mut tx, consultation, &event).await?;
        tx.commit().await?;
        Ok(Effect::Committed)
    }
}

struct End;

#[async_trait]
impl Handler for End {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let about: About = job.read()?;
        let mut tx = state.database.worker_tx(job.tenant).await?;
        job.complete(&mut tx).await?;
        store::lock(&mut tx, job.tenant, about.consultation_id).await?;
        if let Some(before) = store::find(&mut tx, &[job.tenant], about.consultation_id).await? {
            end(&mut tx, &before, &job.kind).await?;
        }
        tx.commit().await?;
        Ok(Effect::Committed)
    }
}

/// Whether somebody came in after the room was closed last, and hasn't left: then it was opened again, which is yet to be told.
async fn is_somebody_in(tx: &mut TenantTx, consultation: &Consultation) -> Result<bool, sqlx::Error> {
    let there = store::attendance(tx, consultation.tenant_id, consultation.id).await?;
    Ok(there.iter().any(|one| one.left_at.is_none() && one.joined_at >= consultation.room_closed_at))
}

async fn end(tx: &mut TenantTx, before: &Consultation, kind: &str) -> Result<(), sqlx::Error> {
    let now = tx.now();
    // It may have been started, or come back to, since.
    let is_due = match kind {
        EMPTY => {
            before.status == ConsultationStatus::Active
                && before.empty_until().is_some_and(|until| until <= now)
                && !is_somebody_in(tx, before).await?
        }
        _ => before.expires_at().is_some_and(|at| at <= now),
    };
    let Some(after) = before.expired(now).filter(|_| is_due) else { return Ok(()) };
    let (action, event) = match after.status {
        ConsultationStatus::Cancelled => ("consultation.cancelled", EventType::ConsultationCancelled),
        _ => ("consultation.ended", EventType::ConsultationEnded),
    };
    service::write_transition(tx, before, &after, action).await?;
    realtime::append(tx, event, Permission::ConsultationRead, after.id.0).await
}

struct Notice;

#[async_trait]
impl Handler for Notice {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let Some(homeserver) = &state.tools.matrix else { return Ok(Effect::Nothing) };
        let about: About = job.read()?;
        let mut tx = state.database.worker_tx(job.tenant).await?;
        let found = store::find(&mut tx, &[job.tenant], about.consultation_id).await?;
        drop(tx);
        // Late, it is no news any more; but what was begun before may be there already.
        let is_wanted = |one: &Consultation| one.status == ConsultationStatus::Active || job.is_repeat();
        let Some(consultation) = found.filter(is_wanted) else { return Ok(Effect::Nothing) };
        let path = format!("/app/t/{}/consultations/{}", consultation.tenant_id, consultation.id);
        let link = state.config.http.public_url.join(&path).map_or(path, String::from);
        let what = state.ui.t("notice-consultation");
        let notice = matrix::Notice { what: &what, title: &consultation.title, link: &link };
        let Some(posted) =
            matrix::post(state, homeserver, job, matrix::Purpose::Approvals, &notice, None).await?
        else {
            return Ok(Effect::Nothing);
        };
        let mut tx = state.database.worker_tx(job.tenant).await?;
        let change = Change {
            action: "consultation.notice_sent",
            resource: "consultation",
            resource_id: consultation.id.to_string(),
            old_values: None,
            new_values: Some(json!({ "service": "matrix", "room": posted.room, "event": posted.notice })),
            metadata: None,
        };
        audit::record(&mut tx, change).await?;
        job.complete(&mut tx).await?;
        tx.commit().await?;
        Ok(Effect::Committed)
    }
}
