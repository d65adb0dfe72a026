//! Senders that are slow, silent or gone.

use std::time::{Duration, Instant};

use super::{Case, Class, PATIENCE, Request, Server, played};
use crate::wire::{Outcome, Wire, exchange};

/// Every slow sender is cut by the server's shortened deadlines; one that is still there after this was not.
const CUT_WITHIN: Duration = Duration::from_secs(30);

fn good() -> Request {
    Request::comment("@agent analyze this")
}

/// Sends `begin`, then `trickle` again and again until the server has had enough.
fn trickling(server: &Server, begin: &[u8], trickle: &[u8]) -> Outcome {
    let begun = Instant::now();
    let mut wire = Wire::open(server.receiver);
    wire.send(begin);
    while begun.elapsed() < CUT_WITHIN {
        if !trickle.is_empty() {
            wire.send(trickle);
        }
        match wire.answer(Duration::from_millis(50)) {
            Outcome::Hung => {}
            outcome @ (Outcome::Answer(_) | Outcome::Closed) => return outcome,
        }
    }
    Outcome::Hung
}

fn with_length(request: &Request, length: usize) -> Vec<u8> {
    [request.head(), format!("Content-Length: {length}\r\n\r\n").into_bytes()].concat()
}

pub fn slow() -> Vec<Case> {
    let chunked = || [good().head(), b"Transfer-Encoding: chunked\r\n\r\n5\r\nab".to_vec()].concat();
    vec![
        played("slow.headers", Class::Rej, |server| {
            trickling(server, b"POST /webhooks/github HTTP/1.1\r\nHost: a\r\n", b"X-A: b\r\n")
        }),
        played("slow.no-bytes", Class::Rej, |server| trickling(server, b"", b"")),
        played("slow.half-request-line", Class::Rej, |server| trickling(server, b"POST /webhooks/gi", b"")),
        played("slow.body", Class::Rej, |server| trickling(server, &with_length(&good(), 100_000), b"x")),
        played("slow.body-missing", Class::Rej, |server| trickling(server, &with_length(&good(), 100), b"")),
        played("slow.body-short-shut", Class::Rej, |server| {
            let mut wire = Wire::open(server.receiver);
            wire.send(&with_length(&good(), 100));
            wire.send(b"{\"a\":");
            wire.shut_down_write();
            wire.answer(CUT_WITHIN)
        }),
        played("slow.chunk-hang", Class::Rej, move |server| trickling(server, &chunked(), b"")),
    ]
}

pub fn connections() -> Vec<Case> {
    vec![
        played("conn.rst-mid-body", Class::Any, |server| {
            let mut wire = Wire::open(server.receiver);
            wire.send(&with_length(&good(), 100_000));
            wire.send(&[b'x'; 1000]);
            wire.reset();
            Outcome::Closed
        }),
        played("conn.rst-after-request", Class::Any, |server| {
            let mut wire = Wire::open(server.receiver);
            wire.send(&good().bytes());
            wire.reset();
            Outcome::Closed
        }),
        played("conn.idle-300", Class::Ok, |server| {
            let idle: Vec<Wire> = (0..300).map(|_| Wire::open(server.receiver)).collect();
            let outcome = exchange(server.receiver, &good().bytes(), PATIENCE);
            drop(idle);
            outcome
        }),
    ]
}
