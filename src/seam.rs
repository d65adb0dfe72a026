//! Where time and randomness come in: a real one for the service, a manual one for tests.
//!
//! `model` never sees these: it gets instants and ids as arguments.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::error::{Code, Context as _, Result};

/// Tells the time.
#[derive(Clone, Debug)]
pub enum Clock {
    System,
    /// Stands still until it is told to move.
    Manual(Arc<Mutex<Timestamp>>),
}

impl Clock {
    pub fn manual(start: Timestamp) -> Self {
        Clock::Manual(Arc::new(Mutex::new(start)))
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::now(),
            Clock::Manual(at) => *at.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a manual clock forward; the system clock moves by itself.
    pub fn advance(&self, by: SignedDuration) {
        if let Clock::Manual(at) = self {
            let mut at = at.lock().unwrap_or_else(PoisonError::into_inner);
            *at = at.checked_add(by).unwrap_or(Timestamp::MAX);
        }
    }
}

/// A fresh id that sorts by its time of birth (UUID version 7, RFC 9562).
pub fn fresh_id() -> Uuid {
    Uuid::now_v7()
}

/// A uniformly random number, for jitter; its middle where the machine has no randomness to give.
pub fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

/// A fresh secret of 256 bits, as hexadecimal text.
///
/// # Errors
/// SH0999 when the machine has no randomness to give.
pub fn fresh_secret() -> Result<String> {
    fresh_bytes::<32>().map(hex::encode)
}

/// Bytes that nobody can guess.
///
/// # Errors
/// SH0999 when the machine has no randomness to give.
pub fn fresh_bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context(Code::Bug, "the system gives no randomness")?;
    Ok(bytes)
}
