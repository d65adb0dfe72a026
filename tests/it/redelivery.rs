//! What is delivered again, in all the ways in which senders do that, and what must start nothing at all: through the
//! real binary, over HTTP.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::providers::{PUBLIC, now, path, prepared, send, variable, write_hook};
use crate::senders::{PROVIDERS, Sent, secret, sign, tampered};
use crate::service::{SOON, Service, issue_comment, wait_for};
use crate::standin::StandIn;

fn corpus(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/providers/corpus").join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!("passed over: the corpus is not beside this checkout");
    None
}

fn rows(file: &str) -> Vec<Value> {
    let Some(path) = corpus(file) else { return Vec::new() };
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `github.bad_then_good.shared` and `w1` as the name of a webhook.
fn hook_of(sequence: &Value, webhook: &Value) -> String {
    format!("{}-{}", sequence.as_str().unwrap().replace(['.', '_'], "-"), webhook.as_str().unwrap())
}

fn provider_of(step: &Value) -> &str {
    step["scheme"].as_str().unwrap().split(':').next().unwrap()
}

fn write_own_hook(service: &Service, provider: &str, name: &str) {
    let slots = PROVIDERS.iter().find(|(name, ..)| *name == provider).unwrap().2;
    let slots: Vec<String> =
        slots.iter().map(|slot| format!("{slot}: {{env: {}}}", variable(provider, slot))).collect();
    service.write_skill(
        name,
        &format!(
            "---\nname: {name}\ndescription: A hook of a test.\nwebhook_config:\n  provider: {provider}\n  id: {name}\n  \
             secrets: {{{}}}\n  allow: {{permission: any, bots: [\"*\"]}}\n  ack: none\n  reply: none\n  commands:\n    \
             - {{name: pass-on, trigger: \"*\", action: forward, forward_to: seen}}\n---\n# Test\n",
            slots.join(", ")
        ),
    );
}

/// What a step sends, signed at its own time: the last one of a sequence now, the others before.
fn sent(step: &Value, manifest: &BTreeMap<String, Value>, url: &str, at: i64) -> Sent {
    let provider = provider_of(step);
    let mut sent = Sent { url: url.to_owned(), headers: Vec::new(), body: Vec::new() };
    match step["file"].as_str() {
        Some(file) => {
            sent.body = std::fs::read(corpus(file).unwrap()).unwrap();
            for (name, value) in manifest[file]["headers"].as_object().unwrap() {
                sent.set(name, value.as_str().unwrap());
            }
        }
        None => {
            sent.body = step["body"].to_string().into_bytes();
            sent.set("Content-Type", "application/json");
        }
    }
    for (name, value) in step["headers"].as_object().into_iter().flatten() {
        sent.set(name, value.as_str().unwrap());
    }
    if let Some(id) = step["id"].as_str() {
        sent.set("X-GitHub-Delivery", id);
    }
    sign(provider, &mut sent, 1, at);
    if step["tamper"] == "signature" {
        let (_, forged) =
            tampered(provider, &sent, at).into_iter().find(|(what, _)| what.contains("one character")).unwrap();
        return forged;
    }
    sent
}

async fn tasks_of(service: &Service, webhook: &str) -> usize {
    let page = service.api(&format!("/api/tasks?webhook={webhook}&limit=200")).await;
    page["items"].as_array().unwrap_or_else(|| panic!("{page}")).len()
}

#[tokio::test]
async fn sequences_of_the_corpus_run_what_must_run_and_nothing_twice() {
    let sequences = rows("dedupe.jsonl");
    if sequences.is_empty() {
        return;
    }
    let manifest: BTreeMap<String, Value> =
        rows("manifest.jsonl").into_iter().map(|row| (row["file"].as_str().unwrap().to_owned(), row)).collect();
    let target = StandIn::friendly().await;
    let forward = format!(
        "[forward.seen]\nurl = \"{}/seen\"\nsecret_env = \"TEST_REPLY_TOKEN\"\nallow_private = true\n",
        target.base()
    );
    let mut service = prepared(&target, &forward).await;
    let mut hooks = BTreeMap::new();
    for sequence in &sequences {
        for step in sequence["steps"].as_array().unwrap() {
            hooks.insert(hook_of(&sequence["id"], &step["webhook"]), provider_of(step).to_owned());
        }
    }
    for (name, provider) in &hooks {
        write_own_hook(&service, provider, name);
    }
    service.start();
    service.wait_ready().await;
    let mut wrong = Vec::new();
    for sequence in &sequences {
        let steps = sequence["steps"].as_array().unwrap();
        let last = steps.iter().filter_map(|step| step["dt"].as_i64()).max().unwrap_or(0);
        let begin = now() - last;
        for (n, step) in steps.iter().enumerate() {
            let hook = hook_of(&sequence["id"], &step["webhook"]);
            let path = format!("/webhooks/{}/{hook}", provider_of(step));
            service.wait_route(&path, true).await;
            let before = tasks_of(&service, &hook).await;
            let at = begin + step["dt"].as_i64().unwrap_or(0);
            let (status, answer) = send(&service, &path, &sent(step, &manifest, &format!("{PUBLIC}{path}"), at)).await;
            let more = tasks_of(&service, &hook).await - before;
            let expected = match &step["expect"] {
                Value::Object(items) => usize::try_from(items["accepted_items"].as_u64().unwrap()).unwrap(),
                word if word == "accepted" => 1,
                _ => 0,
            };
            let refused = step["expect"] == "rejected";
            if more != expected || refused != (status == 401) || (!refused && status >= 300) {
                wrong.push(format!(
                    "{} step {n}: {status} {answer}, {more} tasks instead of {expected}",
                    sequence["id"]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences\n{}", wrong.len(), wrong.join("\n"));
    eprintln!("dedupe: {} sequences", sequences.len());
}

const EVERYTHING: &str = "  commands:\n    - {name: pass-on, trigger: \"*\", action: forward, forward_to: seen}\n";

#[tokio::test]
async fn words_of_the_gateways_own_account_start_nothing() {
    let target = StandIn::friendly().await;
    let settings = format!(
        "[forward.seen]\nurl = \"{}/seen\"\nsecret_env = \"TEST_REPLY_TOKEN\"\nallow_private = true\n",
        target.base()
    );
    let mut service = prepared(&target, &settings).await;
    service.replace_settings("[providers.gitlab]\n", "[providers.gitlab]\nbot_login = \"skillhook-bot\"\n");
    service.replace_settings("[providers.github]\n", "[providers.github]\nbot_login = \"skillhook-bot\"\n");
    for provider in ["github", "gitlab", "slack"] {
        write_hook(&service, provider, "own", EVERYTHING);
    }
    service.start();
    service.wait_ready().await;
    let deliver = async |provider: &str, sample: &str, id: &str, change: &dyn Fn(&mut Value)| {
        let path = path(provider, "own");
        service.wait_route(&path, true).await;
        let mut sent = Sent::of(sample, &format!("{PUBLIC}{path}"), id);
        let mut body: Value = serde_json::from_slice(&sent.body).unwrap();
        change(&mut body);
        sent.body = body.to_string().into_bytes();
        sent.set("X-Gitlab-Event-UUID", id);
        sent.set("Idempotency-Key", id);
        sign(provider, &mut sent, 1, now());
        let (status, answer) = send(&service, &path, &sent).await;
        assert!(status < 300, "{provider}: {status} {answer}");
        tasks_of(&service, &format!("own-{provider}")).await
    };
    let github = |body: &mut Value| body["sender"]["login"] = json!("skillhook-bot");
    assert_eq!(deliver("github", "github.issue_comment.created", "g-1", &github).await, 0);
    assert_eq!(deliver("github", "github.issue_comment.created", "g-2", &|_| {}).await, 1);
    let gitlab = |body: &mut Value| body["user"]["username"] = json!("skillhook-bot");
    assert_eq!(deliver("gitlab", "gitlab.note.create", "l-1", &gitlab).await, 0);
    assert_eq!(deliver("gitlab", "gitlab.note.create", "l-2", &|_| {}).await, 1);
    // Slack says itself whose account the app is.
    let slack = |body: &mut Value| {
        body["event_id"] = json!("Ev-own");
        body["authorizations"] = json!([{ "user_id": body["event"]["user"] }]);
    };
    assert_eq!(deliver("slack", "slack.app_mention", "s-1", &slack).await, 0);
    assert_eq!(deliver("slack", "slack.app_mention", "s-2", &|_| {}).await, 1);
    let listed = service.api("/api/deliveries?webhook=own-github&limit=10").await;
    let own = listed["items"].as_array().unwrap().iter().find(|it| it["actor"] == "skillhook-bot").unwrap();
    let why = service.api(&format!("/api/deliveries/{}", own["id"].as_str().unwrap())).await.to_string();
    assert!(why.contains("gateway's own account"), "{why}");
}

#[tokio::test]
async fn an_edit_does_not_call_a_command_again() {
    let service = Service::started(json!({"text": "Analysed."})).await;
    let text = "@agent analyze this";
    assert_eq!(service.comment(7, "e-1", text).await.unwrap().0, 202);
    service.wait_tasks_done(1, SOON).await;
    for (n, text) in [text, "@agent analyze this, I mean that", "@agent fix this"].iter().enumerate() {
        let mut edited = issue_comment(7, text);
        edited["action"] = json!("edited");
        edited["changes"] = json!({"body": {"from": "@agent analyze this"}});
        let id = format!("e-edit-{n}");
        let (status, answer) = service.deliver("/webhooks/github", "issue_comment", &id, &edited).await.unwrap();
        assert_eq!((status, &answer["status"]), (200, &json!("ignored")), "{answer}");
    }
    let mut edited = issue_comment(7, "-");
    edited["action"] = json!("edited");
    edited["issue"]["body"] = json!("@agent analyze this");
    let (_, answer) = service.deliver("/webhooks/github", "issues", "e-issue", &edited).await.unwrap();
    assert_eq!(answer["status"], "ignored", "{answer}");
    assert_eq!(service.tasks().await.len(), 1);
    assert_eq!(service.journal().iter().filter(|line| line.starts_with("start")).count(), 1);
}

#[tokio::test]
async fn retry_that_a_sender_announces_runs_nothing_twice_and_its_reason_is_logged() {
    let target = StandIn::friendly().await;
    let settings = format!(
        "[forward.seen]\nurl = \"{}/seen\"\nsecret_env = \"TEST_REPLY_TOKEN\"\nallow_private = true\n",
        target.base()
    );
    let mut service = prepared(&target, &settings).await;
    for provider in ["slack", "bitbucket", "jira"] {
        write_hook(&service, provider, "again", EVERYTHING);
    }
    service.start();
    service.wait_ready().await;
    type Hint = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
    let hints: [Hint; 3] = [
        ("slack", "slack.app_mention", &[("X-Slack-Retry-Num", "1"), ("X-Slack-Retry-Reason", "http_timeout")]),
        ("bitbucket", "bitbucket.pullrequest:comment_created", &[("X-Attempt-Number", "2")]),
        ("jira", "jira.comment_created", &[("X-Atlassian-Webhook-Retry", "3")]),
    ];
    for (provider, sample, headers) in hints {
        let path = path(provider, "again");
        service.wait_route(&path, true).await;
        let mut first = Sent::of(sample, &format!("{PUBLIC}{path}"), "again-1");
        first.set("X-Atlassian-Webhook-Identifier", "again-1");
        first.set("X-Attempt-Number", "1");
        sign(provider, &mut first, 1, now() - 2);
        let mut again = first.clone();
        headers.iter().for_each(|(name, value)| again.set(name, *value));
        sign(provider, &mut again, 1, now());
        for sent in [&first, &again] {
            let (status, answer) = send(&service, &path, sent).await;
            assert!(status < 300, "{provider}: {status} {answer}");
        }
        assert_eq!(tasks_of(&service, &format!("again-{provider}")).await, 1, "{provider}");
    }
    let log = std::fs::read_to_string(service.dir.path().join("service.log")).unwrap();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("delivers once more")).collect();
    assert_eq!(told.len(), 3, "once each, and never for a first attempt: {told:?}");
    assert!(told[0].contains("http_timeout"), "{told:?}");
}

#[tokio::test]
async fn sender_that_can_be_stopped_is_told_to_stop_where_nothing_would_change() {
    let target = StandIn::friendly().await;
    let mut service = prepared(&target, "").await;
    for provider in ["slack", "mailgun"] {
        write_hook(
            &service,
            provider,
            "off",
            "  enabled: false\n  commands:\n    - {name: look, prompt_template: x}\n",
        );
    }
    service.set_env(&variable("slack", "signing_secret"), &secret("slack", "signing_secret", 1));
    service.start();
    service.wait_ready().await;
    for (provider, sample) in [("slack", "slack.app_mention"), ("mailgun", "mailgun.failed")] {
        let path = path(provider, "off");
        service.wait_route(&path, true).await;
        let mut sent = Sent::of(sample, &format!("{PUBLIC}{path}"), "off-1");
        sign(provider, &mut sent, 1, now());
        let mut request = service.client.post(service.url(&path)).body(sent.body.clone());
        for (name, value) in &sent.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap();
        let stop = answer.headers().get("x-slack-no-retry").and_then(|value| value.to_str().ok()).map(str::to_owned);
        match provider {
            "slack" => assert_eq!((answer.status().as_u16(), stop.as_deref()), (403, Some("1"))),
            _ => assert_eq!(answer.status().as_u16(), 406),
        }
    }
    wait_for("the service to be there still", || async { !service.api_if_there("/api/status").await.is_null() }).await;
}
