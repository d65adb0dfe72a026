//! The rows as they are kept: what never changes apart from what changes often, so that a transition writes little,
//! and what is done apart from what is not, so that a start reads little.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::codec::{self, Row, json_rows, packed_rows};
use super::compact::{Fields, Rest};
use crate::error::Result;
use crate::ledger::rows::{
    Conversation, Delivery, Generation, Happening, KeptAnswer, LogLine, OutboxItem, OutboxState, RawRequest,
    Suspension, Token,
};
use crate::model::approval::Given;
use crate::model::digest::Digest;
use crate::model::ids::{DeliveryId, OutboxId, ProviderName, TaskId, WebhookId};
use crate::model::provider::{PreparedCall, PreparedLookup};
use crate::model::task::{Reason, RunResult, Task, TaskSpec, TaskState};

/// What is fixed when a task is born.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpecRow {
    pub spec: TaskSpec,
    /// Whom its answers go to.
    pub provider: ProviderName,
    pub lookup: Option<PreparedLookup>,
    pub reply: Option<PreparedCall>,
    /// The task that waits for what this one was told.
    #[serde(default)]
    pub continues: Option<TaskId>,
    /// What it says, where it runs no agent.
    #[serde(default)]
    pub says: Option<Vec<String>>,
}

/// What changes while a task lives; stored as it is once the task has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    pub webhook: WebhookId,
    pub delivery: Option<DeliveryId>,
    pub state: TaskState,
    pub reason: Option<Reason>,
    pub attempt: u32,
    pub attempts_spent: u32,
    pub not_before: Timestamp,
    pub updated_at: Timestamp,
    pub cancel_requested: bool,
    /// The provider said that the actor may do this; false until it was asked.
    pub allowed: bool,
    /// The approval that was given for it.
    #[serde(default)]
    pub approved: Option<Given>,
    /// It is among the runs of a day already.
    #[serde(default)]
    pub counted: bool,
    pub result: Option<RunResult>,
}

impl TaskRow {
    /// A dead letter of which nothing is known but what it was born as.
    pub fn lost(spec: &TaskSpec, reason: Reason, now: Timestamp) -> Self {
        Self {
            webhook: spec.webhook.clone(),
            delivery: spec.delivery,
            state: TaskState::Dead,
            reason: Some(reason),
            attempt: 0,
            attempts_spent: 0,
            not_before: now,
            updated_at: now,
            cancel_requested: false,
            allowed: false,
            approved: None,
            counted: false,
            result: None,
        }
    }

    pub fn with(self, spec: TaskSpec) -> Task {
        Task {
            spec,
            state: self.state,
            reason: self.reason,
            attempt: self.attempt,
            attempts_spent: self.attempts_spent,
            not_before: self.not_before,
            updated_at: self.updated_at,
            cancel_requested: self.cancel_requested,
            approved: self.approved,
            result: self.result,
        }
    }
}

/// A task that has not ended, with all that choosing the next one needs. The queue in memory is rebuilt from these.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveRow {
    pub task: TaskRow,
    /// The wait that `not_before` was made from. It can never be further away than this, unless the clock was set back.
    pub delay_ms: u64,
    pub priority: i32,
    pub created_at: Timestamp,
    pub concurrency: Option<u32>,
    pub conversation: String,
    pub revision: Digest,
}

/// Version 2 knows two states more; rows of version 1 read the same. Version 3 ends with the approval, version 4 with
/// whether the run is counted.
impl Row for LiveRow {
    const TABLE: &'static str = "live";
    const VERSION: u8 = 4;

    fn to_content(&self) -> Result<Vec<u8>> {
        let mut fields = Fields::default();
        let task = &self.task;
        fields.byte(state_byte(task.state));
        fields.flag(task.cancel_requested);
        fields.flag(task.allowed);
        fields.u32(task.attempt);
        fields.u32(task.attempts_spent);
        fields.time(task.not_before);
        fields.time(task.updated_at);
        fields.text(task.webhook.as_str());
        fields.id(task.delivery.map(|id| id.0));
        fields.json(task.reason.as_ref())?;
        fields.json(task.result.as_ref())?;
        fields.u64(self.delay_ms);
        fields.i32(self.priority);
        fields.time(self.created_at);
        // No limit is no different from one that is never reached.
        fields.u32(self.concurrency.unwrap_or(u32::MAX));
        fields.text(&self.conversation);
        fields.bytes(self.revision.as_bytes());
        fields.json(task.approved.as_ref())?;
        fields.flag(task.counted);
        Ok(fields.into_bytes())
    }

    fn from_content(version: u8, content: &[u8]) -> Result<Self> {
        let mut rest = Rest(content);
        let state = rest.byte()?;
        let task = TaskRow {
            state: TaskState::ALL.into_iter().find(|known| state_byte(*known) == state).ok_or_else(odd)?,
            cancel_requested: rest.flag()?,
            allowed: rest.flag()?,
            attempt: rest.u32()?,
            attempts_spent: rest.u32()?,
            not_before: rest.time()?,
            updated_at: rest.time()?,
            webhook: WebhookId::parse(rest.text()?).map_err(codec::unreadable)?,
            delivery: rest.id()?.map(DeliveryId),
            reason: rest.json()?,
            approved: None,
            counted: false,
            result: rest.json()?,
        };
        let mut row = Self {
            task,
            delay_ms: rest.u64()?,
            priority: rest.i32()?,
            created_at: rest.time()?,
            concurrency: Some(rest.u32()?).filter(|limit| *limit != u32::MAX),
            conversation: rest.text()?.to_owned(),
            revision: Digest::parse(&hex::encode(rest.array::<32>()?)).map_err(codec::unreadable)?,
        };
        // Before version 3 nothing had to be approved.
        if version >= 3 {
            row.task.approved = rest.json()?;
        }
        // Whatever had begun was counted.
        row.task.counted = if version >= 4 { rest.flag()? } else { row.task.attempt > 0 };
        Ok(row)
    }
}

/// Never renumbered.
fn state_byte(state: TaskState) -> u8 {
    match state {
        TaskState::Checking => 0,
        TaskState::Queued => 1,
        TaskState::Running => 2,
        TaskState::Succeeded => 3,
        TaskState::Dead => 4,
        TaskState::Cancelled => 5,
        TaskState::Refused => 6,
        TaskState::AwaitingApproval => 7,
        TaskState::WaitingInput => 8,
        TaskState::Expired => 9,
    }
}

fn odd() -> crate::error::Error {
    codec::unreadable("it has a state that does not exist")
}

/// An outbox item as it was born, under its owner and its id: its call and text never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRow(pub OutboxItem);

/// What changes while an outbox item lives; stored as it is, under its owner and its id, once it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxRow {
    pub state: OutboxState,
    pub attempts: u32,
    pub not_before: Timestamp,
    pub updated_at: Timestamp,
    pub error: Option<Reason>,
    pub url: Option<String>,
}

impl OutboxRow {
    pub fn of(item: &OutboxItem) -> Self {
        Self {
            state: item.state,
            attempts: item.attempts,
            not_before: item.not_before,
            updated_at: item.updated_at,
            error: item.error.clone(),
            url: item.url.clone(),
        }
    }

    pub fn with(self, born: CallRow) -> OutboxItem {
        OutboxItem {
            state: self.state,
            attempts: self.attempts,
            not_before: self.not_before,
            updated_at: self.updated_at,
            error: self.error,
            url: self.url,
            ..born.0
        }
    }
}

/// An outbox item that is not done, with all that choosing the next one needs.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingRow {
    pub item: OutboxRow,
    pub task: Option<TaskId>,
    pub delivery: Option<DeliveryId>,
    pub part: u32,
    pub parts: u32,
    pub created_at: Timestamp,
    pub delay_ms: u64,
    /// A call may have gone out already.
    pub in_doubt: bool,
}

impl PendingRow {
    /// From the item as it was born, when its row here is lost: whether it has gone out is lost too.
    pub fn in_doubt(born: &OutboxItem, now: Timestamp) -> Self {
        Self {
            item: OutboxRow { state: OutboxState::Waiting, not_before: now, ..OutboxRow::of(born) },
            task: born.task,
            delivery: born.delivery,
            part: born.part,
            parts: born.parts,
            created_at: born.created_at,
            delay_ms: 0,
            in_doubt: true,
        }
    }

    /// Whose it is: the task's, else the delivery's, else its own.
    pub fn owner(&self, id: OutboxId) -> Uuid {
        owner(self.task, self.delivery, id)
    }

    pub fn is_sending(&self) -> bool {
        self.item.state == OutboxState::Sending
    }
}

pub fn owner(task: Option<TaskId>, delivery: Option<DeliveryId>, id: OutboxId) -> Uuid {
    task.map(|task| task.0).or_else(|| delivery.map(|delivery| delivery.0)).unwrap_or(id.0)
}

impl Row for PendingRow {
    const TABLE: &'static str = "pending";

    fn to_content(&self) -> Result<Vec<u8>> {
        let mut fields = Fields::default();
        fields.flag(self.is_sending());
        fields.flag(self.in_doubt);
        fields.u32(self.item.attempts);
        fields.time(self.item.not_before);
        fields.time(self.item.updated_at);
        fields.json(self.item.error.as_ref())?;
        fields.json(self.item.url.as_ref())?;
        fields.id(self.task.map(|id| id.0));
        fields.id(self.delivery.map(|id| id.0));
        fields.u32(self.part);
        fields.u32(self.parts);
        fields.time(self.created_at);
        fields.u64(self.delay_ms);
        Ok(fields.into_bytes())
    }

    fn from_content(_version: u8, content: &[u8]) -> Result<Self> {
        let mut rest = Rest(content);
        let sending = rest.flag()?;
        let in_doubt = rest.flag()?;
        let item = OutboxRow {
            state: if sending { OutboxState::Sending } else { OutboxState::Waiting },
            attempts: rest.u32()?,
            not_before: rest.time()?,
            updated_at: rest.time()?,
            error: rest.json()?,
            url: rest.json()?,
        };
        Ok(Self {
            item,
            in_doubt,
            task: rest.id()?.map(TaskId),
            delivery: rest.id()?.map(DeliveryId),
            part: rest.u32()?,
            parts: rest.u32()?,
            created_at: rest.time()?,
            delay_ms: rest.u64()?,
        })
    }
}

/// Half a SHA-256 is enough to tell deliveries apart.
pub type DedupeKeyBytes = [u8; 16];

/// The keys under which one delivery counts as seen, and until when. Numbered in the order of writing: rows with a random
/// key of their own would each write a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupeRow {
    pub of: DeliveryId,
    pub keys: Vec<(DedupeKeyBytes, Timestamp)>,
}

impl Row for DedupeRow {
    const TABLE: &'static str = "dedupe";

    fn to_content(&self) -> Result<Vec<u8>> {
        let mut fields = Fields::default();
        fields.bytes(self.of.as_bytes());
        for (key, expires_at) in &self.keys {
            fields.bytes(key);
            fields.time(*expires_at);
        }
        Ok(fields.into_bytes())
    }

    fn from_content(_version: u8, content: &[u8]) -> Result<Self> {
        let mut rest = Rest(content);
        let of = DeliveryId(Uuid::from_bytes(rest.array()?));
        let mut keys = Vec::new();
        while !rest.is_empty() {
            keys.push((rest.array()?, rest.time()?));
        }
        Ok(Self { of, keys })
    }
}

/// Headers and raw body, packed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRow(pub RawRequest);

impl Row for BodyRow {
    const TABLE: &'static str = "bodies";

    fn to_content(&self) -> Result<Vec<u8>> {
        let head = codec::to_json(&self.0)?;
        let mut content = Vec::with_capacity(4 + head.len() + self.0.body.len());
        content.extend_from_slice(&u32::try_from(head.len()).map_err(codec::unreadable)?.to_be_bytes());
        content.extend_from_slice(&head);
        content.extend_from_slice(&self.0.body);
        Ok(codec::pack(&content))
    }

    fn from_content(_version: u8, content: &[u8]) -> Result<Self> {
        let content = codec::unpack(content)?;
        let (length, rest) = content.split_first_chunk::<4>().ok_or_else(|| codec::unreadable("it is too short"))?;
        let (head, body) = rest
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or_else(|| codec::unreadable("its head is cut off"))?;
        let mut request: RawRequest = codec::from_json(head)?;
        request.body = bytes::Bytes::copy_from_slice(body);
        Ok(Self(request))
    }
}

/// What is remembered of a conversation, and since when it was not touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConversationRow {
    pub conversation: Conversation,
    pub updated_at: Timestamp,
}

/// What the runs of a webhook used in one day, under the day and the webhook's id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpendRow {
    pub runs: u32,
    pub usd: f64,
}

/// The agent program's own record of a conversation, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptRow {
    pub session_id: String,
    pub content: Vec<u8>,
}

impl Row for TranscriptRow {
    const TABLE: &'static str = "transcripts";

    fn to_content(&self) -> Result<Vec<u8>> {
        let mut fields = Fields::default();
        fields.text(&self.session_id);
        let mut content = fields.into_bytes();
        content.extend_from_slice(&codec::pack(&self.content));
        Ok(content)
    }

    fn from_content(_version: u8, content: &[u8]) -> Result<Self> {
        let mut rest = Rest(content);
        let session_id = rest.text()?.to_owned();
        Ok(Self { session_id, content: codec::unpack(rest.0)? })
    }
}

/// What happened in one commit, under the number of the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HappeningRow {
    pub happenings: Vec<Happening>,
}

/// Some consecutive lines of a task's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRow {
    pub lines: Vec<LogLine>,
}

/// How much of a log is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSizeRow {
    pub lines: u32,
    pub bytes: u64,
    /// The limit was reached and said so; later lines are left out.
    pub full: bool,
}

/// Which layout the file as a whole has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutRow {
    pub layout: u32,
}

json_rows! {
    TaskRow: "tasks";
    OutboxRow: "outbox";
    ConversationRow: "conversations";
    Generation: "generations";
    Suspension: "suspended";
    Token: "tokens";
    SpendRow: "spend";
    LogSizeRow: "log-sizes";
    LayoutRow: "layout";
}

packed_rows! {
    Delivery: "deliveries";
    SpecRow: "specs";
    CallRow: "calls";
    HappeningRow: "happenings";
    Happening: "deeds";
    LogRow: "logs";
    KeptAnswer: "kept-answers";
}
