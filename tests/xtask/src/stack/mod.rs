//! `cargo xtask stack`: the real servers that Chancery leans on, without containers, for development and the tests.
//!
//! Everything lies under `target/stack`: what the servers keep, a log and a pid file for each, and the settings with which
//! `chancery serve` uses them. Everything listens on 127.0.0.1 only.

pub(crate) mod keycloak;
mod pins;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod synapse;

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;

use self::process::State;
use crate::shell;

pub(crate) use self::pins::Pin;

/// What to do with the servers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Start servers that aren't running, and print the settings for `chancery serve`
    Up {
        /// The servers to start; all without one
        servers: Vec<Server>,
        /// Throw away what they kept, first
        #[arg(long)]
        fresh: bool,
    },
    /// Stop servers; what they kept stays
    Down {
        /// The servers to stop; all without one
        servers: Vec<Server>,
    },
    /// Show which servers run, where, and where their logs are
    Status,
}

/// A server of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// PostgreSQL, with an empty database
    Postgres,
    /// Redis
    Redis,
    /// Keycloak, with the realm of keycloak/realm-chancery.json
    Keycloak,
    /// Synapse, with Chancery as its application service; it pushes nothing
    Synapse,
}

impl Server {
    const ALL: [Self; 4] = [Self::Postgres, Self::Redis, Self::Keycloak, Self::Synapse];

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "PostgreSQL",
            Self::Redis => "Redis",
            Self::Keycloak => "Keycloak",
            Self::Synapse => "Synapse",
        }
    }

    fn url(self) -> String {
        match self {
            Self::Postgres => postgres::url(),
            Self::Redis => redis::url(),
            Self::Keycloak => keycloak::url(),
            Self::Synapse => synapse::url(),
        }
    }

    fn state(self) -> Result<State> {
        Ok(match self {
            Self::Postgres => match postgres::running()? {
                Some(server) => State::Up(server.pid),
                None => State::Down,
            },
            Self::Redis => redis::state(),
            Self::Keycloak => keycloak::state(),
            Self::Synapse => synapse::state(),
        })
    }

    async fn up(self, fresh: bool) -> Result<()> {
        match self {
            Self::Postgres => postgres::up(fresh).await,
            Self::Redis => redis::up(fresh).await,
            Self::Keycloak => keycloak::up(fresh).await,
            Self::Synapse => synapse::up(fresh).await,
        }
    }

    async fn down(self) -> Result<bool> {
        match self {
            Self::Postgres => postgres::down().await,
            Self::Redis => redis::down(),
            Self::Keycloak => keycloak::down(),
            Self::Synapse => synapse::down(),
        }
    }
}

/// Carries out the action.
pub(crate) async fn run(action: Action) -> Result<()> {
    match action {
        Action::Up { servers, fresh } => {
            for server in chosen(&servers) {
                server.up(fresh).await?;
                eprintln!("stack: {} is up at {}", server.name(), server.url());
            }
            print_settings()
        }
        Action::Down { servers } => {
            for server in chosen(&servers) {
                let said = if server.down().await? { "stopped" } else { "was not running" };
                eprintln!("stack: {} {said}", server.name());
            }
            Ok(())
        }
        Action::Status => {
            for server in Server::ALL {
                let state = match server.state()? {
                    State::Up(pid) => format!("up at {} (process {pid})", server.url()),
                    State::Down => "down".to_owned(),
                    State::Dead(pid) => format!("dead: process {pid} has gone without having been stopped"),
                };
                println!("{:<11} {state}", server.name());
            }
            println!("Logs: {}", logs().display());
            Ok(())
        }
    }
}

/// The servers that were named, in the order in which they are started; all of them if none was.
fn chosen(named: &[Server]) -> Vec<Server> {
    Server::ALL.into_iter().filter(|server| named.is_empty() || named.contains(server)).collect()
}

/// Where everything is.
pub(crate) fn directory() -> PathBuf {
    shell::target().join("stack")
}

pub(crate) fn logs() -> PathBuf {
    directory().join("logs")
}

/// Writes the settings with which Chancery uses the servers that run, and prints them.
fn print_settings() -> Result<()> {
    let mut up = Vec::new();
    for server in Server::ALL {
        if matches!(server.state()?, State::Up(_)) {
            up.push(server);
        }
    }
    let defaults = shell::root().join("orchestrator/src/config/default.toml");
    let defaults = std::fs::read_to_string(&defaults)
        .with_context(|| format!("could not read {}", defaults.display()))?;
    let text = settings(&up, &master_key()?.display().to_string(), &defaults);
    let path = directory().join("chancery.toml");
    std::fs::write(&path, &text).with_context(|| format!("could not write {}", path.display()))?;
    let missing: Vec<&str> = [Server::Postgres, Server::Keycloak]
        .into_iter()
        .filter(|server| !up.contains(server))
        .map(Server::name)
        .collect();
    println!("{text}");
    if missing.is_empty() {
        let shown = path.strip_prefix(shell::root()).unwrap_or(&path).display();
        println!("# These settings are in {shown}. Chancery runs with them:");
        println!("#   cargo run -- --config {shown} migrate");
        println!("#   cargo run -- --config {shown} serve");
    } else {
        println!("# Chancery needs {}, too: cargo xtask stack up", missing.join(" and "));
    }
    Ok(())
}

/// The settings. Only sections that are in the `defaults` count.
fn settings(up: &[Server], key_file: &str, defaults: &str) -> String {
    let mut sections = vec![format!("[crypto]\nkey_file = \"{key_file}\"\n")];
    for server in up {
        match server {
            Server::Postgres => sections.push(postgres::settings(postgres::PORT)),
            Server::Redis if defaults.contains("[redis]") => {
                sections.push(format!("[redis]\nurl = \"{}\"\n", redis::url()));
            }
            Server::Redis => {}
            Server::Keycloak => sections.push(format!(
                "[keycloak]\nurl = \"{}\"\nclient_secret = \"demo-only-chancery-shell\"\n\
                 sync_client_secret = \"demo-only-chancery-sync\"\n",
                keycloak::url()
            )),
            Server::Synapse => sections.push(synapse::settings()),
        }
    }
    sections.join("\n")
}

/// The file with Chancery's master key, made where it is missing.
pub(crate) fn master_key() -> Result<PathBuf> {
    let path = directory().join("master.key");
    if !path.exists() {
        std::fs::create_dir_all(directory())?;
        let mut key = [0; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create_new(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, format!("{}\n", STANDARD.encode(key)).as_bytes())
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_servers_are_meant_where_none_is_named() {
        assert_eq!(chosen(&[]), Server::ALL);
        assert_eq!(chosen(&[Server::Keycloak, Server::Postgres]), [Server::Postgres, Server::Keycloak]);
    }

    #[test]
    fn settings_name_the_servers_that_run_and_only_what_chancery_knows() {
        let text = settings(&[Server::Keycloak, Server::Redis], "/k", "[http]\n");
        assert!(text.contains("url = \"http://127.0.0.1:8180\""), "{text}");
        assert!(!text.contains("[redis]") && !text.contains("[database]"), "{text}");
        let text = settings(&Server::ALL, "/k", "[http]\n[redis]\n");
        assert!(text.contains("[redis]\nurl = \"redis://127.0.0.1:16379/0\""), "{text}");
        assert!(text.contains("worker_url = \"postgres://chancery_worker:"), "{text}");
    }

    #[test]
    fn the_secrets_in_the_settings_are_the_realms() {
        let realm = std::fs::read_to_string(shell::root().join("keycloak/realm-chancery.json")).unwrap();
        let text = settings(&[Server::Keycloak], "/k", "");
        let secrets = text.split('"').filter(|word| word.starts_with("demo-only-"));
        assert!(
            secrets.clone().count() == 2
                && secrets.into_iter().all(|secret| realm.contains(&format!("\"secret\": \"{secret}\"")))
        );
    }
}
