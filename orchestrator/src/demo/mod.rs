//! `chancery demo`: the whole suite on one machine. PostgreSQL is found or downloaded, each tool is its double, and
//! Chancery itself is what `serve` runs, with settings that point at them.

mod data_dir;
mod database;
mod doubles;
mod once;
mod people;
mod seed;
mod visitor;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;

pub use data_dir::{DataDir, Secrets};
pub use database::{Logins, provision};
pub use doubles::{Addresses, Doubles, Listeners, REALM};
pub use people::{PEOPLE, Person};
pub use seed::seed;

use crate::{
    app::{AppState, Environment},
    clock::{SharedClock, SystemClock},
    config::{Config, LogConfig, LogFormat},
    http::server,
    ids::{RandomIds, SharedIds},
    lifecycle::Lifecycle,
    telemetry,
};

/// The arguments of `chancery demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArguments {
    /// Where everything is kept: the database, the doubles' state, the keys
    #[arg(long, value_name = "DIR", default_value = ".chancery")]
    data_dir: PathBuf,
    /// Where Chancery listens; Keycloak's, Chatwoot's, Matrix's and Jitsi's doubles take the next four ports
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Play the main job once over HTTP, print each step with its duration, and stop
    #[arg(long)]
    once: bool,
    /// Remove everything that earlier runs have kept, then start anew
    #[arg(long)]
    reset: bool,
    /// Say more of what happens inside
    #[arg(long, short)]
    verbose: bool,
}

/// Runs the demo until it is asked to stop.
///
/// # Errors
/// What went wrong, for the one who typed the command.
pub async fn run(arguments: DemoArguments) -> anyhow::Result<()> {
    let filter = if arguments.verbose { "info,chancery=debug" } else { "warn" };
    telemetry::start_logging(&LogConfig { format: LogFormat::Text, filter: filter.to_owned() })?;
    anyhow::ensure!(
        matches!(arguments.listen.ip(), IpAddr::V4(address) if address.is_loopback()),
        "the demo listens on this machine alone, and {} is not an IPv4 loopback address",
        arguments.listen.ip()
    );
    let clock: SharedClock = Arc::new(SystemClock);
    let ids: SharedIds = Arc::new(RandomIds);
    if arguments.reset {
        DataDir::reset(&arguments.data_dir).await?;
        say(&format!("What earlier runs had kept in {} is removed.", arguments.data_dir.display()));
    }
    // The ports first: the commonest obstacle is told before anything is touched.
    let listener = server::bind(arguments.listen).await?;
    let addresses = Addresses::after(listener.local_addr()?)?;
    let listeners = doubles::Listeners::bind(&addresses).await?;
    let data_dir = DataDir::open(&arguments.data_dir, &*ids)?;
    let running = tokio::select! {
        running = Running::start(&data_dir, &addresses, listener, listeners, clock, ids) => running?,
        stopped = Lifecycle::signalled() => { stopped?; return Ok(()); }
    };
    let result = if arguments.once {
        once::play(&running).await
    } else {
        say(&welcome(&addresses, &arguments));
        Lifecycle::signalled().await.map_err(Into::into)
    };
    if !arguments.once {
        say("Stopping …");
    }
    running.stop().await?;
    result
}

/// Everything that runs in a demo.
pub(crate) struct Running {
    state: AppState,
    doubles: Doubles,
    addresses: Addresses,
    postgres: Option<local_postgres::LocalPostgres>,
}

impl Running {
    async fn start(
        data_dir: &DataDir,
        addresses: &Addresses,
        listener: tokio::net::TcpListener,
        listeners: doubles::Listeners,
        clock: SharedClock,
        ids: SharedIds,
    ) -> anyhow::Result<Self> {
        let (database, postgres) = database::bring(data_dir).await?;
        let doubles = Doubles::open(data_dir, addresses, &clock, &ids)?;
        let lifecycle = Lifecycle::new();
        doubles.serve(listeners, &lifecycle);
        let mut config = Config::defaults()?;
        config.http.listen = addresses.chancery;
        config.http.public_url = addresses.public_url()?;
        config.http.additional_hosts = addresses.additional_hosts();
        // The double of Element may show what somebody finds in our sidebar.
        config.navigation.origins = vec![format!("http://{}", addresses.matrix)];
        config.crypto.key_file = data_dir.key_file();
        config.database.url = database.app_url.into();
        config.database.worker_url = database.worker_url.into();
        doubles.configure(&mut config, data_dir);
        let start_page = Some(Arc::new(people::start_page(addresses)));
        let state = AppState::start(config, Environment { clock, ids, lifecycle, start_page }).await?;
        server::serve(&state, listener);
        seed(&state, &doubles, data_dir)
            .await
            .context("the demo's tenants and webhooks could not be set up")?;
        state.spawn_background();
        Ok(Self { state, doubles, addresses: addresses.clone(), postgres })
    }

    /// Stops Chancery, then the doubles, then PostgreSQL.
    async fn stop(self) -> anyhow::Result<()> {
        self.state.lifecycle.stop().await;
        self.state.database.close().await;
        if let Some(postgres) = self.postgres {
            postgres.stop().await.context("PostgreSQL did not stop cleanly")?;
        }
        Ok(())
    }
}

/// How long a step of `--once` may take.
const STEP_DEADLINE: Duration = Duration::from_secs(15);

fn welcome(addresses: &Addresses, arguments: &DemoArguments) -> String {
    let port = addresses.chancery.port();
    format!(
        "\nChancery is running. Open  http://127.0.0.1:{port}/  and follow the story.\n\n\
         \x20 Keycloak  {}   who people are (pick one, no password)\n\
         \x20 Chatwoot  {}   the customer's widget and the agent's inbox\n\
         \x20 Matrix    {}   the team's rooms\n\
         \x20 Jitsi     {}   video rooms\n\n\
         These four are doubles: real servers on this machine that answer as the real ones do.\n\
         Everything is kept in {}; `chancery demo --reset` removes it. Ctrl-C stops.",
        addresses.url(addresses.keycloak),
        addresses.url(addresses.chatwoot),
        addresses.url(addresses.matrix),
        addresses.url(addresses.jitsi),
        arguments.data_dir.display(),
    )
}

/// Tells whoever started the demo.
#[expect(clippy::print_stdout, reason = "the demo talks to whoever started it")]
fn say(text: &str) {
    println!("{text}");
}
