//! Edits that become a proposal: a branch of its own with a commit upon HEAD. The branch that is checked out, the index
//! and the work tree stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use git2::{ErrorCode, ObjectType, Oid};

use super::objects::Store;
use super::tree::{self, Leaf};
use super::{PushOutcome, Repository, commit_id, message};
use crate::error::{Code, Context, Error, Result};
use crate::model::revision::{CommitId, check_path, is_committed};

/// Branches with one beginning that are tried before giving up.
const NAMES_MAX: usize = 50;

/// What is to be proposed.
#[derive(Clone, Debug)]
pub struct BranchRequest {
    /// The branch, for example `skillhook/proposal/add-review`.
    pub branch: String,
    /// A branch of that name is an earlier version of this: it gets a further commit. Else a number is added to the name.
    pub grows: bool,
    /// By root-relative path below the managed directories; `None` deletes.
    pub edits: BTreeMap<String, Option<BranchFile>>,
    pub message: String,
    pub trailers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct BranchFile {
    pub bytes: Arc<[u8]>,
    pub executable: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchProposed {
    pub branch: String,
    pub commit: CommitId,
    /// Why the remote has not got it, if so; without a remote the branch is here alone.
    pub not_pushed: Option<String>,
}

impl Repository {
    /// Makes the branch and pushes it.
    ///
    /// # Errors
    /// SH0903 when HEAD has all of this already, SH0503 when git cannot write it.
    pub fn propose_branch(&self, request: &BranchRequest, deadline: Duration) -> Result<BranchProposed> {
        let (branch, commit) = self.write_branch(request)?;
        let not_pushed = match self.publish_proposal(&branch, deadline)? {
            PushOutcome::Pushed { .. } | PushOutcome::UpToDate => None,
            PushOutcome::NoRemote => Some("there is no remote".to_owned()),
            PushOutcome::Rejected { reason, .. } | PushOutcome::Unavailable { reason } => Some(reason),
        };
        Ok(BranchProposed { branch, commit: commit_id(commit)?, not_pushed })
    }

    fn write_branch(&self, request: &BranchRequest) -> Result<(String, Oid)> {
        let failed = "the proposal cannot be written";
        let _writer = self.writer();
        let repo = &self.handle()?;
        let head = match repo.head() {
            Ok(head) => Some(head.peel_to_commit().context(Code::GitFailed, "HEAD cannot be read")?),
            Err(error) if matches!(error.code(), ErrorCode::UnbornBranch | ErrorCode::NotFound) => None,
            Err(error) => return Err(Error::new(Code::GitFailed, "HEAD cannot be read").detail(error)),
        };
        let mut store = Store::new(repo)?;
        let mut leaves = BTreeMap::new();
        for (path, file) in &request.edits {
            if let Some(message) = check_path(path).err().or_else(|| (!is_committed(path)).then(String::new)) {
                return Err(Error::new(Code::UnsafePath, format!("`{path}` cannot be proposed")).detail(message));
            }
            let leaf = match file {
                Some(file) => Some(Leaf::file(store.put(ObjectType::Blob, file.bytes.to_vec())?, file.executable)),
                None => None,
            };
            leaves.insert(format!("{}{path}", self.shared.place.prefix), leaf);
        }
        let base = head.as_ref().map(git2::Commit::tree_id);
        let spliced = tree::splice(&mut store, base, &leaves)?;
        store.flush()?;
        if base == Some(spliced) {
            return Err(Error::new(Code::Conflict, "everything in this change is committed already"));
        }
        let tree = repo.find_tree(spliced).context(Code::GitFailed, failed)?;
        let who = self.signature(&self.committer(repo))?;
        let text = message::with_trailers(&request.message, &request.trailers);
        let name = format!("refs/heads/{}", request.branch);
        let tip = repo.refname_to_id(&name).ok().filter(|_| request.grows);
        let tip = tip.map(|tip| repo.find_commit(tip)).transpose().context(Code::GitFailed, failed)?;
        let within = |head: &&git2::Commit<'_>| {
            let older = |tip: &git2::Commit<'_>| {
                tip.id() == head.id() || repo.graph_descendant_of(tip.id(), head.id()).unwrap_or(false)
            };
            tip.as_ref().is_some_and(older)
        };
        let parents: Vec<_> = tip.iter().chain(head.iter().filter(|head| !within(head))).collect();
        let commit = repo.commit(None, &who, &who, &text, &tree, &parents).context(Code::GitFailed, failed)?;
        if tip.is_some() {
            repo.reference(&name, commit, true, "skillhook: proposal").context(Code::GitFailed, failed)?;
            return Ok((request.branch.clone(), commit));
        }
        for number in 1..=NAMES_MAX {
            let branch = if number == 1 { request.branch.clone() } else { format!("{}-{number}", request.branch) };
            match repo.reference(&format!("refs/heads/{branch}"), commit, false, "skillhook: proposal") {
                Ok(_) => return Ok((branch, commit)),
                Err(error) if error.code() == ErrorCode::Exists => {}
                Err(error) => return Err(Error::new(Code::GitFailed, failed).detail(error)),
            }
        }
        Err(Error::new(Code::Conflict, format!("there are too many branches `{}…`", request.branch))
            .hint("merge or delete some of them"))
    }
}
