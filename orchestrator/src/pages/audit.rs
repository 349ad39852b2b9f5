use std::collections::HashMap;

use axum::{extract::State, http::StatusCode};
use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use shell_ui::{AuditChange, Choice, Fact, FieldErrors, Ui, pages::AuditPage};

use super::{PageResult, approvals::in_words, chrome::Place, form::with_query, page};
use crate::{
    app::AppState,
    approvals,
    audit::{self, AuditEntry, AuditFilter},
    auth::Permission,
    consultations,
    db::TenantTx,
    endpoints,
    http::{
        Problem, ProblemResult,
        extract::ApiQuery,
        page::{DEFAULT_LIMIT, read_cursor},
        problem::FieldError,
    },
    ids::{AuditId, UserId},
    tenants,
};

const MODULE: &str = "audit";

#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    #[serde(default)]
    action: String,
    #[serde(default)]
    person: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    cursor: Option<String>,
}

/// A day as a date field sends it.
fn read_day(sent: &str) -> Result<Option<NaiveDate>, ()> {
    if sent.is_empty() {
        return Ok(None);
    }
    let day = NaiveDate::parse_from_str(sent, "%Y-%m-%d").map_err(|_| ())?;
    // Beyond these years, neither people nor the database mean anything.
    if (1..=9999).contains(&day.year()) { Ok(Some(day)) } else { Err(()) }
}

fn begins(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

/// From a time on, and before another.
pub(super) type Period = (Option<DateTime<Utc>>, Option<DateTime<Utc>>);

/// The days that the filter names: from the beginning of the first to the end of the last.
pub(super) fn read_days(ui: &Ui, from: &str, to: &str) -> Result<Period, FieldErrors> {
    let (from, to) = (read_day(from), read_day(to));
    let mut errors = FieldErrors::default();
    for (field, day) in [("from", from), ("to", to)] {
        if day.is_err() {
            errors = errors.with(field, ui.t("error-date"));
        }
    }
    match (from, to) {
        (Ok(Some(from)), Ok(Some(to))) if to < from => Err(errors.with("to", ui.t("error-date-order"))),
        (Ok(from), Ok(to)) => {
            Ok((from.map(begins), to.and_then(|to| to.checked_add_days(Days::new(1))).map(begins)))
        }
        _ => Err(errors),
    }
}

/// The audit trail, newest first.
pub(super) async fn list(
    State(state): State<AppState>,
    place: Place,
    ApiQuery(query): ApiQuery<ListQuery>,
) -> PageResult {
    place.require(Permission::AuditRead)?;
    let before = read_cursor(query.cursor.as_deref())?.map(AuditId);
    let user = match query.person.as_str() {
        "" => None,
        person => Some(
            person
                .parse::<UserId>()
                .map_err(|_| Problem::invalid(vec![FieldError::new("?person", "must be a UUID")]))?,
        ),
    };
    let (tenant, ui) = (place.tenant.id, &state.ui);
    let mut tx = place.begin(&state).await?;
    let chrome = place.chrome(&state, &mut tx, MODULE, None).await?;
    let people = tenants::people(&mut tx, tenant).await?;
    let actions = audit::actions(&mut tx, tenant).await?;
    let (found, errors) = match read_days(ui, &query.from, &query.to) {
        Ok((from, to)) => {
            let filter = AuditFilter {
                tenants: vec![tenant],
                action: Some(query.action.clone()).filter(|action| !action.is_empty()),
                user,
                resource: None,
                from,
                to,
                before,
                limit: DEFAULT_LIMIT,
            };
            let found = audit::page(&mut tx, &filter).await?;
            ((found.items, found.next_cursor), FieldErrors::default())
        }
        Err(errors) => ((Vec::new(), None), errors),
    };
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    let (entries, next_cursor) = found;
    let path = place.href(MODULE);
    let chosen = [
        ("action", Some(query.action.as_str())),
        ("person", Some(query.person.as_str())),
        ("from", Some(query.from.as_str())),
        ("to", Some(query.to.as_str())),
    ];
    let older = |cursor: String| {
        let [action, person, from, to] = chosen;
        with_query(&path, &[action, person, from, to, ("cursor", Some(&cursor))])
    };
    let names: HashMap<UserId, String> = people.iter().cloned().collect();
    let titles = titles(&place, &mut tx, &entries).await?;
    let now = tx.now();
    let shown = AuditPage {
        chrome,
        errors,
        actions: actions
            .into_iter()
            .map(|action| Choice { label: ui.audit_action(&action), value: action })
            .collect(),
        people: people.into_iter().map(|(id, name)| Choice { value: id.to_string(), label: name }).collect(),
        entries: entries.into_iter().map(|entry| shown(ui, &place, entry, &names, &titles, now)).collect(),
        older_href: next_cursor.map(older),
        newest_href: before.map(|_| with_query(&path, &chosen)),
        filter: shell_ui::AuditFilter {
            action: query.action,
            person: query.person,
            from: query.from,
            to: query.to,
        },
    };
    page(status, &shown)
}

/// The titles of what the entries are about, by its kind and id.
async fn titles(
    place: &Place,
    tx: &mut TenantTx,
    entries: &[AuditEntry],
) -> ProblemResult<HashMap<(&'static str, String), String>> {
    fn ids<T: std::str::FromStr>(entries: &[AuditEntry], resource: &str) -> Vec<T> {
        entries
            .iter()
            .filter(|entry| entry.resource == resource)
            .filter_map(|entry| entry.resource_id.parse().ok())
            .collect()
    }
    let mut titles = HashMap::new();
    let about = ids(entries, "approval");
    if !about.is_empty() {
        let found = approvals::titles(tx, place.tenant.id, &about).await?;
        titles.extend(found.into_iter().map(|(id, title)| (("approval", id.to_string()), title)));
    }
    let about = ids(entries, "consultation");
    if !about.is_empty() {
        let found = consultations::titles(tx, place.tenant.id, &about).await?;
        titles.extend(found.into_iter().map(|(id, title)| (("consultation", id.to_string()), title)));
    }
    let about = ids(entries, "webhook_endpoint");
    if !about.is_empty() {
        let found = endpoints::urls(tx, place.tenant.id, &about).await?;
        titles.extend(found.into_iter().map(|(id, url)| (("webhook_endpoint", id.to_string()), url)));
    }
    Ok(titles)
}

fn shown(
    ui: &Ui,
    place: &Place,
    entry: AuditEntry,
    names: &HashMap<UserId, String>,
    titles: &HashMap<(&'static str, String), String>,
    now: DateTime<Utc>,
) -> shell_ui::AuditEntry {
    let (kind, path, permission) = match entry.resource.as_str() {
        "approval" => ("approval", "approvals", Permission::ApprovalRead),
        "consultation" => ("consultation", "consultations", Permission::ConsultationRead),
        "conversation" => ("conversation", "conversations", Permission::ConversationRead),
        "inbox_event" => ("inbox_event", "inbox/events", Permission::WebhookEventRead),
        "webhook_source" => ("webhook_source", "inbox/sources", Permission::WebhookSourceRead),
        "webhook_endpoint" => ("webhook_endpoint", "endpoints", Permission::WebhookEndpointRead),
        _ => ("", "", Permission::TenantRead),
    };
    let has_page =
        !path.is_empty() && place.may(permission) && uuid::Uuid::parse_str(&entry.resource_id).is_ok();
    let title = match (entry.resource.as_str(), entry.action.as_str()) {
        ("membership" | "principal", _) => {
            entry.resource_id.parse().ok().and_then(|user: UserId| names.get(&user)).cloned()
        }
        ("settings", _) => Some(ui.t("audit-settings")),
        // What somebody named, which needn't be anything.
        ("tenant", "tenant.access_refused") => Some(entry.resource_id.clone()),
        _ => titles.get(&(kind, entry.resource_id.clone())).cloned(),
    };
    shell_ui::AuditEntry {
        id: entry.id.to_string(),
        person: match entry.user_id {
            Some(_) => entry.user_name.clone().unwrap_or_else(|| ui.t("somebody")),
            // A job did it.
            None => ui.t("product"),
        },
        resource: title
            .or_else(|| own_name(&entry))
            .unwrap_or_else(|| format!("{} {}", entry.resource, entry.resource_id)),
        resource_href: has_page.then(|| place.href(&format!("{path}/{}", entry.resource_id))),
        at: ui.time(entry.created_at, now),
        day: ui.day(entry.created_at, now),
        changes: changes(ui, entry.old_values.as_ref(), entry.new_values.as_ref(), names),
        metadata: metadata(ui, &entry.metadata, now),
        action: entry.action,
    }
}

/// The name that an entry itself has of what it is about.
fn own_name(entry: &AuditEntry) -> Option<String> {
    let values = entry.new_values.as_ref().or(entry.old_values.as_ref())?;
    ["title", "name", "url"].into_iter().find_map(|field| values.get(field)?.as_str()).map(str::to_owned)
}

/// What changed, field by field: the new values' fields, then those that only the old ones have. A field that is nothing
/// before and after says nothing.
fn changes(
    ui: &Ui,
    old: Option<&Value>,
    new: Option<&Value>,
    names: &HashMap<UserId, String>,
) -> Vec<AuditChange> {
    let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
    let value = |values: Option<&serde_json::Map<String, Value>>, field: &str| {
        values
            .and_then(|values| values.get(field))
            .filter(|value| !value.is_null())
            .map(|value| readable(ui, value, names))
    };
    let only_old = old
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .filter(|field| new.is_none_or(|new| !new.contains_key(*field)));
    new.into_iter()
        .flat_map(serde_json::Map::keys)
        .chain(only_old)
        .map(|field| AuditChange { field: field.clone(), old: value(old, field), new: value(new, field) })
        .filter(|change| change.old.is_some() || change.new.is_some())
        .collect()
}

/// A value with people's names instead of their ids.
fn readable(ui: &Ui, value: &Value, names: &HashMap<UserId, String>) -> String {
    match value {
        Value::Bool(true) => ui.t("yes"),
        Value::Bool(false) => ui.t("no"),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(|item| readable(ui, item, names)).collect::<Vec<_>>().join(", ")
        }
        Value::String(text) => {
            text.parse().ok().and_then(|user: UserId| names.get(&user)).unwrap_or(text).clone()
        }
        value => value.to_string(),
    }
}

/// What else an entry says, by the names that people know; what is nothing says nothing.
fn metadata(ui: &Ui, metadata: &Value, now: DateTime<Utc>) -> Vec<Fact> {
    let members = metadata.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let value = |name: &str, value: &Value| match (name, value.as_str()) {
        ("means", Some("session")) => ui.t("audit-means-session"),
        ("means", Some("bearer")) => ui.t("audit-means-bearer"),
        ("authTime", Some(at)) => {
            at.parse().map_or_else(|_| at.to_owned(), |at: DateTime<Utc>| ui.time(at, now).full)
        }
        _ => in_words(value),
    };
    members.map(|(name, said)| Fact { name: ui.audit_field(name), value: value(name, said) }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_filter_reaches_to_the_end_of_its_last_day() {
        let (from, to) = read_days(&Ui::new(""), "2026-02-28", "2026-02-28").unwrap();
        assert_eq!(from.unwrap().to_rfc3339(), "2026-02-28T00:00:00+00:00");
        assert_eq!(to.unwrap().to_rfc3339(), "2026-03-01T00:00:00+00:00");
        assert_eq!(read_days(&Ui::new(""), "", "").unwrap(), (None, None));
    }

    #[test]
    fn days_that_are_none_are_told_apart() {
        let ui = Ui::new("");
        let wrong = read_days(&ui, "2026-02-30", "+99999-01-01").unwrap_err();
        assert_eq!(wrong.of("from"), Some(ui.t("error-date").as_str()));
        assert_eq!(wrong.of("to"), Some(ui.t("error-date").as_str()));
        let wrong = read_days(&ui, "2026-02-02", "2026-02-01").unwrap_err();
        assert_eq!(wrong.all().len(), 1);
        assert_eq!(wrong.of("to"), Some(ui.t("error-date-order").as_str()));
    }

    #[test]
    fn changes_name_people_and_leave_out_what_says_nothing() {
        let carla = UserId(Uuid::from_u128(7));
        let names = HashMap::from([(carla, "Carla".to_owned())]);
        let old = json!({ "status": "pending", "gone": 1 });
        let new = json!({ "status": "approved", "approvedBy": carla, "comment": null, "participantIds": [carla], "flag": true });
        let changes = changes(&Ui::new(""), Some(&old), Some(&new), &names);
        let of = |field: &str| {
            changes
                .iter()
                .find(|change| change.field == field)
                .map(|change| (change.old.as_deref(), change.new.as_deref()))
        };
        assert_eq!(of("status"), Some((Some("pending"), Some("approved"))));
        assert_eq!(of("approvedBy"), Some((None, Some("Carla"))));
        assert_eq!(of("participantIds"), Some((None, Some("Carla"))));
        assert_eq!(of("flag"), Some((None, Some("yes"))));
        assert_eq!(of("gone"), Some((Some("1"), None)));
        assert_eq!(of("comment"), None);
    }
}
