use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use chrono::{DateTime, TimeDelta, Utc};
use connector_core::egress::UrlFault;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use shell_ui::{
    AttemptRow, DeliveryRow, EndpointRow, EventChoice, EventGroup, FieldErrors, Ui,
    pages::{DeliveryPage, EndpointFormPage, EndpointPage, EndpointsPage},
};

use super::{
    PageResult,
    chrome::{FlashQuery, Place},
    form::{PageForm, with_query},
    page,
};
use crate::{
    app::AppState,
    auth::Permission,
    db::TenantTx,
    endpoints::{
        self, Attempt, ChangeEndpoint, Context, Delivery, DeliveryFilter, DeliveryState, DisabledBecause,
        Endpoint, EndpointError, EndpointFault, EndpointState, MAX_DESCRIPTION, NewEndpoint, Outcome,
        event_groups,
    },
    http::{
        Problem, ProblemResult,
        etag::IfMatch,
        extract::{ApiPath, ApiQuery},
        page::{MAX_LIMIT, read_cursor},
    },
    ids::{DeliveryId, EndpointId, TenantId},
};

const MODULE: &str = "endpoints";
/// The deliveries of a page.
const DELIVERIES: u32 = 25;

fn state_of(endpoint: &Endpoint) -> shell_ui::EndpointState {
    match endpoint.state {
        EndpointState::Disabled => shell_ui::EndpointState::Disabled,
        EndpointState::Active if endpoint.failing_since.is_some() => shell_ui::EndpointState::Failing,
        EndpointState::Active => shell_ui::EndpointState::Active,
    }
}

fn delivery_state(state: DeliveryState) -> shell_ui::DeliveryState {
    match state {
        DeliveryState::Pending => shell_ui::DeliveryState::Pending,
        DeliveryState::Delivered => shell_ui::DeliveryState::Delivered,
        DeliveryState::Failed => shell_ui::DeliveryState::Failed,
    }
}

/// What came of an attempt, with the status where it says more.
fn outcome(ui: &Ui, outcome: Outcome, status: Option<i16>) -> String {
    let said = ui.t(format!("delivery-outcome-{}", outcome.as_str()));
    match status {
        Some(status) => {
            ui.t_with_all("delivery-answered", &[("outcome", &said), ("status", &status.to_string())])
        }
        None => said,
    }
}

/// The endpoints of a tenant, newest first.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    place.require(Permission::WebhookEndpointRead)?;
    let ui = &state.ui;
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, query.flash.as_deref()).await?;
    // There are fewer than a page has.
    let found = endpoints::page(&mut tx, Some(place.tenant.id), None, MAX_LIMIT).await;
    let now = tx.now();
    let rows = found
        .map_err(endpoints::problem)?
        .items
        .into_iter()
        .map(|endpoint| EndpointRow {
            id: endpoint.id.to_string(),
            state: state_of(&endpoint),
            succeeded: endpoint.succeeded_at.map(|at| ui.time(at, now)),
            url: endpoint.url,
            description: endpoint.description,
            event_types: endpoint.event_types,
        })
        .collect();
    let may_manage = place.may(Permission::WebhookEndpointManage);
    page(StatusCode::OK, &EndpointsPage { chrome, endpoints: rows, may_manage })
}

/// What the form has in it.
struct Form {
    endpoint: Option<(EndpointId, i64)>,
    url: String,
    description: String,
    event_types: Vec<String>,
    errors: FieldErrors,
}

impl Form {
    fn sent(endpoint: Option<(EndpointId, i64)>, sent: &PageForm) -> Self {
        let known = event_groups().into_iter().flat_map(|(kind, types)| {
            std::iter::once(format!("{kind}.*")).chain(types.into_iter().map(str::to_owned))
        });
        let event_types = std::iter::once("*".to_owned())
            .chain(known)
            .filter(|event| sent.is_checked(&format!("event.{event}")))
            .collect();
        Self {
            endpoint,
            url: sent.text("url").trim().to_owned(),
            description: sent.text("description").trim().to_owned(),
            event_types,
            errors: FieldErrors::default(),
        }
    }

    /// The same with what is wrong, in words.
    fn refused(mut self, ui: &Ui, faults: &[EndpointFault]) -> Self {
        for fault in faults {
            let (field, text) = match fault {
                EndpointFault::Url(_) if self.url.is_empty() => ("url", ui.t("error-required")),
                EndpointFault::Url(fault) => ("url", url_error(ui, *fault)),
                EndpointFault::Description if self.description.chars().any(char::is_control) => {
                    ("description", ui.t("error-characters"))
                }
                EndpointFault::Description => {
                    ("description", ui.too_long(u64::try_from(MAX_DESCRIPTION).unwrap_or(u64::MAX)))
                }
                EndpointFault::EventTypeCount | EndpointFault::EventType(_) => {
                    ("event_types", ui.t("error-no-event"))
                }
            };
            if self.errors.of(field).is_none() {
                self.errors = self.errors.with(field, text);
            }
        }
        self
    }
}

fn url_error(ui: &Ui, fault: UrlFault) -> String {
    match fault {
        UrlFault::Scheme => ui.t("error-url-scheme"),
        UrlFault::UserInfo => ui.t("error-url-user"),
        UrlFault::Port => ui.t("error-url-port"),
        UrlFault::Inside => ui.t("error-url-inside"),
        UrlFault::TooLong => ui.too_long(2_048),
        UrlFault::Malformed | UrlFault::Fragment => ui.t("error-url"),
    }
}

async fn render_form(
    state: &AppState,
    place: &Place,
    status: StatusCode,
    flash: Option<&str>,
    form: Form,
) -> PageResult {
    place.require(Permission::WebhookEndpointManage)?;
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, flash).await?;
    let choice = |value: String| EventChoice {
        label: ui.event_type(&value),
        chosen: form.event_types.contains(&value),
        value,
    };
    let groups = event_groups().into_iter().map(|(kind, types)| EventGroup {
        all: choice(format!("{kind}.*")),
        types: types.into_iter().map(|event| choice(event.to_owned())).collect(),
    });
    let shown = EndpointFormPage {
        chrome,
        endpoint: form.endpoint.map(|(id, version)| (id.to_string(), u64::try_from(version).unwrap_or(0))),
        everything: form.event_types.iter().any(|event| event == "*"),
        groups: groups.collect(),
        url: form.url,
        description: form.description,
        errors: form.errors,
    };
    page(status, &shown)
}

/// The form for a new endpoint.
pub(super) async fn new(State(state): State<AppState>, place: Place) -> PageResult {
    let form = Form {
        endpoint: None,
        url: String::new(),
        description: String::new(),
        event_types: vec!["*".to_owned()],
        errors: FieldErrors::default(),
    };
    render_form(&state, &place, StatusCode::OK, None, form).await
}

/// Makes an endpoint, and shows it with its secret: this once, so that no redirect leads on.
pub(super) async fn create(State(state): State<AppState>, place: Place, sent: PageForm) -> PageResult {
    place.require(Permission::WebhookEndpointManage)?;
    let form = Form::sent(None, &sent);
    let new = NewEndpoint {
        url: form.url.clone(),
        description: form.description.clone(),
        event_types: form.event_types.clone(),
    };
    let mut tx = place.begin(&state).await?;
    match endpoints::create(&mut tx, Context::of(&state), place.tenant.id, &new).await {
        Ok(made) => {
            tx.commit().await?;
            let view = View { secret: Some(made.secret), ..View::default() };
            render(&state, &place, made.endpoint.id, StatusCode::CREATED, view).await
        }
        Err(EndpointError::Invalid(faults)) => {
            drop(tx);
            let form = form.refused(&state.ui, &faults);
            render_form(&state, &place, StatusCode::UNPROCESSABLE_ENTITY, None, form).await
        }
        Err(EndpointError::TooMany) => {
            drop(tx);
            render_form(&state, &place, StatusCode::CONFLICT, Some("endpoints-full"), form).await
        }
        Err(error) => Err(endpoints::problem(error)),
    }
}

async fn find(place: &Place, tx: &mut TenantTx, id: EndpointId) -> ProblemResult<Endpoint> {
    let found = endpoints::find(tx, id).await.map_err(endpoints::problem)?;
    // The path names the tenant: an endpoint of another one isn't here, even where the visitor is in both.
    if found.tenant_id == place.tenant.id { Ok(found) } else { Err(Problem::not_found()) }
}

/// The form for an endpoint as it is.
pub(super) async fn edit(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
) -> PageResult {
    place.require(Permission::WebhookEndpointManage)?;
    edit_again(&state, &place, id, StatusCode::OK, None).await
}

async fn edit_again(
    state: &AppState,
    place: &Place,
    id: EndpointId,
    status: StatusCode,
    flash: Option<&str>,
) -> PageResult {
    let mut tx = place.begin(state).await?;
    let found = find(place, &mut tx, id).await?;
    drop(tx);
    let form = Form {
        endpoint: Some((id, found.version)),
        url: found.url,
        description: found.description,
        event_types: found.event_types,
        errors: FieldErrors::default(),
    };
    render_form(state, place, status, flash, form).await
}

/// Changes an endpoint.
pub(super) async fn save(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::WebhookEndpointManage)?;
    let version = sent.version()?;
    let form = Form::sent(Some((id, version)), &sent);
    let change = ChangeEndpoint {
        url: Some(form.url.clone()),
        description: Some(form.description.clone()),
        event_types: Some(form.event_types.clone()),
        ..ChangeEndpoint::default()
    };
    let mut tx = place.begin(&state).await?;
    find(&place, &mut tx, id).await?;
    let context = Context::of(&state);
    match endpoints::change(&mut tx, context, id, &change, &IfMatch::OneOf(vec![version])).await {
        Ok(_) => {
            tx.commit().await?;
            state.lanes_due.notify_one();
            Ok(place.see_other(&format!("{MODULE}/{id}"), "endpoint-saved"))
        }
        Err(EndpointError::Invalid(faults)) => {
            drop(tx);
            let form = form.refused(&state.ui, &faults);
            render_form(&state, &place, StatusCode::UNPROCESSABLE_ENTITY, None, form).await
        }
        Err(EndpointError::Stale) => {
            drop(tx);
            edit_again(&state, &place, id, StatusCode::PRECONDITION_FAILED, Some("stale")).await
        }
        Err(error) => Err(endpoints::problem(error)),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ShowQuery {
    state: Option<DeliveryState>,
    cursor: Option<String>,
    flash: Option<String>,
}

/// How an endpoint is looked at.
#[derive(Default)]
struct View {
    filter: Option<DeliveryState>,
    before: Option<DeliveryId>,
    flash: Option<String>,
    secret: Option<SecretString>,
}

/// One endpoint, and what was sent to it.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
    ApiQuery(query): ApiQuery<ShowQuery>,
) -> PageResult {
    let before = read_cursor(query.cursor.as_deref())?.map(DeliveryId);
    let view = View { filter: query.state, before, flash: query.flash, secret: None };
    render(&state, &place, id, StatusCode::OK, view).await
}

async fn render(
    state: &AppState,
    place: &Place,
    id: EndpointId,
    status: StatusCode,
    view: View,
) -> PageResult {
    place.require(Permission::WebhookEndpointRead)?;
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, view.flash.as_deref()).await?;
    let endpoint = find(place, &mut tx, id).await?;
    let filter =
        DeliveryFilter { state: view.filter, event_type: None, before: view.before, limit: DELIVERIES };
    let found = endpoints::deliveries(&mut tx, id, &filter).await.map_err(endpoints::problem)?;
    let now = tx.now();
    let path = place.href(&format!("{MODULE}/{id}"));
    let chosen = ("state", view.filter.map(DeliveryState::as_str));
    let because = endpoint.disabled_because.map(|because| {
        ui.t(match because {
            DisabledBecause::ByHand => "endpoint-because-by_hand",
            DisabledBecause::Failing => "endpoint-because-failing",
            DisabledBecause::Gone => "endpoint-because-gone",
        })
    });
    let time = |at: Option<DateTime<Utc>>| at.map(|at| ui.time(at, now));
    let shows_secret = view.secret.is_some();
    let shown = EndpointPage {
        chrome,
        id: id.to_string(),
        state: state_of(&endpoint),
        because,
        disabled: time(endpoint.disabled_at),
        failing: time(endpoint.failing_since),
        succeeded: time(endpoint.succeeded_at),
        created: ui.time(endpoint.created_at, now),
        rotating: time(endpoint.rotating_until),
        secret: view.secret.map(|secret| secret.expose_secret().to_owned()),
        version: u64::try_from(endpoint.version).unwrap_or(0),
        filter: view.filter.map(delivery_state),
        deliveries: found.items.into_iter().map(|delivery| row(ui, &endpoint, delivery, now)).collect(),
        older_href: found.next_cursor.map(|cursor| with_query(&path, &[chosen, ("cursor", Some(&cursor))])),
        newest_href: view.before.map(|_| with_query(&path, &[chosen])),
        may_manage: place.may(Permission::WebhookEndpointManage),
        url: endpoint.url,
        description: endpoint.description,
        event_types: endpoint.event_types,
    };
    let mut response = page(status, &shown)?;
    if shows_secret {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

/// What is pending at an endpoint that is switched off has no next try.
fn row(ui: &Ui, endpoint: &Endpoint, delivery: Delivery, now: DateTime<Utc>) -> DeliveryRow {
    let is_on = endpoint.state == EndpointState::Active;
    DeliveryRow {
        id: delivery.id.to_string(),
        state: delivery_state(delivery.state),
        attempts: u64::try_from(delivery.attempts).unwrap_or(0),
        outcome: delivery.last_outcome.map(|last| outcome(ui, last, delivery.last_status)),
        created: ui.time(delivery.created_at, now),
        next: delivery.next_attempt_at.filter(|_| is_on).map(|at| ui.time(at, now)),
        event_type: delivery.event_type,
    }
}

/// One delivery, with each time that it was sent.
pub(super) async fn delivery(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id, delivery)): ApiPath<(TenantId, EndpointId, DeliveryId)>,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    place.require(Permission::WebhookEndpointRead)?;
    let ui = &state.ui;
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, query.flash.as_deref()).await?;
    let endpoint = find(&place, &mut tx, id).await?;
    let (delivery, body, attempts) =
        endpoints::delivery(&mut tx, id, delivery).await.map_err(endpoints::problem)?;
    let now = tx.now();
    // For people; what is sent has no spaces.
    let readable = serde_json::from_str::<serde_json::Value>(&body)
        .and_then(|body| serde_json::to_string_pretty(&body))
        .unwrap_or(body);
    let is_on = endpoint.state == EndpointState::Active;
    let shown = DeliveryPage {
        chrome,
        id: delivery.id.to_string(),
        endpoint_id: id.to_string(),
        url: endpoint.url,
        event_type: delivery.event_type,
        message_id: delivery.message_id,
        state: delivery_state(delivery.state),
        created: ui.time(delivery.created_at, now),
        next: delivery.next_attempt_at.filter(|_| is_on).map(|at| ui.time(at, now)),
        finished: delivery.finished_at.map(|at| ui.time(at, now)),
        body: readable,
        attempts: attempts.into_iter().map(|attempt| attempt_row(ui, &attempt, now)).collect(),
        may_redeliver: is_on
            && delivery.state != DeliveryState::Pending
            && place.may(Permission::WebhookEndpointManage),
    };
    page(StatusCode::OK, &shown)
}

fn attempt_row(ui: &Ui, attempt: &Attempt, now: DateTime<Utc>) -> AttemptRow {
    AttemptRow {
        number: u64::try_from(attempt.number).unwrap_or(0),
        at: ui.time(attempt.started_at, now),
        outcome: match attempt.outcome {
            Some(came_of_it) => outcome(ui, came_of_it, attempt.status),
            None => ui.t("delivery-under-way"),
        },
        took: attempt
            .duration_ms
            .map_or_else(String::new, |took| ui.t_with("delivery-milliseconds", "count", took.to_string())),
    }
}

/// The endpoint's page again, with why what was wanted can't be.
async fn refused(state: &AppState, place: &Place, id: EndpointId, error: EndpointError) -> PageResult {
    let flash = match error {
        EndpointError::Stale => "stale",
        EndpointError::Disabled => "endpoint-is-off",
        EndpointError::Pending => "delivery-pending",
        EndpointError::TooManySecrets => "secrets-full",
        error => return Err(endpoints::problem(error)),
    };
    let status = endpoints::problem(error).status();
    let view = View { flash: Some(flash.to_owned()), ..View::default() };
    render(state, place, id, status, view).await
}

/// What the commands on an endpoint have in common: who may, on which, and where it leads.
async fn command<T>(
    state: &AppState,
    place: &Place,
    id: EndpointId,
    command: impl AsyncFnOnce(&mut TenantTx) -> Result<T, EndpointError>,
    then: impl AsyncFnOnce(T) -> PageResult,
) -> PageResult {
    place.require(Permission::WebhookEndpointManage)?;
    let mut tx = place.begin(state).await?;
    find(place, &mut tx, id).await?;
    match command(&mut tx).await {
        Ok(done) => {
            tx.commit().await?;
            state.lanes_due.notify_one();
            then(done).await
        }
        Err(error) => {
            drop(tx);
            refused(state, place, id, error).await
        }
    }
}

fn back(place: &Place, id: EndpointId, flash: &str) -> Response {
    place.see_other(&format!("{MODULE}/{id}"), flash)
}

/// Has a test event sent.
pub(super) async fn test(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
    _: PageForm,
) -> PageResult {
    let test = async |tx: &mut TenantTx| endpoints::send_test(tx, id).await;
    command(&state, &place, id, test, async |_| Ok(back(&place, id, "endpoint-test-sent"))).await
}

/// Switches an endpoint on, with or without what it missed.
pub(super) async fn enable(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
    sent: PageForm,
) -> PageResult {
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let change = ChangeEndpoint {
        enabled: Some(true),
        deliver_missed: Some(sent.is_checked("missed")),
        ..ChangeEndpoint::default()
    };
    let enable =
        async |tx: &mut TenantTx| endpoints::change(tx, Context::of(&state), id, &change, &if_match).await;
    command(&state, &place, id, enable, async |_| Ok(back(&place, id, "endpoint-on"))).await
}

/// Switches an endpoint off.
pub(super) async fn disable(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
    sent: PageForm,
) -> PageResult {
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let change = ChangeEndpoint { enabled: Some(false), ..ChangeEndpoint::default() };
    let disable =
        async |tx: &mut TenantTx| endpoints::change(tx, Context::of(&state), id, &change, &if_match).await;
    command(&state, &place, id, disable, async |_| Ok(back(&place, id, "endpoint-off"))).await
}

/// Gives an endpoint a new secret, and shows it this once, so that no redirect leads on.
pub(super) async fn rotate(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
    sent: PageForm,
) -> PageResult {
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let hours = match sent.text("grace_hours").as_str() {
        "0" => 0,
        "1" => 1,
        "168" => 168,
        _ => 24,
    };
    let rotate = async |tx: &mut TenantTx| {
        endpoints::rotate(tx, Context::of(&state), id, TimeDelta::hours(hours), &if_match).await
    };
    let show = async |made: endpoints::WithSecret| {
        let view = View { secret: Some(made.secret), ..View::default() };
        render(&state, &place, id, StatusCode::OK, view).await
    };
    command(&state, &place, id, rotate, show).await
}

/// Removes an endpoint.
pub(super) async fn delete(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
    sent: PageForm,
) -> PageResult {
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let remove = async |tx: &mut TenantTx| endpoints::remove(tx, id, &if_match).await;
    command(&state, &place, id, remove, async |()| Ok(place.see_other(MODULE, "endpoint-removed"))).await
}

/// Has all sent again that failed since a time.
pub(super) async fn redeliver_failed(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, EndpointId)>,
    sent: PageForm,
) -> PageResult {
    let hours = match sent.text("since_hours").as_str() {
        "24" => 24,
        "168" => 168,
        "720" => 720,
        _ => 1,
    };
    let redeliver = async |tx: &mut TenantTx| {
        let since = tx.now() - TimeDelta::hours(hours);
        endpoints::redeliver_failed(tx, id, since).await
    };
    let lead =
        async |count| Ok(back(&place, id, if count == 0 { "deliveries-none" } else { "deliveries-again" }));
    command(&state, &place, id, redeliver, lead).await
}

/// Has one delivery sent again.
pub(super) async fn redeliver(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id, delivery)): ApiPath<(TenantId, EndpointId, DeliveryId)>,
    _: PageForm,
) -> PageResult {
    let redeliver = async |tx: &mut TenantTx| endpoints::redeliver(tx, id, delivery).await;
    let path = format!("{MODULE}/{id}/deliveries/{delivery}");
    command(&state, &place, id, redeliver, async |_| Ok(place.see_other(&path, "delivery-again"))).await
}
