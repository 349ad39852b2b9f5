//! A double of Chatwoot 4.15.1: a real HTTP server on loopback that answers the account API and the customer's API as
//! Chatwoot does, sends its webhooks, signed, and has a page on which one can be customer and agent.
//!
//! It has one account with two inboxes: the widget of the page, and one for programs. It differs from an installation
//! in that it sends webhooks to private addresses (as with `SAFE_FETCH_ALLOW_PRIVATE_NETWORK=true`), sends them in
//! order, and asks nobody on its page to sign in. Never expose it beyond loopback.

mod delivery;
mod install;
mod markdown;
mod pages;
mod payload;
mod people;
mod platform;
mod public;
mod rest;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Router, middleware};
use chrono::{DateTime, Utc};
use connector_core::{
    SharedClock, SharedIds,
    fake::{FakeStateError, ReceivedRequests, StateFile, remember},
};
use secrecy::SecretString;
use tokio::sync::mpsc;
use url::Url;

use self::{
    delivery::Delivery,
    state::{NextIds, State},
};
use crate::ChatwootSettings;

/// The only account.
pub const ACCOUNT_ID: i64 = 1;
/// The account's name.
pub const ACCOUNT_NAME: &str = "Acme Corp";
/// The inbox of the page's widget (`Channel::WebWidget`).
pub const WIDGET_INBOX_ID: i64 = 1;
/// The widget inbox's name.
pub const WIDGET_INBOX_NAME: &str = "Website";
/// The inbox of the customer's API (`Channel::Api`; only such inboxes have one).
pub const API_INBOX_ID: i64 = 2;
/// The API inbox's name.
pub const API_INBOX_NAME: &str = "App";
/// The agent bot whose token is [`FakeChatwoot::bot_token`]. Bots and users number their ids apart.
pub const BOT_ID: i64 = 1;
/// The bot's name.
pub const BOT_NAME: &str = "Chancery";
/// The user whose token is [`FakeChatwoot::admin_token`].
pub const ADMINISTRATOR_ID: i64 = 1000;

const ADMINISTRATOR_EMAIL: &str = "administrator@chatwoot.invalid";
/// The version that the double answers as.
const VERSION: &str = "4.15.1";

/// What a double is made from.
#[derive(Debug)]
pub struct Options {
    /// Where the double is reached; links and [`FakeChatwoot::settings`] use it.
    pub public_url: Url,
    /// The file that keeps the state.
    pub state_path: PathBuf,
    /// The time.
    pub clock: SharedClock,
    /// Tokens, secrets and ids.
    pub ids: SharedIds,
    /// Who works in the account; at least one. Their tokens are kept in the state.
    pub agents: Vec<AgentAccount>,
}

/// Someone who works in the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAccount {
    /// Above 0, and not [`ADMINISTRATOR_ID`].
    pub id: i64,
    /// The full name.
    pub name: String,
    /// The mail address, which webhooks carry.
    pub email: String,
}

/// A double that can't start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state can't be kept.
    #[error(transparent)]
    State(#[from] FakeStateError),
    /// There is no agent to be on the page.
    #[error("the double of Chatwoot needs at least one agent")]
    NoAgent,
    /// An agent's id is taken, or not above 0.
    #[error("an agent of the double of Chatwoot can't have the id {0}")]
    AgentId(i64),
}

/// How the next message created over the account API fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// 429 in plain text, nothing stored.
    Throttled,
    /// 500, nothing stored.
    ServerError,
    /// Stored, and the connection breaks before the answer.
    AfterStoreBeforeAnswer,
    /// The connection breaks, nothing stored.
    BeforeStore,
    /// Stored, and answered, as a public message.
    StoredAsPublic,
}

/// The double. See the [module](self).
#[derive(Debug)]
pub struct FakeChatwoot {
    public_url: Url,
    clock: SharedClock,
    ids: SharedIds,
    state: StateFile<State>,
    /// Held while a change is written and its events are queued, so that events leave in the order of the changes.
    order: Mutex<()>,
    queue: mpsc::UnboundedSender<Delivery>,
    queued: Mutex<Option<mpsc::UnboundedReceiver<Delivery>>>,
    failures: Mutex<VecDeque<FailureKind>>,
    received: ReceivedRequests,
}

impl FakeChatwoot {
    /// Opens the double's state, or begins a new one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        if options.agents.is_empty() {
            return Err(OpenError::NoAgent);
        }
        let mut taken = BTreeSet::from([ADMINISTRATOR_ID]);
        for agent in &options.agents {
            if agent.id <= 0 || !taken.insert(agent.id) {
                return Err(OpenError::AgentId(agent.id));
            }
        }
        let ids = options.ids;
        let state = StateFile::open(&options.state_path, || State {
            admin_token: token(&ids),
            bot_token: token(&ids),
            agent_tokens: BTreeMap::new(),
            inbox_identifier: token(&ids),
            next_id: NextIds { contact: 1, conversation: 1, message: 1, webhook: 1 },
            contacts: BTreeMap::new(),
            conversations: BTreeMap::new(),
            webhooks: BTreeMap::new(),
            dashboard_apps: Vec::new(),
            platform_token: String::new(),
            login_tokens: BTreeMap::new(),
            version: 0,
            users: BTreeMap::new(),
            agents: Vec::new(),
            inbox_members: BTreeMap::new(),
            outbox: Vec::new(),
        })?;
        state.update(|state| {
            for agent in &options.agents {
                state.agent_tokens.entry(agent.id).or_insert_with(|| token(&ids));
            }
            if state.platform_token.is_empty() {
                state.platform_token = token(&ids);
            }
            people::renew(state, options.agents);
        })?;
        let (queue, queued) = mpsc::unbounded_channel();
        Ok(Arc::new(Self {
            public_url: options.public_url,
            clock: options.clock,
            ids,
            state,
            order: Mutex::new(()),
            queue,
            queued: Mutex::new(Some(queued)),
            failures: Mutex::new(VecDeque::new()),
            received: ReceivedRequests::default(),
        }))
    }

    /// Everything the double serves: the page, the account API, the customer's API.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .merge(
                rest::router()
                    .merge(install::router())
                    .layer(middleware::from_fn_with_state(self.received.clone(), remember)),
            )
            .merge(public::router())
            .merge(
                platform::router()
                    .merge(people::router())
                    .layer(middleware::from_fn_with_state(self.received.clone(), remember)),
            )
            .merge(pages::router())
            .with_state(Arc::clone(self))
    }

    /// Sends webhooks until `stop` completes: in order, each once, signed, each with 5 s to be answered. What is still
    /// queued then is lost. Call it once; a second call does nothing.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        let queued = self.queued.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(queued) = queued {
            delivery::deliver(queued, &self.clock, stop).await;
        }
    }

    /// Where the double is reached.
    pub fn public_url(&self) -> &Url {
        &self.public_url
    }

    /// How Chancery reaches this double: as administrator, and as bot to write notes.
    pub fn settings(&self) -> ChatwootSettings {
        ChatwootSettings::new(self.public_url.clone(), ACCOUNT_ID, self.admin_token())
            .with_bot(self.bot_token())
            .with_platform(self.platform_token())
            .with_clock(Arc::clone(&self.clock))
    }

    /// The administrator's access token.
    pub fn admin_token(&self) -> SecretString {
        self.state.read(|state| state.admin_token.clone()).into()
    }

    /// The bot's access token.
    pub fn bot_token(&self) -> SecretString {
        self.state.read(|state| state.bot_token.clone()).into()
    }

    /// Says which of the agents work in an inbox; all do unless told, and after the double was opened anew.
    ///
    /// # Errors
    /// Where the state can't be kept.
    pub fn set_inbox_members(&self, inbox: i64, agents: Vec<i64>) -> Result<(), FakeStateError> {
        self.change(|state, _| state.inbox_members.insert(inbox, agents)).map(drop)
    }

    /// A platform app's access token, which signs everybody in.
    pub fn platform_token(&self) -> SecretString {
        self.state.read(|state| state.platform_token.clone()).into()
    }

    /// An agent's access token.
    pub fn agent_token(&self, agent_id: i64) -> Option<SecretString> {
        self.state.read(|state| state.agent_tokens.get(&agent_id).cloned()).map(Into::into)
    }

    /// The API inbox's identifier, which stands in the paths of the customer's API:
    /// `/public/api/v1/inboxes/{identifier}/contacts`.
    pub fn inbox_identifier(&self) -> String {
        self.state.read(|state| state.inbox_identifier.clone())
    }

    /// What the account API was asked.
    pub fn received(&self) -> &ReceivedRequests {
        &self.received
    }

    /// Makes the next message created over the account API fail in this way. Several are used one by one.
    pub fn fail_next(&self, failure: FailureKind) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push_back(failure);
    }

    fn next_failure(&self) -> Option<FailureKind> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.state.read(look)
    }

    /// Changes the state, writes it, and queues the events of the change.
    fn change<R>(&self, change: impl FnOnce(&mut State, DateTime<Utc>) -> R) -> Result<R, FakeStateError> {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let (result, events, webhooks) = self.state.update(|state| {
            let result = change(state, now);
            state.version += 1;
            let events = state.webhook_events();
            let webhooks: Vec<_> =
                if events.is_empty() { Vec::new() } else { state.webhooks.values().cloned().collect() };
            (result, events, webhooks)
        })?;
        for event in events {
            let name = event["event"].as_str().unwrap_or_default();
            let mut body = None;
            for webhook in &webhooks {
                if !webhook.subscriptions.iter().any(|subscribed| subscribed == name) {
                    continue;
                }
                let body = body.get_or_insert_with(|| payload::to_rails_json(&event)).clone();
                let delivery = Delivery {
                    url: webhook.url.clone(),
                    secret: webhook.secret.clone().into(),
                    id: self.uuid(),
                    body,
                };
                // Fails only when nobody will ever send it, and then it is as lost as Chatwoot's own would be.
                if self.queue.send(delivery).is_err() {
                    tracing::warn!("a webhook of the double is dropped: sending has stopped");
                }
            }
        }
        Ok(result)
    }

    fn token(&self) -> String {
        token(&self.ids)
    }

    /// A random UUID (version 4), as Rails' `SecureRandom.uuid`.
    fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        self.ids.fill(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

/// 24 characters of base58, as Rails' `has_secure_token`.
fn token(ids: &SharedIds) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut token = String::with_capacity(24);
    while token.len() < 24 {
        let mut bytes = [0; 32];
        ids.fill(&mut bytes);
        // Bytes past the last multiple of 58 would favour the first characters.
        let characters =
            bytes.iter().filter(|byte| **byte < 232).map(|byte| ALPHABET[usize::from(*byte) % 58]);
        token.extend(characters.take(24 - token.len()).map(char::from));
    }
    token
}
