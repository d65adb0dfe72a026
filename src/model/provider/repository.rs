//! From a delivery to the git repository that it is about.
//!
//! The machine is the catalogue's or the operator's choice; a delivery says the path below it and what is looked at
//! there, each checked to be nothing but that. Credentials stand in none of it.

use url::Url;

use super::address::escape;
use super::condition::all_hold;
use super::definition::Definition;
use super::extract::Delivered;
use super::prepared::Place;
use super::schema::repository::Repositories;
use super::settings::Settings;
use super::template::first_text;
use super::view::View;
use crate::model::task::Checkout;

/// Longest name of a reference or branch in bytes.
const NAME_BYTES_MAX: usize = 200;

/// The user and the slot of the secret with which a provider's repositories are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitCredential {
    pub user: String,
    pub slot: String,
}

/// The repository of a delivery; `None` where the provider has none, or the delivery names none.
pub fn checkout(delivered: &Delivered<'_>) -> Option<Checkout> {
    let rule = delivered.definition.document().repository.as_ref()?;
    let view = delivered.view();
    let repository = first_text(&rule.name, &view)?;
    let base = base(rule, delivered.definition, delivered.settings)?;
    let path = escape(&repository, Place::Path)?;
    let fitting = rule.references.iter().filter(|reference| all_hold(&reference.when, &view));
    let reference = fitting.into_iter().find_map(|reference| reference.name.text(&view));
    let reference = reference.filter(|name| name.starts_with("refs/") && is_reference(name));
    Some(Checkout {
        provider: delivered.definition.name().clone(),
        url: format!("{base}/{path}.git"),
        repository,
        reference,
        base: first_text(&rule.branch, &view).filter(|name| is_reference(name)),
    })
}

/// Where git reaches the provider: the operator's `git_base`, the machine of the operator's instance, or the
/// definition's.
fn base(rule: &Repositories, definition: &Definition, settings: &Settings) -> Option<String> {
    if let Some(base) = settings.get("git_base") {
        return Some(base.trim_end_matches('/').to_owned());
    }
    let usual = definition.document().api.base.as_ref();
    let usual = usual.and_then(|base| base.text(&View { settings: Some(&Settings::default()), ..View::default() }));
    let own = ["api_base", "base_url"].into_iter().find_map(|name| settings.get(name));
    match own.filter(|own| usual.as_deref().is_none_or(|usual| !usual.starts_with(own))) {
        Some(own) => {
            let origin = Url::parse(own).ok()?.origin();
            origin.is_tuple().then(|| origin.ascii_serialization())
        }
        None => Some(rule.base.clone()),
    }
}

/// Whether this can be the name of a branch or reference, and nothing else (<https://git-scm.com/docs/git-check-ref-format>).
pub fn is_reference(name: &str) -> bool {
    let step = |step: &str| {
        !step.is_empty()
            && !step.starts_with('.')
            && !step.to_ascii_lowercase().ends_with(".lock")
            && !step.ends_with('.')
    };
    let odd = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\@{}\"'`$&|;<>()!".contains(c);
    name.len() <= NAME_BYTES_MAX
        && !name.starts_with(['-', '+'])
        && !name.contains("..")
        && !name.contains(odd)
        && name.split('/').all(step)
}

impl Definition {
    /// With what git reaches this provider's repositories.
    pub fn git_credential(&self) -> Option<GitCredential> {
        let rule = self.document().repository.as_ref()?;
        Some(GitCredential { user: rule.user.clone(), slot: rule.secret.clone() })
    }

    /// Whether deliveries of this provider can be about a git repository.
    pub fn has_repositories(&self) -> bool {
        self.document().repository.is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::provider::{Incoming, catalog, decode};

    fn found(provider: &str, headers: &[(&str, &str)], body: &Value, settings: &[(&str, &str)]) -> Option<Checkout> {
        let definition = std::sync::Arc::clone(catalog::builtin().unwrap().get(provider).unwrap());
        let headers = headers.iter().copied().chain([("Content-Type", "application/json")]);
        let incoming =
            Incoming::new("POST", "https://hooks.example/", headers.collect(), body.to_string().into_bytes());
        let payload = decode(&definition, &incoming).unwrap();
        let settings = settings.iter().copied().collect();
        let delivered = Delivered {
            definition: &definition,
            incoming: &incoming,
            payload: &payload,
            item: None,
            settings: &settings,
        };
        checkout(&delivered)
    }

    fn github(body: &Value, settings: &[(&str, &str)]) -> Option<Checkout> {
        found("github", &[("X-GitHub-Event", "issue_comment")], body, settings)
    }

    fn body() -> Value {
        json!({
            "repository": { "full_name": "acme/api", "default_branch": "main", "clone_url": "https://evil.example/x.git" },
            "issue": { "number": 7 },
        })
    }

    #[test]
    fn delivery_names_a_path_and_never_a_machine() {
        let checkout = github(&body(), &[]).unwrap();
        assert_eq!((checkout.url.as_str(), checkout.reference), ("https://github.com/acme/api.git", None));
        assert_eq!(checkout.base.as_deref(), Some("main"));
        for name in ["../x", "a//b", "", "/etc", "a/./b"] {
            let body = json!({ "repository": { "full_name": name } });
            assert!(github(&body, &[]).is_none(), "{name}");
        }
        let body = json!({ "repository": { "full_name": "a@evil.example/b?c#d" } });
        let url = Url::parse(&github(&body, &[]).unwrap().url).unwrap();
        assert_eq!((url.host_str(), url.query(), url.fragment()), (Some("github.com"), None, None));
    }

    #[test]
    fn pull_request_is_looked_at_where_its_head_is() {
        let mut commented = body();
        commented["issue"]["pull_request"] = json!({ "url": "https://api.github.com/repos/acme/api/pulls/7" });
        assert_eq!(github(&commented, &[]).unwrap().reference.as_deref(), Some("refs/pull/7/head"));
        let body = json!({
            "object_kind": "note", "project": { "path_with_namespace": "group/sub/api", "default_branch": "trunk" },
            "merge_request": { "iid": 3 },
        });
        let checkout = found("gitlab", &[], &body, &[]).unwrap();
        assert_eq!(checkout.url, "https://gitlab.com/group/sub/api.git");
        assert_eq!(checkout.reference.as_deref(), Some("refs/merge-requests/3/head"));
        assert_eq!(checkout.base.as_deref(), Some("trunk"));
    }

    #[test]
    fn instance_of_the_operators_keeps_its_repositories_itself() {
        let url = |settings: &[(&str, &str)]| github(&body(), settings).unwrap().url;
        assert_eq!(url(&[("api_base", "https://ghe.example/api/v3")]), "https://ghe.example/acme/api.git");
        assert_eq!(url(&[("api_base", "https://api.github.com")]), "https://github.com/acme/api.git");
        let both = [("api_base", "http://127.0.0.1:1"), ("git_base", "http://127.0.0.1:2/git/")];
        assert_eq!(url(&both), "http://127.0.0.1:2/git/acme/api.git");
    }

    #[test]
    fn names_of_references_cannot_be_anything_else() {
        for good in ["refs/pull/7/head", "main", "feature/a-b_c.d", "release-1.2", "größe"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["", "-x", "a..b", "a b", "a:b", "a/", "/a", ".a", "a.lock", "a@{1}", "a^", "a\n", "a/.git", "*"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
