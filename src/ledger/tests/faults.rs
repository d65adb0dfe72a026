//! The disk says no for a while: nothing is promised meanwhile, nothing promised is lost, and it heals by itself.

use super::disk::{Disk, Fault};
use super::*;
use crate::ledger::TaskFilter;
use crate::model::task::TaskState;

async fn until_healthy(ledger: &Ledger) {
    let healing = async {
        while !ledger.healthy() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), healing).await.expect("it heals by itself");
}

#[tokio::test]
async fn failing_disk_is_refused_with_a_reason_and_heals_without_help() {
    let disk = Disk::default();
    let ledger = disk.ledger(&options()).unwrap();
    let before = accept_one(&ledger, task_spec()).await;
    disk.set_fault(Fault::Writing);
    for _ in 0..20 {
        let refused = ledger.accept(accept(vec![new_task(task_spec())])).await.unwrap_err();
        assert_eq!(refused.code(), Code::LedgerUnavailable);
        assert!(!ledger.healthy());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    disk.set_fault(Fault::None);
    until_healthy(&ledger).await;
    let after = accept_one(&ledger, task_spec()).await;
    let ids: Vec<_> = ledger.tasks(TaskFilter::default()).await.unwrap().iter().map(|task| task.spec.id).collect();
    assert_eq!(ids, [after, before], "what was refused is not there");
    assert_eq!(leased_ids(&ledger, 0).await.len(), 2);
}

#[tokio::test]
async fn delivery_whose_fate_is_unknown_is_a_duplicate_when_it_is_sent_again() {
    let disk = Disk::default();
    let ledger = disk.ledger(&options()).unwrap();
    let lost = with_key(accept(vec![new_task(task_spec())]), "id", 100);
    let of = lost.delivery.id;
    disk.set_fault(Fault::SyncingAfterAll);
    assert_eq!(ledger.accept(lost).await.unwrap_err().code(), Code::LedgerUnavailable);
    disk.set_fault(Fault::None);
    until_healthy(&ledger).await;
    let again = with_key(accept(vec![new_task(task_spec())]), "id", 100);
    assert_eq!(ledger.accept(again).await.unwrap(), Accepted::Duplicate { of });
    assert_eq!(leased_ids(&ledger, 0).await.len(), 1, "it runs, once");
}

#[tokio::test]
async fn lease_that_was_never_answered_does_not_stay_with_nobody() {
    let disk = Disk::default();
    let ledger = disk.ledger(&options()).unwrap();
    let held = accept_one(&ledger, task_spec()).await;
    assert_eq!(leased(&ledger, 0).await.unwrap().spec.id, held);
    let other = accept_one(&ledger, task_spec()).await;
    disk.set_fault(Fault::SyncingAfterAll);
    ledger.lease(lease(0)).await.unwrap_err();
    disk.set_fault(Fault::None);
    until_healthy(&ledger).await;
    assert_eq!(ledger.interrupted().await.unwrap().len(), 0, "the other one runs on");
    assert_eq!(ledger.task(held).await.unwrap().unwrap().state, TaskState::Running);
    assert_eq!(leased(&ledger, 0).await.unwrap().spec.id, other, "leased again");
    ledger.finish(held, 1, succeeded(), vec![], at(1)).await.unwrap();
}

#[tokio::test]
async fn result_whose_fate_is_unknown_is_told_apart_by_asking_again() {
    let disk = Disk::default();
    let ledger = disk.ledger(&options()).unwrap();
    for (fault, again) in [(Fault::Writing, None), (Fault::SyncingAfterAll, Some(Code::StaleAttempt))] {
        let id = accept_one(&ledger, task_spec()).await;
        leased(&ledger, 0).await.unwrap();
        disk.set_fault(fault);
        let answers = vec!["text".to_owned()];
        ledger.finish(id, 1, succeeded(), answers.clone(), at(1)).await.unwrap_err();
        disk.set_fault(Fault::None);
        until_healthy(&ledger).await;
        let code = ledger.finish(id, 1, succeeded(), answers, at(1)).await.err().map(|error| error.code());
        assert_eq!(code, again, "{fault:?}");
        assert_eq!(ledger.task(id).await.unwrap().unwrap().state, TaskState::Succeeded);
        assert_eq!(ledger.outbox_of(Some(id), None).await.unwrap().len(), 1, "one answer, whatever happened");
    }
}

#[tokio::test]
async fn claim_that_was_never_answered_is_due_again_in_doubt() {
    let disk = Disk::default();
    let ledger = disk.ledger(&options()).unwrap();
    let mut accept = accept(vec![]);
    accept.outbox.extend([outbox_item(None, 0, 1), outbox_item(None, 0, 1)]);
    ledger.accept(accept).await.unwrap();
    let held = ledger.claim_outbox(at(0), 1).await.unwrap();
    disk.set_fault(Fault::SyncingAfterAll);
    ledger.claim_outbox(at(0), 1).await.unwrap_err();
    disk.set_fault(Fault::None);
    until_healthy(&ledger).await;
    let claimed = ledger.claim_outbox(at(0), 9).await.unwrap();
    assert_eq!(claimed.len(), 1, "the first is still held");
    assert_ne!(claimed[0].0.id, held[0].0.id);
    assert!(claimed[0].1);
    ledger.outbox_done(held[0].0.id, OutboxState::Sent, None, None, at(0)).await.unwrap();
}
