//! Conditions ready to be evaluated, and the sentences that say how it came out.
//!
//! Every sentence states a fact about the payload ("`label.name` is `feature`, not `bug`"), so that it reads right
//! whichever way the condition needed it, also inside a `not`.

use regex::{Regex, RegexBuilder};
use serde_json::{Number, Value};

use super::{Condition, Path, Test};

/// How large a regular expression may be once it is compiled, in bytes.
const PATTERN_BYTES_MAX: usize = 512 * 1024;
/// How many bytes of a text a regular expression looks at.
const HAYSTACK_BYTES_MAX: usize = 64 * 1024;
/// How many characters of a value a sentence shows.
const SHOWN_CHARS_MAX: usize = 40;
/// How many values a sentence shows.
const SHOWN_VALUES_MAX: usize = 3;

/// A condition with its paths taken apart and its regular expressions compiled.
#[derive(Clone, Debug)]
pub struct Compiled {
    node: Node,
}

/// How a condition came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub holds: bool,
    /// A fact about the payload, for example "`action` is `closed`, not `opened`".
    pub why: String,
}

#[derive(Clone, Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Test { written: Box<str>, path: Path, test: Test, pattern: Option<Regex> },
}

impl Compiled {
    /// Fails only where [`Condition::parse`] would have refused.
    pub fn new(condition: &Condition) -> Result<Self, String> {
        compile(condition).map(|node| Self { node })
    }

    pub fn evaluate(&self, payload: &Value) -> Verdict {
        evaluate(&self.node, payload)
    }
}

/// Linear-time, with a limit on its size.
pub(super) fn pattern(source: &str) -> Result<Regex, String> {
    RegexBuilder::new(source)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .nest_limit(32)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                format!("the regular expression needs more than {PATTERN_BYTES_MAX} bytes when compiled")
            }
            error => {
                let text = error.to_string();
                let last = text.lines().next_back().unwrap_or_default();
                format!("the regular expression is not valid: {}", last.trim_start_matches("error: "))
            }
        })
}

/// The depth is that of the parsed condition, which has a limit.
fn compile(condition: &Condition) -> Result<Node, String> {
    Ok(match condition {
        Condition::All(inner) => Node::All(inner.iter().map(compile).collect::<Result<_, _>>()?),
        Condition::Any(inner) => Node::Any(inner.iter().map(compile).collect::<Result<_, _>>()?),
        Condition::Not(inner) => Node::Not(Box::new(compile(inner)?)),
        Condition::Test { path, test } => {
            let pattern = match test {
                Test::Matches(source) => Some(pattern(source)?),
                _ => None,
            };
            Node::Test { written: path.as_str().into(), path: Path::parse(path)?, test: test.clone(), pattern }
        }
    })
}

fn evaluate(node: &Node, payload: &Value) -> Verdict {
    match node {
        Node::All(nodes) => {
            let mut facts = Vec::with_capacity(nodes.len());
            for node in nodes {
                let verdict = evaluate(node, payload);
                if !verdict.holds {
                    return verdict;
                }
                facts.push(verdict.why);
            }
            Verdict { holds: true, why: facts.join(" and ") }
        }
        Node::Any(nodes) => {
            let mut facts = Vec::with_capacity(nodes.len());
            for node in nodes {
                let verdict = evaluate(node, payload);
                if verdict.holds {
                    return verdict;
                }
                facts.push(verdict.why);
            }
            Verdict { holds: false, why: facts.join(" and ") }
        }
        Node::Not(node) => {
            let verdict = evaluate(node, payload);
            Verdict { holds: !verdict.holds, why: verdict.why }
        }
        Node::Test { written, path, test, pattern } => compare(written, path, test, pattern.as_ref(), payload),
    }
}

fn compare(written: &str, path: &Path, test: &Test, pattern: Option<&Regex>, payload: &Value) -> Verdict {
    if let Test::Exists(wanted) = test {
        let there = path.exists(payload);
        let why = if there { format!("`{written}` exists") } else { format!("`{written}` is missing") };
        return Verdict { holds: there == *wanted, why };
    }
    let values = path.values(payload);
    let verdict = |holds: bool, yes: String, no: String| {
        let why = match (holds, values.is_empty()) {
            (true, _) => format!("`{written}` {yes}"),
            (false, true) => format!("`{written}` is missing"),
            (false, false) => format!("`{written}` is {}, {no}", seen(&values)),
        };
        Verdict { holds, why }
    };
    let texts = |fits: &dyn Fn(&str) -> bool| values.iter().any(|value| text(value).is_some_and(|text| fits(&text)));
    match test {
        Test::Eq(wanted) => {
            let holds = values.iter().any(|value| equal(value, wanted)) || (wanted.is_null() && values.is_empty());
            verdict(holds, format!("is {}", shown(wanted)), format!("not {}", shown(wanted)))
        }
        Test::In(wanted) => {
            let hit = wanted.iter().find(|wanted| values.iter().any(|value| equal(value, wanted)));
            let list = wanted.iter().map(shown).collect::<Vec<_>>().join(", ");
            let yes = hit.map(|hit| format!("is {}", shown(hit))).unwrap_or_default();
            verdict(hit.is_some(), yes, format!("which is none of {list}"))
        }
        Test::Not(unwanted) => {
            let unwanted = unwanted.as_array().map_or(std::slice::from_ref(unwanted), Vec::as_slice);
            let hit = unwanted.iter().find(|unwanted| values.iter().any(|value| equal(value, unwanted)));
            let list = unwanted.iter().map(shown).collect::<Vec<_>>().join(", ");
            match hit {
                Some(hit) => Verdict { holds: false, why: format!("`{written}` is {}", shown(hit)) },
                None => Verdict { holds: true, why: format!("`{written}` is not {list}") },
            }
        }
        Test::Matches(source) => {
            let holds = pattern.is_some_and(|pattern| texts(&|text| pattern.is_match(head(text))));
            verdict(holds, format!("matches `{source}`"), format!("which does not match `{source}`"))
        }
        Test::Gt(limit) => verdict(
            ordered(&values, limit, |value, limit| value > limit),
            format!("is greater than {limit}"),
            format!("which is not greater than {limit}"),
        ),
        Test::Lt(limit) => verdict(
            ordered(&values, limit, |value, limit| value < limit),
            format!("is less than {limit}"),
            format!("which is not less than {limit}"),
        ),
        Test::Prefix(prefix) => verdict(
            texts(&|text| text.starts_with(prefix.as_str())),
            format!("begins with `{prefix}`"),
            format!("which does not begin with `{prefix}`"),
        ),
        Test::Suffix(suffix) => verdict(
            texts(&|text| text.ends_with(suffix.as_str())),
            format!("ends with `{suffix}`"),
            format!("which does not end with `{suffix}`"),
        ),
        Test::Exists(_) => verdict(false, String::new(), String::new()),
    }
}

/// As JSON compares; beyond that numbers compare by value, and a text equals the number or truth value that it
/// spells, since forms carry only texts.
fn equal(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::String(text), scalar @ (Value::Number(_) | Value::Bool(_)))
        | (scalar @ (Value::Number(_) | Value::Bool(_)), Value::String(text)) => spells(text, scalar),
        _ => value == wanted,
    }
}

fn spells(text: &str, scalar: &Value) -> bool {
    let spelt = scalar.to_string();
    text == spelt
}

fn ordered(values: &[&Value], limit: &Number, fits: impl Fn(f64, f64) -> bool) -> bool {
    let Some(limit) = limit.as_f64() else { return false };
    values.iter().any(|value| {
        let number = match value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        number.is_some_and(|number| fits(number, limit))
    })
}

fn text(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(HAYSTACK_BYTES_MAX)]
}

fn seen(values: &[&Value]) -> String {
    let mut out = values.iter().take(SHOWN_VALUES_MAX).map(|value| shown(value)).collect::<Vec<_>>().join(", ");
    if values.len() > SHOWN_VALUES_MAX {
        out.push_str(&format!(" and {} more", values.len() - SHOWN_VALUES_MAX));
    }
    out
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::String(text) => format!("`{}`", clip(text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
    }
}

/// A text as a sentence can hold it: one line, no control characters, not long.
pub(in crate::model) fn clip(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(condition: Value, payload: Value, holds: bool, why: &str) {
        let compiled = Compiled::new(&Condition::parse(&condition).unwrap()).unwrap();
        let verdict = compiled.evaluate(&payload);
        assert_eq!((verdict.holds, verdict.why.as_str()), (holds, why), "{condition} on {payload}");
    }

    #[test]
    fn every_operator_says_what_it_saw() {
        check(json!({"a": "x"}), json!({"a": "x"}), true, "`a` is `x`");
        check(json!({"a": "x"}), json!({"a": "y"}), false, "`a` is `y`, not `x`");
        check(json!({"a": "x"}), json!({}), false, "`a` is missing");
        check(json!({"a": {"in": ["x", 2]}}), json!({"a": 2}), true, "`a` is `2`");
        check(json!({"a": {"in": ["x", 2]}}), json!({"a": 3}), false, "`a` is `3`, which is none of `x`, `2`");
        check(json!({"a": {"not": "x"}}), json!({"a": "y"}), true, "`a` is not `x`");
        check(json!({"a": {"not": "x"}}), json!({}), true, "`a` is not `x`");
        check(json!({"a": {"not": ["x", "y"]}}), json!({"a": "y"}), false, "`a` is `y`");
        check(json!({"a": {"matches": "^v\\d+$"}}), json!({"a": "v12"}), true, "`a` matches `^v\\d+$`");
        check(json!({"a": {"matches": "^v"}}), json!({"a": "w"}), false, "`a` is `w`, which does not match `^v`");
        check(json!({"a": {"exists": true}}), json!({"a": []}), true, "`a` exists");
        check(json!({"a": {"exists": true}}), json!({"a": null}), false, "`a` is missing");
        check(json!({"a": {"exists": false}}), json!({}), true, "`a` is missing");
        check(json!({"a": {"gt": 1.5}}), json!({"a": 2}), true, "`a` is greater than 1.5");
        check(json!({"a": {"gt": 2}}), json!({"a": 2}), false, "`a` is `2`, which is not greater than 2");
        check(json!({"a": {"lt": 2}}), json!({"a": "1"}), true, "`a` is less than 2");
        check(json!({"a": {"lt": 2}}), json!({"a": "x"}), false, "`a` is `x`, which is not less than 2");
        check(json!({"a": {"prefix": "re"}}), json!({"a": "refs"}), true, "`a` begins with `re`");
        check(json!({"a": {"suffix": "s"}}), json!({"a": "ref"}), false, "`a` is `ref`, which does not end with `s`");
    }

    #[test]
    fn one_element_is_enough_and_not_wants_none() {
        let labels = json!({"labels": [{"name": "a"}, {"name": "b"}]});
        check(json!({"labels.name": "b"}), labels.clone(), true, "`labels.name` is `b`");
        check(json!({"labels.name": "c"}), labels.clone(), false, "`labels.name` is `a`, `b`, not `c`");
        check(json!({"labels.name": {"not": "b"}}), labels, false, "`labels.name` is `b`");
        check(json!({"n": {"gt": 3}}), json!({"n": [1, 9]}), true, "`n` is greater than 3");
    }

    #[test]
    fn groups_report_the_fact_that_decided() {
        let condition = json!({"any": [{"a": 1}, {"b": 2}], "not": {"draft": true}});
        check(condition.clone(), json!({"b": 2}), true, "`b` is `2` and `draft` is missing");
        check(condition.clone(), json!({"a": 1, "draft": true}), false, "`draft` is `true`");
        check(condition, json!({"a": 3}), false, "`a` is `3`, not `1` and `b` is missing");
    }

    #[test]
    fn null_means_null_or_missing() {
        check(json!({"a": null}), json!({}), true, "`a` is `null`");
        check(json!({"a": null}), json!({"a": null}), true, "`a` is `null`");
        check(json!({"a": null}), json!({"a": 1}), false, "`a` is `1`, not `null`");
    }

    #[test]
    fn numbers_compare_by_value_and_forms_carry_texts() {
        check(json!({"a": 1}), json!({"a": 1.0}), true, "`a` is `1`");
        check(json!({"a": 7}), json!({"a": "7"}), true, "`a` is `7`");
        check(json!({"a": "7"}), json!({"a": 7}), true, "`a` is `7`");
        check(json!({"a": true}), json!({"a": "true"}), true, "`a` is `true`");
        check(json!({"a": true}), json!({"a": 1}), false, "`a` is `1`, not `true`");
    }

    #[test]
    fn what_is_shown_is_short_and_harmless() {
        let long = format!("a\nb{}", "x".repeat(100));
        let compiled = Compiled::new(&Condition::parse(&json!({"a": "y"})).unwrap()).unwrap();
        let why = compiled.evaluate(&json!({ "a": long })).why;
        assert!(why.starts_with("`a` is `a bxx") && why.contains('…') && why.len() < 80, "{why}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let word = || {
            proptest::sample::select(vec![
                "all", "any", "not", "in", "eq", "gt", "matches", "a", "a.b", "label", "0", "/a", "",
            ])
        };
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i8>().prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            word().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((word(), inner), 0..4)
                    .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_parses_compiles_is_stored_and_never_panics(written in any_json(), payload in any_json()) {
            let Ok(condition) = Condition::parse(&written) else { return Ok(()) };
            let stored = serde_json::to_string(&condition).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Condition>(&stored).unwrap(), &condition);
            let verdict = Compiled::new(&condition).unwrap().evaluate(&payload);
            let not = Compiled::new(&Condition::Not(Box::new(condition))).unwrap().evaluate(&payload);
            prop_assert!(verdict.holds != not.holds && verdict.why == not.why && !verdict.why.is_empty());
        }
    }
}
