//! Reconciling: Chatwoot sends each webhook once, so that what gets lost on the way is asked for.
//!
//! By turns of the leading replica, the conversations that have changed since the last turn (and a while before it) are read, with
//! their messages. What no webhook has told is made into the event that it would have been, under the same key, and goes through
//! the inbox like any other: a webhook that comes later all the same is a repetition.

mod compose;
mod store;

use std::{collections::HashMap, time::Duration};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use chrono::{DateTime, TimeDelta, Utc};
use connector_chatwoot::{ChatwootClient, Conversation, Message, MessageType, webhook};
use connector_core::{ConnectorError, ErrorKind};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    chatwoot::{SERVICE, identified, key},
    model::{Incoming, RawRequest, subject_key},
};
use crate::{
    app::AppState,
    conversations,
    crypto::CryptoError,
    db::{Duty, FOLLOW},
    http::problem::ErrorChain,
    ids::{InboxEventId, TenantId},
    sources::{self, Source, SourceScheme, SourceState, WebhookSource},
};

/// What happened so recently may still be on its way as a webhook.
const GRACE: TimeDelta = TimeDelta::seconds(30);
/// How much of what was looked at is looked at again: Chatwoot's clock needn't be ours.
const OVERLAP: TimeDelta = TimeDelta::seconds(120);
/// How far back is looked at most, after we were away.
const FURTHEST: TimeDelta = TimeDelta::days(7);
/// How many pages of 20 messages a conversation is read back.
const MOST_PAGES: usize = 50;
/// Says of an event that it was found here.
const FOUND: HeaderName = HeaderName::from_static("x-chancery-reconciled");

/// Why a source's account can't be looked at now.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    #[error("Chatwoot can't be asked")]
    Chatwoot(#[from] ConnectorError),
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
    #[error("the source can't be read")]
    Source(#[from] sources::SourceError),
    #[error("what was found can't be sealed")]
    Crypto(#[from] CryptoError),
    #[error("what was found can't be stored")]
    NotStored(#[from] super::accepting::NotStored),
    #[error("what was found makes no event")]
    NoEvent(#[from] webhook::ParseError),
}

impl ReconcileError {
    /// Whether it is about what was read of one conversation, so that the account's others can be looked at.
    fn is_of_the_conversation(&self) -> bool {
        match self {
            Self::Chatwoot(error) => matches!(error.kind, ErrorKind::Permanent | ErrorKind::Misconfigured),
            Self::NoEvent(_) | Self::NotStored(super::accepting::NotStored::Refused) => true,
            Self::Database(_) | Self::Source(_) | Self::Crypto(_) | Self::NotStored(_) => false,
        }
    }
}

/// Looks for what no webhook has told.
#[derive(Debug, Clone)]
pub struct Reconciling {
    state: AppState,
}

/// One turn in one account.
struct Turn<'a> {
    state: &'a AppState,
    source: &'a Source,
    account: i64,
    client: ChatwootClient,
    /// What happened before was looked at.
    since: DateTime<Utc>,
    /// What happens after is left to the webhooks.
    until: DateTime<Utc>,
    /// The users' mail addresses, which messages don't carry.
    mails: HashMap<i64, String>,
    found: usize,
}

impl Reconciling {
    /// For this application.
    pub fn new(state: AppState) -> Self {
        Self { state }
    }

    /// Looks whenever this replica leads, until the process is asked to stop. Does nothing where Chatwoot isn't connected.
    pub async fn run(self) {
        let seconds = self.state.config.chatwoot.reconcile_seconds;
        if self.state.tools.chatwoot.is_none() || seconds == 0 {
            return;
        }
        let (period, stop) = (Duration::from_secs(seconds), self.state.lifecycle.soft.clone());
        let mut candidate = self.state.database.candidate(Duty::ReconcileChatwoot);
        loop {
            let begun = Instant::now();
            let next = if candidate.leads_for_sure().await {
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = self.run_once() => {}
                }
                begun + period
            } else {
                begun + FOLLOW.min(period)
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next) => {}
            }
        }
        candidate.resign().await;
    }

    /// Looks once at every account that has a source; how many events were found. An account that can't be looked at is looked at
    /// again from where it was left.
    pub async fn run_once(&self) -> usize {
        let sources = match sources::of_tenants(&self.state.database, None).await {
            Ok(sources) => sources,
            Err(error) => {
                tracing::warn!(error = %ErrorChain(&error), "the sources could not be read");
                return 0;
            }
        };
        let mut found = 0;
        let is_ours = |source: &&WebhookSource| {
            source.scheme == SourceScheme::Chatwoot && source.state == SourceState::Active
        };
        for source in sources.iter().filter(is_ours) {
            match self.reconcile(source).await {
                Ok(more) => found += more,
                Err(error) => {
                    metrics::counter!("chancery_chatwoot_reconcile_failures_total").increment(1);
                    tracing::warn!(source = %source.id, error = %ErrorChain(&error), "an account of Chatwoot could not be reconciled; it is tried again from where it was left");
                }
            }
        }
        found
    }

    async fn reconcile(&self, of: &WebhookSource) -> Result<usize, ReconcileError> {
        let state = &self.state;
        let (Some(chatwoot), Some(account)) =
            (&state.tools.chatwoot, of.account.as_deref().and_then(|account| account.parse::<i64>().ok()))
        else {
            return Ok(0);
        };
        let Some(source) = sources::find(state, of.id).await? else { return Ok(0) };
        let now = state.clock.now();
        let reached =
            store::reached(&mut state.database.worker_tx(of.tenant_id).await?, of.tenant_id, of.id).await?;
        let since = reached.unwrap_or(of.created_at).max(now - FURTHEST) - OVERLAP;
        let until = now - GRACE;
        let mut turn = Turn {
            state,
            source: &source,
            account,
            client: chatwoot.account(account),
            since,
            until,
            mails: HashMap::new(),
            found: 0,
        };
        let window = u32::try_from((now - since).num_seconds().max(1)).unwrap_or(u32::MAX);
        for conversation in turn.client.conversations_updated_within(window).await? {
            match turn.conversation(&conversation).await {
                Err(error) if error.is_of_the_conversation() => {
                    // The next turn would fail at it as well, and the others wait.
                    metrics::counter!("chancery_chatwoot_reconcile_failures_total").increment(1);
                    tracing::warn!(source = %of.id, conversation = conversation.id, error = %ErrorChain(&error), "a conversation of Chatwoot could not be reconciled and is left out");
                }
                result => result?,
            }
        }
        let mut tx = state.database.worker_tx(of.tenant_id).await?;
        store::reach(&mut tx, of.tenant_id, of.id, until).await?;
        tx.commit().await?;
        Ok(turn.found)
    }
}

impl Turn<'_> {
    async fn conversation(&mut self, conversation: &Conversation) -> Result<(), ReconcileError> {
        let before = self.found;
        let since = self.since_of(conversation);
        let messages = self.messages(conversation.id, since).await?;
        let missing = self.unknown(conversation, &messages).await?;
        for message in missing {
            let mail = self.mail_of(&message).await?;
            self.feed(compose::message(self.account, conversation, &message, mail.as_deref())).await?;
        }
        // A message brings its conversation along.
        if self.found == before && self.is_behind(conversation).await? {
            self.feed(compose::conversation(self.account, conversation)).await?;
        }
        Ok(())
    }

    /// The messages of the time in question that a webhook would have told, the oldest first.
    async fn messages(
        &self,
        conversation: i64,
        since: DateTime<Utc>,
    ) -> Result<Vec<Message>, ReconcileError> {
        let mut found: Vec<Message> = Vec::new();
        let mut before = None;
        for _ in 0..MOST_PAGES {
            let page = self.client.messages_before(conversation, before).await?;
            let oldest = page.iter().min_by_key(|message| message.id).cloned();
            let is_last = page.len() < 20;
            found.extend(page);
            let Some(oldest) = oldest else { break };
            let is_older = oldest.created_at.is_none_or(|at| at < since);
            if is_last || is_older || before.is_some_and(|before| oldest.id >= before) {
                break;
            }
            before = Some(oldest.id);
        }
        found.retain(|message| {
            message.message_type != MessageType::Activity
                && !message.is_deleted()
                && message.created_at.is_some_and(|at| (since..=self.until).contains(&at))
        });
        found.sort_by_key(|message| message.id);
        Ok(found)
    }

    /// Since when a conversation's messages are looked at: what came while its inbox was another's stays that one's.
    fn since_of(&self, conversation: &Conversation) -> DateTime<Utc> {
        let held = self.source.held_since(conversation.inbox_id);
        held.map_or(self.since, |held| self.since.max(held))
    }

    /// Who may have got what comes of a conversation: its inbox' tenant, and the suite, while there was no mapping.
    fn owners(&self, conversation: &Conversation) -> [TenantId; 2] {
        [self.source.tenant, self.source.tenant_of(conversation.inbox_id)]
    }

    /// Those of the messages of which no webhook has come.
    async fn unknown(
        &self,
        conversation: &Conversation,
        messages: &[Message],
    ) -> Result<Vec<Message>, ReconcileError> {
        let hashes: Vec<Vec<u8>> =
            messages.iter().map(|message| compose::key_of_message(message.id).to_vec()).collect();
        let unknown =
            store::unknown(&self.state.database, &self.owners(conversation), self.source.id, &hashes).await?;
        let is_unknown = |message: &&Message| {
            let key = compose::key_of_message(message.id);
            unknown.iter().any(|hash| hash.as_slice() == key)
        };
        Ok(messages.iter().filter(is_unknown).cloned().collect())
    }

    /// A user's mail address: what is escalated by a note counts for who has written it.
    async fn mail_of(&mut self, message: &Message) -> Result<Option<String>, ReconcileError> {
        let Some(id) = compose::user_of(message) else { return Ok(None) };
        if self.mails.is_empty() {
            let agents = self.client.agents().await?;
            // An address that nobody has confirmed proves nothing.
            let confirmed = agents.into_iter().filter(|agent| agent.confirmed);
            self.mails.extend(confirmed.filter_map(|agent| Some((agent.id, agent.email?))));
        }
        Ok(self.mails.get(&id).cloned())
    }

    /// Whether the mirror lacks the conversation, or shows less than what Chatwoot has had for a while.
    async fn is_behind(&self, conversation: &Conversation) -> Result<bool, ReconcileError> {
        let looked_at = self.since_of(conversation)..=self.until;
        let Some(updated_at) = conversation.updated_at.filter(|at| looked_at.contains(at)) else {
            return Ok(false);
        };
        let tenant = self.source.tenant_of(conversation.inbox_id);
        let mut tx = self.state.database.worker_tx(tenant).await?;
        let known = conversations::standing(&mut tx, tenant, self.source.id, conversation.id).await?;
        drop(tx);
        let is_other = match known {
            None => true,
            Some(known) => {
                let status = conversation.status.as_ref().map(ToString::to_string);
                known.updated_at < updated_at
                    && (status.is_some_and(|status| status != known.status)
                        || conversation.labels.as_ref().is_some_and(|labels| *labels != known.labels))
            }
        };
        if !is_other {
            return Ok(false);
        }
        let body = compose::conversation(self.account, conversation);
        let hash = key(&webhook::parse(body.to_string().as_bytes())?, &[]).to_vec();
        let owners = self.owners(conversation);
        Ok(!store::unknown(&self.state.database, &owners, self.source.id, &[hash]).await?.is_empty())
    }

    /// Hands an event in as if it had been posted.
    async fn feed(&mut self, body: Value) -> Result<(), ReconcileError> {
        let body = body.to_string();
        let event = webhook::parse(body.as_bytes())?;
        let identified = identified(self.source, &event, body.as_bytes(), None);
        let received_at = self.state.clock.now();
        let headers = HeaderMap::from_iter([(FOUND, HeaderValue::from_static("true"))]);
        let sealed_request =
            RawRequest::seal(&self.state.master_key, &*self.state.ids, &headers, body.as_bytes())?;
        let label = if event.message.is_some() { "message_created" } else { "conversation_updated" };
        let stored = self.state.intake.accept(Incoming {
            tenant: identified.tenant.unwrap_or(self.source.tenant),
            source: self.source.id,
            service: SERVICE.to_owned(),
            id: InboxEventId(self.state.ids.uuid_v7(received_at)),
            received_at,
            subject_key: subject_key(self.source.id, &identified.subject),
            identified,
            sealed_request,
        });
        // A webhook that has come meanwhile was not lost.
        if !stored.await?.duplicate {
            self.found += 1;
            metrics::counter!("chancery_chatwoot_reconciled_total", "type" => label).increment(1);
        }
        Ok(())
    }
}
