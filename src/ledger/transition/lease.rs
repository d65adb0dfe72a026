//! The next task that may run.

use jiff::Timestamp;

use super::{Ledgers, Step};
use crate::error::{Code, Error};
use crate::ledger::memory::Due;
use crate::ledger::store::Failure;
use crate::ledger::store::kept::{PendingRow, TaskRow};
use crate::ledger::{Interrupted, LeaseRequest};
use crate::model::ids::{OutboxId, TaskId};
use crate::model::task::{Reason, Task, TaskState};

impl Ledgers<'_, '_> {
    pub(super) fn interrupted(&self) -> Vec<Interrupted> {
        let tasks = self.memory.interrupted.iter();
        tasks.map(|(task, attempt)| Interrupted { task: *task, attempt: *attempt }).collect()
    }

    pub(super) fn lease(&mut self, request: &LeaseRequest) -> Step<Option<Task>> {
        // The limit is this node's.
        let running_max = request.running_max.saturating_add(self.memory.elsewhere.len());
        // By the time of this transaction, not of the question: what another node has put back since is due again.
        let now = request.now.max(self.now);
        while let Some(id) = self.memory.queue.next(running_max, now) {
            match self.load(id) {
                Ok((spec, mut row)) => {
                    let was = row.state;
                    row.state = TaskState::Running;
                    row.attempt += 1;
                    row.reason = None;
                    row.updated_at = now;
                    let due = Due::at_once(row.not_before.min(now));
                    self.save(&spec, &mut row, was, due)?;
                    self.happen_to("task.started", &spec, &row);
                    return Ok(Some(row.with(spec.spec)));
                }
                Err(Failure::Refused(error)) => self.lay_aside(id, &error, now)?,
                Err(storage) => return Err(storage),
            }
        }
        Ok(None)
    }

    /// Puts right what was found damaged when the file was opened.
    pub(super) fn mend(&mut self, tasks: &[TaskId], calls: &[(OutboxId, PendingRow)]) -> Step<()> {
        let error = Error::new(Code::LedgerDamaged, "the ledger's row of the task is damaged");
        for task in tasks {
            self.lay_aside(*task, &error, self.now)?;
        }
        for (id, pending) in calls {
            self.tables.pending.put(id.as_bytes(), pending)?;
            self.memory.outbox.put(*id, pending, false);
        }
        *self.work = true;
        Ok(())
    }

    /// A task whose rows are damaged can never run: it must not stand in the way of the others, nor vanish.
    pub(super) fn lay_aside(&mut self, id: TaskId, error: &Error, now: Timestamp) -> Step<()> {
        tracing::error!(task = %id, error = %error.internal(), "a task cannot be read and is given up");
        self.memory.queue.remove(id);
        self.memory.interrupted.remove(&id);
        let key = id.as_bytes();
        let live = readable(self.tables.live.get(key))?;
        let spec = readable(self.tables.specs.get(key))?;
        let lost = spec.map(|spec| TaskRow::lost(&spec.spec, Reason::from(error), now));
        self.tables.live.remove(key)?;
        if let Some(row) = live.map(|live| live.task).or(lost) {
            let dead = TaskRow { state: TaskState::Dead, reason: Some(Reason::from(error)), updated_at: now, ..row };
            self.tables.tasks.put(key, &dead)?;
        }
        self.count_dead(id, TaskState::Queued, TaskState::Dead)?;
        let message = format!("the ledger's rows of a task are damaged ({})", Code::LedgerDamaged);
        self.happen("task.failed", None, (None, Some(id)), message);
        Ok(())
    }
}

fn readable<R>(row: Step<Option<R>>) -> Step<Option<R>> {
    match row {
        Err(Failure::Refused(_)) => Ok(None),
        other => other,
    }
}
