//! What is told of a run after its end: the same for one that was watched and one that was found again.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::attempt::{Attempt, AttemptDir, ExitRecord};
use super::transcript::{Lines, Tokens, Transcript};
use super::tree::kill_marked;
use super::verdict::{Ending, Outcome, outcome};
use super::wire::{Exit, StopReason};
use crate::error::{Code, Context, Result};

/// How a run ended and what it used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunReport {
    pub outcome: Outcome,
    /// Of this run alone, in US dollars; `None` if the agent program did not come to say it.
    pub cost_usd: Option<f64>,
    /// Of the whole session, to be handed to the session's next run.
    pub session_cost_usd: Option<f64>,
    pub tokens: Tokens,
    pub turns: u64,
    /// The session to resume; it may differ from the one that was asked for.
    pub session_id: Option<String>,
    pub model: Option<String>,
    pub agent_version: Option<String>,
    pub duration: Duration,
    pub exit: Option<Exit>,
    pub stopped: Option<StopReason>,
    /// Which walls stood around it.
    pub sandbox: String,
    /// Remarks for the log.
    pub notes: Vec<String>,
    /// Events that were not kept because nobody took them.
    pub events_skipped: u64,
}

/// What became of an attempt that another process of the service began.
#[derive(Clone, Debug, PartialEq)]
pub enum Recovered {
    /// Its supervisor lives: ask again in a moment, it ends by itself.
    StillRunning,
    Finished(Box<RunReport>),
    /// It left no result: the task may be run again, in the same conversation.
    Lost,
}

/// Looks after an attempt that was begun before a restart. It reads files and may end left-over processes, so it
/// blocks. `StillRunning` passes within the grace after a result, or at once if there was none.
pub fn recover(attempt_dir: &Path) -> Result<Recovered> {
    let attempt = AttemptDir::new(attempt_dir);
    if !attempt_dir.is_dir() {
        return Ok(Recovered::Lost);
    }
    let lock = attempt.try_lock().context(Code::WorkspaceFailed, "the attempt cannot be looked at")?;
    let Some(_lock) = lock else { return Ok(Recovered::StillRunning) };
    // Only after a kill of the supervisor itself is there anything to find.
    let swept = kill_marked(attempt_dir);
    let begun: Option<Attempt> = AttemptDir::read_record(&attempt.attempt());
    let transcript = read_recording(&attempt).context(Code::WorkspaceFailed, "the recording cannot be read")?;
    let record: Option<ExitRecord> = AttemptDir::read_record(&attempt.exit());
    attempt.clear();
    if record.is_none() && transcript.last_result().is_none() {
        return Ok(Recovered::Lost);
    }
    let mut report = RunReport::new(&transcript, record.as_ref(), begun.map_or(0.0, |b| b.session_cost_before_usd));
    report.swept(swept);
    Ok(Recovered::Finished(Box::new(report)))
}

impl RunReport {
    /// Without a record the supervisor was killed, and only the transcript speaks.
    pub(super) fn new(transcript: &Transcript, record: Option<&ExitRecord>, session_cost_before_usd: f64) -> RunReport {
        let ending = record.map_or_else(Ending::default, |record| Ending {
            exit: record.exit,
            stopped: record.stopped,
            start_error: record.start_error.as_deref(),
            stderr: &record.stderr_tail,
        });
        let mut report = RunReport {
            outcome: outcome(transcript, &ending),
            cost_usd: transcript.cost_usd(session_cost_before_usd),
            session_cost_usd: transcript.session_cost_usd(),
            tokens: transcript.tokens(),
            turns: transcript.last_result().map_or(0, |last| last.turns),
            session_id: transcript.session_id().map(str::to_owned),
            model: transcript.model().map(str::to_owned),
            agent_version: transcript.version().map(str::to_owned),
            duration: Duration::from_millis(record.map_or(0, |record| record.duration_ms)),
            exit: ending.exit,
            stopped: ending.stopped,
            sandbox: record.map(|record| record.sandbox.clone()).unwrap_or_default(),
            notes: record.map(|record| record.notes.clone()).unwrap_or_default(),
            events_skipped: 0,
        };
        if let Some(killed) = record.map(|record| record.leftovers_killed).filter(|killed| *killed > 0) {
            report.notes.push(format!("{killed} processes outlived the agent program and were killed"));
        }
        report
    }

    pub(super) fn swept(&mut self, processes: u64) {
        if processes > 0 {
            self.notes.push(format!("{processes} processes outlived their supervisor and were killed"));
        }
    }
}

/// The recording is capped by the supervisor's limit.
fn read_recording(attempt: &AttemptDir) -> io::Result<Transcript> {
    let (mut transcript, mut lines) = (Transcript::default(), Lines::default());
    let mut file = match File::open(attempt.stdout()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(transcript),
        Err(error) => return Err(error),
    };
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            read => lines.push(&chunk[..read], |line| drop(transcript.accept(line))),
        }
    }
    lines.finish(|line| drop(transcript.accept(line)));
    Ok(transcript)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = r#"{"type":"system","subtype":"init","session_id":"s","claude_code_version":"2.1.330"}
{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"done","total_cost_usd":0.5,"session_id":"s"}
"#;

    fn attempt() -> (tempfile::TempDir, AttemptDir) {
        let place = tempfile::tempdir().unwrap();
        let attempt = AttemptDir::new(place.path());
        attempt.create().unwrap();
        (place, attempt)
    }

    #[test]
    fn attempt_whose_lock_is_held_is_still_running() {
        let (place, attempt) = attempt();
        std::fs::write(attempt.stdout(), RESULT).unwrap();
        let _held = attempt.try_lock().unwrap().unwrap();
        assert_eq!(recover(place.path()).unwrap(), Recovered::StillRunning);
    }

    #[test]
    fn result_survives_without_a_record_of_the_end() {
        let (place, attempt) = attempt();
        let begun = Attempt { started_at: jiff::Timestamp::UNIX_EPOCH, session_cost_before_usd: 0.125 };
        attempt.write_record(&attempt.attempt(), &begun).unwrap();
        std::fs::write(attempt.stdout(), RESULT).unwrap();
        let Recovered::Finished(report) = recover(place.path()).unwrap() else { panic!() };
        assert_eq!(report.outcome, Outcome::Succeeded { text: "done".to_owned(), denials: Vec::new() });
        assert_eq!((report.cost_usd, report.session_cost_usd), (Some(0.375), Some(0.5)));
        assert!(!attempt.home().exists() && !attempt.tmp().exists());
    }

    #[test]
    fn attempt_that_was_broken_off_is_lost_if_nothing_tells_its_end() {
        let (place, attempt) = attempt();
        std::fs::write(attempt.stdout(), RESULT.lines().next().unwrap()).unwrap();
        assert_eq!(recover(place.path()).unwrap(), Recovered::Lost);
        assert_eq!(recover(&place.path().join("missing")).unwrap(), Recovered::Lost);
    }

    #[test]
    fn broken_off_attempt_with_a_record_says_why() {
        let (place, attempt) = attempt();
        let record =
            ExitRecord { exit: Some(Exit::Signal(9)), stopped: Some(StopReason::ServiceGone), ..ExitRecord::default() };
        attempt.write_record(&attempt.exit(), &record).unwrap();
        let Recovered::Finished(report) = recover(place.path()).unwrap() else { panic!() };
        assert!(matches!(report.outcome, Outcome::Interrupted { .. }), "{report:?}");
    }
}
