//! The plug is pulled, again and again: nothing is lost, nothing is answered twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;

use crate::image::Image;
use crate::service::{SOON, Service, git, issue_comment, own_webhook, sign, wait_for};

const KILLED: usize = 1000;
const KILLS: usize = 20;
const CUT_OFF: usize = 500;
const CUTS: usize = 10;
const TERMINATED: usize = 10;
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
    let (load, mut results) = (Load::begun(&service, KILLED), 0);
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
    load.is_done_once(&service).await;
    assert_runs(&service.journal(), KILLED, KILLS * RUNNING);
}

/// What had reached the disk when the current went away is all that is left, for the ledger as for git.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_power_cuts_lose_nothing_and_leave_the_repository_whole() {
    let place = tempfile::tempdir().unwrap();
    let mut image = None;
    let mut service = Service::prepared_on(json!({}), |root| image = Image::mounted(place.path(), root)).await;
    let Some(image) = image else {
        eprintln!("no image can be mounted here: power cuts are passed over");
        return;
    };
    service.start();
    service.wait_ready().await;
    let (load, mut results) = (Load::begun(&service, CUT_OFF), 0);
    let mut seed = 20_261_128;
    for cut in 0..CUTS {
        service.write_skill(&format!("hook-{cut}"), &own_webhook(&format!("hook-{cut}")));
        tokio::time::sleep(Duration::from_millis(100 + random(&mut seed) % 900)).await;
        if cut % 2 == 1 {
            wait_for_a_result(&service, &mut results).await;
        }
        image.keep_what_is_flushed(service.pid());
        service.kill();
        image.lose_the_rest();
        assert_whole(&service.root());
        service.start();
        service.wait_ready().await;
    }
    load.is_done_once(&service).await;
    // An editor's save that was never flushed may be gone; a commit that was pushed is not.
    service.write_skill("last", &own_webhook("last"));
    let remote = service.dir.path().join("remote.git");
    wait_for("the last edit at the remote", || async {
        git(&remote, &["ls-tree", "-r", "--name-only", "main"]).contains("skills/last/SKILL.md")
    })
    .await;
    assert_whole(&service.root());
    assert_whole(&remote);
    // It has the image open.
    service.kill();
}

/// Runs of three seconds are within the time that a stop leaves them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_at_every_second_delivery_ends_well_and_runs_nothing_again() {
    let mut service = Service::started(json!({ "seconds": 3.0 })).await;
    let url = service.url("/webhooks/github");
    for number in 1..=TERMINATED {
        send_until_acked(&service.client, &url, number).await;
        if number % 2 == 0 {
            let begun = || service.journal().iter().filter(|line| line.starts_with("start ")).count();
            wait_for("the runs to begin", || async { begun() == number }).await;
            assert!(service.terminate(), "the service did not end well");
            service.start();
            service.wait_ready().await;
        }
    }
    service.wait_tasks_done(TERMINATED, SOON).await;
    assert_answered_once(&service, TERMINATED).await;
    assert_runs(&service.journal(), TERMINATED, 0);
}

fn assert_whole(repository: &Path) {
    let output = Command::new("git").args(["fsck", "--full"]).current_dir(repository).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// So many deliveries, some of them twice, each sent again until it is acked.
struct Load {
    deliveries: usize,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    fn begun(service: &Service, deliveries: usize) -> Load {
        let next = Arc::new(AtomicUsize::new(0));
        let sender = |_| {
            let (next, url, client) = (Arc::clone(&next), service.url("/webhooks/github"), service.client.clone());
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed) + 1;
                    if number > deliveries {
                        return;
                    }
                    send_until_acked(&client, &url, number).await;
                    if number.is_multiple_of(10) {
                        send_until_acked(&client, &url, number).await;
                    }
                }
            })
        };
        Load { deliveries, senders: (0..SENDERS).map(sender).collect() }
    }

    /// Waits for the end of all: each ran well and was answered once.
    async fn is_done_once(self, service: &Service) {
        for sender in self.senders {
            sender.await.unwrap();
        }
        service.wait_tasks_done(self.deliveries, SOON).await;
        let tasks = service.tasks().await;
        assert_eq!(tasks.len(), self.deliveries, "phantom or duplicated tasks");
        let unfinished: Vec<_> = tasks.iter().filter(|task| task["state"] != "succeeded").collect();
        assert!(unfinished.is_empty(), "{unfinished:?}");
        assert_answered_once(service, self.deliveries).await;
    }
}

async fn assert_answered_once(service: &Service, deliveries: usize) {
    wait_for_comments(service, deliveries).await;
    let mut by_issue: BTreeMap<String, usize> = BTreeMap::new();
    for seen in service.github.seen().iter().filter(|seen| seen.method == "POST" && seen.path.ends_with("/comments")) {
        *by_issue.entry(seen.path.clone()).or_default() += 1;
    }
    let twice: Vec<_> = by_issue.iter().filter(|(_, count)| **count != 1).collect();
    assert!(twice.is_empty() && by_issue.len() == deliveries, "answered twice: {twice:?}");
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
async fn wait_for_comments(service: &Service, deliveries: usize) {
    let mut arrived = service.github.comments().len();
    while arrived < deliveries {
        assert!(service.github.wait_for_comments(arrived + 1, SOON).await, "{arrived} answers, and no more");
        arrived = service.github.comments().len();
    }
}

/// A run that gave its result is never run again; a run that a kill broke off may begin anew. (Whether it got to write
/// `done` after its result says nothing: a kill ends it as soon as the result has been read.)
fn assert_runs(journal: &[String], tasks: usize, broken_off_max: usize) {
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
    assert!(broken_off <= broken_off_max, "{broken_off} runs began anew");
    assert_eq!(runs.len(), tasks);
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
