//! Calls to a provider that wait: everything from the delivery is filled in, what only the sender knows is not.
//!
//! A prepared call is stored. It holds no secret, only the names of the slots, and no template of the delivery: text
//! of the payload in it is text, whatever braces it contains.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::address;
use super::markup;
use super::pointer::Pointer;
use super::reply::ReplyTraits;
use super::template::Expression;
use super::view::View;
use crate::error::{Code, Error, Result};
use crate::model::secret::SecretSet;

/// A call with the holes that are filled when it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedCall {
    pub method: String,
    pub url: Vec<Piece>,
    pub headers: Vec<(String, Vec<Piece>)>,
    pub body: PreparedBody,
    /// When not empty, the only hosts that it may go to: the payload chose the address.
    pub allow_hosts: Vec<String>,
    /// For how many seconds after the delivery it works.
    pub ttl_seconds: Option<u64>,
    pub max_uses: Option<u32>,
    /// The call for further parts of a split text; this call itself when absent.
    pub next: Option<Box<PreparedCall>>,
    /// What an answer must say besides a 2xx status.
    pub success: Option<PreparedSuccess>,
    /// Headers of an answer that tell when to come again.
    pub retry_headers: Vec<String>,
    /// Where the body of an answer tells that, as a JSON pointer.
    pub retry_body: Option<String>,
    /// How a text that it carries is written, split and found again.
    pub reply: Option<Box<ReplyTraits>>,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    Text(String),
    /// A selector with filters, as a definition writes it; its value is escaped for the place where it stands.
    Late {
        expression: String,
        place: Place,
    },
}

/// What the text around a hole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Plain,
    Path,
    /// One step of a path.
    Segment,
    Query,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreparedBody {
    None,
    Json { value: Value, holes: Vec<Hole> },
    Form(Vec<(String, Vec<Piece>)>),
}

/// A place in a JSON body that is filled later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// A JSON pointer.
    pub at: String,
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedSuccess {
    /// A JSON pointer into the answer.
    pub at: String,
    pub equals: Value,
}

/// A call that can be made. Redirects must not be followed with its headers.
#[derive(Clone, PartialEq, Eq)]
pub struct FilledCall {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

/// The address and the headers may hold credentials.
impl fmt::Debug for FilledCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        let body = self.body.as_ref().map(Vec::len);
        f.debug_struct("FilledCall")
            .field("method", &self.method)
            .field("headers", &names)
            .field("body", &body)
            .finish()
    }
}

impl PreparedCall {
    /// A bare POST to an address that is known.
    pub fn post(url: &str) -> Self {
        Self {
            method: "POST".to_owned(),
            url: vec![Piece::Text(url.to_owned())],
            headers: Vec::new(),
            body: PreparedBody::None,
            allow_hosts: Vec::new(),
            ttl_seconds: None,
            max_uses: None,
            next: None,
            success: None,
            retry_headers: Vec::new(),
            retry_body: None,
            reply: None,
        }
    }

    /// Whether the delivery chose the address, and the operator no more than the names of hosts: then only public
    /// machines may be reached. A host that is allowed as a number, or as this machine, was meant.
    pub fn address_is_chosen(&self) -> bool {
        let [Piece::Text(address), ..] = self.url.as_slice() else { return false };
        !self.allow_hosts.is_empty() && !address::is_numbered_or_local(address)
    }

    /// Fills the holes. `context` knows `reply`, `ack_text` and the like. Fails with `SH0408` when a secret is
    /// missing and with `SH0803` when the address is not allowed.
    pub fn fill(&self, context: &BTreeMap<String, String>, secrets: &SecretSet) -> Result<FilledCall> {
        let with_document = self.with_document(context);
        let context = with_document.as_ref().unwrap_or(context);
        let view = View { context: Some(context), secrets: Some(secrets), ..View::default() };
        let url = join(&self.url, &view)?;
        address::check(&url, &self.allow_hosts)?;
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        for (name, pieces) in &self.headers {
            let value = join(pieces, &view)?;
            if value.chars().any(char::is_control) {
                return Err(Error::new(Code::ReplyTarget, format!("header `{name}` would hold a control character")));
            }
            headers.push((name.clone(), value));
        }
        let (body, content_type) = match &self.body {
            PreparedBody::None => (None, None),
            PreparedBody::Json { value, holes } => {
                let mut value = value.clone();
                for hole in holes {
                    let filled = hole_value(&hole.pieces, &view)?;
                    Pointer::parse(&hole.at).map_err(broken)?.put(&mut value, filled);
                }
                (Some(value.to_string().into_bytes()), Some("application/json"))
            }
            PreparedBody::Form(fields) => {
                let mut form = url::form_urlencoded::Serializer::new(String::new());
                for (name, pieces) in fields {
                    form.append_pair(name, &join(pieces, &view)?);
                }
                (Some(form.finish().into_bytes()), Some("application/x-www-form-urlencoded"))
            }
        };
        if let Some(content_type) = content_type
            && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        }
        Ok(FilledCall { method: self.method.clone(), url, headers, body })
    }

    /// The reply as an Atlassian document, where the body wants one.
    fn with_document(&self, context: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
        let PreparedBody::Json { holes, .. } = &self.body else { return None };
        let wants = |piece: &Piece| matches!(piece, Piece::Late { expression, .. } if expression.contains("reply_adf"));
        if context.contains_key("reply_adf") || !holes.iter().any(|hole| hole.pieces.iter().any(wants)) {
            return None;
        }
        let document = markup::adf(context.get("reply")?).to_string();
        Some(context.clone().into_iter().chain([("reply_adf".to_owned(), document)]).collect())
    }

    /// Whether an answer means that it worked.
    pub fn succeeded(&self, status: u16, answer: Option<&Value>) -> bool {
        let said = match &self.success {
            Some(success) => {
                let pointer = Pointer::parse(&success.at).ok();
                let found = pointer.and_then(|pointer| answer.and_then(|answer| pointer.find(answer).cloned()));
                found.as_ref() == Some(&success.equals)
            }
            None => true,
        };
        (200..300).contains(&status) && said
    }

    /// The slots of secrets that it needs.
    pub fn secret_slots(&self) -> Vec<String> {
        let mut pieces: Vec<&Piece> = self.url.iter().chain(self.headers.iter().flat_map(|(_, it)| it)).collect();
        match &self.body {
            PreparedBody::None => {}
            PreparedBody::Json { holes, .. } => pieces.extend(holes.iter().flat_map(|hole| &hole.pieces)),
            PreparedBody::Form(fields) => pieces.extend(fields.iter().flat_map(|(_, it)| it)),
        }
        let expressions = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Late { expression, .. } => Expression::parse(expression).ok(),
            Piece::Text(_) => None,
        });
        let mut slots: Vec<String> =
            expressions.flat_map(|it| it.secret_slots().map(str::to_owned).collect::<Vec<_>>()).collect();
        slots.sort();
        slots.dedup();
        slots
    }
}

pub(super) fn join(pieces: &[Piece], view: &View<'_>) -> Result<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(literal) => text.push_str(literal),
            Piece::Late { expression, place } => {
                let parsed = Expression::parse(expression).map_err(broken)?;
                let value = parsed.text(view).ok_or_else(|| missing(&parsed))?;
                text.push_str(&address::escape(&value, *place).ok_or_else(|| unusable(expression))?);
            }
        }
    }
    Ok(text)
}

/// A hole that is one expression keeps the kind of its value.
pub(super) fn hole_value(pieces: &[Piece], view: &View<'_>) -> Result<Value> {
    match pieces {
        [Piece::Late { expression, .. }] => {
            let parsed = Expression::parse(expression).map_err(broken)?;
            parsed.found(view).and_then(|found| found.into_json()).ok_or_else(|| missing(&parsed))
        }
        pieces => join(pieces, view).map(Value::String),
    }
}

fn broken(error: String) -> Error {
    Error::new(Code::Bug, "a stored call cannot be read").detail(error)
}

fn unusable(expression: &str) -> Error {
    Error::new(Code::ReplyTarget, format!("what `{expression}` says cannot stand in an address"))
}

fn missing(expression: &Expression) -> Error {
    match expression.secret_slots().next() {
        Some(slot) => Error::new(Code::SecretMissing, missing_secret(slot)),
        None => Error::new(Code::Bug, format!("nothing fills `{}`", expression.source)),
    }
}

fn missing_secret(slot: &str) -> String {
    format!(
        "the secret `{slot}` is not set: name its variable with `{slot}_env` in the provider's table of skillhook.toml"
    )
}

/// A question about the actor's rights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedLookup {
    pub call: PreparedCall,
    /// A JSON pointer into the answer.
    pub take: String,
    pub trusted: Option<Vec<Value>>,
    pub trusted_min: Option<i64>,
}

impl PreparedLookup {
    /// Whether an answer grants the right. Anything unexpected denies it.
    pub fn judge(&self, answer: &Value) -> bool {
        let Some(value) = Pointer::parse(&self.take).ok().and_then(|pointer| pointer.find(answer)) else {
            return false;
        };
        match (&self.trusted, self.trusted_min) {
            (None, None) => match value {
                Value::Bool(truth) => *truth,
                Value::String(text) => !text.is_empty(),
                Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => false,
            },
            (trusted, least) => {
                let listed = trusted.as_ref().is_some_and(|trusted| trusted.contains(value));
                let enough = least.is_some_and(|least| value.as_i64().is_some_and(|level| level >= least));
                listed || enough
            }
        }
    }
}

#[cfg(test)]
impl PreparedCall {
    /// A bare GET, for tests.
    pub fn to(url: &str) -> Self {
        Self { method: "GET".to_owned(), ..Self::post(url) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lookup(trusted: Option<Vec<Value>>, trusted_min: Option<i64>) -> PreparedLookup {
        PreparedLookup { call: PreparedCall::to("https://a.example/"), take: "/p".to_owned(), trusted, trusted_min }
    }

    #[test]
    fn lookup_fails_closed() {
        let listed = lookup(Some(vec![json!("admin"), json!("write")]), None);
        assert!(listed.judge(&json!({"p": "write"})));
        let enough = lookup(None, Some(30));
        assert!(enough.judge(&json!({"p": 40})) && enough.judge(&json!({"p": 30})));
        assert!(lookup(None, None).judge(&json!({"p": true})));
        for denied in [json!({"p": "read"}), json!({"p": 29}), json!({"p": "40"}), json!({"p": null}), json!({})] {
            assert!(!listed.judge(&denied) && !enough.judge(&denied), "{denied}");
        }
        assert!(!lookup(None, None).judge(&json!({"p": false})));
        assert!(!lookup(None, None).judge(&json!({"p": 1})));
    }

    #[test]
    fn reply_that_looks_like_a_template_stays_as_it_is() {
        let mut call = PreparedCall::to("https://a.example/x");
        let late = |expression: &str| Piece::Late { expression: expression.to_owned(), place: Place::Plain };
        let holes = vec![Hole { at: "/body".to_owned(), pieces: vec![late("ctx:reply")] }];
        call.body = PreparedBody::Json { value: json!({"body": null, "kind": "{ctx:reply}"}), holes };
        call.headers = vec![("Authorization".to_owned(), vec![Piece::Text("Bearer ".to_owned()), late("secret:t")])];
        let context = BTreeMap::from([("reply".to_owned(), "{secret:t} \"quoted\"".to_owned())]);
        let secrets = SecretSet::new().with("t", "s3cret");
        let stored: PreparedCall = serde_json::from_value(serde_json::to_value(&call).unwrap()).unwrap();
        let filled = stored.fill(&context, &secrets).unwrap();
        let body: Value = serde_json::from_slice(filled.body.as_deref().unwrap()).unwrap();
        assert_eq!(body, json!({"body": "{secret:t} \"quoted\"", "kind": "{ctx:reply}"}));
        assert_eq!(filled.headers[0].1, "Bearer s3cret");
        assert!(!format!("{filled:?}").contains("s3cret"));
        assert_eq!(stored.fill(&context, &SecretSet::new()).unwrap_err().code(), Code::SecretMissing);
        assert_eq!(stored.secret_slots(), ["t"]);
    }
}
