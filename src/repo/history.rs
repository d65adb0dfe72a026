//! What became of the configuration: its commits, what differs between two of them, and the way back to one.

use std::collections::{BTreeMap, BTreeSet};

use git2::{Commit, ObjectType, Oid, Patch};
use jiff::Timestamp;
use serde::Serialize;

use super::integrate::Way;
use super::objects::Store;
use super::proposal::verb;
use super::pull::Move;
use super::records::Record;
use super::repair::Head;
use super::tree::{self, Difference, Leaf};
use super::{HeldReason, PathChange, PullOutcome, Repository, commit_id, message};
use crate::error::{Code, Context, Error, Result};
use crate::model::revision::{COMMITTED, CommitId};

/// Commits that are looked at.
const COMMITS_MAX: usize = 20_000;
/// Larger files are named, not compared.
const COMPARED_BYTES_MAX: usize = 1024 * 1024;

/// A commit that changed the configuration.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryEntry {
    pub commit: CommitId,
    pub at: Timestamp,
    pub author: String,
    pub title: String,
    /// What made it (`file`, `api`, `chat`, `restore`, …); `None` for a commit of a person.
    pub origin: Option<String>,
    pub actor: Option<String>,
    /// Compared with its first parent, in order.
    pub changes: Vec<PathChange>,
}

/// How long there is a file, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Age {
    pub created_at: Timestamp,
    pub created_by: String,
    pub updated_at: Timestamp,
    pub updated_by: String,
}

/// One file that differs.
#[derive(Clone, Debug, Serialize)]
pub struct FileDiff {
    #[serde(flatten)]
    pub change: PathChange,
    /// A unified diff; `None` for files that are large or no text.
    pub text: Option<String>,
}

impl Repository {
    /// The newest commits that changed files of ours, newest first; with `below`, only those that changed files in
    /// that directory or that file; with `before`, only those behind that commit. SH0901 when it is none of them.
    pub fn history(&self, below: Option<&str>, before: Option<&str>, limit: usize) -> Result<Vec<HistoryEntry>> {
        let repo = self.handle()?;
        let store = Store::new(&repo)?;
        let failed = "the history cannot be read";
        let Some(head) = repo.head().ok().and_then(|head| head.target()) else { return Ok(Vec::new()) };
        let mut walk = repo.revwalk().context(Code::GitFailed, failed)?;
        walk.push(head).context(Code::GitFailed, failed)?;
        walk.simplify_first_parent().context(Code::GitFailed, failed)?;
        let mut found = Vec::new();
        let mut walk = walk.take(COMMITS_MAX);
        if let Some(before) = before
            && !walk.any(|id| id.is_ok_and(|id| id.to_string() == before))
        {
            let message = format!("there is no commit `{}` in the history", before.escape_default());
            return Err(Error::new(Code::NotFound, message).hint("`before` takes a whole id, as `next` has it"));
        }
        for id in walk {
            // Shallow and damaged histories simply end.
            let Ok(commit) = id.and_then(|id| repo.find_commit(id)) else { break };
            let before = commit.parent(0).ok().map(|parent| parent.tree_id());
            let changes = self.changes(&store, before, commit.tree_id())?;
            let changes: Vec<PathChange> = changes
                .iter()
                .filter_map(|each| self.path_change(each))
                .filter(|change| below.is_none_or(|below| lies_at(&change.path, below)))
                .collect();
            if !changes.is_empty() {
                found.push(entry(&commit, changes)?);
            }
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// Since when there is each file that the newest commit has, and who changed it last.
    pub fn ages(&self) -> Result<BTreeMap<String, Age>> {
        let mut ages: BTreeMap<String, Age> = BTreeMap::new();
        // What was deleted once began anew afterwards.
        let mut over: BTreeSet<String> = BTreeSet::new();
        for entry in self.history(None, None, COMMITS_MAX)? {
            let by = entry.actor.unwrap_or(entry.author);
            for change in entry.changes {
                if over.contains(&change.path) {
                    continue;
                }
                if change.verb == message::Verb::Delete {
                    over.insert(change.path);
                    continue;
                }
                let (at, by) = (entry.at, by.clone());
                match ages.get_mut(&change.path) {
                    Some(age) => (age.created_at, age.created_by) = (at, by),
                    None => {
                        let age = Age { created_at: at, created_by: by.clone(), updated_at: at, updated_by: by };
                        ages.insert(change.path, age);
                    }
                }
            }
        }
        Ok(ages)
    }

    /// What of the configuration differs between two commits. SH0901 when one of them does not exist.
    pub fn diff(&self, from: &str, to: &str) -> Result<Vec<FileDiff>> {
        let repo = self.handle()?;
        let store = Store::new(&repo)?;
        let (from, to) = (find(&repo, from)?, find(&repo, to)?);
        let mut found = Vec::new();
        for each in self.changes(&store, Some(from.tree_id()), to.tree_id())? {
            if let Some(change) = self.path_change(&each) {
                let text = unified(&store, &change.path, &each);
                found.push(FileDiff { change, text });
            }
        }
        Ok(found)
    }

    /// A new commit that has the configuration of an earlier one. Files and index follow as in a pull: nothing is done
    /// where a person's work is in the way. SH0513 when nothing would change.
    pub fn restore(&self, revision: &str, trailers: &[(String, String)]) -> Result<PullOutcome> {
        let held = |reason| Ok(PullOutcome::Held { reason, paths: Vec::new() });
        let _writer = self.writer();
        let repo = &self.handle()?;
        let Some(_process) = self.lock_process()? else { return held(HeldReason::Busy) };
        let branch = match self.branch_at_rest(repo)? {
            Ok(branch) => branch,
            Err(reason) => return held(reason),
        };
        if self.read_record(Record::Pull)?.is_some() {
            return held(HeldReason::PullUnfinished);
        }
        let wanted = find(repo, revision)?;
        let Some(head) = self.read_head(repo, &branch)? else { return held(HeldReason::HeadMoved) };
        let mut store = Store::new(repo)?;
        let changes = self.changes(&store, Some(head.tree), wanted.tree_id())?;
        let leaves = changes
            .into_iter()
            .filter_map(|each| Some((String::from_utf8(each.path).ok()?, each.new.filter(|leaf| leaf.is_file()))))
            .collect();
        let tree = tree::splice(&mut store, Some(head.tree), &leaves)?;
        if tree == head.tree {
            let message = format!("the files of `{}` are the same as now", revision.escape_default());
            return Err(Error::new(Code::RollbackRefused, message));
        }
        store.flush()?;
        let title = wanted.summary().ok().flatten().unwrap_or_default();
        let short = commit_id(wanted.id())?.short().to_owned();
        let text = message::with_trailers(&format!("roll back to {short} ({title})"), trailers);
        let commit = self.write(repo, None, &text, tree, &[&find(repo, &head.commit.to_string())?])?;
        let to = Head { commit, tree, moved_back: false };
        let way = Way { to, how: Move::Restored, keep: Vec::new(), conflict: None };
        self.go(repo, &branch, Some(head), way, &std::collections::BTreeSet::new())
    }

    /// Git's paths below the committed directories that differ.
    fn changes(&self, store: &Store<'_>, old: Option<Oid>, new: Oid) -> Result<Vec<Difference>> {
        let mut all = Vec::new();
        for directory in COMMITTED {
            let place = format!("{}{directory}", self.shared.place.prefix);
            let at = |tree: Option<Oid>| match tree {
                Some(tree) => {
                    Ok(tree::find(store, tree, &place)?.filter(|leaf| leaf.is_directory()).map(|leaf| leaf.id))
                }
                None => Ok::<_, Error>(None),
            };
            for mut each in tree::differences(store, at(old)?, at(Some(new))?)? {
                each.path = [place.as_bytes(), b"/", &each.path].concat();
                all.push(each);
            }
        }
        Ok(all)
    }

    fn path_change(&self, each: &Difference) -> Option<PathChange> {
        let path = self.root_relative(std::str::from_utf8(&each.path).ok()?.to_owned());
        Some(PathChange { path, verb: verb(each.old.is_some(), each.new.is_some()) })
    }
}

fn find<'repo>(repo: &'repo git2::Repository, revision: &str) -> Result<Commit<'repo>> {
    let unknown = |error: git2::Error| {
        Error::new(Code::NotFound, format!("there is no commit `{}`", revision.escape_default()))
            .hint("`skillhook history` lists them")
            .detail(error)
    };
    repo.revparse_single(revision).and_then(|object| object.peel_to_commit()).map_err(unknown)
}

fn entry(commit: &Commit<'_>, changes: Vec<PathChange>) -> Result<HistoryEntry> {
    let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
    let trailer = |key: &str| {
        let line = message.lines().rev().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.map(|value| value.trim().to_owned())
    };
    Ok(HistoryEntry {
        commit: commit_id(commit.id())?,
        at: Timestamp::from_second(commit.time().seconds()).unwrap_or(Timestamp::UNIX_EPOCH),
        author: String::from_utf8_lossy(commit.author().name_bytes()).into_owned(),
        title: message.lines().next().unwrap_or_default().to_owned(),
        origin: trailer("Skillhook-Origin"),
        actor: trailer("Skillhook-Actor"),
        changes,
    })
}

fn lies_at(path: &str, below: &str) -> bool {
    let below = below.trim_end_matches('/');
    path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn unified(store: &Store<'_>, path: &str, each: &Difference) -> Option<String> {
    let read = |leaf: Option<Leaf>| match leaf {
        None => Some(Vec::new()),
        Some(leaf) => {
            let bytes = store.read(leaf.id, ObjectType::Blob).ok()?;
            (bytes.len() <= COMPARED_BYTES_MAX && std::str::from_utf8(&bytes).is_ok()).then_some(bytes)
        }
    };
    let (old, new) = (read(each.old)?, read(each.new)?);
    let path = std::path::Path::new(path);
    let mut patch = Patch::from_buffers(&old, Some(path), &new, Some(path), None).ok()?;
    let text = patch.to_buf().ok()?;
    Some(text.as_str().ok()?.to_owned())
}
