use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::{
    app::{AppState, Environment},
    clock::{SharedClock, SystemClock},
    config::Config,
    http::server,
    ids::RandomIds,
    lifecycle::Lifecycle,
    pages, telemetry,
};

pub(super) async fn run(config: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(config)?;
    telemetry::start_logging(&config.log).context("log.filter can't be understood")?;
    let lifecycle = Lifecycle::new();
    let metrics = server::start_metrics(&config.metrics, &lifecycle).await?;
    let listener = server::bind(config.http.listen).await?;
    if config.keycloak.url.is_empty() {
        return set_up(config, listener, lifecycle).await;
    }
    let environment = Environment {
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        lifecycle: lifecycle.clone(),
        start_page: None,
    };
    let state = AppState::start(config, environment).await?;
    state.spawn_background();
    server::serve(&state, listener);
    tracing::info!(address = %state.config.http.listen, public_url = %state.config.http.public_url, metrics = metrics.is_some(), "serving");
    if state.sessions.is_shared() {
        tracing::info!("sign-ins are kept in Redis");
    } else {
        tracing::info!(
            "sign-ins are kept in this process, which must be the only one: a restart signs everybody out"
        );
    }
    Lifecycle::signalled().await?;
    tracing::info!("stopping");
    lifecycle.stop().await;
    state.database.close().await;
    Ok(())
}

/// Shows what is missing as long as the settings don't say who people are: nobody could sign in.
async fn set_up(config: Config, listener: TcpListener, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let clock: SharedClock = Arc::new(SystemClock);
    let address = config.http.listen;
    server::serve_router(pages::setup_router(config, clock), &lifecycle, listener);
    tracing::error!(%address, "keycloak.url is missing, so that nobody can sign in: a page there says what else is");
    Lifecycle::signalled().await?;
    lifecycle.stop().await;
    Ok(())
}
