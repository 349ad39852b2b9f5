use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::{Stream, StreamExt as _};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Event, Hub};
use crate::{
    auth::{Permission, Principal},
    ids::TenantId,
};

/// A comment is sent so often, so that proxies keep the connection and a dead client is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The right to listen is looked at again so often.
const RECHECK: Duration = Duration::from_secs(10);
/// What waits to be written to one client; a client that doesn't read is disconnected and resumes.
const UNWRITTEN: usize = 16;
/// For how long a stream goes on while its right can't be looked at; then the client is to come back.
const UNKNOWN_FOR: Duration = Duration::from_mins(1);
/// The most events that are replayed; who missed more reads the lists anew.
const MOST_REPLAYED: i64 = 10_000;

/// What a second look at the right to listen has found.
#[derive(Debug, Clone)]
pub enum Access {
    /// It still is, with these roles.
    Still(Arc<Principal>),
    /// It goes on under another proof: the client is to come back with that.
    Moved,
    /// It can't be told now: nothing is known to have ended.
    Unknown,
    /// It has ended.
    Ended,
}

/// Looks again whether a stream may go on.
pub type Recheck = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Access> + Send>> + Send + Sync>;

/// Each item is a reason to look again at once.
pub type Nudges = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// What a client listens to.
pub struct StreamRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// Who listens.
    pub principal: Arc<Principal>,
    /// Whether they still may.
    pub recheck: Recheck,
    /// When to look again besides the usual times; without end.
    pub nudges: Nudges,
    /// After this time the proof of who listens is worth nothing: the client is to come back with a new one.
    pub valid_for: Option<Duration>,
    /// The number of the last event that the client has, if it resumes.
    pub last_event_id: Option<i64>,
    /// The process is stopping: the client is to come back, to another one.
    pub stop: CancellationToken,
}

impl std::fmt::Debug for StreamRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StreamRequest").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// Reads where a client resumes: the header wins over the query, which EventSource needs for its first connection.
pub fn last_event_id(headers: &HeaderMap, query: Option<&str>) -> Option<i64> {
    let header = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    header.or(query).and_then(|id| id.trim().parse().ok())
}

struct Frames(mpsc::Receiver<Bytes>);

impl Stream for Frames {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// Answers with the stream.
///
/// # Errors
/// Where the log can't be read.
pub async fn stream(hub: &Hub, request: StreamRequest) -> Result<Response, sqlx::Error> {
    let (receiver, last) = hub.subscribe(request.tenant).await?;
    // A number that the log hasn't reached is from another life of the database: start from its end.
    // Nor is a log replayed without end: the client sees by the first event's numbers that it has missed some.
    let position = request
        .last_event_id
        .filter(|id| (0..=last).contains(id) && last - id <= MOST_REPLAYED)
        .unwrap_or(last);
    let (sender, frames) = mpsc::channel(UNWRITTEN);
    let first = Bytes::from(format!(
        "retry: 2000\nevent: hello\nid: {position}\ndata: {{\"position\":{position},\"last\":{last}}}\n\n"
    ));
    let writer =
        Writer { hub: hub.clone(), tenant: request.tenant, principal: request.principal, position, sender };
    tokio::spawn(async move {
        if writer.sender.send(first).await.is_ok() {
            let until = request.valid_for.map(|valid_for| tokio::time::Instant::now() + valid_for);
            let looks = Looks { recheck: request.recheck, nudges: request.nudges };
            writer.run(receiver, looks, request.stop, until).await;
        }
    });
    let mut response = Body::from_stream(Frames(frames)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// How and when the right to listen is looked at again.
struct Looks {
    recheck: Recheck,
    nudges: Nudges,
}

struct Writer {
    hub: Hub,
    tenant: TenantId,
    principal: Arc<Principal>,
    position: i64,
    sender: mpsc::Sender<Bytes>,
}

impl Writer {
    async fn run(
        mut self,
        mut receiver: tokio::sync::broadcast::Receiver<Arc<Event>>,
        mut looks: Looks,
        stop: CancellationToken,
        until: Option<tokio::time::Instant>,
    ) {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.reset();
        let mut again = tokio::time::interval(RECHECK);
        again.reset();
        let mut last_known = tokio::time::Instant::now();
        // What was read from the log and not yet taken by the client; while there is something, the feed waits.
        let mut backlog: VecDeque<Event> = VecDeque::new();
        let mut behind = true;
        let sender = self.sender.clone();
        loop {
            if behind && backlog.is_empty() {
                match self.hub.replay(self.tenant, self.position).await {
                    Ok(events) => {
                        behind = !events.is_empty();
                        backlog.extend(events);
                    }
                    Err(_) => return,
                }
            }
            let going = tokio::select! {
                // The client reconnects by itself and finds another replica.
                () = stop.cancelled() => return,
                () = sender.closed() => return,
                () = at(until) => return,
                () = async {
                    tokio::select! {
                        _ = again.tick() => {}
                        Some(()) = looks.nudges.next() => {}
                    }
                } => match (looks.recheck)().await {
                    Access::Still(principal) if principal.grant(self.tenant).is_some() => {
                        self.principal = principal;
                        last_known = tokio::time::Instant::now();
                        true
                    }
                    Access::Moved => return,
                    Access::Unknown => last_known.elapsed() < UNKNOWN_FOR,
                    Access::Still(_) | Access::Ended => {
                        let _ = self.sender.try_send(Bytes::from_static(b"event: end\ndata: {\"reason\":\"access_ended\"}\n\n"));
                        false
                    }
                },
                // While catching up, the client's reading sets the pace.
                permit = sender.reserve(), if !backlog.is_empty() => match (permit, backlog.pop_front()) {
                    (Ok(permit), Some(event)) => {
                        if event.sequence > self.position {
                            self.position = event.sequence;
                            if may_see(&self.principal, &event) {
                                permit.send(event.frame);
                            }
                        }
                        true
                    }
                    _ => false,
                },
                event = receiver.recv(), if !behind => match event {
                    Ok(event) if event.sequence == self.position + 1 => self.write(&event),
                    Ok(event) if event.sequence <= self.position => true,
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        behind = true;
                        true
                    }
                    Err(RecvError::Closed) => return,
                },
                _ = heartbeat.tick(), if backlog.is_empty() => self.sender.try_send(Bytes::from_static(b": still here\n\n")).is_ok(),
            };
            if !going {
                return;
            }
        }
    }

    fn write(&mut self, event: &Event) -> bool {
        self.position = event.sequence;
        !may_see(&self.principal, event) || self.sender.try_send(event.frame.clone()).is_ok()
    }
}

fn may_see(principal: &Principal, event: &Event) -> bool {
    let roles = principal.grant(event.tenant).map(|grant| &grant.roles);
    event.permission.is_some_and(|permission: Permission| {
        roles.is_some_and(|roles| roles.iter().any(|role| role.grants(permission)))
    })
}

/// Completes at `instant`; never where there is none.
async fn at(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
