//! The admin API against a real ledger.

use std::time::{Duration, Instant};

use serde_json::json;
use skillhook::http::api::state::PassReport;
use skillhook::model::digest::Digest;
use skillhook::model::provider::sample;
use skillhook::model::secret::SecretSet;

use crate::gateway::{Gateway, Setup, Webhook, catalogue};
use crate::wire::{Wire, exchange};

const LONG: Duration = Duration::from_secs(30);

fn secrets() -> SecretSet {
    SecretSet::new().with("webhook_secret", "hunter2")
}

fn gateway() -> Gateway {
    Gateway::start(Setup::with([Webhook::of("github", secrets())]))
}

/// A delivery that starts a task, whose id this answers.
pub fn task(gateway: &Gateway, text: &str) -> String {
    let mut sample = sample::find("github.issue_comment.created").unwrap();
    sample.body["comment"]["body"] = json!(format!("@agent analyze {text}"));
    sample.body["comment"]["author_association"] = json!("OWNER");
    sample.body["comment"]["user"] = sample.body["sender"].clone();
    let (definition, url) = (catalogue().get("github").unwrap(), "http://a/webhooks/github");
    let incoming = sample::sign(definition, &secrets(), &sample, url, text, gateway.clock.now()).unwrap();
    let fields = incoming.headers.iter();
    let fields: String =
        fields.map(|(name, value)| format!("{name}: {}\r\n", String::from_utf8_lossy(value))).collect();
    let length = incoming.body.len();
    let head = format!("POST /webhooks/github HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {length}\r\n\r\n");
    let answer = exchange(gateway.receiver, &[head.as_bytes(), &incoming.body].concat(), LONG).expect_answer();
    answer.json()["tasks"][0].as_str().unwrap().to_owned()
}

#[test]
fn lists_come_in_pages_newest_first() {
    let gateway = gateway();
    let made: Vec<String> = (0..5).map(|n| task(&gateway, &format!("number {n}"))).collect();
    let ids = |page: &serde_json::Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = gateway.get("/api/tasks?limit=3").json();
    let rest = gateway.get(&format!("/api/tasks?limit=3&before={}", first["next"].as_str().unwrap())).json();
    let seen = [ids(&first), ids(&rest)].concat();
    assert_eq!(seen, made.into_iter().rev().collect::<Vec<_>>());
    assert!(rest["next"].is_null());
    assert_eq!(ids(&gateway.get("/api/tasks?state=dead,running").json()).len(), 0);
    assert_eq!(ids(&gateway.get("/api/tasks?webhook=github&state=queued").json()).len(), 5);
    assert_eq!(gateway.get("/api/deliveries?limit=2").json()["items"].as_array().unwrap().len(), 2);
}

#[test]
fn mistakes_in_a_query_are_named() {
    let gateway = gateway();
    let hint = |path: &str| {
        let answer = gateway.get(path);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("SH0902")), "{path}");
        answer.json()
    };
    assert_eq!(hint("/api/tasks?stat=queued")["hint"], "did you mean `state`?");
    for path in ["/api/tasks?state=asleep", "/api/tasks?limit=0", "/api/tasks?before=x", "/api/events?wait=26"] {
        hint(path);
    }
    assert_eq!(gateway.get("/api/tasks/tsk_00000000000000000000000000000001").status, 404);
    assert_eq!(gateway.get("/api/webhooks/nobody").status, 404);
}

#[test]
fn a_task_is_cancelled_and_queued_again() {
    let gateway = gateway();
    let id = task(&gateway, "once");
    assert_eq!(gateway.post(&format!("/api/tasks/{id}/retry")).json()["code"], "SH0605");
    assert_eq!(gateway.post(&format!("/api/tasks/{id}/cancel")).json()["state"], "cancelled");
    assert_eq!(gateway.post(&format!("/api/tasks/{id}/retry")).json()["state"], "queued");
    let logs = gateway.get(&format!("/api/tasks/{id}/logs?from=0")).json();
    assert_eq!((&logs["ended"], logs["next"].is_number()), (&json!(false), true));
}

#[test]
fn events_are_waited_for() {
    let gateway = gateway();
    let begun = gateway.get("/api/events").json()["next"].as_u64().unwrap();
    let quiet = Instant::now();
    let nothing = gateway.get(&format!("/api/events?since={begun}&wait=1")).json();
    assert_eq!(nothing["next"].as_u64(), Some(begun), "{nothing}");
    assert!(quiet.elapsed() >= Duration::from_millis(900));
    let mut waiting = Wire::open(gateway.admin);
    let target = format!("/api/events?since={begun}&wait=25");
    let token = &gateway.token;
    let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    waiting.send(head.as_bytes());
    let id = task(&gateway, "something");
    // Sooner than the wait would end by itself: the news woke it.
    let news = waiting.answer(Duration::from_secs(20)).expect_answer();
    let items = news.json()["items"].clone();
    assert!(items.as_array().unwrap().iter().any(|item| item["kind"] == "delivery.received"), "{items}");
    let all = gateway.get(&format!("/api/events?since={begun}")).text();
    assert!(all.contains(&id), "{all}");
}

#[test]
fn a_pass_is_asked_for_and_waited_for() {
    let mut gateway = gateway();
    let mut passes = gateway.passes.take().unwrap();
    let asked = gateway.post("/api/reconcile");
    assert_eq!((asked.status, &asked.json()["status"]), (202, &json!("requested")));
    drop(passes.blocking_recv().unwrap());
    let reconciler = std::thread::spawn(move || {
        let digest = Digest::of(b"after");
        let (index_digest, revision) = (digest, digest);
        let actions = vec!["update webhook/github".to_owned()];
        let report = PassReport { index_digest, revision, actions, held: None, diagnostics: Vec::new() };
        passes.blocking_recv().unwrap().done.send(Ok(report)).unwrap();
    });
    let report = gateway.post("/api/reconcile?wait=true");
    assert_eq!((report.status, &report.json()["actions"][0]), (200, &json!("update webhook/github")));
    reconciler.join().unwrap();
    assert_eq!(gateway.post("/api/reconcile").json()["code"], "SH0410");
}

#[test]
fn health_and_metrics_tell_what_waits() {
    let gateway = gateway();
    task(&gateway, "waiting");
    let health = gateway.get("/healthz");
    assert_eq!((health.status, &health.json()["queue"]["queued"]), (200, &json!(1)), "{}", health.text());
    assert_eq!(health.json()["index"]["webhooks"], 1);
    let metrics = gateway.get("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        "skillhook_tasks{state=\"queued\"} 1",
        "skillhook_deliveries_total{outcome=\"accepted\"} 1",
        "skillhook_outbox_waiting 1",
        "skillhook_requests_total{listener=\"receiver\",status=\"2xx\"} 1",
        "skillhook_ack_duration_seconds_count 1",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line}\n{}", metrics.text());
    }
}

#[test]
fn everything_in_the_table_answers_and_is_documented() {
    let gateway = gateway();
    let routes = gateway.get("/api").json()["routes"].clone();
    for route in routes.as_array().unwrap().iter().filter(|route| route["method"] == "GET") {
        if route["path"] == "/api/stream" {
            continue; // It has no end.
        }
        let pattern = route["path"].as_str().unwrap();
        let path = pattern.replace("{id}", "github").replace(['{', '}'], "");
        let status = gateway.get(&path).status;
        // This gateway has no files and no repository, so what is in them is not to be had.
        let versions = ["/api/history", "/api/diff", "/api/plan"].contains(&path.as_str());
        let is_absent = matches!(status, 404 | 503) && pattern.contains('{') || status == 503 && path == "/api/secrets";
        let is_unversioned = versions && matches!(status, 400 | 503);
        assert!(status == 200 || is_absent || is_unversioned, "{path}: {status}");
        assert!(route["summary"].as_str().unwrap().len() > 5);
    }
    let webhook = gateway.get("/api/webhooks/github").json();
    assert_eq!(webhook["spec"]["endpoint"], "/webhooks/github");
}

#[test]
fn a_sample_is_sent_as_a_signed_delivery_and_refused_without_a_secret() {
    let bare = Webhook::of("github", SecretSet::new()).called("bare");
    let gateway = Gateway::start(Setup::with([Webhook::of("github", secrets()), bare]));
    let mut sample = sample::find("github.issue_comment.created").unwrap();
    sample.body["comment"]["body"] = json!("@agent analyze this");
    sample.body["comment"]["author_association"] = json!("OWNER");
    sample.body["comment"]["user"] = sample.body["sender"].clone();
    let body = json!({ "sample": "github.issue_comment.created", "payload": sample.body }).to_string();
    let sent = gateway.send("POST", "/api/webhooks/github/deliver", &body).json();
    let (delivery, tasks) = (sent["sent"][0]["delivery"].as_str().unwrap(), &sent["sent"][0]["tasks"]);
    assert_eq!(gateway.tasks().len(), 1, "{sent}");
    assert_eq!(gateway.tasks()[0]["id"], tasks[0]);
    let stored = gateway.get(&format!("/api/deliveries/{delivery}")).json();
    assert_eq!((&stored["peer"], &stored["outcome"]), (&json!("test"), &json!("accepted")), "{stored}");
    assert!(stored["scheme"].is_string(), "it is verified like any other: {stored}");
    // Each has an id of its own: the second one is no duplicate.
    gateway.send("POST", "/api/webhooks/github/deliver", &body);
    assert_eq!(gateway.tasks().len(), 2);
    let refused = gateway.send("POST", "/api/webhooks/bare/deliver", &body).json();
    assert_eq!((&refused["code"], gateway.tasks().len()), (&json!("SH0408"), 2), "{refused}");
}

#[test]
fn webhooks_are_searched_and_counted() {
    let called = |name: &str| Webhook::of("github", secrets()).called(name);
    let gateway = Gateway::start(Setup::with([called("deploy-one"), called("deploy-two"), called("review")]));
    let found = |query: &str| {
        let page = gateway.get(&format!("/api/webhooks?{query}")).json();
        (page["items"].as_array().map(Vec::len), page["total"].clone(), page["next"].clone())
    };
    assert_eq!(found("search=DEPLOY"), (Some(2), json!(2), json!(null)));
    assert_eq!(found("search=deploy&limit=1"), (Some(1), json!(2), json!("deploy-one")));
    assert_eq!(found("search=deploy&limit=1&after=deploy-one"), (Some(1), json!(2), json!(null)));
    // These have no conditions at all.
    assert_eq!((found("state=not_ready").1, found("state=ready").1), (json!(3), json!(0)));
    assert_eq!(gateway.get("/api/webhooks?state=asleep").json()["code"], "SH0902");
}
