//! Seeing what was received, and mending what went wrong with it: over the API and on the shell's pages.

use chancery::{
    clock::{Clock as _, SystemClock},
    testing::{ACME, Answer, Client, TestApp},
};
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::{
    harness::{conversation, id, items, message_created, pass, path, signed_in},
    sources::chancery_inbox,
};

fn owner(app: &TestApp) -> Client {
    app.add_person("acme-owner", &["/organizations/acme-corp/owners"])
}

/// An event that can never be processed: it is of another account than its source.
fn poison(app: &TestApp, message: i64) -> Value {
    let mut event = message_created(app, 26, message, "Hello");
    event["account"]["id"] = json!(2);
    event
}

async fn received(app: &TestApp, event: &Value) -> String {
    id(&app.deliver(event).await.expect(200)).to_owned()
}

async fn one(client: &Client, event: &str) -> Value {
    client.get(&format!("/inbox/events/{event}")).await.expect(200)
}

/// The ids of the events of a filter, newest first.
async fn ids(client: &Client, filter: &str) -> Vec<String> {
    let found = items(client, &format!("/inbox/events?tenantId={ACME}{filter}")).await;
    found.iter().map(|event| id(event).to_owned()).collect()
}

/// Makes the mirror refuse every conversation, so that processing fails in a way that passes.
async fn break_the_mirror(app: &TestApp) {
    app.superuser()
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON conversations FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await
        .unwrap();
}

async fn mend_the_mirror(app: &TestApp) {
    app.superuser().execute("DROP TRIGGER refuse ON conversations").await.unwrap();
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn owners_see_what_was_received_with_its_effects_and_without_its_secrets() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let mut event = message_created(&app, 26, 77, "The password: hunter2 is mine");
    event["pubsub_token"] = json!("a-live-credential");
    event["nested"] = json!({ "list": [{ "client_secret": "another" }] });
    let first = received(&app, &event).await;
    pass(&app, 1);
    received(&app, &event).await;
    app.run_jobs().await;
    let shown = one(&owner, &first).await;
    assert_eq!(
        (&shown["state"], &shown["type"], &shown["subject"], &shown["duplicates"], &shown["runs"]),
        (&json!("done"), &json!("message_created"), &json!("conversation/26"), &json!(1), &json!(1))
    );
    let body = shown["request"]["body"].as_str().unwrap();
    for secret in ["a-live-credential", "another", "hunter2"] {
        assert!(!shown.to_string().contains(secret), "{secret}");
    }
    assert!(body.contains("\"pubsub_token\": \"•••\"") && body.contains("is mine"), "{body}");
    let headers = shown["request"]["headers"].as_array().unwrap();
    let value = |name: &str| {
        headers.iter().find(|header| header["name"] == name).map(|header| header["value"].clone())
    };
    assert_eq!(value("content-type"), Some(json!("application/json")));
    assert_eq!(value("x-chatwoot-signature"), Some(json!("•••")));
    assert_eq!(shown["request"]["masked"], json!(4));
    assert_eq!(shown["request"]["bytes"], json!(event.to_string().len()));
    let conversation = items(&owner, "/conversations").await;
    assert_eq!(shown["timeline"][0]["effects"]["conversation"], conversation[0]["id"]);
    assert_eq!(shown["attempts"], json!([]));
}

#[tokio::test]
async fn events_are_found_by_state_source_type_subject_and_time_and_paged() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let begin = app.now();
    let mut all = Vec::new();
    for message in 1..=3 {
        pass(&app, 1);
        all.insert(0, received(&app, &message_created(&app, 20 + message, message, "Hello")).await);
    }
    app.run_jobs().await;
    pass(&app, 1);
    let dead = received(&app, &poison(&app, 9)).await;
    app.run_jobs().await;
    pass(&app, 1);
    let pending = received(&app, &message_created(&app, 30, 10, "Hello")).await;
    all.splice(0..0, [pending.clone(), dead.clone()]);
    assert_eq!(ids(&owner, "").await, all);
    assert_eq!(ids(&owner, "&state=dead").await, *std::slice::from_ref(&dead));
    assert_eq!(ids(&owner, "&state=pending").await, *std::slice::from_ref(&pending));
    assert_eq!(ids(&owner, "&state=done").await, all[2..]);
    for state in ["retrying", "parked", "replaying", "discarded"] {
        assert!(ids(&owner, &format!("&state={state}")).await.is_empty(), "{state}");
    }
    assert_eq!(ids(&owner, "&subject=conversation/22").await, [all[3].clone()]);
    assert_eq!(ids(&owner, "&type=message_created").await, all);
    assert!(ids(&owner, "&type=message").await.is_empty());
    assert_eq!(ids(&owner, &format!("&sourceId={}", app.chatwoot_source())).await, all);
    assert!(ids(&owner, &format!("&sourceId={}", app.matrix_source())).await.is_empty());
    assert!(ids(&owner, "&service=matrix").await.is_empty());
    let time = |seconds| {
        let at = begin + chrono::TimeDelta::seconds(seconds);
        at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
    };
    assert_eq!(ids(&owner, &format!("&from={}&to={}", time(2), time(4))).await, all[2..4]);
    // Page by page, all of them, each once.
    for state in ["", "&state=done"] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let answer = owner.get(&format!("/inbox/events?limit=2{state}{cursor}")).await.expect(200);
            found.extend(answer["items"].as_array().unwrap().iter().map(|event| id(event).to_owned()));
            let Some(next) = answer["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, ids(&owner, state).await);
    }
    app.run_jobs().await;
    app.leave_jobs();
}

#[tokio::test]
async fn what_is_done_dead_or_discarded_can_be_replayed_and_takes_effect_once_more() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    let done = received(&app, &message_created(&app, 26, 1, "Hello")).await;
    app.run_jobs().await;
    let replayed = owner.post(&format!("/inbox/events/{done}/replay"), &json!({})).await.expect(200);
    assert_eq!(replayed["state"], "replaying");
    assert_eq!(ids(&owner, "&state=replaying").await, *std::slice::from_ref(&done));
    // Once is enough.
    assert_eq!(
        owner.post(&format!("/inbox/events/{done}/replay"), &json!({})).await.problem(409),
        "inbox.in_progress"
    );
    app.run_jobs().await;
    let shown = one(&owner, &done).await;
    assert_eq!((&shown["state"], &shown["runs"]), (&json!("done"), &json!(2)));
    assert_eq!(
        (&shown["attempts"][0]["outcome"], &shown["attempts"][0]["replay"]),
        (&json!("done"), &json!(true))
    );
    assert_eq!(items(&owner, "/conversations").await.len(), 1);

    // The cause is gone: the source is of the other account now.
    let dead = received(&app, &poison(&app, 2)).await;
    app.run_jobs().await;
    assert_eq!(one(&owner, &dead).await["cause"], "poison");
    app.superuser()
        .execute("UPDATE webhook_sources SET account = '2' WHERE service = 'chatwoot'")
        .await
        .unwrap();
    owner.post(&format!("/inbox/events/{dead}/replay"), &json!({})).await.expect(200);
    app.run_jobs().await;
    let shown = one(&owner, &dead).await;
    assert_eq!((&shown["state"], &shown["cause"], &shown["runs"]), (&json!("done"), &Value::Null, &json!(1)));
    assert_eq!(app.count("SELECT count(*) FROM inbox_failures").await, 0);
    // Each replay is in the trail, with who asked.
    let entries = items(&app.ceo(), &format!("/audit/resource/inbox_event/{dead}")).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (&entries[0]["action"], &entries[0]["userId"], &entries[0]["oldValues"]["status"]),
        (&json!("inbox_event.replayed"), &json!(app.user("acme-owner")), &json!("dead"))
    );
}

#[tokio::test]
async fn a_dry_run_counts_exactly_what_is_replayed() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    for message in 1..=3 {
        received(&app, &poison(&app, message)).await;
    }
    received(&app, &message_created(&app, 40, 4, "Hello")).await;
    app.run_jobs().await;
    app.leave_jobs();
    pass(&app, 1);
    let mut asked =
        json!({ "tenantId": ACME, "state": "dead", "subject": "conversation/26", "dryRun": true });
    let counted = owner.post("/inbox/replay", &asked).await.expect(200);
    assert_eq!((&counted["count"], &counted["dryRun"]), (&json!(3), &json!(true)));
    assert_eq!(app.count("SELECT count(*) FROM inbox_pending").await, 0);
    assert_eq!(app.count("SELECT count(*) FROM audit_logs WHERE action = 'inbox.replayed'").await, 0);
    // What comes afterwards isn't meant.
    pass(&app, 1);
    received(&app, &poison(&app, 5)).await;
    app.run_jobs().await;
    pass(&app, 1);
    asked["dryRun"] = json!(false);
    asked["expected"] = counted["count"].clone();
    assert_eq!(owner.post("/inbox/replay", &asked).await.problem(409), "inbox.other_count");
    assert_eq!(app.count("SELECT count(*) FROM inbox_pending").await, 0);
    asked["to"] = counted["to"].clone();
    let replayed = owner.post("/inbox/replay", &asked).await.expect(200);
    assert_eq!((&replayed["count"], &replayed["dryRun"]), (&json!(3), &json!(false)));
    assert_eq!(app.count("SELECT count(*) FROM inbox_pending WHERE replay").await, 3);
    assert_eq!(app.count("SELECT count(*) FROM inbox_failures WHERE state = 'replaying'").await, 3);
    let entries = items(&app.ceo(), "/audit?action=inbox.replayed").await;
    assert_eq!(
        (entries.len(), &entries[0]["newValues"]["count"], &entries[0]["newValues"]["filter"]["status"]),
        (1, &json!(3), &json!("dead"))
    );
    // They are poison still.
    app.run_jobs().await;
    assert_eq!(ids(&owner, "&state=dead").await.len(), 4);
    for state in ["pending", "parked", "retrying", "replaying"] {
        let answer = owner.post("/inbox/replay", &json!({ "tenantId": ACME, "state": state })).await;
        assert_eq!(answer.problem(422), "invalid", "{state}");
        assert_eq!(answer.pointers(), ["/state"]);
    }
}

#[tokio::test]
async fn discarding_what_failed_lets_its_subject_go_on() {
    let app = TestApp::start().await;
    let owner = owner(&app);
    break_the_mirror(&app).await;
    let failed = received(&app, &message_created(&app, 26, 1, "First")).await;
    app.run_jobs().await;
    let later = received(&app, &message_created(&app, 26, 2, "Second")).await;
    let last = received(&app, &message_created(&app, 26, 3, "Third")).await;
    app.run_jobs().await;
    assert_eq!(one(&owner, &failed).await["state"], "retrying");
    assert_eq!(ids(&owner, "&state=parked").await, [last.clone(), later.clone()]);
    for event in [&failed, &later] {
        assert_eq!(
            owner.post(&format!("/inbox/events/{event}/replay"), &json!({})).await.problem(409),
            "inbox.in_progress"
        );
    }
    for reason in ["", "  ", &"x".repeat(501)] {
        let answer =
            owner.post(&format!("/inbox/events/{failed}/discard"), &json!({ "reason": reason })).await;
        assert_eq!(answer.pointers(), ["/reason"]);
    }
    mend_the_mirror(&app).await;
    // One that waits behind is discarded at once; the one that may be tried right now, by the lane's worker.
    let because = json!({ "reason": "A test of the sender's" });
    let discarded = owner.post(&format!("/inbox/events/{later}/discard"), &because).await.expect(200);
    assert_eq!(discarded["state"], "discarded");
    let discarded = owner.post(&format!("/inbox/events/{failed}/discard"), &because).await.expect(200);
    assert_eq!((&discarded["state"], &discarded["discardReason"]), (&json!("retrying"), &because["reason"]));
    app.run_jobs().await;
    let shown = one(&owner, &failed).await;
    assert_eq!(
        (&shown["state"], &shown["discardedBy"], &shown["runs"]),
        (&json!("discarded"), &json!(app.user("acme-owner")), &json!(0))
    );
    assert_eq!(one(&owner, &last).await["state"], "done");
    let known = items(&owner, "/conversations").await;
    assert_eq!((known.len(), &known[0]["lastMessage"]), (1, &json!("Third")));
    let entries = items(&app.ceo(), "/audit?action=inbox_event.discarded").await;
    assert_eq!((entries.len(), &entries[0]["newValues"]["reason"]), (2, &because["reason"]));
    // What is done can't be discarded; what is discarded can be had back.
    assert_eq!(
        owner.post(&format!("/inbox/events/{last}/discard"), &because).await.problem(409),
        "inbox.not_failed"
    );
    owner.post(&format!("/inbox/events/{failed}/replay"), &json!({})).await.expect(200);
    app.run_jobs().await;
    let shown = one(&owner, &failed).await;
    assert_eq!((&shown["state"], &shown["discardReason"]), (&json!("done"), &Value::Null));
    app.leave_jobs();
}

#[tokio::test]
async fn each_sees_and_mends_what_is_theirs_and_who_runs_the_suite_what_is_the_suites() {
    let app = TestApp::start().await;
    let (owner, admin, outsider) = (owner(&app), app.suite_admin(), app.outsider());
    let event = received(&app, &poison(&app, 1)).await;
    app.run_jobs().await;
    app.leave_jobs();
    let source = json!({ "tenantId": "/suite", "service": "tool", "scheme": { "type": "bearer" } });
    let source = admin.post("/sources", &source).await.expect(201);
    let nobody = app.nobody();
    let request = nobody
        .request(reqwest::Method::POST, &path("/webhooks/tool", &source))
        .bearer_auth(source["secret"].as_str().unwrap())
        .header("content-type", "application/json")
        .body("{\"hello\": 1}");
    let of_suite = id(&nobody.send(request).await.expect(200)).to_owned();
    app.run_jobs().await;
    assert_eq!(ids(&owner, "").await, *std::slice::from_ref(&event));
    let of_admin = items(&admin, "/inbox/events").await;
    assert_eq!((of_admin.len(), id(&of_admin[0])), (1, of_suite.as_str()));
    assert_eq!(one(&admin, &of_suite).await["state"], "done");
    admin.post(&format!("/inbox/events/{of_suite}/replay"), &json!({})).await.expect(200);
    app.run_jobs().await;
    assert_eq!(one(&admin, &of_suite).await["runs"], 2);
    pass(&app, 1);
    let all = json!({ "tenantId": "/suite", "state": "done", "dryRun": true });
    assert_eq!(admin.post("/inbox/replay", &all).await.expect(200)["count"], 1);
    for (client, foreign) in
        [(&admin, &event), (&outsider, &event), (&owner, &of_suite), (&app.ceo(), &event)]
    {
        let path = format!("/inbox/events/{foreign}");
        assert_eq!(client.get(&path).await.problem(404), "not_found");
        assert_eq!(client.post(&format!("{path}/replay"), &json!({})).await.problem(404), "not_found");
        let because = json!({ "reason": "R" });
        assert_eq!(client.post(&format!("{path}/discard"), &because).await.problem(404), "not_found");
    }
    assert_eq!(owner.post("/inbox/replay", &all).await.problem(404), "not_found");

    // The same on pages.
    let suite = "/app/t/00000000-0000-0000-0000-000000000000";
    let admin = signed_in(&app, "suite-admin").await;
    let page = text(&admin.get(&format!("{suite}/inbox")).await);
    assert!(page.contains(&of_suite) && !page.contains(&event), "{page}");
    assert_eq!(admin.get(suite).await.header("location"), format!("{suite}/inbox"));
    assert!(text(&admin.get(&format!("{suite}/inbox/events/{of_suite}")).await).contains("hello"));
    assert_eq!(admin.get(&format!("{suite}/inbox/events/{event}")).await.status, 404);
    assert_eq!(admin.get(&format!("{suite}/approvals")).await.status, 403);
    let trail = text(&admin.get(&format!("{suite}/audit")).await);
    assert!(trail.contains("replayed the webhook") && trail.contains(&of_suite), "{trail}");
    assert!(!trail.contains("discarded"), "{trail}");
    // The suite's pages are as live as a tenant's.
    assert!(page.contains(&format!("data-events=\"{suite}/events\"")), "{page}");
    let ceo = signed_in(&app, "acme-ceo").await;
    assert_eq!(ceo.get(&format!("{suite}/inbox")).await.status, 404);
    assert_eq!(ceo.get(&format!("/app/t/{}/inbox", app.tenant(ACME))).await.status, 403);
}

#[tokio::test]
async fn an_owner_is_told_of_what_failed_and_mends_it_on_pages() {
    let app = TestApp::start().await;
    owner(&app);
    let base = format!("/app/t/{}", app.tenant(ACME));
    let owner = signed_in(&app, "acme-owner").await;
    assert!(text(&owner.get(&format!("{base}/inbox")).await).contains("Nothing received yet"));
    conversation(&app, 26).await;
    let dead = received(&app, &poison(&app, 500)).await;
    let other = received(&app, &poison(&app, 501)).await;
    app.run_jobs().await;
    app.leave_jobs();
    let from_news = owner.get(&format!("{base}/webhooks/{dead}")).await;
    assert_eq!(from_news.header("location"), format!("{base}/inbox/events/{dead}"));
    // In the sidebar of every page.
    assert!(text(&owner.get(&base).await).contains("2 failed"));
    let list = text(&owner.get(&format!("{base}/inbox?state=dead")).await);
    assert!(list.contains("2 webhooks could not be processed") && list.contains(&dead), "{list}");
    assert!(list.contains("It can’t be understood") || list.contains("another account"), "{list}");
    let shown = owner.get(&format!("{base}/inbox/events/{dead}")).await;
    assert!(text(&shown).contains("the event is of another account than its source"), "{}", text(&shown));

    let refused = owner.post(&format!("{base}/inbox/events/{dead}/discard"), &[("reason", "  ")]).await;
    assert_eq!(refused.status, 422);
    assert!(text(&refused).contains("Please fill this in."));
    let sent = owner.post(&format!("{base}/inbox/events/{dead}/discard"), &[("reason", "<b>Old</b>")]).await;
    assert_eq!(
        (sent.status, sent.header("location")),
        (303, format!("{base}/inbox/events/{dead}?flash=inbox-discarded").as_str())
    );
    let page = text(&owner.get(sent.header("location")).await);
    assert!(page.contains("&#60;b&#62;Old&#60;/b&#62;") && !page.contains("<b>Old"), "{page}");

    pass(&app, 1);
    // All that failed, together: the page says how many, and another number is asked about again.
    let asked = text(&owner.get(&format!("{base}/inbox/replay?state=dead")).await);
    assert!(asked.contains("One webhook matches"), "{asked}");
    let field = |name: &str| {
        let start = format!("name=\"{name}\" value=\"");
        asked.split(&start).nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
    };
    let (until, count) = (field("until"), field("count"));
    let form = |count| vec![("state", "dead"), ("until", until.as_str()), ("count", count)];
    let changed = owner.post(&format!("{base}/inbox/replay"), &form("7")).await;
    assert_eq!(changed.status, 409);
    assert!(text(&changed).contains("It is another number than a moment ago"));
    let sent = owner.post(&format!("{base}/inbox/replay"), &form(&count)).await;
    assert_eq!(
        (sent.status, sent.header("location")),
        (303, format!("{base}/inbox?flash=inbox-replaying").as_str())
    );
    let page = text(&owner.get(&format!("{base}/inbox/events/{other}")).await);
    assert!(page.contains("Replaying"), "{page}");
    app.run_jobs().await;
    let trail = text(&owner.get(&format!("{base}/audit")).await);
    assert!(
        trail.contains("discarded the webhook") && trail.contains("replayed webhooks together"),
        "{trail}"
    );
    // A state in which nothing stays can't be asked for.
    assert_eq!(owner.get(&format!("{base}/inbox/replay?state=pending")).await.status, 303);
    assert_eq!(owner.get(&format!("{base}/inbox?from=2026-02-02&to=2026-02-01")).await.status, 422);
}

#[tokio::test]
async fn an_owner_manages_sources_on_pages_and_a_secret_is_shown_once() {
    let app = TestApp::start().await;
    owner(&app);
    let base = format!("/app/t/{}/inbox/sources", app.tenant(ACME));
    let owner = signed_in(&app, "acme-owner").await;
    received(&app, &message_created(&app, 26, 1, "Hello")).await;
    app.run_jobs().await;
    let list = text(&owner.get(&base).await);
    assert!(list.contains("1 in an hour") && list.contains("Chatwoot"), "{list}");
    assert_eq!(owner.get(&format!("{base}/new")).await.status, 200);
    let wrong = [("scheme", "chatwoot"), ("limit_requests", "x")];
    assert_eq!(owner.post(&base, &wrong).await.status, 422);
    let wrong = owner.post(&base, &[("scheme", "chatwoot"), ("secret", "never-shown-again")]).await;
    assert_eq!(wrong.status, 422);
    assert!(text(&wrong).contains("account has to be named") && !text(&wrong).contains("never-shown-again"));
    let made = owner.post(&base, &[("scheme", "github"), ("name", "<b>Hub</b>")]).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let page = text(&made);
    assert!(page.contains("Copy this now") && page.contains("&#60;b&#62;Hub"), "{page}");
    let value = |page: &str, start: &str| {
        page.split(start).nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
    };
    let secret = value(&page, "id=\"once-1\" value=\"");
    let url = value(&page, "id=\"source-url\" value=\"");
    let id = url.rsplit('/').next().unwrap().to_owned();
    let source = format!("{base}/{id}");
    let again = text(&owner.get(&source).await);
    assert!(
        !again.contains(&secret) && again.contains(&url) && again.contains("name=\"version\" value=\"1\"")
    );
    // It is the secret that counts.
    let body = "{\"hello\":1}";
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = format!("sha256={}", hex::encode(aws_lc_rs::hmac::sign(&key, body.as_bytes())));
    let nobody = app.nobody();
    let post = || {
        nobody
            .request(reqwest::Method::POST, &format!("/webhooks/github/{id}"))
            .header("content-type", "application/json")
            .header("x-github-event", "push")
            .header("x-github-delivery", "1")
            .header("x-hub-signature-256", &signature)
            .body(body)
    };
    nobody.send(post()).await.expect(200);
    let sent = owner.post(&format!("{source}/pause"), &[("version", "1")]).await;
    assert_eq!(sent.header("location"), format!("{source}?flash=source-paused"));
    assert_eq!(nobody.send(post()).await.problem(401), "webhooks.refused");
    // A page that was opened before changes nothing.
    assert_eq!(owner.post(&format!("{source}/resume"), &[("version", "1")]).await.status, 412);
    assert_eq!(owner.post(&format!("{source}/resume"), &[("version", "2")]).await.status, 303);
    let saved = [("version", "3"), ("name", "Hub"), ("limit_requests", "600"), ("limit_seconds", "60")];
    assert_eq!(owner.post(&source, &saved).await.status, 303);
    assert!(text(&owner.get(&source).await).contains("600 in 60 s"));
    let rotated = owner.post(&format!("{source}/rotate"), &[("version", "4"), ("grace", "0")]).await;
    assert_eq!((rotated.status, rotated.header("cache-control")), (200, "no-store"));
    let other = value(&text(&rotated), "id=\"once-1\" value=\"");
    assert_ne!(other, secret);
    assert_eq!(nobody.send(post()).await.problem(401), "webhooks.refused");
    let secret_id = value(&text(&rotated), "name=\"secret\" value=\"");
    let revoked = owner.post(&format!("{source}/revoke"), &[("version", "5"), ("secret", &secret_id)]).await;
    assert_eq!(revoked.header("location"), format!("{source}?flash=secret-revoked"));
    assert_eq!(owner.post(&format!("{source}/remove"), &[("version", "6")]).await.status, 303);
    assert_eq!(owner.get(&source).await.status, 404);
    let agent = signed_in(&app, "acme-agent").await;
    assert_eq!(agent.get(&base).await.status, 403);
    assert_eq!(agent.post(&base, &[("scheme", "github")]).await.status, 403);
    app.run_jobs().await;
}

#[tokio::test]
async fn who_operates_the_server_sees_and_mends_at_the_command_line() {
    let app = TestApp::start().await;
    // The program goes by the machine's clock.
    app.clock().set(SystemClock.now());
    let owner = owner(&app);
    let mut event = poison(&app, 1);
    event["access_token"] = json!("a-live-credential");
    let first = received(&app, &event).await;
    let second = received(&app, &poison(&app, 2)).await;
    app.run_jobs().await;
    app.leave_jobs();
    let run = async |arguments: &[&str]| chancery_inbox(&app, arguments, "").await;
    let read = |text: Result<String, String>| serde_json::from_str::<Value>(&text.unwrap()).unwrap();
    let listed = read(run(&["list", "--tenant", ACME, "--state", "dead", "--json"]).await);
    let found: Vec<&str> = listed["items"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(found, [second.as_str(), first.as_str()]);
    let text = run(&["list", "--tenant", ACME, "--limit", "1"]).await.unwrap();
    assert!(text.contains(&second) && !text.contains(&first) && text.contains("There are more"), "{text}");
    let shown = run(&["show", &first]).await.unwrap();
    assert!(shown.contains("of another account") && shown.contains("\"access_token\": \"•••\""), "{shown}");
    assert!(!shown.contains("a-live-credential") && !shown.contains("again "), "{shown}");
    assert_eq!(app.deliver(&event).await.expect(200)["duplicate"], true);
    for _ in 0..200 {
        if app.count("SELECT count(*) FROM inbox_keys WHERE duplicates = 1").await == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let shown = run(&["show", &first]).await.unwrap();
    assert!(shown.contains("again     1 times, last 2"), "{shown}");
    assert_eq!(read(run(&["show", &first, "--json"]).await)["state"], "dead");
    let discarded = read(run(&["discard", &second, "--reason", "a test", "--json"]).await);
    assert_eq!((&discarded["state"], &discarded["discardReason"]), (&json!("discarded"), &json!("a test")));
    let all = ["replay", "--tenant", ACME, "--state", "dead", "--json"];
    let counted = read(run(&[&all[..], &["--dry-run"]].concat()).await);
    assert_eq!((&counted["count"], &counted["dryRun"]), (&json!(1), &json!(true)));
    assert_eq!(read(run(&all).await)["count"], 1);
    assert_eq!(run(&["replay", &second]).await.unwrap(), format!("{second} is replaying.\n"));
    assert!(run(&["replay", &second]).await.unwrap_err().contains("can't be replayed"));
    assert!(
        run(&["show", "0b000000-0000-4000-8000-0000000000ff"]).await.unwrap_err().contains("there is no")
    );
    // The trail says what was done, by nobody whom Keycloak knows.
    app.run_jobs().await;
    assert_eq!(ids(&owner, "&state=dead").await, [second, first]);
    let trail = items(&app.ceo(), "/audit").await;
    for action in ["inbox_event.discarded", "inbox_event.replayed", "inbox.replayed"] {
        let entry = trail.iter().find(|entry| entry["action"] == action).unwrap();
        assert_eq!(entry["userId"], Value::Null, "{action}");
    }
}
