//! Runs of agent programs: what they may do to the service, and what is left of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failure outside a test function fails the test that calls it"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skillhook::error::Code;
use skillhook::worker::agent::sandbox::Mode;
use skillhook::worker::agent::{
    AgentConfig, AgentRun, Credential, Event, Exit, Limits, Outcome, Recovered, RunReport, RunRequest, Sandbox,
    Session, StopReason, ToolProfile, recover,
};

const SKILLHOOK: &str = env!("CARGO_BIN_EXE_skillhook");
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// No wait in these tests is longer than this, on however slow a machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place for one run of the fake agent.
struct Place {
    dir: tempfile::TempDir,
    config: AgentConfig,
}

impl Place {
    fn new(plan: Value) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        std::fs::create_dir(root.join("work")).unwrap();
        let mut plan = plan;
        plan["journal"] = json!(root.join("shared/journal"));
        std::fs::create_dir(root.join("shared")).unwrap();
        std::fs::write(root.join("shared/plan.json"), plan.to_string()).unwrap();
        let config = AgentConfig {
            program: fake_agent(),
            leading_args: Vec::new(),
            supervisor: SKILLHOOK.into(),
            path: PATH.to_owned(),
            config_dir: root.join("state"),
            credential: Some(Credential {
                variable: "ANTHROPIC_API_KEY".to_owned(),
                value: "sk-test".to_owned().into(),
            }),
            base_url: None,
            extra_env: [("FAKE_AGENT_PLAN".to_owned(), text(&root.join("shared/plan.json")))].into(),
            sandbox: Sandbox::detect(Mode::Auto, PATH).unwrap(),
            read_also: Vec::new(),
            write_also: vec![root.join("shared")],
            limits: Limits { stdout_bytes_max: 8 * 1024 * 1024, ..Limits::default() },
        };
        Place { dir, config }
    }

    fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Place {
        change(&mut self.config.limits);
        self
    }

    /// Without a namespace of its own: the supervisor alone has to find what is left, and process ids are the host's.
    fn without_namespace(mut self) -> Place {
        self.config.sandbox = Sandbox::Off { reason: "a test".to_owned() };
        self
    }

    fn attempt(&self) -> PathBuf {
        self.dir.path().join("attempt")
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    async fn start(&self) -> AgentRun {
        AgentRun::start(&self.config, request(), &self.attempt(), &self.work()).await.unwrap()
    }

    async fn run(&self) -> RunReport {
        self.start().await.wait().await
    }

    fn journal(&self) -> Vec<String> {
        let journal = std::fs::read_to_string(self.dir.path().join("shared/journal")).unwrap_or_default();
        journal.lines().map(str::to_owned).collect()
    }

    /// Waits until the journal has such a line, and answers the process id in it.
    fn journalled(&self, what: &str) -> Option<i32> {
        let mut pid = None;
        wait_for(what, || {
            let journal = self.journal();
            let line = journal.iter().find(|line| line.starts_with(what));
            pid = line.and_then(|line| line.split(' ').nth(2)?.parse().ok());
            line.is_some()
        });
        pid
    }

    /// Processes that carry the mark of this attempt.
    fn living(&self) -> Vec<i32> {
        let mark = format!("SKILLHOOK_ATTEMPT={}", self.attempt().display());
        let marked = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
        };
        pids().into_iter().filter(marked).collect()
    }

    fn assert_nothing_left(&self) {
        assert_eq!(self.living(), [0_i32; 0], "processes are left of the run");
        assert!(!self.attempt().join("home").exists() && !self.attempt().join("tmp").exists());
    }
}

fn pids() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn fake_agent() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    me.ancestors().nth(2).unwrap().join("examples/fake-agent")
}

fn request() -> RunRequest {
    RunRequest {
        prompt_untrusted: "a stranger wrote this".to_owned(),
        instruction: "Say hello.".to_owned(),
        agent: None,
        session: Session::New(uuid::Uuid::from_u128(7)),
        model: None,
        tools: ToolProfile::reader(),
        max_turns: 3,
        budget_usd: 1.0,
        timeout: None,
        mcp_config: None,
        session_cost_before_usd: 0.0,
        fence: uuid::Uuid::from_u128(0xfe0ce),
    }
}

/// Waits for a state; a test that waits too long has failed.
fn wait_for(what: &str, mut state: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let (_never, pause) = std::sync::mpsc::sync_channel::<()>(0);
    while !state() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        let _ = pause.recv_timeout(Duration::from_millis(10));
    }
}

fn failure(report: &RunReport) -> (Code, bool) {
    match &report.outcome {
        Outcome::Failed { code, retry, .. } => (*code, *retry),
        other => panic!("{other:?} is no failure"),
    }
}

fn succeeded(report: &RunReport) -> &str {
    match &report.outcome {
        Outcome::Succeeded { text, .. } => text,
        other => panic!("{other:?} is no success: {report:?}"),
    }
}

fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// The supervisor of this place's agent.
fn parent_of(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn answer_arrives_with_its_session_cost_and_events() {
    let place = Place::new(json!({ "text": "hello", "task": "t1" }));
    let mut run = place.start().await;
    let mut events = run.events().unwrap();
    let report = run.wait().await;
    assert_eq!(succeeded(&report), "hello");
    assert_eq!(report.session_id.as_deref(), Some("00000000-0000-0000-0000-000000000007"));
    assert_eq!((report.cost_usd, report.turns, report.exit), (Some(0.25), 1, Some(Exit::Code(0))));
    assert_eq!((report.tokens.input, report.tokens.output), (10, 2));
    assert_eq!(report.notes, [""; 0]);
    let mut seen = Vec::new();
    while let Some(event) = events.recv().await {
        seen.push(event);
    }
    let used = |event: &Event| matches!(event, Event::Used { tokens } if tokens.output > 0);
    assert!(seen.iter().any(used), "{seen:?}");
    seen.retain(|event| !matches!(event, Event::Used { .. }));
    assert!(matches!(
        seen.as_slice(),
        [Event::Started { .. }, Event::Text { .. }, Event::Result { is_error: false, .. }]
    ));
    assert!(place.journal()[0].starts_with("start t1 ") && place.journal().contains(&"done t1".to_owned()));
    place.assert_nothing_left();
    let recorded: Value = serde_json::from_slice(&std::fs::read(place.attempt().join("exit.json")).unwrap()).unwrap();
    assert_eq!(recorded["exit"], json!({ "code": 0 }));
}

#[tokio::test]
async fn run_sees_nothing_of_the_services_environment_and_gets_its_prompt_by_stdin() {
    let place = Place::new(json!({ "mode": "echo" }));
    let report = place.run().await;
    let echo: Value = serde_json::from_str(succeeded(&report)).unwrap();
    let env = echo["env"].as_object().unwrap();
    for name in ["CARGO_MANIFEST_DIR", "CARGO", "USER", "LD_LIBRARY_PATH", "RUST_BACKTRACE"] {
        assert!(!env.contains_key(name), "{name} leaked");
    }
    assert_eq!(env["ANTHROPIC_API_KEY"], "sk-test");
    assert_eq!(env["HOME"], text(&place.attempt().join("home")));
    assert!(!echo["args"].to_string().contains("stranger") && !echo["args"].to_string().contains("sk-test"));
    assert!(echo["blocks"][0].as_str().unwrap().contains("a stranger wrote this"));
    assert!(echo["blocks"][1].as_str().unwrap().starts_with("Say hello."));
    for entry in std::fs::read_dir(place.attempt()).unwrap().flatten() {
        let kept = std::fs::read(entry.path()).unwrap();
        let name = entry.file_name();
        let secret = kept.windows(7).any(|window| window == b"sk-test");
        assert!(!secret || name == "stdout.ndjson", "{name:?} holds the credential");
    }
}

#[tokio::test]
async fn missing_program_is_said_before_anything_starts() {
    let mut place = Place::new(json!({}));
    place.config.program = "no-such-agent".into();
    let error = AgentRun::start(&place.config, request(), &place.attempt(), &place.work()).await.err().unwrap();
    assert_eq!(error.code(), Code::AgentMissing);
}

#[tokio::test]
async fn program_that_cannot_be_executed_is_missing_too() {
    use std::os::unix::fs::PermissionsExt;
    let mut place = Place::new(json!({}));
    let program = place.work().join("agent");
    std::fs::write(&program, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    place.config.program = program;
    place.config.sandbox = Sandbox::Off { reason: "a test".to_owned() };
    assert_eq!(failure(&place.run().await), (Code::AgentMissing, false));
    place.assert_nothing_left();
}

#[tokio::test]
async fn missing_workspace_is_an_error_and_not_an_agent_failure() {
    let place = Place::new(json!({}));
    let error = AgentRun::start(&place.config, request(), &place.attempt(), Path::new("/no/such")).await.err().unwrap();
    assert_eq!(error.code(), Code::WorkspaceFailed);
}

#[tokio::test]
async fn used_attempt_is_not_started_beside_its_orphan() {
    let place = Place::new(json!({ "seconds": 1000 }));
    let run = place.start().await;
    place.journalled("start");
    let error = AgentRun::start(&place.config, request(), &place.attempt(), &place.work()).await.err().unwrap();
    assert_eq!(error.code(), Code::Conflict);
    assert!(place.attempt().join("home").exists(), "the living run lost its home");
    assert_eq!(recover(&place.attempt()).unwrap(), Recovered::StillRunning);
    run.cancel();
    assert_eq!(run.wait().await.outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn exit_1_fails_with_its_last_words() {
    let place = Place::new(json!({ "mode": "exit", "exit_code": 1, "text": "error: unknown option '--x'" }));
    let report = place.run().await;
    assert_eq!(failure(&report), (Code::AgentFailed, false));
    assert_eq!(report.exit, Some(Exit::Code(1)));
    assert!(matches!(&report.outcome, Outcome::Failed { message, .. } if message.contains("unknown option")));
    place.assert_nothing_left();
}

#[tokio::test]
async fn deadline_ends_a_run_that_listens_to_nothing() {
    let plan = json!({ "seconds": 1000, "ignore_interrupt": true, "ignore_terminate": true, "grandchildren": 2 });
    let place = Place::new(plan).limits(|limits| limits.total = Duration::from_secs(2));
    let run = place.start().await;
    let report = run.wait().await;
    assert_eq!(failure(&report), (Code::AgentTimeout, true));
    assert_eq!(report.stopped, Some(StopReason::TotalTimeout));
    place.assert_nothing_left();
}

#[test]
fn by_default_a_run_is_killed_within_5_seconds_of_its_deadline() {
    let limits = Limits::default();
    assert!(limits.interrupt_grace + limits.terminate_grace < Duration::from_secs(5));
}

#[tokio::test]
async fn silence_and_a_late_start_have_their_own_deadlines() {
    let idle = Place::new(json!({ "seconds": 1000 })).limits(|limits| limits.idle = Duration::from_millis(500));
    let report = idle.run().await;
    assert_eq!((failure(&report).0, report.stopped), (Code::AgentTimeout, Some(StopReason::IdleTimeout)));
    // It was interrupted in order, so it could still say what it cost.
    assert_eq!(report.session_cost_usd, Some(0.125));
    let start = Place::new(json!({ "mode": "silent", "seconds": 1000, "ignore_terminate": true }))
        .limits(|limits| limits.start = Duration::from_millis(500));
    let report = start.run().await;
    assert_eq!((failure(&report).0, report.stopped), (Code::AgentTimeout, Some(StopReason::StartTimeout)));
    start.assert_nothing_left();
}

#[tokio::test]
async fn flood_is_capped_and_killed() {
    let place = Place::new(json!({ "mode": "flood", "bytes": 1_000_000_000_u64 }));
    let report = place.run().await;
    assert_eq!(failure(&report), (Code::AgentFailed, false));
    assert_eq!(report.stopped, Some(StopReason::OutputLimit));
    assert_eq!(std::fs::metadata(place.attempt().join("stdout.ndjson")).unwrap().len(), 8 * 1024 * 1024);
    place.assert_nothing_left();
}

#[tokio::test]
async fn slow_receiver_is_told_what_it_missed_and_does_not_hold_up_the_run() {
    let place = Place::new(json!({ "mode": "flood", "bytes": 7 * 1024 * 1024 }));
    let mut run = place.start().await;
    let mut events = run.events().unwrap();
    let journal = run.canceller();
    assert!(!journal.is_cancelled());
    let waiting = tokio::spawn(run.wait());
    let report = waiting.await.unwrap();
    assert_eq!(succeeded(&report), "flooded");
    assert!(report.events_skipped > 0, "{report:?}");
    let mut kept = 0;
    while events.recv().await.is_some() {
        kept += 1;
    }
    assert_eq!(kept, 256);
}

#[tokio::test]
async fn cancelling_is_polite_first_and_learns_the_cost() {
    let place = Place::new(json!({ "seconds": 1000 }));
    let run = place.start().await;
    place.journalled("start");
    run.cancel();
    let report = run.wait().await;
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert_eq!((report.exit, report.session_cost_usd), (Some(Exit::Code(1)), Some(0.125)));
    place.assert_nothing_left();
}

#[tokio::test]
async fn cancelling_ends_what_ignores_every_signal() {
    let plan = json!({ "seconds": 1000, "ignore_interrupt": true, "ignore_terminate": true, "grandchildren": 3 });
    let place = Place::new(plan).without_namespace();
    let run = place.start().await;
    let grandchild = place.journalled("grandchild").unwrap();
    run.cancel();
    let report = run.wait().await;
    assert_eq!(report.outcome, Outcome::Cancelled);
    assert!(matches!(report.exit, Some(Exit::Signal(_))), "{:?}", report.exit);
    assert!(!Path::new(&format!("/proc/{grandchild}")).exists());
    place.assert_nothing_left();
}

#[tokio::test]
async fn grandchildren_of_a_successful_run_do_not_outlive_it() {
    let plan = json!({ "grandchildren": 2, "text": "done", "seconds": 0.5 });
    let place = Place::new(plan).without_namespace();
    let report = place.run().await;
    assert_eq!(succeeded(&report), "done");
    assert!(report.notes.iter().any(|note| note.contains("outlived the agent program")), "{:?}", report.notes);
    let grandchildren = place.journal().iter().filter(|line| line.starts_with("grandchild")).count();
    assert_eq!(grandchildren, 2);
    place.assert_nothing_left();
}

#[tokio::test]
async fn garbage_and_endless_lines_are_passed_over() {
    let garbage = Place::new(json!({ "mode": "garbage" }));
    assert_eq!(failure(&garbage.run().await), (Code::AgentFailed, true));
    let line = Place::new(json!({ "mode": "long_line", "bytes": 20 * 1024 * 1024, "text": "after it" }))
        .limits(|limits| limits.stdout_bytes_max = 64 * 1024 * 1024);
    let report = line.run().await;
    assert_eq!(succeeded(&report), "after it");
    assert!(report.notes.iter().any(|note| note.contains("too long")), "{:?}", report.notes);
}

#[tokio::test]
async fn missing_result_fails_and_of_two_the_last_counts() {
    let report = Place::new(json!({ "mode": "no_result" })).run().await;
    assert_eq!((failure(&report), report.exit), ((Code::AgentFailed, true), Some(Exit::Code(0))));
    let report = Place::new(json!({ "mode": "two_results", "text": "really" })).run().await;
    assert_eq!(succeeded(&report), "really");
}

#[tokio::test]
async fn agent_that_does_not_end_after_its_result_is_killed_and_its_result_counts() {
    let place = Place::new(json!({ "text": "done", "linger_seconds": 1000, "ignore_terminate": true }))
        .limits(|limits| limits.result_grace = Duration::from_millis(300));
    let report = place.run().await;
    assert_eq!(succeeded(&report), "done");
    assert_eq!(report.stopped, Some(StopReason::ResultGrace));
    place.assert_nothing_left();
}

#[tokio::test]
async fn recorded_runs_of_the_real_program_are_reported_as_they_were() {
    let transcripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
    let replay = |file: &str, exit_code: u8, seconds: u32| {
        let path = transcripts.join(file);
        let mut place =
            Place::new(json!({ "mode": "replay", "path": path, "exit_code": exit_code, "seconds": seconds }));
        place.config.read_also.push(transcripts.clone());
        place
    };
    let denied = replay("denied-tool-exit0.2.1.330.ndjson", 0, 0).run().await;
    assert!(matches!(&denied.outcome, Outcome::Succeeded { denials, .. } if denials[0].tool == "Bash"), "{denied:?}");
    assert_eq!(failure(&replay("api-500-retry1.2.1.197.ndjson", 1, 0).run().await), (Code::AgentFailed, true));
    assert_eq!(failure(&replay("max-turns.2.1.330.ndjson", 1, 0).run().await), (Code::AgentFailed, false));
}

#[tokio::test]
async fn refused_credentials_end_the_run_at_the_first_retry() {
    let place = Place::new(json!({ "mode": "replay", "path": "", "seconds": 1000 }));
    let recording = place.dir.path().join("shared/recording");
    let retry = json!({ "type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10, "retry_delay_ms": 500.1,
                        "error_status": 401, "error": "authentication_failed" });
    std::fs::write(&recording, format!("{retry}\n")).unwrap();
    let plan = json!({ "mode": "replay", "path": recording, "seconds": 1000 });
    std::fs::write(place.dir.path().join("shared/plan.json"), plan.to_string()).unwrap();
    let report = place.run().await;
    assert_eq!(failure(&report), (Code::AgentRefused, false));
}

#[tokio::test]
async fn sandbox_keeps_the_run_to_its_places() {
    let sandbox = Sandbox::detect(Mode::Auto, PATH).unwrap();
    if matches!(sandbox, Sandbox::Off { .. }) {
        println!("passed over: {}", sandbox.describe());
        return;
    }
    let attempt = |mode: &str, path: &str| {
        let place = Place::new(json!({}));
        std::fs::write(place.dir.path().join("secret"), "secret").unwrap();
        let path = place.dir.path().join(path);
        let plan = json!({ "mode": mode, "path": path });
        std::fs::write(place.dir.path().join("shared/plan.json"), plan.to_string()).unwrap();
        place
    };
    for (mode, path, allowed) in [
        ("touch", "work/file", true),
        ("touch", "attempt/tmp/file", true),
        ("touch", "state/file", true),
        ("touch", "file", false),
        ("touch", "attempt/exit.json", false),
        ("touch", "attempt/lock", false),
        ("touch", "/etc/skillhook-test", false),
        ("read", "secret", false),
        ("read", "/etc/shadow", false),
        ("read", "/etc/hosts", true),
    ] {
        let place = attempt(mode, path);
        let report = place.run().await;
        let said = succeeded(&report);
        // A sandbox may let it write into a file of its own of that name; what counts is the real one. What the
        // agent wrote to its own `tmp` is gone with it.
        let written = std::fs::read(place.dir.path().join(path)).is_ok_and(|bytes| bytes == b"touched");
        let could = if mode == "touch" && !path.contains("tmp") { written } else { said == "done" };
        assert_eq!(could, allowed, "{mode} {path}: {said} ({})", report.sandbox);
    }
}

#[tokio::test]
async fn dropping_a_run_ends_it() {
    let place =
        Place::new(json!({ "seconds": 1000, "ignore_interrupt": true, "ignore_terminate": true, "grandchildren": 1 }));
    let run = place.start().await;
    place.journalled("grandchild");
    drop(run);
    // The runtime must get a chance to let go of the pipe.
    tokio::task::yield_now().await;
    tokio::task::spawn_blocking(move || {
        wait_for("the end of all processes", || place.living().is_empty());
        let found = recovered(&place);
        assert!(matches!(found.outcome, Outcome::Interrupted { .. }), "{found:?}");
    })
    .await
    .unwrap();
}

/// Asks until the attempt's supervisor is gone.
fn recovered(place: &Place) -> RunReport {
    let mut report = None;
    wait_for("the end of the orphan", || match recover(&place.attempt()).unwrap() {
        Recovered::StillRunning => false,
        Recovered::Finished(found) => {
            report = Some(*found);
            true
        }
        Recovered::Lost => panic!("the attempt is lost"),
    });
    report.unwrap()
}

/// A service in small, in a process of its own.
fn service(place: &Place) -> Child {
    let [attempt, work, state] = ["attempt", "work", "state"].map(|name| place.dir.path().join(name));
    let mut command = Command::new(fake_agent());
    command.arg("--service").arg(SKILLHOOK).args([attempt, work, state]).arg(place.dir.path().join("shared/plan.json"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn killed_service_leaves_no_process_and_a_restart_learns_why() {
    let place =
        Place::new(json!({ "seconds": 1000, "ignore_interrupt": true, "ignore_terminate": true, "grandchildren": 2 }));
    let mut service = service(&place);
    place.journalled("grandchild");
    assert_eq!(recover(&place.attempt()).unwrap(), Recovered::StillRunning);
    service.kill().unwrap();
    service.wait().unwrap();
    let report = recovered(&place);
    assert!(matches!(report.outcome, Outcome::Interrupted { .. }), "{report:?}");
    assert_eq!(report.stopped, Some(StopReason::ServiceGone));
    assert_eq!(report.session_id.as_deref().map(str::len), Some(36));
    place.assert_nothing_left();
}

#[test]
fn result_that_came_before_the_service_was_killed_survives() {
    let place = Place::new(json!({ "text": "worth keeping", "linger_seconds": 1 }));
    let mut service = service(&place);
    place.journalled("result");
    service.kill().unwrap();
    service.wait().unwrap();
    let report = recovered(&place);
    assert_eq!(succeeded(&report), "worth keeping");
    // It was left to end by itself.
    assert_eq!((report.exit, report.stopped), (Some(Exit::Code(0)), None));
    place.assert_nothing_left();
}

#[tokio::test]
async fn killed_supervisor_takes_the_agent_with_it_and_the_rest_is_swept() {
    let place =
        Place::new(json!({ "seconds": 1000, "ignore_interrupt": true, "ignore_terminate": true, "grandchildren": 1 }));
    let mut place = place;
    // Landlock or not, the death signal is the stage's.
    place.config.sandbox = Sandbox::Off { reason: "a test".to_owned() };
    let run = place.start().await;
    let agent = place.journalled("start").unwrap();
    place.journalled("grandchild");
    kill(parent_of(agent), rustix::process::Signal::KILL);
    let report = run.wait().await;
    assert!(matches!(report.outcome, Outcome::Interrupted { .. }), "{report:?}");
    assert_eq!(report.exit, None);
    wait_for("the end of all processes", || place.living().is_empty());
    place.assert_nothing_left();
}

#[tokio::test]
async fn supervisor_that_is_told_to_end_ends_in_order() {
    let mut place = Place::new(json!({ "seconds": 1000, "ignore_interrupt": true, "grandchildren": 1 }));
    place.config.sandbox = Sandbox::Off { reason: "a test".to_owned() };
    let run = place.start().await;
    let agent = place.journalled("start").unwrap();
    place.journalled("grandchild");
    kill(parent_of(agent), rustix::process::Signal::TERM);
    let report = run.wait().await;
    assert_eq!((report.stopped, report.exit), (Some(StopReason::Signalled), Some(Exit::Signal(15))));
    place.assert_nothing_left();
}

#[tokio::test]
async fn built_in_scripted_agent_answers_through_the_whole_machinery() {
    let mut place = Place::new(json!({}));
    place.config.program = SKILLHOOK.into();
    place.config.leading_args = vec!["scripted-agent".to_owned()];
    let report = place.run().await;
    assert!(succeeded(&report).contains("no model") && succeeded(&report).contains("Say hello."));
    place.assert_nothing_left();
}
