//! skillhook: a webhook gateway for coding agents whose whole routing state is a verifiable function of files in git.
//!
//! The modules in reading order; `ARCHITECTURE.md` beside this file has the map and the walkthroughs.

pub mod error;
pub mod seam;

pub mod model;

pub mod config;
pub mod index;
pub mod ledger;
pub mod postgres;
pub mod repo;
pub mod secrets;
pub mod telemetry;

pub mod change;
pub mod copies;
pub mod mcp;
pub mod outward;
pub mod reconcile;
pub mod respond;
pub mod workspace;

pub mod http;
pub mod review;
pub mod worker;

pub mod app;
pub mod cli;
pub mod demo;

#[cfg(test)]
#[path = "../tests/servers/mod.rs"]
mod testing;
