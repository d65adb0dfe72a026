//! The style of the code base, where a program can check it. Every finding is `path:line: why`.

#![expect(clippy::unwrap_used, reason = "a check that cannot read the code fails")]

#[path = "tidy/pages.rs"]
mod pages;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn nothing(found: Vec<String>) {
    assert!(found.is_empty(), "{} findings\n{}\n", found.len(), found.join("\n"));
}

#[test]
fn rooms_know_only_those_below_them() {
    let mut found = Vec::new();
    rooms::check(&source::all(root(), &["src"]), &mut found);
    nothing(found);
}

#[test]
fn every_dependency_is_used() {
    let mut found = Vec::new();
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    rooms::dependencies(&manifest, &source::all(root(), &["src"]), &mut found);
    nothing(found);
}

#[test]
fn files_are_short_documented_and_well_named() {
    let mut found = Vec::new();
    words::check(&source::all(root(), &["src", "tests", "benches"]), &mut found);
    nothing(found);
}

#[test]
fn every_code_has_its_page() {
    let mut found = Vec::new();
    pages::error_pages(root(), &mut found);
    nothing(found);
}

#[test]
fn every_documented_command_exists() {
    let mut found = Vec::new();
    pages::commands(root(), &mut found);
    nothing(found);
}

#[test]
fn every_tool_that_agents_are_told_of_exists() {
    let mut found = Vec::new();
    pages::tools(root(), &mut found);
    nothing(found);
}
