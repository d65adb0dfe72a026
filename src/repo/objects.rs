//! Git objects, written so that they survive a power cut.
//!
//! New objects are gathered in memory and written by [`Store::flush`] before any ref names them: few of them loose,
//! many as one pack, because ten thousand loose objects would cost ten thousand fsyncs. An object that exists
//! already is read once before it is relied on: a torn one, left by a power cut under a program that does not
//! fsync, is replaced instead of being built upon.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Odb, Oid};

use super::open;
use crate::error::{Code, Context, Error, Result};

/// Up to this many new objects are written loose; more become a pack.
const LOOSE_OBJECTS_MAX: usize = 32;
/// The gathered contents are written when they reach this many bytes.
const GATHERED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Objects larger than this are never read.
const OBJECT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Reads and writes objects of one repository.
pub(super) struct Store<'repo> {
    repo: &'repo git2::Repository,
    odb: Odb<'repo>,
    gathered: HashMap<Oid, (ObjectType, Vec<u8>)>,
    gathered_bytes: usize,
}

impl<'repo> Store<'repo> {
    pub(super) fn new(repo: &'repo git2::Repository) -> Result<Self> {
        let odb = repo.odb().context(Code::GitFailed, "the object database cannot be opened")?;
        Ok(Self { repo, odb, gathered: HashMap::new(), gathered_bytes: 0 })
    }

    /// The content of an object of the expected kind.
    pub(super) fn read(&self, id: Oid, kind: ObjectType) -> Result<Vec<u8>> {
        if let Some((found, bytes)) = self.gathered.get(&id)
            && *found == kind
        {
            return Ok(bytes.clone());
        }
        let unreadable = || format!("the git object `{id}` cannot be read");
        let (size, found) = self.odb.read_header(id).context(Code::GitFailed, unreadable())?;
        if found != kind || size > OBJECT_BYTES_MAX {
            return Err(Error::new(Code::GitFailed, unreadable()).detail(format!("{found:?} of {size} bytes")));
        }
        Ok(self.odb.read(id).context(Code::GitFailed, unreadable())?.data().to_vec())
    }

    /// Whether an object is small enough to be read.
    pub(super) fn fits(&self, id: Oid) -> Result<bool> {
        let (size, _) =
            self.odb.read_header(id).context(Code::GitFailed, format!("the git object `{id}` is missing"))?;
        Ok(size <= OBJECT_BYTES_MAX)
    }

    /// Gathers an object for the next flush, unless it is there already and whole.
    pub(super) fn put(&mut self, kind: ObjectType, bytes: Vec<u8>) -> Result<Oid> {
        let id = Oid::hash_object(kind, &bytes).context(Code::GitFailed, "an object cannot be hashed")?;
        if self.is_whole(id)? {
            // Writing an object that exists makes it young, so that no collection under way takes it. (The
            // empty tree is always readable and yet may have to be written.)
            if !self.gathered.contains_key(&id) {
                self.odb.write(kind, &bytes).context(Code::GitFailed, "a git object cannot be written")?;
            }
            return Ok(id);
        }
        self.gathered_bytes += bytes.len();
        self.gathered.insert(id, (kind, bytes));
        if self.gathered_bytes > GATHERED_BYTES_MAX {
            self.flush()?;
        }
        Ok(id)
    }

    /// Whether an object exists and can be read back; a torn loose one is taken out of the way.
    pub(super) fn is_whole(&self, id: Oid) -> Result<bool> {
        if self.gathered.contains_key(&id) {
            return Ok(true);
        }
        match self.odb.read(id) {
            Ok(_) => Ok(true),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
            Err(error) => {
                remove_loose(self.repo, id)
                    .context(Code::GitFailed, format!("the git object `{id}` is damaged and cannot be replaced"))?;
                tracing::warn!(object = %id, %error, "took a damaged git object out of the way");
                Ok(false)
            }
        }
    }

    /// Writes what was gathered; when this returns, it is on disk.
    pub(super) fn flush(&mut self) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let written = if gathered.len() <= LOOSE_OBJECTS_MAX {
            gathered.values().try_for_each(|(kind, bytes)| self.odb.write(*kind, bytes).map(|_| ()))
        } else {
            self.write_pack(&gathered)
        };
        written.context(Code::GitFailed, "git objects cannot be written")
    }

    fn write_pack(&self, gathered: &HashMap<Oid, (ObjectType, Vec<u8>)>) -> Result<(), git2::Error> {
        // A handle of its own, so that the backend in memory ends with this function.
        let aside = git2::Repository::open(self.repo.path())?;
        aside.set_config(&self.repo.config()?)?;
        let memory = aside.odb()?;
        let _backend = memory.add_new_mempack_backend(1000)?;
        let mut pack = aside.packbuilder()?;
        pack.set_threads(1);
        for (id, (kind, bytes)) in gathered {
            memory.write(*kind, bytes)?;
            pack.insert_object(*id, None)?;
        }
        let directory = self.repo.commondir().join("objects").join("pack");
        open::create_directories(&directory).map_err(|error| git2::Error::from_str(&error.to_string()))?;
        pack.write(&directory, 0)?;
        self.odb.refresh()
    }
}

/// Where a loose object lies, if it is one.
pub(super) fn loose_path(common_directory: &Path, id: Oid) -> PathBuf {
    let name = id.to_string();
    common_directory.join("objects").join(&name[..2]).join(&name[2..])
}

fn remove_loose(repo: &git2::Repository, id: Oid) -> std::io::Result<()> {
    std::fs::remove_file(loose_path(repo.commondir(), id))
}
