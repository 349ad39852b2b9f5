//! Processing: exactly once in effect and in order within a subject, whatever fails or dies on the way.

use std::{future::Future, task::Poll, time::Duration};

use chancery::testing::{ACME, TestApp};
use chrono::TimeDelta;
use futures::future::join_all;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use crate::harness::{Wire, items, message_created, pass, private_note};

const PENDING: &str = "SELECT count(*) FROM inbox_pending";
const TIMELINE: &str = "SELECT count(*) FROM timeline";

/// Fails where an event has had more or less than one effect, or a subject's were not in the order of arrival. Says how many events
/// there are.
async fn assert_once_and_in_order(app: &TestApp) -> i64 {
    let wrong: Vec<String> = sqlx::query_scalar(
        "SELECT 'event ' || event.id || ' ran ' || coalesce(timeline.runs, 0) || ' times and was told ' ||
                (SELECT count(*) FROM events WHERE type = 'webhook.received' AND resource_id = event.id) || ' times'
         FROM inbox_events AS event LEFT JOIN timeline ON timeline.tenant_id = event.tenant_id AND timeline.event_id = event.id
         WHERE timeline.runs IS DISTINCT FROM 1 OR (SELECT count(*) FROM events WHERE type = 'webhook.received' AND resource_id = event.id) <> 1
         UNION ALL
         SELECT 'of ' || subject || ', ' || id || ' came before an earlier one' FROM (
             SELECT events.data->>'subject' AS subject, resource_id AS id,
                    lag(resource_id) OVER (PARTITION BY events.tenant_id, events.data->>'subject' ORDER BY sequence) AS before
             FROM events WHERE type = 'webhook.received'
         ) AS told WHERE before > id",
    )
    .fetch_all(app.superuser())
    .await
    .unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    app.count("SELECT count(*) FROM inbox_events").await
}

async fn wait_until_empty(app: &TestApp) {
    for _ in 0..2000 {
        if app.count(PENDING).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the inbox doesn't become empty");
}

/// Makes this event fail: its handler's transaction can't be committed, and could be later.
async fn forbid(app: &TestApp, event: &serde_json::Value) {
    let id = event["id"].as_str().unwrap();
    let sql = format!("ALTER TABLE timeline ADD CONSTRAINT forbidden CHECK (event_id <> '{id}') NOT VALID");
    app.superuser().execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
}

async fn allow(app: &TestApp) {
    app.superuser().execute("ALTER TABLE timeline DROP CONSTRAINT forbidden").await.unwrap();
}

/// The states of the failures, the oldest event's first.
async fn failures(app: &TestApp) -> Vec<(String, i32, Option<String>)> {
    sqlx::query_as("SELECT state, attempts, cause FROM inbox_failures ORDER BY seq")
        .fetch_all(app.superuser())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_workers_and_replicas_keep_the_order_within_each_subject_and_do_each_event_once() {
    let app = TestApp::start().await;
    let replica = app.replica().await;
    for state in [app.state(), &replica.state] {
        state.lifecycle.spawn(state.processor().run(5));
    }
    let http = reqwest::Client::new();
    let send = async |origin: String, event: serde_json::Value| {
        let body = event.to_string();
        let signature = connector_chatwoot::webhook::sign(&app.chatwoot_secret(), app.now(), body.as_bytes());
        let answer = http
            .post(format!("{origin}/api/v1/webhooks/chatwoot/{}", app.chatwoot_source()))
            .header("content-type", "application/json")
            .header("x-chatwoot-timestamp", app.now().timestamp().to_string())
            .header("x-chatwoot-signature", signature)
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    };
    let origins = [format!("http://{}", app.addresses().chancery), replica.origin.clone()];
    // Each subject's events come one after the other, by turns to either replica; subjects come at the same time.
    let subjects = (0..25_i64).map(|subject| {
        let (app, send, origins) = (&app, &send, &origins);
        async move {
            for number in 0..12_usize {
                let message = subject * 100 + i64::try_from(number).unwrap();
                let event = message_created(app, subject + 1, message + 1, "Hello");
                send(origins[number % 2].clone(), event).await;
            }
        }
    });
    join_all(subjects).await;
    wait_until_empty(&app).await;
    let held = app.count("SELECT count(*) FROM inbox_lanes WHERE fence > 0").await;
    assert!(held > 8, "the subjects spread over {held} lanes");
    assert_eq!(assert_once_and_in_order(&app).await, 300);
    assert_eq!(app.count("SELECT count(*) FROM conversations").await, 25);
}

#[tokio::test]
async fn a_subject_that_fails_waits_alone_and_goes_on_in_its_order() {
    let app = TestApp::start().await;
    app.deliver(&message_created(&app, 26, 1, "Good")).await.expect(200);
    forbid(&app, &app.deliver(&message_created(&app, 26, 2, "Bad")).await.expect(200)).await;
    for (message, words) in [(3, "Better"), (4, "Best")] {
        app.deliver(&message_created(&app, 26, message, words)).await.expect(200);
    }
    app.deliver(&message_created(&app, 27, 5, "Hello")).await.expect(200);
    app.run_jobs().await;
    // The other subject went on, and what came before the one that fails.
    assert_eq!((app.count(TIMELINE).await, app.count(PENDING).await), (2, 0));
    let waiting = ("parked".to_owned(), 0, None);
    assert_eq!(
        failures(&app).await,
        [("ready".to_owned(), 1, Some("database".to_owned())), waiting.clone(), waiting.clone()]
    );
    // What comes now waits, too; in another subject it doesn't.
    app.deliver(&message_created(&app, 26, 6, "Last")).await.expect(200);
    app.deliver(&message_created(&app, 27, 7, "Hello again")).await.expect(200);
    app.run_jobs().await;
    assert_eq!((app.count(TIMELINE).await, failures(&app).await.len()), (3, 4));
    pass(&app, 2);
    app.run_jobs().await;
    assert_eq!(failures(&app).await[0], ("ready".to_owned(), 2, Some("database".to_owned())));
    assert_eq!(app.run_jobs().await, 0, "it isn't tried again before its time");
    allow(&app).await;
    pass(&app, 7);
    app.run_jobs().await;
    assert!(failures(&app).await.is_empty());
    assert_eq!(assert_once_and_in_order(&app).await, 7);
    let known = items(&app.agent(), &format!("/conversations?tenantId={ACME}")).await;
    let said: Vec<_> = known.iter().map(|one| one["lastMessage"].as_str().unwrap()).collect();
    assert!(said.contains(&"Last") && said.contains(&"Hello again"), "{said:?}");
    let attempts: Vec<(i32, String, bool)> =
        sqlx::query_as("SELECT attempt, outcome, error IS NOT NULL FROM inbox_attempts ORDER BY attempt")
            .fetch_all(app.superuser())
            .await
            .unwrap();
    let failed = |attempt| (attempt, "failed".to_owned(), true);
    assert_eq!(attempts, [failed(1), failed(2), (3, "done".to_owned(), false)]);
}

#[tokio::test]
async fn after_its_last_retry_an_event_is_dead_is_told_of_and_holds_up_nobody() {
    let app = TestApp::start().await;
    forbid(&app, &app.deliver(&message_created(&app, 26, 1, "Bad")).await.expect(200)).await;
    app.deliver(&message_created(&app, 26, 2, "Good")).await.expect(200);
    let mut tries = 0;
    for wait in [0, 2, 7, 38, 151, 751] {
        pass(&app, wait);
        app.run_jobs().await;
        tries += 1;
        let (state, attempts, _) = failures(&app).await.remove(0);
        assert_eq!((state == "dead", attempts), (tries == 6, tries));
    }
    assert_eq!((app.count(TIMELINE).await, failures(&app).await.len()), (1, 1));
    let told =
        "SELECT count(*) FROM events WHERE type = 'webhook.dead' AND permission = 'webhook.event.read'";
    assert_eq!(app.count(told).await, 1);
    let last: String =
        sqlx::query_scalar("SELECT last_error FROM inbox_failures").fetch_one(app.superuser()).await.unwrap();
    assert!(last.contains("forbidden"), "{last}");
    app.leave_jobs();
}

#[tokio::test]
async fn in_a_batch_only_the_one_that_fails_is_singled_out() {
    let app = TestApp::start().await;
    for number in 1..=30 {
        let received = app.deliver(&message_created(&app, number, number, "Hello")).await.expect(200);
        if number == 13 {
            forbid(&app, &received).await;
        }
    }
    app.run_jobs().await;
    assert_eq!((app.count(TIMELINE).await, failures(&app).await.len()), (29, 1));
    allow(&app).await;
    pass(&app, 2);
    app.run_jobs().await;
    assert_eq!(assert_once_and_in_order(&app).await, 30);
}

#[tokio::test]
async fn a_subject_that_fails_also_waits_in_the_next_portion_of_a_large_batch() {
    let app = TestApp::start().await;
    let letter = "a".repeat(900_000);
    forbid(&app, &app.deliver(&message_created(&app, 26, 1, "Bad")).await.expect(200)).await;
    // Together more than is read at a time: between the two there are others, and behind them one more.
    for message in 2..=6 {
        app.deliver(&message_created(&app, 26 + message, message, &letter)).await.expect(200);
    }
    app.deliver(&message_created(&app, 26, 7, "Better")).await.expect(200);
    for message in 8..=12 {
        app.deliver(&message_created(&app, 26 + message, message, &letter)).await.expect(200);
    }
    app.deliver(&message_created(&app, 26, 13, "Best")).await.expect(200);
    app.run_jobs().await;
    let states: Vec<String> = failures(&app).await.into_iter().map(|(state, ..)| state).collect();
    assert_eq!(states, ["ready", "parked", "parked"]);
    assert_eq!((app.count(TIMELINE).await, app.count(PENDING).await), (10, 0));
    allow(&app).await;
    pass(&app, 2);
    app.run_jobs().await;
    assert!(failures(&app).await.is_empty());
    assert_eq!(assert_once_and_in_order(&app).await, 13);
}

#[tokio::test]
async fn a_worker_that_has_lost_its_lane_commits_nothing() {
    let app = TestApp::start().await;
    app.deliver(&message_created(&app, 26, 1, "Hello")).await.expect(200);
    let mut superuser = app.superuser().acquire().await.unwrap();
    let mut barrier = superuser.begin().await.unwrap();
    // It has claimed its lane and waits before it reads the event.
    barrier.execute("LOCK TABLE inbox_events IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let processor = app.state().processor();
    let slow = tokio::spawn(async move { processor.run_due().await });
    for _ in 0..1000 {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks WHERE relation = 'inbox_events'::regclass AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .fetch_one(&mut *barrier)
        .await
        .unwrap();
        if waiting > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Somebody else takes all lanes over, and is slow as well.
    let until = app.now() + TimeDelta::seconds(60);
    sqlx::query("UPDATE inbox_lanes SET fence = fence + 1, lease_until = $1")
        .bind(until)
        .execute(app.superuser())
        .await
        .unwrap();
    barrier.rollback().await.unwrap();
    assert_eq!(slow.await.unwrap().unwrap(), 0);
    assert_eq!((app.count(TIMELINE).await, app.count(PENDING).await), (0, 1));
    assert_eq!(
        app.count("SELECT count(*) FROM inbox_lanes WHERE lease_until IS NOT NULL").await,
        16,
        "nor does it end the other's lease"
    );
    // The other one has died: its lease runs out.
    assert_eq!(app.run_jobs().await, 0);
    pass(&app, 61);
    app.run_jobs().await;
    assert_eq!(assert_once_and_in_order(&app).await, 1);
}

/// Polls `work` until it has had to wait so many times, and then drops it, as a killed process would; what it gave if it was done
/// before.
async fn killed_after<T>(waits: usize, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut waited = 0;
    futures::future::poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        waited += 1;
        if waited >= waits { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

#[tokio::test]
async fn a_worker_that_is_killed_at_any_point_loses_nothing_and_repeats_nothing() {
    // Each statement makes it wait.
    let wire = Wire::lay(Duration::from_millis(2)).await;
    let app = TestApp::start_with(|config| wire.use_for_worker(config)).await;
    let mut message = 0;
    let mut killed = 0;
    for waits in 1.. {
        // Two subjects, a new one each time, and an event that escalates.
        for conversation in [26, 27, 1000 + message] {
            message += 1;
            app.deliver(&message_created(&app, conversation, message, "Hello")).await.expect(200);
        }
        message += 1;
        app.deliver(&private_note(&app, 26, message, "/escalate", "nobody@acme.example")).await.expect(200);
        let done = killed_after(waits, app.state().processor().run_due()).await;
        if matches!(done, Some(Ok(ran)) if ran > 0) && app.count(PENDING).await == 0 {
            break;
        }
        killed += 1;
        // What it held comes free when its lease runs out.
        pass(&app, 31);
        for _ in 0..200 {
            // The server may still be at what the killed one has begun.
            if app.state().processor().run_due().await.is_ok() && app.count(PENDING).await == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(app.count(PENDING).await, 0, "after {waits} waits");
        let jobs = app.count("SELECT count(*) FROM jobs WHERE kind = 'conversations.escalate_note'").await;
        assert_eq!(jobs, killed, "after {waits} waits");
        assert_once_and_in_order(&app).await;
    }
    assert!(killed > 10, "it waits for the database more often than {killed} times");
    app.leave_jobs();
}

#[tokio::test]
async fn a_transaction_that_nobody_waits_for_any_more_leaves_no_connection_in_it() {
    let wire = Wire::lay(Duration::from_millis(2)).await;
    let app = TestApp::start_with(|config| wire.use_for_worker(config)).await;
    let tenant = app.tenant(ACME);
    for waits in 1..10 {
        drop(killed_after(waits, app.state().database.worker_tx(tenant)).await);
        drop(killed_after(waits, app.state().database.system_tx()).await);
    }
    let mut open = 0;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        open = app
            .count(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'",
            )
            .await;
        if open == 0 {
            break;
        }
    }
    assert_eq!(open, 0);
}

#[tokio::test]
async fn a_transaction_of_the_homeserver_is_told_event_by_event() {
    let app = TestApp::start().await;
    let hs_token = app.state().config.matrix.hs_token.expose_secret().to_owned();
    let event = |id: &str, room: &str| {
        json!({ "type": "m.room.message", "event_id": id, "room_id": room, "sender": "@ada:example.org",
                "origin_server_ts": 1_772_000_000_000_i64, "content": { "msgtype": "m.text", "body": "Hello" } })
    };
    let body = json!({ "events": [event("$a", "!one:example.org"), event("$b", "!two:example.org"), { "type": "broken" }] });
    let path = format!("/webhooks/matrix/{}/_matrix/app/v1/transactions/7", app.matrix_source());
    let nobody = app.nobody();
    nobody.send(nobody.request(Method::PUT, &path).json(&body).bearer_auth(&hs_token)).await.expect(200);
    app.run_jobs().await;
    let told: Vec<(i32, String, String)> =
        sqlx::query_as("SELECT part, type, subject FROM timeline WHERE part > 0 ORDER BY part")
            .fetch_all(app.superuser())
            .await
            .unwrap();
    let message = |part, room: &str| (part, "m.room.message".to_owned(), room.to_owned());
    assert_eq!(told, [message(1, "!one:example.org"), message(2, "!two:example.org")]);
}

#[tokio::test]
async fn an_events_attributes_are_on_the_timeline_and_on_the_stream() {
    let app = TestApp::start().await;
    let received = app.deliver(&message_created(&app, 26, 1, "Hello")).await.expect(200);
    app.run_jobs().await;
    let (kind, subject, conversation): (String, String, uuid::Uuid) = sqlx::query_as(
        "SELECT timeline.type, subject, conversations.id FROM timeline JOIN conversations ON conversations.id::text = effects->>'conversation'",
    )
    .fetch_one(app.superuser())
    .await
    .unwrap();
    assert_eq!((kind.as_str(), subject.as_str()), ("message_created", "conversation/26"));
    let told: Vec<(String, serde_json::Value)> =
        sqlx::query_as("SELECT permission, data FROM events WHERE type LIKE 'webhook.%' OR type LIKE 'conversation.%' ORDER BY sequence")
            .fetch_all(app.superuser())
            .await
            .unwrap();
    let acme = app.tenant(ACME);
    let source = format!("/api/v1/webhooks/chatwoot/{}", app.chatwoot_source());
    let event = json!({ "type": "webhook.received", "id": received["id"], "tenantId": acme, "source": source,
                        "eventType": "message_created", "subject": "conversation/26", "time": app.now() });
    let updated = json!({ "type": "conversation.updated", "id": conversation, "tenantId": acme });
    assert_eq!(told, [("webhook.event.read".to_owned(), event), ("conversation.read".to_owned(), updated)]);
}
