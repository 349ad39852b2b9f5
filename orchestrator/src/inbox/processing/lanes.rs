use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Which lanes have something to process, as far as this process knows, and which its workers have taken. A wake-up in memory:
/// what it doesn't know, the database is asked for a little later.
#[derive(Debug, Default)]
pub struct Lanes {
    sets: Mutex<Sets>,
    marked: Notify,
}

#[derive(Debug, Default)]
struct Sets {
    marked: u16,
    taken: u16,
    /// From which lane on to look, so that each gets its turn.
    next: u32,
}

impl Lanes {
    fn sets(&self) -> MutexGuard<'_, Sets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that these lanes have something.
    pub(crate) fn mark(&self, lanes: u16) {
        let mut sets = self.sets();
        sets.marked |= lanes;
        if sets.marked & !sets.taken != 0 {
            self.marked.notify_one();
        }
    }

    /// Takes at most so many marked lanes that nobody has.
    pub(in crate::inbox) fn take(&self, most: u32) -> u16 {
        let mut sets = self.sets();
        let mut taken = 0_u16;
        for _ in 0..u16::BITS {
            let bit = 1_u16 << (sets.next % u16::BITS);
            if sets.marked & !sets.taken & bit != 0 {
                if taken.count_ones() == most {
                    // Somebody else may take the rest.
                    self.marked.notify_one();
                    break;
                }
                taken |= bit;
            }
            sets.next = (sets.next + 1) % u16::BITS;
        }
        sets.marked &= !taken;
        sets.taken |= taken;
        taken
    }

    /// Gives lanes back.
    pub(in crate::inbox) fn give_back(&self, lanes: u16) {
        let mut sets = self.sets();
        sets.taken &= !lanes;
        // What was marked meanwhile is for whoever comes next.
        if sets.marked & !sets.taken != 0 {
            self.marked.notify_one();
        }
    }

    /// Completes when there may be a lane to take.
    pub(in crate::inbox) async fn ready(&self) {
        self.marked.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_taken_by_one_at_a_time_and_what_comes_meanwhile_is_not_forgotten() {
        let lanes = Lanes::default();
        assert_eq!(lanes.take(4), 0);
        lanes.mark(0b1011);
        assert_eq!(lanes.take(2), 0b0011);
        lanes.mark(0b0001);
        assert_eq!(lanes.take(4), 0b1000);
        assert_eq!(lanes.take(4), 0);
        lanes.give_back(0b0011);
        assert_eq!(lanes.take(4), 0b0001);
        lanes.give_back(0b1001);
        assert_eq!(lanes.take(4), 0);
    }

    #[test]
    fn each_lane_gets_its_turn() {
        let lanes = Lanes::default();
        let mut seen = 0;
        for _ in 0..4 {
            lanes.mark(u16::MAX);
            let taken = lanes.take(4);
            seen |= taken;
            lanes.give_back(taken);
        }
        assert_eq!(seen, u16::MAX);
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_and_wakes_the_next() {
        let lanes = Lanes::default();
        lanes.mark(0b11);
        lanes.ready().await;
        assert_eq!(lanes.take(1), 0b01);
        lanes.ready().await;
        assert_eq!(lanes.take(1), 0b10);
        lanes.mark(0b01);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(20), lanes.ready()).await.is_err());
        lanes.give_back(0b01);
        lanes.ready().await;
    }
}
