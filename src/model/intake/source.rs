//! What a delivery is about: the same for every delivery about one thing, different for any two things.

use crate::model::digest::Digest;
use crate::model::event::Event;
use crate::model::ids::DeliveryId;
use crate::model::spec::WebhookSpec;
use crate::model::task::Source;

/// Longest text that is kept with a task, in characters; the whole one is in the delivery.
const TEXT_CHARS_MAX: usize = 2_000;

pub fn of(spec: &WebhookSpec, event: &Event, delivery: DeliveryId) -> Source {
    let external_id = external_id(spec, event, delivery);
    let flow_id = flow_id(&external_id);
    Source {
        event: event.name.clone(),
        actor: event.actor.as_ref().map(|actor| actor.id.clone()),
        text: event.text.as_ref().map(|text| text.chars().take(TEXT_CHARS_MAX).collect()),
        url: event.url.clone(),
        pressed: event.pressed.clone(),
        fresh: event.text.as_deref().is_some_and(asks_for_a_fresh_start),
        agreed: None,
        conversation_id: flow_id.clone(),
        external_id,
        flow_id,
    }
}

/// Words that begin a new conversation about the same thing.
const FRESH: [&str; 4] = ["new conversation", "start fresh", "new context", "reset conversation"];

fn asks_for_a_fresh_start(text: &str) -> bool {
    let text = text.to_lowercase();
    let is_word_end = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    FRESH.iter().any(|words| {
        text.match_indices(words).any(|(at, _)| {
            is_word_end(text[..at].chars().next_back()) && is_word_end(text[at + words.len()..].chars().next())
        })
    })
}

/// Provider, host where the payload tells one, object, thread: `github:github.com/octo/repo#7`. What has no object is
/// about itself alone.
fn external_id(spec: &WebhookSpec, event: &Event, delivery: DeliveryId) -> String {
    let Some(resource) = &event.resource else {
        return format!("{}:{}/{delivery}", spec.provider, spec.id);
    };
    let host = event.url.as_deref().and_then(|url| url::Url::parse(url).ok()).and_then(|url| {
        let host = url.host_str()?;
        Some(match url.port() {
            Some(port) => format!("{host}:{port}/"),
            None => format!("{host}/"),
        })
    });
    let thread = event.thread.as_ref().map(|thread| format!("/{thread}"));
    format!("{}:{}{resource}{}", spec.provider, host.unwrap_or_default(), thread.unwrap_or_default())
}

fn flow_id(external_id: &str) -> String {
    format!("flow_{}", Digest::of(external_id.as_bytes()).short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_start_is_asked_for_in_words_of_their_own() {
        let says = asks_for_a_fresh_start;
        assert!(
            says("@agent New Conversation: look again") && says("please start fresh.") && says("reset conversation")
        );
        assert!(!says("renew conversations") && !says("restart freshly") && !says("") && !says("a new contextual bug"));
    }

    #[test]
    fn flows_of_two_things_never_meet() {
        let texts =
            ["github:github.com/octo/repo#7", "github:github.com/octo/repo2#7", "github:ghe.example/octo/repo#7"];
        let flows: std::collections::BTreeSet<String> = texts.iter().map(|text| flow_id(text)).collect();
        assert_eq!(flows.len(), 3);
        assert!(flows.iter().all(|flow| flow.len() == "flow_".len() + 12));
    }
}
