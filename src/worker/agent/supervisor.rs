//! The hidden subcommand `agent-supervisor`: the process between the service and an agent.
//!
//! Invariants:
//! - The attempt's lock is held before the agent starts and until nothing of it lives, so a restarted service can
//!   see that an orphan is still at work. The agent starts only on the service's word, which it gives after it has
//!   seen the lock held: a service that died before that leaves nothing running.
//! - Everything the agent printed is in the attempt's directory before it is passed on, and how it ended is on disk
//!   before the service can see the end.
//! - When the service dies, the whole tree is killed; only an agent whose result is there may end by itself.
//! - No process of the tree is left, whatever session it moved to.
//!
//! It deliberately decides nothing about timeouts and cancelling: the service does, and says it over the pipe. The
//! limits that it does keep (output, time after the result, lifetime) protect against a service that is stuck.

mod streams;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use rustix::process::{Pid, getpid, set_child_subreaper};

use super::attempt::{AttemptDir, ExitRecord, StageNote};
use super::wire::{Control, Greeting, RunSpec, SPEC_BYTES_MAX, STAGE_COMMAND};
use crate::error::{Code, Context, Error, Result};
use streams::Feed;
use watch::{Happening, Watch};

/// Happenings that wait for the watch; whoever has one to tell waits when it is behind.
const HAPPENINGS_MAX: usize = 64;

/// Reads its orders from standard input; takes no arguments.
pub fn main(_args: impl Iterator<Item = OsString>) -> ExitCode {
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            greet(&Greeting::Refused { message: error.internal() });
            ExitCode::FAILURE
        }
    }
}

fn supervise() -> Result<()> {
    let spec: RunSpec = read_line()?.ok_or_else(|| Error::new(Code::Usage, "no run was described"))?;
    let attempt = AttemptDir::new(&spec.attempt_dir);
    let lock = attempt.try_lock().context(Code::WorkspaceFailed, "the attempt cannot be locked")?;
    let lock = lock.ok_or_else(|| Error::new(Code::Conflict, "another supervisor is at work on this attempt"))?;
    set_child_subreaper(Some(getpid())).context(Code::WorkspaceFailed, "orphans cannot be adopted")?;
    attempt
        .write_record(&attempt.policy(), &spec.policy)
        .context(Code::WorkspaceFailed, "the policy cannot be written")?;
    greet(&Greeting::Ready);
    match read_line()? {
        Some(Control::Go) => run(spec, &attempt, lock),
        // The service changed its mind or died.
        Some(_) | None => Ok(()),
    }
}

fn run(spec: RunSpec, attempt: &AttemptDir, lock: File) -> Result<()> {
    let started = Instant::now();
    let (sender, happenings) = sync_channel(HAPPENINGS_MAX);
    let (limits, takes_messages) = (spec.limits, spec.keep_stdin_open);
    let record = match start(spec, attempt, &sender) {
        Ok((agent, feed)) => watch(Watch::new(limits, agent, feed, takes_messages), &happenings, attempt),
        Err(error) => ExitRecord { start_error: Some(error.internal()), ..ExitRecord::default() },
    };
    let record = ExitRecord { duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX), ..record };
    let written = attempt.write_record(&attempt.exit(), &record);
    // From here on a restarted service may take over; then standard output closes, and this one sees the end.
    drop(lock);
    written.context(Code::WorkspaceFailed, "the end of the run cannot be recorded")
}

/// Starts the stage and a thread for everything that can happen.
fn start(spec: RunSpec, attempt: &AttemptDir, sender: &SyncSender<Happening>) -> Result<(Pid, SyncSender<Feed>)> {
    let stdout = attempt.stdout();
    let recording = super::attempt::private_file().truncate(true).open(stdout);
    let recording = recording.context(Code::WorkspaceFailed, "the output cannot be recorded")?;
    let mut child = spawn_stage(&spec, attempt)?;
    let agent = Pid::from_child(&child);
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Error::new(Code::Bug, "the agent has no pipes"));
    };
    let feed = streams::feed(stdin, spec.stdin, spec.keep_stdin_open);
    streams::tee(stdout, recording, spec.limits.stdout_bytes_max, sender.clone());
    streams::tail(stderr, sender.clone());
    watch::reap(agent, sender.clone());
    watch::listen(sender.clone());
    watch::signals(sender.clone());
    Ok((agent, feed))
}

/// The death signal follows the thread that forked, so this must be the main thread.
fn spawn_stage(spec: &RunSpec, attempt: &AttemptDir) -> Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("skillhook").arg(STAGE_COMMAND);
    command.arg("--parent").arg(getpid().as_raw_pid().to_string()).arg("--attempt").arg(attempt.path());
    command.arg("--").arg(&spec.program).args(&spec.args);
    command.env_clear().envs(&spec.env).current_dir(&spec.cwd).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context(Code::AgentMissing, "the agent's stage cannot be started")
}

fn watch(mut watch: Watch, happenings: &Receiver<Happening>, attempt: &AttemptDir) -> ExitRecord {
    watch.until_nothing_lives(happenings);
    let mut record = watch.into_record(happenings);
    let note = AttemptDir::read_record::<StageNote>(&attempt.stage()).unwrap_or_default();
    record.sandbox = note.sandbox;
    record.start_error = note.start_error;
    record
}

fn read_line<T: serde::de::DeserializeOwned>() -> Result<Option<T>> {
    let mut line = Vec::new();
    let read = io::stdin().lock().take(SPEC_BYTES_MAX).read_until(b'\n', &mut line);
    read.context(Code::Usage, "orders cannot be read")?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    // The error names no value: the line holds secrets.
    serde_json::from_slice(&line).map(Some).map_err(|_| Error::new(Code::Usage, "an order is not understood"))
}

/// A service that is gone cannot hear it; that shows at the next reading.
fn greet(greeting: &Greeting) {
    if let Ok(line) = serde_json::to_string(greeting) {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}
