//! Where a pull goes: forward, to our commits replayed upon the remote's, to a merge, or nowhere.
//!
//! Everything is decided and written as objects before any file, ref or index changes. The remote's history is only
//! ever built upon. Automatic commits of ours are replayed; commits of people are never rewritten but merged, and
//! where that is not possible they are left alone. A remote that was rewritten is followed, and our old head kept.

use std::collections::BTreeSet;

use git2::{Commit, Oid, Sort};

use super::merging;
use super::objects::Store;
use super::pull::{Conflict, Move, PullOutcome};
use super::repair::Head;
use super::{HeldReason, Repository};
use crate::error::{Code, Context, Result};

/// Most commits that are replayed; with more somebody should look.
const REPLAYED_MAX: usize = 10_000;
/// What marks the message of an automatic commit.
const OURS: &str = "\nSkillhook-Origin: ";

/// What a pull is to do.
pub(super) enum Course {
    Stay(PullOutcome),
    Go(Way),
}

/// A commit to go to, written and whole.
pub(super) struct Way {
    pub(super) to: Head,
    pub(super) how: Move,
    /// Refs to set first, so that nothing is lost on the way.
    pub(super) keep: Vec<(String, Oid)>,
    pub(super) conflict: Option<Conflict>,
}

/// Our commits that the remote's branch has not.
struct Local {
    /// Never on the remote, oldest first.
    own: Vec<Oid>,
    /// How many the remote had and has no more.
    dropped: usize,
}

impl Repository {
    /// The way from `head` to a branch that contains `theirs`. `known` is what the remote had before.
    pub(super) fn course(
        &self,
        repo: &git2::Repository,
        head: Option<Head>,
        theirs: Oid,
        known: Option<Oid>,
    ) -> Result<Course> {
        let failed = "the fetched commit cannot be read";
        let tree = repo.find_commit(theirs).context(Code::GitFailed, failed)?.tree_id();
        let to = Head { commit: theirs, tree, moved_back: false };
        let way = |how| Course::Go(Way { to, how, keep: Vec::new(), conflict: None });
        let Some(head) = head else { return Ok(way(Move::FastForward)) };
        if head.commit == theirs {
            return Ok(Course::Stay(PullOutcome::UpToDate));
        }
        let (_, behind) = repo
            .graph_ahead_behind(head.commit, theirs)
            .context(Code::GitFailed, "the histories cannot be compared")?;
        let local = local(repo, head.commit, theirs, known)?;
        match (local.own.len(), local.dropped, behind) {
            (_, 0, 0) => Ok(Course::Stay(PullOutcome::UpToDate)),
            (0, 0, _) => Ok(way(Move::FastForward)),
            _ if repo.merge_base(head.commit, theirs).is_err() => {
                Ok(Course::Stay(PullOutcome::Held { reason: HeldReason::UnrelatedHistories, paths: Vec::new() }))
            }
            (_, 0, _) if !all_ours(repo, &local.own)? => self.merged(repo, head, to),
            (0, _, _) => Ok(Course::Go(Way {
                to,
                how: Move::Followed { replayed: 0 },
                keep: vec![(self.saved_name(head.commit), head.commit)],
                conflict: None,
            })),
            (_, _, _) if !all_ours(repo, &local.own)? => Ok(Course::Stay(diverged(repo, head, to, BTreeSet::new())?)),
            (_, dropped, _) => self.replayed(repo, head, to, &local.own, dropped > 0),
        }
    }

    /// Our commits upon the remote's.
    fn replayed(
        &self,
        repo: &git2::Repository,
        head: Head,
        theirs: Head,
        own: &[Oid],
        rewritten: bool,
    ) -> Result<Course> {
        if own.len() > REPLAYED_MAX {
            return Ok(Course::Stay(diverged(repo, head, theirs, BTreeSet::new())?));
        }
        let failed = "our commits cannot be put upon the remote's";
        let mut store = Store::new(repo)?;
        let mut tip = theirs;
        let (mut replayed, mut conflicts) = (0, BTreeSet::new());
        for id in own {
            let commit = repo.find_commit(*id).context(Code::GitFailed, failed)?;
            let base = commit.parent(0).ok().map(|parent| parent.tree_id());
            let merged = merging::merge(&mut store, base, commit.tree_id(), tip.tree)?;
            conflicts.extend(merged.conflicts);
            if merged.tree == tip.tree {
                continue;
            }
            store.flush()?;
            let parent = repo.find_commit(tip.commit).context(Code::GitFailed, failed)?;
            let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
            let id = self.write(repo, Some(&commit), &message, merged.tree, &[&parent])?;
            tip = Head { commit: id, tree: merged.tree, moved_back: false };
            replayed += 1;
        }
        let mut keep = Vec::new();
        let conflict = (!conflicts.is_empty()).then(|| {
            let branch = self.conflict_branch(head.commit);
            keep.push((format!("refs/heads/{branch}"), head.commit));
            Conflict { branch, paths: conflicts.into_iter().map(|path| self.root_relative(path)).collect() }
        });
        if rewritten {
            keep.push((self.saved_name(head.commit), head.commit));
        }
        let how = if rewritten { Move::Followed { replayed } } else { Move::Replayed { commits: replayed } };
        Ok(Course::Go(Way { to: tip, how, keep, conflict }))
    }

    /// People's commits and the remote's under one merge commit, if they do not conflict.
    fn merged(&self, repo: &git2::Repository, head: Head, theirs: Head) -> Result<Course> {
        let failed = "the histories cannot be merged";
        let base = repo.merge_base(head.commit, theirs.commit).context(Code::GitFailed, failed)?;
        let base = repo.find_commit(base).context(Code::GitFailed, failed)?.tree_id();
        let mut store = Store::new(repo)?;
        let merged = merging::merge(&mut store, Some(base), head.tree, theirs.tree)?;
        if !merged.conflicts.is_empty() {
            return Ok(Course::Stay(diverged(repo, head, theirs, merged.conflicts)?));
        }
        store.flush()?;
        let find = |id| repo.find_commit(id).context(Code::GitFailed, failed);
        let (ours, other) = (find(head.commit)?, find(theirs.commit)?);
        let message = "merge changes of the remote\n\nSkillhook-Origin: pull\n";
        let commit = self.write(repo, None, message, merged.tree, &[&ours, &other])?;
        let to = Head { commit, tree: merged.tree, moved_back: false };
        Ok(Course::Go(Way { to, how: Move::Merged, keep: Vec::new(), conflict: None }))
    }

    /// A commit by us, with the author of `original` where there is one.
    pub(super) fn write(
        &self,
        repo: &git2::Repository,
        original: Option<&Commit<'_>>,
        message: &str,
        tree: Oid,
        parents: &[&Commit<'_>],
    ) -> Result<Oid> {
        let failed = "a commit cannot be written";
        let committer = self.signature(&self.committer(repo))?;
        let author = original.map_or_else(|| committer.clone(), |commit| commit.author().to_owned());
        let tree = repo.find_tree(tree).context(Code::GitFailed, failed)?;
        repo.commit(None, &author, &committer, message, &tree, parents).context(Code::GitFailed, failed)
    }
}

fn local(repo: &git2::Repository, head: Oid, theirs: Oid, known: Option<Oid>) -> Result<Local> {
    let walk = |hidden: &[Oid]| -> std::result::Result<Vec<Oid>, git2::Error> {
        let mut walk = repo.revwalk()?;
        walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
        walk.push(head)?;
        for each in hidden {
            walk.hide(*each)?;
        }
        walk.collect()
    };
    let failed = "our commits cannot be listed";
    let all = walk(&[theirs]).context(Code::GitFailed, failed)?;
    let own = match known {
        Some(known) => walk(&[theirs, known]).context(Code::GitFailed, failed)?,
        None => all.clone(),
    };
    Ok(Local { dropped: all.len() - own.len(), own })
}

/// Whether all of these were written by us, one upon the other.
fn all_ours(repo: &git2::Repository, commits: &[Oid]) -> Result<bool> {
    for id in commits {
        let commit = repo.find_commit(*id).context(Code::GitFailed, "one of our commits cannot be read")?;
        let marked = String::from_utf8_lossy(commit.message_bytes()).contains(OURS);
        if commit.parent_count() > 1 || !marked {
            return Ok(false);
        }
    }
    Ok(true)
}

fn diverged(repo: &git2::Repository, head: Head, theirs: Head, paths: BTreeSet<String>) -> Result<PullOutcome> {
    let (ahead, behind) = repo
        .graph_ahead_behind(head.commit, theirs.commit)
        .context(Code::GitFailed, "the histories cannot be compared")?;
    Ok(PullOutcome::Diverged { ahead, behind, paths: paths.into_iter().collect() })
}
