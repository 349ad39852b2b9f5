//! Rate limits: who asks too much is told when to come back, and nobody else is concerned.

use chancery::{
    config::{LimitsConfig, QuotaConfig},
    testing::{ACME, Answer, Client, TestApp},
};
use connector_keycloak::fake::Signature;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{message_created, pass, session_cookie};

/// An application in which one quota is small.
async fn app_with(quota: fn(&mut LimitsConfig) -> &mut QuotaConfig, requests: u32, seconds: u32) -> TestApp {
    TestApp::start_with(|config| *quota(&mut config.limits) = QuotaConfig { requests, seconds }).await
}

/// Checks a refusal, and gives the seconds after which it says to come back.
#[track_caller]
fn refused(answer: &Answer) -> i64 {
    assert_eq!(answer.problem(429), "rate_limited");
    answer.header("retry-after").parse().expect("it says when to come back")
}

#[tokio::test]
async fn who_asks_too_much_is_served_again_when_retry_after_says() {
    let app = app_with(|limits| &mut limits.principal, 3, 30).await;
    let viewer = app.viewer();
    for left in ["\"principal\";r=2;t=20", "\"principal\";r=1;t=10", "\"principal\";r=0;t=10"] {
        let answer = viewer.get("/me").await;
        answer.expect(200);
        assert_eq!(answer.header("ratelimit-policy"), "\"principal\";q=3;w=30");
        assert_eq!(answer.header("ratelimit"), left);
    }
    let answer = viewer.get("/approvals").await;
    let wait = refused(&answer);
    assert_eq!((wait, answer.header("ratelimit")), (10, "\"principal\";r=0;t=10"));
    // Whatever the path, whatever the method.
    refused(&viewer.post("/approvals", &json!({ "tenantId": ACME, "title": "A" })).await);
    // Another principal of the same tenant, at the same address.
    app.ceo().get("/me").await.expect(200);
    pass(&app, wait - 1);
    assert_eq!(refused(&viewer.get("/me").await), 1, "being refused takes nothing");
    pass(&app, 1);
    viewer.get("/me").await.expect(200);
    refused(&viewer.get("/me").await);
}

#[tokio::test]
async fn without_a_limit_nothing_is_counted() {
    let app = app_with(|limits| &mut limits.principal, 0, 30).await;
    for _ in 0..20 {
        let answer = app.viewer().get("/me").await;
        answer.expect(200);
        assert_eq!(answer.header("ratelimit"), "");
    }
}

#[tokio::test]
async fn a_flood_without_proof_locks_nobody_out_who_has_one() {
    let app = app_with(|limits| &mut limits.address, 5, 50).await;
    app.deliver(&message_created(&app, 26, 77, "Hello")).await.expect(200);
    let nobody = app.nobody();
    let wrong = nobody.with_token(app.mint("acme-viewer", &json!({}), Signature::ForeignKey));
    for flood in [&nobody, &wrong, &nobody, &wrong] {
        let answer = flood.get("/me").await;
        assert_eq!(answer.problem(401), "unauthorised");
        assert_eq!(answer.header("ratelimit-policy"), "\"address\";q=5;w=50");
    }
    for flood in [&nobody, &wrong] {
        assert_eq!(refused(&flood.get("/me").await), 10);
    }
    assert_eq!(webhook(&app, "0", "sha256=00", "{}").await.problem(429), "rate_limited");
    // From the same address, with proof.
    app.viewer().get("/me").await.expect(200);
    app.deliver(&message_created(&app, 26, 78, "Hello?")).await.expect(200);
    pass(&app, 10);
    assert_eq!(nobody.get("/me").await.problem(401), "unauthorised");
    app.run_jobs().await;
}

/// Posts what says to come from acme's Chatwoot.
async fn webhook(app: &TestApp, timestamp: &str, signature: &str, body: &str) -> Answer {
    let nobody = app.nobody();
    let request = nobody
        .request(Method::POST, &format!("/webhooks/chatwoot/{}", app.chatwoot_source()))
        .header("content-type", "application/json")
        .header("x-chatwoot-timestamp", timestamp)
        .header("x-chatwoot-signature", signature)
        .body(body.to_owned());
    nobody.send(request).await
}

#[tokio::test]
async fn a_refused_webhook_is_taken_when_it_comes_again() {
    let app = app_with(|limits| &mut limits.source, 2, 20).await;
    // What isn't the source's takes nothing from it.
    for _ in 0..5 {
        let now = app.now().timestamp().to_string();
        assert_eq!(webhook(&app, &now, "sha256=00", "{}").await.problem(401), "webhooks.refused");
    }
    let [first, second, third] = [77, 78, 79].map(|message| message_created(&app, 26, message, "Hello"));
    app.deliver(&first).await.expect(200);
    let answer = app.deliver(&second).await;
    answer.expect(200);
    assert_eq!(answer.header("ratelimit"), "\"source\";r=0;t=10");
    let wait = refused(&app.deliver(&third).await);
    assert_eq!(app.count("SELECT count(*) FROM inbox_events").await, 2);
    pass(&app, wait);
    assert_eq!(app.deliver(&third).await.expect(200)["duplicate"], false);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_homeserver_is_told_in_its_own_words_to_come_again() {
    let app = app_with(|limits| &mut limits.source, 1, 10).await;
    let nobody = app.nobody().with_token(app.state().config.matrix.hs_token.expose_secret());
    let send = async |transaction: &str| {
        let path =
            format!("/webhooks/matrix/{}/_matrix/app/v1/transactions/{transaction}", app.matrix_source());
        nobody.send(nobody.request(Method::PUT, &path).json(&json!({ "events": [] }))).await
    };
    send("1").await.expect(200);
    let answer = send("2").await;
    assert_eq!(answer.expect(429)["errcode"], "M_LIMIT_EXCEEDED");
    assert_eq!(answer.header("retry-after"), "10");
    pass(&app, 10);
    send("2").await.expect(200);
    app.run_jobs().await;
}

#[tokio::test]
async fn what_is_refused_touches_no_database() {
    let app = TestApp::start_with(|config| {
        config.limits.principal = QuotaConfig { requests: 1, seconds: 60 };
        config.limits.source = QuotaConfig { requests: 1, seconds: 60 };
        config.limits.address = QuotaConfig { requests: 2, seconds: 60 };
    })
    .await;
    let (viewer, ceo) = (app.viewer(), app.ceo());
    let approvals = format!("/approvals?tenantId={ACME}");
    viewer.get(&approvals).await.expect(200);
    app.deliver(&message_created(&app, 26, 77, "Hello")).await.expect(200);
    app.run_jobs().await;
    app.state().database.close().await;

    // Who isn't refused finds it closed.
    assert_eq!(ceo.get(&approvals).await.problem(503), "unavailable");
    refused(&viewer.get(&approvals).await);
    refused(&app.deliver(&message_created(&app, 26, 78, "Hello")).await);
    // The delivery's unknown source was the address's first request, and each strange one is a further.
    let strange = async |last: u8| {
        let nobody = app.nobody();
        let path = format!("/webhooks/chatwoot/0b000000-0000-4000-8000-0000000000{last:02}");
        nobody.send(nobody.request(Method::POST, &path).json(&json!({}))).await
    };
    assert_eq!(strange(1).await.problem(503), "unavailable");
    refused(&strange(2).await);
}

/// `GET` as a browser does, from behind a proxy where one is named.
async fn browse(app: &TestApp, path: &str, forwarded_for: Option<&str>) -> reqwest::Response {
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let url = format!("http://{}{path}", app.addresses().chancery);
    let mut request = http.get(url).header("accept", "text/html");
    if let Some(client) = forwarded_for {
        request = request.header("x-forwarded-for", client);
    }
    request.send().await.unwrap()
}

#[tokio::test]
async fn sign_ins_are_limited_by_address_and_say_so_on_a_page() {
    let app = app_with(|limits| &mut limits.address, 2, 20).await;
    for path in ["/auth/login", "/auth/callback?state=none"] {
        assert_ne!(browse(&app, path, None).await.status(), StatusCode::TOO_MANY_REQUESTS);
    }
    // Nobody but a trusted proxy says who is behind it.
    let page = browse(&app, "/auth/login", Some("198.51.100.7")).await;
    assert_eq!(page.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(page.headers()["retry-after"], "10");
    assert!(page.text().await.unwrap().contains("Too many requests, please slow down"));
    pass(&app, 10);
    assert_eq!(browse(&app, "/auth/login", None).await.status(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_a_quota_of_its_own() {
    let app = TestApp::start_with(|config| {
        config.limits.address = QuotaConfig { requests: 1, seconds: 20 };
        config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    for client in ["198.51.100.7", "198.51.100.8", "2001:db8::1"] {
        assert_eq!(browse(&app, "/auth/login", Some(client)).await.status(), StatusCode::SEE_OTHER);
        // What the client puts in front of its address changes nothing.
        let forged = format!("203.0.113.5, {client}");
        assert_eq!(browse(&app, "/auth/login", Some(&forged)).await.status(), StatusCode::TOO_MANY_REQUESTS);
    }
}

#[tokio::test]
async fn what_a_session_sends_is_limited_and_what_it_looks_at_is_not() {
    let app = app_with(|limits| &mut limits.session, 2, 20).await;
    app.agent().get("/me").await.expect(200);
    let (one, other) = (session_cookie(&app, "acme-agent").await, session_cookie(&app, "acme-agent").await);
    let url = format!("http://{}/app/t/{}/approvals", app.addresses().chancery, app.tenant(ACME));
    let http =
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    let send = async |cookie: &str| {
        let request = http.post(&url).header("cookie", cookie).header("sec-fetch-site", "same-origin");
        request.form(&[("title", "")]).send().await.unwrap()
    };
    for _ in 0..2 {
        assert_eq!(send(&one).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    let answer = send(&one).await;
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"10".parse().unwrap())
    );
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "rate_limited");
    // The same person in another browser, and this browser looking.
    assert_eq!(send(&other).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    for _ in 0..5 {
        assert_eq!(http.get(&url).header("cookie", &one).send().await.unwrap().status(), StatusCode::OK);
    }
    pass(&app, 10);
    assert_eq!(send(&one).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_exactly_as_many_are_served_as_the_quota_has() {
    let app = app_with(|limits| &mut limits.principal, 7, 60).await;
    let viewer = app.viewer();
    let ask = |client: Client| async move { client.get("/me").await.status };
    let statuses = futures::future::join_all((0..40).map(|_| ask(viewer.clone()))).await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((served, statuses.len()), (7, 40), "{statuses:?}");
}
