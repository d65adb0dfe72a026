//! One object for people: its fields one below the other, nested ones indented, whatever fields there are.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::output::harmless_lines;
use super::sheet;

/// Deeper than this, values are shown as JSON.
const DEPTH_MAX: usize = 8;
/// Longest list that stands on one line, in characters.
const LINE_CHARS_MAX: usize = 100;

/// The value as text; empty fields are left out.
pub fn shown(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, 0, &mut out);
    out
}

fn write_value(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(fields) if depth < DEPTH_MAX => write_fields(fields, depth, out),
        Value::Array(items) if depth < DEPTH_MAX => write_items(items, depth, out),
        _ => write_text(&sheet::text(value), depth, out),
    }
}

fn write_fields(fields: &Map<String, Value>, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let shown: Vec<_> = fields.iter().filter(|(_, value)| !is_empty(value)).collect();
    let on_lines = shown.iter().filter_map(|(key, value)| on_one_line(value).map(|_| heading(key).chars().count()));
    let width = on_lines.max().unwrap_or(0) + 1;
    for (key, value) in shown {
        let heading = format!("{}:", heading(key));
        match on_one_line(value) {
            Some(text) => {
                let _ = writeln!(out, "{indent}{heading:<width$}  {}", harmless_lines(&text));
            }
            None => {
                let _ = writeln!(out, "{indent}{heading}");
                write_value(value, depth + 1, out);
            }
        }
    }
}

fn write_items(items: &[Value], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for item in items {
        let mut block = String::new();
        write_value(item, depth + 1, &mut block);
        let hanging = block.get(indent.len() + 2..).unwrap_or_default();
        let _ = write!(out, "{indent}- {hanging}");
    }
}

fn write_text(text: &str, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for line in harmless_lines(text).lines() {
        let _ = writeln!(out, "{}", format!("{indent}{line}").trim_end());
    }
}

/// The text of a value that needs no block of its own.
fn on_one_line(value: &Value) -> Option<String> {
    match value {
        Value::Object(_) => None,
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => None,
        Value::Array(items) => {
            let text = items.iter().map(sheet::text).collect::<Vec<_>>().join(", ");
            (text.chars().count() <= LINE_CHARS_MAX && !text.contains('\n')).then_some(text)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let text = instant(value).unwrap_or_else(|| sheet::text(value));
            (!text.contains('\n')).then_some(text)
        }
    }
}

/// Instants to the second: what is finer is for programs.
fn instant(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T'))?;
    let at: Timestamp = text.parse().ok()?;
    Some(at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `target_agent` reads as `Target agent`.
fn heading(key: &str) -> String {
    let mut letters = key.chars().map(|c| if c == '_' { ' ' } else { c });
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    harmless_lines(&first.into_iter().chain(letters).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_stand_one_below_the_other_and_empty_ones_are_left_out() {
        let value = json!({
            "id": "github",
            "target_agent": "brain",
            "description": "",
            "skills": ["a", "b"],
            "created_at": "2026-01-02T03:04:05.678901Z",
            "allow": {"actors": []},
            "commands": [
                {"name": "review", "template": "one\ntwo\n"},
                {"name": "plan", "aliases": []},
            ],
        });
        let expected = "\
Id:            github
Target agent:  brain
Skills:        a, b
Created at:    2026-01-02 03:04:05Z
Commands:
  - Name:  review
    Template:
      one
      two
  - Name:  plan
";
        assert_eq!(shown(&value), expected);
    }

    #[test]
    fn deep_values_end_in_json() {
        let mut value = json!("x");
        for _ in 0..50 {
            value = json!({"a": value, "b": 1});
        }
        assert!(shown(&value).lines().count() < 3 * DEPTH_MAX);
    }
}
