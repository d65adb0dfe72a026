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
        let repo = self.reader()?;
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
