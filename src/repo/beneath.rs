//! Files below a directory, reached without ever following a link.
//!
//! Each component is opened on its own with `O_NOFOLLOW`, so a symlink planted anywhere on the way (by a pulled
//! tree, an agent, or a person) is an error instead of a way out. Files appear whole or not at all: written aside,
//! then renamed. This is the only way in which pulled trees and workspaces are written.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

/// Most entries of one directory that are removed or listed.
const ENTRIES_MAX: usize = 2_000_000;
/// Deepest directory that is removed.
const DEPTH_MAX: usize = 128;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Directory {
    /// Opens the directory that everything else lies beneath; links on the way to it are the operator's.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Opens one directory in this one; a link is an error.
    pub(crate) fn enter(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        Ok(Self { fd: rustix::fs::openat(&self.fd, single(&name)?, DIRECTORY, Mode::empty())? })
    }

    /// The same, created if it is absent.
    pub(crate) fn enter_or_create(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<Self> {
        let name = name.as_ref();
        match rustix::fs::mkdirat(&self.fd, single(name)?, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.enter(name),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory that holds `path`, and the last component.
    pub(crate) fn parent<'a>(&self, path: &'a str, create: Option<u32>) -> io::Result<(Self, &'a str)> {
        let mut at = Self { fd: self.fd.try_clone()? };
        let mut names = path.split('/');
        let last = names.next_back().unwrap_or_default();
        for name in names {
            at = match create {
                Some(mode) => at.enter_or_create(name, mode)?,
                None => at.enter(name)?,
            };
        }
        Ok((at, last))
    }

    /// What lies at `path`, links not followed. `None` if nothing does, or a component on the way is no directory.
    pub(crate) fn look(&self, path: &str) -> io::Result<Option<Stat>> {
        let absent = |error: &io::Error| {
            matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
                || error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
        };
        let found = self.parent(path, None).and_then(|(parent, name)| parent.stat(name));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stat(&self, name: impl AsRef<OsStr>) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.fd, single(&name)?, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// The content of a plain file of at most `bytes_max` bytes.
    pub(crate) fn read(&self, path: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
        let (parent, name) = self.parent(path, None)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&parent.fd, single(&name)?, flags, Mode::empty())?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a plain file"));
        }
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max {
            return Err(io::Error::from(ErrorKind::FileTooLarge));
        }
        Ok(bytes)
    }

    /// Creates a file that must not exist; not yet on disk when this returns.
    pub(crate) fn create_file(&self, name: impl AsRef<OsStr>, bytes: &[u8], mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.fd, single(&name)?, flags, Mode::from_raw_mode(mode))?);
        file.write_all(bytes)?;
        Ok(file)
    }

    /// Creates a link that must not exist. Whoever calls this knows that it leads nowhere that it should not.
    pub(crate) fn create_link(&self, name: impl AsRef<OsStr>, leads_to: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(leads_to), &self.fd, single(&name)?)?)
    }

    /// Where a link leads.
    pub(crate) fn read_link(&self, name: impl AsRef<OsStr>) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, single(&name)?, Vec::new())?.into_bytes())
    }

    /// Puts `name` in place of whatever plain file or link `to` has under that name.
    pub(crate) fn rename(&self, name: &str, to: &Directory, to_name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, single(&name)?, &to.fd, single(to_name)?)?)
    }

    /// Gives `name` the mode, whatever the mask of the process is.
    pub(crate) fn set_mode(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<()> {
        // Opening first keeps a link from being followed: fchmodat cannot be told not to everywhere.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, single(&name)?, flags, Mode::empty())?;
        Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))?)
    }

    pub(crate) fn remove_file(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, single(&name)?, AtFlags::empty())?)
    }

    /// Removes a directory if it is empty; answers whether it did.
    pub(crate) fn remove_if_empty(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.fd, single(&name)?, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes whatever has this name, with everything below it, writable or not; absence is fine.
    pub(crate) fn remove_all(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.remove_level(name.as_ref(), 0)
    }

    fn remove_level(&self, name: &OsStr, depth: usize) -> io::Result<()> {
        let stat = match self.stat(name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return self.remove_file(name);
        }
        if depth > DEPTH_MAX {
            return Err(io::Error::other("the directory is nested too deeply"));
        }
        if stat.st_mode & 0o700 != 0o700 {
            self.make_passable(name)?;
        }
        let inner = self.enter(name)?;
        for (entry, _) in inner.list()? {
            inner.remove_level(&entry, depth + 1)?;
        }
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    fn make_passable(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = name.as_ref();
        match self.set_mode(name, 0o700) {
            // Without the right to read it cannot be opened; a directory that we own can be changed by name.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                Ok(rustix::fs::chmodat(&self.fd, single(name)?, Mode::from_raw_mode(0o700), AtFlags::empty())?)
            }
            other => other,
        }
    }

    /// The entries of this directory with their kinds.
    pub(crate) fn list(&self) -> io::Result<Vec<(OsString, FileType)>> {
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => FileType::from_raw_mode(self.stat(name)?.st_mode),
                known => known,
            };
            found.push((name.to_owned(), kind));
            if found.len() > ENTRIES_MAX {
                return Err(io::Error::other("the directory has too many entries"));
            }
        }
        Ok(found)
    }

    /// Brings the entries of this directory to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Brings everything on the file system of this directory to disk, where the system can.
    #[cfg(target_os = "linux")]
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.fd)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        self.sync()
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A name that nothing else uses.
pub(crate) fn fresh_name(prefix: &str) -> String {
    format!("{prefix}{}", crate::seam::fresh_id().simple())
}

/// One component, so that no name can lead elsewhere.
fn single<N: AsRef<OsStr> + ?Sized>(name: &N) -> io::Result<&OsStr> {
    let name = name.as_ref();
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(io::Error::from(ErrorKind::InvalidInput));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_are_never_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (inside, outside) = (temp.path().join("in"), temp.path().join("out"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("secret"), "s").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        symlink(outside.join("secret"), inside.join("file")).unwrap();
        let directory = Directory::open(&inside).unwrap();
        directory.enter("link").unwrap_err();
        directory.parent("link/new/file", Some(0o755)).unwrap_err();
        directory.read("file", 10).unwrap_err();
        assert!(directory.look("link/secret").unwrap().is_none());
        for bad in ["..", ".", "", "a/b"] {
            directory.enter(bad).unwrap_err();
        }
        directory.remove_all("link").unwrap();
        assert!(outside.join("secret").exists());
    }

    #[test]
    fn read_only_trees_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let deep = temp.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("f"), "x").unwrap();
        for path in [&deep, &temp.path().join("a")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o555)).unwrap();
        }
        let directory = Directory::open(temp.path()).unwrap();
        directory.remove_all("a").unwrap();
        directory.remove_all("a").unwrap();
        assert!(!temp.path().join("a").exists());
    }
}
