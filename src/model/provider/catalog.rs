//! The definitions that are compiled in.

use super::definition::{Catalogue, Definition};
use crate::model::diagnostic::Diagnostic;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// File names and contents.
        const FILES: &[(&str, &str)] = &[$(
            (concat!("catalog/", $name, ".yaml"), include_str!(concat!("catalog/", $name, ".yaml"))),
        )*];
    };
}

files![
    "alertmanager",
    "asana",
    "azure_devops",
    "bitbucket",
    "bitbucket_dc",
    "cloudevents",
    "custom",
    "datadog",
    "discord",
    "forgejo",
    "gitea",
    "github",
    "gitlab",
    "grafana",
    "hubspot",
    "intercom",
    "jira",
    "linear",
    "mailgun",
    "meta",
    "pagerduty",
    "plaid",
    "sentry",
    "shopify",
    "slack",
    "standard_webhooks",
    "stripe",
    "svix",
    "telegram",
    "trello",
    "twilio",
    "zoom",
];

/// Parses all of them. An error is a fault of this program, which its tests exclude.
pub fn builtin() -> Result<Catalogue, Vec<Diagnostic>> {
    let mut definitions = Vec::with_capacity(FILES.len());
    let mut findings = Vec::new();
    for (path, yaml) in FILES {
        match Definition::parse(path, yaml) {
            Ok(definition) => definitions.push(definition),
            Err(more) => findings.extend(more),
        }
    }
    if findings.is_empty() { Ok(Catalogue::of(definitions)) } else { Err(findings) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_definition_is_sound_and_named_as_its_file() {
        let catalogue = builtin().unwrap();
        assert_eq!(catalogue.names().count(), FILES.len());
        for (path, yaml) in FILES {
            let definition = Definition::parse(path, yaml).unwrap();
            assert_eq!(format!("catalog/{}.yaml", definition.name()), *path);
            assert!(definition.lint().is_empty(), "{:?}", definition.lint());
        }
    }
}
