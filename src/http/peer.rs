//! Who is at the other end of the socket file. Whoever can open it is the service's user, and so are the agents that the
//! service runs: they may be talked into things, and get nothing by being started here.
//!
//! Two signs tell a process of a run, and it can shed only one of them: it descends from the service (until its
//! supervisor is killed), and it can never gain privileges (`no_new_privs`, which its walls set before the agent program
//! starts, and which every process after it inherits for good; see prctl(2)).

use tokio::net::UnixStream;

use super::exchange::Peer;

/// Longest chain of processes that is followed.
const ANCESTORS_MAX: usize = 128;

/// The process that connected: one of a person, or one that this service has started.
pub fn of(stream: &UnixStream) -> Peer {
    let Ok(credentials) = stream.peer_cred() else { return Peer::Run };
    // Where the system does not tell, or has no `/proc`, there is nothing to go by. The number 0 is a process outside of
    // our namespace, and what we start is always inside.
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    let (Some(pid), Some(own)) = (pid, walled("self")) else { return Peer::Local };
    match (descends_from(pid, std::process::id()), walled(&pid.to_string())) {
        (Some(true), _) => Peer::Run,
        // Where the service itself is walled like that, so are the people beside it.
        (Some(false), Some(true)) if !own => Peer::Run,
        (Some(false), Some(_)) => Peer::Local,
        // It has ended, or belongs to somebody whose processes are hidden: no agent of ours, unless it is our user's.
        (None, _) | (Some(false), None) if credentials.uid() == rustix::process::geteuid().as_raw() => Peer::Run,
        (None, _) | (Some(false), None) => Peer::Local,
    }
}

/// Whether a process was started by another one, directly or not; `None` when that cannot be told.
fn descends_from(pid: u32, ancestor: u32) -> Option<bool> {
    let mut pid = pid;
    for _ in 0..ANCESTORS_MAX {
        if pid == ancestor {
            return Some(false);
        }
        let parent = parent_of(pid)?;
        if parent == ancestor {
            return Some(true);
        }
        if parent <= 1 {
            return Some(false);
        }
        pid = parent;
    }
    Some(true)
}

/// The fourth field of `/proc/PID/stat` (proc_pid_stat(5)); the second may hold anything, in parentheses.
fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process can never gain privileges; `None` when that cannot be told.
fn walled(pid: &str) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("NoNewPrivs:"))?;
    Some(value.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_start_is_told_from_what_started_us() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(descends_from(child.id(), own), Some(true));
        assert_eq!(descends_from(own, own), Some(false));
        assert_eq!(descends_from(parent_of(own).unwrap(), own), Some(false));
        assert_eq!(walled(&child.id().to_string()), walled("self"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(descends_from(child.id(), own), None);
    }
}
