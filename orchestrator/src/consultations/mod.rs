//! Consultations: a video room for a few people, hosted by one of them, often about an approval.
//!
//! States: `scheduled` → `active` (started by the host; starting twice is the same start) → `ended` (by the host, for
//! good); `cancelled` from `scheduled`, by the host or an owner of the tenant. Who takes part joins with a token for that room and person, made at that moment.
//!
//! Jitsi's server asks whether a room may be, and tells who is in it (`jitsi`, `rooms`): the first who comes starts a consultation, and
//! one whose room stays empty, or is closed two hours after the planned end, ends by itself (`jobs`).

mod jitsi;
mod jobs;
mod model;
mod rooms;
mod routes;
mod service;
mod store;

pub use jitsi::router as for_jitsi;
pub use jobs::{ROOM_EVENT, handlers, unneeded_jobs};
pub use model::{Attendance, Consultation, ConsultationFilter, ConsultationStatus, NewConsultation};
pub use routes::{problem, router};
pub use service::{
    ConsultationError, Joined, arrange_for_approval, attendance, cancel, create, end, find, join, may_cancel,
    of_approval, page, start, upcoming,
};
pub use store::titles;
