//! The versions of the configuration, for those who ask: history, differences, plans, and the way back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::activator::Activator;
use super::pause::Pause;
use super::preview::{self, Preview};
use super::record::blocking;
use super::source::Bell;
use crate::error::{Code, Error, Result};
use crate::ledger::Ledger;
use crate::ledger::rows::Deed;
use crate::model::check::Rules;
use crate::model::revision::CommitId;
pub use crate::repo::Age;
use crate::repo::{FileDiff, HistoryEntry, PullOutcome, Repository};
use crate::seam::Clock;

/// Longest wait for the pass that puts a rollback in force.
const PASS_WAIT: Duration = Duration::from_secs(20);

/// A cheap handle on the versions of one repository.
#[derive(Clone)]
pub struct Versions {
    pub repository: Repository,
    pub ledger: Ledger,
    pub activator: Activator,
    pub bell: Bell,
    pub pause: Pause,
    pub rules: Rules,
    pub clock: Clock,
    pub ages: Ages,
}

impl std::fmt::Debug for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Versions").finish_non_exhaustive()
    }
}

/// Since when there are the files, as of one commit.
#[derive(Clone, Debug, Default)]
pub struct Ages(Arc<Mutex<Option<Dated>>>);

type Dated = (CommitId, Arc<BTreeMap<String, Age>>);

/// What a rollback did.
#[derive(Clone, Debug, Serialize)]
pub struct RolledBack {
    /// The new commit.
    pub commit: String,
    /// Files that changed, in order.
    pub paths: Vec<String>,
    /// Whether the pass that puts them in force has ended.
    pub in_force: bool,
}

impl Versions {
    /// As [`Repository::history`].
    ///
    /// # Errors
    /// SH0503 when git cannot read it.
    pub async fn history(
        &self,
        below: Option<String>,
        before: Option<String>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>> {
        let repository = self.repository.clone();
        blocking(move || repository.history(below.as_deref(), before.as_deref(), limit)).await
    }

    /// As [`Repository::ages`]; read again only when there is a new commit.
    ///
    /// # Errors
    /// SH0503 when git cannot read it.
    pub async fn ages(&self) -> Result<Arc<BTreeMap<String, Age>>> {
        let this = self.clone();
        blocking(move || {
            let Some(head) = this.repository.head()? else { return Ok(Arc::default()) };
            // Whoever asks meanwhile waits, rather than read the same.
            let mut dated = this.ages.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, ages)) = dated.as_ref().filter(|(of, _)| *of == head) {
                return Ok(Arc::clone(ages));
            }
            let ages = Arc::new(this.repository.ages()?);
            *dated = Some((head, Arc::clone(&ages)));
            Ok(ages)
        })
        .await
    }

    /// As [`Repository::diff`].
    ///
    /// # Errors
    /// SH0901 when one of them does not exist.
    pub async fn diff(&self, from: String, to: String) -> Result<Vec<FileDiff>> {
        let repository = self.repository.clone();
        blocking(move || repository.diff(&from, &to)).await
    }

    /// What going from one revision to another does.
    ///
    /// # Errors
    /// SH0901 when one of them does not exist.
    pub async fn plan(&self, from: String, to: String) -> Result<Preview> {
        let this = self.clone();
        blocking(move || {
            let (before, after) = (this.repository.files_at(&from)?, this.repository.files_at(&to)?);
            preview::between(&this.rules, &before, &after, this.clock.now())
        })
        .await
    }

    /// Brings the configuration of a revision back by a new commit, and waits for the pass. What is not valid stays
    /// out of force as always.
    ///
    /// # Errors
    /// SH0513 when nothing would change, SH0901 when there is no such revision, SH0903 when a person's work is in the
    /// way.
    pub async fn rollback(&self, revision: String, actor: String) -> Result<RolledBack> {
        if self.pause.is_on() {
            return Err(
                Error::new(Code::Refused, "the reconciler is suspended").hint("`skillhook resume` lets it go on")
            );
        }
        let repository = self.repository.clone();
        let trailers =
            [("Skillhook-Origin".to_owned(), "restore".to_owned()), ("Skillhook-Actor".to_owned(), actor.clone())];
        let back_to = revision.clone();
        match blocking(move || repository.restore(&back_to, &trailers)).await? {
            PullOutcome::Applied { to, paths, deleted, .. } => {
                let (kind, message) = ("repo.rolled_back".to_owned(), format!("back to `{revision}` by commit {to}"));
                self.ledger.record(Deed { kind, actor, message, ..Deed::default() }).await?;
                let number = self.activator.activate_after_pull(deleted.into_iter().collect());
                self.bell.ring();
                let in_force = self.activator.finished(number, PASS_WAIT).await;
                Ok(RolledBack { commit: to.to_string(), paths, in_force })
            }
            PullOutcome::Held { reason, paths } => {
                let places = if paths.is_empty() { String::new() } else { format!(": `{}`", paths.join("`, `")) };
                Err(Error::new(Code::Conflict, format!("{reason}{places}")))
            }
            PullOutcome::UpToDate | PullOutcome::Diverged { .. } | PullOutcome::NoUpstream => {
                Err(Error::new(Code::Bug, "a rollback ended as a pull"))
            }
        }
    }
}
