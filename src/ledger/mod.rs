//! The only persistence seam of what cannot be derived: deliveries, decisions, tasks, attempts, outbox, conversations,
//! generations. Every change is one whole transition, committed and synced before it is answered.

pub mod rows;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::Result;
use crate::model::digest::Digest;
use crate::model::ids::{DeliveryId, OutboxId, TaskId, WebhookId};
use crate::model::provider::{PreparedCall, PreparedLookup};
use crate::model::task::{Reason, RunResult, Task, TaskSpec, TaskState};
use rows::{Conversation, DedupeKey, Delivery, Generation, Happening, LogLine, OutboxItem, OutboxState, RawRequest};

/// A cheap handle; clones share the one writer.
#[derive(Clone, Debug)]
pub struct Ledger {}

#[derive(Clone, Debug)]
pub struct Options {
    pub cache_bytes: usize,
    /// Finished work older than this is forgotten by [`Ledger::maintain`].
    pub keep: Duration,
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
    /// Tried again after the delay while attempts remain, else a dead letter.
    Failed {
        reason: Reason,
        result: Option<RunResult>,
        retry_after: Option<Duration>,
    },
    Cancelled {
        result: Option<RunResult>,
    },
    /// Put back without spending an attempt (drain, crash, missing revision, usage limit).
    Released {
        reason: Reason,
        delay: Duration,
    },
}

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
    pub queued: usize,
    pub running: usize,
    pub dead: usize,
    pub outbox_waiting: usize,
    pub oldest_queued_at: Option<Timestamp>,
}

impl Ledger {
    /// Opens or creates; a second process is refused with SH0303.
    pub fn open(_path: &Path, _options: Options) -> Result<Ledger> {
        unimplemented!()
    }

    /// Dedupe, delivery, decision, tasks, acks: one commit on the fast lane.
    pub async fn accept(&self, _accept: Accept) -> Result<Accepted> {
        unimplemented!()
    }

    /// Tasks that were running when the last process ended. They are leased again only after [`Ledger::finish`] or
    /// `Released` says what became of them.
    pub async fn interrupted(&self) -> Result<Vec<Interrupted>> {
        unimplemented!()
    }

    /// The next task that may run, now `running` with its attempt counted up; `None` when nothing may.
    pub async fn lease(&self, _request: LeaseRequest) -> Result<Option<Task>> {
        unimplemented!()
    }

    /// Ends an attempt: result, next state, outbox rows for the answer, one commit. Refuses a stale attempt (SH0604).
    /// `answers` are the texts for the source, already split; they are used when the attempt ends the task.
    pub async fn finish(
        &self,
        _task: TaskId,
        _attempt: u32,
        _finish: Finish,
        _answers: Vec<String>,
        _now: Timestamp,
    ) -> Result<Task> {
        unimplemented!()
    }

    /// Tasks in `checking` that are due, with what to ask.
    pub async fn due_checks(&self, _now: Timestamp, _limit: usize) -> Result<Vec<(Task, PreparedLookup)>> {
        unimplemented!()
    }

    /// The provider answered (`Ok(true)` lets it run, `Ok(false)` refuses it), or could not be asked (`Err`: again later).
    pub async fn checked(
        &self,
        _task: TaskId,
        _verdict: std::result::Result<bool, (Reason, Duration)>,
        _answers: Vec<String>,
        _now: Timestamp,
    ) -> Result<Task> {
        unimplemented!()
    }

    /// Cancels what waits at once; a running task is asked to stop (`cancel_requested`).
    pub async fn cancel(&self, _task: TaskId, _now: Timestamp) -> Result<Task> {
        unimplemented!()
    }

    /// Puts a dead, cancelled, refused or succeeded task in the queue again.
    pub async fn redrive(&self, _task: TaskId, _now: Timestamp) -> Result<Task> {
        unimplemented!()
    }

    /// Waits until something may be due for the lease loop, the checks or the outbox (or `at_most` has passed).
    pub async fn work_signal(&self, _at_most: Duration) {
        unimplemented!()
    }

    /// Outbox items that are due, now `sending`; `looked_up` tells for each whether a call may already have gone out.
    pub async fn claim_outbox(&self, _now: Timestamp, _limit: usize) -> Result<Vec<(OutboxItem, bool)>> {
        unimplemented!()
    }

    pub async fn outbox_done(
        &self,
        _id: OutboxId,
        _state: OutboxState,
        _url: Option<String>,
        _error: Option<Reason>,
        _not_before: Timestamp,
    ) -> Result<()> {
        unimplemented!()
    }

    pub async fn append_log(&self, _task: TaskId, _lines: Vec<LogLine>) -> Result<()> {
        unimplemented!()
    }

    pub async fn log(&self, _task: TaskId, _from: usize, _limit: usize) -> Result<Vec<LogLine>> {
        unimplemented!()
    }

    pub async fn task(&self, _task: TaskId) -> Result<Option<Task>> {
        unimplemented!()
    }

    pub async fn tasks(&self, _filter: TaskFilter) -> Result<Vec<Task>> {
        unimplemented!()
    }

    pub async fn delivery(&self, _id: DeliveryId) -> Result<Option<Delivery>> {
        unimplemented!()
    }

    pub async fn delivery_body(&self, _id: DeliveryId) -> Result<Option<RawRequest>> {
        unimplemented!()
    }

    pub async fn deliveries(&self, _filter: DeliveryFilter) -> Result<Vec<Delivery>> {
        unimplemented!()
    }

    /// The outbox items of one task or delivery.
    pub async fn outbox_of(&self, _task: Option<TaskId>, _delivery: Option<DeliveryId>) -> Result<Vec<OutboxItem>> {
        unimplemented!()
    }

    pub async fn conversation(&self, _id: &str) -> Result<Conversation> {
        unimplemented!()
    }

    pub async fn put_conversation(&self, _id: &str, _conversation: Conversation) -> Result<()> {
        unimplemented!()
    }

    pub fn generations(&self) -> Result<std::collections::BTreeMap<WebhookId, Generation>> {
        unimplemented!()
    }

    /// Records new generations before the index serves them.
    pub fn put_generations(&self, _generations: Vec<(WebhookId, Generation)>) -> Result<()> {
        unimplemented!()
    }

    /// Says that something happened; on the maintenance lane.
    pub async fn note(&self, _kind: &str, _webhook: Option<WebhookId>, _message: String) -> Result<()> {
        unimplemented!()
    }

    /// What happened after `since`, oldest first; waits up to `wait` when there is nothing yet.
    pub async fn happenings(&self, _since: u64, _limit: usize, _wait: Duration) -> Result<Vec<Happening>> {
        unimplemented!()
    }

    pub async fn depth(&self) -> Result<Depth> {
        unimplemented!()
    }

    /// Revisions that tasks not yet finished are pinned to.
    pub async fn pinned_revisions(&self) -> Result<Vec<Digest>> {
        unimplemented!()
    }

    /// Forgets what is older than `keep` and expired dedupe keys, a bounded number of rows a commit.
    pub async fn maintain(&self, _now: Timestamp) -> Result<usize> {
        unimplemented!()
    }

    /// Whether the last write succeeded.
    pub fn healthy(&self) -> bool {
        unimplemented!()
    }

    /// Writes what waits and closes; further calls answer SH0601.
    pub async fn close(&self) {
        unimplemented!()
    }
}
