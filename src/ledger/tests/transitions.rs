//! Each transition: what it does, what it refuses, and that it is still so after opening again.

use super::*;
use crate::ledger::rows::{Conversation, Generation, LogLine};
use crate::ledger::transition::{LOG_BYTES_MAX, LOG_LINES_MAX};
use crate::ledger::{DeliveryFilter, TaskFilter};
use crate::model::backoff;
use crate::model::task::TaskState;

const MINUTE: Duration = Duration::from_secs(60);

in_every_engine! {
    accepted_delivery_is_there_after_opening_again_with_every_byte,
    second_delivery_under_a_key_is_a_duplicate_until_the_key_expires,
    taken_ids_are_refused_and_change_nothing,
    lower_priority_number_runs_first_then_the_older,
    runs_of_one_conversation_never_overlap,
    limits_of_the_webhook_and_of_all_runs_hold,
    failed_attempts_wait_longer_and_end_as_a_dead_letter_that_answers,
    failure_that_trying_again_cannot_help_is_final,
    retry_after_of_the_other_side_wins,
    released_attempt_is_not_spent_and_its_number_fences,
    running_tasks_are_interrupted_at_boot_and_run_again_only_when_released,
    unchecked_task_never_runs_and_redriving_is_no_way_around,
    cancelling_ends_what_waits_and_asks_what_runs,
    parts_of_an_answer_go_one_after_the_other,
    call_that_may_have_gone_out_says_so,
    crash_while_sending_leaves_doubt,
    log_is_read_from_any_line_and_its_limit_announces_itself,
    conversations_and_generations_are_kept,
    happenings_go_on_counting_and_are_waited_for,
    pinned_revisions_are_those_of_tasks_that_have_not_ended,
    lists_are_newest_first_in_pages_and_filtered,
    clock_set_back_by_ten_years_delays_by_no_more_than_the_backoff,
    question_is_posted_waits_and_is_answered_once_by_a_child,
    who_was_asked_to_stop_asks_nothing_and_who_asks_can_be_stopped,
}

async fn state(ledger: &Ledger, id: TaskId) -> TaskState {
    ledger.task(id).await.unwrap().unwrap().state
}

async fn accepted_delivery_is_there_after_opening_again_with_every_byte(directory: &Path) {
    let ledger = open(directory);
    let mut accept = accept(vec![new_task(task_spec())]);
    accept.outbox.push(outbox_item(Some(accept.delivery.id), 0, 1));
    let (delivery, request, item) = (accept.delivery.clone(), accept.request.clone(), accept.outbox[0].clone());
    let spec = accept.tasks[0].spec.clone();
    assert_eq!(ledger.accept(accept).await.unwrap(), Accepted::Fresh);
    let ledger = reopened(ledger, directory).await;
    assert_eq!(ledger.delivery(delivery.id).await.unwrap(), Some(delivery.clone()));
    assert_eq!(ledger.delivery_body(delivery.id).await.unwrap(), Some(request));
    assert_eq!(ledger.task(spec.id).await.unwrap().unwrap().spec, spec);
    assert_eq!(ledger.outbox_of(None, Some(delivery.id)).await.unwrap(), [item]);
    assert_eq!(ledger.deliveries(DeliveryFilter::default()).await.unwrap(), [delivery]);
}

async fn second_delivery_under_a_key_is_a_duplicate_until_the_key_expires(directory: &Path) {
    let ledger = open(directory);
    let first = with_key(accept(vec![]), "id-1", 100);
    let of = first.delivery.id;
    assert_eq!(ledger.accept(first).await.unwrap(), Accepted::Fresh);
    let ledger = reopened(ledger, directory).await;
    let again = with_key(with_key(accept(vec![new_task(task_spec())]), "other", 100), "id-1", 100);
    let (delivery, task) = (again.delivery.id, again.tasks[0].spec.id);
    assert_eq!(ledger.accept(again).await.unwrap(), Accepted::Duplicate { of });
    assert_eq!(ledger.delivery(delivery).await.unwrap(), None, "nothing of a duplicate is written");
    assert_eq!(ledger.task(task).await.unwrap(), None);
    let mut late = with_key(accept(vec![]), "id-1", 300);
    late.delivery.received_at = at(100);
    assert_eq!(ledger.accept(late).await.unwrap(), Accepted::Fresh, "expired, though maintenance has not run");
}

async fn taken_ids_are_refused_and_change_nothing(directory: &Path) {
    let ledger = open(directory);
    let spec = task_spec();
    accept_one(&ledger, spec.clone()).await;
    let again = with_key(accept(vec![new_task(TaskSpec { prompt: "other".to_owned(), ..spec.clone() })]), "k", 9);
    assert_eq!(ledger.accept(again).await.unwrap_err().code(), Code::Conflict);
    assert_eq!(ledger.task(spec.id).await.unwrap().unwrap().spec.prompt, spec.prompt);
    assert_eq!(ledger.accept(with_key(accept(vec![]), "k", 9)).await.unwrap(), Accepted::Fresh);
}

async fn lower_priority_number_runs_first_then_the_older(directory: &Path) {
    let ledger = open(directory);
    let spec = |priority, second| TaskSpec { priority, created_at: at(second), ..task_spec() };
    let mut ids = Vec::new();
    for (priority, second) in [(100, 3), (100, 1), (7, 5), (100, 2)] {
        ids.push(accept_one(&ledger, spec(priority, second)).await);
    }
    assert_eq!(leased_ids(&ledger, 9).await, [ids[2], ids[1], ids[3], ids[0]]);
}

async fn runs_of_one_conversation_never_overlap(directory: &Path) {
    let ledger = open(directory);
    let of = |conversation: &str, second| TaskSpec {
        source: Source { conversation_id: conversation.to_owned(), ..Source::default() },
        created_at: at(second),
        ..task_spec()
    };
    let mut ids = Vec::new();
    for (conversation, second) in [("a", 1), ("a", 2), ("b", 3), ("", 4), ("", 5)] {
        ids.push(accept_one(&ledger, of(conversation, second)).await);
    }
    assert_eq!(leased_ids(&ledger, 9).await, [ids[0], ids[2], ids[3], ids[4]], "no conversation is no bond");
    ledger.finish(ids[0], 1, succeeded(), vec![], at(9)).await.unwrap();
    assert_eq!(leased_ids(&ledger, 9).await, [ids[1]]);
}

async fn limits_of_the_webhook_and_of_all_runs_hold(directory: &Path) {
    let ledger = open(directory);
    for name in ["w", "w", "w", "v", "v"] {
        let spec = TaskSpec { webhook: webhook(name), webhook_concurrency: Some(2), ..task_spec() };
        accept_one(&ledger, spec).await;
    }
    assert_eq!(leased_ids(&ledger, 9).await.len(), 4, "two of each webhook");
    assert_eq!(ledger.depth().await.unwrap().running, 4);
    let fifth = ledger.tasks(TaskFilter { states: vec![TaskState::Queued], ..TaskFilter::default() }).await.unwrap();
    assert_eq!(fifth.len(), 1);
    accept_one(&ledger, task_spec()).await;
    let all = LeaseRequest { running_max: 4, now: at(9) };
    assert!(ledger.lease(all).await.unwrap().is_none());
}

async fn failed_attempts_wait_longer_and_end_as_a_dead_letter_that_answers(directory: &Path) {
    let ledger = open(directory);
    let id = accept_one(&ledger, task_spec()).await;
    let mut second = 0;
    for attempt in 1..=3 {
        let task = leased(&ledger, second).await.unwrap();
        assert_eq!((task.attempt, task.attempts_spent), (attempt, attempt - 1));
        let answers = vec!["one".to_owned(), "two".to_owned()];
        let task = ledger.finish(id, attempt, failed(Code::AgentFailed), answers, at(second)).await.unwrap();
        if attempt < 3 {
            assert_eq!(task.state, TaskState::Queued);
            assert!(task.not_before <= after(second, backoff::ceiling(attempt)));
            assert!(leased(&ledger, second).await.is_none(), "not before its time");
            assert_eq!(ledger.outbox_of(Some(id), None).await.unwrap(), [], "only the end is answered");
            second += 60;
        } else {
            assert_eq!(task.state, TaskState::Dead);
        }
    }
    let texts: Vec<_> = ledger.outbox_of(Some(id), None).await.unwrap().into_iter().map(|item| item.text).collect();
    assert_eq!(texts, ["one", "two"]);
    assert_eq!(ledger.depth().await.unwrap().dead, 1);
    let dead = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
    assert_eq!(ledger.tasks(dead).await.unwrap()[0].spec.id, id);
}

async fn failure_that_trying_again_cannot_help_is_final(directory: &Path) {
    let ledger = open(directory);
    let id = accept_one(&ledger, task_spec()).await;
    leased(&ledger, 0).await.unwrap();
    let task = ledger.finish(id, 1, failed(Code::AgentRefused), vec![], at(0)).await.unwrap();
    assert_eq!(task.state, TaskState::Dead);
}

async fn retry_after_of_the_other_side_wins(directory: &Path) {
    let ledger = open(directory);
    let id = accept_one(&ledger, task_spec()).await;
    leased(&ledger, 0).await.unwrap();
    let finish = Finish::Failed { reason: reason(Code::AgentFailed), result: None, retry_after: Some(60 * MINUTE) };
    let task = ledger.finish(id, 1, finish, vec![], at(0)).await.unwrap();
    assert_eq!(task.not_before, after(0, 60 * MINUTE));
}

async fn released_attempt_is_not_spent_and_its_number_fences(directory: &Path) {
    let ledger = open(directory);
    let id = accept_one(&ledger, task_spec()).await;
    for attempt in 1..=5 {
        leased(&ledger, i64::from(attempt)).await.unwrap();
        let released = Finish::Released { reason: reason(Code::AgentLimit), delay: Duration::ZERO };
        let task = ledger.finish(id, attempt, released, vec!["no".to_owned()], at(0)).await.unwrap();
        assert_eq!((task.state, task.attempts_spent), (TaskState::Queued, 0));
    }
    leased(&ledger, 9).await.unwrap();
    let stale = ledger.finish(id, 5, succeeded(), vec!["late".to_owned()], at(9)).await.unwrap_err();
    assert_eq!(stale.code(), Code::StaleAttempt);
    assert_eq!(state(&ledger, id).await, TaskState::Running);
    assert_eq!(ledger.outbox_of(Some(id), None).await.unwrap(), []);
    ledger.finish(id, 6, succeeded(), vec![], at(9)).await.unwrap();
    let twice = ledger.finish(id, 6, succeeded(), vec![], at(9)).await.unwrap_err();
    assert_eq!(twice.code(), Code::StaleAttempt);
}

async fn running_tasks_are_interrupted_at_boot_and_run_again_only_when_released(directory: &Path) {
    let ledger = open(directory);
    let id = accept_one(&ledger, task_spec()).await;
    leased(&ledger, 0).await.unwrap();
    assert_eq!(ledger.interrupted().await.unwrap().len(), 0, "not while it runs");
    let ledger = reopened(ledger, directory).await;
    let interrupted = ledger.interrupted().await.unwrap();
    assert_eq!((interrupted[0].task, interrupted[0].attempt), (id, 1));
    assert!(leased(&ledger, 0).await.is_none());
    let released = Finish::Released { reason: reason(Code::AgentFailed), delay: Duration::ZERO };
    ledger.finish(id, 1, released, vec![], at(0)).await.unwrap();
    assert_eq!(ledger.interrupted().await.unwrap().len(), 0);
    assert_eq!(leased(&ledger, 0).await.unwrap().attempt, 2);
}

async fn unchecked_task_never_runs_and_redriving_is_no_way_around(directory: &Path) {
    let ledger = open(directory);
    let spec = task_spec();
    let id = spec.id;
    let task = NewTask { lookup: Some(lookup()), ..new_task(spec) };
    ledger.accept(accept(vec![task])).await.unwrap();
    assert!(leased(&ledger, 0).await.is_none());
    assert_eq!(ledger.due_checks(at(0), 9).await.unwrap()[0].0.spec.id, id);
    ledger.checked(id, Err((reason(Code::ReplyUnavailable), MINUTE)), vec![], at(0)).await.unwrap();
    assert!(ledger.due_checks(at(59), 9).await.unwrap().is_empty());
    let ledger = reopened(ledger, directory).await;
    assert_eq!(ledger.due_checks(at(60), 9).await.unwrap().len(), 1);
    ledger.checked(id, Ok(false), vec!["no".to_owned()], at(60)).await.unwrap();
    assert_eq!(state(&ledger, id).await, TaskState::Refused);
    assert_eq!(ledger.outbox_of(Some(id), None).await.unwrap().len(), 1);
    assert_eq!(ledger.redrive(id, at(61)).await.unwrap().state, TaskState::Checking);
    assert!(leased(&ledger, 61).await.is_none());
    ledger.checked(id, Ok(true), vec![], at(62)).await.unwrap();
    assert_eq!(leased(&ledger, 62).await.unwrap().spec.id, id);
    ledger.finish(id, 1, failed(Code::AgentRefused), vec![], at(63)).await.unwrap();
    assert_eq!(ledger.redrive(id, at(64)).await.unwrap().state, TaskState::Queued, "allowed stays allowed");
    let wrong = ledger.checked(id, Ok(true), vec![], at(64)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::WrongState);
}

async fn cancelling_ends_what_waits_and_asks_what_runs(directory: &Path) {
    let ledger = open(directory);
    let waiting = accept_one(&ledger, task_spec()).await;
    assert_eq!(ledger.cancel(waiting, at(1)).await.unwrap().state, TaskState::Cancelled);
    assert_eq!(ledger.cancel(waiting, at(1)).await.unwrap_err().code(), Code::WrongState);
    assert!(leased(&ledger, 1).await.is_none());
    let running = accept_one(&ledger, task_spec()).await;
    leased(&ledger, 1).await.unwrap();
    let task = ledger.cancel(running, at(1)).await.unwrap();
    assert_eq!((task.state, task.cancel_requested), (TaskState::Running, true));
    let task = ledger.finish(running, 1, failed(Code::AgentFailed), vec!["stopped".to_owned()], at(2)).await.unwrap();
    assert_eq!(task.state, TaskState::Cancelled, "no further attempt for what was to be stopped");
    assert_eq!(ledger.outbox_of(Some(running), None).await.unwrap().len(), 1);
    let again = ledger.redrive(running, at(3)).await.unwrap();
    assert_eq!((again.state, again.cancel_requested, again.attempts_spent), (TaskState::Queued, false, 0));
    assert_eq!(leased(&ledger, 3).await.unwrap().attempt, 2);
    assert_eq!(ledger.redrive(running, at(3)).await.unwrap_err().code(), Code::WrongState);
    assert_eq!(ledger.cancel(TaskId(id_of(5)), at(3)).await.unwrap_err().code(), Code::NotFound);
}

async fn parts_of_an_answer_go_one_after_the_other(directory: &Path) {
    let ledger = open(directory);
    let id = accept_one(&ledger, task_spec()).await;
    leased(&ledger, 0).await.unwrap();
    let answers = ["a", "b", "c"].map(str::to_owned).to_vec();
    ledger.finish(id, 1, succeeded(), answers, at(0)).await.unwrap();
    let mut sent = Vec::new();
    for state in [OutboxState::Sent, OutboxState::Failed, OutboxState::Sent] {
        let claimed = ledger.claim_outbox(at(1), 10).await.unwrap();
        assert_eq!(claimed.len(), 1, "the next part waits");
        assert_eq!(ledger.claim_outbox(at(1), 10).await.unwrap().len(), 0, "claimed once");
        let (item, in_doubt) = &claimed[0];
        assert!(!in_doubt);
        assert_eq!((item.state, item.attempts, item.parts), (OutboxState::Sending, 1, 3));
        sent.push(item.text.clone());
        ledger.outbox_done(item.id, state, Some("https://x".to_owned()), None, at(1)).await.unwrap();
        let again = ledger.outbox_done(item.id, state, None, None, at(1)).await.unwrap_err();
        assert_eq!(again.code(), Code::WrongState);
    }
    assert_eq!(sent, ["a", "b", "c"]);
    assert_eq!(ledger.depth().await.unwrap().outbox_waiting, 0);
    assert_eq!(ledger.outbox_of(Some(id), None).await.unwrap()[0].url.as_deref(), Some("https://x"));
}

async fn call_that_may_have_gone_out_says_so(directory: &Path) {
    let ledger = open(directory);
    let mut accept = accept(vec![]);
    accept.outbox.push(outbox_item(Some(accept.delivery.id), 0, 1));
    let id = accept.outbox[0].id;
    ledger.accept(accept).await.unwrap();
    let claim = async |ledger: &Ledger, second| ledger.claim_outbox(at(second), 1).await.unwrap().pop();
    let again = async |ledger: &Ledger, code: Option<Code>| {
        ledger.outbox_done(id, OutboxState::Waiting, None, code.map(reason), at(10)).await.unwrap();
    };
    assert!(!claim(&ledger, 0).await.unwrap().1);
    again(&ledger, Some(Code::RateLimited)).await;
    assert!(claim(&ledger, 9).await.is_none(), "not before its time");
    assert!(!claim(&ledger, 10).await.unwrap().1, "a refusal leaves no doubt");
    again(&ledger, Some(Code::TimedOut)).await;
    assert!(claim(&ledger, 10).await.unwrap().1, "a timeout does");
    again(&ledger, None).await;
    let ledger = reopened(ledger, directory).await;
    assert!(claim(&ledger, 10).await.unwrap().1, "doubt stays");
    let ledger = reopened(ledger, directory).await;
    let (item, in_doubt) = claim(&ledger, 10).await.expect("what was being sent at the end is due again");
    assert!(in_doubt);
    assert_eq!(item.attempts, 4, "a call that was given back untried does not count");
}

async fn crash_while_sending_leaves_doubt(directory: &Path) {
    let ledger = open(directory);
    let mut accept = accept(vec![]);
    accept.outbox.push(outbox_item(None, 0, 1));
    ledger.accept(accept).await.unwrap();
    assert!(!ledger.claim_outbox(at(0), 9).await.unwrap()[0].1);
    let ledger = reopened(ledger, directory).await;
    assert!(ledger.claim_outbox(at(0), 9).await.unwrap()[0].1);
}

async fn log_is_read_from_any_line_and_its_limit_announces_itself(directory: &Path) {
    let ledger = open(directory);
    let id = accept_one(&ledger, task_spec()).await;
    let line = |text: String| LogLine { at: at(0), attempt: 1, kind: "agent".to_owned(), text };
    for chunk in 0..30 {
        let lines = (0..500).map(|n| line(format!("{}", chunk * 500 + n))).collect();
        ledger.append_log(id, lines).await.unwrap();
    }
    let read = async |from, limit| -> Vec<String> {
        ledger.log(id, from, limit).await.unwrap().into_iter().map(|line| line.text).collect()
    };
    assert_eq!(read(0, 2).await, ["0", "1"]);
    assert_eq!(read(1_234, 3).await, ["1234", "1235", "1236"]);
    assert_eq!(read(499, 3).await, ["499", "500", "501"]);
    let all = read(0, 100_000).await;
    assert_eq!(all.len(), LOG_LINES_MAX as usize + 1);
    assert!(all.last().unwrap().contains("the log ends here"), "{:?}", all.last());
    assert_eq!(read(20_000, 10).await, Vec::<String>::new());

    let other = accept_one(&ledger, task_spec()).await;
    let mebibyte = "x".repeat(1024 * 1024);
    ledger.append_log(other, vec![line(mebibyte); 9]).await.unwrap();
    let lines = ledger.log(other, 0, 100).await.unwrap();
    assert_eq!(lines.len() as u64, LOG_BYTES_MAX / (1024 * 1024) + 1);
    assert_eq!(lines.last().unwrap().kind, "note");
    let nobody = ledger.append_log(TaskId(id_of(1)), vec![line(String::new())]).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
}

async fn conversations_and_generations_are_kept(directory: &Path) {
    let ledger = open(directory);
    assert_eq!(ledger.conversation("c").await.unwrap(), Conversation::default());
    let conversation =
        Conversation { session_id: Some("s".to_owned()), session_cost_usd: 0.5, turns: 2, begun_by: None };
    ledger.put_conversation("c", conversation.clone()).await.unwrap();
    let generation = Generation { number: 7, digest: Digest::of(b"g") };
    let blocking = ledger.clone();
    tokio::task::spawn_blocking(move || blocking.put_generations(vec![(webhook("w"), generation)]))
        .await
        .unwrap()
        .unwrap();
    let ledger = reopened(ledger, directory).await;
    assert_eq!(ledger.conversation("c").await.unwrap(), conversation);
    assert_eq!(ledger.generations().unwrap().into_iter().collect::<Vec<_>>(), [(webhook("w"), generation)]);
}

async fn happenings_go_on_counting_and_are_waited_for(directory: &Path) {
    let ledger = open(directory);
    accept_one(&ledger, task_spec()).await;
    let kinds = |happenings: Vec<crate::ledger::rows::Happening>| -> Vec<String> {
        happenings.into_iter().map(|happening| happening.kind).collect()
    };
    let first = ledger.happenings(0, 10, Duration::ZERO).await.unwrap();
    assert_eq!(first.iter().map(|happening| happening.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(kinds(first), ["delivery.received", "task.created"]);
    let waiting = ledger.clone();
    let waiting = tokio::spawn(async move { waiting.happenings(2, 10, MINUTE).await });
    leased(&ledger, 0).await.unwrap();
    assert_eq!(kinds(waiting.await.unwrap().unwrap()), ["task.started"]);
    assert_eq!(ledger.happenings(3, 10, Duration::from_millis(10)).await.unwrap(), []);
    let ledger = reopened(ledger, directory).await;
    ledger.note("reconcile.applied", Some(webhook("w")), "3 changes".to_owned()).await.unwrap();
    assert_eq!(ledger.happenings(3, 10, MINUTE).await.unwrap()[0].seq, 4);
}

async fn pinned_revisions_are_those_of_tasks_that_have_not_ended(directory: &Path) {
    let ledger = open(directory);
    let of = |text: &str| TaskSpec { revision: Digest::of(text.as_bytes()), ..task_spec() };
    let ended = accept_one(&ledger, of("old")).await;
    accept_one(&ledger, of("new")).await;
    ledger.cancel(ended, at(0)).await.unwrap();
    let ledger = reopened(ledger, directory).await;
    assert_eq!(ledger.pinned_revisions().await.unwrap(), [Digest::of(b"new")]);
}

async fn lists_are_newest_first_in_pages_and_filtered(directory: &Path) {
    let ledger = open(directory);
    let mut ids = Vec::new();
    for name in ["v", "w", "v", "w", "v"] {
        ids.push(accept_one(&ledger, TaskSpec { webhook: webhook(name), ..task_spec() }).await);
    }
    let list = async |filter: TaskFilter| -> Vec<TaskId> {
        ledger.tasks(filter).await.unwrap().into_iter().map(|task| task.spec.id).collect()
    };
    assert_eq!(list(TaskFilter { limit: 2, ..TaskFilter::default() }).await, [ids[4], ids[3]]);
    let older = TaskFilter { limit: 2, before: Some(ids[3]), ..TaskFilter::default() };
    assert_eq!(list(older).await, [ids[2], ids[1]]);
    let of_v = TaskFilter { webhook: Some(webhook("v")), states: vec![TaskState::Queued], ..TaskFilter::default() };
    assert_eq!(list(of_v).await, [ids[4], ids[2], ids[0]]);
    let delivery = ledger.task(ids[1]).await.unwrap().unwrap().spec.delivery;
    assert_eq!(list(TaskFilter { delivery, ..TaskFilter::default() }).await, [ids[1]]);
    let none = TaskFilter { delivery, before: Some(ids[1]), ..TaskFilter::default() };
    assert_eq!(list(none).await, []);
}

async fn clock_set_back_by_ten_years_delays_by_no_more_than_the_backoff(directory: &Path) {
    let ledger = open(directory);
    let years: i64 = 10 * 365 * 24 * 3600;
    let id = accept_one(&ledger, task_spec()).await;
    leased(&ledger, years).await.unwrap();
    ledger.finish(id, 1, failed(Code::AgentFailed), vec![], at(years)).await.unwrap();
    // In the same process, and after a start at the old time.
    assert!(leased(&ledger, 0).await.is_none());
    let ledger = reopened(ledger, directory).await;
    assert!(leased(&ledger, 0).await.is_none());
    assert_eq!(leased(&ledger, 5).await.unwrap().spec.id, id, "the first backoff is 5 seconds at most");
}

fn asked() -> Finish {
    let result = RunResult { text: "which one?".to_owned(), ..RunResult::default() };
    Finish::Asked { result, wait: MINUTE }
}

fn in_conversation(name: &str) -> TaskSpec {
    let source = Source { conversation_id: name.to_owned(), ..Source::default() };
    TaskSpec { source, webhook_concurrency: Some(1), ..task_spec() }
}

async fn question_is_posted_waits_and_is_answered_once_by_a_child(directory: &Path) {
    let ledger = open(directory);
    let parent = accept_one(&ledger, in_conversation("talk")).await;
    assert_eq!(ledger.asking(&webhook("w"), "talk").await.unwrap(), None);
    leased(&ledger, 0).await.unwrap();
    let task = ledger.finish(parent, 1, asked(), vec!["which one?".to_owned()], at(1)).await.unwrap();
    assert_eq!((task.state, task.not_before), (TaskState::WaitingInput, after(1, MINUTE)));
    assert_eq!(ledger.outbox_of(Some(parent), None).await.unwrap()[0].text, "which one?");
    let ledger = reopened(ledger, directory).await;
    assert_eq!(ledger.depth().await.unwrap().waiting_input, 1);
    assert_eq!(ledger.pinned_revisions().await.unwrap().len(), 1, "its child runs on the same revision");
    assert_eq!(ledger.asking(&webhook("v"), "talk").await.unwrap(), None, "another webhook has other rules");
    assert_eq!(ledger.asking(&webhook("w"), "other").await.unwrap(), None);
    assert_eq!(ledger.asking(&webhook("w"), "talk").await.unwrap().unwrap().spec.id, parent);
    accept_one(&ledger, in_conversation("talk")).await;
    let besides = leased(&ledger, 2).await.expect("who waits for words holds nobody up");
    ledger.finish(besides.spec.id, 1, succeeded(), vec![], at(2)).await.unwrap();

    let answer = |spec| accept(vec![NewTask { continues: Some(parent), ..new_task(spec) }]);
    let child = TaskSpec { parent: Some(parent), ..in_conversation("talk") };
    let id = child.id;
    assert_eq!(ledger.accept(answer(child)).await.unwrap(), Accepted::Fresh);
    assert_eq!(state(&ledger, parent).await, TaskState::Succeeded);
    assert_eq!(ledger.depth().await.unwrap().waiting_input, 0);
    let second = answer(in_conversation("talk"));
    let (delivery, task) = (second.delivery.id, second.tasks[0].spec.id);
    assert_eq!(ledger.accept(second).await.unwrap_err().code(), Code::WrongState);
    assert_eq!((ledger.delivery(delivery).await.unwrap(), ledger.task(task).await.unwrap()), (None, None));
    assert_eq!(leased_ids(&ledger, 3).await, [id]);
}

async fn who_was_asked_to_stop_asks_nothing_and_who_asks_can_be_stopped(directory: &Path) {
    let ledger = open(directory);
    let id = accept_one(&ledger, in_conversation("talk")).await;
    leased(&ledger, 0).await.unwrap();
    ledger.cancel(id, at(0)).await.unwrap();
    assert_eq!(ledger.finish(id, 1, asked(), vec![], at(0)).await.unwrap().state, TaskState::Cancelled);
    assert_eq!(ledger.redrive(id, at(0)).await.unwrap().state, TaskState::Queued);
    leased(&ledger, 0).await.unwrap();
    ledger.finish(id, 2, asked(), vec![], at(0)).await.unwrap();
    assert_eq!(ledger.redrive(id, at(0)).await.unwrap_err().code(), Code::WrongState);
    assert_eq!(ledger.cancel(id, at(0)).await.unwrap().state, TaskState::Cancelled);
    assert_eq!(ledger.asking(&webhook("w"), "talk").await.unwrap(), None);
}

#[test]
fn states_are_told_apart_in_every_form_that_is_kept() {
    use crate::ledger::store::codec::Row as _;
    use crate::ledger::store::kept::{LiveRow, TaskRow};
    for state in TaskState::ALL {
        let lost = TaskRow::lost(&task_spec(), reason(Code::AgentFailed), at(0));
        let row = crate::ledger::encode::live_row(
            &task_spec(),
            TaskRow { state, ..lost },
            crate::ledger::memory::Due::at_once(at(0)),
        );
        let content = row.to_content().unwrap();
        assert_eq!(LiveRow::from_content(1, &content).unwrap(), row, "version 1 has the same form");
        let json = row.task.to_content().unwrap();
        assert_eq!(TaskRow::from_content(1, &json).unwrap().state, state);
        assert!(String::from_utf8(json).unwrap().contains(&format!("\"state\":\"{}\"", state.as_str())));
    }
}
