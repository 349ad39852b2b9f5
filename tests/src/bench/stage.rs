//! What every benchmark needs: PostgreSQL with fsync on, Keycloak's and Chatwoot's doubles, a migrated database, and the
//! server as a process of its own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chancery::{
    demo::{self, Addresses, DataDir, Doubles, Listeners},
    ids::RandomIds,
    lifecycle::Lifecycle,
};
use connector_core::{SharedClock, SharedIds, SystemClock};
use local_postgres::{Lifetime, LocalPostgres, Options};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::{
    client::{Connection, request},
    people,
};

pub(crate) struct Stage {
    postgres: LocalPostgres,
    folder: PathBuf,
    data_dir: DataDir,
    addresses: Addresses,
    lifecycle: Lifecycle,
    pub doubles: Doubles,
    pub logins: demo::Logins,
}

/// A running server, ended when it is dropped.
pub(crate) struct Server {
    process: Child,
    pub address: SocketAddr,
    pub started_in: Duration,
}

impl Stage {
    pub async fn set() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("chancery-bench-{}", std::process::id()));
        let (clock, ids): (SharedClock, SharedIds) = (Arc::new(SystemClock), Arc::new(RandomIds));
        let data_dir = DataDir::open(&folder, &*ids)?;
        let mut options = Options::new(folder.join("postgres"));
        options.lifetime = Lifetime::Ephemeral;
        let postgres = LocalPostgres::start(options).await?;
        let server = postgres.connection_options();
        let logins =
            demo::provision(&server.socket_url(local_postgres::SUPERUSER), "bench", data_dir.secrets())
                .await?;
        // Free now, and the server's in a moment.
        let chancery = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (addresses, listeners) = Listeners::ephemeral(chancery).await?;
        let realm = people::realm(demo::REALM)?;
        let doubles = Doubles::open_with_realm(&realm, &data_dir, &addresses, &clock, &ids)?;
        let lifecycle = Lifecycle::new();
        doubles.serve(listeners, &lifecycle);
        Ok(Self { postgres, folder, data_dir, addresses, lifecycle, doubles, logins })
    }

    pub async fn strike(self) -> anyhow::Result<()> {
        self.lifecycle.stop().await;
        self.postgres.stop().await?;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    /// The superuser, for setting up rows.
    pub async fn superuser(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.superuser_url()).await?)
    }

    /// Makes a source of Chatwoot's webhooks, if it isn't there.
    pub async fn register_source(&self, tenant: Uuid, source: Uuid, name: &str) -> anyhow::Result<()> {
        sqlx::query(
            "INSERT INTO webhook_sources (tenant_id, id, service, name, account, scheme, created_at, updated_at)
             VALUES ($1, $2, 'chatwoot', $3, '1', '{\"type\":\"chatwoot\"}', now(), now()) ON CONFLICT DO NOTHING",
        )
        .bind(tenant)
        .bind(source)
        .bind(name)
        .execute(&mut self.superuser().await?)
        .await?;
        Ok(())
    }

    /// The superuser's login to the benchmarks' database.
    pub fn superuser_url(&self) -> String {
        self.postgres.connection_options().socket_url("bench")
    }

    /// Where the server listens, if it runs.
    pub fn address(&self) -> SocketAddr {
        self.addresses.chancery
    }

    /// The file with the server's master key.
    pub fn key_file(&self) -> PathBuf {
        self.data_dir.key_file()
    }

    /// Starts the server and waits until it is ready.
    pub async fn serve(&self) -> anyhow::Result<Server> {
        self.serve_with(&[]).await
    }

    /// The same with more settings, as the environment has them.
    pub async fn serve_with(&self, settings: &[(&str, String)]) -> anyhow::Result<Server> {
        let mut config = chancery::config::Config::defaults()?;
        self.doubles.configure(&mut config, &self.data_dir);
        let address = self.addresses.chancery;
        let binary = std::env::current_exe()?.parent().context("no folder")?.join("chancery");
        anyhow::ensure!(
            binary.exists(),
            "{} is missing: build it with `cargo build --release`",
            binary.display()
        );
        let begun = Instant::now();
        let process = Command::new(binary)
            .arg("serve")
            .env("CHANCERY__HTTP__LISTEN", address.to_string())
            .env("CHANCERY__HTTP__PUBLIC_URL", format!("http://{address}"))
            .env("CHANCERY__DATABASE__URL", &self.logins.app_url)
            .env("CHANCERY__DATABASE__WORKER_URL", &self.logins.worker_url)
            .env("CHANCERY__CRYPTO__KEY_FILE", self.data_dir.key_file())
            .env("CHANCERY__KEYCLOAK__URL", &config.keycloak.url)
            .env("CHANCERY__KEYCLOAK__CLIENT_SECRET", config.keycloak.client_secret.expose_secret())
            .env("CHANCERY__KEYCLOAK__SYNC_CLIENT_SECRET", config.keycloak.sync_client_secret.expose_secret())
            .env("CHANCERY__KEYCLOAK__RECONCILE_SECONDS", "86400")
            .env("CHANCERY__CHATWOOT__URL", &config.chatwoot.url)
            // What is sent here is in no conversation of Chatwoot's double: nothing to look for there.
            .env("CHANCERY__CHATWOOT__RECONCILE_SECONDS", "0")
            .env("CHANCERY__CHATWOOT__TOKEN", config.chatwoot.token.expose_secret())
            .env("CHANCERY__CHATWOOT__BOT_TOKEN", config.chatwoot.bot_token.expose_secret())
            // A few people ask for as much as many do, and open ten thousand streams; what counting costs is measured too.
            .env("CHANCERY__LIMITS__PRINCIPAL__REQUESTS", "100000000")
            .env("CHANCERY__LIMITS__SOURCE__REQUESTS", "100000000")
            .env("CHANCERY__LIMITS__STREAMS_PER_PRINCIPAL", "1000")
            .env("CHANCERY__LOG__FILTER", "error")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut server = Server { process, address, started_in: Duration::ZERO };
        loop {
            if let Ok(mut connection) = Connection::open(address).await
                && connection
                    .send(&request("GET", "/ready", "none", "", ""))
                    .await
                    .is_ok_and(|answer| answer.status == 200)
            {
                server.started_in = begun.elapsed();
                return Ok(server);
            }
            if let Some(status) = server.process.try_wait()? {
                anyhow::bail!("the server ended with {status}");
            }
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "the server is not ready");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Server {
    /// The memory that the server occupies, in KiB.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let id = self.process.id().context("the server has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
    }

    /// The processor's time that the server has taken, in microseconds, to a hundredth of a second.
    pub fn processor_micros(&self) -> anyhow::Result<f64> {
        const MICROS_A_TICK: u32 = 10_000;
        let id = self.process.id().context("the server has ended")?;
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        // Behind the name in parentheses: user and system time are the 12th and 13th (proc_pid_stat(5)).
        let fields = stat.rsplit_once(')').context("no name")?.1.split_whitespace();
        let ticks: Vec<u32> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.into_iter().map(|ticks| f64::from(ticks) * f64::from(MICROS_A_TICK)).sum())
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await?;
        Ok(())
    }
}
