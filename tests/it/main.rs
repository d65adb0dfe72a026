//! The integration tests: the real binary, real git, real redb, and a fake agent program.

mod agent_run;
mod real_agent;
