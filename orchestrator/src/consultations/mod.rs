//! Consultations: a video room for a few people, hosted by one of them, often about an approval.
//!
//! States: `scheduled` → `active` (started by the host; starting twice is the same start) → `ended` (by the host, for
//! good); `cancelled` from `scheduled`. Who takes part joins with a token for that room and person, made at that moment.

mod model;
mod routes;
mod service;
mod store;

pub use model::{Consultation, ConsultationFilter, ConsultationStatus, NewConsultation};
pub use routes::{problem, router};
pub use service::{
    ConsultationError, Joined, arrange_for_approval, create, end, find, join, of_approval, page, start,
    upcoming,
};
pub use store::titles;
