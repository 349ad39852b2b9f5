//! The lease protocol under any interleaving: the steps of several workers and replicas, of who stores and of time, in any order,
//! against the database. A worker can stop between any two of its steps, go on after its lease has run out, or never.

#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

use std::collections::HashMap;

use chrono::TimeDelta;
use proptest::prelude::*;
use serde_json::json;
use sqlx::Executor as _;
use uuid::Uuid;

use super::{
    apply::{ApplyError, From, LEASE, Planned, apply},
    failures::{self, Failed},
    plan::{Poison, plan},
    store,
};
use crate::{
    ids::{InboxEventId, SourceId},
    inbox::model::{Claim, Mark, lane, lane_bit, subject_key},
    testing::{ACME, GLOBEX, TestApp},
};

const WORKERS: usize = 3;
const SUBJECTS: i64 = 4;

/// One step of somebody.
#[derive(Debug, Clone)]
enum Step {
    /// A message of this conversation arrives.
    Store(i64),
    /// A worker claims what is free.
    Claim(usize),
    /// It reads what is next.
    Read(usize),
    /// It applies what it has read, however long ago that was.
    Apply(usize),
    /// It applies what it has read but for the first, which fails: it may be tried again.
    Fail(usize),
    /// The same, and the first can't succeed.
    Poison(usize),
    /// It reads what has failed and is due.
    Due(usize),
    /// It tries that again, however long ago it has read it.
    Retry(usize),
    /// The first of that fails once more.
    FailAgain(usize),
    /// It gives its lanes back.
    Release(usize),
    /// All leases run out, and what has failed is due again.
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..WORKERS;
    prop_oneof![
        4 => (1..=SUBJECTS).prop_map(Step::Store),
        3 => worker.clone().prop_map(Step::Claim),
        3 => worker.clone().prop_map(Step::Read),
        3 => worker.clone().prop_map(Step::Apply),
        1 => worker.clone().prop_map(Step::Fail),
        1 => worker.clone().prop_map(Step::Poison),
        2 => worker.clone().prop_map(Step::Due),
        2 => worker.clone().prop_map(Step::Retry),
        1 => worker.clone().prop_map(Step::FailAgain),
        1 => worker.prop_map(Step::Release),
        1 => Just(Step::Expire),
    ]
}

/// What a worker holds in its head.
#[derive(Debug, Default, Clone)]
struct Worker {
    claim: Option<Claim>,
    marks: Vec<Mark>,
    due: Vec<store::Retry>,
}

struct World {
    app: TestApp,
    workers: Vec<Worker>,
    messages: i64,
}

impl World {
    async fn store(&mut self, conversation: i64) {
        self.messages += 1;
        let event = json!({
            "event": "message_created", "id": self.messages, "content": "Hello", "message_type": "incoming", "private": false,
            "created_at": self.app.now().to_rfc3339(), "account": { "id": 1 }, "inbox": { "id": 2 },
            "conversation": { "id": conversation, "status": "open", "updated_at": self.app.now().timestamp() },
        });
        self.app.deliver(&event).await.expect(200);
    }

    async fn planned(&self, marks: &[Mark]) -> Vec<Planned> {
        let state = self.app.state();
        let Some(first) = marks.first() else { return Vec::new() };
        let mut connection = state.database.system().await.unwrap();
        let events = store::events(&mut connection, first.tenant, marks).await.unwrap();
        let mut events: HashMap<InboxEventId, _> =
            events.into_iter().map(|event| (event.id, event)).collect();
        marks
            .iter()
            .map(|mark| {
                let event = events.remove(&mark.event).unwrap();
                let plan = plan(&event, state, state.clock.now()).unwrap();
                Planned { mark: mark.clone(), event: event.into(), plan }
            })
            .collect()
    }

    /// Applies marks; one that fails takes the worker's claim out of its head, as the processor does.
    async fn apply(&mut self, worker: usize, marks: Vec<Mark>) {
        let Some(claim) = self.workers[worker].claim.clone() else { return };
        let Some(first) = marks.first() else { return };
        let tenant = first.tenant;
        let (waiting, fresh): (Vec<Mark>, Vec<Mark>) = marks.into_iter().partition(|mark| mark.waits);
        let planned = self.planned(&fresh).await;
        let (planned, waiting): (Vec<_>, Vec<_>) = (planned.iter().collect(), waiting.iter().collect());
        let now = self.app.now();
        let applied = apply(self.app.state(), &claim, tenant, &planned, &waiting, From::Pending, now).await;
        self.after(worker, applied);
    }

    fn after<T>(&mut self, worker: usize, done: Result<T, ApplyError>) {
        match done {
            Ok(_) => {}
            Err(ApplyError::Lost) => self.workers[worker] = Worker::default(),
            Err(error) => panic!("{error:?}"),
        }
    }

    async fn fail(&mut self, worker: usize, failed: impl FnOnce(Mark) -> Failed) {
        let Some(claim) = self.workers[worker].claim.clone() else { return };
        let mut marks = std::mem::take(&mut self.workers[worker].marks);
        let Some(place) = marks.iter().position(|mark| !mark.waits) else { return };
        let first = marks.remove(place);
        let now = self.app.now();
        let key = first.subject_key;
        let done = failures::record(self.app.state(), &claim, &failed(first), From::Pending, now).await;
        let holds_up = done.as_ref().is_ok_and(|next| next.run_at().is_some());
        self.after(worker, done);
        if self.workers[worker].claim.is_some() {
            // As when they are tried one by one: later ones of the subject wait.
            for mark in marks.iter_mut().filter(|mark| holds_up && mark.subject_key == key) {
                mark.waits = true;
            }
            self.apply(worker, marks).await;
        }
    }

    async fn due(&mut self, worker: usize) {
        let Some(claim) = &self.workers[worker].claim else { return };
        let mut connection = self.app.state().database.system().await.unwrap();
        let due = store::due(&mut connection, claim, self.app.now(), 10).await.unwrap();
        // What it has read may no longer be what is next: it tries again first, and then reads on.
        self.workers[worker].marks.clear();
        self.workers[worker].due = due;
    }

    async fn retry(&mut self, worker: usize) {
        for retry in std::mem::take(&mut self.workers[worker].due) {
            let Some(claim) = self.workers[worker].claim.clone() else { return };
            let planned = self.planned(std::slice::from_ref(&retry.mark)).await;
            let (tenant, now) = (retry.mark.tenant, self.app.now());
            let applied =
                apply(self.app.state(), &claim, tenant, &[&planned[0]], &[], From::Retries, now).await;
            self.after(worker, applied);
        }
    }

    async fn fail_again(&mut self, worker: usize) {
        let Some(claim) = self.workers[worker].claim.clone() else { return };
        let Some(retry) = std::mem::take(&mut self.workers[worker].due).into_iter().next() else { return };
        let failed = Failed::late(retry.mark, retry.attempts, std::time::Duration::from_secs(20));
        let done = failures::record(self.app.state(), &claim, &failed, From::Retries, self.app.now()).await;
        self.after(worker, done);
    }

    async fn take(&mut self, step: Step) {
        let state = self.app.state().clone();
        match step {
            Step::Store(conversation) => self.store(conversation).await,
            Step::Claim(worker) if self.workers[worker].claim.is_none() => {
                let now = self.app.now();
                let mut connection = state.database.system().await.unwrap();
                let claim = store::claim(&mut connection, u16::MAX, now, now + LEASE).await.unwrap();
                if !claim.lanes.is_empty() {
                    self.workers[worker] = Worker { claim: Some(claim), ..Worker::default() };
                }
            }
            Step::Claim(_) => {}
            Step::Read(worker) => {
                if let Some(claim) = &self.workers[worker].claim {
                    let mut connection = state.database.system().await.unwrap();
                    let mut marks = store::next_marks(&mut connection, claim, 6).await.unwrap();
                    marks.sort_by_key(|mark| mark.seq);
                    self.workers[worker].marks = marks;
                    self.workers[worker].due.clear();
                }
            }
            Step::Apply(worker) => {
                let marks = std::mem::take(&mut self.workers[worker].marks);
                self.apply(worker, marks).await;
            }
            Step::Fail(worker) => {
                self.fail(worker, |mark| Failed::late(mark, 0, std::time::Duration::from_secs(20))).await;
            }
            Step::Poison(worker) => {
                self.fail(worker, |mark| Failed::poisoned(mark, 0, &Poison::OtherAccount)).await;
            }
            Step::Due(worker) => self.due(worker).await,
            Step::Retry(worker) => self.retry(worker).await,
            Step::FailAgain(worker) => self.fail_again(worker).await,
            Step::Release(worker) => {
                if let Some(claim) = std::mem::take(&mut self.workers[worker]).claim {
                    let mut connection = state.database.system().await.unwrap();
                    store::release(&mut connection, &claim, self.app.now()).await.unwrap();
                }
            }
            Step::Expire => self.app.clock().advance(LEASE + TimeDelta::seconds(1)),
        }
    }

    /// What holds at every moment: an event has had at most one effect, and a subject's are in their order. At the end each that isn't
    /// dead has had one.
    async fn check(&self, at_the_end: bool) -> Result<(), TestCaseError> {
        let wrong: Vec<String> = sqlx::query_scalar(
            "SELECT event_id || ' ran ' || runs || ' times' FROM timeline WHERE runs <> 1
             UNION ALL
             SELECT resource_id || ' came before an earlier one of ' || subject FROM (
                 SELECT resource_id, data->>'subject' AS subject, lag(resource_id) OVER (PARTITION BY data->>'subject' ORDER BY sequence) AS before
                 FROM events WHERE type = 'webhook.received'
             ) AS told WHERE before >= resource_id
             UNION ALL
             SELECT event.id || ' is nowhere, or twice' FROM inbox_events AS event
             WHERE (EXISTS (SELECT 1 FROM timeline WHERE event_id = event.id))::int
                 + (SELECT count(*) FROM inbox_pending WHERE event_id = event.id)
                 + (SELECT count(*) FROM inbox_failures WHERE event_id = event.id) <> 1
             UNION ALL
             SELECT event_id || ' is parked behind nobody' FROM inbox_failures AS parked
             WHERE state = 'parked' AND NOT EXISTS (
                 SELECT 1 FROM inbox_failures AS earlier
                 WHERE earlier.subject_key = parked.subject_key AND earlier.state = 'ready' AND earlier.seq < parked.seq)
             UNION ALL
             SELECT event_id || ' is left over' FROM inbox_pending WHERE $1
             UNION ALL
             SELECT event_id || ' is left over' FROM inbox_failures WHERE $1 AND state <> 'dead'",
        )
        .bind(at_the_end)
        .fetch_all(self.app.superuser())
        .await
        .unwrap();
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }
}

#[test]
fn whatever_workers_do_in_whatever_order_each_event_has_one_effect_in_its_subjects_order() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = runtime.block_on(TestApp::start());
    app.leave_jobs();
    let world =
        std::cell::RefCell::new(World { app, workers: vec![Worker::default(); WORKERS], messages: 0 });
    let config = ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let result = runner.run(&proptest::collection::vec(step(), 10..60), |steps| {
        let mut world = world.borrow_mut();
        runtime.block_on(async {
            world.app.superuser()
                .execute(
                    "TRUNCATE inbox_events, inbox_keys, inbox_pending, inbox_failures, inbox_attempts, timeline, events, conversations CASCADE;
                     UPDATE inbox_lanes SET lease_until = NULL",
                )
                .await
                .unwrap();
            world.workers = vec![Worker::default(); WORKERS];
            for step in steps {
                world.take(step).await;
                world.check(false).await?;
            }
            // Everybody dies, and one comes who works it all off.
            world.app.clock().advance(TimeDelta::seconds(800));
            world.app.state().processor().run_due().await.unwrap();
            world.check(true).await
        })
    });
    let world = world.into_inner();
    runtime.block_on(async { drop(world) });
    result.unwrap();
}

#[tokio::test]
async fn who_has_lost_a_lane_parks_nothing_behind_what_has_succeeded_since() {
    let app = TestApp::start().await;
    app.leave_jobs();
    let mut world = World { app, workers: vec![Worker::default(); WORKERS], messages: 0 };
    // The first message has failed when the second is read: it is to wait.
    world.store(1).await;
    for step in [Step::Claim(0), Step::Read(0), Step::Fail(0), Step::Store(1), Step::Read(0)] {
        world.take(step).await;
    }
    assert!(world.workers[0].marks[0].waits);
    // Somebody else takes over, and the first succeeds. The second's mark is where it was.
    for step in [Step::Expire, Step::Claim(1), Step::Due(1), Step::Retry(1), Step::Apply(0)] {
        world.take(step).await;
    }
    assert!(world.workers[0].claim.is_none(), "the first worker learns that it has lost the lane");
    world.check(false).await.unwrap();
    world.app.clock().advance(TimeDelta::seconds(800));
    world.app.state().processor().run_due().await.unwrap();
    world.check(true).await.unwrap();
}

#[tokio::test]
async fn a_retry_that_has_succeeded_after_all_is_not_recorded_as_failed() {
    let app = TestApp::start().await;
    app.leave_jobs();
    let mut world = World { app, workers: vec![Worker::default(); WORKERS], messages: 0 };
    world.store(1).await;
    for step in [Step::Claim(0), Step::Read(0), Step::Fail(0), Step::Expire] {
        world.take(step).await;
    }
    let (claim, now) = (world.workers[0].claim.clone().unwrap(), world.app.now());
    world.due(0).await;
    let due = world.workers[0].due.clone();
    let [store::Retry { mark, attempts, .. }] = due.as_slice() else { panic!("one is due: {due:?}") };
    world.retry(0).await;
    // The commit took so long that its worker no longer waited for the answer.
    let late = Failed::late(mark.clone(), *attempts, std::time::Duration::from_secs(20));
    let recorded = failures::record(world.app.state(), &claim, &late, From::Retries, now).await;
    assert!(matches!(recorded, Err(ApplyError::Lost)), "{recorded:?}");
    world.check(true).await.unwrap();
}

#[tokio::test]
async fn what_is_next_is_shared_equally_between_tenants() {
    let app = TestApp::start().await;
    app.leave_jobs();
    // In one lane, so that they are in each other's way.
    let source = SourceId(Uuid::from_u128(1));
    let key = (0..10_000)
        .map(|number| subject_key(source, &number.to_string()))
        .find(|key| lane(*key) == 3)
        .unwrap();
    for (tenant, count) in [(ACME, 5_000), (GLOBEX, 3)] {
        sqlx::query(
            "INSERT INTO inbox_pending (subject_key, received_at, tenant_id, event_id, bytes, lane)
             SELECT $1, now(), $2, gen_random_uuid(), 100, 3 FROM generate_series(1, $3)",
        )
        .bind(key)
        .bind(app.tenant(tenant).0)
        .bind(count)
        .execute(app.superuser())
        .await
        .unwrap();
    }
    let now = app.now();
    let mut connection = app.state().database.system().await.unwrap();
    let claim = store::claim(&mut connection, lane_bit(3), now, now + LEASE).await.unwrap();
    let marks = store::next_marks(&mut connection, &claim, 100).await.unwrap();
    let of = |tenant| marks.iter().filter(|mark| mark.tenant == app.tenant(tenant)).count();
    assert_eq!((of(ACME), of(GLOBEX)), (50, 3));
    let firsts: Vec<_> =
        marks.iter().filter(|mark| mark.tenant == app.tenant(ACME)).map(|mark| mark.seq).collect();
    assert!(firsts.is_sorted() && firsts.last() < Some(&60), "the oldest first");
    // Another one gets none of a lane that is held, and all of it when the lease has run out.
    assert!(
        store::claim(&mut connection, u16::MAX, now, now + LEASE)
            .await
            .unwrap()
            .lanes
            .iter()
            .all(|(lane, _)| *lane != 3)
    );
    let later = now + LEASE + TimeDelta::seconds(1);
    let second = store::claim(&mut connection, lane_bit(3), later, later + LEASE).await.unwrap();
    let ((first_lane, first_fence), (second_lane, second_fence)) = (claim.lanes[0], second.lanes[0]);
    assert_eq!((first_lane, second_lane, second.lanes.len()), (3, 3, 1));
    assert!(second_fence > first_fence);
}
