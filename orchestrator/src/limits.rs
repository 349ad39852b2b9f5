//! How much may be asked for, and by whom: so many requests in a window of time, each kind of asker by itself. A quota comes
//! back evenly over its window (the generic cell rate algorithm, by the crate governor), so that there is no moment at which
//! all come back. Counted in this process alone, and before anything else is asked: what is refused touches no database.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::HeaderValue;
use governor::{
    RateLimiter, clock::Clock as GovernorClock, middleware::StateInformationMiddleware, nanos::Nanos,
    state::StateStore,
};

use crate::{
    auth::session::SessionKey,
    clock::SharedClock,
    config::{LimitsConfig, QuotaConfig},
    ids::{SourceId, UserId},
};

/// A quota remembers so many askers. Those that asked least give way when there are more.
const MOST_ASKERS: usize = 100_000;
/// Askers are spread over so many locks.
const SHARDS: usize = 16;

/// All quotas of this process.
#[derive(Debug)]
pub struct Limits {
    /// A principal's calls of the API.
    pub principal: Quota<UserId>,
    /// What a session of the shell sends to be changed.
    pub session: Quota<SessionKey>,
    /// A source's webhooks.
    pub source: Quota<SourceId>,
    /// What comes from an address without proof of who asks, or with a wrong one.
    pub address: Quota<Network>,
    clock: ForwardClock,
}

impl Limits {
    /// Everybody's quota is whole.
    pub fn new(config: &LimitsConfig, clock: &SharedClock) -> Self {
        let clock = ForwardClock::new(clock);
        Self {
            principal: Quota::new("principal", config.principal, &clock),
            session: Quota::new("session", config.session, &clock),
            source: Quota::new("source", config.source, &clock),
            address: Quota::new("address", config.address, &clock),
            clock,
        }
    }

    /// A quota that some of the askers have besides, under the same clock.
    pub fn of_one<K: Hash + Eq + Clone>(&self, name: &'static str, config: QuotaConfig) -> Quota<K> {
        Quota::new(name, config, &self.clock)
    }
}

/// Whom an address belongs to: an IPv4 address, or the /64 network of an IPv6 one, which is what one subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

/// A quota for each of many askers, or none.
#[derive(Debug)]
pub struct Quota<K: Hash + Eq + Clone>(Option<Enforced<K>>);

#[derive(Debug)]
struct Enforced<K: Hash + Eq + Clone> {
    name: &'static str,
    requests: u32,
    seconds: u32,
    policy: HeaderValue,
    limiter: RateLimiter<K, Askers<K>, ForwardClock, StateInformationMiddleware>,
}

/// What a request has left of its quota.
#[derive(Debug, Clone)]
pub struct Usage {
    /// The value of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-11).
    pub policy: HeaderValue,
    /// The value of `RateLimit`.
    pub limit: HeaderValue,
    /// Where the quota is used up: after so many seconds there is some of it again.
    pub retry_after: Option<u64>,
}

impl<K: Hash + Eq + Clone> Quota<K> {
    fn new(name: &'static str, config: QuotaConfig, clock: &ForwardClock) -> Self {
        let Some(requests) = NonZeroU32::new(config.requests) else { return Self(None) };
        let each = Duration::from_secs(config.seconds.into()) / requests.get();
        let quota = governor::Quota::with_period(each).map(|quota| quota.allow_burst(requests));
        let policy = HeaderValue::from_str(&format!("\"{name}\";q={requests};w={}", config.seconds)).ok();
        Self(quota.zip(policy).map(|(quota, policy)| Enforced {
            name,
            requests: requests.get(),
            seconds: config.seconds,
            policy,
            limiter: RateLimiter::new(quota, Askers::new(MOST_ASKERS), clock.clone()),
        }))
    }

    /// Takes one request from the quota of `asker`. None where there is no limit.
    pub fn take(&self, asker: &K) -> Option<Usage> {
        let quota = self.0.as_ref()?;
        let (left, seconds, retry_after) = match quota.limiter.check_key(asker) {
            Ok(state) => {
                let left = state.remaining_burst_capacity();
                // Whoever spreads what is left over so much time is never refused.
                let pace = u64::from(left.max(1)) * u64::from(quota.seconds);
                (left, pace.div_ceil(quota.requests.into()), None)
            }
            Err(until) => {
                let wait = until.wait_time_from(quota.limiter.clock().now());
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                metrics::counter!("chancery_rate_limited_total", "quota" => quota.name).increment(1);
                (0, seconds.max(1), Some(seconds.max(1)))
            }
        };
        let limit = HeaderValue::from_str(&format!("\"{}\";r={left};t={seconds}", quota.name)).ok()?;
        Some(Usage { policy: quota.policy.clone(), limit, retry_after })
    }
}

/// When each asker's quota is whole again, for a bounded number of askers.
#[derive(Debug)]
struct Askers<K> {
    shards: [Mutex<HashMap<K, Nanos>>; SHARDS],
    most_in_a_shard: usize,
    hasher: RandomState,
}

impl<K: Hash + Eq + Clone> Askers<K> {
    fn new(most: usize) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            most_in_a_shard: most.div_ceil(SHARDS),
            hasher: RandomState::new(),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

impl<K: Hash + Eq + Clone> StateStore for Askers<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, asker: &K, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let shard = usize::try_from(self.hasher.hash_one(asker) % SHARDS as u64).unwrap_or(0);
        let mut askers = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole_at) = askers.get_mut(asker) {
            let (outcome, replaced) = decide(Some(*whole_at))?;
            *whole_at = replaced;
            return Ok(outcome);
        }
        let (outcome, whole_at) = decide(None)?;
        if askers.len() >= self.most_in_a_shard {
            // Whoever has no more to make good than somebody who asks for the first time is as good as forgotten. Where that
            // frees nothing, all begin anew: memory that grows without end would serve whoever floods us better.
            askers.retain(|_, known| known.as_u64() > whole_at.as_u64());
            if askers.len() >= self.most_in_a_shard {
                askers.clear();
            }
        }
        askers.insert(asker.clone(), whole_at);
        Ok(outcome)
    }
}

/// The injected clock, which may be set back, as one that only goes forward: nobody waits for the time to be made up for.
#[derive(Debug, Clone)]
struct ForwardClock {
    clock: SharedClock,
    passed: Arc<Mutex<Passed>>,
}

#[derive(Debug)]
struct Passed {
    /// What the clock showed last, in nanoseconds since 1970.
    shown: i64,
    total: u64,
}

impl ForwardClock {
    fn new(clock: &SharedClock) -> Self {
        let shown = clock.now().timestamp_nanos_opt().unwrap_or(0);
        Self { clock: Arc::clone(clock), passed: Arc::new(Mutex::new(Passed { shown, total: 0 })) }
    }
}

impl GovernorClock for ForwardClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock, so that two threads can't disagree about the order.
        let shown = self.clock.now().timestamp_nanos_opt().unwrap_or(passed.shown);
        passed.total += u64::try_from(shown.saturating_sub(passed.shown)).unwrap_or(0);
        passed.shown = shown;
        Nanos::new(passed.total)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::clock::MockClock;

    type Limiter = RateLimiter<u32, Askers<u32>, ForwardClock, StateInformationMiddleware>;

    fn quota(requests: u32, seconds: u32) -> (Quota<u32>, Arc<MockClock>) {
        let clock = Arc::new(MockClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let shared: SharedClock = clock.clone();
        (Quota::new("test", QuotaConfig { requests, seconds }, &ForwardClock::new(&shared)), clock)
    }

    fn limit(quota: &Quota<u32>, asker: u32) -> String {
        quota.take(&asker).unwrap().limit.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_quota_counts_down_and_comes_back_evenly() {
        let (quota, clock) = quota(3, 30);
        assert_eq!(quota.take(&1).unwrap().policy, "\"test\";q=3;w=30");
        assert_eq!(limit(&quota, 1), "\"test\";r=1;t=10");
        assert_eq!(limit(&quota, 1), "\"test\";r=0;t=10");
        let refused = quota.take(&1).unwrap();
        assert_eq!((refused.retry_after, refused.limit.to_str().unwrap()), (Some(10), "\"test\";r=0;t=10"));
        assert_eq!(limit(&quota, 2), "\"test\";r=2;t=20", "another asker has a quota of its own");
        clock.advance(TimeDelta::milliseconds(9_001));
        assert_eq!(quota.take(&1).unwrap().retry_after, Some(1), "a refused request takes nothing");
        clock.advance(TimeDelta::seconds(1));
        assert_eq!(quota.take(&1).unwrap().retry_after, None);
        clock.advance(TimeDelta::hours(1));
        assert_eq!(limit(&quota, 1), "\"test\";r=2;t=20");
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let (quota, clock) = quota(1, 10);
        assert_eq!(quota.take(&1).unwrap().retry_after, None);
        clock.advance(TimeDelta::hours(-5));
        assert_eq!(quota.take(&1).unwrap().retry_after, Some(10));
        clock.advance(TimeDelta::seconds(10));
        assert_eq!(quota.take(&1).unwrap().retry_after, None);
    }

    #[test]
    fn no_requests_is_no_limit() {
        let (quota, _) = quota(0, 10);
        assert!((0..1_000).all(|_| quota.take(&1).is_none()));
    }

    #[test]
    fn those_who_asked_least_are_forgotten_first_and_memory_is_bounded() {
        let most = 1_600;
        let shared: SharedClock = Arc::new(MockClock::new(DateTime::UNIX_EPOCH));
        let quota = governor::Quota::per_second(NonZeroU32::new(2).unwrap());
        let limiter: Limiter = RateLimiter::new(quota, Askers::new(most), ForwardClock::new(&shared));
        for _ in 0..2 {
            limiter.check_key(&u32::MAX).unwrap();
        }
        for asker in 0..100_000 {
            limiter.check_key(&asker).unwrap();
        }
        limiter.check_key(&u32::MAX).unwrap_err();
        assert!(limiter.into_state_store().len() <= most);
    }

    #[test]
    fn where_all_ask_much_memory_is_bounded_all_the_same() {
        let shared: SharedClock = Arc::new(MockClock::new(DateTime::UNIX_EPOCH));
        let quota = governor::Quota::per_second(NonZeroU32::new(2).unwrap());
        let limiter: Limiter = RateLimiter::new(quota, Askers::new(160), ForwardClock::new(&shared));
        for asker in 0..10_000 {
            limiter.check_key(&asker).unwrap();
            limiter.check_key(&asker).unwrap();
        }
        assert!(limiter.into_state_store().len() <= 160);
    }

    #[test]
    fn a_network_is_what_one_subscriber_has() {
        let of = |text: &str| Network::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
