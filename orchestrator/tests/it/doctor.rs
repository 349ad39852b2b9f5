//! What `chancery doctor` sees of an installation, sound and broken.

use std::sync::Arc;

use chancery::{
    clock::{Clock as _, MockClock, SharedClock, SystemClock},
    config::{Config, MatrixAuthMode},
    doctor::{Check, Report, Verdict, examine},
    testing::{ACME, TestApp},
};
use chrono::TimeDelta;

async fn report(app: &TestApp, change: impl FnOnce(&mut Config)) -> Report {
    let mut config = app.state().config.clone();
    change(&mut config);
    // The doubles' answers carry the machine's time.
    let clock: SharedClock = Arc::new(SystemClock);
    examine(&config, &clock).await
}

fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
    report.checks.iter().find(|check| check.name == name).unwrap()
}

/// What was seen of the part, and what is said to mend the worst of it.
fn fault(report: &Report, name: &str) -> (Verdict, String, String) {
    let check = check(report, name);
    let finding = check.findings.iter().find(|finding| finding.verdict == check.verdict).unwrap();
    (check.verdict, finding.what.clone(), finding.mend.clone().unwrap_or_default())
}

#[tokio::test]
async fn a_sound_installation_has_nothing_to_mend() {
    let app = TestApp::start().await;
    let unregistered = report(&app, |_| {}).await;
    let (verdict, what, mend) = fault(&unregistered, "chatwoot");
    let url =
        format!("{}api/v1/webhooks/chatwoot/{}", app.state().config.http.public_url, app.chatwoot_source());
    assert_eq!((verdict, what.as_str()), (Verdict::Fails, "it posts nothing to the source Website"));
    assert!(mend.contains(&url), "{mend}");
    let chatwoot = app.state().tools.chatwoot.as_ref().unwrap().account(1);
    chatwoot.register_webhook(&url.parse().unwrap(), "Chancery", &["message_created"]).await.unwrap();

    let report = report(&app, |_| {}).await;
    for name in ["settings", "database", "keycloak", "chatwoot", "matrix", "address"] {
        assert_eq!(check(&report, name).verdict, Verdict::Works, "{report}");
    }
    assert_eq!(check(&report, "redis").verdict, Verdict::Unused, "{report}");
    // Tests have no source for it.
    let (verdict, what, _) = fault(&report, "jitsi");
    assert_eq!((verdict, what.as_str()), (Verdict::Attention, "who was in a room isn't heard here"));
    let keycloak: Vec<&str> =
        check(&report, "keycloak").findings.iter().map(|finding| finding.what.as_str()).collect();
    assert!(keycloak.contains(&"it takes the secret of chancery-shell"), "{keycloak:?}");
    assert_eq!(
        report.failing(),
        usize::from(check(&report, "chatwoot").verdict == Verdict::Fails),
        "{report}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_mends_it() {
    let app = TestApp::start().await;
    let broken = report(&app, |config| {
        config.keycloak.client_secret = "another".into();
        config.chatwoot.token = "another".into();
        config.matrix.as_token = "another".into();
        config.jitsi.url = "http://127.0.0.1:1/".into();
        config.redis.url = "redis://127.0.0.1:1/".into();
        config.crypto.key_file = "/nowhere/master.key".into();
    })
    .await;
    for (name, what, mend) in [
        ("settings", "/nowhere/master.key", "crypto.key_file"),
        ("redis", "", "redis.url"),
        ("keycloak", "refuses the secret of chancery-shell", "keycloak.client_secret"),
        ("chatwoot", "", "chatwoot.token"),
        ("matrix", "", "matrix.as_token"),
        ("jitsi", "", "see that the server runs"),
    ] {
        let (verdict, seen, mended) = fault(&broken, name);
        assert_eq!(verdict, Verdict::Fails, "{broken}");
        assert!(seen.contains(what) && mended.contains(mend), "{name}: {seen} → {mended}");
    }
    assert!(!broken.to_string().contains("another"), "{broken}");
    assert_eq!(
        check(&broken, "database").verdict,
        Verdict::Works,
        "one that hangs or fails costs only its own"
    );

    let nothing = report(&app, |config| {
        config.keycloak.url.clear();
        config.chatwoot.url.clear();
        config.matrix.url.clear();
        config.jitsi.url.clear();
        config.database.url = "postgres://nobody@127.0.0.1:1/nothing".into();
    })
    .await;
    assert_eq!(check(&nothing, "settings").verdict, Verdict::Fails);
    assert_eq!(check(&nothing, "database").verdict, Verdict::Fails);
    assert_eq!(check(&nothing, "keycloak").verdict, Verdict::Fails);
    for name in ["chatwoot", "matrix", "jitsi"] {
        assert_eq!(check(&nothing, name).verdict, Verdict::Unused, "{nothing}");
    }
}

#[tokio::test]
async fn who_signs_people_in_at_the_homeserver_is_looked_at() {
    let app = TestApp::start().await;
    let mas = report(&app, |config| {
        config.matrix.auth_mode = MatrixAuthMode::Mas;
        config.matrix.identity_provider.clear();
    })
    .await;
    let (verdict, what, mend) = fault(&mas, "matrix");
    assert_eq!(verdict, Verdict::Fails);
    assert_eq!(what, "no authentication service signs people in there");
    assert!(mend.contains("matrix.auth_mode"), "{mend}");
    let impossible = report(&app, |config| config.matrix.auth_mode = MatrixAuthMode::Mas).await;
    assert!(fault(&impossible, "settings").1.contains("matrix.identity_provider"), "{impossible}");
    let by_name = report(&app, |config| config.matrix.identity_provider.clear()).await;
    assert_eq!(check(&by_name, "matrix").verdict, Verdict::Works, "{by_name}");
}

#[tokio::test]
async fn a_wrong_secret_of_the_service_account_and_an_unknown_realm_are_told_apart() {
    let app = TestApp::start().await;
    let secret = report(&app, |config| config.keycloak.sync_client_secret = "another".into()).await;
    let (verdict, _, mend) = fault(&secret, "keycloak");
    assert_eq!(verdict, Verdict::Fails);
    assert!(mend.contains("keycloak.sync_client_secret"), "{mend}");
    let realm = report(&app, |config| config.keycloak.realm = "elsewhere".into()).await;
    let (_, what, _) = fault(&realm, "keycloak");
    assert_eq!(what, "the server has no realm elsewhere");
}

#[tokio::test]
async fn clocks_that_are_apart_are_noticed() {
    let app = TestApp::start().await;
    let ahead: SharedClock = Arc::new(MockClock::new(SystemClock.now() + TimeDelta::minutes(3)));
    let report = examine(&app.state().config, &ahead).await;
    for name in ["database", "jitsi"] {
        let (verdict, what, mend) = fault(&report, name);
        assert_eq!(verdict, Verdict::Fails, "{report}");
        assert!(what.contains("apart") && mend.contains("NTP"), "{name}: {what} → {mend}");
    }
}

#[tokio::test]
async fn who_runs_the_suite_sees_it_on_a_page_and_nobody_else_does() {
    let app = TestApp::start().await;
    let path = "/app/t/00000000-0000-0000-0000-000000000000/health";
    let admin = app.browser();
    admin.sign_in("suite-admin").await;
    let shown = admin.get(path).await;
    assert_eq!(shown.status, 200);
    let shown = String::from_utf8(shown.body.to_vec()).unwrap();
    // Every part has a name, not the name of a text.
    assert!(!shown.contains("health-part-"), "{shown}");
    for text in ["Public address", "it posts nothing to the source Website", "To mend it:"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let ceo = app.browser();
    ceo.sign_in("acme-ceo").await;
    assert_eq!(ceo.get(path).await.status, 404);
    assert_eq!(ceo.get(&format!("/app/t/{}/health", app.tenant(ACME))).await.status, 403);
}
