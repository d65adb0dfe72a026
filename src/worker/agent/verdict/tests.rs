use super::*;

fn ended(code: i32) -> Ending<'static> {
    Ending { exit: Some(Exit::Code(code)), ..Ending::default() }
}

fn judge(lines: &str, ending: &Ending<'_>) -> Outcome {
    outcome(&Transcript::read(lines.as_bytes()), ending)
}

/// The code and whether to retry.
fn failure(outcome: &Outcome) -> (Code, bool) {
    match outcome {
        Outcome::Failed { code, retry, .. } => (*code, *retry),
        other => panic!("{other:?} is no failure"),
    }
}

const ERROR_429: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"num_turns":1,"result":"API Error: 429 slow down"}"#;
const DONE: &str = r#"{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"done"}"#;

#[test]
fn success_stands_whatever_the_exit_status_and_the_reason_to_stop() {
    for ending in [
        ended(0),
        ended(1),
        Ending { exit: Some(Exit::Signal(9)), stopped: Some(StopReason::ResultGrace), ..Ending::default() },
        Ending { stopped: Some(StopReason::Cancelled), ..Ending::default() },
        Ending::default(),
    ] {
        assert_eq!(judge(DONE, &ending), Outcome::Succeeded { text: "done".to_owned(), denials: Vec::new() });
    }
}

#[test]
fn last_result_wins() {
    assert_eq!(failure(&judge(&format!("{DONE}\n{ERROR_429}\n"), &ended(1))), (Code::AgentFailed, true));
    assert!(matches!(judge(&format!("{ERROR_429}\n{DONE}\n"), &ended(1)), Outcome::Succeeded { .. }));
}

#[test]
fn reasons_to_stop_decide_where_there_is_no_success() {
    let stop = |reason| judge("", &Ending { exit: Some(Exit::Signal(15)), stopped: Some(reason), ..Ending::default() });
    assert_eq!(stop(StopReason::Cancelled), Outcome::Cancelled);
    for reason in [StopReason::TotalTimeout, StopReason::IdleTimeout, StopReason::StartTimeout] {
        assert_eq!(failure(&stop(reason)), (Code::AgentTimeout, true));
    }
    assert_eq!(failure(&stop(StopReason::CredentialsRefused)), (Code::AgentRefused, false));
    assert_eq!(failure(&stop(StopReason::OutputLimit)), (Code::AgentFailed, false));
    assert!(matches!(stop(StopReason::ServiceGone), Outcome::Interrupted { .. }));
}

#[test]
fn usage_limit_is_recognised_in_each_of_its_forms() {
    let result = |text: &str| {
        format!(r#"{{"type":"result","subtype":"success","is_error":true,"num_turns":1,"result":"{text}"}}"#)
    };
    let reset_of = |lines: &str| match judge(lines, &ended(1)) {
        Outcome::UsageLimit { reset, .. } => reset.map(Timestamp::as_second),
        other => panic!("{other:?}"),
    };
    assert_eq!(reset_of(&result("Claude AI usage limit reached|1760000000")), Some(1_760_000_000));
    assert_eq!(reset_of(&result("You've hit your limit · resets 3am (UTC)")), None);
    let event = |status: &str, resets: &str| {
        format!(r#"{{"type":"rate_limit_event","rate_limit_info":{{"status":"{status}","resetsAt":{resets}}}}}"#)
    };
    assert_eq!(reset_of(&format!("{}\n{}", event("rejected", "1760000000"), result("no"))), Some(1_760_000_000));
    assert_eq!(reset_of(&format!("{}\n{ERROR_429}", event("denied", "1760000000123"))), Some(1_760_000_000));
    assert_eq!(
        failure(&judge(&format!("{}\n{ERROR_429}", event("allowed_warning", "1")), &ended(1))).0,
        Code::AgentFailed
    );
    assert!(matches!(judge(&format!("{}\n{DONE}", event("rejected", "1")), &ended(0)), Outcome::Succeeded { .. }));
}

#[test]
fn ends_without_a_result_are_told_apart() {
    let with = |exit, stderr| judge("", &Ending { exit: Some(exit), stderr, ..Ending::default() });
    assert_eq!(with(Exit::Code(1), "Error: Session ID 1-2 is already in use."), Outcome::SessionTaken);
    assert_eq!(with(Exit::Code(1), "No conversation found with session ID: 1"), Outcome::SessionUnknown);
    assert_eq!(failure(&with(Exit::Code(1), "error: unknown option '--x'")), (Code::AgentFailed, false));
    assert_eq!(failure(&with(Exit::Code(1), "")), (Code::AgentFailed, true));
    assert_eq!(failure(&with(Exit::Code(0), "")), (Code::AgentFailed, true));
    assert_eq!(failure(&with(Exit::Signal(9), "")), (Code::AgentFailed, true));
    assert!(matches!(judge("", &Ending::default()), Outcome::Interrupted { .. }));
    let missing = Ending { start_error: Some("No such file or directory"), ..Ending::default() };
    assert_eq!(failure(&judge("", &missing)), (Code::AgentMissing, false));
}

#[test]
fn refused_credentials_are_no_reason_to_try_again() {
    let retry = r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":4,"retry_delay_ms":500.5,"error_status":401,"error":"authentication_failed"}"#;
    let stopped = Ending { stopped: Some(StopReason::CredentialsRefused), ..ended(1) };
    assert_eq!(failure(&judge(retry, &stopped)), (Code::AgentRefused, false));
    assert_eq!(failure(&judge(retry, &ended(143))), (Code::AgentRefused, false));
}

#[test]
fn sentences_are_short_single_lines() {
    let noisy = format!("first\n{}\u{7}", "x".repeat(5000));
    let Outcome::Failed { message, .. } = judge("", &Ending { stderr: &noisy, ..ended(1) }) else { panic!() };
    assert!(message.chars().count() < 400 && !message.chars().any(char::is_control), "{message}");
}

/// What each recording has to come to; recordings that are not named have to succeed.
fn expected(name: &str) -> Option<(Code, bool)> {
    Some(match name {
        "api-400" | "api-404-model" | "refusal" | "prompt-too-long" => (Code::AgentRefused, false),
        "api-401-retry1" | "credit-too-low" | "no-credentials" => (Code::AgentRefused, false),
        "api-500-retry1" | "api-529-exhausted" | "connection-refused" | "request-timeout" => (Code::AgentFailed, true),
        "max-turns" | "max-budget" => (Code::AgentFailed, false),
        "unknown-flag-stderr-only" | "verbose-missing-stderr-only" | "agent-not-found-stderr-only" => {
            (Code::AgentFailed, false)
        }
        name if name.starts_with("sig") => (Code::AgentFailed, true),
        _ => return None,
    })
}

#[test]
fn every_recording_comes_to_what_its_run_was() {
    let recordings = crate::worker::agent::transcript::recordings();
    assert!(recordings.len() > 70, "only {} recordings", recordings.len());
    for recording in recordings {
        let exit = match recording.exit_code {
            code @ ..0 => Exit::Signal(-code),
            code => Exit::Code(code),
        };
        let ending = Ending { exit: Some(exit), stderr: &recording.stderr, ..Ending::default() };
        let outcome = outcome(&Transcript::read(&recording.stdout), &ending);
        let name = recording.name();
        match (name, &outcome) {
            ("resume-unknown-session", Outcome::SessionUnknown) => {}
            ("session-id-in-use-stderr-only", Outcome::SessionTaken) => {}
            // One version answers unknown slash commands by itself, the other asks the model.
            ("unknown-slash-command", Outcome::Failed { retry: false, .. }) if recording.version() == "2.1.197" => {}
            (_, Outcome::Failed { code, retry, .. }) => {
                assert_eq!(expected(name), Some((*code, *retry)), "{}: {outcome:?}", recording.file);
            }
            (_, Outcome::Succeeded { text, denials }) => {
                assert_eq!(expected(name), None, "{}: {outcome:?}", recording.file);
                let told = recording.last_result.as_ref().and_then(|last| last.result.as_deref()).unwrap();
                assert!(told == text || told.is_empty(), "{}: {text}", recording.file);
                assert_eq!(denials.len() as u64, recording.permission_denials.unwrap(), "{}", recording.file);
            }
            (_, other) => panic!("{}: {other:?}", recording.file),
        }
    }
}
