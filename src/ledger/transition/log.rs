//! What a task's agent says, up to a limit that announces itself.

use super::{Ledgers, Step, unknown_task};
use crate::ledger::command::Answer;
use crate::ledger::rows::LogLine;
use crate::ledger::store::kept::{LogRow, LogSizeRow};
use crate::ledger::store::tables::join;
use crate::model::ids::TaskId;

/// Most lines of one task's log, and most bytes of their text. One more line says that the limit was reached.
pub const LOG_LINES_MAX: u32 = 10_000;
pub const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

impl Ledgers<'_, '_> {
    pub(super) fn append_log(&mut self, task: TaskId, lines: &[LogLine]) -> Step<Answer> {
        let size = self.tables.log_sizes.get(task.as_bytes())?.unwrap_or_default();
        if size.full || lines.is_empty() {
            return Ok(Answer::Logged { first: size.lines, lines: 0 });
        }
        if !self.memory.queue.contains(task) && !self.tables.tasks.has(task.as_bytes())? {
            return Err(unknown_task(task).into());
        }
        let (kept, grown) = fitting(lines, size);
        self.tables.logs.put(&log_key(task, size.lines), &LogRow { lines: kept })?;
        self.tables.log_sizes.put(task.as_bytes(), &grown)?;
        Ok(Answer::Logged { first: size.lines, lines: grown.lines - size.lines })
    }
}

/// Rows of a log are keyed by the number of their first line.
pub fn log_key(task: TaskId, first_line: u32) -> Vec<u8> {
    join(task.as_bytes(), &first_line.to_be_bytes())
}

fn fitting(lines: &[LogLine], mut size: LogSizeRow) -> (Vec<LogLine>, LogSizeRow) {
    let mut kept = Vec::with_capacity(lines.len());
    for line in lines {
        let bytes = line.text.len() as u64;
        if size.lines >= LOG_LINES_MAX || size.bytes + bytes > LOG_BYTES_MAX {
            let text = format!("the log ends here: {LOG_LINES_MAX} lines or {LOG_BYTES_MAX} bytes are the limit");
            kept.push(LogLine { at: line.at, attempt: line.attempt, kind: "note".to_owned(), text });
            size.lines += 1;
            size.full = true;
            break;
        }
        kept.push(line.clone());
        size.lines += 1;
        size.bytes += bytes;
    }
    (kept, size)
}
