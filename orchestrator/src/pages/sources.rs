use std::collections::HashMap;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use chrono::{DateTime, Utc};
use connector_webhooks::{Scheme, presets};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use shell_ui::{
    Choice, FieldErrors, MappingRow, OnceShown, SecretRow, SecretState, SourceRow, Ui,
    pages::{SourceNewPage, SourcePage, SourcesPage},
};

use super::{
    PageResult,
    chrome::{FlashQuery, Place},
    form::{PageForm, with_query},
    inbox::MODULE,
    page,
};
use crate::{
    app::AppState,
    auth::Permission,
    http::{
        Problem, ProblemResult,
        etag::IfMatch,
        extract::{ApiPath, ApiQuery},
        page::{DEFAULT_LIMIT, TimedPosition},
    },
    ids::{SourceId, TenantId},
    inbox::{self, SourceActivity},
    sources::{
        self, ChangeSource, Fault, Mapping, NewSecret, NewSource, Purpose, RequestLimit, SecretInfo,
        SourceError, SourceFilter, SourceScheme, SourceState, WebhookSource,
    },
};

/// For how long an old secret may count on, in seconds.
const GRACES: [u32; 5] = [0, 3_600, 86_400, 604_800, 2_592_000];
/// The schemes that need no settings, besides the presets, with their proper names.
const PLAIN: [(&str, &str); 4] = [
    ("standard-webhooks", "Standard Webhooks"),
    ("cloudevents", "CloudEvents"),
    ("bearer", "Bearer"),
    ("jitsi-event-sync", "Jitsi event_sync"),
];

fn path(id: SourceId) -> String {
    format!("inbox/sources/{id}")
}

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    cursor: Option<String>,
    flash: Option<String>,
}

/// The sources, newest first.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> PageResult {
    place.require(Permission::WebhookSourceRead)?;
    let before = TimedPosition::read(query.cursor.as_deref())?;
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, query.flash.as_deref()).await?;
    let tenant = place.tenant.id;
    let filter =
        SourceFilter { tenants: vec![tenant], service: None, state: None, before, limit: DEFAULT_LIMIT };
    let found = sources::page(&mut tx, &filter).await?;
    let activity: HashMap<SourceId, SourceActivity> =
        inbox::activity(&mut tx, tenant).await?.into_iter().map(|one| (one.source, one)).collect();
    let now = tx.now();
    let here = place.href("inbox/sources");
    let shown = SourcesPage {
        chrome,
        rows: found
            .items
            .iter()
            .map(|source| row(&state.ui, source, activity.get(&source.id), now))
            .collect(),
        may_manage: place.may(Permission::WebhookSourceManage),
        older_href: found.next_cursor.map(|cursor| with_query(&here, &[("cursor", Some(&cursor))])),
        newest_href: before.map(|_| here.clone()),
    };
    page(StatusCode::OK, &shown)
}

fn row(ui: &Ui, source: &WebhookSource, activity: Option<&SourceActivity>, now: DateTime<Utc>) -> SourceRow {
    let number = |of: fn(&SourceActivity) -> i64| u64::try_from(activity.map_or(0, of)).unwrap_or(0);
    SourceRow {
        id: source.id.to_string(),
        name: source.name.clone(),
        service: source.service.clone(),
        scheme: scheme_name(&source.scheme),
        active: source.state == SourceState::Active,
        last_hour: number(|activity| activity.last_hour),
        last_day: number(|activity| activity.last_day),
        last: activity.and_then(|activity| activity.last).map(|at| ui.time(at, now)),
        dead: number(|activity| activity.dead),
    }
}

/// What a scheme is called: a proper name, or its type.
fn scheme_name(scheme: &SourceScheme) -> String {
    match scheme {
        SourceScheme::Chatwoot => "Chatwoot".to_owned(),
        SourceScheme::Matrix => "Matrix".to_owned(),
        SourceScheme::Shared(shared) => {
            if let Scheme::Preset { name } = &**shared
                && let Some(preset) = presets::find(name)
            {
                return preset.title.clone();
            }
            let kind = serde_json::to_value(scheme).ok();
            let kind = kind.as_ref().and_then(|value| value.get("type")?.as_str()).unwrap_or_default();
            let plain = PLAIN.iter().find(|(name, _)| *name == kind).map(|(_, title)| *title);
            plain.unwrap_or(kind).to_owned()
        }
    }
}

/// The schemes that need no settings.
fn schemes() -> Vec<Choice> {
    let own = [("chatwoot", "Chatwoot"), ("matrix", "Matrix")];
    let presets = presets::all().map(|(name, preset)| (name, preset.title.as_str()));
    let mut choices: Vec<Choice> = own
        .into_iter()
        .chain(presets)
        .chain(PLAIN)
        .map(|(value, label)| Choice { value: value.to_owned(), label: label.to_owned() })
        .collect();
    choices.sort_by_key(|choice| choice.label.to_lowercase());
    choices
}

/// One source.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, SourceId)>,
    ApiQuery(query): ApiQuery<FlashQuery>,
) -> PageResult {
    render(&state, &place, id, StatusCode::OK, query.flash.as_deref(), Shown::default()).await
}

/// What a page of a source shows besides the source.
#[derive(Default)]
struct Shown {
    once: Vec<OnceShown>,
    /// Name and limit as they came back.
    form: Option<(String, String, String)>,
    errors: FieldErrors,
}

async fn render(
    state: &AppState,
    place: &Place,
    id: SourceId,
    status: StatusCode,
    flash: Option<&str>,
    shown: Shown,
) -> PageResult {
    place.require(Permission::WebhookSourceRead)?;
    let ui = &state.ui;
    let mut tx = place.begin(state).await?;
    let chrome = place.chrome(state, &mut tx, MODULE, flash).await?;
    let source = sources::get(&mut tx, id).await.map_err(sources::problem)?;
    of_this_tenant(place, &source)?;
    let mappings = if source.tenant_id == TenantId::SUITE && source.scheme == SourceScheme::Chatwoot {
        let found = sources::mappings(&mut tx, &state.database, id).await.map_err(sources::problem)?;
        Some(found.into_iter().map(mapping_row).collect())
    } else {
        None
    };
    let activity = inbox::activity(&mut tx, place.tenant.id).await?.into_iter().find(|one| one.source == id);
    let now = tx.now();
    let events = place.href(MODULE);
    let id_text = id.to_string();
    let url = state.config.http.public_url.join(&source.path).map_err(|error| Problem::internal(&error))?;
    let numbers = source.limit.map(|limit| (limit.requests.to_string(), limit.seconds.to_string()));
    let (name, limit_requests, limit_seconds) = shown.form.unwrap_or_else(|| {
        let (requests, seconds) = numbers.clone().unwrap_or_default();
        (source.name.clone(), requests, seconds)
    });
    let is_secret = !shown.once.is_empty();
    let template = SourcePage {
        chrome,
        row: row(ui, &source, activity.as_ref(), now),
        events_href: with_query(&events, &[("source", Some(&id_text))]),
        dead_href: with_query(&events, &[("state", Some("dead")), ("source", Some(&id_text))]),
        url: url.into(),
        account: source.account.clone(),
        scheme_settings: serde_json::to_string_pretty(&source.scheme)
            .map_err(|error| Problem::internal(&error))?,
        limit: numbers.map(|(requests, seconds)| {
            ui.t_with_all("source-limit-said", &[("requests", &requests), ("seconds", &seconds)])
        }),
        mappings,
        secrets: source.secrets.iter().map(|secret| secret_row(ui, secret, now)).collect(),
        once: shown.once,
        created: ui.time(source.created_at, now),
        may_manage: place.may(Permission::WebhookSourceManage),
        makes_secrets: source.scheme.makes_secrets(),
        has_challenge: source.scheme.has_challenge_token(),
        graces: GRACES
            .map(|grace| Choice { value: grace.to_string(), label: ui.t(format!("source-grace-{grace}")) })
            .into(),
        name,
        limit_requests,
        limit_seconds,
        version: u64::try_from(source.version).unwrap_or(0),
        errors: shown.errors,
    };
    let mut response = page(status, &template)?;
    if is_secret {
        unkept(&mut response);
    }
    Ok(response)
}

/// What holds a secret is kept by nobody on its way, nor by the browser.
fn unkept(response: &mut Response) {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

fn mapping_row(mapping: Mapping) -> MappingRow {
    MappingRow {
        inbox: mapping.inbox_id.map(|inbox| inbox.to_string()),
        tenant: mapping.tenant_path.unwrap_or_else(|| mapping.tenant_id.to_string()),
    }
}

fn secret_row(ui: &Ui, secret: &SecretInfo, now: DateTime<Utc>) -> SecretRow {
    SecretRow {
        id: secret.id.to_string(),
        challenge: secret.purpose == Purpose::Challenge,
        state: match secret.valid_until {
            None => SecretState::Current,
            Some(until) if until > now => SecretState::Ending,
            Some(_) => SecretState::Ended,
        },
        created: ui.time(secret.created_at, now),
        until: secret.valid_until.map(|until| ui.time(until, now)),
    }
}

/// Another tenant's is unknown here, even where the visitor is in both.
fn of_this_tenant(place: &Place, source: &WebhookSource) -> ProblemResult<()> {
    if source.tenant_id == place.tenant.id { Ok(()) } else { Err(Problem::not_found()) }
}

/// The form for a new one.
pub(super) async fn new(State(state): State<AppState>, place: Place) -> PageResult {
    let asked = NewForm { scheme: "github".to_owned(), ..NewForm::default() };
    render_new(&state, &place, StatusCode::OK, asked, FieldErrors::default()).await
}

/// What the form for a new source sent, but for the secret, which is never shown again.
#[derive(Default)]
struct NewForm {
    scheme: String,
    service: String,
    name: String,
    account: String,
    settings: String,
    limit_requests: String,
    limit_seconds: String,
}

async fn render_new(
    state: &AppState,
    place: &Place,
    status: StatusCode,
    form: NewForm,
    errors: FieldErrors,
) -> PageResult {
    place.require(Permission::WebhookSourceManage)?;
    let mut tx = place.begin(state).await?;
    let shown = SourceNewPage {
        chrome: place.chrome(state, &mut tx, MODULE, None).await?,
        schemes: schemes(),
        scheme: form.scheme,
        service: form.service,
        name: form.name,
        account: form.account,
        settings: form.settings,
        limit_requests: form.limit_requests,
        limit_seconds: form.limit_seconds,
        errors,
    };
    page(status, &shown)
}

/// A limit as a form says it; none where the number is left empty.
fn read_limit(ui: &Ui, requests: &str, seconds: &str) -> Result<Option<RequestLimit>, FieldErrors> {
    if requests.trim().is_empty() {
        return Ok(None);
    }
    let number =
        |text: &str, most: u32| text.trim().parse().ok().filter(|number| (1..=most).contains(number));
    match (number(requests, 1_000_000), number(seconds, 86_400)) {
        (Some(requests), Some(seconds)) => Ok(Some(RequestLimit { requests, seconds })),
        (requests, seconds) => {
            let mut errors = FieldErrors::default();
            if requests.is_none() {
                errors = errors.with("limit_requests", range(ui, "1000000"));
            }
            if seconds.is_none() {
                errors = errors.with("limit_seconds", range(ui, "86400"));
            }
            Err(errors)
        }
    }
}

fn range(ui: &Ui, most: &str) -> String {
    ui.t_with_all("error-number", &[("from", "1"), ("to", most)])
}

/// What is wrong, at the fields of the form.
fn faults(ui: &Ui, faults: &[Fault], has_settings: bool) -> FieldErrors {
    faults.iter().fold(FieldErrors::default(), |errors, fault| match fault.pointer.as_str() {
        "/service" => errors.with("service", ui.t("error-service")),
        "/name" => errors.with("name", ui.too_long(200)),
        "/account" => errors.with("account", ui.t("error-account-needed")),
        "/limit/requests" => errors.with("limit_requests", range(ui, "1000000")),
        "/limit/seconds" => errors.with("limit_seconds", range(ui, "86400")),
        "/secret" | "/value" => errors.with("secret", ui.t("error-secret-form")),
        _ if has_settings => errors.with("settings", format!("{} {}", fault.pointer, fault.detail)),
        _ => errors.with("scheme", ui.t("error-scheme-service")),
    })
}

fn given(text: String) -> Option<SecretString> {
    Some(text).filter(|text| !text.is_empty()).map(SecretString::from)
}

fn once(secret: Option<&SecretString>, challenge: bool) -> Option<OnceShown> {
    secret.map(|secret| OnceShown { challenge, value: secret.expose_secret().to_owned() })
}

/// Adds a source, and shows what was made for it this once.
pub(super) async fn create(State(state): State<AppState>, place: Place, sent: PageForm) -> PageResult {
    place.require(Permission::WebhookSourceManage)?;
    let ui = &state.ui;
    let form = NewForm {
        scheme: sent.text("scheme"),
        service: sent.text("service"),
        name: sent.text("name"),
        account: sent.text("account"),
        settings: sent.text("settings"),
        limit_requests: sent.text("limit_requests"),
        limit_seconds: sent.text("limit_seconds"),
    };
    let (settings, named) = (form.settings.trim(), form.scheme.as_str());
    let has_settings = !settings.is_empty();
    let scheme = if has_settings {
        serde_json::from_str(settings)
            .map_err(|_| FieldErrors::default().with("settings", ui.t("error-json")))
    } else {
        SourceScheme::named(named).ok_or_else(|| FieldErrors::default().with("scheme", ui.t("error-choice")))
    };
    let service = match form.service.trim() {
        "" if has_settings => Err(FieldErrors::default().with("service", ui.t("error-required"))),
        "" => Ok(named.to_owned()),
        service => Ok(service.to_owned()),
    };
    let limit = read_limit(ui, &form.limit_requests, &form.limit_seconds);
    let (scheme, service, limit) = match (scheme, service, limit) {
        (Ok(scheme), Ok(service), Ok(limit)) => (scheme, service, limit),
        (scheme, service, limit) => {
            let wrong = [scheme.err(), service.err(), limit.err()];
            let errors = wrong.iter().flatten().flat_map(FieldErrors::all);
            let errors = errors
                .fold(FieldErrors::default(), |errors, (field, text)| errors.with(field, text.as_str()));
            return render_new(&state, &place, StatusCode::UNPROCESSABLE_ENTITY, form, errors).await;
        }
    };
    let account = Some(form.account.trim().to_owned()).filter(|account| !account.is_empty());
    let new = NewSource {
        service,
        name: form.name.clone(),
        account,
        scheme,
        limit,
        secret: given(sent.text("secret")),
    };
    let mut tx = place.begin(&state).await?;
    let added = match sources::add(&mut tx, &state.master_key, place.tenant.id, new).await {
        Ok(added) => added,
        Err(SourceError::Invalid(wrong)) => {
            drop(tx);
            let errors = faults(ui, &wrong, has_settings);
            return render_new(&state, &place, StatusCode::UNPROCESSABLE_ENTITY, form, errors).await;
        }
        Err(SourceError::AccountTaken) => {
            drop(tx);
            let errors = FieldErrors::default().with("account", ui.t("error-account-taken"));
            return render_new(&state, &place, StatusCode::CONFLICT, form, errors).await;
        }
        Err(error) => return Err(sources::problem(error)),
    };
    tx.commit().await?;
    sources::forget(&state, added.source.id, &added.source.service).await;
    let shown = [once(added.secret.as_ref(), false), once(added.challenge_token.as_ref(), true)];
    if shown.iter().all(Option::is_none) {
        return Ok(place.see_other(&path(added.source.id), "source-saved"));
    }
    let shown = Shown { once: shown.into_iter().flatten().collect(), ..Shown::default() };
    render(&state, &place, added.source.id, StatusCode::CREATED, None, shown).await
}

/// What was asked of a source of this tenant, and what to show where it can't be done.
async fn changed(
    state: &AppState,
    place: &Place,
    id: SourceId,
    sent: &PageForm,
    change: ChangeSource,
    form: Option<(String, String, String)>,
    flash: &str,
) -> PageResult {
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let mut tx = place.begin(state).await?;
    of_this_tenant(place, &sources::get(&mut tx, id).await.map_err(sources::problem)?)?;
    match sources::change(&mut tx, &state.master_key, id, change, &if_match).await {
        Ok(source) => {
            tx.commit().await?;
            sources::forget(state, id, &source.service).await;
            Ok(place.see_other(&path(id), flash))
        }
        Err(SourceError::Invalid(wrong)) => {
            drop(tx);
            let shown = Shown { form, errors: faults(&state.ui, &wrong, false), ..Shown::default() };
            render(state, place, id, StatusCode::UNPROCESSABLE_ENTITY, None, shown).await
        }
        Err(error) => refused(state, place, id, error).await,
    }
}

/// What has changed meanwhile is shown as it is now.
async fn refused(state: &AppState, place: &Place, id: SourceId, error: SourceError) -> PageResult {
    match error {
        SourceError::Stale => {
            render(state, place, id, StatusCode::PRECONDITION_FAILED, Some("stale"), Shown::default()).await
        }
        error => Err(sources::problem(error)),
    }
}

/// Changes name and limit.
pub(super) async fn save(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, SourceId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::WebhookSourceManage)?;
    let (name, requests, seconds) =
        (sent.text("name"), sent.text("limit_requests"), sent.text("limit_seconds"));
    let form = Some((name.clone(), requests.clone(), seconds.clone()));
    let limit = match read_limit(&state.ui, &requests, &seconds) {
        Ok(limit) => limit,
        Err(errors) => {
            let shown = Shown { form, errors, ..Shown::default() };
            return render(&state, &place, id, StatusCode::UNPROCESSABLE_ENTITY, None, shown).await;
        }
    };
    let change = ChangeSource { name: Some(name), limit: Some(limit), ..ChangeSource::default() };
    changed(&state, &place, id, &sent, change, form, "source-saved").await
}

/// Refuses its webhooks until it is resumed.
pub(super) async fn pause(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, SourceId)>,
    sent: PageForm,
) -> PageResult {
    set_state(&state, &place, id, &sent, SourceState::Paused, "source-paused").await
}

/// Takes its webhooks again.
pub(super) async fn resume(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, SourceId)>,
    sent: PageForm,
) -> PageResult {
    set_state(&state, &place, id, &sent, SourceState::Active, "source-resumed").await
}

async fn set_state(
    state: &AppState,
    place: &Place,
    id: SourceId,
    sent: &PageForm,
    to: SourceState,
    flash: &str,
) -> PageResult {
    place.require(Permission::WebhookSourceManage)?;
    let change = ChangeSource { state: Some(to), ..ChangeSource::default() };
    changed(state, place, id, sent, change, None, flash).await
}

/// Removes it for good.
pub(super) async fn remove(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, SourceId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::WebhookSourceManage)?;
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let mut tx = place.begin(&state).await?;
    of_this_tenant(&place, &sources::get(&mut tx, id).await.map_err(sources::problem)?)?;
    match sources::remove(&mut tx, id, &if_match).await {
        Ok(source) => {
            tx.commit().await?;
            sources::forget(&state, id, &source.service).await;
            Ok(place.see_other("inbox/sources", "source-removed"))
        }
        Err(error) => {
            drop(tx);
            refused(&state, &place, id, error).await
        }
    }
}

/// Gives it a new secret, and shows the one that was made this once.
pub(super) async fn rotate(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, SourceId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::WebhookSourceManage)?;
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let challenge = sent.is_checked("challenge");
    let value = given(sent.text("secret"));
    let is_given = value.is_some();
    let new = NewSecret {
        purpose: if challenge { Purpose::Challenge } else { Purpose::Signature },
        value,
        grace_seconds: sent.text("grace").parse().ok(),
    };
    let mut tx = place.begin(&state).await?;
    of_this_tenant(&place, &sources::get(&mut tx, id).await.map_err(sources::problem)?)?;
    match sources::rotate(&mut tx, &state.master_key, id, new, &if_match).await {
        Ok(rotated) => {
            tx.commit().await?;
            sources::forget(&state, id, &rotated.source.service).await;
            let Some(once) = once(rotated.value.as_ref(), challenge) else {
                return Ok(place.see_other(&path(id), "source-saved"));
            };
            let shown = Shown { once: vec![once], ..Shown::default() };
            render(&state, &place, id, StatusCode::OK, None, shown).await
        }
        Err(SourceError::Invalid(_)) => {
            drop(tx);
            let text = if is_given { "error-secret-form" } else { "error-secret-needed" };
            let errors = FieldErrors::default().with("secret", state.ui.t(text));
            let shown = Shown { errors, ..Shown::default() };
            render(&state, &place, id, StatusCode::UNPROCESSABLE_ENTITY, None, shown).await
        }
        Err(error) => {
            drop(tx);
            refused(&state, &place, id, error).await
        }
    }
}

/// Takes a secret away at once.
pub(super) async fn revoke(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(String, SourceId)>,
    sent: PageForm,
) -> PageResult {
    place.require(Permission::WebhookSourceManage)?;
    let if_match = IfMatch::OneOf(vec![sent.version()?]);
    let secret = sent.text("secret").parse().map_err(|_| Problem::not_found())?;
    let mut tx = place.begin(&state).await?;
    of_this_tenant(&place, &sources::get(&mut tx, id).await.map_err(sources::problem)?)?;
    match sources::revoke(&mut tx, id, secret, &if_match).await {
        Ok(source) => {
            tx.commit().await?;
            sources::forget(&state, id, &source.service).await;
            Ok(place.see_other(&path(id), "secret-revoked"))
        }
        Err(error) => {
            drop(tx);
            refused(&state, &place, id, error).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_that_is_offered_needs_no_settings_and_has_its_name() {
        for choice in schemes() {
            let scheme = SourceScheme::named(&choice.value).unwrap_or_else(|| panic!("{}", choice.value));
            assert_eq!(scheme_name(&scheme), choice.label);
        }
    }

    #[test]
    fn a_limit_is_two_numbers_or_nothing() {
        let ui = Ui::new("");
        assert_eq!(read_limit(&ui, " ", "60"), Ok(None));
        assert_eq!(read_limit(&ui, "600", " 60 "), Ok(Some(RequestLimit { requests: 600, seconds: 60 })));
        let wrong = read_limit(&ui, "0", "x").unwrap_err();
        assert_eq!(wrong.all().len(), 2);
        assert!(read_limit(&ui, "1", "86401").unwrap_err().of("limit_seconds").is_some());
    }
}
