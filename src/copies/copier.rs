//! Follows the recorder and keeps one copy up to date: in order, with backoff, behind the commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::manifest::Rules;
use super::push::{Pushed, Pusher, Target};
use super::sweep;
use super::{CloudCopy, Key};
use crate::error::Result;
use crate::model::backoff;
use crate::model::revision::CommitId;
use crate::reconcile::record::Progress;
use crate::repo::Repository;
use crate::seam::{Clock, random};
use crate::telemetry::event::{CopyEnded, Event as _};
use crate::telemetry::metrics::Metrics;

/// Longest wait before a failed push is tried again.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How often what nothing reaches is looked for.
const SWEEP: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the lag is told while something waits.
const TELL: Duration = Duration::from_secs(10);

/// How far a copy has come, for `status` and conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Where it is, without anything secret.
    pub place: String,
    /// The commit that the copy holds.
    pub commit: Option<String>,
    pub sequence: u64,
    pub at: Option<Timestamp>,
    /// What is in its way.
    pub trouble: Option<String>,
    /// Since when a commit waits.
    pub behind_since: Option<Timestamp>,
}

/// Keeps one copy.
pub struct Copier {
    name: String,
    pusher: Arc<Pusher>,
    progress: watch::Sender<BTreeMap<String, Copied>>,
    clock: Clock,
    metrics: Metrics,
    poll: Duration,
}

/// What a copier is made of.
pub struct Parts {
    pub name: String,
    pub place: String,
    pub copy: Arc<dyn CloudCopy>,
    pub key: Option<Key>,
    pub repository: Repository,
    pub rules: Rules,
    pub history: bool,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Of all copies, by name.
    pub progress: watch::Sender<BTreeMap<String, Copied>>,
    /// Even without news, what failed is tried again after this.
    pub poll: Duration,
}

impl Copier {
    pub fn new(parts: Parts) -> Self {
        let place = parts.place.clone();
        parts.progress.send_modify(|all| {
            all.insert(parts.name.clone(), Copied { place, ..Copied::default() });
        });
        let pusher = Pusher {
            name: parts.name.clone(),
            copy: parts.copy,
            key: parts.key,
            repository: parts.repository,
            rules: parts.rules,
            history: parts.history,
            clock: parts.clock.clone(),
            seen: Mutex::new(None),
        };
        Self {
            name: parts.name,
            pusher: Arc::new(pusher),
            progress: parts.progress,
            clock: parts.clock,
            metrics: parts.metrics,
            poll: parts.poll,
        }
    }

    /// Follows what is recorded until the token is cancelled.
    pub async fn run(self, mut recorded: watch::Receiver<Progress>, stop: CancellationToken) {
        let mut failures = 0_u32;
        let mut swept: Option<tokio::time::Instant> = None;
        loop {
            let Some(target) = target(&recorded.borrow_and_update()) else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = recorded.changed() => if changed.is_err() { return } else { continue },
                }
            };
            self.note(|copied, now| {
                let behind = copied.commit.as_deref() != Some(target.commit.as_str());
                copied.behind_since = if behind { copied.behind_since.or(Some(now)) } else { None };
            });
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.pusher.push(&target) => outcome,
            };
            self.tell(&target, &outcome);
            let wait = match outcome {
                Ok(_) => {
                    failures = 0;
                    if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                        swept = Some(tokio::time::Instant::now());
                        self.sweep(&stop).await;
                    }
                    self.poll
                }
                Err(_) => {
                    failures = failures.saturating_add(1);
                    backoff::delay(failures, random(), None).min(RETRY_MAX)
                }
            };
            if !self.wait(wait, &mut recorded, &stop).await {
                return;
            }
        }
    }

    /// Until there is news or the time has come; false: it is over.
    async fn wait(&self, wait: Duration, recorded: &mut watch::Receiver<Progress>, stop: &CancellationToken) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                () = stop.cancelled() => return false,
                changed = recorded.changed() => return changed.is_ok(),
                () = tokio::time::sleep_until(until) => return true,
                () = tokio::time::sleep(TELL) => self.metrics.observe_copy_lag(&self.name, self.lag()),
            }
        }
    }

    fn tell(&self, target: &Target, outcome: &Result<Pushed>) {
        self.note(|copied, now| match outcome {
            Ok(pushed) => {
                copied.sequence = pushed.sequence;
                copied.at = Some(now);
                copied.commit = Some(target.commit.to_string());
                copied.behind_since = None;
                copied.trouble = pushed.without_history.as_ref().map(|why| format!("without history: {why}"));
            }
            Err(error) => copied.trouble = Some(error.message().to_owned()),
        });
        let (outcome, lag) = (outcome.as_ref().map(|pushed| pushed.manifests), self.lag());
        CopyEnded { copy: &self.name, outcome, lag }.emit(&self.metrics);
    }

    async fn sweep(&self, stop: &CancellationToken) {
        let swept = tokio::select! {
            () = stop.cancelled() => return,
            swept = sweep::sweep(&*self.pusher.copy, self.pusher.key.as_ref(), self.clock.now()) => swept,
        };
        match swept {
            Ok(removed) => tracing::debug!(copy = self.name, removed, "what nothing reaches was removed"),
            Err(error) => tracing::warn!(copy = self.name, error = error.internal(), "nothing was removed"),
        }
    }

    fn lag(&self) -> Duration {
        let since = self.progress.borrow().get(&self.name).and_then(|copied| copied.behind_since);
        let lag = since.map(|since| self.clock.now().duration_since(since));
        lag.and_then(|lag| Duration::try_from(lag).ok()).unwrap_or_default()
    }

    fn note(&self, change: impl FnOnce(&mut Copied, Timestamp)) {
        let now = self.clock.now();
        self.progress.send_if_modified(|all| {
            let copied = all.entry(self.name.clone()).or_default();
            let before = copied.clone();
            change(copied, now);
            *copied != before
        });
    }
}

fn target(recorded: &Progress) -> Option<Target> {
    let commit = CommitId::parse(recorded.committed.commit.as_deref()?).ok()?;
    Some(Target { commit, index: recorded.index })
}
