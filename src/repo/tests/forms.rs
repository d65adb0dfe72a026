use crate::error::Code;
use crate::repo::fixture::{Fixture, git};
use crate::repo::{Options, Repository};

fn refusal(path: &std::path::Path) -> (String, String) {
    let error = Repository::open(path, Options::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), Code::NotARepository, "{error:?}");
    (error.message().to_owned(), error.hint_text().unwrap_or_default().to_owned())
}

#[test]
fn what_cannot_be_worked_with_is_said_plainly() {
    let temp = tempfile::tempdir().unwrap();
    let at = |name: &str| temp.path().join(name);
    std::fs::create_dir(at("plain")).unwrap();
    let (message, hint) = refusal(&at("plain"));
    assert!(message.contains("not in a git work tree") && hint.contains("skillhook init"), "{message}");
    git(temp.path(), &["init", "-q", "--bare", "bare"]);
    assert!(refusal(&at("bare")).0.contains("bare"));
    git(temp.path(), &["init", "-q", "--object-format=sha256", "sha"]);
    assert!(refusal(&at("sha")).0.contains("SHA-256"));
    git(temp.path(), &["init", "-q", "--ref-format=reftable", "table"]);
    assert!(refusal(&at("table")).0.contains("reftable"));
    assert!(refusal(&at("absent")).0.contains("cannot be read"));
}

#[test]
fn split_and_sparse_indexes_are_recognised() {
    let fixture = Fixture::with_history();
    fixture.git(&["update-index", "--split-index"]);
    assert!(refusal(&fixture.root).0.contains("split index"));
    fixture.git(&["update-index", "--no-split-index"]);
    fixture.open();
    fixture.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "src"]);
    let (message, hint) = refusal(&fixture.root);
    assert!(message.contains("sparse index") && hint.contains("--no-sparse-index"), "{message}");
}

#[test]
fn gits_own_directory_is_no_root() {
    let fixture = Fixture::with_history();
    refusal(&fixture.root.join(".git"));
}

#[test]
fn init_makes_a_repository_with_main_only_where_there_is_none() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("new");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("kept"), "kept").unwrap();
    assert!(Repository::init(&root).unwrap());
    let repo = Repository::open(&root, Options::default()).unwrap();
    assert_eq!((repo.branch().unwrap().as_deref(), repo.head().unwrap()), (Some("main"), None));
    assert!(!Repository::init(&root).unwrap());
    std::fs::create_dir(root.join(".skillhook")).unwrap();
    std::fs::write(root.join(".skillhook/ledger.redb"), "x").unwrap();
    assert_eq!(git(&root, &["status", "--porcelain"]), "?? kept");
}

#[test]
fn a_linked_work_tree_has_its_own_branch_and_index() {
    let fixture = Fixture::with_history();
    let linked = fixture.temp.path().join("linked");
    fixture.git(&["worktree", "add", "-q", "-b", "linked", linked.to_str().unwrap()]);
    let other = Fixture { root: linked, remote: fixture.remote.clone(), temp: tempfile::tempdir().unwrap() };
    let repo = other.open();
    other.write(".claude/skills/a/SKILL.md", "linked");
    assert!(matches!(other.commit(&repo), crate::repo::CommitOutcome::Committed { .. }));
    assert_eq!(repo.branch().unwrap().as_deref(), Some("linked"));
    assert_eq!(other.git(&["status", "--porcelain"]), "");
    assert_eq!(fixture.git(&["log", "-1", "--format=%s", "main"]), "first");
}
