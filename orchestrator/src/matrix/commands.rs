//! Questions to the bot in a tenant's room for approvals: `!approvals`, and `!status` with an approval's id. Decisions aren't made
//! here: in the shell, who decides has proven who they are.

use std::sync::Arc;

use async_trait::async_trait;
use connector_matrix::{RoomId, UserId, escape_html};
use serde::{Deserialize, Serialize};

use super::store;
use crate::{
    app::AppState,
    approvals::{self, Approval, ApprovalFilter, ApprovalStatus},
    auth::{Permission, Principal, PrincipalError, PrincipalSource as _, Resource, can},
    ids::{self, ApprovalId, TenantId},
    jobs::{Effect, Handler, Job, JobError, Registry},
    tools::Matrix,
};

/// The job's kind.
pub const COMMAND: &str = "matrix.command";
/// The most approvals that an answer lists.
const MOST_LISTED: u32 = 20;

/// A message that asks the bot something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomCommand {
    /// Where it was said.
    pub room: RoomId,
    /// By whom.
    pub sender: UserId,
    /// What.
    pub question: Question,
}

/// What the bot can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Question {
    /// What waits for a decision in the room's tenant.
    Approvals,
    /// How far one approval is.
    Status(String),
}

impl Question {
    /// The question that a message asks; none where it asks none.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        match (words.next()?, words.next(), words.next()) {
            ("!approvals", None, None) => Some(Self::Approvals),
            // What no id has, the database couldn't even keep.
            ("!status", Some(id), None)
                if id.len() <= 200 && id.chars().all(|letter| letter.is_ascii_graphic()) =>
            {
                Some(Self::Status(id.to_owned()))
            }
            _ => None,
        }
    }
}

/// The handlers of these jobs.
pub(super) fn handlers(registry: Registry) -> Registry {
    registry.with(COMMAND, Answer)
}

struct Answer;

#[async_trait]
impl Handler for Answer {
    async fn run(&self, state: &AppState, job: &Job) -> Result<Effect, JobError> {
        let Some(homeserver) = &state.tools.matrix else { return Ok(Effect::Nothing) };
        let command: RoomCommand = job.read()?;
        // Whoever isn't known, in a room that isn't known, gets no answer: it would tell that there is something.
        let Some((principal, tenant)) = asker(state, homeserver, job, &command).await? else {
            return Ok(Effect::Nothing);
        };
        let (plain, html) = answer(state, &principal, tenant, &command.question).await?;
        // The homeserver knows a transaction id again: one answer, however often it is sent.
        let transaction = format!("chancery-{}", job.id);
        homeserver.client.send_notice(&command.room, &transaction, &plain, Some(&html)).await?;
        Ok(Effect::Nothing)
    }
}

/// Who asks, and in which tenant's room: somebody who is in it and may read the tenant's approvals.
async fn asker(
    state: &AppState,
    homeserver: &Matrix,
    job: &Job,
    command: &RoomCommand,
) -> Result<Option<(Arc<Principal>, TenantId)>, JobError> {
    let found = store::tenant_of(&mut state.database.system().await?, &command.room).await?;
    let Some(tenant) = found else { return Ok(None) };
    // The suite's source speaks for all rooms, a tenant's own for its own.
    if job.tenant != TenantId::SUITE && job.tenant != tenant {
        return Ok(None);
    }
    // Names are the homeserver's own: another one's user may be called like anybody.
    if command.sender.server_name() != homeserver.client.sender().server_name() {
        return Ok(None);
    }
    let membership = homeserver.client.membership(&command.room, &command.sender).await?;
    if membership != connector_matrix::Membership::Join {
        return Ok(None);
    }
    let Some(user) = person(state, homeserver, tenant, &command.sender).await? else { return Ok(None) };
    let principal = match state.directory.principal(user).await {
        Ok(principal) => principal,
        Err(PrincipalError::Unknown) => return Ok(None),
        Err(error @ PrincipalError::Unavailable(_)) => {
            return Err(JobError::Retry { after: None, message: error.to_string() });
        }
    };
    let may_read = can(&principal, Permission::ApprovalRead, &Resource::of(tenant)).is_allowed();
    Ok(may_read.then_some((principal, tenant)))
}

/// Who in Keycloak a user of the homeserver's is: whom it signed in, where the homeserver tells; else who has the name.
async fn person(
    state: &AppState,
    homeserver: &Matrix,
    tenant: TenantId,
    sender: &UserId,
) -> Result<Option<ids::UserId>, JobError> {
    let provider = &state.config.matrix.identity_provider;
    if provider.is_empty() {
        let mut tx = state.database.worker_tx(tenant).await?;
        return Ok(store::person(&mut tx, tenant, sender.localpart()).await?);
    }
    let known = homeserver.client.external_ids(sender).await?;
    let mut ids = known.into_iter().filter(|known| known.auth_provider == *provider);
    // Who signs in as two people is neither for certain.
    Ok(match (ids.next(), ids.next()) {
        (Some(known), None) => known.external_id.parse().ok(),
        _ => None,
    })
}

/// The answer, as text and as HTML.
async fn answer(
    state: &AppState,
    principal: &Arc<Principal>,
    tenant: TenantId,
    question: &Question,
) -> Result<(String, String), JobError> {
    let mut tx = state.database.tenant_tx_in(Arc::clone(principal), tenant).await?;
    let ui = &state.ui;
    match question {
        Question::Approvals => {
            let filter = ApprovalFilter {
                tenants: vec![tenant],
                status: Some(ApprovalStatus::Pending),
                limit: MOST_LISTED,
                ..ApprovalFilter::default()
            };
            let page = approvals::page_with_names(&mut tx, &filter).await?;
            if page.items.is_empty() {
                let nothing = ui.t("command-nothing-waits");
                return Ok((nothing.clone(), escape_html(&nothing).into_owned()));
            }
            let heading =
                ui.t(if page.next_cursor.is_some() { "command-latest-wait" } else { "command-waits" });
            let (mut plain, mut html) = (heading.clone(), format!("{}<ul>", escape_html(&heading)));
            for approval in &page.items {
                let (text, item) = line(state, approval);
                plain.extend(["\n• ", &text]);
                html.extend(["<li>", &item, "</li>"]);
            }
            html.push_str("</ul>");
            Ok((plain, html))
        }
        Question::Status(id) => {
            let found = match id.parse::<ApprovalId>() {
                Ok(id) => match approvals::find(&mut tx, id).await {
                    Ok(found) => Some(found),
                    Err(approvals::ApprovalError::Database(error)) => return Err(error.into()),
                    Err(_) => None,
                },
                Err(_) => None,
            };
            // One of another tenant isn't here, even where who asks is in both: others read this room, too.
            Ok(found.filter(|approval| approval.tenant_id == tenant).map_or_else(
                || {
                    let unknown = ui.t("command-unknown");
                    (unknown.clone(), escape_html(&unknown).into_owned())
                },
                |approval| line(state, &approval),
            ))
        }
    }
}

/// An approval in a line.
fn line(state: &AppState, approval: &Approval) -> (String, String) {
    let (what, link) = approvals::in_words(state, approval);
    let (bold, href, text) = (escape_html(&what), escape_html(&link), escape_html(&approval.title));
    let html = format!("<strong>{bold}</strong>: <a href=\"{href}\">{text}</a>");
    (format!("{what}: {} {link}", approval.title), html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_exactly_is_a_question() {
        assert_eq!(Question::read(" !approvals \n"), Some(Question::Approvals));
        assert_eq!(Question::read("!status abc"), Some(Question::Status("abc".to_owned())));
        for other in [
            "",
            "approvals",
            "!approvals all",
            "!status",
            "!status a b",
            "!approve abc",
            "tell me !approvals",
        ] {
            assert_eq!(Question::read(other), None, "{other}");
        }
        assert_eq!(Question::read(&format!("!status {}", "a".repeat(201))), None);
    }
}
