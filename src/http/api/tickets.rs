//! Tickets for streams: a browser's stream cannot send an `Authorization` header, and a token must not stand in an
//! address. A ticket stands for its owner once, for half a minute, in this process.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access::Caller;
use crate::error::{Code, Error, Result};
use crate::model::digest::Digest;
use crate::seam::fresh_secret;

/// For how long a ticket may be used.
pub const LIFETIME: Duration = Duration::from_secs(30);
/// Tickets that wait to be used.
const WAITING_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub struct Tickets {
    /// By digest, so that looking one up tells nothing about others.
    waiting: Mutex<HashMap<Digest, (Instant, Caller)>>,
}

impl Tickets {
    /// # Errors
    /// SH0410 when too many wait to be used.
    pub fn issue(&self, caller: &Caller) -> Result<String> {
        let ticket = fresh_secret()?;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (born, _)| born.elapsed() < LIFETIME);
        if waiting.len() >= WAITING_MAX {
            return Err(Error::new(Code::NotReady, "too many tickets wait to be used"));
        }
        waiting.insert(Digest::of(ticket.as_bytes()), (Instant::now(), caller.clone()));
        Ok(ticket)
    }

    /// Whose it is; from here on it is nobody's.
    ///
    /// # Errors
    /// SH0810 when it is unknown, used or too old.
    pub fn redeem(&self, ticket: &str) -> Result<Caller> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.remove(&Digest::of(ticket.as_bytes())).filter(|(born, _)| born.elapsed() < LIFETIME);
        found.map(|(_, caller)| caller).ok_or_else(|| {
            Error::new(Code::TokenMissing, "the ticket does not hold")
                .hint("a ticket is used once, within 30 seconds; get another one: `POST /api/stream/ticket`")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_used_once() {
        let tickets = Tickets::default();
        let ticket = tickets.issue(&Caller::Local).unwrap();
        assert_eq!(tickets.redeem(&ticket).unwrap(), Caller::Local);
        assert_eq!(tickets.redeem(&ticket).unwrap_err().code(), Code::TokenMissing);
        assert!(tickets.redeem("").is_err());
    }

    #[test]
    fn tickets_that_wait_are_bounded() {
        let tickets = Tickets::default();
        for _ in 0..WAITING_MAX {
            tickets.issue(&Caller::Local).unwrap();
        }
        assert_eq!(tickets.issue(&Caller::Local).unwrap_err().code(), Code::NotReady);
    }
}
