//! Where pending edits come from: who wrote these files through us, until the commit that says so exists.
//!
//! An entry is on disk before its files are, so a commit made after a crash still names its origin. An entry speaks of
//! exact contents: what somebody else puts into the same file is not taken for ours. Nothing here decides what is in
//! force; without an entry an edit is a person's edit of a file.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

use crate::error::{Code, Context as _, Result};
use crate::model::change::Origin;
use crate::model::digest::Digest;
use crate::model::revision::{CommitId, Revision};
use crate::seam::fresh_id;

/// Entries that may wait; edits are refused when so many are not recorded yet.
pub const ENTRIES_MAX: usize = 1_000;

/// Edits of one origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub origin: Origin,
    pub actor: String,
    pub at: Timestamp,
    /// By root-relative path what it was given; `None`: it was deleted.
    pub files: BTreeMap<String, Option<Digest>>,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Not yet.
    Pending,
    /// In this commit; `None` where nothing is committed here.
    Commit(Option<CommitId>),
}

/// An entry that was noted.
#[derive(Debug)]
pub struct Ticket {
    id: Uuid,
    pub recorded: watch::Receiver<Recorded>,
}

/// The entries that wait for their commit. A cheap handle.
#[derive(Clone, Debug)]
pub struct Origins {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// By time of birth.
    waiting: Mutex<BTreeMap<Uuid, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    entry: Entry,
    /// The first pass that sees all its files; `None` while they are being written.
    pass: Option<u64>,
    recorded: watch::Sender<Recorded>,
}

/// The files of an entry that a tree has exactly so.
pub struct Matching {
    pub id: Uuid,
    pub entry: Entry,
    pub paths: Vec<String>,
    /// Its files had been written when the tree was looked at.
    pub settled: bool,
}

impl Origins {
    /// Takes up what an earlier process left. An entry that cannot be read is dropped: its edits are a person's then.
    ///
    /// # Errors
    /// SH0508 when the directory cannot be made or listed.
    pub fn open(directory: PathBuf) -> Result<Self> {
        let failed = "the notes about pending edits cannot be read";
        fs::create_dir_all(&directory).context(Code::TreeUnreadable, failed)?;
        let mut waiting = BTreeMap::new();
        for file in fs::read_dir(&directory).context(Code::TreeUnreadable, failed)? {
            let path = file.context(Code::TreeUnreadable, failed)?.path();
            match read(&path) {
                Some((id, entry)) => drop(waiting.insert(id, Waiting::new(entry, Some(0)))),
                None => drop(fs::remove_file(&path)),
            }
        }
        Ok(Self { shared: Arc::new(Shared { directory, waiting: Mutex::new(waiting) }) })
    }

    /// Remembers durably that these files are about to be written. Blocks.
    ///
    /// # Errors
    /// SH0508 when it cannot be written, SH0410 when too many wait.
    pub fn note(&self, entry: Entry) -> Result<Ticket> {
        if self.waiting().len() >= ENTRIES_MAX {
            let message = "too many changes wait for their commit";
            return Err(crate::error::Error::new(Code::NotReady, message)
                .hint("`skillhook status` shows what is in the way of commits"));
        }
        let id = fresh_id();
        write(&self.shared.directory, id, &entry)
            .context(Code::TreeUnreadable, "the note about the edit cannot be written")?;
        let waiting = Waiting::new(entry, None);
        let recorded = waiting.recorded.subscribe();
        self.waiting().insert(id, waiting);
        Ok(Ticket { id, recorded })
    }

    /// Waits until no edit of somebody else waits for its commit in one of these files: two people's edits of one file
    /// are two commits, if that does not take longer than `at_most`.
    pub async fn others_recorded(&self, entry: &Entry, at_most: Duration) {
        let others: Vec<_> = {
            let waiting = self.waiting();
            let meets = |other: &Entry| {
                let same_author = (other.origin, &other.actor) == (entry.origin, &entry.actor);
                !same_author && other.files.keys().any(|path| entry.files.contains_key(path))
            };
            waiting.values().filter(|other| meets(&other.entry)).map(|other| other.recorded.subscribe()).collect()
        };
        let recorded = async {
            for mut other in others {
                // An error means that it was settled and forgotten.
                let _ = other.wait_for(|recorded| *recorded != Recorded::Pending).await;
            }
        };
        let _ = tokio::time::timeout(at_most, recorded).await;
    }

    /// All its files are written; the pass with this number sees them.
    pub fn written(&self, ticket: &Ticket, pass: u64) {
        if let Some(waiting) = self.waiting().get_mut(&ticket.id) {
            waiting.pass = Some(pass);
        }
    }

    /// Nothing was written after all.
    pub fn withdraw(&self, ticket: &Ticket) {
        self.settle(ticket.id, None);
    }

    /// The entries in the order of their birth, each with the files that the tree of the pass has exactly so.
    pub(super) fn matching(&self, tree: &Revision, pass: u64) -> Vec<Matching> {
        let has = |path: &str| tree.files.get(path).map(|file| file.digest);
        let matching = |(id, waiting): (&Uuid, &Waiting)| {
            let paths = waiting.entry.files.iter().filter(|(path, digest)| has(path) == **digest);
            Matching {
                id: *id,
                entry: waiting.entry.clone(),
                paths: paths.map(|(path, _)| path.clone()).collect(),
                settled: waiting.pass.is_some_and(|first| first <= pass),
            }
        };
        self.waiting().iter().map(matching).collect()
    }

    /// It is recorded (or overtaken): forgets it and tells whoever waits.
    pub(super) fn settle(&self, id: Uuid, commit: Option<CommitId>) {
        if let Some(waiting) = self.waiting().remove(&id) {
            waiting.recorded.send_replace(Recorded::Commit(commit));
        }
        // Left behind it would only be read and matched once more.
        let _ = fs::remove_file(place(&self.shared.directory, id));
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Uuid, Waiting>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn new(entry: Entry, pass: Option<u64>) -> Self {
        Self { entry, pass, recorded: watch::channel(Recorded::Pending).0 }
    }
}

fn place(directory: &Path, id: Uuid) -> PathBuf {
    directory.join(format!("{id}.json"))
}

fn read(path: &Path) -> Option<(Uuid, Entry)> {
    let id = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
    Some((id, serde_json::from_slice(&fs::read(path).ok()?).ok()?))
}

fn write(directory: &Path, id: Uuid, entry: &Entry) -> io::Result<()> {
    let temporary = directory.join(format!("{id}.tmp"));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(entry)?)?;
    file.sync_all()?;
    fs::rename(&temporary, place(directory, id))?;
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::revision::FileRef;

    fn entry(files: &[(&str, Option<&str>)]) -> Entry {
        let digest = |content: &&str| Digest::of(content.as_bytes());
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), content.as_ref().map(digest))).collect();
        Entry { origin: Origin::Api, actor: "ann".into(), at: Timestamp::UNIX_EPOCH, files }
    }

    fn tree(files: &[(&str, &str)]) -> Revision {
        let file = |content: &str| FileRef { digest: Digest::of(content.as_bytes()), executable: false };
        Revision::of(files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect())
    }

    #[test]
    fn an_entry_survives_a_crash_and_matches_exact_contents_only() {
        let temp = tempfile::tempdir().unwrap();
        let origins = Origins::open(temp.path().join("origins")).unwrap();
        origins.note(entry(&[("a", Some("1")), ("b", None)])).unwrap();
        drop(origins);
        let origins = Origins::open(temp.path().join("origins")).unwrap();
        let paths = |tree: &Revision| origins.matching(tree, 1).remove(0).paths;
        assert_eq!(paths(&tree(&[("a", "1")])), ["a", "b"]);
        assert_eq!(paths(&tree(&[("a", "2"), ("b", "1")])), Vec::<String>::new());
        let id = origins.matching(&tree(&[]), 1)[0].id;
        origins.settle(id, None);
        assert!(Origins::open(temp.path().join("origins")).unwrap().matching(&tree(&[]), 1).is_empty());
    }

    #[test]
    fn files_that_are_being_written_are_not_taken_for_overtaken() {
        let temp = tempfile::tempdir().unwrap();
        let origins = Origins::open(temp.path().to_owned()).unwrap();
        let ticket = origins.note(entry(&[("a", Some("1"))])).unwrap();
        assert!(!origins.matching(&tree(&[]), 9)[0].settled);
        origins.written(&ticket, 7);
        assert!(!origins.matching(&tree(&[]), 6)[0].settled);
        assert!(origins.matching(&tree(&[]), 7)[0].settled);
    }

    #[test]
    fn whoever_waits_is_told_the_commit() {
        let temp = tempfile::tempdir().unwrap();
        let origins = Origins::open(temp.path().to_owned()).unwrap();
        let ticket = origins.note(entry(&[("a", Some("1"))])).unwrap();
        assert_eq!(*ticket.recorded.borrow(), Recorded::Pending);
        let commit = CommitId::parse(&"a".repeat(40)).unwrap();
        origins.settle(ticket.id, Some(commit.clone()));
        assert_eq!(*ticket.recorded.borrow(), Recorded::Commit(Some(commit)));
    }
}
