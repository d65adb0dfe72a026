//! Follows a run to its end: reads what the agent prints, keeps the deadlines, and stops it where they pass.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::attempt::{AttemptDir, ExitRecord};
use super::report::RunReport;
use super::run::{SupervisorOutput, clear, tell};
use super::settings::Limits;
use super::transcript::{Event, Lines, Tokens, Transcript};
use super::tree::kill_marked;
use super::wire::{Control, StopReason};
use crate::model::ids::AgentName;

/// After its output ended, a supervisor has nothing left to do.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);
const CHUNK_BYTES: usize = 64 * 1024;

/// The supervisor as the service holds it.
pub(super) struct Supervisor {
    pub child: Child,
    pub stdin: ChildStdin,
    pub stdout: SupervisorOutput,
}

pub(super) struct Follow {
    supervisor: Supervisor,
    limits: Limits,
    attempt: AttemptDir,
    session_cost_before_usd: f64,
    agent: Option<AgentName>,
    transcript: Transcript,
    lines: Lines,
    started: Instant,
    last_heard: Instant,
    total: Duration,
    stopping: Option<Stopping>,
    events_skipped: u64,
    events_skipped_told: u64,
    tokens_told: Tokens,
}

/// How far the run was pushed towards its end, and when it is pushed on.
struct Stopping {
    reason: StopReason,
    step: Step,
    next_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Interrupted,
    Terminated,
    Killed,
    SupervisorKilled,
}

impl Follow {
    pub(super) fn new(
        supervisor: Supervisor,
        limits: Limits,
        total: Duration,
        attempt: AttemptDir,
        session_cost_before_usd: f64,
        agent: Option<AgentName>,
    ) -> Follow {
        let now = Instant::now();
        Follow {
            supervisor,
            limits,
            attempt,
            session_cost_before_usd,
            agent,
            transcript: Transcript::default(),
            lines: Lines::default(),
            started: now,
            last_heard: now,
            total,
            stopping: None,
            events_skipped: 0,
            events_skipped_told: 0,
            tokens_told: Tokens::default(),
        }
    }

    pub(super) async fn until_end(mut self, events: mpsc::Sender<Event>, cancel: CancellationToken) -> RunReport {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let (deadline, reason) = self.next_deadline();
            tokio::select! {
                read = self.supervisor.stdout.read(&mut chunk) => match read {
                    Ok(0) | Err(_) => break,
                    Ok(read) => self.hear(&chunk[..read], &events).await,
                },
                () = cancel.cancelled(), if self.stopping.is_none() => {
                    self.stop(StopReason::Cancelled, Step::Interrupted).await;
                }
                () = sleep_until(deadline) => self.push_on(reason).await,
            }
        }
        self.end().await
    }

    async fn hear(&mut self, chunk: &[u8], events: &mpsc::Sender<Event>) {
        self.last_heard = Instant::now();
        let (transcript, mut heard) = (&mut self.transcript, Vec::new());
        self.lines.push(chunk, |line| heard.extend(transcript.accept(line)));
        for event in heard {
            self.pass_on(event, events);
        }
        let tokens = self.transcript.tokens();
        if tokens != self.tokens_told {
            self.tokens_told = tokens;
            self.pass_on(Event::Used { tokens }, events);
        }
        let lacks_agent = self.agent.as_ref().is_some_and(|agent| self.transcript.lacks_agent(agent.as_str()));
        if lacks_agent && self.stopping.is_none() {
            self.stop(StopReason::AgentUnknown, Step::Terminated).await;
        }
        if self.transcript.last_retry().is_some_and(|retry| retry.is_hopeless())
            && self.transcript.last_result().is_none()
            && self.stopping.is_none()
        {
            self.stop(StopReason::CredentialsRefused, Step::Interrupted).await;
        }
    }

    /// A slow receiver must not hold up the run: what it has no room for is counted and told later.
    fn pass_on(&mut self, event: Event, events: &mpsc::Sender<Event>) {
        let missed = self.events_skipped - self.events_skipped_told;
        if missed > 0 && events.try_send(Event::Skipped { events: missed }).is_ok() {
            self.events_skipped_told = self.events_skipped;
        }
        if let Err(mpsc::error::TrySendError::Full(_)) = events.try_send(event) {
            self.events_skipped += 1;
        }
    }

    /// While the run is being stopped, the next push; before that, the first limit that will pass.
    fn next_deadline(&self) -> (Instant, StopReason) {
        if let Some(stopping) = &self.stopping {
            return (stopping.next_at, stopping.reason);
        }
        let total = (self.started + self.total, StopReason::TotalTimeout);
        // The result is there: the supervisor keeps the grace.
        if self.transcript.last_result().is_some() {
            return total;
        }
        let silence = if self.transcript.started() {
            (self.last_heard + self.limits.idle, StopReason::IdleTimeout)
        } else {
            (self.started + self.limits.start, StopReason::StartTimeout)
        };
        if silence.0 < total.0 { silence } else { total }
    }

    async fn push_on(&mut self, reason: StopReason) {
        match self.stopping.as_ref().map(|stopping| stopping.step) {
            // Whoever did not even say that it is up will not listen to messages.
            None if reason == StopReason::StartTimeout => self.stop(reason, Step::Terminated).await,
            None => self.stop(reason, Step::Interrupted).await,
            Some(Step::Interrupted) => self.stop(reason, Step::Terminated).await,
            Some(Step::Terminated) => self.stop(reason, Step::Killed).await,
            Some(Step::Killed | Step::SupervisorKilled) => self.stop(reason, Step::SupervisorKilled).await,
        }
    }

    async fn stop(&mut self, reason: StopReason, step: Step) {
        let (order, patience) = match step {
            Step::Interrupted => (Some(Control::Interrupt(reason)), self.limits.interrupt_grace),
            Step::Terminated => (Some(Control::Terminate(reason)), self.limits.terminate_grace),
            Step::Killed => (Some(Control::Kill(reason)), self.limits.kill_grace),
            Step::SupervisorKilled => (None, EXIT_PATIENCE),
        };
        self.stopping = Some(Stopping { reason, step, next_at: Instant::now() + patience });
        match order {
            // A supervisor that does not read any more is met by the next step.
            Some(order) => drop(timeout(patience, tell(&mut self.supervisor.stdin, &order)).await),
            // Its agent dies with it, by the death signal.
            None => drop(self.supervisor.child.start_kill()),
        }
    }

    async fn end(mut self) -> RunReport {
        let transcript = &mut self.transcript;
        self.lines.finish(|line| drop(transcript.accept(line)));
        if timeout(EXIT_PATIENCE, self.supervisor.child.wait()).await.is_err() {
            drop(self.supervisor.child.kill().await);
        }
        let exit = self.attempt.exit();
        let attempt = self.attempt.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let record = AttemptDir::read_record::<ExitRecord>(&exit);
            // Without a record the supervisor was killed, and processes that left their session may live.
            let swept = if record.is_none() { kill_marked(attempt.path()) } else { 0 };
            (record, swept)
        });
        let (record, swept) = looked.await.unwrap_or_default();
        let record = record.or_else(|| {
            let stopped = self.stopping.as_ref().map(|stopping| stopping.reason)?;
            Some(ExitRecord { stopped: Some(stopped), ..ExitRecord::default() })
        });
        let mut report = RunReport::new(&self.transcript, record.as_ref(), self.session_cost_before_usd);
        report.duration = self.started.elapsed();
        report.events_skipped = self.events_skipped;
        report.swept(swept);
        if self.lines.passed_over() > 0 {
            report.notes.push(format!("{} lines were too long to read", self.lines.passed_over()));
        }
        clear(self.attempt).await;
        report
    }
}
