//! The difference between what is in force and what the files ask for, as data. Applying it decides nothing more.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::entry::{AgentEntry, Observed, SkillEntry, Standing, WebhookEntry};
use super::ids::{AgentName, SkillName, WebhookId};
use super::spec::WebhookSpec;

/// What happens to one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Create,
    Update,
    /// Its file changed; what is in force did not.
    Touch,
    /// Its last good version stays in force.
    Hold,
    Prune,
    /// It is broken and was never good.
    Reject,
}

/// The kinds of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Agent,
    Skill,
    Webhook,
}

/// One line of the plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Action {
    pub kind: Kind,
    pub name: String,
    pub verb: Verb,
    /// For webhooks: the generation that will be in force.
    pub generation: Option<u64>,
    /// Why, where the verb does not say it all.
    pub note: Option<String>,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, kind) = (format!("{:?}", self.verb).to_lowercase(), format!("{:?}", self.kind).to_lowercase());
        write!(f, "{verb} {kind}/{}", self.name)?;
        if let Some(generation) = self.generation {
            write!(f, " generation {generation}")?;
        }
        if let Some(note) = &self.note {
            write!(f, ": {note}")?;
        }
        Ok(())
    }
}

/// What to write, and what that means to people.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In the order kind, name.
    pub actions: Vec<Action>,
    pub next: Observed,
}

impl Plan {
    /// Whether anything changes in the index: held things that are held already do not count.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

/// What the files ask for, before generations are known.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    pub skills: BTreeMap<SkillName, SkillEntry>,
    pub agents: BTreeMap<AgentName, AgentEntry>,
    pub webhooks: BTreeMap<WebhookId, (WebhookSpec, Vec<SkillName>)>,
}

/// The generation a webhook had last, wherever that is remembered.
pub type Generations = BTreeMap<WebhookId, (u64, Digest)>;

/// Compares. `generations` remembers those of webhooks that the index has forgotten, so that numbers never go back.
pub fn plan(desired: Desired, observed: &Observed, generations: &Generations) -> Plan {
    let mut actions = Vec::new();
    for (name, entry) in &desired.agents {
        let before = observed.agents.get(name);
        let same = before.is_some_and(|before| before.file == entry.file && before.embedded == entry.embedded);
        let verb = file_verb(before.map(|b| (b.standing, b == entry)), entry.standing, same);
        actions.extend(verb.map(|verb| file_action(Kind::Agent, name.as_str(), verb, &entry.diagnostics)));
    }
    for (name, entry) in &desired.skills {
        let before = observed.skills.get(name);
        let same = before.is_some_and(|before| before.facts == entry.facts && before.embedded == entry.embedded);
        let verb = file_verb(before.map(|b| (b.standing, b == entry)), entry.standing, same);
        actions.extend(verb.map(|verb| file_action(Kind::Skill, name.as_str(), verb, &entry.diagnostics)));
    }
    let gone_agents = observed.agents.keys().filter(|name| !desired.agents.contains_key(*name));
    actions.extend(gone_agents.map(|name| file_action(Kind::Agent, name.as_str(), Verb::Prune, &[])));
    let gone_skills = observed.skills.keys().filter(|name| !desired.skills.contains_key(*name));
    actions.extend(gone_skills.map(|name| file_action(Kind::Skill, name.as_str(), Verb::Prune, &[])));

    let webhooks = plan_webhooks(desired.webhooks, observed, generations, &mut actions);
    actions.sort();
    Plan { actions, next: Observed { skills: desired.skills, agents: desired.agents, webhooks } }
}

/// `before`: its standing and whether the whole entry is equal; `same`: whether what is in force is equal.
fn file_verb(before: Option<(Standing, bool)>, now: Standing, same: bool) -> Option<Verb> {
    match (before, now) {
        (Some((_, true)), _) => None,
        (_, Standing::Held) => Some(Verb::Hold),
        (_, Standing::Rejected) => Some(Verb::Reject),
        (None | Some((Standing::Rejected, _)), Standing::Current) => Some(Verb::Create),
        (Some(_), Standing::Current) if same => Some(Verb::Touch),
        (Some(_), Standing::Current) => Some(Verb::Update),
    }
}

fn file_action(kind: Kind, name: &str, verb: Verb, diagnostics: &[super::diagnostic::Diagnostic]) -> Action {
    let note = match verb {
        Verb::Hold | Verb::Reject => diagnostics.first().map(ToString::to_string),
        Verb::Create | Verb::Update | Verb::Touch | Verb::Prune => None,
    };
    Action { kind, name: name.to_owned(), verb, generation: None, note }
}

fn plan_webhooks(
    desired: BTreeMap<WebhookId, (WebhookSpec, Vec<SkillName>)>,
    observed: &Observed,
    generations: &Generations,
    actions: &mut Vec<Action>,
) -> BTreeMap<WebhookId, WebhookEntry> {
    for id in observed.webhooks.keys().filter(|id| !desired.contains_key(*id)) {
        let name = id.to_string();
        actions.push(Action { kind: Kind::Webhook, name, verb: Verb::Prune, generation: None, note: None });
    }
    let mut webhooks = BTreeMap::new();
    for (id, (spec, sources)) in desired {
        let before = observed.webhooks.get(&id);
        // To compare is cheaper than to write it out and hash it, and nearly all are as they were.
        let digest = before.filter(|before| before.spec == spec).map_or_else(|| spec.digest(), |before| before.digest);
        let remembered = before.map(|entry| (entry.generation, entry.digest)).or_else(|| generations.get(&id).copied());
        let generation = match remembered {
            Some((number, last)) if last == digest => number,
            Some((number, _)) => number + 1,
            None => 1,
        };
        let entry = WebhookEntry { spec, digest, generation, sources };
        let verb = match before {
            None => Some(Verb::Create),
            Some(before) if before.digest != digest => Some(Verb::Update),
            Some(before) if before.sources != entry.sources => Some(Verb::Touch),
            Some(_) => None,
        };
        if let Some(verb) = verb {
            let (name, generation) = (id.to_string(), Some(generation));
            actions.push(Action { kind: Kind::Webhook, name, verb, generation, note: None });
        }
        webhooks.insert(id, entry);
    }
    webhooks
}
