//! How many runs a thread at a source has started lately. People ask now and then; two programs that answer each
//! other ask until somebody stops them, and this does. It lives in memory, and is filled from the ledger at the start.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time in which runs are counted.
pub const WINDOW: Duration = Duration::from_secs(60 * 60);
/// Starts remembered of one thread.
const STARTS_MAX: u32 = 10_000;
/// Threads remembered before those that have been quiet for the window are forgotten.
const KEPT_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub struct Breaker {
    runs_max: u32,
    /// Time is told from one window before this was made, so that what began earlier has its place.
    since: Instant,
    threads: Mutex<HashMap<String, Thread>>,
}

#[derive(Debug, Default)]
struct Thread {
    started: VecDeque<Duration>,
    /// It was said at the source that nothing more is started.
    told: bool,
}

/// A thread has started enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub runs: u32,
    /// Until one more may start, in minutes.
    pub minutes: u64,
    /// Nobody was told yet.
    pub first: bool,
}

impl Breaker {
    /// 0 is no limit.
    pub fn new(runs_max: u32) -> Self {
        Self {
            runs_max: if runs_max == 0 { u32::MAX } else { runs_max },
            since: Instant::now(),
            threads: Mutex::default(),
        }
    }

    /// Whether the thread may start one more run; asking counts nothing.
    pub fn check(&self, thread: &str) -> Result<(), Open> {
        self.check_at(thread, self.now())
    }

    /// Counts runs that were started.
    pub fn count(&self, thread: &str, runs: usize) {
        self.count_at(thread, runs, self.now());
    }

    /// Counts a run that was started so long ago, before this was made. Earlier ones come first.
    pub fn remember(&self, thread: &str, ago: Duration) {
        if ago < WINDOW {
            self.count_at(thread, 1, self.now().saturating_sub(ago));
        }
    }

    fn now(&self) -> Duration {
        WINDOW + self.since.elapsed()
    }

    fn check_at(&self, thread: &str, now: Duration) -> Result<(), Open> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = threads.get_mut(thread) else { return Ok(()) };
        known.forget_before(now);
        let runs = u32::try_from(known.started.len()).unwrap_or(u32::MAX);
        if runs < self.runs_max {
            known.told = false;
            return Ok(());
        }
        let first = !std::mem::replace(&mut known.told, true);
        let oldest = known.started.front().copied().unwrap_or(now);
        let wait = (oldest + WINDOW).saturating_sub(now);
        Err(Open { runs, minutes: wait.as_secs().div_ceil(60).max(1), first })
    }

    fn count_at(&self, thread: &str, runs: usize, now: Duration) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.len() >= KEPT_MAX && !threads.contains_key(thread) {
            threads.retain(|_, known| {
                known.forget_before(now);
                !known.started.is_empty()
            });
        }
        let known = threads.entry(thread.to_owned()).or_default();
        known.forget_before(now);
        let room = (self.runs_max.min(STARTS_MAX) as usize).saturating_sub(known.started.len());
        known.started.extend(std::iter::repeat_n(now, runs.min(room)));
    }
}

impl Thread {
    fn forget_before(&mut self, now: Duration) {
        while self.started.front().is_some_and(|started| *started + WINDOW <= now) {
            self.started.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_thread_that_started_enough_waits_and_is_told_once() {
        let breaker = Breaker::new(3);
        for minute in 0..3 {
            assert_eq!(breaker.check_at("a", MINUTE * minute), Ok(()));
            breaker.count_at("a", 1, MINUTE * minute);
        }
        assert_eq!(breaker.check_at("a", MINUTE * 3), Err(Open { runs: 3, minutes: 57, first: true }));
        assert_eq!(breaker.check_at("a", MINUTE * 4), Err(Open { runs: 3, minutes: 56, first: false }));
        assert_eq!(breaker.check_at("b", MINUTE * 4), Ok(()), "another thread has a budget of its own");
        assert_eq!(breaker.check_at("a", MINUTE * 60), Ok(()), "the first is an hour ago");
        breaker.count_at("a", 1, MINUTE * 60);
        assert!(breaker.check_at("a", MINUTE * 60).unwrap_err().first, "a new pause is said anew");
    }

    #[test]
    fn what_was_started_before_a_restart_counts() {
        let breaker = Breaker::new(2);
        for ago in [WINDOW * 2, MINUTE * 50, MINUTE * 10] {
            breaker.remember("a", ago);
        }
        let open = breaker.check("a").unwrap_err();
        assert_eq!((open.runs, open.minutes), (2, 10));
        assert_eq!(breaker.check("b"), Ok(()));
    }

    #[test]
    fn quiet_threads_are_forgotten() {
        let breaker = Breaker::new(1);
        for n in 0..KEPT_MAX {
            breaker.count_at(&n.to_string(), 1, Duration::ZERO);
        }
        breaker.count_at("new", 1, WINDOW);
        assert_eq!(breaker.threads.lock().unwrap().len(), 1);
    }
}
