//! What the doubles share: state that survives a restart in a file, and serving until told to stop.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

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
