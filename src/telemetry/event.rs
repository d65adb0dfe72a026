//! Things that happen, as values: [`Event::emit`] writes the log line and moves the metrics together, so neither is
//! forgotten.

use std::time::Duration;

use jiff::Timestamp;

use super::metrics::{CallLabels, Metrics, OutcomeLabel, ReasonLabel, RequestLabels};
use crate::error::Error;
use crate::model::ids::{DeliveryId, OutboxId, ProviderName, TaskId, WebhookId};

/// Something that happened and that the log and the metrics should both know.
pub trait Event {
    fn emit(&self, metrics: &Metrics);
}

/// An answer left.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// `receiver`, `admin` or `socket`.
    pub listener: &'static str,
    pub status: u16,
}

impl Event for Answered {
    fn emit(&self, metrics: &Metrics) {
        let status = match self.status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        metrics.series().requests.get_or_create(&RequestLabels { listener: self.listener, status }).inc();
    }
}

/// A body was read.
#[derive(Clone, Copy, Debug)]
pub struct BodyRead {
    pub bytes: u64,
}

impl Event for BodyRead {
    fn emit(&self, metrics: &Metrics) {
        metrics.series().request_bytes.inc_by(self.bytes);
    }
}

/// What became of a verified delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted,
    Ignored,
    Duplicate,
    /// A handshake was answered.
    Challenge,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Ignored => "ignored",
            Outcome::Duplicate => "duplicate",
            Outcome::Challenge => "challenge",
        }
    }
}

/// A verified delivery was answered.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryAnswered<'a> {
    pub webhook: &'a WebhookId,
    pub provider: &'a ProviderName,
    pub generation: u64,
    /// The stored one; of a duplicate the first one.
    pub delivery: Option<DeliveryId>,
    pub outcome: Outcome,
    pub tasks: usize,
    pub request_id: &'a str,
    pub elapsed: Duration,
}

impl Event for DeliveryAnswered<'_> {
    fn emit(&self, metrics: &Metrics) {
        let series = metrics.series();
        series.deliveries.get_or_create(&OutcomeLabel { outcome: self.outcome.as_str() }).inc();
        series.ack_duration.observe(self.elapsed.as_secs_f64());
        tracing::info!(
            webhook = %self.webhook,
            provider = %self.provider,
            generation = self.generation,
            delivery = self.delivery.map(tracing::field::display),
            outcome = self.outcome.as_str(),
            tasks = self.tasks,
            request_id = self.request_id,
            duration_ms = milliseconds(self.elapsed),
            "delivery answered"
        );
    }
}

/// A request to the receiver was refused.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryRefused<'a> {
    /// `None` when no webhook was found.
    pub webhook: Option<&'a WebhookId>,
    pub error: &'a Error,
    pub peer: &'a str,
    pub request_id: &'a str,
    pub elapsed: Duration,
}

impl Event for DeliveryRefused<'_> {
    fn emit(&self, metrics: &Metrics) {
        let series = metrics.series();
        series.rejections.get_or_create(&ReasonLabel { reason: self.error.code().as_str() }).inc();
        series.ack_duration.observe(self.elapsed.as_secs_f64());
        let Some(left_out) = metrics.refusal_line() else { return };
        tracing::info!(
            left_out = (left_out > 0).then_some(left_out),
            webhook = self.webhook.map(tracing::field::display),
            code = %self.error.code(),
            reason = self.error.internal(),
            peer = self.peer,
            request_id = self.request_id,
            duration_ms = milliseconds(self.elapsed),
            "delivery refused"
        );
    }
}

/// A listener is at its connection cap: further connections wait.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionCapReached {
    pub listener: &'static str,
    pub connections_max: usize,
}

impl Event for ConnectionCapReached {
    fn emit(&self, metrics: &Metrics) {
        metrics.series().connection_waits.inc();
        tracing::warn!(listener = self.listener, connections_max = self.connections_max, "new connections wait");
    }
}

/// A connection could not be accepted (out of descriptors, for example).
#[derive(Clone, Debug)]
pub struct AcceptFailed<'a> {
    pub listener: &'static str,
    pub error: &'a std::io::Error,
    pub pause: Duration,
}

impl Event for AcceptFailed<'_> {
    fn emit(&self, metrics: &Metrics) {
        metrics.series().accept_errors.inc();
        let (listener, pause_ms) = (self.listener, milliseconds(self.pause));
        tracing::warn!(listener, error = %self.error, pause_ms, "a connection could not be accepted");
    }
}

/// A connection was cut because its other side was too slow.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionTooSlow {
    pub listener: &'static str,
}

impl Event for ConnectionTooSlow {
    fn emit(&self, metrics: &Metrics) {
        metrics.series().slow_connections.inc();
        tracing::debug!(listener = self.listener, "a slow connection was cut");
    }
}

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

/// What a reconcile pass came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassOutcome {
    Applied,
    Unchanged,
    /// It would have deleted too much.
    Held,
    Failed,
}

impl PassOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            PassOutcome::Applied => "applied",
            PassOutcome::Unchanged => "unchanged",
            PassOutcome::Held => "held",
            PassOutcome::Failed => "failed",
        }
    }
}

/// A reconcile pass ended.
#[derive(Clone, Copy, Debug)]
pub struct PassEnded<'a> {
    pub outcome: PassOutcome,
    /// Actions that it applied.
    pub actions: usize,
    pub error: Option<&'a Error>,
    pub elapsed: Duration,
    pub at: Timestamp,
}

impl Event for PassEnded<'_> {
    fn emit(&self, metrics: &Metrics) {
        let series = metrics.series();
        series.passes.get_or_create(&OutcomeLabel { outcome: self.outcome.as_str() }).inc();
        series.pass_duration.observe(self.elapsed.as_secs_f64());
        if matches!(self.outcome, PassOutcome::Applied | PassOutcome::Unchanged) {
            series.last_pass.set(self.at.as_second());
        }
        let (outcome, duration_ms) = (self.outcome.as_str(), milliseconds(self.elapsed));
        match (self.outcome, self.error) {
            (PassOutcome::Unchanged, _) => tracing::debug!(outcome, duration_ms, "pass ended"),
            (_, None) => tracing::info!(outcome, actions = self.actions, duration_ms, "pass ended"),
            (_, Some(error)) => tracing::warn!(outcome, duration_ms, error = error.internal(), "pass ended"),
        }
    }
}

/// The file watcher lost events: the next pass looks at everything.
#[derive(Clone, Copy, Debug)]
pub struct WatcherOverflowed;

impl Event for WatcherOverflowed {
    fn emit(&self, metrics: &Metrics) {
        metrics.series().watcher_overflows.inc();
        tracing::warn!("the file watcher lost events");
    }
}

/// Configuration was committed or pushed, or that failed.
#[derive(Clone, Copy, Debug)]
pub struct GitEnded<'a> {
    pub step: GitStep,
    pub result: Result<(), &'a Error>,
    pub elapsed: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitStep {
    Commit,
    Push,
}

impl Event for GitEnded<'_> {
    fn emit(&self, metrics: &Metrics) {
        let outcome = if self.result.is_ok() { "done" } else { "failed" };
        let (family, step) = match self.step {
            GitStep::Commit => (&metrics.series().commits, "commit"),
            GitStep::Push => (&metrics.series().pushes, "push"),
        };
        family.get_or_create(&OutcomeLabel { outcome }).inc();
        let duration_ms = milliseconds(self.elapsed);
        match self.result {
            Ok(()) => tracing::info!(step, duration_ms, "git step ended"),
            Err(error) => tracing::warn!(step, duration_ms, error = error.internal(), "git step failed"),
        }
    }
}

/// A part of the service panicked, or ended although it should not.
#[derive(Clone, Copy, Debug)]
pub struct PartEnded {
    pub part: &'static str,
}

impl Event for PartEnded {
    fn emit(&self, metrics: &Metrics) {
        metrics.series().panics.inc();
        tracing::error!(part = self.part, "a part of the service ended unexpectedly");
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_refusal_is_counted_by_its_code_and_not_by_its_webhook() {
        let metrics = Metrics::new();
        let error = Error::new(Code::NotVerified, "the delivery could not be verified").detail("no signature header");
        let (webhook, elapsed) = (WebhookId::parse("github").unwrap(), Duration::from_millis(3));
        let refused = DeliveryRefused { webhook: Some(&webhook), error: &error, peer: "::1", request_id: "r", elapsed };
        refused.emit(&metrics);
        let text = metrics.encode().unwrap();
        assert!(text.contains("skillhook_rejections_total{reason=\"SH0405\"} 1"), "{text}");
        assert!(!text.contains("github"), "{text}");
    }

    #[test]
    fn a_failed_pass_does_not_count_as_the_last_good_one() {
        let metrics = Metrics::new();
        let at = Timestamp::from_second(1_800_000_000).unwrap();
        let pass = PassEnded { outcome: PassOutcome::Failed, actions: 0, error: None, elapsed: Duration::ZERO, at };
        pass.emit(&metrics);
        assert!(metrics.encode().unwrap().contains("skillhook_last_pass_timestamp_seconds 0"));
        PassEnded { outcome: PassOutcome::Unchanged, ..pass }.emit(&metrics);
        assert!(metrics.encode().unwrap().contains("skillhook_last_pass_timestamp_seconds 1800000000"));
    }
}
