//! The plug is pulled, again and again: nothing is lost, nothing is answered twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;

use crate::service::{Service, issue_comment, sign};

const DELIVERIES: usize = 1000;
const KILLS: usize = 20;
const SENDERS: usize = 8;

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
    let next = Arc::new(Mutex::new(0_usize));
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
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(100 + random(&mut seed) % 700)).await;
        service.kill();
        service.start();
        service.wait_ready().await;
    }
    for sender in senders {
        sender.await.unwrap();
    }
    service.wait_tasks_done(DELIVERIES, Duration::from_secs(300)).await;
    let tasks = service.tasks().await;
    assert_eq!(tasks.len(), DELIVERIES, "phantom or duplicated tasks");
    assert!(tasks.iter().all(|task| task["state"] == "succeeded"));
    assert!(service.github.wait_for_comments(DELIVERIES, Duration::from_secs(120)).await);
    let mut by_issue: BTreeMap<String, usize> = BTreeMap::new();
    for seen in service.github.seen().iter().filter(|seen| seen.method == "POST" && seen.path.ends_with("/comments")) {
        *by_issue.entry(seen.path.clone()).or_default() += 1;
    }
    let twice: Vec<_> = by_issue.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty() && by_issue.len() == DELIVERIES, "answered twice: {twice:?}");
    assert_runs(&service.journal());
}

/// A run that finished is never run again; a run that a kill broke off may begin anew, never beside its orphan.
fn assert_runs(journal: &[String]) {
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    let mut finished: BTreeMap<&str, usize> = BTreeMap::new();
    let mut broken_off = 0;
    for line in journal {
        let mut words = line.split(' ');
        let (what, task) = (words.next().unwrap(), words.next().unwrap());
        match what {
            "start" => broken_off += usize::from(open.insert(task, 1).is_some()),
            "done" => {
                open.remove(task);
                *finished.entry(task).or_default() += 1;
            }
            _ => {}
        }
    }
    assert!(finished.values().all(|count| *count == 1), "a finished run was run again");
    assert!(broken_off <= KILLS * 4, "{broken_off} runs began anew after {KILLS} kills");
    assert_eq!(finished.len(), DELIVERIES);
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
