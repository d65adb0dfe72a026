//! What the tree would be with a change, judged as a pass would judge it.

use std::collections::{BTreeMap, BTreeSet};

use super::staging::{self, Touched};
use super::{Changes, Refused};
use crate::error::Code;
use crate::model::capability::{Widening, widenings};
use crate::model::change::Edit;
use crate::model::desired::{Circumstances, judge};
use crate::model::diagnostic::Diagnostic;
use crate::model::digest::Digest;
use crate::model::entry::{Observed, Standing};
use crate::model::ids::WebhookId;
use crate::model::plan::{Action, Desired, Kind, plan};
use crate::model::snapshot::Snapshot;

/// A valid tree that a change would make.
pub(super) struct WouldBe {
    pub(super) actions: Vec<Action>,
    pub(super) widens: Vec<Widening>,
    pub(super) warnings: Vec<Diagnostic>,
    /// The webhook that the change is about.
    pub(super) webhook: Option<WebhookId>,
}

impl Changes {
    pub(super) fn judge(&self, edits: &[Edit]) -> Result<WouldBe, Refused> {
        let published = self.published()?;
        let parts = &self.shared.parts;
        let (now, touched) = (parts.clock.now(), Touched::of(edits));
        let mut judge_of_files = self.shared.judge.clone();
        let snapshot =
            staging::snapshot(&parts.root, edits, &published.snapshot, &mut judge_of_files, now.as_nanosecond())?;
        let observed = &published.state.observed;
        let (absent_since, deleted) = (BTreeMap::new(), gone(edits));
        let circumstances = Circumstances { now, absent_since: &absent_since, allow_prune: false, deleted: &deleted };
        let catalogue = judge_of_files.catalogue();
        let judgement = judge(&snapshot, observed, &self.shared.embedded, &catalogue, &circumstances);
        let mut known: BTreeSet<Diagnostic> = observed.diagnostics().into_iter().collect();
        known.extend(published.report.problems.iter().cloned());
        let faults = faults(edits, &touched, &snapshot, &judgement.desired, &known);
        if !faults.is_empty() {
            return Err(Refused::invalid(faults));
        }
        let warnings = warnings(&touched, &judgement.desired);
        let generations = parts.ledger.generations()?;
        let generations = generations.into_iter().map(|(id, row)| (id, (row.number, row.digest))).collect();
        let planned = plan(judgement.desired, observed, &generations);
        let webhook = subject(&planned.actions, &planned.next, &touched);
        Ok(WouldBe { widens: widenings(observed, &planned.next), actions: planned.actions, warnings, webhook })
    }
}

/// What is deleted on request is gone at once.
fn gone(edits: &[Edit]) -> BTreeSet<String> {
    edits.iter().filter(|edit| edit.content.is_none()).map(|edit| edit.path.clone()).collect()
}

/// Everything that is wrong because of the change.
fn faults(
    edits: &[Edit],
    touched: &Touched,
    snapshot: &Snapshot,
    desired: &Desired,
    known: &BTreeSet<Diagnostic>,
) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = snapshot.problems.clone();
    found.extend(desired.skills.values().flat_map(|entry| entry.diagnostics.iter().cloned()));
    found.extend(desired.agents.values().flat_map(|entry| entry.diagnostics.iter().cloned()));
    found.retain(|each| each.is_error() && !known.contains(each));
    // What the change touches has to be in force as it says, or gone as it says.
    for name in &touched.skills {
        let entry = desired.skills.get(name).filter(|entry| entry.standing != Standing::Current);
        found.extend(entry.into_iter().flat_map(|entry| entry.diagnostics.iter().cloned()));
    }
    for name in &touched.agents {
        let entry = desired.agents.get(name).filter(|entry| entry.standing != Standing::Current);
        found.extend(entry.into_iter().flat_map(|entry| entry.diagnostics.iter().cloned()));
    }
    if found.is_empty() {
        let there = digests(snapshot);
        let missing = edits.iter().filter(|edit| there.get(edit.path.as_str()).copied() != edit.digest());
        found.extend(missing.map(not_used));
    }
    found.sort_by(|a, b| (a.severity, &a.path, a.position).cmp(&(b.severity, &b.path, b.position)));
    found.dedup();
    found
}

/// The reconciler would pass the file over.
fn not_used(edit: &Edit) -> Diagnostic {
    let message = "the file would not be part of any skill or agent";
    Diagnostic::error(&*edit.path, Code::UnsafePath, message)
        .hint("a skill has a SKILL.md; names that end in `~`, `.tmp` or `.swp` are left to editors")
}

fn digests(snapshot: &Snapshot) -> BTreeMap<&str, Digest> {
    let skills = snapshot.skills.values().flat_map(|found| found.files.iter());
    let skills = skills.map(|(path, file)| (path.as_str(), file.digest));
    let agents = snapshot.agents.values().filter_map(|found| Some((found.path.as_str(), found.file?.digest)));
    let providers = snapshot.providers.iter().map(|(path, file)| (path.as_str(), file.digest));
    skills.chain(agents).chain(providers).collect()
}

fn warnings(touched: &Touched, desired: &Desired) -> Vec<Diagnostic> {
    let skills = touched.skills.iter().filter_map(|name| desired.skills.get(name)).flat_map(|entry| &entry.diagnostics);
    let agents = touched.agents.iter().filter_map(|name| desired.agents.get(name)).flat_map(|entry| &entry.diagnostics);
    skills.chain(agents).cloned().collect()
}

/// The webhook that changes, else the one that a touched skill makes.
fn subject(actions: &[Action], next: &Observed, touched: &Touched) -> Option<WebhookId> {
    let changed = actions.iter().find(|action| action.kind == Kind::Webhook);
    if let Some(action) = changed {
        return WebhookId::parse(&action.name).ok();
    }
    let made = next.webhooks.iter().find(|(_, entry)| entry.sources.iter().any(|skill| touched.skills.contains(skill)));
    made.map(|(id, _)| id.clone())
}
