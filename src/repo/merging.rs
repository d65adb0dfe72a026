//! Three-way merges of trees in memory: path by path, and line by line where both sides changed the same text.
//!
//! No index and no work tree is involved, so nothing that a tree of someone else holds can reach either. Where both
//! sides changed a path and their lines cannot be brought together, the version of `theirs` stays and the path is
//! reported. Renames are not followed: a file that moved is a deletion and an addition.

use std::collections::{BTreeMap, BTreeSet};

use git2::{MergeFileInput, ObjectType, Oid, merge_file};

use super::objects::Store;
use super::tree::{self, Difference, Leaf};
use crate::error::{Code, Context, Result};

/// Longer texts are not merged by lines.
const MERGED_BYTES_MAX: usize = 1024 * 1024;

/// What a merge came to.
pub(super) struct Merged {
    pub(super) tree: Oid,
    /// Paths at which `theirs` stayed although we had changed them too; not UTF-8 is shown lossily.
    pub(super) conflicts: BTreeSet<String>,
}

/// What was done between `base` and `ours`, done to `theirs`. The result is gathered, not flushed.
pub(super) fn merge(store: &mut Store<'_>, base: Option<Oid>, ours: Oid, theirs: Oid) -> Result<Merged> {
    let our_changes = tree::differences(store, base, Some(ours))?;
    let their_changes: BTreeMap<Vec<u8>, Difference> =
        tree::differences(store, base, Some(theirs))?.into_iter().map(|each| (each.path.clone(), each)).collect();
    let mut conflicts = BTreeSet::new();
    let mut changes = BTreeMap::new();
    for ours in our_changes {
        let shown = String::from_utf8_lossy(&ours.path).into_owned();
        let theirs = their_changes.get(&ours.path);
        let unusable = shown.as_bytes() != ours.path.as_slice();
        match theirs {
            Some(theirs) if theirs.new == ours.new => {}
            _ if unusable || (ours.new.is_some() && is_in_the_way(&their_changes, &ours.path)) => {
                conflicts.insert(shown);
            }
            None => drop(changes.insert(shown, ours.new)),
            Some(theirs) => match by_lines(store, &ours, theirs)? {
                Some(leaf) => drop(changes.insert(shown, Some(leaf))),
                None => drop(conflicts.insert(shown)),
            },
        }
    }
    let tree = if changes.is_empty() { theirs } else { tree::splice(store, Some(theirs), &changes)? };
    Ok(Merged { tree, conflicts })
}

/// Whether `theirs` has put a file above or below `path`.
fn is_in_the_way(their_changes: &BTreeMap<Vec<u8>, Difference>, path: &[u8]) -> bool {
    let is_new = |change: &Difference| change.new.is_some();
    let below = [path, b"/"].concat();
    let first = their_changes.range(below.clone()..).take_while(|(key, _)| key.starts_with(&below));
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(end, _)| &path[..end]).any(|above| their_changes.get(above).is_some_and(is_new))
        || first.into_iter().any(|(_, change)| is_new(change))
}

/// The text that holds both changes, if there is one.
fn by_lines(store: &mut Store<'_>, ours: &Difference, theirs: &Difference) -> Result<Option<Leaf>> {
    let (Some(base), Some(our_leaf), Some(their_leaf)) = (ours.old, ours.new, theirs.new) else { return Ok(None) };
    if ![base, our_leaf, their_leaf].iter().all(|leaf| leaf.is_file()) {
        return Ok(None);
    }
    let mode = if our_leaf.mode == base.mode { their_leaf.mode } else { our_leaf.mode };
    if our_leaf.id == their_leaf.id || base.id == our_leaf.id {
        return Ok(Some(Leaf { id: their_leaf.id, mode }));
    }
    if base.id == their_leaf.id {
        return Ok(Some(Leaf { id: our_leaf.id, mode }));
    }
    let texts = [base, our_leaf, their_leaf].map(|leaf| text(store, leaf));
    let [Some(base), Some(ours), Some(theirs)] = &texts else { return Ok(None) };
    let merged = merge_file(&input(base), &input(ours), &input(theirs), None)
        .context(Code::GitFailed, "two versions of a file cannot be compared")?;
    if !merged.is_automergeable() {
        return Ok(None);
    }
    let id = store.put(ObjectType::Blob, merged.content().to_vec())?;
    Ok(Some(Leaf { id, mode }))
}

fn input(text: &[u8]) -> MergeFileInput<'_> {
    let mut input = MergeFileInput::new();
    input.content(text);
    input
}

/// The content, if it is text that has lines to merge.
fn text(store: &Store<'_>, leaf: Leaf) -> Option<Vec<u8>> {
    let bytes = store.read(leaf.id, ObjectType::Blob).ok()?;
    let usable = !bytes.is_empty() && bytes.len() <= MERGED_BYTES_MAX && !bytes.contains(&0);
    usable.then_some(bytes).filter(|bytes| std::str::from_utf8(bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixture::Fixture;

    type Files<'a> = &'a [(&'a str, &'a str)];

    /// `base`, `ours` and `theirs` as files; answers the merged files and the conflicts.
    fn merged(base: Files<'_>, ours: Files<'_>, theirs: Files<'_>) -> (Vec<(String, String)>, Vec<String>) {
        let fixture = Fixture::empty();
        let repo = git2::Repository::open(&fixture.root).unwrap();
        let mut store = Store::new(&repo).unwrap();
        let [base, ours, theirs] = [base, ours, theirs].map(|files| {
            let leaves = files.iter().map(|(path, text)| {
                let id = store.put(ObjectType::Blob, text.as_bytes().to_vec()).unwrap();
                ((*path).to_owned(), Some(Leaf::file(id, false)))
            });
            let leaves = leaves.collect();
            tree::splice(&mut store, None, &leaves).unwrap()
        });
        let merged = merge(&mut store, Some(base), ours, theirs).unwrap();
        let files = tree::flatten(&store, merged.tree).unwrap();
        let read = |leaf: Leaf| String::from_utf8(store.read(leaf.id, ObjectType::Blob).unwrap()).unwrap();
        let files = files.into_iter().map(|(path, leaf)| (path, read(leaf))).collect();
        (files, merged.conflicts.into_iter().collect())
    }

    fn owned(files: Files<'_>) -> Vec<(String, String)> {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn changes_of_different_paths_and_of_different_lines_come_together() {
        let base = [("a", "1\n2\n3\n4\n5\n"), ("b", "b\n"), ("gone", "x\n")];
        let ours = [("a", "one\n2\n3\n4\n5\n"), ("b", "b\n"), ("new/ours", "o\n")];
        let theirs = [("a", "1\n2\n3\n4\nfive\n"), ("b", "changed\n"), ("gone", "x\n"), ("new/theirs", "t\n")];
        let all = [("a", "one\n2\n3\n4\nfive\n"), ("b", "changed\n"), ("new/ours", "o\n"), ("new/theirs", "t\n")];
        assert_eq!(merged(&base, &ours, &theirs), (owned(&all), Vec::new()));
    }

    #[test]
    fn in_a_conflict_theirs_stays_and_the_path_is_told() {
        let check = |ours: Files<'_>, theirs: Files<'_>, conflict: &str| {
            let base = [("a", "1\n"), ("b", "b\n")];
            assert_eq!(merged(&base, ours, theirs), (owned(theirs), vec![conflict.to_owned()]), "{ours:?} {theirs:?}");
        };
        check(&[("a", "ours\n"), ("b", "b\n")], &[("a", "theirs\n"), ("b", "b\n")], "a");
        check(&[("b", "b\n")], &[("a", "theirs\n"), ("b", "b\n")], "a");
        check(&[("a", "ours\n"), ("b", "b\n")], &[("b", "b\n")], "a");
        check(&[("a", "1\n"), ("b", "b\n"), ("n", "ours")], &[("a", "1\n"), ("b", "b\n"), ("n", "theirs")], "n");
        check(&[("a", "1\n"), ("b", "b\n"), ("n/x", "o")], &[("a", "1\n"), ("b", "b\n"), ("n", "file")], "n/x");
        check(&[("a", "1\n"), ("b", "b\n"), ("n", "file")], &[("a", "1\n"), ("b", "b\n"), ("n/x", "t")], "n");
        check(&[("a", "\0o\n"), ("b", "b\n")], &[("a", "1\nt\n"), ("b", "b\n")], "a");
    }

    #[test]
    fn the_same_change_on_both_sides_is_no_conflict() {
        let base = [("a", "1\n"), ("b", "b\n")];
        let both = [("a", "2\n"), ("c", "c\n")];
        assert_eq!(merged(&base, &both, &both), (owned(&both), Vec::new()));
    }
}
