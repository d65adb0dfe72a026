use std::time::Duration;

use crate::error::Code;
use crate::repo::fixture::{Fixture, git};
use crate::repo::{CommitOutcome, HeldReason, Move, PROPOSALS, PullOutcome, PushOutcome, Repository};

const DEADLINE: Duration = Duration::from_secs(30);
const SKILL: &str = ".claude/skills/a/SKILL.md";

fn edit(fixture: &Fixture, repo: &Repository, path: &str, text: &str) {
    fixture.write(path, text);
    let outcome = fixture.commit(repo);
    assert!(matches!(outcome, CommitOutcome::Committed { .. }), "{outcome:?}");
}

#[test]
fn history_tells_who_changed_what_and_a_difference_shows_the_text() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    edit(&fixture, &repo, SKILL, "a2");
    fixture.write("README.md", "not ours");
    fixture.git(&["commit", "-q", "-a", "-m", "by hand"]);
    edit(&fixture, &repo, ".claude/skills/b/SKILL.md", "b1");
    let all = repo.history(None, None, 10).unwrap();
    let told: Vec<_> = all.iter().map(|each| (each.title.as_str(), each.origin.as_deref())).collect();
    let ours = ("update skill a", Some("file"));
    assert_eq!(told, [ours, ours, ("first", None)]);
    assert_eq!(repo.history(Some(".claude/skills/a"), None, 10).unwrap().len(), 2);
    assert_eq!(repo.history(None, None, 1).unwrap().len(), 1);
    let behind = repo.history(None, Some(all[0].commit.as_str()), 10).unwrap();
    assert_eq!(behind.iter().map(|each| &each.commit).collect::<Vec<_>>(), [&all[1].commit, &all[2].commit]);
    assert_eq!(repo.history(None, Some("0"), 10).unwrap_err().code(), Code::NotFound);
    let ages = repo.ages().unwrap();
    assert_eq!((&ages[SKILL].created_at, ages[SKILL].created_by.as_str()), (&all[2].at, all[2].author.as_str()));
    assert_eq!(ages[SKILL].updated_at, all[1].at);
    let found = repo.diff("HEAD~2", "HEAD").unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].text.as_ref().unwrap().contains("+b1"), "{found:?}");
    assert_eq!(repo.diff("nowhere", "HEAD").unwrap_err().code(), Code::NotFound);
}

#[test]
fn a_restored_revision_is_a_new_commit_and_leaves_everything_else_alone() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    edit(&fixture, &repo, SKILL, "a2");
    edit(&fixture, &repo, ".claude/skills/b/SKILL.md", "b1");
    fixture.write("README.md", "a person's");
    let before = fixture.git(&["rev-parse", "HEAD"]);
    match repo.restore("HEAD~2", &[("Skillhook-Origin".to_owned(), "restore".to_owned())]).unwrap() {
        PullOutcome::Applied { how: Move::Restored, deleted, .. } => {
            assert_eq!(deleted, [".claude/skills/b/SKILL.md"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.read(SKILL), "a1");
    assert_eq!(fixture.git(&["rev-parse", "HEAD~1"]), before);
    assert_eq!(fixture.git(&["status", "--porcelain"]), " M README.md");
    assert!(fixture.git(&["log", "-1", "--format=%B"]).starts_with("roll back to "));
    assert_eq!(repo.restore("HEAD", &[]).unwrap_err().code(), Code::RollbackRefused);
    fixture.write(SKILL, "a person is at it");
    let held = PullOutcome::Held { reason: HeldReason::ChangedByUser, paths: vec![SKILL.to_owned()] };
    assert_eq!(repo.restore(&before, &[]).unwrap(), held);
    fixture.fsck();
}

#[test]
fn what_may_not_be_pushed_becomes_one_branch_that_only_grows() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    repo.push(DEADLINE).unwrap();
    assert_eq!(repo.propose_own().unwrap_err().code(), Code::NothingToPropose);
    edit(&fixture, &repo, SKILL, "a2");
    let first = repo.propose_own().unwrap();
    assert!(first.branch.starts_with(PROPOSALS), "{}", first.branch);
    assert_eq!(first.changes.iter().map(|change| change.path.as_str()).collect::<Vec<_>>(), [SKILL]);
    assert!(matches!(repo.publish_proposal(&first.branch, DEADLINE).unwrap(), PushOutcome::Pushed { .. }));
    assert_eq!(repo.publish_proposal(&first.branch, DEADLINE).unwrap(), PushOutcome::UpToDate);
    // The remote moves, our commit is put upon it, and the branch need not be forced.
    fixture.push_from_elsewhere(|other| crate::repo::fixture::write(other, "README.md", "theirs"));
    repo.fetch(DEADLINE).unwrap();
    repo.pull(&std::collections::BTreeSet::new()).unwrap();
    edit(&fixture, &repo, ".claude/skills/b/SKILL.md", "b1");
    let second = repo.propose_own().unwrap();
    assert_eq!(second.branch, first.branch);
    assert_eq!(second.changes.len(), 2);
    assert!(matches!(repo.publish_proposal(&first.branch, DEADLINE).unwrap(), PushOutcome::Pushed { .. }));
    git(&fixture.remote, &["merge-base", "--is-ancestor", first.commit.as_str(), &first.branch]);
    assert_eq!(git(&fixture.remote, &["show", &format!("{}:.claude/skills/b/SKILL.md", first.branch)]), "b1");
    assert_eq!(git(&fixture.remote, &["log", "-1", "--format=%s", "main"]), "elsewhere");
    // A closed one is not proposed again as it is.
    repo.decline_proposal(&second.branch).unwrap();
    assert!(repo.proposals().unwrap().is_empty());
    let again = repo.propose_own();
    assert!(again.is_ok() == (second.commit.as_str() != fixture.git(&["rev-parse", "HEAD"])));
    fixture.fsck();
}
