//! Migrating: as the owner, with the names of the two logins set for the session.

use std::str::FromStr as _;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// A short text that is another one once a migration is added or changed: names the databases that tests share.
#[cfg(feature = "demo")]
pub(crate) fn fingerprint() -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for migration in MIGRATOR.iter() {
        hash.update(&migration.checksum);
    }
    hex::encode(&hash.finalize()[..6])
}

/// Why the database can't be migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A URL isn't one, or lacks a user.
    #[error(
        "{setting} is not the URL of a PostgreSQL database with a user: postgres://user:password@host/database"
    )]
    Url {
        /// The setting.
        setting: &'static str,
    },
    /// No connection as the owner.
    #[error("no connection to PostgreSQL as the owner")]
    Connect(#[source] sqlx::Error),
    /// The logins are missing, and the owner may not make them.
    #[error(
        "the logins of database.url and database.worker_url don't exist, and the owner may not create roles. Let an administrator run:\n\n{sql}\n"
    )]
    MissingRoles {
        /// What an administrator has to run.
        sql: String,
    },
    /// A migration failed.
    #[error("a migration failed; the database is as it was before it")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The database refused something else.
    #[error("the database can't be prepared for the migrations")]
    Database(#[source] sqlx::Error),
}

/// A login to be made: its name and its password.
struct Login {
    setting: &'static str,
    name: String,
    password: Option<String>,
}

/// `text` as an SQL literal.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `text` as an SQL identifier.
pub(crate) fn identifier(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn login(setting: &'static str, url: &SecretString) -> Result<Login, MigrateError> {
    let parsed = url::Url::parse(url.expose_secret()).map_err(|_| MigrateError::Url { setting })?;
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned)
    };
    let name = decode(parsed.username()).map_err(|_| MigrateError::Url { setting })?;
    let password = parsed.password().map(decode).transpose().map_err(|_| MigrateError::Url { setting })?;
    if name.is_empty() {
        return Err(MigrateError::Url { setting });
    }
    Ok(Login { setting, name, password })
}

/// What makes a login.
fn create_role(login: &Login) -> String {
    let password = login
        .password
        .as_deref()
        .map(|password| format!(" PASSWORD {}", literal(password)))
        .unwrap_or_default();
    format!(
        "CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE{password};",
        identifier(&login.name)
    )
}

/// Makes the two logins where they are missing, and brings the schema up to date.
///
/// # Errors
/// [`MigrateError`]; each migration is one transaction, so that a failed one leaves no trace.
pub async fn migrate(
    owner_url: &SecretString,
    app_url: &SecretString,
    worker_url: &SecretString,
) -> Result<usize, MigrateError> {
    let app = login("database.url", app_url)?;
    let worker = login("database.worker_url", worker_url)?;
    let options = PgConnectOptions::from_str(owner_url.expose_secret())
        .map_err(|_| MigrateError::Url { setting: "database.owner_url" })?;
    let mut connection = PgConnection::connect_with(&options).await.map_err(MigrateError::Connect)?;

    let mut missing = Vec::new();
    for login in [&app, &worker] {
        let exists = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1) AS "exists!""#,
            login.name
        )
        .fetch_one(&mut connection)
        .await
        .map_err(MigrateError::Database)?;
        if !exists {
            missing.push(login);
        }
    }
    if !missing.is_empty() {
        let may = sqlx::query_scalar!(
            r#"SELECT (rolcreaterole OR rolsuper) AS "may!" FROM pg_roles WHERE rolname = current_user"#
        )
        .fetch_one(&mut connection)
        .await
        .map_err(MigrateError::Database)?;
        if !may {
            let sql = missing
                .iter()
                .map(|login| format!("-- the login of {}\n{}", login.setting, create_role(login)));
            return Err(MigrateError::MissingRoles { sql: sql.collect::<Vec<_>>().join("\n") });
        }
        for login in &missing {
            connection.execute(AssertSqlSafe(create_role(login))).await.map_err(MigrateError::Database)?;
        }
    }
    let database: String = sqlx::query_scalar!(r#"SELECT current_database()::text AS "name!""#)
        .fetch_one(&mut connection)
        .await
        .map_err(MigrateError::Database)?;
    let prepare = format!(
        "SET chancery.app_role = {}; SET chancery.worker_role = {}; GRANT CONNECT ON DATABASE {} TO {}, {}",
        literal(&app.name),
        literal(&worker.name),
        identifier(&database),
        identifier(&app.name),
        identifier(&worker.name),
    );
    connection.execute(AssertSqlSafe(prepare)).await.map_err(MigrateError::Database)?;
    MIGRATOR.run(&mut connection).await.map_err(MigrateError::Migration)?;
    let _ = connection.close().await;
    Ok(MIGRATOR.iter().count())
}

/// How many migrations the database lacks.
///
/// # Errors
/// [`MigrateError`]; where it has some that this program doesn't know, too.
pub async fn pending(owner_url: &SecretString) -> Result<usize, MigrateError> {
    let options = PgConnectOptions::from_str(owner_url.expose_secret())
        .map_err(|_| MigrateError::Url { setting: "database.owner_url" })?;
    let mut connection = PgConnection::connect_with(&options).await.map_err(MigrateError::Connect)?;
    let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success")
        .fetch_all(&mut connection)
        .await
        .map_err(MigrateError::Database)?;
    let _ = connection.close().await;
    if let Some(newer) = applied.iter().find(|version| !MIGRATOR.version_exists(**version)) {
        return Err(MigrateError::Migration(sqlx::migrate::MigrateError::VersionMissing(*newer)));
    }
    Ok(MIGRATOR.iter().filter(|migration| !applied.contains(&migration.version)).count())
}
