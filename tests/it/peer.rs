//! The socket file of the administration, tried by processes that the service has started itself.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::service::{Service, issue_comment, own_webhook};

const PATIENCE: Duration = Duration::from_secs(120);

async fn what_a_run_is_answered(sandbox: &str) -> String {
    let mut service = Service::prepared(json!({})).await;
    service.replace_settings("sandbox = \"off\"", &format!("sandbox = \"{sandbox}\""));
    // Inside the walls there is no such file: the message says it all.
    service.replace_settings("FAKE_AGENT_PLAN", "NO_PLAN");
    service.write_skill("house", &own_webhook("house"));
    service.start();
    service.wait_ready().await;
    service.wait_route("/webhooks/github/house", true).await;
    let socket = service.root().join(".skillhook/admin.sock");
    let plan = json!({ "mode": "connect", "path": socket, "text": "/api/tasks" });
    let body = issue_comment(7, &format!("@agent look fake-agent:{plan}"));
    assert_eq!(service.deliver("/webhooks/github/house", "issue_comment", "d1", &body).await.unwrap().0, 202);
    service.wait_tasks_done(1, PATIENCE).await;
    // Whoever is no run of the service owns it by this socket.
    assert!(service.command(&["get", "tasks"]).output().unwrap().status.success());
    let id = service.tasks().await[0]["id"].as_str().unwrap().to_owned();
    let task = service.api(&format!("/api/tasks/{id}")).await;
    task["result"]["text"].as_str().unwrap_or_else(|| panic!("{task}")).to_owned()
}

#[tokio::test]
async fn run_without_walls_is_nobody_to_the_administration() {
    assert_eq!(what_a_run_is_answered("off").await, "HTTP/1.1 401 Unauthorized");
}

#[tokio::test]
async fn run_inside_its_walls_is_nobody_to_the_administration() {
    let answer = what_a_run_is_answered("auto").await;
    // Where the walls hide the file there is nothing to connect to.
    assert!(answer == "HTTP/1.1 401 Unauthorized" || answer.starts_with("refused: "), "`{answer}`");
}

#[tokio::test]
async fn process_that_has_left_its_run_keeps_the_mark_of_the_walls() {
    let service = Service::started(json!({})).await;
    let ask = |walled: bool| {
        let plain = service.command(&["get", "tasks"]);
        let mut command = Command::new(if walled { "setpriv".as_ref() } else { plain.get_program() });
        command.args(walled.then_some("--no-new-privs"));
        command.args(walled.then(|| plain.get_program())).args(plain.get_args());
        command.current_dir(service.root()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.output().unwrap()
    };
    assert!(ask(false).status.success());
    let refused = ask(true);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("a run of this service"), "{said}");
}
