//! A person stops a task, or gives it another chance.

use jiff::Timestamp;

use super::{Ledgers, Step, wrong_state};
use crate::ledger::memory::Due;
use crate::model::ids::TaskId;
use crate::model::task::{Task, TaskState};

impl Ledgers<'_, '_> {
    pub(super) fn cancel(&mut self, id: TaskId, now: Timestamp) -> Step<Task> {
        let (spec, mut row) = self.load(id)?;
        let was = row.state;
        let kind = match was {
            TaskState::Checking | TaskState::AwaitingApproval | TaskState::Queued | TaskState::WaitingInput => {
                row.state = TaskState::Cancelled;
                "task.cancelled"
            }
            TaskState::Running => {
                row.cancel_requested = true;
                "task.cancelling"
            }
            TaskState::Succeeded | TaskState::Dead | TaskState::Cancelled | TaskState::Refused | TaskState::Expired => {
                return Err(wrong_state(id, was, "cancelled").into());
            }
        };
        row.updated_at = now;
        let due = Due::at_once(row.not_before);
        self.save(&spec, &mut row, was, due)?;
        self.happen_to(kind, &spec, &row);
        Ok(row.with(spec.spec))
    }

    /// The attempts count anew, their numbers go on. A task whose actor was never allowed is checked again first:
    /// redriving is no way around the check.
    pub(super) fn redrive(&mut self, id: TaskId, now: Timestamp) -> Step<Task> {
        let (spec, mut row) = self.load(id)?;
        let was = row.state;
        if !was.is_terminal() {
            return Err(wrong_state(id, was, "redriven").into());
        }
        let must_check = spec.lookup.is_some() && !row.allowed;
        row.state = if must_check { TaskState::Checking } else { TaskState::Queued };
        // What nobody agreed to is asked for again: neither is it a way around the approval.
        row.attempts_spent = 0;
        row.counted = false;
        row.reason = None;
        row.result = None;
        row.cancel_requested = false;
        row.updated_at = now;
        let due = if must_check { Due::at_once(now) } else { self.admit(&spec, &mut row, now)? };
        self.save(&spec, &mut row, was, due)?;
        self.happen_to("task.redriven", &spec, &row);
        Ok(row.with(spec.spec))
    }
}
