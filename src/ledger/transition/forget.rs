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

impl Ledgers<'_, '_> {
    pub(super) fn forget(&mut self, forget: &Forget) -> Step<Answer> {
        let before = self.tables.written.get();
        let done = match forget {
            Forget::Delivery { id, before } => self.forget_delivery(*id, *before)?,
            Forget::Task { id, before } => self.forget_task(*id, *before)?,
            Forget::Dedupe { keys, now } => self.forget_keys(
                keys,
                |ledgers, key| Ok(ledgers.tables.dedupe.get(key)?.is_some_and(|row| row.expires_at <= *now)),
                |ledgers, key| ledgers.tables.dedupe.remove(key),
            )?,
            Forget::Conversations { ids, before } => self.forget_keys(
                ids,
                |ledgers, key| Ok(ledgers.tables.conversations.get(key)?.is_some_and(|row| row.updated_at < *before)),
                |ledgers, key| ledgers.tables.conversations.remove(key),
            )?,
        };
        Ok(Answer::Forgotten { rows: self.tables.written.get() - before, more: !done })
    }

    /// A row that cannot be read is as good as expired.
    fn forget_keys(
        &mut self,
        keys: &[Vec<u8>],
        is_old: impl Fn(&Self, &[u8]) -> Step<bool>,
        remove: impl Fn(&mut Self, &[u8]) -> Step<bool>,
    ) -> Step<bool> {
        for key in keys.iter().take(FORGOTTEN_ROWS_MAX) {
            let old = match is_old(self, key) {
                Err(Failure::Refused(_)) => true,
                other => other?,
            };
            if old {
                remove(self, key)?;
            }
        }
        Ok(keys.len() <= FORGOTTEN_ROWS_MAX)
    }

    /// `true` when nothing is left of it, or when it must stay.
    fn forget_delivery(&mut self, id: DeliveryId, before: Timestamp) -> Step<bool> {
        let mut budget = FORGOTTEN_ROWS_MAX;
        let tasks = self.tables.tasks_of.keys_under(id.as_bytes(), FORGOTTEN_ROWS_MAX)?;
        let tasks: Vec<TaskId> = tasks.iter().filter_map(|key| second_id(key)).map(TaskId).collect();
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
        if tasks.len() >= FORGOTTEN_ROWS_MAX || !self.remove_calls(id.as_bytes(), &mut budget)? || budget < 2 {
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
            Ok(row) => Ok(row.is_none_or(|row| row.state.is_terminal() && row.updated_at < before)),
            Err(Failure::Refused(_)) => Ok(true),
            Err(storage) => Err(storage),
        }
    }

    fn has_pending_calls(&self, owner: &[u8; 16]) -> Step<bool> {
        for key in self.tables.outbox_of.keys_under(owner, FORGOTTEN_ROWS_MAX)? {
            if second_id(&key).is_some_and(|id| self.memory.outbox.contains(OutboxId(id))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn remove_task(&mut self, id: TaskId, delivery: Option<DeliveryId>, budget: &mut usize) -> Step<bool> {
        let key = id.as_bytes();
        if !remove_under(&mut self.tables.logs, key, budget)? || !self.remove_calls(key, budget)? || *budget < 5 {
            return Ok(false);
        }
        self.tables.log_sizes.remove(key)?;
        self.tables.specs.remove(key)?;
        if self.tables.dead.remove(key)? {
            self.memory.dead = self.memory.dead.saturating_sub(1);
        }
        self.tables.tasks.remove(key)?;
        if let Some(delivery) = delivery {
            self.tables.tasks_of.remove(&join(delivery.as_bytes(), key))?;
        }
        *budget -= 5;
        Ok(true)
    }

    /// Those that are done.
    fn remove_calls(&mut self, owner: &[u8; 16], budget: &mut usize) -> Step<bool> {
        for key in self.tables.outbox_of.keys_under(owner, FORGOTTEN_ROWS_MAX)? {
            let Some(id) = second_id(&key) else { continue };
            if self.memory.outbox.contains(OutboxId(id)) {
                continue;
            }
            if *budget < 3 {
                return Ok(false);
            }
            self.tables.calls.remove(id.as_bytes())?;
            self.tables.outbox.remove(id.as_bytes())?;
            self.tables.outbox_of.remove(&key)?;
            *budget -= 3;
        }
        Ok(true)
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
