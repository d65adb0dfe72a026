//! Tokens that are got rather than held: which way is in force, what it lacks, and the calls that get them.
//!
//! Nothing is called or signed here. What a delivery says never stands in these calls: they are made of the definition
//! and of the operator's settings alone.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::call::prepare;
use super::definition::Definition;
use super::pointer::Pointer;
use super::prepared::PreparedCall;
use super::schema::SlotUse;
use super::schema::calls::Call;
use super::schema::credentials::Credential;
use super::selector::Selector;
use super::settings::Settings;
use super::template::Expression;
use super::view::View;
use crate::model::secret::SecretSet;

/// A way to a token for which everything is set.
#[derive(Clone, Debug)]
pub struct PreparedCredential {
    /// Its name among the primitives.
    pub kind: &'static str,
    /// The slot that the token fills.
    pub fills: String,
    /// What has to be signed and found first.
    pub app: Option<PreparedApp>,
    pub token: PreparedCall,
    take: Pointer,
    expires: Option<Pointer>,
}

/// An app that proves who it is with a key.
#[derive(Clone, Debug)]
pub struct PreparedApp {
    /// The slot of its private key.
    pub private_key: String,
    pub issuer: String,
    pub installation: Option<String>,
    pub locate: Option<PreparedLocate>,
}

/// Lists the installations of an app.
#[derive(Clone, Debug)]
pub struct PreparedLocate {
    pub call: PreparedCall,
    id: Pointer,
}

/// What calls to a provider are made with, as far as the operator has set it.
#[derive(Clone, Debug)]
pub enum InForce {
    /// It is got when it is needed.
    Got(Box<PreparedCredential>),
    /// It stands in this slot; the operator renews it.
    Held(String),
    Nothing,
}

impl InForce {
    /// In words; never a value.
    pub fn describe(&self) -> String {
        match self {
            InForce::Got(credential) => match &credential.app {
                Some(app) => format!("`{}`, as the app `{}`", credential.kind, app.issuer),
                None => format!("`{}`", credential.kind),
            },
            InForce::Held(slot) => format!("the secret `{slot}`"),
            InForce::Nothing => "none is set".to_owned(),
        }
    }
}

/// A way to a token that the operator began to set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub kind: &'static str,
    pub fills: String,
    /// Keys of the provider's table that are missing.
    pub lacks: Vec<String>,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` lacks `{}`", self.kind, self.lacks.join("`, `"))
    }
}

impl Definition {
    /// The first way to get a token for this slot that is set up completely.
    pub fn credential(&self, slot: &str, settings: &Settings, held: &SecretSet) -> Option<PreparedCredential> {
        let ways = self.document().api.credentials.iter().filter(|way| way.fills() == slot);
        ways.into_iter().find_map(|way| self.prepared(way, settings, held))
    }

    /// What calls are made with.
    pub fn in_force(&self, settings: &Settings, held: &SecretSet) -> InForce {
        let ways = self.document().api.credentials.iter();
        if let Some(got) = ways.into_iter().find_map(|way| self.prepared(way, settings, held)) {
            return InForce::Got(Box::new(got));
        }
        let own = |slot: &str| self.document().api.credentials.iter().any(|way| secret_slots(way).contains(&slot));
        let mut replies = self.slots().filter(|(slot, usage)| *usage == SlotUse::Reply && !own(slot));
        let found = replies.find(|(slot, _)| held.first(slot).is_some());
        found.map_or(InForce::Nothing, |(slot, _)| InForce::Held(slot.to_owned()))
    }

    /// Ways that have some of what they need, but not all.
    pub fn unfinished(&self, settings: &Settings, held: &SecretSet) -> Vec<Unfinished> {
        let ways = self.document().api.credentials.iter().filter_map(|way| {
            let (lacks, has) = needs(way, settings, held);
            let begun = has && !lacks.is_empty();
            begun.then(|| Unfinished { kind: way.kind(), fills: way.fills().to_owned(), lacks })
        });
        ways.collect()
    }

    fn prepared(&self, way: &Credential, settings: &Settings, held: &SecretSet) -> Option<PreparedCredential> {
        if !needs(way, settings, held).0.is_empty() {
            return None;
        }
        let api = &self.document().api;
        let view = View { settings: Some(settings), api_base: api.base.as_ref(), ..View::default() };
        let call = |call: &Call| prepare(call, api, &view);
        let (kind, fills) = (way.kind(), way.fills().to_owned());
        match way {
            Credential::GithubAppInstallation {
                private_key,
                issuer,
                installation,
                locate,
                token,
                take,
                expires,
                ..
            } => {
                let locate = match locate {
                    Some(locate) => Some(PreparedLocate { call: call(&locate.call)?, id: locate.id.clone() }),
                    None => None,
                };
                let app = PreparedApp {
                    private_key: private_key.clone(),
                    issuer: issuer.text(&view)?,
                    installation: installation.text(&view).filter(|id| !id.is_empty()),
                    locate,
                };
                let (take, expires) = (take.clone(), expires.clone());
                Some(PreparedCredential { kind, fills, app: Some(app), token: call(token)?, take, expires })
            }
            Credential::OauthClientCredentials { token, take, expires, .. } => {
                let (take, expires) = (take.clone(), expires.clone());
                Some(PreparedCredential { kind, fills, app: None, token: call(token)?, take, expires })
            }
        }
    }
}

impl PreparedCredential {
    /// The token in an answer, and when it ends, where that is told.
    pub fn read(&self, answer: &Value, now: Timestamp) -> Option<(String, Option<Timestamp>)> {
        let token = self.take.find(answer)?.as_str().filter(|token| !token.trim().is_empty())?;
        let ends = self.expires.as_ref().and_then(|pointer| pointer.find(answer)).and_then(|told| match told {
            Value::String(text) => text.parse::<Timestamp>().ok().or_else(|| later(now, text.trim().parse().ok()?)),
            Value::Number(seconds) => later(now, seconds.as_i64()?),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        });
        Some((token.to_owned(), ends))
    }
}

fn later(now: Timestamp, seconds: i64) -> Option<Timestamp> {
    now.checked_add(SignedDuration::from_secs(seconds)).ok()
}

impl PreparedLocate {
    /// The only installation; `Err` says how many there are.
    pub fn only(&self, answer: &Value) -> Result<String, usize> {
        let items = answer.as_array().map(Vec::as_slice).unwrap_or_default();
        let [one] = items else { return Err(items.len()) };
        match self.id.find(one) {
            Some(Value::String(id)) => Ok(id.clone()),
            Some(Value::Number(id)) => Ok(id.to_string()),
            _ => Err(0),
        }
    }
}

/// Every key of the provider's table that a way needs.
pub(super) fn needed_keys(way: &Credential) -> Vec<String> {
    needs(way, &Settings::default(), &SecretSet::new()).0
}

/// The keys of the provider's table that are missing, and whether any of its own is there.
fn needs(way: &Credential, settings: &Settings, held: &SecretSet) -> (Vec<String>, bool) {
    let mut lacks = Vec::new();
    let mut has = false;
    for name in setting_names(way) {
        match settings.get(name) {
            Some(_) => has = true,
            None => lacks.push(name.to_owned()),
        }
    }
    for slot in secret_slots(way) {
        match held.first(slot) {
            Some(_) => has = true,
            None => lacks.push(format!("{slot}_env")),
        }
    }
    (lacks, has)
}

/// Settings without which it cannot be filled. The base of the API is not one of them: it has a default, or every call
/// lacks it.
fn setting_names(way: &Credential) -> Vec<&str> {
    let mut holes: Vec<&Expression> = way.calls().into_iter().flat_map(|(_, call)| call.expressions()).collect();
    if let Credential::GithubAppInstallation { issuer, installation, .. } = way {
        holes.extend(issuer.holes().chain(installation.holes()));
    }
    let needed = holes.into_iter().filter(|hole| !hole.has_default());
    let mut names: Vec<&str> = needed
        .filter_map(|hole| match &hole.selector {
            Selector::Config(name) if name != "api_base" => Some(name.as_str()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The slots of what the operator keeps for it.
pub(super) fn secret_slots(way: &Credential) -> Vec<&str> {
    let calls = way.calls();
    let holes = calls.into_iter().flat_map(|(_, call)| call.expressions());
    let mut slots: Vec<&str> = holes.flat_map(Expression::secret_slots).collect();
    if let Credential::GithubAppInstallation { private_key, .. } = way {
        slots.push(private_key);
    }
    slots.sort_unstable();
    slots.dedup();
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::catalog;
    use serde_json::json;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().copied().collect()
    }

    #[test]
    fn app_is_in_force_when_all_of_it_is_set_and_goes_before_a_token_that_is_held() {
        let catalogue = catalog::builtin().unwrap();
        let github = catalogue.get("github").unwrap();
        let held = SecretSet::new().with("api_token", "ghp_x");
        assert_eq!(github.in_force(&Settings::default(), &held).describe(), "the secret `api_token`");
        assert_eq!(github.in_force(&Settings::default(), &SecretSet::new()).describe(), "none is set");

        let with_key = held.with("app_private_key", "pem");
        assert_eq!(github.in_force(&Settings::default(), &with_key).describe(), "the secret `api_token`");
        let unfinished = github.unfinished(&Settings::default(), &with_key).remove(0);
        assert_eq!((unfinished.kind, unfinished.lacks), ("github_app_installation", vec!["app_id".to_owned()]));

        let complete = settings(&[("app_id", "12")]);
        let found = github.in_force(&complete, &with_key).describe();
        assert_eq!(found, "`github_app_installation`, as the app `12`");
        assert!(github.unfinished(&complete, &with_key).is_empty());
        let app = github.credential("api_token", &complete, &with_key).unwrap().app.unwrap();
        assert_eq!((app.installation, app.locate.is_some()), (None, true));
    }

    #[test]
    fn end_of_a_token_is_a_time_or_a_span() {
        let catalogue = catalog::builtin().unwrap();
        let secrets = SecretSet::new().with("app_private_key", "pem").with("client_secret", "s");
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let github = catalogue.get("github").unwrap();
        let app = github.credential("api_token", &settings(&[("app_id", "1")]), &secrets).unwrap();
        let (token, ends) = app.read(&json!({"token": "ghs_1", "expires_at": "2023-11-14T23:13:20Z"}), now).unwrap();
        assert_eq!((token.as_str(), ends.unwrap().as_second()), ("ghs_1", 1_700_003_600));
        assert!(app.read(&json!({"token": ""}), now).is_none());
        let zoom = catalogue.get("zoom").unwrap();
        let set = settings(&[("client_id", "c"), ("account_id", "a")]);
        let client = zoom.credential("api_token", &set, &secrets).unwrap();
        let filled = client.token.fill(&Default::default(), &secrets).unwrap();
        assert_eq!(filled.headers[0], ("Authorization".to_owned(), "Basic Yzpz".to_owned()));
        let (_, ends) = client.read(&json!({"access_token": "t", "expires_in": 3600}), now).unwrap();
        assert_eq!(ends.unwrap().as_second(), 1_700_003_600);
    }

    #[test]
    fn only_installation_is_found_and_several_are_not_chosen_from() {
        let catalogue = catalog::builtin().unwrap();
        let secrets = SecretSet::new().with("app_private_key", "pem");
        let github = catalogue.get("github").unwrap();
        let app = github.credential("api_token", &settings(&[("app_id", "1")]), &secrets).unwrap().app.unwrap();
        let locate = app.locate.unwrap();
        assert_eq!(locate.only(&json!([{"id": 7}])), Ok("7".to_owned()));
        assert_eq!(locate.only(&json!([{"id": 7}, {"id": 8}])), Err(2));
        assert_eq!(locate.only(&json!({"message": "x"})), Err(0));
    }
}
