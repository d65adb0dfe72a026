//! The small loops beside the large parts: the timer, requests for a pass, maintenance.

use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error};
use crate::http::api::state::{PassReport, PassRequest};
use crate::ledger::Ledger;
use crate::reconcile::activator::{Activator, Scope};
use crate::reconcile::pass::Published;
use crate::reconcile::source::Bell;
use crate::seam::{Clock, random};
use crate::telemetry::metrics::{Metrics, Queue};
use crate::workspace::Workspaces;

/// Longest wait for a pass that somebody asked for.
const PASS_WAIT: Duration = Duration::from_secs(60);
/// How often workspaces are swept.
const HOUSEKEEPING: Duration = Duration::from_secs(10 * 60);
/// A conversation that nobody continued for so long begins anew.
const WORKSPACE_AGE_MAX: SignedDuration = SignedDuration::from_hours(30 * 24);
/// All workspaces together, in bytes.
const WORKSPACES_BYTES_MAX: u64 = 4 << 30;
/// How often it is looked for what expired, when nothing else says so.
const EXPIRY: Duration = Duration::from_secs(1);
/// How often the queue is looked at; the charts show minutes.
const SAMPLING: Duration = Duration::from_secs(20);
/// How often old rows are looked for.
const MAINTENANCE: Duration = Duration::from_secs(10);
/// How often where several nodes share the ledger.
const MAINTENANCE_SHARED: Duration = Duration::from_secs(10 * 60);

/// Looks at everything now and then, whatever the watcher says; a tenth earlier or later, so that replicas drift apart.
pub(super) async fn timer(activator: Activator, poll: Duration, stop: CancellationToken) {
    loop {
        let jitter = 0.9 + 0.2 * (random() as f64 / u64::MAX as f64);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(poll.mul_f64(jitter)) => { activator.activate(Scope::Everything, "timer"); }
        }
    }
}

/// Answers those who ask for a pass with what it came to.
pub(super) async fn requests(
    mut requests: mpsc::Receiver<PassRequest>,
    activator: Activator,
    bell: Bell,
    published: watch::Receiver<Option<Published>>,
    stop: CancellationToken,
) {
    loop {
        let request = tokio::select! {
            () = stop.cancelled() => return,
            request = requests.recv() => match request { Some(request) => request, None => return },
        };
        let (activator, bell, published) = (activator.clone(), bell.clone(), published.clone());
        tokio::spawn(async move {
            // A remote that is away does not keep the files from being looked at.
            if request.asked.with_source {
                bell.answered(bell.ring(), PASS_WAIT).await;
            }
            let number = match request.asked.allow_prune {
                true => activator.activate_allowing_prune("request"),
                false => activator.activate(Scope::Everything, "request"),
            };
            let done = activator.finished(number, PASS_WAIT).await;
            let newest = published.borrow().clone();
            let answer = match newest {
                Some(newest) if done => Ok(report(&newest)),
                _ => Err(Error::new(Code::TimedOut, "the pass has not ended yet")),
            };
            let _ = request.done.send(answer);
        });
    }
}

fn report(newest: &Published) -> PassReport {
    let held = newest.report.prune_held;
    PassReport {
        index_digest: newest.report.index_digest,
        revision: newest.report.revision,
        actions: newest.report.actions.iter().map(ToString::to_string).collect(),
        held: (held > 0).then(|| format!("{held} deletions wait for `skillhook reconcile --allow-prune`")),
        diagnostics: newest.state.observed.diagnostics().into_iter().chain(newest.report.problems.clone()).collect(),
    }
}

/// Removes workspaces that were not used for long, and the oldest ones while all together are too large.
pub(super) async fn housekeeping(workspaces: Workspaces, clock: Clock, stop: CancellationToken) {
    loop {
        let (workspaces, now) = (workspaces.clone(), clock.now());
        let swept = tokio::task::spawn_blocking(move || workspaces.sweep(now, WORKSPACE_AGE_MAX, WORKSPACES_BYTES_MAX));
        match swept.await {
            Ok(Ok(swept)) => tracing::debug!(removed = swept.removed, kept = swept.kept, "workspaces were swept"),
            Ok(Err(error)) => tracing::warn!(error = error.internal(), "workspaces cannot be swept"),
            Err(_) => return,
        }
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(HOUSEKEEPING) => {} }
    }
}

/// Ends what waited too long for a person.
pub(super) async fn expiry(ledger: Ledger, clock: Clock, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match ledger.expire(clock.now()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "tasks expired that waited for a person"),
            Err(error) => tracing::debug!(error = error.internal(), "what expired cannot be ended now"),
        }
        tokio::select! { () = stop.cancelled() => {}, () = ledger.work_signal(EXPIRY) => {} }
    }
}

/// Looks at the queue now and then, so that its past can be shown.
pub(super) async fn sampler(ledger: Ledger, metrics: Metrics, clock: Clock, stop: CancellationToken) {
    loop {
        if let Ok(depth) = ledger.depth().await {
            metrics.observe_queue(Queue::of(&depth, clock.now()));
        }
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(SAMPLING) => {} }
    }
}

/// Forgets what is old.
pub(super) async fn maintenance(ledger: Ledger, clock: Clock, stop: CancellationToken) {
    // Looking for what is old reads much: over the network, and for all nodes, seldom and by one of them.
    let every = if ledger.node().is_some() { MAINTENANCE_SHARED } else { MAINTENANCE };
    loop {
        if ledger.leads()
            && let Err(error) = ledger.maintain(clock.now()).await
        {
            tracing::debug!(error = error.internal(), "old rows cannot be removed now");
        }
        tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(every) => {} }
    }
}
