//! What the doubles share: state that survives a restart in a file, serving until told to stop, and a look at what they
//! were asked.

use std::{
    collections::VecDeque,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::Method;
use serde::{Serialize, de::DeserializeOwned};

/// A double that can't keep its state.
#[derive(Debug, thiserror::Error)]
#[error("the double's state in {} can't be {action}", path.display())]
pub struct FakeStateError {
    path: PathBuf,
    action: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// So many requests are remembered.
const REMEMBERED: usize = 1_000;

/// A request that a double got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedRequest {
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// `traceparent`, where it was sent.
    pub traceparent: Option<String>,
    /// `tracestate`, where it was sent.
    pub tracestate: Option<String>,
}

/// The last 1,000 requests that a double got, for tests to look at.
#[derive(Debug, Clone, Default)]
pub struct ReceivedRequests(Arc<Mutex<VecDeque<ReceivedRequest>>>);

impl ReceivedRequests {
    /// The requests since the last call, oldest first.
    pub fn take(&self) -> Vec<ReceivedRequest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    fn keep(&self, request: &Request) {
        let header =
            |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let received = ReceivedRequest {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            traceparent: header("traceparent"),
            tracestate: header("tracestate"),
        };
        let mut requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() == REMEMBERED {
            requests.pop_front();
        }
        requests.push_back(received);
    }
}

/// Remembers each request before it is answered: for [`axum::middleware::from_fn_with_state`].
pub async fn remember(State(received): State<ReceivedRequests>, request: Request, next: Next) -> Response {
    received.keep(&request);
    next.run(request).await
}

/// A value kept in a JSON file: read once, written whole after each change, by a rename, so that a crash leaves
/// either the old or the new state.
#[derive(Debug)]
pub struct StateFile<T> {
    path: PathBuf,
    value: Mutex<T>,
}

impl<T: Serialize + DeserializeOwned> StateFile<T> {
    /// Reads the state in `path`, or starts with `initial` where there is none.
    ///
    /// # Errors
    /// Where the file can't be read, is not such a state, or can't be written.
    pub fn open(path: &Path, initial: impl FnOnce() -> T) -> Result<Self, FakeStateError> {
        let error = |action, source: Box<dyn std::error::Error + Send + Sync>| FakeStateError {
            path: path.to_owned(),
            action,
            source,
        };
        let value = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| error("read", Box::new(source)))?,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => initial(),
            Err(source) => return Err(error("read", Box::new(source))),
        };
        let file = Self { path: path.to_owned(), value: Mutex::new(value) };
        file.update(|_| ())?;
        Ok(file)
    }

    /// Looks at the state.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the state and writes it before it returns.
    ///
    /// # Errors
    /// Where the file can't be written; the change stands in memory.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, FakeStateError> {
        let mut value = self.lock();
        let result = change(&mut value);
        self.write(&value).map_err(|source| FakeStateError {
            path: self.path.clone(),
            action: "written",
            source,
        })?;
        Ok(result)
    }

    fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, value: &T) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.persist(&self.path)?;
        Ok(())
    }
}

/// Serves `router` on `listener` until `stop` completes; open connections get a moment to end.
///
/// # Errors
/// Where accepting connections fails.
pub async fn serve(
    router: axum::Router,
    listener: tokio::net::TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}
