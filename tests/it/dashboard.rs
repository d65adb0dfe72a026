//! The dashboard in a real browser against the real binary. The stories are in `tests/browser`; `tests/run` installs
//! what they need. Where that is missing they are passed over with a line, except in CI.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use skillhook::model::secret::SecretSet;

use crate::gateway::{Gateway, Setup, Webhook};
use crate::ledger::{QUEUED, TASKS_A_DELIVERY, accept};
use crate::service::{SECRET, Service, own_webhook};

const CHROMIUM: &str = "/usr/bin/chromium";

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where pictures go: below the target directory, beside the test binaries.
fn pictures() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().find(|path| path.ends_with("target")).unwrap_or(&std::env::temp_dir()).join("browser")
}

/// Whether a test can run here. In CI it must.
fn can_run(needed: &[PathBuf]) -> bool {
    let missing: Vec<&PathBuf> = needed.iter().filter(|path| !path.exists()).collect();
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(missing.is_empty() || !in_ci, "missing in CI: {missing:?} (tests/run installs it)");
    if !missing.is_empty() {
        eprintln!("passed over: {missing:?} is not there (tests/run installs it)");
    }
    missing.is_empty()
}

fn browser_can_run() -> bool {
    can_run(&[CHROMIUM.into(), package().join("tests/browser/node_modules")])
}

/// Runs a story of `tests/browser` with a service.
async fn tell(story: &'static str, service: &Service) {
    tell_with(story, service, Value::Null).await;
}

async fn tell_with(story: &'static str, service: &Service, token: Value) {
    let settings = json!({
        "admin": service.admin_url(""),
        "receiver": service.url(""),
        "root": service.root(),
        "secret": SECRET,
        "token": token,
    });
    tokio::task::spawn_blocking(move || run(story, settings)).await.unwrap();
}

/// A new token, as the command line prints it where a program reads.
fn token(service: &Service, scopes: &str) -> Value {
    let output = service.command(&["token", "create", "a-person", "--scope", scopes]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    json!(String::from_utf8(output.stdout).unwrap().trim())
}

/// Shows what the story said.
fn run(story: &str, mut settings: Value) {
    settings["out"] = json!(pictures());
    settings["chromium"] = json!(CHROMIUM);
    let mut node = Command::new("node");
    node.arg(package().join("tests/browser").join(story)).env("BROWSER_TEST", settings.to_string());
    let output = node.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{story}\n{said}");
    eprintln!("{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_day_goes_well_in_a_browser() {
    if !browser_can_run() {
        return;
    }
    let service = Service::started(json!({ "text": "a finding that the agent says", "seconds": 2 })).await;
    let token = token(&service, "admin");
    tell_with("day.mjs", &service, token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_looks_sees_everything_and_reaches_it_by_keyboard() {
    if !browser_can_run() {
        return;
    }
    let service = Service::started(json!({ "text": "It is one query." })).await;
    tell("look.mjs", &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_kept_out_of_addresses() {
    if !browser_can_run() {
        return;
    }
    let service = Service::started(json!({})).await;
    let token = token(&service, "read,write");
    tell_with("sign-in.mjs", &service, token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_cannot_be_saved_and_what_is_right_is_in_force() {
    if !browser_can_run() {
        return;
    }
    let service = Service::started(json!({})).await;
    let token = token(&service, "read,write");
    tell_with("edit.mjs", &service, token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_approved_or_rejected() {
    if !browser_can_run() {
        return;
    }
    let service = Service::started(json!({})).await;
    let token = token(&service, "read,approve");
    tell_with("approve.mjs", &service, token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_read_while_it_is_written() {
    if !browser_can_run() {
        return;
    }
    let service = Service::started(json!({ "text": "There is none yet; shall I write it?", "seconds": 2 })).await;
    let token = token(&service, "read,write");
    tell_with("chat.mjs", &service, token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drafts_are_judged_as_files_are() {
    let service = Service::started(json!({})).await;
    let token = token(&service, "read");
    let judged = async |text: &str| {
        let draft = json!({ "path": ".claude/skills/own-hook/SKILL.md", "text": text });
        let request = service.client.post(service.admin_url("/api/validate")).json(&draft);
        let answer = request.bearer_auth(token.as_str().unwrap()).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let good = judged(&own_webhook("own-hook")).await;
    assert_eq!((&good["valid"], &good["diagnostics"]), (&json!(true), &json!([])), "{good}");
    assert!(good["actions"].to_string().contains("own-hook"), "{good}");
    let bad = judged(&own_webhook("own-hook").replace("provider:", "provder:")).await;
    let first = &bad["diagnostics"][0];
    assert_eq!((&bad["valid"], &first["position"]["line"]), (&json!(false), &json!(5)), "{bad}");
    assert_eq!(first["hint"], "did you mean `provider`?");
    assert!(!service.root().join(".claude/skills/own-hook").exists());
    let elsewhere = json!({ "path": "../outside", "text": "" });
    let request = service.client.post(service.admin_url("/api/validate")).json(&elsewhere);
    let answer = request.bearer_auth(token.as_str().unwrap()).send().await.unwrap();
    let outside = answer.json::<Value>().await.unwrap();
    assert_eq!((&outside["valid"], &outside["diagnostics"][0]["code"]), (&json!(false), &json!("SH0114")), "{outside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_fits_light_and_dark_wide_and_narrow() {
    if !browser_can_run() {
        return;
    }
    let mut service = Service::prepared(json!({ "text": "It is slow because of **one** query." })).await;
    service.replace_settings("[agent]\n", "[agent]\nusd_per_day = 20.0\nruns_per_day = 200\n");
    service.add_settings(&format!("[[copies]]\nto = \"dir:{}\"\n", service.dir.path().join("copy").display()));
    service.start();
    service.wait_ready().await;
    let token = token(&service, "admin");
    tell_with("screens.mjs", &service, token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_write_is_shown_as_text() {
    if !browser_can_run() {
        return;
    }
    let text =
        "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script> [x](javascript:window.hacked=1)";
    let service = Service::started(json!({ "text": text })).await;
    tell("hostile.mjs", &service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_webhooks_and_a_hundred_thousand_tasks_are_looked_through() {
    if !browser_can_run() {
        return;
    }
    let secrets = SecretSet::new().with("webhook_secret", "hunter2");
    let webhook = |n: usize| Webhook::of("github", secrets.clone()).called(&format!("w-{n:05}"));
    let gateway = Gateway::start(Setup::with((0..10_000).map(webhook)));
    for n in 0..QUEUED / TASKS_A_DELIVERY {
        gateway.ledger.accept(accept(TASKS_A_DELIVERY, &n.to_string())).await.unwrap();
    }
    let address = |address: std::net::SocketAddr| format!("http://{address}");
    let (admin, receiver) = (address(gateway.admin), address(gateway.receiver));
    let settings = json!({ "admin": admin, "receiver": receiver, "secret": "hunter2", "token": gateway.token });
    tokio::task::spawn_blocking(move || run("large.mjs", settings)).await.unwrap();
}

#[test]
fn built_files_of_the_dashboard_match_their_sources() {
    let build = package().join("src/dashboard/build");
    if !can_run(&[build.join("node_modules")]) {
        return;
    }
    let output = Command::new("node").args(["build.mjs", "--check"]).current_dir(build).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
