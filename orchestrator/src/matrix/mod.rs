//! The tenants' rooms in Matrix: a space for each, and in it the room for approvals and the one for who runs things, in which
//! notices are posted.
//!
//! - [`room_for`]: such a room, found again, mended, or made.
//! - [`post`]: posts a notice there, or changes one.
//! - [`RoomCommand`]: what somebody asks the bot in the room for approvals, answered by a job.
//! - [`watch_dead_letters`]: has those who can mend it told what failed for good.

mod commands;
mod dead_letters;
mod ping;
mod rooms;
mod store;

use crate::jobs::Registry;

pub use commands::{COMMAND, Question, RoomCommand};
pub use dead_letters::{look_for_dead_letters, watch_dead_letters};
pub use ping::{ping, ping_at_start};
pub use rooms::{Notice, Posted, Purpose, post, room_for};

/// The handlers of this slice's jobs.
pub fn handlers(registry: Registry) -> Registry {
    dead_letters::handlers(commands::handlers(registry))
}
