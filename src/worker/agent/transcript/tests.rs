use super::*;

/// One real run of the agent program, as `MANIFEST.json` describes it.
#[derive(Deserialize)]
pub(crate) struct Recording {
    pub file: String,
    pub exit_code: i32,
    pub results: usize,
    pub types: Vec<String>,
    pub last_result: Option<Told>,
    pub permission_denials: Option<u64>,
    #[serde(skip)]
    pub stdout: Vec<u8>,
    #[serde(skip, default)]
    pub stderr: String,
}

#[derive(Deserialize)]
pub(crate) struct Told {
    pub subtype: String,
    pub is_error: bool,
    pub api_error_status: Option<u16>,
    pub num_turns: u64,
    pub total_cost_usd: f64,
    pub result: Option<String>,
}

impl Recording {
    pub(crate) fn name(&self) -> &str {
        self.file.split_once(".2.").map_or(&self.file, |(name, _)| name)
    }

    pub(crate) fn version(&self) -> &str {
        self.file.strip_prefix(self.name()).and_then(|rest| rest.get(1..8)).unwrap_or_default()
    }
}

pub(crate) fn recordings() -> Vec<Recording> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts");
    let manifest = std::fs::read(folder.join("MANIFEST.json")).unwrap();
    let mut recordings: Vec<Recording> = serde_json::from_slice(&manifest).unwrap();
    recordings.retain(|recording| recording.file.ends_with(".ndjson"));
    for recording in &mut recordings {
        recording.stdout = std::fs::read(folder.join(&recording.file)).unwrap();
        let stderr = folder.join(recording.file.replace(".ndjson", ".stderr"));
        recording.stderr = std::fs::read_to_string(stderr).unwrap_or_default();
    }
    recordings
}

#[test]
fn every_recording_is_read_as_its_manifest_says() {
    for recording in recordings() {
        let transcript = Transcript::read(&recording.stdout);
        let file = &recording.file;
        assert_eq!(transcript.started(), recording.types.iter().any(|kind| kind == "system/init"), "{file}");
        match (&recording.last_result, transcript.last_result()) {
            (None, None) => assert_eq!(transcript.session_cost_usd(), None, "{file}"),
            (Some(told), Some(last)) => {
                assert_eq!(last.subtype, told.subtype, "{file}");
                assert_eq!(last.is_error, told.is_error, "{file}");
                assert_eq!(last.api_error_status, told.api_error_status, "{file}");
                assert_eq!(last.turns, told.num_turns, "{file}");
                assert_eq!(transcript.session_cost_usd(), Some(told.total_cost_usd), "{file}");
                assert!(transcript.session_id().is_some(), "{file}");
            }
            (told, last) => panic!("{file}: told {}, read {last:?}", told.is_some()),
        }
        let results = recording.stdout.split(|byte| *byte == b'\n').filter(|line| is_result(line)).count();
        assert_eq!(results, recording.results, "{file}");
    }
}

fn recorded(file: &str) -> Transcript {
    Transcript::read(&recordings().into_iter().find(|recording| recording.file == file).unwrap().stdout)
}

fn cents_of_a_cent(usd: f64) -> i64 {
    (usd * 1e6).round() as i64
}

#[test]
fn resumed_run_costs_only_what_it_added() {
    let newer = recorded("resume.2.1.330.ndjson");
    assert_eq!(cents_of_a_cent(newer.session_cost_usd().unwrap()), 1600);
    assert_eq!(cents_of_a_cent(newer.cost_usd(0.0008).unwrap()), 800);
    let older = recorded("resume.2.1.197.ndjson");
    assert_eq!(cents_of_a_cent(older.cost_usd(0.0008).unwrap()), 1000);
    let counted = |version: &str, before| {
        let lines = format!(
            r#"{{"type":"system","subtype":"init","session_id":"s","claude_code_version":"{version}"}}
{{"type":"result","subtype":"success","is_error":false,"total_cost_usd":0.5}}"#
        );
        Transcript::read(lines.as_bytes()).cost_usd(before)
    };
    assert_eq!(counted("2.1.250", 0.25), Some(0.25));
    assert_eq!(counted("2.1.250", 0.75), Some(0.5));
    assert_eq!(counted("2.1.90", 0.25), Some(0.5));
}

#[test]
fn tokens_count_subagents_and_both_results_once() {
    let tokens = |file| {
        let tokens = recorded(file).tokens();
        (tokens.input, tokens.output)
    };
    assert_eq!(tokens("subagent-foreground.2.1.197.ndjson"), (700, 50));
    assert_eq!(tokens("subagent-foreground.2.1.330.ndjson"), (700, 50));
    assert_eq!(tokens("two-results-background-subagent.2.1.197.ndjson"), (400, 80));
    assert_eq!(tokens("two-results-background-subagent.2.1.330.ndjson"), (400, 80));
    assert_eq!(tokens("resume.2.1.330.ndjson"), (100, 20));
    assert_eq!(tokens("sigkill-group-while-bash.2.1.330.ndjson").0, 100);
}

#[test]
fn empty_result_falls_back_to_what_was_said_last() {
    let lines = r#"{"type":"assistant","message":{"id":"1","content":[{"type":"text","text":"Hello."}]},"parent_tool_use_id":null}
{"type":"assistant","message":{"id":"2","content":[{"type":"text","text":"inner"}]},"parent_tool_use_id":"toolu_1"}
{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":""}"#;
    assert_eq!(Transcript::read(lines.as_bytes()).answer(), "Hello.");
}

#[test]
fn foreign_lines_are_passed_over() {
    let mut transcript = Transcript::default();
    for line in ["", "[SandboxDebug] x", "{broken", "[]", r#"{"type":7}"#, r#"{"type":"hologram"}"#, "\u{0}\u{1}", "{}"]
    {
        assert_eq!(transcript.accept(line.as_bytes()), [], "{line}");
    }
    assert_eq!(transcript.accept(&[0xff, 0xfe, b'{']), []);
}

#[test]
fn fields_of_the_wrong_kind_do_no_harm() {
    let mut transcript = Transcript::default();
    for line in [
        r#"{"type":"assistant","message":"text"}"#,
        r#"{"type":"assistant","message":{"content":[7,null,{"type":"text","text":[]}]}}"#,
        r#"{"type":"system","subtype":"init","session_id":7,"skills":{}}"#,
        r#"{"type":"system","subtype":"api_retry","attempt":"x","retry_delay_ms":-3}"#,
        r#"{"type":"result","subtype":[],"is_error":"no","errors":"x","permission_denials":7,"modelUsage":[]}"#,
    ] {
        transcript.accept(line.as_bytes());
    }
    // A result that does not say that it is no error is one.
    assert!(transcript.last_result().unwrap().is_error);
}

#[test]
fn long_texts_and_inputs_are_cut_at_characters() {
    let long = "ä".repeat(TEXT_BYTES_MAX);
    let line = format!(
        r#"{{"type":"assistant","message":{{"content":[{{"type":"text","text":"{long}"}},{{"type":"tool_use","name":"Bash","input":{{"command":"{long}"}}}}]}}}}"#
    );
    let mut transcript = Transcript::default();
    let events = transcript.accept(line.as_bytes());
    assert!(matches!(&events[0], Event::Text { text, .. } if text.len() == TEXT_BYTES_MAX));
    assert!(matches!(&events[1], Event::ToolUse { input, .. } if input.chars().count() == INPUT_CHARS_MAX + 1));
}
