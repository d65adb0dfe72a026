//! Answers of both listeners: JSON, problem details (RFC 9457), text; each with the same protective headers.

use bytes::Bytes;
use serde_json::{Value, json};
use warp::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use warp::http::{Response, StatusCode};

use crate::error::{Code, Error};

/// After how many seconds to come again when nothing better is known.
pub const RETRY_AFTER_SECONDS_DEFAULT: u64 = 5;

/// The header that carries the id under which the log knows this answer.
pub const REQUEST_ID: &str = "request-id";

/// What goes back to the other side.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// What the log should know about a refusal.
    error: Option<Error>,
}

impl Answer {
    pub fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), error: None }
    }

    pub fn json(status: StatusCode, value: &Value) -> Self {
        Self::of_type(status, "application/json", value.to_string())
    }

    pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::of_type(status, "text/plain; charset=utf-8", text)
    }

    /// `content_type` is sent as it is; one that is no header value is left out.
    pub fn of_type(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let answer = Self { body: body.into(), ..Self::empty(status) };
        answer.header(header::CONTENT_TYPE, content_type)
    }

    /// The outside of an error: code, sentence and hint, never its detail. 429 and 503 say when to come again.
    pub fn problem(error: Error) -> Self {
        let code = error.code();
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({
            "type": format!("urn:skillhook:error:{code}"),
            "title": code.title(),
            "status": status.as_u16(),
            "code": code.as_str(),
            "detail": error.message(),
        });
        if let (Some(hint), Some(fields)) = (error.hint_text(), body.as_object_mut()) {
            fields.insert("hint".to_owned(), Value::from(hint));
        }
        let answer = Self::of_type(status, "application/problem+json", body.to_string());
        let answer = match status {
            // The header belongs to the status (RFC 9110, section 15.5.2); providers' deliveries know no scheme for it.
            StatusCode::UNAUTHORIZED if code == Code::TokenMissing => {
                answer.header(header::WWW_AUTHENTICATE, "Bearer realm=\"skillhook\"")
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                answer.header(header::RETRY_AFTER, &RETRY_AFTER_SECONDS_DEFAULT.to_string())
            }
            _ => answer,
        };
        Self { error: Some(error), ..answer }
    }

    /// As [`Answer::problem`], with more fields; those of the problem itself stay.
    pub fn problem_with(error: Error, more: Value) -> Self {
        let answer = Self::problem(error);
        let (Ok(Value::Object(mut body)), Value::Object(more)) = (serde_json::from_slice(&answer.body), more) else {
            return answer;
        };
        for (key, value) in more {
            body.entry(key).or_insert(value);
        }
        Self { body: Value::Object(body).to_string().into(), ..answer }
    }

    /// 405 with what is allowed here.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let error = Error::new(Code::MethodNotAllowed, "the method is not allowed here").hint(format!("use {allowed}"));
        Self::problem(error).header(header::ALLOW, allowed)
    }

    /// Sets a header in place of one that has that name; a value that no header can carry is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.retain(|(existing, _)| *existing != name);
            self.headers.push((name, value));
        }
        self
    }

    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, &seconds.max(1).to_string())
    }

    /// The same with another status.
    #[must_use]
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn body(&self) -> &Bytes {
        &self.body
    }

    pub fn header_value(&self, name: &HeaderName) -> Option<&str> {
        self.headers.iter().find(|(existing, _)| existing == name).and_then(|(_, value)| value.to_str().ok())
    }

    /// The error behind a refusal.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// As it goes out. (An answer to HEAD loses its body in hyper.)
    pub fn into_response(self, request_id: &str) -> warp::reply::Response {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        protect(headers, request_id);
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        warp::Reply::into_response(response)
    }
}

/// The headers of every answer.
pub(super) fn protect(headers: &mut HeaderMap, request_id: &str) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static(REQUEST_ID), id);
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        Self::problem(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_the_sentence_and_the_hint_and_never_the_detail() {
        let error = Error::new(Code::LedgerUnavailable, "the ledger cannot be written")
            .hint("free some space")
            .detail("EIO in ledger.redb");
        let answer = Answer::problem(error);
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.header_value(&header::RETRY_AFTER), Some("5"));
        assert_eq!(body["code"], "SH0601");
        assert_eq!(body["type"], "urn:skillhook:error:SH0601");
        assert_eq!(body["hint"], "free some space");
        assert!(!body.to_string().contains("EIO"), "{body}");
    }

    #[test]
    fn every_code_is_answered_with_an_error_status_and_transient_ones_say_when_to_come_again() {
        for code in Code::ALL.iter().copied().filter(|code| *code != Code::OpenToAnyone) {
            let answer = Answer::problem(Error::new(code, "x"));
            assert!(answer.status().is_client_error() || answer.status().is_server_error(), "{code}");
            let transient = matches!(answer.status().as_u16(), 429 | 503);
            assert_eq!(answer.header_value(&header::RETRY_AFTER).is_some(), transient, "{code}");
        }
    }

    #[test]
    fn a_header_is_replaced_and_an_impossible_value_left_out() {
        let answer = Answer::problem(Error::new(Code::RateLimited, "x")).retry_after(0).retry_after(42);
        assert_eq!(answer.header_value(&header::RETRY_AFTER), Some("42"));
        let answer = answer.header(header::ALLOW, "GET\r\nSet-Cookie: a=b");
        assert_eq!(answer.header_value(&header::ALLOW), None);
    }

    #[test]
    fn every_answer_carries_its_request_id() {
        let response = Answer::text(StatusCode::OK, "ready").into_response("r1");
        assert_eq!(response.headers()[REQUEST_ID], "r1");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    }
}
