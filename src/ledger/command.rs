//! Whole transitions as values: what is asked of the writer, and what it answers.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::encode::{EncodedAccept, EncodedTask};
use super::rows::{Conversation, Deed, Generation, KeptAnswer, LogLine, OutboxItem, OutboxState, Token, Used};
use super::store::kept::{PendingRow, TranscriptRow};
use super::{Accepted, Finish, Interrupted, LeaseRequest};
use crate::error::Result;
use crate::model::approval::Decision;
use crate::model::digest::Digest;
use crate::model::ids::{DeliveryId, OutboxId, ProviderName, TaskId, WebhookId};
use crate::model::provider::PreparedLookup;
use crate::model::task::{DailyBudget, Reason, Task};

/// Executed by reference, so that a batch that failed before its commit can be tried again, one by one.
#[derive(Debug)]
pub enum Command {
    Accept(Box<EncodedAccept>),
    /// A task that no delivery has started.
    Create {
        webhook: WebhookId,
        task: Box<EncodedTask>,
    },
    Interrupted,
    Lease(LeaseRequest),
    Finish {
        task: TaskId,
        attempt: u32,
        finish: Finish,
        answers: Vec<String>,
        now: Timestamp,
    },
    DueChecks {
        now: Timestamp,
        limit: usize,
    },
    Checked {
        task: TaskId,
        verdict: Verdict,
        answers: Vec<String>,
        now: Timestamp,
    },
    Cancel {
        task: TaskId,
        now: Timestamp,
    },
    Redrive {
        task: TaskId,
        now: Timestamp,
    },
    ClaimOutbox {
        now: Timestamp,
        limit: usize,
    },
    OutboxDone(OutboxDone),
    /// The claim did not reach who asked for it.
    Unclaim(Vec<OutboxId>),
    /// A person approves a task, or rejects it.
    Decide {
        task: TaskId,
        decision: Decision,
        now: Timestamp,
    },
    /// What waited too long for a person ends.
    Expire {
        now: Timestamp,
    },
    /// Counts a run of a webhook, unless a budget of the day is used up.
    Reserve(Reserve),
    PutTranscript {
        conversation: String,
        transcript: TranscriptRow,
    },
    AppendLog {
        task: TaskId,
        lines: Vec<LogLine>,
    },
    PutConversation {
        id: String,
        conversation: Conversation,
    },
    PutGenerations(Vec<(WebhookId, Generation)>),
    /// Holds a webhook's tasks back or lets them go; `None` is the reconciler.
    Suspend {
        webhook: Option<WebhookId>,
        on: bool,
        by: String,
    },
    /// What a running task has used so far.
    Measured {
        task: TaskId,
        used: Used,
    },
    Note {
        kind: String,
        webhook: Option<WebhookId>,
        message: String,
    },
    /// As [`Command::Note`], with who did it.
    Record(Box<Deed>),
    /// Tokens as they are now, in place of those of the same ids, and what is to be known of it.
    PutTokens {
        tokens: Vec<Token>,
        deed: Option<Box<Deed>>,
    },
    KeepAnswer {
        id: Digest,
        answer: Box<KeptAnswer>,
    },
    PinnedRevisions,
    /// The task that waits for the next message of a conversation.
    Asking {
        webhook: WebhookId,
        conversation: String,
    },
    /// Tasks whose row is damaged are given up; calls get the row that they may have had.
    Mend {
        tasks: Vec<TaskId>,
        calls: Vec<(OutboxId, PendingRow)>,
    },
    Forget(Forget),
}

/// What the provider said of an actor, or why it could not be asked and how long to wait.
pub type Verdict = std::result::Result<bool, (Reason, std::time::Duration)>;

/// A run that is about to begin, and what may be used in a day: by its webhook, and by all together.
#[derive(Clone, Debug)]
pub struct Reserve {
    /// It is counted once, however often it is broken off and tried again.
    pub task: Option<TaskId>,
    pub webhook: WebhookId,
    pub of_webhook: DailyBudget,
    pub of_all: DailyBudget,
    pub now: Timestamp,
}

#[derive(Debug)]
pub struct OutboxDone {
    pub id: OutboxId,
    pub state: OutboxState,
    pub url: Option<String>,
    pub error: Option<Reason>,
    pub not_before: Timestamp,
}

/// Old rows, to be looked at once more and removed.
#[derive(Debug)]
pub enum Forget {
    /// With its tasks, their logs and calls.
    Delivery {
        id: DeliveryId,
        before: Timestamp,
    },
    /// A task without a delivery.
    Task {
        id: TaskId,
        before: Timestamp,
    },
    /// Rows of dedupe keys that have expired.
    Dedupe {
        numbers: Vec<Vec<u8>>,
        now: Timestamp,
    },
    Conversations {
        ids: Vec<Vec<u8>>,
        before: Timestamp,
    },
    /// Answers that are kept no longer.
    Answers {
        ids: Vec<Vec<u8>>,
        now: Timestamp,
    },
    /// What somebody did long ago.
    Deeds {
        numbers: Vec<Vec<u8>>,
    },
}

#[derive(Debug)]
pub enum Answer {
    Done,
    Accepted(Accepted),
    Interrupted(Vec<Interrupted>),
    Leased(Option<Box<Task>>),
    Task(Box<Task>),
    Expired(usize),
    /// Why a run may not begin.
    Reserved(Option<Reason>),
    Checks(Vec<(Task, ProviderName, PreparedLookup)>),
    Claimed(Vec<(OutboxItem, bool)>),
    Revisions(Vec<Digest>),
    /// A log got so many lines, the first of this number.
    Logged {
        first: u32,
        lines: u32,
    },
    Asking(Option<Box<Task>>),
    /// Rows that were removed, and whether there are more of the same.
    Forgotten {
        rows: usize,
        more: bool,
    },
}

/// A command on its way, with whoever waits for its answer.
pub struct Job {
    pub command: Command,
    pub reply: Reply,
    /// Room in the lane, given back when the job is done.
    pub _room: Option<tokio::sync::OwnedSemaphorePermit>,
}

pub enum Reply {
    Async(oneshot::Sender<Result<Answer>>),
    Blocking(std::sync::mpsc::SyncSender<Result<Answer>>),
    Nobody,
}

impl Reply {
    /// The answer comes back when nobody waits for it any more.
    pub fn send(self, answer: Result<Answer>) -> Result<(), Answer> {
        let unheard = match self {
            Reply::Async(sender) => sender.send(answer).err(),
            Reply::Blocking(sender) => sender.send(answer).err().map(|error| error.0),
            Reply::Nobody => None,
        };
        match unheard {
            Some(Ok(answer)) => Err(answer),
            Some(Err(_)) | None => Ok(()),
        }
    }
}
