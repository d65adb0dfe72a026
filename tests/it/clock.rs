//! Clocks that jump between two starts: retries come neither early nor never, and what was seen stays seen.

use std::path::Path;

use serde_json::{Value, json};

use crate::service::{SECRET, SOON, Service, sign, wait_for};

/// Where distributions put the library that shows another time to a program.
const LIBRARIES: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"];

/// Seconds by which the clock of a start differs from the true one.
const JUMPS: [i64; 4] = [0, -3600, 86_400, -10 * 365 * 86_400];

const SKILLS: [(&str, &str); 2] = [("steady", "github"), ("talk", "slack")];

#[tokio::test]
async fn jumps_of_the_clock_lose_no_retry_and_forget_no_delivery() {
    let Some(library) = LIBRARIES.into_iter().find(|library| Path::new(library).exists()) else {
        assert!(std::env::var("CI").is_err(), "the package faketime is not installed");
        eprintln!("libfaketime is not here: jumps of the clock are passed over");
        return;
    };
    let mut service = Service::prepared(json!({})).await;
    for (name, provider) in SKILLS {
        service.write_skill(name, &skill(name, provider));
    }
    service.set_env("LD_PRELOAD", library);
    // Only what calendars say jumps; the time that passes does not.
    service.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let good = |number: usize| format!("good-{number}");
    for (number, jump) in JUMPS.into_iter().enumerate() {
        service.set_env("FAKETIME", &format!("{jump:+}s"));
        service.plan(json!({}));
        service.start();
        service.wait_ready().await;
        // What the start before left waiting for its second attempt gets it now.
        service.wait_tasks_done(2 * number, SOON).await;
        for earlier in 0..number {
            let (status, answer) = send(&service, earlier, &good(earlier)).await;
            assert_eq!((status, &answer["status"]), (200, &json!("duplicate")), "after a jump of {jump} s: {answer}");
        }
        assert_eq!(send(&service, number, &good(number)).await.0, 202);
        service.wait_tasks_done(2 * number + 1, SOON).await;
        assert_windows_follow_the_clock(&service, jump).await;

        service.plan(json!({ "mode": "exit", "exit_code": 3 }));
        assert_eq!(send(&service, 100 + number, &format!("failing-{number}")).await.0, 202);
        wait_for("a failed attempt", || async {
            service.tasks().await.first().is_some_and(|task| task["state"] == "queued" && task["attempt"] == 1)
        })
        .await;
        assert!(service.terminate(), "the service did not end well");
    }
    service.set_env("FAKETIME", "+0s");
    service.plan(json!({}));
    service.start();
    service.wait_ready().await;
    let all = 2 * JUMPS.len();
    service.wait_tasks_done(all, SOON).await;
    let tasks = service.tasks().await;
    assert!(tasks.len() == all && tasks.iter().all(|task| task["state"] == "succeeded"), "{tasks:?}");
    assert!(service.github.wait_for_comments(all, SOON).await);
    assert_eq!(service.github.comments().len(), all);
}

fn skill(name: &str, provider: &str) -> String {
    format!(
        "---\nname: {name}\ndescription: For tests.\nwebhook_config:\n  provider: {provider}\n  id: {name}\n  \
         secret_env_var: GITHUB_WEBHOOK_SECRET\n  command_prefix: \"@agent\"\n  default_command: look\n  retries: 9\n  \
         commands:\n    - name: look\n      description: Looks.\n      prompt_template: \"Look at {{{{ text }}}}\"\n---\n"
    )
}

async fn send(service: &Service, number: usize, id: &str) -> (u16, Value) {
    let body = crate::service::issue_comment(u64::try_from(number).unwrap(), "@agent look");
    service.deliver("/webhooks/github/steady", "issue_comment", id, &body).await.unwrap()
}

/// A signed time is fresh or stale by the service's own clock of now.
async fn assert_windows_follow_the_clock(service: &Service, jump: i64) {
    let now = jiff::Timestamp::now().as_second();
    for (signed_at, expected) in [(now + jump, 200), (now + jump + 600, 401), (now + jump - 600, 401)] {
        let body = json!({ "type": "url_verification", "challenge": "here I am" }).to_string();
        let signature = hex::encode(sign(SECRET, format!("v0:{signed_at}:{body}").as_bytes()));
        let request = service
            .client
            .post(service.url("/webhooks/slack/talk"))
            .header("content-type", "application/json")
            .header("x-slack-request-timestamp", signed_at)
            .header("x-slack-signature", format!("v0={signature}"))
            .body(body);
        let status = request.send().await.unwrap().status().as_u16();
        assert_eq!(status, expected, "signed {} s beside a clock that is {jump} s off", signed_at - now - jump);
    }
}
