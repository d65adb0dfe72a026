//! How runs of agents are set up: the worker, the agent program, and what its log may not show.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::error::{Code, Context as _, Result};
use crate::ledger::Ledger;
use crate::mcp::grants::Grants;
use crate::model::secret::SecretValue;
use crate::model::task::DailyBudget;
use crate::outward::Outward;
use crate::seam::Clock;
use crate::secrets::Secrets;
use crate::telemetry::metrics::Metrics;
use crate::worker::agent::{self, AgentConfig};
use crate::worker::tools::Tools;
use crate::worker::{KnownSecrets, NewestRevision, Worker};

/// What the worker asks for when it needs it.
pub(super) struct Knowing {
    pub secrets: KnownSecrets,
    pub newest_revision: NewestRevision,
}

/// What leases tasks and runs agents.
///
/// # Errors
/// As [`agent_config`].
pub(super) fn worker(
    config: &Config,
    ledger: &Ledger,
    outward: Outward,
    grants: Grants,
    knowing: Knowing,
    clock: &Clock,
    metrics: &Metrics,
) -> Result<Worker> {
    let settings = &config.settings;
    Ok(Worker {
        ledger: ledger.clone(),
        workspaces: outward.workspaces.clone(),
        outward,
        agent: Arc::new(agent_config(config)?),
        attempts: config.data.join("attempts"),
        tools: Tools { grants, program: own_program()?, socket: config.runs_socket() },
        running_max: settings.queue.running_max,
        model: Some(settings.agent.model.clone()).filter(|model| !model.is_empty()),
        max_turns: settings.agent.max_turns,
        budget_usd: settings.agent.budget_usd,
        daily: daily(config),
        known_secrets: knowing.secrets,
        newest_revision: knowing.newest_revision,
        clock: clock.clone(),
        metrics: metrics.clone(),
        drain: Duration::from_secs(settings.server.drain_seconds),
    })
}

/// What all runs together may use in one day.
pub(super) fn daily(config: &Config) -> DailyBudget {
    DailyBudget { usd: config.settings.agent.usd_per_day, runs: config.settings.agent.runs_per_day }
}

/// Secrets of webhooks and providers, and the credentials of the agent program.
pub(super) fn known_secrets(config: &Config, secrets: Secrets) -> KnownSecrets {
    let names = config.settings.agent.env_pass.iter().filter(|name| !name.ends_with("_URL"));
    let credentials: Vec<SecretValue> =
        names.filter_map(|name| config.agent_env.get(name)).map(|value| SecretValue::new(value.as_bytes())).collect();
    Arc::new(move || secrets.known().into_iter().chain(credentials.iter().cloned()).collect())
}

/// How agents are run here, as the operator has set it.
///
/// # Errors
/// SH0301 when a sandbox is required and there is none.
pub fn agent_config(config: &Config) -> Result<AgentConfig> {
    let settings = &config.settings.agent;
    let mode = match settings.sandbox.as_str() {
        "required" => agent::sandbox::Mode::Required,
        "bubblewrap" => agent::sandbox::Mode::Bubblewrap,
        "landlock" => agent::sandbox::Mode::Landlock,
        "off" => agent::sandbox::Mode::Off,
        _ => agent::sandbox::Mode::Auto,
    };
    Ok(AgentConfig {
        program: PathBuf::from(&settings.program),
        leading_args: settings.args.clone(),
        supervisor: own_program()?,
        path: config.path.clone(),
        config_dir: config.data.join("agent"),
        credential: None,
        base_url: None,
        extra_env: config.agent_env.clone(),
        sandbox: agent::Sandbox::detect(mode, &config.path)?,
        read_also: Vec::new(),
        write_also: vec![config.runs_socket()],
        limits: agent::Limits { idle: Duration::from_secs(settings.idle_seconds), ..agent::Limits::default() },
    })
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context(Code::Bug, "the own program cannot be found")
}
