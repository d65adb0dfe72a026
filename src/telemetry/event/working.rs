//! Attempts at tasks, and calls to providers.

use std::time::Duration;

use super::{Event, milliseconds};
use crate::error::Error;
use crate::model::ids::{OutboxId, ProviderName, TaskId, WebhookId};
use crate::telemetry::metrics::{CallLabels, Metrics, OutcomeLabel};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    Succeeded,
    Failed,
    Cancelled,
    /// Put back without spending an attempt.
    Released,
}

impl AttemptOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Succeeded => "succeeded",
            AttemptOutcome::Failed => "failed",
            AttemptOutcome::Cancelled => "cancelled",
            AttemptOutcome::Released => "released",
        }
    }
}

/// An attempt at a task ended.
#[derive(Clone, Copy, Debug)]
pub struct AttemptEnded<'a> {
    pub task: TaskId,
    pub webhook: &'a WebhookId,
    pub attempt: u32,
    pub outcome: AttemptOutcome,
    pub cost_usd: f64,
    pub elapsed: Duration,
}

impl Event for AttemptEnded<'_> {
    fn emit(&self, metrics: &Metrics) {
        let series = metrics.series();
        series.attempts.get_or_create(&OutcomeLabel { outcome: self.outcome.as_str() }).inc();
        series.attempt_duration.observe(self.elapsed.as_secs_f64());
        if self.cost_usd.is_finite() && self.cost_usd > 0.0 {
            series.agent_cost.inc_by(self.cost_usd);
        }
        tracing::info!(
            task = %self.task,
            webhook = %self.webhook,
            attempt = self.attempt,
            outcome = self.outcome.as_str(),
            cost_usd = self.cost_usd,
            duration_ms = milliseconds(self.elapsed),
            "attempt ended"
        );
    }
}

/// A running task wrote lines to its log.
#[derive(Clone, Copy, Debug)]
pub struct TaskOutput {
    pub lines: u64,
}

impl Event for TaskOutput {
    fn emit(&self, metrics: &Metrics) {
        metrics.series().task_log_lines.inc_by(self.lines);
    }
}

/// A call to a provider was made, or given up.
#[derive(Clone, Copy, Debug)]
pub struct OutboxCalled<'a> {
    pub id: OutboxId,
    pub provider: &'a ProviderName,
    /// `ack` or `reply`.
    pub purpose: &'static str,
    /// `Err` with whether it is tried again.
    pub result: Result<(), (&'a Error, bool)>,
    pub elapsed: Duration,
}

impl Event for OutboxCalled<'_> {
    fn emit(&self, metrics: &Metrics) {
        let outcome = match self.result {
            Ok(()) => "sent",
            Err((_, true)) => "retried",
            Err((_, false)) => "failed",
        };
        metrics.series().outbox_calls.get_or_create(&CallLabels { purpose: self.purpose, outcome }).inc();
        tracing::info!(
            outbox = %self.id,
            provider = %self.provider,
            purpose = self.purpose,
            outcome,
            error = self.result.err().map(|(error, _)| error.internal()),
            duration_ms = milliseconds(self.elapsed),
            "provider called"
        );
    }
}
