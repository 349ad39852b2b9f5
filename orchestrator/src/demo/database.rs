use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use local_postgres::{LocalPostgres, Options, Progress};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use url::Url;

use super::{DataDir, Secrets};
use crate::db::migrate::{identifier, literal, migrate};

const DATABASE: &str = "chancery";
/// The owner's URL of a database to use instead of a private server.
const OWN_DATABASE: &str = "CHANCERY__DATABASE__URL";

/// The URLs of the two logins.
#[derive(Debug, Clone)]
pub struct Logins {
    /// For what somebody asked for.
    pub app_url: String,
    /// For what nobody asked for in particular.
    pub worker_url: String,
}

/// Brings a migrated database: the owner's that the environment names, else a private server's.
pub(super) async fn bring(data_dir: &DataDir) -> anyhow::Result<(Logins, Option<LocalPostgres>)> {
    if let Ok(owner_url) = std::env::var(OWN_DATABASE)
        && !owner_url.is_empty()
    {
        let logins = logins_of(&owner_url, data_dir.secrets())
            .with_context(|| format!("{OWN_DATABASE} is not the URL of a database"))?;
        prepare_own(&owner_url, &logins).await?;
        migrate_as(&owner_url, &logins).await?;
        return Ok((logins, None));
    }
    let mut options = Options::new(data_dir.path());
    options.progress = Some(progress_bar());
    let postgres = LocalPostgres::start(options).await?;
    let server = postgres.connection_options();
    let logins = provision(&server.url(local_postgres::SUPERUSER), DATABASE, data_dir.secrets()).await?;
    Ok((logins, Some(postgres)))
}

fn migrate_error(error: crate::db::migrate::MigrateError) -> anyhow::Error {
    anyhow::Error::new(error)
}

async fn migrate_as(owner_url: &str, logins: &Logins) -> anyhow::Result<()> {
    let secret = |url: &str| SecretString::from(url.to_owned());
    migrate(&secret(owner_url), &secret(&logins.app_url), &secret(&logins.worker_url))
        .await
        .map_err(migrate_error)?;
    Ok(())
}

/// Checks the owner's server, and gives logins that another data directory has made this one's passwords.
async fn prepare_own(owner_url: &str, logins: &Logins) -> anyhow::Result<()> {
    let mut owner = PgConnection::connect(owner_url)
        .await
        .with_context(|| format!("no connection with {OWN_DATABASE}"))?;
    let version =
        sqlx::query_scalar!(r#"SELECT current_setting('server_version_num')::integer AS "version!""#)
            .fetch_one(&mut owner)
            .await?;
    anyhow::ensure!(
        u32::try_from(version / 10_000).is_ok_and(|major| major >= local_postgres::MINIMUM_MAJOR_VERSION),
        "the server of {OWN_DATABASE} is PostgreSQL {}, and Chancery needs {} or newer",
        version / 10_000,
        local_postgres::MINIMUM_MAJOR_VERSION
    );
    for url in [&logins.app_url, &logins.worker_url] {
        let url = Url::parse(url)?;
        let (name, password) = (url.username(), url.password().unwrap_or_default());
        let exists = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1) AS "exists!""#,
            name
        )
        .fetch_one(&mut owner)
        .await?;
        if exists {
            // Without the right to it, the password may still be the right one: connecting tells.
            let _ = owner
                .execute(AssertSqlSafe(format!(
                    "ALTER ROLE {} PASSWORD {}",
                    identifier(name),
                    literal(password)
                )))
                .await;
        }
    }
    let _ = owner.close().await;
    Ok(())
}

/// The logins' URLs beside an owner's: the same server and database, role names that carry the database's.
fn logins_of(owner_url: &str, secrets: &Secrets) -> anyhow::Result<Logins> {
    let owner = Url::parse(owner_url)?;
    let database = owner.path().trim_start_matches('/').to_owned();
    anyhow::ensure!(!database.is_empty(), "it names no database");
    let login = |role: &str, password: &str| -> anyhow::Result<String> {
        let mut url = owner.clone();
        url.set_username(&format!("{database}_{role}"))
            .map_err(|()| anyhow::anyhow!("it can't have a user"))?;
        url.set_password(Some(password)).map_err(|()| anyhow::anyhow!("it can't have a password"))?;
        Ok(url.into())
    };
    Ok(Logins {
        app_url: login("app", &secrets.app_password)?,
        worker_url: login("worker", &secrets.worker_password)?,
    })
}

/// Makes a database with its owner and its two logins on a server, as the superuser, and migrates it. What is there
/// already stays.
///
/// # Errors
/// Where the server refuses.
pub async fn provision(superuser_url: &str, database: &str, secrets: &Secrets) -> anyhow::Result<Logins> {
    let mut superuser = PgConnection::connect(superuser_url).await.context("no connection to PostgreSQL")?;
    let roles = [
        ("owner", &secrets.owner_password),
        ("app", &secrets.app_password),
        ("worker", &secrets.worker_password),
    ];
    for (role, password) in roles {
        let name = format!("{database}_{role}");
        let exists = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1) AS "exists!""#,
            name
        )
        .fetch_one(&mut superuser)
        .await?;
        let verb = if exists { "ALTER" } else { "CREATE" };
        let sql = format!(
            "{verb} ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE PASSWORD {}",
            identifier(&name),
            literal(password)
        );
        superuser.execute(AssertSqlSafe(sql)).await?;
    }
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1) AS "exists!""#,
        database
    )
    .fetch_one(&mut superuser)
    .await?;
    let owner = format!("{database}_owner");
    if !exists {
        superuser
            .execute(AssertSqlSafe(format!(
                "CREATE DATABASE {} OWNER {}",
                identifier(database),
                identifier(&owner)
            )))
            .await?;
    }
    let _ = superuser.close().await;
    let mut owner_url = Url::parse(superuser_url)?;
    owner_url.set_path(database);
    let _ = owner_url.set_username(&owner);
    let _ = owner_url.set_password(Some(&secrets.owner_password));
    let logins = logins_of(owner_url.as_str(), secrets)?;
    migrate_as(owner_url.as_str(), &logins).await?;
    Ok(logins)
}

/// Shows the download, which takes a while; the other steps take less than a second.
fn progress_bar() -> local_postgres::ProgressCallback {
    let bar: Mutex<Option<ProgressBar>> = Mutex::new(None);
    Arc::new(move |progress| {
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        match progress {
            Progress::Downloading { received, total } => {
                let bar = bar.get_or_insert_with(|| {
                    let bar = ProgressBar::new(total.unwrap_or(0));
                    let style = ProgressStyle::with_template(
                        "Downloading PostgreSQL {bar:30} {bytes}/{total_bytes} {eta}",
                    );
                    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    bar
                });
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(received);
            }
            Progress::StoppingOrphan => {
                super::say("An earlier demo was cut off; its database server is being stopped.");
            }
            _ => {
                if let Some(bar) = bar.take() {
                    bar.finish_and_clear();
                }
            }
        }
    })
}
