//! The primitives against everything that anybody could send: nothing panics, nothing unsigned is believed, and no
//! change to a signed delivery goes unnoticed.

use jiff::Timestamp;
use proptest::prelude::*;

use super::sample::{self, Sample};
use super::selector::Selector;
use super::template::Template;
use super::{
    FetchedKeys, Headers, Incoming, Pointer, Settings, Verdict, catalog, challenge, decode, form, multipart, verify,
};
use crate::model::secret::SecretSet;

const NOW: &str = "2026-01-01T00:00:00Z";
const URL: &str = "https://hooks.example.com/webhooks/x?a=b";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ -~]{0,60}",
        1 => any::<String>(),
        1 => "(v0|v1|v1a|sha256|sha1|t|Bearer |Basic |JWT )?[=,:. ]{0,2}[A-Za-z0-9+/=_.-]{0,80}",
    ]
}

/// Headers that some scheme looks at, and any others.
fn header_name() -> impl Strategy<Value = String> {
    let known = catalog::builtin().unwrap();
    let mut names: Vec<String> = Vec::new();
    for definition in known.iter() {
        let written = definition.written().to_string();
        for rest in written.split("header:").skip(1) {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
            names.push(rest[..end].to_owned());
        }
    }
    names.sort();
    names.dedup();
    prop_oneof![5 => prop::sample::select(names), 1 => "[a-z-]{1,12}"]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "[{\\[\"a-z:,0-9\\]}]{0,120}".prop_map(String::into_bytes),
        "([a-z%+]{1,6}=[ -~]{0,12}&?){0,6}".prop_map(String::into_bytes),
        prop::sample::select(sample::all()).prop_map(|sample| sample.text().into_bytes()),
    ]
}

fn secrets_of(definition: &super::Definition, value: &str) -> SecretSet {
    let slots = definition.document().secrets.keys();
    slots.fold(SecretSet::new(), |set, slot| set.with(slot.as_str(), value))
}

/// Samples whose signature covers the body, so that every byte counts.
fn covered() -> impl Strategy<Value = Sample> {
    let tokens =
        ["alertmanager", "azure_devops", "cloudevents", "datadog", "discord", "gitlab", "mailgun", "plaid", "telegram"];
    let samples = sample::all().into_iter().filter(move |sample| !tokens.contains(&sample.provider.as_str()));
    prop::sample::select(samples.collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_that_is_made_up_is_believed_and_nothing_panics(
        headers in prop::collection::vec((header_name(), text()), 0..6),
        body in body(),
        content_type in prop::sample::select(vec![
            "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
            "application/cloudevents-batch+json", "text/plain", "",
        ]),
        method in prop::sample::select(vec!["POST", "GET", "HEAD", "OPTIONS"]),
    ) {
        let mut all: Headers = headers.into_iter().collect();
        all.set("Content-Type", content_type);
        let incoming = Incoming::new(method, URL, all, body);
        for definition in catalog::builtin().unwrap().iter() {
            let secrets = secrets_of(definition, "whsec_c2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==");
            let verdict = verify(definition, &incoming, &secrets, &Settings::default(), &FetchedKeys::new(), now());
            prop_assert!(!matches!(verdict, Verdict::Verified(_)), "{}", definition.name());
            let nothing = verify(definition, &incoming, &SecretSet::new(), &Settings::default(), &FetchedKeys::new(), now());
            prop_assert!(!matches!(nothing, Verdict::Verified(_)), "{} without a secret", definition.name());
            let payload = decode(definition, &incoming).ok();
            for verified in [false, true] {
                let answered = challenge(definition, &incoming, payload.as_ref(), &secrets, &Settings::default(), verified);
                let names_of_secrets = answered.map(|it| String::from_utf8_lossy(&it.response.body).contains("c2FtcGxl"));
                prop_assert_ne!(names_of_secrets, Some(true), "{} tells a secret", definition.name());
            }
            if let Some(payload) = &payload {
                let _ = super::extract(definition, &incoming, payload, &Settings::default(), None);
            }
        }
    }

    #[test]
    fn every_byte_of_a_signed_body_counts(sample in covered(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let catalogue = catalog::builtin().unwrap();
        let definition = catalogue.get(&sample.provider).unwrap();
        let secrets = secrets_of(definition, "whsec_c2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==");
        let signed = sample::sign(definition, &secrets, &sample, URL, "id-1", now()).unwrap();
        let judged = |incoming: &Incoming| {
            let keys = FetchedKeys::new();
            matches!(verify(definition, incoming, &secrets, &Settings::default(), &keys, now()), Verdict::Verified(_))
        };
        prop_assert!(judged(&signed));
        let mut body = signed.body.to_vec();
        let at = at.index(body.len());
        body[at] ^= 1 << bit;
        let changed = Incoming::new(&signed.method, &signed.url, signed.headers.clone(), body.clone());
        // Forms are signed by what their fields say: two spellings of one value are the same.
        let same = sample.form && form::fields(&body) == form::fields(&signed.body);
        prop_assert!(same || !judged(&changed), "{} believes a change at byte {at}", sample.provider);
    }

    #[test]
    fn times_are_exact_at_their_edges(sample in covered(), late in 0_i64..1000) {
        let catalogue = catalog::builtin().unwrap();
        let definition = catalogue.get(&sample.provider).unwrap();
        let secrets = secrets_of(definition, "whsec_c2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==");
        let signed = sample::sign(definition, &secrets, &sample, URL, "id-1", now()).unwrap();
        let past = match &definition.document().verify.schemes[0] {
            super::schema::Scheme::Hmac(it) => it.timestamp.as_ref().map(|time| time.past),
            _ => None,
        };
        let at = now() + jiff::SignedDuration::from_secs(late);
        let verdict = verify(definition, &signed, &secrets, &Settings::default(), &FetchedKeys::new(), at);
        let in_time = past.is_none_or(|past| late <= past);
        prop_assert_eq!(matches!(verdict, Verdict::Verified(_)), in_time, "{} after {} s", sample.provider, late);
    }

    #[test]
    fn readers_of_forms_pointers_selectors_and_templates_survive_anything(bytes in body(), text in any::<String>()) {
        let _ = form::fields(&bytes);
        let _ = form::single(&bytes, &text);
        let _ = form::sorted_fields(&bytes);
        let headers: Headers = [("Content-Type", format!("multipart/form-data; boundary={text}"))].into_iter().collect();
        let _ = multipart::read(&Incoming::new("POST", URL, headers, bytes));
        let _ = Pointer::parse(&text);
        let _ = Selector::try_from(text.clone());
        let _ = Template::try_from(text);
    }
}
