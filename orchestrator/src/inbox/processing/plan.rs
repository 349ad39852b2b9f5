use chrono::{DateTime, Utc};
use connector_core::TraceContext;
use connector_jitsi::RoomEvent;

use super::{chatwoot, jitsi, matrix};
use crate::{
    app::AppState,
    conversations::{EscalateNote, Observation},
    crypto::CryptoError,
    ids::TenantId,
    inbox::model::{Event, RawRequest},
    matrix::RoomCommand,
};

/// Why an event can't have an effect, however often it is tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum Poison {
    #[error("the event can't be read")]
    Unreadable(#[from] connector_chatwoot::webhook::ParseError),
    #[error("the transaction can't be read")]
    Transaction(#[from] connector_matrix::appservice::InvalidTransaction),
    #[error("the event of a room can't be read")]
    Room(#[source] serde_json::Error),
    #[error("the event is of another account than its source")]
    OtherAccount,
    #[error("inbox {inbox} of account {account} is mapped to no tenant")]
    Unmapped { account: String, inbox: i64 },
    #[error("the event names no inbox, and the other inboxes of account {account} are mapped to no tenant")]
    NoInbox { account: String },
    #[error("the stored event can't be opened")]
    Sealed(#[from] CryptoError),
    #[error("reading the event failed in an unforeseen way")]
    Panicked,
}

/// One thing that an event tells, with the attributes of CloudEvents 1.0 that aren't the event's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub event_type: String,
    pub subject: String,
    pub occurred_at: DateTime<Utc>,
}

/// What an event means: what is told, and what follows.
#[derive(Debug)]
pub(super) struct Plan {
    /// The event as received comes first.
    pub parts: Vec<Part>,
    pub observation: Option<Observation>,
    pub note: Option<EscalateNote>,
    /// Whose it is, where that is to be found out.
    pub route: Option<Route>,
    /// What happened in a room of Jitsi's.
    pub room: Option<RoomEvent>,
    /// What a bot is asked, by the messages that ask it.
    pub commands: Vec<(String, RoomCommand)>,
    /// Where in which trace it was sent, where the sender says so and something follows from it.
    pub trace: Option<TraceContext>,
}

/// Where an event goes that the suite has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// To who has this inbox.
    Inbox(Option<i64>),
    /// To this tenant.
    To(TenantId),
}

/// Works out what an event means. No database, and no other server.
pub(super) fn plan(event: &Event, with: &AppState, now: DateTime<Utc>) -> Result<Plan, Poison> {
    // Whatever a body does to a parser, the worker lives on.
    let planned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(event, with, now)));
    planned.unwrap_or(Err(Poison::Panicked))
}

fn read(event: &Event, with: &AppState, now: DateTime<Utc>) -> Result<Plan, Poison> {
    let key = &with.master_key;
    let own = Part {
        event_type: event.kind.clone(),
        subject: event.subject.clone(),
        occurred_at: event.occurred_at.unwrap_or(event.received_at),
    };
    let mut plan = Plan {
        parts: vec![own],
        observation: None,
        note: None,
        route: None,
        room: None,
        commands: Vec::new(),
        trace: None,
    };
    match event.service.as_str() {
        chatwoot::SERVICE => {
            let request = RawRequest::open(key, &event.sealed_request)?;
            let own = with.tools.chatwoot.as_ref().map(|chatwoot| &chatwoot.own);
            chatwoot::read(event, &request.body, &with.ui, own, now, &mut plan)?;
            if plan.note.is_some() {
                plan.trace = request.trace();
            }
        }
        matrix::SERVICE if event.kind == matrix::TRANSACTION => {
            matrix::read(&RawRequest::open(key, &event.sealed_request)?.body, event, &mut plan)?;
        }
        service if jitsi::SERVICES.contains(&service) => {
            let request = RawRequest::open(key, &event.sealed_request)?;
            jitsi::read(&request.body, &mut plan)?;
            plan.trace = request.trace();
        }
        // What is known of it was known when it was received; nothing follows.
        _ => {}
    }
    Ok(plan)
}
