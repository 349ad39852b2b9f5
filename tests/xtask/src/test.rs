//! All tests.

use anyhow::{Result, bail};
use local_postgres::{LocalPostgres, Options, TEST_SERVER_VARIABLE};

use crate::stack::{keycloak, synapse};
use crate::tally::{self, Format, Tally};
use crate::{browser, demo, setup, shell};

/// What to test.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the tests that need Chromium
    #[arg(long)]
    pub(crate) skip_browser: bool,
    /// Run only the Rust tests whose name contains this; nothing else
    pub(crate) filter: Option<String>,
}

/// Runs the tests and ends with a line that counts them.
pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    shell::step("setup", async { setup::run() }).await?;
    let mut total = Tally::default();
    // Without it, the tests that need it fail and say so; the others are run all the same.
    let mut keycloak = keycloak::ForTests::start().inspect_err(|error| eprintln!("error: {error:#}")).ok();
    let mut synapse = synapse::ForTests::start().inspect_err(|error| eprintln!("error: {error:#}")).ok();
    let in_rust = rust(arguments.filter.as_deref(), keycloak.as_mut(), synapse.as_mut());
    total += counted("tests in Rust", Box::pin(in_rust)).await;
    if let Some(synapse) = synapse {
        synapse.stop()?;
    }
    if arguments.filter.is_none() {
        total += counted("examples in the documentation", async { documentation() }).await;
        let program = shell::step("build the demo", async { demo::build() }).await;
        match program {
            Ok(program) => {
                total += counted("the main job, over HTTP", async { demo::once(&program) }).await;
                if arguments.skip_browser {
                    println!("browser: left out, as asked");
                } else {
                    let browser = Box::pin(browser::run(&program, keycloak.as_ref()));
                    total += counted("browser", browser).await;
                }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                total.failed += 1;
            }
        }
    }
    if let Some(keycloak) = keycloak {
        keycloak.stop()?;
    }
    println!("\n{total}");
    if total.failed > 0 {
        bail!("{} failed", total.failed);
    }
    Ok(())
}

/// A part of the tests; one that can't run counts as a failure.
async fn counted(name: &str, part: impl Future<Output = Result<Tally>>) -> Tally {
    let part = async {
        let tally = part.await?;
        println!("{name}: {tally}");
        Ok(tally)
    };
    match shell::judged_step(name, part, |tally| tally.failed == 0).await {
        Ok(tally) => tally,
        Err(error) => {
            eprintln!("error: {error:#}");
            Tally { failed: 1, ..Tally::default() }
        }
    }
}

/// The Rust tests of the whole workspace, on one PostgreSQL server, one Keycloak and one Synapse.
async fn rust(
    filter: Option<&str>,
    keycloak: Option<&mut keycloak::ForTests>,
    synapse: Option<&mut synapse::ForTests>,
) -> Result<Tally> {
    let options = Options { max_connections: 500, ..Options::ephemeral()? };
    let server = LocalPostgres::start(options).await?;
    let (mut command, format) = match shell::tool("cargo-nextest") {
        Some(nextest) => {
            let mut command = shell::command(nextest);
            // What is ignored elsewhere needs a server that is started here.
            command.args(["nextest", "run", "--workspace", "--all-features", "--run-ignored", "all"]);
            (command, Format::Nextest)
        }
        None => (
            shell::cargo(&["test", "--workspace", "--all-features", "--lib", "--bins", "--tests"]),
            Format::Libtest,
        ),
    };
    command.args(filter);
    if matches!(format, Format::Libtest) {
        command.args(["--", "--include-ignored"]);
    }
    let url = server.superuser_url();
    command.env(TEST_SERVER_VARIABLE, &url).env("DATABASE_URL", &url);
    // The Python with the libraries that sign webhooks officially, and that verify tokens.
    command.env("CHANCERY_TEST_PYTHON", shell::tools().join("bin/python"));
    command.env("CHANCERY_TEST_NODE_MODULES", setup::node_modules());
    if let Some(server) = keycloak {
        match server.ready().await {
            Ok(()) => {
                command.envs(server.environment());
            }
            Err(error) => eprintln!("error: {error:#}"),
        }
    }
    if let Some(server) = synapse {
        match server.ready().await {
            Ok(()) => {
                command.envs(server.environment());
            }
            Err(error) => eprintln!("error: {error:#}"),
        }
    }
    let tally = tally::run("tests", &mut command, format);
    server.stop().await?;
    tally
}

/// The examples in the documentation, which nextest doesn't run.
fn documentation() -> Result<Tally> {
    let mut command = shell::cargo(&["test", "--workspace", "--all-features", "--doc"]);
    tally::run("doc tests", &mut command, Format::Libtest)
}
