//! The one thread that writes: it takes what waits, does it all in one transaction, and answers when that is on disk.
//!
//! A command that is refused is refused alone. An I/O error refuses the whole batch (whether it reached the disk is not
//! known, and nobody is told that it did); then the file is opened again, with backoff, until it works.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Finish;
use super::ahead::wanted;
use super::command::{Answer, Command, Job, Reply};
use super::follow::{take_in, take_orphan};
use super::handle::Shared;
use super::lanes::Taken;
use super::load::{Held, Loaded, load};
use super::store::codec::Row as _;
use super::store::engine::Transaction;
use super::store::kept::{LiveRow, PendingRow};
use super::store::tables::Tables;
use super::store::{Failure, damaged_file, unavailable};
use super::transition::{Ledgers, Memory, execute, write_happenings};
use crate::error::{Code, Error, Result};
use crate::model::ids::TaskId;
use crate::model::task::Reason;

/// Pause before the file is opened again after an error, doubling from the first to the second.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

pub struct Writer {
    shared: Arc<Shared>,
    memory: Memory,
    held: Held,
    broken: Option<Broken>,
}

/// The file cannot be used.
struct Broken {
    next_try: Instant,
    pause: Duration,
    error: Error,
}

/// The end of the writer, whether it was asked for or is a fault.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.healthy.store(false, Ordering::Release);
        self.0.lanes.close();
        while let Taken::Jobs(jobs) = self.0.lanes.take(None) {
            refuse(jobs, &unavailable("the writer has ended"));
        }
        self.0.store.release();
        self.0.closed.send_replace(true);
    }
}

/// A batch that did not come through.
struct Lost {
    error: Error,
    /// Nothing of it was committed, and trying its commands one by one may help.
    separable: bool,
}

impl Writer {
    pub fn new(shared: Arc<Shared>) -> Result<Self> {
        let loaded = read_memory(&shared, None)?;
        let mut writer = Self { shared, held: Held::default(), memory: Memory::default(), broken: None };
        writer.take_over(loaded)?;
        Ok(writer)
    }

    pub fn run(mut self) {
        // However this ends, nobody waits for ever.
        let _end = End(Arc::clone(&self.shared));
        loop {
            let until = self.broken.as_ref().map(|broken| broken.next_try.saturating_duration_since(Instant::now()));
            match self.shared.lanes.take(until) {
                Taken::Jobs(jobs) => self.serve(jobs),
                Taken::Nothing => {
                    self.heal_if_due();
                    self.look_around();
                }
                Taken::Closed => break,
            }
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        self.heal_if_due();
        if let Some(broken) = &self.broken {
            refuse(jobs, &broken.error);
            return;
        }
        match self.attempt(&jobs) {
            Ok(answers) => self.answer(jobs, answers),
            Err(lost) => {
                let separable = lost.separable && jobs.len() > 1;
                self.break_down(lost.error.clone());
                if !separable {
                    refuse(jobs, &lost.error);
                    return;
                }
                // One of them meets something that cannot be read: find out which, and let the others through.
                self.heal();
                for job in jobs {
                    self.serve(vec![job]);
                }
            }
        }
    }

    /// What other nodes have committed is taken in, and this node's lease renewed where that is due.
    fn look_around(&mut self) {
        let Some(store) = self.shared.store.shared().filter(|_| self.broken.is_none()).map(Arc::clone) else { return };
        if store.lease().is_to_be_renewed() {
            if let Err(lost) = self.attempt(&[]) {
                self.break_down(lost.error);
            }
            return;
        }
        match store.changes() {
            Ok(changes) if changes.is_empty() => {}
            Ok(changes) => {
                let touched = take_in(&mut self.memory, changes);
                self.held = Held::of(&self.memory);
                self.shared.tell(touched);
                self.publish(true);
            }
            Err(failure) => self.break_down(failure.into_error()),
        }
    }

    /// All of it in one transaction, committed and synced; or nothing that anybody hears of.
    fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Result<Answer>>, Lost> {
        let mut committing = false;
        let Self { shared, memory, .. } = self;
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| transact(shared, memory, jobs, &mut committing)));
        match done {
            Ok(Ok((answers, work))) => {
                self.held = Held::of(&self.memory);
                self.publish(work);
                Ok(answers)
            }
            Ok(Err(failure)) => {
                let apart = failure.is_damage() || matches!(failure, Failure::Refused(_));
                Err(Lost { separable: apart && !committing, error: failure.into_error() })
            }
            Err(_) => Err(Lost { error: damaged_file("a transition panicked"), separable: !committing }),
        }
    }

    fn answer(&mut self, jobs: Vec<Job>, answers: Vec<Result<Answer>>) {
        let mut unheard = Vec::new();
        for (job, answer) in jobs.into_iter().zip(answers) {
            if let Err(answer) = job.reply.send(answer) {
                unheard.extend(give_back(answer, self.shared.clock.now()));
            }
        }
        if !unheard.is_empty() {
            self.serve(unheard);
        }
    }

    fn publish(&self, work: bool) {
        let mut depth = self.memory.queue.depth();
        depth.dead = self.memory.dead;
        depth.outbox_waiting = self.memory.outbox.len();
        let due = self.memory.queue.first_due().into_iter().chain(self.memory.outbox.first_due()).min();
        self.shared.show(depth, due);
        self.shared.last_seq.send_if_modified(|last| {
            let is = self.memory.next_seq.saturating_sub(1);
            std::mem::replace(last, is) != is
        });
        if work {
            self.shared.work.send_modify(|version| *version += 1);
        }
        self.shared.healthy.store(true, Ordering::Release);
    }

    fn break_down(&mut self, error: Error) {
        tracing::error!(error = %error.internal(), "the ledger cannot be written; it will be opened again");
        self.shared.healthy.store(false, Ordering::Release);
        self.broken = Some(Broken { next_try: Instant::now() + PAUSE_MIN, pause: PAUSE_MIN, error });
    }

    fn heal_if_due(&mut self) {
        if self.broken.as_ref().is_some_and(|broken| broken.next_try <= Instant::now()) {
            self.heal();
        }
    }

    fn heal(&mut self) {
        match self.opened_again() {
            Ok(()) => {
                tracing::info!("the ledger is open again");
                self.broken = None;
            }
            Err(error) => {
                self.shared.store.close();
                let pause = self.broken.as_ref().map_or(PAUSE_MIN, |broken| broken.pause).saturating_mul(2);
                let pause = pause.min(PAUSE_MAX);
                tracing::warn!(error = %error.internal(), "the ledger could not be opened again");
                self.broken =
                    Some(Broken { next_try: Instant::now() + pause, pause, error: unavailable(error.internal()) });
            }
        }
    }

    fn opened_again(&mut self) -> Result<()> {
        self.shared.store.reopen()?;
        let loaded = read_memory(&self.shared, Some(&self.held))?;
        self.take_over(loaded)
    }

    /// Puts right what has to be, before anybody asks.
    fn take_over(&mut self, loaded: Loaded) -> Result<()> {
        let Loaded { memory, orphans, lost_tasks, lost_calls } = loaded;
        self.memory = memory;
        let now = self.shared.clock.now();
        let mut jobs: Vec<Job> = orphans.into_iter().map(|(task, attempt)| job(released(task, attempt, now))).collect();
        if !lost_tasks.is_empty() || !lost_calls.is_empty() {
            jobs.push(job(Command::Mend { tasks: lost_tasks, calls: lost_calls }));
        }
        self.attempt(&jobs).map(|_| ()).map_err(|lost| lost.error)?;
        self.publish(true);
        Ok(())
    }
}

fn read_memory(shared: &Shared, held: Option<&Held>) -> Result<Loaded> {
    let read = || load(&shared.store.begin_read()?, held, shared.clock.now());
    match std::panic::catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(Failure::into_error),
        Err(_) => Err(damaged_file("reading it went wrong")),
    }
}

type Done = (Vec<Result<Answer>>, bool);

fn transact(shared: &Shared, memory: &mut Memory, jobs: &[Job], committing: &mut bool) -> Result<Done, Failure> {
    if jobs.is_empty() && shared.store.shared().is_none() {
        return Ok((Vec::new(), false));
    }
    let mut happened = Vec::new();
    let mut transaction = shared.store.begin_write(|| wanted(jobs))?;
    let (changes, orphans) = (transaction.take_changes(), transaction.take_orphans());
    let mut work = !changes.is_empty() || !orphans.is_empty();
    shared.tell(take_in(memory, changes));
    let given_back: Vec<Command> = orphans
        .iter()
        .filter_map(|(book, key)| take_orphan(memory, book, key))
        .map(|(task, attempt)| left(task, attempt, shared.clock.now()))
        .collect();
    let mut answers = Vec::with_capacity(given_back.len() + jobs.len());
    let written = {
        let mut tables = Tables::open(&transaction)?;
        for command in given_back.iter().chain(jobs.iter().map(|job| &job.command)) {
            let before = (tables.written.get(), memory.next_seq);
            let (now, happened) = (shared.clock.now(), &mut happened);
            let mut ledgers = Ledgers { tables: &mut tables, memory, now, work: &mut work, happened };
            match execute(&mut ledgers, command) {
                Ok(answer) => {
                    hold(&transaction, &answer);
                    answers.push(Ok(answer));
                }
                Err(Failure::Refused(error)) if (tables.written.get(), memory.next_seq) == before => {
                    answers.push(Err(error));
                }
                Err(Failure::Refused(error)) => {
                    let fault = Error::new(Code::Bug, "a transition was refused half way").detail(error.internal());
                    return Err(fault.into());
                }
                Err(storage) => return Err(storage),
            }
        }
        write_happenings(&mut tables, memory, happened)?;
        tables.written.get()
    };
    if written == 0 {
        transaction.abort()?;
    } else {
        *committing = true;
        transaction.commit(memory.first_seq, memory.next_seq)?;
        shared.commits.fetch_add(1, Ordering::Relaxed);
    }
    drop(answers.drain(..given_back.len()));
    Ok((answers, work))
}

/// What is handed out is held by this node.
fn hold(transaction: &Transaction, answer: &Answer) {
    match answer {
        Answer::Leased(Some(task)) => transaction.hold(LiveRow::TABLE, task.spec.id.as_bytes()),
        Answer::Claimed(items) => {
            items.iter().for_each(|(item, _)| transaction.hold(PendingRow::TABLE, item.id.as_bytes()));
        }
        _ => {}
    }
}

fn refuse(jobs: Vec<Job>, error: &Error) {
    for job in jobs {
        // Nobody to tell is no loss: nothing was done.
        let _ = job.reply.send(Err(error.clone()));
    }
}

/// Whoever asked is gone: what it was given goes back.
fn give_back(answer: Answer, now: jiff::Timestamp) -> Option<Job> {
    match answer {
        Answer::Leased(Some(task)) => Some(job(released(task.spec.id, task.attempt, now))),
        Answer::Claimed(items) if !items.is_empty() => {
            Some(job(Command::Unclaim(items.into_iter().map(|(item, _)| item.id).collect())))
        }
        _ => None,
    }
}

fn released(task: TaskId, attempt: u32, now: jiff::Timestamp) -> Command {
    give_up(task, attempt, "the lease did not reach a worker", now)
}

fn left(task: TaskId, attempt: u32, now: jiff::Timestamp) -> Command {
    give_up(task, attempt, "the node that ran it is gone", now)
}

fn give_up(task: TaskId, attempt: u32, why: &str, now: jiff::Timestamp) -> Command {
    let message = why.to_owned();
    let reason = Reason { code: Code::LedgerUnavailable, message };
    Command::Finish {
        task,
        attempt,
        finish: Finish::Released { reason, delay: Duration::ZERO },
        answers: Vec::new(),
        now,
    }
}

fn job(command: Command) -> Job {
    Job { command, reply: Reply::Nobody, _room: None }
}
