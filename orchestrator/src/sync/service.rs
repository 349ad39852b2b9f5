use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use connector_core::ConnectorError;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    apply::{Ended, Journal, Note, Outcome, apply},
    model::{Action, Level, Policy, Recorded, Scope, ScopePath, Step, Wanted},
    plan::{Plan, plan},
    store,
    tool::{Realm, Tool},
};
use crate::{
    audit::record_values,
    db::{Database, TenantTx},
    directory::DirectoryError,
    http::problem::ErrorChain,
    ids::TenantId,
    sources::SourceError,
};

/// Why a plan can't be made or carried out.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The tool can't be read; nothing was done.
    #[error("the tool can't be read")]
    Tool(#[from] ConnectorError),
    /// The database can't be asked, or says no. What was done is found by the next plan.
    #[error("the database can't be asked")]
    Database(#[from] sqlx::Error),
    /// Keycloak can't be read completely; nothing was done.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It can't be read whose an account is; nothing was done.
    #[error("the sources can't be read")]
    Sources(#[from] SourceError),
    /// Something can't be written as JSON.
    #[error("the plan can't be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// A plan, with what it was made from.
#[derive(Debug)]
pub struct Prepared {
    /// What is wanted.
    pub wanted: Wanted,
    /// What we know.
    pub recorded: Recorded,
    /// What is to be done.
    pub plan: Plan,
}

/// What we know of a tool.
async fn recorded(database: &Database, tool: &str) -> Result<Recorded, sqlx::Error> {
    let suite = TenantId::SUITE;
    let mut tx = database.worker_tx(suite).await?;
    let links = store::links(&mut tx, suite.0, tool).await?;
    let contacted = store::was_contacted(&mut tx, suite.0, tool).await?;
    drop(tx);
    let grants = store::grants(&mut database.system_tx().await?, tool).await?;
    Ok(Recorded { contacted, links, grants, accepted: BTreeSet::new() })
}

/// Makes a tool's plan of what Keycloak says, what the tool has, and what we know.
///
/// # Errors
/// [`SyncError`]; then there is no plan.
pub async fn prepare(
    database: &Database,
    tool: &dyn Tool,
    realm: Realm,
    policy: &Policy,
) -> Result<Prepared, SyncError> {
    let recorded = recorded(database, tool.name()).await?;
    let wanted = tool.wants(realm);
    let linked = recorded.links.values().map(|link| link.account.clone()).collect();
    let observed = tool.observe(&wanted.scopes, &linked).await?;
    let plan = plan(tool.name(), &wanted, &observed, &recorded, policy);
    Ok(Prepared { wanted, recorded, plan })
}

/// Carries a plan out, or of it the steps at the places in `only`, with its journal and its entries in the trail. One process at a
/// time may.
///
/// # Errors
/// [`SyncError`]; what was done until then is found by the next plan.
pub async fn carry_out(
    database: &Database,
    tool: &dyn Tool,
    mut prepared: Prepared,
    only: Option<&BTreeSet<usize>>,
) -> Result<Outcome, SyncError> {
    let plan = &prepared.plan;
    let digest = plan.digest()?.to_string();
    let mut tx = database.worker_tx(TenantId::SUITE).await?;
    let id = tx.new_id();
    store::begin_plan(&mut tx, TenantId::SUITE.0, id, tool.name(), &digest, &serde_json::to_value(plan)?)
        .await?;
    let begun =
        json!({ "tool": tool.name(), "digest": digest, "steps": plan.steps.len(), "held": plan.held });
    record_values(&mut tx, "sync.plan_begun", "sync_plan", id.to_string(), None, Some(begun)).await?;
    tx.commit().await?;

    let mut journal = Stored { database, tool, plan: id, scopes: &prepared.wanted.scopes };
    let outcome = apply(tool, plan, only, &mut prepared.recorded, &mut journal).await?;

    let counts = json!({
        "done": outcome.done, "alreadySo": outcome.already_so, "failed": outcome.failed, "skipped": outcome.skipped,
    });
    let mut tx = database.worker_tx(TenantId::SUITE).await?;
    store::end_plan(&mut tx, TenantId::SUITE.0, id, &counts).await?;
    record_values(&mut tx, "sync.plan_ended", "sync_plan", id.to_string(), None, Some(counts)).await?;
    tx.commit().await?;
    Ok(outcome)
}

/// A plan's journal in the database: a step's end and what is known then are written together.
struct Stored<'a> {
    database: &'a Database,
    tool: &'a dyn Tool,
    plan: Uuid,
    scopes: &'a BTreeMap<ScopePath, Scope>,
}

impl Stored<'_> {
    /// Whose a step is.
    fn tenant(&self, action: &Action) -> TenantId {
        match action {
            Action::Set { scope, .. } | Action::Adopt { scope, .. } | Action::Forget { scope, .. } => {
                self.scopes.get(scope).map_or(TenantId::SUITE, |scope| scope.tenant)
            }
            Action::Link { .. } | Action::Create { .. } | Action::Update { .. } => TenantId::SUITE,
        }
    }

    fn named(&self, level: Option<Level>) -> Value {
        level.map_or(Value::Null, |level| json!(self.tool.level_name(level)))
    }

    async fn keep(
        &self,
        tx: &mut TenantTx,
        tenant: TenantId,
        step: &Step,
        note: &Note,
    ) -> Result<(), sqlx::Error> {
        let tool = self.tool.name();
        let from = match &step.action {
            Action::Set { from, .. } => *from,
            _ => None,
        };
        match note {
            Note::Linked { person, link } => {
                store::put_link(tx, tenant.0, tool, *person, link).await?;
                let new = json!({ "tool": tool, "account": link.account, "evidence": link.evidence });
                record_values(tx, "sync.linked", "sync_link", person.to_string(), None, Some(new)).await
            }
            Note::Granted { person, account, scope, level } => {
                let grant = store::Grant { account, scope, person: *person, level: *level, plan: self.plan };
                store::put_grant(tx, tenant.0, tool, &grant).await?;
                let old = json!({ "role": self.named(from) });
                let new = json!({
                    "tool": tool, "account": account, "scope": scope, "role": self.named(Some(*level)), "because": step.cause,
                });
                record_values(tx, "sync.granted", "sync_grant", person.to_string(), Some(old), Some(new))
                    .await
            }
            Note::Gone { account, scope } => {
                store::delete_grant(tx, tool, account, scope).await?;
                let old = json!({ "role": self.named(from) });
                let new = json!({ "tool": tool, "account": account, "scope": scope, "because": step.cause });
                let whose = match &step.action {
                    Action::Set { person, .. } => person.to_string(),
                    _ => account.to_string(),
                };
                record_values(tx, "sync.revoked", "sync_grant", whose, Some(old), Some(new)).await
            }
        }
    }
}

#[async_trait]
impl Journal for Stored<'_> {
    type Error = SyncError;

    async fn begin(&mut self, place: usize, step: &Step) -> Result<(), SyncError> {
        let tenant = self.tenant(&step.action);
        let mut tx = self.database.worker_tx(tenant).await?;
        store::begin_step(&mut tx, tenant.0, self.plan, place, &serde_json::to_value(step)?).await?;
        Ok(tx.commit().await?)
    }

    async fn end(
        &mut self,
        place: usize,
        step: &Step,
        ended: &Ended,
        note: Option<&Note>,
    ) -> Result<(), SyncError> {
        let tenant = self.tenant(&step.action);
        let written = serde_json::to_value(step)?;
        let error = match ended {
            Ended::Failed(error) => {
                let told = ErrorChain(error).to_string();
                tracing::warn!(plan = %self.plan, place, error = told, "a step could not be taken; the next plan has it again");
                Some(told)
            }
            Ended::Done | Ended::AlreadySo | Ended::Skipped => None,
        };
        let mut tx = self.database.worker_tx(tenant).await?;
        store::end_step(&mut tx, tenant.0, self.plan, (place, &written), ended.as_str(), error.as_deref())
            .await?;
        if let Some(note) = note {
            self.keep(&mut tx, tenant, step, note).await?;
        }
        if let (Action::Update { person, account, .. }, Ended::Done) = (&step.action, ended) {
            let new = json!({ "tool": self.tool.name(), "account": account });
            record_values(&mut tx, "sync.profile_updated", "sync_link", person.to_string(), None, Some(new))
                .await?;
        }
        Ok(tx.commit().await?)
    }
}
