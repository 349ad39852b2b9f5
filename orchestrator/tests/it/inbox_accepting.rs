//! Accepting under load and under faults: what got a 200 is there once, whatever happened on the way.

use std::{sync::atomic::Ordering, time::Duration};

use chancery::{
    inbox::Upkeep,
    sources::{SourceScheme, register_source},
    testing::{Answer, GLOBEX, TestApp},
};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::harness::{Wire, message_created, pass};

const EVENTS: &str = "SELECT count(*) FROM inbox_events";
const PENDING: &str = "SELECT count(*) FROM inbox_pending";

/// Holds up whoever stores, until it is dropped or let go.
struct Barrier<'a>(sqlx::Transaction<'a, sqlx::Postgres>);

impl<'a> Barrier<'a> {
    async fn raise(superuser: &'a mut PgConnection) -> Self {
        let mut transaction = superuser.begin().await.unwrap();
        transaction.execute("LOCK TABLE inbox_keys IN EXCLUSIVE MODE").await.unwrap();
        Self(transaction)
    }

    /// Waits until so many statements stand before it.
    async fn reached_by(&mut self, count: i64) {
        for _ in 0..1000 {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_locks WHERE relation = 'inbox_keys'::regclass AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .fetch_one(&mut *self.0)
            .await
            .unwrap();
            if waiting == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("nobody stores");
    }

    async fn let_go(self) {
        self.0.rollback().await.unwrap();
    }
}

/// Delivers `others` together, while `first` is held up on its way into the database. The answers.
async fn deliver_while_one_is_stored(
    app: &TestApp,
    first: &Value,
    others: &[Value],
) -> (Answer, Vec<Answer>) {
    let mut superuser = app.superuser().acquire().await.unwrap();
    let mut barrier = Barrier::raise(&mut superuser).await;
    let answers = async {
        tokio::join!(app.deliver(first), async {
            settle().await;
            join_all(others.iter().map(|event| app.deliver(event))).await
        })
    };
    let let_go = async {
        barrier.reached_by(1).await;
        settle().await;
        settle().await;
        barrier.let_go().await;
    };
    tokio::join!(answers, let_go).0
}

/// Delivers with another source's secret.
async fn deliver_to(app: &TestApp, source: impl std::fmt::Display, secret: &str, event: &Value) -> Answer {
    let body = event.to_string();
    let signature = connector_chatwoot::webhook::sign(&secret.to_owned().into(), app.now(), body.as_bytes());
    let nobody = app.nobody();
    let request = nobody
        .request(Method::POST, &format!("/webhooks/chatwoot/{source}"))
        .header("content-type", "application/json")
        .header("x-chatwoot-timestamp", app.now().timestamp().to_string())
        .header("x-chatwoot-signature", signature)
        .body(body);
    nobody.send(request).await
}

/// Lets tasks run until they wait for something else than each other.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_arrive_together_share_a_commit_and_a_lone_one_waits_for_nobody() {
    let app = TestApp::start().await;
    app.deliver(&message_created(&app, 1, 1, "Hello")).await.expect(200);
    assert_eq!(app.state().intake.batches(), 1);
    let first = message_created(&app, 1, 2, "Hello");
    let others: Vec<_> = (3..43).map(|number| message_created(&app, number, number, "Hello")).collect();
    let (first, others) = deliver_while_one_is_stored(&app, &first, &others).await;
    assert_eq!(first.expect(200)["duplicate"], false);
    assert!(others.iter().all(|answer| answer.expect(200)["duplicate"] == false));
    // One for the first, and one for all that came while it was stored.
    assert_eq!((app.state().intake.batches(), app.count(EVENTS).await), (3, 42));
    app.run_jobs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_identical_deliveries_in_one_batch_one_counts_and_the_others_are_counted() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    let mut barrier = Barrier::raise(&mut superuser).await;
    let (first, same) = (message_created(&app, 1, 1, "Hello"), message_created(&app, 1, 2, "Hello"));
    let answers = async {
        tokio::join!(app.deliver(&first), async {
            settle().await;
            join_all((0..10).map(|_| app.deliver(&same))).await
        })
    };
    let let_go = async {
        barrier.reached_by(1).await;
        settle().await;
        settle().await;
        barrier.let_go().await;
    };
    let ((_, answers), ()) = tokio::join!(answers, let_go);
    assert_eq!(app.state().intake.batches(), 2);
    let new: Vec<_> = answers.iter().filter(|answer| answer.expect(200)["duplicate"] == false).collect();
    assert_eq!((new.len(), app.count(EVENTS).await), (1, 2));
    assert!(answers.iter().all(|answer| answer.expect(200)["id"] == new[0].expect(200)["id"]));
    // And one more, in a batch of its own.
    assert_eq!(app.deliver(&same).await.expect(200)["duplicate"], true);
    for _ in 0..200 {
        if app.count("SELECT sum(duplicates)::bigint FROM inbox_keys").await == 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(app.count("SELECT max(duplicates)::bigint FROM inbox_keys").await, 10);
    app.run_jobs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_when_to_come_back_and_loses_nothing_that_it_took() {
    let app = TestApp::start_with(|config| config.inbox.queue = 4).await;
    let secret = Some("another".to_owned().into());
    let source =
        register_source(app.state(), app.tenant(GLOBEX), SourceScheme::Chatwoot, "Globex", "1", secret)
            .await
            .unwrap();
    let mut superuser = app.superuser().acquire().await.unwrap();
    let mut barrier = Barrier::raise(&mut superuser).await;
    let event = |number| message_created(&app, number, number, "Hello");
    let events: Vec<_> = (1..9).map(event).collect();
    let answers = async {
        tokio::join!(app.deliver(&events[0]), async {
            settle().await;
            // One tenant fills half of the queue, and the other one still has room.
            let taken = async {
                tokio::join!(join_all([app.deliver(&events[1]), app.deliver(&events[2])]), async {
                    settle().await;
                    let refused = app.deliver(&events[3]).await;
                    assert_eq!(refused.problem(503), "webhooks.busy");
                    assert!(refused.headers.contains_key("retry-after"));
                    tokio::join!(
                        join_all([4, 5].map(|number| deliver_to(&app, source, "another", &events[number]))),
                        async {
                            settle().await;
                            let full = deliver_to(&app, source, "another", &events[6]).await;
                            assert_eq!(full.problem(503), "webhooks.busy");
                            barrier.reached_by(1).await;
                            barrier.let_go().await;
                        }
                    )
                })
            };
            taken.await
        })
    };
    let (first, (acme, (globex, ()))) = answers.await;
    let taken = acme.iter().chain(&globex).chain([&first]);
    assert_eq!(taken.filter(|answer| answer.expect(200)["duplicate"] == false).count(), 5);
    assert_eq!(app.count(EVENTS).await, 5);
    // Who was sent away comes again.
    assert_eq!(app.deliver(&events[3]).await.expect(200)["duplicate"], false);
    app.run_jobs().await;
    assert_eq!(app.count("SELECT count(*) FROM timeline").await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_database_refuses_does_not_take_its_neighbours_along() {
    let app = TestApp::start().await;
    app.deliver(&message_created(&app, 1, 1, "Hello")).await.expect(200);
    app.superuser()
        .execute("ALTER TABLE inbox_events ADD CONSTRAINT no_twenty CHECK (subject <> 'conversation/20') NOT VALID")
        .await
        .unwrap();
    let (first, others) = (
        message_created(&app, 1, 2, "Hello"),
        (18..23).map(|number| message_created(&app, number, number, "Hello")).collect::<Vec<_>>(),
    );
    let (_, answers) = deliver_while_one_is_stored(&app, &first, &others).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 500, 200, 200]);
    assert_eq!(app.count(EVENTS).await, 6);
    app.run_jobs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_in_the_middle_of_a_batch_changes_nothing_for_who_waits() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    let mut barrier = Barrier::raise(&mut superuser).await;
    let event = message_created(&app, 1, 1, "Hello");
    let cut = async {
        barrier.reached_by(1).await;
        app.superuser()
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'inbox_keys'::regclass AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .await
            .unwrap();
        // It is there again, on a new connection.
        settle().await;
        barrier.reached_by(1).await;
        barrier.let_go().await;
    };
    let (answer, ()) = tokio::join!(app.deliver(&event), cut);
    assert_eq!(answer.expect(200)["duplicate"], false);
    assert_eq!((app.count(EVENTS).await, app.count(PENDING).await), (1, 1));
    app.run_jobs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_commit_was_done_and_whose_answer_was_lost_is_new_and_there_once() {
    let wire = Wire::lay(Duration::ZERO).await;
    let app = TestApp::start_with(|config| wire.use_for_worker(config)).await;
    // Afterwards the source is known and the connection is there: the next answer from the database is that of the commit.
    app.deliver(&message_created(&app, 1, 1, "Hello")).await.expect(200);
    wire.loses_next.store(true, Ordering::SeqCst);
    let answer = app.deliver(&message_created(&app, 1, 2, "Hello")).await;
    assert!(!wire.loses_next.load(Ordering::SeqCst), "an answer was lost");
    assert_eq!(answer.expect(200)["duplicate"], false, "who sent it once is not told that it came twice");
    assert_eq!((app.count(EVENTS).await, app.count(PENDING).await), (2, 2));
    app.run_jobs().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_senders_are_told_to_come_again() {
    let app = TestApp::start().await;
    app.deliver(&message_created(&app, 1, 1, "Hello")).await.expect(200);
    let login = app.role("worker");
    let set = async |sql: String| {
        app.superuser().execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    };
    set(format!("ALTER ROLE \"{login}\" NOLOGIN")).await;
    app.superuser()
        .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename LIKE '%worker'")
        .await
        .unwrap();
    let event = message_created(&app, 1, 2, "Hello");
    let refused = app.deliver(&event).await;
    set(format!("ALTER ROLE \"{login}\" LOGIN")).await;
    assert_eq!(refused.problem(503), "unavailable");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(app.deliver(&event).await.expect(200)["duplicate"], false);
    // The pool's connections were cut, too: each is noticed when it is used.
    while app.state().processor().run_due().await.is_err() {}
    app.run_jobs().await;
    assert_eq!(app.count("SELECT count(*) FROM timeline").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_in_before_the_end_is_stored_and_answered() {
    let app = TestApp::start().await;
    let mut superuser = app.superuser().acquire().await.unwrap();
    let mut barrier = Barrier::raise(&mut superuser).await;
    let events: Vec<_> = (1..6).map(|number| message_created(&app, number, number, "Hello")).collect();
    let stop = async {
        barrier.reached_by(1).await;
        settle().await;
        let lifecycle = app.state().lifecycle.clone();
        let stopping = tokio::spawn(async move { lifecycle.stop().await });
        settle().await;
        barrier.let_go().await;
        stopping.await.unwrap();
    };
    let (answers, ()) = tokio::join!(join_all(events.iter().map(|event| app.deliver(event))), stop);
    assert!(answers.iter().all(|answer| answer.expect(200)["duplicate"] == false));
    assert_eq!(app.count(EVENTS).await, 5);
    app.run_jobs().await;
}

const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'inbox_events'::regclass";

#[tokio::test]
async fn midnight_loses_nothing_whether_or_not_the_day_was_made_ahead() {
    let app = TestApp::start().await;
    let upkeep = Upkeep::new(app.state().clone());
    upkeep.turn_partitions().await.unwrap();
    let ahead = app.count(PARTITIONS).await;
    assert_eq!(ahead, 4, "today and three days");
    app.deliver(&message_created(&app, 1, 1, "Today")).await.expect(200);
    pass(&app, 15 * 3600);
    app.deliver(&message_created(&app, 1, 2, "Tomorrow")).await.expect(200);
    assert_eq!(app.count(PARTITIONS).await, ahead);
    // A week in which nobody has kept it in order.
    pass(&app, 7 * 86_400);
    app.deliver(&message_created(&app, 1, 3, "Later")).await.expect(200);
    assert!(app.count(PARTITIONS).await > ahead);
    let days: i64 = app.count("SELECT count(DISTINCT tableoid) FROM inbox_events").await;
    assert_eq!((days, app.count(EVENTS).await), (3, 3));
    app.run_jobs().await;
    assert_eq!(app.count("SELECT count(*) FROM timeline").await, 3);
    // Twice is the same as once.
    upkeep.turn_partitions().await.unwrap();
    let made = app.count(PARTITIONS).await;
    upkeep.turn_partitions().await.unwrap();
    assert_eq!(app.count(PARTITIONS).await, made);
}

#[tokio::test]
async fn days_are_dropped_when_their_time_is_over_and_not_before_all_of_them_is_processed() {
    let app = TestApp::start().await;
    let upkeep = Upkeep::new(app.state().clone());
    app.deliver(&message_created(&app, 1, 1, "Hello")).await.expect(200);
    pass(&app, 29 * 86_400);
    assert_eq!(upkeep.turn_partitions().await.unwrap(), 0);
    pass(&app, 5 * 86_400);
    assert_eq!(upkeep.turn_partitions().await.unwrap(), 0, "it is still to be processed");
    assert_eq!(app.count(EVENTS).await, 1);
    app.run_jobs().await;
    assert!(upkeep.turn_partitions().await.unwrap() > 0);
    // What it told stays.
    assert_eq!((app.count(EVENTS).await, app.count("SELECT count(*) FROM timeline").await), (0, 1));
}

#[tokio::test]
async fn keys_are_forgotten_after_their_time_and_repeats_recognised_until_then() {
    let app = TestApp::start().await;
    let mut upkeep = Upkeep::new(app.state().clone());
    let mut event = message_created(&app, 1, 1, "Hello");
    app.deliver(&event).await.expect(200);
    pass(&app, 44 * 86_400);
    assert_eq!(upkeep.trim_keys().await.unwrap(), 0);
    assert_eq!(app.deliver(&event).await.expect(200)["duplicate"], true);
    pass(&app, 2 * 86_400);
    assert_eq!(upkeep.trim_keys().await.unwrap(), 1);
    event["content"] = json!("Hello");
    assert_eq!(app.deliver(&event).await.expect(200)["duplicate"], false);
    app.run_jobs().await;
}
