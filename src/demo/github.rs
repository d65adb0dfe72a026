//! A stand-in for the part of the GitHub API that answers go to: comments, reactions, permissions. It is a real HTTP
//! server on loopback that remembers what arrived, for `skillhook demo` and for tests; it is not a simulation of
//! GitHub's rules.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Context as _, Result};

/// Largest request body in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Requests remembered; the oldest are forgotten.
const SEEN_MAX: usize = 100_000;

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub authorization: Option<String>,
    pub body: Value,
    /// The status that was answered.
    pub status: u16,
}

/// Trouble to make on purpose.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Answers with this status and headers, and remembers nothing.
    Status(u16, Vec<(String, String)>),
    /// Remembers the comment, then drops the connection without an answer.
    StoreThenDrop,
    /// Keeps the connection open and silent for so long.
    Silent(Duration),
}

#[derive(Debug, Default)]
struct State {
    seen: VecDeque<Seen>,
    comments: Vec<(String, Value)>,
    trouble: VecDeque<Trouble>,
    permission: String,
}

/// The running server; it stops when this is dropped.
#[derive(Debug)]
pub struct Github {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<usize>,
    stop: CancellationToken,
}

impl Drop for Github {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Github {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// SH0304 when no port can be had.
    pub async fn start() -> Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context(Code::ListenFailed, "no loopback port is free")?;
        let address = listener.local_addr().context(Code::ListenFailed, "the port cannot be told")?;
        let state = Arc::new(Mutex::new(State { permission: "write".into(), ..State::default() }));
        let (changed, stop) = (watch::channel(0).0, CancellationToken::new());
        let (shared, told, ended) = (Arc::clone(&state), changed.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    () = ended.cancelled() => return,
                    accepted = listener.accept() => match accepted { Ok((stream, _)) => stream, Err(_) => return },
                };
                let (shared, told) = (Arc::clone(&shared), told.clone());
                let service = service_fn(move |request| answer(request, Arc::clone(&shared), told.clone(), address));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let ended = ended.clone();
                tokio::spawn(async move {
                    tokio::select! { _ = connection => {}, () = ended.cancelled() => {} }
                });
            }
        });
        Ok(Self { address, state, changed, stop })
    }

    /// What `api_base` is to be set to.
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes trouble for the next writing request; several calls queue up.
    pub fn make_trouble(&self, trouble: Trouble) {
        self.lock().trouble.push_back(trouble);
    }

    /// What the permission look-up answers: `admin`, `write`, `read`, `none`.
    pub fn set_permission(&self, permission: &str) {
        permission.clone_into(&mut self.lock().permission);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.iter().cloned().collect()
    }

    /// The texts of all comments that arrived, in order.
    pub fn comments(&self) -> Vec<String> {
        let state = self.lock();
        state.comments.iter().filter_map(|(_, comment)| comment["body"].as_str().map(str::to_owned)).collect()
    }

    /// Waits until `count` comments are there; answers whether they came in time.
    pub async fn wait_for_comments(&self, count: usize, at_most: Duration) -> bool {
        let mut changed = self.changed.subscribe();
        let reached = async {
            while self.lock().comments.len() < count {
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(at_most, reached).await.is_ok() && self.lock().comments.len() >= count
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
    changed: watch::Sender<usize>,
    address: SocketAddr,
) -> std::result::Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = parts.uri.path().to_owned();
    let writes = parts.method != Method::GET;
    let trouble = if writes { state.lock().unwrap_or_else(PoisonError::into_inner).trouble.pop_front() } else { None };
    if let Some(Trouble::Silent(wait)) = trouble {
        tokio::time::sleep(wait).await;
        return Err("silent on purpose".into());
    }
    let (status, headers, value) = match &trouble {
        Some(Trouble::Status(status, headers)) => (*status, headers.clone(), json!({"message": "trouble on purpose"})),
        _ => {
            let (status, value) = route(&parts.method, &path, parts.uri.query(), &body, &state, address);
            (status, Vec::new(), value)
        }
    };
    let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.seen.len() >= SEEN_MAX {
            state.seen.pop_front();
        }
        state.seen.push_back(Seen { method: parts.method.to_string(), path, authorization, body, status });
        changed.send_replace(state.seen.len());
    }
    if matches!(trouble, Some(Trouble::StoreThenDrop)) {
        return Err("dropped on purpose".into());
    }
    let mut response = Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(value.to_string()))).map_err(|_: hyper::http::Error| "bad header")?)
}

fn route(
    method: &Method,
    path: &str,
    query: Option<&str>,
    body: &Value,
    state: &Mutex<State>,
    address: SocketAddr,
) -> (u16, Value) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let comments = path.starts_with("/repos/") && (path.ends_with("/comments") || path.ends_with("/replies"));
    if path.ends_with("/reactions") && *method == Method::POST {
        return (201, json!({"id": 1, "content": body["content"]}));
    }
    if path.ends_with("/permission") && *method == Method::GET {
        return (200, json!({"permission": state.permission}));
    }
    if comments && *method == Method::POST {
        let id = state.comments.len() + 1;
        let url = format!("http://{address}{path}#comment-{id}");
        let comment = json!({"id": id, "body": body["body"], "html_url": url});
        state.comments.push((path.to_owned(), comment.clone()));
        return (201, comment);
    }
    if comments && *method == Method::GET {
        let page = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("page="))).unwrap_or("1");
        let here = state.comments.iter().filter(|(at, _)| at == path).map(|(_, comment)| comment.clone());
        let skip = page.parse::<usize>().unwrap_or(1).saturating_sub(1) * 100;
        return (200, Value::Array(here.skip(skip).take(100).collect()));
    }
    (404, json!({"message": "Not Found"}))
}
