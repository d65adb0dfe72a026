//! Turns what is accepted into rows before it reaches the writer, so that the one writer only inserts.

use jiff::Timestamp;

use super::memory::Due;
use super::rows::{Delivery, OutboxItem, OutboxState};
use super::store::codec;
use super::store::kept::{
    BodyRow, CallRow, DedupeKeyBytes, DedupeRow, LiveRow, OutboxRow, PendingRow, SpecRow, TaskRow,
};
use super::store::tables::join;
use super::{Accept, NewTask};
use crate::error::{Code, Error, Result};
use crate::model::ids::{DeliveryId, OutboxId, TaskId, WebhookId};
use crate::model::task::{TaskSpec, TaskState};

/// Most tasks, calls and dedupe keys of one delivery.
pub const ROWS_A_DELIVERY_MAX: usize = 1_000;

/// An [`Accept`] as bytes.
#[derive(Debug)]
pub struct EncodedAccept {
    pub id: DeliveryId,
    pub webhook: WebhookId,
    pub received_at: Timestamp,
    pub delivery: Vec<u8>,
    pub body: Vec<u8>,
    pub dedupe: DedupeRow,
    pub tasks: Vec<EncodedTask>,
    pub outbox: Vec<EncodedCall>,
}

#[derive(Debug)]
pub struct EncodedTask {
    pub id: TaskId,
    pub delivery: Option<DeliveryId>,
    /// Of the command, for people.
    pub name: String,
    pub spec: Vec<u8>,
    pub live: LiveRow,
    pub live_bytes: Vec<u8>,
    /// The row of its delivery does not name it.
    pub came_later: bool,
    pub continues: Option<TaskId>,
}

#[derive(Debug)]
pub struct EncodedCall {
    pub id: OutboxId,
    pub key: Vec<u8>,
    pub call: Vec<u8>,
    pub pending: PendingRow,
}

impl EncodedAccept {
    pub fn new(accept: Accept) -> Result<Self> {
        let Accept { delivery, request, dedupe, tasks, outbox } = accept;
        if tasks.len().max(outbox.len()).max(dedupe.len()) > ROWS_A_DELIVERY_MAX {
            return Err(Error::new(
                Code::TemplateLimit,
                format!("one delivery may start at most {ROWS_A_DELIVERY_MAX} tasks and calls"),
            ));
        }
        let (id, received_at) = (delivery.id, delivery.received_at);
        let key = id.as_bytes();
        Ok(Self {
            id,
            received_at,
            delivery: codec::encode(key, &delivery)?,
            body: codec::encode(key, &BodyRow(request))?,
            dedupe: DedupeRow {
                of: id,
                keys: dedupe.iter().map(|seen| (short_key(seen.key.as_bytes()), seen.expires_at)).collect(),
            },
            tasks: tasks.into_iter().map(|task| EncodedTask::new(task, &delivery)).collect::<Result<_>>()?,
            outbox: outbox.into_iter().map(|item| EncodedCall::new(item, received_at)).collect::<Result<_>>()?,
            webhook: delivery.webhook,
        })
    }

    pub fn bytes(&self) -> usize {
        let tasks: usize = self.tasks.iter().map(|task| task.spec.len()).sum();
        let calls: usize = self.outbox.iter().map(|call| call.call.len()).sum();
        self.delivery.len() + self.body.len() + tasks + calls
    }
}

impl EncodedTask {
    fn new(task: NewTask, delivery: &Delivery) -> Result<Self> {
        let now = delivery.received_at;
        let NewTask { spec, lookup, reply, continues } = task;
        let id = spec.id;
        let key = id.as_bytes();
        let row = TaskRow {
            webhook: spec.webhook.clone(),
            delivery: spec.delivery,
            state: if lookup.is_some() { TaskState::Checking } else { TaskState::Queued },
            reason: None,
            attempt: 0,
            attempts_spent: 0,
            not_before: now,
            updated_at: now,
            cancel_requested: false,
            allowed: lookup.is_none(),
            result: None,
        };
        let live = live_row(&spec, row, Due::at_once(now));
        Ok(Self {
            id,
            delivery: spec.delivery,
            name: spec.command.to_string(),
            live_bytes: codec::encode(key, &live)?,
            live,
            continues,
            came_later: spec.delivery.is_some()
                && !(spec.delivery == Some(delivery.id) && delivery.tasks.contains(&id)),
            spec: codec::encode(key, &SpecRow { spec, provider: delivery.provider.clone(), lookup, reply })?,
        })
    }
}

impl EncodedCall {
    pub fn new(mut item: OutboxItem, now: Timestamp) -> Result<Self> {
        item.state = OutboxState::Waiting;
        let due = Due::until(now, item.not_before).clamped(now);
        item.not_before = due.at;
        let pending = PendingRow {
            item: OutboxRow::of(&item),
            task: item.task,
            delivery: item.delivery,
            part: item.part,
            parts: item.parts,
            created_at: item.created_at,
            delay_ms: due.delay_ms,
            in_doubt: false,
        };
        let key = join(pending.owner(item.id).as_bytes(), item.id.as_bytes());
        Ok(Self { id: item.id, pending, call: codec::encode(&key, &CallRow(item))?, key })
    }
}

/// A task with what the queue needs to know of it while it has not ended.
pub fn live_row(spec: &TaskSpec, task: TaskRow, due: Due) -> LiveRow {
    LiveRow {
        task: TaskRow { not_before: due.at, ..task },
        delay_ms: due.delay_ms,
        priority: spec.priority,
        created_at: spec.created_at,
        concurrency: spec.webhook_concurrency,
        conversation: spec.source.conversation_id.clone(),
        revision: spec.revision,
    }
}

pub fn short_key(digest: &[u8; 32]) -> DedupeKeyBytes {
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}
