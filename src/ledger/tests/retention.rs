//! What is old goes, wholly and in small commits; what is needed stays.

use super::*;
use crate::ledger::DeedFilter;
use crate::ledger::rows::{Conversation, LogLine};
use crate::ledger::store::codec::Row;
use crate::ledger::store::kept::{
    BodyRow, CallRow, ConversationRow, DedupeRow, HappeningRow, LiveRow, LogRow, LogSizeRow, OutboxRow, PendingRow,
    SpecRow, TaskRow,
};
use crate::ledger::store::tables::{DeadMark, TaskOf};
use crate::ledger::transition::{FORGOTTEN_ROWS_MAX, HAPPENINGS_MAX};

const DAY: i64 = 24 * 3600;

/// Rows of every table but the happenings and the layout.
fn rows(ledger: &Ledger) -> Vec<(&'static str, u64)> {
    let reader = ledger.shared().store.begin_read().unwrap();
    let mut counts = Vec::new();
    macro_rules! count {
        ($($row:ty),* $(,)?) => {
            $(counts.push((<$row>::TABLE, reader.rows::<$row>().unwrap().count().unwrap()));)*
        };
    }
    count!(
        Delivery,
        BodyRow,
        DedupeRow,
        TaskRow,
        SpecRow,
        LiveRow,
        DeadMark,
        TaskOf,
        OutboxRow,
        CallRow,
        PendingRow,
        ConversationRow,
        LogRow,
        LogSizeRow,
    );
    counts
}

/// A delivery of two tasks that both end on that day, with logs and answers that are sent.
async fn finished(ledger: &Ledger, day: i64, log_rows: usize) -> DeliveryId {
    let spec = || TaskSpec { max_attempts: 1, ..task_spec() };
    let mut all = with_key(accept(vec![new_task(spec()), new_task(spec())]), &day.to_string(), (day + 7) * DAY);
    all.delivery.received_at = at(day * DAY);
    all.outbox.push(outbox_item(Some(all.delivery.id), 0, 1));
    let id = all.delivery.id;
    ledger.accept(all).await.unwrap();
    for finish in [succeeded(), failed(Code::AgentFailed)] {
        let task = leased(ledger, day * DAY).await.unwrap().spec.id;
        let line = LogLine { at: at(0), attempt: 1, kind: "agent".to_owned(), text: "x".to_owned() };
        let appends = (0..log_rows).map(|_| ledger.append_log(task, vec![line.clone()]));
        futures_util::future::join_all(appends).await;
        let answers = vec!["one".to_owned(), "two".to_owned()];
        ledger.finish(task, 1, finish, answers, at(day * DAY)).await.unwrap();
    }
    loop {
        let claimed = ledger.claim_outbox(at(day * DAY), 100).await.unwrap();
        if claimed.is_empty() {
            return id;
        }
        for (item, _) in claimed {
            ledger.outbox_done(item.id, OutboxState::Sent, None, None, at(0)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn old_work_goes_without_a_trace_in_small_commits() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    finished(&ledger, 0, 700).await;
    ledger.put_conversation("c", Conversation::default()).await.unwrap();
    assert_eq!(ledger.depth().await.unwrap().dead, 1);
    assert_eq!(ledger.maintain(at(DAY)).await.unwrap(), 0, "nothing is old yet");
    let commits = ledger.commits();
    let removed = ledger.maintain(at(40 * DAY)).await.unwrap();
    assert!(removed > 1_400, "{removed}");
    let commits = ledger.commits() - commits;
    assert!(commits as usize >= removed / FORGOTTEN_ROWS_MAX, "{commits} commits for {removed} rows");
    assert_eq!(rows(&ledger).into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), []);
    assert_eq!(ledger.depth().await.unwrap().dead, 0);
    assert_eq!(ledger.maintain(at(40 * DAY)).await.unwrap(), 0);
    let ledger = reopened(ledger, directory.path()).await;
    assert_eq!(ledger.depth().await.unwrap().dead, 0);
}

#[tokio::test]
async fn what_is_young_or_not_done_stays() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let old = finished(&ledger, 0, 1).await;
    let young = finished(&ledger, 30, 1).await;
    // Old, but one of its tasks still waits.
    let waiting = accept(vec![new_task(task_spec()), new_task(task_spec())]);
    let (waits, first) = (waiting.delivery.id, waiting.tasks[0].spec.id);
    ledger.accept(waiting).await.unwrap();
    ledger.cancel(first, at(0)).await.unwrap();
    // Old, but its acknowledgement is not sent.
    let mut unsent = accept(vec![]);
    unsent.outbox.push(outbox_item(Some(unsent.delivery.id), 0, 1));
    let unsent_id = unsent.delivery.id;
    ledger.accept(unsent).await.unwrap();
    ledger.maintain(at(35 * DAY)).await.unwrap();
    let mut there = Vec::new();
    for id in [old, young, waits, unsent_id] {
        there.push(ledger.delivery(id).await.unwrap().is_some() && ledger.delivery_body(id).await.unwrap().is_some());
    }
    assert_eq!(there, [false, true, true, true]);
    assert!(ledger.task(first).await.unwrap().is_some(), "a delivery goes as a whole or not at all");
    assert_eq!(leased_ids(&ledger, 35 * DAY).await.len(), 1);
}

#[tokio::test]
async fn work_without_a_delivery_goes_too_and_redriven_work_is_young_again() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let mut all = accept(vec![new_task(task_spec()), new_task(task_spec())]);
    for task in &mut all.tasks {
        task.spec.delivery = None;
    }
    let ids = [all.tasks[0].spec.id, all.tasks[1].spec.id];
    ledger.accept(all).await.unwrap();
    for id in ids {
        ledger.cancel(id, at(0)).await.unwrap();
    }
    ledger.redrive(ids[1], at(39 * DAY)).await.unwrap();
    ledger.cancel(ids[1], at(39 * DAY)).await.unwrap();
    ledger.maintain(at(40 * DAY)).await.unwrap();
    assert!(ledger.task(ids[0]).await.unwrap().is_none());
    assert!(ledger.task(ids[1]).await.unwrap().is_some());
}

#[tokio::test]
async fn expired_dedupe_keys_go_and_others_stay() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    for n in 0..20 {
        ledger.accept(with_key(accept(vec![]), &n.to_string(), n)).await.unwrap();
    }
    assert_eq!(ledger.maintain(at(9)).await.unwrap(), 10, "seconds 0 to 9");
    let left = rows(&ledger).into_iter().find(|(table, _)| *table == "dedupe");
    assert_eq!(left, Some(("dedupe", 10)));
}

#[tokio::test]
async fn only_the_latest_happenings_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    for _ in 0..8 {
        let notes = (0..250).map(|n| ledger.note("a.b", None, n.to_string()));
        futures_util::future::join_all(notes).await;
    }
    let reader = ledger.shared().store.begin_read().unwrap();
    let rows = reader.rows::<HappeningRow>().unwrap();
    let count: u64 = rows.all().unwrap().map(|entry| entry.unwrap().1.unwrap().happenings.len() as u64).sum();
    drop((rows, reader));
    assert!((HAPPENINGS_MAX..HAPPENINGS_MAX + 1_500).contains(&count), "{count}");
    let ledger = reopened(ledger, directory.path()).await;
    ledger.note("last", None, String::new()).await.unwrap();
    let last = ledger.happenings(2_000, 9, Duration::ZERO).await.unwrap();
    assert_eq!((last[0].seq, last[0].kind.as_str()), (2_001, "last"));
}

#[tokio::test]
async fn the_oldest_work_goes_when_all_of_it_takes_too_much_room() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { keep_bytes: 3_000, ..Options::default() };
    let ledger = Ledger::open(&directory.path().join(crate::ledger::FILE), options).unwrap();
    // Two tasks with 1,000 bytes of log each.
    let mut ids = Vec::new();
    for day in 0..4 {
        ids.push(finished(&ledger, day, 1_000).await);
    }
    assert!(ledger.maintain(at(5 * DAY)).await.unwrap() > 3_000);
    let mut there = Vec::new();
    for id in &ids {
        there.push(ledger.delivery(*id).await.unwrap().is_some() && ledger.delivery_body(*id).await.unwrap().is_some());
    }
    assert_eq!(there, [false, false, false, true], "what fits stays");
    assert_eq!(ledger.maintain(at(5 * DAY)).await.unwrap(), 0);
    let logs = rows(&ledger).into_iter().find(|(table, _)| *table == LogRow::TABLE).unwrap().1;
    assert!((1..=2_000).contains(&logs), "{logs}");
}

#[tokio::test]
async fn what_somebody_did_is_known_longer_than_what_happened_and_not_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    ledger.suspend(Some(webhook("w")), true, "ann").await.unwrap();
    for _ in 0..8 {
        let notes = (0..250).map(|n| ledger.note("a.b", None, n.to_string()));
        futures_util::future::join_all(notes).await;
    }
    assert_ne!(ledger.happenings(0, 1, Duration::ZERO).await.unwrap()[0].kind, "webhook.suspended");
    let ledger = reopened(ledger, directory.path()).await;
    let deeds = async |filter: DeedFilter| ledger.deeds(filter).await.unwrap().items.len();
    assert_eq!(deeds(DeedFilter::default()).await, 1);
    assert_eq!(deeds(DeedFilter { actor: Some("an".to_owned()), ..DeedFilter::default() }).await, 1);
    assert_eq!(deeds(DeedFilter { actor: Some("bob".to_owned()), ..DeedFilter::default() }).await, 0);
    assert_eq!(deeds(DeedFilter { kinds: vec!["webhook.*".to_owned()], ..DeedFilter::default() }).await, 1);
    assert_eq!(deeds(DeedFilter { before: Some(1), ..DeedFilter::default() }).await, 0);
    ledger.maintain(at(360 * DAY)).await.unwrap();
    assert_eq!(deeds(DeedFilter::default()).await, 1);
    ledger.maintain(at(370 * DAY)).await.unwrap();
    assert_eq!(deeds(DeedFilter::default()).await, 0);
}
