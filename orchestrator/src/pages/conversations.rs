use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::IntoResponse as _,
};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use shell_ui::{
    ConversationRow, FieldErrors,
    pages::{ConversationPage, ConversationsPage, EscalateForm},
};

use super::{
    PageResult,
    chrome::{FlashQuery, Place},
    form::{PageForm, Rule, check, with_query},
    page, rows,
};
use crate::{
    app::AppState,
    approvals::{self, ApprovalError, ApprovalStatus, MAX_TITLE},
    auth::Permission,
    conversations::{self, EscalateError, Escalation, MAX_REASON, Opened},
    db::TenantTx,
    http::{
        Problem, ProblemResult,
        extract::{ApiPath, ApiQuery},
        page::{DEFAULT_LIMIT, TimedPosition},
    },
    ids::{ConversationId, TenantId},
};

const MODULE: &str = "conversations";

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    status: Option<String>,
    cursor: Option<String>,
}

/// The conversations, those that changed last first.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> PageResult {
    place.require(Permission::ConversationRead)?;
    // An unknown status is none: the page says so by what its filter shows.
    let status = query.status.as_deref().and_then(shell_ui::ConversationStatus::parse);
    let before = TimedPosition::read(query.cursor.as_deref())?;
    let (tenant, ui) = (place.tenant.id, &state.ui);
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, None).await?;
    let status_name = status.map(shell_ui::ConversationStatus::as_str);
    let found =
        conversations::page_of(&mut tx, &state.tools, tenant, status_name, before, DEFAULT_LIMIT).await?;
    let ids: Vec<ConversationId> = found.items.iter().map(|conversation| conversation.id).collect();
    let pending = if place.may(Permission::ApprovalRead) {
        approvals::pending_among(&mut tx, tenant, &ids).await?
    } else {
        std::collections::HashSet::new()
    };
    let (now, path) = (tx.now(), place.href(MODULE));
    let conversations = found
        .items
        .into_iter()
        .map(|conversation| ConversationRow {
            id: conversation.id.to_string(),
            display_id: u64::try_from(conversation.display_id).unwrap_or(0),
            contact: rows::name_or_somebody(ui, conversation.contact_name.as_deref()),
            inbox: conversation.inbox_name.unwrap_or(conversation.service),
            status: rows::conversation_status(&conversation.status),
            labels: conversation.labels,
            last_message: beginning(conversation.last_message.unwrap_or_default()),
            last_message_at: conversation.last_message_at.map(|at| ui.time(at, now)),
            approval_pending: pending.contains(&conversation.id),
        })
        .collect();
    let shown = ConversationsPage {
        chrome,
        status,
        conversations,
        older_href: found
            .next_cursor
            .map(|cursor| with_query(&path, &[("status", status_name), ("cursor", Some(&cursor))])),
        newest_href: before.map(|_| with_query(&path, &[("status", status_name)])),
    };
    page(StatusCode::OK, &shown)
}

/// Enough of a message for a line of a list: a long one would make the page heavy.
fn beginning(message: String) -> String {
    const ENOUGH: usize = 300;
    match message.char_indices().nth(ENOUGH) {
        Some((at, _)) => format!("{}…", message.get(..at).unwrap_or_default()),
        None => message,
    }
}

/// One conversation, with the form to escalate it.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ConversationId)>,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    render(&state, &place, id, StatusCode::OK, query.flash.as_deref(), EscalateForm::default()).await
}

async fn render(
    state: &AppState,
    place: &Place,
    id: ConversationId,
    status: StatusCode,
    flash: Option<&str>,
    form: EscalateForm,
) -> PageResult {
    place.require(Permission::ConversationRead)?;
    let (tenant, ui) = (place.tenant.id, &state.ui);
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, flash).await?;
    let found = conversations::find(&mut tx, &state.tools, id).await.map_err(conversations::problem)?;
    if found.tenant_id != tenant {
        return Err(Problem::not_found());
    }
    let history = if place.may(Permission::ApprovalRead) {
        approvals::history_of_conversation(&mut tx, tenant, id).await?
    } else {
        Vec::new()
    };
    let is_pending = history.iter().any(|approval| approval.status == ApprovalStatus::Pending);
    let blocked = blocked(place, &mut tx, is_pending).await?.map(|reason| ui.t(reason));
    let now = tx.now();
    let shown = ConversationPage {
        chrome,
        id: found.id.to_string(),
        display_id: u64::try_from(found.display_id).unwrap_or(0),
        contact: rows::name_or_somebody(ui, found.contact_name.as_deref()),
        contact_detail: None,
        inbox: found.inbox_name.unwrap_or(found.service),
        status: rows::conversation_status(&found.status),
        labels: found.labels,
        last_message: found.last_message.unwrap_or_default(),
        last_message_at: found.last_message_at.map(|at| ui.time(at, now)),
        opens: found.link.is_some(),
        approvals: rows::approvals(place, &mut tx, ui, history).await?,
        escalate: Some(EscalateForm { blocked, ..form }),
    };
    page(status, &shown)
}

/// The text that says why the conversation can't be escalated now, if it can't.
async fn blocked(place: &Place, tx: &mut TenantTx, is_pending: bool) -> ProblemResult<Option<&'static str>> {
    if is_pending {
        return Ok(Some("blocked-already-pending"));
    }
    why_no_request(place, tx).await
}

/// The text that says why the visitor can't request an approval here, if they can't.
pub(super) async fn why_no_request(place: &Place, tx: &mut TenantTx) -> ProblemResult<Option<&'static str>> {
    if !place.may(Permission::ApprovalRequest) {
        return Ok(Some("blocked-may-not-request"));
    }
    let decidable = approvals::has_another_decider(tx, place.tenant.id, place.visitor.id).await?;
    Ok((!decidable).then_some("blocked-no-approver"))
}

/// Escalates a conversation.
pub(super) async fn escalate(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ConversationId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::ConversationRead)?;
    let ui = &state.ui;
    let (reason, title) = (sent.text("reason"), sent.text("title"));
    let priority = rows::read_priority(&sent.text("priority"));
    let mut errors = check(
        ui,
        FieldErrors::default(),
        "reason",
        &reason,
        Rule { required: true, lines: true, limit: MAX_REASON },
    );
    errors = check(ui, errors, "title", &title, Rule { required: false, lines: false, limit: MAX_TITLE });
    if priority.is_none() {
        errors = errors.with("priority", ui.t("error-choice"));
    }
    let consultation_requested = sent.is_checked("consultation_requested");
    let priority = priority.unwrap_or_default();
    let form = EscalateForm {
        reason: reason.clone(),
        title: title.clone(),
        priority: rows::priority(priority),
        consultation_requested,
        blocked: None,
        errors,
    };
    if !form.errors.is_empty() {
        return render(&state, &place, id, StatusCode::UNPROCESSABLE_ENTITY, None, form).await;
    }
    let title = Some(title.trim().to_owned()).filter(|title| !title.is_empty());
    let escalation = Escalation {
        reason: reason.trim().to_owned(),
        title,
        priority,
        consultation_requested,
        message: None,
    };
    let mut tx = place.begin(&state).await?;
    // The path names the tenant: a conversation of another one isn't here, even where the visitor is in both.
    let conversation =
        conversations::find(&mut tx, &state.tools, id).await.map_err(conversations::problem)?;
    if conversation.tenant_id != place.tenant.id {
        return Err(Problem::not_found());
    }
    let Err(refused) = conversations::escalate(&mut tx, &state, id, escalation).await else {
        tx.commit().await?;
        return Ok(place.see_other(&format!("{MODULE}/{id}"), "escalated"));
    };
    drop(tx);
    let (status, flash) = match refused {
        EscalateError::Approval(ApprovalError::AlreadyPending(_)) => {
            (StatusCode::CONFLICT, Some("already-pending"))
        }
        EscalateError::Approval(ApprovalError::NoApprover) => (StatusCode::UNPROCESSABLE_ENTITY, None),
        EscalateError::Approval(ApprovalError::Forbidden) => (StatusCode::FORBIDDEN, Some("not-allowed")),
        error => return Err(conversations::problem(error)),
    };
    render(&state, &place, id, status, flash, form).await
}

/// Leads into the tool, signed in there where that can be.
pub(super) async fn open(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ConversationId)>,
) -> PageResult {
    place.require(Permission::ConversationRead)?;
    let tx = place.begin(&state).await?;
    let opened =
        conversations::open(tx, &state, place.tenant.id, id).await.map_err(conversations::problem)?;
    let mut to = match &opened {
        Opened::SignedIn(link) => HeaderValue::from_str(link.expose_secret()),
        Opened::Plain(link) => HeaderValue::from_str(link.as_str()),
    }
    .map_err(|error| Problem::internal(&error))?;
    to.set_sensitive(true);
    // The link signs in: nobody on the way keeps it, and the tool's pages aren't told where it was.
    Ok((
        StatusCode::SEE_OTHER,
        [
            (header::LOCATION, to),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ],
    )
        .into_response())
}
