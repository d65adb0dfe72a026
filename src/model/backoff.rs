//! How long to wait before the next try. Pure: the randomness comes in as a number.
//!
//! Exponential with full jitter: a uniformly random part of a ceiling that doubles with every try, so that many that
//! failed together do not come back together. What the other side asked for (`Retry-After`) wins over our own guess.

use std::time::Duration;

/// Ceiling of the wait after the first failure.
pub const BASE: Duration = Duration::from_secs(5);
/// The ceiling grows no further than this.
pub const CEILING_MAX: Duration = Duration::from_secs(15 * 60);
/// No wait of our own choice is shorter: jitter may not turn a retry into a busy loop.
pub const FLOOR: Duration = Duration::from_secs(1);
/// No wait at all is longer, whoever asked for it: a mistaken `Retry-After` must not park work for ever.
pub const WAIT_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The wait after the `failures`-th failure in a row (from 1). `random` is uniform over all of `u64`.
pub fn delay(failures: u32, random: u64, retry_after: Option<Duration>) -> Duration {
    match retry_after {
        Some(asked) => asked.min(WAIT_MAX),
        None => jittered(ceiling(failures), random),
    }
}

/// The longest that [`delay`] waits of its own accord after the `failures`-th failure.
pub fn ceiling(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    BASE.saturating_mul(1 << doublings).min(CEILING_MAX)
}

fn jittered(ceiling: Duration, random: u64) -> Duration {
    let span = ceiling.saturating_sub(FLOOR).as_nanos();
    let part = span * u128::from(random) / u128::from(u64::MAX);
    FLOOR + Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, proptest};

    #[test]
    fn ceiling_doubles_until_it_is_reached() {
        let seconds: Vec<u64> = (0..10).map(|failures| ceiling(failures).as_secs()).collect();
        assert_eq!(seconds, [5, 5, 10, 20, 40, 80, 160, 320, 640, 900]);
        assert_eq!(ceiling(u32::MAX), CEILING_MAX);
    }

    #[test]
    fn what_the_other_side_asks_wins_within_reason() {
        assert_eq!(delay(1, 0, Some(Duration::from_secs(3600))), Duration::from_secs(3600));
        assert_eq!(delay(9, u64::MAX, Some(Duration::ZERO)), Duration::ZERO);
        assert_eq!(delay(1, 0, Some(Duration::MAX)), WAIT_MAX);
    }

    #[test]
    fn jitter_uses_the_whole_span() {
        assert_eq!(delay(3, 0, None), FLOOR);
        assert_eq!(delay(3, u64::MAX, None), ceiling(3));
        let middle = delay(3, u64::MAX / 2, None).as_secs_f64();
        assert!((10.0..11.0).contains(&middle), "{middle}");
    }

    proptest! {
        #[test]
        fn wait_is_always_between_floor_and_ceiling(failures in any::<u32>(), random in any::<u64>()) {
            let wait = delay(failures, random, None);
            prop_assert!(FLOOR <= wait && wait <= ceiling(failures));
        }
    }
}
