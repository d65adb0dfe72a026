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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::{Headers, catalog, decode};

    fn shaken(
        provider: &str,
        request: (&str, &str, &[(&str, &str)], &str),
        secrets: &SecretSet,
        verified: bool,
    ) -> Option<Handshake> {
        let (method, url, headers, body) = request;
        let catalogue = catalog::builtin().unwrap();
        let definition = catalogue.get(provider).unwrap();
        let incoming = Incoming::new(method, url, headers.iter().copied().collect::<Headers>(), body.to_owned());
        let payload = decode(definition, &incoming).ok();
        let settings: Settings = [("allowed_origins", "a.example, b.example")].into_iter().collect();
        challenge(definition, &incoming, payload.as_ref(), secrets, &settings, verified)
    }

    #[test]
    fn slack_is_answered_only_after_verification() {
        let request = ("POST", "https://h.example/", &[][..], r#"{"type":"url_verification","challenge":"c{raw}"}"#);
        assert!(shaken("slack", request, &SecretSet::new(), false).is_none());
        let answer = shaken("slack", request, &SecretSet::new(), true).unwrap();
        assert_eq!(answer.response.body, br#"{"challenge":"c{raw}"}"#);
        assert_eq!(answer.response.content_type.as_deref(), Some("application/json"));
    }

    #[test]
    fn zoom_is_told_the_digest_only_after_verification() {
        let secrets = SecretSet::new().with("secret_token", "zoom-secret");
        let request = (
            "POST",
            "https://h.example/",
            &[][..],
            r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#,
        );
        assert!(shaken("zoom", request, &secrets, false).is_none());
        let body = String::from_utf8(shaken("zoom", request, &secrets, true).unwrap().response.body).unwrap();
        assert!(body.contains("b17f0320a1322a509340a1a835b3d9edbc491f0b0790ed2d20d0604d39dfe922"), "{body}");
    }

    #[test]
    fn asana_sets_its_secret_once() {
        let request = ("POST", "https://h.example/", &[("X-Hook-Secret", "s1")][..], "");
        let first = shaken("asana", request, &SecretSet::new(), false).unwrap();
        assert_eq!(first.persist["hook_secret"].expose(), b"s1");
        assert_eq!(first.response.headers, [("X-Hook-Secret".to_owned(), "s1".to_owned())]);
        assert!(shaken("asana", request, &SecretSet::new().with("hook_secret", "s0"), false).is_none());
    }

    #[test]
    fn meta_is_refused_with_a_wrong_token() {
        let secrets = SecretSet::new().with("verify_token", "vt");
        let ask = |token: &str| {
            let url = format!("https://h.example/?hub.mode=subscribe&hub.challenge=42&hub.verify_token={token}");
            shaken("meta", ("GET", &url, &[], ""), &secrets, false).unwrap().response
        };
        assert_eq!((ask("vt").status, ask("vt").body), (200, b"42".to_vec()));
        assert_eq!(ask("no").status, 403);
    }

    #[test]
    fn only_listed_origins_may_send_cloudevents() {
        let ask = |origin: &str| {
            let headers = [("WebHook-Request-Origin", origin)];
            shaken("cloudevents", ("OPTIONS", "https://h.example/", &headers, ""), &SecretSet::new(), false)
                .unwrap()
                .response
        };
        assert_eq!(ask("b.example").status, 200);
        let refused = ask("evil.example");
        assert!(refused.status == 403 && refused.headers.is_empty());
    }
}
