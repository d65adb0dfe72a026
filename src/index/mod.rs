//! The derived index: `index.redb`, one writer (the reconcile pass), many readers of an immutable state in memory.
//!
//! Everything in it can be had again from the files, so trouble with it is never repaired: a missing, damaged,
//! older or newer file is set aside and rebuilt. It deliberately holds no secrets, no times and no conditions.

mod store;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::Result;
use crate::model::digest::Digest;
use crate::model::entry::Observed;
use crate::model::plan::Plan;
use store::Store;

/// What readers see: the entries and their digest, never half of a pass.
#[derive(Clone, Debug)]
pub struct State {
    pub observed: Observed,
    pub digest: Digest,
    /// Counts the passes that changed something, since this process began.
    pub version: u64,
}

/// Reads the current state; clones are cheap.
#[derive(Clone, Debug)]
pub struct Reader {
    current: Arc<ArcSwap<State>>,
}

impl Reader {
    pub fn state(&self) -> Arc<State> {
        self.current.load_full()
    }
}

/// The one writer.
#[derive(Debug)]
pub struct Index {
    store: Store,
    current: Arc<ArcSwap<State>>,
}

/// What was found when the index was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole index of this format.
    Whole,
    /// Nothing usable; why. A pass over everything makes it anew.
    Nothing(String),
}

impl Index {
    /// Opens or creates `index.redb` in the data directory.
    ///
    /// # Errors
    /// SH0303 when another process holds it, SH0502 when it cannot be created.
    pub fn open(data: &Path, cache_bytes: usize) -> Result<(Self, Found)> {
        let (store, observed, found) = Store::open(&data.join("index.redb"), cache_bytes)?;
        let digest = observed.digest();
        let current = Arc::new(ArcSwap::from_pointee(State { observed, digest, version: 0 }));
        Ok((Self { store, current }, found))
    }

    pub fn reader(&self) -> Reader {
        Reader { current: Arc::clone(&self.current) }
    }

    /// Writes what the plan changes in one transaction, then shows it to readers.
    ///
    /// # Errors
    /// SH0502; readers keep the old state.
    pub fn apply(&self, plan: Plan) -> Result<Arc<State>> {
        let before = self.current.load_full();
        self.store.write(&before.observed, &plan.next)?;
        let digest = plan.next.digest();
        let state = Arc::new(State { observed: plan.next, digest, version: before.version + 1 });
        self.current.store(Arc::clone(&state));
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{SkillEntry, Standing};
    use crate::model::ids::SkillName;
    use crate::model::snapshot::SkillFacts;

    fn plan_with(skill: &str) -> Plan {
        let mut next = Observed::default();
        let facts = SkillFacts { description: "d".into(), config: None };
        next.skills.insert(
            SkillName::parse(skill).unwrap(),
            SkillEntry {
                standing: Standing::Current,
                embedded: false,
                facts: Some(facts),
                files: std::collections::BTreeMap::new(),
                diagnostics: Vec::new(),
            },
        );
        Plan { actions: Vec::new(), next }
    }

    #[test]
    fn what_was_applied_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let (index, found) = Index::open(dir.path(), 1 << 20).unwrap();
        assert!(matches!(found, Found::Nothing(_)));
        let applied = index.apply(plan_with("a")).unwrap();
        drop(index);
        let (index, found) = Index::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(found, Found::Whole);
        assert_eq!(index.reader().state().digest, applied.digest);
        assert_eq!(index.reader().state().observed, applied.observed);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_never_served() {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = Index::open(dir.path(), 1 << 20).unwrap();
        index.apply(plan_with("a")).unwrap();
        drop(index);
        let path = dir.path().join("index.redb");
        for (n, damage) in [b"".to_vec(), b"garbage".repeat(1000), vec![0; 4096]].into_iter().enumerate() {
            std::fs::write(&path, damage).unwrap();
            let (index, found) = Index::open(dir.path(), 1 << 20).unwrap();
            assert!(matches!(found, Found::Nothing(_)), "damage {n}");
            assert!(index.reader().state().observed.skills.is_empty());
        }
    }

    #[test]
    fn flipped_bits_never_serve_other_entries() {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = Index::open(dir.path(), 1 << 20).unwrap();
        let good = index.apply(plan_with("a")).unwrap();
        drop(index);
        let path = dir.path().join("index.redb");
        let bytes = std::fs::read(&path).unwrap();
        for round in 0..200_usize {
            let mut damaged = bytes.clone();
            let at = (round * 7919) % damaged.len();
            damaged[at] ^= 1 << (round % 8);
            std::fs::write(&path, damaged).unwrap();
            let (index, found) = Index::open(dir.path(), 1 << 20).unwrap();
            if found == Found::Whole {
                assert_eq!(index.reader().state().digest, good.digest, "round {round}");
            }
        }
    }

    #[test]
    fn a_second_opener_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _held = Index::open(dir.path(), 1 << 20).unwrap();
        let refused = Index::open(dir.path(), 1 << 20).unwrap_err();
        assert_eq!(refused.code(), crate::error::Code::DataDirectoryBusy);
    }
}
