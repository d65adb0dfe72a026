//! Old workspaces go, by age and then by size, least recently used first. One that is in use never goes.

use std::io;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::FileType;

use super::{USED, Workspaces, is_name};
use crate::error::{Code, Context, Result};
use crate::repo::Directory;

/// Deeper directories are not counted.
const DEPTH_MAX: usize = 128;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub removed: usize,
    pub kept: usize,
    /// Bytes on disk of those that are kept.
    pub kept_bytes: u64,
}

struct Old {
    name: String,
    used: Timestamp,
    bytes: u64,
}

impl Workspaces {
    /// Removes workspaces that were not used for `max_age`, then the longest unused until the rest takes at most
    /// `max_bytes`.
    pub fn sweep(&self, now: Timestamp, max_age: SignedDuration, max_bytes: u64) -> Result<Swept> {
        let root = self.root().context(Code::WorkspaceFailed, "the workspaces cannot be opened")?;
        let mut idle = self.idle(&root, now)?;
        idle.sort_by_key(|each| each.used);
        let mut swept = Swept { removed: 0, kept: idle.len(), kept_bytes: idle.iter().map(|each| each.bytes).sum() };
        for each in idle {
            let expired = now.duration_since(each.used) > max_age;
            if !expired && swept.kept_bytes <= max_bytes {
                break;
            }
            // A run may have begun since the list was made.
            let Ok(_claim) = self.claim(&each.name) else { continue };
            root.remove_all(&each.name).context(Code::WorkspaceFailed, "an old workspace cannot be removed")?;
            swept.removed += 1;
            swept.kept -= 1;
            swept.kept_bytes -= each.bytes;
        }
        Ok(swept)
    }

    fn idle(&self, root: &Directory, now: Timestamp) -> Result<Vec<Old>> {
        let mut idle = Vec::new();
        for (name, kind) in root.list().context(Code::WorkspaceFailed, "the workspaces cannot be listed")? {
            let Some(name) = name.to_str().filter(|name| is_name(name) && kind == FileType::Directory) else {
                continue;
            };
            if self.shared.in_use().contains(name) {
                continue;
            }
            let Ok(place) = root.enter(name) else { continue };
            // Without a readable record it counts as never used; a time in the future is a clock that was set back.
            let used = used_at(&place).unwrap_or(Timestamp::UNIX_EPOCH).min(now);
            idle.push(Old { name: name.to_owned(), used, bytes: size(&place, 0).unwrap_or(0) });
        }
        Ok(idle)
    }
}

fn used_at(place: &Directory) -> Option<Timestamp> {
    let bytes = place.read(USED, 32).ok()?;
    Timestamp::from_second(std::str::from_utf8(&bytes).ok()?.parse().ok()?).ok()
}

fn size(directory: &Directory, depth: usize) -> io::Result<u64> {
    let mut bytes = 0;
    for (name, kind) in directory.list()? {
        let Some(text) = name.to_str() else { continue };
        if kind == FileType::Directory && depth < DEPTH_MAX {
            bytes += directory.enter(text).and_then(|inner| size(&inner, depth + 1)).unwrap_or(0);
        }
        bytes += directory.look(text)?.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0) * 512);
    }
    Ok(bytes)
}
