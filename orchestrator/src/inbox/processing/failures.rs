use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Map;

use super::{
    apply::{ApplyError, From, hold},
    plan::Poison,
    store,
};
use crate::{
    app::AppState,
    auth::Permission,
    http::problem::ErrorChain,
    ids::IdGenerator,
    inbox::{
        errors,
        model::{Claim, Mark},
    },
    realtime::{self, Appended, EventType},
};

/// The waits before further attempts; after the last, the event is dead until somebody replays it.
const WAITS_SECONDS: [i64; 5] = [1, 5, 30, 120, 600];

/// What kind of cause a failure has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The event itself: it will not succeed, however often it is tried.
    Poison,
    /// The event isn't kept any more.
    Gone,
    /// The database refused.
    Database,
    /// It took too long.
    Timeout,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Gone => "gone",
            Self::Database => "database",
            Self::Timeout => "timeout",
        }
    }
}

/// An event that has failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub mark: Mark,
    /// How often it was tried, this time included.
    pub attempts: i32,
    pub cause: Cause,
    pub message: String,
}

impl Failed {
    /// An event that can't succeed.
    pub fn poisoned(mark: Mark, earlier: i32, error: &Poison) -> Self {
        Self { mark, attempts: earlier + 1, cause: Cause::Poison, message: ErrorChain(error).to_string() }
    }

    /// An event that isn't kept any more.
    pub fn gone(mark: Mark, earlier: i32) -> Self {
        let message = "the received event is not kept any more".to_owned();
        Self { mark, attempts: earlier + 1, cause: Cause::Gone, message }
    }

    /// An event that the database refused.
    pub fn refused(mark: Mark, earlier: i32, error: &sqlx::Error) -> Self {
        let cause = if errors::is_poison(error) { Cause::Poison } else { Cause::Database };
        Self { mark, attempts: earlier + 1, cause, message: ErrorChain(error).to_string() }
    }

    /// An event that took too long.
    pub fn late(mark: Mark, earlier: i32, patience: Duration) -> Self {
        let message = format!("took longer than {} s", patience.as_secs());
        Self { mark, attempts: earlier + 1, cause: Cause::Timeout, message }
    }
}

/// What is to become of a failed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    RetryAt(DateTime<Utc>),
    Dead,
}

impl Next {
    /// After so many attempts.
    pub fn of(failed: &Failed, now: DateTime<Utc>, ids: &dyn IdGenerator) -> Self {
        if matches!(failed.cause, Cause::Poison | Cause::Gone) {
            return Self::Dead;
        }
        let index = usize::try_from(failed.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(seconds) = WAITS_SECONDS.get(index) else { return Self::Dead };
        // Up to a quarter of jitter, so that what failed together doesn't return together.
        let mut random = [0; 2];
        ids.fill(&mut random);
        let base = seconds * 1000;
        let jitter = base * i64::from(u16::from_be_bytes(random)) / (4 * i64::from(u16::MAX));
        Self::RetryAt(now + TimeDelta::milliseconds(base + jitter))
    }

    pub fn state(&self) -> &'static str {
        match self {
            Self::RetryAt(_) => "ready",
            Self::Dead => "dead",
        }
    }

    pub fn run_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::RetryAt(at) => Some(*at),
            Self::Dead => None,
        }
    }
}

/// Writes down that an event has failed, and what is to become of it.
pub(super) async fn record(
    state: &AppState,
    claim: &Claim,
    failed: &Failed,
    from: From,
    begun_at: DateTime<Utc>,
) -> Result<Next, ApplyError> {
    let mark = &failed.mark;
    let next = Next::of(failed, state.clock.now(), &*state.ids);
    let mut tx = state.database.worker_tx(mark.tenant).await?;
    match from {
        From::Pending => hold(&mut tx, claim, mark.tenant, &[mark]).await?,
        From::Retries => hold(&mut tx, claim, mark.tenant, &[]).await?,
    }
    match from {
        From::Pending => store::fail(&mut tx, failed, &next).await?,
        // It may have succeeded all the same: a commit whose answer took too long.
        From::Retries if !store::fail_again(&mut tx, failed, &next).await? => return Err(ApplyError::Lost),
        From::Retries => {}
    }
    let outcome = if next == Next::Dead { "dead" } else { "failed" };
    store::record_attempt(&mut tx, mark, begun_at, outcome, Some(&failed.message)).await?;
    if next == Next::Dead {
        // What is dead holds up nobody.
        store::unpark(&mut tx, mark).await?;
        let told = Appended {
            event: EventType::WebhookDead,
            permission: Permission::WebhookEventRead,
            resource: mark.event.0,
            told: Map::new(),
        };
        realtime::append_all(&mut tx, vec![told]).await?;
    }
    tx.commit().await?;
    metrics::counter!("chancery_inbox_processed_total", "outcome" => outcome).increment(1);
    tracing::warn!(
        event = %mark.event,
        attempts = failed.attempts,
        cause = failed.cause.as_str(),
        dead = next == Next::Dead,
        error = failed.message,
        "an inbox event could not be processed"
    );
    Ok(next)
}

/// Discards an event that waits for another attempt, as somebody has asked for.
pub(super) async fn discard(
    state: &AppState,
    claim: &Claim,
    mark: &Mark,
    begun_at: DateTime<Utc>,
    reason: &str,
) -> Result<(), ApplyError> {
    let mut tx = state.database.worker_tx(mark.tenant).await?;
    hold(&mut tx, claim, mark.tenant, &[]).await?;
    if !store::discard(&mut tx, mark).await? {
        return Err(ApplyError::Lost);
    }
    store::record_attempt(&mut tx, mark, begun_at, "discarded", Some(reason)).await?;
    store::unpark(&mut tx, mark).await?;
    tx.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        clock::{Clock as _, SystemClock},
        ids::{InboxEventId, RandomIds, TenantId},
    };

    fn failed(attempts: i32, cause: Cause) -> Failed {
        let mark = Mark {
            place: String::new(),
            lane: 0,
            seq: 1,
            tenant: TenantId(Uuid::nil()),
            event: InboxEventId(Uuid::nil()),
            received_at: SystemClock.now(),
            subject_key: 0,
            bytes: 0,
            replay: false,
            waits: false,
        };
        Failed { mark, attempts, cause, message: String::new() }
    }

    #[test]
    fn the_waits_grow_with_a_quarter_of_jitter_and_then_it_is_dead() {
        let now = SystemClock.now();
        for (attempts, seconds) in (1..).zip(WAITS_SECONDS) {
            for _ in 0..20 {
                let next = Next::of(&failed(attempts, Cause::Database), now, &RandomIds);
                let wait = (next.run_at().unwrap() - now).num_milliseconds();
                assert!((seconds * 1000..=seconds * 1250).contains(&wait), "{attempts}: {wait}");
            }
        }
        assert_eq!(Next::of(&failed(6, Cause::Timeout), now, &RandomIds), Next::Dead);
        assert_eq!(Next::of(&failed(1, Cause::Poison), now, &RandomIds), Next::Dead);
        assert_eq!(Next::of(&failed(1, Cause::Gone), now, &RandomIds), Next::Dead);
    }
}
