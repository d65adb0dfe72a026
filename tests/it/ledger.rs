//! The ledger as others use it: real files, real processes, real kills.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use jiff::Timestamp;
use skillhook::error::Code;
use skillhook::ledger::rows::{DedupeKey, Delivery, Outcome, RawRequest};
use skillhook::ledger::{Accept, Accepted, LeaseRequest, Ledger, NewTask, Options};
use skillhook::model::digest::Digest;
use skillhook::model::ids::{CommandName, DeliveryId, ProviderName, SkillName, TaskId, WebhookId};
use skillhook::model::spec::Action;
use skillhook::model::task::{RunSettings, Source, TaskSpec};
use skillhook::seam::fresh_id;

/// In the directory of a test process: it is the child of another, and accepts until it is killed.
const CHILD_MARK: &str = "accept-until-killed";
const KILLS: usize = 20;
const SENDERS: usize = 8;
pub const QUEUED: usize = 100_000;
pub const TASKS_A_DELIVERY: usize = 500;

fn spec(delivery: DeliveryId) -> TaskSpec {
    let id = TaskId(fresh_id());
    TaskSpec {
        id,
        delivery: Some(delivery),
        parent: None,
        webhook: WebhookId::parse("github").expect("a good name"),
        generation: 1,
        revision: Digest::of(b"revision"),
        command: CommandName::parse("fix").expect("a good name"),
        skill: SkillName::parse("fixing").expect("a good name"),
        agent: None,
        action: Action::CreateTask,
        prompt: "look at the issue and say what is wrong with it\n".repeat(20),
        prefixes: Vec::new(),
        missing: Vec::new(),
        source: Source { conversation_id: id.to_string(), ..Source::default() },
        priority: 100,
        max_attempts: 3,
        run: RunSettings::default(),
        webhook_concurrency: None,
        created_at: Timestamp::now(),
    }
}

pub fn accept(tasks: usize, key: &str) -> Accept {
    let id = DeliveryId(fresh_id());
    let tasks: Vec<_> = (0..tasks)
        .map(|_| NewTask { spec: spec(id), lookup: None, reply: None, continues: None, says: None })
        .collect();
    let now = Timestamp::now();
    Accept {
        delivery: Delivery {
            id,
            webhook: WebhookId::parse("github").expect("a good name"),
            provider: ProviderName::parse("github").expect("a good name"),
            generation: 1,
            revision: Digest::of(b"revision"),
            index_digest: Digest::of(b"index"),
            received_at: now,
            peer: "192.0.2.1".to_owned(),
            scheme: Some("sha256".to_owned()),
            body_bytes: 10,
            outcome: Outcome::Accepted,
            items: Vec::new(),
            tasks: tasks.iter().map(|task| task.spec.id).collect(),
        },
        request: RawRequest {
            method: "POST".to_owned(),
            url: "/webhooks/github".to_owned(),
            headers: Vec::new(),
            body: bytes::Bytes::from(format!("{{\"key\": \"{key}\"}}").repeat(100)),
        },
        dedupe: vec![DedupeKey {
            key: Digest::of(key.as_bytes()),
            expires_at: now + jiff::SignedDuration::from_hours(1),
        }],
        tasks,
        outbox: Vec::new(),
    }
}

fn open(directory: &Path) -> skillhook::error::Result<Ledger> {
    Ledger::open(&directory.join("ledger.redb"), Options::default())
}

/// Not a test of its own: the body of the child processes of the tests below.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_accepts_until_it_is_killed() {
    if !Path::new(CHILD_MARK).exists() {
        return;
    }
    let ledger = open(Path::new(".")).unwrap();
    let senders = (0..SENDERS).map(|sender| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            for n in 0..100_000_u32 {
                // Every tenth is sent twice, as providers do.
                let key = format!("{} {sender} {n}", std::process::id());
                for _ in 0..=u32::from(n % 10 == 0) {
                    let accepted = ledger.accept(accept(1, &key)).await.unwrap();
                    // One write a line, so that a kill leaves no half line that looks whole.
                    let line = format!("\n{key} {} .\n", accepted == Accepted::Fresh);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

fn spawn_child(directory: &Path) -> Child {
    std::fs::write(directory.join(CHILD_MARK), "").expect("the child can be run");
    Command::new(std::env::current_exe().expect("the child can be run"))
        .args(["ledger::child_accepts_until_it_is_killed", "--exact", "--nocapture", "--test-threads=1"])
        .current_dir(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .stdin(Stdio::null())
        .spawn()
        .expect("the child can be run")
}

/// The keys that the child says were accepted as fresh, up to so many; then it is killed.
fn read_then_kill(child: &mut Child, lines: usize) -> Vec<String> {
    let mut fresh = Vec::new();
    let mut output = BufReader::new(child.stdout.take().expect("the child can be run"));
    let mut line = String::new();
    let mut seen = 0;
    let mut killed = false;
    while output.read_line(&mut line).expect("the child can be run") > 0 {
        if let Some(said) = line.strip_suffix(" .\n") {
            fresh.extend(said.strip_suffix(" true").map(str::to_owned));
            seen += 1;
        }
        line.clear();
        if seen >= lines && !killed {
            child.kill().expect("the child can be run");
            killed = true;
        }
    }
    child.wait().expect("the child can be run");
    fresh
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_process_loses_nothing_and_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut promised = Vec::new();
    for kill in 0..KILLS {
        let mut child = spawn_child(directory.path());
        promised.extend(read_then_kill(&mut child, 5 + kill * 7));
    }
    let distinct: BTreeSet<_> = promised.iter().collect();
    assert_eq!(distinct.len(), promised.len(), "nothing is fresh twice");
    assert!(promised.len() > KILLS * 5, "{}", promised.len());

    let ledger = open(directory.path()).unwrap();
    for key in &promised {
        let again = ledger.accept(accept(1, key)).await.unwrap();
        assert!(matches!(again, Accepted::Duplicate { .. }), "{key} is lost");
    }
    let mut deliveries = BTreeSet::new();
    while let Some(task) = ledger.lease(LeaseRequest { running_max: usize::MAX, now: Timestamp::now() }).await.unwrap()
    {
        assert!(deliveries.insert(task.spec.delivery), "a delivery has two tasks");
    }
    // Those whose answer the kill swallowed may be there too: at most one for each sender and kill.
    assert!((promised.len()..=promised.len() + KILLS * SENDERS).contains(&deliveries.len()), "{}", deliveries.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_process_is_refused_with_the_id_of_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = spawn_child(directory.path());
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.ends_with(" .\n") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "the child ended");
    }
    let refused = open(directory.path()).unwrap_err();
    assert_eq!(refused.code(), Code::DataDirectoryBusy);
    assert!(refused.message().contains(&child.id().to_string()), "{refused}");
    line.clear();
    assert!(output.read_line(&mut line).unwrap() > 0, "the first goes on");
    child.kill().unwrap();
    child.wait().unwrap();
    open(directory.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_queued_tasks_are_ready_again() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path()).unwrap();
    for n in 0..QUEUED / TASKS_A_DELIVERY {
        ledger.accept(accept(TASKS_A_DELIVERY, &n.to_string())).await.unwrap();
    }
    // What a kill leaves: the file as it is, not closed.
    let killed = tempfile::tempdir().unwrap();
    std::fs::copy(directory.path().join("ledger.redb"), killed.path().join("ledger.redb")).unwrap();
    ledger.close().await;
    drop(ledger);
    for (directory, what) in [(&directory, "closed"), (&killed, "killed")] {
        let begun = Instant::now();
        let ledger = open(directory.path()).unwrap();
        let opened = begun.elapsed();
        assert_eq!(ledger.depth().await.unwrap().queued, QUEUED);
        let first = ledger.lease(LeaseRequest { running_max: 1, now: Timestamp::now() }).await.unwrap();
        assert!(first.is_some());
        let size = std::fs::metadata(directory.path().join("ledger.redb")).unwrap().len() / 1024 / 1024;
        println!("{what}: opened {QUEUED} queued tasks ({size} MiB) in {opened:?}, leased after {:?}", begun.elapsed());
    }
}
