//! Finds and kills the processes of a run.
//!
//! A process that leaves its session and whose parent ends is handed to the nearest subreaper, so everything that
//! an agent started stays a descendant of its supervisor. A process id may be reused between looking and killing:
//! signals go through a descriptor of the process, after a second look at its time of birth.

use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open, pidfd_send_signal};

use super::wire::ATTEMPT_VARIABLE;

/// What the kernel calls the sandbox's own first process. It ends a moment after the agent does.
const SANDBOX: &str = "bwrap";

/// Kills every living descendant of this process once, and says how many there were, without the sandbox's own. Repeat
/// until none is left: new ones may appear meanwhile.
pub(super) fn kill_descendants() -> u64 {
    let mut children: HashMap<Pid, Vec<Process>> = HashMap::new();
    for process in processes() {
        children.entry(process.parent).or_default().push(process);
    }
    let mut killed = 0;
    let mut parents = vec![getpid()];
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            parents.push(process.pid);
            let signalled = process.alive && process.signal(Signal::KILL);
            killed += u64::from(signalled && !process.sandbox);
        }
    }
    killed
}

/// Kills what carries the mark of this attempt in its environment, wherever it has gone. This is the second net, for
/// the case that the supervisor itself was killed: a process may have removed the mark.
pub(super) fn kill_marked(attempt_dir: &Path) -> u64 {
    let mut mark = format!("{ATTEMPT_VARIABLE}=").into_bytes();
    mark.extend_from_slice(attempt_dir.as_os_str().as_bytes());
    let carries_mark = |process: &Process| {
        fs::read(format!("/proc/{}/environ", process.pid.as_raw_pid()))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark))
    };
    let marked = processes().into_iter().filter(|process| process.pid != getpid() && carries_mark(process));
    marked.map(|process| u64::from(process.signal(Signal::KILL))).sum()
}

struct Process {
    pid: Pid,
    parent: Pid,
    /// Not a zombie, whose parent only has not looked yet.
    alive: bool,
    /// In clock ticks since boot.
    born: u64,
    sandbox: bool,
}

impl Process {
    fn read(pid: Pid) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
        // The second field is the program's name in parentheses, and may itself contain anything.
        let (before, rest) = stat.rsplit_once(')')?;
        let sandbox = before.ends_with(&format!("({SANDBOX}"));
        let mut fields = rest.split_ascii_whitespace();
        let alive = !matches!(fields.next()?, "Z" | "X");
        let parent = Pid::from_raw(fields.next()?.parse().ok()?)?;
        let born = fields.nth(17)?.parse().ok()?;
        Some(Process { pid, parent, alive, born, sandbox })
    }

    fn signal(&self, signal: Signal) -> bool {
        match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(descriptor) => {
                let same = Process::read(self.pid).is_some_and(|now| now.born == self.born && now.alive);
                same && pidfd_send_signal(descriptor, signal).is_ok()
            }
            Err(Errno::NOSYS | Errno::PERM) => kill_process(self.pid, signal).is_ok(),
            Err(_) => false,
        }
    }
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter_map(Process::read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_is_read_whatever_its_name() {
        let me = Process::read(getpid()).unwrap();
        assert!(me.alive && me.born > 0);
        assert_eq!(Some(me.parent), rustix::process::getppid());
        assert!(processes().iter().any(|process| process.pid == me.pid));
    }

    #[test]
    fn marked_process_is_found_although_it_left_its_session() {
        let place = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("setsid")
            .args(["--wait", "sleep", "1000"])
            .env(ATTEMPT_VARIABLE, place.path())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while kill_marked(place.path()) == 0 {
            assert!(std::time::Instant::now() < deadline, "the process was not found");
        }
        while child.try_wait().unwrap().is_none() {
            kill_marked(place.path());
            assert!(std::time::Instant::now() < deadline, "the process lives on");
        }
        assert_eq!(kill_marked(place.path()), 0);
    }
}
