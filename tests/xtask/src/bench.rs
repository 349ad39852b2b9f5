//! Dispatches to the benchmarks, which are a program of their own: this one never links the orchestrator.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The rows to measure; all without one
    names: Vec<String>,
    /// Write the rows to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds the benchmarks optimised and runs them.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut command =
        shell::cargo(&["run", "--release", "--package", "chancery-tests", "--bin", "bench", "--"]);
    command.args(&arguments.names);
    if let Some(file) = &arguments.json {
        // Relative to where the person is, not to the workspace.
        command.arg("--json").arg(std::path::absolute(file)?);
    }
    shell::run(&mut command)
}
