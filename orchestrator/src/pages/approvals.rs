use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use chrono::TimeDelta;
use serde::Deserialize;
use shell_ui::{
    ConversationContext, Fact, FieldErrors, HistoryEntry, HistoryKind, LinkTo,
    pages::{ApprovalPage, ApprovalsPage, Decision as Decide, DecisionForm, NewApprovalPage},
};

use super::{
    PageResult,
    chrome::{FlashQuery, Place},
    conversations::why_no_request,
    form::{PageForm, Rule, check, with_query},
    page, rows,
};
use crate::{
    app::AppState,
    approvals::{
        self, Approval, ApprovalError, ApprovalFilter, ApprovalStatus, MAX_COMMENT, MAX_DESCRIPTION,
        MAX_TITLE, NewApproval, Priority, Verdict,
    },
    audit::{self, AuditFilter},
    auth::{Decision, Permission, Resource, can, routes, session::Draft},
    consultations::{self, Consultation, ConsultationStatus},
    conversations,
    db::TenantTx,
    http::{
        Problem, ProblemResult,
        etag::IfMatch,
        extract::{ApiPath, ApiQuery},
        page::{DEFAULT_LIMIT, read_cursor},
    },
    ids::{ApprovalId, TenantId},
    tenants,
};

const MODULE: &str = "approvals";
/// The most entries of the trail that are read for an approval's history.
const HISTORY: u32 = 50;

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    status: Option<ApprovalStatus>,
    priority: Option<Priority>,
    cursor: Option<String>,
}

/// The approvals, newest first; those of a page that are pending come before the others.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> PageResult {
    place.require(Permission::ApprovalRead)?;
    let before = read_cursor(query.cursor.as_deref())?.map(ApprovalId);
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, None).await?;
    let filter = ApprovalFilter {
        tenants: vec![place.tenant.id],
        status: query.status,
        priority: query.priority,
        before,
        limit: DEFAULT_LIMIT,
    };
    let mut found = approvals::page_with_names(&mut tx, &filter).await?;
    found.items.sort_by_key(|approval| approval.status != ApprovalStatus::Pending);
    let chosen = [
        ("status", query.status.map(ApprovalStatus::as_str)),
        ("priority", query.priority.map(Priority::as_str)),
    ];
    let path = place.href(MODULE);
    let shown = ApprovalsPage {
        chrome,
        filter: shell_ui::ApprovalFilter {
            status: query.status.map(rows::approval_status),
            priority: query.priority.map(rows::priority),
        },
        approvals: rows::approvals(&place, &mut tx, &state.ui, found.items).await?,
        older_href: found.next_cursor.map(|cursor| {
            let [status, priority] = chosen;
            with_query(&path, &[status, priority, ("cursor", Some(&cursor))])
        }),
        newest_href: before.map(|_| with_query(&path, &chosen)),
        may_request: place.may(Permission::ApprovalRequest),
    };
    page(StatusCode::OK, &shown)
}

/// What a new approval's form has in it.
#[derive(Debug, Default)]
struct NewForm {
    title: String,
    description: String,
    priority: Priority,
    expires_in_hours: String,
    consultation_requested: bool,
    errors: FieldErrors,
}

/// The form for a new approval.
pub(super) async fn new(State(state): State<AppState>, place: Place) -> PageResult {
    render_new(&state, &place, StatusCode::OK, NewForm::default()).await
}

async fn render_new(state: &AppState, place: &Place, status: StatusCode, form: NewForm) -> PageResult {
    place.require(Permission::ApprovalRead)?;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, None).await?;
    let blocked = why_no_request(place, &mut tx).await?.map(|reason| state.ui.t(reason));
    let shown = NewApprovalPage {
        chrome,
        title: form.title,
        description: form.description,
        priority: rows::priority(form.priority),
        expires_in_hours: form.expires_in_hours,
        consultation_requested: form.consultation_requested,
        blocked,
        errors: form.errors,
    };
    page(status, &shown)
}

/// The hours that the form offers; none for no limit.
fn read_hours(sent: &str) -> Result<Option<TimeDelta>, ()> {
    match sent {
        "" => Ok(None),
        "4" | "24" | "72" | "168" => Ok(sent.parse().ok().map(TimeDelta::hours)),
        _ => Err(()),
    }
}

/// Requests an approval.
pub(super) async fn create(State(state): State<AppState>, place: Place, sent: PageForm) -> PageResult {
    place.require(Permission::ApprovalRead)?;
    let ui = &state.ui;
    let (title, description) = (sent.text("title"), sent.text("description"));
    let (priority, hours) = (rows::read_priority(&sent.text("priority")), sent.text("expires_in_hours"));
    let mut errors = check(
        ui,
        FieldErrors::default(),
        "title",
        &title,
        Rule { required: true, lines: false, limit: MAX_TITLE },
    );
    errors = check(
        ui,
        errors,
        "description",
        &description,
        Rule { required: false, lines: true, limit: MAX_DESCRIPTION },
    );
    if priority.is_none() {
        errors = errors.with("priority", ui.t("error-choice"));
    }
    let expires_in = read_hours(&hours);
    if expires_in.is_err() {
        errors = errors.with("expires_in_hours", ui.t("error-choice"));
    }
    let form = NewForm {
        title,
        description,
        priority: priority.unwrap_or_default(),
        expires_in_hours: hours,
        consultation_requested: sent.is_checked("consultation_requested"),
        errors,
    };
    let Some(expires_in) = expires_in.ok().filter(|_| form.errors.is_empty()) else {
        return render_new(&state, &place, StatusCode::UNPROCESSABLE_ENTITY, form).await;
    };
    let mut tx = place.begin(&state).await?;
    let new = NewApproval {
        title: form.title.trim().to_owned(),
        description: form.description.trim().to_owned(),
        priority: form.priority,
        metadata: serde_json::Value::Object(serde_json::Map::new()),
        source: None,
        conversation_id: None,
        consultation_requested: form.consultation_requested,
        expires_at: expires_in.map(|hours| tx.now() + hours),
    };
    match approvals::request(&mut tx, place.tenant.id, new).await {
        Ok(approval) => {
            tx.commit().await?;
            Ok(place.see_other(&format!("{MODULE}/{}", approval.id), "requested"))
        }
        // The page says why, instead of the form.
        Err(error @ (ApprovalError::NoApprover | ApprovalError::Forbidden)) => {
            drop(tx);
            render_new(&state, &place, approvals::problem(error).status(), form).await
        }
        Err(error) => Err(approvals::problem(error)),
    }
}

/// One approval, with the form to decide it.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ApprovalId)>,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    let form = restored(&place, id);
    render(&state, &place, id, StatusCode::OK, query.flash.as_deref(), form).await
}

async fn find(place: &Place, tx: &mut TenantTx, id: ApprovalId) -> ProblemResult<Approval> {
    let found = approvals::find(tx, id).await.map_err(approvals::problem)?;
    // The path names the tenant: an approval of another one isn't here, even where the visitor is in both.
    if found.tenant_id == place.tenant.id { Ok(found) } else { Err(Problem::not_found()) }
}

async fn render(
    state: &AppState,
    place: &Place,
    id: ApprovalId,
    status: StatusCode,
    flash: Option<&str>,
    form: Option<DecisionForm>,
) -> PageResult {
    place.require(Permission::ApprovalRead)?;
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, flash).await?;
    let approval = find(place, &mut tx, id).await?;
    let consultation = consultation_of(place, &mut tx, &approval).await?;
    let history = history(state, place, &mut tx, &approval, consultation.as_ref()).await?;
    let conversation = context(state, place, &mut tx, &approval).await?;
    let resource = Resource { requested_by: Some(approval.requested_by), ..Resource::of(approval.tenant_id) };
    let is_pending = approval.status == ApprovalStatus::Pending;
    let decision = match can(&place.visitor, Permission::ApprovalDecide, &resource) {
        _ if !is_pending => Decide::Closed,
        Decision::Allowed => Decide::Open(form.unwrap_or(DecisionForm {
            consultation: approval.consultation_requested,
            ..DecisionForm::default()
        })),
        Decision::OwnRequest => Decide::Blocked(ui.t("blocked-own-request")),
        _ => Decide::Blocked(ui.t("blocked-not-approver")),
    };
    let may_cancel = is_pending
        && place.is(approval.requested_by)
        && can(&place.visitor, Permission::ApprovalCancel, &resource).is_allowed();
    let now = tx.now();
    let shown = ApprovalPage {
        chrome,
        id: approval.id.to_string(),
        status: rows::approval_status(approval.status),
        priority: rows::priority(approval.priority),
        requested_by: rows::name_or_somebody(ui, approval.requested_by_name.as_deref()),
        decided_by: approval
            .approved_by
            .map(|_| rows::name_or_somebody(ui, approval.approved_by_name.as_deref())),
        consultation_requested: approval.consultation_requested,
        created: ui.time(approval.created_at, now),
        decided: approval.decided_at.map(|at| ui.time(at, now)),
        expires: approval.expires_at.map(|at| ui.time(at, now)),
        version: u64::try_from(approval.version).unwrap_or(0),
        conversation,
        consultation: consultation.map(|consultation| LinkTo {
            href: place.href(&format!("consultations/{}", consultation.id)),
            title: consultation.title,
        }),
        metadata: facts(&approval.metadata),
        history,
        decision,
        may_cancel,
        title: approval.title,
        description: approval.description,
        comment: approval.comment,
    };
    page(status, &shown)
}

/// The consultation that came of an approval, if the visitor may see it.
async fn consultation_of(
    place: &Place,
    tx: &mut TenantTx,
    approval: &Approval,
) -> ProblemResult<Option<Consultation>> {
    let found = consultations::of_approval(tx, approval.tenant_id, approval.id).await?;
    Ok(found.filter(|consultation| {
        place.may(Permission::ConsultationRead) || consultation.involved().contains(&place.visitor.id)
    }))
}

/// The conversation that an approval comes from, if the visitor may read it.
async fn context(
    state: &AppState,
    place: &Place,
    tx: &mut TenantTx,
    approval: &Approval,
) -> ProblemResult<Option<ConversationContext>> {
    let Some(id) = approval.conversation_id.filter(|_| place.may(Permission::ConversationRead)) else {
        return Ok(None);
    };
    let conversation = conversations::find(tx, &state.tools, id).await.map_err(conversations::problem)?;
    Ok(Some(ConversationContext {
        contact: rows::name_or_somebody(&state.ui, conversation.contact_name.as_deref()),
        inbox: conversation.inbox_name.unwrap_or(conversation.service),
        display_id: u64::try_from(conversation.display_id).unwrap_or(0),
        status: rows::conversation_status(&conversation.status),
        last_message: conversation.last_message.unwrap_or_default(),
        last_message_at: conversation.last_message_at.map(|at| state.ui.time(at, tx.now())),
        href: place.href(&format!("conversations/{id}")),
        opens: conversation.link.is_some(),
    }))
}

/// What the requester attached for programs, as people can read it.
fn facts(metadata: &serde_json::Value) -> Vec<Fact> {
    let members = metadata.as_object().into_iter().flatten();
    members.map(|(name, value)| Fact { name: name.clone(), value: in_words(value) }).collect()
}

/// A JSON value as people write it: a text without its quotation marks.
pub(super) fn in_words(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What happened to an approval, the oldest first: from itself, from its consultation, and from what the trail says was told
/// to whom. Whoever reads the approval may know that much.
async fn history(
    state: &AppState,
    place: &Place,
    tx: &mut TenantTx,
    approval: &Approval,
    consultation: Option<&Consultation>,
) -> ProblemResult<Vec<HistoryEntry>> {
    let (tenant, mut steps) = (place.tenant.id, Vec::new());
    steps.push((approval.created_at, HistoryKind::Requested, approval.requested_by_name.clone(), None));
    let closed = match approval.status {
        ApprovalStatus::Pending => None,
        ApprovalStatus::Approved => Some((HistoryKind::Approved, approval.approved_by_name.clone())),
        ApprovalStatus::Rejected => Some((HistoryKind::Rejected, approval.approved_by_name.clone())),
        ApprovalStatus::Cancelled => Some((HistoryKind::Cancelled, approval.requested_by_name.clone())),
        ApprovalStatus::Expired => Some((HistoryKind::Expired, None)),
    };
    if let (Some((kind, person)), Some(at)) = (closed, approval.decided_at) {
        steps.push((at, kind, person, approval.comment.clone()));
    }
    if let Some(consultation) = consultation {
        let host = tenants::names(tx, tenant, &[consultation.host_id]).await?.remove(&consultation.host_id);
        steps.push((consultation.created_at, HistoryKind::ConsultationCreated, None, None));
        steps.extend(
            consultation.started_at.map(|at| (at, HistoryKind::ConsultationStarted, host.clone(), None)),
        );
        let ended = consultation.ended_at.filter(|_| consultation.status == ConsultationStatus::Ended);
        steps.extend(ended.map(|at| (at, HistoryKind::ConsultationEnded, host, None)));
        // Nothing changes what is cancelled.
        let cancelled = consultation.status == ConsultationStatus::Cancelled;
        steps.extend(cancelled.then_some((
            consultation.updated_at,
            HistoryKind::ConsultationCancelled,
            None,
            None,
        )));
    }
    if approval.status != ApprovalStatus::Pending {
        let filter = AuditFilter {
            tenants: vec![tenant],
            resource: Some(("approval".to_owned(), approval.id.to_string())),
            limit: HISTORY,
            ..AuditFilter::default()
        };
        for entry in audit::page(tx, &filter).await?.items {
            let told = entry
                .new_values
                .as_ref()
                .and_then(|values| values.get("status"))
                .and_then(serde_json::Value::as_str);
            let kind = match entry.action.as_str() {
                // What was told of the request is no news; what was told of the outcome is.
                _ if told != Some(approval.status.as_str()) => continue,
                "approval.note_posted" => HistoryKind::NotePosted,
                "approval.notice_sent" => HistoryKind::TeamNotified,
                _ => continue,
            };
            steps.push((entry.created_at, kind, None, None));
        }
    }
    // Stable: what happened in one transaction stays in the order of its effects.
    steps.sort_by_key(|(at, ..)| *at);
    let now = tx.now();
    let entry = |(at, kind, person, note)| HistoryEntry { kind, person, at: state.ui.time(at, now), note };
    Ok(steps.into_iter().map(entry).collect())
}

/// Decides an approval.
pub(super) async fn decide(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ApprovalId)>,
    uri: Uri,
    headers: HeaderMap,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::ApprovalRead)?;
    let ui = &state.ui;
    let verdict = match sent.text("decision").as_str() {
        "approved" => Verdict::Approve,
        "rejected" => Verdict::Reject,
        _ => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "The form is not complete",
            ));
        }
    };
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let comment = sent.text("comment");
    let errors = check(
        ui,
        FieldErrors::default(),
        "comment",
        &comment,
        Rule { required: false, lines: true, limit: MAX_COMMENT },
    );
    let form =
        DecisionForm { comment: comment.clone(), consultation: sent.is_checked("consultation"), errors };
    if !form.errors.is_empty() {
        return render(&state, &place, id, StatusCode::UNPROCESSABLE_ENTITY, None, Some(form)).await;
    }
    let mut tx = place.begin(&state).await?;
    find(&place, &mut tx, id).await?;
    // The checkbox says it either way; a rejection makes no consultation.
    let consultation = (verdict == Verdict::Approve).then_some(form.consultation);
    let proof = place.visitor.proof(&state.config.step_up);
    match approvals::decide(&mut tx, id, verdict, Some(comment), consultation, &if_match, proof).await {
        Ok(approval) => {
            tx.commit().await?;
            place.forget_draft(&state).await;
            Ok(place.see_other(&format!("{MODULE}/{id}"), approval.status.as_str()))
        }
        Err(ApprovalError::StepUp(required)) => {
            drop(tx);
            // Back to this page, with what was typed: the decision itself takes another look and another click.
            let draft = kept(&place, id, &form);
            let left = routes::step_up(&state, &place.visitor, &uri, &headers, required, &draft).await;
            Ok(left.unwrap_or_else(|refusal| refusal))
        }
        Err(error) => {
            drop(tx);
            refused(&state, &place, id, error, Some(form)).await
        }
    }
}

/// What was typed into the form, to be shown again after its sender has proven who they are.
fn kept(place: &Place, id: ApprovalId, form: &DecisionForm) -> Draft {
    let consultation = form.consultation.then(|| ("consultation".to_owned(), "true".to_owned()));
    let comment = ("comment".to_owned(), form.comment.clone());
    Draft {
        path: place.href(&format!("{MODULE}/{id}")),
        fields: std::iter::once(comment).chain(consultation).collect(),
    }
}

/// What was kept of the form on this page.
fn restored(place: &Place, id: ApprovalId) -> Option<DecisionForm> {
    let draft = place.visitor.session.draft.as_ref()?;
    let field =
        |name: &str| draft.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
    (draft.path == place.href(&format!("{MODULE}/{id}"))).then(|| DecisionForm {
        comment: field("comment").unwrap_or_default(),
        consultation: field("consultation").is_some(),
        ..DecisionForm::default()
    })
}

/// Takes back an approval that the visitor requested.
pub(super) async fn cancel(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, ApprovalId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::ApprovalRead)?;
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let mut tx = place.begin(&state).await?;
    find(&place, &mut tx, id).await?;
    match approvals::cancel(&mut tx, id, None, &if_match).await {
        Ok(_) => {
            tx.commit().await?;
            Ok(place.see_other(&format!("{MODULE}/{id}"), "cancelled"))
        }
        Err(error) => {
            drop(tx);
            refused(&state, &place, id, error, None).await
        }
    }
}

/// Shows the approval as it is now, with why what was wanted can't be.
async fn refused(
    state: &AppState,
    place: &Place,
    id: ApprovalId,
    error: ApprovalError,
    form: Option<DecisionForm>,
) -> PageResult {
    let flash = match error {
        ApprovalError::AlreadyDecided => "already-decided",
        ApprovalError::Stale => "stale",
        ApprovalError::OwnRequest | ApprovalError::Forbidden => "not-allowed",
        error => return Err(approvals::problem(error)),
    };
    render(state, place, id, approvals::problem(error).status(), Some(flash), form).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hours_that_the_form_offers_are_taken() {
        assert_eq!(read_hours(""), Ok(None));
        assert_eq!(read_hours("72"), Ok(Some(TimeDelta::hours(72))));
        for sent in ["5", "-4", "999999999999", "x", " 4"] {
            assert_eq!(read_hours(sent), Err(()), "{sent}");
        }
    }

    #[test]
    fn attached_values_read_as_people_write_them() {
        let metadata = serde_json::json!({ "order": "1182", "amount": 240.5, "list": [1, 2] });
        let facts: Vec<_> = facts(&metadata).into_iter().map(|fact| (fact.name, fact.value)).collect();
        let expected = [("amount", "240.5"), ("list", "[1,2]"), ("order", "1182")];
        assert_eq!(facts.len(), 3);
        for (name, value) in expected {
            assert!(facts.contains(&(name.to_owned(), value.to_owned())), "{name}");
        }
    }
}
