//! Conversations: a mirror of what the webhooks told, for showing and for escalating. The truth is in the tool.
//!
//! Surface: [`observe`] for the inbox, [`escalate`] for people; `jobs` has the escalation by a private note.

mod jobs;
mod model;
mod routes;
mod service;
mod store;

pub use jobs::{ESCALATE_NOTE, EscalateNote, handlers};
pub use model::{Conversation, Escalation, MAX_REASON, Observation, ObservedMessage};
pub use routes::router;
pub use service::{EscalateError, escalate, find, observe, page, page_of, problem, updated};
pub use store::{Standing, contacts, open_count, standing};
