//! From a definition to the calls that put a branch up for review.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::call::{prepare, url};
use super::condition::{Condition, all_hold};
use super::definition::Definition;
use super::pointer::Pointer;
use super::prepared::{Piece, PreparedCall, join};
use super::schema::proposals::{MarkState, Proposals};
use super::settings::Settings;
use super::view::View;

/// The calls of one provider, filled in as far as the operator's settings go.
#[derive(Clone, Debug)]
pub struct PreparedProposals {
    pub find: PreparedCall,
    list: Pointer,
    pub open: PreparedCall,
    pub update: PreparedCall,
    pub text_chars_max: usize,
    number: Pointer,
    url: Pointer,
    opened: Vec<Condition>,
    merged: Vec<Condition>,
    page: Vec<Piece>,
    pub mark: Option<(PreparedCall, BTreeMap<MarkState, String>)>,
}

/// A pull or merge request as it is at the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Review {
    pub number: String,
    pub url: String,
    pub state: ReviewState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewState {
    Open,
    Merged,
    /// Without having been accepted.
    Closed,
}

impl Definition {
    /// Whether the repositories of this machine are this provider's.
    pub fn proposes_to(&self, host: &str, settings: &Settings) -> bool {
        let Some(proposals) = &self.document().proposals else { return false };
        let instance = |name: &str| {
            let address = settings.get(name).and_then(|address| url::Url::parse(address).ok());
            address.and_then(|address| address.host_str().map(|it| it.eq_ignore_ascii_case(host))) == Some(true)
        };
        proposals.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
            || instance("api_base")
            || instance("base_url")
    }

    /// `None` where the definition says nothing about proposals.
    pub fn proposals(&self, settings: &Settings) -> Option<PreparedProposals> {
        let document = self.document();
        let api_base = document.api.base.as_ref();
        let view = View { settings: Some(settings), api_base, ..View::default() };
        let Proposals { page, find, open, update, number, url: at, opened, merged, text_chars_max, mark, .. } =
            document.proposals.as_ref()?;
        let mark = match mark {
            Some(mark) => Some((prepare(&mark.call, &document.api, &view)?, mark.states.clone())),
            None => None,
        };
        Some(PreparedProposals {
            find: prepare(&find.call, &document.api, &view)?,
            list: find.list.clone(),
            open: prepare(open, &document.api, &view)?,
            update: prepare(update, &document.api, &view)?,
            text_chars_max: *text_chars_max,
            number: number.clone(),
            url: at.clone(),
            opened: opened.clone(),
            merged: merged.clone(),
            page: url(page, &view)?,
            mark,
        })
    }
}

impl PreparedProposals {
    /// The newest one that the answer to `find` lists.
    pub fn newest(&self, answer: &Value) -> Option<Review> {
        self.read(self.list.find(answer)?.as_array()?.first()?)
    }

    /// One of them, as the provider shows it.
    pub fn read(&self, item: &Value) -> Option<Review> {
        let text = |pointer: &Pointer| match pointer.find(item)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let view = View { answer: Some(item), ..View::default() };
        let state = if all_hold(&self.merged, &view) {
            ReviewState::Merged
        } else if all_hold(&self.opened, &view) {
            ReviewState::Open
        } else {
            ReviewState::Closed
        };
        Some(Review { number: text(&self.number)?, url: text(&self.url)?, state })
    }

    /// Where a person opens one.
    pub fn page(&self, context: &BTreeMap<String, String>) -> Option<String> {
        join(&self.page, &View { context: Some(context), ..View::default() }).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::provider::catalog;
    use crate::model::secret::SecretSet;

    fn definition(name: &str) -> std::sync::Arc<Definition> {
        std::sync::Arc::clone(catalog::builtin().unwrap().get(name).unwrap())
    }

    fn context() -> BTreeMap<String, String> {
        let text = "line\n\"quoted\"";
        let known = [
            ("host", "h.example"),
            ("repository", "group/sub/hooks"),
            ("owner", "group"),
            ("branch", "skillhook/proposal/a b"),
            ("base", "main"),
            ("title", "t"),
            ("text", text),
            ("number", "7"),
            ("commit", "abc"),
            ("state", "success"),
        ];
        known.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn branches_and_repositories_are_escaped_where_they_stand() {
        let secrets = SecretSet::new().with("api_token", "token");
        let url = |name: &str, call: fn(&PreparedProposals) -> &PreparedCall| {
            let calls = definition(name).proposals(&Settings::default()).unwrap();
            let filled = call(&calls).fill(&context(), &secrets).unwrap();
            (filled.url, filled.body.map(|body| serde_json::from_slice::<Value>(&body).unwrap()))
        };
        let (found, _) = url("gitlab", |calls| &calls.find);
        assert_eq!(
            found,
            "https://gitlab.com/api/v4/projects/group%2Fsub%2Fhooks/merge_requests?order_by=created_at&sort=desc&per_page=1\
             &source_branch=skillhook%2Fproposal%2Fa%20b&target_branch=main"
        );
        let (update, body) = url("gitlab", |calls| &calls.update);
        assert!(update.ends_with("/projects/group%2Fsub%2Fhooks/merge_requests/7"), "{update}");
        assert_eq!(body.unwrap()["description"], "line\n\"quoted\"");
        let (open, body) = url("github", |calls| &calls.open);
        assert_eq!(open, "https://api.github.com/repos/group/sub/hooks/pulls");
        assert_eq!(body.unwrap()["head"], "skillhook/proposal/a b");
        let calls = definition("github").proposals(&Settings::default()).unwrap();
        let page = calls.page(&context()).unwrap();
        assert_eq!(page, "https://h.example/group/sub/hooks/compare/main...skillhook/proposal/a%20b?expand=1");
        let (mark, states) = calls.mark.unwrap();
        assert_eq!(states[&MarkState::Failure], "failure");
        assert!(mark.fill(&context(), &secrets).unwrap().url.ends_with("/statuses/abc"));
    }

    #[test]
    fn what_became_of_a_request_is_read_in_each_providers_words() {
        let state = |name: &str, item: Value| {
            let calls = definition(name).proposals(&Settings::default()).unwrap();
            calls.newest(&json!([item])).map(|review| (review.number, review.state))
        };
        let pull =
            |state: &str, merged: Value| json!({"number": 3, "html_url": "u", "state": state, "merged_at": merged});
        assert_eq!(state("github", pull("open", Value::Null)), Some(("3".to_owned(), ReviewState::Open)));
        assert_eq!(state("github", pull("closed", Value::Null)), Some(("3".to_owned(), ReviewState::Closed)));
        assert_eq!(state("github", pull("closed", json!("2026"))), Some(("3".to_owned(), ReviewState::Merged)));
        let merge = |state: &str| json!({"iid": 4, "web_url": "u", "state": state});
        assert_eq!(state("gitlab", merge("opened")), Some(("4".to_owned(), ReviewState::Open)));
        assert_eq!(state("gitlab", merge("merged")), Some(("4".to_owned(), ReviewState::Merged)));
        assert_eq!(state("gitlab", merge("closed")), Some(("4".to_owned(), ReviewState::Closed)));
        let calls = definition("github").proposals(&Settings::default()).unwrap();
        assert_eq!(calls.newest(&json!([])), None);
    }

    #[test]
    fn a_machine_belongs_to_its_provider_and_an_instance_to_the_operators_setting() {
        let (github, gitlab) = (definition("github"), definition("gitlab"));
        assert!(github.proposes_to("github.com", &Settings::default()));
        assert!(!github.proposes_to("github.com.evil.example", &Settings::default()));
        assert!(!gitlab.proposes_to("git.example.com", &Settings::default()));
        let own: Settings = [("base_url", "https://git.example.com")].into_iter().collect();
        assert!(gitlab.proposes_to("git.example.com", &own));
    }
}
