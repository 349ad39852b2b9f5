//! The double answers and sends as Chatwoot 4.15.1 does.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in tests a panic is the report")]

mod common;

use std::{collections::BTreeSet, path::PathBuf};

use common::{Double, Receiver, options};
use connector_chatwoot::{
    MessageType, SenderKind,
    fake::{ACCOUNT_ID, BOT_ID, FakeChatwoot, OpenError},
    webhook::{DELIVERY_HEADER, EventName, OwnWrites, content_key, parse},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

const EVENTS: [&str; 6] = [
    "message_created",
    "message_updated",
    "conversation_created",
    "conversation_updated",
    "conversation_status_changed",
    "contact_created",
];

async fn subscribed(double: &Double, events: &[&str]) -> (Receiver, SecretString) {
    let receiver = Receiver::start().await;
    let webhook = double.client.register_webhook(&receiver.url, "test", events).await.unwrap();
    (receiver, webhook.secret.unwrap())
}

fn conversation_path(conversation: i64, rest: &str) -> String {
    format!("api/v1/accounts/{ACCOUNT_ID}/conversations/{conversation}{rest}")
}

#[tokio::test]
async fn a_customers_message_is_delivered_signed_and_in_order() {
    let double = Double::start().await;
    let (receiver, secret) = subscribed(&double, &EVENTS).await;
    let conversation = double.customer_writes("My <refund> & more").await;
    let deliveries = receiver.take(3).await;
    let mut ids = BTreeSet::new();
    for delivery in &deliveries {
        let verified = delivery.verified(&secret, &double.clock);
        ids.insert(verified.delivery_id.unwrap());
        assert!(!delivery.raw.iter().any(|byte| b"<>&".contains(byte)), "Rails escapes these");
    }
    assert_eq!(ids.len(), 3);
    let events: Vec<_> = deliveries.iter().map(common::Delivery::event).collect();
    let names: Vec<_> = events.iter().map(|event| event.name.as_str().to_owned()).collect();
    assert_eq!(names, ["contact_created", "conversation_created", "message_created"]);
    let message = events[2].message.as_ref().unwrap();
    assert_eq!(message.content.as_deref(), Some("My <refund> & more"));
    assert_eq!(message.message_type, MessageType::Incoming);
    assert_eq!(message.sender.as_ref().unwrap().kind, SenderKind::Contact);
    assert_eq!((message.conversation_id, events[2].account_id), (Some(conversation), Some(ACCOUNT_ID)));
}

#[tokio::test]
async fn only_subscribed_events_are_sent_and_each_destination_has_its_own_secret() {
    let double = Double::start().await;
    let (messages, first) = subscribed(&double, &["message_created"]).await;
    let (all, second) = subscribed(&double, &EVENTS).await;
    assert_ne!(first.expose_secret(), second.expose_secret());
    double.customer_writes("Hello").await;
    all.take(3).await;
    let deliveries = messages.take(1).await;
    assert_eq!(deliveries.len(), 1);
    deliveries[0].verified(&first, &double.clock);
}

#[tokio::test]
async fn a_delivery_that_fails_is_not_repeated_and_does_not_stop_the_next() {
    let double = Double::start().await;
    double.client.register_webhook(&"http://127.0.0.1:1/".parse().unwrap(), "dead", &EVENTS).await.unwrap();
    let (receiver, _) = subscribed(&double, &["message_created"]).await;
    double.customer_writes("Hello").await;
    assert_eq!(receiver.take(1).await.len(), 1);
}

#[tokio::test]
async fn an_agents_note_names_the_agent_and_a_bots_note_the_bot() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let (receiver, _) = subscribed(&double, &["message_created"]).await;
    let body = json!({"content": "/escalate refund", "private": true});
    let path = conversation_path(conversation, "/messages");
    double.post(&path, Some(&double.fake.agent_token(5).unwrap()), &body).await;
    double.post(&path, Some(&double.fake.bot_token()), &body).await;
    let events: Vec<_> = receiver.take(2).await.iter().map(common::Delivery::event).collect();
    let agent = events[0].actor.as_ref().unwrap();
    assert_eq!((&agent.kind, agent.email.as_deref()), (&SenderKind::User, Some("ada@acme.test")));
    assert!(events[0].message.as_ref().unwrap().private);
    assert_eq!(events[1].actor.as_ref().unwrap().kind, SenderKind::AgentBot);
}

#[tokio::test]
async fn labels_are_sent_twice_with_one_key_and_a_status_without_what_it_was() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let (receiver, _) = subscribed(&double, &EVENTS).await;
    let token = double.fake.agent_token(5).unwrap();
    double.post(&conversation_path(conversation, "/labels"), Some(&token), &json!({"labels": ["vip"]})).await;
    let twice: Vec<_> = receiver.take(2).await.iter().map(common::Delivery::event).collect();
    assert_eq!(twice[0].name, EventName::ConversationUpdated);
    assert_eq!(content_key(&twice[0]), content_key(&twice[1]));
    let labels = twice[0].changed_attributes.iter().find(|change| change.name == "label_list").unwrap();
    assert_eq!((&labels.previous, &labels.current), (&json!([]), &json!(["vip"])));

    let path = conversation_path(conversation, "/toggle_status");
    double.post(&path, Some(&token), &json!({"status": "resolved"})).await;
    let deliveries = receiver.take(2).await;
    assert_eq!(deliveries[0].event().name, EventName::ConversationUpdated);
    assert_eq!(deliveries[1].value()["event"], "conversation_status_changed");
    assert_eq!(deliveries[1].value()["changed_attributes"], Value::Null);
    assert_ne!(content_key(&deliveries[0].event()), content_key(&twice[0]));
}

#[tokio::test]
async fn a_resolved_conversation_is_reopened_by_its_customer() {
    let double = Double::start().await;
    double
        .http
        .post(double.url.join("widget/messages").unwrap())
        .form(&[("name", "Carla"), ("content", "Hi")])
        .send()
        .await
        .unwrap();
    let token = double.fake.agent_token(5).unwrap();
    double.post(&conversation_path(1, "/toggle_status"), Some(&token), &json!({"status": "resolved"})).await;
    let (receiver, _) = subscribed(&double, &["conversation_status_changed"]).await;
    let again = [("conversation", "1"), ("content", "Still there?")];
    double.http.post(double.url.join("widget/messages").unwrap()).form(&again).send().await.unwrap();
    assert_eq!(receiver.take(1).await[0].value()["status"], "open");
}

#[tokio::test]
async fn a_deleted_message_is_an_update() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let token = double.fake.agent_token(5).unwrap();
    let message = double
        .post(&conversation_path(conversation, "/messages"), Some(&token), &json!({"content": "Oops"}))
        .await;
    let (receiver, _) = subscribed(&double, &EVENTS).await;
    let path = conversation_path(conversation, &format!("/messages/{}", message["id"]));
    assert_eq!(double.call("DELETE", &path, Some(&double.fake.bot_token()), None).await.0, 401);
    assert_eq!(double.call("DELETE", &path, Some(&token), None).await.0, 200);
    let event = receiver.take(1).await[0].event();
    assert_eq!(event.name, EventName::MessageUpdated);
    assert!(event.message.unwrap().is_deleted());
}

#[tokio::test]
async fn bots_may_do_only_what_the_allow_list_has() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let bot = double.fake.bot_token();
    let refused = json!({"error": "Access to this endpoint is not authorized for bots"});
    for path in [
        conversation_path(conversation, "/messages"),
        format!("api/v1/accounts/{ACCOUNT_ID}/conversations"),
        format!("api/v1/accounts/{ACCOUNT_ID}/webhooks"),
        format!("api/v1/accounts/{ACCOUNT_ID}/agents"),
        format!("api/v1/accounts/{ACCOUNT_ID}/inboxes"),
    ] {
        assert_eq!(double.call("GET", &path, Some(&bot), None).await, (401, refused.clone()), "{path}");
    }
    for path in [conversation_path(conversation, ""), conversation_path(conversation, "/labels")] {
        assert_eq!(double.call("GET", &path, Some(&bot), None).await.0, 200, "{path}");
    }
    for (path, body) in [
        ("/messages", json!({"content": "Hi"})),
        ("/labels", json!({"labels": ["a"]})),
        ("/custom_attributes", json!({"custom_attributes": {"a": 1}})),
        ("/toggle_status", json!({"status": "pending"})),
        ("/toggle_priority", json!({"priority": "urgent"})),
        ("/assignments", json!({"assignee_id": 5})),
    ] {
        let path = conversation_path(conversation, path);
        assert_eq!(double.call("POST", &path, Some(&bot), Some(&body)).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn errors_have_chatwoots_shapes() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let admin = double.fake.admin_token();
    let agent = double.fake.agent_token(5).unwrap();
    let wrong = SecretString::from("wrong");
    let show = conversation_path(conversation, "");
    let webhooks = format!("api/v1/accounts/{ACCOUNT_ID}/webhooks");
    let cases = [
        (
            "GET",
            show.as_str(),
            None,
            None,
            401,
            json!({"errors": ["You need to sign in or sign up before continuing."]}),
        ),
        ("GET", &show, Some(&wrong), None, 401, json!({"error": "Invalid Access Token"})),
        (
            "GET",
            &webhooks,
            Some(&agent),
            None,
            401,
            json!({"error": "You are not authorized to do this action"}),
        ),
        (
            "GET",
            "api/v1/accounts/2/agents",
            Some(&admin),
            None,
            404,
            json!({"error": "Resource could not be found"}),
        ),
        (
            "POST",
            &webhooks,
            Some(&admin),
            Some(json!({"url": "nonsense", "subscriptions": []})),
            422,
            json!({"message": "Url is invalid, Subscriptions Invalid events", "attributes": ["url", "subscriptions"]}),
        ),
    ];
    for (method, path, token, body, status, answer) in cases {
        assert_eq!(
            double.call(method, path, token, body.as_ref()).await,
            (status, answer),
            "{method} {path}"
        );
    }
    let (status, _) = double.call("GET", &conversation_path(404, ""), Some(&admin), None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let before = double.client.conversation(conversation).await.unwrap();
    let again = FakeChatwoot::open(options(&double.directory, &double.url, &double.clock)).unwrap();
    assert_eq!(again.admin_token().expose_secret(), double.fake.admin_token().expose_secret());
    assert_eq!(again.bot_token().expose_secret(), double.fake.bot_token().expose_secret());
    assert_eq!(again.inbox_identifier(), double.fake.inbox_identifier());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let router = again.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut settings = again.settings();
    settings.url = url;
    let client = connector_chatwoot::ChatwootClient::new(&settings).unwrap();
    assert_eq!(client.conversation(conversation).await.unwrap(), before);
}

#[test]
fn agents_ids_must_be_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::new(connector_core::MockClock::new(chrono::DateTime::UNIX_EPOCH));
    let mut options = options(&directory, &"http://127.0.0.1:1/".parse().unwrap(), &clock);
    options.agents[1].id = options.agents[0].id;
    assert!(matches!(FakeChatwoot::open(options), Err(OpenError::AgentId(5))));
}

#[tokio::test]
async fn the_page_plays_both_sides_and_keeps_notes_from_the_customer() {
    let double = Double::start().await;
    let send = async |path: &str, form: &[(&str, &str)]| {
        let answer = double.http.post(double.url.join(path).unwrap()).form(form).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{path}");
        answer.headers()["location"].to_str().unwrap().to_owned()
    };
    let location =
        send("widget/messages", &[("name", "<b>Carla"), ("content", "Hi <script>alert(1)</script>")]).await;
    assert_eq!(location, "/?conversation=1");
    let as_agent = [("conversation", "1"), ("agent", "5")];
    let with = |more: &[(&'static str, &'static str)]| [&as_agent, more].concat();
    send("agent/messages", &with(&[("content", "/escalate refund"), ("private", "true")])).await;
    send("agent/messages", &with(&[("content", "One moment")])).await;
    send("agent/labels", &with(&[("labels", "VIP, refund")])).await;
    send("agent/status", &with(&[("status", "pending")])).await;

    let answer = double.http.get(double.url.join("?conversation=1").unwrap()).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    let html = answer.text().await.unwrap();
    assert!(!html.contains("<script>") && !html.contains("<b>Carla"));
    let (customer, agent) = html.split_once("id=\"agent\"").unwrap();
    assert!(customer.contains("One moment") && !customer.contains("/escalate refund"));
    assert!(agent.contains("/escalate refund") && agent.contains("private note"));
    assert!(agent.contains("<i class=\"label\">vip</i>") && agent.contains("status pending"));

    let answer =
        double.http.get(double.url.join("app/accounts/1/conversations/1").unwrap()).send().await.unwrap();
    assert_eq!(answer.headers()["location"], "/?conversation=1");
}

#[tokio::test]
async fn another_sites_form_is_refused() {
    let double = Double::start().await;
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("origin", "http://evil.test"), ("origin", "null")]
    {
        let request = double.http.post(double.url.join("widget/messages").unwrap()).header(name, value);
        let answer = request.form(&[("name", "Carla"), ("content", "Hi")]).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{name}: {value}");
    }
    assert_eq!(double.call("GET", "version", None, None).await.1, json!(0));
}

/// All keys, however deep; below the ones in `free` anything goes.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    const FREE: [&str; 4] =
        ["additional_attributes", "custom_attributes", "content_attributes", "external_source_ids"];
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = format!("{path}/{key}");
                found.insert(path.clone());
                if !FREE.contains(&key.as_str()) && key != "changed_attributes" {
                    keys(value, &path, found);
                }
            }
        }
        Value::Array(array) => array.iter().for_each(|value| keys(value, path, found)),
        _ => {}
    }
}

fn key_set(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    keys(value, "", &mut found);
    found
}

#[tokio::test]
async fn what_is_sent_has_the_keys_of_4_15_1() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/chatwoot");
    if !folder.exists() {
        return println!("not run: what_is_sent_has_the_keys_of_4_15_1 (4 cases)");
    }
    let fixture = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join(format!("{name}.INFERRED-4.15.1.json"))).unwrap())
            .unwrap()
    };
    let double = Double::start().await;
    let conversation = double.customer_writes("Hello").await;
    let token = double.fake.agent_token(5).unwrap();
    let path = |rest| conversation_path(conversation, rest);
    double.post(&path("/assignments"), Some(&token), &json!({"assignee_id": 5})).await;
    let (receiver, _) = subscribed(&double, &EVENTS).await;
    double.post(&path("/messages"), Some(&token), &json!({"content": "/escalate", "private": true})).await;
    double.post(&path("/labels"), Some(&token), &json!({"labels": ["vip"]})).await;
    double.post(&path("/toggle_status"), Some(&token), &json!({"status": "resolved"})).await;
    let sent: Vec<Value> = receiver.take(5).await.iter().map(common::Delivery::value).collect();
    for (index, name) in [
        (0, "message_created.private_note_by_agent"),
        (1, "conversation_updated.label_added"),
        (4, "conversation_status_changed"),
    ] {
        assert_eq!(key_set(&sent[index]), key_set(&fixture(name)), "{name}");
    }
    let note =
        json!({"content": "Decided", "private": true, "source_id": "s", "content_attributes": {"a": 1}});
    let answer = double.post(&path("/messages"), Some(&double.fake.bot_token()), &note).await;
    assert_eq!(key_set(&answer), key_set(&fixture("rest.create_message.response")));
    assert!(DELIVERY_HEADER.as_str().starts_with("x-chatwoot"));
}

#[tokio::test]
async fn what_we_wrote_is_told_from_what_people_wrote() {
    let double = Double::start().await;
    let (receiver, _secret) = subscribed(&double, &["message_created"]).await;
    let own = OwnWrites { bot_id: Some(BOT_ID), source_id_prefix: "chancery:".to_owned() };
    let mut conversation = 0;
    // What a customer sends is never ours, whatever it is called.
    for (content, source_id) in [("Hello", json!(null)), ("Hello", json!("chancery:1:decision"))] {
        conversation = double.customer_writes(content).await;
        let mut delivery = receiver.take(1).await.remove(0).value();
        delivery["source_id"] = source_id;
        assert!(!own.include(&parse(delivery.to_string().as_bytes()).unwrap()));
    }
    let messages = conversation_path(conversation, "/messages");
    let (admin, bot) = (double.fake.admin_token(), double.fake.bot_token());
    for (token, source_id, is_ours) in [
        (&bot, json!(null), true),
        (&bot, json!("chancery:1:decision"), true),
        // Without a bot's token our notes carry the administrator's name.
        (&admin, json!("chancery:2:decision"), true),
        (&admin, json!("other:2:decision"), false),
        (&admin, json!(null), false),
    ] {
        let note = json!({"content": "/escalate", "private": true, "source_id": source_id});
        double.post(&messages, Some(token), &note).await;
        let event = receiver.take(1).await[0].event();
        assert_eq!(own.include(&event), is_ours, "{source_id}");
        assert!(!OwnWrites::default().include(&event), "nobody's bot and an empty mark are nobody's");
    }
}
