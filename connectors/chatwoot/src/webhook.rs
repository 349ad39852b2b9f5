//! What Chatwoot sends: is it from Chatwoot, and what does it say?
//!
//! A receiver does this, in this order: [`verify`] the raw bytes, store them, [`parse`] them. [`redact`] what is
//! stored or shown. The delivery id is not covered by the signature, so [`content_key`] is the key to recognise a
//! repetition by.

mod event;
mod own;
mod signature;

pub use event::{ChangedAttribute, Event, EventName, Inbox, ParseError, content_key, parse, redact, subject};
pub use own::OwnWrites;
pub use signature::{
    DELIVERY_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, Verified, VerifyError, WINDOW, sign, verify,
};
