//! Listening and serving.

use std::net::SocketAddr;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

use super::router::router;
use crate::{app::AppState, config::MetricsConfig, lifecycle::Lifecycle};

/// Latencies from half a millisecond to ten seconds.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Listens at `address`.
///
/// # Errors
/// Where it is taken or can't be listened at, in words for who started the server.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!("{address} is taken: another program listens there. Stop it, or choose another address.")
        }
        _ => anyhow::Error::new(error).context(format!("it is not possible to listen at {address}")),
    })
}

/// Serves the application on `listener` until the process is asked to stop.
pub fn serve(state: &AppState, listener: TcpListener) {
    let (router, stop) = (router(state.clone()), state.lifecycle.soft.clone());
    state.lifecycle.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "serving ended");
        }
    });
}

/// Serves the metrics on a listener of their own, where one is configured.
///
/// # Errors
/// Where the address makes no sense or is taken.
pub async fn start_metrics(config: &MetricsConfig, lifecycle: &Lifecycle) -> anyhow::Result<Option<SocketAddr>> {
    if config.listen.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr = config.listen.parse().context("metrics.listen must be an address with a port, as in 127.0.0.1:9090")?;
    let recorder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?;
    let handle = recorder.install_recorder()?;
    let listener = bind(address).await?;
    let address = listener.local_addr()?;
    let stop = lifecycle.soft.clone();
    lifecycle.spawn(async move {
        let router = axum::Router::new().route("/metrics", axum::routing::get(move || render(handle.clone())));
        let _ = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    });
    Ok(Some(address))
}

async fn render(handle: PrometheusHandle) -> String {
    handle.render()
}
