//! Signatures that do not fit, and what no signature covers.

use super::server::{SECRET, fresh_guid, hmac_sha256, signature};
use super::{Case, Class, PATIENCE, Request, case, played};
use crate::wire::exchange;

const HEADER: &str = "X-Hub-Signature-256";

pub fn signatures() -> Vec<Case> {
    let good = || Request::comment("@agent analyze this");
    let digits = || {
        let request = good();
        let signature = signature(&request.body).trim_start_matches("sha256=").to_owned();
        (request, signature)
    };
    let auth = |name: &str, request: Request| case(&format!("sig.{name}"), Class::Auth, request.bytes());
    let value = |name: &str, value: &dyn Fn(&str) -> Vec<u8>| {
        let (request, digits) = digits();
        auth(name, request.set(HEADER, value(&digits)))
    };
    let wrong = "0123456789abcdef".repeat(4);
    let keyed = |key: &[u8]| {
        let request = good();
        let signature = format!("sha256={}", hex::encode(hmac_sha256(key, &request.body)));
        request.set(HEADER, signature)
    };
    let twice = |first_good: bool, second_good: bool| {
        let (request, digits) = digits();
        let wrong = &wrong;
        let value = move |good: bool| format!("sha256={}", if good { &digits } else { wrong });
        request.without(HEADER).with(HEADER, &value(first_good)).with(HEADER, &value(second_good)).bytes()
    };
    vec![
        auth("missing", good().without(HEADER)),
        auth("empty", good().set(HEADER, "")),
        value("wrong", &|_| format!("sha256={wrong}").into()),
        value("wrong-first", &|digits| format!("sha256={wrong} sha256={digits}").into()),
        value("truncated", &|digits| format!("sha256={}", &digits[..62]).into()),
        value("extended", &|digits| format!("sha256={digits}00").into()),
        value("zeros", &|_| format!("sha256={}", "0".repeat(64)).into()),
        value("odd-hex", &|digits| format!("sha256={}", &digits[..63]).into()),
        value("non-hex", &|digits| format!("sha256={}zz", &digits[..62]).into()),
        auth("other-key", keyed(b"another key")),
        auth("empty-key", keyed(b"")),
        value("huge", &|_| format!("sha256={}", "a".repeat(20_000)).into()),
        value("non-ascii", &|digits| [b"sha256=\xff\xfe".as_slice(), digits.as_bytes()].concat()),
        value("no-prefix", &|digits| digits.into()),
        case("sig.twice-same", Class::Any, twice(true, true)),
        case("sig.twice-bad-first", Class::Auth, twice(false, true)),
        case("sig.twice-bad-last", Class::Auth, twice(true, false)),
        value("comma-list", &|digits| format!("sha256={wrong},sha256={digits}").into()),
        auth("other-header", moved(digits(), "X-Signature", "sha256=")),
        auth("sha1-only", good().without(HEADER).with("X-Hub-Signature", &format!("sha1={}", "a".repeat(40)))),
        value("sha512-prefix", &|digits| format!("sha512={digits}{digits}").into()),
        auth("slack-style", moved(digits(), "X-Slack-Signature", "v0=")),
        auth("gitlab-style", good().without(HEADER).with("X-Gitlab-Token", SECRET)),
    ]
}

fn moved((request, digits): (Request, String), header: &str, prefix: &str) -> Request {
    request.without(HEADER).with(header, &format!("{prefix}{digits}"))
}

pub fn events_and_ids() -> Vec<Case> {
    let good = || Request::comment("@agent analyze this");
    vec![
        case("event.empty", Class::NoRun, good().set("X-GitHub-Event", "").bytes()),
        case("event.latin1", Class::NoRun, good().set("X-GitHub-Event", b"issue_comment\xe9".as_slice()).bytes()),
        case("event.twice", Class::Any, good().with("X-GitHub-Event", "push").bytes()),
        case("delivery.missing", Class::Any, good().without("X-GitHub-Delivery").bytes()),
        case("delivery.long", Class::Any, good().set("X-GitHub-Delivery", "a".repeat(9000)).bytes()),
        case("delivery.latin1", Class::Any, good().set("X-GitHub-Delivery", b"\xe9\xe8".as_slice()).bytes()),
        played("delivery.replay-new-id", Class::OkRun, move |server| {
            let request = good();
            exchange(server.receiver, &request.bytes(), PATIENCE);
            // The id is not signed: with a new one it is still the same delivery.
            exchange(server.receiver, &request.set("X-GitHub-Delivery", fresh_guid()).bytes(), PATIENCE)
        }),
        played("delivery.bad-then-good", Class::OkRun, move |server| {
            let request = good();
            let bad = request.clone().set(HEADER, format!("sha256={}", "0".repeat(64)));
            exchange(server.receiver, &bad.bytes(), PATIENCE);
            exchange(server.receiver, &request.bytes(), PATIENCE)
        }),
    ]
}
