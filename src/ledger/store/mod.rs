//! Where the rows are: a redb file, or PostgreSQL, which many nodes share. How rows lie in it is the same in both. The
//! only part of the ledger that names redb or PostgreSQL.

pub mod codec;
pub mod compact;
pub mod database;
pub mod engine;
pub mod kept;
pub mod salvage;
pub mod shared;
pub mod tables;

use crate::error::{Code, Error};

/// Why a step could not be done: it alone was refused, or the file cannot be used.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was written; the rest of the batch goes on.
    Refused(Error),
    /// The transaction is lost.
    Storage(redb::StorageError),
}

impl Failure {
    /// Something in the file makes no sense, as opposed to the disk saying no.
    pub fn is_damage(&self) -> bool {
        matches!(self, Failure::Storage(redb::StorageError::Corrupted(_)))
    }

    pub fn into_error(self) -> Error {
        match self {
            Failure::Refused(error) => error,
            Failure::Storage(error) => storage_error(&error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Refused(error)
    }
}

impl From<redb::StorageError> for Failure {
    fn from(error: redb::StorageError) -> Self {
        Failure::Storage(error)
    }
}

impl From<redb::TransactionError> for Failure {
    fn from(error: redb::TransactionError) -> Self {
        match error {
            redb::TransactionError::Storage(error) => Failure::Storage(error),
            other => Failure::Refused(unavailable(other)),
        }
    }
}

impl From<redb::CommitError> for Failure {
    fn from(error: redb::CommitError) -> Self {
        match error {
            redb::CommitError::Storage(error) => Failure::Storage(error),
            other => Failure::Refused(unavailable(other)),
        }
    }
}

impl From<redb::TableError> for Failure {
    fn from(error: redb::TableError) -> Self {
        match error {
            redb::TableError::Storage(error) => Failure::Storage(error),
            other => Failure::Storage(redb::StorageError::Corrupted(other.to_string())),
        }
    }
}

/// What a person hears of an error of redb.
pub fn storage_error(error: &redb::StorageError) -> Error {
    match error {
        redb::StorageError::Corrupted(_) => damaged_file(error),
        other => unavailable(other),
    }
}

pub fn unavailable(detail: impl std::fmt::Display) -> Error {
    Error::new(Code::LedgerUnavailable, "the ledger cannot be used at the moment")
        .hint("it is opened again by itself; look at the disk's space and health if this stays")
        .detail(detail)
}

pub fn damaged_file(detail: impl std::fmt::Display) -> Error {
    Error::new(Code::LedgerDamaged, "the ledger's file is damaged").detail(detail)
}
