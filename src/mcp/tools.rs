//! The tools: names, what they do in the words that agents read, and what they take.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One tool.
pub struct Tool {
    pub name: &'static str,
    pub description: &'static str,
    /// The JSON Schema of its arguments.
    pub arguments: fn() -> Value,
    /// It changes nothing.
    pub reads: bool,
}

const fn reading(name: &'static str, description: &'static str, arguments: fn() -> Value) -> Tool {
    Tool { name, description, arguments, reads: true }
}

const fn writing(name: &'static str, description: &'static str, arguments: fn() -> Value) -> Tool {
    Tool { name, description, arguments, reads: false }
}

fn schema<T: JsonSchema>() -> Value {
    serde_json::to_value(schemars::schema_for!(T)).unwrap_or_default()
}

/// All of them, in the order in which they are listed.
pub const TOOLS: &[Tool] = &[
    reading(
        "list_webhooks",
        "Lists every webhook with its endpoint, provider, commands and whether it is built in. Look here first: a \
         provider has one webhook already, and a new command belongs to it.",
        schema::<Nothing>,
    ),
    reading(
        "describe_webhook",
        "Shows one webhook: its commands with prompts, triggers, agents and the skill each comes from, who may start \
         runs, where its secret is expected, and the digests of its files for later edits.",
        schema::<Named>,
    ),
    reading(
        "explain_provider",
        "Shows how a provider's deliveries are verified, which events there are, where their text stands, how it is \
         answered, and what its built-in webhook does. Learn from it before writing a webhook.",
        schema::<Named>,
    ),
    writing(
        "add_command",
        "Adds a command to the webhook that is there (for a built-in one in the skill PROVIDER-commands). Endpoint, \
         secret and verification stay as they are. This is how a provider's webhook gets one thing more to do.",
        schema::<AddCommand>,
    ),
    writing(
        "put_skill",
        "Writes a skill: its SKILL.md as a whole and, by their paths inside the skill, further files. A skill with a \
         `webhook_config` makes or extends a webhook. To replace a file that exists, send its digest.",
        schema::<PutSkill>,
    ),
    writing(
        "put_agent",
        "Writes an agent file as a whole. To replace one that exists, send its digest.",
        schema::<PutAgent>,
    ),
    writing("delete_skill", "Deletes a skill with all its files, and the webhook that it makes.", schema::<Named>),
    writing(
        "delete_agent",
        "Deletes an agent. While commands name it, it is refused with the list of them.",
        schema::<Named>,
    ),
    reading(
        "validate",
        "Checks files as if they were written, across all files, and writes nothing. Answers the findings.",
        schema::<Files>,
    ),
    reading(
        "plan",
        "As `validate`, and says what would change in what is in force, and what that would allow that is not allowed \
         now.",
        schema::<Files>,
    ),
    reading("get_task", "Shows a task: its state, what it was asked and what it answered.", schema::<GetTask>),
    writing(
        "create_task",
        "Starts a task of its own for another agent, with this task as its parent. It has no more power than this one.",
        schema::<CreateTask>,
    ),
    writing(
        "provider_call",
        "Makes one call to a provider's API with the service's own rights: reads an issue, comments, searches. Without \
         `operation` it answers what this run may use and what each takes. What the task is about (repository, issue, \
         channel) is set already where it is not listed. The answer of the run itself is posted without any call.",
        schema::<ProviderCall>,
    ),
    writing(
        "open_pull_request",
        "Puts up for review what this run has changed in `checkout`: the service makes one commit of it, pushes it to a \
         branch of its own and opens a pull request. Called again, it brings both up to date. Files that programs made \
         and `.gitignore` names are left out.",
        schema::<OpenPullRequest>,
    ),
];

/// The tool of that name.
pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name.
    pub name: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddCommand {
    /// The webhook, for example `github`.
    pub webhook: String,
    /// The command as it stands in a SKILL.md: `name`, `description`, `prompt_template`, and where wanted `aliases`,
    /// `target_agent`, `trigger`, `conditions`, `tools`, `max_turns`, `budget_usd`.
    pub command: Map<String, Value>,
    /// Lets it take the place of a command of the same name.
    #[serde(default)]
    pub replace: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSkill {
    /// The directory below `.claude/skills`; the same as `name` in the frontmatter.
    pub name: String,
    /// The whole SKILL.md.
    pub content: String,
    /// Further files by their paths inside the skill, for example `references/checklist.md`.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// The digest of the SKILL.md that this replaces; leave it out for a new skill.
    #[serde(default)]
    pub digest: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutAgent {
    /// The stem of the file below `.claude/agents`; the same as `name` in the frontmatter.
    pub name: String,
    /// The whole file.
    pub content: String,
    /// The digest of the file that this replaces; leave it out for a new agent.
    #[serde(default)]
    pub digest: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// What the files would be, by path, for example `.claude/skills/triage/SKILL.md`.
    pub files: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetTask {
    /// The id, as `tsk_…`; without it this very task.
    #[serde(default)]
    pub id: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTask {
    /// What the agent is to do, with everything that it needs to know.
    pub prompt: String,
    /// The agent; without it the webhook's agent decides.
    #[serde(default)]
    pub agent: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderCall {
    /// What is to be done, for example `pull_request`; without it the answer lists what this run may use.
    #[serde(default)]
    pub operation: Option<String>,
    /// The provider, where it is not the one that the task came from, for example `jira`.
    #[serde(default)]
    pub provider: Option<String>,
    /// What the operation takes, by name.
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenPullRequest {
    /// One line: what is different afterwards, and for whom.
    pub title: String,
    /// What and why, how it was proved, what could break, what was left out; in Markdown.
    pub text: String,
    /// The branch that it is to be merged into; without it the repository's own.
    #[serde(default)]
    pub base: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_takes_an_object_whose_fields_are_explained() {
        for tool in TOOLS {
            let schema = (tool.arguments)();
            assert_eq!(schema["type"], "object", "{}", tool.name);
            let fields = schema["properties"].as_object().cloned().unwrap_or_default();
            for (name, field) in fields {
                assert!(field["description"].is_string(), "{}.{name}", tool.name);
            }
        }
    }

    #[test]
    fn names_are_found_and_unique() {
        for tool in TOOLS {
            assert_eq!(TOOLS.iter().filter(|other| other.name == tool.name).count(), 1);
            assert!(find(tool.name).is_some());
        }
    }
}
