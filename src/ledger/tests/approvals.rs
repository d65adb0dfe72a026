//! Tasks that wait for a person, budgets of a day, and the pause after a usage limit.

use super::*;
use crate::ledger::Reserve;
use crate::model::approval::{self, Approval, Decider, Decision};
use crate::model::task::{DailyBudget, TaskState};

const HOUR: Duration = Duration::from_secs(3600);

/// In the conversation `talk`, asked for by `mona`.
fn spec(prompt: &str, terms: Option<Approval>) -> TaskSpec {
    let source = Source { actor: Some("mona".to_owned()), conversation_id: "talk".to_owned(), ..Source::default() };
    let run = RunSettings { approval: terms, ..RunSettings::default() };
    TaskSpec { prompt: prompt.to_owned(), source, run, ..task_spec() }
}

fn waiting(prompt: &str) -> TaskSpec {
    spec(prompt, Some(Approval { expires_seconds: 3600, ..Approval::default() }))
}

/// What somebody says at the source, and to which end.
fn word(action: Action, actor: &str, args: &str) -> TaskSpec {
    let mut spec = spec(args, None);
    spec.source.actor = Some(actor.to_owned());
    TaskSpec { action, ..spec }
}

fn operator(approve: bool) -> Decision {
    Decision { by: Decider::Operator("cli".to_owned()), approve, digest: None, reason: None }
}

async fn state(ledger: &Ledger, task: TaskId) -> TaskState {
    ledger.task(task).await.unwrap().unwrap().state
}

async fn said(ledger: &Ledger, task: TaskId) -> Vec<String> {
    ledger.outbox_of(Some(task), None).await.unwrap().into_iter().map(|item| item.text).collect()
}

#[tokio::test]
async fn nothing_runs_before_somebody_agreed_and_the_source_is_told_how() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let id = accept_one(&ledger, waiting("fix it")).await;
    let ledger = reopened(ledger, directory.path()).await;
    assert_eq!(state(&ledger, id).await, TaskState::AwaitingApproval);
    assert_eq!(leased(&ledger, 1).await, None);
    assert_eq!(ledger.depth().await.unwrap().awaiting_approval, 1);
    let told = said(&ledger, id).await;
    assert!(told.len() == 1 && told[0].contains(&approval::shown("fix it")), "{told:?}");

    let other = Decision { digest: Some(approval::shown("something else")), ..operator(true) };
    assert_eq!(ledger.decide(id, other, at(2)).await.unwrap_err().code(), Code::ApprovalVoid);
    assert_eq!(state(&ledger, id).await, TaskState::AwaitingApproval);
    let task = ledger.decide(id, operator(true), at(2)).await.unwrap();
    assert!(task.approved.as_ref().unwrap().covers("fix it") && !task.approved.unwrap().covers("fix it!"));
    assert_eq!(ledger.decide(id, operator(true), at(2)).await.unwrap_err().code(), Code::WrongState);
    let ledger = reopened(ledger, directory.path()).await;
    let task = leased(&ledger, 3).await.unwrap();
    assert_eq!((task.spec.id, task.approved.unwrap().by), (id, "cli".to_owned()));
}

#[tokio::test]
async fn rejected_and_expired_tasks_end_and_say_so_and_are_asked_about_again_when_redriven() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let (rejected, expired) = (accept_one(&ledger, waiting("one")).await, accept_one(&ledger, waiting("two")).await);
    let no = Decision { reason: Some("not before the release".to_owned()), ..operator(false) };
    assert_eq!(ledger.decide(rejected, no, at(1)).await.unwrap().state, TaskState::Refused);
    assert!(said(&ledger, rejected).await[1].contains("rejected by `cli`: not before the release"));
    assert_eq!(ledger.expire(after(-1, HOUR)).await.unwrap(), 0);
    assert_eq!(ledger.expire(after(1, HOUR)).await.unwrap(), 1);
    assert_eq!(state(&ledger, expired).await, TaskState::Expired);
    assert!(said(&ledger, expired).await[1].contains("not approved in time"));
    for id in [rejected, expired] {
        assert_eq!(ledger.redrive(id, after(2, HOUR)).await.unwrap().state, TaskState::AwaitingApproval);
    }
    assert_eq!(leased(&ledger, 9_000).await, None);
}

#[tokio::test]
async fn check_of_the_actor_comes_before_the_approval() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let task = NewTask { lookup: Some(lookup()), ..new_task(waiting("fix it")) };
    let id = task.spec.id;
    ledger.accept(accept(vec![task])).await.unwrap();
    assert_eq!((state(&ledger, id).await, said(&ledger, id).await.len()), (TaskState::Checking, 0));
    ledger.checked(id, Ok(true), vec![], at(1)).await.unwrap();
    assert_eq!((state(&ledger, id).await, said(&ledger, id).await.len()), (TaskState::AwaitingApproval, 1));
}

#[tokio::test]
async fn words_at_the_source_decide_about_what_waits_in_that_conversation() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let nothing = accept_one(&ledger, word(Action::Approve, "lead", "")).await;
    assert!(said(&ledger, nothing).await[0].contains("Nothing waits"));
    assert_eq!(state(&ledger, nothing).await, TaskState::Succeeded);
    let (one, two) = (accept_one(&ledger, waiting("one")).await, accept_one(&ledger, waiting("two")).await);
    let unclear = accept_one(&ledger, word(Action::Approve, "lead", "looks good")).await;
    assert!(said(&ledger, unclear).await[0].contains("More than one"));
    let digest = approval::shown("one");
    accept_one(&ledger, word(Action::Approve, "lead", &format!("{digest} thanks"))).await;
    assert_eq!(
        (state(&ledger, one).await, state(&ledger, two).await),
        (TaskState::Queued, TaskState::AwaitingApproval)
    );
    let other = TaskSpec { webhook: webhook("other"), ..word(Action::Reject, "lead", "") };
    accept_one(&ledger, other).await;
    assert_eq!(state(&ledger, two).await, TaskState::AwaitingApproval, "another webhook has other rules");
    accept_one(&ledger, word(Action::Reject, "lead", "too risky")).await;
    assert_eq!(state(&ledger, two).await, TaskState::Refused);
    assert!(said(&ledger, two).await[1].contains("by `lead`: too risky"));
}

#[tokio::test]
async fn whoever_asked_does_not_approve_where_that_is_not_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let terms = Approval { self_approval: false, ..Approval::default() };
    let id = accept_one(&ledger, spec("fix it", Some(terms))).await;
    let own = accept_one(&ledger, word(Action::Approve, "mona", "")).await;
    assert_eq!(state(&ledger, id).await, TaskState::AwaitingApproval);
    assert!(said(&ledger, own).await[0].contains("somebody else has to approve it"));
    accept_one(&ledger, word(Action::Approve, "hubot", "")).await;
    assert_eq!(state(&ledger, id).await, TaskState::Queued);
}

#[tokio::test]
async fn unanswered_question_expires() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let id = accept_one(&ledger, task_spec()).await;
    leased(&ledger, 0).await.unwrap();
    let result = RunResult { text: "which one?".to_owned(), ..RunResult::default() };
    ledger.finish(id, 1, Finish::Asked { result, wait: HOUR }, vec!["which one?".to_owned()], at(0)).await.unwrap();
    assert_eq!(ledger.expire(after(1, HOUR)).await.unwrap(), 1);
    assert_eq!(state(&ledger, id).await, TaskState::Expired);
}

#[tokio::test]
async fn budgets_of_a_day_count_runs_and_money_and_begin_anew_at_midnight() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let reserve = |name: &str, runs, usd, second| Reserve {
        task: None,
        webhook: webhook(name),
        of_webhook: DailyBudget { usd, runs },
        of_all: DailyBudget { usd: None, runs: Some(4) },
        now: at(second),
    };
    for _ in 0..2 {
        assert_eq!(ledger.reserve(reserve("w", Some(2), None, 0)).await.unwrap(), None);
    }
    let ledger = reopened(ledger, directory.path()).await;
    let refusal = ledger.reserve(reserve("w", Some(2), None, 1)).await.unwrap().unwrap();
    assert!(
        refusal.code == Code::BudgetSpent && refusal.message.contains("the 2 runs that this webhook"),
        "{refusal:?}"
    );
    assert_eq!(ledger.reserve(reserve("v", None, Some(1.0), 1)).await.unwrap(), None);
    let id = accept_one(&ledger, TaskSpec { webhook: webhook("v"), ..task_spec() }).await;
    leased(&ledger, 1).await.unwrap();
    let result = RunResult { cost_usd: 1.5, ..RunResult::default() };
    ledger.finish(id, 1, Finish::Succeeded { result }, vec![], at(2)).await.unwrap();
    let refusal = ledger.reserve(reserve("v", None, Some(1.0), 3)).await.unwrap().unwrap();
    assert!(refusal.message.contains("1.00 US dollars"), "{refusal:?}");
    assert_eq!(ledger.reserve(reserve("u", None, None, 3)).await.unwrap(), None);
    let refusal = ledger.reserve(reserve("u", None, None, 3)).await.unwrap().unwrap();
    assert!(refusal.message.contains("this service"), "{refusal:?}");
    let tomorrow = 24 * 60 * 60;
    assert_eq!(ledger.reserve(reserve("w", Some(2), None, tomorrow)).await.unwrap(), None);
}

#[tokio::test]
async fn usage_limit_pauses_the_whole_queue_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let (first, second) = (accept_one(&ledger, task_spec()).await, accept_one(&ledger, task_spec()).await);
    leased(&ledger, 0).await.unwrap();
    let finish = Finish::Released { reason: reason(Code::AgentLimit), delay: HOUR };
    ledger.finish(first, 1, finish, vec![], at(0)).await.unwrap();
    assert_eq!(ledger.depth().await.unwrap().paused_until, Some(after(0, HOUR)));
    assert_eq!(leased(&ledger, 3_599).await, None, "the other one would only meet the same limit");
    assert_eq!(leased_ids(&ledger, 3_600).await.len(), 2);
    assert_eq!(ledger.task(first).await.unwrap().unwrap().attempts_spent, 0);
    assert_eq!(state(&ledger, second).await, TaskState::Running);
}

#[tokio::test]
async fn pause_after_a_usage_limit_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let (first, _) = (accept_one(&ledger, task_spec()).await, accept_one(&ledger, task_spec()).await);
    leased(&ledger, 0).await.unwrap();
    let finish = Finish::Released { reason: reason(Code::AgentLimit), delay: HOUR };
    ledger.finish(first, 1, finish, vec![], at(0)).await.unwrap();
    let ledger = reopened(ledger, directory.path()).await;
    assert_eq!(ledger.depth().await.unwrap().paused_until, Some(after(0, HOUR)));
    assert_eq!(leased(&ledger, 3_599).await, None, "the other one would only meet the same limit");
    assert_eq!(leased_ids(&ledger, 3_600).await.len(), 2);
}

#[tokio::test]
async fn run_that_a_crash_broke_off_is_counted_once_and_a_redriven_one_anew() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let id = accept_one(&ledger, task_spec()).await;
    let reserve = |runs| Reserve {
        task: Some(id),
        webhook: task_spec().webhook,
        of_webhook: DailyBudget { usd: None, runs: Some(runs) },
        of_all: DailyBudget::default(),
        now: at(0),
    };
    leased(&ledger, 0).await.unwrap();
    assert_eq!(ledger.reserve(reserve(1)).await.unwrap(), None);
    let broken_off = Finish::Released { reason: reason(Code::AgentFailed), delay: Duration::ZERO };
    ledger.finish(id, 1, broken_off, vec![], at(0)).await.unwrap();
    let ledger = reopened(ledger, directory.path()).await;
    leased(&ledger, 1).await.unwrap();
    assert_eq!(ledger.reserve(reserve(1)).await.unwrap(), None, "it goes on, and is the same run");
    let given_up = Finish::Dead { reason: reason(Code::AgentFailed), result: None };
    ledger.finish(id, 2, given_up, vec![], at(2)).await.unwrap();
    ledger.redrive(id, at(3)).await.unwrap();
    leased(&ledger, 3).await.unwrap();
    assert!(ledger.reserve(reserve(1)).await.unwrap().is_some(), "a person wants it run once more");
    assert_eq!(ledger.reserve(reserve(2)).await.unwrap(), None);
}

#[tokio::test]
async fn record_of_a_session_is_kept_whole_and_only_for_that_session() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let content = b"{\"type\":\"user\"}\n".repeat(1_000);
    ledger.put_transcript("talk", "s1", content.clone()).await.unwrap();
    let ledger = reopened(ledger, directory.path()).await;
    assert_eq!(ledger.transcript("talk", "s1").await.unwrap(), Some(content));
    assert_eq!(ledger.transcript("talk", "s2").await.unwrap(), None);
    assert_eq!(ledger.transcript("other", "s1").await.unwrap(), None);
}
