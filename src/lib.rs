//! skillhook: a webhook gateway for coding agents whose whole routing state is a verifiable function of files in git.
//!
//! The modules in reading order; `ARCHITECTURE.md` beside this file has the map and the walkthroughs.

pub mod error;
pub mod ledger;
pub mod model;
pub mod repo;
pub mod seam;
pub mod workspace;
