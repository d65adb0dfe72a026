//! Passes, the watcher, commits and pushes.

use std::time::Duration;

use jiff::Timestamp;

use super::{Event, milliseconds};
use crate::error::Error;
use crate::telemetry::metrics::{CopyOutcomeLabels, Metrics, OutcomeLabel};

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

/// A push into a copy ended.
#[derive(Clone, Copy, Debug)]
pub struct CopyEnded<'a> {
    pub copy: &'a str,
    /// How many revisions it brought.
    pub outcome: Result<usize, &'a Error>,
    /// How long the oldest commit that is not in the copy has waited.
    pub lag: Duration,
}

impl Event for CopyEnded<'_> {
    fn emit(&self, metrics: &Metrics) {
        let outcome = match self.outcome {
            Ok(0) => "unchanged",
            Ok(_) => "done",
            Err(_) => "failed",
        };
        let labels = CopyOutcomeLabels { copy: self.copy.to_owned(), outcome };
        metrics.series().copies.get_or_create(&labels).inc();
        metrics.observe_copy_lag(self.copy, self.lag);
        match self.outcome {
            Ok(0) => {}
            Ok(revisions) => tracing::info!(copy = self.copy, revisions, "copied"),
            Err(error) => {
                tracing::warn!(copy = self.copy, error = error.internal(), "the copy is not made, it is tried again");
            }
        }
    }
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
