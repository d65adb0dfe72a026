//! The work itself: runs of agent programs.

pub mod agent;
