//! Moves everything from one engine to another, while no service works on either.
//!
//! Rows lie in both alike, so they are copied as they are. A move that was broken off leaves a mark in the target: nothing
//! starts on half a ledger, and the next move begins anew. What ran or was being sent is in nobody's hands afterwards, and
//! begins again (`load.rs`). The source is put aside under another name, so that it cannot be gone on with by mistake.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::store::Failure;
use super::store::codec::{self, Row as _};
use super::store::database::{OnDamage, Settings, Store, with_suffix};
use super::store::engine::Engine;
use super::store::kept::LayoutRow;
use super::store::shared::SharedStore;
use super::store::tables::{BOOKS, Reader, Table as _};
use super::{FILE, SharedSettings};
use crate::error::{Code, Context as _, Error, Result};
use crate::model::secret::SecretValue;

/// Rows and bytes of one commit, about.
const ROWS_A_COMMIT: usize = 2_000;
const BYTES_A_COMMIT: usize = 16 * 1024 * 1024;
/// Memory for the pages of a file, in bytes.
const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Under this key in `layout` stands that a move into this ledger has not ended.
pub const UNFINISHED: &[u8] = b"unfinished-move";

/// Where a ledger is.
#[derive(Clone, Debug)]
pub enum Place {
    /// The data directory of a file.
    File(PathBuf),
    Postgres(SecretValue),
}

/// What a move came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Rows of each table that had any, by name.
    pub rows: Vec<(&'static str, u64)>,
    /// Where the source is now.
    pub aside: String,
}

/// # Errors
/// SH0901 when there is nothing to move, SH0303 when a service works on either, SH0903 when the target holds something,
/// and those of opening the ledgers.
pub fn migrate(from: &Place, to: &Place, now: Timestamp) -> Result<Moved> {
    if let Place::File(directory) = from
        && !directory.join(FILE).exists()
    {
        return Err(Error::new(Code::NotFound, format!("there is no ledger at `{}`", directory.join(FILE).display())));
    }
    let (source, target) = (open(from, now)?, open(to, now)?);
    let moved = copy_all(&source, &target).map_err(Failure::into_error);
    target.release();
    match moved {
        Ok(rows) => Ok(Moved { rows, aside: put_aside(from, &source, now)? }),
        Err(error) => {
            source.release();
            Err(error)
        }
    }
}

fn open(place: &Place, now: Timestamp) -> Result<Engine> {
    match place {
        Place::File(directory) => {
            let settings = Settings { cache_bytes: CACHE_BYTES, verify_bytes_max: u64::MAX };
            let store = Store::open_file(&directory.join(FILE), settings, OnDamage::Refuse, now)?;
            Ok(Engine::File(Box::new(store)))
        }
        Place::Postgres(url) => {
            let settings = SharedSettings { url: url.clone(), lease: Duration::from_secs(60) };
            let store = SharedStore::visit(&settings)?;
            Ok(Engine::Shared(store))
        }
    }
}

fn copy_all(source: &Engine, target: &Engine) -> Result<Vec<(&'static str, u64)>, Failure> {
    let reader = source.begin_read()?;
    if reader.book(LayoutRow::TABLE)?.look(UNFINISHED, |_| ())?.is_some() {
        return Err(unfinished().into());
    }
    prepare(target)?;
    let mut moved = Vec::new();
    for book in BOOKS.iter().filter(|book| **book != LayoutRow::TABLE) {
        let copied = copy(&reader, target, book)?;
        let found = target.begin_read()?.book(book)?.count()?;
        if found != copied {
            let message = format!("`{book}` has {found} rows after the move instead of {copied}");
            return Err(Error::new(Code::LedgerDamaged, message).into());
        }
        moved.extend((copied > 0).then_some((*book, copied)));
    }
    mark(target, false)?;
    Ok(moved)
}

/// As far as a move that is broken off at once.
#[cfg(test)]
pub fn begin(to: &Place, now: Timestamp) -> Result<()> {
    let target = open(to, now)?;
    mark(&target, true).map_err(Failure::into_error)?;
    target.release();
    Ok(())
}

/// Only onto nothing, or onto what a move has left that was broken off.
fn prepare(target: &Engine) -> Result<(), Failure> {
    let reader = target.begin_read()?;
    let is_broken_off = reader.book(LayoutRow::TABLE)?.look(UNFINISHED, |_| ())?.is_some();
    for book in BOOKS.iter().filter(|book| **book != LayoutRow::TABLE) {
        if is_broken_off {
            clear(target, book)?;
        } else if reader.book(book)?.count()? > 0 {
            return Err(Error::new(
                Code::Conflict,
                format!("the ledger to move to is not empty: it has rows in `{book}`"),
            )
            .hint("move to an empty database, or to another schema of it: `?schema=NAME`")
            .into());
        }
    }
    mark(target, true)
}

fn mark(target: &Engine, unfinished: bool) -> Result<(), Failure> {
    let transaction = target.begin_write(Vec::new)?;
    {
        let mut layout = transaction.book(LayoutRow::TABLE)?;
        if unfinished {
            layout.insert(UNFINISHED, &codec::encode(UNFINISHED, &LayoutRow { layout: 0 })?)?;
        } else {
            layout.remove(UNFINISHED)?;
        }
    }
    transaction.commit(0, 0)
}

fn copy(reader: &Reader, target: &Engine, book: &'static str) -> Result<u64, Failure> {
    let rows = reader.book(book)?;
    let mut all =
        rows.scan(Bound::Unbounded, Bound::Unbounded, |key, value| (key.to_vec(), value.to_vec()))?.peekable();
    let mut copied = 0;
    while all.peek().is_some() {
        let transaction = target.begin_write(Vec::new)?;
        {
            let mut into = transaction.book(book)?;
            let mut bytes = 0;
            for row in all.by_ref().take(ROWS_A_COMMIT) {
                let (key, value) = row?;
                into.insert(&key, &value)?;
                copied += 1;
                bytes += value.len();
                if bytes > BYTES_A_COMMIT {
                    break;
                }
            }
        }
        transaction.commit(0, 0)?;
    }
    Ok(copied)
}

fn clear(target: &Engine, book: &'static str) -> Result<(), Failure> {
    loop {
        let keys: Vec<Vec<u8>> = {
            let rows = target.begin_read()?.book(book)?;
            let keys = rows.scan(Bound::Unbounded, Bound::Unbounded, |key, _| key.to_vec())?;
            keys.take(ROWS_A_COMMIT).collect::<Result<_, _>>()?
        };
        if keys.is_empty() {
            return Ok(());
        }
        let transaction = target.begin_write(Vec::new)?;
        {
            let mut rows = transaction.book(book)?;
            for key in &keys {
                rows.remove(key)?;
            }
        }
        transaction.commit(0, 0)?;
    }
}

/// A service does not begin on half a ledger.
pub fn unfinished() -> Error {
    Error::new(Code::Conflict, "a move into this ledger was broken off: it holds a part only")
        .hint("run `skillhook queue migrate` again: it begins anew, the source is still whole")
}

fn put_aside(place: &Place, source: &Engine, now: Timestamp) -> Result<String> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string().to_lowercase();
    match (place, source) {
        (Place::File(directory), _) => {
            source.release();
            let file = directory.join(FILE);
            let aside = with_suffix(&file, &format!(".moved-{stamp}"));
            std::fs::rename(&file, &aside).context(Code::LedgerUnavailable, "the old ledger cannot be put aside")?;
            Ok(shown(&aside))
        }
        (Place::Postgres(_), Engine::Shared(store)) => {
            let aside = store.put_aside(&stamp)?;
            source.release();
            Ok(aside)
        }
        (Place::Postgres(_), Engine::File(_)) => Err(Error::new(Code::Bug, "a database is no file")),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
