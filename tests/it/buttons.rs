//! Buttons under the question whether a task may run: what Slack is shown, and what a press of one does, through the
//! real binary.

use serde_json::{Value, json};

use crate::providers::{now, prepared, send, variable};
use crate::senders::{Sent, sign};
use crate::service::{Service, wait_for};
use crate::standin::{Arrived, StandIn};

const PATH: &str = "/webhooks/slack/gated";

fn skill(allow: &str) -> String {
    let secret = variable("slack", "signing_secret");
    format!(
        "---\nname: gated\ndescription: A webhook whose work must be approved.\nwebhook_config:\n  provider: slack\n  \
         id: gated\n  secret_env_var: {secret}\n  allow: {{permission: {allow}}}\n  ack: none\n  commands:\n    \
         - {{name: fix, requires_approval: true, prompt_template: \"Fix this: {{{{ args }}}}\"}}\n    \
         - {{name: ship, requires_approval: true, approval: {{self_approval: false, expires: 1h}}, prompt_template: \"Ship {{{{ args }}}}\"}}\n    \
         - {{name: yes-please, action: approve}}\n    - {{name: no-thanks, action: reject}}\n---\n# gated\n"
    )
}

/// Slack: everything works, `U01` and `U02` are administrators, and an address for responses answers with a word.
async fn slack() -> StandIn {
    StandIn::start(|arrived, seen| {
        let body = match arrived.path.as_str() {
            path if path.contains("users.info") => {
                let admin = path.contains("user=U01") || path.contains("user=U02");
                json!({"ok": true, "user": {"is_admin": admin}})
            }
            path if path.starts_with("/response") => json!("ok"),
            _ => json!({"ok": true, "ts": format!("{}.0", seen.len())}),
        };
        (200, Vec::new(), body)
    })
    .await
}

async fn service(slack: &StandIn, allow: &str) -> Service {
    let mut service = prepared(slack, "").await;
    service.replace_settings("[providers.slack]\n", "[providers.slack]\nresponse_hosts = \"127.0.0.1\"\n");
    service.write_skill("gated", &skill(allow));
    service.start();
    service.wait_ready().await;
    service.wait_route(PATH, true).await;
    service
}

/// `U01` mentions the app in a thread of its own.
async fn asks(service: &Service, text: &str, id: &str) {
    let mut sent = Sent::of("slack.app_mention", "", id);
    let mut body: Value = serde_json::from_slice(&sent.body).unwrap();
    body["event_id"] = json!(id);
    body["event"]["text"] = json!(format!("<@UBOT> {text}"));
    body["event"]["user"] = json!("U01");
    sent.body = body.to_string().into_bytes();
    sign("slack", &mut sent, 1, now());
    let (status, answer) = send(service, PATH, &sent).await;
    assert_eq!(status, 200, "{answer}");
}

/// What Slack sends when somebody presses a button, not signed yet.
fn press(slack: &StandIn, who: &str, action: &str, value: &str, id: &str) -> Sent {
    let payload = json!({
        "type": "block_actions",
        "user": {"id": who, "username": who, "team_id": "T01"},
        "api_app_id": "A01",
        "token": "sample",
        "trigger_id": id,
        "team": {"id": "T01", "domain": "example"},
        "channel": {"id": "C01", "name": "general"},
        "container": {"type": "message", "message_ts": "1767603700.000200", "channel_id": "C01", "is_ephemeral": false},
        "message": {"type": "message", "ts": "1767603700.000200", "thread_ts": "1767603600.000100", "text": "waits"},
        "response_url": format!("{}/response/{id}", slack.base()),
        "actions": [{"type": "button", "block_id": "skillhook_approval", "action_id": action, "value": value,
            "action_ts": "1767603701.0", "text": {"type": "plain_text", "text": "Approve"}}],
    });
    let form: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish();
    Sent {
        url: String::new(),
        headers: vec![("Content-Type".into(), "application/x-www-form-urlencoded".into())],
        body: form.into_bytes(),
    }
}

async fn pressed(service: &Service, mut sent: Sent) -> (u16, String) {
    sign("slack", &mut sent, 1, now());
    send(service, PATH, &sent).await
}

async fn task(service: &Service, command: &str) -> Value {
    service.tasks().await.into_iter().find(|task| task["command"] == command).unwrap_or_default()
}

async fn wait_state(service: &Service, command: &str, state: &str) {
    wait_for(&format!("{command} to be {state}"), || async { task(service, command).await["state"] == state }).await;
}

fn questions(slack: &StandIn) -> Vec<Arrived> {
    let asked = |arrived: &Arrived| arrived.path == "/slack/chat.postMessage" && arrived.json()["blocks"].is_array();
    slack.seen().into_iter().filter(asked).collect()
}

/// What the buttons of the only question carry.
async fn carried(slack: &StandIn) -> String {
    wait_for("the question", || async { !questions(slack).is_empty() }).await;
    let question = questions(slack).remove(0).json();
    let buttons = question["blocks"][1]["elements"].as_array().unwrap().clone();
    assert_eq!(
        (buttons[0]["action_id"].as_str(), buttons[1]["action_id"].as_str()),
        (Some("skillhook_approve"), Some("skillhook_reject"))
    );
    assert_eq!(buttons[0]["value"], buttons[1]["value"]);
    assert!(question["blocks"][0]["text"]["text"].as_str().unwrap().contains("waits for an approval"), "{question}");
    assert_eq!(
        (question["channel"].as_str(), question["thread_ts"].as_str()),
        (Some("C01"), Some("1767603600.000100"))
    );
    buttons[0]["value"].as_str().unwrap().to_owned()
}

/// What was said at the address for responses to this press.
async fn response(slack: &StandIn, id: &str) -> Value {
    let path = format!("/response/{id}");
    let find = || slack.seen().into_iter().find(|arrived| arrived.path == path);
    wait_for(&format!("a response at {path}"), || async { find().is_some() }).await;
    let arrived = find().unwrap();
    assert_eq!(arrived.header("authorization"), None, "the address came with the delivery");
    arrived.json()
}

fn runs(service: &Service) -> usize {
    service.journal().iter().filter(|line| line.starts_with("start")).count()
}

#[tokio::test]
async fn button_lets_the_task_run_once_and_takes_the_place_of_the_question() {
    let slack = slack().await;
    let service = service(&slack, "any").await;
    asks(&service, "fix the build", "Ev-1").await;
    wait_state(&service, "fix", "awaiting_approval").await;
    let value = carried(&slack).await;
    let waiting = task(&service, "fix").await;
    assert_eq!(value.split(' ').next(), waiting["id"].as_str());
    assert!(waiting["prompt_digest"].as_str().unwrap().starts_with(value.split(' ').nth(1).unwrap()));

    let mut forged = press(&slack, "U02", "skillhook_approve", &value, "t-0");
    sign("slack", &mut forged, 2, now());
    assert_eq!(send(&service, PATH, &forged).await.0, 401);
    let other = format!("{} 000000000000", value.split(' ').next().unwrap());
    pressed(&service, press(&slack, "U02", "skillhook_approve", &other, "t-1")).await;
    let said = response(&slack, "t-1").await;
    assert!(said["text"].as_str().unwrap().contains("does not count"), "{said}");
    assert_eq!(said["response_type"], "ephemeral");
    for strange in ["", "skillhook", "tsk_1 2", &format!("{value}0 x")] {
        pressed(&service, press(&slack, "U02", "skillhook_approve", strange, &format!("t-{}", strange.len() + 90)))
            .await;
    }
    pressed(&service, press(&slack, "U02", "another_button", &value, "t-2")).await;
    assert_eq!((task(&service, "fix").await["state"].as_str(), runs(&service)), (Some("awaiting_approval"), 0));

    let (status, answer) = pressed(&service, press(&slack, "U02", "skillhook_approve", &value, "t-3")).await;
    assert_eq!((status, answer.as_str()), (200, ""), "Slack wants an empty answer within its three seconds");
    wait_state(&service, "fix", "succeeded").await;
    let said = response(&slack, "t-3").await;
    assert!(said["text"].as_str().unwrap().contains("was approved by `U02`"), "{said}");
    assert_eq!(said["replace_original"], true);
    wait_for("the answer", || async {
        slack
            .seen()
            .iter()
            .any(|arrived| arrived.json()["text"].as_str().is_some_and(|text| text.contains("This is the answer.")))
    })
    .await;
    pressed(&service, press(&slack, "U01", "skillhook_reject", &value, "t-4")).await;
    let said = response(&slack, "t-4").await;
    assert!(said["text"].as_str().unwrap().contains("decided before"), "{said}");
    assert_eq!((said["replace_original"].as_bool(), runs(&service)), (Some(false), 1));
}

#[tokio::test]
async fn button_is_held_to_the_same_terms_as_words() {
    let slack = slack().await;
    let service = service(&slack, "write").await;
    asks(&service, "ship it", "Ev-1").await;
    wait_state(&service, "ship", "awaiting_approval").await;
    let value = carried(&slack).await;
    pressed(&service, press(&slack, "U01", "skillhook_approve", &value, "t-1")).await;
    let said = response(&slack, "t-1").await;
    assert!(said["text"].as_str().unwrap().contains("somebody else has to approve it"), "{said}");
    // Who may not start runs may not approve them.
    pressed(&service, press(&slack, "U09", "skillhook_approve", &value, "t-2")).await;
    wait_for("the stranger to be refused", || async {
        service.tasks().await.iter().any(|task| task["command"] == "yes-please" && task["state"] == "refused")
    })
    .await;
    assert_eq!(task(&service, "ship").await["state"], "awaiting_approval");
    pressed(&service, press(&slack, "U02", "skillhook_reject", &value, "t-3")).await;
    wait_state(&service, "ship", "refused").await;
    let said = response(&slack, "t-3").await;
    assert!(said["text"].as_str().unwrap().contains("was rejected by `U02`"), "{said}");
    assert_eq!(runs(&service), 0);
}
