use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::repo::fixture::{Fixture, write};
use crate::repo::{CommitOutcome, FetchOutcome, Options, PushOutcome, Refusal, Repository};

const DEADLINE: Duration = Duration::from_secs(30);

fn change(fixture: &Fixture, repo: &Repository, content: &str) {
    fixture.write(".claude/skills/a/SKILL.md", content);
    assert!(matches!(fixture.commit(repo), CommitOutcome::Committed { .. }));
}

#[test]
fn push_brings_the_branch_to_the_remote_once() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    change(&fixture, &repo, "a2");
    let upstream = repo.status().unwrap().upstream.unwrap();
    assert_eq!((upstream.commit, upstream.ahead, upstream.behind), (None, 2, 0));
    let head = repo.head().unwrap().unwrap();
    assert_eq!(repo.push(DEADLINE).unwrap(), PushOutcome::Pushed { commit: head.clone() });
    assert_eq!(repo.push(DEADLINE).unwrap(), PushOutcome::UpToDate);
    let remote_head = crate::repo::fixture::git(&fixture.remote, &["rev-parse", "main"]);
    assert_eq!(remote_head, head.as_str());
    let status = repo.status().unwrap();
    let upstream = status.upstream.unwrap();
    assert_eq!((upstream.commit.as_ref(), upstream.ahead, upstream.behind), (Some(&head), 0, 0));
    let last = status.last_push.unwrap();
    assert_eq!((last.commit, last.trouble), (Some(head), None));
    // Served trees stay here.
    assert_eq!(crate::repo::fixture::git(&fixture.remote, &["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
}

#[test]
fn a_remote_that_moved_on_is_reported_as_such() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    repo.push(DEADLINE).unwrap();
    fixture.push_from_elsewhere(|other| write(other, "elsewhere", "x"));
    change(&fixture, &repo, "a2");
    match repo.push(DEADLINE).unwrap() {
        PushOutcome::Rejected { refusal: Refusal::NonFastForward, reason } => {
            assert!(reason.contains("stale info"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    assert!(repo.status().unwrap().last_push.unwrap().trouble.is_some());
    assert!(matches!(repo.fetch(DEADLINE).unwrap(), FetchOutcome::Fetched { changed: true, .. }));
    assert!(matches!(repo.fetch(DEADLINE).unwrap(), FetchOutcome::Fetched { changed: false, .. }));
    let upstream = repo.status().unwrap().upstream.unwrap();
    assert_eq!((upstream.ahead, upstream.behind), (1, 1));
    assert!(matches!(repo.push(DEADLINE).unwrap(), PushOutcome::Rejected { refusal: Refusal::NonFastForward, .. }));
}

#[test]
fn a_rule_of_the_remote_is_told_apart_from_being_behind() {
    let fixture = Fixture::with_history();
    let hook = fixture.remote.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\necho protected branch >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    match fixture.open().push(DEADLINE).unwrap() {
        PushOutcome::Rejected { refusal: Refusal::ByRemote, reason } => {
            assert!(reason.contains("declined"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_remote_or_commit_there_is_nothing_to_do() {
    let fixture = Fixture::empty();
    assert_eq!(fixture.open().push(DEADLINE).unwrap(), PushOutcome::NoRemote);
    assert_eq!(fixture.open().fetch(DEADLINE).unwrap(), FetchOutcome::NoBranch);
    fixture.git(&["remote", "remove", "origin"]);
    let repo = fixture.open();
    assert_eq!(repo.fetch(DEADLINE).unwrap(), FetchOutcome::NoRemote);
    assert_eq!(repo.status().unwrap().upstream, None);
}

#[test]
fn a_remote_that_is_gone_is_unavailable_and_says_no_secret() {
    let fixture = Fixture::with_history();
    fixture.git(&["remote", "set-url", "origin", "http://bot:hunter2@127.0.0.1:1/x.git"]);
    match fixture.open().push(DEADLINE).unwrap() {
        PushOutcome::Unavailable { reason } => {
            assert!(reason.contains("127.0.0.1") && !reason.contains("hunter2"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_remote_that_never_answers_is_given_up_by_the_deadline() {
    let fixture = Fixture::with_history();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    fixture.git(&["remote", "set-url", "origin", &format!("git://{address}/x.git")]);
    let repo = fixture.open();
    let outcome = repo.fetch(Duration::from_millis(400)).unwrap();
    assert!(
        matches!(&outcome, FetchOutcome::Unavailable { reason } if reason.contains("did not answer")),
        "{outcome:?}"
    );
    let outcome = repo.push(Duration::from_millis(400)).unwrap();
    assert!(
        matches!(&outcome, PushOutcome::Unavailable { reason } if reason.contains("did not answer")),
        "{outcome:?}"
    );
    // Meanwhile commits go on, and shutdown can end a call early.
    let other = repo.clone();
    let call = std::thread::spawn(move || other.fetch(Duration::from_secs(3600)).unwrap());
    silent.accept().map(drop).unwrap();
    silent.accept().map(drop).unwrap();
    let (held, _) = silent.accept().unwrap();
    change(&fixture, &repo, "a2");
    repo.stop_network();
    assert!(matches!(call.join().unwrap(), FetchOutcome::Unavailable { .. }));
    drop(held);
}

#[test]
fn remotes_that_run_programs_are_refused() {
    let fixture = Fixture::with_history();
    let proof = fixture.temp.path().join("ran");
    fixture.git(&["remote", "set-url", "origin", &format!("ext::sh -c 'touch {}'", proof.display())]);
    assert!(matches!(fixture.open().fetch(DEADLINE).unwrap(), FetchOutcome::Unavailable { .. }));
    assert!(!proof.exists());
}

#[test]
fn another_branch_of_the_remote_can_be_the_upstream() {
    let fixture = Fixture::with_history();
    fixture.git(&["config", "branch.main.remote", "origin"]);
    fixture.git(&["config", "branch.main.merge", "refs/heads/live"]);
    let repo = fixture.open();
    assert!(matches!(repo.push(DEADLINE).unwrap(), PushOutcome::Pushed { .. }));
    assert_eq!(crate::repo::fixture::git(&fixture.remote, &["for-each-ref", "--format=%(refname)"]), "refs/heads/live");
    assert_eq!(repo.status().unwrap().upstream.unwrap().branch, "live");
}

#[test]
fn a_missing_git_program_is_an_error_with_a_hint() {
    let fixture = Fixture::with_history();
    let repo = fixture.open_with(Options { git_program: "/nonexistent/git".into(), ..Options::default() });
    let error = repo.push(DEADLINE).unwrap_err();
    assert!(error.hint_text().unwrap().contains("install git"));
}
