//! The `chancery` binary.

use std::process::ExitCode;

use clap::Parser as _;

#[expect(clippy::print_stderr, reason = "the last word to the one who typed the command")]
fn main() -> ExitCode {
    match chancery::cli::run(chancery::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chancery: {error:#}");
            ExitCode::FAILURE
        }
    }
}
