//! Which commands of a webhook a delivery calls, and for every other one why not.

use serde::{Deserialize, Serialize};

use super::ids::CommandName;

/// What a webhook does with one event. Stored with the delivery, shown by `explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// In the order in which they run.
    pub selected: Vec<Selected>,
    /// One for every command of the webhook, in the order of the webhook's commands.
    pub rules: Vec<RuleOutcome>,
    /// Why nothing runs, when nothing does.
    pub ignored: Option<String>,
}

/// A command that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selected {
    pub command: CommandName,
    /// What stood behind the command's word.
    pub args: String,
}

/// Whether one command matched, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleOutcome {
    pub command: CommandName,
    pub matched: bool,
    /// For example "its trigger `issues.*` does not cover `push`".
    pub why: String,
}
