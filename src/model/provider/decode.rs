//! From the body to a JSON value, by the content type and the definition.

use serde_json::{Map, Value};

use super::cloudevents;
use super::definition::Definition;
use super::form;
use super::incoming::Incoming;
use super::multipart;
use super::schema::{DecodeAs, DecodeRule, Envelope};
use crate::error::{Code, Error, Result};

/// Deepest nesting of a payload.
pub const DEPTH_MAX: usize = 64;

/// A decoded body.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// An object or an array.
    pub value: Value,
}

/// Reads the body. `SH0406` for content that the sender should not send, `SH0407` for content that is broken.
pub fn decode(definition: &Definition, incoming: &Incoming) -> Result<Payload> {
    let media = media_type(incoming)?;
    let rule = definition.document().receive.decode.iter().find(|rule| fits(rule, media.as_deref(), incoming));
    let Some(rule) = rule else {
        let shown = media.as_deref().unwrap_or("none");
        let message = format!("content type `{}` is not supported here", shown.escape_debug());
        let wanted = definition.document().receive.decode.iter().map(|rule| format!("`{}`", rule.r#type));
        let hint = format!("send {}", wanted.collect::<Vec<_>>().join(" or "));
        return Err(Error::new(Code::UnsupportedContent, message).hint(hint));
    };
    let value = read(rule, media.as_deref(), incoming)?;
    match value {
        Value::Object(_) | Value::Array(_) => {}
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(bad("the payload must be a JSON object or array"));
        }
    }
    if is_deeper(&value, DEPTH_MAX) {
        return Err(bad(format!("the payload is nested deeper than {DEPTH_MAX}")));
    }
    Ok(Payload { value })
}

fn read(rule: &DecodeRule, media: Option<&str>, incoming: &Incoming) -> Result<Value> {
    if rule.envelope == Some(Envelope::CloudeventsBinary)
        && let Some(event) = cloudevents::of_headers(incoming, media)?
    {
        return Ok(event);
    }
    match rule.r#as {
        DecodeAs::Json => json(&incoming.body),
        DecodeAs::Form if media == Some(multipart::MEDIA_TYPE) => multipart::read(incoming).map(object),
        DecodeAs::Form => form_fields(incoming).map(object),
        DecodeAs::FormJson => {
            let name = rule.field.as_deref().unwrap_or("payload");
            let mut values = form_fields(incoming)?.into_iter().filter(|(have, _)| have == name);
            match (values.next(), values.next()) {
                (Some((_, text)), None) => json(text.as_bytes()),
                (None, _) => Err(bad(format!("the form has no field `{name}`"))),
                (Some(_), Some(_)) => Err(bad(format!("the form has the field `{name}` twice"))),
            }
        }
        DecodeAs::Bytes => Err(Error::new(Code::UnsupportedContent, "this body means nothing without its envelope")),
    }
}

fn fits(rule: &DecodeRule, media: Option<&str>, incoming: &Incoming) -> bool {
    let json_like = media.is_some_and(|media| media.ends_with("+json"));
    let by_type = match media {
        // Nothing said: JSON is what webhooks are.
        None => rule.r#as == DecodeAs::Json,
        Some(media) => {
            rule.r#type == "*/*"
                || rule.r#type.eq_ignore_ascii_case(media)
                || (json_like && rule.r#type == "application/json")
        }
    };
    let by_field = match &rule.when_field {
        Some(name) => form::fields(&incoming.body).is_some_and(|fields| fields.iter().any(|(have, _)| have == name)),
        None => true,
    };
    by_type && by_field
}

/// The media type; refuses what is said twice and every encoding of text but UTF-8.
fn media_type(incoming: &Incoming) -> Result<Option<String>> {
    let unsupported = |message: &str| Error::new(Code::UnsupportedContent, message);
    if incoming.headers.is_repeated("content-type") {
        return Err(unsupported("the content type is given twice"));
    }
    if incoming.headers.single("content-encoding").is_some_and(|value| !value.eq_ignore_ascii_case(b"identity")) {
        return Err(unsupported("compressed bodies are not supported"));
    }
    let Some(value) = incoming.headers.single("content-type") else { return Ok(None) };
    let value = std::str::from_utf8(value).map_err(|_| unsupported("the content type cannot be read"))?;
    for parameter in value.split(';').skip(1) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("charset")
            && !["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
        {
            return Err(unsupported("text must be UTF-8"));
        }
    }
    Ok(incoming.media_type())
}

fn json(bytes: &[u8]) -> Result<Value> {
    // A byte order mark means nothing in UTF-8 and is sent by some.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(bad("the body is empty"));
    }
    serde_json::from_slice(bytes).map_err(|error| bad("the body is not valid JSON").detail(error))
}

fn form_fields(incoming: &Incoming) -> Result<Vec<(String, String)>> {
    if incoming.body.is_empty() {
        return Err(bad("the body is empty"));
    }
    form::fields(&incoming.body).ok_or_else(|| bad("the body is not a valid form"))
}

fn object(fields: Vec<(String, String)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>())
}

pub(super) fn bad(message: impl Into<String>) -> Error {
    Error::new(Code::BadPayload, message)
}

/// Without recursion, so that no payload can exhaust the stack.
fn is_deeper(value: &Value, limit: usize) -> bool {
    let mut pending = vec![(value, 1_usize)];
    while let Some((value, depth)) = pending.pop() {
        let deeper = |value| (value, depth + 1);
        match value {
            Value::Array(_) | Value::Object(_) if depth > limit => return true,
            Value::Array(items) => pending.extend(items.iter().map(deeper)),
            Value::Object(fields) => pending.extend(fields.values().map(deeper)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::catalog;
    use crate::model::provider::incoming::Headers;

    fn outcome(provider: &str, content_type: &str, body: &[u8]) -> Result<Value, u16> {
        let catalogue = catalog::builtin().unwrap();
        let mut headers = Headers::new();
        for value in content_type.split('|').filter(|value| !value.is_empty()) {
            headers.push("Content-Type", value);
        }
        let incoming = Incoming::new("POST", "https://h.example/x", headers, body.to_vec());
        let payload = decode(catalogue.get(provider).unwrap(), &incoming);
        payload.map(|payload| payload.value).map_err(|error| error.code().status())
    }

    #[test]
    fn json_and_forms_are_read() {
        let one = serde_json::json!({"a": 1});
        for content_type in ["", "application/json", "Application/JSON; charset=UTF-8", "application/vnd.x+json"] {
            assert_eq!(outcome("github", content_type, b" {\"a\":1}\n"), Ok(one.clone()), "{content_type}");
        }
        assert_eq!(outcome("github", "application/json", b"\xEF\xBB\xBF{\"a\":1}"), Ok(one.clone()));
        let form = "application/x-www-form-urlencoded";
        assert_eq!(outcome("github", form, b"payload=%7B%22a%22%3A1%7D"), Ok(one));
        assert_eq!(outcome("custom", form, b"a=1&b=x+y"), Ok(serde_json::json!({"a": "1", "b": "x y"})));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let form = "application/x-www-form-urlencoded";
        for (content_type, body) in [
            ("application/json", &b""[..]),
            ("application/json", b"  "),
            ("application/json", b"{"),
            ("application/json", b"{} {}"),
            ("application/json", b"\"text\""),
            ("application/json", b"null"),
            ("application/json", b"{\"a\":\"\xFF\"}"),
            (form, b"payload={}&payload={}"),
            (form, b"other={}"),
            (form, b"payload=%FF"),
        ] {
            assert_eq!(outcome("github", content_type, body), Err(400), "{body:?}");
        }
        for content_type in ["text/plain", "application/json; charset=latin1", "application/json|application/json"] {
            assert_eq!(outcome("github", content_type, b"{}"), Err(415), "{content_type}");
        }
        assert_eq!(outcome("gitlab", form, b"payload={}"), Err(415));
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
        assert!(outcome("github", "", &nested(DEPTH_MAX)).is_ok());
        assert_eq!(outcome("github", "", &nested(DEPTH_MAX + 1)), Err(400));
        assert_eq!(outcome("github", "", &nested(100_000)), Err(400));
    }
}
