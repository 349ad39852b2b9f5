//! Listening and serving.

use std::{
    convert::Infallible,
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
};

use anyhow::Context as _;
use axum::{Router, body::Body, http::Request};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    handover::{self, Handover},
    middleware::Peer,
    router::router,
    stalled::Unstalled,
};
use crate::{app::AppState, config::MetricsConfig, lifecycle::Lifecycle};

/// Latencies from half a millisecond to ten seconds.
const SECONDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How long the head of a request may take to arrive.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
const ACCEPT_RETRY: std::time::Duration = std::time::Duration::from_millis(100);
const PREFACE_RETRY: std::time::Duration = std::time::Duration::from_millis(10);
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

/// Serves the application on `listener` until the process is asked to stop. Who sends the head of a request too slowly, or
/// doesn't read the answer, is cut off; how long a request may then take is the router's affair.
pub fn serve(state: &AppState, listener: TcpListener) {
    serve_router(router(state.clone()), &state.lifecycle, listener);
}

/// The same with another application.
pub fn serve_router(router: Router, lifecycle: &Lifecycle, listener: TcpListener) {
    let stop = lifecycle.soft.clone();
    let mut http1 = http1::Builder::new();
    http1.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2.timer(TokioTimer::new()).keep_alive_interval(Some(HEAD_TIMEOUT)).max_concurrent_streams(200);
    let connections = TaskTracker::new();
    lifecycle.spawn(async move {
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
            let (router, peer) = (router.clone(), Peer(peer.ip()));
            let (http1, http2) = (http1.clone(), http2.clone());
            let (tracker, stop) = (connections.clone(), stop.clone());
            connections.spawn(async move {
                let speaks_http2 = tokio::select! {
                    () = stop.cancelled() => return,
                    begun = tokio::time::timeout(HEAD_TIMEOUT, speaks_http2(&stream)) => match begun {
                        Ok(Ok(speaks_http2)) => speaks_http2,
                        Ok(Err(_)) | Err(_) => return,
                    },
                };
                let handover = Handover::default();
                let service = service(router, peer, handover.clone());
                let stream = TokioIo::new(Unstalled::new(stream, handover.clone()));
                // A task of its own: no larger than its protocol needs, for as long as the connection lasts.
                if speaks_http2 {
                    tracker.spawn(serve_http2(http2.serve_connection(stream, service), stop));
                } else {
                    let connection = http1.serve_connection(stream, service);
                    tracker.spawn(serve_http1(connection, handover, stop, tracker.clone()));
                }
            });
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    });
}

/// The application for the requests of one connection.
fn service(
    router: Router,
    peer: Peer,
    handover: Handover,
) -> impl HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send> + Unpin + Send {
    service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let handover = Handover::is_possible(&request).then(|| handover.clone());
        let answer = router.clone().oneshot(request);
        async move {
            let response = answer.await?;
            Ok(match handover {
                Some(handover) => handover.take_body(response),
                None => response,
            })
        }
    })
}

/// Serves a connection until it ends, or until all that is left of it is a body that lasts. When it is to stop, what is being
/// answered still is.
pub(super) async fn serve_http1<T, S>(
    mut connection: http1::Connection<TokioIo<Unstalled<T>>, S>,
    handover: Handover,
    stop: CancellationToken,
    connections: TaskTracker,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = Body, Error = Infallible> + Unpin,
{
    let mut is_stopping = false;
    let outcome = loop {
        let next = poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| None)),
            Poll::Pending => handover.complete().map_or(Poll::Pending, |body| Poll::Ready(Ok(Some(body)))),
        });
        tokio::select! {
            outcome = next => break outcome,
            () = stop.cancelled(), if !is_stopping => {
                is_stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    match outcome {
        // A task of its own again: much smaller than what hyper needs.
        Ok(Some(body)) => {
            let stream = connection.into_parts().io.into_inner();
            connections.spawn(async move { ended(handover::send(stream, body).await) });
        }
        Ok(None) => {}
        Err(error) => ended(Err(error)),
    }
}

async fn serve_http2<S>(
    connection: http2::Connection<TokioIo<Unstalled<TcpStream>>, S, TokioExecutor>,
    stop: CancellationToken,
) where
    S: HttpService<Incoming, ResBody = Body, Error = Infallible, Future: Send + 'static>,
{
    let mut connection = pin!(connection);
    ended(tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    });
}

fn ended<E: std::fmt::Display>(outcome: Result<(), E>) {
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Whether a connection begins as HTTP/2 does with prior knowledge (RFC 9113, section 3.4); nothing is taken from it. Asked
/// before it is served, because a server of both protocols costs each connection twice the buffer.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    const PREFACE: &[u8] = b"PRI";
    let mut begin = [0; PREFACE.len()];
    let mut pause = PREFACE_RETRY;
    loop {
        let read = stream.peek(&mut begin).await?;
        let begin = &begin[..read];
        if read == 0 || read == PREFACE.len() || !PREFACE.starts_with(begin) {
            return Ok(begin == PREFACE);
        }
        // What has arrived stays readable: ask again for the rest in a moment, and less and less often, so that who sends no
        // more costs nothing.
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn the_protocol_is_told_by_the_first_bytes_however_they_arrive_and_they_stay() {
        for (pieces, expected) in [
            (vec!["PRI * HTTP/2.0"], true),
            (vec!["P", "R", "I * HTTP/2.0"], true),
            (vec!["GET / HTTP/1.1"], false),
            (vec!["P", "OST / HTTP/1.1"], false),
            (vec!["PR", "OPFIND / HTTP/1.1"], false),
            (vec!["P"], false),
            (vec![], false),
        ] {
            let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.set_nodelay(true).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let sent = pieces.concat();
            let sending = tokio::spawn(async move {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await.unwrap();
                    tokio::time::sleep(PREFACE_RETRY).await;
                }
            });
            let told = tokio::time::timeout(HEAD_TIMEOUT / 10, speaks_http2(&stream)).await;
            // Who goes away after a beginning that both protocols have is noticed when its time is over.
            assert!(told.map_or(sent == "P", |told| told.unwrap() == expected), "{sent}");
            let mut received = String::new();
            stream.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, sent);
            sending.await.unwrap();
        }
    }
}
