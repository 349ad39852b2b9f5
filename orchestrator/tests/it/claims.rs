//! What a token says of groups makes us look in Keycloak, and does nothing else.

use chancery::{
    auth::PrincipalSource as _,
    testing::{ACME, Client, TestApp},
};
use connector_keycloak::fake::Signature;
use serde_json::{Value, json};

use crate::{directory::stop_keycloak, harness::approval};

/// The paths of the caller's tenants, without their own.
async fn tenants(client: &Client) -> Vec<String> {
    let me = client.get("/me").await.expect(200);
    let path = |tenant: &Value| tenant["path"].as_str().unwrap().to_owned();
    me["tenants"].as_array().unwrap().iter().skip(1).map(path).collect()
}

#[tokio::test]
async fn a_group_that_a_token_tells_of_for_the_first_time_is_a_tenant_at_once() {
    let app = TestApp::start().await;
    let agent = app.agent();
    assert_eq!(tenants(&agent).await, [ACME]);
    let keycloak = &app.doubles().keycloak;
    let (group, below) = ("/teams/night-watch", "/teams/night-watch/agents");
    let id = keycloak.create_group(group).unwrap();
    keycloak.create_group(below).unwrap();
    keycloak.create_group("/teams/night-watch/approvers").unwrap();
    keycloak.add_to_group("acme-ceo", "/teams/night-watch/approvers").unwrap();
    keycloak.add_to_group("acme-agent", below).unwrap();
    // The old token doesn't tell.
    assert_eq!(tenants(&agent).await, [ACME]);
    let agent = app.agent();
    assert_eq!(tenants(&agent).await, [ACME, group]);
    let me = agent.get("/me").await.expect(200);
    assert_eq!(
        (&me["tenants"][2]["id"], &me["tenants"][2]["name"], &me["tenants"][2]["roles"]),
        (&json!(id), &json!("Night Watch"), &json!(["member", "agent"]))
    );
    // Who could decide there is known as well.
    agent.post("/approvals", &json!({ "tenantId": group, "title": "A" })).await.expect(201);
    app.run_jobs().await;
    // A role that is new in a tenant that is known.
    keycloak.add_to_group("acme-agent", "/teams/night-watch/approvers").unwrap();
    let me = app.agent().get("/me").await.expect(200);
    assert_eq!(me["tenants"][2]["roles"], json!(["member", "agent", "approver"]));
}

#[tokio::test]
async fn a_claim_grants_nothing_and_makes_no_tenant() {
    let app = TestApp::start().await;
    app.outsider().get("/me").await.expect(200);
    let before = app.row_counts().await;
    for groups in [
        json!([format!("{ACME}/owners")]),
        json!(["/organizations/no-such-one"]),
        json!(["/organizations/globex/owners", "/elsewhere", "", "//", "/organizations/", "no path"]),
        json!("not a list"),
        json!([1, null]),
    ] {
        let claims = json!({ "groups": groups });
        let outsider = app.nobody().with_token(app.mint("outsider", &claims, Signature::Valid));
        let me = outsider.get("/me").await.expect(200);
        assert_eq!(me["tenants"].as_array().unwrap().len(), 2, "{groups}");
        assert_eq!(me["tenants"][1]["roles"], json!(["member", "agent"]), "{groups}");
    }
    assert_eq!(app.row_counts().await, before);
}

#[tokio::test]
async fn a_token_that_leaves_groups_out_takes_nothing_away() {
    let app = TestApp::start().await;
    assert_eq!(tenants(&app.ceo()).await, [ACME, "/teams/engineering"]);
    for groups in [json!(null), json!([]), json!(["/teams/engineering"]), json!(["/teams/support"])] {
        let claims = json!({ "groups": groups });
        let ceo = app.nobody().with_token(app.mint("acme-ceo", &claims, Signature::Valid));
        assert_eq!(tenants(&ceo).await, [ACME, "/teams/engineering"], "{groups}");
        ceo.get(&format!("/approvals?tenantId={ACME}")).await.expect(200);
    }
}

#[tokio::test]
async fn the_same_claim_makes_us_look_once() {
    let app = TestApp::start().await;
    let claims = json!({ "groups": ["/teams/support/agents"] });
    let token = app.mint("acme-agent", &claims, Signature::Valid);
    let agent = app.nobody().with_token(token);
    assert_eq!(tenants(&agent).await, [ACME]);
    // It has become true meanwhile, and was looked at just now.
    app.doubles().keycloak.add_to_group("acme-agent", "/teams/support/agents").unwrap();
    assert_eq!(tenants(&agent).await, [ACME]);
    // Another claim is another reason.
    let claims = json!({ "groups": ["/teams/support/agents", "/teams/support"] });
    let token = app.mint("acme-agent", &claims, Signature::Valid);
    assert_eq!(tenants(&app.nobody().with_token(token)).await, [ACME, "/teams/support"]);
}

#[tokio::test]
async fn requests_that_come_together_with_a_new_claim_all_see_the_new_tenant() {
    let app = TestApp::start().await;
    app.agent().get("/me").await.expect(200);
    let keycloak = &app.doubles().keycloak;
    keycloak.create_group("/teams/night-watch").unwrap();
    keycloak.add_to_group("acme-agent", "/teams/night-watch").unwrap();
    let agent = app.agent();
    let seen = futures::future::join_all((0..20).map(|_| tenants(&agent))).await;
    assert!(seen.iter().all(|seen| *seen == [ACME, "/teams/night-watch"]), "{seen:?}");
}

#[tokio::test]
async fn a_renamed_group_is_the_same_tenant_with_the_first_token_that_tells() {
    let app = TestApp::start().await;
    let requested = approval(&app.agent(), "A").await;
    app.run_jobs().await;
    app.doubles().keycloak.rename_group(ACME, "acme-inc").unwrap();
    let agent = app.agent();
    let me = agent.get("/me").await.expect(200);
    assert_eq!(
        (&me["tenants"][1]["id"], &me["tenants"][1]["path"], &me["tenants"][1]["name"]),
        (&requested["tenantId"], &json!("/organizations/acme-inc"), &json!("Acme Inc"))
    );
    let listed = agent.get("/approvals?tenantId=/organizations/acme-inc").await.expect(200);
    assert_eq!(listed["items"][0]["id"], requested["id"]);
    // The display name is an attribute like any other.
    app.doubles().keycloak.set_group_attribute("/organizations/acme-inc", "displayName", &["ACME"]).unwrap();
    app.state().directory.refresh_tenant(app.tenant("/organizations/acme-inc")).await.unwrap();
    app.state().directory.refresh_user(app.user("acme-agent")).await.unwrap();
    let me = agent.get("/me").await.expect(200);
    assert_eq!(
        (&me["tenants"][1]["id"], &me["tenants"][1]["name"]),
        (&requested["tenantId"], &json!("ACME"))
    );
    assert_eq!(app.count("SELECT count(*) FROM tenants WHERE path ~ 'acme'").await, 1);
}

#[tokio::test]
async fn while_keycloak_is_down_a_new_claim_changes_nothing() {
    let app = TestApp::start().await;
    app.agent().get("/me").await.expect(200);
    let unreachable = stop_keycloak(&app).await;
    let user = app.user("acme-agent");
    let known = unreachable.principal(user).await.unwrap();
    let groups = ["/teams/night-watch".to_owned()];
    assert_eq!(unreachable.principal_claiming(user, &groups).await.unwrap(), known);
    assert!(known.tenant(ACME).is_some());
}

#[tokio::test]
async fn somebody_in_two_hundred_groups_can_work() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    let paths: Vec<String> = (0..200)
        .map(|number| format!("/organizations/a-customer-with-a-rather-long-name-{number:03}"))
        .collect();
    for path in &paths {
        keycloak.create_group(path).unwrap();
        keycloak.create_group(&format!("{path}/agents")).unwrap();
    }
    let groups: Vec<String> = paths.iter().map(|path| format!("{path}/agents")).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let busy = app.add_person("busy", &groups);
    // All of them stand in the token, which is larger than many a limit.
    assert!(busy.token().len() > 16 * 1024, "{}", busy.token().len());
    let begun = std::time::Instant::now();
    assert_eq!(tenants(&busy).await, paths);
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    busy.get("/approvals").await.expect(200);
    busy.get(&format!("/approvals?tenantId={}", paths[199])).await.expect(200);
    let tenant = app.tenant(&paths[100]).to_string();
    keycloak.add_to_group("acme-ceo", &paths[100]).unwrap();
    keycloak.create_group(&format!("{}/approvers", paths[100])).unwrap();
    keycloak.add_to_group("acme-ceo", &format!("{}/approvers", paths[100])).unwrap();
    app.state().directory.refresh_tenant(app.tenant(&paths[100])).await.unwrap();
    busy.post("/approvals", &json!({ "tenantId": tenant, "title": "A" })).await.expect(201);
    // The first of 201 tenants after one's own, and the last.
    let mut events = busy.events(&paths[0], None).await;
    assert_eq!(events.next().await.unwrap().name, "hello");
    app.run_jobs().await;
}
