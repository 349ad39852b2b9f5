//! The command line.

mod chatwoot;
mod doctor;
mod health;
mod inbox;
mod matrix;
mod migrate;
mod openapi;
mod serve;
mod sync;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// The control plane of a suite of open-source tools: approvals, audit, consultations and webhook fan-in over Keycloak,
/// Chatwoot, Matrix and Jitsi.
#[derive(Debug, Parser)]
#[command(name = "chancery", version, about, max_term_width = 110)]
pub struct Cli {
    /// A settings file (TOML). Without one, the defaults and the environment (CHANCERY__SECTION__SETTING) count.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play the whole story on this machine: brings its own PostgreSQL and a double of each tool
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArguments),
    /// Serve the API and the shell, and run the jobs
    Serve,
    /// Bring the database up to date, and make its two logins where they are missing
    Migrate,
    /// Manage what is received from external tools, at the database
    #[command(subcommand)]
    Inbox(inbox::InboxCommand),
    /// Set Chatwoot up for Chancery
    #[command(subcommand)]
    Chatwoot(chatwoot::ChatwootCommand),
    /// Compare the tools with Keycloak's people and roles
    #[command(subcommand)]
    Sync(sync::SyncCommand),
    /// Look at the database and every configured server, and say what to mend; exits with 1 where something doesn't work
    Doctor(doctor::DoctorArguments),
    /// Ask the server on this machine whether it is ready; exits with 1 where it isn't (for containers)
    Health,
    /// Set up the Matrix homeserver
    #[command(subcommand)]
    Matrix(matrix::MatrixCommand),
    /// Print the API's description (OpenAPI 3.1)
    Openapi,
    /// Print the settings with their defaults, as a file to start from
    Config,
}

/// Runs the command; what the process exits with.
///
/// # Errors
/// What went wrong, for the one who typed it.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let config = cli.config.as_deref();
    let ran = match cli.command {
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => runtime.block_on(crate::demo::run(arguments)),
        Command::Serve => runtime.block_on(serve::run(config)),
        Command::Migrate => runtime.block_on(migrate::run(config)),
        Command::Inbox(command) => runtime.block_on(inbox::run(config, command)),
        Command::Chatwoot(command) => runtime.block_on(chatwoot::run(config, command)),
        Command::Sync(command) => return runtime.block_on(sync::run(config, command)),
        Command::Doctor(arguments) => runtime.block_on(doctor::run(config, arguments)),
        Command::Health => runtime.block_on(health::run(config)),
        Command::Matrix(command) => matrix::run(config, command),
        Command::Openapi => openapi::run(),
        Command::Config => openapi::print(crate::config::DEFAULTS),
    };
    ran.map(|()| ExitCode::SUCCESS)
}
