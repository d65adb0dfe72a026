//! What the transitions and the reads see of the shared ledger: one transaction, or one instant, as tables of bytes.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use redb::StorageError;

use super::pages::{self, Pages};
use super::wire::{self, Batch, Begun, Wire, lost};
use super::{Change, Hands, Key, SharedStore};
use crate::ledger::rows::{Suspension, Token};
use crate::ledger::store::Failure;
use crate::ledger::store::codec::{self, Row};
use crate::ledger::store::kept::{DedupeRow, LiveRow, PendingRow};
use crate::ledger::store::tables::DeadMark;
use crate::model::task::TaskState;

/// A transaction that holds the write lock.
pub struct SharedWrite {
    store: Arc<SharedStore>,
    /// `Some` until it ends.
    wire: Option<Wire>,
    /// When the renewal of the lease was sent, where it is in this transaction.
    renewal: Option<Instant>,
    written: RefCell<BTreeMap<Key, Option<Vec<u8>>>>,
    /// Rows that were read ahead.
    known: RefCell<HashMap<Key, Option<Vec<u8>>>>,
    held: RefCell<BTreeMap<Key, ()>>,
    pub changes: Vec<Change>,
    pub orphans: Vec<(String, Vec<u8>)>,
}

impl SharedWrite {
    pub(super) fn new(store: &Arc<SharedStore>, wire: Wire, renewal: Option<Instant>, begun: Begun) -> Self {
        Self {
            store: Arc::clone(store),
            wire: Some(wire),
            renewal,
            written: RefCell::default(),
            known: RefCell::new(begun.known),
            held: RefCell::default(),
            changes: begun.changes,
            orphans: begun.orphans,
        }
    }

    pub fn hold(&self, book: &'static str, key: &[u8]) {
        self.held.borrow_mut().insert((book, key.to_vec()), ());
    }

    /// Writes everything and tells the others.
    pub fn commit(mut self, first_seq: u64, next_seq: u64) -> Result<(), Failure> {
        let Some(wire) = self.wire.take() else { return Ok(()) };
        let store = Arc::clone(&self.store);
        let number = store.seen.load(Ordering::Acquire) + 1;
        let (rows, held) = (self.written.take(), self.held.take().into_keys().collect::<Vec<_>>());
        let introduces = self.renewal.is_some() && store.lease.take_news();
        let mut batch = Batch { number, first_seq, next_seq, introduces, held, ..Batch::default() };
        for ((book, key), content) in &rows {
            batch.add(book, key, content.as_deref(), is_followed(book), is_let_go(book, key, content.as_deref()));
        }
        store.wait(wire.commit(&store.lease, &batch))?;
        store.seen.store(number, Ordering::Release);
        store.lease.renewed(self.renewal);
        store.keep_wire(wire);
        Ok(())
    }

    /// Ends without having written anything but the renewal of the lease.
    pub fn end_empty(mut self) -> Result<(), Failure> {
        let Some(wire) = self.wire.take() else { return Ok(()) };
        let schema = self.store.database.schema();
        self.store.wait(wire.end(self.renewal.is_some().then_some((schema, self.store.lease.take_news()))))?;
        self.store.lease.renewed(self.renewal);
        self.store.keep_wire(wire);
        Ok(())
    }

    fn wire(&self) -> Result<&Wire, Failure> {
        self.wire.as_ref().ok_or_else(|| StorageError::DatabaseClosed.into())
    }
}

/// What followers keep in memory, or look at when it changes.
fn is_followed(book: &str) -> bool {
    [LiveRow::TABLE, PendingRow::TABLE, DedupeRow::TABLE, DeadMark::TABLE, Suspension::TABLE, Token::TABLE]
        .contains(&book)
}

/// Whether a row that may have been in somebody's hands is so no more.
fn is_let_go(book: &str, key: &[u8], content: Option<&[u8]>) -> bool {
    match content {
        _ if book != LiveRow::TABLE && book != PendingRow::TABLE => false,
        None => true,
        Some(content) if book == LiveRow::TABLE => {
            codec::decode::<LiveRow>(key, content).is_ok_and(|row| row.task.state != TaskState::Running)
        }
        Some(content) => codec::decode::<PendingRow>(key, content).is_ok_and(|row| !row.is_sending()),
    }
}

/// One instant of the shared ledger.
pub struct SharedRead(Arc<Snapshot>);

struct Snapshot {
    store: Arc<SharedStore>,
    /// `Some` until it is dropped.
    client: Option<deadpool_postgres::Client>,
}

impl Snapshot {
    fn client(&self) -> Result<&deadpool_postgres::Client, Failure> {
        self.client.as_ref().ok_or_else(|| StorageError::DatabaseClosed.into())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // A connection that stays in a transaction would keep old rows alive.
        if let Some((client, runtime)) = self.client.take().zip(self.store.runtime.as_ref()) {
            runtime.spawn(async move {
                if client.batch_execute("ROLLBACK").await.is_err() {
                    drop(deadpool_postgres::Object::take(client));
                }
            });
        }
    }
}

impl SharedRead {
    pub(super) fn new(store: &Arc<SharedStore>, client: deadpool_postgres::Client) -> Self {
        Self(Arc::new(Snapshot { store: Arc::clone(store), client: Some(client) }))
    }

    pub fn hands(&self) -> Result<Hands, Failure> {
        let client = self.0.client()?;
        let all = "SELECT book, key, node FROM holder";
        let rows = self.0.store.wait(client.query(all, &[])).map_err(lost)?;
        let holders = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        Ok(Hands::Of { node: self.0.store.lease.node(), holders })
    }

    /// Memory is read with this reader: later changes follow.
    pub fn is_loaded(&self) -> Result<(), Failure> {
        let client = self.0.client()?;
        let newest = "SELECT coalesce(max(number), 0) FROM change";
        let row = self.0.store.wait(client.query_one(newest, &[])).map_err(lost)?;
        self.0.store.seen.store(row.get(0), Ordering::Release);
        Ok(())
    }

    pub fn book(&self, book: &'static str) -> SharedReading {
        SharedReading { snapshot: Arc::clone(&self.0), book }
    }
}

/// A table at one instant.
pub struct SharedReading {
    snapshot: Arc<Snapshot>,
    book: &'static str,
}

impl SharedReading {
    pub fn fetch(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.snapshot.store.wait(wire::fetch(self.snapshot.client()?, self.book, key))
    }

    pub fn pages(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Pages<'_> {
        Pages::new(from, to, move |from, to, backwards| {
            let page = wire::page(self.snapshot.client()?, self.book, from, to, backwards);
            self.snapshot.store.wait(page)
        })
    }

    pub fn count(&self) -> Result<u64, Failure> {
        self.snapshot.store.wait(wire::count(self.snapshot.client()?, self.book))
    }
}

/// A table in a transaction.
pub struct SharedWriting<'t> {
    transaction: &'t SharedWrite,
    book: &'static str,
}

impl<'t> SharedWriting<'t> {
    pub fn new(transaction: &'t SharedWrite, book: &'static str) -> Self {
        Self { transaction, book }
    }

    pub fn fetch(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let place = (self.book, key.to_vec());
        if let Some(content) = self.transaction.written.borrow().get(&place) {
            return Ok(content.clone());
        }
        if let Some(content) = self.transaction.known.borrow().get(&place) {
            return Ok(content.clone());
        }
        let found = self.transaction.store.wait(self.transaction.wire()?.fetch(self.book, key))?;
        self.transaction.known.borrow_mut().insert(place, found.clone());
        Ok(found)
    }

    pub fn insert(&mut self, key: &[u8], bytes: &[u8]) {
        self.transaction.written.borrow_mut().insert((self.book, key.to_vec()), Some(bytes.to_vec()));
    }

    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Failure> {
        let was_there = self.fetch(key)?.is_some();
        if was_there {
            self.transaction.written.borrow_mut().insert((self.book, key.to_vec()), None);
        }
        Ok(was_there)
    }

    /// The database's rows with what this transaction has written over them.
    pub fn pages(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Pages<'_> {
        Pages::new(from, to, move |from, to, backwards| {
            let (transaction, book) = (self.transaction, self.book);
            let page = transaction.store.wait(transaction.wire()?.page(book, from, to, backwards))?;
            Ok(page.over_written(from, to, backwards, |low, high| {
                let written = transaction.written.borrow();
                let mine = written.iter().filter(|((of, key), _)| *of == book && pages::is_within(key, low, high));
                mine.map(|((_, key), content)| (key.clone(), content.clone())).collect()
            }))
        })
    }

    pub fn count(&self) -> Result<u64, Failure> {
        let mut count = 0;
        for entry in self.pages(Bound::Unbounded, Bound::Unbounded) {
            entry?;
            count += 1;
        }
        Ok(count)
    }
}
