//! A tenant's own endpoints: what happens is delivered to them, signed, at least once.

#![expect(clippy::similar_names, reason = "a receiver has received")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use chancery::{
    auth::Permission,
    realtime::{self, EventType},
    testing::{ACME, Client, ENGINEERING, TestApp},
};
use chrono::TimeDelta;
use connector_keycloak::fake::Signature;
use connector_webhooks::standard;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::harness::{approval, id, items, message_created, pass, path};

/// What an endpoint got.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A status, headers, and how long it takes.
type Told = (u16, Vec<(&'static str, String)>, Duration);

/// A server that keeps what it gets and answers as it is told.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    /// The next answer, until it is told another.
    answer: Arc<Mutex<Told>>,
    /// How many requests there are at a time, and at most were.
    at_a_time: Arc<(AtomicUsize, AtomicUsize)>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            received: Arc::default(),
            answer: Arc::new(Mutex::new((204, Vec::new(), Duration::ZERO))),
            at_a_time: Arc::default(),
        };
        let serving = receiver.clone();
        let router = Router::new().fallback(move |headers, body| serving.clone().receive(headers, body));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    async fn receive(self, headers: HeaderMap, body: Bytes) -> Response {
        let now = self.at_a_time.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_a_time.1.fetch_max(now, Ordering::SeqCst);
        self.received.lock().unwrap().push(Received { headers, body });
        let (status, headers, wait) = self.answer.lock().unwrap().clone();
        tokio::time::sleep(wait).await;
        self.at_a_time.0.fetch_sub(1, Ordering::SeqCst);
        let mut response = StatusCode::from_u16(status).unwrap().into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    }

    pub(crate) fn answers(&self, status: u16) {
        self.answer.lock().unwrap().0 = status;
    }

    pub(crate) fn answers_with(&self, status: u16, name: &'static str, value: &str) {
        *self.answer.lock().unwrap() = (status, vec![(name, value.to_owned())], Duration::ZERO);
    }

    pub(crate) fn takes(&self, wait: Duration) {
        self.answer.lock().unwrap().2 = wait;
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The types of the events that it got, in order.
    pub(crate) fn types(&self) -> Vec<String> {
        self.received().iter().map(|received| received.json()["type"].as_str().unwrap().to_owned()).collect()
    }
}

/// An owner with a token that lasts as long as the longest test.
pub(crate) fn owner(app: &TestApp) -> Client {
    app.add_person("acme-owner", &["/organizations/acme-corp/owners"]);
    let lasting = json!({ "exp": (app.now() + TimeDelta::days(100)).timestamp() });
    app.nobody().with_token(app.mint("acme-owner", &lasting, Signature::Valid))
}

/// Makes an endpoint of acme's at `url` that wants these events.
pub(crate) async fn endpoint(owner: &Client, url: &str, event_types: &[&str]) -> Value {
    let new = json!({ "tenantId": ACME, "url": url, "eventTypes": event_types });
    owner.post("/endpoints", &new).await.expect(201)
}

pub(crate) fn secret(made: &Value) -> SecretString {
    made["secret"].as_str().unwrap().to_owned().into()
}

pub(crate) fn verified(app: &TestApp, received: &Received, secrets: &[SecretString]) -> bool {
    standard::verify(secrets, &received.headers, &received.body, app.now()).is_ok()
}

pub(crate) async fn deliveries(owner: &Client, endpoint: &Value) -> Vec<Value> {
    items(owner, &format!("{}/deliveries", path("/endpoints", endpoint))).await
}

/// The states of an endpoint's deliveries, the newest first.
pub(crate) async fn states(owner: &Client, endpoint: &Value) -> Vec<String> {
    let deliveries = deliveries(owner, endpoint).await;
    deliveries.iter().map(|delivery| delivery["state"].as_str().unwrap().to_owned()).collect()
}

pub(crate) async fn details(owner: &Client, endpoint: &Value, delivery: &Value) -> Value {
    owner.get(&format!("{}/deliveries/{}", path("/endpoints", endpoint), id(delivery))).await.expect(200)
}

pub(crate) fn outcomes(details: &Value) -> Vec<&str> {
    details["attemptLog"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn what_happens_is_delivered_signed_and_says_no_more_than_what_it_is_about() {
    let app = TestApp::start().await;
    let (owner, agent, receiver) = (owner(&app), app.agent(), Receiver::start().await);
    approval(&agent, "Before").await;
    let made = endpoint(&owner, &receiver.url, &["approval.*"]).await;
    let requested = approval(&agent, "Secret plans").await;
    app.run_jobs().await;
    pass(&app, 5);
    app.ceo()
        .patch(&path("/approvals", &requested), &json!({ "status": "approved", "consultation": true }))
        .await
        .expect(200);
    app.run_jobs().await;

    let received = receiver.received();
    assert_eq!(receiver.types(), ["approval.created", "approval.decided"]);
    let body = received[0].json();
    assert_eq!(
        body,
        json!({
            "type": "approval.created", "timestamp": app.now() - TimeDelta::seconds(5),
            "data": { "id": id(&requested), "tenantId": app.tenant(ACME) }
        })
    );
    assert_eq!(received[0].header("content-type"), "application/json");
    assert!(received[0].header("user-agent").starts_with("Chancery/"));
    for one in &received {
        assert!(verified(&app, one, &[secret(&made)]), "{one:?}");
        assert!(!verified(&app, one, &[standard::shared_secret([1; 32])]));
    }
    assert_ne!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    let log = deliveries(&owner, &made).await;
    assert_eq!(log.len(), 2);
    assert_eq!(
        (
            &log[1]["state"],
            &log[1]["attempts"],
            &log[1]["lastOutcome"],
            &log[1]["lastStatus"],
            &log[1]["messageId"]
        ),
        (
            &json!("delivered"),
            &json!(1),
            &json!("delivered"),
            &json!(204),
            &json!(received[0].header("webhook-id"))
        )
    );
    let details = details(&owner, &made, &log[1]).await;
    assert_eq!(details["body"].as_str().unwrap().as_bytes(), &received[0].body);
    assert_eq!((outcomes(&details), &details["attemptLog"][0]["number"]), (vec!["delivered"], &json!(1)));
    let now = owner.get(&path("/endpoints", &made)).await.expect(200);
    assert_eq!((&now["succeededAt"], &now["failingSince"]), (&json!(app.now()), &Value::Null));
    let filtered =
        format!("{}/deliveries?eventType=approval.decided&state=delivered", path("/endpoints", &made));
    assert_eq!(items(&owner, &filtered).await, [log[0].clone()]);
}

#[tokio::test]
async fn what_was_rolled_back_is_not_delivered_and_what_was_committed_is() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    endpoint(&owner, &receiver.url, &["settings.*"]).await;
    let database = &app.state().database;
    let append = async |is_kept: bool| {
        let mut tx = database.worker_tx(app.tenant(ACME)).await.unwrap();
        let what = uuid::Uuid::from_u128(is_kept.into());
        realtime::append(&mut tx, EventType::SettingsUpdated, Permission::SettingsRead, what).await.unwrap();
        if is_kept {
            tx.commit().await.unwrap();
        }
    };
    append(false).await;
    append(true).await;
    append(false).await;
    app.run_jobs().await;
    let told: Vec<Value> =
        receiver.received().iter().map(|received| received.json()["data"]["id"].clone()).collect();
    assert_eq!(told, [json!(uuid::Uuid::from_u128(1))]);
}

#[tokio::test]
async fn what_an_owner_may_not_see_is_not_delivered() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    endpoint(&owner, &receiver.url, &["*"]).await;
    for permission in [Permission::JobRead, Permission::SettingsRead] {
        let mut tx = app.state().database.worker_tx(app.tenant(ACME)).await.unwrap();
        let what = uuid::Uuid::nil();
        realtime::append(&mut tx, EventType::SettingsUpdated, permission, what).await.unwrap();
        tx.commit().await.unwrap();
    }
    app.run_jobs().await;
    // One of the two, and what the endpoint's own making told.
    assert_eq!(receiver.types(), ["endpoint.created", "settings.updated"]);
}

#[tokio::test]
async fn who_wants_everything_does_not_get_what_comes_in_and_so_starts_no_endless_loop() {
    let app = TestApp::start().await;
    let (owner, everything, asked) = (owner(&app), Receiver::start().await, Receiver::start().await);
    endpoint(&owner, &everything.url, &["*"]).await;
    endpoint(&owner, &asked.url, &["webhook.received"]).await;
    app.run_jobs().await;
    let before = everything.types().len();
    app.deliver(&message_created(&app, 26, 1, "Hello")).await.expect(200);
    app.run_jobs().await;
    assert_eq!(everything.types()[before..], ["conversation.updated"]);
    assert_eq!(asked.types(), ["webhook.received"]);
}

#[tokio::test]
async fn what_fails_is_sent_again_after_longer_and_longer_waits_and_then_has_failed() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    receiver.answers(500);
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    for (index, wait) in [1, 5, 30, 120, 600].into_iter().enumerate() {
        let delivery = &deliveries(&owner, &made).await[0];
        assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("pending"), &json!(index + 1)));
        let next: chrono::DateTime<chrono::Utc> =
            serde_json::from_value(delivery["nextAttemptAt"].clone()).unwrap();
        let next = (next - app.now()).num_milliseconds();
        assert!((wait * 1000..=wait * 1250).contains(&next), "{wait} s: {next} ms");
        // Not before its time, and then at once.
        app.run_jobs().await;
        assert_eq!(receiver.received().len(), index + 1);
        app.clock().advance(TimeDelta::milliseconds(next));
        app.run_jobs().await;
    }
    let delivery = &deliveries(&owner, &made).await[0];
    assert_eq!(
        (&delivery["state"], &delivery["attempts"], &delivery["lastStatus"]),
        (&json!("failed"), &json!(6), &json!(500))
    );
    pass(&app, 24 * 3600);
    app.run_jobs().await;
    // The same message each time, but for the time of the attempt.
    let received = receiver.received();
    assert_eq!(received.len(), 6);
    let ids: Vec<&str> = received.iter().map(|one| one.header("webhook-id")).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert!(received.iter().all(|one| one.body == received[0].body));
    assert_ne!(received[0].header("webhook-timestamp"), received[5].header("webhook-timestamp"));
    assert_eq!(outcomes(&details(&owner, &made, delivery).await), ["status"; 6]);
    let now = owner.get(&path("/endpoints", &made)).await.expect(200);
    assert!(now["failingSince"].is_string() && now["succeededAt"].is_null());
}

#[tokio::test]
async fn only_a_2xx_is_a_success_and_a_redirect_is_not_followed() {
    let app = TestApp::start().await;
    let (owner, receiver, elsewhere) = (owner(&app), Receiver::start().await, Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    for (status, outcome) in [
        (200, "delivered"),
        (202, "delivered"),
        (299, "delivered"),
        (307, "redirect"),
        (301, "redirect"),
        (304, "redirect"),
        (400, "status"),
        (404, "status"),
        (503, "status"),
    ] {
        receiver.answers_with(status, "location", &elsewhere.url);
        approval(&app.agent(), "A").await;
        app.run_jobs().await;
        let delivery = &deliveries(&owner, &made).await[0];
        assert_eq!((&delivery["lastOutcome"], &delivery["lastStatus"]), (&json!(outcome), &json!(status)));
        // What is still to be sent again must not be in the way of the next.
        receiver.answers(204);
        pass(&app, 2);
        app.run_jobs().await;
    }
    assert!(elsewhere.received().is_empty());
    let nowhere = json!({ "url": "http://127.0.0.1:9/" });
    owner.patch(&path("/endpoints", &made), &nowhere).await.expect(200);
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    assert_eq!(deliveries(&owner, &made).await[0]["lastOutcome"], "connection");
    app.leave_jobs();
}

#[tokio::test]
async fn who_asks_to_be_left_alone_is() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    for (status, asked, wait) in [(429, Some(90), 90), (503, None, 90), (429, Some(999_999_999), 3600)] {
        let until = (app.now() + TimeDelta::seconds(wait)).format("%a, %d %b %Y %H:%M:%S GMT");
        let retry_after = &asked.map_or_else(|| until.to_string(), |seconds| seconds.to_string());
        let before = receiver.received().len();
        receiver.answers_with(status, "retry-after", retry_after);
        approval(&app.agent(), "A").await;
        app.run_jobs().await;
        // What happens meanwhile waits as well.
        approval(&app.agent(), "B").await;
        pass(&app, wait - 1);
        receiver.answers(204);
        app.run_jobs().await;
        assert_eq!(receiver.received().len(), before + 1, "{status} {retry_after}");
        pass(&app, 1);
        app.run_jobs().await;
        assert_eq!(receiver.received().len(), before + 3, "{status} {retry_after}");
        assert_eq!(states(&owner, &made).await[..2], ["delivered", "delivered"]);
    }
    // Who says when, but not that it is too much, is tried as usual.
    receiver.answers_with(500, "retry-after", "3000");
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    receiver.answers(204);
    pass(&app, 2);
    app.run_jobs().await;
    assert_eq!(states(&owner, &made).await[0], "delivered");
}

#[tokio::test]
async fn who_is_gone_is_switched_off_at_once_and_its_owners_are_told() {
    let app = TestApp::start().await;
    let (owner, receiver, other) = (owner(&app), Receiver::start().await, Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    endpoint(&owner, &other.url, &["endpoint.disabled"]).await;
    let mut heard = owner.events(ACME, None).await;
    assert_eq!(heard.next().await.unwrap().name, "hello");
    let mut heard_by_ceo = app.ceo().events(ACME, None).await;
    receiver.answers(410);
    approval(&app.agent(), "A").await;
    approval(&app.agent(), "B").await;
    app.run_jobs().await;
    let now = owner.get(&path("/endpoints", &made)).await.expect(200);
    assert_eq!(
        (&now["state"], &now["disabledBecause"], &now["version"]),
        (&json!("disabled"), &json!("gone"), &json!(2))
    );
    let mut told = Vec::new();
    while let Some(event) = heard.next_within(Duration::from_millis(300)).await {
        told.push(event.name);
    }
    assert_eq!(told.last().unwrap(), "endpoint.disabled");
    while let Some(event) = heard_by_ceo.next_within(Duration::from_millis(100)).await {
        assert!(!event.name.starts_with("endpoint"), "{event:?}");
    }
    let trail = items(&owner, &format!("/audit/resource/webhook_endpoint/{}", id(&made))).await;
    let entry = trail.iter().find(|entry| entry["action"] == "webhook_endpoint.disabled").unwrap();
    assert_eq!((&entry["newValues"]["because"], &entry["userId"]), (&json!("gone"), &Value::Null));
    assert_eq!(other.types(), ["endpoint.disabled"]);
    assert_eq!(other.received()[0].json()["data"]["id"], made["id"]);
    // Nothing is sent any more, whatever happens.
    let before = receiver.received().len();
    approval(&app.agent(), "C").await;
    pass(&app, 3600);
    app.run_jobs().await;
    assert_eq!(receiver.received().len(), before);
}

#[tokio::test]
async fn who_fails_for_long_is_switched_off_and_who_succeeds_in_between_is_not() {
    let app = TestApp::start_with(|config| config.webhooks.disable_after_hours = 2).await;
    let (owner, dead, shaky) = (owner(&app), Receiver::start().await, Receiver::start().await);
    let [of_dead, of_shaky] = [&dead, &shaky].map(|receiver| receiver.url.clone());
    let (of_dead, of_shaky) = (
        endpoint(&owner, &of_dead, &["approval.created"]).await,
        endpoint(&owner, &of_shaky, &["approval.created"]).await,
    );
    dead.answers(500);
    for hour in 0..4 {
        shaky.answers(if hour == 1 { 204 } else { 500 });
        approval(&app.agent(), "A").await;
        app.run_jobs().await;
        pass(&app, 2400);
    }
    let state = async |made: &Value| {
        let now = owner.get(&path("/endpoints", made)).await.expect(200);
        (now["state"].clone(), now["disabledBecause"].clone())
    };
    assert_eq!(state(&of_dead).await, (json!("disabled"), json!("failing")));
    assert_eq!(state(&of_shaky).await, (json!("active"), Value::Null));
    app.leave_jobs();
}

#[tokio::test]
async fn who_is_switched_on_again_gets_what_it_missed_or_skips_it() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    let endpoint = path("/endpoints", &made);
    let off = owner.patch(&endpoint, &json!({ "enabled": false })).await.expect(200);
    assert_eq!((&off["state"], &off["disabledBecause"]), (&json!("disabled"), &json!("by_hand")));
    assert_eq!(owner.post(&format!("{endpoint}/test"), &json!({})).await.problem(409), "endpoints.disabled");
    approval(&app.agent(), "A").await;
    approval(&app.agent(), "B").await;
    app.run_jobs().await;
    assert!(receiver.received().is_empty());
    owner.patch(&endpoint, &json!({ "enabled": true })).await.expect(200);
    app.run_jobs().await;
    assert_eq!(receiver.received().len(), 2);

    owner.patch(&endpoint, &json!({ "enabled": false })).await.expect(200);
    approval(&app.agent(), "C").await;
    owner.patch(&endpoint, &json!({ "enabled": true, "deliverMissed": false })).await.expect(200);
    approval(&app.agent(), "D").await;
    app.run_jobs().await;
    assert_eq!(receiver.received().len(), 3);
    // What was on its way is skipped, too.
    receiver.answers(500);
    approval(&app.agent(), "E").await;
    app.run_jobs().await;
    owner.patch(&endpoint, &json!({ "enabled": false })).await.expect(200);
    owner.patch(&endpoint, &json!({ "enabled": true, "deliverMissed": false })).await.expect(200);
    let delivery = &deliveries(&owner, &made).await[0];
    assert_eq!((&delivery["state"], &delivery["lastOutcome"]), (&json!("failed"), &json!("skipped")));
}

#[tokio::test]
async fn while_a_secret_is_rotated_both_sign() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    let rotate = format!("{}/rotate-secret", path("/endpoints", &made));
    let answer = owner.post(&rotate, &json!({ "graceHours": 2 })).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let rotated = answer.expect(200);
    assert_eq!(rotated["rotatingUntil"], json!(app.now() + TimeDelta::hours(2)));
    let (old, new) = (secret(&made), secret(&rotated));
    let signs = async || {
        approval(&app.agent(), "A").await;
        app.run_jobs().await;
        let last = receiver.received().pop().unwrap();
        [&old, &new].map(|secret| verified(&app, &last, std::slice::from_ref(secret)))
    };
    assert_eq!(signs().await, [true, true]);
    pass(&app, 2 * 3600 - 1);
    assert_eq!(signs().await, [true, true]);
    pass(&app, 1);
    assert_eq!(signs().await, [false, true]);
    assert_eq!(owner.get(&path("/endpoints", &made)).await.expect(200)["rotatingUntil"], Value::Null);
    // At once, for one that got out.
    owner.post(&rotate, &json!({ "graceHours": 0 })).await.expect(200);
    assert_eq!(signs().await, [false, false]);
    let answer = owner.post(&rotate, &json!({ "graceHours": 169 })).await;
    assert_eq!(
        (answer.problem(422), answer.pointers()),
        ("invalid".to_owned(), vec!["/graceHours".to_owned()])
    );
    for _ in 0..3 {
        owner.post(&rotate, &json!({})).await.expect(200);
    }
    assert_eq!(owner.post(&rotate, &json!({})).await.problem(409), "endpoints.too_many_secrets");
}

#[tokio::test]
async fn a_process_that_stops_between_sending_and_recording_sends_again_under_the_same_id() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    receiver.takes(Duration::from_secs(20));
    approval(&app.agent(), "A").await;
    let deliverer = app.state().deliverer();
    let stopped = tokio::spawn(async move { deliverer.run_due().await });
    while receiver.received().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stopped.abort();
    receiver.takes(Duration::ZERO);
    let log = deliveries(&owner, &made).await;
    assert_eq!(
        (&log[0]["state"], &log[0]["attempts"]),
        (&json!("pending"), &json!(1)),
        "it is known that it was begun"
    );
    // As long as the lease holds, nobody else takes the endpoint.
    pass(&app, 59);
    app.run_jobs().await;
    assert_eq!(receiver.received().len(), 1);
    pass(&app, 1);
    app.run_jobs().await;
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
    assert_eq!(received[0].body, received[1].body);
    let details = details(&owner, &made, &log[0]).await;
    assert_eq!((&details["state"], &details["attempts"]), (&json!("delivered"), &json!(2)));
    assert_eq!(details["attemptLog"][0]["outcome"], Value::Null);
}

#[tokio::test]
async fn what_takes_its_process_down_each_time_is_given_up() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    receiver.takes(Duration::from_secs(20));
    approval(&app.agent(), "A").await;
    for attempt in 1..=6 {
        let deliverer = app.state().deliverer();
        let stopped = tokio::spawn(async move { deliverer.run_due().await });
        while receiver.received().len() < attempt {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stopped.abort();
        pass(&app, 800);
    }
    receiver.takes(Duration::ZERO);
    app.run_jobs().await;
    let delivery = &deliveries(&owner, &made).await[0];
    assert_eq!((&delivery["state"], &delivery["lastOutcome"]), (&json!("failed"), &json!("interrupted")));
    assert_eq!(receiver.received().len(), 6);
}

#[tokio::test]
async fn two_replicas_deliver_each_event_once_and_few_at_a_time() {
    let app = TestApp::start().await;
    let (owner, receiver, replica) = (owner(&app), Receiver::start().await, app.replica().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    receiver.takes(Duration::from_millis(20));
    for number in 0..30 {
        approval(&app.agent(), &format!("A {number}")).await;
    }
    let (one, other, third) = (app.state().deliverer(), replica.state.deliverer(), replica.state.deliverer());
    let (one, other, third) = tokio::join!(one.run_due(), other.run_due(), third.run_due());
    assert!(one.unwrap() + other.unwrap() + third.unwrap() >= 30);
    let mut times = BTreeMap::new();
    for received in receiver.received() {
        *times.entry(received.header("webhook-id").to_owned()).or_insert(0) += 1;
    }
    assert!(times.len() == 30 && times.values().all(|times| *times == 1), "{times:?}");
    let most = receiver.at_a_time.1.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at a time");
    assert_eq!(states(&owner, &made).await, ["delivered"; 30]);
    app.run_jobs().await;
}

#[tokio::test]
async fn who_never_answers_holds_up_nobody_else() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let slow = Receiver::start().await;
    slow.takes(Duration::from_mins(1));
    // More of them than a tenant may have served at a time, of eight in all.
    for _ in 0..5 {
        endpoint(&owner, &slow.url, &["approval.created"]).await;
    }
    let other = app.add_person("engineering-owner", &["/teams/engineering/owners"]);
    let new = json!({ "tenantId": ENGINEERING, "url": receiver.url, "eventTypes": ["approval.created"] });
    other.post("/endpoints", &new).await.expect(201);
    tokio::spawn(app.state().deliverer().run(8));
    approval(&app.agent(), "A").await;
    while slow.received().len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    let new = json!({ "tenantId": ENGINEERING, "title": "B" });
    app.engineer().post("/approvals", &new).await.expect(201);
    while receiver.received().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5), "it is held up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(slow.received().len(), 2, "a tenant has a quarter of all turns");
    app.leave_jobs();
}

#[tokio::test]
async fn an_event_is_on_its_way_at_once_without_anybody_looking_for_it() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    endpoint(&owner, &receiver.url, &["approval.created"]).await;
    tokio::spawn(app.state().deliverer().run(4));
    // The first turn is over, and the next far away.
    tokio::time::sleep(Duration::from_millis(300)).await;
    for count in 1..=3 {
        let begun = Instant::now();
        approval(&app.agent(), "A").await;
        while receiver.received().len() < count {
            assert!(begun.elapsed() < Duration::from_secs(5), "it isn't");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    app.leave_jobs();
}

#[tokio::test]
async fn of_a_long_outage_nothing_is_lost_and_little_is_kept_twice() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    endpoint(&owner, &receiver.url, &["settings.updated"]).await;
    receiver.answers(500);
    let acme = app.tenant(ACME);
    for number in 0..750_u128 {
        let mut tx = app.state().database.worker_tx(acme).await.unwrap();
        let what = uuid::Uuid::from_u128(number);
        realtime::append(&mut tx, EventType::SettingsUpdated, Permission::SettingsRead, what).await.unwrap();
        tx.commit().await.unwrap();
    }
    app.run_jobs().await;
    let pending = app.count("SELECT count(*) FROM webhook_deliveries").await;
    assert!((500..=600).contains(&pending), "{pending}: the others stay in the log");
    receiver.answers(204);
    receiver.received.lock().unwrap().clear();
    pass(&app, 3600);
    app.run_jobs().await;
    let mut told: Vec<String> =
        receiver.received().iter().map(|received| received.json()["data"]["id"].to_string()).collect();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 750);
    assert_eq!(receiver.received().len(), 750);
}
