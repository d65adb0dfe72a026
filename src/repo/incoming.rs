//! The files of a pull: written aside in git's own directory, brought to disk, then moved into place.

use std::io::{self, ErrorKind};

use git2::ObjectType;

use super::beneath::{Directory, fresh_name};
use super::objects::Store;
use super::open::Place;
use super::tree::Leaf;
use crate::error::{Code, Context, Result};

/// Up to this many files are synced one by one; more are synced with their file system.
const SYNCED_SINGLY_MAX: usize = 64;
const ASIDE: &str = "incoming";

/// Files that lie ready. Their names aside are their places in the list.
pub(super) struct Incoming {
    own: Directory,
    aside: Directory,
    paths: Vec<String>,
}

impl Incoming {
    /// Everything that can fail for want of space or objects fails here, before a file of the work tree changes.
    pub(super) fn prepare(place: &Place, store: &Store<'_>, writes: &[(String, Leaf)]) -> Result<Self> {
        let failed = "the incoming files cannot be written";
        let own = Directory::open(&place.own_directory()).context(Code::GitFailed, failed)?;
        own.remove_all(ASIDE).context(Code::GitFailed, failed)?;
        let aside = own.enter_or_create(ASIDE, 0o700).context(Code::GitFailed, failed)?;
        let singly = writes.len() <= SYNCED_SINGLY_MAX;
        for (number, (_, leaf)) in writes.iter().enumerate() {
            let bytes = store.read(leaf.id, ObjectType::Blob)?;
            let file = aside.create_file(number.to_string(), &bytes, permissions(*leaf));
            let synced = file.and_then(|file| if singly { file.sync_all() } else { Ok(()) });
            synced.context(Code::GitFailed, failed)?;
        }
        if !singly {
            aside.sync_file_system().context(Code::GitFailed, failed)?;
        }
        Ok(Self { own, aside, paths: writes.iter().map(|(path, _)| path.clone()).collect() })
    }

    /// Deletes, then moves the new files into place, then brings the directories to disk.
    pub(super) fn apply(self, files: &Directory, deletions: &[String]) -> Result<()> {
        for path in deletions {
            delete(files, path).context(Code::TreeUnreadable, format!("`{path}` cannot be deleted"))?;
        }
        let singly = self.paths.len() <= SYNCED_SINGLY_MAX;
        for (number, path) in self.paths.iter().enumerate() {
            self.place(files, &number.to_string(), path, singly)
                .context(Code::TreeUnreadable, format!("`{path}` cannot be written"))?;
        }
        files.sync_file_system().context(Code::TreeUnreadable, "the work tree cannot be synced")?;
        self.own.remove_all(ASIDE).context(Code::GitFailed, "the incoming files cannot be cleared away")
    }

    fn place(&self, files: &Directory, number: &str, path: &str, sync: bool) -> io::Result<()> {
        let (parent, name) = files.parent(path, Some(0o777))?;
        match self.aside.rename(number, &parent, name) {
            // An empty directory that the deletions left, or one that held nothing else.
            Err(error) if matches!(error.kind(), ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty) => {
                remove_empty_below(&parent, name, 0)?;
                self.aside.rename(number, &parent, name)?;
            }
            Err(error) if error.kind() == ErrorKind::CrossesDevices => self.copy(number, &parent, name)?,
            other => other?,
        }
        if sync { parent.sync() } else { Ok(()) }
    }

    /// Git's directory and the work tree lie on different file systems.
    fn copy(&self, number: &str, parent: &Directory, name: &str) -> io::Result<()> {
        let bytes = self.aside.read(number, u64::MAX - 1)?;
        let stat = self.aside.look(number)?.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        let temporary = fresh_name(".skillhook-");
        parent.create_file(&temporary, &bytes, stat.st_mode & 0o777)?.sync_all()?;
        parent.rename(&temporary, parent, name)
    }
}

fn permissions(leaf: Leaf) -> u32 {
    if leaf.is_executable() { 0o777 } else { 0o666 }
}

/// Deletes a file and the directories that it leaves empty. What is absent already is fine.
fn delete(files: &Directory, path: &str) -> io::Result<()> {
    let absent = |error: &io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let removed = files.parent(path, None).and_then(|(parent, name)| parent.remove_file(name));
    match removed {
        Err(error) if absent(&error) => return Ok(()),
        // A directory took the place of the file: nothing of ours is left there.
        Err(error) if error.kind() == ErrorKind::IsADirectory => return Ok(()),
        other => other?,
    }
    let mut inner = path;
    while let Some((above, _)) = inner.rsplit_once('/') {
        let (parent, name) = files.parent(above, None)?;
        if !parent.remove_if_empty(name)? {
            break;
        }
        inner = above;
    }
    Ok(())
}

fn remove_empty_below(parent: &Directory, name: &str, depth: usize) -> io::Result<()> {
    if depth > crate::model::revision::PATH_DEPTH_MAX {
        return Err(io::Error::from(ErrorKind::DirectoryNotEmpty));
    }
    let inner = parent.enter(name)?;
    for (entry, _) in inner.list()? {
        let entry = entry.to_str().ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        remove_empty_below(&inner, entry, depth + 1)?;
    }
    match parent.remove_if_empty(name)? {
        true => Ok(()),
        false => Err(io::Error::from(ErrorKind::DirectoryNotEmpty)),
    }
}
