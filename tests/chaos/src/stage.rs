//! What plays: PostgreSQL with fsync on, Redis, the doubles of Keycloak and Chatwoot, and the servers, each a process of its
//! own that can be killed, frozen and started again.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::Write as _,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use chancery::{
    app::{AppState, Environment},
    config::Config,
    demo::{self, Addresses, DataDir, Doubles, Listeners},
    ids::{RandomIds, TenantId},
    lifecycle::Lifecycle,
    sources::{SourceScheme, register_source},
    testing::RedisServer,
};
use chrono::TimeDelta;
use connector_chatwoot::fake::ACCOUNT_ID;
use connector_core::{Clock as _, SharedClock, SharedIds, SystemClock};
use connector_keycloak::fake::Signature;
use local_postgres::{Lifetime, LocalPostgres, Options};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::evidence;

const TENANT: &str = "/organizations/acme-corp";
const DATABASE: &str = "chaos";
const SECRET: &str = "the-secret-of-the-website";
/// How long a server may take until it is ready, PostgreSQL's recovery included.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a server that was asked to end may take.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// The pause before a server that could not start is started again, as a supervisor would.
const START_AGAIN: Duration = Duration::from_millis(200);
const POLL: Duration = Duration::from_millis(5);
/// Longer than a lease.
const LONGEST_REFUSAL: Duration = Duration::from_secs(40);

/// Who may sign in how: over the socket, which nobody else reaches, without a password. Without optimisation the check of
/// one takes as long as fifty events, and each restart has dozens.
const SIGN_IN: &str = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

/// What the test itself has in the database. Each removal of an event's mark is noted with its transaction, so that an effect in
/// another one is found out without anybody having to be killed between the two. The subjects in `refused` can have no effect.
const OBSERVATION: &str = "
CREATE SCHEMA chaos;
CREATE TABLE chaos.removed (event_id uuid NOT NULL, transaction xid8 NOT NULL);
CREATE INDEX ON chaos.removed (event_id);
CREATE TABLE chaos.refused (subject text PRIMARY KEY);
CREATE FUNCTION chaos.note_removal() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO chaos.removed SELECT event_id, pg_current_xact_id() FROM gone;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_removal AFTER DELETE ON inbox_pending
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_removal();
CREATE TRIGGER chaos_removal AFTER DELETE ON inbox_failures
    REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_removal();
CREATE FUNCTION chaos.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM chaos.refused WHERE refused.subject = NEW.subject) THEN
        RAISE EXCEPTION 'refused for a while' USING ERRCODE = 'object_in_use';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER chaos_refusal BEFORE INSERT ON timeline FOR EACH ROW EXECUTE FUNCTION chaos.refuse();
";

/// Ends a server when the process that plays is gone: it kills `$1` when its standard input ends without a word.
const WATCHER: &str = r#"if read -r _; then exit 0; fi; kill -9 "$1" 2>/dev/null"#;

/// What somebody who posts and listens needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Where the replicas listen.
    pub addresses: Vec<SocketAddr>,
    /// The source's id.
    pub source: Uuid,
    /// What its deliveries are signed with.
    pub secret: SecretString,
    /// The tenant.
    pub tenant: Uuid,
    /// The access token of somebody who may listen to the tenant's events.
    pub token: String,
}

/// Everything that plays.
pub(crate) struct Stage {
    folder: TempDir,
    postgres: Option<LocalPostgres>,
    postgres_options: Options,
    pub redis: RedisServer,
    pub replicas: Vec<Replica>,
    pub doubles: Doubles,
    lifecycle: Lifecycle,
    pub target: Target,
}

/// How PostgreSQL is stopped before it is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Sessions are ended and everything is written out.
    Fast,
    /// All is dropped; the next start recovers.
    Immediate,
    /// All its processes are killed.
    Killed,
}

impl Stage {
    /// Sets everything up but starts no server yet.
    pub async fn set(program: &Path, replicas: usize) -> anyhow::Result<Self> {
        // Everybody may search it: PostgreSQL doesn't run as root.
        let folder = tempfile::Builder::new()
            .prefix("chancery-chaos-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()?;
        let (clock, ids): (SharedClock, SharedIds) = (Arc::new(SystemClock), Arc::new(RandomIds));
        let data_dir = DataDir::open(&folder.path().join("data"), &*ids)?;
        let sign_in = folder.path().join("pg_hba.conf");
        std::fs::write(&sign_in, SIGN_IN)?;
        let mut postgres_options = Options::new(folder.path().join("postgres"));
        postgres_options.lifetime = Lifetime::WithParent;
        postgres_options.extra_settings = vec![("hba_file".to_owned(), sign_in.display().to_string())];
        let postgres = LocalPostgres::start(postgres_options.clone()).await?;
        let server = postgres.connection_options();
        // It comes back where it was.
        postgres_options.port = Some(server.port);
        let logins =
            demo::provision(&server.socket_url(local_postgres::SUPERUSER), DATABASE, data_dir.secrets())
                .await?;
        let redis = RedisServer::start().await;
        let addresses = free_addresses(replicas)?;
        let (mut playing, listeners) = Listeners::ephemeral(addresses[0]).await?;
        playing.chancery = addresses[0];
        let doubles = Doubles::open(&data_dir, &playing, &clock, &ids)?;
        let lifecycle = Lifecycle::new();
        doubles.serve(listeners, &lifecycle);
        let config = configure(&playing, &data_dir, &doubles, &logins, &redis)?;
        let tenant = doubles.keycloak.group_id(TENANT)?;
        let source = seed(config.clone(), TenantId(tenant), &clock, &ids).await?;
        PgConnection::connect(&server.socket_url(DATABASE)).await?.execute(OBSERVATION).await?;
        let claims = json!({ "exp": 32_503_680_000_i64 });
        let token = doubles.keycloak.mint_access_token(
            "chancery-shell",
            "acme-ceo",
            claims.as_object().cloned().unwrap_or_default(),
            Signature::Valid,
        )?;
        let replicas = addresses
            .iter()
            .enumerate()
            .map(|(index, address)| Replica {
                number: index + 1,
                address: *address,
                program: program.to_owned(),
                settings: settings(&config, *address),
                log: folder.path().join(format!("replica-{}.log", index + 1)),
                running: None,
            })
            .collect();
        let secret = SecretString::from(SECRET);
        let target = Target { addresses, source, secret, tenant, token };
        let postgres = Some(postgres);
        Ok(Self { folder, postgres, postgres_options, redis, replicas, doubles, lifecycle, target })
    }

    /// Stops everything. With `keep`, logs and data stay, and where they are is said.
    pub async fn strike(mut self, keep: bool) -> anyhow::Result<Option<PathBuf>> {
        for replica in &mut self.replicas {
            replica.kill().await?;
        }
        self.redis.stop();
        self.lifecycle.stop().await;
        if let Some(postgres) = self.postgres.take() {
            postgres.stop().await?;
        }
        if keep {
            self.folder.disable_cleanup(true);
            return Ok(Some(self.folder.path().to_owned()));
        }
        Ok(None)
    }

    /// A connection as the superuser, whom row-level security doesn't hold.
    pub async fn superuser(&self) -> anyhow::Result<PgConnection> {
        let postgres = self.postgres.as_ref().context("PostgreSQL is stopped")?;
        Ok(PgConnection::connect(&postgres.connection_options().socket_url(DATABASE)).await?)
    }

    /// Stops PostgreSQL in this manner and starts it again after `pause`.
    pub async fn restart_postgres(&mut self, manner: Manner, pause: Duration) -> anyhow::Result<()> {
        let postgres = self.postgres.take().context("PostgreSQL is stopped")?;
        let server = Pid::from_raw(postgres.connection_options().pid);
        match manner {
            Manner::Fast => {}
            Manner::Immediate => kill(server, Signal::SIGQUIT)?,
            Manner::Killed => {
                let children = children(server);
                kill(server, Signal::SIGKILL)?;
                for child in children {
                    // It may have ended with its parent.
                    let _ = kill(child, Signal::SIGKILL);
                }
            }
        }
        postgres.stop().await?;
        tokio::time::sleep(pause).await;
        self.postgres = Some(LocalPostgres::start(self.postgres_options.clone()).await?);
        Ok(())
    }

    /// Kills one server process of PostgreSQL that works for us, which makes it drop all sessions and recover.
    pub async fn crash_backend(&self) -> anyhow::Result<()> {
        let mut superuser = self.superuser().await?;
        let process: Option<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user
             ORDER BY state = 'active' DESC, random() LIMIT 1",
        )
        .fetch_optional(&mut superuser)
        .await?;
        if let Some(process) = process {
            // It may have ended in the meantime.
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Cuts about this share of the servers' connections. How many it were.
    pub async fn cut_connections(&self, share: f64) -> anyhow::Result<usize> {
        let mut superuser = self.superuser().await?;
        let cut = superuser
            .fetch_all(
                sqlx::query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE datname = current_database() AND usename <> current_user AND random() < $1",
                )
                .bind(share),
            )
            .await?;
        Ok(cut.len())
    }

    /// Takes all lanes away from whoever has them, for so long.
    pub async fn take_lanes_away(&self, time: Duration) -> anyhow::Result<()> {
        let until = SystemClock.now() + TimeDelta::from_std(time)?;
        let mut superuser = self.superuser().await?;
        sqlx::query("UPDATE inbox_lanes SET fence = fence + 1, lease_until = $1")
            .bind(until)
            .execute(&mut superuser)
            .await?;
        Ok(())
    }

    /// Has the database refuse the effects of about this share of the subjects for so long, and until one was refused: after a kill
    /// their lanes may belong to the dead for as long as a lease. How many it were.
    pub async fn refuse_effects(&self, share: f64, time: Duration) -> anyhow::Result<u64> {
        let mut superuser = self.superuser().await?;
        let before = evidence::failed_attempts(&mut superuser).await?;
        let refused = sqlx::query(
            "INSERT INTO chaos.refused SELECT subject FROM (SELECT DISTINCT subject FROM inbox_events) AS known WHERE random() < $1",
        )
        .bind(share)
        .execute(&mut superuser)
        .await?
        .rows_affected();
        let begun = Instant::now();
        tokio::time::sleep(time).await;
        while refused > 0
            && begun.elapsed() < LONGEST_REFUSAL
            && evidence::failed_attempts(&mut superuser).await? == before
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        superuser.execute("DELETE FROM chaos.refused").await?;
        Ok(refused)
    }

    /// What the servers' logs say of panics.
    pub fn panics(&self) -> anyhow::Result<Vec<String>> {
        let mut panics = Vec::new();
        for replica in &self.replicas {
            let text = String::from_utf8_lossy(&std::fs::read(&replica.log)?).into_owned();
            let lines = text.lines().filter(|line| line.contains("panicked at"));
            panics.extend(lines.map(|line| format!("replica {}: {line}", replica.number)));
        }
        Ok(panics)
    }
}

/// Addresses on this machine that are free now.
fn free_addresses(count: usize) -> anyhow::Result<Vec<SocketAddr>> {
    // All are held until the last is found, so that none comes twice.
    let held: Result<Vec<_>, _> =
        (0..count).map(|_| std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))).collect();
    held?.iter().map(|listener| Ok(listener.local_addr()?)).collect()
}

fn configure(
    addresses: &Addresses,
    data_dir: &DataDir,
    doubles: &Doubles,
    logins: &demo::Logins,
    redis: &RedisServer,
) -> anyhow::Result<Config> {
    let mut config = Config::defaults()?;
    config.http.listen = addresses.chancery;
    config.http.public_url = addresses.public_url()?;
    config.crypto.key_file = data_dir.key_file();
    config.database.url = logins.app_url.clone().into();
    config.database.worker_url = logins.worker_url.clone().into();
    config.redis.url = redis.url().into();
    doubles.configure(&mut config, data_dir);
    Ok(config)
}

/// The settings that differ from the defaults, as the environment has them. All replicas have the same but for where they
/// listen. Matrix and Jitsi are not connected.
fn settings(config: &Config, address: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("CHANCERY__HTTP__LISTEN", address.to_string()),
        ("CHANCERY__HTTP__PUBLIC_URL", config.http.public_url.to_string()),
        ("CHANCERY__HTTP__ADDITIONAL_HOSTS", format!("[\"{address}\"]")),
        ("CHANCERY__DATABASE__URL", config.database.url.expose_secret().to_owned()),
        ("CHANCERY__DATABASE__WORKER_URL", config.database.worker_url.expose_secret().to_owned()),
        ("CHANCERY__CRYPTO__KEY_FILE", config.crypto.key_file.display().to_string()),
        ("CHANCERY__REDIS__URL", config.redis.url.expose_secret().to_owned()),
        ("CHANCERY__KEYCLOAK__URL", config.keycloak.url.clone()),
        ("CHANCERY__KEYCLOAK__CLIENT_SECRET", config.keycloak.client_secret.expose_secret().to_owned()),
        (
            "CHANCERY__KEYCLOAK__SYNC_CLIENT_SECRET",
            config.keycloak.sync_client_secret.expose_secret().to_owned(),
        ),
        ("CHANCERY__CHATWOOT__URL", config.chatwoot.url.clone()),
        ("CHANCERY__CHATWOOT__TOKEN", config.chatwoot.token.expose_secret().to_owned()),
        // What the server finds there by itself has no sender, and our own notes are there to be found.
        ("CHANCERY__CHATWOOT__RECONCILE_SECONDS", "0".to_owned()),
        ("CHANCERY__CHATWOOT__BOT_TOKEN", config.chatwoot.bot_token.expose_secret().to_owned()),
        ("CHANCERY__LOG__FILTER", "warn".to_owned()),
    ]
}

/// Does what an administrator does once: the tenant is known, and has a source of webhooks. The source's id.
async fn seed(
    config: Config,
    tenant: TenantId,
    clock: &SharedClock,
    ids: &SharedIds,
) -> anyhow::Result<Uuid> {
    let lifecycle = Lifecycle::new();
    let environment =
        Environment { clock: Arc::clone(clock), ids: Arc::clone(ids), lifecycle, start_page: None };
    let state = AppState::start(config, environment).await?;
    state.directory.refresh_tenant(tenant).await?;
    let (account, secret) = (ACCOUNT_ID.to_string(), Some(SECRET.to_owned().into()));
    let source = register_source(&state, tenant, SourceScheme::Chatwoot, "Website", &account, secret).await?;
    state.lifecycle.stop().await;
    state.database.close().await;
    Ok(source.0)
}

/// The processes that a process has begun.
fn children(parent: Pid) -> Vec<Pid> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

/// One of the servers.
pub(crate) struct Replica {
    /// Its number, from 1.
    pub number: usize,
    address: SocketAddr,
    program: PathBuf,
    settings: Vec<(&'static str, String)>,
    log: PathBuf,
    running: Option<Running>,
}

struct Running {
    process: Child,
    watcher: std::process::Child,
}

impl Replica {
    /// Starts the server, and doesn't wait until it is ready.
    pub fn spawn(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let process = self.command(log)?.spawn()?;
        let id = process.id().context("the server has ended")?;
        let watcher = std::process::Command::new("sh")
            .args(["-c", WATCHER, "watcher", &id.to_string()])
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()?;
        self.running = Some(Running { process, watcher });
        Ok(())
    }

    fn command(&self, log: File) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in the terminal is for the process that plays.
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }

    /// Starts the server, again where it could not start (the database may be gone), and waits until it is ready.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        if self.running.is_none() {
            self.spawn()?;
        }
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let url = format!("http://{}/ready", self.address);
        let begun = Instant::now();
        loop {
            if client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            anyhow::ensure!(
                begun.elapsed() < START_LIMIT,
                "replica {} is not ready after {} s",
                self.number,
                START_LIMIT.as_secs()
            );
            if let Some(running) = &mut self.running
                && running.process.try_wait()?.is_some()
            {
                self.kill().await?;
                tokio::time::sleep(START_AGAIN).await;
                self.spawn()?;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills the server (SIGKILL), whatever it does.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.process.kill().await?;
        running.dismiss_watcher()
    }

    /// Asks the server to end (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        let Some(mut running) = self.running.take() else { return Ok(()) };
        tokio::time::timeout(STOP_LIMIT, running.process.wait())
            .await
            .with_context(|| format!("replica {} does not end", self.number))??;
        running.dismiss_watcher()
    }

    /// Sends the server a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let running = self.running.as_ref().context("the server doesn't run")?;
        let id = running.process.id().context("the server has ended")?;
        kill(Pid::from_raw(i32::try_from(id)?), signal)?;
        Ok(())
    }
}

impl Running {
    fn dismiss_watcher(&mut self) -> anyhow::Result<()> {
        if let Some(mut stdin) = self.watcher.stdin.take() {
            // If it has gone, there is nobody to dismiss.
            let _ = stdin.write_all(b"ended\n");
        }
        self.watcher.wait()?;
        Ok(())
    }
}

/// Opens a conversation in Chatwoot's double as a customer. Its number.
pub(crate) async fn open_conversation(
    client: &reqwest::Client,
    doubles: &Doubles,
    name: &str,
) -> anyhow::Result<i64> {
    let chatwoot = &doubles.chatwoot;
    let contacts =
        format!("{}public/api/v1/inboxes/{}/contacts", chatwoot.public_url(), chatwoot.inbox_identifier());
    let post = async |url: &str, body: Value| -> anyhow::Result<Value> {
        Ok(client.post(url).json(&body).send().await?.error_for_status()?.json().await?)
    };
    let contact = post(&contacts, json!({ "name": name })).await?;
    let conversations =
        format!("{contacts}/{}/conversations", contact["source_id"].as_str().unwrap_or_default());
    post(&conversations, json!({})).await?["id"].as_i64().context("the conversation has no number")
}
