//! What an automatic commit tells of: the resources that its paths belong to. It is derived from the commit itself, so
//! that it is right after a restart too, and however many passes went into one commit.

use std::collections::BTreeMap;

use crate::model::entry::{Observed, WebhookEntry};
use crate::repo::{Change, PathChange, Verb};

/// One change for each resource: agents, skills, provider definitions, and the webhooks that changed skills make.
pub fn changes(paths: &[PathChange], observed: &Observed) -> Vec<Change> {
    let mut resources: BTreeMap<(&'static str, &str), Verb> = BTreeMap::new();
    for PathChange { path, verb } in paths {
        let Some((kind, name, is_main)) = resource(path) else { continue };
        // A skill is born and dies with its SKILL.md; whatever else happens in its directory updates it.
        let verb = if is_main { *verb } else { Verb::Update };
        let told = resources.entry((kind, name)).or_insert(verb);
        if is_main {
            *told = verb;
        }
    }
    let webhooks = observed.webhooks.values().filter_map(|entry| webhook(entry, &resources));
    let mut told: Vec<Change> = webhooks.collect();
    told.extend(resources.iter().map(|((kind, name), verb)| Change {
        verb: *verb,
        kind,
        name: (*name).to_owned(),
        note: None,
    }));
    told
}

/// Kind, name, and whether the file is the one that makes the resource.
fn resource(path: &str) -> Option<(&'static str, &str, bool)> {
    let (directory, below) = path.strip_prefix(".claude/")?.split_once('/')?;
    match directory {
        "skills" => {
            let (name, file) = below.split_once('/')?;
            Some(("skill", name, file == "SKILL.md"))
        }
        "agents" => Some(("agent", below.strip_suffix(".md").unwrap_or(below), true)),
        "providers" => Some(("provider", below.strip_suffix(".yaml").unwrap_or(below), true)),
        _ => None,
    }
}

/// A webhook in force of which a skill changed; it is as new as the last of its skills.
fn webhook(entry: &WebhookEntry, resources: &BTreeMap<(&'static str, &str), Verb>) -> Option<Change> {
    let verbs: Vec<Verb> =
        entry.sources.iter().filter_map(|skill| resources.get(&("skill", skill.as_str())).copied()).collect();
    let all_new = verbs.len() == entry.sources.len() && verbs.iter().all(|verb| *verb == Verb::Create);
    let verb = if verbs.is_empty() {
        return None;
    } else if all_new {
        Verb::Create
    } else {
        Verb::Update
    };
    let commands = entry.spec.commands.len();
    let note = Some(format!("{commands} command{}", if commands == 1 { "" } else { "s" }));
    Some(Change { verb, kind: "webhook", name: entry.spec.id.to_string(), note })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(paths: &[(&str, Verb)]) -> Vec<String> {
        let change = |(path, verb): &(&str, Verb)| PathChange { path: (*path).to_owned(), verb: *verb };
        let paths: Vec<PathChange> = paths.iter().map(change).collect();
        changes(&paths, &Observed::default()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_resource_is_told_once_by_what_became_of_its_main_file() {
        let paths = [
            (".claude/agents/brain.md", Verb::Update),
            (".claude/providers/acme.yaml", Verb::Delete),
            (".claude/skills/a/SKILL.md", Verb::Create),
            (".claude/skills/a/zebra.md", Verb::Create),
            (".claude/skills/b/notes.md", Verb::Create),
            (".claude/skills/c/SKILL.md", Verb::Delete),
            (".claude/skills/c/a.md", Verb::Delete),
        ];
        assert_eq!(
            told(&paths),
            ["update agent brain", "delete provider acme", "create skill a", "update skill b", "delete skill c"]
        );
    }

    #[test]
    fn what_is_no_resource_is_not_told() {
        assert!(told(&[(".claude/skills/stray.md", Verb::Create), ("README.md", Verb::Update)]).is_empty());
    }
}
