//! From a decoded delivery to events in the gateway's own terms.

use serde_json::Value;

use super::actor;
use super::condition::all_hold;
use super::decode::{Payload, bad};
use super::definition::Definition;
use super::incoming::Incoming;
use super::plain;
use super::schema::{Document, Format, SplitPath, SplitStep};
use super::selector::Selector;
use super::settings::Settings;
use super::template::{Template, first_text};
use super::verify::Proof;
use super::view::View;
use crate::error::Result;
use crate::model::digest::Digest;
use crate::model::event::{Event, Pressed};

/// Most items of one batch.
pub const ITEMS_MAX: usize = 1_000;
/// Longest event name in characters.
const EVENT_NAME_CHARS_MAX: usize = 200;
/// Longest id of a delivery in bytes; a longer one is kept as its digest.
const DELIVERY_ID_BYTES_MAX: usize = 200;
/// Longest hint of a sender that is passed on, in characters.
const HINT_CHARS_MAX: usize = 64;
/// The event of a delivery that no rule names.
pub const UNKNOWN_EVENT: &str = "unknown";

/// One thing that happened. Most deliveries tell one; batches tell several.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    pub event: Event,
    /// The item of a batch, else the whole payload.
    pub payload: Value,
    /// The text as the sender wrote it, before it became plain.
    pub source_text: Option<SourceText>,
}

/// A text in its own dialect.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceText {
    pub value: Value,
    pub format: Format,
}

/// A delivery with everything that templates and conditions of its definition may look at.
#[derive(Clone, Copy)]
pub struct Delivered<'a> {
    pub definition: &'a Definition,
    pub incoming: &'a Incoming,
    pub payload: &'a Payload,
    /// The item of a batch that this is about.
    pub item: Option<&'a Value>,
    pub settings: &'a Settings,
}

impl<'a> Delivered<'a> {
    pub(super) fn view(&self) -> View<'a> {
        View {
            incoming: Some(self.incoming),
            body: Some(&self.payload.value),
            item: self.item,
            settings: Some(self.settings),
            api_base: self.definition.document().api.base.as_ref(),
            ..View::default()
        }
    }
}

/// What the delivery tells. `proof` is `None` where nothing was verified (which only the operator can allow).
/// An empty batch tells nothing, or one event without work where the definition names it.
pub fn extract(
    definition: &Definition,
    incoming: &Incoming,
    payload: &Payload,
    settings: &Settings,
    proof: Option<&Proof>,
) -> Result<Vec<Item>> {
    let document = definition.document();
    let whole = Delivered { definition, incoming, payload, item: None, settings };
    let Some(parts) = split(document, &payload.value) else {
        return Ok(vec![item(&whole, proof, None)]);
    };
    if parts.len() > ITEMS_MAX {
        return Err(bad(format!("the batch has more than {ITEMS_MAX} items")));
    }
    if parts.is_empty() {
        let heartbeat = document.empty_event.as_ref().map(|name| {
            let mut item = item(&whole, proof, None);
            item.event = Event { name: name.clone(), aliases: Vec::new(), noop: true, ..item.event };
            item
        });
        return Ok(heartbeat.into_iter().collect());
    }
    let several = parts.len() > 1;
    let items = parts.into_iter().enumerate();
    Ok(items.map(|(n, part)| item(&Delivered { item: Some(part), ..whole }, proof, several.then_some(n))).collect())
}

/// Which attempt at delivery the sender says that this is, and why it tries again, where it is not the first. Neither is
/// signed: they are for people.
pub fn repetition(definition: &Definition, incoming: &Incoming) -> Option<(String, String)> {
    let sender = &definition.document().sender;
    let view = View { incoming: Some(incoming), ..View::default() };
    let told = |selector: &Selector| {
        let text = view.find(selector)?.into_text()?;
        Some(text.chars().filter(|c| !c.is_control()).take(HINT_CHARS_MAX).collect::<String>())
    };
    let attempt = told(sender.attempt.as_ref()?)?;
    let reason = sender.reason.as_ref().and_then(told).unwrap_or_default();
    let first = matches!(attempt.trim(), "" | "0") || (attempt.trim() == "1" && sender.attempts_from_one);
    (!first).then_some((attempt, reason))
}

/// The items of a batch; `None` when this body is no batch.
fn split<'v>(document: &Document, value: &'v Value) -> Option<Vec<&'v Value>> {
    let found: Vec<Vec<&Value>> = document.split.iter().filter_map(|path| elements(path, value)).collect();
    if found.is_empty() { None } else { Some(found.concat()) }
}

/// What a path leads to; `None` when its first list is not there. Further lists may be missing in some elements.
fn elements<'v>(path: &SplitPath, value: &'v Value) -> Option<Vec<&'v Value>> {
    let mut at = vec![value];
    let mut lists = 0;
    for step in &path.0 {
        at = match step {
            SplitStep::Into(name) => at.into_iter().filter_map(|value| value.get(name)).collect(),
            SplitStep::Each => {
                let inner: Vec<&Vec<Value>> = at.into_iter().filter_map(Value::as_array).collect();
                if inner.is_empty() && lists == 0 {
                    return None;
                }
                lists += 1;
                // One more than is allowed is enough to refuse it.
                inner.into_iter().flatten().take(ITEMS_MAX + 1).collect()
            }
        };
    }
    Some(at)
}

/// `position` is the place within a batch of several.
fn item(delivered: &Delivered<'_>, proof: Option<&Proof>, position: Option<usize>) -> Item {
    let document = delivered.definition.document();
    let view = delivered.view();
    let (name, aliases) = event_name(document, &view);
    let (source_text, title) = text(document, &view);
    let (delivery_id, delivery_id_signed) = delivery_id(document, &view, proof, position);
    let carries_commands = match &document.command_events {
        Some(events) => events.iter().any(|event| *event == name || aliases.contains(event)),
        None => true,
    };
    let resource = &document.resource;
    let event = Event {
        noop: !document.noop.is_empty() && all_hold(&document.noop, &view),
        carries_commands,
        text: source_text.as_ref().and_then(|text| plain::of(text.format, &text.value)),
        title,
        actor: actor::actor(&document.actor, &view),
        resource: first_text(&resource.id, &view),
        thread: first_text(&resource.thread, &view),
        url: first_text(&resource.url, &view).filter(|url| url.starts_with("https://") || url.starts_with("http://")),
        delivery_id,
        delivery_id_signed,
        pressed: pressed(document, &view),
        name,
        aliases,
    };
    let payload = delivered.item.unwrap_or(&delivered.payload.value).clone();
    Item { event, payload, source_text }
}

fn event_name(document: &Document, view: &View<'_>) -> (String, Vec<String>) {
    let named = document.event.iter().filter(|rule| all_hold(&rule.when, view)).find_map(|rule| {
        let name = rule.name.text(view).filter(|name| is_event_name(name))?;
        let mut aliases: Vec<String> = Vec::new();
        for alias in rule.aliases.iter().filter_map(|alias| alias.text(view)) {
            if alias != name && is_event_name(&alias) && !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        Some((name, aliases))
    });
    named.unwrap_or_else(|| (UNKNOWN_EVENT.to_owned(), Vec::new()))
}

fn is_event_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= EVENT_NAME_CHARS_MAX && !name.chars().any(char::is_control)
}

/// What was pressed, where that is a button of ours.
fn pressed(document: &Document, view: &View<'_>) -> Option<Pressed> {
    let rule = document.pressed.iter().find(|rule| !rule.when.is_empty() && all_hold(&rule.when, view))?;
    Pressed::parse(rule.approve, &rule.about.text(view)?)
}

/// The first rule that applies and finds something.
fn text(document: &Document, view: &View<'_>) -> (Option<SourceText>, Option<String>) {
    let found = document.text.iter().filter(|rule| all_hold(&rule.when, view)).find_map(|rule| {
        let value = view.find(&rule.from)?.into_json()?;
        let text = (!value.is_null()).then_some(SourceText { value, format: rule.format });
        let title = rule.title.as_ref().and_then(|selector| view.find(selector)?.into_text());
        let title = title.map(|title| title.into_owned()).filter(|title| !title.is_empty());
        (text.is_some() || title.is_some()).then_some((text, title))
    });
    found.unwrap_or_default()
}

fn delivery_id(
    document: &Document,
    view: &View<'_>,
    proof: Option<&Proof>,
    position: Option<usize>,
) -> (Option<String>, bool) {
    let ids = &document.delivery;
    let fill = |template: &Template| Some((template.text(view)?, covered(template, proof)));
    let own = view.item.is_some().then(|| ids.item_id.iter().find_map(fill)).flatten();
    let (id, signed) = match own.or_else(|| {
        let (id, signed) = ids.id.iter().find_map(fill)?;
        // Items that share the id of their delivery are still different things.
        let shared = !ids.id.iter().any(|template| template.selectors().any(names_item));
        Some(match position {
            Some(n) if shared => (format!("{id}#{n}"), signed),
            _ => (id, signed),
        })
    }) {
        Some(found) => found,
        None => return (None, false),
    };
    let id = if id.len() > DELIVERY_ID_BYTES_MAX { format!("sha256:{}", Digest::of(id.as_bytes())) } else { id };
    (Some(id), signed)
}

fn names_item(selector: &super::selector::Selector) -> bool {
    use super::selector::Selector;
    matches!(selector, Selector::Item(_) | Selector::FirstItemKey(_))
}

fn covered(template: &Template, proof: Option<&Proof>) -> bool {
    proof.is_some_and(|proof| template.selectors().all(|selector| proof.covers(selector)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Permission;
    use crate::model::provider::{Headers, catalog, decode};
    use serde_json::json;

    fn items(provider: &str, headers: &[(&str, &str)], body: &Value, proof: Option<&Proof>) -> Result<Vec<Item>> {
        let catalogue = catalog::builtin().unwrap();
        let definition = catalogue.get(provider).unwrap();
        let headers: Headers = headers.iter().copied().collect();
        let incoming = Incoming::new("POST", "https://h.example/", headers, body.to_string());
        let payload = decode(definition, &incoming)?;
        extract(definition, &incoming, &payload, &Settings::default(), proof)
    }

    fn proof(headers: &[&str]) -> Proof {
        let signed_headers = headers.iter().map(|name| (*name).to_owned()).collect();
        Proof { covers_body: true, signed_headers, ..Proof::default() }
    }

    #[test]
    fn id_counts_as_signed_only_where_the_signature_covers_it() {
        let signed = |provider: &str, header: &str, proof: Option<&Proof>| {
            let event =
                items(provider, &[(header, "1")], &json!({"id": "evt", "type": "t"}), proof).unwrap().remove(0).event;
            (event.delivery_id, event.delivery_id_signed)
        };
        let covering = proof(&["webhook-id"]);
        assert_eq!(signed("github", "X-GitHub-Delivery", Some(&covering)), (Some("1".to_owned()), false));
        assert_eq!(signed("standard_webhooks", "webhook-id", Some(&covering)), (Some("1".to_owned()), true));
        assert_eq!(signed("gitlab", "Idempotency-Key", Some(&covering)), (Some("1".to_owned()), false));
        assert_eq!(signed("stripe", "x", Some(&covering)), (Some("evt".to_owned()), true));
        assert_eq!(signed("stripe", "x", Some(&Proof::default())), (Some("evt".to_owned()), false));
        assert_eq!(signed("standard_webhooks", "webhook-id", None), (Some("1".to_owned()), false));
    }

    #[test]
    fn endless_id_is_kept_as_its_digest() {
        let long = "x".repeat(5_000);
        let id =
            items("github", &[("X-GitHub-Delivery", &long)], &json!({}), None).unwrap().remove(0).event.delivery_id;
        assert!(id.is_some_and(|id| id.starts_with("sha256:") && id.len() < 80));
    }

    #[test]
    fn association_of_another_author_says_nothing_about_the_actor() {
        let of = |sender: &str, commenter: &str, association: &str| {
            let body = json!({
                "action": "edited", "sender": {"login": sender, "type": "User"},
                "issue": {"number": 1, "user": {"login": "mallory"}, "author_association": "NONE"},
                "comment": {"user": {"login": commenter}, "author_association": association, "body": "x"},
            });
            let event = items("github", &[("X-GitHub-Event", "issue_comment")], &body, None).unwrap().remove(0).event;
            event.actor.map(|actor| (actor.permission, actor.association)).unwrap()
        };
        assert_eq!(of("alice", "alice", "OWNER"), (Permission::Trusted, Some("OWNER".to_owned())));
        // Mallory edits Alice's comment on Mallory's own issue.
        assert_eq!(of("mallory", "alice", "OWNER"), (Permission::Ask, Some("NONE".to_owned())));
        assert_eq!(of("bob", "alice", "OWNER"), (Permission::Ask, None));
        assert_eq!(of("bob", "bob", "CONTRIBUTOR"), (Permission::Ask, Some("CONTRIBUTOR".to_owned())));
    }

    #[test]
    fn batches_are_taken_apart() {
        let body = json!([
            {"eventId": 1, "subscriptionType": "contact.creation", "objectId": 7},
            {"eventId": 2, "subscriptionType": "contact.deletion", "objectId": 8},
        ]);
        let found = items("hubspot", &[], &body, Some(&proof(&[]))).unwrap();
        let told: Vec<_> =
            found.iter().map(|item| (item.event.name.as_str(), item.event.delivery_id.as_deref())).collect();
        assert_eq!(told, [("contact.creation", Some("1")), ("contact.deletion", Some("2"))]);
        assert_eq!(found[1].payload, body[1]);
        assert!(found[0].event.delivery_id_signed);

        let beat = items("asana", &[], &json!({"events": []}), None).unwrap();
        assert_eq!((beat[0].event.name.as_str(), beat[0].event.noop), ("heartbeat", true));
        assert!(items("hubspot", &[], &json!([]), None).unwrap().is_empty());
        assert!(items("hubspot", &[], &Value::Array(vec![json!({}); ITEMS_MAX + 1]), None).is_err());
    }

    #[test]
    fn repeated_header_names_nothing() {
        let twice = [
            ("X-GitHub-Event", "push"),
            ("X-GitHub-Event", "issues"),
            ("X-GitHub-Delivery", "1"),
            ("x-github-delivery", "2"),
        ];
        let event = items("github", &twice, &json!({}), None).unwrap().remove(0).event;
        assert_eq!((event.name.as_str(), event.delivery_id), (UNKNOWN_EVENT, None));
    }

    #[test]
    fn commands_come_with_new_text_only() {
        let carries = |action: &str| {
            let body = json!({"action": action, "comment": {"body": "@agent fix"}});
            items("github", &[("X-GitHub-Event", "issue_comment")], &body, None)
                .unwrap()
                .remove(0)
                .event
                .carries_commands
        };
        assert!(carries("created"));
        assert!(!carries("edited") && !carries("deleted"));
    }
}
