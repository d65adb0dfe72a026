//! Changes on both sides: who gives way, what is kept, and that the remote's history is only built upon.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::repo::fixture::{Fixture, git, write};
use crate::repo::{
    CommitOutcome, Conflict, FetchOutcome, HeldReason, Move, PullOutcome, PushOutcome, Refusal, Repository,
};

const DEADLINE: Duration = Duration::from_secs(30);
const SKILL: &str = ".claude/skills/a/SKILL.md";

fn level() -> (Fixture, Repository) {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    repo.push(DEADLINE).unwrap();
    (fixture, repo)
}

fn edit(fixture: &Fixture, repo: &Repository, path: &str, text: &str) {
    fixture.write(path, text);
    let outcome = fixture.commit(repo);
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
}

fn pull(repo: &Repository) -> PullOutcome {
    assert!(matches!(repo.fetch(DEADLINE).unwrap(), FetchOutcome::Fetched { .. }));
    repo.pull(&BTreeSet::new()).unwrap()
}

/// How it went, and what gave way.
fn applied(outcome: PullOutcome) -> (Move, Option<Conflict>) {
    match outcome {
        PullOutcome::Applied { how, conflict, .. } => (how, conflict),
        other => panic!("{other:?}"),
    }
}

fn remote(fixture: &Fixture, revision: &str) -> String {
    git(&fixture.remote, &["rev-parse", revision])
}

/// Both sides have the same, nothing is pending, nothing is broken.
fn assert_converged(fixture: &Fixture, repo: &Repository) {
    assert!(matches!(repo.push(DEADLINE).unwrap(), PushOutcome::Pushed { .. } | PushOutcome::UpToDate));
    assert_eq!(fixture.git(&["rev-parse", "HEAD"]), remote(fixture, "main"));
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    assert_eq!(pull(repo), PullOutcome::UpToDate);
    fixture.fsck();
    git(&fixture.remote, &["fsck", "--strict", "--no-dangling"]);
}

#[test]
fn our_commits_go_upon_the_remotes_and_nothing_of_the_remote_is_rewritten() {
    let (fixture, repo) = level();
    fixture.push_from_elsewhere(|other| write(other, "README.md", "theirs"));
    let theirs = remote(&fixture, "main");
    edit(&fixture, &repo, SKILL, "ours");
    edit(&fixture, &repo, ".claude/skills/b/SKILL.md", "ours too");
    fixture.write("notes", "a person's, not committed");
    let refused = repo.push(DEADLINE).unwrap();
    assert!(matches!(refused, PushOutcome::Rejected { refusal: Refusal::NonFastForward, .. }), "{refused:?}");
    assert_eq!(applied(pull(&repo)), (Move::Replayed { commits: 2 }, None));
    assert_eq!((fixture.read("README.md"), fixture.read(SKILL)), ("theirs".to_owned(), "ours".to_owned()));
    assert_eq!(fixture.git(&["log", "--format=%s", "-3"]), "update skill a\nupdate skill a\nelsewhere");
    assert_eq!(fixture.git(&["status", "--porcelain"]), "?? notes");
    std::fs::remove_file(fixture.root.join("notes")).unwrap();
    assert_converged(&fixture, &repo);
    git(&fixture.remote, &["merge-base", "--is-ancestor", &theirs, "main"]);
}

#[test]
fn in_a_conflict_the_remotes_version_is_in_force_and_ours_is_on_a_branch() {
    let (fixture, repo) = level();
    fixture.push_from_elsewhere(|other| write(other, SKILL, "theirs"));
    edit(&fixture, &repo, SKILL, "ours");
    edit(&fixture, &repo, ".claude/agents/brain.md", "ours");
    let ours = fixture.git(&["rev-parse", "HEAD"]);
    let (how, conflict) = applied(pull(&repo));
    let conflict = conflict.unwrap();
    assert_eq!((how, conflict.paths), (Move::Replayed { commits: 1 }, vec![SKILL.to_owned()]));
    assert_eq!((fixture.read(SKILL), fixture.read(".claude/agents/brain.md")), ("theirs".into(), "ours".into()));
    assert_eq!(fixture.git(&["rev-parse", &conflict.branch]), ours);
    let shown = repo.status().unwrap().conflicts;
    assert_eq!((shown.len(), shown[0].branch.as_str(), shown[0].pushed), (1, conflict.branch.as_str(), false));
    assert_eq!(repo.push_conflicts(DEADLINE).unwrap(), None);
    assert_eq!(remote(&fixture, &conflict.branch), ours);
    assert!(repo.status().unwrap().conflicts[0].pushed);
    // Whoever deletes it on the remote is done with it.
    git(&fixture.remote, &["branch", "-q", "-D", &conflict.branch]);
    assert_eq!(repo.push_conflicts(DEADLINE).unwrap(), None);
    assert_eq!(git(&fixture.remote, &["branch", "--list", "skillhook/*"]), "");
    assert_converged(&fixture, &repo);
}

#[test]
fn a_rewritten_remote_is_followed_and_the_old_head_is_kept() {
    let (fixture, repo) = level();
    edit(&fixture, &repo, ".claude/skills/b/SKILL.md", "pushed, then thrown away");
    repo.push(DEADLINE).unwrap();
    edit(&fixture, &repo, ".claude/skills/c/SKILL.md", "never pushed");
    let old = fixture.git(&["rev-parse", "HEAD"]);
    // Thrown away alone: the remote is where it was before.
    git(&fixture.remote, &["update-ref", "refs/heads/main", "main~1"]);
    assert_eq!(applied(pull(&repo)), (Move::Followed { replayed: 1 }, None));
    assert!(!fixture.root.join(".claude/skills/b").exists());
    assert_eq!(fixture.read(".claude/skills/c/SKILL.md"), "never pushed");
    let saved = repo.saved_heads().unwrap();
    assert_eq!((saved.len(), saved[0].1.as_str()), (1, old.as_str()));
    assert_converged(&fixture, &repo);
    assert_eq!(fixture.git(&["log", "--format=%s"]), "update skill a\nfirst");
    // Thrown away and replaced.
    fixture.push_from_elsewhere(|other| {
        git(other, &["reset", "-q", "--hard", "HEAD~1"]);
        write(other, "README.md", "rewritten");
        git(other, &["commit", "-q", "-a", "-m", "another second commit"]);
        git(other, &["push", "-q", "--force", "origin", "HEAD:main"]);
    });
    assert_eq!(applied(pull(&repo)), (Move::Followed { replayed: 0 }, None));
    assert!(!fixture.root.join(".claude/skills/c").exists());
    assert_eq!(repo.saved_heads().unwrap().len(), 2);
    assert_converged(&fixture, &repo);
}

#[test]
fn commits_of_people_are_merged_and_never_rewritten() {
    let (fixture, repo) = level();
    fixture.push_from_elsewhere(|other| write(other, "src/x", "theirs"));
    fixture.write("README.md", "a person's");
    fixture.git(&["commit", "-q", "-a", "-m", "by hand"]);
    let by_hand = fixture.git(&["rev-parse", "HEAD"]);
    edit(&fixture, &repo, SKILL, "ours");
    assert_eq!(applied(pull(&repo)), (Move::Merged, None));
    fixture.git(&["merge-base", "--is-ancestor", &by_hand, "HEAD"]);
    assert_converged(&fixture, &repo);
    // A conflict with them is theirs to resolve.
    fixture.push_from_elsewhere(|other| write(other, "README.md", "theirs"));
    fixture.write("README.md", "a person's again");
    fixture.git(&["commit", "-q", "-a", "-m", "by hand again"]);
    let before = fixture.git(&["rev-parse", "HEAD"]);
    assert_eq!(pull(&repo), PullOutcome::Diverged { ahead: 1, behind: 1, paths: vec!["README.md".to_owned()] });
    assert_eq!(fixture.git(&["rev-parse", "HEAD"]), before);
    fixture.git(&["merge", "-q", "-X", "ours", "-m", "resolved", "origin/main"]);
    assert_eq!(pull(&repo), PullOutcome::UpToDate);
    assert_converged(&fixture, &repo);
}

#[test]
fn a_deleted_branch_and_an_unrelated_history_are_left_alone() {
    let (fixture, repo) = level();
    git(&fixture.remote, &["update-ref", "refs/heads/aside", "main"]);
    git(&fixture.remote, &["update-ref", "-d", "refs/heads/main"]);
    edit(&fixture, &repo, SKILL, "ours");
    assert_eq!(repo.fetch(DEADLINE).unwrap(), FetchOutcome::BranchDeleted);
    let refused = repo.push(DEADLINE).unwrap();
    assert!(matches!(refused, PushOutcome::Rejected { refusal: Refusal::NonFastForward, .. }), "{refused:?}");
    assert_eq!(git(&fixture.remote, &["for-each-ref", "--format=%(refname)"]), "refs/heads/aside");
    let head = fixture.git(&["rev-parse", "HEAD"]);
    fixture.push_from_elsewhere(|other| {
        write(other, "README.md", "another world");
    });
    let held = PullOutcome::Held { reason: HeldReason::UnrelatedHistories, paths: Vec::new() };
    assert_eq!(pull(&repo), held);
    assert_eq!((fixture.git(&["rev-parse", "HEAD"]), fixture.read("README.md")), (head, "read me".to_owned()));
}

#[test]
fn a_file_that_is_not_valid_does_not_hold_the_pull_and_is_kept_out_of_git() {
    let (fixture, repo) = level();
    fixture.push_from_elsewhere(|other| {
        write(other, SKILL, "theirs");
        write(other, "src/x", "theirs");
    });
    fixture.write(SKILL, "secret: ours, broken");
    assert!(matches!(pull(&repo), PullOutcome::Held { reason: HeldReason::ChangedByUser, .. }));
    let invalid = BTreeSet::from([".claude/skills/a/".to_owned()]);
    assert_eq!(applied(repo.pull(&invalid).unwrap()), (Move::FastForward, None));
    assert_eq!((fixture.read(SKILL), fixture.read("src/x")), ("theirs".to_owned(), "theirs".to_owned()));
    let note = repo.status().unwrap().notes.pop().unwrap();
    let kept = note.split('`').nth(3).unwrap();
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "secret: ours, broken");
    assert_eq!(fixture.git(&["fsck", "--unreachable", "--no-reflogs"]), "");
    assert_converged(&fixture, &repo);
}

#[test]
fn a_push_of_somebody_in_between_never_loses_either_side() {
    let (fixture, repo) = level();
    for round in 0..3 {
        edit(&fixture, &repo, SKILL, &format!("ours {round}"));
        fixture.push_from_elsewhere(|other| write(other, "README.md", &format!("theirs {round}")));
        assert_eq!(applied(pull(&repo)), (Move::Replayed { commits: 1 }, None));
        // And again before we come to push.
        fixture.push_from_elsewhere(|other| write(other, "src/x", &format!("theirs {round}")));
        let refused = repo.push(DEADLINE).unwrap();
        assert!(matches!(refused, PushOutcome::Rejected { refusal: Refusal::NonFastForward, .. }), "{refused:?}");
        assert_eq!(applied(pull(&repo)), (Move::Replayed { commits: 1 }, None));
        assert_converged(&fixture, &repo);
    }
    assert_eq!(fixture.git(&["rev-list", "--count", "HEAD"]), "10");
}
