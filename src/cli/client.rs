//! Talks to the running server through its socket in the data directory. Nothing but the server opens the databases.
//!
//! One connection a request, plain HTTP/1.1, so that a command starts at once: no TLS, no name resolution.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::error::{Code, Error, Result};

/// How long an ordinary request may take.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// Largest answer in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Where a request goes: a path whose parts may hold anything, and a query.
#[derive(Clone, Debug)]
pub struct Route {
    path: String,
    query: Vec<(String, String)>,
}

impl Route {
    /// Below `/api`.
    pub fn api(parts: &[&str]) -> Self {
        let path = ["api"].iter().chain(parts).map(|part| format!("/{}", encoded(part))).collect();
        Self { path, query: Vec::new() }
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.query.push((key.to_owned(), value.to_string()));
        self
    }

    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    fn target(self) -> String {
        if self.query.is_empty() {
            return self.path;
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(self.query).finish();
        format!("{}?{query}", self.path)
    }
}

fn encoded(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    part.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Reaches the server of one data directory.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// # Errors
    /// SH0305 when no server answers, SH0905 after the deadline, else what the server says.
    pub async fn get(&self, route: Route, deadline: Duration) -> Result<Value> {
        self.ask(Method::GET, route, None, deadline).await
    }

    /// Asks for a change.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, route: Route, deadline: Duration) -> Result<Value> {
        self.ask(Method::POST, route, None, deadline).await
    }

    /// Sends a body, by whatever method.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn send(&self, method: Method, route: Route, body: &Value, deadline: Duration) -> Result<Value> {
        self.ask(method, route, Some(body), deadline).await
    }

    /// # Errors
    /// As [`Client::get`].
    pub async fn delete(&self, route: Route, deadline: Duration) -> Result<Value> {
        self.ask(Method::DELETE, route, None, deadline).await
    }

    /// Whether there is something at the address, whatever its answer looks like.
    ///
    /// # Errors
    /// As [`Client::get`], for everything but absence.
    pub async fn exists(&self, route: Route, deadline: Duration) -> Result<bool> {
        match self.answered(Method::GET, route, None, deadline).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Code::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, method: Method, route: Route, body: Option<&Value>, deadline: Duration) -> Result<Value> {
        let body = self.answered(method, route, body, deadline).await?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| {
            Error::new(Code::Bug, "the server's answer is not JSON")
                .hint("are program and server of one version?")
                .detail(error)
        })
    }

    async fn answered(&self, method: Method, route: Route, body: Option<&Value>, deadline: Duration) -> Result<Bytes> {
        let asked = self.exchange(method, route.target(), body);
        let (status, body) = tokio::time::timeout(deadline, asked).await.map_err(|_| {
            Error::new(Code::TimedOut, format!("the server did not answer within {} s", deadline.as_secs()))
        })??;
        if !status.is_success() {
            return Err(problem(status, &body));
        }
        Ok(body)
    }

    /// Follows what happens, from now on or from where the route says.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn follow(&self, route: Route) -> Result<Follow> {
        let (response, driver) = self.response(Method::GET, route.target(), None).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(problem(status, &whole(response).await?));
        }
        Ok(Follow { body: response.into_body(), read: Vec::new(), _driver: driver })
    }

    async fn exchange(&self, method: Method, target: String, body: Option<&Value>) -> Result<(StatusCode, Bytes)> {
        let (response, _driver) = self.response(method, target, body).await?;
        let status = response.status();
        Ok((status, whole(response).await?))
    }

    async fn response(&self, method: Method, target: String, body: Option<&Value>) -> Result<(Answered, Driver)> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke_off)?;
        let driver = Driver(tokio::spawn(async move { drop(connection.await) }));
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost")
            .header("accept", "application/json")
            .header("x-skillhook", "1");
        let request = match body {
            Some(_) => request.header("content-type", "application/json"),
            None => request,
        };
        let request = request
            .body(Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default()))
            .map_err(|error| Error::new(Code::Usage, "this cannot be asked").detail(error))?;
        Ok((sender.send_request(request).await.map_err(broke_off)?, driver))
    }

    fn unreachable(&self, error: &io::Error) -> Error {
        let socket = self.socket.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => Error::new(Code::Refused, format!("this user may not use `{socket}`"))
                .hint("run the command as the user that runs the server"),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::new(Code::ServerAway, format!("no server answers at `{socket}`"))
                    .hint("start it with `skillhook up`, or name its directory with `--root` or `--data`")
            }
            _ => Error::new(Code::ServerAway, format!("`{socket}` cannot be used: {error}"))
                .hint("choose a data directory with a shorter path, on a file system that has sockets"),
        }
        .detail(error)
    }
}

type Answered = hyper::Response<hyper::body::Incoming>;

/// The connection of one request; it goes when its answer has been read.
struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn broke_off(error: hyper::Error) -> Error {
    Error::new(Code::ServerAway, "the server broke off").hint("look at its log").detail(error)
}

async fn whole(response: Answered) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Error::new(Code::Usage, "the answer is too large").hint("ask for less with `--limit`")
        } else {
            Error::new(Code::ServerAway, "the server broke off").hint("look at its log").detail(error)
        }
    })?;
    Ok(body.to_bytes())
}

/// What happens, as the server tells it (`/api/stream`).
pub struct Follow {
    body: hyper::body::Incoming,
    read: Vec<u8>,
    _driver: Driver,
}

/// One thing that happened.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub kind: String,
    pub data: Value,
}

impl Follow {
    /// The next thing that happens; `None` when the server ends the stream.
    ///
    /// # Errors
    /// SH0305 when the server breaks off.
    pub async fn next(&mut self) -> Result<Option<Told>> {
        loop {
            if let Some(told) = self.take() {
                return Ok(Some(told));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(bytes) = frame.map_err(broke_off)?.into_data() {
                self.read.extend_from_slice(&bytes);
            }
        }
    }

    /// A whole event out of what was read.
    fn take(&mut self) -> Option<Told> {
        loop {
            let end = self.read.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.read.drain(..end + 2).collect();
            if let Some(told) = told(&String::from_utf8_lossy(&block)) {
                return Some(told);
            }
        }
    }
}

/// An event as the server writes it: each field on one line.
fn told(block: &str) -> Option<Told> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(Told { kind: field("event")?.to_owned(), data: serde_json::from_str(field("data")?).ok()? })
}

/// The error that a problem document (RFC 9457) carries.
fn problem(status: StatusCode, body: &[u8]) -> Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = problem["code"].as_str().and_then(|code| Code::ALL.iter().find(|known| known.as_str() == code));
    let code = named.copied().unwrap_or(match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Code::Refused,
        StatusCode::CONFLICT => Code::Conflict,
        StatusCode::SERVICE_UNAVAILABLE => Code::NotReady,
        status if status.is_client_error() => Code::Usage,
        _ => Code::Bug,
    });
    let sentence = problem["detail"].as_str().or(problem["title"].as_str());
    let message = sentence.map_or_else(|| format!("the server answers {status}"), str::to_owned);
    match problem["hint"].as_str() {
        Some(hint) => Error::new(code, message).hint(hint),
        None => Error::new(code, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    /// A server that answers one request with these bytes and tells what it was asked.
    async fn answering(bytes: &'static str) -> (tempfile::TempDir, Client, tokio::task::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(bytes.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        (dir, Client::new(socket), asked)
    }

    #[tokio::test]
    async fn names_reach_the_server_whole_and_changes_are_marked() {
        let (_dir, client, asked) = answering("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\": 1}\n").await;
        let route = Route::api(&["tasks", "../a b", "retry"]).with("x", "1&2").with_some("y", None::<u32>);
        let answer = client.post(route, DEADLINE).await.unwrap();
        assert_eq!(answer["a"], 1);
        let head = asked.await.unwrap();
        assert!(head.starts_with("POST /api/tasks/..%2Fa%20b/retry?x=1%262 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("x-skillhook: 1\r\n"), "{head}");
    }

    #[tokio::test]
    async fn problems_keep_their_code_and_hint() {
        let answer = "HTTP/1.1 409 Conflict\r\nconnection: close\r\n\r\n{\"code\": \"SH0605\", \"detail\": \"it runs\", \"hint\": \"wait\"}";
        let (_dir, client, _) = answering(answer).await;
        let error = client.get(Route::api(&["status"]), DEADLINE).await.unwrap_err();
        assert_eq!((error.code(), error.message(), error.hint_text()), (Code::WrongState, "it runs", Some("wait")));
        let (_dir, client, _) = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\n?").await;
        assert_eq!(client.get(Route::api(&["x"]), DEADLINE).await.unwrap_err().code(), Code::NotFound);
    }

    #[tokio::test]
    async fn silence_and_absence_are_told_apart() {
        let (dir, client, asked) = answering("").await;
        let error = client.get(Route::api(&["status"]), DEADLINE).await.unwrap_err();
        assert_eq!(error.code(), Code::ServerAway);
        asked.await.unwrap();
        let error = client.get(Route::api(&["status"]), DEADLINE).await.unwrap_err();
        assert!(error.hint_text().unwrap().contains("skillhook up"), "{error}");
        let _silent = UnixListener::bind(dir.path().join("silent.sock")).unwrap();
        let silent = Client::new(dir.path().join("silent.sock"));
        let error = silent.get(Route::api(&["status"]), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.code(), Code::TimedOut);
    }

    #[test]
    fn an_event_is_read_and_a_comment_is_not() {
        let event = "id: 7\nevent: task.completed\ndata: {\"seq\":7}\n\n";
        assert_eq!(told(event), Some(Told { kind: "task.completed".to_owned(), data: json!({ "seq": 7 }) }));
        assert_eq!(told(": nothing happens\n\n"), None);
        assert_eq!(told("retry: 2000\n\n"), None);
    }
}
