use std::collections::{HashMap, VecDeque};

use crate::ids::TenantId;

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::inbox) enum Full {
    /// In the whole queue.
    Queue,
    /// For this tenant, whose share is used up.
    Share,
}

impl Full {
    /// For the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue_full",
            Self::Share => "share_full",
        }
    }
}

/// A bounded queue from which tenants are served in turns. A tenant may fill half of it, so that there is room for the others;
/// its own entries keep their order.
pub(super) struct FairQueue<T> {
    waiting: HashMap<TenantId, Line<T>>,
    /// The tenants with entries, the next to be served first.
    turns: VecDeque<TenantId>,
    count: usize,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

struct Line<T> {
    entries: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> FairQueue<T> {
    /// A queue of at most so many entries and bytes.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self { waiting: HashMap::new(), turns: VecDeque::new(), count: 0, bytes: 0, most, most_bytes }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds an entry. The only one is always taken, however large.
    pub fn push(&mut self, tenant: TenantId, bytes: usize, entry: T) -> Result<(), Full> {
        let line = self.waiting.get(&tenant);
        if self.count > 0 {
            if self.count >= self.most || self.bytes + bytes > self.most_bytes {
                return Err(Full::Queue);
            }
            if line.is_some_and(|line| {
                line.entries.len() >= self.most.div_ceil(2)
                    || line.bytes + bytes > self.most_bytes.div_ceil(2)
            }) {
                return Err(Full::Share);
            }
        }
        if line.is_none() {
            self.turns.push_back(tenant);
        }
        let line = self.waiting.entry(tenant).or_insert_with(|| Line { entries: VecDeque::new(), bytes: 0 });
        line.entries.push_back((bytes, entry));
        line.bytes += bytes;
        self.count += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// Takes at most so many entries and bytes, one of each tenant in turn; one at least, where there is one.
    pub fn take(&mut self, most: usize, most_bytes: usize) -> Vec<T> {
        let mut taken = Vec::with_capacity(most.min(self.count));
        let mut taken_bytes = 0;
        while taken.len() < most {
            let Some(tenant) = self.turns.pop_front() else { break };
            let Some(line) = self.waiting.get_mut(&tenant) else { continue };
            let next = line.entries.front().map_or(0, |(bytes, _)| *bytes);
            if !taken.is_empty() && taken_bytes + next > most_bytes {
                self.turns.push_front(tenant);
                break;
            }
            if let Some((bytes, entry)) = line.entries.pop_front() {
                line.bytes -= bytes;
                self.count -= 1;
                self.bytes -= bytes;
                taken_bytes += bytes;
                taken.push(entry);
            }
            if line.entries.is_empty() {
                self.waiting.remove(&tenant);
            } else {
                self.turns.push_back(tenant);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId(Uuid::from_u128(number))
    }

    #[test]
    fn a_full_queue_and_a_used_up_share_are_told_apart() {
        let mut queue = FairQueue::new(4, 100);
        assert_eq!(queue.push(tenant(1), 200, 0), Ok(()), "the only one is taken however large");
        assert_eq!(queue.push(tenant(2), 1, 0), Err(Full::Queue));
        assert_eq!(queue.take(9, 9), [0]);
        assert_eq!([queue.push(tenant(1), 10, 1), queue.push(tenant(1), 10, 2)], [Ok(()); 2]);
        assert_eq!(queue.push(tenant(1), 10, 3), Err(Full::Share));
        assert_eq!([queue.push(tenant(2), 10, 4), queue.push(tenant(3), 10, 5)], [Ok(()); 2]);
        assert_eq!(queue.push(tenant(4), 10, 6), Err(Full::Queue));
        assert_eq!(queue.take(9, 100), [1, 4, 5, 2]);
        assert_eq!([queue.push(tenant(1), 40, 7), queue.push(tenant(1), 20, 8)], [Ok(()), Err(Full::Share)]);
    }

    #[test]
    fn a_batch_holds_so_many_bytes_and_one_entry_at_least() {
        let mut queue = FairQueue::new(10, 1000);
        for number in 0..3 {
            queue.push(tenant(number), 60, number).unwrap();
        }
        assert_eq!(queue.take(10, 120), [0, 1]);
        assert_eq!(queue.take(10, 10), [2]);
        assert!(queue.is_empty() && queue.take(10, 10).is_empty());
    }

    proptest! {
        #[test]
        fn each_tenants_entries_come_out_once_in_their_order_and_nobody_waits_for_a_noisy_one(
            pushed in proptest::collection::vec((0_u128..5, 0_usize..50), 1..200),
            most in 1_usize..20,
        ) {
            let mut queue = FairQueue::new(1000, usize::MAX);
            for (number, (of, bytes)) in pushed.iter().enumerate() {
                queue.push(tenant(*of), *bytes, (*of, number)).unwrap();
            }
            let mut seen: HashMap<u128, Vec<usize>> = HashMap::new();
            let mut positions: HashMap<u128, usize> = HashMap::new();
            let mut position = 0;
            while !queue.is_empty() {
                let taken = queue.take(most, usize::MAX);
                prop_assert!(!taken.is_empty() && taken.len() <= most);
                for (of, number) in taken {
                    seen.entry(of).or_default().push(number);
                    positions.entry(of).or_insert(position);
                    position += 1;
                }
            }
            prop_assert_eq!(seen.values().map(Vec::len).sum::<usize>(), pushed.len());
            prop_assert!(seen.values().all(|numbers| numbers.is_sorted()));
            // Each tenant is served before anybody is for the second time.
            prop_assert!(positions.values().all(|first| *first < positions.len()));
        }
    }
}
