//! Reads and writes the files of a change beneath the root, without following links, each whole or not at all.

use std::io::{self, ErrorKind};

use rustix::fs::FileType;

use crate::error::{Code, Context as _, Error, Result};
use crate::model::change::{Edit, Expect, FILE_BYTES_MAX};
use crate::model::digest::Digest;
use crate::repo::Directory;

/// What stands at a path.
///
/// # Errors
/// SH0114 where something else than a plain file stands, or a link on the way there; SH0508 when it cannot be read.
pub(super) fn read(root: &Directory, path: &str) -> Result<Option<Vec<u8>>> {
    let unreadable = format!("`{path}` cannot be read");
    if leads_through_a_link(root, path).context(Code::TreeUnreadable, &unreadable)? {
        return Err(unsafe_path(path));
    }
    let Some(stat) = root.look(path).context(Code::TreeUnreadable, &unreadable)? else { return Ok(None) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unsafe_path(path));
    }
    match root.read(path, FILE_BYTES_MAX as u64) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::new(Code::TreeUnreadable, unreadable).detail(error)),
    }
}

fn unsafe_path(path: &str) -> Error {
    Error::new(Code::UnsafePath, format!("`{path}` is not a plain file, or a link leads there"))
        .hint("replace what stands there by a plain file or directory")
}

/// Links are never followed: one on the way is somebody's, and nothing is written through it.
fn leads_through_a_link(root: &Directory, path: &str) -> io::Result<bool> {
    for (at, _) in path.match_indices('/') {
        let Some(stat) = root.look(&path[..at])? else { return Ok(false) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether every file is as its edit expects; answers what stands there now.
///
/// # Errors
/// SH0903 names the first file that is another one by now.
pub(super) fn expected(root: &Directory, edits: &[Edit]) -> Result<Vec<Option<Vec<u8>>>> {
    let mut standing = Vec::with_capacity(edits.len());
    for edit in edits {
        let now = read(root, &edit.path)?;
        let digest = now.as_deref().map(Digest::of);
        let fits = match edit.expect {
            Expect::Any => true,
            Expect::Absent => digest.is_none(),
            Expect::Is(expected) => digest == Some(expected),
        };
        if !fits {
            return Err(conflict(edit, digest));
        }
        standing.push(now);
    }
    Ok(standing)
}

fn conflict(edit: &Edit, now: Option<Digest>) -> Error {
    let path = &edit.path;
    let (message, hint) = match (edit.expect, now) {
        (Expect::Absent, Some(digest)) => (
            format!("`{path}` exists already"),
            format!("to replace it, read it and send its digest `{digest}` as the version that you have seen"),
        ),
        (_, Some(digest)) => (
            format!("`{path}` has changed since you read it"),
            format!("read it again (its digest is `{digest}` now) and apply your change to that"),
        ),
        (_, None) => (format!("`{path}` is gone since you read it"), "read the present state first".to_owned()),
    };
    Error::new(Code::Conflict, message).hint(hint)
}

/// Writes all files; when one cannot be written, those before it get back what `standing` says.
///
/// # Errors
/// SH0508 names the file.
pub(super) fn write(root: &Directory, edits: &[Edit], standing: &[Option<Vec<u8>>]) -> Result<()> {
    for (done, edit) in edits.iter().enumerate() {
        let Err(error) = apply(root, edit) else { continue };
        for (edit, before) in edits.iter().zip(standing).take(done) {
            let back = Edit { content: before.as_deref().map(Into::into), ..edit.clone() };
            if let Err(error) = apply(root, &back) {
                tracing::error!(path = edit.path, %error, "a file of a broken-off change could not be put back");
            }
        }
        return Err(Error::new(Code::TreeUnreadable, format!("`{}` cannot be written", edit.path)).detail(error));
    }
    Ok(())
}

fn apply(root: &Directory, edit: &Edit) -> io::Result<()> {
    let Some(content) = &edit.content else { return delete(root, &edit.path) };
    let (parent, name) = root.parent(&edit.path, Some(0o777))?;
    // The looker passes over names that end so.
    let temporary = format!(".skillhook-{}.tmp", crate::seam::fresh_id().simple());
    let mode = if edit.executable { 0o777 } else { 0o666 };
    let written = parent.create_file(&temporary, content, mode).and_then(|file| file.sync_all());
    let placed = written.and_then(|()| parent.rename(&temporary, &parent, name));
    if placed.is_err() {
        let _ = parent.remove_file(&temporary);
    }
    placed?;
    parent.sync()
}

/// Deletes a file and the directories that it leaves empty, up to the managed ones.
fn delete(root: &Directory, path: &str) -> io::Result<()> {
    let (parent, name) = root.parent(path, None)?;
    match parent.remove_file(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    parent.sync()?;
    let mut inner = path;
    while let Some((above, _)) = inner.rsplit_once('/')
        && above.matches('/').count() >= 2
    {
        let (parent, name) = root.parent(above, None)?;
        if !parent.remove_if_empty(name)? {
            break;
        }
        inner = above;
    }
    Ok(())
}
