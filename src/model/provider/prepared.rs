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

/// Longest complaint of a provider that is passed on, in characters.
const COMPLAINT_CHARS_MAX: usize = 200;

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
    /// An answer that means that it may work later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<PreparedAgain>,
    /// The least times between messages to the places that it goes to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spacing: Vec<Spaced>,
    /// How a text that it carries is written, split and found again.
    pub reply: Option<Box<ReplyTraits>>,
}

/// A place where messages keep a distance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spaced {
    pub of: String,
    pub milliseconds: u64,
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

impl Piece {
    fn settled(&self, known: &BTreeMap<String, String>) -> Self {
        let text = match self {
            Piece::Text(_) => None,
            Piece::Late { expression, place } => {
                let value = expression.strip_prefix("ctx:").and_then(|name| known.get(name));
                value.and_then(|value| address::escape(value, *place))
            }
        };
        text.map_or_else(|| self.clone(), Piece::Text)
    }
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
    pub is: Expected,
    /// An answer that is no JSON means success too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// Where the answer says what was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
}

/// What stands at a place of an answer that means success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Equal(Value),
    Something,
    /// Nothing, or null.
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedAgain {
    /// A JSON pointer into the answer.
    pub at: String,
    pub one_of: Vec<Value>,
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
            again: None,
            spacing: Vec::new(),
            reply: None,
        }
    }

    /// Whether the delivery chose the address, and the operator no more than the names of hosts: then only public
    /// machines may be reached. A host that is allowed as a number, or as this machine, was meant.
    pub fn address_is_chosen(&self) -> bool {
        let [Piece::Text(address), ..] = self.url.as_slice() else { return false };
        !self.allow_hosts.is_empty() && !address::is_numbered_or_local(address)
    }

    /// The same call with some of its holes filled for good.
    #[must_use]
    pub fn settled(&self, known: &BTreeMap<String, String>) -> Self {
        let settle = |pieces: &[Piece]| pieces.iter().map(|piece| piece.settled(known)).collect::<Vec<_>>();
        let body = match &self.body {
            PreparedBody::None => PreparedBody::None,
            PreparedBody::Json { value, holes } => {
                let settled = |hole: &Hole| Hole { at: hole.at.clone(), pieces: settle(&hole.pieces) };
                PreparedBody::Json { value: value.clone(), holes: holes.iter().map(settled).collect() }
            }
            PreparedBody::Form(fields) => {
                PreparedBody::Form(fields.iter().map(|(name, pieces)| (name.clone(), settle(pieces))).collect())
            }
        };
        let headers = self.headers.iter().map(|(name, pieces)| (name.clone(), settle(pieces))).collect();
        Self { url: settle(&self.url), headers, body, ..self.clone() }
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
        let said = self.success.as_ref().is_none_or(|success| {
            if answer.is_none() {
                return success.plain;
            }
            let found = at(&success.at, answer).filter(|found| !found.is_null());
            match &success.is {
                Expected::Equal(value) => found == Some(value),
                Expected::Something => found.is_some(),
                Expected::Nothing => found.is_none(),
            }
        });
        (200..300).contains(&status) && said
    }

    /// Whether an answer asks to come again, whatever its status.
    pub fn asks_again(&self, answer: Option<&Value>) -> bool {
        let found = self.again.as_ref().and_then(|again| Some((again, at(&again.at, answer)?)));
        found.is_some_and(|(again, found)| again.one_of.contains(found))
    }

    /// What an answer says that was wrong, in a form that can be shown.
    pub fn complaint(&self, answer: Option<&Value>) -> Option<String> {
        let told = at(self.success.as_ref()?.says.as_deref()?, answer)?.as_str()?;
        let told: String = told.chars().filter(|c| !c.is_control()).take(COMPLAINT_CHARS_MAX).collect();
        Some(told).filter(|told| !told.is_empty())
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

fn at<'v>(pointer: &str, answer: Option<&'v Value>) -> Option<&'v Value> {
    Pointer::parse(pointer).ok()?.find(answer?)
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

    #[test]
    fn what_counts_as_success_is_what_the_definition_says() {
        let call = |is: Expected, plain: bool| PreparedCall {
            success: Some(PreparedSuccess { at: "/x".to_owned(), is, plain, says: Some("/why".to_owned()) }),
            ..PreparedCall::post("https://a.example/")
        };
        let told = |call: &PreparedCall, answer: Value| call.succeeded(200, Some(&answer));
        let equal = call(Expected::Equal(json!(true)), false);
        assert!(told(&equal, json!({"x": true})) && !told(&equal, json!({"x": false})) && !told(&equal, json!({})));
        let nothing = call(Expected::Nothing, false);
        assert!(told(&nothing, json!({"x": null})) && told(&nothing, json!({})) && !told(&nothing, json!({"x": []})));
        let something = call(Expected::Something, false);
        assert!(told(&something, json!({"x": 0})) && !told(&something, json!({"x": null})));
        assert!(!nothing.succeeded(200, None) && call(Expected::Nothing, true).succeeded(200, None));
        assert!(!nothing.succeeded(500, Some(&json!({}))));
        assert_eq!(nothing.complaint(Some(&json!({"why": "a\nb"}))).as_deref(), Some("ab"));
        let again = PreparedAgain { at: "/why".to_owned(), one_of: vec![json!("later")] };
        let patient = PreparedCall { again: Some(again), ..nothing };
        assert!(patient.asks_again(Some(&json!({"why": "later"}))) && !patient.asks_again(Some(&json!({"why": "no"}))));
    }

    #[test]
    fn settled_holes_are_filled_for_good_and_the_others_stay() {
        let late = |expression: &str| Piece::Late { expression: expression.to_owned(), place: Place::Plain };
        let pieces = vec![late("ctx:task"), Piece::Text(" ".to_owned()), late("ctx:digest")];
        let holes = vec![
            Hole { at: "/value".to_owned(), pieces },
            Hole { at: "/text".to_owned(), pieces: vec![late("ctx:reply")] },
        ];
        let body = PreparedBody::Json { value: json!({"value": null, "text": null}), holes };
        let call = PreparedCall { body, ..PreparedCall::post("https://a.example/") };
        let known = [("task", "tsk_1"), ("digest", "{ctx:reply}")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let context = BTreeMap::from([("reply".to_owned(), "hello".to_owned())]);
        let filled = call.settled(&known).fill(&context, &SecretSet::new()).unwrap();
        let body: Value = serde_json::from_slice(filled.body.as_deref().unwrap()).unwrap();
        assert_eq!(body, json!({"value": "tsk_1 {ctx:reply}", "text": "hello"}));
    }
}
