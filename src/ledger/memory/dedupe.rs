//! Where a dedupe key stands in the file, so that looking for one that is not there costs no page of it.
//!
//! Only the beginning of a key is kept here: a find is a hint, and the row says whether it is the key.

use std::collections::{BTreeSet, HashMap};

use crate::ledger::store::kept::{DedupeKeyBytes, DedupeRow};

#[derive(Debug, Default)]
pub struct Dedupe {
    /// The first 8 bytes of a key, and the number of the newest row that has it.
    rows: HashMap<u64, u64>,
    next: u64,
}

impl Dedupe {
    /// The number of the next row.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn put(&mut self, number: u64, row: &DedupeRow) {
        self.next = self.next.max(number.saturating_add(1));
        for (key, _) in &row.keys {
            let newest = self.rows.entry(beginning(key)).or_insert(number);
            *newest = number.max(*newest);
        }
    }

    pub fn remove(&mut self, number: u64, row: &DedupeRow) {
        for (key, _) in &row.keys {
            if self.rows.get(&beginning(key)) == Some(&number) {
                self.rows.remove(&beginning(key));
            }
        }
    }

    /// Rows that are gone, where what stood in them is not known.
    pub fn forget(&mut self, numbers: &BTreeSet<u64>) {
        if !numbers.is_empty() {
            self.rows.retain(|_, number| !numbers.contains(number));
        }
    }

    /// The row that may have this key.
    pub fn find(&self, key: &DedupeKeyBytes) -> Option<u64> {
        self.rows.get(&beginning(key)).copied()
    }
}

fn beginning(key: &DedupeKeyBytes) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&key[..8]);
    u64::from_be_bytes(bytes)
}
