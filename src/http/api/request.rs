//! One request to the admin API, as the operations see it.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use warp::http::header;

use super::access::Caller;
use super::query::Query;
use crate::error::{Code, Error, Result};
use crate::http::exchange::Head;

/// Who asks for what; where it goes to is known already.
#[derive(Debug)]
pub struct Asked<'a> {
    pub caller: &'a Caller,
    pub head: &'a Head,
    /// What stands in the place of the names in braces.
    pub names: &'a [&'a str],
    pub query: &'a Query,
    pub body: &'a Bytes,
}

impl Asked<'_> {
    /// The body as JSON of a known form; what is not known is refused.
    ///
    /// # Errors
    /// SH0406 when it says to be something else, SH0902 when it is not of that form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        if media(self.head) != "application/json" {
            return Err(Error::new(Code::UnsupportedContent, "the body must be JSON")
                .hint("send `Content-Type: application/json`"));
        }
        serde_json::from_slice(self.body).map_err(|error| misread(&error))
    }
}

/// The media type of the body, without parameters, in lower case.
pub fn media(head: &Head) -> String {
    let value = head.single_header(header::CONTENT_TYPE).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Says where and what, and repeats no value: it may be a secret.
fn misread(error: &serde_json::Error) -> Error {
    let text = error.to_string();
    let about_a_name = ["unknown field", "missing field", "duplicate field"].iter().any(|kind| text.starts_with(kind));
    let sentence = text.split(" at line ").next().unwrap_or_default();
    let place = format!("line {}, column {}", error.line(), error.column());
    let message = match about_a_name {
        true => format!("the body is not as documented: {sentence}, {place}"),
        false if error.is_data() => format!("the body is not as documented: a value of another kind, {place}"),
        false => format!("the body is no JSON: {place}"),
    };
    Error::new(Code::Usage, message).hint("`/api/openapi.json` describes it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        #[expect(dead_code, reason = "only the reading of it is looked at")]
        count: u32,
    }

    #[test]
    fn names_are_repeated_and_values_are_not() {
        let said = |text: &str| misread(&serde_json::from_str::<Form>(text).unwrap_err()).message().to_owned();
        assert!(said(r#"{"count": 1, "cuont": 2}"#).contains("unknown field `cuont`"));
        assert!(said("{}").contains("missing field `count`"));
        for text in [r#"{"count": "hunter2"}"#, r#"{"count": hunter2}"#, r#""hunter2""#, "hunter2"] {
            assert!(!said(text).contains("hunter2"), "{}", said(text));
        }
    }
}
