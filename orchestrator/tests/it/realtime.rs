use std::time::Duration;

use chancery::{
    auth::PrincipalSource as _,
    testing::{ACME, Client, EventStream, TestApp},
};
use reqwest::Method;
use serde_json::json;

use crate::harness::{approval, conversation, id, path, session_cookie};

/// The numbers of so many events, without the greeting.
async fn numbers(stream: &mut EventStream, count: usize) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let event = stream.next().await.expect("the stream goes on");
        if event.name != "hello" {
            numbers.push(event.id.expect("an event has a number"));
        }
    }
    numbers
}

#[tokio::test]
async fn what_happens_is_told_in_its_order() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    let mut stream = ceo.events(ACME, None).await;
    assert_eq!(stream.next().await.unwrap().name, "hello");
    let requested = approval(&agent, "A").await;
    let mirrored = conversation(&app, 26).await;
    ceo.patch(&path("/approvals", &requested), &json!({ "status": "approved", "consultation": true }))
        .await
        .expect(200);
    let mut told = Vec::new();
    for _ in 0..4 {
        let event = stream.next().await.unwrap();
        assert_eq!(event.data["tenantId"], json!(app.tenant(ACME)));
        assert_eq!(event.data["type"], event.name);
        told.push((event.name, event.data["id"].as_str().unwrap().to_owned()));
    }
    let consultations = crate::harness::items(&ceo, "/consultations").await;
    let expected = [
        ("approval.created", id(&requested)),
        ("conversation.updated", id(&mirrored)),
        ("consultation.created", id(&consultations[0])),
        ("approval.decided", id(&requested)),
    ];
    assert_eq!(told, expected.map(|(name, id)| (name.to_owned(), id.to_owned())));
    app.run_jobs().await;
}

#[tokio::test]
async fn what_is_committed_after_its_client_has_left_is_told_at_once() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    let mut stream = ceo.events(ACME, None).await;
    approval(&agent, "A").await;
    let first = numbers(&mut stream, 1).await[0];
    // The next event has to wait for this lock, and the request for the event.
    let mut lock = app.superuser().begin().await.unwrap();
    sqlx::query("SELECT FROM event_streams FOR UPDATE").execute(&mut *lock).await.unwrap();
    let request = tokio::spawn(async move { approval(&agent, "B").await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while app.count(waits).await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    request.abort();
    assert!(request.await.is_err_and(|error| error.is_cancelled()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    lock.commit().await.unwrap();
    // Long before the log would be looked at anyway.
    let told = stream.next_within(Duration::from_secs(2)).await.expect("it is told");
    assert_eq!((told.name.as_str(), told.id), ("approval.created", Some(first + 1)));
    app.run_jobs().await;
}

/// Opens streams until one is refused; the open ones, and the refusal.
async fn open_until_refused(
    open: impl AsyncFn() -> reqwest::Response,
) -> (Vec<reqwest::Response>, reqwest::Response) {
    let mut streams = Vec::new();
    loop {
        assert!(streams.len() < 10, "no stream is refused");
        match open().await {
            response if response.status() == 200 => streams.push(response),
            refused => return (streams, refused),
        }
    }
}

/// Waits until a stream can be opened again: a closed connection is noticed a moment later.
async fn until_admitted(open: impl AsyncFn() -> reqwest::Response) -> reqwest::Response {
    for _ in 0..100 {
        let response = open().await;
        if response.status() == 200 {
            return response;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("what was closed stays occupied");
}

#[tokio::test]
async fn nobody_has_more_streams_open_than_the_setting_says() {
    let app = TestApp::start_with(|config| config.limits.streams_per_principal = 3).await;
    let (viewer, ceo) = (app.viewer(), app.ceo());
    let listen = |client: &Client| {
        let request = client.request(Method::GET, "/events").query(&[("tenantId", ACME)]);
        async { request.send().await.unwrap() }
    };
    let (mut open, refused) = open_until_refused(async || listen(&viewer).await).await;
    assert_eq!(open.len(), 3);
    assert_eq!(refused.headers()["retry-after"], "15");
    let problem: serde_json::Value = refused.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&json!(429), &json!("events.too_many_streams")));
    // Nobody else is concerned.
    assert_eq!(listen(&ceo).await.status(), 200);
    drop(open.pop());
    open.push(until_admitted(async || listen(&viewer).await).await);
    assert_eq!(listen(&viewer).await.status(), 429);
}

#[tokio::test]
async fn an_open_stream_has_its_connection_for_itself() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    let listen = ceo.request(Method::GET, "/events").query(&[("tenantId", ACME)]);
    let mut stream = listen.send().await.unwrap();
    assert_eq!(stream.headers()["connection"], "close");
    assert_eq!(stream.headers()["transfer-encoding"], "chunked");
    let mut heard = String::new();
    approval(&agent, "A").await;
    while !heard.contains("approval.created") {
        heard.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    assert!(heard.contains("event: hello"), "{heard}");
    let answer = ceo.get("/me").await;
    assert!(!answer.headers.contains_key("connection"), "{:?}", answer.headers);
    app.run_jobs().await;
    // When the process stops, the stream ends as it should: reqwest takes a missing last chunk for an error.
    app.state().lifecycle.soft.cancel();
    assert_eq!(stream.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_browser_has_no_more_streams_open_than_the_setting_says() {
    let app = TestApp::start_with(|config| config.limits.streams_per_session = 2).await;
    let url = format!("http://{}/app/t/{}/events", app.addresses().chancery, app.tenant(ACME));
    app.viewer().get("/me").await.expect(200);
    let listen = |cookie: String| {
        let request = reqwest::Client::new().get(&url).header("cookie", cookie);
        async { request.send().await.unwrap() }
    };
    let (first, second) =
        (session_cookie(&app, "acme-viewer").await, session_cookie(&app, "acme-viewer").await);
    let (open, refused) = open_until_refused(async || listen(first.clone()).await).await;
    assert_eq!((open.len(), refused.status().as_u16()), (2, 429));
    // The same person in another browser.
    assert_eq!(listen(second).await.status(), 200);
    drop(open);
    until_admitted(async || listen(first.clone()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_off_loses_nothing_and_repeats_nothing() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    let mut whole = ceo.events(ACME, None).await;
    let mut cut = ceo.events(ACME, None).await;
    let requests: Vec<_> = (0..50)
        .map(|number| {
            let agent = agent.clone();
            tokio::spawn(async move { approval(&agent, &format!("A{number}")).await })
        })
        .collect();
    // Again and again cut off after a few, and resumed after the last one that was seen.
    let mut seen = Vec::new();
    while seen.len() < 50 {
        let few = (50 - seen.len()).min(7);
        seen.extend(numbers(&mut cut, few).await);
        cut = ceo.events(ACME, seen.last().copied()).await;
    }
    for request in requests {
        request.await.unwrap();
    }
    let expected: Vec<i64> =
        sqlx::query_scalar("SELECT sequence FROM events WHERE type = 'approval.created' ORDER BY sequence")
            .fetch_all(app.superuser())
            .await
            .unwrap();
    assert_eq!(expected.len(), 50);
    assert_eq!(seen, expected);
    assert_eq!(numbers(&mut whole, 50).await, expected);
    assert_eq!(cut.next().await.unwrap().name, "hello");
    assert_eq!(cut.next_within(Duration::from_millis(200)).await, None);
    app.run_jobs().await;
}

#[tokio::test]
async fn a_stream_resumes_where_it_is_told_to() {
    let app = TestApp::start().await;
    let (agent, ceo) = (app.agent(), app.ceo());
    for title in ["A", "B", "C"] {
        approval(&agent, title).await;
    }
    // Before it, the tenant's sources were added.
    let first = app.count("SELECT min(sequence) FROM events WHERE type = 'approval.created'").await;
    let mut from_the_first = ceo.events(ACME, Some(first)).await;
    assert_eq!(numbers(&mut from_the_first, 2).await, [first + 1, first + 2]);
    // A number of another life of the database: from now on.
    for number in [99, -1] {
        let mut stream = ceo.events(ACME, Some(number)).await;
        assert_eq!(
            (
                stream.next().await.unwrap().data["position"].clone(),
                stream.next_within(Duration::from_millis(100)).await
            ),
            (json!(first + 2), None)
        );
    }
    app.run_jobs().await;
}

#[tokio::test]
async fn each_tenant_hears_its_own_and_each_role_what_it_may() {
    let app = TestApp::start().await;
    let auditor = app.add_person("acme-auditor", &["/organizations/acme-corp/auditors"]);
    let mut of_globex = app.outsider().events("/organizations/globex", None).await;
    let mut of_engineering = app.ceo().events("/teams/engineering", None).await;
    let mut of_auditor = auditor.events(ACME, None).await;
    assert_eq!(app.outsider().get(&format!("/events?tenantId={ACME}")).await.problem(404), "not_found");
    conversation(&app, 26).await;
    let requested = approval(&app.agent(), "A").await;
    // An auditor reads approvals, and no conversations.
    assert_eq!(of_auditor.next().await.unwrap().name, "hello");
    let heard = of_auditor.next().await.unwrap();
    assert_eq!((heard.name.as_str(), &heard.data["id"]), ("approval.created", &requested["id"]));
    for stream in [&mut of_globex, &mut of_engineering] {
        assert_eq!(stream.next().await.unwrap().name, "hello");
        assert_eq!(stream.next_within(Duration::from_millis(200)).await, None);
    }
    app.run_jobs().await;
}

#[tokio::test]
async fn a_stream_ends_when_its_listener_has_left() {
    let app = TestApp::start().await;
    let (agent, viewer) = (app.agent(), app.viewer());
    let mut leaving = agent.events(ACME, None).await;
    let mut staying = viewer.events(ACME, None).await;
    for stream in [&mut leaving, &mut staying] {
        assert_eq!(stream.next().await.unwrap().name, "hello");
    }
    app.doubles().keycloak.remove_from_group("acme-agent", "/organizations/acme-corp/agents").unwrap();
    app.state().directory.refresh_tenant(app.tenant(ACME)).await.unwrap();
    // The right to listen is looked at periodically: let that time pass.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let last = leaving.next().await.unwrap();
    assert_eq!((last.name.as_str(), &last.data["reason"]), ("end", &json!("access_ended")));
    assert_eq!(leaving.next().await, None);
    // Who still belongs hears on.
    app.state().directory.principal(app.user("acme-viewer")).await.unwrap();
    conversation_by_ceo(&app).await;
    assert_eq!(staying.next().await.unwrap().name, "consultation.created");
}

async fn conversation_by_ceo(app: &TestApp) {
    app.ceo().post("/consultations", &json!({ "tenantId": ACME, "title": "C" })).await.expect(201);
}
