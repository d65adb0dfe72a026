//! JSON Pointer (RFC 6901), with `-1` for the last element of an array.

use serde_json::Value;

/// Longest pointer in steps.
const STEPS_MAX: usize = 32;

/// A parsed pointer. The empty one points at the whole value.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// `""` or `/a/b`; `~1` stands for a slash, `~0` for a tilde.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("`{text}` is no JSON pointer: it must begin with `/`"));
        };
        let steps: Vec<String> = rest.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        if steps.len() > STEPS_MAX {
            return Err(format!("the JSON pointer has more than {STEPS_MAX} steps"));
        }
        Ok(Self(steps))
    }

    pub fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.0.iter().try_fold(value, |at, step| match at {
            Value::Object(fields) => fields.get(step.as_str()),
            Value::Array(items) if step == "-1" => items.last(),
            Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }

    /// Puts a value in place, making the objects on the way. What is in the way and no container is replaced.
    pub fn put(&self, root: &mut Value, new: Value) {
        let mut at = root;
        for step in &self.0 {
            let index = step.parse::<usize>().ok();
            let in_array = matches!((&*at, index), (Value::Array(items), Some(index)) if index < items.len());
            if !in_array && !at.is_object() {
                *at = Value::Object(serde_json::Map::new());
            }
            at = match at {
                Value::Array(items) => &mut items[index.unwrap_or_default()],
                other => &mut other[step.as_str()],
            };
        }
        *at = new;
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> String {
        pointer.to_string()
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|step| f.write_str(&join("", step)))
    }
}

/// The pointer that names `step` below the pointer text `parent`.
pub fn join(parent: &str, step: &str) -> String {
    format!("{parent}/{}", step.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn points_at_members_elements_and_the_last_one() {
        let value = json!({"a": {"b/c": [1, 2, 3]}, "": 0});
        let at = |text: &str| Pointer::parse(text).unwrap().find(&value).cloned();
        assert_eq!(at("/a/b~1c/1"), Some(json!(2)));
        assert_eq!(at("/a/b~1c/-1"), Some(json!(3)));
        assert_eq!(at("/a/b~1c/3"), None);
        assert_eq!(at("/"), Some(json!(0)));
        assert_eq!(at(""), Some(value.clone()));
        assert!(Pointer::parse("a").is_err());
    }

    #[test]
    fn put_makes_the_way() {
        let mut value = json!({"a": [{"b": 1}]});
        Pointer::parse("/a/0/b").unwrap().put(&mut value, json!(2));
        Pointer::parse("/c/d").unwrap().put(&mut value, json!(3));
        assert_eq!(value, json!({"a": [{"b": 2}], "c": {"d": 3}}));
    }
}
