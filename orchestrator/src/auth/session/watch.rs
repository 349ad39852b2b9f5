use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures::Stream;
use tokio::sync::Notify;

use super::SessionKey;

/// Who wants to know at once that a session of theirs has ended: the event streams of this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Watches(Arc<Mutex<HashMap<SessionKey, Vec<Arc<Notify>>>>>);

impl Watches {
    /// Watches a session until the watch is dropped.
    pub fn watch(&self, key: SessionKey) -> Watch {
        let notify = Arc::new(Notify::new());
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(key)
            .or_default()
            .push(Arc::clone(&notify));
        Watch { key, notify, watches: self.clone() }
    }

    /// The session has ended.
    pub fn ended(&self, key: SessionKey) {
        let watching = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for notify in watching.get(&key).into_iter().flatten() {
            notify.notify_one();
        }
    }

    /// Any session may have ended: word of it may have been lost.
    pub fn perhaps_ended(&self) {
        for notify in self.0.lock().unwrap_or_else(PoisonError::into_inner).values().flatten() {
            notify.notify_one();
        }
    }
}

/// Wakes when the session may have ended.
#[derive(Debug)]
pub struct Watch {
    key: SessionKey,
    notify: Arc<Notify>,
    watches: Watches,
}

impl Watch {
    /// Completes when the session may have ended since the last time.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// The same as a stream without end.
    pub fn into_stream(self) -> Pin<Box<dyn Stream<Item = ()> + Send>> {
        Box::pin(futures::stream::unfold(self, |watch| async move {
            watch.woken().await;
            Some(((), watch))
        }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watching = self.watches.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_session) = watching.get_mut(&self.key) {
            of_session.retain(|notify| !Arc::ptr_eq(notify, &self.notify));
            if of_session.is_empty() {
                watching.remove(&self.key);
            }
        }
    }
}
