//! Hostile requests, by family, over raw sockets against a running server.
//!
//! Every case is a name, a class and bytes. After each one the same process must answer, nothing may have run that
//! should not, and no answer may hold a secret, the text of a panic or a path of this machine.

mod bodies;
mod framing;
mod places;
mod server;
mod signatures;
mod slow;
mod texts;

use std::collections::BTreeSet;
use std::time::Duration;

use server::{Server, start_server};

use crate::wire::{Outcome, Wire, exchange};

/// Longer than any deadline of the server under test.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a case may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Any 2xx, 4xx or close.
    Any,
    /// Not 2xx, and nothing runs.
    Rej,
    /// A 4xx, and nothing runs.
    Auth,
    /// 2xx.
    Ok,
    /// 2xx, and exactly one run.
    OkRun,
    /// 2xx or 4xx, and nothing runs.
    NoRun,
}

struct Case {
    name: String,
    class: Class,
    play: Play,
}

type Play = Box<dyn Fn(&Server) -> Outcome>;

/// A case of one request on a connection of its own, to the receiver.
fn case(name: &str, class: Class, bytes: impl Into<Vec<u8>>) -> Case {
    let bytes = bytes.into();
    played(name, class, move |server| exchange(server.receiver, &bytes, PATIENCE))
}

/// A case with a course of its own.
fn played(name: &str, class: Class, play: impl Fn(&Server) -> Outcome + 'static) -> Case {
    Case { name: name.to_owned(), class, play: Box::new(play) }
}

/// A request, written as it is.
#[derive(Clone)]
struct Request {
    line: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A delivery as GitHub sends it, with a signature that fits.
    fn delivery(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let signature = server::signature(&body);
        Self { line: "POST /webhooks/github HTTP/1.1".to_owned(), headers: Vec::new(), body }
            .with("Host", "hooks.example.com")
            .with("Connection", "close")
            .with("Content-Type", "application/json")
            .with("X-GitHub-Event", "issue_comment")
            .with("X-GitHub-Delivery", &server::fresh_guid())
            .with("X-Hub-Signature-256", &signature)
    }

    /// A delivery of a comment that nobody has sent before.
    fn comment(text: &str) -> Self {
        Self::delivery(bodies::comment(text).to_string())
    }

    fn get(path: &str) -> Self {
        let line = format!("GET {path} HTTP/1.1");
        Self { line, headers: Vec::new(), body: Vec::new() }.with("Host", "localhost").with("Connection", "close")
    }

    fn line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.line);
        self
    }

    fn path(self, path: &str) -> Self {
        self.line(&format!("POST {path} HTTP/1.1"))
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
        self
    }

    fn set(self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        let mut request = self.without(name);
        request.headers.push((name.into(), value.into()));
        request
    }

    /// Everything but the body, without an announced length.
    fn head(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[track_caller]
fn check(family: Vec<Case>) {
    let server = start_server();
    let mut failures: Vec<String> = Vec::new();
    let mut names = BTreeSet::new();
    for case in family {
        assert!(names.insert(case.name.clone()), "{} stands there twice", case.name);
        let before = server.runs();
        let outcome = (case.play)(&server);
        let ran = server.runs() - before;
        if let Err(why) = judge(&server, case.class, &outcome, ran) {
            failures.push(format!("{}: {why}", case.name));
        }
        if !server.is_live() {
            failures.push(format!("{}: the server does not answer any more", case.name));
            break;
        }
    }
    failures.extend(server.panics());
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), names.len(), failures.join("\n"));
}

fn judge(server: &Server, class: Class, outcome: &Outcome, ran: usize) -> Result<(), String> {
    let status = match outcome {
        Outcome::Hung => return Err("it hangs".to_owned()),
        Outcome::Closed => None,
        Outcome::Answer(answer) => {
            if let Some(leak) = server.leak(&answer.everything()) {
                return Err(format!("the answer shows `{leak}`:\n{}", answer.everything()));
            }
            Some(answer.status)
        }
    };
    if status.is_some_and(|status| status >= 500) {
        return Err(format!("answered {status:?}"));
    }
    let good = status.is_some_and(|status| (200..300).contains(&status));
    let refused = status.is_some_and(|status| (400..500).contains(&status));
    let fits = match class {
        Class::Any => true,
        Class::Rej => !good && ran == 0,
        Class::Auth => refused && ran == 0,
        Class::Ok => good,
        Class::OkRun => good && ran == 1,
        Class::NoRun => (good || refused) && ran == 0,
    };
    if fits { Ok(()) } else { Err(format!("{class:?}, but answered {status:?} and ran {ran}")) }
}

#[test]
fn sanity() {
    check(vec![case("sanity.good", Class::OkRun, Request::comment("@agent analyze this").bytes())]);
}

#[test]
fn methods() {
    check(framing::methods());
}

#[test]
fn request_lines() {
    check(framing::lines());
}

#[test]
fn lengths_chunks_and_codings() {
    check(framing::lengths());
    check(framing::chunks());
}

#[test]
fn header_fields() {
    check(framing::headers());
}

#[test]
fn paths() {
    check(places::paths());
}

#[test]
fn signatures_events_and_ids() {
    check(signatures::signatures());
    check(signatures::events_and_ids());
}

#[test]
fn content_types_and_encodings() {
    check(bodies::types());
    check(bodies::encodings());
}

#[test]
fn bodies() {
    check(bodies::bodies());
    check(bodies::shapes());
}

#[test]
fn injected_texts() {
    check(texts::injections());
}

#[test]
fn slow_senders_and_broken_connections() {
    check(slow::slow());
    check(slow::connections());
}

#[test]
fn admin_places_and_foreign_pages() {
    check(places::admin());
    check(places::hosts_and_files());
}

#[test]
fn descriptors_and_memory_come_back() {
    let server = start_server();
    let good = |text: &str| exchange(server.receiver, &Request::comment(text).bytes(), PATIENCE).expect_answer().status;
    assert_eq!(good("@agent analyze before"), 202);
    let before = server.resources();
    for round in 0..20 {
        let big = Request::delivery(vec![b'x'; 900 * 1024]).bytes();
        exchange(server.receiver, &big, PATIENCE);
        let idle: Vec<Wire> = (0..10).map(|_| Wire::open(server.receiver)).collect();
        assert_eq!(good(&format!("@agent analyze round {round}")), 202);
        drop(idle);
    }
    server.wait_for("descriptors are given back", || server.resources().descriptors <= before.descriptors + 16);
    let grown = server.resources().resident_kib.saturating_sub(before.resident_kib);
    assert!(grown < 128 * 1024, "grown by {grown} KiB");
}

#[test]
fn a_flood_of_bad_signatures_keeps_no_good_delivery_out() {
    let server = start_server();
    let over = std::sync::atomic::AtomicBool::new(false);
    let bad = Request::comment("@agent analyze this").set("X-Hub-Signature-256", format!("sha256={}", "0".repeat(64)));
    let bad = bad.bytes();
    std::thread::scope(|scope| {
        let flood = || {
            let mut refused = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(exchange(server.receiver, &bad, PATIENCE).expect_answer().status, 401);
                refused += 1;
            }
            refused
        };
        let floods: Vec<_> = (0..4).map(|_| scope.spawn(flood)).collect();
        let good = |n| Request::comment(&format!("@agent analyze {n}")).bytes();
        let answers: Vec<u16> =
            (0..20).map(|n| exchange(server.receiver, &good(n), PATIENCE).expect_answer().status).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let refused: usize = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
        assert!(answers.iter().all(|status| *status == 202), "{answers:?} amid {refused} bad ones");
        assert!(refused > 20, "that is no flood: {refused}");
    });
}
