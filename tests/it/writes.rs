//! The flows of a person's day over HTTP, each write read back from the bare remote: webhooks, commands, skills, agents,
//! secrets; what may not be done; and two people at one file.

use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{Service, issue_comment, own_webhook, sign, wait_for};

/// What was answered: status, `ETag`, body.
pub struct Answered {
    pub status: u16,
    pub etag: Option<String>,
    pub body: Value,
}

/// A running service and a token for everything.
pub struct Api {
    pub service: Service,
    pub token: String,
}

impl Api {
    pub async fn started(agent: Value) -> Self {
        let service = Service::started(agent).await;
        let made = service.command(&["token", "create", "person", "--scope", "admin"]).output().unwrap();
        assert!(made.status.success());
        let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        Self { service, token }
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.service.client.request(method, self.service.admin_url(path)).bearer_auth(&self.token)
    }

    pub async fn answer(request: reqwest::RequestBuilder) -> Answered {
        let answer = request.send().await.unwrap();
        let etag = answer.headers().get("etag").map(|etag| etag.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answered { status, etag, body }
    }

    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Answered {
        let request = self.request(method, path);
        let request = if body.is_null() { request.header("x-skillhook", "1") } else { request.json(body) };
        Self::answer(request).await
    }

    /// A write that is done when it is answered.
    pub async fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let answered = self.call(method, path, body).await;
        assert!(matches!(answered.status, 200 | 201), "{method} {path}: {} {}", answered.status, answered.body);
        assert!(answered.body["commit"].is_string(), "{}", answered.body);
        answered.body
    }

    pub async fn refused(&self, method: &str, path: &str, body: &Value, status: u16, code: &str) -> Value {
        let answered = self.call(method, path, body).await;
        let said = (answered.status, answered.body["code"].as_str().unwrap_or_default());
        assert_eq!(said, (status, code), "{method} {path}: {}", answered.body);
        answered.body
    }

    /// Waits until the bare remote has the file in that way.
    pub async fn remote(&self, path: &str, has: impl Fn(Option<&str>) -> bool) {
        let git_dir = self.service.dir.path().join("remote.git");
        wait_for(&format!("the remote's {path}"), || async {
            let spec = format!("main:{path}");
            let shown = Command::new("git").arg("--git-dir").arg(&git_dir).args(["show", &spec]).output().unwrap();
            let text = shown.status.success().then(|| String::from_utf8_lossy(&shown.stdout).into_owned());
            has(text.as_deref())
        })
        .await;
    }

    pub async fn deliver(&self, path: &str, secret: &str, id: &str, text: &str) -> (u16, Value) {
        let body = issue_comment(1, text).to_string();
        let signature = format!("sha256={}", hex::encode(sign(secret, body.as_bytes())));
        let request = self.service.client.post(self.service.url(path)).header("content-type", "application/json");
        let request = request.header("x-github-event", "issue_comment").header("x-github-delivery", id);
        let answer = request.header("x-hub-signature-256", signature).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }
}

fn reviews() -> Value {
    json!({
        "provider": "github",
        "id": "reviews",
        "secret": "hunter2-of-the-reviews",
        "command_prefix": "@agent",
        "allow": { "permission": "any" },
        "commands": [{ "name": "look", "prompt_template": "Look at {{ args }}.", "target_agent": "brain" }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_made_used_edited_disabled_and_removed() {
    let api = Api::started(json!({ "text": "I looked." })).await;
    let made = api.done("POST", "/api/webhooks", &reviews()).await;
    assert_eq!((&made["webhook"], &made["generation"]), (&json!("reviews"), &json!(1)), "{made}");
    let path = ".claude/skills/reviews/SKILL.md";
    api.remote(path, |text| text.is_some_and(|text| text.contains("age:") && !text.contains("hunter2"))).await;

    let (address, secret) = ("/webhooks/github/reviews", "hunter2-of-the-reviews");
    let (status, accepted) = api.deliver(address, secret, "d1", "@agent look here").await;
    assert_eq!(status, 202, "{accepted}");
    let task = format!("/api/tasks/{}", accepted["tasks"][0].as_str().unwrap());
    wait_for("the run", || async { api.call("GET", &task, &Value::Null).await.body["state"] == "succeeded" }).await;
    wait_for("the reply", || async { api.service.github.comments().iter().any(|said| said.contains("I looked.")) })
        .await;

    let command = json!([{ "name": "see", "prompt_template": "See {{ args }}.", "target_agent": "brain" }]);
    let edited = api.done("PUT", "/api/webhooks/reviews", &json!({ "commands": command })).await;
    assert_eq!(edited["generation"], 2, "{edited}");
    let (_, ignored) = api.deliver(address, secret, "d2", "@agent look again").await;
    assert_eq!(ignored["status"], "ignored", "{ignored}");

    api.done("POST", "/api/webhooks/reviews/disable", &Value::Null).await;
    assert_eq!(api.deliver(address, secret, "d3", "@agent see").await.0, 403);
    api.remote(path, |text| text.is_some_and(|text| text.contains("enabled: false"))).await;
    api.done("POST", "/api/webhooks/reviews/enable", &Value::Null).await;
    assert_eq!(api.deliver(address, secret, "d4", "@agent see this").await.0, 202);

    api.done("DELETE", "/api/webhooks/reviews", &Value::Null).await;
    assert_eq!(api.deliver(address, secret, "d5", "@agent see").await.0, 404);
    api.remote(path, |text| text.is_some_and(|text| !text.contains("webhook_config"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_added_to_a_built_in_webhook_and_its_own_stay() {
    let api = Api::started(json!({})).await;
    let names = async || -> Vec<String> {
        let listed = api.call("GET", "/api/webhooks/github/commands", &Value::Null).await.body;
        let named = listed["items"].as_array().unwrap().iter();
        named.map(|command| command["name"].as_str().unwrap().to_owned()).collect()
    };
    let before = names().await;
    let deploy = json!({ "name": "deploy", "prompt_template": "Deploy {{ args }}.", "target_agent": "brain" });
    api.done("POST", "/api/webhooks", &json!({ "provider": "github", "commands": [deploy] })).await;
    let after = names().await;
    assert!(after.len() == before.len() + 1 && after.contains(&"deploy".to_owned()), "{after:?}");
    api.refused("POST", "/api/webhooks", &json!({ "provider": "github", "commands": [deploy] }), 409, "SH0903").await;

    let mine = json!({ "name": "analyze", "prompt_template": "My own way.", "target_agent": "brain" });
    api.done("POST", "/api/webhooks/github/commands", &mine).await;
    assert_eq!(names().await.len(), after.len());
    let webhook = api.call("GET", "/api/webhooks/github", &Value::Null).await.body;
    assert!(webhook["spec"]["commands"].to_string().contains("My own way."), "{webhook}");
    let file = ".claude/skills/github-commands/SKILL.md";
    api.remote(file, |text| text.is_some_and(|text| text.contains("deploy") && text.contains("My own way."))).await;

    api.done("DELETE", "/api/webhooks/github/commands/deploy", &Value::Null).await;
    api.refused("DELETE", "/api/webhooks/github/commands/review", &Value::Null, 409, "SH0722").await;
    api.refused("DELETE", "/api/webhooks/github", &Value::Null, 409, "SH0722").await;
    for fixed in [json!({ "endpoint": "/webhooks/github/x" }), json!({ "secret": "hunter2-in-plain" })] {
        api.refused("PUT", "/api/webhooks/static/github", &fixed, 403, "SH0904").await;
    }
    api.done("PUT", "/api/webhooks/static/github", &json!({ "command_prefix": "@robot" })).await;
    assert_eq!(api.call("PUT", "/api/webhooks/static/nobody", &json!({ "enabled": true })).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skill_is_live_when_its_upload_is_answered_and_gone_when_it_is_deleted() {
    let api = Api::started(json!({})).await;
    let upload = json!({
        "name": "uploaded",
        "content": own_webhook("uploaded"),
        "files": { "scripts/run.sh": "#!/bin/sh\necho hello\n" },
    });
    let made = api.call("POST", "/api/registry/skills/upload", &upload).await;
    assert_eq!((made.status, &made.body["webhook"]), (201, &json!("uploaded")), "{}", made.body);
    let status = |path: &str| api.service.client.post(api.service.url(path)).body("{}").send();
    assert_ne!(status("/webhooks/github/uploaded").await.unwrap().status(), 404);
    api.remote(".claude/skills/uploaded/scripts/run.sh", |text| text.is_some()).await;

    let renamed = own_webhook("uploaded").replace("id: uploaded", "id: renamed");
    let read = api.call("GET", "/api/registry/skills/uploaded/content", &Value::Null).await;
    assert_eq!((read.body.as_str().unwrap(), read.etag == made.etag), (own_webhook("uploaded").as_str(), true));
    let put = api.request("PUT", "/api/registry/skills/uploaded/content").header("content-type", "text/markdown");
    let put = Api::answer(put.header("if-match", read.etag.as_ref().unwrap()).body(renamed.clone())).await;
    assert_eq!(put.status, 200, "{}", put.body);
    assert_ne!(status("/webhooks/github/renamed").await.unwrap().status(), 404);
    assert_eq!(status("/webhooks/github/uploaded").await.unwrap().status(), 404);
    api.remote(".claude/skills/uploaded/SKILL.md", |text| text == Some(renamed.as_str())).await;

    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nformed\r\n--x\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"SKILL.md\"\r\n\r\n{}\r\n--x--\r\n",
        own_webhook("formed")
    );
    let made = api.request("POST", "/api/registry/skills/upload");
    let made = Api::answer(made.header("content-type", "multipart/form-data; boundary=x").body(form)).await;
    assert_eq!((made.status, &made.body["webhook"]), (201, &json!("formed")), "{}", made.body);

    api.done("DELETE", "/api/registry/skills/uploaded", &Value::Null).await;
    assert_eq!(status("/webhooks/github/renamed").await.unwrap().status(), 404);
    api.remote(".claude/skills/uploaded/SKILL.md", |text| text.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_at_one_file_lose_nothing_of_each_other() {
    let api = Api::started(json!({})).await;
    let upload = json!({ "name": "both", "content": own_webhook("both") });
    let seen = api.call("POST", "/api/registry/skills/upload", &upload).await.etag.unwrap();
    let write = |line: &str| {
        let content = json!({ "content": format!("{}\n{line}\n", own_webhook("both")) });
        api.request("PUT", "/api/registry/skills/both/content").header("if-match", &seen).json(&content)
    };
    let (one, other) = tokio::join!(Api::answer(write("Written by one.")), Api::answer(write("Written by the other.")));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412], "{} {}", one.body, other.body);
    let (won, lost) = if one.status == 200 { (one, other) } else { (other, one) };
    assert_eq!((lost.body["code"].as_str(), &lost.etag), (Some("SH0812"), &won.etag), "{}", lost.body);
    assert_eq!(lost.body["etag"].as_str().map(str::to_owned), won.etag);
    let now = api.call("GET", "/api/registry/skills/both/content", &Value::Null).await;
    assert_eq!(now.etag, won.etag);
    let again = api.request("PUT", "/api/registry/skills/both/content").header("if-none-match", "*");
    assert_eq!(Api::answer(again.json(&json!({ "content": own_webhook("both") }))).await.status, 412);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_made_edited_and_deleted_unless_a_command_names_them() {
    let api = Api::started(json!({})).await;
    let agent = |text: &str| format!("---\nname: gardener\ndescription: Tends the garden.\n---\n{text}\n");
    let made = json!({ "name": "gardener", "content": agent("Water the plants.") });
    let made = api.call("POST", "/api/registry/agents/upload", &made).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let content = json!({ "content": agent("Cut the hedge.") });
    api.done("PUT", "/api/registry/agents/gardener/content", &content).await;
    let path = ".claude/agents/gardener.md";
    api.remote(path, |text| text.is_some_and(|text| text.contains("Cut the hedge."))).await;
    let command = json!({ "name": "tend", "prompt_template": "Tend {{ args }}.", "target_agent": "gardener" });
    api.done("POST", "/api/webhooks/github/commands", &command).await;
    let refused = api.refused("DELETE", "/api/registry/agents/gardener", &Value::Null, 409, "SH0721").await;
    assert!(refused.to_string().contains("tend") || refused.to_string().contains("github"), "{refused}");
    api.done("DELETE", "/api/webhooks/github/commands/tend", &Value::Null).await;
    api.done("DELETE", "/api/registry/agents/gardener", &Value::Null).await;
    api.remote(path, |text| text.is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_valid_is_refused_whole_and_named() {
    let api = Api::started(json!({})).await;
    let mut unknown = reviews();
    unknown["comands"] = json!([]);
    let refused = api.refused("POST", "/api/webhooks", &unknown, 422, "SH0720").await;
    assert!(refused["diagnostics"].to_string().contains("comands"), "{refused}");
    let plain = own_webhook("plain").replace("secret_env_var: GITHUB_WEBHOOK_SECRET", "secret: hunter2-in-plain");
    let upload = json!({ "name": "plain", "content": plain });
    let refused = api.refused("POST", "/api/registry/skills/upload", &upload, 422, "SH0720").await.to_string();
    assert!(refused.contains("skillhook seal") && !refused.contains("hunter2"), "{refused}");
    for name in ["../../etc/passwd", "a/b", "..", ".git", "-rf", "a\\..\\b", &"a".repeat(200)] {
        let upload = json!({ "name": name, "content": own_webhook("x") });
        api.refused("POST", "/api/registry/skills/upload", &upload, 400, "SH0902").await;
    }
    for path in ["../escaped", "/etc/passwd", ".git/config", "a/../../b"] {
        let upload = json!({ "name": "safe", "content": own_webhook("safe"), "files": { path: "x" } });
        let answered = api.call("POST", "/api/registry/skills/upload", &upload).await;
        assert_eq!(answered.status / 100, 4, "{path}: {}", answered.body);
    }
    let skills = api.service.root().join(".claude/skills");
    assert!(["reviews", "plain", "safe"].iter().all(|name| !skills.join(name).exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_with_the_same_key_is_done_once() {
    let api = Api::started(json!({})).await;
    let keyed = |key: &str, body: Value| {
        Api::answer(api.request("POST", "/api/webhooks").header("idempotency-key", key).json(&body))
    };
    let first = keyed("k1", reviews()).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let again = keyed("k1", reviews()).await;
    assert_eq!((again.status, &again.body), (201, &first.body));
    assert_eq!(keyed("k2", reviews()).await.status, 409);
    let mut other = reviews();
    other["id"] = json!("others");
    let reused = keyed("k1", other).await;
    assert_eq!((reused.status, reused.body["code"].as_str()), (422, Some("SH0813")), "{}", reused.body);
    let token = api.request("POST", "/api/tokens").header("idempotency-key", "k3");
    assert_eq!(Api::answer(token.json(&json!({ "name": "x", "scopes": ["read"] }))).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_tried_and_then_sent_again() {
    let api = Api::started(json!({ "text": "done" })).await;
    api.service.comment(1, "d1", "@agent analyze this").await.unwrap();
    let listed = api.call("GET", "/api/webhooks/events", &Value::Null).await.body;
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    let tried = api.call("POST", "/api/deliveries/replay", &json!({ "webhook": "github" })).await.body;
    assert_eq!((&tried["count"], &tried["dry_run"]), (&json!(1), &json!(true)), "{tried}");
    let would = &tried["items"][0]["would"][0];
    assert_eq!(would["tasks"][0]["command"], "analyze", "{tried}");
    assert_eq!(api.call("GET", "/api/deliveries", &Value::Null).await.body["items"].as_array().unwrap().len(), 1);

    let done = api.call("POST", "/api/deliveries/replay", &json!({ "deliveries": [id], "dry_run": false })).await.body;
    let again = &done["items"][0]["again"][0];
    assert!(again["tasks"][0].is_string() && again["delivery"] != json!(id), "{done}");
    let events = api.call("GET", "/api/events?limit=1000", &Value::Null).await.body;
    let replayed = events["items"].as_array().unwrap().iter().find(|event| event["kind"] == "delivery.replayed");
    assert!(replayed.unwrap()["actor"].as_str().unwrap().starts_with("token person"), "{events}");
    let stats = api.call("GET", "/api/webhooks/stats", &Value::Null).await.body;
    assert_eq!((&stats["items"][0]["deliveries"], &stats["items"][0]["tasks"]), (&json!(2), &json!(2)), "{stats}");
    api.refused("POST", "/api/deliveries/replay", &json!({}), 400, "SH0902").await;

    let test =
        api.call("POST", "/api/webhooks/github/test", &json!({ "sample": "github.issue_comment.created" })).await;
    assert!(test.body["would"][0]["rules"].is_array(), "{}", test.body);
}
