use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Code;
use crate::model::digest::Digest;
use crate::model::revision::{FileRef, Revision};
use crate::repo::fixture::{Fixture, revision_of};
use crate::repo::{CommitOutcome, ServedFile};

fn contents(list: &[(&str, &str)]) -> BTreeMap<String, Arc<[u8]>> {
    list.iter().map(|(path, text)| ((*path).to_owned(), Arc::from(text.as_bytes()))).collect()
}

fn loose_objects(fixture: &Fixture) -> usize {
    let count = fixture.git(&["count-objects", "-v"]);
    count.lines().find_map(|line| line.strip_prefix("count: ")).unwrap().parse().unwrap()
}

#[test]
fn a_served_tree_is_read_back_equal() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let script = FileRef { digest: Digest::of(b"#!/bin/sh\n"), executable: true };
    let text = FileRef { digest: Digest::of(b"\xff\x00 any bytes"), executable: false };
    let files = BTreeMap::from([
        (".claude/skills/x/run.sh".to_owned(), script),
        (".claude/skills/x/SKILL.md".to_owned(), text),
    ]);
    let revision = Revision::of(files);
    assert!(!repo.has_served(&revision.digest).unwrap());
    assert_eq!(repo.read_served(&revision.digest).unwrap_err().code(), Code::RevisionMissing);
    let bytes = |path: &str| -> Option<Arc<[u8]>> {
        Some(if path.ends_with(".sh") {
            Arc::from(b"#!/bin/sh\n".as_slice())
        } else {
            Arc::from(b"\xff\x00 any bytes".as_slice())
        })
    };
    repo.write_served(&revision, &bytes).unwrap();
    assert!(repo.has_served(&revision.digest).unwrap());
    let read = repo.read_served(&revision.digest).unwrap();
    let file =
        |path: &str, executable, bytes: &[u8]| ServedFile { path: path.to_owned(), executable, bytes: bytes.to_vec() };
    assert_eq!(
        read,
        [
            file(".claude/skills/x/SKILL.md", false, b"\xff\x00 any bytes"),
            file(".claude/skills/x/run.sh", true, b"#!/bin/sh\n")
        ]
    );
    fixture.fsck();
    fixture.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(repo.read_served(&revision.digest).unwrap(), read);
    assert_eq!(fixture.git(&["status", "--porcelain"]), "");
}

#[test]
fn the_empty_revision_is_served_too() {
    let fixture = Fixture::empty();
    let repo = fixture.open();
    let nothing = Revision::of(BTreeMap::new());
    repo.write_served(&nothing, &|_| None).unwrap();
    assert!(repo.read_served(&nothing.digest).unwrap().is_empty());
    fixture.fsck();
}

#[test]
fn one_changed_file_writes_only_its_own_directories() {
    let fixture = Fixture::empty();
    let repo = fixture.open();
    let mut all = BTreeMap::new();
    for number in 0..300 {
        all.insert(format!(".claude/skills/s{number}/SKILL.md"), Arc::from(format!("{number}").as_bytes()));
    }
    repo.write_served(&revision_of(&all), &|path| all.get(path).cloned()).unwrap();
    assert_eq!(loose_objects(&fixture), 0, "many objects become one pack");
    all.insert(".claude/skills/s7/SKILL.md".to_owned(), Arc::from(b"changed".as_slice()));
    let changed = revision_of(&all);
    // Only what changed is asked for.
    let asked = std::cell::RefCell::new(Vec::new());
    repo.write_served(&changed, &|path| {
        asked.borrow_mut().push(path.to_owned());
        all.get(path).cloned()
    })
    .unwrap();
    assert_eq!(asked.into_inner(), [".claude/skills/s7/SKILL.md"]);
    // The file, its directory, `skills`, `.claude`, the root, and the commit.
    assert_eq!(loose_objects(&fixture), 6);
    assert_eq!(repo.read_served(&changed.digest).unwrap().len(), 300);
    fixture.fsck();
}

#[test]
fn content_that_is_not_given_is_found_by_its_digest() {
    let fixture = Fixture::with_history();
    fixture.write(".claude/skills/a/SKILL.md", "a2");
    let (second, given) = fixture.snapshot();
    fixture.open().write_served(&second, &|path| given.get(path).cloned()).unwrap();
    // After a restart nothing is in memory: one file comes from HEAD, one from the earlier served tree.
    let repo = fixture.open();
    let wanted = contents(&[(".claude/agents/brain.md", "brain"), (".claude/skills/a/SKILL.md", "a2")]);
    let more = contents(&[(".claude/skills/b/SKILL.md", "b")]);
    let mut all = wanted.clone();
    all.extend(more.clone());
    repo.write_served(&revision_of(&all), &|path| more.get(path).cloned()).unwrap();
    let first = contents(&[(".claude/agents/brain.md", "brain"), (".claude/skills/a/SKILL.md", "a1")]);
    fixture.open().write_served(&revision_of(&first), &|_| None).unwrap();
    fixture.fsck();
}

#[test]
fn content_that_changed_since_it_was_read_is_not_served() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let seen = revision_of(&contents(&[(".claude/skills/a/SKILL.md", "as it was hashed")]));
    let error = repo.write_served(&seen, &|_| Some(Arc::from(b"as it is now".as_slice()))).unwrap_err();
    assert_eq!(error.code(), Code::RevisionMissing);
    assert!(!repo.has_served(&seen.digest).unwrap());
}

#[test]
fn dangerous_paths_are_never_written() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    for path in ["../out", ".git/hooks/pre-commit", ".claude/skills/.GIT/config", "/etc/x", ".claude//x"] {
        let all = contents(&[(path, "x")]);
        let error = repo.write_served(&revision_of(&all), &|path| all.get(path).cloned()).unwrap_err();
        assert_eq!(error.code(), Code::UnsafePath, "{path}");
    }
}

#[test]
fn pruning_keeps_what_is_named_and_the_newest() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let digests: Vec<Digest> = ["1", "2", "3", "4"]
        .map(|text| {
            let all = contents(&[(".claude/skills/a/SKILL.md", text)]);
            let revision = revision_of(&all);
            repo.write_served(&revision, &|path| all.get(path).cloned()).unwrap();
            revision.digest
        })
        .into();
    fixture.git(&["pack-refs", "--all"]);
    assert_eq!(repo.prune_served(&digests[1..2]).unwrap(), 2);
    let kept: Vec<bool> = digests.iter().map(|digest| repo.has_served(digest).unwrap()).collect();
    assert_eq!(kept, [false, true, false, true]);
    assert_eq!(repo.served().unwrap().len(), 2);
    fixture.git(&["gc", "-q", "--prune=now"]);
    // What was collected can be served again, though its blob was remembered.
    let all = contents(&[(".claude/skills/a/SKILL.md", "1")]);
    repo.write_served(&revision_of(&all), &|path| all.get(path).cloned()).unwrap();
    assert_eq!(repo.read_served(&digests[0]).unwrap().len(), 1);
    fixture.fsck();
}

#[test]
fn a_torn_object_is_replaced_instead_of_built_upon() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    fixture.write(".claude/skills/a/SKILL.md", "torn");
    let name = fixture.git(&["hash-object", "-w", ".claude/skills/a/SKILL.md"]);
    let path = fixture.root.join(".git/objects").join(&name[..2]).join(&name[2..]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert!(matches!(fixture.commit(&repo), CommitOutcome::Committed { .. }));
    assert_eq!(fixture.git(&["show", "HEAD:.claude/skills/a/SKILL.md"]), "torn");
    fixture.fsck();
}

#[test]
fn a_damaged_served_tree_is_written_anew() {
    let fixture = Fixture::with_history();
    let repo = fixture.open();
    let all = contents(&[(".claude/skills/a/SKILL.md", "only here")]);
    let revision = revision_of(&all);
    let write = || repo.write_served(&revision, &|path| all.get(path).cloned()).unwrap();
    write();
    let blob =
        fixture.git(&["rev-parse", &format!("refs/skillhook/served/{}:.claude/skills/a/SKILL.md", revision.digest)]);
    let path = fixture.root.join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert_eq!(fixture.open().read_served(&revision.digest).unwrap_err().code(), Code::RevisionMissing);
    write();
    assert_eq!(repo.read_served(&revision.digest).unwrap()[0].bytes, b"only here");
    fixture.fsck();
}

/// The cost of large trees; the figures are printed, and compared only with each other.
#[test]
fn of_ten_thousand_skills_one_change_costs_a_part_of_all() {
    let fixture = Fixture::empty();
    let repo = fixture.open();
    let text = |number: usize, edit: &str| {
        Arc::from(format!("---\nname: s{number}\n---\n{edit}{}", "x".repeat(3_000)).as_bytes())
    };
    let mut all: BTreeMap<String, Arc<[u8]>> =
        (0..10_000).map(|number| (format!(".claude/skills/s{number:05}/SKILL.md"), text(number, ""))).collect();
    let timed = |what: &str, work: &dyn Fn()| {
        let start = std::time::Instant::now();
        work();
        println!("{what}: {:?}", start.elapsed());
        start.elapsed()
    };
    let first = revision_of(&all);
    let whole = timed("first", &|| repo.write_served(&first, &|path| all.get(path).cloned()).unwrap());
    let mut once = std::time::Duration::MAX;
    for edit in ["a", "b", "c"] {
        all.insert(".claude/skills/s00007/SKILL.md".to_owned(), text(7, edit));
        let next = revision_of(&all);
        once = once.min(timed("one change", &|| repo.write_served(&next, &|path| all.get(path).cloned()).unwrap()));
    }
    let last = revision_of(&all);
    timed("read back", &|| assert_eq!(repo.read_served(&last.digest).unwrap().len(), 10_000));
    timed("first commit", &|| {
        let outcome = repo.commit(&crate::repo::fixture::request(&last)).unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed { .. }));
    });
    let fresh = fixture.open();
    all.insert(".claude/skills/s00008/SKILL.md".to_owned(), text(8, "cold"));
    let cold = revision_of(&all);
    timed("after a restart", &|| fresh.write_served(&cold, &|path| all.get(path).cloned()).unwrap());
    timed("commit of one", &|| {
        let outcome = fresh.commit(&crate::repo::fixture::request(&cold)).unwrap();
        assert!(matches!(outcome, CommitOutcome::Committed { .. }));
    });
    assert!(once * 2 < whole, "one change took {once:?}, everything {whole:?}");
}
