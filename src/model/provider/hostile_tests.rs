//! Whatever arrives, nothing panics, and what is promised of the outcome holds.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::secret::SecretSet;

/// Parsed once for all cases.
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| catalog::builtin().unwrap());

const FORMATS: [Format; 7] =
    [Format::Adf, Format::Html, Format::JiraWiki, Format::Mrkdwn, Format::Plain, Format::TelegramHtml, Format::Gfm];

fn marked_up() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[*_~`<>&;#|!\\-\\[\\](){}\\\\\n ]{1,6}",
        "\\PC{0,6}",
        Just("```".to_owned()),
        Just("<!--".to_owned()),
        Just("&#x41;".to_owned()),
        Just("https://x.example/".to_owned()),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!(-1.5e300)),
        Just(json!(u64::MAX)),
        any::<bool>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        Just(json!("../..")),
        Just(json!("{secret:api_token}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_text_can_be_written_read_and_split(text in marked_up(), chars in 1_usize..200, bytes in 4_usize..400) {
        for format in FORMATS {
            render(format, &text);
            plain_text(format, &Value::String(text.clone()));
        }
        let limits = Limits { chars: Some(chars), bytes: Some(bytes) };
        for part in split(&text, limits) {
            prop_assert!(part.chars().count() <= chars && part.len() <= bytes, "{part:?}");
        }
    }

    #[test]
    fn any_change_to_a_payload_is_survived(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        value in odd_value(),
    ) {
        let samples = sample::all();
        let mut sample = which.get(samples.as_slice()).clone();
        let places = pointers(&sample.body);
        Pointer::parse(place.get::<String>(&places)).unwrap().put(&mut sample.body, value);
        let headers: Headers = sample.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let incoming = Incoming::new("POST", "https://h.example/?a=1", headers, sample.body.to_string());
        let now = jiff::Timestamp::UNIX_EPOCH;
        for definition in CATALOGUE.iter() {
            let settings = Settings::default();
            let secrets = definition.slots().fold(SecretSet::new(), |set, (slot, _)| set.with(slot, "c2VjcmV0"));
            let verdict = verify(definition, &incoming, &secrets, &settings, &FetchedKeys::new(), now);
            prop_assert!(!matches!(verdict, Verdict::Verified(_)), "{} took an unsigned delivery", definition.name());
            let Ok(payload) = decode(definition, &incoming) else { continue };
            for item in extract(definition, &incoming, &payload, &settings, None).unwrap() {
                prop_assert!(!item.event.name.is_empty());
                let delivered = Delivered {
                    definition,
                    incoming: &incoming,
                    payload: &payload,
                    item: Some(&item.payload),
                    settings: &settings,
                };
                for call in [reply_call(&delivered), ack_call(&delivered)].into_iter().flatten() {
                    let stored = serde_json::to_string(&call).unwrap();
                    prop_assert!(!stored.contains("c2VjcmV0"));
                    let context = ["reply", "ack_text", "since"].map(|name| (name.to_owned(), "x".to_owned())).into();
                    if let Ok(filled) = call.fill(&context, &secrets) {
                        prop_assert!(!filled.url.contains("/../"));
                    }
                }
                lookup_call(&delivered);
                ack_response(&delivered, "seen");
            }
        }
    }
}

/// The pointers to every value in it.
fn pointers(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut pending = vec![(String::new(), value)];
    while let Some((at, value)) = pending.pop() {
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(fields) => fields.iter().map(|(name, value)| (pointer::join(&at, name), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(n, it)| (pointer::join(&at, &n.to_string()), it)).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        found.extend(inner.iter().map(|(at, _)| at.clone()));
        pending.extend(inner);
    }
    found
}
