//! The two engines under the ledger: a redb file of this process, and a shared ledger in PostgreSQL.

use std::sync::Arc;

use redb::WriteTransaction;

use super::Failure;
use super::codec::Row;
use super::database::Store;
use super::salvage::Salvage;
use super::shared::{Change, Hands, Key, SharedStore, SharedWrite, SharedWriting};
use super::tables::{Reader, Reading, Writing, definition};
use crate::error::Result;

/// What the rows are in.
#[derive(Debug)]
pub enum Engine {
    File(Box<Store>),
    Shared(Arc<SharedStore>),
}

/// A transaction that is open for writing.
pub enum Transaction {
    File(Box<WriteTransaction>),
    Shared(Box<SharedWrite>),
}

impl Engine {
    /// `wanted` tells the rows that will surely be looked at, so that they can be had in one round trip.
    pub fn begin_write(&self, wanted: impl FnOnce() -> Vec<Key>) -> Result<Transaction, Failure> {
        Ok(match self {
            Self::File(store) => Transaction::File(Box::new(store.begin_write()?)),
            Self::Shared(store) => Transaction::Shared(Box::new(store.begin_write(&wanted())?)),
        })
    }

    pub fn begin_read(&self) -> Result<Reader, Failure> {
        match self {
            Self::File(store) => store.begin_read(),
            Self::Shared(store) => Ok(Reader::Shared(store.begin_read()?)),
        }
    }

    /// After an error: closes what is left and opens again.
    pub fn reopen(&self) -> Result<()> {
        match self {
            Self::File(store) => store.reopen(),
            Self::Shared(store) => {
                store.close();
                Ok(())
            }
        }
    }

    pub fn close(&self) {
        match self {
            Self::File(store) => store.close(),
            Self::Shared(store) => store.close(),
        }
    }

    /// For good: the next process may have it.
    pub fn release(&self) {
        match self {
            Self::File(store) => store.release(),
            Self::Shared(store) => store.release(),
        }
    }

    pub fn salvage(&self) -> Option<&Salvage> {
        match self {
            Self::File(store) => store.salvage(),
            Self::Shared(_) => None,
        }
    }

    pub fn shared(&self) -> Option<&Arc<SharedStore>> {
        match self {
            Self::File(_) => None,
            Self::Shared(store) => Some(store),
        }
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(_) => f.write_str("redb"),
            Self::Shared(store) => write!(f, "{}", store.database()),
        }
    }
}

impl Transaction {
    pub fn table<R: Row>(&self) -> Result<Writing<'_>, redb::TableError> {
        self.book(R::TABLE)
    }

    /// A table whose rows are bytes.
    pub fn book(&self, book: &'static str) -> Result<Writing<'_>, redb::TableError> {
        Ok(match self {
            Self::File(transaction) => Writing::File(transaction.open_table(definition(book))?),
            Self::Shared(transaction) => Writing::Shared(SharedWriting::new(transaction, book)),
        })
    }

    /// What others have committed since the last transaction of this node.
    pub fn take_changes(&mut self) -> Vec<Change> {
        match self {
            Self::File(_) => Vec::new(),
            Self::Shared(transaction) => std::mem::take(&mut transaction.changes),
        }
    }

    /// What nodes that are gone have left behind.
    pub fn take_orphans(&mut self) -> Vec<(String, Vec<u8>)> {
        match self {
            Self::File(_) => Vec::new(),
            Self::Shared(transaction) => std::mem::take(&mut transaction.orphans),
        }
    }

    /// This node hands the row out.
    pub fn hold(&self, book: &'static str, key: &[u8]) {
        match self {
            Self::File(_) => {}
            Self::Shared(transaction) => transaction.hold(book, key),
        }
    }

    pub fn abort(self) -> Result<(), Failure> {
        match self {
            Self::File(transaction) => Ok(transaction.abort()?),
            Self::Shared(transaction) => transaction.end_empty(),
        }
    }

    /// The numbers of happenings are for those who follow a shared ledger.
    pub fn commit(self, first_seq: u64, next_seq: u64) -> Result<(), Failure> {
        match self {
            Self::File(transaction) => Ok(transaction.commit()?),
            Self::Shared(transaction) => transaction.commit(first_seq, next_seq),
        }
    }
}

impl Reader {
    /// A table whose rows are bytes.
    pub fn book(&self, book: &'static str) -> Result<Reading, Failure> {
        Ok(match self {
            Self::File(transaction) => Reading::File(transaction.open_table(definition(book))?),
            Self::Shared(read) => Reading::Shared(read.book(book)),
        })
    }

    /// Who holds what is handed out. A file is in one pair of hands.
    pub fn hands(&self) -> Result<Hands, Failure> {
        match self {
            Self::File(_) => Ok(Hands::AllMine),
            Self::Shared(read) => read.hands(),
        }
    }
}
