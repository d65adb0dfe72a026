//! Where bytes of strangers come in, one function for each: `fuzz/` feeds them for hours, the tests for a moment.
//!
//! Each takes whatever bytes there are and says which promise was broken, if one was. None of them is used by the
//! service. The catalogue is the caller's, since reading it takes longer than one input.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::schema::Scheme;
use super::template::Template;
use super::view::View;
use super::{
    Catalogue, Definition, Delivered, FetchedKeys, Format, Headers, Incoming, Item, Limits, Payload, Pointer, Settings,
    Verdict, ack_call, ack_response, challenge, decode, enrich_calls, extract, form, lookup_call, multipart,
    plain_text, render, reply_call, split, verify,
};
use crate::model::secret::SecretSet;

/// What an entry answers: the promise that was broken.
pub type Checked = Result<(), String>;
/// An entry: what is fed to it, beside the catalogue.
pub type Entry = fn(&Catalogue, &[u8]) -> Checked;

/// Every entry by name; each has a target of that name in `fuzz/`.
pub const ENTRIES: [(&str, Entry); 16] = [
    ("basic", |catalogue, data| schemes(catalogue, data, |scheme| matches!(scheme, Scheme::Basic(_)))),
    ("calls", calls),
    ("challenge", handshakes),
    ("decode", |catalogue, data| each(catalogue, data, |_, _, _| Ok(()))),
    ("definition", definition),
    ("digest", |catalogue, data| schemes(catalogue, data, |scheme| matches!(scheme, Scheme::Digest(_)))),
    ("ed25519", |catalogue, data| schemes(catalogue, data, |scheme| matches!(scheme, Scheme::Ed25519(_)))),
    ("extract", events),
    ("form", forms),
    ("hmac", |catalogue, data| schemes(catalogue, data, |scheme| matches!(scheme, Scheme::Hmac(_)))),
    ("jwt", |catalogue, data| schemes(catalogue, data, |scheme| matches!(scheme, Scheme::Jwt(_)))),
    ("markup", markup),
    ("plain", plain),
    ("split", splitting),
    ("template", templates),
    ("token", |catalogue, data| schemes(catalogue, data, |scheme| matches!(scheme, Scheme::Token(_)))),
];

/// A secret that no input will ever guess.
const SECRET: &str = "whsec_VGhpcyBpcyBub3QgYW55IG9uZSdzIHNlY3JldCBhdCBhbGw=";
/// When everything arrives, in seconds.
const NOW: i64 = 1_767_225_600;
/// Headers of one input.
const HEADERS_MAX: usize = 32;

const FORMATS: [Format; 10] = [
    Format::Adf,
    Format::AdfOrWiki,
    Format::DiscordMd,
    Format::Gfm,
    Format::Html,
    Format::JiraWiki,
    Format::Markdown,
    Format::Mrkdwn,
    Format::Plain,
    Format::TelegramHtml,
];

/// The first line, and what follows it.
fn head(data: &[u8]) -> (String, &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let rest = data.get(end + 1..).unwrap_or_default();
    (String::from_utf8_lossy(&data[..end]).into_owned(), rest)
}

/// A delivery: lines of headers, `name: value` or the value alone for one of `names`, then an empty line, then the body.
fn incoming(data: &[u8], names: &[String]) -> Incoming {
    let mut headers: Vec<(String, String)> = Vec::new();
    let mut rest = data;
    while headers.len() < HEADERS_MAX {
        let (line, after) = head(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        let header = match line.split_once(": ") {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (names.get(headers.len() % names.len().max(1)).cloned().unwrap_or_default(), line),
        };
        headers.push(header);
    }
    let url = "https://hooks.example.com/webhooks/x?a=b&bodySHA256=0";
    let headers: Headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Incoming::new("POST", url, headers, rest.to_vec())
}

fn secrets(definition: &Definition) -> SecretSet {
    definition.slots().fold(SecretSet::new(), |set, (slot, _)| set.with(slot, SECRET))
}

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Names of headers that a part of a definition reads.
fn headers_of(written: &Value) -> Vec<String> {
    let text = written.to_string();
    let named = text.split("header:").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    named.collect()
}

/// What nobody signed is believed by no scheme of this kind.
fn schemes(catalogue: &Catalogue, data: &[u8], of_kind: fn(&Scheme) -> bool) -> Checked {
    if data.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
        return Ok(());
    }
    for definition in catalogue.iter() {
        if !definition.document().verify.schemes.iter().any(of_kind) {
            continue;
        }
        let incoming = incoming(data, &headers_of(&definition.written()["verify"]));
        // A token names its key: an answer for that name is at hand, and is no key.
        let keys =
            FetchedKeys::from([(format!("{}:k-1", definition.name()), String::from_utf8_lossy(data).into_owned())]);
        let settings: Settings = ["site_url", "app_base_url", "client_key", "issuer"]
            .map(|name| (name, "https://x.example"))
            .into_iter()
            .collect();
        if let Verdict::Verified(proof) = verify(definition, &incoming, &secrets(definition), &settings, &keys, now()) {
            return Err(format!("`{}` believed an unsigned delivery by {:?}", definition.name(), proof.schemes));
        }
    }
    Ok(())
}

/// Decodes for every definition and looks at what came out.
fn each(catalogue: &Catalogue, data: &[u8], check: fn(&Definition, &Incoming, &Payload) -> Checked) -> Checked {
    for definition in catalogue.iter() {
        let incoming = incoming(data, &headers_of(definition.written()));
        if let Ok(payload) = decode(definition, &incoming) {
            check(definition, &incoming, &payload)?;
        }
    }
    Ok(())
}

fn items(definition: &Definition, incoming: &Incoming, payload: &Payload) -> Vec<Item> {
    extract(definition, incoming, payload, &Settings::default(), None).unwrap_or_default()
}

/// Every event has a name, and nothing that is extracted is unbounded.
fn events(catalogue: &Catalogue, data: &[u8]) -> Checked {
    each(catalogue, data, |definition, incoming, payload| {
        for item in items(definition, incoming, payload) {
            let event = item.event;
            if event.name.trim().is_empty() || event.name.chars().any(char::is_control) {
                return Err(format!("`{}` named an event {:?}", definition.name(), event.name));
            }
            if event.delivery_id.as_ref().is_some_and(|id| id.len() > 220) {
                return Err(format!("`{}` kept an endless id", definition.name()));
            }
            if event.delivery_id_signed {
                return Err(format!("`{}` took an id for signed that nobody signed", definition.name()));
            }
        }
        Ok(())
    })
}

/// No handshake tells a secret, and none before verification computes with one.
fn handshakes(catalogue: &Catalogue, data: &[u8]) -> Checked {
    for definition in catalogue.iter() {
        let incoming = incoming(data, &headers_of(&definition.written()["challenge"]));
        let payload = decode(definition, &incoming).ok();
        for verified in [false, true] {
            let secrets = secrets(definition);
            let shaken = challenge(definition, &incoming, payload.as_ref(), &secrets, &Settings::default(), verified);
            let Some(handshake) = shaken else { continue };
            let body = String::from_utf8_lossy(&handshake.response.body).into_owned();
            let told = handshake.response.headers.iter().any(|(_, value)| value.contains(SECRET));
            if told || body.contains(SECRET) {
                return Err(format!("`{}` told its secret", definition.name()));
            }
        }
    }
    Ok(())
}

/// Calls lead where the definition says, and hold no secret while they wait.
fn calls(catalogue: &Catalogue, data: &[u8]) -> Checked {
    each(catalogue, data, |definition, incoming, payload| {
        let settings = Settings::default();
        let secrets = secrets(definition);
        let context: BTreeMap<String, String> = ["reply", "ack_text", "since", "reply_id", "now_iso"]
            .map(|name| (name.to_owned(), "said {secret:api_token} ../..".to_owned()))
            .into();
        for item in items(definition, incoming, payload) {
            let delivered = Delivered { definition, incoming, payload, item: Some(&item.payload), settings: &settings };
            let _ = ack_response(&delivered, "seen");
            let lookup = lookup_call(&delivered).map(|lookup| lookup.call);
            let enriching = enrich_calls(&delivered).into_iter().map(|(call, _)| call);
            let all = [reply_call(&delivered), ack_call(&delivered), lookup].into_iter().flatten().chain(enriching);
            for call in all {
                let stored = serde_json::to_string(&call).unwrap_or_default();
                if stored.contains(SECRET) {
                    return Err(format!("`{}` stored a secret in a call", definition.name()));
                }
                let Ok(filled) = call.fill(&context, &secrets) else { continue };
                if filled.url.contains("/../") || filled.headers.iter().any(|(_, it)| it.contains(['\r', '\n'])) {
                    return Err(format!("`{}` made a call that leads elsewhere", definition.name()));
                }
            }
        }
        Ok(())
    })
}

/// A definition is read whole or refused with its reasons.
fn definition(_: &Catalogue, data: &[u8]) -> Checked {
    let text = String::from_utf8_lossy(data);
    match Definition::parse("fuzz.yaml", &text) {
        Err(findings) if findings.is_empty() => Err("refused without a reason".to_owned()),
        Ok(definition) if definition.document().verify.schemes.is_empty() => Err("it can verify nothing".to_owned()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Forms and their parts are found or they are not; sorting loses none of them but repeated ones.
fn forms(_: &Catalogue, data: &[u8]) -> Checked {
    let (line, rest) = head(data);
    form::single(rest, &line);
    form::sorted_fields(rest);
    let headers: Headers = [("Content-Type", line.as_str())].into_iter().collect();
    let whole = Incoming::new("POST", "https://hooks.example.com/", headers, rest.to_vec());
    let Ok(fields) = multipart::read(&whole) else { return Ok(()) };
    let longest = fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if longest > rest.len() * 3 { Err("more came out of a form than went in".to_owned()) } else { Ok(()) }
}

/// Templates say the same whatever they are asked twice, and a payload never becomes one.
fn templates(_: &Catalogue, data: &[u8]) -> Checked {
    let (line, rest) = head(data);
    let body: Value = serde_json::from_slice(rest).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(rest)));
    if let Ok(pointer) = Pointer::parse(&line) {
        pointer.find(&body);
        let mut changed = body.clone();
        pointer.put(&mut changed, Value::from("x"));
    }
    let Ok(template) = Template::parse(&line) else { return Ok(()) };
    let view = View { body: Some(&body), ..View::default() };
    if template.text(&view) != template.text(&view) {
        return Err("a template says two things".to_owned());
    }
    let marked = Value::from("{const:filled}");
    let view = View { body: Some(&marked), ..View::default() };
    let braces = "{body:}";
    let again = Template::parse(&format!("{braces}{}", template.source.replace(['{', '}'], "")));
    match again.ok().and_then(|again| again.text(&view)) {
        Some(text) if !text.starts_with("{const:filled}") => Err("what filled a hole was filled again".to_owned()),
        _ => Ok(()),
    }
}

/// Texts of every dialect become plain.
fn plain(_: &Catalogue, data: &[u8]) -> Checked {
    let text = String::from_utf8_lossy(data);
    let tree: Option<Value> = serde_json::from_slice(data).ok();
    for format in FORMATS {
        plain_text(format, &Value::from(text.as_ref()));
        if let Some(tree) = &tree {
            plain_text(format, tree);
        }
    }
    Ok(())
}

/// Markdown becomes every dialect, and HTML that is made of it closes what it opens.
fn markup(_: &Catalogue, data: &[u8]) -> Checked {
    let text = String::from_utf8_lossy(data);
    for format in FORMATS {
        render(format, &text);
    }
    let html = render(Format::TelegramHtml, &text);
    for tag in ["b", "i", "code", "pre", "s"] {
        let (opened, closed) = (html.matches(&format!("<{tag}>")).count(), html.matches(&format!("</{tag}>")).count());
        if opened != closed {
            return Err(format!("`<{tag}>` is opened {opened} times and closed {closed} times"));
        }
    }
    Ok(())
}

/// No part of a split text is longer than it may be.
fn splitting(_: &Catalogue, data: &[u8]) -> Checked {
    let [chars, bytes, rest @ ..] = data else { return Ok(()) };
    let (chars, bytes) = (usize::from(*chars) + 1, usize::from(*bytes) + 4);
    let limits = Limits { chars: Some(chars), bytes: Some(bytes) };
    for part in split(&String::from_utf8_lossy(rest), limits) {
        if part.chars().count() > chars || part.len() > bytes {
            return Err(format!("a part has {} characters and {} bytes", part.chars().count(), part.len()));
        }
    }
    Ok(())
}
