//! What people want to know of a definition, and the page of the catalogue that is made of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::credential;
use super::definition::{Catalogue, Definition};
use super::sample;
use super::schema::calls::Overflow;
use super::schema::verify::{JwtKey, Policy, Scheme};
use super::schema::{Document, SlotOrigin, SlotUse};
use super::selector::Selector;
use super::template::Template;

/// A definition in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The address of its built-in webhook.
    pub endpoint: String,
    pub secrets: Vec<SecretFact>,
    /// Which of the schemes must agree, in words.
    pub policy: &'static str,
    pub schemes: Vec<SchemeFact>,
    pub handshakes: Vec<HandshakeFact>,
    /// Whose text can call commands; empty: every event with text.
    pub command_events: Vec<String>,
    /// How it is known whether an actor may start work, in words.
    pub permission: &'static str,
    /// What an answer can stand in, and how long it may be; nothing where the sender takes no answers.
    pub answers: Option<AnswerFact>,
    /// Ways to get a token instead of holding one.
    pub credentials: Vec<CredentialFact>,
    /// Keys of the operator's `[providers.NAME]` settings that it reads, besides those of secrets.
    pub settings: Vec<String>,
    /// Operations that runs may ask for without a list of their command.
    pub usual_operations: Vec<String>,
    /// Operations that a command has to list.
    pub listed_operations: Vec<String>,
    /// Deliveries that `skillhook trigger` can send.
    pub samples: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretFact {
    pub slot: String,
    /// `verify` or `reply`.
    pub used_for: &'static str,
    /// Who makes it up, in words.
    pub from: &'static str,
    pub note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemeFact {
    pub id: String,
    pub kind: &'static str,
    pub slots: Vec<String>,
    pub covers_body: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HandshakeFact {
    pub id: String,
    /// Answered only after verification.
    pub verified: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnswerFact {
    pub places: usize,
    pub format: String,
    pub chars_max: Option<usize>,
    pub splits: bool,
    /// Whether runs can be approved and rejected there with buttons.
    pub buttons: bool,
    /// Least times between two messages to one place, in milliseconds.
    pub spacing_milliseconds: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CredentialFact {
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The slot that its token fills.
    pub fills: String,
    /// Keys of the provider's table that it needs.
    pub needs: Vec<String>,
}

impl Facts {
    pub fn of(definition: &Definition) -> Self {
        let document = definition.document();
        let name = definition.name();
        let samples = sample::all().into_iter().filter(|sample| sample.provider == name.as_str());
        Self {
            endpoint: format!("/webhooks/{name}"),
            secrets: secrets(definition),
            policy: match document.verify.policy {
                Policy::FirstApplicable => "the first one that fits the request",
                Policy::AllConfigured => "every one that has a secret",
                Policy::AnyConfigured => "any one that has a secret",
            },
            schemes: document.verify.schemes.iter().map(scheme).collect(),
            handshakes: (document.challenge.iter())
                .map(|challenge| HandshakeFact { id: challenge.id.clone(), verified: challenge.verified })
                .collect(),
            command_events: document.command_events.clone().unwrap_or_default(),
            permission: permission(document),
            answers: answers(document),
            credentials: (document.api.credentials.iter())
                .map(|way| CredentialFact {
                    kind: way.kind(),
                    fills: way.fills().to_owned(),
                    needs: credential::needed_keys(way),
                })
                .collect(),
            settings: settings(definition),
            usual_operations: definition.usual_operations().map(str::to_owned).collect(),
            listed_operations: listed_operations(definition),
            samples: samples.map(|sample| format!("{name}.{}", sample.event)).collect(),
        }
    }
}

fn secrets(definition: &Definition) -> Vec<SecretFact> {
    let slots = definition.slots().filter_map(|(name, usage)| {
        let slot = definition.document().secrets.get(name)?;
        Some(SecretFact {
            slot: name.to_owned(),
            used_for: match usage {
                SlotUse::Verify => "verify",
                SlotUse::Reply => "reply",
            },
            from: match slot.from {
                Some(SlotOrigin::Provider) => "the provider shows it",
                Some(SlotOrigin::Integrator) => "you make it up and tell the provider",
                Some(SlotOrigin::Handshake) => "the provider sends it once, in its handshake",
                Some(SlotOrigin::Either) => "either side makes it up",
                None => "as you set it up there",
            },
            note: slot.note.clone(),
        })
    });
    slots.collect()
}

fn scheme(scheme: &Scheme) -> SchemeFact {
    let reads_body = |template: &Template| {
        let mut selectors = template.holes().flat_map(|hole| hole.selectors());
        selectors.any(|selector| matches!(selector, Selector::Raw | Selector::FormSorted))
    };
    let (kind, covers_body) = match scheme {
        Scheme::Hmac(it) => {
            ("hmac", it.covers_body.unwrap_or_else(|| reads_body(&it.signed) || it.body_digest.is_some()))
        }
        Scheme::Digest(it) => ("digest", it.covers_body.unwrap_or_else(|| reads_body(&it.signed))),
        Scheme::Ed25519(it) => ("ed25519", it.covers_body.unwrap_or_else(|| reads_body(&it.signed))),
        Scheme::Token(_) => ("token", false),
        Scheme::Basic(_) => ("basic", false),
        Scheme::Jwt(it) => match it.key {
            JwtKey::Secret(_) => ("jwt", it.claims.body_hash.is_some()),
            JwtKey::Fetched(_) => ("jwt, with a key that is fetched", it.claims.body_hash.is_some()),
        },
    };
    let slots = scheme.slots().into_iter().map(str::to_owned).collect();
    SchemeFact { id: scheme.id().to_owned(), kind, slots, covers_body }
}

fn permission(document: &Document) -> &'static str {
    match &document.actor.permission {
        Some(rule) if rule.from.is_empty() => "its API is asked",
        Some(rule) if rule.lookup.is_some() => "the delivery says so, else its API is asked",
        Some(_) => "the delivery says so",
        None => "it cannot tell: set `allow`",
    }
}

fn answers(document: &Document) -> Option<AnswerFact> {
    let reply = &document.reply;
    (!reply.rules.is_empty()).then(|| AnswerFact {
        places: reply.rules.len(),
        format: serde_json::to_value(reply.format)
            .ok()
            .and_then(|it| Some(it.as_str()?.to_owned()))
            .unwrap_or_default(),
        chars_max: reply.soft_max_chars.or(reply.max_chars),
        splits: reply.overflow == Overflow::Split,
        buttons: !reply.approval.is_empty(),
        spacing_milliseconds: document.api.rate.spacing.iter().map(|spacing| spacing.pace.milliseconds).collect(),
    })
}

fn listed_operations(definition: &Definition) -> Vec<String> {
    let usual: Vec<&str> = definition.usual_operations().collect();
    definition.operations().filter(|name| !usual.contains(name)).map(str::to_owned).collect()
}

/// Every `cfg:NAME` and `eq_cfg: NAME` in what was written.
fn settings(definition: &Definition) -> Vec<String> {
    let mut found = BTreeSet::new();
    collect(definition.written(), None, &mut found);
    if definition.document().api.base.is_some() {
        found.insert("api_base".to_owned());
    }
    if definition.has_repositories() {
        found.insert("git_base".to_owned());
    }
    found.into_iter().collect()
}

fn collect(value: &serde_json::Value, key: Option<&str>, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::String(text) if matches!(key, Some("eq_cfg" | "cfg")) => drop(found.insert(text.clone())),
        serde_json::Value::String(text) => {
            for rest in text.split("cfg:").skip(1) {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
                found.insert(rest[..end].to_owned());
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| collect(value, Some(key), found)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// The page of a catalogue in Markdown.
pub fn page(catalogue: &Catalogue) -> String {
    let mut text = "\
# Providers

This page is made from the definitions of the catalogue (`skillhook schema provider` prints their schema). Each provider
has a built-in webhook; a skill adds commands to it, or has a webhook of its own at `/webhooks/PROVIDER/ID`. A file
`.claude/providers/NAME.yaml` adds a provider or takes the place of one. Secrets that verify are named in
`webhook_config` (`secret_env_var`, or `secrets` by slot); those for answers stand in `skillhook.toml`, for example
`api_token_env` below `[providers.github]` for a variable, `api_token_file` for a file, or `api_token_sealed` for what
`skillhook seal` prints. Where a token can be got instead (`github_app_installation`, `oauth_client_credentials`), it
goes before one that is held as soon as everything that it needs is set; `skillhook doctor` says which is in force.

| provider | signed over the body | may tell who may | answers |
|---|---|---|---|
"
    .to_owned();
    let yes = |truth| if truth { "yes" } else { "no" };
    for definition in catalogue.iter() {
        let facts = Facts::of(definition);
        let signed = facts.schemes.iter().any(|scheme| scheme.covers_body);
        let tells = definition.document().actor.permission.is_some();
        let name = definition.name();
        let answers = yes(facts.answers.is_some());
        let _ = writeln!(text, "| [{name}](#{name}) | {} | {} | {answers} |", yes(signed), yes(tells));
    }
    for definition in catalogue.iter() {
        section(&mut text, definition);
    }
    text
}

fn section(text: &mut String, definition: &Definition) {
    let facts = Facts::of(definition);
    let _ = write!(text, "\n## {}\n\n{}, at `{}`.\n\n", definition.name(), definition.title(), facts.endpoint);
    let _ = write!(text, "Verified by {}:\n\n", facts.policy);
    for scheme in &facts.schemes {
        let covers = if scheme.covers_body { "covers the body" } else { "does not cover the body" };
        let slots =
            if scheme.slots.is_empty() { String::new() } else { format!(", with `{}`", scheme.slots.join("`, `")) };
        let _ = writeln!(text, "- `{}`: {}{slots}; {covers}", scheme.id, scheme.kind);
    }
    text.push_str("\n| secret | for | where from |\n|---|---|---|\n");
    for secret in &facts.secrets {
        let note = secret.note.as_ref().map(|note| format!(" ({})", note.replace('|', "\\|"))).unwrap_or_default();
        let _ = writeln!(text, "| `{}` | {} | {}{note} |", secret.slot, secret.used_for, secret.from);
    }
    text.push('\n');
    for handshake in &facts.handshakes {
        let when = if handshake.verified { "after verification" } else { "before anything can be verified" };
        let _ = writeln!(text, "- Handshake `{}`: answered {when}", handshake.id);
    }
    if !facts.command_events.is_empty() {
        let _ = writeln!(text, "- Text of `{}` can call commands", facts.command_events.join("`, `"));
    }
    let _ = writeln!(text, "- Who may start work: {}", facts.permission);
    if let Some(answers) = &facts.answers {
        let limit = answers.chars_max.map(|chars| format!(", up to {chars} characters each")).unwrap_or_default();
        let long = if answers.splits { "longer ones are split" } else { "longer ones are cut" };
        let _ = writeln!(text, "- Answers: {} places, in `{}`{limit}; {long}", answers.places, answers.format);
        if answers.buttons {
            text.push_str("- Runs are approved and rejected with buttons, or in words\n");
        }
        if let Some(apart) = answers.spacing_milliseconds.iter().max() {
            let _ = writeln!(text, "- Messages to one place keep a distance of up to {apart} ms");
        }
    } else {
        text.push_str("- Answers: none, this sender takes no messages\n");
    }
    for way in &facts.credentials {
        let needs = way.needs.join("`, `");
        let _ = writeln!(text, "- `{}` instead of `{}`: needs `{needs}`", way.kind, way.fills);
    }
    if !facts.settings.is_empty() {
        let _ = writeln!(text, "- Settings: `{}`", facts.settings.join("`, `"));
    }
    if definition.has_repositories() {
        text.push_str("- Checkouts: the repository of a delivery (`checkout: true`)\n");
    }
    for (names, when) in
        [(&facts.usual_operations, "of what a delivery is about"), (&facts.listed_operations, "that a command lists")]
    {
        if !names.is_empty() {
            let _ = writeln!(text, "- Operations {when}: `{}`", names.join("`, `"));
        }
    }
    let _ = writeln!(text, "- Samples: `{}`", facts.samples.join("`, `"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::catalog;

    #[test]
    fn the_page_of_the_catalogue_is_up_to_date() {
        let page = page(&catalog::builtin().unwrap());
        let kept = include_str!("../../../docs/providers.md");
        assert!(page == kept, "docs/providers.md is out of date: write what `skillhook schema catalogue` prints to it");
    }

    #[test]
    fn facts_tell_what_a_definition_needs() {
        let catalogue = catalog::builtin().unwrap();
        let gitlab = Facts::of(catalogue.get("gitlab").unwrap());
        assert_eq!(gitlab.endpoint, "/webhooks/gitlab");
        assert!(gitlab.schemes[0].covers_body && !gitlab.schemes[1].covers_body);
        assert_eq!(gitlab.settings, ["api_base", "base_url", "bot_login", "bot_user_id", "git_base"]);
        assert_eq!(gitlab.permission, "its API is asked");
        assert!(gitlab.samples.contains(&"gitlab.note.create".to_owned()));
        let plaid = Facts::of(catalogue.get("plaid").unwrap());
        assert!(plaid.answers.is_none() && plaid.schemes[0].covers_body);
        let slack = Facts::of(catalogue.get("slack").unwrap());
        assert!(slack.handshakes.iter().all(|handshake| handshake.verified), "never an oracle");
    }
}
