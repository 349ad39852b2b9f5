//! `cargo xtask`: Chancery's chores. Everything that CI does, a developer does with the same command.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program talks to whoever runs it"
)]

mod bench;
mod browser;
mod chaos;
mod ci;
mod demo;
mod dev;
mod fuzz;
mod openapi;
mod queries;
mod serve;
mod setup;
mod shell;
mod stack;
mod tally;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Chancery's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what the tests need and this machine lacks
    ///
    /// PostgreSQL, Redis, Java, Maven, Chromium, Node.js and a C compiler from Debian's packages; cargo-nextest and cargo-deny
    /// into target/tools.
    /// As root, or with CI set, it installs; otherwise it shows the command and asks.
    Setup,
    /// Run all tests; install what is missing and start what they need
    Test(test::Arguments),
    /// Do what CI does: formatting, lints, dependencies, generated files, all tests
    Ci,
    /// Renew or check .sqlx, what the compiler knows of each SQL query
    Sqlx {
        /// What to do with it
        #[command(subcommand)]
        action: queries::Action,
    },
    /// Write docs/openapi.json, or check that it is up to date
    Openapi {
        /// Change nothing; fail if the file isn't what the code describes
        #[arg(long)]
        check: bool,
    },
    /// Start, stop and show the real servers that Chancery leans on, without containers
    Stack {
        /// What to do with them
        #[command(subcommand)]
        action: stack::Action,
    },
    /// Measure, and compare with the yardsticks
    Bench(bench::Arguments),
    /// Kill servers and what they lean on while webhooks come in, and count their effects
    Chaos(chaos::Arguments),
    /// Look for inputs that the readers of webhooks don't stand: each target of fuzz/ for a minute
    Fuzz(fuzz::Arguments),
    /// Run the demo, and build and restart it whenever a source file changes
    ///
    /// What follows is passed to `chancery demo`: `cargo xtask dev -- --listen 127.0.0.1:9000`.
    Dev {
        /// Arguments for `chancery demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Test(arguments) => test::run(&arguments).await,
        Command::Ci => ci::run().await,
        Command::Sqlx { action } => queries::run(action).await,
        Command::Openapi { check } => openapi::run(check),
        Command::Stack { action } => stack::run(action).await,
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Chaos(arguments) => chaos::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Dev { arguments } => dev::run(&arguments).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
