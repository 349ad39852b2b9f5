//! Listening and serving.

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;

use tower::ServiceExt as _;

use super::{middleware::Peer, router::router};
use crate::{app::AppState, config::MetricsConfig, lifecycle::Lifecycle};

/// Latencies from half a millisecond to ten seconds.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
const ACCEPT_RETRY: std::time::Duration = std::time::Duration::from_millis(100);
const UPKEEP: std::time::Duration = std::time::Duration::from_secs(5);

/// Listens at `address`.
///
/// # Errors
/// Where it is taken or can't be listened at, in words for who started the server.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!(
                "{address} is taken: another program listens there. Stop it, or choose another address."
            )
        }
        _ => anyhow::Error::new(error).context(format!("it is not possible to listen at {address}")),
    })
}

/// Serves the application on `listener` until the process is asked to stop. Who sends the head of a request too slowly is
/// cut off; how long a request may then take is the router's affair.
pub fn serve(state: &AppState, listener: TcpListener) {
    let (router, stop) = (router(state.clone()), state.lifecycle.soft.clone());
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(HEAD_TIMEOUT))
        .max_concurrent_streams(200);
    let connections = GracefulShutdown::new();
    state.lifecycle.spawn(async move {
        loop {
            let (stream, peer) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of file descriptors, as a rule: it passes when connections end.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                        continue;
                    }
                },
            };
            // An event is to leave at once.
            let _ = stream.set_nodelay(true);
            let peer = Peer(peer.ip());
            let service = router.clone().map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                request
            });
            let service = TowerToHyperService::new(service);
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            let connection = connections.watch(connection);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(error, "a connection ended badly");
                }
            });
        }
        drop(listener);
        connections.shutdown().await;
    });
}

/// Serves the metrics on a listener of their own, where one is configured.
///
/// # Errors
/// Where the address makes no sense or is taken.
pub async fn start_metrics(
    config: &MetricsConfig,
    lifecycle: &Lifecycle,
) -> anyhow::Result<Option<SocketAddr>> {
    if config.listen.is_empty() {
        return Ok(None);
    }
    let address: SocketAddr = config
        .listen
        .parse()
        .context("metrics.listen must be an address with a port, as in 127.0.0.1:9090")?;
    let recorder =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?;
    let handle = recorder.install_recorder()?;
    let listener = bind(address).await?;
    let address = listener.local_addr()?;
    let (upkeep, stop) = (handle.clone(), lifecycle.soft.clone());
    lifecycle.spawn(async move {
        // Samples pile up between two scrapes otherwise.
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => upkeep.run_upkeep(),
            }
        }
    });
    let stop = lifecycle.soft.clone();
    lifecycle.spawn(async move {
        let router = axum::Router::new()
            .route("/metrics", axum::routing::get(move || std::future::ready(handle.render())));
        let _ = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    });
    Ok(Some(address))
}
