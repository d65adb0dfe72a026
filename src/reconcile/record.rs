//! Records in git what a pass published: the served tree at once, the commit a moment later. It follows the newest
//! publication and skips what it overtook; trouble here never holds a pass up, and the network is another part's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::activator::{Activator, Scope};
use super::message::changes;
use super::origins::{Matching, Origins};
use super::pass::{Published, Unrecorded};
use super::source::Remote;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::model::backoff;
use crate::model::change::Origin;
use crate::model::digest::Digest;
use crate::model::revision::CommitId;
use crate::repo::{CommitOutcome, CommitRequest, HeldReason, Repository, message_for};
use crate::seam::{Clock, random};

/// Edits that come within this are one commit.
const GATHER: Duration = Duration::from_millis(300);
/// Longest wait before a failed step is tried again.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// How far recording has come, for `status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Progress {
    /// The newest revision whose tree runs can use.
    pub served: Option<Digest>,
    pub committed: Step,
    /// The index that this commit makes, where it has everything that is in force.
    pub index: Option<Digest>,
    pub pushed: Step,
    pub remote: Remote,
}

/// One step of recording.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Step {
    /// The commit that this step has brought about or found to be right.
    pub commit: Option<String>,
    pub at: Option<Timestamp>,
    /// What is in its way.
    pub trouble: Option<String>,
}

/// Records publications of one repository.
pub struct Recorder {
    pub repository: Repository,
    pub ledger: Ledger,
    pub contents: Unrecorded,
    /// Who wrote what is not committed yet.
    pub origins: Origins,
    pub clock: Clock,
    pub progress: watch::Sender<Progress>,
    /// Wakes a pass when the branch moved under the last one.
    pub activator: Activator,
    /// The newest commit that is known to hold what was published.
    pub committed: watch::Sender<Option<String>>,
    pub commits: bool,
    /// Even without news, held commits are tried again after this.
    pub poll: Duration,
}

impl Recorder {
    /// Follows the publications until the token is cancelled.
    pub async fn run(self, mut published: watch::Receiver<Option<Published>>, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut failures = 0_u32;
        loop {
            let Some(newest) = published.borrow_and_update().clone() else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = published.changed() => if changed.is_err() { return } else { continue },
                }
            };
            let outcome = match this.serve(&newest).await {
                Ok(()) => {
                    let newest = this.gather(newest, &mut published, &stop).await;
                    this.record(&newest).await
                }
                Err(error) => Err(error),
            };
            let wait = match outcome {
                Ok(true) => {
                    failures = 0;
                    this.poll
                }
                Ok(false) => {
                    failures = failures.saturating_add(1);
                    backoff::delay(failures, random(), None).min(RETRY_MAX)
                }
                Err(error) => {
                    tracing::warn!(error = error.internal(), "git could not record the change, it is tried again");
                    this.progress.send_modify(|progress| progress.committed.trouble = Some(error.message().to_owned()));
                    failures = failures.saturating_add(1);
                    backoff::delay(failures, random(), None).min(RETRY_MAX)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = published.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Waits a moment for more edits, when the tree has some; answers the newest publication.
    async fn gather(
        &self,
        mut newest: Published,
        published: &mut watch::Receiver<Option<Published>>,
        stop: &CancellationToken,
    ) -> Published {
        if !self.commits || newest.report.actions.is_empty() {
            return newest;
        }
        let until = tokio::time::Instant::now() + GATHER;
        loop {
            tokio::select! {
                () = stop.cancelled() => return newest,
                () = tokio::time::sleep_until(until) => return newest,
                changed = published.changed() => {
                    if changed.is_err() { return newest }
                    newest = published.borrow_and_update().clone().unwrap_or(newest);
                }
            }
        }
    }

    /// Whether everything is recorded; false: something is in the way that may go by itself.
    async fn record(self: &Arc<Self>, newest: &Published) -> Result<bool> {
        self.serve(newest).await?;
        if !self.commits {
            for pending in self.origins.matching(&newest.tree, newest.report.number) {
                if pending.settled {
                    self.origins.settle(pending.id, None);
                }
            }
            return Ok(true);
        }
        self.commit(newest).await
    }

    async fn serve(self: &Arc<Self>, newest: &Published) -> Result<()> {
        if self.progress.borrow().served == Some(newest.served.digest) {
            return Ok(());
        }
        let (this, served) = (Arc::clone(self), Arc::clone(&newest.served));
        blocking(move || {
            this.repository.write_served(&served, &|path| this.contents.get(path))?;
            this.contents.recorded(&served);
            Ok(())
        })
        .await?;
        self.progress.send_modify(|progress| progress.served = Some(newest.served.digest));
        let mut keep = self.ledger.pinned_revisions().await?;
        keep.extend([newest.served.digest, newest.tree.digest]);
        let this = Arc::clone(self);
        blocking(move || this.repository.prune_served(&keep)).await?;
        Ok(())
    }

    /// One commit for each origin, in the order of their edits, and one for what people have put into files.
    async fn commit(self: &Arc<Self>, newest: &Published) -> Result<bool> {
        let mut overtaken = Vec::new();
        let mut held = (*newest.held).clone();
        for pending in self.origins.matching(&newest.tree, newest.report.number) {
            if !pending.settled && pending.paths.len() < pending.entry.files.len() {
                // It is being written: its files are committed together.
                held.extend(pending.entry.files.into_keys());
            } else if pending.paths.is_empty() {
                overtaken.push(pending);
            } else if pending.paths.iter().any(|path| newest.holds(path)) {
                // What is in force is not what was written: a later pass knows more.
            } else if !self.commit_pending(newest, pending).await? {
                return Ok(false);
            }
        }
        let recorded = self.commit_files(newest, held, None, Origin::File, None).await?;
        let done = recorded.is_some();
        for pending in overtaken {
            self.origins.settle(pending.id, recorded.clone().flatten());
        }
        Ok(done)
    }

    async fn commit_pending(self: &Arc<Self>, newest: &Published, pending: Matching) -> Result<bool> {
        let Matching { id, entry, paths, .. } = pending;
        let only = Some(paths.into_iter().collect());
        let held = (*newest.held).clone();
        let recorded = self.commit_files(newest, held, only, entry.origin, Some(entry.actor)).await?;
        let done = recorded.is_some();
        if let Some(commit) = recorded {
            self.origins.settle(id, commit);
        }
        Ok(done)
    }

    /// The commit that has these files now; the outer `None`: something is in the way.
    async fn commit_files(
        self: &Arc<Self>,
        newest: &Published,
        held: BTreeSet<String>,
        only: Option<BTreeSet<String>>,
        origin: Origin,
        actor: Option<String>,
    ) -> Result<Option<Option<CommitId>>> {
        let this = Arc::clone(self);
        let (tree, state) = (Arc::clone(&newest.tree), Arc::clone(&newest.state));
        let whole = only.is_none() && held == *newest.held;
        let upon = newest.upon.clone();
        let outcome = blocking(move || {
            this.repository.write_served(&tree, &|path| this.contents.get(path))?;
            this.contents.recorded(&tree);
            let mut trailers = vec![("Skillhook-Origin".to_owned(), origin.to_string())];
            trailers.extend(actor.map(|actor| ("Skillhook-Actor".to_owned(), actor)));
            trailers.push(("Skillhook-Index".to_owned(), state.digest.to_string()));
            this.repository.commit(&CommitRequest {
                revision: &tree,
                upon,
                held: &held,
                only: only.as_ref(),
                message: &|paths| message_for(&changes(paths, &state.observed)),
                trailers,
                author: None,
            })
        });
        let (recorded, trouble) = match outcome.await? {
            CommitOutcome::Committed { commit, paths, .. } => {
                tracing::info!(%commit, %origin, paths = paths.len(), "committed");
                self.ledger.note("repo.committed", None, format!("commit {commit}")).await?;
                (Some(Some(commit)), None)
            }
            CommitOutcome::Unchanged => (Some(self.head().await?), None),
            CommitOutcome::Held { reason: HeldReason::HeadMoved, .. } => {
                // What was seen may be older than the branch: look again before anything is undone.
                self.activator.activate(Scope::Everything, "branch moved");
                (None, Some(HeldReason::HeadMoved.to_string()))
            }
            CommitOutcome::Held { reason, paths } => {
                tracing::warn!(%reason, paths = paths.len(), "the change is not committed yet");
                (None, Some(reason.to_string()))
            }
        };
        if let Some(commit) = recorded.as_ref().and_then(Option::as_ref) {
            self.committed.send_if_modified(|known| {
                let news = known.as_deref() != Some(commit.as_str());
                *known = Some(commit.to_string());
                news
            });
        }
        let now = self.clock.now();
        self.progress.send_modify(|progress| {
            progress.index = (whole && recorded.is_some()).then_some(newest.state.digest);
            let known = progress.committed.commit.take();
            let commit = recorded.clone().flatten().map(|commit| commit.to_string()).or(known);
            progress.committed = Step { commit, at: Some(now), trouble };
        });
        Ok(recorded)
    }

    async fn head(self: &Arc<Self>) -> Result<Option<CommitId>> {
        let this = Arc::clone(self);
        blocking(move || this.repository.head()).await
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(crate::error::Code::Bug, "a git step panicked").detail(error)),
    }
}
