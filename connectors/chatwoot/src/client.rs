use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use connector_core::{
    Capability, Connector, ConnectorError, ErrorKind, Health, HttpClient, Rate, ServerInfo, SharedClock,
    SystemClock,
};
use http::HeaderName;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use url::Url;

use crate::model::{Agent, Conversation, ConversationStatus, Message, MessageType, integer};

/// The name that errors and logs give this tool.
pub const SERVICE: &str = "chatwoot";

/// The [`ConnectorError::code`] of a note that Chatwoot stored as a message the customer can see.
pub const NOTE_NOT_PRIVATE: &str = "note_not_private";

/// The hyphenated form reaches Chatwoot through a proxy that drops underscores (nginx' default).
const TOKEN_HEADER: HeaderName = HeaderName::from_static("api-access-token");

/// Chatwoot answers 20 messages a page; this is how many pages back a note is looked for.
const MESSAGE_PAGES: usize = 50;

/// The first version that signs its webhooks.
const SIGNED_SINCE: [u32; 3] = [4, 11, 2];

/// How often a merge is repeated when someone else wrote in between.
const MERGE_ATTEMPTS: usize = 3;

/// Where Chatwoot is and who we are there.
#[derive(Debug, Clone)]
pub struct ChatwootSettings {
    /// The installation's address (`https://chat.example.com/`).
    pub url: Url,
    /// The account.
    pub account_id: i64,
    /// An administrator's access token. A bot's is not enough: bots may not list messages, webhooks or agents.
    pub token: SecretString,
    /// An agent bot's access token. Where given, notes are written with it, so that they carry the bot's name and
    /// their echo can be told from an agent's note.
    pub bot_token: Option<SecretString>,
    /// A platform app's access token, with which anybody of the installation can be signed in: the most powerful there is. Where
    /// given, [`ChatwootClient::login_link`] makes links that sign people in.
    pub platform_token: Option<SecretString>,
    /// How many requests Chatwoot takes in what time from our address, where it counts (`RACK_ATTACK_LIMIT`: 3,000 a
    /// minute unless told otherwise). Those above it wait here rather than be refused there.
    pub rate: Option<Rate>,
    /// The clock that says for how long a failing server is left alone.
    pub clock: SharedClock,
}

impl ChatwootSettings {
    /// Settings without a bot: notes carry the token holder's name.
    pub fn new(url: Url, account_id: i64, token: SecretString) -> Self {
        Self {
            url,
            account_id,
            token,
            bot_token: None,
            platform_token: None,
            rate: None,
            clock: Arc::new(SystemClock),
        }
    }

    /// The same settings with a bot that writes the notes.
    #[must_use]
    pub fn with_bot(mut self, bot_token: SecretString) -> Self {
        self.bot_token = Some(bot_token);
        self
    }

    /// The same settings with a platform app's token.
    #[must_use]
    pub fn with_platform(mut self, platform_token: SecretString) -> Self {
        self.platform_token = Some(platform_token);
        self
    }

    /// The same settings with a limit to the requests.
    #[must_use]
    pub fn with_rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// The same settings with another clock than the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }
}

/// A private note to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewNote {
    /// The text, in Chatwoot's Markdown, at most 150,000 characters. `[@Jane](mention://user/8/Jane)` notifies user 8.
    pub content: String,
    /// A name for this very note (`chancery:<approval>:decision`), by which it is found again.
    pub source_id: String,
    /// Anything else to keep with the note.
    pub content_attributes: Map<String, Value>,
}

/// Which conversations to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConversationFilter {
    /// Those that someone has to answer.
    #[default]
    Open,
    /// Those that are done.
    Resolved,
    /// Those that a bot has.
    Pending,
    /// Those put off.
    Snoozed,
    /// All of them.
    All,
}

impl ConversationFilter {
    fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resolved => "resolved",
            Self::Pending => "pending",
            Self::Snoozed => "snoozed",
            Self::All => "all",
        }
    }
}

/// A page of conversations.
#[derive(Debug, Clone, PartialEq)]
pub struct ConversationPage {
    /// Up to 25, the latest activity first.
    pub conversations: Vec<Conversation>,
    /// How many there are on all pages.
    pub total: Option<i64>,
}

/// The part of Chatwoot's account API (`/api/v1/accounts/{account_id}`) that Chancery uses.
///
/// Chatwoot answers 401 for a wrong token and for anything the token's holder may not do. It has no idempotency keys.
#[derive(Debug, Clone)]
pub struct ChatwootClient {
    account_id: i64,
    account: String,
    has_bot: bool,
    administrator: HttpClient,
    writer: HttpClient,
    platform: Option<HttpClient>,
}

impl ChatwootClient {
    /// A client for one account.
    ///
    /// # Errors
    /// Where a token can't stand in a header or the TLS back end can't be set up.
    pub fn new(settings: &ChatwootSettings) -> Result<Self, ConnectorError> {
        let mut server =
            HttpClient::builder(SERVICE, settings.url.clone()).clock(Arc::clone(&settings.clock));
        if let Some(rate) = settings.rate {
            server = server.rate(rate);
        }
        let server = server.build()?;
        let client = |token: &SecretString| server.with_secret_header(TOKEN_HEADER, token.expose_secret());
        let administrator = client(&settings.token)?;
        let writer = match &settings.bot_token {
            Some(token) => client(token)?,
            None => administrator.clone(),
        };
        let platform = settings.platform_token.as_ref().map(client).transpose()?;
        Ok(Self {
            account_id: settings.account_id,
            account: settings.account_id.to_string(),
            has_bot: settings.bot_token.is_some(),
            administrator,
            writer,
            platform,
        })
    }

    /// The same for another account of the installation. Both share the installation's connections and limits, and notice
    /// together where it fails.
    #[must_use]
    pub fn for_account(&self, account_id: i64) -> Self {
        Self { account_id, account: account_id.to_string(), ..self.clone() }
    }

    /// The account that this client works in.
    pub fn account_id(&self) -> i64 {
        self.account_id
    }

    /// Posts a note that only agents see. Prefer [`Self::post_private_note`], which finds a note whose answer was lost.
    ///
    /// What is posted is always private; that Chatwoot stored it so is checked. A note that came out public is deleted
    /// as far as the token allows.
    ///
    /// # Errors
    /// [`NOTE_NOT_PRIVATE`] as the code (permanent) where Chatwoot stored the note as public; otherwise see
    /// [`ErrorKind`].
    pub async fn create_private_note(
        &self,
        conversation: i64,
        note: &NewNote,
    ) -> Result<Message, ConnectorError> {
        let conversation_id = conversation.to_string();
        let body = json!({
            "content": note.content,
            "message_type": "outgoing",
            "private": true,
            "content_type": "text",
            "content_attributes": note.content_attributes,
            "source_id": note.source_id,
        });
        let answer: Value = self
            .writer
            .post(&self.path(&["conversations", &conversation_id, "messages"]), &body, None)
            .await
            .map_err(known_limits)?;
        let message =
            Message::read(&answer).ok_or_else(|| not_chatwoot(ErrorKind::Ambiguous, "a message"))?;
        self.check_private(conversation, message).await
    }

    /// Makes sure that a note with this `source_id` is in the conversation: looks for it, and posts it where there is none.
    /// In a long conversation the look takes many requests; who has never tried before goes by
    /// [`Self::post_private_note`].
    ///
    /// # Errors
    /// As [`Self::create_private_note`]. After an error that is retryable the same call can be made again, later.
    pub async fn ensure_private_note(
        &self,
        conversation: i64,
        note: &NewNote,
    ) -> Result<Message, ConnectorError> {
        if let Some(message) = self.find_message_by_source_id(conversation, &note.source_id).await? {
            return self.check_private(conversation, message).await;
        }
        self.post_private_note(conversation, note).await
    }

    /// Posts a note that can't have been posted before, and looks for it where it couldn't be told whether the post had its
    /// effect.
    ///
    /// # Errors
    /// As [`Self::create_private_note`]. After any error, and after a crash, it may have been posted: then
    /// [`Self::ensure_private_note`] is the call to make.
    pub async fn post_private_note(
        &self,
        conversation: i64,
        note: &NewNote,
    ) -> Result<Message, ConnectorError> {
        match self.create_private_note(conversation, note).await {
            Err(error) if error.kind == ErrorKind::Ambiguous => {
                match self.find_message_by_source_id(conversation, &note.source_id).await {
                    Ok(Some(message)) => self.check_private(conversation, message).await,
                    // It may still be on its way. The caller comes again and looks first.
                    Ok(None) => Err(error),
                    Err(look) => Err(error.with_source(look)),
                }
            }
            result => result,
        }
    }

    /// The newest outgoing message of the conversation with this `source_id`, among its last 1,000 messages. Deleted
    /// ones don't count, nor does what a customer sent, who could have chosen any `source_id`.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn find_message_by_source_id(
        &self,
        conversation: i64,
        source_id: &str,
    ) -> Result<Option<Message>, ConnectorError> {
        let mut before = None;
        for _ in 0..MESSAGE_PAGES {
            let page = self.messages_before(conversation, before).await?;
            let oldest = page.iter().map(|message| message.id).min();
            let found = page
                .into_iter()
                .filter(|message| {
                    message.source_id.as_deref() == Some(source_id)
                        && message.message_type == MessageType::Outgoing
                        && !message.is_deleted()
                })
                .max_by_key(|message| message.id);
            if found.is_some() {
                return Ok(found);
            }
            match oldest {
                // A server that ignores `before` would answer the same page for ever.
                Some(id) if before.is_none_or(|before| id < before) => before = Some(id),
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Up to 20 messages older than `before`, or the last 20; the oldest first, notes and activities included.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn messages_before(
        &self,
        conversation: i64,
        before: Option<i64>,
    ) -> Result<Vec<Message>, ConnectorError> {
        let before = before.map(|id| id.to_string());
        let query: Vec<_> = before.iter().map(|id| ("before", id.as_str())).collect();
        let answer: Value = self
            .administrator
            .get(&self.path(&["conversations", &conversation.to_string(), "messages"]), &query, None)
            .await?;
        let messages = answer
            .get("payload")
            .and_then(Value::as_array)
            .ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a list of messages"))?;
        Ok(messages.iter().filter_map(Message::read).collect())
    }

    /// The conversation with this display id.
    ///
    /// # Errors
    /// See [`ErrorKind`]; [`ConnectorError::is_not_found`] where there is none.
    pub async fn conversation(&self, conversation: i64) -> Result<Conversation, ConnectorError> {
        let answer: Value = self
            .administrator
            .get(&self.path(&["conversations", &conversation.to_string()]), &[], None)
            .await?;
        Conversation::read(&answer).ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a conversation"))
    }

    /// A page of conversations, pages counted from 1.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn conversations(
        &self,
        filter: ConversationFilter,
        page: u32,
    ) -> Result<ConversationPage, ConnectorError> {
        self.list_conversations(&[
            ("status", filter.as_str()),
            ("assignee_type", "all"),
            ("sort_by", "last_activity_at_desc"),
            ("page", &page.to_string()),
        ])
        .await
    }

    /// All conversations that changed in the last `seconds` of Chatwoot's clock, in one answer: what to reconcile with,
    /// since webhooks can be lost. Let windows overlap.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn conversations_updated_within(
        &self,
        seconds: u32,
    ) -> Result<Vec<Conversation>, ConnectorError> {
        let seconds = seconds.to_string();
        let query = [("status", "all"), ("assignee_type", "all"), ("updated_within", seconds.as_str())];
        Ok(self.list_conversations(&query).await?.conversations)
    }

    /// Sets these custom attributes and leaves the others as they are; answers all of them.
    ///
    /// Chatwoot replaces the whole object, so this reads, merges, writes, and reads again to see that nobody wrote in
    /// between; if someone did, it does so again, up to three times.
    ///
    /// # Errors
    /// See [`ErrorKind`]; transient where the attributes kept changing.
    pub async fn merge_custom_attributes(
        &self,
        conversation: i64,
        attributes: &Map<String, Value>,
    ) -> Result<Map<String, Value>, ConnectorError> {
        let path = conversation.to_string();
        for _ in 0..MERGE_ATTEMPTS {
            let current = self.conversation(conversation).await?.custom_attributes.unwrap_or_default();
            let mut merged = current.clone();
            merged.extend(attributes.clone());
            if merged == current {
                return Ok(current);
            }
            // Repeating this is harmless, so an ambiguous failure needs no look here.
            let _: Value = self
                .administrator
                .post(
                    &self.path(&["conversations", &path, "custom_attributes"]),
                    &json!({"custom_attributes": merged}),
                    None,
                )
                .await?;
            let stored = self.conversation(conversation).await?.custom_attributes.unwrap_or_default();
            if stored == merged {
                return Ok(stored);
            }
        }
        Err(ConnectorError::new(
            ErrorKind::Transient,
            SERVICE,
            "the conversation's custom attributes keep being changed by someone else",
        ))
    }

    /// Adds labels to those the conversation has; answers all of them. Chatwoot replaces the list, so this reads first.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn add_labels(
        &self,
        conversation: i64,
        labels: &[&str],
    ) -> Result<Vec<String>, ConnectorError> {
        let conversation = conversation.to_string();
        let path = self.path(&["conversations", &conversation, "labels"]);
        let current = labels_of(&self.administrator.get(&path, &[], None).await?)?;
        let mut seen: BTreeSet<&str> = current.iter().map(String::as_str).collect();
        let new: Vec<&str> = labels.iter().copied().filter(|label| seen.insert(label)).collect();
        if new.is_empty() {
            return Ok(current);
        }
        let all: Vec<&str> = current.iter().map(String::as_str).chain(new).collect();
        labels_of(&self.administrator.post(&path, &json!({"labels": all}), None).await?)
    }

    /// Who works in the account.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn agents(&self) -> Result<Vec<Agent>, ConnectorError> {
        let answer: Value = self.administrator.get(&self.path(&["agents"]), &[], None).await?;
        let agents =
            answer.as_array().ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a list of agents"))?;
        Ok(agents.iter().filter_map(Agent::read).collect())
    }

    /// Sets where a conversation stands; answers where it stands now.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub async fn set_status(
        &self,
        conversation: i64,
        status: &ConversationStatus,
    ) -> Result<ConversationStatus, ConnectorError> {
        let conversation = conversation.to_string();
        let answer: Value = self
            .administrator
            .post(
                &self.path(&["conversations", &conversation, "toggle_status"]),
                &json!({"status": status.as_str()}),
                None,
            )
            .await?;
        answer
            .pointer("/payload/current_status")
            .and_then(Value::as_str)
            .map(Into::into)
            .ok_or_else(|| not_chatwoot(ErrorKind::Ambiguous, "a status"))
    }

    /// Where an agent reads a conversation in the browser.
    ///
    /// # Errors
    /// Where `frontend_url` can't have a path.
    pub fn conversation_url(
        frontend_url: &Url,
        account_id: i64,
        conversation: i64,
    ) -> Result<Url, ConnectorError> {
        let mut url = frontend_url.clone();
        url.path_segments_mut()
            .map_err(|()| {
                ConnectorError::new(ErrorKind::Misconfigured, SERVICE, "Chatwoot's address can't have a path")
            })?
            .pop_if_empty()
            .extend(["app", "accounts", &account_id.to_string(), "conversations", &conversation.to_string()]);
        Ok(url)
    }

    /// The account as it stands in paths.
    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// As the platform app, where there is one.
    pub(crate) fn platform(&self) -> Option<&HttpClient> {
        self.platform.as_ref()
    }

    /// `PATCH`es below the account, as the administrator.
    pub(crate) async fn change(&self, segments: &[&str], body: &Value) -> Result<Value, ConnectorError> {
        self.administrator.patch(&self.path(segments), body, None).await
    }

    /// `GET`s below the account, as the administrator.
    pub(crate) async fn read(&self, segments: &[&str]) -> Result<Value, ConnectorError> {
        self.administrator.get(&self.path(segments), &[], None).await
    }

    /// `POST`s below the account, as the administrator.
    pub(crate) async fn write(&self, segments: &[&str], body: &Value) -> Result<Value, ConnectorError> {
        self.administrator.post(&self.path(segments), body, None).await
    }

    fn path<'a>(&'a self, segments: &[&'a str]) -> Vec<&'a str> {
        let mut path = vec!["api", "v1", "accounts", self.account.as_str()];
        path.extend(segments);
        path
    }

    async fn check_private(&self, conversation: i64, message: Message) -> Result<Message, ConnectorError> {
        if message.private {
            return Ok(message);
        }
        // Bots may not delete, the administrator may.
        let deleted = self
            .administrator
            .delete::<Value>(
                &self.path(&[
                    "conversations",
                    &conversation.to_string(),
                    "messages",
                    &message.id.to_string(),
                ]),
                None,
            )
            .await;
        let outcome = if deleted.is_ok() { "it was deleted" } else { "deleting it failed" };
        tracing::error!(message = message.id, outcome, "chatwoot stored a private note as public");
        let mut error = ConnectorError::new(
            ErrorKind::Permanent,
            SERVICE,
            format!("a private note was stored as a public message; {outcome}"),
        );
        error.code = Some(NOTE_NOT_PRIVATE.to_owned());
        Err(match deleted {
            Ok(_) => error,
            Err(source) => error.with_source(source),
        })
    }

    async fn list_conversations(&self, query: &[(&str, &str)]) -> Result<ConversationPage, ConnectorError> {
        let answer: Value = self.administrator.get(&self.path(&["conversations"]), query, None).await?;
        let data = answer.get("data").unwrap_or(&answer);
        let conversations = data
            .get("payload")
            .and_then(Value::as_array)
            .ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a list of conversations"))?;
        Ok(ConversationPage {
            conversations: conversations.iter().filter_map(Conversation::read).collect(),
            total: data.get("meta").and_then(|meta| integer(meta, "all_count")),
        })
    }
}

fn labels_of(answer: &Value) -> Result<Vec<String>, ConnectorError> {
    let labels = answer
        .get("payload")
        .and_then(Value::as_array)
        .ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a list of labels"))?;
    Ok(labels.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

#[async_trait]
impl Connector for ChatwootClient {
    fn service(&self) -> &'static str {
        SERVICE
    }

    fn capabilities(&self) -> Vec<Capability> {
        const ALWAYS: [Capability; 5] = [
            Capability { name: "webhooks", description: "tells of messages, conversations and contacts" },
            Capability { name: "private_notes", description: "keeps notes that only agents see" },
            Capability { name: "labels", description: "labels conversations" },
            Capability { name: "custom_attributes", description: "keeps attributes of conversations" },
            Capability { name: "status", description: "opens, resolves and puts off conversations" },
        ];
        const BOT: Capability = Capability {
            name: "bot_notes",
            description: "signs notes with a bot's name, not with a person's",
        };
        const SIGN_IN: Capability = Capability { name: "sign_in", description: "signs people in by a link" };
        const PEOPLE: Capability =
            Capability { name: "people", description: "makes users, and says in which accounts they work" };
        let is_platform = self.can_sign_in();
        let further =
            [self.has_bot.then_some(BOT), is_platform.then_some(SIGN_IN), is_platform.then_some(PEOPLE)];
        ALWAYS.into_iter().chain(further.into_iter().flatten()).collect()
    }

    /// Of two tokens, the one that fails.
    fn health(&self) -> Health {
        let (administrator, writer) = (self.administrator.health(), self.writer.health());
        if writer.is_failing() && !administrator.is_failing() { writer } else { administrator }
    }

    async fn check(&self) -> Result<ServerInfo, ConnectorError> {
        let answer: Value = self.administrator.get(&["api"], &[], None).await?;
        let version = answer
            .get("version")
            .and_then(Value::as_str)
            .ok_or_else(|| not_chatwoot(ErrorKind::Misconfigured, "a version"))?;
        // Only administrators may see them.
        self.webhooks().await?;
        let mut warnings = Vec::new();
        if version_number(version).is_some_and(|version| version < SIGNED_SINCE) {
            warnings.push(format!("Chatwoot {version} does not sign its webhooks: 4.11.2 and later do"));
        }
        if !self.has_bot {
            warnings.push("without a bot's token, notes carry the administrator's name".to_owned());
        }
        let clock_ahead = self.administrator.clock_ahead();
        Ok(ServerInfo { version: Some(version.to_owned()), clock_ahead, warnings, ..ServerInfo::default() })
    }
}

/// `4.15.1` and `4.15.1-rc1` alike.
fn version_number(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split(['.', '-', '+']).map(str::parse);
    let mut part = || parts.next()?.ok();
    Some([part()?, part()?, part()?])
}

/// More than 200 messages a minute in a conversation is a 422, and passes.
fn known_limits(mut error: ConnectorError) -> ConnectorError {
    let is_flood = error.code.as_deref().is_some_and(|code| code.contains("Too many messages"));
    if error.status == Some(422) && is_flood {
        error.kind = ErrorKind::Transient;
        error.retry_after = error.retry_after.or(Some(std::time::Duration::from_mins(1)));
    }
    error
}

pub(crate) fn not_chatwoot(kind: ErrorKind, expected: &str) -> ConnectorError {
    ConnectorError::new(kind, SERVICE, format!("the answer is not {expected}"))
}
