//! Push and fetch, with everything that can go wrong there as a value: a remote that is away is no error.
//!
//! Our branch is pushed only upon what the remote is known to have, and only while it still has it: a branch that was
//! deleted there is not made again, and no commit of anybody is ever pushed away.

use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use git2::Oid;

use super::keep::{pushed_name, refs_below};
use super::program::{Finished, presentable};
use super::{LastPush, Repository, commit_id, keep};
use crate::error::{Code, Context, Result};
use crate::model::revision::CommitId;

/// What became of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    Pushed {
        commit: CommitId,
    },
    UpToDate,
    /// There is no remote, or nothing to push yet.
    NoRemote,
    Rejected {
        refusal: Refusal,
        reason: String,
    },
    Unavailable {
        reason: String,
    },
}

/// Who refused a push, and so what helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The remote has commits that we have not: pull first.
    NonFastForward,
    /// A rule or hook of the remote, for example branch protection: propose instead.
    ByRemote,
}

/// What became of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// `changed` says whether the remote-tracking branch moved.
    Fetched {
        commit: CommitId,
        changed: bool,
    },
    /// The remote has no such branch yet.
    NoBranch,
    /// The remote had this branch and has it no more.
    BranchDeleted,
    NoRemote,
    Unavailable {
        reason: String,
    },
}

/// The branch on the remote that belongs to ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) remote: String,
    pub(super) branch: String,
    local: String,
}

impl Target {
    pub(super) fn local(&self) -> String {
        format!("refs/heads/{}", self.local)
    }

    pub(super) fn tracking(&self) -> String {
        format!("refs/remotes/{}/{}", self.remote, self.branch)
    }
}

impl Repository {
    /// Pushes our branch as it is now. Blocks no writer; returns by the deadline (and two seconds to stop git).
    pub fn push(&self, deadline: Duration) -> Result<PushOutcome> {
        let outcome = self.try_push(deadline)?;
        let (commit, trouble) = match &outcome {
            PushOutcome::Pushed { commit } => (Some(commit.clone()), None),
            PushOutcome::UpToDate => (self.head()?, None),
            PushOutcome::NoRemote => return Ok(outcome),
            PushOutcome::Rejected { reason, .. } | PushOutcome::Unavailable { reason } => (None, Some(reason.clone())),
        };
        let pushed = LastPush { at: self.clock().now(), commit, trouble };
        *self.shared.last_push.lock().unwrap_or_else(PoisonError::into_inner) = Some(pushed);
        Ok(outcome)
    }

    fn try_push(&self, deadline: Duration) -> Result<PushOutcome> {
        let repo = self.handle()?;
        let Some(target) = self.target(&repo)? else { return Ok(PushOutcome::NoRemote) };
        let Ok(commit) = repo.refname_to_id(&target.local()) else { return Ok(PushOutcome::NoRemote) };
        let known = self.known_remote(&repo, &target);
        if let Some(known) = known
            && known != commit
            && !repo.graph_descendant_of(commit, known).unwrap_or(false)
        {
            let reason = "the remote has commits that are not in our branch".to_owned();
            return Ok(PushOutcome::Rejected { refusal: Refusal::NonFastForward, reason });
        }
        // A lease on what our branch descends from: the update is a fast-forward, or it is refused.
        let lease = known.map(|known| format!("--force-with-lease=refs/heads/{}:{known}", target.branch));
        let outcome = self.push_to(&target.remote, commit, &target.branch, lease.as_deref(), deadline)?;
        if matches!(outcome, PushOutcome::Pushed { .. } | PushOutcome::UpToDate) {
            self.remember_remote(&repo, &target, commit)?;
        }
        Ok(outcome)
    }

    /// Pushes a commit to a branch of the remote.
    pub(super) fn push_to(
        &self,
        remote: &str,
        commit: Oid,
        branch: &str,
        lease: Option<&str>,
        deadline: Duration,
    ) -> Result<PushOutcome> {
        let refspec = format!("{commit}:refs/heads/{branch}");
        let mut arguments = vec!["push", "--porcelain", "--no-verify", "--no-follow-tags"];
        arguments.extend(lease);
        arguments.extend(["--", remote, &refspec]);
        let finished = match self.transfer(&arguments, deadline)? {
            Ok(finished) => finished,
            Err(reason) => return Ok(PushOutcome::Unavailable { reason }),
        };
        if finished.timed_out {
            return Ok(PushOutcome::Unavailable { reason: finished.reason(deadline) });
        }
        match finished.stdout.lines().find_map(parse_push_line) {
            Some(Pushed::Moved) if finished.succeeded() => Ok(PushOutcome::Pushed { commit: commit_id(commit)? }),
            Some(Pushed::Same) if finished.succeeded() => Ok(PushOutcome::UpToDate),
            Some(Pushed::Rejected(refusal, reason)) => Ok(PushOutcome::Rejected { refusal, reason }),
            Some(Pushed::Moved | Pushed::Same) | None => {
                Ok(PushOutcome::Unavailable { reason: finished.reason(deadline) })
            }
        }
    }

    /// Pushes the branches that hold our side of conflicts, each once: whoever deletes one on the remote is done
    /// with it. Answers why one could not be pushed.
    pub fn push_conflicts(&self, deadline: Duration) -> Result<Option<String>> {
        let repo = self.handle()?;
        let Some(target) = self.target(&repo)? else { return Ok(None) };
        for (name, commit) in refs_below(&repo, &format!("refs/heads/{}", keep::CONFLICT))? {
            let branch = name.trim_start_matches("refs/heads/");
            if repo.refname_to_id(&pushed_name(branch)).ok() == Some(commit) {
                continue;
            }
            match self.push_to(&target.remote, commit, branch, None, deadline)? {
                PushOutcome::Pushed { .. } | PushOutcome::UpToDate => {
                    self.set_own_ref(&repo, &pushed_name(branch), commit)?;
                }
                PushOutcome::NoRemote => return Ok(None),
                PushOutcome::Rejected { reason, .. } | PushOutcome::Unavailable { reason } => return Ok(Some(reason)),
            }
        }
        Ok(None)
    }

    /// Runs git over the network, one call at a time.
    pub(super) fn transfer(&self, arguments: &[&str], deadline: Duration) -> Result<Result<Finished, String>> {
        let _one = match self.shared.network.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(Err(BUSY.to_owned())),
        };
        self.run_git(arguments, deadline).map(Ok)
    }

    /// Brings the remote-tracking branch up to date. Changes no file and no branch of ours.
    pub fn fetch(&self, deadline: Duration) -> Result<FetchOutcome> {
        let repo = self.handle()?;
        let Some(target) = self.target(&repo)? else { return Ok(FetchOutcome::NoRemote) };
        let before = repo.refname_to_id(&target.tracking()).ok();
        let known = self.known_remote(&repo, &target);
        if let (None, Some(before)) = (known, before) {
            self.remember_remote(&repo, &target, before)?;
        }
        let refspec = format!("+refs/heads/{}:{}", target.branch, target.tracking());
        let arguments = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--",
            &target.remote,
            &refspec,
        ];
        let finished = match self.transfer(&arguments, deadline)? {
            Ok(finished) => finished,
            Err(reason) => return Ok(FetchOutcome::Unavailable { reason }),
        };
        if finished.succeeded() {
            let commit = repo
                .refname_to_id(&target.tracking())
                .context(Code::GitFailed, "git fetched nothing and did not say so")?;
            return Ok(FetchOutcome::Fetched { commit: commit_id(commit)?, changed: before != Some(commit) });
        }
        if !finished.timed_out && finished.stderr.contains("couldn't find remote ref") {
            return Ok(if known.or(before).is_some() { FetchOutcome::BranchDeleted } else { FetchOutcome::NoBranch });
        }
        Ok(FetchOutcome::Unavailable { reason: finished.reason(deadline) })
    }

    /// Where our branch is pushed to: the setting, the branch's own upstream, `origin`, or the only remote.
    pub(super) fn target(&self, repo: &git2::Repository) -> Result<Option<Target>> {
        let branch = match &self.shared.branch {
            Some(branch) => Some(branch.clone()),
            None => super::status::checked_out(repo)?,
        };
        let Some(local) = branch else { return Ok(None) };
        let name = format!("refs/heads/{local}");
        let text = |buffer: git2::Buf| buffer.as_str().ok().map(str::to_owned);
        let upstream = repo.branch_upstream_remote(&name).ok().and_then(text);
        let merge = repo.branch_upstream_merge(&name).ok().and_then(text);
        let remotes = repo.remotes().context(Code::GitFailed, "the remotes cannot be read")?;
        let remotes: Vec<String> = remotes.iter().filter_map(|name| name.ok().flatten().map(str::to_owned)).collect();
        let known = |name: &String| remotes.contains(name);
        let wanted = self.shared.options.remote.clone().or_else(|| upstream.clone().filter(known));
        let only = || remotes.first().filter(|_| remotes.len() == 1).cloned();
        let remote = wanted.or_else(|| remotes.iter().find(|name| *name == "origin").cloned()).or_else(only);
        let Some(remote) = remote.filter(known) else { return Ok(None) };
        let branch = merge.filter(|_| upstream.as_ref() == Some(&remote));
        let branch = branch.and_then(|name| name.strip_prefix("refs/heads/").map(str::to_owned));
        Ok(Some(Target { remote, branch: branch.unwrap_or_else(|| local.clone()), local }))
    }
}

const BUSY: &str = "another transfer is under way";

enum Pushed {
    Moved,
    Same,
    Rejected(Refusal, String),
}

/// `<flag> TAB <from>:<to> TAB <summary> (<reason>)`, from `git push --porcelain`.
fn parse_push_line(line: &str) -> Option<Pushed> {
    let mut fields = line.split('\t');
    let (flag, summary) = (fields.next()?, fields.nth(1)?);
    match flag {
        " " | "*" => Some(Pushed::Moved),
        "=" => Some(Pushed::Same),
        "!" => {
            let behind = ["fetch first", "non-fast-forward", "stale info", "needs force"];
            let ours = !summary.starts_with("[remote") && behind.iter().any(|words| summary.contains(words));
            let refusal = if ours { Refusal::NonFastForward } else { Refusal::ByRemote };
            Some(Pushed::Rejected(refusal, presentable(summary)))
        }
        _ => None,
    }
}
