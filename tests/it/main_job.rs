//! The main job through the real binary: a file becomes a route, a delivery a task, an answer a comment.

use serde_json::json;

use crate::service::{SOON, Service, git, own_webhook, wait_for};

#[tokio::test]
async fn a_signed_comment_is_answered_exactly_once() {
    let service = Service::started(json!({})).await;
    let (status, answer) = service.comment(7, "d-1", "@agent analyze why it is slow").await.unwrap();
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["tasks"].as_array().unwrap().len(), 1);
    assert!(service.github.wait_for_comments(1, SOON).await);
    let (status, again) = service.comment(7, "d-1", "@agent analyze why it is slow").await.unwrap();
    assert_eq!((status, again["status"].as_str()), (200, Some("duplicate")));
    service.wait_tasks_done(1, SOON).await;
    let reactions = service.github.seen().into_iter().filter(|seen| seen.path.ends_with("/reactions")).count();
    assert_eq!((service.github.comments().len(), reactions), (1, 1));
    let seen = service.github.seen();
    assert!(
        seen.iter().all(|seen| seen.authorization.as_deref() == Some("Bearer ghp_test_token_that_must_stay_secret"))
    );
}

#[tokio::test]
async fn a_replayed_body_under_a_new_delivery_id_runs_nothing() {
    let service = Service::started(json!({})).await;
    assert_eq!(service.comment(7, "d-1", "@agent analyze this").await.unwrap().0, 202);
    let (status, answer) = service.comment(7, "d-2", "@agent analyze this").await.unwrap();
    assert_eq!((status, answer["status"].as_str()), (200, Some("duplicate")));
}

#[tokio::test]
async fn an_edited_file_is_live_committed_and_pushed() {
    let service = Service::started(json!({})).await;
    service.write_skill("own-hook", &own_webhook("own-hook"));
    service.wait_route("/webhooks/github/own-hook", true).await;
    let remote = service.dir.path().join("remote.git");
    wait_for("the commit in the bare remote", || async {
        let listed = git(&remote, &["ls-tree", "-r", "--name-only", "main"]);
        listed.lines().any(|line| line == ".claude/skills/own-hook/SKILL.md")
    })
    .await;
    let message = git(&remote, &["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("own-hook") && message.contains("Skillhook-Origin: file"), "{message}");
    assert_eq!(git(&service.root(), &["--no-optional-locks", "status", "--porcelain", "--", ".claude"]), "");
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_good_version_live() {
    let service = Service::started(json!({})).await;
    service.write_skill("own-hook", &own_webhook("own-hook"));
    service.wait_route("/webhooks/github/own-hook", true).await;
    service.write_skill("own-hook", "---\nname: own-hook\ndescription: x\nwebhook_config:\n  provder: github\n---\n");
    wait_for("the diagnostic", || async {
        let skills = service.api("/api/skills").await.to_string();
        skills.contains("own-hook/SKILL.md") && skills.contains("did you mean `provider`")
    })
    .await;
    service.wait_route("/webhooks/github/own-hook", true).await;
    service.write_skill("second-hook", &own_webhook("second-hook"));
    service.wait_route("/webhooks/github/second-hook", true).await;
}

#[tokio::test]
async fn a_missing_secret_refuses_and_runs_nothing() {
    let mut service = Service::prepared(json!({})).await;
    service.unset_env("GITHUB_WEBHOOK_SECRET");
    service.start();
    service.wait_ready().await;
    assert_eq!(service.comment(7, "d-1", "@agent analyze this").await.unwrap().0, 503);
    assert!(service.tasks().await.is_empty());
}

#[tokio::test]
async fn a_second_process_on_the_data_directory_is_refused() {
    let service = Service::started(json!({})).await;
    let second = service.command(&["up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("SH0303"), "{second:?}");
    assert_eq!(service.comment(7, "d-1", "@agent analyze this").await.unwrap().0, 202);
}

#[tokio::test]
async fn a_termination_lets_running_work_end() {
    let mut service = Service::started(json!({"seconds": 2.0})).await;
    assert_eq!(service.comment(7, "d-1", "@agent analyze this").await.unwrap().0, 202);
    wait_for("the run to begin", || async { service.journal().iter().any(|line| line.starts_with("start")) }).await;
    assert!(service.terminate(), "it did not end in order");
    service.start();
    service.wait_ready().await;
    service.wait_tasks_done(1, SOON).await;
    assert!(service.github.wait_for_comments(1, SOON).await);
    let journal = service.journal();
    assert_eq!(journal.iter().filter(|line| line.starts_with("done")).count(), 1, "{journal:?}");
    assert_eq!(service.github.comments().len(), 1);
}
