//! The tables of `ledger.redb`, typed by their rows. Keys are big-endian bytes, so that they sort as their values do.
//!
//! For writing all tables of a transaction are open together ([`Tables`]); for reading one opens what one needs.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Bound;
use std::rc::Rc;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::Failure;
use super::codec::{self, Row};
use super::kept::{
    BodyRow, CallRow, ConversationRow, DedupeRow, HappeningRow, LayoutRow, LiveRow, LogRow, LogSizeRow, OutboxRow,
    PendingRow, SpecRow, SpendRow, TaskRow, TranscriptRow,
};
use crate::error::Result;
use crate::ledger::rows::{Delivery, Generation, Happening, KeptAnswer, Suspension, Token};

type Bytes = &'static [u8];
pub type Writing<'t> = redb::Table<'t, Bytes, Bytes>;
pub type Reading = ReadOnlyTable<Bytes, Bytes>;

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

impl<T: ReadableTable<Bytes, Bytes>, R: Row> Rows<T, R> {
    pub fn get(&self, key: &[u8]) -> Result<Option<R>, Failure> {
        match self.table.get(key)? {
            Some(bytes) => Ok(Some(codec::decode(key, bytes.value())?)),
            None => Ok(None),
        }
    }

    pub fn has(&self, key: &[u8]) -> Result<bool, Failure> {
        Ok(self.table.get(key)?.is_some())
    }

    /// Rows in the order of their keys. A damaged row is an `Err` of its own; the others go on.
    pub fn range(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<impl DoubleEndedIterator<Item = Entry<R>>, Failure> {
        let range = self.table.range::<&[u8]>((from, to))?;
        Ok(range.map(|entry| {
            let (key, bytes) = entry?;
            let row = codec::decode(key.value(), bytes.value());
            Ok((key.value().to_vec(), row))
        }))
    }

    pub fn all(&self) -> Result<impl DoubleEndedIterator<Item = Entry<R>>, Failure> {
        self.range(Bound::Unbounded, Bound::Unbounded)
    }

    /// The keys that begin with `prefix`, in order, at most `limit`.
    pub fn keys_under(&self, prefix: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Failure> {
        let mut keys = Vec::new();
        for entry in self.table.range::<&[u8]>((Bound::Included(prefix), Bound::Unbounded))? {
            let (key, _) = entry?;
            if keys.len() >= limit || !key.value().starts_with(prefix) {
                break;
            }
            keys.push(key.value().to_vec());
        }
        Ok(keys)
    }

    pub fn first_key(&self) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.table.first()?.map(|(key, _)| key.value().to_vec()))
    }

    pub fn count(&self) -> Result<u64, Failure> {
        Ok(self.table.len()?)
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
        let was_there = self.table.remove(key)?.is_some();
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
            pub fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::TableError> {
                let written = Written::default();
                Ok(Self {
                    $($field: Rows {
                        table: transaction.open_table(definition::<$row>())?,
                        written: Rc::clone(&written),
                        row: PhantomData,
                    },)*
                    written,
                })
            }
        }
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
    deeds: Happening,
    logs: LogRow,
    log_sizes: LogSizeRow,
    tokens: Token,
    answers: KeptAnswer,
}

/// A view of the ledger as it was at one instant.
pub struct Reader(ReadTransaction);

impl Reader {
    pub fn new(transaction: ReadTransaction) -> Self {
        Self(transaction)
    }

    pub fn rows<R: Row>(&self) -> Result<Rows<Reading, R>, Failure> {
        let table = self.0.open_table(definition::<R>()).map_err(Failure::from)?;
        Ok(Rows { table, written: Written::default(), row: PhantomData })
    }
}

fn definition<R: Row>() -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(R::TABLE)
}

/// Two keys, one after the other.
pub fn join(first: &[u8], second: &[u8]) -> Vec<u8> {
    [first, second].concat()
}
