use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

/// How much may be asked of a server, by all callers together.
#[derive(Debug)]
pub(super) struct Limits {
    places: Semaphore,
    rate: Option<RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<Duration>>>,
}

/// The runtime's clock, which only goes forward, and which tests can stop.
#[derive(Debug, Clone, Copy)]
struct RuntimeClock(Instant);

impl Clock for RuntimeClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Limits {
    pub(super) fn new(concurrency: usize, rate: Option<Rate>) -> Self {
        let rate = rate.and_then(|rate| {
            let quota = Quota::with_period(rate.per / rate.requests.get())?.allow_burst(rate.requests);
            Some(RateLimiter::direct_with_clock(quota, RuntimeClock(Instant::now())))
        });
        Self { places: Semaphore::new(concurrency), rate }
    }

    /// Waits for a turn. None where there will never be one.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.places.acquire().await.ok()?;
        if let Some(rate) = &self.rate {
            while let Err(until) = rate.check() {
                tokio::time::sleep(until.wait_time_from(rate.clock().now())).await;
            }
        }
        Some(place)
    }
}

/// So many requests in so much time. All of them may come at once; they grow back evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub requests: NonZeroU32,
    /// In what time.
    pub per: Duration,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let rate = Rate { requests: NonZeroU32::new(60).unwrap(), per: Duration::from_mins(1) };
        let limits = Limits::new(100, Some(rate));
        let begun = Instant::now();
        for _ in 0..60 {
            drop(limits.turn().await.unwrap());
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..30 {
            drop(limits.turn().await.unwrap());
        }
        assert!((29..=31).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_have_a_place_than_there_are() {
        let limits = Arc::new(Limits::new(2, None));
        let (first, second) = (limits.turn().await.unwrap(), limits.turn().await.unwrap());
        let third = tokio::time::timeout(Duration::from_mins(1), limits.turn()).await;
        assert!(third.is_err());
        drop(first);
        assert!(limits.turn().await.is_some());
        drop(second);
    }
}
