//! Stand-in until the repository lands.
use super::digest::Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    pub digest: Digest,
    pub executable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub digest: Digest,
    pub files: BTreeMap<String, FileRef>,
}

impl Revision {
    pub fn of(files: BTreeMap<String, FileRef>) -> Self {
        Self { digest: Digest::of_parts(files.iter().flat_map(|(p, f)| [p.as_bytes(), f.digest.as_bytes().as_slice()])), files }
    }
}
