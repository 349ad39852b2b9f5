use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

use crate::{ConnectorError, ErrorKind, SharedClock};

/// How a server has been doing, by the calls that were made to it; nothing is called to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nothing was asked of it yet.
    Unknown,
    /// It does what it is asked.
    Working {
        /// The first success after the last failure, or the first of all.
        since: DateTime<Utc>,
    },
    /// It doesn't.
    Failing {
        /// The first failure after the last success.
        since: DateTime<Utc>,
        /// The latest failure.
        last: DateTime<Utc>,
        /// What can be done about the latest.
        kind: ErrorKind,
        /// What happened at the latest, for an operator.
        why: String,
        /// How many calls in a row have failed.
        failures: u32,
    },
}

impl Health {
    /// Whether the last call did not show that something is to be mended.
    pub fn is_failing(&self) -> bool {
        matches!(self, Self::Failing { .. })
    }
}

/// What the calls of one caller have shown.
#[derive(Debug)]
pub(crate) struct HealthRecord(Mutex<Health>);

impl HealthRecord {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Health::Unknown))
    }

    pub(crate) fn read(&self) -> Health {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server works if it could answer, even where it refused this very request or has too much to do.
    pub(crate) fn observe(&self, clock: &SharedClock, failure: Option<&ConnectorError>) {
        let failure = failure.filter(|error| error.kind != ErrorKind::Permanent && error.status != Some(429));
        let now = clock.now();
        let mut health = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *health, Health::Unknown);
        *health = match (failure, before) {
            (None, Health::Working { since }) => Health::Working { since },
            (None, _) => Health::Working { since: now },
            (Some(error), before) => {
                let (since, failures) = match before {
                    Health::Failing { since, failures, .. } => (since, failures.saturating_add(1)),
                    Health::Unknown | Health::Working { .. } => (now, 1),
                };
                Health::Failing { since, last: now, kind: error.kind, why: error.message.clone(), failures }
            }
        };
    }
}
