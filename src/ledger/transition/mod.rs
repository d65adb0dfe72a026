//! The transitions: each looks first, refuses if it must, and only then writes. What it writes is one commit with
//! whatever else is in the batch, so a refusal after the first write would be a fault (and is treated as one).

mod accept;
mod approve;
mod budget;
mod cancel;
mod check;
mod finish;
mod forget;
mod happening;
mod keep;
mod lease;
mod log;
mod outbox;

pub use forget::{FORGOTTEN_ROWS_MAX, second_id};
#[cfg(test)]
pub use happening::HAPPENINGS_MAX;
pub use happening::write_happenings;
pub use log::log_key;
#[cfg(test)]
pub use log::{LOG_BYTES_MAX, LOG_LINES_MAX};

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::command::{Answer, Command};
use super::encode::{self, EncodedCall};
use super::memory::Due;
use super::memory::dedupe::Dedupe;
use super::memory::outbox::Outbox;
use super::memory::queue::Queue;
use super::rows::Happening;
use super::store::Failure;
use super::store::kept::{SpecRow, TaskRow};
use super::store::tables::{DeadMark, Tables};
use crate::error::{Code, Error};
use crate::model::ids::{TaskId, WebhookId};
use crate::model::task::{Task, TaskState};

pub type Step<T> = Result<T, Failure>;

/// What the writer keeps in memory; wholly rebuilt from the file when it is opened.
#[derive(Debug, Default)]
pub struct Memory {
    pub queue: Queue,
    pub outbox: Outbox,
    pub dedupe: Dedupe,
    /// Running when the process started, and not ended since.
    pub interrupted: BTreeMap<TaskId, u32>,
    /// Running on other nodes.
    pub elsewhere: BTreeSet<TaskId>,
    pub dead: usize,
    pub first_seq: u64,
    pub next_seq: u64,
}

/// What a transition works with.
pub struct Ledgers<'a, 't> {
    pub tables: &'a mut Tables<'t>,
    pub memory: &'a mut Memory,
    /// The ledger's own clock, for what callers do not date.
    pub now: Timestamp,
    /// Something may have become due.
    pub work: &'a mut bool,
    /// What happened in this commit so far.
    pub happened: &'a mut Vec<Happening>,
}

pub fn execute(ledgers: &mut Ledgers<'_, '_>, command: &Command) -> Step<Answer> {
    match command {
        Command::Accept(accept) => ledgers.accept(accept).map(Answer::Accepted),
        Command::Create { webhook, task } => ledgers.create(webhook, task).map(|()| Answer::Done),
        Command::Interrupted => Ok(Answer::Interrupted(ledgers.interrupted())),
        Command::Lease(request) => ledgers.lease(request).map(|task| Answer::Leased(task.map(Box::new))),
        Command::Finish { task, attempt, finish, answers, now } => {
            ledgers.finish(*task, *attempt, finish, answers, *now).map(task_answer)
        }
        Command::DueChecks { now, limit } => ledgers.due_checks(*now, *limit).map(Answer::Checks),
        Command::Checked { task, verdict, answers, now } => {
            ledgers.checked(*task, verdict, answers, *now).map(task_answer)
        }
        Command::Cancel { task, now } => ledgers.cancel(*task, *now).map(task_answer),
        Command::Redrive { task, now } => ledgers.redrive(*task, *now).map(task_answer),
        Command::ClaimOutbox { now, limit } => ledgers.claim_outbox(*now, *limit).map(Answer::Claimed),
        Command::OutboxDone(done) => ledgers.outbox_done(done).map(|()| Answer::Done),
        Command::Unclaim(ids) => ledgers.unclaim(ids).map(|()| Answer::Done),
        Command::AppendLog { task, lines } => ledgers.append_log(*task, lines),
        Command::Decide { task, decision, now } => ledgers.decide(*task, decision, *now).map(task_answer),
        Command::Expire { now } => ledgers.expire(*now).map(Answer::Expired),
        Command::Reserve(reserve) => ledgers.reserve(reserve).map(Answer::Reserved),
        Command::PutTranscript { conversation, transcript } => {
            ledgers.tables.transcripts.put(conversation.as_bytes(), transcript).map(|()| Answer::Done)
        }
        Command::PutConversation { id, conversation } => {
            ledgers.put_conversation(id, conversation).map(|()| Answer::Done)
        }
        Command::PutGenerations(generations) => ledgers.put_generations(generations).map(|()| Answer::Done),
        Command::Suspend { webhook, on } => ledgers.suspend(webhook.as_ref(), *on).map(|()| Answer::Done),
        Command::Note { kind, webhook, message } => {
            ledgers.note(kind, webhook.as_ref(), message);
            Ok(Answer::Done)
        }
        Command::Record(deed) => {
            ledgers.record(deed);
            Ok(Answer::Done)
        }
        Command::PutTokens { tokens, deed } => ledgers.put_tokens(tokens, deed.as_deref()).map(|()| Answer::Done),
        Command::KeepAnswer { id, answer } => ledgers.keep_answer(id, answer).map(|()| Answer::Done),
        Command::PinnedRevisions => Ok(Answer::Revisions(ledgers.memory.queue.revisions())),
        Command::Asking { webhook, conversation } => ledgers.asking(webhook, conversation).map(Answer::Asking),
        Command::Mend { tasks, calls } => ledgers.mend(tasks, calls).map(|()| Answer::Done),
        Command::Forget(forget) => ledgers.forget(forget),
    }
}

fn task_answer(task: Task) -> Answer {
    Answer::Task(Box::new(task))
}

impl Ledgers<'_, '_> {
    fn load(&self, id: TaskId) -> Step<(SpecRow, TaskRow)> {
        let key = id.as_bytes();
        let row = match self.tables.live.get(key)? {
            Some(live) => live.task,
            None => self.tables.tasks.get(key)?.ok_or_else(|| unknown_task(id))?,
        };
        let spec = self.tables.specs.get(key)?.ok_or_else(|| spec_missing(id))?;
        Ok((spec, row))
    }

    fn asking(&self, webhook: &WebhookId, conversation: &str) -> Step<Option<Box<Task>>> {
        let Some(id) = self.memory.queue.asking(webhook.as_str(), conversation) else { return Ok(None) };
        let (spec, row) = self.load(id)?;
        Ok(Some(Box::new(row.with(spec.spec))))
    }

    /// Writes a task and puts it where its state says, in the file and in memory.
    fn save(&mut self, spec: &SpecRow, row: &mut TaskRow, was: TaskState, due: Due) -> Step<()> {
        let id = spec.spec.id;
        row.not_before = due.at;
        let live = encode::live_row(&spec.spec, row.clone(), due);
        if row.state.is_terminal() {
            self.tables.live.remove(id.as_bytes())?;
            self.tables.tasks.put(id.as_bytes(), row)?;
            self.memory.interrupted.remove(&id);
        } else {
            self.tables.live.put(id.as_bytes(), &live)?;
            if was.is_terminal() {
                self.tables.tasks.remove(id.as_bytes())?;
            }
        }
        self.count_dead(id, was, row.state)?;
        if row.state != TaskState::Running {
            self.memory.elsewhere.remove(&id);
        }
        self.memory.queue.put(id, &live);
        *self.work = true;
        Ok(())
    }

    fn count_dead(&mut self, id: TaskId, was: TaskState, is: TaskState) -> Step<()> {
        match (was == TaskState::Dead, is == TaskState::Dead) {
            (false, true) => {
                self.tables.dead.put(id.as_bytes(), &DeadMark)?;
                self.memory.dead += 1;
            }
            (true, false) => {
                self.tables.dead.remove(id.as_bytes())?;
                self.memory.dead = self.memory.dead.saturating_sub(1);
            }
            (true, true) | (false, false) => {}
        }
        Ok(())
    }

    fn insert_call(&mut self, call: &EncodedCall) -> Step<()> {
        self.tables.calls.put_encoded(&call.key, &call.call)?;
        self.tables.pending.put(call.id.as_bytes(), &call.pending)?;
        self.memory.outbox.put(call.id, &call.pending, false);
        *self.work = true;
        Ok(())
    }
}

fn unknown_task(id: TaskId) -> Error {
    Error::new(Code::NotFound, format!("there is no task `{id}`"))
}

fn spec_missing(id: TaskId) -> Error {
    Error::new(Code::LedgerDamaged, format!("a row of task `{id}` is missing in the ledger"))
}

fn wrong_state(id: TaskId, state: TaskState, what: &str) -> Error {
    Error::new(Code::WrongState, format!("task `{id}` is {}: it cannot be {what}", state.as_str()))
}
