//! What runs may ask a provider to do: from what they say to a call that can be made.
//!
//! What a delivery is about binds the calls of its run: the run cannot name another repository, issue or channel,
//! unless its command names the operation together with the provider.

use std::collections::BTreeMap;

use serde::Serialize;

use super::call::prepare;
use super::definition::Definition;
use super::extract::Delivered;
use super::prepared::PreparedCall;
use super::schema::repository::Operation;
use super::selector::Selector;
use super::settings::Settings;
use super::template::{Expression, Template, first_text};
use super::view::View;
use crate::error::{Code, Error, Result};

/// Longest value that a run may give, in bytes.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// What a delivery is about, by the names that operations use.
pub fn bound(delivered: &Delivered<'_>) -> BTreeMap<String, String> {
    let view = delivered.view();
    let rules = delivered.definition.document().operations.bound.iter();
    rules.filter_map(|(name, templates)| Some((name.clone(), first_text(templates, &view)?))).collect()
}

/// One operation, as a run gets to see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offered {
    pub provider: String,
    pub operation: String,
    pub description: String,
    /// What the run has to say, by name.
    pub takes: BTreeMap<String, String>,
    pub changes_something: bool,
}

/// An operation that a command allows: `issue` at what the delivery is about, `jira.issue` at any resource of that
/// provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed<'a> {
    pub provider: Option<&'a str>,
    pub operation: &'a str,
}

impl<'a> Allowed<'a> {
    pub fn parse(written: &'a str) -> Self {
        match written.split_once('.') {
            Some((provider, operation)) => Self { provider: Some(provider), operation },
            None => Self { provider: None, operation: written },
        }
    }
}

impl Definition {
    /// The names of its operations.
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.document().operations.calls.keys().map(String::as_str)
    }

    /// Operations that every run may use at what its delivery is about.
    pub fn usual_operations(&self) -> impl Iterator<Item = &str> {
        let usual = |(_, operation): &(&String, &Operation)| operation.reads && self.is_bound(operation);
        self.document().operations.calls.iter().filter(usual).map(|(name, _)| name.as_str())
    }

    /// Whether what the delivery is about narrows it.
    fn is_bound(&self, operation: &Operation) -> bool {
        let bound = &self.document().operations.bound;
        holes(operation).iter().any(|hole| context_names(hole).any(|name| bound.contains_key(name)))
    }

    /// As it is shown to a run for which `bound` is fixed.
    pub fn offered(&self, name: &str, bound: &BTreeMap<String, String>) -> Option<Offered> {
        let operation = self.document().operations.calls.get(name)?;
        let mut takes = operation.takes.clone();
        for hole in holes(operation) {
            for name in context_names(hole).filter(|name| !bound.contains_key(*name)) {
                takes.entry(name.to_owned()).or_insert_with(|| format!("which {name}"));
            }
        }
        takes.retain(|name, _| !bound.contains_key(name));
        Some(Offered {
            provider: self.name().to_string(),
            operation: name.to_owned(),
            description: operation.description.clone(),
            takes,
            changes_something: !operation.reads,
        })
    }

    /// The call of an operation, and what fills it. SH0902 when something is missing, unknown or too long.
    pub fn operation(
        &self,
        name: &str,
        bound: &BTreeMap<String, String>,
        said: &BTreeMap<String, String>,
        settings: &Settings,
    ) -> Result<(PreparedCall, BTreeMap<String, String>)> {
        let missing = || Error::new(Code::NotFound, format!("`{}` has no operation `{name}`", self.name()));
        let operation = self.document().operations.calls.get(name).ok_or_else(missing)?;
        let offered = self.offered(name, bound).ok_or_else(missing)?;
        if let Some(unknown) = said.keys().find(|name| !offered.takes.contains_key(*name)) {
            let message = match bound.contains_key(unknown) {
                true => format!("`{unknown}` is what this run is about, and cannot be chosen"),
                false => format!("`{name}` takes no `{}`", unknown.escape_default()),
            };
            let takes: Vec<&str> = offered.takes.keys().map(String::as_str).collect();
            return Err(Error::new(Code::Usage, message).hint(format!("it takes {}", takes.join(", "))));
        }
        if let Some((long, _)) = said.iter().find(|(_, value)| value.len() > VALUE_BYTES_MAX) {
            return Err(Error::new(Code::Usage, format!("`{long}` is longer than {VALUE_BYTES_MAX} bytes")));
        }
        for hole in holes(operation).into_iter().filter(|hole| !hole.has_default()) {
            let given =
                |name: &&str| bound.contains_key(*name) || said.get(*name).is_some_and(|it| !it.trim().is_empty());
            if let Some(missing) = context_names(hole).find(|name| !given(name)) {
                return Err(Error::new(Code::Usage, format!("`{name}` needs `{missing}`")));
            }
        }
        let document = self.document();
        let view = View { settings: Some(settings), api_base: document.api.base.as_ref(), ..View::default() };
        let call = prepare(&operation.call, &document.api, &view).ok_or_else(|| {
            Error::new(Code::ReplyTarget, format!("`{name}` needs settings of `{}` that are not there", self.name()))
                .hint("the operator sets them in the provider's table of skillhook.toml")
        })?;
        let context = said.iter().chain(bound).map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok((call, context))
    }
}

/// Everything that is filled in.
pub(super) fn holes(operation: &Operation) -> Vec<&Expression> {
    let call = &operation.call;
    let mut holes: Vec<&Expression> = call.url.holes().chain(call.headers.values().flat_map(Template::holes)).collect();
    holes.extend(call.json.iter().flat_map(|json| json.holes()));
    holes.extend(call.form.iter().flat_map(|form| form.values()).flat_map(Template::holes));
    holes
}

/// What of it stands in the context of the call.
pub(super) fn context_names(hole: &Expression) -> impl Iterator<Item = &str> {
    hole.selectors().filter_map(|selector| match selector {
        Selector::Context(name) => Some(name.as_str()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::provider::catalog;
    use crate::model::secret::SecretSet;

    fn filled(provider: &str, name: &str, bound: &[(&str, &str)], said: &[(&str, &str)]) -> Result<(String, Value)> {
        let definition = std::sync::Arc::clone(catalog::builtin().unwrap().get(provider).unwrap());
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let settings = [("site_url", "https://acme.example"), ("org", "acme")].into_iter().collect();
        let (call, context) = definition.operation(name, &map(bound), &map(said), &settings)?;
        let secrets = ["api_token", "bot_token", "api_user"]
            .into_iter()
            .fold(SecretSet::new(), |secrets, slot| secrets.with(slot, "s3cret"));
        let filled = call.fill(&context, &secrets)?;
        let body = filled.body.map_or(Value::Null, |body| serde_json::from_slice(&body).unwrap());
        Ok((format!("{} {}", filled.method, filled.url), body))
    }

    #[test]
    fn run_cannot_choose_what_its_delivery_is_about() {
        let own = [("repository", "acme/api"), ("number", "7")];
        let (called, _) = filled("github", "pull_request", &own, &[]).unwrap();
        assert_eq!(called, "GET https://api.github.com/repos/acme/api/pulls/7");
        let error = filled("github", "pull_request", &own, &[("repository", "acme/secrets")]).unwrap_err();
        assert_eq!(error.code(), Code::Usage);
        assert!(error.message().contains("cannot be chosen"), "{error}");
        // Where the command names the provider nothing is bound, and everything must be said.
        let error = filled("github", "pull_request", &[], &[("repository", "acme/api")]).unwrap_err();
        assert!(error.message().contains("`number`"), "{error}");
        let said = [("repository", "acme/api"), ("number", "8")];
        assert!(filled("github", "pull_request", &[], &said).unwrap().0.ends_with("/pulls/8"));
    }

    #[test]
    fn what_a_run_says_stays_in_its_place() {
        let own = [("repository", "acme/api"), ("number", "7")];
        for number in ["../../../user", "7/../8", "7?x=y#z", "7/comments"] {
            let said = [("repository", "acme/api"), ("number", number)];
            if let Ok((called, _)) = filled("github", "issue", &[], &said) {
                let path = called.strip_prefix("GET https://api.github.com/repos/acme/api/issues/").unwrap();
                assert!(!path.contains(['/', '?', '#']), "{called}");
            }
        }
        let (_, body) = filled("github", "comment", &own, &[("text", "a \"b\" {secret:api_token}")]).unwrap();
        assert_eq!(body["body"], "a \"b\" {secret:api_token}");
        assert_eq!(filled("github", "comment", &own, &[]).unwrap_err().code(), Code::Usage);
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert_eq!(filled("github", "comment", &own, &[("text", &long)]).unwrap_err().code(), Code::Usage);
    }

    #[test]
    fn reading_at_home_is_usual_and_nothing_else() {
        let catalogue = catalog::builtin().unwrap();
        for definition in catalogue.iter() {
            let usual: Vec<&str> = definition.usual_operations().collect();
            for name in definition.operations() {
                let operation = &definition.document().operations.calls[name];
                let reading = operation.call.method.as_str() == "GET";
                assert!(reading || !usual.contains(&name), "{}.{name}", definition.name());
                assert_eq!(reading, operation.reads, "{}.{name}", definition.name());
                assert!(definition.offered(name, &BTreeMap::new()).is_some());
            }
        }
        let jira: Vec<&str> = catalogue.get("jira").unwrap().usual_operations().collect();
        assert!(jira.contains(&"issue") && !jira.contains(&"search") && !jira.contains(&"comment"), "{jira:?}");
    }
}
