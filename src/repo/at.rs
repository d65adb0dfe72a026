//! The configuration as it was at any commit, for comparisons. Nothing is checked out.

use git2::ObjectType;

use super::objects::Store;
use super::served::ServedFile;
use super::{Repository, tree};
use crate::error::{Code, Error, Result};
use crate::model::revision::{check_path, is_committed};

/// Larger files are passed over: no file of a skill is valid at that size.
const BYTES_MAX: usize = 1024 * 1024;

impl Repository {
    /// The plain files below the committed directories at a commit, branch, tag or expression such as `HEAD~2`, in
    /// the order of their paths. SH0901 when there is no such commit.
    pub fn files_at(&self, revision: &str) -> Result<Vec<ServedFile>> {
        let repo = self.handle()?;
        let store = Store::new(&repo)?;
        let unknown = |error: git2::Error| {
            Error::new(Code::NotFound, format!("there is no commit `{}`", revision.escape_default())).detail(error)
        };
        let commit = repo.revparse_single(revision).and_then(|object| object.peel_to_commit()).map_err(unknown)?;
        let root = self.shared.place.prefix.as_str();
        let Some(top) = tree::find(&store, commit.tree_id(), &format!("{root}.claude"))? else { return Ok(Vec::new()) };
        if !top.is_directory() {
            return Ok(Vec::new());
        }
        let mut files = Vec::new();
        for (path, leaf) in tree::flatten(&store, top.id)? {
            let path = format!(".claude/{path}");
            if !leaf.is_file() || !is_committed(&path) || check_path(&path).is_err() || !store.fits(leaf.id)? {
                continue;
            }
            let bytes = store.read(leaf.id, ObjectType::Blob)?;
            if bytes.len() <= BYTES_MAX {
                files.push(ServedFile { path, executable: leaf.is_executable(), bytes });
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixture::Fixture;

    #[test]
    fn a_commit_shows_its_plain_files_below_the_committed_directories_and_no_others() {
        let fixture = Fixture::with_history();
        fixture.write(".claude/skills/a/SKILL.md", "a2");
        fixture.write(".claude/settings.json", "{}");
        std::os::unix::fs::symlink("/etc/hostname", fixture.root.join(".claude/skills/a/link")).unwrap();
        fixture.git(&["add", "-A"]);
        fixture.git(&["commit", "-q", "-m", "second"]);
        fixture.write(".claude/skills/a/SKILL.md", "not committed");
        let repository = fixture.open();
        let at = |revision: &str| {
            let files = repository.files_at(revision).unwrap();
            files.into_iter().map(|file| (file.path, String::from_utf8(file.bytes).unwrap())).collect::<Vec<_>>()
        };
        let brain = (".claude/agents/brain.md".to_owned(), "brain".to_owned());
        assert_eq!(at("HEAD"), [brain.clone(), (".claude/skills/a/SKILL.md".to_owned(), "a2".to_owned())]);
        assert_eq!(at("main~1"), [brain, (".claude/skills/a/SKILL.md".to_owned(), "a1".to_owned())]);
        assert_eq!(repository.files_at("nowhere").unwrap_err().code(), Code::NotFound);
    }
}
