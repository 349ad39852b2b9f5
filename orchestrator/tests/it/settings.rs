//! What a tenant decides for itself.

use std::time::Duration;

use chancery::{
    approvals::Priority,
    auth::PrincipalSource as _,
    tenants,
    testing::{ACME, Client, TestApp},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{items, signed_in};

const PATH: &str = "/tenants/%2Forganizations%2Facme-corp/settings";

/// An owner who has just given a one-time code.
fn owner(app: &TestApp) -> Client {
    app.add_person("acme-owner", &["/organizations/acme-corp/owners"]);
    app.confirmed("acme-owner")
}

async fn change(client: &Client, change: &Value, if_match: &str) -> chancery::testing::Answer {
    client.send(client.request(Method::PATCH, PATH).header("if-match", if_match).json(change)).await
}

#[tokio::test]
async fn what_was_never_set_has_its_default() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let answer = owner.get(PATH).await;
    assert_eq!(answer.header("etag"), "\"0\"");
    let expected = json!({
        "tenantId": app.tenant(ACME), "version": 0, "updatedAt": null,
        "stepUp": { "enabled": true, "priorities": ["high"], "maxAgeSeconds": 300 },
    });
    assert_eq!(answer.expect(200), expected);
    // By its id as well, and of one's own.
    assert_eq!(owner.get(&format!("/tenants/{}/settings", app.tenant(ACME))).await.expect(200), expected);
    owner.get(&format!("/tenants/{}/settings", app.user("acme-owner"))).await.expect(200);
    assert_eq!(app.count("SELECT count(*) FROM tenant_settings").await, 0);
}

#[tokio::test]
async fn an_owner_changes_them_and_everybody_else_may_not() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let mut heard = owner.events(ACME, None).await;
    assert_eq!(heard.next().await.unwrap().name, "hello");
    let off = json!({ "stepUp": { "enabled": false } });
    for client in [app.agent(), app.ceo(), app.viewer()] {
        assert_eq!(client.get(PATH).await.problem(403), "forbidden");
        assert_eq!(client.patch(PATH, &off).await.problem(403), "forbidden");
    }
    let answer = change(&owner, &off, "\"0\"").await;
    assert_eq!(answer.header("etag"), "\"1\"");
    let changed = answer.expect(200);
    assert_eq!(changed["stepUp"], json!({ "enabled": false, "priorities": ["high"], "maxAgeSeconds": 300 }));
    assert_eq!((&changed["version"], &changed["updatedAt"]), (&json!(1), &json!(app.now())));
    assert_eq!(owner.get(PATH).await.expect(200), changed);

    let trail = items(&owner, &format!("/audit/resource/settings/{}", app.tenant(ACME))).await;
    assert_eq!(trail.len(), 1);
    assert_eq!(
        (&trail[0]["action"], &trail[0]["userId"], &trail[0]["oldValues"], &trail[0]["newValues"]),
        (
            &json!("settings.updated"),
            &json!(app.user("acme-owner")),
            &json!({ "stepUpEnabled": true }),
            &json!({ "stepUpEnabled": false })
        )
    );
    let event = heard.next().await.unwrap();
    assert_eq!((event.name.as_str(), &event.data["id"]), ("settings.updated", &json!(app.tenant(ACME))));
    // Who may not read them doesn't hear of them either.
    let mut of_agent = app.agent().events(ACME, Some(0)).await;
    assert_eq!(
        of_agent.next_within(Duration::from_millis(300)).await.map(|event| event.name),
        Some("hello".into())
    );
    assert_eq!(of_agent.next_within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn a_change_of_what_has_changed_meanwhile_is_refused() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let minutes = |minutes: u32| json!({ "stepUp": { "maxAgeSeconds": minutes * 60 } });
    change(&owner, &minutes(1), "\"0\"").await.expect(200);
    assert_eq!(change(&owner, &minutes(2), "\"0\"").await.problem(412), "stale");
    assert_eq!(change(&owner, &minutes(2), "7").await.problem(422), "invalid");
    change(&owner, &minutes(2), "W/\"1\"").await.expect(200);
    // Without an expectation, the last one wins, and none gets lost.
    let (first, second) = tokio::join!(
        async { owner.patch(PATH, &json!({ "stepUp": { "priorities": ["low"] } })).await },
        async { owner.patch(PATH, &minutes(3)).await }
    );
    first.expect(200);
    second.expect(200);
    let now = owner.get(PATH).await.expect(200);
    assert_eq!(
        (&now["version"], &now["stepUp"]),
        (&json!(4), &json!({ "enabled": true, "priorities": ["low"], "maxAgeSeconds": 180 }))
    );
}

#[tokio::test]
async fn of_first_changes_at_the_same_time_one_wins() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    owner.get("/me").await.expect(200);
    let statuses = futures::future::join_all((1..=9).filter(|minutes| *minutes != 5).map(|minutes| {
        let owner = owner.clone();
        async move {
            change(&owner, &json!({ "stepUp": { "maxAgeSeconds": minutes * 60 } }), "\"0\"").await.status
        }
    }))
    .await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_pointed_at() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    for (wrong, pointers) in [
        (
            json!({ "stepUp": { "priorities": [], "maxAgeSeconds": 1 } }),
            vec!["/stepUp/priorities", "/stepUp/maxAgeSeconds"],
        ),
        (json!({ "stepUp": { "maxAgeSeconds": 43_201 } }), vec!["/stepUp/maxAgeSeconds"]),
        (json!({ "stepUp": { "maxAgeSeconds": -1 } }), vec!["/stepUp/maxAgeSeconds"]),
        (json!({ "stepUp": { "priorities": ["urgent"] } }), vec!["/stepUp/priorities/0"]),
        (json!({ "stepUp": { "enabled": "no" } }), vec!["/stepUp/enabled"]),
        (json!({ "stepUp": { "level": 3 } }), vec!["/stepUp/level"]),
        (json!({ "version": 3 }), vec!["/version"]),
    ] {
        let answer = owner.patch(PATH, &wrong).await;
        assert_eq!(answer.problem(422), "invalid", "{wrong}");
        assert_eq!(answer.pointers(), pointers, "{wrong}");
    }
    assert_eq!(app.count("SELECT count(*) FROM tenant_settings").await, 0);
}

#[tokio::test]
async fn what_changes_nothing_leaves_no_trace() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    for nothing in
        [json!({}), json!({ "stepUp": {} }), json!({ "stepUp": { "enabled": true, "priorities": ["high"] } })]
    {
        let answer = owner.patch(PATH, &nothing).await;
        assert_eq!((answer.header("etag"), &answer.expect(200)["updatedAt"]), ("\"0\"", &Value::Null));
    }
    assert_eq!(app.count("SELECT count(*) FROM audit_logs WHERE action = 'settings.updated'").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM events WHERE type = 'settings.updated'").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM tenant_settings").await, 0);
}

#[tokio::test]
async fn who_has_not_proven_it_again_cannot_ask_less_of_others() {
    let app = TestApp::start().await;
    owner(&app);
    let weak = app.person("acme-owner");
    for weaker in [
        json!({ "enabled": false }),
        json!({ "priorities": ["low"] }),
        json!({ "maxAgeSeconds": 301 }),
        json!({ "priorities": ["medium"], "maxAgeSeconds": 60 }),
    ] {
        let answer = weak.patch(PATH, &json!({ "stepUp": weaker })).await;
        assert_eq!(answer.problem(401), "step_up_required", "{weaker}");
        assert!(answer.header("www-authenticate").ends_with("acr_values=\"2\", max_age=\"300\""));
    }
    assert_eq!(app.count("SELECT count(*) FROM tenant_settings").await, 0);
    // Asking more of everybody asks for nothing; what was asked for until now counts for taking it back.
    let stricter = json!({ "stepUp": { "priorities": ["high", "low"], "maxAgeSeconds": 120 } });
    weak.patch(PATH, &stricter).await.expect(200);
    let proven = app.confirmed("acme-owner");
    proven.patch(PATH, &json!({ "stepUp": { "enabled": false } })).await.expect(200);
    weak.patch(PATH, &json!({ "stepUp": { "enabled": true } })).await.expect(200);
}

#[tokio::test]
async fn slices_and_jobs_go_by_them_whoever_acts() {
    let app = TestApp::start().await;
    owner(&app).patch(PATH, &json!({ "stepUp": { "priorities": ["medium", "high"] } })).await.expect(200);
    let acme = app.tenant(ACME);
    let database = &app.state().database;
    let ceo = app.state().directory.principal(app.user("acme-ceo")).await.unwrap();
    let outsider = app.state().directory.principal(app.user("outsider")).await.unwrap();
    for mut tx in [database.tenant_tx(ceo).await.unwrap(), database.worker_tx(acme).await.unwrap()] {
        let step_up = tenants::settings(&mut tx, acme).await.unwrap().step_up;
        assert_eq!(step_up.max_age(Priority::Medium), Some(Duration::from_mins(5)));
        assert_eq!(step_up.max_age(Priority::Low), None);
    }
    // To a stranger, they are what they are by default.
    let mut tx = database.tenant_tx(outsider).await.unwrap();
    assert_eq!(tenants::settings(&mut tx, acme).await.unwrap().step_up.max_age(Priority::Medium), None);
}

#[tokio::test]
async fn what_a_newer_version_has_set_survives_a_change_by_this_one() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    owner.patch(PATH, &json!({ "stepUp": { "enabled": false } })).await.expect(200);
    sqlx::query("UPDATE tenant_settings SET settings = settings || '{\"later\": {\"a\": 1}}'")
        .execute(app.superuser())
        .await
        .unwrap();
    owner.patch(PATH, &json!({ "stepUp": { "enabled": true } })).await.expect(200);
    let later: Value = sqlx::query_scalar("SELECT settings -> 'later' FROM tenant_settings")
        .fetch_one(app.superuser())
        .await
        .unwrap();
    assert_eq!(later, json!({ "a": 1 }));
}

#[tokio::test]
async fn an_owner_has_a_page_for_them() {
    let app = TestApp::start().await;
    owner(&app);
    let acme = app.tenant(ACME);
    let page = format!("/app/t/{acme}/settings");
    let agent = signed_in(&app, "acme-agent").await;
    assert_eq!(agent.get(&page).await.status, 403);
    assert_eq!(agent.post(&page, &[("version", "0"), ("step_up_max_age", "300")]).await.status, 403);
    assert!(!text(&agent.get(&format!("/app/t/{acme}")).await).contains(&page));

    let owner = signed_in(&app, "acme-owner").await;
    assert!(text(&owner.get(&format!("/app/t/{acme}")).await).contains(&page));
    let shown = text(&owner.get(&page).await);
    assert!(shown.contains("name=\"step_up_high\" value=\"true\" checked"), "{shown}");
    assert!(shown.contains("<option value=\"300\" selected>"));
    // What isn't ticked isn't sent.
    let none = [("version", "0"), ("step_up_enabled", "true"), ("step_up_max_age", "60")];
    let refused = owner.post(&page, &none).await;
    assert_eq!(refused.status, 422);
    assert!(text(&refused).contains("Please choose at least one priority"));
    assert!(text(&refused).contains("<option value=\"60\" selected>"));
    let some =
        [("version", "0"), ("step_up_enabled", "true"), ("step_up_low", "true"), ("step_up_max_age", "900")];
    // It asks less of urgent decisions: whoever is at the browser proves first that it is theirs, and finds what they chose.
    let left = owner.post(&page, &some).await;
    assert_eq!(left.status, 303);
    let back = owner.at_keycloak(left.header("location"), "acme-owner").await;
    let checked = owner.get(owner.get(&back).await.header("location")).await;
    assert_eq!(checked.header("location"), format!("{page}?flash=confirmed"));
    let shown = text(&owner.get(checked.header("location")).await);
    assert!(shown.contains("Please look at it once more"));
    assert!(shown.contains("name=\"step_up_low\" value=\"true\" checked"), "{shown}");
    assert!(!shown.contains("name=\"step_up_high\" value=\"true\" checked"));
    let saved = owner.post(&page, &some).await;
    assert_eq!(
        (saved.status, saved.header("location")),
        (303, format!("{page}?flash=settings-saved").as_str())
    );
    let shown = text(&owner.get(saved.header("location")).await);
    assert!(shown.contains("Saved.") && shown.contains("name=\"step_up_low\" value=\"true\" checked"));
    assert!(!shown.contains("name=\"step_up_high\" value=\"true\" checked"));
    // A page that was opened before doesn't undo it.
    let stale = owner.post(&page, &some).await;
    assert_eq!(stale.status, 412);
    assert!(text(&stale).contains("This has changed since you opened it."));
    assert_eq!(owner.post(&page, &[("version", "1"), ("step_up_max_age", "x")]).await.status, 422);
    assert_eq!(owner.post(&page, &[("version", "1"), ("step_up_max_age", "900")]).await.status, 303);
    let trail = text(&owner.get(&format!("/app/t/{acme}/audit")).await);
    assert!(trail.contains("changed the workspace’s"), "{trail}");
}

fn text(answer: &chancery::testing::Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}
