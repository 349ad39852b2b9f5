//! Dispatches to the crash test, which is a program of its own: this one never links the orchestrator.

use anyhow::Result;

use crate::{setup, shell};

/// How to disturb.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
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

/// Builds the crash test optimised and runs it; a broken promise is an error.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::run()?;
    let mut command = shell::cargo(&["run", "--release", "--package", "chaos", "--bin", "chaos", "--"]);
    let Arguments { seed, minutes, replicas, kills } = arguments;
    for (name, value) in [
        ("--seed", seed.map(|seed| seed.to_string())),
        ("--minutes", Some(minutes.to_string())),
        ("--replicas", Some(replicas.to_string())),
        ("--kills", Some(kills.to_string())),
    ] {
        if let Some(value) = value {
            command.args([name, &value]);
        }
    }
    shell::run(&mut command)
}
