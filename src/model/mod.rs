//! The pure core: what files mean, what a delivery matches, what is to be done. No I/O, no clock, no async,
//! no environment, no randomness: everything comes in as an argument and goes out as a value.

pub mod condition;
pub mod diagnostic;
pub mod digest;
pub mod event;
pub mod ids;
pub mod matching;
pub mod provider;
pub mod revision;
pub mod spec;
pub mod task;
