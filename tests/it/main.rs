//! The integration tests: the real binary, real git, real redb, and a fake agent program.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so by panicking, and reads its own surroundings"
)]

mod access;
mod actions;
mod admin;
mod agent_run;
mod anthropic;
mod approvals;
mod buttons;
mod changes;
mod checkouts;
mod claude;
mod cli;
mod clock;
mod contract;
mod copies;
mod corpus;
mod crash;
mod creators;
mod credentials;
mod dashboard;
mod demo;
mod disk;
mod files;
mod fuzzing;
mod gateway;
mod gitops;
mod hostile;
mod http_server;
mod image;
mod ledger;
mod main_job;
mod material;
mod nodes;
mod outgoing;
mod peer;
mod planted;
mod proposals;
mod provider_corpus;
mod providers;
mod pulled;
mod real_agent;
mod real_run;
mod receiver;
mod redelivery;
mod remotes;
mod senders;
#[path = "../servers/mod.rs"]
mod servers;
mod service;
mod standin;
mod steering;
mod steps;
mod strace;
mod stream;
mod versions;
mod wire;
mod writes;
