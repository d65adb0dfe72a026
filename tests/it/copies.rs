//! Cloud copies through the real binary: the service fills several at once, and `restore` gives everything back.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::servers::{PostgresServer, S3Server};
use crate::service::{Service, wait_for};

fn restore(service: &Service, arguments: &[&str]) -> Output {
    let mut command = service.command(&["restore", "--output", "json"]);
    command.args(arguments).current_dir(service.dir.path());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn copied(service: &Service) -> Vec<Value> {
    let webhook = service.api("/api/webhooks/github").await;
    let conditions = webhook["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().filter(|condition| condition["type"] == "Copied").collect()
}

async fn wait_copied(service: &Service, copies: usize, commit: &str) {
    wait_for("all copies hold the commit", || async {
        let conditions = copied(service).await;
        let done = conditions.iter().filter(|condition| {
            condition["status"] == true && condition["message"].as_str().is_some_and(|told| told.contains(commit))
        });
        done.count() == copies
    })
    .await;
}

async fn wait_committed(service: &Service, path: &str) -> String {
    let root = service.root();
    wait_for("the commit", || async {
        let log = Command::new("git").arg("-C").arg(&root).args(["log", "--format=%H", "--", path]).output().unwrap();
        !log.stdout.is_empty()
            && String::from_utf8_lossy(&log.stdout).trim() == git(&root, &["rev-parse", "HEAD"]).trim()
    })
    .await;
    git(&root, &["rev-parse", "HEAD"]).trim().to_owned()
}

const SKILL: &str = "---\nname: copied\ndescription: Says what it is told.\nwebhook_config:\n  provider: github\n  \
                     commands:\n    - name: copied\n      description: Says it.\n      target_agent: planning\n      \
                     prompt_template: Say it.\n---\n\nSay it.\n";

#[tokio::test(flavor = "multi_thread")]
async fn every_copy_gives_back_the_tree_the_history_and_the_same_index() {
    let (storage, database) = (S3Server::start(&["copies"]).await, PostgresServer::start());
    let mut service = Service::prepared(json!({"steps": []})).await;
    let backup = service.dir.path().join("backup");
    let mut copies = vec![("dir".to_owned(), format!("dir:{}", backup.display()))];
    service.add_settings(&format!("[[copies]]\nto = \"dir:{}\"\n", backup.display()));
    if let Some(storage) = &storage {
        storage.environment().iter().for_each(|(name, value)| service.set_env(name, value));
        service.add_settings("[[copies]]\nto = \"s3:copies/here\"\nage_key_env = \"COPY_KEY\"\n");
        copies.push(("s3".to_owned(), "s3:copies/here".to_owned()));
    }
    if let Some(database) = &database {
        service.add_settings("[[copies]]\nname = \"database\"\nto = \"env:COPY_DATABASE\"\n");
        service.set_env("COPY_DATABASE", &database.url("copy=here"));
        copies.push(("database".to_owned(), "env:COPY_DATABASE".to_owned()));
    }
    let key = skillhook::copies::Key::generate().reveal();
    service.set_env("COPY_KEY", &key);
    service.start();
    service.wait_ready().await;
    service.write_skill("copied", SKILL);
    let commit = wait_committed(&service, ".claude/skills/copied").await;
    wait_copied(&service, copies.len(), &commit).await;
    let status = service.api("/api/status").await;
    let held: Vec<&Value> = status["copies"].as_object().unwrap().values().map(|copy| &copy["commit"]).collect();
    assert!(held.len() == copies.len() && held.iter().all(|held| **held == commit), "{status}");
    let index = status["index"]["digest"].as_str().unwrap().to_owned();
    let metrics = service.client.get(service.admin_url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("skillhook_copy_lag_seconds{copy=\"dir\"} 0"), "{metrics}");
    service.terminate();
    let remote = format!("git:{}", service.dir.path().join("remote.git").display());
    copies.push(("git".to_owned(), remote));
    for (name, from) in &copies {
        let target = service.dir.path().join(format!("restored-{name}"));
        let mut arguments = vec!["--from", from, target.to_str().unwrap()];
        if name == "s3" {
            let without = restore(&service, &arguments);
            assert_eq!(without.status.code(), Some(2), "{}", said(&without));
            arguments.extend(["--age-key-env", "COPY_KEY"]);
        }
        let output = restore(&service, &arguments);
        assert!(output.status.success(), "{name}: {}", said(&output));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(told["index"], index.as_str(), "{name}");
        assert_eq!((&told["commit"], &told["index_verified"]), (&json!(commit), &json!(true)), "{name}");
        same_tree(&service.root(), &target);
        assert_eq!(git(&target, &["log", "--format=%H %s"]), git(&service.root(), &["log", "--format=%H %s"]));
        assert_eq!(git(&target, &["--no-optional-locks", "status", "--porcelain"]), "", "{name}");
        let again = restore(&service, &arguments);
        assert_eq!(again.status.code(), Some(4), "{}", said(&again));
    }
}

fn same_tree(one: &Path, two: &Path) {
    let list = |root: &Path| git(root, &["ls-files", "-s"]);
    assert_eq!(list(one), list(two));
    for path in git(one, &["ls-files"]).lines() {
        assert_eq!(std::fs::read(one.join(path)).unwrap(), std::fs::read(two.join(path)).unwrap(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_away_holds_nothing_up_and_catches_up_in_order() {
    let mut service = Service::prepared(json!({"steps": []})).await;
    let (near, far) = (service.dir.path().join("near"), service.dir.path().join("far"));
    // A file is in the way of the second one.
    std::fs::write(&far, "in the way").unwrap();
    service.set_env("SKILLHOOK_COPIES", &format!("dir:{}", near.display()));
    service.start();
    service.wait_ready().await;
    service.write_skill("copied", SKILL);
    let commit = wait_committed(&service, ".claude/skills/copied").await;
    wait_copied(&service, 1, &commit).await;
    service.terminate();
    service.unset_env("SKILLHOOK_COPIES");
    let place =
        |name: &str, path: &PathBuf| format!("[[copies]]\nname = \"{name}\"\nto = \"dir:{}\"\n", path.display());
    service.add_settings(&(place("near", &near) + &place("far", &far)));
    service.start();
    service.wait_ready().await;
    service.write_skill("copied", &SKILL.replace("what it is told", "it again"));
    wait_for("the near copy goes on while the far one is in trouble", || async {
        let head = git(&service.root(), &["rev-parse", "HEAD"]);
        let conditions = copied(&service).await;
        let of = |name: &str| conditions.iter().find(|c| c["message"].as_str().unwrap().starts_with(name)).cloned();
        let (Some(near), Some(far)) = (of("near"), of("far")) else { return false };
        head.trim() != commit && near["status"] == true && far["status"] == false
    })
    .await;
    std::fs::remove_file(&far).unwrap();
    let head = git(&service.root(), &["rev-parse", "HEAD"]).trim().to_owned();
    wait_copied(&service, 2, &head).await;
    // Another service with another history finds the place taken.
    let mut other = Service::prepared(json!({"steps": []})).await;
    other.add_settings(&place("near", &near));
    other.write_skill("other", &SKILL.replace("copied", "other"));
    other.start();
    other.wait_ready().await;
    wait_for("the conflict is told", || async {
        copied(&other).await.iter().any(|c| c["message"].as_str().unwrap().contains("nothing is overwritten"))
    })
    .await;
    let target = service.dir.path().join("restored");
    let from = format!("dir:{}", near.display());
    let output = restore(&service, &["--from", &from, target.to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    same_tree(&service.root(), &target);
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_says_what_it_needs() {
    let service = Service::prepared(json!({"steps": []})).await;
    for (arguments, code, word) in [
        (vec!["--from", "postgres://u:hunter2@h/d", "x"], 2, "env:NAME"),
        (vec!["--from", "git:https://u:hunter2@h/r.git", "x"], 2, "credential helper"),
        (vec!["--from", "dir:nowhere", "x"], 3, "no copy"),
        (vec!["--from", "floppy:a", "x"], 2, "dir:PATH"),
        (vec!["--from", "git:nowhere.git", "x"], 6, "git fetch"),
        (vec!["--from", "env:NONE", "x"], 2, "NONE"),
    ] {
        let output = restore(&service, &arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(word), "{}", said(&output));
        assert!(!said(&output).contains("hunter2"), "{}", said(&output));
        assert!(!service.dir.path().join("x").exists());
    }
}
