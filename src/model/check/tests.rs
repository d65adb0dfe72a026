//! Files in, `path:line:col: error[CODE]: message` out.

use super::*;
use crate::model::frontmatter::split;
use crate::model::provider::catalog;
use crate::model::spec::{Action, MatchMode, PermissionRule, RateLimit, ReplyMode, SecretRef};

fn check_file(file: &str, rules: &Rules) -> Checked {
    let catalogue = catalog::builtin().unwrap();
    let skill = SkillName::parse("triage").unwrap();
    let template_file = |path: &str| match path {
        "prompts/review.md" => Some("Review {{ issue.title }}.".to_owned()),
        "prompts/broken.md" => Some("Fine.\n{{ oh".to_owned()),
        _ => None,
    };
    match split("SKILL.md", file.as_bytes()) {
        Ok(document) => check_skill("SKILL.md", &skill, &document, rules, &catalogue, &template_file),
        Err(findings) => Checked::Invalid(findings),
    }
}

/// A file whose `webhook_config` is this; it begins on line 5, in column 3.
fn file(config: &str) -> String {
    let indented: String = config.lines().map(|line| format!("  {line}\n")).collect();
    format!("---\nname: triage\ndescription: Sorts things.\nwebhook_config:\n{indented}---\nBody.\n")
}

fn shown(findings: &[Diagnostic]) -> String {
    let lines = findings.iter().map(|finding| {
        let hint = finding.hint.as_ref().map(|hint| format!("\n  {hint}")).unwrap_or_default();
        format!("{finding}{hint}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn invalid(file: &str, expect: &str) {
    match check_file(file, &Rules::default()) {
        Checked::Invalid(findings) => assert_eq!(shown(&findings), expect, "{file}"),
        other => panic!("{file}\n{other:#?}"),
    }
}

#[track_caller]
fn refused(config: &str, expect: &str) {
    invalid(&file(config), expect);
}

#[track_caller]
fn spec(config: &str) -> SkillConfig {
    match check_file(&file(config), &Rules::default()) {
        Checked::Spec(config, _, findings) if findings.is_empty() => *config,
        other => panic!("{config}\n{other:#?}"),
    }
}

const FULL: &str = r#"provider: custom
id: intake
name: Intake
description: Takes things in.
target_agent: planning
secret_env_var: [INTAKE_WEBHOOK_SECRET, SKILLHOOK_SECRET_OLD]
secrets: {webhook_secret: {file: intake/secret}}
command_prefix: "@agent"
default_command: sort
match: first
allow: {permission: write, actors: octocat, associations: [member], repositories: [octo/*], channels: C1}
concurrency: {max: 2}
rate_limit: {max: 10, per: 1m}
timeout: 1h 30m
retries: 0
ack: none
reply: none
strict_templates: true
event: [{name: "{body:/kind}"}]
commands:
  - name: sort
    aliases: [order, Überblick]
    prompt_template: |
      Sort {{ text }}.
    trigger: intake.*
    conditions: {"label.name": bug, n: {gt: 1}}
    priority: -5
    action: comment
    model: opus
    tools: [Read, "Bash(git log:*)"]
    max_turns: 3
    budget_usd: 0.5
    timeout: 90
  - name: look
    template_file: prompts/review.md
    tools: Read, Bash(git log:*, git diff:*)"#;

#[test]
fn every_field_is_read() {
    let config = spec(FULL);
    assert_eq!(config.own_id.as_ref().map(|id| id.as_str()), Some("intake"));
    let env = |name: &str| SecretRef::Env(name.to_owned());
    assert_eq!(config.secrets[""], [env("INTAKE_WEBHOOK_SECRET"), env("SKILLHOOK_SECRET_OLD")]);
    assert_eq!(config.secrets["webhook_secret"], [SecretRef::File("intake/secret".to_owned())]);
    assert_eq!((config.match_mode, config.reply), (Some(MatchMode::First), Some(ReplyMode::None)));
    assert_eq!(config.rate_limit, Some(RateLimit { max: 10, per_seconds: 60 }));
    assert_eq!((config.timeout_seconds, config.retries, config.concurrency_max), (Some(5_400), Some(0), Some(2)));
    let allow = config.allow.unwrap();
    assert_eq!(allow.permission, Some(PermissionRule::Write));
    assert_eq!((allow.associations, allow.resources), (vec!["MEMBER".to_owned()], vec!["octo/*".into(), "C1".into()]));
    assert_eq!(config.definition, Some(serde_json::json!({"event": [{"name": "{body:/kind}"}]})));
    let [sort, look] = config.commands.as_slice() else { panic!() };
    assert!(sort.requires_prefix && sort.action == Action::Comment && sort.conditions.is_some());
    assert_eq!((sort.priority, sort.timeout_seconds, sort.budget_usd), (-5, Some(90), Some(0.5)));
    assert_eq!(sort.template, "Sort {{ text }}.\n");
    assert_eq!(look.tools.as_ref().unwrap(), &["Read", "Bash(git log:*, git diff:*)"]);
    assert_eq!((look.template.as_str(), look.requires_prefix), ("Review {{ issue.title }}.", false));
}

#[test]
fn a_skill_without_a_webhook_is_one_too() {
    let file = "---\nname: triage\ndescription: Sorts things.\nallowed-tools: Read\n---\n";
    assert_eq!(check_file(file, &Rules::default()), Checked::NoWebhook { description: "Sorts things.".to_owned() });
}

#[test]
fn the_portable_form_is_the_same() {
    let map = "---\nname: triage\ndescription: d\nmetadata:\n  webhook_config:\n    provider: github\n---\n";
    let text = "---\nname: triage\ndescription: d\nmetadata:\n  webhook_config: |\n    provider: github\n---\n";
    let (map, text) = (check_file(map, &Rules::default()), check_file(text, &Rules::default()));
    assert!(matches!(map, Checked::Spec(..)), "{map:?}");
    assert_eq!(map, text);
}

#[test]
fn skills_have_an_identity() {
    invalid(
        "just text\n",
        "SKILL.md:1:1: error[SH0101]: the file has no frontmatter\n  begin it with a line `---`, then `name:` and `description:`, then another line `---`",
    );
    invalid(
        "---\nname: other\ndescription: d\n---\n",
        "SKILL.md:2:1: error[SH0104]: the skill is called `other` here, but its path says `triage`\n  write `name: triage`",
    );
    invalid(
        "---\nname: triage\ndescription: \" \"\n---\n",
        "SKILL.md:3:1: error[SH0104]: `description` is missing or empty\n  say in a sentence what the skill does and when to use it",
    );
    invalid("---\ndescription: d\n---\n", "SKILL.md:2:1: error[SH0104]: `name` is missing\n  write `name: triage`");
    invalid(
        "---\nname: 7\ndescription: d\n---\n",
        "SKILL.md:2:7: error[SH0105]: `name`: expected a text, found integer `7`",
    );
}

#[test]
fn the_configuration_stands_in_one_place() {
    invalid(
        "---\nname: triage\ndescription: d\nwebhook_config: {provider: github}\nmetadata: {webhook_config: {provider: github}}\n---\n",
        "SKILL.md:4:1: error[SH0105]: `webhook_config` stands here and below `metadata`\n  keep one of them",
    );
    invalid(
        "---\nname: triage\ndescription: d\nwebhook_config:\n---\n",
        "SKILL.md:4:1: error[SH0105]: `webhook_config` is empty\n  remove it, or give it at least a `provider`",
    );
    invalid(
        "---\nname: triage\ndescription: d\nmetadata:\n  webhook_config: |\n    provider: github\n    comands: []\n---\n",
        "SKILL.md:7:5: error[SH0105]: unknown field `comands`\n  did you mean `commands`?",
    );
}

#[test]
fn fields_are_known_and_of_their_kind() {
    refused(
        "provder: github",
        "SKILL.md:5:3: error[SH0105]: unknown field `provder` in `webhook_config`\n  did you mean `provider`?",
    );
    refused("commands: []", "SKILL.md:4:1: error[SH0105]: `provider` is missing");
    refused("provider:", "SKILL.md:5:12: error[SH0105]: `webhook_config.provider`: expected a text, found nothing");
    refused(
        "provider: 7",
        "SKILL.md:5:13: error[SH0105]: `webhook_config.provider`: expected a text, found integer `7`",
    );
    refused(
        "provider: github\nname: ~",
        "SKILL.md:6:9: error[SH0105]: `webhook_config.name`: expected a text, found nothing",
    );
    refused(
        "provider: github\ncommands:\n  - {name: 7, prompt_template: x}",
        "SKILL.md:7:14: error[SH0105]: `webhook_config.commands[0].name`: expected a text, found integer `7`",
    );
    refused(
        "provider: github\nenabled: yes",
        "SKILL.md:6:12: error[SH0105]: `webhook_config.enabled`: expected a boolean, found string \"yes\"",
    );
    refused(
        "provider: github\nmatch: some",
        "SKILL.md:6:10: error[SH0105]: `webhook_config.match`: `some` is no value for it\n  the values are: `all`, `first`",
    );
    refused(
        "provider: github\nallow: {permission: writ}",
        "SKILL.md:6:23: error[SH0105]: `webhook_config.allow.permission`: `writ` is no value for it\n  did you mean `write`?",
    );
    refused(
        "provider: github\ntimeout: soon",
        "SKILL.md:6:12: error[SH0105]: `webhook_config.timeout`: expected a duration such as `15m`, or a whole number of seconds, found string \"soon\"",
    );
    refused(
        "provider: github\ncoalesce: {key: x}",
        "SKILL.md:6:3: error[SH0105]: unknown field `coalesce` in `webhook_config`\n  deliveries are not gathered by this version; `concurrency` and `rate_limit` are what holds runs back",
    );
}

#[test]
fn unknown_fields_are_told_all_at_once() {
    let config = "provider: github\nsecret_env_varr: A\ncommands:\n  - descriptin: L\n    name: look\n    prmpt: |\n      \
                  x\n\n      y\n  - name: b\n    promt: [\n      1]\nretrys: 2";
    let Checked::Invalid(findings) = check_file(&file(config), &Rules::default()) else { panic!("it is not valid") };
    let shown: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let unknown = |at: &str, field: &str, place: &str| {
        format!("SKILL.md:{at}: error[SH0105]: unknown field `{field}` in `webhook_config{place}`")
    };
    assert_eq!(
        shown,
        [
            unknown("6:3", "secret_env_varr", ""),
            unknown("8:7", "descriptin", ".commands[0]"),
            unknown("10:7", "prmpt", ".commands[0]"),
            unknown("15:7", "promt", ".commands[1]"),
            unknown("17:3", "retrys", ""),
        ]
    );
    // Nothing is known of what comes after a field inside braces.
    let Checked::Invalid(findings) = check_file(&file("{provder: x, comands: []}"), &Rules::default()) else {
        panic!()
    };
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn providers_are_known() {
    refused("provider: githb", "SKILL.md:5:3: error[SH0107]: there is no provider `githb`\n  did you mean `github`?");
    refused(
        "provider: [github, Git Lab]",
        "SKILL.md:5:22: error[SH0106]: `Git Lab` is no provider: it must begin and end with a lower-case letter or a digit",
    );
    refused("provider: [github, github]", "SKILL.md:5:22: error[SH0106]: `github` stands here twice");
    refused("provider: []", "SKILL.md:5:3: error[SH0106]: the list is empty");
}

const ONE: &str = "commands: [{name: a, prompt_template: x, trigger: push}]";

#[test]
fn a_webhook_of_its_own_has_an_address() {
    refused(
        &format!("provider: [github, gitlab]\nid: x\n{ONE}"),
        "SKILL.md:6:3: error[SH0106]: a webhook of its own has exactly one provider\n  leave `id` and `endpoint` out to extend several",
    );
    refused(
        &format!("provider: github\nid: X/y\n{ONE}"),
        "SKILL.md:6:3: error[SH0106]: `X/y` is no webhook id: it must begin and end with a lower-case letter or a digit",
    );
    refused(
        &format!("provider: github\nid: gitlab\n{ONE}"),
        "SKILL.md:6:3: error[SH0108]: `gitlab` is the id of a built-in webhook\n  choose another id, or leave it out to extend that webhook",
    );
    refused(
        &format!("provider: github\nendpoint: /webhooks/gitlab/x\n{ONE}"),
        "SKILL.md:6:3: error[SH0106]: the endpoint must be `/webhooks/github/` and the webhook's id\n  an id has lower-case letters, digits, `-` and `_`",
    );
    refused(
        &format!("provider: github\nid: x\nendpoint: /webhooks/github/../y\n{ONE}"),
        "SKILL.md:7:3: error[SH0106]: the endpoint must be `/webhooks/github/` and the webhook's id\n  an id has lower-case letters, digits, `-` and `_`",
    );
    refused(
        &format!("provider: github\nid: x\nendpoint: /webhooks/github/y\n{ONE}"),
        "SKILL.md:7:3: error[SH0106]: the endpoint says `y`, but `id` says `x`\n  one of the two is enough",
    );
    refused("provider: github\nid: x", "SKILL.md:4:1: error[SH0105]: a webhook of its own needs at least one command");
    let config = spec(&format!("provider: github\nendpoint: /webhooks/github/x\n{ONE}"));
    assert_eq!(config.own_id.unwrap().as_str(), "x");
}

#[test]
fn an_extension_leaves_the_webhook_alone() {
    refused(
        "provider: github\nsecret_env_var: X_WEBHOOK_SECRET",
        "SKILL.md:6:3: error[SH0106]: `secret_env_var` is a matter of the built-in webhook of `github`, which this skill extends\n  give the webhook an `id` of its own, or leave it out",
    );
    refused(
        "provider: github\nevent: [{name: x}]",
        "SKILL.md:6:3: error[SH0106]: `event` is a matter of the built-in webhook of `github`, which this skill extends\n  give the webhook an `id` of its own, or leave it out",
    );
}

#[test]
fn secrets_are_named_and_never_shown() {
    let own = |line: &str| format!("provider: custom\nid: x\n{line}\n{ONE}");
    let advice =
        "\n  put it into an environment variable or a file, and name that with `secret_env_var` or `secret_file`";
    let seal = "\n  `skillhook seal` prints what may stand here; or name it with `secret_env_var` or `secret_file`";
    for secret in ["hunter2", "4711", "-1", "0.5", "true", "[hunter2]", "[age:x, hunter2]", "{a: hunter2}", "~"] {
        let message = format!("SKILL.md:7:3: error[SH0112]: the secret stands here in plain text{seal}");
        refused(&own(&format!("secret: {secret}")), &message);
    }
    refused(&own("secret: age:abc"), &format!("SKILL.md:7:3: error[SH0111]: this is no sealed secret{seal}"));
    let slot_advice =
        "\n  write `{env: NAME}`, `{file: NAME}` or `{sealed: \"age:…\"}` for each secret; `skillhook seal` seals one";
    for secret in ["hunter2", "4711", "0.5"] {
        refused(
            &own(&format!("secrets: {{webhook_secret: {secret}}}")),
            &format!(
                "SKILL.md:7:13: error[SH0112]: the secret `webhook_secret` stands here in plain text{slot_advice}"
            ),
        );
        refused(
            &own(&format!("secrets: {secret}")),
            &format!("SKILL.md:7:3: error[SH0112]: a secret stands here in plain text{slot_advice}"),
        );
        let message = "this is not the name of an environment variable (upper-case letters, digits and `_`)";
        refused(&own(&format!("secret_env_var: {secret}")), &format!("SKILL.md:7:3: error[SH0111]: {message}{advice}"));
    }
    for name in ["PATH", "HOME", "ANTHROPIC_API_KEY", "LD_PRELOAD", "SKILLHOOK_ALLOW_UNSIGNED"] {
        let message =
            format!("SKILL.md:7:3: error[SH0111]: `{name}` is no webhook secret and may never be named as one");
        refused(&own(&format!("secret_env_var: {name}")), &message);
    }
    refused(
        &own("secret_env_var: [A_WEBHOOK_SECRET, MY_TOKEN]"),
        "SKILL.md:7:38: error[SH0111]: files may not name the environment variable `MY_TOKEN`\n  allowed by the operator: `SKILLHOOK_SECRET_*`, `*_WEBHOOK_SECRET`, `*_SIGNING_SECRET`",
    );
    for path in ["../x", "/etc/passwd", "a//b", ".hidden", "a b"] {
        refused(
            &own(&format!("secret_file: \"{path}\"")),
            "SKILL.md:7:3: error[SH0111]: this is not the path of a file below the secret directory\n  letters, digits, `-`, `_` and `.`, no `..` and no leading `/`",
        );
    }
    refused(
        &own("secrets: {webhook_secrt: {env: A_WEBHOOK_SECRET}}"),
        "SKILL.md:7:13: error[SH0111]: `custom` has no secret called `webhook_secrt`\n  did you mean `webhook_secret`?",
    );
    for secrets in ["{environment: hunter2}", "{env: {a: hunter2}}", "{env: A, file: hunter2}", "[[hunter2]]"] {
        let file = file(&own(&format!("secrets: {{webhook_secret: {secrets}}}")));
        let Checked::Invalid(findings) = check_file(&file, &Rules::default()) else { panic!("{file}") };
        assert!(!shown(&findings).contains("hunter2"), "{}", shown(&findings));
    }
}

#[test]
fn unsigned_needs_the_operator() {
    let config = format!("provider: custom\nid: x\nrequires_signature: false\n{ONE}");
    refused(
        &config,
        "SKILL.md:7:3: error[SH0106]: unsigned deliveries are not allowed by the operator\n  sign them; `allow_unsigned` in `skillhook.toml` permits it for a listener on loopback",
    );
    let rules = Rules { unsigned_allowed: true, ..Rules::default() };
    let Checked::Spec(config, _, _) = check_file(&file(&config), &rules) else { panic!() };
    assert_eq!(config.requires_signature, Some(false));
}

#[test]
fn opening_to_anyone_is_a_warning() {
    for (allow, line) in [
        ("{permission: any}", "SKILL.md:6:11: warning[SH0115]: anyone who can cause the event may start runs"),
        ("{associations: [none]}", "SKILL.md:6:11: warning[SH0115]: anyone can be `NONE`, and so start runs"),
    ] {
        match check_file(&file(&format!("provider: github\nallow: {allow}")), &Rules::default()) {
            Checked::Spec(_, _, findings) => assert_eq!(findings[0].to_string(), line),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_command_that_nothing_can_call_is_a_warning() {
    let text = "commands: [{name: a, prompt_template: x}]";
    let own = format!("provider: custom\nid: x\n{text}");
    let Checked::Spec(_, _, findings) = check_file(&file(&own), &Rules::default()) else { panic!() };
    assert_eq!(
        shown(&findings),
        "SKILL.md:7:3: warning[SH0106]: nothing can call `a`: there is no `command_prefix`\n  set one, or give the command a `trigger` (`*` for every event)",
    );
    spec(&format!("{own}\ncommand_prefix: \"!\""));
    spec(&format!("provider: github\n{text}"));
}

#[test]
fn commands_have_a_name_of_their_own() {
    let commands = |lines: &str| format!("provider: github\ncommands:\n{lines}");
    refused(&commands("  - {prompt_template: x}"), "SKILL.md:7:7: error[SH0105]: the command has no `name`");
    refused(
        &commands("  - {name: Review, prompt_template: x}"),
        "SKILL.md:7:8: error[SH0106]: `Review` is no command name: it must begin and end with a lower-case letter or a digit",
    );
    refused(
        &commands("  - {name: a, prompt_template: x}\n  - {name: a, prompt_template: y}"),
        "SKILL.md:8:8: error[SH0109]: there are two commands `a`",
    );
    refused(
        &commands("  - {name: a, aliases: [b, B], prompt_template: x}"),
        "SKILL.md:7:30: error[SH0109]: `B` already calls the command `a`",
    );
    refused(
        &commands("  - {name: a, prompt_template: x}\n  - {name: b, aliases: A, prompt_template: y}"),
        "SKILL.md:8:17: error[SH0109]: `A` already calls the command `a`",
    );
    refused(
        &commands("  - {name: a, aliases: [what?], prompt_template: x}"),
        "SKILL.md:7:27: error[SH0106]: `what?` cannot be called: `?` is not allowed in an alias",
    );
    let many: String = (0..65).map(|n| format!("  - {{name: c{n}, prompt_template: x}}\n")).collect();
    refused(&commands(&many), "SKILL.md:6:3: error[SH0106]: there are 65 commands, allowed are 64");
}

#[test]
fn commands_have_one_template() {
    let command = |rest: &str| format!("provider: github\ncommands:\n  - name: a\n    {rest}");
    refused(
        "provider: github\ncommands:\n  - name: a",
        "SKILL.md:7:7: error[SH0105]: the command needs `prompt_template` or `template_file`",
    );
    refused(
        &command("prompt_template: x\n    template_file: prompts/review.md"),
        "SKILL.md:9:7: error[SH0105]: `prompt_template` and `template_file` exclude each other",
    );
    refused(&command("prompt_template: \"\""), "SKILL.md:8:7: error[SH0106]: the template is empty");
    for path in ["../x.md", "/x.md", "a/../x.md", "a\\\\b"] {
        refused(
            &command(&format!("template_file: \"{path}\"")),
            "SKILL.md:8:7: error[SH0114]: this is not the path of a file inside the skill\n  for example `templates/review.md`; no `..`, no leading `/`",
        );
    }
    refused(
        &command("template_file: prompts/none.md"),
        "SKILL.md:8:7: error[SH0110]: the skill has no file `prompts/none.md`, or it is not text",
    );
}

#[test]
fn templates_compile_where_they_stand() {
    let found = |rest: &str| {
        let config = format!("provider: github\ncommands:\n  - name: a\n    {rest}");
        let Checked::Invalid(findings) = check_file(&file(&config), &Rules::default()) else { panic!("{config}") };
        findings[0].to_string()
    };
    let broken = found("prompt_template: |\n      Fine.\n      {{ oh");
    assert!(broken.starts_with("SKILL.md:10:") && broken.contains("error[SH0201]"), "{broken}");
    let forbidden = found("prompt_template: \"{% include 'x' %}\"");
    assert!(forbidden.starts_with("SKILL.md:8:") && forbidden.contains("error[SH02"), "{forbidden}");
    let in_file = found("template_file: prompts/broken.md");
    assert!(in_file.starts_with("SKILL.md:8:7: error[SH0201]: `prompts/broken.md`, line 2, column "), "{in_file}");
    let long = found(&format!("prompt_template: {}", "x".repeat(17 * 1024)));
    assert!(long.contains("error[SH0203]"), "{long}");
}

#[test]
fn conditions_and_triggers_are_checked() {
    let command = |rest: &str| format!("provider: github\ncommands:\n  - name: a\n    prompt_template: x\n    {rest}");
    refused(
        &command("conditions: {\"label.name\": {prefx: b}}"),
        "SKILL.md:9:35: error[SH0106]: there is no operator `prefx`\n  did you mean `prefix`?",
    );
    refused(
        &command("conditions:\n      any:\n        - {a: 1}\n        - {b: [1]}"),
        "SKILL.md:12:14: error[SH0106]: a list is no value to compare with\n  one of several: `{in: [a, b]}`",
    );
    refused(&command("trigger: [push, push]"), "SKILL.md:9:23: error[SH0106]: `push` stands here twice");
    refused(&command("trigger: \"a b\""), "SKILL.md:9:7: error[SH0106]: `a b` holds blanks");
    refused(
        &command("action: shout"),
        "SKILL.md:9:15: error[SH0105]: `webhook_config.commands[0].action`: `shout` is no value for it\n  the values are: `create_task`, `comment`, `approve`, `reject`, `respond`, `ask`, `forward`, `help`, `status`",
    );
    refused(
        &command("action: forward"),
        "SKILL.md:7:7: error[SH0105]: a `forward` command needs `forward_to`\n  name a target of the operator's `[forward.NAME]` settings; an address cannot stand here",
    );
    refused(
        &command("forward_to: audit"),
        "SKILL.md:9:7: error[SH0105]: `forward_to` belongs to commands with `action: forward`",
    );
}

#[test]
fn numbers_have_bounds() {
    for (line, expect) in [
        ("timeout: 0", "SKILL.md:6:3: error[SH0106]: 0 is not between 1 and 86400 seconds"),
        ("timeout: 2000m", "SKILL.md:6:3: error[SH0106]: 120000 is not between 1 and 86400 seconds"),
        ("retries: 21", "SKILL.md:6:3: error[SH0106]: 21 is not between 0 and 20"),
        ("concurrency: {max: 0}", "SKILL.md:6:17: error[SH0106]: 0 is not between 1 and 1000 runs"),
        ("rate_limit: {max: 0, per: 1m}", "SKILL.md:6:16: error[SH0106]: 0 is not between 1 and 1000000 deliveries"),
        ("command_prefix: a b", "SKILL.md:6:3: error[SH0106]: `a b` holds blanks"),
        ("command_prefix: [x, X]", "SKILL.md:6:23: error[SH0106]: `X` stands here twice"),
        ("name: \"\"", "SKILL.md:6:3: error[SH0106]: the text is empty"),
        (
            "target_agent: The Brain",
            "SKILL.md:6:3: error[SH0106]: `The Brain` is no agent name: it must begin and end with a lower-case letter or a digit",
        ),
    ] {
        refused(&format!("provider: github\n{line}"), expect);
    }
    refused(
        "provider: github\ncommands: [{name: a, prompt_template: x, budget_usd: .nan, max_turns: 0}]",
        "SKILL.md:6:44: error[SH0106]: NaN is not between 0.01 and 1000 US dollars\nSKILL.md:6:62: error[SH0106]: 0 is not between 1 and 1000 turns",
    );
}

#[test]
fn the_default_command_exists_unless_the_built_in_webhook_may_have_it() {
    refused(
        &format!("provider: github\nid: x\ndefault_command: b\n{ONE}"),
        "SKILL.md:7:3: error[SH0110]: there is no command `b`\n  did you mean `a`?",
    );
    assert!(spec("provider: github\ndefault_command: help").default_command.is_some());
}

#[test]
fn inline_sections_are_checked_where_they_stand() {
    refused(
        &format!("provider: custom\nid: x\nevent: [{{nam: x}}]\n{ONE}"),
        "SKILL.md:7:3: error[SH0113]: unknown field `nam`, expected one of `when`, `name`, `aliases`\n  did you mean `name`?",
    );
    let config = spec(&format!("provider: custom\nid: x\nsignature_header: X-Sig\n{ONE}"));
    assert_eq!(config.definition, Some(serde_json::json!({"signature_header": "X-Sig"})));
}

#[test]
fn all_faults_are_told_at_once_and_in_order() {
    refused(
        "provider: github\nretries: 99\ncommands:\n  - {name: a}\n  - {name: B, prompt_template: x}\ntimeout: 0",
        "SKILL.md:6:3: error[SH0106]: 99 is not between 0 and 20\n\
         SKILL.md:8:7: error[SH0105]: the command needs `prompt_template` or `template_file`\n\
         SKILL.md:9:8: error[SH0106]: `B` is no command name: it must begin and end with a lower-case letter or a digit\n\
         SKILL.md:10:3: error[SH0106]: 0 is not between 1 and 86400 seconds",
    );
}
