//! A tracer that makes the disk fail or pulls the plug at a chosen call, where processes may be traced.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Traces until it is dropped.
pub struct Strace(Child);

impl Strace {
    /// Lets every sync of the process fail; `None` where processes may not be traced.
    pub fn failing_syncs(pid: u32) -> Option<Self> {
        Self::start(&["-f"], "fsync,fdatasync,sync_file_range", "error=EIO", pid)
    }

    /// Kills the process at the sync of this number that its ledger makes from now on.
    pub fn kill_at_sync(pid: u32, number: usize) -> Option<Self> {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|entry| entry.unwrap().path());
        let is_ledger = |thread: &std::path::PathBuf| {
            std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "ledger")
        };
        let ledger = threads.into_iter().find(is_ledger).unwrap();
        let ledger = ledger.file_name().unwrap().to_str().unwrap().parse().unwrap();
        Self::start(&[], "fsync,fdatasync", &format!("signal=SIGKILL:when={number}"), ledger)
    }

    fn start(how: &[&str], calls: &str, what: &str, pid: u32) -> Option<Self> {
        let mut strace = Command::new("strace")
            .args(how)
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{what}"), "-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(strace.stderr.take()?);
        let mut line = String::new();
        let read = lines.read_line(&mut line).ok()?;
        if read == 0 || !line.contains("attached") {
            return None;
        }
        std::thread::spawn(move || lines.lines().for_each(drop));
        Some(Self(strace))
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // An interrupt lets strace detach; a kill would take the traced process along.
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}
