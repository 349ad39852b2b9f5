//! PostgreSQL, by `local-postgres`, which knows how to run it as root.

use std::path::PathBuf;

use anyhow::{Context, Result};
use local_postgres::{ConnectionOptions, LocalPostgres, Options, SUPERUSER};
use sqlx::{Connection, PgConnection};

use super::{directory, process};
use crate::setup;

pub(super) const PORT: u16 = 15432;
const DATABASE: &str = "chancery";

/// The logins of `docs/OPERATIONS.md`: settings' name, role, password. `chancery migrate` makes the last two.
const OWNER: Login = Login { setting: "owner_url", role: "chancery_owner", password: "demo-only-owner" };
const LOGINS: [Login; 3] = [
    OWNER,
    Login { setting: "url", role: "chancery_app", password: "demo-only-app" },
    Login { setting: "worker_url", role: "chancery_worker", password: "demo-only-worker" },
];

struct Login {
    setting: &'static str,
    role: &'static str,
    password: &'static str,
}

fn data() -> PathBuf {
    directory().join("postgres")
}

/// How to reach the server, if it runs.
pub(super) fn running() -> Result<Option<ConnectionOptions>> {
    Ok(LocalPostgres::left_running(&data())?)
}

/// Starts the server, unless it runs, and makes the database.
pub(super) async fn up(fresh: bool) -> Result<()> {
    if fresh {
        down().await?;
        LocalPostgres::reset(&data()).await?;
    }
    if running()?.is_some() {
        return Ok(());
    }
    setup::ensure(&[setup::POSTGRESQL])?;
    process::require_space(&directory(), 100, "PostgreSQL")?;
    process::require_free(PORT, "PostgreSQL")?;
    eprintln!("stack: starting PostgreSQL …");
    let server = LocalPostgres::start(Options { port: Some(PORT), ..Options::new(data()) }).await?;
    let connection = server.detach();
    provision(&connection).await
}

/// Stops the server. Gives whether it ran.
pub(super) async fn down() -> Result<bool> {
    Ok(LocalPostgres::stop_left_running(&data()).await?)
}

/// Makes the owner, who may make the other logins, and the database, where they are missing.
pub(crate) async fn provision(server: &ConnectionOptions) -> Result<()> {
    let mut superuser = PgConnection::connect(&server.url(SUPERUSER))
        .await
        .context("PostgreSQL has started, but takes no connection")?;
    let Login { role, password, .. } = OWNER;
    for (exists, statement) in [
        (
            "SELECT count(*) FROM pg_roles WHERE rolname = $1",
            format!("CREATE ROLE {role} LOGIN CREATEROLE PASSWORD '{password}'"),
        ),
        (
            "SELECT count(*) FROM pg_database WHERE datname = $1",
            format!("CREATE DATABASE {DATABASE} OWNER {role}"),
        ),
    ] {
        let name = if exists.contains("pg_roles") { role } else { DATABASE };
        let found: i64 = sqlx::query_scalar(exists).bind(name).fetch_one(&mut superuser).await?;
        if found == 0 {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut superuser).await?;
        }
    }
    superuser.close().await?;
    Ok(())
}

/// The settings of `[database]`, for a server on this port of 127.0.0.1.
pub(crate) fn settings(port: u16) -> String {
    LOGINS.iter().fold("[database]\n".to_owned(), |text, Login { setting, role, password }| {
        format!("{text}{setting} = \"postgres://{role}:{password}@127.0.0.1:{port}/{DATABASE}\"\n")
    })
}

/// Where it listens, without a password.
pub(super) fn url() -> String {
    format!("postgres://127.0.0.1:{PORT}/{DATABASE}")
}
