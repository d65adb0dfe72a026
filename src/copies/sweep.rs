//! Retention: every revision that the head reaches is kept; what nothing reaches was left behind by a push that ended
//! halfway, and goes after a day.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::manifest::Head;
use super::{CloudCopy, Key, ObjectId, damaged, push};
use crate::error::Result;

/// What is younger may belong to a push that is under way.
const AGE_MIN: SignedDuration = SignedDuration::from_hours(24);
/// Longest chain of manifests that is followed.
const MANIFESTS_MAX: usize = 1_000_000;

/// Removes what no manifest reaches; answers how many objects that were.
///
/// # Errors
/// When a manifest cannot be read: then nothing is removed.
pub(super) async fn sweep(copy: &dyn CloudCopy, key: Option<&Key>, now: Timestamp) -> Result<usize> {
    // Listed before the head is read: what is stored after this is not in the list.
    let listed = copy.list().await?;
    let before = now.checked_sub(AGE_MIN).unwrap_or(Timestamp::MIN);
    let old: Vec<_> = listed.into_iter().filter(|stored| stored.at < before).collect();
    if old.is_empty() {
        return Ok(0);
    }
    let Some((head, _)) = copy.head().await? else { return Ok(0) };
    let reached = reached(copy, key, Head::decode(&head)?.manifest).await?;
    let mut removed = 0;
    for stored in old.iter().filter(|stored| !reached.contains(&stored.id)) {
        copy.remove(stored.id, before).await?;
        removed += 1;
    }
    Ok(removed)
}

async fn reached(copy: &dyn CloudCopy, key: Option<&Key>, newest: ObjectId) -> Result<BTreeSet<ObjectId>> {
    let mut reached = BTreeSet::new();
    let mut next = Some(newest);
    for _ in 0..MANIFESTS_MAX {
        let Some(id) = next else { return Ok(reached) };
        let manifest = push::load(copy, key, id).await?;
        reached.insert(id);
        reached.extend(manifest.objects());
        next = manifest.parent;
    }
    Err(damaged("the chain of manifests has no end".to_owned()))
}
