//! Bodies that go on for hours, such as event streams, over HTTP/1.1.
//!
//! Hyper keeps some 20 KiB for as long as a connection lasts: a buffer for reading, one for writing, the map of the last
//! headers. A body that lasts needs none of it once its head is written. So its connection is taken from hyper then, and
//! [`send`] writes what comes of the body, in the chunked coding that the head has announced (RFC 9112, section 7.1). The
//! connection ends with the body, as the head says, too.

use std::{
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderValue, Method, Request, Version, header},
    response::Response,
};
use bytes::Buf as _;
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Marks a response whose body lasts.
#[derive(Debug, Clone, Copy)]
pub struct Lasting;

/// Where a body waits until its connection is taken from hyper. One for each connection of HTTP/1.
#[derive(Debug, Clone, Default)]
pub(super) struct Handover(Arc<Mutex<State>>);

#[derive(Debug, Default)]
enum State {
    /// Hyper serves one request after the other.
    #[default]
    Serving,
    /// Hyper was given the head of the body's response.
    HeadGiven(Body),
    /// Hyper has asked for the body, so the head is among what it still writes.
    HeadBuffered(Body),
    /// Hyper has nothing more to write.
    HeadWritten(Body),
}

impl Handover {
    /// Whether the body of the answer could be taken: there is one, and its coding is chunked.
    pub(super) fn is_possible<B>(request: &Request<B>) -> bool {
        request.method() == Method::GET && request.version() == Version::HTTP_11
    }

    /// Takes the response's body if it lasts; hyper gets one that never says anything.
    pub(super) fn take_body(&self, mut response: Response) -> Response {
        if response.extensions_mut().remove::<Lasting>().is_none() {
            return response;
        }
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let body = mem::replace(response.body_mut(), Body::new(Silence(self.clone())));
        *self.state() = State::HeadGiven(body);
        response
    }

    /// Notes that all that hyper had to write was written.
    pub(super) fn flushed(&self) {
        self.advance(|state| match state {
            State::HeadBuffered(body) => State::HeadWritten(body),
            other => other,
        });
    }

    /// The body, once hyper has done its part.
    pub(super) fn complete(&self) -> Option<Body> {
        let mut state = self.state();
        match mem::take(&mut *state) {
            State::HeadWritten(body) => Some(body),
            other => {
                *state = other;
                None
            }
        }
    }

    fn advance(&self, next: impl FnOnce(State) -> State) {
        let mut state = self.state();
        *state = next(mem::take(&mut *state));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What hyper gets in the body's place.
struct Silence(Handover);

impl HttpBody for Silence {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.0.advance(|state| match state {
            State::HeadGiven(body) => State::HeadBuffered(body),
            other => other,
        });
        Poll::Pending
    }
}

/// Writes what comes of `body` until it ends or the client goes away.
///
/// # Errors
/// Where the connection breaks, or the body does: its last chunk is missing then, by which the client knows.
pub(super) async fn send(
    mut connection: impl AsyncRead + AsyncWrite + Unpin,
    mut body: Body,
) -> io::Result<()> {
    // What a client says after its request isn't answered any more.
    let mut ignored = [0; 64];
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            read = connection.read(&mut ignored) => match read? {
                0 => return Ok(()),
                _ => continue,
            },
        };
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
        // An empty chunk would be the last one.
        if data.has_remaining() {
            let size = Bytes::from(format!("{:x}\r\n", data.len()));
            connection.write_all_buf(&mut size.chain(data).chain(&b"\r\n"[..])).await?;
        }
    }
    connection.write_all(b"0\r\n\r\n").await?;
    connection.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use futures::stream;
    use hyper::{server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::io::{DuplexStream, duplex};
    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::{
        super::{server::serve_http1, stalled::Unstalled},
        *,
    };

    /// Serves one connection, whose pipe holds so many bytes, with a lasting body of these pieces.
    fn serving(pipe: usize, pieces: &'static [&'static str]) -> (DuplexStream, TaskTracker) {
        let (connection, client) = duplex(pipe);
        let (handover, connections) = (Handover::default(), TaskTracker::new());
        let ours = handover.clone();
        let service = service_fn(move |_: Request<hyper::body::Incoming>| {
            let pieces = stream::iter(pieces.iter().map(|piece| Ok::<_, Infallible>(Bytes::from(*piece))));
            let mut response = Response::new(Body::from_stream(pieces));
            response.extensions_mut().insert(Lasting);
            std::future::ready(Ok::<_, Infallible>(ours.take_body(response)))
        });
        let io = TokioIo::new(Unstalled::new(connection, handover.clone()));
        let connection = http1::Builder::new().serve_connection(io, service);
        connections.spawn(serve_http1(connection, handover, CancellationToken::new(), connections.clone()));
        connections.close();
        (client, connections)
    }

    #[tokio::test]
    async fn a_lasting_body_follows_its_head_in_chunks_however_little_fits_into_the_pipe() {
        for pipe in [1, 7, 64, 100_000] {
            let (mut client, connections) = serving(pipe, &["event: hello\n\n", "", ": still here\n\n"]);
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
            for line in ["transfer-encoding: chunked", "connection: close"] {
                assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
            }
            assert_eq!(body, "e\r\nevent: hello\n\n\r\ne\r\n: still here\n\n\r\n0\r\n\r\n");
            connections.wait().await;
        }
    }

    #[tokio::test]
    async fn what_a_client_says_after_its_request_is_not_answered() {
        let (mut client, _) = serving(100_000, &["a"]);
        client
            .write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.ends_with("\r\n1\r\na\r\n0\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_body_is_dropped_when_its_client_goes_away() {
        let (connection, mut client) = duplex(100);
        let (held, mut dropped) = tokio::sync::mpsc::channel::<()>(1);
        let endless = stream::unfold(held, async |held| {
            std::future::pending::<()>().await;
            Some((Ok::<_, Infallible>(Bytes::new()), held))
        });
        let sending = tokio::spawn(send(connection, Body::from_stream(endless)));
        client
            .write_all(
                b"more than is read at a time, which is ignored; and ignored; and ignored; and ignored",
            )
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!sending.is_finished());
        drop(client);
        assert_eq!(dropped.recv().await, None);
        sending.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_body_that_breaks_has_no_last_chunk() {
        let (connection, mut client) = duplex(100);
        let pieces = [Ok(Bytes::from("a")), Err(io::Error::other("broken"))];
        let sending = tokio::spawn(send(connection, Body::from_stream(stream::iter(pieces))));
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "1\r\na\r\n");
        sending.await.unwrap().unwrap_err();
    }
}
