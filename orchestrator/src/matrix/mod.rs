//! The tenants' rooms in Matrix: a space for each, and in it the room for approvals, in which notices are posted.
//!
//! - [`approvals_room`]: that room, found again, mended, or made.
//! - [`post`]: posts a notice there, or changes one.
//! - [`RoomCommand`]: what somebody asks the bot there, answered by a job.

mod commands;
mod ping;
mod rooms;
mod store;

pub use commands::{COMMAND, Question, RoomCommand, handlers};
pub use ping::{ping, ping_at_start};
pub use rooms::{Notice, Posted, approvals_room, post};
