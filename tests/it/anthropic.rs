//! A provider of models for tests: the Messages API on loopback, answering from a scenario.
//!
//! A scenario is `{"steps": [STEP, …], "default": REPLY}`. A request takes the first step whose `when` holds and that is
//! not used up (`times`, default 1, 0 without limit), else the default. Side requests (sub-agents, retries) happen, so
//! steps are told apart by `when` and not by their order.
//!
//! | `when` | holds if |
//! |---|---|
//! | `model`, `system` | it is part of the model's name, of the system prompt |
//! | `last_user`, `any_text` | it is part of the last message of the user, of any message |
//! | `tool` | a tool of this name is offered |
//! | `tool_result_for` | the last message answers a use of this tool |
//!
//! A reply has `text`, `tool_use` (a list of `{name, input}`), `usage`, or `status` (400 and above) with `message` and
//! `headers`; `cut_after` ends the stream after so many events, `hang_after` stops sending there, `sse_error` puts an
//! error into the stream.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// Longest piece of one delta, in characters.
const DELTA_CHARS: usize = 40;

pub struct Anthropic {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    scenario: Value,
    used: Vec<u64>,
    asked: Vec<Value>,
}

impl Anthropic {
    pub fn start(scenario: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { scenario, ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away in the middle is no concern of the test.
                std::thread::spawn(move || drop(serve(connection, &state)));
            }
        });
        Self { url, state }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The bodies of all requests for a message so far.
    pub fn asked(&self) -> Vec<Value> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Everything that was asked, as one text.
    pub fn heard(&self) -> String {
        self.asked().iter().map(Value::to_string).collect()
    }

    /// Another scenario from now on.
    pub fn play(&self, scenario: Value) {
        *self.state.lock().unwrap() = State { scenario, ..State::default() };
    }
}

impl State {
    fn reply(&mut self, body: &Value) -> Value {
        self.asked.push(body.clone());
        let steps = self.scenario["steps"].as_array().cloned().unwrap_or_default();
        self.used.resize(steps.len(), 0);
        for (step, used) in steps.iter().zip(&mut self.used) {
            let times = step["times"].as_u64().unwrap_or(1);
            if (times == 0 || *used < times) && holds(&step["when"], body) {
                *used += 1;
                return step.clone();
            }
        }
        match &self.scenario["default"] {
            Value::Null => json!({ "text": "no step of the scenario fits" }),
            reply => reply.clone(),
        }
    }
}

fn holds(when: &Value, body: &Value) -> bool {
    when.as_object().into_iter().flatten().all(|(key, wanted)| {
        let wanted = wanted.as_str().unwrap_or_else(|| panic!("`{key}` wants a text"));
        match key.as_str() {
            "model" => body["model"].as_str().unwrap_or_default().contains(wanted),
            "system" => flat(&body["system"]).contains(wanted),
            "last_user" => flat(&last_user(body)["content"]).contains(wanted),
            "any_text" => messages(body).iter().any(|message| flat(&message["content"]).contains(wanted)),
            "tool" => body["tools"].as_array().into_iter().flatten().any(|tool| tool["name"] == wanted),
            "tool_result_for" => answered(body).iter().any(|name| name == wanted),
            _ => panic!("a scenario knows no `{key}`"),
        }
    })
}

fn messages(body: &Value) -> &[Value] {
    body["messages"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn last_user(body: &Value) -> &Value {
    messages(body).iter().rev().find(|message| message["role"] == "user").unwrap_or(&Value::Null)
}

/// The text of a string, of a block, or of a list of blocks with the results of tools.
fn flat(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().map(flat).collect::<Vec<_>>().join("\n"),
        Value::Object(block) if block.get("type").is_some_and(|kind| kind == "text") => flat(&content["text"]),
        Value::Object(_) => flat(&content["content"]),
        _ => String::new(),
    }
}

/// The tools whose results the last message of the user brings.
fn answered(body: &Value) -> Vec<String> {
    let blocks = |message: &Value| message["content"].as_array().cloned().unwrap_or_default();
    let results: Vec<Value> = blocks(last_user(body)).iter().map(|block| block["tool_use_id"].clone()).collect();
    let uses = messages(body).iter().flat_map(blocks).filter(|block| block["type"] == "tool_use");
    let answered = uses.filter(|block| results.contains(&block["id"]));
    answered.filter_map(|block| Some(block["name"].as_str()?.to_owned())).collect()
}

fn serve(connection: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut connection = connection;
    let path = first.split(' ').nth(1).unwrap_or_default();
    if !first.starts_with("POST /v1/messages") {
        return whole(&mut connection, 200, &json!({ "data": [], "has_more": false }), &Value::Null);
    }
    if path.starts_with("/v1/messages/count_tokens") {
        return whole(&mut connection, 200, &json!({ "input_tokens": 100 }), &Value::Null);
    }
    let (reply, number) = {
        let mut state = state.lock().unwrap();
        (state.reply(&body), state.asked.len())
    };
    answer(&mut connection, &reply, &body, number)
}

fn answer(connection: &mut TcpStream, reply: &Value, body: &Value, number: usize) -> std::io::Result<()> {
    if let Some(status) = reply["status"].as_u64().filter(|status| *status >= 400) {
        let kind = match status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            529 => "overloaded_error",
            _ => "api_error",
        };
        let message = reply["message"].as_str().unwrap_or(kind);
        let error = json!({ "type": "error", "error": { "type": kind, "message": message } });
        return whole(connection, status, &error, &reply["headers"]);
    }
    let message = message(reply, body, number);
    if body["stream"] != true {
        return whole(connection, 200, &message, &Value::Null);
    }
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    connection.write_all(head.as_bytes())?;
    for (at, event) in (0_u64..).zip(events(&message)) {
        if reply["cut_after"].as_u64() == Some(at) {
            return Ok(());
        }
        if reply["hang_after"].as_u64() == Some(at) {
            // For as long as the other side listens.
            return connection.read(&mut [0]).map(|_| ());
        }
        let error = (at == 1).then(|| reply.get("sse_error")).flatten();
        match error {
            Some(error) => {
                chunk(connection, &json!({ "type": "error", "error": error }))?;
                break;
            }
            None => chunk(connection, &event)?,
        }
    }
    connection.write_all(b"0\r\n\r\n")
}

fn whole(connection: &mut TcpStream, status: u64, body: &Value, headers: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let mut head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n");
    for (name, value) in headers.as_object().into_iter().flatten() {
        head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap_or_default()));
    }
    connection.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
}

fn chunk(connection: &mut TcpStream, event: &Value) -> std::io::Result<()> {
    let text = format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    connection.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

fn message(reply: &Value, body: &Value, number: usize) -> Value {
    let mut blocks: Vec<Value> =
        reply["text"].as_str().map(|text| json!({ "type": "text", "text": text })).into_iter().collect();
    for tool in reply["tool_use"].as_array().into_iter().flatten() {
        // Never the id of another use, not even in a conversation that goes on in another scenario.
        let id = format!("toolu_{}", skillhook::seam::fresh_id().simple());
        blocks.push(json!({ "type": "tool_use", "id": id, "name": tool["name"], "input": tool["input"] }));
    }
    let uses_tools = reply["tool_use"].is_array();
    let mut usage = json!({
        "input_tokens": 100, "output_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
    });
    for (name, value) in reply["usage"].as_object().into_iter().flatten() {
        usage[name] = value.clone();
    }
    json!({
        "id": format!("msg_{number:04}"), "type": "message", "role": "assistant", "model": body["model"],
        "content": blocks, "stop_reason": if uses_tools { "tool_use" } else { "end_turn" },
        "stop_sequence": null, "usage": usage,
    })
}

/// The message as a stream, in the order of the real API.
fn events(message: &Value) -> Vec<Value> {
    let mut start = message.clone();
    start["content"] = json!([]);
    start["stop_reason"] = Value::Null;
    start["usage"]["output_tokens"] = json!(1);
    let mut events = vec![json!({ "type": "message_start", "message": start })];
    for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
        let (empty, kind, key, whole) = if block["type"] == "text" {
            (json!({ "type": "text", "text": "" }), "text_delta", "text", block["text"].as_str().unwrap().to_owned())
        } else {
            let mut empty = block.clone();
            empty["input"] = json!({});
            (empty, "input_json_delta", "partial_json", block["input"].to_string())
        };
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": empty }));
        let characters: Vec<char> = whole.chars().collect();
        for piece in characters.chunks(DELTA_CHARS) {
            let piece: String = piece.iter().collect();
            events
                .push(json!({ "type": "content_block_delta", "index": index, "delta": { "type": kind, key: piece } }));
        }
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    events.push(json!({
        "type": "message_delta", "usage": message["usage"],
        "delta": { "stop_reason": message["stop_reason"], "stop_sequence": null },
    }));
    events.push(json!({ "type": "message_stop" }));
    events
}
