//! The database: two logins, and the two doors to it.
//!
//! [`TenantTx`] is a transaction in which row-level security shows the actor's tenants and admits writes to one of them;
//! [`TenantStatement`] is the same for a command that is a single statement.
//! [`SystemTx`] is the worker's transaction without a tenant; it reaches only what comes in, the queue and the mirror of
//! Keycloak. tests/tidy holds the list of those who may name it.

mod checks;
mod leader;
pub mod migrate;
mod tenant_tx;
mod wakeups;

use std::{str::FromStr as _, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres, SqlSafeStr, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use checks::{LoginError, check_login};
pub use leader::{Candidate, Duty, FOLLOW};
pub use tenant_tx::{Actor, TenantStatement, TenantTx};
pub use wakeups::Wakeups;

use crate::{
    auth::Principal,
    clock::SharedClock,
    config::DatabaseConfig,
    ids::{SharedIds, TenantId},
};

/// How long a request waits for a connection before it is told to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How sessions of ours are set. A replica that stands still in a transaction must not hold up the others; and compiling a
/// statement (JIT) takes a hundred times as long as the longest of ours.
const SESSION: [(&str, &str); 4] = [
    ("statement_timeout", "15s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "30s"),
    ("jit", "off"),
];
/// How long closing may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The database could not be reached or the login isn't one to serve with.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The setting isn't the URL of a PostgreSQL database.
    #[error("{setting} is not the URL of a PostgreSQL database")]
    Url {
        /// The setting.
        setting: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// No connection.
    #[error("no connection to PostgreSQL with the login of {setting}")]
    Connect {
        /// The setting.
        setting: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The login may do too much.
    #[error("{setting}: {source}")]
    Login {
        /// The setting.
        setting: &'static str,
        /// What it may do.
        source: LoginError,
    },
}

/// The pools of both logins.
#[derive(Debug, Clone)]
pub struct Database {
    app: PgPool,
    worker: PgPool,
    clock: SharedClock,
    ids: SharedIds,
    wakeups: Wakeups,
    /// The kinds of jobs that would do nothing, because their tool isn't connected.
    unneeded_jobs: Arc<[&'static str]>,
}

impl Database {
    /// Connects both logins and refuses those that row-level security doesn't hold. Jobs of the `unneeded_jobs` kinds are not
    /// enqueued.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        config: &DatabaseConfig,
        clock: SharedClock,
        ids: SharedIds,
        unneeded_jobs: Vec<&'static str>,
    ) -> Result<Self, ConnectError> {
        let (app, worker) = tokio::try_join!(
            connect_login("database.url", &config.url, config.max_connections),
            connect_login("database.worker_url", &config.worker_url, config.worker_max_connections),
        )?;
        let wakeups = Wakeups::start(worker.clone(), ids.uuid_v7(clock.now()));
        Ok(Self { app, worker, clock, ids, wakeups, unneeded_jobs: unneeded_jobs.into() })
    }

    /// Begins a transaction for `actor`, who has proven who it is.
    ///
    /// # Errors
    /// Where there is no connection.
    pub async fn tenant_tx(&self, actor: Arc<Principal>) -> Result<TenantTx, sqlx::Error> {
        TenantTx::begin(self, &self.app, Actor::Principal(actor), None).await
    }

    /// The same with the tenant entered from the start, which saves a round trip.
    ///
    /// # Errors
    /// Where there is no connection.
    pub async fn tenant_tx_in(
        &self,
        actor: Arc<Principal>,
        tenant: TenantId,
    ) -> Result<TenantTx, sqlx::Error> {
        TenantTx::begin(self, &self.app, Actor::Principal(actor), Some(tenant)).await
    }

    /// A statement that is a transaction of its own, for `actor`, who has proven who it is.
    ///
    /// # Errors
    /// Where there is no connection.
    pub async fn tenant_statement(&self, actor: Arc<Principal>) -> Result<TenantStatement, sqlx::Error> {
        TenantStatement::new(self, &self.app, actor).await
    }

    /// Begins the worker's transaction in one tenant, for what nobody asked for in particular.
    ///
    /// # Errors
    /// Where there is no connection.
    pub async fn worker_tx(&self, tenant: TenantId) -> Result<TenantTx, sqlx::Error> {
        TenantTx::begin(self, &self.worker, Actor::System, Some(tenant)).await
    }

    /// Begins the worker's transaction without a tenant.
    ///
    /// # Errors
    /// Where there is no connection.
    pub async fn system_tx(&self) -> Result<SystemTx, sqlx::Error> {
        Ok(SystemTx(begin(&self.worker, "BEGIN").await?))
    }

    /// A connection of the worker's without a tenant, on which each statement is a transaction of its own.
    ///
    /// # Errors
    /// Where there is no connection.
    pub async fn system(&self) -> Result<SystemConnection, sqlx::Error> {
        Ok(SystemConnection(self.worker.acquire().await?))
    }

    /// The same outside the pool, for somebody who keeps it: no other work ever waits for it, nor the other way round.
    ///
    /// # Errors
    /// Where there is no connection.
    pub async fn system_link(&self) -> Result<SystemLink, sqlx::Error> {
        Ok(SystemLink(self.worker.connect_options().connect().await?))
    }

    /// A candidate for what one replica does at a time.
    pub fn candidate(&self, duty: Duty) -> Candidate {
        Candidate::new(duty, (*self.worker.connect_options()).clone())
    }

    /// Wakes this process for what other replicas commit, until `stop`.
    pub async fn listen_to_replicas(self, stop: tokio_util::sync::CancellationToken) {
        wakeups::listen((*self.worker.connect_options()).clone(), self.wakeups, stop).await;
    }

    /// Who is told when jobs or events have been committed.
    pub fn wakeups(&self) -> &Wakeups {
        &self.wakeups
    }

    /// The difference between the database's clock and ours.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn clock_skew(&self) -> Result<chrono::TimeDelta, sqlx::Error> {
        let row = sqlx::query!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(&self.app).await?;
        Ok((row.now - self.clock.now()).abs())
    }

    /// What kind of server it is: `17.5`.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn server_version(&self) -> Result<String, sqlx::Error> {
        sqlx::query_scalar("SHOW server_version").fetch_one(&self.app).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        let close = async {
            tokio::join!(self.app.close(), self.worker.close());
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, close).await.is_err() {
            tracing::warn!("the database's connections did not close in time");
        }
    }
}

async fn connect_login(setting: &'static str, url: &SecretString, most: u32) -> Result<PgPool, ConnectError> {
    let options = PgConnectOptions::from_str(url.expose_secret())
        .map_err(|source| ConnectError::Url { setting, source })?
        .application_name("chancery")
        .options(SESSION);
    let pool = PgPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A ping before each use costs a round trip; a dead connection is noticed by the transaction's first statement.
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|source| ConnectError::Connect { setting, source })?;
    check_login(&pool)
        .await
        .map_err(|source| ConnectError::Connect { setting, source })?
        .map_err(|source| ConnectError::Login { setting, source })?;
    Ok(pool)
}

/// Begins a transaction, to the end even where nobody waits for it any more: a `BEGIN` that is given up before its answer would give the
/// connection back in a transaction that nobody knows of, for the next one's statements to end up in.
async fn begin(
    pool: &PgPool,
    statement: impl SqlSafeStr,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let (connection, statement) = (pool.acquire().await?, statement.into_sql_str());
    let begun = tokio::spawn(Transaction::begin(connection, Some(statement)));
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// The worker's transaction without a tenant. It accepts, claims and expires, and reads and writes Keycloak's mirror.
#[derive(Debug)]
pub struct SystemTx(Transaction<'static, Postgres>);

impl SystemTx {
    /// The connection, for a query.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.0
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// Where the database says no; nothing has happened then.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.0.commit().await
    }
}

/// A connection of the worker's pool, without a tenant and without a transaction.
#[derive(Debug)]
pub struct SystemConnection(PoolConnection<Postgres>);

impl SystemConnection {
    /// The connection, for a query.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

/// A connection of the worker's that belongs to one task, without a tenant and without a transaction.
#[derive(Debug)]
pub struct SystemLink(PgConnection);

impl SystemLink {
    /// The connection, for a query.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.0
    }

    /// Says goodbye to the server.
    pub async fn close(self) {
        // Whatever happens to the farewell, the connection is gone.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.0.close()).await;
    }
}
