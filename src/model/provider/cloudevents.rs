//! CloudEvents 1.0 in binary mode: attributes in `ce-` headers, data in the body
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::decode::bad;
use super::incoming::Incoming;
use crate::error::Result;

/// The event in its structured form; nothing when the headers carry no event.
pub fn of_headers(incoming: &Incoming, media: Option<&str>) -> Result<Option<Value>> {
    if !incoming.headers.contains("ce-specversion") {
        return Ok(None);
    }
    let mut event = Map::new();
    for (name, value) in incoming.headers.iter() {
        let Some(attribute) = name.strip_prefix("ce-") else { continue };
        let text = std::str::from_utf8(value).map_err(|_| bad(format!("header `{name}` is not text")))?;
        if event.insert(attribute.to_owned(), Value::String(unescape(text))).is_some() {
            return Err(bad(format!("header `{name}` stands twice")));
        }
    }
    if let Some(media) = media {
        event.insert("datacontenttype".to_owned(), Value::String(media.to_owned()));
    }
    if !incoming.body.is_empty() {
        let is_json = media.is_none_or(|media| media == "application/json" || media.ends_with("+json"));
        let (name, data) = if is_json {
            let data = serde_json::from_slice(&incoming.body);
            ("data", data.map_err(|error| bad("the body is not valid JSON").detail(error))?)
        } else {
            match std::str::from_utf8(&incoming.body) {
                Ok(text) => ("data", Value::String(text.to_owned())),
                Err(_) => ("data_base64", Value::String(STANDARD.encode(&incoming.body))),
            }
        };
        event.insert(name.to_owned(), data);
    }
    Ok(Some(Value::Object(event)))
}

/// Header values are percent-encoded where they are not plain; a broken escape stays as it is.
fn unescape(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let escaped_plus = text.replace('+', "%2B");
    match super::form::fields(format!("v={}", escaped_plus.replace('&', "%26").replace('=', "%3D")).as_bytes()) {
        Some(fields) => fields.into_iter().next().map_or_else(String::new, |(_, value)| value),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::incoming::Headers;
    use serde_json::json;

    #[test]
    fn attributes_come_from_headers_and_data_from_the_body() {
        let headers: Headers =
            [("ce-specversion", "1.0"), ("ce-id", "a%20b"), ("ce-subject", "1+1=2")].into_iter().collect();
        let incoming = Incoming::new("POST", "https://h.example/", headers, "{\"x\":1}");
        let event = of_headers(&incoming, Some("application/json")).unwrap().unwrap();
        assert_eq!(
            event,
            json!({"specversion": "1.0", "id": "a b", "subject": "1+1=2",
                   "datacontenttype": "application/json", "data": {"x": 1}})
        );
        let none = Incoming::new("POST", "https://h.example/", Headers::new(), "{}");
        assert_eq!(of_headers(&none, None).unwrap(), None);
    }
}
