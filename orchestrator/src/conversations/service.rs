use std::collections::HashMap;

use axum::http::StatusCode;
use connector_chatwoot::ChatwootClient;
use shell_ui::Ui;

use super::{
    model::{Conversation, Escalation, Observation},
    store,
};
use crate::{
    app::AppState,
    approvals::{self, Approval, ApprovalError, NewApproval, Source},
    auth::Permission,
    db::{Actor, TenantTx},
    http::{
        Problem,
        page::{Page, TimedPosition},
    },
    ids::{ConversationId, SourceId, TenantId},
    realtime::{Appended, EventType},
    tools::Tools,
};

/// Why a conversation can't be escalated.
#[derive(Debug, thiserror::Error)]
pub enum EscalateError {
    /// Unknown, or a stranger's.
    #[error("there is no such conversation")]
    NotFound,
    /// The approval was refused.
    #[error(transparent)]
    Approval(#[from] ApprovalError),
    /// The database says no.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
}

/// What a refused escalation is over HTTP.
pub fn problem(error: EscalateError) -> Problem {
    match error {
        EscalateError::NotFound => Problem::not_found(),
        EscalateError::Approval(ApprovalError::Forbidden) => {
            Problem::new(StatusCode::FORBIDDEN, "forbidden", "Your role does not allow you to escalate")
        }
        EscalateError::Approval(error) => approvals::problem(error),
        EscalateError::Database(error) => error.into(),
    }
}

/// Mirrors what webhooks told, in the worker's transaction for their sources' tenant, and says which conversation each was about.
/// Observations of one conversation come in their order. Whoever calls it appends [`updated`] for each at the end.
///
/// # Errors
/// Where the database says no.
pub async fn observe(
    tx: &mut TenantTx,
    tenant: TenantId,
    observed: Vec<Observation>,
) -> Result<Vec<ConversationId>, sqlx::Error> {
    let numbers: Vec<_> = observed.iter().map(|one| (one.source, one.display_id)).collect();
    let mut known: HashMap<(SourceId, i64), ConversationId> = HashMap::new();
    for round in rounds(observed) {
        known.extend(store::mirror(tx, tenant, &round).await?);
    }
    numbers.iter().map(|number| known.get(number).copied().ok_or(sqlx::Error::RowNotFound)).collect()
}

/// Puts observations together that are the same as one: each conversation is at most once in a round, and the rounds keep the
/// order.
fn rounds(observed: Vec<Observation>) -> Vec<Vec<Observation>> {
    let mut rounds: Vec<Vec<Observation>> = Vec::new();
    // Where a conversation was seen last: round and place.
    let mut places: HashMap<(SourceId, i64), (usize, usize)> = HashMap::new();
    for observation in observed {
        let number = (observation.source, observation.display_id);
        let (round, observation) = match places.get(&number) {
            None => (0, observation),
            Some((round, place)) => match rounds[*round][*place].followed_by(observation) {
                Ok(()) => continue,
                Err(apart) => (*round + 1, *apart),
            },
        };
        if rounds.len() == round {
            rounds.push(Vec::new());
        }
        places.insert(number, (round, rounds[round].len()));
        rounds[round].push(observation);
    }
    rounds
}

/// The event that tells of a change in a conversation.
pub fn updated(id: ConversationId) -> Appended {
    Appended {
        event: EventType::ConversationUpdated,
        permission: Permission::ConversationRead,
        resource: id.0,
        told: serde_json::Map::new(),
    }
}

fn with_link(mut conversation: Conversation, tools: &Tools) -> Conversation {
    if let (Some(chatwoot), Ok(account), "chatwoot") =
        (&tools.chatwoot, conversation.account.parse(), conversation.service.as_str())
    {
        conversation.link = ChatwootClient::conversation_url(&chatwoot.url, account, conversation.display_id)
            .ok()
            .map(String::from);
    }
    conversation
}

/// The conversation with this id, if the transaction's principal may read it.
///
/// # Errors
/// [`EscalateError::NotFound`], [`EscalateError::Database`].
pub async fn find(
    tx: &mut TenantTx,
    tools: &Tools,
    id: ConversationId,
) -> Result<Conversation, EscalateError> {
    let Actor::Principal(principal) = tx.actor().clone() else { return Err(EscalateError::NotFound) };
    let readable = principal.tenants_with(Permission::ConversationRead);
    let found = store::find(tx, &readable, id).await?.ok_or(EscalateError::NotFound)?;
    Ok(with_link(found, tools))
}

fn position(conversation: &Conversation) -> String {
    TimedPosition { time: conversation.remote_updated_at, id: conversation.id.0 }.cursor()
}

/// One page of the conversations of `tenants`, those that were told of last first.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page(
    tx: &mut TenantTx,
    tools: &Tools,
    tenants: &[TenantId],
    before: Option<TimedPosition>,
    limit: u32,
) -> Result<Page<Conversation>, sqlx::Error> {
    let conversations = store::list(tx, tenants, before, limit).await?;
    let conversations =
        conversations.into_iter().map(|conversation| with_link(conversation, tools)).collect();
    Ok(Page::with_cursor(conversations, limit, position))
}

/// One page of one tenant's conversations, those that were told of last first; only those that stand so, where a status is
/// given.
///
/// # Errors
/// Where the database can't be asked.
pub async fn page_of(
    tx: &mut TenantTx,
    tools: &Tools,
    tenant: TenantId,
    status: Option<&str>,
    before: Option<TimedPosition>,
    limit: u32,
) -> Result<Page<Conversation>, sqlx::Error> {
    let conversations = store::list_of(tx, tenant, status, before, limit).await?;
    let conversations =
        conversations.into_iter().map(|conversation| with_link(conversation, tools)).collect();
    Ok(Page::with_cursor(conversations, limit, position))
}

/// Escalates a conversation to whoever decides, for the transaction's principal.
///
/// # Errors
/// [`EscalateError`].
pub async fn escalate(
    tx: &mut TenantTx,
    state: &AppState,
    id: ConversationId,
    escalation: Escalation,
) -> Result<Approval, EscalateError> {
    let conversation = find(tx, &state.tools, id).await?;
    let title = escalation.title.unwrap_or_else(|| default_title(&state.ui, &conversation));
    let new = NewApproval {
        title,
        description: escalation.reason,
        priority: escalation.priority,
        metadata: serde_json::Value::Object(serde_json::Map::new()),
        source: Some(Source {
            service: conversation.service.clone(),
            account: Some(conversation.account.clone()),
            conversation: Some(conversation.display_id.to_string()),
            message: escalation.message,
            link: conversation.link.clone(),
        }),
        conversation_id: Some(conversation.id),
        consultation_requested: escalation.consultation_requested,
        expires_at: None,
    };
    Ok(approvals::request(tx, conversation.tenant_id, new).await?)
}

fn default_title(ui: &Ui, conversation: &Conversation) -> String {
    let contact = conversation.contact_name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let number = conversation.display_id.to_string();
    let title = match contact {
        Some(contact) => ui.t_with_all("escalation-title", &[("number", &number), ("contact", contact)]),
        None => ui.t_with("escalation-title-unknown", "number", &number),
    };
    title.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::conversations::ObservedMessage;

    /// What the mirror keeps of a conversation and what comes in, reduced to what depends on the order.
    type Known = (Option<String>, Option<Vec<String>>, i64, Option<(i64, String)>, Option<String>);

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    /// As the statement of the store does it to a row.
    fn apply(known: Known, told: &Observation) -> Known {
        let (mut status, mut labels, updated, mut message, name) = known;
        let at = told.updated_at.timestamp();
        if at >= updated {
            status = told.status.clone().or(status);
            labels = told.labels.clone().or(labels);
        }
        if let Some(new) = &told.message {
            let newest = message.as_ref().is_none_or(|(at, _)| new.at.timestamp() >= *at);
            if newest {
                message = Some((new.at.timestamp(), new.content.clone()));
            }
        }
        (status, labels, at.max(updated), message, told.contact_name.clone().or(name))
    }

    fn observations() -> impl Strategy<Value = Vec<Observation>> {
        let one = (
            0_i64..3,
            0_i64..4,
            proptest::option::of("[a-c]"),
            proptest::option::of("[x-z]"),
            proptest::option::of((0_i64..4, "[m-p]")),
            proptest::option::of("[A-C]"),
        );
        proptest::collection::vec(one, 0..12).prop_map(|all| {
            all.into_iter()
                .map(|(display_id, at, status, label, message, contact_name)| Observation {
                    source: SourceId(Uuid::nil()),
                    service: "chatwoot",
                    account: "1".to_owned(),
                    display_id,
                    inbox_id: None,
                    inbox_name: None,
                    contact_name,
                    status,
                    labels: label.map(|label| vec![label]),
                    message: message.map(|(at, content)| ObservedMessage { content, by: None, at: time(at) }),
                    updated_at: time(at),
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn observations_put_together_are_the_same_as_one_after_the_other(observed in observations(), since in 0_i64..4) {
            let begin: Known = (Some("s".to_owned()), Some(vec!["l".to_owned()]), since, Some((since, "old".to_owned())), None);
            let mut singly: HashMap<i64, Known> = (0..3).map(|number| (number, begin.clone())).collect();
            let mut together = singly.clone();
            for one in &observed {
                let known = singly.remove(&one.display_id).unwrap();
                singly.insert(one.display_id, apply(known, one));
            }
            for round in rounds(observed) {
                let mut seen = std::collections::HashSet::new();
                for one in round {
                    prop_assert!(seen.insert(one.display_id), "a conversation is once in a round");
                    let known = together.remove(&one.display_id).unwrap();
                    together.insert(one.display_id, apply(known, &one));
                }
            }
            prop_assert_eq!(together, singly);
        }
    }
}
