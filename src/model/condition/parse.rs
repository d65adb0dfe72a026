//! From the words of a file to a condition, with every fault named by its path.

use serde_json::{Map, Value};

use super::compiled::pattern;
use super::{Condition, DEPTH_MAX, NODES_MAX, PATTERN_CHARS_MAX, Path, TEXT_CHARS_MAX, Test, VALUES_MAX};
use crate::model::diagnostic::did_you_mean;
use crate::model::frontmatter::{KeyPath, Step};

const OPERATORS: [&str; 9] = ["eq", "in", "not", "matches", "exists", "gt", "lt", "prefix", "suffix"];

/// What is wrong, and where in the condition, counted from its top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub path: KeyPath,
    pub message: String,
    pub hint: Option<String>,
}

impl Condition {
    /// Of a map whose keys are paths, `all`, `any` or `not` (several mean all), or of a list of such maps.
    pub fn parse(value: &Value) -> Result<Self, Vec<Fault>> {
        let mut parser = Parser::default();
        let condition = parser.condition(value, 0);
        if parser.nodes > NODES_MAX {
            let message = format!("there are {} comparisons and groups, more than {NODES_MAX}", parser.nodes);
            return Err(vec![Fault { path: KeyPath::root(), message, hint: None }]);
        }
        match condition {
            Some(condition) if parser.faults.is_empty() => Ok(condition),
            _ => Err(parser.faults),
        }
    }
}

#[derive(Default)]
struct Parser {
    at: Vec<Step>,
    nodes: usize,
    faults: Vec<Fault>,
}

impl Parser {
    fn condition(&mut self, value: &Value, depth: usize) -> Option<Condition> {
        self.nodes += 1;
        if depth >= DEPTH_MAX {
            return self.fault(format!("conditions nest deeper than {DEPTH_MAX} levels"));
        }
        match value {
            Value::Array(items) => self.list(items, depth).map(all),
            Value::Object(fields) if fields.is_empty() => self.fault("the condition is empty"),
            Value::Object(fields) => self.each(fields, |parser, key, value| parser.field(key, value, depth)),
            other => self.fault(format!("a condition is a map from paths to values, not {}", kind(other))),
        }
    }

    fn field(&mut self, key: &str, value: &Value, depth: usize) -> Option<Condition> {
        match key {
            "all" | "any" => match value {
                Value::Array(items) if key == "all" => self.list(items, depth).map(Condition::All),
                Value::Array(items) => self.list(items, depth).map(Condition::Any),
                other => self.fault(format!("`{key}` takes a list of conditions, not {}", kind(other))),
            },
            "not" => self.condition(value, depth + 1).map(|inner| Condition::Not(Box::new(inner))),
            path => self.comparison(path, value),
        }
    }

    fn list(&mut self, items: &[Value], depth: usize) -> Option<Vec<Condition>> {
        if items.is_empty() {
            return self.fault("the list of conditions is empty");
        }
        let mut out = Vec::with_capacity(items.len().min(NODES_MAX));
        for (index, item) in items.iter().enumerate() {
            out.push(self.below(Step::Index(index), |parser| parser.condition(item, depth + 1)));
        }
        out.into_iter().collect()
    }

    fn comparison(&mut self, path: &str, value: &Value) -> Option<Condition> {
        if let Err(message) = Path::parse(path) {
            return self.fault(message);
        }
        match value {
            Value::Object(operators) if operators.is_empty() => self.fault("there is no operator"),
            Value::Object(operators) => self.each(operators, |parser, operator, operand| {
                let test = parser.test(operator, operand)?;
                Some(Condition::Test { path: path.to_owned(), test })
            }),
            Value::Array(_) => self.fault_with("a list is no value to compare with", "one of several: `{in: [a, b]}`"),
            scalar => {
                self.nodes += 1;
                Some(Condition::Test { path: path.to_owned(), test: Test::Eq(self.scalar(scalar)?) })
            }
        }
    }

    fn test(&mut self, operator: &str, operand: &Value) -> Option<Test> {
        self.nodes += 1;
        match operator {
            "eq" => self.scalar(operand).map(Test::Eq),
            "in" => self.scalars(operand).map(Test::In),
            "not" if operand.is_array() => self.scalars(operand).map(|values| Test::Not(values.into())),
            "not" => self.scalar(operand).map(Test::Not),
            "matches" => self.pattern(operand).map(Test::Matches),
            "exists" => match operand {
                Value::Bool(wanted) => Some(Test::Exists(*wanted)),
                other => self.fault(format!("`exists` takes `true` or `false`, not {}", kind(other))),
            },
            "gt" | "lt" => match operand {
                Value::Number(limit) if operator == "gt" => Some(Test::Gt(limit.clone())),
                Value::Number(limit) => Some(Test::Lt(limit.clone())),
                other => self.fault(format!("`{operator}` takes a number, not {}", kind(other))),
            },
            "prefix" => self.text(operator, operand).map(Test::Prefix),
            "suffix" => self.text(operator, operand).map(Test::Suffix),
            unknown => {
                let hint = match did_you_mean(unknown, OPERATORS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the operators are `{}`", OPERATORS.join("`, `")),
                };
                self.fault_with(format!("there is no operator `{unknown}`"), hint)
            }
        }
    }

    fn scalar(&mut self, value: &Value) -> Option<Value> {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.clone()),
            Value::String(text) if text.chars().count() <= TEXT_CHARS_MAX => Some(value.clone()),
            Value::String(_) => self.fault(format!("the text is longer than {TEXT_CHARS_MAX} characters")),
            Value::Array(_) | Value::Object(_) => {
                self.fault(format!("a text, a number, `true`, `false` or `null` is needed, not {}", kind(value)))
            }
        }
    }

    fn scalars(&mut self, value: &Value) -> Option<Vec<Value>> {
        match value {
            Value::Array(items) if items.is_empty() => self.fault("the list of values is empty"),
            Value::Array(items) if items.len() > VALUES_MAX => {
                self.fault(format!("the list has {} values, more than {VALUES_MAX}", items.len()))
            }
            Value::Array(items) => items.iter().map(|item| self.scalar(item)).collect(),
            other => self.fault(format!("a list of values is needed, not {}", kind(other))),
        }
    }

    fn text(&mut self, operator: &str, value: &Value) -> Option<String> {
        match self.scalar(value)? {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => self.fault(format!("`{operator}` takes a text that is not empty")),
        }
    }

    fn pattern(&mut self, value: &Value) -> Option<String> {
        let source = self.text("matches", value)?;
        if source.chars().count() > PATTERN_CHARS_MAX {
            return self.fault(format!("the regular expression is longer than {PATTERN_CHARS_MAX} characters"));
        }
        match pattern(&source) {
            Ok(_) => Some(source),
            Err(message) => self.fault_with(message, "the syntax is that of https://docs.rs/regex"),
        }
    }

    /// Several keys mean that all must hold.
    fn each(
        &mut self,
        fields: &Map<String, Value>,
        mut parse: impl FnMut(&mut Self, &str, &Value) -> Option<Condition>,
    ) -> Option<Condition> {
        let mut out = Vec::with_capacity(fields.len().min(NODES_MAX));
        for (key, value) in fields {
            out.push(self.below(Step::Key(key.clone()), |parser| parse(parser, key, value)));
        }
        out.into_iter().collect::<Option<Vec<_>>>().map(all)
    }

    fn below<T>(&mut self, step: Step, parse: impl FnOnce(&mut Self) -> T) -> T {
        self.at.push(step);
        let out = parse(self);
        self.at.pop();
        out
    }

    fn fault<T>(&mut self, message: impl Into<String>) -> Option<T> {
        let path = self.place();
        self.faults.push(Fault { path, message: message.into(), hint: None });
        None
    }

    fn fault_with<T>(&mut self, message: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        let path = self.place();
        self.faults.push(Fault { path, message: message.into(), hint: Some(hint.into()) });
        None
    }

    fn place(&self) -> KeyPath {
        self.at.iter().fold(KeyPath::root(), |path, step| match step {
            Step::Key(key) => path.key(key),
            Step::Index(index) => path.index(*index),
        })
    }
}

fn all(mut conditions: Vec<Condition>) -> Condition {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => Condition::All(conditions),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "`true` or `false`",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn test(path: &str, test: Test) -> Condition {
        Condition::Test { path: path.to_owned(), test }
    }

    #[test]
    fn several_keys_and_several_operators_mean_all() {
        let parsed = Condition::parse(&json!({"a.b": "x", "n": {"gt": 1, "lt": 5}})).unwrap();
        let between = vec![test("n", Test::Gt(1.into())), test("n", Test::Lt(5.into()))];
        assert_eq!(parsed, Condition::All(vec![test("a.b", Test::Eq(json!("x"))), Condition::All(between)]));
    }

    #[test]
    fn groups_nest() {
        let parsed = Condition::parse(&json!({"any": [{"a": 1}, {"not": {"b": {"exists": true}}}]})).unwrap();
        let not = Condition::Not(Box::new(test("b", Test::Exists(true))));
        assert_eq!(parsed, Condition::Any(vec![test("a", Test::Eq(json!(1))), not]));
        let listed = Condition::parse(&json!([{"a": 1}])).unwrap();
        assert_eq!(listed, test("a", Test::Eq(json!(1))));
    }

    #[test]
    fn faults_name_their_path() {
        for (written, path, message) in [
            (json!("bug"), "", "a condition is a map from paths to values, not a text"),
            (json!({}), "", "the condition is empty"),
            (json!({"a": ["x"]}), "a", "a list is no value to compare with"),
            (json!({"a": {"inn": ["x"]}}), "a.inn", "there is no operator `inn`"),
            (json!({"a": {"in": "x"}}), "a.in", "a list of values is needed, not a text"),
            (json!({"a": {"in": []}}), "a.in", "the list of values is empty"),
            (json!({"a": {"exists": "yes"}}), "a.exists", "`exists` takes `true` or `false`, not a text"),
            (json!({"a": {"gt": "5"}}), "a.gt", "`gt` takes a number, not a text"),
            (json!({"a": {"prefix": ""}}), "a.prefix", "`prefix` takes a text that is not empty"),
            (json!({"any": {"a": 1}}), "any", "`any` takes a list of conditions, not a map"),
            (json!({"all": [{"a": 1}, 7]}), "all[1]", "a condition is a map from paths to values, not a number"),
            (json!({"a": {"matches": "("}}), "a.matches", "the regular expression is not valid: unclosed group"),
            (json!({"a..b": 1}), "a..b", "the path `a..b` has an empty step"),
            (
                json!({"a": {"eq": {"b": 1}}}),
                "a.eq",
                "a text, a number, `true`, `false` or `null` is needed, not a map",
            ),
        ] {
            let faults = Condition::parse(&written).unwrap_err();
            assert_eq!((faults[0].message.as_str(), faults[0].path.to_string().as_str()), (message, path));
        }
        assert_eq!(
            Condition::parse(&json!({"a": {"inn": [1]}})).unwrap_err()[0].hint.as_deref(),
            Some("did you mean `in`?")
        );
        assert_eq!(Condition::parse(&json!({"a": {"gt": "x", "lt": "y"}, "b": []})).unwrap_err().len(), 3);
    }

    #[test]
    fn size_has_limits() {
        let mut deep = json!({"a": 1});
        for _ in 0..DEPTH_MAX {
            deep = json!({ "not": deep });
        }
        assert!(Condition::parse(&deep).unwrap_err()[0].message.contains("deeper than"));
        let wide = json!({ "any": vec![json!({"a": 1}); NODES_MAX] });
        assert!(Condition::parse(&wide).unwrap_err()[0].message.contains("more than 64"));
        for pattern in ["a".repeat(513), r"\w{100}{100}".to_owned()] {
            Condition::parse(&json!({"a": {"matches": pattern}})).unwrap_err();
        }
    }
}
