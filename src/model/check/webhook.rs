//! The fields of `webhook_config` that are about the webhook as a whole.

use serde_json::{Map, Value};

use super::report::Report;
use super::{DESCRIPTION_CHARS_MAX, Surroundings, allow, commands, secrets};
use crate::error::Code;
use crate::model::diagnostic::Diagnostic;
use crate::model::ids::{AgentName, CommandName, ProviderName, SkillName, WebhookId};
use crate::model::matching;
use crate::model::provider::Definition;
use crate::model::raw::{Duration, RawWebhook, ReplyField};
use crate::model::spec::{CommandSpec, RateLimit, SkillConfig};
use crate::model::task::DailyBudget;

/// How many providers one skill may extend.
const PROVIDERS_MAX: usize = 16;
/// How many prefixes a webhook may have, and how long one may be in characters.
const PREFIXES_MAX: usize = 8;
const PREFIX_CHARS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 100;
const CONCURRENCY_MAX: u32 = 1_000;
const RATE_MAX: u32 = 1_000_000;
const RETRIES_MAX: u32 = 20;
const USD_A_DAY_MAX: f64 = 100_000.0;
/// One day, in seconds.
pub(super) const SECONDS_MAX: u64 = 24 * 60 * 60;

/// Fields that other versions of this format have. They must not be passed over in silence.
const ELSEWHERE: [(&str, &str); 6] = [
    (
        "coalesce",
        "deliveries are not gathered by this version; `concurrency` and `rate_limit` are what holds runs back",
    ),
    ("tests", "tests inside the file are not run by this version"),
    ("requires_approval", "it belongs to a command"),
    ("permission", "it belongs below `allow`"),
    ("prompt", "the prompt of a command is `prompt_template` or `template_file`"),
    ("triggers", "did you mean `trigger`?"),
];

/// Completes the finding about a field that this version does not have.
pub(super) fn explain_field(diagnostic: Diagnostic) -> Diagnostic {
    let field = diagnostic.message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let known = ELSEWHERE.iter().find(|(name, _)| field == Some(name));
    match known {
        Some((_, hint)) => diagnostic.hint(*hint),
        None => diagnostic,
    }
}

/// Everything that can be known about the fragment on its own. `None` when it cannot be put together.
pub(super) fn check(
    report: &mut Report<'_>,
    raw: RawWebhook,
    skill: &SkillName,
    around: Surroundings<'_>,
) -> Option<SkillConfig> {
    let providers = providers(report, &raw, around)?;
    let own_id = own_id(report, &raw, &providers, around);
    let extends = raw.id.is_none() && raw.endpoint.is_none();
    let definition = sections(&raw);
    match extends {
        true => nothing_of_the_webhook(report, &raw, &definition, &providers),
        false => definition_holds(report, &definition, &providers, around),
    }
    let prefixes = prefixes(report, &raw);
    let commands = commands::check(report, &raw, skill, around);
    if !extends && raw.commands.as_ref().is_none_or(Vec::is_empty) {
        let message = "a webhook of its own needs at least one command";
        report.error(&report.at("commands"), Code::ConfigField, message);
    }
    if !extends && prefixes.is_none() {
        warn_of_silence(report, &commands, &providers, around);
    }
    let default_command = default_command(report, &raw, &commands, extends);
    let (at_timeout, at_retries) = (report.at("timeout"), report.at("retries"));
    Some(SkillConfig {
        skill: skill.clone(),
        own_id,
        name: report.text(&report.at("name"), raw.name.as_ref(), NAME_CHARS_MAX),
        description: report.text(&report.at("description"), raw.description.as_ref(), DESCRIPTION_CHARS_MAX),
        enabled: raw.enabled,
        target_agent: report.name(&report.at("target_agent"), raw.target_agent.as_ref(), AgentName::parse),
        requires_signature: signature(report, &raw, around),
        definition: (!definition.is_empty()).then_some(Value::Object(definition)),
        secrets: secrets::check(report, &raw, &providers, around),
        prefixes,
        default_command,
        commands,
        match_mode: raw.r#match,
        allow: allow::check(report, raw.allow.as_ref()),
        concurrency_max: concurrency(report, &raw),
        rate_limit: rate_limit(report, &raw),
        budget: budget(report, &raw),
        timeout_seconds: seconds(report, &at_timeout, raw.timeout),
        retries: report.within(&at_retries, raw.retries, (0, RETRIES_MAX), ""),
        ack: raw.ack,
        reply: match raw.reply {
            Some(ReplyField::Mode(mode)) => Some(mode),
            Some(ReplyField::Section(_)) | None => None,
        },
        strict_templates: raw.strict_templates,
        providers,
    })
}

/// A duration of at least a second and at most a day.
pub(super) fn seconds(
    report: &mut Report<'_>,
    at: &crate::model::frontmatter::KeyPath,
    duration: Option<Duration>,
) -> Option<u64> {
    report.within(at, duration.map(|duration| duration.seconds), (1, SECONDS_MAX), " seconds")
}

fn providers(report: &mut Report<'_>, raw: &RawWebhook, around: Surroundings<'_>) -> Option<Vec<ProviderName>> {
    let at = report.at("provider");
    let Some(written) = &raw.provider else {
        report.error(&at, Code::ConfigField, "`provider` is missing");
        return None;
    };
    let count = written.items.len();
    let mut out = Vec::with_capacity(count.min(PROVIDERS_MAX));
    for (at, text) in report.items(&at, written, PROVIDERS_MAX) {
        let Some(name) = report.name(&at, Some(text), ProviderName::parse) else { continue };
        if around.providers.get(name.as_str()).is_none() {
            let names: Vec<&str> = around.providers.names().map(ProviderName::as_str).collect();
            let message = format!("there is no provider `{name}`");
            report.error(&at, Code::ProviderUnknown, message).suggest(name.as_str(), names);
        } else if out.contains(&name) {
            report.error(&at, Code::ConfigValue, format!("`{name}` stands here twice"));
        } else {
            out.push(name);
        }
    }
    (!out.is_empty() && out.len() == count).then_some(out)
}

/// From `id` and `endpoint`, which must agree.
fn own_id(
    report: &mut Report<'_>,
    raw: &RawWebhook,
    providers: &[ProviderName],
    around: Surroundings<'_>,
) -> Option<WebhookId> {
    let (at_id, at_endpoint) = (report.at("id"), report.at("endpoint"));
    let id = report.name(&at_id, raw.id.as_ref(), WebhookId::parse);
    let at = if raw.id.is_some() { &at_id } else { &at_endpoint };
    let [provider] = providers else {
        if raw.id.is_some() || raw.endpoint.is_some() {
            let message = "a webhook of its own has exactly one provider";
            report.error(at, Code::ConfigValue, message).hint("leave `id` and `endpoint` out to extend several");
        }
        return None;
    };
    let by_endpoint = raw.endpoint.as_ref().and_then(|endpoint| {
        let id = endpoint.0.strip_prefix("/webhooks/")?.strip_prefix(provider.as_str())?.strip_prefix('/')?;
        WebhookId::parse(id).ok()
    });
    if raw.endpoint.is_some() && by_endpoint.is_none() {
        let message = format!("the endpoint must be `/webhooks/{provider}/` and the webhook's id");
        report
            .error(&at_endpoint, Code::ConfigValue, message)
            .hint("an id has lower-case letters, digits, `-` and `_`");
    }
    if let (Some(id), Some(by_endpoint)) = (&id, &by_endpoint)
        && id != by_endpoint
    {
        let message = format!("the endpoint says `{by_endpoint}`, but `id` says `{id}`");
        report.error(&at_endpoint, Code::ConfigValue, message).hint("one of the two is enough");
    }
    let id = id.or(by_endpoint)?;
    if around.providers.get(id.as_str()).is_some() {
        let message = format!("`{id}` is the id of a built-in webhook");
        report
            .error(at, Code::EndpointTaken, message)
            .hint("choose another id, or leave it out to extend that webhook");
        return None;
    }
    Some(id)
}

/// The inline sections as they stand in the file.
fn sections(raw: &RawWebhook) -> Map<String, Value> {
    let reply = match &raw.reply {
        Some(ReplyField::Section(section)) => Some(section),
        Some(ReplyField::Mode(_)) | None => None,
    };
    let header = raw.signature_header.as_ref().map(|header| Value::from(header.0.as_str()));
    let sections = [
        ("verify", raw.verify.as_ref()),
        ("event", raw.event.as_ref()),
        ("text", raw.text.as_ref()),
        ("actor", raw.actor.as_ref()),
        ("resource", raw.resource.as_ref()),
        ("delivery", raw.delivery.as_ref()),
        ("reply", reply),
        ("signature_header", header.as_ref()),
    ];
    sections.into_iter().filter_map(|(name, section)| Some((name.to_owned(), section?.clone()))).collect()
}

/// An extending skill leaves the webhook's own matters as they are.
fn nothing_of_the_webhook(
    report: &mut Report<'_>,
    raw: &RawWebhook,
    definition: &Map<String, Value>,
    providers: &[ProviderName],
) {
    let fields = [
        ("requires_signature", raw.requires_signature.is_some()),
        ("secret_env_var", raw.secret_env_var.is_some()),
        ("secret_file", raw.secret_file.is_some()),
        ("secrets", raw.secrets.is_some()),
    ];
    let written = fields.into_iter().filter(|(_, written)| *written).map(|(name, _)| name);
    for field in written.chain(definition.keys().map(String::as_str)) {
        let whose = providers.iter().map(ProviderName::as_str).collect::<Vec<_>>().join("`, `");
        let message = format!("`{field}` is a matter of the built-in webhook of `{whose}`, which this skill extends");
        report
            .error(&report.at(field), Code::ConfigValue, message)
            .hint("give the webhook an `id` of its own, or leave it out");
    }
}

/// Whether the catalogue's definition still makes sense with the inline sections.
fn definition_holds(
    report: &mut Report<'_>,
    definition: &Map<String, Value>,
    providers: &[ProviderName],
    around: Surroundings<'_>,
) {
    let [provider] = providers else { return };
    let Some(base) = around.providers.get(provider.as_str()).filter(|_| !definition.is_empty()) else { return };
    let Err(faults) = base.overlaid(&Value::Object(definition.clone())) else { return };
    let culprit = culprit(base, definition).map_or_else(|| report.at("provider"), |section| report.at(section));
    for fault in faults.into_iter().filter(Diagnostic::is_error) {
        let added = report.error(&culprit, Code::DefinitionInvalid, fault.message);
        if let Some(hint) = fault.hint {
            added.hint(hint);
        }
    }
}

/// The section that is at fault on its own, else the first one.
fn culprit<'d>(base: &Definition, definition: &'d Map<String, Value>) -> Option<&'d str> {
    let alone = |(name, section): &(&String, &Value)| {
        let single = Map::from_iter([((*name).clone(), (*section).clone())]);
        base.overlaid(&Value::Object(single)).is_err()
    };
    definition.iter().find(alone).or_else(|| definition.iter().next()).map(|(name, _)| name.as_str())
}

fn signature(report: &mut Report<'_>, raw: &RawWebhook, around: Surroundings<'_>) -> Option<bool> {
    if raw.requires_signature == Some(false) && !around.rules.unsigned_allowed {
        let message = "unsigned deliveries are not allowed by the operator";
        let hint = "sign them; `allow_unsigned` in `skillhook.toml` permits it for a listener on loopback";
        report.error(&report.at("requires_signature"), Code::ConfigValue, message).hint(hint);
    }
    raw.requires_signature
}

fn prefixes(report: &mut Report<'_>, raw: &RawWebhook) -> Option<Vec<String>> {
    let at = report.at("command_prefix");
    let mut out: Vec<String> = Vec::new();
    for (at, text) in report.items(&at, raw.command_prefix.as_ref()?, PREFIXES_MAX) {
        let Some(prefix) = report.word(&at, text, PREFIX_CHARS_MAX) else { continue };
        match out.iter().any(|other| other.to_lowercase() == prefix.to_lowercase()) {
            true => drop(report.error(&at, Code::ConfigValue, format!("`{prefix}` stands here twice"))),
            false => out.push(prefix),
        }
    }
    Some(out)
}

/// Without a prefix texts call nobody, except where the provider has calls or mentions of its own.
fn warn_of_silence(
    report: &mut Report<'_>,
    commands: &[CommandSpec],
    providers: &[ProviderName],
    around: Surroundings<'_>,
) {
    let definitions = providers.iter().filter_map(|provider| around.providers.get(provider.as_str()));
    let mut carriers = definitions.flat_map(|definition| definition.document().command_events.iter().flatten());
    let called: Vec<&str> =
        commands.iter().filter(|command| command.triggers.is_empty()).map(|command| command.name.as_str()).collect();
    if called.is_empty() || carriers.any(|event| matching::needs_no_prefix(event)) {
        return;
    }
    let message = format!("nothing can call `{}`: there is no `command_prefix`", called.join("`, `"));
    let hint = "set one, or give the command a `trigger` (`*` for every event)";
    report.warning(&report.at("commands"), Code::ConfigValue, message).hint(hint);
}

fn default_command(
    report: &mut Report<'_>,
    raw: &RawWebhook,
    commands: &[CommandSpec],
    extends: bool,
) -> Option<CommandName> {
    let at = report.at("default_command");
    let name = report.name(&at, raw.default_command.as_ref(), CommandName::parse)?;
    let known = commands.iter().any(|command| command.name == name);
    // With errors in the commands the name may well be one of them.
    if !known && !extends && !report.has_errors() {
        let names: Vec<&str> = commands.iter().map(|command| command.name.as_str()).collect();
        let message = format!("there is no command `{name}`");
        report.error(&at, Code::ReferenceMissing, message).suggest(name.as_str(), names);
    }
    Some(name)
}

fn concurrency(report: &mut Report<'_>, raw: &RawWebhook) -> Option<u32> {
    let at = report.at("concurrency").key("max");
    report.within(&at, raw.concurrency.as_ref().map(|limit| limit.max), (1, CONCURRENCY_MAX), " runs")
}

fn budget(report: &mut Report<'_>, raw: &RawWebhook) -> Option<DailyBudget> {
    let (at_usd, at_runs) = (report.at("budget").key("usd_per_day"), report.at("budget").key("runs_per_day"));
    let budget = raw.budget.as_ref()?;
    let usd = report.within(&at_usd, budget.usd_per_day, (0.01, USD_A_DAY_MAX), " US dollars");
    let runs = report.within(&at_runs, budget.runs_per_day, (1, RATE_MAX), " runs");
    Some(DailyBudget { usd, runs })
}

fn rate_limit(report: &mut Report<'_>, raw: &RawWebhook) -> Option<RateLimit> {
    let (at_max, at_per) = (report.at("rate_limit").key("max"), report.at("rate_limit").key("per"));
    let limit = raw.rate_limit.as_ref();
    let max = report.within(&at_max, limit.map(|limit| limit.max), (1, RATE_MAX), " deliveries");
    let per_seconds = seconds(report, &at_per, limit.map(|limit| limit.per));
    Some(RateLimit { max: max?, per_seconds: per_seconds? })
}
