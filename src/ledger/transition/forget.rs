//! Old rows go, a bounded number at a time. What to look at is found by reading (`maintenance.rs`); here it is looked
//! at once more and removed, leaves first, so that stopping anywhere leaves something that can be gone on with.

use jiff::Timestamp;

use super::{Ledgers, Step};
use crate::ledger::command::{Answer, Forget};
use crate::ledger::store::Failure;
use crate::ledger::store::codec::Row;
use crate::ledger::store::tables::{Rows, Writing, join};
use crate::model::ids::{DeliveryId, OutboxId, TaskId};

/// Most rows that one command removes.
pub const FORGOTTEN_ROWS_MAX: usize = 500;
/// A task's own rows: log size, spec, dead letter, end, and its place under its delivery.
const ROWS_OF_A_TASK: usize = 5;

impl Ledgers<'_, '_> {
    pub(super) fn forget(&mut self, forget: &Forget) -> Step<Answer> {
        let before = self.tables.written.get();
        let done = match forget {
            Forget::Delivery { id, before } => self.forget_delivery(*id, *before)?,
            Forget::Task { id, before } => self.forget_task(*id, *before)?,
            Forget::Dedupe { numbers, now } => self.forget_dedupe(numbers, *now)?,
            Forget::Conversations { ids, before } => self.forget_conversations(ids, *before)?,
            Forget::Answers { ids, now } => self.forget_answers(ids, *now)?,
            Forget::Deeds { numbers } => self.forget_deeds(numbers)?,
        };
        Ok(Answer::Forgotten { rows: self.tables.written.get() - before, more: !done })
    }

    fn forget_dedupe(&mut self, numbers: &[Vec<u8>], now: Timestamp) -> Step<bool> {
        for key in numbers.iter().take(FORGOTTEN_ROWS_MAX) {
            let Some(row) = self.tables.dedupe.get(key)? else { continue };
            let Ok(number) = <[u8; 8]>::try_from(key.as_slice()) else { continue };
            if row.keys.iter().all(|(_, expires_at)| *expires_at <= now) {
                self.tables.dedupe.remove(key)?;
                self.memory.dedupe.remove(u64::from_be_bytes(number), &row);
            }
        }
        Ok(numbers.len() <= FORGOTTEN_ROWS_MAX)
    }

    fn forget_conversations(&mut self, ids: &[Vec<u8>], before: Timestamp) -> Step<bool> {
        for id in ids.iter().take(FORGOTTEN_ROWS_MAX) {
            if self.tables.conversations.get(id)?.is_some_and(|row| row.updated_at < before) {
                self.tables.conversations.remove(id)?;
            }
        }
        Ok(ids.len() <= FORGOTTEN_ROWS_MAX)
    }

    fn forget_answers(&mut self, ids: &[Vec<u8>], now: Timestamp) -> Step<bool> {
        for id in ids.iter().take(FORGOTTEN_ROWS_MAX) {
            if self.tables.answers.get(id)?.is_some_and(|row| row.expires_at <= now) {
                self.tables.answers.remove(id)?;
            }
        }
        Ok(ids.len() <= FORGOTTEN_ROWS_MAX)
    }

    fn forget_deeds(&mut self, numbers: &[Vec<u8>]) -> Step<bool> {
        for number in numbers.iter().take(FORGOTTEN_ROWS_MAX) {
            self.tables.deeds.remove(number)?;
        }
        Ok(numbers.len() <= FORGOTTEN_ROWS_MAX)
    }

    /// `true` when nothing is left of it, or when it must stay.
    fn forget_delivery(&mut self, id: DeliveryId, before: Timestamp) -> Step<bool> {
        let mut budget = FORGOTTEN_ROWS_MAX;
        let Some(delivery) = self.tables.deliveries.get(id.as_bytes())? else { return Ok(true) };
        let later = self.tables.tasks_of.keys_under(id.as_bytes(), FORGOTTEN_ROWS_MAX)?;
        let all_seen = later.len() < FORGOTTEN_ROWS_MAX;
        let later = later.iter().filter_map(|key| second_id(key)).map(TaskId);
        let tasks: Vec<TaskId> = delivery.tasks.into_iter().chain(later).collect();
        let mut must_stay = self.has_pending_calls(id.as_bytes())?;
        for task in &tasks {
            must_stay = must_stay || !self.task_is_old(*task, before)?;
        }
        if must_stay {
            return Ok(true);
        }
        for task in &tasks {
            if !self.remove_task(*task, Some(id), &mut budget)? {
                return Ok(false);
            }
        }
        if !all_seen || !self.remove_calls(id.as_bytes(), &mut budget)? || budget < 2 {
            return Ok(false);
        }
        self.tables.bodies.remove(id.as_bytes())?;
        self.tables.deliveries.remove(id.as_bytes())?;
        Ok(true)
    }

    fn forget_task(&mut self, id: TaskId, before: Timestamp) -> Step<bool> {
        let mut budget = FORGOTTEN_ROWS_MAX;
        match self.task_is_old(id, before)? {
            false => Ok(true),
            true => self.remove_task(id, None, &mut budget),
        }
    }

    /// Ended before that time, and with nothing left to send.
    fn task_is_old(&self, id: TaskId, before: Timestamp) -> Step<bool> {
        if self.memory.queue.contains(id) || self.has_pending_calls(id.as_bytes())? {
            return Ok(false);
        }
        match self.tables.tasks.get(id.as_bytes()) {
            Ok(row) => Ok(row.is_none_or(|row| row.updated_at < before)),
            Err(Failure::Refused(_)) => Ok(true),
            Err(storage) => Err(storage),
        }
    }

    fn has_pending_calls(&self, owner: &[u8; 16]) -> Step<bool> {
        let calls = self.tables.calls.keys_under(owner, FORGOTTEN_ROWS_MAX)?;
        Ok(calls.iter().filter_map(|key| second_id(key)).any(|id| self.memory.outbox.contains(OutboxId(id))))
    }

    /// Whether nothing is left of it. It may be gone already, from a time when the budget was used up.
    fn remove_task(&mut self, id: TaskId, delivery: Option<DeliveryId>, budget: &mut usize) -> Step<bool> {
        let key = id.as_bytes();
        let leaves_gone = remove_under(&mut self.tables.logs, key, budget)? && self.remove_calls(key, budget)?;
        if !leaves_gone || *budget < ROWS_OF_A_TASK {
            return Ok(false);
        }
        let before = self.tables.written.get();
        self.tables.log_sizes.remove(key)?;
        self.tables.specs.remove(key)?;
        if self.tables.dead.remove(key)? {
            self.memory.dead = self.memory.dead.saturating_sub(1);
        }
        self.tables.tasks.remove(key)?;
        if let Some(delivery) = delivery {
            self.tables.tasks_of.remove(&join(delivery.as_bytes(), key))?;
        }
        *budget -= self.tables.written.get() - before;
        Ok(true)
    }

    /// None of them is pending.
    fn remove_calls(&mut self, owner: &[u8; 16], budget: &mut usize) -> Step<bool> {
        let all = remove_under(&mut self.tables.calls, owner, budget)?;
        Ok(all && remove_under(&mut self.tables.outbox, owner, budget)?)
    }
}

fn remove_under<R: Row>(rows: &mut Rows<Writing<'_>, R>, prefix: &[u8], budget: &mut usize) -> Step<bool> {
    let keys = rows.keys_under(prefix, *budget + 1)?;
    let all = keys.len() <= *budget;
    for key in keys.iter().take(*budget) {
        rows.remove(key)?;
    }
    *budget = budget.saturating_sub(keys.len());
    Ok(all)
}

/// The second half of a key of two ids.
pub fn second_id(key: &[u8]) -> Option<uuid::Uuid> {
    uuid::Uuid::from_slice(key.get(16..)?).ok()
}
