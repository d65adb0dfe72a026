//! What the writer keeps in memory to choose the next task or call at once: rebuilt from the file whenever it is opened.
//!
//! Everything in here can be derived from the `live`, `pending` and `dedupe` tables; losing it loses nothing.

pub mod dedupe;
pub mod outbox;
pub mod queue;
pub mod timers;

use jiff::{SignedDuration, Timestamp};

/// A point in time, and the wait that it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Timestamp,
    pub delay_ms: u64,
}

impl Due {
    pub fn at_once(now: Timestamp) -> Self {
        Self { at: now, delay_ms: 0 }
    }

    pub fn after(now: Timestamp, delay: std::time::Duration) -> Self {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Self { at: later(now, delay_ms), delay_ms }
    }

    /// From `at` alone, as others say it.
    pub fn until(now: Timestamp, at: Timestamp) -> Self {
        Self { at, delay_ms: u64::try_from(at.duration_since(now).as_millis()).unwrap_or(0) }
    }

    /// Never further away than the wait it was made from: if it is, the clock was set back.
    pub fn clamped(self, now: Timestamp) -> Self {
        Self { at: self.at.min(later(now, self.delay_ms)), ..self }
    }
}

fn later(now: Timestamp, delay_ms: u64) -> Timestamp {
    let delay = SignedDuration::from_millis(i64::try_from(delay_ms).unwrap_or(i64::MAX));
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}
