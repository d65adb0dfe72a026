//! The `git` program, used for the network alone: its environment, its deadline, and what it says.
//!
//! It runs in a process group of its own, with no terminal to ask on, with hooks, `ext::` remotes and background
//! maintenance off, and it is stopped when its deadline passes. What it prints is kept up to a limit and freed of
//! credentials before anyone sees it.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::Repository;
use crate::error::{Code, Error, Result};

/// Bytes that are kept of each output.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Time between asking git to stop (it removes its temporary files) and killing it.
const STOP_SECONDS: u64 = 2;
/// Time for the outputs to end after git has.
const DRAIN_SECONDS: u64 = 2;
/// Longest reason that is passed on, in characters.
const REASON_CHARS_MAX: usize = 400;

/// Settings that every call gets, whatever the configuration of the clone says.
const SETTINGS: [&str; 11] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "core.fsync=all",
    "protocol.ext.allow=never",
    "credential.interactive=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "gc.auto=0",
    "maintenance.auto=false",
];

/// Variables that git, ssh and credential programs need, and that do not steer git at another repository.
const PASSED: [&str; 31] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TMPDIR",
    "TZ",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "GH_TOKEN",
    "GITHUB_TOKEN",
    "GH_HOST",
    "GH_CONFIG_DIR",
    "GNUPGHOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "KRB5CCNAME",
];

/// Whether a variable of our environment is for the `git` program too.
pub fn passes_to_git(name: &str) -> bool {
    PASSED.contains(&name)
        || PASSED.iter().any(|known| known.ends_with("_PROXY") && known.eq_ignore_ascii_case(name))
        || name.starts_with("LC_")
        || name.starts_with("XDG_")
}

/// How a call of git ended.
#[derive(Debug)]
pub(super) struct Finished {
    /// The exit code; `None` if it was killed by a signal.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) timed_out: bool,
}

impl Finished {
    pub(super) fn succeeded(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }

    /// The last thing that git said, in one line, safe to show.
    pub(super) fn reason(&self, deadline: Duration) -> String {
        if self.timed_out {
            return format!("the remote did not answer within {} s", deadline.as_secs_f64());
        }
        let said = |prefix: &str| self.stderr.lines().find(|line| line.starts_with(prefix));
        let line = said("fatal:").or_else(|| said("error:")).or_else(|| said("remote:"));
        let line = line.or_else(|| self.stderr.lines().rfind(|line| !line.trim().is_empty()));
        line.map_or_else(|| "git failed without saying why".to_owned(), presentable)
    }
}

impl Repository {
    /// Runs git in the work tree. An error only if it cannot be started.
    pub(super) fn run_git(&self, arguments: &[&str], deadline: Duration) -> Result<Finished> {
        let mut command = self.command();
        command.args(arguments);
        self.run(command, None, deadline)
    }

    /// Runs git; none of the files that it writes gets larger than `file_bytes_max`.
    pub(super) fn run(
        &self,
        mut command: Command,
        file_bytes_max: Option<u64>,
        deadline: Duration,
    ) -> Result<Finished> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let unstarted = |error: io::Error| {
            Error::new(Code::GitFailed, "the `git` program cannot be started")
                .hint("install git, or name it in the settings")
                .detail(error)
        };
        let mut child = command.spawn().map_err(unstarted)?;
        if let Some(bytes) = file_bytes_max {
            limit_files(&child, bytes);
        }
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        self.running(|running| running.extend(group.map(|group| group.as_raw_nonzero().get())));
        let finished = wait(&mut child, group, deadline);
        self.running(|running| {
            if let Some(group) = group {
                running.remove(&group.as_raw_nonzero().get());
            }
        });
        finished.map_err(unstarted)
    }

    /// Stops the calls over the network that are under way; they answer as if the remote were away.
    pub fn stop_network(&self) {
        self.running(|running| {
            for group in running.iter().filter_map(|group| Pid::from_raw(*group)) {
                // It may have ended by itself in between.
                let _ = rustix::process::kill_process_group(group, Signal::TERM);
            }
        });
    }

    fn running(&self, change: impl FnOnce(&mut std::collections::BTreeSet<i32>)) {
        change(&mut self.shared.running.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn command(&self) -> Command {
        let options = &self.shared.options;
        let mut command = self.bare_command();
        let chosen = options.environment.iter().any(|(name, _)| name == "GIT_SSH" || name == "GIT_SSH_COMMAND");
        let configured = self.handle().and_then(|repo| {
            repo.config()
                .and_then(|config| config.get_string("core.sshCommand"))
                .map_err(|error| Error::new(Code::GitFailed, "no `core.sshCommand`").detail(error))
        });
        if !chosen && configured.is_err() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        command.arg("-C").arg(&self.shared.place.work_tree);
        command
    }

    /// The program with its environment and the settings that every call gets.
    pub(super) fn bare_command(&self) -> Command {
        let options = &self.shared.options;
        let mut command = Command::new(&options.git_program);
        command.env_clear().envs(options.environment.iter().map(|(name, value)| (name, value)));
        let environment = [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS", ""),
            ("SSH_ASKPASS_REQUIRE", "never"),
            ("GCM_INTERACTIVE", "never"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("LC_ALL", "C"),
        ];
        command.envs(environment);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        command
    }
}

/// What a stranger sends must not fill the disk.
#[cfg(target_os = "linux")]
fn limit_files(child: &Child, bytes: u64) {
    use rustix::process::{Resource, Rlimit, prlimit};
    // No number would mean this process.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        // If it has ended already, there is nothing to limit.
        let _ = prlimit(Some(pid), Resource::Fsize, limit);
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_files(_: &Child, _: u64) {}

fn wait(child: &mut Child, group: Option<Pid>, deadline: Duration) -> io::Result<Finished> {
    let until = Instant::now() + deadline;
    let stdout = child.stdout.take().map(gather);
    let stderr = child.stderr.take().map(gather);
    let (ended, end) = sync_channel(1);
    std::thread::spawn(move || {
        // Not reaped here, so that the group's number cannot belong to anyone else when it is signalled.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let waited = group.map(|leader| rustix::process::waitid(WaitId::Pid(leader), options));
        // Nobody listens once the deadline has passed and the group was killed.
        let _ = ended.send(waited);
    });
    let timed_out = end.recv_timeout(deadline).is_err();
    if timed_out {
        signal(group, Signal::TERM);
        let _ = end.recv_timeout(Duration::from_secs(STOP_SECONDS));
        signal(group, Signal::KILL);
    }
    let status = child.wait()?;
    let patience = Duration::from_secs(DRAIN_SECONDS).min(until.saturating_duration_since(Instant::now()));
    let text = |output: Option<Receiver<Vec<u8>>>| {
        let bytes = output.and_then(|output| output.recv_timeout(patience.max(Duration::from_millis(50))).ok());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    Ok(Finished { code: status.code(), stdout: text(stdout), stderr: text(stderr), timed_out })
}

fn signal(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // The group is gone if everything in it has ended.
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// Reads to the end on a thread of its own (a grandchild may keep the pipe open for ever) and keeps the beginning.
fn gather(mut output: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (done, gathered) = sync_channel(1);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            let room = OUTPUT_BYTES_MAX - kept.len();
            kept.extend_from_slice(&buffer[..count.min(room)]);
        }
        // Nobody listens after the deadline.
        let _ = done.send(kept);
    });
    gathered
}

/// One line without control characters and without credentials in URLs.
pub(super) fn presentable(text: &str) -> String {
    let words = text.split_whitespace().map(without_credentials);
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

/// `scheme://user:secret@host/path?token=x` becomes `scheme://host/path`.
fn without_credentials(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find(['/', '\'', '"', '`']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_urls_never_leave() {
        for (said, shown) in [
            (
                "fatal: unable to access 'https://bot:ghp_secret@github.com/a/b.git/': 403",
                "fatal: unable to access 'https://github.com/a/b.git/': 403",
            ),
            ("To https://token@host/x?access_token=secret", "To https://host/x"),
            ("https://a:p@ss@host", "https://host"),
            ("remote:\u{1b}[31m no", "remote:[31m no"),
        ] {
            assert_eq!(presentable(said), shown);
        }
    }

    #[test]
    fn secrets_and_steering_variables_stay_here() {
        for passed in ["PATH", "HOME", "SSH_AUTH_SOCK", "https_proxy", "LC_ALL", "XDG_CONFIG_HOME"] {
            assert!(passes_to_git(passed), "{passed}");
        }
        for kept in ["GITHUB_WEBHOOK_SECRET", "ANTHROPIC_API_KEY", "GIT_DIR", "GIT_INDEX_FILE", "GIT_CONFIG_COUNT"] {
            assert!(!passes_to_git(kept), "{kept}");
        }
    }
}
