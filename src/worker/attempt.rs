//! One attempt at one task: workspace, run, log, end.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::agent::invocation::OWN_SERVER;
use super::agent::{AgentConfig, AgentRun, Event, Outcome, RunReport, RunRequest, Session, ToolProfile};
use super::lease::Worker;
use super::narrate;
use crate::error::{Code, Error, Result};
use crate::ledger::rows::{Conversation, LogLine};
use crate::ledger::{Finish, Reserve};
use crate::mcp::grants::Grant;
use crate::model::question;
use crate::model::spec::Action;
use crate::model::task::{CHANGE, Reason, RunResult, Task, TaskState};
use crate::seam::fresh_id;
use crate::telemetry::event::{AttemptEnded, AttemptOutcome, Event as _, TaskOutput};
use crate::workspace::Workspace;

/// A revision that is not written yet is asked for again after this.
const REVISION_WAIT: Duration = Duration::from_millis(500);
/// Without a known end of a usage limit, it is tried again after this.
const LIMIT_WAIT: Duration = Duration::from_secs(5 * 60);
/// How long a task waits for the answer to its question.
const ANSWER_WAIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often it is asked whether a person wants the run to stop.
const CANCEL_POLL: Duration = Duration::from_millis(500);
/// Log lines are written in groups: so many, or what came within so long.
const LOG_LINES: usize = 64;
const LOG_WAIT: Duration = Duration::from_millis(250);

/// The agent whose answers are plans, and the file that they become.
const PLANNER: &str = "planning";
const PLAN: &str = "PLAN.md";

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
        if !self.task.spec.action.runs_agent() {
            // It waited for something, and now it may say what it has to say.
            let result = RunResult { text: self.task.spec.prompt.clone(), ..RunResult::default() };
            self.worker.finish(&self.task, self.task.attempt, Finish::Succeeded { result }).await;
            return;
        }
        match self.execute(&break_off).await {
            Ok((report, shown)) => self.finish(report, shown).await,
            Err(error) => {
                let finish = match error.code() {
                    Code::RevisionMissing => Finish::Released { reason: Reason::from(&error), delay: REVISION_WAIT },
                    // It is the ledger that failed: no attempt is spent, and nothing of the conversation goes ahead.
                    Code::LedgerUnavailable => Finish::Released { reason: Reason::from(&error), delay: Duration::ZERO },
                    Code::BudgetSpent | Code::ApprovalVoid => Finish::Refused { reason: Reason::from(&error) },
                    Code::AgentMissing | Code::ReferenceMissing | Code::Bug => {
                        Finish::Dead { reason: Reason::from(&error), result: None }
                    }
                    _ => Finish::Failed { reason: Reason::from(&error), result: None, retry_after: None },
                };
                if error.code() != Code::RevisionMissing {
                    tracing::warn!(task = %self.task.spec.id, error = error.internal(), "the attempt could not be made");
                }
                self.worker.finish(&self.task, self.task.attempt, finish).await;
            }
        }
    }

    /// Also the change that the run has shown, if it has: a person may agree to it.
    async fn execute(&self, break_off: &CancellationToken) -> Result<(RunReport, Option<String>)> {
        let spec = &self.task.spec;
        self.may_begin().await?;
        let workspace = self.workspace().await?;
        self.worker.outward.bring(spec).await?;
        let tools = self.tools().await?;
        let (conversation, session) = self.session().await?;
        // The token of the run is void when this ends.
        let grant = match tools.uses_server(OWN_SERVER) {
            true => Some(self.worker.tools.grants.issue(spec.clone(), tools.allowed.clone())?),
            false => None,
        };
        let request = RunRequest {
            prompt_untrusted: spec.prompt.clone(),
            instruction: narrate::instruction(spec),
            agent: spec.agent.clone(),
            session,
            model: spec.run.model.clone().or_else(|| self.worker.model.clone()),
            tools,
            max_turns: spec.run.max_turns.unwrap_or(self.worker.max_turns),
            budget_usd: spec.run.budget_usd.unwrap_or(self.worker.budget_usd),
            timeout: Some(Duration::from_secs(spec.run.timeout_seconds)),
            mcp_config: grant.as_ref().map(|grant| self.worker.tools.config(grant)),
            session_cost_before_usd: conversation.session_cost_usd,
            fence: fresh_id(),
        };
        let directory = self.worker.attempt_directory(spec.id, self.task.attempt);
        // Sessions of one conversation are no business of another one.
        let config = AgentConfig { config_dir: workspace.config_dir.clone(), ..(*self.worker.agent).clone() };
        let mut run = Box::pin(AgentRun::start(&config, request, &directory, &workspace.path)).await?;
        let events = run.events();
        let canceller = run.canceller();
        let waited = async { tokio::join!(run.wait(), self.keep_log(events)).0 };
        tokio::pin!(waited);
        loop {
            tokio::select! {
                report = &mut waited => return Ok((report, grant.as_ref().and_then(Grant::shown))),
                () = self.wanted_to_stop(break_off), if !canceller.is_cancelled() => canceller.cancel(),
            }
        }
    }

    /// An approval holds for one prompt, and the budgets of the day for runs that begin anew.
    async fn may_begin(&self) -> Result<()> {
        let (task, spec) = (&self.task, &self.task.spec);
        let covered = task.approved.as_ref().is_some_and(|given| given.covers(&spec.prompt));
        if spec.run.approval.is_some() && !covered {
            return Err(Error::new(Code::ApprovalVoid, "the approval was not given for the prompt as it is"));
        }
        let reserve = Reserve {
            task: Some(spec.id),
            webhook: spec.webhook.clone(),
            of_webhook: spec.run.daily,
            of_all: self.worker.daily,
            now: self.worker.now(),
        };
        match self.worker.ledger.reserve(reserve).await? {
            None => Ok(()),
            Some(refusal) => Err(Error::new(refusal.code, refusal.message)),
        }
    }

    /// What the command allows, else what its agent's file lists, else reading.
    async fn tools(&self) -> Result<ToolProfile> {
        let spec = &self.task.spec;
        let profile = match (&spec.run.tools, &spec.agent) {
            (Some(tools), _) => ToolProfile::of(tools),
            (None, Some(agent)) => {
                let (workspaces, agent) = (self.worker.workspaces.clone(), agent.clone());
                let conversation = spec.source.conversation_id.clone();
                let found = tokio::task::spawn_blocking(move || workspaces.agent(&conversation, &agent)).await;
                let found =
                    found.map_err(|error| Error::new(Code::Bug, "reading the agent panicked").detail(error))??;
                let file = found.ok_or_else(|| {
                    let agent = spec.agent.as_ref().map(ToString::to_string).unwrap_or_default();
                    Error::new(
                        Code::ReferenceMissing,
                        format!("the agent `{agent}` is not in the revision of the task"),
                    )
                })?;
                file.tools.map_or_else(ToolProfile::reader, ToolProfile::of)
            }
            (None, None) => ToolProfile::reader(),
        };
        // Without walls a command can read whatever the service can. Whoever wants that says so.
        let walled = self.worker.agent.sandbox.is_settled();
        Ok(if walled { profile } else { profile.without_commands() })
    }

    async fn workspace(&self) -> Result<Workspace> {
        let (workspaces, spec) = (self.worker.workspaces.clone(), &self.task.spec);
        let (revision, conversation) = (spec.revision, spec.source.conversation_id.clone());
        let prepared = tokio::task::spawn_blocking(move || workspaces.prepare(revision, &conversation)).await;
        prepared.map_err(|error| Error::new(Code::Bug, "preparing the workspace panicked").detail(error))?
    }

    /// The session to resume, or a new one whose id is kept before it is used: a crash in the first run resumes it.
    async fn session(&self) -> Result<(Conversation, Session)> {
        let (id, task) = (&self.task.spec.source.conversation_id, self.task.spec.id);
        let mut conversation = self.worker.ledger.conversation(id).await?;
        // A fresh start is made once, not at every attempt.
        let fresh = self.task.spec.source.fresh && conversation.begun_by != Some(task);
        if let Some(text) = conversation.session_id.as_deref().filter(|_| !fresh)
            && let Ok(session) = Uuid::parse_str(text)
        {
            self.bring_transcript(text).await;
            return Ok((conversation, Session::Resume(session)));
        }
        let (session, begun_by) = (fresh_id(), Some(task));
        conversation = Conversation { session_id: Some(session.to_string()), begun_by, ..Conversation::default() };
        self.worker.ledger.put_conversation(id, conversation.clone()).await?;
        Ok((conversation, Session::New(session)))
    }

    /// Lays out what another node has kept of the session. Without it the program says that it does not know the session,
    /// and the run begins anew.
    async fn bring_transcript(&self, session: &str) {
        let conversation = &self.task.spec.source.conversation_id;
        let kept = match self.worker.ledger.transcript(conversation, session).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return,
            Err(error) => return tracing::warn!(error = error.internal(), "the record of a session cannot be read"),
        };
        let (workspaces, conversation, session) =
            (self.worker.workspaces.clone(), conversation.clone(), session.to_owned());
        let laid_out = tokio::task::spawn_blocking(move || match workspaces.transcript(&conversation, &session)? {
            // What is here was written last.
            Some(_) => Ok(()),
            None => workspaces.restore_transcript(&conversation, &session, &kept),
        });
        if let Ok(Err(error)) = laid_out.await {
            tracing::warn!(task = %self.task.spec.id, %error, "the record of a session cannot be laid out");
        }
    }

    /// Keeps the record of the session where other nodes find it.
    async fn keep_transcript(&self, session: &str) {
        let conversation = self.task.spec.source.conversation_id.clone();
        let (workspaces, looked_for) = (self.worker.workspaces.clone(), (conversation.clone(), session.to_owned()));
        let read = tokio::task::spawn_blocking(move || workspaces.transcript(&looked_for.0, &looked_for.1)).await;
        if let Ok(Ok(Some(content))) = read
            && let Err(error) = self.worker.ledger.put_transcript(&conversation, session, content).await
        {
            tracing::warn!(task = %self.task.spec.id, error = error.internal(), "the record of a session is not kept");
        }
    }

    /// What later runs of the conversation find in their workspace.
    async fn leave_artefacts(&self, artefacts: &BTreeMap<String, String>) {
        for (name, text) in artefacts {
            let (workspaces, name, text) = (self.worker.workspaces.clone(), name.clone(), text.clone());
            let conversation = self.task.spec.source.conversation_id.clone();
            let left = tokio::task::spawn_blocking(move || workspaces.leave(&conversation, &name, &text)).await;
            if let Ok(Err(error)) = left {
                tracing::warn!(task = %self.task.spec.id, %error, "an artefact is not left in the workspace");
            }
        }
    }

    /// Ends when a person or a drain wants the run to stop, or when it is no longer this node's.
    async fn wanted_to_stop(&self, break_off: &CancellationToken) {
        loop {
            tokio::select! {
                () = break_off.cancelled() => return,
                () = tokio::time::sleep(CANCEL_POLL) => {
                    if !self.worker.ledger.holds() {
                        tracing::warn!(task = %self.task.spec.id, "the ledger is away for too long: the run is broken off");
                        return;
                    }
                    let task = self.worker.ledger.task(self.task.spec.id).await;
                    if matches!(task, Ok(Some(task)) if task.cancel_requested || !self.is_mine(&task)) {
                        return;
                    }
                }
            }
        }
    }

    fn is_mine(&self, task: &Task) -> bool {
        task.state == TaskState::Running && task.attempt == self.task.attempt
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
        let text = self.worker.without_secrets(&text);
        Some(LogLine { at: self.worker.now(), attempt: self.task.attempt, kind: kind.to_owned(), text })
    }

    /// Records what a run came to.
    pub(super) async fn finish(self, report: RunReport, shown: Option<String>) {
        let current = self.worker.current(&self.task).await;
        if !self.is_mine(&current) {
            tracing::warn!(task = %current.spec.id, "the run was taken over by another node: what it came to is left out");
            return self.remove_directory();
        }
        self.keep_session(&report).await;
        if let Some(session) = &report.session_id {
            self.keep_transcript(session).await;
        }
        let (mut finish, outcome) = self.judge(&report, current.cancel_requested);
        if let (Finish::Succeeded { result }, Some(shown)) = (&mut finish, shown) {
            result.artefacts.insert(CHANGE.to_owned(), shown);
        }
        AttemptEnded {
            task: self.task.spec.id,
            webhook: &self.task.spec.webhook,
            attempt: self.task.attempt,
            outcome,
            cost_usd: report.cost_usd.unwrap_or(0.0),
            elapsed: report.duration,
        }
        .emit(&self.worker.metrics);
        if let Finish::Succeeded { result } = &finish {
            self.leave_artefacts(&result.artefacts).await;
        }
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
                begun_by: before.begun_by,
            },
        };
        if let Err(error) = self.worker.ledger.put_conversation(id, conversation).await {
            tracing::warn!(task = %self.task.spec.id, error = error.internal(), "the session is not remembered");
        }
    }

    /// A plan is kept as a file of its own: people look for it, and whoever carries it out reads it.
    fn artefacts(&self, text: &str) -> BTreeMap<String, String> {
        let plans = self.task.spec.agent.as_ref().is_some_and(|agent| agent.as_str() == PLANNER);
        plans.then(|| (PLAN.to_owned(), text.to_owned())).into_iter().collect()
    }

    fn judge(&self, report: &RunReport, cancel_requested: bool) -> (Finish, AttemptOutcome) {
        let result = |text: &str| RunResult {
            text: self.worker.without_secrets(text),
            artefacts: BTreeMap::new(),
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
                let asked = question::of(text).filter(|_| self.task.spec.action == Action::Ask);
                let result = RunResult { denials, ..result(asked.unwrap_or(text)) };
                if asked.is_some() {
                    return (Finish::Asked { result, wait: ANSWER_WAIT }, AttemptOutcome::Succeeded);
                }
                let artefacts = self.artefacts(&result.text);
                (Finish::Succeeded { result: RunResult { artefacts, ..result } }, AttemptOutcome::Succeeded)
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
