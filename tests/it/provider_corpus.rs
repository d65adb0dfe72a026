//! The catalogue against real and documented deliveries, signature vectors, handshakes and replies.
//!
//! The corpus stands beside the checkout; where it is absent the tests say so and pass.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use skillhook::model::provider::schema::Document;
use skillhook::model::provider::{
    Definition, Delivered, FetchedKeys, Handshake, Headers, Incoming, Item, PreparedBody, PreparedCall, Response,
    Settings, Verdict, ack_call, ack_response, catalog, challenge, decode, extract, reply_call, verify,
};
use skillhook::model::secret::SecretSet;

fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/providers").join(path);
    if path.exists() {
        return Some(path);
    }
    eprintln!("passed over: the corpus is not beside this checkout");
    None
}

fn rows(name: &str) -> Vec<Value> {
    let Some(path) = shared(&format!("corpus/{name}.jsonl")) else { return Vec::new() };
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn body_of(file: &str) -> Vec<u8> {
    std::fs::read(shared(&format!("corpus/{file}")).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn headers(value: &Value) -> Headers {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// Values of the corpus' `cfg`; lists are settings separated by commas.
fn settings(value: &Value) -> Settings {
    let fields = value.as_object().into_iter().flatten().map(|(name, value)| {
        let text = match value {
            Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
            other => text(other).to_owned(),
        };
        (name.clone(), text)
    });
    fields.collect()
}

fn secrets(value: &Value) -> SecretSet {
    let fields = value.as_object().into_iter().flatten();
    fields.fold(SecretSet::new(), |set, (slot, value)| set.with(slot.as_str(), text(value)))
}

fn incoming(row: &Value) -> Incoming {
    let body = STANDARD.decode(text(&row["body_b64"])).unwrap();
    Incoming::new(text(&row["method"]), text(&row["url"]), headers(&row["headers"]), body)
}

fn now(row: &Value) -> Timestamp {
    Timestamp::from_second(row["now"].as_i64().unwrap()).unwrap()
}

/// Collects differences, so that one run shows all of them.
#[derive(Default)]
struct Differences {
    checked: usize,
    found: Vec<String>,
}

impl Differences {
    fn compare(&mut self, what: &str, have: &Value, want: &Value) {
        self.checked += 1;
        if have != want {
            self.found.push(format!("{what}: have {have}, want {want}"));
        }
    }

    fn none(self, what: &str) {
        eprintln!("{what}: {} comparisons", self.checked);
        assert!(self.found.is_empty(), "{} differences\n{}", self.found.len(), self.found.join("\n"));
    }
}

#[test]
fn every_shared_definition_can_be_read() {
    let Some(folder) = shared("definitions") else { return };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let yaml = std::fs::read_to_string(&path).unwrap();
        serde_yaml::from_str::<Document>(&yaml).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        count += 1;
    }
    assert_eq!(count, 32);
}

#[test]
fn deliveries_are_understood() {
    let catalogue = catalog::builtin().unwrap();
    let mut differences = Differences::default();
    for row in rows("manifest") {
        let Some(definition) = catalogue.get(text(&row["provider"])) else { continue };
        let file = text(&row["file"]);
        let url = row["url"].as_str().unwrap_or("https://hooks.example.com/webhooks/x/w1");
        let incoming = Incoming::new(text(&row["method"]), url, headers(&row["headers"]), body_of(file));
        let payload = match decode(definition, &incoming) {
            Ok(payload) => payload,
            Err(error) => {
                differences.found.push(format!("{file}: {error:?}"));
                continue;
            }
        };
        let items = extract(definition, &incoming, &payload, &Settings::default(), None).unwrap();
        compare_delivery(&mut differences, file, &row["expect"], &row["aliases"], &items);
    }
    differences.none("deliveries");
}

fn compare_delivery(differences: &mut Differences, file: &str, expect: &Value, aliases: &Value, items: &[Item]) {
    let item = &items[0];
    let event = &item.event;
    let actor = event.actor.as_ref();
    let source = item.source_text.as_ref().map(|source| match &source.value {
        Value::String(text) => json!(text),
        _ => json!(event.text),
    });
    let names: Vec<&str> = items.iter().map(|item| item.event.name.as_str()).collect();
    let fields = [
        ("event", json!(event.name)),
        ("delivery_id", json!(event.delivery_id)),
        ("actor", json!(actor.map(|actor| actor.id.as_str()).filter(|id| !id.is_empty()))),
        ("actor_is_bot", json!(actor.is_some_and(|actor| actor.bot))),
        ("resource", json!(event.resource)),
        ("text", source.unwrap_or(Value::Null)),
        ("permission", json!(actor.and_then(|actor| actor.association.as_deref()))),
        ("items", json!(items.len())),
        ("events", json!(names)),
        ("system_note", json!(event.noop)),
    ];
    for (name, have) in fields {
        if let Some(want) = expect.get(name) {
            // Where the text is someone else's, its author's association says nothing about the actor.
            let of_other = name == "permission" && expect["text_author"] != expect["actor"];
            let want = if of_other { &Value::Null } else { want };
            differences.compare(&format!("{file} {name}"), &have, want);
        }
    }
    // We may know more names than the corpus, never fewer.
    let known = aliases.as_array().unwrap().iter().filter(|alias| event.aliases.iter().any(|have| *alias == have));
    differences.compare(&format!("{file} aliases"), &json!(known.collect::<Vec<_>>()), aliases);
}

#[test]
fn signatures_are_judged() {
    let catalogue = catalog::builtin().unwrap();
    let mut differences = Differences::default();
    for row in rows("vectors") {
        let Some(definition) = catalogue.get(text(&row["provider"])) else { continue };
        let (secrets, settings, incoming) = (secrets(&row["secrets"]), settings(&row["cfg"]), incoming(&row));
        let keys = fetched_keys(definition, &row);
        let verdict = verify(definition, &incoming, &secrets, &settings, &keys, now(&row));
        let what = format!("{} ({}): {verdict:?}", text(&row["id"]), text(&row["reason"]));
        differences.compare(&what, &json!(matches!(verdict, Verdict::Verified(_))), &row["valid"]);
    }
    differences.none("vectors");
}

/// The corpus gives keys by their id; the engine takes the answers of the fetches.
fn fetched_keys(definition: &Definition, row: &Value) -> FetchedKeys {
    let keys = row["keys"].as_object().into_iter().flatten();
    let wrapped = keys.map(|(id, key)| match key {
        Value::String(pem) => (id.clone(), pem.clone()),
        jwk => (id.clone(), json!({"key": jwk}).to_string()),
    });
    wrapped.map(|(id, answer)| (format!("{}:{id}", definition.name()), answer)).collect()
}

#[test]
fn handshakes_are_answered() {
    let catalogue = catalog::builtin().unwrap();
    let mut differences = Differences::default();
    for row in rows("challenges") {
        let Some(definition) = catalogue.get(text(&row["provider"])) else { continue };
        let (id, expect) = (text(&row["id"]), &row["expect"]);
        let have = outcome(definition, &row);
        for (name, want) in expect.as_object().unwrap() {
            differences.compare(&format!("{id} {name}"), &have[name.as_str()], want);
        }
    }
    differences.none("handshakes");
}

/// What a receiver does with a request, in the words of the corpus.
fn outcome(definition: &Definition, row: &Value) -> Value {
    let (secrets, settings, incoming) = (secrets(&row["secrets"]), settings(&row["cfg"]), incoming(row));
    let payload = decode(definition, &incoming).ok();
    let shaken = |verified| challenge(definition, &incoming, payload.as_ref(), &secrets, &settings, verified);
    if let Some(handshake) = shaken(false) {
        return described(&handshake);
    }
    match verify(definition, &incoming, &secrets, &settings, &FetchedKeys::new(), now(row)) {
        Verdict::Verified(proof) => {
            if let Some(handshake) = shaken(true) {
                return described(&handshake);
            }
            let payload = payload.unwrap();
            let items = extract(definition, &incoming, &payload, &settings, Some(&proof)).unwrap();
            json!({"challenge": null, "verified": true, "event": items[0].event.name, "noop": items[0].event.noop})
        }
        _ => json!({"status": definition.reject_status()}),
    }
}

fn described(handshake: &Handshake) -> Value {
    let response = &handshake.response;
    let persist = handshake.persist.iter().map(|(slot, value)| (slot.clone(), value.expose_text().unwrap()));
    json!({
        "challenge": handshake.id,
        "status": response.status,
        "json": serde_json::from_slice::<Value>(&response.body).unwrap_or(Value::Null),
        "text": String::from_utf8_lossy(&response.body),
        "headers": response.headers.iter().cloned().collect::<BTreeMap<_, _>>(),
        "persist": persist.collect::<BTreeMap<_, _>>(),
    })
}

#[test]
fn replies_go_where_they_belong() {
    let catalogue = catalog::builtin().unwrap();
    let manifest: BTreeMap<String, Value> =
        rows("manifest").into_iter().map(|row| (text(&row["file"]).to_owned(), row)).collect();
    let mut differences = Differences::default();
    for row in rows("replies") {
        let Some(definition) = catalogue.get(text(&row["provider"])) else { continue };
        let file = text(&row["file"]);
        let incoming =
            Incoming::new("POST", "https://hooks.example.com/x", headers(&manifest[file]["headers"]), body_of(file));
        let payload = decode(definition, &incoming).unwrap();
        let settings: Settings =
            [("api_base", "https://api.example"), ("org_host", "fabrikam.visualstudio.com")].into_iter().collect();
        let items = extract(definition, &incoming, &payload, &settings, None).unwrap();
        let delivered = Delivered {
            definition,
            incoming: &incoming,
            payload: &payload,
            item: Some(&items[0].payload),
            settings: &settings,
        };
        let reply = reply_call(&delivered).map(|call| shown(&call));
        differences.compare(&format!("{file} reply"), &json!(reply), &row["reply"]);
        let ack = match ack_response(&delivered, "{ack_text}") {
            Some(response) => Some(sync_shown(&response)),
            None => ack_call(&delivered).map(|call| shown(&call)),
        };
        differences.compare(&format!("{file} ack"), &json!(ack), &row["ack"]);
    }
    differences.none("replies");
}

/// A call in the words of the corpus.
fn shown(call: &PreparedCall) -> Value {
    let context: BTreeMap<String, String> = [
        ("reply", "{reply}"),
        ("ack_text", "{ack_text}"),
        ("reply_adf", "\"{reply_adf}\""),
        ("now_iso", "{now_iso}"),
        ("since", "2026-01-01T00:00:00Z"),
        ("reply_id", "1"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    let stored: PreparedCall = serde_json::from_value(serde_json::to_value(call).unwrap()).unwrap();
    let secrets = stored.secret_slots().into_iter().fold(SecretSet::new(), |set, slot| set.with(slot, "secret"));
    let filled = stored.fill(&context, &secrets).unwrap();
    let body = filled.body.unwrap_or_default();
    let mut shown = json!({"method": filled.method, "url": filled.url.replace("https://api.example", "{api_base}")});
    match &stored.body {
        PreparedBody::None => {}
        PreparedBody::Json { .. } => shown["json"] = serde_json::from_slice(&body).unwrap(),
        PreparedBody::Form(_) => {
            let pairs = url::form_urlencoded::parse(&body).into_owned();
            shown["form"] = json!(pairs.collect::<BTreeMap<_, _>>());
        }
    }
    if let Some(find) = stored.reply.as_ref().and_then(|reply| reply.find.as_ref()) {
        find.call.fill(&context, &secrets).unwrap();
    }
    if let Some(edit) = stored.reply.as_ref().and_then(|reply| reply.edit.as_ref()) {
        edit.fill(&context, &secrets).unwrap();
    }
    shown
}

fn sync_shown(response: &Response) -> Value {
    let mut shown = json!({"status": response.status});
    match serde_json::from_slice::<Value>(&response.body) {
        Ok(value) => shown["json"] = value,
        Err(_) => {
            shown["text"] = json!(String::from_utf8_lossy(&response.body));
            shown["content_type"] = json!(response.content_type);
        }
    }
    json!({"sync": shown})
}
