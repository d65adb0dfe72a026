//! Addresses that do not exist, admin addresses without the right to them, pages of other origins.

use super::{Case, Class, PATIENCE, Request, case, played};
use crate::wire::exchange;

pub fn paths() -> Vec<Case> {
    let rej = |name: &str, path: &str| {
        let request = Request::comment("@agent analyze this").path(path);
        case(&format!("path.{name}"), Class::Rej, request.bytes())
    };
    let long = format!("/webhooks/github/{}", "a".repeat(4000));
    let bomb = format!("/webhooks/github?{}", "a=1&".repeat(10_000));
    let bomb = Request::comment("@agent analyze this").path(&bomb);
    vec![
        rej("unknown-id", "/webhooks/github/nobody"),
        rej("unknown-provider", "/webhooks/nobody"),
        rej("empty-id", "/webhooks/github/"),
        rej("dotdot", "/webhooks/gitlab/../github"),
        rej("enc-dotdot", "/webhooks/gitlab/%2e%2e/github"),
        rej("dbl-enc", "/webhooks/%2567ithub"),
        rej("enc-slash", "/webhooks%2fgithub"),
        rej("enc-letter", "/webhooks/g%69thub"),
        rej("bad-pct", "/webhooks/github%zz"),
        rej("semicolon", "/webhooks/github;a=b"),
        rej("unicode", "/webhooks/gıthub"),
        rej("prefix", "/webhooks/githu"),
        rej("longer", "/webhooks/githubx"),
        rej("case", "/webhooks/GitHub"),
        rej("double-slash", "//webhooks/github"),
        rej("long-id", &long),
        rej("absolute-other", "http://evil.example/webhooks/github"),
        case("path.query-bomb", Class::Any, bomb.bytes()),
        played("path.enum-same-answer", Class::Any, |server| {
            let answer = |path: &str| {
                let request = Request::comment("@agent analyze this").path(path).bytes();
                exchange(server.receiver, &request, PATIENCE).expect_answer()
            };
            let (one, other) = (answer("/webhooks/github/nobody"), answer("/webhooks/nobody"));
            assert_eq!((one.status, one.text()), (other.status, other.text()));
            crate::wire::Outcome::Answer(one)
        }),
    ]
}

/// Admin addresses are not served by the receiver; on the admin listener, names that are none are refused.
pub fn admin() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let calls = [
        ("GET", "/webhooks"),
        ("PUT", "/registry/skills/x/content"),
        ("DELETE", "/registry/skills/x"),
        ("GET", "/tasks"),
        ("POST", "/chat"),
        ("GET", "/config"),
        ("POST", "/sync"),
    ];
    for (method, path) in calls {
        for prefix in ["", "/api"] {
            let request = Request::get(path).line(&format!("{method} {prefix}{path} HTTP/1.1")).bytes();
            cases.push(case(&format!("api.noauth.{method}{prefix}{path}"), Class::Rej, request));
        }
    }
    let tokens =
        [("Bearer", "Bearer"), ("Bearer x", "Bearer x"), ("Bearer aa", &*format!("Bearer {}", "a".repeat(8000)))];
    for (name, token) in tokens {
        let request = Request::get("/api/tasks").with("Authorization", token).bytes();
        cases.push(case(&format!("api.badtoken.{name}.{}", token.len()), Class::Rej, request));
    }
    cases.push(case("api.token-in-query", Class::Rej, Request::get("/api/tasks?token=shk_abc").bytes()));
    let names = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "a/../../b", ".git", "..", "...", "-rf", "a\\..\\b"];
    let long = "a".repeat(300);
    for name in names.into_iter().chain([long.as_str()]) {
        let shown: String = name.chars().take(16).collect();
        for place in ["webhooks", "tasks", "deliveries"] {
            let request = Request::get(&format!("/api/{place}/{name}")).bytes();
            cases.push(played(&format!("api.name.{place}.{shown}"), Class::Rej, move |server| {
                exchange(server.admin, &request, PATIENCE)
            }));
        }
    }
    cases
}

pub fn hosts_and_files() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let upgrade = || {
        Request::get("/api/stream")
            .set("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    let sockets = [
        ("ws.foreign-origin", upgrade().with("Origin", "https://evil.example")),
        ("ws.rebind-host", upgrade().set("Host", "evil.example")),
        ("ws.bad-key", upgrade().set("Sec-WebSocket-Key", "short")),
    ];
    for (name, request) in sockets {
        cases.push(played(name, Class::Rej, move |server| exchange(server.admin, &request.bytes(), PATIENCE)));
    }
    for (name, host) in [("evil", "evil.example"), ("rebind", "127.0.0.1.evil.example"), ("meta", "169.254.169.254")] {
        // To read is refused as well.
        cases.push(played(&format!("host.{name}"), Class::Rej, move |server| {
            exchange(server.admin, &Request::get("/api/status").set("Host", host).bytes(), PATIENCE)
        }));
    }
    let csrf = [
        ("csrf.plain", Request::get("").line("POST /api/reconcile HTTP/1.1")),
        ("csrf.form", Request::get("").line("POST /api/reconcile HTTP/1.1").with("Content-Type", "text/plain")),
        ("csrf.origin", Request::get("/api/status").with("Origin", "null")),
    ];
    for (name, request) in csrf {
        cases.push(played(name, Class::Rej, move |server| exchange(server.admin, &request.bytes(), PATIENCE)));
    }
    let files = [
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/.git/config",
        "/.env",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/debug/pprof",
        "//etc/passwd",
    ];
    for path in files {
        let bytes = Request::get(path).bytes();
        cases.push(case(&format!("static.{path}"), Class::Any, bytes.clone()));
        cases.push(played(&format!("static.admin.{path}"), Class::Any, move |server| {
            exchange(server.admin, &bytes, PATIENCE)
        }));
    }
    cases
}
