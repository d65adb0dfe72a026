//! Repositories that are not ours: those that tasks are about.
//!
//! One commit is fetched into a bare repository of its own, whose configuration is ours alone; files are read from its
//! objects and never checked out by git. What a run changed becomes a commit upon that one and a branch of the same
//! repository, which is only ever added to. The token goes to the `git` program in its environment, for the one address;
//! redirects are not followed, and no credential helper of the operator's is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use git2::{ObjectType, Oid, RepositoryInitOptions};

use super::branch::BranchFile;
use super::objects::Store;
use super::tree::{self, Leaf};
use super::{Repository, commit_id, message};
use crate::error::{Code, Context, Error, Result};
use crate::model::revision::{CommitId, PATH_DEPTH_MAX, check_path};
use crate::model::secret::SecretValue;

/// The commit that was fetched.
const FETCHED: &str = "refs/skillhook/target";
const LINK: u32 = 0o120_000;
/// Settings for repositories of strangers, besides those of every call.
const SETTINGS: [&str; 8] = [
    "credential.helper=",
    "http.followRedirects=false",
    "protocol.allow=never",
    "protocol.http.allow=always",
    "protocol.https.allow=always",
    // One pack, so that the limit of a file is the limit of the whole.
    "fetch.unpackLimit=1",
    "core.bigFileThreshold=16m",
    "pack.threads=1",
];

/// A repository, and with what it is reached.
#[derive(Clone, Debug)]
pub struct Target {
    /// `https://…`; `http://…` only where the operator has said so.
    pub url: String,
    /// What is looked at; the default branch where it is `None`.
    pub reference: Option<String>,
    pub user: String,
    /// Without it, the repository must be one that everybody may read.
    pub token: Option<SecretValue>,
}

#[derive(Clone, Copy, Debug)]
pub struct TargetLimits {
    /// Of the fetched pack, in bytes.
    pub pack_bytes_max: u64,
    pub files_max: usize,
    /// Larger files are left out, in bytes.
    pub file_bytes_max: u64,
    pub deadline: Duration,
}

/// A file of the fetched commit.
#[derive(Debug)]
pub struct TargetFile {
    pub path: String,
    pub kind: TargetKind,
    /// The content, or where a link leads.
    pub bytes: Vec<u8>,
}

/// An entry of the fetched commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetEntry {
    /// The id that git gives to its content, in hexadecimal.
    pub id: String,
    pub executable: bool,
    /// Where a link leads.
    pub leads_to: Option<Vec<u8>>,
    /// It is not too large to be laid out.
    pub fits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    File { executable: bool },
    Link,
}

impl TargetFile {
    fn of(store: &Store<'_>, path: String, leaf: Leaf) -> Result<Self> {
        let kind = match leaf.mode {
            LINK => TargetKind::Link,
            _ => TargetKind::File { executable: leaf.is_executable() },
        };
        Ok(Self { path, kind, bytes: store.read(leaf.id, ObjectType::Blob)? })
    }
}

impl Repository {
    /// Fetches one commit into `place`, which must not exist.
    ///
    /// # Errors
    /// SH0312 when it cannot be had: the remote is away or refuses, there is no such reference, it is too large.
    pub fn fetch_target(&self, place: &Path, target: &Target, limits: &TargetLimits) -> Result<CommitId> {
        let failed = "the repository of the task cannot be fetched";
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).mkpath(true).initial_head("main");
        let repo = git2::Repository::init_opts(place, &options).context(Code::CheckoutFailed, failed)?;
        let refspec = format!("+{}:{FETCHED}", target.reference.as_deref().unwrap_or("HEAD"));
        let mut command = self.target_command(place, target);
        command.args([
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ]);
        command.args(["--", &target.url, &refspec]);
        let finished = self.run(command, Some(limits.pack_bytes_max), limits.deadline)?;
        if !finished.succeeded() {
            let reason = match pack_bytes(place) {
                bytes if bytes >= limits.pack_bytes_max => {
                    format!("it is larger than {} MiB", limits.pack_bytes_max >> 20)
                }
                _ => finished.reason(limits.deadline),
            };
            return Err(Error::new(Code::CheckoutFailed, format!("{failed}: {reason}")));
        }
        let fetched = repo.find_reference(FETCHED).and_then(|reference| reference.peel_to_commit());
        commit_id(fetched.context(Code::CheckoutFailed, failed)?.id())
    }

    /// The files of a fetched commit that are wanted, in the order of their paths. Answers how many were left out as too
    /// large. Submodules, and names that are not safe everywhere, are never visited.
    ///
    /// # Errors
    /// SH0312 when there are too many, or what `visit` answers.
    pub fn visit_target(
        &self,
        place: &Path,
        commit: &CommitId,
        wants: &dyn Fn(&str) -> bool,
        limits: &TargetLimits,
        visit: &mut dyn FnMut(TargetFile) -> Result<()>,
    ) -> Result<usize> {
        let repo = open(place)?;
        let store = Store::new(&repo)?;
        let mut left_out = 0;
        for (path, leaf) in leaves(&store, tree_of(&repo, commit)?, wants, limits)? {
            match fits(&repo, leaf, limits)? {
                true => visit(TargetFile::of(&store, path, leaf)?)?,
                false => left_out += 1,
            }
        }
        Ok(left_out)
    }

    /// What a fetched commit has, without the contents of files.
    ///
    /// # Errors
    /// SH0312 when there are too many, or one cannot be read.
    pub fn list_target(
        &self,
        place: &Path,
        commit: &CommitId,
        wants: &dyn Fn(&str) -> bool,
        limits: &TargetLimits,
    ) -> Result<BTreeMap<String, TargetEntry>> {
        let repo = open(place)?;
        let store = Store::new(&repo)?;
        let mut found = BTreeMap::new();
        for (path, leaf) in leaves(&store, tree_of(&repo, commit)?, wants, limits)? {
            let leads_to = match leaf.mode {
                LINK => Some(store.read(leaf.id, ObjectType::Blob)?),
                _ => None,
            };
            let (id, executable, fits) = (leaf.id.to_string(), leaf.is_executable(), fits(&repo, leaf, limits)?);
            found.insert(path, TargetEntry { id, executable, leads_to, fits });
        }
        Ok(found)
    }

    /// Commits files upon a fetched commit, or upon what the branch has already; `None` deletes. The branch is here alone
    /// until it is pushed.
    ///
    /// # Errors
    /// SH0312 when it cannot be written, SH0904 when everything is like that already.
    pub fn commit_target(
        &self,
        place: &Path,
        base: &CommitId,
        branch: &str,
        changes: &BTreeMap<String, Option<BranchFile>>,
        text: &str,
        trailers: &[(String, String)],
    ) -> Result<CommitId> {
        let failed = "the change cannot be committed";
        let repo = open(place)?;
        let mut store = Store::new(&repo)?;
        let mut leaves = BTreeMap::new();
        for (path, file) in changes {
            check_path(path).map_err(|message| Error::new(Code::UnsafePath, message))?;
            let leaf = match file {
                Some(file) => Some(Leaf::file(store.put(ObjectType::Blob, file.bytes.to_vec())?, file.executable)),
                None => None,
            };
            leaves.insert(path.clone(), leaf);
        }
        let base_tree = tree_of(&repo, base)?;
        let changed = tree::splice(&mut store, Some(base_tree), &leaves)?;
        store.flush()?;
        let name = format!("refs/heads/{branch}");
        let tip = match repo.refname_to_id(&name) {
            Ok(tip) => tip,
            Err(_) if changed == base_tree => {
                return Err(Error::new(Code::Refused, "nothing in the checkout differs from what was checked out"));
            }
            Err(_) => oid(base)?,
        };
        let parent = repo.find_commit(tip).context(Code::CheckoutFailed, failed)?;
        if parent.tree_id() == changed {
            return commit_id(parent.id());
        }
        let tree = repo.find_tree(changed).context(Code::CheckoutFailed, failed)?;
        let who = self.signature(&self.shared.options.committer)?;
        let text = message::with_trailers(text, trailers);
        let commit = repo.commit(None, &who, &who, &text, &tree, &[&parent]).context(Code::CheckoutFailed, failed)?;
        repo.reference(&name, commit, true, "skillhook: a run").context(Code::CheckoutFailed, failed)?;
        commit_id(commit)
    }

    /// Adds what the branch has here to the branch there, which is never forced.
    ///
    /// # Errors
    /// SH0512 with what the remote says.
    pub fn push_target(&self, place: &Path, target: &Target, branch: &str, deadline: Duration) -> Result<()> {
        let mut command = self.target_command(place, target);
        command.args(["push", "--porcelain", "--no-verify", "--no-follow-tags", "--", &target.url]);
        command.arg(format!("refs/heads/{branch}:refs/heads/{branch}"));
        let finished = self.run(command, None, deadline)?;
        if finished.succeeded() {
            return Ok(());
        }
        let reason = finished.reason(deadline);
        Err(Error::new(Code::ProposalFailed, format!("the branch `{branch}` cannot be pushed: {reason}")))
    }

    fn target_command(&self, place: &Path, target: &Target) -> Command {
        let mut command = self.bare_command();
        command.env("GIT_DIR", place).env_remove("GH_TOKEN").env_remove("GITHUB_TOKEN").current_dir(place);
        if let Some(header) = authorization(target) {
            command.env("GIT_CONFIG_COUNT", "1");
            command.env("GIT_CONFIG_KEY_0", format!("http.{}.extraHeader", target.url));
            command.env("GIT_CONFIG_VALUE_0", header);
        }
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
    }
}

/// A token goes over the network encrypted, or not at all.
fn authorization(target: &Target) -> Option<String> {
    let token = target.token.as_ref().filter(|token| !token.is_blank())?.expose_text()?;
    let url = url::Url::parse(&target.url).ok()?;
    let here = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    (url.scheme() == "https" || here)
        .then(|| format!("Authorization: Basic {}", STANDARD.encode(format!("{}:{token}", target.user))))
}

/// Which paths of a checkout are made by its programs and not to be kept, by its own `.gitignore` files.
pub struct Ignores(git2::Repository);

impl Ignores {
    /// # Errors
    /// SH0312 when the fetched repository cannot be opened.
    pub fn of(place: &Path, checkout: &Path) -> Result<Self> {
        let repo = open(place)?;
        repo.set_workdir(checkout, false).context(Code::CheckoutFailed, "the checkout cannot be compared")?;
        Ok(Self(repo))
    }

    /// A directory's path ends with a slash.
    pub fn cover(&self, path: &str) -> bool {
        self.0.is_path_ignored(path).unwrap_or(false)
    }
}

/// The id that git gives to a content.
pub(crate) fn blob_id(bytes: &[u8]) -> Result<String> {
    let id = Oid::hash_object(ObjectType::Blob, bytes);
    Ok(id.context(Code::CheckoutFailed, "a file cannot be hashed")?.to_string())
}

fn open(place: &Path) -> Result<git2::Repository> {
    git2::Repository::open_bare(place).context(Code::CheckoutFailed, "the fetched repository cannot be opened")
}

fn oid(commit: &CommitId) -> Result<Oid> {
    Oid::from_str(commit.as_str()).context(Code::Bug, "the id of a commit is none")
}

fn tree_of(repo: &git2::Repository, commit: &CommitId) -> Result<Oid> {
    let found = repo.find_commit(oid(commit)?).context(Code::CheckoutFailed, "the fetched commit cannot be read")?;
    Ok(found.tree_id())
}

fn fits(repo: &git2::Repository, leaf: Leaf, limits: &TargetLimits) -> Result<bool> {
    let unreadable = "a file of the fetched commit cannot be read";
    let odb = repo.odb().context(Code::CheckoutFailed, unreadable)?;
    let (size, _) = odb.read_header(leaf.id).context(Code::CheckoutFailed, unreadable)?;
    Ok(size as u64 <= limits.file_bytes_max)
}

fn leaves(
    store: &Store<'_>,
    tree: Oid,
    wants: &dyn Fn(&str) -> bool,
    limits: &TargetLimits,
) -> Result<Vec<(String, Leaf)>> {
    let (mut found, mut waiting) = (Vec::new(), vec![(String::new(), tree, 0)]);
    while let Some((prefix, tree, depth)) = waiting.pop() {
        for (name, leaf) in tree::entries(store, tree)? {
            let Ok(name) = String::from_utf8(name) else { continue };
            let path = format!("{prefix}{name}");
            if check_path(&path).is_err() || !wants(&path) {
                continue;
            }
            if leaf.is_directory() && depth < PATH_DEPTH_MAX {
                waiting.push((format!("{path}/"), leaf.id, depth + 1));
            } else if leaf.is_file() || leaf.mode == LINK {
                found.push((path, leaf));
            }
            if found.len() > limits.files_max || waiting.len() > limits.files_max {
                let message = format!("the repository of the task has more than {} files", limits.files_max);
                return Err(Error::new(Code::CheckoutFailed, message));
            }
        }
    }
    found.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(found)
}

/// The largest file that a fetch has written.
fn pack_bytes(place: &Path) -> u64 {
    let directory: PathBuf = place.join("objects").join("pack");
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).max().unwrap_or(0)
}
