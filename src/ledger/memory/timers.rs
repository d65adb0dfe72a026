//! Ids that wait for a point in time.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use jiff::Timestamp;

use super::Due;

#[derive(Debug)]
pub struct Timers<Id> {
    order: BTreeSet<(Timestamp, Id)>,
    due: HashMap<Id, Due>,
}

impl<Id> Default for Timers<Id> {
    fn default() -> Self {
        Self { order: BTreeSet::new(), due: HashMap::new() }
    }
}

impl<Id: Copy + Ord + Hash> Timers<Id> {
    pub fn set(&mut self, id: Id, due: Due) {
        self.remove(id);
        self.order.insert((due.at, id));
        self.due.insert(id, due);
    }

    pub fn remove(&mut self, id: Id) {
        if let Some(due) = self.due.remove(&id) {
            self.order.remove(&(due.at, id));
        }
    }

    pub fn first_due(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    pub fn take_due(&mut self, now: Timestamp) -> Option<Id> {
        let id = self.order.first().filter(|(at, _)| *at <= now)?.1;
        self.remove(id);
        Some(id)
    }

    /// Those that are due, earliest first; they stay.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = Id> {
        self.order.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// To be called when the clock was set back.
    pub fn clamp(&mut self, now: Timestamp) {
        for (id, due) in &mut self.due {
            let clamped = due.clamped(now);
            if clamped != *due {
                self.order.remove(&(due.at, *id));
                self.order.insert((clamped.at, *id));
                *due = clamped;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn earliest_comes_first_and_only_when_due() {
        let mut timers = Timers::default();
        timers.set(1, Due::after(at(0), Duration::from_secs(9)));
        timers.set(2, Due::after(at(0), Duration::from_secs(5)));
        assert_eq!(timers.first_due(), Some(at(5)));
        assert_eq!(timers.take_due(at(4)), None);
        assert_eq!(timers.take_due(at(10)), Some(2));
        assert_eq!(timers.take_due(at(10)), Some(1));
        assert_eq!(timers.take_due(at(10)), None);
    }

    #[test]
    fn clock_set_back_by_years_delays_by_no_more_than_the_wait() {
        let mut timers = Timers::default();
        let (then, now) = (at(400_000_000), at(100_000_000));
        timers.set(1, Due::after(then, Duration::from_secs(60)));
        timers.set(2, Due::after(then, Duration::from_secs(5)));
        timers.clamp(now);
        assert_eq!(timers.first_due(), Some(at(100_000_005)));
        assert_eq!(timers.due(at(100_000_060)).collect::<Vec<_>>(), [2, 1]);
    }
}
