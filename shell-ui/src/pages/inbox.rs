use askama::Template;

use crate::{
    Choice, Chrome, Fact, FieldErrors, InboxAttempt, InboxEffect, InboxFilter, InboxRow, InboxState,
    MappingRow, OnceShown, SecretRow, SourceRow, Time,
};

/// The list of received webhooks.
#[derive(Debug, Clone, Template)]
#[template(path = "inbox.html")]
pub struct InboxPage {
    /// The frame.
    pub chrome: Chrome,
    /// Which it shows.
    pub filter: InboxFilter,
    /// What is wrong with the filter.
    pub errors: FieldErrors,
    /// The sources to choose from.
    pub sources: Vec<Choice>,
    /// The page's rows, the latest first.
    pub rows: Vec<InboxRow>,
    /// How many were given up, whatever the filter.
    pub dead: u64,
    /// Where all of the filter can be replayed, for who may.
    pub replay_href: Option<String>,
    /// Whether the person may see the sources.
    pub may_see_sources: bool,
    /// The next page, if there are older ones.
    pub older_href: Option<String>,
    /// The first page, if this isn't it.
    pub newest_href: Option<String>,
}

/// One received webhook.
#[derive(Debug, Clone, Template)]
#[template(path = "inbox_event.html")]
pub struct InboxEventPage {
    /// The frame.
    pub chrome: Chrome,
    /// Its UUID.
    pub id: String,
    /// The tool's name for what happened.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// The source's name.
    pub source: String,
    /// Our page about the source, for who may see it.
    pub source_href: Option<String>,
    /// The tool.
    pub service: String,
    /// Where it stands.
    pub state: InboxState,
    /// When it came.
    pub received: Time,
    /// When it happened, where the sender says so.
    pub occurred: Option<Time>,
    /// The sender's number of the delivery, if it has one.
    pub delivery: Option<String>,
    /// How often it came again.
    pub duplicates: u64,
    /// When it came again last.
    pub last_duplicate: Option<Time>,
    /// When it had its effect last.
    pub processed: Option<Time>,
    /// How often it had its effect.
    pub runs: u64,
    /// What kind of cause its failure has, in words.
    pub cause: Option<String>,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it is tried again.
    pub next: Option<Time>,
    /// Why it was discarded, or is to be.
    pub discard_reason: Option<String>,
    /// Who discarded it.
    pub discarded_by: Option<String>,
    /// What came in its head, without secrets.
    pub headers: Vec<Fact>,
    /// What came, with secrets masked; none where it can't be shown.
    pub body: Option<String>,
    /// Its length in bytes, as it came.
    pub bytes: u64,
    /// How many values were masked.
    pub masked: u64,
    /// Attempts that have failed, came after a failure, or were asked for; the latest first.
    pub attempts: Vec<InboxAttempt>,
    /// What it led to.
    pub effects: Vec<InboxEffect>,
    /// Whether the person may replay it now.
    pub may_replay: bool,
    /// Whether the person may discard it now.
    pub may_discard: bool,
    /// The reason to discard it, as it came back.
    pub reason: String,
    /// What is wrong with the form.
    pub errors: FieldErrors,
}

/// How many webhooks would be replayed, and the question whether to.
#[derive(Debug, Clone, Template)]
#[template(path = "inbox_replay.html")]
pub struct InboxReplayPage {
    /// The frame.
    pub chrome: Chrome,
    /// Which.
    pub filter: InboxFilter,
    /// The filter in words.
    pub described: Vec<Fact>,
    /// How many it is.
    pub count: u64,
    /// The most that is replayed at once, if it is more than that.
    pub most: Option<u64>,
    /// Nothing that came later is meant: RFC 3339.
    pub until: String,
    /// Whether it was another number a moment ago.
    pub changed: bool,
    /// The list with the filter.
    pub back_href: String,
}

/// The list of sources.
#[derive(Debug, Clone, Template)]
#[template(path = "sources.html")]
pub struct SourcesPage {
    /// The frame.
    pub chrome: Chrome,
    /// The sources, the newest first.
    pub rows: Vec<SourceRow>,
    /// Whether the person may add one.
    pub may_manage: bool,
    /// The next page, if there are older ones.
    pub older_href: Option<String>,
    /// The first page, if this isn't it.
    pub newest_href: Option<String>,
}

/// One source.
#[derive(Debug, Clone, Template)]
#[template(path = "source.html")]
pub struct SourcePage {
    /// The frame.
    pub chrome: Chrome,
    /// What is known of it.
    pub row: SourceRow,
    /// Where its webhooks are listed.
    pub events_href: String,
    /// Where those that were given up are listed.
    pub dead_href: String,
    /// The address to give to the tool.
    pub url: String,
    /// The account in the tool.
    pub account: Option<String>,
    /// The scheme with its settings, as JSON.
    pub scheme_settings: String,
    /// How much is taken from it, in words.
    pub limit: Option<String>,
    /// Whose its inboxes are, where it can be several tenants'.
    pub mappings: Option<Vec<MappingRow>>,
    /// Its secrets, the newest first.
    pub secrets: Vec<SecretRow>,
    /// What was just made, and isn't shown again.
    pub once: Vec<OnceShown>,
    /// When it was made.
    pub created: Time,
    /// Whether the person may change it.
    pub may_manage: bool,
    /// Whether a secret can be made here; else the tool makes it.
    pub makes_secrets: bool,
    /// Whether the sender asks first, with a token.
    pub has_challenge: bool,
    /// For how long an old secret may count on.
    pub graces: Vec<Choice>,
    /// The name in the form.
    pub name: String,
    /// The limit's number in the form; empty for none.
    pub limit_requests: String,
    /// The limit's time in the form, in seconds.
    pub limit_seconds: String,
    /// The version that the page shows.
    pub version: u64,
    /// What is wrong with a form.
    pub errors: FieldErrors,
}

/// The form for a new source.
#[derive(Debug, Clone, Template)]
#[template(path = "source_new.html")]
pub struct SourceNewPage {
    /// The frame.
    pub chrome: Chrome,
    /// The schemes to choose from.
    pub schemes: Vec<Choice>,
    /// The chosen one.
    pub scheme: String,
    /// The tool, as it stands in the address.
    pub service: String,
    /// The name.
    pub name: String,
    /// The account in the tool.
    pub account: String,
    /// The scheme's settings as JSON, instead of one of the list.
    pub settings: String,
    /// The limit's number; empty for none.
    pub limit_requests: String,
    /// The limit's time, in seconds.
    pub limit_seconds: String,
    /// What is wrong.
    pub errors: FieldErrors,
}
