//! What the files ask for: a snapshot, judged across files, with the last good version wherever a file is broken.
//!
//! Invariants: a broken file never prunes; absence prunes only when it has lasted, when the look was complete, and
//! when not too much would go at once; one skill's fault never takes another skill down.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::diagnostic::{Diagnostic, did_you_mean};
use super::entry::{AgentEntry, Observed, SkillEntry, Standing};
use super::ids::{AgentName, ProviderName, SkillName, WebhookId};
use super::merge::{self, Layer};
use super::plan::Desired;
use super::provider::Catalogue;
use super::snapshot::{AgentSnapshot, Judged, SkillSnapshot, Snapshot, agent_path, skill_path};
use super::spec::{SkillConfig, WebhookSpec};
use crate::error::Code;

/// How long a file must have been away before its absence means deletion.
pub const ABSENCE: SignedDuration = SignedDuration::from_secs(2);
/// From this many resources on, the loss of half of them waits for a person.
const PRUNE_GUARD_FROM: usize = 10;
/// How often the cross-file rules are asked again after a fault took a version out of force.
const ROUNDS_MAX: usize = 4;

/// What comes with the program and stands wherever the tree has nothing of that name.
#[derive(Clone, Debug, Default)]
pub struct Embedded {
    pub skills: BTreeMap<SkillName, SkillEntry>,
    pub agents: BTreeMap<AgentName, AgentEntry>,
}

/// What a pass knows besides the files.
#[derive(Clone, Debug)]
pub struct Circumstances<'a> {
    pub now: Timestamp,
    /// Since when each path has been missing, as earlier passes saw it.
    pub absent_since: &'a BTreeMap<String, Timestamp>,
    /// A person said that a large deletion is meant.
    pub allow_prune: bool,
    /// Paths whose deletion came with a commit.
    pub deleted: &'a BTreeSet<String>,
}

/// What the files ask for, and what the next pass must know.
#[derive(Clone, Debug)]
pub struct Judgement {
    pub desired: Desired,
    pub absent_since: BTreeMap<String, Timestamp>,
    /// Something is missing for too short a time to mean it: look again after this.
    pub look_again: Option<SignedDuration>,
    /// How many resources a person has to confirm the deletion of.
    pub prune_held: usize,
}

/// Judges a snapshot across files.
pub fn judge(
    snapshot: &Snapshot,
    observed: &Observed,
    embedded: &Embedded,
    catalogue: &Catalogue,
    circumstances: &Circumstances<'_>,
) -> Judgement {
    let mut absence = Absence::new(snapshot, observed, circumstances);
    let mut skills = embedded.skills.clone();
    for (name, found) in &snapshot.skills {
        skills.insert(name.clone(), skill_entry(name, found, observed, embedded));
    }
    let claimed = claimed_ids(&skills);
    for (name, entry) in
        observed.skills.iter().filter(|(name, entry)| !entry.embedded && !snapshot.skills.contains_key(*name))
    {
        if entry.own_id().is_some_and(|id| claimed.contains(id)) {
            // The file moved to another directory: its webhook lives on there.
            continue;
        }
        if let Some(diagnostic) = absence.why_not_gone(&skill_path(name.as_str()), entry.facts.is_some()) {
            skills.insert(name.clone(), held_skill(entry, vec![diagnostic]));
        }
    }
    let mut agents = embedded.agents.clone();
    for (name, found) in &snapshot.agents {
        agents.insert(name.clone(), agent_entry(name, found, observed, embedded));
    }
    let named = named_agents(&skills);
    for (name, entry) in
        observed.agents.iter().filter(|(name, entry)| !entry.embedded && !snapshot.agents.contains_key(*name))
    {
        let path = agent_path(name.as_str());
        let away = absence.why_not_gone(&path, entry.facts.is_some());
        let needed = named.get(name.as_str()).filter(|_| !embedded.agents.contains_key(name)).map(|skill| {
            Diagnostic::warning(
                &path,
                Code::ReferenceMissing,
                format!(
                    "the agent's file is gone, but `{}` names it: its last version stays in force",
                    skill_path(skill)
                ),
            )
            .hint("restore the file, or name another `target_agent`")
        });
        if let Some(diagnostic) = needed.or(away) {
            agents.insert(name.clone(), held_agent(entry, vec![diagnostic]));
        }
    }
    let webhooks = settle(&mut skills, &agents, observed, embedded, catalogue);
    Judgement {
        desired: Desired { skills, agents, webhooks },
        absent_since: absence.seen,
        look_again: absence.look_again,
        prune_held: absence.held_by_guard,
    }
}

/// The ids that files which are there give to their webhooks.
fn claimed_ids(skills: &BTreeMap<SkillName, SkillEntry>) -> BTreeSet<WebhookId> {
    skills.values().filter_map(SkillEntry::own_id).cloned().collect()
}

fn skill_entry(name: &SkillName, found: &SkillSnapshot, observed: &Observed, embedded: &Embedded) -> SkillEntry {
    match &*found.judged {
        Judged::Valid(facts, warnings) => SkillEntry {
            standing: Standing::Current,
            embedded: false,
            facts: Some(facts.clone()),
            files: (*found.files).clone(),
            diagnostics: warnings.clone(),
        },
        Judged::Invalid(diagnostics) => fall_back_skill(name, diagnostics.clone(), observed, embedded),
    }
}

/// The last good version, else the embedded one, else nothing.
fn fall_back_skill(
    name: &SkillName,
    diagnostics: Vec<Diagnostic>,
    observed: &Observed,
    embedded: &Embedded,
) -> SkillEntry {
    let good = observed.skills.get(name).filter(|entry| entry.facts.is_some()).or_else(|| embedded.skills.get(name));
    match good {
        Some(good) => held_skill(good, diagnostics),
        None => SkillEntry {
            standing: Standing::Rejected,
            embedded: false,
            facts: None,
            files: BTreeMap::new(),
            diagnostics,
        },
    }
}

fn held_skill(good: &SkillEntry, diagnostics: Vec<Diagnostic>) -> SkillEntry {
    SkillEntry { standing: Standing::Held, diagnostics, ..good.clone() }
}

fn held_agent(good: &AgentEntry, diagnostics: Vec<Diagnostic>) -> AgentEntry {
    AgentEntry { standing: Standing::Held, diagnostics, ..good.clone() }
}

fn agent_entry(name: &AgentName, found: &AgentSnapshot, observed: &Observed, embedded: &Embedded) -> AgentEntry {
    match (&*found.judged, &found.file) {
        (Judged::Valid(facts, warnings), Some(file)) => AgentEntry {
            standing: Standing::Current,
            embedded: false,
            facts: Some(facts.clone()),
            path: found.path.clone(),
            file: Some(*file),
            diagnostics: warnings.clone(),
        },
        (Judged::Valid(_, diagnostics) | Judged::Invalid(diagnostics), _) => {
            let good = observed.agents.get(name).filter(|e| e.facts.is_some()).or_else(|| embedded.agents.get(name));
            match good {
                Some(good) => held_agent(good, diagnostics.clone()),
                None => AgentEntry {
                    standing: Standing::Rejected,
                    embedded: false,
                    facts: None,
                    path: found.path.clone(),
                    file: None,
                    diagnostics: diagnostics.clone(),
                },
            }
        }
    }
}

/// Every agent that a skill in force names, with one skill that does.
fn named_agents(skills: &BTreeMap<SkillName, SkillEntry>) -> BTreeMap<String, String> {
    let mut named = BTreeMap::new();
    for (skill, entry) in skills {
        for agent in entry.facts.iter().filter_map(|facts| facts.config.as_ref()).flat_map(|config| config.agents()) {
            named.entry(agent.to_string()).or_insert_with(|| skill.to_string());
        }
    }
    named
}

/// Applies the rules across files until no fault is left: a version at fault gives way to its last good one, and
/// that one to nothing.
fn settle(
    skills: &mut BTreeMap<SkillName, SkillEntry>,
    agents: &BTreeMap<AgentName, AgentEntry>,
    observed: &Observed,
    embedded: &Embedded,
    catalogue: &Catalogue,
) -> BTreeMap<WebhookId, (WebhookSpec, Vec<SkillName>)> {
    for round in 1..=ROUNDS_MAX {
        let fragments: Vec<_> = skills
            .iter()
            .filter_map(|(name, entry)| {
                let layer = if embedded.skills.contains_key(name) { Layer::Builtin } else { Layer::Extension };
                Some((layer, entry.facts.as_ref()?.config.clone()?))
            })
            .collect();
        let merged = merge::webhooks(&fragments, catalogue, &|agent| unknown_agent(agent, agents));
        if merged.diagnostics.is_empty() {
            let makers = Makers::of(&fragments);
            let with_sources = |(id, spec): (WebhookId, WebhookSpec)| {
                let sources = makers.sources(&spec);
                (id, (spec, sources))
            };
            return merged.webhooks.into_iter().map(with_sources).collect();
        }
        for (name, diagnostics) in merged.diagnostics {
            let Some(entry) = skills.get_mut(&name) else { continue };
            let last_good = fall_back_skill(&name, diagnostics.clone(), observed, embedded);
            let rejected =
                entry.standing != Standing::Current || last_good.facts == entry.facts || round + 1 >= ROUNDS_MAX;
            *entry = if rejected {
                SkillEntry {
                    standing: Standing::Rejected,
                    embedded: false,
                    facts: None,
                    files: BTreeMap::new(),
                    diagnostics,
                }
            } else {
                last_good
            };
        }
    }
    BTreeMap::new()
}

/// What may help whoever named an agent that is not there; `None` of one that is.
fn unknown_agent(name: &AgentName, agents: &BTreeMap<AgentName, AgentEntry>) -> Option<String> {
    let known = |name: &AgentName| agents.get(name).is_some_and(|entry| entry.facts.is_some());
    if known(name) {
        return None;
    }
    let names = agents.keys().filter(|name| known(name)).map(AgentName::as_str);
    Some(match did_you_mean(name.as_str(), names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it would be the file `{}`", agent_path(name.as_str())),
    })
}

/// Which skills make which webhook, the built-in layer first; made once, since there may be thousands of both.
struct Makers<'a> {
    own: BTreeMap<&'a WebhookId, Vec<&'a SkillName>>,
    builtin: BTreeMap<&'a ProviderName, Vec<&'a SkillName>>,
}

impl<'a> Makers<'a> {
    fn of(fragments: &'a [(Layer, SkillConfig)]) -> Self {
        let mut makers = Makers { own: BTreeMap::new(), builtin: BTreeMap::new() };
        let in_layer = |wanted: Layer| fragments.iter().filter(move |(layer, _)| *layer == wanted);
        for (_, config) in in_layer(Layer::Builtin).chain(in_layer(Layer::Extension)) {
            match &config.own_id {
                Some(id) => makers.own.entry(id).or_default().push(&config.skill),
                None => {
                    for provider in &config.providers {
                        makers.builtin.entry(provider).or_default().push(&config.skill);
                    }
                }
            }
        }
        makers
    }

    fn sources(&self, spec: &WebhookSpec) -> Vec<SkillName> {
        let extending = self.builtin.get(&spec.provider).filter(|_| spec.builtin);
        let own = self.own.get(&spec.id);
        own.into_iter().chain(extending).flatten().map(|skill| (*skill).clone()).collect()
    }
}

/// Decides which missing files count as deleted.
struct Absence<'a> {
    circumstances: &'a Circumstances<'a>,
    partial: bool,
    guarded: bool,
    seen: BTreeMap<String, Timestamp>,
    look_again: Option<SignedDuration>,
    held_by_guard: usize,
}

impl<'a> Absence<'a> {
    fn new(snapshot: &Snapshot, observed: &Observed, circumstances: &'a Circumstances<'a>) -> Self {
        let own_skills = observed.skills.iter().filter(|(_, entry)| !entry.embedded && entry.facts.is_some());
        let own_agents = observed.agents.iter().filter(|(_, entry)| !entry.embedded && entry.facts.is_some());
        let (mut all, mut gone) = (0, 0);
        for present in own_skills
            .map(|(name, _)| snapshot.skills.contains_key(name))
            .chain(own_agents.map(|(name, _)| snapshot.agents.contains_key(name)))
        {
            all += 1;
            gone += usize::from(!present);
        }
        let too_much = (all > 1 && gone == all) || (all >= PRUNE_GUARD_FROM && gone * 2 >= all);
        Self {
            circumstances,
            partial: snapshot.partial,
            guarded: too_much && !circumstances.allow_prune,
            seen: BTreeMap::new(),
            look_again: None,
            held_by_guard: 0,
        }
    }

    /// Why a missing file is not taken for deleted; `None` when it is.
    fn why_not_gone(&mut self, path: &str, was_good: bool) -> Option<Diagnostic> {
        if !was_good {
            return None;
        }
        let since = self.circumstances.absent_since.get(path).copied().unwrap_or(self.circumstances.now);
        self.seen.insert(path.to_owned(), since);
        if self.partial {
            let message = "the directory could not be read: the last good version stays in force";
            return Some(Diagnostic::warning(path, Code::TreeUnreadable, message));
        }
        if self.guarded {
            self.held_by_guard += 1;
            let message = "the file is gone, and so is too much else: the last good version stays in force";
            let hint = "if the deletion is meant, run `skillhook reconcile --allow-prune`";
            return Some(Diagnostic::warning(path, Code::PruneHeld, message).hint(hint));
        }
        let away = self.circumstances.now.duration_since(since);
        let meant = self.circumstances.allow_prune || self.circumstances.deleted.contains(path);
        if away < ABSENCE && !meant {
            self.look_again = Some(ABSENCE - away);
            let message = "the file is gone: it is pruned if it stays away";
            return Some(Diagnostic::warning(path, Code::TreeUnreadable, message));
        }
        None
    }
}
