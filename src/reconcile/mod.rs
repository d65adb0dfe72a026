//! From files to what is served: activation, a look at the files, the pure decision, one transaction, publication.
//!
//! Nothing here is told what changed; everything is found by looking. Recording in git follows behind the pass.

pub mod activator;
pub mod embedded;
pub mod judge;
pub mod look;
mod message;
pub mod origins;
pub mod pass;
pub mod pause;
pub mod preview;
pub mod rebuild;
pub mod record;
pub mod source;
pub mod versions;
pub mod watch;
