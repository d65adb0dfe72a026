//! Reads what the agent program prints: one JSON object a line (`--output-format stream-json`).
//!
//! Pure. Lines that are no JSON, unknown types and unknown fields are passed over, because versions differ and
//! some print other things in between. The last `result` counts: sub-agents in the background cause a second one.
//! It deliberately does not judge how a run ended; that needs the exit status as well (see `verdict`).

mod lines;
mod usage;

pub use lines::{LINE_BYTES_MAX, Lines};
pub use usage::Tokens;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use usage::Meter;

/// An answer may have at most this many bytes; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Of refused tool calls at most this many are kept.
const DENIALS_MAX: usize = 100;
/// What is shown of a tool's input, in characters.
const INPUT_CHARS_MAX: usize = 200;

/// Something worth showing while the run goes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The agent program is up; nothing was asked of the model yet.
    Started {
        session_id: String,
        model: String,
        version: String,
        skills: Vec<String>,
        agents: Vec<String>,
    },
    Text {
        text: String,
        by_subagent: bool,
    },
    ToolUse {
        tool: String,
        input: String,
        by_subagent: bool,
    },
    ToolDenied {
        tool: String,
    },
    ApiRetry {
        attempt: u64,
        attempts_max: u64,
        delay_ms: u64,
        status: Option<u16>,
        error: String,
    },
    /// The subscription's limit is reached.
    UsageLimit {
        reset: Option<Timestamp>,
    },
    Result {
        subtype: String,
        is_error: bool,
    },
    /// What the run has used so far.
    Used {
        tokens: Tokens,
    },
    /// The receiver was slow: so many events before this one were not kept for it.
    Skipped {
        events: u64,
    },
}

/// A tool call that permission rules refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    pub tool: String,
    /// The beginning of what the tool was to be called with.
    pub input: String,
    #[serde(skip)]
    id: String,
}

/// The last `result` line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Final {
    pub subtype: String,
    pub is_error: bool,
    pub api_error_status: Option<u16>,
    pub terminal_reason: String,
    pub text: String,
    pub errors: Vec<String>,
    pub turns: u64,
}

/// Everything that a run said, as far as it matters afterwards.
#[derive(Debug, Default)]
pub struct Transcript {
    session_id: Option<String>,
    model: Option<String>,
    version: Option<String>,
    started: bool,
    agents: Vec<String>,
    last_text: String,
    last_retry: Option<Retry>,
    usage_limit: Option<Option<Timestamp>>,
    denials: Vec<Denial>,
    last: Option<Final>,
    meter: Meter,
}

/// The last attempt of the agent program to reach its provider again.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    pub status: Option<u16>,
    pub error: String,
}

impl Retry {
    /// Further attempts are pointless: a person has to act.
    pub fn is_hopeless(&self) -> bool {
        matches!(self.error.as_str(), "authentication_failed" | "billing_error") || self.status == Some(401)
    }
}

impl Transcript {
    /// Takes in one line and says what there is to see in it.
    pub fn accept(&mut self, line: &[u8]) -> Vec<Event> {
        let Some(kind) = kind_of(line) else { return Vec::new() };
        if !matches!(kind.as_str(), "system" | "assistant" | "rate_limit_event" | "result") {
            return Vec::new();
        }
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return Vec::new() };
        match kind.as_str() {
            "system" => self.system(&line).into_iter().collect(),
            "assistant" => self.assistant(&line),
            "rate_limit_event" => self.rate_limit(&line).into_iter().collect(),
            _ => vec![self.result(&line)],
        }
    }

    /// Takes in a whole recording.
    pub fn read(bytes: &[u8]) -> Self {
        let mut transcript = Self::default();
        let mut lines = Lines::default();
        lines.push(bytes, |line| drop(transcript.accept(line)));
        lines.finish(|line| drop(transcript.accept(line)));
        transcript
    }

    /// Whether the agent program said that it is up.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether it said which agents it knows, and this one is not among them. A program that does not know an agent may
    /// go on without it, and so without the agent's rules.
    pub fn lacks_agent(&self, name: &str) -> bool {
        !self.agents.is_empty() && !self.agents.iter().any(|agent| agent == name)
    }

    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    pub fn last_result(&self) -> Option<&Final> {
        self.last.as_ref()
    }

    pub fn last_retry(&self) -> Option<&Retry> {
        self.last_retry.as_ref()
    }

    /// `Some` once the provider said that the usage limit is reached, with the time of its end where it said that.
    pub fn usage_limit(&self) -> Option<Option<Timestamp>> {
        self.usage_limit
    }

    pub fn denials(&self) -> &[Denial] {
        &self.denials
    }

    /// The answer: of the last result, or else what was said last (some versions leave the result empty).
    pub fn answer(&self) -> &str {
        match &self.last {
            Some(last) if !last.text.trim().is_empty() => &last.text,
            _ => &self.last_text,
        }
    }

    pub fn tokens(&self) -> Tokens {
        self.meter.tokens()
    }

    /// What the session cost so far as the agent program counts it, in US dollars.
    pub fn session_cost_usd(&self) -> Option<f64> {
        self.meter.total_usd()
    }

    /// What this run alone cost, given what the session had cost before it.
    pub fn cost_usd(&self, session_cost_before_usd: f64) -> Option<f64> {
        self.meter.run_usd(session_cost_before_usd, self.version.as_deref())
    }

    fn system(&mut self, line: &Value) -> Option<Event> {
        match text_at(line, "subtype") {
            "init" => Some(self.init(line)),
            "api_retry" => Some(self.api_retry(line)),
            "permission_denied" => Some(Event::ToolDenied { tool: text_at(line, "tool_name").to_owned() }),
            _ => None,
        }
    }

    fn init(&mut self, line: &Value) -> Event {
        let (session_id, model) = (text_at(line, "session_id").to_owned(), text_at(line, "model").to_owned());
        let version = text_at(line, "claude_code_version").to_owned();
        self.started = true;
        self.session_id = Some(session_id.clone()).filter(|id| !id.is_empty());
        self.model = Some(model.clone());
        self.version = Some(version.clone());
        self.agents = texts_at(line, "agents");
        Event::Started { session_id, model, version, skills: texts_at(line, "skills"), agents: self.agents.clone() }
    }

    fn api_retry(&mut self, line: &Value) -> Event {
        let (status, error) = (status_at(line, "error_status"), text_at(line, "error").to_owned());
        self.last_retry = Some(Retry { status, error: error.clone() });
        let number = |key: &str| line.get(key).and_then(Value::as_f64).unwrap_or(0.0).max(0.0) as u64;
        let (attempt, attempts_max) = (number("attempt"), number("max_retries"));
        Event::ApiRetry { attempt, attempts_max, delay_ms: number("retry_delay_ms"), status, error }
    }

    fn assistant(&mut self, line: &Value) -> Vec<Event> {
        let by_subagent = line.get("parent_tool_use_id").is_some_and(|id| !id.is_null());
        let Some(message) = line.get("message") else { return Vec::new() };
        self.meter.message(message);
        let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        blocks.iter().filter_map(|block| self.block(block, by_subagent)).collect()
    }

    fn block(&mut self, block: &Value, by_subagent: bool) -> Option<Event> {
        match text_at(block, "type") {
            "text" => {
                let text = cut(text_at(block, "text"), TEXT_BYTES_MAX).to_owned();
                if !by_subagent && !text.trim().is_empty() {
                    self.last_text.clone_from(&text);
                }
                Some(Event::Text { text, by_subagent })
            }
            "tool_use" => {
                let tool = text_at(block, "name").to_owned();
                Some(Event::ToolUse { tool, input: beginning_of(block.get("input")), by_subagent })
            }
            _ => None,
        }
    }

    fn rate_limit(&mut self, line: &Value) -> Option<Event> {
        let limit = line.get("rate_limit_info")?;
        if !matches!(text_at(limit, "status"), "rejected" | "denied") {
            return None;
        }
        let reset = limit.get("resetsAt").and_then(Value::as_i64).and_then(epoch);
        self.usage_limit = Some(reset);
        Some(Event::UsageLimit { reset })
    }

    fn result(&mut self, line: &Value) -> Event {
        let last = Final {
            subtype: text_at(line, "subtype").to_owned(),
            is_error: line.get("is_error").and_then(Value::as_bool).unwrap_or(true),
            api_error_status: status_at(line, "api_error_status"),
            terminal_reason: text_at(line, "terminal_reason").to_owned(),
            text: cut(text_at(line, "result"), TEXT_BYTES_MAX).to_owned(),
            errors: texts_at(line, "errors"),
            turns: line.get("num_turns").and_then(Value::as_u64).unwrap_or(0),
        };
        if self.session_id.is_none() {
            self.session_id = Some(text_at(line, "session_id").to_owned()).filter(|id| !id.is_empty());
        }
        for denial in line.get("permission_denials").and_then(Value::as_array).into_iter().flatten() {
            self.denied(denial);
        }
        self.meter.result(line);
        let event = Event::Result { subtype: last.subtype.clone(), is_error: last.is_error };
        self.last = Some(last);
        event
    }

    fn denied(&mut self, denial: &Value) {
        let id = text_at(denial, "tool_use_id");
        let known = !id.is_empty() && self.denials.iter().any(|other| other.id == id);
        if !known && self.denials.len() < DENIALS_MAX {
            let (tool, input) = (text_at(denial, "tool_name").to_owned(), beginning_of(denial.get("tool_input")));
            self.denials.push(Denial { tool, input, id: id.to_owned() });
        }
    }
}

/// Whether the line is a `result`.
pub fn is_result(line: &[u8]) -> bool {
    kind_of(line).is_some_and(|kind| kind == "result")
}

/// An instant of which it is not known whether it counts seconds or milliseconds.
pub fn epoch(number: i64) -> Option<Timestamp> {
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    if number >= MILLISECONDS_FROM { Timestamp::from_millisecond(number) } else { Timestamp::from_second(number) }.ok()
}

fn kind_of(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(rename = "type")]
        kind: String,
    }
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    serde_json::from_slice::<Head>(line).ok().map(|head| head.kind)
}

fn text_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn texts_at(value: &Value, key: &str) -> Vec<String> {
    let texts = value.get(key).and_then(Value::as_array).into_iter().flatten();
    texts.filter_map(Value::as_str).take(1000).map(|text| cut(text, 4096).to_owned()).collect()
}

fn status_at(value: &Value, key: &str) -> Option<u16> {
    value.get(key).and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok())
}

fn beginning_of(input: Option<&Value>) -> String {
    let text = input.map(Value::to_string).unwrap_or_default();
    match text.char_indices().nth(INPUT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::recordings;
