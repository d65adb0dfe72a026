//! The person's index: changed only in the entries that are committed, under git's own lock.
//!
//! The lock is taken as git takes it (`index.lock`, created exclusively), the new index replaces the lock file, and
//! the lock file becomes the index, so that other programs see either the old or the new one. Entries get no cached
//! file status; git fills that in when it next looks.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{Index, IndexEntry, IndexTime, Oid};

use super::open::{self, Place};
use super::tree::Leaf;
use crate::error::{Code, Context, Error, Result};

/// `git add --intent-to-add`: a promise without content.
const INTENT_TO_ADD: u16 = 1 << 13;

/// The index, locked and loaded.
pub(super) struct Staging {
    index: Index,
    copy: PathBuf,
    lock: PathBuf,
    target: PathBuf,
    /// Whether the lock file is ours; after `publish` a file of that name would be somebody else's.
    locked: bool,
    /// Whether the index was unreadable and is HEAD's now.
    pub(super) rebuilt: bool,
}

impl Drop for Staging {
    fn drop(&mut self) {
        // A copy or lock that stays is found and removed as left behind.
        let _ = std::fs::remove_file(&self.copy);
        if self.locked {
            let _ = std::fs::remove_file(&self.lock);
        }
    }
}

impl Staging {
    /// `None` while somebody else holds the lock. A missing or torn index is made anew from `head_tree`.
    pub(super) fn take(place: &Place, repo: &git2::Repository, head_tree: Option<Oid>) -> Result<Option<Self>> {
        let failed = "the index cannot be locked";
        let mut staging = Self {
            index: Index::new().context(Code::GitFailed, failed)?,
            copy: place.own_directory().join("index"),
            lock: place.git_directory.join("index.lock"),
            target: place.git_directory.join("index"),
            locked: false,
            rebuilt: false,
        };
        match File::options().write(true).create_new(true).open(&staging.lock) {
            Ok(_) => staging.locked = true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error).context(Code::GitFailed, failed),
        }
        staging.load(repo, head_tree)?;
        Ok(Some(staging))
    }

    fn load(&mut self, repo: &git2::Repository, head_tree: Option<Oid>) -> Result<()> {
        open::check_index(&self.target)?;
        // Whoever died in here left the lock of the copy; the lock of the index is ours, so nobody else is in here.
        let _ = std::fs::remove_file(self.copy.with_extension("lock"));
        let present = match std::fs::copy(&self.target, &self.copy) {
            Ok(bytes) => bytes > 0,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(error).context(Code::GitFailed, "the index cannot be read"),
        };
        if present && let Ok(index) = Index::open(&self.copy) {
            self.index = index;
            return Ok(());
        }
        let _ = std::fs::remove_file(&self.copy);
        let failed = "the index is damaged and cannot be made anew";
        self.index = Index::open(&self.copy).context(Code::GitFailed, failed)?;
        if let Some(tree) = head_tree {
            let tree = repo.find_tree(tree).context(Code::GitFailed, failed)?;
            self.index.read_tree(&tree).context(Code::GitFailed, failed)?;
            self.rebuilt = true;
        }
        Ok(())
    }

    pub(super) fn has_conflicts(&self) -> bool {
        self.index.has_conflicts()
    }

    /// Whether a person has staged at `path` something that is none of `known`: what HEAD has, what we want.
    pub(super) fn is_staged_differently(&self, path: &[u8], known: &[Option<Leaf>]) -> bool {
        let entry = self.entry(path).filter(|entry| entry.flags_extended & INTENT_TO_ADD == 0);
        let staged = entry.map(|entry| Leaf { id: entry.id, mode: entry.mode });
        !known.contains(&staged)
    }

    pub(super) fn entry(&self, path: &[u8]) -> Option<IndexEntry> {
        self.index.get_path(Path::new(OsStr::from_bytes(path)), 0)
    }

    /// An entry as young as the index itself may have changed without its time showing it ("racily clean").
    pub(super) fn is_doubtful(&self, entry: &IndexEntry) -> bool {
        let written = self.target.metadata().and_then(|found| found.modified()).ok();
        let since = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        since.is_none_or(|since| {
            let written = (since.as_secs() as i64, u64::from(since.subsec_nanos()));
            (i64::from(entry.mtime.seconds()), u64::from(entry.mtime.nanoseconds())) >= written
        })
    }

    pub(super) fn set(&mut self, path: &[u8], leaf: Option<Leaf>) -> Result<()> {
        let failed = || format!("the index entry of `{}` cannot be changed", path.escape_ascii());
        match leaf {
            Some(leaf) => self.index.add(&entry_for(path, leaf)).context(Code::GitFailed, failed()),
            None if self.entry(path).is_none() => Ok(()),
            None => self.index.remove(Path::new(OsStr::from_bytes(path)), 0).context(Code::GitFailed, failed()),
        }
    }

    /// Makes the changed index the one that everybody sees. It is on disk when this returns.
    pub(super) fn publish(mut self) -> Result<()> {
        self.index.write().context(Code::GitFailed, "the index cannot be written")?;
        self.replace().map_err(|error| Error::new(Code::GitFailed, "the index cannot be written").detail(error))
    }

    fn replace(&mut self) -> io::Result<()> {
        let copy = File::options().write(true).open(&self.copy)?;
        if let Ok(old) = self.target.metadata() {
            // Git compares entries with the time of the index to find files that changed within the clock's
            // granularity. Entries that were doubtful under the old index must stay doubtful under the new one.
            copy.set_modified(old.modified()?)?;
            copy.set_permissions(old.permissions())?;
        }
        copy.sync_all()?;
        std::fs::rename(&self.copy, &self.lock)?;
        std::fs::rename(&self.lock, &self.target)?;
        self.locked = false;
        self.target.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }
}

fn entry_for(path: &[u8], leaf: Leaf) -> IndexEntry {
    let zero = IndexTime::new(0, 0);
    IndexEntry {
        ctime: zero,
        mtime: zero,
        dev: 0,
        ino: 0,
        mode: leaf.mode,
        uid: 0,
        gid: 0,
        file_size: 0,
        id: leaf.id,
        flags: 0,
        flags_extended: 0,
        path: path.to_vec(),
    }
}
