//! The crash test in short; `cargo xtask chaos` plays it at length.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "what goes wrong in a test fails it, and what went before is shown then"
)]

use std::{sync::Arc, time::Duration};

use chaos::{Plan, Step};

/// Another seed gives other interleavings; this one finds the same steps again.
const SEED: &str = "CHANCERY_CHAOS_SEED";

async fn play(replicas: usize, steps: Vec<Step>) {
    let refuses = steps.iter().any(|step| matches!(step, Step::Refuse(_)));
    let seed = std::env::var(SEED).ok().map_or(5, |seed| seed.parse().expect("a number"));
    let plan = Plan {
        program: env!("CARGO_BIN_EXE_chaos").into(),
        seed,
        replicas,
        senders: 8,
        conversations: 3,
        sender_pause: 40,
        steps,
        pause: Duration::from_secs(2),
        drain: Duration::from_mins(2),
        tell: Arc::new(|line| println!("{line}")),
    };
    let report = Box::pin(chaos::run(plan)).await.expect("the plan can be played");
    println!("{report}");
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.events > 300, "only {} events were sent: that proves little", report.events);
    assert!(!refuses || report.failed_attempts > 0, "nothing had to be tried again: {report}");
    assert!(report.escalations > 0 && report.duplicates > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_got_a_200_has_its_effect_once_and_in_order_whatever_dies() {
    let redis_away = Step::Redis(Duration::from_secs(1));
    play(
        1,
        vec![
            Step::Refuse(Duration::from_secs(2)),
            Step::Kill,
            Step::Cut(0.5),
            Step::Kill,
            Step::PostgresKilled,
            Step::PostgresKilledUnprocessed,
            redis_away,
            Step::Kill,
            Step::PostgresFast,
            Step::Kill,
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_replicas_it_is_the_same() {
    // Who is frozen for so long wakes up with lanes that the other has taken over.
    let beyond_the_lease = Step::Freeze(Duration::from_secs(33));
    play(
        2,
        vec![
            Step::Kill,
            Step::Cut(1.0),
            Step::PostgresImmediate,
            Step::KillAll,
            Step::PostgresBackend,
            beyond_the_lease,
            Step::Kill,
        ],
    )
    .await;
}
