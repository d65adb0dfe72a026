//! A bare repository beside the work tree, as a remote on the same machine: for `skillhook demo`.

use std::path::Path;

use git2::RepositoryInitOptions;

use crate::error::{Code, Context, Result};
use crate::model::revision::CommitId;

/// Creates an empty bare repository whose branch is `main`.
///
/// # Errors
/// SH0503.
pub fn create_bare(path: &Path) -> Result<()> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).initial_head("main").external_template(false).mkpath(true);
    git2::Repository::init_opts(path, &options).map(drop).context(Code::GitFailed, "no bare repository can be created")
}

/// Names a remote of the work tree.
///
/// # Errors
/// SH0503.
pub fn add_remote(root: &Path, name: &str, remote: &Path) -> Result<()> {
    let failed = "the remote cannot be set";
    let repo = git2::Repository::open(root).context(Code::GitFailed, failed)?;
    repo.remote(name, &remote.to_string_lossy()).map(drop).context(Code::GitFailed, failed)
}

/// The last commit of a branch, and its message.
///
/// # Errors
/// SH0503 when there is none.
pub fn tip(path: &Path, branch: &str) -> Result<(CommitId, String)> {
    let failed = "the branch cannot be read";
    let repo = git2::Repository::open(path).context(Code::GitFailed, failed)?;
    let reference = repo.find_reference(&format!("refs/heads/{branch}")).context(Code::GitFailed, failed)?;
    let commit = reference.peel_to_commit().context(Code::GitFailed, failed)?;
    let id = CommitId::try_from(commit.id().to_string()).context(Code::GitFailed, failed)?;
    Ok((id, String::from_utf8_lossy(commit.message_bytes()).into_owned()))
}
