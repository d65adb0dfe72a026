//! From one file to what it means: a SKILL.md to [`SkillConfig`], an agent file to [`AgentFile`], or to diagnostics.
//!
//! Everything that a file can be judged by on its own is judged here, and every finding has its line and column.
//! A file is never half taken: one error makes it Invalid, and the caller keeps its last good version in force.
//! What depends on other files (names that clash, a default command of the built-in webhook) is `merge`'s business.
//! No secret is ever read: a value that stands in the file is not kept, not shown and not compared.

mod agent;
mod allow;
mod commands;
mod report;
mod secrets;
#[cfg(test)]
mod tests;
mod webhook;

pub use agent::{AgentFile, check_agent};

use std::collections::BTreeMap;

use self::report::Report;
use super::diagnostic::Diagnostic;
use super::frontmatter::{Document, Fields, KeyPath};
use super::ids::SkillName;
use super::provider::{Catalogue, Operated};
use super::raw::{RawWebhook, Text};
use super::spec::SkillConfig;
use crate::error::Code;

/// How many characters a description of a webhook or command may have.
pub const DESCRIPTION_CHARS_MAX: usize = 1_000;
/// How many commands one webhook may have.
pub const COMMANDS_MAX: usize = 64;

const KEY: &str = "webhook_config";

/// What the operator allows files to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Globs of the environment variables that files may name as secrets.
    pub secret_env_patterns: Vec<String>,
    /// Whether `requires_signature: false` may be written at all.
    pub unsigned_allowed: bool,
    /// What decides where definitions of the repository may take credentials, by provider.
    pub providers: BTreeMap<String, Operated>,
}

impl Default for Rules {
    fn default() -> Self {
        let patterns = ["SKILLHOOK_SECRET_*", "*_WEBHOOK_SECRET", "*_SIGNING_SECRET"];
        Self {
            secret_env_patterns: patterns.map(str::to_owned).into(),
            unsigned_allowed: false,
            providers: BTreeMap::new(),
        }
    }
}

/// What a SKILL.md came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// A sound skill that says nothing about webhooks.
    NoWebhook { description: String },
    /// A sound skill with its webhook, its description, and the warnings.
    Spec(Box<SkillConfig>, String, Vec<Diagnostic>),
    /// At least one error, in the order of the file.
    Invalid(Vec<Diagnostic>),
}

/// What the check may look at besides the file.
#[derive(Clone, Copy)]
struct Surroundings<'a> {
    rules: &'a Rules,
    providers: &'a Catalogue,
    template_file: &'a dyn Fn(&str) -> Option<String>,
}

/// Checks a SKILL.md. `path` is relative to the root, for the diagnostics; `skill` is the directory's name;
/// `template_file` answers the text of a file of the skill by its path inside the skill.
pub fn check_skill(
    path: &str,
    skill: &SkillName,
    document: &Document<'_>,
    rules: &Rules,
    providers: &Catalogue,
    template_file: &dyn Fn(&str) -> Option<String>,
) -> Checked {
    let around = Surroundings { rules, providers, template_file };
    let Some(block) = &document.frontmatter else {
        let missing = Diagnostic::error(path, Code::FrontmatterUnreadable, "the file has no frontmatter");
        let hint = "begin it with a line `---`, then `name:` and `description:`, then another line `---`";
        return Checked::Invalid(vec![missing.at(1, 1).hint(hint)]);
    };
    let fields = match Fields::of(path, block) {
        Ok(fields) => fields,
        Err(diagnostic) => return Checked::Invalid(vec![diagnostic]),
    };
    let mut report = Report::new(&fields, KeyPath::root());
    let description = identity(&mut report, "skill", skill.as_str());
    let at = match place_of_config(&mut report) {
        Ok(at) => at,
        Err(()) => return Checked::Invalid(report.into_findings()),
    };
    let config = match &at {
        None => None,
        Some(at) if fields.is_text(at) => match fields.embedded(at) {
            Some(Ok(embedded)) => read_config(&mut report, &embedded, KeyPath::root(), skill, around),
            Some(Err(diagnostic)) => report.add(diagnostic),
            None => None,
        },
        Some(at) => read_config(&mut report, &fields, at.clone(), skill, around),
    };
    let failed = report.has_errors();
    let findings = report.into_findings();
    match (config, description) {
        (Some(config), Some(description)) if !failed => Checked::Spec(Box::new(config), description, findings),
        (None, Some(description)) if at.is_none() && !failed => Checked::NoWebhook { description },
        _ => Checked::Invalid(findings),
    }
}

/// Unknown fields of one file that are told; further ones wait until these are mended.
const UNKNOWN_FIELDS_MAX: usize = 20;

/// `name` must be what the directory or file is called, and there must be a description (agent-skills).
fn identity(report: &mut Report<'_>, what: &str, expected: &str) -> Option<String> {
    let at = |key: &str| KeyPath::root().key(key);
    match report.typed::<Text>(&at("name")) {
        Ok(Some(Text(name))) if name == expected => {}
        Ok(Some(Text(name))) => {
            let message = format!("the {what} is called `{name}` here, but its path says `{expected}`");
            report.error(&at("name"), Code::SkillIdentity, message).hint(format!("write `name: {expected}`"));
        }
        Ok(None) => {
            report
                .error(&at("name"), Code::SkillIdentity, "`name` is missing")
                .hint(format!("write `name: {expected}`"));
        }
        Err(()) => {}
    }
    let description = report.typed::<Text>(&at("description")).ok()?;
    match description.filter(|Text(text)| !text.trim().is_empty()) {
        Some(Text(description)) => Some(description),
        None => {
            let message = "`description` is missing or empty";
            report
                .error(&at("description"), Code::SkillIdentity, message)
                .hint(format!("say in a sentence what the {what} does and when to use it"));
            None
        }
    }
}

/// Where the configuration stands, if anywhere: at the top, or in the portable form below `metadata`.
fn place_of_config(report: &mut Report<'_>) -> Result<Option<KeyPath>, ()> {
    let (top, portable) = (KeyPath::root().key(KEY), KeyPath::root().key("metadata").key(KEY));
    let (at_top, in_metadata) = (report.has_key(&top), report.has_key(&portable));
    let at = match (at_top, in_metadata) {
        (false, false) => return Ok(None),
        (true, true) => {
            let message = "`webhook_config` stands here and below `metadata`";
            report.error(&top, Code::ConfigField, message).hint("keep one of them");
            return Err(());
        }
        (true, false) => top,
        (false, true) => portable,
    };
    if report.fields().contains(&at) {
        return Ok(Some(at));
    }
    let message = format!("`{at}` is empty");
    report.error(&at, Code::ConfigField, message).hint("remove it, or give it at least a `provider`");
    Err(())
}

fn read_config(
    outer: &mut Report<'_>,
    fields: &Fields<'_>,
    at: KeyPath,
    skill: &SkillName,
    around: Surroundings<'_>,
) -> Option<SkillConfig> {
    let raw = read_shape(outer, fields, &at)?;
    let mut report = Report::new(fields, at);
    let config = webhook::check(&mut report, raw, skill, around);
    outer.append(report);
    config
}

/// The configuration field by field. All unknown fields are told at once; what the others mean is judged only when
/// there are none, since whatever is missing may be one of them.
fn read_shape(report: &mut Report<'_>, fields: &Fields<'_>, at: &KeyPath) -> Option<RawWebhook> {
    let mut rest: Option<Fields<'_>> = None;
    for _ in 0..UNKNOWN_FIELDS_MAX {
        let fields = rest.as_ref().unwrap_or(fields);
        let raw = match at.steps() {
            [] => fields.typed::<RawWebhook>().map(Some),
            _ => fields.typed_at::<RawWebhook>(at),
        };
        let diagnostic = match raw {
            Ok(raw) => return raw.filter(|_| rest.is_none()),
            Err(diagnostic) => diagnostic,
        };
        let unknown = diagnostic.position.filter(|_| diagnostic.message.starts_with("unknown field"));
        let next = unknown.and_then(|position| fields.without_field(position));
        report.add::<()>(webhook::explain_field(diagnostic));
        rest = Some(next?);
    }
    None
}
