//! The crash test: senders post numbered events while servers are killed and frozen, PostgreSQL is restarted and killed,
//! connections are cut and Redis goes away. Afterwards every event that got a 200 has had its effect exactly once, in order
//! within its conversation.
//!
//! [`run`] plays a [`Plan`] and gives a [`Report`]. `tests/crash.rs` plays short ones as ordinary tests; `cargo xtask chaos`
//! plays a long one. What is random comes from one number, the seed; when it happens is the machine's affair, so that the
//! same seed gives the same steps and not the same interleaving.

mod disturber;
mod evidence;
mod follower;
mod sender;
mod stage;
pub mod verdict;
mod violation;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio_util::sync::CancellationToken;

pub use disturber::{BEYOND_THE_LEASE, Step, long};

use sender::{Counters, Sender, Subject};
use stage::Stage;
use verdict::{Violation, judge};

/// Who is told how it goes, a line at a time.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// The most violations that a report shows.
const MOST_SHOWN: usize = 30;

/// What is played.
#[derive(Clone)]
pub struct Plan {
    /// The server's program: `serve` starts it.
    pub program: PathBuf,
    /// What all randomness comes from.
    pub seed: u64,
    /// How many servers there are.
    pub replicas: usize,
    /// How many senders post at the same time, each one event at a time.
    pub senders: usize,
    /// How many conversations each sender has.
    pub conversations: usize,
    /// The most milliseconds that a sender pauses between two events.
    pub sender_pause: u64,
    /// What goes wrong, in this order.
    pub steps: Vec<Step>,
    /// The longest pause before each step.
    pub pause: Duration,
    /// How long the rest may take when all has been sent.
    pub drain: Duration,
    /// Who is told.
    pub tell: Tell,
}

/// What a run has shown.
#[derive(Debug)]
pub struct Report {
    /// The broken promises.
    pub violations: Vec<Violation>,
    /// How many events got their 200.
    pub events: usize,
    /// How many 200s said that the event had been received before.
    pub duplicates: usize,
    /// How many events were escalations.
    pub escalations: usize,
    /// How many attempts to process an event have failed.
    pub failed_attempts: i64,
    /// How many attempts ended how.
    pub attempts: BTreeMap<String, u64>,
    /// The longest that an event had to wait for its 200.
    pub longest: Duration,
    /// How long the rest took when all had been sent.
    pub drained_in: Duration,
    /// Where logs and data are, if something is wrong.
    pub kept: Option<PathBuf>,
    seed: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} events got their 200, {} of them escalations; {} repeats were told as such; the longest wait for a 200 was {:.1} s",
            self.events,
            self.escalations,
            self.duplicates,
            self.longest.as_secs_f64()
        )?;
        let attempts: Vec<String> =
            self.attempts.iter().map(|(outcome, count)| format!("{outcome}: {count}")).collect();
        writeln!(formatter, "attempts: {}; {} to process failed", attempts.join(", "), self.failed_attempts)?;
        writeln!(
            formatter,
            "the rest was done {:.1} s after the last event; seed {}",
            self.drained_in.as_secs_f64(),
            self.seed
        )?;
        for violation in self.violations.iter().take(MOST_SHOWN) {
            writeln!(formatter, "VIOLATION: {violation}")?;
        }
        if self.violations.len() > MOST_SHOWN {
            writeln!(formatter, "… and {} more", self.violations.len() - MOST_SHOWN)?;
        }
        if let Some(kept) = &self.kept {
            writeln!(formatter, "logs and data: {}", kept.display())?;
        }
        write!(
            formatter,
            "{}",
            if self.violations.is_empty() {
                "each of them had its effect exactly once, in order"
            } else {
                "the promise is broken"
            }
        )
    }
}

/// Plays a plan.
///
/// # Errors
/// Where it can't be played: a server doesn't start, or refuses what is right.
pub async fn run(plan: Plan) -> anyhow::Result<Report> {
    let mut stage = Box::pin(Stage::set(&plan.program, plan.replicas)).await?;
    let played = play(&mut stage, &plan).await;
    let keep = !played.as_ref().is_ok_and(|report| report.violations.is_empty());
    let kept = stage.strike(keep).await?;
    match played {
        Ok(report) => Ok(Report { kept, ..report }),
        Err(error) => {
            let kept = kept.map(|folder| folder.display().to_string()).unwrap_or_default();
            Err(error.context(format!("seed {}; logs and data are in {kept}", plan.seed)))
        }
    }
}

async fn play(stage: &mut Stage, plan: &Plan) -> anyhow::Result<Report> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    for replica in &mut stage.replicas {
        replica.start().await?;
    }
    let target = Arc::new(stage.target.clone());
    let (counters, heard) = (Arc::new(Counters::default()), follower::Heard::default());
    let (stop_sending, stop_listening) = (CancellationToken::new(), CancellationToken::new());
    let listener = tokio::spawn(follower::follow(Arc::clone(&target), heard.clone(), stop_listening.clone()));
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..plan.senders {
        let mut subjects = Vec::new();
        for _ in 0..plan.conversations {
            let conversation =
                stage::open_conversation(&client, &stage.doubles, &format!("Customer {number}")).await?;
            subjects.push(Subject::new(conversation, escalations(&mut random)));
        }
        let own = StdRng::seed_from_u64(random.random());
        let sender =
            Sender::new(Arc::clone(&target), subjects, plan.sender_pause, own, Arc::clone(&counters))?;
        senders.spawn(sender.run(stop_sending.clone()));
    }
    let own = StdRng::seed_from_u64(random.random());
    let disturbing = disturber::disturb(stage, &plan.steps, plan.pause, own, &counters, &plan.tell);
    let mut posted = Vec::new();
    tokio::select! {
        disturbed = disturbing => disturbed?,
        // No sender ends before it is told to but for an error.
        Some(ended) = senders.join_next() => {
            posted.extend(ended??);
            anyhow::ensure!(posted.iter().any(|event| event.answers.is_empty()), "a sender ended early");
        }
    }
    stop_sending.cancel();
    while let Some(ended) = senders.join_next().await {
        posted.extend(ended??);
    }
    (plan.tell)(&format!("all {} events are sent; waiting for the rest", posted.len()));
    let begun = Instant::now();
    let waiting = evidence::drained(stage, plan.drain).await?;
    let drained_in = begun.elapsed();
    let found = evidence::gather(stage, waiting, &heard).await?;
    stop_listening.cancel();
    listener.await.context("the listener")??;
    Ok(Report {
        violations: judge(&posted, &found),
        events: posted.iter().filter(|event| !event.answers.is_empty()).count(),
        duplicates: posted.iter().flat_map(|event| &event.answers).filter(|answer| answer.duplicate).count(),
        escalations: posted.iter().filter(|event| event.kind == verdict::Kind::Escalation).count(),
        failed_attempts: found.failed_attempts,
        attempts: counters.attempts(),
        longest: counters.longest(),
        drained_in,
        kept: None,
        seed: plan.seed,
    })
}

/// Where in a conversation an agent escalates it: in every other one, up to four times, never first.
fn escalations(random: &mut StdRng) -> Vec<u32> {
    if random.random_bool(0.5) {
        return Vec::new();
    }
    let mut at = 0;
    (0..4)
        .map(|_| {
            at += random.random_range(1..40);
            at
        })
        .collect()
}
