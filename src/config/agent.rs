//! Settings of the agent program and its runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The agent program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    pub program: String,
    /// Before the arguments of the run.
    pub args: Vec<String>,
    /// For commands and agents that name no model; empty leaves it to the program.
    pub model: String,
    pub max_turns: u32,
    pub budget_usd: f64,
    /// What all runs together may cost in one day (UTC), in US dollars; without it, no limit.
    pub usd_per_day: Option<f64>,
    /// How many runs may begin in one day (UTC), over all webhooks; without it, no limit.
    pub runs_per_day: Option<u32>,
    /// Without any output for so long a run is ended, in seconds.
    pub idle_seconds: u64,
    /// Environment variables that a run sees besides the fixed ones; never a provider's token.
    pub env_pass: Vec<String>,
    /// Fixed variables for runs.
    pub env: BTreeMap<String, String>,
    /// `auto` uses the strongest that works here, `required` too and refuses to start without one, `bubblewrap` and
    /// `landlock` refuse to start without that one; `off` has none.
    pub sandbox: String,
}

impl Default for Agent {
    fn default() -> Self {
        let pass = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN"];
        Self {
            program: "claude".into(),
            args: Vec::new(),
            model: String::new(),
            max_turns: 30,
            budget_usd: 2.0,
            usd_per_day: None,
            runs_per_day: None,
            idle_seconds: 300,
            env_pass: pass.map(String::from).to_vec(),
            env: BTreeMap::new(),
            sandbox: "auto".into(),
        }
    }
}
