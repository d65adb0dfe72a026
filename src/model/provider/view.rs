//! What selectors can see: one delivery, the operator's settings, and, where it is allowed, secrets and the context
//! of a call.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::form;
use super::incoming::Incoming;
use super::selector::Selector;
use super::settings::Settings;
use super::template::Template;
use crate::model::secret::SecretSet;

/// The places that are in sight; what is `None` is as if it were not there.
#[derive(Clone, Copy, Default)]
pub struct View<'a> {
    pub incoming: Option<&'a Incoming>,
    pub body: Option<&'a Value>,
    pub item: Option<&'a Value>,
    pub settings: Option<&'a Settings>,
    /// What `cfg:api_base` means when the operator does not set it.
    pub api_base: Option<&'a Template>,
    pub secrets: Option<&'a SecretSet>,
    pub context: Option<&'a BTreeMap<String, String>>,
    /// Fields of the signature header.
    pub signature: &'a [(String, String)],
    pub key: Option<&'a [u8]>,
    /// Another spelling of the address, where senders are not of one mind about ports.
    pub url: Option<&'a str>,
    pub jwt_header: Option<&'a Value>,
    pub answer: Option<&'a Value>,
}

/// A value that a selector found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    Text(Cow<'a, str>),
    /// Bytes that mean nothing as text, or must be taken exactly.
    Bytes(Cow<'a, [u8]>),
    Json(Cow<'a, Value>),
}

impl<'a> View<'a> {
    pub fn find(&self, selector: &Selector) -> Option<Found<'a>> {
        match selector {
            Selector::Raw => Some(Found::Bytes(Cow::Borrowed(&self.incoming?.body))),
            Selector::Method => Some(Found::Text(Cow::Borrowed(&self.incoming?.method))),
            Selector::Url => Some(Found::Text(Cow::Borrowed(self.url.unwrap_or(&self.incoming?.url)))),
            Selector::ContentType => self.incoming?.media_type().map(|media| Found::Text(Cow::Owned(media))),
            Selector::FormSorted => {
                let sorted = form::sorted_fields(&self.incoming?.body)?;
                Some(Found::Bytes(Cow::Owned(sorted.into_bytes())))
            }
            Selector::Key => self.key.map(|key| Found::Bytes(Cow::Borrowed(key))),
            Selector::Header(name) => self.incoming?.headers.single(name).map(Found::of_bytes),
            Selector::Query(name) => owned(form::single(self.incoming?.query.as_bytes(), name)),
            Selector::Form(name) => owned(form::single(&self.incoming?.body, name)),
            Selector::Body(pointer) => pointer.find(self.body?).map(Found::of_json),
            Selector::Item(pointer) => pointer.find(self.item.or(self.body)?).map(Found::of_json),
            Selector::Value(pointer) => {
                let member = self.body?.as_object()?.values().find(|member| member.is_object())?;
                pointer.find(member).map(Found::of_json)
            }
            Selector::Answer(pointer) => pointer.find(self.answer?).map(Found::of_json),
            Selector::FirstKey(except) => first_key(self.body?, except),
            Selector::FirstItemKey(except) => first_key(self.item.or(self.body)?, except),
            Selector::Signature(name) => {
                let mut values = self.signature.iter().filter(|(have, _)| have == name).map(|(_, value)| value);
                let value = values.next()?;
                values.next().is_none().then_some(Found::Text(Cow::Borrowed(value)))
            }
            Selector::Secret(slot) => {
                self.secrets?.first(slot).map(|secret| Found::Bytes(Cow::Borrowed(secret.expose())))
            }
            Selector::Config(name) => self.config(name),
            Selector::Context(name) => self.context?.get(name).map(|text| Found::Text(Cow::Borrowed(text))),
            Selector::Const(text) => Some(Found::Text(Cow::Owned(text.clone()))),
            Selector::JwtHeader(pointer) => pointer.find(self.jwt_header?).map(Found::of_json),
        }
    }

    fn config(&self, name: &str) -> Option<Found<'a>> {
        if let Some(text) = self.settings.and_then(|settings| settings.get(name)) {
            return Some(Found::Text(Cow::Borrowed(text)));
        }
        if name != "api_base" {
            return None;
        }
        // The base may name settings, but not itself.
        let base = self.api_base?;
        View { api_base: None, ..*self }.render(base).map(|text| Found::Text(Cow::Owned(text)))
    }

    fn render(&self, template: &Template) -> Option<String> {
        template.text(self)
    }
}

fn owned<'a>(text: Option<String>) -> Option<Found<'a>> {
    text.map(|text| Found::Text(Cow::Owned(text)))
}

fn first_key<'a>(value: &'a Value, except: &[String]) -> Option<Found<'a>> {
    let key = value.as_object()?.keys().find(|key| !except.contains(key))?;
    Some(Found::Text(Cow::Borrowed(key)))
}

impl<'a> Found<'a> {
    fn of_bytes(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Found::Text(Cow::Borrowed(text)),
            Err(_) => Found::Bytes(Cow::Borrowed(bytes)),
        }
    }

    fn of_json(value: &'a Value) -> Self {
        match value {
            Value::String(text) => Found::Text(Cow::Borrowed(text)),
            other => Found::Json(Cow::Borrowed(other)),
        }
    }

    /// Null and the empty text are as good as nothing.
    pub fn is_blank(&self) -> bool {
        match self {
            Found::Text(text) => text.is_empty(),
            Found::Bytes(_) => false,
            Found::Json(value) => value.is_null(),
        }
    }

    /// As text: strings, numbers and truth values have one, containers and foreign bytes have none.
    pub fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Found::Text(text) => Some(text),
            Found::Bytes(Cow::Borrowed(bytes)) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
            Found::Bytes(Cow::Owned(bytes)) => String::from_utf8(bytes).ok().map(Cow::Owned),
            Found::Json(value) => match value.as_ref() {
                Value::String(text) => Some(Cow::Owned(text.clone())),
                Value::Number(number) => Some(Cow::Owned(number.to_string())),
                Value::Bool(truth) => Some(Cow::Owned(truth.to_string())),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            },
        }
    }

    pub fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Found::Bytes(bytes) => Some(bytes),
            other => other.into_text().map(|text| Cow::Owned(text.into_owned().into_bytes())),
        }
    }

    /// As a JSON value; foreign bytes have none.
    pub fn into_json(self) -> Option<Value> {
        match self {
            Found::Json(value) => Some(value.into_owned()),
            other => other.into_text().map(|text| Value::String(text.into_owned())),
        }
    }

    /// Whether it is this literal of a definition. Text that came without a type (a header) equals a number by its digits.
    pub fn equals(&self, literal: &Value) -> bool {
        match (self, literal) {
            (Found::Json(value), _) => value.as_ref() == literal,
            (Found::Text(text), Value::String(wanted)) => text == wanted,
            (Found::Text(text), Value::Number(number)) => *text == number.to_string(),
            (Found::Text(text), Value::Bool(truth)) => *text == if *truth { "true" } else { "false" },
            (Found::Text(_), _) => false,
            (Found::Bytes(bytes), Value::String(wanted)) => bytes.as_ref() == wanted.as_bytes(),
            (Found::Bytes(_), _) => false,
        }
    }
}
