//! What is said to PostgreSQL: one connection that writes, its statements prepared, and what belongs together sent
//! together, so that a batch costs two round trips beside the rows that could not be foreseen.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use deadpool_postgres::Client as Pooled;
use futures_util::future::{try_join, try_join4, try_join5};
use redb::StorageError;
use tokio_postgres::{Client, Statement};

use super::lease::{self, Lease};
use super::pages::{Edge, PAGE_ROWS, Page};
use super::{Change, ChangedRow, Key, behind, refused};
use crate::error::{Code, Error, Result};
use crate::ledger::store::{Failure, unavailable};
use crate::postgres::{self, Database, Step};

/// Where one database holds one ledger.
pub const SCHEMA: &str = "skillhook_ledger";
/// The tables are named without their schema: connections look into theirs alone.
const STEPS: &[Step] = &["
    CREATE TABLE entry (
        book text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        value bytea NOT NULL,
        PRIMARY KEY (book, key)
    ) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02);
    ALTER TABLE entry ALTER COLUMN value SET STORAGE EXTERNAL;
    CREATE TABLE change (
        number bigint PRIMARY KEY,
        node uuid NOT NULL,
        first_seq bigint NOT NULL,
        next_seq bigint NOT NULL,
        books text[] NOT NULL,
        keys bytea[] NOT NULL,
        contents bytea[] NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE node (
        id uuid PRIMARY KEY,
        boot uuid NOT NULL,
        alive_until timestamptz NOT NULL,
        about text NOT NULL
    );
    CREATE TABLE holder (
        book text COLLATE \"C\" NOT NULL,
        key bytea NOT NULL,
        node uuid NOT NULL,
        PRIMARY KEY (book, key)
    );
"];
/// Changes are kept for those who follow, in minutes; who is further behind reads everything anew.
const CHANGES_MINUTES: i32 = 10;
/// A node that stops in the middle of a transaction holds up the others for so long, in seconds.
const IDLE_SECONDS: u32 = 10;

/// Makes or upgrades the schema, and checks that what is committed is kept.
pub async fn prepare(client: &mut Pooled, schema: &str) -> Result<()> {
    postgres::upgrade(client, schema, STEPS, &|error| unavailable(postgres::said(&error))).await?;
    check_durability(client).await
}

/// # Errors
/// SH0920.
pub async fn check_durability(client: &Client) -> Result<()> {
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let row = client.query_one("SELECT current_setting($1)", &[&setting]).await;
        let value: String = row.map_err(|error| unavailable(postgres::said(&error)))?.get(0);
        if value == "off" {
            let message = format!("the database of the ledger would lose deliveries: its `{setting}` is off");
            return Err(Error::new(Code::EngineUnsafe, message)
                .hint(format!("switch `{setting}` on for this database, or keep the ledger in a file")));
        }
    }
    Ok(())
}

/// The connection that writes.
pub struct Wire {
    client: Client,
    begin: String,
    renew: Statement,
    bury: Statement,
    ownerless: Statement,
    changes: Statement,
    trim: Statement,
    wanted: Statement,
    fetch: Statement,
    put: Statement,
    remove: Statement,
    let_go: Statement,
    hold: Statement,
    change: Statement,
    commit: String,
    commit_introducing: String,
}

/// What was found when the lock was taken.
#[derive(Default)]
pub struct Begun {
    pub changes: Vec<Change>,
    pub last: Option<i64>,
    pub orphans: Vec<(String, Vec<u8>)>,
    pub known: HashMap<Key, Option<Vec<u8>>>,
}

/// What rows are now; `None` for those that are gone.
type Contents<'a> = Vec<Option<&'a [u8]>>;

/// What one transaction writes.
#[derive(Default)]
pub struct Batch<'a> {
    pub number: i64,
    pub first_seq: u64,
    pub next_seq: u64,
    /// The others are to hear what this node says of itself.
    pub introduces: bool,
    pub held: Vec<Key>,
    pub put: (Vec<&'a str>, Vec<&'a [u8]>, Vec<&'a [u8]>),
    pub removed: (Vec<&'a str>, Vec<&'a [u8]>),
    pub let_go: (Vec<&'a str>, Vec<&'a [u8]>),
    pub told: (Vec<&'a str>, Vec<&'a [u8]>, Contents<'a>),
}

impl<'a> Batch<'a> {
    pub fn add(&mut self, book: &'a str, key: &'a [u8], content: Option<&'a [u8]>, is_told: bool, is_let_go: bool) {
        match content {
            Some(content) => {
                self.put.0.push(book);
                self.put.1.push(key);
                self.put.2.push(content);
            }
            None => {
                self.removed.0.push(book);
                self.removed.1.push(key);
            }
        }
        if is_let_go {
            self.let_go.0.push(book);
            self.let_go.1.push(key);
        }
        if is_told {
            self.told.0.push(book);
            self.told.1.push(key);
            self.told.2.push(content);
        }
    }
}

impl Wire {
    pub async fn connect(database: &Database) -> Result<Self, Failure> {
        let (client, _) = database.connect().await.map_err(refused)?;
        let schema = database.schema();
        let prepare = async |text: &str| client.prepare(text).await.map_err(lost);
        let gone = |table: &str| {
            format!(
                "DELETE FROM {table} AS stored USING unnest($1::text[], $2::bytea[]) AS gone (book, key)
                 WHERE stored.book = gone.book AND stored.key = gone.key"
            )
        };
        Ok(Self {
            begin: format!(
                "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s';
                 SELECT pg_advisory_xact_lock(hashtextextended('skillhook ledger {schema}', 0))"
            ),
            renew: prepare(lease::RENEW).await?,
            bury: prepare(lease::BURY).await?,
            ownerless: prepare(lease::OWNERLESS).await?,
            changes: prepare(
                "SELECT number, first_seq, next_seq, books, keys, contents FROM change WHERE number >= $1 ORDER BY number",
            )
            .await?,
            trim: prepare(
                "DELETE FROM change WHERE at < now() - make_interval(mins => $1)
                 AND number < (SELECT max(number) FROM change)",
            )
            .await?,
            wanted: prepare(
                "SELECT wanted.n, entry.value FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS wanted (book, key, n)
                 JOIN entry ON entry.book = wanted.book AND entry.key = wanted.key",
            )
            .await?,
            fetch: prepare(FETCH).await?,
            put: prepare(
                "INSERT INTO entry (book, key, value) SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[])
                 ON CONFLICT (book, key) DO UPDATE SET value = excluded.value",
            )
            .await?,
            remove: prepare(&gone("entry")).await?,
            let_go: prepare(&gone("holder")).await?,
            hold: prepare(
                "INSERT INTO holder (book, key, node)
                 SELECT book, key, $3 FROM unnest($1::text[], $2::bytea[]) AS held (book, key)
                 ON CONFLICT (book, key) DO UPDATE SET node = excluded.node",
            )
            .await?,
            change: prepare(
                "INSERT INTO change (number, node, first_seq, next_seq, books, keys, contents)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .await?,
            commit: format!("NOTIFY {schema}; COMMIT"),
            commit_introducing: format!("NOTIFY {schema}, 'node'; COMMIT"),
            client,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Takes the lock, says that this node lives where that is due, and reads what it has not seen and what it will need.
    pub async fn begin(&self, lease: &Lease, renews: bool, seen: i64, wanted: &[Key]) -> Result<Begun, Failure> {
        let client = &self.client;
        let begin = async { client.batch_execute(&self.begin).await.map_err(lost) };
        let renew = async { if renews { self.renew(lease).await } else { Ok(Vec::new()) } };
        let (_, orphans, (changes, last), known) =
            try_join4(begin, renew, self.changes(seen), self.look_ahead(wanted)).await?;
        Ok(Begun { changes, last, orphans, known })
    }

    /// Prolongs this node's life, and finds what nodes that are gone have left behind.
    async fn renew(&self, lease: &Lease) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let client = &self.client;
        let about = lease.about();
        let (id, boot, seconds) = (lease.node(), lease.boot(), lease.seconds());
        let renewed = async { client.execute(&self.renew, &[&id, &boot, &seconds, &about]).await.map_err(lost) };
        let buried = async { client.execute(&self.bury, &[]).await.map_err(lost) };
        let trimmed = async { client.execute(&self.trim, &[&CHANGES_MINUTES]).await.map_err(lost) };
        let ownerless = async { client.query(&self.ownerless, &[]).await.map_err(lost) };
        let (renewed, _, _, ownerless) = try_join4(renewed, buried, trimmed, ownerless).await?;
        if renewed == 0 {
            return Err(behind("another process works under the name of this node"));
        }
        Ok(ownerless.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// What was committed after `seen`, and the number of the last change.
    pub async fn changes(&self, seen: i64) -> Result<(Vec<Change>, Option<i64>), Failure> {
        let rows = self.client.query(&self.changes, &[&seen]).await.map_err(lost)?;
        let first: Option<i64> = rows.first().map(|row| row.get(0));
        if seen > 0 && first != Some(seen) {
            return Err(behind("this node is too far behind the others, and reads everything anew"));
        }
        let newer = rows.iter().filter(|row| row.get::<_, i64>(0) > seen);
        Ok((newer.map(change).collect(), rows.last().map(|row| row.get(0))))
    }

    async fn look_ahead(&self, wanted: &[Key]) -> Result<HashMap<Key, Option<Vec<u8>>>, Failure> {
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let (books, keys): (Vec<&str>, Vec<&[u8]>) = wanted.iter().map(|(book, key)| (*book, key.as_slice())).unzip();
        let rows = self.client.query(&self.wanted, &[&books, &keys]).await.map_err(lost)?;
        let mut known: HashMap<Key, Option<Vec<u8>>> = wanted.iter().cloned().map(|key| (key, None)).collect();
        for row in &rows {
            let number = usize::try_from(row.get::<_, i64>(0)).unwrap_or(0);
            if let Some(key) = number.checked_sub(1).and_then(|number| wanted.get(number)) {
                known.insert(key.clone(), Some(row.get(1)));
            }
        }
        Ok(known)
    }

    /// The rows, the holders and the change, at once or not at all.
    pub async fn commit(&self, lease: &Lease, batch: &Batch<'_>) -> Result<(), Failure> {
        let client = &self.client;
        let put = async {
            let (books, keys, contents) = &batch.put;
            if books.is_empty() { Ok(0) } else { client.execute(&self.put, &[books, keys, contents]).await }
        };
        let remove = async {
            let (books, keys) = &batch.removed;
            if books.is_empty() { Ok(0) } else { client.execute(&self.remove, &[books, keys]).await }
        };
        let let_go = async {
            let (books, keys) = &batch.let_go;
            if books.is_empty() { Ok(0) } else { client.execute(&self.let_go, &[books, keys]).await }
        };
        let hold = async {
            let held = batch.held.iter().map(|(book, key)| (*book, key.as_slice()));
            let (books, keys): (Vec<&str>, Vec<&[u8]>) = held.unzip();
            if books.is_empty() { Ok(0) } else { client.execute(&self.hold, &[&books, &keys, &lease.node()]).await }
        };
        let change = async {
            let seq = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
            let (first_seq, next_seq, node) = (seq(batch.first_seq), seq(batch.next_seq), lease.node());
            let (books, keys, contents) = &batch.told;
            client.execute(&self.change, &[&batch.number, &node, &first_seq, &next_seq, books, keys, contents]).await
        };
        let written = try_join5(put, remove, let_go, hold, change);
        // After an error in a transaction its commit is a rollback, which is no error: the statements tell.
        let commit = if batch.introduces { &self.commit_introducing } else { &self.commit };
        try_join(written, client.batch_execute(commit)).await.map_err(lost)?;
        Ok(())
    }

    /// Nothing was written, but perhaps the renewal of the lease; others are told where that says something new.
    pub async fn end(&self, renewal: Option<(&str, bool)>) -> Result<(), Failure> {
        let end = match renewal {
            None => "ROLLBACK".to_owned(),
            Some((_, false)) => "COMMIT".to_owned(),
            Some((schema, true)) => format!("NOTIFY {schema}, 'node'; COMMIT"),
        };
        self.client.batch_execute(&end).await.map_err(lost)
    }

    pub async fn fetch(&self, book: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.client.query_opt(&self.fetch, &[&book, &key]).await.map_err(lost)?.map(|row| row.get(0)))
    }

    pub async fn page(&self, book: &str, from: &Edge, to: &Edge, backwards: bool) -> Result<Page, Failure> {
        page(&self.client, book, from, to, backwards).await
    }
}

fn change(row: &tokio_postgres::Row) -> Change {
    let number = |column: usize| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let (books, keys): (Vec<String>, Vec<Vec<u8>>) = (row.get(3), row.get(4));
    let contents: Vec<Option<Vec<u8>>> = row.get(5);
    let rows = books.into_iter().zip(keys).zip(contents);
    let rows = rows.map(|((book, key), content)| ChangedRow { book, key, content }).collect();
    Change { first_seq: number(1), next_seq: number(2), rows }
}

const FETCH: &str = "SELECT value FROM entry WHERE book = $1 AND key = $2";

pub async fn fetch(client: &Pooled, book: &str, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    let statement = client.prepare_cached(FETCH).await.map_err(lost)?;
    Ok(client.query_opt(&statement, &[&book, &key]).await.map_err(lost)?.map(|row| row.get(0)))
}

pub async fn count(client: &Pooled, book: &str) -> Result<u64, Failure> {
    let row = client.query_one("SELECT count(*) FROM entry WHERE book = $1", &[&book]).await.map_err(lost)?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

pub async fn page(client: &Client, book: &str, from: &Edge, to: &Edge, backwards: bool) -> Result<Page, Failure> {
    let empty = Vec::new();
    let (low, low_sign) = match from {
        Bound::Included(key) => (key, ">="),
        Bound::Excluded(key) => (key, ">"),
        Bound::Unbounded => (&empty, ">="),
    };
    let (high, high_sign) = match to {
        Bound::Included(key) => (Some(key), "<="),
        Bound::Excluded(key) => (Some(key), "<"),
        Bound::Unbounded => (None, "<="),
    };
    let order = if backwards { "DESC" } else { "ASC" };
    let upper = if high.is_some() { format!("AND key {high_sign} $3") } else { String::new() };
    let select = format!(
        "SELECT key, value FROM entry WHERE book = $1 AND key {low_sign} $2 {upper} ORDER BY key {order} LIMIT {PAGE_ROWS}"
    );
    let rows = match high {
        Some(high) => client.query(&select, &[&book, low, high]).await,
        None => client.query(&select, &[&book, low]).await,
    };
    Ok(Page::new(rows.map_err(lost)?.iter().map(|row| (row.get(0), row.get(1))).collect()))
}

/// The transaction is lost: whether it was committed may not be known.
pub fn lost(error: tokio_postgres::Error) -> Failure {
    StorageError::Io(std::io::Error::other(postgres::said(&error))).into()
}

/// Waits for work of the ledger's own runtime, on whatever thread this is.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut work = std::pin::pin!(work);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => std::thread::park(),
        }
    }
}
