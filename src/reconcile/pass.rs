//! The one pass: look, judge, plan, apply, publish. It never waits for the network and never for git.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::activator::{Activation, Activator, Scope};
use super::embedded;
use super::judge::Judge;
use super::look::{Contents, Looker};
use super::pause::Pause;
use super::rebuild;
use crate::error::{Error, Result};
use crate::index::{Index, State};
use crate::ledger::Ledger;
use crate::ledger::rows::Generation;
use crate::model::desired::{Circumstances, Embedded, judge};
use crate::model::diagnostic::Diagnostic;
use crate::model::digest::Digest;
use crate::model::entry::{Observed, Standing};
use crate::model::plan::{Action, Generations, Verb, plan};
use crate::model::provider::Catalogue;
use crate::model::revision::{CommitId, FileRef, Revision};
use crate::model::snapshot::{Judged, Snapshot};
use crate::repo::Repository;
use crate::seam::Clock;
use crate::telemetry::event::{Event as _, PassEnded, PassOutcome};
use crate::telemetry::metrics::Metrics;

/// After a pass that failed, the next one is tried after this.
const RETRY: Duration = Duration::from_secs(2);
/// Of the actions of one pass, so many are told in the log.
const TOLD_MAX: usize = 20;
/// And so many in one event.
const LISTED_MAX: usize = 10;

/// What a pass did, for people and metrics.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub number: u64,
    pub at: Timestamp,
    pub duration_ms: u64,
    pub reasons: Vec<&'static str>,
    pub actions: Vec<Action>,
    pub index_digest: Digest,
    pub revision: Digest,
    /// Problems of files that are passed over, and of provider definitions.
    pub problems: Vec<Diagnostic>,
    /// How many deletions wait for a person.
    pub prune_held: usize,
}

/// What was published by the last pass: the state, what to record of it, and what was done.
#[derive(Clone, Debug)]
pub struct Published {
    pub report: Arc<Report>,
    pub state: Arc<State>,
    pub catalogue: Arc<Catalogue>,
    /// The files as the pass saw them.
    pub snapshot: Arc<Snapshot>,
    /// Everything in force, embedded files included: what runs see.
    pub served: Arc<Revision>,
    /// What was checked out when the look began.
    pub upon: Option<CommitId>,
    /// The files of the tree that are good: what is committed.
    pub tree: Arc<Revision>,
    /// Paths (ending in `/` for directories) whose committed version stays, because the file is broken or doubtful.
    pub held: Arc<BTreeSet<String>>,
}

impl Published {
    /// Whether the committed version of a path stays, whatever the tree has.
    pub fn holds(&self, path: &str) -> bool {
        let mut directories = path.match_indices('/').map(|(at, _)| &path[..=at]);
        self.held.contains(path) || directories.any(|directory| self.held.contains(directory))
    }
}

/// Contents that passes read and that are not recorded in git yet.
#[derive(Clone, Debug, Default)]
pub struct Unrecorded(Arc<std::sync::Mutex<Contents>>);

impl Unrecorded {
    fn add(&self, more: Contents) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(more);
    }

    pub fn get(&self, path: &str) -> Option<Arc<[u8]>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(path).cloned()
    }

    /// Forgets what a recorded revision holds.
    pub fn recorded(&self, revision: &Revision) {
        let mut contents = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        contents.retain(|path, bytes| revision.files.get(path).is_none_or(|file| file.digest != Digest::of(bytes)));
    }
}

/// What a reconciler is made of.
pub struct Parts {
    pub root: PathBuf,
    pub judge: Judge,
    pub index: Index,
    pub ledger: Ledger,
    pub activator: Activator,
    pub clock: Clock,
    /// Tells which commit the files were seen upon.
    pub repository: Option<Repository>,
    /// Whether last good versions are looked for there, because the index was lost.
    pub rebuilds: bool,
}

impl Parts {
    /// Opens both databases of a data directory, with the operator's rules at their defaults.
    ///
    /// # Errors
    /// As [`Index::open`] and [`Ledger::open`].
    pub fn for_directory(root: &Path, data: &Path, clock: Clock) -> Result<Self> {
        let (index, _) = Index::open(data, 16 << 20)?;
        let ledger = Ledger::open(&data.join(crate::ledger::FILE), crate::ledger::Options::default())?;
        let judge = Judge::new(crate::model::check::Rules::default())?;
        Ok(Self {
            root: root.to_owned(),
            judge,
            index,
            ledger,
            activator: Activator::default(),
            clock,
            repository: None,
            rebuilds: false,
        })
    }
}

/// Owns the pass and everything that only the pass writes.
pub struct Reconciler {
    looker: Looker,
    judge: Judge,
    pub index: Index,
    embedded: Embedded,
    embedded_contents: Contents,
    ledger: Ledger,
    activator: Activator,
    clock: Clock,
    contents: Unrecorded,
    published: watch::Sender<Option<Published>>,
    absent_since: BTreeMap<String, Timestamp>,
    generations: Option<Generations>,
    repository: Option<Repository>,
    /// Until the first pass of this process has been applied.
    is_first: bool,
    /// Whether the index was lost, so that the first pass makes it anew.
    rebuilds: bool,
}

impl Reconciler {
    /// The reconciler, and where its publications are seen.
    ///
    /// # Errors
    /// SH0999 when a shipped file is not valid.
    pub fn new(parts: Parts) -> Result<(Self, watch::Receiver<Option<Published>>)> {
        let (embedded, embedded_contents) = embedded::load(&parts.judge)?;
        let (published, receiver) = watch::channel(None);
        let reconciler = Self {
            looker: Looker::new(parts.root),
            judge: parts.judge,
            index: parts.index,
            embedded,
            embedded_contents,
            ledger: parts.ledger,
            activator: parts.activator,
            clock: parts.clock,
            contents: Unrecorded::default(),
            published,
            absent_since: BTreeMap::new(),
            generations: None,
            is_first: true,
            rebuilds: parts.rebuilds,
            repository: parts.repository,
        };
        Ok((reconciler, receiver))
    }

    /// What passes have read and git does not hold yet.
    pub fn contents(&self) -> Unrecorded {
        self.contents.clone()
    }

    /// The definitions in force, before the first pass those that come with the program.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.judge.catalogue()
    }

    /// Runs passes until the token is cancelled. `publish` makes routes of a state; it runs before readers are told.
    pub async fn run(
        mut self,
        stop: CancellationToken,
        pause: Pause,
        metrics: Metrics,
        mut publish: impl FnMut(&Published) + Send + 'static,
    ) {
        let mut has_failed = false;
        loop {
            let (number, activation) = tokio::select! {
                () = stop.cancelled() => return,
                next = self.activator.next() => next,
            };
            if pause.is_on() {
                if self.published.borrow().is_none() {
                    let standing = self.standing(number);
                    publish(&standing);
                    self.published.send_replace(Some(standing));
                }
                self.activator.finish(number);
                continue;
            }
            let begun = Instant::now();
            let worked = tokio::task::spawn_blocking(move || {
                let outcome = self.pass(number, &activation);
                if let Ok((published, _)) = &outcome {
                    publish(published);
                }
                (self, publish, outcome)
            });
            let Ok((reconciler, same_publish, outcome)) = worked.await else {
                tracing::error!("a reconcile pass panicked: the service stops");
                stop.cancel();
                return;
            };
            (self, publish) = (reconciler, same_publish);
            tell(&outcome, begun.elapsed(), self.clock.now(), &metrics);
            let news = news(&outcome, has_failed);
            has_failed = outcome.is_err();
            if let Some((kind, message)) = news {
                // Beside the loop: a disk that refuses must not hold the next pass up.
                let ledger = self.ledger.clone();
                tokio::spawn(async move {
                    if let Err(error) = ledger.note(kind, None, message).await {
                        tracing::warn!(error = error.internal(), "a pass is missing in the list of events");
                    }
                });
            }
            let again = match outcome {
                Ok((published, again)) => {
                    self.published.send_replace(Some(published));
                    again
                }
                // What was served stays in force.
                Err(_) => Some(RETRY),
            };
            self.activator.finish(number);
            if let Some(delay) = again {
                let activator = self.activator.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    activator.activate(Scope::Everything, "look again");
                });
            }
        }
    }

    /// What is in force without a look at the files, of which nothing may be committed then.
    fn standing(&self, number: u64) -> Published {
        let state = self.index.reader().state();
        let served = Arc::new(state.observed.revision());
        let report = Report {
            number,
            at: self.clock.now(),
            duration_ms: 0,
            reasons: vec!["suspended"],
            actions: Vec::new(),
            index_digest: state.digest,
            revision: served.digest,
            problems: Vec::new(),
            prune_held: 0,
        };
        Published {
            report: Arc::new(report),
            state,
            catalogue: self.judge.catalogue(),
            snapshot: Arc::new(Snapshot { partial: true, ..Snapshot::default() }),
            served,
            upon: None,
            tree: Arc::new(Revision::of(BTreeMap::new())),
            held: Arc::new(BTreeSet::from([".claude/".to_owned()])),
        }
    }

    /// One pass; answers what is in force now, and after what time to look again.
    ///
    /// # Errors
    /// When the generations or the index cannot be written; nothing has changed then.
    pub fn pass(&mut self, number: u64, activation: &Activation) -> Result<(Published, Option<Duration>), Error> {
        let begun = Instant::now();
        let now = self.clock.now();
        // Before the look: what is read may be newer than this, never older.
        let upon = self.repository.as_ref().and_then(|repository| repository.head().ok().flatten());
        let snapshot = self.looker.look(&activation.scope, &mut self.judge, now.as_nanosecond());
        self.contents.add(self.looker.take_contents());
        let before = self.index.reader().state();
        let known = self.known(&before.observed, &snapshot);
        let circumstances = Circumstances {
            now,
            absent_since: &self.absent_since,
            allow_prune: activation.allow_prune,
            deleted: &activation.deleted,
        };
        let catalogue = self.judge.catalogue();
        let judgement = judge(&snapshot, &known, &self.embedded, &catalogue, &circumstances);
        let generations = self.generations()?;
        let plan = plan(judgement.desired, &before.observed, &generations);
        self.remember_generations(&plan.next, &generations)?;
        let actions = plan.actions.clone();
        let state = if plan.is_empty() && plan.next == before.observed { before } else { self.index.apply(plan)? };
        self.absent_since = judgement.absent_since;
        self.is_first = false;
        let served = Arc::new(state.observed.revision());
        self.contents.add(self.missing_embedded(&served));
        let (tree, held) = tree_of(&snapshot, &state.observed);
        let report = Report {
            number,
            at: now,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            reasons: activation.reasons.iter().copied().collect(),
            actions,
            index_digest: state.digest,
            revision: served.digest,
            problems: snapshot.problems.clone(),
            prune_held: judgement.prune_held,
        };
        let again =
            judgement.look_again.and_then(|wait| Duration::try_from(wait + SignedDuration::from_millis(20)).ok());
        let published = Published {
            report: Arc::new(report),
            state,
            catalogue,
            snapshot: Arc::new(snapshot),
            served,
            upon,
            tree: Arc::new(tree),
            held: Arc::new(held),
        };
        Ok((published, again))
    }

    /// What is in force; in the first pass less what is lost, and after a loss of the index what was in force as far as
    /// git knows.
    fn known<'a>(&self, observed: &'a Observed, snapshot: &Snapshot) -> Cow<'a, Observed> {
        let Some(history) = self.repository.as_ref().filter(|_| self.is_first) else {
            return Cow::Borrowed(observed);
        };
        let mut known = observed.clone();
        if self.rebuilds {
            self.contents.add(rebuild::remember_good(&mut known, snapshot, history, &self.judge));
        }
        rebuild::forget_lost(&mut known, snapshot, history);
        Cow::Owned(known)
    }

    fn generations(&mut self) -> Result<Generations> {
        if self.generations.is_none() {
            let rows = self.ledger.generations()?;
            self.generations = Some(rows.into_iter().map(|(id, row)| (id, (row.number, row.digest))).collect());
        }
        Ok(self.generations.clone().unwrap_or_default())
    }

    /// In the ledger first: a number that was served is never given to another spec.
    fn remember_generations(&mut self, next: &Observed, known: &Generations) -> Result<()> {
        let new: Vec<_> = next
            .webhooks
            .iter()
            .filter(|(id, entry)| known.get(*id) != Some(&(entry.generation, entry.digest)))
            .map(|(id, entry)| (id.clone(), Generation { number: entry.generation, digest: entry.digest }))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        self.ledger.put_generations(new.clone())?;
        if let Some(generations) = &mut self.generations {
            generations.extend(new.into_iter().map(|(id, row)| (id, (row.number, row.digest))));
        }
        Ok(())
    }

    fn missing_embedded(&self, served: &Revision) -> Contents {
        let wanted = |path: &String| served.files.contains_key(path) && self.contents.get(path).is_none();
        let missing = self.embedded_contents.iter().filter(|(path, _)| wanted(path));
        missing.map(|(path, bytes)| (path.clone(), Arc::clone(bytes))).collect()
    }
}

fn tell(result: &Result<(Published, Option<Duration>)>, elapsed: Duration, at: Timestamp, metrics: &Metrics) {
    let (outcome, actions, error) = match result {
        Ok((published, _)) if published.report.prune_held > 0 => {
            (PassOutcome::Held, published.report.actions.len(), None)
        }
        Ok((published, _)) if published.report.actions.is_empty() => (PassOutcome::Unchanged, 0, None),
        Ok((published, _)) => (PassOutcome::Applied, published.report.actions.len(), None),
        Err(error) => (PassOutcome::Failed, 0, Some(error)),
    };
    PassEnded { outcome, actions, error, elapsed, at }.emit(metrics);
    if let Ok((published, _)) = result {
        tell_actions(&published.report.actions);
    }
}

/// A line each, so that whoever watches the log sees what a saved file came to, and a mistake at once.
fn tell_actions(actions: &[Action]) {
    for action in actions.iter().take(TOLD_MAX) {
        match action.verb {
            Verb::Hold => tracing::warn!("{action}; the last good version stays in force"),
            Verb::Reject => tracing::warn!("{action}; nothing of it is in force"),
            Verb::Create | Verb::Update | Verb::Touch | Verb::Prune => tracing::info!("{action}"),
        }
    }
    if actions.len() > TOLD_MAX {
        tracing::info!("and {} more; `skillhook get webhooks` lists what is in force", actions.len() - TOLD_MAX);
    }
}

/// What `skillhook events` tells of a pass that changed something.
fn happening(report: &Report) -> Option<(&'static str, String)> {
    let more = report.actions.len().saturating_sub(LISTED_MAX);
    let mut told: Vec<String> = report.actions.iter().take(LISTED_MAX).map(Action::to_string).collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    if report.prune_held > 0 {
        told.push(format!("{} deletions wait for `skillhook reconcile --allow-prune`", report.prune_held));
    }
    let held = report.actions.iter().any(|action| matches!(action.verb, Verb::Hold | Verb::Reject));
    let kind = if held || report.prune_held > 0 { "reconcile.held" } else { "reconcile.applied" };
    (!report.actions.is_empty()).then(|| (kind, told.join("; ")))
}

/// What is said of a pass among what happened. It is tried again and again: of failures the first is news.
fn news(outcome: &Result<(Published, Option<Duration>), Error>, has_failed: bool) -> Option<(&'static str, String)> {
    match outcome {
        Ok((published, _)) => happening(&published.report)
            .or_else(|| has_failed.then(|| ("reconcile.recovered", "a pass went through again".to_owned()))),
        Err(error) => (!has_failed).then(|| ("reconcile.failed", error.message().to_owned())),
    }
}

/// The good files of the tree, and what is held back.
fn tree_of(snapshot: &Snapshot, observed: &Observed) -> (Revision, BTreeSet<String>) {
    let mut files: BTreeMap<String, FileRef> = snapshot.providers.clone();
    let mut held = BTreeSet::new();
    for (name, entry) in observed.skills.iter().filter(|(_, entry)| entry.standing != Standing::Current) {
        if !entry.embedded || snapshot.skills.contains_key(name) {
            held.insert(format!(".claude/skills/{name}/"));
        }
    }
    for (name, entry) in observed.agents.iter().filter(|(_, entry)| entry.standing != Standing::Current) {
        if !entry.embedded || snapshot.agents.contains_key(name) {
            held.insert(entry.path.clone());
        }
    }
    for (name, found) in &snapshot.skills {
        if matches!(*found.judged, Judged::Valid(..)) && !held.contains(&format!(".claude/skills/{name}/")) {
            files.extend((*found.files).clone());
        }
    }
    for found in snapshot.agents.values().filter(|found| !held.contains(&found.path)) {
        files.extend(found.file.map(|file| (found.path.clone(), file)));
    }
    if snapshot.partial {
        held.insert(".claude/".to_owned());
    }
    (Revision::of(files), held)
}
