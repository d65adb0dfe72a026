//! How calls to providers go out: with a distance between messages to one place, and with an ear for failures that
//! come with a good status. Through the real binary.

use serde_json::{Value, json};

use crate::providers::{INVOICES, PUBLIC, now, path, prepared, send, write_hook};
use crate::senders::{Sent, sign};
use crate::service::{SOON, Service, wait_for};
use crate::standin::StandIn;

const RUN: &str = "  commands:\n    - {name: run, trigger: \"*\", prompt_template: \"Answer.\"}\n";

async fn outbox_of(service: &Service, webhook: &str) -> Vec<Value> {
    let page = service.api(&format!("/api/tasks?webhook={webhook}&limit=50")).await;
    let mut calls = Vec::new();
    for task in page["items"].as_array().unwrap_or_else(|| panic!("{page}")) {
        let task = service.api(&format!("/api/tasks/{}", task["id"].as_str().unwrap())).await;
        calls.extend(task["outbox"].as_array().into_iter().flatten().cloned());
    }
    calls
}

async fn deliver(service: &Service, provider: &str, sample: &str, kind: &str) {
    let path = path(provider, kind);
    service.wait_route(&path, true).await;
    let mut sent = Sent::of(sample, &format!("{PUBLIC}{path}"), kind);
    sign(provider, &mut sent, 1, now());
    let (status, answer) = send(service, &path, &sent).await;
    assert!(status < 300, "{provider}: {status} {answer}");
}

#[tokio::test]
async fn messages_to_one_place_wait_for_their_turn_and_other_places_do_not() {
    let stand_in = StandIn::friendly().await;
    let mut service = Service::prepared(json!({"text": "It was paid twice."})).await;
    service.add_settings(&format!(
        "[providers.invoices]\napi_base = \"{}\"\napi_token_env = \"TEST_REPLY_TOKEN\"\n",
        stand_in.base()
    ));
    service.set_env("TEST_REPLY_TOKEN", "a-token-for-answers");
    service.set_env("INVOICES_WEBHOOK_SECRET", "invoices");
    let providers = service.root().join(".claude/providers");
    std::fs::create_dir_all(&providers).unwrap();
    let slow = INVOICES.replace(
        "headers: {Authorization: \"Bearer {secret:api_token}\"}}",
        "headers: {Authorization: \"Bearer {secret:api_token}\"}, rate: {spacing: [{of: \"{body:/number}\", pace: \"1/h\"}]}}",
    );
    assert_ne!(slow, INVOICES);
    let slow = slow.replace("delivery: {id: [\"{body:/number}\"]}", "delivery: {id: [], fallback: body_hash}");
    std::fs::write(providers.join("invoices.yaml"), slow).unwrap();
    service.write_skill(
        "billing",
        "---\nname: billing\ndescription: Looks into invoices.\nwebhook_config:\n  provider: invoices\n  id: billing\n  \
         secret_env_var: INVOICES_WEBHOOK_SECRET\n  allow: {permission: any}\n  command_prefix: \"@bot\"\n  commands:\n    \
         - name: check\n      prompt_template: \"Check {{ number }}\"\n---\n# Billing\n",
    );
    service.start();
    service.wait_ready().await;
    let path = "/webhooks/invoices/billing";
    service.wait_route(path, true).await;
    for (number, remark) in [("R-1", "one"), ("R-1", "two"), ("R-1", "three"), ("R-2", "four")] {
        let remark = format!("@bot check {remark}");
        // Every delivery has an id of its own: the number stands in another place too.
        let body = json!({"what": "disputed", "number": number, "clerk": "mona", "remark": remark}).to_string();
        let mac = hex::encode(crate::service::sign("invoices", body.as_bytes()));
        let headers = vec![("content-type".into(), "application/json".into()), ("X-Invoice-Mac".into(), mac)];
        let sent = Sent { url: String::new(), headers, body: body.into_bytes() };
        assert!(send(&service, path, &sent).await.0 < 300);
    }
    service.wait_tasks_done(2, SOON).await;
    let count =
        |number: &str| stand_in.seen().iter().filter(|it| it.path == format!("/invoices/{number}/remarks")).count();
    wait_for("the first answer to each", || async { count("R-1") == 1 && count("R-2") == 1 }).await;
    let waiting = || async {
        let calls = outbox_of(&service, "billing").await;
        let held = |call: &&Value| call["state"] == "waiting" && call["error"].is_null() && call["attempts"] == 0;
        calls.iter().filter(held).filter_map(|call| call["not_before"].as_str()?.parse::<jiff::Timestamp>().ok()).max()
    };
    wait_for("the others to wait for their turn", || async {
        waiting().await.is_some_and(|at| at > jiff::Timestamp::now())
    })
    .await;
    assert_eq!((count("R-1"), count("R-2")), (1, 1));
}

#[tokio::test]
async fn slack_that_says_no_with_a_good_status_is_understood() {
    let slack = StandIn::start(|arrived, seen| {
        let before = seen.iter().filter(|it| it.path == arrived.path).count();
        let body = match (arrived.path.as_str(), before) {
            (path, _) if !path.contains("chat.postMessage") => json!({"ok": true}),
            (_, 0) => json!({"ok": false, "error": "ratelimited"}),
            (_, 1) => json!({"ok": true}),
            _ => json!({"ok": false, "error": "channel_not_found"}),
        };
        (200, Vec::new(), body)
    })
    .await;
    let mut service = prepared(&slack, "").await;
    for kind in ["later", "never"] {
        write_hook(&service, "slack", kind, RUN);
    }
    service.start();
    service.wait_ready().await;
    deliver(&service, "slack", "slack.app_mention", "later").await;
    let state =
        async |kind: &str| outbox_of(&service, &format!("{kind}-slack")).await.first().cloned().unwrap_or_default();
    wait_for("what may work later to be sent", || async { state("later").await["state"] == "sent" }).await;
    assert_eq!(state("later").await["attempts"], 2);
    deliver(&service, "slack", "slack.app_mention", "never").await;
    wait_for("what never works to be given up", || async { state("never").await["state"] == "failed" }).await;
    let given_up = state("never").await;
    assert_eq!(
        (given_up["attempts"].as_u64(), given_up["error"]["code"].as_str()),
        (Some(1), Some("SH0801")),
        "{given_up}"
    );
    assert!(given_up["error"]["message"].as_str().unwrap().ends_with(": channel_not_found"), "{given_up}");
}

#[tokio::test]
async fn linear_that_answers_errors_with_a_good_status_is_understood() {
    let linear = StandIn::start(|_, _| {
        let error = json!({"message": "Entity not found: Issue", "extensions": {"code": "INPUT_ERROR"}});
        (200, Vec::new(), json!({"data": null, "errors": [error]}))
    })
    .await;
    let mut service = prepared(&linear, "").await;
    write_hook(&service, "linear", "errors", RUN);
    service.start();
    service.wait_ready().await;
    deliver(&service, "linear", "linear.Comment.create", "errors").await;
    let state = async || outbox_of(&service, "errors-linear").await.first().cloned().unwrap_or_default();
    wait_for("the answer to be given up", || async { state().await["state"] == "failed" }).await;
    let given_up = state().await;
    assert!(given_up["error"]["message"].as_str().unwrap().contains("Entity not found"), "{given_up}");
    assert_eq!(linear.seen().len(), 1, "what never works is not tried again");
}
