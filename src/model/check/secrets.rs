//! Where the secrets are. What stands in the file in plain text is refused and never repeated.

use std::collections::BTreeMap;

use super::Surroundings;
use super::report::Report;
use crate::error::Code;
use crate::model::frontmatter::KeyPath;
use crate::model::glob;
use crate::model::ids::ProviderName;
use crate::model::raw::{RawWebhook, SecretPlace, Text};
use crate::model::spec::SecretRef;

/// How many places one secret may have at once (rotation).
const PLACES_MAX: usize = 8;
const ENV_CHARS_MAX: usize = 128;
const FILE_CHARS_MAX: usize = 200;

/// Whatever the operator's patterns say, these are no webhook secrets: a file that names one is after something else.
const NEVER: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "PWD",
    "LD_*",
    "SSH_*",
    "GIT_*",
    "ANTHROPIC_*",
    "CLAUDE_*",
    "OPENAI_*",
    "AWS_*",
    "GITHUB_TOKEN",
    "DATABASE_URL",
];
/// Settings of this program begin like its secrets.
const OURS: (&str, &str) = ("SKILLHOOK_", "SKILLHOOK_SECRET_");

const ADVICE: &str =
    "put it into an environment variable or a file, and name that with `secret_env_var` or `secret_file`";

/// By slot; the slot `""` is the provider's first verifying one.
pub(super) fn check(
    report: &mut Report<'_>,
    raw: &RawWebhook,
    providers: &[ProviderName],
    around: Surroundings<'_>,
) -> BTreeMap<String, Vec<SecretRef>> {
    plain(report, raw);
    let mut out: BTreeMap<String, Vec<SecretRef>> = BTreeMap::new();
    let mut add = |slot: &str, place: Option<SecretRef>| {
        if let Some(place) = place {
            out.entry(slot.to_owned()).or_default().push(place);
        }
    };
    if let Some(several) = &raw.secret_env_var {
        for (at, name) in report.items(&report.at("secret_env_var"), several, PLACES_MAX) {
            add("", env(report, &at, name, around));
        }
    }
    if let Some(several) = &raw.secret_file {
        for (at, name) in report.items(&report.at("secret_file"), several, PLACES_MAX) {
            add("", file(report, &at, name));
        }
    }
    for (slot, several) in raw.secrets.iter().flatten() {
        let at = report.at("secrets").key(slot.as_str());
        known_slot(report, &at, slot, providers, around);
        for (at, place) in report.items(&at, several, PLACES_MAX) {
            let place = match place {
                SecretPlace::Env(name) => env(report, &at, name, around),
                SecretPlace::File(name) => file(report, &at, name),
                SecretPlace::Plain => {
                    let message = format!("the secret `{slot}` stands here in plain text");
                    report.error(&at, Code::PlaintextSecret, message).hint("write `{env: NAME}` or `{file: NAME}`");
                    None
                }
            };
            add(slot, place);
        }
    }
    out
}

fn plain(report: &mut Report<'_>, raw: &RawWebhook) {
    for (at, secret) in raw
        .secret
        .iter()
        .flat_map(|several| report.items(&report.at("secret"), several, PLACES_MAX))
        .collect::<Vec<_>>()
    {
        match secret.sealed {
            true => {
                report.error(&at, Code::SecretReference, "sealed secrets are not read by this version").hint(ADVICE)
            }
            false => report.error(&at, Code::PlaintextSecret, "the secret stands here in plain text").hint(ADVICE),
        }
    }
}

fn known_slot(report: &mut Report<'_>, at: &KeyPath, slot: &str, providers: &[ProviderName], around: Surroundings<'_>) {
    let [provider] = providers else { return };
    let Some(definition) = around.providers.get(provider.as_str()) else { return };
    let slots: Vec<&str> = definition.slots().map(|(name, _)| name).collect();
    if !slots.contains(&slot) {
        let message = format!("`{provider}` has no secret called `{slot}`");
        report.error(at, Code::SecretReference, message).suggest(slot, slots);
    }
}

fn env(report: &mut Report<'_>, at: &KeyPath, name: &Text, around: Surroundings<'_>) -> Option<SecretRef> {
    let Text(name) = name;
    let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        && name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.len() <= ENV_CHARS_MAX;
    if !is_name {
        // It may be the secret itself, so it is not shown.
        let message = "this is not the name of an environment variable (upper-case letters, digits and `_`)";
        report.error(at, Code::SecretReference, message).hint(ADVICE);
        return None;
    }
    let ours = name.starts_with(OURS.0) && !name.starts_with(OURS.1);
    if ours || NEVER.iter().any(|pattern| glob::covers(pattern, name)) {
        report.error(at, Code::SecretReference, format!("`{name}` is no webhook secret and may never be named as one"));
        return None;
    }
    if !around.rules.secret_env_patterns.iter().any(|pattern| glob::covers(pattern, name)) {
        let allowed = around.rules.secret_env_patterns.join("`, `");
        report
            .error(at, Code::SecretReference, format!("files may not name the environment variable `{name}`"))
            .hint(format!("allowed by the operator: `{allowed}`"));
        return None;
    }
    Some(SecretRef::Env(name.clone()))
}

fn file(report: &mut Report<'_>, at: &KeyPath, name: &Text) -> Option<SecretRef> {
    let Text(name) = name;
    let is_step = |step: &str| {
        !step.is_empty()
            && !step.starts_with('.')
            && step.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    if name.len() > FILE_CHARS_MAX || !name.split('/').all(is_step) {
        let message = "this is not the path of a file below the secret directory";
        report
            .error(at, Code::SecretReference, message)
            .hint("letters, digits, `-`, `_` and `.`, no `..` and no leading `/`");
        return None;
    }
    Some(SecretRef::File(name.clone()))
}
