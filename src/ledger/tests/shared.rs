//! Several nodes on one ledger in PostgreSQL: they see each other's work, never hold the same, and take over from the dead.

use std::collections::BTreeSet;
use std::time::Instant;

use super::*;
use crate::ledger::TaskFilter;
use crate::ledger::migrate::{self, Place, migrate};
use crate::ledger::rows::{Conversation, Generation};
use crate::ledger::store::shared::holds_after;
use crate::ledger::tests::disk::Random;
use crate::model::task::TaskState;

/// Longest wait for anything that another node has to hear of.
const SOON: Duration = Duration::from_secs(60);

/// Nodes with directories of their own on one ledger.
struct Cluster {
    server: PostgresServer,
    directories: Vec<TempDir>,
}

impl Cluster {
    fn of(nodes: usize) -> Option<Self> {
        let server = PostgresServer::start()?;
        let directories = (0..nodes).map(|_| database_directory(&server, "together")).collect();
        Some(Self { server, directories })
    }

    fn node(&self, number: usize, lease: Duration) -> Ledger {
        let directory = self.directories[number].path();
        let url = std::fs::read_to_string(directory.join("database")).unwrap();
        let shared = Some(SharedSettings { url: SecretValue::new(url), lease });
        Ledger::open(&directory.join("ledger.redb"), Options { shared, ..options() }).unwrap()
    }

    fn nodes(&self) -> Vec<Ledger> {
        (0..self.directories.len()).map(|number| self.node(number, LEASE)).collect()
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < SOON, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One server for all of it, because a server costs seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_work_on_one_ledger_as_one() {
    let Some(cluster) = Cluster::of(3) else { return };
    let nodes = cluster.nodes();
    a_key_is_seen_once_whichever_node_asks(&nodes).await;
    each_task_is_leased_once_and_conversations_never_overlap(&nodes).await;
    each_call_is_claimed_once(&nodes).await;
    what_one_writes_the_others_read(&nodes).await;
    nodes_hear_of_work_and_of_each_other(&nodes).await;
}

async fn a_key_is_seen_once_whichever_node_asks(nodes: &[Ledger]) {
    for round in 0..10 {
        let key = format!("key-{round}");
        let accepts = nodes.iter().map(|node| node.accept(with_key(accept(vec![new_task(task_spec())]), &key, 1_000)));
        let answers = futures_util::future::join_all(accepts).await;
        let fresh = answers.iter().filter(|answer| *answer.as_ref().unwrap() == Accepted::Fresh).count();
        assert_eq!(fresh, 1, "{answers:?}");
    }
    let tasks = nodes[0].tasks(TaskFilter::default()).await.unwrap();
    assert_eq!(tasks.len(), 10);
    for task in tasks {
        nodes[1].cancel(task.spec.id, at(1)).await.unwrap();
    }
    assert_eq!(nodes[2].lease(lease(2)).await.unwrap(), None, "cancelled elsewhere");
}

async fn each_task_is_leased_once_and_conversations_never_overlap(nodes: &[Ledger]) {
    for number in 0..24 {
        let conversation_id = format!("talk-{}", number % 6);
        let spec = TaskSpec { source: Source { conversation_id, ..Source::default() }, ..task_spec() };
        accept_one(&nodes[number % 3], TaskSpec { created_at: at(number as i64), ..spec }).await;
    }
    let mut done: Vec<(String, i64)> = Vec::new();
    while done.len() < 24 {
        let leased = futures_util::future::join_all(nodes.iter().map(|node| node.lease(lease(100)))).await;
        let leased: Vec<_> = leased.into_iter().map(|task| task.unwrap()).collect();
        let talks: Vec<_> = leased.iter().flatten().map(|task| task.spec.source.conversation_id.clone()).collect();
        assert_eq!(
            talks.len(),
            talks.iter().collect::<BTreeSet<_>>().len(),
            "two nodes in one conversation: {talks:?}"
        );
        for (node, task) in nodes.iter().zip(&leased) {
            let Some(task) = task else { continue };
            done.push((task.spec.source.conversation_id.clone(), task.spec.created_at.as_second()));
            node.finish(task.spec.id, task.attempt, succeeded(), Vec::new(), at(101)).await.unwrap();
        }
    }
    assert_eq!(done.iter().collect::<BTreeSet<_>>().len(), 24, "each once");
    for talk in 0..6 {
        let of: Vec<_> = done.iter().filter(|(id, _)| *id == format!("talk-{talk}")).map(|(_, born)| *born).collect();
        assert!(of.is_sorted(), "{of:?}");
    }
}

async fn each_call_is_claimed_once(nodes: &[Ledger]) {
    let mut delivery = accept(vec![]);
    delivery.outbox = (0..9).map(|_| outbox_item(Some(delivery.delivery.id), 0, 1)).collect();
    nodes[0].accept(delivery).await.unwrap();
    // Answers of the tasks before may wait too.
    let mut claimed = BTreeSet::new();
    loop {
        let claims = futures_util::future::join_all(nodes.iter().map(|node| node.claim_outbox(at(200), 2))).await;
        let mut all: Vec<_> = Vec::new();
        for (node, items) in nodes.iter().zip(claims) {
            all.extend(items.unwrap().into_iter().map(|(item, in_doubt)| (node, item, in_doubt)));
        }
        if all.is_empty() {
            break;
        }
        for (node, item, in_doubt) in all {
            assert!(!in_doubt);
            assert!(claimed.insert(item.id), "claimed twice");
            node.outbox_done(item.id, OutboxState::Sent, None, None, at(201)).await.unwrap();
        }
    }
    assert!(claimed.len() >= 9);
}

async fn what_one_writes_the_others_read(nodes: &[Ledger]) {
    let talk = Conversation { turns: 3, ..Conversation::default() };
    nodes[0].put_conversation("talk", talk.clone()).await.unwrap();
    nodes[1].put_transcript("talk", "session", b"said".to_vec()).await.unwrap();
    assert_eq!(nodes[2].conversation("talk").await.unwrap(), talk);
    assert_eq!(nodes[0].transcript("talk", "session").await.unwrap(), Some(b"said".to_vec()));
    let generation = |number| Generation { number, digest: Digest::of(b"spec") };
    nodes[0].put_generations(vec![(webhook("w"), generation(5))]).unwrap();
    nodes[1].put_generations(vec![(webhook("w"), generation(3))]).unwrap();
    assert_eq!(nodes[2].generations().unwrap()[&webhook("w")].number, 5, "numbers never count down");
    nodes[0].suspend(Some(webhook("w")), true).await.unwrap();
    let id = accept_one(&nodes[1], task_spec()).await;
    assert_eq!(leased(&nodes[2], 300).await, None, "held back on every node");
    nodes[2].suspend(Some(webhook("w")), false).await.unwrap();
    assert_eq!(leased(&nodes[0], 300).await.map(|task| task.spec.id), Some(id));
    let asked = nodes[2].cancel(id, at(301)).await.unwrap();
    assert!(asked.cancel_requested && asked.state == TaskState::Running);
    assert!(nodes[0].task(id).await.unwrap().unwrap().cancel_requested);
    nodes[0].finish(id, 1, Finish::Cancelled { result: None }, Vec::new(), at(302)).await.unwrap();
}

async fn nodes_hear_of_work_and_of_each_other(nodes: &[Ledger]) {
    let waiting = nodes[2].clone();
    waiting.work_signal(Duration::ZERO).await;
    let id = accept_one(&nodes[0], task_spec()).await;
    waiting.work_signal(SOON).await;
    until("the news of a task", || async { nodes[2].depth().await.unwrap().queued == 1 }).await;
    nodes[1].cancel(id, at(400)).await.unwrap();
    for (number, node) in nodes.iter().enumerate() {
        node.introduce(|about| about.name = format!("node {number}"));
    }
    let seen = nodes[0].nodes().unwrap();
    until("the nodes to know each other", || async {
        let names: BTreeSet<_> = seen.borrow().iter().map(|node| node.about.name.clone()).collect();
        names == (0..3).map(|number| format!("node {number}")).collect()
    })
    .await;
    until("one leader", || async { nodes.iter().filter(|node| node.leads()).count() == 1 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_held_is_taken_over_and_it_may_say_nothing_more() {
    let Some(cluster) = Cluster::of(2) else { return };
    let short = Duration::from_secs(3);
    let (first, second) = (cluster.node(0, short), cluster.node(1, short));
    let id = accept_one(&first, task_spec()).await;
    let mut delivery = accept(vec![]);
    delivery.outbox.push(outbox_item(Some(delivery.delivery.id), 0, 1));
    first.accept(delivery).await.unwrap();
    assert_eq!(leased(&first, 1).await.unwrap().spec.id, id);
    assert_eq!(first.claim_outbox(at(1), 9).await.unwrap().len(), 1);
    assert_eq!(leased(&second, 1).await, None);
    assert!(second.claim_outbox(at(1), 9).await.unwrap().is_empty());
    // It goes on to live as long as it renews its lease, which it does by itself.
    tokio::time::sleep(short + short).await;
    assert!(first.holds());
    assert_eq!(leased(&second, 2).await, None);
    // From here on it says nothing, as if it were frozen.
    first.shared().store.shared().unwrap().news().end();
    let mut taken = None;
    while taken.is_none() {
        taken = leased(&second, 3).await;
        assert!(taken.is_none() || !first.holds(), "two nodes may count on one task");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let taken = taken.unwrap();
    assert_eq!((taken.spec.id, taken.attempt), (id, 2));
    let calls = second.claim_outbox(at(3), 9).await.unwrap();
    assert!(calls.len() == 1 && calls[0].1, "it may have gone out already: {calls:?}");
    let late = first.finish(id, 1, succeeded(), vec!["late".to_owned()], at(4)).await.unwrap_err();
    assert_eq!(late.code(), Code::StaleAttempt);
    let late = first.task(id).await.unwrap().unwrap();
    assert_eq!((late.state, late.attempt), (TaskState::Running, 2));
    second.finish(id, 2, succeeded(), Vec::new(), at(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_in_time_finds_what_it_ran() {
    let Some(cluster) = Cluster::of(2) else { return };
    let nodes = cluster.nodes();
    let id = accept_one(&nodes[0], task_spec()).await;
    leased(&nodes[0], 1).await.unwrap();
    // Another process of the same directory cannot be; a copy of the directory can, and has the name from then on.
    let copy = tempfile::tempdir().unwrap();
    for file in ["database", "node"] {
        std::fs::copy(cluster.directories[0].path().join(file), copy.path().join(file)).unwrap();
    }
    let again = open(copy.path());
    let interrupted = again.interrupted().await.unwrap();
    assert_eq!(interrupted.iter().map(|lease| (lease.task, lease.attempt)).collect::<Vec<_>>(), [(id, 1)]);
    assert!(nodes[1].interrupted().await.unwrap().is_empty());
    again.finish(id, 1, succeeded(), Vec::new(), at(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_killed_loses_nothing_that_was_answered() {
    let Some(mut cluster) = Cluster::of(2) else { return };
    let nodes = cluster.nodes();
    let mut answered = BTreeSet::new();
    for round in 0..3 {
        let accepts = (0..40).map(|number| {
            let spec = task_spec();
            let (node, id) = (nodes[number % 2].clone(), spec.id);
            tokio::spawn(async move { node.accept(accept(vec![new_task(spec)])).await.map(|_| id) })
        });
        let accepts: Vec<_> = accepts.collect();
        if round < 2 {
            tokio::time::sleep(Duration::from_millis(15)).await;
            cluster.server.kill();
        }
        for accept in accepts {
            answered.extend(accept.await.unwrap().ok());
        }
        if round < 2 {
            cluster.server.run();
        }
        for node in &nodes {
            until("the database to be back", || async {
                node.healthy() && node.tasks(TaskFilter::default()).await.is_ok()
            })
            .await;
        }
    }
    let there = nodes[0].tasks(TaskFilter::default()).await.unwrap();
    let there: BTreeSet<_> = there.iter().map(|task| task.spec.id).collect();
    assert!(answered.len() >= 40, "the last round at least");
    assert!(answered.is_subset(&there), "{} answered, {} there", answered.len(), there.len());
    let mut run = BTreeSet::new();
    while let Some(task) = leased(&nodes[run.len() % 2], 9).await {
        assert!(run.insert(task.spec.id));
        let node = &nodes[(run.len() - 1) % 2];
        node.finish(task.spec.id, task.attempt, succeeded(), Vec::new(), at(9)).await.unwrap();
    }
    assert_eq!(run, there);
}

#[tokio::test]
async fn a_database_that_would_lose_deliveries_is_refused() {
    let Some(server) = PostgresServer::start() else { return };
    let directory = database_directory(&server, "unsafe");
    let url = server.url("schema=unsafe&options=-c%20synchronous_commit=off");
    let shared = Some(SharedSettings { url: SecretValue::new(url), lease: LEASE });
    let refused = Ledger::open(&directory.path().join("ledger.redb"), Options { shared, ..options() }).unwrap_err();
    assert_eq!(refused.code(), Code::EngineUnsafe);
    assert!(refused.message().contains("synchronous_commit"), "{refused}");
    open(directory.path()).close().await;
}

#[tokio::test]
async fn everything_moves_from_engine_to_engine_and_back() {
    let Some(server) = PostgresServer::start() else { return };
    let home = tempfile::tempdir().unwrap();
    let ledger = open(home.path());
    let (waits, runs, done) = (task_spec(), task_spec(), task_spec());
    let mut delivery = with_key(accept(vec![new_task(TaskSpec { priority: 1, ..done.clone() })]), "key", 1_000);
    delivery.outbox.push(outbox_item(Some(delivery.delivery.id), 0, 1));
    let (of, body) = (delivery.delivery.id, delivery.request.clone());
    ledger.accept(delivery).await.unwrap();
    let task = leased(&ledger, 1).await.unwrap();
    ledger.finish(task.spec.id, task.attempt, succeeded(), vec!["done".to_owned()], at(2)).await.unwrap();
    accept_one(&ledger, TaskSpec { priority: 2, ..runs.clone() }).await;
    accept_one(&ledger, TaskSpec { priority: 3, ..waits.clone() }).await;
    assert_eq!(leased(&ledger, 3).await.unwrap().spec.id, runs.id);
    let before = ledger.tasks(TaskFilter::default()).await.unwrap();
    let place = |schema: &str| Place::Postgres(SecretValue::new(server.url(&format!("schema={schema}"))));
    let file = |directory: &TempDir| Place::File(directory.path().to_owned());
    let busy = migrate(&file(&home), &place("one"), at(4)).unwrap_err();
    assert_eq!(busy.code(), Code::DataDirectoryBusy, "a service works on it");
    ledger.close().await;

    let there = migrate(&file(&home), &place("one"), at(4)).unwrap();
    assert!(!home.path().join("ledger.redb").exists(), "put aside");
    let second = tempfile::tempdir().unwrap();
    open(second.path()).close().await;
    let full = migrate(&file(&second), &place("one"), at(4)).unwrap_err();
    assert_eq!(full.code(), Code::Conflict, "{full}");
    let back = migrate(&place("one"), &file(&home), at(5)).unwrap();
    assert_eq!(back.rows, there.rows);
    assert!(there.rows.iter().any(|(table, rows)| *table == "live" && *rows == 2), "{there:?}");

    let ledger = open(home.path());
    assert_eq!(ledger.tasks(TaskFilter::default()).await.unwrap(), before);
    assert_eq!(ledger.delivery_body(of).await.unwrap(), Some(body));
    let again = with_key(accept(vec![]), "key", 1_000);
    assert_eq!(ledger.accept(again).await.unwrap(), Accepted::Duplicate { of });
    assert_eq!(ledger.claim_outbox(at(9), 9).await.unwrap().len(), 2);
    assert_eq!(ledger.interrupted().await.unwrap().len(), 1, "what ran is taken up or begins again");
}

#[tokio::test]
async fn nobody_begins_on_half_a_ledger() {
    let Some(server) = PostgresServer::start() else { return };
    let (home, away) = (tempfile::tempdir().unwrap(), database_directory(&server, "half"));
    let ledger = open(home.path());
    let id = accept_one(&ledger, task_spec()).await;
    ledger.close().await;
    let half = open(away.path());
    accept_one(&half, task_spec()).await;
    half.close().await;
    let to = Place::Postgres(SecretValue::new(server.url("schema=half")));
    migrate::begin(&to, at(1)).unwrap();
    let shared = Some(SharedSettings { url: SecretValue::new(server.url("schema=half")), lease: LEASE });
    let refused = Ledger::open(&away.path().join("ledger.redb"), Options { shared, ..options() }).unwrap_err();
    assert_eq!(refused.code(), Code::Conflict, "{refused}");
    migrate(&Place::File(home.path().to_owned()), &to, at(2)).unwrap();
    let ledger = open(away.path());
    let tasks = ledger.tasks(TaskFilter::default()).await.unwrap();
    assert_eq!(tasks.iter().map(|task| task.spec.id).collect::<Vec<_>>(), [id], "what was half is gone");
}

/// Nodes with clocks that run too fast or too slow, messages that come late or never, and a database that decides: a
/// node counts on its lease by its own clock, others take over by the database's.
#[test]
fn no_lease_has_two_holders_within_the_bound_of_the_clocks() {
    let lease_ms = 60_000_u64;
    for seed in 0..2_000 {
        let mut random = Random(seed);
        // Thousandths by which each node's clock is off: up to a quarter too slow or too fast.
        let rates: Vec<u64> = (0..3).map(|_| 750 + random.below(501)).collect();
        // Sent (the node's view, real time), and until when the database lets it live.
        let mut sent = [None::<u64>; 3];
        let mut alive_until = [0_u64; 3];
        let mut holder: Option<usize> = None;
        let mut now = 0;
        for _ in 0..400 {
            now += random.below(9_000);
            let node = random.below(3) as usize;
            match random.below(10) {
                // A renewal arrives late; its answer may be lost.
                0..=5 => {
                    let (sent_at, arrives) = (now, now + random.below(8_000));
                    now = arrives;
                    alive_until[node] = arrives + lease_ms;
                    if random.below(10) < 8 {
                        sent[node] = Some(sent_at);
                    }
                }
                // Somebody looks for the dead, and takes what they held.
                6 | 7 if alive_until[node] >= now && holder.is_none_or(|holder| alive_until[holder] < now) => {
                    holder = Some(node);
                }
                // A partition or a pause.
                8 => now += random.below(50_000),
                _ => {}
            }
            let counts_on_it = |node: usize| {
                let elapsed = sent[node].map(|sent| (now - sent) * rates[node] / 1_000);
                elapsed
                    .is_some_and(|elapsed| holds_after(Duration::from_millis(lease_ms), Duration::from_millis(elapsed)))
            };
            for other in (0..3).filter(|other| holder.is_some() && Some(*other) != holder) {
                // Whoever was the holder before may still run: not when it counts on its lease.
                let was_taken_from = alive_until[other] < now;
                assert!(!(was_taken_from && counts_on_it(other)), "seed {seed}: node {other} at {now} ms");
            }
        }
    }
}
