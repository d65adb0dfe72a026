//! Fast-forward pulls: the remote-tracking branch becomes ours, and the files that differ are written.
//!
//! Nothing is done unless every path that differs is clean: neither staged nor changed nor in the way. An intent
//! record goes to disk before the first file changes and is removed after the branch has moved; while it exists
//! nothing is committed, and the next pull finishes what it says. Symlinks, submodules and odd names are skipped and
//! reported; a tree that reaches for git's own directory is refused as a whole. Histories that diverged are
//! reported, not merged.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use git2::{ObjectType, Oid};
use rustix::fs::{FileType, Stat};

use super::beneath::Directory;
use super::incoming::Incoming;
use super::objects::Store;
use super::records::Record;
use super::repair::Head;
use super::staging::Staging;
use super::tree::{self, Difference, Leaf};
use super::{HeldReason, Repository, commit_id};
use crate::error::{Code, Context, Result};
use crate::model::revision::{self, CommitId};

/// Files on disk larger than this are not compared; they count as changed.
const COMPARED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What became of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullOutcome {
    UpToDate,
    Applied {
        from: Option<CommitId>,
        to: CommitId,
        /// Root-relative, in order; paths outside the root are not listed.
        paths: Vec<String>,
        skipped: Vec<Skipped>,
    },
    Diverged {
        ahead: usize,
        behind: usize,
    },
    Held {
        reason: HeldReason,
        paths: Vec<String>,
    },
    /// There is no remote, or nothing was fetched from it yet.
    NoUpstream,
}

/// A path of the incoming tree that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub path: String,
    pub reason: &'static str,
}

/// What has to be done to the files, decided before anything is touched.
#[derive(Default)]
struct Work {
    deletions: Vec<String>,
    writes: Vec<(String, Leaf)>,
    skipped: Vec<Skipped>,
    in_the_way: Vec<String>,
    staged: Vec<String>,
    refused: Vec<String>,
}

impl Repository {
    /// Moves our branch and files forward to what was fetched. Does not use the network.
    pub fn pull_ff(&self) -> Result<PullOutcome> {
        let held = |reason| Ok(PullOutcome::Held { reason, paths: Vec::new() });
        let _writer = self.writer();
        let repo = &self.handle()?;
        let Some(_process) = self.lock_process()? else { return held(HeldReason::Busy) };
        let branch = match self.branch_at_rest(repo)? {
            Ok(branch) => branch,
            Err(reason) => return held(reason),
        };
        let head = self.read_head(repo, &branch)?;
        let resumed = self.unfinished(repo, head)?;
        let fetched = self.target(repo)?.and_then(|target| repo.refname_to_id(&target.tracking()).ok());
        let Some(theirs) = resumed.or(fetched) else { return Ok(PullOutcome::NoUpstream) };
        if let Some(outcome) = relation(repo, head, theirs)? {
            return Ok(outcome);
        }
        let Some(staging) = Staging::take(&self.shared.place, repo, head.map(|head| head.tree))? else {
            return held(HeldReason::IndexLocked);
        };
        if staging.has_conflicts() {
            return held(HeldReason::Conflicts);
        }
        let failed = "the fetched commit cannot be read";
        let tree = repo.find_commit(theirs).context(Code::GitFailed, failed)?.tree_id();
        self.apply(repo, &branch, head, Head { commit: theirs, tree, moved_back: false }, staging, resumed.is_some())
    }

    fn apply(
        &self,
        repo: &git2::Repository,
        branch: &str,
        head: Option<Head>,
        theirs: Head,
        mut staging: Staging,
        resumed: bool,
    ) -> Result<PullOutcome> {
        let store = Store::new(repo)?;
        let files = self.work_tree()?;
        let differences = tree::differences(&store, head.map(|head| head.tree), Some(theirs.tree))?;
        let mut check = Check { store: &store, files: &files, staging: &staging, resumed, work: Work::default() };
        check.all(&differences)?;
        let work = check.work;
        for (reason, paths) in [
            (HeldReason::UnsafePath, &work.refused),
            (HeldReason::StagedByUser, &work.staged),
            (HeldReason::ChangedByUser, &work.in_the_way),
        ] {
            if !paths.is_empty() {
                return Ok(PullOutcome::Held { reason, paths: paths.clone() });
            }
        }
        let incoming = Incoming::prepare(&self.shared.place, &store, &work.writes)?;
        self.write_record(Record::Pull, theirs.commit)?;
        incoming.apply(&files, &work.deletions)?;
        for each in &differences {
            staging.set(&each.path, each.new)?;
        }
        if let Some(reason) = self.advance(repo, branch, head, theirs.commit, staging)? {
            return Ok(PullOutcome::Held { reason, paths: Vec::new() });
        }
        self.remove_record(Record::Pull)?;
        let changed: BTreeSet<String> =
            work.deletions.into_iter().chain(work.writes.into_iter().map(|(p, _)| p)).collect();
        let below = |path: String| path.strip_prefix(&self.shared.place.prefix).map(str::to_owned);
        Ok(PullOutcome::Applied {
            from: head.map(|head| commit_id(head.commit)).transpose()?,
            to: commit_id(theirs.commit)?,
            paths: changed.into_iter().filter_map(below).collect(),
            skipped: work.skipped,
        })
    }

    fn work_tree(&self) -> Result<Directory> {
        Directory::open(&self.shared.place.work_tree).context(Code::TreeUnreadable, "the work tree cannot be opened")
    }

    /// The commit that an interrupted pull was going to, if it still leads forward from here.
    fn unfinished(&self, repo: &git2::Repository, head: Option<Head>) -> Result<Option<Oid>> {
        let Some(to) = self.read_record(Record::Pull)? else { return Ok(None) };
        let from = head.map(|head| head.commit);
        let forward = from.is_none_or(|from| repo.graph_descendant_of(to, from).unwrap_or(false));
        if forward && repo.find_commit(to).is_ok() {
            return Ok(Some(to));
        }
        if from != Some(to) {
            self.note(format!("gave up an interrupted pull to `{}`: the branch went elsewhere", to));
        }
        self.remove_record(Record::Pull)?;
        Ok(None)
    }
}

/// What there is to do between two heads, where it is not a fast-forward.
fn relation(repo: &git2::Repository, head: Option<Head>, theirs: Oid) -> Result<Option<PullOutcome>> {
    let Some(head) = head else { return Ok(None) };
    if head.commit == theirs {
        return Ok(Some(PullOutcome::UpToDate));
    }
    let (ahead, behind) =
        repo.graph_ahead_behind(head.commit, theirs).context(Code::GitFailed, "the histories cannot be compared")?;
    Ok(match (ahead, behind) {
        (0, 1..) => None,
        (_, 0) => Some(PullOutcome::UpToDate),
        (ahead, behind) => Some(PullOutcome::Diverged { ahead, behind }),
    })
}

struct Check<'a> {
    store: &'a Store<'a>,
    files: &'a Directory,
    staging: &'a Staging,
    /// An interrupted pull may have removed files already.
    resumed: bool,
    work: Work,
}

impl Check<'_> {
    fn all(&mut self, differences: &[Difference]) -> Result<()> {
        let leaving: BTreeSet<&[u8]> =
            differences.iter().filter(|each| each.new.is_none()).map(|each| each.path.as_slice()).collect();
        for each in differences {
            self.one(each, &leaving)?;
        }
        Ok(())
    }

    fn one(&mut self, each: &Difference, leaving: &BTreeSet<&[u8]>) -> Result<()> {
        let shown = String::from_utf8_lossy(&each.path).into_owned();
        if shown.split('/').any(|name| matches!(name, "" | "." | "..") || revision::means_dot_git(name)) {
            self.work.refused.push(shown);
            return Ok(());
        }
        if let Some(reason) = self.reason_to_skip(each)? {
            self.work.skipped.push(Skipped { path: shown, reason });
            return Ok(());
        }
        if self.staging.is_staged_differently(&each.path, &[each.old, each.new]) {
            self.work.staged.push(shown);
        } else if !self.is_clean(&shown, each, leaving)? {
            self.work.in_the_way.push(shown);
        } else if let Some(new) = each.new {
            self.work.writes.push((shown, new));
        } else {
            self.work.deletions.push(shown);
        }
        Ok(())
    }

    fn reason_to_skip(&self, each: &Difference) -> Result<Option<&'static str>> {
        let Ok(path) = std::str::from_utf8(&each.path) else { return Ok(Some("the name is not valid UTF-8")) };
        if revision::check_path(path).is_err() {
            return Ok(Some("the name is not used"));
        }
        let Some(leaf) = each.new.or(each.old) else { return Ok(None) };
        if leaf.mode == 0o160_000 || each.old.is_some_and(|old| old.mode == 0o160_000) {
            return Ok(Some("submodules are not used"));
        }
        if each.new.is_some_and(|new| !new.is_file()) {
            return Ok(Some("symlinks are not written"));
        }
        match each.new {
            Some(new) if !self.store.fits(new.id)? => Ok(Some("the file is too large")),
            Some(_) | None => Ok(None),
        }
    }

    /// Whether nothing of a person's is lost when `path` gets its new content.
    fn is_clean(&self, path: &str, each: &Difference, leaving: &BTreeSet<&[u8]>) -> Result<bool> {
        let unreadable = || format!("`{path}` cannot be looked at");
        let Some(stat) = self.files.look(path).context(Code::TreeUnreadable, unreadable())? else {
            let absent_before = each.old.is_none() || each.new.is_none() || self.resumed;
            return Ok(absent_before && self.way_is_free(path, leaving)?);
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.has_known_content(path, each, &stat),
            // A tracked link that is replaced: only the link itself goes.
            FileType::Symlink => Ok(each.old.is_some_and(|old| !old.is_file())),
            FileType::Directory => Ok(each.new.is_none() || self.holds_only(path, leaving, 0)?),
            _ => Ok(false),
        }
    }

    fn has_known_content(&self, path: &str, each: &Difference, stat: &Stat) -> Result<bool> {
        if self.is_unchanged_since_staged(path, stat) {
            return Ok(true);
        }
        let bytes = match self.files.read(path, COMPARED_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::FileTooLarge => return Ok(false),
            Err(error) => return Err(error).context(Code::TreeUnreadable, format!("`{path}` cannot be read")),
        };
        let id = Oid::hash_object(ObjectType::Blob, &bytes).context(Code::GitFailed, "a file cannot be hashed")?;
        Ok([each.old, each.new].into_iter().flatten().any(|leaf| leaf.id == id))
    }

    /// Git's own test: the status that the index remembers. It knows files whose content passes a filter (line
    /// endings, LFS), which differ from their blobs and yet are unchanged.
    fn is_unchanged_since_staged(&self, path: &str, stat: &Stat) -> bool {
        self.staging.entry(path.as_bytes()).is_some_and(|entry| {
            entry.file_size != 0
                && i64::from(entry.file_size) == stat.st_size
                && i64::from(entry.mtime.seconds()) == stat.st_mtime
                && i64::from(entry.mtime.nanoseconds()) == stat.st_mtime_nsec as i64
                && i64::from(entry.ctime.seconds()) == stat.st_ctime
                && !self.staging.is_doubtful(&entry)
        })
    }

    /// Every component above `path` is a directory, absent, or a file that leaves with this pull.
    fn way_is_free(&self, path: &str, leaving: &BTreeSet<&[u8]>) -> Result<bool> {
        for (end, _) in path.match_indices('/') {
            let above = &path[..end];
            let found =
                self.files.look(above).context(Code::TreeUnreadable, format!("`{above}` cannot be looked at"))?;
            match found.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Some(FileType::Directory) => {}
                Some(_) => return Ok(leaving.contains(above.as_bytes())),
                None => return Ok(true),
            }
        }
        Ok(true)
    }

    /// Whether a directory becomes empty by this pull.
    fn holds_only(&self, path: &str, leaving: &BTreeSet<&[u8]>, depth: usize) -> Result<bool> {
        let unreadable = || format!("`{path}` cannot be listed");
        let list = |path: &str| {
            let (parent, name) = self.files.parent(path, None)?;
            parent.enter(name)?.list()
        };
        if depth > revision::PATH_DEPTH_MAX {
            return Ok(false);
        }
        for (name, kind) in list(path).context(Code::TreeUnreadable, unreadable())? {
            let Some(name) = name.to_str() else { return Ok(false) };
            let inner = format!("{path}/{name}");
            let goes = match kind {
                FileType::Directory => self.holds_only(&inner, leaving, depth + 1)?,
                _ => leaving.contains(inner.as_bytes()),
            };
            if !goes {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
