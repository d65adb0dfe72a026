//! The queue and how long finished work is kept.

use serde::{Deserialize, Serialize};

/// The queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Runs at once, over all webhooks; 0 runs none.
    pub running_max: usize,
    /// Finished work is forgotten after so many days.
    pub keep_days: u64,
    /// Bodies, logs and answers of finished work may take so many MiB together; beyond that the oldest is forgotten.
    pub keep_mib: u64,
    /// Who changed, approved or replayed something is known for so many days.
    pub keep_audit_days: u64,
    /// Memory for the ledger's pages, in MiB.
    pub cache_mib: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self { running_max: 2, keep_days: 30, keep_mib: 4096, keep_audit_days: 366, cache_mib: 64 }
    }
}
