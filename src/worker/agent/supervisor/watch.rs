//! The supervisor's one loop: what can happen, and what follows from it.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group, wait};

use super::streams::Feed;
use crate::worker::agent::attempt::ExitRecord;
use crate::worker::agent::tree::kill_descendants;
use crate::worker::agent::wire::{Control, Exit, StopReason, SupervisorLimits};

/// Between two rounds of killing: a tree may grow while it is felled.
const ROUND: Duration = Duration::from_millis(20);
/// A process that is not gone this long after being killed hangs in the kernel.
const KILLING_MAX: Duration = Duration::from_secs(10);
/// After the last process the pipes are empty at once, unless a process that hangs in the kernel holds them.
const PIPES_MAX: Duration = Duration::from_secs(10);
const CONTROL_BYTES_MAX: u64 = 4096;

pub(super) enum Happening {
    Control(Control),
    ServiceGone,
    Signalled,
    /// A `result` line was printed.
    Result,
    OutputLimit,
    OutputClosed {
        bytes: u64,
        note: Option<String>,
    },
    ErrorsClosed(String),
    AgentExited(Exit),
    /// No child is left, neither its own nor an adopted one.
    NothingLives,
}

pub(super) struct Watch {
    limits: SupervisorLimits,
    agent: Pid,
    feed: SyncSender<Feed>,
    /// Its standard input is open and takes messages.
    takes_messages: bool,
    /// When to kill, and why.
    kill_at: (Instant, StopReason),
    killing_since: Option<Instant>,
    result_seen: bool,
    nothing_lives: bool,
    output_closed: bool,
    errors_closed: bool,
    record: ExitRecord,
}

impl Watch {
    pub(super) fn new(limits: SupervisorLimits, agent: Pid, feed: SyncSender<Feed>, takes_messages: bool) -> Watch {
        let kill_at = (Instant::now() + Duration::from_millis(limits.lifetime_ms), StopReason::TotalTimeout);
        Watch {
            limits,
            agent,
            feed,
            takes_messages,
            kill_at,
            killing_since: None,
            result_seen: false,
            nothing_lives: false,
            output_closed: false,
            errors_closed: false,
            record: ExitRecord::default(),
        }
    }

    pub(super) fn until_nothing_lives(&mut self, happenings: &Receiver<Happening>) {
        while !self.nothing_lives {
            let now = Instant::now();
            match self.killing_since {
                Some(since) if now.duration_since(since) > KILLING_MAX => {
                    self.record
                        .notes
                        .push("a process of the run could not be killed: it hangs in the kernel".to_owned());
                    return;
                }
                Some(_) => {
                    let killed = kill_descendants();
                    if self.record.exit.is_some() {
                        self.record.leftovers_killed = self.record.leftovers_killed.saturating_add(killed);
                    }
                }
                None if now >= self.kill_at.0 => self.kill(self.kill_at.1),
                None => {}
            }
            let patience = match self.killing_since {
                Some(_) => ROUND,
                None => self.kill_at.0.saturating_duration_since(now),
            };
            match happenings.recv_timeout(patience) {
                Ok(happening) => self.take(happening),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits for what is still in the pipes.
    pub(super) fn into_record(mut self, happenings: &Receiver<Happening>) -> ExitRecord {
        let deadline = Instant::now() + PIPES_MAX;
        while !(self.output_closed && self.errors_closed) {
            match happenings.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(happening) => self.take(happening),
                Err(_) => {
                    self.record.notes.push("the end of the output is missing: its pipe stayed open".to_owned());
                    break;
                }
            }
        }
        self.record
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Control(Control::Go) => {}
            Happening::Control(Control::Interrupt(reason)) => self.interrupt(reason),
            Happening::Control(Control::Terminate(reason)) => self.terminate(reason),
            Happening::Control(Control::Kill(reason)) => self.kill(reason),
            Happening::ServiceGone if self.result_seen => {}
            Happening::ServiceGone => self.kill(StopReason::ServiceGone),
            Happening::Signalled => {
                self.terminate(StopReason::Signalled);
                self.kill_in(Duration::from_millis(self.limits.terminate_grace_ms), StopReason::Signalled);
            }
            Happening::Result => self.result(),
            Happening::OutputLimit => self.kill(StopReason::OutputLimit),
            Happening::OutputClosed { bytes, note } => {
                self.output_closed = true;
                self.record.stdout_bytes = bytes;
                self.record.notes.extend(note);
            }
            Happening::ErrorsClosed(tail) => {
                self.errors_closed = true;
                self.record.stderr_tail = tail;
            }
            Happening::AgentExited(exit) => {
                self.record.exit = Some(exit);
                self.killing_since.get_or_insert_with(Instant::now);
            }
            Happening::NothingLives => self.nothing_lives = true,
        }
    }

    fn result(&mut self) {
        self.result_seen = true;
        let _ = self.feed.try_send(Feed::Close);
        self.kill_in(Duration::from_millis(self.limits.result_grace_ms), StopReason::ResultGrace);
    }

    fn interrupt(&mut self, reason: StopReason) {
        self.record.stopped.get_or_insert(reason);
        // Without effect, the service goes on to the next step.
        if self.result_seen || self.record.exit.is_some() {
        } else if self.takes_messages {
            let _ = self.feed.try_send(Feed::Interrupt);
        } else {
            let _ = kill_process(self.agent, Signal::INT);
        }
    }

    fn terminate(&mut self, reason: StopReason) {
        self.record.stopped.get_or_insert(reason);
        if self.record.exit.is_none() && kill_process_group(self.agent, Signal::TERM).is_err() {
            let _ = kill_process(self.agent, Signal::TERM);
        }
    }

    fn kill(&mut self, reason: StopReason) {
        self.record.stopped.get_or_insert(reason);
        self.killing_since.get_or_insert_with(Instant::now);
    }

    fn kill_in(&mut self, patience: Duration, reason: StopReason) {
        let at = Instant::now() + patience;
        if at < self.kill_at.0 || (reason == StopReason::ResultGrace && self.kill_at.1 == StopReason::ResultGrace) {
            self.kill_at = (at, reason);
        }
    }
}

/// Collects the agent and every orphan that was adopted: none of them stays behind as a zombie.
pub(super) fn reap(agent: Pid, sender: SyncSender<Happening>) {
    thread::spawn(move || {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == agent => {
                    let _ = sender.send(Happening::AgentExited(exit_of(status)));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let _ = sender.send(Happening::NothingLives);
    });
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}

/// Reads what the service says until it is gone.
pub(super) fn listen(sender: SyncSender<Happening>) {
    thread::spawn(move || {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = io::stdin().lock().take(CONTROL_BYTES_MAX).read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                break;
            }
            if let Ok(control) = serde_json::from_slice(&line) {
                let _ = sender.send(Happening::Control(control));
            }
        }
        let _ = sender.send(Happening::ServiceGone);
    });
}

/// Signals to this process end the run in order instead of breaking it off.
pub(super) fn signals(sender: SyncSender<Happening>) {
    use tokio::signal::unix::{SignalKind, signal};
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
        runtime.block_on(async move {
            let kinds = (SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup());
            let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
                (signal(kinds.0), signal(kinds.1), signal(kinds.2))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                    _ = hangup.recv() => {}
                }
                let _ = sender.try_send(Happening::Signalled);
            }
        });
    });
}
