//! Kill -9 in the middle of commits and pulls. The victim is this very test program, started again for one test; it
//! knows that it is the victim by a file in its working directory.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::repo::fixture::{Fixture, commit, git, request, revision_of, write};
use crate::repo::{CommitOutcome, FetchOutcome, Options, PullOutcome, Repository};

const MARK: &str = "victim";
const DEADLINE: Duration = Duration::from_secs(60);

pub(super) const COMMITS: &str = "victim_that_commits_the_tree";
pub(super) const PULLS: &str = "victim_that_pulls";

/// Starts the victim and kills it as soon as it has begun and then lived for `life` more.
pub(super) fn kill_after(fixture: &Fixture, victim: &str, life: Duration) {
    std::fs::write(fixture.temp.path().join(MARK), "").unwrap();
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", &format!("repo::tests::kills::{victim}")])
        .current_dir(fixture.temp.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"begun") && output.read(&mut byte).unwrap() == 1 {
        said.extend_from_slice(&byte);
    }
    let (never, wait) = std::sync::mpsc::sync_channel::<()>(1);
    wait.recv_timeout(life).unwrap_err();
    drop(never);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn victims_clone() -> Option<std::path::PathBuf> {
    let here = std::env::current_dir().unwrap();
    here.join(MARK).exists().then(|| here.join("clone"))
}

#[test]
fn victim_that_commits() {
    let Some(root) = victims_clone() else { return };
    let repo = Repository::open(&root, Options::default()).unwrap();
    println!("begun");
    for number in 0.. {
        let all = std::collections::BTreeMap::from([
            (".claude/skills/a/SKILL.md".to_owned(), std::sync::Arc::from(format!("{number}").as_bytes())),
            (".claude/agents/brain.md".to_owned(), std::sync::Arc::from(b"brain".as_slice())),
        ]);
        let revision = revision_of(&all);
        repo.write_served(&revision, &|path| all.get(path).cloned()).unwrap();
        repo.commit(&request(&revision)).unwrap();
        repo.prune_served(&[]).unwrap();
    }
}

#[test]
fn victim_that_commits_the_tree() {
    let Some(root) = victims_clone() else { return };
    let repo = Repository::open(&root, Options::default()).unwrap();
    println!("begun");
    commit(&root, &repo);
    wait_to_be_killed();
}

#[test]
fn victim_that_pulls() {
    let Some(root) = victims_clone() else { return };
    let repo = Repository::open(&root, Options::default()).unwrap();
    println!("begun");
    repo.pull(&BTreeSet::new()).unwrap();
    wait_to_be_killed();
}

fn wait_to_be_killed() {
    loop {
        std::thread::park();
    }
}

#[test]
fn a_kill_while_committing_leaves_nothing_broken_or_locked() {
    let fixture = Fixture::with_history();
    for round in 0..10 {
        kill_after(&fixture, "victim_that_commits", Duration::from_millis(20 + 7 * round));
        fixture.write(".claude/skills/a/SKILL.md", &format!("after round {round}"));
        let repo = fixture.open();
        let outcome = fixture.commit(&repo);
        assert!(matches!(outcome, CommitOutcome::Committed { .. }), "round {round}: {outcome:?}");
        assert_eq!(fixture.git(&["status", "--porcelain"]), "", "round {round}");
        fixture.fsck();
    }
}

#[test]
fn a_kill_while_pulling_leaves_a_pull_that_can_be_finished() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    repo.push(DEADLINE).unwrap();
    for round in 0..6_u64 {
        fixture.push_from_elsewhere(|other| {
            for number in 0..400 {
                write(other, &format!(".claude/skills/s{number}/SKILL.md"), &format!("{number} in round {round}"));
            }
        });
        assert!(matches!(repo.fetch(DEADLINE).unwrap(), FetchOutcome::Fetched { .. }));
        kill_after(&fixture, PULLS, Duration::from_millis(5 + 15 * round));
        let outcome = fixture.open().pull(&BTreeSet::new()).unwrap();
        assert!(matches!(outcome, PullOutcome::Applied { .. } | PullOutcome::UpToDate), "round {round}: {outcome:?}");
        assert_eq!(fixture.git(&["status", "--porcelain"]), "", "round {round}");
        assert_eq!(fixture.git(&["rev-parse", "HEAD"]), git(&fixture.remote, &["rev-parse", "main"]));
        assert_eq!(fixture.commit(&repo), CommitOutcome::Unchanged);
        fixture.fsck();
    }
}

#[test]
fn a_kill_while_replaying_loses_neither_side() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    repo.push(DEADLINE).unwrap();
    for round in 0..6_u64 {
        let ours = |number: u64| format!("ours {number} in round {round}");
        for number in 0..12 {
            fixture.write(&format!(".claude/skills/ours{number}/SKILL.md"), &ours(number));
            assert!(matches!(fixture.commit(&repo), CommitOutcome::Committed { .. }));
        }
        fixture.push_from_elsewhere(|other| {
            for number in 0..100 {
                write(other, &format!(".claude/skills/theirs{number}/SKILL.md"), &format!("{number} in round {round}"));
            }
        });
        let theirs = git(&fixture.remote, &["rev-parse", "main"]);
        assert!(matches!(repo.fetch(DEADLINE).unwrap(), FetchOutcome::Fetched { .. }));
        kill_after(&fixture, PULLS, Duration::from_millis(2 + 9 * round));
        let repo = fixture.open();
        let outcome = repo.pull(&BTreeSet::new()).unwrap();
        assert!(matches!(outcome, PullOutcome::Applied { .. } | PullOutcome::UpToDate), "round {round}: {outcome:?}");
        assert_eq!(fixture.git(&["status", "--porcelain"]), "", "round {round}");
        fixture.git(&["merge-base", "--is-ancestor", &theirs, "HEAD"]);
        for number in 0..12 {
            assert_eq!(fixture.read(&format!(".claude/skills/ours{number}/SKILL.md")), ours(number));
        }
        repo.push(DEADLINE).unwrap();
        assert_eq!(fixture.git(&["rev-parse", "HEAD"]), git(&fixture.remote, &["rev-parse", "main"]));
        fixture.fsck();
    }
}
