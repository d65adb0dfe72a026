//! Runs tasks: leases them from the ledger, runs the agent program on the pinned revision, and finishes them with
//! their answer in one commit. It never reads configuration or the files of the tree: a task says everything.

pub mod agent;
pub mod lease;
pub mod tools;

mod answer;
mod attempt;
mod narrate;

pub use lease::{KnownSecrets, NewestRevision, Worker};
