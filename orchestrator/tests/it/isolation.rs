//! Naming a tenant of others: the answer tells nothing, the tenant hears nothing, and it is on record where it belongs.

use chancery::{
    auth::{PrincipalSource as _, Refusals},
    testing::{ACME, Client, ENGINEERING, GLOBEX, TestApp},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};

use crate::harness::{approval, id, pass, signed_in};

/// The names that the caller's personal tenant has on record, oldest first.
async fn recorded(app: &TestApp, client: &Client) -> Vec<String> {
    entries(app, client)
        .await
        .iter()
        .rev()
        .map(|entry| entry["resourceId"].as_str().unwrap().to_owned())
        .collect()
}

async fn entries(app: &TestApp, client: &Client) -> Vec<Value> {
    app.state().refusals.settled().await;
    let me = client.get("/me").await.expect(200);
    let personal = me["id"].as_str().unwrap();
    let trail =
        client.get(&format!("/audit?tenantId={personal}&action=tenant.access_refused")).await.expect(200);
    trail["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn whoever_names_a_tenant_of_others_has_it_on_record_in_their_own() {
    let app = TestApp::start().await;
    let outsider = app.outsider();
    let acme = app.tenant(ACME).to_string();
    let unknown = "0b000000-0000-4000-8000-0000000000ff";
    for named in [&acme, ACME, unknown, "/organizations/no-such-one", "nothing of the kind"] {
        let query = outsider.request(reqwest::Method::GET, "/approvals").query(&[("tenantId", named)]);
        assert_eq!(outsider.send(query).await.problem(404), "not_found");
    }
    assert_eq!(
        recorded(&app, &outsider).await,
        [&acme, ACME, unknown, "/organizations/no-such-one", "nothing of the kind"]
    );
    let entry = entries(&app, &outsider).await.pop().unwrap();
    assert_eq!(
        (&entry["action"], &entry["resource"], &entry["userId"], &entry["tenantId"], &entry["metadata"]),
        (
            &json!("tenant.access_refused"),
            &json!("tenant"),
            &json!(app.user("outsider")),
            &json!(app.user("outsider")),
            &json!({ "named": acme })
        )
    );
    assert_eq!((&entry["oldValues"], &entry["newValues"]), (&Value::Null, &Value::Null));
    // Acme hears nothing of it.
    assert_eq!(
        app.ceo().get(&format!("/audit?tenantId={ACME}&action=tenant.access_refused")).await.expect(200)["items"],
        json!([])
    );
    assert_eq!(app.count("SELECT count(*) FROM audit_logs WHERE action = 'tenant.access_refused'").await, 5);
}

#[tokio::test]
async fn wherever_a_request_names_a_tenant_it_is_recorded() {
    let app = TestApp::start().await;
    let outsider = app.outsider();
    let name = |number: usize| format!("/organizations/number-{number}");
    for (number, path) in
        ["/approvals", "/audit", "/audit/resource/approval/1", "/consultations", "/conversations", "/events"]
            .iter()
            .enumerate()
    {
        assert_eq!(
            outsider.get(&format!("{path}?tenantId={}", name(number))).await.problem(404),
            "not_found"
        );
    }
    for (number, path, mut body) in
        [(6, "/approvals", json!({ "title": "A" })), (7, "/consultations", json!({ "title": "C" }))]
    {
        body["tenantId"] = name(number).into();
        assert_eq!(outsider.post(path, &body).await.problem(404), "not_found");
    }
    let names: Vec<String> = (0..8).map(name).collect();
    assert_eq!(recorded(&app, &outsider).await, names);
}

#[tokio::test]
async fn a_page_of_a_tenant_of_others_is_recorded_too() {
    let app = TestApp::start().await;
    let (browser, outsider) = (signed_in(&app, "outsider").await, app.outsider());
    let globex = app.tenant(GLOBEX);
    assert_eq!(browser.get(&format!("/app/t/{globex}")).await.status, 200);
    let acme = app.tenant(ACME);
    let unknown = "0b000000-0000-4000-8000-0000000000ff";
    let (of_others, of_nobody) = (
        browser.get(&format!("/app/t/{acme}/approvals")).await,
        browser.get(&format!("/app/t/{unknown}/approvals")).await,
    );
    assert_eq!((of_others.status, of_nobody.status), (404, 404));
    browser.post(&format!("/app/t/{acme}/approvals"), &[("title", "A")]).await;
    browser.get("/app/t/what%00is%20this/audit").await;
    assert_eq!(recorded(&app, &outsider).await, [&acme.to_string(), unknown, "what\u{fffd}is this"]);
}

#[tokio::test]
async fn the_same_name_by_the_same_caller_is_recorded_once_a_minute() {
    let app = TestApp::start().await;
    let (outsider, engineer) = (app.outsider(), app.engineer());
    let acme = app.tenant(ACME).to_string();
    // One spelling of an id.
    let spellings = [acme.clone(), acme.to_uppercase(), acme.replace('-', "")];
    for named in spellings.iter().cycle().take(12) {
        outsider.get(&format!("/approvals?tenantId={named}")).await.expect(404);
    }
    engineer.get(&format!("/approvals?tenantId={acme}")).await.expect(404);
    assert_eq!(recorded(&app, &outsider).await, [acme.as_str()]);
    assert_eq!(recorded(&app, &engineer).await, [acme.as_str()]);
    // Another replica knows what this one has recorded.
    let replica =
        Refusals::start(app.state().database.clone(), app.state().clock.clone(), &app.state().lifecycle);
    let principal = app.state().directory.principal(app.user("outsider")).await.unwrap();
    replica.note(&principal, &acme);
    replica.settled().await;
    pass(&app, 59);
    outsider.get(&format!("/approvals?tenantId={acme}")).await.expect(404);
    assert_eq!(recorded(&app, &outsider).await.len(), 1);
    pass(&app, 1);
    outsider.get(&format!("/approvals?tenantId={acme}")).await.expect(404);
    assert_eq!(recorded(&app, &outsider).await.len(), 2);
}

#[tokio::test]
async fn a_name_that_is_too_long_is_cut() {
    let app = TestApp::start().await;
    let outsider = app.outsider();
    outsider.get(&format!("/approvals?tenantId=/teams/{}", "x".repeat(5_000))).await.expect(404);
    outsider.post("/approvals", &json!({ "tenantId": "", "title": "A" })).await.expect(404);
    assert_eq!(
        recorded(&app, &outsider).await,
        [format!("/teams/{}", "x".repeat(193)), "(nothing)".to_owned()]
    );
}

#[tokio::test]
async fn an_unknown_id_is_counted_and_not_recorded() {
    let app = TestApp::start().await;
    let outsider = app.outsider();
    let requested = approval(&app.agent(), "A").await;
    outsider.get("/me").await.expect(200);
    let before = app.row_counts().await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let counting = metrics::set_default_local_recorder(&recorder);
    for unknown in [id(&requested), "0b000000-0000-4000-8000-0000000000ff"] {
        outsider.get(&format!("/approvals/{unknown}")).await.expect(404);
    }
    outsider.get(&format!("/approvals?tenantId={ENGINEERING}")).await.expect(404);
    drop(counting);
    let counted = handle.render();
    assert!(counted.contains("chancery_not_found_total 3"), "{counted}");
    assert!(counted.contains("chancery_tenant_refusals_total 1"), "{counted}");
    // No label says which.
    assert!(!counted.contains("engineering") && !counted.contains("0b000000"), "{counted}");
    app.state().refusals.settled().await;
    let mut after = app.row_counts().await;
    let trail = after.iter_mut().find(|(table, _)| table == "audit_logs").unwrap();
    trail.1 -= 1;
    assert_eq!(after, before);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_machine_has_a_tenant_of_its_own_for_this() {
    let app = TestApp::start().await;
    let machine = app.automation();
    let entry = json!({ "tenantId": GLOBEX, "action": "a", "resource": "r", "resourceId": "1" });
    machine.post("/audit", &entry).await.expect(404);
    assert_eq!(recorded(&app, &machine).await, [GLOBEX]);
}

#[tokio::test]
async fn the_answer_about_a_tenant_of_others_asks_nobody() {
    let app = TestApp::start().await;
    let outsider = app.outsider();
    outsider.get("/me").await.expect(200);
    // Whether it exists could be told by nothing, not even by the time: the database isn't there to be asked.
    app.state().database.close().await;
    for named in [ACME, "/organizations/no-such-one", "0b000000-0000-4000-8000-0000000000ff"] {
        for path in ["/approvals", "/audit", "/events"] {
            assert_eq!(outsider.get(&format!("{path}?tenantId={named}")).await.problem(404), "not_found");
        }
    }
    // Where it isn't refused, the database is missed.
    outsider.get(&format!("/approvals?tenantId={GLOBEX}")).await.expect(503);
}
