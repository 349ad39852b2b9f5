use std::time::{Duration, Instant};

use chancery::{
    auth::{PrincipalError, PrincipalSource as _},
    testing::{ACME, Client, TestApp},
};
use serde_json::{Value, json};

use crate::harness::{approval, pass};

async fn tenant(client: &Client, path: &str) -> Option<Value> {
    let me = client.get("/me").await.expect(200);
    me["tenants"].as_array().unwrap().iter().find(|tenant| tenant["path"] == path).cloned()
}

#[tokio::test]
async fn everybody_is_who_keycloak_says() {
    let app = TestApp::start().await;
    for (username, expected) in [
        (
            "acme-agent",
            json!([
                ["Personal", "individual", ["member", "owner"]],
                ["Acme Corp", "organization", ["member", "agent"]]
            ]),
        ),
        (
            "acme-ceo",
            json!([
                ["Personal", "individual", ["member", "owner"]],
                ["Acme Corp", "organization", ["member", "approver"]],
                ["Engineering", "team", ["member", "approver"]],
            ]),
        ),
        (
            "outsider",
            json!([
                ["Personal", "individual", ["member", "owner"]],
                ["Globex Corporation", "organization", ["member", "agent"]]
            ]),
        ),
        ("suite-admin", json!([["Personal", "individual", ["member", "owner"]]])),
    ] {
        let me = app.person(username).get("/me").await.expect(200);
        assert_eq!(me["id"], json!(app.user(username)));
        let tenants: Vec<Value> = me["tenants"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tenant| json!([tenant["name"], tenant["type"], tenant["roles"]]))
            .collect();
        assert_eq!(json!(tenants), expected, "{username}");
        assert_eq!(me["tenants"][0]["id"], me["id"], "{username}");
    }
}

#[tokio::test]
async fn what_a_token_claims_of_groups_grants_nothing() {
    let app = TestApp::start().await;
    let claims = json!({
        "groups": ["/organizations/acme-corp/owners"], "tenants": [ACME], "realm_access": { "roles": ["platform-admin"] },
        "resource_access": { "chancery-api": { "roles": ["platform-admin"] } },
    });
    let outsider =
        app.nobody().with_token(app.mint("outsider", &claims, connector_keycloak::fake::Signature::Valid));
    assert_eq!(outsider.get(&format!("/approvals?tenantId={ACME}")).await.problem(404), "not_found");
    assert_eq!(tenant(&outsider, ACME).await, None);
}

#[tokio::test]
async fn all_members_of_many_sub_groups_are_known() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    // More than one page of Keycloak's, of groups and of members.
    for number in 0..25 {
        let group = format!("{ACME}/guild-{number:02}");
        keycloak.create_group(&group).unwrap();
        app.add_person(&format!("member-{number:02}"), &[&group]);
    }
    for number in 0..120 {
        app.add_person(&format!("viewer-{number:03}"), &["/organizations/acme-corp/viewers"]);
    }
    app.state().directory.refresh_tenant(app.tenant(ACME)).await.unwrap();
    let known = |role: &'static str| {
        sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM memberships JOIN people USING (tenant_id, user_id) WHERE tenant_id = $1 AND role = $2 AND username ~ '^(member|viewer)-'",
        )
        .bind(app.tenant(ACME).0)
        .bind(role)
        .fetch_one(app.superuser())
    };
    assert_eq!((known("member").await.unwrap(), known("viewer").await.unwrap()), (25, 120));
}

#[tokio::test]
async fn a_renamed_group_is_the_same_tenant() {
    let app = TestApp::start().await;
    let agent = app.agent();
    let requested = approval(&agent, "A").await;
    app.run_jobs().await;
    app.doubles().keycloak.rename_group(ACME, "acme-inc").unwrap();
    app.state().directory.refresh_tenant(app.tenant("/organizations/acme-inc")).await.unwrap();
    // What was remembered of people is read again.
    app.state().directory.refresh_user(app.user("acme-agent")).await.unwrap();
    let renamed = tenant(&agent, "/organizations/acme-inc").await.unwrap();
    assert_eq!(
        (&renamed["id"], &renamed["name"], &renamed["roles"]),
        (&requested["tenantId"], &json!("Acme Inc"), &json!(["member", "agent"]))
    );
    let listed = agent.get("/approvals?tenantId=/organizations/acme-inc").await.expect(200);
    assert_eq!(listed["items"][0]["id"], requested["id"]);
    assert_eq!(agent.get(&format!("/approvals?tenantId={ACME}")).await.problem(404), "not_found");
    // A new group at the old path is another tenant.
    app.doubles().keycloak.create_group(ACME).unwrap();
    let newcomer = app.add_person("newcomer", &[ACME]);
    assert_ne!(tenant(&newcomer, ACME).await.unwrap()["id"], requested["tenantId"]);
}

#[tokio::test]
async fn who_is_disabled_or_removed_loses_access_at_the_next_comparison() {
    let app = TestApp::start().await;
    let (agent, viewer, ceo) = (app.agent(), app.viewer(), app.ceo());
    for client in [&agent, &viewer, &ceo] {
        client.get(&format!("/approvals?tenantId={ACME}")).await.expect(200);
    }
    let keycloak = &app.doubles().keycloak;
    keycloak.set_enabled("acme-agent", false).unwrap();
    keycloak.remove_from_group("acme-viewer", "/organizations/acme-corp/viewers").unwrap();
    chancery::directory::Reconciler::new(app.state().directory.clone(), std::time::Duration::from_secs(1))
        .run_once()
        .await;
    // The token is still good, and its owner isn't.
    assert_eq!(agent.get("/me").await.problem(401), "unauthorised");
    assert_eq!(viewer.get(&format!("/approvals?tenantId={ACME}")).await.problem(404), "not_found");
    assert_eq!(tenant(&viewer, ACME).await, None);
    ceo.get(&format!("/approvals?tenantId={ACME}")).await.expect(200);
    // And it comes back with the right.
    keycloak.add_to_group("acme-viewer", "/organizations/acme-corp/agents").unwrap();
    app.state().directory.refresh_tenant(app.tenant(ACME)).await.unwrap();
    assert_eq!(tenant(&viewer, ACME).await.unwrap()["roles"], json!(["member", "agent"]));
}

#[tokio::test]
async fn a_machine_that_is_enabled_again_comes_back_by_itself() {
    let app = TestApp::start().await;
    let (account, automation) = ("service-account-chancery-automation", app.automation());
    automation.get("/me").await.expect(200);
    let keycloak = &app.doubles().keycloak;
    keycloak.set_enabled(account, false).unwrap();
    app.state().directory.refresh_user(app.user(account)).await.unwrap();
    automation.get("/me").await.problem(401);
    keycloak.set_enabled(account, true).unwrap();
    pass(&app, 41);
    let comes_back = async {
        while automation.get("/me").await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), comes_back).await.expect("it comes back");
}

#[tokio::test]
async fn a_group_with_a_slash_in_its_name_is_left_out_and_locks_nobody_out() {
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    // Its sub-group's path is then one below a group that isn't there, or that has nothing to do with it.
    for (name, new_name) in [("odd", "nothing/odd"), ("even", "engineering/even")] {
        let group = format!("/teams/{name}");
        let owners = format!("{group}/owners");
        keycloak.create_group(&group).unwrap();
        keycloak.create_group(&owners).unwrap();
        let member = app.add_person(name, &[&owners, ACME]);
        keycloak.rename_group(&group, new_name).unwrap();
        let me = member.get("/me").await.expect(200);
        let tenants = me["tenants"].as_array().unwrap();
        let paths: Vec<&Value> = tenants.iter().map(|tenant| &tenant["path"]).collect();
        assert_eq!((paths.len(), paths[1]), (2, &json!(ACME)), "{paths:?}");
    }
}

#[tokio::test]
async fn a_group_that_is_gone_leaves_its_tenant_to_nobody() {
    let app = TestApp::start().await;
    let agent = app.agent();
    approval(&agent, "A").await;
    app.run_jobs().await;
    let acme = app.tenant(ACME);
    app.doubles().keycloak.delete_group(ACME).unwrap();
    app.state().directory.refresh_tenant(acme).await.unwrap();
    assert_eq!(tenant(&agent, ACME).await, None);
    assert!(agent.get("/approvals").await.expect(200)["items"].as_array().unwrap().is_empty());
    // What the tenant has stays.
    assert_eq!(app.count("SELECT count(*) FROM approvals").await, 1);
}

#[tokio::test]
async fn keycloak_being_down_takes_nobodys_access_away() {
    let app = TestApp::start().await;
    let agent = app.agent();
    agent.get("/me").await.expect(200);
    let stranger = app.add_person("newcomer", &[ACME]);
    let before = app.row_counts().await;
    let unreachable = stop_keycloak(&app).await;
    for tenant in unreachable.group_tenants().await.unwrap() {
        unreachable.refresh_tenant(tenant).await.unwrap_err();
    }
    unreachable.refresh_user(app.user("acme-agent")).await.unwrap_err();
    assert_eq!(app.row_counts().await, before);
    let known = unreachable.principal(app.user("acme-agent")).await.unwrap();
    assert!(known.tenant(ACME).is_some());
    // Whoever was never seen has to wait.
    assert!(matches!(unreachable.principal(app.user("newcomer")).await, Err(PrincipalError::Unavailable(_))));
    agent.get(&format!("/approvals?tenantId={ACME}")).await.expect(200);
    drop(stranger);
}

/// The directory of a process that can't reach Keycloak.
pub async fn stop_keycloak(app: &TestApp) -> chancery::directory::Directory {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let settings = connector_keycloak::KeycloakSettings {
        url: nowhere.parse().unwrap(),
        realm: "chancery".to_owned(),
        client_id: "chancery-sync".to_owned(),
        client_secret: app.state().config.keycloak.sync_client_secret.clone(),
    };
    let clock = app.state().clock.clone();
    let keycloak = connector_keycloak::KeycloakAdmin::new(settings, clock.clone()).unwrap();
    chancery::directory::Directory::new(app.state().database.clone(), std::sync::Arc::new(keycloak), clock)
}

#[tokio::test]
async fn the_first_sign_in_of_somebody_with_many_tenants_reads_them_some_at_a_time() {
    const TENANTS: usize = 24;
    const COLLEAGUES: usize = 3;
    let app = TestApp::start().await;
    let keycloak = &app.doubles().keycloak;
    let groups: Vec<String> = (0..TENANTS)
        .map(|number| {
            let tenant = format!("/organizations/customer-{number:02}");
            keycloak.create_group(&tenant).unwrap();
            keycloak.create_group(&format!("{tenant}/agents")).unwrap();
            format!("{tenant}/agents")
        })
        .collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    // Unknown to us like the tenants, and in all of them.
    for number in 0..COLLEAGUES {
        app.add_person(&format!("colleague-{number}"), &groups);
    }
    let busy = app.add_person("busy", &groups);
    let delay = Duration::from_millis(20);
    keycloak.set_delay(delay);
    let begun = Instant::now();
    let me = busy.get("/me").await.expect(200);
    let (took, requests, at_once) = (begun.elapsed(), keycloak.requests(), keycloak.most_at_once());
    keycloak.set_delay(Duration::ZERO);
    assert_eq!(me["tenants"].as_array().unwrap().len(), 1 + TENANTS);
    assert!((5..=8).contains(&at_once), "{at_once} at once");
    // For each tenant where its group is, the group, and members and children of it and of its agents; and a few for the token
    // and the user itself. Nobody of the colleagues is read alone because they were met in two tenants at the same time.
    assert!((6 * TENANTS..=6 * TENANTS + 8).contains(&requests), "{requests} requests");
    let one_after_the_other = delay * u32::try_from(requests).unwrap();
    assert!(took < one_after_the_other / 2, "{took:?} of {one_after_the_other:?}");
    let agents = app.count("SELECT count(*) FROM memberships JOIN people USING (tenant_id, user_id) WHERE role = 'agent' AND username ~ '^(busy|colleague-.)$'");
    assert_eq!(agents.await, i64::try_from(TENANTS * (1 + COLLEAGUES)).unwrap());
}
