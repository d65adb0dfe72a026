//! Locks: our own between processes, and those of git that a crash left behind.
//!
//! Git's lock files carry no owner. One is taken for left behind when it is old and no git process works near this
//! repository, when it is older than the machine's start, or when our own record says that a skillhook process held
//! it and died. Everything else is respected: whoever holds it will let go, and the commit waits.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use super::Repository;
use super::open::Place;
use crate::error::{Code, Context, Result};

/// A lock that is taken within this time of our record was taken by the process that wrote the record.
const SECTION_SECONDS_MAX: u64 = 60;
/// Processes that are looked at.
const PROCESSES_MAX: usize = 100_000;
/// Times that a process which cannot be looked into is looked at again.
const LOOKS: usize = 20;

/// The lock between skillhook processes that work on one work tree; let go when dropped.
pub(super) struct ProcessLock {
    _file: File,
    record: PathBuf,
}

impl Drop for ProcessLock {
    fn drop(&mut self) {
        // If this fails, the next holder finds no lock of ours and removes the record itself.
        let _ = std::fs::remove_file(&self.record);
    }
}

impl Repository {
    /// `None` while another process holds it.
    pub(super) fn lock_process(&self) -> Result<Option<ProcessLock>> {
        let own = self.shared.place.own_directory();
        let failed = "the lock of the repository cannot be taken";
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(own.join("lock"))
            .context(Code::GitFailed, failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error).context(Code::GitFailed, failed),
        }
        let record = own.join("holding");
        if let Some(since) = modified(&record) {
            self.clear_own_locks(since);
        }
        std::fs::write(&record, std::process::id().to_string()).context(Code::GitFailed, failed)?;
        Ok(Some(ProcessLock { _file: file, record }))
    }

    /// A skillhook process died between taking locks of git and letting go of them.
    fn clear_own_locks(&self, since: SystemTime) {
        for lock in self.git_locks() {
            let ours = modified(&lock).is_some_and(|at| {
                at + Duration::from_secs(1) >= since && at <= since + Duration::from_secs(SECTION_SECONDS_MAX)
            });
            if ours && !git_is_near(&self.shared.place) {
                self.remove_lock(&lock, "a crash of skillhook");
            }
        }
    }

    /// Removes the locks of git that a crash left behind. Answers those that remain, because somebody holds them.
    pub(super) fn clear_stale_locks(&self) -> Result<Vec<PathBuf>> {
        let mut live = Vec::new();
        for lock in self.git_locks() {
            let Some(taken) = modified(&lock) else { continue };
            let age = SystemTime::now().duration_since(taken).unwrap_or_default();
            let before_start = machine_start().is_some_and(|start| taken < start);
            let old = age > self.shared.options.lock_stale_after;
            if before_start || (old && !git_is_near(&self.shared.place)) {
                self.remove_lock(&lock, "a crash");
            } else {
                live.push(lock);
            }
        }
        Ok(live)
    }

    fn remove_lock(&self, lock: &Path, whose: &str) {
        let name = lock.strip_prefix(&self.shared.place.common_directory).unwrap_or(lock).display();
        match std::fs::remove_file(lock) {
            Ok(()) => self.note(format!("removed `{name}`, which {whose} had left behind")),
            Err(error) => tracing::warn!(%error, "`{name}` was left behind and cannot be removed"),
        }
    }

    /// The lock files that stand in the way of a commit.
    fn git_locks(&self) -> Vec<PathBuf> {
        let place = &self.shared.place;
        let mut locks = vec![
            place.git_directory.join("index.lock"),
            place.git_directory.join("HEAD.lock"),
            place.common_directory.join("packed-refs.lock"),
        ];
        locks.extend(
            self.shared.branch.iter().map(|branch| place.common_directory.join(format!("refs/heads/{branch}.lock"))),
        );
        locks
    }
}

/// Refs below `refs/skillhook` are written by us alone, one writer at a time.
pub(super) fn remove_own_ref_lock(place: &Place, name: &str) {
    // If it cannot be removed, the write that follows says so.
    let _ = std::fs::remove_file(place.common_directory.join(format!("{name}.lock")));
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.symlink_metadata().and_then(|found| found.modified()).ok()
}

/// When the machine started: no owner of an older lock can be alive.
fn machine_start() -> Option<SystemTime> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Whether some git program may be at work on this repository. Without `/proc` nothing can be ruled out.
fn git_is_near(place: &Place) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return true };
    let numbered = processes.take(PROCESSES_MAX).filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_name().to_str()?.bytes().all(|b| b.is_ascii_digit()).then(|| entry.path())
    });
    numbered.into_iter().any(|process| is_git(&process) && works_in(&process, place))
}

fn is_git(process: &Path) -> bool {
    std::fs::read_to_string(process.join("comm")).is_ok_and(|name| name.starts_with("git"))
}

/// Somebody else's process cannot be looked into, so it counts.
fn works_in(process: &Path, place: &Place) -> bool {
    // One that is just starting cannot be looked into for a moment either.
    let mut looks = (0..LOOKS).map(|_| {
        std::thread::yield_now();
        std::fs::read_link(process.join("cwd"))
    });
    let denied = |error: &std::io::Error| error.kind() == ErrorKind::PermissionDenied;
    let directory = match looks.find(|look| !look.as_ref().is_err_and(denied)) {
        Some(Ok(directory)) => directory,
        Some(Err(_)) => return false,
        None => return true,
    };
    if directory.starts_with(&place.work_tree) || directory.starts_with(&place.common_directory) {
        return true;
    }
    let arguments = std::fs::read(process.join("cmdline")).unwrap_or_default();
    let named = |path: &Path| {
        let path = path.as_os_str().as_encoded_bytes();
        arguments.windows(path.len()).any(|window| window == path)
    };
    named(&place.work_tree) || named(&place.common_directory)
}
