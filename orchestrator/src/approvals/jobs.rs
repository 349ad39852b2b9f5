//! What follows from a change: a private note in the conversation, a notice to the team, and the expiry on time.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use connector_chatwoot::NewNote;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shell_ui::Ui;

use super::{
    model::{Approval, ApprovalStatus},
    service::{self, ApprovalError},
    store,
};
use crate::{
    app::AppState,
    audit::{self, Change},
    config::Config,
    db::{TenantStatement, TenantTx},
    ids::ApprovalId,
    jobs::{self, Effect, Handler, Job, JobError, NewJob, Registry, enqueue},
    matrix,
    tools::Tools,
};

const EXPIRE: &str = "approvals.expire";
const NOTE: &str = "approvals.note";
const ATTRIBUTE: &str = "approvals.attribute";
const NOTICE: &str = "approvals.notice";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    approval_id: ApprovalId,
}

/// The kinds of this slice's jobs that do nothing with these tools and settings. All replicas have the same (docs/OPERATIONS.md): a job
/// for each approval that nobody needs would cost more than the rest of it.
pub fn unneeded_jobs(tools: &Tools, config: &Config) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    if tools.chatwoot.is_none() {
        kinds.push(NOTE);
    }
    if tools.chatwoot.is_none() || config.chatwoot.attribute.is_empty() {
        kinds.push(ATTRIBUTE);
    }
    if tools.matrix.is_none() {
        kinds.push(NOTICE);
    }
    kinds
}

/// The handlers of this slice's jobs.
pub fn handlers(registry: Registry) -> Registry {
    registry.with(EXPIRE, Expire).with(NOTE, Note).with(ATTRIBUTE, Attribute).with(NOTICE, Notice)
}

/// A note or a notice is about one state of an approval: repeated, it is the same.
fn effect_key(approval: &Approval) -> String {
    format!("{}:{}", approval.id, approval.status.as_str())
}

/// What follows from an approval as it is now: kinds of jobs and their keys, and when they run, where it isn't at once.
fn following(approval: &Approval) -> Vec<(&'static str, String, Option<DateTime<Utc>>)> {
    let mut jobs = Vec::new();
    if let Some(at) = approval.expires_at.filter(|_| approval.status == ApprovalStatus::Pending) {
        jobs.push((EXPIRE, approval.id.to_string(), Some(at)));
    }
    if is_from_chatwoot(approval) {
        jobs.push((NOTE, effect_key(approval), None));
        jobs.push((ATTRIBUTE, effect_key(approval), None));
    }
    jobs.push((NOTICE, effect_key(approval), None));
    jobs
}

/// The jobs that follow from an approval's request or outcome, to be written by `statement`.
pub(super) fn new_jobs(statement: &TenantStatement, approval: &Approval) -> Result<Vec<NewJob>, sqlx::Error> {
    let about = About { approval_id: approval.id };
    following(approval)
        .into_iter()
        .filter_map(|(kind, key, run_at)| NewJob::of(statement, kind, key, &about, run_at).transpose())
        .collect()
}

/// Enqueues what follows from an approval's request or outcome.
pub(super) async fn enqueue_following(tx: &mut TenantTx, approval: &Approval) -> Result<(), sqlx::Error> {
    let about = About { approval_id: approval.id };
    for (kind, key, run_at) in following(approval) {
        enqueue(tx, kind, &key, &about, run_at).await?;
    }
    Ok(())
}

pub(super) async fn cancel_expiry(tx: &mut TenantTx, approval: &Approval) -> Result<(), sqlx::Error> {
    if approval.expires_at.is_some() && approval.status != ApprovalStatus::Expired {
        jobs::cancel(tx, EXPIRE, &approval.id.to_string()).await?;
    }
    Ok(())
}

fn is_from_chatwoot(approval: &Approval) -> bool {
    // Only what came through our mirror: a caller of the API could name any conversation.
    approval.conversation_id.is_some()
        && approval.source.as_ref().is_some_and(|source| source.service == "chatwoot")
}

/// The approval that a job is about, in the state that it was enqueued for.
async fn subject(state: &AppState, job: &Job) -> Result<Option<(Approval, ApprovalStatus)>, JobError> {
    let about: About = job.read()?;
    let mut tx = state.database.worker_tx(job.tenant).await?;
    let Some(approval) = store::find(&mut tx, &[job.tenant], about.approval_id).await? else {
        return Ok(None);
    };
    let told = job.key.rsplit(':').next().unwrap_or_default();
    let status = [
        ApprovalStatus::Pending,
        ApprovalStatus::Approved,
        ApprovalStatus::Rejected,
        ApprovalStatus::Cancelled,
        ApprovalStatus::Expired,
    ]
    .into_iter()
    .find(|status| status.as_str() == told)
    .ok_or_else(|| JobError::Permanent("the key names no status".to_owned()))?;
    // That something waits is not worth telling once it doesn't: it would be the last word after the outcome. What was told
    // already, perhaps, has to be known all the same, so that it can be changed.
    let outdated = status == ApprovalStatus::Pending && approval.status != ApprovalStatus::Pending;
    let may_be_told = job.kind == NOTICE && job.is_repeat();
    Ok((!outdated || may_be_told).then_some((approval, status)))
}

fn link(state: &AppState, approval: &Approval) -> String {
    let path = format!("/app/t/{}/approvals/{}", approval.tenant_id, approval.id);
    state.config.http.public_url.join(&path).map_or(path, String::from)
}

/// One sentence on what happened, without markup.
fn sentence(ui: &Ui, approval: &Approval, status: ApprovalStatus) -> String {
    let (text, person) = match status {
        ApprovalStatus::Pending => ("note-pending", &approval.requested_by_name),
        ApprovalStatus::Approved => ("note-approved", &approval.approved_by_name),
        ApprovalStatus::Rejected => ("note-rejected", &approval.approved_by_name),
        ApprovalStatus::Cancelled => ("note-cancelled", &approval.requested_by_name),
        ApprovalStatus::Expired => return ui.t("note-expired"),
    };
    ui.t_with(text, "person", person.clone().unwrap_or_else(|| ui.t("somebody")))
}

/// How far an approval is, in a sentence without markup, and where it is.
pub fn in_words(state: &AppState, approval: &Approval) -> (String, String) {
    (sentence(&state.ui, approval, approval.status), link(state, approval))
}

/// What people wrote, for Markdown: no links, no markup of their making.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '[' | ']' | '<' | '>' | '*' | '_' | '`' | '#' | '!' | '|') {
            plain.push('\\');
        }
        plain.push(letter);
    }
    plain
}

/// The same on one line.
fn line(text: &str) -> String {
    plain(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The same as a quotation.
fn quoted(text: &str) -> String {
    text.lines().map(|line| format!("> {}", plain(line))).collect::<Vec<_>>().join("\n")
}

/// The account and the conversation in Chatwoot that an approval came from.
fn conversation_of(approval: &Approval) -> Result<(i64, i64), JobError> {
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<i64>().ok());
    let source = approval.source.as_ref();
    source
        .and_then(|source| number(&source.account).zip(number(&source.conversation)))
        .ok_or_else(|| JobError::Permanent("the source names no conversation".to_owned()))
}

struct Note;

#[async_trait]
impl Handler for Note {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let Some(chatwoot) = &state.tools.chatwoot else { return Ok(Effect::Nothing) };
        let Some((approval, status)) = subject(state, job).await? else { return Ok(Effect::Nothing) };
        let (account, conversation) = conversation_of(&approval)?;
        let mut content =
            format!("**{}**: {}", line(&sentence(&state.ui, &approval, status)), line(&approval.title));
        if let Some(comment) = approval.comment.as_deref().filter(|_| status != ApprovalStatus::Pending) {
            content = format!("{content}\n\n{}", quoted(comment));
        }
        let content = format!("{content}\n\n[{}]({})", state.ui.t("note-open"), link(state, &approval));
        // The same marker on each attempt: what was posted before a crash is found, not posted again.
        let source_id = format!("chancery:{}:{}", approval.id, status.as_str());
        let note = NewNote { content, source_id, content_attributes: serde_json::Map::new() };
        let message = chatwoot.write_note(job, account, conversation, &note).await?;

        let mut tx = state.database.worker_tx(job.tenant).await?;
        let change = Change {
            action: "approval.note_posted",
            resource: "approval",
            resource_id: approval.id.to_string(),
            old_values: None,
            new_values: Some(
                json!({ "service": "chatwoot", "conversation": conversation, "message": message.id, "status": status }),
            ),
            metadata: None,
        };
        audit::record(&mut tx, change).await?;
        job.complete(&mut tx).await?;
        tx.commit().await?;
        Ok(Effect::Committed)
    }
}

struct Notice;

#[async_trait]
impl Handler for Notice {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let Some(homeserver) = &state.tools.matrix else { return Ok(Effect::Nothing) };
        let Some((approval, status)) = subject(state, job).await? else { return Ok(Effect::Nothing) };
        let mut tx = state.database.worker_tx(job.tenant).await?;
        let first_key = format!("{}:{}", approval.id, ApprovalStatus::Pending.as_str());
        if status != ApprovalStatus::Pending && jobs::is_begun(&mut tx, NOTICE, &first_key).await? {
            let message = "the first notice is on its way, and this changes it".to_owned();
            return Err(JobError::Retry { after: None, message });
        }
        let earlier = store::notice(&mut tx, job.tenant, approval.id).await?;
        drop(tx);
        let (what, link) = (sentence(&state.ui, &approval, status), link(state, &approval));
        let notice = matrix::Notice { what: &what, title: &approval.title, link: &link };
        let replaces = earlier.is_some();
        let Some(posted) =
            matrix::post(state, homeserver, job, matrix::Purpose::Approvals, &notice, earlier).await?
        else {
            return Ok(Effect::Nothing);
        };

        let mut tx = state.database.worker_tx(job.tenant).await?;
        let change = Change {
            action: "approval.notice_sent",
            resource: "approval",
            resource_id: approval.id.to_string(),
            old_values: None,
            new_values: Some(
                json!({ "service": "matrix", "room": posted.room, "event": posted.notice, "status": status, "replaces": replaces }),
            ),
            metadata: None,
        };
        audit::record(&mut tx, change).await?;
        store::remember_notice(&mut tx, job.tenant, approval.id, &posted).await?;
        job.complete(&mut tx).await?;
        tx.commit().await?;
        Ok(Effect::Committed)
    }
}

/// Says by a custom attribute of the conversation how its approval stands. Apart from the note: what keeps one out is no reason for the
/// other to be late.
struct Attribute;

#[async_trait]
impl Handler for Attribute {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let name = &state.config.chatwoot.attribute;
        let Some(chatwoot) = state.tools.chatwoot.as_ref().filter(|_| !name.is_empty()) else {
            return Ok(Effect::Nothing);
        };
        let about: About = job.read()?;
        let mut written = None;
        loop {
            let mut tx = state.database.worker_tx(job.tenant).await?;
            let Some(approval) = store::find(&mut tx, &[job.tenant], about.approval_id).await? else {
                return Ok(Effect::Nothing);
            };
            // How it stands now, whatever the job was enqueued for, and once more where it has changed meanwhile: whoever writes last
            // has looked afterwards, so that no older word stays.
            if written == Some(approval.status) {
                job.complete(&mut tx).await?;
                tx.commit().await?;
                return Ok(Effect::Committed);
            }
            drop(tx);
            let (account, conversation) = conversation_of(&approval)?;
            let told = serde_json::Map::from_iter([(name.clone(), json!(approval.status))]);
            chatwoot.account(account).merge_custom_attributes(conversation, &told).await?;
            written = Some(approval.status);
        }
    }
}

struct Expire;

#[async_trait]
impl Handler for Expire {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let about: About = job.read()?;
        let mut tx = state.database.worker_tx(job.tenant).await?;
        job.complete(&mut tx).await?;
        match service::expire(&mut tx, job.tenant, about.approval_id).await {
            Ok(_) => {}
            Err(ApprovalError::Database(error)) => return Err(JobError::Database(error)),
            Err(error) => return Err(JobError::Permanent(error.to_string())),
        }
        tx.commit().await?;
        Ok(Effect::Committed)
    }
}
