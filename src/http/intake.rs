//! The shell around [`crate::model::intake`]: hands it what it needs, writes what it plans, answers the sender.
//!
//! The write is the point of no return: it decides about duplicates, and only after it is on disk is there a 2xx. A
//! batch is written item by item, each with its own dedupe keys, so that what overlaps between two batches runs once.

mod again;
mod answering;
mod outside;
mod transition;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde_json::json;
use warp::http::header::{HeaderName, RETRY_AFTER};
use warp::http::{HeaderMap, StatusCode};

use self::outside::Keys;
pub use self::outside::Outside;
use super::answer::{Answer, RETRY_AFTER_SECONDS_DEFAULT};
use super::breaker::Breaker;
pub use super::current::{CurrentRoutes, CurrentSecrets};
use super::exchange::Head;
use super::rates::Rates;
use super::templates::Templates;
use crate::error::{Code, Error, Result};
use crate::ledger::Ledger;
use crate::model::forward::Targets;
use crate::model::ids::{DeliveryId, ProviderName, TaskId, WebhookId};
use crate::model::intake::{self, Assessment, Grounds, Lent, Plan, Unbelieved, Verified};
use crate::model::provider::{self, FetchedKeys, Handshake, Headers, Incoming, KeyRequest, Response, Settings};
use crate::model::routes::{Route, Routes};
use crate::model::secret::SecretSet;
use crate::model::spec::Action;
use crate::reconcile::source::Bell;
use crate::seam::{Clock, fresh_id};
use crate::telemetry::event::{self, DeliveryAnswered, DeliveryRefused, Event as _};
use crate::telemetry::metrics::Metrics;
pub use again::Again;

/// The header that tells which index decided.
pub const INDEX_HEADER: &str = "skillhook-index";
/// Bodies above this are read, verified and matched off the reactor's threads.
const INLINE_BYTES_MAX: usize = 128 * 1024;
/// Items of one batch that are being written at one time; the ledger commits them together.
const ITEMS_AT_ONCE_MAX: usize = 64;
/// A batch is stored whole with each of its items up to this many bytes; above it an item is stored with its own part.
const BATCH_COPIES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the operator sets for receiving.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// As senders call this service, for example `https://hooks.example.com`: some sign the address that they call.
    /// Without it, `http://` and the `Host` header.
    pub public_url: Option<String>,
    /// Whether webhooks that ask for no signature are served without one.
    pub unsigned_allowed: bool,
    pub providers: BTreeMap<ProviderName, Settings>,
    /// Where `forward` commands may post.
    pub forward: Targets,
    /// Runs that one thread may start within an hour.
    pub thread_runs_per_hour: u32,
    pub outside: Outside,
    /// The repository of the configuration, as its provider names it: for example `acme/hooks`.
    pub repository: Option<String>,
    /// Rung by every delivery from that repository: it may have changed.
    pub bell: Bell,
    /// Set while this node takes no deliveries.
    pub stopped: Arc<AtomicBool>,
}

impl Options {
    fn is_about_us(&self, plan: &Plan) -> bool {
        let (Some(ours), Some(resource)) = (&self.repository, &plan.event.resource) else { return false };
        let within = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || "-_./".contains(c));
        resource.get(..ours.len()).is_some_and(|start| start.eq_ignore_ascii_case(ours))
            && resource.get(ours.len()..).is_some_and(within)
    }
}

/// Takes deliveries in. Shared by every request.
#[derive(Debug)]
pub struct Intake {
    pub routes: CurrentRoutes,
    pub secrets: CurrentSecrets,
    pub ledger: Ledger,
    pub metrics: Metrics,
    clock: Clock,
    options: Options,
    no_settings: Settings,
    rates: Rates,
    breaker: Breaker,
    templates: Templates,
    keys: Keys,
}

/// What verification, matching and rendering came to.
enum Thought {
    Handshake(Box<Handshake>),
    Plans { plans: Vec<Plan>, verified: Box<Verified> },
    NeedsKey(Box<KeyRequest>),
}

/// Why a request is refused, and how to say so.
struct Refused {
    error: Error,
    status: Option<u16>,
    retry_after_seconds: Option<u64>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, status: None, retry_after_seconds: None }
    }
}

/// One request on its way.
struct Arrived {
    routes: Arc<Routes>,
    route: Arc<Route>,
    incoming: Incoming,
    secrets: Arc<SecretSet>,
    now: Timestamp,
}

/// What was looked up for a plan.
#[derive(Clone, Copy, Default)]
struct Known<'a> {
    /// What each item only names, by field.
    enriched: &'a [BTreeMap<String, String>],
    /// What runs and waits in flows that somebody asks after.
    standing: Option<&'a BTreeMap<String, String>>,
}

/// What was written for one item.
struct Written {
    delivery: DeliveryId,
    tasks: Vec<TaskId>,
    ignored: Option<String>,
    response: Option<Response>,
    duplicate_of: Option<DeliveryId>,
}

impl Written {
    /// As it is to be, unless it turns out to be a duplicate.
    fn of(plan: &Plan) -> Self {
        Self {
            delivery: plan.delivery,
            tasks: plan.tasks.iter().map(|task| task.spec.id).collect(),
            ignored: plan.decision.ignored.clone(),
            response: plan.response.clone(),
            duplicate_of: None,
        }
    }
}

impl Intake {
    pub fn new(
        routes: CurrentRoutes,
        secrets: CurrentSecrets,
        ledger: Ledger,
        metrics: Metrics,
        clock: Clock,
        options: Options,
    ) -> Arc<Self> {
        let (rates, templates) = (Rates::default(), Templates::default());
        let (no_settings, breaker) = (Settings::default(), Breaker::new(options.thread_runs_per_hour));
        let keys = Keys::default();
        Arc::new(Self {
            routes,
            secrets,
            ledger,
            metrics,
            clock,
            options,
            no_settings,
            rates,
            breaker,
            templates,
            keys,
        })
    }

    /// Whether this node takes no deliveries now.
    pub fn is_stopped(&self) -> bool {
        self.options.stopped.load(Ordering::Acquire)
    }

    /// Decides, writes and answers.
    pub async fn receive(self: &Arc<Self>, routes: Arc<Routes>, route: Arc<Route>, head: &Head, body: Bytes) -> Answer {
        let digest = routes.index_digest;
        let incoming = match self.incoming(head, body) {
            Ok(incoming) => incoming,
            Err(error) => return self.refuse(&route, head, error.into()),
        };
        let secrets = self.secrets.of(&route.spec.id);
        let now = self.clock.now();
        let arrived = Arc::new(Arrived { routes, route: Arc::clone(&route), incoming, secrets, now });
        let answer = match self.think_with_key(&arrived).await {
            Ok(Thought::Handshake(handshake)) => self.shake(&arrived, head, *handshake),
            Ok(Thought::NeedsKey(request)) => {
                let error = Error::new(Code::NotReady, "the sender's public key is not known yet");
                self.refuse(&route, head, error.detail(&request.cache_key).into())
            }
            Ok(Thought::Plans { plans, verified }) => {
                self.note_repetition(&arrived);
                let about_us = plans.iter().any(|plan| self.options.is_about_us(plan));
                match self.write(&arrived, head, plans, *verified).await {
                    Ok(written) => {
                        if about_us {
                            self.options.bell.ring();
                        }
                        self.accepted(&route, head, written)
                    }
                    Err(error) => self.refuse(&route, head, error.into()),
                }
            }
            Err(refused) => self.refuse(&route, head, refused),
        };
        answer.header(HeaderName::from_static(INDEX_HEADER), &digest.to_string())
    }

    /// A sender that delivers once more says why: its operator's first question is whether we were too slow.
    fn note_repetition(&self, arrived: &Arrived) {
        if let Some((attempt, reason)) = provider::repetition(&arrived.route.definition, &arrived.incoming) {
            let webhook = &arrived.route.spec.id;
            tracing::info!(%webhook, attempt, reason, "the sender delivers once more");
        }
    }

    fn incoming(&self, head: &Head, body: Bytes) -> Result<Incoming> {
        let base = match &self.options.public_url {
            Some(base) => base.trim_end_matches('/').to_owned(),
            None => format!("http://{}", head.host()?),
        };
        let query = head.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let url = format!("{base}{}{query}", head.path);
        Ok(Incoming::new(head.method.as_str(), url, fields(&head.headers), body))
    }

    /// Some senders sign with a key that must be fetched first.
    async fn think_with_key(self: &Arc<Self>, arrived: &Arc<Arrived>) -> Result<Thought, Refused> {
        match self.think(arrived, FetchedKeys::default()).await? {
            Thought::NeedsKey(request) => self.think(arrived, self.key(arrived, *request).await?).await,
            thought => Ok(thought),
        }
    }

    async fn think(self: &Arc<Self>, arrived: &Arc<Arrived>, keys: FetchedKeys) -> Result<Thought, Refused> {
        if arrived.incoming.body.len() <= INLINE_BYTES_MAX {
            return self.think_now(arrived, &keys);
        }
        let (intake, arrived) = (Arc::clone(self), Arc::clone(arrived));
        let thinking = tokio::task::spawn_blocking(move || intake.think_now(&arrived, &keys));
        thinking
            .await
            .unwrap_or_else(|error| Err(Error::new(Code::Bug, "skillhook itself has a fault").detail(error).into()))
    }

    fn think_now(&self, arrived: &Arrived, keys: &FetchedKeys) -> Result<Thought, Refused> {
        let route = &arrived.route;
        let verified =
            match intake::assess(self.grounds(arrived, keys)).map_err(|unbelieved| refusal(route, unbelieved))? {
                Assessment::Handshake(handshake) => return Ok(Thought::Handshake(handshake)),
                Assessment::Delivery(verified) => verified,
                Assessment::NeedsKey(request) => return Ok(Thought::NeedsKey(request)),
            };
        if !route.spec.enabled {
            return Err(Error::new(Code::WebhookDisabled, "the webhook is disabled").into());
        }
        if let Some(limit) = route.spec.rate_limit {
            self.rates.take(&route.spec.id, limit).map_err(|too_many| Refused {
                error: too_many.error,
                status: None,
                retry_after_seconds: Some(too_many.retry_after_seconds),
            })?;
        }
        let plans = match route.definition.document().enrich.is_empty() {
            true => self.plan(arrived, &verified, Known::default())?,
            // What it names must be fetched first.
            false => Vec::new(),
        };
        Ok(Thought::Plans { plans, verified })
    }

    fn grounds<'a>(&'a self, arrived: &'a Arrived, keys: &'a FetchedKeys) -> Grounds<'a> {
        let Arrived { route, incoming, secrets, now, .. } = arrived;
        Grounds {
            route,
            incoming,
            secrets,
            settings: self.settings(&route.spec.provider),
            keys,
            forward: &self.options.forward,
            unsigned_allowed: self.options.unsigned_allowed,
            now: *now,
        }
    }

    fn plan(&self, arrived: &Arrived, verified: &Verified, known: Known<'_>) -> Result<Vec<Plan>> {
        let keys = FetchedKeys::default();
        let template = |command: &_| self.templates.get(&arrived.route, command);
        let standing = |flow: &str| known.standing.and_then(|standing| standing.get(flow)).cloned();
        let lent = Lent { template: &template, fresh_id: &fresh_id, standing: &standing, enriched: known.enriched };
        intake::plan(self.grounds(arrived, &keys), verified, arrived.routes.revision, lent)
    }

    fn settings(&self, provider: &ProviderName) -> &Settings {
        self.options.providers.get(provider).unwrap_or(&self.no_settings)
    }

    async fn write(
        &self,
        arrived: &Arrived,
        head: &Head,
        mut plans: Vec<Plan>,
        verified: Verified,
    ) -> Result<Vec<Written>> {
        let enriched = self.enriched(arrived, &verified).await?;
        if !arrived.route.definition.document().enrich.is_empty() {
            plans = self.plan(arrived, &verified, Known { enriched: &enriched, standing: None })?;
        }
        let mut standing = BTreeMap::new();
        for task in plans.iter().flat_map(|plan| &plan.tasks).filter(|task| task.spec.action == Action::Status) {
            let flow = &task.spec.source.flow_id;
            standing.insert(flow.clone(), self.standing(arrived, flow).await?);
        }
        if !standing.is_empty() {
            plans = self.plan(arrived, &verified, Known { enriched: &enriched, standing: Some(&standing) })?;
        }
        let scheme = verified.proof.as_ref().map(|proof| proof.scheme().to_owned());
        let count = plans.len();
        let writes = plans.into_iter().map(|plan| self.write_one(arrived, head, plan, (scheme.clone(), count)));
        stream::iter(writes).buffered(ITEMS_AT_ONCE_MAX).try_collect().await
    }

    fn accepted(&self, route: &Route, head: &Head, written: Vec<Written>) -> Answer {
        let fresh = || written.iter().filter(|one| one.duplicate_of.is_none());
        let tasks: Vec<TaskId> = fresh().flat_map(|one| one.tasks.iter().copied()).collect();
        let (outcome, delivery) = match (fresh().next(), written.first()) {
            (Some(_), _) if !tasks.is_empty() => {
                (event::Outcome::Accepted, fresh().find(|one| !one.tasks.is_empty()).map(|one| one.delivery))
            }
            (None, Some(first)) => (event::Outcome::Duplicate, first.duplicate_of),
            (first, _) => (event::Outcome::Ignored, first.map(|one| one.delivery)),
        };
        DeliveryAnswered {
            webhook: &route.spec.id,
            provider: &route.spec.provider,
            generation: route.generation,
            delivery,
            outcome,
            tasks: tasks.len(),
            request_id: &head.request_id,
            elapsed: head.elapsed(),
        }
        .emit(&self.metrics);
        if let Some(response) = written.iter().find_map(|one| one.response.clone()) {
            return answering::of_response(response);
        }
        let ignored = || fresh().find_map(|one| one.ignored.clone()).unwrap_or_else(|| "nothing happened".to_owned());
        let body = match outcome {
            event::Outcome::Accepted | event::Outcome::Challenge => {
                let status_url = delivery.map(|delivery| format!("/api/deliveries/{delivery}"));
                json!({ "delivery": delivery, "tasks": tasks, "status_url": status_url })
            }
            event::Outcome::Duplicate => json!({ "status": "duplicate", "reason": "it was delivered before" }),
            event::Outcome::Ignored => json!({ "status": "ignored", "reason": ignored() }),
        };
        answering::in_the_senders_way(route, outcome, &body)
    }

    fn shake(&self, arrived: &Arrived, head: &Head, handshake: Handshake) -> Answer {
        let route = &*arrived.route;
        if !handshake.persist.is_empty()
            && let Err(error) = self.keep(arrived, &handshake.persist)
        {
            return self.refuse(route, head, error.into());
        }
        DeliveryAnswered {
            webhook: &route.spec.id,
            provider: &route.spec.provider,
            generation: route.generation,
            delivery: None,
            outcome: event::Outcome::Challenge,
            tasks: 0,
            request_id: &head.request_id,
            elapsed: head.elapsed(),
        }
        .emit(&self.metrics);
        answering::of_response(handshake.response)
    }

    fn refuse(&self, route: &Route, head: &Head, refused: Refused) -> Answer {
        refused_event(Some(&route.spec.id), &refused.error, head, &self.metrics);
        let verified = refused.error.code() != Code::NotVerified;
        let mut answer = Answer::problem(refused.error);
        if let Some(status) = refused.status.and_then(|status| StatusCode::from_u16(status).ok()) {
            answer = answer.with_status(status);
        }
        if answer.header_value(&RETRY_AFTER).is_some() {
            answer = answer.retry_after(refused.retry_after_seconds.unwrap_or(RETRY_AFTER_SECONDS_DEFAULT));
        } else if verified {
            // It will never be taken: a sender that understands this need not try again.
            for (name, value) in &route.definition.document().sender.stop_header {
                if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                    answer = answer.header(name, value);
                }
            }
            let stops = route.definition.document().sender.stop_status;
            if let Some(status) = stops.and_then(|status| StatusCode::from_u16(status).ok()) {
                answer = answer.with_status(status);
            }
        }
        answer
    }
}

/// Says in log and metrics that a request was refused.
pub(super) fn refused_event(webhook: Option<&WebhookId>, error: &Error, head: &Head, metrics: &Metrics) {
    let (peer, elapsed) = (head.arrival.peer.host(), head.elapsed());
    DeliveryRefused { webhook, error, peer: &peer, request_id: &head.request_id, elapsed }.emit(metrics);
}

fn refusal(route: &Route, unbelieved: Unbelieved) -> Refused {
    let status = (unbelieved.error.code() == Code::NotVerified).then(|| route.definition.reject_status());
    Refused { error: unbelieved.error, status, retry_after_seconds: None }
}

fn fields(headers: &HeaderMap) -> Headers {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}
