//! What goes wrong, in an order that a number decides.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use crate::{
    Tell,
    sender::Counters,
    stage::{Manner, Stage},
};

/// Longer than any lease: who is frozen for so long wakes up with a claim that is somebody else's by now.
pub const BEYOND_THE_LEASE: Duration = Duration::from_secs(45);
/// How often a server that was killed is killed again while it starts.
const KILLED_AT_START: f64 = 0.3;

/// For how long no server gets a lane.
const UNPROCESSED: Duration = Duration::from_secs(3);
/// About which share of the conversations can have no effect for a while.
const REFUSED: f64 = 0.3;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// A replica is killed (SIGKILL) and started again.
    Kill,
    /// All replicas are killed at once and started again.
    KillAll,
    /// A replica is asked to end (SIGTERM), as in a deployment, and started again.
    Terminate,
    /// A replica stands still for so long, and goes on as if nothing had happened.
    Freeze(Duration),
    /// PostgreSQL ends its sessions, stops, and is started again.
    PostgresFast,
    /// PostgreSQL drops everything, and is started again.
    PostgresImmediate,
    /// PostgreSQL's processes are killed, and it is started again.
    PostgresKilled,
    /// All lanes are taken away from the servers, and a moment later PostgreSQL's processes are killed: what was accepted meanwhile is
    /// as durable as accepting alone has made it, because no effect's commit has written it out along with its own.
    PostgresKilledUnprocessed,
    /// One server process of PostgreSQL is killed, which makes it recover.
    PostgresBackend,
    /// About this share of the connections to PostgreSQL is cut.
    Cut(f64),
    /// The database refuses the effects of some conversations for so long.
    Refuse(Duration),
    /// Redis is away for so long and has forgotten everything when it comes back.
    Redis(Duration),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill => formatter.write_str("kill a server"),
            Self::KillAll => formatter.write_str("kill all servers"),
            Self::Terminate => formatter.write_str("restart a server"),
            Self::Freeze(time) => write!(formatter, "freeze a server for {:.0} s", time.as_secs_f64()),
            Self::PostgresFast => formatter.write_str("restart PostgreSQL"),
            Self::PostgresImmediate => formatter.write_str("restart PostgreSQL without a shutdown"),
            Self::PostgresKilled => formatter.write_str("kill PostgreSQL"),
            Self::PostgresKilledUnprocessed => {
                formatter.write_str("kill PostgreSQL while nothing is processed")
            }
            Self::PostgresBackend => formatter.write_str("kill a process of PostgreSQL"),
            Self::Cut(share) => write!(formatter, "cut {:.0} % of the connections", share * 100.0),
            Self::Refuse(time) => {
                write!(formatter, "refuse the effects of some conversations for {:.0} s", time.as_secs_f64())
            }
            Self::Redis(time) => write!(formatter, "take Redis away for {:.1} s", time.as_secs_f64()),
        }
    }
}

/// The steps of the long test: so many kills, and for each of them another disturbance, in a random order.
pub fn long(kills: usize, replicas: usize, seed: u64) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut steps: Vec<Step> = (0..kills)
        .map(|kill| if replicas > 1 && kill % 5 == 4 { Step::KillAll } else { Step::Kill })
        .collect();
    let others = [
        Step::PostgresFast,
        Step::Cut(0.5),
        Step::Redis(Duration::from_secs(2)),
        Step::PostgresKilled,
        Step::Terminate,
        Step::Refuse(Duration::from_secs(3)),
        Step::PostgresKilledUnprocessed,
        Step::PostgresBackend,
        Step::Cut(1.0),
        Step::Freeze(Duration::from_secs(3)),
        Step::PostgresImmediate,
        Step::Cut(0.2),
    ];
    steps.extend(others.iter().cycle().take(kills));
    // The classical case of a lost lease, which takes its time.
    steps.push(Step::Freeze(BEYOND_THE_LEASE));
    steps.shuffle(&mut random);
    steps
}

/// Does the steps one after the other, each after a random pause of at most `pause`.
pub(crate) async fn disturb(
    stage: &mut Stage,
    steps: &[Step],
    pause: Duration,
    mut random: StdRng,
    counters: &Counters,
    tell: &Tell,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    for (number, step) in steps.iter().enumerate() {
        tokio::time::sleep(pause.mul_f64(random.random_range(0.0..1.0))).await;
        let what = take(stage, *step, &mut random, counters).await.with_context(|| format!("to {step}"))?;
        tell(&format!(
            "{:>7.1} s  {:>2}/{}  {step}{what}; {} events have their 200",
            begun.elapsed().as_secs_f64(),
            number + 1,
            steps.len(),
            counters.accepted()
        ));
    }
    tokio::time::sleep(pause.mul_f64(0.5)).await;
    Ok(())
}

/// Does one step. What there is to tell of it.
async fn take(
    stage: &mut Stage,
    step: Step,
    random: &mut StdRng,
    counters: &Counters,
) -> anyhow::Result<String> {
    let victim = random.random_range(0..stage.replicas.len());
    let short = Duration::from_millis(random.random_range(0..500));
    match step {
        Step::Kill => {
            let replica = &mut stage.replicas[victim];
            replica.kill().await?;
            tokio::time::sleep(short).await;
            let mut again = 0;
            while random.random_bool(KILLED_AT_START) {
                replica.spawn()?;
                tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
                replica.kill().await?;
                again += 1;
            }
            replica.start().await?;
            let again = if again > 0 { format!(", and {again} times at its start") } else { String::new() };
            Ok(format!(" ({}){again}", replica.number))
        }
        Step::KillAll => {
            for replica in &mut stage.replicas {
                replica.kill().await?;
            }
            tokio::time::sleep(short).await;
            for replica in &mut stage.replicas {
                replica.spawn()?;
            }
            for replica in &mut stage.replicas {
                replica.start().await?;
            }
            Ok(String::new())
        }
        Step::Terminate => {
            let replica = &mut stage.replicas[victim];
            replica.terminate().await?;
            replica.start().await?;
            Ok(format!(" ({})", replica.number))
        }
        Step::Freeze(time) => {
            let replica = &stage.replicas[victim];
            replica.signal(Signal::SIGSTOP)?;
            tokio::time::sleep(time).await;
            replica.signal(Signal::SIGCONT)?;
            Ok(format!(" ({})", replica.number))
        }
        Step::PostgresFast => stage.restart_postgres(Manner::Fast, short).await.map(|()| String::new()),
        Step::PostgresImmediate => {
            stage.restart_postgres(Manner::Immediate, short).await.map(|()| String::new())
        }
        Step::PostgresKilled => stage.restart_postgres(Manner::Killed, short).await.map(|()| String::new()),
        Step::PostgresKilledUnprocessed => {
            stage.take_lanes_away(UNPROCESSED).await?;
            tokio::time::sleep(UNPROCESSED.mul_f64(random.random_range(0.1..0.5))).await;
            stage.restart_postgres(Manner::Killed, short).await.map(|()| String::new())
        }
        Step::PostgresBackend => stage.crash_backend().await.map(|()| String::new()),
        Step::Cut(share) => Ok(format!(": {}", stage.cut_connections(share).await?)),
        Step::Refuse(time) => Ok(format!(": {}", stage.refuse_effects(REFUSED, time).await?)),
        Step::Redis(time) => {
            stage.redis.stop();
            // What was under way before has ended by then.
            tokio::time::sleep(time / 2).await;
            let before = counters.accepted();
            tokio::time::sleep(time / 2).await;
            let accepted = counters.accepted() - before;
            stage.redis.start_again().await;
            anyhow::ensure!(accepted > 0, "without Redis no event was accepted");
            Ok(format!(", with {accepted} events accepted"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_steps_and_another_gives_others() {
        assert_eq!(long(20, 2, 7), long(20, 2, 7));
        assert_ne!(long(20, 2, 7), long(20, 2, 8));
    }

    #[test]
    fn the_long_test_kills_as_often_as_it_says_and_leaves_nothing_out() {
        let steps = long(20, 1, 1);
        assert_eq!(steps.iter().filter(|step| **step == Step::Kill).count(), 20);
        for step in [
            Step::PostgresFast,
            Step::PostgresImmediate,
            Step::PostgresKilled,
            Step::PostgresKilledUnprocessed,
            Step::PostgresBackend,
            Step::Terminate,
            Step::Freeze(BEYOND_THE_LEASE),
        ] {
            assert!(steps.contains(&step), "{step}");
        }
        assert!(steps.iter().any(|step| matches!(step, Step::Redis(_))));
        assert!(steps.iter().any(|step| matches!(step, Step::Cut(_))));
        assert!(steps.iter().any(|step| matches!(step, Step::Refuse(_))));
        assert!(long(20, 2, 1).contains(&Step::KillAll));
    }
}
