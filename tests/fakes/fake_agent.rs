//! A real little agent program for the tests. It speaks the protocol of the real one and behaves as its plan says.
//!
//! The plan is JSON, from the file that `FAKE_AGENT_PLAN` names, and over it whatever follows the word `fake-agent:`
//! in the message, for example `fake-agent:{"mode":"exit","exit_code":3}`. Without a plan it answers with success.
//!
//! | `mode` | what it does |
//! |---|---|
//! | `answer` | says `text` (or what it was asked), waits `seconds`, gives a result |
//! | `echo` | its result is JSON: arguments, environment, blocks of the message |
//! | `replay` | prints the file `path`, then waits `seconds` |
//! | `silent` | prints nothing at all for `seconds` |
//! | `flood` | prints `bytes` of assistant text, then a result |
//! | `long_line` | prints one line of `bytes`, then a result |
//! | `garbage` | prints lines that are no JSON, then waits `seconds` and ends without a result |
//! | `no_result` | says it is up and ends |
//! | `two_results` | gives a wrong result, then the right one |
//! | `exit` | writes `text` to standard error and exits with `exit_code` at once |
//! | `touch` | writes the file `path` and answers whether it could |
//! | `read` | reads the file `path` and answers whether it could |
//! | `call` | calls the service's tools as `calls` says (`[{name, input}]`), then as `answer` |
//! | `connect` | asks the socket file `path` for `text` and answers what it said first |
//!
//! Also `ignore_interrupt`, `ignore_terminate`, `linger_seconds` (does not end after its result), `grandchildren` (so many
//! processes that leave the session and hold the output open), `stderr` (is written there), `task` (its name in the
//! journal), `journal` (a file to which `start TASK PID`, `grandchild TASK PID` and `done TASK` are appended).
//!
//! `fake-agent --service …` is a service in small that can be killed: it starts a run and waits for it.

use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Plan {
    mode: Mode,
    text: Option<String>,
    task: Option<String>,
    journal: Option<PathBuf>,
    path: PathBuf,
    seconds: f64,
    linger_seconds: f64,
    bytes: usize,
    exit_code: u8,
    stderr: String,
    ignore_interrupt: bool,
    ignore_terminate: bool,
    grandchildren: u32,
    calls: Vec<Call>,
}

#[derive(Clone, Debug, Deserialize)]
struct Call {
    name: String,
    input: Value,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Answer,
    Echo,
    Replay,
    Silent,
    Flood,
    LongLine,
    Garbage,
    NoResult,
    TwoResults,
    Exit,
    Touch,
    Read,
    Call,
    Connect,
}

enum Heard {
    Message(Value),
    Interrupt(Value),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--leave-session") => leave_session(&args[1..]),
        Some("--linger") => linger(&args[1..]),
        Some("--service") => service(&args[1..]),
        _ => agent(&args),
    }
}

fn agent(args: &[String]) -> ExitCode {
    let mut plan = plan_of_environment();
    if plan.mode == Mode::Silent {
        return silent(&plan);
    }
    let heard = listen();
    let session_id = session_id(args);
    if plan.mode != Mode::Exit {
        say(&json!({ "type": "system", "subtype": "init", "session_id": session_id, "model": "fake", "skills": [],
                     "agents": [], "claude_code_version": "2.1.330" }));
    }
    let Ok(Heard::Message(message)) = heard.recv() else { return ExitCode::from(64) };
    let blocks = blocks(&message);
    plan = plan_of_words(plan, &blocks.join("\n"));
    let mut run = Run { plan, blocks, args: args.to_vec(), session_id, heard };
    run.begin();
    let code = run.act();
    run.journal("done", None);
    code
}

struct Run {
    plan: Plan,
    blocks: Vec<String>,
    args: Vec<String>,
    session_id: String,
    heard: Receiver<Heard>,
}

impl Run {
    fn begin(&mut self) {
        if self.plan.ignore_terminate {
            ignore_terminate();
        }
        self.journal("start", Some(std::process::id()));
        for _ in 0..self.plan.grandchildren {
            let journal = self.plan.journal.as_deref().unwrap_or(Path::new("/dev/null"));
            let me = std::env::current_exe().expect("this program has a path");
            let child = Command::new(me).arg("--leave-session").arg(journal).arg(self.task()).status();
            assert!(child.is_ok_and(|status| status.success()), "the grandchild could not be started");
        }
        if !self.plan.stderr.is_empty() {
            let _ = writeln!(io::stderr(), "{}", self.plan.stderr);
        }
    }

    fn act(&self) -> ExitCode {
        let text = self.plan.text.clone().unwrap_or_else(|| format!("asked: {}", self.instruction()));
        match self.plan.mode {
            Mode::Answer => self.answer(&text),
            Mode::Echo => self.result(&self.echo().to_string()),
            Mode::Replay => self.replay(),
            Mode::Flood => self.flood(),
            Mode::LongLine => {
                say_raw(&vec![b'x'; self.plan.bytes]);
                say_raw(b"\n");
                self.answer(&text)
            }
            Mode::Garbage => {
                for _ in 0..100 {
                    say_raw(b"{\"type\":\"result\", broken\n\x00\xff\n[]\n");
                }
                self.wait(self.plan.seconds).unwrap_or(ExitCode::SUCCESS)
            }
            Mode::NoResult | Mode::Silent => ExitCode::SUCCESS,
            Mode::TwoResults => {
                self.result("not yet");
                self.answer(&text)
            }
            Mode::Exit => {
                let _ = writeln!(io::stderr(), "{}", self.plan.text.as_deref().unwrap_or_default());
                ExitCode::from(self.plan.exit_code)
            }
            Mode::Touch => self.result(&told(std::fs::write(&self.plan.path, "touched"))),
            Mode::Call => match call_tools(&self.args, &self.plan.calls) {
                Ok(()) => self.answer(&text),
                Err(reason) => self.answer(&reason),
            },
            Mode::Read => self.result(&told(std::fs::read(&self.plan.path).map(drop))),
            Mode::Connect => match ask(&self.plan.path, &text) {
                Ok(said) => self.result(&said),
                Err(error) => self.result(&format!("refused: {error}")),
            },
        }
    }

    fn answer(&self, text: &str) -> ExitCode {
        self.text(text);
        self.wait(self.plan.seconds).unwrap_or_else(|| self.result(text))
    }

    fn replay(&self) -> ExitCode {
        match std::fs::read(&self.plan.path) {
            Ok(bytes) => say_raw(&bytes),
            Err(error) => drop(writeln!(io::stderr(), "{error}")),
        }
        self.wait(self.plan.seconds).unwrap_or(ExitCode::from(self.plan.exit_code))
    }

    fn flood(&self) -> ExitCode {
        let line = format!("{}\n", self.text_line(&"x".repeat(16 * 1024)));
        for _ in 0..self.plan.bytes.div_ceil(line.len()) {
            say_raw(line.as_bytes());
        }
        self.result("flooded")
    }

    fn text(&self, text: &str) {
        say(&self.text_line(text));
    }

    fn text_line(&self, text: &str) -> Value {
        json!({ "type": "assistant", "session_id": self.session_id, "parent_tool_use_id": null,
                "message": { "id": "fake-1", "role": "assistant", "model": "fake",
                             "usage": { "input_tokens": 10, "output_tokens": 2 },
                             "content": [{ "type": "text", "text": text }] } })
    }

    fn result(&self, text: &str) -> ExitCode {
        let usage = json!({ "fake": { "inputTokens": 10, "outputTokens": 2, "costUSD": 0.25 } });
        say(&json!({ "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "result": text,
                     "session_id": self.session_id, "total_cost_usd": 0.25, "modelUsage": usage,
                     "model_usage_since_last_result": usage, "permission_denials": [] }));
        self.journal("result", None);
        pause(self.plan.linger_seconds);
        ExitCode::SUCCESS
    }

    /// Waits; an interrupt ends the run in order unless the plan says otherwise.
    fn wait(&self, seconds: f64) -> Option<ExitCode> {
        let end = std::time::Instant::now() + Duration::from_secs_f64(seconds);
        while let Some(left) = end.checked_duration_since(std::time::Instant::now()) {
            match self.heard.recv_timeout(left) {
                Ok(Heard::Interrupt(_)) if self.plan.ignore_interrupt => {}
                Ok(Heard::Interrupt(request)) => {
                    say(&json!({ "type": "control_response", "response": { "subtype": "success",
                                 "request_id": request["request_id"] } }));
                    say(&json!({ "type": "result", "subtype": "error_during_execution", "is_error": true,
                                 "terminal_reason": "aborted_streaming", "num_turns": 1, "total_cost_usd": 0.125,
                                 "session_id": self.session_id, "errors": ["interrupted"], "permission_denials": [] }));
                    return Some(ExitCode::FAILURE);
                }
                Ok(Heard::Message(_)) => {}
                // Standard input is closed: nobody will interrupt any more.
                Err(_) => pause(end.saturating_duration_since(std::time::Instant::now()).as_secs_f64()),
            }
        }
        None
    }

    #[expect(clippy::disallowed_methods, reason = "this is a program of its own, and the environment is the question")]
    fn echo(&self) -> Value {
        let env: serde_json::Map<String, Value> = std::env::vars().map(|(name, value)| (name, value.into())).collect();
        json!({ "args": self.args, "env": env, "blocks": self.blocks })
    }

    fn instruction(&self) -> &str {
        self.blocks.last().and_then(|text| text.lines().next()).unwrap_or_default()
    }

    fn task(&self) -> String {
        self.plan.task.clone().unwrap_or_else(|| self.session_id.clone())
    }

    fn journal(&self, what: &str, pid: Option<u32>) {
        journal(self.plan.journal.as_deref(), what, &self.task(), pid);
    }
}

/// The first line that a server on a socket file answers to a GET of this address.
fn ask(socket: &Path, address: &str) -> io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    write!(stream, "GET {address} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    io::BufReader::new(stream).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "this is a program of its own")]
fn plan_of_environment() -> Plan {
    let Some(path) = std::env::var_os("FAKE_AGENT_PLAN") else { return Plan::default() };
    let plan = std::fs::read(path).expect("the plan is a file");
    serde_json::from_slice(&plan).expect("the plan is JSON")
}

fn plan_of_words(plan: Plan, words: &str) -> Plan {
    let Some((_, words)) = words.split_once("fake-agent:") else { return plan };
    let Some(Ok(over)) = serde_json::Deserializer::from_str(words).into_iter::<Plan>().next() else { return plan };
    Plan { journal: over.journal.clone().or(plan.journal), task: over.task.clone().or(plan.task), ..over }
}

/// Calls tools one after the other, through the server that the arguments name; answers why one refused.
fn call_tools(args: &[String], calls: &[Call]) -> Result<(), String> {
    let path = args.iter().find_map(|arg| arg.strip_prefix("--mcp-config=")).ok_or("the run has no tools")?;
    let config = std::fs::read(path).map_err(|error| error.to_string())?;
    let config: Value = serde_json::from_slice(&config).map_err(|error| error.to_string())?;
    let server = config["mcpServers"].as_object().and_then(|all| all.values().next()).ok_or("there is no server")?;
    let words = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let arguments = server["args"].as_array().cloned().unwrap_or_default();
    let variables = server["env"].as_object().cloned().unwrap_or_default();
    let mut child = Command::new(words(&server["command"]))
        .args(arguments.iter().map(words))
        .envs(variables.iter().map(|(name, value)| (name, words(value))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (mut input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut lines = io::BufReader::new(output).lines().map_while(Result::ok);
    let mut ask = |id: usize, method: &str, params: Value| {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(input, "{request}").map_err(|error| error.to_string())?;
        let answers = lines.by_ref().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let answer = answers.into_iter().find(|answer| answer["id"] == id).ok_or("the server has ended")?;
        if id == 0 {
            let begun = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
            writeln!(input, "{begun}").map_err(|error| error.to_string())?;
        }
        let refused = !answer["error"].is_null() || answer["result"]["isError"] == true;
        if refused { Err(answer.to_string()) } else { Ok(()) }
    };
    let client = json!({ "name": "fake", "version": "1" });
    let hello = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    let mut outcome = ask(0, "initialize", hello);
    for (n, call) in calls.iter().enumerate() {
        outcome =
            outcome.and_then(|()| ask(n + 1, "tools/call", json!({ "name": call.name, "arguments": call.input })));
    }
    drop(input);
    let _ = child.wait();
    outcome
}

fn session_id(args: &[String]) -> String {
    let id = |arg: &String| arg.strip_prefix("--session-id=").or(arg.strip_prefix("--resume=")).map(str::to_owned);
    args.iter().find_map(id).unwrap_or_else(|| "no-session".to_owned())
}

fn blocks(message: &Value) -> Vec<String> {
    let content = message["message"]["content"].as_array().cloned().unwrap_or_default();
    content.iter().filter_map(|block| block["text"].as_str()).map(str::to_owned).collect()
}

fn listen() -> Receiver<Heard> {
    let (sender, receiver) = sync_channel(16);
    thread::spawn(move || read_stdin(&sender));
    receiver
}

fn read_stdin(sender: &SyncSender<Heard>) {
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        let heard = match line["type"].as_str() {
            Some("user") => Heard::Message(line),
            Some("control_request") => Heard::Interrupt(line),
            _ => continue,
        };
        if sender.send(heard).is_err() {
            return;
        }
    }
}

fn silent(plan: &Plan) -> ExitCode {
    journal(plan.journal.as_deref(), "start", "silent", Some(std::process::id()));
    if plan.ignore_terminate {
        ignore_terminate();
    }
    pause(plan.seconds);
    ExitCode::SUCCESS
}

/// The child of the run that leaves its session, starts the one that stays, and ends: the one that stays has no parent
/// in the run any more.
#[expect(clippy::zombie_processes, reason = "that nobody of the run waits for it is the point")]
fn leave_session(args: &[String]) -> ExitCode {
    rustix::process::setsid().expect("a new process can lead a session");
    let me = std::env::current_exe().expect("this program has a path");
    // It holds the run's output open.
    Command::new(me).arg("--linger").args(args).stdin(Stdio::null()).spawn().expect("it can start");
    ExitCode::SUCCESS
}

fn linger(args: &[String]) -> ExitCode {
    ignore_terminate();
    journal(args.first().map(Path::new), "grandchild", &args[1], Some(std::process::id()));
    pause(1000.0);
    ExitCode::SUCCESS
}

/// `--service SUPERVISOR ATTEMPT CWD STATE PLAN`
fn service(args: &[String]) -> ExitCode {
    use skillhook::worker::agent::{AgentConfig, AgentRun, Limits, RunRequest, Sandbox, Session, ToolProfile};
    let [supervisor, attempt, cwd, state, plan] = args else { return ExitCode::from(64) };
    let config = AgentConfig {
        program: std::env::current_exe().expect("this program has a path"),
        leading_args: Vec::new(),
        supervisor: supervisor.into(),
        path: "/usr/bin:/bin".to_owned(),
        config_dir: state.into(),
        credential: None,
        base_url: None,
        extra_env: [("FAKE_AGENT_PLAN".to_owned(), plan.clone())].into(),
        sandbox: Sandbox::Off { reason: "a test".to_owned() },
        read_also: Vec::new(),
        write_also: Vec::new(),
        limits: Limits::default(),
    };
    let request = RunRequest {
        prompt_untrusted: "outside".to_owned(),
        instruction: "work".to_owned(),
        agent: None,
        session: Session::New(skillhook::seam::fresh_id()),
        model: None,
        tools: ToolProfile::reader(),
        max_turns: 1,
        budget_usd: 1.0,
        timeout: None,
        mcp_config: None,
        session_cost_before_usd: 0.0,
        fence: skillhook::seam::fresh_id(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match AgentRun::start(&config, request, Path::new(attempt), Path::new(cwd)).await {
            Ok(run) => {
                let report = run.wait().await;
                say(&json!({ "ended": report.outcome }));
                ExitCode::SUCCESS
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "{error:?}");
                ExitCode::FAILURE
            }
        }
    })
}

/// A handler that does nothing keeps the signal from ending this program.
fn ignore_terminate() {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        runtime.block_on(async {
            let signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
            let mut signals = signals.expect("a handler");
            let _ = sender.send(());
            while signals.recv().await.is_some() {}
        });
    });
    let _ = receiver.recv();
}

fn journal(path: Option<&Path>, what: &str, task: &str, pid: Option<u32>) {
    let Some(path) = path else { return };
    let line = match pid {
        Some(pid) => format!("{what} {task} {pid}\n"),
        None => format!("{what} {task}\n"),
    };
    // One write of one line, so that lines of several processes do not mix.
    let file = OpenOptions::new().append(true).create(true).open(path);
    let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
}

fn told(result: io::Result<()>) -> String {
    result.map_or_else(|error| format!("refused: {error}"), |()| "done".to_owned())
}

fn say(line: &Value) {
    say_raw(format!("{line}\n").as_bytes());
}

/// A reader that is gone ends the program, as it does the real one.
fn say_raw(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(141);
    }
}

fn pause(seconds: f64) {
    let (_sender, receiver) = sync_channel::<()>(0);
    let _ = receiver.recv_timeout(Duration::from_secs_f64(seconds));
}
