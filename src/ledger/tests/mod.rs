//! Tests of the ledger as a whole.

mod approvals;
mod crash;
mod damage;
mod disk;
mod faults;
mod model;
mod retention;
mod shared;
mod transitions;
mod writing;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use uuid::Uuid;

use super::rows::{DedupeKey, Delivery, OutboxItem, OutboxState, Outcome, Purpose, RawRequest};
use super::{Accept, Accepted, Finish, LeaseRequest, Ledger, NewTask, Options, SharedSettings};
use crate::error::Code;
use crate::model::digest::Digest;
use crate::model::ids::{CommandName, DeliveryId, OutboxId, ProviderName, SkillName, TaskId, WebhookId};
use crate::model::provider::{PreparedCall, PreparedLookup};
use crate::model::secret::SecretValue;
use crate::model::spec::Action;
use crate::model::task::{Reason, RunResult, RunSettings, Source, Task, TaskSpec};
use crate::seam::{Clock, fresh_id};
use crate::testing::PostgresServer;

/// Of nodes in tests.
pub const LEASE: Duration = Duration::from_secs(60);

/// Any call.
pub fn call() -> PreparedCall {
    PreparedCall::to("https://source.example/")
}

/// Any look-up.
pub fn lookup() -> PreparedLookup {
    PreparedLookup { call: call(), take: "/permission".to_owned(), trusted: None, trusted_min: None }
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub fn webhook(name: &str) -> WebhookId {
    WebhookId::parse(name).unwrap()
}

/// A task of webhook `w`, in a conversation of its own.
pub fn task_spec() -> TaskSpec {
    let id = TaskId(fresh_id());
    TaskSpec {
        id,
        delivery: None,
        parent: None,
        webhook: webhook("w"),
        generation: 1,
        revision: Digest::of(b"revision"),
        command: CommandName::parse("fix").unwrap(),
        skill: SkillName::parse("fixing").unwrap(),
        agent: None,
        action: Action::CreateTask,
        prompt: "do it".repeat(20),
        prefixes: Vec::new(),
        missing: Vec::new(),
        source: Source { conversation_id: id.to_string(), ..Source::default() },
        priority: 100,
        max_attempts: 3,
        run: RunSettings::default(),
        webhook_concurrency: None,
        created_at: at(0),
    }
}

pub fn new_task(spec: TaskSpec) -> NewTask {
    NewTask { spec, lookup: None, reply: Some(call()), continues: None, says: None }
}

/// A delivery of these tasks at second 0.
pub fn accept(tasks: Vec<NewTask>) -> Accept {
    let id = DeliveryId(fresh_id());
    let tasks: Vec<NewTask> = tasks
        .into_iter()
        .map(|mut task| {
            task.spec.delivery = Some(id);
            task
        })
        .collect();
    Accept {
        delivery: Delivery {
            id,
            webhook: webhook("w"),
            provider: ProviderName::parse("github").unwrap(),
            generation: 1,
            revision: Digest::of(b"revision"),
            index_digest: Digest::of(b"index"),
            received_at: at(0),
            peer: "192.0.2.1".to_owned(),
            scheme: None,
            body_bytes: 4,
            outcome: Outcome::Accepted,
            items: Vec::new(),
            tasks: tasks.iter().map(|task| task.spec.id).collect(),
        },
        request: RawRequest {
            method: "POST".to_owned(),
            url: "/webhooks/github".to_owned(),
            headers: vec![("x".to_owned(), "y".to_owned())],
            body: bytes::Bytes::from(format!("body of {id}").repeat(50)),
        },
        dedupe: Vec::new(),
        tasks,
        outbox: Vec::new(),
    }
}

pub fn with_key(mut accept: Accept, key: &str, expires_second: i64) -> Accept {
    accept.dedupe.push(DedupeKey { key: Digest::of(key.as_bytes()), expires_at: at(expires_second) });
    accept
}

pub fn outbox_item(delivery: Option<DeliveryId>, part: u32, parts: u32) -> OutboxItem {
    OutboxItem {
        id: OutboxId(fresh_id()),
        webhook: webhook("w"),
        provider: ProviderName::parse("github").unwrap(),
        delivery,
        task: None,
        purpose: Purpose::Ack,
        call: call(),
        text: format!("part {part}"),
        part,
        parts,
        state: OutboxState::Waiting,
        attempts: 0,
        not_before: at(0),
        created_at: at(0),
        updated_at: at(0),
        error: None,
        url: None,
    }
}

pub fn lease(second: i64) -> LeaseRequest {
    LeaseRequest { running_max: 100, now: at(second) }
}

pub fn reason(code: Code) -> Reason {
    Reason { code, message: "because".to_owned() }
}

pub fn failed(code: Code) -> Finish {
    Finish::Failed { reason: reason(code), result: None, retry_after: None }
}

pub fn succeeded() -> Finish {
    Finish::Succeeded { result: RunResult { text: "done".to_owned(), ..RunResult::default() } }
}

pub fn options() -> Options {
    Options { cache_bytes: 8 * 1024 * 1024, clock: Clock::manual(at(0)), ..Options::default() }
}

/// A ledger in that directory, or in the database that it names.
pub fn open(directory: &Path) -> Ledger {
    let shared = std::fs::read_to_string(directory.join("database")).ok();
    let shared = shared.map(|url| SharedSettings { url: SecretValue::new(url), lease: LEASE });
    Ledger::open(&directory.join("ledger.redb"), Options { shared, ..options() }).unwrap()
}

/// A directory whose ledger is in a schema of its own.
pub fn database_directory(server: &PostgresServer, schema: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("database"), server.url(&format!("schema={schema}"))).unwrap();
    directory
}

/// Runs each claim over a file, as a test of its own, and all of them over PostgreSQL, one server for all.
macro_rules! in_every_engine {
    ($($claim:ident,)*) => {
        mod in_a_file {
            $(#[tokio::test]
            async fn $claim() {
                super::$claim(tempfile::tempdir().unwrap().path()).await;
            })*
        }

        #[tokio::test]
        async fn all_of_it_holds_in_postgres() {
            let Some(server) = crate::testing::PostgresServer::start() else { return };
            $({
                println!(stringify!($claim));
                let schema = format!("c{}", crate::seam::fresh_id().simple());
                Box::pin($claim(database_directory(&server, &schema).path())).await;
            })*
        }
    };
}
use in_every_engine;

pub async fn reopened(ledger: Ledger, directory: &Path) -> Ledger {
    ledger.close().await;
    open(directory)
}

/// Accepts one task and returns its id.
pub async fn accept_one(ledger: &Ledger, spec: TaskSpec) -> TaskId {
    let id = spec.id;
    assert_eq!(ledger.accept(accept(vec![new_task(spec)])).await.unwrap(), Accepted::Fresh);
    id
}

pub async fn leased(ledger: &Ledger, second: i64) -> Option<Task> {
    ledger.lease(lease(second)).await.unwrap()
}

/// The ids of what may run one after the other at that second, each left running.
pub async fn leased_ids(ledger: &Ledger, second: i64) -> Vec<TaskId> {
    let mut ids = Vec::new();
    while let Some(task) = leased(ledger, second).await {
        ids.push(task.spec.id);
    }
    ids
}

pub fn id_of(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub fn after(second: i64, delay: Duration) -> Timestamp {
    at(second) + jiff::SignedDuration::try_from(delay).unwrap()
}
