//! Small records in git's directory that let the next process finish, or understand, what a crash interrupted.

use std::io::ErrorKind;

use git2::Oid;

use super::Repository;
use super::beneath::Directory;
use crate::error::{Code, Context, Error, Result};

/// What a record says: a commit that was on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A pull to this commit has begun to change files.
    Pull,
    /// This commit's entries are about to be written to the index, before the branch moves to it.
    Staging,
}

impl Record {
    fn name(self) -> &'static str {
        match self {
            Record::Pull => "pull",
            Record::Staging => "staging",
        }
    }
}

impl Repository {
    /// The commit that is on its way, and the head that it was to come upon. On disk when this returns.
    pub(super) fn write_record(&self, record: Record, commit: Oid, from: Option<Oid>) -> Result<()> {
        let from = from.map(|from| format!("{from}\n")).unwrap_or_default();
        let write = || {
            let own = Directory::open(&self.shared.place.own_directory())?;
            let fresh = format!("{}.new", record.name());
            own.remove_all(&fresh)?;
            own.create_file(&fresh, format!("{commit}\n{from}").as_bytes(), 0o644)?.sync_all()?;
            own.rename(&fresh, &own, record.name())?;
            own.sync()
        };
        write().context(Code::GitFailed, "a record cannot be written to the git directory")
    }

    /// A torn record counts as none: what it announces begins only when it is on disk.
    pub(super) fn read_record(&self, record: Record) -> Result<Option<(Oid, Option<Oid>)>> {
        match std::fs::read_to_string(self.record_path(record)) {
            Ok(text) => {
                let mut lines = text.lines().map(|line| Oid::from_str(line.trim()).ok().filter(|id| !id.is_zero()));
                Ok(lines.next().flatten().map(|commit| (commit, lines.next().flatten())))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(Error::new(Code::GitFailed, "a record in the git directory cannot be read").detail(error))
            }
        }
    }

    pub(super) fn remove_record(&self, record: Record) -> Result<()> {
        match std::fs::remove_file(self.record_path(record)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context(Code::GitFailed, "a record in the git directory cannot be removed")
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn record_path(&self, record: Record) -> std::path::PathBuf {
        self.shared.place.own_directory().join(record.name())
    }
}
