//! The directory of one attempt: who is at work in it, and what is left of it.
//!
//! | file | written by | meaning |
//! |---|---|---|
//! | `lock` | supervisor | locked as long as the supervisor lives |
//! | `attempt.json` | service | what is needed to judge the attempt after a restart |
//! | `policy.json`, `stage.json` | supervisor, stage | the sandbox to enter, and what came of that |
//! | `stdout.ndjson` | supervisor | what the agent printed |
//! | `exit.json` | supervisor | how it ended; appears whole or not at all |
//! | `home/`, `tmp/` | agent | its own, removed after the run |

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wire::{Exit, StopReason};

/// Records are small; what is larger is not ours.
const RECORD_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct AttemptDir {
    path: PathBuf,
}

/// What the service notes before it starts anything.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    pub started_at: Timestamp,
    pub session_cost_before_usd: f64,
}

/// What the stage notes before it becomes the agent, or when it cannot.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StageNote {
    pub sandbox: String,
    pub start_error: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ExitRecord {
    pub exit: Option<Exit>,
    pub stopped: Option<StopReason>,
    pub start_error: Option<String>,
    pub stderr_tail: String,
    pub stdout_bytes: u64,
    pub duration_ms: u64,
    pub sandbox: String,
    /// Processes that outlived the agent program and were killed.
    pub leftovers_killed: u64,
    /// What else a person may want to know.
    pub notes: Vec<String>,
}

impl AttemptDir {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn stdout(&self) -> PathBuf {
        self.path.join("stdout.ndjson")
    }

    pub(super) fn policy(&self) -> PathBuf {
        self.path.join("policy.json")
    }

    pub(super) fn stage(&self) -> PathBuf {
        self.path.join("stage.json")
    }

    pub(super) fn exit(&self) -> PathBuf {
        self.path.join("exit.json")
    }

    pub(super) fn attempt(&self) -> PathBuf {
        self.path.join("attempt.json")
    }

    pub(super) fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// Makes the directory and the agent's own places in it, readable by nobody else.
    pub(super) fn create(&self) -> io::Result<()> {
        for path in [self.path.clone(), self.home(), self.tmp()] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        Ok(())
    }

    /// Takes the lock; `None` if another process holds it. It is released when the file is closed.
    pub(super) fn try_lock(&self) -> io::Result<Option<File>> {
        let lock = private_file().truncate(false).open(self.path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Writes a record so that a reader, or a machine after a power cut, finds all of it or nothing.
    pub(super) fn write_record(&self, path: &Path, record: &impl Serialize) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
        serde_json::to_writer(&mut file, record)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(&self.path)?.sync_all()
    }

    /// `None` if there is no such record, or none that can be read.
    pub(super) fn read_record<T: DeserializeOwned>(path: &Path) -> Option<T> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(RECORD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Removes what was the agent's own; what it printed and how it ended stay.
    pub(super) fn clear(&self) {
        for path in [self.home(), self.tmp()] {
            if let Err(error) = fs::remove_dir_all(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "cannot remove what an agent left behind");
            }
        }
    }
}

/// For files that hold payloads: nobody else may read them.
pub(super) fn private_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_held_by_one_and_free_after_it() {
        let place = tempfile::tempdir().unwrap();
        let dir = AttemptDir::new(place.path());
        let held = dir.try_lock().unwrap();
        assert!(held.is_some());
        assert!(dir.try_lock().unwrap().is_none());
        drop(held);
        assert!(dir.try_lock().unwrap().is_some());
    }

    #[test]
    fn record_reads_back_and_leaves_nothing_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let dir = AttemptDir::new(place.path().join("attempt"));
        dir.create().unwrap();
        let record = ExitRecord { exit: Some(Exit::Signal(9)), stderr_tail: "x".to_owned(), ..ExitRecord::default() };
        dir.write_record(&dir.exit(), &record).unwrap();
        assert_eq!(AttemptDir::read_record::<ExitRecord>(&dir.exit()), Some(record));
        dir.clear();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["exit.json"]);
    }

    #[test]
    fn torn_record_is_no_record() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("exit.json");
        fs::write(&path, r#"{"exit":{"code":0"#).unwrap();
        assert_eq!(AttemptDir::read_record::<ExitRecord>(&path), None);
    }
}
