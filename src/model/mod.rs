//! The pure core: what files mean, what a delivery matches, what is to be done. No I/O, no clock, no async,
//! no environment, no randomness: everything comes in as an argument and goes out as a value.

pub mod admission;
pub mod approval;
pub mod backoff;
pub mod capability;
pub mod change;
pub mod chat;
pub mod check;
pub mod condition;
pub mod desired;
pub mod diagnostic;
pub mod digest;
pub mod edit;
pub mod entry;
pub mod event;
pub mod forward;
pub mod frontmatter;
pub mod glob;
pub mod ids;
pub mod intake;
pub mod matching;
pub mod merge;
pub mod plan;
pub mod provider;
pub mod question;
pub mod rate;
pub mod raw;
pub mod revision;
pub mod routes;
pub mod secret;
pub mod snapshot;
pub mod spec;
pub mod task;
pub mod template;
pub mod token;
pub mod untrusted;
