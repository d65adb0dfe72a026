//! Served trees: the files of each revision that is live, as git objects under `refs/skillhook/served/DIGEST`.
//!
//! A task is run on exactly the tree that its delivery matched, even if those files were never committed. A served
//! tree has the layout of the work tree, so its directories are shared with commits and with its predecessor: a
//! change of one file in 10,000 skills writes that file, its directory and the four trees above it. The ref points
//! to a commit (without parents) only because commits carry a time, which orders the versions of a path.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, Oid};

use super::objects::Store;
use super::tree::{self, Leaf};
use super::{Author, Repository, ServedBase, Writer, locks};
use crate::error::{Code, Context, Error, Result};
use crate::model::digest::Digest;
use crate::model::revision::{FileRef, Revision, check_path};

const SERVED: &str = "refs/skillhook/served/";
/// Earlier served trees in which content that was not given is looked for, newest first.
const EARLIER_TREES_MAX: usize = 8;
/// Blobs whose place is remembered; each entry costs about 60 bytes.
const BLOBS_MAX: usize = 400_000;

/// One file of a served tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedFile {
    pub path: String,
    pub executable: bool,
    pub bytes: Vec<u8>,
}

/// Where the content of files can come from, by path.
type Content<'a> = &'a dyn Fn(&str) -> Option<Arc<[u8]>>;

impl Repository {
    /// Writes the tree of exactly these files. Content that `bytes` does not give (or gives with another digest) is
    /// taken from earlier served trees or HEAD, verified by its digest; SH0507 if it is nowhere.
    pub fn write_served(&self, revision: &Revision, bytes: Content<'_>) -> Result<()> {
        let mut writer = self.writer();
        let Writer { base, blobs, chain: _ } = &mut *writer;
        let repo = &self.handle()?;
        let mut store = Store::new(repo)?;
        if let Some(tree) = served_tree(repo, &revision.digest)? {
            *base = Some(ServedBase { revision: revision.clone(), tree });
            return Ok(());
        }
        let earlier = base.take().filter(|base| matches!(served_tree(repo, &base.revision.digest), Ok(Some(_))));
        let nothing = BTreeMap::new();
        let changes = revision.changes(earlier.as_ref().map_or(&nothing, |base| &base.revision.files));
        let claude = format!("{}.claude", self.shared.place.prefix);
        let mut source = Source { repo, claude: &claude, bytes, blobs, elsewhere: None };
        let mut leaves = BTreeMap::new();
        for (path, file) in changes {
            let leaf = match file {
                Some(file) => Some(Leaf::file(source.blob(&mut store, path, &file)?, file.executable)),
                None => None,
            };
            leaves.insert(path.to_owned(), leaf);
        }
        let tree = tree::splice(&mut store, earlier.map(|base| base.tree), &leaves)?;
        let commit = store.put(ObjectType::Commit, self.served_commit(tree, &revision.digest))?;
        store.flush()?;
        self.point(repo, &revision.digest, commit)?;
        *base = Some(ServedBase { revision: revision.clone(), tree });
        Ok(())
    }

    fn served_commit(&self, tree: Oid, digest: &Digest) -> Vec<u8> {
        let Author { name, email } = Author::ours();
        let who = format!("{name} <{email}> {} +0000", self.clock().now().as_second());
        format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nserved revision {digest}\n").into_bytes()
    }

    fn point(&self, repo: &git2::Repository, digest: &Digest, commit: Oid) -> Result<()> {
        let name = format!("{SERVED}{digest}");
        let set = || repo.reference(&name, commit, true, "served").map(|_| ());
        let result = match set() {
            // Nobody but us writes these refs, so a lock was left behind by a crash.
            Err(error) if error.code() == ErrorCode::Locked => {
                locks::remove_own_ref_lock(&self.shared.place, &name);
                set()
            }
            other => other,
        };
        result.context(Code::GitFailed, "the ref of a served tree cannot be written")
    }

    /// Whether the tree of a revision is written.
    pub fn has_served(&self, digest: &Digest) -> Result<bool> {
        Ok(served_tree(&self.handle()?, digest)?.is_some())
    }

    /// The revisions whose trees are written, newest first.
    pub fn served(&self) -> Result<Vec<Digest>> {
        Ok(list(&self.handle()?)?.into_iter().map(|each| each.digest).collect())
    }

    /// Those of these files whose content is neither in a recent served tree nor in HEAD.
    pub fn lost(&self, files: &BTreeMap<String, FileRef>) -> Result<BTreeSet<String>> {
        let repo = &self.handle()?;
        let (store, mut blobs) = (Store::new(repo)?, HashMap::new());
        let claude = format!("{}.claude", self.shared.place.prefix);
        let mut source = Source { repo, claude: &claude, bytes: &|_| None, blobs: &mut blobs, elsewhere: None };
        let mut lost = BTreeSet::new();
        for (path, file) in files {
            match source.search(&store, path, file) {
                Ok(_) => {}
                Err(error) if error.code() == Code::RevisionMissing => drop(lost.insert(path.clone())),
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// The files of a revision, verified against its digest. SH0507 while the tree is not written.
    pub fn read_served(&self, digest: &Digest) -> Result<Vec<ServedFile>> {
        let mut files = Vec::new();
        self.visit_served(digest, &mut |file| {
            files.push(file);
            Ok(())
        })?;
        Ok(files)
    }

    /// The same one by one, in the order of the paths, for trees that should not be in memory as a whole. The digest
    /// of the revision is verified at the end: rely on nothing that was visited if this answers an error.
    pub fn visit_served(&self, digest: &Digest, visit: &mut dyn FnMut(ServedFile) -> Result<()>) -> Result<()> {
        let repo = self.handle()?;
        let store = Store::new(&repo)?;
        let tree = served_tree(&repo, digest)?.ok_or_else(|| missing(digest))?;
        let files = match tree::flatten(&store, tree) {
            Ok(files) => files,
            Err(error) => return Err(self.forget_damaged(digest, &error)),
        };
        let mut seen = BTreeMap::new();
        for (path, leaf) in files {
            let bytes = match store.read(leaf.id, ObjectType::Blob) {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.forget_damaged(digest, &error)),
            };
            let executable = leaf.is_executable();
            seen.insert(path.clone(), FileRef { digest: Digest::of(&bytes), executable });
            visit(ServedFile { path, executable, bytes })?;
        }
        match Revision::of(seen).digest == *digest {
            true => Ok(()),
            false => Err(self.forget_damaged(digest, &missing(digest))),
        }
    }

    /// Takes the ref of a damaged tree away, so that the next pass writes the tree anew.
    fn forget_damaged(&self, digest: &Digest, why: &Error) -> Error {
        let mut writer = self.writer();
        writer.base = None;
        let deleted = self.handle().and_then(|repo| {
            let reference = repo.find_reference(&format!("{SERVED}{digest}"));
            reference.and_then(|mut each| each.delete()).context(Code::GitFailed, "the ref cannot be deleted")
        });
        self.note(format!("the served tree of `{}` was damaged and is written anew", digest.short()));
        let error = missing(digest).detail(why.internal());
        if deleted.is_err() { error.hint("run `git fsck` in the repository") } else { error }
    }

    /// Deletes the refs of all served trees but these and the newest; git collects the objects later. Answers how
    /// many were deleted: none while another skillhook process works on the repository.
    pub fn prune_served(&self, keep: &[Digest]) -> Result<usize> {
        let writer = self.writer();
        let Some(_process) = self.lock_process()? else { return Ok(0) };
        let repo = self.handle()?;
        let base = writer.base.as_ref().map(|base| base.revision.digest);
        let mut deleted = 0;
        for (place, each) in list(&repo)?.into_iter().enumerate() {
            let newest = base.map_or(place == 0, |base| base == each.digest);
            if newest || keep.contains(&each.digest) {
                continue;
            }
            let delete = || match repo.find_reference(&format!("{SERVED}{}", each.digest)) {
                Ok(mut reference) => reference.delete(),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            let result = match delete() {
                Err(error) if error.code() == ErrorCode::Locked => {
                    self.clear_stale_locks()?;
                    delete()
                }
                other => other,
            };
            result.context(Code::GitFailed, "the ref of a served tree cannot be deleted")?;
            deleted += 1;
        }
        Ok(deleted)
    }
}

pub(super) fn missing(digest: &Digest) -> Error {
    Error::new(Code::RevisionMissing, format!("the files of revision `{}` are not written yet", digest.short()))
        .hint("the next reconcile pass writes them")
}

/// Finds blobs for the files of a revision.
struct Source<'a> {
    repo: &'a git2::Repository,
    /// Where `.claude` lies in commits.
    claude: &'a str,
    bytes: Content<'a>,
    blobs: &'a mut HashMap<Digest, Oid>,
    /// Files of earlier served trees and HEAD, loaded when first needed.
    elsewhere: Option<Vec<BTreeMap<String, Leaf>>>,
}

impl Source<'_> {
    fn blob(&mut self, store: &mut Store<'_>, path: &str, file: &FileRef) -> Result<Oid> {
        check_path(path).map_err(|why| Error::new(Code::UnsafePath, format!("`{}`: {why}", path.escape_default())))?;
        if let Some(known) = self.blobs.get(&file.digest).copied()
            && store.is_whole(known)?
        {
            return Ok(known);
        }
        let given = (self.bytes)(path).filter(|bytes| Digest::of(bytes) == file.digest);
        let id = match given {
            Some(bytes) => store.put(ObjectType::Blob, bytes.to_vec())?,
            None => self.search(store, path, file)?,
        };
        if self.blobs.len() >= BLOBS_MAX {
            self.blobs.clear();
        }
        self.blobs.insert(file.digest, id);
        Ok(id)
    }

    fn search(&mut self, store: &Store<'_>, path: &str, file: &FileRef) -> Result<Oid> {
        if self.elsewhere.is_none() {
            self.elsewhere = Some(load_elsewhere(self.repo, store, self.claude)?);
        }
        for tree in self.elsewhere.iter().flatten() {
            if let Some(leaf) = tree.get(path)
                && let Ok(bytes) = store.read(leaf.id, ObjectType::Blob)
                && Digest::of(&bytes) == file.digest
            {
                return Ok(leaf.id);
            }
        }
        Err(Error::new(Code::RevisionMissing, format!("the content of `{path}` is gone"))
            .hint("the file changed since it was read: the next reconcile pass writes the newer one"))
    }
}

fn load_elsewhere(repo: &git2::Repository, store: &Store<'_>, claude: &str) -> Result<Vec<BTreeMap<String, Leaf>>> {
    let mut places = Vec::new();
    for served in list(repo)?.into_iter().take(EARLIER_TREES_MAX) {
        places.push(tree::flatten(store, served.tree)?);
    }
    let head = repo.head().ok().and_then(|head| head.peel_to_commit().ok()).map(|commit| commit.tree_id());
    if let Some(tree) = head
        && let Some(leaf) = tree::find(store, tree, claude)?
        && leaf.is_directory()
    {
        let files = tree::flatten(store, leaf.id)?;
        places.push(files.into_iter().map(|(path, leaf)| (format!(".claude/{path}"), leaf)).collect());
    }
    Ok(places)
}

pub(super) struct Served {
    pub(super) digest: Digest,
    pub(super) tree: Oid,
    pub(super) seconds: i64,
}

/// All served trees, newest first.
pub(super) fn list(repo: &git2::Repository) -> Result<Vec<Served>> {
    let failed = "the refs of served trees cannot be read";
    let mut all = Vec::new();
    for reference in repo.references_glob(&format!("{SERVED}*")).context(Code::GitFailed, failed)? {
        let reference = reference.context(Code::GitFailed, failed)?;
        let digest = reference.name().ok().and_then(|name| Digest::parse(name.strip_prefix(SERVED)?).ok());
        if let (Some(digest), Ok(commit)) = (digest, reference.peel_to_commit()) {
            all.push(Served { digest, tree: commit.tree_id(), seconds: commit.time().seconds() });
        }
    }
    all.sort_by_key(|each| (std::cmp::Reverse(each.seconds), each.digest));
    Ok(all)
}

/// The tree of a revision, if it is written.
pub(super) fn served_tree(repo: &git2::Repository, digest: &Digest) -> Result<Option<Oid>> {
    match repo.find_reference(&format!("{SERVED}{digest}")) {
        Ok(reference) => Ok(reference.peel_to_commit().ok().map(|commit| commit.tree_id())),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(Error::new(Code::GitFailed, "the ref of a served tree cannot be read").detail(error)),
    }
}
