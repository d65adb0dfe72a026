//! The integration tests: the real binary, real git, real redb, and a fake agent program.

mod http_server;
mod wire;
