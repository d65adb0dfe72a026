//! Runs `tests/fixtures/matching.yaml`: files are checked, merged and matched as in earnest.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::*;
use crate::model::check::{Checked, Rules, check_skill};
use crate::model::event::{Actor, Permission};
use crate::model::frontmatter::split;
use crate::model::ids::SkillName;
use crate::model::merge::{Layer, webhooks};
use crate::model::provider::catalog;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    webhooks: BTreeMap<String, serde_yaml::Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    webhook: String,
    #[serde(default)]
    event: serde_yaml::Value,
    carries: Option<bool>,
    text: Option<String>,
    #[serde(default)]
    payload: Value,
    selected: Vec<String>,
    #[serde(default)]
    why: BTreeMap<String, String>,
    ignored: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skill {
    skill: String,
    #[serde(default)]
    builtin: bool,
    config: serde_yaml::Value,
}

fn webhook(written: &serde_yaml::Value) -> WebhookSpec {
    let skills: Vec<Skill> = match written.get("skills") {
        Some(skills) => serde_yaml::from_value(skills.clone()).unwrap(),
        None => vec![Skill { skill: "one".to_owned(), builtin: false, config: written.clone() }],
    };
    let catalogue = catalog::builtin().unwrap();
    let fragments: Vec<_> = skills
        .into_iter()
        .map(|skill| {
            let text = serde_yaml::to_string(&BTreeMap::from([("webhook_config", skill.config)])).unwrap();
            let file = format!("---\nname: {}\ndescription: For a test.\n{text}---\n", skill.skill);
            let name = SkillName::parse(&skill.skill).unwrap();
            let document = split("SKILL.md", file.as_bytes()).unwrap();
            let layer = if skill.builtin { Layer::Builtin } else { Layer::Extension };
            match check_skill("SKILL.md", &name, &document, &Rules::default(), &catalogue, &|_| None) {
                Checked::Spec(config, _, _) => (layer, *config),
                other => panic!("{file}\n{other:#?}"),
            }
        })
        .collect();
    let merged = webhooks(&fragments, &catalogue, &|_| None);
    assert!(merged.diagnostics.is_empty(), "{:#?}", merged.diagnostics);
    let mut webhooks: Vec<WebhookSpec> = merged.webhooks.into_values().collect();
    assert_eq!(webhooks.len(), 1);
    webhooks.remove(0)
}

fn event(case: &Case) -> Event {
    let default = serde_yaml::Value::from("issue_comment.created");
    let written = if case.event.is_null() { &default } else { &case.event };
    let name = written.as_str().or_else(|| written.get("name")?.as_str()).unwrap();
    let aliases = written.get("aliases").map(|aliases| serde_yaml::from_value(aliases.clone()).unwrap());
    Event {
        name: name.to_owned(),
        aliases: aliases.unwrap_or_default(),
        noop: written.get("noop").is_some(),
        carries_commands: case.carries.unwrap_or(case.text.is_some()),
        text: case.text.clone(),
        title: None,
        actor: Some(Actor {
            id: "octocat".to_owned(),
            bot: false,
            own: false,
            permission: Permission::Trusted,
            association: None,
        }),
        resource: None,
        thread: None,
        url: None,
        delivery_id: None,
        delivery_id_signed: true,
        pressed: None,
    }
}

#[test]
fn the_golden_table_holds() {
    let table: Table = serde_yaml::from_str(include_str!("../../../tests/fixtures/matching.yaml")).unwrap();
    let matchers: BTreeMap<&str, Matcher> = table
        .webhooks
        .iter()
        .map(|(name, written)| (name.as_str(), Matcher::new(&webhook(written)).unwrap()))
        .collect();
    assert!(table.cases.len() >= 80, "only {} rows", table.cases.len());
    let mut wrong = Vec::new();
    for case in &table.cases {
        let decision = matchers[case.webhook.as_str()].decide(&event(case), &case.payload);
        wrong.extend(differences(case, &decision).into_iter().map(|difference| format!("{}: {difference}", case.name)));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn differences(case: &Case, decision: &Decision) -> Vec<String> {
    let mut out = Vec::new();
    let selected: Vec<String> = decision
        .selected
        .iter()
        .zip(case.selected.iter().map(|row| row.contains(" | ")).chain(std::iter::repeat(true)))
        .map(|(selected, with_args)| match with_args {
            true => format!("{} | {}", selected.command, selected.args),
            false => selected.command.to_string(),
        })
        .collect();
    if selected != case.selected {
        out.push(format!("selected {selected:?} instead of {:?}", case.selected));
    }
    for rule in &decision.rules {
        let runs = decision.selected.iter().any(|selected| selected.command == rule.command);
        if rule.matched != runs || rule.why.is_empty() {
            out.push(format!("the outcome of `{}` is wrong: {rule:?}", rule.command));
        }
    }
    for (command, fragment) in &case.why {
        let rule = decision.rules.iter().find(|rule| rule.command.as_str() == command);
        match rule {
            Some(rule) if rule.why.contains(fragment) => {}
            other => out.push(format!("`{command}` should say `{fragment}`: {other:?}")),
        }
    }
    if decision.ignored.is_some() != decision.selected.is_empty() {
        out.push(format!("ignored is {:?}", decision.ignored));
    }
    if let Some(fragment) = &case.ignored
        && !decision.ignored.as_ref().is_some_and(|why| why.contains(fragment))
    {
        out.push(format!("ignored should say `{fragment}`: {:?}", decision.ignored));
    }
    out
}
