//! Methods, request lines, lengths, chunks, header fields.

use super::server::BODY_BYTES_MAX;
use super::{Case, Class, Request, case, played};
use crate::wire::{Wire, exchange};

fn good() -> Request {
    Request::comment("@agent analyze this")
}

pub fn methods() -> Vec<Case> {
    let with = |method: &str| good().line(&format!("{method} /webhooks/github HTTP/1.1")).bytes();
    let mut cases: Vec<Case> = ["GET", "HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "post", "POSTX"]
        .map(|method| case(&format!("method.{method}"), Class::NoRun, with(method)))
        .into();
    cases.push(case("method.empty", Class::Rej, with("")));
    cases
}

pub fn lines() -> Vec<Case> {
    let line = |line: &str| good().line(line).bytes();
    let bare_lf = String::from_utf8(good().bytes()).unwrap().replace("\r\n", "\n");
    let long = format!("POST /webhooks/github?{} HTTP/1.1", "a".repeat(1_000_000));
    vec![
        case("line.http09", Class::Rej, "POST /webhooks/github\r\n\r\n"),
        case("line.http10-nohost", Class::Rej, good().without("Host").line("POST /webhooks/github HTTP/1.0").bytes()),
        case("line.http20", Class::Rej, line("POST /webhooks/github HTTP/2.0")),
        case("line.http99", Class::Rej, line("POST /webhooks/github HTTP/9.9")),
        case("line.lower-http", Class::Rej, line("POST /webhooks/github http/1.1")),
        case("line.two-spaces", Class::Rej, line("POST  /webhooks/github HTTP/1.1")),
        case("line.tab", Class::Rej, line("POST\t/webhooks/github\tHTTP/1.1")),
        case("line.fragment", Class::Rej, line("POST /webhooks/github#x HTTP/1.1")),
        case("line.bare-lf", Class::Any, bare_lf),
        case("line.uri-1000000", Class::Rej, line(&long)),
    ]
}

pub fn lengths() -> Vec<Case> {
    let announced = |fields: &[&str]| {
        let request = good();
        let mut bytes = request.head();
        for field in fields {
            bytes.extend_from_slice(format!("Content-Length: {field}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&request.body);
        bytes
    };
    let length = good().body.len().to_string();
    let other = (good().body.len() + 1).to_string();
    let mut cases = vec![
        case("cl.two-same", Class::Any, announced(&[&length, &length])),
        case("cl.two-differ", Class::Rej, announced(&[&length, &other])),
        case("cl.zero", Class::Rej, announced(&["0"])),
        case("cl.tera", Class::Rej, announced(&["{{7*7}}"])),
        played("cl.over-limit", Class::Rej, |server| {
            let head = [good().head(), format!("Content-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1).into_bytes()].concat();
            let outcome = exchange(server.receiver, &head, super::PATIENCE);
            // Before a byte of the body is there.
            assert_eq!(outcome.answer().map(|answer| answer.status), Some(413));
            outcome
        }),
    ];
    for bad in ["+10", "1e3", "abc", "18446744073709551617", "99999999999999999999999999", "5 5"] {
        let name = format!("cl.bad-{}", bad.chars().take(12).collect::<String>());
        cases.push(case(&name, Class::Rej, announced(&[bad])));
    }
    cases
}

fn chunked(request: &Request, coding: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = request.head();
    bytes.extend_from_slice(format!("Transfer-Encoding: {coding}\r\n\r\n").as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn chunks_of(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in body.chunks(100) {
        bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

pub fn chunks() -> Vec<Case> {
    let coded = |coding: &str| {
        let request = good();
        chunked(&request, coding, &chunks_of(&request.body))
    };
    let (no_crlf, bare_lf) = (good(), good());
    let without_end = format!("{:x}\r\n{}0\r\n\r\n", no_crlf.body.len(), String::from_utf8_lossy(&no_crlf.body));
    let with_lf = format!("{:x}\n{}\n0\n\n", bare_lf.body.len(), String::from_utf8_lossy(&bare_lf.body));
    let both = {
        let request = good();
        let mut bytes = request.head();
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", request.body.len()).as_bytes());
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        bytes.extend_from_slice(&chunks_of(&request.body));
        bytes
    };
    vec![
        case("te.'gzip, chunked'", Class::Any, coded("gzip, chunked")),
        case("te.'\\x0bchunked'", Class::Any, coded("\x0bchunked")),
        case("te.'Chunked'", Class::Any, coded("Chunked")),
        case("te.with-length", Class::Any, both),
        case("chunk.good", Class::OkRun, coded("chunked")),
        case("chunk.no-crlf", Class::Rej, chunked(&no_crlf, "chunked", without_end.as_bytes())),
        case("chunk.bare-lf", Class::Any, chunked(&bare_lf, "chunked", with_lf.as_bytes())),
        played("chunk.over-limit", Class::Rej, |server| {
            let mut wire = Wire::open(server.receiver);
            wire.send(&chunked(&good(), "chunked", b""));
            let part = [b"10000\r\n".as_slice(), &vec![b'x'; 0x10000], b"\r\n"].concat();
            for _ in 0..=BODY_BYTES_MAX / 0x10000 {
                if !wire.send(&part) {
                    break;
                }
            }
            wire.answer(super::PATIENCE)
        }),
    ]
}

pub fn headers() -> Vec<Case> {
    let raw = |line: &[u8]| {
        let request = good();
        let mut bytes = request.head();
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(format!("\r\nContent-Length: {}\r\n\r\n", request.body.len()).as_bytes());
        bytes.extend_from_slice(&request.body);
        bytes
    };
    let flood = (0..500).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect::<Vec<_>>().join(", ");
    let many = (0..5000).map(|n| format!("X-{n}: a")).collect::<Vec<_>>().join("\r\n");
    let h2c = good().set("Connection", "Upgrade, HTTP2-Settings").with("Upgrade", "h2c");
    vec![
        case("hdr.no-colon", Class::Any, raw(b"no colon here")),
        case("hdr.empty-name", Class::Any, raw(b": x")),
        case("hdr.obs-fold", Class::Any, raw(b"X-A: b\r\n  folded")),
        case("hdr.cr-only", Class::Any, raw(b"X-A: b\rX-B: c")),
        case("hdr.nul", Class::Any, raw(b"X-A: b\0c")),
        case("hdr.8k", Class::Any, raw(&[b"X-A: ".as_slice(), &[b'a'; 8192]].concat())),
        case("hdr.5000", Class::Any, raw(many.as_bytes())),
        case("hdr.two-hosts", Class::Any, good().with("Host", "other.example").bytes()),
        case("hdr.upgrade-h2c", Class::Any, h2c.with("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA").bytes()),
        case("hdr.xff-flood", Class::Any, good().with("X-Forwarded-For", &flood).bytes()),
        case("hdr.auth-junk", Class::Any, good().with("Authorization", "Basic \u{1}\u{2}").bytes()),
    ]
}
