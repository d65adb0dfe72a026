//! The commands of a fragment.

use std::collections::BTreeMap;

use super::agent::comma_list;
use super::report::Report;
use super::webhook::seconds;
use super::{COMMANDS_MAX, DESCRIPTION_CHARS_MAX, Surroundings};
use crate::error::Code;
use crate::model::approval::{Approval, EXPIRES_SECONDS_DEFAULT};
use crate::model::condition::Condition;
use crate::model::frontmatter::{KeyPath, Step};
use crate::model::ids::{AgentName, CommandName, NAME_CHARS_MAX, SkillName};
use crate::model::raw::{RawCommand, RawWebhook, Text};
use crate::model::spec::{Action, CommandSpec, PRIORITY_DEFAULT};
use crate::model::template::Template;

const ALIASES_MAX: usize = 16;
const TRIGGERS_MAX: usize = 16;
const TRIGGER_CHARS_MAX: usize = 128;
const PRIORITY_MAX: i32 = 1_000_000;
const TOOLS_MAX: usize = 64;
const TOOL_CHARS_MAX: usize = 200;
const TURNS_MAX: u32 = 1_000;
const BUDGET_USD_MAX: f64 = 1_000.0;
const PATH_CHARS_MAX: usize = 200;
const APPROVERS_MAX: usize = 64;
/// A week.
const APPROVAL_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

pub(super) fn check(
    report: &mut Report<'_>,
    raw: &RawWebhook,
    skill: &SkillName,
    around: Surroundings<'_>,
) -> Vec<CommandSpec> {
    let commands = raw.commands.as_deref().unwrap_or_default();
    let at = report.at("commands");
    if commands.len() > COMMANDS_MAX {
        let message = format!("there are {} commands, allowed are {COMMANDS_MAX}", commands.len());
        report.error(&at, Code::ConfigValue, message);
        return Vec::new();
    }
    let mut words = BTreeMap::new();
    let mut out = Vec::with_capacity(commands.len());
    for (index, command) in commands.iter().enumerate() {
        let mut check = Check { report, at: at.clone().index(index), raw: command, around };
        let name = check.name(&mut words);
        let aliases = check.aliases(name.as_ref(), &mut words);
        let source = skill.clone();
        out.extend(check.rest(name, aliases, source, raw));
    }
    out
}

struct Check<'c, 'a> {
    report: &'c mut Report<'a>,
    at: KeyPath,
    raw: &'c RawCommand,
    around: Surroundings<'c>,
}

/// Words by which commands are called in this file, with the command that has each.
type Words = BTreeMap<String, CommandName>;

impl Check<'_, '_> {
    fn name(&mut self, words: &mut Words) -> Option<CommandName> {
        let at = self.place("name");
        if self.raw.name.is_none() {
            self.report.error(&self.at, Code::ConfigField, "the command has no `name`");
        }
        let name = self.report.name(&at, self.raw.name.as_ref(), CommandName::parse)?;
        self.claim(&at, name.as_str(), &name, words);
        Some(name)
    }

    fn aliases(&mut self, name: Option<&CommandName>, words: &mut Words) -> Vec<String> {
        let Some(written) = &self.raw.aliases else { return Vec::new() };
        let mut out = Vec::new();
        for (at, text) in self.report.items(&self.place("aliases"), written, ALIASES_MAX) {
            let Some(alias) = self.report.word(&at, text, NAME_CHARS_MAX) else { continue };
            if let Some(odd) = alias.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_'))) {
                let message =
                    format!("`{alias}` cannot be called: `{}` is not allowed in an alias", odd.escape_default());
                self.report.error(&at, Code::ConfigValue, message);
            } else if let Some(name) = name {
                self.claim(&at, &alias, name, words);
                out.push(alias);
            }
        }
        out
    }

    fn claim(&mut self, at: &KeyPath, word: &str, name: &CommandName, words: &mut Words) {
        match words.get(&word.to_lowercase()) {
            None => drop(words.insert(word.to_lowercase(), name.clone())),
            Some(other) if other == name && word == name.as_str() => {
                self.report.error(at, Code::CommandConflict, format!("there are two commands `{name}`"));
            }
            Some(other) => {
                self.report.error(at, Code::CommandConflict, format!("`{word}` already calls the command `{other}`"));
            }
        }
    }

    fn rest(
        &mut self,
        name: Option<CommandName>,
        aliases: Vec<String>,
        source: SkillName,
        webhook: &RawWebhook,
    ) -> Option<CommandSpec> {
        let raw = self.raw;
        let action = raw.action.unwrap_or_default();
        let template = self.template(action, webhook.strict_templates.unwrap_or(false));
        let forward_to = self.forward_to(action);
        let triggers = self.triggers();
        let conditions = self.conditions();
        let prefixed = webhook.command_prefix.is_some();
        let requires_prefix = !triggers.is_empty() && raw.requires_prefix.unwrap_or(prefixed);
        let (at_turns, at_budget, at_timeout) =
            (self.place("max_turns"), self.place("budget_usd"), self.place("timeout"));
        let (at_agent, at_priority, at_tools) =
            (self.place("target_agent"), self.place("priority"), self.place("tools"));
        let (at_description, at_model, at_calls) =
            (self.place("description"), self.place("model"), self.place("provider_calls"));
        let report = &mut *self.report;
        let priority = report.within(&at_priority, raw.priority, (-PRIORITY_MAX, PRIORITY_MAX), "");
        let description = report.text(&at_description, raw.description.as_ref(), DESCRIPTION_CHARS_MAX);
        let target_agent = report.name(&at_agent, raw.target_agent.as_ref(), AgentName::parse);
        let model = raw.model.as_ref().and_then(|model| report.word(&at_model, model, NAME_CHARS_MAX));
        let tools = raw.tools.clone().map(comma_list);
        let tools = report.texts(&at_tools, tools.as_ref(), TOOLS_MAX, TOOL_CHARS_MAX);
        let max_turns = report.within(&at_turns, raw.max_turns, (1, TURNS_MAX), " turns");
        let budget_usd = report.within(&at_budget, raw.budget_usd, (0.01, BUDGET_USD_MAX), " US dollars");
        let timeout_seconds = seconds(report, &at_timeout, raw.timeout);
        let provider_calls = report.texts(&at_calls, raw.provider_calls.as_ref(), TOOLS_MAX, TOOL_CHARS_MAX);
        let approval = self.approval();
        Some(CommandSpec {
            name: name?,
            aliases,
            description: description.unwrap_or_default(),
            source,
            target_agent,
            template: template?,
            triggers,
            conditions,
            priority: priority.unwrap_or(PRIORITY_DEFAULT),
            action,
            forward_to,
            requires_prefix,
            model,
            tools,
            max_turns,
            budget_usd,
            timeout_seconds,
            approval,
            checkout: raw.checkout.unwrap_or(false),
            provider_calls,
        })
    }

    /// The terms of the approval, where one is needed.
    fn approval(&mut self) -> Option<Approval> {
        let at = self.place("approval");
        let needed = self.raw.requires_approval.unwrap_or(false);
        let Some(terms) = &self.raw.approval else { return needed.then(Approval::default) };
        if !needed {
            let message = "`approval` says how an approval is given, and none is needed";
            self.report.error(&at, Code::ConfigField, message).hint("set `requires_approval: true` beside it");
        }
        let approvers =
            self.report.texts(&at.clone().key("approvers"), terms.approvers.as_ref(), APPROVERS_MAX, NAME_CHARS_MAX);
        let expires = self.report.within(
            &at.key("expires"),
            terms.expires.map(|expires| expires.seconds),
            (1, APPROVAL_SECONDS_MAX),
            " seconds",
        );
        Some(Approval {
            self_approval: terms.self_approval.unwrap_or(true),
            approvers: approvers.unwrap_or_default(),
            expires_seconds: expires.unwrap_or(EXPIRES_SECONDS_DEFAULT),
        })
    }

    /// Where a `forward` command posts to; whether the operator has such a target is seen when it runs.
    fn forward_to(&mut self, action: Action) -> Option<String> {
        let at = self.place("forward_to");
        match (&self.raw.forward_to, action == Action::Forward) {
            (Some(target), true) => self.report.word(&at, target, NAME_CHARS_MAX),
            (None, true) => {
                let message = "a `forward` command needs `forward_to`";
                self.report
                    .error(&self.at, Code::ConfigField, message)
                    .hint("name a target of the operator's `[forward.NAME]` settings; an address cannot stand here");
                None
            }
            (Some(_), false) => {
                let message = "`forward_to` belongs to commands with `action: forward`";
                self.report.error(&at, Code::ConfigField, message);
                None
            }
            (None, false) => None,
        }
    }

    /// The template's source, from the field or from the file that is named; empty where it may be left out, and is.
    fn template(&mut self, action: Action, strict: bool) -> Option<String> {
        let (inline, file) = (self.place("prompt_template"), self.place("template_file"));
        match (&self.raw.prompt_template, &self.raw.template_file) {
            (Some(Text(source)), None) => self.compiles(&inline, source, strict, None),
            (None, Some(Text(path))) => {
                let source = self.template_file(&file, path)?;
                self.compiles(&file, &source, strict, Some(path))
            }
            (Some(_), Some(_)) => {
                let message = "`prompt_template` and `template_file` exclude each other";
                self.report.error(&file, Code::ConfigField, message);
                None
            }
            (None, None) if !action.needs_template() => Some(String::new()),
            (None, None) => {
                let message = "the command needs `prompt_template` or `template_file`";
                self.report.error(&self.at, Code::ConfigField, message);
                None
            }
        }
    }

    fn template_file(&mut self, at: &KeyPath, path: &str) -> Option<String> {
        let is_step = |step: &str| !step.is_empty() && step != ".." && step != "." && !step.contains(['\\', '\0']);
        if path.chars().count() > PATH_CHARS_MAX || !path.split('/').all(is_step) {
            let message = "this is not the path of a file inside the skill";
            self.report
                .error(at, Code::UnsafePath, message)
                .hint("for example `templates/review.md`; no `..`, no leading `/`");
            return None;
        }
        let source = (self.around.template_file)(path);
        if source.is_none() {
            let message = format!("the skill has no file `{path}`, or it is not text");
            self.report.error(at, Code::ReferenceMissing, message);
        }
        source
    }

    fn compiles(&mut self, at: &KeyPath, source: &str, strict: bool, file: Option<&str>) -> Option<String> {
        if source.trim().is_empty() {
            self.report.error(at, Code::ConfigValue, "the template is empty");
            return None;
        }
        let name = self.raw.name.as_ref().map_or("template", |name| name.0.as_str());
        let Err(faults) = Template::compile(name, source, strict) else { return Some(source.to_owned()) };
        for fault in faults {
            let (line, column) = (fault.line, fault.column);
            let diagnostic = match file {
                Some(file) => {
                    let message = format!("`{file}`, line {line}, column {column}: {}", fault.message);
                    self.report.fields().error(at, fault.code, message)
                }
                None => {
                    let position = self.report.fields().position_in_text(at, line, column);
                    self.report.fields().error(at, fault.code, fault.message).at_position(Some(position))
                }
            };
            let diagnostic = match fault.hint {
                Some(hint) => diagnostic.hint(hint),
                None => diagnostic,
            };
            self.report.add::<()>(diagnostic);
        }
        None
    }

    fn triggers(&mut self) -> Vec<String> {
        let Some(written) = &self.raw.trigger else { return Vec::new() };
        let mut out = Vec::new();
        for (at, text) in self.report.items(&self.place("trigger"), written, TRIGGERS_MAX) {
            let Some(trigger) = self.report.word(&at, text, TRIGGER_CHARS_MAX) else { continue };
            match out.contains(&trigger) {
                true => drop(self.report.error(&at, Code::ConfigValue, format!("`{trigger}` stands here twice"))),
                false => out.push(trigger),
            }
        }
        out
    }

    fn conditions(&mut self) -> Option<Condition> {
        let at = self.place("conditions");
        match Condition::parse(self.raw.conditions.as_ref()?) {
            Ok(condition) => Some(condition),
            Err(faults) => {
                for fault in faults {
                    let at = fault.path.steps().iter().fold(at.clone(), |at, step| match step {
                        Step::Key(key) => at.key(key),
                        Step::Index(index) => at.index(*index),
                    });
                    let added = self.report.error(&at, Code::ConfigValue, fault.message);
                    if let Some(hint) = fault.hint {
                        added.hint(hint);
                    }
                }
                None
            }
        }
    }

    fn place(&self, key: &str) -> KeyPath {
        self.at.clone().key(key)
    }
}
