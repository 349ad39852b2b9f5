#![doc = include_str!("../README.md")]

mod client;
mod effects;
mod json;
mod model;
pub mod webhook;

#[cfg(feature = "fake")]
pub mod fake;

pub use client::{
    ChatwootClient, ChatwootSettings, ConversationFilter, ConversationPage, NOTE_NOT_PRIVATE, NewNote,
    SERVICE,
};
pub use effects::{AssignTo, NOT_ASSIGNED};
pub use model::{
    Agent, Assignee, Contact, Conversation, ConversationStatus, Message, MessageType, Priority, Sender,
    SenderKind, Team, Webhook,
};
