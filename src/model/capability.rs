//! The capability ratchet: what a change lets runs and strangers do that they could not do before.
//!
//! Power only: other prompts, names and descriptions are no widening. It errs on the side of finding one, because the
//! answer decides whether a person has to look. Every field of a specification is named here, so that a new one does
//! not compile before somebody has decided whether it is power.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::approval::Approval;
use super::entry::{AgentEntry, Observed};
use super::ids::{AgentName, WebhookId};
use super::spec::{Action, Allow, CommandSpec, PermissionRule, RateLimit, SecretRef, WebhookSpec};

/// A kind of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// Another address that strangers can post to, or one that answers again.
    Endpoint,
    /// What proves who has sent a delivery.
    Signature,
    Secrets,
    /// Who may start runs, or agree to them.
    Actors,
    /// What starts runs.
    Commands,
    /// Which agent runs, and what it may use.
    Tools,
    /// How much a run may cost or take, and how many there may be.
    Budget,
}

/// One way in which a change widens power.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Widening {
    pub power: Power,
    /// For example `webhook/github` or `agent/planning`.
    pub resource: String,
    /// What became wider, for people.
    pub what: String,
}

impl fmt::Display for Widening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.what)
    }
}

/// Everything that is wider afterwards, in order.
pub fn widenings(before: &Observed, after: &Observed) -> Vec<Widening> {
    let mut found = Found { resource: String::new(), widenings: BTreeSet::new() };
    for (id, entry) in &after.webhooks {
        found.resource = format!("webhook/{id}");
        match before.webhooks.get(id) {
            Some(old) if old.digest == entry.digest => {}
            Some(old) => webhook(&mut found, &old.spec, &entry.spec),
            None => new_webhook(&mut found, id, &entry.spec),
        }
    }
    for (name, entry) in &after.agents {
        found.resource = format!("agent/{name}");
        agent(&mut found, name, before.agents.get(name), entry);
    }
    found.widenings.into_iter().collect()
}

struct Found {
    resource: String,
    widenings: BTreeSet<Widening>,
}

impl Found {
    fn add(&mut self, power: Power, what: impl Into<String>) {
        self.widenings.insert(Widening { power, resource: self.resource.clone(), what: what.into() });
    }

    fn add_if(&mut self, wider: bool, power: Power, what: &str) {
        if wider {
            self.add(power, what);
        }
    }
}

fn new_webhook(found: &mut Found, id: &WebhookId, spec: &WebhookSpec) {
    found.add(Power::Endpoint, format!("a new endpoint `{}` for `{id}`", spec.endpoint));
    found.add_if(!spec.requires_signature, Power::Signature, "deliveries need no signature");
}

fn webhook(found: &mut Found, old: &WebhookSpec, new: &WebhookSpec) {
    let WebhookSpec {
        id: _,
        provider,
        endpoint,
        builtin: _,
        name: _,
        description: _,
        enabled,
        target_agent,
        requires_signature,
        definition: _, // covered by its digest
        definition_digest,
        secrets,
        prefixes: _,
        default_command: _,
        commands,
        match_mode: _,
        allow,
        concurrency_max,
        rate_limit,
        timeout_seconds,
        retries,
        ack: _,
        reply: _,
        strict_templates: _,
        budget,
    } = new;
    found.add_if(*endpoint != old.endpoint, Power::Endpoint, "another endpoint");
    found.add_if(*enabled && !old.enabled, Power::Endpoint, "it is enabled");
    found.add_if(!requires_signature && old.requires_signature, Power::Signature, "deliveries need no signature");
    let verified_otherwise = *definition_digest != old.definition_digest || *provider != old.provider;
    found.add_if(verified_otherwise, Power::Signature, "deliveries are verified and read in another way");
    found.add_if(target_agent != &old.target_agent, Power::Tools, "another agent decides");
    let known: BTreeSet<&SecretRef> = old.secrets.values().flatten().collect();
    found.add_if(secrets.values().flatten().any(|secret| !known.contains(secret)), Power::Secrets, "another secret");
    actors(found, &old.allow, allow);
    found.add_if(raised(old.concurrency_max, *concurrency_max), Power::Budget, "more runs at once");
    found.add_if(rate_raised(old.rate_limit, *rate_limit), Power::Budget, "more deliveries in a time");
    found.add_if(*timeout_seconds > old.timeout_seconds, Power::Budget, "runs may take longer");
    let more_a_day = raised(old.budget.usd, budget.usd) || raised(old.budget.runs, budget.runs);
    found.add_if(more_a_day, Power::Budget, "runs may use more in a day");
    found.add_if(*retries > old.retries, Power::Budget, "failed runs are tried more often");
    for command in commands {
        match old.command(command.name.as_str()) {
            Some(before) if before == command => {}
            Some(before) => changed_command(found, before, command),
            None => found.add(Power::Commands, format!("a new command `{}`", command.name)),
        }
    }
}

fn actors(found: &mut Found, old: &Allow, new: &Allow) {
    let Allow { permission, actors, associations, bots, resources } = new;
    let any = |rule: Option<PermissionRule>| rule == Some(PermissionRule::Any);
    found.add_if(any(*permission) && !any(old.permission), Power::Actors, "anyone may start runs");
    found.add_if(list_widened(&old.actors, actors), Power::Actors, "more actors may start runs");
    found.add_if(list_widened(&old.associations, associations), Power::Actors, "more associations may start runs");
    found.add_if(bots.iter().any(|bot| !old.bots.contains(bot)), Power::Actors, "more bots may start runs");
    found.add_if(list_widened(&old.resources, resources), Power::Actors, "runs may start from more places");
}

fn changed_command(found: &mut Found, old: &CommandSpec, new: &CommandSpec) {
    let CommandSpec {
        name,
        aliases: _,
        description: _,
        source: _,
        target_agent,
        template: _,
        triggers,
        conditions,
        priority: _,
        action,
        forward_to,
        requires_prefix,
        model: _,
        tools,
        max_turns,
        budget_usd,
        timeout_seconds,
        approval,
        checkout,
        provider_calls,
    } = new;
    let mut command = |wider: bool, power: Power, what: &str| {
        if wider {
            found.add(power, format!("command `{name}`: {what}"));
        }
    };
    command(target_agent != &old.target_agent, Power::Tools, "another agent runs");
    let wider_tools = old.tools != *tools && (tools.is_none() || tools_added(old.tools.as_deref(), tools.as_deref()));
    command(wider_tools, Power::Tools, "more tools");
    command(action.runs_agent() && !old.action.runs_agent(), Power::Commands, "it starts runs");
    let forwards = *action == Action::Forward && (old.action != *action || old.forward_to != *forward_to);
    command(forwards, Power::Commands, "deliveries are posted elsewhere");
    command(triggers.iter().any(|event| !old.triggers.contains(event)), Power::Commands, "more events start it");
    command(*conditions != old.conditions, Power::Commands, "other conditions");
    command(!requires_prefix && old.requires_prefix, Power::Commands, "it needs no prefix");
    command(approval_eased(old.approval.as_ref(), approval.as_ref()), Power::Actors, "less approval is needed");
    command(*checkout && !old.checkout, Power::Tools, "it gets the files of the repository");
    let had = |call: &String| old.provider_calls.iter().flatten().any(|had| had == call);
    let more_calls = provider_calls.iter().flatten().any(|call| !had(call))
        || (provider_calls.is_none() && old.provider_calls.is_some());
    command(more_calls, Power::Tools, "it may ask providers to do more");
    command(not_lowered(old.max_turns, *max_turns), Power::Budget, "more turns");
    command(not_lowered(old.budget_usd, *budget_usd), Power::Budget, "a larger budget");
    command(not_lowered(old.timeout_seconds, *timeout_seconds), Power::Budget, "a longer time limit");
}

fn agent(found: &mut Found, name: &AgentName, old: Option<&AgentEntry>, new: &AgentEntry) {
    let Some(facts) = &new.facts else { return };
    let old = old.and_then(|entry| entry.facts.as_ref());
    match old {
        Some(old) => {
            let (old, new) = (old.tools.as_deref(), facts.tools.as_deref());
            found.add_if(old.is_some() && (new.is_none() || tools_added(old, new)), Power::Tools, "more tools");
        }
        None => match &facts.tools {
            Some(tools) if tools.is_empty() => {}
            Some(tools) => found.add(Power::Tools, format!("a new agent `{name}` that may use {}", tools.join(", "))),
            None => found.add(Power::Tools, format!("a new agent `{name}` that may use every tool")),
        },
    }
}

/// `None` is no limit.
fn raised<T: PartialOrd>(old: Option<T>, new: Option<T>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => new > old,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// A gate that falls, or that more people can open, or for longer.
fn approval_eased(old: Option<&Approval>, new: Option<&Approval>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            (new.self_approval && !old.self_approval)
                || list_widened(&old.approvers, &new.approvers)
                || new.expires_seconds > old.expires_seconds
        }
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// `None` is a limit that is set elsewhere: only a smaller number is surely no more.
fn not_lowered<T: PartialOrd>(old: Option<T>, new: Option<T>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => new > old,
        (None, None) => false,
        (Some(_), None) | (None, Some(_)) => true,
    }
}

/// An empty list allows everybody.
fn list_widened(old: &[String], new: &[String]) -> bool {
    !old.is_empty() && (new.is_empty() || new.iter().any(|item| !old.contains(item)))
}

fn tools_added(old: Option<&[String]>, new: Option<&[String]>) -> bool {
    new.unwrap_or_default().iter().any(|tool| !old.unwrap_or_default().contains(tool))
}

fn rate_raised(old: Option<RateLimit>, new: Option<RateLimit>) -> bool {
    let per_day = |limit: RateLimit| f64::from(limit.max) * 86_400.0 / (limit.per_seconds.max(1) as f64);
    raised(old.map(per_day), new.map(per_day))
}

#[cfg(test)]
mod tests;
