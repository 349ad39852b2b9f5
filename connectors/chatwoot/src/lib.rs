#![doc = include_str!("../README.md")]

mod access;
mod client;
mod effects;
mod install;
mod json;
mod model;
mod people;
mod platform;
pub mod webhook;

#[cfg(feature = "fake")]
pub mod fake;

pub use client::{
    ChatwootClient, ChatwootSettings, ConversationFilter, ConversationPage, NOTE_NOT_PRIVATE, NewNote,
    SERVICE,
};
pub use effects::{AssignTo, NOT_ASSIGNED};
pub use install::DashboardApp;
pub use model::{
    Agent, Assignee, Contact, Conversation, ConversationStatus, Message, MessageType, Priority, Sender,
    SenderKind, Team, Webhook,
};
pub use people::{AccountRole, NewUser, User};
