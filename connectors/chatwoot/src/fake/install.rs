//! What an account is set up with: webhooks and dashboard apps.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State as Extract},
    http::{HeaderMap, StatusCode},
    response::IntoResponse as _,
    routing::get,
};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    FakeChatwoot, payload,
    rest::{Allow, Answer, ApiError, Fake, nested, object, ok, string, strings},
    state::{DashboardApp, State, Webhook},
};

const EVENTS: [&str; 12] = [
    "conversation_status_changed",
    "conversation_updated",
    "conversation_created",
    "contact_created",
    "contact_updated",
    "message_created",
    "message_updated",
    "webwidget_triggered",
    "inbox_created",
    "inbox_updated",
    "conversation_typing_on",
    "conversation_typing_off",
];

pub(super) fn router() -> Router<Arc<FakeChatwoot>> {
    let account = "/api/v1/accounts/{account}";
    Router::new()
        .route(&format!("{account}/webhooks"), get(list_webhooks).post(create_webhook))
        .route(
            &format!("{account}/webhooks/{{webhook}}"),
            axum::routing::patch(update_webhook).put(update_webhook).delete(delete_webhook),
        )
        .route(&format!("{account}/dashboard_apps"), get(list_dashboard_apps).post(create_dashboard_app))
}

async fn list_webhooks(Extract(fake): Fake, Path(account): Path<String>, headers: HeaderMap) -> Answer {
    fake.authorise(&headers, &account, Allow::Administrators)?;
    fake.read(|state| {
        let webhooks: Vec<Value> = state.webhooks.values().map(payload::webhook_rest).collect();
        ok(json!({"payload": {"webhooks": webhooks}}))
    })
}

/// The parameters of a webhook, flat or wrapped as Rails wraps them.
fn webhook_parameters(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let body = object(body)?;
    Ok(match body.get("webhook").and_then(Value::as_object) {
        Some(wrapped) => wrapped.clone(),
        None => body,
    })
}

fn check_webhook(state: &State, id: i64, url: &str, subscriptions: &[String]) -> Result<(), ApiError> {
    let (mut messages, mut attributes) = (Vec::new(), Vec::new());
    if !Url::parse(url).is_ok_and(|url| ["http", "https"].contains(&url.scheme())) {
        messages.push("Url is invalid");
        attributes.push("url");
    } else if state.webhooks.values().any(|webhook| webhook.id != id && webhook.url == url) {
        messages.push("Url has already been taken");
        attributes.push("url");
    }
    if subscriptions.is_empty() || subscriptions.iter().any(|name| !EVENTS.contains(&name.as_str())) {
        messages.push("Subscriptions Invalid events");
        attributes.push("subscriptions");
    }
    if messages.is_empty() { Ok(()) } else { Err(ApiError::Invalid(messages.join(", "), attributes)) }
}

async fn create_webhook(
    Extract(fake): Fake,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Administrators)?;
    let parameters = webhook_parameters(&body)?;
    let url = string(&parameters, "url").unwrap_or_default();
    let subscriptions = strings(parameters.get("subscriptions"));
    let secret = fake.token();
    let answer = fake.change(|state, _| {
        check_webhook(state, 0, &url, &subscriptions)?;
        let id = state.next_id.webhook;
        state.next_id.webhook += 1;
        let webhook = Webhook { id, url, name: string(&parameters, "name"), subscriptions, secret };
        let answer = payload::webhook_rest(&webhook);
        state.webhooks.insert(id, webhook);
        Ok::<_, ApiError>(answer)
    })??;
    ok(json!({"payload": {"webhook": answer}}))
}

async fn update_webhook(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, i64)>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Administrators)?;
    let parameters = webhook_parameters(&body)?;
    let answer = fake.change(|state, _| {
        let mut webhook = state.webhooks.get(&id).ok_or(ApiError::NotFound)?.clone();
        if let Some(url) = string(&parameters, "url") {
            webhook.url = url;
        }
        if let Some(name) = string(&parameters, "name") {
            webhook.name = Some(name);
        }
        if parameters.contains_key("subscriptions") {
            webhook.subscriptions = strings(parameters.get("subscriptions"));
        }
        check_webhook(state, id, &webhook.url, &webhook.subscriptions)?;
        let answer = payload::webhook_rest(&webhook);
        state.webhooks.insert(id, webhook);
        Ok::<_, ApiError>(answer)
    })??;
    ok(json!({"payload": {"webhook": answer}}))
}

async fn delete_webhook(
    Extract(fake): Fake,
    Path((account, id)): Path<(String, i64)>,
    headers: HeaderMap,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Administrators)?;
    fake.change(|state, _| state.webhooks.remove(&id))?.ok_or(ApiError::NotFound)?;
    Ok(StatusCode::OK.into_response())
}

async fn list_dashboard_apps(Extract(fake): Fake, Path(account): Path<String>, headers: HeaderMap) -> Answer {
    fake.authorise(&headers, &account, Allow::Users)?;
    fake.read(|state| {
        ok(state.dashboard_apps.iter().map(payload::dashboard_app_rest).collect::<Vec<Value>>())
    })
}

async fn create_dashboard_app(
    Extract(fake): Fake,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    fake.authorise(&headers, &account, Allow::Users)?;
    // The content is nested: only the wrapped form reaches it.
    let parameters = nested(&object(&body)?, "dashboard_app");
    let title = string(&parameters, "title").filter(|title| !title.is_empty());
    let content = parameters.get("content").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_frame = |frame: &Value| {
        let url = frame.get("url").and_then(Value::as_str).and_then(|url| Url::parse(url).ok());
        frame.get("type") == Some(&json!("frame"))
            && url.is_some_and(|url| ["http", "https"].contains(&url.scheme()))
    };
    let Some(title) = title.filter(|_| !content.is_empty() && content.iter().all(is_frame)) else {
        return Err(ApiError::Invalid("Content : Invalid data".to_owned(), vec!["content"]));
    };
    let app = fake.change(|state, _| {
        let id = state.dashboard_apps.iter().map(|app| app.id).max().unwrap_or(0) + 1;
        let app = DashboardApp { id, title, content: Value::Array(content) };
        state.dashboard_apps.push(app.clone());
        app
    })?;
    ok(payload::dashboard_app_rest(&app))
}
