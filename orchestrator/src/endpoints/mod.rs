//! A tenant's own endpoints: its events go there as signed webhooks (Standard Webhooks 1.0.0).
//!
//! An endpoint wants some types of events, has secrets that are shown once and can be rotated, and is `active` or `disabled`: by
//! hand, because it said 410, or because nothing has succeeded there for days, of which its owners are told.
//!
//! Deliveries follow the tenant's event log (docs/adr/0007): each endpoint has a *lane* with its position in the log. What was
//! rolled back is in no log, what was committed stays in it, and a command does nothing for endpoints. Whoever holds a lane's
//! lease ([`Deliverer`]) moves the position and writes the deliveries in one transaction, sends what is due, a few at a time, and
//! records what came back. The `webhook-id` of a delivery is the event's, the same for each attempt; a process that stops between
//! sending and recording sends again under that id. The order of events is not promised.
//!
//! Deliveries: `pending` → `delivered`, or back to pending with a later time, or `failed`; those that failed or were delivered can
//! be sent again. They are kept for 30 days.

mod deliverer;
mod jobs;
mod message;
mod model;
mod routes;
mod service;
mod store;

pub use deliverer::Deliverer;
pub use jobs::handlers;
pub use model::{
    Attempt, ChangeEndpoint, Delivery, DeliveryFilter, DeliveryState, DisabledBecause, Endpoint,
    EndpointFault, EndpointState, MAX_DESCRIPTION, NewEndpoint, Outcome, TEST_EVENT, event_groups,
};
pub use routes::{problem, router};
pub use service::{
    Context, EndpointError, WithSecret, change, create, deliveries, delivery, find, page, redeliver,
    redeliver_failed, remove, rotate, send_test, urls,
};
