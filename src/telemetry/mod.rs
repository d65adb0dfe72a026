//! What the service says about itself: log lines and metrics, emitted together by event structs.
//!
//! Invariants: every label has a bounded set of values (never a webhook, an actor or a path); nothing here takes a
//! secret, a header, a body or a prompt. There are no globals but the one subscriber that [`log::init`] installs: the
//! registry lives in a [`metrics::Metrics`] handle that the composition root hands out.

pub mod event;
pub mod log;
pub mod metrics;
pub mod recent;
