//! A branch whose newest commit was torn by a power cut is moved back to the newest whole one.
//!
//! Git's own programs do not fsync loose objects by default, so the tip may be a file of zero bytes. Only then, and
//! only if the tip cannot be read, this looks through the reflog and the remote-tracking branch for the newest
//! commit whose trees can be read. What the lost commit contained is still in the work tree, and the next automatic
//! commit picks up what is ours.

use std::path::Path;

use git2::{ErrorCode, Oid};

use super::objects::Store;
use super::tree;
use super::{Repository, commit_id};
use crate::error::{Code, Context, Error, Result};
use crate::model::revision::COMMITTED;

/// Entries of a reflog that are looked at.
const CANDIDATES_MAX: usize = 1_000;

/// The commit of a branch, known to be readable, and its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) commit: Oid,
    pub(super) tree: Oid,
    /// The branch was at a torn commit until just now: what the index holds of it was not staged by a person.
    pub(super) moved_back: bool,
}

impl Repository {
    /// The head of a branch; `None` before its first commit. Looks at the trees that every commit touches.
    pub(super) fn read_head(&self, repo: &git2::Repository, branch: &str) -> Result<Option<Head>> {
        self.read_head_by(repo, branch, &readable)
    }

    /// The same after an object could not be read: looks at every tree of ours.
    pub(super) fn read_head_thoroughly(&self, repo: &git2::Repository, branch: &str) -> Result<Option<Head>> {
        self.read_head_by(repo, branch, &wholly_readable)
    }

    fn read_head_by(&self, repo: &git2::Repository, branch: &str, readable: Readable<'_>) -> Result<Option<Head>> {
        let name = format!("refs/heads/{branch}");
        let broken = match repo.refname_to_id(&name) {
            Ok(id) => match readable(repo, id) {
                Some(head) => return Ok(Some(head)),
                None => Some(id),
            },
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            Err(_) => None,
        };
        self.move_back(repo, &name, broken).map(Some)
    }

    fn move_back(&self, repo: &git2::Repository, name: &str, broken: Option<Oid>) -> Result<Head> {
        let failed = format!("`{name}` is damaged");
        let removed = remove_empty_objects(repo).context(Code::GitFailed, failed.clone())?;
        let again = broken.and_then(|id| wholly_readable(repo, id));
        let Some(head) = again.or_else(|| self.newest_whole(repo, name)) else {
            return Err(Error::new(Code::GitFailed, format!("{failed} and no earlier commit can be read"))
                .hint("run `git fsck`, and fetch or clone the repository again"));
        };
        if again.is_none() {
            if broken.is_none() {
                remove_empty_file(&repo.commondir().join(name)).context(Code::GitFailed, failed.clone())?;
            }
            repo.reference(name, head.commit, true, "skillhook: newest whole commit")
                .context(Code::GitFailed, failed)?;
            for log in [name, "HEAD"] {
                forget_unreadable(repo, log);
            }
        }
        self.note(format!(
            "`{name}` was damaged ({removed} empty objects): it is at `{}` again",
            commit_id(head.commit)?.short()
        ));
        Ok(Head { moved_back: again.is_none(), ..head })
    }

    fn newest_whole(&self, repo: &git2::Repository, name: &str) -> Option<Head> {
        let logged = [name, "HEAD"].into_iter().filter_map(|log| repo.reflog(log).ok()).flat_map(|log| {
            let entries = log.iter().take(CANDIDATES_MAX);
            entries.flat_map(|entry| [entry.id_new(), entry.id_old()]).collect::<Vec<_>>()
        });
        let tracking = self.target(repo).ok().flatten().map(|target| target.tracking());
        let tracked = tracking.and_then(|name| repo.refname_to_id(&name).ok());
        logged.chain(tracked).find_map(|id| wholly_readable(repo, id))
    }
}

type Readable<'a> = &'a dyn Fn(&git2::Repository, Oid) -> Option<Head>;

/// The commit, its tree, and the trees down to the managed directories.
fn readable(repo: &git2::Repository, commit: Oid) -> Option<Head> {
    let head = Head { commit, tree: repo.find_commit(commit).ok()?.tree_id(), moved_back: false };
    let store = Store::new(repo).ok()?;
    for directory in COMMITTED {
        if let Some(leaf) = tree::find(&store, head.tree, directory).ok()?.filter(|leaf| leaf.is_directory()) {
            tree::entries(&store, leaf.id).ok()?;
        }
    }
    Some(head)
}

/// The same with every tree below `.claude`.
fn wholly_readable(repo: &git2::Repository, commit: Oid) -> Option<Head> {
    let head = readable(repo, commit)?;
    let store = Store::new(repo).ok()?;
    let claude = tree::find(&store, head.tree, ".claude").ok()?;
    if let Some(claude) = claude.filter(|leaf| leaf.is_directory()) {
        tree::flatten(&store, claude.id).ok()?;
    }
    Some(head)
}

/// Loose objects of zero bytes are never valid.
fn remove_empty_objects(repo: &git2::Repository) -> std::io::Result<usize> {
    let objects = repo.commondir().join("objects");
    let mut removed = 0;
    for number in 0..=255u8 {
        let Ok(entries) = std::fs::read_dir(objects.join(format!("{number:02x}"))) else { continue };
        for entry in entries {
            removed += usize::from(remove_empty_file(&entry?.path())?);
        }
    }
    Ok(removed)
}

fn remove_empty_file(path: &Path) -> std::io::Result<bool> {
    let empty = path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == 0);
    if empty {
        std::fs::remove_file(path)?;
    }
    Ok(empty)
}

/// A reflog that names a lost commit would make every `git fsck` complain and every `git gc` fail.
fn forget_unreadable(repo: &git2::Repository, name: &str) {
    let Ok(mut log) = repo.reflog(name) else { return };
    let lost = |id: Oid| !id.is_zero() && wholly_readable(repo, id).is_none();
    for place in (0..log.len().min(CANDIDATES_MAX)).rev() {
        if log.get(place).is_some_and(|entry| lost(entry.id_new())) {
            // The reflog is a convenience; the branch is right whether or not this works.
            let _ = log.remove(place, true);
        }
    }
    let _ = log.write();
}
