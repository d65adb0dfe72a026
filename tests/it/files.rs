//! However files arrive, they end live: editors, copies, moves, checkouts; and half-written ones harm nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::service::{Service, git, own_webhook, wait_for};

fn run(program: &str, arguments: &[&Path]) {
    assert!(Command::new(program).arg("-r").args(arguments).status().unwrap().success());
}

#[tokio::test]
async fn an_editor_that_renames_and_one_that_truncates_end_live() {
    let service = Service::started(json!({})).await;
    service.write_skill("edited", &own_webhook("edited"));
    service.wait_route("/webhooks/github/edited", true).await;
    let file = service.root().join(".claude/skills/edited/SKILL.md");

    let beside = service.root().join(".claude/skills/edited/.SKILL.md.swp");
    std::fs::write(&beside, own_webhook("edited").replace("id: edited", "id: renamed")).unwrap();
    std::fs::rename(&beside, &file).unwrap();
    service.wait_route("/webhooks/github/renamed", true).await;
    service.wait_route("/webhooks/github/edited", false).await;

    let text = own_webhook("edited").replace("id: edited", "id: slowly");
    let (first, second) = text.split_at(text.len() / 2);
    std::fs::write(&file, first).unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let answer = service.client.post(service.url("/webhooks/github/renamed")).body("{}").send().await.unwrap();
        assert_ne!(answer.status(), 404, "a half-written file took the last good version down");
    }
    std::fs::write(&file, format!("{first}{second}")).unwrap();
    service.wait_route("/webhooks/github/slowly", true).await;
}

#[tokio::test]
async fn three_hundred_skills_by_copy_move_and_checkout_end_live() {
    let service = Service::started(json!({})).await;
    let staging = service.dir.path().join("staging");
    for n in 0..300 {
        let way = ["copied", "moved", "checked-out"][n % 3];
        let name = format!("{way}-{n}");
        let dir = staging.join(way).join(".claude/skills").join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("SKILL.md"), own_webhook(&name)).unwrap();
    }
    let skills = service.root().join(".claude/skills");
    for entry in std::fs::read_dir(staging.join("copied/.claude/skills")).unwrap() {
        run("cp", &[&entry.unwrap().path(), &skills]);
    }
    for entry in std::fs::read_dir(staging.join("moved/.claude/skills")).unwrap() {
        let from = entry.unwrap().path();
        std::fs::rename(&from, skills.join(from.file_name().unwrap())).unwrap();
    }
    let other = service.dir.path().join("other");
    git(service.dir.path(), &["clone", "-q", "remote.git", "other"]);
    git(&other, &["config", "user.name", "B"]);
    git(&other, &["config", "user.email", "b@example.com"]);
    run("cp", &[&staging.join("checked-out/.claude"), &other]);
    git(&other, &["add", "."]);
    git(&other, &["commit", "-q", "-m", "a hundred skills"]);
    git(&other, &["push", "-q", "origin", "HEAD:refs/heads/feature"]);
    git(&service.root(), &["fetch", "-q", "origin", "feature"]);
    git(&service.root(), &["checkout", "-q", "FETCH_HEAD", "--", ".claude"]);
    wait_for("three hundred webhooks", || async {
        let listed = service.api("/api/webhooks").await;
        let own = |item: &serde_json::Value| item["id"].as_str().is_some_and(|id| id.contains('-'));
        listed["items"].as_array().unwrap().iter().filter(|item| own(item)).count() == 300
    })
    .await;
}

#[tokio::test]
async fn a_deleted_skill_is_gone_and_only_that_one() {
    let service = Service::started(json!({})).await;
    for name in ["stays", "goes"] {
        service.write_skill(name, &own_webhook(name));
        service.wait_route(&format!("/webhooks/github/{name}"), true).await;
    }
    std::fs::remove_dir_all(service.root().join(".claude/skills/goes")).unwrap();
    service.wait_route("/webhooks/github/goes", false).await;
    service.wait_route("/webhooks/github/stays", true).await;
    service.wait_route("/webhooks/github", true).await;
}

#[tokio::test]
async fn a_restart_serves_every_webhook_and_never_answers_404() {
    let mut service = Service::started(json!({})).await;
    for n in 0..20 {
        service.write_skill(&format!("hook-{n}"), &own_webhook(&format!("hook-{n}")));
    }
    service.wait_route("/webhooks/github/hook-19", true).await;
    for n in 0..20 {
        service.wait_route(&format!("/webhooks/github/hook-{n}"), true).await;
    }
    for remove_index in [false, true] {
        service.kill();
        if remove_index {
            std::fs::remove_file(service.root().join(".skillhook/index.redb")).unwrap();
        }
        service.start();
        let mut answered = 0;
        while answered < 20 {
            let path = format!("/webhooks/github/hook-{answered}");
            match service.client.post(service.url(&path)).body("{}").send().await {
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Ok(answer) => {
                    assert_ne!(answer.status(), 404, "{path} after a restart");
                    answered += usize::from(answer.status() != 503);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_lost_index_still_finds_the_last_good_version_of_a_broken_file() {
    let mut service = Service::started(json!({})).await;
    service.write_skill("broken", &own_webhook("broken"));
    service.wait_route("/webhooks/github/broken", true).await;
    wait_for("the commit", || async {
        git(&service.root(), &["ls-files"]).lines().any(|line| line == ".claude/skills/broken/SKILL.md")
    })
    .await;
    service.kill();
    service.write_skill("broken", "---\nname: broken\n");
    std::fs::remove_file(service.root().join(".skillhook/index.redb")).unwrap();
    service.start();
    service.wait_ready().await;
    service.wait_route("/webhooks/github/broken", true).await;
    let skills = service.api("/api/skills").await.to_string();
    assert!(skills.contains("broken/SKILL.md") && skills.contains("SH0101"), "{skills}");
}

#[tokio::test]
async fn a_symlinked_skill_file_is_not_read() {
    let service = Service::started(json!({})).await;
    let outside = service.dir.path().join("outside.md");
    std::fs::write(&outside, own_webhook("linked")).unwrap();
    let dir = service.root().join(".claude/skills/linked");
    std::fs::create_dir_all(&dir).unwrap();
    std::os::unix::fs::symlink(&outside, dir.join("SKILL.md")).unwrap();
    service.write_skill("plain", &own_webhook("plain"));
    service.wait_route("/webhooks/github/plain", true).await;
    service.wait_route("/webhooks/github/linked", false).await;
}

#[tokio::test]
async fn a_quiet_tree_stays_quiet() {
    let service = Service::started(json!({})).await;
    service.write_skill("quiet", &own_webhook("quiet"));
    service.wait_route("/webhooks/github/quiet", true).await;
    let commits = || git(&service.root(), &["rev-list", "--count", "HEAD"]);
    wait_for("the commit", || async { commits() == "2" }).await;
    // A pass that wakes itself would never be quiet for a second; only the timer ends quiet times, every 5 seconds.
    wait_for("a second without a pass", || async {
        let before = passes(&service).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        before > 0.0 && passes(&service).await == before
    })
    .await;
    assert_eq!(commits(), "2", "a quiet tree made a commit");
}

/// How many passes there were, whatever they came to.
async fn passes(service: &Service) -> f64 {
    let metrics = service.client.get(service.admin_url("/metrics")).send().await.unwrap().text().await.unwrap();
    let lines = metrics.lines().filter(|line| line.starts_with("skillhook_passes_total"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
