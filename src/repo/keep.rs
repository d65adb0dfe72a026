//! Refs that keep what a pull would otherwise lose, and the one that remembers what the remote has had.
//!
//! - `refs/skillhook/remote/BRANCH`: the newest commit that is known to have been on the remote's branch and to be
//!   part of ours. A remote whose branch no longer contains it was rewritten.
//! - `refs/skillhook/saved/…`: our head before a rewritten remote was followed.
//! - `refs/heads/skillhook/conflict/HOST-TIME-COMMIT`: our head before a change of ours gave way to the remote's. These
//!   are branches, pushed so that everybody sees them; `refs/skillhook/pushed/…` remembers which are.

use git2::Oid;
use serde::Serialize;

use super::remote::Target;
use super::{Repository, commit_id};
use crate::error::{Code, Context, Result};
use crate::model::revision::CommitId;

/// Branches of ours begin with it.
pub(super) const CONFLICT: &str = "skillhook/conflict/";
const SAVED: &str = "refs/skillhook/saved/";
const PUSHED: &str = "refs/skillhook/pushed/";
/// Longest part of a host's name in the name of a branch, in characters.
const HOST_CHARS_MAX: usize = 40;

/// A branch that holds our side of a conflict, until a person deletes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConflictBranch {
    pub branch: String,
    pub commit: CommitId,
    /// Whether the remote has had it.
    pub pushed: bool,
}

impl Repository {
    /// What the remote's branch is known to have contained.
    pub(super) fn known_remote(&self, repo: &git2::Repository, target: &Target) -> Option<Oid> {
        repo.refname_to_id(&known_name(target)).ok().filter(|id| repo.find_commit(*id).is_ok())
    }

    pub(super) fn remember_remote(&self, repo: &git2::Repository, target: &Target, commit: Oid) -> Result<()> {
        let name = known_name(target);
        if repo.refname_to_id(&name).ok() == Some(commit) {
            return Ok(());
        }
        self.set_own_ref(repo, &name, commit)
    }

    /// The ref under which `head` is saved before a rewritten remote is followed.
    pub(super) fn saved_name(&self, head: Oid) -> String {
        format!("{SAVED}{}-{}", self.stamp(), short(head))
    }

    /// The branch that keeps `head`, our side of a conflict.
    pub(super) fn conflict_branch(&self, head: Oid) -> String {
        format!("{CONFLICT}{}-{}-{}", host(), self.stamp(), short(head))
    }

    fn stamp(&self) -> String {
        self.clock().now().strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// Sets a ref that nobody but us writes: a lock on it was left behind by a crash.
    pub(super) fn set_own_ref(&self, repo: &git2::Repository, name: &str, commit: Oid) -> Result<()> {
        let set = || repo.reference(name, commit, true, "skillhook").map(|_| ());
        let result = match set() {
            Err(error) if error.code() == git2::ErrorCode::Locked => {
                super::locks::remove_own_ref_lock(&self.shared.place, name);
                set()
            }
            other => other,
        };
        result.context(Code::GitFailed, format!("the ref `{name}` cannot be written"))
    }

    /// The branches that hold our side of conflicts, oldest first.
    pub fn conflict_branches(&self) -> Result<Vec<ConflictBranch>> {
        let repo = self.handle()?;
        let mut found = Vec::new();
        for (name, commit) in refs_below(&repo, &format!("refs/heads/{CONFLICT}"))? {
            let branch = name.trim_start_matches("refs/heads/").to_owned();
            let pushed = repo.refname_to_id(&pushed_name(&branch)).ok() == Some(commit);
            found.push(ConflictBranch { branch, commit: commit_id(commit)?, pushed });
        }
        Ok(found)
    }

    /// Heads that were saved before a rewritten remote was followed, oldest first.
    pub fn saved_heads(&self) -> Result<Vec<(String, CommitId)>> {
        let repo = self.handle()?;
        refs_below(&repo, SAVED)?.into_iter().map(|(name, commit)| Ok((name, commit_id(commit)?))).collect()
    }
}

/// The marker that a branch of ours was pushed as it is.
pub(super) fn pushed_name(branch: &str) -> String {
    format!("{PUSHED}{branch}")
}

fn known_name(target: &Target) -> String {
    format!("refs/skillhook/remote/{}/{}", target.remote, target.branch)
}

pub(super) fn refs_below(repo: &git2::Repository, prefix: &str) -> Result<Vec<(String, Oid)>> {
    let failed = "the refs cannot be read";
    let references = repo.references_glob(&format!("{prefix}*")).context(Code::GitFailed, failed)?;
    let mut found: Vec<(String, Oid)> = references
        .filter_map(|reference| {
            let reference = reference.ok()?;
            Some((reference.name().ok()?.to_owned(), reference.target()?))
        })
        .collect();
    found.sort();
    Ok(found)
}

pub(super) fn short(commit: Oid) -> String {
    commit.to_string().chars().take(7).collect()
}

/// The name of this machine as far as it can stand in the name of a branch.
pub(super) fn host() -> String {
    let told =
        ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|path| std::fs::read_to_string(path).ok());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = told.unwrap_or_default().trim().chars().take(HOST_CHARS_MAX).map(plain).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "host".to_owned() } else { name.to_owned() }
}
