use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::{
    plan::{Part, Plan, Route},
    store,
};
use crate::{
    app::AppState,
    auth::Permission,
    consultations::ROOM_EVENT,
    conversations::{self, ESCALATE_NOTE},
    db::TenantTx,
    ids::{ConversationId, TenantId},
    inbox::model::{Claim, Event, Mark, source_path},
    jobs,
    matrix::COMMAND,
    realtime::{self, Appended, EventType},
};

/// How long a claim holds without an effect; each renews it.
pub(super) const LEASE: TimeDelta = TimeDelta::seconds(30);

/// An event that is to have its effect.
#[derive(Debug)]
pub(super) struct Planned {
    pub mark: Mark,
    pub event: Arc<Event>,
    pub plan: Plan,
}

/// A row of the timeline.
pub(super) struct Told<'a> {
    pub event: &'a Event,
    pub number: i32,
    pub part: &'a Part,
    pub effects: Value,
}

/// Where an event's mark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Among the pending.
    Pending,
    /// Among the failures that are tried again.
    Retries,
}

/// Why nothing has happened.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// Somebody else has taken a lane over, or has processed an event.
    #[error("the claim was lost to another worker")]
    Lost,
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

/// Asserts the claim in a transaction, and removes marks from the pending.
pub(super) async fn hold(
    tx: &mut TenantTx,
    claim: &Claim,
    tenant: TenantId,
    marks: &[&Mark],
) -> Result<(), ApplyError> {
    let until = tx.now() + LEASE;
    let held = store::hold_and_remove(tx, claim, until, tenant, marks).await?;
    let mut expected: Vec<i64> = marks.iter().map(|mark| mark.seq).collect();
    expected.sort_unstable();
    if usize::try_from(held.lanes) == Ok(claim.lanes.len()) && held.removed == expected {
        Ok(())
    } else {
        Err(ApplyError::Lost)
    }
}

/// Gives these events of one tenant their effect, parks those that wait, and removes the marks of all: everything, or nothing.
pub(super) async fn apply(
    state: &AppState,
    claim: &Claim,
    tenant: TenantId,
    planned: &[&Planned],
    waiting: &[&Mark],
    from: From,
    begun_at: DateTime<Utc>,
) -> Result<(), ApplyError> {
    let mut tx = state.database.worker_tx(tenant).await?;
    match from {
        From::Pending => {
            let marks: Vec<&Mark> =
                planned.iter().map(|one| &one.mark).chain(waiting.iter().copied()).collect();
            hold(&mut tx, claim, tenant, &marks).await?;
        }
        From::Retries => {
            hold(&mut tx, claim, tenant, &[]).await?;
            for one in planned {
                if !store::remove_retry(&mut tx, &one.mark).await? {
                    return Err(ApplyError::Lost);
                }
                store::unpark(&mut tx, &one.mark).await?;
            }
        }
    }
    if !waiting.is_empty() {
        store::park(&mut tx, waiting).await?;
    }
    if !planned.is_empty() {
        effects(&mut tx, tenant, planned, from, begun_at).await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn effects(
    tx: &mut TenantTx,
    tenant: TenantId,
    planned: &[&Planned],
    from: From,
    begun_at: DateTime<Utc>,
) -> Result<(), ApplyError> {
    let observed = planned.iter().filter_map(|one| one.plan.observation.clone()).collect();
    let mut conversations = conversations::observe(tx, tenant, observed).await?.into_iter();
    let mut told = Vec::with_capacity(planned.len());
    let mut received = Vec::with_capacity(planned.len());
    let mut changed: Vec<ConversationId> = Vec::new();
    for one in planned {
        let conversation = one.plan.observation.as_ref().and_then(|_| conversations.next());
        changed.extend(conversation);
        let mut effects = Map::new();
        if let Some(conversation) = conversation {
            effects.insert("conversation".to_owned(), json!(conversation));
        }
        if let Some(note) = &one.plan.note {
            let key = format!("{}:{}", one.event.source, note.message_id);
            let ids = Arc::clone(tx.ids());
            let enqueued = jobs::enqueue(tx, ESCALATE_NOTE, &key, note, None);
            // A batch holds events of many traces: what follows from one goes on in its own.
            match &one.plan.trace {
                Some(sent) => sent.child(&*ids).scope(Arc::clone(&ids), enqueued).await?,
                None => enqueued.await?,
            }
            effects.insert("jobs".to_owned(), json!([format!("{ESCALATE_NOTE} {key}")]));
        }
        if let Some(Route::To(tenant)) = one.plan.route {
            store::hand_on(tx, &one.mark, tenant).await?;
            effects.insert("tenant".to_owned(), json!(tenant));
        }
        if let Some(event) = &one.plan.room {
            let key = one.event.id.to_string();
            let ids = Arc::clone(tx.ids());
            let enqueued = jobs::enqueue(tx, ROOM_EVENT, &key, event, None);
            match &one.plan.trace {
                Some(sent) => sent.child(&*ids).scope(Arc::clone(&ids), enqueued).await?,
                None => enqueued.await?,
            }
            effects.insert("jobs".to_owned(), json!([format!("{ROOM_EVENT} {key}")]));
        }
        for (message, command) in &one.plan.commands {
            jobs::enqueue(tx, COMMAND, message, command, None).await?;
        }
        let mut effects = Some(Value::Object(effects));
        for (number, part) in (0..).zip(&one.plan.parts) {
            received.push(attributes(&one.event, number, part));
            let effects = effects.take().unwrap_or_else(|| json!({}));
            told.push(Told { event: &one.event, number, part, effects });
        }
        // What succeeds at once is told by its row of the timeline.
        if one.mark.replay || from == From::Retries {
            store::record_attempt(tx, &one.mark, begun_at, "done", None).await?;
        }
        if one.mark.replay {
            store::forget_failure(tx, &one.mark).await?;
        }
    }
    store::tell(tx, tenant, &told).await?;
    // A conversation is told of once, however many of its events are in here: whoever listens reads it anew.
    changed.sort_unstable();
    changed.dedup();
    received.extend(changed.into_iter().map(conversations::updated));
    realtime::append_all(tx, received).await?;
    Ok(())
}

/// The event for the tenant's stream: the attributes of CloudEvents 1.0.
fn attributes(event: &Event, number: i32, part: &Part) -> Appended {
    let source = event.source_uri.clone().unwrap_or_else(|| source_path(&event.service, event.source));
    let mut told = Map::new();
    told.insert("source".to_owned(), source.into());
    told.insert("eventType".to_owned(), part.event_type.as_str().into());
    told.insert("subject".to_owned(), part.subject.as_str().into());
    told.insert("time".to_owned(), json!(part.occurred_at));
    if number > 0 {
        told.insert("part".to_owned(), number.into());
    }
    Appended {
        event: EventType::WebhookReceived,
        permission: Permission::WebhookEventRead,
        resource: event.id.0,
        told,
    }
}
