#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that can't go on panics"
)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, TimeZone as _, Utc};
use connector_keycloak::fake::{NewUser, Signature};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _, postgres::PgPoolOptions,
};
use tokio::net::TcpListener;

use super::{
    browser::Browser,
    client::{Answer, Client},
    template::{CHATWOOT_SECRET, Template, configure, random_name, with_database},
};
use crate::{
    app::{AppState, Environment},
    clock::{Clock as _, MockClock, SharedClock},
    config::Config,
    db::migrate::identifier,
    demo::{Addresses, Doubles, Listeners},
    http::{router, server},
    ids::{RandomIds, SharedIds, SourceId, TenantId, UserId},
    lifecycle::Lifecycle,
};

/// The organization of the agent, the CEO and the viewer, whose customers write in Chatwoot.
pub const ACME: &str = "/organizations/acme-corp";
/// The organization of the outsider.
pub const GLOBEX: &str = "/organizations/globex";
/// The team of the engineer; the CEO approves there, too.
pub const ENGINEERING: &str = "/teams/engineering";

/// When every test begins.
pub(super) fn start_time() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 3, 2, 9, 0, 0).unwrap()
}

/// The application with a database and doubles of its own.
///
/// Time stands still until [`TestApp::clock`] is moved, for the application and the doubles alike. Jobs and received
/// webhooks wait for [`TestApp::run_jobs`]. The doubles send nothing unless a test connects them.
#[derive(Debug)]
pub struct TestApp {
    state: AppState,
    doubles: Doubles,
    addresses: Addresses,
    clock: Arc<MockClock>,
    http: reqwest::Client,
    superuser: PgPool,
    database: String,
    template: &'static Template,
    directory: PathBuf,
    may_leave_jobs: AtomicBool,
}

/// Another replica of a [`TestApp`].
#[derive(Debug)]
pub struct Replica {
    /// Its state.
    pub state: AppState,
    /// Where it listens: `http://127.0.0.1:4711`.
    pub origin: String,
}

impl TestApp {
    /// Starts an application.
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    /// Starts an application with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::try_start(change).await.expect("the application starts")
    }

    async fn try_start(change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let server = local_postgres::test_server_url().await?;
        let template = Template::get(&server).await?;
        let database = random_name("chancery_test_");
        template.copy(&database).await?;
        let clock = Arc::new(MockClock::new(start_time()));
        let shared_clock: SharedClock = clock.clone();
        let ids: SharedIds = Arc::new(RandomIds);
        let (directory, data_dir) = template.data_dir(&ids)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (addresses, listeners) = Listeners::ephemeral(listener.local_addr()?).await?;
        let doubles = Doubles::open(&data_dir, &addresses, &shared_clock, &ids)?;
        let lifecycle = Lifecycle::new();
        doubles.serve(listeners, &lifecycle);
        let (app_url, worker_url) =
            (with_database(&template.app_url, &database)?, with_database(&template.worker_url, &database)?);
        let mut config = configure(&addresses, &data_dir, &doubles, &app_url, &worker_url)?;
        change(&mut config);
        let environment = Environment { clock: shared_clock, ids, lifecycle, start_page: None };
        let state = AppState::start(config, environment).await?;
        server::serve(&state, listener);
        let superuser = PgPoolOptions::new()
            .max_connections(3)
            .connect_lazy(&with_database(&template.superuser_url, &database)?)?;
        Ok(Self {
            state,
            doubles,
            addresses,
            clock,
            http: reqwest::Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            superuser,
            database,
            template,
            directory,
            may_leave_jobs: AtomicBool::new(false),
        })
    }

    /// Another replica: the same settings, database, tools and time, in a process of its own but for the process.
    pub async fn replica(&self) -> Replica {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = self.state.config.clone();
        config.http.listen = address;
        config.http.additional_hosts.push(address.to_string());
        let environment = Environment {
            clock: self.clock.clone(),
            ids: Arc::new(RandomIds),
            lifecycle: self.state.lifecycle.clone(),
            start_page: None,
        };
        let state = AppState::start(config, environment).await.expect("the replica starts");
        server::serve(&state, listener);
        Replica { state, origin: format!("http://{address}") }
    }

    /// A browser that nobody has signed in with.
    pub fn browser(&self) -> Browser {
        Browser::new(self.http.clone(), format!("http://{}", self.addresses.chancery))
    }

    /// The application's state.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// The application without a network, for requests that no HTTP client would send.
    pub fn router(&self) -> axum::Router {
        router::router(self.state.clone())
    }

    /// Keycloak's, Chatwoot's, Matrix's and Jitsi's doubles.
    pub fn doubles(&self) -> &Doubles {
        &self.doubles
    }

    /// Where everything listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The clock of the application and of its doubles.
    pub fn clock(&self) -> &MockClock {
        &self.clock
    }

    /// What the clock shows.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The database as its superuser, whom row-level security doesn't hold: to look, and to tamper.
    pub fn superuser(&self) -> &PgPool {
        &self.superuser
    }

    /// A connection with the app's login.
    pub async fn app_login(&self) -> PgConnection {
        PgConnection::connect(&with_database(&self.template.app_url, &self.database).unwrap()).await.unwrap()
    }

    /// A connection with the worker's login.
    pub async fn worker_login(&self) -> PgConnection {
        PgConnection::connect(&with_database(&self.template.worker_url, &self.database).unwrap())
            .await
            .unwrap()
    }

    /// The name of the app's login, or of the worker's.
    pub fn role(&self, kind: &str) -> String {
        format!("{}_{kind}", self.template.database)
    }

    /// A number that a query of the superuser's gives.
    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.superuser).await.unwrap()
    }

    /// The number of rows of every table: what a refused request must not change.
    pub async fn row_counts(&self) -> Vec<(String, i64)> {
        self.state.refusals.settled().await;
        let tables = sqlx::query("SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1")
            .fetch_all(&self.superuser)
            .await
            .unwrap();
        let mut counts = Vec::new();
        for table in tables {
            let table: String = table.get(0);
            let sql = AssertSqlSafe(format!("SELECT count(*) FROM {}", identifier(&table)));
            let count: i64 = sqlx::query_scalar(sql).fetch_one(&self.superuser).await.unwrap();
            counts.push((table, count));
        }
        counts
    }

    /// Processes what was received, runs the jobs that are due and delivers to endpoints, until there is nothing left; says how
    /// much it was.
    pub async fn run_jobs(&self) -> usize {
        let (processor, worker) = (self.state.processor(), self.state.worker());
        let deliverer = self.state.deliverer();
        let mut ran = 0;
        loop {
            let round = processor.run_due().await.unwrap()
                + worker.run_due().await.unwrap()
                + deliverer.run_due().await.unwrap();
            if round == 0 {
                return ran;
            }
            ran += round;
        }
    }

    /// Says that this test may end with work left over, or with work that failed.
    pub fn leave_jobs(&self) {
        self.may_leave_jobs.store(true, Ordering::SeqCst);
    }

    /// The id of the group at this path.
    pub fn tenant(&self, path: &str) -> TenantId {
        TenantId(self.doubles.keycloak.group_id(path).unwrap())
    }

    /// The id of a user.
    pub fn user(&self, username: &str) -> UserId {
        UserId(self.doubles.keycloak.user_id(username).unwrap())
    }

    /// The source of acme's Chatwoot webhooks.
    pub fn chatwoot_source(&self) -> SourceId {
        self.template.chatwoot_source
    }

    /// What its deliveries are signed with.
    pub fn chatwoot_secret(&self) -> SecretString {
        CHATWOOT_SECRET.to_owned().into()
    }

    /// The source of acme's Matrix transactions.
    pub fn matrix_source(&self) -> SourceId {
        self.template.matrix_source
    }

    /// Delivers an event as Chatwoot would, signed.
    pub async fn deliver(&self, event: &Value) -> Answer {
        let body = event.to_string();
        let signature =
            connector_chatwoot::webhook::sign(&self.chatwoot_secret(), self.now(), body.as_bytes());
        let nobody = self.nobody();
        let request = nobody
            .request(axum::http::Method::POST, &format!("/webhooks/chatwoot/{}", self.chatwoot_source()))
            .header("content-type", "application/json")
            .header("x-chatwoot-timestamp", self.now().timestamp().to_string())
            .header("x-chatwoot-signature", signature)
            .body(body);
        nobody.send(request).await
    }

    /// Whoever has no token.
    pub fn nobody(&self) -> Client {
        Client { http: self.http.clone(), origin: format!("http://{}", self.addresses.chancery), token: None }
    }

    /// A user of Keycloak's with a token for the API.
    pub fn person(&self, username: &str) -> Client {
        self.nobody().with_token(self.mint(username, &json!({}), Signature::Valid))
    }

    /// The same user, who has just confirmed who they are (the second level of authentication).
    pub fn confirmed(&self, username: &str) -> Client {
        let claims = json!({ "acr": "2", "auth_time": self.now().timestamp() });
        self.nobody().with_token(self.mint(username, &claims, Signature::Valid))
    }

    /// A token of the shell's client for the API, its claims overridden and its signature as told.
    pub fn mint(&self, username: &str, overrides: &Value, signature: Signature) -> String {
        let client =
            if username.starts_with("service-account-") { "chancery-automation" } else { "chancery-shell" };
        let overrides = overrides.as_object().cloned().unwrap_or_else(Map::new);
        self.doubles.keycloak.mint_access_token(client, username, overrides, signature).unwrap()
    }

    /// Adds a user to Keycloak and to these groups.
    pub fn add_person(&self, username: &str, groups: &[&str]) -> Client {
        let user = NewUser {
            username: username.to_owned(),
            email: Some(format!("{username}@example.test")),
            email_verified: true,
            groups: groups.iter().map(ToString::to_string).collect(),
            ..NewUser::default()
        };
        self.doubles.keycloak.create_user(user).unwrap();
        self.person(username)
    }

    /// An agent of acme's.
    pub fn agent(&self) -> Client {
        self.person("acme-agent")
    }

    /// Who approves at acme's and in engineering.
    pub fn ceo(&self) -> Client {
        self.person("acme-ceo")
    }

    /// Who only reads at acme's.
    pub fn viewer(&self) -> Client {
        self.person("acme-viewer")
    }

    /// An agent of engineering.
    pub fn engineer(&self) -> Client {
        self.person("engineer")
    }

    /// An agent of globex: a stranger to the others.
    pub fn outsider(&self) -> Client {
        self.person("outsider")
    }

    /// Who runs the suite and is in no tenant.
    pub fn suite_admin(&self) -> Client {
        self.person("suite-admin")
    }

    /// A machine with an agent's role at acme's.
    pub fn automation(&self) -> Client {
        self.person("service-account-chancery-automation")
    }
}

/// What is left over in a database: what is due, and what failed for good.
async fn left_over(database: &str, now: DateTime<Utc>) -> Result<Vec<String>, sqlx::Error> {
    let mut superuser = PgConnection::connect(database).await?;
    let rows = sqlx::query(
        "SELECT kind || ' ' || key || ' (' || state || coalesce(': ' || last_error, '') || ')' FROM jobs
         WHERE state IN ('running', 'dead') OR (state = 'ready' AND run_at <= $1)
         UNION ALL
         SELECT 'inbox event ' || event_id || ' (pending)' FROM inbox_pending
         UNION ALL
         SELECT 'inbox event ' || event_id || ' (' || state || coalesce(': ' || last_error, '') || ')' FROM inbox_failures
         WHERE state IN ('dead', 'parked', 'replaying') OR (state = 'ready' AND run_at <= $1)
         UNION ALL
         SELECT 'delivery of ' || event_type || ' to ' || url FROM webhook_deliveries AS delivery
         JOIN webhook_endpoints AS endpoint ON endpoint.tenant_id = delivery.tenant_id AND endpoint.id = endpoint_id
         WHERE delivery.state = 'pending' AND next_attempt_at <= $1 AND endpoint.state = 'active'",
    )
    .bind(now)
    .fetch_all(&mut superuser)
    .await?;
    superuser.close().await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

async fn drop_database(server: &str, database: &str) -> Result<(), sqlx::Error> {
    let mut superuser = PgConnection::connect(server).await?;
    superuser.execute(AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", identifier(database)))).await?;
    superuser.close().await
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.state.lifecycle.soft.cancel();
        self.state.lifecycle.hard.cancel();
        let (server, database, now) =
            (self.template.superuser_url.clone(), self.database.clone(), self.now());
        // The test's runtime can't be waited for in here.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let left = left_over(&with_database(&server, &database).ok()?, now).await.ok();
                drop_database(&server, &database).await.ok()?;
                left
            })
        })
        .join();
        let _ = std::fs::remove_dir_all(&self.directory);
        if std::thread::panicking() || self.may_leave_jobs.load(Ordering::SeqCst) {
            return;
        }
        match cleaned {
            Ok(Some(left)) => {
                assert!(left.is_empty(), "the test ends and leaves this undone:\n{}", left.join("\n"));
            }
            _ => panic!("the test's database could not be looked at and removed"),
        }
    }
}
