//! Pulls: our branch and files come to contain what was fetched, along the way that `integrate` decides.
//!
//! Nothing is done unless every path that differs is clean: neither staged nor changed nor in the way. An intent
//! record goes to disk before the first file changes and is removed after the branch has moved; while it exists
//! nothing is committed, and the next pull finishes what it says. Symlinks, submodules and odd names are skipped and
//! reported; a tree that reaches for git's own directory is refused as a whole.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use git2::{ObjectType, Oid};
use rustix::fs::{FileType, Stat};
use serde::Serialize;

use super::beneath::Directory;
use super::commit::is_held;
use super::incoming::Incoming;
use super::integrate::{Course, Way};
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
        how: Move,
        /// Root-relative, in order; paths outside the root are not listed.
        paths: Vec<String>,
        /// Those of them that were deleted.
        deleted: Vec<String>,
        skipped: Vec<Skipped>,
        /// Our side of what could not be brought together.
        conflict: Option<Conflict>,
    },
    /// Commits of people stand on both sides and conflict: they are left alone.
    Diverged {
        ahead: usize,
        behind: usize,
        /// What conflicts, where that is known.
        paths: Vec<String>,
    },
    Held {
        reason: HeldReason,
        paths: Vec<String>,
    },
    /// There is no remote, or nothing was fetched from it yet.
    NoUpstream,
}

/// How a pull came to contain the remote's commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    FastForward,
    /// Automatic commits of ours were put upon the remote's.
    Replayed {
        commits: usize,
    },
    /// Commits of people were merged with the remote's.
    Merged,
    /// The remote was rewritten; our old head is kept under `refs/skillhook/saved/`.
    Followed {
        replayed: usize,
    },
    /// The configuration of an earlier commit was brought back.
    Restored,
    /// An earlier process began it.
    Finished,
}

/// Changes of ours that gave way to the remote's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// A branch that holds them.
    pub branch: String,
    /// Root-relative.
    pub paths: Vec<String>,
}

/// A path of the incoming tree that was not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// Files of ours that are not valid: they are kept aside.
    aside: Vec<String>,
    staged: Vec<String>,
    refused: Vec<String>,
}

impl Repository {
    /// Brings what was fetched into our branch and files. Does not use the network. Files that `invalid` names (or
    /// whose directory, with a `/` at its end) cannot be committed: where the remote changed them too, ours are kept
    /// in git's directory and the remote's are written.
    pub fn pull(&self, invalid: &BTreeSet<String>) -> Result<PullOutcome> {
        let held = |reason| Ok(PullOutcome::Held { reason, paths: Vec::new() });
        let _writer = self.writer();
        let repo = &self.handle()?;
        let Some(_process) = self.lock_process()? else { return held(HeldReason::Busy) };
        let branch = match self.branch_at_rest(repo)? {
            Ok(branch) => branch,
            Err(reason) => return held(reason),
        };
        let head = self.read_head(repo, &branch)?;
        let unfinished = self.unfinished(repo, head)?;
        let target = self.target(repo)?;
        let fetched = target.as_ref().and_then(|target| repo.refname_to_id(&target.tracking()).ok());
        let course = match (unfinished, fetched) {
            (Some(to), _) => Course::Go(Way { to, how: Move::Finished, keep: Vec::new(), conflict: None }),
            (None, None) => return Ok(PullOutcome::NoUpstream),
            (None, Some(theirs)) => {
                let known = target.as_ref().and_then(|target| self.known_remote(repo, target));
                self.course(repo, head, theirs, known)?
            }
        };
        let outcome = match course {
            Course::Stay(outcome) => outcome,
            Course::Go(way) => self.go(repo, &branch, head, way, invalid)?,
        };
        let arrived = matches!(&outcome, PullOutcome::UpToDate)
            || matches!(&outcome, PullOutcome::Applied { how, .. } if *how != Move::Finished);
        if let (true, Some(target), Some(theirs)) = (arrived, &target, fetched) {
            self.remember_remote(repo, target, theirs)?;
        }
        Ok(outcome)
    }

    pub(super) fn go(
        &self,
        repo: &git2::Repository,
        branch: &str,
        head: Option<Head>,
        way: Way,
        invalid: &BTreeSet<String>,
    ) -> Result<PullOutcome> {
        let held = |reason, paths: &[String]| Ok(PullOutcome::Held { reason, paths: paths.to_vec() });
        let Some(mut staging) = Staging::take(&self.shared.place, repo, head.map(|head| head.tree))? else {
            return held(HeldReason::IndexLocked, &[]);
        };
        if staging.has_conflicts() {
            return held(HeldReason::Conflicts, &[]);
        }
        let store = Store::new(repo)?;
        let files = self.work_tree()?;
        let resumed = way.how == Move::Finished;
        let differences = tree::differences(&store, head.map(|head| head.tree), Some(way.to.tree))?;
        let invalid =
            |path: &str| path.strip_prefix(&self.shared.place.prefix).is_some_and(|path| is_held(invalid, path));
        let mut check = Check {
            store: &store,
            files: &files,
            staging: &staging,
            invalid: &invalid,
            resumed,
            work: Work::default(),
        };
        check.all(&differences)?;
        let work = check.work;
        for (reason, paths) in [
            (HeldReason::UnsafePath, &work.refused),
            (HeldReason::StagedByUser, &work.staged),
            (HeldReason::ChangedByUser, &work.in_the_way),
        ] {
            if !paths.is_empty() {
                if resumed {
                    // What was written is what the remote has, so it may as well count as an edit of ours.
                    self.remove_record(Record::Pull)?;
                    self.note("gave up an interrupted pull: files were changed meanwhile".to_owned());
                }
                return held(reason, paths);
            }
        }
        let incoming = Incoming::prepare(&self.shared.place, &store, &work.writes)?;
        for (name, commit) in &way.keep {
            self.set_own_ref(repo, name, *commit)?;
        }
        self.keep_aside(&files, &work.aside)?;
        self.write_record(Record::Pull, way.to.commit, head.map(|head| head.commit))?;
        incoming.apply(&files, &work.deletions)?;
        for each in &differences {
            staging.set(&each.path, each.new)?;
        }
        if let Some(reason) = self.advance(repo, branch, head, way.to.commit, staging)? {
            return held(reason, &[]);
        }
        self.remove_record(Record::Pull)?;
        self.applied(head, way, work)
    }

    fn applied(&self, head: Option<Head>, way: Way, work: Work) -> Result<PullOutcome> {
        let below = |path: &String| path.strip_prefix(&self.shared.place.prefix).map(str::to_owned);
        let changed: BTreeSet<&String> =
            work.deletions.iter().chain(work.writes.iter().map(|(path, _)| path)).collect();
        Ok(PullOutcome::Applied {
            from: head.map(|head| commit_id(head.commit)).transpose()?,
            to: commit_id(way.to.commit)?,
            how: way.how,
            paths: changed.into_iter().filter_map(below).collect(),
            deleted: work.deletions.iter().filter_map(below).collect(),
            skipped: work.skipped,
            conflict: way.conflict,
        })
    }

    /// Copies files into git's directory, where nothing is committed or pushed.
    fn keep_aside(&self, files: &Directory, paths: &[String]) -> Result<()> {
        let failed = "files that are not valid cannot be kept aside";
        for path in paths {
            let bytes = files.read(path, COMPARED_BYTES_MAX).context(Code::TreeUnreadable, failed)?;
            let own = Directory::open(&self.shared.place.own_directory()).context(Code::GitFailed, failed)?;
            let kept = format!("kept/{}/{path}", self.clock().now().strftime("%Y%m%dT%H%M%SZ"));
            let write = || {
                let (parent, name) = own.parent(&kept, Some(0o700))?;
                parent.remove_all(name)?;
                parent.create_file(name, &bytes, 0o600)?.sync_all()?;
                parent.sync()
            };
            write().context(Code::GitFailed, failed)?;
            let place = self.shared.place.own_directory().join(&kept);
            self.note(format!("`{path}` was not valid and the remote changed it: ours is `{}` now", place.display()));
        }
        Ok(())
    }

    fn work_tree(&self) -> Result<Directory> {
        Directory::open(&self.shared.place.work_tree).context(Code::TreeUnreadable, "the work tree cannot be opened")
    }

    /// The commit that an interrupted pull was going to, if it can still be gone on with from here.
    fn unfinished(&self, repo: &git2::Repository, head: Option<Head>) -> Result<Option<Head>> {
        let Some((to, begun_at)) = self.read_record(Record::Pull)? else { return Ok(None) };
        let from = head.map(|head| head.commit);
        let forward = || from.is_none_or(|from| repo.graph_descendant_of(to, from).unwrap_or(false));
        if from != Some(to)
            && (begun_at == from || forward())
            && let Ok(commit) = repo.find_commit(to)
        {
            return Ok(Some(Head { commit: to, tree: commit.tree_id(), moved_back: false }));
        }
        if from != Some(to) {
            self.note(format!("gave up an interrupted pull to `{to}`: the branch went elsewhere"));
        }
        self.remove_record(Record::Pull)?;
        Ok(None)
    }
}

struct Check<'a> {
    store: &'a Store<'a>,
    files: &'a Directory,
    staging: &'a Staging,
    invalid: &'a dyn Fn(&str) -> bool,
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
        } else if !self.is_clean(&shown, each, leaving)? && !self.may_go_aside(&shown)? {
            self.work.in_the_way.push(shown);
        } else if let Some(new) = each.new {
            self.work.writes.push((shown, new));
        } else {
            self.work.deletions.push(shown);
        }
        Ok(())
    }

    /// Whether this is a plain file that is not valid: then it is kept elsewhere, and does not stop the others.
    fn may_go_aside(&mut self, path: &str) -> Result<bool> {
        let found = self.files.look(path).context(Code::TreeUnreadable, format!("`{path}` cannot be looked at"))?;
        let plain = found.is_some_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size as u64 <= COMPARED_BYTES_MAX
        });
        if !plain || !(self.invalid)(path) {
            return Ok(false);
        }
        self.work.aside.push(path.to_owned());
        Ok(true)
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
