//! What the service, the supervisor and the stage tell each other.
//!
//! The service writes one [`RunSpec`] as a line to the supervisor's standard input, reads one [`Greeting`] line from
//! its standard output, and writes [`Control`] lines from then on; after the greeting the supervisor's standard
//! output is the agent's own. The end of the control pipe means that the service is gone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::sandbox::Policy;

/// The longest line that a supervisor reads: the largest prompt fits, however it is escaped.
pub const SPEC_BYTES_MAX: u64 = 96 * 1024 * 1024;

/// The hidden subcommands, by which the binary calls itself.
pub const SUPERVISOR_COMMAND: &str = "agent-supervisor";
pub const STAGE_COMMAND: &str = "agent-stage";
pub const SCRIPTED_COMMAND: &str = "scripted-agent";

/// Marks every process of an attempt in its environment; the value is the attempt's directory.
pub const ATTEMPT_VARIABLE: &str = "SKILLHOOK_ATTEMPT";

/// One run, completely. It holds secrets, so it is never written to disk or shown.
#[derive(Clone, Serialize, Deserialize)]
pub struct RunSpec {
    pub attempt_dir: PathBuf,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: PathBuf,
    #[serde(with = "in_base64")]
    pub stdin: Vec<u8>,
    /// Close standard input only after the result, so that an interrupt can be sent there.
    pub keep_stdin_open: bool,
    pub policy: Policy,
    pub limits: SupervisorLimits,
}

/// What the supervisor enforces by itself, even when the service is gone or stuck.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SupervisorLimits {
    pub stdout_bytes_max: u64,
    pub result_grace_ms: u64,
    pub terminate_grace_ms: u64,
    /// The longest life of the agent.
    pub lifetime_ms: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Greeting {
    /// The attempt's lock is held; nothing was started yet.
    Ready,
    Refused {
        message: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Start the agent.
    Go,
    /// Ask it to stop and to say what it cost.
    Interrupt(StopReason),
    /// Tell it to end.
    Terminate(StopReason),
    /// End it and everything it started.
    Kill(StopReason),
}

/// Why a run was stopped from outside; the first reason counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    Cancelled,
    TotalTimeout,
    IdleTimeout,
    StartTimeout,
    /// The provider refuses the credentials, so further attempts of the agent program are pointless.
    CredentialsRefused,
    OutputLimit,
    /// The agent program does not know the agent that it was to run, and went on without it.
    AgentUnknown,
    /// The service ended while the agent was at work.
    ServiceGone,
    /// The result was there, but the agent did not end.
    ResultGrace,
    /// Somebody sent the supervisor a signal.
    Signalled,
}

/// How the agent program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

mod in_base64 {
    use base64::Engine as _;

    use super::BASE64;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_lines_read_back_as_they_were_written() {
        for control in [Control::Go, Control::Interrupt(StopReason::Cancelled), Control::Kill(StopReason::IdleTimeout)]
        {
            let line = serde_json::to_string(&control).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Control>(&line).unwrap(), control);
        }
    }
}
