//! Whether an actor may start a run, as far as the payload could not tell: the task waits in `checking`.

use jiff::Timestamp;

use super::{Ledgers, Step, wrong_state};
use crate::error::Code;
use crate::ledger::command::Verdict;
use crate::ledger::encode::{answer_calls, said};
use crate::ledger::memory::Due;
use crate::ledger::store::Failure;
use crate::model::backoff;
use crate::model::ids::{ProviderName, TaskId};
use crate::model::provider::PreparedLookup;
use crate::model::task::{Reason, Task, TaskState};

impl Ledgers<'_, '_> {
    pub(super) fn due_checks(
        &mut self,
        now: Timestamp,
        limit: usize,
    ) -> Step<Vec<(Task, ProviderName, PreparedLookup)>> {
        let mut due = Vec::new();
        for id in self.memory.queue.checks(now, limit) {
            match self.load(id) {
                Ok((spec, row)) => match spec.lookup.clone() {
                    Some(lookup) => due.push((row.with(spec.spec), spec.provider, lookup)),
                    None => self.lay_aside(id, &super::spec_missing(id), now)?,
                },
                Err(Failure::Refused(error)) => self.lay_aside(id, &error, now)?,
                Err(storage) => return Err(storage),
            }
        }
        Ok(due)
    }

    pub(super) fn checked(&mut self, id: TaskId, verdict: &Verdict, answers: &[String], now: Timestamp) -> Step<Task> {
        let (spec, mut row) = self.load(id)?;
        let was = row.state;
        if was != TaskState::Checking {
            return Err(wrong_state(id, was, "checked").into());
        }
        row.updated_at = now;
        let waits_no_more = match spec.continues.filter(|_| *verdict == Ok(true)) {
            Some(parent) => match self.load(parent) {
                Ok((_, asked)) => asked.state != TaskState::WaitingInput,
                Err(Failure::Refused(_)) => true,
                Err(storage) => return Err(storage),
            },
            None => false,
        };
        let says = spec.says.as_deref().filter(|_| *verdict == Ok(true));
        let (kind, due) = match verdict {
            Ok(true) if waits_no_more => {
                row.state = TaskState::Refused;
                let message = "somebody else's answer came first".to_owned();
                row.reason = Some(Reason { code: Code::WrongState, message });
                ("task.refused", Due::at_once(now))
            }
            Ok(true) => {
                row.state = if says.is_some() { TaskState::Succeeded } else { TaskState::Queued };
                row.result = says.map(|_| said(&spec.spec));
                row.allowed = true;
                row.reason = None;
                let due = if says.is_some() { Due::at_once(now) } else { self.admit(&spec, &mut row, now)? };
                ("task.allowed", due)
            }
            Ok(false) => {
                row.state = TaskState::Refused;
                let message = "the actor has no right to start this".to_owned();
                row.reason = Some(Reason { code: Code::PermissionDenied, message });
                ("task.refused", Due::at_once(now))
            }
            Err((reason, delay)) => {
                row.reason = Some(reason.clone());
                ("task.checking", Due::after(now, (*delay).min(backoff::WAIT_MAX)))
            }
        };
        // A task that decides about another one has said so itself.
        let spoken = *verdict == Ok(true) && spec.spec.action.decides().is_some();
        let answers = if spoken { &[] } else { says.unwrap_or(answers) };
        let calls = answer_calls(&spec, row.state, answers, now)?;
        let goes_on = matches!(row.state, TaskState::Queued | TaskState::AwaitingApproval);
        if let Some(parent) = spec.continues.filter(|_| goes_on) {
            self.hand_over(parent, id)?;
        }
        self.save(&spec, &mut row, was, due)?;
        for call in &calls {
            self.insert_call(call)?;
        }
        self.happen_to(kind, &spec, &row);
        Ok(row.with(spec.spec))
    }
}
