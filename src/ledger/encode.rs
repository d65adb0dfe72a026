//! Turns what is accepted into rows before it reaches the writer, so that the one writer only inserts.

use jiff::Timestamp;

use super::memory::Due;
use super::rows::{Delivery, OutboxItem, OutboxState, Purpose};
use super::store::codec;
use super::store::kept::{
    BodyRow, CallRow, DedupeKeyBytes, DedupeRow, LiveRow, OutboxRow, PendingRow, SpecRow, TaskRow,
};
use super::store::tables::join;
use super::{Accept, NewTask};
use crate::error::{Code, Error, Result};
use crate::model::ids::{DeliveryId, OutboxId, ProviderName, TaskId, WebhookId};
use crate::model::spec::Action;
use crate::model::task::{RunResult, TaskSpec, TaskState};
use crate::seam::fresh_id;

/// Most tasks, calls and dedupe keys of one delivery.
pub const ROWS_A_DELIVERY_MAX: usize = 1_000;
/// Most parts of one answer.
pub const PARTS_MAX: usize = 100;

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
    /// Its row as it is stored: among those that live, or among those that have ended.
    pub row: Vec<u8>,
    /// The row of its delivery does not name it.
    pub came_later: bool,
    /// The task that ends as this one is born.
    pub continues: Option<TaskId>,
    /// Its way does not lead straight into the queue.
    pub needs_admission: bool,
    /// What is to be said at once, where it has ended already.
    pub calls: Vec<EncodedCall>,
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
        let named = task.spec.delivery == Some(delivery.id) && delivery.tasks.contains(&task.spec.id);
        Self::alone(task, &delivery.provider, delivery.received_at)
            .map(|encoded| Self { came_later: encoded.came_later && !named, ..encoded })
    }

    /// A task that no delivery brings now.
    pub fn alone(task: NewTask, provider: &ProviderName, now: Timestamp) -> Result<Self> {
        let NewTask { spec, lookup, reply, continues, says } = task;
        let id = spec.id;
        let key = id.as_bytes();
        let state = match (&lookup, &says) {
            (Some(_), _) => TaskState::Checking,
            (None, Some(_)) => TaskState::Succeeded,
            (None, None) => TaskState::Queued,
        };
        let row = TaskRow {
            webhook: spec.webhook.clone(),
            delivery: spec.delivery,
            state,
            reason: None,
            attempt: 0,
            attempts_spent: 0,
            not_before: now,
            updated_at: now,
            cancel_requested: false,
            allowed: lookup.is_none(),
            approved: None,
            counted: false,
            result: (state == TaskState::Succeeded).then(|| said(&spec)),
        };
        let continues_now = continues.filter(|_| lookup.is_none());
        let spec = SpecRow { spec, provider: provider.clone(), lookup, reply, continues, says };
        let calls = answer_calls(&spec, state, spec.says.as_deref().unwrap_or_default(), now)?;
        let live = live_row(&spec.spec, row, Due::at_once(now));
        Ok(Self {
            id,
            delivery: spec.spec.delivery,
            name: spec.spec.command.to_string(),
            row: if state.is_terminal() { codec::encode(key, &live.task)? } else { codec::encode(key, &live)? },
            live,
            needs_admission: spec.spec.run.approval.is_some() || spec.spec.action.decides().is_some(),
            came_later: spec.spec.delivery.is_some(),
            continues: continues_now,
            calls,
            spec: codec::encode(key, &spec)?,
        })
    }
}

/// What a task came to that runs no agent.
pub fn said(spec: &TaskSpec) -> RunResult {
    RunResult { text: spec.prompt.clone(), ..RunResult::default() }
}

/// One call for each part of the answer, where the task has ended or asks and the source wants to hear of it.
pub fn answer_calls(spec: &SpecRow, state: TaskState, answers: &[String], now: Timestamp) -> Result<Vec<EncodedCall>> {
    let speaks = state.is_terminal() || state == TaskState::WaitingInput;
    let Some(call) = spec.reply.as_ref().filter(|_| speaks) else { return Ok(Vec::new()) };
    let answers = &answers[..answers.len().min(PARTS_MAX)];
    let parts = u32::try_from(answers.len()).unwrap_or(u32::MAX);
    let items = answers.iter().zip(0..).map(|(text, part)| OutboxItem {
        id: OutboxId(fresh_id()),
        webhook: spec.spec.webhook.clone(),
        provider: spec.provider.clone(),
        delivery: spec.spec.delivery,
        task: Some(spec.spec.id),
        purpose: if spec.spec.action == Action::Forward { Purpose::Forward } else { Purpose::Reply },
        call: call.clone(),
        text: text.clone(),
        part,
        parts,
        state: OutboxState::Waiting,
        attempts: 0,
        not_before: now,
        created_at: now,
        updated_at: now,
        error: None,
        url: None,
    });
    items.map(|item| EncodedCall::new(item, now)).collect()
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
