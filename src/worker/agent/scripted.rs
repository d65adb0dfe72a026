//! The hidden subcommand `scripted-agent`: the agent of the demonstration.
//!
//! It speaks the agent program's protocol and needs neither account nor network. It is no model and says so. It
//! deliberately looks at nothing but what it was asked.

use std::ffi::OsString;
use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::invocation::unguarded;
use crate::seam::fresh_id;

/// Of the instruction, so much is quoted.
const QUOTED_CHARS_MAX: usize = 200;
const MESSAGE_BYTES_MAX: u64 = 96 * 1024 * 1024;
const MODEL: &str = "scripted";

/// Answers the first message on standard input.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let session_id = session_id(args).unwrap_or_else(|| fresh_id().to_string());
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    match converse(&session_id, &mut stdin, &mut stdout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn converse(session_id: &str, stdin: &mut impl BufRead, stdout: &mut impl Write) -> io::Result<()> {
    let mut say = |line: Value| writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    say(json!({
        "type": "system", "subtype": "init", "session_id": session_id, "model": MODEL, "tools": [], "skills": [],
        "agents": [], "permissionMode": "dontAsk", "claude_code_version": env!("CARGO_PKG_VERSION"),
    }))?;
    let mut line = Vec::new();
    stdin.take(MESSAGE_BYTES_MAX).read_until(b'\n', &mut line)?;
    let Some(instruction) = instruction(&line) else {
        return say(json!({
            "type": "result", "subtype": "error_during_execution", "is_error": true, "num_turns": 0,
            "session_id": session_id, "errors": ["no message of a user arrived"], "permission_denials": [],
        }));
    };
    let answer = answer(&instruction);
    say(json!({
        "type": "assistant", "session_id": session_id, "parent_tool_use_id": null,
        "message": { "id": "scripted-1", "role": "assistant", "model": MODEL,
                     "content": [{ "type": "text", "text": answer }] },
    }))?;
    say(json!({
        "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "session_id": session_id,
        "result": answer, "total_cost_usd": 0.0, "permission_denials": [],
    }))
}

/// The last block of the first message, which is our own.
fn instruction(line: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(line).ok()?;
    let content = message.get("message")?.get("content")?;
    let text = content.as_str().or_else(|| content.as_array()?.last()?.get("text")?.as_str())?;
    Some(unguarded(text))
}

fn answer(instruction: &str) -> String {
    let asked: Vec<&str> = instruction.split_whitespace().collect();
    let asked = asked.join(" ");
    let quoted = match asked.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &asked[..end]),
        None => asked,
    };
    format!(
        "This is the built-in scripted agent of skillhook. It is no model: nothing was analysed. \
         The delivery arrived, was verified and matched, and this run was asked:\n\n> {quoted}"
    )
}

fn session_id(args: impl Iterator<Item = OsString>) -> Option<String> {
    let args = args.filter_map(|arg| arg.into_string().ok());
    let mut ids = args.filter_map(|arg| {
        let id = arg.strip_prefix("--session-id=").or_else(|| arg.strip_prefix("--resume="))?;
        Some(id.to_owned())
    });
    ids.next()
}

#[cfg(test)]
mod tests {
    use super::super::transcript::Transcript;
    use super::*;

    fn run(input: &str) -> Transcript {
        let mut output = Vec::new();
        let args = ["-p", "--session-id=one"].map(OsString::from);
        let session_id = session_id(args.into_iter()).unwrap();
        converse(&session_id, &mut input.as_bytes(), &mut output).unwrap();
        Transcript::read(&output)
    }

    #[test]
    fn answer_quotes_the_instruction_and_claims_to_be_no_model() {
        let long = format!("Review   this: {}", "ä".repeat(300));
        let message = json!({ "type": "user", "message": { "content": [
            { "type": "text", "text": "outside" }, { "type": "text", "text": long },
        ] } });
        let transcript = run(&format!("{message}\n"));
        assert_eq!(transcript.session_id(), Some("one"));
        let answer = transcript.answer();
        assert!(answer.contains("no model") && answer.contains("Review this: ää") && !answer.contains("outside"));
        assert_eq!(answer.matches('ä').count(), QUOTED_CHARS_MAX - "Review this: ".len());
        assert_eq!(transcript.last_result().map(|last| last.turns), Some(1));
    }

    #[test]
    fn input_that_is_no_message_is_an_error_result() {
        for input in ["", "hello\n", "{}\n"] {
            assert!(run(input).last_result().unwrap().is_error, "{input}");
        }
    }
}
