//! An attempt ends: its result, the task's next state and the answers for the source, all at once.

use std::time::Duration;

use jiff::Timestamp;

use super::{Ledgers, Step};
use crate::error::{Code, Error, Retry};
use crate::ledger::Finish;
use crate::ledger::encode::answer_calls;
use crate::ledger::memory::Due;
use crate::ledger::rows::Used;
use crate::ledger::store::kept::{SpecRow, TaskRow};
use crate::model::backoff;
use crate::model::ids::TaskId;
use crate::model::task::{Reason, Task, TaskState};

/// Longest wait for the answer to a question.
const INPUT_WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Ledgers<'_, '_> {
    pub(super) fn finish(
        &mut self,
        id: TaskId,
        attempt: u32,
        finish: &Finish,
        answers: &[String],
        now: Timestamp,
    ) -> Step<Task> {
        let (spec, mut row) = self.load(id)?;
        let was = row.state;
        if was != TaskState::Running || row.attempt != attempt {
            let message = format!("attempt {attempt} of task `{id}` is no longer the current one");
            return Err(Error::new(Code::StaleAttempt, message).into());
        }
        let next = next_state(&spec, &row, finish);
        row.state = next.state;
        row.reason = next.reason;
        row.attempts_spent += u32::from(next.spent);
        row.updated_at = now;
        if let Some(result) = result_of(finish) {
            self.charge(&spec.spec.webhook, result.cost_usd, now)?;
            row.result = Some(result.clone());
            let (cost_usd, turns) = (Some(result.cost_usd), Some(result.turns));
            let (input_tokens, output_tokens) = (result.input_tokens, result.output_tokens);
            self.used(&spec.spec, Used { input_tokens, output_tokens, cost_usd, turns });
        }
        let calls = answer_calls(&spec, row.state, answers, now)?;
        if let Finish::Released { reason, delay } = finish
            && reason.code == Code::AgentLimit
        {
            self.memory.queue.pause(Due::after(now, (*delay).min(backoff::WAIT_MAX)).at);
        }
        self.memory.interrupted.remove(&id);
        self.save(&spec, &mut row, was, Due::after(now, next.delay))?;
        for call in &calls {
            self.insert_call(call)?;
        }
        self.happen_to(next.kind, &spec, &row);
        Ok(row.with(spec.spec))
    }
}

struct Next {
    state: TaskState,
    reason: Option<Reason>,
    delay: Duration,
    /// The attempt counts against the limit.
    spent: bool,
    /// How the happening is called.
    kind: &'static str,
}

fn next_state(spec: &SpecRow, row: &TaskRow, finish: &Finish) -> Next {
    let ends = |state, reason, spent, kind| Next { state, reason, delay: Duration::ZERO, spent, kind };
    match finish {
        Finish::Succeeded { .. } => ends(TaskState::Succeeded, None, true, "task.completed"),
        Finish::Asked { .. } if row.cancel_requested => ends(TaskState::Cancelled, None, true, "task.cancelled"),
        Finish::Asked { wait, .. } => Next {
            state: TaskState::WaitingInput,
            reason: None,
            delay: (*wait).min(INPUT_WAIT_MAX),
            spent: true,
            kind: "task.asked",
        },
        Finish::Refused { reason } => ends(TaskState::Refused, Some(reason.clone()), false, "task.refused"),
        Finish::Cancelled { .. } => ends(TaskState::Cancelled, None, true, "task.cancelled"),
        // Whoever asked for the end does not want another try.
        Finish::Failed { reason, .. } | Finish::Dead { reason, .. } if row.cancel_requested => {
            ends(TaskState::Cancelled, Some(reason.clone()), true, "task.cancelled")
        }
        Finish::Released { reason, .. } if row.cancel_requested => {
            ends(TaskState::Cancelled, Some(reason.clone()), false, "task.cancelled")
        }
        Finish::Released { reason, delay } => Next {
            state: TaskState::Queued,
            reason: Some(reason.clone()),
            delay: (*delay).min(backoff::WAIT_MAX),
            spent: false,
            kind: "task.released",
        },
        Finish::Dead { reason, .. } => ends(TaskState::Dead, Some(reason.clone()), true, "task.failed"),
        Finish::Failed { reason, retry_after, .. } => {
            let spent = row.attempts_spent + 1;
            if spent >= spec.spec.max_attempts.max(1) || is_final(reason.code) {
                return ends(TaskState::Dead, Some(reason.clone()), true, "task.failed");
            }
            Next {
                state: TaskState::Queued,
                reason: Some(reason.clone()),
                delay: backoff::delay(spent, random(), *retry_after),
                spent: true,
                kind: "task.retrying",
            }
        }
    }
}

/// Trying again by itself cannot help; a person can redrive it.
fn is_final(code: Code) -> bool {
    match code.retry() {
        Retry::Never | Retry::HumanNeeded => true,
        Retry::Backoff | Retry::Wait => false,
    }
}

fn result_of(finish: &Finish) -> Option<&crate::model::task::RunResult> {
    match finish {
        Finish::Succeeded { result } | Finish::Asked { result, .. } => Some(result),
        Finish::Failed { result, .. } | Finish::Dead { result, .. } | Finish::Cancelled { result } => result.as_ref(),
        Finish::Released { .. } | Finish::Refused { .. } => None,
    }
}

fn random() -> u64 {
    // Without randomness the wait is merely a fixed one.
    getrandom::u64().unwrap_or(u64::MAX / 2)
}
