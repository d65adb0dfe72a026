//! Keeps what the writer has in memory in step with what other nodes of a shared ledger have committed.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::rows::{Suspension, Token};
use super::store::codec::{self, Row};
use super::store::kept::{DedupeRow, LiveRow, PendingRow};
use super::store::shared::{Change, ChangedRow};
use super::store::tables::DeadMark;
use super::transition::Memory;
use crate::model::ids::{OutboxId, TaskId};
use crate::model::task::TaskState;

/// What was touched that is kept elsewhere in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub tokens: bool,
}

/// As if this node had done it, but for who holds what.
pub fn take_in(memory: &mut Memory, changes: Vec<Change>) -> Touched {
    let (mut touched, mut gone) = (Touched::default(), BTreeSet::new());
    for change in changes {
        (memory.first_seq, memory.next_seq) = (change.first_seq, change.next_seq);
        for row in change.rows {
            match row.book.as_str() {
                LiveRow::TABLE => take_task(memory, &row),
                PendingRow::TABLE => take_call(memory, &row),
                DedupeRow::TABLE => take_keys(memory, &row, &mut gone),
                DeadMark::TABLE if row.content.is_some() => memory.dead += 1,
                DeadMark::TABLE => memory.dead = memory.dead.saturating_sub(1),
                Suspension::TABLE => {
                    if let Ok(webhook) = std::str::from_utf8(&row.key) {
                        memory.queue.suspend(webhook, row.content.is_some());
                    }
                }
                Token::TABLE => touched.tokens = true,
                // A newer version tells of more.
                _ => {}
            }
        }
    }
    memory.dedupe.forget(&gone);
    touched
}

fn take_task(memory: &mut Memory, row: &ChangedRow) {
    let Some(id) = Uuid::from_slice(&row.key).ok().map(TaskId) else { return };
    memory.interrupted.remove(&id);
    memory.elsewhere.remove(&id);
    match decoded::<LiveRow>(row) {
        Some(live) => {
            if live.task.state == TaskState::Running {
                memory.elsewhere.insert(id);
            }
            memory.queue.put(id, &live);
        }
        None => memory.queue.remove(id),
    }
}

fn take_call(memory: &mut Memory, row: &ChangedRow) {
    let Some(id) = Uuid::from_slice(&row.key).ok().map(OutboxId) else { return };
    match decoded::<PendingRow>(row) {
        Some(pending) => memory.outbox.put(id, &pending, pending.is_sending()),
        None => memory.outbox.remove(id),
    }
}

fn take_keys(memory: &mut Memory, row: &ChangedRow, gone: &mut BTreeSet<u64>) {
    let Some(number) = <[u8; 8]>::try_from(row.key.as_slice()).ok().map(u64::from_be_bytes) else { return };
    match decoded::<DedupeRow>(row) {
        Some(keys) => memory.dedupe.put(number, &keys),
        None => drop(gone.insert(number)),
    }
}

fn decoded<R: Row>(row: &ChangedRow) -> Option<R> {
    let decoded = codec::decode(&row.key, row.content.as_deref()?);
    decoded.inspect_err(|error| tracing::error!(error = error.internal(), "a row of another node cannot be read")).ok()
}

/// What a node that is gone has left behind is free again; a task has to be given back.
pub fn take_orphan(memory: &mut Memory, book: &str, key: &[u8]) -> Option<(TaskId, u32)> {
    let id = Uuid::from_slice(key).ok()?;
    match book {
        LiveRow::TABLE => {
            memory.interrupted.remove(&TaskId(id));
            memory
                .queue
                .running()
                .find(|running| running.task == TaskId(id))
                .map(|running| (running.task, running.attempt))
        }
        PendingRow::TABLE => {
            memory.outbox.let_go(OutboxId(id));
            None
        }
        _ => None,
    }
}
