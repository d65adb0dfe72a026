//! The writer: commits, batches, locks, the end.

use super::*;
use crate::ledger::TaskFilter;
use crate::model::task::TaskState;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepts_that_come_together_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let before = ledger.commits();
    let accepts = (0..200).map(|_| {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.accept(accept(vec![new_task(task_spec())])).await.unwrap() })
    });
    for accepted in accepts.collect::<Vec<_>>() {
        assert_eq!(accepted.await.unwrap(), Accepted::Fresh);
    }
    let commits = ledger.commits() - before;
    assert!((1..100).contains(&commits), "{commits} commits for 200 accepts");
}

#[tokio::test(flavor = "current_thread")]
async fn duplicate_in_the_same_batch_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let accepts = (0..50).map(|_| ledger.accept(with_key(accept(vec![new_task(task_spec())]), "same", 100)));
    let accepted = futures_util::future::join_all(accepts).await;
    let fresh = accepted.iter().filter(|accepted| matches!(accepted, Ok(Accepted::Fresh))).count();
    assert_eq!(fresh, 1);
    assert!(ledger.commits() < 50, "they did share batches");
    assert_eq!(ledger.tasks(TaskFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn refused_command_leaves_its_batch_alone() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let unknown = TaskId(id_of(1));
    let (good, bad, also_good) = tokio::join!(
        ledger.accept(accept(vec![new_task(task_spec())])),
        ledger.cancel(unknown, at(0)),
        ledger.note("x.y", None, "z".to_owned()),
    );
    assert_eq!(good.unwrap(), Accepted::Fresh);
    assert_eq!(bad.unwrap_err().code(), Code::NotFound);
    also_good.unwrap();
}

#[tokio::test]
async fn asking_for_nothing_commits_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let before = ledger.commits();
    assert!(leased(&ledger, 0).await.is_none());
    assert!(ledger.claim_outbox(at(0), 9).await.unwrap().is_empty());
    assert_eq!(ledger.commits(), before);
}

#[tokio::test]
async fn second_opening_is_refused_and_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let second = Ledger::open(&directory.path().join("ledger.redb"), options()).unwrap_err();
    assert_eq!(second.code(), Code::DataDirectoryBusy);
    assert!(second.message().contains(&std::process::id().to_string()), "{second}");
    accept_one(&ledger, task_spec()).await;
    let ledger = reopened(ledger, directory.path()).await;
    assert_eq!(ledger.depth().await.unwrap().queued, 1);
}

#[tokio::test]
async fn after_closing_everything_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    ledger.close().await;
    ledger.close().await;
    let refused = [
        ledger.accept(accept(vec![])).await.unwrap_err(),
        ledger.lease(lease(0)).await.unwrap_err(),
        ledger.task(TaskId(id_of(1))).await.unwrap_err(),
        ledger.put_generations(vec![]).unwrap_err(),
        ledger.generations().unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.code() == Code::LedgerUnavailable), "{refused:?}");
}

#[tokio::test]
async fn lease_that_nobody_waits_for_goes_back() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let id = accept_one(&ledger, task_spec()).await;
    {
        // Asked once, so that the command is on its way, and then given up.
        let mut asking = Box::pin(ledger.lease(lease(0)));
        assert!(futures_util::poll!(&mut asking).is_pending());
    }
    let task = loop {
        if let Some(task) = leased(&ledger, 0).await {
            break task;
        }
    };
    assert_eq!(task.spec.id, id);
    assert!(task.attempts_spent == 0);
}

#[tokio::test]
async fn work_signal_wakes_every_handle_once_for_a_change() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let (one, two) = (ledger.clone(), ledger.clone());
    let long = Duration::from_secs(60);
    // A fresh handle has not looked yet.
    one.work_signal(long).await;
    two.work_signal(long).await;
    let waiting = tokio::spawn(async move {
        one.work_signal(long).await;
        one
    });
    accept_one(&ledger, task_spec()).await;
    let one = waiting.await.unwrap();
    two.work_signal(long).await;
    let begun = std::time::Instant::now();
    let short = Duration::from_millis(30);
    one.work_signal(short).await;
    two.work_signal(short).await;
    assert!(begun.elapsed() >= 2 * short, "nothing new: both wait for their time");
}

#[tokio::test]
async fn depth_counts_what_waits() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let mut specs: Vec<_> = (0..4).map(|n| TaskSpec { created_at: at(n), ..task_spec() }).collect();
    let checking = NewTask { lookup: Some(lookup()), ..new_task(specs.remove(0)) };
    let mut all = accept(specs.into_iter().map(new_task).chain([checking]).collect());
    all.outbox.push(outbox_item(None, 0, 1));
    ledger.accept(all).await.unwrap();
    let first = leased(&ledger, 9).await.unwrap();
    ledger.finish(first.spec.id, 1, failed(Code::AgentRefused), vec![], at(9)).await.unwrap();
    leased(&ledger, 9).await.unwrap();
    let ledger = reopened(ledger, directory.path()).await;
    let depth = ledger.depth().await.unwrap();
    assert_eq!((depth.checking, depth.queued, depth.running, depth.dead, depth.outbox_waiting), (1, 1, 1, 1, 1));
    assert_eq!(depth.oldest_queued_at, Some(at(3)));
    let counts =
        async |state| ledger.tasks(TaskFilter { states: vec![state], ..TaskFilter::default() }).await.unwrap().len();
    for state in [TaskState::Checking, TaskState::Queued, TaskState::Running, TaskState::Dead] {
        assert_eq!(counts(state).await, 1, "{state:?}");
    }
}
