//! Chancery's connector to Jitsi.
//!
//! Jitsi needs no calls to arrange a meeting: a room exists once somebody enters it, and whoever holds a token that
//! names the room may enter. So the connector makes room names that nobody can guess ([`new_room_name`]) and
//! short-lived tokens for one room and one person ([`TokenMinter`]), by the rules that Prosody's token modules check
//! (`luajwtjitsi`, `token/util`, `mod_token_verification`, `mod_token_affiliation` in jitsi/jitsi-meet).
//!
//! A token can't be taken back, and Prosody looks at its expiry only when a connection is made. Hence: mint one for
//! each click on "join", short-lived, and send the person there with `Cache-Control: no-store` and
//! `Referrer-Policy: no-referrer`, since the token stands in the URL.
//!
//! The feature `fake` adds a double of a Jitsi server, which checks tokens with code of its own.

mod room;
mod token;

#[cfg(feature = "fake")]
pub mod fake;

pub use room::{is_room_name, new_room_name};
pub use token::{JitsiError, JitsiSettings, MeetingLink, Participant, Signing, TokenMinter};
