//! Files, git and the remote, both ways, through the real service: what is edited here reaches the remote, what is
//! merged there is served here, and nothing that anybody wrote is lost.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::service::{Service, git, own_webhook, wait_for};

/// The remote, as somebody else works with it.
pub struct Elsewhere {
    pub clone: PathBuf,
}

impl Elsewhere {
    pub fn of(service: &Service) -> Self {
        let clone = service.dir.path().join(format!("elsewhere-{}", skillhook::seam::fresh_id().simple()));
        git(service.dir.path(), &["clone", "-q", "-b", "main", "remote.git", clone.to_str().unwrap()]);
        git(&clone, &["config", "user.name", "Reviewer"]);
        git(&clone, &["config", "user.email", "reviewer@example.com"]);
        Self { clone }
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.clone.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn webhook(&self, name: &str) {
        self.write(&skill(name), &own_webhook(name));
    }

    /// Commits everything and pushes it; answers the commit.
    pub fn merge(&self, title: &str) -> String {
        git(&self.clone, &["add", "-A"]);
        git(&self.clone, &["commit", "-q", "-m", title]);
        git(&self.clone, &["pull", "-q", "--rebase", "origin", "main"]);
        git(&self.clone, &["push", "-q", "origin", "main"]);
        git(&self.clone, &["rev-parse", "HEAD"])
    }
}

pub fn skill(name: &str) -> String {
    format!(".claude/skills/{name}/SKILL.md")
}

pub fn remote(service: &Service) -> PathBuf {
    service.dir.path().join("remote.git")
}

pub fn head(directory: &Path) -> String {
    git(directory, &["rev-parse", "main"])
}

/// Asks the service to fetch, pull, look and push now.
pub async fn reconcile(service: &Service, more: &[&str]) -> (i32, String) {
    let mut arguments = vec!["reconcile", "--with-source", "--wait", "-o", "json"];
    arguments.extend(more);
    let mut command = tokio::process::Command::from(service.command(&arguments));
    let output = command.output().await.unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits until what is committed here is on the remote too.
pub async fn wait_level(service: &Service) {
    wait_for("both sides to be level", || async {
        let clean = git(&service.root(), &["--no-optional-locks", "status", "--porcelain", "--", ".claude"]).is_empty();
        clean && head(&service.root()) == head(&remote(service))
    })
    .await;
}

pub async fn wait_remote_state(service: &Service, what: &str, so: impl Fn(&Value) -> bool) {
    wait_for(what, || async { so(&service.api("/api/status").await["git"]) }).await;
}

pub fn assert_whole(service: &Service) {
    for directory in [service.root(), remote(service)] {
        git(&directory, &["fsck", "--strict", "--no-dangling"]);
    }
}

#[tokio::test]
async fn an_edit_is_live_committed_and_pushed_and_nothing_else_is() {
    let service = Service::started(json!({})).await;
    std::fs::write(service.root().join("README.md"), "a person's\n").unwrap();
    std::fs::write(service.root().join("staged"), "a person's\n").unwrap();
    git(&service.root(), &["add", "staged"]);
    service.write_skill("mine", &own_webhook("mine"));
    service.wait_route("/webhooks/github/mine", true).await;
    wait_level(&service).await;
    assert_eq!(git(&service.root(), &["show", "--format=", "--name-only", "HEAD"]), skill("mine"));
    let message = git(&service.root(), &["log", "-1", "--format=%B"]);
    assert!(message.contains("Skillhook-Origin: file"), "{message}");
    assert_eq!(
        git(&service.root(), &["--no-optional-locks", "status", "--porcelain"]),
        "M README.md\nA  staged\n?? skillhook.toml"
    );
    assert_whole(&service);
}

#[tokio::test]
async fn what_is_merged_elsewhere_is_served_and_what_is_deleted_there_is_gone_alone() {
    let service = Service::started(json!({})).await;
    let elsewhere = Elsewhere::of(&service);
    for name in ["stays", "goes"] {
        elsewhere.webhook(name);
    }
    let merged = elsewhere.merge("two webhooks");
    assert_eq!(reconcile(&service, &[]).await.0, 0);
    service.wait_route("/webhooks/github/goes", true).await;
    assert_eq!(head(&service.root()), merged);
    std::fs::remove_dir_all(elsewhere.clone.join(".claude/skills/goes")).unwrap();
    elsewhere.merge("one less");
    // By the poll.
    service.wait_route("/webhooks/github/goes", false).await;
    service.wait_route("/webhooks/github/stays", true).await;
    service.wait_route("/webhooks/github", true).await;
    // Nothing came of it but the merges themselves.
    wait_level(&service).await;
    assert_eq!(git(&remote(&service), &["log", "--format=%s", "main"]), "one less\ntwo webhooks\nbegin");
    assert_whole(&service);
}

#[tokio::test]
async fn a_delivery_from_the_repository_itself_pulls_at_once() {
    let mut service = Service::prepared(json!({})).await;
    // Its own poll would not come within this test.
    service.poll = 3600;
    let named = service.dir.path().join("octo/hooks.git");
    std::fs::create_dir_all(named.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(remote(&service), &named).unwrap();
    git(&service.root(), &["remote", "set-url", "origin", named.to_str().unwrap()]);
    service.start();
    service.wait_ready().await;
    wait_remote_state(&service, "the first look", |git| git["remote"]["distance"] == "level").await;
    let elsewhere = Elsewhere::of(&service);
    elsewhere.webhook("merged");
    elsewhere.merge("a webhook");
    let push = |repository: &str| {
        json!({
            "ref": "refs/heads/main", "after": "x", "head_commit": {"message": "a webhook"},
            "repository": {"id": 1, "full_name": repository, "html_url": "https://github.example/x"},
            "sender": {"login": "mona", "id": 2, "type": "User"},
        })
    };
    let (status, _) = service.deliver("/webhooks/github", "push", "other", &push("octo/hooks-2")).await.unwrap();
    assert!(status < 300);
    assert_ne!(head(&service.root()), head(&remote(&service)));
    let (status, _) = service.deliver("/webhooks/github", "push", "ours", &push("Octo/Hooks")).await.unwrap();
    assert!(status < 300);
    service.wait_route("/webhooks/github/merged", true).await;
    wait_level(&service).await;
}

#[tokio::test]
async fn changes_on_both_sides_converge_and_the_remotes_history_stays() {
    let mut service = Service::started(json!({})).await;
    service.kill();
    let elsewhere = Elsewhere::of(&service);
    elsewhere.webhook("theirs");
    let merged = elsewhere.merge("theirs");
    service.write_skill("ours", &own_webhook("ours"));
    service.start();
    service.wait_ready().await;
    for name in ["ours", "theirs"] {
        service.wait_route(&format!("/webhooks/github/{name}"), true).await;
    }
    wait_level(&service).await;
    git(&remote(&service), &["merge-base", "--is-ancestor", &merged, "main"]);
    assert_eq!(git(&remote(&service), &["rev-list", "--count", "--merges", "main"]), "0");
    assert_whole(&service);
}

#[tokio::test]
async fn in_a_conflict_the_reviewed_version_is_served_and_ours_is_pushed_aside_and_shown() {
    let mut service = Service::started(json!({})).await;
    service.write_skill("both", &own_webhook("both"));
    service.wait_route("/webhooks/github/both", true).await;
    wait_level(&service).await;
    service.kill();
    let elsewhere = Elsewhere::of(&service);
    elsewhere.write(&skill("both"), &own_webhook("both").replace("Looks.", "Theirs."));
    elsewhere.merge("reviewed");
    service.write_skill("both", &own_webhook("both").replace("Looks.", "Ours."));
    service.start();
    service.wait_ready().await;
    wait_remote_state(&service, "the conflict to be shown", |git| git["remote"]["conflicts"][0]["pushed"] == true)
        .await;
    wait_level(&service).await;
    let branch = service.api("/api/status").await["git"]["remote"]["conflicts"][0]["branch"].clone();
    let branch = branch.as_str().unwrap();
    assert!(branch.starts_with("skillhook/conflict/"), "{branch}");
    let aside = git(&remote(&service), &["show", &format!("{branch}:{}", skill("both"))]);
    assert!(aside.contains("Ours."), "{aside}");
    let in_force = service.api("/api/webhooks/both").await["spec"]["commands"].to_string();
    assert!(in_force.contains("Theirs."), "{in_force}");
    let events = service.api("/api/events?since=0&limit=1000").await.to_string();
    assert!(events.contains("repo.conflict"), "{events}");
    assert_whole(&service);
}

#[tokio::test]
async fn an_emptied_remote_deletes_nothing_before_a_person_says_so() {
    let service = Service::started(json!({})).await;
    for name in ["one", "two", "three"] {
        service.write_skill(name, &own_webhook(name));
    }
    for name in ["one", "two", "three"] {
        service.wait_route(&format!("/webhooks/github/{name}"), true).await;
    }
    wait_level(&service).await;
    let elsewhere = Elsewhere::of(&service);
    std::fs::remove_dir_all(elsewhere.clone.join(".claude")).unwrap();
    elsewhere.merge("an accident");
    let (code, said) = reconcile(&service, &[]).await;
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("SH0506") && said.contains("--allow-prune"), "{said}");
    for name in ["one", "two", "three"] {
        service.wait_route(&format!("/webhooks/github/{name}"), true).await;
    }
    // The files are not made again by our commits either.
    assert_eq!(git(&remote(&service), &["log", "-1", "--format=%s", "main"]), "an accident");
    assert_eq!(reconcile(&service, &["--allow-prune"]).await.0, 0);
    for name in ["one", "two", "three"] {
        service.wait_route(&format!("/webhooks/github/{name}"), false).await;
    }
    service.wait_route("/webhooks/github", true).await;
}

#[tokio::test]
async fn broken_files_of_a_merge_hold_their_webhook_and_the_rest_applies() {
    let service = Service::started(json!({})).await;
    service.write_skill("breaks", &own_webhook("breaks"));
    service.wait_route("/webhooks/github/breaks", true).await;
    wait_level(&service).await;
    let elsewhere = Elsewhere::of(&service);
    elsewhere.write(&skill("breaks"), "---\nname: [breaks\n---\n");
    elsewhere.webhook("new");
    elsewhere.merge("half good");
    assert_eq!(reconcile(&service, &[]).await.0, 2);
    service.wait_route("/webhooks/github/new", true).await;
    service.wait_route("/webhooks/github/breaks", true).await;
    assert_eq!(git(&remote(&service), &["log", "-1", "--format=%s", "main"]), "half good");
}

#[tokio::test]
async fn a_remote_that_is_away_or_silent_keeps_nobody_waiting_and_gets_everything_later() {
    let service = Service::started(json!({})).await;
    let (there, away) = (remote(&service), service.dir.path().join("away.git"));
    wait_level(&service).await;
    std::fs::rename(&there, &away).unwrap();
    for number in 0..3 {
        service.write_skill(&format!("s{number}"), &own_webhook(&format!("s{number}")));
        service.wait_route(&format!("/webhooks/github/s{number}"), true).await;
        let root = service.root();
        wait_for("the commit", || async {
            git(&root, &["--no-optional-locks", "status", "--porcelain", "--", ".claude"]).is_empty()
        })
        .await;
    }
    wait_remote_state(&service, "the distance", |git| {
        git["remote"]["distance"] == "ahead" && git["remote"]["ahead"] == 3 && git["pushed"]["trouble"].is_string()
    })
    .await;
    // It accepts connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/remote.git", silent.local_addr().unwrap());
    git(&service.root(), &["remote", "set-url", "origin", &url]);
    assert!(service.command(&["reconcile", "--with-source"]).status().unwrap().success());
    service.write_skill("s3", &own_webhook("s3"));
    service.wait_route("/webhooks/github/s3", true).await;
    let (status, _) = service.comment(1, "d1", "hello").await.unwrap();
    assert!(status < 300);
    git(&service.root(), &["remote", "set-url", "origin", away.to_str().unwrap()]);
    drop(silent);
    std::fs::rename(&away, &there).unwrap();
    git(&service.root(), &["remote", "set-url", "origin", "../remote.git"]);
    assert_eq!(reconcile(&service, &[]).await.0, 0);
    wait_level(&service).await;
    let titles = git(&there, &["log", "--format=%B", "main"]);
    let order: Vec<usize> = (0..4).map(|n| titles.find(&format!("s{n}")).unwrap()).collect();
    assert!(order.is_sorted_by(|a, b| a > b), "{titles}");
    assert_whole(&service);
}

#[tokio::test]
async fn a_person_in_the_middle_of_something_is_left_alone_and_told() {
    let service = Service::started(json!({})).await;
    wait_level(&service).await;
    let root = service.root();
    let merged = |name: &str| {
        let elsewhere = Elsewhere::of(&service);
        elsewhere.webhook(name);
        elsewhere.merge(name);
    };
    let trouble = |git: &Value| git["remote"]["trouble"].as_str().unwrap_or_default().to_owned();
    // On another branch.
    git(&root, &["checkout", "-q", "-b", "mine"]);
    merged("one");
    reconcile(&service, &[]).await;
    wait_remote_state(&service, "another branch", |git| trouble(git).contains("another branch")).await;
    assert_eq!(git(&root, &["rev-parse", "HEAD"]), git(&root, &["rev-parse", "main"]));
    // Detached.
    git(&root, &["checkout", "-q", "--detach"]);
    reconcile(&service, &[]).await;
    wait_remote_state(&service, "a detached head", |git| trouble(git).contains("no branch")).await;
    // In the middle of a merge.
    git(&root, &["checkout", "-q", "main"]);
    git(&root, &["checkout", "-q", "-b", "other"]);
    std::fs::write(root.join("README.md"), "other\n").unwrap();
    git(&root, &["commit", "-q", "-am", "other"]);
    git(&root, &["checkout", "-q", "mine"]);
    std::fs::write(root.join("README.md"), "mine\n").unwrap();
    git(&root, &["commit", "-q", "-am", "mine"]);
    git(&root, &["checkout", "-q", "main"]);
    git(&root, &["merge", "-q", "--no-commit", "--no-ff", "mine"]);
    reconcile(&service, &[]).await;
    wait_remote_state(&service, "a merge", |git| trouble(git).contains("merge")).await;
    assert_eq!(git(&root, &["diff", "--cached", "--name-only"]), "README.md");
    git(&root, &["merge", "--abort"]);
    reconcile(&service, &[]).await;
    service.wait_route("/webhooks/github/one", true).await;
    wait_level(&service).await;
}
