//! The OpenAPI document against the running server: schemathesis sends what the document allows and what it forbids, and
//! looks at what comes back. `tests/run` installs it; where it is missing the tests are passed over with a line.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::service::{Service, git};

/// Below the target directory, beside the test binaries.
fn program() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().find(|path| path.ends_with("target")).unwrap();
    let program = target.join("tools/schemathesis/bin/schemathesis");
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(program.exists() || !in_ci, "{} is missing in CI (tests/run installs it)", program.display());
    if !program.exists() {
        eprintln!("passed over: {} is not there (tests/run installs it)", program.display());
    }
    program.exists().then_some(program)
}

/// What a value must be beyond its schema (a name that exists, a command with a template) is said with 400, 409 or 422.
const SETTINGS: &str = "\
[checks.positive_data_acceptance]
expected-statuses = [\"2xx\", 400, 401, 403, 404, 409, 412, 415, 422, 503]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 422, 428, 429, \"5xx\"]
";

fn token(service: &Service, scope: &str) -> String {
    let made = service.command(&["token", "create", scope, "--scope", scope]).output().unwrap();
    assert!(made.status.success());
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

async fn examine(service: &Service, program: PathBuf, token: &str, more: &[&str]) {
    let settings = service.dir.path().join("schemathesis.toml");
    std::fs::write(&settings, SETTINGS).unwrap();
    let document = service.dir.path().join("openapi.json");
    let answer = service.client.get(service.admin_url("/api/openapi.json")).bearer_auth(token).send().await.unwrap();
    std::fs::write(&document, answer.bytes().await.unwrap()).unwrap();
    let mut command = Command::new(program);
    command.arg("--config-file").arg(settings).arg("run").arg(document).args(["--url", &service.admin_url("")]);
    command.args(["-H", &format!("Authorization:Bearer {token}"), "--checks", "all", "--seed", "1", "--workers", "2"]);
    // A stream has no end; what waits for news would wait for most of the time.
    command.args(["--exclude-path", "/api/stream", "--exclude-path", "/api/events", "--no-color", "--warnings", "off"]);
    command.args(["--suppress-health-check", "all", "--request-timeout", "30"]).args(more);
    command.current_dir(service.dir.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_what_is_documented() {
    let Some(program) = program() else { return };
    let mut service = Service::started(json!({})).await;
    let token = token(&service, "admin");
    examine(&service, program, &token, &["--phases", "examples,coverage,fuzzing", "-n", "5"]).await;
    assert!(service.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_read_changes_nothing_whatever_he_tries() {
    let Some(program) = program() else { return };
    let service = Service::started(json!({})).await;
    let (admin, reader) = (token(&service, "admin"), token(&service, "read"));
    let look = async || -> (String, Value, Value) {
        let get = async |path: &str| -> Value {
            let answer = service.client.get(service.admin_url(path)).bearer_auth(&admin).send().await.unwrap();
            answer.json().await.unwrap()
        };
        let mut tokens = get("/api/tokens").await;
        for token in tokens["items"].as_array_mut().unwrap() {
            token["last_used_at"] = Value::Null;
        }
        (git(&service.root(), &["status", "--porcelain"]), tokens, get("/api/tasks").await)
    };
    let before = look().await;
    examine(&service, program, &reader, &["--phases", "stateful", "-n", "20", "--max-time", "40"]).await;
    assert_eq!(look().await, before);
}
