//! The hidden subcommand `agent-stage`: enters the sandbox and becomes the agent program.
//!
//! It is a program of its own because what it does must happen after the fork and before the exec, and code that
//! runs there inside another process cannot be safe Rust. If its supervisor dies, the kernel kills it and, since the
//! order survives the exec, the agent program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::attempt::{AttemptDir, StageNote, private_file};
use super::sandbox::{Policy, Sandbox, bubblewrap_args, enter_landlock};
use crate::error::{Code, Context, Error, Result};

/// As shells say it when a program cannot be run.
const CANNOT_START: u8 = 127;

/// `--parent PID --attempt DIR -- program args…`; returns only if the program could not be started.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let error = match Stage::parse(args) {
        Ok(stage) => stage.become_agent(),
        Err(error) => error,
    };
    let _ = writeln!(io::stderr(), "agent-stage: {}", error.internal());
    ExitCode::from(CANNOT_START)
}

struct Stage {
    parent: Pid,
    attempt: AttemptDir,
    program: PathBuf,
    args: Vec<OsString>,
}

impl Stage {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Stage> {
        let usage = || Error::new(Code::Usage, "usage: agent-stage --parent PID --attempt DIR -- PROGRAM [ARGUMENT…]");
        let mut next = || args.next().ok_or_else(usage);
        let (parent_flag, parent, attempt_flag, attempt) = (next()?, next()?, next()?, next()?);
        let (separator, program) = (next()?, next()?);
        if parent_flag != "--parent" || attempt_flag != "--attempt" || separator != "--" {
            return Err(usage());
        }
        let parent = parent.to_str().and_then(|pid| Pid::from_raw(pid.parse().ok()?)).ok_or_else(usage)?;
        let (attempt, program) = (AttemptDir::new(attempt), program.into());
        Ok(Stage { parent, attempt, program, args: args.collect() })
    }

    fn become_agent(self) -> Error {
        match self.prepare() {
            // Opened before the walls go up, so that a failed exec can still be told.
            Ok((mut command, mut note, sandbox)) => {
                let error = command.exec();
                let told = StageNote { sandbox, start_error: Some(error.to_string()) };
                let _ = write_note(&mut note, &told);
                Error::new(Code::AgentMissing, "the agent program cannot be started").detail(error)
            }
            Err(error) => {
                let told = StageNote { sandbox: String::new(), start_error: Some(error.internal()) };
                let _ = self.attempt.write_record(&self.attempt.stage(), &told);
                error
            }
        }
    }

    fn prepare(&self) -> Result<(Command, File, String)> {
        let failed = |what: &str| format!("the run cannot be prepared: {what}");
        set_parent_process_death_signal(Some(Signal::KILL)).context(Code::WorkspaceFailed, failed("death signal"))?;
        // If the supervisor died before that took effect, nobody would ever kill this process.
        if getppid() != Some(self.parent) {
            return Err(Error::new(Code::WorkspaceFailed, failed("the supervisor is gone")));
        }
        let policy: Policy = AttemptDir::read_record(&self.attempt.policy())
            .ok_or_else(|| Error::new(Code::WorkspaceFailed, failed("its policy cannot be read")))?;
        let cwd = std::env::current_dir().context(Code::WorkspaceFailed, failed("its directory is gone"))?;
        let mut note = private_file()
            .truncate(true)
            .open(self.attempt.stage())
            .context(Code::WorkspaceFailed, failed("its note cannot be written"))?;
        let sandbox = policy.sandbox.describe();
        write_note(&mut note, &StageNote { sandbox: sandbox.clone(), start_error: None })
            .context(Code::WorkspaceFailed, failed("its note cannot be written"))?;
        let mut command = match &policy.sandbox {
            Sandbox::Bubblewrap { program } => {
                let mut command = Command::new(program);
                command.args(bubblewrap_args(&policy, &cwd)).arg(&self.program);
                command
            }
            Sandbox::Landlock { .. } => {
                enter_landlock(&policy)?;
                Command::new(&self.program)
            }
            Sandbox::Off { .. } => Command::new(&self.program),
        };
        command.args(&self.args);
        Ok((command, note, sandbox))
    }
}

fn write_note(file: &mut File, note: &StageNote) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    serde_json::to_writer(&mut *file, note)?;
    file.flush()
}
