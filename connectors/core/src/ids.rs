use std::sync::{Arc, LazyLock, Mutex};

use chrono::{DateTime, Utc};
use rand::Rng;
use uuid::{ContextV7, Timestamp, Uuid};

/// Where ids and randomness come from. Everything that needs either takes an `IdGenerator`.
pub trait IdGenerator: Send + Sync + std::fmt::Debug {
    /// A new UUIDv7 (RFC 9562, section 5.7) for the time `now`: ids made later sort later.
    fn uuid_v7(&self, now: DateTime<Utc>) -> Uuid;

    /// Fills `buffer` with bytes that nobody can guess.
    fn fill(&self, buffer: &mut [u8]);
}

/// A generator that can be handed around.
pub type SharedIds = Arc<dyn IdGenerator>;

/// Counts the ids of one millisecond.
static CONTEXT: LazyLock<Mutex<ContextV7>> = LazyLock::new(|| Mutex::new(ContextV7::new()));

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdGenerator for RandomIds {
    fn uuid_v7(&self, now: DateTime<Utc>) -> Uuid {
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        // Counted within a millisecond: what is made in one go keeps its order.
        Uuid::new_v7(Timestamp::from_unix(&*CONTEXT, seconds, now.timestamp_subsec_nanos()))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place where randomness is drawn")]
    fn fill(&self, buffer: &mut [u8]) {
        rand::rng().fill_bytes(buffer);
    }
}
