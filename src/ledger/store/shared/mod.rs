//! The shared ledger in PostgreSQL: the same rows under the same keys, for many nodes at once.
//!
//! One node writes at a time: a transaction takes the write lock (an advisory lock), reads the changes that others have
//! committed since (they go into this node's memory), does its batch over the rows, and commits the rows together with
//! its own change. So every node decides on the whole truth, with the same transitions as over a file of its own.
//!
//! What a node has handed out (running tasks, calls on their way) is held in its name. A node lives by the database's
//! clock: it renews its lease, and what it held when that ends is given back by whoever comes next; the attempt's number
//! fences off what it may still say. A node that cannot renew lets go before that (`lease.rs`). Nothing here knows what a
//! row means beyond whether it is in somebody's hands.

mod follow;
mod lease;
mod pages;
mod transaction;
mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Pool;
use redb::StorageError;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::database::lock_beside;
use super::{Failure, unavailable};
use crate::error::{Code, Context as _, Error, Result};
use crate::model::secret::SecretValue;
use crate::postgres::{self, Database};
use crate::seam::fresh_id;
use lease::Lease;
use wire::{Wire, lost};

pub use follow::News;
#[cfg(test)]
pub use lease::holds_after;
pub use lease::{About, NodeSeen};
pub use transaction::{SharedRead, SharedReading, SharedWrite, SharedWriting};

/// Connections for reads.
const READERS: usize = 8;

/// A row, by its table and key.
pub type Key = (&'static str, Vec<u8>);

/// How a shared ledger is reached.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `postgres://…`, with `schema=NAME` where one database holds many.
    pub url: SecretValue,
    /// A node that was not heard of for so long is gone.
    pub lease: Duration,
}

/// A ledger that this node shares with others.
pub struct SharedStore {
    /// `Some` until it is dropped.
    runtime: Option<Runtime>,
    database: Database,
    readers: Pool,
    writer: Mutex<Option<Wire>>,
    lock: Mutex<Option<File>>,
    lease: Lease,
    /// The last change that is in memory.
    seen: AtomicI64,
    /// Whether this node does what is done once.
    leads: AtomicBool,
    news: News,
}

/// What another node has committed.
#[derive(Debug)]
pub struct Change {
    pub first_seq: u64,
    pub next_seq: u64,
    pub rows: Vec<ChangedRow>,
}

#[derive(Debug)]
pub struct ChangedRow {
    pub book: String,
    pub key: Vec<u8>,
    /// `None`: removed.
    pub content: Option<Vec<u8>>,
}

/// Who holds what is handed out.
pub enum Hands {
    AllMine,
    Of { node: Uuid, holders: HashMap<(String, Vec<u8>), Uuid> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    Mine,
    Another,
    Nobody,
}

impl Hands {
    pub fn of(&self, book: &str, key: &[u8]) -> Hand {
        match self {
            Self::AllMine => Hand::Mine,
            Self::Of { node, holders } => match holders.get(&(book.to_owned(), key.to_vec())) {
                Some(holder) if holder == node => Hand::Mine,
                Some(_) => Hand::Another,
                None => Hand::Nobody,
            },
        }
    }
}

impl SharedStore {
    /// Connects, prepares the schema, checks that what is committed is kept, and enters this node. `path` is where the
    /// file of a ledger would be: the node's name and lock are beside it.
    ///
    /// # Errors
    /// SH0303 when another process works on this data directory, SH0301 for a URL that is none, SH0920 when the database
    /// would lose what it has committed, SH0921 when it is newer, SH0601 when it is away.
    pub fn open(path: &Path, settings: &Settings) -> Result<Arc<Self>> {
        let lock = lock_beside(path)?;
        let node = lease::own_name(&path.with_file_name("node"))?;
        let store = Self::connect(node, Some(lock), settings)?;
        let entering = async {
            let mut client = store.reader().await?;
            wire::prepare(&mut client, store.database.schema()).await?;
            store.lease.enter(&client).await
        };
        store.wait(entering).map_err(Failure::into_error)?;
        Ok(store)
    }

    /// Whether the database is fit for a ledger, where it is, and which nodes work on it. Blocks; changes nothing.
    ///
    /// # Errors
    /// As [`SharedStore::open`].
    pub fn look(settings: &Settings) -> Result<(String, Vec<NodeSeen>)> {
        let store = Self::connect(fresh_id(), None, settings)?;
        let nodes = store.wait(async {
            let client = store.reader().await?;
            wire::check_durability(&client).await?;
            let schema = store.database.schema();
            let there = client.query_opt("SELECT FROM pg_namespace WHERE nspname = $1", &[&schema]).await;
            match there.map_err(postgres::failed)? {
                Some(_) => lease::nodes(&client).await.map_err(Failure::into_error),
                None => Ok(Vec::new()),
            }
        })?;
        Ok((store.database.to_string(), nodes))
    }

    /// As a guest, while no node is there.
    ///
    /// # Errors
    /// As [`SharedStore::open`]; SH0303 when a node is at work.
    pub fn visit(settings: &Settings) -> Result<Arc<Self>> {
        let store = Self::connect(fresh_id(), None, settings)?;
        let entering = async {
            let mut client = store.reader().await?;
            wire::prepare(&mut client, store.database.schema()).await?;
            store.lease.enter(&client).await?;
            lease::nodes(&client).await
        };
        let others = store.wait(entering).map_err(Failure::into_error)?.len().saturating_sub(1);
        if others > 0 {
            store.leave();
            return Err(Error::new(
                Code::DataDirectoryBusy,
                format!("{others} nodes work on the ledger in the database"),
            )
            .hint("stop them all; one that was killed counts until its lease has ended"));
        }
        Ok(store)
    }

    /// This node is no more; what it held is anybody's.
    pub fn leave(&self) {
        let leaving = async {
            let client = self.reader().await?;
            client.execute(lease::LEAVE, &[&self.lease.node(), &self.lease.boot()]).await.map_err(postgres::failed)
        };
        if let Err(error) = self.wait(leaving) {
            tracing::debug!(error = error.internal(), "the node's lease ends by itself");
        }
    }

    /// Gives the schema another name, and answers where it is.
    ///
    /// # Errors
    /// SH0601.
    pub fn put_aside(&self, stamp: &str) -> Result<String> {
        let (schema, aside) = (self.database.schema(), format!("{}_moved_{stamp}", self.database.schema()));
        let renaming = async {
            let client = self.reader().await?;
            client.batch_execute(&format!("ALTER SCHEMA {schema} RENAME TO {aside}")).await.map_err(postgres::failed)
        };
        self.wait(renaming)?;
        Ok(format!("the schema `{aside}`"))
    }

    fn connect(node: Uuid, lock: Option<File>, settings: &Settings) -> Result<Arc<Self>> {
        let database = Database::parse(settings.url.expose_text().unwrap_or_default(), wire::SCHEMA)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context(Code::LedgerUnavailable, "the ledger's runtime cannot be started")?;
        let readers = {
            let _entered = runtime.enter();
            database.pool(READERS)?
        };
        let lease = Lease::new(node, fresh_id(), settings.lease);
        Ok(Arc::new(Self {
            runtime: Some(runtime),
            database,
            readers,
            writer: Mutex::default(),
            lock: Mutex::new(lock),
            lease,
            seen: AtomicI64::new(0),
            leads: AtomicBool::new(false),
            news: News::default(),
        }))
    }

    /// Waits for something that is done by the ledger's own runtime; allowed wherever blocking is.
    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let _entered = self.runtime().enter();
        wire::block_on(work)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until this is dropped")
    }

    async fn reader(&self) -> Result<deadpool_postgres::Client> {
        self.readers.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => unavailable(postgres::said(&error)),
            error => unavailable(error),
        })
    }

    pub fn database(&self) -> &Database {
        &self.database
    }

    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    pub fn news(&self) -> &News {
        &self.news
    }

    /// Whether this node does what has to be done once.
    pub fn leads(&self) -> bool {
        self.leads.load(Ordering::Acquire)
    }

    fn take_wire(&self) -> Option<Wire> {
        let wire = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        wire.filter(|wire| !wire.is_closed())
    }

    fn keep_wire(&self, wire: Wire) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(wire);
    }

    pub fn begin_write(self: &Arc<Self>, wanted: &[Key]) -> Result<SharedWrite, Failure> {
        let wire = self.take_wire();
        let renewal = self.lease.is_to_be_renewed().then(Instant::now);
        let begun = self.wait(async {
            let wire = match wire {
                Some(wire) => wire,
                None => Wire::connect(&self.database).await?,
            };
            let seen = self.seen.load(Ordering::Acquire);
            let begun = wire.begin(&self.lease, renewal.is_some(), seen, wanted).await?;
            Ok::<_, Failure>((wire, begun))
        });
        let (wire, begun) = begun?;
        self.seen.store(begun.last.unwrap_or_else(|| self.seen.load(Ordering::Acquire)), Ordering::Release);
        Ok(SharedWrite::new(self, wire, renewal, begun))
    }

    /// What others have committed since, without taking the lock.
    pub fn changes(&self) -> Result<Vec<Change>, Failure> {
        let Some(wire) = self.take_wire() else { return Ok(Vec::new()) };
        let seen = self.seen.load(Ordering::Acquire);
        let (changes, last) = self.wait(wire.changes(seen))?;
        self.seen.store(last.unwrap_or(seen), Ordering::Release);
        self.keep_wire(wire);
        Ok(changes)
    }

    pub fn begin_read(self: &Arc<Self>) -> Result<SharedRead, Failure> {
        let client = self.wait(async {
            let client = self.reader().await?;
            let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
            client.batch_execute(begin).await.map_err(lost)?;
            Ok::<_, Failure>(client)
        })?;
        Ok(SharedRead::new(self, client))
    }

    /// For good: the next process may have the node's name.
    pub fn release(&self) {
        self.news.end();
        self.leave();
        self.close();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// After an error: the next transaction connects anew.
    pub fn close(&self) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for SharedStore {
    fn drop(&mut self) {
        // It may be dropped where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").field("database", &self.database).finish_non_exhaustive()
    }
}

/// The transaction is lost, and with it what was in memory of it.
fn behind(message: &str) -> Failure {
    StorageError::Io(std::io::Error::other(message.to_owned())).into()
}

fn refused(error: Error) -> Failure {
    behind(&error.internal())
}
