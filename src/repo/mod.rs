//! Git: the served trees, automatic commits, history, and the remote.
//!
//! Objects and refs go through libgit2, the network through the `git` program (credentials, SSH and proxies as their
//! users have set them up). Invariants: nothing is committed outside `.claude/{skills,agents,providers}`; what a
//! person has staged is never lost or committed; nothing is ever checked out by libgit2 into the live tree; no hook
//! and no filter of a clone runs; everything a ref names is on disk before the ref is.
//!
//! All calls block: use them from `spawn_blocking`. Writers wait for each other, readers for nobody, and calls over
//! the network hold no lock that a writer needs. The remote's history is built upon and never
//! rewritten, and nothing that either side ever had is lost: what gives way is kept by a ref. This module decides
//! nothing about what a file means.

mod at;
pub mod bare;
mod beneath;
mod branch;
mod commit;
#[cfg(test)]
pub(crate) mod fixture;
mod history;
mod incoming;
mod integrate;
mod keep;
mod lineage;
mod location;
mod locks;
mod merging;
mod message;
mod objects;
mod open;
mod program;
mod proposal;
mod pull;
mod records;
mod remote;
mod repair;
mod served;
mod staging;
mod status;
mod target;
#[cfg(test)]
mod tests;
mod tree;
mod versions;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use git2::Oid;

pub(crate) use beneath::Directory;
pub use branch::{BranchFile, BranchProposed, BranchRequest};
pub use commit::{CommitOutcome, CommitRequest, HeldReason, PathChange};
pub use history::{Age, FileDiff, HistoryEntry};
pub use keep::ConflictBranch;
pub use lineage::{Committed, Relation};
pub use location::Location;
pub use message::{Change, Verb, message_for};
pub use program::passes_to_git;
pub use proposal::{PROPOSALS, Proposal};
pub use pull::{Conflict, Move, PullOutcome, Skipped};
pub use remote::{FetchOutcome, PushOutcome, Refusal};
pub use served::ServedFile;
pub use status::{LastPush, Status, Upstream};
pub(crate) use target::blob_id;
pub use target::{Ignores, Target, TargetEntry, TargetFile, TargetKind, TargetLimits};
pub use versions::{Origin, Version};

use crate::error::{Code, Context, Result};
use crate::model::digest::Digest;
use crate::model::revision::{CommitId, Revision};
use crate::seam::Clock;

/// Notes about repairs that are kept for `status`.
const NOTES_MAX: usize = 32;
/// Heads that are remembered: as many commits may overtake one look at the files.
const CHAIN_MAX: usize = 256;

/// How a repository is used. The environment is an argument: only `config` reads the real one.
#[derive(Clone, Debug)]
pub struct Options {
    /// The branch that is committed to, pushed and pulled; by default the one that is checked out at the start.
    pub branch: Option<String>,
    /// The remote; by default the branch's own, else `origin`, else the only one.
    pub remote: Option<String>,
    pub git_program: PathBuf,
    /// The whole environment of the `git` program; choose with [`passes_to_git`].
    pub environment: Vec<(OsString, OsString)>,
    /// A lock file of git that is older than this, with no git process near it, was left behind by a crash.
    pub lock_stale_after: Duration,
    /// Who commits where git's own configuration names nobody.
    pub committer: Author,
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            branch: None,
            remote: None,
            git_program: PathBuf::from("git"),
            environment: Vec::new(),
            lock_stale_after: Duration::from_secs(600),
            committer: Author::ours(),
            clock: Clock::System,
        }
    }
}

/// A person or program as git names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub email: String,
}

impl Author {
    /// skillhook itself.
    pub fn ours() -> Self {
        Self { name: "skillhook".to_owned(), email: "skillhook@localhost".to_owned() }
    }
}

/// A handle on one work tree; clones share everything.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<Shared>,
}

struct Shared {
    place: open::Place,
    options: Options,
    /// The branch that is ours; `None` if HEAD was detached at the start and none is configured.
    branch: Option<String>,
    writer: Mutex<Writer>,
    network: Mutex<()>,
    running: Mutex<BTreeSet<i32>>,
    last_push: Mutex<Option<LastPush>>,
    notes: Mutex<VecDeque<String>>,
}

/// What only one thread at a time may use. It holds no handle on the repository: one that lives long believes in
/// objects that git has collected meanwhile.
#[derive(Default)]
struct Writer {
    /// The newest served tree: the next one is made from it.
    base: Option<ServedBase>,
    /// Blobs by the SHA-256 of their content.
    blobs: HashMap<Digest, Oid>,
    /// Heads that followed upon each other by automatic commits alone, oldest first.
    chain: VecDeque<Oid>,
}

impl Writer {
    /// Whether only automatic commits lie between the two heads.
    fn leads(&self, from: Oid, to: Oid) -> bool {
        from == to || (self.chain.back() == Some(&to) && self.chain.contains(&from))
    }

    fn remember(&mut self, parent: Option<Oid>, commit: Oid) {
        if self.chain.back() != parent.as_ref() {
            self.chain.clear();
            self.chain.extend(parent);
        }
        self.chain.push_back(commit);
        if self.chain.len() > CHAIN_MAX {
            self.chain.pop_front();
        }
    }
}

struct ServedBase {
    revision: Revision,
    tree: Oid,
}

impl Repository {
    /// Opens the repository around `root`. SH0302 says why it cannot be worked with.
    pub fn open(root: &Path, options: Options) -> Result<Self> {
        let place = open::locate(root)?;
        let repo = place.handle()?;
        let branch = match &options.branch {
            Some(branch) => Some(branch.clone()),
            None => status::checked_out(&repo)?,
        };
        let shared = Shared {
            place,
            options,
            branch,
            writer: Mutex::new(Writer::default()),
            network: Mutex::new(()),
            running: Mutex::new(BTreeSet::new()),
            last_push: Mutex::new(None),
            notes: Mutex::new(VecDeque::new()),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Creates a repository with the branch `main` at `root` when there is none around it; answers whether it did.
    /// Files that are there are left alone, and nothing is committed.
    pub fn init(root: &Path) -> Result<bool> {
        open::create(root)
    }

    /// The directory that paths of revisions are relative to.
    pub fn root(&self) -> &Path {
        &self.shared.place.root
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.options.clock
    }

    /// Runs `look` while neither a pull nor a commit of ours changes files: a snapshot never sees half a pull.
    /// `look` must not write through this handle.
    pub fn while_still<T>(&self, look: impl FnOnce() -> T) -> T {
        let _writer = self.writer();
        look()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh handle.
    fn handle(&self) -> Result<git2::Repository> {
        self.shared.place.handle()
    }

    /// Keeps what was repaired for `status`, and says it in the log.
    fn note(&self, text: String) {
        tracing::warn!(repository = %self.root().display(), "{text}");
        let mut notes = self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push_back(text);
        if notes.len() > NOTES_MAX {
            notes.pop_front();
        }
    }
}

fn commit_id(id: Oid) -> Result<CommitId> {
    CommitId::parse(&id.to_string()).context(Code::Bug, "git answered with a name that is none")
}
