//! Tasks that wait for a person: approved, rejected, or not answered in time. What is said at the source about it is
//! written in the same commit.

use jiff::Timestamp;

use super::{Ledgers, Step, wrong_state};
use crate::error::Code;
use crate::ledger::encode::EncodedCall;
use crate::ledger::memory::Due;
use crate::ledger::rows::{OutboxItem, OutboxState, Purpose};
use crate::ledger::store::Failure;
use crate::ledger::store::kept::{SpecRow, TaskRow};
use crate::model::approval::{self, Decision, Given, prompt_digest};
use crate::model::event::Pressed;
use crate::model::ids::{OutboxId, TaskId};
use crate::model::provider::PreparedCall;
use crate::model::task::{Reason, RunResult, Task, TaskState};
use crate::seam::fresh_id;

/// Most tasks that expire in one commit.
const EXPIRED_MAX: usize = 64;

impl Ledgers<'_, '_> {
    /// A person's word on one task.
    pub(super) fn decide(&mut self, id: TaskId, decision: &Decision, now: Timestamp) -> Step<Task> {
        let (spec, mut row) = self.load(id)?;
        let was = row.state;
        if was != TaskState::AwaitingApproval {
            let what = if decision.approve { "approved" } else { "rejected" };
            return Err(wrong_state(id, was, what).into());
        }
        approval::check(&spec.spec, decision)?;
        row.updated_at = now;
        let by = decision.by.name().to_owned();
        let (kind, calls) = if decision.approve {
            row.state = TaskState::Queued;
            row.reason = None;
            row.approved = Some(Given { by, at: now, prompt: prompt_digest(&spec.spec.prompt) });
            ("approval.given", Vec::new())
        } else {
            row.state = TaskState::Refused;
            let message = approval::rejected(&spec.spec, decision);
            row.reason =
                Some(Reason { code: Code::ApprovalRefused, message: message.trim_end_matches('.').to_owned() });
            ("approval.rejected", spoken(&spec, &message, spec.spec.id, now)?)
        };
        self.save(&spec, &mut row, was, Due::at_once(now))?;
        for call in &calls {
            self.insert_call(call)?;
        }
        self.happen_to(kind, &spec, &row);
        Ok(row.with(spec.spec))
    }

    /// Ends what waited too long, the longest overdue first, and answers how many those were.
    pub(super) fn expire(&mut self, now: Timestamp) -> Step<usize> {
        let due = self.memory.queue.overdue(now, EXPIRED_MAX);
        for id in &due {
            match self.load(*id) {
                Ok((spec, row)) => self.expire_one(&spec, row, now)?,
                Err(Failure::Refused(error)) => self.lay_aside(*id, &error, now)?,
                Err(storage) => return Err(storage),
            }
        }
        Ok(due.len())
    }

    fn expire_one(&mut self, spec: &SpecRow, mut row: TaskRow, now: Timestamp) -> Step<()> {
        let was = row.state;
        let message = match was {
            TaskState::WaitingInput => format!("`{}` got no answer to its question in time.", spec.spec.command),
            _ => approval::expired(&spec.spec),
        };
        row.state = TaskState::Expired;
        row.updated_at = now;
        row.reason = Some(Reason { code: Code::TimedOut, message: "nobody answered in time".to_owned() });
        self.save(spec, &mut row, was, Due::at_once(now))?;
        for call in &spoken(spec, &message, spec.spec.id, now)? {
            self.insert_call(call)?;
        }
        self.happen_to("task.expired", spec, &row);
        Ok(())
    }

    /// What becomes of a task that may run as far as its author goes: it waits for an approval, or decides about another
    /// one, or is queued. Answers when it is due.
    pub(super) fn admit(&mut self, spec: &SpecRow, row: &mut TaskRow, now: Timestamp) -> Step<Due> {
        if let Some(approve) = spec.spec.action.decides() {
            self.decide_at_source(spec, row, approve, now)?;
            return Ok(Due::at_once(now));
        }
        let Some(terms) = &spec.spec.run.approval else { return Ok(Due::at_once(now)) };
        if row.approved.as_ref().is_some_and(|given| given.covers(&spec.spec.prompt)) {
            return Ok(Due::at_once(now));
        }
        row.state = TaskState::AwaitingApproval;
        row.approved = None;
        // A mark of its own: that of the task belongs to its answer.
        let mark = TaskId(fresh_id());
        if let Some(call) = &spec.reply {
            let (text, asking) = (approval::announcement(&spec.spec), approval::asking(call, &spec.spec));
            for call in &spoken_by(call, &asking, spec, (&text, mark), now)? {
                self.insert_call(call)?;
            }
        }
        Ok(Due::after(now, terms.expires()))
    }

    /// Carries out an `approve` or `reject` of somebody at the source, and puts down what came of it.
    fn decide_at_source(&mut self, spec: &SpecRow, row: &mut TaskRow, approve: bool, now: Timestamp) -> Step<()> {
        let (text, decided) = match &spec.spec.source.pressed {
            Some(pressed) => self.decide_by_button(spec, pressed, approve, now)?,
            None => (self.decide_by_words(spec, approve, now)?, false),
        };
        row.state = TaskState::Succeeded;
        row.result = Some(RunResult { text: text.clone(), ..RunResult::default() });
        if let Some(call) = &spec.reply {
            let last = if decided { approval::deciding(call) } else { call.clone() };
            for call in &spoken_by(call, &last, spec, (&text, spec.spec.id), now)? {
                self.insert_call(call)?;
            }
        }
        Ok(())
    }

    /// What somebody wrote names the task, or there is only one.
    fn decide_by_words(&mut self, spec: &SpecRow, approve: bool, now: Timestamp) -> Step<String> {
        let words = spec.spec.prompt.clone();
        let waiting = self.awaiting(spec)?;
        let meant = approval::meant(&waiting, &words);
        Ok(match meant.as_slice() {
            [] if waiting.is_empty() => "Nothing waits for an approval here.".to_owned(),
            [] => format!("No task of that name waits for an approval here. {}", choices(&waiting)),
            [one] => {
                let named = meant.len() < waiting.len() || approval::names(one, &words);
                let reason = if named { approval::after_the_name(&words) } else { words.clone() };
                let decision = Decision { by: decider(spec), approve, digest: None, reason: Some(reason) };
                match self.decide(one.spec.id, &decision, now) {
                    Ok(task) if approve => format!("`{}` is approved and waits for its turn.", task.spec.command),
                    Ok(task) => format!("`{}` will not run.", task.spec.command),
                    Err(Failure::Refused(error)) => format!("That does not count: {}.", error.message()),
                    Err(storage) => return Err(storage),
                }
            }
            _ => format!("More than one task waits for an approval here. {}", choices(&waiting)),
        })
    }

    /// A button names its task and the prompt that was looked at. Also answers whether it counted.
    fn decide_by_button(
        &mut self,
        spec: &SpecRow,
        pressed: &Pressed,
        approve: bool,
        now: Timestamp,
    ) -> Step<(String, bool)> {
        let waits = match self.load(pressed.task) {
            Ok((of, row)) => row.state == TaskState::AwaitingApproval && of.spec.webhook == spec.spec.webhook,
            Err(Failure::Refused(_)) => false,
            Err(storage) => return Err(storage),
        };
        if !waits {
            return Ok(("This was decided before, or its time is over.".to_owned(), false));
        }
        let by = decider(spec);
        let who = by.name().to_owned();
        let decision = Decision { by, approve, digest: Some(pressed.digest.clone()), reason: None };
        Ok(match self.decide(pressed.task, &decision, now) {
            Ok(task) if approve => {
                (format!("`{}` was approved by `{who}` and waits for its turn.", task.spec.command), true)
            }
            Ok(task) => (format!("`{}` was rejected by `{who}` and will not run.", task.spec.command), true),
            Err(Failure::Refused(error)) => (format!("That does not count: {}.", error.message()), false),
            Err(storage) => return Err(storage),
        })
    }

    /// What waits for an approval in the same conversation of the same webhook.
    fn awaiting(&self, spec: &SpecRow) -> Step<Vec<Task>> {
        let ids = self.memory.queue.awaiting(spec.spec.webhook.as_str(), &spec.spec.source.conversation_id);
        let mut tasks = Vec::new();
        for id in ids {
            match self.load(id) {
                Ok((spec, row)) => tasks.push(row.with(spec.spec)),
                Err(Failure::Refused(_)) => {}
                Err(storage) => return Err(storage),
            }
        }
        Ok(tasks)
    }
}

fn decider(spec: &SpecRow) -> approval::Decider {
    approval::Decider::Actor(spec.spec.source.actor.clone().unwrap_or_default())
}

/// The calls that say a text of ours at the source of a task.
fn spoken(spec: &SpecRow, text: &str, mark: TaskId, now: Timestamp) -> Step<Vec<EncodedCall>> {
    match &spec.reply {
        Some(call) => spoken_by(call, call, spec, (text, mark), now),
        None => Ok(Vec::new()),
    }
}

/// The same, where the last message goes by a call of its own.
fn spoken_by(
    call: &PreparedCall,
    last: &PreparedCall,
    spec: &SpecRow,
    (text, mark): (&str, TaskId),
    now: Timestamp,
) -> Step<Vec<EncodedCall>> {
    let messages = approval::messages(call, &spec.spec.prefixes, text, mark);
    let parts = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    let items = messages.into_iter().zip(0..).map(|(text, part)| OutboxItem {
        id: OutboxId(fresh_id()),
        webhook: spec.spec.webhook.clone(),
        provider: spec.provider.clone(),
        delivery: spec.spec.delivery,
        task: Some(spec.spec.id),
        purpose: Purpose::Reply,
        call: if part + 1 == parts { last.clone() } else { call.clone() },
        text,
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
    Ok(items.map(|item| EncodedCall::new(item, now)).collect::<Result<_, _>>()?)
}

fn choices(waiting: &[Task]) -> String {
    let one = |task: &Task| format!("`{}` with the digest `{}`", task.spec.command, approval::shown(&task.spec.prompt));
    let all: Vec<String> = waiting.iter().map(one).collect();
    format!("Name one by its digest: {}.", all.join(", "))
}
