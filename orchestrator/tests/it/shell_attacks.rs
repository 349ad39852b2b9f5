//! What strangers try with somebody's browser.

use axum::http::Method;
use chancery::{
    auth::session::COOKIE,
    testing::{ACME, Browser, TestApp},
};

use crate::harness::{approval, id};

/// Everything in the shell that a form is sent to: every `post(…)` of its routers.
async fn posts(app: &TestApp) -> Vec<String> {
    let requested = approval(&app.agent(), "A").await;
    app.run_jobs().await;
    let nobody = "00000000-0000-4000-8000-000000000000";
    let sources = [include_str!("../../src/pages/mod.rs"), include_str!("../../src/auth/routes.rs")];
    let routes = sources.iter().flat_map(|source| source.split(".route(").skip(1)).filter_map(|route| {
        let path = route.split('"').nth(1)?;
        let handlers = route.split("\n        .").next()?.split(";\n").next()?;
        handlers.contains("post(").then_some(path)
    });
    let paths: Vec<String> = routes
        .filter(|path| *path != "/auth/backchannel-logout")
        .map(|path| {
            let path = path.replace("{tenant}", &app.tenant(ACME).to_string());
            path.replace("{id}", if path.contains("/approvals/") { id(&requested) } else { nobody })
        })
        .collect();
    assert!(paths.len() >= 10 && paths.contains(&"/auth/logout".to_owned()), "{paths:?}");
    paths
}

#[tokio::test]
async fn no_form_of_the_shell_can_be_sent_from_elsewhere() {
    let app = TestApp::start().await;
    let ceo = app.browser();
    ceo.sign_in("acme-ceo").await;
    let paths = posts(&app).await;
    let before = app.row_counts().await;
    for path in paths {
        let forms: [&[(&str, &str)]; 6] = [
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin-ish")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            // What no browser of today sends: neither says where it comes from.
            &[],
        ];
        for headers in forms {
            let mut request =
                ceo.request(Method::POST, &path).form(&[("decision", "approved"), ("version", "1")]);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = ceo.send(request).await;
            let page = String::from_utf8_lossy(&answer.body);
            let is_from_elsewhere = page.contains("This came from another site");
            assert!(answer.status == 403 && is_from_elsewhere, "{path} with {headers:?}: {page}");
        }
    }
    assert_eq!(app.row_counts().await, before);
    assert_eq!(app.count("SELECT count(*) FROM approvals WHERE status <> 'pending'").await, 0);
    assert_eq!(ceo.get("/app/me").await.status, 200, "still signed in");
}

#[tokio::test]
async fn a_sign_in_takes_no_id_that_was_there_before() {
    let app = TestApp::start().await;
    // Somebody puts a cookie of their choice into the browser: one that leads nowhere, then one of a session of theirs.
    let attacker = app.browser();
    attacker.sign_in("outsider").await;
    let theirs = attacker.cookie(COOKIE).unwrap();
    for planted in ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", theirs.as_str()] {
        let victim = app.browser();
        victim.set_cookie(COOKIE, planted);
        victim.sign_in("acme-ceo").await;
        assert_ne!(victim.cookie(COOKIE).unwrap(), planted);
        let other = app.browser();
        other.set_cookie(COOKIE, planted);
        assert_eq!(other.get("/app/me").await.status, 303, "what was planted opens nothing");
    }
    // Each sign-in is another session, and the one that the browser had ends.
    let browser = app.browser();
    browser.sign_in("acme-ceo").await;
    let first = browser.copied();
    browser.sign_in("acme-ceo").await;
    assert_ne!(browser.cookie(COOKIE), first.cookie(COOKIE));
    assert_eq!(first.get("/app/me").await.status, 303);
    assert_eq!(browser.get("/app/me").await.status, 200);
}

#[tokio::test]
async fn nobody_is_signed_in_by_a_link_of_somebody_else() {
    let app = TestApp::start().await;
    let (attacker, victim) = (app.browser(), app.browser());
    let link = attacker.leave_and_come_back("/auth/login", "outsider").await;
    let answer = victim.get(&link).await;
    assert_eq!(answer.status, 400);
    assert_eq!(victim.cookie(COOKIE), None);
    // Not even while the victim is on the way to Keycloak by itself.
    victim.get("/auth/login").await;
    assert_eq!(victim.get(&link).await.status, 400);
    assert_eq!(victim.cookie(COOKIE), None);
    // The attacker's own browser may, once.
    assert_eq!(attacker.get(&link).await.status, 303);
    assert_eq!(attacker.get(&link).await.status, 400);
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_no_answer() {
    let app = TestApp::start().await;
    let browser = app.browser();
    let back = browser.leave_and_come_back("/auth/login", "acme-ceo").await;
    let mut url: url::Url = back.parse().unwrap();
    let pairs: Vec<(String, String)> = url
        .query_pairs()
        .map(|(name, value)| {
            let value = if name == "iss" { "https://evil.example/realms/chancery".into() } else { value };
            (name.into_owned(), value.into_owned())
        })
        .collect();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    assert_eq!(browser.get(url.as_str()).await.status, 403);
    assert_eq!(browser.cookie(COOKIE), None);
}

#[tokio::test]
async fn a_sign_in_leads_nowhere_else() {
    let app = TestApp::start().await;
    let leads_to = async |address: String| {
        let browser: Browser = app.browser();
        browser.sign_in_from(&address, "acme-ceo").await
    };
    for target in [
        "//evil.example",
        "/\\evil.example",
        "/%5Cevil.example",
        "%2F%2Fevil.example",
        "%2F%5Cevil.example",
        "/app%5C..%5C..%5Cevil.example",
        "https://evil.example/app",
        "https:evil.example",
        "javascript:alert(1)",
        "/app%0D%0ALocation:%20https://evil.example",
        "/auth/logout",
        "/%09/evil.example",
        "%20//evil.example",
        "/app%E2%80%AE",
    ] {
        let led = leads_to(format!("/auth/login?return_to={target}")).await;
        let url = url::Url::parse("http://shell.test").unwrap().join(&led).unwrap();
        assert_eq!(url.host_str(), Some("shell.test"), "{target} leads to {led}");
        assert!(led.starts_with("/app"), "{target} leads to {led}");
        assert!(!led.contains(['\\', '\r', '\n', '\t']), "{target} leads to {led}");
    }
    assert_eq!(leads_to("/auth/login?return_to=/app/me".to_owned()).await, "/app/me");
    // The last step takes an address, too.
    let browser = app.browser();
    browser.sign_in("acme-ceo").await;
    for target in ["//evil.example", "/%5Cevil.example", "https://evil.example"] {
        let answer = browser.get(&format!("/auth/signed-in?return_to={target}")).await;
        assert_eq!(answer.header("location"), "/app", "{target}");
    }
}
