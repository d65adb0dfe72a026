//! The demonstration: it tells the whole way, and the README shows what it tells.

use std::path::Path;
use std::process::{Command, Stdio};

const BEGIN: &str = "<!-- demo:begin -->";
const END: &str = "<!-- demo:end -->";

/// `demo --once` where no real agent program can be meant.
fn transcript() -> String {
    let home = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_skillhook"));
    demo.args(["demo", "--once"]).current_dir(home.path()).env_clear().stdin(Stdio::null());
    demo.env("PATH", std::env::var("PATH").unwrap()).env("HOME", home.path());
    let output = demo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What is told without what differs from run to run: digits and ids are `#`. Of the prompt and the answer only the
/// first line is compared, so that whoever edits a shipped prompt need not run the demonstration.
fn steps(transcript: &str) -> Vec<String> {
    let mut steps = Vec::new();
    let mut quoting = false;
    for line in transcript.lines().filter(|line| !line.trim().is_empty()) {
        let quoted = line.starts_with("             ");
        if !(quoted && quoting) {
            steps.push(line.split_whitespace().map(without_figures).collect::<Vec<_>>().join(" "));
        }
        quoting = quoted;
    }
    steps
}

fn without_figures(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_alphanumeric());
    let is_id = core.len() >= 12 && core.chars().any(|c| c.is_ascii_digit());
    let is_path = word.starts_with('/');
    let mut shown = if is_id || is_path { "#".to_owned() } else { word.replace(|c: char| c.is_ascii_digit(), "#") };
    while shown.contains("##") {
        shown = shown.replace("##", "#");
    }
    shown
}

#[test]
fn the_demonstration_ends_well_and_the_readme_shows_it() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let (_, after) = readme.split_once(BEGIN).unwrap();
    let (shown, _) = after.split_once(END).unwrap();
    let (_, block) = shown.split_once("```text\n").unwrap();
    let (shown, _) = block.split_once("```").unwrap();
    let told = transcript();
    for step in ["was answered with 202", "the rendered prompt:", "Answer in three sentences.", "Done: delivery"] {
        assert!(told.contains(step), "`{step}` is missing in\n{told}");
    }
    assert_eq!(steps(shown), steps(&told), "put this into README.md:\n{told}");
}
