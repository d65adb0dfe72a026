//! From the fragments of all skills to the webhooks that are served.
//!
//! The built-in layer comes first, then the extending skills in the order of their paths. A command of an extension
//! replaces the built-in one of its name; between two extensions the earlier path wins and the later skill is left
//! out altogether, with the reason, so that one bad skill never takes another one down. The outcome depends on
//! nothing but the fragments, the definitions and the agents: equal files give equal webhooks on every machine.

mod draft;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::draft::Draft;
use super::diagnostic::{Diagnostic, did_you_mean};
use super::ids::{AgentName, ProviderName, SkillName, WebhookId};
use super::provider::{Allowed, Catalogue};
use super::spec::{SkillConfig, WebhookSpec};
use crate::error::Code;

/// Where a fragment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// Shipped, or laid down by `init` and perhaps edited since.
    Builtin,
    Extension,
}

/// By the skill that they are about.
pub type Findings = BTreeMap<SkillName, Vec<Diagnostic>>;

/// What the fragments came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merged {
    pub webhooks: BTreeMap<WebhookId, WebhookSpec>,
    /// Of skills that are left out. Without positions: the fragments do not carry them.
    pub diagnostics: Findings,
}

/// Where a skill's file stands, relative to the root.
pub fn skill_path(skill: &SkillName) -> String {
    format!(".claude/skills/{skill}/SKILL.md")
}

/// The skill whose fragment replaces what the built-in webhook says of itself: where edits of a built-in go.
pub fn editing_skill(provider: &ProviderName) -> String {
    format!("{}-commands", provider.as_str().replace('_', "-"))
}

/// Merges them all. `unknown_agent` knows the agents of the same snapshot: of any other it says what may help.
pub fn webhooks(
    fragments: &[(Layer, SkillConfig)],
    catalogue: &Catalogue,
    unknown_agent: &dyn Fn(&AgentName) -> Option<String>,
) -> Merged {
    let mut fragments: Vec<&(Layer, SkillConfig)> = fragments.iter().collect();
    fragments.sort_by_cached_key(|(layer, fragment)| (*layer, skill_path(&fragment.skill)));
    // A default command that is missing shows only at the end; without its skill everything is merged anew.
    // Each round leaves out at least one more skill, so there are at most as many rounds as skills.
    let mut late = BTreeMap::new();
    loop {
        let left_out = late.keys().cloned().collect();
        let mut round = Round { catalogue, unknown_agent, left_out, drafts: BTreeMap::new(), found: BTreeMap::new() };
        round.join_all(&fragments);
        match round.finish() {
            Ok(merged) => {
                let diagnostics = merged.diagnostics.into_iter().chain(late).collect();
                return Merged { diagnostics, ..merged };
            }
            Err(faults) => late.extend(faults),
        }
    }
}

struct Round<'a> {
    catalogue: &'a Catalogue,
    unknown_agent: &'a dyn Fn(&AgentName) -> Option<String>,
    left_out: BTreeSet<SkillName>,
    drafts: BTreeMap<WebhookId, Draft>,
    found: Findings,
}

impl Round<'_> {
    fn join_all(&mut self, fragments: &[&(Layer, SkillConfig)]) {
        for (layer, fragment) in fragments {
            if self.left_out.contains(&fragment.skill) {
                continue;
            }
            match self.joined(*layer, fragment) {
                Ok(drafts) => self.drafts.extend(drafts.into_iter().map(|draft| (draft.id.clone(), draft))),
                Err(faults) => drop(self.found.insert(fragment.skill.clone(), report(&fragment.skill, faults))),
            }
        }
    }

    /// `Err` with what only showed now.
    fn finish(self) -> Result<Merged, Findings> {
        let mut webhooks = BTreeMap::new();
        let mut late = Findings::new();
        for (id, draft) in self.drafts {
            match draft.finish() {
                Ok(spec) => drop(webhooks.insert(id, spec)),
                Err((skill, fault)) => late.entry(skill.clone()).or_default().extend(report(&skill, vec![fault])),
            }
        }
        if late.is_empty() { Ok(Merged { webhooks, diagnostics: self.found }) } else { Err(late) }
    }

    /// The webhooks that the fragment touches, as they are with it. All or nothing.
    fn joined(&self, layer: Layer, fragment: &SkillConfig) -> Result<Vec<Draft>, Vec<Fault>> {
        let mut faults = self.missing_agents(fragment);
        faults.extend(self.missing_operations(fragment));
        let mut drafts = Vec::new();
        for provider in &fragment.providers {
            let Some(definition) = self.catalogue.get(provider.as_str()) else {
                faults.push(Fault::new(Code::ProviderUnknown, format!("there is no provider `{provider}`")));
                continue;
            };
            if !definition.has_repositories()
                && let Some(command) = fragment.commands.iter().find(|command| command.checkout)
            {
                let message = format!("`{}` wants a checkout, and `{provider}` has no repositories", command.name);
                faults.push(Fault::new(Code::ConfigValue, message).hint("leave `checkout` out"));
            }
            let draft = match &fragment.own_id {
                Some(id) => self.own(id, provider, fragment),
                None => Ok(self.builtin(provider)),
            };
            let joined = draft.map_err(|fault| vec![fault]).and_then(|mut draft| {
                draft.resolve(definition, fragment)?;
                draft.join(layer, fragment)?;
                Ok(draft)
            });
            match joined {
                Ok(draft) => drafts.push(draft),
                Err(more) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(drafts) } else { Err(faults) }
    }

    fn builtin(&self, provider: &ProviderName) -> Draft {
        match self.drafts.get(provider.as_str()) {
            Some(draft) => draft.clone(),
            None => Draft::builtin(provider),
        }
    }

    fn own(&self, id: &WebhookId, provider: &ProviderName, fragment: &SkillConfig) -> Result<Draft, Fault> {
        if self.catalogue.get(id.as_str()).is_some() {
            return Err(Fault::new(Code::EndpointTaken, format!("`{id}` is the id of a built-in webhook")));
        }
        match self.drafts.get(id) {
            Some(other) => {
                let owner = other.owner().map(|skill| format!(" of the skill `{skill}`")).unwrap_or_default();
                Err(Fault::new(Code::EndpointTaken, format!("there is a webhook `{id}`{owner} already")))
            }
            None => Ok(Draft::own(id, provider, &fragment.skill)),
        }
    }

    /// An operation without a provider is one of any that the fragment is for.
    fn missing_operations(&self, fragment: &SkillConfig) -> Vec<Fault> {
        let listed = fragment.commands.iter().flat_map(|command| command.provider_calls.iter().flatten());
        let fault = |written: &String| {
            let allowed = Allowed::parse(written);
            let providers: Vec<&str> = match allowed.provider {
                Some(provider) => vec![provider],
                None => fragment.providers.iter().map(ProviderName::as_str).collect(),
            };
            let definitions: Vec<_> = providers.into_iter().filter_map(|name| self.catalogue.get(name)).collect();
            let mut known = definitions.iter().flat_map(|definition| definition.operations());
            if known.any(|name| name == allowed.operation) {
                return None;
            }
            let fault = Fault::new(Code::ReferenceMissing, format!("there is no operation `{written}`"));
            let known = definitions.iter().flat_map(|definition| definition.operations());
            Some(match did_you_mean(allowed.operation, known) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint("the definition of the provider lists them under `operations`"),
            })
        };
        listed.filter_map(fault).collect()
    }

    fn missing_agents(&self, fragment: &SkillConfig) -> Vec<Fault> {
        let of_commands = fragment.commands.iter().filter_map(|command| command.target_agent.as_ref());
        let named: BTreeSet<&AgentName> = fragment.target_agent.iter().chain(of_commands).collect();
        let fault = |agent: &AgentName| {
            let hint = (self.unknown_agent)(agent)?;
            Some(Fault::new(Code::ReferenceMissing, format!("there is no agent `{agent}`")).hint(hint))
        };
        named.into_iter().filter_map(fault).collect()
    }
}

/// What keeps a fragment out.
#[derive(Clone, Debug)]
struct Fault {
    code: Code,
    message: String,
    hint: Option<String>,
}

impl Fault {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

fn report(skill: &SkillName, faults: Vec<Fault>) -> Vec<Diagnostic> {
    let path = skill_path(skill);
    let diagnostic = |Fault { code, message, hint }| Diagnostic { hint, ..Diagnostic::error(&*path, code, message) };
    faults.into_iter().map(diagnostic).collect()
}
