//! Starts a run and holds it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, AttemptDir};
use super::follow::{Follow, Supervisor};
use super::invocation::{Places, RunRequest, build};
use super::report::RunReport;
use super::sandbox::{Policy, find};
use super::settings::AgentConfig;
use super::transcript::Event;
use super::verdict::Outcome;
use super::wire::{Control, Greeting, RunSpec, SUPERVISOR_COMMAND, SupervisorLimits};
use crate::error::{Code, Context, Error, Result};
use crate::seam::Clock;

/// Events that wait for the receiver; more are not kept, only counted.
const EVENTS_MAX: usize = 256;
/// A supervisor does nothing before its greeting that takes long.
const GREETING_PATIENCE: Duration = Duration::from_secs(20);
const GREETING_BYTES_MAX: u64 = 16 * 1024;

/// A run that was started. Dropping it ends the run: the supervisor sees its pipe close and kills the tree, unless
/// the result is there already.
pub struct AgentRun {
    events: Option<mpsc::Receiver<Event>>,
    cancel: CancellationToken,
    following: JoinHandle<RunReport>,
}

impl AgentRun {
    /// Returns once the agent was told to start. `attempt_dir` is made, and must not have been used before; `cwd` is
    /// the workspace, whose contents are the agent's project.
    pub async fn start(config: &AgentConfig, request: RunRequest, attempt_dir: &Path, cwd: &Path) -> Result<AgentRun> {
        let total = request.timeout.unwrap_or(config.limits.total);
        let (session_cost_before_usd, agent) = (request.session_cost_before_usd, request.agent.clone());
        let spec = {
            let (config, dir, cwd) = (config.clone(), attempt_dir.to_owned(), cwd.to_owned());
            let prepared = tokio::task::spawn_blocking(move || prepare(&config, &request, dir, cwd, total)).await;
            prepared.context(Code::Bug, "preparing a run was broken off")??
        };
        let attempt = AttemptDir::new(&spec.attempt_dir);
        let supervisor = match Box::pin(hand_over(&config.supervisor, &spec)).await {
            Ok(supervisor) => supervisor,
            Err(error) => {
                clear(attempt).await;
                return Err(error);
            }
        };
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let cancel = CancellationToken::new();
        let follow = Follow::new(supervisor, config.limits, total, attempt, session_cost_before_usd, agent);
        let following = tokio::spawn(follow.until_end(sender, cancel.clone()));
        Ok(AgentRun { events: Some(events), cancel, following })
    }

    /// What happens, as it happens; the first call gets it. A receiver that is slow misses events, and is told how
    /// many; the attempt's directory has them all.
    pub fn events(&mut self) -> Option<mpsc::Receiver<Event>> {
        self.events.take()
    }

    /// Asks the agent to stop, then tells it, then kills it: it is gone within the graces of the limits.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The same, for whoever does not hold the run.
    pub fn canceller(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Waits for the end of the run, when no process of it is left. Dropping the wait ends the run.
    pub async fn wait(mut self) -> RunReport {
        self.events = None;
        (&mut self.following).await.unwrap_or_else(|error| {
            let mut report = RunReport::new(&super::transcript::Transcript::default(), None, 0.0);
            let message = format!("following the run was broken off: {error}");
            report.outcome = Outcome::Failed { code: Code::Bug, retry: false, message };
            report
        })
    }
}

impl Drop for AgentRun {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Everything that must be on disk, and everything the supervisor must know. Blocks.
fn prepare(config: &AgentConfig, request: &RunRequest, dir: PathBuf, cwd: PathBuf, total: Duration) -> Result<RunSpec> {
    let absolute =
        |path: PathBuf| std::path::absolute(path).context(Code::WorkspaceFailed, "a path cannot be resolved");
    let (dir, cwd) = (absolute(dir)?, absolute(cwd)?);
    if !cwd.is_dir() {
        return Err(Error::new(Code::WorkspaceFailed, "the workspace of the run does not exist").detail(cwd.display()));
    }
    let program = find(&config.program, &config.path).map(absolute).transpose()?.ok_or_else(|| {
        Error::new(Code::AgentMissing, format!("the agent program `{}` cannot be found", config.program.display()))
            .hint("install it, or set `agent.program` to its path")
    })?;
    let attempt = AttemptDir::new(dir);
    if attempt.attempt().exists() {
        return Err(Error::new(Code::Conflict, "the attempt was begun before").detail(attempt.path().display()));
    }
    let cannot = "the attempt's directory cannot be prepared";
    attempt.create().context(Code::WorkspaceFailed, cannot)?;
    std::fs::create_dir_all(&config.config_dir).context(Code::WorkspaceFailed, cannot)?;
    let begun = Attempt { started_at: Clock::System.now(), session_cost_before_usd: request.session_cost_before_usd };
    attempt.write_record(&attempt.attempt(), &begun).context(Code::WorkspaceFailed, cannot)?;
    let (home, tmp, mcp_config) = (attempt.home(), attempt.tmp(), attempt.home().join("mcp.json"));
    if let Some(servers) = &request.mcp_config {
        attempt.write_record(&mcp_config, servers).context(Code::WorkspaceFailed, cannot)?;
    }
    let places = Places {
        attempt_dir: attempt.path(),
        cwd: &cwd,
        home: &home,
        tmp: &tmp,
        mcp_config: request.mcp_config.as_ref().map(|_| mcp_config.as_path()),
    };
    let invocation = build(config, request, &program, &places)?;
    let mut policy = Policy::for_run(config.sandbox.clone(), &program, &config.path);
    // The tools of `skillhook mcp` run inside.
    policy.read.extend(config.supervisor.canonicalize());
    policy.read.extend(config.read_also.iter().cloned());
    policy.write.extend([cwd.clone(), home, tmp, config.config_dir.clone()]);
    policy.fixed.insert(cwd.join(".claude"));
    policy.write.extend(config.write_also.iter().cloned());
    Ok(RunSpec {
        attempt_dir: attempt.path().to_owned(),
        program: invocation.program,
        args: invocation.args,
        env: invocation.env,
        cwd,
        stdin: invocation.stdin,
        keep_stdin_open: true,
        policy,
        limits: supervisor_limits(config, total),
    })
}

fn supervisor_limits(config: &AgentConfig, total: Duration) -> SupervisorLimits {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 4);
    SupervisorLimits {
        stdout_bytes_max: config.limits.stdout_bytes_max,
        result_grace_ms: millis(config.limits.result_grace),
        terminate_grace_ms: millis(config.limits.terminate_grace),
        lifetime_ms: millis(config.limits.lifetime(total)),
    }
}

/// Starts the supervisor, and lets it start the agent once it holds the attempt's lock.
async fn hand_over(program: &Path, spec: &RunSpec) -> Result<Supervisor> {
    let mut command = Command::new(program);
    // A group of its own: what a terminal sends to the service does not reach the run.
    command.arg(SUPERVISOR_COMMAND).env_clear().process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.spawn().context(Code::Bug, "the agent's supervisor cannot be started")?;
    let greeted = tokio::time::timeout(GREETING_PATIENCE, greet(child, spec)).await;
    greeted.context(Code::WorkspaceFailed, "the agent's supervisor does not answer")?
}

async fn greet(mut child: Child, spec: &RunSpec) -> Result<Supervisor> {
    use tokio::io::AsyncReadExt;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::new(Code::Bug, "the agent's supervisor has no pipes"));
    };
    let mut stdout = BufReader::new(stdout);
    let lost = "the agent's supervisor broke off";
    tell(&mut stdin, spec).await.context(Code::WorkspaceFailed, lost)?;
    let mut line = Vec::new();
    let read = (&mut stdout).take(GREETING_BYTES_MAX).read_until(b'\n', &mut line).await;
    read.context(Code::WorkspaceFailed, lost)?;
    match serde_json::from_slice(&line) {
        Ok(Greeting::Ready) => {}
        Ok(Greeting::Refused { message }) => return Err(Error::new(Code::WorkspaceFailed, lost).detail(message)),
        Err(_) => return Err(Error::new(Code::WorkspaceFailed, lost)),
    }
    tell(&mut stdin, &Control::Go).await.context(Code::WorkspaceFailed, lost)?;
    Ok(Supervisor { child, stdin, stdout })
}

/// Writes one order as a line.
pub(super) async fn tell(stdin: &mut ChildStdin, order: &impl serde::Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    stdin.write_all(&line).await?;
    stdin.flush().await
}

/// Removes what was the agent's own.
pub(super) async fn clear(attempt: AttemptDir) {
    let _ = tokio::task::spawn_blocking(move || attempt.clear()).await;
}

/// The supervisor's output, after its greeting.
pub(super) type SupervisorOutput = BufReader<ChildStdout>;
