//! Paths into a payload: dots between the steps, array indices as numbers; a step through an array takes every element.
//!
//! `label` and `assignee` are words of the gateway: they look where the providers keep those things, so that one
//! file means the same on every provider. A path that begins with `/` is a JSON pointer (RFC 6901) and means
//! exactly what it says.

use serde_json::Value;

/// Longest path in characters.
const PATH_CHARS_MAX: usize = 256;
/// How many steps a path may have.
const STEPS_MAX: usize = 16;
/// How many values of a payload one path looks at.
pub(super) const LOOKED_AT_MAX: usize = 10_000;

/// A path, taken apart.
#[derive(Clone, Debug)]
pub struct Path {
    known: Option<&'static Known>,
    steps: Vec<Box<str>>,
}

/// Something that every provider has, each in another place.
#[derive(Debug)]
struct Known {
    word: &'static str,
    /// The first of these that the payload has is taken.
    places: &'static [&'static [&'static str]],
    /// The fields under which such a thing keeps its name.
    names: &'static [&'static str],
}

static KNOWN: [Known; 2] = [
    Known {
        word: "label",
        places: &[
            &["label"],
            &["issue", "labels"],
            &["pull_request", "labels"],
            &["labels"],
            &["object_attributes", "labels"],
            &["issue", "fields", "labels"],
        ],
        names: &["name", "title"],
    },
    Known {
        word: "assignee",
        places: &[
            &["assignee"],
            &["issue", "assignees"],
            &["pull_request", "assignees"],
            &["assignees"],
            &["issue", "fields", "assignee"],
        ],
        names: &["login", "username", "name", "displayName", "display_name", "accountId", "emailAddress"],
    },
];

impl Path {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.chars().count() > PATH_CHARS_MAX {
            return Err(format!("the path is longer than {PATH_CHARS_MAX} characters"));
        }
        let (pointer, steps) = match text.strip_prefix('/') {
            Some(pointer) => {
                (true, pointer.split('/').map(|step| step.replace("~1", "/").replace("~0", "~").into()).collect())
            }
            None => (false, text.split('.').map(Box::from).collect::<Vec<Box<str>>>()),
        };
        if steps.len() > STEPS_MAX {
            return Err(format!("the path has more than {STEPS_MAX} steps"));
        }
        if steps.iter().any(|step| step.trim().is_empty()) {
            return Err(format!("the path `{text}` has an empty step"));
        }
        if !pointer && text.contains('[') {
            return Err(format!("the path `{text}` has brackets: an index is a step of its own, as in `commits.0.id`"));
        }
        let known = KNOWN.iter().find(|known| !pointer && known.word == &*steps[0]);
        Ok(Self { known, steps })
    }

    /// The values at this path, at most [`LOOKED_AT_MAX`]; arrays stand for their elements.
    pub(super) fn values<'p>(&self, payload: &'p Value) -> Vec<&'p Value> {
        let found = match self.known {
            Some(known) => known.values(payload, &self.steps[1..]),
            None => walk(vec![payload], &self.steps),
        };
        elements(found)
    }

    /// Whether there is anything but `null`; an empty array is something.
    pub(super) fn exists(&self, payload: &Value) -> bool {
        let found = match self.known {
            Some(known) => known.values(payload, &self.steps[1..]),
            None => walk(vec![payload], &self.steps),
        };
        found.iter().any(|value| !value.is_null())
    }
}

impl Known {
    fn values<'p>(&self, payload: &'p Value, rest: &[Box<str>]) -> Vec<&'p Value> {
        let place = self.places.iter().map(|steps| walk(vec![payload], steps));
        let Some(found) = place.into_iter().find(|found| found.iter().any(|value| !value.is_null())) else {
            return Vec::new();
        };
        let things = elements(found);
        match rest {
            [] => things.into_iter().flat_map(|thing| self.all_names(thing)).collect(),
            [name] if self.names.contains(&&**name) => {
                things.into_iter().filter_map(|thing| self.name(thing, name)).collect()
            }
            _ => walk(things, rest),
        }
    }

    /// A thing that is only a text is its own name.
    fn name<'p>(&self, thing: &'p Value, wanted: &str) -> Option<&'p Value> {
        if thing.is_string() {
            return Some(thing);
        }
        std::iter::once(wanted)
            .chain(self.names.iter().copied())
            .find_map(|name| thing.get(name).filter(|v| !v.is_null()))
    }

    fn all_names<'p>(&self, thing: &'p Value) -> Vec<&'p Value> {
        match thing {
            Value::Object(_) => self.names.iter().filter_map(|name| thing.get(name)).collect(),
            _ => vec![thing],
        }
    }
}

fn walk<'p, S: AsRef<str>>(from: Vec<&'p Value>, steps: &[S]) -> Vec<&'p Value> {
    let mut here = from;
    for step in steps {
        let step = step.as_ref();
        let mut next = Vec::new();
        for value in here {
            match value {
                Value::Object(fields) => next.extend(fields.get(step)),
                Value::Array(items) => match step.parse::<usize>() {
                    Ok(index) => next.extend(items.get(index)),
                    Err(_) => next.extend(items.iter().take(LOOKED_AT_MAX).filter_map(|item| item.get(step))),
                },
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
            if next.len() >= LOOKED_AT_MAX {
                next.truncate(LOOKED_AT_MAX);
                break;
            }
        }
        here = next;
    }
    here
}

/// Arrays opened, one level.
fn elements(values: Vec<&Value>) -> Vec<&Value> {
    let mut out = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Array(items) => out.extend(items.iter().take(LOOKED_AT_MAX - out.len())),
            _ if out.len() < LOOKED_AT_MAX => out.push(value),
            _ => break,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, payload: Value, expect: Value) {
        let found: Vec<Value> = Path::parse(path).unwrap().values(&payload).into_iter().cloned().collect();
        assert_eq!(Value::from(found), expect, "{path}");
    }

    #[test]
    fn steps_go_through_maps_indices_and_arrays() {
        check("a.b", json!({"a": {"b": 1}}), json!([1]));
        check("a.1.b", json!({"a": [{"b": 1}, {"b": 2}]}), json!([2]));
        check("a.b", json!({"a": [{"b": 1}, {}, {"b": 2}]}), json!([1, 2]));
        check("a", json!({"a": ["x", "y"]}), json!(["x", "y"]));
        check("a.b.c", json!({"a": "text"}), json!([]));
        check("/a.b/c~1d", json!({"a.b": {"c/d": 1}}), json!([1]));
        check("7", json!({"7": "seven"}), json!(["seven"]));
    }

    #[test]
    fn labels_are_found_where_each_provider_keeps_them() {
        check("label.name", json!({"label": {"name": "bug"}, "issue": {"labels": [{"name": "old"}]}}), json!(["bug"]));
        check("label.name", json!({"issue": {"labels": [{"name": "a"}, {"name": "b"}]}}), json!(["a", "b"]));
        check("label.name", json!({"pull_request": {"labels": [{"name": "a"}]}}), json!(["a"]));
        check("label.name", json!({"labels": [{"title": "a"}]}), json!(["a"]));
        check("label.name", json!({"object_attributes": {"labels": [{"title": "a"}]}}), json!(["a"]));
        check("label.name", json!({"issue": {"fields": {"labels": ["a", "b"]}}}), json!(["a", "b"]));
        check("label", json!({"issue": {"labels": [{"name": "a", "color": "red"}]}}), json!(["a"]));
        check("label.color", json!({"issue": {"labels": [{"name": "a", "color": "red"}]}}), json!(["red"]));
        check("/label/name", json!({"issue": {"labels": [{"name": "a"}]}}), json!([]));
    }

    #[test]
    fn assignees_are_known_by_any_of_their_names() {
        check("assignee", json!({"assignee": {"login": "ai-agent", "id": 7}}), json!(["ai-agent"]));
        check("assignee", json!({"assignee": null, "issue": {"assignees": [{"login": "x"}]}}), json!(["x"]));
        check(
            "assignee",
            json!({"issue": {"fields": {"assignee": {"displayName": "AI", "accountId": "1:2"}}}}),
            json!(["AI", "1:2"]),
        );
        check("assignee.login", json!({"assignees": [{"username": "x"}]}), json!(["x"]));
    }

    #[test]
    fn odd_paths_are_refused() {
        for odd in ["", ".", "a.", "a..b", "a[0]", &"x".repeat(257), &["a"; 17].join(".")] {
            Path::parse(odd).unwrap_err();
        }
    }

    #[test]
    fn a_huge_array_is_looked_at_in_part() {
        let payload = json!({ "a": vec![json!({"b": 1}); 20_000] });
        assert_eq!(Path::parse("a.b").unwrap().values(&payload).len(), LOOKED_AT_MAX);
    }
}
