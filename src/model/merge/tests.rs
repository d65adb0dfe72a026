use serde_json::json;

use super::*;
use crate::model::ids::CommandName;
use crate::model::provider::catalog;
use crate::model::spec::{Action, Allow, CommandSpec, ReplyMode, SecretRef};

fn command(skill: &str, name: &str, aliases: &[&str]) -> CommandSpec {
    CommandSpec {
        name: CommandName::parse(name).unwrap(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        description: String::new(),
        source: SkillName::parse(skill).unwrap(),
        target_agent: None,
        template: format!("{name} of {skill}"),
        triggers: Vec::new(),
        conditions: None,
        priority: 100,
        action: Action::default(),
        forward_to: None,
        requires_prefix: false,
        model: None,
        tools: None,
        max_turns: None,
        budget_usd: None,
        timeout_seconds: None,
        approval: None,
        checkout: false,
        provider_calls: None,
    }
}

fn fragment(skill: &str, provider: &str, commands: &[&str]) -> SkillConfig {
    SkillConfig {
        skill: SkillName::parse(skill).unwrap(),
        providers: vec![ProviderName::parse(provider).unwrap()],
        own_id: None,
        name: None,
        description: None,
        enabled: None,
        target_agent: None,
        requires_signature: None,
        definition: None,
        secrets: BTreeMap::new(),
        prefixes: None,
        default_command: None,
        commands: commands.iter().map(|name| command(skill, name, &[])).collect(),
        match_mode: None,
        allow: None,
        concurrency_max: None,
        rate_limit: None,
        timeout_seconds: None,
        retries: None,
        ack: None,
        reply: None,
        strict_templates: None,
        budget: None,
    }
}

fn own(skill: &str, provider: &str, id: &str, commands: &[&str]) -> SkillConfig {
    SkillConfig { own_id: Some(WebhookId::parse(id).unwrap()), ..fragment(skill, provider, commands) }
}

fn merge(builtin: Vec<SkillConfig>, extensions: Vec<SkillConfig>) -> Merged {
    let builtin = builtin.into_iter().map(|fragment| (Layer::Builtin, fragment));
    let all: Vec<_> = builtin.chain(extensions.into_iter().map(|fragment| (Layer::Extension, fragment))).collect();
    webhooks(&all, &catalog::builtin().unwrap(), &|agent| (agent.as_str() == "nobody").then(|| "write one".to_owned()))
}

fn commands(merged: &Merged, id: &str) -> Vec<String> {
    let commands = merged.webhooks[id].commands.iter();
    commands.map(|command| format!("{}:{}", command.source, command.name)).collect()
}

#[track_caller]
fn left_out(merged: &Merged, expect: &[&str]) {
    let lines: Vec<String> = merged.diagnostics.values().flatten().map(ToString::to_string).collect();
    assert_eq!(lines, expect);
}

#[test]
fn extensions_join_and_override_by_name() {
    let shipped = SkillConfig {
        commands: vec![command("shipped", "review", &["cr"]), command("shipped", "help", &["commands"])],
        ..fragment("shipped", "github", &[])
    };
    let merged = merge(vec![shipped], vec![fragment("mine", "github", &["review", "deploy", "commands"])]);
    left_out(&merged, &[]);
    assert_eq!(commands(&merged, "github"), ["mine:commands", "mine:deploy", "shipped:help", "mine:review"]);
    let webhook = &merged.webhooks["github"];
    assert!(webhook.command("help").unwrap().aliases.is_empty(), "the alias went to the added command");
    assert!(webhook.builtin && webhook.enabled && webhook.endpoint == "/webhooks/github");
}

#[test]
fn commands_are_in_the_order_in_which_they_run() {
    let mut fragment = fragment("mine", "github", &["b", "a", "c"]);
    fragment.commands[2].priority = 1;
    assert_eq!(commands(&merge(vec![], vec![fragment]), "github"), ["mine:c", "mine:a", "mine:b"]);
}

#[test]
fn two_skills_that_claim_a_word_leave_the_later_one_out() {
    let later = SkillConfig { commands: vec![command("b", "look", &["Review"])], ..fragment("b", "github", &[]) };
    let merged = merge(vec![], vec![later, fragment("a", "github", &["review"]), fragment("c", "github", &["review"])]);
    assert_eq!(commands(&merged, "github"), ["a:review"]);
    left_out(
        &merged,
        &[
            ".claude/skills/b/SKILL.md: error[SH0109]: `Review` already calls the command `review` of the skill `a` on the webhook `github`",
            ".claude/skills/c/SKILL.md: error[SH0109]: `review` already calls the command `review` of the skill `a` on the webhook `github`",
        ],
    );
}

#[test]
fn an_alias_never_takes_the_name_of_a_built_in_command() {
    let mine = SkillConfig { commands: vec![command("mine", "look", &["review"])], ..fragment("mine", "github", &[]) };
    let merged = merge(vec![fragment("shipped", "github", &["review"])], vec![mine]);
    assert_eq!(commands(&merged, "github"), ["shipped:review"]);
    assert_eq!(merged.diagnostics.len(), 1);
}

#[test]
fn a_conflict_on_one_provider_leaves_the_skill_out_on_all() {
    let several = SkillConfig {
        providers: ["github", "gitlab"].map(|name| ProviderName::parse(name).unwrap()).into(),
        ..fragment("b", "github", &["review"])
    };
    let merged = merge(vec![], vec![fragment("a", "gitlab", &["review"]), several]);
    assert_eq!(merged.webhooks.keys().map(WebhookId::as_str).collect::<Vec<_>>(), ["gitlab"]);
    assert_eq!(commands(&merged, "gitlab"), ["a:review"]);
}

#[test]
fn order_of_input_does_not_matter() {
    let skills = [fragment("a", "github", &["x"]), fragment("a-b", "github", &["x"]), own("c", "github", "c", &["x"])];
    let forward = merge(vec![], skills.to_vec());
    let backward = merge(vec![], skills.into_iter().rev().collect());
    assert_eq!(forward, backward);
    // By path: `a-b/SKILL.md` comes before `a/SKILL.md`.
    assert_eq!(commands(&forward, "github"), ["a-b:x"]);
}

#[test]
fn webhooks_of_their_own_have_ids_of_their_own() {
    let merged = merge(vec![], vec![own("b", "gitlab", "intake", &["x"]), own("a", "github", "intake", &["x"])]);
    assert_eq!(merged.webhooks["intake"].endpoint, "/webhooks/github/intake");
    left_out(
        &merged,
        &[".claude/skills/b/SKILL.md: error[SH0108]: there is a webhook `intake` of the skill `a` already"],
    );
    let merged = merge(vec![], vec![own("a", "github", "gitlab", &["x"])]);
    left_out(&merged, &[".claude/skills/a/SKILL.md: error[SH0108]: `gitlab` is the id of a built-in webhook"]);
}

#[test]
fn the_default_command_must_exist_in_the_end() {
    let help = CommandName::parse("help").unwrap();
    let wants = SkillConfig { default_command: Some(help.clone()), ..fragment("mine", "github", &["x"]) };
    let merged = merge(vec![fragment("shipped", "github", &["help"])], vec![wants.clone()]);
    assert_eq!(merged.webhooks["github"].default_command, Some(help));
    let merged = merge(vec![], vec![wants, fragment("other", "github", &["y"])]);
    assert_eq!(commands(&merged, "github"), ["other:y"]);
    left_out(
        &merged,
        &[".claude/skills/mine/SKILL.md: error[SH0110]: the webhook `github` has no command `help` to be its default"],
    );
}

#[test]
fn settings_of_extensions_override_and_must_agree() {
    let set = |skill: &str, reply| SkillConfig { reply: Some(reply), ..fragment(skill, "github", &[skill]) };
    let merged =
        merge(vec![set("shipped", ReplyMode::Comment)], vec![set("a", ReplyMode::None), set("b", ReplyMode::None)]);
    left_out(&merged, &[]);
    assert_eq!(merged.webhooks["github"].reply, ReplyMode::None);
    let merged = merge(vec![], vec![set("a", ReplyMode::None), set("b", ReplyMode::Comment)]);
    left_out(
        &merged,
        &[
            ".claude/skills/b/SKILL.md: error[SH0106]: the skill `a` says otherwise about `reply` of the webhook `github`",
        ],
    );
    let named = |skill: &str| SkillConfig { name: Some(skill.to_owned()), ..fragment(skill, "github", &[skill]) };
    let merged = merge(vec![named("shipped")], vec![named("b"), named("a")]);
    left_out(&merged, &[]);
    assert_eq!(merged.webhooks["github"].name, "a");
}

#[test]
fn prefixes_add_up_and_the_editing_skill_replaces() {
    let with = |skill: &str, prefix: &str| SkillConfig {
        prefixes: Some(vec![prefix.to_owned()]),
        ..fragment(skill, "github", &[])
    };
    let merged = merge(vec![with("shipped", "@agent")], vec![with("mine", "@bot"), with("yours", "@BOT")]);
    assert_eq!(merged.webhooks["github"].prefixes, ["@agent", "@bot"]);
    let merged = merge(vec![with("shipped", "@agent")], vec![with("github-commands", "@bot")]);
    assert_eq!(merged.webhooks["github"].prefixes, ["@bot"]);
}

#[test]
fn only_the_editing_skill_switches_a_built_in_webhook_off() {
    let off = |skill: &str| SkillConfig { enabled: Some(false), ..fragment(skill, "github", &["x"]) };
    let merged = merge(vec![fragment("shipped", "github", &["help"])], vec![off("mine")]);
    assert!(merged.webhooks["github"].enabled);
    assert_eq!(commands(&merged, "github"), ["shipped:help"]);
    let merged = merge(vec![fragment("shipped", "github", &["help"])], vec![off("github-commands")]);
    assert!(!merged.webhooks["github"].enabled);
}

#[test]
fn secrets_have_usual_names_and_real_slots() {
    let env = |name: &str| vec![SecretRef::Env(name.to_owned())];
    let merged = merge(
        vec![],
        ["github", "gitlab", "standard_webhooks"].map(|p| fragment(&p.replace('_', "-"), p, &["x"])).into(),
    );
    let secrets = |id: &str| json!(merged.webhooks[id].secrets).to_string();
    assert_eq!(secrets("github"), r#"{"webhook_secret":[{"env":"GITHUB_WEBHOOK_SECRET"}]}"#);
    assert_eq!(secrets("gitlab"), r#"{"webhook_token":[{"env":"GITLAB_WEBHOOK_SECRET"}]}"#);
    assert_eq!(secrets("standard_webhooks"), r#"{"signing_secret":[{"env":"STANDARD_WEBHOOKS_SIGNING_SECRET"}]}"#);
    let said = BTreeMap::from([
        (String::new(), env("A_WEBHOOK_SECRET")),
        ("webhook_secret".to_owned(), env("B_WEBHOOK_SECRET")),
    ]);
    let merged = merge(vec![], vec![SkillConfig { secrets: said, ..own("a", "github", "own", &["x"]) }]);
    let both = [env("A_WEBHOOK_SECRET"), env("B_WEBHOOK_SECRET")].concat();
    assert_eq!(merged.webhooks["own"].secrets, BTreeMap::from([("webhook_secret".to_owned(), both)]));
    let unsigned = SkillConfig { requires_signature: Some(false), ..own("a", "github", "own", &["x"]) };
    assert!(merge(vec![], vec![unsigned]).webhooks["own"].secrets.is_empty());
}

#[test]
fn inline_sections_change_the_definition_of_that_webhook_alone() {
    let inline =
        SkillConfig { definition: Some(json!({"signature_header": "X-Sig"})), ..own("a", "custom", "own", &["x"]) };
    let merged = merge(vec![], vec![inline, own("b", "custom", "plain", &["x"])]);
    let digest = |id: &str| merged.webhooks[id].definition_digest;
    assert_ne!(digest("own"), digest("plain"));
    assert_eq!(digest("plain"), catalog::builtin().unwrap().get("custom").unwrap().digest());
}

#[test]
fn what_does_not_exist_is_named() {
    let agent =
        SkillConfig { target_agent: Some(AgentName::parse("nobody").unwrap()), ..fragment("a", "github", &["x"]) };
    let provider = fragment("b", "nowhere", &["x"]);
    let merged = merge(vec![], vec![agent, provider, fragment("c", "github", &["y"])]);
    assert_eq!(commands(&merged, "github"), ["c:y"]);
    left_out(
        &merged,
        &[
            ".claude/skills/a/SKILL.md: error[SH0110]: there is no agent `nobody`",
            ".claude/skills/b/SKILL.md: error[SH0107]: there is no provider `nowhere`",
        ],
    );
}

#[test]
fn a_webhook_has_at_most_so_many_commands() {
    let many = |skill: &str| {
        let names: Vec<String> = (0..40).map(|n| format!("{skill}{n}")).collect();
        fragment(skill, "github", &names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let merged = merge(vec![], vec![many("a"), many("b")]);
    left_out(
        &merged,
        &[".claude/skills/b/SKILL.md: error[SH0106]: the webhook `github` would have more than 64 commands"],
    );
    assert_eq!(merged.webhooks["github"].commands.len(), 40);
}

#[test]
fn what_nobody_said_is_filled_in() {
    let merged = merge(vec![], vec![own("a", "custom", "own", &["x"])]);
    let webhook = &merged.webhooks["own"];
    assert_eq!((webhook.name.as_str(), webhook.target_agent.as_str(), webhook.builtin), ("own", "brain", false));
    assert_eq!((webhook.timeout_seconds, webhook.retries, &webhook.allow), (900, 2, &Allow::default()));
    assert!(webhook.requires_signature && webhook.prefixes.is_empty());
}
