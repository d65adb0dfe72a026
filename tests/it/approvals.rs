//! Approvals through the real binary: asked for, given and refused at the source, by the command line and by the API.

use std::time::Duration;

use serde_json::{Value, json};

use super::service::{Service, issue_comment, wait_for};

const SKILL: &str = "---
name: gated
description: A webhook whose work must be approved.
webhook_config:
  provider: github
  id: gated
  secret_env_var: GITHUB_WEBHOOK_SECRET
  command_prefix: \"@agent\"
  commands:
    - name: fix
      description: Fixes.
      requires_approval: true
      prompt_template: \"Fix this: {{ args }}\"
    - name: ship
      description: Ships.
      requires_approval: true
      approval: {self_approval: false, expires: 1h}
      prompt_template: \"Ship {{ args }}\"
    - name: quick
      description: Has little time.
      requires_approval: true
      approval: {expires: 1s}
      prompt_template: \"Quickly {{ args }}\"
    - name: approve
      description: Approves.
      action: approve
    - name: reject
      description: Rejects.
      action: reject
---
# gated
";

async fn service() -> Service {
    let mut service = Service::prepared(json!({ "mode": "answer", "text": "It is fixed." })).await;
    service.write_skill("gated", SKILL);
    service.start();
    service.wait_ready().await;
    service.wait_route("/webhooks/github/gated", true).await;
    service
}

async fn says(service: &Service, who: &str, number: u64, id: &str, text: &str) {
    let mut body = issue_comment(number, text);
    body["sender"]["login"] = json!(who);
    body["comment"]["user"]["login"] = json!(who);
    let (status, answer) = service.deliver("/webhooks/github/gated", "issue_comment", id, &body).await.unwrap();
    assert_eq!(status, 202, "{answer}");
}

/// The one task of this command.
async fn task(service: &Service, command: &str) -> Value {
    let tasks = service.tasks().await;
    tasks.into_iter().find(|task| task["command"] == command).unwrap_or_default()
}

async fn wait_state(service: &Service, command: &str, state: &str) {
    wait_for(&format!("{command} to be {state}"), || async { task(service, command).await["state"] == state }).await;
}

async fn wait_comment(service: &Service, words: &str) {
    wait_for(&format!("a comment with `{words}`"), || async {
        service.github.comments().iter().any(|comment| comment.contains(words))
    })
    .await;
}

fn runs(service: &Service) -> usize {
    service.journal().iter().filter(|line| line.starts_with("start")).count()
}

async fn command(service: &Service, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = service.command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

#[tokio::test]
async fn comment_asks_for_a_run_and_another_one_lets_it_begin() {
    let service = service().await;
    says(&service, "mona", 7, "d1", "@agent fix the slow query").await;
    wait_state(&service, "fix", "awaiting_approval").await;
    wait_comment(&service, "waits for an approval").await;
    assert_eq!(runs(&service), 0);
    let announced = service.github.comments().join("\n");
    let digest = task(&service, "fix").await["prompt_digest"].as_str().unwrap()[..12].to_owned();
    assert!(announced.contains(&digest), "{announced}");
    // A comment elsewhere is about something else.
    says(&service, "mona", 8, "d2", "@agent approve").await;
    wait_comment(&service, "Nothing waits for an approval here").await;
    assert_eq!(task(&service, "fix").await["state"], "awaiting_approval");
    says(&service, "mona", 7, "d3", &format!("@agent approve {digest}")).await;
    wait_state(&service, "fix", "succeeded").await;
    wait_comment(&service, "It is fixed.").await;
    assert_eq!(runs(&service), 1, "neither the approval nor the question ran an agent");
}

#[tokio::test]
async fn whoever_asked_cannot_approve_where_that_is_not_allowed() {
    let service = service().await;
    says(&service, "mona", 7, "d1", "@agent ship it").await;
    wait_state(&service, "ship", "awaiting_approval").await;
    says(&service, "mona", 7, "d2", "@agent approve").await;
    wait_comment(&service, "somebody else has to approve it").await;
    assert_eq!(task(&service, "ship").await["state"], "awaiting_approval");
    says(&service, "hubot", 7, "d3", "@agent approve").await;
    wait_state(&service, "ship", "succeeded").await;
}

#[tokio::test]
async fn who_may_not_start_runs_may_not_approve_them() {
    let service = service().await;
    says(&service, "mona", 7, "d1", "@agent fix it").await;
    wait_state(&service, "fix", "awaiting_approval").await;
    service.github.set_permission("read");
    let mut stranger = issue_comment(7, "@agent approve");
    stranger["sender"]["login"] = json!("stranger");
    stranger["comment"]["user"]["login"] = json!("stranger");
    stranger["comment"]["author_association"] = json!("NONE");
    service.deliver("/webhooks/github/gated", "issue_comment", "d2", &stranger).await.unwrap();
    wait_for("the stranger to be refused", || async {
        let tasks = service.tasks().await;
        !tasks.iter().any(|task| task["state"] == "checking")
    })
    .await;
    assert_eq!(task(&service, "fix").await["state"], "awaiting_approval");
    assert_eq!(runs(&service), 0);
}

#[tokio::test]
async fn approval_expires_and_the_source_is_told() {
    let service = service().await;
    says(&service, "mona", 7, "d1", "@agent quick do it").await;
    wait_state(&service, "quick", "expired").await;
    wait_comment(&service, "was not approved in time").await;
    says(&service, "mona", 7, "d2", "@agent approve").await;
    wait_comment(&service, "Nothing waits for an approval here").await;
    assert_eq!(runs(&service), 0);
}

#[tokio::test]
async fn command_line_lists_approves_and_rejects_and_a_restart_forgets_nothing() {
    let mut service = service().await;
    says(&service, "mona", 7, "d1", "@agent fix one").await;
    says(&service, "mona", 8, "d2", "@agent ship two").await;
    wait_state(&service, "fix", "awaiting_approval").await;
    wait_state(&service, "ship", "awaiting_approval").await;
    service.kill();
    service.start();
    service.wait_ready().await;
    let (code, listed) = command(&service, &["get", "approvals", "-o", "json"]).await;
    assert_eq!(code, Some(0), "{listed}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let listed = listed.as_array().or_else(|| listed["items"].as_array()).unwrap().clone();
    assert_eq!(listed.len(), 2, "{listed:?}");
    let id = |command: &str| {
        let found = listed.iter().find(|task| task["command"] == command).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let (fix, ship) = (id("fix"), id("ship"));
    let (code, said) = command(&service, &["approve", &fix, "--digest", "000000000000"]).await;
    assert!(code == Some(4) && said.contains("SH0311"), "{code:?} {said}");
    assert_eq!(task(&service, "fix").await["state"], "awaiting_approval");
    let digest = task(&service, "fix").await["prompt_digest"].as_str().unwrap().to_owned();
    let (code, said) = command(&service, &["approve", &fix, "--digest", &digest]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = command(&service, &["reject", &ship, "--reason", "not on a Friday"]).await;
    assert_eq!(code, Some(0), "{said}");
    wait_state(&service, "fix", "succeeded").await;
    wait_comment(&service, "not on a Friday").await;
    assert_eq!((task(&service, "ship").await["state"].as_str(), runs(&service)), (Some("refused"), 1));
    let (code, said) = command(&service, &["approve", &ship]).await;
    assert!(code == Some(4) && said.contains("refused"), "{code:?} {said}");
}

#[tokio::test]
async fn api_decides_and_shows_what_waits_and_what_failed() {
    let service = service().await;
    says(&service, "mona", 7, "d1", "@agent fix it").await;
    wait_state(&service, "fix", "awaiting_approval").await;
    let (_, lead) = command(&service, &["token", "create", "lead", "--scope", "read,approve"]).await;
    let (_, writer) = command(&service, &["token", "create", "writer", "--scope", "read,write"]).await;
    let token = |said: &str| said.split_whitespace().find(|word| word.starts_with("shk_")).unwrap().to_owned();
    let (lead, writer) = (token(&lead), token(&writer));
    let get = async |path: &str| -> Value {
        let answer = service.client.get(service.admin_url(path)).bearer_auth(&lead).send().await.unwrap();
        answer.json().await.unwrap()
    };
    let post = async |token: &str, path: String| {
        let answer = service.client.post(service.admin_url(&path)).bearer_auth(token).send().await.unwrap();
        answer.status().as_u16()
    };
    let waiting = get("/api/approvals").await;
    let id = waiting["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(post(&writer, format!("/api/tasks/{id}/approve")).await, 403, "writing is not approving");
    assert_eq!(post(&lead, format!("/api/tasks/{id}/approve?digest=abcdef123456")).await, 409);
    assert_eq!(post(&lead, format!("/api/tasks/{id}/approve")).await, 200);
    wait_for("the task to be done", || async { get(&format!("/api/tasks/{id}")).await["state"] == "succeeded" }).await;
    let shown = get(&format!("/api/tasks/{id}")).await;
    assert!(shown["approved"]["by"].as_str().unwrap().contains("lead"), "{shown}");
    assert_eq!(get("/api/approvals").await["items"], json!([]));
    assert_eq!(get("/api/dead-letters").await["items"], json!([]));
}

#[tokio::test]
async fn budget_refuses_with_a_reason_at_the_source_and_acks_stay_fast() {
    let mut service = Service::prepared(json!({ "mode": "answer", "text": "Looked." })).await;
    let skill =
        super::service::own_webhook("thrifty").replace("  commands:\n", "  budget: {runs_per_day: 3}\n  commands:\n");
    service.write_skill("thrifty", &skill);
    service.start();
    service.wait_ready().await;
    service.wait_route("/webhooks/github/thrifty", true).await;
    const SENT: usize = 20;
    for n in 0..SENT {
        let body = issue_comment(n as u64 + 1, "@agent look");
        let answer = service.deliver("/webhooks/github/thrifty", "issue_comment", &format!("d{n}"), &body).await;
        assert_eq!(answer.unwrap().0, 202);
    }
    service.wait_tasks_done(SENT, Duration::from_secs(120)).await;
    let tasks = service.tasks().await;
    let count = |state: &str| tasks.iter().filter(|task| task["state"] == state).count();
    assert_eq!((count("succeeded"), count("refused")), (3, SENT - 3));
    assert_eq!(runs(&service), 3);
    wait_comment(&service, "the 3 runs that this webhook may begin in one day are used up").await;
    let refused = tasks.iter().find(|task| task["state"] == "refused").unwrap();
    assert_eq!(refused["reason"]["code"], "SH0307");
    let budgets = service.api("/api/budgets").await;
    let used = json!({ "webhook": "thrifty", "runs": 3, "usd": 0.75, "runs_max": 3, "usd_max": null });
    assert_eq!((&budgets["items"], &budgets["all"]["runs"]), (&json!([used]), &json!(3)), "{budgets}");
}
