//! The double, with a look at everything that goes in and out.

use std::sync::{Arc, Mutex};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use connector_chatwoot::{
    ChatwootClient,
    fake::{AgentAccount, FakeChatwoot, Options},
};
use connector_core::{MockClock, RandomIds, fake::serve};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use crate::document::Exchange;

pub struct Stage {
    pub double: Arc<FakeChatwoot>,
    pub client: ChatwootClient,
    pub url: Url,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
    _directory: tempfile::TempDir,
}

impl Stage {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(MockClock::new("2026-03-04T05:06:07.089012Z".parse::<DateTime<Utc>>().unwrap()));
        let double = FakeChatwoot::open(Options {
            public_url: url.clone(),
            state_path: directory.path().join("chatwoot.json"),
            clock,
            ids: Arc::new(RandomIds),
            agents: vec![AgentAccount {
                id: 5,
                name: "Ada Agent".to_owned(),
                email: "ada@acme.test".to_owned(),
            }],
        })
        .unwrap();
        let exchanges: Arc<Mutex<Vec<Exchange>>> = Arc::default();
        let router = double.router().layer(from_fn_with_state(Arc::clone(&exchanges), record));
        tokio::spawn(serve(router, listener, std::future::pending()));
        let client = ChatwootClient::new(&double.settings()).unwrap();
        Self { double, client, url, exchanges, _directory: directory }
    }

    /// What went in and out since the last call.
    pub fn take(&self) -> Vec<Exchange> {
        std::mem::take(&mut *self.exchanges.lock().unwrap())
    }

    /// Whether a request with this method came in since the last look.
    pub fn exchanged(&self, method: &Method) -> bool {
        self.exchanges.lock().unwrap().iter().any(|exchange| exchange.method == *method)
    }

    /// A conversation that a customer began, over the customer's API.
    pub async fn conversation(&self) -> i64 {
        let inbox = format!("public/api/v1/inboxes/{}", self.double.inbox_identifier());
        let customer = json!({"name": "Carla", "email": "carla@customer.test"});
        let contact = self.post(&format!("{inbox}/contacts"), &customer).await;
        let source_id = contact["source_id"].as_str().unwrap();
        let conversations = format!("{inbox}/contacts/{source_id}/conversations");
        let conversation = self.post(&conversations, &json!({})).await["id"].as_i64().unwrap();
        let messages = format!("{conversations}/{conversation}/messages");
        self.post(&messages, &json!({"content": "Where is my refund?"})).await;
        conversation
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = self.url.join(path).unwrap();
        reqwest::Client::new().post(url).json(body).send().await.unwrap().json().await.unwrap()
    }
}

async fn record(
    State(exchanges): State<Arc<Mutex<Vec<Exchange>>>>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let query =
        form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let token = head.headers.contains_key("api-access-token");
    let sent = (!body.is_empty()).then(|| serde_json::from_slice(&body).unwrap());
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    let (head, body) = response.into_parts();
    // A body that can't be read is a connection that broke: no answer, so nothing to look at.
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_GATEWAY.into_response();
    };
    let text = || String::from_utf8_lossy(&body).into_owned();
    exchanges.lock().unwrap().push(Exchange {
        method,
        path,
        query,
        token,
        request: sent,
        status: head.status.as_u16(),
        answer: serde_json::from_slice(&body).map_err(|_| text()),
    });
    Response::from_parts(head, Body::from(body))
}
