//! Conversations: a mirror of what the webhooks told, for showing and for escalating. The truth is in the tool.
//!
//! Surface: [`observe`] for the inbox, [`escalate`] for people; `jobs` has the escalation by a private note; [`beside`] says what somebody
//! sees of ours beside a conversation in the tool, and [`open`] leads there.

mod beside;
mod jobs;
mod model;
mod opening;
mod routes;
mod service;
mod store;

pub use beside::{Beside, BesideError, beside};
pub use jobs::{ESCALATE_NOTE, EscalateNote, handlers};
pub use model::{Conversation, Escalation, MAX_REASON, Observation, ObservedMessage};
pub use opening::{Opened, open};
pub use routes::router;
pub use service::{EscalateError, escalate, find, observe, page, page_of, problem, updated};
pub use store::{Standing, contacts, open_count, standing};
