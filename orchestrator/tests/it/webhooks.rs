//! Receiving webhooks by each kind of scheme: what is verified is stored, and nothing else.

use aws_lc_rs::{digest, hmac};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chancery::testing::{ACME, Answer, Client, TestApp};
use connector_keycloak::fake::Signature;
use connector_webhooks::standard;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::harness::{id, pass, path};

fn owner(app: &TestApp) -> Client {
    app.add_person("acme-owner", &["/organizations/acme-corp/owners"])
}

/// Adds a source of acme's and gives it.
async fn source(owner: &Client, service: &str, scheme: Value, secret: Option<&str>) -> Value {
    let new = json!({ "tenantId": ACME, "service": service, "scheme": scheme, "secret": secret });
    owner.post("/sources", &new).await.expect(201)
}

/// A request to a source, without anything that proves who sends it.
fn to(app: &TestApp, method: Method, source: &Value, below: &str) -> RequestBuilder {
    let path = source["path"].as_str().unwrap().trim_start_matches("/api/v1");
    app.nobody().request(method, &format!("{path}{below}"))
}

async fn send(app: &TestApp, request: RequestBuilder) -> Answer {
    app.nobody().send(request).await
}

async fn stored(app: &TestApp) -> Vec<(String, String, Option<String>)> {
    sqlx::query_as("SELECT type, subject, delivery_id FROM inbox_events ORDER BY type, subject, delivery_id")
        .fetch_all(app.superuser())
        .await
        .unwrap()
}

fn event(kind: &str, subject: &str, id: Option<&str>) -> (String, String, Option<String>) {
    (kind.to_owned(), subject.to_owned(), id.map(str::to_owned))
}

#[tokio::test]
async fn standard_webhooks_are_taken_with_a_shared_secret_and_with_a_key_pair() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let pair = standard::SigningKey::parse(&format!("whsk_{}", STANDARD.encode([9; 32])).into()).unwrap();
    let public = pair.public_key().unwrap();
    let scheme = json!({ "type": "standard-webhooks" });
    let shared = source(&owner, "billing", scheme.clone(), None).await;
    let key = standard::SigningKey::parse(&shared["secret"].as_str().unwrap().to_owned().into()).unwrap();
    let with_pair = source(&owner, "billing", scheme, Some(&public)).await;
    for (source, key) in [(&shared, &key), (&with_pair, &pair)] {
        let body = r#"{"type":"invoice.paid","timestamp":"2026-01-02T03:04:05Z","data":{}}"#;
        let sign = |id: &str, at, body: &str| {
            let headers = standard::sign(std::slice::from_ref(key), id, at, body.as_bytes()).unwrap();
            let request = to(&app, Method::POST, source, "").body(body.to_owned());
            headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))
        };
        let first = send(&app, sign("msg_1", app.now(), body)).await.expect(200);
        assert_eq!(first["duplicate"], false);
        // Another attempt, signed anew: the id makes it the same.
        pass(&app, 400);
        let again = send(&app, sign("msg_1", app.now(), body)).await.expect(200);
        assert_eq!((&again["duplicate"], &again["id"]), (&json!(true), &first["id"]));
        let old = app.now() - chrono::TimeDelta::seconds(301);
        assert_eq!(send(&app, sign("msg_2", old, body)).await.problem(401), "webhooks.refused");
        for body in ["", "not json", r#"{"data":{}}"#] {
            assert_eq!(send(&app, sign("msg_3", app.now(), body)).await.problem(400), "webhooks.unreadable");
        }
    }
    // A source takes its own key alone.
    let headers = standard::sign(&[pair], "msg_4", app.now(), b"{}").unwrap();
    let request = to(&app, Method::POST, &shared, "").body("{}");
    let foreign = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    assert_eq!(send(&app, foreign).await.problem(401), "webhooks.refused");
    let expected = event("invoice.paid", "invoice.paid", Some("msg_1"));
    assert_eq!(stored(&app).await, [expected.clone(), expected]);
    app.run_jobs().await;
}

const EVENT: &str = r#"{"specversion":"1.0","type":"order.placed","source":"/shop","id":"1","subject":"order/7","data":{"a":1}}"#;

#[tokio::test]
async fn cloudevents_are_taken_one_by_one_and_in_batches() {
    let app = TestApp::start().await;
    let shop = source(&owner(&app), "shop", json!({ "type": "cloudevents" }), Some("a-secret")).await;
    let post = |content_type: &str, body: String| {
        to(&app, Method::POST, &shop, "")
            .bearer_auth("a-secret")
            .header("content-type", content_type)
            .body(body)
    };
    let structured = send(&app, post("application/cloudevents+json", EVENT.to_owned())).await.expect(200);
    assert_eq!(structured["duplicate"], false);
    // The same in the other modes, and its secret in the query.
    let binary = to(&app, Method::POST, &shop, "?access_token=a-secret")
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-type", "order.placed")
        .header("ce-source", "/shop")
        .header("ce-id", "1")
        .header("ce-subject", "order/7")
        .body(r#"{"a":1}"#);
    let binary = send(&app, binary).await.expect(200);
    assert_eq!((&binary["duplicate"], &binary["id"]), (&json!(true), &structured["id"]));
    let second = EVENT.replace("\"id\":\"1\"", "\"id\":\"2\"").replace("order/7", "order/8");
    let batch = send(&app, post("application/cloudevents-batch+json", format!("[{EVENT},{second}]"))).await;
    let received = batch.expect(200)["items"].as_array().unwrap().clone();
    let duplicates: Vec<_> =
        received.iter().map(|received| received["duplicate"].as_bool().unwrap()).collect();
    assert_eq!(duplicates, [true, false]);
    assert_eq!(
        stored(&app).await,
        [event("order.placed", "order/7", Some("1")), event("order.placed", "order/8", Some("2"))]
    );
    assert_eq!(
        send(&app, post("application/cloudevents-batch+json", "[]".to_owned())).await.expect(200),
        json!({ "items": [] })
    );
    for (content_type, body, status, code) in [
        ("application/cloudevents+avro", EVENT.to_owned(), 415, "unsupported_media_type"),
        ("application/cloudevents+json", EVENT.replace("1.0", "0.3"), 400, "webhooks.unreadable"),
        ("application/cloudevents-batch+json", format!("[{EVENT},{{}}]"), 400, "webhooks.unreadable"),
        ("application/json", "{}".to_owned(), 400, "webhooks.unreadable"),
    ] {
        assert_eq!(send(&app, post(content_type, body)).await.problem(status), code, "{content_type}");
    }
    let wrong = post("application/cloudevents+json", EVENT.to_owned()).bearer_auth("another");
    assert_eq!(send(&app, wrong).await.problem(401), "webhooks.refused");
    assert_eq!(stored(&app).await.len(), 2);
    app.run_jobs().await;
}

#[tokio::test]
async fn consent_is_given_to_who_asks_a_source_of_cloudevents_and_to_nobody_else() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let scheme = json!({ "type": "cloudevents", "origins": ["eventemitter.example.com"] });
    let shop = source(&owner, "shop", scheme, Some("a-secret")).await;
    let ask = async |source: &Value, origin: &str| {
        let request = to(&app, Method::OPTIONS, source, "")
            .header("webhook-request-origin", origin)
            .header("webhook-request-rate", "120");
        send(&app, request).await
    };
    let answer = ask(&shop, "eventemitter.example.com").await;
    answer.expect(200);
    assert_eq!(answer.header("webhook-allowed-origin"), "eventemitter.example.com");
    assert_eq!((answer.header("webhook-allowed-rate"), answer.header("allow")), ("120", "POST"));
    let limit = json!({ "limit": { "requests": 100, "seconds": 60 } });
    owner.patch(&path("/sources", &shop), &limit).await.expect(200);
    assert_eq!(ask(&shop, "eventemitter.example.com").await.header("webhook-allowed-rate"), "100");

    let github = source(&owner, "github", json!({ "type": "preset", "name": "github" }), None).await;
    let unknown = json!({ "path": "/api/v1/webhooks/shop/0b000000-0000-4000-8000-0000000000ff" });
    for (source, origin) in [
        (&shop, "another.example.com"),
        (&github, "eventemitter.example.com"),
        (&unknown, "eventemitter.example.com"),
    ] {
        let answer = ask(source, origin).await;
        assert_eq!(answer.problem(405), "method_not_allowed", "{source}");
        assert_eq!(answer.header("webhook-allowed-origin"), "");
    }
}

#[tokio::test]
async fn meta_s_question_is_answered_to_who_shows_our_token() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let scheme = json!({ "type": "preset", "name": "meta" });
    let meta = source(&owner, "whatsapp", scheme, Some("the app's secret")).await;
    let token = meta["challengeToken"].as_str().unwrap();
    let ask = async |source: &Value, token: &str| {
        let query = [("hub.mode", "subscribe"), ("hub.challenge", "1158201444"), ("hub.verify_token", token)];
        send(&app, to(&app, Method::GET, source, "").query(&query)).await
    };
    let answer = ask(&meta, token).await;
    assert_eq!(
        (answer.status, &answer.body[..], answer.header("content-type")),
        (200, &b"1158201444"[..], "text/plain")
    );
    let unknown = json!({ "path": "/api/v1/webhooks/whatsapp/0b000000-0000-4000-8000-0000000000ff" });
    for (source, token) in [(&meta, "another"), (&meta, "the app's secret"), (&unknown, token)] {
        assert_eq!(ask(source, token).await.problem(401), "webhooks.refused");
    }
    // Another token, and the old one ends.
    let secrets = format!("{}/secrets", path("/sources", &meta));
    let rotated =
        owner.post(&secrets, &json!({ "purpose": "challenge", "graceSeconds": 0 })).await.expect(201);
    assert_eq!(ask(&meta, token).await.problem(401), "webhooks.refused");
    assert_eq!(ask(&meta, rotated["value"].as_str().unwrap()).await.status, 200);
    // The token signs nothing.
    let body = r#"{"object":"whatsapp_business_account","entry":[{"id":"102"}]}"#;
    let signed = |secret: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = format!("sha256={}", hex::encode(hmac::sign(&key, body.as_bytes())));
        to(&app, Method::POST, &meta, "").header("x-hub-signature-256", signature).body(body)
    };
    assert_eq!(send(&app, signed(rotated["value"].as_str().unwrap())).await.problem(401), "webhooks.refused");
    send(&app, signed("the app's secret")).await.expect(200);
    assert_eq!(stored(&app).await, [event("whatsapp_business_account", "102", None)]);
    app.run_jobs().await;
}

#[tokio::test]
async fn slack_s_signed_question_is_answered_and_is_no_event() {
    let app = TestApp::start().await;
    let slack = source(&owner(&app), "slack", json!({ "type": "preset", "name": "slack" }), Some("s")).await;
    let signed = |secret: &str, body: &'static str| {
        let time = app.now().timestamp().to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, format!("v0:{time}:{body}").as_bytes());
        to(&app, Method::POST, &slack, "")
            .header("x-slack-request-timestamp", time)
            .header("x-slack-signature", format!("v0={}", hex::encode(tag)))
            .body(body)
    };
    let question = r#"{"token":"t","challenge":"3eZbrw1aBm2rZgRNFdxV","type":"url_verification"}"#;
    assert_eq!(send(&app, signed("s", question)).await.body, "3eZbrw1aBm2rZgRNFdxV");
    assert_eq!(send(&app, signed("other", question)).await.problem(401), "webhooks.refused");
    assert!(stored(&app).await.is_empty());
}

#[tokio::test]
async fn tools_that_make_their_own_paths_are_heard_there() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    // Jitsi's component posts below the address that it was given.
    let jitsi = source(&owner, "jitsi", json!({ "type": "jitsi-event-sync" }), None).await;
    let secret = jitsi["secret"].as_str().unwrap();
    let joined = json!({
        "event_name": "muc-occupant-joined", "room_name": "r", "room_jid": "r@muc.meet", "is_breakout": false,
        "active_occupants_count": 1, "occupant": { "occupant_jid": "o@meet", "joined_at": 1_767_323_045, "name": "Ada" },
    });
    let post = |secret: &str| {
        to(&app, Method::POST, &jitsi, "/events/occupant/joined").bearer_auth(secret).json(&joined)
    };
    assert_eq!(send(&app, post(secret)).await.expect(200)["duplicate"], false);
    assert_eq!(send(&app, post(secret)).await.expect(200)["duplicate"], true);
    assert_eq!(send(&app, post("another")).await.problem(401), "webhooks.refused");
    // A Keycloak extension puts a slash behind it.
    let scheme = json!({ "type": "preset", "name": "keycloak-webhook" });
    let keycloak = source(&owner, "keycloak", scheme, Some("pass:word")).await;
    let login = json!({ "type": "LOGIN", "id": "e-1", "time": 1_767_323_045_000_i64, "userId": "7" });
    let post = |password: &str| {
        to(&app, Method::POST, &keycloak, "/").basic_auth("keycloak", Some(password)).json(&login)
    };
    assert_eq!(send(&app, post("pass:word")).await.expect(200)["duplicate"], false);
    assert_eq!(send(&app, post("password")).await.problem(401), "webhooks.refused");
    assert_eq!(
        stored(&app).await,
        [event("LOGIN", "7", Some("e-1")), event("muc-occupant-joined", "r@muc.meet", None)]
    );
    // Without the source, too, where it is the only one of its service.
    let path = "/webhooks/keycloak";
    let request =
        app.nobody().request(Method::POST, path).basic_auth("keycloak", Some("pass:word")).json(&login);
    assert_eq!(send(&app, request).await.expect(200)["duplicate"], true);
    app.run_jobs().await;
}

#[tokio::test]
async fn the_realm_s_own_key_proves_a_webhook_of_keycloak() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let scheme =
        json!({ "type": "keycloak-jwt", "issuer": app.state().issuer, "audience": "chancery-webhooks" });
    let keycloak = source(&owner, "keycloak", scheme, None).await;
    assert_eq!((&keycloak["secret"], &keycloak["secrets"]), (&Value::Null, &json!([])));
    let body = r#"{"uid":"u-1","id":"e-1","type":"admin.USER-UPDATE","resourcePath":"users/7"}"#;
    let hash = hex::encode(digest::digest(&digest::SHA256, body.as_bytes()));
    let now = app.now().timestamp();
    let claims = |audience: &str, hash: &str| json!({ "aud": audience, "iat": now, "exp": now + 300, "request_body_sha256": hash });
    let signed = |claims: &Value, signature| {
        let token = app.mint("acme-agent", claims, signature);
        to(&app, Method::POST, &keycloak, "").bearer_auth(token).body(body)
    };
    let right = claims("chancery-webhooks", &hash);
    assert_eq!(send(&app, signed(&right, Signature::Valid)).await.expect(200)["duplicate"], false);
    assert_eq!(send(&app, signed(&right, Signature::Valid)).await.expect(200)["duplicate"], true);
    for claims in [
        claims("chancery-api", &hash),
        claims("chancery-webhooks", "00"),
        json!({ "aud": "chancery-webhooks" }),
    ] {
        assert_eq!(
            send(&app, signed(&claims, Signature::Valid)).await.problem(401),
            "webhooks.refused",
            "{claims}"
        );
    }
    assert_eq!(stored(&app).await, [event("admin.USER-UPDATE", "users/7", Some("u-1"))]);
    // A token that is good for the API proves no webhook.
    let request = to(&app, Method::POST, &keycloak, "").bearer_auth(app.agent().token()).body(body);
    assert_eq!(send(&app, request).await.problem(401), "webhooks.refused");
    app.run_jobs().await;
}

#[tokio::test]
async fn an_unknown_source_and_a_wrong_secret_get_the_same_answer_whatever_the_scheme() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let mut answers = Vec::new();
    let unknown = json!({ "path": "/api/v1/webhooks/any/0b000000-0000-4000-8000-0000000000ff" });
    let mut sources = vec![unknown];
    for scheme in [
        json!({ "type": "standard-webhooks" }),
        json!({ "type": "preset", "name": "github" }),
        json!({ "type": "preset", "name": "stripe" }),
        json!({ "type": "bearer" }),
        json!({ "type": "token", "header": "x-token" }),
        json!({ "type": "basic", "username": "u" }),
        json!({ "type": "cloudevents" }),
        json!({ "type": "jitsi-event-sync" }),
        json!({ "type": "keycloak-jwt", "issuer": "https://id.example/realms/r", "audience": "a" }),
    ] {
        sources.push(source(&owner, "any", scheme, None).await);
    }
    for source in &sources {
        for method in [Method::POST, Method::GET] {
            let request = to(&app, method, source, "").header("x-request-id", "the-same").body("not json");
            let answer = send(&app, request.header("authorization", "Bearer nonsense")).await;
            assert_eq!(answer.problem(401), "webhooks.refused", "{source}");
            answers.push(answer.body);
        }
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "the answers tell nothing apart");
    assert!(stored(&app).await.is_empty());
    assert_eq!(id(&sources[1]).len(), 36);
}

#[tokio::test]
async fn what_is_taken_and_what_is_not_is_counted_by_reason_under_names_that_we_know() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let bearer = json!({ "type": "bearer" });
    let (github, own) = (
        source(&owner, "github", bearer.clone(), None).await,
        source(&owner, "our-shop-17", bearer, None).await,
    );
    let limit = json!({ "limit": { "requests": 3, "seconds": 86_400 } });
    owner.patch(&path("/sources", &own), &limit).await.expect(200);
    let unknown = json!({ "path": "/api/v1/webhooks/any/0b000000-0000-4000-8000-0000000000ff" });
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let counting = metrics::set_default_local_recorder(&recorder);
    let post = async |source: &Value, body: String| {
        let secret = source["secret"].as_str().unwrap_or("wrong");
        let request = to(&app, Method::POST, source, "").header("content-type", "application/json");
        send(&app, request.bearer_auth(secret).body(body)).await.status
    };
    assert_eq!(post(&github, "{\"n\":1}".to_owned()).await, 200);
    for expected in [200, 200, 200, 429] {
        assert_eq!(post(&own, "{\"n\":1}".to_owned()).await, expected);
    }
    assert_eq!(post(&unknown, "{}".to_owned()).await, 401);
    let mut forged = github.clone();
    forged["secret"] = json!("wrong");
    assert_eq!(post(&forged, "{}".to_owned()).await, 401);
    let too_large = format!("\"{}\"", "x".repeat(1024 * 1024));
    assert_eq!(post(&github, too_large).await, 413);
    app.run_jobs().await;
    drop(counting);
    let counted = handle.render();
    for line in [
        "chancery_inbox_received_total{service=\"github\",outcome=\"accepted\"} 1",
        "chancery_inbox_received_total{service=\"other\",outcome=\"accepted\"} 1",
        "chancery_inbox_received_total{service=\"other\",outcome=\"duplicate\"} 2",
        "chancery_inbox_rejected_total{service=\"other\",reason=\"limit\"} 1",
        "chancery_inbox_rejected_total{service=\"none\",reason=\"unknown_source\"} 1",
        "chancery_inbox_rejected_total{service=\"github\",reason=\"signature\"} 1",
        "chancery_inbox_rejected_total{service=\"github\",reason=\"too_large\"} 1",
        "chancery_inbox_processed_total{outcome=\"done\"} 2",
    ] {
        assert!(counted.contains(line), "{line} is not in {counted}");
    }
    for name in
        ["chancery_inbox_accept_seconds", "chancery_inbox_process_seconds", "chancery_inbox_effect_seconds"]
    {
        assert!(counted.contains(name), "{name} is not in {counted}");
    }
    assert!(!counted.contains("our-shop"), "owners' own names are no labels: {counted}");
}

/// What a script prints, run by the Python that has the official libraries.
fn python(script: &str, arguments: &[&str]) -> Vec<String> {
    let python = std::env::var("CHANCERY_TEST_PYTHON").expect("cargo xtask test says where it is");
    let output = std::process::Command::new(python).arg("-c").arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
#[ignore = "needs the official libraries: cargo xtask test"]
async fn the_official_libraries_sign_to_us() {
    const STANDARD_WEBHOOKS: &str = "
import datetime, sys
from standardwebhooks import Webhook
secret, id, timestamp, body = sys.argv[1:]
at = datetime.datetime.fromtimestamp(int(timestamp), tz=datetime.timezone.utc)
print(Webhook(secret).sign(id, at, body))
";
    const STRIPE: &str = "
import sys
import stripe
secret, timestamp, body = sys.argv[1:]
signature = stripe.WebhookSignature._compute_signature(f'{timestamp}.{body}', secret)
stripe.WebhookSignature.verify_header(body, f't={timestamp},v1={signature}', secret)
print(f't={timestamp},v1={signature}')
";
    let app = TestApp::start().await;
    let owner = owner(&app);
    let now = app.now().timestamp().to_string();
    let body = r#"{"type":"invoice.paid","data":{"text":"\u00e4\u20ac"}}"#;

    let billing = source(&owner, "billing", json!({ "type": "standard-webhooks" }), None).await;
    let secret = billing["secret"].as_str().unwrap();
    let signature = python(STANDARD_WEBHOOKS, &[secret, "msg_1", &now, body]).remove(0);
    let signed = |body: &str| {
        to(&app, Method::POST, &billing, "")
            .header("webhook-id", "msg_1")
            .header("webhook-timestamp", &now)
            .header("webhook-signature", &signature)
            .body(body.to_owned())
    };
    assert_eq!(send(&app, signed(&body.replace(':', ": "))).await.problem(401), "webhooks.refused");
    send(&app, signed(body)).await.expect(200);

    let body = r#"{"id":"evt_1","type":"charge.succeeded","data":{"object":{"id":"ch_1"}}}"#;
    let stripe =
        source(&owner, "stripe", json!({ "type": "preset", "name": "stripe" }), Some("whsec_test")).await;
    let signature = python(STRIPE, &["whsec_test", &now, body]).remove(0);
    let signed = |body: &str| {
        to(&app, Method::POST, &stripe, "").header("stripe-signature", &signature).body(body.to_owned())
    };
    assert_eq!(send(&app, signed(&body.replace("evt_1", "evt_2"))).await.problem(401), "webhooks.refused");
    send(&app, signed(body)).await.expect(200);
    assert_eq!(
        stored(&app).await,
        [
            event("charge.succeeded", "ch_1", Some("evt_1")),
            event("invoice.paid", "invoice.paid", Some("msg_1"))
        ]
    );
    app.run_jobs().await;
}
