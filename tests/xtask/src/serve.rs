//! `chancery serve` with real servers behind it, for the browser tests: a Keycloak that runs already, and PostgreSQL and
//! Redis of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use local_postgres::{LocalPostgres, Options};
use tempfile::TempDir;

use crate::stack::process::{Running, Watcher};
use crate::stack::{self, keycloak, postgres, redis};
use crate::{demo, shell};

const START_LIMIT: Duration = Duration::from_mins(1);

/// A server that runs until it is stopped, or this process is gone.
pub(crate) struct Serving {
    running: Running,
    watcher: Watcher,
    redis: redis::ForTests,
    database: LocalPostgres,
    port: u16,
    client: String,
    _data: TempDir,
}

impl Serving {
    /// Makes a database and starts the server on a free port. Its client in Keycloak is for the tests to make, because the
    /// realm's own lead to other ports.
    pub(crate) async fn start(program: &Path, keycloak: &keycloak::ForTests) -> Result<Self> {
        let data = tempfile::Builder::new()
            .prefix("chancery-serve-")
            .tempdir()
            .context("could not make a temporary directory")?;
        let database = LocalPostgres::start(Options::ephemeral()?).await?;
        postgres::provision(database.connection_options()).await?;
        let redis = redis::ForTests::start(data.path()).await?;
        let port = demo::free_ports()?;
        let client = format!("chancery-shell-{port}");
        let config = data.path().join("chancery.toml");
        std::fs::write(
            &config,
            format!(
                "[http]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"http://127.0.0.1:{port}\"\n\
                 [crypto]\nkey_file = \"{}\"\n[redis]\nurl = \"{}\"\n\
                 [keycloak]\nurl = \"{}\"\nclient_id = \"{client}\"\nclient_secret = \"demo-only-chancery-shell\"\n\
                 sync_client_secret = \"demo-only-chancery-sync\"\n{}",
                stack::master_key()?.display(),
                redis.url(),
                keycloak.url(),
                postgres::settings(database.connection_options().port),
            ),
        )
        .with_context(|| format!("could not write {}", config.display()))?;
        let chancery = |action: &str| {
            let mut command = shell::command(program);
            command.arg("--config").arg(&config).arg(action);
            command
        };
        shell::run(&mut chancery("migrate"))?;
        let mut running = Running::spawn("chancery serve", &mut chancery("serve"), &log())?;
        let watcher = Watcher::over(&running)?;
        running.wait_ready(START_LIMIT, || demo::answers_ok(port, "/ready")).await?;
        Ok(Self { running, watcher, redis, database, port, client, _data: data })
    }

    /// Where it is, and the id of its client, as environment variables for the browser tests.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("CHANCERY_TEST_SERVE_URL", format!("http://127.0.0.1:{}", self.port)),
            ("CHANCERY_TEST_SERVE_CLIENT", self.client.clone()),
        ]
    }

    /// Stops the server, and what it had of its own.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.running.stop()?;
        self.watcher.dismiss();
        self.redis.stop()?;
        self.database.stop().await?;
        Ok(())
    }
}

fn log() -> PathBuf {
    stack::logs().join("chancery-for-tests.log")
}
