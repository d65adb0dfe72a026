//! The two listeners: the receiver, which providers call, and the admin API, which people and their tools call.
//! The only folder that names warp.
//!
//! Invariants: every connection, head, body, answer and wait has a limit; no request makes the process answer 5xx by
//! its content alone; no answer carries a secret, a path of this machine or the text of a panic. What is decided about
//! a delivery is decided in `model`; this folder reads bytes, asks, and writes.

pub mod answer;
pub mod api;
pub mod body;
mod breaker;
mod connection;
mod current;
mod dashboard;
pub mod exchange;
pub mod intake;
pub mod listen;
mod peer;
mod rates;
pub mod receiver;
pub mod serve;
mod templates;
pub mod tools;
