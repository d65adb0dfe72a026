//! One request and its answer, in our own terms: what both listeners share of warp.
//!
//! warp's filters take the request apart; routing, limits and answers are ours, because warp decodes no path, caps no
//! body and answers 405 where a path is unknown. A panic in a handler becomes a 500 and is counted; the connection
//! and the process live on.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::{FutureExt as _, Stream, TryStreamExt};
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::http::uri::Authority;
use warp::http::{HeaderMap, Method, header};
use warp::ws::Ws;

use super::answer::{self, Answer};
use super::connection::Busy;
use crate::error::{Code, Error, Result};
use crate::seam::fresh_id;
use crate::telemetry::event::{Answered, Event as _, PartEnded};
use crate::telemetry::metrics::Metrics;

/// The bytes of a body as they come. An error says that the sender broke off or broke the framing.
pub type BodyStream = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, warp::Error>> + Send>>;

/// How a request came in; the accept loop puts it into the request's extensions.
#[derive(Clone, Debug, Default)]
pub struct Arrival {
    pub peer: Peer,
    /// The authority of a request target in absolute form (RFC 9112, section 3.2.2).
    pub authority: Option<Authority>,
    /// The request line had a fragment, which no request target has.
    pub fragment: bool,
    /// While it lives, nothing is waited for from the other side.
    pub(super) busy: Option<Arc<Busy>>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// A process of this machine, through the socket file.
    #[default]
    Local,
    /// The same, of a process that this service has started: an agent's.
    Run,
    Address(std::net::SocketAddr),
}

impl Peer {
    /// The address without its port.
    pub fn host(self) -> String {
        match self {
            Peer::Local => "local".to_owned(),
            Peer::Run => "run".to_owned(),
            Peer::Address(address) => address.ip().to_canonical().to_string(),
        }
    }
}

/// The head of a request; its body has not been read yet.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: Method,
    /// As it was sent: not decoded, not normalised.
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub arrival: Arrival,
    /// The id under which log lines, the answer and the stored delivery know this request.
    pub request_id: String,
    pub started: Instant,
}

impl Head {
    /// Refuses what another party on the way may read differently: a fragment in the target, and a length that is
    /// told in two ways (RFC 9112, section 6.1), which is how requests are smuggled past a proxy.
    pub fn check_form(&self) -> Result<()> {
        if self.arrival.fragment {
            return Err(Error::new(Code::Usage, "the request target has a fragment"));
        }
        if !self.headers.contains_key(header::TRANSFER_ENCODING) {
            return Ok(());
        }
        let coding = self.single_header(header::TRANSFER_ENCODING).unwrap_or_default();
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(Error::new(Code::Usage, "the transfer coding is not supported").hint("use `chunked` alone"));
        }
        if self.headers.contains_key(header::CONTENT_LENGTH) {
            return Err(Error::new(Code::Usage, "the request tells its length in two ways"));
        }
        Ok(())
    }

    /// The one authority that the request is for; none and several are refused.
    pub fn host(&self) -> Result<&str> {
        let refuse = |message: &str| Error::new(Code::Usage, message);
        let mut hosts = self.headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().map_err(|_| refuse("the `Host` header is not readable"))?,
            (None, _) => return Err(refuse("the request has no `Host` header")),
            (Some(_), Some(_)) => return Err(refuse("the request has several `Host` headers")),
        };
        match &self.arrival.authority {
            Some(authority) if !authority.as_str().eq_ignore_ascii_case(host) => {
                Err(refuse("the `Host` header and the request target differ"))
            }
            Some(_) | None if host.parse::<Authority>().is_ok() => Ok(host),
            Some(_) | None => Err(refuse("the `Host` header is not readable")),
        }
    }

    /// What `Content-Length` announces. (hyper has refused bad and contradicting ones.)
    pub fn declared_body_bytes(&self) -> Option<u64> {
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// The value of a header that stands there once; several of that name are no value.
    pub fn single_header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            _ => None,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// What a handler hands out.
#[derive(Debug)]
pub enum Outgoing {
    Whole(Answer),
    /// It goes on behind its head: a stream, or another protocol on the same connection.
    Open(warp::reply::Response),
}

impl From<Answer> for Outgoing {
    fn from(answer: Answer) -> Self {
        Outgoing::Whole(answer)
    }
}

/// A filter that takes every request apart and hands it to `handle`.
pub fn filter<H, F>(listener: &'static str, metrics: Metrics, handle: H) -> BoxedFilter<(warp::reply::Response,)>
where
    H: Fn(Arc<Head>, BodyStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    taken_apart()
        .then(move |head: Arc<Head>, body| {
            let (handle, metrics) = (handle.clone(), metrics.clone());
            async move {
                let handling = handle(Arc::clone(&head), body).map(Outgoing::Whole);
                answer_one(listener, &metrics, &head.request_id, handling).await
            }
        })
        .boxed()
}

/// As [`filter`], for what may go on behind its head; a complete WebSocket handshake comes along.
pub fn filter_open<H, F>(listener: &'static str, metrics: Metrics, handle: H) -> BoxedFilter<(warp::reply::Response,)>
where
    H: Fn(Arc<Head>, BodyStream, Option<Ws>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Outgoing> + Send + 'static,
{
    let socket = warp::ws().map(Some).or(warp::any().map(|| None)).unify();
    socket
        .and(taken_apart())
        .then(move |socket, head: Arc<Head>, body| {
            let (handle, metrics) = (handle.clone(), metrics.clone());
            async move {
                let handling = handle(Arc::clone(&head), body, socket);
                answer_one(listener, &metrics, &head.request_id, handling).await
            }
        })
        .boxed()
}

fn taken_apart() -> BoxedFilter<(Arc<Head>, BodyStream)> {
    let query = warp::query::raw().map(Some).or(warp::any().map(|| None)).unify();
    warp::any()
        .and(warp::method())
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Arrival>())
        .and(warp::body::stream())
        .map(|method, path: warp::path::FullPath, query: Option<String>, headers, arrival: Option<Arrival>, body| {
            let head = Head {
                method,
                path: path.as_str().to_owned(),
                query,
                headers,
                arrival: arrival.unwrap_or_default(),
                request_id: fresh_id().simple().to_string(),
                started: Instant::now(),
            };
            let body: BodyStream = Box::pin(TryStreamExt::map_ok(body, whole_part));
            (Arc::new(head), body)
        })
        .untuple_one()
        .boxed()
}

/// Without copying, where the part is in one piece.
fn whole_part(mut part: impl Buf) -> Bytes {
    let bytes = part.remaining();
    part.copy_to_bytes(bytes)
}

async fn answer_one(
    listener: &'static str,
    metrics: &Metrics,
    request_id: &str,
    handling: impl Future<Output = Outgoing>,
) -> warp::reply::Response {
    let outgoing = AssertUnwindSafe(handling).catch_unwind().await.unwrap_or_else(|_| {
        PartEnded { part: "request" }.emit(metrics);
        Answer::problem(Error::new(Code::Bug, "skillhook itself has a fault")).into()
    });
    let response = match outgoing {
        Outgoing::Whole(answer) => answer.into_response(request_id),
        Outgoing::Open(mut response) => {
            answer::protect(response.headers_mut(), request_id);
            response
        }
    };
    Answered { listener, status: response.status().as_u16() }.emit(metrics);
    response
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Head {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                warp::http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                warp::http::HeaderValue::from_str(value).unwrap(),
            );
        }
        Head {
            method: Method::from_bytes(method.as_bytes()).unwrap(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            headers: map,
            arrival: Arrival::default(),
            request_id: "r1".to_owned(),
            started: Instant::now(),
        }
    }

    #[test]
    fn a_request_has_exactly_one_host() {
        assert_eq!(head("GET", "/", &[("host", "example.org:80")]).host().unwrap(), "example.org:80");
        assert!(head("GET", "/", &[]).host().is_err());
        assert!(head("GET", "/", &[("host", "")]).host().is_err());
        assert!(head("GET", "/", &[("host", "a"), ("host", "a")]).host().is_err());
        assert!(head("GET", "/", &[("host", "a/b")]).host().is_err());
    }

    #[test]
    fn a_target_in_absolute_form_must_agree_with_the_host() {
        let mut head = head("GET", "/", &[("host", "example.org")]);
        head.arrival.authority = Some(Authority::from_static("EXAMPLE.org"));
        assert!(head.host().is_ok());
        head.arrival.authority = Some(Authority::from_static("evil.example"));
        assert!(head.host().is_err());
    }

    #[test]
    fn a_length_is_told_in_one_way() {
        let form = |headers: &[(&str, &str)]| head("POST", "/", headers).check_form();
        assert!(form(&[("transfer-encoding", "Chunked")]).is_ok());
        assert!(form(&[("content-length", "5")]).is_ok());
        assert!(form(&[("transfer-encoding", "chunked"), ("content-length", "5")]).is_err());
        assert!(form(&[("transfer-encoding", "gzip, chunked")]).is_err());
        assert!(form(&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")]).is_err());
    }

    #[test]
    fn a_repeated_header_is_no_value() {
        let head = head("GET", "/", &[("a", "1"), ("b", "1"), ("b", "1")]);
        assert_eq!(
            (head.single_header("a"), head.single_header("b"), head.single_header("c")),
            (Some("1"), None, None)
        );
    }

    #[tokio::test]
    async fn a_panic_becomes_an_answer_and_is_counted() {
        let metrics = Metrics::new();
        let response = answer_one("receiver", &metrics, "r1", async { panic!("secret text") }).await;
        assert_eq!(response.status(), 500);
        assert!(metrics.encode().unwrap().contains("skillhook_panics_total 1"));
    }
}
