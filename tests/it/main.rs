//! The integration tests: the real binary, real git, real redb, and a fake agent program.

mod ledger;
