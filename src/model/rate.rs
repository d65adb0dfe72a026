//! A token bucket: how often something may happen, as a value that is told the time.
//!
//! The bucket holds `max` tokens when full and fills evenly over `per_seconds`. So a burst of `max` is let through at
//! once, and over a long time at most `max` in each `per_seconds`.

use std::time::Duration;

use super::spec::RateLimit;

/// The state of one bucket. Times are durations since any fixed instant that never goes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    tokens: f64,
    filled_at: Duration,
}

impl Bucket {
    pub fn full(limit: RateLimit, now: Duration) -> Self {
        Self { tokens: f64::from(limit.max), filled_at: now }
    }

    /// Takes one token, or says how long until there is one.
    pub fn take(&mut self, limit: RateLimit, now: Duration) -> Result<(), Duration> {
        let per_second = f64::from(limit.max) / seconds(limit);
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + passed * per_second).min(f64::from(limit.max));
        self.filled_at = self.filled_at.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = (1.0 - self.tokens) / per_second;
        // `max: 0` lets nothing through, ever.
        Err(Duration::try_from_secs_f64(missing).unwrap_or(Duration::from_secs(limit.per_seconds.max(1))))
    }

    /// Nothing is known that a fresh bucket would not know: it may be forgotten.
    pub fn is_full(&self, limit: RateLimit, now: Duration) -> bool {
        now.saturating_sub(self.filled_at).as_secs_f64() >= seconds(limit)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a window is far below 2^52 seconds")]
fn seconds(limit: RateLimit) -> f64 {
    limit.per_seconds.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { max: 3, per_seconds: 30 };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_burst_is_let_through_and_then_an_even_stream() {
        let mut bucket = Bucket::full(LIMIT, at(100));
        assert!((0..3).all(|_| bucket.take(LIMIT, at(100)).is_ok()));
        assert_eq!(bucket.take(LIMIT, at(100)).unwrap_err(), at(10));
        assert_eq!(bucket.take(LIMIT, at(106)).unwrap_err(), at(4));
        assert!(bucket.take(LIMIT, at(110)).is_ok());
        assert!(bucket.take(LIMIT, at(110)).is_err());
    }

    #[test]
    fn a_long_rest_saves_up_no_more_than_a_burst() {
        let mut bucket = Bucket::full(LIMIT, at(0));
        assert!(bucket.take(LIMIT, at(0)).is_ok());
        assert!(!bucket.is_full(LIMIT, at(29)) && bucket.is_full(LIMIT, at(30)));
        assert_eq!((0..9).filter(|_| bucket.take(LIMIT, at(100_000)).is_ok()).count(), 3);
    }

    #[test]
    fn time_that_stands_still_or_goes_back_gives_nothing() {
        let mut bucket = Bucket::full(LIMIT, at(50));
        assert_eq!((0..9).filter(|_| bucket.take(LIMIT, at(20)).is_ok()).count(), 3);
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_through() {
        let limit = RateLimit { max: 0, per_seconds: 60 };
        assert_eq!(Bucket::full(limit, at(0)).take(limit, at(1000)), Err(at(60)));
    }
}
