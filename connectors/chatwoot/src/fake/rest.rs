//! The account API, `/api/v1/accounts/{account_id}`, as far as Chancery uses it.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State as Extract},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::{DateTime, TimeDelta};
use connector_core::fake::FakeStateError;
use serde_json::{Map, Value, json};

use super::{
    ACCOUNT_ID, ADMINISTRATOR_ID, API_INBOX_ID, FailureKind, FakeChatwoot, VERSION, WIDGET_INBOX_ID, payload,
    state::{Conversation, Direction, NewMessage, Person, State},
};

pub(super) type Fake = Extract<Arc<FakeChatwoot>>;
pub(super) type Answer = Result<Response, ApiError>;
type Parameters = Query<Vec<(String, String)>>;

const PAGE: usize = 25;

pub(super) fn router() -> Router<Arc<FakeChatwoot>> {
    let account = "/api/v1/accounts/{account}";
    let conversation = "/api/v1/accounts/{account}/conversations/{conversation}";
    Router::new()
        .route("/api", get(version))
        .route(&format!("{account}/conversations"), get(list_conversations))
        .route(conversation, get(show_conversation))
        .route(&format!("{conversation}/messages"), get(list_messages).post(create_message))
        .route(&format!("{conversation}/messages/{{message}}"), axum::routing::delete(delete_message))
        .route(&format!("{conversation}/custom_attributes"), post(set_custom_attributes))
        .route(&format!("{conversation}/labels"), get(list_labels).post(set_labels))
        .route(&format!("{conversation}/toggle_status"), post(toggle_status))
        .route(&format!("{conversation}/toggle_priority"), post(toggle_priority))
        .route(&format!("{conversation}/assignments"), post(assign))
        .route(&format!("{account}/inbox_members/{{inbox}}"), get(list_inbox_members))
        .route(&format!("{account}/agents"), get(list_agents))
        .route(&format!("{account}/teams"), get(list_teams))
        .route(&format!("{account}/inboxes"), get(list_inboxes))
}

/// What goes wrong, as Chatwoot says it.
#[derive(Debug)]
pub(super) enum ApiError {
    /// 401, which is also what a bot gets for what it may not do.
    Unauthorized(&'static str),
    /// 401 without any token.
    SignIn,
    /// 404.
    NotFound,
    /// 422 for a record with wrong attributes.
    Invalid(String, Vec<&'static str>),
    /// 422 for anything else that can't be done.
    Unprocessable(String),
    /// 400: not JSON.
    BadRequest,
    /// 429.
    Throttled,
    /// 500.
    Internal,
    /// No answer at all.
    BrokenConnection,
}

impl From<FakeStateError> for ApiError {
    fn from(error: FakeStateError) -> Self {
        tracing::error!(%error, "the double of Chatwoot can't keep its state");
        Self::Internal
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized(error) => {
                (StatusCode::UNAUTHORIZED, Json(json!({"error": error}))).into_response()
            }
            Self::SignIn => (
                StatusCode::UNAUTHORIZED,
                Json(json!({"errors": ["You need to sign in or sign up before continuing."]})),
            )
                .into_response(),
            Self::NotFound => {
                (StatusCode::NOT_FOUND, Json(json!({"error": "Resource could not be found"}))).into_response()
            }
            Self::Invalid(message, attributes) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                Json(json!({"message": message, "attributes": attributes})),
            )
                .into_response(),
            Self::Unprocessable(error) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": error}))).into_response()
            }
            Self::BadRequest => {
                (StatusCode::BAD_REQUEST, Json(json!({"status": 400, "error": "Bad Request"})))
                    .into_response()
            }
            Self::Throttled => {
                (StatusCode::TOO_MANY_REQUESTS, [(header::CONTENT_TYPE, "text/plain")], "Retry later\n")
                    .into_response()
            }
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                Json(json!({"status": 500, "error": "Internal Server Error"})),
            )
                .into_response(),
            // A body that fails makes the server cut the connection.
            Self::BrokenConnection => {
                let broken = futures::stream::once(async {
                    Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::ConnectionAborted))
                });
                Body::from_stream(broken).into_response()
            }
        }
    }
}

/// Who may call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Allow {
    /// Bots too.
    Bots,
    Users,
    Administrators,
}

impl FakeChatwoot {
    pub(super) fn authorise(
        &self,
        headers: &HeaderMap,
        account: &str,
        allow: Allow,
    ) -> Result<Person, ApiError> {
        // Rack makes one of the hyphenated and the underscored form.
        let token = headers.get("api-access-token").or_else(|| headers.get("api_access_token"));
        let token = token.and_then(|token| token.to_str().ok()).ok_or(ApiError::SignIn)?;
        let person = self
            .read(|state| {
                if token == state.admin_token {
                    Some(Person::User(ADMINISTRATOR_ID))
                } else if token == state.bot_token {
                    Some(Person::Bot)
                } else {
                    state.agent_by_token(token).map(Person::User)
                }
            })
            .ok_or(ApiError::Unauthorized("Invalid Access Token"))?;
        if person == Person::Bot && allow != Allow::Bots {
            return Err(ApiError::Unauthorized("Access to this endpoint is not authorized for bots"));
        }
        if account.parse() != Ok(ACCOUNT_ID) {
            return Err(ApiError::NotFound);
        }
        let runs_it = match person {
            Person::User(ADMINISTRATOR_ID) => true,
            Person::User(agent) => self.read(|state| state.role_of(agent) == "administrator"),
            Person::Bot | Person::Contact(_) => false,
        };
        if allow == Allow::Administrators && !runs_it {
            return Err(ApiError::Unauthorized("You are not authorized to do this action"));
        }
        Ok(person)
    }
}

fn conversation<'a>(state: &'a State, id: &str) -> Result<&'a Conversation, ApiError> {
    id.parse().ok().and_then(|id: i64| state.conversations.get(&id)).ok_or(ApiError::NotFound)
}

fn conversation_id(fake: &FakeChatwoot, id: &str) -> Result<i64, ApiError> {
    fake.read(|state| conversation(state, id).map(|conversation| conversation.id))
}

/// The body as an object; an empty one is an empty object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body).map_err(|_| ApiError::BadRequest)
}

pub(super) fn string(body: &Map<String, Value>, key: &str) -> Option<String> {
    body.get(key).and_then(Value::as_str).map(str::to_owned)
}

pub(super) fn nested(body: &Map<String, Value>, key: &str) -> Map<String, Value> {
    body.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
}

pub(super) fn strings(value: Option<&Value>) -> Vec<String> {
    let strings = value.and_then(Value::as_array).into_iter().flatten();
    strings.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn parameter<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters
        .iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

#[expect(clippy::unnecessary_wraps, reason = "every handler ends with it")]
pub(super) fn ok(value: impl serde::Serialize) -> Answer {
    Ok(Json(value).into_response())
}

async fn version(Extract(fake): Fake) -> Response {
    let timestamp = fake.clock.now().format("%Y-%m-%d %H:%M:%S").to_string();
    Json(json!({"version": VERSION, "timestamp": timestamp, "queue_services": "ok", "data_services": "ok"}))
        .into_response()
}

async fn list_conversations(
    Extract(fake): Fake,
    Path(account): Path<String>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Answer {
    let caller = fake.authorise(&headers, &account, Allow::Users)?;
    let now = fake.clock.now();
    let status = parameter(&parameters, "status").unwrap_or("open");
    let inbox = parameter(&parameters, "inbox_id").and_then(|id| id.parse::<i64>().ok());
    let text = parameter(&parameters, "q").map(str::to_lowercase);
    let labels: Vec<&str> =
        parameters.iter().filter(|(key, _)| key == "labels[]").map(|(_, label)| label.as_str()).collect();
    let since = parameter(&parameters, "updated_within")
        .and_then(|seconds| seconds.parse::<i32>().ok())
        .map(|seconds| now - TimeDelta::seconds(i64::from(seconds)));
    fake.read(|state| {
        let matching: Vec<&Conversation> = state
            .conversations
            .values()
            .filter(|conversation| status == "all" || conversation.status == status)
            .filter(|conversation| inbox.is_none_or(|inbox| conversation.inbox_id == inbox))
            .filter(|conversation| since.is_none_or(|since| conversation.updated_at > since))
            .filter(|conversation| {
                labels.is_empty()
                    || labels.iter().any(|label| conversation.labels.iter().any(|own| own == label))
            })
            .filter(|conversation| {
                text.as_ref().is_none_or(|text| {
                    conversation.messages.iter().any(|message| {
                        message.content.as_ref().is_some_and(|content| content.to_lowercase().contains(text))
                    })
                })
            })
            .collect();
        let mine = |conversation: &&Conversation| conversation.assignee == Some(caller);
        let assigned = |conversation: &&Conversation| conversation.assignee.is_some();
        let count =
            |check: &dyn Fn(&&Conversation) -> bool| matching.iter().copied().filter(|c| check(c)).count();
        let meta = json!({
            "mine_count": count(&mine),
            "assigned_count": count(&assigned),
            "unassigned_count": count(&|conversation| !assigned(conversation)),
            "all_count": matching.len(),
        });
        let mut page: Vec<&Conversation> = matching
            .iter()
            .copied()
            .filter(|conversation| match parameter(&parameters, "assignee_type") {
                Some("me") => mine(conversation),
                Some("unassigned") => !assigned(conversation),
                Some("assigned") => assigned(conversation),
                _ => true,
            })
            .collect();
        match parameter(&parameters, "sort_by") {
            Some("last_activity_at_asc") => page.sort_by_key(|conversation| conversation.last_activity_at),
            Some("created_at_asc") => page.sort_by_key(|conversation| conversation.created_at),
            Some("created_at_desc") => {
                page.sort_by_key(|conversation| std::cmp::Reverse(conversation.created_at));
            }
            _ => page.sort_by_key(|conversation| std::cmp::Reverse(conversation.last_activity_at)),
        }
        // A window in time is answered whole.
        if since.is_none() {
            let number =
                parameter(&parameters, "page").and_then(|page| page.parse::<usize>().ok()).unwrap_or(1);
            page = page.into_iter().skip(number.saturating_sub(1).saturating_mul(PAGE)).take(PAGE).collect();
        }
        let payload: Vec<Value> =
            page.into_iter().map(|conversation| payload::conversation_rest(state, conversation)).collect();
        ok(json!({"data": {"meta": meta, "payload": payload}}))
    })
}

async fn show_conversation(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Bots)?;
    fake.read(|state| ok(payload::conversation_rest(state, conversation(state, &id)?)))
}

async fn list_messages(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Users)?;
    let number = |name| parameter(&parameters, name).and_then(|value| value.parse::<i64>().ok());
    let (after, before) = (number("after"), number("before"));
    let public_only = parameter(&parameters, "filter_internal_messages").is_some();
    fake.read(|state| {
        let conversation = conversation(state, &id)?;
        let matching: Vec<_> = conversation
            .messages
            .iter()
            .filter(|message| after.is_none_or(|after| message.id > after))
            .filter(|message| before.is_none_or(|before| message.id < before))
            .filter(|message| !public_only || (!message.private && message.direction != Direction::Activity))
            .collect();
        let shown = match (after, before) {
            (Some(_), Some(_)) => &matching[..matching.len().min(1000)],
            (Some(_), None) => &matching[..matching.len().min(100)],
            (None, _) => &matching[matching.len().saturating_sub(20)..],
        };
        let messages: Vec<Value> =
            shown.iter().map(|message| payload::message_rest(state, conversation, message)).collect();
        ok(json!({"meta": payload::messages_meta(state, conversation), "payload": messages}))
    })
}

async fn create_message(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = fake.authorise(&headers, &account, Allow::Bots)?;
    let failure = fake.next_failure();
    match failure {
        Some(FailureKind::Throttled) => return Err(ApiError::Throttled),
        Some(FailureKind::ServerError) => return Err(ApiError::Internal),
        Some(FailureKind::BeforeStore) => return Err(ApiError::BrokenConnection),
        Some(FailureKind::AfterStoreBeforeAnswer | FailureKind::StoredAsPublic) | None => {}
    }
    let body = object(&body)?;
    let conversation_id = conversation_id(&fake, &id)?;
    let direction = match body.get("message_type").and_then(Value::as_str) {
        None | Some("outgoing") => Direction::Outgoing,
        Some("incoming") => Direction::Incoming,
        Some(other) => return Err(ApiError::Unprocessable(format!("'{other}' is not a valid message_type"))),
    };
    let private = body.get("private").is_some_and(|private| private == true || private == "true");
    let new = NewMessage {
        direction,
        content: string(&body, "content"),
        content_type: string(&body, "content_type").unwrap_or_else(|| "text".to_owned()),
        content_attributes: nested(&body, "content_attributes"),
        private: private && failure != Some(FailureKind::StoredAsPublic),
        source_id: string(&body, "source_id"),
        sender: Some(caller),
    };
    let answer = fake.change(|state, now| {
        let message_id = state.create_message(conversation_id, new, now).map_err(ApiError::Unprocessable)?;
        let conversation = state.conversations.get(&conversation_id).ok_or(ApiError::NotFound)?;
        let message = conversation.messages.iter().find(|message| message.id == message_id);
        let mut answer = payload::message_rest(state, conversation, message.ok_or(ApiError::NotFound)?);
        if let Some(echo_id) = body.get("echo_id") {
            answer["echo_id"] = echo_id.clone();
        }
        Ok::<_, ApiError>(answer)
    })??;
    if failure == Some(FailureKind::AfterStoreBeforeAnswer) {
        return Err(ApiError::BrokenConnection);
    }
    ok(answer)
}

async fn delete_message(
    Extract(fake): Fake,
    Path((account, id, message)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Users)?;
    let conversation_id = conversation_id(&fake, &id)?;
    let message_id: i64 = message.parse().map_err(|_| ApiError::NotFound)?;
    let answer = fake.change(|state, now| {
        if !state.delete_message(conversation_id, message_id, now) {
            return Err(ApiError::NotFound);
        }
        let conversation = state.conversations.get(&conversation_id).ok_or(ApiError::NotFound)?;
        let message = conversation.messages.iter().find(|message| message.id == message_id);
        Ok(payload::message_rest(state, conversation, message.ok_or(ApiError::NotFound)?))
    })??;
    ok(answer)
}

async fn set_custom_attributes(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Bots)?;
    let attributes = nested(&object(&body)?, "custom_attributes");
    let conversation_id = conversation_id(&fake, &id)?;
    for (key, value) in &attributes {
        if value.as_str().is_some_and(|text| text.chars().count() > 1500) {
            return Err(ApiError::Invalid(
                format!("Custom attributes {key} length should be < 1500"),
                vec!["custom_attributes"],
            ));
        }
    }
    // This replaces the whole object: 4.15.1 knows no merging.
    fake.change(|state, now| state.set_custom_attributes(conversation_id, attributes.clone(), now))?;
    ok(json!({"custom_attributes": attributes}))
}

async fn list_labels(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Bots)?;
    fake.read(|state| ok(json!({"payload": conversation(state, &id)?.labels})))
}

async fn set_labels(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = fake.authorise(&headers, &account, Allow::Bots)?;
    let labels = strings(object(&body)?.get("labels"));
    let conversation_id = conversation_id(&fake, &id)?;
    fake.change(|state, now| state.set_labels(conversation_id, labels, Some(caller), now))?;
    fake.read(|state| ok(json!({"payload": conversation(state, &id)?.labels})))
}

async fn toggle_status(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = fake.authorise(&headers, &account, Allow::Bots)?;
    let body = object(&body)?;
    let conversation_id = conversation_id(&fake, &id)?;
    let status = match string(&body, "status") {
        Some(status) if ["open", "resolved", "pending", "snoozed"].contains(&status.as_str()) => status,
        Some(status) => return Err(ApiError::Unprocessable(format!("'{status}' is not a valid status"))),
        None => {
            let is_open = fake.read(|state| conversation(state, &id).map(|c| c.status == "open"))?;
            if is_open { "resolved" } else { "open" }.to_owned()
        }
    };
    let snoozed_until = body
        .get("snoozed_until")
        .and_then(Value::as_i64)
        .filter(|_| status == "snoozed")
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    fake.change(|state, now| state.set_status(conversation_id, &status, snoozed_until, Some(caller), now))?;
    fake.read(|state| {
        let conversation = conversation(state, &id)?;
        ok(json!({"meta": {}, "payload": {
            "success": true,
            "conversation_id": conversation.id,
            "current_status": conversation.status,
            "snoozed_until": conversation.snoozed_until.map(|time| time.timestamp()),
        }}))
    })
}

async fn toggle_priority(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Bots)?;
    let priority = string(&object(&body)?, "priority").filter(|priority| !priority.is_empty());
    if priority
        .as_ref()
        .is_some_and(|priority| !["low", "medium", "high", "urgent"].contains(&priority.as_str()))
    {
        return Err(ApiError::Unprocessable("'priority' is not a valid priority".to_owned()));
    }
    let conversation_id = conversation_id(&fake, &id)?;
    fake.change(|state, now| state.set_priority(conversation_id, priority.as_deref(), now))?;
    Ok(StatusCode::OK.into_response())
}

async fn assign(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let caller = fake.authorise(&headers, &account, Allow::Bots)?;
    let body = object(&body)?;
    let conversation_id = conversation_id(&fake, &id)?;
    // There are no teams here, and a team that isn't there is answered with null.
    if !body.contains_key("assignee_id") {
        return ok(Value::Null);
    }
    let assignee =
        match (body.get("assignee_id").and_then(Value::as_i64), string(&body, "assignee_type").as_deref()) {
            (None | Some(0), _) => None,
            (Some(super::BOT_ID), Some("AgentBot")) => Some(Person::Bot),
            (Some(_), Some("AgentBot")) => return Err(ApiError::NotFound),
            (Some(id), _) if fake.read(|state| state.agents.iter().any(|agent| agent.id == id)) => {
                Some(Person::User(id))
            }
            // An agent of another account: unassigned, without an error.
            (Some(_), _) => None,
        };
    fake.change(|state, now| state.assign(conversation_id, assignee, Some(caller), now))?;
    fake.read(|state| {
        ok(match assignee {
            Some(Person::User(id)) => {
                state.agents.iter().find(|agent| agent.id == id).map(|agent| state.agent_rest(agent))
            }
            Some(_) => Some(json!({"id": super::BOT_ID, "name": super::BOT_NAME, "type": "agent_bot"})),
            None => None,
        })
    })
}

async fn list_agents(Extract(fake): Fake, Path(account): Path<String>, headers: HeaderMap) -> Answer {
    fake.authorise(&headers, &account, Allow::Users)?;
    fake.read(|state| {
        let agents = state.agents.iter().map(|agent| state.agent_rest(agent));
        let administrator = payload::agent_rest(
            ADMINISTRATOR_ID,
            &state.person_name(Person::User(ADMINISTRATOR_ID)),
            super::ADMINISTRATOR_EMAIL,
            "administrator",
        );
        ok(agents.chain([administrator]).collect::<Vec<Value>>())
    })
}

async fn list_inbox_members(
    Extract(fake): Fake,
    Path((account, inbox)): Path<(String, i64)>,
    headers: HeaderMap,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Users)?;
    if ![WIDGET_INBOX_ID, API_INBOX_ID].contains(&inbox) {
        return Err(ApiError::NotFound);
    }
    fake.read(|state| {
        let members: Vec<Value> = state
            .agents
            .iter()
            .filter(|agent| state.inbox_members.get(&inbox).is_none_or(|members| members.contains(&agent.id)))
            .map(|agent| state.agent_rest(agent))
            .collect();
        ok(json!({ "payload": members }))
    })
}

async fn list_teams(Extract(fake): Fake, Path(account): Path<String>, headers: HeaderMap) -> Answer {
    fake.authorise(&headers, &account, Allow::Users)?;
    ok(Vec::<Value>::new())
}

async fn list_inboxes(Extract(fake): Fake, Path(account): Path<String>, headers: HeaderMap) -> Answer {
    let caller = fake.authorise(&headers, &account, Allow::Users)?;
    let identifier = fake.inbox_identifier();
    let inbox = |id: i64, channel: &str| {
        let mut inbox = json!({
            "id": id,
            "name": payload::inbox_name(id),
            "channel_type": channel,
            "channel_id": id,
            "avatar_url": "",
            "greeting_enabled": false,
            "greeting_message": null,
            "working_hours_enabled": false,
            "enable_auto_assignment": false,
            "enable_email_collect": false,
            "csat_survey_enabled": false,
            "allow_messages_after_resolved": true,
            "lock_to_single_conversation": false,
            "timezone": "UTC",
        });
        if id == API_INBOX_ID && caller == Person::User(ADMINISTRATOR_ID) {
            inbox["inbox_identifier"] = json!(identifier);
        }
        inbox
    };
    ok(
        json!({"payload": [inbox(WIDGET_INBOX_ID, "Channel::WebWidget"), inbox(API_INBOX_ID, "Channel::Api")]}),
    )
}
