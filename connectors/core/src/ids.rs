use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use rand::Rng;
use uuid::{Builder, Uuid};

/// Where ids and randomness come from. Everything that needs either takes an `IdGenerator`.
pub trait IdGenerator: Send + Sync + std::fmt::Debug {
    /// A new UUIDv7 (RFC 9562, section 5.7) for the time `now`: ids made later sort later.
    fn uuid_v7(&self, now: DateTime<Utc>) -> Uuid;

    /// Fills `buffer` with bytes that nobody can guess.
    fn fill(&self, buffer: &mut [u8]);
}

/// A generator that can be handed around.
pub type SharedIds = Arc<dyn IdGenerator>;

/// The millisecond of the last id, and its number in it: 42 bits (RFC 9562, section 6.2, method 1).
static LAST: Mutex<(u64, u64)> = Mutex::new((0, 0));
/// The bits with which the numbers of a millisecond begin: there is room for as many above.
const FIRST_NUMBER: u64 = (1 << 41) - 1;

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdGenerator for RandomIds {
    fn uuid_v7(&self, now: DateTime<Utc>) -> Uuid {
        let millisecond = u64::try_from(now.timestamp_millis()).unwrap_or(0);
        let mut random = [0; 16];
        self.fill(&mut random);
        let random = u128::from_be_bytes(random);
        // Counted within a millisecond: what is made in one go keeps its order.
        let (millisecond, number) = {
            let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
            *last = match *last {
                // Or after it: a clock that is set back, or a time that was asked for earlier.
                (latest, number) if latest >= millisecond => (latest, number + 1),
                _ => (millisecond, u64::try_from(random >> 64).unwrap_or(0) & FIRST_NUMBER),
            };
            *last
        };
        // Twelve bits of it before the variant, thirty behind, and then what nobody can guess.
        let (high, low) = (u128::from(number >> 30), u128::from(number & ((1 << 30) - 1)));
        let bits = (high << 64) | (low << 32) | (random & u128::from(u32::MAX));
        let [_, _, _, _, _, _, bytes @ ..] = bits.to_be_bytes();
        Builder::from_unix_timestamp_millis(millisecond, &bytes).into_uuid()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place where randomness is drawn")]
    fn fill(&self, buffer: &mut [u8]) {
        rand::rng().fill_bytes(buffer);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_in_the_order_in_which_they_were_made_even_if_the_clock_is_set_back() {
        let made = |milliseconds: i64| -> Vec<Uuid> {
            let now = DateTime::from_timestamp_millis(milliseconds).unwrap();
            (0..5_000).map(|_| RandomIds.uuid_v7(now)).collect()
        };
        let all = [made(1_000_000_000_123), made(1_000_000_000_124), made(1_000_000_000_100)].concat();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        for id in &all {
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            assert!(id.get_timestamp().unwrap().to_unix() >= (1_000_000_000, 123_000_000));
        }
        let ends: HashSet<&[u8]> = all.iter().map(|id| &id.as_bytes()[12..]).collect();
        assert!(ends.len() > 14_000, "nobody can guess the next from the last");
    }
}
