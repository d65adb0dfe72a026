//! What people do to what runs and waits, over HTTP: stop, answer, hold back; several of them at once; lists in pages and
//! in order; and who did it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::actions::skill;
use crate::service::{SECRET, own_webhook, wait_for};
use crate::writes::Api;

impl Api {
    async fn get(&self, path: &str) -> Value {
        let answered = self.call("GET", path, &Value::Null).await;
        assert_eq!(answered.status, 200, "{path}: {}", answered.body);
        answered.body
    }

    async fn post(&self, path: &str) -> Value {
        let answered = self.call("POST", path, &Value::Null).await;
        assert!(answered.status < 300, "{path}: {} {}", answered.status, answered.body);
        answered.body
    }

    async fn state(&self, task: &str) -> String {
        self.get(&format!("/api/tasks/{task}")).await["state"].as_str().unwrap().to_owned()
    }

    /// A comment that starts a task; its id.
    async fn task(&self, id: &str, text: &str) -> String {
        let (status, answer) = self.service.comment(1, id, text).await.unwrap();
        assert_eq!(status, 202, "{answer}");
        answer["tasks"][0].as_str().unwrap().to_owned()
    }
}

fn lives(process: &str) -> bool {
    // One that only waits to be counted is over.
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_task_leaves_no_process_and_no_place_in_the_queue() {
    let api = Api::started(json!({ "seconds": 600, "grandchildren": 2 })).await;
    let task = api.task("d1", "@agent analyze this").await;
    wait_for("the run and what it started", || async { api.service.journal().len() >= 3 }).await;
    let processes: Vec<String> =
        api.service.journal().iter().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect();
    assert!(processes.iter().all(|process| lives(process)), "{processes:?}");
    let waiting = api.get("/api/status").await["queue"].clone();
    assert_eq!((&waiting["running"], &waiting["queued"]), (&json!(1), &json!(0)), "{waiting}");

    api.post(&format!("/api/tasks/{task}/cancel")).await;
    wait_for("the end of the task", || async { api.state(&task).await == "cancelled" }).await;
    wait_for("the end of its processes", || async { !processes.iter().any(|process| lives(process)) }).await;
    let queue = api.get("/api/status").await["queue"].clone();
    assert_eq!((&queue["running"], &queue["queued"]), (&json!(0), &json!(0)), "{queue}");
    let again = api.call("POST", &format!("/api/tasks/{task}/cancel"), &Value::Null).await;
    assert_eq!(again.status, 409, "{}", again.body);
    let deeds = api.get("/api/audit?kind=task.*").await;
    assert_eq!(deeds["items"][0]["kind"], "task.cancel_asked", "{deeds}");
    assert_eq!(deeds["items"][0]["task"], json!(task), "{deeds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_over_http_and_its_child_goes_on() {
    let api = Api::started(json!({ "text": "[question]\nMain or next?" })).await;
    let command = "    - name: decide\n      action: ask\n      prompt_template: Decide\n";
    api.service.write_skill("asker", &skill("asker", command));
    let path = "/webhooks/github/asker";
    api.service.wait_route(path, true).await;
    let (status, accepted) = api.deliver(path, SECRET, "d1", "@bot decide").await;
    assert_eq!(status, 202, "{accepted}");
    let asked = accepted["tasks"][0].as_str().unwrap().to_owned();
    wait_for("the question", || async { api.state(&asked).await == "waiting_input" }).await;

    let input = format!("/api/tasks/{asked}/input");
    api.refused("POST", &input, &json!({ "text": " " }), 400, "SH0902").await;
    let answered = api.call("POST", &input, &json!({ "text": r#"main, fake-agent:{"text":"Took main."}"# })).await;
    assert_eq!(answered.status, 202, "{}", answered.body);
    let child = answered.body["task"].as_str().unwrap().to_owned();
    wait_for("the child", || async { api.state(&child).await == "succeeded" }).await;
    assert_eq!(api.state(&asked).await, "succeeded");
    wait_for("the reply", || async { api.service.github.comments().iter().any(|said| said.contains("Took main.")) })
        .await;
    assert_eq!(api.call("POST", &input, &json!({ "text": "next" })).await.status, 409, "nothing waits any more");
    let deeds = api.get("/api/audit?kind=task.answered").await;
    assert!(deeds["items"][0]["actor"].as_str().unwrap().starts_with("token person"), "{deeds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_one_skill_at_the_same_time_all_keep_what_they_wrote() {
    let api = Api::started(json!({})).await;
    let upload = json!({ "name": "shared", "content": own_webhook("shared") });
    assert_eq!(api.call("POST", "/api/registry/skills/upload", &upload).await.status, 201);
    let add = |name: String| {
        let command = json!({ "name": name, "prompt_template": "Do {{ args }}.", "target_agent": "brain" });
        let api = &api;
        async move { api.call("POST", "/api/webhooks/shared/commands", &command).await }
    };
    let names: Vec<String> = (0..6).map(|n| format!("written{n}")).collect();
    let answers = futures_util::future::join_all(names.iter().cloned().map(add)).await;
    // One that was made upon what another one replaced meanwhile is told so, and tries again.
    let refused: Vec<String> = (names.iter().zip(&answers))
        .filter(|(_, answered)| {
            assert!(matches!(answered.status, 201 | 409), "{} {}", answered.status, answered.body);
            answered.status == 409
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in refused {
        assert_eq!(add(name).await.status, 201);
    }
    let listed = api.get("/api/webhooks/shared/commands").await;
    let there: BTreeSet<&str> =
        listed["items"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.iter().all(|name| there.contains(name.as_str())), "{there:?}");
    let path = ".claude/skills/shared/SKILL.md";
    api.remote(path, |text| text.is_some_and(|text| names.iter().all(|name| text.contains(name.as_str())))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_the_reconciler_is_suspended_is_written_and_says_so_at_once() {
    let api = Api::started(json!({})).await;
    api.post("/api/suspend").await;
    let upload = json!({ "name": "later", "content": own_webhook("later") });
    let written = api.call("POST", "/api/registry/skills/upload", &upload).await;
    assert_eq!((written.status, &written.body["status"]), (202, &json!("written")), "{}", written.body);
    assert!(written.body["note"].as_str().unwrap().contains("suspended"), "{}", written.body);
    assert!(api.service.root().join(".claude/skills/later/SKILL.md").exists());
    // The same file again: nobody's commit is waited for.
    let content = json!({ "content": own_webhook("later").replace("Looks.", "Looks twice.") });
    let again = api.call("PUT", "/api/registry/skills/later/content", &content).await;
    assert_eq!((again.status, &again.body["status"]), (202, &json!("written")), "{}", again.body);
    assert_eq!(api.call("GET", "/api/webhooks/later", &Value::Null).await.status, 404, "it is not in force");
    api.refused("POST", "/api/rollback?revision=HEAD", &Value::Null, 403, "SH0904").await;
    api.post("/api/resume").await;
    api.service.wait_route("/webhooks/github/later", true).await;
    api.remote(".claude/skills/later/SKILL.md", |text| text.is_some_and(|text| text.contains("Looks twice."))).await;
    let deeds = api.get("/api/audit").await;
    let kinds: Vec<&str> = deeds["items"].as_array().unwrap().iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds[..4], ["reconcile.resumed", "change.written", "change.written", "reconcile.suspended"], "{deeds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_in_the_order_that_was_asked_for() {
    let api = Api::started(json!({ "text": "done" })).await;
    for number in 0..5 {
        api.task(&format!("d{number}"), &format!("@agent analyze number {number}")).await;
    }
    for (list, name) in [
        ("tasks", "id"),
        ("deliveries", "id"),
        ("webhooks", "id"),
        ("skills", "name"),
        ("agents", "name"),
        ("providers", "name"),
        ("registry/skills", "name"),
        ("webhooks/github/commands", "name"),
        ("webhooks/events", "id"),
        ("audit", "seq"),
        ("tokens", "id"),
    ] {
        let names = |page: &Value| -> Vec<String> {
            page["items"].as_array().unwrap().iter().map(|item| item[name].to_string()).collect()
        };
        let (all, mut paged, mut cursor) = (names(&api.get(&format!("/api/{list}")).await), Vec::new(), String::new());
        let by = if matches!(list, "tasks" | "deliveries" | "webhooks/events" | "audit") { "before" } else { "after" };
        loop {
            let page = api.get(&format!("/api/{list}?limit=2{cursor}")).await;
            assert!(page["items"].as_array().unwrap().len() <= 2, "{page}");
            paged.extend(names(&page));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&{by}={next}"),
                None => break,
            }
        }
        assert_eq!(paged, all, "{list}");
    }
    for (list, sort) in [("tasks", "created_at"), ("deliveries", "received_at")] {
        let ids = async |query: &str| -> Vec<Value> {
            let page = api.get(&format!("/api/{list}?{query}")).await;
            page["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect()
        };
        let newest = ids("").await;
        let oldest = ids(&format!("sort={sort}")).await;
        assert_eq!(oldest, newest.iter().rev().cloned().collect::<Vec<_>>(), "{list}");
        let behind = ids(&format!("limit=2&after={}", oldest[1].as_str().unwrap())).await;
        assert_eq!(behind, oldest[2..4], "{list}");
        let answered = api.call("GET", &format!("/api/{list}?sort=color"), &Value::Null).await;
        assert_eq!((answered.status, answered.body["code"].as_str()), (400, Some("SH0902")), "{}", answered.body);
    }
    let by_provider = api.get("/api/webhooks?sort=-provider").await;
    let providers: Vec<&str> =
        by_provider["items"].as_array().unwrap().iter().filter_map(|one| one["provider"].as_str()).collect();
    assert!(providers.is_sorted_by(|a, b| a >= b) && providers.len() > 2, "{providers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_tells_who_made_it_and_who_changed_it_last() {
    let api = Api::started(json!({})).await;
    let upload = json!({ "name": "mine", "content": own_webhook("mine") });
    assert_eq!(api.call("POST", "/api/registry/skills/upload", &upload).await.status, 201);
    let made = api.get("/api/webhooks/mine").await;
    assert!(made["created_by"].as_str().unwrap().starts_with("token person"), "{made}");
    assert_eq!((&made["created_at"], &made["is_builtin"]), (&made["updated_at"], &json!(false)), "{made}");
    let listed = api.get("/api/webhooks").await;
    let builtin = listed["items"].as_array().unwrap().iter().find(|one| one["id"] == "github").unwrap();
    assert_eq!((&builtin["created_by"], &builtin["created_at"]), (&json!("skillhook"), &Value::Null), "{builtin}");
    let text = std::fs::read_to_string(api.service.root().join(".claude/skills/mine/SKILL.md")).unwrap();
    assert!(!text.contains("created"), "it is known from git, not from the file: {text}");
}

/// What a program prints that stays.
struct Watching {
    process: std::process::Child,
    out: std::path::PathBuf,
}

impl Watching {
    fn begin(api: &Api, arguments: &[&str]) -> Self {
        let out = api.service.dir.path().join(format!("watched{}", arguments.join("-").replace('/', "_")));
        let file = std::fs::File::create(&out).unwrap();
        Self { process: api.service.command(arguments).stdout(file).spawn().unwrap(), out }
    }

    async fn until(&self, what: &str, is_there: impl Fn(&str) -> bool) {
        let path: &Path = &self.out;
        wait_for(what, || async { is_there(&std::fs::read_to_string(path).unwrap_or_default()) }).await;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_list_shows_what_changes_as_it_changes() {
    let api = Api::started(json!({ "text": "done" })).await;
    let tasks = Watching::begin(&api, &["get", "tasks", "-w", "-o", "json"]);
    let webhooks = Watching::begin(&api, &["get", "webhooks", "-w"]);
    webhooks.until("the list", |text| text.contains("PROVIDER") && text.contains("\ngithub ")).await;
    let task = api.task("d1", "@agent analyze this").await;
    tasks
        .until("the task to end", |text| {
            let of_it = |line: &str| {
                serde_json::from_str::<Value>(line)
                    .is_ok_and(|item| item["id"] == json!(task) && item["state"] == "succeeded")
            };
            text.lines().any(of_it)
        })
        .await;
    let upload = json!({ "name": "watched", "content": own_webhook("watched") });
    assert_eq!(api.call("POST", "/api/registry/skills/upload", &upload).await.status, 201);
    webhooks.until("the new webhook", |text| text.lines().any(|line| line.starts_with("watched "))).await;
    let text = std::fs::read_to_string(&webhooks.out).unwrap();
    assert_eq!(text.matches("PROVIDER").count(), 1, "one heading: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changed_and_replayed_and_made_tokens_is_known_afterwards() {
    let mut api = Api::started(json!({ "text": "done" })).await;
    api.task("d1", "@agent analyze this").await;
    let upload = json!({ "name": "audited", "content": own_webhook("audited") });
    assert_eq!(api.call("POST", "/api/registry/skills/upload", &upload).await.status, 201);
    let again = json!({ "webhook": "github", "dry_run": false });
    assert_eq!(api.call("POST", "/api/deliveries/replay", &again).await.body["count"], 1);
    api.service.terminate();
    api.service.start();
    api.service.wait_ready().await;
    let deeds = api.get("/api/audit?actor=person").await;
    let items = deeds["items"].as_array().unwrap();
    let kinds: Vec<&str> = items.iter().map(|deed| deed["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["delivery.replayed", "change.written"], "{deeds}");
    assert!(items[1]["message"].as_str().unwrap().contains(".claude/skills/audited/SKILL.md"), "{deeds}");
    assert_eq!(api.get("/api/audit?kind=token.*").await["items"][0]["actor"], "local");
    let listed = api.service.command(&["get", "audit"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("delivery.replayed") && listed.contains("token person"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_used_is_told_before_its_end() {
    let api = Api::started(json!({ "text": "done" })).await;
    let task = api.task("d1", "@agent analyze this").await;
    wait_for("the end", || async { api.state(&task).await == "succeeded" }).await;
    let events = api.get("/api/events?limit=1000").await;
    let of_task: Vec<&Value> =
        events["items"].as_array().unwrap().iter().filter(|event| event["task"] == json!(task)).collect();
    let at = |kind: &str| of_task.iter().position(|event| event["kind"] == kind);
    let (used, ended) = (at("task.metrics").unwrap(), at("task.completed").unwrap());
    assert!(used < ended, "{of_task:?}");
    let result = api.get(&format!("/api/tasks/{task}")).await["result"].clone();
    let last = of_task.iter().rfind(|event| event["kind"] == "task.metrics").unwrap();
    for field in ["input_tokens", "output_tokens", "cost_usd", "turns"] {
        assert_eq!(last["used"][field], result[field], "{last}");
    }
    assert!(events["items"].as_array().unwrap().iter().any(|event| event["kind"] == "reconcile.applied"), "{events}");
}
