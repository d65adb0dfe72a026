//! The queue against a model that looks at every task for every choice.

use super::*;
use crate::ledger::store::kept::TaskRow;
use crate::model::ids::WebhookId;
use proptest::prelude::{Strategy, prop, prop_assert_eq, proptest};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Debug)]
enum Act {
    Put {
        task: usize,
        row: Box<LiveRow>,
    },
    Remove {
        task: usize,
    },
    /// Picks the next and lets it run.
    Run {
        seconds: i64,
    },
}

fn state() -> impl Strategy<Value = TaskState> {
    prop::sample::select(vec![
        TaskState::Queued,
        TaskState::Queued,
        TaskState::Queued,
        TaskState::Checking,
        TaskState::AwaitingApproval,
        TaskState::WaitingInput,
        TaskState::Running,
        TaskState::Dead,
    ])
}

fn task_row(state: TaskState, webhook: &str, not_before: Timestamp) -> TaskRow {
    TaskRow {
        webhook: WebhookId::parse(webhook).unwrap(),
        delivery: None,
        state,
        reason: None,
        attempt: 1,
        attempts_spent: 0,
        not_before,
        updated_at: at(0),
        cancel_requested: false,
        allowed: true,
        approved: None,
        counted: false,
        result: None,
    }
}

fn row() -> impl Strategy<Value = LiveRow> {
    let limit = prop::option::of(0..3u32);
    (state(), 0..3i32, 0..4i64, 0..20i64, 0..3usize, limit, 0..4usize).prop_map(
        |(state, priority, created, wait, webhook, concurrency, conversation)| LiveRow {
            task: task_row(state, ["u", "v", "w"][webhook], at(wait)),
            delay_ms: 60_000,
            priority,
            created_at: at(created),
            concurrency,
            conversation: ["", "a", "b", "c"][conversation].to_owned(),
            revision: Digest::of(&[webhook as u8]),
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    proptest::prop_oneof![
        4 => (0..12usize, row()).prop_map(|(task, row)| Act::Put { task, row: Box::new(row) }),
        1 => (0..12usize).prop_map(|task| Act::Remove { task }),
        4 => (0..5i64).prop_map(|seconds| Act::Run { seconds }),
    ]
}

fn id(task: usize) -> TaskId {
    TaskId(uuid::Uuid::from_u128(task as u128))
}

fn expected(tasks: &BTreeMap<TaskId, LiveRow>, running_max: usize, now: Timestamp) -> Option<TaskId> {
    let running: Vec<&LiveRow> = tasks.values().filter(|row| row.task.state == TaskState::Running).collect();
    let may_run = |row: &LiveRow| {
        let of_webhook = running.iter().filter(|other| other.task.webhook == row.task.webhook).count();
        row.task.state == TaskState::Queued
            && row.task.not_before <= now
            && row.concurrency.is_none_or(|limit| of_webhook < limit as usize)
            && (row.conversation.is_empty() || running.iter().all(|other| other.conversation != row.conversation))
    };
    let candidates = tasks.iter().filter(|(_, row)| running.len() < running_max && may_run(row));
    candidates.min_by_key(|(id, row)| (row.priority, row.created_at, **id)).map(|(id, _)| *id)
}

proptest! {
    #[test]
    fn next_is_always_what_looking_at_everything_would_choose(
        acts in prop::collection::vec(act(), 1..80),
        running_max in 1..6usize,
    ) {
        let (mut queue, mut tasks, mut now) = (Queue::default(), BTreeMap::<TaskId, LiveRow>::new(), 0);
        for act in acts {
            match act {
                Act::Put { task, row } => {
                    queue.put(id(task), &row);
                    tasks.insert(id(task), *row);
                }
                Act::Remove { task } => {
                    queue.remove(id(task));
                    tasks.remove(&id(task));
                }
                Act::Run { seconds } => {
                    now += seconds;
                    let next = queue.next(running_max, at(now));
                    prop_assert_eq!(next, expected(&tasks, running_max, at(now)));
                    if let Some(id) = next {
                        let mut row = tasks[&id].clone();
                        row.task.state = TaskState::Running;
                        queue.put(id, &row);
                        tasks.insert(id, row);
                    }
                }
            }
            tasks.retain(|_, row| !row.task.state.is_terminal());
            let count = |state| tasks.values().filter(|row| row.task.state == state).count();
            let depth = queue.depth();
            prop_assert_eq!(
                (depth.checking, depth.queued, depth.running),
                (count(TaskState::Checking), count(TaskState::Queued), count(TaskState::Running))
            );
        }
        for task in tasks.keys() {
            queue.remove(*task);
        }
        prop_assert_eq!(
            (queue.entries.len(), queue.webhooks.len(), queue.conversations.len(), queue.heads.len()),
            (0, 0, 0, 0),
            "nothing is left behind"
        );
    }
}

#[test]
fn a_hundred_thousand_blocked_tasks_do_not_slow_the_choice_down() {
    let mut queue = Queue::default();
    let row = |state, webhook: &str, conversation: String, created| LiveRow {
        task: task_row(state, webhook, at(0)),
        delay_ms: 0,
        priority: 0,
        created_at: at(created),
        concurrency: Some(1),
        conversation,
        revision: Digest::of(b""),
    };
    queue.put(id(0), &row(TaskState::Running, "full", "a".to_owned(), 0));
    for task in 1..100_000 {
        queue.put(id(task), &row(TaskState::Queued, "full", format!("c{}", task % 100), 1));
    }
    let last = id(100_000);
    queue.put(last, &row(TaskState::Queued, "free", "b".to_owned(), 2));
    assert_eq!(queue.next(10, at(9)), Some(last));
    let begun = std::time::Instant::now();
    for _ in 0..10_000 {
        assert_eq!(queue.next(10, at(9)), Some(last));
    }
    // Looking at every task that waits would take minutes.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}
