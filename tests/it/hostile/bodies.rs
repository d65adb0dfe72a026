//! Content types, encodings, and bodies that are no delivery, or nearly one.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::{Case, Class, Request, case};

/// A comment on an issue by a person who may write, unlike any other that was sent.
pub fn comment(text: &str) -> Value {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    json!({
        "action": "created",
        "issue": {
            "number": 7,
            "title": "It does not work",
            "body": "Steps to see it",
            "html_url": "https://github.com/octo/repo/issues/7",
            "state": "open",
            "labels": [{"name": "bug"}],
            "user": {"login": "octocat", "type": "User"}
        },
        "comment": {
            "id": id,
            "body": text,
            "html_url": format!("https://github.com/octo/repo/issues/7#issuecomment-{id}"),
            "author_association": "OWNER",
            "user": {"login": "octocat", "type": "User"}
        },
        "repository": {"full_name": "octo/repo", "html_url": "https://github.com/octo/repo"},
        "sender": {"login": "octocat", "type": "User"}
    })
}

const CALL: &str = "@agent analyze this";

pub fn types() -> Vec<Case> {
    let of = |name: &str, media: &str| {
        case(&format!("ctype.{name}"), Class::Any, Request::comment(CALL).set("Content-Type", media).bytes())
    };
    let form = {
        let fields = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("payload", &comment(CALL).to_string())
            .finish();
        Request::delivery(fields).set("Content-Type", "application/x-www-form-urlencoded")
    };
    vec![
        of("text/plain", "text/plain"),
        of("text/xml", "text/xml"),
        of("application/json; charset", "application/json; charset=utf-16"),
        of("multipart/form-data", "multipart/form-data; boundary=x"),
        of("", ""),
        of("application/json", "application/json"),
        of("junk", "\u{7f};;;=/"),
        case("ctype.missing", Class::Any, Request::comment(CALL).without("Content-Type").bytes()),
        case("ctype.form", Class::OkRun, form.bytes()),
    ]
}

pub fn encodings() -> Vec<Case> {
    let zeros = deflated_zeros(50 * 1024 * 1024);
    let gzip = [[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].as_slice(), &zeros, &[0; 8]].concat();
    let of = |name: &str, class: Class, coding: &str, body: Vec<u8>| {
        case(&format!("enc.{name}"), class, Request::delivery(body).with("Content-Encoding", coding).bytes())
    };
    let plain = || comment(CALL).to_string().into_bytes();
    let unsigned = Request::delivery(gzip.clone()).without("X-Hub-Signature-256").with("Content-Encoding", "gzip");
    vec![
        of("gzip-bomb-50M", Class::Rej, "gzip", gzip.clone()),
        of("deflate-bomb", Class::Rej, "deflate", zeros),
        case("enc.gzip-unsigned-bomb", Class::Rej, unsigned.bytes()),
        of("zstd", Class::Any, "zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0, 0]),
        of("gzip, gzip", Class::Any, "gzip, gzip", gzip),
        of("bogus", Class::Any, "bogus", plain()),
        of("identity", Class::Any, "identity", plain()),
    ]
}

/// A deflate stream (RFC 1951, fixed codes) of that many zeros: one literal, then the longest repeat again and again.
fn deflated_zeros(bytes: usize) -> Vec<u8> {
    let mut out = Bits::default();
    out.push(0b011, 3);
    // Literal 0 is 0011_0000; codes go out from their highest bit.
    out.push_code(0b0011_0000, 8);
    for _ in 0..bytes / 258 {
        // Length 258 is symbol 285, distance 1 is symbol 0.
        out.push_code(0b1100_0101, 8);
        out.push_code(0, 5);
    }
    out.push_code(0, 7);
    out.bytes.push(out.last);
    out.bytes
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    last: u8,
    used: u32,
}

impl Bits {
    fn push(&mut self, bits: u32, count: u32) {
        for n in 0..count {
            self.last |= u8::from(bits >> n & 1 == 1) << self.used;
            self.used += 1;
            if self.used == 8 {
                self.bytes.push(std::mem::take(&mut self.last));
                self.used = 0;
            }
        }
    }

    fn push_code(&mut self, code: u32, count: u32) {
        for n in (0..count).rev() {
            self.push(code >> n & 1, 1);
        }
    }
}

pub fn bodies() -> Vec<Case> {
    let good = || comment(CALL).to_string();
    let nested = |depth: usize| [b"{\"a\":".repeat(depth), b"1".to_vec(), b"}".repeat(depth)].concat();
    let utf16: Vec<u8> = good().encode_utf16().flat_map(u16::to_le_bytes).collect();
    let truncated = good().into_bytes()[..200].to_vec();
    let keys: serde_json::Map<String, Value> = (0..50_000).map(|n| (format!("k{n}"), json!(n))).collect();
    let none: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("space", b" ".into()),
        ("open-brace", b"{".into()),
        ("null", b"null".into()),
        ("number", b"1".into()),
        ("string", b"\"x\"".into()),
        ("array", b"[]".into()),
        ("object", b"{}".into()),
        ("nan", b"{\"action\":NaN}".into()),
        ("inf", b"{\"action\":Infinity}".into()),
        ("bigint", b"{\"action\":1e400,\"n\":123456789012345678901234567890}".into()),
        ("single-quote", b"{'action':'created'}".into()),
        ("trailing-comma", b"{\"action\":\"created\",}".into()),
        ("invalid-utf8", b"{\"action\":\"\xff\xfe\"}".into()),
        ("lone-surrogate", b"{\"action\":\"\\ud800\"}".into()),
        ("utf16", utf16),
        ("utf8-bom", [b"\xef\xbb\xbf".as_slice(), b"{\"action\":\"x\"}"].concat()),
        ("xml", b"<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><x>&e;</x>".into()),
        ("binary", (0..=255).collect()),
        ("overlong", b"{\"action\":\"\xc0\xaf\"}".into()),
        ("deep-obj-1000", nested(1000)),
        ("deep-obj-100000", nested(100_000)),
        ("deep-array-100000", [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
        ("trailing-garbage", [good().as_bytes(), b" x"].concat()),
        ("two-docs", [good().as_bytes(), good().as_bytes()].concat()),
        ("truncated", truncated),
    ];
    let twice = good().replacen('{', "{\"action\":\"deleted\",", 1).into_bytes();
    let any: Vec<(&str, Vec<u8>)> = vec![
        ("dup-keys", twice),
        ("proto", good().replacen('{', "{\"__proto__\":{\"admin\":true},\"constructor\":{},", 1).into_bytes()),
        ("keys-50k", Value::from(keys).to_string().into_bytes()),
    ];
    let of = |class: Class| move |(name, body)| case(&format!("body.{name}"), class, Request::delivery(body).bytes());
    none.into_iter().map(of(Class::NoRun)).chain(any.into_iter().map(of(Class::Any))).collect()
}

/// Good deliveries in which one value is of another kind, and events with their main part missing.
pub fn shapes() -> Vec<Case> {
    let odd: Vec<(&str, &str, Value)> = vec![
        ("issue-arr", "/issue", json!([])),
        ("issue-title-obj", "/issue/title", json!({"a": 1})),
        ("issue-title-arr", "/issue/title", json!([1, 2])),
        ("issue-labels-null", "/issue/labels", Value::Null),
        ("issue-labels-str", "/issue/labels", json!("bug")),
        ("issue-label-null", "/issue/labels/0", Value::Null),
        ("issue-user-null", "/issue/user", Value::Null),
        ("action-null", "/action", Value::Null),
        ("action-1", "/action", json!(1)),
        ("action-\"x\"", "/action", json!("x")),
        ("action-{}", "/action", json!({})),
        ("sender-1", "/sender", json!(1)),
        ("sender-[]", "/sender", json!([])),
        ("sender-\"x\"", "/sender", json!("x")),
        ("repository-null", "/repository", Value::Null),
        ("repository-[]", "/repository", json!([])),
        ("repository-{}", "/repository", json!({})),
        ("repository-name-arr", "/repository/full_name", json!(["a"])),
        ("comment-null", "/comment", Value::Null),
        ("comment-1", "/comment", json!(1)),
        ("comment-[]", "/comment", json!([])),
        ("comment-{}", "/comment", json!({})),
        ("comment-body-obj", "/comment/body", json!({"a": "@agent analyze"})),
        ("comment-id-huge", "/comment/id", json!(1e308)),
    ];
    let mut cases: Vec<Case> = (odd.into_iter())
        .map(|(name, pointer, value)| {
            let mut body = comment(CALL);
            *body.pointer_mut(pointer).unwrap() = value;
            case(&format!("body.shape.{name}"), Class::Any, Request::delivery(body.to_string()).bytes())
        })
        .collect();
    let mut no_title = comment(CALL);
    no_title["issue"].as_object_mut().unwrap().remove("title");
    cases.push(case("body.shape.issue-title-missing", Class::Any, Request::delivery(no_title.to_string()).bytes()));
    let mut installed = comment(CALL);
    installed["installation"] = json!({});
    cases.push(case("body.shape.installation-{}", Class::Any, Request::delivery(installed.to_string()).bytes()));
    let others: [(&str, &str, Value); 4] = [
        ("ping.zen", "ping", json!({"zen": "Keep it logically awesome.", "hook_id": 1})),
        ("issue_comment.no-issue", "issue_comment", json!({"action": "created", "comment": {"body": CALL}})),
        ("pull_request.no-pr", "pull_request", json!({"action": "opened", "number": 1})),
        ("check_run.odd", "check_run", json!({"action": "completed", "check_run": [[[]]]})),
    ];
    for (name, event, body) in others {
        let request = Request::delivery(body.to_string()).set("X-GitHub-Event", event);
        cases.push(case(&format!("shape.{name}"), Class::Any, request.bytes()));
    }
    cases
}
