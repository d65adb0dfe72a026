//! Things that happen, as values: [`Event::emit`] writes the log line and moves the metrics together, so neither is
//! forgotten.

mod receiving;
mod reconciling;
mod working;

use std::time::Duration;

pub use receiving::{
    AcceptFailed, Answered, BodyRead, ConnectionCapReached, ConnectionTooSlow, DeliveryAnswered, DeliveryRefused,
    Outcome,
};
pub use reconciling::{CopyEnded, GitEnded, GitStep, PassEnded, PassOutcome, WatcherOverflowed};
pub use working::{AttemptEnded, AttemptOutcome, OutboxCalled, TaskOutput};

use super::metrics::Metrics;

/// Something that happened and that the log and the metrics should both know.
pub trait Event {
    fn emit(&self, metrics: &Metrics);
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
    use jiff::Timestamp;

    use crate::error::Code;
    use crate::error::Error;
    use crate::model::ids::WebhookId;

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
