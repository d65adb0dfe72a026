//! Where the secrets are. What stands in the file in plain text is refused and never repeated.

use std::collections::BTreeMap;

use super::Surroundings;
use super::report::Report;
use crate::error::Code;
use crate::model::frontmatter::KeyPath;
use crate::model::glob;
use crate::model::ids::ProviderName;
use crate::model::raw::{Plain, RawWebhook, SecretName, SecretPlace, Secrets, Several};
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

/// Longest sealed secret in characters.
const SEALED_CHARS_MAX: usize = 16 * 1024;
/// How every age file begins, as base64 (https://age-encryption.org/v1).
const SEALED_BEGINNING: &str = "age:YWdlLWVuY3J5cHRpb24ub3JnL3Yx";

const SLOT_ADVICE: &str =
    "write `{env: NAME}`, `{file: NAME}` or `{sealed: \"age:…\"}` for each secret; `skillhook seal` seals one";
const SEAL_ADVICE: &str =
    "`skillhook seal` prints what may stand here; or name it with `secret_env_var` or `secret_file`";
const ADVICE: &str =
    "put it into an environment variable or a file, and name that with `secret_env_var` or `secret_file`";

/// By slot; the slot `""` is the provider's first verifying one.
pub(super) fn check(
    report: &mut Report<'_>,
    raw: &RawWebhook,
    providers: &[ProviderName],
    around: Surroundings<'_>,
) -> BTreeMap<String, Vec<SecretRef>> {
    let mut out: BTreeMap<String, Vec<SecretRef>> = BTreeMap::new();
    let mut usual = plain(report, raw.secret.as_ref());
    if let Some(several) = &raw.secret_env_var {
        for (at, name) in report.items(&report.at("secret_env_var"), several, PLACES_MAX) {
            usual.extend(env(report, &at, name, around));
        }
    }
    if let Some(several) = &raw.secret_file {
        for (at, name) in report.items(&report.at("secret_file"), several, PLACES_MAX) {
            usual.extend(file(report, &at, name));
        }
    }
    if !usual.is_empty() {
        out.insert(String::new(), usual);
    }
    match &raw.secrets {
        None => {}
        Some(Secrets::Plain) => {
            let message = "a secret stands here in plain text";
            report.error(&report.at("secrets"), Code::PlaintextSecret, message).hint(SLOT_ADVICE);
        }
        Some(Secrets::BySlot(slots)) => {
            for (slot, several) in slots {
                known_slot(report, &report.at("secrets").key(slot.as_str()), slot, providers, around);
                let places = of_slot(report, slot, several, around);
                out.insert(slot.clone(), places);
            }
        }
    }
    out
}

fn of_slot(
    report: &mut Report<'_>,
    slot: &str,
    several: &Several<SecretPlace>,
    around: Surroundings<'_>,
) -> Vec<SecretRef> {
    let mut out = Vec::new();
    for (at, place) in report.items(&report.at("secrets").key(slot), several, PLACES_MAX) {
        out.extend(at_place(report, &at, slot, place, around));
    }
    out
}

fn at_place(
    report: &mut Report<'_>,
    at: &KeyPath,
    slot: &str,
    place: &SecretPlace,
    around: Surroundings<'_>,
) -> Option<SecretRef> {
    match place {
        SecretPlace::Env(name) => env(report, at, name, around),
        SecretPlace::File(name) => file(report, at, name),
        SecretPlace::Sealed(text) => sealed(report, at, text),
        SecretPlace::Until { not_after, place } => {
            let secret = Box::new(at_place(report, at, slot, place, around)?);
            match not_after.parse() {
                Ok(not_after) => Some(SecretRef::Until { not_after, secret }),
                Err(_) => {
                    let message = "`not_after` is no instant";
                    report.error(at, Code::SecretReference, message).hint("write it as `2026-01-31T00:00:00Z`");
                    None
                }
            }
        }
        SecretPlace::Plain => {
            let message = format!("the secret `{slot}` stands here in plain text");
            report.error(at, Code::PlaintextSecret, message).hint(SLOT_ADVICE);
            None
        }
    }
}

fn plain(report: &mut Report<'_>, secret: Option<&Plain>) -> Vec<SecretRef> {
    let at = report.at("secret");
    match secret.map(|secret| secret.sealed.as_deref()) {
        None => Vec::new(),
        Some(Some(texts)) if (1..=PLACES_MAX).contains(&texts.len()) => {
            texts.iter().filter_map(|text| sealed(report, &at, text)).collect()
        }
        Some(Some(_)) => {
            report.error(&at, Code::SecretReference, format!("there may be 1 to {PLACES_MAX} secrets here"));
            Vec::new()
        }
        Some(None) => {
            report.error(&at, Code::PlaintextSecret, "the secret stands here in plain text").hint(SEAL_ADVICE);
            Vec::new()
        }
    }
}

/// Whether it can be opened is found out where the key is.
fn sealed(report: &mut Report<'_>, at: &KeyPath, text: &str) -> Option<SecretRef> {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | ':');
    if text.len() <= SEALED_CHARS_MAX && text.starts_with(SEALED_BEGINNING) && text.chars().all(is_base64) {
        return Some(SecretRef::Sealed(text.to_owned()));
    }
    report.error(at, Code::SecretReference, "this is no sealed secret").hint(SEAL_ADVICE);
    None
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

fn env(report: &mut Report<'_>, at: &KeyPath, name: &SecretName, around: Surroundings<'_>) -> Option<SecretRef> {
    let name = name.0.as_deref().unwrap_or_default();
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
    Some(SecretRef::Env(name.to_owned()))
}

fn file(report: &mut Report<'_>, at: &KeyPath, name: &SecretName) -> Option<SecretRef> {
    let name = name.0.as_deref().unwrap_or_default();
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
    Some(SecretRef::File(name.to_owned()))
}
