//! What the ledger holds: plain rows, one struct a kind.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::digest::Digest;
use crate::model::event::Event;
use crate::model::ids::{DeliveryId, OutboxId, ProviderName, TaskId, WebhookId};
use crate::model::matching::Decision;
use crate::model::provider::PreparedCall;
use crate::model::task::Reason;
use crate::model::token::{Scopes, TokenId};

/// One accepted POST. Its headers and raw body are kept apart (see [`super::Ledger::delivery_body`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: DeliveryId,
    pub webhook: WebhookId,
    pub provider: ProviderName,
    pub generation: u64,
    pub revision: Digest,
    /// The digest of the index that decided.
    pub index_digest: Digest,
    pub received_at: Timestamp,
    /// The peer's address, without its port.
    pub peer: String,
    /// The id of the signature scheme that verified it; `None` where the webhook asks for no signature.
    pub scheme: Option<String>,
    pub body_bytes: u64,
    pub outcome: Outcome,
    /// One for each item of a batch.
    pub items: Vec<DecidedItem>,
    pub tasks: Vec<TaskId>,
}

/// One event of a delivery and what was decided about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecidedItem {
    pub event: Event,
    pub decision: Decision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Accepted,
    Ignored,
}

/// Headers and raw body of a delivery, as they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawRequest {
    pub method: String,
    /// As the sender called it, with the query.
    pub url: String,
    /// Values are Latin-1 text; signature and authorisation headers are left out.
    pub headers: Vec<(String, String)>,
    #[serde(skip)]
    pub body: bytes::Bytes,
}

/// A key under which a delivery counts as seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupeKey {
    /// Over the webhook, the kind of key and its value.
    pub key: Digest,
    pub expires_at: Timestamp,
}

/// Why a call to a provider is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// At once: "seen".
    Ack,
    /// The answer of a task, or the text of a `comment` command.
    Reply,
    /// What a `forward` command posts to a target of the operator.
    Forward,
}

/// A call that waits to be made, is being made, or was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxItem {
    pub id: OutboxId,
    pub webhook: WebhookId,
    pub provider: ProviderName,
    pub delivery: Option<DeliveryId>,
    pub task: Option<TaskId>,
    pub purpose: Purpose,
    pub call: PreparedCall,
    /// What fills `{ctx:reply}` or `{ctx:ack_text}`.
    pub text: String,
    /// Part `n` of `parts` of a split reply, from 0; parts go in order.
    pub part: u32,
    pub parts: u32,
    pub state: OutboxState,
    pub attempts: u32,
    pub not_before: Timestamp,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub error: Option<Reason>,
    /// Where the result can be looked at, once it is sent.
    pub url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    Waiting,
    /// A call is on its way, or was when a crash came: look before sending again.
    Sending,
    Sent,
    /// Given up.
    Failed,
}

/// What one session of an agent remembers of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    pub session_id: Option<String>,
    /// Cumulative cost that the agent program last reported for that session, in US dollars.
    pub session_cost_usd: f64,
    pub turns: u32,
    /// The task that began it, where that asked for a fresh start.
    #[serde(default)]
    pub begun_by: Option<TaskId>,
}

/// The generation of a webhook: counts up whenever its effective spec changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    pub number: u64,
    pub digest: Digest,
}

/// A person holds something back: a webhook's tasks, or the reconciler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    pub since: Timestamp,
}

/// Something that happened, in the order of `seq`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    pub seq: u64,
    pub at: Timestamp,
    /// For example `task.completed`, `delivery.received`, `reconcile.applied`.
    pub kind: String,
    pub webhook: Option<WebhookId>,
    pub delivery: Option<DeliveryId>,
    pub task: Option<TaskId>,
    pub message: String,
    /// Who asked for it, where a person or a program did: `token ci (1a2b3c4d5e6f)`, `local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What a run has used, where that is what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// What an attempt has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// In US dollars; known at the end.
    pub cost_usd: Option<f64>,
    pub turns: Option<u32>,
}

/// Something that was done by somebody, to be kept among what happened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deed {
    /// For example `token.created`, `delivery.replayed`.
    pub kind: String,
    pub actor: String,
    pub webhook: Option<WebhookId>,
    pub delivery: Option<DeliveryId>,
    pub task: Option<TaskId>,
    pub message: String,
}

/// A token of the admin API. What it reads as is not kept, only its digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: TokenId,
    /// For people.
    pub name: String,
    pub scopes: Scopes,
    pub digest: Digest,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// What a request with an idempotency key was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// Of the request.
    pub fingerprint: Digest,
    pub status: u16,
    pub content_type: Option<String>,
    pub etag: Option<String>,
    pub body: String,
    pub expires_at: Timestamp,
}

impl Token {
    /// Whether it opens anything at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// One line of what a task's agent said or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    pub at: Timestamp,
    pub attempt: u32,
    /// `agent`, `tool`, `note` or `error`.
    pub kind: String,
    pub text: String,
}
