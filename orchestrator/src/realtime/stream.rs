use std::{pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::Stream;
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

/// Looks again whether a stream may go on: the principal as it is now, or none.
pub type Recheck = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Option<Arc<Principal>>> + Send>> + Send + Sync>;

/// What a client listens to.
pub struct StreamRequest {
    /// The tenant.
    pub tenant: TenantId,
    /// Who listens.
    pub principal: Arc<Principal>,
    /// Whether they still may.
    pub recheck: Recheck,
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

    fn poll_next(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
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
    let position = request.last_event_id.filter(|id| (0..=last).contains(id)).unwrap_or(last);
    let (sender, frames) = mpsc::channel(UNWRITTEN);
    let first = Bytes::from(format!("retry: 2000\nevent: hello\nid: {position}\ndata: {{\"position\":{position},\"last\":{last}}}\n\n"));
    let writer = Writer { hub: hub.clone(), tenant: request.tenant, principal: request.principal, position, sender };
    tokio::spawn(async move {
        if writer.sender.send(first).await.is_ok() {
            writer.run(receiver, request.recheck, request.stop).await;
        }
    });
    let mut response = Body::from_stream(Frames(frames)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

struct Writer {
    hub: Hub,
    tenant: TenantId,
    principal: Arc<Principal>,
    position: i64,
    sender: mpsc::Sender<Bytes>,
}

impl Writer {
    async fn run(mut self, mut receiver: tokio::sync::broadcast::Receiver<Arc<Event>>, recheck: Recheck, stop: CancellationToken) {
        if !self.catch_up().await {
            return;
        }
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.reset();
        let mut again = tokio::time::interval(RECHECK);
        again.reset();
        loop {
            let going = tokio::select! {
                // The client reconnects by itself and finds another replica.
                () = stop.cancelled() => return,
                () = self.sender.closed() => return,
                event = receiver.recv() => match event {
                    Ok(event) if event.sequence == self.position + 1 => self.write(&event),
                    Ok(event) if event.sequence <= self.position => true,
                    Ok(_) | Err(RecvError::Lagged(_)) => self.catch_up().await,
                    Err(RecvError::Closed) => return,
                },
                _ = heartbeat.tick() => self.sender.try_send(Bytes::from_static(b": still here\n\n")).is_ok(),
                _ = again.tick() => match recheck().await {
                    Some(principal) if principal.grant(self.tenant).is_some() => {
                        self.principal = principal;
                        true
                    }
                    _ => {
                        let _ = self.sender.try_send(Bytes::from_static(b"event: end\ndata: {\"reason\":\"access_ended\"}\n\n"));
                        false
                    }
                },
            };
            if !going {
                return;
            }
        }
    }

    /// Sends what is in the log and not yet sent; whether the client still takes it.
    async fn catch_up(&mut self) -> bool {
        loop {
            let Ok(events) = self.hub.replay(self.tenant, self.position).await else { return false };
            if events.is_empty() {
                return true;
            }
            for event in events {
                if event.sequence > self.position {
                    let visible = self.may_see(&event);
                    self.position = event.sequence;
                    // While catching up, wait for the client to read.
                    if visible && self.sender.send(event.frame).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }

    fn write(&mut self, event: &Event) -> bool {
        self.position = event.sequence;
        !self.may_see(event) || self.sender.try_send(event.frame.clone()).is_ok()
    }

    fn may_see(&self, event: &Event) -> bool {
        let roles = self.principal.grant(self.tenant).map(|grant| &grant.roles);
        event.permission.is_some_and(|permission: Permission| roles.is_some_and(|roles| roles.iter().any(|role| role.grants(permission))))
    }
}
