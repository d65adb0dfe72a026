//! The database file itself: one process at a time, made whole or not at all, opened again after an I/O error.
//!
//! A file that is there was once complete (a new one is made beside and renamed), so an empty or unreadable one is
//! damage, never a fresh start: it is left as it is, or put aside as evidence, but never overwritten.
//! redb may panic on a file that was changed behind its back, so opening happens behind a guard.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use redb::{Database, DatabaseError, ReadableDatabase as _, StorageError, WriteTransaction};

use super::engine::Transaction;
use super::kept::LayoutRow;
use super::salvage::{Salvage, salvage};
use super::tables::{Reader, Tables};
use super::{Failure, codec, damaged_file, storage_error, unavailable};
use crate::error::{Code, Context as _, Error, Result};

/// The layout of the file as a whole. Rows have versions of their own; this one counts up when tables change their keys.
const LAYOUT: u32 = 1;
const LAYOUT_KEY: &[u8] = b"layout";

/// Opens the database with what the builder says. Called again after an I/O error; `true` says that it is the first time.
pub type Opener = Arc<dyn Fn(&redb::Builder, bool) -> Result<Database, DatabaseError> + Send + Sync>;

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub cache_bytes: usize,
    /// Files up to this size are read and verified as a whole when they are opened.
    pub verify_bytes_max: u64,
}

/// The database, while it is open.
pub struct Store {
    opener: Opener,
    settings: Settings,
    /// `None` for a database that is not a file of its own.
    path: Option<PathBuf>,
    database: RwLock<Option<Database>>,
    lock: Mutex<Option<File>>,
    salvage: Option<Salvage>,
}

/// What to do with a file that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// It is put aside as it is, and what is readable in it goes on in a new one.
    Salvage,
    /// It stays where it is, and nothing starts.
    Refuse,
}

impl Store {
    pub fn open_file(path: &Path, settings: Settings, on_damage: OnDamage, now: Timestamp) -> Result<Self> {
        let lock = lock_beside(path)?;
        if !path.try_exists().context(Code::LedgerUnavailable, "the ledger's directory cannot be read")? {
            create_draft(path, settings.cache_bytes)?
                .close()
                .context(Code::LedgerUnavailable, "a new ledger cannot be made")?;
            finish_draft(path)?;
        }
        let error = match Self::open_existing(path, settings) {
            Ok(store) => return Ok(Self { lock: Mutex::new(Some(lock)), ..store }),
            Err(error) if error.code() == Code::LedgerDamaged => error,
            Err(error) => return Err(error),
        };
        match on_damage {
            OnDamage::Refuse => Err(left_alone(path, &error)),
            OnDamage::Salvage => {
                let salvage = salvage(path, settings.cache_bytes, error, now)?;
                tracing::error!(aside = %salvage.aside.display(), rows = salvage.rows, damaged = salvage.damaged,
                    error = %salvage.error.internal(), "the ledger was damaged: it is put aside, and what is readable goes on");
                let store = Self::open_existing(path, settings)?;
                Ok(Self { lock: Mutex::new(Some(lock)), salvage: Some(salvage), ..store })
            }
        }
    }

    fn open_existing(path: &Path, settings: Settings) -> Result<Self> {
        if fs::metadata(path).context(Code::LedgerUnavailable, "the ledger cannot be read")?.len() == 0 {
            return Err(damaged_file("the file is empty"));
        }
        let file = path.to_path_buf();
        let opener: Opener = Arc::new(move |builder, _| builder.open(&file));
        Self::open(opener, settings, Some(path.to_path_buf()))
    }

    /// A database that `opener` makes; it may be empty.
    pub fn open(opener: Opener, settings: Settings, path: Option<PathBuf>) -> Result<Self> {
        let database = RwLock::new(None);
        let store = Self { opener, settings, path, database, lock: Mutex::new(None), salvage: None };
        let database = store.open_database(true)?;
        store.replace(Some(database));
        Ok(store)
    }

    pub fn begin_write(&self) -> Result<WriteTransaction, Failure> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StorageError::DatabaseClosed)?;
        let mut transaction = database.begin_write()?;
        // Worth its price only where walking the whole file after a crash would take long.
        transaction.set_quick_repair(self.is_big());
        Ok(transaction)
    }

    pub fn begin_read(&self) -> Result<Reader, Failure> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or(StorageError::DatabaseClosed)?;
        Ok(Reader::File(database.begin_read()?))
    }

    /// After an error: closes what is left and opens again.
    pub fn reopen(&self) -> Result<()> {
        self.close();
        if let Some(path) = &self.path {
            forget_cached_pages(path);
        }
        let database = self.open_database(false)?;
        self.replace(Some(database));
        Ok(())
    }

    pub fn close(&self) {
        let Some(database) = self.replace(None) else { return };
        let closed = std::panic::catch_unwind(AssertUnwindSafe(|| database.close()));
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %error, "the ledger was not closed cleanly"),
            Err(_) => tracing::error!("closing the ledger went wrong"),
        }
    }

    /// What became of a damaged file, when this one was opened in its stead.
    pub fn salvage(&self) -> Option<&Salvage> {
        self.salvage.as_ref()
    }

    /// For good: the next process may have it.
    pub fn release(&self) {
        self.close();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn replace(&self, database: Option<Database>) -> Option<Database> {
        std::mem::replace(&mut *self.database.write().unwrap_or_else(PoisonError::into_inner), database)
    }

    fn open_database(&self, first: bool) -> Result<Database> {
        let mut builder = Database::builder();
        builder.set_cache_size(self.settings.cache_bytes);
        // After an I/O error what the kernel's cache says is not to be trusted, whatever the size.
        builder.set_check_integrity_on_open(!first || !self.is_big());
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let database = (self.opener)(&builder, first)?;
            Ok(prepare(&database).map(|()| database))
        }));
        match opened {
            Ok(Ok(prepared)) => prepared,
            Ok(Err(error)) => Err(open_error(&error)),
            Err(_) => Err(damaged_file("redb could not make sense of it")),
        }
    }

    fn is_big(&self) -> bool {
        match &self.path {
            Some(path) => fs::metadata(path).is_ok_and(|file| file.len() > self.settings.verify_bytes_max),
            None => self.settings.verify_bytes_max == 0,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Looks at the layout; makes the tables that are missing.
fn prepare(database: &Database) -> Result<()> {
    let step = || -> Result<(), Failure> {
        let transaction = Transaction::File(Box::new(database.begin_write()?));
        let fresh = {
            let mut tables = Tables::open(&transaction)?;
            match tables.layout.get(LAYOUT_KEY)? {
                Some(found) if found.layout > LAYOUT => return Err(codec::newer("layout").into()),
                Some(_) => false,
                None => {
                    tables.layout.put(LAYOUT_KEY, &LayoutRow { layout: LAYOUT })?;
                    true
                }
            }
        };
        if fresh { transaction.commit(0, 0) } else { transaction.abort() }
    };
    step().map_err(Failure::into_error)
}

fn open_error(error: &DatabaseError) -> Error {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => busy(None),
        DatabaseError::UpgradeRequired(version) if *version > 3 => codec::newer("file format"),
        DatabaseError::UpgradeRequired(_) | DatabaseError::RepairAborted => damaged_file(error),
        DatabaseError::Storage(StorageError::Io(io)) => match io.kind() {
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => damaged_file(io),
            _ => unavailable(io),
        },
        DatabaseError::Storage(storage) => storage_error(storage),
        other => unavailable(other),
    }
}

fn left_alone(path: &Path, error: &Error) -> Error {
    Error::new(Code::LedgerDamaged, "the ledger's file is damaged; it was left as it is")
        .hint("let it be put aside and salvaged, or restore a copy")
        .detail(format!("{}: {}", path.display(), error.internal()))
}

fn busy(process: Option<&str>) -> Error {
    let who = process.map_or_else(|| "another process".to_owned(), |id| format!("process {id}"));
    Error::new(Code::DataDirectoryBusy, format!("{who} uses the ledger already"))
        .hint("only one skillhook may work on a data directory: stop the other one, or give this one its own")
}

/// The lock is a file of its own, so that making, replacing and opening the database all happen under it.
pub fn lock_beside(path: &Path) -> Result<File> {
    let cannot = "the ledger's directory cannot be written";
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(with_suffix(path, ".lock"))
        .context(Code::LedgerUnavailable, cannot)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            let mut id = String::new();
            let holder = (&lock).take(20).read_to_string(&mut id).ok().map(|_| id.trim());
            return Err(busy(holder.filter(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))));
        }
        Err(fs::TryLockError::Error(error)) => return Err(error).context(Code::LedgerUnavailable, cannot),
    }
    // Only said to people: a failure to write it is no reason not to start.
    let _ = lock.set_len(0);
    let _ = writeln!(lock, "{}", std::process::id());
    Ok(lock)
}

/// Makes an empty ledger beside, so that no crash leaves half of one in its place.
pub fn create_draft(path: &Path, cache_bytes: usize) -> Result<Database> {
    let draft = with_suffix(path, ".new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context(Code::LedgerUnavailable, "a new ledger cannot be made");
        }
        _ => {}
    }
    let database = Database::builder().set_cache_size(cache_bytes).create(&draft);
    let database = database.map_err(|error| open_error(&error))?;
    prepare(&database)?;
    Ok(database)
}

/// Puts the draft, which is closed, in its place.
pub fn finish_draft(path: &Path) -> Result<()> {
    fs::rename(with_suffix(path, ".new"), path)
        .and_then(|()| sync_directory_of(path))
        .context(Code::LedgerUnavailable, "a new ledger cannot be made")
}

/// After a failed fsync the kernel may hold pages that never reached the disk and call them clean. What was read
/// again has to come from the disk. (See "fsyncgate": <https://wiki.postgresql.org/wiki/Fsync_Errors>.)
fn forget_cached_pages(path: &Path) {
    if let Ok(file) = File::open(path) {
        // Best effort: the check of the whole file that follows finds what is missing, where it can be found.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
