//! Puts branches up for review at the provider and follows what becomes of them.
//!
//! A branch below `skillhook/proposal/` is pushed and gets one pull or merge request, whose text is the plan; a commit
//! upon it brings the same request up to date. Where the remote refuses our own branch (branch protection), what it
//! has not becomes such a branch by itself. Without a token the branch and the page where a person opens a request are
//! told. What was merged comes back by the next pull; what was closed stays here until somebody decides about it.

mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error, Result};
use crate::ledger::Ledger;
use crate::model::backoff;
use crate::model::check::Rules;
use crate::model::diagnostic::Diagnostic;
use crate::model::ids::ProviderName;
use crate::model::provider::{Definition, MarkState, Review, ReviewState};
use crate::reconcile::pass::Published;
use crate::reconcile::preview;
use crate::reconcile::record::Progress;
use crate::reconcile::source::{Bell, Distance, Proposed};
use crate::repo::{Proposal, PushOutcome, Repository};
use crate::respond::proposal::{Reviewer, Wanted};
use crate::seam::{Clock, random};

/// New branches are looked for this often, if the poll is not more frequent.
const TICK: Duration = Duration::from_secs(10);
/// Longest wait before a call that failed is tried again.
const RETRY_MAX: Duration = Duration::from_secs(600);

/// Follows the proposals of one repository.
pub struct Reviews {
    pub repository: Repository,
    /// Speaks with the provider, where the remote's address tells which machine that is.
    pub reviewer: Option<Reviewer>,
    /// The operator's choice of the provider; else the remote's machine tells.
    pub provider: Option<ProviderName>,
    pub rules: Rules,
    pub ledger: Ledger,
    pub bell: Bell,
    pub published: watch::Receiver<Option<Published>>,
    pub progress: watch::Sender<Progress>,
    pub clock: Clock,
    pub network: Duration,
    pub poll: Duration,
}

/// What is known about one branch.
struct Known {
    commit: String,
    review: Option<Review>,
    trouble: Option<String>,
    failures: u32,
    /// When the provider is asked again.
    again: Instant,
}

impl Reviews {
    /// Follows them until the token is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut progress = this.progress.subscribe();
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        let mut marked: Option<String> = None;
        loop {
            let refused = progress.borrow_and_update().remote.refused.clone();
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = this.round(refused.is_some(), &mut known) => outcome,
            };
            if let Err(error) = outcome {
                tracing::warn!(error = error.internal(), "proposals could not be followed, it is tried again");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = this.mark(&mut marked) => {}
            }
            let until = Instant::now() + TICK.min(this.poll);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep_until(until) => break,
                    changed = progress.changed() => {
                        if changed.is_err() { return }
                        let now = progress.borrow_and_update();
                        let level = now.remote.distance == Distance::Level && now.remote.commit != marked;
                        if now.remote.refused != refused || level { break }
                    }
                }
            }
        }
    }

    async fn round(self: &Arc<Self>, refused: bool, known: &mut BTreeMap<String, Known>) -> Result<()> {
        if refused {
            let repository = self.repository.clone();
            match blocking(move || repository.propose_own()).await {
                Ok(_) => {}
                Err(error) if error.code() == Code::NothingToPropose => {}
                Err(error) => return Err(error),
            }
        }
        let repository = self.repository.clone();
        let proposals = blocking(move || repository.proposals()).await?;
        known.retain(|branch, _| proposals.iter().any(|proposal| proposal.branch == *branch));
        for proposal in &proposals {
            self.follow(proposal, known).await?;
        }
        let shown = proposals.iter().filter_map(|proposal| {
            let known = known.get(&proposal.branch)?;
            Some(Proposed {
                branch: proposal.branch.clone(),
                commit: known.commit.clone(),
                page: self.page(&proposal.branch),
                review: known.review.clone(),
                trouble: known.trouble.clone(),
            })
        });
        let shown: Vec<Proposed> = shown.collect();
        self.progress.send_if_modified(|progress| {
            let news = progress.proposals != shown;
            progress.proposals = shown;
            news
        });
        Ok(())
    }

    async fn follow(self: &Arc<Self>, proposal: &Proposal, known: &mut BTreeMap<String, Known>) -> Result<()> {
        let now = Instant::now();
        let same = known.get(&proposal.branch).filter(|known| known.commit == proposal.commit.as_str());
        if same.is_some_and(|known| now < known.again) {
            return Ok(());
        }
        let failures = same.map_or(0, |known| known.failures);
        let asked = match same.and_then(|known| known.review.clone()) {
            Some(_) => self.look(proposal).await,
            None => self.bring(proposal).await,
        };
        let (review, trouble) = match asked {
            Ok(review) => (review, None),
            // A branch and a page: that is all there can be.
            Err(error) if error.code() == Code::SecretMissing => (None, None),
            Err(error) => {
                tracing::warn!(branch = proposal.branch, error = error.internal(), "no request for review yet");
                (same.and_then(|known| known.review.clone()), Some(error.message().to_owned()))
            }
        };
        let (failures, again) = match &trouble {
            None => (0, self.poll),
            Some(_) => (failures + 1, backoff::delay(failures + 1, random(), None).min(RETRY_MAX)),
        };
        let before = same.and_then(|known| known.review.clone());
        if let Some(review) = review.as_ref().filter(|review| before.as_ref() != Some(*review)) {
            self.tell(proposal, review).await?;
        }
        let commit = proposal.commit.to_string();
        known.insert(proposal.branch.clone(), Known { commit, review, trouble, failures, again: now + again });
        Ok(())
    }

    /// Pushes the branch and has one request for it.
    async fn bring(self: &Arc<Self>, proposal: &Proposal) -> Result<Option<Review>> {
        let (repository, branch, network) = (self.repository.clone(), proposal.branch.clone(), self.network);
        match blocking(move || repository.publish_proposal(&branch, network)).await? {
            PushOutcome::Pushed { .. } | PushOutcome::UpToDate => {}
            PushOutcome::NoRemote => return Ok(None),
            PushOutcome::Rejected { reason, .. } | PushOutcome::Unavailable { reason } => {
                return Err(Error::new(Code::RemoteUnavailable, reason));
            }
        }
        let (Some(reviewer), Some(definition), Some(base)) = (&self.reviewer, self.definition(), self.base()) else {
            return Ok(None);
        };
        let title = proposal.message.lines().next().unwrap_or_default().to_owned();
        let text = self.text(proposal).await?;
        let wanted = Wanted { branch: proposal.branch.clone(), base, title, text };
        reviewer.bring(&definition, &wanted).await.map(Some)
    }

    async fn look(&self, proposal: &Proposal) -> Result<Option<Review>> {
        let (Some(reviewer), Some(definition), Some(base)) = (&self.reviewer, self.definition(), self.base()) else {
            return Ok(None);
        };
        reviewer.look(&definition, &proposal.branch, &base).await
    }

    async fn tell(self: &Arc<Self>, proposal: &Proposal, review: &Review) -> Result<()> {
        let (repository, branch) = (self.repository.clone(), proposal.branch.clone());
        let kind = match review.state {
            ReviewState::Open => "proposal.open",
            ReviewState::Merged => {
                self.bell.ring();
                blocking(move || repository.forget_proposal(&branch)).await?;
                "proposal.merged"
            }
            ReviewState::Closed => {
                blocking(move || repository.decline_proposal(&branch)).await?;
                "proposal.closed"
            }
        };
        self.ledger.note(kind, None, format!("{} {}", proposal.branch, review.url)).await
    }

    /// What merging it does.
    async fn text(self: &Arc<Self>, proposal: &Proposal) -> Result<String> {
        let (this, proposal) = (Arc::clone(self), proposal.clone());
        blocking(move || {
            let base = this.repository.status()?.upstream.and_then(|upstream| upstream.commit);
            let before = base.map(|base| this.repository.files_at(base.as_str())).transpose()?.unwrap_or_default();
            let after = this.repository.files_at(proposal.commit.as_str())?;
            let preview = preview::between(&this.rules, &before, &after, this.clock.now())?;
            Ok(text::of(&proposal, &preview))
        })
        .await
    }

    /// Says at the newest commit that both sides have what became of it.
    async fn mark(&self, marked: &mut Option<String>) {
        let (Some(reviewer), Some(definition)) = (&self.reviewer, self.definition()) else { return };
        let level = {
            let progress = self.progress.borrow();
            progress.remote.commit.clone().filter(|_| progress.remote.distance == Distance::Level)
        };
        let newest = self.published.borrow().clone();
        let (Some(commit), Some(newest)) = (level, newest) else { return };
        let seen = newest.upon.as_ref().map(ToString::to_string);
        if *marked == Some(commit.clone()) || seen.as_ref() != Some(&commit) {
            return;
        }
        let findings = newest.state.observed.diagnostics();
        let errors: Vec<&Diagnostic> = findings.iter().filter(|finding| finding.is_error()).collect();
        let (state, text) = match errors.first() {
            None => (MarkState::Success, format!("{} webhooks are in force", newest.state.observed.webhooks.len())),
            Some(first) => (MarkState::Failure, format!("not in force: {first}")),
        };
        match reviewer.mark(&definition, &commit, state, &text).await {
            Ok(()) => *marked = Some(commit),
            Err(error) if error.code().retry() == crate::error::Retry::Backoff => {}
            Err(error) => {
                // A mark is a courtesy: without a token, or where the token may not, there is none.
                tracing::debug!(error = error.internal(), "the commit is not marked at the provider");
                *marked = Some(commit);
            }
        }
    }

    fn definition(&self) -> Option<Arc<Definition>> {
        let newest = self.published.borrow();
        let catalogue = &newest.as_ref()?.catalogue;
        if let Some(name) = &self.provider {
            return catalogue.get(name.as_str()).cloned();
        }
        let reviewer = self.reviewer.as_ref()?;
        let keeps = |definition: &&Arc<Definition>| {
            definition.proposes_to(&reviewer.host, &reviewer.caller.settings(definition.name()))
        };
        catalogue.iter().find(keeps).cloned()
    }

    fn base(&self) -> Option<String> {
        self.repository.remote_branch().ok().flatten()
    }

    fn page(&self, branch: &str) -> Option<String> {
        self.reviewer.as_ref()?.page(&*self.definition()?, branch, &self.base()?)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(Code::Bug, "a step of a proposal panicked").detail(error)),
    }
}
