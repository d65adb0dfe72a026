//! A gateway in this process: receiver, admin API and ledger for real, with webhooks that a test names. Nothing works
//! on its tasks, so they stay where the delivery put them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use skillhook::http::api;
use skillhook::http::api::access::{Access, Caller, Wanted};
use skillhook::http::api::guard::Hosts;
use skillhook::http::api::state::{ApiState, CurrentIndex, IndexView, PassRequest, Reconcile, WebhookView};
use skillhook::http::intake::{CurrentRoutes, CurrentSecrets, Intake, Options};
use skillhook::http::listen::Listener;
use skillhook::http::receiver;
use skillhook::http::serve::{Limits, Server as Serving};
use skillhook::ledger::{self, Ledger};
use skillhook::model::digest::Digest;
use skillhook::model::provider::{Catalogue, catalog};
use skillhook::model::routes::{Route, Routes};
use skillhook::model::secret::SecretSet;
use skillhook::model::token::{Scope, Scopes};
use skillhook::seam::Clock;
use skillhook::telemetry::metrics::Metrics;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::wire::{Answer, exchange};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The catalogue, read once: that takes a while in a debug build.
pub fn catalogue() -> &'static Catalogue {
    static CATALOGUE: OnceLock<Catalogue> = OnceLock::new();
    CATALOGUE.get_or_init(|| catalog::builtin().unwrap())
}

/// A webhook of a test.
pub struct Webhook {
    pub spec: Value,
    pub secrets: SecretSet,
}

impl Webhook {
    /// The built-in webhook of a provider with the text commands `analyze` and `review`.
    pub fn of(provider: &str, secrets: SecretSet) -> Self {
        let definition = catalogue().get(provider).unwrap();
        let spec = json!({
            "id": provider, "provider": provider, "endpoint": format!("/webhooks/{provider}"), "builtin": true,
            "name": provider, "description": "", "enabled": true, "target_agent": "brain",
            "requires_signature": true, "definition": null, "definition_digest": definition.digest(), "secrets": {},
            "prefixes": ["@agent"], "default_command": null,
            "commands": [
                command("analyze", "Analyse {{issue.title}}, labelled{% for l in issue.labels %} {{l.name}}{% endfor %}: {{args}}"),
                command("review", "Review {{issue.number}}: {{text}} {{payload.comment.body}}")
            ],
            "match_mode": "all",
            "allow": {"permission": null, "actors": [], "associations": [], "bots": [], "resources": []},
            "concurrency_max": null, "rate_limit": null, "timeout_seconds": 60, "retries": 2, "ack": "reaction",
            "reply": "comment", "strict_templates": false
        });
        Self { spec, secrets }
    }

    /// The same with another value in its spec.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        *self.spec.pointer_mut(pointer).unwrap() = value;
        self
    }

    /// A webhook of its own beside the built-in one.
    pub fn called(self, id: &str) -> Self {
        let endpoint = format!("/webhooks/{}/{id}", self.spec["provider"].as_str().unwrap());
        self.with("/id", json!(id)).with("/endpoint", json!(endpoint)).with("/builtin", json!(false))
    }

    fn route(&self) -> Arc<Route> {
        let definition = catalogue().get(self.spec["provider"].as_str().unwrap()).unwrap();
        Arc::new(Route::new(serde_json::from_value(self.spec.clone()).unwrap(), 1, Arc::clone(definition)).unwrap())
    }
}

pub fn command(name: &str, template: &str) -> Value {
    json!({
        "name": name, "aliases": [], "description": "", "source": "github-operations", "target_agent": null,
        "template": template, "triggers": [], "conditions": null, "priority": 100, "action": "create_task",
        "requires_prefix": true, "model": null, "tools": null, "max_turns": null, "budget_usd": null,
        "timeout_seconds": null
    })
}

/// An event command: it runs whenever its event comes.
pub fn triggered(name: &str, trigger: &str, template: &str) -> Value {
    let mut command = command(name, template);
    command["triggers"] = json!([trigger]);
    command["requires_prefix"] = json!(false);
    command
}

pub struct Setup {
    pub webhooks: Vec<Webhook>,
    pub limits: Limits,
    pub options: Options,
    pub clock: Clock,
}

impl Setup {
    pub fn with(webhooks: impl IntoIterator<Item = Webhook>) -> Self {
        Self {
            webhooks: webhooks.into_iter().collect(),
            limits: Limits { drain_deadline: Duration::from_millis(200), ..Limits::default() },
            options: Options::default(),
            clock: Clock::System,
        }
    }
}

pub struct Gateway {
    pub receiver: SocketAddr,
    pub admin: SocketAddr,
    pub routes: CurrentRoutes,
    pub clock: Clock,
    /// One that may do everything.
    pub token: String,
    /// Passes that were asked for.
    pub passes: Option<Receiver<PassRequest>>,
    pub directory: tempfile::TempDir,
    pub ledger: Ledger,
    drain: CancellationToken,
    running: Option<std::thread::JoinHandle<()>>,
}

impl Gateway {
    pub fn start(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (drain, metrics, routes) = (CancellationToken::new(), Metrics::new(), CurrentRoutes::default());
        let (clock, (reconcile, passes)) = (setup.clock.clone(), Reconcile::channel());
        let (addresses, known) = sync_channel(1);
        let parts = Parts { setup, routes: routes.clone(), metrics, reconcile, addresses };
        let (path, until) = (directory.path().join("ledger.redb"), drain.clone());
        let running = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let options = ledger::Options { cache_bytes: 8 << 20, ..ledger::Options::default() };
                let ledger = Ledger::open(&path, options).unwrap();
                parts.serve(ledger.clone(), until).await;
                ledger.close().await;
            });
        });
        let (receiver, admin, token, ledger) = known.recv_timeout(PATIENCE).unwrap();
        let (passes, running) = (Some(passes), Some(running));
        Self { receiver, admin, routes, clock, token, passes, directory, ledger, drain, running }
    }

    /// What the admin API answers.
    pub fn get(&self, path: &str) -> Answer {
        let token = &self.token;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        exchange(self.admin, request.as_bytes(), PATIENCE).expect_answer()
    }

    /// A command without a body to the admin API.
    pub fn post(&self, path: &str) -> Answer {
        let token = &self.token;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        exchange(self.admin, head.as_bytes(), PATIENCE).expect_answer()
    }

    /// A request with a JSON body, or with none.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let (token, length) = (&self.token, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        exchange(self.admin, head.as_bytes(), PATIENCE).expect_answer()
    }

    /// Every task there is, newest first.
    pub fn tasks(&self) -> Vec<Value> {
        let mut tasks = Vec::new();
        let mut before = String::new();
        loop {
            let page = self.get(&format!("/api/tasks?limit=200{before}")).json();
            tasks.extend(page["items"].as_array().unwrap().iter().cloned());
            match &page["next"] {
                Value::String(next) => before = format!("&before={next}"),
                _ => return tasks,
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.drain.cancel();
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

struct Parts {
    setup: Setup,
    routes: CurrentRoutes,
    metrics: Metrics,
    reconcile: Reconcile,
    addresses: SyncSender<(SocketAddr, SocketAddr, String, Ledger)>,
}

impl Parts {
    async fn serve(self, ledger: Ledger, drain: CancellationToken) {
        let Parts { setup, routes, metrics, reconcile, addresses } = self;
        let Setup { webhooks, limits, options, clock } = setup;
        let (secrets, index) = (CurrentSecrets::default(), CurrentIndex::default());
        let made: Vec<Arc<Route>> = webhooks.iter().map(Webhook::route).collect();
        let sets =
            webhooks.into_iter().zip(&made).map(|(webhook, route)| (route.spec.id.clone(), Arc::new(webhook.secrets)));
        secrets.publish(sets.collect::<HashMap<_, _>>());
        let (digest, applied_at) = (Digest::of(b"index"), clock.now());
        let webhooks = made.iter().map(|route| WebhookView {
            spec: route.spec.clone(),
            sources: Vec::new(),
            generation: 1,
            conditions: Vec::new(),
            diagnostics: Vec::new(),
        });
        let (skills, agents, providers) = (Vec::new(), Vec::new(), Vec::new());
        let webhooks = webhooks.collect();
        index.publish(IndexView {
            digest,
            revision: digest,
            applied_at,
            recorded: Default::default(),
            copies: Default::default(),
            webhooks,
            skills,
            agents,
            providers,
        });
        routes.publish(Arc::new(Routes::new(made, digest, digest)));
        let access = Access::open(ledger.clone(), clock.clone()).unwrap();
        let wanted = Wanted { name: "test".to_owned(), scopes: Scopes::of([Scope::Admin]), expires_at: None };
        let (_, token) = access.create(wanted, &Caller::Local).await.unwrap();
        let intake = Intake::new(routes, secrets, ledger.clone(), metrics.clone(), clock.clone(), options);
        let state = ApiState {
            ledger: ledger.clone(),
            index,
            reconcile,
            versions: None,
            metrics: metrics.clone(),
            clock: clock.clone(),
            started_at: applied_at,
            access,
            changes: None,
            secrets: None,
            intake: Some(Arc::clone(&intake)),
            hosts: Hosts::default(),
            stop: drain.clone(),
            receiver_url: "https://hooks.example.org".to_owned(),
            daily: Default::default(),
        };
        let (public, private) = (Listener::tcp("127.0.0.1:0").unwrap(), Listener::loopback("127.0.0.1:0").unwrap());
        addresses.send((public.address().unwrap(), private.address().unwrap(), token, ledger)).unwrap();
        let serving = |name, listener| Serving { name, listener, limits: limits.clone(), metrics: metrics.clone() };
        let public = serving("receiver", public).serve(receiver::filter(intake, &limits), drain.clone());
        let private = serving("admin", private).serve(api::filter("admin", Arc::new(state), &limits), drain);
        tokio::join!(public, private);
    }
}
