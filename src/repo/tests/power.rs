//! Simulated power cuts: the repository lies in a file system of its own, in a file; while a victim commits, it is
//! frozen and that file is copied. The copy is what a disk would have held. Needs root for the mount.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::repo::fixture::{Fixture, git, request, revision_of};
use crate::repo::{CommitOutcome, Options, Repository};

const MARK: &str = "victim";
const ROUNDS: usize = 3;
/// Commits before the cut.
const COMMITS: usize = 25;

/// A mounted image; unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn of(image: &Path, at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(image).arg(&at).output().ok()?;
        mounted.status.success().then_some(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn victim_that_tells_each_commit() {
    let here = std::env::current_dir().unwrap();
    if !here.join(MARK).exists() {
        return;
    }
    let repo = Repository::open(&here.join("clone"), Options::default()).unwrap();
    for number in 0.. {
        let all = std::collections::BTreeMap::from([(
            ".claude/skills/a/SKILL.md".to_owned(),
            std::sync::Arc::from(format!("{number}").as_bytes()),
        )]);
        let revision = revision_of(&all);
        repo.write_served(&revision, &|path| all.get(path).cloned()).unwrap();
        if let CommitOutcome::Committed { commit, .. } = repo.commit(&request(&revision)).unwrap() {
            println!("committed {commit}");
        }
    }
}

#[test]
fn a_power_cut_between_commits_loses_none_that_was_told_of() {
    let temp = tempfile::tempdir().unwrap();
    let image = temp.path().join("disk");
    let made = std::fs::File::create(&image).and_then(|file| file.set_len(64 << 20)).is_ok()
        && Command::new("mkfs.ext4").arg("-q").arg(&image).output().is_ok_and(|made| made.status.success());
    let Some(disk) = Mounted::of(&image, temp.path().join("disk.mounted")).filter(|_| made) else {
        println!("no file system can be mounted here: simulated power cuts are passed over");
        return;
    };
    let origin = Fixture::with_history();
    git(&disk.0, &["clone", "-q", origin.root.to_str().unwrap(), "clone"]);
    std::fs::write(disk.0.join(MARK), "").unwrap();
    rustix::fs::sync();
    for round in 0..ROUNDS {
        let mut child: Child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "repo::tests::power::victim_that_tells_each_commit"])
            .current_dir(&disk.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.filter_map(|line| line.unwrap().split("committed ").nth(1).map(str::to_owned));
        let told = told.take(COMMITS + round).last().unwrap();
        let signal = |name: &str| Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
        signal("-STOP");
        let copy = temp.path().join(format!("copy-{round}"));
        std::fs::copy(&image, &copy).unwrap();
        signal("-KILL");
        child.wait().unwrap();
        let after = Mounted::of(&copy, temp.path().join(format!("copy-{round}.mounted"))).unwrap();
        let survived = after.0.join("clone");
        git(&survived, &["fsck", "--strict", "--no-dangling"]);
        git(&survived, &["merge-base", "--is-ancestor", &told, "HEAD"]);
        // And it goes on from there.
        let fixture =
            Fixture { root: survived.clone(), remote: origin.remote.clone(), temp: tempfile::tempdir().unwrap() };
        fixture.write(".claude/skills/a/SKILL.md", "after the cut");
        let outcome = fixture.commit(&fixture.open());
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
        git(&survived, &["fsck", "--strict", "--no-dangling"]);
    }
}
