//! Where the repository stands: head, branch, distance to the remote, the last push, what was repaired.

use std::sync::PoisonError;

use git2::ErrorCode;
use jiff::Timestamp;
use serde::Serialize;

use super::{ConflictBranch, Repository, commit_id};
use crate::error::{Code, Context, Error, Result};
use crate::model::revision::CommitId;

/// A picture of the repository.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub head: Option<CommitId>,
    /// What is checked out; `None` if HEAD is detached.
    pub branch: Option<String>,
    /// The remote-tracking branch, as of the last fetch or push.
    pub upstream: Option<Upstream>,
    pub last_push: Option<LastPush>,
    /// Branches that hold our side of conflicts, until a person deletes them.
    pub conflicts: Vec<ConflictBranch>,
    /// Left-behind locks, damaged objects and the like that were dealt with, oldest first.
    pub notes: Vec<String>,
}

/// The branch on the remote, as known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream {
    pub remote: String,
    pub branch: String,
    pub commit: Option<CommitId>,
    /// Commits that we have and the remote has not.
    pub ahead: usize,
    /// Commits that the remote has and we have not.
    pub behind: usize,
}

/// The newest attempt to push since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastPush {
    pub at: Timestamp,
    /// What is on the remote because of it.
    pub commit: Option<CommitId>,
    /// Why it did not work, if so.
    pub trouble: Option<String>,
}

impl Repository {
    /// The commit that is checked out; `None` before the first.
    pub fn head(&self) -> Result<Option<CommitId>> {
        let repo = self.handle()?;
        match repo.head() {
            Ok(head) => head.target().map(commit_id).transpose(),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => Ok(None),
            Err(error) => Err(Error::new(Code::GitFailed, "HEAD cannot be read").detail(error)),
        }
    }

    /// The branch that is checked out; `None` if HEAD is detached.
    pub fn branch(&self) -> Result<Option<String>> {
        checked_out(&self.handle()?)
    }

    pub fn status(&self) -> Result<Status> {
        let repo = self.handle()?;
        let notes = self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let last_push = self.shared.last_push.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (head, branch) = (self.head()?, checked_out(&repo)?);
        let (upstream, conflicts) = (self.upstream(&repo)?, self.conflict_branches()?);
        Ok(Status { head, branch, upstream, last_push, conflicts, notes })
    }

    fn upstream(&self, repo: &git2::Repository) -> Result<Option<Upstream>> {
        let Some(target) = self.target(repo)? else { return Ok(None) };
        let theirs = repo.refname_to_id(&target.tracking()).ok();
        let ours = repo.refname_to_id(&target.local()).ok();
        let (ahead, behind) = match (ours, theirs) {
            (Some(ours), Some(theirs)) => repo
                .graph_ahead_behind(ours, theirs)
                .context(Code::GitFailed, "the distance to the remote cannot be counted")?,
            (Some(ours), None) => (count(repo, ours), 0),
            (None, Some(theirs)) => (0, count(repo, theirs)),
            (None, None) => (0, 0),
        };
        let commit = theirs.map(commit_id).transpose()?;
        Ok(Some(Upstream { remote: target.remote, branch: target.branch, commit, ahead, behind }))
    }
}

fn count(repo: &git2::Repository, from: git2::Oid) -> usize {
    let walk = repo.revwalk().and_then(|mut walk| walk.push(from).map(|()| walk.count()));
    walk.unwrap_or_default()
}

/// The branch that HEAD names, whether or not it has a commit yet.
pub(super) fn checked_out(repo: &git2::Repository) -> Result<Option<String>> {
    let head = repo.find_reference("HEAD").context(Code::GitFailed, "HEAD cannot be read")?;
    let target = head.symbolic_target().context(Code::GitFailed, "HEAD names a branch that is not valid UTF-8")?;
    Ok(target.and_then(|name| name.strip_prefix("refs/heads/")).map(str::to_owned))
}
