use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::CircuitSettings;
use crate::SharedClock;

/// The shortest wait that is asked of a caller who finds a probe under way.
const PROBE_WAIT: TimeDelta = TimeDelta::seconds(1);
/// Without a hint of the server the first 429 means so much; each further one doubles it.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(1);
const LONGEST_UNASKED_PAUSE: TimeDelta = TimeDelta::minutes(1);
/// A server that asks for more is asked again after this all the same: it may have meant something else.
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(15);

/// Keeps calls from a server that fails, or that asked to be left alone: after so many failures in a row the circuit is
/// open and nothing is called; when that time is over, one call at a time goes as a probe, whose end says whether the
/// circuit closes (M. Nygard, "Release It!", Circuit Breaker).
#[derive(Debug)]
pub(super) struct Circuit {
    service: &'static str,
    settings: Option<CircuitSettings>,
    clock: SharedClock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Goes up whenever the circuit opens or closes: what was admitted before has no say after.
    generation: u64,
    /// In a row, while closed.
    failures: u32,
    opening: Option<Opening>,
    /// Openings without a success in between.
    openings: u32,
    pause: Option<Span>,
    /// 429s without a success in between.
    throttled: u32,
}

#[derive(Debug)]
struct Opening {
    span: Span,
    is_probed: bool,
}

/// A time that ends; also when the clock is set back before its beginning.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Span {
    fn of(from: DateTime<Utc>, length: TimeDelta) -> Self {
        Self { from, until: from + length }
    }

    /// What is left of it.
    fn left(self, now: DateTime<Utc>) -> Option<TimeDelta> {
        (self.from <= now && now < self.until).then(|| self.until - now)
    }
}

/// Why nothing is called, and when it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) why: &'static str,
    pub(super) wait: TimeDelta,
}

/// What a call has shown about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It answered.
    Works,
    /// It has too much to do, and may have said for how long.
    Busy(Option<TimeDelta>),
    /// It failed or didn't answer, and may have said for how long.
    Fails(Option<TimeDelta>),
}

/// A call that may be made. Dropped without an outcome, it has shown nothing.
#[derive(Debug)]
pub(super) struct Admission {
    circuit: Arc<Circuit>,
    generation: u64,
    is_probe: bool,
}

impl Circuit {
    pub(super) fn new(service: &'static str, settings: Option<CircuitSettings>, clock: SharedClock) -> Self {
        Self { service, settings, clock, state: Mutex::default() }
    }

    /// Whether nothing may be called now.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        refusal(&self.lock(), self.clock.now())
    }

    /// Lets a call through, or says why not.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admission, Refusal> {
        let mut state = self.lock();
        if let Some(refusal) = refusal(&state, self.clock.now()) {
            return Err(refusal);
        }
        let is_probe = state.opening.is_some();
        if let Some(opening) = &mut state.opening {
            opening.is_probed = true;
        }
        Ok(Admission { circuit: Arc::clone(self), generation: state.generation, is_probe })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, settings: CircuitSettings, state: &mut State, now: DateTime<Utc>) {
        let doubled = settings.cool_down.saturating_mul(1 << state.openings.min(16));
        let length =
            TimeDelta::from_std(doubled.min(settings.longest_cool_down)).unwrap_or(LONGEST_UNASKED_PAUSE);
        state.openings = state.openings.saturating_add(1);
        state.generation += 1;
        state.failures = 0;
        state.opening = Some(Opening { span: Span::of(now, length), is_probed: false });
        tracing::warn!(
            service = self.service,
            seconds = length.num_seconds(),
            "the server keeps failing: it is left alone"
        );
    }

    fn close(&self, state: &mut State) {
        state.generation += 1;
        state.opening = None;
        state.openings = 0;
        tracing::info!(service = self.service, "the server answers again");
    }
}

fn refusal(state: &State, now: DateTime<Utc>) -> Option<Refusal> {
    if let Some(wait) = state.pause.and_then(|pause| pause.left(now)) {
        return Some(Refusal { why: "the server asked to be left alone", wait });
    }
    let opening = state.opening.as_ref()?;
    if let Some(wait) = opening.span.left(now) {
        return Some(Refusal { why: "the server kept failing and is left alone", wait });
    }
    opening
        .is_probed
        .then_some(Refusal { why: "the server kept failing and is being tried", wait: PROBE_WAIT })
}

impl Admission {
    /// Says what the call has shown.
    pub(super) fn end(mut self, outcome: Outcome) {
        let circuit = Arc::clone(&self.circuit);
        let Some(settings) = circuit.settings else { return };
        let mut state = circuit.lock();
        let now = circuit.clock.now();
        let (Outcome::Busy(asked) | Outcome::Fails(asked)) = outcome else {
            state.throttled = 0;
            self.settle(settings, &mut state, now, true);
            return;
        };
        let is_busy = matches!(outcome, Outcome::Busy(_));
        if is_busy || asked.is_some() {
            let left = state.pause.and_then(|pause| pause.left(now));
            let unasked = (FIRST_PAUSE * (1 << state.throttled.min(8))).min(LONGEST_UNASKED_PAUSE);
            // Of calls that went together, the longest wait counts, and all without a hint are one.
            let wait = asked.map_or(left.unwrap_or(unasked), |asked| asked.min(LONGEST_PAUSE));
            if left.is_none() {
                state.throttled = state.throttled.saturating_add(1);
            }
            if left.is_none_or(|left| left < wait) {
                state.pause = Some(Span::of(now, wait));
            }
        }
        self.settle(settings, &mut state, now, is_busy);
    }

    fn settle(&mut self, settings: CircuitSettings, state: &mut State, now: DateTime<Utc>, works: bool) {
        let is_probe = std::mem::take(&mut self.is_probe);
        if self.generation != state.generation {
            return;
        }
        match (works, is_probe) {
            (true, true) => self.circuit.close(state),
            (true, false) => state.failures = 0,
            (false, true) => self.circuit.open(settings, state, now),
            (false, false) => {
                state.failures += 1;
                if state.failures >= settings.failures.get() {
                    self.circuit.open(settings, state, now);
                }
            }
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        // A probe that was given up makes room for another.
        if self.is_probe {
            let mut state = self.circuit.lock();
            if state.generation == self.generation
                && let Some(opening) = &mut state.opening
            {
                opening.is_probed = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MockClock;

    fn circuit() -> (Arc<Circuit>, Arc<MockClock>) {
        let clock = Arc::new(MockClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let circuit = Circuit::new("tool", Some(CircuitSettings::default()), Arc::<MockClock>::clone(&clock));
        (Arc::new(circuit), clock)
    }

    fn fail(circuit: &Arc<Circuit>, times: u32) {
        for _ in 0..times {
            circuit.admit().unwrap().end(Outcome::Fails(None));
        }
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_a_success_in_between_does_not() {
        let (circuit, _clock) = circuit();
        fail(&circuit, 4);
        circuit.admit().unwrap().end(Outcome::Works);
        fail(&circuit, 4);
        assert_eq!(circuit.refusal(), None);
        fail(&circuit, 1);
        assert_eq!(circuit.refusal().unwrap().wait, TimeDelta::seconds(10));
        assert!(circuit.admit().is_err());
    }

    #[test]
    fn when_its_time_is_over_one_probe_at_a_time_goes_and_its_success_closes_it() {
        let (circuit, clock) = circuit();
        fail(&circuit, 5);
        clock.advance(TimeDelta::seconds(10));
        let probe = circuit.admit().unwrap();
        assert_eq!(circuit.admit().unwrap_err().wait, PROBE_WAIT);
        probe.end(Outcome::Works);
        let (first, second) = (circuit.admit().unwrap(), circuit.admit().unwrap());
        first.end(Outcome::Works);
        second.end(Outcome::Works);
    }

    #[test]
    fn each_failed_probe_doubles_the_time_to_a_minute() {
        let (circuit, clock) = circuit();
        fail(&circuit, 5);
        for seconds in [10, 20, 40, 60, 60] {
            assert_eq!(circuit.refusal().unwrap().wait, TimeDelta::seconds(seconds));
            clock.advance(TimeDelta::seconds(seconds));
            fail(&circuit, 1);
        }
        clock.advance(TimeDelta::seconds(60));
        circuit.admit().unwrap().end(Outcome::Works);
        fail(&circuit, 5);
        assert_eq!(circuit.refusal().unwrap().wait, TimeDelta::seconds(10), "it begins anew");
    }

    #[test]
    fn a_probe_that_is_given_up_makes_room_for_another() {
        let (circuit, clock) = circuit();
        fail(&circuit, 5);
        clock.advance(TimeDelta::seconds(10));
        drop(circuit.admit().unwrap());
        circuit.admit().unwrap().end(Outcome::Works);
        assert_eq!(circuit.refusal(), None);
    }

    #[test]
    fn what_was_called_before_it_opened_says_nothing_about_it() {
        let (circuit, clock) = circuit();
        let (slow, slower) = (circuit.admit().unwrap(), circuit.admit().unwrap());
        fail(&circuit, 5);
        slow.end(Outcome::Works);
        assert!(circuit.refusal().is_some());
        clock.advance(TimeDelta::seconds(10));
        let probe = circuit.admit().unwrap();
        slower.end(Outcome::Fails(None));
        probe.end(Outcome::Works);
        assert_eq!(circuit.refusal(), None);
    }

    #[test]
    fn a_busy_server_is_left_alone_as_long_as_it_asked_and_the_circuit_stays_closed() {
        let (circuit, clock) = circuit();
        let (first, second) = (circuit.admit().unwrap(), circuit.admit().unwrap());
        first.end(Outcome::Busy(Some(TimeDelta::seconds(30))));
        second.end(Outcome::Busy(Some(TimeDelta::seconds(2))));
        assert_eq!(circuit.refusal().unwrap().wait, TimeDelta::seconds(30));
        clock.advance(TimeDelta::seconds(30));
        for _ in 0..9 {
            circuit.admit().unwrap().end(Outcome::Busy(Some(TimeDelta::zero())));
        }
        assert_eq!(circuit.refusal(), None);
    }

    #[test]
    fn without_a_hint_each_refusal_doubles_the_wait_to_a_minute() {
        let (circuit, clock) = circuit();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            circuit.admit().unwrap().end(Outcome::Busy(None));
            assert_eq!(circuit.refusal().unwrap().wait, TimeDelta::seconds(seconds));
            clock.advance(TimeDelta::seconds(seconds));
        }
        circuit.admit().unwrap().end(Outcome::Works);
        circuit.admit().unwrap().end(Outcome::Busy(None));
        assert_eq!(circuit.refusal().unwrap().wait, TimeDelta::seconds(1));
    }

    #[test]
    fn nobody_is_left_alone_for_longer_than_a_quarter_of_an_hour_or_by_a_clock_that_was_set_back() {
        let (circuit, clock) = circuit();
        circuit.admit().unwrap().end(Outcome::Fails(Some(TimeDelta::days(365))));
        assert_eq!(circuit.refusal().unwrap().wait, TimeDelta::minutes(15));
        clock.advance(TimeDelta::days(-1));
        assert_eq!(circuit.refusal(), None);
    }
}
