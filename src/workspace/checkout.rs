//! The files of the repository that a task is about, and what its run made of them.
//!
//! The repository of a stranger is material: nothing of it that would steer an agent program is laid out (`.claude`,
//! memory files, MCP servers, git's own directory), no link leads out of it, and no program of it or of git runs. The
//! fetched objects lie beside the working directory, where a run inside its walls does not reach them. What the run
//! changed is compared with them file by file; what it planted to steer others is not taken, and what a provider would
//! run by itself only where a person has agreed to the run.
//!
//! This knows no provider and finds no token: it gets a [`Target`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::materialise::steers;
use super::{WORK, Workspaces, ensure, name_of};
use crate::error::{Code, Context as _, Error, Result};
use crate::model::ids::TaskId;
use crate::model::revision::{CommitId, check_path};
use crate::repo::{BranchFile, Directory, Ignores, Target, TargetEntry, TargetFile, TargetKind, TargetLimits, blob_id};

/// The directory of the files in the working directory.
pub const CHECKOUT: &str = "checkout";
/// The fetched objects, beside the working directory.
const FETCHED: &str = "target.git";
/// What was checked out, and for whom.
const ORDER: &str = "checkout.json";
const ORDER_BYTES_MAX: u64 = 16 * 1024;

const LIMITS: TargetLimits = TargetLimits {
    pack_bytes_max: 512 * 1024 * 1024,
    files_max: 50_000,
    file_bytes_max: 16 * 1024 * 1024,
    deadline: Duration::from_secs(120),
};
/// Whoever asks for a push waits for it.
const PUSH: Duration = Duration::from_secs(60);
/// All files together, in bytes.
const LAID_OUT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Entries that are looked at to find what was changed.
const LOOKED_AT_MAX: usize = 200_000;
/// What one change may have.
const CHANGED_FILES_MAX: usize = 500;
const CHANGED_BYTES_MAX: u64 = 20 * 1024 * 1024;
/// Names that are told of what was left out.
const LEFT_OUT_MAX: usize = 20;

/// Files that providers run as soon as they are pushed, lower case: whole paths, or directories.
const AUTOMATION: [&str; 16] = [
    ".github/workflows/",
    ".github/actions/",
    ".gitea/workflows/",
    ".forgejo/workflows/",
    ".gitlab-ci.yml",
    ".gitlab/ci/",
    ".circleci/",
    ".buildkite/",
    ".woodpecker/",
    ".woodpecker.yml",
    ".drone.yml",
    ".travis.yml",
    "appveyor.yml",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "jenkinsfile",
];

/// What a task wants to have checked out.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub task: TaskId,
    /// The task that it goes on with.
    pub parent: Option<TaskId>,
    pub target: Target,
}

/// What a run made of its checkout, as a commit of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub commit: CommitId,
    pub files: Vec<String>,
    /// Changes that are not taken, for example of files that steer agents.
    pub left_out: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    task: TaskId,
    url: String,
    reference: Option<String>,
    commit: CommitId,
}

impl Workspaces {
    /// Lays the files out below [`CHECKOUT`], for whoever holds the workspace of the conversation. A task that is tried
    /// again, or goes on with another, finds what was done before. Answers how many files were left out: too large, or
    /// links that lead elsewhere.
    ///
    /// # Errors
    /// SH0312 when it cannot be fetched or is too large, SH0706 when it cannot be written.
    pub fn check_out(&self, conversation_id: &str, wanted: &Wanted) -> Result<usize> {
        let failed = "the checkout cannot be written";
        let place = self.root().and_then(|root| root.enter(name_of(conversation_id)));
        let place = place.context(Code::WorkspaceFailed, failed)?;
        let work = place.enter(WORK).context(Code::WorkspaceFailed, failed)?;
        if self.order(&place).is_some_and(|order| order.is_for(wanted)) && work.enter(CHECKOUT).is_ok() {
            return Ok(0);
        }
        self.remove_checkout_from(&place, &work).context(Code::WorkspaceFailed, failed)?;
        let fetched = self.fetched(conversation_id);
        let commit = self.shared.repo.fetch_target(&fetched, &wanted.target, &LIMITS)?;
        let left_out = self.lay_out(&work, &fetched, &commit)?;
        let (url, reference) = (wanted.target.url.clone(), wanted.target.reference.clone());
        let order = serde_json::to_vec(&Order { task: wanted.task, url, reference, commit });
        let order = order.context(Code::Bug, failed)?;
        place.create_file(ORDER, &order, 0o600).context(Code::WorkspaceFailed, failed)?;
        Ok(left_out)
    }

    /// Removes what an earlier task of the conversation had checked out.
    ///
    /// # Errors
    /// SH0706.
    pub fn remove_checkout(&self, conversation_id: &str) -> Result<()> {
        let place = self.root().and_then(|root| root.enter(name_of(conversation_id)));
        let removed = place.and_then(|place| self.remove_checkout_from(&place, &place.enter(WORK)?));
        removed.context(Code::WorkspaceFailed, "an earlier checkout cannot be removed")
    }

    fn remove_checkout_from(&self, place: &Directory, work: &Directory) -> io::Result<()> {
        place.remove_all(ORDER)?;
        work.remove_all(CHECKOUT)?;
        place.remove_all(FETCHED)
    }

    fn lay_out(&self, work: &Directory, fetched: &Path, commit: &CommitId) -> Result<usize> {
        let failed = "the checkout cannot be written";
        let root = ensure(work, CHECKOUT).context(Code::WorkspaceFailed, failed)?;
        let (mut bytes_left, mut links_left_out) = (LAID_OUT_BYTES_MAX, 0);
        let large = self.shared.repo.visit_target(fetched, commit, &|path| !steers(path), &LIMITS, &mut |file| {
            bytes_left = bytes_left.checked_sub(file.bytes.len() as u64).ok_or_else(|| {
                let mebibytes = LAID_OUT_BYTES_MAX >> 20;
                Error::new(Code::CheckoutFailed, format!("the files of the repository have more than {mebibytes} MiB"))
            })?;
            if file.kind == TargetKind::Link && !stays_inside(&file.path, &file.bytes) {
                links_left_out += 1;
                return Ok(());
            }
            write(&root, &file).context(Code::WorkspaceFailed, failed)
        })?;
        Ok(large + links_left_out)
    }

    /// Commits what the run of a task changed in its checkout, to a branch that is here alone. `agreed` says that a
    /// person has agreed to the run.
    ///
    /// # Errors
    /// SH0904 without a checkout, without a change, or when it holds what may not be taken; SH0312 when it cannot be read.
    pub fn take_changes(
        &self,
        conversation_id: &str,
        task: TaskId,
        agreed: bool,
        branch: &str,
        text: &str,
    ) -> Result<Taken> {
        let none =
            || Error::new(Code::Refused, "this run has no checkout: there is nothing to open a pull request from");
        let root = self.root().context(Code::WorkspaceFailed, "the workspaces cannot be opened")?;
        let place = root.enter(name_of(conversation_id)).map_err(|_| none())?;
        let order = self.order(&place).ok_or_else(none)?;
        let checkout = place.enter(WORK).and_then(|work| work.enter(CHECKOUT)).map_err(|_| none())?;
        let fetched = self.fetched(conversation_id);
        let base = self.shared.repo.list_target(&fetched, &order.commit, &|path| !steers(path), &LIMITS)?;
        let path = self.shared.directory.join(name_of(conversation_id)).join(WORK).join(CHECKOUT);
        let mut look = Look::new(&base, &fetched, &path)?;
        look.at(&checkout, "")?;
        let Look { changes, left_out, .. } = look.finish()?;
        if let Some(automation) = changes.keys().find(|path| is_automation(path)).filter(|_| !agreed) {
            let message = format!("the change holds `{automation}`, which the provider runs as soon as it is pushed");
            return Err(Error::new(Code::Refused, message).hint(
                "take it out of the change and say what a person should do; a command that `requires_approval` may",
            ));
        }
        let trailers = [("Skillhook-Task".to_owned(), task.to_string())];
        let repo = &self.shared.repo;
        let commit = repo.commit_target(&fetched, &order.commit, branch, &changes, text, &trailers)?;
        Ok(Taken { commit, files: changes.into_keys().collect(), left_out })
    }

    /// Pushes a branch that [`Workspaces::take_changes`] has made.
    ///
    /// # Errors
    /// SH0512.
    pub fn push_changes(&self, conversation_id: &str, target: &Target, branch: &str) -> Result<()> {
        self.shared.repo.push_target(&self.fetched(conversation_id), target, branch, PUSH)
    }

    fn fetched(&self, conversation_id: &str) -> PathBuf {
        let directory = std::path::absolute(&self.shared.directory).unwrap_or_else(|_| self.shared.directory.clone());
        directory.join(name_of(conversation_id)).join(FETCHED)
    }

    fn order(&self, place: &Directory) -> Option<Order> {
        serde_json::from_slice(&place.read(ORDER, ORDER_BYTES_MAX).ok()?).ok()
    }
}

impl Order {
    fn is_for(&self, wanted: &Wanted) -> bool {
        let same_work = self.task == wanted.task || Some(self.task) == wanted.parent;
        same_work && self.url == wanted.target.url && self.reference == wanted.target.reference
    }
}

fn write(root: &Directory, file: &TargetFile) -> io::Result<()> {
    let (parent, name) = root.parent(&file.path, Some(0o755))?;
    match file.kind {
        TargetKind::Link => parent.create_link(name, &file.bytes),
        TargetKind::File { executable } => {
            parent.create_file(name, &file.bytes, if executable { 0o755 } else { 0o644 }).map(|_| ())
        }
    }
}

/// Whether a link at this path leads to something below the root. Steps upwards come first, where the directories are
/// real ones; behind a name, which may itself be a link, there are none.
fn stays_inside(path: &str, leads_to: &[u8]) -> bool {
    let Ok(leads_to) = std::str::from_utf8(leads_to) else { return false };
    let depth = path.split('/').count() - 1;
    let steps: Vec<&str> = leads_to.split('/').collect();
    let up = steps.iter().take_while(|step| matches!(**step, ".." | ".")).filter(|step| **step == "..").count();
    let names = steps.iter().skip_while(|step| matches!(**step, ".." | "."));
    let plain = names.clone().all(|step| !step.is_empty() && *step != ".." && !step.contains('\0'));
    let steering = names.clone().any(|step| steers(step));
    !leads_to.is_empty() && up <= depth && plain && !steering
}

/// Whether a provider runs the file by itself.
fn is_automation(path: &str) -> bool {
    let path = path.to_lowercase();
    AUTOMATION.iter().any(|known| match known.ends_with('/') {
        true => path.starts_with(known),
        false => path == *known,
    })
}

/// One look at a checkout: what differs from what was fetched.
struct Look<'a> {
    base: &'a BTreeMap<String, TargetEntry>,
    /// Directories that have files of the fetched commit.
    known: BTreeSet<&'a str>,
    ignores: Ignores,
    changes: BTreeMap<String, Option<BranchFile>>,
    seen: BTreeSet<String>,
    left_out: Vec<String>,
    looked_at: usize,
    bytes: u64,
}

impl<'a> Look<'a> {
    fn new(base: &'a BTreeMap<String, TargetEntry>, fetched: &Path, checkout: &Path) -> Result<Self> {
        let parents = |path: &'a String| path.match_indices('/').map(move |(end, _)| &path[..end]);
        Ok(Self {
            base,
            known: base.keys().flat_map(parents).collect(),
            ignores: Ignores::of(fetched, checkout)?,
            changes: BTreeMap::new(),
            seen: BTreeSet::new(),
            left_out: Vec::new(),
            looked_at: 0,
            bytes: 0,
        })
    }

    fn at(&mut self, directory: &Directory, prefix: &str) -> Result<()> {
        let failed = "the checkout cannot be read";
        for (name, kind) in directory.list().context(Code::CheckoutFailed, failed)? {
            self.looked_at += 1;
            if self.looked_at > LOOKED_AT_MAX {
                let message =
                    format!("the checkout has more than {LOOKED_AT_MAX} entries: remove what was built in it");
                return Err(Error::new(Code::Refused, message));
            }
            let path = match name.to_str() {
                Some(name) => format!("{prefix}{name}"),
                None => continue,
            };
            if steers(&path) || check_path(&path).is_err() {
                self.leave_out(path);
                continue;
            }
            match kind {
                FileType::Directory => {
                    let passed_over = !self.known.contains(path.as_str()) && self.ignores.cover(&format!("{path}/"));
                    if !passed_over {
                        let inner = directory.enter(&name).context(Code::CheckoutFailed, failed)?;
                        self.at(&inner, &format!("{path}/"))?;
                    }
                }
                FileType::RegularFile => self.file(directory, path)?,
                FileType::Symlink => {
                    let leads_to = directory.read_link(&name).context(Code::CheckoutFailed, failed)?;
                    self.link(path, &leads_to);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn file(&mut self, directory: &Directory, path: String) -> Result<()> {
        let name = path.rsplit('/').next().unwrap_or(&path);
        let old = self.base.get(&path).filter(|old| old.leads_to.is_none());
        if old.is_none() && self.ignores.cover(&path) {
            return Ok(());
        }
        let failed = "a file of the checkout cannot be read";
        let bytes = match directory.read(name, LIMITS.file_bytes_max) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                self.seen.insert(path.clone());
                self.leave_out(path);
                return Ok(());
            }
            Err(error) => return Err(error).context(Code::CheckoutFailed, failed),
        };
        let mode = directory.look(name).context(Code::CheckoutFailed, failed)?.map_or(0, |stat| stat.st_mode);
        let executable = mode & 0o100 != 0;
        self.seen.insert(path.clone());
        let id = blob_id(&bytes)?;
        if old.is_some_and(|old| old.id == id && old.executable == executable) {
            return Ok(());
        }
        self.bytes += bytes.len() as u64;
        self.changes.insert(path, Some(BranchFile { bytes: bytes.into(), executable }));
        self.within()
    }

    /// Links are taken as they were; new ones, and such as lead elsewhere now, are not.
    fn link(&mut self, path: String, leads_to: &[u8]) {
        let same = self.base.get(&path).is_some_and(|old| old.leads_to.as_deref() == Some(leads_to));
        self.seen.insert(path.clone());
        if !same && !self.ignores.cover(&path) {
            self.leave_out(path);
        }
    }

    fn leave_out(&mut self, path: String) {
        if self.left_out.len() < LEFT_OUT_MAX {
            self.left_out.push(path);
        }
    }

    /// With what was removed.
    fn finish(mut self) -> Result<Self> {
        for (path, old) in self.base {
            let laid_out = old.fits && old.leads_to.as_ref().is_none_or(|leads_to| stays_inside(path, leads_to));
            if laid_out && !self.seen.contains(path) {
                self.changes.insert(path.clone(), None);
            }
        }
        self.within()?;
        Ok(self)
    }

    fn within(&self) -> Result<()> {
        if self.changes.len() > CHANGED_FILES_MAX || self.bytes > CHANGED_BYTES_MAX {
            let message = format!(
                "the change has more than {CHANGED_FILES_MAX} files or {} MiB: remove what was built or downloaded",
                CHANGED_BYTES_MAX >> 20
            );
            return Err(Error::new(Code::Refused, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_leads_out() {
        for (path, leads_to) in [("a", "b"), ("d/a", "../b"), ("d/e/a", "../../x/y"), ("a", "./b"), ("d/a", "b/c")] {
            assert!(stays_inside(path, leads_to.as_bytes()), "{path} -> {leads_to}");
        }
        for (path, leads_to) in [
            ("a", ".."),
            ("a", "../b"),
            ("a", "/etc/passwd"),
            ("a", ""),
            ("d/a", "../../b"),
            // `l` may lead to the root: what is above it is outside.
            ("d/a", "l/../b"),
            ("a", "b/../../c"),
            ("a", ".claude/settings.json"),
            ("a", "b//c"),
        ] {
            assert!(!stays_inside(path, leads_to.as_bytes()), "{path} -> {leads_to}");
        }
        assert!(!stays_inside("a", b"\xff"));
    }

    #[test]
    fn what_runs_by_itself_is_known() {
        for path in
            [".github/workflows/x.yml", ".GitHub/Workflows/x.yml", ".gitlab-ci.yml", "Jenkinsfile", ".circleci/c"]
        {
            assert!(is_automation(path), "{path}");
        }
        for path in ["src/main.rs", ".github/CODEOWNERS", "docs/Jenkinsfile.md", "x/.gitlab-ci.yml"] {
            assert!(!is_automation(path), "{path}");
        }
    }
}
