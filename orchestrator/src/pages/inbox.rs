use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::Value;
use shell_ui::{
    Choice, Fact, FieldErrors, InboxAttempt, InboxEffect, InboxFilter, InboxOutcome, InboxRow, InboxState,
    Ui,
    pages::{InboxEventPage, InboxPage, InboxReplayPage},
};

use super::{
    PageResult,
    audit::read_days,
    chrome::{FlashQuery, Place},
    form::{PageForm, Rule, check, with_query},
    page, rows,
};
use crate::{
    app::AppState,
    auth::Permission,
    db::TenantTx,
    http::{
        Problem, ProblemResult,
        extract::{ApiPath, ApiQuery},
        page::{DEFAULT_LIMIT, read_cursor},
    },
    ids::{InboxEventId, SourceId},
    inbox::{self, EventFilter, EventState, InboxError, InboxEvent, InboxEventDetail, ReplayAll, Told},
    sources::{self, SourceFilter},
    tenants,
};

pub(super) const MODULE: &str = "inbox";

/// A filter as the address or a form says it.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    cursor: Option<String>,
    flash: Option<String>,
}

impl Asked {
    fn of_form(sent: &PageForm) -> Self {
        Self {
            state: sent.text("state"),
            source: sent.text("source"),
            r#type: sent.text("type"),
            subject: sent.text("subject"),
            from: sent.text("from"),
            to: sent.text("to"),
            cursor: None,
            flash: None,
        }
    }

    fn parameters(&self) -> [(&'static str, Option<&str>); 6] {
        [
            ("state", Some(&self.state)),
            ("source", Some(&self.source)),
            ("type", Some(&self.r#type)),
            ("subject", Some(&self.subject)),
            ("from", Some(&self.from)),
            ("to", Some(&self.to)),
        ]
    }

    fn shown(&self) -> InboxFilter {
        InboxFilter {
            state: InboxState::parse(&self.state),
            source: self.source.clone(),
            kind: self.r#type.clone(),
            subject: self.subject.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
        }
    }

    /// What it means, or what is wrong with it.
    fn filter(&self, place: &Place, ui: &Ui) -> Result<EventFilter, FieldErrors> {
        let (from, to) = read_days(ui, &self.from, &self.to)?;
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(EventFilter {
            tenants: vec![place.tenant.id],
            state: EventState::ALL.into_iter().find(|state| state.as_str() == self.state),
            // What is no id is no source's.
            source: text(&self.source).map(|id| id.parse().unwrap_or(SourceId(uuid::Uuid::nil()))),
            service: None,
            event_type: text(&self.r#type),
            subject: text(&self.subject),
            from,
            to,
            before: None,
            limit: DEFAULT_LIMIT,
        })
    }
}

fn shown_state(state: EventState) -> InboxState {
    InboxState::parse(state.as_str()).unwrap_or(InboxState::Pending)
}

fn count(number: i32) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The tenant's sources, to choose from.
async fn source_choices(place: &Place, tx: &mut TenantTx) -> ProblemResult<Vec<Choice>> {
    if !place.may(Permission::WebhookSourceRead) {
        return Ok(Vec::new());
    }
    let filter =
        SourceFilter { tenants: vec![place.tenant.id], service: None, state: None, before: None, limit: 100 };
    let found = sources::page(tx, &filter).await?;
    let choice = |source: sources::WebhookSource| Choice { value: source.id.to_string(), label: source.name };
    Ok(found.items.into_iter().map(choice).collect())
}

/// What was received, newest first.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(asked): ApiQuery<Asked>,
) -> PageResult {
    place.require(Permission::WebhookEventRead)?;
    let before = read_cursor(asked.cursor.as_deref())?.map(InboxEventId);
    let ui = &state.ui;
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, asked.flash.as_deref()).await?;
    let sources = source_choices(&place, &mut tx).await?;
    let (found, errors) = match asked.filter(&place, ui) {
        Ok(filter) => {
            let found = inbox::page(&mut tx, &EventFilter { before, ..filter }).await?;
            ((found.items, found.next_cursor), FieldErrors::default())
        }
        Err(errors) => ((Vec::new(), None), errors),
    };
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let (events, next_cursor) = found;
    let dead = inbox::dead_count(&mut tx, place.tenant.id).await?;
    let now = tx.now();
    let path = place.href(MODULE);
    let chosen = asked.parameters();
    let older = |cursor: String| {
        let [state, source, kind, subject, from, to] = chosen;
        with_query(&path, &[state, source, kind, subject, from, to, ("cursor", Some(&cursor))])
    };
    let may_replay = place.may(Permission::WebhookEventReplay);
    let shown = InboxPage {
        chrome,
        filter: asked.shown(),
        errors,
        sources,
        rows: events.into_iter().map(|event| row(ui, event, now)).collect(),
        dead,
        replay_href: may_replay.then(|| with_query(&place.href("inbox/replay"), &chosen)),
        may_see_sources: place.may(Permission::WebhookSourceRead),
        older_href: next_cursor.map(older),
        newest_href: before.map(|_| with_query(&path, &chosen)),
    };
    page(status, &shown)
}

fn row(ui: &Ui, event: InboxEvent, now: DateTime<Utc>) -> InboxRow {
    InboxRow {
        id: event.id.to_string(),
        kind: event.event_type,
        subject: event.subject,
        source: event.source_name.unwrap_or(event.service),
        state: shown_state(event.state),
        received: ui.time(event.received_at, now),
        duplicates: count(event.duplicates),
        attempts: count(event.attempts),
        error: event.last_error,
        next: event.next_attempt_at.map(|at| ui.time(at, now)),
    }
}

/// One of them.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, InboxEventId)>,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    render(&state, &place, id, StatusCode::OK, query.flash.as_deref(), Refused::default()).await
}

/// The page of the one that was told of.
pub(super) async fn from_news(place: Place, ApiPath((_, id)): ApiPath<(String, InboxEventId)>) -> Redirect {
    Redirect::to(&place.href(&format!("inbox/events/{id}")))
}

/// A reason that came back, and what is wrong with it.
#[derive(Default)]
struct Refused {
    reason: String,
    errors: FieldErrors,
}

async fn render(
    state: &AppState,
    place: &Place,
    id: InboxEventId,
    status: StatusCode,
    flash: Option<&str>,
    refused: Refused,
) -> PageResult {
    place.require(Permission::WebhookEventRead)?;
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, flash).await?;
    let InboxEventDetail { event, request, attempts, timeline } =
        inbox::detail(&mut tx, &state.master_key, id).await.map_err(inbox::problem)?;
    of_this_tenant(place, &event)?;
    let discarded_by = match event.discarded_by {
        Some(user) => {
            let names = tenants::names(&mut tx, place.tenant.id, &[user]).await?;
            Some(rows::name_or_somebody(ui, names.get(&user).map(String::as_str)))
        }
        None => None,
    };
    let now = tx.now();
    let can_discard = matches!(event.state, EventState::Dead | EventState::Retrying | EventState::Parked);
    let shown = InboxEventPage {
        chrome,
        id: event.id.to_string(),
        source_href: place
            .may(Permission::WebhookSourceRead)
            .then(|| place.href(&format!("inbox/sources/{}", event.source_id))),
        source: event.source_name.unwrap_or_else(|| event.service.clone()),
        kind: event.event_type,
        subject: event.subject,
        service: event.service,
        state: shown_state(event.state),
        received: ui.time(event.received_at, now),
        occurred: event.occurred_at.map(|at| ui.time(at, now)),
        delivery: event.delivery_id,
        duplicates: count(event.duplicates),
        last_duplicate: event.last_duplicate_at.map(|at| ui.time(at, now)),
        processed: event.processed_at.map(|at| ui.time(at, now)),
        runs: count(event.runs),
        cause: event.cause.map(|cause| ui.inbox_cause(&cause)),
        error: event.last_error,
        next: event.next_attempt_at.map(|at| ui.time(at, now)),
        may_discard: can_discard
            && event.discard_reason.is_none()
            && place.may(Permission::WebhookEventDiscard),
        discard_reason: event.discard_reason,
        discarded_by,
        headers: request
            .headers
            .into_iter()
            .map(|header| Fact { name: header.name, value: header.value })
            .collect(),
        body: request.body,
        bytes: request.bytes,
        masked: request.masked,
        attempts: attempts
            .into_iter()
            .map(|attempt| InboxAttempt {
                outcome: InboxOutcome::parse(&attempt.outcome).unwrap_or(InboxOutcome::Failed),
                at: ui.time(attempt.ended_at, now),
                replay: attempt.replay,
                error: attempt.error,
            })
            .collect(),
        effects: effects(ui, place, &timeline),
        may_replay: matches!(event.state, EventState::Done | EventState::Dead | EventState::Discarded)
            && place.may(Permission::WebhookEventReplay),
        reason: refused.reason,
        errors: refused.errors,
    };
    page(status, &shown)
}

/// Another tenant's is unknown here, even where the visitor is in both.
fn of_this_tenant(place: &Place, event: &InboxEvent) -> ProblemResult<()> {
    if event.tenant_id == place.tenant.id { Ok(()) } else { Err(Problem::not_found()) }
}

fn effects(ui: &Ui, place: &Place, timeline: &[Told]) -> Vec<InboxEffect> {
    let mut effects = Vec::new();
    for told in timeline {
        if let Some(conversation) = told.effects.get("conversation").and_then(Value::as_str) {
            let href = place
                .may(Permission::ConversationRead)
                .then(|| place.href(&format!("conversations/{conversation}")));
            effects.push(InboxEffect { text: ui.t("inbox-effect-conversation"), href });
        }
        let jobs = told.effects.get("jobs").and_then(Value::as_array).into_iter().flatten();
        for job in jobs.filter_map(Value::as_str) {
            // The kind; the key says nothing to people.
            let kind = job.split(' ').next().unwrap_or_default();
            effects.push(InboxEffect { text: ui.t_with("inbox-effect-job", "job", kind), href: None });
        }
    }
    effects
}

/// Has it processed again.
pub(super) async fn replay(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, InboxEventId)>,
) -> PageResult {
    place.require(Permission::WebhookEventReplay)?;
    let mut tx = place.begin(&state).await?;
    let event = inbox::find(&mut tx, id).await.map_err(inbox::problem)?;
    of_this_tenant(&place, &event)?;
    let path = format!("inbox/events/{id}");
    match inbox::replay(&mut tx, id).await {
        Ok(lanes) => {
            tx.commit().await?;
            inbox::wake(&state, lanes);
            Ok(place.see_other(&path, "inbox-replaying"))
        }
        Err(InboxError::InProgress) => Ok(place.see_other(&path, "inbox-not-replayable")),
        Err(error) => Err(inbox::problem(error)),
    }
}

/// Gives it up.
pub(super) async fn discard(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, InboxEventId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::WebhookEventDiscard)?;
    let reason = sent.text("reason");
    let rule = Rule { required: true, lines: true, limit: inbox::MAX_REASON };
    let errors = check(&state.ui, FieldErrors::default(), "reason", &reason, rule);
    if !errors.is_empty() {
        let refused = Refused { reason, errors };
        return render(&state, &place, id, StatusCode::UNPROCESSABLE_ENTITY, None, refused).await;
    }
    let mut tx = place.begin(&state).await?;
    let event = inbox::find(&mut tx, id).await.map_err(inbox::problem)?;
    of_this_tenant(&place, &event)?;
    let path = format!("inbox/events/{id}");
    match inbox::discard(&mut tx, id, &reason).await {
        Ok(discarded) => {
            tx.commit().await?;
            inbox::wake(&state, discarded.lanes);
            let is_done = discarded.event.state == EventState::Discarded;
            Ok(place.see_other(&path, if is_done { "inbox-discarded" } else { "inbox-discarding" }))
        }
        Err(InboxError::NotFailed) => Ok(place.see_other(&path, "inbox-not-failed")),
        Err(error) => Err(inbox::problem(error)),
    }
}

/// How many would be replayed, and the question whether to.
pub(super) async fn ask(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(asked): ApiQuery<Asked>,
) -> PageResult {
    confirm(&state, &place, &asked, StatusCode::OK, false).await
}

async fn confirm(
    state: &AppState,
    place: &Place,
    asked: &Asked,
    status: StatusCode,
    changed: bool,
) -> PageResult {
    place.require(Permission::WebhookEventReplay)?;
    let ui = &state.ui;
    let back = with_query(&place.href(MODULE), &asked.parameters());
    // What can't be asked, the list says.
    let Ok(filter) = asked.filter(place, ui) else { return Ok(Redirect::to(&back).into_response()) };
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, None).await?;
    let tenant = place.tenant.id;
    let counted =
        inbox::replay_all(&mut tx, ReplayAll { tenant, filter, dry_run: true, expected: None }).await;
    let now = tx.now();
    let (count, most, until) = match counted {
        Ok(replayed) => (replayed.count, None, replayed.to),
        Err(InboxError::TooMany) => {
            let most = u64::from(inbox::MOST_REPLAYED);
            (most + 1, Some(most), now)
        }
        Err(InboxError::NoState) => return Ok(Redirect::to(&back).into_response()),
        Err(error) => return Err(inbox::problem(error)),
    };
    let sources = source_choices(place, &mut tx).await?;
    let shown = InboxReplayPage {
        chrome,
        described: described(ui, asked, &sources, until),
        filter: asked.shown(),
        count,
        most,
        until: until.to_rfc3339_opts(SecondsFormat::Micros, true),
        changed,
        back_href: back,
    };
    page(status, &shown)
}

/// The filter in words.
fn described(ui: &Ui, asked: &Asked, sources: &[Choice], until: DateTime<Utc>) -> Vec<Fact> {
    let source = sources.iter().find(|choice| choice.value == asked.source);
    let state = InboxState::parse(&asked.state).map(|state| ui.inbox_state(state));
    let facts = [
        ("status", state.unwrap_or_default()),
        ("inbox-source", source.map_or_else(|| asked.source.clone(), |choice| choice.label.clone())),
        ("inbox-type", asked.r#type.clone()),
        ("inbox-subject", asked.subject.clone()),
        ("audit-from", asked.from.clone()),
        ("inbox-replay-until", ui.time(until, until).full),
    ];
    facts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| Fact { name: ui.t(name), value })
        .collect()
}

/// Has all of a filter processed again, if they are as many as the page said.
pub(super) async fn replay_all(State(state): State<AppState>, place: Place, sent: PageForm) -> PageResult {
    place.require(Permission::WebhookEventReplay)?;
    let asked = Asked::of_form(&sent);
    let incomplete = || Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The form is not complete");
    let until: DateTime<Utc> = sent.text("until").parse().map_err(|_| incomplete())?;
    let expected: u64 = sent.text("count").parse().map_err(|_| incomplete())?;
    let filter = asked.filter(&place, &state.ui).map_err(|_| incomplete())?;
    let to = filter.to.map_or(until, |to| to.min(until));
    let mut tx = place.begin(&state).await?;
    let all = ReplayAll {
        tenant: place.tenant.id,
        filter: EventFilter { to: Some(to), ..filter },
        dry_run: false,
        expected: Some(expected),
    };
    match inbox::replay_all(&mut tx, all).await {
        Ok(replayed) => {
            tx.commit().await?;
            inbox::wake(&state, replayed.lanes);
            Ok(place.see_other(MODULE, "inbox-replaying"))
        }
        Err(InboxError::OtherCount(_)) => {
            drop(tx);
            confirm(&state, &place, &asked, StatusCode::CONFLICT, true).await
        }
        Err(error) => Err(inbox::problem(error)),
    }
}
