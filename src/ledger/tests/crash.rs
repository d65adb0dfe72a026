//! The power goes in the middle of anything: what was answered is there, and nothing is there by half.
//!
//! The seeds are fixed, so that a failure can be repeated.

use std::collections::BTreeMap;

use super::disk::{Disk, Random};
use super::*;
use crate::ledger::TaskFilter;
use crate::model::task::TaskState;

const SEEDS: u64 = 200;
/// Rounds of up to a handful of commands at once before the power goes at the latest.
const ROUNDS: usize = 40;

/// What was answered, and what was asked when the power went.
#[derive(Default)]
struct Promises {
    accepted: BTreeMap<DeliveryId, Vec<TaskId>>,
    tasks: BTreeMap<TaskId, (TaskState, u32)>,
    /// What may have happened to a task or not.
    open: Vec<TaskId>,
    refused: BTreeMap<DeliveryId, Vec<TaskId>>,
    sent: Vec<OutboxId>,
    claimed: Vec<OutboxId>,
}

async fn accept_some(ledger: &Ledger, random: &mut Random) -> (DeliveryId, Vec<TaskId>, bool) {
    let tasks = (0..random.below(3)).map(|_| new_task(task_spec())).collect();
    let mut all = accept(tasks);
    let id = all.delivery.id;
    all = with_key(all, &id.to_string(), 1_000_000);
    all.outbox.push(outbox_item(Some(id), 0, 1));
    let tasks = all.delivery.tasks.clone();
    (id, tasks, ledger.accept(all).await.is_ok())
}

async fn accept_round(ledger: &Ledger, random: &mut Random, promises: &mut Promises) {
    let mut randoms: Vec<_> = (0..1 + random.below(6)).map(|_| Random(random.next())).collect();
    let accepts = randoms.iter_mut().map(|random| accept_some(ledger, random));
    for (id, tasks, answered) in futures_util::future::join_all(accepts).await {
        if answered {
            promises.tasks.extend(tasks.iter().map(|task| (*task, (TaskState::Queued, 0))));
            promises.accepted.insert(id, tasks);
        } else {
            promises.refused.insert(id, tasks);
        }
    }
}

async fn work_round(ledger: &Ledger, random: &mut Random, promises: &mut Promises) {
    match ledger.lease(lease(random.below(1_000) as i64)).await {
        Ok(Some(task)) => drop(promises.tasks.insert(task.spec.id, (task.state, task.attempt))),
        Ok(None) => {}
        // Which one it would have been is not known.
        Err(_) => promises.open.extend(promises.tasks.keys().copied()),
    }
    let running = promises.tasks.iter().filter(|(_, (state, _))| *state == TaskState::Running);
    let running: Vec<_> = running.map(|(id, (_, attempt))| (*id, *attempt)).collect();
    for (id, attempt) in running.into_iter().take(random.below(3) as usize) {
        let finish = match random.below(3) {
            0 => succeeded(),
            1 => failed(Code::AgentFailed),
            _ => Finish::Released { reason: reason(Code::AgentLimit), delay: Duration::ZERO },
        };
        match ledger.finish(id, attempt, finish, vec!["a".to_owned(), "b".to_owned()], at(0)).await {
            Ok(task) => drop(promises.tasks.insert(id, (task.state, task.attempt))),
            Err(_) => promises.open.push(id),
        }
    }
    if let Ok(claimed) = ledger.claim_outbox(at(0), random.below(4) as usize).await {
        for (item, _) in claimed {
            match ledger.outbox_done(item.id, OutboxState::Sent, None, None, at(0)).await {
                Ok(()) => promises.sent.push(item.id),
                Err(_) => promises.claimed.push(item.id),
            }
        }
    }
}

async fn check(ledger: &Ledger, promises: &Promises, seed: u64) {
    for (id, tasks) in &promises.accepted {
        let delivery = ledger.delivery(*id).await.unwrap().unwrap_or_else(|| panic!("seed {seed}: {id} is lost"));
        assert_eq!(delivery.tasks, *tasks);
        assert!(ledger.delivery_body(*id).await.unwrap().is_some(), "seed {seed}: the body of {id} is lost");
        let again = with_key(accept(vec![]), &id.to_string(), 1_000_000);
        assert_eq!(ledger.accept(again).await.unwrap(), Accepted::Duplicate { of: *id }, "seed {seed}");
    }
    for (id, tasks) in &promises.refused {
        let there = ledger.delivery(*id).await.unwrap().is_some();
        assert_eq!(ledger.delivery_body(*id).await.unwrap().is_some(), there, "seed {seed}: {id} is there by half");
        assert_eq!(ledger.outbox_of(None, Some(*id)).await.unwrap().len(), usize::from(there), "seed {seed}");
        for task in tasks {
            assert_eq!(ledger.task(*task).await.unwrap().is_some(), there, "seed {seed}: {id} is there by half");
        }
    }
    for (id, (state, attempt)) in &promises.tasks {
        let task = ledger.task(*id).await.unwrap().unwrap_or_else(|| panic!("seed {seed}: {id} is lost"));
        if !promises.open.contains(id) {
            assert_eq!((task.state, task.attempt), (*state, *attempt), "seed {seed}: {id} went back");
        }
        let answers = ledger.outbox_of(Some(*id), None).await.unwrap().len();
        assert_eq!(answers, if task.state.is_terminal() { 2 } else { 0 }, "seed {seed}: result and answers differ");
    }
    let due = ledger.claim_outbox(at(1_000_000), 1_000).await.unwrap();
    for (item, in_doubt) in &due {
        assert!(!promises.sent.contains(&item.id), "seed {seed}: {} would be sent twice", item.id);
        let was_claimed = promises.claimed.contains(&item.id);
        assert!(!was_claimed || *in_doubt, "seed {seed}: {} may have gone out", item.id);
    }
    let running = ledger.tasks(TaskFilter { states: vec![TaskState::Running], ..TaskFilter::default() }).await.unwrap();
    assert_eq!(ledger.interrupted().await.unwrap().len(), running.len(), "seed {seed}");
}

#[test]
fn power_loss_loses_nothing_that_was_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let options = Options {
            // Every other time with the quick recovery that big files use.
            verify_bytes_max: if seed % 2 == 0 { u64::MAX } else { 0 },
            ..options()
        };
        runtime.block_on(async {
            let disk = Disk::default();
            let ledger = disk.ledger(&options).unwrap();
            let mut promises = Promises::default();
            disk.lose_power_after(random.below(600));
            for _ in 0..ROUNDS {
                accept_round(&ledger, &mut random, &mut promises).await;
                work_round(&ledger, &mut random, &mut promises).await;
                if !disk.has_power() {
                    break;
                }
            }
            let found = disk.after_power_loss(&mut random);
            drop(ledger);
            let ledger = found.ledger(&options).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
            check(&ledger, &promises, seed).await;
        });
    }
}
