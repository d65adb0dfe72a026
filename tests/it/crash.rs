//! The plug is pulled, again and again: nothing is lost, nothing is answered twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;

use crate::service::{SOON, Service, issue_comment, sign, wait_for};

const DELIVERIES: usize = 1000;
const KILLS: usize = 20;
const SENDERS: usize = 8;
/// Runs at once, as the service of the tests is set up.
const RUNNING: usize = 4;

/// Splitmix64: the same kills in every run.
fn random(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_nothing_and_answer_nothing_twice() {
    let mut service = Service::prepared(json!({})).await;
    service.start();
    service.wait_ready().await;
    let (next, mut results) = (Arc::new(Mutex::new(0_usize)), 0);
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (next, url, client) = (Arc::clone(&next), service.url("/webhooks/github"), service.client.clone());
            tokio::spawn(async move {
                loop {
                    let number = {
                        let mut next = next.lock().await;
                        if *next >= DELIVERIES {
                            return;
                        }
                        *next += 1;
                        *next
                    };
                    send_until_acked(&client, &url, number).await;
                    if number.is_multiple_of(10) {
                        send_until_acked(&client, &url, number).await;
                    }
                }
            })
        })
        .collect();
    let mut seed = 20_260_726;
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(100 + random(&mut seed) % 700)).await;
        if kill % 2 == 1 {
            wait_for_a_result(&service, &mut results).await;
        }
        service.kill();
        service.start();
        service.wait_ready().await;
    }
    for sender in senders {
        sender.await.unwrap();
    }
    service.wait_tasks_done(DELIVERIES, SOON).await;
    let tasks = service.tasks().await;
    assert_eq!(tasks.len(), DELIVERIES, "phantom or duplicated tasks");
    let unfinished: Vec<_> = tasks.iter().filter(|task| task["state"] != "succeeded").collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
    wait_for_comments(&service).await;
    let mut by_issue: BTreeMap<String, usize> = BTreeMap::new();
    for seen in service.github.seen().iter().filter(|seen| seen.method == "POST" && seen.path.ends_with("/comments")) {
        *by_issue.entry(seen.path.clone()).or_default() += 1;
    }
    let twice: Vec<_> = by_issue.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty() && by_issue.len() == DELIVERIES, "answered twice: {twice:?}");
    assert_runs(&service.journal());
}

/// A machine so slow that no run ends between two kills would break the same runs off for ever: every other kill
/// waits until some run has ended since the one before it.
async fn wait_for_a_result(service: &Service, results: &mut usize) {
    let ended = || service.journal().iter().filter(|line| line.starts_with("result ")).count();
    let queue = || async { service.api("/api/status").await["queue"].clone() };
    let all_done = || async { queue().await["queued"] == 0 && queue().await["running"] == 0 };
    wait_for("a run to end", || async { ended() > *results || all_done().await }).await;
    *results = ended();
}

/// Waits for all answers; in vain when none comes for long.
async fn wait_for_comments(service: &Service) {
    let mut arrived = service.github.comments().len();
    while arrived < DELIVERIES {
        assert!(service.github.wait_for_comments(arrived + 1, SOON).await, "{arrived} answers, and no more");
        arrived = service.github.comments().len();
    }
}

/// A run that gave its result is never run again; a run that a kill broke off may begin anew. (Whether it got to write
/// `done` after its result says nothing: a kill ends it as soon as the result has been read.)
fn assert_runs(journal: &[String]) {
    let mut runs: BTreeMap<&str, Run> = BTreeMap::new();
    let mut broken_off = 0;
    for line in journal {
        let mut words = line.split(' ');
        let (what, task) = (words.next().unwrap(), words.next().unwrap());
        match (what, runs.get(task)) {
            ("start", Some(Run::Ended)) => panic!("{task} was run again after its result"),
            ("start", before) => {
                broken_off += usize::from(before.is_some());
                runs.insert(task, Run::Begun);
            }
            ("result", _) => drop(runs.insert(task, Run::Ended)),
            _ => {}
        }
    }
    assert!(broken_off <= KILLS * RUNNING, "{broken_off} runs began anew after {KILLS} kills");
    assert_eq!(runs.len(), DELIVERIES);
}

enum Run {
    Begun,
    Ended,
}

async fn send_until_acked(client: &reqwest::Client, url: &str, number: usize) {
    let body =
        issue_comment(number as u64, &format!("@agent analyze fake-agent:{{\"task\":\"n{number}\"}}")).to_string();
    let signature = format!("sha256={}", hex::encode(sign(crate::service::SECRET, body.as_bytes())));
    loop {
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("x-github-event", "issue_comment")
            .header("x-github-delivery", format!("delivery-{number}"))
            .header("x-hub-signature-256", &signature)
            .body(body.clone());
        match request.send().await.map(|answer| answer.status().as_u16()) {
            Ok(200 | 202) => return,
            Ok(503) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok(other) => panic!("delivery {number} was answered with {other}"),
        }
    }
}
