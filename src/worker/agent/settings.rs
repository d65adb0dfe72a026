//! How agent programs are run here: what the operator decides, the same for every run.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::sandbox::Sandbox;

/// The operator's choice of agent program and of what surrounds it.
#[derive(Clone)]
pub struct AgentConfig {
    /// The agent program: a path, or a name that is looked up in `path`.
    pub program: PathBuf,
    /// What stands before all other arguments, for example a subcommand.
    pub leading_args: Vec<String>,
    /// Our own executable, which supervises the runs.
    pub supervisor: PathBuf,
    /// `PATH` of the run.
    pub path: String,
    /// Where the agent program keeps its sessions, the same for all runs.
    pub config_dir: PathBuf,
    pub credential: Option<Credential>,
    /// Where the provider's API is reached, if not at its usual address.
    pub base_url: Option<String>,
    /// Added to the run's environment, over what is there.
    pub extra_env: BTreeMap<String, String>,
    pub sandbox: Sandbox,
    /// What the sandbox lets a run read and write besides its own places.
    pub read_also: Vec<PathBuf>,
    pub write_also: Vec<PathBuf>,
    pub limits: Limits,
}

/// Values of the environment may be secrets, so only their names are shown.
impl fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentConfig")
            .field("program", &self.program)
            .field("leading_args", &self.leading_args)
            .field("credential", &self.credential)
            .field("extra_env", &self.extra_env.keys())
            .field("sandbox", &self.sandbox)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A secret of the agent program, and the variable under which it expects it.
#[derive(Clone)]
pub struct Credential {
    pub variable: String,
    pub value: zeroize::Zeroizing<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.variable)
    }
}

/// Deadlines and caps of one run. A run that is stopped is gone within the three graces together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole run, where the request does not say otherwise.
    pub total: Duration,
    /// Without a line of output.
    pub idle: Duration,
    /// Until the agent program says that it is up.
    pub start: Duration,
    /// After the result.
    pub result_grace: Duration,
    /// From asking the agent to stop to telling it.
    pub interrupt_grace: Duration,
    /// From telling it to killing it.
    pub terminate_grace: Duration,
    /// From killing it to killing its supervisor too.
    pub kill_grace: Duration,
    pub stdout_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(15 * 60),
            // Longer than the agent program's own watch over a silent provider.
            idle: Duration::from_secs(11 * 60),
            start: Duration::from_secs(30),
            result_grace: Duration::from_secs(10),
            interrupt_grace: Duration::from_millis(2500),
            terminate_grace: Duration::from_millis(1000),
            kill_grace: Duration::from_secs(3),
            stdout_bytes_max: 64 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// After this even a supervisor whose service is stuck ends the agent.
    pub fn lifetime(&self, total: Duration) -> Duration {
        total + self.interrupt_grace + self.terminate_grace + self.kill_grace + Duration::from_secs(60)
    }
}
