//! The history for copies elsewhere: which commits came since, what each holds, and bundles of them; and the way back,
//! from bundles or a remote into a fresh repository. The history itself is never changed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use git2::{ObjectType, Oid};

use super::objects::Store;
use super::program::presentable;
use super::{Repository, tree};
use crate::error::{Code, Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::revision::{CommitId, check_path, is_committed};

/// Files that a copy holds are not larger, in bytes: no file of a skill is valid at that size.
const BYTES_MAX: usize = 1024 * 1024;
/// Beside the committed directories a copy holds the settings, where they are committed.
const SETTINGS: &str = "skillhook.toml";
/// The trailer with which a commit of ours names its index.
const INDEX_TRAILER: &str = "Skillhook-Index: ";
/// What bundles name their commit by, and what keeps git from collecting it meanwhile.
const COPIED: &str = "refs/skillhook/copied";

/// A file as a commit has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Git's name of its content.
    pub blob: String,
    pub executable: bool,
}

/// How another commit stands to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Same,
    /// The other is an ancestor of ours.
    Ahead,
    /// Ours is an ancestor of the other.
    Behind,
    /// Each has something that the other has not.
    Diverged,
    /// The other commit is not here.
    Unknown,
}

impl Repository {
    /// What stands before root-relative paths in git's paths: empty, or ending with a slash.
    pub fn prefix(&self) -> &str {
        &self.shared.place.prefix
    }

    /// How `other` stands to `ours`, which must be here.
    pub fn relation(&self, ours: &CommitId, other: &CommitId) -> Result<Relation> {
        if ours == other {
            return Ok(Relation::Same);
        }
        let repo = self.handle()?;
        let (ours, other) = (oid(ours)?, oid(other)?);
        if repo.find_commit(other).is_err() {
            return Ok(Relation::Unknown);
        }
        let failed = "the history cannot be compared";
        if repo.graph_descendant_of(ours, other).context(Code::GitFailed, failed)? {
            return Ok(Relation::Ahead);
        }
        let behind = repo.graph_descendant_of(other, ours).context(Code::GitFailed, failed)?;
        Ok(if behind { Relation::Behind } else { Relation::Diverged })
    }

    /// The newest commits along first parents up to `tip`, oldest first: those that `base` does not reach, at most
    /// `max`.
    pub fn commits_since(&self, tip: &CommitId, base: Option<&CommitId>, max: usize) -> Result<Vec<CommitId>> {
        let failed = "the history cannot be read";
        let repo = self.handle()?;
        let mut walk = repo.revwalk().context(Code::GitFailed, failed)?;
        walk.push(oid(tip)?).context(Code::GitFailed, failed)?;
        walk.simplify_first_parent().context(Code::GitFailed, failed)?;
        if let Some(base) = base {
            walk.hide(oid(base)?).context(Code::GitFailed, failed)?;
        }
        // Shallow and damaged histories simply end.
        let newest = walk.take(max).map_while(std::result::Result::ok);
        let mut commits = newest.map(super::commit_id).collect::<Result<Vec<_>>>()?;
        commits.reverse();
        Ok(commits)
    }

    /// The plain files below the committed directories at a commit, and the settings, by root-relative path.
    pub fn committed_files(&self, commit: &CommitId) -> Result<BTreeMap<String, Committed>> {
        let repo = self.handle()?;
        let store = Store::new(&repo)?;
        let commit = repo.find_commit(oid(commit)?).context(Code::GitFailed, "the commit cannot be read")?;
        let mut files = BTreeMap::new();
        let prefix = self.prefix();
        let mut take = |path: String, leaf: tree::Leaf| {
            let (blob, executable) = (leaf.id.to_string(), leaf.is_executable());
            if leaf.is_file() && check_path(&path).is_ok() {
                files.insert(path, Committed { blob, executable });
            }
        };
        if let Some(leaf) = tree::find(&store, commit.tree_id(), &format!("{prefix}{SETTINGS}"))? {
            take(SETTINGS.to_owned(), leaf);
        }
        let top = tree::find(&store, commit.tree_id(), &format!("{prefix}.claude"))?;
        if let Some(top) = top.filter(|leaf| leaf.is_directory()) {
            for (path, leaf) in tree::flatten(&store, top.id)? {
                let path = format!(".claude/{path}");
                if is_committed(&path) {
                    take(path, leaf);
                }
            }
        }
        Ok(files)
    }

    /// The content of a blob; `None` when it is larger than a file of a skill may be.
    pub fn blob(&self, blob: &str) -> Result<Option<Vec<u8>>> {
        let repo = self.handle()?;
        let store = Store::new(&repo)?;
        let id = Oid::from_str(blob).context(Code::GitFailed, "the name of a git object is none")?;
        if !store.fits(id)? {
            return Ok(None);
        }
        let bytes = store.read(id, ObjectType::Blob)?;
        Ok(Some(bytes).filter(|bytes| bytes.len() <= BYTES_MAX))
    }

    /// The index that a commit of ours says it makes.
    pub fn index_of(&self, commit: &CommitId) -> Result<Option<Digest>> {
        let repo = self.handle()?;
        let commit = repo.find_commit(oid(commit)?).context(Code::GitFailed, "the commit cannot be read")?;
        let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        let named = message.lines().rev().find_map(|line| line.strip_prefix(INDEX_TRAILER));
        Ok(named.and_then(|digest| Digest::parse(digest.trim()).ok()))
    }

    /// Writes a bundle of everything that `tip` reaches and `base` does not. `name` tells copies apart.
    ///
    /// # Errors
    /// SH0503 with what git says.
    pub fn bundle(
        &self,
        name: &str,
        tip: &CommitId,
        base: Option<&CommitId>,
        file: &Path,
        deadline: Duration,
    ) -> Result<()> {
        let reference = format!("{COPIED}/{name}");
        let target = oid(tip)?;
        {
            let repo = self.handle()?;
            let log = "skillhook: bundled for a copy";
            repo.reference(&reference, target, true, log).context(Code::GitFailed, "a ref cannot be written")?;
        }
        let file = utf8(file)?;
        let exclude = base.map(|base| format!("^{base}"));
        let mut arguments = vec!["bundle", "create", "--quiet", file, reference.as_str()];
        arguments.extend(exclude.as_deref());
        self.expect_git(&arguments, deadline)
    }

    /// Takes the objects of a bundle in; its prerequisites must be here.
    ///
    /// # Errors
    /// SH0503 with what git says.
    pub fn take_bundle(&self, file: &Path, deadline: Duration) -> Result<()> {
        let refs = format!("+{COPIED}/*:{COPIED}/*");
        self.expect_git(&["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", utf8(file)?, &refs], deadline)
    }

    /// Checks a commit out as a branch in a work tree that has nothing of its own yet.
    ///
    /// # Errors
    /// SH0503 with what git says.
    pub fn begin_branch(&self, branch: &str, commit: &CommitId, deadline: Duration) -> Result<()> {
        self.expect_git(&["checkout", "--quiet", "--force", "-B", branch, commit.as_str()], deadline)?;
        let repo = self.handle()?;
        let copied = repo.references_glob(&format!("{COPIED}/*")).context(Code::GitFailed, "refs cannot be read")?;
        for mut reference in copied.flatten() {
            reference.delete().context(Code::GitFailed, "a ref cannot be removed")?;
        }
        Ok(())
    }

    /// Fetches a remote into this fresh repository as `origin` and checks its main branch out; answers the commit.
    ///
    /// # Errors
    /// SH0505 when the remote does not answer, SH0901 when it has no commit.
    pub fn begin_from_remote(&self, url: &str, deadline: Duration) -> Result<CommitId> {
        // Not through our own handle, whose settings are kept apart from the clone's.
        let plain = git2::Repository::open(self.root());
        plain
            .and_then(|repo| repo.remote("origin", url).map(drop))
            .context(Code::GitFailed, "the remote cannot be set up")?;
        let away = |error: Error| Error::new(Code::RemoteUnavailable, error.message().to_owned());
        self.expect_git(&["fetch", "--quiet", "origin"], deadline).map_err(away)?;
        self.expect_git(&["remote", "set-head", "origin", "--auto"], deadline).map_err(|error| {
            Error::new(Code::NotFound, "the remote has no branch that it calls its main one").detail(error.internal())
        })?;
        let (commit, branch) = {
            let repo = self.handle()?;
            let failed = "the main branch of the remote cannot be read";
            let head = repo.find_reference("refs/remotes/origin/HEAD").context(Code::GitFailed, failed)?;
            let name = head.symbolic_target().ok().flatten().map(str::to_owned).unwrap_or_default();
            let target = head.resolve().context(Code::GitFailed, failed)?.target();
            let target = target.ok_or_else(|| Error::new(Code::GitFailed, failed))?;
            let branch = name.strip_prefix("refs/remotes/origin/").unwrap_or("main").to_owned();
            (super::commit_id(target)?, branch)
        };
        let upstream = format!("origin/{branch}");
        self.expect_git(&["checkout", "--quiet", "--force", "-B", &branch, "--track", &upstream], deadline)?;
        Ok(commit)
    }

    fn expect_git(&self, arguments: &[&str], deadline: Duration) -> Result<()> {
        let finished = self.run_git(arguments, deadline)?;
        if finished.succeeded() {
            return Ok(());
        }
        let verb = arguments.first().copied().unwrap_or_default();
        Err(Error::new(Code::GitFailed, format!("git {verb}: {}", presentable(&finished.reason(deadline)))))
    }
}

fn oid(commit: &CommitId) -> Result<Oid> {
    Oid::from_str(commit.as_str()).context(Code::GitFailed, "the name of a commit is none")
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::new(Code::GitFailed, "a path is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::Options;
    use crate::repo::fixture::Fixture;

    const SOON: Duration = Duration::from_secs(30);

    fn head(repository: &Repository) -> CommitId {
        repository.head().unwrap().unwrap()
    }

    #[test]
    fn bundles_carry_the_whole_history_to_an_empty_directory() {
        let fixture = Fixture::with_history();
        let repository = fixture.open();
        let first = head(&repository);
        fixture.write(".claude/skills/a/SKILL.md", "a2");
        fixture.git(&["commit", "-qam", "second\n\nSkillhook-Index: nonsense"]);
        let second = head(&repository);
        let (one, two) = (fixture.temp.path().join("one"), fixture.temp.path().join("two"));
        repository.bundle("x", &first, None, &one, SOON).unwrap();
        repository.bundle("x", &second, Some(&first), &two, SOON).unwrap();
        let target = fixture.temp.path().join("target");
        assert!(Repository::init(&target).unwrap());
        let environment = std::env::vars_os().collect();
        let restored = Repository::open(&target, Options { environment, ..Options::default() }).unwrap();
        restored.take_bundle(&two, SOON).unwrap_err();
        restored.take_bundle(&one, SOON).unwrap();
        restored.take_bundle(&two, SOON).unwrap();
        restored.begin_branch("main", &second, SOON).unwrap();
        assert_eq!(head(&restored), second);
        assert_eq!(restored.commits_since(&second, None, 9).unwrap(), [first.clone(), second.clone()]);
        assert_eq!(restored.commits_since(&second, Some(&first), 9).unwrap(), std::slice::from_ref(&second));
        assert_eq!(std::fs::read_to_string(target.join("src/x")).unwrap(), "x");
        assert_eq!(restored.relation(&second, &first).unwrap(), Relation::Ahead);
        assert_eq!(restored.relation(&first, &second).unwrap(), Relation::Behind);
        assert_eq!(restored.index_of(&second).unwrap(), None);
    }

    #[test]
    fn a_commit_lists_its_files_and_its_settings() {
        let fixture = Fixture::with_history();
        fixture.write("skillhook.toml", "[server]\n");
        fixture.git(&["add", "-A"]);
        fixture.git(&["commit", "-qm", "settings"]);
        let repository = fixture.open();
        let files = repository.committed_files(&head(&repository)).unwrap();
        let paths: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(paths, [".claude/agents/brain.md", ".claude/skills/a/SKILL.md", "skillhook.toml"]);
        let settings = repository.blob(&files["skillhook.toml"].blob).unwrap();
        assert_eq!(settings.as_deref(), Some(b"[server]\n".as_slice()));
        let nowhere = CommitId::parse(&"1".repeat(40)).unwrap();
        assert_eq!(repository.relation(&head(&repository), &nowhere).unwrap(), Relation::Unknown);
    }
}
