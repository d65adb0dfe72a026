//! Records of attempts that nobody will ask for any more: what crashes and lost disks leave in the attempts' directory.

use std::collections::BTreeSet;
use std::path::Path;

use super::attempt::AttemptDir;

/// Removes every attempt that is not named in `keep` and that no supervisor holds. Answers how many. It reads and
/// removes files, so it blocks; what cannot be removed stays for the next time.
pub fn remove_leftovers(attempts: &Path, keep: &BTreeSet<String>) -> usize {
    let Ok(listing) = std::fs::read_dir(attempts) else { return 0 };
    let mut removed = 0;
    for entry in listing.flatten() {
        let kept = entry.file_name().to_str().is_none_or(|name| keep.contains(name));
        let path = entry.path();
        if kept || !path.is_dir() || !matches!(AttemptDir::new(&path).try_lock(), Ok(Some(_))) {
            continue;
        }
        removed += usize::from(std::fs::remove_dir_all(&path).is_ok());
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_needs_or_holds_is_removed() {
        let place = tempfile::tempdir().unwrap();
        for name in ["old", "needed", "held"] {
            AttemptDir::new(place.path().join(name)).create().unwrap();
        }
        let _held = AttemptDir::new(place.path().join("held")).try_lock().unwrap().unwrap();
        assert_eq!(remove_leftovers(place.path(), &BTreeSet::from(["needed".to_owned()])), 1);
        assert!(!place.path().join("old").exists());
        assert!(place.path().join("needed").exists() && place.path().join("held").exists());
        assert_eq!(remove_leftovers(&place.path().join("missing"), &BTreeSet::new()), 0);
    }
}
