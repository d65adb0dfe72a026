//! Secrets that are planted everywhere a secret may be, and looked for everywhere one must not be: answers, errors, logs,
//! metrics, events, git objects, databases, prompts, arguments and environments of runs, and what is said at the source.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use skillhook::http::api::table::ROUTES;

use crate::service::{SECRET, Service, issue_comment, sign, wait_for};

// They share no part, so that no packed row holds one as a reference to another.
const SEALED: &str = "q7Zt0vKxw2LmBn8RyPj5";
const IN_A_FILE: &str = "Hd4sUe9FgCi1AoT6XzNb";
const SET_LATER: &str = "3kWrVq0JlMyE7uGpDf2S";
const AGENT_KEY: &str = "sk-ant-Yt5hBcRn8Ox1Zq";
const TOKEN_OF_CALLS: &str = "ghp_test_token_that_must_stay_secret";

fn holds(text: &[u8], secret: &str) -> bool {
    text.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// What was said where.
#[derive(Default)]
struct Said(Vec<(String, Vec<u8>)>);

impl Said {
    fn add(&mut self, place: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.push((place.into(), text.into()));
    }

    fn is_without(&self, secrets: &[&str]) {
        let found: Vec<(&str, &str)> = secrets
            .iter()
            .flat_map(|secret| {
                let places = self.0.iter().filter(|(_, text)| holds(text, secret));
                places.map(|(place, _)| (*secret, place.as_str()))
            })
            .collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

async fn send(service: &Service, token: &str, method: &str, path: &str, body: &Value) -> String {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let request = service.client.request(method, service.admin_url(path)).bearer_auth(token);
    let request = if body.is_null() { request.header("x-skillhook", "1") } else { request.json(body) };
    let answer = request.send().await.unwrap();
    format!("{:?} {}", answer.headers().clone(), answer.text().await.unwrap())
}

async fn deliver(service: &Service, path: &str, secret: &str, text: &str) -> (u16, String) {
    let body = issue_comment(1, text).to_string();
    let signature = format!("sha256={}", hex::encode(sign(secret, body.as_bytes())));
    let request = service.client.post(service.url(path)).header("x-github-event", "issue_comment");
    let request = request.header("content-type", "application/json").header("x-github-delivery", text);
    let answer = request.header("x-hub-signature-256", signature).body(body).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

fn every_file(directory: &Path, said: &mut Said) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            every_file(&path, said);
        } else if kind.is_file() {
            said.add(path.display().to_string(), std::fs::read(&path).unwrap_or_default());
        }
    }
}

/// Every object of a repository, also those that nothing leads to.
fn every_object(repository: &Path) -> Vec<u8> {
    let shown = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(["cat-file", "--batch-all-objects", "--batch"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(shown.status.success() && shown.stdout.len() > 1_000, "{}", String::from_utf8_lossy(&shown.stderr));
    shown.stdout
}

/// Secrets in files, the environment, and sealed through the API.
async fn planted(service: &mut Service) -> String {
    let keys = service.root().join(".skillhook/keys");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::write(keys.join("filed"), IN_A_FILE).unwrap();
    service.set_env("ANTHROPIC_API_KEY", AGENT_KEY);
    service.start();
    service.wait_ready().await;
    let made = service.command(&["token", "create", "x", "--scope", "admin"]).output().unwrap();
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Webhooks are made with secrets, and values are sent where they are of the wrong kind, at the wrong place, or no JSON.
async fn writes(service: &Service, token: &str, said: &mut Said) {
    let command = json!([{ "name": "look", "prompt_template": "Look at {{ args }}.", "target_agent": "brain" }]);
    let webhook = |id: &str, key: &str, secret: &str| {
        json!({
            "provider": "github", "id": id, "command_prefix": "@agent", "allow": { "permission": "any" },
            "commands": command, (key): secret,
        })
    };
    for body in [webhook("sealed", "secret", SEALED), webhook("filed", "secret_file", "filed")] {
        let answer = send(service, token, "POST", "/api/webhooks", &body).await;
        assert!(answer.contains("\"commit\""), "{answer}");
        said.add("making", answer);
    }
    for (method, path, body) in [
        ("PUT", "/api/secrets/sealed", json!({ "value": SEALED, "slot": 7 })),
        ("PUT", "/api/secrets/sealed", json!({ "valeu": SEALED })),
        ("PUT", "/api/secrets/nobody", json!({ "value": SEALED })),
        ("PUT", "/api/webhooks/sealed", json!({ "secret": { "a": SEALED } })),
        ("PUT", "/api/webhooks/sealed", json!({ "secrets": [SEALED] })),
        ("PUT", "/api/webhooks/static/github", json!({ "secret": SEALED })),
        ("POST", "/api/tokens", json!({ "name": "x", "scopes": [SEALED] })),
    ] {
        let answer = send(service, token, method, path, &body).await;
        assert!(answer.contains("SH0"), "{method} {path} {body}: {answer}");
        said.add(format!("{method} {path} {body}").replace(SEALED, "…"), answer);
    }
    let skill = format!(
        "---\nname: plain\ndescription: Plain.\nwebhook_config:\n  provider: github\n  id: plain\n  secret: {SEALED}\n---\n"
    );
    let upload = json!({ "name": "plain", "content": skill });
    let answer = send(service, token, "POST", "/api/registry/skills/upload", &upload).await;
    assert!(answer.contains("SH0"), "{answer}");
    said.add("a skill with a plain secret", answer);
    let set = format!("printf %s '{SET_LATER}' | {} secret set sealed --keep-old 1h", env!("CARGO_BIN_EXE_skillhook"));
    let set = Command::new("sh").args(["-c", &set]).current_dir(service.root()).output().unwrap();
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    said.add("secret set", [set.stdout, set.stderr].concat());
}

/// A run that waits is looked at from outside.
async fn looks_at_a_run(service: &Service, token: &str, said: &mut Said) {
    let runs = || -> Vec<String> { service.journal().into_iter().filter(|line| line.starts_with("start ")).collect() };
    let before = runs().len();
    service.comment(1, "slow", r#"@agent analyze fake-agent:{"seconds":600}"#).await.unwrap();
    let begun = || runs().get(before).cloned();
    wait_for("the slow run", || async {
        let running = send(service, token, "GET", "/api/tasks?state=running", &Value::Null).await;
        running.contains("\"running\"") && begun().is_some()
    })
    .await;
    let line = begun().unwrap();
    let process = line.split(' ').nth(2).unwrap().to_owned();
    let arguments = std::fs::read(format!("/proc/{process}/cmdline")).unwrap();
    let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap();
    assert!(!arguments.is_empty() && holds(&environment, AGENT_KEY), "the run gets its own key");
    said.add("the arguments of a run", arguments);
    let environment = String::from_utf8_lossy(&environment).replace(AGENT_KEY, "");
    said.add("the environment of a run", environment);
    let answer =
        service.client.get(service.admin_url("/api/tasks?state=running")).bearer_auth(token).send().await.unwrap();
    let running: Value = answer.json().await.unwrap();
    let task = running["items"][0]["id"].as_str().unwrap();
    send(service, token, "POST", &format!("/api/tasks/{task}/cancel"), &Value::Null).await;
    wait_for("its end", || async {
        !send(service, token, "GET", "/api/tasks?state=running", &Value::Null).await.contains("\"running\"")
    })
    .await;
}

/// Everything that can be read, through the API and through the program.
async fn reads(service: &Service, token: &str, said: &mut Said) {
    let first = async |path: &str| -> String {
        let answer = service.client.get(service.admin_url(path)).bearer_auth(token).send().await.unwrap();
        let listed: Value = answer.json().await.unwrap();
        listed["items"][0]["id"].as_str().unwrap_or("none").to_owned()
    };
    let (task, delivery) = (first("/api/tasks").await, first("/api/deliveries").await);
    for route in ROUTES.iter().filter(|route| route.method == "GET" && route.path != "/api/stream") {
        let id = match route.path {
            path if path.starts_with("/api/tasks") => task.as_str(),
            path if path.starts_with("/api/deliveries") => delivery.as_str(),
            _ => "sealed",
        };
        let path = route.path.replace("{id}", id).replace("{name}", "sealed");
        let query = match route.path {
            "/api/deliveries/{id}" => "?body=true",
            "/api/diff" | "/api/plan" => "?from=HEAD~1",
            "/api/events" => "?limit=1000",
            _ => "",
        };
        said.add(path.clone(), send(service, token, "GET", &format!("{path}{query}"), &Value::Null).await);
    }
    let task = format!("task/{task}");
    for arguments in [
        &["describe", "webhook/sealed", "-o", "yaml"][..],
        &["describe", task.as_str()],
        &["get", "deliveries", "-o", "wide"],
        &["get", "audit", "-o", "json"],
        &["secret", "list"],
        &["token", "list"],
        &["events"],
        &["history"],
        &["diff", "HEAD~1"],
        &["doctor"],
        &["validate"],
        &["status", "-o", "json"],
    ] {
        let output = service.command(arguments).output().unwrap();
        said.add(arguments.join(" "), [output.stdout, output.stderr].concat());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_secret_is_found_nowhere() {
    // An agent that would tell whatever it found out.
    let told = format!("done; {SECRET} {TOKEN_OF_CALLS} {IN_A_FILE} {SEALED} {SET_LATER} {AGENT_KEY}");
    let mut service = Service::prepared(json!({ "text": told })).await;
    let token = planted(&mut service).await;
    let mut said = Said::default();
    writes(&service, &token, &mut said).await;
    for (path, secret, text, status) in [
        ("/webhooks/github/sealed", SEALED, "@agent look at the first", 202),
        ("/webhooks/github/sealed", SET_LATER, "@agent look at the second", 202),
        ("/webhooks/github/filed", IN_A_FILE, "@agent look at the third", 202),
        ("/webhooks/github/filed", SEALED, "@agent look at the fourth", 401),
        ("/webhooks/github/nobody", SEALED, "@agent look at the fifth", 404),
    ] {
        let (answered, text) = deliver(&service, path, secret, text).await;
        assert_eq!(answered, status, "{path}: {text}");
        said.add(format!("the answer of {path}"), text);
    }
    service.comment(1, "d9", "@agent analyze this").await.unwrap();
    wait_for("the runs", || async {
        let tasks = send(&service, &token, "GET", "/api/tasks?state=succeeded", &Value::Null).await;
        tasks.matches("\"succeeded\"").count() >= 4 && service.github.comments().len() >= 4
    })
    .await;
    looks_at_a_run(&service, &token, &mut said).await;
    let listed = send(&service, &token, "GET", "/api/secrets", &Value::Null).await;
    assert!(listed.contains("\"set\"") && listed.contains("sealed"), "{listed}");
    reads(&service, &token, &mut said).await;
    for comment in service.github.comments() {
        said.add("a comment at the source", comment);
    }
    assert!(service.terminate());

    // The operator's own file is where that one belongs.
    let filed = service.root().join(".skillhook/keys/filed");
    every_file(&service.root(), &mut said);
    said.0.retain(|(place, _)| *place != filed.display().to_string());
    for database in ["ledger.redb", "index.redb"] {
        assert!(said.0.iter().any(|(place, bytes)| place.ends_with(database) && !bytes.is_empty()), "{database}");
    }
    said.add("the objects of the repository", every_object(&service.root()));
    said.add("the objects of the remote", every_object(&service.dir.path().join("remote.git")));
    said.add("the log", std::fs::read(service.dir.path().join("service.log")).unwrap());
    let of_token = token.rsplit('_').next().unwrap().to_owned();
    assert!(of_token.len() > 20, "the part of a token that is secret");
    said.is_without(&[SECRET, TOKEN_OF_CALLS, &of_token, SEALED, IN_A_FILE, SET_LATER, AGENT_KEY]);
}
