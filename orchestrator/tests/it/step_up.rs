//! Urgent decisions ask for a stronger and more recent proof of who decides.

use chancery::testing::{ACME, Browser, TestApp};
use connector_keycloak::fake::Signature;
use serde_json::{Value, json};

use crate::harness::{approval, id, items, pass, path};

const DAY: i64 = 24 * 60 * 60;

async fn urgent(app: &TestApp) -> Value {
    let asked = json!({ "tenantId": ACME, "title": "A", "priority": "high" });
    app.agent().post("/approvals", &asked).await.expect(201)
}

fn page(app: &TestApp, approval: &Value) -> String {
    format!("/app/t/{}/approvals/{}", app.tenant(ACME), id(approval))
}

async fn decide(browser: &Browser, page: &str, comment: &str) -> chancery::testing::Answer {
    let form = [("decision", "approved"), ("comment", comment), ("consultation", "true"), ("version", "1")];
    browser.post(&format!("{page}/decision"), &form).await
}

async fn status(app: &TestApp, approval: &Value) -> Value {
    app.ceo().get(&path("/approvals", approval)).await.expect(200)["status"].clone()
}

#[tokio::test]
async fn the_api_asks_for_a_stronger_token() {
    let app = TestApp::start().await;
    let now = app.now().timestamp();
    let approve = json!({ "status": "approved" });
    let urgent = urgent(&app).await;
    for (claims, why) in [
        (json!({}), "the first level"),
        (json!({ "acr": null }), "no level"),
        (json!({ "acr": "0" }), "a level that isn't configured"),
        (json!({ "acr": "2", "auth_time": null }), "no time"),
        (json!({ "acr": "2", "auth_time": now - 301 }), "too long ago"),
        (json!({ "acr": "2", "auth_time": now + 61 }), "in the future"),
        (json!({ "acr": "1", "auth_time": now }), "recent, but weak"),
    ] {
        let ceo = app.nobody().with_token(app.mint("acme-ceo", &claims, Signature::Valid));
        let answer = ceo.patch(&path("/approvals", &urgent), &approve).await;
        assert_eq!(answer.problem(401), "step_up_required", "{why}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"insufficient_user_authentication\","), "{challenge}");
        assert!(challenge.ends_with("acr_values=\"2\", max_age=\"300\""), "{challenge}");
    }
    assert_eq!(status(&app, &urgent).await, "pending");
    // Who may not decide is told that, and isn't sent anywhere.
    assert_eq!(app.viewer().patch(&path("/approvals", &urgent), &approve).await.problem(403), "forbidden");
    // What isn't urgent asks for nothing, and cancelling neither.
    let usual = approval(&app.agent(), "B").await;
    app.ceo().patch(&path("/approvals", &usual), &approve).await.expect(200);
    let other = self::urgent(&app).await;
    app.agent().patch(&path("/approvals", &other), &json!({ "status": "cancelled" })).await.expect(200);

    let claims = json!({ "acr": "2", "auth_time": now - 300 });
    let ceo = app.nobody().with_token(app.mint("acme-ceo", &claims, Signature::Valid));
    ceo.patch(&path("/approvals", &urgent), &approve).await.expect(200);
    // What is decided is decided, however weak the token.
    let again = app.ceo().patch(&path("/approvals", &urgent), &approve).await;
    assert_eq!(again.problem(409), "approvals.already_decided");
    app.run_jobs().await;
}

#[tokio::test]
async fn the_shell_leads_to_keycloak_and_back_to_the_very_decision() {
    let app = TestApp::start().await;
    let urgent = urgent(&app).await;
    let (ceo, page) = (app.browser(), page(&app, &urgent));
    ceo.sign_in("acme-ceo").await;
    let before = ceo.cookie(chancery::auth::session::COOKIE).unwrap();
    let comment = format!("Yes, with an apology & <care>.\n{}", "ü".repeat(1900));
    let left = decide(&ceo, &page, &comment).await;
    assert_eq!(left.status, 303);
    let url: url::Url = left.header("location").parse().unwrap();
    let asked: std::collections::HashMap<_, _> = url.query_pairs().collect();
    let claims: Value = serde_json::from_str(&asked["claims"]).unwrap();
    assert_eq!(claims, json!({ "id_token": { "acr": { "essential": true, "values": ["2"] } } }));
    assert_eq!((&*asked["max_age"], &*asked["login_hint"]), ("300", "acme-ceo"));
    assert!(!left.header("location").contains("apology"), "what was typed goes nowhere else");
    assert_eq!(status(&app, &urgent).await, "pending");

    let back = ceo.at_keycloak(left.header("location"), "acme-ceo").await;
    let arrived = ceo.get(&back).await;
    let checked = ceo.get(arrived.header("location")).await;
    assert_eq!(checked.header("location"), format!("{page}?flash=confirmed"));
    assert_ne!(ceo.cookie(chancery::auth::session::COOKIE).unwrap(), before, "another id");
    let shown = ceo.get(checked.header("location")).await;
    let html = String::from_utf8_lossy(&shown.body).into_owned();
    assert!(html.contains("Yes, with an apology &#38; &#60;care&#62;.\n"), "{html}");
    assert!(html.contains("value=\"true\" checked"), "{html}");
    // Coming back has decided nothing: it takes another click.
    assert_eq!(status(&app, &urgent).await, "pending");
    let decided = decide(&ceo, &page, &comment).await;
    assert_eq!(decided.header("location"), format!("{page}?flash=approved"));
    assert_eq!(status(&app, &urgent).await, "approved");

    // For five minutes it needs no other proof, and then it does.
    let second = self::urgent(&app).await;
    pass(&app, 299);
    let decided = decide(&ceo, &self::page(&app, &second), "").await;
    assert!(decided.header("location").ends_with("?flash=approved"));
    let third = self::urgent(&app).await;
    pass(&app, 2);
    let left = decide(&ceo, &self::page(&app, &third), "").await;
    assert!(left.header("location").contains("/protocol/openid-connect/auth?"));
    app.run_jobs().await;
}

#[tokio::test]
async fn who_comes_back_weaker_or_as_somebody_else_decides_nothing() {
    let app = TestApp::start().await;
    let urgent = urgent(&app).await;
    let (ceo, page) = (app.browser(), page(&app, &urgent));
    ceo.sign_in("acme-ceo").await;
    let cookie = ceo.cookie(chancery::auth::session::COOKIE);

    let left = decide(&ceo, &page, "x").await;
    let back = ceo.at_keycloak(left.header("location"), "acme-viewer").await;
    let refused = ceo.get(&back).await;
    assert_eq!(refused.status, 403);
    assert!(String::from_utf8_lossy(&refused.body).contains("That didn’t prove that it is you"));

    // Somebody changes the request on its way through the browser.
    let left = decide(&ceo, &page, "x").await;
    let weaker = left.header("location").replace("essential", "ignored").replace("values", "ignored");
    let back = ceo.at_keycloak(&weaker, "acme-ceo").await;
    assert_eq!(ceo.get(&back).await.status, 403);

    assert_eq!(ceo.cookie(chancery::auth::session::COOKIE), cookie, "one is signed in as before");
    assert_eq!(ceo.get("/app/me").await.status, 200);
    assert_eq!(status(&app, &urgent).await, "pending");
    app.run_jobs().await;
}

#[tokio::test]
async fn a_step_up_interrupts_no_open_page() {
    let app = TestApp::start().await;
    let urgent = urgent(&app).await;
    let (ceo, page) = (app.browser(), page(&app, &urgent));
    ceo.sign_in("acme-ceo").await;
    let events = format!("/app/t/{}/events", app.tenant(ACME));
    let mut stream = ceo.events(&events).await;
    assert_eq!(stream.next().await.unwrap().name, "hello");
    let left = decide(&ceo, &page, "").await;
    let back = ceo.at_keycloak(left.header("location"), "acme-ceo").await;
    ceo.get(&back).await;
    // Closed without a word, so that the browser opens it again with its new cookie.
    assert_eq!(stream.next().await, None);
    assert_eq!(ceo.events(&events).await.next().await.unwrap().name, "hello");
    app.run_jobs().await;
}

#[tokio::test]
async fn a_tenant_decides_which_decisions_ask_for_it_and_how_old_the_proof_may_be() {
    let app = TestApp::start().await;
    let (usual, urgent) = (approval(&app.agent(), "A").await, urgent(&app).await);
    app.add_person("acme-owner", &["/organizations/acme-corp/owners"]);
    let owner = app.confirmed("acme-owner");
    let settings = json!({ "stepUp": { "priorities": ["medium"], "maxAgeSeconds": 120 } });
    let of_acme = format!("/tenants/{}/settings", app.tenant(ACME));
    owner.patch(&of_acme, &settings).await.expect(200);

    let approve = json!({ "status": "approved" });
    let answer = app.ceo().patch(&path("/approvals", &usual), &approve).await;
    assert_eq!(answer.problem(401), "step_up_required");
    assert!(answer.header("www-authenticate").ends_with("max_age=\"120\""));
    app.ceo().patch(&path("/approvals", &urgent), &approve).await.expect(200);

    owner.patch(&of_acme, &json!({ "stepUp": { "enabled": false } })).await.expect(200);
    app.ceo().patch(&path("/approvals", &usual), &approve).await.expect(200);
    app.run_jobs().await;
}

#[tokio::test]
async fn the_settings_may_ask_for_nothing() {
    let app = TestApp::start_with(|config| config.step_up.level.clear()).await;
    let urgent = urgent(&app).await;
    pass(&app, DAY / 24);
    app.ceo().patch(&path("/approvals", &urgent), &json!({ "status": "rejected" })).await.expect(200);
    app.run_jobs().await;
}

#[tokio::test]
async fn where_no_level_is_configured_no_settings_are_asked() {
    let app = TestApp::start_with(|config| config.step_up.level.clear()).await;
    let urgent = urgent(&app).await;
    app.ceo().get("/me").await.expect(200);
    // Whoever reads them waits for this one, in vain.
    let mut owner = app.superuser().begin().await.unwrap();
    sqlx::query("LOCK TABLE tenant_settings IN ACCESS EXCLUSIVE MODE").execute(&mut *owner).await.unwrap();
    app.ceo().patch(&path("/approvals", &urgent), &json!({ "status": "rejected" })).await.expect(200);
    owner.rollback().await.unwrap();
    app.run_jobs().await;
}

#[tokio::test]
async fn the_trail_says_how_a_decision_was_proven() {
    let app = TestApp::start().await;
    let (first, second) = (urgent(&app).await, urgent(&app).await);
    let proven = app.now();
    pass(&app, 30);
    let claims = json!({ "acr": "2", "auth_time": proven.timestamp() });
    let ceo = app.nobody().with_token(app.mint("acme-ceo", &claims, Signature::Valid));
    ceo.patch(&path("/approvals", &first), &json!({ "status": "approved" })).await.expect(200);

    let (browser, page) = (app.browser(), page(&app, &second));
    browser.sign_in("acme-ceo").await;
    let left = decide(&browser, &page, "").await;
    let back = browser.at_keycloak(left.header("location"), "acme-ceo").await;
    let arrived = browser.get(&back).await;
    browser.get(arrived.header("location")).await;
    let confirmed = app.now();
    pass(&app, 60);
    assert!(decide(&browser, &page, "").await.header("location").ends_with("?flash=approved"));

    let said = async |approval: &Value| {
        let of_it = format!("/audit/resource/approval/{}", id(approval));
        let decided =
            items(&app.ceo(), &of_it).await.into_iter().find(|entry| entry["action"] == "approval.approved");
        let metadata = &decided.unwrap()["metadata"];
        let at: chrono::DateTime<chrono::Utc> = metadata["authTime"].as_str().unwrap().parse().unwrap();
        (metadata["means"].clone(), metadata["acr"].clone(), at.timestamp())
    };
    assert_eq!(said(&first).await, (json!("bearer"), json!("2"), proven.timestamp()));
    assert_eq!(said(&second).await, (json!("session"), json!("2"), confirmed.timestamp()));

    let trail = browser.get(&format!("/app/t/{}/audit?action=approval.approved", app.tenant(ACME))).await;
    let html = String::from_utf8_lossy(&trail.body).into_owned();
    for said in
        ["Level of authentication</dt><dd dir=\"auto\">2<", "a session of this shell", "an access token"]
    {
        assert!(html.contains(said), "{said}: {html}");
    }
    app.run_jobs().await;
}
