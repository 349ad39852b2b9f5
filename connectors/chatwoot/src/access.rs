use connector_core::{ConnectorError, ErrorKind};
use serde_json::Value;

use crate::{Agent, ChatwootClient, Conversation, SERVICE, SenderKind};

impl ChatwootClient {
    /// Who works in an inbox.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn inbox_members(&self, inbox: i64) -> Result<Vec<Agent>, ConnectorError> {
        let answer = self.read(&["inbox_members", &inbox.to_string()]).await?;
        agents(answer.get("payload").unwrap_or(&answer))
    }

    /// Who is in a team.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn team_members(&self, team: i64) -> Result<Vec<Agent>, ConnectorError> {
        agents(&self.read(&["teams", &team.to_string(), "team_members"]).await?)
    }

    /// Whether somebody of the account sees a conversation there, as Chatwoot decides it (`conversation_policy.rb`): administrators see
    /// all, others those of their inboxes and teams, and what is assigned to them.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn may_see(&self, agent: &Agent, conversation: &Conversation) -> Result<bool, ConnectorError> {
        let is_assigned = conversation
            .assignee
            .as_ref()
            .is_some_and(|assignee| assignee.kind == SenderKind::User && assignee.id == agent.id);
        if agent.role.as_deref() == Some("administrator") || is_assigned {
            return Ok(true);
        }
        let is_among = |members: &[Agent]| members.iter().any(|member| member.id == agent.id);
        if let Some(inbox) = conversation.inbox_id
            && is_among(&self.inbox_members(inbox).await?)
        {
            return Ok(true);
        }
        match &conversation.team {
            Some(team) => Ok(is_among(&self.team_members(team.id).await?)),
            None => Ok(false),
        }
    }
}

fn agents(list: &Value) -> Result<Vec<Agent>, ConnectorError> {
    let agents = list.as_array().ok_or_else(|| {
        ConnectorError::new(ErrorKind::Misconfigured, SERVICE, "the answer is not a list of agents")
    })?;
    Ok(agents.iter().filter_map(Agent::read).collect())
}
