//! Chancery's connector to Chatwoot, where customer conversations live.
//!
//! - [`webhook`]: verifies what Chatwoot sends (4.15.1's signature) and reads it, old shapes and new;
//! - [`ChatwootClient`]: the part of the account API that Chancery uses;
//! - `fake` (feature `fake`): a double of Chatwoot: a real HTTP server on loopback with the same webhooks, the same
//!   answers and a page to play customer and agent on.
//!
//! Three properties of Chatwoot shape this crate. Webhooks are delivered at most once and their delivery id isn't
//! signed, so [`webhook::content_key`] makes a key from what is. Posting a message has no idempotency key, so
//! [`ChatwootClient::post_private_note`] looks where it couldn't tell whether it has posted, and
//! [`ChatwootClient::ensure_private_note`], for whoever may have tried before, also before it posts. And writing custom
//! attributes or labels replaces all of them, so [`ChatwootClient::merge_custom_attributes`] and
//! [`ChatwootClient::add_labels`] read first.

mod client;
mod json;
mod model;
pub mod webhook;

#[cfg(feature = "fake")]
pub mod fake;

pub use client::{
    ChatwootClient, ChatwootSettings, ConversationFilter, ConversationPage, NOTE_NOT_PRIVATE, NewNote,
    SERVICE,
};
pub use model::{
    Agent, Assignee, Contact, Conversation, ConversationStatus, Message, MessageType, Priority, Sender,
    SenderKind, Team, Webhook,
};
