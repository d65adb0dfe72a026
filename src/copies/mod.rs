//! Cloud copies: every committed revision again, in a directory, in S3-compatible storage or in PostgreSQL, so that a
//! machine that has nothing can be given everything back.
//!
//! A copy holds objects named by the SHA-256 of their bytes (`seal`), one manifest a revision (`manifest`), and a head
//! that names the newest manifest. Objects are there before the manifest that names them, the manifest before the head.
//!
//! Invariants: the head moves by compare-and-swap, from a revision to one that builds upon it, so nobody's revision is
//! ever overwritten; what the head reaches is never removed; every byte that is read is compared with its digest.
//! Copies are made behind the commit: trouble with them holds nothing up. They deliberately never change the tree, and
//! never hold what is not committed: no ledger, no secret, no key.

mod copier;
mod directory;
pub mod manifest;
mod place;
mod postgres;
mod push;
mod restore;
mod s3;
mod seal;
mod sweep;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::error::{Code, Error, Result};
use crate::model::digest::Digest;

pub use copier::{Copied, Copier, Parts};
pub use place::{Place, open};
pub use restore::{Restored, Wanted, clone, find, lay_down};
pub use seal::Key;

/// The name of an object: the SHA-256 of its bytes as they are stored.
pub type ObjectId = Digest;

/// Objects and manifests are not larger, in bytes.
pub const OBJECT_BYTES_MAX: usize = 32 << 20;
/// A head is not larger, in bytes.
const HEAD_BYTES_MAX: usize = 4096;

/// What tells two values of the head apart; only the copy that gave it understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

/// Whether a head was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    Moved,
    /// It is no longer what was expected; nothing has changed.
    Lost,
}

/// An object that a copy holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub id: ObjectId,
    /// When it was stored last.
    pub at: Timestamp,
}

/// A place that holds copies. What a call has answered is durable.
pub trait CloudCopy: Send + Sync {
    /// Stores an object; one that is there already becomes young again.
    fn put(&self, id: ObjectId, bytes: Bytes) -> BoxFuture<'_, Result<()>>;
    /// The bytes as they are stored: compare them with their name.
    fn get(&self, id: ObjectId) -> BoxFuture<'_, Result<Option<Bytes>>>;
    /// The head and its version; `None` in a place that holds no copy yet.
    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Version)>>>;
    /// Moves the head if it still is what was expected.
    fn swap(&self, expected: Option<Version>, head: Bytes) -> BoxFuture<'_, Result<Swap>>;
    fn list(&self) -> BoxFuture<'_, Result<Vec<Stored>>>;
    /// Removes an object unless it was stored later than `before`.
    fn remove(&self, id: ObjectId, before: Timestamp) -> BoxFuture<'_, Result<()>>;
}

/// An object whose bytes are what its name says.
async fn fetch(copy: &dyn CloudCopy, id: ObjectId) -> Result<Bytes> {
    let bytes = copy.get(id).await?;
    let bytes = bytes.ok_or_else(|| damaged(format!("the object `{}` is missing", id.short())))?;
    if Digest::of(&bytes) != id {
        return Err(damaged(format!("the object `{}` holds other bytes", id.short())));
    }
    Ok(bytes)
}

fn damaged(message: String) -> Error {
    Error::new(Code::CopyDamaged, message).hint("restore from another copy; this one needs a person")
}

fn away(message: &str, error: impl std::fmt::Display) -> Error {
    Error::new(Code::CopyUnavailable, message).detail(error)
}
