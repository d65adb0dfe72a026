//! The lease loop: takes what may run, runs it, finishes it. Concurrency, order and fairness are the ledger's;
//! this loop only keeps asking while there is room and ends what it began.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agent::{self, AgentConfig, Recovered};
use super::answer;
use super::attempt::Attempt;
use super::tools::Tools;
use crate::error::{Code, Error};
use crate::ledger::{Finish, Interrupted, LeaseRequest, Ledger};
use crate::model::digest::Digest;
use crate::model::ids::TaskId;
use crate::model::secret::SecretValue;
use crate::model::task::{DailyBudget, Reason, Task};
use crate::model::untrusted::Outgoing;
use crate::outward::Outward;
use crate::seam::Clock;
use crate::telemetry::metrics::Metrics;
use crate::workspace::Workspaces;

/// How long the loop sleeps when nothing tells it to look.
const IDLE: Duration = Duration::from_secs(1);
/// How often an attempt that an earlier process left running is asked for again.
const ORPHAN_POLL: Duration = Duration::from_millis(100);
/// How often the end of an attempt is recorded again while the ledger is away, once a second.
const PATIENCE: u32 = 60;
/// A task whose attempts were broken off so often without counting is counted after all: it may be what breaks things.
const BROKEN_OFF_MAX: u32 = 8;

/// Asked anew each time: secrets are rotated while the service runs.
pub type KnownSecrets = Arc<dyn Fn() -> Vec<SecretValue> + Send + Sync>;
/// Of those in force, the revision whose files were written last.
pub type NewestRevision = Arc<dyn Fn() -> Option<Digest> + Send + Sync>;

/// Everything a run needs; one for the whole service.
pub struct Worker {
    pub ledger: Ledger,
    pub workspaces: Workspaces,
    pub agent: Arc<AgentConfig>,
    /// One directory an attempt: its lock, its output, its end.
    pub attempts: PathBuf,
    pub running_max: usize,
    /// For commands that name none.
    pub model: Option<String>,
    pub max_turns: u32,
    pub budget_usd: f64,
    /// Has the repositories that tasks are about.
    pub outward: Outward,
    /// The tools of the service, for runs that may use them.
    pub tools: Tools,
    /// What all runs together may use in one day.
    pub daily: DailyBudget,
    /// The secrets of this service, for taking them out of what an agent says.
    pub known_secrets: KnownSecrets,
    /// For tasks whose own revision will never be written.
    pub newest_revision: NewestRevision,
    pub clock: Clock,
    pub metrics: Metrics,
    /// How long running work may take to end after a stop was asked for.
    pub drain: Duration,
}

impl Worker {
    /// Leases until the token is cancelled, then waits for what runs, and breaks off what takes too long.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let (tracker, break_off) = (TaskTracker::new(), CancellationToken::new());
        this.take_up_interrupted(&tracker, &break_off).await;
        while !stop.is_cancelled() {
            let request = LeaseRequest { running_max: this.running_max, now: this.clock.now() };
            match this.ledger.lease(request).await {
                Ok(Some(task)) => {
                    let (this, break_off) = (Arc::clone(&this), break_off.clone());
                    tracker.spawn(async move { Attempt::new(&this, task).run(break_off).await });
                }
                Ok(None) => {
                    tokio::select! { () = stop.cancelled() => {}, () = this.ledger.work_signal(IDLE) => {} }
                }
                Err(error) => {
                    tracing::warn!(error = error.internal(), "no task can be leased, it is tried again");
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(IDLE) => {} }
                }
            }
        }
        tracker.close();
        if tokio::time::timeout(this.drain, tracker.wait()).await.is_err() {
            tracing::info!(
                running = tracker.len(),
                "runs that are not done are broken off and resume at the next start"
            );
            break_off.cancel();
            tracker.wait().await;
        }
    }

    /// What an earlier process left: its finished results are used, its orphans are waited for, the rest begins anew.
    async fn take_up_interrupted(self: &Arc<Self>, tracker: &TaskTracker, break_off: &CancellationToken) {
        let interrupted = match self.ledger.interrupted().await {
            Ok(interrupted) => interrupted,
            Err(error) => {
                tracing::error!(error = error.internal(), "interrupted runs cannot be listed");
                return;
            }
        };
        self.remove_leftovers(&interrupted).await;
        for Interrupted { task, attempt } in interrupted {
            let (this, break_off) = (Arc::clone(self), break_off.clone());
            tracker.spawn(async move {
                tokio::select! {
                    () = break_off.cancelled() => {}
                    () = this.take_up(task, attempt) => {}
                }
            });
        }
    }

    /// What is in the ledger, or was never begun, needs no record of its attempt.
    async fn remove_leftovers(&self, interrupted: &[Interrupted]) {
        let name = |interrupted: &Interrupted| format!("{}-{}", interrupted.task, interrupted.attempt);
        let keep: BTreeSet<String> = interrupted.iter().map(name).collect();
        let attempts = self.attempts.clone();
        let removed = tokio::task::spawn_blocking(move || agent::remove_leftovers(&attempts, &keep)).await;
        tracing::debug!(removed = removed.unwrap_or_default(), "records of earlier attempts are removed");
    }

    async fn take_up(&self, task: TaskId, attempt: u32) {
        let directory = self.attempt_directory(task, attempt);
        let recovered = loop {
            let looked_at = directory.clone();
            match tokio::task::spawn_blocking(move || agent::recover(&looked_at)).await {
                Ok(Ok(Recovered::StillRunning)) => tokio::time::sleep(ORPHAN_POLL).await,
                Ok(Ok(other)) => break other,
                Ok(Err(error)) => {
                    tracing::warn!(%task, error = error.internal(), "the record of a run cannot be read");
                    break Recovered::Lost;
                }
                Err(_) => break Recovered::Lost,
            }
        };
        let found = match self.ledger.task(task).await {
            Ok(Some(found)) => found,
            Ok(None) | Err(_) => return,
        };
        match recovered {
            Recovered::Finished(report) => {
                tracing::info!(%task, attempt, "a run that ended while the service was away is finished from its record");
                // What it may have shown went with the process that it was shown to.
                Attempt::new(self, found).finish(*report, None).await;
            }
            Recovered::Lost | Recovered::StillRunning => {
                self.release_lost(&found, attempt).await;
                self.forget_attempt(directory);
            }
        }
    }

    async fn release_lost(&self, task: &Task, attempt: u32) {
        let reason = Reason { code: Code::AgentFailed, message: "the run was broken off by a restart".to_owned() };
        let broken_off = task.attempt.saturating_sub(task.attempts_spent);
        let finish = if broken_off > BROKEN_OFF_MAX {
            Finish::Failed { reason, result: None, retry_after: None }
        } else {
            Finish::Released { reason, delay: Duration::ZERO }
        };
        self.finish(task, attempt, finish).await;
    }

    /// Ends an attempt in the ledger; an attempt that is no longer the current one has nothing to say.
    pub(super) async fn finish(&self, task: &Task, attempt: u32, finish: Finish) {
        let mut failures = 0_u32;
        let reply = loop {
            match self.ledger.reply_of(task.spec.id).await {
                Ok(reply) => break reply,
                // Without it the task would end and say nothing.
                Err(error) if error.code() == Code::LedgerUnavailable && failures < PATIENCE => {
                    failures += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => {
                    tracing::error!(task = %task.spec.id, error = error.internal(), "the reply call cannot be read");
                    break None;
                }
            }
        };
        let answers = reply.map(|call| answer::parts(&call, task, &finish, (self.known_secrets)())).unwrap_or_default();
        loop {
            let outcome = self.ledger.finish(task.spec.id, attempt, finish.clone(), answers.clone(), self.now()).await;
            match outcome {
                Ok(_) => return,
                Err(error) if error.code() == Code::LedgerUnavailable && failures < PATIENCE => {
                    failures += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(error) => return self.log_unfinished(task, &error),
            }
        }
    }

    /// The task as it is now; while the ledger is away, it is waited for.
    pub(super) async fn current(&self, task: &Task) -> Task {
        for _ in 0..PATIENCE {
            match self.ledger.task(task.spec.id).await {
                Ok(Some(task)) => return task,
                Err(error) if error.code() == Code::LedgerUnavailable => {
                    tokio::time::sleep(Duration::from_secs(1)).await
                }
                Ok(None) | Err(_) => break,
            }
        }
        task.clone()
    }

    fn log_unfinished(&self, task: &Task, error: &Error) {
        tracing::warn!(task = %task.spec.id, error = error.internal(), "the end of an attempt is not recorded");
    }

    /// A text of an agent as it may be kept and shown to people of this service.
    pub(super) fn without_secrets(&self, text: &str) -> String {
        match Outgoing::new([]) {
            Ok(outgoing) => outgoing.knowing((self.known_secrets)()).clean(text).text,
            Err(error) => {
                tracing::error!(error = error.internal(), "a text cannot be made safe");
                String::new()
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Removes the record of an attempt; one that stays is removed by the sweep of old attempts.
    pub(super) fn forget_attempt(&self, directory: PathBuf) {
        tokio::task::spawn_blocking(move || std::fs::remove_dir_all(directory));
    }

    pub(super) fn attempt_directory(&self, task: TaskId, attempt: u32) -> PathBuf {
        self.attempts.join(format!("{task}-{attempt}"))
    }
}
