//! The next task that may run.

use jiff::Timestamp;

use super::{Ledgers, Step};
use crate::error::{Code, Error};
use crate::ledger::memory::Due;
use crate::ledger::store::Failure;
use crate::ledger::{Interrupted, LeaseRequest};
use crate::model::ids::TaskId;
use crate::model::task::{Reason, Task, TaskState};

impl Ledgers<'_, '_> {
    pub(super) fn interrupted(&self) -> Vec<Interrupted> {
        let tasks = self.memory.interrupted.iter();
        tasks.map(|(task, attempt)| Interrupted { task: *task, attempt: *attempt }).collect()
    }

    pub(super) fn lease(&mut self, request: &LeaseRequest) -> Step<Option<Task>> {
        while let Some(id) = self.memory.queue.next(request.running_max, request.now) {
            match self.load(id) {
                Ok((spec, mut row)) => {
                    let was = row.state;
                    row.state = TaskState::Running;
                    row.attempt += 1;
                    row.reason = None;
                    row.updated_at = request.now;
                    let due = Due::at_once(row.not_before.min(request.now));
                    self.save(&spec, &mut row, was, due)?;
                    self.happen_to("task.started", &spec, &row)?;
                    return Ok(Some(row.with(spec.spec)));
                }
                Err(Failure::Refused(error)) => self.lay_aside(id, &error, request.now)?,
                Err(storage) => return Err(storage),
            }
        }
        Ok(None)
    }

    /// A task whose rows are damaged can never run: it must not stand in the way of the others, nor vanish.
    pub(super) fn lay_aside(&mut self, id: TaskId, error: &Error, now: Timestamp) -> Step<()> {
        tracing::error!(task = %id, error = %error.internal(), "a task cannot be read and is given up");
        self.memory.queue.remove(id);
        self.memory.interrupted.remove(&id);
        self.tables.open.remove(id.as_bytes())?;
        match self.tables.tasks.get(id.as_bytes()) {
            Ok(Some(mut row)) => {
                let was = row.state;
                row.state = TaskState::Dead;
                row.reason = Some(Reason::from(error));
                row.updated_at = now;
                self.tables.tasks.put(id.as_bytes(), &row)?;
                self.count_dead(id, was, row.state)?;
            }
            Ok(None) | Err(Failure::Refused(_)) => self.count_dead(id, TaskState::Queued, TaskState::Dead)?,
            Err(storage) => return Err(storage),
        }
        let message = format!("the ledger's rows of a task are damaged ({})", Code::LedgerDamaged);
        self.happen("task.failed", None, (None, Some(id)), message)
    }
}
