//! Any interleaving of transitions and restarts, against a model that is too simple to be wrong.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::*;
use crate::ledger::TaskFilter;
use crate::model::backoff;
use crate::model::task::TaskState;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::{TestCaseResult, TestRunner};

#[derive(Clone, Debug)]
enum Act {
    Accept { tasks: Vec<Shape>, key: Option<u8>, parts: u32 },
    Lease { running_max: usize },
    Finish { pick: usize, how: How, stale: bool, answers: usize },
    Check { pick: usize, verdict: Option<bool> },
    Cancel { pick: usize },
    Redrive { pick: usize },
    Claim { limit: usize },
    Done { pick: usize, how: Outcome },
    Advance { seconds: i64 },
    Reopen,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    webhook: usize,
    conversation: usize,
    priority: i32,
    limit: Option<u32>,
    checked: bool,
    max_attempts: u32,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Succeed,
    Fail,
    FailForGood,
    Cancel,
    Release(u64),
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Sent,
    Failed,
    Limited,
    TimedOut,
    Untried,
}

fn shape() -> impl Strategy<Value = Shape> {
    let limit = prop::option::of(1..3u32);
    (0..2usize, 0..4usize, 0..3i32, limit, prop::bool::weighted(0.2), 1..4u32).prop_map(
        |(webhook, conversation, priority, limit, checked, max_attempts)| Shape {
            webhook,
            conversation,
            priority,
            limit,
            checked,
            max_attempts,
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    let how = prop::sample::select(vec![
        How::Succeed,
        How::Fail,
        How::Fail,
        How::FailForGood,
        How::Cancel,
        How::Release(0),
        How::Release(7),
    ]);
    let sent = prop::sample::select(vec![
        Outcome::Sent,
        Outcome::Failed,
        Outcome::Limited,
        Outcome::TimedOut,
        Outcome::Untried,
    ]);
    let tasks = prop::collection::vec(shape(), 0..4);
    let pick = any::<usize>;
    proptest::prop_oneof![
        5 => (tasks, prop::option::of(0..4u8), 0..3u32)
            .prop_map(|(tasks, key, parts)| Act::Accept { tasks, key, parts }),
        8 => (1..6usize).prop_map(|running_max| Act::Lease { running_max }),
        8 => (pick(), how, prop::bool::weighted(0.1), 0..3usize)
            .prop_map(|(pick, how, stale, answers)| Act::Finish { pick, how, stale, answers }),
        2 => (pick(), any::<Option<bool>>()).prop_map(|(pick, verdict)| Act::Check { pick, verdict }),
        1 => pick().prop_map(|pick| Act::Cancel { pick }),
        2 => pick().prop_map(|pick| Act::Redrive { pick }),
        4 => (1..4usize).prop_map(|limit| Act::Claim { limit }),
        4 => (pick(), sent).prop_map(|(pick, how)| Act::Done { pick, how }),
        3 => (1..30i64).prop_map(|seconds| Act::Advance { seconds }),
        2 => Just(Act::Reopen),
    ]
}

#[derive(Clone, Debug)]
struct ModelTask {
    spec: TaskSpec,
    must_check: bool,
    state: TaskState,
    attempt: u32,
    spent: u32,
    not_before: Timestamp,
    cancelling: bool,
    interrupted: bool,
}

#[derive(Clone, Debug)]
struct ModelCall {
    /// Whose calls go one after the other.
    sequence: uuid::Uuid,
    order: (Timestamp, u32, OutboxId),
    state: OutboxState,
    not_before: Timestamp,
    held: bool,
    in_doubt: bool,
}

struct World {
    ledger: Ledger,
    ground: Ground,
    options: Options,
    second: i64,
    tasks: BTreeMap<TaskId, ModelTask>,
    calls: BTreeMap<OutboxId, ModelCall>,
    keys: BTreeMap<u8, (DeliveryId, i64)>,
}

/// How long a dedupe key of the model lives, in seconds.
const KEY_SECONDS: i64 = 20;

/// What the ledger lies in.
enum Ground {
    Disk(Disk),
    Database(TempDir),
}

impl Ground {
    fn ledger(&self, options: &Options) -> Ledger {
        match self {
            Ground::Disk(disk) => disk.ledger(options).unwrap(),
            Ground::Database(directory) => {
                let url = std::fs::read_to_string(directory.path().join("database")).unwrap();
                let shared = Some(SharedSettings { url: SecretValue::new(url), lease: LEASE });
                Ledger::open(&directory.path().join("ledger.redb"), Options { shared, ..options.clone() }).unwrap()
            }
        }
    }
}

impl World {
    fn new(ground: Ground) -> Self {
        let options = options();
        let ledger = ground.ledger(&options);
        let (tasks, calls, keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { ledger, ground, options, second: 0, tasks, calls, keys }
    }

    fn now(&self) -> Timestamp {
        at(self.second)
    }

    fn picked(&self, pick: usize, wanted: impl Fn(&ModelTask) -> bool) -> Option<TaskId> {
        let ids: Vec<_> = self.tasks.iter().filter(|(_, task)| wanted(task)).map(|(id, _)| *id).collect();
        ids.get(pick.checked_rem(ids.len())?).copied()
    }

    async fn act(&mut self, act: Act) -> TestCaseResult {
        match act {
            Act::Accept { tasks, key, parts } => self.accept(&tasks, key, parts).await,
            Act::Lease { running_max } => self.lease(running_max).await,
            Act::Finish { pick, how, stale, answers } => self.finish(pick, how, stale, answers).await,
            Act::Check { pick, verdict } => self.check(pick, verdict).await,
            Act::Cancel { pick } => self.cancel(pick).await,
            Act::Redrive { pick } => self.redrive(pick).await,
            Act::Claim { limit } => self.claim(limit).await,
            Act::Done { pick, how } => self.done(pick, how).await,
            Act::Advance { seconds } => {
                self.second += seconds;
                self.options.clock.advance(jiff::SignedDuration::from_secs(seconds));
                Ok(())
            }
            Act::Reopen => self.reopen().await,
        }
    }

    async fn accept(&mut self, shapes: &[Shape], key: Option<u8>, parts: u32) -> TestCaseResult {
        let tasks: Vec<NewTask> = shapes
            .iter()
            .map(|shape| {
                let conversation = ["", "a", "b", "c"][shape.conversation].to_owned();
                let spec = TaskSpec {
                    webhook: webhook(["v", "w"][shape.webhook]),
                    source: Source { conversation_id: conversation, ..Source::default() },
                    priority: shape.priority,
                    webhook_concurrency: shape.limit,
                    max_attempts: shape.max_attempts,
                    created_at: self.now(),
                    ..task_spec()
                };
                NewTask { lookup: shape.checked.then(lookup), ..new_task(spec) }
            })
            .collect();
        let mut all = accept(tasks.clone());
        let delivery = all.delivery.id;
        all.delivery.received_at = self.now();
        all.outbox = (0..parts).map(|part| outbox_item(Some(delivery), part, parts)).collect();
        if let Some(key) = key {
            all = with_key(all, &key.to_string(), self.second + KEY_SECONDS);
        }
        let calls: Vec<_> = all.outbox.iter().map(|item| (item.id, item.part)).collect();
        let seen = key.and_then(|key| self.keys.get(&key)).filter(|(_, expires)| *expires > self.second);
        let expected = seen.map_or(Accepted::Fresh, |(of, _)| Accepted::Duplicate { of: *of });
        let fresh = expected == Accepted::Fresh;
        prop_assert_eq!(self.ledger.accept(all).await.unwrap(), expected);
        if fresh {
            self.keys.extend(key.map(|key| (key, (delivery, self.second + KEY_SECONDS))));
            for task in tasks {
                let must_check = task.lookup.is_some();
                let born = ModelTask {
                    spec: TaskSpec { delivery: Some(delivery), ..task.spec },
                    must_check,
                    state: if must_check { TaskState::Checking } else { TaskState::Queued },
                    attempt: 0,
                    spent: 0,
                    not_before: self.now(),
                    cancelling: false,
                    interrupted: false,
                };
                self.tasks.insert(born.spec.id, born);
            }
            for (id, part) in calls {
                let sequence = if parts > 1 { delivery.0 } else { id.0 };
                self.calls.insert(id, waiting(sequence, (at(0), part, id), at(0)));
            }
        }
        Ok(())
    }

    async fn lease(&mut self, running_max: usize) -> TestCaseResult {
        let now = self.now();
        let running: Vec<&ModelTask> = self.tasks.values().filter(|task| task.state == TaskState::Running).collect();
        let may_run = |task: &ModelTask| {
            let same_webhook = |other: &&&ModelTask| other.spec.webhook == task.spec.webhook;
            let conversation = &task.spec.source.conversation_id;
            task.state == TaskState::Queued
                && task.not_before <= now
                && task
                    .spec
                    .webhook_concurrency
                    .is_none_or(|limit| running.iter().filter(same_webhook).count() < limit as usize)
                && (conversation.is_empty()
                    || running.iter().all(|other| other.spec.source.conversation_id != *conversation))
        };
        let candidates = self.tasks.values().filter(|task| running.len() < running_max && may_run(task));
        let expected = candidates.min_by_key(|task| (task.spec.priority, task.spec.created_at, task.spec.id));
        let expected = expected.map(|task| (task.spec.id, task.attempt + 1));
        let leased = self.ledger.lease(LeaseRequest { running_max, now }).await.unwrap();
        prop_assert_eq!(leased.map(|task| (task.spec.id, task.attempt)), expected);
        if let Some(task) = expected.and_then(|(id, _)| self.tasks.get_mut(&id)) {
            task.state = TaskState::Running;
            task.attempt += 1;
        }
        Ok(())
    }

    async fn finish(&mut self, pick: usize, how: How, stale: bool, answers: usize) -> TestCaseResult {
        let Some(id) = self.picked(pick, |task| task.state == TaskState::Running) else { return Ok(()) };
        let now = self.now();
        let task = &self.tasks[&id];
        let finish = match how {
            How::Succeed => succeeded(),
            How::Fail => failed(Code::AgentFailed),
            How::FailForGood => failed(Code::AgentRefused),
            How::Cancel => Finish::Cancelled { result: None },
            How::Release(seconds) => {
                Finish::Released { reason: reason(Code::NotReady), delay: Duration::from_secs(seconds) }
            }
        };
        let texts = (0..answers).map(|part| format!("part {part}")).collect();
        let attempt = task.attempt - u32::from(stale);
        let finished = self.ledger.finish(id, attempt, finish, texts, now).await;
        if stale {
            prop_assert_eq!(finished.unwrap_err().code(), Code::StaleAttempt);
            return Ok(());
        }
        let finished = finished.unwrap();
        let spent = task.spent + u32::from(!matches!(how, How::Release(_)));
        let (state, wait_max) = match how {
            How::Succeed => (TaskState::Succeeded, 0),
            How::Cancel => (TaskState::Cancelled, 0),
            How::Fail | How::FailForGood | How::Release(_) if task.cancelling => (TaskState::Cancelled, 0),
            How::FailForGood => (TaskState::Dead, 0),
            How::Fail if spent >= task.spec.max_attempts => (TaskState::Dead, 0),
            How::Fail => (TaskState::Queued, backoff::ceiling(spent).as_secs()),
            How::Release(seconds) => (TaskState::Queued, seconds),
        };
        prop_assert_eq!((finished.state, finished.attempts_spent, finished.attempt), (state, spent, task.attempt));
        prop_assert!(finished.not_before >= now);
        prop_assert!(finished.not_before <= after(self.second, Duration::from_secs(wait_max)));
        if let Some(task) = self.tasks.get_mut(&id) {
            (task.state, task.spent, task.not_before) = (state, spent, finished.not_before);
            task.interrupted = false;
        }
        let expected = if state.is_terminal() { answers } else { 0 };
        self.learn_calls(id, expected).await
    }

    /// The calls that answer for a task, which the ledger made.
    async fn learn_calls(&mut self, id: TaskId, expected: usize) -> TestCaseResult {
        let items = self.ledger.outbox_of(Some(id), None).await.unwrap();
        let new: Vec<_> = items.into_iter().filter(|item| !self.calls.contains_key(&item.id)).collect();
        let parts: Vec<_> = new.iter().map(|item| (item.part as usize, item.parts as usize)).collect();
        prop_assert_eq!(parts, (0..expected).map(|part| (part, expected)).collect::<Vec<_>>());
        for item in new {
            self.calls.insert(item.id, waiting(id.0, (item.created_at, item.part, item.id), item.not_before));
        }
        Ok(())
    }

    async fn check(&mut self, pick: usize, verdict: Option<bool>) -> TestCaseResult {
        let now = self.now();
        let mut due: Vec<_> = self.ledger.due_checks(now, 100).await.unwrap().iter().map(|due| due.0.spec.id).collect();
        due.sort();
        let checking = |task: &ModelTask| task.state == TaskState::Checking && task.not_before <= now;
        let expected: Vec<_> = self.tasks.iter().filter(|(_, task)| checking(task)).map(|(id, _)| *id).collect();
        prop_assert_eq!(due, expected);
        let Some(id) = self.picked(pick, |task| task.state == TaskState::Checking) else { return Ok(()) };
        let wait = Duration::from_secs(3);
        let said = verdict.ok_or_else(|| (reason(Code::ReplyUnavailable), wait));
        let checked = self.ledger.checked(id, said, vec!["no".to_owned()], now).await.unwrap();
        let state = match verdict {
            Some(true) => TaskState::Queued,
            Some(false) => TaskState::Refused,
            None => TaskState::Checking,
        };
        prop_assert_eq!(checked.state, state);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.state = state;
            task.must_check = state != TaskState::Queued;
            task.not_before = checked.not_before;
        }
        self.learn_calls(id, usize::from(state == TaskState::Refused)).await
    }

    async fn cancel(&mut self, pick: usize) -> TestCaseResult {
        let Some(id) = self.picked(pick, |_| true) else { return Ok(()) };
        let cancelled = self.ledger.cancel(id, self.now()).await;
        if let Some(task) = self.tasks.get_mut(&id) {
            match task.state {
                TaskState::Checking | TaskState::AwaitingApproval | TaskState::Queued | TaskState::WaitingInput => {
                    task.state = TaskState::Cancelled
                }
                TaskState::Running => task.cancelling = true,
                TaskState::Succeeded
                | TaskState::Dead
                | TaskState::Cancelled
                | TaskState::Refused
                | TaskState::Expired => {
                    prop_assert_eq!(cancelled.unwrap_err().code(), Code::WrongState);
                    return Ok(());
                }
            }
            prop_assert_eq!(cancelled.unwrap().state, task.state);
        }
        Ok(())
    }

    async fn redrive(&mut self, pick: usize) -> TestCaseResult {
        let Some(id) = self.picked(pick, |task| task.state.is_terminal()) else { return Ok(()) };
        let now = self.now();
        let redriven = self.ledger.redrive(id, now).await.unwrap();
        if let Some(task) = self.tasks.get_mut(&id) {
            task.state = if task.must_check { TaskState::Checking } else { TaskState::Queued };
            (task.spent, task.cancelling, task.not_before) = (0, false, now);
            prop_assert_eq!(redriven.state, task.state);
        }
        Ok(())
    }

    async fn claim(&mut self, limit: usize) -> TestCaseResult {
        let now = self.now();
        let mut firsts: BTreeMap<uuid::Uuid, (&OutboxId, &ModelCall)> = BTreeMap::new();
        let open = |call: &ModelCall| !matches!(call.state, OutboxState::Sent | OutboxState::Failed);
        for (id, call) in self.calls.iter().filter(|(_, call)| open(call)) {
            let first = firsts.entry(call.sequence).or_insert((id, call));
            if call.order < first.1.order {
                *first = (id, call);
            }
        }
        let mut expected: Vec<_> = firsts.values().filter(|(_, call)| !call.held && call.not_before <= now).collect();
        expected.sort_by_key(|(id, call)| (call.not_before, **id));
        let expected: Vec<_> = expected.into_iter().take(limit).map(|(id, call)| (**id, call.in_doubt)).collect();
        let claimed = self.ledger.claim_outbox(now, limit).await.unwrap();
        let claimed: Vec<_> = claimed.into_iter().map(|(item, in_doubt)| (item.id, in_doubt)).collect();
        prop_assert_eq!(&claimed, &expected);
        for (id, _) in claimed {
            if let Some(call) = self.calls.get_mut(&id) {
                (call.state, call.held) = (OutboxState::Sending, true);
            }
        }
        Ok(())
    }

    async fn done(&mut self, pick: usize, how: Outcome) -> TestCaseResult {
        let held: Vec<_> = self.calls.iter().filter(|(_, call)| call.held).map(|(id, _)| *id).collect();
        let Some(id) = pick.checked_rem(held.len()).map(|n| held[n]) else { return Ok(()) };
        let (state, error) = match how {
            Outcome::Sent => (OutboxState::Sent, None),
            Outcome::Failed => (OutboxState::Failed, Some(Code::ReplyRefused)),
            Outcome::Limited => (OutboxState::Waiting, Some(Code::RateLimited)),
            Outcome::TimedOut => (OutboxState::Waiting, Some(Code::ReplyUnavailable)),
            Outcome::Untried => (OutboxState::Waiting, None),
        };
        let not_before = at(self.second + 2);
        self.ledger.outbox_done(id, state, None, error.map(reason), not_before).await.unwrap();
        if let Some(call) = self.calls.get_mut(&id) {
            (call.state, call.held, call.not_before) = (state, false, not_before);
            call.in_doubt |= matches!(how, Outcome::TimedOut);
        }
        Ok(())
    }

    async fn reopen(&mut self) -> TestCaseResult {
        self.ledger.close().await;
        self.ledger = self.ground.ledger(&self.options);
        for task in self.tasks.values_mut() {
            task.interrupted = task.state == TaskState::Running;
        }
        for call in self.calls.values_mut().filter(|call| call.held) {
            (call.held, call.in_doubt) = (false, true);
        }
        self.compare().await
    }

    async fn compare(&self) -> TestCaseResult {
        let stored = self.ledger.tasks(TaskFilter::default()).await.unwrap();
        let stored: Vec<_> = stored.into_iter().map(|task| (task.spec.clone(), of(&task))).collect();
        let expected: Vec<_> = self
            .tasks
            .values()
            .rev()
            .map(|task| (task.spec.clone(), (task.state, task.attempt, task.spent, task.cancelling)))
            .collect();
        prop_assert_eq!(stored, expected);
        let interrupted: Vec<_> = self.ledger.interrupted().await.unwrap().iter().map(|lease| lease.task).collect();
        let expected: Vec<_> = self.tasks.iter().filter(|(_, task)| task.interrupted).map(|(id, _)| *id).collect();
        prop_assert_eq!(interrupted, expected);
        let depth = self.ledger.depth().await.unwrap();
        let count = |state| self.tasks.values().filter(|task| task.state == state).count();
        prop_assert_eq!(
            (depth.checking, depth.queued, depth.running, depth.dead),
            (count(TaskState::Checking), count(TaskState::Queued), count(TaskState::Running), count(TaskState::Dead))
        );
        let open = self.calls.values().filter(|call| !matches!(call.state, OutboxState::Sent | OutboxState::Failed));
        prop_assert_eq!(depth.outbox_waiting, open.count());
        for task in self.tasks.keys() {
            for item in self.ledger.outbox_of(Some(*task), None).await.unwrap() {
                prop_assert_eq!(item.state, self.calls[&item.id].state);
            }
        }
        Ok(())
    }
}

fn of(task: &Task) -> (TaskState, u32, u32, bool) {
    (task.state, task.attempt, task.attempts_spent, task.cancel_requested)
}

fn waiting(sequence: uuid::Uuid, order: (Timestamp, u32, OutboxId), not_before: Timestamp) -> ModelCall {
    ModelCall { sequence, order, state: OutboxState::Waiting, not_before, held: false, in_doubt: false }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 500, ..ProptestConfig::default() })]
    #[test]
    fn ledger_does_what_the_model_does(acts in prop::collection::vec(act(), 1..80)) {
        play(Ground::Disk(Disk::default()), acts)?;
    }
}

fn play(ground: Ground, acts: Vec<Act>) -> TestCaseResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(ground);
        for act in acts {
            world.act(act).await?;
        }
        world.compare().await?;
        world.reopen().await
    })
}

/// As over a file, with one server for all cases.
#[test]
fn ledger_in_postgres_does_what_the_model_does() {
    let Some(server) = PostgresServer::start() else { return };
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, max_shrink_iters: 60, ..ProptestConfig::default() });
    let case = std::cell::Cell::new(0);
    runner
        .run(&prop::collection::vec(act(), 1..60), |acts| {
            case.set(case.get() + 1);
            play(Ground::Database(database_directory(&server, &format!("model{}", case.get()))), acts)
        })
        .unwrap();
}
