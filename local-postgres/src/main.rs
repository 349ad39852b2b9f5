//! `local-postgres DIRECTORY [PORT]`: a PostgreSQL server to try things on. It prints the superuser's URL and stops with
//! Ctrl-C; the data stays in the directory.

use std::io::Write;
use std::process::ExitCode;

use local_postgres::{LocalPostgres, Options};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), port, None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return fail("usage: local-postgres DIRECTORY [PORT]");
    };
    let Ok(port) = port.as_deref().map(str::parse).transpose() else {
        return fail("PORT is a number from 1 to 65535");
    };
    match run(Options { port, ..Options::new(directory) }).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let server = LocalPostgres::start(options).await?;
    writeln!(std::io::stdout(), "{}", server.superuser_url())?;
    tokio::signal::ctrl_c().await?;
    server.stop().await?;
    Ok(())
}

fn fail(message: &str) -> ExitCode {
    // Nobody is left to tell if the standard error is closed.
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::FAILURE
}
