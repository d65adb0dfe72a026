//! Conditions of a definition: when a rule applies.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::Value;

use super::digests::same_secret;
use super::selector::Selector;
use super::view::View;

/// Bytes that the compiled form of a regular expression may take.
const REGEX_BYTES_MAX: usize = 64 * 1024;

/// One condition: a place and what must be true of it, or several conditions of which one must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
pub enum Condition {
    Any(Vec<Condition>),
    Test { selector: Selector, tests: Vec<Test> },
}

/// What must be true of a value. Null is as good as absent.
#[derive(Clone, Debug)]
pub enum Test {
    Exists(bool),
    Equal(Value),
    /// True of an absent value.
    NotEqual(Value),
    OneOf(Vec<Value>),
    Prefix(String),
    Suffix(String),
    Matches(Regex),
    Kind(Kind),
    EqualsConfig(String),
    EqualsSelector(Selector),
    EqualsSecret(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    String,
    Number,
    Object,
    Array,
    Boolean,
    Null,
}

/// The written form.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Written {
    any: Option<Vec<Condition>>,
    sel: Option<Selector>,
    exists: Option<bool>,
    eq: Option<Value>,
    ne: Option<Value>,
    r#in: Option<Vec<Value>>,
    prefix: Option<String>,
    suffix: Option<String>,
    matches: Option<String>,
    r#type: Option<Kind>,
    eq_cfg: Option<String>,
    eq_sel: Option<Selector>,
    eq_secret: Option<String>,
}

impl TryFrom<Written> for Condition {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let matches = written.matches.as_deref().map(compile).transpose()?;
        let tests: Vec<Test> = [
            written.exists.map(Test::Exists),
            written.eq.map(Test::Equal),
            written.ne.map(Test::NotEqual),
            written.r#in.map(Test::OneOf),
            written.prefix.map(Test::Prefix),
            written.suffix.map(Test::Suffix),
            matches.map(Test::Matches),
            written.r#type.map(Test::Kind),
            written.eq_cfg.map(Test::EqualsConfig),
            written.eq_sel.map(Test::EqualsSelector),
            written.eq_secret.map(Test::EqualsSecret),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (written.any, written.sel) {
            (Some(any), None) if tests.is_empty() && !any.is_empty() => Ok(Condition::Any(any)),
            (None, Some(selector)) if !tests.is_empty() => Ok(Condition::Test { selector, tests }),
            (None, Some(_)) => Err("a condition with `sel` needs a test, for example `exists` or `eq`".to_owned()),
            _ => Err("a condition has either `sel` with a test, or `any` with conditions".to_owned()),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX * 4).build();
    built.map_err(|_| format!("`{pattern}` is no usable regular expression"))
}

impl Condition {
    pub fn holds(&self, view: &View<'_>) -> bool {
        match self {
            Condition::Any(conditions) => conditions.iter().any(|condition| condition.holds(view)),
            Condition::Test { selector, tests } => tests.iter().all(|test| test.holds(selector, view)),
        }
    }

    /// Every selector in it.
    pub fn selectors(&self) -> Vec<&Selector> {
        match self {
            Condition::Any(conditions) => conditions.iter().flat_map(Condition::selectors).collect(),
            Condition::Test { selector, tests } => {
                let others = tests.iter().filter_map(|test| match test {
                    Test::EqualsSelector(other) => Some(other),
                    _ => None,
                });
                std::iter::once(selector).chain(others).collect()
            }
        }
    }

    /// The slots of secrets that it compares with.
    pub fn secret_slots(&self) -> Vec<&str> {
        match self {
            Condition::Any(conditions) => conditions.iter().flat_map(Condition::secret_slots).collect(),
            Condition::Test { tests, .. } => tests
                .iter()
                .filter_map(|test| match test {
                    Test::EqualsSecret(slot) => Some(slot.as_str()),
                    _ => None,
                })
                .collect(),
        }
    }
}

impl Test {
    fn holds(&self, selector: &Selector, view: &View<'_>) -> bool {
        let found = view.find(selector);
        let text =
            |check: &dyn Fn(&str) -> bool| found.clone().and_then(|it| it.into_text()).is_some_and(|t| check(&t));
        match self {
            Test::Exists(wanted) => found.and_then(|it| it.into_json()).is_some_and(|it| !it.is_null()) == *wanted,
            Test::Equal(literal) => found.is_some_and(|it| it.equals(literal)),
            Test::NotEqual(literal) => !found.is_some_and(|it| it.equals(literal)),
            Test::OneOf(literals) => found.is_some_and(|it| literals.iter().any(|literal| it.equals(literal))),
            Test::Prefix(prefix) => text(&|it| it.starts_with(prefix.as_str())),
            Test::Suffix(suffix) => text(&|it| it.ends_with(suffix.as_str())),
            Test::Matches(pattern) => text(&|it| pattern.is_match(it)),
            Test::Kind(kind) => found.and_then(|it| it.into_json()).is_some_and(|it| Kind::of(&it) == *kind),
            Test::EqualsConfig(name) => {
                let wanted = view.settings.and_then(|settings| settings.get(name));
                wanted.is_some_and(|wanted| text(&|it| it == wanted))
            }
            Test::EqualsSelector(other) => {
                let other = view.find(other).filter(|it| !it.is_blank()).and_then(|it| it.into_json());
                other.is_some() && found.and_then(|it| it.into_json()) == other
            }
            Test::EqualsSecret(slot) => {
                let given = found.and_then(|it| it.into_bytes()).unwrap_or_default();
                let secrets = view.secrets.map(|secrets| secrets.get(slot)).unwrap_or_default();
                // No short cut: every value of the slot is compared.
                secrets.iter().fold(false, |same, secret| same | same_secret(&given, secret.expose()))
            }
        }
    }
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::String(_) => Kind::String,
            Value::Number(_) => Kind::Number,
            Value::Object(_) => Kind::Object,
            Value::Array(_) => Kind::Array,
            Value::Bool(_) => Kind::Boolean,
            Value::Null => Kind::Null,
        }
    }
}

/// Whether all of them hold; true of none.
pub fn all_hold(conditions: &[Condition], view: &View<'_>) -> bool {
    conditions.iter().all(|condition| condition.holds(view))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::settings::Settings;
    use crate::model::secret::SecretSet;
    use serde_json::json;

    fn holds(condition: Value) -> bool {
        let body = json!({"s": "abc", "n": 1, "z": null, "b": true, "same": "abc", "o": {}});
        let settings: Settings = [("login", "abc"), ("number", "1")].into_iter().collect();
        let secrets = SecretSet::new().with("token", "old").with("token", "abc");
        let view = View { body: Some(&body), settings: Some(&settings), secrets: Some(&secrets), ..View::default() };
        serde_json::from_value::<Condition>(condition).unwrap().holds(&view)
    }

    #[test]
    fn tests_hold_of_the_right_values_only() {
        for yes in [
            json!({"sel": "body:/s", "eq": "abc"}),
            json!({"sel": "body:/n", "eq": 1}),
            json!({"sel": "body:/b", "eq": true}),
            json!({"sel": "body:/none", "ne": "abc"}),
            json!({"sel": "body:/z", "exists": false}),
            json!({"sel": "body:/s", "prefix": "ab", "suffix": "bc", "matches": "^a.c$"}),
            json!({"sel": "body:/o", "type": "object"}),
            json!({"sel": "body:/s", "eq_cfg": "login"}),
            json!({"sel": "body:/n", "eq_cfg": "number"}),
            json!({"sel": "body:/s", "eq_sel": "body:/same"}),
            json!({"sel": "body:/s", "eq_secret": "token"}),
            json!({"any": [{"sel": "body:/s", "eq": "x"}, {"sel": "body:/n", "in": [1, 2]}]}),
        ] {
            assert!(holds(yes.clone()), "{yes}");
        }
        for no in [
            json!({"sel": "body:/n", "eq": "1"}),
            json!({"sel": "body:/z", "exists": true}),
            json!({"sel": "body:/s", "eq_cfg": "unset"}),
            json!({"sel": "body:/none", "eq_sel": "body:/neither"}),
            json!({"sel": "body:/z", "eq_sel": "body:/z"}),
            json!({"sel": "body:/none", "eq_secret": "token"}),
            json!({"sel": "body:/s", "eq_secret": "unset"}),
        ] {
            assert!(!holds(no.clone()), "{no}");
        }
    }

    #[test]
    fn conditions_without_a_test_are_refused() {
        for bad in [json!({"sel": "body:/s"}), json!({"any": []}), json!({"sel": "raw", "eqq": 1}), json!({})] {
            assert!(serde_json::from_value::<Condition>(bad).is_err());
        }
    }
}
