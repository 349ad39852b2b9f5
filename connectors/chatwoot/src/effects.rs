use connector_core::{ConnectorError, ErrorKind};
use serde_json::{Value, json};

use crate::{ChatwootClient, Conversation, SERVICE, SenderKind};

/// The [`ConnectorError::code`] of an assignment that Chatwoot answered with success and didn't make.
pub const NOT_ASSIGNED: &str = "not_assigned";

/// Who shall work on a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssignTo {
    /// The user with this id.
    Agent(i64),
    /// The agent bot with this id.
    Bot(i64),
    /// The team with this id. Who is assigned and isn't of the team is no longer assigned.
    Team(i64),
    /// No agent and no bot. The team stays.
    Nobody,
}

impl AssignTo {
    fn body(self) -> Value {
        match self {
            Self::Agent(id) => json!({"assignee_id": id}),
            Self::Bot(id) => json!({"assignee_id": id, "assignee_type": "AgentBot"}),
            Self::Team(id) => json!({"team_id": id}),
            Self::Nobody => json!({"assignee_id": 0}),
        }
    }

    fn is_so(self, conversation: &Conversation) -> bool {
        let is = |wanted: i64, kind: SenderKind| {
            conversation.assignee.as_ref().is_some_and(|found| found.id == wanted && found.kind == kind)
        };
        match self {
            Self::Agent(id) => is(id, SenderKind::User),
            Self::Bot(id) => is(id, SenderKind::AgentBot),
            Self::Team(id) => conversation.team.as_ref().is_some_and(|team| team.id == id),
            Self::Nobody => conversation.assignee.is_none(),
        }
    }
}

impl ChatwootClient {
    /// Assigns the conversation, and looks whether it is assigned now: Chatwoot answers with success, and assigns nobody,
    /// where the agent is of another account or may not see the inbox. Where it is so already, nothing is written.
    ///
    /// # Errors
    /// [`NOT_ASSIGNED`] as the code (permanent) where Chatwoot didn't; otherwise see [`ErrorKind`].
    pub async fn assign(&self, conversation: i64, to: AssignTo) -> Result<Conversation, ConnectorError> {
        let known = self.conversation(conversation).await?;
        if to.is_so(&known) {
            return Ok(known);
        }
        // Repeating this is harmless, so an ambiguous failure needs no look here.
        self.write(&["conversations", &conversation.to_string(), "assignments"], &to.body()).await?;
        let stored = self.conversation(conversation).await?;
        if to.is_so(&stored) {
            return Ok(stored);
        }
        let message = "chatwoot answered with success and did not assign the conversation";
        let mut error = ConnectorError::new(ErrorKind::Permanent, SERVICE, message);
        error.code = Some(NOT_ASSIGNED.to_owned());
        Err(error)
    }
}
