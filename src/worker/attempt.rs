//! One attempt at one task: workspace, run, log, end.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::agent::{AgentRun, Event, Outcome, RunReport, RunRequest, Session, ToolProfile};
use super::lease::Worker;
use super::narrate;
use crate::error::{Code, Error, Result};
use crate::ledger::Finish;
use crate::ledger::rows::{Conversation, LogLine};
use crate::model::task::{Reason, RunResult, Task};
use crate::seam::fresh_id;
use crate::telemetry::event::{AttemptEnded, AttemptOutcome, Event as _, TaskOutput};
use crate::workspace::Workspace;

/// A revision that is not written yet is asked for again after this.
const REVISION_WAIT: Duration = Duration::from_millis(500);
/// Without a known end of a usage limit, it is tried again after this.
const LIMIT_WAIT: Duration = Duration::from_secs(5 * 60);
/// How often it is asked whether a person wants the run to stop.
const CANCEL_POLL: Duration = Duration::from_millis(500);
/// Log lines are written in groups: so many, or what came within so long.
const LOG_LINES: usize = 64;
const LOG_WAIT: Duration = Duration::from_millis(250);

pub(super) struct Attempt<'a> {
    worker: &'a Worker,
    task: Task,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(worker: &'a Worker, task: Task) -> Self {
        Self { worker, task }
    }

    /// Runs to the end, whatever it is; `break_off` asks for a quick one that can be resumed.
    pub(super) async fn run(self, break_off: CancellationToken) {
        match self.execute(&break_off).await {
            Ok(report) => self.finish(report).await,
            Err(error) => {
                let finish = match error.code() {
                    Code::RevisionMissing => Finish::Released { reason: Reason::from(&error), delay: REVISION_WAIT },
                    Code::AgentMissing | Code::Bug => Finish::Dead { reason: Reason::from(&error), result: None },
                    _ => Finish::Failed { reason: Reason::from(&error), result: None, retry_after: None },
                };
                if error.code() != Code::RevisionMissing {
                    tracing::warn!(task = %self.task.spec.id, error = error.internal(), "the attempt could not be made");
                }
                self.worker.finish(&self.task, self.task.attempt, finish).await;
            }
        }
    }

    async fn execute(&self, break_off: &CancellationToken) -> Result<RunReport> {
        let spec = &self.task.spec;
        let workspace = self.workspace().await?;
        let (conversation, session) = self.session().await?;
        let request = RunRequest {
            prompt_untrusted: spec.prompt.clone(),
            instruction: narrate::instruction(spec),
            agent: spec.agent.clone(),
            session,
            model: spec.run.model.clone().or_else(|| self.worker.model.clone()),
            tools: spec.run.tools.as_ref().map_or_else(ToolProfile::reader, ToolProfile::of),
            max_turns: spec.run.max_turns.unwrap_or(self.worker.max_turns),
            budget_usd: spec.run.budget_usd.unwrap_or(self.worker.budget_usd),
            timeout: Some(Duration::from_secs(spec.run.timeout_seconds)),
            mcp_config: None,
            session_cost_before_usd: conversation.session_cost_usd,
            fence: fresh_id(),
        };
        let directory = self.worker.attempt_directory(spec.id, self.task.attempt);
        let mut run = Box::pin(AgentRun::start(&self.worker.agent, request, &directory, &workspace.path)).await?;
        let events = run.events();
        let canceller = run.canceller();
        let waited = async { tokio::join!(run.wait(), self.keep_log(events)).0 };
        tokio::pin!(waited);
        loop {
            tokio::select! {
                report = &mut waited => return Ok(report),
                () = self.wanted_to_stop(break_off), if !canceller.is_cancelled() => canceller.cancel(),
            }
        }
    }

    async fn workspace(&self) -> Result<Workspace> {
        let (workspaces, spec) = (self.worker.workspaces.clone(), &self.task.spec);
        let (revision, conversation) = (spec.revision, spec.source.conversation_id.clone());
        let prepared = tokio::task::spawn_blocking(move || workspaces.prepare(revision, &conversation)).await;
        prepared.map_err(|error| Error::new(Code::Bug, "preparing the workspace panicked").detail(error))?
    }

    /// The session to resume, or a new one whose id is kept before it is used: a crash in the first run resumes it.
    async fn session(&self) -> Result<(Conversation, Session)> {
        let id = &self.task.spec.source.conversation_id;
        let mut conversation = self.worker.ledger.conversation(id).await?;
        if let Some(session) = conversation.session_id.as_deref().and_then(|text| Uuid::parse_str(text).ok()) {
            return Ok((conversation, Session::Resume(session)));
        }
        let session = fresh_id();
        conversation = Conversation { session_id: Some(session.to_string()), ..Conversation::default() };
        self.worker.ledger.put_conversation(id, conversation.clone()).await?;
        Ok((conversation, Session::New(session)))
    }

    /// Ends when a person or a drain wants the run to stop.
    async fn wanted_to_stop(&self, break_off: &CancellationToken) {
        loop {
            tokio::select! {
                () = break_off.cancelled() => return,
                () = tokio::time::sleep(CANCEL_POLL) => {
                    let task = self.worker.ledger.task(self.task.spec.id).await;
                    if matches!(task, Ok(Some(task)) if task.cancel_requested) {
                        return;
                    }
                }
            }
        }
    }

    async fn keep_log(&self, events: Option<mpsc::Receiver<Event>>) {
        let Some(mut events) = events else { return };
        let mut waiting: Vec<Event> = Vec::new();
        loop {
            let ended = tokio::select! {
                taken = events.recv_many(&mut waiting, LOG_LINES) => taken == 0,
                () = tokio::time::sleep(LOG_WAIT), if !waiting.is_empty() => false,
            };
            let lines: Vec<LogLine> = waiting.drain(..).filter_map(|event| self.line(&event)).collect();
            if !lines.is_empty() {
                TaskOutput { lines: lines.len() as u64 }.emit(&self.worker.metrics);
                if let Err(error) = self.worker.ledger.append_log(self.task.spec.id, lines).await {
                    tracing::warn!(task = %self.task.spec.id, error = error.internal(), "log lines are lost");
                }
            }
            if ended {
                return;
            }
        }
    }

    fn line(&self, event: &Event) -> Option<LogLine> {
        let (kind, text) = narrate::line(event)?;
        Some(LogLine { at: self.worker.now(), attempt: self.task.attempt, kind: kind.to_owned(), text })
    }

    /// Records what a run came to.
    pub(super) async fn finish(self, report: RunReport) {
        let current = match self.worker.ledger.task(self.task.spec.id).await {
            Ok(Some(task)) => task,
            Ok(None) | Err(_) => self.task.clone(),
        };
        self.keep_session(&report).await;
        let (finish, outcome) = self.judge(&report, current.cancel_requested);
        AttemptEnded {
            task: self.task.spec.id,
            webhook: &self.task.spec.webhook,
            attempt: self.task.attempt,
            outcome,
            cost_usd: report.cost_usd.unwrap_or(0.0),
            elapsed: report.duration,
        }
        .emit(&self.worker.metrics);
        self.worker.finish(&self.task, self.task.attempt, finish).await;
        self.remove_directory();
    }

    /// The record of an attempt that is in the ledger is not needed any more.
    fn remove_directory(&self) {
        let directory = self.worker.attempt_directory(self.task.spec.id, self.task.attempt);
        self.worker.forget_attempt(directory);
    }

    async fn keep_session(&self, report: &RunReport) {
        let id = &self.task.spec.source.conversation_id;
        let Ok(before) = self.worker.ledger.conversation(id).await else { return };
        let conversation = match &report.outcome {
            Outcome::SessionUnknown => Conversation::default(),
            _ => Conversation {
                session_id: report.session_id.clone().or(before.session_id),
                session_cost_usd: report.session_cost_usd.unwrap_or(before.session_cost_usd),
                turns: before.turns.saturating_add(u32::try_from(report.turns).unwrap_or(u32::MAX)),
            },
        };
        if let Err(error) = self.worker.ledger.put_conversation(id, conversation).await {
            tracing::warn!(task = %self.task.spec.id, error = error.internal(), "the session is not remembered");
        }
    }

    fn judge(&self, report: &RunReport, cancel_requested: bool) -> (Finish, AttemptOutcome) {
        let result = |text: &str| RunResult {
            text: text.to_owned(),
            cost_usd: report.cost_usd.unwrap_or(0.0),
            input_tokens: report.tokens.input,
            output_tokens: report.tokens.output,
            turns: u32::try_from(report.turns).unwrap_or(u32::MAX),
            session_id: report.session_id.clone(),
            duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
            denials: Vec::new(),
        };
        let released = |message: &str, delay| Finish::Released {
            reason: Reason { code: Code::AgentFailed, message: message.to_owned() },
            delay,
        };
        match &report.outcome {
            Outcome::Succeeded { text, denials } => {
                let denials = denials.iter().map(|denial| denial.tool.clone()).collect();
                let result = RunResult { denials, ..result(text) };
                (Finish::Succeeded { result }, AttemptOutcome::Succeeded)
            }
            Outcome::Failed { code, retry, message } => {
                let (reason, result) = (Reason { code: *code, message: message.clone() }, Some(result("")));
                let finish = if *retry {
                    Finish::Failed { reason, result, retry_after: None }
                } else {
                    Finish::Dead { reason, result }
                };
                (finish, AttemptOutcome::Failed)
            }
            Outcome::UsageLimit { reset, message } => {
                let until = reset.map(|reset| reset.duration_since(self.worker.now()));
                let delay = until.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or(LIMIT_WAIT);
                let reason = Reason { code: Code::AgentLimit, message: message.clone() };
                (Finish::Released { reason, delay }, AttemptOutcome::Released)
            }
            Outcome::Cancelled if cancel_requested => {
                (Finish::Cancelled { result: Some(result("")) }, AttemptOutcome::Cancelled)
            }
            Outcome::Cancelled | Outcome::Interrupted { .. } => {
                (released("the run was broken off and resumes", Duration::ZERO), AttemptOutcome::Released)
            }
            Outcome::SessionUnknown | Outcome::SessionTaken => (
                released("the agent's session changed, the run begins again", Duration::ZERO),
                AttemptOutcome::Released,
            ),
        }
    }
}
