use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::repo::fixture::Fixture;
use crate::repo::{CommitOutcome, HeldReason, Options, Repository};

fn lock(fixture: &Fixture, name: &str, age: Duration) {
    let path = fixture.root.join(".git").join(name);
    let file = File::create(&path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

fn is_committed(outcome: &CommitOutcome) -> bool {
    matches!(outcome, CommitOutcome::Committed { .. })
}

fn change(fixture: &Fixture, repo: &Repository, content: &str) -> CommitOutcome {
    fixture.write(".claude/skills/a/SKILL.md", content);
    fixture.commit(repo)
}

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn a_live_lock_is_respected_and_a_stale_one_removed() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    for (name, reason) in [
        ("index.lock", HeldReason::IndexLocked),
        ("HEAD.lock", HeldReason::RefLocked),
        ("refs/heads/main.lock", HeldReason::RefLocked),
        ("packed-refs.lock", HeldReason::RefLocked),
    ] {
        lock(&fixture, name, Duration::ZERO);
        assert_eq!(change(&fixture, &repo, name), CommitOutcome::Held { reason, paths: Vec::new() });
        assert!(fixture.root.join(".git").join(name).exists(), "{name}");
        lock(&fixture, name, HOUR);
        let outcome = change(&fixture, &repo, name);
        assert!(is_committed(&outcome), "{name}: {outcome:?}");
        assert!(!fixture.root.join(".git").join(name).exists(), "{name}");
        assert!(repo.status().unwrap().notes.iter().any(|note| note.contains(name)), "{name}");
    }
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    fixture.fsck();
}

#[test]
fn an_old_lock_is_live_while_a_git_process_is_near() {
    let fixture = Fixture::with_history();
    // Not an hour: the machine may have started since, and then no owner can be alive.
    let repo = fixture.open_with(Options { lock_stale_after: Duration::from_secs(2), ..Options::default() });
    let mut git = std::process::Command::new("git")
        .current_dir(&fixture.root)
        .args(["cat-file", "--batch"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    lock(&fixture, "index.lock", Duration::from_secs(5));
    let outcome = change(&fixture, &repo, "a2");
    git.kill().unwrap();
    git.wait().unwrap();
    assert_eq!(outcome, CommitOutcome::Held { reason: HeldReason::IndexLocked, paths: Vec::new() });
    let outcome = change(&fixture, &repo, "a2");
    assert!(is_committed(&outcome), "{outcome:?}");
}

#[test]
fn locks_of_our_own_crash_are_removed_at_once() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    // What a kill in the middle of a commit leaves: our record, and git's locks beside it.
    std::fs::write(fixture.root.join(".git/skillhook/holding"), "4711").unwrap();
    lock(&fixture, "index.lock", Duration::ZERO);
    lock(&fixture, "refs/heads/main.lock", Duration::ZERO);
    assert!(is_committed(&change(&fixture, &repo, "a2")));
    assert!(!fixture.root.join(".git/skillhook/holding").exists());
}

#[test]
fn entries_that_our_own_crash_left_staged_are_not_a_persons() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let before = fixture.git(&["rev-parse", "HEAD"]);
    assert!(is_committed(&change(&fixture, &repo, "a2")));
    // As after a kill between the index and the branch.
    let ours = fixture.git(&["rev-parse", "HEAD"]);
    fixture.git(&["update-ref", "refs/heads/main", &before]);
    fixture.write(".claude/skills/a/SKILL.md", "edited since");
    let unexplained = fixture.commit(&repo);
    assert!(matches!(unexplained, CommitOutcome::Held { reason: HeldReason::StagedByUser, .. }), "{unexplained:?}");
    std::fs::write(fixture.root.join(".git/skillhook/staging"), format!("{ours}\n")).unwrap();
    assert!(is_committed(&fixture.commit(&repo)));
    assert!(!fixture.root.join(".git/skillhook/staging").exists());
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}

#[test]
fn another_skillhook_process_goes_first() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let file = File::options().create(true).append(true).open(fixture.root.join(".git/skillhook/lock")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let outcome = change(&fixture, &repo, "a2");
    assert_eq!(outcome, CommitOutcome::Held { reason: HeldReason::Busy, paths: Vec::new() });
    drop(file);
    assert!(is_committed(&change(&fixture, &repo, "a2")));
}

#[test]
fn a_torn_index_is_made_anew_from_head() {
    for garbage in [b"".as_slice(), b"garbage", &[0; 4_000]] {
        let fixture = Fixture::with_history();
        let repo = fixture.open();
        std::fs::write(fixture.root.join(".git/index"), garbage).unwrap();
        assert!(is_committed(&change(&fixture, &repo, "a2")));
        assert_eq!(fixture.git(&["status", "--porcelain"]), "");
        fixture.fsck();
    }
}

fn tear(fixture: &Fixture, object: &str) {
    let name = fixture.git(&["rev-parse", object]);
    let path = fixture.root.join(".git/objects").join(&name[..2]).join(&name[2..]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
}

#[test]
fn a_torn_tip_is_replaced_by_the_newest_whole_commit_and_no_edit_is_lost() {
    for what in ["HEAD", "HEAD^{tree}", "HEAD:.claude/skills"] {
        let fixture = Fixture::with_history();
        fixture.write(".claude/skills/a/SKILL.md", "in the torn commit");
        fixture.git(&["commit", "-q", "-am", "torn"]);
        tear(&fixture, what);
        let repo = fixture.open();
        let outcome = fixture.commit(&repo);
        // A torn tree of ours is whole again as soon as the same tree is served.
        assert_eq!(is_committed(&outcome), what != "HEAD:.claude/skills", "{what}");
        assert_eq!(fixture.git(&["show", "HEAD:.claude/skills/a/SKILL.md"]), "in the torn commit");
        assert_eq!(fixture.git(&["rev-list", "--count", "HEAD"]), "2");
        let noted = repo.status().unwrap().notes.iter().any(|note| note.contains("was damaged"));
        assert_eq!(noted, is_committed(&outcome));
        fixture.fsck();
    }
}

#[test]
fn a_torn_tree_deep_below_is_found_when_it_is_needed() {
    let fixture = Fixture::with_history();
    fixture.write(".claude/skills/a/SKILL.md", "in the torn commit");
    fixture.git(&["commit", "-q", "-am", "torn"]);
    tear(&fixture, "HEAD:.claude/skills/a");
    let repo = fixture.open();
    assert!(is_committed(&change(&fixture, &repo, "newer")));
    assert_eq!(fixture.git(&["log", "--format=%s"]), "update skill a\nfirst");
    assert_eq!(fixture.git(&["show", "HEAD:.claude/skills/a/SKILL.md"]), "newer");
    // What only the lost commit had is garbage, and broken until it is collected.
    fixture.git(&["gc", "-q", "--prune=now"]);
    fixture.fsck();
}

#[test]
fn a_torn_ref_of_the_branch_is_restored() {
    let fixture = Fixture::with_history();
    std::fs::write(fixture.root.join(".git/refs/heads/main"), "").unwrap();
    let repo = Repository::open(&fixture.root, Options::default()).unwrap();
    assert!(is_committed(&change(&fixture, &repo, "a2")));
    assert_eq!(fixture.git(&["log", "--format=%s"]), "update skill a\nfirst");
    fixture.fsck();
}

#[test]
fn objects_refs_and_index_are_brought_to_disk() {
    // The setting that makes libgit2 fsync is ours, on top of every other, and not in the clone's own configuration.
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let handle = repo.handle().unwrap();
    let config = handle.config().unwrap();
    assert!(config.get_bool("core.fsyncObjectFiles").unwrap());
    let own = std::fs::read_to_string(fixture.root.join(".git/config")).unwrap();
    assert!(!own.contains("fsync"));
    assert!(Path::new(&fixture.root.join(".git/skillhook/config")).exists());
}
