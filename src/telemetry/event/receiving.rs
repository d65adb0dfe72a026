//! Connections, requests, deliveries.

use std::time::Duration;

use super::{Event, milliseconds};
use crate::error::Error;
use crate::model::ids::{DeliveryId, ProviderName, WebhookId};
use crate::telemetry::metrics::{Metrics, OutcomeLabel, ReasonLabel, RequestLabels};
use crate::telemetry::recent::Answer;

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

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Accepted => Answer::Accepted,
            Outcome::Duplicate => Answer::Duplicate,
            // A handshake asks for nothing either.
            Outcome::Ignored | Outcome::Challenge => Answer::Ignored,
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
        metrics.recent().answered(self.outcome.into(), self.elapsed);
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
        metrics.recent().answered(Answer::Refused, self.elapsed);
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
