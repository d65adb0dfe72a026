//! Git trees as raw entries: read, compared, and changed by rewriting only the directories that differ.
//!
//! This bypasses the tree builder of libgit2 because the tree of `skills` is rewritten on every commit and raw
//! splicing costs half. The price is that nothing checks names here: paths come from `model::revision`, which does.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid};

use super::objects::Store;
use crate::error::{Code, Error, Result};
use crate::model::revision::PATH_DEPTH_MAX;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_644;
const EXECUTABLE: u32 = 0o100_755;
/// Most files that are looked at in one tree.
const FILES_MAX: usize = 1_000_000;

/// What an entry of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) id: Oid,
    pub(super) mode: u32,
}

impl Leaf {
    pub(super) fn file(id: Oid, executable: bool) -> Self {
        Self { id, mode: if executable { EXECUTABLE } else { REGULAR } }
    }

    /// A plain file, as opposed to a symlink or a submodule.
    pub(super) fn is_file(self) -> bool {
        // 0100664 was written by very old versions of git.
        matches!(self.mode, REGULAR | EXECUTABLE | 0o100_664)
    }

    pub(super) fn is_executable(self) -> bool {
        self.mode == EXECUTABLE
    }

    pub(super) fn is_directory(self) -> bool {
        self.mode == DIRECTORY
    }
}

/// One path that differs between two trees. Paths are bytes: a tree of someone else may hold any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) path: Vec<u8>,
    pub(super) old: Option<Leaf>,
    pub(super) new: Option<Leaf>,
}

type Entries = BTreeMap<Vec<u8>, Leaf>;

pub(super) fn entries(store: &Store<'_>, tree: Oid) -> Result<Entries> {
    let raw = store.read(tree, ObjectType::Tree)?;
    let mut rest = raw.as_slice();
    let mut entries = Entries::new();
    while !rest.is_empty() {
        let (name, leaf, after) =
            parse_entry(rest).ok_or_else(|| Error::new(Code::GitFailed, format!("the tree `{tree}` is damaged")))?;
        entries.insert(name.to_vec(), leaf);
        rest = after;
    }
    Ok(entries)
}

/// `<octal mode> SP <name> NUL <20 bytes of id>`
fn parse_entry(raw: &[u8]) -> Option<(&[u8], Leaf, &[u8])> {
    let space = raw.iter().position(|b| *b == b' ')?;
    let mode = u32::from_str_radix(std::str::from_utf8(&raw[..space]).ok()?, 8).ok()?;
    let rest = &raw[space + 1..];
    let end = rest.iter().position(|b| *b == 0)?;
    let (name, rest) = (&rest[..end], &rest[end + 1..]);
    let id = Oid::from_bytes(rest.get(..20)?).ok()?;
    Some((name, Leaf { id, mode }, &rest[20..]))
}

fn write(store: &mut Store<'_>, entries: &Entries) -> Result<Oid> {
    // Git orders a directory as if its name ended with a slash.
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_cached_key(|(name, leaf)| {
        let mut key = (*name).clone();
        key.extend(leaf.is_directory().then_some(b'/'));
        key
    });
    let mut raw = Vec::with_capacity(entries.len() * 48);
    for (name, leaf) in sorted {
        raw.extend_from_slice(format!("{:o} ", leaf.mode).as_bytes());
        raw.extend_from_slice(name);
        raw.push(0);
        raw.extend_from_slice(leaf.id.as_bytes());
    }
    store.put(ObjectType::Tree, raw)
}

/// The tree that results when `changes` are made to `base`: `None` removes. Directories that become empty vanish;
/// a tree without any entry is answered as the empty tree.
pub(super) fn splice(
    store: &mut Store<'_>,
    base: Option<Oid>,
    changes: &BTreeMap<String, Option<Leaf>>,
) -> Result<Oid> {
    let list: Vec<_> = changes.iter().map(|(path, leaf)| (path.as_str(), *leaf)).collect();
    match splice_level(store, base, &list, 0)? {
        Some(tree) => Ok(tree),
        None => write(store, &Entries::new()),
    }
}

#[derive(Default)]
struct Group<'a> {
    leaf: Option<Option<Leaf>>,
    below: Vec<(&'a str, Option<Leaf>)>,
}

fn splice_level(
    store: &mut Store<'_>,
    base: Option<Oid>,
    changes: &[(&str, Option<Leaf>)],
    depth: usize,
) -> Result<Option<Oid>> {
    if depth > PATH_DEPTH_MAX + COMPONENTS_OF_PREFIX_MAX {
        return Err(too_deep());
    }
    let mut groups: BTreeMap<&str, Group<'_>> = BTreeMap::new();
    for (path, leaf) in changes {
        match path.split_once('/') {
            Some((name, rest)) => groups.entry(name).or_default().below.push((rest, *leaf)),
            None => groups.entry(path).or_default().leaf = Some(*leaf),
        }
    }
    let mut entries = base.map_or_else(|| Ok(Entries::new()), |base| entries(store, base))?;
    for (name, group) in groups {
        let name = name.as_bytes();
        match group.leaf {
            Some(Some(leaf)) => drop(entries.insert(name.to_vec(), leaf)),
            // The removal of a file never takes a directory of the same name with it.
            Some(None) if entries.get(name).is_some_and(|old| !old.is_directory()) => drop(entries.remove(name)),
            Some(None) | None => {}
        }
        let below = entries.get(name).filter(|old| old.is_directory()).map(|old| old.id);
        if below.is_none() && group.below.iter().all(|(_, leaf)| leaf.is_none()) {
            continue;
        }
        match splice_level(store, below, &group.below, depth + 1)? {
            Some(id) => drop(entries.insert(name.to_vec(), Leaf { id, mode: DIRECTORY })),
            None => drop(entries.remove(name)),
        }
    }
    if entries.is_empty() { Ok(None) } else { write(store, &entries).map(Some) }
}

/// A root that is itself a subdirectory of its repository adds this many components at most.
const COMPONENTS_OF_PREFIX_MAX: usize = 40;

fn too_deep() -> Error {
    Error::new(Code::GitFailed, "a tree is nested too deeply")
}

/// The entry at a path below a tree.
pub(super) fn find(store: &Store<'_>, tree: Oid, path: &str) -> Result<Option<Leaf>> {
    let mut at = Leaf { id: tree, mode: DIRECTORY };
    for name in path.split('/') {
        if !at.is_directory() {
            return Ok(None);
        }
        let raw = store.read(at.id, ObjectType::Tree)?;
        let mut rest = raw.as_slice();
        at = loop {
            match parse_entry(rest) {
                Some((found, leaf, _)) if found == name.as_bytes() => break leaf,
                Some((_, _, after)) => rest = after,
                None => return Ok(None),
            }
        };
    }
    Ok(Some(at))
}

/// Every path that differs below two trees, in the order of the paths' bytes within each directory.
pub(super) fn differences(store: &Store<'_>, old: Option<Oid>, new: Option<Oid>) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    let as_directory = |id: Option<Oid>| id.map(|id| Leaf { id, mode: DIRECTORY });
    compare(store, as_directory(old), as_directory(new), &mut Vec::new(), 0, &mut found)?;
    Ok(found)
}

fn compare(
    store: &Store<'_>,
    old: Option<Leaf>,
    new: Option<Leaf>,
    path: &mut Vec<u8>,
    depth: usize,
    found: &mut Vec<Difference>,
) -> Result<()> {
    if old == new {
        return Ok(());
    }
    if depth > PATH_DEPTH_MAX + COMPONENTS_OF_PREFIX_MAX || found.len() > FILES_MAX {
        return Err(too_deep());
    }
    let (old_entries, new_entries) = (level(store, old)?, level(store, new)?);
    if old_entries.is_none() && new_entries.is_none() {
        found.push(Difference { path: path.clone(), old, new });
        return Ok(());
    }
    // A file that became a directory, or the reverse, is one removal and many additions.
    if let (None, Some(_), Some(leaf)) = (&old_entries, &new_entries, old) {
        found.push(Difference { path: path.clone(), old: Some(leaf), new: None });
    }
    if let (Some(_), None, Some(leaf)) = (&old_entries, &new_entries, new) {
        found.push(Difference { path: path.clone(), old: None, new: Some(leaf) });
    }
    let (old_entries, new_entries) = (old_entries.unwrap_or_default(), new_entries.unwrap_or_default());
    let added = new_entries.keys().filter(|name| !old_entries.contains_key(*name));
    let length = path.len();
    for name in old_entries.keys().chain(added) {
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let result =
            compare(store, old_entries.get(name).copied(), new_entries.get(name).copied(), path, depth + 1, found);
        path.truncate(length);
        result?;
    }
    Ok(())
}

fn level(store: &Store<'_>, leaf: Option<Leaf>) -> Result<Option<Entries>> {
    match leaf {
        Some(leaf) if leaf.is_directory() => entries(store, leaf.id).map(Some),
        Some(_) | None => Ok(None),
    }
}

/// All files of a tree whose paths are UTF-8.
pub(super) fn flatten(store: &Store<'_>, tree: Oid) -> Result<BTreeMap<String, Leaf>> {
    let all = differences(store, None, Some(tree))?;
    let named = all.into_iter().filter_map(|each| Some((String::from_utf8(each.path).ok()?, each.new?)));
    Ok(named.collect())
}
