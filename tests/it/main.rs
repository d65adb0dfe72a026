//! The integration tests: the real binary, real git, real redb, and a fake agent program.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod admin;
mod corpus;
mod gateway;
mod hostile;
mod http_server;
mod receiver;
mod wire;
