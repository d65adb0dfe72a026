//! Handshakes: requests that are answered from the definition and start nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::call::render_json;
use super::condition::all_hold;
use super::decode::Payload;
use super::definition::Definition;
use super::incoming::Incoming;
use super::schema::{Challenge, SyncAnswer};
use super::settings::Settings;
use super::template::Template;
use super::view::View;
use crate::model::secret::{SecretSet, SecretValue};

/// An answer in the HTTP response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}

/// What a handshake comes to.
#[derive(Clone, Debug)]
pub struct Handshake {
    pub id: String,
    pub response: Response,
    /// Secrets that the sender gave us, by slot, to be kept before the answer is sent.
    pub persist: BTreeMap<String, SecretValue>,
}

/// Looks whether a request is a handshake. Asked before verification (`verified` is false) and again after it: what
/// the definition answers only after verification is never answered before.
pub fn challenge(
    definition: &Definition,
    incoming: &Incoming,
    payload: Option<&Payload>,
    secrets: &SecretSet,
    settings: &Settings,
    verified: bool,
) -> Option<Handshake> {
    let view = View {
        incoming: Some(incoming),
        body: payload.map(|payload| &payload.value),
        settings: Some(settings),
        api_base: definition.document().api.base.as_ref(),
        secrets: Some(secrets),
        ..View::default()
    };
    let rules = definition.document().challenge.iter();
    rules.filter(|rule| rule.verified == verified).find_map(|rule| shake(rule, &view))
}

fn shake(rule: &Challenge, view: &View<'_>) -> Option<Handshake> {
    if !all_hold(&rule.when, view) {
        return None;
    }
    if let Some(slot) = &rule.only_when_unset
        && view.secrets.is_none_or(|secrets| !secrets.get(slot).is_empty())
    {
        return None;
    }
    let refused = || {
        let status = rule.r#else.as_ref().and_then(|other| other.status).unwrap_or(403);
        let response = Response { status, ..Response::default() };
        Some(Handshake { id: rule.id.clone(), response, persist: BTreeMap::new() })
    };
    if !all_hold(&rule.check, view) {
        return refused();
    }
    if let Some(list) = &rule.allow_list {
        let asked = view.find(&list.sel)?.into_text()?;
        let allowed = view.settings.is_some_and(|settings| {
            settings.list(&list.cfg).any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(&asked))
        });
        if !allowed {
            return refused();
        }
    }
    let persist = rule.persist.iter().map(|(slot, template)| {
        let value = SecretValue::new(template.bytes(view)?);
        (!value.is_blank()).then(|| (slot.clone(), value))
    });
    let persist = persist.collect::<Option<BTreeMap<_, _>>>()?;
    Some(Handshake { id: rule.id.clone(), response: respond(&rule.respond, view)?, persist })
}

/// Fills an answer; nothing when something that it needs is missing or would break the header lines.
pub(super) fn respond(answer: &SyncAnswer, view: &View<'_>) -> Option<Response> {
    let header = |(name, template): (&String, &Template)| {
        let value = template.text(view).filter(|value| !value.chars().any(char::is_control))?;
        Some((name.clone(), value))
    };
    let headers = answer.headers.iter().map(header).collect::<Option<Vec<_>>>()?;
    let (body, content_type) = match (&answer.json, &answer.text) {
        (Some(json), _) => {
            let value: Value = render_json(json, view)?;
            (value.to_string().into_bytes(), Some("application/json"))
        }
        (None, Some(text)) if text.parts.is_empty() => (Vec::new(), None),
        (None, Some(text)) => (text.text(view)?.into_bytes(), Some("text/plain; charset=utf-8")),
        (None, None) => (Vec::new(), None),
    };
    let content_type = answer.content_type.as_deref().or(content_type).map(str::to_owned);
    Some(Response { status: answer.status, headers, content_type, body })
}
