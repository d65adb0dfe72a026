//! Real repositories in temporary directories, driven by the real `git` program.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::{CommitOutcome, CommitRequest, Options, Repository};
use crate::model::digest::Digest;
use crate::model::revision::{FileRef, Revision};

/// A clone with a bare remote beside it.
pub(crate) struct Fixture {
    pub(crate) temp: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) remote: PathBuf,
}

impl Fixture {
    /// An empty repository on the branch `main`, with an empty bare `origin`.
    pub(crate) fn empty() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let (root, remote) = (temp.path().join("clone"), temp.path().join("remote.git"));
        let fixture = Self { temp, root, remote };
        std::fs::create_dir(&fixture.root).unwrap();
        git(fixture.temp.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        fixture.git(&["init", "-q", "-b", "main"]);
        fixture.git(&["config", "user.name", "Person"]);
        fixture.git(&["config", "user.email", "person@example.org"]);
        fixture.git(&["remote", "add", "origin", fixture.remote.to_str().unwrap()]);
        fixture
    }

    /// The same with one commit: a skill, an agent, and files that are not ours.
    pub(crate) fn with_history() -> Self {
        let fixture = Self::empty();
        for (path, content) in [
            (".claude/skills/a/SKILL.md", "a1"),
            (".claude/agents/brain.md", "brain"),
            ("README.md", "read me"),
            ("src/x", "x"),
        ] {
            fixture.write(path, content);
        }
        fixture.git(&["add", "-A"]);
        fixture.git(&["commit", "-q", "-m", "first"]);
        fixture
    }

    pub(crate) fn open(&self) -> Repository {
        self.open_with(Options::default())
    }

    pub(crate) fn open_with(&self, options: Options) -> Repository {
        Repository::open(&self.root, options).unwrap()
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.root, arguments)
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        write(&self.root, path, content);
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap()
    }

    /// Another clone of the remote, with a commit of its own that is pushed.
    pub(crate) fn push_from_elsewhere(&self, change: impl FnOnce(&Path)) {
        let other = self.temp.path().join(super::beneath::fresh_name("other-"));
        git(self.temp.path(), &["clone", "-q", self.remote.to_str().unwrap(), other.to_str().unwrap()]);
        git(&other, &["config", "user.name", "Other"]);
        git(&other, &["config", "user.email", "other@example.org"]);
        change(&other);
        git(&other, &["add", "-A"]);
        git(&other, &["commit", "-q", "--allow-empty", "-m", "elsewhere"]);
        git(&other, &["push", "-q", "origin", "HEAD:main"]);
    }

    /// The revision of what lies below `.claude` now, and its contents.
    pub(crate) fn snapshot(&self) -> (Revision, BTreeMap<String, Arc<[u8]>>) {
        snapshot(&self.root)
    }

    /// Writes the served tree of what lies there now and commits it.
    pub(crate) fn commit(&self, repo: &Repository) -> CommitOutcome {
        commit(&self.root, repo)
    }

    /// Nothing is broken, dangling objects aside.
    pub(crate) fn fsck(&self) {
        self.git(&["fsck", "--strict", "--no-dangling"]);
    }
}

fn snapshot(root: &Path) -> (Revision, BTreeMap<String, Arc<[u8]>>) {
    let mut contents: BTreeMap<String, Arc<[u8]>> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root.join(".claude")).into_iter().filter_map(Result::ok) {
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            contents.insert(path, std::fs::read(entry.path()).unwrap().into());
        }
    }
    let files = contents.iter().map(|(path, bytes)| {
        let executable = root.join(path).metadata().unwrap().permissions().mode() & 0o100 != 0;
        (path.clone(), FileRef { digest: Digest::of(bytes), executable })
    });
    (Revision::of(files.collect()), contents)
}

pub(crate) fn commit(root: &Path, repo: &Repository) -> CommitOutcome {
    let (revision, contents) = snapshot(root);
    repo.write_served(&revision, &|path| contents.get(path).cloned()).unwrap();
    repo.commit(&request(&revision)).unwrap()
}

pub(crate) fn request(revision: &Revision) -> CommitRequest<'_> {
    static NOTHING: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    CommitRequest {
        revision,
        upon: None,
        held: &NOTHING,
        only: None,
        message: &|_| "update skill a".to_owned(),
        trailers: vec![("Skillhook-Origin".to_owned(), "file".to_owned())],
        author: None,
    }
}

pub(crate) fn revision_of(contents: &BTreeMap<String, Arc<[u8]>>) -> Revision {
    let file = |bytes: &Arc<[u8]>| FileRef { digest: Digest::of(bytes), executable: false };
    Revision::of(contents.iter().map(|(path, bytes)| (path.clone(), file(bytes))).collect())
}

pub(crate) fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Runs git away from the configuration of whoever runs the tests; a failure fails the test.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(directory)
        // No collection in the background: it would be a git process near the repository.
        .args(["-c", "maintenance.auto=false", "-c", "gc.auto=0"])
        .args(arguments)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("LC_ALL", "C")])
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
