//! What has happened: the events of administrators and of users, as the Admin REST API lists them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, RawQuery, State as Shared},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::get,
};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::form_urlencoded;
use uuid::Uuid;

use super::{FakeKeycloak, State, error};

/// How many of each kind are kept: all of them are written at each change.
const KEPT: usize = 300;
/// What a list holds where the caller doesn't say.
const DEFAULT_MAX: usize = 100;
const VIEW_EVENTS: &[&str] = &["view-events", "manage-events"];
const OPERATIONS: [&str; 4] = ["CREATE", "UPDATE", "DELETE", "ACTION"];

/// `AdminEventRepresentation`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdminEvent {
    pub(super) id: Uuid,
    /// Milliseconds since 1970.
    pub(super) time: i64,
    pub(super) realm_id: Uuid,
    pub(super) auth_details: Value,
    pub(super) operation_type: String,
    pub(super) resource_type: String,
    pub(super) resource_path: String,
    /// JSON as text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) representation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) details: Option<Map<String, Value>>,
}

/// `EventRepresentation`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserEvent {
    pub(super) id: Uuid,
    /// Milliseconds since 1970.
    pub(super) time: i64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) realm_id: Uuid,
    pub(super) client_id: String,
    pub(super) user_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) session_id: Option<String>,
    pub(super) ip_address: String,
    pub(super) details: Map<String, Value>,
}

impl State {
    pub(super) fn keep_admin_event(&mut self, event: AdminEvent) {
        keep(&mut self.admin_events, event);
    }

    pub(super) fn keep_event(&mut self, event: UserEvent) {
        keep(&mut self.events, event);
    }
}

fn keep<T>(events: &mut Vec<T>, event: T) {
    if events.len() >= KEPT {
        events.remove(0);
    }
    events.push(event);
}

impl FakeKeycloak {
    /// Made of the issuer: the realm file has no id for the realm.
    pub(super) fn realm_id(&self) -> Uuid {
        Uuid::new_v5(&Uuid::NAMESPACE_URL, self.issuer.as_bytes())
    }

    /// An event of a user at a client, now.
    pub(super) fn user_event(
        &self,
        kind: &str,
        client_id: &str,
        user: Uuid,
        session: Option<&str>,
        details: Value,
    ) -> UserEvent {
        UserEvent {
            id: self.uuid(),
            time: self.clock.now().timestamp_millis(),
            kind: kind.to_owned(),
            realm_id: self.realm_id(),
            client_id: client_id.to_owned(),
            user_id: user,
            session_id: session.map(ToOwned::to_owned),
            ip_address: "127.0.0.1".to_owned(),
            details: if let Value::Object(details) = details { details } else { Map::new() },
        }
    }
}

pub(super) fn routes() -> Router<Arc<FakeKeycloak>> {
    Router::new()
        .route("/admin/realms/{realm}/admin-events", get(admin_events))
        .route("/admin/realms/{realm}/events", get(events))
}

type Double = Shared<Arc<FakeKeycloak>>;

/// A query whose parameters may come several times.
struct Filter(Vec<(String, String)>);

impl Filter {
    fn parse(query: Option<String>) -> Self {
        Self(form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    fn all<'a>(&'a self, name: &str) -> Vec<&'a str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// Whether `value` is one of those that were asked for; any is where none was.
    fn names(&self, name: &str, value: &str) -> bool {
        let wanted = self.all(name);
        wanted.is_empty() || wanted.contains(&value)
    }

    /// A point in time in milliseconds since 1970: such a number, or a date, of which `end` is the last one.
    fn time(&self, name: &str, end: bool) -> Result<Option<i64>, Box<Response>> {
        const DAY: i64 = 24 * 60 * 60 * 1000;
        let Some(text) = self.one(name) else { return Ok(None) };
        if let Ok(milliseconds) = text.parse() {
            return Ok(Some(milliseconds));
        }
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
        let day = day.map(|day| day.and_utc().timestamp_millis()).ok_or_else(|| {
            let message =
                format!("Invalid value for '{name}', expected format is yyyy-MM-dd or an Epoch timestamp");
            Box::new(error(StatusCode::BAD_REQUEST, &message))
        })?;
        Ok(Some(if end { day + DAY - 1 } else { day }))
    }

    /// Those of `events`, oldest first, that fit: the newest first unless asked otherwise, a page of them.
    fn apply<T: Serialize>(
        &self,
        events: &[T],
        time: impl Fn(&T) -> i64,
        fits: impl Fn(&T) -> bool,
    ) -> Result<Value, Box<Response>> {
        let (from, to) = (self.time("dateFrom", false)?, self.time("dateTo", true)?);
        let mut found: Vec<&T> = events
            .iter()
            .filter(|event| from.is_none_or(|from| time(event) >= from))
            .filter(|event| to.is_none_or(|to| time(event) <= to))
            .filter(|event| fits(event))
            .collect();
        if self.one("direction") != Some("asc") {
            found.reverse();
        }
        let number = |name, default| self.one(name).and_then(|text| text.parse().ok()).unwrap_or(default);
        let (first, max) = (number("first", 0), number("max", DEFAULT_MAX));
        Ok(json!(found.into_iter().skip(first).take(max).collect::<Vec<_>>()))
    }
}

async fn admin_events(
    Shared(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let filter = Filter::parse(query);
    double.answer_from(&realm, &headers, VIEW_EVENTS, |state| {
        let shouted = |names: Vec<&str>| {
            names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        };
        let operations = filter.all("operationTypes");
        if !operations.iter().all(|name| OPERATIONS.contains(name)) || !shouted(filter.all("resourceTypes")) {
            // The real one has no better answer to a name that it doesn't know.
            let body = json!({"error": "unknown_error",
                "error_description": "For more on this error consult the server log."});
            return Err(Box::new(super::json_response(StatusCode::INTERNAL_SERVER_ERROR, &body)));
        }
        filter.apply(
            &state.admin_events,
            |event| event.time,
            |event| {
                filter.names("operationTypes", &event.operation_type)
                    && filter.names("resourceTypes", &event.resource_type)
                    && filter.one("resourcePath").is_none_or(|pattern| is_like(pattern, &event.resource_path))
            },
        )
    })
}

async fn events(
    Shared(double): Double,
    Path(realm): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let filter = Filter::parse(query);
    double.answer_from(&realm, &headers, VIEW_EVENTS, |state| {
        filter.apply(
            &state.events,
            |event| event.time,
            |event| {
                filter.names("type", &event.kind)
                    && filter.names("client", &event.client_id)
                    && filter.names("user", &event.user_id.to_string())
            },
        )
    })
}

/// Whether `text` is what `pattern` says, in which a `*` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|start| text.strip_prefix(start)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(end) = parts.pop() else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(end) else { return false };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("users/*", "users/1/groups/2", true),
            ("users/*/groups/*", "users/1/groups/2", true),
            ("users/*/groups/*", "users/1", false),
            ("users/1", "users/1", true),
            ("users/1", "users/12", false),
            ("*", "", true),
            ("users/*1", "users/", false),
        ] {
            assert_eq!(is_like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
