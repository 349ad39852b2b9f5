//! The page: the customer's widget beside the agent's conversation. It works without JavaScript; with it, both sides
//! follow what happens.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form, Router,
    extract::{Path, Query, State as Extract},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;

use super::{
    ACCOUNT_ID, ACCOUNT_NAME, FakeChatwoot, VERSION, WIDGET_INBOX_ID, markdown, payload,
    rest::ApiError,
    state::{Conversation, Direction, Message, NewContact, NewMessage, Person, State, iso},
};

type Fake = Extract<Arc<FakeChatwoot>>;

const STATUSES: [&str; 4] = ["open", "pending", "snoozed", "resolved"];
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'self'";

pub(super) fn router() -> Router<Arc<FakeChatwoot>> {
    Router::new()
        .route("/", get(page))
        .route("/app/accounts/{account}/conversations/{conversation}", get(deep_link))
        .route("/version", get(version))
        .route(
            "/assets/double.css",
            get(async || asset("text/css; charset=utf-8", include_str!("../../assets/double.css"))),
        )
        .route(
            "/assets/double.js",
            get(async || asset("text/javascript; charset=utf-8", include_str!("../../assets/double.js"))),
        )
        .route(
            "/assets/icon.svg",
            get(async || asset("image/svg+xml", include_str!("../../assets/icon.svg"))),
        )
        .route("/widget/messages", post(customer_writes))
        .route("/agent/messages", post(agent_writes))
        .route("/agent/labels", post(agent_labels))
        .route("/agent/status", post(agent_sets_status))
        .layer(axum::middleware::map_response(secure))
}

fn asset(content_type: &'static str, content: &'static str) -> Response {
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")], content).into_response()
}

async fn secure(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        // As Rails does by default.
        (header::X_FRAME_OPTIONS, "SAMEORIGIN"),
    ] {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[derive(Debug, Default, Deserialize)]
struct Choice {
    conversation: Option<i64>,
    agent: Option<i64>,
    #[serde(default)]
    new: bool,
    problem: Option<String>,
}

#[derive(Template)]
#[template(path = "double.html")]
struct Page {
    account_name: &'static str,
    chatwoot_version: &'static str,
    version: u64,
    problem: Option<&'static str>,
    agent_id: i64,
    agent_name: String,
    agents: Vec<(i64, String)>,
    conversations: Vec<Item>,
    thread: Option<Thread>,
    /// The dashboard apps, each with the addresses of its frames.
    apps: Vec<(i64, String, Vec<String>)>,
    account_id: i64,
    statuses: [&'static str; 4],
}

struct Item {
    id: i64,
    name: String,
    preview: String,
    status: String,
    inbox: &'static str,
    labels: Vec<String>,
    is_current: bool,
}

struct Thread {
    id: i64,
    name: String,
    email: Option<String>,
    status: String,
    priority: Option<String>,
    inbox: &'static str,
    inbox_id: i64,
    labels: Vec<String>,
    attributes: Vec<(String, String)>,
    entries: Vec<Entry>,
}

struct Entry {
    id: i64,
    /// `customer`, `agent`, `bot` or `activity`.
    by: &'static str,
    author: String,
    private: bool,
    datetime: String,
    clock: String,
    html: String,
}

impl Entry {
    fn new(state: &State, message: &Message) -> Self {
        let by = match (message.direction, message.sender) {
            (Direction::Activity, _) | (_, None) => "activity",
            (_, Some(Person::Contact(_))) => "customer",
            (_, Some(Person::Bot)) => "bot",
            (_, Some(Person::User(_))) => "agent",
        };
        Self {
            id: message.id,
            by,
            author: message.sender.map_or_else(String::new, |sender| state.person_name(sender)),
            private: message.private,
            datetime: iso(message.created_at),
            clock: message.created_at.format("%H:%M").to_string(),
            html: markdown::to_html(message.content.as_deref().unwrap_or("(no text)")),
        }
    }
}

impl Thread {
    fn new(state: &State, conversation: &Conversation) -> Self {
        let contact = state.contacts.get(&conversation.contact_id);
        Self {
            id: conversation.id,
            name: contact.map_or_else(String::new, |contact| contact.name.clone()),
            email: contact.and_then(|contact| contact.email.clone()),
            status: conversation.status.clone(),
            priority: conversation.priority.clone(),
            inbox_id: conversation.inbox_id,
            inbox: payload::inbox_name(conversation.inbox_id),
            labels: conversation.labels.clone(),
            attributes: conversation
                .custom_attributes
                .iter()
                .map(|(key, value)| {
                    (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                })
                .collect(),
            entries: conversation.messages.iter().map(|message| Entry::new(state, message)).collect(),
        }
    }

    /// What the customer sees.
    fn public(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.private && entry.by != "activity")
    }
}

async fn page(Extract(fake): Fake, Query(choice): Query<Choice>) -> Response {
    let page = fake.read(|state| {
        let mut conversations: Vec<&Conversation> = state.conversations.values().collect();
        conversations
            .sort_by_key(|conversation| std::cmp::Reverse((conversation.last_activity_at, conversation.id)));
        let current = match choice.conversation {
            Some(id) => state.conversations.get(&id),
            None if choice.new => None,
            None => conversations.first().copied(),
        };
        let agent =
            state.agents.iter().find(|agent| Some(agent.id) == choice.agent).or_else(|| state.agents.first());
        Page {
            account_name: ACCOUNT_NAME,
            chatwoot_version: VERSION,
            version: state.version,
            problem: choice.problem.as_deref().map(|problem| match problem {
                "empty" => "Write something first.",
                "gone" => "This conversation is not there any more.",
                _ => "That could not be stored. Wait a minute, or write less.",
            }),
            agent_id: agent.map_or(0, |agent| agent.id),
            agent_name: agent.map_or_else(String::new, |agent| agent.name.clone()),
            agents: state.agents.iter().map(|agent| (agent.id, agent.name.clone())).collect(),
            conversations: conversations
                .iter()
                .take(50)
                .map(|conversation| Item {
                    id: conversation.id,
                    name: state.person_name(Person::Contact(conversation.contact_id)),
                    preview: preview(conversation),
                    status: conversation.status.clone(),
                    inbox: payload::inbox_name(conversation.inbox_id),
                    labels: conversation.labels.clone(),
                    is_current: current.is_some_and(|current| current.id == conversation.id),
                })
                .collect(),
            thread: current.map(|conversation| Thread::new(state, conversation)),
            apps: state.dashboard_apps.iter().map(|app| (app.id, app.title.clone(), app.urls())).collect(),
            account_id: ACCOUNT_ID,
            statuses: STATUSES,
        }
    });
    // What a dashboard app shows is somebody else's.
    let frames = page.apps.iter().flat_map(|(_, _, urls)| urls);
    let origins: Vec<String> =
        frames.filter_map(|url| Some(url::Url::parse(url).ok()?.origin().ascii_serialization())).collect();
    let policy = format!(
        "{POLICY}; frame-src {}",
        if origins.is_empty() { "'none'".to_owned() } else { origins.join(" ") }
    );
    match page.render() {
        Ok(html) => (
            [(header::CACHE_CONTROL, "no-store"), (header::CONTENT_SECURITY_POLICY, policy.as_str())],
            Html(html),
        )
            .into_response(),
        Err(error) => {
            tracing::error!(%error, "the double's page can't be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The beginning of the last message that isn't an activity.
fn preview(conversation: &Conversation) -> String {
    let last = conversation.messages.iter().rev().find(|message| message.direction != Direction::Activity);
    let content = last.and_then(|message| message.content.as_deref()).unwrap_or_default().replace("**", "");
    let mut preview: String =
        content.chars().take(80).map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    if content.chars().count() > 80 {
        preview.push('…');
    }
    preview
}

/// The address of a conversation in Chatwoot's own frontend.
async fn deep_link(Path((account, conversation)): Path<(i64, i64)>) -> Response {
    if account != ACCOUNT_ID {
        return ApiError::NotFound.into_response();
    }
    Redirect::to(&format!("/?conversation={conversation}")).into_response()
}

/// A number that grows with each change.
async fn version(Extract(fake): Fake) -> Response {
    let version = fake.read(|state| state.version).to_string();
    ([(header::CACHE_CONTROL, "no-store"), (header::CONTENT_TYPE, "text/plain")], version).into_response()
}

/// Whether a form was sent from this page. Nobody signs in here, so another site's page must not be able to write.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let value = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if let Some(site) = value(HeaderName::from_static("sec-fetch-site")) {
        return ["same-origin", "none"].contains(&site);
    }
    match (value(header::ORIGIN), value(header::HOST)) {
        (Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, authority)| authority == host)
        }
        (origin, _) => origin.is_none(),
    }
}

fn back(conversation: Option<i64>, agent: Option<i64>, problem: Option<&str>) -> Response {
    let mut query = form_query(&[("conversation", conversation), ("agent", agent)]);
    if let Some(problem) = problem {
        query.push(format!("problem={problem}"));
    }
    Redirect::to(&format!("/?{}", query.join("&"))).into_response()
}

fn form_query(pairs: &[(&str, Option<i64>)]) -> Vec<String> {
    pairs.iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}"))).collect()
}

fn foreign() -> Response {
    (StatusCode::FORBIDDEN, "This form was sent from another site.").into_response()
}

#[derive(Debug, Deserialize)]
struct CustomerMessage {
    conversation: Option<i64>,
    agent: Option<i64>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    content: String,
}

async fn customer_writes(
    Extract(fake): Fake,
    headers: HeaderMap,
    Form(form): Form<CustomerMessage>,
) -> Result<Response, ApiError> {
    if !is_same_origin(&headers) {
        return Ok(foreign());
    }
    let content = form.content.replace("\r\n", "\n").trim().to_owned();
    if content.is_empty() {
        return Ok(back(form.conversation, form.agent, Some("empty")));
    }
    if let Some(id) = form.conversation {
        let written = fake.change(|state, now| {
            let contact = state.conversations.get(&id).map(|conversation| conversation.contact_id)?;
            let message = NewMessage::text(Direction::Incoming, Some(Person::Contact(contact)), content);
            Some(state.create_message(id, message, now))
        })?;
        return Ok(match written {
            None => back(None, form.agent, Some("gone")),
            Some(Err(_)) => back(Some(id), form.agent, Some("refused")),
            Some(Ok(_)) => back(Some(id), form.agent, None),
        });
    }
    let name = form.name.trim();
    let new = NewContact {
        name: if name.is_empty() { "Visitor".to_owned() } else { name.chars().take(100).collect() },
        email: Some(form.email.trim().to_lowercase()).filter(|email| !email.is_empty()),
        source_id: fake.uuid(),
        pubsub_token: fake.token(),
        ..NewContact::default()
    };
    let uuid = fake.uuid();
    let conversation = fake.change(|state, now| {
        let contact = state.create_contact(WIDGET_INBOX_ID, new, now);
        let message = NewMessage::text(Direction::Incoming, Some(Person::Contact(contact)), content);
        state.create_conversation(contact, uuid, serde_json::Map::new(), Some(message), now)
    })?;
    Ok(back(conversation, form.agent, None))
}

#[derive(Debug, Deserialize)]
struct AgentMessage {
    conversation: i64,
    agent: i64,
    #[serde(default)]
    content: String,
    private: Option<String>,
}

/// The agent, where there is such a one.
fn agent(fake: &FakeChatwoot, id: i64) -> Option<Person> {
    fake.read(|state| state.agents.iter().any(|agent| agent.id == id)).then_some(Person::User(id))
}

async fn agent_writes(
    Extract(fake): Fake,
    headers: HeaderMap,
    Form(form): Form<AgentMessage>,
) -> Result<Response, ApiError> {
    if !is_same_origin(&headers) {
        return Ok(foreign());
    }
    let Some(sender) = agent(&fake, form.agent) else { return Err(ApiError::NotFound) };
    let content = form.content.replace("\r\n", "\n").trim().to_owned();
    if content.is_empty() {
        return Ok(back(Some(form.conversation), Some(form.agent), Some("empty")));
    }
    let mut message = NewMessage::text(Direction::Outgoing, Some(sender), content);
    message.private = form.private.is_some();
    let written = fake.change(|state, now| state.create_message(form.conversation, message, now))?;
    Ok(back(Some(form.conversation), Some(form.agent), written.err().map(|_| "refused")))
}

#[derive(Debug, Deserialize)]
struct NewLabels {
    conversation: i64,
    agent: i64,
    #[serde(default)]
    labels: String,
}

async fn agent_labels(
    Extract(fake): Fake,
    headers: HeaderMap,
    Form(form): Form<NewLabels>,
) -> Result<Response, ApiError> {
    if !is_same_origin(&headers) {
        return Ok(foreign());
    }
    let actor = agent(&fake, form.agent);
    let labels = form
        .labels
        .split(|character: char| character == ',' || character.is_whitespace())
        .map(str::to_lowercase)
        .filter(|label| !label.is_empty())
        .collect();
    fake.change(|state, now| state.set_labels(form.conversation, labels, actor, now))?;
    Ok(back(Some(form.conversation), Some(form.agent), None))
}

#[derive(Debug, Deserialize)]
struct NewStatus {
    conversation: i64,
    agent: i64,
    status: String,
}

async fn agent_sets_status(
    Extract(fake): Fake,
    headers: HeaderMap,
    Form(form): Form<NewStatus>,
) -> Result<Response, ApiError> {
    if !is_same_origin(&headers) {
        return Ok(foreign());
    }
    if !STATUSES.contains(&form.status.as_str()) {
        return Err(ApiError::Unprocessable("no such status".to_owned()));
    }
    let actor = agent(&fake, form.agent);
    fake.change(|state, now| state.set_status(form.conversation, &form.status, None, actor, now))?;
    Ok(back(Some(form.conversation), Some(form.agent), None))
}
