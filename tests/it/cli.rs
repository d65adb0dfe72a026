//! The command line as people and scripts meet it: the real binary, with and without a running server.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::service::{Service, git};

/// Runs the program in a directory, with nothing of our environment but the PATH.
fn skillhook(directory: &Path, arguments: &[&str]) -> Output {
    command(directory, arguments).output().unwrap()
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skillhook"));
    command.args(arguments).current_dir(directory).env_clear().stdin(Stdio::null());
    command.env("PATH", std::env::var("PATH").unwrap()).env("HOME", directory);
    command
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn help_is_data_and_mistakes_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let help = skillhook(dir.path(), &["get", "--help"]);
    assert_eq!((code(&help), err(&help).as_str()), (0, ""));
    assert!(out(&help).contains("Examples:"));
    for (arguments, hint) in
        [(&["gett"][..], "get"), (&["get", "webhoks"], "webhooks"), (&["status", "--wiat"], "--wait")]
    {
        let refused = skillhook(dir.path(), arguments);
        assert_eq!((code(&refused), out(&refused).as_str()), (2, ""), "{arguments:?}");
        assert!(err(&refused).contains(hint), "{}", err(&refused));
    }
}

#[test]
fn without_a_server_live_commands_say_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["status"][..], &["get", "tasks"], &["explain", "dlv_1"], &["reconcile"], &["events"]] {
        let output = skillhook(dir.path(), arguments);
        assert_eq!((code(&output), out(&output).as_str()), (6, ""), "{arguments:?}");
        let said = err(&output);
        assert!(said.starts_with("error[SH0305]: no server answers at `") && said.contains("`skillhook up`"), "{said}");
    }
}

#[test]
fn colours_are_for_terminals_or_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let escapes = |arguments: &[&str]| out(&skillhook(dir.path(), arguments)).contains('\u{1b}');
    assert!(!escapes(&["error"]));
    assert!(escapes(&["error", "--color", "always"]));
    let quiet = command(dir.path(), &["error"]).env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").output().unwrap();
    assert!(!out(&quiet).contains('\u{1b}'));
}

#[test]
fn a_reader_that_is_gone_ends_a_command_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let output = command(dir.path(), &["completion", "bash"]).stdout(writer).output().unwrap();
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
}

#[test]
fn every_shell_gets_a_script_that_knows_the_commands() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&skillhook(dir.path(), &["completion", shell]));
        assert!(script.contains("webhooks") && script.contains("reconcile"), "{shell}");
    }
}

#[test]
fn what_init_lays_down_is_valid_and_laid_down_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = skillhook(dir.path(), &["init"]);
    assert_eq!(code(&first), 0, "{}", err(&first));
    assert!(out(&first).contains(".claude/skills/github-operations/SKILL.md"));
    assert!(dir.path().join(".git").is_dir());
    let again = skillhook(dir.path(), &["init", "-o", "json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert!(again.as_array().unwrap().iter().all(|file| file["done"] == "kept"), "{again}");
    let valid = skillhook(dir.path(), &["validate"]);
    assert_eq!(code(&valid), 0, "{}", err(&valid));
}

#[test]
fn a_mistake_in_a_file_is_shown_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = ".claude/skills/extra/SKILL.md";
    std::fs::create_dir_all(dir.path().join(".claude/skills/extra")).unwrap();
    let text = "---\nname: extra\ndescription: x\nwebhook_config:\n  provder: github\n---\n";
    std::fs::write(dir.path().join(path), text).unwrap();
    let output = skillhook(dir.path(), &["validate"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).starts_with(&format!("{path}:5:3: error[SH0105]: ")), "{}", err(&output));
    assert!(err(&output).contains("did you mean `provider`?"), "{}", err(&output));
    let listed = skillhook(dir.path(), &["lint", "--format", "json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed["valid"], &listed["diagnostics"][0]["code"]), (&json!(false), &json!("SH0105")));
}

#[test]
fn a_plan_names_what_differs_from_a_commit_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    assert_eq!(code(&skillhook(root, &["init"])), 0);
    git(root, &["-c", "user.name=A", "-c", "user.email=a@example.com", "add", "."]);
    git(root, &["-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "begin"]);
    let same = skillhook(root, &["plan", "HEAD", "--exit-code"]);
    assert_eq!((code(&same), out(&same).as_str()), (0, ""), "{}", err(&same));
    std::fs::create_dir_all(root.join(".claude/skills/extra")).unwrap();
    let text = "---\nname: extra\ndescription: x\nwebhook_config:\n  provider: github\n  id: extra\n  secret_env_var: EXTRA_WEBHOOK_SECRET\n  commands:\n    - name: look\n      prompt_template: Look.\n---\n";
    std::fs::write(root.join(".claude/skills/extra/SKILL.md"), text).unwrap();
    std::fs::remove_dir_all(root.join(".claude/skills/testing")).unwrap();
    let plan = skillhook(root, &["plan", "HEAD", "--exit-code", "-o", "json"]);
    assert_eq!(code(&plan), 1, "{}", err(&plan));
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let actions: Vec<String> =
        plan.as_array().unwrap().iter().map(|a| format!("{} {}/{}", a["verb"], a["kind"], a["name"])).collect();
    assert!(actions.contains(&r#""create" "skill"/"extra""#.to_owned()), "{actions:?}");
    assert!(actions.contains(&r#""create" "webhook"/"extra""#.to_owned()), "{actions:?}");
    assert!(actions.len() <= 3, "{actions:?}");
    assert_eq!(code(&skillhook(root, &["plan", "no-such-branch"])), 3);
}

#[test]
fn a_request_that_is_only_shown_is_signed_and_keeps_tokens_to_itself() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(code(&skillhook(dir.path(), &["init"])), 0);
    let shown = |sample: &str| {
        let arguments = ["trigger", sample, "--dry-run", "-o", "json"];
        let mut command = command(dir.path(), &arguments);
        let secrets = [("GITHUB_WEBHOOK_SECRET", "hush-github"), ("GITLAB_WEBHOOK_SECRET", "hush-gitlab")];
        let output = command.envs(secrets).output().unwrap();
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(!out(&output).contains("hush"), "{}", out(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let github = shown("github.issues.opened");
    assert_eq!(github["url"], "http://127.0.0.1:8080/webhooks/github");
    let signature = github["headers"]
        .as_object()
        .unwrap()
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-hub-signature-256"));
    assert!(signature.unwrap().1.as_str().unwrap().starts_with("sha256="), "{github}");
    shown("gitlab.note.create");
    let unsigned = skillhook(dir.path(), &["trigger", "github.issues.opened", "--dry-run"]);
    assert!(err(&unsigned).contains("SH0408"), "{}", err(&unsigned));
}

#[tokio::test]
async fn a_running_server_is_asked_and_steered() {
    let service = Service::started(json!({})).await;
    let run = |arguments: &[&str]| {
        let output = service.command(arguments).stdin(Stdio::null()).output().unwrap();
        (code(&output), out(&output), err(&output))
    };
    let value = |arguments: &[&str]| {
        let (code, out, err) = run(&[arguments, &["-o", "json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {err}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    assert_eq!(run(&["status", "--wait", "--timeout", "10s"]).0, 0);
    assert!(run(&["get", "webhooks", "-o", "name"]).1.lines().any(|line| line == "webhook/github"));
    assert_eq!(value(&["describe", "wh", "github"])["spec"]["endpoint"], "/webhooks/github");
    assert_eq!(value(&["get", "provider/github"])["name"], "github");
    let (missing, _, said) = run(&["get", "provider", "githb"]);
    assert!(missing == 3 && said.contains("did you mean `github`?"), "{said}");

    let text = "comment.body=@agent analyze why it is slow";
    let sent = value(&["trigger", "github.issue_comment.created", "--override", text, "--url", &service.url("")]);
    assert_eq!(sent["status"], 202, "{sent}");
    let (delivery, task) = (sent["answer"]["delivery"].as_str().unwrap(), sent["answer"]["tasks"][0].as_str().unwrap());
    let (code, _, said) = run(&["logs", task, "--follow"]);
    assert_eq!(code, 0, "{said}");
    let (_, explained, _) = run(&["explain", delivery]);
    assert!(explained.contains("analyze") && explained.contains("MATCHED"), "{explained}");
    let (_, tasks, _) = run(&["get", "tasks", "--state", "succeeded,dead"]);
    assert!(tasks.starts_with("ID") && tasks.contains(task), "{tasks}");
    assert!(run(&["events"]).1.contains(task));

    let (refused, _, said) = run(&["cancel", task, "-y"]);
    assert!(refused == 4 && said.contains("SH0605"), "{said}");
    assert_eq!(run(&["retry", task]).0, 0);
    assert_eq!(run(&["logs", task, "-f"]).0, 0);
    assert_eq!(value(&["get", "task", task])["state"], "succeeded");
    assert!(value(&["reconcile", "--wait"])["index_digest"].is_string());
    let (same, changes, said) = run(&["plan", "--exit-code"]);
    assert_eq!((same, changes.as_str()), (0, ""), "{said}");
}
