//! Workspaces: the directory in which an agent runs, one a conversation, at a path that never changes.
//!
//! A workspace holds the validated skills and agents of exactly one revision, read-only, and nothing else that
//! steers an agent program: no settings, hooks, MCP servers or memory files, whether they come from the tree or
//! were planted by an earlier run. Every `prepare` checks this anew, byte by byte. Home and temporary directory are
//! private and empty at the start of a run; the program's own directory keeps only what resuming needs.
//!
//! Where a task asks for it, the files of the repository that it is about lie beside them (`checkout`), stripped of the
//! same names; what a run changes there can be taken out as a commit.
//!
//! This deliberately does not start agents, find credentials, or bring anything to disk: all of it can be made again.

mod checkout;
mod kept;
mod materialise;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Code, Context, Error, Result};
use crate::model::digest::Digest;
use crate::repo::{Directory, Repository};

pub use checkout::{CHECKOUT, Taken, Wanted};
pub use kept::TRANSCRIPT_BYTES_MAX;
pub use sweep::Swept;

const WORK: &str = "work";
const HOME: &str = "home";
const TMP: &str = "tmp";
const CONFIG: &str = "config";
/// When the workspace was used last, in seconds of the Unix epoch.
const USED: &str = "used";

/// What one workspace may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub files_max: usize,
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files_max: 50_000, bytes_max: 512 * 1024 * 1024 }
    }
}

/// All workspaces of a server; clones share everything.
#[derive(Clone)]
pub struct Workspaces {
    shared: Arc<Shared>,
}

struct Shared {
    repo: Repository,
    directory: PathBuf,
    limits: Limits,
    in_use: Mutex<BTreeSet<String>>,
}

/// A workspace that is ready; while this value lives, nothing sweeps it away and no other run gets it.
#[derive(Debug)]
pub struct Workspace {
    /// The working directory of the run.
    pub path: PathBuf,
    pub home: PathBuf,
    pub tmp: PathBuf,
    /// For `CLAUDE_CONFIG_DIR`: sessions are kept there between the runs of a conversation.
    pub config_dir: PathBuf,
    _claim: Claim,
}

/// Says that a workspace is in use, until dropped.
struct Claim {
    shared: Arc<Shared>,
    name: String,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.in_use().remove(&self.name);
    }
}

impl Shared {
    fn in_use(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Workspaces {
    /// `directory` belongs to us alone; it is created when first needed.
    pub fn new(repo: Repository, directory: PathBuf, limits: Limits) -> Self {
        Self { shared: Arc::new(Shared { repo, directory, limits, in_use: Mutex::new(BTreeSet::new()) }) }
    }

    /// The workspace of a conversation with the skills and agents of a revision. SH0507 while the served tree of the
    /// revision is not written; SH0706 if it cannot be prepared or another run is in it.
    pub fn prepare(&self, revision: Digest, conversation_id: &str) -> Result<Workspace> {
        let name = name_of(conversation_id);
        let claim = self.claim(&name)?;
        let failed = "the workspace cannot be prepared";
        let root = self.root().context(Code::WorkspaceFailed, failed)?;
        let place = ensure(&root, &name).context(Code::WorkspaceFailed, failed)?;
        for scratch in [HOME, TMP] {
            place.remove_all(scratch).context(Code::WorkspaceFailed, failed)?;
        }
        for inner in [WORK, HOME, TMP, CONFIG] {
            ensure(&place, inner).context(Code::WorkspaceFailed, failed)?;
        }
        self.mark_used(&place).context(Code::WorkspaceFailed, failed)?;
        materialise::remove_planted(&place).context(Code::WorkspaceFailed, failed)?;
        self.materialise(&place, &revision)?;
        let path = self.shared.directory.join(&name);
        Ok(Workspace {
            path: path.join(WORK),
            home: path.join(HOME),
            tmp: path.join(TMP),
            config_dir: path.join(CONFIG),
            _claim: claim,
        })
    }

    fn claim(&self, name: &str) -> Result<Claim> {
        if !self.shared.in_use().insert(name.to_owned()) {
            return Err(Error::new(Code::WorkspaceFailed, "another run uses the workspace of this conversation")
                .hint("runs of one conversation go one after the other: try again later"));
        }
        Ok(Claim { shared: Arc::clone(&self.shared), name: name.to_owned() })
    }

    fn root(&self) -> io::Result<Directory> {
        std::fs::create_dir_all(&self.shared.directory)?;
        let root = Directory::open(&self.shared.directory)?;
        rustix::fs::fchmod(&root, rustix::fs::Mode::from_raw_mode(0o700))?;
        Ok(root)
    }

    fn mark_used(&self, place: &Directory) -> io::Result<()> {
        let now = self.shared.repo.clock().now().as_second();
        place.remove_all(USED)?;
        place.create_file(USED, now.to_string().as_bytes(), 0o600).map(|_| ())
    }

    /// Where workspaces lie.
    pub fn directory(&self) -> &Path {
        &self.shared.directory
    }

    /// Files above the workspaces that agent programs read although they are in no workspace: they look for memory
    /// files in every directory up to the top. The workspaces should lie where this finds nothing.
    pub fn steering_above(&self) -> Vec<PathBuf> {
        let names = ["CLAUDE.md", "CLAUDE.local.md", ".claude", ".mcp.json"];
        let above = self.shared.directory.ancestors().flat_map(|directory| names.map(|name| directory.join(name)));
        above.filter(|path| path.symlink_metadata().is_ok()).collect()
    }
}

/// A private directory of this name; whatever else has the name (a link that a run planted) is removed.
fn ensure(parent: &Directory, name: &str) -> io::Result<Directory> {
    let directory = match parent.enter_or_create(name, 0o700) {
        Ok(directory) => directory,
        Err(_) => {
            parent.remove_all(name)?;
            parent.enter_or_create(name, 0o700)?
        }
    };
    rustix::fs::fchmod(&directory, rustix::fs::Mode::from_raw_mode(0o700))?;
    Ok(directory)
}

/// Ids of conversations come from outside: only their hash becomes a path.
fn name_of(conversation_id: &str) -> String {
    let mut name = Digest::of(conversation_id.as_bytes()).to_string();
    name.truncate(32);
    name
}

fn is_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit())
}
