//! Who may do what over the admin API: every address, every scope, every way of not having a token.

use std::process::Stdio;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use skillhook::http::api::table::{ROUTES, Route};
use skillhook::model::secret::SecretSet;
use skillhook::model::token::{self, Scope, Scopes};
use skillhook::seam::Clock;

use crate::gateway::{Gateway, Setup, Webhook};
use crate::service::{SOON, Service, wait_for};
use crate::wire::{Answer, exchange};

const LONG: Duration = Duration::from_secs(30);

fn gateway() -> Gateway {
    let clock = Clock::manual("2026-01-02T03:04:05Z".parse().unwrap());
    let webhook = Webhook::of("github", SecretSet::new().with("webhook_secret", "hunter2"));
    Gateway::start(Setup { clock, ..Setup::with([webhook]) })
}

/// Asks with an `Authorization` header, or without one.
fn ask(gateway: &Gateway, method: &str, path: &str, authorization: Option<&str>, body: &Value) -> Answer {
    let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}X-Skillhook: 1\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len(),
    );
    exchange(gateway.admin, head.as_bytes(), LONG).expect_answer()
}

fn made(gateway: &Gateway, body: &Value) -> Value {
    let answer = ask(gateway, "POST", "/api/tokens", Some(&format!("Bearer {}", gateway.token)), body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn token(gateway: &Gateway, scope: Scope) -> String {
    let made = made(gateway, &json!({ "name": scope.as_str(), "scopes": [scope] }));
    format!("Bearer {}", made["token"].as_str().unwrap())
}

/// A stream has no end to wait for: its head alone is asked for.
fn line(route: &Route) -> (&'static str, String) {
    let method = if route.path == "/api/stream" { "HEAD" } else { route.method };
    (method, route.path.replace(['{', '}'], ""))
}

#[test]
fn every_address_lets_in_whom_its_scope_names_and_nobody_else() {
    let gateway = gateway();
    let known: Vec<(Scope, String)> = Scope::ALL.map(|scope| (scope, token(&gateway, scope))).into();
    for route in ROUTES {
        let Some(needed) = route.operation.scope() else {
            assert!(route.path == "/livez" || route.path == "/readyz", "{} is open to anyone", route.path);
            continue;
        };
        let (method, path) = line(route);
        for (scope, token) in &known {
            let answer = ask(&gateway, method, &path, Some(token), &Value::Null);
            let let_in = !matches!(answer.status, 401 | 403);
            assert_eq!(let_in, Scopes::of([*scope]).allow(needed), "{} {} as {scope:?}", route.method, route.path);
            assert!(let_in || method == "HEAD" || answer.json()["code"] == "SH0811", "{}", answer.text());
        }
    }
}

/// What an address needs is decided in one place; whoever changes it changes this too.
#[test]
fn reading_needs_read_and_doing_needs_write_but_for_these() {
    let except = [
        ("GET", "/livez", None),
        ("GET", "/readyz", None),
        ("GET", "/api/tokens", Some(Scope::Admin)),
        ("POST", "/api/tokens", Some(Scope::Admin)),
        ("DELETE", "/api/tokens/{id}", Some(Scope::Admin)),
        ("PUT", "/api/secrets/{id}", Some(Scope::Admin)),
        ("POST", "/api/tasks/{id}/approve", Some(Scope::Approve)),
        ("POST", "/api/tasks/{id}/reject", Some(Scope::Approve)),
        ("POST", "/api/stream/ticket", Some(Scope::Read)),
        ("POST", "/api/webhooks/{id}/test", Some(Scope::Read)),
        // It speaks for whomever its payload names.
        ("POST", "/api/webhooks/{id}/deliver", Some(Scope::Admin)),
        ("POST", "/api/validate", Some(Scope::Read)),
    ];
    for route in ROUTES {
        let usual = Some(if route.method == "GET" { Scope::Read } else { Scope::Write });
        let exception = except.iter().find(|(method, path, _)| (*method, *path) == (route.method, route.path));
        let expected = exception.map_or(usual, |(.., scope)| *scope);
        assert_eq!(route.operation.scope(), expected, "{} {}", route.method, route.path);
    }
    for (method, path, _) in except {
        assert!(ROUTES.iter().any(|route| (route.method, route.path) == (method, path)), "{method} {path}");
    }
}

#[test]
fn no_address_is_open_without_a_token_that_holds() {
    let gateway = gateway();
    let brief = made(&gateway, &json!({ "name": "brief", "scopes": ["admin"], "expires_in_seconds": 60 }));
    let revoked = made(&gateway, &json!({ "name": "revoked", "scopes": ["admin"] }));
    let admin = format!("Bearer {}", gateway.token);
    let id = revoked["id"].as_str().unwrap();
    assert_eq!(ask(&gateway, "DELETE", &format!("/api/tokens/{id}"), Some(&admin), &Value::Null).status, 200);
    gateway.clock.advance(SignedDuration::from_secs(61));
    let text = |token: &Value| token["token"].as_str().unwrap().to_owned();
    let (_, unknown) = token::compose(&[7; token::ID_BYTES + token::SECRET_BYTES]);
    let (_, mut same_id) = token::compose(&[9; token::ID_BYTES + token::SECRET_BYTES]);
    same_id.replace_range(4..16, &gateway.token[4..16]);
    let wrong = [
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer shk_".to_owned()),
        Some(format!("Basic {}", gateway.token)),
        Some(gateway.token.clone()),
        Some(format!("Bearer {}0", gateway.token)),
        Some(format!("Bearer {unknown}")),
        Some(format!("Bearer {same_id}")),
        Some(format!("Bearer {}", text(&brief))),
        Some(format!("Bearer {}", text(&revoked))),
    ];
    for route in ROUTES.iter().filter(|route| route.operation.scope().is_some()) {
        let (method, path) = line(route);
        for wrong in &wrong {
            let answer = ask(&gateway, method, &path, wrong.as_deref(), &Value::Null);
            assert_eq!(answer.status, 401, "{method} {path} with {wrong:?}");
            assert!(method == "HEAD" || answer.json()["code"] == "SH0810", "{}", answer.text());
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"));
        }
    }
    assert_eq!(ask(&gateway, "GET", &format!("/api/tasks?token={}", gateway.token), None, &Value::Null).status, 401);
}

#[test]
fn a_token_is_shown_once_and_kept_as_a_digest() {
    let gateway = gateway();
    let made = made(&gateway, &json!({ "name": "ci", "scopes": ["read", "write"], "expires_in_seconds": 3600 }));
    let text = made["token"].as_str().unwrap().to_owned();
    assert_eq!(made["expires_at"], "2026-01-02T04:04:05Z");
    let read = ask(&gateway, "GET", "/api/me", Some(&format!("Bearer {text}")), &Value::Null);
    assert_eq!(read.json()["scopes"], json!(["read", "write"]));
    let listed = gateway.get("/api/tokens");
    let ours = listed.json()["items"].as_array().unwrap().iter().find(|token| token["name"] == "ci").unwrap().clone();
    assert_eq!((&ours["state"], &ours["last_used_at"]), (&json!("valid"), &json!("2026-01-02T03:04:05Z")));
    let events = gateway.get("/api/events");
    assert!(events.text().contains("token.created") && events.text().contains("token test"), "{}", events.text());
    let secret = &text[17..];
    let file = std::fs::read(gateway.directory.path().join("ledger.redb")).unwrap();
    let on_disk = file.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(!on_disk && !listed.text().contains(secret) && !events.text().contains(secret));
}

#[test]
fn a_token_of_no_sense_is_refused_by_name() {
    let gateway = gateway();
    let admin = format!("Bearer {}", gateway.token);
    for (body, code) in [
        (json!({}), "SH0902"),
        (json!({ "name": "x", "scopes": [] }), "SH0902"),
        (json!({ "name": " ", "scopes": ["read"] }), "SH0902"),
        (json!({ "name": "x", "scopes": ["root"] }), "SH0902"),
        (json!({ "name": "x", "scopes": ["read"], "expires_in_seconds": 0 }), "SH0902"),
        (json!({ "name": "x", "scopes": ["read"], "expires": "1d" }), "SH0902"),
    ] {
        let answer = ask(&gateway, "POST", "/api/tokens", Some(&admin), &body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some(code)), "{body}");
    }
    assert_eq!(ask(&gateway, "DELETE", "/api/tokens/nobody", Some(&admin), &Value::Null).status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_token_a_program_of_this_machine_may_look_and_touch_nothing() {
    let service = Service::started(json!({})).await;
    let looked = service.client.get(service.admin_url("/api/webhooks")).send().await.unwrap();
    assert_eq!(looked.status(), 200);
    let touched = service.client.post(service.admin_url("/api/reconcile")).header("x-skillhook", "1").send().await;
    let touched: (u16, Value) = {
        let answer = touched.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    };
    assert_eq!((touched.0, &touched.1["code"]), (403, &json!("SH0811")));
    let bad = service.client.get(service.admin_url("/api/webhooks")).bearer_auth("shk_nobody").send().await.unwrap();
    assert_eq!(bad.status(), 401);

    let made = service.command(&["token", "create", "ci", "--scope", "write"]).output().unwrap();
    let token = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(made.status.success() && token.starts_with("shk_"), "{token}");
    let refused = service.client.get(service.admin_url("/api/webhooks")).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    let ask = || service.client.post(service.admin_url("/api/reconcile")).bearer_auth(&token).send();
    assert_eq!(ask().await.unwrap().status(), 202);

    let revoke = service.command(&["token", "revoke", &token[4..16], "-y"]).stderr(Stdio::inherit()).output().unwrap();
    assert!(revoke.status.success());
    assert_eq!(ask().await.unwrap().status(), 401);
    let listed = service.command(&["token", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("revoked") && !listed.contains(&token), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_nothing_is_served_before_there_is_a_token() {
    let service = Service::prepared(json!({})).await;
    std::fs::create_dir_all(service.root()).unwrap();
    let everywhere = ["up", "--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:0"];
    let refused = service.command(&everywhere).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("SH0306"), "{said}");

    let made = service.command(&["token", "create", "first", "--scope", "admin", "-o", "json"]).output().unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(made["scopes"], json!(["admin"]));
    let log = std::fs::File::create(service.dir.path().join("everywhere.log")).unwrap();
    let mut child = service.command(&everywhere).stdin(Stdio::null()).stderr(log).spawn().unwrap();
    let started = service.dir.path().join("everywhere.log");
    let begun = std::time::Instant::now();
    wait_for("the start", || async {
        assert!(begun.elapsed() < SOON);
        std::fs::read_to_string(&started).unwrap_or_default().contains("http://0.0.0.0:")
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
}
