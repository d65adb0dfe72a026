//! The real agent program for tests: where it is, and a network of its own in which it can reach nobody.
//!
//! `tests/run` puts the pinned version into `target/claude-cli`; `SKILLHOOK_TEST_CLAUDE` names another. Without it these
//! tests print a line and are passed over, except in continuous integration, where that is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Set for the copy of a test that runs in a network of its own.
const ISOLATED: &str = "SKILLHOOK_TEST_ISOLATED";

/// The program, for a test that goes on here; `None` when there is nothing left to do for it: it was run once more in
/// a network of its own and passed, or the program is not installed.
///
/// `test` is the whole name of the calling test, for example `real_agent::payload_is_not_expanded`.
pub fn alone(test: &str) -> Option<PathBuf> {
    let Some(program) = program() else {
        assert!(std::env::var("CI").is_err(), "the agent program is not installed: tests/run does it");
        println!("passed over: {test}: run tests/run, or let SKILLHOOK_TEST_CLAUDE name an agent program");
        return None;
    };
    if std::env::var_os(ISOLATED).is_some() {
        return Some(program);
    }
    let Some(flags) = namespace() else {
        println!("{test}: without a network of its own, none can be made here");
        return Some(program);
    };
    let myself = std::env::current_exe().unwrap();
    let script = "ip link set lo up && exec \"$@\"";
    let output = Command::new("unshare")
        .args(flags)
        .args(["--", "sh", "-c", script, "sh"])
        .arg(myself)
        .args(["--exact", test, "--nocapture"])
        .env(ISOLATED, "1")
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{test} in a network of its own:\n{said}");
    None
}

/// The flags of `unshare` that work here.
fn namespace() -> Option<&'static [&'static str]> {
    let works = |flags: &&[&str]| {
        let probe = Command::new("unshare").args(*flags).args(["--", "ip", "link", "set", "lo", "up"]).output();
        probe.is_ok_and(|output| output.status.success())
    };
    [["--net"].as_slice(), ["--map-root-user", "--net"].as_slice()].into_iter().find(works)
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("SKILLHOOK_TEST_CLAUDE").map(PathBuf::from);
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/claude-cli/claude");
    named.or(Some(installed)).filter(|program| program.is_file())
}
