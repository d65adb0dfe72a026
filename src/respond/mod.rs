//! What goes out to providers: acks and answers from the outbox, and permission look-ups.
//!
//! Everything that is to be said was written to the ledger before it is said here. A call whose fate is unknown is
//! looked for at the source before it is made again, so that a task answers once. This folder decides nothing about
//! what is said; it never follows redirects and never logs addresses, headers or texts.

pub mod assertion;
pub mod caller;
pub mod forward;
pub mod guard;
pub mod outbox;
pub mod pacing;
pub mod permission;
pub mod proposal;
pub mod tokens;
pub mod transport;
