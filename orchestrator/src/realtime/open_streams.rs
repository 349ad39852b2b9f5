use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{body::Body, http::StatusCode, response::Response};
use http_body_util::BodyExt as _;

use crate::{auth::session::SessionKey, config::LimitsConfig, http::Problem, ids::UserId};

/// When whoever has too many streams may try again: what a dead connection held is free by then.
const RETRY_SECONDS: u64 = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Listener {
    Principal(UserId),
    Session(SessionKey),
}

/// How many streams everybody has open in this process, and how many they may.
#[derive(Debug, Clone)]
pub struct OpenStreams {
    counts: Arc<Mutex<HashMap<Listener, u32>>>,
    per_principal: u32,
    per_session: u32,
}

impl OpenStreams {
    /// No streams yet.
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            counts: Arc::default(),
            per_principal: config.streams_per_principal,
            per_session: config.streams_per_session,
        }
    }

    /// The right to open one more stream, which counts until it is dropped.
    ///
    /// # Errors
    /// 429 where the principal, or the session by which it came, has as many as it may.
    pub fn admit(&self, principal: UserId, session: Option<SessionKey>) -> Result<StreamPermit, Problem> {
        let mut permit = StreamPermit { counts: Arc::clone(&self.counts), held: Vec::with_capacity(2) };
        let of_session = session.map(|key| (Listener::Session(key), self.per_session));
        for (listener, most) in
            [(Listener::Principal(principal), self.per_principal)].into_iter().chain(of_session)
        {
            // None is counted where there is no limit.
            if most == 0 {
                continue;
            }
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(listener).or_default();
            if *count >= most {
                return Err(too_many(most));
            }
            *count += 1;
            permit.held.push(listener);
        }
        Ok(permit)
    }
}

fn too_many(most: u32) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "events.too_many_streams", "Too many event streams are open")
        .with_detail(format!("At most {most} may be open at a time; close one first."))
        .with_retry_after(RETRY_SECONDS)
}

/// The right to one open stream.
#[derive(Debug)]
#[must_use]
pub struct StreamPermit {
    counts: Arc<Mutex<HashMap<Listener, u32>>>,
    held: Vec<Listener>,
}

impl StreamPermit {
    /// Holds the right until the response's body is dropped: when it has ended, or its connection has.
    pub fn hold(self, response: Response) -> Response {
        response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _held = &self;
                frame
            }))
        })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in &self.held {
            if let Some(count) = counts.get_mut(listener) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(listener);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_counts_until_it_is_dropped_and_a_refused_one_never() {
        let open = OpenStreams { counts: Arc::default(), per_principal: 2, per_session: 0 };
        let [ada, ben] = [1, 2].map(|id| UserId(uuid::Uuid::from_u128(id)));
        let (first, second) = (open.admit(ada, None).unwrap(), open.admit(ada, None).unwrap());
        for _ in 0..2 {
            let refused = open.admit(ada, None).unwrap_err();
            assert_eq!((refused.status().as_u16(), refused.code()), (429, "events.too_many_streams"));
        }
        let of_ben = open.admit(ben, None).unwrap();
        drop(second);
        let again = open.admit(ada, None).unwrap();
        assert!(open.admit(ada, None).is_err());
        drop((first, again, of_ben));
        assert!(open.counts.lock().unwrap().is_empty(), "who has none open takes no memory");
    }

    #[test]
    fn no_limit_is_no_limit() {
        let open = OpenStreams { counts: Arc::default(), per_principal: 0, per_session: 0 };
        let permits: Vec<_> =
            (0..1_000).map(|_| open.admit(UserId(uuid::Uuid::nil()), None).unwrap()).collect();
        assert!(open.counts.lock().unwrap().is_empty());
        drop(permits);
    }
}
