//! `chancery chatwoot`: what is done once so that Chatwoot and Chancery know each other.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use secrecy::SecretString;
use serde_json::json;

use super::{
    inbox::{Operator, explained, json_text, load},
    openapi::print,
};
use crate::{
    clock::{SharedClock, SystemClock},
    http::etag::IfMatch,
    ids::TenantId,
    sources::{self, NewSecret, NewSource, SourceScheme, SourceState, WebhookSource},
    tools::Tools,
};

/// What Chatwoot tells us of.
const SUBSCRIPTIONS: [&str; 8] = [
    "message_created",
    "message_updated",
    "conversation_created",
    "conversation_updated",
    "conversation_status_changed",
    "contact_created",
    "contact_updated",
    "webwidget_triggered",
];

/// Chatwoot.
#[derive(Debug, Subcommand)]
pub(super) enum ChatwootCommand {
    /// Have an account send its webhooks here and show the approvals beside each conversation
    ///
    /// Makes a source, registers the webhook, keeps the secret that Chatwoot has made for it, and adds the dashboard app. What is there
    /// already stays: it can be run as often as one likes.
    Install(Install),
}

#[derive(Debug, Args)]
pub(super) struct Install {
    /// Whose the account is: the tenant's UUID, its path (/organizations/acme), or `suite`, where its inboxes are several tenants'
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// The account's id in Chatwoot
    #[arg(long, value_name = "ID")]
    account: i64,
    /// What the webhook and the source are called
    #[arg(long, value_name = "NAME", default_value = "Chancery")]
    name: String,
    /// What stands on the tab beside each conversation
    #[arg(long, value_name = "TITLE", default_value = "Approvals")]
    title: String,
    /// Print JSON: {"source", "url", "webhook", "secretStored", "dashboardApp", "dashboardUrl"}
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Option<&Path>, command: ChatwootCommand) -> anyhow::Result<()> {
    let ChatwootCommand::Install(arguments) = command;
    let config = load(config)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let tools = Tools::connect(&config, &clock)?;
    let operator = Operator::begin(&config).await?;
    let said = install(&operator, &tools, &arguments).await;
    operator.database.close().await;
    print(&said?)
}

async fn install(operator: &Operator, tools: &Tools, arguments: &Install) -> anyhow::Result<String> {
    let chatwoot = tools.chatwoot.as_ref().context("chatwoot.url is not set")?.account(arguments.account);
    let tenant = operator.tenant(&arguments.tenant).await?;
    // The source first: its id stands in the address that Chatwoot makes a secret for.
    let source = source(operator, tenant, arguments).await?;
    let url = operator.url(&source)?;
    let webhook = chatwoot.register_webhook(&url, &arguments.name, &SUBSCRIPTIONS).await?;
    let secret = webhook.secret.context("Chatwoot has made no secret: 4.11.2 and later do")?;
    let stored = keep(operator, tenant, &source, secret).await?;
    let embed = operator.public_url.join("embed/chatwoot")?;
    let app = chatwoot.register_dashboard_app(&arguments.title, &embed).await?;
    if arguments.json {
        return Ok(json_text(&json!({
            "source": source.id, "url": url, "webhook": webhook.id, "secretStored": stored, "dashboardApp": app.id, "dashboardUrl": embed,
        })));
    }
    let secret = if stored { "kept" } else { "known already" };
    Ok(format!(
        "source         {}\nURL            {url}\nwebhook        {} (its secret is {secret})\ndashboard app  {} ({embed})\n",
        source.id, webhook.id, app.id
    ))
}

/// The tenant's source of the account, made where there is none.
async fn source(operator: &Operator, tenant: TenantId, arguments: &Install) -> anyhow::Result<WebhookSource> {
    let account = arguments.account.to_string();
    let known = sources::of_tenants(&operator.database, Some(tenant)).await?;
    let is_it = |source: &WebhookSource| {
        source.scheme == SourceScheme::Chatwoot && source.account.as_deref() == Some(account.as_str())
    };
    if let Some(source) = known.into_iter().find(is_it) {
        if source.state == SourceState::Paused {
            bail!("the source {} is paused: `chancery inbox source enable {}`", source.id, source.id);
        }
        return Ok(source);
    }
    let new = NewSource {
        service: "chatwoot".to_owned(),
        name: arguments.name.clone(),
        account: Some(account),
        scheme: SourceScheme::Chatwoot,
        limit: None,
        secret: None,
    };
    let mut tx = operator.database.worker_tx(tenant).await?;
    let added = sources::add(&mut tx, &operator.key, tenant, new).await.map_err(explained)?;
    tx.commit().await?;
    Ok(added.source)
}

/// Keeps the webhook's secret, sealed; whether it is new.
async fn keep(
    operator: &Operator,
    tenant: TenantId,
    source: &WebhookSource,
    secret: SecretString,
) -> anyhow::Result<bool> {
    let mut tx = operator.database.worker_tx(tenant).await?;
    if sources::has_secret(&mut tx, &operator.key, source.id, &secret).await.map_err(explained)? {
        return Ok(false);
    }
    let new = NewSecret { value: Some(secret), ..NewSecret::default() };
    sources::rotate(&mut tx, &operator.key, source.id, new, &IfMatch::Any).await.map_err(explained)?;
    tx.commit().await?;
    Ok(true)
}
