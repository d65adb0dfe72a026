//! One suite for every kind of copy, against real storage: a directory, an S3 server, a PostgreSQL server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;

use super::manifest::{Head, Manifest, Rules};
use super::push::{Pushed, Pusher, Target};
use super::{CloudCopy, Key, Place, Swap, Wanted, find, lay_down, open, push, seal, sweep};
use crate::error::Code;
use crate::model::digest::Digest;
use crate::model::revision::CommitId;
use crate::repo::fixture::Fixture;
use crate::repo::{Options, Repository};
use crate::seam::Clock;
use crate::testing::{PostgresServer, S3Server};

/// A place of its own for each call of `fresh`.
struct Ground {
    directory: TempDir,
    s3: Option<S3Server>,
    postgres: Option<PostgresServer>,
}

impl Ground {
    /// Every place that can be had here, by name.
    fn places(&self, name: &str) -> Vec<(&'static str, Arc<dyn CloudCopy>)> {
        let directory = self.directory.path().join(name);
        let mut lines = vec![("directory", format!("dir:{}", directory.display()), BTreeMap::new())];
        if let Some(server) = &self.s3 {
            lines.push(("s3", format!("s3:copies/{name}"), server.environment()));
        }
        if let Some(server) = &self.postgres {
            lines.push(("postgres", server.url(&format!("copy={name}")), BTreeMap::new()));
        }
        let opened = lines.into_iter().map(|(kind, line, environment)| {
            let place = Place::parse(&line, Path::new("/"), &environment).unwrap();
            (kind, open(&place, &environment).unwrap())
        });
        opened.collect()
    }
}

/// Runs a claim against every kind of copy, one server each for all of them.
async fn everywhere<F: Future<Output = ()>>(claim: impl Fn(Arc<dyn CloudCopy>) -> F, name: &str) {
    let ground = Ground {
        directory: tempfile::tempdir().unwrap(),
        s3: S3Server::start(&["copies"]).await,
        postgres: PostgresServer::start(),
    };
    for (kind, copy) in ground.places(name) {
        println!("{name} on {kind}");
        claim(copy).await;
    }
}

/// The whole contract in one go for each kind, because a server costs seconds.
#[tokio::test]
async fn every_kind_of_copy_keeps_the_contract() {
    everywhere(
        |copy| async move {
            objects_come_back_whole(&*copy).await;
            the_head_moves_from_what_was_expected_alone(&*copy).await;
            of_many_writers_one_wins(&copy).await;
            only_what_is_old_enough_is_removed(&*copy).await;
        },
        "contract",
    )
    .await;
}

async fn objects_come_back_whole(copy: &dyn CloudCopy) {
    for content in [Bytes::new(), Bytes::from_static(b"\0\xff"), Bytes::from(vec![7; 9 << 20])] {
        let id = Digest::of(&content);
        assert_eq!(copy.get(id).await.unwrap(), None);
        copy.put(id, content.clone()).await.unwrap();
        copy.put(id, content.clone()).await.unwrap();
        assert_eq!(copy.get(id).await.unwrap().unwrap(), content);
    }
    assert_eq!(copy.list().await.unwrap().len(), 3);
    let lie = Digest::of(b"another");
    copy.put(lie, Bytes::from_static(b"not what the name says")).await.unwrap();
    assert_eq!(super::fetch(copy, lie).await.unwrap_err().code(), Code::CopyDamaged);
    copy.remove(lie, Timestamp::MAX).await.unwrap();
    assert_eq!(super::fetch(copy, lie).await.unwrap_err().code(), Code::CopyDamaged);
}

async fn the_head_moves_from_what_was_expected_alone(copy: &dyn CloudCopy) {
    assert!(copy.head().await.unwrap().is_none());
    let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    assert_eq!(copy.swap(None, one.clone()).await.unwrap(), Swap::Moved);
    assert_eq!(copy.swap(None, two.clone()).await.unwrap(), Swap::Lost);
    let (head, version) = copy.head().await.unwrap().unwrap();
    assert_eq!(head, one);
    assert_eq!(copy.swap(Some(version.clone()), two.clone()).await.unwrap(), Swap::Moved);
    assert_eq!(copy.swap(Some(version), one).await.unwrap(), Swap::Lost);
    assert_eq!(copy.head().await.unwrap().unwrap().0, two);
}

async fn of_many_writers_one_wins(copy: &Arc<dyn CloudCopy>) {
    let (_, version) = copy.head().await.unwrap().unwrap();
    let writers = (0..8).map(|n| {
        let (copy, version) = (Arc::clone(copy), version.clone());
        tokio::spawn(async move { (n, copy.swap(Some(version), Bytes::from(format!("writer {n}"))).await) })
    });
    let mut won = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        let (n, outcome) = writer.await.unwrap();
        // Storage may also answer that it is busy with another writer: then nothing was moved by this one.
        won.extend(outcome.ok().filter(|swap| *swap == Swap::Moved).map(|_| n));
    }
    assert_eq!(won.len(), 1, "{won:?}");
    assert_eq!(copy.head().await.unwrap().unwrap().0, format!("writer {}", won[0]));
}

async fn only_what_is_old_enough_is_removed(copy: &dyn CloudCopy) {
    let content = Bytes::from_static(b"young");
    let id = Digest::of(&content);
    copy.put(id, content).await.unwrap();
    let at = copy.list().await.unwrap().into_iter().find(|stored| stored.id == id).unwrap().at;
    copy.remove(id, at.checked_sub(SignedDuration::from_secs(5)).unwrap()).await.unwrap();
    assert!(copy.get(id).await.unwrap().is_some());
    copy.remove(id, at.checked_add(SignedDuration::from_secs(5)).unwrap()).await.unwrap();
    assert!(copy.get(id).await.unwrap().is_none());
    copy.remove(id, Timestamp::MAX).await.unwrap();
}

fn pusher(repository: &Repository, copy: &Arc<dyn CloudCopy>, key: Option<&Key>) -> Arc<Pusher> {
    Arc::new(Pusher {
        name: "test".to_owned(),
        copy: Arc::clone(copy),
        key: key.cloned(),
        repository: repository.clone(),
        rules: Rules::default(),
        history: true,
        clock: Clock::System,
        seen: Mutex::new(None),
    })
}

fn head(repository: &Repository) -> CommitId {
    repository.head().unwrap().unwrap()
}

async fn push_head(pusher: &Arc<Pusher>) -> Pushed {
    let commit = head(&pusher.repository);
    pusher.push(&Target { commit, index: Some(Digest::of(b"index")) }).await.unwrap()
}

fn commit(fixture: &Fixture, path: &str, content: &str) {
    fixture.write(path, content);
    fixture.git(&["add", "-A"]);
    fixture.git(&["commit", "-qm", content]);
}

fn options() -> Options {
    Options { environment: std::env::vars_os().collect(), ..Options::default() }
}

/// A history with renamed, executable and removed files, pushed commit by commit and in one go, comes back bit by bit.
#[tokio::test]
async fn a_history_goes_into_every_kind_of_copy_and_comes_back() {
    everywhere(
        |copy| async move {
            let key = Key::generate();
            let fixture = Fixture::with_history();
            let repository = fixture.open();
            let first = head(&repository);
            let this = pusher(&repository, &copy, Some(&key));
            assert_eq!(push_head(&this).await.manifests, 1);
            assert_eq!(push_head(&this).await.manifests, 0);
            commit(&fixture, ".claude/skills/a/run.sh", "echo secret-content");
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(fixture.root.join(".claude/skills/a/run.sh"), executable).unwrap();
            fixture.git(&["commit", "-qam", "executable"]);
            commit(&fixture, "src/x", "not ours");
            std::fs::remove_file(fixture.root.join(".claude/agents/brain.md")).unwrap();
            commit(&fixture, ".claude/agents/new.md", "new");
            // As after a restart: nothing is remembered.
            let this = pusher(&repository, &copy, Some(&key));
            let pushed = push_head(&this).await;
            assert_eq!((pushed.manifests, pushed.sequence, pushed.behind), (4, 5, false));
            assert_eq!(pushed.without_history, None);

            let manifest = find(&*copy, Some(&key), &Wanted::Newest).await.unwrap();
            assert_eq!(manifest.index, Some(Digest::of(b"index")));
            assert_eq!(find(&*copy, None, &Wanted::Newest).await.unwrap_err().code(), Code::CopyKey);
            let temp = tempfile::tempdir().unwrap();
            let target = temp.path().join("restored");
            let restored = lay_down(&*copy, Some(&key), &manifest, &target, options()).await.unwrap();
            assert!(restored.history);
            let again = Repository::open(&target, options()).unwrap();
            assert_eq!(head(&again), head(&repository));
            assert_eq!(again.commits_since(&head(&again), None, 99).unwrap().len(), 5);
            let read = |path: &str| std::fs::read_to_string(target.join(path));
            assert_eq!(read(".claude/skills/a/run.sh").unwrap(), "echo secret-content");
            assert_eq!(read("src/x").unwrap(), "not ours");
            read(".claude/agents/brain.md").unwrap_err();
            let same = again.committed_files(&head(&again)).unwrap();
            assert_eq!(same, repository.committed_files(&head(&repository)).unwrap());
            assert!(same[".claude/skills/a/run.sh"].executable);
            // Sealed: nothing stored shows content.
            for stored in copy.list().await.unwrap() {
                let bytes = copy.get(stored.id).await.unwrap().unwrap();
                assert!(!bytes.windows(14).any(|window| window == b"secret-content"));
            }

            let named = Wanted::Named(first.short().to_owned());
            let earlier = find(&*copy, Some(&key), &named).await.unwrap();
            let target = temp.path().join("earlier");
            lay_down(&*copy, Some(&key), &earlier, &target, options()).await.unwrap();
            assert!(target.join(".claude/agents/brain.md").exists());
            let full = lay_down(&*copy, Some(&key), &earlier, &target, options()).await.unwrap_err();
            assert_eq!(full.code(), Code::Conflict);
            let none = find(&*copy, Some(&key), &Wanted::Named("nothing".to_owned())).await.unwrap_err();
            assert_eq!(none.code(), Code::NotFound);

            only_what_nothing_reaches_is_swept(&*copy, &key).await;
            lay_down(&*copy, Some(&key), &earlier, &temp.path().join("kept"), options()).await.unwrap();
        },
        "history",
    )
    .await;
}

/// A push that ended halfway is forgotten after a day, and nothing else is.
async fn only_what_nothing_reaches_is_swept(copy: &dyn CloudCopy, key: &Key) {
    let before = copy.list().await.unwrap().len();
    let (id, orphan) = seal::seal(b"left behind", None).unwrap();
    copy.put(id, orphan).await.unwrap();
    let now = Clock::System.now();
    assert_eq!(sweep::sweep(copy, Some(key), now).await.unwrap(), 0);
    let later = now.checked_add(SignedDuration::from_hours(25)).unwrap();
    assert_eq!(sweep::sweep(copy, Some(key), later).await.unwrap(), 1);
    assert_eq!(copy.list().await.unwrap().len(), before);
}

fn in_directory(directory: &TempDir) -> Arc<dyn CloudCopy> {
    open(&Place::Directory(directory.path().to_owned()), &BTreeMap::new()).unwrap()
}

#[tokio::test]
async fn of_two_histories_in_one_place_the_second_is_refused_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let copy = in_directory(&directory);
    let (one, two) = (Fixture::with_history(), Fixture::with_history());
    commit(&two, ".claude/skills/b/SKILL.md", "of the second");
    let (ours, theirs) = (pusher(&one.open(), &copy, None), pusher(&two.open(), &copy, None));
    push_head(&ours).await;
    let commit_of_theirs = head(&theirs.repository);
    // The files of the first are in the second's history under another commit: that is no conflict.
    let begun = theirs.push(&Target { commit: commit_of_theirs.clone(), index: None }).await.unwrap();
    assert!(begun.manifests >= 1);
    commit(&one, ".claude/skills/c/SKILL.md", "of the first");
    let ours = pusher(&one.open(), &copy, None);
    let target = Target { commit: head(&ours.repository), index: None };
    let refused = ours.push(&target).await.unwrap_err();
    assert_eq!(refused.code(), Code::CopyConflict);
    assert!(refused.message().contains(commit_of_theirs.short()), "{refused}");
    let kept = find(&*copy, None, &Wanted::Newest).await.unwrap();
    assert_eq!(kept.commit, commit_of_theirs);
}

#[tokio::test]
async fn a_clone_that_lags_leaves_the_copy_alone_and_a_restored_one_continues_it() {
    let directory = tempfile::tempdir().unwrap();
    let copy = in_directory(&directory);
    let fixture = Fixture::with_history();
    let repository = fixture.open();
    let first = head(&repository);
    commit(&fixture, ".claude/skills/b/SKILL.md", "b");
    let this = pusher(&repository, &copy, None);
    push_head(&this).await;
    let lagging = this.push(&Target { commit: first, index: None }).await.unwrap();
    assert!(lagging.behind);
    // Restored without the history: other commits, the same files.
    let manifest = find(&*copy, None, &Wanted::Newest).await.unwrap();
    let bare = Manifest { history: Vec::new(), ..manifest.clone() };
    let temp = tempfile::tempdir().unwrap();
    let target = temp.path().join("restored");
    let restored = lay_down(&*copy, None, &bare, &target, options()).await.unwrap();
    assert!(!restored.history);
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=P", "-c", "user.email=p@example.org"]).args(arguments).current_dir(&target);
        assert!(command.status().unwrap().success());
    };
    git(&["add", "-A"]);
    git(&["commit", "-qm", "begin again"]);
    let again = pusher(&Repository::open(&target, options()).unwrap(), &copy, None);
    let pushed = push_head(&again).await;
    assert_eq!((pushed.manifests, pushed.sequence), (1, manifest.sequence + 1));
}

#[tokio::test]
async fn every_flipped_byte_of_a_copy_is_noticed_and_nothing_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let copy = in_directory(&directory);
    let fixture = Fixture::with_history();
    push_head(&pusher(&fixture.open(), &copy, None)).await;
    let temp = tempfile::tempdir().unwrap();
    for stored in copy.list().await.unwrap() {
        let name = stored.id.to_string();
        let path = directory.path().join("objects").join(&name[..2]).join(&name[2..]);
        let whole = std::fs::read(&path).unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&path, &flipped).unwrap();
            let target = temp.path().join("target");
            let outcome = match find(&*copy, None, &Wanted::Newest).await {
                Ok(manifest) => lay_down(&*copy, None, &manifest, &target, options()).await.map(|_| ()),
                Err(error) => Err(error),
            };
            assert_eq!(outcome.unwrap_err().code(), Code::CopyDamaged);
            assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        }
        std::fs::write(&path, &whole).unwrap();
    }
    let manifest = find(&*copy, None, &Wanted::Newest).await.unwrap();
    lay_down(&*copy, None, &manifest, &temp.path().join("target"), options()).await.unwrap();
}

#[tokio::test]
async fn a_copy_that_is_away_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let copy = open(&Place::Directory(file), &BTreeMap::new()).unwrap();
    assert_eq!(copy.put(Digest::of(b""), Bytes::new()).await.unwrap_err().code(), Code::CopyUnavailable);
    let line = "postgres://u@127.0.0.1:1/d";
    let place = Place::parse(line, Path::new("/"), &BTreeMap::new()).unwrap();
    let away = open(&place, &BTreeMap::new()).unwrap();
    assert_eq!(away.head().await.unwrap_err().code(), Code::CopyUnavailable);
    let environment = [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
    ];
    let environment: BTreeMap<_, _> = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let place = Place::parse("s3:bucket", Path::new("/"), &environment).unwrap();
    let away = tokio::time::timeout(Duration::from_secs(60), open(&place, &environment).unwrap().head()).await;
    assert_eq!(away.unwrap().unwrap_err().code(), Code::CopyUnavailable);
}

/// The head says nothing about content, and is refused when it is no head.
#[tokio::test]
async fn a_head_that_is_none_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let copy = in_directory(&directory);
    copy.swap(None, Bytes::from_static(b"{}")).await.unwrap();
    assert_eq!(find(&*copy, None, &Wanted::Newest).await.unwrap_err().code(), Code::CopyDamaged);
    let head = Head { format: 1, sequence: 1, manifest: Digest::of(b"gone"), at: Timestamp::UNIX_EPOCH };
    std::fs::write(directory.path().join("head"), head.encode()).unwrap();
    assert_eq!(push::load(&*copy, None, head.manifest).await.unwrap_err().code(), Code::CopyDamaged);
}
