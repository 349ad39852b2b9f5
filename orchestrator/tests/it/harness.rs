//! What the tests share beside [`chancery::testing`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chancery::{
    auth::session::COOKIE,
    config::Config,
    testing::{ACME, Browser, Client, TestApp},
};
use chrono::TimeDelta;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// Requests an approval at acme's and gives it.
pub async fn approval(client: &Client, title: &str) -> Value {
    client.post("/approvals", &json!({ "tenantId": ACME, "title": title })).await.expect(201)
}

/// The id of something.
pub fn id(thing: &Value) -> &str {
    thing["id"].as_str().expect("it has an id")
}

/// The path of something in a list's path: `/approvals/<id>`.
pub fn path(list: &str, thing: &Value) -> String {
    format!("{list}/{}", id(thing))
}

/// Moves the clock, so that what happens next is later.
pub fn pass(app: &TestApp, seconds: i64) {
    app.clock().advance(TimeDelta::seconds(seconds));
}

/// Somebody's browser, signed in.
pub async fn signed_in(app: &TestApp, username: &str) -> Browser {
    let browser = app.browser();
    assert_eq!(browser.sign_in(username).await, "/app");
    browser
}

/// The cookie of a new session of the shell, as a request's header has it.
pub async fn session_cookie(app: &TestApp, username: &str) -> String {
    let browser = signed_in(app, username).await;
    format!("{COOKIE}={}", browser.cookie(COOKIE).expect("it is signed in"))
}

/// The items of a list.
pub async fn items(client: &Client, path: &str) -> Vec<Value> {
    client.get(path).await.expect(200)["items"].as_array().expect("it is a list").clone()
}

/// The actions that the CEO sees in the trail of one thing, oldest first.
pub async fn trail(app: &TestApp, kind: &str, thing: &Value) -> Vec<String> {
    let entries = items(&app.ceo(), &format!("/audit/resource/{kind}/{}", id(thing))).await;
    entries.iter().rev().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

/// Chatwoot's event of a message: a customer's, unless changed.
pub fn message_created(app: &TestApp, conversation: i64, message: i64, content: &str) -> Value {
    let now = app.now();
    json!({
        "event": "message_created", "id": message, "content": content, "message_type": "incoming", "private": false,
        "content_type": "text", "content_attributes": {}, "source_id": null, "created_at": now.to_rfc3339(),
        "sender": { "id": 70, "name": "Connie Customer", "email": "connie@customer.example", "type": "contact" },
        "account": { "id": 1, "name": "Acme Corp" }, "inbox": { "id": 2, "name": "App" },
        "conversation": {
            "id": conversation, "inbox_id": 2, "status": "open", "labels": [], "updated_at": now.timestamp(),
            "meta": { "sender": { "id": 70, "name": "Connie Customer", "email": "connie@customer.example" } },
        },
    })
}

/// Chatwoot's event of a private note by somebody who works there.
pub fn private_note(app: &TestApp, conversation: i64, message: i64, content: &str, mail: &str) -> Value {
    let mut event = message_created(app, conversation, message, content);
    event["message_type"] = json!("outgoing");
    event["private"] = json!(true);
    event["sender"] = json!({ "id": 8, "name": "Ada Agent", "email": mail, "type": "user" });
    event
}

/// Makes a conversation known by a customer's message.
pub async fn conversation(app: &TestApp, number: i64) -> Value {
    app.deliver(&message_created(app, number, number * 1000, "My order came broken.")).await.expect(200);
    app.run_jobs().await;
    let known = items(&app.agent(), &format!("/conversations?tenantId={ACME}")).await;
    known
        .into_iter()
        .find(|conversation| conversation["displayId"] == number)
        .expect("the conversation is known")
}

/// Opens a conversation in Chatwoot's double as a customer, and makes it known. Its number and the mirrored one.
pub async fn chatwoot_conversation(app: &TestApp) -> (i64, Value) {
    let number = open_in_chatwoot(app).await;
    (number, conversation(app, number).await)
}

/// Opens a conversation in Chatwoot's double as a customer.
pub async fn open_in_chatwoot(app: &TestApp) -> i64 {
    let chatwoot = &app.doubles().chatwoot;
    let contacts =
        format!("{}public/api/v1/inboxes/{}/contacts", chatwoot.public_url(), chatwoot.inbox_identifier());
    let contact = post(&contacts, &json!({ "name": "Connie Customer" })).await;
    let conversations = format!("{contacts}/{}/conversations", contact["source_id"].as_str().unwrap());
    let number = post(&conversations, &json!({})).await["id"].as_i64().unwrap();
    post(&format!("{conversations}/{number}/messages"), &json!({ "content": "My order came broken." })).await;
    number
}

async fn post(url: &str, body: &Value) -> Value {
    let answer = reqwest::Client::new().post(url).json(body).send().await.unwrap();
    answer.error_for_status().unwrap().json().await.unwrap()
}

/// The private notes of a conversation in Chatwoot's double, oldest first.
pub async fn notes(app: &TestApp, number: i64) -> Vec<Value> {
    let chatwoot = &app.doubles().chatwoot;
    let url = format!("{}api/v1/accounts/1/conversations/{number}/messages", chatwoot.public_url());
    let token = chatwoot.admin_token();
    let answer = reqwest::Client::new()
        .get(url)
        .header("api-access-token", token.expose_secret())
        .send()
        .await
        .unwrap();
    let page: Value = answer.error_for_status().unwrap().json().await.unwrap();
    page["payload"].as_array().unwrap().iter().filter(|message| message["private"] == true).cloned().collect()
}

/// A way to the database that is slow, or can lose an answer: the connection is closed instead of passing it on.
pub struct Wire {
    port: u16,
    /// Whether the next answer is lost.
    pub loses_next: Arc<AtomicBool>,
}

impl Wire {
    /// Lays one that needs so long for each answer.
    pub async fn lay(pause: Duration) -> Self {
        let server = Url::parse(&local_postgres::test_server_url().await.unwrap()).unwrap();
        let to = format!("{}:{}", server.host_str().unwrap_or("127.0.0.1"), server.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, loses_next) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let loses = Arc::clone(&loses_next);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(Self::connect(client, server, Arc::clone(&loses), pause));
            }
        });
        Self { port, loses_next }
    }

    /// Has the worker's login go this way.
    pub fn use_for_worker(&self, config: &mut Config) {
        let mut url = Url::parse(config.database.worker_url.expose_secret()).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        config.database.worker_url = url.to_string().into();
    }

    async fn connect(client: TcpStream, server: TcpStream, loses: Arc<AtomicBool>, pause: Duration) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match from_server.read(&mut buffer).await {
                Ok(read) if read > 0 && !loses.swap(false, Ordering::SeqCst) => {
                    tokio::time::sleep(pause).await;
                    if to_client.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        up.abort();
    }
}
