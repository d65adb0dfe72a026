//! The tables of the ledger, typed by their rows. Keys are big-endian bytes, so that they sort as their values do.
//!
//! For writing all tables of a transaction are open together ([`Tables`]); for reading one opens what one needs. This is
//! the seam between the transitions and the engines: a table is one of a redb file, or a book of the shared ledger.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Bound;
use std::rc::Rc;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};

use super::Failure;
use super::codec::{self, Row};
use super::engine::Transaction;
use super::kept::{
    BodyRow, CallRow, ConversationRow, DedupeRow, HappeningRow, LayoutRow, LiveRow, LogRow, LogSizeRow, OutboxRow,
    PendingRow, SpecRow, SpendRow, TaskRow, TranscriptRow,
};
use super::shared::{SharedRead, SharedReading, SharedWriting};
use crate::error::Result;
use crate::ledger::rows::{Delivery, Generation, KeptAnswer, Suspension, Token};

pub type Bytes = &'static [u8];

/// Entries in the order of their keys, from either end.
pub type Scan<'a, T> = Box<dyn DoubleEndedIterator<Item = Result<T, Failure>> + 'a>;

/// A table that is open for writing.
pub enum Writing<'t> {
    File(redb::Table<'t, Bytes, Bytes>),
    Shared(SharedWriting<'t>),
}

/// A table as it was at one instant.
pub enum Reading {
    File(ReadOnlyTable<Bytes, Bytes>),
    Shared(SharedReading),
}

/// Bytes under keys. What is read is looked at where it lies, without a copy.
pub trait Table {
    fn look<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Failure>;

    fn scan<'a, T: 'a>(
        &'a self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        look: impl Fn(&[u8], &[u8]) -> T + 'a,
    ) -> Result<Scan<'a, T>, Failure>;

    fn count(&self) -> Result<u64, Failure>;
}

macro_rules! file_or_shared {
    ($($table:ty),*) => {$(
        impl Table for $table {
            fn look<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Failure> {
                match self {
                    Self::File(table) => Ok(table.get(key)?.map(|bytes| look(bytes.value()))),
                    Self::Shared(table) => Ok(table.fetch(key)?.map(|bytes| look(&bytes))),
                }
            }

            fn scan<'a, T: 'a>(
                &'a self,
                from: Bound<&[u8]>,
                to: Bound<&[u8]>,
                look: impl Fn(&[u8], &[u8]) -> T + 'a,
            ) -> Result<Scan<'a, T>, Failure> {
                match self {
                    Self::File(table) => Ok(Box::new(table.range::<&[u8]>((from, to))?.map(move |entry| {
                        let (key, bytes) = entry?;
                        Ok(look(key.value(), bytes.value()))
                    }))),
                    Self::Shared(table) => Ok(Box::new(table.pages(from, to).map(move |entry| {
                        let (key, bytes) = entry?;
                        Ok(look(&key, &bytes))
                    }))),
                }
            }

            fn count(&self) -> Result<u64, Failure> {
                match self {
                    Self::File(table) => Ok(table.len()?),
                    Self::Shared(table) => table.count(),
                }
            }
        }
    )*};
}

file_or_shared!(Writing<'_>, Reading);

impl Writing<'_> {
    pub fn insert(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::File(table) => drop(table.insert(key, bytes)?),
            Self::Shared(table) => table.insert(key, bytes),
        }
        Ok(())
    }

    /// Whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> Result<bool, Failure> {
        match self {
            Self::File(table) => Ok(table.remove(key)?.is_some()),
            Self::Shared(table) => table.delete(key),
        }
    }
}

/// Counts the rows that a transaction has written or removed.
pub type Written = Rc<Cell<usize>>;

/// A key and its row, where the file could be read; a row where it is not damaged.
pub type Entry<R> = Result<(Vec<u8>, Result<R>), Failure>;

/// One table, open.
pub struct Rows<T, R> {
    table: T,
    written: Written,
    row: PhantomData<R>,
}

impl<T: Table, R: Row> Rows<T, R> {
    pub fn get(&self, key: &[u8]) -> Result<Option<R>, Failure> {
        Ok(self.table.look(key, |bytes| codec::decode(key, bytes))?.transpose()?)
    }

    pub fn has(&self, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.table.look(key, |_| ())?.is_some())
    }

    /// Rows in the order of their keys. A damaged row is an `Err` of its own; the others go on.
    pub fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<impl DoubleEndedIterator<Item = Entry<R>>, Failure> {
        self.table.scan(from, to, |key, bytes| (key.to_vec(), codec::decode(key, bytes)))
    }

    pub fn all(&self) -> Result<impl DoubleEndedIterator<Item = Entry<R>>, Failure> {
        self.range(Bound::Unbounded, Bound::Unbounded)
    }

    /// The keys that begin with `prefix`, in order, at most `limit`.
    pub fn keys_under(&self, prefix: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Failure> {
        let mut keys = Vec::new();
        for key in self.table.scan(Bound::Included(prefix), Bound::Unbounded, |key, _| key.to_vec())? {
            let key = key?;
            if keys.len() >= limit || !key.starts_with(prefix) {
                break;
            }
            keys.push(key);
        }
        Ok(keys)
    }

    pub fn first_key(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.table.scan(Bound::Unbounded, Bound::Unbounded, |key, _| key.to_vec())?.next().transpose()
    }

    pub fn count(&self) -> Result<u64, Failure> {
        self.table.count()
    }
}

impl<R: Row> Rows<Writing<'_>, R> {
    pub fn put(&mut self, key: &[u8], row: &R) -> Result<(), Failure> {
        self.put_encoded(key, &codec::encode(key, row)?)
    }

    /// `bytes` are what [`codec::encode`] made for this key.
    pub fn put_encoded(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), Failure> {
        self.table.insert(key, bytes)?;
        self.written.set(self.written.get() + 1);
        Ok(())
    }

    /// Whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> Result<bool, Failure> {
        let was_there = self.table.remove(key)?;
        if was_there {
            self.written.set(self.written.get() + 1);
        }
        Ok(was_there)
    }
}

/// Rows that are all in their key.
macro_rules! marks {
    ($($(#[$doc:meta])* $name:ident: $table:literal;)*) => {$(
        $(#[$doc])*
        pub struct $name;
        impl Row for $name {
            const TABLE: &'static str = $table;
            fn to_content(&self) -> Result<Vec<u8>> {
                Ok(Vec::new())
            }
            fn from_content(_version: u8, _content: &[u8]) -> Result<Self> {
                Ok(Self)
            }
        }
    )*};
}

marks! {
    /// Dead letters, by task.
    DeadMark: "dead";
    /// Delivery, then a task that came to it later: those that it was born with are in its own row.
    TaskOf: "tasks-of";
}

macro_rules! tables {
    ($($field:ident: $row:ty,)*) => {
        /// Every table, open for writing.
        pub struct Tables<'t> {
            pub written: Written,
            $(pub $field: Rows<Writing<'t>, $row>,)*
        }

        impl<'t> Tables<'t> {
            /// Tables that are missing are made.
            pub fn open(transaction: &'t Transaction) -> Result<Self, redb::TableError> {
                let written = Written::default();
                Ok(Self {
                    $($field: Rows {
                        table: transaction.table::<$row>()?,
                        written: Rc::clone(&written),
                        row: PhantomData,
                    },)*
                    written,
                })
            }
        }

        /// The names of all tables.
        pub const BOOKS: &[&str] = &[$(<$row as Row>::TABLE),*];
    };
}

tables! {
    layout: LayoutRow,
    deliveries: Delivery,
    bodies: BodyRow,
    dedupe: DedupeRow,
    tasks: TaskRow,
    specs: SpecRow,
    live: LiveRow,
    dead: DeadMark,
    tasks_of: TaskOf,
    outbox: OutboxRow,
    calls: CallRow,
    pending: PendingRow,
    conversations: ConversationRow,
    generations: Generation,
    suspended: Suspension,
    spend: SpendRow,
    transcripts: TranscriptRow,
    happenings: HappeningRow,
    logs: LogRow,
    log_sizes: LogSizeRow,
    tokens: Token,
    answers: KeptAnswer,
}

/// A view of the ledger as it was at one instant.
pub enum Reader {
    File(ReadTransaction),
    Shared(SharedRead),
}

impl Reader {
    pub fn rows<R: Row>(&self) -> Result<Rows<Reading, R>, Failure> {
        let table = self.book(R::TABLE)?;
        Ok(Rows { table, written: Written::default(), row: PhantomData })
    }
}

pub fn definition(table: &'static str) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(table)
}

/// Two keys, one after the other.
pub fn join(first: &[u8], second: &[u8]) -> Vec<u8> {
    [first, second].concat()
}
