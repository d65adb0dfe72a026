//! A copy in a directory: of another disk, or of a network file system that keeps its locks.
//!
//! `objects/ab/cdef…` and `head`; everything is written beside its place, synced, and renamed. The head is compared and
//! moved under a lock on `head.lock`.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rustix::fs::FlockOperation;

use super::{CloudCopy, HEAD_BYTES_MAX, OBJECT_BYTES_MAX, ObjectId, Stored, Swap, Version, away};
use crate::error::{Code, Error, Result};
use crate::model::digest::Digest;

pub(super) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T>> {
        let root = self.root.clone();
        Box::pin(async move {
            let worked = tokio::task::spawn_blocking(move || work(&root)).await;
            let worked = worked.map_err(|error| Error::new(Code::Bug, "a step of a copy panicked").detail(error))?;
            worked.map_err(|error| away("the directory of the copy cannot be used", error))
        })
    }
}

impl CloudCopy for Directory {
    fn put(&self, id: ObjectId, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        self.run(move |root| {
            let path = object(root, id);
            // An object that is whole becomes young again; one that is not is replaced.
            if read(&path, OBJECT_BYTES_MAX)?.is_some_and(|there| there == bytes) {
                let file = File::options().write(true).open(&path)?;
                return file.set_times(fs::FileTimes::new().set_modified(now()));
            }
            replace(&path, &bytes)
        })
    }

    fn get(&self, id: ObjectId) -> BoxFuture<'_, Result<Option<Bytes>>> {
        self.run(move |root| Ok(read(&object(root, id), OBJECT_BYTES_MAX + 4096)?.map(Bytes::from)))
    }

    fn head(&self) -> BoxFuture<'_, Result<Option<(Bytes, Version)>>> {
        self.run(|root| {
            let bytes = read(&root.join("head"), HEAD_BYTES_MAX)?;
            Ok(bytes.map(|bytes| (Bytes::from(bytes.clone()), version(&bytes))))
        })
    }

    fn swap(&self, expected: Option<Version>, head: Bytes) -> BoxFuture<'_, Result<Swap>> {
        self.run(move |root| {
            fs::create_dir_all(root)?;
            let lock = File::options().create(true).truncate(false).write(true).open(root.join("head.lock"))?;
            rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
            let path = root.join("head");
            if read(&path, HEAD_BYTES_MAX)?.as_deref().map(version) != expected {
                return Ok(Swap::Lost);
            }
            replace(&path, &head)?;
            Ok(Swap::Moved)
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Stored>>> {
        self.run(|root| {
            let mut found = Vec::new();
            for shelf in entries(&root.join("objects"))? {
                let shelf_name = shelf.file_name().to_string_lossy().into_owned();
                for entry in entries(&shelf.path())? {
                    let name = format!("{shelf_name}{}", entry.file_name().to_string_lossy());
                    // Something else that lies there is not ours to judge.
                    let Ok(id) = Digest::parse(&name) else { continue };
                    found.push(Stored { id, at: modified(&entry.metadata()?)? });
                }
            }
            Ok(found)
        })
    }

    fn remove(&self, id: ObjectId, before: Timestamp) -> BoxFuture<'_, Result<()>> {
        self.run(move |root| {
            let path = object(root, id);
            match fs::metadata(&path) {
                Ok(metadata) if modified(&metadata)? < before => fs::remove_file(&path),
                Ok(_) => Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            }
        })
    }
}

fn object(root: &Path, id: ObjectId) -> PathBuf {
    let name = id.to_string();
    root.join("objects").join(&name[..2]).join(&name[2..])
}

fn version(head: &[u8]) -> Version {
    Version(Digest::of(head).to_string())
}

fn now() -> std::time::SystemTime {
    crate::seam::Clock::System.now().into()
}

fn modified(metadata: &fs::Metadata) -> std::io::Result<Timestamp> {
    Timestamp::try_from(metadata.modified()?).map_err(std::io::Error::other)
}

fn entries(directory: &Path) -> std::io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read(path: &Path, bytes_max: usize) -> std::io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(std::io::Error::other("a file of the copy is larger than it may be"));
    }
    Ok(Some(bytes))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().ok_or_else(|| std::io::Error::other("no directory"))?;
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}
