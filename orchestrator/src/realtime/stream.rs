use std::{collections::VecDeque, convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::{FutureExt as _, Stream, StreamExt as _, stream::unfold};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Event, Hub};
use crate::{auth::Principal, http::Lasting, ids::TenantId};

/// A comment is sent so often, so that proxies keep the connection and a dead client is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The right to listen is looked at again so often.
const RECHECK: Duration = Duration::from_secs(10);
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
    let greeting = Bytes::from(format!(
        "retry: 2000\nevent: hello\nid: {position}\ndata: {{\"position\":{position},\"last\":{last}}}\n\n"
    ));
    let now = Instant::now();
    let listener = Listener {
        hub: hub.clone(),
        tenant: request.tenant,
        principal: request.principal,
        position,
        greeting: Some(greeting),
        receiver,
        backlog: VecDeque::new(),
        behind: true,
        recheck: request.recheck,
        nudges: request.nudges,
        recheck_at: now + RECHECK,
        last_known: now,
        heartbeat_at: now + HEARTBEAT,
        until: request.valid_for.map(|valid_for| now + valid_for),
        stop: request.stop,
        ended: false,
    };
    let frames = unfold(listener, async |mut listener| {
        let frame = listener.next().await?;
        Some((Ok::<_, Infallible>(frame), listener))
    });
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.extensions_mut().insert(Lasting);
    Ok(response)
}

/// One client's stream. It is no task of its own: the connection asks for the next frame when it can write one. So the
/// client's reading sets the pace, and what it misses meanwhile is read from the log.
struct Listener {
    hub: Hub,
    tenant: TenantId,
    principal: Arc<Principal>,
    /// The number of the last event that was sent or left out.
    position: i64,
    greeting: Option<Bytes>,
    receiver: broadcast::Receiver<Arc<Event>>,
    /// What was read from the log and not yet taken by the client; while there is something, the feed waits.
    backlog: VecDeque<Event>,
    /// Whether the log may hold more than the backlog.
    behind: bool,
    recheck: Recheck,
    nudges: Nudges,
    recheck_at: Instant,
    last_known: Instant,
    heartbeat_at: Instant,
    until: Option<Instant>,
    stop: CancellationToken,
    ended: bool,
}

impl Listener {
    /// The next frame, as soon as there is one; none at the stream's end.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        loop {
            let now = Instant::now();
            // The client reconnects by itself: to another replica, or with a new proof of who it is.
            if self.ended || self.stop.is_cancelled() || self.until.is_some_and(|until| until <= now) {
                return None;
            }
            // Before anything is sent: while the client didn't read, nobody looked.
            let nudged = self.nudges.next().now_or_never().flatten().is_some();
            if nudged || self.recheck_at <= now {
                match (self.recheck)().await {
                    Access::Still(principal) if principal.may_listen(self.tenant) => {
                        self.principal = principal;
                        self.last_known = Instant::now();
                    }
                    Access::Unknown if self.last_known.elapsed() < UNKNOWN_FOR => {}
                    Access::Moved | Access::Unknown => return None,
                    Access::Still(_) | Access::Ended => {
                        self.ended = true;
                        return Some(Bytes::from_static(
                            b"event: end\ndata: {\"reason\":\"access_ended\"}\n\n",
                        ));
                    }
                }
                self.recheck_at = Instant::now() + RECHECK;
            }
            if self.behind && self.backlog.is_empty() {
                // Boxed: it is rare, and large.
                let events = Box::pin(self.hub.replay(self.tenant, self.position)).await.ok()?;
                self.behind = !events.is_empty();
                self.backlog = events.into();
            }
            if let Some(event) = self.backlog.pop_front() {
                if event.sequence > self.position
                    && let Some(frame) = self.pass(&event)
                {
                    return Some(frame);
                }
                continue;
            }
            if self.behind {
                continue;
            }
            let due = self.until.into_iter().fold(self.recheck_at.min(self.heartbeat_at), Instant::min);
            tokio::select! {
                () = self.stop.cancelled() => return None,
                Some(()) = self.nudges.next() => self.recheck_at = Instant::now(),
                received = self.receiver.recv() => match received {
                    Ok(event) if event.sequence == self.position + 1 => {
                        if let Some(frame) = self.pass(&event) {
                            return Some(frame);
                        }
                    }
                    Ok(event) if event.sequence <= self.position => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => self.behind = true,
                    Err(RecvError::Closed) => return None,
                },
                () = sleep_until(due) => {
                    let now = Instant::now();
                    if self.heartbeat_at <= now {
                        self.heartbeat_at = now + HEARTBEAT;
                        return Some(Bytes::from_static(b": still here\n\n"));
                    }
                }
            }
        }
    }

    /// Goes on to `event`, and says what is sent of it.
    fn pass(&mut self, event: &Event) -> Option<Bytes> {
        self.position = event.sequence;
        may_see(&self.principal, event).then(|| event.frame.clone())
    }
}

fn may_see(principal: &Principal, event: &Event) -> bool {
    let Some(permission) = event.permission else { return false };
    if event.tenant == TenantId::SUITE {
        return principal.platform_admin && permission.is_of_platform();
    }
    principal.grant(event.tenant).is_some_and(|grant| grant.roles.iter().any(|role| role.grants(permission)))
}
