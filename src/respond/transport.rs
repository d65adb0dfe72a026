//! One HTTP exchange with a provider: bounded in time and size, no redirects, and honest about whether the request
//! may have arrived.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::HeaderMap;

use super::guard;
use crate::error::{Code, Context as _, Error, Result};
use crate::model::provider::FilledCall;

/// For one exchange, from name look-up to the last byte.
const EXCHANGE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longest wait that a provider may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes calls; clones share connections.
#[derive(Clone, Debug)]
pub struct Transport {
    client: reqwest::Client,
    /// Reaches the public internet alone.
    guarded: reqwest::Client,
}

/// What a provider answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The next page of a list, where there is one.
    pub next: Option<String>,
}

/// No answer came.
#[derive(Clone, Debug)]
pub struct NoAnswer {
    pub error: Error,
    /// The request may have been carried out all the same.
    pub may_have_arrived: bool,
}

impl Transport {
    /// # Errors
    /// SH0301 when no TLS set-up can be made on this machine.
    pub fn new() -> Result<Self> {
        let builder = || {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT)
                .timeout(EXCHANGE)
                .user_agent(concat!("skillhook/", env!("CARGO_PKG_VERSION")))
        };
        let failed = "no HTTP client can be made: are the CA certificates installed?";
        let client = builder().build().context(Code::SettingInvalid, failed)?;
        // A proxy would resolve the names, and not as carefully.
        let guarded = builder().no_proxy().dns_resolver(Arc::new(guard::PublicOnly)).build();
        Ok(Self { client, guarded: guarded.context(Code::SettingInvalid, failed)? })
    }

    /// With a machine whose address the catalogue or the operator has chosen.
    pub async fn exchange(&self, call: &FilledCall) -> std::result::Result<Answer, NoAnswer> {
        self.exchange_by(&self.client, call).await
    }

    /// With a machine whose address somebody else has a say in: public ones alone.
    pub async fn exchange_guarded(&self, call: &FilledCall) -> std::result::Result<Answer, NoAnswer> {
        let url = reqwest::Url::parse(&call.url).map_err(|_| refuse("the address of the call is not a URL"))?;
        guard::check(&url).map_err(|error| NoAnswer { error, may_have_arrived: false })?;
        self.exchange_by(&self.guarded, call).await
    }

    async fn exchange_by(&self, client: &reqwest::Client, call: &FilledCall) -> std::result::Result<Answer, NoAnswer> {
        let method =
            reqwest::Method::from_bytes(call.method.as_bytes()).map_err(|_| refuse("the method is not one"))?;
        let url = reqwest::Url::parse(&call.url).map_err(|_| refuse("the address of the call is not a URL"))?;
        let mut request = client.request(method, url);
        for (name, value) in &call.headers {
            request = request.header(name.as_str(), value.as_str());
        }
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let mut response = request.send().await.map_err(|error| no_answer(&error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(&error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        let next = next_page(&headers, &call.url);
        Ok(Answer { status, headers, body: body.freeze(), next })
    }
}

/// The next page by the `Link` header (RFC 8288), on the same server only: the request carries credentials.
fn next_page(headers: &HeaderMap, current: &str) -> Option<String> {
    let links = headers.get("link")?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let target = next.split_once('<')?.1.split_once('>')?.0;
    let current = url::Url::parse(current).ok()?;
    let next = current.join(target).ok()?;
    (next.origin() == current.origin()).then(|| next.to_string())
}

fn refuse(message: &str) -> NoAnswer {
    NoAnswer { error: Error::new(Code::ReplyTarget, message), may_have_arrived: false }
}

fn no_answer(error: &reqwest::Error) -> NoAnswer {
    if let Some(refused) = refusal(error) {
        return NoAnswer { error: refused, may_have_arrived: false };
    }
    let message =
        if error.is_timeout() { "the source does not answer in time" } else { "the source cannot be reached" };
    let detail = error.without_url_text();
    NoAnswer {
        error: Error::new(Code::ReplyUnavailable, message).detail(detail),
        may_have_arrived: !error.is_connect(),
    }
}

/// What the guard said, where it was the guard.
fn refusal(error: &reqwest::Error) -> Option<Error> {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<Error>() {
            return Some(refused.clone());
        }
        source = cause.source();
    }
    None
}

trait WithoutUrl {
    fn without_url_text(&self) -> String;
}

impl WithoutUrl for reqwest::Error {
    /// The kinds of trouble, innermost last; a URL can carry a token and is left out.
    fn without_url_text(&self) -> String {
        let mut text = String::new();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// How long a provider wants to be left alone: `Retry-After` in seconds or as a date, or the time at which its
/// rate limit is reset (`x-ratelimit-reset`, `ratelimit-reset`) when nothing remains.
pub fn retry_after(answer: &Answer, now: Timestamp) -> Option<Duration> {
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).ok();
    let asked = match header("retry-after") {
        Some(text) => text
            .parse::<f64>()
            .ok()
            .filter(|seconds| seconds.is_finite() && *seconds >= 0.0)
            .map(|seconds| Duration::from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64())))
            .or_else(|| rfc2822::parse(text).ok().and_then(|at| until(at.timestamp()))),
        None if matches!(answer.status, 403 | 429) => ["x-ratelimit-reset", "ratelimit-reset"]
            .into_iter()
            .find_map(header)
            .and_then(|text| text.parse::<i64>().ok())
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .and_then(until),
        None => None,
    };
    asked.map(|wait| wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn asked(status: u16, name: &'static str, value: &str) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        retry_after(&Answer { status, headers, body: Bytes::new(), next: None }, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn every_way_to_ask_for_patience_is_understood() {
        assert_eq!(asked(429, "retry-after", "7"), Some(7));
        assert_eq!(asked(503, "retry-after", "Tue, 14 Nov 2023 22:14:20 GMT"), Some(60));
        assert_eq!(asked(403, "x-ratelimit-reset", "1700000030"), Some(30));
        assert_eq!(asked(200, "x-ratelimit-reset", "1700000030"), None);
        assert_eq!(asked(429, "retry-after", "soon"), None);
        assert_eq!(asked(429, "retry-after", "1e12"), Some(86_400));
    }

    #[test]
    fn pages_are_followed_on_the_same_server_only() {
        let page = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("link", HeaderValue::from_str(link).unwrap());
            next_page(&headers, "https://api.example/a?page=1")
        };
        let good = "<https://api.example/a?page=2>; rel=\"next\", <https://api.example/a?page=9>; rel=\"last\"";
        assert_eq!(page(good).as_deref(), Some("https://api.example/a?page=2"));
        assert_eq!(page("<https://evil.example/a?page=2>; rel=\"next\""), None);
        assert_eq!(page("<https://api.example/a?page=1>; rel=\"prev\""), None);
    }
}
