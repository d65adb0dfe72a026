//! Earlier contents of a path, newest first: where the last good version of a broken file is found again.

use git2::{ObjectType, Oid};
use jiff::Timestamp;

use super::objects::Store;
use super::{Repository, commit_id, served, tree};
use crate::error::{Code, Context, Result};
use crate::model::digest::Digest;
use crate::model::revision::CommitId;

/// Commits that are looked at along the first parents.
const COMMITS_MAX: usize = 2_000;
/// Served trees that are looked at.
const SERVED_MAX: usize = 200;
/// Contents larger than this are passed over: no file of a skill is valid at that size.
const BYTES_MAX: usize = 1024 * 1024;

/// Where a version was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Served(Digest),
    Commit(CommitId),
}

/// One content that a path had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub origin: Origin,
    /// When it was served or committed.
    pub at: Timestamp,
    pub bytes: Vec<u8>,
}

struct Candidate {
    origin: Origin,
    seconds: i64,
    blob: Oid,
}

impl Repository {
    /// Up to `limit` different contents of a root-relative path, newest first, from the served trees and from the
    /// history of HEAD along first parents.
    pub fn newest_versions(&self, path: &str, limit: usize) -> Result<Vec<Version>> {
        let repo = self.handle()?;
        let store = Store::new(&repo)?;
        let mut candidates = served_versions(&repo, &store, path)?;
        candidates.extend(self.committed_versions(&repo, &store, path, limit)?);
        candidates.sort_by_key(|each| std::cmp::Reverse(each.seconds));
        let mut seen = std::collections::BTreeSet::new();
        let mut versions = Vec::new();
        for each in candidates {
            if versions.len() >= limit {
                break;
            }
            if !seen.insert(each.blob) {
                continue;
            }
            // A damaged blob is one version less, not the end of the search.
            let Ok(bytes) = store.read(each.blob, ObjectType::Blob) else { continue };
            if bytes.len() <= BYTES_MAX {
                let at = Timestamp::from_second(each.seconds).unwrap_or(Timestamp::UNIX_EPOCH);
                versions.push(Version { origin: each.origin, at, bytes });
            }
        }
        Ok(versions)
    }

    fn committed_versions(
        &self,
        repo: &git2::Repository,
        store: &Store<'_>,
        path: &str,
        limit: usize,
    ) -> Result<Vec<Candidate>> {
        let Some(head) = repo.head().ok().and_then(|head| head.target()) else { return Ok(Vec::new()) };
        let failed = "the history cannot be read";
        let mut walk = repo.revwalk().context(Code::GitFailed, failed)?;
        walk.push(head).context(Code::GitFailed, failed)?;
        walk.simplify_first_parent().context(Code::GitFailed, failed)?;
        let path = format!("{}{path}", self.shared.place.prefix);
        let mut lookup = Lookup { path: &path, last: None };
        let mut found: Vec<Candidate> = Vec::new();
        for id in walk.take(COMMITS_MAX) {
            // Shallow and damaged histories simply end.
            let Ok(commit) = id.and_then(|id| repo.find_commit(id)) else { break };
            let Some(blob) = lookup.blob(store, commit.tree_id())? else { continue };
            let candidate =
                Candidate { origin: Origin::Commit(commit_id(commit.id())?), seconds: commit.time().seconds(), blob };
            let same_as_last = found.last().is_some_and(|last| last.blob == blob);
            if same_as_last {
                // The oldest commit of a run with one content is the one that made it.
                found.pop();
            } else if found.len() > limit {
                break;
            }
            found.push(candidate);
        }
        Ok(found)
    }
}

fn served_versions(repo: &git2::Repository, store: &Store<'_>, path: &str) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    let mut lookup = Lookup { path, last: None };
    for served in served::list(repo)?.into_iter().take(SERVED_MAX) {
        if let Some(blob) = lookup.blob(store, served.tree)? {
            found.push(Candidate { origin: Origin::Served(served.digest), seconds: served.seconds, blob });
        }
    }
    Ok(found)
}

/// Looks a path up in many trees; neighbours in history mostly share the whole directory.
struct Lookup<'a> {
    path: &'a str,
    /// The tree two levels down that was looked at last, and what was found.
    last: Option<(Oid, Option<Oid>)>,
}

impl Lookup<'_> {
    fn blob(&mut self, store: &Store<'_>, root: Oid) -> Result<Option<Oid>> {
        let cut = self.path.match_indices('/').nth(1).map(|(at, _)| at);
        let (start, rest) = match cut {
            Some(cut) => match tree::find(store, root, &self.path[..cut])? {
                Some(leaf) if leaf.is_directory() => (leaf.id, &self.path[cut + 1..]),
                Some(_) | None => return Ok(None),
            },
            None => (root, self.path),
        };
        if let Some((tree, blob)) = self.last
            && tree == start
        {
            return Ok(blob);
        }
        let blob = tree::find(store, start, rest)?.filter(|leaf| leaf.is_file()).map(|leaf| leaf.id);
        self.last = Some((start, blob));
        Ok(blob)
    }
}
