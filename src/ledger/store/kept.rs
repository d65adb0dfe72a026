//! The rows as they are kept: what never changes apart from what changes often, so that a transition writes little.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::codec::{self, Row, json_rows, packed_rows};
use crate::error::Result;
use crate::ledger::rows::{
    Conversation, Delivery, Generation, Happening, LogLine, OutboxItem, OutboxState, RawRequest,
};
use crate::model::digest::Digest;
use crate::model::ids::{DeliveryId, ProviderName, TaskId, WebhookId};
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
}

/// What changes while a task lives.
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
    pub result: Option<RunResult>,
}

impl TaskRow {
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
            result: self.result,
        }
    }
}

/// A task that has not ended, with all that choosing the next one needs. The queue in memory is rebuilt from these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenRow {
    pub state: TaskState,
    pub attempt: u32,
    pub priority: i32,
    pub created_at: Timestamp,
    pub not_before: Timestamp,
    /// The wait that `not_before` was made from. It can never be further away than this, unless the clock was set back.
    pub delay_ms: u64,
    pub webhook: WebhookId,
    pub concurrency: Option<u32>,
    pub conversation: String,
    pub revision: Digest,
}

/// What changes while an outbox item lives.
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

/// An outbox item as it was born: its call and text never change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRow(pub OutboxItem);

/// An outbox item that is not done, with all that choosing the next one needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingRow {
    pub task: Option<TaskId>,
    pub delivery: Option<DeliveryId>,
    pub part: u32,
    pub parts: u32,
    pub created_at: Timestamp,
    pub not_before: Timestamp,
    pub delay_ms: u64,
    pub sending: bool,
    /// A call may have gone out already.
    pub in_doubt: bool,
}

impl PendingRow {
    /// From the item itself, when its row here is lost: whether it may have gone out is lost too.
    pub fn in_doubt(item: &OutboxItem, row: &OutboxRow, now: Timestamp) -> Self {
        Self {
            task: item.task,
            delivery: item.delivery,
            part: item.part,
            parts: item.parts,
            created_at: item.created_at,
            not_before: row.not_before.min(now),
            delay_ms: 0,
            sending: row.state == OutboxState::Sending,
            in_doubt: true,
        }
    }
}

/// Under which delivery a dedupe key counts as seen, and until when. In 24 bytes: there are two for each delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupeRow {
    pub of: DeliveryId,
    pub expires_at: Timestamp,
}

impl Row for DedupeRow {
    const TABLE: &'static str = "dedupe";

    fn to_content(&self) -> Result<Vec<u8>> {
        let mut content = self.of.as_bytes().to_vec();
        content.extend_from_slice(&self.expires_at.as_second().to_be_bytes());
        Ok(content)
    }

    fn from_content(_version: u8, content: &[u8]) -> Result<Self> {
        let (of, expires) = content.split_first_chunk::<16>().ok_or_else(|| codec::unreadable("it is too short"))?;
        let expires = <[u8; 8]>::try_from(expires).map_err(codec::unreadable)?;
        Ok(Self {
            of: DeliveryId(uuid::Uuid::from_bytes(*of)),
            expires_at: Timestamp::from_second(i64::from_be_bytes(expires)).map_err(codec::unreadable)?,
        })
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
    OpenRow: "open";
    OutboxRow: "outbox";
    PendingRow: "pending";
    ConversationRow: "conversations";
    Generation: "generations";
    Happening: "happenings";
    LogSizeRow: "log-sizes";
    LayoutRow: "layout";
}

packed_rows! {
    Delivery: "deliveries";
    SpecRow: "specs";
    CallRow: "calls";
    LogRow: "logs";
}
