//! Every provider of the catalogue through the real binary: what verifies and what does not, and where answers arrive.

use std::time::Duration;

use serde_json::{Value, json};
use skillhook::model::provider::schema::SlotUse;

use crate::gateway::catalogue;
use crate::senders::{PROVIDERS, Sent, plaid_jwk, secret, sign, tampered};
use crate::service::{Service, wait_for};
use crate::standin::StandIn;

pub const PUBLIC: &str = "https://hooks.example.com";
const LONG: Duration = Duration::from_secs(120);

pub fn dashed(provider: &str) -> String {
    provider.replace('_', "-")
}

pub fn path(provider: &str, kind: &str) -> String {
    format!("/webhooks/{provider}/{kind}-{}", dashed(provider))
}

pub fn variable(provider: &str, slot: &str) -> String {
    format!("{}_{}_WEBHOOK_SECRET", provider.to_uppercase(), slot.to_uppercase())
}

/// A webhook of its own for a provider: `/webhooks/PROVIDER/KIND-PROVIDER`.
pub fn write_hook(service: &Service, provider: &str, kind: &str, rest: &str) {
    let slots = PROVIDERS.iter().find(|(name, ..)| *name == provider).unwrap().2;
    let slots: Vec<String> =
        slots.iter().map(|slot| format!("{slot}: {{env: {}}}", variable(provider, slot))).collect();
    let name = format!("{kind}-{}", dashed(provider));
    let text = format!(
        "---\nname: {name}\ndescription: A hook of a test.\nwebhook_config:\n  provider: {provider}\n  id: {name}\n  \
         secrets: {{{}}}\n  allow: {{permission: any}}\n  ack: none\n{rest}---\n# Test\n",
        slots.join(", ")
    );
    service.write_skill(&name, &text);
}

/// The settings of every provider: its API is the stand-in, below its own name.
pub fn settings(base: &str) -> String {
    let mut text = format!("[server]\npublic_url = \"{PUBLIC}\"\n");
    for definition in catalogue().iter().filter(|definition| definition.name().as_str() != "github") {
        let name = definition.name();
        text.push_str(&format!("[providers.{name}]\napi_base = \"{base}/{name}\"\n"));
        text.push_str("org = \"octo\"\nadmin_id = \"1\"\nfrom_email = \"bot@example.com\"\ndomain = \"example.com\"\n");
        text.push_str("reply_hosts = \"127.0.0.1\"\n");
        for (slot, _) in definition.slots().filter(|(_, usage)| *usage == SlotUse::Reply) {
            text.push_str(&format!("{slot}_env = \"TEST_REPLY_TOKEN\"\n"));
        }
        if name.as_str() == "twilio" {
            // It logs in with what its deliveries are signed with.
            text.push_str("auth_token_env = \"TEST_REPLY_TOKEN\"\n");
        }
    }
    text
}

pub async fn prepared(stand_in: &StandIn, more: &str) -> Service {
    let mut service = Service::prepared(json!({"text": "This is the answer."})).await;
    service.add_settings(&format!("{}{more}", settings(&stand_in.base())));
    service.set_env("TEST_REPLY_TOKEN", "a-token-for-answers");
    for (provider, _, slots, _) in PROVIDERS {
        for slot in slots {
            service.set_env(&variable(provider, slot), &secret(provider, slot, 1));
        }
    }
    service
}

pub async fn send(service: &Service, path: &str, sent: &Sent) -> (u16, String) {
    let mut request = service.client.post(service.url(path)).body(sent.body.clone());
    for (name, value) in &sent.headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

#[tokio::test]
async fn each_provider_is_believed_when_it_signs_and_never_when_somebody_tampers() {
    let target = StandIn::start(|arrived, _| {
        let body = if arrived.path.contains("webhook_verification_key") { plaid_jwk(1) } else { json!({"ok": true}) };
        (200, Vec::new(), body)
    })
    .await;
    let forward = format!(
        "[forward.seen]\nurl = \"{}/seen\"\nsecret_env = \"TEST_REPLY_TOKEN\"\nallow_private = true\n",
        target.base()
    );
    let mut service = prepared(&target, &forward).await;
    let command = "  commands:\n    - {name: pass-on, trigger: \"*\", action: forward, forward_to: seen}\n";
    for (provider, ..) in PROVIDERS {
        write_hook(&service, provider, "seen", command);
    }
    service.start();
    service.wait_ready().await;
    let mut wrong = Vec::new();
    for (provider, sample, ..) in PROVIDERS {
        let path = path(provider, "seen");
        service.wait_route(&path, true).await;
        let mut valid = Sent::of(sample, &format!("{PUBLIC}{path}"), "delivery-1");
        sign(provider, &mut valid, 1, now());
        for (what, sent) in tampered(provider, &valid, now()) {
            let (status, answer) = send(&service, &path, &sent).await;
            if status != 401 {
                wrong.push(format!("{provider}, {what}: {status} {answer}"));
            }
        }
        if !service.api(&format!("/api/tasks?webhook=seen-{}", dashed(provider))).await["items"]
            .as_array()
            .unwrap()
            .is_empty()
        {
            wrong.push(format!("{provider}: something ran that must not"));
        }
        let (status, answer) = send(&service, &path, &valid).await;
        if status != catalogue().get(provider).unwrap().document().receive.ok.status && status >= 300 {
            wrong.push(format!("{provider}, valid: {status} {answer}"));
        }
        let (_, again) = send(&service, &path, &valid).await;
        let tasks = service.api(&format!("/api/tasks?webhook=seen-{}", dashed(provider))).await;
        if tasks["items"].as_array().unwrap().len() != 1 {
            wrong.push(format!("{provider}: one delivery, sent twice, is one task: {answer} {again} {tasks}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    wait_for("every payload to be passed on", || async {
        target.seen().iter().filter(|arrived| arrived.path == "/seen").count() >= PROVIDERS.len()
    })
    .await;
    assert_eq!(target.seen().iter().filter(|arrived| arrived.path == "/seen").count(), PROVIDERS.len());
}

/// What is sent to providers that take answers, where that is not the sample of the first test.
fn asking(provider: &str, sample: &str, url: &str, stand_in: &StandIn) -> Sent {
    let mut sent = Sent::of(sample, url, &format!("to-be-answered-{}", url.len()));
    match provider {
        "custom" => {
            let body = json!({"event": "question", "id": url, "text": "why?", "reply_url": format!("{}/custom/answers", stand_in.base())});
            sent.body = body.to_string().into_bytes();
            sent.headers.retain(|(name, _)| name != "X-Event-Type");
        }
        "mailgun" => {
            let body = json!({"sender": "alice@example.com", "recipient": "bot@example.com", "subject": "Why?",
                "body-plain": "why?", "Message-Id": format!("<{url}>"), "timestamp": "0", "token": "", "signature": ""});
            sent.body = body.to_string().into_bytes();
        }
        _ => {}
    }
    sent
}

/// Whether the request posts words of ours at a provider, rather than looking something up.
fn says(arrived: &crate::standin::Arrived, provider: &str, words: &str) -> bool {
    let form: String = url::form_urlencoded::parse(&arrived.body).map(|(_, value)| value.into_owned()).collect();
    let text = format!("{} {form}", arrived.text());
    let here = arrived.path == format!("/{provider}") || arrived.path.starts_with(&format!("/{provider}/"));
    arrived.method != "GET" && here && text.contains(words)
}

#[tokio::test]
async fn each_provider_that_takes_answers_gets_each_exactly_once_and_failures_too() {
    let stand_in = StandIn::friendly().await;
    let mut service = prepared(&stand_in, "").await;
    let answered: Vec<(&str, &str)> = PROVIDERS
        .iter()
        .filter(|(name, ..)| !catalogue().get(name).unwrap().document().reply.rules.is_empty())
        // GitHub has a stand-in of its own, and tests of its own.
        .filter(|(name, ..)| *name != "github")
        .map(|(name, sample, ..)| (*name, *sample))
        .collect();
    assert!(answered.len() >= 20, "{answered:?}");
    let run = |prompt: &str| {
        format!("  retries: 0\n  commands:\n    - name: run\n      trigger: \"*\"\n      prompt_template: '{prompt}'\n")
    };
    for (provider, _) in &answered {
        write_hook(&service, provider, "good", &run("Answer."));
        write_hook(&service, provider, "bad", &run("fake-agent:{\"mode\":\"exit\",\"exit_code\":3}"));
    }
    service.start();
    service.wait_ready().await;
    for (provider, sample) in &answered {
        for kind in ["good", "bad"] {
            let path = path(provider, kind);
            service.wait_route(&path, true).await;
            let mut sent = asking(provider, sample, &format!("{PUBLIC}{path}"), &stand_in);
            sign(provider, &mut sent, 1, now());
            let (status, answer) = send(&service, &path, &sent).await;
            assert!(status < 300, "{provider}: {status} {answer}");
        }
    }
    service.wait_tasks_done(answered.len() * 2, LONG).await;
    let count =
        |provider: &str, words: &str| stand_in.seen().iter().filter(|arrived| says(arrived, provider, words)).count();
    wait_for("every answer", || async {
        answered.iter().all(|(provider, _)| count(provider, "This is the answer.") + count(provider, "failed") >= 2)
            || outbox_is_done(&service).await
    })
    .await;
    let counts: Vec<(&str, usize, usize)> = answered
        .iter()
        .map(|(provider, _)| (*provider, count(provider, "This is the answer."), count(provider, "failed")))
        .filter(|(_, answers, failures)| (*answers, *failures) != (1, 1))
        .collect();
    assert!(counts.is_empty(), "answers and failures: {counts:?}\n{:?}", troubles(&service).await);
    let strangers: Vec<String> = (stand_in.seen().iter())
        .filter(|arrived| arrived.path.starts_with("/custom/") || arrived.path.contains("@original"))
        .filter(|arrived| arrived.headers.iter().any(|(_, value)| value.contains("a-token-for-answers")))
        .map(|arrived| arrived.path.clone())
        .collect();
    assert!(strangers.is_empty(), "credentials went to an address that the payload chose: {strangers:?}");
}

pub async fn calls(service: &Service) -> Vec<Value> {
    let mut all = Vec::new();
    for task in service.tasks().await {
        let task = service.api(&format!("/api/tasks/{}", task["id"].as_str().unwrap())).await;
        all.extend(task["outbox"].as_array().into_iter().flatten().cloned());
    }
    all
}

async fn outbox_is_done(service: &Service) -> bool {
    calls(service).await.iter().all(|call| matches!(call["state"].as_str(), Some("sent" | "failed")))
}

/// What went wrong with calls, for whoever reads the failure.
async fn troubles(service: &Service) -> Vec<String> {
    let calls = calls(service).await;
    calls
        .iter()
        .filter(|call| !call["error"].is_null())
        .map(|call| format!("{} {}", call["provider"], call["error"]))
        .collect()
}

pub const INVOICES: &str = r#"schema: skillhook.provider/v1
name: invoices
title: An invoicing service of our own
secrets: {signing_key: {from: provider, required: true}, api_token: {for: reply}}
receive: {methods: [POST], max_body: 65536, deadline_ms: 5000, decode: [{type: application/json, as: json}], ok: {status: 202}}
verify: {policy: first_applicable, schemes: [{id: mac, type: hmac, hash: sha256, key: {secret: signing_key}, signature: {from: "header:X-Invoice-Mac", encoding: hex}, signed: "{raw}"}]}
event: [{name: "invoice.{body:/what}"}]
delivery: {id: ["{body:/number}"]}
text: [{from: "body:/remark", format: plain}]
actor: {id: ["{body:/clerk}"]}
resource: {id: ["{body:/number}"]}
api: {base: "https://invoices.example.com", headers: {Authorization: "Bearer {secret:api_token}"}}
ack: []
reply: {format: plain, max_chars: 500, overflow: split, rules: [{call: {method: POST, url: "{cfg:api_base}/invoices/{body:/number}/remarks", json: {remark: "{ctx:reply}"}}}]}
"#;

#[tokio::test]
async fn a_provider_that_is_only_a_yaml_file_verifies_runs_and_answers() {
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
    std::fs::write(providers.join("invoices.yaml"), INVOICES).unwrap();
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
    let body = json!({"what": "disputed", "number": "R-17", "clerk": "mona", "remark": "@bot check this"}).to_string();
    let mac = |key: &str| hex::encode(crate::service::sign(key, body.as_bytes()));
    let sent = |mac: String| Sent {
        url: String::new(),
        headers: vec![("content-type".into(), "application/json".into()), ("X-Invoice-Mac".into(), mac)],
        body: body.clone().into_bytes(),
    };
    assert_eq!(send(&service, path, &sent(mac("another"))).await.0, 401);
    assert_eq!(send(&service, path, &sent(mac("invoices"))).await.0, 202);
    wait_for("the answer", || async { !stand_in.seen().is_empty() }).await;
    let arrived = stand_in.seen().remove(0);
    assert_eq!((arrived.method.as_str(), arrived.path.as_str()), ("POST", "/invoices/R-17/remarks"));
    assert_eq!(arrived.header("authorization"), Some("Bearer a-token-for-answers"));
    assert_eq!(arrived.json()["remark"], "It was paid twice.");
    let listed = service.api("/api/providers").await.to_string();
    assert!(listed.contains("An invoicing service of our own") && listed.contains(".claude/providers/invoices.yaml"));
}

#[tokio::test]
async fn asana_gives_its_secret_once_while_the_door_is_open_and_its_words_are_fetched() {
    let stand_in = StandIn::start(|arrived, _| {
        let text = if arrived.path.contains("/stories/9001") {
            json!({"data": {"text": "@bot look at this"}})
        } else {
            json!({})
        };
        (200, Vec::new(), text)
    })
    .await;
    let hook = "---\nname: tasks\ndescription: Works on tasks.\nwebhook_config:\n  provider: asana\n  id: tasks\n  \
        allow: {permission: any}\n  command_prefix: \"@bot\"\n  commands:\n    - name: look\n      prompt_template: \"Look: {{ args }}\"\n---\n# Tasks\n";
    let until = |seconds: i64| jiff::Timestamp::from_second(now() + seconds).unwrap();
    let mut service = Service::prepared(json!({"text": "Looked."})).await;
    service.set_env("TEST_REPLY_TOKEN", "a-token-for-answers");
    service.write_skill("tasks", hook);
    let provider =
        format!("[providers.asana]\napi_base = \"{}\"\napi_token_env = \"TEST_REPLY_TOKEN\"\n", stand_in.base());
    service.add_settings(&format!("{provider}handshake_until = \"{}\"\n", until(3600)));
    service.start();
    service.wait_ready().await;
    let path = "/webhooks/asana/tasks";
    service.wait_route(path, true).await;
    let shake = |secret: &str| Sent {
        url: String::new(),
        headers: vec![("X-Hook-Secret".into(), secret.into()), ("content-type".into(), "application/json".into())],
        body: b"{}".to_vec(),
    };
    assert_eq!(send(&service, path, &shake("asanas-secret")).await.0, 200);
    let (status, _) = send(&service, path, &shake("a-forgers-secret")).await;
    assert!(status == 401 || status == 503, "only the first counts: {status}");
    let mut sent = Sent::of("asana.story.added", "", "1");
    sent.set("X-Hook-Signature", hex::encode(crate::service::sign("asanas-secret", &sent.body)));
    wait_for("the secret to be in use", || async { send(&service, path, &sent).await.0 == 200 }).await;
    wait_for("the answer", || async { stand_in.seen().iter().any(|arrived| arrived.method == "POST") }).await;
    let answer = stand_in.seen().into_iter().find(|arrived| arrived.method == "POST").unwrap();
    assert_eq!(
        (answer.path.as_str(), answer.json()["data"]["text"].as_str()),
        ("/tasks/7001/stories", Some("Looked."))
    );
    let forged = {
        let mut forged = sent.clone();
        forged.set("X-Hook-Signature", hex::encode(crate::service::sign("a-forgers-secret", &forged.body)));
        forged
    };
    assert_eq!(send(&service, path, &forged).await.0, 401);
}

#[tokio::test]
async fn a_handshake_that_nobody_expects_brings_nothing() {
    let service = Service::started(json!({})).await;
    service.write_skill(
        "tasks",
        "---\nname: tasks\ndescription: Works on tasks.\nwebhook_config:\n  provider: asana\n  id: tasks\n  commands:\n    \
         - name: look\n      trigger: \"*\"\n      prompt_template: Look\n---\n# Tasks\n",
    );
    let path = "/webhooks/asana/tasks";
    service.wait_route(path, true).await;
    let shake = Sent {
        url: String::new(),
        headers: vec![("X-Hook-Secret".into(), "planted".into()), ("content-type".into(), "application/json".into())],
        body: b"{}".to_vec(),
    };
    let (status, answer) = send(&service, path, &shake).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("handshake_until"), "{answer}");
}

#[tokio::test]
async fn a_slash_command_is_answered_in_its_own_response_where_no_agent_is_needed() {
    let stand_in = StandIn::friendly().await;
    let mut service = prepared(&stand_in, "").await;
    let commands = "  commands:\n    - {name: help, action: help}\n    - {name: echo, action: respond, prompt_template: \"{{ actor }} said {{ args }}\"}\n";
    for provider in ["slack", "custom", "discord"] {
        write_hook(&service, provider, "says", commands);
    }
    service.start();
    service.wait_ready().await;
    let ask = async |provider: &str, sent: &mut Sent| {
        let path = path(provider, "says");
        service.wait_route(&path, true).await;
        sent.url = format!("{PUBLIC}{path}");
        sign(provider, sent, 1, now());
        send(&service, &path, sent).await
    };
    let mut slash = Sent::of("slack.slash_command", "", "1");
    let (status, text) = ask("slack", &mut slash).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, answer["response_type"].as_str()), (200, Some("ephemeral")), "{text}");
    assert!(answer["text"].as_str().unwrap().contains("`echo`"), "{text}");
    slash.body = b"user_id=U501&channel_id=C1&command=%2Fagent&text=echo+hello&trigger_id=9".to_vec();
    let (_, text) = ask("slack", &mut slash).await;
    assert!(text.contains("U501 said hello"), "{text}");

    let mut interaction = Sent::of("discord.interaction.application_command", "", "1");
    let mut body: Value = serde_json::from_slice(&interaction.body).unwrap();
    body["data"]["options"][0]["value"] = json!("echo hello");
    interaction.body = body.to_string().into_bytes();
    let (status, text) = ask("discord", &mut interaction).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &answer["type"]), (200, &json!(4)), "{text}");
    assert!(answer["data"]["content"].as_str().unwrap().contains("501 said hello"), "{text}");
    assert!(stand_in.seen().is_empty(), "nothing is said twice: {:?}", stand_in.seen());
}
