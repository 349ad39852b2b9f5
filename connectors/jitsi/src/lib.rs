#![doc = include_str!("../README.md")]

mod event;
mod keys;
mod room;
mod token;

#[cfg(feature = "fake")]
pub mod fake;

pub use event::{Happened, Occupant, RoomEvent};
pub use keys::{KEY_CONTENT_TYPE, PublishedKeys, key_file_name, new_private_key};
pub use room::{is_room_name, new_room_name};
pub use token::{
    Dialect, JAAS_URL, JitsiError, JitsiSettings, MeetingLink, Participant, Signing, TokenMinter,
};
