//! The metrics of the service in one explicit registry, written as OpenMetrics text.
//!
//! Counters move with the events of [`super::event`]; gauges of what is stored are set when somebody looks
//! ([`Metrics::observe_queue`], [`Metrics::observe_resources`]), so they cannot drift from it.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::{Code, Context as _, Result};
use crate::ledger::Depth;
use crate::model::rate::Bucket;
use crate::model::spec::RateLimit;
use crate::telemetry::recent::Recent;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper edges in seconds; 200 ms is the objective for an answer to a sender.
const ACK_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.2, 0.5, 1.0, 3.0, 10.0];
const WORK_SECONDS: [f64; 11] = [0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];

type Labelled<L> = Family<L, Counter>;
type Decimal = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct RequestLabels {
    pub listener: &'static str,
    pub status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct OutcomeLabel {
    pub outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct ReasonLabel {
    pub reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct StateLabel {
    pub state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct CallLabels {
    pub purpose: &'static str,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct CopyLabel {
    pub copy: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(in crate::telemetry) struct CopyOutcomeLabels {
    pub copy: String,
    pub outcome: &'static str,
}

/// A cheap handle; clones share the registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    series: Series,
    recent: Recent,
    since: Instant,
    refusals: Mutex<Throttle>,
}

/// Lets a bounded number of log lines of one kind through: whoever is refused can come as often as he likes.
#[derive(Debug)]
struct Throttle {
    bucket: Bucket,
    left_out: u64,
}

/// Lines about refused deliveries.
const REFUSAL_LINES: RateLimit = RateLimit { max: 50, per_seconds: 10 };

/// Every series, by what it counts.
#[derive(Debug)]
pub(in crate::telemetry) struct Series {
    pub connections: Gauge,
    pub connection_waits: Counter,
    pub accept_errors: Counter,
    pub slow_connections: Counter,
    pub requests: Labelled<RequestLabels>,
    pub request_bytes: Counter,
    pub ack_duration: Histogram,
    pub deliveries: Labelled<OutcomeLabel>,
    pub rejections: Labelled<ReasonLabel>,
    pub tasks: Family<StateLabel, Gauge>,
    pub oldest_queued: Decimal,
    pub attempts: Labelled<OutcomeLabel>,
    pub attempt_duration: Histogram,
    pub task_log_lines: Counter,
    pub agent_cost: Counter<f64, AtomicU64>,
    pub outbox_waiting: Gauge,
    pub outbox_calls: Labelled<CallLabels>,
    pub passes: Labelled<OutcomeLabel>,
    pub pass_duration: Histogram,
    pub last_pass: Gauge<i64, AtomicI64>,
    pub resources: Family<StateLabel, Gauge>,
    pub watcher_overflows: Counter,
    pub commits: Labelled<OutcomeLabel>,
    pub pushes: Labelled<OutcomeLabel>,
    pub push_lag: Decimal,
    pub nodes: Gauge,
    pub index_differs: Gauge,
    pub copies: Labelled<CopyOutcomeLabels>,
    pub copy_lag: Family<CopyLabel, Decimal>,
    pub panics: Counter,
}

/// How much waits in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queue {
    pub checking: usize,
    pub awaiting_approval: usize,
    pub queued: usize,
    pub running: usize,
    pub waiting_input: usize,
    pub dead: usize,
    pub outbox_waiting: usize,
    pub oldest_queued: Option<Duration>,
}

/// How many resources of the index stand in each condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub ready: usize,
    pub reconciling: usize,
    pub stalled: usize,
}

impl Queue {
    pub fn of(depth: &Depth, now: Timestamp) -> Self {
        let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        Self {
            checking: depth.checking,
            awaiting_approval: depth.awaiting_approval,
            queued: depth.queued,
            running: depth.running,
            waiting_input: depth.waiting_input,
            dead: depth.dead,
            outbox_waiting: depth.outbox_waiting,
            oldest_queued: depth.oldest_queued_at.map(age),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("skillhook");
        let series = Series::new();
        series.register_receiving(&mut registry);
        series.register_working(&mut registry);
        series.register_reconciling(&mut registry);
        let refusals = Mutex::new(Throttle { bucket: Bucket::full(REFUSAL_LINES, Duration::ZERO), left_out: 0 });
        let since = Instant::now();
        Self { inner: Arc::new(Inner { registry, series, recent: Recent::new(since), since, refusals }) }
    }

    /// Everything, as OpenMetrics text.
    pub fn encode(&self) -> Result<String> {
        let mut text = String::with_capacity(8 * 1024);
        prometheus_client::encoding::text::encode(&mut text, &self.inner.registry)
            .context(Code::Bug, "the metrics cannot be written")?;
        Ok(text)
    }

    pub fn observe_queue(&self, queue: Queue) {
        let series = self.series();
        for (state, count) in [
            ("checking", queue.checking),
            ("awaiting_approval", queue.awaiting_approval),
            ("queued", queue.queued),
            ("running", queue.running),
            ("waiting_input", queue.waiting_input),
            ("dead", queue.dead),
        ] {
            series.tasks.get_or_create(&StateLabel { state }).set(gauge_value(count));
        }
        series.outbox_waiting.set(gauge_value(queue.outbox_waiting));
        series.oldest_queued.set(queue.oldest_queued.unwrap_or_default().as_secs_f64());
        self.inner.recent.queue_age(queue.oldest_queued.unwrap_or_default());
    }

    pub fn observe_nodes(&self, nodes: usize, differs: bool) {
        let series = self.series();
        series.nodes.set(gauge_value(nodes));
        series.index_differs.set(i64::from(differs));
    }

    pub fn observe_resources(&self, resources: Resources) {
        let series = self.series();
        for (state, count) in
            [("ready", resources.ready), ("reconciling", resources.reconciling), ("stalled", resources.stalled)]
        {
            series.resources.get_or_create(&StateLabel { state }).set(gauge_value(count));
        }
    }

    /// How long the oldest commit has been waiting to be pushed; zero when none does.
    pub fn observe_push_lag(&self, lag: Duration) {
        self.series().push_lag.set(lag.as_secs_f64());
    }

    /// The same for a cloud copy.
    pub fn observe_copy_lag(&self, copy: &str, lag: Duration) {
        self.series().copy_lag.get_or_create(&CopyLabel { copy: copy.to_owned() }).set(lag.as_secs_f64());
    }

    /// How long the oldest commit has been waiting to be pushed, in seconds, as it was observed last.
    pub fn push_lag_seconds(&self) -> f64 {
        self.series().push_lag.get()
    }

    /// The last day by the minute.
    pub fn recent(&self) -> &Recent {
        &self.inner.recent
    }

    /// A connection that is counted as open for as long as the returned value lives.
    pub fn connection(&self) -> OpenConnection {
        self.series().connections.inc();
        OpenConnection { metrics: self.clone() }
    }

    /// Whether a line about a refusal may be written, and how many were left out since the last one.
    pub(in crate::telemetry) fn refusal_line(&self) -> Option<u64> {
        let now = self.inner.since.elapsed();
        let mut throttle = self.inner.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if throttle.bucket.take(REFUSAL_LINES, now).is_ok() {
            return Some(std::mem::take(&mut throttle.left_out));
        }
        throttle.left_out += 1;
        None
    }

    pub(in crate::telemetry) fn series(&self) -> &Series {
        &self.inner.series
    }
}

/// Counts one connection as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    metrics: Metrics,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.series().connections.dec();
    }
}

fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Series {
    fn new() -> Self {
        Self {
            connections: Gauge::default(),
            connection_waits: Counter::default(),
            accept_errors: Counter::default(),
            slow_connections: Counter::default(),
            requests: Family::default(),
            request_bytes: Counter::default(),
            ack_duration: Histogram::new(ACK_SECONDS),
            deliveries: Family::default(),
            rejections: Family::default(),
            tasks: Family::default(),
            oldest_queued: Gauge::default(),
            attempts: Family::default(),
            attempt_duration: Histogram::new(WORK_SECONDS),
            task_log_lines: Counter::default(),
            agent_cost: Counter::default(),
            outbox_waiting: Gauge::default(),
            outbox_calls: Family::default(),
            passes: Family::default(),
            pass_duration: Histogram::new(WORK_SECONDS),
            last_pass: Gauge::default(),
            resources: Family::default(),
            watcher_overflows: Counter::default(),
            commits: Family::default(),
            pushes: Family::default(),
            push_lag: Gauge::default(),
            nodes: Gauge::default(),
            index_differs: Gauge::default(),
            copies: Family::default(),
            copy_lag: Family::default(),
            panics: Counter::default(),
        }
    }

    fn register_receiving(&self, registry: &mut Registry) {
        registry.register("connections", "Open HTTP connections", self.connections.clone());
        registry.register(
            "connection_waits",
            "Times that a listener was at its connection cap and let new connections wait",
            self.connection_waits.clone(),
        );
        registry.register("accept_errors", "Connections that could not be accepted", self.accept_errors.clone());
        registry.register(
            "slow_connections",
            "Connections cut because the other side was too slow",
            self.slow_connections.clone(),
        );
        registry.register("requests", "HTTP answers by listener and status class", self.requests.clone());
        registry.register("request_bytes", "Bytes of request bodies read", self.request_bytes.clone());
        registry.register(
            "ack_duration_seconds",
            "From a delivery's head to its answer; the objective is 0.2",
            self.ack_duration.clone(),
        );
        registry.register("deliveries", "Verified deliveries by outcome", self.deliveries.clone());
        registry.register("rejections", "Refused deliveries by reason (a code)", self.rejections.clone());
    }

    fn register_working(&self, registry: &mut Registry) {
        registry.register("tasks", "Tasks that are not done, and dead letters, by state", self.tasks.clone());
        registry.register("oldest_queued_age_seconds", "Age of the oldest queued task", self.oldest_queued.clone());
        registry.register("attempts", "Ended attempts by outcome", self.attempts.clone());
        registry.register("attempt_duration_seconds", "Duration of attempts", self.attempt_duration.clone());
        registry.register("task_log_lines", "Lines that running tasks have written", self.task_log_lines.clone());
        registry.register("agent_cost_usd", "What agent runs cost, in US dollars", self.agent_cost.clone());
        registry.register("outbox_waiting", "Calls to providers that wait", self.outbox_waiting.clone());
        registry.register("outbox_calls", "Calls to providers by purpose and outcome", self.outbox_calls.clone());
        registry.register("panics", "Panics and unexpected ends of parts of the service", self.panics.clone());
    }

    fn register_reconciling(&self, registry: &mut Registry) {
        registry.register("passes", "Reconcile passes by outcome", self.passes.clone());
        registry.register("pass_duration_seconds", "Duration of reconcile passes", self.pass_duration.clone());
        registry.register(
            "last_pass_timestamp_seconds",
            "When the index was last brought in line with the files, in seconds since 1970",
            self.last_pass.clone(),
        );
        registry.register("resources", "Resources of the index by condition", self.resources.clone());
        registry.register("watcher_overflows", "Times the file watcher lost events", self.watcher_overflows.clone());
        registry.register("commits", "Commits of configuration by outcome", self.commits.clone());
        registry.register("pushes", "Pushes by outcome", self.pushes.clone());
        registry.register("nodes", "Nodes that work on the shared ledger", self.nodes.clone());
        registry.register(
            "index_differs",
            "1 while the index of this node is not that of most nodes",
            self.index_differs.clone(),
        );
        registry.register("push_lag_seconds", "Age of the oldest commit that is not pushed", self.push_lag.clone());
        registry.register("copies", "Pushes into cloud copies by copy and outcome", self.copies.clone());
        registry.register("copy_lag_seconds", "Age of the oldest commit that a copy has not", self.copy_lag.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ack_histogram_has_an_edge_at_the_objective() {
        let metrics = Metrics::new();
        metrics.series().ack_duration.observe(0.199);
        let text = metrics.encode().unwrap();
        assert!(text.contains("skillhook_ack_duration_seconds_bucket{le=\"0.2\"} 1"), "{text}");
        assert!(text.contains("skillhook_ack_duration_seconds_bucket{le=\"0.08\"} 0"), "{text}");
    }

    #[test]
    fn gauges_show_what_was_observed_last() {
        let metrics = Metrics::new();
        metrics.observe_queue(Queue {
            queued: 3,
            oldest_queued: Some(Duration::from_millis(1500)),
            ..Queue::default()
        });
        metrics.observe_queue(Queue { queued: 1, ..Queue::default() });
        let text = metrics.encode().unwrap();
        assert!(text.contains("skillhook_tasks{state=\"queued\"} 1"), "{text}");
        assert!(text.contains("skillhook_oldest_queued_age_seconds 0"), "{text}");
    }

    #[test]
    fn lines_about_refusals_are_bounded_and_the_rest_is_counted() {
        let metrics = Metrics::new();
        let written = (0..1000).filter(|_| metrics.refusal_line().is_some()).count();
        assert!((50..60).contains(&written), "{written}");
        metrics.inner.refusals.lock().unwrap().bucket = Bucket::full(REFUSAL_LINES, Duration::ZERO);
        assert_eq!(metrics.refusal_line(), Some(1000 - written as u64));
    }

    #[test]
    fn a_connection_is_open_for_as_long_as_its_value_lives() {
        let metrics = Metrics::new();
        let open = metrics.connection();
        assert!(metrics.encode().unwrap().contains("skillhook_connections 1"));
        drop(open);
        assert!(metrics.encode().unwrap().contains("skillhook_connections 0"));
    }
}
