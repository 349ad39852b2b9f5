//! `cargo xtask chaos`: the crash test at length. `chaos serve` is `chancery serve`: the servers under test are always built
//! from the same sources as the test.

use std::{process::ExitCode, sync::Arc, time::Duration};

use chaos::{Plan, long};
use clap::Parser;
use connector_core::{IdGenerator as _, RandomIds};

/// What to play.
#[derive(Debug, Parser)]
#[command(name = "chaos", about = "Kills what can be killed while events come in, and counts their effects")]
struct Arguments {
    /// What all randomness comes from; a random number without one
    #[arg(long)]
    seed: Option<u64>,
    /// How long the disturbances last, about
    #[arg(long, default_value_t = 5)]
    minutes: u32,
    /// How many servers there are
    #[arg(long, default_value_t = 2)]
    replicas: usize,
    /// How often servers are killed
    #[arg(long, default_value_t = 20)]
    kills: usize,
}

#[expect(clippy::print_stderr, reason = "the last word to the one who typed the command")]
fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == "serve") {
        return match chancery::cli::run(chancery::cli::Cli::parse()) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("chaos serve: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match play(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every promise was kept.
fn play(arguments: &Arguments) -> anyhow::Result<bool> {
    anyhow::ensure!(arguments.replicas > 0, "there is nothing to disturb without a server");
    let seed = arguments.seed.unwrap_or_else(|| {
        let mut bytes = [0; 4];
        RandomIds.fill(&mut bytes);
        u64::from(u32::from_be_bytes(bytes))
    });
    let steps = long(arguments.kills, arguments.replicas, seed);
    say(&format!(
        "seed {seed}, {} servers, {} disturbances in about {} min",
        arguments.replicas,
        steps.len(),
        arguments.minutes
    ));
    let share = Duration::from_mins(u64::from(arguments.minutes)) / u32::try_from(steps.len())?;
    let plan = Plan {
        program: std::env::current_exe()?,
        seed,
        replicas: arguments.replicas,
        senders: 32,
        conversations: 4,
        sender_pause: 60,
        steps,
        // Half of it on average is pause; the other half, about, is the disturbance.
        pause: share,
        // What failed three times waits for two minutes.
        drain: Duration::from_mins(5),
        tell: Arc::new(say),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(chaos::run(plan))?;
    say(&format!("\n{report}"));
    Ok(report.violations.is_empty())
}

#[expect(clippy::print_stdout, reason = "the progress is for whoever runs it")]
fn say(text: &str) {
    println!("{text}");
}
