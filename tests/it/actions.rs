//! Commands that run no agent, and those that ask: each through the real binary, from the delivery to what arrives.

use serde_json::{Value, json};
use skillhook::model::provider::{FetchedKeys, Incoming, Settings, Verdict, verify};
use skillhook::model::secret::SecretSet;

use crate::gateway::catalogue;
use crate::service::{SOON, Service, wait_for};
use crate::standin::StandIn;

const FORWARD_SECRET: &str = "whsec_c2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==";

/// A webhook of its own at `/webhooks/github/NAME` with the given commands.
pub fn skill(name: &str, commands: &str) -> String {
    format!(
        "---\nname: {name}\ndescription: Commands of a test.\nwebhook_config:\n  provider: github\n  id: {name}\n  \
         secret_env_var: GITHUB_WEBHOOK_SECRET\n  command_prefix: \"@bot\"\n  commands:\n{commands}---\n# Test\n"
    )
}

async fn with_skill(service: &Service, name: &str, commands: &str) -> String {
    service.write_skill(name, &skill(name, commands));
    let path = format!("/webhooks/github/{name}");
    service.wait_route(&path, true).await;
    path
}

/// A comment on issue 7 by somebody who may write there.
fn said(text: &str) -> Value {
    crate::service::issue_comment(7, text)
}

async fn deliver(service: &Service, path: &str, id: &str, text: &str) -> Value {
    let (status, answer) = service.deliver(path, "issue_comment", id, &said(text)).await.unwrap();
    assert!(status < 300, "{status} {answer}");
    answer
}

async fn state_of(service: &Service, task: &Value) -> String {
    let task = service.api(&format!("/api/tasks/{}", task.as_str().unwrap())).await;
    task["state"].as_str().unwrap_or_default().to_owned()
}

fn comments(service: &Service) -> Vec<String> {
    service.github.comments()
}

#[tokio::test]
async fn comment_posts_the_rendered_template_once_and_runs_no_agent() {
    let service = Service::started(json!({})).await;
    let commands = "    - name: hello\n      action: comment\n      prompt_template: \"Hello {{ actor }}, you said: {{ args }} @bot hello\"\n";
    let path = with_skill(&service, "greeter", commands).await;
    let answer = deliver(&service, &path, "d-1", "@bot hello from here").await;
    assert!(service.github.wait_for_comments(1, SOON).await);
    let again = deliver(&service, &path, "d-1", "@bot hello from here").await;
    assert_eq!(again["status"], "duplicate");
    assert_eq!(state_of(&service, &answer["tasks"][0]).await, "succeeded");
    let posted = comments(&service);
    assert_eq!(posted.len(), 1);
    assert!(posted[0].contains("you said: from here") && posted[0].contains("<!-- skillhook:task="), "{posted:?}");
    assert!(!posted[0].contains("@bot"), "what it says calls nobody: {posted:?}");
    assert!(service.journal().is_empty(), "no agent ran");
}

#[tokio::test]
async fn help_and_status_are_answered_by_the_service_itself() {
    let service = Service::started(json!({"seconds": 1.5})).await;
    let commands = "    - name: help\n      action: help\n      description: This list\n    - name: status\n      action: status\n    \
                    - name: work\n      aliases: [do]\n      description: Works on it\n      prompt_template: Work\n";
    let path = with_skill(&service, "helper", commands).await;
    deliver(&service, &path, "d-1", "@bot help").await;
    assert!(service.github.wait_for_comments(1, SOON).await);
    let help = comments(&service).remove(0);
    assert!(help.contains("`@bot work` (also `do`): Works on it"), "{help}");
    deliver(&service, &path, "d-2", "@bot work").await;
    wait_for("the run to begin", || async { service.journal().iter().any(|line| line.starts_with("start")) }).await;
    deliver(&service, &path, "d-3", "@bot status").await;
    wait_for("the status", || async { comments(&service).iter().any(|text| text.contains("`work` runs")) }).await;
    assert_eq!(service.journal().iter().filter(|line| line.starts_with("start")).count(), 1);
}

#[tokio::test]
async fn forward_posts_the_payload_signed_to_the_operators_target_alone() {
    let target = StandIn::friendly().await;
    let mut service = Service::prepared(json!({})).await;
    service.add_settings(&format!(
        "[forward.audit]\nurl = \"{}/in?x=1\"\nsecret_env = \"AUDIT_KEY\"\nallow_private = true\n\
         [forward.private]\nurl = \"https://localhost:{}/in\"\nsecret_env = \"AUDIT_KEY\"\n",
        target.base(),
        target.address.port()
    ));
    service.set_env("AUDIT_KEY", FORWARD_SECRET);
    service.start();
    service.wait_ready().await;
    let commands = "    - name: audit\n      action: forward\n      forward_to: audit\n    \
                    - name: words\n      action: forward\n      forward_to: audit\n      prompt_template: \"{{ actor }} asks\"\n    \
                    - name: inside\n      action: forward\n      forward_to: private\n    \
                    - name: nowhere\n      action: forward\n      forward_to: https-evil.example\n";
    let path = with_skill(&service, "auditor", commands).await;
    deliver(&service, &path, "d-1", "@bot audit").await;
    deliver(&service, &path, "d-2", "@bot words").await;
    wait_for("both posts", || async { target.seen().len() == 2 }).await;
    for post in target.seen() {
        let headers = post.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let incoming = Incoming::new(&post.method, target.base(), headers, post.body.clone());
        let definition = catalogue().get("standard_webhooks").unwrap();
        let secrets = SecretSet::new().with(definition.primary_slot().unwrap(), FORWARD_SECRET);
        let now = jiff::Timestamp::now();
        let verdict = verify(definition, &incoming, &secrets, &Settings::default(), &FetchedKeys::new(), now);
        assert!(matches!(verdict, Verdict::Verified(_)), "{verdict:?}");
        assert_eq!((post.method.as_str(), post.path.as_str()), ("POST", "/in?x=1"));
    }
    let mut bodies: Vec<String> = target.seen().iter().map(crate::standin::Arrived::text).collect();
    bodies.sort();
    assert_eq!(bodies[0], "mona asks");
    assert_eq!(serde_json::from_str::<Value>(&bodies[1]).unwrap(), said("@bot audit"));

    let answer = deliver(&service, &path, "d-3", "@bot nowhere").await;
    assert!(answer["reason"].as_str().unwrap().contains("no target `https-evil.example`"), "{answer}");
    let answer = deliver(&service, &path, "d-4", "@bot inside").await;
    let task = answer["tasks"][0].as_str().unwrap().to_owned();
    wait_for("the refusal of a private address", || async {
        let task = service.api(&format!("/api/tasks/{task}")).await;
        task["outbox"][0]["state"] == "failed"
            && task["outbox"][0]["error"]["message"].to_string().contains("private network")
    })
    .await;
    assert_eq!(target.seen().len(), 2);
    assert!(comments(&service).is_empty());
}

#[tokio::test]
async fn a_question_waits_and_the_next_message_goes_on_with_it_as_a_child() {
    let service = Service::started(json!({"text": "[question]\nMain or next?"})).await;
    let commands = "    - name: decide\n      action: ask\n      prompt_template: Decide\n";
    let path = with_skill(&service, "asker", commands).await;
    let answer = deliver(&service, &path, "d-1", "@bot decide").await;
    let asked = answer["tasks"][0].clone();
    assert!(service.github.wait_for_comments(1, SOON).await);
    assert!(comments(&service)[0].starts_with("Main or next?"), "{:?}", comments(&service));
    wait_for("the task to wait", || async { state_of(&service, &asked).await == "waiting_input" }).await;

    let stranger = {
        let mut body = said("take next");
        body["comment"]["author_association"] = json!("NONE");
        body
    };
    service.github.set_permission("read");
    let (_, answer) = service.deliver(&path, "issue_comment", "d-2", &stranger).await.unwrap();
    let refused = answer["tasks"][0].clone();
    wait_for("the stranger to be refused", || async { state_of(&service, &refused).await == "refused" }).await;
    assert_eq!(state_of(&service, &asked).await, "waiting_input", "not everybody may answer");
    service.github.set_permission("write");

    let other =
        service.deliver(&path, "issue_comment", "d-3", &crate::service::issue_comment(8, "take next")).await.unwrap();
    assert_eq!(other.1["status"], "ignored", "another conversation");

    let answer = deliver(&service, &path, "d-4", r#"take main, please fake-agent:{"text":"Took main."}"#).await;
    let child = answer["tasks"][0].clone();
    wait_for("the child to end", || async { state_of(&service, &child).await == "succeeded" }).await;
    assert_eq!(state_of(&service, &asked).await, "succeeded");
    let task = service.api(&format!("/api/tasks/{}", child.as_str().unwrap())).await;
    assert_eq!(task["spec"]["parent"], asked, "{task}");
    assert!(task["spec"]["prompt"].as_str().unwrap().contains("take main"), "{task}");
    wait_for("the answer", || async { comments(&service).iter().any(|text| text.starts_with("Took main.")) }).await;
    let late = deliver(&service, &path, "d-5", "or next").await;
    assert_eq!(late["status"], "ignored", "nothing waits any more");
}

#[tokio::test]
async fn a_thread_that_starts_run_after_run_is_stopped_and_says_so_once() {
    let mut service = Service::prepared(json!({})).await;
    service.add_settings("[limits]\nthread_runs_per_hour = 2\n");
    service.start();
    service.wait_ready().await;
    for n in 0..4 {
        let (status, answer) =
            service.comment(7, &format!("d-{n}"), &format!("@agent analyze number {n}")).await.unwrap();
        let expect = if n < 2 { (202, 1) } else { (200, 0) };
        assert_eq!((status, answer["tasks"].as_array().map_or(0, Vec::len)), expect, "{answer}");
    }
    assert_eq!(service.comment(8, "e-1", "@agent analyze elsewhere").await.unwrap().0, 202);
    service.wait_tasks_done(3, SOON).await;
    assert!(service.github.wait_for_comments(4, SOON).await);
    let told = comments(&service).iter().filter(|text| text.contains("Nothing more is started here")).count();
    assert_eq!((told, service.tasks().await.len()), (1, 3));
}
