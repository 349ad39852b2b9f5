use std::{fmt::Write as _, sync::Arc};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction, pool::PoolConnection};
use uuid::Uuid;

use super::{Database, Wakeups};
use crate::{
    auth::Principal,
    ids::{SharedIds, TenantId, UserId},
};

/// On whose behalf a transaction runs.
#[derive(Debug, Clone)]
pub enum Actor {
    /// Somebody or something that has proven who it is.
    Principal(Arc<Principal>),
    /// Nobody in particular: a job, an expiry.
    System,
}

impl Actor {
    /// The user's id, where there is one.
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::Principal(principal) => Some(principal.id),
            Self::System => None,
        }
    }
}

/// A transaction in which row-level security shows the actor's tenants and admits writes to one.
///
/// It carries the time (one for the whole transaction) and the ids, and does nothing unless committed. Whoever appended
/// events or enqueued jobs in it needn't tell anybody: the commit does.
#[derive(Debug)]
pub struct TenantTx {
    tx: Transaction<'static, Postgres>,
    actor: Actor,
    tenant: Option<TenantId>,
    now: DateTime<Utc>,
    ids: SharedIds,
    wakeups: Wakeups,
    unneeded_jobs: Arc<[&'static str]>,
    has_jobs: bool,
    has_events: bool,
}

impl TenantTx {
    pub(super) async fn begin(
        database: &Database,
        pool: &PgPool,
        actor: Actor,
        tenant: Option<TenantId>,
    ) -> Result<Self, sqlx::Error> {
        // BEGIN and the settings are one round trip. Only UUIDs are written into the text, so it can't be bent.
        let mut begin = String::from("BEGIN; SELECT ");
        let user = actor.user().map(|user| user.0.to_string()).unwrap_or_default();
        let _ = write!(begin, "set_config('app.actor_id', '{user}', true), ");
        let _ = write!(
            begin,
            "set_config('app.tenant_id', '{}', true), ",
            tenant.map(|tenant| tenant.0.to_string()).unwrap_or_default()
        );
        begin.push_str("set_config('app.tenant_ids', '{");
        if let Actor::Principal(principal) = &actor {
            for (index, id) in principal.tenant_ids().into_iter().enumerate() {
                let separator = if index == 0 { "" } else { "," };
                let _ = write!(begin, "{separator}{}", id.0);
            }
        }
        begin.push_str("}', true)");
        let tx = super::begin(pool, AssertSqlSafe(begin)).await?;
        Ok(Self {
            tx,
            actor,
            tenant,
            now: database.clock.now(),
            ids: Arc::clone(&database.ids),
            wakeups: database.wakeups.clone(),
            unneeded_jobs: Arc::clone(&database.unneeded_jobs),
            has_jobs: false,
            has_events: false,
        })
    }

    /// From here on, writes go to `tenant`.
    ///
    /// # Errors
    /// Where the database can't be asked.
    pub async fn enter(&mut self, tenant: TenantId) -> Result<(), sqlx::Error> {
        if self.tenant != Some(tenant) {
            sqlx::query!("SELECT set_config('app.tenant_id', $1, true)", tenant.0.to_string())
                .fetch_one(&mut *self.tx)
                .await?;
            self.tenant = Some(tenant);
        }
        Ok(())
    }

    /// The connection, for a query.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// On whose behalf it runs.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// The tenant that is written to, once entered.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// The time of this transaction.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// A new id for this transaction's time.
    pub fn new_id(&self) -> Uuid {
        self.ids.uuid_v7(self.now)
    }

    /// Ids and randomness.
    pub fn ids(&self) -> &SharedIds {
        &self.ids
    }

    /// Whether jobs of this kind do anything here.
    pub(crate) fn needs_job(&self, kind: &str) -> bool {
        !self.unneeded_jobs.contains(&kind)
    }

    /// Says that a job was enqueued: the workers are woken after the commit.
    pub(crate) fn enqueued(&mut self) {
        self.has_jobs = true;
    }

    /// Says that an event was appended: the streams are woken after the commit.
    pub(crate) fn appended(&mut self) {
        self.has_events = true;
    }

    /// Makes it durable, and wakes who waits for it.
    ///
    /// # Errors
    /// Where the database says no; nothing has happened then.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        self.tx.commit().await?;
        if self.has_jobs {
            self.wakeups.jobs_committed();
        }
        if let Some(tenant) = self.tenant.filter(|_| self.has_events) {
            self.wakeups.events_committed(tenant);
        }
        Ok(())
    }
}

/// One statement that is a transaction of its own, for an actor: a whole command, or a whole reading, in one round trip.
///
/// It calls a function that begins by setting what row-level security goes by, until the statement ends; without that there are
/// no rows.
#[derive(Debug)]
pub struct TenantStatement {
    connection: PoolConnection<Postgres>,
    principal: Arc<Principal>,
    now: DateTime<Utc>,
    ids: SharedIds,
    wakeups: Wakeups,
    unneeded_jobs: Arc<[&'static str]>,
}

impl TenantStatement {
    pub(super) async fn new(
        database: &Database,
        pool: &PgPool,
        principal: Arc<Principal>,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self {
            connection: pool.acquire().await?,
            principal,
            now: database.clock.now(),
            ids: Arc::clone(&database.ids),
            wakeups: database.wakeups.clone(),
            unneeded_jobs: Arc::clone(&database.unneeded_jobs),
        })
    }

    /// The connection, for the one query.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// On whose behalf it runs.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The time of this transaction.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// A new id for this transaction's time.
    pub fn new_id(&self) -> Uuid {
        self.ids.uuid_v7(self.now)
    }

    /// Whether jobs of this kind do anything here.
    pub(crate) fn needs_job(&self, kind: &str) -> bool {
        !self.unneeded_jobs.contains(&kind)
    }

    /// Says what the statement has written, and wakes who waits for it: jobs, and the events of a tenant.
    pub fn committed(self, has_jobs: bool, events_of: Option<TenantId>) {
        if has_jobs {
            self.wakeups.jobs_committed();
        }
        if let Some(tenant) = events_of {
            self.wakeups.events_committed(tenant);
        }
    }
}
