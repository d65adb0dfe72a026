//! One run of an agent program, without the queue around it.
//!
//! ```text
//! service ── AgentRun ──▶ skillhook agent-supervisor ──▶ skillhook agent-stage ──exec──▶ the agent program
//!            (run.rs)     (supervisor.rs, tree.rs)       (stage.rs, sandbox.rs)
//! ```
//!
//! What each promises:
//! - [`invocation`] decides arguments, environment and standard input. The prompt travels by standard input alone,
//!   the environment is an allow-list, and permission checks are never switched off.
//! - [`supervisor`] is a process between the service and the agent. It holds the attempt's lock for as long as
//!   anything of the attempt lives, keeps the output in the attempt's directory, and kills the whole tree when the
//!   service dies. The agent is not started before the service has seen that the lock is held.
//! - [`stage`] puts itself into the sandbox and becomes the agent program.
//! - [`transcript`] reads what the agent prints, `verdict` judges how it ended. Both are pure, so a live run
//!   and one that is found again after a restart come to the same [`RunReport`].
//!
//! It deliberately knows nothing of tasks, leases, retries and replies: it reports, and the caller decides.

pub mod invocation;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod scripted;
pub mod settings;
pub mod smoke;
pub mod stage;
pub mod supervisor;
pub mod transcript;
pub mod wire;

mod attempt;
mod follow;
mod leftover;
mod tree;
mod verdict;

pub use invocation::{RunRequest, Session, ToolProfile};
pub use leftover::remove_leftovers;
pub use report::{Recovered, RunReport, recover};
pub use run::AgentRun;
pub use sandbox::Sandbox;
pub use settings::{AgentConfig, Credential, Limits};
pub use transcript::{Denial, Event, Tokens};
pub use verdict::Outcome;
pub use wire::{Exit, StopReason};
