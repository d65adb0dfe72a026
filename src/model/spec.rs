//! What a `webhook_config` means once it is checked: the fragment of one skill, and the effective webhook.
//!
//! [`SkillConfig`] is what one file says, on its own; [`WebhookSpec`] is what a webhook is after the fragments of
//! all its skills are merged over the built-in layer. Both are stored in the index, and the canonical JSON of
//! [`WebhookSpec`] is what the index digest covers: nothing in here depends on a machine, a time or a secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::approval::Approval;
use super::condition::Condition;
use super::digest::Digest;
use super::ids::{AgentName, CommandName, ProviderName, SkillName, WebhookId};
use super::task::DailyBudget;

/// Priority of a command that names none; lower runs first.
pub const PRIORITY_DEFAULT: i32 = 100;
/// How often a failed task is tried again when nothing else is said.
pub const RETRIES_DEFAULT: u32 = 2;
/// How long a run may take when nothing else is said, in seconds.
pub const TIMEOUT_SECONDS_DEFAULT: u64 = 15 * 60;

/// What one SKILL.md says about webhooks, checked on its own. `None` means "not said here".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SkillConfig {
    pub skill: SkillName,
    /// One, or several when the skill extends several built-in webhooks.
    pub providers: Vec<ProviderName>,
    /// A webhook of its own; `None` when the skill extends the providers' built-in webhooks.
    pub own_id: Option<WebhookId>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub enabled: Option<bool>,
    pub target_agent: Option<AgentName>,
    pub requires_signature: Option<bool>,
    /// Sections of a provider definition given inline (`verify`, `event`, `text`, …), as they stand in the file.
    pub definition: Option<serde_json::Value>,
    /// By slot of the provider definition; the slot `""` is the provider's usual verifying slot.
    pub secrets: BTreeMap<String, Vec<SecretRef>>,
    pub prefixes: Option<Vec<String>>,
    pub default_command: Option<CommandName>,
    pub commands: Vec<CommandSpec>,
    pub match_mode: Option<MatchMode>,
    pub allow: Option<Allow>,
    pub concurrency_max: Option<u32>,
    pub rate_limit: Option<RateLimit>,
    pub timeout_seconds: Option<u64>,
    pub retries: Option<u32>,
    pub ack: Option<AckMode>,
    pub reply: Option<ReplyMode>,
    pub strict_templates: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<DailyBudget>,
}

/// A webhook as it is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WebhookSpec {
    pub id: WebhookId,
    pub provider: ProviderName,
    /// `/webhooks/{provider}` for a built-in one, `/webhooks/{provider}/{id}` for a webhook of its own.
    pub endpoint: String,
    pub builtin: bool,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub target_agent: AgentName,
    pub requires_signature: bool,
    /// Inline sections over the catalogue's definition.
    pub definition: Option<serde_json::Value>,
    /// Of the provider definition in force, with the inline sections applied.
    pub definition_digest: Digest,
    /// By slot of the provider definition, by its real name. Where no file names any, the provider's usual variable.
    pub secrets: BTreeMap<String, Vec<SecretRef>>,
    pub prefixes: Vec<String>,
    pub default_command: Option<CommandName>,
    /// Ordered by priority, then by name.
    pub commands: Vec<CommandSpec>,
    pub match_mode: MatchMode,
    pub allow: Allow,
    pub concurrency_max: Option<u32>,
    pub rate_limit: Option<RateLimit>,
    pub timeout_seconds: u64,
    pub retries: u32,
    pub ack: AckMode,
    pub reply: ReplyMode,
    pub strict_templates: bool,
    /// What its runs may use in one day.
    #[serde(default, skip_serializing_if = "DailyBudget::is_unlimited")]
    pub budget: DailyBudget,
}

impl WebhookSpec {
    /// The digest of everything above.
    pub fn digest(&self) -> Digest {
        Digest::of_value(&serde_json::to_value(self).unwrap_or(serde_json::Value::Null))
    }

    pub fn command(&self, name: &str) -> Option<&CommandSpec> {
        self.commands.iter().find(|command| command.name.as_str() == name)
    }
}

/// One command, with everything that a template file said read in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommandSpec {
    pub name: CommandName,
    pub aliases: Vec<String>,
    pub description: String,
    /// The skill whose file says this.
    pub source: SkillName,
    pub target_agent: Option<AgentName>,
    /// The prompt template's source text.
    pub template: String,
    /// Names or globs of events; empty for a text command.
    pub triggers: Vec<String>,
    pub conditions: Option<Condition>,
    pub priority: i32,
    pub action: Action,
    /// The operator's target that a `forward` command posts to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_to: Option<String>,
    pub requires_prefix: bool,
    pub model: Option<String>,
    pub tools: Option<Vec<String>>,
    pub max_turns: Option<u32>,
    pub budget_usd: Option<f64>,
    pub timeout_seconds: Option<u64>,
    /// A person must agree before it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// The run gets the files of the repository that it is about.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub checkout: bool,
    /// Operations of providers that the run may use; without a list, those that read what the delivery is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_calls: Option<Vec<String>>,
}

/// What a command does when it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Runs an agent with the rendered template as its prompt.
    #[default]
    CreateTask,
    /// Posts the rendered template at the source, without an agent.
    Comment,
    /// Lets a task of the conversation run that waits for an approval.
    Approve,
    /// Ends a task of the conversation that waits for an approval.
    Reject,
    /// Answers with the rendered template in the response where people see it, else at the source; without an agent.
    Respond,
    /// Runs an agent that may put a question: the next message of the conversation goes on with it.
    Ask,
    /// Posts the rendered template, or without one the payload, to a target that the operator allows.
    Forward,
    /// Tells what can be asked here, without an agent.
    Help,
    /// Tells what runs and waits in the conversation, without an agent.
    Status,
}

impl Action {
    /// Whether it approves or rejects; `None` for all others.
    pub fn decides(self) -> Option<bool> {
        match self {
            Action::Approve => Some(true),
            Action::Reject => Some(false),
            Action::CreateTask
            | Action::Comment
            | Action::Ask
            | Action::Respond
            | Action::Forward
            | Action::Help
            | Action::Status => None,
        }
    }

    /// Whether the rendered template is the prompt of an agent.
    pub fn runs_agent(self) -> bool {
        match self {
            Action::CreateTask | Action::Ask => true,
            Action::Comment
            | Action::Respond
            | Action::Forward
            | Action::Help
            | Action::Status
            | Action::Approve
            | Action::Reject => false,
        }
    }

    /// Whether a command of this kind may do without a template.
    pub fn needs_template(self) -> bool {
        match self {
            Action::CreateTask | Action::Ask | Action::Comment | Action::Respond => true,
            Action::Forward | Action::Help | Action::Status | Action::Approve | Action::Reject => false,
        }
    }

    /// Whether its answer may stand in the response to the delivery, where the sender shows that to people.
    pub fn may_respond(self) -> bool {
        match self {
            Action::Respond | Action::Help | Action::Status => true,
            Action::CreateTask | Action::Ask | Action::Comment | Action::Forward | Action::Approve | Action::Reject => {
                false
            }
        }
    }
}

/// Which of the matching event commands run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchMode {
    #[default]
    All,
    First,
}

/// What happens at the source at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckMode {
    /// The provider's own sign of having seen it, where it has one.
    #[default]
    Reaction,
    Comment,
    None,
}

/// What happens at the source after the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplyMode {
    #[default]
    Comment,
    None,
}

/// Who may trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// `None`: whatever the provider can tell, fail closed; nothing where it can tell nothing.
    pub permission: Option<PermissionRule>,
    /// When not empty, only these actor ids.
    pub actors: Vec<String>,
    /// When not empty, only these associations (`OWNER`, `MEMBER`, …).
    pub associations: Vec<String>,
    /// Bots that may trigger, by actor id; no other bot may.
    pub bots: Vec<String>,
    /// When not empty, only resources below these (repository, project or channel; globs).
    pub resources: Vec<String>,
}

/// Which right at the source an actor needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PermissionRule {
    /// May change the resource.
    Write,
    /// Anyone who can cause the event.
    Any,
}

/// At most `max` accepted deliveries in any `per_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    pub max: u32,
    pub per_seconds: u64,
}

/// Where a secret is; never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretRef {
    /// The name of an environment variable on the operator's allow-list.
    Env(String),
    /// A file below the operator's secret directory.
    File(String),
    /// Encrypted for the operator's key: `age:` and base64.
    Sealed(String),
    /// One that no longer counts from an instant on: what a rotation leaves behind.
    Until { not_after: jiff::Timestamp, secret: Box<SecretRef> },
}

impl SecretRef {
    /// From when on it no longer counts.
    pub fn not_after(&self) -> Option<jiff::Timestamp> {
        match self {
            SecretRef::Until { not_after, .. } => Some(*not_after),
            SecretRef::Env(_) | SecretRef::File(_) | SecretRef::Sealed(_) => None,
        }
    }

    /// Where it is, however long it counts.
    pub fn place(&self) -> &SecretRef {
        match self {
            SecretRef::Until { secret, .. } => secret.place(),
            SecretRef::Env(_) | SecretRef::File(_) | SecretRef::Sealed(_) => self,
        }
    }
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecretRef::Env(name) => write!(f, "environment variable {name}"),
            SecretRef::File(name) => write!(f, "file {name}"),
            SecretRef::Sealed(_) => f.write_str("sealed in the file"),
            SecretRef::Until { secret, .. } => secret.fmt(f),
        }
    }
}

impl SkillConfig {
    /// The agents that it names.
    pub fn agents(&self) -> impl Iterator<Item = &AgentName> {
        self.target_agent.iter().chain(self.commands.iter().filter_map(|command| command.target_agent.as_ref()))
    }
}
