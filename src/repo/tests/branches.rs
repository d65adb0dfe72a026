//! Branches with edits upon HEAD.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::Code;
use crate::repo::fixture::Fixture;
use crate::repo::{BranchFile, BranchRequest};

const DEADLINE: Duration = Duration::from_secs(20);

fn request(edits: &[(&str, Option<&str>)]) -> BranchRequest {
    let file = |text: &str| BranchFile { bytes: text.as_bytes().into(), executable: false };
    BranchRequest {
        branch: "skillhook/proposal/add-b".to_owned(),
        grows: false,
        edits: edits.iter().map(|(path, text)| ((*path).to_owned(), text.map(file))).collect::<BTreeMap<_, _>>(),
        message: "Add b".to_owned(),
        trailers: vec![("Skillhook-Origin".to_owned(), "agent".to_owned())],
    }
}

#[test]
fn a_proposal_is_a_branch_in_the_remote_and_touches_nothing_here() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let before = (repo.head().unwrap(), fixture.git(&["status", "--porcelain"]));
    let edits = [(".claude/skills/b/SKILL.md", Some("b1")), (".claude/agents/brain.md", None)];
    let proposed = repo.propose_branch(&request(&edits), DEADLINE).unwrap();
    assert_eq!((proposed.branch.as_str(), &proposed.not_pushed), ("skillhook/proposal/add-b", &None));
    assert_eq!((repo.head().unwrap(), fixture.git(&["status", "--porcelain"])), before);
    let at_remote = fixture.git(&["ls-remote", "origin", "refs/heads/skillhook/proposal/add-b"]);
    assert!(at_remote.starts_with(proposed.commit.as_str()), "{at_remote}");
    let shown = fixture.git(&["show", "--name-status", "--format=%B", proposed.commit.as_str()]);
    assert!(shown.contains("Skillhook-Origin: agent"), "{shown}");
    assert!(shown.contains("D\t.claude/agents/brain.md") && shown.contains("A\t.claude/skills/b/SKILL.md"), "{shown}");
    // The next one of that name gets a number, unless it is a later version of the same.
    assert_eq!(repo.propose_branch(&request(&edits), DEADLINE).unwrap().branch, "skillhook/proposal/add-b-2");
    let more = BranchRequest { grows: true, ..request(&[(".claude/skills/b/SKILL.md", Some("b2"))]) };
    let grown = repo.propose_branch(&more, DEADLINE).unwrap();
    assert_eq!((grown.branch.as_str(), &grown.not_pushed), ("skillhook/proposal/add-b", &None));
    let parents = fixture.git(&["rev-list", "--parents", "-1", grown.commit.as_str()]);
    assert_eq!(parents.trim(), format!("{} {}", grown.commit, proposed.commit));
    // It is the whole proposal: what the earlier version deleted is back.
    assert!(!fixture.git(&["show", "--name-status", "--format=", grown.commit.as_str()]).contains("D\t"));
}

#[test]
fn what_is_committed_already_or_lies_elsewhere_is_not_proposed() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let gone = request(&[(".claude/skills/nothing/SKILL.md", None)]);
    assert_eq!(repo.propose_branch(&gone, DEADLINE).unwrap_err().code(), Code::Conflict);
    let outside = request(&[(".claude/settings.json", Some("{}"))]);
    assert_eq!(repo.propose_branch(&outside, DEADLINE).unwrap_err().code(), Code::UnsafePath);
}
