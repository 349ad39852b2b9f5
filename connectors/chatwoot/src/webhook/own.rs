use super::{Event, EventName};
use crate::model::{MessageType, SenderKind};

/// How to tell what we wrote from what people write: whatever is written through the API comes back as an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnWrites {
    /// The id of the agent bot that writes for us, as in [`Sender::id`](crate::Sender::id) of a note that it wrote.
    pub bot_id: Option<i64>,
    /// What the [`source_id`](crate::NewNote::source_id) of all our notes begins with (`chancery:`).
    pub source_id_prefix: String,
}

impl OwnWrites {
    /// Whether the event tells of a message that we wrote: our bot is its sender, or it bears our mark. A mark counts on
    /// outgoing messages only: a customer chooses the `source_id` of what they send.
    ///
    /// Of labels, attributes, status and assignments Chatwoot doesn't say who changed them: a handler of these must not
    /// answer with a write of its own.
    pub fn include(&self, event: &Event) -> bool {
        let (EventName::MessageCreated | EventName::MessageUpdated) = event.name else { return false };
        let Some(message) =
            event.message.as_ref().filter(|message| message.message_type == MessageType::Outgoing)
        else {
            return false;
        };
        let is_our_bots = message.sender.as_ref().is_some_and(|sender| {
            sender.kind == SenderKind::AgentBot && sender.id.is_some() && sender.id == self.bot_id
        });
        let has_our_mark = !self.source_id_prefix.is_empty()
            && message.source_id.as_ref().is_some_and(|id| id.starts_with(&self.source_id_prefix));
        is_our_bots || has_our_mark
    }
}
