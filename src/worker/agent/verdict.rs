//! Judges how a run ended, from what the agent program printed and how it exited. Pure.
//!
//! A run succeeded if there is a result which says so; the exit status alone tells nothing, since a failing run may
//! exit with 0. Whether to try again follows the provider's status: transient trouble yes, refusals no.

use jiff::Timestamp;
use serde::Serialize;

use super::transcript::{Denial, Final, Transcript, epoch};
use super::wire::{Exit, StopReason};
use crate::error::Code;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With denials, the agent wanted tools that it was not allowed: the task may be done in part only.
    Succeeded {
        text: String,
        denials: Vec<Denial>,
    },
    /// `message` is for a person: what happened and what can be done.
    Failed {
        code: Code,
        retry: bool,
        message: String,
    },
    /// The subscription's limit is reached; nothing will run until `reset`, if that is known.
    UsageLimit {
        reset: Option<Timestamp>,
        message: String,
    },
    /// The session to resume is not known here: begin a new one.
    SessionUnknown,
    /// The id for a new session is in use already, as after a broken-off first run: resume it.
    SessionTaken,
    Cancelled,
    /// The run was broken off by the end of the service or of the machine: it may be continued.
    Interrupted {
        message: String,
    },
}

/// How the processes ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ending<'a> {
    pub exit: Option<Exit>,
    pub stopped: Option<StopReason>,
    /// The program could not be started at all.
    pub start_error: Option<&'a str>,
    pub stderr: &'a str,
}

pub(super) fn outcome(transcript: &Transcript, ending: &Ending<'_>) -> Outcome {
    if let Some(error) = ending.start_error {
        let advice = "check `agent.program` and its permissions";
        return failed(
            Code::AgentMissing,
            false,
            format!("the agent program cannot be started: {}; {advice}", clean(error)),
        );
    }
    if ending.stopped == Some(StopReason::AgentUnknown) {
        return never("the agent program does not know the agent of this command; is its file valid?".to_owned());
    }
    if let Some(last) = transcript.last_result()
        && last.subtype == "success"
        && !last.is_error
    {
        return success(transcript, last);
    }
    if let Some(outcome) = ending.stopped.and_then(|reason| stopped(reason, transcript)) {
        return outcome;
    }
    if let Some(limit) = usage_limit(transcript, ending.stderr) {
        return limit;
    }
    match transcript.last_result() {
        Some(last) => refused(last),
        None => without_result(transcript, ending),
    }
}

fn success(transcript: &Transcript, last: &Final) -> Outcome {
    if last.turns == 0 {
        let said = clean(&last.text);
        return failed(
            Code::AgentFailed,
            false,
            format!("the agent program answered without asking a model: `{said}`"),
        );
    }
    Outcome::Succeeded { text: transcript.answer().to_owned(), denials: transcript.denials().to_vec() }
}

fn stopped(reason: StopReason, transcript: &Transcript) -> Option<Outcome> {
    let timeout = |what: &str| Some(failed(Code::AgentTimeout, true, what.to_owned()));
    match reason {
        StopReason::Cancelled => Some(Outcome::Cancelled),
        StopReason::TotalTimeout => timeout("the run took longer than its time limit; raise `timeout` or ask for less"),
        StopReason::IdleTimeout => timeout("the agent said nothing for too long and was stopped"),
        StopReason::StartTimeout => {
            timeout("the agent program did not begin its work in time; is the machine overloaded?")
        }
        StopReason::CredentialsRefused => {
            let said = transcript.last_retry().map(|retry| retry.error.as_str()).unwrap_or_default();
            Some(credentials(said))
        }
        StopReason::OutputLimit => Some(failed(
            Code::AgentFailed,
            false,
            "the agent printed more than the output limit and was stopped".to_owned(),
        )),
        StopReason::ServiceGone => {
            Some(Outcome::Interrupted { message: "skillhook ended while the agent was at work".to_owned() })
        }
        StopReason::Signalled => {
            Some(Outcome::Interrupted { message: "the agent's supervisor was told to end".to_owned() })
        }
        // The result was there before, and it says how the run ended; the other was judged before.
        StopReason::ResultGrace | StopReason::AgentUnknown => None,
    }
}

fn usage_limit(transcript: &Transcript, stderr: &str) -> Option<Outcome> {
    let said = transcript.last_result().map_or(stderr, |last| last.text.as_str());
    let lower = said.to_lowercase();
    let in_words = lower.contains("usage limit reached") || (lower.contains("hit your") && lower.contains("limit"));
    let told = transcript.usage_limit();
    if told.is_none() && !in_words {
        return None;
    }
    // Some versions append the end of the limit as seconds since 1970: `…limit reached|1760000000`.
    let written = || said.rsplit_once('|').and_then(|(_, number)| number.trim().parse().ok()).and_then(epoch);
    let reset = told.flatten().or_else(written);
    let said = if said.trim().is_empty() { "no more runs for now" } else { said };
    Some(Outcome::UsageLimit { reset, message: format!("the agent's usage limit is reached: {}", clean(said)) })
}

fn refused(last: &Final) -> Outcome {
    let said = if last.text.trim().is_empty() { last.errors.join("; ") } else { last.text.clone() };
    match last.subtype.as_str() {
        "error_max_turns" => {
            never(format!("the run used all its turns: {}; raise `max_turns` or ask for less", clean(&said)))
        }
        "error_max_budget_usd" => {
            never(format!("the run used up its budget: {}; raise `budget_usd` or ask for less", clean(&said)))
        }
        "error_during_execution" if said.contains("No conversation found") => Outcome::SessionUnknown,
        "error_during_execution" if last.terminal_reason.starts_with("aborted") => {
            again("the run was interrupted from outside".to_owned())
        }
        "success" => api_error(last, &said),
        _ => again(format!("the agent run ended with `{}`: {}", clean(&last.subtype), clean(&said))),
    }
}

/// The provider answered the agent program with an error; some versions leave the status out.
fn api_error(last: &Final, said: &str) -> Outcome {
    let has = |words: &[&str]| words.iter().any(|word| said.to_lowercase().contains(word));
    let sentence = format!("the model's provider did not answer: {}", clean(said));
    match last.api_error_status {
        Some(401 | 403) => credentials(said),
        _ if has(&["credit balance", "not logged in", "invalid api key", "please run /login"]) => credentials(said),
        Some(408 | 409 | 429 | 500..=599) => again(sentence),
        None if has(&["529", "overloaded", "connect", "timed out", "timeout", "econn", "socket", "network"]) => {
            again(sentence)
        }
        Some(status) => {
            failed(Code::AgentRefused, false, format!("the model's provider refused with {status}: {}", clean(said)))
        }
        None => failed(Code::AgentRefused, false, format!("the model's provider refused: {}", clean(said))),
    }
}

fn without_result(transcript: &Transcript, ending: &Ending<'_>) -> Outcome {
    let stderr = ending.stderr;
    if stderr.contains("No conversation found") {
        return Outcome::SessionUnknown;
    }
    if stderr.contains("Session ID") && stderr.contains("already in use") {
        return Outcome::SessionTaken;
    }
    if let Some(retry) = transcript.last_retry().filter(|retry| retry.is_hopeless()) {
        return credentials(&retry.error);
    }
    let last_words = stderr.trim().lines().last().unwrap_or_default();
    match ending.exit {
        // It never began its work and says why: wrong arguments, unknown agent, not allowed as root.
        Some(Exit::Code(_)) if !transcript.started() && !last_words.is_empty() => {
            never(format!("the agent program did not begin: {}", clean(last_words)))
        }
        Some(Exit::Code(code)) => {
            again(format!("the agent program ended with exit status {code} and without a result{}", told(last_words)))
        }
        Some(Exit::Signal(9)) => again("the agent program was killed from outside; perhaps memory ran out".to_owned()),
        Some(Exit::Signal(signal)) => {
            again(format!("the agent program was ended by signal {signal}{}", told(last_words)))
        }
        None => Outcome::Interrupted { message: "the agent's supervisor vanished".to_owned() },
    }
}

fn credentials(said: &str) -> Outcome {
    let advice = "check the agent's credentials and its account";
    failed(
        Code::AgentRefused,
        false,
        format!("the model's provider refused the credentials: {}; {advice}", clean(said)),
    )
}

fn again(message: String) -> Outcome {
    failed(Code::AgentFailed, true, message)
}

fn never(message: String) -> Outcome {
    failed(Code::AgentFailed, false, message)
}

fn failed(code: Code, retry: bool, message: String) -> Outcome {
    Outcome::Failed { code, retry, message }
}

fn told(last_words: &str) -> String {
    if last_words.is_empty() { String::new() } else { format!(": {}", clean(last_words)) }
}

/// One line of bounded length, without control characters and a final period.
fn clean(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let text = text.trim().trim_end_matches('.');
    let mut short: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CHARS_MAX).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
