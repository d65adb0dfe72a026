//! Edits on both sides, fetches, pulls, pushes, restarts and kills in any order: no version is lost, both sides come together,
//! and the remote's history only grows.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::kills::{COMMITS, PULLS, kill_after};
use crate::repo::fixture::{Fixture, git, write};
use crate::repo::{FetchOutcome, PullOutcome, PushOutcome, Repository};

const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The service commits an edit of this skill.
    Ours(u8),
    /// The service commits that this skill is gone.
    OursGone(u8),
    /// Somebody merges an edit of this skill.
    Theirs(u8),
    TheirsGone(u8),
    /// A person commits something else in the service's clone.
    ByHand,
    Fetch,
    Pull,
    Push,
    /// The service dies between two steps.
    Restart,
    /// The service dies so many milliseconds into the commit of an edit of this skill.
    KilledCommit(u8, u8),
    KilledPull(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8).prop_map(Step::Ours),
        1 => (0..3_u8).prop_map(Step::OursGone),
        4 => (0..3_u8).prop_map(Step::Theirs),
        1 => (0..3_u8).prop_map(Step::TheirsGone),
        1 => Just(Step::ByHand),
        3 => Just(Step::Fetch),
        3 => Just(Step::Pull),
        3 => Just(Step::Push),
        1 => Just(Step::Restart),
        1 => (0..3_u8, 0..40_u8).prop_map(|(skill, life)| Step::KilledCommit(skill, life)),
        1 => (0..40_u8).prop_map(Step::KilledPull),
    ]
}

struct World {
    fixture: Fixture,
    repo: Repository,
    /// Contents that were committed by either side.
    written: BTreeSet<String>,
    /// Every tip that the remote's branch had.
    tips: BTreeSet<String>,
    count: u32,
}

impl World {
    fn new() -> Self {
        let fixture = Fixture::with_history();
        let repo = fixture.open();
        repo.push(DEADLINE).unwrap();
        let other = fixture.temp.path().join("other");
        git(fixture.temp.path(), &["clone", "-q", fixture.remote.to_str().unwrap(), other.to_str().unwrap()]);
        git(&other, &["config", "user.name", "Other"]);
        git(&other, &["config", "user.email", "other@example.org"]);
        let tips = BTreeSet::from([git(&fixture.remote, &["rev-parse", "main"])]);
        Self { fixture, repo, written: BTreeSet::new(), tips, count: 0 }
    }

    fn take(&mut self, step: Step) {
        self.count += 1;
        let skill = |number: u8| format!(".claude/skills/s{number}/SKILL.md");
        let text = format!("version {}\n", self.count);
        match step {
            Step::Ours(number) => {
                self.fixture.write(&skill(number), &text);
                self.commit();
            }
            Step::OursGone(number) => {
                let _ = std::fs::remove_dir_all(self.fixture.root.join(".claude/skills").join(format!("s{number}")));
                self.commit();
            }
            Step::Theirs(number) => self.merge(|other| write(other, &skill(number), &text)),
            Step::TheirsGone(number) => self.merge(|other| {
                let _ = std::fs::remove_file(other.join(skill(number)));
            }),
            Step::ByHand => {
                self.fixture.write("by-hand", &text);
                self.fixture.git(&["add", "by-hand"]);
                self.fixture.git(&["commit", "-q", "-m", "by hand", "by-hand"]);
                self.remember(&self.fixture.root.clone());
            }
            Step::Fetch => drop(self.repo.fetch(DEADLINE).unwrap()),
            Step::Pull => drop(self.repo.pull(&BTreeSet::new()).unwrap()),
            Step::Push => drop(self.repo.push(DEADLINE).unwrap()),
            Step::Restart => self.repo = self.fixture.open(),
            Step::KilledCommit(number, life) => {
                self.fixture.write(&skill(number), &text);
                self.killed(COMMITS, life);
                self.commit();
            }
            Step::KilledPull(life) => self.killed(PULLS, life),
        }
        self.check_tips();
    }

    /// Another process of ours dies at it; the next one finishes what that one began to pull, as at every start.
    fn killed(&mut self, at: &str, life: u8) {
        kill_after(&self.fixture, at, Duration::from_millis(life.into()));
        self.repo = self.fixture.open();
        self.repo.pull(&BTreeSet::new()).unwrap();
    }

    fn commit(&mut self) {
        self.fixture.commit(&self.repo);
        self.remember(&self.fixture.root.clone());
    }

    /// As a reviewer's merge: upon whatever the remote has.
    fn merge(&mut self, change: impl FnOnce(&Path)) {
        let other = self.fixture.temp.path().join("other");
        git(&other, &["fetch", "-q"]);
        git(&other, &["reset", "-q", "--hard", "origin/main"]);
        change(&other);
        git(&other, &["add", "-A"]);
        git(&other, &["commit", "-q", "--allow-empty", "-m", "merged"]);
        git(&other, &["push", "-q", "origin", "HEAD:main"]);
        self.remember(&other);
    }

    /// What the newest commit there holds was written.
    fn remember(&mut self, clone: &Path) {
        let listed = git(clone, &["ls-tree", "-r", "--format=%(objectname)", "HEAD"]);
        self.written.extend(listed.lines().map(str::to_owned));
    }

    /// What the remote had, it has.
    fn check_tips(&mut self) {
        let tip = git(&self.fixture.remote, &["rev-parse", "main"]);
        for earlier in &self.tips {
            git(&self.fixture.remote, &["merge-base", "--is-ancestor", earlier, &tip]);
        }
        self.tips.insert(tip);
    }

    fn settle(&mut self) {
        for _ in 0..5 {
            assert!(matches!(self.repo.fetch(DEADLINE).unwrap(), FetchOutcome::Fetched { .. }));
            let pulled = self.repo.pull(&BTreeSet::new()).unwrap();
            assert!(matches!(pulled, PullOutcome::Applied { .. } | PullOutcome::UpToDate), "{pulled:?}");
            let pushed = self.repo.push(DEADLINE).unwrap();
            assert!(matches!(pushed, PushOutcome::Pushed { .. } | PushOutcome::UpToDate), "{pushed:?}");
        }
        assert_eq!(self.repo.push_conflicts(DEADLINE).unwrap(), None);
        self.check_tips();
    }
}

proptest! {
    #![proptest_config(Config { cases: 12, max_shrink_iters: 40, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_version_is_lost_and_both_sides_come_together(steps in prop::collection::vec(step(), 4..16)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        // A person resolves what only a person may.
        if let PullOutcome::Diverged { .. } = { world.repo.fetch(DEADLINE).unwrap(); world.repo.pull(&BTreeSet::new()).unwrap() } {
            world.fixture.git(&["merge", "-q", "--no-edit", "-s", "ours", "origin/main"]);
        }
        world.settle();
        let fixture = &world.fixture;
        assert_eq!(fixture.git(&["rev-parse", "HEAD"]), git(&fixture.remote, &["rev-parse", "main"]));
        assert_eq!(fixture.git(&["status", "--porcelain"]), "");
        let reachable = git(&fixture.remote, &["rev-list", "--all", "--objects", "--no-object-names"]);
        let reachable: BTreeSet<&str> = reachable.lines().collect();
        for blob in &world.written {
            prop_assert!(reachable.contains(blob.as_str()), "{} is lost", blob);
        }
        fixture.fsck();
        git(&fixture.remote, &["fsck", "--strict", "--no-dangling"]);
    }
}
