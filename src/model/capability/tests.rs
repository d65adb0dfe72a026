use serde_json::json;

use super::*;
use crate::model::digest::Digest;
use crate::model::entry::{Standing, WebhookEntry};
use crate::model::snapshot::AgentFacts;

fn spec() -> WebhookSpec {
    let command = json!({
        "name": "review", "aliases": [], "description": "", "source": "github-operations",
        "target_agent": "planning", "template": "Review it.", "triggers": [], "conditions": null, "priority": 100,
        "action": "create_task", "requires_prefix": true, "model": null, "tools": ["Read", "Grep"],
        "max_turns": 10, "budget_usd": 1.0, "timeout_seconds": null,
    });
    let spec = json!({
        "id": "github", "provider": "github", "endpoint": "/webhooks/github", "builtin": true, "name": "GitHub",
        "description": "", "enabled": true, "target_agent": "brain", "requires_signature": true, "definition": null,
        "definition_digest": Digest::of(b""), "secrets": {"webhook": [{"env": "GITHUB_WEBHOOK_SECRET"}]},
        "prefixes": ["@agent"], "default_command": null, "commands": [command], "match_mode": "all",
        "allow": {"permission": "write", "actors": ["ann"], "associations": [], "bots": [], "resources": ["o/*"]},
        "concurrency_max": 2, "rate_limit": {"max": 10, "per_seconds": 60}, "timeout_seconds": 600, "retries": 2,
        "ack": "reaction", "reply": "comment", "strict_templates": false,
    });
    serde_json::from_value(spec).unwrap()
}

fn observed(spec: WebhookSpec) -> Observed {
    let entry = WebhookEntry { digest: spec.digest(), generation: 1, sources: Vec::new(), spec };
    Observed { webhooks: [(entry.spec.id.clone(), entry)].into(), ..Observed::default() }
}

fn with_agent(tools: Option<&[&str]>) -> Observed {
    let tools = tools.map(|tools| tools.iter().map(ToString::to_string).collect());
    let entry = AgentEntry {
        standing: Standing::Current,
        embedded: false,
        facts: Some(AgentFacts { tools, ..AgentFacts::default() }),
        path: String::new(),
        file: None,
        diagnostics: Vec::new(),
    };
    Observed { agents: [(AgentName::parse("helper-agent").unwrap(), entry)].into(), ..Observed::default() }
}

#[track_caller]
fn widens(change: impl FnOnce(&mut WebhookSpec), expect: &[Power]) {
    let mut changed = spec();
    change(&mut changed);
    let found = widenings(&observed(spec()), &observed(changed));
    assert_eq!(found.iter().map(|each| each.power).collect::<Vec<_>>(), expect, "{found:?}");
}

#[test]
fn every_kind_of_power_is_noticed_when_it_grows() {
    widens(|spec| spec.requires_signature = false, &[Power::Signature]);
    widens(|spec| spec.definition_digest = Digest::of(b"other"), &[Power::Signature]);
    widens(|spec| drop(spec.secrets.insert("x".into(), vec![SecretRef::Env("OTHER".into())])), &[Power::Secrets]);
    widens(|spec| spec.allow.permission = Some(PermissionRule::Any), &[Power::Actors]);
    widens(|spec| spec.allow.actors.clear(), &[Power::Actors]);
    widens(|spec| spec.allow.bots.push("bot".into()), &[Power::Actors]);
    widens(|spec| spec.allow.resources.push("p/*".into()), &[Power::Actors]);
    widens(|spec| spec.rate_limit = None, &[Power::Budget]);
    widens(|spec| spec.rate_limit = Some(RateLimit { max: 1, per_seconds: 1 }), &[Power::Budget]);
    widens(|spec| spec.timeout_seconds = 601, &[Power::Budget]);
    widens(|spec| spec.commands[0].budget_usd = None, &[Power::Budget]);
    widens(|spec| spec.commands[0].tools = Some(vec!["Bash".into()]), &[Power::Tools]);
    widens(|spec| spec.commands[0].tools = None, &[Power::Tools]);
    widens(|spec| spec.commands[0].triggers.push("issues.opened".into()), &[Power::Commands]);
    widens(|spec| spec.commands[0].requires_prefix = false, &[Power::Commands]);
    widens(|spec| spec.commands[0].name = "other".to_owned().try_into().unwrap(), &[Power::Commands]);
}

#[test]
fn narrowing_and_other_words_widen_nothing() {
    widens(|_| {}, &[]);
    widens(|spec| spec.name = "Other".into(), &[]);
    widens(|spec| spec.enabled = false, &[]);
    widens(|spec| spec.commands[0].template = "Say no.".into(), &[]);
    widens(|spec| spec.commands[0].tools = Some(vec!["Read".into()]), &[]);
    widens(|spec| spec.commands[0].budget_usd = Some(0.5), &[]);
    widens(|spec| spec.rate_limit = Some(RateLimit { max: 1, per_seconds: 60 }), &[]);
    widens(|spec| drop(spec.commands.pop()), &[]);
    assert!(widenings(&observed(spec()), &Observed::default()).is_empty());
}

#[test]
fn new_endpoints_and_agents_are_power() {
    let found = widenings(&Observed::default(), &observed(spec()));
    assert_eq!(found[0].to_string(), "webhook/github: a new endpoint `/webhooks/github` for `github`");
    assert_eq!(widenings(&Observed::default(), &with_agent(Some(&["Read"]))).len(), 1);
    assert!(widenings(&Observed::default(), &with_agent(Some(&[]))).is_empty());
    assert_eq!(widenings(&with_agent(Some(&["Read"])), &with_agent(Some(&["Read", "Bash"]))).len(), 1);
    assert_eq!(widenings(&with_agent(Some(&["Read"])), &with_agent(None)).len(), 1);
    assert!(widenings(&with_agent(None), &with_agent(Some(&["Bash"]))).is_empty());
}
