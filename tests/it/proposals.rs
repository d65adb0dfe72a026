//! Changes that may not be pushed: a branch by itself, one pull request that follows it, and what becomes of it.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use warp::Filter as _;

use crate::gitops::{Elsewhere, head, reconcile, remote, wait_level, wait_remote_state};
use crate::service::{Service, git, own_webhook, wait_for};

/// What the stand-in for GitHub's API was asked, and the pull requests that it has.
#[derive(Clone, Default)]
struct Provider {
    asked: Arc<Mutex<Vec<(String, String, Value)>>>,
    pulls: Arc<Mutex<Vec<Value>>>,
}

impl Provider {
    async fn start(&self) -> String {
        let this = self.clone();
        let filter = warp::method()
            .and(warp::path::full())
            .and(warp::query::raw().or(warp::any().map(String::new)).unify())
            .and(warp::header::<String>("authorization"))
            .and(warp::body::bytes())
            .map(move |method: warp::http::Method, path: warp::path::FullPath, query: String, token: String, body| {
                assert_eq!(token, "Bearer ghp_test_token_that_must_stay_secret");
                let body: bytes::Bytes = body;
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let (status, answer) = this.answer(method.as_str(), path.as_str(), &query, body);
                warp::reply::with_status(warp::reply::json(&answer), status)
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(warp::serve(filter).incoming(listener).run());
        base
    }

    fn answer(&self, method: &str, path: &str, query: &str, body: Value) -> (warp::http::StatusCode, Value) {
        use warp::http::StatusCode;
        self.asked.lock().unwrap().push((method.to_owned(), path.to_owned(), body.clone()));
        let mut pulls = self.pulls.lock().unwrap();
        match (method, path) {
            ("GET", "/repos/octo/hooks/pulls") => {
                let wanted = |pull: &&Value| query.contains(&urlencoded(pull["head"].as_str().unwrap()));
                (StatusCode::OK, json!(pulls.iter().rev().filter(wanted).take(1).collect::<Vec<_>>()))
            }
            ("POST", "/repos/octo/hooks/pulls") => {
                let mut pull = body;
                pull["number"] = json!(pulls.len() + 1);
                pull["html_url"] = json!(format!("https://github.example/octo/hooks/pull/{}", pulls.len() + 1));
                (pull["state"], pull["merged_at"]) = (json!("open"), Value::Null);
                pulls.push(pull.clone());
                (StatusCode::CREATED, pull)
            }
            ("PATCH", "/repos/octo/hooks/pulls/1") => {
                pulls[0]["body"] = body["body"].clone();
                (StatusCode::OK, pulls[0].clone())
            }
            ("POST", path) if path.starts_with("/repos/octo/hooks/statuses/") => (StatusCode::CREATED, json!({})),
            _ => (StatusCode::NOT_FOUND, json!({"message": "Not Found"})),
        }
    }

    fn pulls(&self) -> Vec<Value> {
        self.pulls.lock().unwrap().clone()
    }

    fn marks(&self) -> Vec<(String, Value)> {
        let asked = self.asked.lock().unwrap();
        let marks = asked.iter().filter_map(|(_, path, body)| {
            Some((path.strip_prefix("/repos/octo/hooks/statuses/")?.to_owned(), body.clone()))
        });
        marks.collect()
    }
}

fn urlencoded(text: &str) -> String {
    text.replace('/', "%2F")
}

/// A service whose remote takes pushes to `main` only while the file `allow` exists there.
async fn protected(provider: &Provider) -> Service {
    let mut service = Service::prepared(json!({})).await;
    let base = provider.start().await;
    service.set_api_base(&base);
    service.add_settings("[git]\nprovider = \"github\"\nrepository = \"octo/hooks\"\n");
    let hook = remote(&service).join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    let script = "#!/bin/sh\nwhile read -r old new ref; do\n  if [ \"$ref\" = refs/heads/main ] && [ ! -e allow ]; then\n    \
                  echo 'protected branch: changes must be made through a pull request' >&2; exit 1\n  fi\ndone\n";
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    service.start();
    service.wait_ready().await;
    service
}

async fn proposal(service: &Service) -> Value {
    service.api("/api/status").await["git"]["proposals"][0].clone()
}

#[tokio::test]
async fn a_refused_push_becomes_one_pull_request_that_follows_and_ends_with_the_merge() {
    let provider = Provider::default();
    let service = protected(&provider).await;
    service.write_skill("mine", &own_webhook("mine"));
    // In force here at once, under review there.
    service.wait_route("/webhooks/github/mine", true).await;
    wait_for("the pull request", || async { provider.pulls().len() == 1 }).await;
    wait_for("its state", || async { proposal(&service).await["review"]["state"] == "open" }).await;
    let (pull, shown) = (provider.pulls()[0].clone(), proposal(&service).await);
    assert_eq!((&pull["base"], &pull["head"]), (&json!("main"), &shown["branch"]));
    let text = pull["body"].as_str().unwrap();
    assert!(text.contains("create webhook/mine") && text.contains(".claude/skills/mine/SKILL.md"), "{text}");
    assert_eq!(shown["review"]["url"], pull["html_url"]);
    let branch = shown["branch"].as_str().unwrap().to_owned();
    // Another edit brings the same one up to date.
    service.write_skill("more", &own_webhook("more"));
    wait_for("the update", || async { provider.pulls()[0]["body"].as_str().unwrap().contains("webhook/more") }).await;
    assert_eq!(provider.pulls().len(), 1);
    assert_eq!(git(&remote(&service), &["rev-parse", &branch]), head(&service.root()));
    // Somebody squashes it.
    std::fs::write(remote(&service).join("allow"), "").unwrap();
    let elsewhere = Elsewhere::of(&service);
    git(&elsewhere.clone, &["merge", "-q", "--squash", &format!("origin/{branch}")]);
    elsewhere.merge("reviewed");
    provider.pulls.lock().unwrap()[0]["merged_at"] = json!("2026-01-01T00:00:00Z");
    provider.pulls.lock().unwrap()[0]["state"] = json!("closed");
    reconcile(&service, &[]).await;
    wait_level(&service).await;
    wait_for("the end of the proposal", || async { proposal(&service).await.is_null() }).await;
    assert_eq!(git(&remote(&service), &["log", "-1", "--format=%s", "main"]), "reviewed");
    service.wait_route("/webhooks/github/more", true).await;
    // And the commit is marked.
    let merged = head(&remote(&service));
    let good = |(commit, mark): &(String, Value)| *commit == merged && mark["state"] == "success";
    wait_for("the mark", || async { provider.marks().iter().any(good) }).await;
    assert_eq!(provider.marks().last().unwrap().1["context"], "skillhook/reconcile");
}

#[tokio::test]
async fn a_change_that_is_proposed_is_answered_with_its_pull_request() {
    let provider = Provider::default();
    let service = protected(&provider).await;
    let made = service.command(&["token", "create", "ann", "--scope", "write"]).output().unwrap();
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let upload = json!({ "name": "offered", "content": own_webhook("offered") });
    let request = service.client.post(service.admin_url("/api/registry/skills/upload?propose=true"));
    let answer = request.bearer_auth(&token).json(&upload).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let applied: Value = answer.json().await.unwrap();
    assert_eq!(applied["status"], "proposed", "{applied}");
    let pulls = provider.pulls();
    assert_eq!((pulls.len(), &pulls[0]["html_url"]), (1, &applied["pr_url"]), "{applied}");
    assert_eq!(pulls[0]["head"], applied["branch"]);
    assert!(!service.root().join(".claude/skills/offered").exists(), "nothing is written before it is merged");
}

#[tokio::test]
async fn without_a_token_there_is_a_branch_and_a_page() {
    let provider = Provider::default();
    let mut service = protected(&provider).await;
    service.kill();
    service.unset_env("TEST_GITHUB_TOKEN");
    service.start();
    service.wait_ready().await;
    service.write_skill("mine", &own_webhook("mine"));
    wait_for("the branch", || async { proposal(&service).await["page"].is_string() }).await;
    let shown = proposal(&service).await;
    let branch = shown["branch"].as_str().unwrap();
    assert_eq!(shown["review"], Value::Null);
    assert_eq!(shown["page"], format!("https://localhost/octo/hooks/compare/main...{branch}?expand=1"));
    assert_eq!(git(&remote(&service), &["rev-parse", branch]), head(&service.root()));
    wait_remote_state(&service, "the reason", |git| git["pushed"]["trouble"].is_string()).await;
    assert!(provider.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_closed_pull_request_is_not_opened_again_for_the_same_change() {
    let provider = Provider::default();
    let service = protected(&provider).await;
    service.write_skill("mine", &own_webhook("mine"));
    wait_for("the pull request", || async { proposal(&service).await["review"]["state"] == "open" }).await;
    provider.pulls.lock().unwrap()[0]["state"] = json!("closed");
    wait_for("the end of the proposal", || async { proposal(&service).await.is_null() }).await;
    reconcile(&service, &[]).await;
    reconcile(&service, &[]).await;
    assert_eq!(provider.pulls().len(), 1);
    service.write_skill("other", &own_webhook("other"));
    wait_for("a new one", || async { provider.pulls().len() == 2 }).await;
}
