//! What a copy says about itself: a manifest for each revision, and the head.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{HEAD_BYTES_MAX, ObjectId, damaged};
use crate::error::Result;
use crate::model::digest::Digest;
use crate::model::provider::Operated;
use crate::model::revision::{CommitId, FileRef, Revision, check_path};

/// The form of manifests and heads that this program writes.
const FORMAT: u32 = 1;

/// One revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Counts the manifests of a copy, from 1.
    pub sequence: u64,
    /// The manifest before.
    pub parent: Option<ObjectId>,
    /// Whether this manifest and what it names is sealed to a key.
    pub sealed: bool,
    /// Covers every file below.
    pub revision: Digest,
    /// The index that these files make under these rules; `None` for a revision that was never the served one here.
    pub index: Option<Digest>,
    pub rules: Rules,
    pub commit: CommitId,
    pub branch: String,
    /// Where the root lies in the repository: empty, or ending with a slash.
    pub prefix: String,
    pub at: Timestamp,
    pub files: BTreeMap<String, File>,
    /// Bundles of the history, in the order in which they are taken in; empty when the copy holds no history.
    pub history: Vec<Bundle>,
}

/// The operator's rules that files were judged by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    pub secret_env_patterns: Vec<String>,
    pub unsigned_allowed: bool,
    /// Which hosts the operator names for each provider, and whether there are credentials for it; never one of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub providers: BTreeMap<String, Operated>,
}

/// A file of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The SHA-256 of its content.
    pub digest: Digest,
    pub executable: bool,
    pub bytes: u64,
    /// The object that holds it.
    pub object: ObjectId,
    /// Git's name of its content.
    pub blob: String,
}

/// A git bundle, cut into objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    pub tip: CommitId,
    pub digest: Digest,
    pub bytes: u64,
    pub objects: Vec<ObjectId>,
}

/// What names the newest manifest. It is never sealed and tells nothing about content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub format: u32,
    pub sequence: u64,
    pub manifest: ObjectId,
    pub at: Timestamp,
}

impl Manifest {
    pub const FORMAT: u32 = FORMAT;

    pub fn revision_of(files: &BTreeMap<String, File>) -> Digest {
        let entry = |file: &File| FileRef { digest: file.digest, executable: file.executable };
        Revision::of(files.iter().map(|(path, file)| (path.clone(), entry(file))).collect()).digest
    }

    /// Every object that it names.
    pub fn objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let files = self.files.values().map(|file| file.object);
        files.chain(self.history.iter().flat_map(|bundle| bundle.objects.iter().copied()))
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// # Errors
    /// SH0912 when it is none, or would write outside the root.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| damaged(format!("a manifest cannot be read ({error})")))?;
        known_format(manifest.format)?;
        let prefix = manifest.prefix.strip_suffix('/');
        let prefix_is_fine = manifest.prefix.is_empty() || prefix.is_some_and(|prefix| check_path(prefix).is_ok());
        let branch = format!("refs/heads/{}", manifest.branch);
        if !prefix_is_fine || manifest.branch.starts_with('-') || check_path(&branch).is_err() {
            return Err(damaged("a manifest names a place that nothing is written to".to_owned()));
        }
        if let Some(why) = manifest.files.keys().find_map(|path| check_path(path).err()) {
            return Err(damaged(format!("a manifest names a path that is not written: {why}")));
        }
        if Self::revision_of(&manifest.files) != manifest.revision {
            return Err(damaged("the files of a manifest do not make its revision".to_owned()));
        }
        Ok(manifest)
    }
}

impl Head {
    pub fn of(manifest: &Manifest, id: ObjectId) -> Self {
        Self { format: FORMAT, sequence: manifest.sequence, manifest: id, at: manifest.at }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// # Errors
    /// SH0912.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > HEAD_BYTES_MAX {
            return Err(damaged("the head is too large to be one".to_owned()));
        }
        let head: Self =
            serde_json::from_slice(bytes).map_err(|error| damaged(format!("the head cannot be read ({error})")))?;
        known_format(head.format)?;
        Ok(head)
    }
}

fn known_format(format: u32) -> Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    Err(damaged(format!("the copy has the form {format}, and this program knows {FORMAT}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn manifest(paths: &[&str]) -> Manifest {
        let file = |path: &str| File {
            digest: Digest::of(path.as_bytes()),
            executable: false,
            bytes: 1,
            object: Digest::of(b"o"),
            blob: "1".repeat(40),
        };
        let files = paths.iter().map(|path| ((*path).to_owned(), file(path))).collect();
        Manifest {
            format: FORMAT,
            sequence: 1,
            parent: None,
            sealed: false,
            revision: Manifest::revision_of(&files),
            index: None,
            rules: Rules::default(),
            commit: CommitId::parse(&"a".repeat(40)).unwrap(),
            branch: "main".to_owned(),
            prefix: String::new(),
            at: Timestamp::UNIX_EPOCH,
            files,
            history: Vec::new(),
        }
    }

    #[test]
    fn manifests_come_back_and_hostile_ones_are_refused() {
        let good = manifest(&[".claude/skills/a/SKILL.md"]);
        assert_eq!(Manifest::decode(&good.encode()).unwrap(), good);
        let refuse = |bad: Manifest| Manifest::decode(&bad.encode()).unwrap_err();
        refuse(manifest(&["../outside"]));
        refuse(manifest(&[".git/hooks/post-checkout"]));
        refuse(Manifest { format: 2, ..good.clone() });
        refuse(Manifest { prefix: "../".to_owned(), ..good.clone() });
        refuse(Manifest { prefix: "sub".to_owned(), ..good.clone() });
        refuse(Manifest { branch: "--upload-pack=x".to_owned(), ..good.clone() });
        refuse(Manifest { revision: Digest::of(b""), ..good });
    }
}
