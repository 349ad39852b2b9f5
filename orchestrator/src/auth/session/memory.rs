use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{
    SessionKey,
    storage::{Label, Record, SessionStorage, StorageError},
    watch::Watches,
};

/// The number of sessions after which the longest unused are dropped.
const MOST_SESSIONS: usize = 100_000;
/// What has run out is looked for after so many insertions.
const SWEEP_EVERY: usize = 256;

/// The sessions of one process.
#[derive(Debug, Default)]
pub(super) struct MemoryStorage {
    kept: Mutex<Kept>,
    watches: Watches,
}

#[derive(Debug, Default)]
struct Kept {
    sessions: HashMap<SessionKey, Entry>,
    labels: HashMap<Label, HashSet<SessionKey>>,
    claims: HashMap<String, (String, Instant)>,
    insertions: usize,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    labels: Vec<Label>,
    until: Instant,
}

impl MemoryStorage {
    pub fn new(watches: Watches) -> Self {
        Self { kept: Mutex::default(), watches }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn remove(&mut self, key: SessionKey) -> bool {
        let Some(entry) = self.sessions.remove(&key) else { return false };
        for label in entry.labels {
            if let Some(keys) = self.labels.get_mut(&label) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.labels.remove(&label);
                }
            }
        }
        entry.until > Instant::now()
    }

    fn alive(&mut self, key: SessionKey) -> Option<&mut Entry> {
        if self.sessions.get(&key).is_some_and(|entry| entry.until <= Instant::now()) {
            self.remove(key);
        }
        self.sessions.get_mut(&key)
    }

    /// Forgets what has run out and, where that isn't enough, what was unused for longest.
    fn sweep(&mut self) {
        let now = Instant::now();
        self.claims.retain(|_, (_, until)| *until > now);
        let over: Vec<SessionKey> =
            self.sessions.iter().filter(|(_, entry)| entry.until <= now).map(|(key, _)| *key).collect();
        for key in over {
            self.remove(key);
        }
        if self.sessions.len() >= MOST_SESSIONS {
            let mut by_use: Vec<_> =
                self.sessions.iter().map(|(key, entry)| (entry.record.used_at, *key)).collect();
            by_use.sort_unstable_by_key(|(used_at, _)| *used_at);
            for (_, key) in by_use.into_iter().take(SWEEP_EVERY) {
                self.remove(key);
            }
        }
    }
}

#[async_trait]
impl SessionStorage for MemoryStorage {
    async fn insert(
        &self,
        key: SessionKey,
        record: &Record,
        labels: &[Label],
        idle: Duration,
        _: Duration,
    ) -> Result<(), StorageError> {
        let mut kept = self.kept();
        kept.insertions += 1;
        if kept.insertions.is_multiple_of(SWEEP_EVERY) || kept.sessions.len() >= MOST_SESSIONS {
            kept.sweep();
        }
        for label in labels {
            kept.labels.entry(label.clone()).or_default().insert(key);
        }
        let entry = Entry { record: record.clone(), labels: labels.to_vec(), until: Instant::now() + idle };
        kept.sessions.insert(key, entry);
        Ok(())
    }

    async fn read(
        &self,
        key: SessionKey,
        used: Option<(DateTime<Utc>, Duration)>,
    ) -> Result<Option<Record>, StorageError> {
        let mut kept = self.kept();
        let Some(entry) = kept.alive(key) else { return Ok(None) };
        let record = entry.record.clone();
        if let Some((at, idle)) = used {
            entry.record.used_at = at;
            entry.until = Instant::now() + idle;
        }
        Ok(Some(record))
    }

    async fn replace(&self, key: SessionKey, revision: u64, sealed: &[u8]) -> Result<bool, StorageError> {
        let mut kept = self.kept();
        let Some(entry) = kept.alive(key).filter(|entry| entry.record.revision == revision) else {
            return Ok(false);
        };
        entry.record.revision += 1;
        entry.record.sealed = sealed.to_vec();
        Ok(true)
    }

    async fn remove(&self, key: SessionKey, _: &[Label]) -> Result<bool, StorageError> {
        let was_there = self.kept().remove(key);
        self.watches.ended(key);
        Ok(was_there)
    }

    async fn labelled(&self, label: &Label) -> Result<Vec<SessionKey>, StorageError> {
        let mut kept = self.kept();
        let keys: Vec<SessionKey> = kept.labels.get(label).into_iter().flatten().copied().collect();
        Ok(keys.into_iter().filter(|key| kept.alive(*key).is_some()).collect())
    }

    async fn claim(&self, name: &str, owner: &str, lifetime: Duration) -> Result<bool, StorageError> {
        let mut kept = self.kept();
        let now = Instant::now();
        if let Some((claimed_by, until)) = kept.claims.get(name)
            && *until > now
        {
            return Ok(claimed_by == owner);
        }
        kept.insertions += 1;
        if kept.insertions.is_multiple_of(SWEEP_EVERY) {
            kept.sweep();
        }
        kept.claims.insert(name.to_owned(), (owner.to_owned(), now + lifetime));
        Ok(true)
    }

    async fn release(&self, name: &str, owner: &str) -> Result<(), StorageError> {
        let mut kept = self.kept();
        if kept.claims.get(name).is_some_and(|(claimed_by, _)| claimed_by == owner) {
            kept.claims.remove(name);
        }
        Ok(())
    }

    async fn is_claimed(&self, name: &str) -> Result<bool, StorageError> {
        Ok(self.kept().claims.get(name).is_some_and(|(_, until)| *until > Instant::now()))
    }
}
