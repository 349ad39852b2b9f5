//! A double on a port of its own, and a receiver for its webhooks.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use chrono::{DateTime, Utc};
use connector_chatwoot::{
    ChatwootClient,
    fake::{AgentAccount, FakeChatwoot, Options},
    webhook::{Event, Verified, parse, verify},
};
use connector_core::{Clock as _, MockClock, RandomIds};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

pub struct Double {
    pub fake: Arc<FakeChatwoot>,
    pub client: ChatwootClient,
    pub clock: Arc<MockClock>,
    pub url: Url,
    pub http: reqwest::Client,
    pub directory: tempfile::TempDir,
}

pub fn options(directory: &tempfile::TempDir, url: &Url, clock: &Arc<MockClock>) -> Options {
    Options {
        public_url: url.clone(),
        state_path: directory.path().join("chatwoot.json"),
        clock: clock.clone(),
        ids: Arc::new(RandomIds),
        agents: vec![
            AgentAccount { id: 5, name: "Ada Agent".to_owned(), email: "ada@acme.test".to_owned() },
            AgentAccount { id: 6, name: "Ben Agent".to_owned(), email: "ben@acme.test".to_owned() },
        ],
    }
}

impl Double {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url: Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(MockClock::new("2026-03-04T05:06:07.089012Z".parse::<DateTime<Utc>>().unwrap()));
        let fake = FakeChatwoot::open(options(&directory, &url, &clock)).unwrap();
        let router = fake.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        tokio::spawn(Arc::clone(&fake).run(std::future::pending()));
        let client = ChatwootClient::new(&fake.settings()).unwrap();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { fake, client, clock, url, http, directory }
    }

    /// Writes as a customer, over the customer's API; answers the conversation's id.
    pub async fn customer_writes(&self, content: &str) -> i64 {
        let inbox = format!("public/api/v1/inboxes/{}", self.fake.inbox_identifier());
        let contact = self
            .post(
                &format!("{inbox}/contacts"),
                None,
                &json!({"name": "Carla", "email": "Carla@customer.test"}),
            )
            .await;
        let conversations =
            format!("{inbox}/contacts/{}/conversations", contact["source_id"].as_str().unwrap());
        let conversation = self.post(&conversations, None, &json!({})).await["id"].as_i64().unwrap();
        let messages = format!("{conversations}/{conversation}/messages");
        let message = self.post(&messages, None, &json!({"content": content})).await;
        assert_eq!((&message["content"], &message["message_type"]), (&json!(content), &json!(0)));
        conversation
    }

    pub async fn post(&self, path: &str, token: Option<&SecretString>, body: &Value) -> Value {
        let (status, answer) = self.call("POST", path, token, Some(body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let mut request = self.http.request(method.parse().unwrap(), self.url.join(path).unwrap());
        if let Some(token) = token {
            request = request.header("api-access-token", token.expose_secret());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

/// A delivery as it came.
pub struct Delivery {
    pub headers: HeaderMap,
    pub raw: Bytes,
}

impl Delivery {
    pub fn event(&self) -> Event {
        parse(&self.raw).unwrap()
    }

    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.raw).unwrap()
    }

    pub fn verified(&self, secret: &SecretString, clock: &MockClock) -> Verified {
        verify(std::slice::from_ref(secret), &self.headers, &self.raw, clock.now()).unwrap()
    }
}

/// An endpoint that keeps what it gets.
pub struct Receiver {
    pub url: Url,
    deliveries: Arc<Mutex<Vec<Delivery>>>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
        let deliveries: Arc<Mutex<Vec<Delivery>>> = Arc::default();
        let keep = |State(kept): State<Arc<Mutex<Vec<Delivery>>>>, headers: HeaderMap, raw: Bytes| async move {
            kept.lock().unwrap().push(Delivery { headers, raw });
        };
        let router = Router::new().route("/hook", post(keep)).with_state(Arc::clone(&deliveries));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, deliveries }
    }

    /// Waits for so many deliveries and takes them.
    pub async fn take(&self, count: usize) -> Vec<Delivery> {
        for _ in 0..500 {
            if self.deliveries.lock().unwrap().len() >= count {
                // One too many would come now.
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                return std::mem::take(&mut *self.deliveries.lock().unwrap());
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let names: Vec<_> = self
            .deliveries
            .lock()
            .unwrap()
            .iter()
            .map(|delivery| delivery.event().name.to_string())
            .collect();
        panic!("waited for {count} deliveries and got {names:?}");
    }
}
