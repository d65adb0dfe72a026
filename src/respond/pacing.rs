//! Messages to one place keep their distance: a channel, a chat, or everything that goes to a provider, as its
//! definition says.
//!
//! Nobody sleeps here. A message whose turn has not come is told when that is, and goes back to the outbox meanwhile, so
//! that it holds up nothing else. What was promised is lost with the process: then it is promised anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::model::ids::{OutboxId, ProviderName};
use crate::model::provider::Spaced;

/// Places that are remembered; those whose time is over are forgotten first.
const PLACES_MAX: usize = 10_000;
/// Turns that are promised at one time.
const PROMISED_MAX: usize = 100_000;

/// Whose turn it is; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pacing(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    places: HashMap<String, Place>,
    promised: HashMap<OutboxId, Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// When the last message went there.
    last: Option<Timestamp>,
    /// The first time that is promised to nobody.
    free: Option<Timestamp>,
}

impl Pacing {
    /// `None`: it goes now. Otherwise when its turn comes.
    pub fn turn(&self, id: OutboxId, provider: &ProviderName, spacing: &[Spaced], now: Timestamp) -> Option<Timestamp> {
        if spacing.is_empty() {
            return None;
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget(now);
        let promised = state.promised.remove(&id);
        if let Some(at) = promised.filter(|at| *at > now) {
            state.promised.insert(id, at);
            return Some(at);
        }
        let rested = spacing.iter().all(|it| state.place(provider, it).rested(it, now) <= now);
        let free = spacing.iter().all(|it| state.place(provider, it).free.is_none_or(|free| free <= now));
        if rested && (promised.is_some() || free) {
            for it in spacing {
                let place = state.place(provider, it);
                place.last = Some(now);
                place.free = place.free.max(Some(after(now, it)));
            }
            return None;
        }
        let earliest = |it: &Spaced, place: &Place| place.rested(it, now).max(place.free.unwrap_or(now));
        let times: Vec<Timestamp> = spacing.iter().map(|it| earliest(it, state.place(provider, it))).collect();
        let at = times.into_iter().max().unwrap_or(now);
        for it in spacing {
            state.place(provider, it).free = Some(after(at, it));
        }
        state.promised.insert(id, at);
        Some(at)
    }

    /// The provider asked for patience there: nobody's turn comes before.
    pub fn hold(&self, provider: &ProviderName, spacing: &[Spaced], until: Timestamp) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for it in spacing {
            let place = state.place(provider, it);
            place.free = place.free.max(Some(until));
        }
    }
}

impl State {
    fn place(&mut self, provider: &ProviderName, spaced: &Spaced) -> &mut Place {
        self.places.entry(format!("{provider} {}", spaced.of)).or_default()
    }

    fn forget(&mut self, now: Timestamp) {
        if self.places.len() >= PLACES_MAX {
            self.places.retain(|_, place| place.free.is_some_and(|free| free > now));
        }
        if self.promised.len() >= PROMISED_MAX {
            self.promised.retain(|_, at| *at > now);
        }
    }
}

impl Place {
    /// When the distance to the last message is kept. A clock that was set back does not count.
    fn rested(&self, spaced: &Spaced, now: Timestamp) -> Timestamp {
        self.last.filter(|last| *last <= now).map_or(now, |last| after(last, spaced).max(now))
    }
}

fn after(at: Timestamp, spaced: &Spaced) -> Timestamp {
    let distance = SignedDuration::from_millis(i64::try_from(spaced.milliseconds).unwrap_or(i64::MAX));
    at.checked_add(distance).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    fn id(n: u128) -> OutboxId {
        OutboxId(Uuid::from_u128(n))
    }

    fn place(of: &str, milliseconds: u64) -> Vec<Spaced> {
        vec![Spaced { of: of.to_owned(), milliseconds }]
    }

    struct Chat(Pacing, ProviderName);

    impl Chat {
        fn new() -> Self {
            Self(Pacing::default(), ProviderName::parse("slack").unwrap())
        }

        fn turn(&self, n: u128, spacing: &[Spaced], now: i64) -> Option<i64> {
            self.0.turn(id(n), &self.1, spacing, at(now)).map(Timestamp::as_millisecond)
        }
    }

    #[test]
    fn each_waits_for_its_turn_in_its_channel_and_nobody_for_another_channel() {
        let (chat, one, other) = (Chat::new(), place("C1", 1_000), place("C2", 1_000));
        assert_eq!(chat.turn(1, &one, 0), None);
        assert_eq!(chat.turn(2, &one, 0), Some(1_000));
        assert_eq!(chat.turn(3, &one, 0), Some(2_000));
        assert_eq!(chat.turn(4, &other, 0), None);
        assert_eq!(chat.turn(5, &[], 0), None);
        assert_eq!(chat.turn(2, &one, 500), Some(1_000), "what was promised stays");
        assert_eq!(chat.turn(2, &one, 1_000), None);
        assert_eq!(chat.turn(6, &one, 1_999), Some(3_000), "nobody is overtaken");
        assert_eq!(chat.turn(3, &one, 2_000), None);
    }

    #[test]
    fn two_whose_turns_were_missed_do_not_go_at_once() {
        let (chat, one) = (Chat::new(), place("C1", 1_000));
        assert_eq!(chat.turn(1, &one, 0), None);
        assert_eq!((chat.turn(2, &one, 0), chat.turn(3, &one, 0)), (Some(1_000), Some(2_000)));
        assert_eq!(chat.turn(2, &one, 9_000), None);
        assert_eq!(chat.turn(3, &one, 9_000), Some(10_000));
        assert_eq!(chat.turn(3, &one, 10_000), None);
    }

    #[test]
    fn every_distance_is_kept_and_a_provider_that_asks_for_patience_gets_it() {
        let chat = Chat::new();
        let both = [place("all", 100), place("C1", 3_000)].concat();
        let elsewhere = [place("all", 100), place("C2", 3_000)].concat();
        assert_eq!(chat.turn(1, &both, 0), None);
        assert_eq!(chat.turn(2, &elsewhere, 0), Some(100));
        assert_eq!(chat.turn(3, &both, 0), Some(3_000));
        assert_eq!(chat.turn(2, &elsewhere, 100), None);
        let calm = place("C3", 1_000);
        chat.0.hold(&chat.1, &calm, at(60_000));
        assert_eq!(chat.turn(4, &calm, 0), Some(60_000));
    }

    #[test]
    fn clock_that_was_set_back_stops_nothing() {
        let (chat, one) = (Chat::new(), place("C1", 1_000));
        assert_eq!(chat.turn(1, &one, 50_000), None);
        let again = chat.turn(2, &one, 10_000).unwrap();
        assert!(again <= 51_000, "{again}");
        assert_eq!(chat.turn(2, &one, again), None);
    }
}
