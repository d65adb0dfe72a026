//! The only persistence seam of what cannot be derived: deliveries, decisions, tasks, attempts, outbox, conversations,
//! generations. Every change is one whole transition, committed and synced before it is answered.
//!
//! One thread writes (`writer.rs`): it takes the commands that wait (`lanes.rs`), executes them over the open tables
//! (`transition/`), commits once for all, and answers. What is next is kept in memory (`memory/`) and read from the file
//! when that is opened (`load.rs`). Only `store/` knows redb and PostgreSQL. In a file leases have no time: they end with
//! the process. In a shared ledger they end with the node's life, and `follow.rs` keeps memory in step with other nodes.

mod ahead;
mod command;
mod encode;
mod follow;
mod handle;
mod lanes;
mod load;
mod maintenance;
mod memory;
pub mod migrate;
mod reads;
pub mod rows;
pub mod spending;
mod store;
#[cfg(test)]
mod tests;
mod transition;
mod writer;

pub use command::Reserve;
pub use store::database::OnDamage;
pub use store::salvage::Salvage;
pub use store::shared::{About, NodeSeen, Settings as SharedSettings};

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::ids::{DeliveryId, TaskId, WebhookId};
use crate::model::provider::{PreparedCall, PreparedLookup};
use crate::model::task::{Reason, RunResult, TaskSpec, TaskState};
use crate::seam::Clock;
use rows::{DedupeKey, Delivery, OutboxItem, RawRequest};

/// A cheap handle; clones share the one writer. Its methods are in `handle.rs` (what changes), `reads.rs` and
/// `maintenance.rs`.
pub struct Ledger {
    owner: Arc<handle::Owner>,
    /// The last change that [`Ledger::work_signal`] told this handle of.
    work_seen: AtomicU64,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Memory that the database may use for pages, in bytes.
    pub cache_bytes: usize,
    /// Finished work older than this is forgotten by [`Ledger::maintain`].
    pub keep: Duration,
    /// A file up to this size is verified as a whole whenever it is opened (1 ms a MB); above it, every commit leaves
    /// what a quick recovery needs, and rows are verified as they are read.
    pub verify_bytes_max: u64,
    pub on_damage: OnDamage,
    /// Dates what callers do not date.
    pub clock: Clock,
    /// The database that other nodes work on too, in place of a file.
    pub shared: Option<SharedSettings>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            keep: Duration::from_secs(30 * 24 * 60 * 60),
            verify_bytes_max: 256 * 1024 * 1024,
            on_damage: OnDamage::Salvage,
            clock: Clock::System,
            shared: None,
        }
    }
}

/// One delivery with everything that follows from it, written in one commit or not at all.
#[derive(Clone, Debug)]
pub struct Accept {
    pub delivery: Delivery,
    pub request: RawRequest,
    pub dedupe: Vec<DedupeKey>,
    pub tasks: Vec<NewTask>,
    pub outbox: Vec<OutboxItem>,
}

/// A task to be born, with the calls that answer for it.
#[derive(Clone, Debug)]
pub struct NewTask {
    pub spec: TaskSpec,
    /// Asked before it may be leased: the task is born in `checking`.
    pub lookup: Option<PreparedLookup>,
    /// How its answer reaches the source.
    pub reply: Option<PreparedCall>,
    /// The task that waits for what this one was told: it is done as soon as this one may run.
    pub continues: Option<TaskId>,
    /// It runs no agent: it has ended as soon as it may run, and these texts are its answer.
    pub says: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    Fresh,
    /// One of the dedupe keys was seen before: nothing was written.
    Duplicate {
        of: DeliveryId,
    },
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum Finish {
    Succeeded {
        result: RunResult,
    },
    /// The answer is a question: the task waits for the next message of its conversation, up to `wait`.
    Asked {
        result: RunResult,
        wait: Duration,
    },
    /// Tried again after the delay while attempts remain, else a dead letter.
    Failed {
        reason: Reason,
        result: Option<RunResult>,
        retry_after: Option<Duration>,
    },
    /// Trying again would not help: a dead letter at once.
    Dead {
        reason: Reason,
        result: Option<RunResult>,
    },
    Cancelled {
        result: Option<RunResult>,
    },
    /// It may not run: a budget is used up, or what it was approved for has changed.
    Refused {
        reason: Reason,
    },
    /// Put back without spending an attempt (drain, crash, missing revision, usage limit).
    Released {
        reason: Reason,
        delay: Duration,
    },
}

/// A task's log has new lines, the first of this number (from 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogGrown {
    pub task: TaskId,
    pub first: u64,
}

/// Where a shared ledger is, and which nodes work on it. Blocks; changes nothing.
///
/// # Errors
/// SH0301 for a URL that is none, SH0920 when the database would lose what it has committed, SH0601 when it is away.
pub fn look_at(shared: &SharedSettings) -> crate::error::Result<(String, Vec<NodeSeen>)> {
    store::shared::SharedStore::look(shared)
}

/// The name of the ledger in the data directory.
pub const FILE: &str = "ledger.redb";

/// Limits under which the next task is chosen.
#[derive(Clone, Debug)]
pub struct LeaseRequest {
    pub running_max: usize,
    pub now: Timestamp,
}

/// A task that was running when the last process ended.
#[derive(Clone, Debug)]
pub struct Interrupted {
    pub task: TaskId,
    pub attempt: u32,
}

#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    pub states: Vec<TaskState>,
    pub webhook: Option<WebhookId>,
    pub delivery: Option<DeliveryId>,
    pub limit: usize,
    /// Only those before this one (newest first).
    pub before: Option<TaskId>,
}

#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    pub webhook: Option<WebhookId>,
    pub limit: usize,
    pub before: Option<DeliveryId>,
}

/// How much waits, for health and metrics.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Depth {
    pub checking: usize,
    pub awaiting_approval: usize,
    pub queued: usize,
    pub running: usize,
    pub waiting_input: usize,
    pub dead: usize,
    pub outbox_waiting: usize,
    pub oldest_queued_at: Option<Timestamp>,
    /// Nothing begins before this: the agent's usage limit is reached.
    pub paused_until: Option<Timestamp>,
}
