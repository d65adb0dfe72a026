//! Where a definition of the repository takes the operator's credentials: to hosts alone that the operator's settings
//! or the definition that is compiled in name. Whoever can write to the repository must not be able to have a token sent
//! to himself (<https://cwe.mitre.org/data/definitions/522.html>).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::filter::Filter;
use super::lint::calls;
use super::schema::verify::JwtKey;
use super::schema::{Document, Scheme};
use super::selector::Selector;
use super::settings::Settings;
use super::template::{Expression, Part, Template};
use crate::error::Code;
use crate::model::diagnostic::Diagnostic;

/// What the operator has set for a provider, as far as it decides where credentials may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operated {
    /// There are credentials for calls.
    pub credentials: bool,
    /// The host (and port, where it is written) that each setting names, by setting.
    pub hosts: BTreeMap<String, String>,
    /// Settings that are set and name no host.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub others: BTreeSet<String>,
}

impl Operated {
    pub fn new(credentials: bool, settings: &Settings) -> Self {
        let (mut hosts, mut others) = (BTreeMap::new(), BTreeSet::new());
        for (name, value) in settings.iter() {
            match host_of(value) {
                Some(host) => drop(hosts.insert(name.to_owned(), host)),
                None => drop(others.insert(name.to_owned())),
            }
        }
        Self { credentials, hosts, others }
    }

    /// Whether nothing fills this place in an address: then no call is made.
    fn leaves_open(&self, hole: &Expression) -> bool {
        match &hole.selector {
            Selector::Config(name) if name != "api_base" => {
                !self.hosts.contains_key(name) && !self.others.contains(name) && hole.filters.is_empty()
            }
            _ => false,
        }
    }
}

/// The host that a setting names, as an address or alone.
fn host_of(value: &str) -> Option<String> {
    let authority = match value.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?', '#']).next()?,
        None => value,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let is_host = authority.contains(['.', ':']) || authority == "localhost" || value.contains("://");
    (is_host && !authority.is_empty() && authority.chars().all(plain)).then(|| authority.to_ascii_lowercase())
}

/// A call and what it takes along.
struct Destination<'a> {
    place: String,
    url: &'a Template,
    allow_hosts: &'a [Template],
    /// Secrets of the operator's table.
    credentials: bool,
    /// Secrets that verify.
    secrets: bool,
}

/// Everything that would leave for a host that nobody but the repository names.
pub fn check(definition: &Definition, shipped: Option<&Definition>, operated: &Operated) -> Vec<Diagnostic> {
    let document = definition.document();
    let mut known: BTreeSet<String> = operated.hosts.values().cloned().collect();
    for at in shipped.iter().flat_map(|shipped| destinations(shipped.document())) {
        let base = shipped.and_then(|shipped| shipped.document().api.base.as_ref());
        known.extend(authority(at.url, base, operated));
        known.extend(at.allow_hosts.iter().filter_map(|host| host_text(host, operated)));
    }
    let leaves = |at: &Destination<'_>| {
        let carries = at.secrets || (at.credentials && operated.credentials);
        let by_operator = starts_with_base(at.url) && operated.hosts.contains_key("api_base");
        let fits = match authority(at.url, document.api.base.as_ref(), operated) {
            Some(host) => known.contains(&host),
            None => !at.allow_hosts.is_empty() && at.allow_hosts.iter().all(|host| is_known(host, &known, operated)),
        };
        carries && !by_operator && !fits && !is_open(at.url, document.api.base.as_ref(), operated)
    };
    let name = definition.name();
    let mut findings: Vec<Diagnostic> = Vec::new();
    for at in destinations(document).into_iter().filter(leaves) {
        let host = authority(at.url, document.api.base.as_ref(), operated);
        let host = host.map_or_else(|| "a host that the payload names".to_owned(), |host| format!("`{host}`"));
        let message = format!(
            "`{}` takes credentials to {host}, which neither the operator's settings nor the shipped definition name",
            at.place
        );
        let hint = format!("where that host is meant, the operator sets `api_base` of `[providers.{name}]`");
        findings.push(Diagnostic::error(definition.path(), Code::DefinitionInvalid, message).hint(hint));
    }
    findings
}

fn destinations(document: &Document) -> Vec<Destination<'_>> {
    let by_header = document.api.headers.values().flat_map(Template::holes).any(is_secret);
    let by_base = document.api.base.iter().flat_map(Template::holes).any(is_secret);
    let mut found: Vec<Destination<'_>> = Vec::new();
    for (place, call) in calls(document) {
        let own = call.expressions().into_iter().any(is_secret) || (by_base && starts_with_base(&call.url));
        let credentials = own || (by_header && !call.no_auth);
        found.push(Destination { place, url: &call.url, allow_hosts: &call.allow_hosts, credentials, secrets: false });
    }
    if let Some(lookup) = document.actor.permission.as_ref().and_then(|permission| permission.lookup.as_ref()) {
        let place = "actor.permission.lookup".to_owned();
        found.push(Destination { place, url: &lookup.url, allow_hosts: &[], credentials: true, secrets: false });
    }
    for (n, scheme) in document.verify.schemes.iter().enumerate() {
        if let Scheme::Jwt(scheme) = scheme
            && let JwtKey::Fetched(key) = &scheme.key
        {
            let holes = key.fetch.json.iter().flat_map(|json| json.holes()).chain(key.fetch.url.holes());
            let (place, secrets) = (format!("verify.schemes[{n}].key.fetch"), holes.into_iter().any(is_secret));
            found.push(Destination { place, url: &key.fetch.url, allow_hosts: &[], credentials: false, secrets });
        }
    }
    found
}

fn is_secret(hole: &Expression) -> bool {
    hole.secret_slots().next().is_some()
}

fn is_known(host: &Template, known: &BTreeSet<String>, operated: &Operated) -> bool {
    host_text(host, operated).is_some_and(|host| known.contains(&host))
}

fn host_text(host: &Template, operated: &Operated) -> Option<String> {
    Some(host.parts.iter().map(|part| resolved(part, operated)).collect::<String>().to_ascii_lowercase())
        .filter(|host| !host.is_empty())
}

/// Whether the operator has yet to set something before the address is one.
fn is_open(url: &Template, base: Option<&Template>, operated: &Operated) -> bool {
    let base = base.filter(|_| starts_with_base(url) && !operated.hosts.contains_key("api_base"));
    url.holes().chain(base.into_iter().flat_map(Template::holes)).any(|hole| operated.leaves_open(hole))
}

fn starts_with_base(url: &Template) -> bool {
    matches!(url.parts.first(), Some(Part::Hole(hole)) if hole.selector == Selector::Config("api_base".to_owned()))
}

/// What stands between `https://` and the path, with the operator's settings in place; `None` where the address does not
/// begin like that. It is compared as text: whatever is spelt in another way counts as another host.
fn authority(url: &Template, base: Option<&Template>, operated: &Operated) -> Option<String> {
    let begins_with_base = starts_with_base(url) && !operated.hosts.contains_key("api_base");
    let (first, rest): (&[Part], &[Part]) = match base {
        Some(base) if begins_with_base => (&base.parts, &url.parts[1..]),
        _ => (&[], &url.parts),
    };
    let mut text = String::new();
    for part in first.iter().chain(rest) {
        match part {
            Part::Hole(hole) if text.is_empty() && set(hole, operated).is_some() => text.push_str("https://"),
            Part::Hole(_) | Part::Literal(_) => {}
        }
        text.push_str(&resolved(part, operated));
        if text.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#'])) {
            break;
        }
    }
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    (scheme.eq_ignore_ascii_case("https") && !authority.is_empty()).then(|| authority.to_ascii_lowercase())
}

/// The host that the operator has set for the setting which the hole names.
fn set<'o>(hole: &Expression, operated: &'o Operated) -> Option<&'o String> {
    match &hole.selector {
        Selector::Config(name) => operated.hosts.get(name),
        _ => None,
    }
}

fn resolved(part: &Part, operated: &Operated) -> String {
    match part {
        Part::Literal(text) => text.clone(),
        Part::Hole(hole) => match (set(hole, operated), hole.filters.as_slice()) {
            (Some(host), _) => host.clone(),
            (None, [Filter::Default(text)]) if matches!(hole.selector, Selector::Config(_)) => text.clone(),
            (None, _) => format!("{{{}}}", hole.source),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::catalog;

    fn found(yaml: &str, operated: &Operated) -> Vec<String> {
        let definition = Definition::parse(".claude/providers/x.yaml", yaml).unwrap();
        let catalogue = catalog::builtin().unwrap();
        let shipped = catalogue.get(definition.name().as_str());
        check(&definition, shipped.map(|it| &**it), operated).into_iter().map(|it| it.message).collect()
    }

    fn operated(credentials: bool, settings: &[(&str, &str)]) -> Operated {
        Operated::new(credentials, &settings.iter().copied().collect())
    }

    #[test]
    fn base_of_the_repositorys_own_is_refused_while_there_is_a_token() {
        let github = include_str!("catalog/github.yaml");
        for base in [
            "https://evil.example",
            "http://api.github.com",
            "https://api.github.com@evil.example",
            "https://api.github.com.evil.example",
            "https://api.github.com:8443",
            "https://api.github.com\\\\.evil.example",
            "https://{cfg:app_id}.evil.example",
        ] {
            let moved = github.replace("base: \"https://api.github.com\"", &format!("base: \"{base}\""));
            assert_ne!(moved, github);
            assert!(!found(&moved, &operated(true, &[("app_id", "12")])).is_empty(), "{base}");
            assert!(found(&moved, &operated(false, &[])).is_empty(), "without credentials nothing can leave: {base}");
            let set = operated(true, &[("api_base", "https://ghe.example/api/v3")]);
            assert!(found(&moved, &set).is_empty(), "the operator's base goes before it: {base}");
        }
        assert!(found(github, &operated(true, &[])).is_empty(), "a copy of the shipped one is fine");
    }

    #[test]
    fn single_call_with_a_secret_is_held_to_the_same_hosts() {
        let github = include_str!("catalog/github.yaml");
        let call = "call: {method: POST, url: \"{cfg:api_base}/repos/{body:/repository/full_name}/issues/comments/{body:/comment/id}/reactions\"";
        let moved = github.replace(call, "call: {method: POST, url: \"https://evil.example/\"");
        let set = operated(true, &[("api_base", "https://ghe.example/api/v3")]);
        let message = found(&moved, &set).join("; ");
        assert!(message.contains("`ack[0].call` takes credentials to `evil.example`"), "{message}");
        let quiet = github.replace(call, "call: {method: POST, no_auth: true, url: \"https://evil.example/\"");
        assert!(found(&quiet, &set).is_empty(), "without credentials it may go anywhere");
        let lookup = github.replace(
            "url: \"{cfg:api_base}/repos/{body:/repository/full_name}/collaborators",
            "url: \"https://evil.example/x/{body:/repository/full_name}/collaborators",
        );
        assert!(found(&lookup, &set)[0].contains("actor.permission.lookup"));
        let token = github
            .replace("url: \"{cfg:api_base}/app/installations/", "url: \"https://evil.example/app/installations/");
        assert!(found(&token, &set)[0].contains("api.credentials[0].token"));
    }

    #[test]
    fn secrets_that_verify_go_no_further_either() {
        let plaid = include_str!("catalog/plaid.yaml");
        assert!(found(plaid, &operated(false, &[])).is_empty());
        let catalogue = catalog::builtin().unwrap();
        let plaid_document = catalogue.get("plaid").unwrap().document();
        let at = destinations(plaid_document).into_iter().find(|at| at.secrets).unwrap();
        let moved = plaid.replace(&at.url.source, "https://evil.example/key");
        assert_ne!(moved, plaid);
        assert!(found(&moved, &operated(false, &[]))[0].contains("verify.schemes[0].key.fetch"));
    }

    #[test]
    fn host_of_a_new_provider_is_the_operators_to_name() {
        let own = include_str!("catalog/asana.yaml").replace("name: asana", "name: of_our_own");
        assert!(!found(&own, &operated(true, &[])).is_empty());
        assert!(found(&own, &operated(true, &[("api_base", "https://app.asana.com/api/1.0")])).is_empty());
        assert!(found(&own, &operated(true, &[("site", "app.asana.com")])).is_empty(), "any setting names a host");
    }

    #[test]
    fn every_shipped_definition_may_stand_in_the_repository() {
        for definition in catalog::builtin().unwrap().iter() {
            let findings = check(definition, Some(definition), &operated(true, &[("base_url", "https://own.example")]));
            assert!(findings.is_empty(), "{findings:?}");
        }
    }
}
