//! Sign-ins: how they begin, where they are kept, and how they end.

use std::time::Duration;

use chancery::{
    auth::session::COOKIE,
    directory::Reconciler,
    testing::{ACME, Browser, EventStream, RedisServer, TestApp},
};
use connector_keycloak::fake::Signature;
use serde_json::{Map, Value, json};

use crate::harness::{pass, signed_in};

/// An application with a Redis of its own.
async fn with_redis() -> (TestApp, RedisServer) {
    let server = RedisServer::start().await;
    let url = server.url();
    (TestApp::start_with(move |config| config.redis.url = url.into()).await, server)
}

async fn is_signed_in(browser: &Browser) -> bool {
    let answer = browser.get("/app/me").await;
    match answer.status {
        200 => true,
        303 => {
            assert!(answer.header("location").starts_with("/auth/sign-in?"));
            false
        }
        status => panic!("{status}: {}", String::from_utf8_lossy(&answer.body)),
    }
}

/// What a request finds out beside itself, the next one knows.
async fn out_soon(browser: &Browser) {
    let out = async {
        while is_signed_in(browser).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), out).await.expect("the session ends");
}

/// The event stream of acme in somebody's shell, after its greeting.
async fn stream(app: &TestApp, browser: &Browser) -> EventStream {
    let mut stream = browser.events(&format!("/app/t/{}/events", app.tenant(ACME))).await;
    assert_eq!(stream.next().await.unwrap().name, "hello");
    stream
}

async fn ends_at_once(mut stream: EventStream) {
    let last = stream.next_within(Duration::from_secs(5)).await.expect("it ends at once");
    assert_eq!((last.name.as_str(), &last.data["reason"]), ("end", &json!("access_ended")));
    assert_eq!(stream.next().await, None);
}

/// Keycloak's id of the session that this user has there.
async fn sid(app: &TestApp, username: &str) -> String {
    let sessions = app.state().sessions.of_user(app.user(username)).await.unwrap();
    sessions[0].1.keycloak_session.clone().unwrap()
}

/// Sends a logout token as Keycloak does; gives the status and the error.
async fn send_logout_token(app: &TestApp, token: &str) -> (u16, Value) {
    let url = format!("http://{}/auth/backchannel-logout", app.addresses().chancery);
    let answer = reqwest::Client::new().post(url).form(&[("logout_token", token)]).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap();
    (status, serde_json::from_str::<Value>(&body).unwrap_or_default()["error"].clone())
}

fn logout_token(app: &TestApp, username: &str, sid: &str, overrides: &Value, signature: Signature) -> String {
    let overrides = overrides.as_object().cloned().unwrap_or_else(Map::new);
    let keycloak = &app.doubles().keycloak;
    keycloak.mint_logout_token("chancery-shell", username, sid, overrides, signature).unwrap()
}

#[tokio::test]
async fn replicas_share_sign_ins_and_ends() {
    let (app, _server) = with_redis().await;
    let replica = app.replica().await;
    let here = signed_in(&app, "acme-ceo").await;
    let there = here.at(&replica.origin);
    assert!(is_signed_in(&there).await, "what one replica began, the other knows");
    let listening = stream(&app, &there).await;
    let answer = here.post("/auth/logout", &[]).await;
    assert_eq!(answer.status, 303);
    assert!(answer.header("location").contains("/protocol/openid-connect/logout?id_token_hint="));
    ends_at_once(listening).await;
    assert!(!is_signed_in(&there).await);
}

#[tokio::test]
async fn without_redis_somebody_is_signed_in_at_one_process_only() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    let here = signed_in(&app, "acme-ceo").await;
    assert!(!app.state().sessions.is_shared());
    assert!(is_signed_in(&here).await);
    assert!(!is_signed_in(&here.copied().at(&replica.origin)).await);
}

#[tokio::test]
async fn while_redis_is_down_nobody_is_signed_out() {
    let (app, mut server) = with_redis().await;
    let browser = signed_in(&app, "acme-ceo").await;
    let cookie = browser.cookie(COOKIE).unwrap();
    server.stop();
    for path in ["/app", "/app/me"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), "2");
        assert!(String::from_utf8_lossy(&answer.body).contains("We can’t look up your sign-in"));
    }
    // Not even by signing out: the session would go on where it can't be reached.
    assert_eq!(browser.post("/auth/logout", &[]).await.status, 503);
    assert_eq!(browser.cookie(COOKIE), Some(cookie));
    // A sign-in is answered in words, too.
    let other = app.browser();
    let back = other.leave_and_come_back("/auth/login", "acme-agent").await;
    let refused = other.get(&back).await;
    assert_eq!(refused.status, 503);
    assert!(String::from_utf8_lossy(&refused.body).contains("the storage of sign-ins can’t be reached"));
    // The API has no need of it.
    app.ceo().get("/me").await.expect(200);

    server.start_again().await;
    let again = async {
        while browser.get("/app/me").await.status == 503 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("it passes by itself");
    signed_in(&app, "acme-ceo").await;
}

#[tokio::test]
async fn a_session_ends_when_idle_and_for_good_after_its_time() {
    let server = RedisServer::start().await;
    let url = server.url();
    let app = TestApp::start_with(move |config| {
        config.redis.url = url.into();
        config.session.idle_minutes = 20;
        config.session.absolute_hours = 1;
    })
    .await;
    let (busy, idle) = (signed_in(&app, "acme-ceo").await, signed_in(&app, "acme-agent").await);
    for _ in 0..3 {
        pass(&app, 19 * 60);
        assert!(is_signed_in(&busy).await);
    }
    assert!(!is_signed_in(&idle).await);
    pass(&app, 4 * 60);
    assert!(!is_signed_in(&busy).await, "an hour is over");
}

#[tokio::test]
async fn signing_out_at_keycloak_signs_out_here_at_once() {
    let (app, _server) = with_redis().await;
    let replica = app.replica().await;
    let (browser, other) = (signed_in(&app, "acme-ceo").await, signed_in(&app, "acme-agent").await);
    let streams = [stream(&app, &browser).await, stream(&app, &browser.at(&replica.origin)).await];
    let mut of_other = stream(&app, &other).await;
    // As an administrator does. The double sends its token as the real one does, and waits for the answer.
    app.doubles().keycloak.sign_out_user("acme-ceo").await.unwrap();
    assert!(!is_signed_in(&browser).await);
    assert!(!is_signed_in(&browser.at(&replica.origin)).await);
    for stream in streams {
        ends_at_once(stream).await;
    }
    assert!(is_signed_in(&other).await);
    assert_eq!(of_other.next_within(Duration::from_millis(100)).await, None);
}

#[tokio::test]
async fn a_logout_token_counts_once_and_on_all_replicas() {
    let (app, _server) = with_redis().await;
    let replica = app.replica().await;
    let browser = signed_in(&app, "acme-ceo").await;
    let token = logout_token(&app, "acme-ceo", &sid(&app, "acme-ceo").await, &json!({}), Signature::Valid);
    assert_eq!(send_logout_token(&app, &token).await, (200, Value::Null));
    assert!(!is_signed_in(&browser).await);
    assert_eq!(send_logout_token(&app, &token).await, (400, json!("invalid_request")));
    let elsewhere = reqwest::Client::new()
        .post(format!("{}/auth/backchannel-logout", replica.origin))
        .form(&[("logout_token", &token)])
        .send();
    assert_eq!(elsewhere.await.unwrap().status().as_u16(), 400, "another replica has seen it, too");
}

#[tokio::test]
async fn a_logout_token_ends_exactly_what_it_means() {
    let app = TestApp::start().await;
    let (first, second) = (signed_in(&app, "acme-ceo").await, signed_in(&app, "acme-ceo").await);
    let other = signed_in(&app, "acme-agent").await;
    let newest = sid(&app, "acme-ceo").await;
    // Somebody else's session under this user's name, and one that nobody has here: fine, and nothing happens.
    let of_other = sid(&app, "acme-agent").await;
    for sid in [of_other.as_str(), "unknown"] {
        let token = logout_token(&app, "acme-ceo", sid, &json!({}), Signature::Valid);
        assert_eq!(send_logout_token(&app, &token).await, (200, Value::Null));
    }
    assert!(is_signed_in(&first).await && is_signed_in(&second).await && is_signed_in(&other).await);
    let token = logout_token(&app, "acme-ceo", &newest, &json!({}), Signature::Valid);
    send_logout_token(&app, &token).await;
    let left = [is_signed_in(&first).await, is_signed_in(&second).await];
    assert_eq!(left.iter().filter(|left| **left).count(), 1, "the other session of the same user goes on");
    // Without a session it means all of the user's.
    let third = signed_in(&app, "acme-ceo").await;
    let token = logout_token(&app, "acme-ceo", "", &json!({ "sid": null }), Signature::Valid);
    assert_eq!(send_logout_token(&app, &token).await, (200, Value::Null));
    assert!(!is_signed_in(&first).await && !is_signed_in(&second).await && !is_signed_in(&third).await);
    assert!(is_signed_in(&other).await);
}

#[tokio::test]
async fn what_is_no_logout_token_of_keycloaks_ends_nothing() {
    let app = TestApp::start().await;
    let browser = signed_in(&app, "acme-ceo").await;
    let sid = sid(&app, "acme-ceo").await;
    let second = app.now().timestamp();
    let keycloak = &app.doubles().keycloak;
    let mut tokens = vec![
        String::new(),
        "a.b.c".to_owned(),
        "x".repeat(20_000),
        keycloak.mint_id_token("chancery-shell", "acme-ceo", Map::new(), Signature::Valid).unwrap(),
        app.mint("acme-ceo", &json!({}), Signature::Valid),
    ];
    for signature in
        [Signature::None, Signature::HmacWithPublicKey, Signature::ForeignKey, Signature::UnknownKey]
    {
        tokens.push(logout_token(&app, "acme-ceo", &sid, &json!({}), signature));
    }
    for overrides in [
        json!({ "iss": "http://127.0.0.1:1/realms/chancery" }),
        json!({ "aud": "chancery-api" }),
        json!({ "typ": "Bearer" }),
        json!({ "nonce": "n" }),
        json!({ "events": {} }),
        json!({ "iat": second - 361 }),
        json!({ "exp": second - 61 }),
        json!({ "jti": null }),
    ] {
        tokens.push(logout_token(&app, "acme-ceo", &sid, &overrides, Signature::Valid));
    }
    for token in tokens {
        assert_eq!(send_logout_token(&app, &token).await, (400, json!("invalid_request")), "{token}");
    }
    let url = format!("http://{}/auth/backchannel-logout", app.addresses().chancery);
    let good = logout_token(&app, "acme-ceo", &sid, &json!({}), Signature::Valid);
    let http = reqwest::Client::new();
    for request in [
        http.post(&url),
        http.post(&url).json(&json!({ "logout_token": good })),
        http.post(&url).form(&[("logout_token", &good), ("logout_token", &good)]),
        http.post(&url).query(&[("logout_token", &good)]).form(&[("other", "1")]),
    ] {
        assert_eq!(request.send().await.unwrap().status().as_u16(), 400);
    }
    assert_eq!(http.get(&url).send().await.unwrap().status().as_u16(), 405);
    assert!(is_signed_in(&browser).await);
    // It was good all the time.
    assert_eq!(send_logout_token(&app, &good).await.0, 200);
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn keycloaks_session_is_looked_at_when_the_access_token_has_run_out() {
    let (app, _server) = with_redis().await;
    let replica = app.replica().await;
    let browser = signed_in(&app, "acme-ceo").await;
    let elsewhere = browser.at(&replica.origin);
    let user = app.user("acme-ceo");
    let token = async || app.state().sessions.of_user(user).await.unwrap()[0].1.refresh_token.clone();
    let first = token().await;
    assert!(is_signed_in(&browser).await);
    assert_eq!(token().await, first, "it isn't due yet");
    // The realm takes each refresh token once: using one twice would end the session.
    for _ in 0..3 {
        pass(&app, 301);
        let before = token().await;
        // Many requests at the same time, on two replicas.
        let requests = (0..4).flat_map(|_| [is_signed_in(&browser), is_signed_in(&elsewhere)]);
        assert_eq!(futures::future::join_all(requests).await, [true; 8]);
        let after = token().await;
        assert_ne!(after, before);
        assert!(is_signed_in(&browser).await);
        assert_eq!(token().await, after);
    }
}

#[tokio::test]
async fn a_session_ends_with_keycloaks_though_nobody_said_so() {
    let app = TestApp::start().await;
    let browser = signed_in(&app, "acme-ceo").await;
    // Disabling ends no session in Keycloak and sends no word of it; refreshing is refused.
    app.doubles().keycloak.set_enabled("acme-ceo", false).unwrap();
    let listening = stream(&app, &browser).await;
    pass(&app, 301);
    assert!(!is_signed_in(&browser).await);
    ends_at_once(listening).await;
    // Not even when the user comes back: that takes another sign-in.
    app.doubles().keycloak.set_enabled("acme-ceo", true).unwrap();
    assert!(!is_signed_in(&browser).await);
}

#[tokio::test]
async fn keycloak_being_down_ends_no_session() {
    let app = TestApp::start().await;
    let browser = signed_in(&app, "acme-ceo").await;
    assert!(is_signed_in(&browser).await);
    let user = app.user("acme-ceo");
    let before = app.state().sessions.of_user(user).await.unwrap()[0].1.clone();
    app.doubles().keycloak.set_unavailable(true);
    for _ in 0..3 {
        pass(&app, 301);
        assert!(is_signed_in(&browser).await);
    }
    app.doubles().keycloak.set_unavailable(false);
    pass(&app, 31);
    assert!(is_signed_in(&browser).await);
    let after = app.state().sessions.of_user(user).await.unwrap()[0].1.clone();
    assert_ne!(after.refresh_token, before.refresh_token, "it has caught up");
}

#[tokio::test]
async fn a_new_refresh_token_is_kept_though_the_id_token_beside_it_can_not_be_verified() {
    let app = TestApp::start().await;
    let browser = signed_in(&app, "acme-ceo").await;
    let user = app.user("acme-ceo");
    let session = async || app.state().sessions.of_user(user).await.unwrap()[0].1.clone();
    let before = session().await;
    pass(&app, 301);
    // The keys are fetched now, and not again before the clock goes on: the new one stays unknown.
    let strange = app.nobody().with_token(app.mint("acme-ceo", &json!({}), Signature::UnknownKey));
    strange.get("/me").await.problem(401);
    app.doubles().keycloak.rotate_keys().unwrap();
    assert!(is_signed_in(&browser).await);
    let kept = async {
        while session().await.refresh_token == before.refresh_token {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), kept).await.expect("it is kept");
    assert_eq!(session().await.id_token, before.id_token);
    // The realm takes each refresh token once, and the session goes on with the new one.
    pass(&app, 301);
    assert!(is_signed_in(&browser).await);
    assert_ne!(session().await.id_token, before.id_token);
}

#[tokio::test]
async fn who_is_disabled_deleted_or_removed_is_out_within_a_minute() {
    let (app, _server) = with_redis().await;
    let (disabled, deleted, removed) = (
        signed_in(&app, "acme-ceo").await,
        signed_in(&app, "outsider").await,
        signed_in(&app, "acme-viewer").await,
    );
    let keycloak = &app.doubles().keycloak;
    keycloak.set_enabled("acme-ceo", false).unwrap();
    keycloak.delete_user("outsider").unwrap();
    keycloak.remove_from_group("acme-viewer", "/organizations/acme-corp/viewers").unwrap();
    let tenant = format!("/app/t/{}", app.tenant(ACME));
    assert_eq!(removed.get(&tenant).await.status, 200);
    // What the server does by itself every 45 seconds.
    pass(&app, 45);
    Reconciler::new(app.state().directory.clone(), Duration::from_secs(45)).run_once().await;
    out_soon(&disabled).await;
    out_soon(&deleted).await;
    assert_eq!(removed.get(&tenant).await.status, 404);
    assert!(is_signed_in(&removed).await, "the person goes on, without the tenant");
    // The sessions are gone, not only of no use.
    keycloak.set_enabled("acme-ceo", true).unwrap();
    app.state().directory.refresh_user(app.user("acme-ceo")).await.unwrap();
    assert!(!is_signed_in(&disabled).await);
}

#[tokio::test]
async fn a_rotation_of_keycloaks_keys_fails_no_sign_in() {
    let app = TestApp::start().await;
    signed_in(&app, "acme-ceo").await;
    app.doubles().keycloak.rotate_keys().unwrap();
    let burst: Vec<_> = (0..10)
        .map(|_| {
            let browser = app.browser();
            tokio::spawn(async move { browser.sign_in("acme-agent").await })
        })
        .collect();
    // The keys were fetched just now; ten seconds later they may be fetched again.
    tokio::time::sleep(Duration::from_millis(300)).await;
    pass(&app, 10);
    for signed_in in burst {
        assert_eq!(signed_in.await.unwrap(), "/app");
    }
}

#[tokio::test]
async fn one_sees_and_ends_ones_own_sign_ins() {
    let (app, _server) = with_redis().await;
    let (mine, other, third) = (
        signed_in(&app, "acme-ceo").await,
        signed_in(&app, "acme-ceo").await,
        signed_in(&app, "acme-ceo").await,
    );
    let stranger = signed_in(&app, "acme-agent").await;
    let listening = stream(&app, &other).await;
    let handles = async |browser: &Browser| -> Vec<String> {
        let page = browser.get("/app/me/sessions").await;
        assert_eq!(page.status, 200);
        let html = String::from_utf8_lossy(&page.body).into_owned();
        assert_eq!(html.matches("This one").count(), 1);
        html.split("name=\"session\" value=\"").skip(1).map(|rest| rest[..16].to_owned()).collect()
    };
    let key_of = |browser: &Browser| {
        let mut headers = axum::http::HeaderMap::new();
        let cookie = format!("{COOKIE}={}", browser.cookie(COOKIE).unwrap());
        headers.insert("cookie", cookie.parse().unwrap());
        chancery::auth::session::Sessions::key_of(&headers).unwrap().handle()
    };
    let (first, second) = (key_of(&other), key_of(&third));
    let mut listed = handles(&mine).await;
    listed.sort();
    let mut expected = [first.clone(), second.clone()];
    expected.sort();
    assert_eq!(listed, expected, "the others, each with a button");

    // Nobody ends somebody else's, whatever they know of it.
    let answer = stranger.post("/app/me/sessions/end", &[("session", &first)]).await;
    assert_eq!(answer.header("location"), "/app/me/sessions?flash=session-over");
    assert!(is_signed_in(&other).await);

    let answer = mine.post("/app/me/sessions/end", &[("session", &first)]).await;
    assert_eq!(answer.header("location"), "/app/me/sessions?flash=session-ended");
    ends_at_once(listening).await;
    assert!(!is_signed_in(&other).await);
    assert!(is_signed_in(&third).await && is_signed_in(&mine).await);

    let fourth = signed_in(&app, "acme-ceo").await;
    let answer = mine.post("/app/me/sessions/end-others", &[]).await;
    assert_eq!(answer.header("location"), "/app/me/sessions?flash=sessions-ended");
    assert!(!is_signed_in(&third).await && !is_signed_in(&fourth).await);
    assert!(is_signed_in(&mine).await && is_signed_in(&stranger).await);
    assert_eq!(handles(&mine).await, [""; 0]);

    // It is in the trail of the person's own tenant, and of nobody else's.
    let personal = app.user("acme-ceo");
    let trail =
        app.ceo().get(&format!("/audit?tenantId={personal}&action=session.revoked")).await.expect(200);
    let which: Vec<&str> = trail["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resourceId"].as_str().unwrap())
        .collect();
    assert_eq!(which, ["others", first.as_str()]);
    let of_stranger = app.user("acme-agent");
    let trail =
        app.agent().get(&format!("/audit?tenantId={of_stranger}&action=session.revoked")).await.expect(200);
    assert_eq!(trail["items"], json!([]));
}

#[tokio::test]
async fn one_sees_from_where_a_sign_in_was_opened_and_used_and_nobody_reads_it_in_redis() {
    let server = RedisServer::start().await;
    let url = server.url();
    let app = TestApp::start_with(move |config| {
        config.redis.url = url.into();
        config.http.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let browser = signed_in(&app, "acme-ceo").await;
    let from = |address: &str, path: &str| {
        let request = browser.request(axum::http::Method::GET, path).header("x-forwarded-for", address);
        browser.send(request)
    };
    // What a script of a page fetches by itself is nobody's use.
    let by_script = browser
        .request(axum::http::Method::GET, "/app/me")
        .header("x-forwarded-for", "198.51.100.77")
        .header("sec-fetch-dest", "empty");
    assert_eq!(browser.send(by_script).await.status, 200);
    assert_eq!(from("203.0.113.9, 198.51.100.20", "/app/me").await.status, 200);
    let page = from("198.51.100.20", "/app/me/sessions").await;
    let html = String::from_utf8_lossy(&page.body).into_owned();
    assert!(
        html.contains("from <bdi>127.0.0.1</bdi>") && html.contains("from <bdi>198.51.100.20</bdi>"),
        "{html}"
    );
    assert!(!html.contains("198.51.100.77") && !html.contains("203.0.113.9"));

    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let address = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("198.51.100.20");
    assert!(keys.iter().all(|key| !address(key.as_bytes())), "{keys:?}");
    let session = keys.iter().find(|key| key.starts_with("chancery:session:")).unwrap();
    let kept: Vec<Vec<u8>> = redis::cmd("HVALS").arg(session).query_async(&mut connection).await.unwrap();
    assert!(kept.len() == 3 && kept.iter().all(|value| !address(value)));
}

/// Makes Redis answer nothing for so long, and keep what it has.
async fn pause(server: &RedisServer, pause: Duration) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd("CLIENT");
    command.arg("PAUSE").arg(u64::try_from(pause.as_millis()).unwrap()).arg("ALL");
    command.query_async::<()>(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_logout_token_is_not_lost_while_redis_does_not_answer() {
    const PAUSE: Duration = Duration::from_secs(3);
    let (app, server) = with_redis().await;
    let (browser, other) = (signed_in(&app, "acme-ceo").await, signed_in(&app, "acme-ceo").await);
    let newest = sid(&app, "acme-ceo").await;
    let token = logout_token(&app, "acme-ceo", &newest, &json!({}), Signature::Valid);
    // The keys are known, and the connections are there.
    send_logout_token(&app, "").await;
    pause(&server, PAUSE).await;
    let begun = std::time::Instant::now();
    assert_eq!(send_logout_token(&app, &token).await, (200, Value::Null));
    let took = begun.elapsed();
    assert!(took < PAUSE / 6, "Keycloak waits for the answer: {took:?}");
    tokio::time::sleep(PAUSE).await;
    let alive = async || [is_signed_in(&browser).await, is_signed_in(&other).await];
    assert_eq!(alive().await, [true; 2]);
    let listening = stream(&app, &browser).await;
    let of_other = stream(&app, &other).await;
    app.run_jobs().await;
    let left = alive().await;
    assert_eq!(left.iter().filter(|left| **left).count(), 1, "exactly what the token means");
    ends_at_once(if left[0] { of_other } else { listening }).await;
    // It counts once, then as ever.
    assert_eq!(send_logout_token(&app, &token).await.0, 400);
}

#[tokio::test]
async fn what_began_after_a_late_logout_token_goes_on() {
    const PAUSE: Duration = Duration::from_millis(500);
    let (app, server) = with_redis().await;
    let before = signed_in(&app, "acme-ceo").await;
    let token = logout_token(&app, "acme-ceo", "", &json!({ "sid": null }), Signature::Valid);
    pause(&server, PAUSE).await;
    assert_eq!(send_logout_token(&app, &token).await.0, 200);
    tokio::time::sleep(PAUSE).await;
    pass(&app, 1);
    let after = signed_in(&app, "acme-ceo").await;
    app.run_jobs().await;
    assert!(!is_signed_in(&before).await && is_signed_in(&after).await);
}

#[tokio::test]
async fn what_keycloak_ended_ends_as_soon_as_redis_is_back() {
    let (app, mut server) = with_redis().await;
    signed_in(&app, "acme-ceo").await;
    let sid = sid(&app, "acme-ceo").await;
    let token = logout_token(&app, "acme-ceo", &sid, &json!({}), Signature::Valid);
    server.stop();
    assert_eq!(send_logout_token(&app, &token).await, (200, Value::Null));
    app.run_jobs().await;
    let waiting = "SELECT count(*) FROM jobs WHERE kind = 'sessions.end' AND state = 'ready' AND last_error IS NOT NULL";
    assert_eq!(app.count(waiting).await, 1);
    assert_eq!(app.run_jobs().await, 0, "it is not due yet");
    tokio::spawn(chancery::auth::late_ends::hurry(app.state().clone()));
    server.start_again().await;
    let hurried = async {
        while app.run_jobs().await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), hurried).await.expect("it is due when Redis is back");
    assert_eq!(app.count(waiting).await, 0);
}

/// What a session's refresh is locked by.
fn refresh_lock(key: chancery::auth::session::SessionKey) -> String {
    format!("refresh:{}", key.handle())
}

#[tokio::test]
async fn stopping_waits_for_a_refresh_that_goes_on_beside_its_request() {
    let app = TestApp::start().await;
    let browser = signed_in(&app, "acme-ceo").await;
    let user = app.user("acme-ceo");
    let token = async || app.state().sessions.of_user(user).await.unwrap()[0].1.refresh_token.clone();
    let before = token().await;
    pass(&app, 301);
    app.doubles().keycloak.set_delay(Duration::from_millis(1500));
    assert!(is_signed_in(&browser).await, "a request doesn't wait for so long");
    assert_eq!(token().await, before, "it is still under way");
    // The realm takes each refresh token once: one that isn't kept ends the session.
    app.state().lifecycle.stop().await;
    assert_ne!(token().await, before);
}

#[tokio::test]
async fn a_refresh_is_locked_for_a_minute_at_most_and_no_longer_than_it_takes() {
    let (app, server) = with_redis().await;
    let browser = signed_in(&app, "acme-ceo").await;
    let user = app.user("acme-ceo");
    let session = async || app.state().sessions.of_user(user).await.unwrap()[0].clone();
    let (key, before) = session().await;
    let lock = format!("chancery:claim:{}", refresh_lock(key));
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut rest = async || redis::cmd("PTTL").arg(&lock).query_async::<i64>(&mut connection).await.unwrap();
    pass(&app, 301);
    app.doubles().keycloak.set_delay(Duration::from_millis(1500));
    assert!(is_signed_in(&browser).await);
    let held = rest().await;
    assert!((50_000..=60_000).contains(&held), "{held} ms");
    let refreshed = async {
        while session().await.1.refresh_token == before.refresh_token || rest().await != -2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refreshed)
        .await
        .expect("it is kept, and the lock given back");
}

#[tokio::test]
async fn who_died_while_refreshing_keeps_others_from_it_only_as_long_as_its_lock() {
    let (app, _server) = with_redis().await;
    let browser = signed_in(&app, "acme-ceo").await;
    let user = app.user("acme-ceo");
    let sessions = &app.state().sessions;
    let (key, before) = sessions.of_user(user).await.unwrap()[0].clone();
    pass(&app, 301);
    let lifetime = Duration::from_millis(800);
    assert!(sessions.claim(&refresh_lock(key), "a replica that died", lifetime).await.unwrap());
    assert!(is_signed_in(&browser).await, "the session goes on meanwhile");
    let token = async || sessions.of_user(user).await.unwrap()[0].1.refresh_token.clone();
    assert_eq!(token().await, before.refresh_token, "nobody uses the token a second time");
    tokio::time::sleep(lifetime).await;
    assert!(is_signed_in(&browser).await);
    assert_ne!(token().await, before.refresh_token);
}
