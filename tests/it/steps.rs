//! The plug is pulled at one step after the other: between any two commits of a task's life.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::service::{SOON, Service, wait_for};
use crate::strace::Strace;

/// More commits than a delivery needs from its acceptance to the word that its answer arrived.
const COMMITS_MAX: usize = 16;
/// Fewer than this would mean that the kills do not come.
const COMMITS_MIN: usize = 4;

#[tokio::test]
async fn a_kill_at_any_commit_loses_nothing_and_answers_once() {
    let mut service = Service::started(json!({})).await;
    let mut rounds = 0;
    for commit in 1..=COMMITS_MAX {
        let Some(tracer) = Strace::kill_at_sync(service.pid(), commit) else {
            eprintln!("strace is not here or may not trace: the kill at each commit is passed over");
            return;
        };
        rounds = commit;
        let killed =
            deliver_until_acked(&mut service, commit).await || killed_before_all_is_over(&mut service, commit).await;
        drop(tracer);
        if !killed {
            break;
        }
        if !service.is_running() {
            restart(&mut service).await;
        }
        deliver_until_acked(&mut service, commit).await;
        assert!(service.github.wait_for_comments(commit, SOON).await, "no answer after a kill at commit {commit}");
        service.wait_tasks_done(commit, SOON).await;
    }
    assert!((COMMITS_MIN..COMMITS_MAX).contains(&rounds), "{rounds} commits");
    service.wait_tasks_done(rounds, SOON).await;
    let tasks = service.tasks().await;
    assert!(tasks.len() == rounds && tasks.iter().all(|task| task["state"] == "succeeded"), "{tasks:?}");
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for seen in service.github.seen().iter().filter(|seen| seen.method == "POST" && seen.path.ends_with("/comments")) {
        *answers.entry(seen.path.clone()).or_default() += 1;
    }
    assert!(answers.len() == rounds && answers.values().all(|count| *count == 1), "{answers:?}");
}

/// As a sender that comes again until it hears a 2xx; answers whether the service had to be started anew for that.
async fn deliver_until_acked(service: &mut Service, number: usize) -> bool {
    let mut killed = false;
    loop {
        let acked = service.comment(number as u64, &format!("step-{number}"), "@agent analyze this").await;
        match acked {
            Some((200 | 202, _)) => return killed,
            None | Some((503, _)) => {}
            Some((other, answer)) => panic!("{other}: {answer}"),
        }
        if service.is_running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            restart(service).await;
            killed = true;
        }
    }
}

async fn restart(service: &mut Service) {
    service.kill();
    service.start();
    service.wait_ready().await;
}

async fn killed_before_all_is_over(service: &mut Service, count: usize) -> bool {
    wait_for("the answer or the kill", || {
        let running = service.is_running();
        let answered = service.github.comments().len() >= count;
        async move { !running || answered }
    })
    .await;
    // The commit that notes the arrival comes after it.
    let mut quiet = 0;
    while quiet < 10 && service.is_running() {
        let waiting = service.api_if_there("/api/status").await["queue"]["outbox_waiting"].clone();
        quiet = if waiting == 0 { quiet + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    !service.is_running()
}
