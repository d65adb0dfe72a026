//! What acks are compared with, on the same HTTP server: the whole pipeline without a store, and the least that a
//! durable ack needs, which is a checked HMAC and a log whose syncs are shared.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use skillhook::app::Service;
use skillhook::http::answer::Answer;
use skillhook::http::body::Budget;
use skillhook::http::exchange::{self, Head};
use skillhook::http::listen::Listener;
use skillhook::http::serve::{Limits, Server};
use skillhook::model::forward::Targets;
use skillhook::model::intake::{self, Assessment, Grounds, Lent};
use skillhook::model::provider::{FetchedKeys, Incoming, Settings};
use skillhook::model::routes::Route;
use skillhook::model::secret::SecretSet;
use skillhook::model::spec::CommandSpec;
use skillhook::model::template::Template;
use skillhook::seam::{Clock, fresh_id};
use skillhook::telemetry::metrics::Metrics;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use warp::http::StatusCode;

/// Records that one sync covers at most.
const BATCH_MAX: usize = 512;

/// A server of the comparison; it ends with the process.
pub struct Beside {
    pub address: SocketAddr,
}

impl Beside {
    pub async fn serve(work: Arc<dyn Work>) -> Self {
        let listener = Listener::tcp("127.0.0.1:0").unwrap();
        let address = listener.address().unwrap();
        let (metrics, limits) = (Metrics::new(), Limits::default());
        let budget = Budget::new(limits.bodies_bytes_max);
        let filter = exchange::filter("beside", metrics.clone(), move |head, body| {
            let (work, budget) = (Arc::clone(&work), budget.clone());
            async move {
                let body = budget.read(&head, body, 1 << 20, Duration::from_secs(10)).await.unwrap();
                let stored = work.done(&head, body.bytes().clone());
                if let Some(stored) = stored {
                    stored.await.unwrap();
                }
                Answer::text(StatusCode::ACCEPTED, "stored".to_owned())
            }
        });
        let server = Server { name: "beside", listener, limits, metrics };
        tokio::spawn(server.serve(filter, CancellationToken::new()));
        Self { address }
    }
}

/// What is done with a delivery before it is answered; with a store, the answer waits for it.
pub trait Work: Send + Sync {
    fn done(&self, head: &Head, body: Bytes) -> Option<oneshot::Receiver<()>>;
}

/// Verifies, reads, matches and renders like the service, and forgets everything.
pub struct Pipeline {
    route: Route,
    template: Arc<Template>,
    secrets: SecretSet,
}

impl Pipeline {
    /// For the webhook that the service serves under this id.
    pub fn of(service: &Service, id: &str, secret: &str) -> Self {
        let published = service.published.borrow().clone().unwrap();
        let entry = &published.state.observed.webhooks[id];
        let definition = published.catalogue.get(entry.spec.provider.as_str()).unwrap();
        let route = Route::new(entry.spec.clone(), entry.generation, Arc::clone(definition)).unwrap();
        let command = &route.spec.commands[0];
        let template = Arc::new(Template::compile("bench", &command.template, false).unwrap());
        Self { template, route, secrets: SecretSet::new().with("webhook_secret", secret.as_bytes()) }
    }
}

impl Work for Pipeline {
    fn done(&self, head: &Head, body: Bytes) -> Option<oneshot::Receiver<()>> {
        let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let incoming = Incoming::new(head.method.as_str(), format!("http://bench{}", head.path), headers, body);
        let (settings, keys, targets) = (Settings::default(), FetchedKeys::default(), Targets::default());
        let grounds = Grounds {
            route: &self.route,
            incoming: &incoming,
            secrets: &self.secrets,
            settings: &settings,
            keys: &keys,
            forward: &targets,
            unsigned_allowed: false,
            now: Clock::System.now(),
        };
        let Assessment::Delivery(verified) = intake::assess(grounds).unwrap() else { panic!("no delivery") };
        let template = |_: &CommandSpec| Ok(Arc::clone(&self.template));
        let lent = Lent { template: &template, fresh_id: &fresh_id, standing: &|_| None, enriched: &[] };
        let revision = skillhook::model::digest::Digest::of(b"");
        let plans = intake::plan(grounds, &verified, revision, lent).unwrap();
        assert_eq!(plans[0].tasks.len(), 1);
        None
    }
}

/// Checks the HMAC and appends the body to a log.
pub struct Log {
    secret: Vec<u8>,
    records: SyncSender<(Bytes, oneshot::Sender<()>)>,
}

impl Log {
    pub fn beside(file: File, secret: &str) -> Self {
        let (records, waiting) = sync_channel(4096);
        std::thread::spawn(move || append(file, &waiting));
        Self { secret: secret.as_bytes().to_vec(), records }
    }
}

impl Work for Log {
    fn done(&self, head: &Head, body: Bytes) -> Option<oneshot::Receiver<()>> {
        let signature = head.headers["x-hub-signature-256"].to_str().unwrap();
        assert_eq!(signature, super::signature(&self.secret, &body));
        let (stored, told) = oneshot::channel();
        self.records.send((body, stored)).unwrap();
        Some(told)
    }
}

/// One sync for everything that waits.
fn append(mut file: File, waiting: &Receiver<(Bytes, oneshot::Sender<()>)>) {
    while let Ok(first) = waiting.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(waiting.try_iter()).take(BATCH_MAX).collect();
        for (body, _) in &batch {
            file.write_all(body).unwrap();
        }
        file.sync_data().unwrap();
        for (_, stored) in batch {
            let _ = stored.send(());
        }
    }
}
