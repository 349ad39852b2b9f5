//! Whose endpoints there are, where they may lead, and their pages.

#![expect(clippy::similar_names, reason = "a receiver has received")]

use axum::http::Method;
use chancery::testing::{ACME, Answer, GLOBEX, TestApp};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    endpoints::{Receiver, deliveries, details, endpoint, owner, secret, states, verified},
    harness::{approval, id, items, pass, path, signed_in},
};

#[tokio::test]
async fn an_owner_makes_an_endpoint_and_sees_its_secret_once() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let new = json!({ "tenantId": ACME, "url": "HTTP://127.1:80/a/../hook?x=1", "description": " n8n ", "eventTypes": ["approval.*", "approval.*"] });
    let answer = owner.post("/endpoints", &new).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("etag"), "\"1\"");
    let mut made = answer.expect(201);
    assert_eq!(answer.header("location"), format!("/api/v1{}", path("/endpoints", &made)));
    let shown = made["secret"].as_str().unwrap().to_owned();
    assert!(shown.starts_with("whsec_") && shown.len() > 45, "{shown}");
    assert_eq!(
        (&made["url"], &made["description"], &made["eventTypes"], &made["state"], &made["tenantId"]),
        (
            &json!("http://127.0.0.1/hook?x=1"),
            &json!("n8n"),
            &json!(["approval.*"]),
            &json!("active"),
            &json!(app.tenant(ACME))
        )
    );
    made.as_object_mut().unwrap().remove("secret");
    assert_eq!(owner.get(&path("/endpoints", &made)).await.expect(200), made);
    assert_eq!(items(&owner, &format!("/endpoints?tenantId={ACME}")).await, [made.clone()]);
    // Nobody finds it again: neither in the database, nor in the trail, which doesn't say the path either.
    let sealed: Vec<u8> = sqlx::query_scalar("SELECT sealed FROM webhook_endpoint_secrets")
        .fetch_one(app.superuser())
        .await
        .unwrap();
    assert!(!String::from_utf8_lossy(&sealed).contains(&shown[6..]));
    let trail = items(&owner, &format!("/audit/resource/webhook_endpoint/{}", id(&made))).await;
    assert_eq!(trail.len(), 1);
    assert_eq!(
        (&trail[0]["action"], &trail[0]["newValues"]["url"]),
        (&json!("webhook_endpoint.created"), &json!("http://127.0.0.1"))
    );
    app.run_jobs().await;
}

#[tokio::test]
async fn one_delivery_or_all_that_failed_since_a_time_are_sent_again() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    let endpoint = path("/endpoints", &made);
    receiver.answers(500);
    for _ in 0..3 {
        approval(&app.agent(), "A").await;
        for _ in 0..6 {
            app.run_jobs().await;
            pass(&app, 751);
        }
    }
    assert_eq!(states(&owner, &made).await, ["failed"; 3]);
    receiver.answers(204);
    let log = deliveries(&owner, &made).await;
    let oldest = &log[2];
    let again = format!("{endpoint}/deliveries/{}/redeliver", id(oldest));
    assert_eq!(owner.post(&again, &json!({})).await.expect(202)["state"], "pending");
    assert_eq!(owner.post(&again, &json!({})).await.problem(409), "endpoints.delivery_pending");
    app.run_jobs().await;
    assert_eq!(states(&owner, &made).await, ["failed", "failed", "delivered"]);
    let received = receiver.received();
    assert_eq!(received.last().unwrap().header("webhook-id"), received[0].header("webhook-id"));
    assert_eq!(details(&owner, &made, oldest).await["attempts"], 7);
    // What was delivered, too.
    owner.post(&again, &json!({})).await.expect(202);
    app.run_jobs().await;
    assert_eq!(details(&owner, &made, oldest).await["attempts"], 8);

    let since = json!({ "since": log[0]["createdAt"] });
    let answer = owner.post(&format!("{endpoint}/redeliver"), &since).await;
    assert_eq!(answer.expect(202), json!({ "redelivered": 1 }));
    app.run_jobs().await;
    assert_eq!(states(&owner, &made).await, ["delivered", "failed", "delivered"]);
    let all = json!({ "since": "2000-01-01T00:00:00Z" });
    assert_eq!(
        owner.post(&format!("{endpoint}/redeliver"), &all).await.expect(202),
        json!({ "redelivered": 1 })
    );
    assert_eq!(
        owner.post(&format!("{endpoint}/redeliver"), &all).await.expect(202),
        json!({ "redelivered": 0 })
    );
    app.run_jobs().await;
    assert_eq!(states(&owner, &made).await, ["delivered"; 3]);
    let trail = items(&owner, &format!("/audit/resource/webhook_endpoint/{}", id(&made))).await;
    let entries = trail.iter().filter(|entry| entry["action"] == "webhook_endpoint.redelivered").count();
    assert_eq!(entries, 4, "each that sent something");
}

#[tokio::test]
async fn an_endpoint_may_not_lead_inside_and_what_is_wrong_is_pointed_at() {
    let app = TestApp::start_with(|config| {
        config.webhooks.allow_http = false;
        config.webhooks.allowed_networks.clear();
        config.webhooks.allowed_ports.clear();
    })
    .await;
    let owner = owner(&app);
    owner.get("/me").await.expect(200);
    let before = app.row_counts().await;
    let sound = json!({ "tenantId": ACME, "url": "https://hooks.example.org/", "eventTypes": ["*"] });
    for (field, value, pointer) in [
        ("url", json!("https://127.0.0.1/"), "/url"),
        ("url", json!("https://2130706433/"), "/url"),
        ("url", json!("https://[::ffff:10.0.0.1]/"), "/url"),
        ("url", json!("https://localhost/"), "/url"),
        ("url", json!("https://hooks.example.org@127.0.0.1/"), "/url"),
        ("url", json!("http://hooks.example.org/"), "/url"),
        ("url", json!("https://hooks.example.org:22/"), "/url"),
        ("url", json!("hooks"), "/url"),
        ("url", json!(format!("https://hooks.example.org/{}", "a".repeat(2048))), "/url"),
        ("description", json!("d".repeat(201)), "/description"),
        ("description", json!("a\u{7}b"), "/description"),
        ("eventTypes", json!([]), "/eventTypes"),
        ("eventTypes", json!(["approval.created", "approval.asked"]), "/eventTypes/1"),
        ("eventTypes", json!("*"), "/eventTypes"),
        ("secret", json!("whsec_AAAA"), "/secret"),
    ] {
        let mut wrong = sound.clone();
        wrong[field] = value;
        let answer = owner.post("/endpoints", &wrong).await;
        assert_eq!(
            (answer.problem(422), answer.pointers()),
            ("invalid".to_owned(), vec![pointer.to_owned()]),
            "{wrong}"
        );
    }
    assert_eq!(app.row_counts().await, before);
    let made = owner.post("/endpoints", &sound).await.expect(201);
    let answer = owner.patch(&path("/endpoints", &made), &json!({ "url": "https://10.0.0.1/" })).await;
    assert_eq!((answer.problem(422), answer.pointers()), ("invalid".to_owned(), vec!["/url".to_owned()]));
    // One that was allowed once isn't called either when it is no more.
    let receiver = Receiver::start().await;
    sqlx::query("UPDATE webhook_endpoints SET url = $1")
        .bind(&receiver.url)
        .execute(app.superuser())
        .await
        .unwrap();
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    assert!(receiver.received().is_empty());
    assert!(deliveries(&owner, &made).await.iter().all(|delivery| delivery["lastOutcome"] == "refused"));
    app.leave_jobs();
}

#[tokio::test]
async fn a_tenants_events_go_to_its_own_endpoints_alone() {
    let app = TestApp::start().await;
    let (owner, receiver, of_globex) = (owner(&app), Receiver::start().await, Receiver::start().await);
    endpoint(&owner, &receiver.url, &["approval.created"]).await;
    let stranger =
        app.add_person("globex-owner", &["/organizations/globex/owners", "/organizations/globex/agents"]);
    let new = json!({ "tenantId": GLOBEX, "url": of_globex.url, "eventTypes": ["approval.created"] });
    let made = stranger.post("/endpoints", &new).await.expect(201);
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    assert_eq!((receiver.received().len(), of_globex.received().len()), (1, 0));
    // Neither by a delivery's id, nor by the endpoint's.
    assert_eq!(owner.get(&path("/endpoints", &made)).await.problem(404), "not_found");
    assert_eq!(items(&stranger, "/endpoints").await.len(), 1);
    let theirs = items(&owner, "/endpoints").await;
    let delivery = &deliveries(&owner, &theirs[0]).await[0];
    let mixed = format!("{}/deliveries/{}", path("/endpoints", &made), id(delivery));
    assert_eq!(stranger.get(&mixed).await.problem(404), "not_found");
    assert_eq!(stranger.post(&format!("{mixed}/redeliver"), &json!({})).await.problem(404), "not_found");
}

#[tokio::test]
async fn deliveries_go_after_thirty_days_and_with_their_endpoint() {
    let app = TestApp::start().await;
    let (owner, receiver) = (owner(&app), Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["approval.created"]).await;
    let rows = async || {
        (
            app.count("SELECT count(*) FROM webhook_deliveries").await,
            app.count("SELECT count(*) FROM webhook_delivery_attempts").await,
        )
    };
    approval(&app.agent(), "A").await;
    app.run_jobs().await;
    pass(&app, 29 * 24 * 3600);
    approval(&app.agent(), "B").await;
    app.run_jobs().await;
    assert_eq!(rows().await, (2, 2));
    pass(&app, 24 * 3600 + 1);
    app.run_jobs().await;
    assert_eq!(rows().await, (1, 1));
    assert_eq!(owner.delete(&path("/endpoints", &made)).await.status, 204);
    assert_eq!(owner.delete(&path("/endpoints", &made)).await.problem(404), "not_found");
    approval(&app.agent(), "C").await;
    app.run_jobs().await;
    assert_eq!(rows().await, (0, 0));
    for table in ["webhook_endpoints", "webhook_endpoint_secrets", "webhook_endpoint_lanes"] {
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(app.superuser()).await.unwrap(), 0, "{table}");
    }
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test]
async fn a_change_of_what_has_changed_meanwhile_is_refused_and_one_of_nothing_leaves_no_trace() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let made = endpoint(&owner, "http://127.0.0.1:9/", &["*"]).await;
    let at = path("/endpoints", &made);
    let patch = async |change: Value, tag: &str| -> Answer {
        owner.send(owner.request(Method::PATCH, &at).header("if-match", tag).json(&change)).await
    };
    let before = app.row_counts().await;
    for nothing in [json!({}), json!({ "enabled": true, "eventTypes": ["*"] }), json!({ "description": " " })]
    {
        assert_eq!(patch(nothing, "\"1\"").await.header("etag"), "\"1\"");
    }
    assert_eq!(app.row_counts().await, before);
    assert_eq!(patch(json!({ "description": "D" }), "\"1\"").await.header("etag"), "\"2\"");
    assert_eq!(patch(json!({ "description": "E" }), "\"1\"").await.problem(412), "stale");
    let rotate = owner.request(Method::POST, &format!("{at}/rotate-secret")).header("if-match", "\"1\"");
    assert_eq!(owner.send(rotate.json(&json!({}))).await.problem(412), "stale");
    let delete = owner.request(Method::DELETE, &at).header("if-match", "\"1\"");
    assert_eq!(owner.send(delete).await.problem(412), "stale");
    app.leave_jobs();
}

#[tokio::test]
async fn a_tenant_has_fifty_endpoints_at_most_also_where_they_are_made_at_the_same_time() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    owner.get("/me").await.expect(200);
    let answers = futures::future::join_all((0..54).map(|_| {
        let owner = owner.clone();
        async move {
            let new =
                json!({ "tenantId": ACME, "url": "http://127.0.0.1:9/", "eventTypes": ["settings.updated"] });
            owner.post("/endpoints", &new).await
        }
    }))
    .await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 50);
    let refused: Vec<String> =
        answers.iter().filter(|answer| answer.status != 201).map(|answer| answer.problem(409)).collect();
    assert_eq!(refused, ["endpoints.too_many"; 4]);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_test_event_goes_to_the_endpoint_alone_whatever_it_wants() {
    let app = TestApp::start().await;
    let (owner, receiver, other) = (owner(&app), Receiver::start().await, Receiver::start().await);
    let made = endpoint(&owner, &receiver.url, &["settings.updated"]).await;
    endpoint(&owner, &other.url, &["*"]).await;
    app.run_jobs().await;
    let before = other.received().len();
    let delivery = owner.post(&format!("{}/test", path("/endpoints", &made)), &json!({})).await.expect(202);
    assert_eq!((&delivery["eventType"], &delivery["state"]), (&json!("endpoint.test"), &json!("pending")));
    app.run_jobs().await;
    let received = receiver.received();
    assert_eq!((received.len(), other.received().len()), (1, before));
    assert!(verified(&app, &received[0], &[secret(&made)]));
    assert_eq!(received[0].json()["type"], "endpoint.test");
    assert_eq!(states(&owner, &made).await, ["delivered"]);
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// What stands between the two in a page.
fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
    page.split(from)
        .nth(1)
        .and_then(|rest| rest.split(to).next())
        .unwrap_or_else(|| panic!("no {from}: {page}"))
}

#[tokio::test]
async fn an_owner_has_pages_for_all_of_it() {
    let app = TestApp::start().await;
    owner(&app);
    let receiver = Receiver::start().await;
    let base = format!("/app/t/{}", app.tenant(ACME));
    let list = format!("{base}/endpoints");
    let ceo = signed_in(&app, "acme-ceo").await;
    for at in [&list, &format!("{list}/new")] {
        assert_eq!(ceo.get(at).await.status, 403);
    }
    assert_eq!(ceo.post(&list, &[("url", "https://example.org/"), ("event.*", "true")]).await.status, 403);
    assert!(!text(&ceo.get(&base).await).contains(&list));

    let owner = signed_in(&app, "acme-owner").await;
    assert!(text(&owner.get(&base).await).contains(&list));
    assert!(text(&owner.get(&list).await).contains("No endpoints yet"));
    let form = text(&owner.get(&format!("{list}/new")).await);
    assert!(
        form.contains("name=\"event.approval.created\"") && form.contains("name=\"event.consultation.*\"")
    );
    // What is wrong is said, and what was typed is kept.
    let wrong = owner.post(&list, &[("url", "ftp://example.org/"), ("description", "Mine")]).await;
    assert_eq!(wrong.status, 422);
    let shown = text(&wrong);
    assert!(shown.contains("must begin with https") && shown.contains("choose at least one kind of event"));
    assert!(shown.contains("value=\"ftp://example.org/\"") && shown.contains("value=\"Mine\""));
    let right =
        [("url", receiver.url.as_str()), ("description", "<b>Mine</b>"), ("event.approval.*", "true")];
    let made = owner.post(&list, &right).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let shown = text(&made);
    let secret = between(&shown, "whsec_", "<").to_owned();
    let secret = SecretString::from(format!("whsec_{}", secret.replace("&#61;", "=").replace("&#43;", "+")));
    let page = format!("{base}/endpoints/{}", between(&shown, &format!("{list}/"), "/edit"));
    let shown = text(&owner.get(&page).await);
    assert!(!shown.contains("whsec_") && shown.contains("&#60;b&#62;Mine"), "{shown}");

    // A test event, and what came of it.
    let sent = owner.post(&format!("{page}/test"), &[]).await;
    assert_eq!(sent.header("location"), format!("{page}?flash=endpoint-test-sent"));
    app.run_jobs().await;
    assert!(verified(&app, &receiver.received()[0], std::slice::from_ref(&secret)));
    let shown = text(&owner.get(sent.header("location")).await);
    assert!(
        shown.contains("A test event is on its way")
            && shown.contains("Test event")
            && shown.contains("arrived (204)")
    );
    let delivery = format!("{page}/deliveries/{}", between(&shown, &format!("{page}/deliveries/"), "\""));
    let shown = text(&owner.get(&delivery).await);
    assert!(shown.contains("endpoint.test") && shown.contains("arrived (204)"), "{shown}");
    let again = owner.post(&format!("{delivery}/redeliver"), &[]).await;
    assert_eq!(again.header("location"), format!("{delivery}?flash=delivery-again"));
    let pending = owner.post(&format!("{delivery}/redeliver"), &[]).await;
    assert_eq!(pending.status, 409);
    assert!(text(&pending).contains("This is still to be sent."));
    app.run_jobs().await;
    assert_eq!(receiver.received().len(), 2);
    let none = owner.post(&format!("{page}/redeliver"), &[("since_hours", "24")]).await;
    assert_eq!(none.header("location"), format!("{page}?flash=deliveries-none"));
    assert!(text(&owner.get(&format!("{page}?state=failed")).await).contains("No delivery stands like this"));

    // Changing, switching off and on, a new secret, and the end of it; each from a page that is not too old.
    let edit = format!("{page}/edit");
    assert!(text(&owner.get(&edit).await).contains("name=\"event.approval.*\" value=\"true\" checked"));
    let change = [("version", "1"), ("url", receiver.url.as_str()), ("event.settings.updated", "true")];
    assert_eq!(owner.post(&edit, &change).await.header("location"), format!("{page}?flash=endpoint-saved"));
    let stale = owner.post(&edit, &change).await;
    assert_eq!(stale.status, 412);
    assert!(text(&stale).contains("This has changed since you opened it."));
    let off = owner.post(&format!("{page}/disable"), &[("version", "2")]).await;
    assert_eq!(off.header("location"), format!("{page}?flash=endpoint-off"));
    assert!(text(&owner.get(&page).await).contains("Somebody switched this endpoint off."));
    assert_eq!(owner.post(&format!("{page}/test"), &[]).await.status, 409);
    assert_eq!(owner.post(&format!("{page}/enable"), &[("version", "2")]).await.status, 412);
    let on = owner.post(&format!("{page}/enable"), &[("version", "3"), ("missed", "true")]).await;
    assert_eq!(on.header("location"), format!("{page}?flash=endpoint-on"));
    let rotated = owner.post(&format!("{page}/rotate"), &[("version", "4"), ("grace_hours", "1")]).await;
    assert_eq!((rotated.status, rotated.header("cache-control")), (200, "no-store"));
    assert!(text(&rotated).contains("whsec_") && text(&rotated).contains("Old secret valid until"));
    let trail = text(&owner.get(&format!("{base}/audit")).await);
    assert!(trail.contains("added the webhook endpoint") && trail.contains("made a new secret for"));
    assert!(trail.contains(&page) && !trail.contains("/hook"), "{trail}");
    let gone = owner.post(&format!("{page}/delete"), &[("version", "5")]).await;
    assert_eq!(gone.header("location"), format!("{list}?flash=endpoint-removed"));
    assert_eq!(owner.get(&page).await.status, 404);
    app.run_jobs().await;
}
