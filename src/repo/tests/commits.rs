use std::collections::BTreeSet;

use crate::error::Code;
use crate::model::revision::is_committed;
use crate::repo::fixture::{Fixture, request, revision_of};
use crate::repo::{Author, CommitOutcome, CommitRequest, HeldReason, Options, Origin};

fn committed(outcome: CommitOutcome) -> Vec<String> {
    match outcome {
        CommitOutcome::Committed { paths, .. } => paths,
        other => panic!("{other:?}"),
    }
}

fn held(reason: HeldReason) -> CommitOutcome {
    CommitOutcome::Held { reason, paths: Vec::new() }
}

#[test]
fn exactly_the_managed_paths_that_differ_are_committed() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.write(".claude/skills/a/SKILL.md", "a2");
    fixture.write(".claude/skills/b/SKILL.md", "b1");
    fixture.write(".claude/providers/p.yaml", "p");
    fixture.write(".claude/settings.json", "{}");
    fixture.write("README.md", "changed by the person");
    std::fs::remove_file(fixture.root.join(".claude/agents/brain.md")).unwrap();
    let (revision, contents) = fixture.snapshot();
    repo.write_served(&revision, &|path| contents.get(path).cloned()).unwrap();
    let before = repo.head().unwrap();
    let outcome = repo
        .commit(&CommitRequest {
            author: Some(Author { name: "Ann".to_owned(), email: "ann@example.org".to_owned() }),
            trailers: vec![("Skillhook-Origin".to_owned(), "api".to_owned())],
            ..request(&revision)
        })
        .unwrap();
    let CommitOutcome::Committed { commit, parent, paths, staged_by_user } = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        paths,
        [
            ".claude/agents/brain.md",
            ".claude/providers/p.yaml",
            ".claude/skills/a/SKILL.md",
            ".claude/skills/b/SKILL.md"
        ]
    );
    assert_eq!((parent, staged_by_user), (before, Vec::new()));
    assert_eq!(repo.head().unwrap().as_ref(), Some(&commit));
    let shown = fixture.git(&["show", "--format=%an|%cn|%s|%(trailers:key=Skillhook-Origin,valueonly)", "--name-only"]);
    assert!(shown.starts_with("Ann|Person|update skill a|api"), "{shown}");
    let status = fixture.git(&["status", "--porcelain"]);
    assert_eq!(status, " M README.md\n?? .claude/settings.json");
    assert!(paths.iter().all(|path| is_committed(path)));
    fixture.fsck();
}

#[test]
fn an_equal_tree_makes_no_commit() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let before = fixture.git(&["rev-parse", "HEAD"]);
    let index = std::fs::read(fixture.root.join(".git/index")).unwrap();
    assert_eq!(fixture.commit(&repo), CommitOutcome::Unchanged);
    fixture.write("README.md", "not ours");
    assert_eq!(fixture.commit(&repo), CommitOutcome::Unchanged);
    assert_eq!(fixture.git(&["rev-parse", "HEAD"]), before);
    assert_eq!(std::fs::read(fixture.root.join(".git/index")).unwrap(), index);
}

#[test]
fn staged_work_of_the_person_stays_staged_and_uncommitted() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.write("src/x", "staged");
    fixture.write("src/new", "staged too");
    fixture.git(&["add", "src"]);
    fixture.git(&["rm", "-q", "--cached", "README.md"]);
    fixture.write("src/x", "and changed again");
    fixture.write(".claude/skills/a/SKILL.md", "a2");
    assert_eq!(committed(fixture.commit(&repo)), [".claude/skills/a/SKILL.md"]);
    assert_eq!(fixture.git(&["show", "--format=", "--name-only"]), ".claude/skills/a/SKILL.md");
    assert_eq!(fixture.git(&["status", "--porcelain"]), "D  README.md\nA  src/new\nMM src/x\n?? README.md");
    // The person's next commit keeps what we committed.
    fixture.git(&["commit", "-q", "-m", "theirs"]);
    assert_eq!(fixture.git(&["show", "HEAD:.claude/skills/a/SKILL.md"]), "a2");
}

#[test]
fn a_path_that_the_person_staged_differently_is_held_and_others_go_on() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.write(".claude/skills/a/SKILL.md", "staged");
    fixture.git(&["add", ".claude"]);
    fixture.write(".claude/skills/a/SKILL.md", "a2");
    let paths = vec![".claude/skills/a/SKILL.md".to_owned()];
    let expected = CommitOutcome::Held { reason: HeldReason::StagedByUser, paths: paths.clone() };
    assert_eq!(fixture.commit(&repo), expected);
    fixture.write(".claude/agents/new.md", "n");
    match fixture.commit(&repo) {
        CommitOutcome::Committed { paths: done, staged_by_user, .. } => {
            assert_eq!((done, staged_by_user), (vec![".claude/agents/new.md".to_owned()], paths));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.git(&["show", ":.claude/skills/a/SKILL.md"]), "staged");
    // Staged as it is on disk: nothing stands in the way any more.
    fixture.git(&["add", ".claude"]);
    assert_eq!(committed(fixture.commit(&repo)), [".claude/skills/a/SKILL.md"]);
}

#[test]
fn an_intent_to_add_is_not_staged_work() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.write(".claude/agents/new.md", "n");
    fixture.git(&["add", "-N", ".claude/agents/new.md"]);
    assert_eq!(committed(fixture.commit(&repo)), [".claude/agents/new.md"]);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}

#[test]
fn an_unborn_branch_gets_its_first_commit() {
    let fixture = Fixture::empty();
    let repo = fixture.open();
    assert_eq!((repo.head().unwrap(), repo.branch().unwrap().as_deref()), (None, Some("main")));
    fixture.write("README.md", "not ours");
    assert_eq!(fixture.commit(&repo), CommitOutcome::Unchanged);
    fixture.write(".claude/skills/a/SKILL.md", "a1");
    assert_eq!(committed(fixture.commit(&repo)), [".claude/skills/a/SKILL.md"]);
    assert_eq!(fixture.git(&["log", "--format=%s"]), "update skill a");
    assert_eq!(fixture.git(&["status", "--porcelain"]), "?? README.md");
    fixture.fsck();
}

#[test]
fn a_held_invalid_file_keeps_the_version_of_head() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.write(".claude/skills/a/SKILL.md", "broken");
    fixture.write(".claude/skills/new/SKILL.md", "broken and new");
    fixture.write(".claude/agents/brain.md", "better");
    std::fs::remove_file(fixture.root.join("src/x")).unwrap();
    let (revision, contents) = fixture.snapshot();
    repo.write_served(&revision, &|path| contents.get(path).cloned()).unwrap();
    let held: BTreeSet<String> = [".claude/skills/a/SKILL.md", ".claude/skills/new/SKILL.md"].map(str::to_owned).into();
    let outcome = repo.commit(&CommitRequest { held: &held, ..request(&revision) }).unwrap();
    assert_eq!(committed(outcome), [".claude/agents/brain.md"]);
    assert_eq!(fixture.git(&["show", "HEAD:.claude/skills/a/SKILL.md"]), "a1");
}

#[test]
fn a_file_that_the_snapshot_left_out_is_not_deleted() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.write(".claude/skills/a/big.bin", "pretend that this is large");
    std::os::unix::fs::symlink("SKILL.md", fixture.root.join(".claude/skills/a/link")).unwrap();
    fixture.git(&["add", "-A"]);
    fixture.git(&["commit", "-q", "-m", "big"]);
    let (_, mut contents) = fixture.snapshot();
    contents.remove(".claude/skills/a/big.bin").unwrap();
    std::fs::remove_file(fixture.root.join(".claude/skills/a/link")).unwrap();
    let revision = revision_of(&contents);
    repo.write_served(&revision, &|path| contents.get(path).cloned()).unwrap();
    assert_eq!(repo.commit(&request(&revision)).unwrap(), CommitOutcome::Unchanged);
}

#[test]
fn ignored_files_are_served_and_not_committed() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.write(".gitignore", "local-*\n");
    fixture.write(".claude/skills/local-x/SKILL.md", "mine");
    assert_eq!(fixture.commit(&repo), CommitOutcome::Unchanged);
    let (revision, _) = fixture.snapshot();
    assert!(repo.read_served(&revision.digest).unwrap().iter().any(|file| file.path.contains("local-x")));
}

#[test]
fn without_its_served_tree_nothing_is_committed() {
    let fixture = Fixture::with_history();
    fixture.write(".claude/skills/a/SKILL.md", "a2");
    let (revision, _) = fixture.snapshot();
    assert_eq!(fixture.open().commit(&request(&revision)).unwrap_err().code(), Code::RevisionMissing);
}

#[test]
fn somebody_in_the_middle_of_something_is_left_alone() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.git(&["checkout", "-q", "-b", "side"]);
    fixture.write(".claude/skills/a/SKILL.md", "side");
    fixture.git(&["commit", "-q", "-am", "side"]);
    assert_eq!(fixture.commit(&repo), held(HeldReason::OtherBranch));
    fixture.git(&["checkout", "-q", "main"]);
    fixture.write(".claude/skills/a/SKILL.md", "main");
    fixture.git(&["commit", "-q", "-am", "main"]);
    let merge = std::process::Command::new("git").current_dir(&fixture.root).args(["merge", "-q", "side"]).output();
    assert!(!merge.unwrap().status.success());
    fixture.write(".claude/agents/new.md", "n");
    assert_eq!(fixture.commit(&repo), held(HeldReason::OperationInProgress));
    fixture.git(&["merge", "--abort"]);
    fixture.git(&["checkout", "-q", "--detach"]);
    assert_eq!(fixture.commit(&repo), held(HeldReason::DetachedHead));
    fixture.git(&["checkout", "-q", "main"]);
    assert_eq!(committed(fixture.commit(&repo)), [".claude/agents/new.md"]);
}

#[test]
fn hooks_of_the_clone_are_not_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let proof = fixture.temp.path().join("ran");
    let script = format!("#!/bin/sh\ntouch {}\nexit 1\n", proof.display());
    for hook in ["pre-commit", "commit-msg", "post-commit", "pre-push", "reference-transaction", "post-index-change"] {
        let path = fixture.root.join(".git/hooks").join(hook);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    fixture.git(&["config", "core.hooksPath", ".git/hooks"]);
    fixture.git(&["config", "core.fsmonitor", ".git/hooks/pre-commit"]);
    fixture.write(".claude/skills/a/SKILL.md", "a2");
    committed(fixture.commit(&repo));
    let deadline = std::time::Duration::from_secs(30);
    assert!(matches!(repo.push(deadline).unwrap(), crate::repo::PushOutcome::Pushed { .. }));
    assert!(matches!(repo.fetch(deadline).unwrap(), crate::repo::FetchOutcome::Fetched { .. }));
    assert!(!proof.exists());
}

#[test]
fn a_root_below_the_top_of_the_work_tree_commits_below_it() {
    let fixture = Fixture::with_history();
    let root = fixture.root.join("deep/service");
    crate::repo::fixture::write(&root, ".claude/skills/s/SKILL.md", "s1");
    let repo = crate::repo::Repository::open(&root, Options::default()).unwrap();
    let contents = [(".claude/skills/s/SKILL.md".to_owned(), std::sync::Arc::from(b"s1".as_slice()))].into();
    let revision = revision_of(&contents);
    repo.write_served(&revision, &|path| contents.get(path).cloned()).unwrap();
    assert_eq!(committed(repo.commit(&request(&revision)).unwrap()), [".claude/skills/s/SKILL.md"]);
    let listed = fixture.git(&["show", "--format=", "--name-status"]);
    assert_eq!(listed, "A\tdeep/service/.claude/skills/s/SKILL.md");
    let versions = repo.newest_versions(".claude/skills/s/SKILL.md", 5).unwrap();
    assert_eq!(versions.len(), 1);
    assert_eq!(repo.commit(&request(&revision)).unwrap(), CommitOutcome::Unchanged);
}

#[test]
fn a_file_that_becomes_a_directory_and_back_is_committed() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    std::fs::remove_file(fixture.root.join(".claude/agents/brain.md")).unwrap();
    fixture.write(".claude/agents/brain.md/inner.md", "inner");
    fixture.write(".claude/agents/brain-2.md", "between the two in git's order");
    assert_eq!(committed(fixture.commit(&repo)).len(), 3);
    fixture.fsck();
    std::fs::remove_dir_all(fixture.root.join(".claude/agents/brain.md")).unwrap();
    fixture.write(".claude/agents/brain.md", "file again");
    assert_eq!(committed(fixture.commit(&repo)).len(), 2);
    fixture.fsck();
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    // The order of entries is git's: it would write the same tree.
    assert_eq!(fixture.git(&["write-tree"]), fixture.git(&["rev-parse", "HEAD^{tree}"]));
}

#[test]
fn versions_come_newest_first_and_once_each() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let path = ".claude/skills/a/SKILL.md";
    for content in ["a2", "a3", "a2"] {
        fixture.write(path, content);
        committed(fixture.commit(&repo));
        fixture.write("README.md", content);
        fixture.git(&["commit", "-q", "-am", "unrelated"]);
    }
    fixture.write(path, "never committed");
    let (revision, contents) = fixture.snapshot();
    repo.write_served(&revision, &|path| contents.get(path).cloned()).unwrap();
    let versions = repo.newest_versions(path, 10).unwrap();
    let texts: BTreeSet<_> = versions.iter().map(|each| String::from_utf8(each.bytes.clone()).unwrap()).collect();
    assert_eq!(texts, ["a1", "a2", "a3", "never committed"].map(str::to_owned).into());
    assert!(versions.windows(2).all(|pair| pair[0].at >= pair[1].at));
    assert!(versions.iter().any(|each| each.bytes == b"never committed" && matches!(each.origin, Origin::Served(_))));
    assert_eq!(repo.newest_versions(path, 2).unwrap().len(), 2);
    assert!(repo.newest_versions(".claude/skills/none/SKILL.md", 2).unwrap().is_empty());
}
