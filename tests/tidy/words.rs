//! Names, lengths and comments of files.

use super::source::{Source, item_end};

/// Longest file of `src/`, in lines.
const FILE_LINES_MAX: usize = 500;
/// Longest file of tests, in lines.
const TEST_LINES_MAX: usize = 800;
/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;
/// Functions that may be longer.
const LONG: &[(&str, &str)] = &[
    // Wiring reads from top to bottom; cut in pieces it would only be harder to follow.
    ("src/app/mod.rs", "start"),
];

/// Words that say nothing about what a thing is.
const EMPTY_WORDS: &[&str] = &["manager", "helper", "helpers", "util", "utils", "processor"];

/// Words that promise something for later.
const PROMISES: &[&str] = &["FIXME", "HACK"];

/// What breaks a rule, as `path:line: why`.
pub fn check(sources: &[Source], found: &mut Vec<String>) {
    for source in sources {
        documented(source, found);
        lengths(source, found);
        names(source, found);
        promises(source, found);
    }
}

fn documented(source: &Source, found: &mut Vec<String>) {
    let inner_test = source.is_test() && source.path.starts_with("src/");
    if !inner_test && !source.text.starts_with("//! ") {
        found.push(format!("{}:1: the file does not begin with a `//!` that says what it is for", source.path));
    }
}

fn lengths(source: &Source, found: &mut Vec<String>) {
    let lines = source.text.lines().count();
    let lines_max = if source.is_test() { TEST_LINES_MAX } else { FILE_LINES_MAX };
    if lines > lines_max {
        found.push(format!("{}:{lines}: {lines} lines are more than {lines_max}: split the file", source.path));
    }
    let code: Vec<&str> = source.code.lines().collect();
    for (n, line) in code.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let length = item_end(&code, n) - n + 1;
        let name = line.split("fn ").nth(1).unwrap_or_default().split(['(', '<']).next().unwrap_or_default();
        if length > FUNCTION_LINES_MAX && !LONG.contains(&(source.path.as_str(), name)) {
            found.push(format!(
                "{}:{}: `{name}` has {length} lines, more than {FUNCTION_LINES_MAX}: it does not fit a screen",
                source.path,
                n + 1
            ));
        }
    }
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let qualifier = |word: &&str| matches!(*word, "async" | "const" | "unsafe" | "extern") || word.starts_with("pub");
    words.find(|word| !qualifier(word)) == Some("fn")
}

fn names(source: &Source, found: &mut Vec<String>) {
    let file = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if let Some(word) = file.split(['_', '-']).find(|word| EMPTY_WORDS.contains(word)) {
        found.push(format!("{}:1: `{word}` in a file name does not say what is in it", source.path));
    }
    for (n, line) in source.code.lines().enumerate() {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
        if !matches!(words.next(), Some("struct" | "enum" | "trait" | "type" | "mod")) {
            continue;
        }
        let name = words.next().unwrap_or_default();
        if let Some(word) = parts(name).into_iter().find(|word| EMPTY_WORDS.contains(&word.as_str())) {
            found.push(format!("{}:{}: `{word}` in `{name}` does not say what it is", source.path, n + 1));
        }
    }
}

fn promises(source: &Source, found: &mut Vec<String>) {
    if source.path == "tests/tidy/words.rs" {
        return;
    }
    for (n, line) in source.text.lines().enumerate() {
        let words = line.split(|c: char| !c.is_alphanumeric());
        if let Some(word) = words.into_iter().find(|word| PROMISES.contains(word)) {
            found.push(format!("{}:{}: `{word}`: do it, or do without", source.path, n + 1));
        }
    }
}

/// `EventHelper` and `event_helper` are `event`, `helper`.
fn parts(name: &str) -> Vec<String> {
    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && parts.last().is_some_and(|part| !part.is_empty())) {
            parts.push(String::new());
        }
        if c != '_' {
            parts.last_mut().unwrap().extend(c.to_lowercase());
        }
    }
    parts
}

#[test]
fn names_are_taken_apart_and_functions_are_recognised() {
    assert_eq!(parts("EventHelper<T>"), ["event", "helper"]);
    assert_eq!(parts("lease_loop"), ["lease", "loop"]);
    assert!(begins_function("    pub(super) async fn x(") && !begins_function("    let f: fn(u8) = g;"));
}
