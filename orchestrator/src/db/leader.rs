//! Work that one replica does at a time: it holds a PostgreSQL advisory lock, of the session and on a connection of its own,
//! so that whatever ends the process or the connection gives the lock back.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::http::problem::ErrorChain;

/// How long the candidate waits for an answer before it takes the connection for broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first of the lock's two keys. Locks with two keys never meet those with one, which idempotency takes.
const CLASS: i32 = 1;
/// How soon the server notices that a leader's machine is gone (seconds): until then nobody else can lead.
const KEEPALIVES: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "10"), ("tcp_keepalives_interval", "5"), ("tcp_keepalives_count", "3")];

/// How often a replica that doesn't lead asks whether it should: so much longer may the work be in coming when the leader dies.
pub const FOLLOW: Duration = Duration::from_secs(5);

/// What is done by one replica at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Duty {
    /// Comparing the mirror with Keycloak.
    Reconcile = 1,
    /// Asking Chatwoot for what no webhook has told.
    ReconcileChatwoot = 2,
    /// Carrying Keycloak's roles into the tools.
    Sync = 3,
    /// Carrying out one plan, by itself or at the command line.
    CarryOut = 4,
}

/// A replica that would do a duty.
#[derive(Debug)]
pub struct Candidate {
    duty: Duty,
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    leads: bool,
}

impl Candidate {
    pub(super) fn new(duty: Duty, options: PgConnectOptions) -> Self {
        Self { duty, options: options.options(KEEPALIVES), connection: None, leads: false }
    }

    /// Whether it is this replica's turn, which it isn't where that can't be asked.
    pub async fn leads_for_sure(&mut self) -> bool {
        let asked = self.leads().await;
        asked.unwrap_or_else(|error| {
            tracing::warn!(duty = ?self.duty, error = %ErrorChain(&error), "whose turn it is could not be asked; it is not this replica's");
            false
        })
    }

    /// Whether it is this replica's turn: asked before each round of the work, since a connection may be lost at any time.
    ///
    /// # Errors
    /// Where the database can't be asked; then it isn't.
    pub async fn leads(&mut self) -> Result<bool, sqlx::Error> {
        let asked = match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(asked) => asked,
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        };
        if asked.is_err() {
            // Whether the session still holds the lock can't be known: closing it gives the lock back.
            self.connection = None;
            self.leads = false;
        }
        asked
    }

    async fn ask(&mut self) -> Result<bool, sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.options.connect().await?),
        };
        if self.leads {
            connection.ping().await?;
        } else {
            self.leads = sqlx::query_scalar!(
                r#"SELECT pg_try_advisory_lock($1, $2) AS "locked!""#,
                CLASS,
                self.duty as i32
            )
            .fetch_one(connection)
            .await?;
        }
        Ok(self.leads)
    }

    /// Lets another replica take over.
    pub async fn resign(mut self) {
        if let Some(connection) = self.connection.take() {
            // The session's end gives the lock back, however it ends.
            let _ = tokio::time::timeout(PATIENCE, connection.close()).await;
        }
    }
}
