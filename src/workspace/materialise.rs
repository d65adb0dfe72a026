//! Makes the files of a workspace equal to a revision, and removes what earlier runs left to steer later ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;

use rustix::fs::FileType;

use super::{CONFIG, WORK, Workspaces};
use crate::error::{Code, Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::revision::{PATH_DEPTH_MAX, check_path, is_materialised};
use crate::repo::{Directory, ServedFile};

const CLAUDE: &str = ".claude";
const NEXT: &str = "next";
const OLD: &str = "old";
/// Names that steer an agent program from the working directory or below it, lower case.
const STEERING: [&str; 7] =
    [".claude", ".claude.json", ".mcp.json", "claude.md", "claude.local.md", "agents.md", ".git"];
/// The same in the program's own directory.
const STEERING_CONFIG: [&str; 13] = [
    "settings.json",
    "settings.local.json",
    "managed-settings.json",
    ".claude.json",
    ".mcp.json",
    "claude.md",
    "skills",
    "agents",
    "commands",
    "plugins",
    "hooks",
    "rules",
    "shell-snapshots",
];
/// Deeper directories of earlier runs are removed.
const DEPTH_MAX: usize = 32;

impl Workspaces {
    /// Leaves `.claude` as it is if it is exactly right already, else replaces it.
    pub(super) fn materialise(&self, place: &Directory, revision: &Digest) -> Result<()> {
        if self.is_exact(place, revision)? {
            return Ok(());
        }
        let failed = "the workspace cannot be written";
        place.remove_all(NEXT).context(Code::WorkspaceFailed, failed)?;
        let next = place.enter_or_create(NEXT, 0o700).context(Code::WorkspaceFailed, failed)?;
        let mut budget = Budget { files: self.shared.limits.files_max, bytes: self.shared.limits.bytes_max };
        self.shared.repo.visit_served(revision, &mut |file| match below_claude(&file) {
            Some(path) => {
                budget.take(&file)?;
                write(&next, path, &file).context(Code::WorkspaceFailed, failed)
            }
            None => Ok(()),
        })?;
        // Only now is it known that the tree is whole.
        make_read_only(&next, 0).and_then(|()| swap(place)).context(Code::WorkspaceFailed, failed)
    }

    /// Whether `.claude` holds these files, all of them, nothing else, and nobody can write them.
    fn is_exact(&self, place: &Directory, revision: &Digest) -> Result<bool> {
        let Ok(claude) = place.enter(WORK).and_then(|work| work.enter(CLAUDE)) else { return Ok(false) };
        let mut found = Found::default();
        if list(&claude, "", 0, &mut found).is_err() {
            return Ok(false);
        }
        let mut exact = mode_of(&claude).is_ok_and(|mode| mode == 0o555);
        let mut directories = BTreeSet::new();
        self.shared.repo.visit_served(revision, &mut |file| {
            let Some(path) = below_claude(&file) else { return Ok(()) };
            let same = found.files.remove(path) == Some(permissions(&file))
                && claude.read(path, file.bytes.len() as u64).is_ok_and(|bytes| bytes == file.bytes);
            exact &= same;
            directories.extend(path.match_indices('/').map(|(end, _)| path[..end].to_owned()));
            Ok(())
        })?;
        Ok(exact && found.files.is_empty() && found.directories == directories)
    }
}

/// The path below `.claude` of a file that agents get to see.
fn below_claude(file: &ServedFile) -> Option<&str> {
    let seen = is_materialised(&file.path) && check_path(&file.path).is_ok();
    file.path.strip_prefix(".claude/").filter(|_| seen)
}

struct Budget {
    files: usize,
    bytes: u64,
}

impl Budget {
    fn take(&mut self, file: &ServedFile) -> Result<()> {
        let left = (self.files.checked_sub(1), self.bytes.checked_sub(file.bytes.len() as u64));
        let (Some(files), Some(bytes)) = left else {
            return Err(Error::new(Code::WorkspaceFailed, "the skills and agents exceed the limits of a workspace")
                .hint("remove large files from `.claude/skills`, or raise the limits"));
        };
        *self = Self { files, bytes };
        Ok(())
    }
}

fn permissions(file: &ServedFile) -> u32 {
    if file.executable { 0o555 } else { 0o444 }
}

fn write(next: &Directory, path: &str, file: &ServedFile) -> io::Result<()> {
    let (parent, name) = next.parent(path, Some(0o700))?;
    let written = parent.create_file(name, &file.bytes, 0o600)?;
    Ok(rustix::fs::fchmod(&written, rustix::fs::Mode::from_raw_mode(permissions(file)))?)
}

/// All directories below; the top one follows when it is in place, for a directory without the right to write
/// cannot be moved.
fn make_read_only(directory: &Directory, depth: usize) -> io::Result<()> {
    if depth > PATH_DEPTH_MAX {
        return Err(io::Error::other("the directory is nested too deeply"));
    }
    for (name, kind) in directory.list()? {
        if kind == FileType::Directory {
            make_read_only(&directory.enter(&name)?, depth + 1)?;
            directory.set_mode(&name, 0o555)?;
        }
    }
    Ok(())
}

fn swap(place: &Directory) -> io::Result<()> {
    let work = place.enter(WORK)?;
    place.remove_all(OLD)?;
    match work.enter(CLAUDE) {
        Ok(_) => {
            work.set_mode(CLAUDE, 0o700)?;
            work.rename(CLAUDE, place, OLD)?;
        }
        Err(_) => work.remove_all(CLAUDE)?,
    }
    place.rename(NEXT, &work, CLAUDE)?;
    work.set_mode(CLAUDE, 0o555)?;
    place.remove_all(OLD)
}

#[derive(Default)]
struct Found {
    files: BTreeMap<String, u32>,
    directories: BTreeSet<String>,
}

/// An error means that something is there that never should be.
fn list(directory: &Directory, prefix: &str, depth: usize, found: &mut Found) -> io::Result<()> {
    let odd = |what: &str| io::Error::other(what.to_owned());
    if depth > PATH_DEPTH_MAX {
        return Err(odd("nested too deeply"));
    }
    for (name, kind) in directory.list()? {
        let name = name.to_str().ok_or_else(|| odd("a name is not valid UTF-8"))?;
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
        match kind {
            FileType::Directory => {
                let inner = directory.enter(name)?;
                if mode_of(&inner)? != 0o555 {
                    return Err(odd("a directory can be written"));
                }
                list(&inner, &path, depth + 1, found)?;
                found.directories.insert(path);
            }
            FileType::RegularFile => {
                let stat = directory.look(name)?.ok_or_else(|| odd("a file vanished"))?;
                found.files.insert(path, stat.st_mode & 0o7777);
            }
            _ => return Err(odd("neither file nor directory")),
        }
    }
    Ok(())
}

fn mode_of(directory: &Directory) -> io::Result<u32> {
    Ok(rustix::fs::fstat(directory)?.st_mode & 0o7777)
}

/// Removes what an earlier run may have left to steer this one.
pub(super) fn remove_planted(place: &Directory) -> io::Result<()> {
    let config = place.enter(CONFIG)?;
    for (name, _) in config.list()? {
        if is_one_of(&name, &STEERING_CONFIG) {
            config.remove_all(&name)?;
        }
    }
    let work = place.enter(WORK)?;
    for (name, kind) in work.list()? {
        if name == CLAUDE {
            continue;
        }
        remove_steering(&work, &name, kind, 0)?;
    }
    Ok(())
}

fn remove_steering(parent: &Directory, name: &OsStr, kind: FileType, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX || is_one_of(name, &STEERING) {
        return parent.remove_all(name);
    }
    if kind != FileType::Directory {
        return Ok(());
    }
    // A directory that cannot be looked into can hide anything.
    let Ok((inner, entries)) = parent.enter(name).and_then(|inner| inner.list().map(|list| (inner, list))) else {
        return parent.remove_all(name);
    };
    for (entry, kind) in entries {
        remove_steering(&inner, &entry, kind, depth + 1)?;
    }
    Ok(())
}

/// Whether a path of a repository that is not ours would steer an agent program.
pub(super) fn steers(path: &str) -> bool {
    path.split('/').any(|name| is_one_of(OsStr::new(name), &STEERING))
}

fn is_one_of(name: &OsStr, names: &[&str]) -> bool {
    // Some file systems do not tell upper from lower case.
    name.to_str().is_some_and(|name| names.contains(&name.to_lowercase().as_str()))
}
