//! The agent's three streams, a thread each.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use super::watch::Happening;
use crate::worker::agent::transcript::{Lines, is_result};

/// Of what the agent writes to standard error only the end is kept.
pub(super) const STDERR_BYTES_MAX: usize = 8 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;

/// What is written to the agent's standard input after the prompt.
pub(super) enum Feed {
    Interrupt,
    Close,
}

/// Asks the agent to stop its turn and to report; it answers with a result.
const INTERRUPT: &str =
    r#"{"type":"control_request","request_id":"skillhook_interrupt","request":{"subtype":"interrupt"}}"#;

/// Writes the prompt, and closes the stream at once or when told so. An agent that does not read blocks only this.
pub(super) fn feed(mut stdin: ChildStdin, prompt: Vec<u8>, keep_open: bool) -> SyncSender<Feed> {
    let (sender, receiver) = sync_channel(4);
    thread::spawn(move || {
        if stdin.write_all(&prompt).and_then(|()| stdin.flush()).is_err() || !keep_open {
            return;
        }
        while let Ok(Feed::Interrupt) = receiver.recv() {
            if writeln!(stdin, "{INTERRUPT}").and_then(|()| stdin.flush()).is_err() {
                return;
            }
        }
    });
    sender
}

/// Records what the agent prints and passes it on, in this order, up to the limit.
pub(super) fn tee(stdout: ChildStdout, recording: File, bytes_max: u64, sender: SyncSender<Happening>) {
    thread::spawn(move || {
        let mut tee = Tee { recording, bytes: 0, forwarding: true, note: None };
        let over = tee.copy(stdout, bytes_max, &sender);
        if over {
            let _ = sender.send(Happening::OutputLimit);
        }
        if let Err(error) = tee.recording.sync_all() {
            tee.note = Some(format!("the output may not be on disk: {error}"));
        }
        let _ = sender.send(Happening::OutputClosed { bytes: tee.bytes, note: tee.note });
    });
}

struct Tee {
    recording: File,
    bytes: u64,
    forwarding: bool,
    note: Option<String>,
}

impl Tee {
    /// Answers whether there was more than the limit.
    fn copy(&mut self, mut stdout: ChildStdout, bytes_max: u64, sender: &SyncSender<Happening>) -> bool {
        let (mut chunk, mut lines) = (vec![0; CHUNK_BYTES], Lines::default());
        loop {
            let read = match stdout.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let room = usize::try_from(bytes_max - self.bytes).unwrap_or(usize::MAX).min(read);
            self.pass_on(&chunk[..room]);
            let tell = |line: &[u8]| {
                if is_result(line) {
                    let _ = sender.send(Happening::Result);
                }
            };
            lines.push(&chunk[..room], tell);
            if room < read {
                return true;
            }
        }
        false
    }

    fn pass_on(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.note.is_none()
            && let Err(error) = self.recording.write_all(bytes)
        {
            self.note = Some(format!("the output is not recorded completely: {error}"));
        }
        if self.forwarding {
            let mut stdout = io::stdout().lock();
            // The service may be gone; the recording goes on.
            self.forwarding = stdout.write_all(bytes).and_then(|()| stdout.flush()).is_ok();
        }
    }
}

/// Keeps the end of what the agent writes to standard error.
pub(super) fn tail(mut stderr: ChildStderr, sender: SyncSender<Happening>) {
    thread::spawn(move || {
        let (mut chunk, mut kept) = (vec![0; CHUNK_BYTES], VecDeque::with_capacity(STDERR_BYTES_MAX));
        loop {
            match stderr.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => {
                    kept.extend(&chunk[..read]);
                    kept.drain(..kept.len().saturating_sub(STDERR_BYTES_MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(kept.make_contiguous()).into_owned();
        let _ = sender.send(Happening::ErrorsClosed(text));
    });
}
