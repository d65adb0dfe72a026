//! One webhook while fragments join it.

use std::collections::BTreeMap;

use super::{Fault, Layer, editing_skill};
use crate::error::Code;
use crate::model::check::COMMANDS_MAX;
use crate::model::digest::Digest;
use crate::model::ids::{AgentName, CommandName, ProviderName, SkillName, WebhookId};
use crate::model::provider::Definition;
use crate::model::provider::schema::SlotUse;
use crate::model::spec::{
    AckMode, Allow, CommandSpec, MatchMode, RETRIES_DEFAULT, RateLimit, ReplyMode, SecretRef, SkillConfig,
    TIMEOUT_SECONDS_DEFAULT, WebhookSpec,
};
use crate::model::task::DailyBudget;

/// The agent that decides where nobody else is named.
const AGENT_DEFAULT: &str = "brain";

#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) id: WebhookId,
    provider: ProviderName,
    owner: Option<SkillName>,
    definition: Option<serde_json::Value>,
    definition_digest: Digest,
    title: String,
    secrets: BTreeMap<String, Vec<SecretRef>>,
    commands: Vec<(Layer, CommandSpec)>,
    /// Of the built-in layer, and of extensions; where extensions add some, both count.
    prefixes: Vec<(Layer, String)>,
    settings: Settings,
}

/// Who set it, and to what.
type Set<T> = Option<(Layer, SkillName, T)>;

#[derive(Clone, Debug, Default)]
struct Settings {
    name: Set<String>,
    description: Set<String>,
    enabled: Set<bool>,
    target_agent: Set<AgentName>,
    requires_signature: Set<bool>,
    default_command: Set<CommandName>,
    match_mode: Set<MatchMode>,
    allow: Set<Allow>,
    concurrency_max: Set<u32>,
    rate_limit: Set<RateLimit>,
    timeout_seconds: Set<u64>,
    retries: Set<u32>,
    ack: Set<AckMode>,
    reply: Set<ReplyMode>,
    strict_templates: Set<bool>,
    budget: Set<DailyBudget>,
}

impl Draft {
    pub(super) fn builtin(provider: &ProviderName) -> Self {
        // Whatever may stand in a provider's name may stand in an id.
        let id = WebhookId::parse(provider.as_str()).expect("a provider's name is an id");
        Self::new(id, provider, None)
    }

    pub(super) fn own(id: &WebhookId, provider: &ProviderName, owner: &SkillName) -> Self {
        Self::new(id.clone(), provider, Some(owner.clone()))
    }

    fn new(id: WebhookId, provider: &ProviderName, owner: Option<SkillName>) -> Self {
        Self {
            id,
            provider: provider.clone(),
            owner,
            definition: None,
            definition_digest: Digest::of(b""),
            title: String::new(),
            secrets: BTreeMap::new(),
            commands: Vec::new(),
            prefixes: Vec::new(),
            settings: Settings::default(),
        }
    }

    pub(super) fn owner(&self) -> Option<&SkillName> {
        self.owner.as_ref()
    }

    /// What the provider's definition settles: its digest, and which secrets are meant.
    pub(super) fn resolve(&mut self, definition: &Definition, fragment: &SkillConfig) -> Result<(), Vec<Fault>> {
        let inline = fragment.definition.as_ref().filter(|_| self.owner.is_some());
        let overlaid = inline.map(|inline| definition.overlaid(inline)).transpose().map_err(|findings| {
            let faults = findings.into_iter().map(|finding| Fault::new(Code::DefinitionInvalid, finding.message));
            faults.collect::<Vec<_>>()
        })?;
        let definition = overlaid.as_ref().unwrap_or(definition);
        self.definition = inline.cloned();
        self.definition_digest = definition.digest();
        self.title = definition.title().to_owned();
        let said = if self.owner.is_some() { &fragment.secrets } else { &BTreeMap::new() };
        self.secrets = secrets(definition, said, fragment.requires_signature != Some(false));
        Ok(())
    }

    /// Takes the fragment in, or says everything that stands against it.
    pub(super) fn join(&mut self, layer: Layer, fragment: &SkillConfig) -> Result<(), Vec<Fault>> {
        let editing = self.owner.is_none() && fragment.skill.as_str() == editing_skill(&self.provider);
        let guest = self.owner.is_none() && layer == Layer::Extension && !editing;
        if guest && fragment.enabled == Some(false) {
            // A guest switches off what it brings, never the webhook of everybody.
            return Ok(());
        }
        let mut faults = Vec::new();
        for command in &fragment.commands {
            if let Err(fault) = self.add_command(layer, command) {
                faults.push(fault);
            }
        }
        if self.commands.len() > COMMANDS_MAX {
            let message = format!("the webhook `{}` would have more than {COMMANDS_MAX} commands", self.id);
            faults.push(Fault::new(Code::ConfigValue, message));
        }
        self.add_prefixes(layer, fragment, editing);
        self.settle(layer, fragment, guest, &mut faults);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn add_command(&mut self, layer: Layer, command: &CommandSpec) -> Result<(), Fault> {
        let stronger = |other: &(Layer, CommandSpec)| other.0 == Layer::Builtin && layer == Layer::Extension;
        let same = self.commands.iter().position(|(_, other)| other.name == command.name);
        if let Some(other) = same.map(|at| &self.commands[at]).filter(|other| !stronger(other)) {
            return Err(self.conflict(command.name.as_str(), &other.1));
        }
        let rivals = self.commands.iter().enumerate().filter(|(at, _)| Some(*at) != same);
        for (_, other) in rivals {
            let word = words(command).find(|word| words(&other.1).any(|taken| same_word(taken, word)));
            let Some(word) = word else { continue };
            // A built-in command gives an alias up, never its name.
            if !stronger(other) || same_word(other.1.name.as_str(), word) {
                return Err(self.conflict(word, &other.1));
            }
        }
        for (_, other) in self.commands.iter_mut().filter(|other| stronger(other)) {
            other.aliases.retain(|alias| !words(command).any(|word| same_word(word, alias)));
        }
        if let Some(at) = same {
            self.commands.remove(at);
        }
        self.commands.push((layer, command.clone()));
        Ok(())
    }

    fn conflict(&self, word: &str, other: &CommandSpec) -> Fault {
        let message = format!(
            "`{word}` already calls the command `{}` of the skill `{}` on the webhook `{}`",
            other.name, other.source, self.id
        );
        Fault::new(Code::CommandConflict, message).hint("give it another name, or give the webhook an `id` of its own")
    }

    /// The editing skill replaces the prefixes; other skills bring theirs along.
    fn add_prefixes(&mut self, layer: Layer, fragment: &SkillConfig, editing: bool) {
        let Some(prefixes) = &fragment.prefixes else { return };
        if editing {
            self.prefixes.retain(|(layer, _)| *layer == Layer::Extension);
        }
        for prefix in prefixes {
            if !self.prefixes.iter().any(|(_, other)| other.to_lowercase() == prefix.to_lowercase()) {
                self.prefixes.push((layer, prefix.clone()));
            }
        }
    }

    fn settle(&mut self, layer: Layer, fragment: &SkillConfig, guest: bool, faults: &mut Vec<Fault>) {
        let webhook = self.id.clone();
        let by = Setter { layer, skill: &fragment.skill, webhook: &webhook };
        let settings = &mut self.settings;
        // What a webhook is called is no matter of contention: the first word stands.
        by.first(&mut settings.name, fragment.name.as_ref());
        by.first(&mut settings.description, fragment.description.as_ref());
        if !guest {
            by.set(&mut settings.enabled, fragment.enabled.as_ref(), "enabled", faults);
        }
        by.set(&mut settings.target_agent, fragment.target_agent.as_ref(), "target_agent", faults);
        by.set(&mut settings.default_command, fragment.default_command.as_ref(), "default_command", faults);
        by.set(&mut settings.match_mode, fragment.match_mode.as_ref(), "match", faults);
        by.set(&mut settings.allow, fragment.allow.as_ref(), "allow", faults);
        by.set(&mut settings.concurrency_max, fragment.concurrency_max.as_ref(), "concurrency", faults);
        by.set(&mut settings.rate_limit, fragment.rate_limit.as_ref(), "rate_limit", faults);
        by.set(&mut settings.budget, fragment.budget.as_ref(), "budget", faults);
        by.set(&mut settings.timeout_seconds, fragment.timeout_seconds.as_ref(), "timeout", faults);
        by.set(&mut settings.retries, fragment.retries.as_ref(), "retries", faults);
        by.set(&mut settings.ack, fragment.ack.as_ref(), "ack", faults);
        by.set(&mut settings.reply, fragment.reply.as_ref(), "reply", faults);
        by.set(&mut settings.strict_templates, fragment.strict_templates.as_ref(), "strict_templates", faults);
        if self.owner.is_some() {
            by.set(
                &mut settings.requires_signature,
                fragment.requires_signature.as_ref(),
                "requires_signature",
                faults,
            );
        }
    }

    /// Fills in what nobody said. Fails, on the skill that said it, where the default command does not exist.
    pub(super) fn finish(self) -> Result<WebhookSpec, (SkillName, Fault)> {
        let mut commands: Vec<CommandSpec> = self.commands.into_iter().map(|(_, command)| command).collect();
        commands.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
        let settings = self.settings;
        if let Some((_, skill, name)) = &settings.default_command
            && !commands.iter().any(|command| command.name == *name)
        {
            let message = format!("the webhook `{}` has no command `{name}` to be its default", self.id);
            return Err((skill.clone(), Fault::new(Code::ReferenceMissing, message)));
        }
        let name = match &self.owner {
            None => self.title,
            Some(_) => self.id.to_string(),
        };
        let endpoint = match &self.owner {
            None => format!("/webhooks/{}", self.provider),
            Some(_) => format!("/webhooks/{}/{}", self.provider, self.id),
        };
        let agent = || AgentName::parse(AGENT_DEFAULT).expect("the default agent has a good name");
        Ok(WebhookSpec {
            id: self.id,
            provider: self.provider,
            endpoint,
            builtin: self.owner.is_none(),
            name: value(settings.name).unwrap_or(name),
            description: value(settings.description).unwrap_or_default(),
            enabled: value(settings.enabled).unwrap_or(true),
            target_agent: value(settings.target_agent).unwrap_or_else(agent),
            requires_signature: value(settings.requires_signature).unwrap_or(true),
            definition: self.definition,
            definition_digest: self.definition_digest,
            secrets: self.secrets,
            prefixes: self.prefixes.into_iter().map(|(_, prefix)| prefix).collect(),
            default_command: value(settings.default_command),
            commands,
            match_mode: value(settings.match_mode).unwrap_or_default(),
            allow: value(settings.allow).unwrap_or_default(),
            concurrency_max: value(settings.concurrency_max),
            rate_limit: value(settings.rate_limit),
            timeout_seconds: value(settings.timeout_seconds).unwrap_or(TIMEOUT_SECONDS_DEFAULT),
            retries: value(settings.retries).unwrap_or(RETRIES_DEFAULT),
            ack: value(settings.ack).unwrap_or_default(),
            reply: value(settings.reply).unwrap_or_default(),
            strict_templates: value(settings.strict_templates).unwrap_or(false),
            budget: value(settings.budget).unwrap_or_default(),
        })
    }
}

/// One fragment that sets things.
struct Setter<'a> {
    layer: Layer,
    skill: &'a SkillName,
    webhook: &'a WebhookId,
}

impl Setter<'_> {
    /// An extension overrides the built-in layer; two skills of one layer must agree.
    fn set<T: Clone + PartialEq>(&self, slot: &mut Set<T>, said: Option<&T>, field: &str, faults: &mut Vec<Fault>) {
        let Some(said) = said else { return };
        match slot {
            Some((layer, skill, before)) if *layer == self.layer && before != said => {
                let message =
                    format!("the skill `{skill}` says otherwise about `{field}` of the webhook `{}`", self.webhook);
                faults.push(Fault::new(Code::ConfigValue, message).hint("leave it out in one of the two"));
            }
            Some((layer, _, _)) if *layer == self.layer => {}
            _ => *slot = Some((self.layer, self.skill.clone(), said.clone())),
        }
    }

    fn first<T: Clone>(&self, slot: &mut Set<T>, said: Option<&T>) {
        let Some(said) = said else { return };
        if slot.as_ref().is_none_or(|(layer, _, _)| *layer < self.layer) {
            *slot = Some((self.layer, self.skill.clone(), said.clone()));
        }
    }
}

fn value<T>(set: Set<T>) -> Option<T> {
    set.map(|(_, _, value)| value)
}

fn words(command: &CommandSpec) -> impl Iterator<Item = &str> {
    std::iter::once(command.name.as_str()).chain(command.aliases.iter().map(String::as_str))
}

/// As texts call commands: in any case of letters.
fn same_word(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// By real slot names; without any, the provider's usual environment variable.
fn secrets(
    definition: &Definition,
    said: &BTreeMap<String, Vec<SecretRef>>,
    signed: bool,
) -> BTreeMap<String, Vec<SecretRef>> {
    let Some(slot) = usual_slot(definition) else { return said.clone() };
    if said.is_empty() && signed {
        let suffix = if slot.ends_with("signing_secret") { "SIGNING_SECRET" } else { "WEBHOOK_SECRET" };
        let name = format!("{}_{suffix}", definition.name().as_str().to_ascii_uppercase());
        return BTreeMap::from([(slot.to_owned(), vec![SecretRef::Env(name)])]);
    }
    let mut out: BTreeMap<String, Vec<SecretRef>> = BTreeMap::new();
    for (name, places) in said {
        let name = if name.is_empty() { slot } else { name };
        out.entry(name.to_owned()).or_default().extend(places.iter().cloned());
    }
    out
}

/// The slot of a secret that is given without one.
fn usual_slot(definition: &Definition) -> Option<&str> {
    let verifying = || definition.slots().filter(|(_, usage)| *usage == SlotUse::Verify).map(|(name, _)| name);
    verifying().find(|name| name.starts_with("webhook_")).or_else(|| definition.primary_slot())
}
