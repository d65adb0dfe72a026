//! Bringing commits into one copy: which are missing there, what each adds, and the head last.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::manifest::{Bundle, File, Head, Manifest, Rules};
use super::{CloudCopy, Key, ObjectId, Swap, Version, fetch, seal};
use crate::error::{Code, Context as _, Error, Result};
use crate::model::digest::Digest;
use crate::model::revision::CommitId;
use crate::repo::{Committed, Relation, Repository};
use crate::seam::Clock;

/// Most commits that are copied one by one; of a longer backlog the newest are.
const COMMITS_MAX: usize = 64;
/// Bundles of a manifest; one more, and the history is bundled anew as a whole.
const BUNDLES_MAX: usize = 50;
/// A bundle is cut into objects of this many bytes.
const CHUNK_BYTES: usize = 8 << 20;
/// A larger history is not copied, in bytes.
const BUNDLE_BYTES_MAX: u64 = 1 << 30;
/// Longest time for git to make a bundle.
const BUNDLE: Duration = Duration::from_secs(600);
/// How often a head that somebody else moved is looked at again.
const TRIES: usize = 3;

/// What pushing needs.
pub(super) struct Pusher {
    pub(super) name: String,
    pub(super) copy: Arc<dyn CloudCopy>,
    pub(super) key: Option<Key>,
    pub(super) repository: Repository,
    pub(super) rules: Rules,
    /// Whether the git history is copied too.
    pub(super) history: bool,
    pub(super) clock: Clock,
    /// The manifest that was seen last.
    pub(super) seen: Mutex<Option<(ObjectId, Arc<Manifest>)>>,
}

/// A commit and, for the newest one, the index that was in force with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) commit: CommitId,
    pub(super) index: Option<Digest>,
}

/// How a push ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pushed {
    pub(super) sequence: u64,
    pub(super) manifests: usize,
    /// The copy holds a later commit that this clone has not got yet.
    pub(super) behind: bool,
    /// Why the history is not in it, if it should be.
    pub(super) without_history: Option<String>,
}

type Known = Option<(Version, ObjectId, Arc<Manifest>)>;

impl Pusher {
    /// Brings the copy up to a commit, revision by revision.
    ///
    /// # Errors
    /// SH0910 when the copy does not answer, SH0911 when it holds what this history has not.
    pub(super) async fn push(self: &Arc<Self>, target: &Target) -> Result<Pushed> {
        let mut manifests = 0;
        let mut without_history = None;
        for _ in 0..TRIES {
            let known = self.known().await?;
            let base = known.as_ref().map(|(_, _, manifest)| Arc::clone(manifest));
            let (this, wanted) = (Arc::clone(self), target.clone());
            let pending = match blocking(move || this.pending(&wanted, base.as_deref())).await? {
                Pending::Commits(commits) => commits,
                Pending::Behind => {
                    let sequence = known.map_or(0, |(_, _, manifest)| manifest.sequence);
                    return Ok(Pushed { sequence, manifests, behind: true, without_history });
                }
            };
            let mut head = known;
            let mut lost = false;
            for next in pending {
                let (manifest, trouble) = self.build(&next, head.as_ref()).await?;
                without_history = trouble;
                match self.publish(manifest, head.as_ref()).await? {
                    Some(moved) => {
                        manifests += 1;
                        head = Some(moved);
                    }
                    None => {
                        lost = true;
                        break;
                    }
                }
            }
            if !lost {
                let sequence = head.map_or(0, |(_, _, manifest)| manifest.sequence);
                return Ok(Pushed { sequence, manifests, behind: false, without_history });
            }
        }
        Err(Error::new(Code::CopyConflict, format!("somebody else moves the head of the copy `{}`", self.name))
            .hint("let one service push to it, or services on the same history"))
    }

    /// The head of the copy, its manifest, and what to expect when moving it.
    async fn known(&self) -> Result<Known> {
        let Some((bytes, version)) = self.copy.head().await? else { return Ok(None) };
        let head = Head::decode(&bytes)?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((id, manifest)) = seen.filter(|(id, _)| *id == head.manifest) {
            return Ok(Some((version, id, manifest)));
        }
        let manifest = Arc::new(load(&*self.copy, self.key.as_ref(), head.manifest).await?);
        self.saw(head.manifest, &manifest);
        Ok(Some((version, head.manifest, manifest)))
    }

    fn saw(&self, id: ObjectId, manifest: &Arc<Manifest>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, Arc::clone(manifest)));
    }

    /// What has to be copied, oldest first.
    fn pending(&self, target: &Target, base: Option<&Manifest>) -> Result<Pending> {
        let named = |commits: Vec<CommitId>| {
            let with_index = |commit: CommitId| {
                let index = target.index.filter(|_| commit == target.commit);
                Target { commit, index }
            };
            Ok(Pending::Commits(commits.into_iter().map(with_index).collect()))
        };
        let tip = &target.commit;
        let Some(base) = base else { return named(vec![tip.clone()]) };
        match self.repository.relation(tip, &base.commit)? {
            Relation::Same if base.rules == self.rules && (target.index.is_none() || base.index == target.index) => {
                named(Vec::new())
            }
            Relation::Same => named(vec![tip.clone()]),
            Relation::Ahead => named(self.repository.commits_since(tip, Some(&base.commit), COMMITS_MAX)?),
            Relation::Behind => Ok(Pending::Behind),
            Relation::Diverged | Relation::Unknown => {
                let commits = self.repository.commits_since(tip, None, COMMITS_MAX)?;
                let mut at = None;
                for (n, commit) in commits.iter().enumerate().rev() {
                    if holds(base, &self.repository.committed_files(commit)?) {
                        at = Some(n);
                        break;
                    }
                }
                // The same files with another history: restored without it, or a commit that was reworded.
                let at = at.ok_or_else(|| self.conflict(base))?;
                named(commits.into_iter().skip(at).collect())
            }
        }
    }

    fn conflict(&self, base: &Manifest) -> Error {
        let message = format!(
            "the copy `{}` holds the commit `{}`, which this history has not: nothing is overwritten",
            self.name,
            base.commit.short()
        );
        Error::new(Code::CopyConflict, message).hint(
            "bring that commit in (pull, or `skillhook restore`), or give this service a place of its own for copies",
        )
    }

    async fn build(
        self: &Arc<Self>,
        target: &Target,
        before: Option<&(Version, ObjectId, Arc<Manifest>)>,
    ) -> Result<(Manifest, Option<String>)> {
        // What was stored under another kind of seal is stored again.
        let usable = before.map(|(_, _, manifest)| manifest).filter(|before| before.sealed == self.key.is_some());
        let (this, commit) = (Arc::clone(self), target.commit.clone());
        let listing = blocking(move || this.repository.committed_files(&commit)).await?;
        let mut files = BTreeMap::new();
        for (path, committed) in listing {
            let known = usable.and_then(|before| before.files.get(&path));
            if let Some(known) = known.filter(|known| known.blob == committed.blob) {
                files.insert(path, File { executable: committed.executable, ..known.clone() });
            } else if let Some(file) = self.store(committed).await? {
                files.insert(path, file);
            }
        }
        let (history, trouble) = match self.bundles(target, usable.map(|before| before.history.as_slice())).await {
            Ok(history) => (history, None),
            Err(error) if error.code() == Code::GitFailed => (Vec::new(), Some(error.message().to_owned())),
            Err(error) => return Err(error),
        };
        let manifest = Manifest {
            format: Manifest::FORMAT,
            sequence: before.map_or(0, |(_, _, before)| before.sequence) + 1,
            parent: before.map(|(_, id, _)| *id),
            sealed: self.key.is_some(),
            revision: Manifest::revision_of(&files),
            index: target.index,
            rules: self.rules.clone(),
            commit: target.commit.clone(),
            branch: self.repository.branch()?.unwrap_or_else(|| "main".to_owned()),
            prefix: self.repository.prefix().to_owned(),
            at: self.clock.now(),
            files,
            history,
        };
        Ok((manifest, trouble))
    }

    /// `None`: larger than a file of a skill may be.
    async fn store(self: &Arc<Self>, committed: Committed) -> Result<Option<File>> {
        let this = Arc::clone(self);
        let sealed = blocking(move || {
            let Some(content) = this.repository.blob(&committed.blob)? else { return Ok(None) };
            let (object, stored) = seal::seal(&content, this.key.as_ref())?;
            let file = File {
                digest: Digest::of(&content),
                executable: committed.executable,
                bytes: content.len() as u64,
                object,
                blob: committed.blob,
            };
            Ok(Some((file, stored)))
        });
        let Some((file, stored)) = sealed.await? else { return Ok(None) };
        self.copy.put(file.object, stored).await?;
        Ok(Some(file))
    }

    /// The bundles that together hold the history up to the commit.
    async fn bundles(self: &Arc<Self>, target: &Target, before: Option<&[Bundle]>) -> Result<Vec<Bundle>> {
        if !self.history {
            return Ok(Vec::new());
        }
        let mut bundles = before.unwrap_or_default().to_vec();
        let tip = bundles.last().map(|bundle| bundle.tip.clone());
        if tip.as_ref() == Some(&target.commit) {
            return Ok(bundles);
        }
        let (this, commit) = (Arc::clone(self), target.commit.clone());
        let file = tempfile::NamedTempFile::new().context(Code::GitFailed, "there is no room for a bundle")?;
        let path = file.path().to_owned();
        let few = bundles.len() < BUNDLES_MAX;
        let whole = blocking(move || {
            let relation = tip.as_ref().map(|tip| this.repository.relation(&commit, tip)).transpose()?;
            let base = tip.filter(|_| relation == Some(Relation::Ahead) && few);
            this.repository.bundle(&this.name, &commit, base.as_ref(), &path, BUNDLE)?;
            Ok(base.is_none())
        });
        let whole = whole.await?;
        if whole {
            bundles.clear();
        }
        // git has replaced the file under this name.
        let mut reader = std::fs::File::open(file.path()).context(Code::GitFailed, "the bundle cannot be read")?;
        let bytes = reader.metadata().map_or(0, |metadata| metadata.len());
        if bytes > BUNDLE_BYTES_MAX {
            let message = format!("the history has {} MiB, more than is copied", bytes >> 20);
            return Err(Error::new(Code::GitFailed, message));
        }
        let mut bundle = Bundle { tip: target.commit.clone(), digest: Digest::of(b""), bytes, objects: Vec::new() };
        let mut hasher = crate::model::digest::Hasher::default();
        loop {
            let this = Arc::clone(self);
            let chunk = blocking(move || {
                let mut chunk = Vec::new();
                let taken = (&mut reader).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
                taken.context(Code::GitFailed, "the bundle cannot be read")?;
                hasher.update(&chunk);
                let sealed = if chunk.is_empty() { None } else { Some(seal::seal(&chunk, this.key.as_ref())?) };
                Ok((reader, hasher, sealed))
            });
            let (same_reader, same_hasher, sealed) = chunk.await?;
            (reader, hasher) = (same_reader, same_hasher);
            let Some((id, stored)) = sealed else { break };
            self.copy.put(id, stored).await?;
            bundle.objects.push(id);
        }
        bundle.digest = hasher.finish();
        bundles.push(bundle);
        Ok(bundles)
    }

    /// Stores a manifest and moves the head to it; `None` when somebody else has moved it.
    async fn publish(
        &self,
        manifest: Manifest,
        before: Option<&(Version, ObjectId, Arc<Manifest>)>,
    ) -> Result<Option<(Version, ObjectId, Arc<Manifest>)>> {
        let (id, stored) = seal::seal(&manifest.encode(), self.key.as_ref())?;
        self.copy.put(id, stored).await?;
        let head = Head::of(&manifest, id).encode();
        let expected = before.map(|(version, _, _)| version.clone());
        if self.copy.swap(expected, head.clone().into()).await? == Swap::Lost {
            return Ok(None);
        }
        let now = self.copy.head().await?.filter(|(bytes, _)| *bytes == head);
        let Some((_, version)) = now else { return Ok(None) };
        let manifest = Arc::new(manifest);
        self.saw(id, &manifest);
        Ok(Some((version, id, manifest)))
    }
}

enum Pending {
    Commits(Vec<Target>),
    Behind,
}

/// Whether a manifest has exactly these files.
fn holds(manifest: &Manifest, listing: &BTreeMap<String, Committed>) -> bool {
    let same = |(path, committed): (&String, &Committed)| {
        let file = manifest.files.get(path);
        file.is_some_and(|file| file.blob == committed.blob && file.executable == committed.executable)
    };
    manifest.files.len() == listing.len() && listing.iter().all(same)
}

/// Reads a manifest.
pub(super) async fn load(copy: &dyn CloudCopy, key: Option<&Key>, id: ObjectId) -> Result<Manifest> {
    Manifest::decode(&seal::open(&fetch(copy, id).await?, key)?)
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(Code::Bug, "a step of a copy panicked").detail(error)),
    }
}
