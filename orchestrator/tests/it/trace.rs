//! W3C Trace Context: from the request over the job to the tool.

use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::{body::Body, http::Request};
use chancery::testing::TestApp;
use connector_core::TraceContext;
use reqwest::Method;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{chatwoot_conversation, message_created, path, private_note};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Escalates a new conversation with these headers, runs the jobs, and gives what Chatwoot was then asked to post:
/// `traceparent`, and `tracestate`.
async fn posted(app: &TestApp, headers: &[(&str, &str)]) -> (TraceContext, Option<String>) {
    let (_, mirrored) = chatwoot_conversation(app).await;
    let agent = app.agent();
    let escalate = format!("{}/escalate", path("/conversations", &mirrored));
    let mut request = agent.request(Method::POST, &escalate).json(&json!({ "reason": "Refund" }));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    agent.send(request).await.expect(201);
    app.doubles().chatwoot.received().take();
    app.run_jobs().await;
    let mut posts = app.doubles().chatwoot.received().take();
    posts.retain(|request| request.method == Method::POST);
    let [post] = posts.as_slice() else { panic!("one note is posted: {posts:?}") };
    let parent = post.traceparent.as_deref().expect("the note belongs to a trace");
    (TraceContext::parse(parent, None).expect("it is one by the rules"), post.tracestate.clone())
}

#[tokio::test]
async fn what_a_request_leads_to_belongs_to_its_trace() {
    let app = TestApp::start().await;
    let (note, state) =
        posted(&app, &[("traceparent", PARENT), ("tracestate", "congo=t61rcWkgMzE,rojo=1")]).await;
    assert_eq!(note.trace_id(), TRACE);
    assert_ne!(note.span_id(), "00f067aa0ba902b7", "its parent is the job's work, not the caller's");
    assert!(note.traceparent().ends_with("-01"));
    assert_eq!(state.as_deref(), Some("congo=t61rcWkgMzE,rojo=1"));
    // The job was put down below the request's own work.
    let enqueued: String = sqlx::query_scalar("SELECT traceparent FROM jobs WHERE kind = 'approvals.note'")
        .fetch_one(app.superuser())
        .await
        .unwrap();
    let enqueued = TraceContext::parse(&enqueued, None).unwrap();
    assert_eq!(enqueued.trace_id(), TRACE);
    assert!(!["00f067aa0ba902b7", note.span_id().as_str()].contains(&enqueued.span_id().as_str()));
}

#[tokio::test]
async fn what_a_webhook_leads_to_belongs_to_the_trace_in_which_it_was_sent() {
    let app = TestApp::start().await;
    let (number, _) = chatwoot_conversation(&app).await;
    let note = private_note(&app, number, 500, "/escalate Refund", "acme-agent@acme.example").to_string();
    let signature = connector_chatwoot::webhook::sign(&app.chatwoot_secret(), app.now(), note.as_bytes());
    let nobody = app.nobody();
    let request = nobody
        .request(Method::POST, &format!("/webhooks/chatwoot/{}", app.chatwoot_source()))
        .header("content-type", "application/json")
        .header("x-chatwoot-timestamp", app.now().timestamp().to_string())
        .header("x-chatwoot-signature", signature)
        .header("traceparent", PARENT)
        .header("tracestate", "congo=t61rcWkgMzE");
    // In the same batch, and of another trace.
    app.deliver(&message_created(&app, number, 501, "Hello")).await.expect(200);
    nobody.send(request.body(note)).await.expect(200);
    app.doubles().chatwoot.received().take();
    app.run_jobs().await;
    let jobs: Vec<(String, String, Option<String>)> =
        sqlx::query_as("SELECT kind, traceparent, tracestate FROM jobs WHERE kind = 'conversations.escalate_note' OR kind LIKE 'approvals.%' ORDER BY id")
            .fetch_all(app.superuser())
            .await
            .unwrap();
    assert!(jobs.len() > 1 && jobs.iter().any(|job| job.0 == "conversations.escalate_note"), "{jobs:?}");
    for (kind, parent, state) in jobs {
        let parent = TraceContext::parse(&parent, None).unwrap();
        assert_eq!(
            (parent.trace_id().as_str(), state.as_deref()),
            (TRACE, Some("congo=t61rcWkgMzE")),
            "{kind}"
        );
        assert_ne!(parent.span_id(), "00f067aa0ba902b7", "its parent is our work, not the sender's");
    }
    let received = app.doubles().chatwoot.received().take();
    let posted = received.iter().filter(|request| request.method == Method::POST);
    let traces: Vec<_> = posted.map(|request| request.traceparent.clone().unwrap_or_default()).collect();
    assert!(!traces.is_empty() && traces.iter().all(|parent| parent.contains(TRACE)), "{traces:?}");
}

#[tokio::test]
async fn what_breaks_the_rules_is_left_aside_and_a_new_trace_begins() {
    let app = TestApp::start().await;
    let mut traces = vec![TRACE.to_owned()];
    let broken = PARENT.to_uppercase();
    for headers in [&[][..], &[("traceparent", broken.as_str()), ("tracestate", "congo=t61rcWkgMzE")][..]] {
        let (note, state) = posted(&app, headers).await;
        assert!(!traces.contains(&note.trace_id()), "{note:?}");
        assert_eq!(state, None, "without its parent a state is of no trace");
        traces.push(note.trace_id());
    }
    let (note, state) = posted(&app, &[("traceparent", PARENT), ("tracestate", "Not A State")]).await;
    assert_eq!((note.trace_id().as_str(), state), (TRACE, None));
}

/// Keeps the log's lines.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn what_is_logged_says_to_which_request_and_trace_it_belongs() {
    let app = TestApp::start().await;
    let log = Lines::default();
    let logger = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(log.clone())
        .finish();
    let request = Request::get("/api/v1/approvals")
        .header("traceparent", PARENT)
        .header("x-request-id", "the-request")
        .header("authorization", "Bearer no-token")
        .body(Body::empty())
        .unwrap();
    {
        let _logging = tracing::subscriber::set_default(logger);
        assert_eq!(app.router().oneshot(request).await.unwrap().status(), 401);
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let entries: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for message in ["an access token was refused", "answered"] {
        let entry = entries.iter().find(|entry| entry["fields"]["message"] == message).expect(message);
        let span = &entry["span"];
        assert_eq!((&span["trace_id"], &span["request_id"]), (&json!(TRACE), &json!("the-request")));
        assert_eq!((&span["method"], &span["route"]), (&json!("GET"), &json!("/api/v1/approvals")));
        let span_id = span["span_id"].as_str().unwrap();
        assert!(span_id.len() == 16 && span_id != "00f067aa0ba902b7", "{span_id}");
    }
}
