//! What happens, followed: server-sent events and a WebSocket, from the beginning or from a number on, until the one who
//! follows may no longer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skillhook::model::secret::SecretSet;

use crate::admin::task;
use crate::gateway::{Gateway, Setup, Webhook};
use crate::service::{SOON, Service, wait_for};

fn gateway() -> Gateway {
    Gateway::start(Setup::with([Webhook::of("github", SecretSet::new().with("webhook_secret", "hunter2"))]))
}

/// A connection on which something goes on behind the head.
struct Open {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Open {
    fn ask(gateway: &Gateway, path: &str, fields: &str) -> Self {
        let mut stream = TcpStream::connect(gateway.admin).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").as_bytes()).unwrap();
        Self { stream, read: Vec::new() }
    }

    fn with_token(gateway: &Gateway, path: &str, token: &str) -> Self {
        Self::ask(gateway, path, &format!("Authorization: Bearer {token}\r\n"))
    }

    /// Everything so far, once it holds `text`.
    fn until(&mut self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let all = String::from_utf8_lossy(&self.read).into_owned();
            if all.contains(text) {
                return all;
            }
            assert!(begun.elapsed() < SOON, "waited in vain for {text}: {all}");
            assert!(self.more(), "closed before {text}: {all}");
        }
    }

    /// `false` when the other side has closed.
    fn more(&mut self) -> bool {
        let mut part = [0; 4096];
        match self.stream.read(&mut part) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&part[..count]);
                true
            }
            Err(error) => matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }

    fn closes(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            if !self.more() {
                return true;
            }
        }
        false
    }
}

fn upgrade(more: &str) -> String {
    format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}"
    )
}

fn ticket(gateway: &Gateway) -> String {
    gateway.post("/api/stream/ticket").json()["ticket"].as_str().unwrap().to_owned()
}

#[test]
fn what_happens_is_told_in_order_and_can_be_gone_on_with() {
    let gateway = gateway();
    let mut all = Open::with_token(&gateway, "/api/stream?since=0", &gateway.token);
    all.until("event: token.created");
    let first = task(&gateway, "first");
    let told = all.until(&first);
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.contains("content-type: text/event-stream"), "{told}");
    let last: u64 = told.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).max().unwrap();

    let second = task(&gateway, "second");
    let fields = format!("Authorization: Bearer {}\r\nLast-Event-ID: {last}\r\n", gateway.token);
    let rest = Open::ask(&gateway, "/api/stream?kind=task.*", &fields).until(&second);
    assert!(!rest.contains(&first) && !rest.contains("delivery.received"), "{rest}");
    let ahead = Open::with_token(&gateway, "/api/stream?since=999999", &gateway.token).until("stream.missed");
    assert!(!ahead.contains(&first), "{ahead}");
}

#[test]
fn a_ticket_opens_one_stream_and_no_other_address() {
    let gateway = gateway();
    let ticket = ticket(&gateway);
    let refused = Open::ask(&gateway, &format!("/api/tasks?ticket={ticket}"), "").until("\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    let path = format!("/api/stream?since=0&ticket={ticket}");
    Open::ask(&gateway, &path, "").until("event: token.created");
    let again = Open::ask(&gateway, &path, "").until("\r\n\r\n");
    assert!(again.starts_with("HTTP/1.1 401"), "{again}");
}

#[test]
fn a_websocket_tells_the_same_and_foreign_pages_get_none() {
    let gateway = gateway();
    let path = format!("/api/stream?since=0&ticket={}", ticket(&gateway));
    let told = Open::ask(&gateway, &path, &upgrade("Origin: http://localhost\r\n")).until("token.created");
    assert!(told.starts_with("HTTP/1.1 101 "), "{told}");
    let foreign = format!("/api/stream?ticket={}", ticket(&gateway));
    let refused = Open::ask(&gateway, &foreign, &upgrade("Origin: http://evil.example\r\n")).until("\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let bearer = format!("Authorization: Bearer {}\r\n", gateway.token);
    let half = format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n{bearer}");
    let refused = Open::ask(&gateway, "/api/stream", &half).until("\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
}

#[test]
fn revoking_a_token_ends_what_is_open_by_it() {
    let gateway = gateway();
    let body = json!({ "name": "reader", "scopes": ["read"] }).to_string();
    let made = gateway.send("POST", "/api/tokens", &body).json();
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let mut events = Open::with_token(&gateway, "/api/stream?since=0", token);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let mut socket = Open::ask(&gateway, "/api/stream?since=0", &upgrade(&bearer));
    events.until("token.created");
    socket.until("token.created");
    assert_eq!(gateway.send("DELETE", &format!("/api/tokens/{id}"), "").status, 200);
    events.until("stream.ended");
    socket.until("stream.ended");
    // The last part of the answer; its connection may be used again.
    events.until("\r\n0\r\n\r\n");
    assert!(socket.closes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_followed_until_its_task_has_ended() {
    let service = Service::started(json!({ "seconds": 1 })).await;
    let (status, _) = service.comment(1, "d1", "@agent analyze this").await.unwrap();
    assert_eq!(status, 202);
    let id = service.tasks().await[0]["id"].as_str().unwrap().to_owned();
    let followed = service.command(&["logs", &id, "-f", "-o", "json"]).output().unwrap();
    assert!(followed.status.success());
    let task: Value = service.api(&format!("/api/tasks/{id}")).await;
    assert_eq!(task["state"], "succeeded", "{task}");
    let printed = String::from_utf8(followed.stdout).unwrap();
    let kept = service.api(&format!("/api/tasks/{id}/logs")).await;
    assert_eq!(printed.lines().count(), kept["items"].as_array().unwrap().len(), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_watched_as_they_happen() {
    let service = Service::started(json!({})).await;
    let path = service.dir.path().join("watched");
    let out = std::fs::File::create(&path).unwrap();
    let mut watching = service.command(&["events", "-w", "-o", "json"]).stdout(out).spawn().unwrap();
    service.comment(1, "d1", "@agent analyze this").await.unwrap();
    let seen = || std::fs::read_to_string(&path).unwrap_or_default();
    wait_for("the end of the task", || async { seen().contains("task.completed") }).await;
    watching.kill().unwrap();
    watching.wait().unwrap();
    let all = seen();
    let numbers: Vec<u64> =
        all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}
