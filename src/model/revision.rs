//! A revision: one exact set of files below the root, and the digest that names it on every machine.
//!
//! The digest covers path, executable bit and content of each file and nothing else (no times, no owner, no commit),
//! so equal trees have equal digests anywhere. What paths a revision may hold is decided here too, because every
//! writer (git objects, the work tree, workspaces) trusts it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// Longest path in bytes.
pub const PATH_BYTES_MAX: usize = 1024;
/// Longest component of a path in bytes: what common file systems can hold.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Most components of a path.
pub const PATH_DEPTH_MAX: usize = 24;

/// The only directories that are committed.
pub const COMMITTED: [&str; 3] = [".claude/skills", ".claude/agents", ".claude/providers"];
/// The only directories that an agent run gets to see.
pub const MATERIALISED: [&str; 2] = [".claude/skills", ".claude/agents"];

/// One file of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    /// SHA-256 of the content.
    pub digest: Digest,
    pub executable: bool,
}

/// A set of files and its digest. Paths are relative to the root, with `/` between components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    pub digest: Digest,
    pub files: BTreeMap<String, FileRef>,
}

impl Revision {
    pub fn of(files: BTreeMap<String, FileRef>) -> Self {
        let parts = files.iter().flat_map(|(path, file)| {
            let executable: &[u8] = if file.executable { b"x" } else { b"-" };
            [path.as_bytes(), executable, file.digest.as_bytes().as_slice()]
        });
        Self { digest: Digest::of_parts(std::iter::once(b"skillhook revision 1".as_slice()).chain(parts)), files }
    }

    /// What has to be done to `earlier` to get these files: `Some` is added or different, `None` is gone.
    pub fn changes<'a>(&'a self, earlier: &'a BTreeMap<String, FileRef>) -> BTreeMap<&'a str, Option<FileRef>> {
        let gone = earlier.keys().filter(|path| !self.files.contains_key(*path)).map(|path| (path.as_str(), None));
        let fresh = self.files.iter().filter(|(path, file)| earlier.get(*path) != Some(file));
        gone.chain(fresh.map(|(path, file)| (path.as_str(), Some(*file)))).collect()
    }
}

/// A git commit, as its hexadecimal name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(Box<str>);

impl CommitId {
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match text.len() {
            40 if lower_hex => Ok(Self(text.into())),
            _ => Err(format!("`{text}` is no full name of a commit")),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl TryFrom<String> for CommitId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<CommitId> for String {
    fn from(id: CommitId) -> String {
        id.0.into()
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// Whether a path lies in a directory that is committed.
pub fn is_committed(path: &str) -> bool {
    lies_below(path, &COMMITTED)
}

/// Whether a path lies in a directory that agent runs see.
pub fn is_materialised(path: &str) -> bool {
    lies_below(path, &MATERIALISED)
}

fn lies_below(path: &str, directories: &[&str]) -> bool {
    directories.iter().any(|directory| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')))
}

/// Says why a path may not be written anywhere, if so: it would leave the root, reach git's own files, or has a name
/// that programs read in different ways.
pub fn check_path(path: &str) -> Result<(), String> {
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("the path is longer than {PATH_BYTES_MAX} bytes"));
    }
    if path.split('/').count() > PATH_DEPTH_MAX {
        return Err(format!("the path has more than {PATH_DEPTH_MAX} components"));
    }
    path.split('/').try_for_each(check_component)
}

fn check_component(name: &str) -> Result<(), String> {
    if matches!(name, "" | "." | "..") {
        return Err(format!("`{name}` is no name of a file"));
    }
    if name.len() > COMPONENT_BYTES_MAX {
        return Err(format!("a name in the path is longer than {COMPONENT_BYTES_MAX} bytes"));
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Err(format!("`{}` holds a control character or a backslash", name.escape_default()));
    }
    if name.ends_with(' ') {
        return Err(format!("`{name}` ends with a blank"));
    }
    if means_dot_git(name) {
        return Err(format!("`{}` is a name of git's own directory", name.escape_default()));
    }
    Ok(())
}

/// Whether some file system takes this name for `.git`: case, characters that HFS+ ignores, trailing dots and blanks,
/// streams and short names of NTFS (the family of CVE-2014-9390).
pub fn means_dot_git(name: &str) -> bool {
    let visible: String = name.chars().filter(|c| !ignored_by_hfs(*c)).collect();
    let stem = visible.split(':').next().unwrap_or_default().trim_end_matches([' ', '.']);
    stem.eq_ignore_ascii_case(".git") || stem.eq_ignore_ascii_case("git~1")
}

fn ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str, bool)]) -> BTreeMap<String, FileRef> {
        let file = |content: &str, executable| FileRef { digest: Digest::of(content.as_bytes()), executable };
        list.iter().map(|(path, content, executable)| ((*path).to_owned(), file(content, *executable))).collect()
    }

    #[test]
    fn equal_files_have_equal_digests_and_every_difference_counts() {
        let base = Revision::of(files(&[("a", "1", false), ("b", "2", false)]));
        assert_eq!(base, Revision::of(files(&[("b", "2", false), ("a", "1", false)])));
        for other in [
            files(&[("a", "1", true), ("b", "2", false)]),
            files(&[("a", "1", false), ("c", "2", false)]),
            files(&[("a", "2", false), ("b", "1", false)]),
            files(&[("a", "1", false)]),
            files(&[]),
        ] {
            assert_ne!(base.digest, Revision::of(other).digest);
        }
    }

    #[test]
    fn changes_turn_one_set_into_the_other() {
        let old = files(&[("a", "1", false), ("b", "2", false), ("c", "3", false)]);
        let new = Revision::of(files(&[("a", "1", false), ("b", "2", true), ("d", "4", false)]));
        let changes = new.changes(&old);
        assert_eq!(changes.keys().copied().collect::<Vec<_>>(), ["b", "c", "d"]);
        assert!(changes["c"].is_none());
        assert!(changes["b"].is_some_and(|file| file.executable));
    }

    #[test]
    fn dangerous_paths_are_refused() {
        for good in [".claude/skills/x/SKILL.md", "a/..b", ".gitignore", "git~2", "e\u{301}", ".github/x"] {
            check_path(good).unwrap();
        }
        for bad in [
            "",
            "/a",
            "a//b",
            "a/",
            "./a",
            "a/../b",
            ".git/config",
            "x/.GIT/hooks/pre-commit",
            ".git./x",
            ".gi\u{200c}t/x",
            "GIT~1/x",
            ".git::$INDEX_ALLOCATION/x",
            "a\nb",
            "a\\b",
            "a /b",
            "nul\0",
            "a/b ",
        ] {
            check_path(bad).expect_err(bad);
        }
        check_path(&"x".repeat(256)).unwrap_err();
        check_path(&vec!["d"; PATH_DEPTH_MAX + 1].join("/")).unwrap_err();
    }

    #[test]
    fn only_the_managed_directories_are_committed() {
        assert!(is_committed(".claude/skills/x/SKILL.md") && is_committed(".claude/providers/x.yaml"));
        for no in [".claude/settings.json", ".claude/skills", ".claude/skillsets/x", "README.md", ".claude/hooks/x"] {
            assert!(!is_committed(no), "{no}");
        }
        assert!(is_materialised(".claude/agents/brain.md") && !is_materialised(".claude/providers/x.yaml"));
    }
}
