#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that can't go on panics"
)]

use std::time::Duration;

use axum::{
    body::Bytes,
    http::{HeaderMap, Method},
};
use reqwest::RequestBuilder;
use serde_json::Value;

/// How long a test waits for an event.
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody who calls the API: with a bearer token, or without.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) http: reqwest::Client,
    /// `http://127.0.0.1:4711`
    pub(super) origin: String,
    pub(super) token: Option<String>,
}

/// What the application answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, raw.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as JSON, after a look at the status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The problem's stable code, after a look at the status and at what every problem has (RFC 9457).
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        let problem = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert!(
            problem["requestId"]
                .as_str()
                .is_some_and(|id| !id.is_empty() && id == self.header("x-request-id")),
            "{problem}"
        );
        problem["code"].as_str().expect("a problem has a code").to_owned()
    }

    /// The JSON pointers of a 422.
    pub fn pointers(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().filter_map(|error| error["pointer"].as_str()).map(str::to_owned).collect()
    }

    /// A header's text; empty where it isn't there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// The token that is sent along.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// A request to a path of the API (`/approvals`), to be completed and given to [`Client::send`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.origin));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.expect("the application answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if headers.get("content-type").is_some_and(|kind| kind == "text/event-stream") {
            // Such a body has no end.
            return Answer { status, headers, body: Bytes::new() };
        }
        Answer { status, headers, body: response.bytes().await.expect("the answer has an end") }
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `POST` of JSON
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `PATCH` with JSON
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    /// `PUT` of JSON
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Opens the event stream of a tenant.
    pub async fn events(&self, tenant: &str, last_event_id: Option<i64>) -> EventStream {
        let mut request = self.request(Method::GET, "/events").query(&[("tenantId", tenant)]);
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id.to_string());
        }
        let response = request.send().await.expect("the application answers");
        assert_eq!(response.status().as_u16(), 200);
        EventStream::of(response)
    }
}

/// An open event stream (WHATWG HTML, section 9.2).
#[derive(Debug)]
pub struct EventStream {
    response: reqwest::Response,
    unread: String,
}

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// The type.
    pub name: String,
    /// The id, where it has one.
    pub id: Option<i64>,
    /// The data; null where it isn't JSON.
    pub data: Value,
}

impl EventStream {
    pub(super) fn of(response: reqwest::Response) -> Self {
        Self { response, unread: String::new() }
    }

    /// The next message, comments left out; none at the end of the stream.
    pub async fn next(&mut self) -> Option<StreamEvent> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event comes in time")
    }

    /// The next message, if it is already on its way: none after `wait` without one.
    pub async fn next_within(&mut self, wait: Duration) -> Option<StreamEvent> {
        tokio::time::timeout(wait, self.read()).await.ok().flatten()
    }

    async fn read(&mut self) -> Option<StreamEvent> {
        loop {
            while let Some((message, rest)) = self.unread.split_once("\n\n") {
                let field =
                    |name: &str| message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let event = field("event").map(|event| StreamEvent {
                    name: event.to_owned(),
                    id: field("id").and_then(|id| id.parse().ok()),
                    data: field("data").and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default(),
                });
                let rest = rest.to_owned();
                self.unread = rest;
                if event.is_some() {
                    return event;
                }
            }
            let chunk = self.response.chunk().await.ok().flatten()?;
            self.unread.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}
