//! The application: everything a handler or a job needs, put together once.

use std::{ops::Deref, sync::Arc};

use connector_core::egress::{EgressClient, EgressError};
use connector_keycloak::{KeycloakAdmin, KeycloakSettings};
use tokio::sync::Notify;

use crate::{
    approvals,
    auth::{
        Refusals,
        keys::Keys,
        late_ends,
        oidc::OpenIdClient,
        session::{Sessions, StorageError},
    },
    clock::SharedClock,
    config::{Config, ConfigError, NavigationCaller},
    consultations, conversations,
    crypto::{CryptoError, MasterKey},
    db::{ConnectError, Database},
    directory::{Directory, Reconciler},
    doctor::Lately,
    endpoints::{self, Deliverer},
    ids::SharedIds,
    inbox::{Intake, Lanes, Processor, Reconciling, Upkeep},
    jobs::{Registry, Worker},
    lifecycle::Lifecycle,
    limits::Limits,
    matrix,
    realtime::{Hub, OpenStreams},
    sources::SourceCache,
    sync::Syncing,
    tools::{Tools, ToolsError},
};

/// Why the application can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database.
    #[error(transparent)]
    Database(#[from] ConnectError),
    /// The master key.
    #[error(transparent)]
    MasterKey(#[from] CryptoError),
    /// A tool.
    #[error(transparent)]
    Tools(#[from] ToolsError),
    /// Keycloak's connector.
    #[error(transparent)]
    Keycloak(#[from] connector_core::ConnectorError),
    /// The storage of sign-ins.
    #[error("redis.url can't be used")]
    Sessions(#[from] StorageError),
    /// An HTTP client.
    #[error("the HTTP client can't be set up")]
    Http(#[from] reqwest::Error),
    /// The client for tenants' own endpoints.
    #[error("the client for outgoing webhooks can't be set up")]
    Egress(#[from] EgressError),
}

/// What [`AppState`] shares.
#[derive(Debug)]
pub struct App {
    /// The settings.
    pub config: Config,
    /// Time.
    pub clock: SharedClock,
    /// Ids and randomness.
    pub ids: SharedIds,
    /// The two doors to the database.
    pub database: Database,
    /// Seals secrets at rest.
    pub master_key: Arc<MasterKey>,
    /// The issuer of tokens.
    pub issuer: String,
    /// Keycloak's signing keys.
    pub keys: Arc<Keys>,
    /// Sign-in.
    pub openid: OpenIdClient,
    /// Who is signed in.
    pub sessions: Sessions,
    /// How much may be asked for.
    pub limits: Limits,
    /// The mirror of Keycloak.
    pub directory: Directory,
    /// Where it is recorded who named a tenant of others.
    pub refusals: Refusals,
    /// The tenants' event streams.
    pub hub: Hub,
    /// How many of them everybody has open.
    pub streams: OpenStreams,
    /// The tools.
    pub tools: Tools,
    /// The shell's texts and assets.
    pub ui: shell_ui::Ui,
    /// The sources of webhooks, remembered for a moment.
    pub sources: SourceCache,
    /// The tools that may ask for anybody's navigation.
    pub navigation_callers: Vec<NavigationCaller>,
    /// Starting and stopping.
    pub lifecycle: Lifecycle,
    /// Where received webhooks are handed in.
    pub intake: Intake,
    /// The lanes of the inbox that have something to process.
    pub inbox_lanes: Arc<Lanes>,
    /// Calls tenants' own endpoints.
    pub egress: EgressClient,
    /// How the installation was when somebody looked last.
    pub doctor: Lately,
    /// Woken when something is to be delivered to them.
    pub lanes_due: Notify,
    /// What the start page shows; none but in the demo.
    pub start_page: Option<Arc<crate::pages::StartPage>>,
}

/// The application's state, cheap to clone.
#[derive(Debug, Clone)]
pub struct AppState(Arc<App>);

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}

/// What comes from outside, so that tests are exact.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Time.
    pub clock: SharedClock,
    /// Ids and randomness.
    pub ids: SharedIds,
    /// Starting and stopping.
    pub lifecycle: Lifecycle,
    /// What the start page shows; none but in the demo.
    pub start_page: Option<Arc<crate::pages::StartPage>>,
}

impl AppState {
    /// Connects to the database and puts the application together. Keycloak and the tools needn't be up.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        config.validate_for_serving()?;
        let Environment { clock, ids, lifecycle, start_page } = environment;
        let master_key = Arc::new(MasterKey::read(&config.crypto.key_file)?);
        let tools = Tools::connect(&config, &clock)?;
        let navigation_callers = config.navigation.callers()?;
        let database = Database::connect(
            &config.database,
            Arc::clone(&clock),
            Arc::clone(&ids),
            [approvals::unneeded_jobs(&tools, &config), consultations::unneeded_jobs(&tools)].concat(),
        )
        .await?;
        let issuer = config.keycloak.issuer()?;
        let issuer_url = crate::config::parse_url("keycloak.url", &issuer)?;
        let keys = Arc::new(Keys::new(issuer_url, Arc::clone(&clock)));
        let openid = OpenIdClient::new(
            &config.keycloak,
            &config.step_up,
            Arc::clone(&keys),
            Arc::clone(&clock),
            Arc::clone(&ids),
        )?;
        let settings = KeycloakSettings {
            url: config.keycloak.base()?,
            realm: config.keycloak.realm.clone(),
            client_id: config.keycloak.sync_client_id.clone(),
            client_secret: config.keycloak.sync_client_secret.clone(),
        };
        let keycloak = Arc::new(KeycloakAdmin::new(settings, Arc::clone(&clock))?);
        let directory = Directory::new(database.clone(), keycloak, Arc::clone(&clock));
        let refusals = Refusals::start(database.clone(), Arc::clone(&clock), &lifecycle);
        let hub = Hub::start(database.clone(), lifecycle.soft.clone());
        let sessions = Sessions::new(
            &config.session,
            &config.redis,
            Arc::clone(&master_key),
            Arc::clone(&clock),
            Arc::clone(&ids),
            lifecycle.soft.clone(),
        )?;
        let egress = EgressClient::new(config.webhooks.policy())?;
        let limits = Limits::new(&config.limits, &clock);
        let streams = OpenStreams::new(&config.limits);
        let ui = shell_ui::Ui::new(&config.http.assets_url);
        let inbox_lanes = Arc::new(Lanes::default());
        // To the hard end: what requests have handed in is stored and answered.
        let intake = Intake::start(
            database.clone(),
            Arc::clone(&clock),
            Arc::clone(&inbox_lanes),
            &config.inbox,
            lifecycle.hard.clone(),
        );
        Ok(Self(Arc::new(App {
            config,
            clock,
            ids,
            database,
            master_key,
            issuer,
            keys,
            openid,
            sessions,
            limits,
            directory,
            refusals,
            hub,
            streams,
            tools,
            ui,
            sources: SourceCache::default(),
            navigation_callers,
            lifecycle,
            intake,
            inbox_lanes,
            egress,
            doctor: Lately::default(),
            lanes_due: Notify::new(),
            start_page,
        })))
    }

    /// The handlers of all jobs.
    pub fn registry() -> Registry {
        let registry = conversations::handlers(approvals::handlers(Registry::default()));
        endpoints::handlers(late_ends::handlers(consultations::handlers(matrix::handlers(registry))))
    }

    /// The worker of the queue.
    pub fn worker(&self) -> Worker {
        Worker::new(self.clone(), Self::registry())
    }

    /// The processor of the inbox.
    pub fn processor(&self) -> Processor {
        Processor::new(self.clone())
    }

    /// The deliverer of outgoing webhooks.
    pub fn deliverer(&self) -> Deliverer {
        Deliverer::new(self.clone())
    }

    /// Starts what runs beside the requests: jobs, the inbox, outgoing webhooks, comparing with Keycloak and Chatwoot, and carrying
    /// roles into the tools.
    pub fn spawn_background(&self) {
        self.lifecycle.spawn(self.worker().run(self.config.jobs.workers));
        self.lifecycle.spawn(self.processor().run(self.config.inbox.workers));
        self.lifecycle.spawn(Upkeep::new(self.clone()).run());
        self.lifecycle.spawn(Reconciling::new(self.clone()).run());
        self.lifecycle.spawn(Syncing::new(self.clone()).run());
        self.lifecycle.spawn(self.deliverer().run(self.config.webhooks.workers));
        self.lifecycle.spawn(self.database.clone().listen_to_replicas(self.lifecycle.soft.clone()));
        self.lifecycle.spawn(late_ends::hurry(self.clone()));
        self.lifecycle.spawn(matrix::ping_at_start(self.clone()));
        self.lifecycle.spawn(matrix::watch_dead_letters(self.clone()));
        let reconciler = Reconciler::new(self.directory.clone(), self.config.reconcile_period());
        self.lifecycle.spawn(reconciler.run(self.lifecycle.soft.clone()));
    }
}
