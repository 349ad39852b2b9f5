//! `chancery inbox`: what who operates the server does with the inbox, at the database and without the server.

mod events;

use std::{fmt::Write as _, io::Read as _, path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use self::events::{DiscardEvent, ListEvents, ReplayEvents, ShowEvent};
use super::openapi::print;
use crate::{
    clock::SystemClock,
    config::Config,
    crypto::MasterKey,
    db::{Database, TenantTx},
    http::etag::IfMatch,
    ids::{RandomIds, SourceId, TenantId},
    sources::{
        self, ChangeSource, Mapping, NewSecret, NewSource, Purpose, RequestLimit, SourceError, SourceScheme,
        SourceState, WebhookSource,
    },
    telemetry,
};

/// What is received from external tools.
#[derive(Debug, Subcommand)]
pub(super) enum InboxCommand {
    /// The sources of webhooks: which tool posts here, for whom, and how its requests prove it
    #[command(subcommand)]
    Source(SourceCommand),
    /// List what was received, the newest first
    List(ListEvents),
    /// Show one received webhook: its request, whose secrets are masked, its attempts and its effects
    Show(ShowEvent),
    /// Process one received webhook again, or all of a filter
    Replay(ReplayEvents),
    /// Give up a received webhook that has failed; what waits behind it goes on
    Discard(DiscardEvent),
}

#[derive(Debug, Subcommand)]
pub(super) enum SourceCommand {
    /// Add a source, and print its id, its URL and, once, the secret that was made for it
    Add(AddSource),
    /// List the sources
    List(ListSources),
    /// Give a source a new secret; the old ones count for a while longer
    Rotate(RotateSecret),
    /// Refuse a source's webhooks until it is enabled again
    Disable(OneSource),
    /// Take a source's webhooks again
    Enable(OneSource),
    /// Remove a source for good, with its secrets; what it has sent stays
    Remove(OneSource),
    /// Say whose an inbox of a suite's source is; what was parked for it is handed on by a replay
    Map(MapInbox),
    /// Take the mapping of an inbox away; what came by it stays with its tenant
    Unmap(UnmapInbox),
    /// List whose the inboxes of a suite's source are
    Mappings(OneSource),
}

#[derive(Debug, Args)]
pub(super) struct MapInbox {
    /// The source's id
    id: SourceId,
    /// The inbox' number in Chatwoot, or `others` for all that have no mapping of their own
    inbox: String,
    /// The tenant: its UUID or its path (/organizations/acme)
    tenant: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct UnmapInbox {
    /// The source's id
    id: SourceId,
    /// The inbox' number in Chatwoot, or `others`
    inbox: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AddSource {
    /// The tenant that it speaks for: its UUID, its path (/organizations/acme), or `suite`
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// The tool, as it stands in the URL: `chatwoot`, `matrix`, `github`, …
    #[arg(long, value_name = "SERVICE")]
    service: String,
    /// How its requests prove where they come from
    ///
    /// `chatwoot`, `matrix`, `standard-webhooks`, `cloudevents`, `bearer`, `jitsi-event-sync`; a preset: `bitbucket`, `calendly`,
    /// `gitea`, `github`, `gitlab`, `gitlab-token`, `jaas`, `jira`, `keycloak-events`, `keycloak-webhook`, `linear`, `meta`,
    /// `pagerduty`, `razorpay`, `shopify`, `slack`, `stripe`, `typeform`; or settings as JSON:
    /// {"type": "hmac", "header": "X-Signature", "prefix": "sha256="} (docs/API.md has all of them).
    #[arg(long, value_name = "SCHEME")]
    scheme: String,
    /// A name for people [default: the service's]
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    name: String,
    /// The account in the tool: Chatwoot's account id, the id of Matrix's application service
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Take at most so many webhooks in so many seconds, besides what holds for every source: 600/60
    #[arg(long, value_name = "REQUESTS/SECONDS", value_parser = read_limit)]
    limit: Option<RequestLimit>,
    #[command(flatten)]
    secret: GivenSecret,
    /// Print JSON: {"id", "url", "secret", "challengeToken"}
    #[arg(long)]
    json: bool,
}

/// The secret, unless one is to be made.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct GivenSecret {
    /// The secret; `-` reads it from the standard input, where other users of this machine don't see it
    ///
    /// Where it is left out, one is made, unless only the tool can make one.
    #[arg(long, value_name = "SECRET")]
    secret: Option<SecretString>,
    /// A file with the secret
    #[arg(long, value_name = "FILE")]
    secret_file: Option<std::path::PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ListSources {
    /// Only of this tenant: its UUID, its path, or `suite`
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RotateSecret {
    /// The source's id
    id: SourceId,
    #[command(flatten)]
    secret: GivenSecret,
    /// The token of the tool's question (Meta's verify token) instead of the secret
    #[arg(long)]
    challenge: bool,
    /// For how long the old secrets still count; 0 ends them at once
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    grace_seconds: u32,
    /// Print JSON: {"id", "secretId", "secret"}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct OneSource {
    /// The source's id
    id: SourceId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn read_limit(text: &str) -> Result<RequestLimit, String> {
    let read = || {
        let (requests, seconds) = text.split_once('/')?;
        Some(RequestLimit { requests: requests.parse().ok()?, seconds: seconds.parse().ok()? })
    };
    read().ok_or_else(|| "must be REQUESTS/SECONDS, as in 600/60".to_owned())
}

impl GivenSecret {
    fn read(self) -> anyhow::Result<Option<SecretString>> {
        let text = match (self.secret, self.secret_file) {
            (Some(secret), _) if secret.expose_secret() == "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("the secret can't be read")?;
                text
            }
            (Some(secret), _) => return Ok(Some(secret)),
            (None, Some(file)) => {
                std::fs::read_to_string(&file).with_context(|| format!("{} can't be read", file.display()))?
            }
            (None, None) => return Ok(None),
        };
        let text = text.trim_end_matches(['\r', '\n']);
        ensure!(!text.is_empty(), "the secret is empty");
        Ok(Some(text.to_owned().into()))
    }
}

fn scheme(text: &str) -> anyhow::Result<SourceScheme> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).context("--scheme can't be understood");
    }
    SourceScheme::named(text)
        .with_context(|| format!("there is no scheme {text} without settings; --help lists them"))
}

/// What a refused command is at the command line.
pub(super) fn explained(error: SourceError) -> anyhow::Error {
    match error {
        SourceError::Invalid(faults) => {
            let said: Vec<String> = faults
                .iter()
                .map(|fault| format!("{} {}", fault.pointer.trim_start_matches('/'), fault.detail))
                .collect();
            anyhow::anyhow!("{}", said.join("; "))
        }
        other => other.into(),
    }
}

fn mapping_text(mapping: &Mapping) -> String {
    let inbox = mapping.inbox_id.map_or_else(|| "others".to_owned(), |inbox| inbox.to_string());
    let path = mapping.tenant_path.as_deref().unwrap_or_default();
    format!("{inbox:10}  {}  {path}\n", mapping.tenant_id)
}

pub(super) struct Operator {
    pub database: Database,
    pub key: MasterKey,
    pub public_url: Url,
}

pub(super) async fn run(config: Option<&Path>, command: InboxCommand) -> anyhow::Result<()> {
    let operator = Operator::begin(&load(config)?).await?;
    let said = match command {
        InboxCommand::Source(command) => match command {
            SourceCommand::Add(arguments) => operator.add(arguments).await,
            SourceCommand::List(arguments) => operator.list(arguments).await,
            SourceCommand::Rotate(arguments) => operator.rotate(arguments).await,
            SourceCommand::Disable(one) => operator.set_state(&one, SourceState::Paused).await,
            SourceCommand::Enable(one) => operator.set_state(&one, SourceState::Active).await,
            SourceCommand::Remove(one) => operator.remove(&one).await,
            SourceCommand::Map(arguments) => operator.map(&arguments).await,
            SourceCommand::Unmap(arguments) => operator.unmap(&arguments).await,
            SourceCommand::Mappings(one) => operator.mappings(&one).await,
        },
        InboxCommand::List(arguments) => operator.list_events(arguments).await,
        InboxCommand::Show(arguments) => operator.show_event(&arguments).await,
        InboxCommand::Replay(arguments) => operator.replay_events(arguments).await,
        InboxCommand::Discard(arguments) => operator.discard_event(&arguments).await,
    };
    operator.database.close().await;
    print(&said?)
}

pub(super) fn json_text(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The settings, with logging as they say.
pub(super) fn load(config: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::load(config)?;
    config.validate_for_serving()?;
    telemetry::start_logging(&config.log).context("log.filter can't be understood")?;
    Ok(config)
}

impl Operator {
    pub(super) async fn begin(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            key: MasterKey::read(&config.crypto.key_file)?,
            database: Database::connect(
                &config.database,
                Arc::new(SystemClock),
                Arc::new(RandomIds),
                Vec::new(),
            )
            .await?,
            public_url: config.http.public_url.clone(),
        })
    }

    pub(super) async fn tenant(&self, named: &str) -> anyhow::Result<TenantId> {
        sources::named_tenant(&self.database, named)
            .await?
            .with_context(|| format!("there is no tenant {named}, or nobody of it has signed in yet"))
    }

    async fn in_tenant_of(&self, id: SourceId) -> anyhow::Result<TenantTx> {
        let tenant = sources::tenant_of(&self.database, id)
            .await?
            .with_context(|| format!("there is no source {id}"))?;
        Ok(self.database.worker_tx(tenant).await?)
    }

    pub(super) fn url(&self, source: &WebhookSource) -> anyhow::Result<Url> {
        Ok(self.public_url.join(&source.path)?)
    }

    async fn add(&self, arguments: AddSource) -> anyhow::Result<String> {
        let new = NewSource {
            scheme: scheme(&arguments.scheme)?,
            service: arguments.service,
            name: arguments.name,
            account: arguments.account,
            limit: arguments.limit,
            secret: arguments.secret.read()?,
        };
        let tenant = self.tenant(&arguments.tenant).await?;
        let mut tx = self.database.worker_tx(tenant).await?;
        let added = sources::add(&mut tx, &self.key, tenant, new).await.map_err(explained)?;
        tx.commit().await?;
        let url = self.url(&added.source)?;
        let shown =
            |secret: &Option<SecretString>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
        if arguments.json {
            let value = json!({
                "id": added.source.id, "url": url, "secret": shown(&added.secret), "challengeToken": shown(&added.challenge_token),
            });
            return Ok(json_text(&value));
        }
        let mut text = format!("id   {}\nURL  {url}\n", added.source.id);
        if let Some(secret) = shown(&added.secret) {
            let _ = writeln!(text, "\nThe secret, which is not shown again:\n{secret}");
        }
        if let Some(token) = shown(&added.challenge_token) {
            let _ = writeln!(text, "\nThe token to give to the tool, which is not shown again:\n{token}");
        }
        if added.source.secrets.iter().all(|secret| secret.purpose != Purpose::Signature) {
            let _ = writeln!(
                text,
                "\nIt has no secret yet: give it the one that the tool makes for the URL, by `chancery inbox source rotate`."
            );
        }
        Ok(text)
    }

    async fn list(&self, arguments: ListSources) -> anyhow::Result<String> {
        let tenant = match &arguments.tenant {
            Some(named) => Some(self.tenant(named).await?),
            None => None,
        };
        let found = sources::of_tenants(&self.database, tenant).await?;
        if arguments.json {
            let mut values = Vec::with_capacity(found.len());
            for source in &found {
                let mut value = serde_json::to_value(source)?;
                value["url"] = self.url(source)?.as_str().into();
                values.push(value);
            }
            return Ok(json_text(&json!({ "items": values })));
        }
        let mut text = String::new();
        for source in &found {
            let state = source.state.as_str();
            let (tenant, service, name) = (source.tenant_id, &source.service, &source.name);
            let _ = writeln!(text, "{}  {tenant}  {state:6}  {service:16}  {name}", source.id);
        }
        Ok(text)
    }

    async fn rotate(&self, arguments: RotateSecret) -> anyhow::Result<String> {
        let new = NewSecret {
            purpose: if arguments.challenge { Purpose::Challenge } else { Purpose::Signature },
            value: arguments.secret.read()?,
            grace_seconds: Some(arguments.grace_seconds),
        };
        let mut tx = self.in_tenant_of(arguments.id).await?;
        let rotated =
            sources::rotate(&mut tx, &self.key, arguments.id, new, &IfMatch::Any).await.map_err(explained)?;
        tx.commit().await?;
        let secret = rotated.value.as_ref().map(|secret| secret.expose_secret().to_owned());
        if arguments.json {
            let value = json!({ "id": arguments.id, "secretId": rotated.secret.id, "secret": secret });
            return Ok(json_text(&value));
        }
        Ok(match secret {
            Some(secret) => format!("The new secret, which is not shown again:\n{secret}\n"),
            None => "The new secret counts from now on.\n".to_owned(),
        })
    }

    async fn set_state(&self, one: &OneSource, state: SourceState) -> anyhow::Result<String> {
        let mut tx = self.in_tenant_of(one.id).await?;
        let change = ChangeSource { state: Some(state), ..ChangeSource::default() };
        let source =
            sources::change(&mut tx, &self.key, one.id, change, &IfMatch::Any).await.map_err(explained)?;
        tx.commit().await?;
        Ok(said(one, source.state.as_str()))
    }

    async fn map(&self, arguments: &MapInbox) -> anyhow::Result<String> {
        let mut tx = self.in_tenant_of(arguments.id).await?;
        let mapped = sources::map(&mut tx, &self.database, arguments.id, &arguments.inbox, &arguments.tenant);
        let mapping = mapped.await.map_err(explained)?;
        tx.commit().await?;
        Ok(if arguments.json { json_text(&serde_json::to_value(&mapping)?) } else { mapping_text(&mapping) })
    }

    async fn unmap(&self, arguments: &UnmapInbox) -> anyhow::Result<String> {
        let mut tx = self.in_tenant_of(arguments.id).await?;
        sources::unmap(&mut tx, arguments.id, &arguments.inbox).await.map_err(explained)?;
        tx.commit().await?;
        let one = OneSource { id: arguments.id, json: arguments.json };
        Ok(said(&one, "unmapped"))
    }

    async fn mappings(&self, one: &OneSource) -> anyhow::Result<String> {
        let mut tx = self.in_tenant_of(one.id).await?;
        let found = sources::mappings(&mut tx, &self.database, one.id).await.map_err(explained)?;
        Ok(if one.json {
            json_text(&json!({ "items": found }))
        } else {
            found.iter().map(mapping_text).collect()
        })
    }

    async fn remove(&self, one: &OneSource) -> anyhow::Result<String> {
        let mut tx = self.in_tenant_of(one.id).await?;
        sources::remove(&mut tx, one.id, &IfMatch::Any).await.map_err(explained)?;
        tx.commit().await?;
        Ok(said(one, "removed"))
    }
}

fn said(one: &OneSource, state: &str) -> String {
    if one.json {
        json_text(&json!({ "id": one.id, "state": state }))
    } else {
        format!("{} is {state}.\n", one.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_schemes_are_read() {
        assert_eq!(read_limit("600/60"), Ok(RequestLimit { requests: 600, seconds: 60 }));
        for text in ["", "600", "600/", "/60", "-1/60", "a/b"] {
            assert!(read_limit(text).is_err(), "{text}");
        }
        assert_eq!(scheme("chatwoot").unwrap(), SourceScheme::Chatwoot);
        assert!(scheme(r#"{"type":"hmac","header":"x"}"#).is_ok());
        for text in ["hmac", "nonsense", "{", r#"{"type":"nonsense"}"#] {
            assert!(scheme(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_preset_is_named_in_the_help() {
        use clap::CommandFactory as _;
        let mut command = super::super::Cli::command();
        let add = ["inbox", "source", "add"]
            .iter()
            .fold(&mut command, |command, name| command.find_subcommand_mut(name).unwrap());
        let help = add.render_long_help().to_string();
        for (name, _) in connector_webhooks::presets::all() {
            assert!(help.contains(&format!("`{name}`")), "{name}");
        }
    }
}
