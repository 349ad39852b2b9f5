//! `chancery inbox list|show|replay|discard`: seeing what was received, and mending.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use serde_json::json;

use super::{Operator, json_text};
use crate::{
    db::TenantTx,
    ids::{InboxEventId, SourceId, TenantId},
    inbox::{self, EventFilter, EventState, InboxError, InboxEvent, ReplayAll},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct ListEvents {
    /// Whose: the tenant's UUID, its path (/organizations/acme), or `suite`
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// Only in this state
    #[arg(long, value_name = "STATE", value_parser = read_state)]
    state: Option<EventState>,
    #[command(flatten)]
    filter: Filter,
    /// At most so many, the newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print JSON: {"items": […]}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowEvent {
    /// The webhook's id
    id: InboxEventId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReplayEvents {
    /// The webhook's id; without one, all of the filter are meant
    #[arg(required_unless_present = "tenant", conflicts_with_all = ["tenant", "state", "dry_run"])]
    id: Option<InboxEventId>,
    /// All of this tenant's that the filter means: its UUID, its path, or `suite`
    #[arg(long, value_name = "TENANT", requires = "state")]
    tenant: Option<String>,
    /// Those in this state: dead, discarded or done
    #[arg(long, value_name = "STATE", value_parser = read_state)]
    state: Option<EventState>,
    #[command(flatten)]
    filter: Filter,
    /// Only say how many it would be
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: {"count", "dryRun", "to"}, or the webhook
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DiscardEvent {
    /// The webhook's id
    id: InboxEventId,
    /// Why it isn't needed; it goes into the audit trail
    #[arg(long, value_name = "REASON")]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Filter {
    /// Only from the source with this id
    #[arg(long, value_name = "ID")]
    source: Option<SourceId>,
    /// Only of this type: `message_created`
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only about this: `conversation/26`
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Received from this time on: 2026-03-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// Received before this time
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
}

impl Filter {
    fn of(self, tenant: TenantId, state: Option<EventState>, limit: u32) -> EventFilter {
        EventFilter {
            tenants: vec![tenant],
            state,
            source: self.source,
            service: None,
            event_type: self.event_type,
            subject: self.subject,
            from: self.from,
            to: self.to,
            before: None,
            limit,
        }
    }
}

fn read_state(text: &str) -> Result<EventState, String> {
    let names = || EventState::ALL.map(EventState::as_str).join(", ");
    EventState::ALL
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or_else(|| format!("must be one of {}", names()))
}

/// What a refused command is at the command line.
fn explained(error: InboxError) -> anyhow::Error {
    match error {
        InboxError::InProgress => {
            anyhow::anyhow!("it waits, or is tried again by itself, and can't be replayed")
        }
        InboxError::NotFailed => anyhow::anyhow!("it has not failed, so there is nothing to discard"),
        other => other.into(),
    }
}

fn line(event: &InboxEvent) -> String {
    let at = event.received_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (state, service) = (event.state.as_str(), &event.service);
    format!("{}  {at}  {state:9}  {service:12}  {}  {}", event.id, event.event_type, event.subject)
}

impl Operator {
    async fn in_tenant_of_event(&self, id: InboxEventId) -> anyhow::Result<TenantTx> {
        let tenant = inbox::tenant_of(&self.database, id)
            .await?
            .with_context(|| format!("there is no received webhook {id}"))?;
        Ok(self.database.worker_tx(tenant).await?)
    }

    pub(super) async fn list_events(&self, arguments: ListEvents) -> anyhow::Result<String> {
        let tenant = self.tenant(&arguments.tenant).await?;
        let filter = arguments.filter.of(tenant, arguments.state, arguments.limit);
        let mut tx = self.database.worker_tx(tenant).await?;
        let found = inbox::page(&mut tx, &filter).await?;
        if arguments.json {
            return Ok(json_text(&json!({ "items": found.items })));
        }
        let mut text = String::new();
        for event in &found.items {
            let _ = writeln!(text, "{}", line(event));
        }
        if found.next_cursor.is_some() {
            let _ = writeln!(text, "There are more; --limit and --to show them.");
        }
        Ok(text)
    }

    pub(super) async fn show_event(&self, arguments: &ShowEvent) -> anyhow::Result<String> {
        let mut tx = self.in_tenant_of_event(arguments.id).await?;
        let detail = inbox::detail(&mut tx, &self.key, arguments.id).await.map_err(explained)?;
        if arguments.json {
            return Ok(json_text(&serde_json::to_value(&detail)?));
        }
        let mut text = format!("{}\n", line(&detail.event));
        if detail.event.duplicates > 0 {
            let last = detail.event.last_duplicate_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
            let _ = writeln!(
                text,
                "again     {} times, last {}",
                detail.event.duplicates,
                last.unwrap_or_default()
            );
        }
        if let Some(error) = &detail.event.last_error {
            let _ = writeln!(text, "error     {error}");
        }
        if let Some(reason) = &detail.event.discard_reason {
            let _ = writeln!(text, "discarded {reason}");
        }
        for attempt in &detail.attempts {
            let at = attempt.ended_at.to_rfc3339_opts(SecondsFormat::Secs, true);
            let error = attempt.error.as_deref().unwrap_or_default();
            let _ = writeln!(text, "attempt   {at}  {}  {error}", attempt.outcome);
        }
        for told in &detail.timeline {
            let _ = writeln!(text, "effect    {}  {}  {}", told.event_type, told.subject, told.effects);
        }
        text.push('\n');
        for header in &detail.request.headers {
            let _ = writeln!(text, "{}: {}", header.name, header.value);
        }
        let bytes = detail.request.bytes;
        let body = detail.request.body.unwrap_or_else(|| format!("({bytes} bytes that are not text)"));
        let _ = writeln!(text, "\n{body}");
        Ok(text)
    }

    pub(super) async fn replay_events(&self, arguments: ReplayEvents) -> anyhow::Result<String> {
        if let Some(id) = arguments.id {
            let mut tx = self.in_tenant_of_event(id).await?;
            inbox::replay(&mut tx, id).await.map_err(explained)?;
            let event = inbox::find(&mut tx, id).await.map_err(explained)?;
            tx.commit().await?;
            return said(&event, arguments.json);
        }
        let named = arguments.tenant.context("--tenant or an id is needed")?;
        let tenant = self.tenant(&named).await?;
        let mut tx = self.database.worker_tx(tenant).await?;
        let asked = ReplayAll {
            tenant,
            filter: arguments.filter.of(tenant, arguments.state, 0),
            dry_run: arguments.dry_run,
            expected: None,
        };
        let replayed = inbox::replay_all(&mut tx, asked).await.map_err(explained)?;
        tx.commit().await?;
        if arguments.json {
            let value = json!({ "count": replayed.count, "dryRun": arguments.dry_run, "to": replayed.to });
            return Ok(json_text(&value));
        }
        let would = if arguments.dry_run { "would be" } else { "will be" };
        Ok(format!("{} {would} processed again.\n", replayed.count))
    }

    pub(super) async fn discard_event(&self, arguments: &DiscardEvent) -> anyhow::Result<String> {
        ensure!(!arguments.reason.trim().is_empty(), "the reason is empty");
        let mut tx = self.in_tenant_of_event(arguments.id).await?;
        let discarded = inbox::discard(&mut tx, arguments.id, &arguments.reason).await.map_err(explained)?;
        tx.commit().await?;
        said(&discarded.event, arguments.json)
    }
}

fn said(event: &InboxEvent, as_json: bool) -> anyhow::Result<String> {
    if as_json {
        return Ok(json_text(&serde_json::to_value(event)?));
    }
    Ok(format!("{} is {}.\n", event.id, event.state.as_str()))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn states_are_read_by_their_names() {
        assert_eq!(read_state("dead"), Ok(EventState::Dead));
        assert!(read_state("Dead").unwrap_err().contains("pending, retrying"));
    }

    #[test]
    fn one_is_replayed_by_its_id_and_many_by_tenant_and_state() {
        let id = "01981f40-1111-7000-8000-00000000c0de";
        let parses = |arguments: &[&str]| {
            let all = ["chancery", "inbox"].iter().chain(arguments);
            Cli::try_parse_from(all).is_ok()
        };
        assert!(parses(&["replay", id]));
        assert!(parses(&["replay", "--tenant", "suite", "--state", "dead", "--dry-run"]));
        assert!(!parses(&["replay"]));
        assert!(!parses(&["replay", "--tenant", "suite"]));
        assert!(!parses(&["replay", id, "--tenant", "suite", "--state", "dead"]));
        assert!(!parses(&["replay", id, "--dry-run"]));
        assert!(parses(&["discard", id, "--reason", "a test"]));
        assert!(!parses(&["discard", id]));
        assert!(parses(&["list", "--tenant", "/organizations/acme", "--from", "2026-03-31T00:00:00Z"]));
    }
}
