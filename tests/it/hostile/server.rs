//! The server under test: a receiver and an admin listener with one GitHub webhook, on addresses of their own.
//!
//! [`start_server`] is all that the cases know of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use skillhook::http::api;
use skillhook::http::api::state::{ApiState, CurrentIndex, IndexView, Reconcile};
use skillhook::http::intake::{CurrentRoutes, CurrentSecrets, Intake, Options};
use skillhook::http::listen::Listener;
use skillhook::http::receiver;
use skillhook::http::serve::{Limits, Server as Serving};
use skillhook::ledger::{self, Ledger};
use skillhook::model::digest::Digest;
use skillhook::model::provider::catalog;
use skillhook::model::routes::{Route, Routes};
use skillhook::model::secret::SecretSet;
use skillhook::model::spec::WebhookSpec;
use skillhook::seam::Clock;
use skillhook::telemetry::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use super::{PATIENCE, Request};
use crate::wire::exchange;

pub const SECRET: &str = "It is a secret to everybody 8f2c";
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Short enough that slow senders are cut within a test.
fn limits() -> Limits {
    Limits {
        body_bytes_max: BODY_BYTES_MAX as u64,
        head_deadline: Duration::from_secs(1),
        body_deadline: Duration::from_secs(1),
        idle_deadline: Duration::from_secs(2),
        drain_deadline: Duration::from_millis(200),
        ..Limits::default()
    }
}

pub struct Server {
    pub receiver: SocketAddr,
    pub admin: SocketAddr,
    process: u32,
    /// Stands for what no answer may show.
    directory: tempfile::TempDir,
    drain: CancellationToken,
    running: Option<std::thread::JoinHandle<()>>,
}

pub struct Resources {
    pub descriptors: usize,
    pub resident_kib: usize,
}

pub fn start_server() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let drain = CancellationToken::new();
    let (addresses, known) = std::sync::mpsc::sync_channel(1);
    let (path, until) = (directory.path().join("ledger.redb"), drain.clone());
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let keep = Duration::from_secs(3600);
            let options = ledger::Options { cache_bytes: 8 << 20, keep, verify_bytes_max: 0, clock: Clock::System };
            let ledger = Ledger::open(&path, options).unwrap();
            serve(ledger.clone(), addresses, until).await;
            ledger.close().await;
        });
    });
    let (receiver, admin) = known.recv_timeout(Duration::from_secs(10)).unwrap();
    Server { receiver, admin, process: std::process::id(), directory, drain, running: Some(running) }
}

async fn serve(
    ledger: Ledger,
    addresses: std::sync::mpsc::SyncSender<(SocketAddr, SocketAddr)>,
    drain: CancellationToken,
) {
    let metrics = Metrics::new();
    let (routes, secrets) = (CurrentRoutes::default(), CurrentSecrets::default());
    let route = route();
    let found = Arc::new(SecretSet::new().with("webhook_secret", SECRET));
    secrets.publish(HashMap::from([(route.spec.id.clone(), found)]));
    let digest = Digest::of(b"index");
    routes.publish(Arc::new(Routes::new([Arc::new(route)], digest, digest)));
    let index = CurrentIndex::default();
    let nothing = || (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (webhooks, skills, agents, providers) = nothing();
    let applied_at = Clock::System.now();
    index.publish(IndexView { digest, revision: digest, applied_at, webhooks, skills, agents, providers });
    let (reconcile, _requests) = Reconcile::channel();
    let state = ApiState {
        ledger: ledger.clone(),
        index,
        reconcile,
        metrics: metrics.clone(),
        clock: Clock::System,
        started_at: applied_at,
    };
    let intake = Intake::new(routes, secrets, ledger, metrics.clone(), Clock::System, Options::default());
    let listener = Listener::tcp("127.0.0.1:0").unwrap();
    let admin = Listener::loopback("127.0.0.1:0").unwrap();
    addresses.send((listener.address().unwrap(), admin.address().unwrap())).unwrap();
    let serving = |name, listener| Serving { name, listener, limits: limits(), metrics: metrics.clone() };
    let public = serving("receiver", listener).serve(receiver::filter(intake, &limits()), drain.clone());
    let private = serving("admin", admin).serve(api::filter("admin", Arc::new(state), &limits()), drain);
    tokio::join!(public, private);
}

fn route() -> Route {
    let definition = catalog::builtin().unwrap().get("github").unwrap().clone();
    let command = |name: &str, template: &str| {
        json!({
            "name": name, "aliases": [], "description": "", "source": "github-operations", "target_agent": null,
            "template": template, "triggers": [], "conditions": null, "priority": 100, "action": "create_task",
            "requires_prefix": true, "model": null, "tools": null, "max_turns": null, "budget_usd": null,
            "timeout_seconds": null
        })
    };
    let spec: WebhookSpec = serde_json::from_value(json!({
        "id": "github", "provider": "github", "endpoint": "/webhooks/github", "builtin": true, "name": "GitHub",
        "description": "", "enabled": true, "target_agent": "brain", "requires_signature": true, "definition": null,
        "definition_digest": definition.digest(), "secrets": {}, "prefixes": ["@agent"], "default_command": "analyze",
        "commands": [
            command("analyze", "Analyse {{issue.title}}, labels {% for l in issue.labels %}{{l.name}} {% endfor %}: {{args}}"),
            command("review", "Review {{issue.number}}: {{text}} {{payload.comment.body}}")
        ],
        "match_mode": "all",
        "allow": {"permission": null, "actors": [], "associations": [], "bots": [], "resources": []},
        "concurrency_max": null, "rate_limit": null, "timeout_seconds": 60, "retries": 2, "ack": "reaction",
        "reply": "comment", "strict_templates": false
    }))
    .unwrap();
    Route::new(spec, 1, definition).unwrap()
}

impl Server {
    /// How many tasks there are, in any state.
    pub fn runs(&self) -> usize {
        let mut count = 0;
        let mut before = String::new();
        loop {
            let path = format!("/api/tasks?limit=200{before}");
            let page = exchange(self.admin, &Request::get(&path).bytes(), PATIENCE).expect_answer().json();
            count += page["items"].as_array().unwrap().len();
            match &page["next"] {
                Value::String(next) => before = format!("&before={next}"),
                _ => return count,
            }
        }
    }

    pub fn is_live(&self) -> bool {
        let outcome = exchange(self.receiver, &Request::get("/livez").bytes(), PATIENCE);
        outcome.answer().is_some_and(|answer| answer.status == 200)
    }

    /// What an answer shows that it must not.
    pub fn leak(&self, answer: &str) -> Option<String> {
        let places = [self.directory.path().to_str().unwrap(), env!("CARGO_MANIFEST_DIR"), "/etc/", "/root", "/home/"];
        let words = [SECRET, "panicked", "RUST_BACKTRACE", ".rs:", "src/", "redb", "root:x:"];
        // A path that the sender itself named may come back escaped.
        places.into_iter().chain(words).find(|leak| answer.contains(leak)).map(str::to_owned)
    }

    pub fn resources(&self) -> Resources {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.process)).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process)).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Resources { descriptors, resident_kib }
    }

    #[track_caller]
    pub fn wait_for(&self, what: &str, state: impl Fn() -> bool) {
        let begun = Instant::now();
        while !state() {
            assert!(begun.elapsed() < Duration::from_secs(10), "in vain: {what}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.drain.cancel();
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

pub fn hmac_sha256(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

/// The value of GitHub's signature header.
pub fn signature(body: &[u8]) -> String {
    format!("sha256={}", hex::encode(hmac_sha256(SECRET.as_bytes(), body)))
}

pub fn fresh_guid() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("72d3162e-cc78-11e3-81ab-{:012x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
