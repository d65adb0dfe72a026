//! Branches that ask for review. They only ever grow: an update is a commit upon the last one, so that reviewers see
//! what became of their remarks, and nothing has to be forced.

use std::time::Duration;

use git2::Oid;

use super::keep::{pushed_name, refs_below};
use super::objects::Store;
use super::tree;
use super::{PathChange, PushOutcome, Repository, Verb, commit_id, keep};
use crate::error::{Code, Context, Error, Result};
use crate::model::revision::CommitId;

/// Names of branches of proposals begin with it.
pub const PROPOSALS: &str = "skillhook/proposal/";

/// A branch that waits for review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub branch: String,
    pub commit: CommitId,
    /// Where it left what it is to be merged into; `None` when they have nothing in common.
    pub base: Option<CommitId>,
    /// The message of its newest commit.
    pub message: String,
    /// What it changes compared with the remote's branch, in order.
    pub changes: Vec<PathChange>,
}

impl Repository {
    /// A branch that proposes what our own branch has and the remote's has not. SH0511 when that is nothing, or when
    /// it was declined.
    pub fn propose_own(&self) -> Result<Proposal> {
        let _writer = self.writer();
        let repo = self.handle()?;
        let failed = "the branch of the proposal cannot be written";
        let head = repo.head().ok().and_then(|head| head.target());
        let head = head.ok_or_else(|| Error::new(Code::NothingToPropose, "there is no commit yet"))?;
        if repo.refname_to_id(&declined_name(head)).is_ok() {
            return Err(Error::new(Code::NothingToPropose, "this was proposed before and closed"));
        }
        let begin = format!("refs/heads/{PROPOSALS}{}-", keep::host());
        let standing = refs_below(&repo, &begin)?.into_iter().next().map(|(name, _)| name);
        let full = standing.unwrap_or_else(|| format!("{begin}{}", keep::short(head)));
        let branch = full.trim_start_matches("refs/heads/").to_owned();
        let commit = match repo.refname_to_id(&full).ok().filter(|tip| repo.find_commit(*tip).is_ok()) {
            Some(tip) if tip != head && !repo.graph_descendant_of(head, tip).unwrap_or(false) => {
                self.join(&repo, head, tip).context(Code::GitFailed, failed)?
            }
            Some(_) | None => head,
        };
        self.set_own_ref(&repo, &full, commit)?;
        let proposal = self.proposal(&repo, branch, commit)?;
        if proposal.changes.is_empty() {
            return Err(Error::new(Code::NothingToPropose, "the remote's files are like that already"));
        }
        Ok(proposal)
    }

    /// The branches that wait for review, by name.
    pub fn proposals(&self) -> Result<Vec<Proposal>> {
        let repo = self.handle()?;
        let branches = refs_below(&repo, &format!("refs/heads/{PROPOSALS}"))?;
        let proposal = |(name, commit): (String, Oid)| {
            self.proposal(&repo, name.trim_start_matches("refs/heads/").to_owned(), commit)
        };
        branches.into_iter().map(proposal).collect()
    }

    /// Pushes the branch of a proposal, once for each of its commits.
    pub fn publish_proposal(&self, branch: &str, deadline: Duration) -> Result<PushOutcome> {
        let repo = self.handle()?;
        let Some(target) = self.target(&repo)? else { return Ok(PushOutcome::NoRemote) };
        let name = format!("refs/heads/{branch}");
        let commit = repo.refname_to_id(&name).context(Code::NotFound, format!("there is no branch `{branch}`"))?;
        if repo.refname_to_id(&pushed_name(branch)).ok() == Some(commit) {
            return Ok(PushOutcome::UpToDate);
        }
        let outcome = self.push_to(&target.remote, commit, branch, None, deadline)?;
        if matches!(outcome, PushOutcome::Pushed { .. } | PushOutcome::UpToDate) {
            self.set_own_ref(&repo, &pushed_name(branch), commit)?;
        }
        Ok(outcome)
    }

    /// As [`Repository::forget_proposal`], and remembers that it is not to be proposed again as it is.
    pub fn decline_proposal(&self, branch: &str) -> Result<()> {
        let repo = self.handle()?;
        if let Ok(commit) = repo.refname_to_id(&format!("refs/heads/{branch}")) {
            self.set_own_ref(&repo, &declined_name(commit), commit)?;
        }
        self.forget_proposal(branch)
    }

    /// Forgets the branch of a proposal here, once it is decided about; on the remote it stays.
    pub fn forget_proposal(&self, branch: &str) -> Result<()> {
        let repo = self.handle()?;
        for name in [format!("refs/heads/{branch}"), pushed_name(branch)] {
            if let Ok(mut reference) = repo.find_reference(&name) {
                reference.delete().context(Code::GitFailed, format!("`{name}` cannot be deleted"))?;
            }
        }
        Ok(())
    }

    fn proposal(&self, repo: &git2::Repository, branch: String, commit: Oid) -> Result<Proposal> {
        let failed = "the branch of a proposal cannot be read";
        let found = repo.find_commit(commit).context(Code::GitFailed, failed)?;
        let reviewed = self.target(repo)?.and_then(|target| repo.refname_to_id(&target.tracking()).ok());
        let base = reviewed.and_then(|base| repo.merge_base(base, commit).ok());
        let base = base.and_then(|base| repo.find_commit(base).ok());
        let before = base.as_ref().map(git2::Commit::tree_id);
        let differences = tree::differences(&Store::new(repo)?, before, Some(found.tree_id()))?;
        let change = |each: tree::Difference| {
            let path = self.root_relative(String::from_utf8(each.path).ok()?);
            Some(PathChange { path, verb: verb(each.old.is_some(), each.new.is_some()) })
        };
        let message = String::from_utf8_lossy(found.message_bytes()).into_owned();
        let changes = differences.into_iter().filter_map(change).collect();
        let base = base.map(|base| commit_id(base.id())).transpose()?;
        Ok(Proposal { branch, commit: commit_id(commit)?, base, message, changes })
    }

    /// A commit with the files of `head` upon both, so that the branch at `tip` need not be forced.
    fn join(&self, repo: &git2::Repository, head: Oid, tip: Oid) -> std::result::Result<Oid, git2::Error> {
        let (head, tip) = (repo.find_commit(head)?, repo.find_commit(tip)?);
        let committer = self.committer(repo);
        let who = git2::Signature::now(&committer.name, &committer.email)?;
        let message = "update the proposal\n\nSkillhook-Origin: pull\n";
        repo.commit(None, &who, &who, message, &head.tree()?, &[&tip, &head])
    }
}

fn declined_name(commit: Oid) -> String {
    format!("refs/skillhook/declined/{commit}")
}

/// What happened to a path, by whether it was and is there.
pub(super) fn verb(was: bool, is: bool) -> Verb {
    match (was, is) {
        (false, _) => Verb::Create,
        (true, true) => Verb::Update,
        (true, false) => Verb::Delete,
    }
}
