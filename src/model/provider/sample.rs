//! Sample deliveries that sign themselves: for `trigger`, tests and demonstrations.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::condition::all_hold;
use super::definition::Definition;
use super::digests::{digest, mac};
use super::incoming::{Headers, Incoming};
use super::pointer::Pointer;
use super::schema::verify::{Hashed, Policy, Scheme, TimeUnit, TokenField};
use super::selector::Selector;
use super::verify::{encode_bytes, usable_keys, write_signature};
use super::view::View;
use crate::error::{Code, Error, Result};
use crate::model::diagnostic::did_you_mean;
use crate::model::secret::SecretSet;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        /// `provider/event` and contents.
        const FILES: &[(&str, &str)] = &[$(($name, include_str!(concat!("samples/", $name, ".json"))),)*];
    };
}

files![
    "alertmanager/alert.firing",
    "asana/story.added",
    "asana/task.added",
    "azure_devops/git.pullrequest.created",
    "azure_devops/workitem.created",
    "bitbucket/pullrequest.comment_created",
    "bitbucket_dc/pr_comment_added",
    "bitbucket_dc/pr_opened",
    "cloudevents/com.example.order.failed",
    "custom/build.failed",
    "datadog/alert.triggered",
    "discord/interaction.application_command",
    "forgejo/issue_comment.created",
    "gitea/issue_comment.created",
    "github/discussion.created",
    "github/issue_comment.created",
    "github/issues.assigned",
    "github/issues.labeled",
    "github/issues.opened",
    "github/ping",
    "github/pull_request.opened",
    "github/pull_request.synchronize",
    "github/pull_request_review.submitted",
    "github/pull_request_review_comment.created",
    "github/push",
    "github/workflow_run.completed",
    "gitlab/issue.open",
    "gitlab/merge_request.open",
    "gitlab/note.create",
    "gitlab/pipeline.failed",
    "gitlab/push",
    "grafana/alert.firing",
    "hubspot/ticket.creation",
    "intercom/conversation.user.replied",
    "jira/comment_created",
    "jira/issue_assigned",
    "jira/issue_created",
    "linear/Comment.create",
    "mailgun/failed",
    "meta/whatsapp_business_account.messages",
    "pagerduty/incident.triggered",
    "plaid/ITEM.ERROR",
    "sentry/comment.created",
    "sentry/event_alert.triggered",
    "sentry/issue.created",
    "shopify/orders_create",
    "slack/app_mention",
    "slack/block_actions",
    "slack/message.channel",
    "slack/message.im",
    "slack/slash_command",
    "standard_webhooks/task.requested",
    "stripe/charge.failed",
    "svix/invoice.failed",
    "telegram/message",
    "trello/commentCard",
    "twilio/message.received",
    "zoom/chat_message.sent",
];

/// A delivery as a sender would make it, unsigned.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub provider: String,
    pub event: String,
    pub headers: Vec<(String, String)>,
    /// The body is sent as a form: one of text fields.
    pub form: bool,
    pub body: Value,
}

/// All of them, by provider and event.
pub fn all() -> Vec<Sample> {
    FILES.iter().filter_map(|(name, text)| parse(name, text)).collect()
}

/// The sample of an event, for example `github.issue_comment.created`.
pub fn find(name: &str) -> Result<Sample> {
    let named = |sample: &Sample| {
        name.strip_prefix(&sample.provider).is_some_and(|rest| rest.strip_prefix('.') == Some(&sample.event))
    };
    all().into_iter().find(named).ok_or_else(|| {
        let names: Vec<String> = all().iter().map(|sample| format!("{}.{}", sample.provider, sample.event)).collect();
        let near = did_you_mean(name, names.iter().map(String::as_str));
        let hint = near.map_or_else(|| "`--list` names them".to_owned(), |near| format!("did you mean `{near}`?"));
        Error::new(Code::NotFound, format!("there is no sample `{name}`")).hint(hint)
    })
}

fn parse(name: &str, text: &str) -> Option<Sample> {
    let (provider, event) = name.split_once('/')?;
    let written: Value = serde_json::from_str(text).ok()?;
    let headers = written["headers"].as_object()?.iter();
    let headers = headers.map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    // A name with a colon is no name of a file.
    let event = written["event"].as_str().unwrap_or(event).to_owned();
    let provider = provider.to_owned();
    let form = written["form"].as_bool().unwrap_or_default();
    Some(Sample { provider, event, headers: headers.collect::<Option<_>>()?, form, body: written["body"].clone() })
}

impl Sample {
    /// The body as it is sent.
    pub fn text(&self) -> String {
        let Some(fields) = self.body.as_object().filter(|_| self.form) else { return self.body.to_string() };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in fields {
            form.append_pair(name, value.as_str().unwrap_or_default());
        }
        form.finish()
    }

    /// Sets a value in the body: `issue.title=x`, `/issue/labels/0/name=bug`. What is valid JSON is taken as that.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let usage = || Error::new(Code::Usage, format!("`{assignment}` is no `path=value`"));
        let (path, value) = assignment.split_once('=').filter(|(path, _)| !path.is_empty()).ok_or_else(usage)?;
        let pointer = if path.starts_with('/') { path.to_owned() } else { format!("/{}", path.replace('.', "/")) };
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        Pointer::parse(&pointer).map_err(|_| usage())?.put(&mut self.body, value);
        Ok(())
    }
}

/// The request that the sender would make: the sample with its id, its time and the signatures of every scheme that
/// is configured. `id` is a fresh one. `SH0408` when there is nothing to sign with.
pub fn sign(
    definition: &Definition,
    secrets: &SecretSet,
    sample: &Sample,
    url: &str,
    id: &str,
    now: Timestamp,
) -> Result<Incoming> {
    let mut headers: Headers = sample.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    name_delivery(definition, &mut headers, id);
    let body = sample.text();
    let mut incoming = Incoming::new("POST", url, headers, body);
    let verify = &definition.document().verify;
    let mut signed = 0;
    for scheme in &verify.schemes {
        if signed > 0 && verify.policy != Policy::AllConfigured {
            break;
        }
        let mut attempt = incoming.clone();
        let is_signed = sign_by(scheme, secrets, &mut attempt, now).is_some();
        let view = View { incoming: Some(&attempt), ..View::default() };
        // A scheme that is for other requests than this one would not be asked.
        let body: Option<Value> = serde_json::from_slice(&attempt.body).ok();
        if is_signed && all_hold(scheme.when(), &View { body: body.as_ref(), ..view }) {
            incoming = attempt;
            signed += 1;
        }
    }
    if signed == 0 {
        let slots: Vec<&str> = definition.primary_slot().into_iter().collect();
        return Err(Error::new(Code::SecretMissing, format!("`{}` has no secret to sign with", definition.name()))
            .hint(format!("set the secret `{}`", slots.join("`, `"))));
    }
    Ok(incoming)
}

/// Gives the delivery its id in every header that may carry it.
fn name_delivery(definition: &Definition, headers: &mut Headers, id: &str) {
    for template in &definition.document().delivery.id {
        if let Some(hole) = template.only_hole()
            && let Selector::Header(name) = &hole.selector
            && !headers.contains(name)
        {
            headers.set(name, id);
        }
    }
}

fn sign_by(scheme: &Scheme, secrets: &SecretSet, incoming: &mut Incoming, now: Timestamp) -> Option<()> {
    match scheme {
        Scheme::Hmac(it) => {
            let key = usable_keys(&it.key, secrets).into_iter().next()?;
            sign_hashed(it, incoming, now, |signed| mac(it.hash, &key, signed), None)
        }
        Scheme::Digest(it) => {
            let key = usable_keys(&it.key, secrets).into_iter().next()?;
            sign_hashed(it, incoming, now, |signed| Some(digest(it.hash, signed)), Some(&key))
        }
        Scheme::Token(it) => {
            let key = usable_keys(&it.key, secrets).into_iter().next()?;
            show_token(&it.token, std::str::from_utf8(&key).ok()?, incoming)
        }
        Scheme::Basic(it) => {
            let part = |slot: &str| Some(secrets.first(slot)?.expose());
            let credentials = [part(&it.user)?, b":", part(&it.pass)?].concat();
            let text = encode_bytes(super::schema::verify::Encoding::Base64, &credentials);
            incoming.headers.set("Authorization", format!("Basic {text}"));
            Some(())
        }
        // These need a private key, which a receiver does not have.
        Scheme::Ed25519(_) | Scheme::Jwt(_) => None,
    }
}

fn sign_hashed(
    scheme: &Hashed,
    incoming: &mut Incoming,
    now: Timestamp,
    compute: impl Fn(&[u8]) -> Option<Vec<u8>>,
    key: Option<&[u8]>,
) -> Option<()> {
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut at = String::new();
    if let Some(time) = &scheme.timestamp {
        at = match time.unit {
            TimeUnit::Seconds => now.as_second().to_string(),
            TimeUnit::Milliseconds => now.as_millisecond().to_string(),
        };
        for place in time.from.as_slice() {
            match place {
                Selector::Header(name) => incoming.headers.set(name, at.clone()),
                Selector::Signature(name) => fields.push((name.clone(), at.clone())),
                Selector::Body(pointer) => set_body_time(incoming, pointer, &at)?,
                _ => return None,
            }
        }
    }
    let body: Option<Value> = serde_json::from_slice(&incoming.body).ok();
    let view = View { incoming: Some(incoming), body: body.as_ref(), signature: &fields, key, ..View::default() };
    let signed = scheme.signed.bytes(&view)?;
    let shown = if fields.is_empty() { "" } else { &at };
    let value = write_signature(&scheme.signature, &compute(&signed)?, shown);
    match &scheme.signature.from {
        Selector::Header(header) => incoming.headers.set(header, value),
        // It cannot cover itself, so it stands in a body of which only other fields are signed.
        Selector::Body(pointer) => set_in_body(incoming, pointer, Value::String(value)),
        _ => return None,
    }
    Some(())
}

fn set_body_time(incoming: &mut Incoming, pointer: &Pointer, at: &str) -> Option<()> {
    set_in_body(incoming, pointer, Value::from(at.parse::<i64>().ok()?));
    Some(())
}

fn set_in_body(incoming: &mut Incoming, pointer: &Pointer, value: Value) {
    let mut body: Value = serde_json::from_slice(&incoming.body).unwrap_or_else(|_| Value::Object(Map::new()));
    pointer.put(&mut body, value);
    incoming.body = body.to_string().into();
}

fn show_token(field: &TokenField, token: &str, incoming: &mut Incoming) -> Option<()> {
    match &field.from {
        Selector::Header(name) => {
            incoming.headers.set(name, format!("{}{token}", field.strip_prefix.as_deref().unwrap_or_default()));
            Some(())
        }
        Selector::Query(name) => {
            let mut url = url::Url::parse(&incoming.url).ok()?;
            url.query_pairs_mut().append_pair(name, token);
            let headers = std::mem::take(&mut incoming.headers);
            *incoming = Incoming::new(&incoming.method, url.as_str(), headers, std::mem::take(&mut incoming.body));
            Some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::{FetchedKeys, Settings, Verdict, catalog, decode, extract, verify};

    /// Only the sender itself can sign for these.
    const PRIVATE_KEYS: [&str; 2] = ["discord", "plaid"];
    const NOW: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn every_sample_verifies_and_tells_its_event() {
        let catalogue = catalog::builtin().unwrap();
        let now: Timestamp = NOW.parse().unwrap();
        assert_eq!(all().len(), FILES.len());
        let mut names = std::collections::BTreeSet::new();
        for sample in &all() {
            let definition = catalogue.get(&sample.provider).unwrap();
            let slots = definition.document().secrets.keys();
            let secrets = slots.fold(SecretSet::new(), |set, slot| {
                set.with(slot.as_str(), "whsec_c2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==")
            });
            let url = format!("https://hooks.example.com/webhooks/{}", sample.provider);
            let (incoming, proof) = match sign(definition, &secrets, sample, &url, "id-1", now) {
                Ok(incoming) => {
                    let keys = FetchedKeys::new();
                    let verdict = verify(definition, &incoming, &secrets, &Settings::default(), &keys, now);
                    let Verdict::Verified(proof) = verdict else { panic!("{}: {verdict:?}", sample.event) };
                    (incoming, Some(proof))
                }
                Err(error) => {
                    assert!(PRIVATE_KEYS.contains(&sample.provider.as_str()), "{}: {error}", sample.event);
                    let headers = sample.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                    (Incoming::new("POST", &url, headers, sample.text()), None)
                }
            };
            let payload = decode(definition, &incoming).unwrap();
            let items = extract(definition, &incoming, &payload, &Settings::default(), proof.as_ref()).unwrap();
            assert_eq!(items[0].event.name, sample.event);
            let by_body = definition.document().delivery.fallback.is_some();
            assert!(items[0].event.delivery_id.is_some() || by_body, "{}", sample.event);
            assert!(names.insert(format!("{}.{}", sample.provider, sample.event)));
        }
        for provider in catalogue.names() {
            assert!(all().iter().any(|sample| sample.provider == provider.as_str()), "`{provider}` has no sample");
        }
    }

    #[test]
    fn values_can_be_overridden() {
        let mut sample = find("github.issue_comment.created").unwrap();
        sample.set("comment.body=@agent plan").unwrap();
        sample.set("/issue/labels/0/name=feature").unwrap();
        sample.set("issue.number=12").unwrap();
        assert_eq!(sample.body["comment"]["body"], "@agent plan");
        assert_eq!(sample.body["issue"]["labels"][0]["name"], "feature");
        assert_eq!(sample.body["issue"]["number"], 12);
        assert!(sample.set("nothing").is_err());
        assert_eq!(
            find("github.issue_coment.created").unwrap_err().hint_text(),
            Some("did you mean `github.issue_comment.created`?")
        );
    }

    #[test]
    fn without_a_secret_nothing_is_signed() {
        let catalogue = catalog::builtin().unwrap();
        let sample = find("github.ping").unwrap();
        let outcome = sign(
            catalogue.get("github").unwrap(),
            &SecretSet::new(),
            &sample,
            "https://h.example/",
            "1",
            NOW.parse().unwrap(),
        );
        assert_eq!(outcome.unwrap_err().code(), Code::SecretMissing);
    }
}
