//! Automatic commits: exactly the files of a revision that differ from HEAD, below the managed directories.
//!
//! The tree is made from HEAD's tree and blobs of the served tree, never from the index or the work tree, so neither
//! a person's staged work nor a file that is being written can slip in. The entries of the committed paths are
//! written to the index first, then the branch moves (compared with the head that the tree was made from): if only
//! the first happened, a record tells the next attempt which staged entries are ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use git2::{ErrorCode, Oid, RepositoryState, Signature, Time};

use super::beneath::Directory;
use super::objects::Store;
use super::records::Record;
use super::repair::Head;
use super::served::{missing, served_tree};
use super::staging::Staging;
use super::tree::{self, Leaf};
use super::{Author, Repository, Verb, commit_id, message, status};
use crate::error::{Code, Context, Error, Result};
use crate::model::revision::{COMMITTED, CommitId, Revision, check_path};

/// What is to be committed.
#[derive(Clone)]
pub struct CommitRequest<'a> {
    /// Its served tree must have been written.
    pub revision: &'a Revision,
    /// What was checked out when the files were looked at. A branch that moved since, other than by commits of ours,
    /// may hold newer files: then nothing is committed. `None` where nothing was checked out.
    pub upon: Option<CommitId>,
    /// Invalid files, and directories (with a `/` at their end): HEAD's version stays, whatever the revision has.
    pub held: &'a BTreeSet<String>,
    /// Only these files, where it is given; all others stay as HEAD has them.
    pub only: Option<&'a BTreeSet<String>>,
    /// What it says, once it is known which paths go in.
    pub message: &'a dyn Fn(&[PathChange]) -> String,
    /// For example `("Skillhook-Origin", "api")`.
    pub trailers: Vec<(String, String)>,
    /// Who made the change; by default whoever git's configuration names.
    pub author: Option<Author>,
}

/// A path of a commit and what the commit does to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct PathChange {
    /// Root-relative.
    pub path: String,
    pub verb: Verb,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    Committed {
        commit: CommitId,
        parent: Option<CommitId>,
        /// Root-relative, in order.
        paths: Vec<String>,
        /// Paths that were left out because a person has staged something else.
        staged_by_user: Vec<String>,
    },
    /// HEAD has these files already.
    Unchanged,
    /// Not now; the same request may work later.
    Held { reason: HeldReason, paths: Vec<String> },
}

/// Why a commit or pull waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum HeldReason {
    StagedByUser,
    ChangedByUser,
    OperationInProgress,
    Conflicts,
    DetachedHead,
    OtherBranch,
    IndexLocked,
    RefLocked,
    Busy,
    PullUnfinished,
    HeadMoved,
    UnsafePath,
    UnrelatedHistories,
}

impl HeldReason {
    /// The sentence for people.
    pub fn message(self) -> &'static str {
        match self {
            HeldReason::StagedByUser => "somebody has staged other content for these files",
            HeldReason::ChangedByUser => "these files have changes that are not committed",
            HeldReason::OperationInProgress => "somebody is in the middle of a merge, rebase or similar",
            HeldReason::Conflicts => "the index has unresolved conflicts",
            HeldReason::DetachedHead => "no branch is checked out",
            HeldReason::OtherBranch => "another branch is checked out",
            HeldReason::IndexLocked => "another git process holds the lock of the index",
            HeldReason::RefLocked => "another git process holds the lock of the branch",
            HeldReason::Busy => "another skillhook process works on this repository",
            HeldReason::PullUnfinished => "a pull was interrupted and has to be finished first",
            HeldReason::HeadMoved => "the branch moved in between",
            HeldReason::UnsafePath => "the incoming tree has paths that may not be written",
            HeldReason::UnrelatedHistories => "the remote's branch has no commit in common with ours",
        }
    }
}

impl fmt::Display for HeldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

pub(super) fn is_held(held: &BTreeSet<String>, path: &str) -> bool {
    let directories = path.match_indices('/').map(|(at, _)| &path[..=at]);
    held.contains(path) || directories.into_iter().any(|directory| held.contains(directory))
}

/// A change of one path; the key is git's path.
#[derive(Clone, Copy)]
struct Wanted {
    old: Option<Leaf>,
    new: Option<Leaf>,
}

impl Wanted {
    fn verb(self) -> Verb {
        match (self.old, self.new) {
            (None, _) => Verb::Create,
            (Some(_), Some(_)) => Verb::Update,
            (Some(_), None) => Verb::Delete,
        }
    }
}

/// The wanted changes, by whether a person's staged work stands in the way.
#[derive(Default)]
struct Sorted {
    /// By git's path.
    accepted: BTreeMap<String, Wanted>,
    /// Root-relative.
    staged_by_user: Vec<String>,
}

/// What a pull passes over is not here, and its absence is nobody's deletion.
fn is_never_written(store: &Store<'_>, path: &str, old: Leaf) -> bool {
    check_path(path).is_err() || !old.is_file() || !store.fits(old.id).unwrap_or(true)
}

impl Repository {
    /// Commits what of the revision differs from HEAD. SH0507 while its served tree is not written.
    pub fn commit(&self, request: &CommitRequest<'_>) -> Result<CommitOutcome> {
        let held = |reason| Ok(CommitOutcome::Held { reason, paths: Vec::new() });
        let mut writer = self.writer();
        let repo = &self.handle()?;
        let Some(_process) = self.lock_process()? else { return held(HeldReason::Busy) };
        let branch = match self.branch_at_rest(repo)? {
            Ok(branch) => branch,
            Err(reason) => return held(reason),
        };
        if self.read_record(Record::Pull)?.is_some() {
            return held(HeldReason::PullUnfinished);
        }
        let mut head = self.read_head(repo, &branch)?;
        let upon = request.upon.as_ref().and_then(|commit| Oid::from_str(commit.as_str()).ok());
        if let (Some(upon), Some(head)) = (upon, head.filter(|head| !head.moved_back))
            && !writer.leads(upon, head.commit)
        {
            return held(HeldReason::HeadMoved);
        }
        let served = served_tree(repo, &request.revision.digest)?.ok_or_else(|| missing(&request.revision.digest))?;
        let mut store = Store::new(repo)?;
        let wanted = self.wanted(repo, &store, head, served, request).or_else(|error| {
            // Something below the head is torn: go back to a whole one, if that is what is wrong.
            let whole = self.read_head_thoroughly(repo, &branch)?;
            if whole == head {
                return Err(error);
            }
            head = whole;
            self.wanted(repo, &store, whole, served, request)
        })?;
        if wanted.is_empty() {
            return Ok(CommitOutcome::Unchanged);
        }
        let Some(mut staging) = Staging::take(&self.shared.place, repo, head.map(|head| head.tree))? else {
            return held(HeldReason::IndexLocked);
        };
        if staging.has_conflicts() {
            return held(HeldReason::Conflicts);
        }
        if staging.rebuilt {
            self.note("the index was damaged: it is HEAD's now, staged work has to be staged again".to_owned());
        }
        let Sorted { accepted, staged_by_user } = self.sort_out(repo, &store, head, &mut staging, wanted)?;
        if accepted.is_empty() {
            return Ok(match staged_by_user.is_empty() {
                true => CommitOutcome::Unchanged,
                false => CommitOutcome::Held { reason: HeldReason::StagedByUser, paths: staged_by_user },
            });
        }
        let leaves = accepted.iter().map(|(path, wanted)| (path.clone(), wanted.new)).collect();
        let tree = tree::splice(&mut store, head.map(|head| head.tree), &leaves)?;
        store.flush()?;
        let change =
            |(path, wanted): (String, Wanted)| PathChange { path: self.root_relative(path), verb: wanted.verb() };
        let changes: Vec<PathChange> = accepted.into_iter().map(change).collect();
        let commit = self.write_commit(repo, tree, head, request, &changes)?;
        self.write_record(Record::Staging, commit, None)?;
        if let Some(reason) = self.advance(repo, &branch, head, commit, staging)? {
            return held(reason);
        }
        self.remove_record(Record::Staging)?;
        writer.remember(head.map(|head| head.commit), commit);
        Ok(CommitOutcome::Committed {
            commit: commit_id(commit)?,
            parent: head.map(|head| commit_id(head.commit)).transpose()?,
            paths: changes.into_iter().map(|change| change.path).collect(),
            staged_by_user,
        })
    }

    /// Our branch, if it is checked out and nobody is in the middle of something.
    pub(super) fn branch_at_rest(&self, repo: &git2::Repository) -> Result<Result<String, HeldReason>> {
        let live = self.clear_stale_locks()?;
        if live.iter().any(|lock| lock.ends_with("index.lock")) {
            return Ok(Err(HeldReason::IndexLocked));
        }
        if !live.is_empty() {
            return Ok(Err(HeldReason::RefLocked));
        }
        if repo.state() != RepositoryState::Clean {
            return Ok(Err(HeldReason::OperationInProgress));
        }
        let Some(branch) = status::checked_out(repo)? else { return Ok(Err(HeldReason::DetachedHead)) };
        match &self.shared.branch {
            Some(ours) if *ours != branch => Ok(Err(HeldReason::OtherBranch)),
            Some(_) | None => Ok(Ok(branch)),
        }
    }

    /// What differs between HEAD and the revision, as far as it is ours to commit.
    fn wanted(
        &self,
        repo: &git2::Repository,
        store: &Store<'_>,
        head: Option<Head>,
        served: Oid,
        request: &CommitRequest<'_>,
    ) -> Result<BTreeMap<String, Wanted>> {
        let place = &self.shared.place;
        let files = Directory::open(&place.root).context(Code::TreeUnreadable, "the root cannot be opened")?;
        let modes_count = repo.config().and_then(|config| config.get_bool("core.fileMode")).unwrap_or(true);
        let mut wanted = BTreeMap::new();
        for directory in COMMITTED {
            let old = match head {
                Some(head) => match committed_directory(store, head.tree, &format!("{}{directory}", place.prefix))? {
                    Ok(old) => old,
                    Err(NotADirectory) => continue,
                },
                None => None,
            };
            let new = tree::find(store, served, directory)?.filter(|leaf| leaf.is_directory()).map(|leaf| leaf.id);
            for each in tree::differences(store, old, new)? {
                let Ok(below) = String::from_utf8(each.path) else { continue };
                let path = format!("{directory}/{below}");
                let (old, mut new) = (each.old, each.new);
                let left_out = is_held(request.held, &path) || request.only.is_some_and(|only| !only.contains(&path));
                if left_out || old.is_some_and(|old| is_never_written(store, &path, old)) {
                    continue;
                }
                if !modes_count && let (Some(old), Some(new)) = (old, &mut new) {
                    new.mode = old.mode;
                }
                if old == new || (new.is_none() && is_there(&files, &path)?) {
                    continue;
                }
                wanted.insert(format!("{}{path}", place.prefix), Wanted { old, new });
            }
        }
        Ok(wanted)
    }

    /// Puts what may be committed into the index; answers it, and what a person has staged differently.
    fn sort_out(
        &self,
        repo: &git2::Repository,
        store: &Store<'_>,
        head: Option<Head>,
        staging: &mut Staging,
        wanted: BTreeMap<String, Wanted>,
    ) -> Result<Sorted> {
        let mut sorted = Sorted::default();
        let index_is_a_persons = !head.is_some_and(|head| head.moved_back);
        // Died after the index was written and before the branch moved: those entries are ours.
        let interrupted = self.read_record(Record::Staging)?.and_then(|(commit, _)| repo.find_commit(commit).ok());
        for (path, change) in wanted {
            let Wanted { old, new } = change;
            let mut known = vec![old, new];
            if let Some(commit) = &interrupted {
                known.push(tree::find(store, commit.tree_id(), &path)?);
            }
            if index_is_a_persons && staging.is_staged_differently(path.as_bytes(), &known) {
                sorted.staged_by_user.push(self.root_relative(path));
                continue;
            }
            let unknown = old.is_none() && staging.entry(path.as_bytes()).is_none();
            if unknown && repo.is_path_ignored(&path).context(Code::GitFailed, "`.gitignore` cannot be read")? {
                continue;
            }
            staging.set(path.as_bytes(), new)?;
            sorted.accepted.insert(path, change);
        }
        Ok(sorted)
    }

    fn write_commit(
        &self,
        repo: &git2::Repository,
        tree: Oid,
        head: Option<Head>,
        request: &CommitRequest<'_>,
        changes: &[PathChange],
    ) -> Result<Oid> {
        let failed = "the commit cannot be written";
        let committer = self.signature(&self.committer(repo))?;
        let author = request.author.as_ref().map_or_else(|| Ok(committer.clone()), |author| self.signature(author))?;
        let tree = repo.find_tree(tree).context(Code::GitFailed, failed)?;
        let parent = head.map(|head| repo.find_commit(head.commit)).transpose().context(Code::GitFailed, failed)?;
        let text = message::with_trailers(&(request.message)(changes), &request.trailers);
        repo.commit(None, &author, &committer, &text, &tree, &parent.iter().collect::<Vec<_>>())
            .context(Code::GitFailed, failed)
    }

    pub(super) fn committer(&self, repo: &git2::Repository) -> Author {
        let configured = repo.signature().ok();
        let named = configured.as_ref().and_then(|who| Some((who.name().ok()?, who.email().ok()?)));
        match named {
            Some((name, email)) => Author { name: name.to_owned(), email: email.to_owned() },
            None => self.shared.options.committer.clone(),
        }
    }

    pub(super) fn signature(&self, author: &Author) -> Result<Signature<'static>> {
        let time = Time::new(self.clock().now().as_second(), 0);
        Signature::new(&author.name, &author.email, &time)
            .context(Code::GitFailed, format!("`{}` cannot be the author of a commit", author.name.escape_default()))
    }

    /// Publishes the index and moves the branch from `head` to `commit`; answers why not, if it could not be done.
    pub(super) fn advance(
        &self,
        repo: &git2::Repository,
        branch: &str,
        head: Option<Head>,
        commit: Oid,
        staging: Staging,
    ) -> Result<Option<HeldReason>> {
        let failed = "the branch cannot be moved";
        let name = format!("refs/heads/{branch}");
        let mut transaction = repo.transaction().context(Code::GitFailed, failed)?;
        match transaction.lock_ref(&name) {
            Ok(()) => {}
            Err(error) if error.code() == ErrorCode::Locked => return Ok(Some(HeldReason::RefLocked)),
            Err(error) => return Err(Error::new(Code::GitFailed, failed).detail(error)),
        }
        let now = match repo.refname_to_id(&name) {
            Ok(id) => Some(id),
            Err(error) if error.code() == ErrorCode::NotFound => None,
            Err(error) => return Err(Error::new(Code::GitFailed, failed).detail(error)),
        };
        if now != head.map(|head| head.commit) {
            return Ok(Some(HeldReason::HeadMoved));
        }
        staging.publish()?;
        let who = self.signature(&self.committer(repo))?;
        transaction.set_target(&name, commit, Some(&who), "skillhook").context(Code::GitFailed, failed)?;
        transaction.commit().context(Code::GitFailed, failed)?;
        Ok(None)
    }

    pub(super) fn root_relative(&self, path: String) -> String {
        path.strip_prefix(&self.shared.place.prefix).map(str::to_owned).unwrap_or(path)
    }
}

/// HEAD has a file, symlink or submodule where a managed directory would be: it is left alone.
struct NotADirectory;

fn committed_directory(store: &Store<'_>, tree: Oid, path: &str) -> Result<Result<Option<Oid>, NotADirectory>> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    for end in ends {
        match tree::find(store, tree, &path[..end])? {
            Some(leaf) if !leaf.is_directory() => return Ok(Err(NotADirectory)),
            Some(leaf) if end == path.len() => return Ok(Ok(Some(leaf.id))),
            Some(_) => {}
            None => return Ok(Ok(None)),
        }
    }
    Ok(Ok(None))
}

/// A file that the snapshot left out (too big, unreadable, a symlink) but that exists was not deleted by anyone.
fn is_there(files: &Directory, path: &str) -> Result<bool> {
    let found = files.look(path).context(Code::TreeUnreadable, format!("`{path}` cannot be looked at"))?;
    let kind = found.map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    Ok(kind.is_some_and(|kind| kind != rustix::fs::FileType::Directory))
}
