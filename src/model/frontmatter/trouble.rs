//! Turns the YAML parser's errors into diagnostics that a person can act on.

use super::refused::{ANCHOR, MERGE_KEY, TAG};
use crate::error::Code;
use crate::model::diagnostic::{Diagnostic, did_you_mean};

/// A diagnostic without path and position. `typed` tells whether fields were read (`SH0105`) or syntax (`SH0102`).
pub(super) fn explain(error: &serde_yaml::Error, typed: bool) -> Diagnostic {
    let text = without_marks(&error.to_string());
    let (field, message) = split_field(&text);
    let code = if typed { Code::ConfigField } else { Code::FrontmatterYaml };
    let (message, hint) = reword(field, message);
    let diagnostic = Diagnostic::error("", code, message);
    match hint {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}

fn reword(field: Option<&str>, message: &str) -> (String, Option<String>) {
    let place = field.map(|field| format!(" in `{field}`")).unwrap_or_default();
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let (written, known) = quoted(rest);
        return (format!("unknown field `{written}`{place}"), suggestion(written, &known, "the fields here are"));
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let (written, known) = quoted(rest);
        let message = field.map_or_else(String::new, |field| format!("`{field}`: "));
        return (format!("{message}`{written}` is no value for it"), suggestion(written, &known, "the values are"));
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return (format!("{name} is missing{place}"), None);
    }
    let prefix = field.map(|field| format!("`{field}`: ")).unwrap_or_default();
    (format!("{prefix}{}", plain_types(message)), hint_for(message).map(str::to_owned))
}

/// The words in backticks: the first is what was written, the others are what was expected.
fn quoted(text: &str) -> (&str, Vec<&str>) {
    let mut words = text.split('`').skip(1).step_by(2);
    (words.next().unwrap_or_default(), words.collect())
}

fn suggestion(written: &str, known: &[&str], introduction: &str) -> Option<String> {
    match did_you_mean(written, known.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if known.is_empty() => None,
        None => Some(format!(
            "{introduction}: {}",
            known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// `invalid type: map, expected u32` in words of YAML instead of words of Rust.
fn plain_types(message: &str) -> String {
    let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message.to_owned();
    };
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative and not too large",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "sequence" | "a sequence" => "a list",
        "map" | "a map" => "a mapping",
        "string" | "str" => "a string",
        struct_name if struct_name.starts_with("struct ") => "a mapping",
        other => other,
    };
    let found = match found {
        "map" => "a mapping",
        "sequence" => "a list",
        "unit value" | "null" => "nothing",
        other => other,
    };
    format!("expected {expected}, found {found}")
}

fn hint_for(message: &str) -> Option<&'static str> {
    [
        (ANCHOR, "write the values out"),
        (MERGE_KEY, "write the fields out"),
        (TAG, "write the value without `!…`; put it in quotes if it is text"),
        ("stands here twice", "keep one of them"),
        ("mapping values are not allowed", "put a value that holds `: ` in quotes, or write it as a block (`|`)"),
        (
            "cannot start any token",
            "indent with spaces, and put a value that begins with `@`, `%` or a backtick in quotes",
        ),
        ("did not find expected", "check the indentation, and that quotes and brackets are closed"),
        ("could not find expected ':'", "a key needs `: ` after it"),
        ("while scanning a quoted scalar", "close the quotes"),
    ]
    .into_iter()
    .find_map(|(part, hint)| message.contains(part).then_some(hint))
}

/// Drops every ` at line 3 column 7`: those count from the frontmatter, and the diagnostic has its own position.
fn without_marks(text: &str) -> String {
    let mut parts = text.split(" at line ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match after.strip_prefix(" column ") {
            Some(after) => out.push_str(after.trim_start_matches(|c: char| c.is_ascii_digit())),
            None => {
                out.push_str(" at line ");
                out.push_str(part);
            }
        }
    }
    out
}

/// The parser writes `path.to[1].field: message`.
fn split_field(text: &str) -> (Option<&str>, &str) {
    match text.split_once(": ") {
        Some((field, message)) if !field.contains([' ', '`', '"']) && !field.is_empty() => (Some(field), message),
        _ => (None, text),
    }
}
