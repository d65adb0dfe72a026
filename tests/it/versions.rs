//! History, differences, plans and the way back, through the program and the running service.

use serde_json::{Value, json};

use crate::gitops::{assert_whole, remote, skill, wait_level};
use crate::service::{Service, git, own_webhook};

fn run(service: &Service, arguments: &[&str]) -> (i32, String, String) {
    let output = service.command(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

async fn version(service: &Service, word: &str) {
    service.write_skill("mine", &own_webhook("mine").replace("Looks.", word));
    crate::service::wait_for("the version to be in force", || async {
        service.api("/api/webhooks").await.to_string().contains("\"mine\"")
            && service.api("/api/webhooks/mine").await["spec"]["commands"].to_string().contains(word)
    })
    .await;
    wait_level(service).await;
}

#[tokio::test]
async fn a_rollback_is_a_new_commit_that_is_in_force_and_pushed() {
    let service = Service::started(json!({})).await;
    version(&service, "First.").await;
    version(&service, "Second.").await;
    let (code, out, _) = run(&service, &["history", "-o", "json"]);
    let history: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, history.as_array().map(Vec::len)), (0, Some(2)), "{out}");
    assert_eq!(history[0]["origin"], "file");
    let (code, out, _) = run(&service, &["diff", "HEAD~1", "--exit-code"]);
    assert_eq!(code, 1);
    assert!(out.contains("-      description: First.") && out.contains("+      description: Second."), "{out}");
    let (code, out, _) = run(&service, &["plan", "HEAD", "--of", "HEAD~1", "-o", "json"]);
    assert_eq!(code, 0);
    assert!(out.contains("\"mine\"") && out.contains("update"), "{out}");
    let (code, _, said) = run(&service, &["rollback", "HEAD~1"]);
    assert_eq!(code, 2, "nobody was asked: {said}");
    let (code, out, said) = run(&service, &["rollback", "HEAD~1", "--yes", "-o", "json"]);
    assert_eq!(code, 0, "{said}");
    let done: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&done["in_force"], &done["paths"]), (&json!(true), &json!([skill("mine")])));
    let webhook = service.api("/api/webhooks/mine").await;
    assert!(webhook["spec"]["commands"].to_string().contains("First."), "{webhook}");
    wait_level(&service).await;
    let title = git(&remote(&service), &["log", "-1", "--format=%s", "main"]);
    assert!(title.starts_with("roll back to "), "{title}");
    assert_eq!(run(&service, &["rollback", "HEAD", "--yes"]).0, 4);
    assert_eq!(run(&service, &["rollback", "nowhere", "--yes"]).0, 3);
    let api = service.api("/api/history?limit=1").await;
    assert_eq!(api["items"][0]["origin"], "restore");
    let plan = service.api("/api/plan?from=HEAD&to=HEAD~1").await;
    assert!(plan["actions"].to_string().contains("mine"), "{plan}");
    assert_whole(&service);
}

#[tokio::test]
async fn findings_take_the_forms_of_other_programs_and_jobs_are_laid_down() {
    let service = Service::prepared(json!({})).await;
    service.write_skill("bad", "---\nname: bad\n---\n");
    let (code, out, _) = run(&service, &["validate", "--format", "gitlab"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report[0]["location"]["path"]), (2, &json!(skill("bad"))));
    let (code, out, _) = run(&service, &["validate", "--format", "sarif"]);
    let log: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &log["version"]), (2, &json!("2.1.0")));
    assert_eq!(run(&service, &["init", "--ci", "github"]).0, 0);
    let job = std::fs::read_to_string(service.root().join(".github/workflows/skillhook.yml")).unwrap();
    assert!(job.contains("skillhook validate --format github") && job.contains("skillhook plan"), "{job}");
    assert_eq!(run(&service, &["init", "--ci", "gitlab"]).0, 0);
    assert!(service.root().join(".gitlab/skillhook.yml").exists());
}

#[tokio::test]
async fn a_suspended_webhook_stores_deliveries_and_a_suspended_reconciler_leaves_files_alone() {
    let mut service = Service::started(json!({})).await;
    wait_level(&service).await;
    assert_eq!(run(&service, &["suspend", "webhook/github"]).0, 0);
    assert_eq!(run(&service, &["suspend", "nobody"]).0, 3);
    let (status, _) = service.comment(1, "held", "@agent analyze this").await.unwrap();
    assert_eq!(status, 202);
    assert_eq!(run(&service, &["suspend"]).0, 0);
    let before = crate::gitops::head(&service.root());
    service.write_skill("later", &own_webhook("later"));
    assert_eq!(run(&service, &["reconcile", "--with-source", "--wait"]).0, 0);
    // Both outlast a restart.
    service.kill();
    service.start();
    service.wait_ready().await;
    assert_eq!(run(&service, &["reconcile", "--with-source", "--wait"]).0, 0);
    let suspended = service.api("/api/status").await["suspended"].clone();
    assert!(suspended["reconciler"].is_string() && suspended["webhooks"]["github"].is_string(), "{suspended}");
    let state = service.tasks().await[0]["state"].clone();
    assert!(state == "queued" || state == "checking", "{state}");
    assert_eq!(crate::gitops::head(&service.root()), before);
    assert!(!service.api("/api/webhooks").await.to_string().contains("\"later\""));
    assert_eq!(run(&service, &["resume"]).0, 0);
    service.wait_route("/webhooks/github/later", true).await;
    wait_level(&service).await;
    assert_eq!(run(&service, &["resume", "webhook/github"]).0, 0);
    service.wait_tasks_done(1, crate::service::SOON).await;
}
