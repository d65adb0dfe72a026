//! Records in git what a pass published: the served tree at once, the commit a moment later, the push with backoff.
//! It follows the newest publication and skips what it overtook; trouble here never holds a pass up.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::pass::{Contents, Published};
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::model::backoff;
use crate::model::digest::Digest;
use crate::model::plan::{Action, Verb};
use crate::repo::{Author, CommitOutcome, CommitRequest, PushOutcome, Repository};
use crate::seam::{Clock, random};

/// Edits that come within this are one commit.
const GATHER: Duration = Duration::from_millis(300);
/// Longest wait before a failed step is tried again.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Actions remembered for the next commit message; more are counted only.
const ACTIONS_MAX: usize = 1000;

/// How far recording has come, for `status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Progress {
    /// The newest revision whose tree runs can use.
    pub served: Option<Digest>,
    pub committed: Step,
    pub pushed: Step,
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
#[derive(Debug)]
pub struct Recorder {
    pub repository: Repository,
    pub ledger: Ledger,
    pub contents: Contents,
    pub clock: Clock,
    pub progress: watch::Sender<Progress>,
    pub commits: bool,
    pub pushes: bool,
    pub author: Author,
    pub network: Duration,
    /// Even without news, held commits and failed pushes are tried again after this.
    pub poll: Duration,
}

impl Recorder {
    /// Follows the publications until the token is cancelled.
    pub async fn run(self, mut published: watch::Receiver<Option<Published>>, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut failures = 0_u32;
        let mut gathered: Vec<Action> = Vec::new();
        loop {
            let Some(newest) = published.borrow_and_update().clone() else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = published.changed() => if changed.is_err() { return } else { continue },
                }
            };
            let outcome = match this.serve(&newest).await {
                Ok(()) => {
                    let newest = this.gather(newest, &mut gathered, &mut published, &stop).await;
                    this.record(&newest, &gathered).await
                }
                Err(error) => Err(error),
            };
            let wait = match outcome {
                Ok(true) => {
                    failures = 0;
                    gathered.clear();
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

    /// Waits a moment for more edits; answers the newest publication and adds what was done to `gathered`.
    async fn gather(
        &self,
        newest: Published,
        gathered: &mut Vec<Action>,
        published: &mut watch::Receiver<Option<Published>>,
        stop: &CancellationToken,
    ) -> Published {
        let add = |gathered: &mut Vec<Action>, from: &Published| {
            let room = ACTIONS_MAX.saturating_sub(gathered.len());
            gathered.extend(from.report.actions.iter().take(room).cloned());
        };
        add(gathered, &newest);
        if !self.commits || newest.report.actions.is_empty() {
            return newest;
        }
        let until = tokio::time::Instant::now() + GATHER;
        let mut newest = newest;
        loop {
            tokio::select! {
                () = stop.cancelled() => return newest,
                () = tokio::time::sleep_until(until) => return newest,
                changed = published.changed() => {
                    if changed.is_err() { return newest }
                    if let Some(newer) = published.borrow_and_update().clone() {
                        add(gathered, &newer);
                        newest = newer;
                    }
                }
            }
        }
    }

    /// Whether everything is recorded; false: something is in the way that may go by itself.
    async fn record(self: &Arc<Self>, newest: &Published, actions: &[Action]) -> Result<bool> {
        self.serve(newest).await?;
        if !self.commits {
            return Ok(true);
        }
        if !self.commit(newest, actions).await? {
            return Ok(false);
        }
        if self.pushes { self.push().await } else { Ok(true) }
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
        keep.push(newest.served.digest);
        let this = Arc::clone(self);
        blocking(move || this.repository.prune_served(&keep)).await?;
        Ok(())
    }

    async fn commit(self: &Arc<Self>, newest: &Published, actions: &[Action]) -> Result<bool> {
        let request = CommitRequest {
            revision: Arc::clone(&newest.tree),
            held: Arc::clone(&newest.held),
            message: message(actions),
            trailers: vec![
                ("Skillhook-Origin".to_owned(), "file".to_owned()),
                ("Skillhook-Index".to_owned(), newest.state.digest.to_string()),
            ],
            author: self.author.clone(),
            at: self.clock.now(),
        };
        let this = Arc::clone(self);
        let contents = self.contents.clone();
        let outcome = blocking(move || this.repository.commit(&request, &|path| contents.get(path))).await?;
        let now = self.clock.now();
        let (commit, trouble) = match outcome {
            CommitOutcome::Committed { commit, paths, .. } => {
                tracing::info!(%commit, paths = paths.len(), "committed");
                self.ledger.note("repo.committed", None, format!("commit {commit}")).await?;
                (Some(commit), None)
            }
            CommitOutcome::Unchanged { commit } => (commit, None),
            CommitOutcome::Held { reason } => {
                tracing::warn!(%reason, "the change is not committed yet");
                (None, Some(reason))
            }
        };
        let done = trouble.is_none();
        self.progress.send_modify(|progress| {
            let commit = commit.or_else(|| progress.committed.commit.clone());
            progress.committed = Step { commit, at: Some(now), trouble };
        });
        Ok(done)
    }

    async fn push(self: &Arc<Self>) -> Result<bool> {
        let this = Arc::clone(self);
        let outcome = blocking(move || this.repository.push(this.network)).await?;
        let now = self.clock.now();
        let head = self.progress.borrow().committed.commit.clone();
        let (done, step) = match outcome {
            PushOutcome::Pushed { commit } => {
                tracing::info!(%commit, "pushed");
                self.ledger.note("repo.pushed", None, format!("commit {commit}")).await?;
                (true, Step { commit: Some(commit), at: Some(now), trouble: None })
            }
            PushOutcome::UpToDate => (true, Step { commit: head, at: Some(now), trouble: None }),
            PushOutcome::NoRemote => (true, Step { commit: None, at: None, trouble: Some("there is no remote".into()) }),
            PushOutcome::Rejected { reason } | PushOutcome::Unavailable { reason } => {
                tracing::warn!(%reason, "the commit could not be pushed, it is tried again");
                (false, Step { commit: None, at: Some(now), trouble: Some(reason) })
            }
        };
        self.progress.send_modify(|progress| {
            let commit = step.commit.clone().or_else(|| progress.pushed.commit.clone());
            progress.pushed = Step { commit, ..step };
        });
        Ok(done)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(crate::error::Code::Bug, "a git step panicked").detail(error)),
    }
}

/// One line a resource; a single one is the subject itself.
fn message(actions: &[Action]) -> String {
    let lines: Vec<String> = actions
        .iter()
        .filter(|action| !matches!(action.verb, Verb::Hold | Verb::Reject))
        .map(|action| {
            let verb = match action.verb {
                Verb::Create => "create",
                Verb::Update => "update",
                Verb::Touch => "touch",
                Verb::Prune => "delete",
                Verb::Hold | Verb::Reject => "keep",
            };
            format!("{verb} {} {}", format!("{:?}", action.kind).to_lowercase(), action.name)
        })
        .collect();
    match lines.as_slice() {
        [] => "record the configuration".to_owned(),
        [only] => only.clone(),
        several => format!("reconcile {} resources\n\n{}", several.len(), several.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::plan::Kind;

    fn action(verb: Verb, kind: Kind, name: &str) -> Action {
        Action { kind, name: name.into(), verb, generation: None, note: None }
    }

    #[test]
    fn a_single_change_is_the_subject_and_several_are_listed() {
        assert_eq!(message(&[action(Verb::Update, Kind::Webhook, "deploy")]), "update webhook deploy");
        let two = [action(Verb::Create, Kind::Skill, "a"), action(Verb::Prune, Kind::Skill, "b")];
        assert_eq!(message(&two), "reconcile 2 resources\n\ncreate skill a\ndelete skill b");
        assert_eq!(message(&[action(Verb::Hold, Kind::Skill, "a")]), "record the configuration");
    }
}
