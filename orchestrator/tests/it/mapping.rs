//! Whose the inboxes of a suite's source are: several tenants in one account of Chatwoot.

use chancery::testing::{ACME, Answer, Client, GLOBEX, TestApp};
use reqwest::Method;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::{
    harness::{id, items, message_created, pass, path, private_note, signed_in},
    sources::chancery_inbox,
};

const SECRET: &str = "the secret that Chatwoot has made";

/// A source of the suite's for account 1.
async fn suite_source(app: &TestApp) -> Value {
    let new = json!({
        "tenantId": "/suite", "service": "chatwoot", "account": "1", "scheme": { "type": "chatwoot" }, "secret": SECRET,
    });
    app.suite_admin().post("/sources", &new).await.expect(201)
}

async fn deliver(app: &TestApp, source: &Value, event: &Value) -> Answer {
    let body = event.to_string();
    let signature =
        connector_chatwoot::webhook::sign(&SecretString::from(SECRET), app.now(), body.as_bytes());
    let nobody = app.nobody();
    let request = nobody
        .request(Method::POST, &path("/webhooks/chatwoot", source))
        .header("content-type", "application/json")
        .header("x-chatwoot-timestamp", app.now().timestamp().to_string())
        .header("x-chatwoot-signature", signature);
    nobody.send(request.body(body)).await
}

fn from_inbox(mut event: Value, inbox: i64) -> Value {
    event["inbox"]["id"] = json!(inbox);
    event["conversation"]["inbox_id"] = json!(inbox);
    event
}

async fn map(app: &TestApp, source: &Value, inbox: &str, tenant: &str) -> Answer {
    let mapping = format!("{}/mappings/{inbox}", path("/sources", source));
    app.suite_admin().put(&mapping, &json!({ "tenantId": tenant })).await
}

/// The numbers of the conversations that somebody sees of a tenant.
async fn conversations(client: &Client, tenant: &str) -> Vec<i64> {
    let found = items(client, &format!("/conversations?tenantId={tenant}")).await;
    let mut numbers: Vec<i64> = found.iter().map(|one| one["displayId"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn two_tenants_share_an_account_by_inbox_and_neither_sees_the_others() {
    let app = TestApp::start().await;
    let source = suite_source(&app).await;
    let globex = app.add_person("globex-agent", &["/organizations/globex/agents"]);
    map(&app, &source, "3", ACME).await.expect(200);
    let mapped = map(&app, &source, "4", GLOBEX).await.expect(200);
    assert_eq!((&mapped["inboxId"], &mapped["tenantPath"]), (&json!(4), &json!(GLOBEX)));
    for (number, inbox) in [(31, 3), (41, 4), (32, 3)] {
        deliver(&app, &source, &from_inbox(message_created(&app, number, number * 10, "Hello"), inbox))
            .await
            .expect(200);
    }
    app.run_jobs().await;
    assert_eq!(conversations(&app.agent(), ACME).await, [31, 32]);
    assert_eq!(conversations(&globex, GLOBEX).await, [41]);
    // What came is the tenants' own, and nothing of it is the suite's.
    assert!(items(&app.suite_admin(), "/inbox/events?tenantId=/suite").await.is_empty());
    // An escalation by note goes on in the inbox' tenant.
    let note = from_inbox(private_note(&app, 31, 311, "/escalate A refund", "acme-agent@acme.example"), 3);
    deliver(&app, &source, &note).await.expect(200);
    app.run_jobs().await;
    let requested = items(&app.ceo(), &format!("/approvals?tenantId={ACME}")).await;
    assert_eq!(requested.len(), 1);
    assert_eq!(requested[0]["source"]["conversation"], "31");
    app.leave_jobs();
}

#[tokio::test]
async fn what_comes_from_an_unmapped_inbox_is_parked_with_its_reason_and_handed_on_by_a_replay() {
    let app = TestApp::start().await;
    let (source, admin) = (suite_source(&app).await, app.suite_admin());
    map(&app, &source, "4", GLOBEX).await.expect(200);
    let event = from_inbox(message_created(&app, 31, 310, "Hello"), 3);
    let parked = id(&deliver(&app, &source, &event).await.expect(200)).to_owned();
    app.run_jobs().await;
    let shown = admin.get(&format!("/inbox/events/{parked}")).await.expect(200);
    assert_eq!(shown["state"], "dead");
    let reason = "inbox 3 of account 1 is mapped to no tenant";
    assert_eq!(shown["lastError"], reason);
    let browser = signed_in(&app, "suite-admin").await;
    let suite = "/app/t/00000000-0000-0000-0000-000000000000";
    let page = text(&browser.get(&format!("{suite}/inbox/events/{parked}")).await);
    assert!(page.contains(reason), "{page}");
    assert!(conversations(&app.agent(), ACME).await.is_empty(), "nobody has guessed");

    // A replay before there is a mapping changes nothing.
    admin.post(&format!("/inbox/events/{parked}/replay"), &json!({})).await.expect(200);
    app.run_jobs().await;
    assert_eq!(admin.get(&format!("/inbox/events/{parked}")).await.expect(200)["state"], "dead");

    map(&app, &source, "3", ACME).await.expect(200);
    for _ in 0..2 {
        pass(&app, 1);
        admin.post(&format!("/inbox/events/{parked}/replay"), &json!({})).await.expect(200);
        app.run_jobs().await;
        let shown = admin.get(&format!("/inbox/events/{parked}")).await.expect(200);
        assert_eq!(shown["state"], "done");
        assert_eq!(conversations(&app.agent(), ACME).await, [31]);
    }
    // Once, however often it is replayed, and known where it has gone to.
    let acme = app.tenant(ACME);
    let of_acme = sqlx::query_scalar::<_, i64>(
        "SELECT runs::bigint FROM timeline WHERE tenant_id = $1 AND event_id = $2",
    )
    .bind(acme.0)
    .bind(parked.parse::<uuid::Uuid>().unwrap())
    .fetch_all(app.superuser())
    .await
    .unwrap();
    assert_eq!(of_acme, [1]);
    let again = deliver(&app, &source, &event).await.expect(200);
    assert_eq!((again["duplicate"].as_bool(), id(&again)), (Some(true), parked.as_str()));
    app.leave_jobs();
}

#[tokio::test]
async fn what_names_no_inbox_is_the_suites_unless_the_account_is_one_tenants() {
    let app = TestApp::start().await;
    let (source, admin) = (suite_source(&app).await, app.suite_admin());
    let contact = |number: i64| json!({ "event": "contact_created", "id": number, "name": "Connie", "account": { "id": 1, "name": "A" } });
    let kept = id(&deliver(&app, &source, &contact(5)).await.expect(200)).to_owned();
    app.run_jobs().await;
    assert_eq!(admin.get(&format!("/inbox/events/{kept}")).await.expect(200)["state"], "done");
    map(&app, &source, "others", ACME).await.expect(200);
    let own = id(&deliver(&app, &source, &contact(6)).await.expect(200)).to_owned();
    deliver(&app, &source, &from_inbox(message_created(&app, 91, 910, "Hello"), 9)).await.expect(200);
    app.run_jobs().await;
    assert_eq!(admin.get(&format!("/inbox/events/{own}")).await.problem(404), "not_found");
    assert_eq!(conversations(&app.agent(), ACME).await, [91]);
    // Another account in the payload gains nothing: the source's URL says which it is.
    let mut strange = from_inbox(message_created(&app, 92, 920, "Hello"), 9);
    strange["account"]["id"] = json!(2);
    deliver(&app, &source, &strange).await.expect(200);
    app.run_jobs().await;
    assert_eq!(conversations(&app.agent(), ACME).await, [91]);
    assert_eq!(
        app.count("SELECT count(*) FROM inbox_failures WHERE state = 'dead' AND last_error LIKE 'the event is of another account%'").await,
        1
    );
    app.leave_jobs();
}

#[tokio::test]
async fn mappings_are_told_in_both_trails_and_shown_where_the_source_is() {
    let app = TestApp::start().await;
    let (source, admin) = (suite_source(&app).await, app.suite_admin());
    let mappings = format!("{}/mappings", path("/sources", &source));
    map(&app, &source, "3", ACME).await.expect(200);
    map(&app, &source, "3", ACME).await.expect(200);
    map(&app, &source, "3", GLOBEX).await.expect(200);
    map(&app, &source, "others", ACME).await.expect(200);
    let listed = admin.get(&mappings).await.expect(200);
    let listed: Vec<(Value, Value)> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["inboxId"].clone(), one["tenantPath"].clone()))
        .collect();
    assert_eq!(listed, [(Value::Null, json!(ACME)), (json!(3), json!(GLOBEX))]);
    admin.delete(&format!("{mappings}/others")).await.expect(204);
    assert_eq!(admin.delete(&format!("{mappings}/others")).await.problem(404), "not_found");
    let actions = |tenant: String| {
        let app = &app;
        async move {
            sqlx::query_scalar::<_, String>(
                "SELECT action FROM audit_logs WHERE tenant_id = $1::uuid AND action LIKE 'webhook_source.%mapped' ORDER BY id",
            )
            .bind(tenant)
            .fetch_all(app.superuser())
            .await
            .unwrap()
        }
    };
    let (mapped, unmapped) = ("webhook_source.mapped", "webhook_source.unmapped");
    let suite = "00000000-0000-0000-0000-000000000000".to_owned();
    assert_eq!(actions(suite.clone()).await, [mapped, mapped, mapped, unmapped]);
    assert_eq!(actions(app.tenant(ACME).to_string()).await, [mapped, unmapped, mapped, unmapped]);
    assert_eq!(actions(app.tenant(GLOBEX).to_string()).await, [mapped]);
    let browser = signed_in(&app, "suite-admin").await;
    let page = text(&browser.get(&format!("/app/t/{suite}/inbox/sources/{}", id(&source))).await);
    assert!(page.contains("Inbox 3") && page.contains(GLOBEX), "{page}");

    for (inbox, tenant) in [("0", ACME), ("x", ACME), ("3", "/nobody"), ("3", "/suite")] {
        assert_eq!(map(&app, &source, inbox, tenant).await.problem(422), "invalid", "{inbox} {tenant}");
    }
    let other = json!({ "tenantId": "/suite", "service": "tool", "scheme": { "type": "bearer" } });
    let other = admin.post("/sources", &other).await.expect(201);
    assert_eq!(map(&app, &other, "3", ACME).await.problem(422), "invalid");
}

#[tokio::test]
async fn who_operates_the_server_maps_at_the_command_line() {
    let app = TestApp::start().await;
    let source = suite_source(&app).await;
    let run = async |arguments: &[&str]| {
        let arguments: Vec<&str> = ["source"].iter().chain(arguments).copied().collect();
        chancery_inbox(&app, &arguments, "").await.unwrap()
    };
    let mapped: Value = serde_json::from_str(&run(&["map", id(&source), "3", ACME, "--json"]).await).unwrap();
    assert_eq!(mapped["tenantPath"], ACME);
    let listed = run(&["mappings", id(&source)]).await;
    assert!(listed.contains(ACME) && listed.starts_with('3'), "{listed}");
    run(&["unmap", id(&source), "3"]).await;
    assert_eq!(run(&["mappings", id(&source)]).await, "");
}
