//! Keeps our branch and its remote together: fetch, pull, push, behind the recorder and beside the pass.
//!
//! Woken by a new commit, by its own poll, and by whoever rings the [`Bell`]: a delivery from the repository itself, a
//! signal, a person. Nobody says what changed. While the remote is away, only the back-off and the bell make it try
//! again. Pulled files are looked at by the next pass as if somebody had edited them; this part decides nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activator::Activator;
use super::pass::Published;
use super::pause::Pause;
use super::record::{Progress, Step, blocking};
use crate::error::Result;
use crate::ledger::Ledger;
use crate::model::backoff;
use crate::model::provider::Review;
use crate::repo::{ConflictBranch, FetchOutcome, PullOutcome, PushOutcome, Refusal, Repository, Skipped};
use crate::seam::{Clock, random};

/// Longest wait before a remote that was away is tried again.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Pushes of one round: somebody else may push in between.
const PUSHES_MAX: usize = 3;
/// More entries than these that a pull does not write are counted, not told one by one.
const SKIPPED_TOLD: usize = 20;
/// At the start edits that were made while nothing ran are committed first, if that does not take longer.
const RECORDED_FIRST: Duration = Duration::from_secs(5);

/// Where we and the remote stand.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Remote {
    /// When it answered last.
    pub at: Option<Timestamp>,
    /// What its branch had then.
    pub commit: Option<String>,
    /// Commits that we have and it has not.
    pub ahead: usize,
    /// Commits that it has and we have not.
    pub behind: usize,
    pub distance: Distance,
    /// Branches that hold our side of conflicts, until a person deletes them.
    pub conflicts: Vec<ConflictBranch>,
    /// What the last pull did not write, because no file here may be such a thing.
    pub skipped: Vec<Skipped>,
    /// The commit that the remote's rules refused: it is proposed instead.
    pub refused: Option<String>,
    /// What is in the way.
    pub trouble: Option<String>,
}

/// A branch that waits for review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proposed {
    pub branch: String,
    pub commit: String,
    /// Where a person opens a request for it.
    pub page: Option<String>,
    /// The pull or merge request, where the provider has one.
    pub review: Option<Review>,
    pub trouble: Option<String>,
}

/// The same in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Distance {
    #[default]
    Unknown,
    NoRemote,
    Level,
    Ahead,
    Behind,
    Diverged,
    Deleted,
}

/// Asks for a look at the remote now. A cheap handle; however often it is rung meanwhile, one look answers all.
#[derive(Clone, Debug)]
pub struct Bell {
    rung: Arc<watch::Sender<u64>>,
    answered: Arc<watch::Sender<u64>>,
}

impl Default for Bell {
    fn default() -> Self {
        Self { rung: Arc::new(watch::channel(0).0), answered: Arc::new(watch::channel(0).0) }
    }
}

impl Bell {
    /// Answers the number that [`Bell::answered`] waits for.
    pub fn ring(&self) -> u64 {
        let mut number = 0;
        self.rung.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        number
    }

    /// Waits until the remote was asked after that ring; false when `at_most` passed first.
    pub async fn answered(&self, number: u64, at_most: Duration) -> bool {
        let mut answered = self.answered.subscribe();
        let reached = answered.wait_for(|done| *done >= number);
        matches!(tokio::time::timeout(at_most, reached).await, Ok(Ok(_)))
    }

    async fn rung_after(&self, number: u64) {
        let mut rung = self.rung.subscribe();
        // The sender lives as long as this handle.
        let _ = rung.wait_for(|count| *count > number).await;
    }
}

/// Keeps one branch and its remote together.
pub struct Source {
    pub repository: Repository,
    pub ledger: Ledger,
    pub activator: Activator,
    pub clock: Clock,
    pub bell: Bell,
    pub progress: watch::Sender<Progress>,
    pub published: watch::Receiver<Option<Published>>,
    pub pause: Pause,
    pub pulls: bool,
    pub pushes: bool,
    pub network: Duration,
    /// The remote is asked this often even if nobody rings.
    pub poll: Duration,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Both sides have the same, as far as we may bring that about.
    Level,
    /// Something here has to change first.
    Held,
    /// The remote's rules want a review first.
    Refused,
    /// The remote cannot be reached, or it moves faster than we do.
    Away,
}

impl Source {
    /// Follows the recorder's commits until the token is cancelled.
    pub async fn run(self, mut committed: watch::Receiver<Option<String>>, stop: CancellationToken) {
        let this = Arc::new(self);
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tokio::time::timeout(RECORDED_FIRST, committed.wait_for(Option::is_some)) => {}
        }
        let (mut failures, mut look) = (0_u32, true);
        loop {
            committed.borrow_and_update();
            let rung = *this.bell.rung.borrow();
            let outcome = tokio::select! {
                () = stop.cancelled() => {
                    this.repository.stop_network();
                    return;
                }
                outcome = this.round(look) => outcome,
            };
            let standing = outcome.unwrap_or_else(|error| {
                tracing::warn!(error = error.internal(), "the remote could not be reconciled with, it is tried again");
                this.hinder(error.message().to_owned());
                Standing::Away
            });
            this.measure(standing).await;
            this.bell.answered.send_replace(rung);
            failures =
                if matches!(standing, Standing::Level | Standing::Refused) { 0 } else { failures.saturating_add(1) };
            let wait = match standing {
                Standing::Level | Standing::Refused => {
                    this.poll.mul_f64(0.9 + 0.2 * (random() as f64 / u64::MAX as f64))
                }
                Standing::Held | Standing::Away => backoff::delay(failures, random(), None).min(RETRY_MAX),
            };
            let until = Instant::now() + wait;
            look = loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = this.bell.rung_after(rung) => break true,
                    () = tokio::time::sleep_until(until) => break true,
                    changed = committed.changed() => {
                        if changed.is_err() { return }
                        match standing {
                            Standing::Level | Standing::Refused => break false,
                            Standing::Held => break true,
                            Standing::Away => this.measure(standing).await,
                        }
                    }
                }
            };
        }
    }

    async fn round(self: &Arc<Self>, look: bool) -> Result<Standing> {
        if self.pause.is_on() {
            return Ok(Standing::Level);
        }
        if look {
            let standing = self.take_in().await?;
            if standing != Standing::Level {
                return Ok(standing);
            }
        }
        if !self.pushes {
            return Ok(Standing::Level);
        }
        for _ in 0..PUSHES_MAX {
            let standing = match self.give_out().await? {
                PushOutcome::Pushed { .. } | PushOutcome::UpToDate | PushOutcome::NoRemote => {
                    return self.give_out_conflicts().await;
                }
                PushOutcome::Rejected { refusal: Refusal::NonFastForward, .. } if self.pulls => self.take_in().await?,
                PushOutcome::Rejected { refusal: Refusal::ByRemote, .. } => Standing::Refused,
                PushOutcome::Rejected { refusal: Refusal::NonFastForward, .. } => Standing::Held,
                PushOutcome::Unavailable { .. } => Standing::Away,
            };
            if standing != Standing::Level {
                return Ok(standing);
            }
        }
        Ok(Standing::Away)
    }

    /// Fetches, and brings what came into our branch and files.
    async fn take_in(self: &Arc<Self>) -> Result<Standing> {
        if !self.pulls {
            return Ok(Standing::Level);
        }
        let this = Arc::clone(self);
        match blocking(move || this.repository.fetch(this.network)).await? {
            FetchOutcome::Fetched { .. } => {}
            FetchOutcome::NoRemote | FetchOutcome::NoBranch => {
                self.progress.send_modify(|progress| progress.remote.trouble = None);
                return Ok(Standing::Level);
            }
            FetchOutcome::BranchDeleted => {
                let trouble = "the branch was deleted on the remote: nothing is pushed until somebody pushes it again";
                self.progress.send_modify(|progress| progress.remote.distance = Distance::Deleted);
                self.hinder(trouble.to_owned());
                return Ok(Standing::Held);
            }
            FetchOutcome::Unavailable { reason } => {
                tracing::warn!(%reason, "the remote does not answer, it is tried again");
                self.hinder(reason);
                return Ok(Standing::Away);
            }
        }
        let now = self.clock.now();
        self.progress.send_modify(|progress| {
            progress.remote.at = Some(now);
            progress.remote.distance = Distance::Unknown;
        });
        let invalid = self.published.borrow().as_ref().map(|newest| Arc::clone(&newest.held));
        let this = Arc::clone(self);
        let outcome = blocking(move || this.repository.pull(invalid.as_deref().unwrap_or(&BTreeSet::new()))).await?;
        self.arrived(outcome).await
    }

    async fn arrived(self: &Arc<Self>, outcome: PullOutcome) -> Result<Standing> {
        let trouble = match outcome {
            PullOutcome::UpToDate | PullOutcome::NoUpstream => None,
            PullOutcome::Applied { to, how, paths, deleted, skipped, conflict, .. } => {
                // First of all: the files are there.
                self.activator.activate_after_pull(deleted.into_iter().collect());
                tracing::info!(commit = %to, ?how, paths = paths.len(), skipped = skipped.len(), "pulled");
                self.ledger.note("repo.pulled", None, format!("commit {to}")).await?;
                for Skipped { path, reason } in skipped.iter().take(SKIPPED_TOLD) {
                    tracing::warn!(%path, reason, "an entry of the remote is not written");
                    self.ledger.note("repo.skipped", None, format!("`{path}` is not written: {reason}")).await?;
                }
                self.progress.send_modify(|progress| progress.remote.skipped = skipped);
                if let Some(conflict) = conflict {
                    let (branch, paths) = (conflict.branch, conflict.paths.join("`, `"));
                    tracing::warn!(%branch, "changes of ours conflict with the remote's, which are in force");
                    let message = format!("the remote's version of `{paths}` is in force, ours is on `{branch}`");
                    self.ledger.note("repo.conflict", None, message).await?;
                }
                None
            }
            PullOutcome::Diverged { ahead, behind, paths } => {
                let paths = if paths.is_empty() { String::new() } else { format!(" in `{}`", paths.join("`, `")) };
                Some(format!(
                    "commits of people ({ahead} here, {behind} on the remote) conflict{paths}: merge them by hand"
                ))
            }
            PullOutcome::Held { reason, paths } if paths.is_empty() => Some(reason.to_string()),
            PullOutcome::Held { reason, paths } => Some(format!("{reason}: `{}`", paths.join("`, `"))),
        };
        if let Some(trouble) = &trouble {
            tracing::warn!(%trouble, "what the remote has cannot be taken over yet");
        }
        let standing = if trouble.is_none() { Standing::Level } else { Standing::Held };
        self.progress.send_modify(|progress| progress.remote.trouble = trouble);
        Ok(standing)
    }

    async fn give_out(self: &Arc<Self>) -> Result<PushOutcome> {
        let this = Arc::clone(self);
        let outcome = blocking(move || this.repository.push(this.network)).await?;
        let now = self.clock.now();
        let refused = match &outcome {
            PushOutcome::Rejected { refusal: Refusal::ByRemote, .. } => self.head().await?,
            _ => None,
        };
        let step = match &outcome {
            PushOutcome::Pushed { commit } => {
                tracing::info!(%commit, "pushed");
                self.ledger.note("repo.pushed", None, format!("commit {commit}")).await?;
                Step { commit: Some(commit.to_string()), at: Some(now), trouble: None }
            }
            PushOutcome::UpToDate => Step { commit: self.head().await?, at: Some(now), trouble: None },
            PushOutcome::NoRemote => Step { commit: None, at: None, trouble: Some("there is no remote".into()) },
            PushOutcome::Rejected { reason, .. } | PushOutcome::Unavailable { reason } => {
                tracing::warn!(%reason, "the commit could not be pushed, it is tried again");
                Step { commit: None, at: Some(now), trouble: Some(reason.clone()) }
            }
        };
        self.progress.send_modify(|progress| {
            progress.remote.refused = refused;
            if step.trouble.is_none() {
                progress.remote.at = Some(now);
                progress.remote.trouble = None;
            }
            let commit = step.commit.clone().or_else(|| progress.pushed.commit.clone());
            progress.pushed = Step { commit, ..step };
        });
        Ok(outcome)
    }

    async fn give_out_conflicts(self: &Arc<Self>) -> Result<Standing> {
        let this = Arc::clone(self);
        match blocking(move || this.repository.push_conflicts(this.network)).await? {
            None => Ok(Standing::Level),
            Some(reason) => {
                self.hinder(format!("our side of a conflict could not be pushed: {reason}"));
                Ok(Standing::Held)
            }
        }
    }

    async fn head(self: &Arc<Self>) -> Result<Option<String>> {
        let this = Arc::clone(self);
        Ok(blocking(move || this.repository.head()).await?.map(|commit| commit.to_string()))
    }

    fn hinder(&self, trouble: String) {
        self.progress.send_modify(|progress| progress.remote.trouble = Some(trouble));
    }

    /// Says where both sides stand now.
    async fn measure(self: &Arc<Self>, standing: Standing) {
        let this = Arc::clone(self);
        let Ok(status) = blocking(move || this.repository.status()).await else { return };
        self.progress.send_modify(|progress| {
            let remote = &mut progress.remote;
            remote.conflicts = status.conflicts;
            let Some(upstream) = status.upstream else {
                remote.distance = Distance::NoRemote;
                return;
            };
            remote.commit = upstream.commit.map(|commit| commit.to_string());
            (remote.ahead, remote.behind) = (upstream.ahead, upstream.behind);
            if remote.distance != Distance::Deleted {
                remote.distance = match (remote.ahead, remote.behind) {
                    (0, 0) => Distance::Level,
                    (_, 0) => Distance::Ahead,
                    (0, _) => Distance::Behind,
                    _ => Distance::Diverged,
                };
            }
            if standing != Standing::Level && (remote.ahead > 0 || remote.distance == Distance::Deleted) {
                progress.pushed.trouble = remote.trouble.clone().or(progress.pushed.trouble.take());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_look_answers_every_ring_before_it() {
        let bell = Bell::default();
        let (first, second) = (bell.ring(), bell.ring());
        bell.rung_after(first).await;
        assert!(!bell.answered(second, Duration::from_millis(1)).await);
        bell.answered.send_replace(second);
        assert!(bell.answered(first, Duration::from_millis(1)).await);
        assert!(bell.answered(second, Duration::from_millis(1)).await);
    }
}
