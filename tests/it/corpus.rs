//! Recorded deliveries of every sender, and sequences of them, through the whole receiver. The recordings lie outside
//! of this repository; where they are absent, that is said and passed over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use skillhook::model::provider::sample::{self, Sample};
use skillhook::model::secret::SecretSet;
use skillhook::seam::Clock;

use crate::gateway::{Gateway, Setup, Webhook, catalogue, triggered};
use crate::wire::{Answer, Wire};

fn corpus() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/providers/corpus");
    if !path.join("manifest.jsonl").exists() {
        say("passed over: the recorded deliveries are not here");
        return None;
    }
    Some(path)
}

#[expect(clippy::print_stderr, reason = "a test that passes over something says so")]
fn say(what: &str) {
    eprintln!("{what}");
}

fn lines(path: PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn headers(value: &Value) -> BTreeMap<String, String> {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap().to_owned())).collect()
}

/// A secret in the slot that verifies, in the form that its sender uses.
fn secrets(provider: &str) -> SecretSet {
    let slot = catalogue().get(provider).unwrap().primary_slot().unwrap().to_owned();
    let value = match provider {
        "standard_webhooks" | "svix" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        _ => "a-secret-of-some-length",
    };
    SecretSet::new().with(slot, value)
}

/// Runs a task for whatever happens.
fn webhook(provider: &str) -> Webhook {
    let all = triggered("all", "*", "{{event_type}} by {{actor}} at {{resource}}: {{text}} {{payload}}");
    Webhook::of(provider, secrets(provider)).with("/commands", json!([all])).with("/allow/permission", json!("any"))
}

/// Sends as the sender would: signed over the bytes as they are; `None` when there is no way to sign.
fn send(gateway: &Gateway, path: &str, sample: &Sample, id: &str, tamper: bool) -> Option<Answer> {
    let definition = catalogue().get(&sample.provider).unwrap();
    let (url, now) = (format!("http://hooks.example.com{path}"), gateway.clock.now());
    let incoming = sample::sign(definition, &secrets(&sample.provider), sample, &url, id, now).ok()?;
    let target = incoming.url.trim_start_matches("http://hooks.example.com");
    let mut head = format!("{} {target} HTTP/1.1\r\nHost: hooks.example.com\r\nConnection: close\r\n", incoming.method);
    for (name, value) in incoming.headers.iter() {
        let mut value = String::from_utf8_lossy(value).into_owned();
        if tamper && name.contains("signature") {
            value = value.replace(|c: char| c.is_ascii_hexdigit(), "0");
        }
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", incoming.body.len()));
    let mut wire = Wire::open(gateway.receiver);
    wire.send(&[head.as_bytes(), &incoming.body].concat());
    Some(wire.answer(Duration::from_secs(10)).expect_answer())
}

fn sample(provider: &str, headers: &BTreeMap<String, String>, body: Value) -> Sample {
    let mut headers: Vec<(String, String)> = headers.clone().into_iter().collect();
    if !headers.iter().any(|(name, _)| name == "content-type") {
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    Sample { provider: provider.to_owned(), event: "recorded".to_owned(), headers, form: false, body }
}

#[test]
fn every_recorded_delivery_is_taken() {
    let Some(corpus) = corpus() else { return };
    let rows = lines(corpus.join("manifest.jsonl"));
    let mut providers: Vec<&str> = rows.iter().map(|row| row["provider"].as_str().unwrap()).collect();
    providers.dedup();
    let gateway = Gateway::start(Setup::with(providers.into_iter().map(webhook)));
    let (mut taken, mut failures) = (0, Vec::new());
    for row in &rows {
        let (file, provider) = (row["file"].as_str().unwrap(), row["provider"].as_str().unwrap());
        let Ok(body) = serde_json::from_slice(&std::fs::read(corpus.join(file)).unwrap()) else { continue };
        let media = row["content_type"].as_str().unwrap_or("application/json");
        if !media.contains("json") {
            continue;
        }
        let sample = sample(provider, &headers(&row["headers"]), body);
        match send(&gateway, &format!("/webhooks/{provider}"), &sample, file, false) {
            Some(answer) if (200..300).contains(&answer.status) => taken += 1,
            Some(answer) => failures.push(format!("{file}: {}", answer.everything())),
            None => {}
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(taken > 250, "only {taken} of {} were sent", rows.len());
}

#[test]
fn sequences_of_deliveries_run_what_they_must_and_no_more() {
    let Some(corpus) = corpus() else { return };
    let manifest: BTreeMap<String, Value> = (lines(corpus.join("manifest.jsonl")).into_iter())
        .map(|row| (row["file"].as_str().unwrap().to_owned(), row))
        .collect();
    for sequence in lines(corpus.join("dedupe.jsonl")) {
        let name = sequence["id"].as_str().unwrap();
        let steps = sequence["steps"].as_array().unwrap();
        let provider = steps[0]["scheme"].as_str().unwrap().split(':').next().unwrap();
        let start = "2026-03-01T00:00:00Z".parse().unwrap();
        let webhooks = ["w1", "w2"].map(|id| webhook(provider).called(id));
        let gateway = Gateway::start(Setup { clock: Clock::manual(start), ..Setup::with(webhooks) });
        let mut passed = 0;
        for (n, step) in steps.iter().enumerate() {
            let at = step["dt"].as_i64().unwrap_or(0);
            gateway.clock.advance(SignedDuration::from_secs(at - passed));
            passed = passed.max(at);
            let recorded = step["file"].as_str().map(|file| (file, &manifest[file]["headers"]));
            let mut fields = recorded.map(|(_, fields)| headers(fields)).unwrap_or_default();
            fields.extend(headers(&step["headers"]));
            let body = match recorded {
                Some((file, _)) => serde_json::from_slice(&std::fs::read(corpus.join(file)).unwrap()).unwrap(),
                None => step["body"].clone(),
            };
            if let Some(id) = step["id"].as_str() {
                fields.insert("x-github-delivery".to_owned(), id.to_owned());
            }
            let own = fields.get("idempotency-key").cloned().unwrap_or_else(|| n.to_string());
            let path = format!("/webhooks/{provider}/{}", step["webhook"].as_str().unwrap());
            let before = gateway.tasks().len();
            let answer =
                send(&gateway, &path, &sample(provider, &fields, body), &own, !step["tamper"].is_null()).unwrap();
            let ran = gateway.tasks().len() - before;
            let taken = (200..300).contains(&answer.status);
            let fits = match (step["expect"].as_str(), step["expect"]["accepted_items"].as_u64()) {
                (Some("accepted"), _) => taken && ran == 1,
                (Some("duplicate"), _) => taken && ran == 0,
                (Some("rejected"), _) => !taken && ran == 0,
                (_, Some(items)) => taken && ran as u64 == items,
                (other, _) => panic!("{name}: what is {other:?}?"),
            };
            assert!(fits, "{name}, step {n}: ran {ran}, wanted {}\n{}", step["expect"], answer.everything());
        }
    }
}
