use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::repo::fixture::{Fixture, git, write};
use crate::repo::{CommitOutcome, FetchOutcome, HeldReason, PullOutcome, Repository};

const DEADLINE: Duration = Duration::from_secs(30);

/// A clone that is level with its remote.
fn level() -> (Fixture, Repository) {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    repo.push(DEADLINE).unwrap();
    (fixture, repo)
}

fn pull(repo: &Repository) -> PullOutcome {
    assert!(matches!(repo.fetch(DEADLINE).unwrap(), FetchOutcome::Fetched { .. }));
    repo.pull(&BTreeSet::new()).unwrap()
}

fn applied(outcome: PullOutcome) -> (Vec<String>, Vec<String>) {
    match outcome {
        PullOutcome::Applied { paths, skipped, .. } => (paths, skipped.into_iter().map(|each| each.path).collect()),
        other => panic!("{other:?}"),
    }
}

fn held(reason: HeldReason, path: &str) -> PullOutcome {
    PullOutcome::Held { reason, paths: vec![path.to_owned()] }
}

#[test]
fn a_fast_forward_brings_files_index_and_branch_forward() {
    let (fixture, repo) = level();
    assert_eq!(pull(&repo), PullOutcome::UpToDate);
    fixture.push_from_elsewhere(|other| {
        write(other, ".claude/skills/a/SKILL.md", "a2");
        write(other, ".claude/skills/new/deep/run.sh", "#!/bin/sh\n");
        let script = other.join(".claude/skills/new/deep/run.sh");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::remove_dir_all(other.join("src")).unwrap();
        std::fs::remove_file(other.join(".claude/agents/brain.md")).unwrap();
        write(other, ".claude/agents/brain.md/now-a-directory.md", "x");
    });
    let (paths, skipped) = applied(pull(&repo));
    assert_eq!(
        paths,
        [
            ".claude/agents/brain.md",
            ".claude/agents/brain.md/now-a-directory.md",
            ".claude/skills/a/SKILL.md",
            ".claude/skills/new/deep/run.sh",
            "src/x"
        ]
    );
    assert!(skipped.is_empty());
    assert_eq!(fixture.read(".claude/skills/a/SKILL.md"), "a2");
    assert!(!fixture.root.join("src").exists());
    let mode = fixture.root.join(".claude/skills/new/deep/run.sh").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    assert_eq!(fixture.git(&["rev-parse", "HEAD"]), fixture.git(&["rev-parse", "origin/main"]));
    assert_eq!(fixture.commit(&repo), CommitOutcome::Unchanged);
    // And back: a directory becomes a file again.
    fixture.push_from_elsewhere(|other| {
        std::fs::remove_dir_all(other.join(".claude/agents/brain.md")).unwrap();
        write(other, ".claude/agents/brain.md", "file");
    });
    applied(pull(&repo));
    assert_eq!(fixture.read(".claude/agents/brain.md"), "file");
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    fixture.fsck();
}

#[test]
fn a_clone_without_commits_takes_the_first_ones() {
    let (origin, _) = level();
    let fixture = Fixture::empty();
    fixture.git(&["remote", "set-url", "origin", origin.remote.to_str().unwrap()]);
    let repo = fixture.open();
    assert_eq!(repo.pull(&BTreeSet::new()).unwrap(), PullOutcome::NoUpstream);
    applied(pull(&repo));
    assert_eq!(fixture.read("README.md"), "read me");
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}

#[test]
fn work_of_a_person_that_is_in_the_way_holds_the_whole_pull() {
    let (fixture, repo) = level();
    fixture.push_from_elsewhere(|other| {
        write(other, "src/x", "theirs");
        write(other, "src/new", "theirs");
        write(other, "README.md", "theirs");
    });
    let before = fixture.git(&["rev-parse", "HEAD"]);
    fixture.write("src/x", "edited");
    assert_eq!(pull(&repo), held(HeldReason::ChangedByUser, "src/x"));
    fixture.git(&["add", "src/x"]);
    assert_eq!(pull(&repo), held(HeldReason::StagedByUser, "src/x"));
    fixture.git(&["reset", "-q", "--hard"]);
    fixture.write("src/new", "untracked");
    assert_eq!(pull(&repo), held(HeldReason::ChangedByUser, "src/new"));
    std::fs::remove_file(fixture.root.join("src/new")).unwrap();
    std::fs::remove_file(fixture.root.join("README.md")).unwrap();
    assert_eq!(pull(&repo), held(HeldReason::ChangedByUser, "README.md"));
    assert_eq!((fixture.git(&["rev-parse", "HEAD"]), fixture.read("src/x")), (before, "x".to_owned()));
    fixture.git(&["checkout", "-q", "README.md"]);
    // Unrelated work stays as it is, staged or not.
    fixture.write("mine", "mine");
    fixture.write("mine-staged", "mine");
    fixture.git(&["add", "mine-staged"]);
    applied(pull(&repo));
    assert_eq!(fixture.git(&["status", "--porcelain"]), "A  mine-staged\n?? mine");
}

#[test]
fn links_are_neither_written_nor_followed() {
    let (fixture, repo) = level();
    let outside = fixture.temp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("SKILL.md"), "untouched").unwrap();
    symlink(&outside, fixture.root.join(".claude/skills/evil")).unwrap();
    fixture.push_from_elsewhere(|other| {
        write(other, ".claude/skills/evil/SKILL.md", "through the link");
        symlink("/etc/passwd", other.join(".claude/skills/a/link")).unwrap();
    });
    // A link of somebody's stands where a directory has to be.
    let path = ".claude/skills/evil/SKILL.md";
    assert_eq!(pull(&repo), held(HeldReason::ChangedByUser, path));
    assert_eq!(std::fs::read_to_string(outside.join("SKILL.md")).unwrap(), "untouched");
    std::fs::remove_file(fixture.root.join(".claude/skills/evil")).unwrap();
    // The same with the last component.
    write(&fixture.root, ".claude/skills/evil/x", "");
    symlink(outside.join("SKILL.md"), fixture.root.join(path)).unwrap();
    assert_eq!(pull(&repo), held(HeldReason::ChangedByUser, path));
    std::fs::remove_dir_all(fixture.root.join(".claude/skills/evil")).unwrap();
    let (paths, skipped) = applied(pull(&repo));
    assert_eq!(paths, [path]);
    assert_eq!(skipped, [".claude/skills/a/link"]);
    assert!(!fixture.root.join(".claude/skills/a/link").exists());
    assert_eq!(std::fs::read_to_string(outside.join("SKILL.md")).unwrap(), "untouched");
    // A link that is in HEAD and was not written is not deleted by the next commit.
    assert_eq!(fixture.commit(&repo), CommitOutcome::Unchanged);
}

/// Pushes a commit whose root tree is made of raw entries, as no honest git would write it.
fn push_tree(fixture: &Fixture, entries: &[(&str, &str, &[u8])]) {
    let remote = &fixture.remote;
    let mut raw = Vec::new();
    for (mode, name, oid) in entries {
        raw.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        raw.extend_from_slice(oid);
    }
    let tree = pipe(remote, &["hash-object", "-t", "tree", "-w", "--stdin", "--literally"], &raw);
    let parent = git(remote, &["rev-parse", "main"]);
    let text = format!("tree {tree}\nparent {parent}\nauthor E <e@e> 1 +0000\ncommitter E <e@e> 1 +0000\n\nevil\n");
    let commit = pipe(remote, &["hash-object", "-t", "commit", "-w", "--stdin"], text.as_bytes());
    git(remote, &["update-ref", "refs/heads/main", &commit]);
}

fn pipe(directory: &Path, arguments: &[&str], input: &[u8]) -> String {
    use std::io::Write as _;
    let mut child = Command::new("git")
        .current_dir(directory)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn raw_oid(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[test]
fn a_tree_that_reaches_for_gits_directory_is_refused_and_a_later_good_one_taken() {
    let (fixture, repo) = level();
    let good = git(&fixture.remote, &["rev-parse", "main^{tree}"]);
    let blob = raw_oid(&pipe(&fixture.remote, &["hash-object", "-w", "--stdin"], b"[core]\n"));
    let inner = {
        let mut raw = b"100644 config\0".to_vec();
        raw.extend_from_slice(&blob);
        raw_oid(&pipe(&fixture.remote, &["hash-object", "-t", "tree", "-w", "--stdin", "--literally"], &raw))
    };
    let config = fixture.read(".git/config");
    for name in [".git", ".GIT", "..", "git~1", ".git\u{200c}"] {
        push_tree(&fixture, &[("40000", name, &inner)]);
        let outcome = pull(&repo);
        assert!(matches!(&outcome, PullOutcome::Held { reason: HeldReason::UnsafePath, .. }), "{name}: {outcome:?}");
        assert_eq!((fixture.read(".git/config"), fixture.read("README.md")), (config.clone(), "read me".to_owned()));
    }
    let parent = git(&fixture.remote, &["rev-parse", "main"]);
    let text = format!("tree {good}\nparent {parent}\nauthor E <e@e> 1 +0000\ncommitter E <e@e> 1 +0000\n\ngood\n");
    let commit = pipe(&fixture.remote, &["hash-object", "-t", "commit", "-w", "--stdin"], text.as_bytes());
    git(&fixture.remote, &["update-ref", "refs/heads/main", &commit]);
    applied(pull(&repo));
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}

#[test]
fn odd_names_and_submodules_are_skipped_and_reported() {
    let (fixture, repo) = level();
    fixture.push_from_elsewhere(|other| {
        write(other, ".claude/skills/a/new\nline", "x");
        write(other, ".claude/skills/a/blank ", "x");
        write(other, &format!(".claude/skills/a/{}", "n".repeat(250)), "long but fine");
        write(other, ".claude/skills/a/e\u{301}.md", "decomposed");
        use std::os::unix::ffi::OsStrExt as _;
        let odd = other.join(".claude/skills/a").join(std::ffi::OsStr::from_bytes(b"\xff.md"));
        std::fs::write(odd, "x").unwrap();
        let commit = git(other, &["rev-parse", "HEAD"]);
        git(other, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},.claude/skills/sub")]);
        write(
            other,
            ".gitmodules",
            "[submodule \"s\"]\n\tpath = .claude/skills/sub\n\turl = ext::sh -c 'touch /dev/null'\n",
        );
        // `add -A` of the fixture would remove the submodule again: commit here.
        git(other, &["add", ".claude/skills/a", ".gitmodules"]);
        git(other, &["commit", "-q", "-m", "odd"]);
        git(other, &["push", "-q", "origin", "HEAD:main"]);
    });
    let (paths, skipped) = applied(pull(&repo));
    assert!(paths.iter().any(|path| path.ends_with("e\u{301}.md")), "{paths:?}");
    for odd in ["new\nline", "blank ", "\u{fffd}.md"] {
        assert!(skipped.iter().any(|path| path.ends_with(odd)), "{odd:?} {skipped:?}");
    }
    assert!(!fixture.root.join(".claude/skills/a/blank ").exists());
    assert!(!fixture.root.join(".claude/skills/sub").exists());
    assert_eq!(fixture.read(&format!(".claude/skills/a/{}", "n".repeat(250))), "long but fine");
}

#[test]
fn an_interrupted_pull_is_finished_before_anything_is_committed() {
    let (fixture, repo) = level();
    fixture.push_from_elsewhere(|other| {
        write(other, ".claude/skills/a/SKILL.md", "a2");
        write(other, ".claude/skills/b/SKILL.md", "b1");
        std::fs::remove_file(other.join("src/x")).unwrap();
    });
    repo.fetch(DEADLINE).unwrap();
    // As after a kill: the record is on disk, some files have changed, the branch has not moved.
    let theirs = fixture.git(&["rev-parse", "origin/main"]);
    std::fs::write(fixture.root.join(".git/skillhook/pull"), format!("{theirs}\n")).unwrap();
    fixture.write(".claude/skills/a/SKILL.md", "a2");
    std::fs::remove_file(fixture.root.join("src/x")).unwrap();
    let again = fixture.open();
    assert_eq!(fixture.commit(&again), CommitOutcome::Held { reason: HeldReason::PullUnfinished, paths: Vec::new() });
    // Even if the remote has moved on meanwhile, first this one is finished.
    fixture.push_from_elsewhere(|other| write(other, ".claude/skills/c/SKILL.md", "c1"));
    assert!(matches!(pull(&again), PullOutcome::Applied { to, .. } if to.as_str() == theirs));
    assert_eq!(applied(pull(&again)).0, [".claude/skills/c/SKILL.md"]);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    assert_eq!(fixture.commit(&again), CommitOutcome::Unchanged);
    fixture.fsck();
}

#[test]
fn files_that_pass_a_filter_count_as_clean_and_no_filter_is_run() {
    let (fixture, repo) = level();
    let proof = fixture.temp.path().join("ran");
    fixture.git(&["config", "filter.evil.smudge", &format!("touch {}; cat", proof.display())]);
    fixture.git(&["config", "core.autocrlf", "true"]);
    fixture.git(&["config", "core.safecrlf", "false"]);
    fixture.write("src/dos", "one\r\ntwo\r\n");
    // Git trusts a time only if the index is younger than it.
    fixture.git(&["add", "src/dos"]);
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    std::fs::File::options().write(true).open(fixture.root.join("src/dos")).unwrap().set_modified(old).unwrap();
    fixture.git(&["add", "--renormalize", "."]);
    fixture.git(&["commit", "-q", "-m", "dos"]);
    fixture.git(&["status"]);
    repo.push(DEADLINE).unwrap();
    fixture.push_from_elsewhere(|other| {
        write(other, "src/dos", "three\n");
        write(other, ".gitattributes", "*.md filter=evil\n");
        write(other, ".claude/skills/a/SKILL.md", "a2");
    });
    applied(pull(&repo));
    assert_eq!(fixture.read("src/dos"), "three\n");
    assert_eq!(fixture.read(".claude/skills/a/SKILL.md"), "a2");
    assert!(!proof.exists());
}

#[test]
fn a_large_pull_is_applied_as_a_whole() {
    let (fixture, repo) = level();
    fixture.push_from_elsewhere(|other| {
        for number in 0..1_000 {
            write(other, &format!(".claude/skills/s{number}/SKILL.md"), &number.to_string());
        }
    });
    assert_eq!(applied(pull(&repo)).0.len(), 1_000);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
    assert!(!fixture.root.join(".git/skillhook/incoming").exists());
    assert!(!fixture.root.join(".git/skillhook/pull").exists());
}
