//! A task: one command of one delivery, pinned to the state that the delivery matched.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::approval::{Approval, Given};
use super::change::Authority;
use super::digest::Digest;
use super::event::Pressed;
use super::ids::{AgentName, CommandName, DeliveryId, ProviderName, SkillName, TaskId, WebhookId};
use super::spec::Action;
use crate::error::{Code, Error};

/// Everything that is fixed when the task is born. The worker never looks at configuration again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub id: TaskId,
    pub delivery: Option<DeliveryId>,
    /// The task that this one retries or continues.
    pub parent: Option<TaskId>,
    pub webhook: WebhookId,
    pub generation: u64,
    /// The served revision whose skills and agents the run sees.
    pub revision: Digest,
    pub command: CommandName,
    pub skill: SkillName,
    pub agent: Option<AgentName>,
    pub action: Action,
    pub prompt: String,
    /// The words that start runs at the source: an answer never says them so that they would.
    pub prefixes: Vec<String>,
    /// Template values that were missing and rendered as empty.
    pub missing: Vec<String>,
    pub source: Source,
    pub priority: i32,
    pub max_attempts: u32,
    pub run: RunSettings,
    /// At most this many runs of the webhook at once.
    pub webhook_concurrency: Option<u32>,
    pub created_at: Timestamp,
}

/// Where a task came from and where its answer goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Canonical name of the provider event.
    pub event: String,
    pub actor: Option<String>,
    pub text: Option<String>,
    pub url: Option<String>,
    /// Provider, tenant and object: the same for every delivery about one thing.
    pub external_id: String,
    /// Its stable hash: the same for all tasks about one thing.
    pub flow_id: String,
    /// Runs of one conversation never overlap and share an agent session.
    pub conversation_id: String,
    /// Somebody asked for a fresh start: the agent's session begins anew with this task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// A person has agreed to the change that an earlier task had shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Agreed>,
    /// The button that somebody pressed to decide about a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressed: Option<Pressed>,
}

/// What came of a change that a person has agreed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The task whose answer showed it.
    pub task: TaskId,
    /// It was carried out; else it can be agreed to again.
    pub applied: bool,
    /// In words for the agent that goes on.
    pub outcome: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSettings {
    pub model: Option<String>,
    pub tools: Option<Vec<String>>,
    pub max_turns: Option<u32>,
    pub budget_usd: Option<f64>,
    pub timeout_seconds: u64,
    /// With what authority its tools change configuration; without it, that of a run which a stranger may steer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// A person must agree before it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What the runs of the webhook may use in one day.
    #[serde(default, skip_serializing_if = "DailyBudget::is_unlimited")]
    pub daily: DailyBudget,
    /// The run gets the files of the repository that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<Checkout>,
    /// What it may ask providers to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<Calls>,
}

/// What a run may ask providers to do, and at which of their resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    pub provider: ProviderName,
    /// What the delivery was about, by the names that operations use.
    pub bound: BTreeMap<String, String>,
    /// What the command lists: `comment`, `jira.issue`. Without a list, reading at home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
}

/// What may be used in one day (UTC); further runs are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DailyBudget {
    pub usd: Option<f64>,
    pub runs: Option<u32>,
}

impl DailyBudget {
    pub fn is_unlimited(&self) -> bool {
        self.usd.is_none() && self.runs.is_none()
    }
}

/// The repository whose files a run gets, and to which its changes are proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkout {
    pub provider: ProviderName,
    /// As the provider names it, for example `acme/api`.
    pub repository: String,
    /// Where it is cloned from: the catalogue's or the operator's address, with the path of the delivery.
    pub url: String,
    /// What is looked at, for example `refs/pull/7/head`; the default branch where it is `None`.
    pub reference: Option<String>,
    /// The branch that changes are proposed to.
    pub base: Option<String>,
}

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// The provider is asked whether the actor may do this.
    Checking,
    /// A person has to agree before it may run.
    AwaitingApproval,
    /// Waits for a worker, perhaps until a time.
    Queued,
    Running,
    /// Its agent put a question to the source: the next message of the conversation continues it as a child.
    WaitingInput,
    Succeeded,
    /// It ran out of attempts or failed for good: a dead letter, which can be redriven.
    Dead,
    Cancelled,
    /// It was not allowed to run.
    Refused,
    /// What it waited for (an approval, an answer) did not come in time.
    Expired,
}

impl TaskState {
    pub const ALL: [TaskState; 10] = [
        TaskState::Checking,
        TaskState::AwaitingApproval,
        TaskState::Queued,
        TaskState::Running,
        TaskState::WaitingInput,
        TaskState::Succeeded,
        TaskState::Dead,
        TaskState::Cancelled,
        TaskState::Refused,
        TaskState::Expired,
    ];

    /// Nothing more will happen by itself.
    pub fn is_terminal(self) -> bool {
        match self {
            TaskState::Checking
            | TaskState::AwaitingApproval
            | TaskState::Queued
            | TaskState::Running
            | TaskState::WaitingInput => false,
            TaskState::Succeeded | TaskState::Dead | TaskState::Cancelled | TaskState::Refused | TaskState::Expired => {
                true
            }
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            TaskState::Checking => "checking",
            TaskState::AwaitingApproval => "awaiting_approval",
            TaskState::Queued => "queued",
            TaskState::Running => "running",
            TaskState::WaitingInput => "waiting_input",
            TaskState::Succeeded => "succeeded",
            TaskState::Dead => "dead",
            TaskState::Cancelled => "cancelled",
            TaskState::Refused => "refused",
            TaskState::Expired => "expired",
        }
    }
}

/// A task as the ledger holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub spec: TaskSpec,
    pub state: TaskState,
    /// Why it stands where it stands, when that needs saying.
    pub reason: Option<Reason>,
    /// Attempts begun so far; also the fencing token of the current one.
    pub attempt: u32,
    /// Attempts that count against `max_attempts`: those that a crash or a drain broke off do not.
    pub attempts_spent: u32,
    /// Not leased before this instant.
    pub not_before: Timestamp,
    pub updated_at: Timestamp,
    /// Somebody asked a running task to stop.
    pub cancel_requested: bool,
    /// The approval that was given for it.
    pub approved: Option<Given>,
    pub result: Option<RunResult>,
}

/// The artefact of a task whose answer showed a change that a person may agree to.
pub const CHANGE: &str = "CHANGE.json";

/// A sentence with its code, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: Code,
    pub message: String,
}

impl From<&Error> for Reason {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), message: error.message().to_owned() }
    }
}

/// What an agent run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    pub text: String,
    pub cost_usd: f64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub turns: u32,
    pub session_id: Option<String>,
    pub duration_ms: u64,
    /// Tools that the agent wanted and was denied.
    pub denials: Vec<String>,
    /// Files that the run leaves behind for people and later runs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artefacts: BTreeMap<String, String>,
}

/// A task of no particular kind that waits for its turn.
#[cfg(test)]
pub fn task_for_tests() -> Task {
    let (id, at) = (TaskId(crate::seam::fresh_id()), Timestamp::UNIX_EPOCH);
    let spec = TaskSpec {
        id,
        delivery: None,
        parent: None,
        webhook: WebhookId::parse("github").unwrap(),
        generation: 1,
        revision: Digest::of(b""),
        command: CommandName::parse("fix").unwrap(),
        skill: SkillName::parse("github-operations").unwrap(),
        agent: None,
        action: Action::CreateTask,
        prompt: String::new(),
        prefixes: Vec::new(),
        missing: Vec::new(),
        source: Source::default(),
        priority: 100,
        max_attempts: 1,
        run: RunSettings::default(),
        webhook_concurrency: None,
        created_at: at,
    };
    Task {
        spec,
        state: TaskState::Queued,
        reason: None,
        attempt: 0,
        attempts_spent: 0,
        not_before: at,
        updated_at: at,
        cancel_requested: false,
        approved: None,
        result: None,
    }
}
