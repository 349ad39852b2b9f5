//! Our page inside Chatwoot, in a tab of each conversation: its approvals, and the way to escalate it.
//!
//! Chatwoot's page tells by a message which conversation it shows; who looks is known by our own session. The frame is of another
//! site than the page around it, where the session's cookie is not sent: somebody signs in in a window of its own, which hands the
//! frame a code, and for that the frame gets the same session in a cookie that counts inside Chatwoot alone (`Partitioned`).

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use axum_extra::extract::cookie::{Cookie, CookieJar, SameSite};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shell_ui::{
    FieldErrors,
    pages::{EmbedPage, EmbedPanel, EmbedShown, EscalateForm},
};

use super::{
    PageResult,
    chrome::{Place, base},
    conversations::why_no_request,
    embedded::FrameAncestor,
    form::{PageForm, Rule, check, with_query},
    page, rows,
};
use crate::{
    app::AppState,
    approvals::{self, ApprovalError, ApprovalStatus},
    auth::{Permission, Visitor, routes::POPUP_RETURN, session},
    config::origin,
    conversations::{self, Beside, EscalateError, Escalation, MAX_REASON},
    http::{Problem, ProblemResult, extract::ApiQuery, middleware::Charge, problem::ErrorChain},
};

/// The session inside Chatwoot.
const COOKIE: &str = "__Host-chancery-embed";
/// For how long the window's code counts.
const HANDOVER: TimeDelta = TimeDelta::seconds(60);
const SEALED_FOR: &str = "embed handover";

/// Who looks from inside Chatwoot; nobody where they haven't signed in.
pub(super) struct Guest(Option<Visitor>);

impl FromRequestParts<AppState> for Guest {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let jar = CookieJar::from_headers(&parts.headers);
        // The frame's own; else the shell's, which browsers send where both are of one site.
        let ids = [COOKIE, session::COOKIE].into_iter().filter_map(|name| jar.get(name));
        for id in ids {
            let mut own = parts.clone();
            own.headers.insert(header::COOKIE, cookie_header(id.value())?);
            // Whoever reads the panel uses the session, though a script fetches it.
            own.headers.remove("sec-fetch-dest");
            match Visitor::from_request_parts(&mut own, state).await {
                Ok(visitor) => return Ok(Self(Some(visitor))),
                Err(response) if response.status().is_redirection() => {}
                Err(response) => return Err(response),
            }
        }
        Ok(Self(None))
    }
}

fn cookie_header(id: &str) -> Result<HeaderValue, Response> {
    HeaderValue::from_str(&format!("{}={id}", session::COOKIE))
        .map_err(|_| Problem::not_found().into_response())
}

/// Chatwoot's origin; the page is nowhere without it.
fn tool(state: &AppState) -> ProblemResult<String> {
    state.tools.chatwoot.as_ref().map(|chatwoot| origin(&chatwoot.url)).ok_or_else(Problem::not_found)
}

fn render(state: &AppState, panel: EmbedPanel, code: Option<String>) -> PageResult {
    let tool = tool(state)?;
    let shown = EmbedPage {
        ui: state.ui.clone(),
        tool: tool.clone(),
        sign_in_href: with_query("/auth/login", &[("return_to", Some(POPUP_RETURN))]),
        code,
        panel,
    };
    let mut response = page(StatusCode::OK, &shown)?;
    // Every frame around it has to be admitted: where the shell frames Chatwoot, the shell's, too.
    let ancestors = if state.config.chatwoot.embed { format!("'self' {tool}") } else { tool };
    response.extensions_mut().insert(FrameAncestor(ancestors));
    Ok(response)
}

/// The page as Chatwoot frames it; its script fetches the panel when it knows the conversation.
pub(super) async fn show(State(state): State<AppState>) -> PageResult {
    render(&state, EmbedPanel::Waiting, None)
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Shown {
    account: i64,
    conversation: i64,
}

/// What there is to see beside a conversation.
pub(super) async fn panel(
    State(state): State<AppState>,
    guest: Guest,
    charge: Charge,
    ApiQuery(shown): ApiQuery<Shown>,
) -> PageResult {
    let Some(visitor) = guest.0 else { return render(&state, EmbedPanel::SignIn, None) };
    // It asks Keycloak and Chatwoot, whose limits notes and webhooks need.
    charge.to(state.limits.session.take(&visitor.key))?;
    let panel = match find(&state, &visitor, shown).await {
        Ok((place, found)) => beside(&state, &place, found, shown, EscalateForm::default(), None).await?,
        Err(panel) => panel,
    };
    render(&state, panel, None)
}

/// The conversation with its tenant, or the panel that says why there is none.
async fn find(state: &AppState, visitor: &Visitor, shown: Shown) -> Result<(Place, Beside), EmbedPanel> {
    let unknown = || EmbedPanel::Problem(state.ui.t("embed-unknown"));
    match conversations::beside(state, &visitor.principal(), shown.account, shown.conversation).await {
        Ok(Some(found)) => {
            let tenant = visitor.grant(found.tenant).map(|grant| grant.tenant.clone()).ok_or_else(unknown)?;
            Ok((Place { visitor: visitor.clone(), tenant }, found))
        }
        Ok(None) => Err(unknown()),
        Err(error) => {
            tracing::warn!(error = %ErrorChain(&error), "what is beside a conversation can't be said now");
            Err(EmbedPanel::Problem(state.ui.t("embed-unavailable")))
        }
    }
}

async fn beside(
    state: &AppState,
    place: &Place,
    found: Beside,
    shown: Shown,
    form: EscalateForm,
    notice: Option<(bool, String)>,
) -> ProblemResult<EmbedPanel> {
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let history = if place.may(Permission::ApprovalRead) {
        approvals::history_of_conversation(&mut tx, found.tenant, found.id).await?
    } else {
        Vec::new()
    };
    let is_pending = history.iter().any(|approval| approval.status == ApprovalStatus::Pending);
    let blocked =
        if is_pending { Some("blocked-already-pending") } else { why_no_request(place, &mut tx).await? };
    let (done, notice) = notice.map_or((false, None), |(done, text)| (done, Some(text)));
    Ok(EmbedPanel::Shown(Box::new(EmbedShown {
        account: shown.account,
        conversation: shown.conversation,
        base: base(found.tenant),
        approvals: rows::approvals(place, &mut tx, ui, history).await?,
        form: EscalateForm { blocked: blocked.map(|reason| ui.t(reason)), ..form },
        notice,
        done,
    })))
}

/// Escalates, as the shell does.
pub(super) async fn escalate(State(state): State<AppState>, guest: Guest, sent: PageForm) -> PageResult {
    let ui = &state.ui;
    let Some(visitor) = guest.0 else { return render(&state, EmbedPanel::SignIn, None) };
    let number = |name| sent.text(name).parse::<i64>().unwrap_or(0);
    let shown = Shown { account: number("account"), conversation: number("conversation") };
    let (place, found) = match find(&state, &visitor, shown).await {
        Ok(found) => found,
        Err(panel) => return render(&state, panel, None),
    };
    let rule = Rule { required: true, lines: true, limit: MAX_REASON };
    let reason = sent.text("reason");
    let mut errors = check(ui, FieldErrors::default(), "reason", &reason, rule);
    let priority = rows::read_priority(&sent.text("priority"));
    if priority.is_none() {
        errors = errors.with("priority", ui.t("error-choice"));
    }
    let priority = priority.unwrap_or_default();
    let consultation_requested = sent.is_checked("consultation_requested");
    let form = EscalateForm {
        reason: reason.clone(),
        priority: rows::priority(priority),
        consultation_requested,
        errors,
        ..EscalateForm::default()
    };
    if !form.errors.is_empty() {
        let panel = beside(&state, &place, found, shown, form, None).await?;
        return render(&state, panel, None);
    }
    let escalation = Escalation {
        reason: reason.trim().to_owned(),
        title: None,
        priority,
        consultation_requested,
        message: None,
    };
    let mut tx = place.begin(&state).await?;
    let (form, notice) = match conversations::escalate(&mut tx, &state, found.id, escalation).await {
        Ok(_) => {
            tx.commit().await?;
            (EscalateForm::default(), Some((true, ui.t("flash-escalated"))))
        }
        Err(refused) => {
            drop(tx);
            let text = match refused {
                EscalateError::Approval(ApprovalError::AlreadyPending(_)) => "flash-already-pending",
                EscalateError::Approval(ApprovalError::NoApprover) => "blocked-no-approver",
                EscalateError::Approval(ApprovalError::Forbidden) => "flash-not-allowed",
                error => return Err(conversations::problem(error)),
            };
            (form, Some((false, ui.t(text))))
        }
    };
    let panel = beside(&state, &place, found, shown, form, notice).await?;
    render(&state, panel, None)
}

/// What the window hands to the frame.
#[derive(Debug, Serialize, Deserialize)]
struct Handover {
    id: String,
    until: DateTime<Utc>,
}

/// The window in which somebody has signed in. Its script hands the frame that has opened it a code that counts for a minute; only
/// a page of ours can take it.
pub(super) async fn signed_in(
    State(state): State<AppState>,
    _visitor: Visitor,
    headers: HeaderMap,
) -> PageResult {
    let jar = CookieJar::from_headers(&headers);
    let id = jar.get(session::COOKIE).ok_or_else(Problem::not_found)?.value().to_owned();
    let handover = Handover { id, until: state.clock.now() + HANDOVER };
    let plain = serde_json::to_vec(&handover).map_err(|error| Problem::internal(&error))?;
    let sealed =
        state.master_key.seal(&*state.ids, SEALED_FOR, &plain).map_err(|error| Problem::internal(&error))?;
    let mut response = render(&state, EmbedPanel::SignedIn, Some(URL_SAFE_NO_PAD.encode(sealed)))?;
    response.extensions_mut().remove::<FrameAncestor>();
    // Else the browser takes away who has opened it.
    response.headers_mut().insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("unsafe-none"),
    );
    Ok(response)
}

/// Gives the frame its cookie for a code.
pub(super) async fn begin(State(state): State<AppState>, jar: CookieJar, sent: PageForm) -> PageResult {
    tool(&state)?;
    let opened = URL_SAFE_NO_PAD
        .decode(sent.text("code"))
        .ok()
        .and_then(|sealed| state.master_key.open(SEALED_FOR, &sealed).ok())
        .and_then(|plain| serde_json::from_slice::<Handover>(&plain).ok());
    let Some(handover) = opened.filter(|handover| state.clock.now() < handover.until) else {
        return Err(Problem::forbidden());
    };
    let cookie = Cookie::build((COOKIE, handover.id))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::None)
        .partitioned(true)
        .build();
    Ok((StatusCode::NO_CONTENT, jar.add(cookie)).into_response())
}
