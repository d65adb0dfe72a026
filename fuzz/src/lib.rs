//! Feeds one entry of `skillhook::model::provider::fuzz`, which is where what is promised stands.

use std::sync::LazyLock;

use skillhook::model::provider::fuzz::ENTRIES;
use skillhook::model::provider::{Catalogue, catalog};

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| catalog::builtin().expect("the shipped definitions are valid"));

/// Panics when the entry says that a promise was broken.
pub fn feed(name: &str, data: &[u8]) {
    let (_, entry) = ENTRIES.iter().find(|(known, _)| *known == name).expect("there is such an entry");
    assert_eq!(entry(&CATALOGUE, data), Ok(()));
}
