//! The handle: typed methods over the writer's commands, and how the ledger is opened and closed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Semaphore, broadcast, oneshot, watch};
use uuid::Uuid;

use super::command::{Answer, Command, Job, OutboxDone, Reply, Reserve};
use super::encode::{EncodedAccept, EncodedTask};
use super::follow::Touched;
use super::lanes::{Lane, Lanes};
use super::rows::{Conversation, Deed, Generation, KeptAnswer, LogLine, OutboxItem, OutboxState, Token};
use super::store::database::{Settings, Store};
use super::store::engine::Engine;
use super::store::kept::TranscriptRow;
use super::store::salvage::Salvage;
use super::store::shared::{About, NodeSeen, SharedStore};
use super::store::unavailable;
use super::writer::Writer;
use super::{Accept, Accepted, Depth, Finish, Interrupted, LeaseRequest, Ledger, LogGrown, NewTask, Options};
use crate::error::{Code, Context as _, Error, Result};
use crate::model::approval::Decision;
use crate::model::digest::Digest;
use crate::model::ids::{OutboxId, ProviderName, TaskId, WebhookId};
use crate::model::provider::PreparedLookup;
use crate::model::task::{Reason, Task};
use crate::seam::Clock;

/// Growths of logs that wait for those who follow them.
const LOGS_TOLD_MAX: usize = 1_024;
/// Blocking reads at once.
const READS_MAX: usize = 16;
/// Bodies above this are packed off the reactor, in bytes.
const BODY_BYTES_INLINE: usize = 256 * 1024;

/// What the handles and the writer share.
pub struct Shared {
    pub store: Engine,
    pub lanes: Lanes,
    pub clock: Clock,
    pub keep: Duration,
    pub healthy: AtomicBool,
    pub commits: AtomicU64,
    pub reads: Semaphore,
    /// Counts up when something may have become due.
    pub work: watch::Sender<u64>,
    /// The number of the last happening.
    pub last_seq: watch::Sender<u64>,
    pub closed: watch::Sender<bool>,
    pub logs: broadcast::Sender<LogGrown>,
    /// Counts up when another node has changed tokens.
    pub tokens: watch::Sender<u64>,
    glance: Mutex<Glance>,
}

#[derive(Default)]
struct Glance {
    depth: Depth,
    first_due: Option<Timestamp>,
}

impl Shared {
    /// What other nodes have changed that is kept elsewhere in this process.
    pub fn tell(&self, touched: Touched) {
        if touched.tokens {
            self.tokens.send_modify(|version| *version += 1);
        }
    }

    pub fn show(&self, depth: Depth, first_due: Option<Timestamp>) {
        *self.glance() = Glance { depth, first_due };
    }

    fn glance(&self) -> std::sync::MutexGuard<'_, Glance> {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the last handle goes, the writer finishes what waits and ends.
pub struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.lanes.close();
    }
}

impl Ledger {
    /// Opens or creates. Blocks, for as long as reading it takes. Of a shared ledger only the node's name and its lock lie
    /// beside `path`.
    ///
    /// # Errors
    /// SH0303 when another process has it, SH0603 when a newer version wrote it, SH0601 when the disk says no; SH0602
    /// when the file is damaged and [`super::OnDamage::Refuse`] was asked for, else see [`Ledger::salvaged`]; SH0920 and
    /// SH0921 when the database is not fit for it.
    pub fn open(path: &Path, options: Options) -> Result<Ledger> {
        if let Some(shared) = &options.shared {
            return Self::over(Engine::Shared(SharedStore::open(path, shared)?), &options);
        }
        let settings = Settings { cache_bytes: options.cache_bytes, verify_bytes_max: options.verify_bytes_max };
        let store = Store::open_file(path, settings, options.on_damage, options.clock.now())?;
        Self::over(Engine::File(Box::new(store)), &options)
    }

    pub(super) fn over(store: Engine, options: &Options) -> Result<Ledger> {
        let shared = Arc::new(Shared {
            store,
            lanes: Lanes::default(),
            clock: options.clock.clone(),
            keep: options.keep,
            healthy: AtomicBool::new(true),
            commits: AtomicU64::new(0),
            reads: Semaphore::new(READS_MAX),
            work: watch::Sender::new(1),
            last_seq: watch::Sender::new(0),
            closed: watch::Sender::new(false),
            logs: broadcast::Sender::new(LOGS_TOLD_MAX),
            tokens: watch::Sender::new(0),
            glance: Mutex::default(),
        });
        let writer = Writer::new(Arc::clone(&shared)).inspect_err(|_| shared.store.release())?;
        if let Some(store) = shared.store.shared() {
            let told = Arc::downgrade(&shared);
            store.follow(Arc::new(move || {
                if let Some(shared) = told.upgrade() {
                    shared.lanes.nudge();
                }
            }));
        }
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || writer.run())
            .context(Code::LedgerUnavailable, "the ledger's thread cannot be started")?;
        Ok(Ledger { owner: Arc::new(Owner(shared)), work_seen: AtomicU64::new(0) })
    }

    /// Dedupe, delivery, decision, tasks, acks: one commit on the fast lane.
    pub async fn accept(&self, accept: Accept) -> Result<Accepted> {
        let encoded = if accept.request.body.len() > BODY_BYTES_INLINE {
            let packing = tokio::task::spawn_blocking(move || EncodedAccept::new(accept));
            packing.await.context(Code::LedgerUnavailable, "the delivery could not be packed")??
        } else {
            EncodedAccept::new(accept)?
        };
        let bytes = encoded.bytes();
        match self.ask(Lane::Fast, bytes, Command::Accept(Box::new(encoded))).await? {
            Answer::Accepted(accepted) => Ok(accepted),
            other => Err(unexpected(&other)),
        }
    }

    /// A task that no delivery brings: a message of a conversation, or a child of another task. `provider` is whose
    /// calls answer for it.
    pub async fn create(&self, task: NewTask, provider: &ProviderName, now: Timestamp) -> Result<()> {
        let webhook = task.spec.webhook.clone();
        let task = Box::new(EncodedTask::alone(task, provider, now)?);
        let bytes = task.spec.len();
        match self.ask(Lane::Fast, bytes, Command::Create { webhook, task }).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Tasks that were running when the last process ended. They are leased again only after [`Ledger::finish`] or
    /// `Released` says what became of them.
    pub async fn interrupted(&self) -> Result<Vec<Interrupted>> {
        match self.ask(Lane::Slow, 0, Command::Interrupted).await? {
            Answer::Interrupted(tasks) => Ok(tasks),
            other => Err(unexpected(&other)),
        }
    }

    /// The next task that may run, now `running` with its attempt counted up; `None` when nothing may.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Option<Task>> {
        match self.ask(Lane::Slow, 0, Command::Lease(request)).await? {
            Answer::Leased(task) => Ok(task.map(|task| *task)),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends an attempt: result, next state, outbox rows for the answer, one commit. Refuses a stale attempt (SH0604).
    /// `answers` are the texts for the source, already split; they are used when the attempt ends the task.
    ///
    /// After SH0601 it is not known whether it was written: ask again, and take SH0604 as "it was".
    pub async fn finish(
        &self,
        task: TaskId,
        attempt: u32,
        finish: Finish,
        answers: Vec<String>,
        now: Timestamp,
    ) -> Result<Task> {
        let bytes = answers.iter().map(String::len).sum();
        self.ask_task(bytes, Command::Finish { task, attempt, finish, answers, now }).await
    }

    /// Tasks in `checking` that are due, with what to ask. They stay due until [`Ledger::checked`] says otherwise.
    pub async fn due_checks(&self, now: Timestamp, limit: usize) -> Result<Vec<(Task, ProviderName, PreparedLookup)>> {
        match self.ask(Lane::Slow, 0, Command::DueChecks { now, limit }).await? {
            Answer::Checks(checks) => Ok(checks),
            other => Err(unexpected(&other)),
        }
    }

    /// The provider answered (`Ok(true)` lets it run, `Ok(false)` refuses it), or could not be asked (`Err`: again later).
    pub async fn checked(
        &self,
        task: TaskId,
        verdict: std::result::Result<bool, (Reason, Duration)>,
        answers: Vec<String>,
        now: Timestamp,
    ) -> Result<Task> {
        self.ask_task(0, Command::Checked { task, verdict, answers, now }).await
    }

    /// Cancels what waits at once; a running task is asked to stop (`cancel_requested`).
    pub async fn cancel(&self, task: TaskId, now: Timestamp) -> Result<Task> {
        self.ask_task(0, Command::Cancel { task, now }).await
    }

    /// Puts a dead, cancelled, refused or succeeded task in the queue again; one whose actor was never found to be
    /// allowed goes back to `checking`.
    pub async fn redrive(&self, task: TaskId, now: Timestamp) -> Result<Task> {
        self.ask_task(0, Command::Redrive { task, now }).await
    }

    /// Waits until something may be due for the lease loop, the checks or the outbox (or `at_most` has passed).
    /// Every loop needs a clone of its own: a handle is woken once for each change.
    pub async fn work_signal(&self, at_most: Duration) {
        let shared = &self.owner.0;
        let mut work = shared.work.subscribe();
        let version = *work.borrow_and_update();
        if self.work_seen.swap(version, Ordering::AcqRel) != version {
            return;
        }
        let due = shared.glance().first_due;
        let due = due.map(|due| Duration::try_from(due.duration_since(shared.clock.now())).unwrap_or_default());
        // Never a busy loop, even if what is due is not taken.
        let wait = due.map_or(at_most, |due| due.max(Duration::from_millis(50)).min(at_most));
        if tokio::time::timeout(wait, work.changed()).await.is_ok() {
            self.work_seen.store(*work.borrow(), Ordering::Release);
        }
    }

    /// Outbox items that are due, now `sending`; the flag tells for each whether a call may already have gone out.
    pub async fn claim_outbox(&self, now: Timestamp, limit: usize) -> Result<Vec<(OutboxItem, bool)>> {
        match self.ask(Lane::Slow, 0, Command::ClaimOutbox { now, limit }).await? {
            Answer::Claimed(items) => Ok(items),
            other => Err(unexpected(&other)),
        }
    }

    /// What became of a claimed call: `Sent`, `Failed`, or `Waiting` until `not_before`.
    pub async fn outbox_done(
        &self,
        id: OutboxId,
        state: OutboxState,
        url: Option<String>,
        error: Option<Reason>,
        not_before: Timestamp,
    ) -> Result<()> {
        self.tell(0, Command::OutboxDone(OutboxDone { id, state, url, error, not_before })).await
    }

    /// A person approves a task that waits for it, or rejects it; what is said at the source goes out with it.
    pub async fn decide(&self, task: TaskId, decision: Decision, now: Timestamp) -> Result<Task> {
        self.ask_task(0, Command::Decide { task, decision, now }).await
    }

    /// Ends what waited too long for a person; answers how many tasks those were. Asks nobody while nothing waits.
    pub async fn expire(&self, now: Timestamp) -> Result<usize> {
        let depth = self.depth().await?;
        if depth.awaiting_approval + depth.waiting_input == 0 {
            return Ok(0);
        }
        match self.ask(Lane::Slow, 0, Command::Expire { now }).await? {
            Answer::Expired(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// Counts a run that is about to begin; why it may not, where a budget of the day is used up.
    pub async fn reserve(&self, reserve: Reserve) -> Result<Option<Reason>> {
        match self.ask(Lane::Slow, 0, Command::Reserve(reserve)).await? {
            Answer::Reserved(refusal) => Ok(refusal),
            other => Err(unexpected(&other)),
        }
    }

    /// Keeps the agent program's record of a conversation, so that another node can go on with it.
    pub async fn put_transcript(&self, conversation: &str, session_id: &str, content: Vec<u8>) -> Result<()> {
        let (bytes, session_id) = (content.len(), session_id.to_owned());
        let transcript = TranscriptRow { session_id, content };
        self.tell(bytes, Command::PutTranscript { conversation: conversation.to_owned(), transcript }).await
    }

    pub async fn append_log(&self, task: TaskId, lines: Vec<LogLine>) -> Result<()> {
        let bytes = lines.iter().map(|line| line.text.len()).sum();
        match self.ask(Lane::Slow, bytes, Command::AppendLog { task, lines }).await? {
            Answer::Logged { first, lines } if lines > 0 => {
                // That nobody listens is no error.
                let _ = self.owner.0.logs.send(LogGrown { task, first: u64::from(first) });
                Ok(())
            }
            Answer::Logged { .. } => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Tells of every log that grows from here on, after its lines are on disk.
    pub fn logs(&self) -> broadcast::Receiver<LogGrown> {
        self.owner.0.logs.subscribe()
    }

    /// The number of the last happening.
    pub fn last_seq(&self) -> u64 {
        *self.owner.0.last_seq.borrow()
    }

    pub async fn put_conversation(&self, id: &str, conversation: Conversation) -> Result<()> {
        self.tell(0, Command::PutConversation { id: id.to_owned(), conversation }).await
    }

    /// Records new generations before the index serves them. Blocks until they are on disk.
    pub fn put_generations(&self, generations: Vec<(WebhookId, Generation)>) -> Result<()> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let command = Command::PutGenerations(generations);
        self.owner.0.lanes.push_blocking(Job { command, reply: Reply::Blocking(reply), _room: None })?;
        answer.recv().map_err(|_| gone())?.map(|_| ())
    }

    /// Holds a webhook's tasks back (its deliveries are stored), or lets them go; `None` is the reconciler.
    pub async fn suspend(&self, webhook: Option<WebhookId>, on: bool) -> Result<()> {
        self.tell(0, Command::Suspend { webhook, on }).await
    }

    /// Says that something happened; on the maintenance lane.
    pub async fn note(&self, kind: &str, webhook: Option<WebhookId>, message: String) -> Result<()> {
        self.tell(message.len(), Command::Note { kind: kind.to_owned(), webhook, message }).await
    }

    /// Keeps what somebody did among what happened.
    pub async fn record(&self, deed: Deed) -> Result<()> {
        self.tell(deed.message.len(), Command::Record(Box::new(deed))).await
    }

    /// Writes tokens in place of those of the same ids, with what is to be known of it.
    pub async fn put_tokens(&self, tokens: Vec<Token>, deed: Option<Deed>) -> Result<()> {
        self.tell(0, Command::PutTokens { tokens, deed: deed.map(Box::new) }).await
    }

    /// Keeps what a request was answered, until it expires.
    pub async fn keep_answer(&self, id: Digest, answer: KeptAnswer) -> Result<()> {
        self.tell(answer.body.len(), Command::KeepAnswer { id, answer: Box::new(answer) }).await
    }

    pub async fn depth(&self) -> Result<Depth> {
        Ok(self.owner.0.glance().depth.clone())
    }

    /// The task whose question the next message of this conversation would answer. Asks nobody while nothing waits.
    pub async fn asking(&self, webhook: &WebhookId, conversation: &str) -> Result<Option<Task>> {
        if self.owner.0.glance().depth.waiting_input == 0 {
            return Ok(None);
        }
        let command = Command::Asking { webhook: webhook.clone(), conversation: conversation.to_owned() };
        match self.ask(Lane::Slow, 0, command).await? {
            Answer::Asking(task) => Ok(task.map(|task| *task)),
            other => Err(unexpected(&other)),
        }
    }

    /// Revisions that tasks not yet finished are pinned to.
    pub async fn pinned_revisions(&self) -> Result<Vec<Digest>> {
        match self.ask(Lane::Slow, 0, Command::PinnedRevisions).await? {
            Answer::Revisions(revisions) => Ok(revisions),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether this node may still count on what it has leased: of a shared ledger, while it can renew its own lease.
    pub fn holds(&self) -> bool {
        self.owner.0.store.shared().is_none_or(|store| store.lease().holds())
    }

    /// Whether this node does what is to be done by one node alone.
    pub fn leads(&self) -> bool {
        self.owner.0.store.shared().is_none_or(|store| store.leads())
    }

    /// Which engine it is, for people: `redb`, or `postgres` with its place.
    pub fn engine(&self) -> String {
        self.owner.0.store.to_string()
    }

    /// This node's name, where the ledger is shared.
    pub fn node(&self) -> Option<Uuid> {
        self.owner.0.store.shared().map(|store| store.lease().node())
    }

    /// The nodes that are alive, this one among them; `None` where the ledger is a file.
    pub fn nodes(&self) -> Option<watch::Receiver<Vec<NodeSeen>>> {
        self.owner.0.store.shared().map(|store| store.news().nodes.subscribe())
    }

    /// What this node says of itself to the others.
    pub fn introduce(&self, change: impl FnOnce(&mut About)) {
        if let Some(store) = self.owner.0.store.shared() {
            store.lease().introduce(change);
            self.owner.0.lanes.nudge();
        }
    }

    /// Counts up when another node has changed tokens.
    pub fn tokens_changed(&self) -> watch::Receiver<u64> {
        self.owner.0.tokens.subscribe()
    }

    /// Whether the last write succeeded.
    pub fn healthy(&self) -> bool {
        self.owner.0.healthy.load(Ordering::Acquire)
    }

    /// What became of a damaged file, if that was what [`Ledger::open`] found.
    pub fn salvaged(&self) -> Option<&Salvage> {
        self.owner.0.store.salvage()
    }

    /// Commits since it was opened.
    pub fn commits(&self) -> u64 {
        self.owner.0.commits.load(Ordering::Relaxed)
    }

    /// Writes what waits and closes; further calls answer SH0601.
    pub async fn close(&self) {
        self.owner.0.lanes.close();
        let mut closed = self.owner.0.closed.subscribe();
        // An error means that the writer is gone, which is what was asked for.
        let _ = closed.wait_for(|closed| *closed).await;
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }

    pub(super) async fn ask(&self, lane: Lane, bytes: usize, command: Command) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        let make = || Job { command, reply: Reply::Async(reply), _room: None };
        self.owner.0.lanes.push(lane, bytes, make).await?;
        answer.await.map_err(|_| gone())?
    }

    async fn ask_task(&self, bytes: usize, command: Command) -> Result<Task> {
        match self.ask(Lane::Slow, bytes, command).await? {
            Answer::Task(task) => Ok(*task),
            other => Err(unexpected(&other)),
        }
    }

    async fn tell(&self, bytes: usize, command: Command) -> Result<()> {
        self.ask(Lane::Slow, bytes, command).await.map(|_| ())
    }
}

impl Clone for Ledger {
    fn clone(&self) -> Self {
        Self { owner: Arc::clone(&self.owner), work_seen: AtomicU64::new(0) }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("store", &self.owner.0.store).finish_non_exhaustive()
    }
}

fn gone() -> Error {
    unavailable("the writer is gone")
}

fn unexpected(answer: &Answer) -> Error {
    Error::new(Code::Bug, "the ledger answered something else than it was asked").detail(format!("{answer:?}"))
}
